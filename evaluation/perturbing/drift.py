"""What perturbations do to a detector.

Drift of FPR and TPR at the stored threshold, beside the AUC.
An AUC does not see a shift that moves reals and fakes alike; a stored threshold does. So every perturbation
is read at the threshold that was fitted before, and compared with the same crops untouched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation import metrics
from unmasked.evaluation.counts import Array
from unmasked.evaluation.intervals import (
    CONFIDENCE,
    Sample,
    behind,
    intervals_of,
    percentile_interval,
    resample,
    seed_by_name,
)
from unmasked.evaluation.levels import clusters_of
from unmasked.evaluation.metrics import Aggregation, video_scores
from unmasked.evaluation.perturbing.registry import setting_words, split_label
from unmasked.evaluation.predictions import evaluated_rows, is_perturbed
from unmasked.evaluation.records import Measures, Numbers, Robustness
from unmasked.evaluation.thresholds import Threshold

Draws = dict[str, Array]

SHOWN = ("auc", "fpr", "tpr")
CROP = ("dataset", "video", "compression", "frame", "face")
_CODE = "_crop"
# Where AUC moves by no more than the first while FPR or TPR moves by at least the second, AUC hides it.
AUC_STILL = 0.02
RATE_DRIFTS = 0.05


def robustness(
    predictions: pd.DataFrame,
    threshold: Threshold | float,
    *,
    n_boot: int = 2000,
    seed: int = 0,
    aggregation: Aggregation = "mean",
) -> list[Robustness]:
    """One record for each dataset, perturbation and severity.

    Video AUC, FPR and TPR, and their drift. A change is perturbed minus clean, on the same crops of the same
    videos, and its interval draws the same videos for both. Numbers are NaN where a class that they need
    is absent, intervals also where a class has fewer than two clusters.

    Args:
        predictions: valid under `PREDICTIONS`, clean and perturbed rows of one detector; which splits count
            is decided as in `evaluate`. Without perturbed rows the list is empty.
        threshold: the stored operating point; a video is called fake where its score is above.
        n_boot: resamples behind each interval.
        seed: of the resampling; that of `evaluate` gives the same resamples of the clean videos.
        aggregation: how frame scores become a video score.

    Raises:
        InputError: perturbed crops of a dataset have no clean scores to compare with.
    """
    cut = threshold.value if isinstance(threshold, Threshold) else float(threshold)
    drawn: dict[tuple[str, bytes, bytes, bytes], Draws] = {}  # most perturbations are of the same crops
    records: list[Robustness] = []
    for (dataset, label, severity), clean, perturbed in _pairs(predictions):
        name, where = split_label(label)
        before, after = _samples(clean, perturbed, aggregation)
        # As in `evaluate`: the same resamples with or without the other datasets.
        rng_seed = seed_by_name(seed, dataset)
        key = (dataset, before.score.tobytes(), before.label.tobytes(), before.cluster.tobytes())
        if key not in drawn:
            drawn = {key: _draws(before, cut, n_boot, rng_seed)}
        draws = drawn[key], _draws(after, cut, n_boot, rng_seed)
        fake = int(before.label.sum())
        known = not np.isnan(severity)
        condition = {
            "dataset": dataset,
            "perturbation": name,
            "severity": int(severity) if known else None,
            "where": where,
            "setting": setting_words(name, int(severity)) if known else "",
            "videos": len(before.label),
            "real_videos": len(before.label) - fake,
            "fake_videos": fake,
            "threshold": cut,
        }
        records.append(cast(Robustness, condition | _drift(before, after, cut, draws)))
    return records


def is_drift_hidden(record: Measures, rate: str) -> bool:
    """True if AUC stays (`AUC_STILL`) while FPR or TPR surely moves (`RATE_DRIFTS`)."""
    low, high = record[f"{rate}_change_ci"]
    return (
        abs(record["auc_change"]) <= AUC_STILL
        and abs(record[f"{rate}_change"]) >= RATE_DRIFTS
        and bool(low > 0 or high < 0)
    )


def _pairs(
    predictions: pd.DataFrame,
) -> Iterator[tuple[tuple[str, str, float], pd.DataFrame, pd.DataFrame]]:
    """(dataset, label, severity) with the clean and the perturbed rows of the same crops, in one order."""
    if not is_perturbed(predictions).any():
        return
    rows = evaluated_rows(predictions, perturbed=True)
    is_moved = is_perturbed(rows)
    clean, perturbed = rows[~is_moved], rows[is_moved]
    if "severity" not in perturbed:
        perturbed = perturbed.assign(severity=np.nan)
    # A crop where the table tells crops apart, else all rows of a video.
    keys = [name for name in CROP if name in predictions]
    both = pd.concat([clean[keys], perturbed[keys]])
    code = both.groupby(keys, dropna=False, sort=False, observed=True).ngroup().to_numpy()
    clean_code, perturbed = code[: len(clean)], perturbed.assign(**{_CODE: code[len(clean) :]})
    for (dataset, label, severity), rows in perturbed.groupby(
        ["dataset", "perturbation", "severity"], dropna=False, observed=True
    ):
        paired = rows[rows[_CODE].isin(clean_code)].sort_values(_CODE, kind="stable")
        if paired.empty:
            raise InputError(
                f"the {len(rows)} scores of {dataset} under {label} have no clean scores of the same "
                f"{'crops' if 'frame' in keys else 'videos'} beside them; predict those as well"
            )
        order = np.argsort(clean_code, kind="stable")
        order = order[np.isin(clean_code[order], paired[_CODE])]
        yield (str(dataset), str(label), float(severity)), clean.iloc[order], paired.drop(columns=_CODE)


def _draws(sample: Sample, cut: float, n_boot: int, seed: list[int]) -> Draws:
    return resample(sample, cut, n_boot=n_boot, seed=np.random.default_rng(seed), only=SHOWN)


def _samples(clean: pd.DataFrame, perturbed: pd.DataFrame, aggregation: Aggregation) -> tuple[Sample, Sample]:
    """The videos of both, in one order and with the same clusters, so that a seed draws the same ones."""
    before, after = (video_scores(rows, aggregation) for rows in (clean, perturbed))
    assert (before["video"].to_numpy() == after["video"].to_numpy()).all()
    sample = Sample.of(before["label"], before["score"], clusters_of(before))
    return sample, replace(sample, score=after["score"].to_numpy(np.float64))


def _drift(before: Sample, after: Sample, cut: float, draws: tuple[Draws, Draws]) -> Numbers:
    """The values of `SHOWN` before and after, and the change, each with its interval."""
    values = [metrics.all_metrics(sample.label, sample.score, cut, SHOWN) for sample in (before, after)]
    found = intervals_of(after, values[1], draws[1])
    result: Numbers = {}
    for name in SHOWN:
        change = draws[1][name] - draws[0][name]
        result |= {
            name: values[1][name],
            f"{name}_ci": list(found[name]),
            f"{name}_clean": values[0][name],
            f"{name}_change": values[1][name] - values[0][name],
            f"{name}_change_ci": list(_change_interval(change, name, before)),
        }
    return result


def _change_interval(change: Array, name: str, sample: Sample) -> tuple[float, float]:
    """The interval of a paired change; where no resample moves it, what n unmoved clusters cannot exclude.

    The bootstrap would claim certainty there. n clusters of which none has moved bound the share that
    moves by 1 - 0.025^(1/n), up or down (Clopper and Pearson 1934).
    """
    if min(number for number in sample.clusters_by_class() if number) < 2:
        return float("nan"), float("nan")
    n = behind(name, sample)[0]
    low, high = percentile_interval(change, clusters=n)
    if low == high:
        reach = 1 - ((1 - CONFIDENCE) / 2) ** (1 / n)
        return max(-1.0, low - reach), min(1.0, high + reach)
    return low, high
