"""Audits within control features: fairlearn's numbers, and gaps that pooling makes up."""

import json

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, false_positive_rate, true_positive_rate

from unmasked.datasets.errors import InputError
from unmasked.evaluation.thresholds import fit
from unmasked.fairness.audit import audit

METRICS = {"fpr": false_positive_rate, "tpr": true_positive_rate}
FAST = {"n_boot": 50, "n_perm": 99, "min_clusters": 1, "min_samples": 1}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 1200)
    return pd.DataFrame(
        {
            "label": label,
            "score": rng.beta(2 + 2 * label, 4 - 2 * label),
            "gender": rng.choice(["female", "male"], 1200),
            "age": rng.choice(["young", "adult", "senior"], 1200),
            "compression": rng.choice(["c23", "c40"], 1200),
            "method": rng.choice(["swap", "reenactment"], 1200),
        }
    )


def within(table, controls, features=("gender",), **options):
    return audit(
        table["label"],
        table["score"],
        sensitive_features=table[list(features)],
        control_features=table[controls],
        **FAST | options,
    )


@pytest.mark.parametrize("controls", [["compression"], ["compression", "method"]])
def test_levels_equal_fairlearns_control_features(table, controls):
    found = within(table, controls)
    expected = MetricFrame(
        metrics=METRICS,
        y_true=table["label"],
        y_pred=table["score"] > 0.5,
        sensitive_features=table["gender"],
        control_features=table[controls],
    )
    names = list(METRICS)
    assert found.control_levels == expected.control_levels == controls
    mine = found.by_group.xs("gender", level="attribute")[names]
    np.testing.assert_allclose(mine.loc[expected.by_group.index], expected.by_group, atol=1e-12)
    np.testing.assert_allclose(found.overall.loc[expected.overall.index, names], expected.overall, atol=1e-12)
    for part in ("difference", "ratio"):
        for method in ("between_groups", "to_overall"):
            mine = getattr(found, part)(method).xs("gender", level="attribute")[names]
            theirs = getattr(expected, part)(method)
            np.testing.assert_allclose(mine.loc[theirs.index], theirs, atol=1e-12)
    for part in ("group_min", "group_max"):
        mine = getattr(found, part)().xs("gender", level="attribute")[names]
        theirs = getattr(expected, part)()
        np.testing.assert_allclose(mine.loc[theirs.index], theirs.astype(float), atol=1e-12)


def test_pooled_audit_stands_beside_the_levels(table):
    found = within(table, ["compression"])
    plain = audit(table["label"], table["score"], sensitive_features=table["gender"], **FAST)
    pd.testing.assert_frame_equal(found.pooled.tests, plain.tests)
    beside = found.tests[found.tests["compression"] == "c40"]
    np.testing.assert_allclose(beside["pooled_gap"], plain.tests["gap"])
    assert found.verdicts[0].startswith("Within compression c23: ")


def test_all_levels_tests_are_one_family(table):
    found = within(table, ["compression"], ("gender", "age"))
    tested = found.tests.dropna(subset="p_value")
    assert len(tested) == 2 * 3 * 2  # levels, attributes with their crossing, rates
    smallest = tested["p_value"].idxmin()
    assert tested.loc[smallest, "p_adjusted"] == pytest.approx(min(1, 12 * tested["p_value"].min()))


def test_gap_that_only_compression_makes_is_gone_within_its_levels():
    # Men are filmed at c40 four times of five, women at c23; the detector errs at c40, on everybody.
    rng = np.random.default_rng(1)
    male = rng.integers(0, 2, 8000)
    strong = rng.random(8000) < np.where(male, 0.8, 0.2)
    label = rng.integers(0, 2, 8000)
    flagged = rng.random(8000) < np.where(label, 0.9, np.where(strong, 0.4, 0.05))
    found = audit(
        label,
        np.where(flagged, 0.8, 0.2),
        sensitive_features=pd.Series(np.where(male, "male", "female"), name="gender"),
        control_features=pd.Series(np.where(strong, "c40", "c23"), name="compression"),
        n_boot=100,
        n_perm=499,
    )
    pooled = found.pooled.tests.set_index("metric").loc["fpr"]
    assert pooled["verdict"] == "disparity"
    assert pooled["gap"] > 0.15
    levels = found.tests[found.tests["metric"] == "fpr"]
    assert "disparity" not in levels["verdict"].tolist()
    assert (levels["gap"] < 0.05).all()


def test_group_that_is_absent_from_a_level_is_undefined_there(table):
    odd = table[(table["compression"] == "c23") | (table["age"] != "senior")]
    found = within(odd, ["compression"], ("age",))
    assert np.isnan(found.by_group.loc[("c40", "age", "senior"), "fpr"])
    assert found.support.loc[("c40", "age", "senior"), "clusters"] == 0
    assert not found.in_gap.loc[("c40", "age", "senior")].any()


def test_level_of_one_class_has_no_gap_in_the_other(table):
    odd = table[(table["compression"] == "c23") | (table["label"] == 1)]
    found = within(odd, ["compression"]).tests.set_index(["compression", "metric"])
    assert found.loc[("c40", "fpr"), "verdict"] == "not enough data"
    assert found.loc[("c40", "tpr"), "gap"] >= 0


def test_rows_of_unknown_level_count_in_the_pooled_audit_only(table):
    odd = table.assign(compression=table["compression"].where(table.index >= 100))
    found = within(odd, ["compression"])
    assert found.overall_support["clusters"].sum() == 1100
    assert found.pooled.overall_support["clusters"] == 1200


def test_dictionary_holds_the_pooled_audit_and_every_level(table, tmp_path):
    found = within(table, ["compression"])
    found.to_json(tmp_path / "fairness.json")
    read = json.loads((tmp_path / "fairness.json").read_text())
    assert read["control"]["features"] == ["compression"]
    first = read["control"]["levels"][0]
    assert first["level"] == {"compression": "c23"}
    female = first["attributes"]["gender"]["groups"][0]
    assert female["fpr"] == found.by_group.loc[("c23", "gender", "female"), "fpr"]
    assert read["overall"]["fpr"] == found.pooled.overall["fpr"]
    assert set(found.to_long()["compression"]) == {"c23", "c40"}
    assert found.to_metricframe("gender").control_levels == ["compression"]


@pytest.mark.parametrize(
    ("control", "message"),
    [
        (pd.Series(["a", "b"]), "control_features has 2 values but y_true has 1200"),
        ({"gender": ["a", "b"] * 600}, "both a sensitive and a control feature"),
        ({"video": np.arange(1200).astype(str)}, "1200 levels together; at most 50"),
        ({"method": [None] * 1200}, "unknown in every row"),
    ],
)
def test_unusable_control_features_are_refused(table, control, message):
    with pytest.raises(InputError, match=message):
        audit(
            table["label"],
            table["score"],
            sensitive_features=table["gender"],
            control_features=control,
            **FAST,
        )


def test_threshold_fitted_on_the_source_decides_and_is_kept(table, tmp_path):
    rule = fit(table["label"], table["score"], "fpr:0.05", fitted_on="the source", level="frame")
    found = audit(table["label"], table["score"], sensitive_features=table["gender"], threshold=rule, **FAST)
    assert found.overall["fpr"] == pytest.approx(0.05, abs=0.002)
    assert found.settings.threshold == rule.value
    found.to_json(tmp_path / "fairness.json")
    settings = json.loads((tmp_path / "fairness.json").read_text())["settings"]
    assert settings["threshold_rule"]["rule"] == "fpr:0.05"
    assert settings["threshold_rule"]["fitted_on"] == "the source"
