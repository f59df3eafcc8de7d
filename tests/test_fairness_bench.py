"""The benches' gap metrics against the output of the benches' own code, and what they leave unsaid."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest

from unmasked.fairness.audit import audit
from unmasked.fairness.groups import CROSS
from unmasked.fairness.statistics.bench import MEASURES, bench_measures, bench_table

CASES = (
    *("01_balanced", "02_skewed_biased", "03_single_class_groups", "04_empty_groups", "05_tiny_groups"),
    *("06_ties_and_exact_half", "07_perfect", "08_constant_score", "09_celebdf_margins", "10_two_logits"),
)
# In each bench's own order.
GENDER = {"aiface": ["female", "male"], "fg": ["male", "female"]}
SECOND = {
    "aiface": ("tone", ["light", "medium", "dark"]),
    "fg": ("race", ["asian", "white", "black", "others"]),
}
AGE = ["child", "young", "adult", "middle", "senior"]
AGGREGATES = {
    "F_OAE_x100": ("F_OAE", "foae"),
    "AUC_gap_x100": (None, "inter_auc"),
    "FPR_gap_x100": (None, "inter_FPR"),
    "ErrorRate_gap_x100": (None, "inter_ErrorRate"),
    "F_DP_x100": ("F_DP", "F_DP"),
    "F_MEO_x100": ("F_MEO", "F_meo"),
}


@pytest.fixture
def cases(shared):
    return reference(shared)


@cache
def reference(shared):
    return json.loads((shared / "reference" / "fairness_reference.json").read_text())["cases"]


def people(case, bench):
    """Group names of a case, each attribute and the crossing, with the bench's order of groups."""
    given = case["input"]
    second, names = SECOND[bench]
    gender = np.array(["female", "male"], dtype=object)[given["gender"]]
    other = np.array(names, dtype=object)[given[second]]
    orders = {"gender": GENDER[bench], "second": names}
    columns = {"gender": gender, "second": other}
    if bench == "aiface":
        columns["age"], orders["age"] = np.array(AGE, dtype=object)[given["age"]], AGE
    columns["intersection"] = gender + CROSS + other
    orders["intersection"] = [f"{a}{CROSS}{b}" for a in GENDER[bench] for b in names]
    return columns, orders


def score_of(case, run):
    logit = np.array(case["input"]["logit"])
    if run == "fg_logit1_only":
        logit = np.array(case["input"]["logit2"])[:, 1]
    return 1 / (1 + np.exp(-logit))


RUNS = [(name, bench, bench) for name in CASES for bench in ("aiface", "fg")] + [
    ("10_two_logits", "aiface_softmax", "aiface"),
    ("10_two_logits", "fg_logit1_only", "fg"),
]


@pytest.mark.parametrize(("name", "run", "bench"), RUNS)
def test_metrics_equal_what_the_benches_own_code_printed(cases, name, run, bench):
    case = cases[name]
    label, score = np.array(case["input"]["y_true"]), score_of(case, run)
    columns, orders = people(case, bench)
    for attribute, expected in case[run]["aggregates"].items():
        found = bench_measures(label, score, columns[attribute], order=orders[attribute])
        assert len(found["groups"]) == expected["n_groups_used"]
        for theirs, (mine, printed) in AGGREGATES.items():
            assert found["printed"][printed] == pytest.approx(expected[theirs], abs=1e-9), (attribute, theirs)
            if mine:
                assert found[mine] == pytest.approx(expected[theirs], abs=1e-9), (attribute, theirs)
        assert found["printed"]["F_EFPR"] == pytest.approx(expected["F_EFPR"], abs=1e-9)
        assert found["printed"]["F_EO"] == pytest.approx(expected["F_EO"], abs=1e-9)
        assert found["F_FPR"] == pytest.approx(100 * expected["F_EFPR"], abs=1e-9)
        assert found["F_EO"] == pytest.approx(100 * expected["F_EO"], abs=1e-9)
    printed = case[run]["printed_5dp"]
    crossed = bench_measures(label, score, columns["intersection"])["printed"]
    assert crossed["F_S"] == pytest.approx(printed["F_S"], abs=6e-6)
    for number, attribute in enumerate(("gender", "second", "age"), start=1):
        if attribute in columns:
            found = bench_measures(label, score, columns[attribute], order=orders[attribute])["printed"]
            expected = printed[f"group_{number}"]
            assert found["F_G"] == pytest.approx(expected["F_G"], abs=6e-6)
            assert (found["F_G"] + crossed["F_S"]) / 2 == pytest.approx(expected["F_A"], abs=6e-6)
            if run != "aiface_softmax":  # its F_COV is not of the decision's logit
                assert found["F_COV"] == pytest.approx(expected["F_COV"], abs=6e-6)


@pytest.mark.parametrize("name", CASES)
def test_an_audits_bench_tables_name_the_groups_that_the_benches_drop(cases, name):
    case = cases[name]
    label, score = np.array(case["input"]["y_true"]), score_of(case, "aiface")
    columns, _ = people(case, "aiface")
    features = {"gender": columns["gender"], "tone": columns["second"], "age": columns["age"]}
    found = audit(label, score, sensitive_features=features, n_boot=10, n_perm=10).bench()
    skipped = {
        group.replace("nomale", "female").replace(",", CROSS) for group in case["aiface"]["skipped_groups"]
    }
    for number, tone in enumerate(("light", "medium", "dark"), start=1):
        skipped = {group.replace(f"skintone{number}", tone) for group in skipped}
    attributes = ("gender", "tone", "age", f"gender{CROSS}tone")
    dropped = {
        group
        for attribute in attributes
        for group, reason in found["attributes"][attribute]["dropped"].items()
        if reason != "no rows"
    }
    assert dropped == skipped
    for attribute, theirs in zip(attributes, ("gender", "second", "age", "intersection"), strict=True):
        assert found["attributes"][attribute]["F_MEO"] == pytest.approx(
            case["aiface"]["aggregates"][theirs]["F_MEO_x100"], abs=1e-9
        )
        constant = found["constant"][attribute]
        assert [constant[one] for one in MEASURES[:4]] == [0, 0, 0, 0]


def test_constant_detector_is_perfectly_fair_but_for_prevalence():
    rng = np.random.default_rng(0)
    label = (rng.random(4000) < np.repeat([0.3, 0.7], 2000)).astype(int)
    groups = pd.DataFrame({"gender": np.repeat(["female", "male"], 2000)})
    found = bench_table(label, rng.random(4000), groups)["constant"]["gender"]
    assert [found[name] for name in ("F_FPR", "F_EO", "F_MEO", "F_DP")] == [0, 0, 0, 0]
    assert 35 < found["F_OAE"] < 45
    assert found["auc"] == 0.5


def test_attribute_whose_groups_all_have_one_class_is_undefined_and_all_are_named():
    label = np.array([0, 0, 1, 1])
    found = bench_measures(label, np.array([0.1, 0.6, 0.7, 0.2]), ["a", "a", "b", "b"])
    assert all(np.isnan(found[name]) for name in MEASURES)
    assert found["groups"] == []
    assert found["dropped"] == {
        "a": "no fakes, only 2 real rows: dropped from every metric",
        "b": "no reals, only 2 fake rows: dropped from every metric",
    }


def test_empty_cells_of_a_crossing_and_unknown_rows_are_named():
    label = np.array([0, 1, 0, 1, 1])
    names = ["f × x", "f × x", "m × y", "m × y", "unknown"]
    dropped = bench_measures(label, np.array([0.1, 0.9, 0.2, 0.8, 0.5]), names)["dropped"]
    assert dropped["f × y"] == dropped["m × x"] == "no rows"
    assert dropped["unknown"].startswith("1 rows that nobody annotated")


def test_score_of_exactly_one_half_is_called_fake_as_in_the_benches():
    label = np.array([0, 1, 0, 1])
    found = bench_measures(label, np.array([0.5, 0.5, 0.4, 0.9]), list("aabb"))
    assert found["F_MEO"] == 100


def test_certain_scores_leave_the_covariance_of_logits_undefined():
    label = np.array([0, 1, 0, 1])
    found = bench_measures(label, np.array([0.0, 1.0, 0.4, 0.9]), list("aabb"))
    assert np.isnan(found["printed"]["F_COV"])
