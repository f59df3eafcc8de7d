"""Reals of one dataset against fakes of another: closed forms, scikit-learn, one meaning, every place."""

from __future__ import annotations

import json
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.cross_auc import cross_auc, cross_auc_tables, lowest_pair
from unmasked.evaluation.evaluate import evaluate
from unmasked.fairness.audit import audit

RUNNER = CliRunner()


def videos(
    dataset: str, shift: float, n: int = 60, apart: float = 1.5, seed: int = 0, **columns
) -> pd.DataFrame:
    """Two normal classes ``apart`` standard deviations apart, all moved by ``shift``; their quantiles."""
    if seed:
        draws = np.random.default_rng(seed).normal(size=2 * n)
    else:
        draws = np.tile([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)], 2)
    label = np.repeat([0, 1], n)
    logit = draws + apart * label + shift
    names = [f"{'fake' if is_fake else 'real'}/{i % n}" for i, is_fake in enumerate(label)]
    table = pd.DataFrame(
        {"dataset": dataset, "video": names, "label": label, "score": 1 / (1 + np.exp(-logit))}
    )
    return table.assign(**columns)


def pairs(rows):
    return {(row["reals"], row["fakes"]): row for row in rows}


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_two_normal_classes_have_the_closed_form(shift):
    """Both sets 1.5 sigma apart; B is moved: Phi((1.5 + s) / sqrt 2) and Phi((1.5 - s) / sqrt 2)."""
    rows = pd.concat([videos("A", 0, n=2000), videos("B", shift, n=2000)])
    found = pairs(cross_auc(rows, n_boot=0))
    phi = NormalDist().cdf
    assert found["A", "A"]["auc"] == pytest.approx(phi(1.5 / 2**0.5), abs=5e-4)
    assert found["B", "B"]["auc"] == pytest.approx(phi(1.5 / 2**0.5), abs=5e-4)
    assert found["A", "B"]["auc"] == pytest.approx(phi((1.5 + shift) / 2**0.5), abs=5e-4)
    assert found["B", "A"]["auc"] == pytest.approx(phi((1.5 - shift) / 2**0.5), abs=5e-4)


def test_a_pair_is_what_scikit_learn_says_and_its_own_is_that_of_evaluate():
    rows = pd.concat([videos("A", 0, seed=1), videos("B", 0.8, seed=2), videos("C", -0.5, seed=3)])
    results = evaluate(rows, n_boot=200)
    found = pairs(results["cross_auc"])
    assert len(found) == 9
    for (one, other), row in found.items():
        reals = rows[(rows["dataset"] == one) & (rows["label"] == 0)]["score"]
        fakes = rows[(rows["dataset"] == other) & (rows["label"] == 1)]["score"]
        expected = roc_auc_score(np.repeat([0, 1], [len(reals), len(fakes)]), [*reals, *fakes])
        assert row["auc"] == pytest.approx(expected)
        assert row["auc_ci"][0] < row["auc"] < row["auc_ci"][1]
    for name, block in results["datasets"].items():
        assert found[name, name]["auc"] == block["video"]["auc"]
        assert found[name, name]["auc_ci"] == block["video"]["auc_ci"]


def test_people_are_resampled_whole():
    """Ten videos of each of six people say little more than one of each."""
    many = [videos(name, 0, seed=seed) for seed, name in enumerate("AB", 1)]
    person = np.tile(np.arange(60) // 10, 2)
    own = np.repeat(np.random.default_rng(0).normal(0, 2, 6), 10)
    few = []
    for table in many:
        logit = np.log(table["score"] / (1 - table["score"])) + np.tile(own, 2)
        few.append(table.assign(score=1 / (1 + np.exp(-logit)), identity=[f"p{one}" for one in person]))
    widths = []
    for tables in (few, [table.drop(columns="identity") for table in few]):
        low, high = pairs(cross_auc(pd.concat(tables), n_boot=400))["A", "B"]["auc_ci"]
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


def test_a_person_of_one_name_in_two_datasets_is_two_people():
    one, other = videos("A", 0, seed=1), videos("B", 0, seed=2)
    same = [table.assign(identity=[f"p{i % 60}" for i in range(120)]) for table in (one, other)]
    apart = [same[0], same[1].assign(identity=[f"q{i % 60}" for i in range(120)])]
    first, second = (pairs(cross_auc(pd.concat(tables), n_boot=100))["A", "B"] for tables in (same, apart))
    assert first == second


def test_reals_alone_and_fakes_alone_meet_the_other_sets():
    reals = videos("photos", 0, seed=1).query("label == 0")
    fakes = videos("flux", 0.3, seed=2).query("label == 1")
    found = pairs(cross_auc(pd.concat([videos("A", 0, seed=3), reals, fakes]), n_boot=20))
    assert set(found) == {("A", "A"), ("A", "flux"), ("photos", "A"), ("photos", "flux")}
    (table,) = cross_auc_tables({"": list(found.values())}, 20)
    assert [row[0] for row in table.rows] == ["A", "photos"]
    assert "–" not in table.rows[0]


def test_one_dataset_has_no_pairs():
    assert cross_auc(videos("A", 0)) == []
    assert "cross_auc" not in evaluate(videos("A", 0), n_boot=0)
    assert lowest_pair([]) == ""
    assert cross_auc_tables({"": []}, 10) == []


def test_the_lowest_pair_is_named_beside_both_within():
    rows = cross_auc(pd.concat([videos("A", 0, seed=1), videos("B", 1, seed=2)]), n_boot=50)
    assert lowest_pair(rows).startswith("Cross-AUC, lowest: reals of B against fakes of A 0.")
    assert "(within: B 0." in lowest_pair(rows)


def test_groups_against_all_others():
    """A group whose scores lie lower than others' has fakes that others' reals outrank."""
    table = pd.concat([videos("A", shift, n=400) for shift in (-0.7, 0.0, 0.0)])
    group = np.repeat(["low", "high", "third"], 800)
    sizes = {"n_boot": 100, "n_perm": 10}

    def against(group):
        found = audit(table["label"], table["score"], sensitive_features={"group": group}, **sizes)
        return {row["group"]: row["auc"] for row in found.against_others["group"]}

    phi = NormalDist().cdf
    found = against(group)
    assert found["low"] == pytest.approx(phi(0.8 / 2**0.5), abs=2e-3)
    mixed = (phi(1.5 / 2**0.5) + phi(2.2 / 2**0.5)) / 2
    assert found["high"] == pytest.approx(mixed, abs=2e-3)
    # The reals of unknown people are nobody's others.
    known = against(np.where(group == "third", None, group))
    assert known["high"] == pytest.approx(phi(2.2 / 2**0.5), abs=2e-3)


@pytest.fixture
def scored(tmp_path):
    for name, shift in (("one", 0.4), ("two", 1.2)):
        rows = pd.concat([videos("Here", 0, seed=1), videos("There", shift, seed=2)])
        write_frame(rows.assign(detector=name), tmp_path / "all" / f"{name}.csv")
    return tmp_path / "all"


def test_it_stands_in_json_tables_and_pages(scored):
    """Of one detector and of several, equal everywhere."""
    out = scored.parent / "out"
    found = RUNNER.invoke(app, ["evaluate", f"predictions={scored / 'one.csv'}", f"out={out}", "n_boot=50"])
    assert found.exit_code == 0, found.output
    assert "Cross-AUC, lowest: reals of There against fakes of Here" in found.output
    assert len(json.loads((out / "metrics.json").read_text())["cross_auc"]) == 4
    several = scored.parent / "several"
    found = RUNNER.invoke(app, ["evaluate", f"predictions={scored}", f"out={several}", "n_boot=50"])
    assert found.exit_code == 0, found.output
    both = json.loads((several / "metrics.json").read_text())["cross_auc"]
    assert both["one"] == json.loads((out / "metrics.json").read_text())["cross_auc"]
    for folder in (out, several):
        assert (
            "## Cross-AUC: reals of each dataset against fakes of each" in (folder / "metrics.md").read_text()
        )
        assert "Cross-AUC" in (folder / "metrics.tex").read_text()
        assert RUNNER.invoke(app, ["report", f"run={folder}"]).exit_code == 0
        page = (folder / "report.html").read_text()
        assert "Reals of one dataset against fakes of another" in page
        assert "fakes of There" in page
