"""Whether a method's maps can be trusted: tests that every map goes through.

A map may be blank, the same for every picture, or made by the picture's edges alone whatever the detector
learned; it still looks convincing. So each method is asked whether its maps differ between pictures, change
when the detector forgets, and find what the score depends on better than a random order and better than the
middle of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, computed_field
from torch import Tensor, nn

from unmasked.analysis.explain.intervals import mean_interval
from unmasked.analysis.explain.methods import METHODS, Explained, blurred, margins_without, method_maps
from unmasked.analysis.explain.regions import grid

Array = NDArray[np.float64]

CELLS = 16  # to a side: what is taken away at once
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)  # of the cells, taken away or put back
BRIEF = (0.1, 0.3)
RANDOM_ORDERS = 5
SHUFFLED = (0.1, 0.5, 1.0)  # of the weights' tensors, from the last on
SHUFFLED_PICTURES = 4  # at most: these maps are what the tests cost most
ALIKE = 0.98  # rank correlation of maps of different pictures from which they count as one map
UNMOVED = 0.5  # rank correlation with the map of a detector that knows nothing, from which a map says nothing
CENTRE_SPREAD = 0.25  # of the picture's side: the map that looks at the middle, whatever there is


class Curve(BaseModel):
    """A mean over pictures: of deletion and insertion, how much the maps' order beats another.

    Attributes:
        value: the area between the curves, in the units of the margin; above 0 the map's order is better.
        ci: its interval of 95 % over pictures, one of each video, or over people; NaN with fewer than two.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    ci: tuple[float, float]


class Inside(BaseModel):
    """How much of the maps lies where the fakes were changed; see `inside`.

    Attributes:
        pictures: fakes whose manipulation mask is known.
        chance: the masks' share of the picture, on average: what a map by lot reaches.
        shares: by measure, the mean over pictures.
        less_centre: by measure, that less what the middle of the picture reaches, paired.
    """

    model_config = ConfigDict(frozen=True)

    pictures: int
    chance: float
    shares: dict[str, Curve]
    less_centre: dict[str, Curve]


class MethodChecks(BaseModel):
    """What the tests found of one method.

    Attributes:
        method: one of `METHODS`.
        pictures: how many maps were tested.
        blank: for each picture, whether the map holds nothing.
        alike: median rank correlation of the maps of different pictures; NaN with one picture.
        shuffled: for each of `SHUFFLED` the median rank correlation with the map of a detector whose weights
            are shuffled to that share; empty for detectors that cannot be shuffled.
        deletion, insertion: by what the map is compared with, "random" or "centre".
        sum_error: largest difference between a map's sum and what it should add up to, as a share of that;
            None where the method promises no sum.
        inside: for fakes whose manipulation mask is known, how much of the maps lies in it; None without any.
        failed: in words, what a reader must know before he reads such a map; empty where it passed.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    pictures: int
    blank: list[bool]
    alike: float
    shuffled: list[float]
    deletion: dict[str, Curve]
    insertion: dict[str, Curve]
    sum_error: float | None
    inside: Inside | None
    failed: list[str]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_failed(self) -> bool:
        """True if no map of the method can be trusted: more is wrong than that some are blank."""
        return all(self.blank) or len(self.failed) > any(self.blank)


def check_method(
    explained: Explained,
    images: Tensor,
    name: str,
    maps: NDArray[np.float32],
    masks: NDArray[np.bool_] | None = None,
    *,
    sources: Sequence[int] | None = None,
    people: NDArray[np.int64] | None = None,
    others: OtherOrders | None = None,
    is_brief: bool = False,
) -> MethodChecks:
    """Puts the maps of a method to every test.

    Args:
        explained: the detector.
        images: (N, 3, H, W) in [-1, 1], one of each video.
        name: one of `METHODS`.
        maps: (N, H, W) what `methods.method_maps` made of them.
        masks: (N, H, W) True where a picture was changed; nowhere where that is not known.
        sources: whose face each picture shows; maps of one face may be alike. None: all are of others.
        people: (N,) codes of whom each picture is of, for the intervals of ``inside``; None: each of another.
        others: what `other_orders` found of these pictures, the same for every method; made if not given.
        is_brief: fewer shares of cells and of shuffled weights, a quarter of the time.
    """
    blank = is_blank(maps)
    alike = likeness(maps[~blank], None if sources is None else np.asarray(sources)[~blank])
    shuffled = []
    asked = np.flatnonzero(~blank)
    if isinstance(explained.model, nn.Module) and len(asked):
        asked = asked[np.linspace(0, len(asked) - 1, min(SHUFFLED_PICTURES, len(asked))).astype(int)]
        # The whole curve: where it stays high, early layers make the map.
        for share in SHUFFLED[-1:] if is_brief else SHUFFLED:
            forgetful = method_maps(explained.shuffled(share), images[asked], name)
            pairs = [rank_correlation(*pair) for pair in zip(maps[asked], forgetful, strict=True)]
            shuffled.append(_median(pairs))
    shares = BRIEF if is_brief else SHARES
    deletion, insertion = order_gains(explained, images, maps, shares, others, ~blank)
    sum_error = _sum_error(explained, images, maps) if METHODS[name].has_sum else None
    return MethodChecks(
        method=name,
        pictures=len(maps),
        blank=blank.tolist(),
        alike=alike,
        shuffled=shuffled,
        deletion=deletion,
        insertion=insertion,
        sum_error=sum_error,
        inside=None if masks is None else inside_masks(maps, masks, people, explained.seed),
        failed=_failures(blank, alike, shuffled, deletion),
    )


def is_blank(maps: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) bool, of maps (N, H, W): one value everywhere, or none that is finite."""
    flat = maps.reshape(len(maps), -1)
    finite = np.isfinite(flat).all(axis=1)
    return ~finite | (np.ptp(np.nan_to_num(flat), axis=1) <= 1e-12 * np.abs(np.nan_to_num(flat)).max(axis=1))


def likeness(maps: NDArray[np.float32], sources: NDArray[np.int64] | None = None) -> float:
    """Median rank correlation of the maps (N, H, W) of different ``sources``; NaN with one.

    Without ``sources`` each picture is of another.
    """
    of = np.arange(len(maps)) if sources is None else sources
    pairs = [rank_correlation(maps[i], maps[j]) for i in range(len(maps)) for j in range(i) if of[i] != of[j]]
    return _median(pairs)


def rank_correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Spearman's correlation of two maps (H, W), cell by cell; 0 where either holds one value.

    >>> rank_correlation(np.eye(16, dtype=np.float32), np.eye(16, dtype=np.float32))
    1.0
    """
    from scipy.stats import rankdata

    ranks = [rankdata(cell_means(one[None])[0]) for one in (a, b)]
    spread = np.std(ranks[0]) * np.std(ranks[1])
    if not spread:
        return 0.0
    return float(np.round(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())) / spread, 12))


def cell_means(maps: NDArray[np.float32]) -> Array:
    """(N, cells) the mean of maps (N, H, W) in each cell, at most `CELLS` to a side."""
    side = min(CELLS, maps.shape[-1])
    cells = grid(maps.shape[-1], side).ravel()
    sums = np.stack([np.bincount(cells, one.ravel(), side * side) for one in maps.astype(np.float64)])
    return sums / np.bincount(cells, minlength=side * side)


@dataclass(frozen=True)
class OtherOrders:
    """What orders that no map has a part in do to the margins of N pictures.

    Attributes:
        shares: of the cells, taken away or put back.
        random: (N, `RANDOM_ORDERS`, cells) orders by lot.
        areas: (N, 1 + `RANDOM_ORDERS`, 2) of deletion and insertion: the middle first, then those by lot.
    """

    shares: Sequence[float]
    random: NDArray[np.int64]
    areas: Array


def other_orders(explained: Explained, images: Tensor, shares: Sequence[float] = SHARES) -> OtherOrders:
    """What `order_gains` compares maps of pictures (N, 3, H, W) with, of any method."""
    side = min(CELLS, images.shape[-1])
    generator = np.random.default_rng(explained.seed)
    centre = np.argsort(-cell_means(centre_map(images.shape[-1])[None])[0], kind="stable")
    random = np.array([[generator.permutation(side * side) for _ in range(RANDOM_ORDERS)] for _ in images])
    areas = [
        _areas(explained, picture, [centre, *own], shares)
        for picture, own in zip(images, random, strict=True)
    ]
    return OtherOrders(shares, random, np.array(areas))


def order_gains(
    explained: Explained,
    images: Tensor,
    maps: NDArray[np.float32],
    shares: Sequence[float] = SHARES,
    others: OtherOrders | None = None,
    counted: NDArray[np.bool_] | None = None,
) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Deletion and insertion: how much better than other orders a map's order is.

    After Petsiuk et al. (BMVC 2018). Deletion blurs the cells of the highest values first, a share at a
    time, and should lower the margin sooner; insertion starts from the blurred picture and should raise it
    sooner.

    Args:
        explained: the detector.
        images: (N, 3, H, W).
        maps: (N, H, W).
        shares: of the cells, taken away or put back; those of ``others`` where these are given.
        others: of the same images; made if not given.
        counted: (N,) which maps count; all if not given.

    Returns:
        For deletion and for insertion, by what the map is compared with: "random" order, mean of
        `RANDOM_ORDERS`, and "centre", the middle of the picture first. Nothing where no map counts.
    """
    rows = np.arange(len(maps)) if counted is None else np.flatnonzero(counted)
    if not len(rows):
        return {}, {}
    others = others or other_orders(explained, images, shares)
    values, own = cell_means(maps), []
    for row in rows:
        # Ties, of which a map with zeros has many, fall by chance and not by where they lie.
        ties = others.random[row, 0]
        order = ties[np.argsort(-values[row, ties], kind="stable")]
        own.append(_areas(explained, images[row], [order], others.shares))
    # (n, 1 + random, 2): above 0 where the map lowers the margin sooner.
    better = others.areas[rows] - np.array(own)
    gains = {"random": better[:, 1:].mean(axis=1), "centre": better[:, 0]}
    deletion, insertion = (
        {other: _curve(sign * found[:, place], seed=explained.seed) for other, found in gains.items()}
        for place, sign in ((0, 1), (1, -1))
    )
    return deletion, insertion


def _areas(
    explained: Explained, picture: Tensor, orders: Sequence[NDArray[np.int64]], shares: Sequence[float]
) -> Array:
    """(orders, 2) mean margin over ``shares``, of the cells deleted and inserted in each order."""
    kept = np.ones((len(orders), len(shares), len(orders[0])), dtype=bool)
    for rows, order in zip(kept, orders, strict=True):
        for row, share in zip(rows, shares, strict=True):
            row[order[: round(share * len(order))]] = False
    both = np.stack([kept, ~kept], axis=1)  # (orders, 2, shares, cells)
    cells = grid(picture.shape[-1], min(CELLS, picture.shape[-1]))
    margins = margins_without(explained, picture, both.reshape(-1, kept.shape[-1]), cells)
    return margins.reshape(len(orders), 2, len(shares)).mean(axis=2)


def check_passes(explained: Explained, names: Sequence[str], pictures: int) -> float:
    """What maps of so many pictures and their tests cost, see `methods.Method.passes`."""
    is_network = isinstance(explained.model, nn.Module)
    remade = len(SHUFFLED) * min(SHUFFLED_PICTURES, pictures) if is_network else 0
    order = 2 * len(SHARES) * pictures
    made = sum(METHODS[name].passes * (pictures + remade) + order for name in names)
    return made + order * (1 + RANDOM_ORDERS)


def _curve(gain: Array, cluster: NDArray[np.int64] | None = None, *, seed: int = 0) -> Curve:
    return Curve(value=float(gain.mean()), ci=mean_interval(gain, cluster, seed=seed))


def _sum_error(explained: Explained, images: Tensor, maps: NDArray[np.float32]) -> float:
    owed = explained.margins(images) - explained.margins(blurred(images))
    found = maps.astype(np.float64).sum(axis=(1, 2))
    return float((np.abs(found - owed) / np.maximum(np.abs(owed), 1e-6)).max())


def _failures(
    blank: NDArray[np.bool_], alike: float, shuffled: Sequence[float], deletion: dict[str, Curve]
) -> list[str]:
    failed = []
    if blank.all():
        return ["every map is blank"]
    if blank.any():
        failed.append(f"{int(blank.sum())} of {len(blank)} maps are blank")
    if alike >= ALIKE:
        failed.append(f"the same map for every picture (rank correlation {alike:.2f})")
    if shuffled and shuffled[-1] >= UNMOVED:
        failed.append(
            f"a detector that knows nothing gives the same map (rank correlation {shuffled[-1]:.2f})"
        )
    low = deletion["random"].ci[0]
    if np.isnan(low):
        failed.append("one picture: whether the map finds what matters cannot be tested")
    elif low <= 0:
        failed.append("taking away what it marks moves the score no sooner than a random order does")
    return failed


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else float("nan")


def inside(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> dict[str, Array]:
    """How much of each map lies in the place that was changed, (N,) by name.

    ``pointing``: 1 where the highest value lies inside (Zhang et al., ECCV 2016); ``mass``: the part of what
    is above 0 that lies inside; ``rank``: the part of the highest values, as many as the place has pixels,
    that lie inside (Arras et al., 2022). By chance all are the place's share of the picture: ``chance``.

    Args:
        maps: (N, H, W).
        masks: (N, H, W), True where the picture was changed; in each at least one.
    """
    flat, within = maps.reshape(len(maps), -1).astype(np.float64), masks.reshape(len(masks), -1)
    size = within.sum(axis=1)
    positive = np.maximum(flat, 0)
    total = positive.sum(axis=1)
    mass = np.divide((positive * within).sum(axis=1), total, out=np.zeros(len(flat)), where=total > 0)
    order = np.argsort(-flat, axis=1, kind="stable")
    rank = [within[row, order[row, :number]].mean() for row, number in enumerate(size)]
    pointing = within[np.arange(len(flat)), order[:, 0]].astype(np.float64)
    return {"pointing": pointing, "mass": mass, "rank": np.array(rank), "chance": size / within.shape[1]}


def inside_masks(
    maps: NDArray[np.float32],
    masks: NDArray[np.bool_],
    people: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Inside | None:
    """What `inside` finds of the maps whose mask is not empty; None if all are.

    Intervals draw ``people`` (N,), or pictures where these are not given.
    """
    known = masks.any(axis=(1, 2))
    if not known.any():
        return None
    cluster = None if people is None else people[known]
    shares = inside(maps[known], masks[known])
    centre = inside(np.repeat(centre_map(maps.shape[-1])[None], known.sum(), axis=0), masks[known])
    chance = float(shares.pop("chance").mean())
    return Inside(
        pictures=int(known.sum()),
        chance=chance,
        shares={name: _curve(values, cluster, seed=seed) for name, values in shares.items()},
        less_centre={
            name: _curve(values - centre[name], cluster, seed=seed) for name, values in shares.items()
        },
    )


def centre_map(size_px: int) -> NDArray[np.float32]:
    """(size, size) the map that looks at the middle, whatever there is; faces lie there."""
    place = (np.arange(size_px) + 0.5) / size_px - 0.5
    fall = np.exp(-((place / CENTRE_SPREAD) ** 2) / 2)
    return np.outer(fall, fall).astype(np.float32)
