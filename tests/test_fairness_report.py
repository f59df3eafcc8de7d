"""The audit's page: what it says, that it stands alone, and what its figures hold."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from fairness_findings import of_one
from test_fairness_audit import FAST, corpus

from unmasked.analysis.figures.dots import DotDisplay
from unmasked.analysis.reports.fairness.annotation import annotation
from unmasked.analysis.reports.fairness.findings import Findings
from unmasked.analysis.reports.fairness.intersections import intersections
from unmasked.analysis.reports.fairness.page import PAGE, page, section, write_page
from unmasked.fairness.run import audit_datasets, audit_predictions, fairness_record, write
from unmasked.fairness.verdicts import people

BY = ["gender", "skin_tone_group"]


@pytest.fixture(scope="module")
def biased():
    return audit_predictions(corpus(0, tpr_dark=0.5), BY, n_boot=200).to_dict()


@pytest.fixture(scope="module")
def unbiased():
    table = corpus(11)
    table.loc[table["identity"] == "p0", "gender"] = None
    return audit_predictions(table, BY, **FAST).to_dict()


def text_of(html):
    html = re.sub(r"<style>.*?</style>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html).replace("\u00a0", " "))


def test_page_opens_with_the_disparity_in_words(biased):
    text = text_of(page(of_one(biased)))
    first = text[: text.index("Every verdict", text.index("For a decision"))]
    assert "A difference was shown Fakes of dark-skinned people are missed more often than those of " in first
    assert "give decisions about dark-skinned people a second look" in first
    assert re.search(
        r"\d+ % fakes of dark-skinned people missed 95 % interval \[\d+, \d+\] ?, \d+ fake videos", first
    )
    assert re.search(r"\d+ points between them, .*? 95 % interval \[[\d.]+, [\d.]+\]", first)
    assert "Called fake is what scores above 0." in first
    assert "A disparity was found" in text
    assert "Fakes of dark-skinned people are missed" in text
    assert text.index("A disparity was found") < text.rindex("How every gap was tested")
    assert "An unbiased detector would show a difference of up to" in text


def test_page_without_a_disparity_claims_no_equality(unbiased):
    text = text_of(page(of_one(unbiased)))
    assert "A disparity was found" not in text
    assert "No difference was shown" in text
    assert "That is not proof of equality" in text
    assert "needs about" in text


def test_page_stands_alone_and_reads_without_javascript(biased):
    html = page(of_one(biased))
    assert "<script" not in html
    assert not re.search(r'(src|href)="https?://', html)
    assert html.count("<!DOCTYPE html>") == 1


def test_page_survives_a_round_trip_through_json(biased, unbiased, tmp_path, unsaved_figures):
    from unmasked.datasets.documents import write_json

    for number, found in enumerate((biased, unbiased)):
        write_json(tmp_path / f"{number}.json", found)
        assert page(of_one(json.loads((tmp_path / f"{number}.json").read_text()))) == page(of_one(found))


def test_section_is_a_fragment_with_verdict_figures_tables_and_limits(biased):
    html = section(of_one(biased))
    assert "<html" not in html
    assert "<h2" not in html
    for wanted in ("A disparity was found", "<svg", "<table", "What this does not say", PAGE):
        assert wanted in html


def test_utility_stands_beside_every_verdict(biased):
    text = text_of(section(of_one(biased)))
    assert "AUC is" in text
    assert "A detector that calls everything fake would have no gap at all" in text


def test_group_names_are_escaped():
    table = corpus(0)
    table["club"] = np.where(table["gender"] == "female", "<b>x</b>", "a & b")
    html = page(of_one(audit_predictions(table, ["club"], **FAST).to_dict()))
    assert "<b>x</b>" not in html
    assert "&lt;b&gt;x" in html


def test_unknown_group_is_listed_as_not_compared(unbiased):
    text = text_of(page(of_one(unbiased)))
    assert "unknown not compared" in text
    assert "the annotation does not say who they are" in text


def test_the_search_for_the_worst_subgroup_is_on_the_page_without_crossings(unbiased):
    """It was in the terminal alone."""
    assert unbiased["scan"]["searched"] > 0
    alone = {name: found for name, found in unbiased["attributes"].items() if "×" not in name}
    text = text_of(intersections(Findings.of(of_one({**unbiased, "attributes": alone}))))
    assert "No subgroup stands out in a search over" in text
    assert "Combinations of attributes were not compared" in text


def test_the_page_says_why_annotation_quality_was_not_measured(unbiased):
    """It said "run the audit again", which gives the same."""
    nothing = {"conflicts": [], "agreement": [], "measured_sensitivity": [], "sensitivity": []}
    text = text_of(annotation(Findings.of({**of_one(unbiased), "annotation": {"corpus": nothing}})))
    assert "was not measured: no two groups are large enough to be compared" in text
    assert "was not measured. Run the audit again" in text_of(annotation(Findings.of(of_one(unbiased))))


def test_undefined_values_are_shown_as_not_enough_data():
    table = corpus(1)
    table["group"] = np.where((table["gender"] == "female") & (table["label"] == 1), "only fakes", "others")
    found = audit_predictions(table, ["group"], **FAST).to_dict()
    assert "not enough data" in text_of(page(of_one(found)))


def test_several_datasets_are_summed_up_first_and_skipped_ones_named(tmp_path, unsaved_figures):
    first = corpus(0, tpr_dark=0.5)
    second = corpus(4).assign(dataset="second")
    third = corpus(5).assign(dataset="third", gender=None, skin_tone_group=None)
    audits, skipped = audit_datasets(pd.concat([first, second, third], ignore_index=True), BY, **FAST)
    path = write_page(write(audits, skipped, tmp_path / "run"), tmp_path / "run")
    text = text_of(path.read_text(encoding="utf-8"))
    assert "corpus: Fakes of dark-skinned people" in text
    assert "third: gender" in text
    found = json.loads((tmp_path / "run" / "fairness.json").read_text())
    assert sorted(found["datasets"]) == ["corpus", "second"]
    assert "A disparity was found" in section(found)
    long = pd.read_csv(tmp_path / "run" / "by_group.csv")
    assert list(long.columns[:7]) == ["dataset", "attribute", "group", "metric", "value", "lo", "hi"]
    assert set(long["dataset"]) == {"corpus", "second"}


def test_page_of_a_single_audit_is_written_where_asked(tmp_path):
    audit = audit_predictions(corpus(0), ["gender"], **FAST)
    write_page(fairness_record({"corpus": audit}), tmp_path / "x.html")
    assert "Fairness audit of a deepfake detector" in (tmp_path / "x.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("rate", "label"), [("fpr", "real"), ("fnr", "fake")])
def test_figure_holds_every_group_with_its_value_interval_and_size(biased, rate, label):
    display = DotDisplay.from_audit(biased, rate).plot()
    dots = display.points_
    groups = [entry for found in biased["attributes"].values() for entry in found["groups"]]
    assert [dot.get_xdata()[0] for dot in dots] == [entry[rate] for entry in groups]
    written = [text.get_text() for text in display.ax_.texts]
    for entry in groups:
        assert str(entry["support"][f"{label}_videos"]) in written
    assert display.ax_.get_xlim()[0] <= 0 < 1 <= display.ax_.get_xlim()[1]
    assert f"all: {100 * biased['overall'][rate]:.0f} %" in written


def test_figure_draws_small_groups_hollow(unbiased):
    display = DotDisplay.from_audit(unbiased, "fnr").plot()
    labels = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert "unknown" in labels
    faces = [line.get_markerfacecolor() for line in display.ax_.lines if line.get_marker() == "o"]
    assert faces.count("white") == 1


def test_groups_nobody_prepared_a_phrase_for_are_still_named():
    assert people("region", "north") == "people of region “north”"


def test_a_note_that_names_its_dataset_is_not_given_the_name_again_and_one_person_is_a_person():
    test = corpus(2, people=12).assign(dataset="A", split="test")
    test.loc[test["identity"] == "p0", "gender"] = "other"
    val = test.assign(video="v" + test["video"], split="val")
    audits, _ = audit_datasets(pd.concat([test, val]), BY, **FAST)
    text = text_of(page({"datasets": {name: one.to_dict() for name, one in audits.items()}}))
    assert "A: its" in text
    assert "A: A:" not in text
    assert "(1 person with" in text
    assert "1 people" not in text


def test_what_was_not_tested_is_said_once_in_its_row():
    found = audit_predictions(corpus(2, people=12), BY, **FAST).to_dict()
    rows = re.findall(r"<tr>.*?</tr>", page(of_one(found)), flags=re.DOTALL)
    untested = [row for row in rows if "gender: " in row and "not enough data" in row]
    assert untested
    assert all(row.count("not enough data") == 1 for row in untested)


def test_a_long_name_of_a_group_leaves_the_axes_their_room_and_breaks_in_tables():
    long = "a group whose name is a whole sentence, as forms of some clinics have it, and then some more"
    table = corpus(2).assign(dataset="A")
    table["gender"] = table["gender"].where(table["gender"] != "male", long)
    audit = audit_predictions(table, BY, **FAST).to_dict()
    text = page(of_one(audit))  # a warning of collapsed axes is an error
    drawn = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert any("a group whose…me more" in figure for figure in drawn)
    assert not any(f">{long}</text>" in figure for figure in drawn)
    cell = re.search(rf'<span style="([^"]*)"><span[^>]*></span>{long}', text)
    assert "nowrap" not in cell.group(1)
