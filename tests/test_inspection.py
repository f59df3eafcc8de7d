"""One file to a finding: verdicts, refusals without a number, and cases whose every change is found."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from markupsafe import escape
from preprocessing_fakes import SquareDetector, square_frame, write_video
from report_fakes import Reader
from typer.testing import CliRunner
from ucf_fakes import save

from unmasked.app.cli import app
from unmasked.app.verbs import inspect as inspect_verb
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError, InterruptedBySignal
from unmasked.datasets.files import sha256_of_file
from unmasked.evaluation.abstention import Band
from unmasked.evaluation.fitted import Fitted
from unmasked.evaluation.likelihood import fit_likelihood
from unmasked.evaluation.thresholds import Threshold
from unmasked.inspection.examine import crop_config, crop_reasons, settings_of
from unmasked.inspection.file_facts import examiner_pool
from unmasked.inspection.finding import (
    answer_below_verdict,
    finding_of,
    measured_rates,
    people_of,
    rate_sentences,
    verdict_of,
)
from unmasked.inspection.records import Finding, Rates, Reason, Sampled, read_case, write_case
from unmasked.inspection.verify import (
    check_folder,
    check_inputs,
    differences,
    page_differences,
    threshold_differences,
)
from unmasked.preprocessing.config import PreprocessConfig, config_like, recipe, recipe_hash
from unmasked.preprocessing.parts import card_of_crops
from unmasked.preprocessing.run import crop_files
from unmasked.ucf.model import UCF

THRESHOLD = Threshold(0.5, "eer", "A, val split", n_real=20, n_fake=20, fpr=0.1, tpr=0.8)
LIKELIHOOD = fit_likelihood([0] * 20 + [1] * 20, np.r_[np.linspace(0, 0.7, 20), np.linspace(0.3, 1, 20)])
FITTED = Fitted(THRESHOLD, band=Band(0.4, 0.6), likelihood=LIKELIHOOD)
SETTINGS = settings_of(PreprocessConfig(faces="all", frames_per_video=8), 64)
SAMPLED = Sampled(frames=8, with_face=8, unreadable=0, largest_gap_s=0.1)
SQUARES = partial(examiner_pool, detector=SquareDetector)
LARGE = partial(square_frame, size_px=192)  # a face of 64 pixels


def unmasked(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def scored(*people, size_px=100.0):
    """A row a crop of people, each a list of scores over frames."""
    rows = [
        {"face": face, "frame": frame, "time_s": frame / 5, "score": score, "size_px": size_px}
        for face, scores in enumerate(people)
        for frame, score in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def found(*people, fitted=FITTED, size_px=100.0, is_video=True, prior=None):
    judged = people_of(scored(*people, size_px=size_px), fitted, SETTINGS, is_video=is_video)
    return finding_of(judged, SAMPLED, [], [], fitted, prior)


def test_a_verdict_is_the_stored_band_s_or_the_threshold_s_and_never_one_half_s():
    assert [verdict_of(score, FITTED) for score in (0.4, 0.41, 0.6, 0.61)] == [
        *("likely real", "inconclusive", "inconclusive", "likely fake")
    ]
    high = Fitted(Threshold(0.8, "fpr:0.01"))
    assert [verdict_of(score, high) for score in (0.6, 0.8, 0.81)] == [
        *("likely real", "likely real", "likely fake")
    ]


def test_the_answer_is_that_of_the_worst_person_and_says_how_many_were_looked_at():
    finding = found([0.1] * 8, [0.9] * 8, [0.5] * 8)
    assert (finding.verdict, finding.person, finding.people) == ("likely fake", 1, 3)
    assert finding.score == pytest.approx(0.9)
    assert "3 people" in finding.sentences[0]
    assert [reason.code for reason in finding.reasons] == ["several_people", "no_support"]  # 20 of a class
    assert found([0.1] * 8, [0.5] * 8).verdict == "inconclusive"
    assert found([0.1] * 8).verdict == "likely real"


def test_a_verdict_that_the_likelihood_ratio_does_not_support_says_so_in_its_headline():
    # Finding A20: "Likely fake" stood above "no support for either", and the table said the first alone.
    label, calibration = np.repeat([0, 1], 200), np.r_[np.linspace(0, 0.6, 200), np.linspace(0.4, 1, 200)]
    bare = Fitted(THRESHOLD, likelihood=fit_likelihood(label, calibration))
    scores = np.linspace(0.05, 0.95, 19)
    findings = [found([score] * 8, fitted=bare) for score in scores]
    weak = [abs(one.log10_lr) < np.log10(2) for one in findings]
    assert 0 < sum(weak) < len(weak)
    for finding, is_weak in zip(findings, weak, strict=True):
        assert ("no_support" in [reason.code for reason in finding.reasons]) == is_weak
        assert ("by the threshold, but the score supports neither" in finding.sentences[0]) == is_weak


def test_what_cannot_be_looked_at_has_a_row_and_a_line_too(tmp_path, bench):
    # Finding A18: a file whose name is not UTF-8 was nowhere, and alone it was "not valid YAML".
    (tmp_path / "files").mkdir()
    shutil.copy(bench / "files" / "text.mp4", tmp_path / "files")
    odd = os.fsdecode(os.fsencode(tmp_path / "files") + b"/bad\xff.png")
    shutil.copy(bench / "files" / "picture.png", odd)
    given = (f"checkpoint={bench / 'weights'}", f"out={tmp_path / 'out'}")
    done = unmasked("inspect", tmp_path / "files", *given)
    assert done.exit_code == 0, done.output
    assert r"bad\xff.png: Not judged: a name that is not UTF-8; rename it" in " ".join(done.output.split())
    table = pd.read_csv(tmp_path / "out" / "findings.csv", keep_default_na=False).set_index("file")
    assert table.loc[r"bad\xff.png", ["verdict", "reasons"]].tolist() == ["not judged", "unreadable"]
    alone = unmasked("inspect", odd, *given)
    assert alone.exit_code == 2
    assert "not UTF-8; rename the file" in " ".join(alone.output.split())


def test_people_in_few_frames_or_with_small_faces_are_not_judged_and_have_no_score():
    finding = found([0.1] * 8, [0.9] * 2)
    assert (finding.verdict, finding.person) == ("likely real", 0)
    assert "1 of them not judged" in finding.sentences[0]
    for refused, code in ((found([0.9] * 2), "few_frames"), (found([0.9] * 8, size_px=30.0), "small_face")):
        assert (refused.verdict, refused.score, refused.log10_lr) == ("not judged", None, None)
        assert refused.reasons[0].code == code
    assert found([0.9], is_video=False).verdict == "likely fake"


def test_frames_that_could_not_be_read_are_told_beside_the_verdict():
    people = people_of(scored([0.9] * 8), FITTED, SETTINGS, is_video=True)
    failures = [Reason(code="no_face", words="none"), Reason(code="decode_error", words="cut short")]
    finding = finding_of(people, SAMPLED, failures, [], FITTED)
    assert [reason.code for reason in finding.reasons] == ["no_support", "decode_error"]


def test_a_probability_is_stated_only_from_the_user_s_own():
    assert "probable" not in " ".join(found([0.9] * 8).sentences)
    said = found([0.9] * 8, prior=0.01).sentences[-1]
    after = 1 / (1 + 99 / 10 ** float(LIKELIHOOD(0.9)))
    assert f"{100 * after:.3g} % probable now" in said


def test_crops_of_another_recipe_than_the_detector_learned_from_are_told():
    config = PreprocessConfig(faces="all")
    for learned, count in (
        (config.model_copy(update={"faces": "largest", "frames_per_video": 20}), 0),
        (config.model_copy(update={"scale": 2.0}), 1),
    ):
        card = {"training_data": {"recipe": [recipe_hash(recipe(learned))]}}
        assert [one.code for one in crop_reasons(card, config)] == ["other_crops"] * count
    assert crop_reasons({}, config) == []


@pytest.mark.parametrize(
    "learned",
    [
        PreprocessConfig(scale=1.0, size_px=128, frames_per_video=10),
        PreprocessConfig(detector="mtcnn", landmarks="mtcnn", border="reflect", crop_format="jpeg"),
        PreprocessConfig(detector="mtcnn", framing="box", max_side_px=320),
    ],
)
def test_a_file_is_cropped_as_the_detector_s_card_says_unless_told_otherwise(learned):
    """`unmasked demo` learned from tight crops and looked at its own fake with room around the face."""
    card = {"training_data": {"recipe": [recipe_hash(recipe(learned))]}, "crops": recipe(learned)}
    asked = inspect_verb.Config(file=Path("clip.mp4"), checkpoint=Path("run"))
    same = crop_config(asked, card["crops"], workers=1)
    assert crop_reasons(card, same) == []
    # A case's own settings and recipe give the same crops again.
    stored = settings_of(same, 64)
    assert crop_config(stored, stored.recipe, workers=1) == same
    told = crop_config(asked.model_copy(update={"scale": 3.0}), card["crops"])
    assert (told.scale, [one.code for one in crop_reasons(card, told)]) == (3.0, ["other_crops"])


def test_what_a_card_says_of_its_crops_is_checked_and_absent_where_they_are_of_several_kinds(tmp_path):
    for name, scale in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / name).mkdir()
        made = recipe(PreprocessConfig(scale=scale))
        (tmp_path / name / "recipe.json").write_text(json.dumps({**made, "versions": {"av": name}}))
    crops = pd.DataFrame({"crop": [f"{name}/crops/v/1.png" for name in "abcd"]})
    assert card_of_crops(crops[:2], tmp_path)["crops"]["scale"] == 1.0
    for mixed in (crops[1:3], crops[2:]):  # two looks; a folder without a recipe
        assert "crops" not in card_of_crops(mixed, tmp_path)
    with pytest.raises(InputError, match=r"scale: .*less than or equal to 4"):
        config_like({"scale": 1000.0})
    with pytest.raises(InputError, match="framing=box is of MTCNN's boxes"):
        config_like({"framing": "box"}, detector="hog")


def rates(dataset, kind, fpr, fnr):
    intervals = {"fpr_ci": (fpr / 2, min(1, 2 * fpr)), "fnr_ci": (None, None)}
    return Rates(dataset=dataset, kind=kind, fpr=fpr, fnr=fnr, **intervals, real_videos=100, fake_videos=50)


def test_the_editor_s_sentence_gives_the_source_with_an_interval_and_the_range_of_the_unseen():
    first, second = rate_sentences(
        [
            rates("FF", "source", 0.19, 0.1),
            rates("CDF", "unseen", 0.22, 0.3),
            rates("Wild", "unseen", 0.45, 0.3),
        ]
    )
    assert first == (
        "At this threshold the detector calls 19 of 100 real videos fake (measured on 100, 95 % interval "
        "[10, 38]) and misses 5 of 50 fakes (too few people for an interval) on videos of "
        "FF, like those that it learned from."
    )
    assert "(CDF, Wild) it calls 22 to 45 of 100 real videos fake and misses 30 of 100 fakes" in second
    alone = rate_sentences([rates("FF, val split", "calibration", 0.1, 0.1)])
    assert (
        "the videos that the threshold was fitted on (FF, val split); on any others it errs more" in alone[0]
    )
    assert "was not measured here" in rate_sentences([rates("FF", "source", 0.19, 0.1)])[-1]


def test_a_detector_that_no_unseen_set_shows_to_be_better_than_guessing_is_said_to_be_none():
    """It called 79 of 100 reals fake and missed 28 of 100 fakes of every unseen set, without a sentence."""
    guessing = [rates("A", "unseen", 0.79, 0.28), rates("B", "unseen", 0.5, 0.5)]
    assert "no better than guessing" in rate_sentences(guessing)[-1]
    assert "guessing" not in " ".join(rate_sentences([*guessing, rates("C", "unseen", 0.1, 0.3)]))


def test_a_detector_that_errs_on_its_own_kind_of_material_is_said_to_answer_nothing():
    """It called 79 of 100 reals of its own kind fake, and the reader was left alone with that."""
    for fpr, fnr, said in (
        (0.79, 0.1, "its “likely fake” answers nothing"),
        (0.1, 0.6, "its “likely real” answers nothing"),
        (0.6, 0.5, "no better than guessing: it answers nothing"),
    ):
        assert said in rate_sentences([rates("FF", "source", fpr, fnr)])[1]
        assert said not in " ".join(rate_sentences([rates("FF", "unseen", fpr, fnr)]))
    assert "nothing" not in " ".join(rate_sentences([rates("FF", "source", 0.5, 0.4)]))


@pytest.mark.parametrize(
    ("low", "high", "middle", "is_said"),
    [(16, 12, 4, True), (30, 2, 0, False), (8, 8, 16, False), (2, 2, 0, False)],
)
def test_a_mean_of_two_heaps_of_frames_is_said_to_be_one(low, high, middle, is_said):
    """Frames jumped between 0 and 1, a tenth of a second apart, and 0.4 stood there without a word."""
    scores = [0.01] * low + [0.98] * high + [0.5] * middle
    looks = pd.DataFrame({"face": 0, "score": scores, "size_px": 100.0, "time_s": np.arange(len(scores))})
    (person,) = people_of(looks, FITTED, SETTINGS, is_video=True)
    words = [reason.words for reason in person.reasons if reason.code == "two_heaps"]
    assert len(words) == is_said
    assert not words or f"{low} of {len(scores)} below 0.25 and {high} above 0.75" in words[0]


def test_below_a_verdict_its_word_is_not_said_again():
    said = {
        "Likely fake: 1 identity in 9 frames looked at.": "1 identity in 9 frames looked at.",
        "Likely fake, for person 2, who is: 3 identities.": "For person 2, who is: 3 identities.",
    }
    for whole, rest in said.items():
        found = Finding(
            verdict="likely fake", score=0.9, log10_lr=None, person=0, people=1, reasons=[], sentences=[whole]
        )
        assert answer_below_verdict(found) == rest


def test_a_file_s_case_is_not_written_into_the_folder_of_many_cases(tmp_path):
    """It lay there, and the next call for the folder was refused."""
    clip, out = tmp_path / "a.png", tmp_path / "cases"
    clip.write_bytes(b"")
    out.mkdir()
    (out / "findings.csv").write_text("file\n")
    found = unmasked("inspect", clip, "checkpoint=weights", f"out={out}")
    assert found.exit_code == 2
    assert "holds the cases of a folder of files; give another out=" in found.stderr


def test_a_folder_that_is_stopped_has_its_table_of_what_is_finished(tmp_path, monkeypatch):
    """Of 41 files 16 were examined, and no findings.csv named them."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    (tmp_path / "out" / "a.png" / "case.json").write_text("{}")
    written = []

    def stop(config):
        raise InterruptedBySignal(15, "stopped")

    monkeypatch.setattr(inspect_verb, "_run", stop)
    monkeypatch.setattr(inspect_verb, "_write_findings", lambda config, files, *rest: written.extend(files))
    done = unmasked("inspect", tmp_path, "checkpoint=weights", f"out={tmp_path / 'out'}")
    assert done.exit_code == 143
    assert written == [tmp_path / "a.png"]


def test_measured_errors_are_those_of_this_threshold():
    def metrics(value):
        at = {"value": value, "fpr": 0.2, "fpr_ci": [0.1, 0.3], "tpr": 0.7, "tpr_ci": [0.6, 0.8]}
        block = {"video": {"at_threshold": at}, "n": {"real_videos": 9, "fake_videos": 8}}
        return {"settings": {"noun": "picture"}, "datasets": {"FF": block, "CDF": block}}

    one, other = measured_rates(metrics(0.5), FITTED, ["FF"], "run")
    assert (one.kind, other.kind, one.fpr, one.real_videos) == ("source", "unseen", 0.2, 9)
    assert rate_sentences([one, other])[0].startswith(
        "At this threshold the detector calls 20 of 100 real pictures"
    )
    assert (one.fnr, *one.fnr_ci) == pytest.approx((0.3, 0.2, 0.4))
    with pytest.raises(InputError, match="give the run whose thresholds these are"):
        measured_rates(metrics(0.6), FITTED, ["FF"], "run")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A folder with weights that store a threshold, a video of a large square, and files without a face."""
    root = tmp_path_factory.mktemp("bench")
    torch.manual_seed(0)
    card = {"method_classes": ["real", "Deepfakes"], "size_px": 64, **FITTED.to_dict()}
    save(UCF(width=0.125, method_classes=2).eval(), root / "weights", card)
    files = root / "files"
    write_video(files / "clip.mp4", 12, draw=LARGE)
    write_video(files / "empty room.mp4", 12, draw=lambda index: np.full((192, 192, 3), 60, np.uint8))
    write_video(files / "small.mp4", 12)  # a face of 32 pixels
    cv2.imwrite(str(files / "picture.png"), LARGE(3))
    shutil.copy(files / "picture.png", files / "same picture.png")
    (files / "text.mp4").write_text("This is no video.\n" * 50)
    (files / "nothing.mp4").write_bytes(b"")
    with av.open(str(files / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return root


@pytest.fixture(autouse=True)
def squares(monkeypatch):
    """Faces are bright squares, found without dlib's models."""
    monkeypatch.setattr("unmasked.inspection.examine.examiner_pool", SQUARES)


@pytest.fixture(scope="module")
def made(bench):
    """The cases of all files, made by one call of the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unmasked.inspection.examine.examiner_pool", SQUARES)
        done = unmasked(
            "inspect", bench / "files", f"checkpoint={bench / 'weights'}", f"out={bench / 'cases'}"
        )
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return bench / "cases"


def test_every_file_of_a_folder_has_a_case_and_bad_ones_have_a_reason_and_no_number(made):
    table = pd.read_csv(made / "findings.csv").set_index("file")
    pd.testing.assert_frame_equal(
        pd.read_parquet(made / "findings.parquet").set_index("file")[["verdict", "score"]],
        table[["verdict", "score"]],
        check_dtype=False,
    )
    assert table["same_as"].dropna().to_dict() == {"same picture.png": "picture.png"}
    table = table.drop("same picture.png")
    assert table["reasons"].to_dict() | {"clip.mp4": "", "picture.png": ""} == {
        "clip.mp4": "",
        "empty room.mp4": "no_face",
        "small.mp4": "small_face",
        "picture.png": "",
        "text.mp4": "decode_error",
        "nothing.mp4": "decode_error",
        "sound.mp4": "audio_only",
    }
    refused = table.drop(["clip.mp4", "picture.png"])
    assert (refused["verdict"] == "not judged").all()
    assert refused[["score", "log10_lr"]].isna().all(axis=None)
    for name in ("clip.mp4", "picture.png"):
        case = read_case(made / name)
        assert case.finding.verdict != "not judged"
        assert 0 <= case.finding.score <= 1
        assert len(case.looks) == case.sampled.with_face == (12 if name == "clip.mp4" else 1)
    for name in ("empty room.mp4", "text.mp4"):
        case = read_case(made / name)
        assert (case.looks, case.people, case.finding.score) == ([], [], None)
        assert "There is no score" in case.finding.sentences[0]


def test_a_second_call_examines_nothing_again(made, bench, monkeypatch):
    before = (made / "clip.mp4" / "case.json").stat().st_mtime_ns
    monkeypatch.delattr("unmasked.inspection.examine.crop_files")
    done = unmasked("inspect", bench / "files", f"checkpoint={bench / 'weights'}", f"out={made}")
    assert "8 files, 8 of them examined before" in done.stdout
    assert (made / "clip.mp4" / "case.json").stat().st_mtime_ns == before


def test_the_page_says_the_finding_and_asks_no_network(made):
    text = (made / "clip.mp4" / "case.html").read_text(encoding="utf-8")
    page = Reader(text)
    case = read_case(made / "clip.mp4")
    box = text[text.index('class="callout') : text.index('id="people"')]
    assert 'class="callout good"' not in text  # nothing that a detector did not find clears a file
    shown = [answer_below_verdict(case.finding), *case.finding.sentences[1:]]  # the verdict is the headline
    assert case.finding.sentences[0].endswith(shown[0][1:])
    assert all(one in page["first"] for one in shown)
    assert box.index(str(escape(case.finding.sentences[-1]))) < box.index("</div>")
    assert case.source.sha256 in page["exhibit"]
    assert "script" not in page.tags
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    refused = Reader((made / "empty room.mp4" / "case.html").read_text(encoding="utf-8"))
    assert "No face was found" in refused["first"]


@pytest.fixture
def copy(made, bench):
    """A copy of the video's case beside the others, whose relative paths hold there too."""
    folder = made / "copy"
    shutil.copytree(made / "clip.mp4", folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def own(copy, bench):
    """The same with weights and file of its own, at the places that the case names."""
    case = read_case(copy)
    shutil.copytree(bench / "files", bench / "own" / "files")
    shutil.copytree(bench / "weights", bench / "own" / "weights")
    yield copy, bench / "own" / "files" / case.source.name, bench / "own" / "weights" / "detector.safetensors"
    shutil.rmtree(bench / "own")


def test_a_case_is_verified_and_a_moved_file_is_asked_for(copy, tmp_path):
    done = unmasked("verify", copy / "case.json")
    assert done.exit_code == 0, done.output
    assert "verified, same bytes and scores within 0.0001" in done.stdout
    moved = tmp_path / "case"
    shutil.copytree(copy, moved)
    done = unmasked("verify", moved)
    assert done.exit_code == 2
    assert "give file=" in done.stderr


def test_of_a_folder_of_cases_each_is_told_and_one_that_cannot_be_looked_at_ends_no_other(made, tmp_path):
    for name in ("moved", "broken"):
        shutil.copytree(made / "clip.mp4", tmp_path / name)
    done = unmasked("verify", tmp_path, "file=a.mp4")
    assert done.exit_code == 2
    assert "holds 2 cases, and file= is of one" in done.stderr
    (tmp_path / "broken" / "case.json").write_text("{")
    done = unmasked("verify", tmp_path)
    assert done.exit_code == 1
    assert f"{tmp_path / 'broken'}: not verified, 1 difference" in done.stdout
    assert f"{tmp_path / 'moved'}: cannot be looked at: " in done.stdout
    assert "2 cases: 0 verified, 1 not, 1 cannot be looked at" in done.stdout
    shutil.copytree(tmp_path / "moved", tmp_path / "two" / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "two" / "again")
    assert unmasked("verify", tmp_path / "two").exit_code == 2


def test_another_style_sheet_is_told_apart_from_another_page(copy):
    case, page = read_case(copy), copy / "case.html"
    before = page.read_text(encoding="utf-8")
    assert page_differences(case, copy) == ([], [])
    page.write_text(before.replace("<style>", "<style>p{display:none}", 1), encoding="utf-8")
    unlike, style = page_differences(case, copy)
    assert unlike == []
    assert "only its style sheet is another than ours, which can hide things" in style[0]
    for changed in (
        before.replace("<style>", "<style>p{}</STYLE><p>This file is real.</p><style>", 1),
        before.replace("<style>", "<style></style><style>", 1),
        before.replace("</body>", "<p>This file is real.</p></body>"),
    ):
        assert changed != before
        page.write_text(changed, encoding="utf-8")
        assert page_differences(case, copy) == (["case.html: shows something else than case.json"], [])


def flip(path: Path, place: int = -20) -> None:
    """Changes one byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ("input", "input: clip.mp4 has other bytes"),
        ("weights", "weights: detector.safetensors has other bytes"),
        ("card", "card: detector.json has other bytes"),
        ("crops/00005_0.png", "crops/00005_0.png: changed"),
        ("timeline.csv", "timeline.csv: changed"),
        ("case.html", "case.html: changed"),
        ("missing", "crops/00000_0.png: missing"),
        ("added", "crops/99999_0.png: added"),
        ("broken case.json", "case.json: damaged"),
        ("verdict", "case.json: changed"),
        ("threshold", "case.json: changed"),
    ],
)
def test_a_change_of_any_part_is_found_with_the_right_word(own, part, word):
    folder, file, weights = own
    if part == "input":
        flip(file)
    elif part == "weights":
        flip(weights)
    elif part == "card":
        flip(weights.with_suffix(".json"))
    elif part == "missing":  # all of them: `verify` ended in a traceback where it drew the page again
        shutil.rmtree(folder / "crops")
    elif part == "added":
        shutil.copy(folder / "crops" / "00000_0.png", folder / "crops" / "99999_0.png")
    elif part == "broken case.json":
        (folder / "case.json").write_text('{"format": "unmasked case 1"')
    elif part in ("verdict", "threshold"):
        fields = json.loads((folder / "case.json").read_text())
        if part == "verdict":
            fields["finding"]["verdict"] = "likely real"
        else:
            fields["thresholds"]["threshold"]["value"] = 0.9
        (folder / "case.json").write_text(json.dumps(fields))
    else:
        flip(folder / part)
    case, found = check_folder(folder)
    if case is not None:
        found += check_inputs(case, file, weights)
    assert [line for line in found if line.startswith(word)], found
    if part in ("input", "missing", "broken case.json"):
        done = unmasked("verify", folder, file, f"checkpoint={weights}")
        assert done.exit_code == 1
        assert f"differs: {word}" in done.stdout


def test_a_case_with_a_new_seal_is_found_by_the_second_run(made, bench, copy):
    before = read_case(copy)
    changes = {
        "finding.verdict": before.finding.model_copy(update={"verdict": "not judged"}),
        "finding.score": before.finding.model_copy(update={"score": before.finding.score + 0.001}),
    }
    look = before.looks[3].model_copy(update={"score": 0.123})
    wrong = {word: before.model_copy(update={"finding": finding}) for word, finding in changes.items()}
    wrong["looks.3.score"] = before.model_copy(update={"looks": [*before.looks[:3], look, *before.looks[4:]]})
    threshold = before.thresholds | {"threshold": before.thresholds["threshold"] | {"value": 0.9}}
    wrong["thresholds.threshold.value"] = before.model_copy(update={"thresholds": threshold})
    for word, case in wrong.items():
        resealed = case.seal_with(case.files)
        write_case(resealed, copy)
        assert check_folder(copy)[1] == []
        assert [line.split(":")[0] for line in differences(resealed, before)] == [word]
    write_case(wrong["finding.score"].seal_with(before.files), copy)
    done = unmasked("verify", copy)
    assert done.exit_code == 1
    assert "differs: finding.score" in done.stdout


def test_scores_within_the_tolerance_are_the_same(made):
    before = read_case(made / "clip.mp4")
    for shift, count in ((5e-5, 0), (5e-3, 1)):
        finding = before.finding.model_copy(update={"score": before.finding.score + shift})
        assert len(list(differences(before.model_copy(update={"finding": finding}), before))) == count


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("https://example.org/a.mp4", "checkpoint=weights"),
            "https://example.org/a.mp4 is an address, and nothing is fetched",
        ),
        (("absent.mp4", "checkpoint=weights"), "does not exist; give a video or picture"),
        (("files/clip.mp4", "checkpoint=weights", "prior=1.5"), "give one between 0 and 1"),
        (("files/clip.mp4", "checkpoint=bare"), "a verdict at a bare 0.5 would mean nothing"),
        (("files/clip.mp4", "checkpoint=weights", "out=cases/clip.mp4"), "holds a case already"),
        (("files/clip.mp4", "checkpoint=weights", "performance=files"), "metrics.json"),
    ],
)
def test_what_cannot_be_examined_is_said_in_a_sentence(made, bench, monkeypatch, arguments, sentence):
    monkeypatch.chdir(bench)
    if not (bench / "bare").exists():
        card = {"method_classes": ["real", "Deepfakes"], "size_px": 64}
        save(UCF(width=0.125, method_classes=2).eval(), bench / "bare", card)
    done = unmasked("inspect", *arguments)
    assert done.exit_code == 2, done.output
    assert sentence in done.stderr
    assert not (bench / "case" / "case.json").exists()


def test_a_case_that_is_older_than_a_field_is_not_called_changed(copy):
    stored = json.loads((copy / "case.json").read_text())
    del stored["prior"], stored["maps"], stored["seal"]
    seal = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
    (copy / "case.json").write_text(json.dumps(stored | {"seal": seal}))
    assert check_folder(copy)[1] == []
    (copy / "case.json").write_text(json.dumps(stored | {"prior": 0.9, "seal": seal}))
    assert "its seal does not fit" in check_folder(copy)[1][0]


def test_a_folder_that_is_no_case_cannot_be_verified(tmp_path):
    done = unmasked("verify", tmp_path)
    assert done.exit_code == 2
    assert "give a folder that `unmasked inspect` wrote" in done.stderr


# A stranger's case


def reseal(folder: Path, **changes) -> None:
    """Changes entries of a case, sections joined by two underlines, and seals it anew."""
    case = read_case(folder)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        value = getattr(case, section).model_copy(update={name: value}) if name else value
        case = case.model_copy(update={section: value})
    write_case(case.seal_with(case.files), folder)


def test_a_case_alone_makes_nothing_run(copy, tmp_path):
    # `verify` imported the module that the case named.
    module = copy.parent / "evil.py"
    module.write_text(f"open({str(tmp_path / 'was run')!r}, 'w').close()\n")
    reseal(copy, weights__module=str(module))
    done = unmasked("verify", copy)
    module.unlink()
    assert done.exit_code == 2
    assert "a case alone makes us import nothing" in done.stderr
    assert not (tmp_path / "was run").exists()


def test_a_case_does_not_say_how_exactly_it_is_compared(copy):
    # With a tolerance of 1 any score was "the same".
    case = read_case(copy)
    reseal(copy, settings__tolerance=1.0, finding__score=1 - case.finding.score)
    done = unmasked("verify", copy)
    assert done.exit_code == 1
    assert {line.split(":")[1].strip() for line in done.stdout.splitlines() if "differs" in line} == {
        *("settings.tolerance", "finding.score")
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("case.html", "<p>This file is real.</p>"),
        ("timeline.csv", "person,frame,time_s,score,size_px,blur,crop\n0,0,0.0,0.01,99,1,x\n"),
    ],
)
def test_a_page_or_timeline_of_something_else_is_found_behind_a_new_seal(copy, name, text):
    (copy / name).write_text(text, encoding="utf-8")
    case = read_case(copy)
    files = {one: sha256_of_file(copy / one) for one in case.files}
    write_case(case.seal_with(files), copy)
    done = unmasked("verify", copy)
    assert done.exit_code == 1
    assert f"differs: {name}: shows something else than case.json" in done.stdout
    reseal(copy, code_sha256="0" * 64)  # which would explain it
    assert f"note: {name}: shows something else" in unmasked("verify", copy).stdout


def test_another_sentence_is_found_and_another_last_digit_is_not(made):
    before = read_case(made / "clip.mp4")

    def with_first(text):
        finding = before.finding.model_copy(update={"sentences": [text, *before.finding.sentences[1:]]})
        return list(differences(before.model_copy(update={"finding": finding}), before))

    first = before.finding.sentences[0]
    assert with_first(first) == []
    assert "finding.sentences.0" in with_first("The file is real beyond doubt.")[0]
    number = re.search(r"\d\.\d+", " ".join(before.finding.sentences))
    if number and number[0] in first:
        near = f"{float(number[0]) + 10.0 ** -len(number[0].partition('.')[2]):.{len(number[0]) - 2}f}"
        assert with_first(first.replace(number[0], near)) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("source.path", "/etc/passwd"), ("source.path", "a\0b"), ("source.path", "n" * 5000),
        ("weights.path", "/dev/zero"), ("weights.path", "../clip.mp4/case.json"), ("run", "/"),
        ("source.path", "../../../../../../../../../../dev/zero"), ("run", "../absent"),
        ("settings.frames", 10**30), ("settings.frames", 0), ("settings.scale", -1), ("prior", 7),
        ("source.bytes", 10**400), ("looks.0.score", float("nan")), ("looks.0.size_px", float("inf")),
        ("environment.packages", ["a"]), ("environment", {"python": {"a": [1]}}),
        ("files", {"/etc/passwd": "0"}),
        ("files", {"../../x": "0", "\ud800": "1", "n" * 3000: "2", "a\0b": "3", "": "4", ".": "5"}),
        ("settings.recipe", {"a": [[[[[[1]]]]]]}), ("thresholds", {}), ("source.name", "\x1b[31m<script>"),
    ],
)  # fmt: skip
def test_whatever_a_case_says_the_answer_is_a_sentence(copy, place, value):
    fields = json.loads((copy / "case.json").read_text())
    *way, last = place.split(".")
    holder = fields
    for name in way:
        holder = holder[int(name) if name.isdigit() else name]
    holder[last] = value
    (copy / "case.json").write_text(json.dumps(fields))
    done = unmasked("verify", copy)
    assert done.exit_code in (1, 2), (done.output, done.exception)
    assert not isinstance(done.exception, (ValueError, KeyError, OSError, TypeError)), done.exception
    assert "\x1b" not in done.output


def test_a_huge_or_endless_case_is_refused_in_a_sentence(tmp_path, monkeypatch):
    for name, content in (("deep", "[" * 100_000), ("nested", '{"a":' * 900 + "1" + "}" * 900)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "case.json").write_text(content)
        done = unmasked("verify", tmp_path / name)
        assert done.exit_code == 1
        assert "differs: case.json: damaged" in done.stdout
    monkeypatch.setattr("unmasked.datasets.documents.DOCUMENT_BYTES_MAX", 100)
    assert "more than" in unmasked("verify", tmp_path / "deep").stdout
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe/case.json")
    assert unmasked("verify", tmp_path / "pipe").exit_code == 2


def test_files_of_a_case_are_not_read_through_links_that_lead_out(copy, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("mine\n")
    (copy / "timeline.csv").unlink()
    (copy / "timeline.csv").symlink_to(secret)
    case = read_case(copy)
    write_case(case.seal_with(case.files | {"timeline.csv": sha256_of_file(secret)}), copy)
    assert "case.json: lists timeline.csv, which is no file of the case" in check_folder(copy)[1]


def test_a_case_is_replaced_without_touching_anything_else(made, bench, copy, tmp_path):
    # A record may list whatever it likes, and its folders may be links.
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (copy / "edited.txt").write_text("mine")
    case = read_case(copy)
    listed = case.files | {"edited.txt": "0" * 64, "../clip.mp4/case.html": "", "": "", "a\0b": ""}
    write_case(case.seal_with(listed), copy)
    arguments = [bench / "files/clip.mp4", f"checkpoint={bench / 'weights'}", f"out={copy}", "overwrite=true"]
    done = unmasked("inspect", *arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    assert (copy / "edited.txt").read_text() == "mine"
    assert (made / "clip.mp4/case.html").exists()
    shutil.rmtree(copy / "crops")
    (copy / "crops").symlink_to(tmp_path)
    write_case(case.seal_with({"crops/mine.txt": sha256_of_file(mine)}), copy)
    done = unmasked("inspect", *arguments)
    assert done.exit_code == 2
    assert "crops is a link; give a new folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_that_changes_while_it_is_examined_has_no_score(bench, tmp_path, monkeypatch):
    # The hash in the case was of other bytes than those that were scored.
    file = tmp_path / "clip.mp4"
    shutil.copy(bench / "files/clip.mp4", file)

    def swap(*arguments, **options):
        yield from crop_files(*arguments, **options)
        shutil.copy(bench / "files/small.mp4", file)

    monkeypatch.setattr("unmasked.inspection.examine.crop_files", swap)
    done = unmasked("inspect", file, f"checkpoint={bench / 'weights'}", f"out={tmp_path / 'case'}")
    assert done.exit_code == 0, (done.output, done.exception)
    case = read_case(tmp_path / "case")
    assert (case.finding.verdict, case.finding.score, case.looks) == ("not judged", None, [])
    assert "Not judged: the file changed while it was examined" in done.stdout


def test_pipes_are_not_waited_for_and_a_file_called_as_the_table_has_its_case(bench, tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in (tmp_path / "pipe.mp4", "/dev/zero"):
        done = unmasked("inspect", name, f"checkpoint={bench / 'weights'}", f"out={tmp_path / 'out'}")
        assert done.exit_code == 2
        assert "is a pipe, a socket or a device" in done.stderr
    (tmp_path / "files").mkdir()
    for name in ("findings.csv", "case.json"):
        (tmp_path / "files" / name).write_text("no video")
    os.mkfifo(tmp_path / "files/pipe.mp4")
    done = unmasked(
        "inspect", tmp_path / "files", f"checkpoint={bench / 'weights'}", f"out={tmp_path / 'out'}"
    )
    assert done.exit_code == 0, (done.output, done.exception)
    table = pd.read_csv(tmp_path / "out/findings.csv").set_index("file")
    assert set(table["case"].dropna()) == {"findings.csv.case", "case.json.case"}
    assert table.loc["pipe.mp4", "reasons"] == "unreadable"


def test_a_face_unlike_the_calibration_material_is_inconclusive_and_its_case_is_verified(bench, tmp_path):
    """Four of eight real videos were called fake by a detector of four politicians' pictures."""
    from unmasked.evaluation.domain import fit_domain, write_domain

    shutil.copytree(bench / "weights", tmp_path / "weights")
    digest = json.loads((tmp_path / "weights" / "detector.json").read_text())["sha256"]
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"dataset": "A", "video": [f"v{number}" for number in range(160)], "kind": "video"})
    domain = fit_domain(
        rows, rng.normal(size=(160, 14)), rng.normal(size=(160, 32)), np.arange(160) < 60, checkpoint=digest
    )
    write_domain(domain, tmp_path / "weights" / "predictions.domain.safetensors")
    shutil.copy(bench / "files" / "clip.mp4", tmp_path)
    done = unmasked(
        "inspect", tmp_path / "clip.mp4", f"checkpoint={tmp_path / 'weights'}", f"out={tmp_path / 'case'}"
    )
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    case = read_case(tmp_path / "case")
    assert case.finding.verdict == "inconclusive"
    assert case.finding.reasons[0].code == "out_of_domain"
    assert 0 <= case.finding.score <= 1
    assert case.finding.log10_lr is None  # both propositions are of material like the calibration's
    assert (case.material.people, case.material.rate) == (100, 0.01)
    assert case.source.facts.codec == "h264"
    page = Reader((tmp_path / "case" / "case.html").read_text(encoding="utf-8"))
    assert "out_of_domain" in page["first"]
    assert "Anyone can write this: it is no evidence" in page["exhibit"]
    assert unmasked("verify", tmp_path / "case").exit_code == 0
    flip(tmp_path / "weights" / "predictions.domain.safetensors")
    done = unmasked("verify", tmp_path / "case")
    assert done.exit_code == 1
    assert "differs: material: predictions.domain.safetensors has other bytes" in done.stdout


def test_changed_thresholds_are_a_difference_and_no_unusable_run(own):
    # Finding A25: thresholds.json changed by hand ended with exit code 2 and advice on `inspect`.
    folder, file, weights = own
    case = read_case(folder)
    assert threshold_differences(case, Fitted.from_dict(case.thresholds)) == []
    run = weights.parent / "run"
    run.mkdir()
    changed = json.loads(json.dumps(case.thresholds))
    changed["threshold"]["value"] += 0.1
    write_json(run / "thresholds.json", changed)
    given = (f"file={file}", f"checkpoint={weights}", f"performance={run}")
    done = unmasked("verify", folder, *given)
    assert done.exit_code == 1, done.output
    assert "differs: thresholds.threshold.value: " in done.stdout
