"""Mitigations of scores against closed forms, fairlearn called directly, and what they promise."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.isotonic import IsotonicRegression
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.errors import InputError
from unmasked.evaluation.thresholds import fit
from unmasked.fairness.mitigation import run as mitigation
from unmasked.fairness.mitigation import words
from unmasked.fairness.mitigation.compare import (
    Comparison,
    before_after,
    group_doubts,
    levelling_down,
    tpr_at_same_fpr,
)
from unmasked.fairness.mitigation.folds import Fold, folds, match_scores
from unmasked.fairness.mitigation.group_calibration import fit_group_calibration, isotonic, platt
from unmasked.fairness.mitigation.group_thresholds import fit_group_thresholds, weighted_threshold
from unmasked.fairness.mitigation.reweighting import equal_weights
from unmasked.fairness.mitigation.rules import single_threshold
from unmasked.fairness.mitigation.threshold_optimizer import (
    CONSTRAINTS,
    ScoreEstimator,
    fit_threshold_optimizer,
)

SHIFT = {"light": 0.0, "medium": 0.3, "dark": 1.2}  # log-odds by which a group looks more fake


def fold_of(sizes=(400, 400, 400), *, seed=0, shift=SHIFT, name="A") -> Fold:
    """Reals and fakes of three groups, a unit each; scores of some groups are moved up."""
    rng = np.random.default_rng(seed)
    group = np.repeat(list(shift), sizes).astype(object)
    label = rng.integers(0, 2, len(group))
    odds = rng.normal(2.0 * label - 1.5, 1.0) + np.array([shift[each] for each in group])
    return Fold(
        name=name,
        dataset=name,
        attribute="tone",
        label=label,
        score=1 / (1 + np.exp(-odds)),
        group=group,
        unit=np.arange(len(group)),
        key=pd.MultiIndex.from_arrays([np.full(len(group), name), np.arange(len(group))]),
    )


def fpr(fold: Fold, called: np.ndarray, group: str) -> float:
    return float(called[(fold.group == group) & (fold.label == 0)].mean())


# Thresholds by group


def test_group_thresholds_reach_the_fpr_of_the_pooled_one_on_the_rows_of_the_fit():
    fold = fold_of()
    before = single_threshold(fold, "fpr:0.10")
    rule = fit_group_thresholds(fold, before.threshold)
    called = rule.probability(fold)
    for group in SHIFT:
        reals = int(((fold.group == group) & (fold.label == 0)).sum())
        assert before.threshold.fpr - 1 / reals < fpr(fold, called, group) <= before.threshold.fpr
    assert fpr(fold, before.probability(fold), "dark") > 1.9 * fpr(fold, called, "dark")
    assert rule.warnings == ["it needs to know the group of every person at test time"]


def test_a_threshold_of_its_own_is_the_one_that_the_groups_reals_alone_would_get():
    fold = fold_of()
    before = single_threshold(fold, "fpr:0.10")
    rule = fit_group_thresholds(fold, before.threshold)
    for group, value in rule.thresholds.items():
        own = (fold.group == group) & (fold.label == 0)
        assert value == pytest.approx(
            fit(fold.label[own], fold.score[own], f"fpr:{before.threshold.fpr}").value
        )


def test_capped_thresholds_accuse_nobody_more_often_than_before():
    fold = fold_of()
    before = single_threshold(fold, "fpr:0.10")
    rule = fit_group_thresholds(fold, before.threshold, capped=True)
    assert (rule.probability(fold) <= before.probability(fold)).all()
    assert rule.thresholds["light"] == before.threshold.value
    assert fpr(fold, rule.probability(fold), "dark") <= before.threshold.fpr


def test_small_groups_are_shrunk_towards_everyone_and_said_so():
    fold = fold_of((400, 400, 8))
    before = single_threshold(fold, "fpr:0.10")
    thresholds = [
        fit_group_thresholds(fold, before.threshold, min_clusters=least).thresholds["dark"]
        for least in (1, 20, 10_000)
    ]
    assert thresholds[0] > thresholds[1] > thresholds[2]
    assert thresholds[2] == pytest.approx(before.threshold.value, abs=0.01)
    rule = fit_group_thresholds(fold, before.threshold, min_clusters=20)
    assert 0 < rule.own["dark"] < 1
    assert rule.own["light"] == 1
    assert "shrunk" in rule.warnings[1]
    assert "dark" in rule.warnings[1]
    assert "light" not in rule.warnings[1]


def test_unknown_and_unseen_groups_get_the_pooled_threshold():
    fold = fold_of()
    before = single_threshold(fold, "fpr:0.10")
    for rule in (
        fit_group_thresholds(fold, before.threshold),
        fit_threshold_optimizer(fold, before.threshold.value),
        fit_group_calibration(fold, before.threshold),
    ):
        for name in ("unknown", "blue"):
            hidden = fold.with_groups(np.full(len(fold), name, dtype=object))
            assert (rule.probability(hidden) == before.probability(fold)).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30), st.floats(0.001, 0.99))
def test_equal_weights_choose_the_threshold_of_the_fpr_rule(scores, share):
    score = np.array(scores)
    value = weighted_threshold(score, np.full(len(score), 1 / len(score)), share)
    expected = fit(np.zeros(len(score), int), score, f"fpr:{share!r}")
    assert ((score > value) == (score > expected.value)).all()


# fairlearn's ThresholdOptimizer


@pytest.mark.parametrize("constraints", CONSTRAINTS)
def test_threshold_optimizer_is_fairlearns_called_directly(constraints):
    fold, other = fold_of(), fold_of(seed=1)
    rule = fit_threshold_optimizer(fold, 0.5, constraints=constraints)
    direct = ThresholdOptimizer(
        estimator=ScoreEstimator(),
        constraints=constraints,
        objective="balanced_accuracy_score",
        prefit=True,
        predict_method="predict_proba",
    )
    direct.fit(fold.score[:, None], fold.label, sensitive_features=fold.group.astype(str))
    expected = direct._pmf_predict(other.score[:, None], sensitive_features=other.group.astype(str))[:, 1]
    assert rule.probability(other) == pytest.approx(expected, abs=1e-12)
    # The expected rates are those of many draws.
    drawn = np.mean(
        [
            direct.predict(
                other.score[:, None], sensitive_features=other.group.astype(str), random_state=seed
            )
            for seed in range(100)
        ],
        axis=0,
    )
    for group in SHIFT:
        assert fpr(other, rule.probability(other), group) == pytest.approx(fpr(other, drawn, group), abs=0.02)


def test_threshold_optimizer_says_that_it_is_randomised_and_shows_its_probabilities():
    rule = fit_threshold_optimizer(fold_of(), 0.5, constraints="equalized_odds")
    assert rule.randomised
    assert "randomised" in rule.warnings[0]
    for found in rule.to_dict()["by_group"].values():
        assert sum(draw["probability"] for draw in found["draws"]) == pytest.approx(1)
    called = rule.probability(fold_of(seed=2))
    assert ((called > 0) & (called < 1)).any()


def test_threshold_optimizer_closes_the_gap_that_it_is_told_to_on_the_rows_of_the_fit():
    fold = fold_of()
    called = fit_threshold_optimizer(fold, 0.5).probability(fold)
    rates = [fpr(fold, called, group) for group in SHIFT]
    assert max(rates) - min(rates) < 0.005


def test_groups_that_lack_a_class_keep_the_pooled_threshold_and_two_others_are_needed():
    fold = fold_of()
    only_real = fold.group == "dark"
    kept = ~only_real | (fold.label == 0)
    part = Fold(
        "A",
        "A",
        "tone",
        fold.label[kept],
        fold.score[kept],
        fold.group[kept],
        fold.unit[kept],
        fold.key[kept],
    )
    rule = fit_threshold_optimizer(part, 0.42)
    assert list(rule.mixtures) == ["light", "medium"]
    dark = part.group == "dark"
    assert (rule.probability(part)[dark] == (part.score[dark] > 0.42)).all()
    assert any("dark lack a class" in warning for warning in rule.warnings)
    with pytest.raises(InputError, match="needs two"):
        fit_threshold_optimizer(fold_of((50, 0, 0)), 0.5)
    with pytest.raises(InputError, match=r"equalised_odds.*choose one of"):
        fit_threshold_optimizer(fold, 0.5, constraints="equalised_odds")


# Calibration


def test_platt_map_is_scikit_learns_sigmoid_calibration():
    fold = fold_of((900, 0, 0))
    odds = np.log(fold.score / (1 - fold.score))

    class Odds(ScoreEstimator):
        def decision_function(self, X):
            return np.asarray(X).reshape(-1)

        predict_proba = property()  # only decision values are to be used

    from sklearn.frozen import FrozenEstimator

    model = CalibratedClassifierCV(FrozenEstimator(Odds()), method="sigmoid").fit(odds[:, None], fold.label)
    expected = model.predict_proba(odds[:, None])[:, 1]
    assert platt(fold.label, fold.score)(fold.score) == pytest.approx(expected, abs=2e-3)


def test_isotonic_map_is_scikit_learns_and_both_rise():
    fold = fold_of()
    scores = np.linspace(0, 1, 201)
    expected = IsotonicRegression(out_of_bounds="clip").fit(fold.score, fold.label).predict(scores)
    assert isotonic(fold.label, fold.score)(scores) == pytest.approx(np.clip(expected, 0, 1))
    for fit_map in (platt, isotonic):
        assert (np.diff(fit_map(fold.label, fold.score)(scores)) >= 0).all()


def test_platt_stays_finite_where_classes_are_told_apart_and_never_turns_scores_around():
    scores = np.array([0.0, 0.1, 0.9, 1.0])
    found = platt(np.array([0, 0, 1, 1]), scores)(scores)
    assert np.isfinite(found).all()
    assert found[0] > 0.1  # Platt's target of two reals is a quarter
    turned = platt(np.array([1, 1, 0, 0]), scores)(scores)
    assert np.ptp(turned) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_by_group_makes_scores_mean_the_same_in_each(kind):
    fold = fold_of((2000, 2000, 2000))
    before = single_threshold(fold, "fpr:0.10")
    rule = fit_group_calibration(fold, before.threshold, kind=kind)
    calibrated = rule.calibrate(fold)
    for group in SHIFT:
        member = fold.group == group
        assert calibrated[member].mean() == pytest.approx(fold.label[member].mean(), abs=0.01)
    gaps = [np.ptp([fpr(fold, each.probability(fold), group) for group in SHIFT]) for each in (before, rule)]
    assert gaps[1] < 0.2 * gaps[0]


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_of_small_groups_is_shrunk_to_the_pooled_map(kind):
    fold = fold_of((400, 400, 10))
    pooled = {"platt": platt, "isotonic": isotonic}[kind](fold.label, fold.score)
    dark = fold.group == "dark"
    distance = []
    for least in (1, 20, 100_000):
        rule = fit_group_calibration(
            fold, single_threshold(fold, "eer").threshold, kind=kind, min_clusters=least
        )
        distance.append(np.abs(rule.calibrate(fold)[dark] - pooled(fold.score[dark])).max())
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 1e-3
    hidden = fold.with_groups(np.full(len(fold), "unknown", dtype=object))
    assert rule.calibrate(hidden) == pytest.approx(pooled(fold.score))


# Weights


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1)), min_size=1, max_size=60))
def test_weights_make_every_group_and_class_weigh_the_same(rows):
    full = [*rows, *((group, label) for group in "abc" for label in (0, 1))]
    table = pd.DataFrame(full, columns=["group", "label"])
    weight = equal_weights(table["group"], table["label"])
    assert weight.mean() == pytest.approx(1)
    assert table.assign(weight=weight).groupby(["group", "label"])[
        "weight"
    ].sum().to_numpy() == pytest.approx(len(full) / 6)


# Before and after


def rates_of(**fpr_by_group):
    values = sorted(fpr_by_group.items(), key=lambda item: item[1])
    return {
        "gap": values[-1][1] - values[0][1],
        "worst_group": values[-1][0],
        "best_group": values[0][0],
        "groups": [{"group": group, "fpr": value} for group, value in fpr_by_group.items()],
    }


def test_levelling_down_is_flagged_where_the_better_off_pay_and_nobody_gains():
    before = rates_of(light=0.05, dark=0.30)
    found = levelling_down(before, rates_of(light=0.20, dark=0.30), "fpr")
    assert found["levelling_down"] is True
    assert found["best_group_gain"] == pytest.approx(-0.15)
    assert levelling_down(before, rates_of(light=0.32, dark=0.40), "fpr")["levelling_down"] is True


def test_levelling_down_is_not_flagged_where_the_worse_off_gain_or_the_gap_does_not_shrink():
    before = rates_of(light=0.05, dark=0.30)
    assert levelling_down(before, rates_of(light=0.05, dark=0.10), "fpr")["levelling_down"] is False
    assert levelling_down(before, rates_of(light=0.08, dark=0.20), "fpr")["levelling_down"] is False
    assert levelling_down(before, rates_of(light=0.10, dark=0.40), "fpr")["levelling_down"] is False


class Fixed:
    randomised, warnings = False, ()

    def __init__(self, called):
        self.called = np.asarray(called, float)

    def probability(self, fold):
        return self.called

    def to_dict(self):
        return {}


def test_a_rule_that_accuses_the_better_off_at_random_is_flagged_and_priced():
    fold = fold_of()
    before = single_threshold(fold, "fpr:0.10")
    called = before.probability(fold)
    down = np.where(fold.group == "dark", called, np.maximum(called, np.arange(len(fold)) % 5 == 0))
    found = before_after(before, Fixed(down), fold, Comparison(n_boot=300))
    assert found["levelling_down"]
    assert found["gap_change"] < 0
    assert found["utility_change"] < 0
    assert found["tpr_change_at_same_fpr_ci"][1] < 0
    fair = fit_group_thresholds(fold, before.threshold)
    assert not before_after(before, fair, fold, Comparison(n_boot=300))["levelling_down"]


def test_a_rule_that_calls_everyone_real_closes_every_gap_and_is_said_to_be_of_less_use():
    fold = fold_of()
    before = single_threshold(fold, "fpr:0.10")
    found = before_after(before, Fixed(np.zeros(len(fold))), fold, Comparison(n_boot=300))
    assert found["after"]["gap"] == 0
    assert found["no_group_gains_utility"]
    fair = fit_group_thresholds(fold, before.threshold)
    assert not before_after(before, fair, fold, Comparison(n_boot=300))["no_group_gains_utility"]
    warned = mitigation._add_warnings({"warning": "x"}, found)["warning"]
    assert warned == f"{mitigation.LESS_USE}; x"


def test_a_group_that_is_never_called_fake_is_said_to_pay_for_its_closed_gap():
    # Seen in a training with balanced groups: its FPR gap closed, and 2 % of the fakes of a group were found.
    fold = fold_of()
    before = single_threshold(fold, "fpr:0.10")
    called = np.where(fold.group == "dark", 0.0, fold.label)  # all others are told apart without an error
    found = before_after(before, Fixed(called), fold, Comparison(n_boot=200))
    assert found["gap_change"] < 0
    assert found["worst_group_gain"] > 0
    assert found["utility_change"] > 0
    assert found["worst_group_utility_change"] < -0.1
    warned = mitigation._add_warnings({"warning": "", "applied_to": "A", "attribute": "tone"}, found)[
        "warning"
    ]
    assert "balanced accuracy among people of tone “dark”, who were worst off, falls by" in warned


def test_before_and_after_are_the_rates_and_intervals_hold_the_change():
    fold, other = fold_of(), fold_of(seed=7)
    before = single_threshold(fold, "fpr:0.10")
    after = fit_group_thresholds(fold, before.threshold)
    found = before_after(before, after, other, Comparison(n_boot=500))
    for key, rule in (("before", before), ("after", after)):
        called = rule.probability(other)
        rates = {group: fpr(other, called, group) for group in SHIFT}
        assert found[key]["gap"] == pytest.approx(max(rates.values()) - min(rates.values()))
        assert {each["group"]: each["fpr"] for each in found[key]["groups"]} == pytest.approx(rates)
    assert found["before"]["worst_group"] == "dark"
    for name in ("gap_change", "utility_change", "tpr_change_at_same_fpr"):
        low, high = found[f"{name}_ci"]
        assert low < found[name] < high
    assert found["gap_change_ci"][1] < 0


def test_intervals_of_a_randomised_rule_are_those_of_its_expectation():
    fold = fold_of((120, 120, 120))
    before = single_threshold(fold, "fpr:0.10")
    certain = fit_group_thresholds(fold, before.threshold).probability(fold)
    # Nearly certain: must come out as the certain one does, although each row stands for many draws.
    exact = before_after(before, Fixed(certain), fold, Comparison(n_boot=400))
    nearly = before_after(before, Fixed(0.999 * certain), fold, Comparison(n_boot=400))
    assert nearly["gap_change"] == pytest.approx(exact["gap_change"], abs=0.002)
    for name in ("gap_change_ci", "utility_change_ci"):
        assert nearly[name] == pytest.approx(exact[name], abs=0.03)


def test_price_at_the_same_fpr_is_zero_for_another_threshold_of_the_same_scores():
    fold = fold_of()
    for value in (0.2, 0.5, 0.8):
        price, (low, high) = tpr_at_same_fpr(fold, (fold.score > value).astype(float))
        assert price == pytest.approx(0, abs=0.01)
        assert low <= 0.01
        assert high >= -0.01
    better = fold.label.astype(float)
    assert tpr_at_same_fpr(fold, better)[0] > 0.5


def test_a_price_of_few_units_stays_a_difference_of_shares():
    rng = np.random.default_rng(0)
    for seed in range(6):
        fold = fold_of(sizes=(2, 2, 2), seed=seed)
        if len(set(fold.label)) < 2:
            continue
        price, (low, high) = tpr_at_same_fpr(fold, rng.integers(0, 2, len(fold.label)).astype(float))
        assert -1 <= low <= price <= high <= 1


def test_a_wrong_or_hidden_group_brings_the_gap_back():
    fold, other = fold_of(), fold_of(seed=3)
    before = single_threshold(fold, "fpr:0.10")
    rule = fit_group_thresholds(fold, before.threshold)
    gaps = [
        group_doubts(rule, other, Comparison(wrong=share))["group_wrong"]["gap_mean"]
        for share in (0.0, 0.3, 0.6)
    ]
    assert gaps[0] < gaps[1] < gaps[2]
    doubts = group_doubts(rule, other, Comparison())
    plain = before_after(before, rule, other, Comparison(n_boot=200))
    assert doubts["group_unknown"]["gap"] == pytest.approx(plain["before"]["gap"])
    assert gaps[0] == pytest.approx(plain["after"]["gap"])


# From a table of predictions


def predictions(seed=0):
    parts = []
    for number, (dataset, split, videos) in enumerate(
        [("A", "val", 240), ("A", "test", 240), ("B", "test", 240), ("C", "test", 20)]
    ):
        fold = fold_of((videos // 3, videos // 3, videos - 2 * (videos // 3)), seed=10 * seed + number)
        parts.append(
            pd.DataFrame(
                {
                    "dataset": dataset,
                    "video": [f"{split}{i}" for i in range(len(fold))],
                    "split": split,
                    "label": fold.label,
                    "score": fold.score,
                    "tone": fold.group if dataset != "C" else None,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_fit_rows_are_never_judged_and_datasets_without_groups_are_named():
    fitted, judged, skipped = folds(predictions(), "tone")
    assert fitted.name == "A, val split"
    assert [fold.dataset for fold in judged] == ["A", "B"]
    assert all(video.startswith("test") for video in judged[0].key.get_level_values("video"))
    assert list(skipped) == ["C: tone"]
    fitted, judged, skipped = folds(predictions(), "tone", source="A", split="test")
    assert [fold.dataset for fold in judged] == ["B"]
    assert "no test rows" in skipped["A: tone"]


def test_every_method_has_its_entry_and_every_file_its_rows(tmp_path):
    how = mitigation.Settings(comparison=Comparison(n_boot=100))
    found = mitigation.mitigate(
        predictions(), ["tone"], retrained={"other training": predictions()}, settings=how
    )
    assert all(len(entry["gap_before_ci"]) == 2 for entry in found["methods"])
    path = mitigation.write(found, tmp_path)
    stored = json.loads((tmp_path / "mitigation.json").read_text())
    keys = {
        *("name", "kind", "randomised", "fitted_on", "applied_to", "attribute", "before", "after"),
        *("gap_change", "gap_change_ci", "utility_change", "utility_change_ci", "levelling_down", "warning"),
    }
    assert all(keys <= set(entry) for entry in stored["methods"])
    # What describes a rule takes no name from what it did.
    for entry in stored["methods"]:
        for found in (entry["before"], entry["after"]):
            assert [each["group"] for each in found["groups"]] == ["light", "medium", "dark"]
            assert 0 <= found["balanced_accuracy"] <= 1
    names = [entry["name"] for entry in stored["methods"] if entry["applied_to"] == "A"]
    assert names == [*mitigation.METHODS, "other training"]
    table = pd.read_csv(tmp_path / "mitigation.csv")
    assert len(table) == 2 * len(names)
    text = path.read_text()
    assert text.count("| group_thresholds |") == 2
    # Each warning once, behind all that it is about.
    about = ", ".join([*mitigation.METHODS][:-1]) + f" and {[*mitigation.METHODS][-1]}"
    assert text.count(f"{about}: it needs to know the group of every person") == 2
    assert "Not judged: C: tone" in text


def remedy(name, change, gain=0.1, before=(0.1, 0.5)):
    worst = {"gap": 0.3, "worst_group": "dark"}
    head = {"name": name, "attribute": "tone", "applied_to": "A", "before": worst, "levelling_down": False}
    return {**head, "gap_before_ci": before, "gap_change_ci": change, "worst_group_gain": gain}


def test_the_advice_says_what_is_worse_and_where_there_is_nothing_to_mend():
    narrower, wider, neither = [-0.2, -0.1], [0.1, 0.2], [-0.1, 0.1]
    assert words.advice([remedy("a", narrower), remedy("b", wider), remedy("c", neither)]) == (
        "tone, A: the gap before is 30 [10, 50] points; b makes it surely wider; a makes it surely narrower."
    )
    assert words.advice([remedy("a", wider, before=(-0.1, 0.5)), remedy("b", wider)]) == (
        "tone, A: the gap before is 30 [0, 50] points, which is not told from none: there may be nothing to "
        "mend; a and b make it surely wider; no remedy is shown to narrow it."
    )


def test_a_loss_is_called_worse():
    """It stood as "worst-off group gains: dark −15"."""
    assert words.worst_off_text(remedy("a", [0, 0], -0.15)) == "dark: 15 points worse"
    assert words.worst_off_text(remedy("a", [0, 0], 0.04)) == "dark: 4 points better"
    assert words.worst_off_text(remedy("a", [0, 0], 0.0)) == "dark: as before"


def test_the_same_detector_trained_again_changes_nothing_and_says_what_is_not_known():
    how = mitigation.Settings(comparison=Comparison(n_boot=100))
    found = mitigation.mitigate(predictions(), ["tone"], [], retrained={"same": predictions()}, settings=how)
    for entry in found["methods"]:
        assert entry["kind"] == "training"
        assert entry["gap_change"] == 0
        assert entry["gap_change_ci"][0] <= 0 <= entry["gap_change_ci"][1]
        assert "by chance" in entry["warning"]


def test_another_detector_must_have_scored_the_same_rows():
    _, (fold, _), _ = folds(predictions(), "tone")
    shuffled = predictions().sample(frac=1, random_state=1)
    assert match_scores(fold, shuffled, "video") == pytest.approx(fold.score)
    with pytest.raises(InputError, match="lack 240 of the 240 rows of A"):
        match_scores(fold, shuffled[shuffled["dataset"] != "A"], "video")


@pytest.mark.parametrize(
    ("table", "arguments", "words"),
    [
        (predictions().drop(columns="split"), [], "no row of the predictions has a 'split'"),
        (predictions(), ["source=X"], "'X' is not in the predictions"),
        (predictions(), ["source=B"], "no rows of the split 'val'"),
        (predictions(), ["split=test"], "choose one with source="),
        (predictions(), ["methods=[magic]"], "'magic' is not known"),
        (predictions(), ["by=[shade]"], "no column 'shade'"),
        (predictions(), ["rule=best"], "rule 'best' is not known"),
        (predictions().query("split == 'val'"), [], "needs other rows"),
    ],
    ids=[
        "no split",
        "source",
        "no fit rows",
        "several",
        "method",
        "attribute",
        "rule",
        "nothing left",
    ],
)
def test_what_cannot_be_mitigated_is_a_clear_sentence(tmp_path, table, arguments, words):
    table.to_csv(tmp_path / "p.csv", index=False)
    paths = [f"predictions={tmp_path / 'p.csv'}", f"out={tmp_path / 'out'}"]
    # The last of two equal keys counts.
    result = CliRunner().invoke(app, ["mitigate", *paths, "by=[tone]", *arguments])
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_prints_a_table_and_takes_other_trainings(tmp_path):
    predictions().to_csv(tmp_path / "p.csv", index=False)
    predictions(1).assign(tone=None).to_csv(tmp_path / "q.csv", index=False)
    result = CliRunner().invoke(
        app,
        [
            "mitigate",
            *(f"predictions={tmp_path / 'p.csv'}", "by=[tone]", f"out={tmp_path / 'out'}", "n_boot=100"),
            f"retrained.group_dro={tmp_path / 'q.csv'}",
        ],
    )
    assert result.exit_code == 0, result.output
    assert "levelling down" in result.output
    assert "group_dro" in result.output
    assert "not judged: C: tone" in result.output


def test_the_command_reads_tables_as_the_others_do_and_counts_rows(tmp_path):
    # It knew neither score_of= nor columns=, so that a table could be audited and not mitigated.
    right = predictions()
    wrong = right.assign(p=1 - right["score"]).drop(columns="score")
    quick = ["by=[tone]", "n_boot=100", "methods=[group_thresholds]"]
    found = []
    for name, table, keys in (("a", right, []), ("b", wrong, ["columns={score: p}", "score_of=real"])):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        given = [f"predictions={tmp_path / f'{name}.csv'}", f"out={tmp_path / name}", *quick, *keys]
        result = CliRunner().invoke(app, ["mitigate", *given])
        assert result.exit_code == 0, result.output
        assert f"rows: {len(right)} given, " in result.output
        found.append((tmp_path / name / "mitigation.csv").read_text())
    assert "read as:" in result.output
    assert found[0] == found[1]


def test_whom_nobody_knows_and_who_makes_the_interval_wide_are_said(tmp_path):
    """183 rows without a gender were named nowhere, and nothing said why intervals were 33 points wide."""
    table = predictions().query("dataset != 'C'")
    dark = table.index[(table["dataset"] == "B") & (table["tone"] == "dark")]
    reals, fakes = (dark[table.loc[dark, "label"] == label] for label in (0, 1))
    table = table.drop(index=reals[14:])
    table.loc[table.index[:7], "tone"] = None
    table.to_csv(tmp_path / "p.csv", index=False)
    given = [f"predictions={tmp_path / 'p.csv'}", "by=[tone]", "n_boot=200", "methods=[group_thresholds]"]
    result = CliRunner().invoke(app, ["mitigate", *given, f"out={tmp_path / 'all'}"])
    assert result.exit_code == 0, result.output
    unknown = "note on tone, A, val split: of 7 of 240 videos nobody says who is shown"
    wide = "people of tone “dark”, of whom 14 have real videos; min_clusters=15 compares the others"
    for said in (unknown, wide):
        assert said in result.output
        assert said.removeprefix("note on ") in (tmp_path / "all" / "mitigation.md").read_text()
    assert result.output.count("of whom") == 1  # A has equal groups
    assert len(fakes) > 14
    fewer = CliRunner().invoke(app, ["mitigate", *given, "min_clusters=15", f"out={tmp_path / 'fewer'}"])
    assert "of whom" not in fewer.output
    width = []
    for name in ("all", "fewer"):
        (found,) = (
            pd.read_csv(tmp_path / name / "mitigation.csv").query("applied_to == 'B'").to_dict("records")
        )
        width.append(found["gap_change_high"] - found["gap_change_low"])
    assert width[1] < 0.8 * width[0]


def test_the_verb_offers_the_methods_that_there_are():
    from unmasked.app.verbs.mitigate import METHODS

    assert tuple(mitigation.METHODS) == METHODS


def test_nothing_is_deprecated():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_threshold_optimizer(fold_of(), 0.5)
        fit_group_calibration(fold_of(), single_threshold(fold_of(), "eer").threshold, kind="isotonic")
