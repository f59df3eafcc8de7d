"""A detector's features in two dimensions, and how much of the picture is in them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from openTSNE import TSNE, TSNEEmbedding

from unmasked.analysis.explain.intervals import mean_interval
from unmasked.datasets.errors import InputError

logger = logging.getLogger(__name__)

MINIMUM_POINTS = 8  # fewer cannot have a neighbourhood that means anything


class Purity(NamedTuple):
    """How often a point's neighbours share its label.

    ``value`` in [0, 1], with its interval of 95 %; ``chance`` is what labels without any relation to the
    points would give; ``k`` the neighbours that were looked at.
    """

    value: float
    chance: float
    k: int
    ci: tuple[float, float]


@dataclass(frozen=True)
class Embedded:
    """A t-SNE of features, into which others can be placed.

    Attributes:
        points: (N, 2).
        tsne: openTSNE's, fitted.
    """

    points: np.ndarray
    tsne: TSNEEmbedding

    def place(self, features: ArrayLike) -> np.ndarray:
        """(M, 2) places of other crops by their features (M, D), near those that are like them.

        Each is placed by itself (Poličar et al., Machine Learning 2023): others that come with it change
        nothing, and something new can only lie somewhere among what is there already.
        """
        middle = (self.points.max(axis=0) + self.points.min(axis=0)) / 2  # which the library moves to 0
        return np.asarray(self.tsne.transform(np.asarray(features, dtype=np.float64)), np.float64) + middle


def embed(features: ArrayLike, *, perplexity: float = 30, seed: int = 0) -> Embedded:
    """The t-SNE of (N, D) features; the same for the same features and seed.

    Only who is near whom can be read from it: not distances between clusters, their size, or the axes
    (van der Maaten & Hinton, JMLR 2008; Wattenberg et al., Distill 2016).

    Args:
        features: (N, D) finite numbers.
        perplexity: about how many neighbours each point has; see `usable_perplexity`.
        seed: of the initialisation's ties and the optimisation.

    Raises:
        InputError: fewer than 8 points, a value that is not finite, or all points the same.
    """
    points = np.asarray(features, dtype=np.float64)
    if points.ndim != 2 or len(points) < MINIMUM_POINTS:
        raise InputError(
            f"features have the shape {points.shape}; t-SNE needs (N, D) with at least {MINIMUM_POINTS} rows"
        )
    if not np.isfinite(points).all():
        raise InputError("features hold NaN or infinity; leave out the rows whose features failed")
    if np.ptp(points, axis=0).max() == 0:
        raise InputError("all features are the same, so there is nothing to show; was the detector trained?")
    used = usable_perplexity(len(points), perplexity)
    if used < perplexity:
        logger.warning("t-SNE of %d points: perplexity lowered from %g to %g", len(points), perplexity, used)
    start = "pca" if points.shape[1] >= 2 else "random"
    tsne = TSNE(perplexity=used, initialization=start, random_state=seed, n_jobs=1)
    fitted = tsne.fit(points)
    return Embedded(np.array(fitted, dtype=np.float64), fitted)


def usable_perplexity(n: int, wanted: float) -> float:
    """The largest perplexity up to ``wanted`` that n points allow: a third of the others.

    >>> usable_perplexity(1000, 30), usable_perplexity(31, 30)
    (30.0, 10.0)
    """
    return float(max(1.0, min(wanted, (n - 1) / 3)))


def neighbour_purity(
    points: ArrayLike, label: ArrayLike, *, clusters: ArrayLike | None = None, k: int = 10
) -> Purity:
    """Mean share of the k nearest other points that have a point's own label.

    Computed on features and again on their t-SNE, it tells structure from a picture's accident.

    Args:
        points: (N, D) features or t-SNE points.
        label: (N,) anything that can be compared.
        clusters: (N,) videos or identities. Neighbours from a point's own cluster are passed over: two
            frames of a video are alike whatever the detector learnt. They are what the interval resamples,
            whole; points as they are, so that it does not say how another map would lie.
        k: neighbours; fewer where a point has fewer others.

    Returns:
        NaN as value and chance where no point has a neighbour.

    >>> neighbour_purity([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1], k=1).value
    1.0
    """
    points = np.asarray(points, dtype=np.float64)
    same_label = _is_same_label(label)
    allowed = ~np.eye(len(points), dtype=bool) if clusters is None else ~_is_same_label(clusters)
    if not allowed.any():
        return Purity(float("nan"), float("nan"), 0, (float("nan"), float("nan")))
    distance = _squared_distances(points)
    distance[~allowed] = np.inf
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]  # (N, k)
    counted = np.take_along_axis(allowed, nearest, axis=1)
    agrees = np.take_along_axis(same_label, nearest, axis=1) & counted
    has_any = allowed.any(axis=1)
    each = agrees.sum(axis=1)[has_any] / counted.sum(axis=1)[has_any]
    chance = ((same_label & allowed).sum(axis=1)[has_any] / allowed.sum(axis=1)[has_any]).mean()
    _, cluster = np.unique(np.arange(len(points)) if clusters is None else clusters, return_inverse=True)
    ends = mean_interval(each, cluster[has_any])
    return Purity(float(each.mean()), float(chance), int(counted.sum(axis=1).max()), ends)


def _is_same_label(values: ArrayLike) -> np.ndarray:
    _, code = np.unique(np.asarray(values).astype(str), return_inverse=True)
    return code[:, None] == code[None, :]


def _squared_distances(points: np.ndarray) -> np.ndarray:
    squares = (points**2).sum(axis=1)
    return np.maximum(squares[:, None] + squares[None, :] - 2 * points @ points.T, 0.0)
