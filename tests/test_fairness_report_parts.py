"""Every part of the fairness report: what it says, that it stands alone, and what its figures hold."""

import copy
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from fairness_findings import complete, of_one

from unmasked.analysis.figures.calibration import CalibrationDisplay
from unmasked.analysis.figures.curves import RocDisplay
from unmasked.analysis.figures.decisions import TradeOffDisplay
from unmasked.analysis.figures.dots import DotDisplay, ScoreDisplay
from unmasked.analysis.figures.robustness import RobustnessDisplay
from unmasked.analysis.html.page import Cell, heat_table
from unmasked.analysis.reports.fairness.findings import Findings
from unmasked.analysis.reports.fairness.page import PARTS, page, section
from unmasked.analysis.reports.fairness.surprises import surprises
from unmasked.datasets.documents import write_json
from unmasked.fairness import records

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "use", "circle", "rect"}
ACROSS = ("changes", "perturbations", "perturbation_gaps", "annotation", "mitigation")
ADDED = ("bench", "operating_points", "strata")


class Reader(HTMLParser):
    """Text by section, headings, ids, addresses, and whether every tag that opens also closes."""

    def __init__(self, html):
        super().__init__()
        self.text, self.headings, self.ids, self.addresses, self.tags = {}, [], [], [], set()
        self.open, self.unlabelled, self.section, self.level = [], 0, "", 0
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("href", "src") if name in values]
        if tag == "section":
            self.section = values["id"]
        if tag == "svg":
            self.unlabelled += not (values.get("role") == "img" and values.get("aria-labelledby"))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        self.section = "" if tag == "section" else self.section

    def handle_data(self, text):
        if self.section:
            self.text[self.section] = f"{self.text.get(self.section, '')}{text} "

    def __getitem__(self, name):
        return " ".join(self.text[name].replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def found():
    return complete()


@pytest.fixture(scope="module")
def html(found):
    return page(found)


@pytest.fixture(scope="module")
def read(html):
    return Reader(html)


def without(found, *names):
    kept = {name: value for name, value in found.items() if name not in names}
    kept["datasets"] = {
        dataset: {name: value for name, value in audit.items() if name not in names}
        for dataset, audit in found["datasets"].items()
    }
    return kept


NAMES = [name for name, *_ in PARTS]


def shown_parts(read):
    """The parts that are folded; every other one is in the list of what was not looked at."""
    shown = [name for name in NAMES if name in read.text]
    assert list(read.text) == ["first", *shown, *(["absent"] if shown != NAMES else [])]
    assert set(NAMES) <= set(read.ids)
    return shown


def test_every_part_has_a_section_and_text(read):
    assert shown_parts(read) == NAMES
    assert all(len(text) > 80 for text in read.text.values())


def test_page_is_well_formed_with_headings_in_order_and_ids_used_once(read):
    assert read.headings[0] == 1
    assert all(after <= before + 1 for before, after in zip(read.headings, read.headings[1:], strict=False))
    assert len(read.ids) == len(set(read.ids))


def test_page_of_one_dataset_has_headings_in_order_and_names_no_dataset_twice(found, unsaved_figures):
    name, audit = next(iter(found["datasets"].items()))
    read = Reader(page(of_one(audit, name)))
    assert {"answer", "about", "support", "groups", "limits"} <= set(shown_parts(read))
    assert all(after <= before + 1 for before, after in zip(read.headings, read.headings[1:], strict=False))
    assert f"{name}:" not in read["answer"]


def test_page_needs_neither_network_nor_script_and_its_links_lead_somewhere(read, html):
    assert not {"script", "iframe", "object", "embed", "form", "img"} & read.tags
    assert all(address.startswith(("#", "data:")) for address in read.addresses)
    assert {address[1:] for address in read.addresses if len(address) > 1 and address[0] == "#"} <= set(
        read.ids
    )
    assert not re.search(r"url\((?!#)|@import", html)


def test_every_figure_says_in_words_what_it_shows(read, html):
    assert read.unlabelled == 0
    assert html.count("<svg") > 10


def test_page_survives_a_round_trip_through_json(found, html, tmp_path):
    write_json(tmp_path / "fairness.json", found)
    assert page(records.read(tmp_path / "fairness.json")) == html


def test_parts_whose_results_are_absent_say_how_to_make_them(found, unsaved_figures):
    bare = Reader(page(without(found, *ACROSS, *ADDED)))
    assert set(NAMES) - set(shown_parts(bare)) >= {"perturbations", "mitigation"}
    assert "Only one threshold was audited" in bare["thresholds"]
    assert "thresholds=thresholds.json" in bare["thresholds"]
    assert "method" in bare["breakdowns"]
    assert "source=NAME" in bare["breakdowns"]
    assert "perturbation" in bare["absent"]
    assert "unmasked mitigate" in bare["absent"]


def test_the_rows_that_count_and_fewer_resamples_of_large_groups_are_said(found, read, unsaved_figures):
    for name, audit in found["datasets"].items():
        assert all(f"{name}: {words}" in read["about"] for words in audit["settings"]["rows"])
    assert "200 bootstrap resamples and" in read["about"]
    large = copy.deepcopy(found)
    for audit in large["datasets"].values():
        audit["settings"]["group_resamples"] = 60
    assert (
        "200 bootstrap resamples (60 of each group, as there are many rows) and"
        in Reader(page(large))["about"]
    )


def test_report_of_an_earlier_audit_without_the_later_figures_is_still_drawn(found, unsaved_figures):
    old = json.loads(json.dumps(without(found, *ACROSS, *ADDED), default=float))
    for audit in old["datasets"].values():
        del audit["overall"]["ece"]
        audit["constant_detector"].pop("fairlearn", None)
        for part in audit["attributes"].values():
            for name in ("spread", "scores", "calibration", "cross_auc"):
                part.pop(name, None)
    read = Reader(page(old))
    assert "ECE" not in read["groups"]
    assert "no distributions of scores" in read["absent"]


@pytest.mark.parametrize(
    "part", ["thresholds", "scores", "intersections", "breakdowns", "perturbations", "compatibility"]
)
def test_no_fairness_figure_stands_without_utility_and_the_constant_detector(read, part):
    assert "How good it is at all here: AUC" in read[part]
    assert "calling everything fake: 50 %" in read[part]


def test_answer_has_verdict_gap_chance_and_the_worst_group_beside_utility(read):
    assert "Every comparison: Celeb-DF-v2" in read["answer"]
    assert "if everything were called fake" in read["answer"]
    assert "balanced accuracy, worst group" in read["answer"]
    row = r"skin tone: fakes missed disparity dark (light|medium) \d+ \[\d+, \d+\]"
    assert re.search(row, read["answer"])


def test_about_names_detector_weights_annotation_threshold_and_software(read):
    for wanted in ("UCF", "ab" * 32, "AI-Face v2", "0.500", "unmasked 0", "fairlearn", "seed 0"):
        assert wanted in read["about"]


def test_groups_left_out_for_one_reason_stand_together(read):
    assert "gender × skin tone: every group left out of FPR" in read["support"]
    assert "too few to compare" in read["support"]


def test_thresholds_tell_rule_origin_and_both_rates(read):
    assert "at most 10 % of reals called fake, on FaceForensics++, val split" in read["thresholds"]
    assert "fakes found (TPR)" in read["thresholds"]


def test_breakdowns_show_levels_pooled_average_and_what_pooling_hides(read):
    text = read["breakdowns"]
    assert "Pooling hides a difference" in text
    assert "Deepfakes 30 [10, 50] worst: dark 36 videos, p 0.01" in text
    assert "mean of the levels 28" in text
    assert "FaceForensics++ → Celeb-DF-v2" in text
    assert "+35 [+10, +60]" in text


def test_compatibility_names_dropped_groups_and_the_constant_detector(read):
    text = read["compatibility"]
    assert "child: dropped by these formulas (only real)" in text
    assert "gender (2 groups) 12.345 12.345" in text
    assert "everything called fake 0.000" in text
    assert "equalized odds difference" in text


def test_mitigation_tells_price_levelling_down_and_lots(read):
    text = read["mitigation"]
    assert "40 → 10" in text
    assert "82 % → 81 %" in text
    assert "only others lose (levelling down)" in text
    assert "the same video can get two answers" in text
    assert "with no group known" in text


def test_mitigation_without_groups_to_compare_has_a_table_and_no_figure(found, unsaved_figures):
    unknown = copy.deepcopy(found)
    for one in unknown["mitigation"]["methods"]:
        one["before"] |= {"gap": float("nan")}
        one["after"] |= {"gap": float("nan")}
    text = Reader(page(unknown))["mitigation"]
    assert "no figure of gap against use" in text
    assert "1 a threshold for each group –" in text


def test_section_is_a_fragment_that_links_to_the_report_and_to_its_parts(found):
    html = section(found)
    assert "<html" not in html
    assert "<h2" not in html
    assert 'href="fairness.html"' in html
    anchors = set(re.findall(r'href="fairness.html#([a-z]+)"', html))
    assert anchors == {"breakdowns", "perturbations", "annotation", "mitigation"}


def test_nothing_stands_out_where_no_interval_leaves_out_zero(found):
    calm = without(found, *ACROSS, *ADDED)
    calm["changes"] = [{**one, "change_ci": [-0.1, 0.6]} for one in found["changes"]]
    assert surprises(Findings.of(calm)) == ""


def test_a_perturbation_is_told_of_a_group_only_where_another_is_hit_less(found):
    """Noise that made reals of everybody fake was told as a finding about women."""
    told = str(surprises(Findings.of(found)))
    assert "blur at severity 5 changes how often real videos of dark-skinned people are called fake" in told
    assert "by +50 points, and of light-skinned people by +20:" in told
    assert "30 points more (95 % interval [5, 50], p = 0.01" in told
    everybody = copy.deepcopy(found)
    for one in everybody["perturbation_gaps"]:
        one["p_adjusted"] = 0.5
    assert "blur at severity" not in str(surprises(Findings.of(everybody)))
    old = without(found, "perturbation_gaps")
    assert "blur at severity" not in str(surprises(Findings.of(old)))


def test_a_group_has_one_colour_in_tables_and_figures(found, html):
    findings = Findings.of(found)
    for group in ("light", "medium", "dark", "female", "male"):
        name = "gender" if group in ("female", "male") else "skin_tone_group"
        swatches = set(re.findall(rf"background: (#\w+)\"></span>{group}</span>", html))
        assert swatches == {findings.colour(name, group)}
    display = DotDisplay.from_points(
        found["datasets"]["Celeb-DF-v2"]["operating_points"],
        "skin_tone_group",
        "tpr",
        findings.colours["skin_tone_group"],
    ).plot()
    dots = [line.get_markeredgecolor() for line in display.ax_.lines if line.get_marker() == "o"]
    assert dots[:3] == [findings.colour("skin_tone_group", name) for name in ("light", "medium", "dark")]


def test_threshold_figure_holds_each_rate_its_size_and_what_was_aimed_at(found):
    points = found["datasets"]["Celeb-DF-v2"]["operating_points"]
    display = DotDisplay.from_points(points, "gender", "fpr", {"female": "red", "male": "blue"}).plot()
    assert [point.get_xdata()[0] for point in display.points_] == [
        entry["fpr"] for point in points for entry in point["attributes"]["gender"]
    ]
    targets = list(display.expected.values())
    assert targets[1] == 0.1
    assert np.isnan([targets[0], targets[2]]).all()
    assert [text.get_text() for text in display.ax_.texts].count("18") == 6


def test_roc_from_histograms_is_exact_at_their_edges():
    scores = [
        {"group": "a", "label": 0, "edges": [0, 0.5, 1], "counts": [3, 1]},
        {"group": "a", "label": 1, "edges": [0, 0.5, 1], "counts": [1, 4]},
        {"group": "only fakes", "label": 1, "edges": [0, 0.5, 1], "counts": [1, 4]},
    ]
    support = {"real_videos": 4, "fake_videos": 5}
    groups = [
        {"group": name, "auc": 0.8, "auc_ci": [0.6, 0.9], "support": support} for name in ("a", "only fakes")
    ]
    display = RocDisplay.from_groups(scores, groups, {}).plot()
    assert list(display.curves) == ["a"]
    curve = display.curves["a"]
    np.testing.assert_allclose([curve["fpr"], curve["tpr"]], [[0, 0.25, 1], [0, 0.8, 1]])
    assert list(curve["threshold"]) == [1, 0.5, 0]
    assert display.ax_.texts[0].get_text() == "a\nAUC 0.80 [0.60, 0.90]\nn = 4 + 5"


def test_ridges_and_calibration_hold_their_counts(found):
    part = found["datasets"]["FaceForensics++"]["attributes"]["gender"]
    ridges = ScoreDisplay.from_groups(part["scores"], 0.5, {}).plot()
    assert {"60 + 60", "real + fake"} <= {text.get_text() for text in ridges.ax_.texts}
    empty = {"group": "none", "score": [], "share_fake": [], "n": []}
    curves = CalibrationDisplay.from_groups([*part["calibration"], empty], {}).plot()
    assert list(curves.curves) == ["female", "male"]
    assert "female, n = 90" in [text.get_text() for text in curves.ax_.get_legend().get_texts()]


def test_calibration_of_many_groups_has_a_panel_for_each_on_one_scale(found):
    """Eleven lines on one pair of axes could not be told apart."""
    (one, *_) = found["datasets"]["FaceForensics++"]["attributes"]["gender"]["calibration"]
    display = CalibrationDisplay.from_groups([one | {"group": f"group {place}"} for place in range(11)], {})
    panels = [axes for axes in display.plot().figure_.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [f"group {place}\nn = 90" for place in range(11)]
    assert {axes.get_xlim() + axes.get_ylim() for axes in panels} == {(0, 1, 0, 1)}
    for axes, points in zip(panels, display.points_, strict=True):
        assert points.axes is axes
        np.testing.assert_allclose(points.get_offsets(), np.column_stack([one["score"], one["share_fake"]]))


def test_counts_beside_a_histogram_are_clear_of_its_bars(found):
    part = found["datasets"]["FaceForensics++"]["attributes"]["gender"]
    scores = [entry | {"counts": [1000 * count for count in entry["counts"]]} for entry in part["scores"]]
    display = ScoreDisplay.from_groups(scores, 0.5, {}).plot()
    display.figure_.draw_without_rendering()
    right = display.ax_.get_window_extent().x1
    counts = [text for text in display.ax_.texts if "+" in text.get_text()]
    assert "60,000 + 60,000" in {text.get_text() for text in counts}
    assert all(text.get_window_extent().x0 > right for text in counts)


def test_perturbation_lines_start_at_the_clean_rate(found):
    entries = [
        one for one in found["perturbations"] if (one["perturbation"], one["metric"]) == ("jpeg", "fpr")
    ]
    display = RobustnessDisplay.from_entries(entries, "jpeg", {"dark": 12}, {}).plot()
    assert list(display.series("dark", "fpr")["severity"]) == [0, 1, 3, 5]
    assert display.series("dark", "fpr")["value"][0] == pytest.approx(0.2)
    assert "dark (n = 12)" in [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_remedies_that_would_cover_each_other_share_a_label():
    methods = {
        "1 a": {"gap": 0.1, "utility": 0.8},
        "2 b": {"gap": 0.11, "utility": 0.79},
        "3 c": {"gap": 0.3, "utility": 0.6},
        "4 undefined": {"gap": float("nan"), "utility": 0.6},
    }
    before = {"gap": 0.4, "utility": 0.82}
    display = TradeOffDisplay("FPR gap", "balanced accuracy", methods, before, {"3 c"}).plot()
    shown = [text.get_text() for text in display.ax_.texts if text.get_text()]
    assert shown[:2] == ["1, 2", "3"]
    assert "as it is" in shown
    assert "calls everything fake: 50\u00a0%" in shown


def test_the_detector_as_it_is_is_named_beside_no_number_of_a_remedy():
    same = {"gap": 0.4, "utility": 0.8}
    display = TradeOffDisplay(
        "FPR gap", "accuracy", {"a": same, "b": {"gap": 0.1, "utility": 0.7}}, same, set()
    )
    axes = display.plot().ax_
    axes.figure.canvas.draw()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    assert not boxes.pop("as it is").overlaps(boxes["1"])


def test_heat_table_escapes_names_and_darkens_with_the_value():
    cells = [Cell("1", "n 3\nn 4", 0.0), Cell("2", share=1.0), Cell("3", greyed=True)]
    html = heat_table([("<b>", cells)], ["a", "x", "y", "z"], "c")
    assert "&lt;b&gt;" in html
    assert "n 3<br>n 4" in html
    shades = re.findall(r"background: (#\w{6}); color: #1d2329\"", html)
    assert shades[0] == "#ffffff"
    assert shades[1] < shades[0]
    assert "repeating-linear-gradient" in html


def test_the_front_holds_what_nothing_beats_in_both_and_no_remedy_that_levels_down():
    methods = {"a": {"gap": 0.2, "utility": 0.8}, "b": {"gap": 0.25, "utility": 0.7}}
    methods |= {"c": {"gap": 0.05, "utility": 0.6}, "down": {"gap": 0.0, "utility": 0.75}}
    before = {"gap": 0.4, "utility": 0.82}
    display = TradeOffDisplay("FPR gap", "balanced accuracy", methods, before, {"down"})
    assert display.front() == [(0.05, 0.6), (0.2, 0.8), (0.4, 0.82)]
