"""What figures are drawn from: ROC and precision-recall points, and histograms of scores."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.evaluation import counts
from unmasked.evaluation.counts import Array, ratio
from unmasked.evaluation.metrics import video_scores
from unmasked.evaluation.predictions import evaluated_rows, validated

POINTS = 200


def curves(predictions: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """ROC and PR points by dataset and level, at most 200 of each, for drawing.

    Returns:
        ``{NAME: {"frame" | "video": {"roc": {"fpr", "tpr", "threshold"}, "pr": {"recall", "precision"},
        "auc": x, "ap": x, "n": {"real", "fake"}}}}``. Points run from the highest threshold down; a point is
        reached by ``score >= threshold``, the first by none (infinite). A dataset of one class has no points.
    """
    rows, _ = evaluated_rows(validated(predictions))
    return {
        str(name): {"frame": _curves(part), "video": _curves(video_scores(part))}
        for name, part in rows.groupby("dataset", sort=True)
    }


def score_histogram(
    predictions: pd.DataFrame, level: Literal["frame", "video"] = "video", bins: int = 20
) -> dict[str, dict[str, list[float]]]:
    """How many reals and fakes score in each of ``bins`` equal bins of [0, 1], by dataset.

    Returns:
        ``{NAME: {"edges": bins + 1 values, "real": bins counts, "fake": bins counts}}``.
    """
    rows, _ = evaluated_rows(validated(predictions))
    result = {}
    for name, part in rows.groupby("dataset", sort=True):
        scored = video_scores(part) if level == "video" else part
        edges = np.linspace(0.0, 1.0, bins + 1)
        real, fake = (np.histogram(scored["score"][scored["label"] == which], edges)[0] for which in (0, 1))
        result[str(name)] = {"edges": edges.tolist(), "real": real.tolist(), "fake": fake.tolist()}
    return result


def _curves(rows: pd.DataFrame) -> dict[str, Any]:
    label, score = rows["label"].to_numpy(np.int64), rows["score"].to_numpy(np.float64)
    distinct, fp, tp = counts.curve(label, score)
    real, fake = int(fp[-1]), int(tp[-1])
    kept = _thinned(fp / real + tp / fake) if real and fake else np.empty(0, dtype=np.int64)
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
        "auc": float(counts.area_under_roc(fp, tp)),
        "ap": float(counts.average_precision(fp, tp)),
        "n": {"real": real, "fake": fake},
    }


def _thinned(position: Array) -> NDArray[np.int64]:
    """Indices of at most POINTS points, evenly along the curve (``position`` ascends), with both ends."""
    if len(position) <= POINTS:
        return np.arange(len(position))
    wanted = np.linspace(position[0], position[-1], POINTS - 1)[:-1]
    return np.unique(np.append(np.searchsorted(position, wanted), len(position) - 1))
