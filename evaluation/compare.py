"""Two runs side by side.

By how much they differ on the videos that both scored, and in what else.
A run is a folder (predictions, and whatever is beside them: card, configuration, thresholds, versions)
or a predictions file alone. What neither folder says is named as unknown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unmasked.datasets.cards import check_card
from unmasked.datasets.documents import read_json, read_yaml
from unmasked.datasets.errors import InputError
from unmasked.datasets.table_reading import is_of_predict
from unmasked.evaluation.collection import Scored, collect, only_value
from unmasked.evaluation.fitted import threshold_beside
from unmasked.evaluation.intervals import CONFIDENCE
from unmasked.evaluation.levels import HALF, sample_of
from unmasked.evaluation.metrics import METRICS, Aggregation, video_scores
from unmasked.evaluation.origin import NOT_STATED, Origin
from unmasked.evaluation.paired import Level, paired_difference
from unmasked.evaluation.predictions import evaluated_rows_and_notes, read_predictions
from unmasked.evaluation.protocols import by_condition
from unmasked.evaluation.reading import reversal
from unmasked.evaluation.records import PairedMetric
from unmasked.evaluation.thresholds import Threshold

COMPARED = ("auc", "ap", "eer", "fpr", "tpr")
RATES = ("fpr", "tpr")  # a threshold trades one for the other: higher is not better or worse
NAMED = 20  # videos of one run only that are listed by name
ABSENT = "–"
# Sections of what differs, in the order in which one looks for a reason.
SECTIONS = ("weights", "threshold", "training data", "preprocessing", "selection", "config", "versions")


@dataclass(frozen=True)
class Run:
    """One side of a comparison."""

    name: str
    scored: Scored
    rows: pd.DataFrame  # that are evaluated
    notes: Sequence[str]  # which those are, and what was left out
    threshold: Threshold | None  # as it is stored with the run
    card: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def cut(self) -> Threshold:
        """The operating point that it is read at."""
        return self.threshold or HALF


def read_run(path: str | os.PathLike[str], *, read: Callable[[Path], pd.DataFrame] = read_predictions) -> Run:
    """A run from its folder or its predictions file.

    Args:
        path: of the folder or the file.
        read: gives the predictions in a file.

    Raises:
        InputError: there are no predictions, or those of several detectors.
    """
    path = Path(path)
    scored, _ = collect(path, read=read)
    if len(scored) > 1:
        held = ", ".join(f"{one.files[0]} ({one.name})" for one in scored[:4])
        raise InputError(
            f"folder {path} holds the predictions of {len(scored)} detectors: {held}; give the folder or the "
            "file of one"
        )
    folder = path if path.is_dir() else path.parent
    checkpoint = only_value(scored[0].predictions, "checkpoint")
    beside = check_card(_json(folder / "detector.json"), folder / "detector.json")
    card = beside if checkpoint and beside.get("sha256") == checkpoint else {}
    # What lies beside a lone file, or beside the card of other weights, may be another run's.
    is_own = bool(card) or (path.is_dir() and not beside)
    rows, notes = evaluated_rows_and_notes(scored[0].predictions)
    return Run(
        name=path.name if path.is_dir() else path.stem,
        scored=scored[0],
        rows=rows,
        notes=notes,
        threshold=threshold_beside(folder, scored[0].predictions, is_own=bool(card) or path.is_dir()),
        card=card,
        config=_yaml(folder / "config.yaml") if is_own else {},
        environment=_json(folder / "environment.json") if is_own else {},
    )


def compare(
    a: Run,
    b: Run,
    *,
    level: Level = "video",
    aggregation: Aggregation = "mean",
    n_boot: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Differences of two runs by dataset, a minus b with paired intervals, and in settings.

    ``{"a": {...}, "b": {...}, "datasets": {NAME: {"metrics", "n", "paired", "left_out", "readings",
    "reversed"}}, "data": {NAME: {"shared", "only_a", "only_b", "videos_only_a", "videos_only_b",
    "other_number_of_crops"}}, "differences": [{"section", "key", "a", "b"}], "equal": n, "unknown": [words],
    "settings": {...}}``; for ``metrics`` see `paired_difference`.

    Raises:
        InputError: no video is in both, or one is real in a and fake in b.
    """
    parts = _conditions(a, b)
    blocks, data = {}, {}
    for name in sorted(parts[0].keys() | parts[1].keys()):
        rows = [part.get(name) for part in parts]
        data[name] = _data(*rows)
        if rows[0] is None or rows[1] is None or not data[name]["shared"]:
            continue
        found = paired_difference(
            rows[0],
            rows[1],
            thresholds=(a.cut.value, b.cut.value),
            level=level,
            aggregation=aggregation,
            only=COMPARED,
            n_boot=n_boot,
            seed=seed,
        )
        videos = found["n"]["shared_videos"]
        readings = {key: reading(key, value, videos) for key, value in found["metrics"].items()}
        doubts = {
            "a": _reversal(rows[0], rows[1], aggregation),
            "b": _reversal(rows[1], rows[0], aggregation),
        }
        blocks[name] = {**found, "readings": readings, "reversed": doubts}
    if not blocks:
        raise InputError(
            f"the runs have no video in common: {a.name} scored {_videos_text(a)}, and {b.name} "
            f"{_videos_text(b)}; score the same faces with both (equal dataset, video and compression). A "
            "table without a column dataset has the name of its file there: write the column where both are "
            "of one dataset"
        )
    return {
        "a": _summary(a),
        "b": _summary(b),
        "datasets": blocks,
        "data": data,
        **_unlike_facts(a, b),
        "unknown": [*_unknown_sources("a", a), *_unknown_sources("b", b)],
        "settings": {
            "difference": "a minus b, paired on the videos that both scored",
            "level": level,
            "aggregation": aggregation,
            "n_boot": n_boot,
            "seed": seed,
            "confidence": CONFIDENCE,
            "unit": "identity where known, else video",
        },
    }


# Resamples of fewer lie closer together than the numbers do: eight gave intervals of 14 points at an AP.
VERDICT_VIDEOS_MIN = 20


def reading(name: str, found: PairedMetric, videos: int) -> str:
    """What the difference of a metric says, in words.

    >>> reading("eer", {"difference": 0.1, "difference_ci": [0.05, 0.15]}, 40)
    'b is better'
    >>> reading("auc", {"difference": 0.1, "difference_ci": [-0.05, 0.15]}, 40)
    'no difference that 40 videos show'
    >>> reading("auc", {"difference": 0.4, "difference_ci": [0.2, 0.5]}, 8)
    'too few for a verdict: 8 videos, 20 are needed'
    """
    low, high = found["difference_ci"]
    if low != low or high != high:
        return "not enough data"
    if videos < VERDICT_VIDEOS_MIN:
        return f"too few for a verdict: {videos} videos, {VERDICT_VIDEOS_MIN} are needed"
    if found["difference"] == low == high == 0:
        return "equal"
    if low <= 0 <= high:
        return f"no difference that {videos} videos show"
    if name in RATES:
        return "a is higher" if low > 0 else "b is higher"
    return "a is better" if (low > 0) == METRICS[name].higher_is_better else "b is better"


def _reversal(rows: pd.DataFrame, others: pd.DataFrame, aggregation: Aggregation) -> str:
    """What `reversal` says of a run's scores of the videos that both scored."""
    shared = rows[rows["video"].isin(others["video"])]
    return reversal(sample_of(video_scores(shared, aggregation)), is_own=is_of_predict(rows))


def _unlike_facts(a: Run, b: Run) -> dict[str, Any]:
    """What the runs say of themselves otherwise, and how much they say alike."""
    facts = [_facts(run) for run in (a, b)]
    keys = sorted(facts[0].keys() | facts[1].keys(), key=lambda key: (SECTIONS.index(key[0]), key[1]))
    differing = [
        {
            "section": section,
            "key": key,
            "a": _fact_text(facts[0], section, key),
            "b": _fact_text(facts[1], section, key),
        }
        for section, key in keys
        if facts[0].get((section, key)) != facts[1].get((section, key))
    ]
    return {"differences": differing, "equal": len(keys) - len(differing)}


def _conditions(a: Run, b: Run) -> list[dict[str, pd.DataFrame]]:
    """The rows of both by dataset, and by compression where either has several."""
    parts = [by_condition(run.rows) for run in (a, b)]
    if all(part.keys() == set(run.rows["dataset"]) for part, run in zip(parts, (a, b), strict=True)):
        return parts
    return [by_condition(run.rows, always=True) for run in (a, b)]


def _data(a: pd.DataFrame | None, b: pd.DataFrame | None) -> dict[str, Any]:
    """Which videos of a dataset only one run scored, and how many both scored on other frames."""
    rows = [
        pd.Series(dtype="int64") if part is None else part.groupby("video", observed=True).size()
        for part in (a, b)
    ]
    only = [sorted(set(rows[side].index) - set(rows[1 - side].index)) for side in (0, 1)]
    shared = rows[0].index.intersection(rows[1].index)
    unlike = (rows[0].reindex(shared) != rows[1].reindex(shared)).sum()
    return {
        "shared": len(shared),
        "only_a": len(only[0]),
        "only_b": len(only[1]),
        "videos_only_a": only[0][:NAMED],
        "videos_only_b": only[1][:NAMED],
        "other_number_of_crops": int(unlike),
    }


def _videos_text(run: Run) -> str:
    sizes = {name: rows["video"].nunique() for name, rows in by_condition(run.rows, always=True).items()}
    return ", ".join(f"{count} videos of {name}" for name, count in sizes.items())


def _facts(run: Run) -> dict[tuple[str, str], Any]:
    """What a run says of itself, by section and key."""
    card, training = run.card, run.scored.training
    facts: dict[tuple[str, str], Any] = {
        ("weights", "detector"): run.scored.detector,
        ("weights", "sha256"): only_value(run.scored.predictions, "checkpoint") or None,
        ("selection", "rule"): training.selection_rule if training.selection_rule != NOT_STATED else None,
        ("training data", "datasets"): list(training.datasets) or None,
    }
    sections: dict[str, Mapping[str, Any]] = {
        "threshold": run.threshold.to_dict() if run.threshold else {},
        "weights": {
            key: card.get(key) for key in ("architecture", "width", "start", "imported") if key in card
        },
        "training data": {
            key: value for key, value in (card.get("training_data") or {}).items() if key != "recipe"
        },
        "preprocessing": {
            **(card.get("preprocessing") or {}),
            **{key: value for key, value in (card.get("training_data") or {}).items() if key == "recipe"},
        },
        "selection": {key: value for key, value in (card.get("selection") or {}).items() if key != "rule"},
        "config": {**(card.get("config") or {}), **run.config},
        "versions": {
            **(card.get("versions") or {}),
            **{key: value for key, value in run.environment.items() if key != "packages"},
            **(run.environment.get("packages") or {}),
        },
    }
    for section, values in sections.items():
        for key, value in _flatten(values):
            facts[section, key] = value
    # NaN is not known either, and unlike itself.
    return {key: value for key, value in facts.items() if value is not None and value == value}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        elif not str(key).endswith("_digests"):  # of thousands of videos: a digest of all stands beside them
            yield f"{prefix}{key}", value


def _fact_text(facts: Mapping[tuple[str, str], Any], section: str, key: str) -> str:
    value = facts.get((section, key))
    if value is None:
        return ABSENT
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _unknown_sources(side: str, run: Run) -> list[str]:
    known = {
        "detector.json of these weights": run.card,
        "config.yaml": run.config,
        "environment.json": run.environment,
        "thresholds.json": run.threshold,
    }
    absent = [name for name, value in known.items() if not value]
    return [f"{side} ({run.name}) has no {', '.join(absent)}"] if absent else []


def _summary(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "detector": run.scored.detector,
        "checkpoint": only_value(run.scored.predictions, "checkpoint") or None,
        "scores": dict(Origin.of_rows(run.rows).scores),
        "trained_on": list(run.scored.training.datasets),
        "selection_rule": run.scored.training.selection_rule,
        "threshold": run.cut.to_dict(),
        "predictions": list(run.scored.files),
        "rows": list(run.notes),
    }


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, "write it again, or move it away") if path.is_file() else {}


def _yaml(path: Path) -> dict[str, Any]:
    return read_yaml(path, "write it again, or move it away") if path.is_file() else {}
