"""Predictions in, ``metrics.json`` out: every metric with its interval.

By dataset, level and method.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.abstention import Band
from unmasked.evaluation.calibration import Calibration
from unmasked.evaluation.collection import only_value
from unmasked.evaluation.counts import Array
from unmasked.evaluation.cross_auc import cross_auc
from unmasked.evaluation.fitted import Fitted
from unmasked.evaluation.intervals import CONFIDENCE, describe_intervals, difference_interval, seed_by_name
from unmasked.evaluation.levels import Applied, check_one_detector, dataset_numbers
from unmasked.evaluation.likelihood import LikelihoodRatio
from unmasked.evaluation.metrics import TOP_K, Aggregation
from unmasked.evaluation.origin import NOT_STATED, Origin
from unmasked.evaluation.predictions import (
    evaluated_rows_and_notes,
    is_perturbed,
    noun_of,
    validate_predictions,
)
from unmasked.evaluation.records import DatasetResults, MatrixRow, Results, Settings
from unmasked.evaluation.thresholds import Threshold

LEVELS = ("frame", "video")


def evaluate(
    predictions: pd.DataFrame,
    *,
    threshold: Threshold | float | None = None,
    thresholds: Mapping[str, Threshold] | None = None,
    calibrations: Mapping[str, Calibration] | None = None,
    band: Band | None = None,
    likelihood: LikelihoodRatio | None = None,
    n_boot: int = 2000,
    seed: int = 0,
    source: str | None = None,
    aggregation: Aggregation = "mean",
    selection_rule: str | None = None,
) -> Results:
    """Everything that is written to ``metrics.json``, see `records`; NaN where undefined.

    Args:
        predictions: the predictions table of one detector.
        threshold: the stored operating point; accuracy and the other metrics that need a threshold are
            then at it, again under ``at_threshold`` with what it is, and at 0.5 under ``at_half``.
            Without it they are at ``score > 0.5``.
        thresholds: further operating points by name, reported under ``at_thresholds``.
        calibrations: score calibrations by kind, fitted on the source (`fitted.fit_on_source`).
        band: the uncertain band that was fitted there.
        likelihood: the map from scores to likelihood ratios that was fitted there.
        n_boot: resamples behind each interval; 0 leaves intervals NaN.
        seed: of the resampling. A dataset's intervals do not depend on which others are in the table.
        source: the dataset that the detector was trained on; the generalization gap is measured from it.
        aggregation: how frame scores become a video score.
        selection_rule: how the checkpoint was chosen, in words; it belongs under every number.

    Raises:
        InputError: the table is not valid, holds several detectors, or datasets of one class each.
    """
    predictions = validate_predictions(predictions)
    rows, notes = evaluated_rows_and_notes(predictions)
    check_one_detector(rows)
    _check_classes(rows)
    if isinstance(threshold, (int, float)):
        threshold = Threshold.from_dict({"value": threshold, "rule": "given", "level": "any"})
    applied = Applied(threshold, thresholds or {}, calibrations or {}, band, likelihood, aggregation, n_boot)
    if source is not None and source not in set(rows["dataset"]):
        notes.append(f"no row is of the source {source}: the gap to it is not known")
    blocks: dict[str, DatasetResults] = {}
    draws: dict[str, Array] = {}
    for name, of_dataset in rows.groupby("dataset", sort=True):
        # Seeded by name: the same resamples with or without the other datasets.
        found = dataset_numbers(of_dataset, applied, seed_by_name(seed, name))
        blocks[str(name)], draws[str(name)] = found
    origin = Origin.of_rows(rows)
    settings: Settings = {
        "threshold": applied.operating_point.to_dict(),
        "decision": "fake when score > threshold",
        "n_boot": n_boot,
        "seed": seed,
        "confidence": CONFIDENCE,
        "unit": "identity where known, else video; resampled whole, stratified by class",
        "interval": describe_intervals(),
        "delong": "auc_ci_delong is beside auc_ci where each cluster is one row; it is never in its place",
        "gap": "AUC on the source minus AUC here, independent intervals; positive = worse here",
        "aggregation": aggregation,
        "top_k": TOP_K,
        "rows": notes,
        "source": source or NOT_STATED,
        "selection_rule": selection_rule or NOT_STATED,
        "detector": only_value(rows, "detector") or NOT_STATED,
        "checkpoint": origin.checkpoint or NOT_STATED,
        "scores": dict(origin.scores),
    }
    if (noun := noun_of(rows)) != "video":
        settings["noun"] = noun
    results: Results = {"datasets": blocks, "matrix": _matrix(blocks, draws, source), "settings": settings}
    if crossed := cross_auc(rows, aggregation=aggregation, n_boot=n_boot, seed=seed):
        results["cross_auc"] = crossed
    if is_perturbed(predictions).any():
        from unmasked.evaluation.perturbing.drift import robustness  # with OpenCV and Pillow

        if drift := robustness(
            predictions, applied.operating_point, n_boot=n_boot, seed=seed, aggregation=aggregation
        ):
            results["robustness"] = drift
    return results


def evaluate_fitted(
    predictions: pd.DataFrame,
    fitted: Fitted | None,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    source: str | None = None,
    aggregation: Aggregation = "mean",
    selection_rule: str | None = None,
) -> Results:
    """`evaluate` with all that was fitted for a detector, or at 0.5 where nothing was."""
    return evaluate(
        predictions,
        threshold=fitted.threshold if fitted else None,
        thresholds=fitted.other_thresholds if fitted else None,
        calibrations=fitted.calibrations if fitted else None,
        band=fitted.band if fitted else None,
        likelihood=fitted.likelihood if fitted else None,
        n_boot=n_boot,
        seed=seed,
        source=source,
        aggregation=aggregation,
        selection_rule=selection_rule,
    )


def _check_classes(rows: pd.DataFrame) -> None:
    held = rows.groupby("dataset")["label"].nunique()
    if held.max() < 2 and rows["label"].nunique() == 2:
        raise InputError(
            "no dataset of the predictions table holds both reals (label 0) and fakes (label 1), and AUC "
            f"needs both within a dataset; it has {', '.join(map(str, held.index))}. Give them one dataset "
            "name if they belong together"
        )


def _matrix(
    blocks: Mapping[str, DatasetResults], draws: Mapping[str, Array], source: str | None
) -> list[MatrixRow]:
    """A row for each tested dataset, the source first: video AUC and how far it falls behind the source's."""
    rows: list[MatrixRow] = []
    for name in sorted(blocks, key=lambda name: (name != source, name)):
        video = blocks[name]["video"]
        gap, gap_ci = float("nan"), (float("nan"), float("nan"))
        if name == source:
            gap, gap_ci = (0.0, (0.0, 0.0)) if not np.isnan(video["auc"]) else (gap, gap_ci)
        elif source is not None and source in blocks:
            gap = blocks[source]["video"]["auc"] - video["auc"]
            own = blocks[source]["video"]["auc_ci"], video["auc_ci"]
            sizes = [blocks[which]["n"] for which in (source, name)]
            fewest = min(min(n["real_clusters"], n["fake_clusters"]) for n in sizes)
            gap_ci = difference_interval((draws[source], draws[name]), own, fewest)
        rows.append(
            {
                "train": source or NOT_STATED,
                "test": name,
                "level": "video",
                "auc": video["auc"],
                "ci": list(video["auc_ci"]),
                "gap_to_source": gap,
                "gap_ci": list(gap_ci),
                "paired": False,
            }
        )
    return rows
