from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from report_fakes import SOURCE, UNSEEN, Reader, table_of, write_run

from unmasked.analysis.explain.explanation import Explanation, write_explanation
from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.answer import answer
from unmasked.analysis.reports.run.collection import collection_page
from unmasked.analysis.reports.run.folder import read_run
from unmasked.analysis.reports.run.page import page, write_report
from unmasked.analysis.reports.run.truth import found_sentences
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_text
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.wording import count_in_100, list_names

SECTIONS = ["answer", "done", "datasets", "curves", "thresholds", "robustness", "abstention", "calibration"]
SECTIONS += ["likelihood"]
SECTIONS += ["fairness", "explanations", "truth", "limits", "settings", "glossary"]
ABSENT = {"robustness", "likelihood"}  # of the complete page


def add_everything(folder):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    pictured = pd.DataFrame({"dataset": [UNSEEN, UNSEEN, SOURCE, SOURCE], "method": ["real", "FaceSwap"] * 2})
    pictured = pictured.assign(
        label=[0, 1, 0, 1], score=[0.125, 0.875, 0.25, 0.75], blank=[False, True, False, False]
    )
    embedded = pd.concat([pictured] * 5, ignore_index=True).assign(
        x=rng.normal(size=20), y=rng.normal(size=20)
    )
    purity = {"real or fake": {"features": 0.8, "tsne": 0.7, "chance": 0.5, "k": 10}}
    summary = {"layer": "encoder_f.adjust_channel", "pictures": 4, "blank": 1, "crops": 20, "videos": 4}
    summary |= {"feature_size": 64, "purity": purity}
    summary["made_from"] = {"checkpoint": "ab" * 32}
    maps = np.zeros((4, 32, 32), np.float32)
    write_explanation(Explanation(pictured, pictures, pictures, maps, embedded, None, None, summary), folder)
    records = [{"epoch": epoch, "train/overall": 1 / epoch, "val/video_auc": 0.9} for epoch in (1, 2, 3)]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    write_text(folder / "config.yaml", "model:\n  width: 0.25 # <narrow>\n")
    write_json(
        folder / "environment.json", {"python": "3.11.2", "packages": {"torch": "2.15.0", "anny": None}}
    )
    card = {"detector": "UCF", "sha256": "ab" * 32, "architecture": "ucf", "size_px": 128, "licence": "MIT"}
    write_json(folder / "detector.json", card)
    write_json(folder / "truth.json", {"config": {"bias": "skin_tone:dark"}})


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("complete"), table_of(fainter=("dark",)))
    add_everything(folder)
    return folder


@pytest.fixture(scope="module")
def complete_page(complete):
    return write_report(complete).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    write_json(folder / "metrics.json", evaluate(table_of(), source=SOURCE, n_boot=50))
    return folder


def test_every_section_is_there_and_linked(complete_page):
    found = Reader(complete_page)
    shown = [name for name in SECTIONS if name not in ABSENT]
    assert list(found.sections) == ["first", *shown, "absent"]
    assert all(found[name] for name in found.sections)
    assert [address for address in found.addresses if address in {f"#{name}" for name in SECTIONS}] == [
        f"#{name}" for name in shown
    ]
    assert "perturbations=" in found["absent"]
    assert set(found.ids) > ABSENT


def test_first_screen_has_three_numbers_with_intervals_and_counts(complete, complete_page):
    found = Reader(complete_page)["first"]
    results = json.loads((complete / "metrics.json").read_text())
    block = results["datasets"][UNSEEN]
    video, n = block["video"], block["n"]
    low, high = video["fpr_ci"]
    assert f"{100 * video['fpr']:.0f} % real videos called fake on {UNSEEN}" in found
    assert f"95 % interval [{100 * low:.0f}, {100 * high:.0f}], {n['real_videos']} real videos" in found
    low, high = (1 - end for end in reversed(video["tpr_ci"]))
    assert f"{100 * (1 - video['tpr']):.0f} % fakes missed on {UNSEEN}" in found
    assert f"[{100 * low:.0f}, {100 * high:.0f}], {n['fake_videos']} fake videos" in found
    assert f"{video['auc']:.2f} AUC on {UNSEEN}" in found
    assert "UCF, trained on" in found
    assert f"scores above {results['settings']['threshold']['value']:.3f}" in found
    assert "For a decision: " in found
    assert "Not to be concluded: that" in found
    assert complete_page.index('id="figure-at_a_glance"') < complete_page.index('<section id="answer"')


def test_what_was_planted_is_set_beside_what_was_found(complete_page):
    found = Reader(complete_page)["truth"]
    assert "This was planted. Fakes of dark-skinned people show traces that are fainter" in found
    assert f"On {SOURCE} it was found: their fakes are missed more often." in found
    assert f"On {UNSEEN} it was not found: the videos are too few to show it." in found
    assert "nobody planted" not in found


def test_fainter_fakes_are_found_where_reals_of_that_group_are_called_fake():
    # The whole demo ended with "not found" and "nobody planted" beside 67 against 0 % of reals called fake.
    def lines(metric, worst):
        tested = {"metric": metric, "verdict": "disparity", "worst_group": worst}
        audit = {"attributes": {"skin_tone_group": {"tests": [tested]}}}
        return found_sentences({"config": {"bias": "skin_tone:dark"}}, {"datasets": {"A": audit}})

    (line,) = lines("fpr", "dark")
    assert line.startswith("On A it was found: their reals are called fake more often")
    assert lines("fpr", "light")[1].startswith("On A a difference that nobody planted")


def test_a_claim_that_nobody_planted_is_said_to_be_one(complete):
    audit = json.loads((complete / "fairness.json").read_text())
    lines = found_sentences({"config": {"bias": "gender:female"}}, audit)
    assert any("nobody planted was claimed as well: dark-skinned people" in line for line in lines)
    assert found_sentences({"config": {"bias": ""}}, {"datasets": {}}) == [
        "No difference was claimed, which is right."
    ]


def test_page_is_self_contained_and_needs_no_script(complete_page):
    found = Reader(complete_page)
    assert not {"script", "iframe", "object", "embed", "form"} & found.tags
    beside = {address for address in found.addresses if not address.startswith(("#", "data:"))}
    assert {address.partition("#")[0] for address in beside} == {"fairness.html"}
    assert not re.search(r"url\((?!#)|@import", complete_page)
    assert len(found.ids) == len(set(found.ids))
    assert len(complete_page) < 3_000_000


def test_answer_says_the_numbers_of_the_metrics(complete, complete_page):
    matrix = json.loads((complete / "metrics.json").read_text())["matrix"]
    found = Reader(complete_page)["answer"]
    for row in matrix:
        assert f"in {count_in_100(row['auc'])} of 100 pairs" in found
    assert f"On {UNSEEN}, which it never saw," in found
    assert f"On videos like those it was trained on ({SOURCE}, test split)" in found
    assert "It does not hold up" in found
    assert "It does not hold up" in Reader(complete_page)["first"]


def test_matrix_and_thresholds_show_values_with_intervals_and_n(complete, complete_page):
    results = json.loads((complete / "metrics.json").read_text())
    found = Reader(complete_page)
    for name in (SOURCE, UNSEEN):
        video = results["datasets"][name]["video"]
        assert "{:.2f}".format(video["auc"]) in found["datasets"]
        assert "[{:.2f}, {:.2f}]".format(*video["auc_ci"]) in found["datasets"]
        assert "24 + 48" in found["datasets"]
        low, high = video["fpr_ci"]
        assert f"{video['fpr']:.2f} [{low:.2f}, {high:.2f}]" in found["thresholds"]
    assert "at_half" in results["datasets"][SOURCE]["video"]
    assert "0.500" in found["thresholds"]


def test_planted_group_is_named_as_the_one_that_is_failed(complete_page):
    found = Reader(complete_page)
    assert "Fakes of dark-skinned people are missed" in found["answer"]
    assert "fakes of dark-skinned people are missed more often" in found["answer"]
    # The first screen asked for whom it fails, and did not say it.
    assert "Look at this first: fakes of dark-skinned people are missed more often" in found["first"]
    assert "Fakes of dark-skinned people are missed" in found["fairness"]


def test_few_videos_of_several_detectors_are_said_to_be_few():
    """Two AUCs of 1.00 on six reals and one fake stood alone on the page."""
    names = ("forest", "SVC")
    row = {"protocol": "cross_dataset", "title": "", "train": "A", "test": "A", "is_reference": True}
    row |= {"auc": 1.0, "auc_ci": None, "real_videos": 6, "fake_videos": 1, "level": "video"}
    row |= {"gap": float("nan"), "fpr": 0.0, "tpr": 1.0}
    rows = [{**row, "detector": name} for name in names]
    about = {
        "folder": "x",
        "trained_on": ["A"],
        "selection_rule": "",
        "threshold": {"value": 0.5, "rule": "fixed"},
    }
    metrics = {"detectors": dict.fromkeys(names, about), "protocols": rows, "settings": {"n_boot": 10}}
    first = Reader(collection_page(metrics, Gallery()))["first"]
    assert "Too few videos to tell" in first
    assert "test them on more videos" in first
    for one, interval in zip(rows, ([0.8, 1.0], [0.4, 1.0]), strict=True):
        one["auc_ci"] = interval
    assert "Too few" not in Reader(collection_page(metrics, Gallery()))["first"]


def test_without_a_disparity_no_group_is_named(tmp_path, unsaved_figures):
    run = read_run(write_run(tmp_path, table_of()))
    found = answer(run)
    assert found.groups == []
    assert "No group was shown to be treated worse" in found.no_groups
    assert not any("skinned" in line for line in found.advice)
    assert "skinned" not in Reader(page(run))["answer"]


def test_synthetic_corpus_is_called_a_rehearsal(complete_page, bare):
    found = Reader(complete_page)
    assert "A rehearsal, not a result" in found["first"]
    assert "that a detector is good or bad on real videos" in found["first"]
    assert "Every person and every fake here is synthetic" in found["limits"]
    bare_page = Reader(page(read_run(bare)))
    assert "synthetic" not in bare_page["first"] + bare_page["answer"]


def test_training_on_shuffled_labels_is_called_a_control(bare):
    run = read_run(bare)
    assert "A control" not in Reader(page(run))["first"]
    control = dataclasses.replace(run, card=run.card | {"labels_shuffled": True})
    assert "A control, not a detector" in Reader(page(control))["first"]


def test_truth_may_be_elsewhere_but_not_nowhere(bare, complete):
    assert read_run(bare, truth=complete / "truth.json").truth["config"]["bias"] == "skin_tone:dark"
    with pytest.raises(InputError, match=r"truth .* does not exist"):
        read_run(bare, truth=bare / "nothing.json")


def test_explanations_show_pictures_with_scores_and_what_not_to_conclude(complete_page):
    found = Reader(complete_page)["explanations"]
    assert complete_page.count("data:image/jpeg;base64,") == 4
    assert "P(fake) from left to right: 0.88 (no map)" in found
    assert found.index(f"{SOURCE}: real") < found.index(f"{UNSEEN}: real")
    assert "What not to conclude" in found
    assert "encoder_f.adjust_channel" in found
    assert "80 %" in found.replace("\xa0", " ")


def test_settings_show_configuration_environment_and_weights(complete_page):
    found = Reader(complete_page)["settings"]
    assert "width: 0.25 # <narrow>" in found
    assert "2.15.0" in found
    assert "not installed" in found
    assert "ab" * 32 in found


def test_parts_that_are_absent_say_how_to_make_them(bare):
    # A forest leaves one record: a single point was drawn as a development.
    write_text(bare / "metrics.jsonl", '{"epoch": 1, "val/video_auc": 0.9}\n')
    found = Reader(write_report(bare).read_text(encoding="utf-8"))
    assert "unmasked fairness" in found["absent"]
    assert "unmasked explain" in found["absent"]
    assert "unmasked evaluate adds it" in found["absent"]
    assert "predictions.parquet" in found["absent"]
    assert {"fairness", "explanations", "likelihood", "curves"} < set(found.ids) - set(found.sections)
    assert "no config.yaml" in found["settings"]
    assert "Training" not in found["done"]


def test_predictions_may_be_elsewhere(bare):
    run = read_run(bare, predictions=table_of())
    assert "Scores" in Reader(page(run))["curves"]


def test_rare_fakes_make_most_alarms_false(complete, complete_page):
    video = json.loads((complete / "metrics.json").read_text())["datasets"][SOURCE]["video"]
    assert video["fpr"] > 0
    false, true = 999 * video["fpr"], video["tpr"]
    expected = (
        f"one video in a thousand is fake, {count_in_100(false / (false + true))} of 100, at the "
        f"rates on {SOURCE}"
    )
    assert expected in Reader(complete_page)["limits"]


def test_undefined_numbers_are_said_to_be(tmp_path, unsaved_figures):
    table = table_of()
    one_class = table[(table["dataset"] == UNSEEN) & (table["label"] == 1)].assign(dataset="WildDeepfake")
    folder = write_run(tmp_path, pd.concat([table, one_class], ignore_index=True), audited=False)
    text = write_report(folder).read_text(encoding="utf-8")
    found = Reader(text)
    assert "not enough data" in found["datasets"]
    assert "WildDeepfake: holds only fakes" in found["datasets"]
    assert "WildDeepfake: there is not enough data" in found["answer"]
    assert not re.search(r"(?<![a-z])nan(?![a-z])", " ".join(found.sections.values()), re.IGNORECASE)


def test_unknown_source_claims_nothing_about_unseen_data(tmp_path, unsaved_figures):
    run = read_run(write_run(tmp_path, table_of(), audited=False, source=None))
    found = answer(run)
    assert found.kind == "note"
    assert not any("never saw" in line or "trained on" in line for line in found.ranking)
    assert "is not stated" in Reader(page(run))["done"]


def test_predictions_without_a_split_are_not_called_held_out(tmp_path, unsaved_figures):
    table = table_of().query("split == 'test'").drop(columns="split")
    run = read_run(write_run(tmp_path, table, audited=False))
    assert "test split" not in answer(run).ranking[0]
    assert "is not stated" in Reader(page(run))["done"]


def judged(bare, source_ci, gap_ci):
    """The verdict where the matrix had these intervals."""
    run = read_run(bare)
    source, unseen = (dict(row) for row in run.metrics["matrix"])
    source["ci"], unseen["gap_ci"] = list(source_ci), list(gap_ci)
    return answer(dataclasses.replace(run, metrics={**run.metrics, "matrix": [source, unseen]}))


@pytest.mark.parametrize(
    ("source_ci", "gap_ci", "kind", "title"),
    [
        ((0.9, 1.0), (0.05, 0.2), "bad", "It does not hold up"),
        ((0.9, 1.0), (-0.02, 0.04), "good", "It holds up here"),
        ((0.9, 1.0), (-0.02, 0.2), "warning", "It cannot be told"),
        ((0.45, 0.6), (-0.1, 0.1), "bad", "It has not learnt to tell fakes"),
        # An AUC of 1 on three reals and three fakes was called proof that nothing was learnt.
        ((0.29, 1.0), (-0.1, 0.1), "warning", "Too few videos to tell"),
        ((0.51, 0.64), (-0.1, 0.02), "good", "It holds up here"),
        ((0.45, 0.7), (-0.1, 0.1), "warning", "Too few videos to tell"),
        ((0.2, 0.4), (-0.1, 0.1), "bad", "It has not learnt to tell fakes"),
        ((float("nan"), float("nan")), (-0.1, 0.1), "warning", "Too few videos to tell"),
    ],
)
def test_verdict_follows_the_intervals(bare, source_ci, gap_ci, kind, title):
    found = judged(bare, source_ci, gap_ci)
    assert (found.kind, found.title) == (kind, title)


def test_source_alone_is_no_test_of_generalization(tmp_path):
    table = table_of().query(f"dataset == '{SOURCE}'")
    found = answer(read_run(write_run(tmp_path, table, audited=False)))
    assert found.title == "Not tested on new data"
    assert "new ones" not in found.verdict


def test_fakes_of_a_method_that_training_left_out_stand_in_the_verdict(tmp_path):
    table = table_of().query(f"dataset == '{SOURCE}'")
    run = read_run(write_run(tmp_path, table, audited=False))
    row = {"protocol": "leave_one_method_out", "is_reference": False, "auc": 0.67, "auc_ci": [0.57, 0.75]}
    reference = row | {"is_reference": True, "test": SOURCE, "auc": 0.2}
    easier = row | {"test": "B: faceswap", "auc": 0.9}
    run.metrics["protocols"] = [reference, easier, row | {"test": "made: StyleGAN2-ADA"}]
    verdict = answer(run).verdict
    assert "new ones: B: faceswap and made: StyleGAN2-ADA." in verdict
    assert verdict.endswith("Its AUC on made: StyleGAN2-ADA, the worst of them: 0.67 [0.57, 0.75].")


def test_model_card_has_the_answer_and_the_matrix(complete, complete_page):
    card = (complete / "model_card.md").read_text(encoding="utf-8")
    assert card.startswith("# UCF\n")
    assert "| weights (SHA-256) | " + "ab" * 32 in card
    assert "It does not hold up" in card
    assert "Do not quote these numbers" in card
    assert f"| {SOURCE} | {UNSEEN} | 24 + 48 |" in card
    assert "&" not in card


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.json", "{", "is not valid JSON"),
        ("metrics.json", "[]", "holds no JSON object"),
        ("metrics.json", "{}", "has no datasets, matrix and settings"),
        ("fairness.json", "nonsense", "is not valid JSON"),
    ],
)
def test_damaged_files_are_named(bare, tmp_path, name, text, message):
    (tmp_path / "metrics.json").write_bytes((bare / "metrics.json").read_bytes())
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_missing_run_and_missing_metrics_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="unmasked evaluate"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no metrics\.json; run `unmasked evaluate"):
        write_report(tmp_path)


def test_counts_out_of_100_are_never_rounded_to_none_or_all():
    assert [count_in_100(share) for share in (0.0, 0.004, 0.5, 0.9951, 1.0)] == [
        "0",
        "fewer than 1",
        "50",
        "more than 99",
        "100",
    ]


def test_names_are_listed_as_in_a_sentence():
    assert [list_names([]), list_names(["A"]), list_names(["A", "B", "C"])] == ["", "A", "A, B and C"]
