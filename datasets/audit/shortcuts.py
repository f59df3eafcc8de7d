"""Shortcuts: facts about a file that predict the label without looking at faces.

Where every fake is a .png and every real a .jpg, a detector needs no faces. For each dataset and feature a
small decision tree (for patterns of pixels, a naive Bayes rule on the places that differ most) sees that
feature alone and is scored on videos of people it did not see: five folds,
grouped by identity, or original, or video. The AUC counts pairs of a real and a fake of one fold, so that
without a shortcut it is 0.5; its interval comes from resampling the groups. A shortcut is an AUC of at
least 0.6 that neither resampling nor labels permuted explain, at a level of 0.1 % shared by all tests of
the audit: trees that learn from each other's test folds vary more than resampling shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.datasets.audit.pixels import place_of

AUC_MIN = 0.6
LEVEL = 0.001  # of a false alarm in the whole audit: an alarm has to be believed
CONFIDENCE = 0.95  # of the intervals shown
FOLDS = 5
PERMUTATIONS = 100
PLAIN = 0.75  # a lower bound that needs no permutations
GROUPS_MIN = 10  # of reals and of fakes, to test at all
CATEGORIES_MAX = 20
COLUMNS = ["dataset", "feature", "auc", "low", "high", "bound", "is_shortcut", "real", "fake"]
COLUMNS += ["in_reals", "in_fakes", "reason"]
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
POOLED = "all datasets together"
NOT_ENOUGH = f"fewer than {GROUPS_MIN} people or videos of one class"
CONSTANT = "the same everywhere"


@dataclass(frozen=True)
class Feature:
    """A fact about files: the table's columns that hold it, and its unit if it is a number."""

    title: str
    columns: tuple[str, ...]
    unit: str | None = None  # None: a category
    is_pattern: bool = False  # the column holds vectors of numbers, the same places in each


# In the order of what causes what: a format brings its codec, both bring bit rate and size.
FEATURES = {
    "format": Feature("file format", ("format",)),
    "codec": Feature("codec", ("codec",)),
    "resolution": Feature("resolution", ("width_px", "height_px"), "px"),
    # A second of video; of images, a pixel.
    "bit_rate": Feature("bit rate", ("bit_rate",), "bit/s"),
    "size_bytes": Feature("file size", ("size_bytes",), "bytes"),
    "frames": Feature("frame count", ("frames",), "frames"),
    "face_size": Feature("face size", ("face_size_px",), "px"),
    "face_in_crop": Feature("face size in its crop", ("face_in_crop_px",), "px"),
    "padded": Feature("crop outside the picture", ("padded",), "%"),
    "jpeg_quality": Feature("JPEG quality", ("jpeg_quality",), "of 100"),
    "blocks": Feature("traces of 8-pixel blocks", ("blocks",), "×"),
    "edge": Feature("edge of the picture", ("edge",), "levels", is_pattern=True),
    "corners": Feature("corners of the picture", ("corners",), "levels", is_pattern=True),
}
PATTERN_PLACES = 24  # of a pattern, those that differ most, make its score
_SPREAD_MIN = 0.02  # of a place within a class, as a share of its variance over all
_EVIDENCE_MAX = 10.0  # of one place, as a logarithm


def shortcuts(table: pd.DataFrame, *, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """How well each feature alone predicts the label, by dataset.

    Args:
        table: a row a file: dataset, video, label, identity, target_video, and the columns of FEATURES.
        n_boot: resamples of the groups behind each interval.
        seed: of folds and resamples.

    Returns:
        A row for each dataset and feature: dataset, feature, auc, low, high (95 %), bound (lower, corrected
        for all tests), is_shortcut, real, fake (files with a value), in_reals and in_fakes (what is usual
        there, in words), and reason, where it was not tested.
        Where a dataset has one class only, all datasets are also tested together.
    """
    tests = list(_tests(table))
    tested = sum(test.reason == "" for test in tests)
    rows = [test.row(tested, n_boot, seed) for test in tests]
    return pd.DataFrame(rows, columns=COLUMNS)


def auc_within_folds(
    positive: NDArray[np.float64], negative: NDArray[np.float64], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Share of pairs of one fold whose fake scores above the real; ties count half.

    Args:
        positive: (L, B) weight of the fakes at each of L levels (fold, score), in ascending order, in each
            of B resamples.
        negative: (L, B) weight of the reals.
        fold: (L,) fold of each level.

    >>> auc_within_folds(np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]]), np.array([0, 0]))
    array([0.75])
    """
    below = np.cumsum(negative, axis=0) - negative
    start = np.searchsorted(fold, fold)
    below = below - below[start]
    won = (positive * (below + negative / 2)).sum(axis=0)
    pairs = sum(positive[fold == k].sum(axis=0) * negative[fold == k].sum(axis=0) for k in np.unique(fold))
    return np.divide(won, pairs, out=np.full(positive.shape[1], np.nan), where=np.asarray(pairs) > 0)


def usual_value(rows: pd.DataFrame, feature: Feature) -> str:
    """What is usual for a feature.

    The commonest category with its share, or the median and in brackets the middle half.

    >>> usual_value(pd.DataFrame({"format": ["png", "png", "png", "jpg"]}), FEATURES["format"])
    '75 % png'
    >>> usual_value(pd.DataFrame({"size_bytes": [2e6, 3e6, 4e6]}), FEATURES["size_bytes"])
    '3 MB [2.5, 3.5]'
    """
    if rows.empty:
        return "none"
    values = rows[list(feature.columns)]
    if len(feature.columns) == 2:
        values = values.astype("int64").astype(str).agg(" × ".join, axis=1) + f" {feature.unit}"
    elif feature.unit is None:
        values = values.iloc[:, 0]
    else:
        low, middle, high = values.iloc[:, 0].astype("float64").quantile([0.25, 0.5, 0.75])
        step, letter = next(((s, x) for s, x in _PREFIXES if abs(middle) >= s), (1.0, ""))
        unit = f"{letter}{feature.unit}".replace("bytes", "B" if letter else "bytes")
        if "kind" in rows and not (rows["kind"] == "video").any():
            unit = unit.replace("bit/s", "bit/pixel")
        return f"{middle / step:.3g} {unit} [{low / step:.3g}, {high / step:.3g}]"
    counts = values.value_counts()
    return f"{100 * counts.iloc[0] / len(values):.0f} % {counts.index[0]}"


@dataclass(frozen=True)
class _Test:
    """One feature of one dataset: its values, and why it is not tested, where it is not."""

    dataset: str
    feature: str
    rows: pd.DataFrame  # with a value
    group: NDArray[np.int64]
    reason: str

    def row(self, tests: int, n_boot: int, seed: int) -> dict[str, Any]:
        fakes = int(self.rows["label"].sum())
        known: dict[str, Any] = {"dataset": self.dataset, "feature": self.feature, "reason": self.reason}
        known |= {"real": len(self.rows) - fakes, "fake": fakes, "is_shortcut": False}
        if FEATURES[self.feature].is_pattern:
            known |= {"in_reals": "", "in_fakes": "" if self.reason else self._place()}
        for name, label in () if FEATURES[self.feature].is_pattern else (("in_reals", 0), ("in_fakes", 1)):
            known[name] = usual_value(self.rows[self.rows["label"] == label], FEATURES[self.feature])
        return known if self.reason else known | self._measure(LEVEL / tests, n_boot, seed)

    def _place(self) -> str:
        feature = FEATURES[self.feature]
        x, label = _design(self.rows, feature), self.rows["label"].to_numpy()
        return f"most unlike at the {place_of(feature.columns[0], int(_pattern_rule(x, label).places[0]))}"

    def _measure(self, level: float, n_boot: int, seed: int) -> dict[str, Any]:
        from scipy.special import ndtri

        x, label = _design(self.rows, FEATURES[self.feature]), self.rows["label"].to_numpy()
        fold = _folds(label, self.group, seed)
        score = _out_of_fold_scores(x, label, fold)
        auc, resampled = _resampled_auc(label, score, fold, self.group, n_boot, seed)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(resampled, [tail, 1 - tail])
        if auc == low == 1:  # the exact bound for so many groups, none of which was ever out of order
            low = tail ** (1 / min(len(np.unique(self.group[label == which])) for which in (0, 1)))
        strict = ndtri(1 - level)
        bound = auc - strict * np.nanstd(resampled)
        is_shortcut = bool(auc >= AUC_MIN and bound > 0.5)
        if is_shortcut and bound < PLAIN:
            null = _null_auc(x, label, fold, self.group, seed)
            is_shortcut = bool(auc > np.nanmean(null) + strict * np.nanstd(null))
        return {"auc": auc, "low": low, "high": high, "bound": bound, "is_shortcut": is_shortcut}


def _tests(table: pd.DataFrame) -> Iterator[_Test]:
    classes = table.groupby("dataset", sort=False)["label"].nunique()
    parts = [(str(name), rows) for name, rows in table.groupby("dataset", sort=True)]
    if len(parts) > 1 and (classes == 1).any():
        parts.append((POOLED, table))
    for dataset, rows in parts:
        for name, feature in FEATURES.items():
            columns = [column for column in feature.columns if column in rows]
            if len(columns) < len(feature.columns):
                continue
            known = rows[rows[columns].notna().all(axis=1)]
            if known.empty:
                continue
            group = _groups(known)
            yield _Test(dataset, name, known, group, _why_not(known, columns, group))


def _groups(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Who, or what original, a file is of: what may not be in training and test folds at once."""
    name = (
        rows["identity"].astype(object).where(rows["identity"].notna(), rows["target_video"].astype(object))
    )
    name = name.where(name.notna(), "video " + rows["video"].astype(object))
    return (rows["dataset"].astype(object) + "/" + name.astype(str)).factorize()[0]


def _why_not(rows: pd.DataFrame, columns: list[str], group: NDArray[np.int64]) -> str:
    label = rows["label"].to_numpy()
    if min(len(np.unique(group[label == which])) for which in (0, 1)) < GROUPS_MIN:
        return NOT_ENOUGH
    if isinstance(rows[columns[0]].iloc[0], np.ndarray):
        return CONSTANT if np.ptp(np.stack(rows[columns[0]].to_list()), axis=0).max() == 0 else ""
    return CONSTANT if (rows[columns].nunique() == 1).all() else ""


def _design(rows: pd.DataFrame, feature: Feature) -> NDArray[np.float64]:
    """(N, D) numbers, or one column for each of the commonest categories."""
    if feature.is_pattern:
        return np.stack(rows[feature.columns[0]].to_list()).astype(np.float64)
    if feature.unit is not None:
        return rows[list(feature.columns)].to_numpy(np.float64)
    values = rows[feature.columns[0]].astype(object)
    common = values.value_counts().index[:CATEGORIES_MAX]
    return np.stack([(values == category).to_numpy(np.float64) for category in common], axis=1)


def _folds(label: NDArray[np.int64], group: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(N,) the fold of each row; whole groups, placed by their classes and size."""
    size = np.bincount(group)
    fakes = np.bincount(group, label, minlength=len(size))
    holds = (fakes > 0).astype(int) + 2 * (fakes < size)
    order = np.lexsort((np.random.default_rng(seed).random(len(size)), -size, holds))
    fold = np.empty(len(size), np.int64)
    fold[order] = np.arange(len(size)) % FOLDS
    return fold[group]


def _out_of_fold_scores(
    x: NDArray[np.float64], label: NDArray[np.int64], fold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N,) score of each row by a tree, or a pattern's rule, that saw no row of its fold."""
    from sklearn.tree import DecisionTreeClassifier

    score = np.full(len(label), 0.5)
    for number in range(FOLDS):
        seen = fold != number
        if len(np.unique(label[seen])) < 2 or seen.all():
            continue
        if x.shape[1] > CATEGORIES_MAX:
            score[~seen] = _pattern_rule(x[seen], label[seen]).scores(x[~seen])
            continue
        tree = DecisionTreeClassifier(
            max_leaf_nodes=16,
            min_samples_leaf=max(5, int(seen.sum()) // 100),
            class_weight="balanced",
            random_state=0,
        )
        score[~seen] = tree.fit(x[seen], label[seen]).predict_proba(x[~seen])[:, 1]
    return score


class _Rule(NamedTuple):
    """A naive Bayes rule of normal distributions on the places of a pattern that differ most."""

    places: NDArray[np.int64]  # (K,) the one that differs most first
    mean: NDArray[np.float64]  # (2, K) of reals and of fakes
    variance: NDArray[np.float64]  # (2, K)

    def scores(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) log-likelihood ratio, each place's share limited."""
        here = x[:, self.places]
        real, fake = (
            -0.5 * ((here - mean) ** 2 / variance + np.log(variance))
            for mean, variance in zip(self.mean, self.variance, strict=True)
        )
        return np.clip(fake - real, -_EVIDENCE_MAX, _EVIDENCE_MAX).sum(axis=1)


def _pattern_rule(x: NDArray[np.float64], label: NDArray[np.int64]) -> _Rule:
    """The rule of rows (N, D); places are chosen by how far the two distributions lie apart (Jeffreys)."""
    whole = np.maximum(x.var(axis=0), 1e-6)
    mean = np.stack([x[label == which].mean(axis=0) for which in (0, 1)])
    variance = np.stack([x[label == which].var(axis=0) + _SPREAD_MIN * whole for which in (0, 1)])
    apart = (mean[1] - mean[0]) ** 2 * (1 / variance).sum(axis=0)
    apart += variance[0] / variance[1] + variance[1] / variance[0] - 2
    places = np.argsort(-apart, kind="stable")[:PATTERN_PLACES]
    return _Rule(places, mean[:, places], variance[:, places])


def _null_auc(
    x: NDArray[np.float64],
    label: NDArray[np.int64],
    fold: NDArray[np.int64],
    group: NDArray[np.int64],
    seed: int,
) -> NDArray[np.float64]:
    """(PERMUTATIONS,) the AUC with labels that mean nothing.

    Groups of one class exchange their labels, groups of both classes shuffle them among their rows.
    """
    generator = np.random.default_rng(seed)
    size, fakes = np.bincount(group), np.bincount(group, label)
    is_pure = (fakes == 0) | (fakes == size)
    of_group = (fakes > 0).astype(np.int64)
    mixed = np.flatnonzero(~is_pure[group])
    aucs = np.empty(PERMUTATIONS)
    for number in range(PERMUTATIONS):
        dealt = of_group.copy()
        dealt[is_pure] = generator.permutation(of_group[is_pure])
        shuffled = dealt[group]
        # Sorted by group, then at random: row k of a group takes the label of a random row of it.
        by_group = mixed[np.argsort(group[mixed], kind="stable")]
        at_random = mixed[np.lexsort((generator.random(len(mixed)), group[mixed]))]
        shuffled[by_group] = label[at_random]
        score = _out_of_fold_scores(x, shuffled, fold)
        aucs[number] = _resampled_auc(shuffled, score, fold, group, 0, seed)[0]
    return aucs


def _resampled_auc(
    label: NDArray[np.int64],
    score: NDArray[np.float64],
    fold: NDArray[np.int64],
    group: NDArray[np.int64],
    n_boot: int,
    seed: int,
) -> tuple[float, NDArray[np.float64]]:
    """The AUC, and in each resample of the groups, (n_boot,)."""
    from scipy.sparse import coo_array

    levels, level = np.unique(np.stack([fold, score], axis=1), axis=0, return_inverse=True)
    level = level.ravel()
    groups = int(group.max()) + 1
    of_level = levels[:, 0].astype(np.int64)
    # (L, G) how many fakes, and reals, of a group are at a level
    tables = [
        coo_array((np.ones(which.sum()), (level[which], group[which])), (len(levels), groups)).tocsr()
        for which in (label == 1, label == 0)
    ]
    fakes, reals = tables
    ones = np.ones((groups, 1))
    whole = auc_within_folds(fakes @ ones, reals @ ones, of_level)
    generator = np.random.default_rng(seed)
    blocks = []
    for start in range(0, n_boot, 200):
        # Poisson weights are a bootstrap whose size is random; every group is drawn once on average.
        weights = generator.poisson(1.0, (groups, min(200, n_boot - start))).astype(np.float64)
        blocks.append(auc_within_folds(fakes @ weights, reals @ weights, of_level))
    return float(whole[0]), np.concatenate(blocks or [np.empty(0)])
