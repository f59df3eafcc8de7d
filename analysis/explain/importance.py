"""What a detector's AUC owes to each block of its features.

Permutation importance and exact Shapley values.

Both look at one game. The value of some blocks is the AUC where all other blocks are those of another
image, drawn at random, so that a block stays consistent in itself: single columns of a histogram, or columns
that are copies of one another, would say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from unmasked.datasets.errors import InputError
from unmasked.evaluation.intervals import Sample, percentile_interval, resample_together
from unmasked.evaluation.metrics import auc

Array = NDArray[np.float64]

MOST_BLOCKS = 8  # each one more doubles the number of coalitions


@dataclass(frozen=True)
class Importance:
    """What each block adds.

    Attributes:
        auc: of all blocks, crop by crop.
        chance: the AUC of no block: every image scored by another one's features.
        table: a row a block, as in the order of the features: ``block``, ``features`` (how many), ``drop`` of
            the AUC where the block alone is another image's, ``shapley`` (they add up to auc - chance), and
            the ends of both intervals, ``…_low`` and ``…_high``, over resampled people or videos; NaN where a
            class has fewer than two.
        repeats: draws of other images.
        clusters: resampled people or videos.
    """

    auc: float
    chance: float
    table: pd.DataFrame
    repeats: int
    clusters: int

    def facts(self) -> dict[str, Any]:
        """Everything, for JSON."""
        kept = {name: getattr(self, name) for name in ("auc", "chance", "repeats", "clusters")}
        return kept | {"blocks": self.table.to_dict("records")}


def block_importance(
    probability: Callable[[NDArray[Any]], Array],
    vectors: NDArray[Any],
    label: ArrayLike,
    cluster: ArrayLike,
    blocks: Mapping[str, slice],
    *,
    repeats: int = 10,
    n_boot: int = 500,
    seed: int = 0,
) -> Importance:
    """The importance of each block of a fitted detector, which stays as it is.

    A drop is the AUC less the mean AUC of the repeats; the value of a coalition is the AUC of the mean score
    over the repeats, all of which draw the same other images for every coalition.

    Args:
        probability: (N, F) -> (N,) P(fake).
        vectors: (N, F) features of images that the detector was not fitted on.
        label: (N,) 1 = fake; both classes.
        cluster: (N,) what is resampled whole.
        blocks: columns by name, at most `MOST_BLOCKS`.
        repeats: draws of other images, at least 1.
        n_boot: resamples of clusters.
        seed: of both.

    Raises:
        InputError: one class alone, or too many blocks.
    """
    label = np.asarray(label, np.int64)
    if len(np.unique(label)) < 2 or not 1 <= len(blocks) <= MOST_BLOCKS:
        raise InputError(
            f"the importance of blocks wants reals and fakes, and 1 to {MOST_BLOCKS} blocks; there are "
            f"{len(np.unique(label))} classes and {len(blocks)} blocks"
        )
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(label)) for _ in range(repeats)]
    everything = (1 << len(blocks)) - 1
    columns = list(blocks.values())
    scores: dict[int, Array] = {everything: probability(vectors)[None]}  # by coalition, (repeats, N)
    for present in range(everything):
        absent = [column for bit, column in enumerate(columns) if not present >> bit & 1]
        scores[present] = np.stack([probability(_mixed(vectors, order, absent)) for order in orders])
    samples = [Sample.of(label, scores[present].mean(0), cluster) for present in range(everything + 1)]
    singles = [
        Sample.of(label, score, cluster)
        for bit in range(len(columns))
        for score in scores[everything ^ (1 << bit)]
    ]
    drawn = resample_together(
        [*samples, *singles], [0.5] * (len(samples) + len(singles)), n_boot=n_boot, seed=seed, only=["auc"]
    )
    # The value of each game in the sample, then in every resample.
    values = np.array([[auc(one.label, one.score)] for one in (*samples, *singles)])
    values = np.hstack([values, np.stack([one["auc"] for one in drawn])])
    whole, alone = values[: len(samples)], values[len(samples) :].reshape(len(columns), repeats, -1)
    clusters = samples[0].clusters_by_class()
    table = pd.DataFrame({"block": list(blocks), "features": [one.stop - one.start for one in columns]})
    for name, found in (("drop", whole[-1] - alone.mean(1)), ("shapley", shapley(whole))):
        ends = [percentile_interval(row[1:], clusters=min(clusters)) for row in found]
        table[name] = found[:, 0]
        table[f"{name}_low"], table[f"{name}_high"] = np.array(ends).T
    return Importance(float(whole[-1, 0]), float(whole[0, 0]), table, repeats, int(samples[0].clusters))


def shapley(values: Array) -> Array:
    """(K, …) Shapley values of a game (2^K, …), exactly.

    Entry s is the value of the players whose bits are set in s (Shapley 1953).

    >>> shapley(np.array([0.0, 1.0, 2.0, 5.0])).tolist()  # alone 1 and 2, together 2 more
    [2.0, 3.0]
    """
    players = len(values).bit_length() - 1
    found = np.zeros((players, *values.shape[1:]))
    for player in range(players):
        bit = 1 << player
        for others in (s for s in range(len(values)) if not s & bit):
            weight = 1 / (players * comb(players - 1, others.bit_count()))
            found[player] += weight * (values[others | bit] - values[others])
    return found


def _mixed(vectors: NDArray[Any], order: NDArray[np.int64], absent: list[slice]) -> NDArray[Any]:
    """The vectors with some of their columns out of other rows."""
    mixed = vectors.copy()
    for column in absent:
        mixed[:, column] = vectors[order, column]
    return mixed
