"""What figures are drawn from: ROC and PR points with bands, and score histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.evaluation import counts
from unmasked.evaluation.counts import Array, ratio
from unmasked.evaluation.intervals import Sample, bounded_interval, resampled_sums, seed_by_name
from unmasked.evaluation.levels import clusters_of
from unmasked.evaluation.metrics import Aggregation, video_scores
from unmasked.evaluation.predictions import evaluated_rows, validate_predictions

POINTS = 200
# Where a band is known: every hundredth, and closer where few reals are accused.
BAND_FPR = np.unique(np.concatenate([[0.001, 0.002, 0.005], np.linspace(0, 1, 101)]))


def curves(
    predictions: pd.DataFrame, *, aggregation: Aggregation = "mean", n_boot: int = 0, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """ROC and PR points by dataset and level, at most 200 of each, for drawing.

    Args:
        predictions: the predictions table of one detector.
        aggregation: how frame scores become a video score.
        n_boot: resamples of whole identities or videos behind the ROC's band of videos; 0 makes none.
        seed: of the resampling.

    Returns:
        ``{NAME: {"frame" | "video": {"roc": {"fpr", "tpr", "threshold"}, "pr": {"recall", "precision"},
        "n": {"real", "fake"}}}}``. Points run from the highest threshold down; a point is
        reached by ``score >= threshold``, the first by none (infinite). A dataset of one class has no points.
        With ``n_boot``, ``video`` also has ``"band": {"fpr", "tpr", "low", "high"}``, see `roc_band`.
    """
    rows = evaluated_rows(validate_predictions(predictions))
    found = {}
    for name, part in rows.groupby("dataset", sort=True):
        videos = video_scores(part, aggregation)
        found[str(name)] = {"frame": _curves(part), "video": _curves(videos)}
        if n_boot:
            rng = np.random.default_rng(seed_by_name(seed, name))
            sample = Sample.of(videos["label"], videos["score"], clusters_of(videos))
            found[str(name)]["video"]["band"] = roc_band(sample, n_boot=n_boot, seed=rng)
    return found


def roc_band(
    sample: Sample, *, n_boot: int = 500, seed: int | np.random.Generator = 0
) -> dict[str, list[float]]:
    """The ROC curve at fixed FPRs, its TPR with the 95 % interval from resampled clusters.

    Pointwise (vertical averaging, Fawcett 2006): each FPR's interval holds by itself; the whole curve lies
    within the band less often. Between points a curve is straight, as for the AUC.

    Returns:
        ``{"fpr", "tpr", "low", "high"}``, lists of equal length; empty where a class is absent, and
        intervals NaN where it has fewer than two clusters.
    """
    distinct, fp, tp = counts.curve(sample.label, sample.score)
    if not (fp[-1] and tp[-1]):
        return {key: [] for key in ("fpr", "tpr", "low", "high")}
    kept = _thin(fp / fp[-1] + tp / tp[-1])
    flagged = sample.score >= np.concatenate([[np.inf], distinct])[kept, None]  # (K, N)
    terms = np.concatenate([flagged & (sample.label == which) for which in (0, 1)])
    sums = resampled_sums(sample, terms.astype(np.float64), n_boot=n_boot, seed=seed)
    drawn_fp, drawn_tp = np.split(sums, 2)  # (K, n_boot) each
    drawn = np.stack(
        [
            np.interp(BAND_FPR, ratio(x, x[-1]), ratio(y, y[-1]))
            for x, y in zip(drawn_fp.T, drawn_tp.T, strict=True)
        ]
    )
    # No rate of one threshold: in each resample another one has that FPR.
    few = min(sample.clusters_by_class()) < 2
    nothing = float("nan"), float("nan")
    limits = [nothing if few else bounded_interval(at, sample.clusters_by_class()[1]) for at in drawn.T]
    limits[-1] = (1.0, 1.0)  # all are called fake, whoever is drawn
    estimate = np.interp(BAND_FPR, fp[kept] / fp[-1], tp[kept] / tp[-1])
    return {
        "fpr": BAND_FPR.tolist(),
        "tpr": estimate.tolist(),
        # The TPR never falls as the FPR grows, so what bounds it here bounds it further right.
        "low": np.maximum.accumulate([low for low, _ in limits]).tolist(),
        "high": [high for _, high in limits],
    }


def score_histogram(
    predictions: pd.DataFrame, *, aggregation: Aggregation = "mean", bins: int = 20
) -> dict[str, dict[str, list[float]]]:
    """How many real and fake videos score in each of ``bins`` equal bins of [0, 1], by dataset.

    Returns:
        ``{NAME: {"edges": bins + 1 values, "real": bins counts, "fake": bins counts}}``.
    """
    rows = evaluated_rows(validate_predictions(predictions))
    result = {}
    for name, part in rows.groupby("dataset", sort=True):
        scored = video_scores(part, aggregation)
        edges = np.linspace(0.0, 1.0, bins + 1)
        real, fake = (np.histogram(scored["score"][scored["label"] == which], edges)[0] for which in (0, 1))
        result[str(name)] = {"edges": edges.tolist(), "real": real.tolist(), "fake": fake.tolist()}
    return result


def _curves(rows: pd.DataFrame) -> dict[str, Any]:
    label, score = rows["label"].to_numpy(np.int64), rows["score"].to_numpy(np.float64)
    distinct, fp, tp = counts.curve(label, score)
    real, fake = int(fp[-1]), int(tp[-1])
    kept = _thin(fp / real + tp / fake) if real and fake else np.empty(0, dtype=np.int64)
    flagged = kept[kept > 0]  # precision is undefined where nothing is called fake
    return {
        "roc": {
            "fpr": ratio(fp[kept], real).tolist(),
            "tpr": ratio(tp[kept], fake).tolist(),
            "threshold": np.concatenate([[np.inf], distinct])[kept].tolist(),
        },
        "pr": {
            "recall": ratio(tp[flagged], fake).tolist(),
            "precision": ratio(tp[flagged], tp[flagged] + fp[flagged]).tolist(),
        },
        "n": {"real": real, "fake": fake},
    }


def _thin(position: Array) -> NDArray[np.int64]:
    """Indices of at most POINTS points, evenly along the curve (``position`` ascends), with both ends."""
    if len(position) <= POINTS:
        return np.arange(len(position))
    wanted = np.linspace(position[0], position[-1], POINTS - 1)[:-1]
    return np.unique(np.append(np.searchsorted(position, wanted), len(position) - 1))
