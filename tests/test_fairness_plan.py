"""Planning: simulated studies against exact power, and what the command says and refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom, hypergeom
from test_fairness_audit import corpus
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.errors import InputError
from unmasked.fairness.audit import audit
from unmasked.fairness.planning import (
    Point,
    Study,
    _error_of_people,
    _read_curve,
    detectable_differences,
    people_needed,
    simulate,
    study_of_table,
)
from unmasked.fairness.run import audit_predictions
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.metrics import count_rows
from unmasked.fairness.statistics.simulation import compare_groups, draw_rates

HALVES = {"women": 0.5, "men": 0.5}


def plan(*arguments):
    return CliRunner().invoke(app, ["plan", *(str(argument) for argument in arguments)])


def exact_power(size, rate, gap):
    """Of Fisher's exact test at 5 % of two groups of equal size, the worse one named, by enumeration."""
    events = np.arange(size + 1)
    chance = binom.pmf(events, size, rate + gap)[:, None] * binom.pmf(events, size, rate)[None, :]
    found = 0.0
    for total in range(2 * size + 1):
        of_first = np.arange(max(0, total - size), min(size, total) + 1)
        likely = hypergeom.pmf(of_first, 2 * size, size, total)
        apart = np.abs(2 * of_first - total)
        p_value = np.array([likely[apart >= one].sum() for one in apart])
        named = of_first[(p_value < 0.05) & (2 * of_first > total)]
        found += chance[named, total - named].sum()
    return float(found)


@pytest.mark.parametrize(("size", "rate", "gap"), [(100, 0.1, 0.15), (60, 0.4, 0.2), (300, 0.02, 0.04)])
def test_simulated_power_is_the_exact_one(size, rate, gap):
    study = Study(gap, rate, HALVES)
    found = simulate(study, "women", 2 * size, studies=500, rng=np.random.default_rng(0))
    assert found.power == pytest.approx(exact_power(size, rate, gap), abs=0.05)


def test_so_many_people_have_the_power_that_was_asked_for():
    need = people_needed(Study(0.15, 0.15, HALVES), "women", power=0.8, studies=200)
    assert need.people_of_group == need.people / 2
    assert exact_power(int(need.people_of_group), 0.15, 0.15) == pytest.approx(0.8, abs=0.05)
    assert need.power == pytest.approx(0.8, abs=0.03)


def test_rare_groups_correlation_and_corrections_ask_for_more_people():
    def people(**more):
        given = {"gap": 0.2, "rate": 0.1, "shares": HALVES} | more
        return people_needed(Study(**given), "women", studies=50).people

    plain = people()
    assert people(shares={"women": 0.2, "men": 0.8}) > plain
    assert people(comparisons=6) > plain
    assert people(videos_per_person=4, correlation=0.1) < people(videos_per_person=4, correlation=0.9)


def test_rates_of_one_owner_have_the_mean_and_the_correlation_that_were_asked_for():
    rng = np.random.default_rng(1)
    owner = np.repeat(np.arange(20_000), 2)
    called = rng.random(40_000) < draw_rates(np.full(40_000, 0.2), owner, 0.4, rng)
    assert called.mean() == pytest.approx(0.2, abs=0.01)
    assert np.corrcoef(called[::2], called[1::2])[0, 1] == pytest.approx(0.4, abs=0.03)
    assert (draw_rates(np.full(3, 0.2), np.arange(3), 0.0, rng) == 0.2).all()


def test_simulated_tests_are_those_of_an_audit():
    rng = np.random.default_rng(2)
    label, gender = rng.integers(0, 2, 400), rng.choice(["female", "male", "unknown"], 400)
    score = np.clip(0.3 * label + rng.random(400) * 0.7 + 0.08 * (gender == "female"), 0, 1)
    person = np.arange(400) // 2
    gender = gender[person * 2]
    whole = audit(
        label, score, sensitive_features={"gender": gender}, clusters=person, n_boot=100, min_samples=1
    )
    settings = whole.settings
    tests = compare_groups(count_rows(label, score, 0.5), person, {"gender": gender}, settings, rng)
    rows = whole.tests.set_index("metric")
    assert set(tests) == {("gender", "fpr"), ("gender", "tpr")}
    for (_, metric), test in tests.items():
        high, low = test.widest
        assert test.share[high] - test.share[low] == pytest.approx(rows.loc[metric, "difference"])
        assert test.p_value == pytest.approx(rows.loc[metric, "p_value"], abs=0.04)


def test_a_detectable_difference_is_found_in_eighty_of_a_hundred_studies():
    rng = np.random.default_rng(3)
    label = np.repeat([0, 1], 400)
    score = np.where(rng.random(800) < np.where(label == 1, 0.85, 0.15), 0.9, 0.1)
    # Not 200 and 200: of halves z has a step at this very level, and a power of 70 or 83 % by the shuffles.
    groups = {"gender": np.tile(np.repeat(["female", "male"], [190, 210]), 2)}
    found = audit(label, score, sensitive_features=groups, n_boot=100)
    (row,) = found.tests[found.tests["metric"] == "fpr"].to_dict("records")
    pair = detectable_differences(found).set_index("metric").loc["fpr"]
    rate = float(score[label == 0].mean() - 0.1) / 0.8
    studies = simulate(
        Study(pair["detectable"], rate, {"female": 0.475, "male": 0.525}, comparisons=2),
        *("female", 400),
        studies=500,
        rng=rng,
    )
    assert studies.power == pytest.approx(0.8, abs=0.06)
    assert 0 < row["detectable"] <= 1
    assert any("would be found in 80 of 100 studies of this size" in words for words in found.verdicts)


def test_the_study_of_a_table_has_its_people_rates_and_correlation():
    table = corpus(0)
    found = audit_predictions(table, ["gender"], n_boot=100, n_perm=200)
    study = study_of_table(found, "gender", "fpr", 0.2)
    support = found.support.loc["gender"]["real_clusters"]
    assert study.shares == (support / support.sum()).to_dict()
    assert study.rate == pytest.approx(found.overall["fpr"])
    assert study.comparisons == 2
    assert study_of_table(found, "gender", "fpr", 0.999) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shares": {"women": 1.0}}, "needs two groups"),
        ({"shares": {"women": 0.5, "men": 0.2}}, "add up to 1; they are 0.7"),
        ({"rate": 0.9, "gap": 0.2}, "no share of videos"),
    ],
)
def test_a_study_that_cannot_be_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        Study(**({"gap": 0.1, "rate": 0.1, "shares": HALVES} | given))


def test_more_videos_than_anybody_has_are_said_to_be_too_many():
    need = people_needed(Study(0.0001, 0.5, HALVES), "women", studies=100)
    assert np.isnan(need.people)


def test_sizes_add_up_and_follow_the_shares():
    study = Study(0.1, 0.1, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert sorted(study.sizes(100)) == [33, 33, 34]
    assert study.fewest == 30
    assert Settings().min_clusters == 10


def test_people_vary_between_simulations_as_much_as_is_said():
    """Points of a known curve, each of 200 studies: the people read off it, and the error that is said."""
    rng, sizes, found = np.random.default_rng(5), np.array([90, 120, 160, 200, 250, 320, 420]), []
    for _ in range(400):
        power = rng.binomial(200, ndtr(-2 + 0.2 * np.sqrt(sizes))) / 200
        points = [Point(int(size), int(size), share, 0.0) for size, share in zip(sizes, power, strict=True)]
        people = _read_curve(points, 0.8)
        found.append((people, _error_of_people(points, round(people), 200)))
    people, said = np.array(found).T
    truth = ((ndtri(0.8) + 2) / 0.2) ** 2
    assert 0.93 < np.mean(np.abs(people - truth) < said) < 0.97
    assert said.mean() == pytest.approx(1.96 * people.std(), rel=0.1)


def test_the_command_says_how_many_and_leaves_curves(tmp_path):
    result = plan("gap=0.3", "groups={women: 0.3, men: 0.7}", "studies=100", f"out={tmp_path / 'plan'}")
    assert result.exit_code == 0, result.output
    assert (
        "that errors on women are 30 points more frequent than the 10 % on others takes about"
        in result.output
    )
    record = json.loads((tmp_path / "plan" / "plan.json").read_text())
    (one,) = record["plans"]
    assert [need["worse"] for need in one["needs"]] == ["women", "men"]
    table = pd.read_csv(tmp_path / "plan" / "plan.csv")
    assert set(table["worse"]) == {"women", "men"}
    assert table["power"].between(0, 1).all()
    assert "people in the study" in (tmp_path / "plan" / "plan.svg").read_text()


def test_groups_of_one_size_have_one_answer(tmp_path):
    """Of halves, 440 people were asked for where women are worse off, and 410 where men are."""
    result = plan("gap=0.3", "studies=100", f"out={tmp_path / 'plan'}")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if "errors on" in line]
    assert "that errors on women or on men are 30 points more frequent" in line
    assert line.endswith("of them women and as many men")
    assert "studies 0/1" not in result.output
    needs = json.loads((tmp_path / "plan" / "plan.json").read_text())["plans"][0]["needs"]
    assert f"people (± {needs[0]['error']:,.0f} by the simulation), " in line
    assert [need.pop("worse") for need in needs] == ["women", "men"]
    assert needs[0] == needs[1]


def test_the_command_says_what_a_table_can_find(tmp_path):
    corpus(0).to_csv(tmp_path / "scores.csv", index=False)
    given = f"predictions={tmp_path / 'scores.csv'}"
    result = plan(given, "by=[gender]", "gap=0.3", "studies=100", f"out={tmp_path / 'plan'}")
    assert result.exit_code == 0, result.output
    assert "women and men: 80 of 100 studies like this table find" in result.output
    assert "how often real videos are called fake: to find in 80 of 100 studies" in result.output
    assert "errors on women" in result.output
    assert "female" not in result.output
    # It printed no line of rows: were all used, or those of the test split?
    assert f"rows: {len(corpus(0))} given, {len(corpus(0))} used" in result.output
    pairs = pd.read_csv(tmp_path / "plan" / "detectable.csv")
    assert list(pairs["metric"]) == ["fpr", "tpr"]
    # Of one table `plan` said 15 points and `fairness` 13: other resamples, and another of Holm's levels.
    audited = audit_predictions(corpus(0), ["gender"], n_boot=30).tests.set_index("metric")["detectable"]
    assert pairs["detectable"].to_numpy() == pytest.approx(audited[["fpr", "tpr"]].to_numpy(), abs=1e-9)
    refused = plan(given, f"out={tmp_path / 'plan'}")
    assert refused.exit_code == 2
    assert "give by=[gender]" in refused.stderr
