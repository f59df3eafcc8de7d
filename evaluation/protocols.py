"""Protocols: which detector is tested on what, and the two numbers of its gap.

A protocol is a file in ``configs/protocols``. It takes from the predictions that are there whatever it can
be asked of, and says nothing where they do not allow it.

- ``cross_dataset``: trained on X, tested on each Y. Gap: AUC on X minus AUC on Y.
- ``leave_one_method_out``: trained on X without a method, tested on that method's fakes. Gap: AUC on the
  methods of X that it was trained on, minus AUC on the one left out; the reals are the same. A dataset of
  fakes alone, such as the images of one generator, is one more method that was left out.
- ``compression_shift``: the same videos at two compressions. Gap: AUC at the first minus AUC at the second.
- ``by_method``: every method of a dataset against all its reals. Gap: AUC on all methods minus AUC on one.

A gap above 0 is a loss. Intervals draw what both numbers share, the reals or whole videos, together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from unmasked.datasets.errors import InputError
from unmasked.evaluation import metrics
from unmasked.evaluation.collection import Scored
from unmasked.evaluation.counts import Array
from unmasked.evaluation.intervals import Sample, difference_interval, intervals_of, resample, seed_by_name
from unmasked.evaluation.levels import HALF, named_by_dataset, sample_of
from unmasked.evaluation.metrics import Aggregation, video_scores
from unmasked.evaluation.paired import paired_difference
from unmasked.evaluation.predictions import evaluated_rows_and_notes
from unmasked.evaluation.records import ProtocolRow
from unmasked.evaluation.shipped import load_shipped, shipped_names
from unmasked.evaluation.thresholds import Threshold

FOLDER = "protocols"
Kind = Literal["cross_dataset", "leave_one_method_out", "compression_shift", "by_method"]
TITLES: dict[Kind, str] = {
    "cross_dataset": "Trained on one dataset, tested on each",
    "leave_one_method_out": "One method left out of training",
    "compression_shift": "The same videos at another compression",
    "by_method": "Every method by itself",
}
GAPS: dict[Kind, str] = {
    "cross_dataset": "AUC on the dataset trained on minus AUC here; independent videos",
    "leave_one_method_out": "AUC on the methods trained on minus AUC on the one left out; the same reals",
    "compression_shift": "AUC at the first compression minus AUC here; the same videos, paired",
    "by_method": "AUC on all methods minus AUC on this one; the same reals",
}
RATES = ("fpr", "tpr")
NAN = float("nan")
UNKNOWN = (NAN, (NAN, NAN))
REFERENCE = (0.0, (0.0, 0.0))  # the gap to itself


class Protocol(BaseModel):
    """What is asked of the detectors of a collection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Kind = Field(description="which of the four")
    level: Literal["video", "frame"] = Field("video", description="what is ranked")
    train: tuple[str, ...] = Field((), description="only detectors trained on these datasets; all if empty")
    test: tuple[str, ...] = Field(
        (), description="only tested on these datasets, in this order; all if empty"
    )
    methods: tuple[str, ...] = Field((), description="only these methods of forgery; all if empty")
    compression: tuple[str, str] = Field(
        ("c23", "c40"), description="from which compression to which; for compression_shift"
    )
    aggregation: Aggregation = Field("mean", description="how frame scores become a video score")


def load_protocols(names: Sequence[str]) -> list[Protocol]:
    """The protocols of those names in ``configs/protocols``, or in your own files.

    All for ``all``.

    Raises:
        InputError: one does not exist or cannot be used.
    """
    # In the order of the table above; a file that is added comes last.
    every = sorted(shipped_names(FOLDER), key=lambda name: (name not in TITLES, *_place(name)))
    wanted = every if tuple(names) == ("all",) else names
    return [load_shipped(Protocol, FOLDER, name) for name in wanted]


def run_protocols(
    scored: Sequence[Scored],
    protocols: Sequence[Protocol],
    *,
    thresholds: Mapping[str, Threshold] | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> list[ProtocolRow]:
    """A row for each test that a protocol asks of a detector.

    Args:
        scored: the detectors.
        protocols: what to ask of them.
        thresholds: the stored operating point of each detector, by its name in ``scored``.
        n_boot, seed: of the resampling.
    """
    rows = []
    evaluated = {detector.name: evaluated_rows_and_notes(detector.predictions) for detector in scored}
    for protocol in protocols:
        for detector in scored:
            if protocol.train and not set(protocol.train) & set(detector.training.datasets):
                continue
            point = (thresholds or {}).get(detector.name)
            rows += _Asked(protocol, detector, evaluated[detector.name], point, n_boot, seed).rows()
    return rows


def by_condition(rows: pd.DataFrame, always: bool = False) -> dict[str, pd.DataFrame]:
    """Rows by dataset, and by compression where a dataset has several (or ``always``).

    Compression must be known.
    """
    found = {}
    for dataset, of_dataset in rows.groupby("dataset", sort=True, observed=True):
        known = of_dataset["compression"].dropna() if "compression" in of_dataset else pd.Series(dtype=object)
        levels = sorted(known.unique())
        if len(levels) + always < 2:
            found[str(dataset)] = of_dataset
            continue
        for level in levels:
            found[f"{dataset} ({level})"] = of_dataset[of_dataset["compression"] == level]
        if len(known) < len(of_dataset):
            found[f"{dataset} (compression not stated)"] = of_dataset[of_dataset["compression"].isna()]
    return found


@dataclass(frozen=True)
class _Measured:
    """One detector on one set of videos."""

    sample: Sample
    values: dict[str, float]
    draws: dict[str, Array]
    ci: dict[str, tuple[float, float]]
    real_videos: int
    fake_videos: int


class _Asked:
    """One protocol asked of one detector."""

    def __init__(
        self,
        protocol: Protocol,
        detector: Scored,
        evaluated: tuple[pd.DataFrame, list[str]],
        threshold: Threshold | None,
        n_boot: int,
        seed: int,
    ) -> None:
        self.protocol, self.detector, self.training = protocol, detector, detector.training
        self.threshold, self.n_boot, self.seed = threshold, n_boot, seed
        kept, self.notes = evaluated
        if protocol.methods and "method" in kept:
            kept = kept[(kept["label"] == 0) | kept["method"].isin(protocol.methods)]
        found = sorted(kept["dataset"].unique(), key=lambda name: (name not in self.training.datasets, name))
        order = [name for name in protocol.test or found if name in found]
        self.by_dataset = {name: kept[kept["dataset"] == name] for name in order}

    def rows(self) -> list[ProtocolRow]:
        ask = {
            "cross_dataset": self._cross_dataset,
            "leave_one_method_out": self._leave_one_out,
            "compression_shift": self._compression_shift,
            "by_method": self._by_method,
        }
        return list(ask[self.protocol.protocol]())

    def _cross_dataset(self) -> Iterator[ProtocolRow]:
        conditions = {name: rows for name, rows in self._conditions().items() if rows["label"].nunique() == 2}
        measured = {name: self._measure(rows) for name, rows in conditions.items()}
        own = self._own_condition(conditions)
        for name, found in measured.items():
            if own is None:
                yield self._row(name, found)
            elif name == own:
                yield self._row(name, found, gap=REFERENCE)
            else:
                yield self._row(name, found, gap=_independent_gap(measured[own], found))

    def _conditions(self) -> dict[str, pd.DataFrame]:
        """Compressions of one dataset are tested apart, as datasets are."""
        found: dict[str, pd.DataFrame] = {}
        for rows in self.by_dataset.values():
            found |= by_condition(rows)
        return found

    def _own_condition(self, conditions: Mapping[str, pd.DataFrame]) -> str | None:
        """What the detector was trained on, where it is tested on it."""
        source = self.training.source
        names = [source, *(f"{source} ({level})" for level in self.training.compression[:1])]
        return next((name for name in names if name in conditions), None)

    def _leave_one_out(self) -> Iterator[ProtocolRow]:
        source = self.training.source
        if source is None or source not in self.by_dataset:
            return
        conditions = self._conditions()
        rows = conditions.get(self._own_condition(conditions) or "", self.by_dataset[source])
        made = [part for name, part in self.by_dataset.items() if name != source and part["label"].all()]
        if made:
            rows = named_by_dataset(pd.concat([rows, *made], ignore_index=True))
        fakes = set(_methods(rows))
        # Left out by name, and whatever else is here that training did not list.
        unseen = set(self.training.held_out) | (fakes - set(self.training.methods or fakes))
        seen = rows[(rows["label"] == 0) | ~rows["method"].isin(unseen)]
        seen = seen[seen["dataset"] == source]
        if seen["label"].nunique() < 2 or not unseen & fakes:
            return
        train = f"{source} without {', '.join(sorted(unseen))}"
        yield self._row(f"{source}: methods trained on", self._measure(seen), REFERENCE, train=train)
        reals = rows[rows["label"] == 0]
        left_out = rows[rows["method"].isin(unseen)]
        for (name, method), found in left_out.groupby(["dataset", "method"], observed=True):
            yield self._compare(f"{name}: {method}", seen, pd.concat([reals, found]), train=train)

    def _by_method(self) -> Iterator[ProtocolRow]:
        for name, rows in self._conditions().items():
            methods = _methods(rows)
            if len(methods) < 2 or rows["label"].nunique() < 2:
                continue
            for method in methods:
                one = rows[(rows["label"] == 0) | (rows["method"] == method)]
                yield self._compare(f"{name}: {method}", rows, one)

    def _compression_shift(self) -> Iterator[ProtocolRow]:
        before, after = self.protocol.compression
        for name, rows in self.by_dataset.items():
            if "compression" not in rows:
                continue
            both = [_rows_at(rows, level) for level in (before, after)]
            # Videos at one compression alone would make their mix part of the gap.
            shared = set(both[0]["video"]) & set(both[1]["video"])
            clean, other = (part[part["video"].isin(shared)] for part in both)
            if clean["label"].nunique() < 2:
                continue
            yield self._row(f"{name} ({before})", self._measure(clean), REFERENCE)
            yield self._compare(f"{name} ({after})", clean, other, same_videos=True)

    def _row(
        self,
        test: str,
        found: _Measured,
        gap: tuple[float, Sequence[float]] = UNKNOWN,
        *,
        paired: bool = False,
        train: str | None = None,
    ) -> ProtocolRow:
        kind, point = self.protocol.protocol, self.threshold
        rate = dict.fromkeys(RATES, NAN) | (found.values if point else {})
        limits = dict.fromkeys(RATES, UNKNOWN[1]) | (found.ci if point else {})
        return {
            "protocol": kind,
            "title": TITLES[kind],
            "detector": self.detector.name,
            "train": train or self._training_text(),
            "test": test,
            "level": self.protocol.level,
            "auc": found.values["auc"],
            "auc_ci": list(found.ci["auc"]),
            "gap": gap[0],
            "gap_ci": list(gap[1]),
            "gap_is": GAPS[kind],
            "is_reference": gap is REFERENCE,
            "paired": paired,
            "real_videos": found.real_videos,
            "fake_videos": found.fake_videos,
            "threshold": point.to_dict() if point else None,
            "fpr": rate["fpr"],
            "tpr": rate["tpr"],
            "fpr_ci": list(limits["fpr"]),
            "tpr_ci": list(limits["tpr"]),
            "selection_rule": self.training.selection_rule,
            "predictions": list(self.detector.files),
            "rows": self.notes,
        }

    def _compare(
        self,
        test: str,
        reference: pd.DataFrame,
        rows: pd.DataFrame,
        *,
        train: str | None = None,
        same_videos: bool = False,
    ) -> ProtocolRow:
        """One test, with the gap from a reference that shares videos with it."""
        found = paired_difference(
            reference,
            rows,
            same_videos=same_videos,
            level=self.protocol.level,
            aggregation=self.protocol.aggregation,
            only=("auc",),
            n_boot=self.n_boot,
            seed=self.seed,
        )
        auc = found["metrics"]["auc"]
        gap = (auc["difference"], auc["difference_ci"])
        return self._row(test, self._measure(rows), gap, paired=found["paired"], train=train)

    def _measure(self, rows: pd.DataFrame) -> _Measured:
        """AUC and rates with the seed that `evaluate` has, so that both give the same intervals."""
        videos = video_scores(rows, self.protocol.aggregation)
        sample = sample_of(videos if self.protocol.level == "video" else rows)
        cut = (self.threshold or HALF).value
        seed = np.random.default_rng(seed_by_name(self.seed, rows["dataset"].iloc[0]))
        draws = resample(sample, cut, n_boot=self.n_boot, seed=seed, only=("auc", *RATES))
        values = metrics.all_metrics(sample.label, sample.score, cut, ("auc", *RATES))
        return _Measured(
            sample=sample,
            values=values,
            draws=draws,
            ci=intervals_of(sample, values, draws),
            real_videos=int((videos["label"] == 0).sum()),
            fake_videos=int((videos["label"] == 1).sum()),
        )

    def _training_text(self) -> str:
        level = self.training.compression
        return self.training.name + (f" ({level[0]})" if len(level) == 1 else "")


def _independent_gap(own: _Measured, found: _Measured) -> tuple[float, tuple[float, float]]:
    """AUC on the dataset trained on minus AUC on another one."""
    # The smaller class of the smaller dataset decides how sure a difference of AUCs can be.
    fewest = min(min(one.sample.clusters_by_class()) for one in (own, found))
    interval = difference_interval(
        (own.draws["auc"], found.draws["auc"]), (own.ci["auc"], found.ci["auc"]), fewest
    )
    return own.values["auc"] - found.values["auc"], interval


def _place(name: str) -> tuple[int, str]:
    return (list(TITLES).index(name), name) if name in TITLES else (0, name)


def _methods(rows: pd.DataFrame) -> list[str]:
    if "method" not in rows:
        return []
    return sorted(rows.loc[rows["label"] == 1, "method"].dropna().unique())


def _rows_at(rows: pd.DataFrame, level: str) -> pd.DataFrame:
    """The rows of a compression; its name is taken out of the videos' paths, which else differ by it."""
    kept = rows[rows["compression"] == level]
    names = kept["video"].astype(str).str.replace(rf"(^|/){level}(?=/|$)", "", regex=True)
    return kept.assign(video=names.str.lstrip("/"))


def check_names(protocols: Sequence[Protocol], scored: Sequence[Scored]) -> None:
    """InputError if a protocol names a dataset that no detector was trained or tested on."""
    trained = {name for detector in scored for name in detector.training.datasets}
    tested = {name for detector in scored for name in detector.predictions["dataset"].unique()}
    for protocol in protocols:
        for key, names, known in (("train", protocol.train, trained), ("test", protocol.test, tested)):
            if unknown := [name for name in names if name not in known]:
                raise InputError(
                    f"protocol {protocol.protocol} names the {key} dataset {unknown[0]!r}; the predictions "
                    f"have {', '.join(sorted(known)) or 'none'}"
                )
