"""Tables of scores by people who never read our README: right, said, or refused with the way out."""

from __future__ import annotations

import json
import re
import sys
import unicodedata

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets import workbooks
from unmasked.datasets.demographics import join_files
from unmasked.datasets.errors import InputError
from unmasked.datasets.table_reading import has_scores
from unmasked.datasets.tables import column_names
from unmasked.evaluation.direction import check_direction
from unmasked.evaluation.doubts import doubts
from unmasked.evaluation.metrics import auc
from unmasked.evaluation.predictions import (
    evaluated_rows_and_notes,
    noun_of,
    read_predictions,
)
from unmasked.evaluation.wording import name_files


def read(tmp_path, table: pd.DataFrame | str, name="scores.csv", **how):
    """The predictions in a table, and everything that was said about it."""
    path = tmp_path / name
    if isinstance(table, str):
        path.write_text(table)
    elif name.endswith(".parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    readings = []
    predictions = read_predictions(path, readings, **how)
    return predictions, "\n".join(f"{what}: {how}" for what, how in readings)


def clips(n=40, seed=0) -> pd.DataFrame:
    """Videos of both classes with scores that tell them apart, not perfectly."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    score = np.clip(0.3 + 0.4 * label + rng.normal(0, 0.2, n), 0.01, 0.99).round(4)
    return pd.DataFrame({"video": [f"clip{i}.mp4" for i in range(n)], "label": label, "score": score})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_that_file_names_contradict_are_refused(tmp_path, suffix):
    """`fake_clip0.mp4,0` went through: only folders were looked at."""
    table = clips()
    names = np.where(table["label"] == 1, "real_", "fake_")
    with pytest.raises(InputError, match=r"label says real and video says fake in 40 of 40 rows.*one_means"):
        read(tmp_path, table.assign(video=names + table["video"]), f"scores{suffix}")
    only_fakes = np.where(table["label"] == 0, "fake_", "")
    with pytest.raises(InputError, match=r"video says fake in 20 of 20 rows"):
        read(tmp_path, table.assign(video=only_fakes + table["video"]), f"scores{suffix}")


def test_a_few_names_with_such_a_word_are_titles_and_say_nothing(tmp_path):
    table = clips()
    table.loc[[1, 3], "video"] = ["real_talk.mp4", "the_original.mp4"]
    assert len(read(tmp_path, table)[0]) == 40


@pytest.mark.parametrize("name", ["is_real", "isReal", "Genuine", "authentic"])
@pytest.mark.parametrize("told", [True, False])
def test_a_label_that_asks_if_it_is_real_is_read_by_its_name_and_said(tmp_path, name, told):
    """columns={label: is_real} was taken as 1 = fake."""
    table = clips()
    table[name] = 1 - table.pop("label")
    predictions, said = read(tmp_path, table, columns={"label": name} if told else None)
    assert predictions["label"].tolist() == clips()["label"].tolist()
    assert f"column '{name}': 1 and true mean real there" in said
    table[name] = table[name].map({0: "False", 1: "True"})
    assert read(tmp_path, table)[0]["label"].tolist() == clips()["label"].tolist()
    kept = read(tmp_path, table, one_means="fake")[0]
    assert kept["label"].tolist() == (1 - clips()["label"]).tolist()


def confident(table: pd.DataFrame) -> pd.DataFrame:
    """The detector's answer and how sure it is of it, in place of P(fake)."""
    fake = table["score"] > 0.5
    return table.drop(columns="score").assign(
        Verdict=np.where(fake, "FAKE", "REAL"), confidence=np.maximum(table["score"], 1 - table["score"])
    )


def test_confidence_in_an_answer_is_no_p_fake(tmp_path):
    """max(p, 1 - p) was read as P(fake): AUC near 0.5 for a good detector."""
    table = confident(clips())
    with pytest.raises(InputError, match=r"'confidence' is below 0.5.*score_of=predicted.*'Verdict' says"):
        read(tmp_path, table)
    predictions, said = read(tmp_path, table, score_of="predicted")
    assert predictions["score"].tolist() == pytest.approx(clips()["score"].tolist())
    assert "the probability of what 'Verdict' says" in said
    assert read(tmp_path, table, score_of="fake")[0]["score"].min() >= 0.5
    with pytest.raises(InputError, match=r"Add the answers as a column predicted"):
        read(tmp_path, table.drop(columns="Verdict"))
    with pytest.raises(InputError, match=r"score_of=predicted needs the column of answers"):
        read(tmp_path, table.drop(columns="Verdict"), score_of="predicted")


def test_a_detectors_answer_is_never_the_truth(tmp_path):
    """A column Verdict led to "the label says real and Verdict says fake: one_means=…"."""
    table = clips().assign(Verdict=confident(clips())["Verdict"])
    predictions, said = read(tmp_path, table)
    assert predictions["label"].tolist() == table["label"].tolist()
    assert "column 'Verdict': predicted" in said
    renamed, said = read(tmp_path, table.rename(columns={"Verdict": "Ergebnis"}))
    assert renamed["label"].tolist() == table["label"].tolist()
    assert re.search(r"'Ergebnis': differs from the label in \d+% of rows: answers", said)
    with pytest.raises(InputError, match=r"no column is called label.*what a detector answered"):
        read(tmp_path, table.drop(columns="label"))


def test_a_column_prediction_is_the_score_or_the_answer_by_what_it_holds(tmp_path):
    table = clips()
    for name in ("prediction", "predicted", "pred"):
        assert read(tmp_path, table.rename(columns={"score": name}))[0]["score"].tolist() == (
            table["score"].tolist()
        )
    both = table.rename(columns={"score": "fake_prob"}).assign(prediction=(table["score"] > 0.5).astype(int))
    predictions, _ = read(tmp_path, both)
    assert predictions["score"].tolist() == table["score"].tolist()
    assert predictions["predicted"].isin([0, 1]).all()
    with pytest.raises(InputError, match="a decision is no score"):
        read(tmp_path, confident(table).drop(columns="confidence"))


def test_a_score_that_is_high_where_the_answer_is_real_is_asked_about(tmp_path):
    table = clips().assign(decision=confident(clips())["Verdict"])
    table["score"] = 1 - table["score"]
    with pytest.raises(InputError, match=r"high where 'decision' says real.*score_of=real"):
        read(tmp_path, table)
    assert read(tmp_path, table, score_of="real")[0]["score"].tolist() == pytest.approx(
        clips()["score"].tolist()
    )


@pytest.mark.parametrize("name", ["real", "P(real)", "genuine_prob", "authenticity"])
def test_scores_of_real_are_refused_with_the_key_that_settles_it(tmp_path, name):
    table = clips().rename(columns={"score": name})
    with pytest.raises(InputError, match=r"seems to be P\(real\).*score_of=real turns it round"):
        read(tmp_path, table, columns={"score": name})


def test_a_vendors_probabilities_of_fake_and_real_beside_the_label_are_told_apart(tmp_path):
    table = clips()
    both = table.drop(columns="score").assign(real=1 - table["score"], fake=table["score"])
    assert read(tmp_path, both)[0]["score"].tolist() == table["score"].tolist()


def test_both_label_and_score_reversed_is_refused(tmp_path):
    """Case 25: method and folders say real where the label is 1."""
    table = clips().assign(label=lambda t: 1 - t["label"], score=lambda t: 1 - t["score"])
    folder = np.where(table["label"] == 1, "Celeb-real/", "Celeb-synthesis/")
    with pytest.raises(InputError, match=r"label says fake and video says real.*one_means"):
        read(tmp_path, table.assign(video=folder + table["video"]))


def test_fakes_of_one_name_by_several_methods_are_a_video_each(tmp_path):
    """Case 01: FF++ calls the fakes of all methods alike; 240 videos became 60 with four times the frames."""
    reals = pd.DataFrame({"video": [f"{i:03d}" for i in range(6)], "label": 0, "method": "real"})
    fakes = [
        pd.DataFrame({"video": [f"{i:03d}_{i + 1:03d}" for i in range(6)], "label": 1, "method": method})
        for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
    ]
    table = pd.concat([reals, *fakes]).assign(score=0.5, dataset="FF++")
    predictions, said = read(tmp_path, table)
    assert predictions["video"].nunique() == 30
    assert predictions["method"].groupby(predictions["video"]).nunique().max() == 1
    assert "a video for each method: 6" in said


def notes(predictions: pd.DataFrame) -> str:
    return "\n".join(evaluated_rows_and_notes(predictions)[1])


def test_frames_given_as_videos_are_noticed(tmp_path):
    """Case 08: 1,000 image paths of 20 videos were 1,000 videos with an interval as narrow as that."""
    rows = [(f"/data/frames/{v:03d}/{f:04d}.png", v % 2) for v in range(20) for f in range(10)]
    table = pd.DataFrame(rows, columns=["path", "label"]).assign(score=0.5)
    predictions, _ = read(tmp_path, table)
    assert re.search(
        r"200 of 200 names look like frames of 20 videos.*columns video and frame", notes(predictions)
    )
    assert "look like frames" not in notes(read(tmp_path, clips())[0])


def test_the_columns_that_are_asked_for_keep_their_names_where_pictures_were_scored(tmp_path):
    """Of 500 names of frames it asked for a column `picture`, which no table has."""
    rows = [(f"/data/frames/{v:03d}/{f:04d}.png", v % 2) for v in range(20) for f in range(10)]
    predictions, _ = read(tmp_path, pd.DataFrame(rows, columns=["path", "label"]).assign(score=0.5))
    said = name_files(notes(predictions), "picture")
    assert "frames of 20 videos" in said
    assert "each counts as a picture" in said
    assert "give the columns video and frame" in said


@pytest.mark.parametrize("end", [0, 1])
def test_an_end_of_the_scale_that_stands_for_no_score_is_noticed(end):
    """A seller wrote 0 where no face was found: the AUC fell from 0.94 to 0.85, and nothing was said."""
    table = clips(200).assign(dataset="A")
    assert "exactly" not in "\n".join(doubts(table))
    unscored = table.assign(score=table["score"].where(table.index % 9 > 0, float(end)))
    counts = unscored[unscored["score"] == end].groupby("label").size()
    wanted = f"23 of 200 scores are exactly {end} ({counts[0]} of reals, {counts[1]} of fakes)"
    assert wanted in "\n".join(doubts(unscored))
    rounded = table.assign(score=table["score"].round(1))
    sure = table.assign(score=1 / (1 + np.exp(-30 * (table["score"] - 0.5))))
    for one in (rounded, sure, sure.round(3)):
        assert f"exactly {end}" not in "\n".join(doubts(one))


def test_percent_under_the_name_of_a_label_is_the_score(tmp_path):
    """`Ground truth;Fake %`: the scores were refused as labels."""
    table = clips()
    cells = [f"{100 * score:.2f} %".replace(".", ",") for score in table["score"]]
    words = table["label"].map({0: "real", 1: "FAKE"})
    text = "\n".join(f"{v};{w};{c}" for v, w, c in zip(table["video"], words, cells, strict=True))
    predictions, said = read(tmp_path, f"Video;Ground truth;Fake %\n{text}\n")
    assert "column 'Fake %': score" in said
    assert predictions["label"].tolist() == table["label"].tolist()
    assert predictions["score"].tolist() == pytest.approx(table["score"].tolist())


def test_names_like_frames_do_not_narrow_intervals_that_are_over_people(tmp_path):
    """Two videos a person, named v00_0 and v00_1: each run said that its intervals were too narrow."""
    rows = [(f"v{person:02d}_{take}", f"p{person}", person % 2) for person in range(20) for take in range(2)]
    table = pd.DataFrame(rows, columns=["video", "identity", "label"]).assign(score=0.5, dataset="A")
    people, _ = read(tmp_path, table)
    assert "intervals are right all the same, as they are over people" in notes(people)
    loose = people.assign(identity=people["video"])
    gaps = people.assign(identity=people["identity"].where(people.index > 0))
    for other in (people.drop(columns="identity"), loose, gaps):
        assert "intervals are too narrow" in notes(other)


def test_rows_of_one_video_that_lie_in_several_folders_are_refused(tmp_path):
    """Two data sets without a column dataset, whose names clash, were averaged as frames."""
    table = pd.concat([clips(), clips(seed=1)]).assign(path=lambda t: "b/" + t["video"])
    table.iloc[:40, table.columns.get_loc("path")] = "a/" + clips()["video"]
    with pytest.raises(InputError, match=r"rows of several folders.*columns=\{video: path\}"):
        read(tmp_path, table)
    assert read(tmp_path, table, columns={"video": "path"})[0]["video"].nunique() == 80


def test_several_rows_of_a_video_without_frames_are_said(tmp_path):
    table = pd.concat([clips().assign(gender="female"), clips(seed=1).assign(gender="male")])
    said = notes(read(tmp_path, table)[0])
    assert re.search(r"40 of 40 videos have several rows and there is no column frame", said)
    assert "they disagree in gender" in said


def test_compressions_in_one_table_are_said_to_be_pooled(tmp_path):
    """Case 23: 60 videos at two compressions were "120 real and 120 fake videos"."""
    table = pd.concat([clips().assign(compression=c) for c in ("c23", "c40")])
    said = notes(read(tmp_path, table)[0])
    assert "2 compressions (c23, c40) are pooled: 40 videos count 80 times" in said


def test_hard_decisions_and_constant_scores_are_said(tmp_path):
    hard = clips().assign(score=lambda t: (t["score"] > 0.5).astype(float))
    assert "hard decisions: every score is 0 or 1, so AUC is not a ranking" in notes(read(tmp_path, hard)[0])
    assert "every score is 0.5" in notes(read(tmp_path, clips().assign(score=0.5))[0])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_cells_that_tell_no_group_are_unknown_and_none_and_na_stay_words(tmp_path, suffix):
    words = ["glasses", "?", "Prefer not to say", "n/a", "None", "NA", "keine Angabe", "not stated"]
    table = clips().assign(eyewear=[words[i % 8] for i in range(40)])
    predictions, said = read(tmp_path, table, f"scores{suffix}")
    assert set(predictions["eyewear"].dropna()) == {"glasses", "None", "NA"}
    assert predictions["eyewear"].isna().sum() == 25
    assert re.search(r"not told, as unknown: .*Prefer not to say \(5\)", said)


LABEL = np.arange(40) % 2
WORDS = np.array(["REAL", "FAKE"])[LABEL]
SCORE = clips()["score"].to_numpy()
COMMA = [str(score).replace(".", ",") for score in SCORE]
HEADER = "file,label,score"


def lines(*columns, by=",") -> str:
    """A row for each clip."""
    rows = zip([f"clip{i}.mp4" for i in range(40)], *columns, strict=True)
    return "".join(by.join(map(str, row)) + "\n" for row in rows)


PLAIN = lines(LABEL, SCORE)


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (
            "Auswertung;;\nStand 12.03.2026;;\nFile;Label;Score\n" + lines(WORDS, COMMA, by=";"),
            "left out: 2",
        ),
        (f"# detector X\n# March\n{HEADER}\n{PLAIN}", "lines before the header"),
        (f"Results of X\n\n{HEADER}\n{PLAIN}", "lines before the header"),
        (f"{HEADER}\n{PLAIN}Total,20,{SCORE.sum()}\n", "rows of totals: left out: 1 (row 42)"),
        (f"{HEADER}\n{PLAIN}Average,,{SCORE.mean()}\nTotal,20,17.5\n", "rows of totals: left out: 2"),
        (
            "file;is_fake;score\n" + lines(["WAHR" if x else "FALSCH" for x in LABEL], COMMA, by=";"),
            "WAHR: fake",
        ),
        (f"file,label,score,score\n{lines(LABEL, SCORE, SCORE)}", "is there 2 times, alike"),
        (
            "file.name,ground_truth.label,result.fake_probability,result.verdict\n"
            + lines(WORDS, SCORE, np.where(SCORE > 0.5, "FAKE", "REAL")),
            "column 'result.fake_probability': score",
        ),
        (f"{HEADER}\n{PLAIN}{HEADER}\n", "rows that repeat the header: left out: 1"),
        (f"file,model,label,score\n{lines(['x'] * 40, LABEL, SCORE)}", ""),
    ],
    ids=["titles", "comments", "title", "total", "totals", "WAHR", "twice", "json", "header", "model"],
)
def test_what_spreadsheets_and_vendors_put_around_a_table_is_left_out_and_said(tmp_path, text, how):
    predictions, said = read(tmp_path, text)
    assert predictions["video"].tolist() == clips()["video"].tolist()
    assert predictions["label"].tolist() == LABEL.tolist()
    assert predictions["score"].tolist() == pytest.approx(SCORE.tolist())
    assert how in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"id,label\n{lines(SCORE)}", r"'label' holds numbers as scores are: columns=\{score: label\}"),
        (f"{HEADER}\n{lines(LABEL, SCORE + 1)}", r"goes from 1.\d+ to 1.\d+: neither shares of 1 nor"),
        (f"{HEADER}\n{lines(LABEL, 10 * SCORE)}", r"score_as=percent reads it as percent, else write shares"),
        (f"{HEADER}\n{lines(LABEL, np.where(LABEL, SCORE, -1))}", "where -1 marks videos without a score"),
        (f"file,label,logit\n{lines(LABEL, SCORE - 0.5)}", "score_as=logit applies the sigmoid"),
        (
            f"file,class,score\n{lines(np.where(np.arange(40) % 4 == 3, 'faceswap', WORDS), SCORE)}",
            "'faceswap' in row 5.*A number or name for each method belongs in a column of its own",
        ),
        (f"{HEADER},score\n{lines(LABEL, SCORE, 1 - SCORE)}", "column 'score' 2 times; keep one"),
    ],
)
def test_what_cannot_be_settled_is_refused_with_what_to_do(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, text)


def test_a_kaggle_submission_beside_the_truth_is_read_as_it_is_told(tmp_path):
    text = f"filename,label,target\n{lines(SCORE, LABEL)}"
    with pytest.raises(InputError, match=r"columns=\{score: label\}"):
        read(tmp_path, text)
    predictions, _ = read(tmp_path, text, columns={"score": "label", "label": "target"})
    assert predictions["score"].tolist() == SCORE.tolist()
    assert predictions["label"].tolist() == LABEL.tolist()


def test_reasons_in_the_column_of_scores_are_videos_without_a_score(tmp_path):
    text = f"{HEADER}\n{lines(LABEL, ['no face found' if i % 9 == 0 else s for i, s in enumerate(SCORE)])}"
    predictions, said = read(tmp_path, text)
    assert len(predictions) == 35
    assert "no score: no face found (5 rows)" in said


def test_a_model_that_tells_the_rows_of_a_video_apart_is_the_detector(tmp_path):
    """Scores of two detectors below one another were averaged as frames."""
    table = pd.concat([clips().assign(model=name) for name in ("xception", "ucf")])
    assert set(read(tmp_path, table)[0]["detector"]) == {"xception", "ucf"}
    generators = clips().assign(model=np.where(LABEL == 1, "StyleGAN2", "camera"))
    assert "model" in read(tmp_path, generators)[0]


def test_rows_below_title_lines_have_the_numbers_that_a_spreadsheet_shows(tmp_path):
    text = f"Results of X\nMarch\n{HEADER}\n{PLAIN}b.mp4,maybe,0.5\n"
    with pytest.raises(InputError, match="'maybe' in row 44"):
        read(tmp_path, text)


def test_ages_that_nobody_has_are_unknown_and_said(tmp_path):
    """999 was in the group 50 and over, and -1 in the youngest."""
    table = clips().assign(age=np.resize([25, 40, 61], 40))
    table.loc[[3, 7], "age"] = [999, -1]
    predictions, said = read(tmp_path, table, age_groups=(30, 50))
    assert predictions["age"].isna().sum() == 2
    assert "age: 999, -1: no age of a person, taken as unknown" in said


def test_columns_of_lists_are_named_and_not_used(tmp_path):
    """They ended in a traceback."""
    table = clips().assign(box=[np.array([1.0, 2.0])] * 40, tags=[["a"]] * 40)
    predictions, said = read(tmp_path, table, "scores.parquet")
    assert len(predictions) == 40
    assert "columns of lists: box, tags: not used" in said


def test_control_characters_in_the_name_of_a_group_are_shown(tmp_path):
    """They reached pages, tables and the terminal as they are."""
    table = clips().assign(skin=np.resize(["\x1b[31mRED\x1b[0m", "light"], 40))
    predictions, _ = read(tmp_path, table, "scores.parquet")
    assert set(predictions["skin"]) == {"\\x1b[31mRED\\x1b[0m", "light"}


def test_rows_of_one_name_whose_scores_disagree_are_not_averaged_without_a_word():
    """Two corpora with the same names, or a video scored again, were frames of one video."""

    table = clips().assign(dataset="own")
    again = table.head(8).assign(score=0.95)
    [note] = [one for one in doubts(pd.concat([table, again], ignore_index=True)) if "averaged" in one]
    assert "although their scores are up to 0." in note
    vendor = pd.concat([table.assign(vendor="A"), table.assign(vendor="B")], ignore_index=True)
    [note] = [one for one in doubts(vendor) if "averaged" in one]
    assert "they disagree in vendor: if that tells videos or detectors apart" in note
    assert "although" not in note


def test_labels_of_our_own_predictions_are_not_doubted_for_the_names_of_their_files(tmp_path):
    """DF40's inversions of real videos are fakes below a folder Celeb-real."""
    names = [f"e4e/Celeb-real/{n}.jpg" if n % 2 else f"faces/{n}.jpg" for n in range(20)]
    table = pd.DataFrame({"video": names, "label": [n % 2 for n in range(20)], "score": 0.5})
    with pytest.raises(InputError, match="the label says fake and video says real"):
        read(tmp_path, table)
    predictions, _ = read(tmp_path, table.assign(checkpoint="0a" * 32))
    assert predictions["label"].sum() == 10


@pytest.mark.parametrize("last", [",Total,0.5", ",40,Total", ",,42.3", "Total,40,0.5"])
def test_a_row_of_totals_without_a_name_is_left_out_and_said(tmp_path, last):
    predictions, said = read(tmp_path, f"{HEADER}\n{PLAIN}{last}\n")
    assert len(predictions) == 40
    assert predictions["label"].tolist() == LABEL.tolist()
    assert "rows of totals: left out: 1 (row 42)" in said


@pytest.mark.parametrize(("other", "fake"), [(2, 1), (-1, 1)])
def test_one_and_another_number_as_labels_are_settled_by_one_means(tmp_path, other, fake):
    table = clips().assign(label=np.where(LABEL == 1, fake, other))
    with pytest.raises(
        InputError, match=f"holds 1 and {other}, which do not say what is fake: one_means=fake"
    ):
        read(tmp_path, table)
    assert read(tmp_path, table, one_means="fake")[0]["label"].tolist() == LABEL.tolist()
    assert read(tmp_path, table, one_means="real")[0]["label"].tolist() == (1 - LABEL).tolist()
    three = clips().assign(label=np.arange(40) % 3)
    with pytest.raises(InputError, match=r"'2' in row 4.*leave empty what nobody knows.*own, method"):
        read(tmp_path, three)


def test_logits_are_read_where_that_is_said_and_infinite_ones_are_certain(tmp_path):
    logits = np.log(SCORE / (1 - SCORE))
    logits[:2] = [-np.inf, np.inf]
    table = clips().assign(score=logits)
    with pytest.raises(InputError, match="score_as=logit applies the sigmoid"):
        read(tmp_path, table)
    found = read(tmp_path, table, score_as="logit")[0]["score"]
    assert found.tolist() == pytest.approx([0.0, 1.0, *SCORE[2:]])


@pytest.mark.parametrize(("top", "said"), [(1000, "1000"), (255, "255")])
def test_scores_up_to_a_thousand_are_told_what_to_divide_by(tmp_path, top, said):
    with pytest.raises(InputError, match=rf"divide by the highest score .*\({said}\?\)"):
        read(tmp_path, clips().assign(score=(SCORE * top).round()))


def test_swapped_columns_are_told_with_the_key_that_reads_them(tmp_path):
    swapped = clips().rename(columns={"video": "label", "label": "video"})
    with pytest.raises(InputError, match=r"columns=\{video: label, label: video\} reads them so"):
        read(tmp_path, swapped)
    back = read(tmp_path, swapped, columns={"video": "label", "label": "video"})[0]
    assert back["label"].tolist() == LABEL.tolist()
    scores = clips().rename(columns={"score": "label", "label": "score"})
    with pytest.raises(InputError, match=r"columns=\{score: label, label: score\} reads them so"):
        read(tmp_path, scores)


@pytest.mark.parametrize("mark", [".", ","])
def test_names_that_a_spreadsheet_has_rounded_are_refused(tmp_path, mark):
    table = clips().assign(video=f"9{mark}0E+15")
    with pytest.raises(InputError, match=r"a spreadsheet has rounded, such as 9.0E\+15.*as text"):
        read(tmp_path, table)


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        ("echt", "Fälschung"),
        ("Original", "KI-generiert"),
        ("authentique", "truqué"),
        ("AUTHENTISCH", "Gefälscht"),
    ],
)
def test_labels_in_words_of_other_languages_are_read(tmp_path, real, fake):
    predictions, said = read(tmp_path, clips().assign(label=np.where(LABEL == 1, fake, real)))
    assert predictions["label"].tolist() == LABEL.tolist()
    assert f"{fake}: fake" in said


@pytest.mark.parametrize(
    "names",
    [
        [f"{method}/clip_{n:03d}" for method in ("youtube", "Deepfakes", "FaceSwap") for n in range(20)],
        [f"{word}_{n:03d}.png" for word in ("portrait", "studio") for n in range(20)],
        [f"v{clip}_{n:03d}.mp4" for clip in range(9) for n in range(5)],
    ],
    ids=["ids that methods share", "two words", "files that are videos"],
)
def test_numbered_names_are_not_taken_for_frames(tmp_path, names):
    table = pd.DataFrame({"video": names, "label": np.arange(len(names)) % 2, "score": 0.5})
    assert "look like frames" not in notes(read(tmp_path, table)[0])


def test_columns_may_be_named_without_a_space_behind_the_colon():
    from unmasked.app.verbs.evaluate import Config

    config = Config.model_validate({"predictions": "a.csv", "columns": {"video:file": None, "score": "p"}})
    assert config.columns == {"video": "file", "score": "p"}


def said_about(table: pd.DataFrame, folder) -> dict[str, str]:
    """What the terminal and every text file say of a table, without tags: name -> words."""
    folder.mkdir()
    table.to_csv(folder / "scores.csv", index=False)
    given, out = f"predictions={folder / 'scores.csv'}", f"out={folder / 'out'}"
    threshold = f"thresholds={folder / 'out' / 'thresholds.json'}"
    said = {}
    for verb, *keys in (
        ("threshold", given, out, "max_fpr=0.05"),
        ("evaluate", given, out, threshold, "n_boot=20"),
        ("fairness", given, out, threshold, "by=gender", "n_boot=100", "n_perm=100"),
        ("report", f"run={folder / 'out'}"),
    ):
        result = CliRunner().invoke(app, [verb, *keys])
        assert result.exit_code == 0, result.output + repr(result.exception)
        # The table of how it was read names our column video.
        lines = [line for line in result.output.splitlines() if not line.startswith("  column ")]
        said[verb] = "\n".join(lines).replace(str(folder), "")
    for name in ("metrics.md", "metrics.tex", "model_card.md", "report.html", "fairness.html"):
        page = (folder / "out" / name).read_text()
        page = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
        said[name] = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    return said


def test_pages_and_terminal_name_what_was_scored_elsewhere(tmp_path, unsaved_figures):
    """A table of pictures got "videos", "frames", "faces cut out" and "annotated by a machine"."""
    table = clips(120).assign(gender=np.where(np.arange(120) // 2 % 2, "male", "female"))
    pictures = table.assign(video=[f"IMG_{i}.jpg" for i in range(120)]).rename(columns={"video": "file"})
    wrong = re.compile(r"(?i)videos?\b|\bframes?\b|\bcut out\b|\bcrops?\b|\bmachine\b")
    said = said_about(pictures, tmp_path / "pictures")
    assert {name: found for name, text in said.items() if (found := wrong.findall(text))} == {}
    assert all("picture" in said[name].lower() for name in said if name != "report")
    assert "made elsewhere" in said["report.html"]

    said = said_about(table, tmp_path / "videos")
    assert all("video" in said[name].lower() for name in said if name != "report")
    assert not any("picture AUC" in text or "real pictures" in text for text in said.values())
    assert "cut out:" not in said["report.html"]

    # Of our own `predict`: several frames a video, weights known, and the words as they were.
    ours = pd.concat([table.assign(frame=i, kind="video", checkpoint="ab" * 32) for i in range(2)])
    said = said_about(ours.assign(face=0, dataset="Set", method=""), tmp_path / "ours")
    assert "cut out: 240 crops" in said["report.html"]
    assert "of its frames" in said["metrics.md"]
    assert "frame AUC" in said["report.html"]
    assert "real frames" in said["fairness.html"]
    assert "aligned crop of a face" in said["model_card.md"]


@pytest.mark.parametrize(
    ("names", "kinds", "noun"),
    [
        (["a.mp4", "b.mov"], None, "video"),
        (["a", "b"], None, "video"),
        (["a.JPG", "b.heic"], None, "picture"),
        (["a.jpg", "b.mp4"], None, "file"),
        (["a", "b"], ["image", "image"], "picture"),
        (["a", "b"], ["image", "video"], "file"),
        (["a.jpg", "b.jpg"], ["sequence", "sequence"], "video"),
        (["a.jpg", "a.jpg"], None, "video"),  # two rows of a name: frames
    ],
)
def test_what_was_scored_is_told_by_kind_else_by_suffix(names, kinds, noun):
    table = pd.DataFrame({"dataset": "A", "video": names, "frame": [0, 1]})
    assert noun_of(table if kinds is None else table.assign(kind=kinds)) == noun


def test_names_of_others_keep_their_word():
    assert (
        name_files("Videos of Real video set", "picture", ["Real video set"]) == "Pictures of Real video set"
    )


@pytest.mark.parametrize(
    ("yes", "no"), [("vrai", "faux"), ("WAHR", "FALSCH"), ("verdadero", "falso"), ("vero", "falso")]
)
def test_true_and_false_of_other_languages_are_read_where_it_is_said_what_is_true(tmp_path, yes, no):
    """vrai, of a true picture, was read as fake, and the AUC was that of the reversed labels."""
    table = clips().assign(label=np.where(LABEL == 1, no, yes))
    with pytest.raises(InputError, match=rf"holds {yes.lower()} and {no.lower()}.*one_means=real takes"):
        read(tmp_path, table)
    assert read(tmp_path, table, one_means="real")[0]["label"].tolist() == LABEL.tolist()
    asked = clips().rename(columns={"label": "is_fake"}).assign(is_fake=np.where(LABEL == 1, yes, no))
    assert read(tmp_path, asked)[0]["label"].tolist() == LABEL.tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_true_and_false_in_a_label_are_read_as_documented_and_said(tmp_path, suffix):
    found, said = read(tmp_path, clips().assign(label=LABEL == 1), f"scores{suffix}")
    assert found["label"].tolist() == LABEL.tolist()
    assert "label: False: real; True: fake" in said.replace("label  ", "label: ")


def test_columns_of_unknown_names_are_told_the_key_that_names_them_or_the_header_below(tmp_path):
    table = clips().rename(columns={"video": "Datei", "label": "Klasse", "score": "Wert"})[
        ["Datei", "Klasse", "Wert"]
    ]
    with pytest.raises(
        InputError, match=r"called Datei, Klasse, Wert: .*columns=\{video: …, label: …, score: …\}"
    ):
        read(tmp_path, table)
    text = "ACME export\nGenerated: 2026-11-02;User: jm\n\nvideo,label,score\na,1,0.5\nb,0,0.2\n"
    with pytest.raises(InputError, match="line 4 looks like the header: delete the lines above it"):
        read(tmp_path, text)


REVERSED = (
    r"reals score above fakes \(AUC 0\.055 \[.*\] on s.csv\): if score is P\(real\), score_of=real .* one_me"
)


@pytest.mark.parametrize(
    "verb",
    [
        *(
            "evaluate predictions=s.csv",
            "threshold predictions=s.csv",
            "fairness predictions=s.csv by=[gender]",
        ),
        *("mitigate predictions=s.csv by=[gender]", "compare a=s.csv b=t.csv", "compare a=t.csv b=s.csv"),
        "ensemble predictions=[t.csv,s.csv]",
    ],
)
def test_scores_that_are_surely_the_other_way_round_are_refused_by_every_verb(tmp_path, monkeypatch, verb):
    """AUC 0.07 was told and not asked: thresholds, gaps and differences of 1 - P(fake) were written."""
    monkeypatch.chdir(tmp_path)
    table = clips(200).assign(gender=["f", "f", "m", "m"] * 50)
    table.to_csv("t.csv", index=False)
    table.assign(score=1 - table["score"]).to_csv("s.csv", index=False)
    ended = CliRunner().invoke(app, [*verb.split(), "out=o"])
    assert ended.exit_code == 2
    assert re.search(REVERSED, ended.output)
    assert not list(tmp_path.glob("o/*"))


def test_which_reversed_scores_are_told_and_not_refused(tmp_path):
    """Weak evidence, a detector's own scores, and what the user has said are no reason to refuse."""
    table = clips(200).assign(score=1 - clips(200)["score"])
    path = tmp_path / "s.csv"
    keys = ["threshold", f"predictions={path}", "max_fpr=0.05", f"out={tmp_path / 'o'}", "overwrite=true"]
    table.to_csv(path, index=False)
    said = CliRunner().invoke(app, [*keys, "score_of=fake"]).output
    assert "NOTE: s.csv: worse than chance" in said
    assert "score_of=real turns it round" in said
    assert "NOTE: " not in CliRunner().invoke(app, [*keys, "score_of=real"]).output
    table.assign(checkpoint="ab" * 32).to_csv(path, index=False)  # of `unmasked predict`
    assert "NOTE: s.csv: worse than chance" in CliRunner().invoke(app, keys).output
    weak = clips(2000)
    weak["score"] = (
        0.5 - 0.04 * (clips(2000)["score"] - 0.5) + 0.3 * np.random.default_rng(1).normal(0, 0.2, 2000)
    )
    check_direction(read(tmp_path, weak)[0], path)
    assert 0.4 < auc(weak["label"].to_numpy(), weak["score"].to_numpy()) < 0.48
    right = clips(200).assign(dataset="right")
    check_direction(read(tmp_path, pd.concat([right, table.assign(dataset="wrong")]))[0], path)


def test_ages_with_the_word_years_become_groups_and_words_that_cannot_are_said(tmp_path):
    """ "34 years" made a group of each age, and nothing said that age_groups did nothing."""
    years = [f"{20 + i} years" if i % 2 else f"{20 + i} Jahre" for i in range(40)]
    found, _ = read(tmp_path, clips().assign(age=years), age_groups=(30, 50))
    assert found["age"].value_counts().to_dict() == {"30 to 49": 20, "under 30": 10, "50 and over": 10}
    bands = clips().assign(age=["18-29", "30-49"] * 20)
    _, said = read(tmp_path, bands, age_groups=(30, 50))
    assert "age: age_groups was not used: there are words (18-29, 30-49)" in said


@pytest.mark.parametrize("suffix", [".tsv", ".txt", ".xlsx"])
def test_the_same_table_is_read_from_every_kind_of_file(tmp_path, suffix):
    """Only .csv and .parquet were opened, although a .tsv called .csv was read."""
    table = clips().astype({"score": object})
    table.loc[3, "score"] = None
    expected, _ = read(tmp_path, table)
    path = tmp_path / f"scores{suffix}"
    if suffix == ".xlsx":
        workbook(path, [["ACME export"], [], list(table), *table.astype(object).to_numpy().tolist()])
    else:
        table.to_csv(path, index=False, sep="\t")
    readings = []
    found = read_predictions(path, readings)
    pd.testing.assert_frame_equal(found.assign(dataset="scores.csv"), expected)
    said = dict(readings)
    if suffix == ".xlsx":
        assert said["workbook"] == "sheet 'Scores'; not read: Notes"
        assert said["lines before the header"] == "left out: 2"
        assert said["rows with no score"] == "left out: 1 (row 7)"  # as Excel counts
        assert has_scores(column_names(path))
    else:
        assert said["separator"] == "tabs"


def workbook(path, rows):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "Notes"
    sheet = book.create_sheet("Scores", 0)
    for row in rows:
        sheet.append([None if value is not None and value != value else value for value in row])
    book.save(path)


def test_a_workbook_of_two_sheets_of_scores_is_refused_by_their_names(tmp_path):
    """The first was read, and the second named in a line of "not read"."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for name in ("Detector A", "Detector B"):
        sheet = book.create_sheet(name)
        for row in [["export of", name], ["video", "label", "score"], ["a", 0, 0.1], ["b", 1, 0.9]]:
            sheet.append(row[:1] if row[0] == "export of" else row)
    book.save(tmp_path / "two.xlsx")
    with pytest.raises(
        InputError,
        match=r"xlsx has sheets of the same columns, 'Detector A' and 'Detector B'",
    ):
        read_predictions(tmp_path / "two.xlsx")


def test_a_refusal_calls_a_column_as_the_file_does(tmp_path):
    """A column logit was called 'score', which the file had not."""
    path = tmp_path / "scores.csv"
    path.write_text("video,truth,logit\na,0,-3.5\nb,1,2.5\n")
    with pytest.raises(InputError, match=r"column 'logit' holds -3.5") as refused:
        read_predictions(path)
    assert "'score'" not in str(refused.value)


def test_a_workbook_that_cannot_be_read_is_refused_with_the_way_out(tmp_path, monkeypatch):
    path = tmp_path / "scores.xlsx"
    path.write_text("<html><table></table></html>")
    with pytest.raises(InputError, match=r"no intact Excel workbook.*export the sheet as CSV"):
        read_predictions(path)
    workbook(path, [])
    with pytest.raises(InputError, match="has no cells"):
        read_predictions(path)
    monkeypatch.setattr(workbooks, "BYTES_MAX", 100)
    with pytest.raises(InputError, match=r"unpacks to .* which is not read; export the sheet as CSV"):
        read_predictions(path)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        InputError, match="openpyxl reads, and that is not installed; export the sheet as CSV"
    ):
        read_predictions(path)


def test_a_spreadsheets_export_becomes_a_report_in_one_command(tmp_path):
    """It took two, and the page spoke of a run's files, of `explain` and of Grad-CAM."""
    table = clips(80)
    lines = [
        f"{row.video};{'FAKE' if row.label else 'REAL'};{100 * row.score:.1f}" for row in table.itertuples()
    ]
    path = tmp_path / "export.csv"
    path.write_text("file;label;score\n" + "\n".join(lines).replace(".", ",").replace(",mp4", ".mp4") + "\n")
    keys = ["report", f"predictions={path}", f"out={tmp_path / 'out'}", "n_boot=20"]
    ended = CliRunner().invoke(app, keys)
    assert ended.exit_code == 0, ended.output
    assert "percent" in ended.output
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())["datasets"]["export.csv"]["video"][
        "auc"
    ]
    assert told == pytest.approx(
        auc(table["label"].to_numpy(), (100 * table["score"]).round(1).to_numpy() / 100)
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert "tested on export.csv" in page
    assert "made elsewhere and read from a table" in page
    assert "Curves and scores" in page
    for word in (
        "Grad-CAM",
        "t-SNE",
        "config.yaml",
        "environment.json",
        "fairness.json",
        "unmasked predict",
        "crop",
    ):
        assert word not in page, word


@pytest.mark.parametrize(
    ("names", "scale"),
    [
        ({"score": "P(fake)"}, 1),
        ({"score": "Fake probability (%)"}, 100),
        ({"score": "Score (fake)"}, 1),
        ({"score": "Deepfake likelihood", "label": "manipulated"}, 1),
        ({"video": "# video"}, 1),  # as NumPy writes a header
    ],
)
def test_columns_are_known_by_names_with_brackets_percent_and_a_mark(tmp_path, names, scale):
    table = clips()
    written = table.assign(score=table["score"] * scale).rename(columns=names)
    if "Deepfake likelihood" in written:
        written = written.rename(columns={"Deepfake likelihood": "deepfake_score"})
        written["manipulated"] = np.where(table["label"] == 1, "yes", "no")
    found, _ = read(tmp_path, written)
    assert found["label"].tolist() == table["label"].tolist()
    np.testing.assert_allclose(found["score"], table["score"], atol=1e-12)
    assert found["video"].tolist() == table["video"].tolist()


def test_a_numbered_first_column_called_hash_is_no_comment(tmp_path):
    """`#,video,label,score` was left out as a comment, and the first row taken for the header."""
    numbered = clips()
    numbered.insert(0, "#", range(1, 41))
    found, said = read(tmp_path, numbered)
    assert len(found) == 40
    assert "before the header" not in said
    text = "# made by ACME, run 3, all\n" + clips().to_csv(index=False)
    found, said = read(tmp_path, text)
    assert len(found) == 40
    assert "lines before the header" in said


def test_folds_are_no_splits_and_an_empty_column_without_a_name_is_none(tmp_path):
    found, _ = read(tmp_path, clips().assign(fold=np.arange(40) // 2 % 5))
    assert found["fold"].astype(int).tolist() == (np.arange(40) // 2 % 5).tolist()
    assert found["split"].isna().all()
    lines = [f"{line};" for line in clips().to_csv(index=False, sep=";").splitlines()]
    found, _ = read(tmp_path, "\n".join(lines) + "\n")
    assert not [name for name in found if name.startswith("Unnamed")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.assign(score=""), "no row is left: of 40, 40 no score"),
        (
            lambda table: table.assign(score_b=0.1).rename(columns={"score": "score_a"}),
            r"is 'score_a' or 'score_b' meant\?",
        ),
        (lambda table: table.rename(columns={"label": "Verdict truth"}), "is 'Verdict truth' meant"),
    ],
)
def test_a_refusal_names_what_the_table_has(tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        read(tmp_path, change(clips()))


def test_a_page_of_reals_alone_says_nothing_of_fakes(tmp_path):
    rows = [{"file": f"r{n}.mp4", "score": round(0.004 * n, 3), "label": "real"} for n in range(60)]
    pd.DataFrame(rows).to_csv(tmp_path / "reals.csv", index=False)
    said = CliRunner().invoke(
        app, ["report", f"predictions={tmp_path / 'reals.csv'}", f"out={tmp_path / 'run'}"]
    )
    assert said.exit_code == 0, said.output
    html = next(tmp_path.rglob("report.html")).read_text(encoding="utf-8")
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "No fakes were scored" in text
    assert "real ones alone" in text
    for claim in ("Fakes are far more frequent", "Guessing would be right", "Calibration error:"):
        assert claim not in text, claim


def test_names_that_a_mac_wrote_are_annotated_like_others(tmp_path):
    """ü of two signs was another name, although the message showed the two alike."""
    video = [f"Müller_{i}.mp4" for i in range(4)]
    table = pd.DataFrame({"dataset": "A", "video": video, "label": [0, 1, 0, 1], "score": 0.5})
    groups = {"video": [unicodedata.normalize("NFD", name) for name in video], "gender": "female"}
    pd.DataFrame(groups).to_csv(tmp_path / "groups.csv", index=False)
    joined, _ = join_files(table, [tmp_path / "groups.csv"])
    assert (joined["gender"] == "female").all()


def test_lines_of_an_old_mac_are_lines(tmp_path):
    """A file whose lines end with a carriage return alone was called empty."""
    path = tmp_path / "scores.csv"
    path.write_bytes(b"video,label,score\ra,0,0.1\rb,1,0.9\r")
    assert read_predictions(path)["video"].tolist() == ["a", "b"]


def test_a_column_that_is_there_twice_is_said_and_no_traceback(tmp_path):
    """`gender` beside `gender ` ended with an AttributeError."""
    path = tmp_path / "scores.csv"
    path.write_text("video,label,score,site,site \na,0,0.1,x,y\nb,1,0.9,x,y\n")
    readings = []
    assert read_predictions(path, readings)["site"].tolist() == ["x", "x"]
    assert ("column 'site'", "is there 2 times: the first") in [tuple(each) for each in readings]
    path.write_text("video,label,score,gender,gender \na,0,0.1,x,y\nb,1,0.9,x,y\n")
    with pytest.raises(InputError, match="has the column 'gender' 2 times; keep one"):
        read_predictions(path)


def test_videos_whose_names_differ_in_capitals_or_the_suffix_alone_are_doubted(tmp_path):
    """CLIP.MP4 and clip.mp4 were two videos, and every interval too narrow, without a word."""
    rows = pd.DataFrame(
        {"dataset": "A", "video": ["a.mp4", "A.MP4", "b", "b.mov", "c"], "label": 0, "score": 0.5}
    )
    (said,) = [note for note in doubts(rows) if "capitals" in note]
    assert said.startswith(
        "4 names of videos differ from another in capitals or the suffix alone (a.mp4, A.MP4)"
    )
    assert not any("capitals" in note for note in doubts(rows.iloc[[0, 2, 4]]))
    (said,) = [
        note for note in doubts(rows.assign(dataset=list("AaBCD"))) if "each counts as a dataset" in note
    ]
    assert said.startswith("A and a differ in capitals alone")


def test_columns_that_spaces_part_are_refused_with_what_helps(tmp_path):
    """The way out was columns=, which cannot help where all is one column."""
    path = tmp_path / "scores.txt"
    path.write_text("video label score\na 0 0.1\nb 1 0.9\n")
    with pytest.raises(InputError, match="if spaces part the columns, write commas in their place"):
        read_predictions(path)


@pytest.mark.parametrize("mark", [-1, -999, 9999])
def test_a_number_that_stands_for_no_score_is_taken_for_one(tmp_path, mark):
    path = tmp_path / "scores.csv"
    path.write_text(f"video,label,score\na,0,0.1\nb,1,0.9\nc,1,{mark}\n")
    with pytest.raises(InputError, match=f"where {mark} marks videos without a score, leave the cell empty"):
        read_predictions(path)
