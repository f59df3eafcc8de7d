"""The parts about decisions, changed videos and several detectors, and the figures with their numbers."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from report_fakes import SOURCE, UNSEEN, Reader, table_of, write_run
from typer.testing import CliRunner

from unmasked.analysis.reports.run.decisions import broken_promises, list_realised, lost_fakes
from unmasked.analysis.reports.run.folder import read_run
from unmasked.analysis.reports.run.page import page, write_report
from unmasked.analysis.reports.run.robustness import find_hidden_drift, tell_understated, worst_words
from unmasked.app.cli import app
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.wording import count_in_100, value_text

NEWER = ("reliability", "calibration", "abstention", "at_threshold", "at_thresholds", "at_half", "confusion")


def shifted(table, by):
    """The same rows with every logit moved: AUC cannot see it, a stored threshold does."""
    logit = np.log(table["score"] / (1 - table["score"]))
    return table.assign(score=1 / (1 + np.exp(-logit - by)))


def changed(table):
    """Test rows after JPEG, which moves all scores alike, and after a blur that leaves nothing of them."""
    test = table[table["split"] == "test"]
    noise = np.random.default_rng(0).uniform(0.3, 0.7, len(test))
    return pd.concat(
        [
            table.assign(perturbation=None, severity=None),
            shifted(test, 1.0).assign(perturbation="jpeg", severity=1),
            shifted(test, 2.5).assign(perturbation="jpeg", severity=3),
            test.assign(score=noise, perturbation="gaussian_blur", severity=5),
        ],
        ignore_index=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    table = table_of()
    reals = (table["dataset"] == UNSEEN) & (table["label"] == 0)
    # Reals of the unseen dataset score like fakes: no threshold of the source's holds there.
    table.loc[reals, "score"] = shifted(table[reals], 2.5)["score"]
    found = write_run(tmp_path_factory.mktemp("parts"), changed(table), audited=False)
    write_report(found)
    return found


@pytest.fixture(scope="module")
def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def text(folder):
    return Reader((folder / "report.html").read_text(encoding="utf-8"))


def test_every_figure_is_an_svg_with_its_numbers_beside_it(folder):
    written = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert written == {path.stem for path in (folder / "figures").glob("*.csv")}
    assert written >= {"matrix", "roc", "det", "precision_recall", "thresholds_fpr", "thresholds_tpr"}
    assert written >= {"risk_coverage", "robustness_jpeg", "robustness_gaussian_blur"}
    assert written >= {f"{kind}_{UNSEEN}" for kind in ("scores", "methods", "reliability")}
    for path in (folder / "figures").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    for path in (folder / "figures").glob("*.csv"):
        assert len(pd.read_csv(path)), path


def test_csv_holds_the_numbers_of_the_metrics(folder, metrics):
    matrix = pd.read_csv(folder / "figures" / "matrix.csv")
    assert list(matrix["auc"]) == pytest.approx([row["auc"] for row in metrics["matrix"]], rel=1e-12)
    jpeg = pd.read_csv(folder / "figures" / "robustness_jpeg.csv")
    expected = [row["fpr"] for row in metrics["robustness"] if row["perturbation"] == "jpeg"]
    assert sorted(jpeg["fpr"]) == pytest.approx(sorted(expected), rel=1e-12)
    reliability = pd.read_csv(folder / "figures" / f"reliability_{UNSEEN}.csv")
    stored = metrics["datasets"][UNSEEN]["video"]["reliability"]
    assert list(reliability["share_fake"]) == pytest.approx(stored["share_fake"], rel=1e-12)
    assert list(reliability["n"]) == stored["n"]


def test_every_figure_has_words_for_who_cannot_see_it(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count('class="plot"') == len(re.findall(r"<title[^>]+-alt\">[^<]{15,}</title>", page))
    assert f"FPR ≤ 10 % on {UNSEEN}: " in page


def test_limit_that_is_broken_elsewhere_is_said_and_marked(folder, metrics, text):
    point = metrics["datasets"][UNSEEN]["video"]["at_thresholds"]["fpr:0.10"]
    assert point["fpr_ci"][0] > 0.10
    said = f"Chosen to call at most 10 of 100 reals fake, it calls {count_in_100(point['fpr'])} on {UNSEEN}."
    assert said in text["thresholds"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    low, high = point["fpr_ci"]
    cell = f'{point["fpr"]:.2f} <span class="interval">[{low:.2f}, {high:.2f}]</span>'
    assert f'<td data-of="reals called fake (FPR)" class="highlight">{cell}</td>' in page


def test_every_rule_is_shown_on_every_dataset_with_what_was_to_be_expected(folder, metrics, text):
    run = read_run(folder)
    found = list_realised(run, "fpr")
    rules = ["FPR ≤ 10 %", "FPR ≤ 5 %", "errors equal", "fixed at 0.5"]
    assert [(one.rule, one.dataset) for one in found] == [
        (rule, name) for rule in rules for name in (SOURCE, UNSEEN)
    ]
    expected = [one.expected for one in found][::2]
    assert expected[:2] == [0.10, 0.05]
    assert expected[2] == metrics["settings"]["threshold"]["fpr"]
    assert np.isnan(expected[3])
    assert all(rule in text["thresholds"] for rule in rules)


def test_fakes_that_are_lost_are_counted_beside_those_of_the_source(tmp_path):
    table = table_of()
    unseen = table["dataset"] == UNSEEN
    table.loc[unseen, "score"] = shifted(table[unseen], -3)["score"]
    run = read_run(write_run(tmp_path, table, audited=False))
    tpr = run.metrics["datasets"][UNSEEN]["video"]["tpr"]
    assert f"but {count_in_100(tpr)} on {UNSEEN}" in lost_fakes(run)
    assert not any(UNSEEN in words for words in broken_promises(run))


def test_shift_that_auc_cannot_see_is_said_to_be_hidden(metrics, text):
    found = find_hidden_drift(metrics["robustness"])
    assert {record["perturbation"] for record, _ in found} == {"jpeg"}
    worst, rate = found[0]
    assert worst["severity"] == 3
    said = text["robustness"]
    assert f"The AUC alone would hide it in {len({id(record) for record, _ in found})} of 6" in said
    assert f"{count_in_100(worst[rate])} of 100" in said
    assert "JPEG compression (quality 50)" in said


def test_largest_harm_is_told_with_its_interval_and_on_the_first_screen(metrics, text):
    told = worst_words(metrics["robustness"], "fpr")
    assert told in text["answer"]
    assert told in text["robustness"]
    shown = [row for row in metrics["robustness"] if row["fpr_change_ci"][0] > 0]
    worst = max(shown, key=lambda row: row["fpr_change"])
    assert f"{count_in_100(worst['fpr'])} of 100 real videos are called fake" in told
    assert "95 % interval" in told
    assert tell_understated([worst | {"auc_change": -0.5}]) == ""


def test_changes_that_are_not_shown_are_not_told():
    record = {"dataset": "A", "perturbation": "jpeg", "severity": 1, "where": "crop", "setting": "quality 90"}
    record |= {"auc": 0.9, "fpr": 0.2, "tpr": 0.8, "auc_change": 0.0, "fpr_change": 0.1, "tpr_change": -0.1}
    record |= {"fpr_change_ci": [-0.05, 0.2], "tpr_change_ci": [-0.2, 0.05], "auc_change_ci": [-0.1, 0.1]}
    assert worst_words([record], "fpr") == worst_words([record], "tpr") == tell_understated([record]) == ""
    assert find_hidden_drift([record]) == []


def test_band_and_curve_are_told_in_counts_of_100(metrics, text):
    block = metrics["datasets"][UNSEEN]["video"]["abstention"]
    assert f"of 100 answers {count_in_100(block['risk'])} are wrong" in text["abstention"]
    assert f"{UNSEEN}: {count_in_100(block['coverage'])} of 100 videos get an answer" in text["abstention"]


def test_empty_band_is_said_to_be(folder, metrics):
    empty = json.loads(json.dumps(metrics))
    for block in empty["datasets"].values():
        block["video"]["abstention"]["band"] = [0.4, 0.4]
    run = read_run(folder)
    run.metrics.update(empty)
    assert "Here it never does" in Reader(page(run, _figures(run)))["abstention"]


def _figures(run):
    from unmasked.analysis.reports.run.figures import draw_figures

    return draw_figures(run)


def test_calibrations_stand_beside_the_scores_as_they_are(metrics, text):
    found = metrics["datasets"][UNSEEN]["video"]["calibration"]
    for values in (found["temperature"]["before"], *(one["after"] for one in found.values())):
        assert f"{values['brier']:.3f}" in text["calibration"]
    assert f"fitted on {SOURCE}, val split" in text["calibration"]


def test_page_of_older_metrics_says_how_to_make_what_is_missing(folder, metrics, tmp_path):
    older = json.loads(json.dumps(metrics))
    older.pop("robustness")
    for block in older["datasets"].values():
        block.pop("aggregations")
        for level in ("frame", "video"):
            for key in NEWER:
                block[level].pop(key, None)
    write_json(tmp_path / "metrics.json", older)
    found = Reader(write_report(tmp_path).read_text(encoding="utf-8"))
    for section in ("absent", "calibration"):
        assert "unmasked evaluate" in found[section]
    assert {"abstention", "robustness"} < set(found.ids) - set(found.sections)
    assert "unmasked predict" in found["absent"]
    assert "errors equal" in found["thresholds"]


def test_without_robustness_and_fits_nothing_is_invented(tmp_path):
    table = table_of().drop(columns="split")
    found = Reader(page(read_run(write_run(tmp_path, table, audited=False))))
    fpr = read_run(tmp_path).metrics["datasets"][UNSEEN]["video"]["fpr"]
    assert f"fixed at 0.50.500{UNSEEN}–{fpr:.2f}" in found["thresholds"]
    assert "unmasked predict" in found["absent"]
    assert "not calibrated" in found["calibration"]
    assert not re.search(r"(?<![a-z])nan(?![a-z])", " ".join(found.sections.values()), re.IGNORECASE)


def test_published_numbers_stand_apart_from_measured_ones(folder, metrics, tmp_path):
    from unmasked.evaluation.published import load_published

    (source,) = load_published(["deepfakebench"])
    stated = json.loads(source.model_dump_json())
    write_json(tmp_path / "metrics.json", metrics)
    write_json(tmp_path / "published.json", {"published": [stated]})
    html = write_report(tmp_path).read_text(encoding="utf-8")
    tables = re.findall(r"<table>.*?</table>", html, re.DOTALL)
    theirs = [one for one in tables if "0.7527" in one]
    assert len(theirs) == 1
    assert "Reported by others, not measured here" in theirs[0]
    assert "95 % interval" not in theirs[0]


def test_severity_that_nobody_gave_is_left_out_of_the_curves(folder, metrics):
    run = read_run(folder)
    run.metrics["robustness"] = [
        row | {"perturbation": "fog", "severity": float("nan"), "setting": ""} for row in run.robustness[:1]
    ]
    figures = _figures(run)
    assert "robustness_fog" not in figures.drawings
    assert "Fog" in Reader(page(run, figures))["robustness"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    source = tmp_path_factory.mktemp("detectors")
    for name, trained, separation in (("UCF", SOURCE, 0.8), ("Xception", UNSEEN, 3.0)):
        table = table_of(unseen=separation).assign(detector=name, trained_on=trained)
        table.drop(columns="checkpoint").to_csv(source / f"{name}.csv", index=False)
    out = tmp_path_factory.mktemp("collection")
    for arguments in (
        ["evaluate", f"predictions={source}", f"out={out}", "n_boot=100"],
        ["report", f"run={out}"],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output + repr(result.exception)
    return out


def test_several_detectors_make_one_page_with_a_matrix(collection):
    metrics = json.loads((collection / "metrics.json").read_text())
    found = Reader((collection / "report.html").read_text(encoding="utf-8"))
    for row in metrics["protocols"]:
        if row["protocol"] == "cross_dataset":
            assert f"{row['auc']:.2f}" in found["answer"]
    assert f"UCF, trained on {SOURCE}: ranks a fake above a real video" in found["answer"]
    assert f"at worst, on {UNSEEN}" in found["answer"]
    matrix = pd.read_csv(collection / "figures" / "matrix.csv")
    assert len(matrix) == 4
    assert (collection / "figures" / "matrix.svg").is_file()
    assert set(metrics["detectors"]) == {"UCF", "Xception"}


def test_damaged_collection_is_named(tmp_path):
    from unmasked.analysis.reports.run.collection import write_collection_report

    write_json(tmp_path / "metrics.json", {"detectors": {}})
    with pytest.raises(InputError, match="run `unmasked evaluate` again"):
        write_collection_report(tmp_path)


def test_differences_below_zero_are_written_like_any_other_interval():
    assert value_text(-0.02, [-0.10, 0.05]) == "−0.02 [−0.10, 0.05]"
    assert value_text(0.2, [0.1, 0.3]) == "0.20 [0.10, 0.30]"
    assert "-0.00" not in value_text(0.0, [-0.001, 0.01])


def test_perturbed_rows_change_no_clean_number(metrics):
    table = table_of()
    assert evaluate(table, source=SOURCE, n_boot=10)["datasets"][SOURCE]["video"]["auc"] == pytest.approx(
        metrics["datasets"][SOURCE]["video"]["auc"]
    )
