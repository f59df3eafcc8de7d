"""What metrics.json and fairness.json hold is declared, kept whole, and checked when it is read."""

from __future__ import annotations

import json
from math import isnan
from typing import get_type_hints

import pandas as pd
import pytest
from report_fakes import scored

from unmasked.analysis.reports.run.folder import read_run
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation import records
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.fitted import fit_on_source
from unmasked.evaluation.metrics import METRICS, group_metrics
from unmasked.evaluation.thresholds import Threshold
from unmasked.evaluation.wording import interval_text
from unmasked.fairness import records as fairness
from unmasked.fairness.across import operating_points as across_thresholds
from unmasked.fairness.across.run import Beside, compare_across
from unmasked.fairness.run import audit_datasets, fairness_record


@pytest.fixture(scope="module")
def table():
    return pd.concat([scored("A", split, 3.0, people=12) for split in ("val", "test")], ignore_index=True)


@pytest.fixture(scope="module")
def results(table):
    fitted = fit_on_source(table, ["eer", "fpr:0.10"], dataset="A")
    given = {"threshold": fitted.threshold, "thresholds": fitted.other_thresholds}
    given |= {"calibrations": fitted.calibrations, "band": fitted.band}
    return evaluate(table, **given, source="A", n_boot=20)


@pytest.fixture(scope="module")
def audits(table):
    return audit_datasets(table, ["skin_tone_group"], n_boot=20, n_perm=20, min_samples=20)[0]


@pytest.fixture(scope="module")
def audited(table, audits):
    beside = Beside(thresholds=[Threshold(0.6, "eer")])
    return fairness_record(audits, {}, compare_across(table, audits, beside))


def test_results_are_read_back_as_they_were_written(results, tmp_path):
    write_json(tmp_path / "metrics.json", results)
    again = read_run(tmp_path).metrics
    write_json(tmp_path / "again/metrics.json", again)
    both = [json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, tmp_path / "again")]
    assert both[0] == both[1]
    half = again["datasets"]["A"]["video"]["at_half"]
    assert isnan(half["fitted_fpr"])  # null in the file: 0.5 was fitted on nothing
    assert both[0]["datasets"]["A"]["video"]["at_half"]["fitted_fpr"] is None


def test_a_null_that_is_no_number_stays_nothing(results, tmp_path):
    bare = evaluate(scored("A", "test", 3.0, people=6).drop(columns="identity"), n_boot=0)
    write_json(tmp_path / "metrics.json", bare)
    assert read_run(tmp_path).metrics["datasets"]["A"]["n"]["identities"] is None


def test_keys_that_no_record_declares_are_kept(results, audited, tmp_path):
    results = {**results, "inputs": {"predictions": "ab" * 32}}
    results["settings"] = {**results["settings"], "sha256": "cd" * 32}
    write_json(tmp_path / "metrics.json", results)
    again = read_run(tmp_path).metrics
    assert again["inputs"] == {"predictions": "ab" * 32}
    assert again["settings"]["sha256"] == "cd" * 32
    write_json(tmp_path / "fairness.json", {**audited, "inputs": ["ef"]})
    assert fairness.read(tmp_path / "fairness.json")["inputs"] == ["ef"]


def undeclared(value, record, metrics):
    """Keys of a written block that its record does not declare and that are no metric's."""
    suffixes = ("", "_ci", "_clean", "_change", "_change_ci")
    known = {f"{name}{suffix}" for name in metrics for suffix in suffixes}
    return set(value) - set(get_type_hints(record)) - known


def test_what_is_written_is_declared(results, audited):
    block = results["datasets"]["A"]
    audit = audited["datasets"]["A"]
    attribute = audit["attributes"]["skin_tone_group"]
    point = audit["operating_points"][0]
    for value, record in (
        (results, records.Results),
        (results["settings"], records.Settings),
        (results["matrix"][0], records.MatrixRow),
        (block, records.DatasetResults),
        (block["video"], records.LevelResults),
        (block["video"]["at_half"], records.AppliedThreshold),
        (block["video"]["abstention"], records.Abstention),
        (block["methods"]["Deepfakes"], records.MethodResults),
        (audited, fairness.FairnessResults),
        (audit, fairness.AuditResults),
        (audit["settings"], fairness.AuditSettings),
        (audit["overall"], fairness.Everybody),
        (attribute, fairness.AttributeResults),
        (attribute["groups"][0], fairness.GroupResults),
        (attribute["tests"][0], fairness.Test),
        (audit["bench"]["attributes"]["skin_tone_group"], fairness.BenchMeasures),
        (point, fairness.OperatingPoint),
        (point["attributes"]["skin_tone_group"][0], fairness.GroupAtThreshold),
        (audit["strata"][0], fairness.Stratified),
        (audited["annotation"]["A"], fairness.AnnotationQuality),
    ):
        metrics = METRICS if record.__module__.endswith("evaluation.records") else group_metrics()
        assert not undeclared(value, record, metrics), record


def test_audits_are_read_back_as_they_were_written(audited, tmp_path):
    write_json(tmp_path / "fairness.json", audited)
    again = fairness.read(tmp_path / "fairness.json")
    write_json(tmp_path / "again" / "fairness.json", again)
    both = [json.loads((folder / "fairness.json").read_text()) for folder in (tmp_path, tmp_path / "again")]
    assert both[0] == both[1]
    tests = again["datasets"]["A"]["attributes"]["skin_tone_group"]["tests"]
    assert all(test["worst_group"] is None or isinstance(test["worst_group"], str) for test in tests)


def test_the_audits_own_threshold_is_not_measured_again(audits, monkeypatch):
    monkeypatch.setattr(across_thresholds, "estimates", None)
    audit = audits["A"]
    (point,) = across_thresholds.operating_points(audit, [Threshold(audit.settings.threshold, "given")])
    for one in point["attributes"]["skin_tone_group"]:
        place = ("skin_tone_group", one["group"])
        assert one["fpr"] == audit.by_group.loc[place, "fpr"]
        assert one["tpr_ci"] == [limits.loc[place, "tpr"] for limits in audit.by_group_ci]


def test_the_file_of_a_single_audit_is_read_as_that_of_one_dataset(audited, tmp_path):
    write_json(tmp_path / "audit.json", audited["datasets"]["A"])
    found = fairness.read(tmp_path / "audit.json")
    assert list(found["datasets"]) == ["A"]
    assert found["datasets"]["A"]["verdicts"] == audited["datasets"]["A"]["verdicts"]


def test_files_of_0_1_are_read_without_the_keys_that_came_later(results, audited, tmp_path):
    write_json(tmp_path / "metrics.json", results)
    found = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("reason", "reading", "aggregations", "bench"):
        del found["datasets"]["A"][name]
    del found["settings"]["rows"]
    write_json(tmp_path / "metrics.json", found)
    assert (
        read_run(tmp_path).metrics["datasets"]["A"]["video"]["auc"]
        == results["datasets"]["A"]["video"]["auc"]
    )
    write_json(tmp_path / "fairness.json", audited)
    old = json.loads((tmp_path / "fairness.json").read_text())
    for name in ("rows", "score_resamples", "threshold_rule"):
        old["datasets"]["A"]["settings"].pop(name)
    for one in old["datasets"]["A"]["attributes"]["skin_tone_group"]["calibration"]:
        del one["low"], one["high"]
    write_json(tmp_path / "fairness.json", old)
    assert "rows" not in fairness.read(tmp_path / "fairness.json")["datasets"]["A"]["settings"]


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("datasets", "A", "n", "videos"), "many", "datasets.A.n.videos: Input should be a valid integer"),
        (("matrix",), {}, "matrix: Input should be a valid list"),
        (("settings", "rows"), 3, "settings.rows: Input should be a valid list"),
        (("datasets", "A", "video", "auc_ci"), [0.5], "datasets.A.video.auc_ci: List should have at least 2"),
    ],
)
def test_a_file_whose_key_holds_something_else_is_named_with_the_key(results, tmp_path, place, value, told):
    inside = found = json.loads(json.dumps(results))
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    write_json(tmp_path / "metrics.json", found)
    with pytest.raises(InputError, match=r"run `unmasked evaluate` again") as refused:
        read_run(tmp_path)
    assert told in str(refused.value)


def test_an_interval_of_one_number_is_refused_where_no_record_declares_it():
    with pytest.raises(InputError, match="two ends, not 1"):
        interval_text([0.3], "{:.2f}".format)


def test_what_a_file_lacks_is_said_at_once(tmp_path):
    write_json(tmp_path / "metrics.json", {"matrix": []})
    with pytest.raises(InputError, match="has no datasets and settings; run"):
        read_run(tmp_path)
