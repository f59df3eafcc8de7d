"""A number means the same wherever it is shown: which rows it is of, its interval, its metric."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from unmasked.analysis.figures.calibration import CalibrationDisplay
from unmasked.datasets.errors import InputError
from unmasked.evaluation import metrics
from unmasked.evaluation.counts import CALIBRATION_BINS
from unmasked.evaluation.curves import curves, score_histogram
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.intervals import Sample, weighted_metrics
from unmasked.evaluation.metrics import METRICS, auc, metric, video_scores
from unmasked.evaluation.predictions import evaluated_rows
from unmasked.evaluation.tables import result_tables
from unmasked.evaluation.thresholds import Threshold
from unmasked.fairness.across.run import Beside, compare_across
from unmasked.fairness.run import audit_datasets, write
from unmasked.fairness.statistics.distributions import calibration

FAST = {"n_boot": 100, "n_perm": 20}


def videos(
    dataset: str, count: int, split: str | None, seed: int = 0, *, first: int = 0, frames: int = 2
) -> pd.DataFrame:
    """Frames of videos, every second one fake, with a gender for each pair of videos."""
    rng = np.random.default_rng([seed, count])
    video = np.repeat(np.arange(count), frames)
    label = video % 2
    return pd.DataFrame(
        {
            "dataset": dataset,
            "video": [f"v{first + number}" for number in video],
            "frame": np.tile(np.arange(frames), count),
            "label": label,
            "score": np.clip(0.3 + 0.3 * label + rng.normal(0, 0.25, len(video)), 0.001, 0.999).round(3),
            "split": split,
            "gender": np.where(video % 4 < 2, "female", "male"),
        }
    )


def scored_on_two_splits() -> pd.DataFrame:
    """FF++ scored on val alone; Celeb-DF with 60 test videos and 20 without a split."""
    parts = [
        videos("FF++", 60, "val"),
        videos("Celeb-DF", 60, "test"),
        videos("Celeb-DF", 20, None, first=60),
    ]
    return pd.concat(parts, ignore_index=True)


def test_evaluate_and_fairness_take_the_same_rows_and_say_what_they_left_out():
    table = scored_on_two_splits()
    results = evaluate(table, n_boot=50)
    audits, skipped = audit_datasets(table, ["gender"], min_samples=1, **FAST)
    assert list(results["datasets"]) == list(audits) == ["Celeb-DF"]
    assert results["datasets"]["Celeb-DF"]["n"]["videos"] == 60
    support = audits["Celeb-DF"].overall_support
    assert support["real_videos"] + support["fake_videos"] == 60
    assert list(curves(table)) == ["Celeb-DF"]
    said = " ".join(results["settings"]["rows"])
    assert "its 60 videos of the test split are evaluated; left out: 20 videos (40 rows) without" in said
    assert "FF++ is not evaluated: it has only 60 videos (120 rows) of val" in said
    assert "60 videos (120 rows) of val" in skipped["FF++"]
    assert "20 videos (40 rows) without a split" in " ".join(audits["Celeb-DF"].origin["rows"])


def test_curves_and_histograms_are_of_the_video_scores_that_were_evaluated():
    """With the worst face of each video, a report's curves and bars were of the mean over all faces."""
    table = videos("A", 60, "test", frames=4).assign(face=np.tile([0, 0, 1, 1], 60))
    area = evaluate(table, n_boot=0, aggregation="worst_face")["datasets"]["A"]["video"]["auc"]
    assert area != evaluate(table, n_boot=0)["datasets"]["A"]["video"]["auc"]
    points = curves(table, aggregation="worst_face")["A"]["video"]["roc"]
    assert np.trapezoid(points["tpr"], points["fpr"]) == pytest.approx(area)
    found = score_histogram(table, aggregation="worst_face")["A"]
    worst = video_scores(table, "worst_face")
    assert found["fake"] == np.histogram(worst["score"][worst["label"] == 1], found["edges"])[0].tolist()


def test_rows_that_were_trained_or_fitted_on_are_never_evaluated():
    table = pd.concat([videos("A", 20, "val"), videos("B", 20, "train")], ignore_index=True)
    with pytest.raises(InputError, match=r"A is not evaluated: it has only 20 videos .* of val.*B is not"):
        evaluate(table, n_boot=10)
    with pytest.raises(InputError, match="B is not evaluated"):
        audit_datasets(table, ["gender"], **FAST)


def test_perturbed_rows_are_chosen_by_the_split_of_the_clean_ones():
    clean = scored_on_two_splits()
    blurred = clean.assign(perturbation="blur", severity=1)
    # Perturbed test rows alone make no test split.
    alone = videos("DFDC", 20, "test").assign(perturbation="blur", severity=1)
    table = pd.concat([clean, blurred, videos("DFDC", 20, None), alone], ignore_index=True)
    rows = evaluated_rows(table, perturbed=True)
    assert rows.groupby("dataset").size().to_dict() == {"Celeb-DF": 240, "DFDC": 40}
    results = evaluate(table, n_boot=20)
    assert {row["dataset"]: row["videos"] for row in results["robustness"]} == {"Celeb-DF": 60}


def random_table(seed: int) -> pd.DataFrame:
    """Datasets with and without identities, splits and perturbed rows, of odd sizes and tied scores."""
    rng = np.random.default_rng(seed)
    parts = []
    for name in ("A", "B"):
        count = int(rng.integers(30, 60))
        part = videos(name, count, rng.choice(np.array(["test", None])), seed, frames=int(rng.integers(1, 4)))
        if rng.random() < 0.7:
            part = pd.concat([part, videos(name, 20, "val", seed + 1, first=count)], ignore_index=True)
        if rng.random() < 0.7:
            number = part["video"].str[1:].astype(int)
            known = (rng.random(200) < (0.5 if rng.random() < 0.5 else 1))[number]
            # Identities of two videos; some are annotated with two genders, some are known in part.
            part["identity"] = ("p" + (number // 2 + rng.integers(0, 2, 200)[number]).astype(str)).where(
                known
            )
        if rng.random() < 0.5:
            part = pd.concat([part, part.assign(perturbation="blur", severity=2)], ignore_index=True)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def equal(one, other) -> bool:
    return np.array_equal(np.array(one, dtype=float), np.array(other, dtype=float), equal_nan=True)


@pytest.mark.parametrize(("seed", "level"), [(0, "video"), (1, "video"), (2, "video"), (3, "frame")])
def test_every_number_that_evaluate_and_fairness_share_has_one_value_and_one_interval(seed, level):
    table, cut = random_table(seed), [0.5, 0.413][seed % 2]
    results = evaluate(table, threshold=cut, n_boot=150, seed=seed)
    how = {"n_boot": 150, "n_perm": 10, "min_samples": 1, "random_state": seed}
    audits, _ = audit_datasets(table, ["gender"], thresholds=cut, level=level, **how)
    compared = 0
    for dataset, audit in audits.items():
        theirs, ours = results["datasets"][dataset], audit.to_dict()["overall"]
        for name in set(ours) & set(theirs[level]):
            assert equal(ours[name], theirs[level][name]), (dataset, name)
            compared += 1
        for name in ("real_videos", "fake_videos", "clusters", "real_clusters", "fake_clusters"):
            assert ours["support"][name] == theirs["n"][name], (dataset, name)
    assert compared >= 2 * 2 * 10


def test_one_group_at_one_threshold_has_one_interval():
    table = videos("A", 80, "test", frames=3)
    cut = Threshold(0.45, "given")
    audits, _ = audit_datasets(table, ["gender"], thresholds=cut, min_samples=1, **FAST)
    found = compare_across(table, audits, Beside(thresholds=[cut]))["datasets"]["A"]["operating_points"][0]
    audit = audits["A"]
    for entry in found["attributes"]["gender"]:
        for rate in ("fpr", "tpr"):
            low, high = (limit.loc[("gender", entry["group"]), rate] for limit in audit.by_group_ci)
            assert entry[f"{rate}_ci"] == [low, high]
    diagonal = [one for one in audit.cross_auc["gender"] if one["positives_of"] == one["negatives_of"]]
    assert diagonal
    for one in diagonal:
        low, high = (limit.loc[("gender", one["positives_of"]), "auc"] for limit in audit.by_group_ci)
        assert one["auc_ci"] == [low, high]


@pytest.fixture
def registered():
    """One new metric, without a vectorised form."""

    @metric("spread", "Score spread", higher_is_better=True, kind="ranking")
    def spread(label, score) -> float:
        """Largest minus smallest score."""
        return float(np.ptp(score)) if len(score) else float("nan")

    yield
    del METRICS["spread"]


def test_one_registered_function_is_a_metric_everywhere(registered, tmp_path):
    table = videos("A", 60, "test")
    results = evaluate(table, n_boot=60)
    video = results["datasets"]["A"]["video"]
    low, high = video["spread_ci"]
    assert 0 < low <= video["spread"] <= high <= 1
    every = next(one for one in result_tables(results) if one.title == "Every metric")
    assert "Score spread" in [row[0] for row in every.rows]
    audits, skipped = audit_datasets(table, ["gender"], min_samples=1, n_boot=60, n_perm=20)
    found = write(audits, skipped, tmp_path)["datasets"]["A"]
    assert equal(found["overall"]["spread_ci"], [low, high])
    groups = pd.read_csv(tmp_path / "by_group.csv")
    own = groups[groups["metric"] == "spread"].set_index("group")
    scores = video_scores(table)
    expected = scores.groupby("gender")["score"].agg(np.ptp)
    assert own["value"].to_dict() == pytest.approx(expected.to_dict())
    gaps = pd.read_csv(tmp_path / "gaps.csv").set_index("metric")
    assert gaps.loc["spread", "gap"] == pytest.approx(np.ptp(expected))
    assert gaps.loc["spread", "null_floor"] >= 0


def test_a_metric_without_a_vectorised_form_has_the_same_resamples():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 80), rng.random(80).round(2)
    weights = rng.integers(0, 4, (40, 9)).astype(float)
    sample = Sample(label, score, np.arange(80) // 2, 40)

    @metric("slow_auc", "AUC, slowly", higher_is_better=True, kind="ranking")
    def slow_auc(label, score) -> float:
        return auc(label, score)

    try:
        found = weighted_metrics(sample, weights, only=("auc", "slow_auc"))
    finally:
        del METRICS["slow_auc"]
    assert found["slow_auc"] == pytest.approx(found["auc"], abs=1e-12)


def test_reliability_and_the_calibration_error_have_the_same_bins():
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 500), rng.random(500)
    (group,) = calibration(label, score, pd.Series(["a"] * 500))
    shown = CalibrationDisplay.from_scores(label, score, "all").curves["all"]
    assert len(group["n"]) == len(shown.count) == CALIBRATION_BINS
    apart = np.abs(np.array(group["share_fake"]) - group["score"])
    ece = metrics.expected_calibration_error(label, score)
    assert np.dot(group["n"], apart) / 500 == pytest.approx(ece, abs=1e-12)
    np.testing.assert_array_equal(shown.low, group["low"])


def test_means_that_are_equal_are_equal_numbers_and_stay_tied():
    scores = {
        "v1": [0.1, 0.2, 0.3],
        "v2": [0.2, 0.2, 0.2],
        "v3": [0.3, 0.1, 0.2],
        "v4": [0.1, 0.3],
        "v5": [0.7, 0.1, 0.1, 0.1],
        "v6": [0.25],
    }
    label = {"v1": 0, "v2": 1, "v3": 1, "v4": 0, "v5": 1, "v6": 0}
    rows = [
        {"dataset": "A", "video": name, "label": label[name], "score": one}
        for name, each in scores.items()
        for one in each
    ]
    found = video_scores(pd.DataFrame(rows)).set_index("video")["score"]
    assert found["v1"] == found["v2"] == found["v3"] == found["v4"] == 0.2
    assert found["v5"] == found["v6"] == 0.25
    # Reals 0.2, 0.2, 0.25; fakes 0.2, 0.2, 0.25: 5 ties at half and 2 of 9 pairs in order.
    assert auc([label[name] for name in found.index], found) == (2 + 5 / 2) / 9


def test_the_smallest_and_largest_scores_keep_their_order():
    low = [1e-30, 2e-30, 3e-18, 1e-9, 0.5, 1 - 1e-9, 1 - 1e-11, 1.0]
    rows = [
        {"dataset": "A", "video": f"v{number}", "label": 0, "score": score * share}
        for number, score in enumerate(low)
        for share in (1.0, 1 - 1e-10)
    ]
    found = video_scores(pd.DataFrame(rows))["score"].to_numpy()
    assert (np.diff(found) > 0).all()
    means = pd.DataFrame(rows).groupby("video")["score"].mean().to_numpy()
    np.testing.assert_allclose(found, means, rtol=1e-11)
