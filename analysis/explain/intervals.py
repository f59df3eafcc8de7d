"""Intervals of means over pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unmasked.evaluation.intervals import percentile_interval

N_BOOT = 2000


def mean_interval(
    values: ArrayLike, cluster: NDArray[np.int64] | None = None, *, seed: int = 0
) -> tuple[float, float]:
    """The interval of 95 % of a mean; NaN of fewer than two clusters.

    Args:
        values: (N,).
        cluster: (N,) codes from 0: people or videos, resampled whole; each value by itself if not given.
        seed: of the resamples.

    >>> low, high = mean_interval([0.0, 1.0] * 50)
    >>> round(low, 1), round(high, 1)
    (0.4, 0.6)
    """
    given = np.asarray(values, dtype=np.float64)
    code = np.arange(len(given)) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    clusters = int(code.max()) + 1 if len(code) else 0
    if clusters < 2:
        return float("nan"), float("nan")
    sums, sizes = np.bincount(code, given), np.bincount(code)
    draws = np.random.default_rng(seed).integers(0, clusters, (N_BOOT, clusters))
    return percentile_interval(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1), clusters=clusters)
