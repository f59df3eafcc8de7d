"""Videos without a score are counted by class and group, with a test, beside every number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from preprocessing_fakes import SquareDetector, square_frame
from report_fakes import UNSEEN, Reader, table_of, write_run
from scipy import stats

from unmasked.analysis.reports.fairness.answer import _lost_callout
from unmasked.analysis.reports.run.page import write_report
from unmasked.app.verbs import evaluate as evaluate_verb
from unmasked.app.verbs import fairness as fairness_verb
from unmasked.app.verbs import predict as predict_verb
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError, printable
from unmasked.datasets.scan import scan
from unmasked.evaluation.attrition import (
    Attrition,
    add_attrition,
    attrition,
    find_lost,
    frame_losses,
    lines,
)
from unmasked.evaluation.predict import _scored_rows
from unmasked.evaluation.predictions import PREDICTIONS, evaluated_rows
from unmasked.fairness.across.attrition import audit_losses
from unmasked.fairness.settings import Settings
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.extract import Task, extract
from unmasked.preprocessing.faces import FACES, STATUSES
from unmasked.preprocessing.lost import LOST, lost_videos, unused_path, videos_of

QUICK = Settings(n_boot=200, n_perm=200, min_samples=1, level="video")


def faces_of(rows: list[tuple], **columns) -> pd.DataFrame:
    """A faces table of (video, label, status), a frame a row."""
    table = pd.DataFrame(rows, columns=["video", "label", "status"])
    table["frame"] = table.groupby("video").cumcount()
    table = table.assign(dataset="D", kind="video", face=0, split="test", **columns)
    table["method"] = table["label"].map({0: "real", 1: "fake"})
    table["crop"] = table["video"].where(table["status"] == "ok")
    return FACES.validate(table)


def scores_of(faces: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A score for every crop of a faces table."""
    made = faces[faces["status"] == "ok"]
    score = np.random.default_rng(seed).uniform(0.01, 0.99, len(made))
    keep = [
        name for name in ("dataset", "video", "frame", "face", "label", "method", "split") if name in made
    ]
    groups = [name for name in ("identity", "gender", "skin_tone", "site") if name in made]
    return PREDICTIONS.validate(made[[*keep, *groups]].assign(score=score, detector="x"))


FIFTEEN = [
    *((f"r{number}", 0, "no_face" if number < 3 else "ok") for number in range(9)),
    *(
        (f"f{number}", 1, ("no_face", "no_face", "decode_error", "ok", "ok", "ok")[number])
        for number in range(6)
    ),
]


def test_evaluate_says_how_many_videos_have_no_score_and_why(tmp_path, capsys):
    """Six of fifteen videos had no face, and no word of them was in what predict, evaluate or report gave."""
    faces = faces_of(FIFTEEN)
    FACES.write(faces, tmp_path / "faces.parquet")
    PREDICTIONS.write(scores_of(faces), tmp_path / "predictions.parquet")
    config = evaluate_verb.Config(
        predictions=tmp_path / "predictions.parquet", out=tmp_path / "run", n_boot=100, protocols=()
    )
    evaluate_verb.run(config)
    sentence = (
        "9 of 15 videos scored; 6 are not: 3 of 9 real (no face found) and 3 of 6 fake (2 no face found, "
        "1 not decoded)"
    )
    assert f"D: {sentence}" in " ".join(capsys.readouterr().out.split())
    block = json.loads((tmp_path / "run" / "metrics.json").read_text())["datasets"]["D"]["attrition"]
    found = Attrition.model_validate(block)
    assert (found.given, found.scored, found.sentence()) == (15, 9, sentence)
    assert found.classes["fake"].reasons == {"no_face": 2, "decode_error": 1}
    assert not found.is_uneven
    assert sentence in (tmp_path / "run" / "metrics.md").read_text()


def test_a_report_shows_the_videos_without_a_score(tmp_path):
    scores = table_of()
    run = write_run(tmp_path, scores, audited=False)
    lost = lost_videos(faces_of([(f"f{number}", 1, "no_face") for number in range(30)]))
    results = json.loads((run / "metrics.json").read_text())
    rows = evaluated_rows(scores)
    add_attrition(results, attrition(rows, lost.assign(dataset=UNSEEN), n_boot=100))
    write_json(run / "metrics.json", results)
    text = Reader(write_report(run).read_text())["datasets"]
    assert f"{UNSEEN}: 72 of 102 videos scored; 30 are not: 30 of 78 fake (no face found). More fakes" in text
    assert "One class is scored less often than the other" in text


def test_predict_leaves_what_it_did_not_score_beside_the_scores(tmp_path, capsys):
    faces = pd.concat([faces_of(FIFTEEN), faces_of([("t", 0, "ok")]).assign(split="train")])
    config = predict_verb.Config(checkpoint="x", out=tmp_path / "p.parquet")
    predict_verb._write_lost(faces, faces[faces["split"] == "test"], config)
    said = " ".join(capsys.readouterr().out.split())
    assert "D: 15 files given, 9 scored; of 6 fake ones 3 without (2 no_face, 1 decode_error)" in said
    assert "videos of other splits, not scored: train 1" in said
    PREDICTIONS.write(scores_of(faces_of(FIFTEEN)), tmp_path / "p.parquet")
    lost, origin = find_lost(tmp_path / "p.parquet", scores_of(faces_of(FIFTEEN)))
    assert origin == str(tmp_path / "p.unused.csv")
    assert sorted(lost["video"]) == ["f0", "f1", "f2", "r0", "r1", "r2"]


def test_the_list_of_lost_videos_is_no_table_of_scores(tmp_path, capsys):
    faces = faces_of(FIFTEEN)
    PREDICTIONS.write(scores_of(faces), tmp_path / "in" / "p.parquet")
    LOST.write(lost_videos(faces), unused_path(tmp_path / "in" / "p.parquet"))
    config = evaluate_verb.Config(predictions=tmp_path / "in", out=tmp_path / "run", n_boot=0, protocols=())
    evaluate_verb.run(config)
    said = capsys.readouterr().out
    assert "9 of 15 videos scored" in said
    assert "not predictions" not in said


def test_a_faces_table_of_other_videos_is_refused(tmp_path):
    scores = scores_of(faces_of(FIFTEEN))
    FACES.write(faces_of([("other", 0, "ok")]), tmp_path / "faces.parquet")
    with pytest.raises(InputError, match=r"none of the videos in .* give the faces table that was scored"):
        find_lost(tmp_path / "p.csv", scores, tmp_path / "faces.parquet")
    # Found by itself, it is not taken for theirs.
    assert find_lost(tmp_path / "p.csv", scores)[1] == ""


def test_only_videos_of_the_splits_that_are_evaluated_count():
    faces = faces_of(FIFTEEN)
    train = faces_of([("gone", 1, "no_face")]).assign(split="train")
    lost = lost_videos(pd.concat([faces, train]))
    assert attrition(scores_of(faces), lost, n_boot=0)["D"].given == 15


def test_videos_that_nobody_meant_to_score_are_not_lost(tmp_path):
    """Training videos of the same table, and a dataset that this detector was not given."""
    faces = faces_of(FIFTEEN)
    train = faces_of([("t", 0, "ok"), ("u", 1, "no_face")]).assign(split="train")
    other = faces_of([("o", 0, "ok"), ("p", 1, "no_face")]).assign(dataset="Other")
    FACES.write(pd.concat([faces, train, other]), tmp_path / "faces.parquet")
    for scores in (scores_of(faces), scores_of(faces).drop(columns="split")):
        lost, _ = find_lost(tmp_path / "p.csv", scores, tmp_path / "faces.parquet")
        assert sorted(lost["video"]) == ["f0", "f1", "f2", "r0", "r1", "r2"]


def test_a_dataset_of_which_nothing_is_scored_is_named(tmp_path, capsys):
    faces = faces_of(FIFTEEN)
    gone = faces_of([("x", 0, "no_face"), ("y", 1, "missing_file")]).assign(dataset="E")
    FACES.write(pd.concat([faces, gone]), tmp_path / "faces.parquet")
    PREDICTIONS.write(scores_of(faces), tmp_path / "p.parquet")
    config = evaluate_verb.Config(
        predictions=tmp_path / "p.parquet",
        faces=tmp_path / "faces.parquet",
        out=tmp_path / "run",
        n_boot=0,
        protocols=(),
    )
    evaluate_verb.run(config)
    assert "E: 0 of 2 videos scored" in capsys.readouterr().out
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert written["unscored"]["E"]["given"] == 2


ROWS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(STATUSES), st.booleans()), min_size=1, max_size=40
)


@settings(max_examples=20, deadline=None)
@given(ROWS)
def test_scored_and_lost_videos_add_up_to_those_given(rows):
    """Of every class; frames that nobody scored count as well."""
    faces = faces_of([(f"v{video}", video % 2, status) for video, status, _ in rows])
    chosen = faces["video"].map({f"v{video}": is_scored for video, _, is_scored in rows})
    scores = scores_of(faces[chosen])
    if scores.empty:
        return
    lost = lost_videos(faces, scored=scores)
    found = attrition(scores, lost, n_boot=5)["D"]
    videos = videos_of(faces)
    assert found.given == len(videos)
    assert found.scored == scores["video"].nunique()
    for word, part in found.classes.items():
        assert part.given == (videos["label"] == (word == "fake")).sum()
        assert part.given == part.scored + sum(part.reasons.values())
        assert part.share == pytest.approx(1 - part.scored / part.given)
    assert set(lost["video"]).isdisjoint(scores["video"])
    assert len(lines({"D": found})) == (2 if len(lost) else 0)


def test_the_difference_between_classes_has_an_interval_over_people():
    """Forty lost fakes of one person are one person lost, and no proof."""
    rows = [(f"{label}-{number}", label, "ok") for label in (0, 1) for number in range(60)]
    apart = faces_of(rows, identity=[f"p{number}" for number in range(120)])
    is_lost = (apart["label"] == 1) & (apart["video"].str.split("-").str[1].astype(int) < 40)
    apart.loc[is_lost, "status"] = "no_face"
    found = attrition(scores_of(apart), lost_videos(apart), n_boot=500)["D"]
    assert found.difference == pytest.approx(40 / 60)
    assert found.is_uneven
    assert "More fakes than reals are lost, by +67" in found.sentence()
    together = apart.assign(identity=apart["identity"].mask(is_lost, "one"))
    wide = attrition(scores_of(together), lost_videos(together), n_boot=500)["D"]
    assert np.diff(wide.difference_ci) > 1.5 * np.diff(found.difference_ci)


def by_group(rates: dict[str, float], n: int = 100, seed: int = 0) -> pd.DataFrame:
    """Faces of n reals and n fakes of each group, whose faces are missed at that rate."""
    rng = np.random.default_rng(seed)
    rows, groups = [], []
    for group, rate in rates.items():
        for label in (0, 1):
            missed = rng.permutation(n) < round(rate * n)
            rows += [(f"{group}{label}{i}", label, "no_face" if missed[i] else "ok") for i in range(n)]
            groups += [group] * n
    return faces_of(rows, gender=groups)


def test_a_group_whose_faces_are_not_found_is_not_treated_equally():
    """No face was found in 60 % of one group's videos, and the audit of the survivors said no word of it."""
    faces = by_group({"female": 0.6, "male": 0.02})
    found = audit_losses(scores_of(faces), lost_videos(faces), ["gender"], QUICK)["D"]
    assert (found.given, found.lost) == (400, 124)
    women = next(row for row in found.groups if (row.group, row.of) == ("female", "real"))
    assert (women.given, women.lost) == (100, 60)
    low, high = stats.binomtest(60, 100).proportion_ci(method="wilson")
    assert women.share_ci == pytest.approx((low, high), abs=0.02)
    tests = {(test.attribute, test.of): test for test in found.tests}
    for of in ("real", "fake"):
        test = tests["gender", of]
        assert (test.verdict, test.worst_group, test.best_group) == ("disparity", "female", "male")
        assert test.difference == pytest.approx(0.58)
    assert tests["class", ""].verdict == "inconclusive"
    assert "Real videos of women have no score in 60" in found.disparities[0]


def test_the_difference_of_lost_videos_is_that_of_the_shares_beside_it():
    """Shares of 11 and 2 % with "a difference of 33 points": people weigh in the test, rows in the shares.

    And classes were called groups.
    """
    rows = [(f"r{at}", 0, "no_face" if at < 1 else "ok") for at in range(60)]
    rows += [(f"f{at}", 1, "no_face" if at < 15 else "ok") for at in range(40)]
    rows += [(f"m{at}", 1, "ok") for at in range(100)]
    names = [name if name[0] != "m" else "many" for name, *_ in rows]
    faces = faces_of(rows, identity=names, gender=["female", "male"] * 100)
    found = audit_losses(scores_of(faces), lost_videos(faces), ["gender"], QUICK)["D"]
    (test,) = [one for one in found.tests if one.attribute == "class"]
    assert (test.verdict, test.worst_group) == ("disparity", "fake")
    assert test.difference > 0.2
    (sentence,) = found.disparities
    assert "Fakes have no score in 11" in sentence
    assert (
        "(a difference of 9 points; in the test, where many rows of one person or video count less"
        in sentence
    )
    page = str(_lost_callout({"": found}))
    assert "One class is scored less often than the other" in page
    assert "groups" not in page.split("</")[0]


def test_groups_that_lose_as_much_show_no_difference():
    for seed in range(2):
        faces = by_group({"female": 0.2, "male": 0.2}, seed=seed)
        found = audit_losses(scores_of(faces), lost_videos(faces), ["gender"], QUICK)["D"]
        assert not found.disparities


def test_lost_videos_without_a_group_are_no_proof_of_equal_loss():
    faces = by_group({"female": 0.3, "male": 0.3})
    lost = lost_videos(faces).assign(gender=None)
    found = audit_losses(scores_of(faces), lost, ["gender"], QUICK)["D"]
    assert "nobody recorded the group" in found.not_tested["gender"]
    assert {test.attribute for test in found.tests} == {"class"}


def test_fairness_shows_whose_videos_have_no_score(tmp_path, capsys):
    faces = by_group({"female": 0.6, "male": 0.02})
    FACES.write(faces, tmp_path / "faces.parquet")
    PREDICTIONS.write(scores_of(faces), tmp_path / "p.csv")
    fairness_verb.run(
        fairness_verb.Config(
            predictions=tmp_path / "p.csv",
            by=("gender",),
            faces=tmp_path / "faces.parquet",
            out=tmp_path / "run",
            n_boot=100,
            n_perm=100,
            min_samples=1,
        )
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "124 of 400 videos have no score" in said
    assert "\\xa0" not in said
    written = json.loads((tmp_path / "run" / "fairness.json").read_text())["datasets"]["D"]["attrition"]
    assert (written["given"], written["lost"], written["origin"]) == (400, 124, "faces.parquet")
    page = (tmp_path / "run" / "fairness.html").read_text()
    assert "Some groups are scored less often than others" in page
    assert "Whose videos have no score" in page


def test_a_space_that_does_not_break_is_printed_as_one():
    assert printable("60\N{NO-BREAK SPACE}%") == "60\N{NO-BREAK SPACE}%"


CONTENTS = {
    "face.png": "a face",
    "blank.png": "no face",
    "empty.png": "zero bytes",
    "words.jpg": "text",
    "phone.heic": "not read",
    "notes.txt": "a note",
}


def write_file(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if content in ("a face", "no face"):
        image = square_frame(0) if content == "a face" else np.full((64, 64, 3), 40, np.uint8)
        Image.fromarray(image).save(path, format="PNG")
    else:
        path.write_text("" if content == "zero bytes" else content)


def faces_in_process(manifest: pd.DataFrame) -> pd.DataFrame:
    """What `preprocess` makes of a manifest, without worker processes."""
    config, rows = PreprocessConfig(size_px=64), []
    for row in manifest.to_dict("records"):
        task = Task(row["root"], row["path"], row["kind"], f"crops/{row['video']}", "", "", "auto")
        found, _ = extract(task, config, SquareDetector())
        kept = {name: row[name] for name in ("dataset", "video", "kind", "label", "method", "split")}
        rows += [kept | one for one in found]
    return FACES.validate(pd.DataFrame(rows))


@settings(max_examples=8, deadline=None)
@given(
    tree=st.lists(
        st.tuples(
            st.sampled_from(["real", "fake", "more"]), st.sampled_from(sorted(CONTENTS)), st.integers(0, 3)
        ),
        unique=True,
        max_size=14,
    ),
    scored=st.integers(0, 2**16 - 1),
)
def test_from_files_to_scores_every_count_adds_up_to_what_was_given(tree, scored, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for label in ("real", "fake"):
        write_file(root / label / "kept.png", "a face")
    for label, name, number in tree:
        write_file(root / label / f"{number}{name}", CONTENTS[name])
    result = scan(root)
    given_files = sum(path.is_file() for path in root.rglob("*"))
    assert given_files == len(result.manifest) + len(result.unused.rows)
    faces = faces_in_process(result.manifest)
    videos, lost = videos_of(faces), lost_videos(faces)
    assert len(videos) == len(result.manifest)
    assert videos["has_crop"].sum() + len(lost) == len(videos)
    # A detector that scores some of the crops, of either class the one that is always there.
    chosen = [name for place, name in enumerate(videos["video"]) if scored >> place & 1 or "kept" in name]
    scores = scores_of(faces[faces["video"].isin(chosen)])
    found = attrition(scores, lost_videos(faces, scored=scores), n_boot=0)[str(faces["dataset"][0])]
    assert (found.given, found.scored) == (len(result.manifest), scores["video"].nunique())
    for word, part in found.classes.items():
        assert part.given == (result.manifest["label"] == (word == "fake")).sum()
        assert part.given == part.scored + sum(part.reasons.values())


@settings(max_examples=30, deadline=None)
@given(
    videos=st.lists(
        st.tuples(st.sampled_from([0, 1, None]), st.lists(st.booleans(), min_size=1, max_size=6)),
        min_size=1,
        max_size=8,
    ).filter(lambda videos: any(any(frames) for _, frames in videos))
)
def test_frames_with_and_without_a_score_add_up_to_those_sampled(videos):
    """Of 32 frames of a video 3 had a score, and no number said so."""
    rows = [
        {"video": f"v{i}", "frame": j, "label": label, "status": "ok" if has_face else "no_face"}
        for i, (label, frames) in enumerate(videos)
        for j, has_face in enumerate(frames)
    ]
    faces = pd.DataFrame(rows).assign(dataset="D", compression=None, face=0, crop="c.png")
    faces["label"] = faces["label"].astype("Int64")
    crops = _scored_rows(faces)
    (loss,) = frame_losses(crops).values()
    scored = [frames for _, frames in videos if any(frames)]
    assert sum(loss.sampled.values()) == sum(map(len, scored))
    assert sum(loss.scored.values()) == sum(map(sum, scored))
    assert loss.few == sum(2 * sum(frames) < len(frames) for frames in scored)
    assert (loss.sentence() == "") == all(map(all, scored))
