"""An ensemble of predictions tables: one more table, its card, and what it gains.

The ensemble stands beside each member and beside their plain mean, on the same videos, with paired intervals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import first_names
from unmasked.evaluation.abstention import Band
from unmasked.evaluation.alignment import Missing, align, as_videos
from unmasked.evaluation.collection import Scored, Training, collect, join_default_datasets, only_value
from unmasked.evaluation.compare import reading
from unmasked.evaluation.counts import Array
from unmasked.evaluation.ensembles import (
    FITTED,
    Ensemble,
    Rule,
    constant_members,
    definition_digest,
    equal_members,
    fit,
    out_of_fold,
)
from unmasked.evaluation.fitted import calibration_rows, threshold_beside
from unmasked.evaluation.levels import clusters_of, named_by_dataset
from unmasked.evaluation.machine import Machine
from unmasked.evaluation.origin import NOT_STATED, Origin
from unmasked.evaluation.paired import paired_difference
from unmasked.evaluation.predictions import (
    evaluated_rows,
    is_perturbed,
    read_predictions,
    validate_predictions,
)
from unmasked.evaluation.protocols import by_condition
from unmasked.evaluation.records import EnsembleAgainst, EnsembleResults
from unmasked.evaluation.tables import Table
from unmasked.evaluation.thresholds import Threshold
from unmasked.evaluation.wording import brackets_note, value_text

logger = logging.getLogger(__name__)

ARCHITECTURE = "ensemble"  # in a card, beside the names of networks
COMPARED = ("auc", "ap", "eer")
PLAIN_MEAN = "plain mean"
READINGS = {"a is better": "the ensemble is better", "b is better": "the ensemble is worse"}

Read = Callable[[Path], pd.DataFrame]
Features = Callable[[pd.DataFrame], Array]  # rows -> (N, F) features of all members, side by side


@dataclass(frozen=True)
class Member:
    """One detector's predictions, and the threshold that it votes at, where one is stored."""

    name: str  # unlike that of any other member
    scored: Scored
    threshold: Threshold | None


@dataclass(frozen=True)
class Settings:
    """How members are put together; see `Rule` for what is computed."""

    rule: Rule
    missing: Missing = "error"
    level: Literal["row", "video"] = "row"
    source: str = ""  # dataset whose validation rows are fitted on
    n_boot: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """An ensemble's predictions, its card, and how it stands beside its members."""

    predictions: pd.DataFrame
    card: dict[str, Any]
    results: EnsembleResults
    machine: Machine | None = None  # where it is stacked on features; the card has its digest


def read_members(
    paths: Sequence[Path], thresholds: Sequence[str] = (), *, read: Read = read_predictions
) -> list[Member]:
    """The detectors in predictions files, or in the folders of runs.

    Args:
        paths: each of a file, or of a folder with one detector or several.
        thresholds: of each member, a number or a file; those stored with the members if not given.
        read: gives the predictions in a file.

    Raises:
        InputError: a file is given twice, there are fewer than two members, or other numbers of thresholds.
    """
    resolved = [path.resolve() for path in paths]
    if twice := [str(path) for path, full in zip(paths, resolved, strict=True) if resolved.count(full) > 1]:
        raise InputError(
            f"{twice[0]} is given more than once; give each member once, and weigh it by method="
        )
    found: list[tuple[Path, Scored]] = [
        (path, scored) for path in paths for scored in collect(path, read=read)[0]
    ]
    if len(found) < 2:
        held = f"{found[0][1].name}" if found else "nothing"
        raise InputError(
            f"an ensemble has two members or more, and {held} was given; give several tables, as "
            "predictions=[A,B], or a folder of them"
        )
    if thresholds and len(thresholds) != len(found):
        listed = ", ".join(scored.name for _, scored in found)
        raise InputError(
            f"{len(thresholds)} thresholds were given for {len(found)} members ({listed}); give one for "
            "each, in this order"
        )
    _check_weights_apart(found)
    lone = [path for path, _ in found]
    tables = [scored.predictions for _, scored in found]
    if all(path.is_file() for path in lone):
        tables = join_default_datasets(lone, tables, "ensemble", are_of_same_videos=True)
    members = []
    for place, (path, scored) in enumerate(found):
        point = _given_threshold(thresholds[place], scored) if thresholds else _stored_threshold(path, scored)
        table = replace(scored, predictions=tables[place])
        if (dataset := tables[place]["dataset"].iloc[0]) != scored.predictions["dataset"].iloc[0]:
            logger.warning("%s has no column dataset: its rows are taken for those of %s", path.name, dataset)
        members.append(Member(_name(found, place), table, point))
    return members


def make_ensemble(
    members: Sequence[Member],
    settings: Settings,
    *,
    fit_on: Sequence[Member] = (),
    stored: Mapping[str, Any] | None = None,
    features: Features | None = None,
    machine: Machine | None = None,
) -> Made:
    """The ensemble of the members' predictions.

    Args:
        members: two or more.
        settings: how.
        fit_on: predictions of the same members, in the same order, on rows to fit on; the rows of the
            split ``val`` if not given.
        stored: the card of an ensemble of the same members, which is applied as it is.
        features: of rows, where it is stacked on features.
        machine: of the stored ensemble, where it is stacked on features.

    Raises:
        InputError: rows cannot be aligned (see `align`), or nothing can be fitted (see `fit`).
    """
    rule = settings.rule
    tables = _tables(members, settings.level)
    aligned = align(tables, settings.missing)
    rows, scores, notes = aligned.rows, aligned.scores, list(aligned.notes)
    names = list(tables)
    if constant := constant_members(scores, names):
        notes.append(f"{first_names(constant)} gives every row the same score, which tells nothing apart")
    if equal := equal_members(scores, names):
        notes.append(f"{first_names(equal)} give equal scores in every row: one detector counts twice")
    fitted_on = ""
    made = _stored_ensemble(stored, members, machine) if stored is not None else None
    rule = made.rule if made else rule
    given = scores
    if rule.meta == "svc" and rule.method == "stacking":
        given = _features(rows, features, settings.level)
    if made is not None and stored is not None:
        fitted_on = str(stored.get("fitted_on", ""))
        values = made.score(given)
    elif rule.method in FITTED:
        chosen = _fitting_rows(members, rows, scores, settings, fit_on)
        notes += chosen.notes
        fitted_on = chosen.words
        label, taught = chosen.rows["label"].to_numpy(), chosen.scores
        if given is not scores:
            taught = given[chosen.place] if chosen.place is not None else _features(chosen.rows, features)
        made = fit(rule, taught, label, fitted_on, cluster=chosen.cluster, members=len(members))
        values = made.score(given)
        if chosen.place is not None:
            values[chosen.place] = out_of_fold(rule, taught, label, chosen.cluster, fitted_on)
            notes.append(f"scores of {fitted_on} are out of fold, by {chosen.unit}")
    else:
        made = Ensemble(rule, len(members), thresholds=_votes(members) if rule.method == "majority" else ())
        values = made.score(scores)
    is_tie = made.is_tie(scores)
    if rule.method == "majority":
        notes += _vote_notes(members, settings.level, is_tie)
    card = _card(members, made, fitted_on, rule)
    own = {"detector": card["detector"], "checkpoint": card["sha256"]}
    predictions = validate_predictions(rows.assign(score=np.clip(values, 0.0, 1.0), **own))
    results = _results(members, made, predictions, scores, settings, fitted_on)
    results["dropped"] = dict(aligned.dropped)
    results["ties"] = int(is_tie.sum())
    results["rows"] = len(rows)
    results["notes"] = notes
    return Made(predictions, card, results, made.machine)


def left_out_rows_of(members: Sequence[Member], made: Made, level: str) -> int:
    """How many rows of all members' tables are behind no row of the ensemble."""
    names = (
        "dataset",
        "video",
        "compression",
        *(() if level == "video" else ("frame", "face", "perturbation")),
    )
    left = 0
    for member in members:
        table = member.scored.predictions
        keys = [name for name in names if name in table and name in made.predictions]
        kept = pd.MultiIndex.from_frame(made.predictions[keys].astype(object).fillna(""))
        left += int((~pd.MultiIndex.from_frame(table[keys].astype(object).fillna("")).isin(kept)).sum())
    return left


def ensemble_table(results: EnsembleResults) -> Table:
    """The ensemble beside each member and beside the plain mean, a row a dataset and metric."""
    lines = [
        [
            name,
            str(block["videos"]),
            one["name"],
            metric.upper(),
            value_text(found["a"], found["a_ci"], places=3),
            value_text(found["b"], found["b_ci"], places=3),
            value_text(found["difference"], found["difference_ci"], places=3, plus=True),
            one["readings"][metric],
        ]
        for name, block in results["datasets"].items()
        for one in block["against"]
        for metric, found in one["metrics"].items()
    ]
    head = ["dataset", "videos", "against", "metric", "ensemble", "the other", "difference", "reading"]
    facts = [f"{results['rule']} of {len(results['members'])} detectors, {results['rows']} rows."]
    facts += [f"Fitted on {results['fitted_on']}."] if results["fitted_on"] else []
    facts += [f"{note[:1].upper()}{note[1:]}." for note in results["notes"]]
    facts.append(
        "Difference: ensemble minus the other, paired on the same videos. "
        f"{brackets_note(results['n_boot'])}."
    )
    return Table("The ensemble beside its members", head, lines, facts, label="ensemble")


def _features(rows: pd.DataFrame, features: Features | None, level: str = "row") -> Array:
    if features is None or level == "video":
        raise InputError(
            "meta=svc is stacked on the members' features of single crops; give faces=, the table of crops "
            "that they scored, and level=row"
        )
    if is_perturbed(rows).any():
        raise InputError(
            "meta=svc has features of clean crops alone, and there are rows of perturbed ones; leave them out"
        )
    return features(rows)


@dataclass(frozen=True)
class _FittingRows:
    """What weights or a meta-model are fitted on."""

    rows: pd.DataFrame
    scores: np.ndarray  # (N, M)
    place: np.ndarray | None  # (N,) where they are among the ensemble's own rows
    words: str
    notes: list[str]

    @property
    def cluster(self) -> np.ndarray:
        """(N,) whose row it is; people of two datasets are two people."""
        return clusters_of(named_by_dataset(self.rows))

    @property
    def unit(self) -> str:
        known = self.rows["identity"].notna() if "identity" in self.rows else pd.Series([False])
        return "identity" if known.all() else "video" if not known.any() else "identity where known"


def _fitting_rows(
    members: Sequence[Member],
    rows: pd.DataFrame,
    scores: np.ndarray,
    settings: Settings,
    fit_on: Sequence[Member],
) -> _FittingRows:
    evaluated = evaluated_rows(rows.assign(score=scores.mean(axis=1)))
    if fit_on:
        _check_same_members(members, fit_on)
        aligned = align(_tables(fit_on, settings.level), settings.missing)
        clean = ~is_perturbed(aligned.rows).to_numpy()
        found = _FittingRows(
            aligned.rows[clean].reset_index(drop=True),
            aligned.scores[clean],
            None,
            "the rows of fit_on",
            list(aligned.notes),
        )
        if "split" in found.rows and (found.rows["split"] == "test").any():
            raise InputError(
                f"fit_on holds {int((found.rows['split'] == 'test').sum())} rows of the test split; an "
                "ensemble is fitted on validation rows or on scores out of fold: give those"
            )
    else:
        table = rows.assign(score=scores.mean(axis=1), place=np.arange(len(rows)))
        source = settings.source or None
        if "split" not in rows or not (rows["split"] == "val").any():
            raise InputError(
                f"method={settings.rule.method} is fitted on validation rows, and no row has the split val; "
                "predict the val split with every member, or give fit_on=[A_val,B_val], or take method=mean, "
                "which fits nothing"
            )
        marked, words = calibration_rows(table, source)
        place = marked["place"].to_numpy(dtype=np.int64)
        found = _FittingRows(rows.iloc[place].reset_index(drop=True), scores[place], place, words, [])
    _check_apart(found.rows, evaluated)
    if found.unit != "identity":
        found.notes.append(
            f"the identity is not known of every row of {found.words}: folds keep videos together, and a "
            "person of several videos may be on both sides of one"
        )
    if shared := _shared_people(found.rows, evaluated):
        found.notes.append(
            f"{shared} people of {found.words} are also among those that are evaluated: numbers of these "
            "datasets are too good"
        )
    return found


def _check_same_members(members: Sequence[Member], fit_on: Sequence[Member]) -> None:
    if len(fit_on) != len(members):
        raise InputError(
            f"fit_on has {len(fit_on)} members and predictions {len(members)}; give the scores of the same "
            "detectors in the same order"
        )
    for one, other in zip(members, fit_on, strict=True):
        for what in ("checkpoint", "detector"):
            given, wanted = (only_value(part.scored.predictions, what) for part in (other, one))
            if given and wanted and given != wanted:
                raise InputError(
                    f"fit_on has scores of {given[:40]} where predictions have those of {wanted[:40]}; give "
                    "the same detectors in the same order"
                )


def _check_apart(fitting: pd.DataFrame, evaluated: pd.DataFrame) -> None:
    videos = [set(zip(part["dataset"], part["video"], strict=True)) for part in (fitting, evaluated)]
    if both := sorted(map("/".join, videos[0] & videos[1])):
        raise InputError(
            f"{len(both)} videos are among those to fit on and among those that are evaluated "
            f"({first_names(both)}); an ensemble is never fitted on what it is measured on: leave them "
            "out of one of the two"
        )


def _shared_people(fitting: pd.DataFrame, evaluated: pd.DataFrame) -> int:
    people = [
        set(zip(known["dataset"], known["identity"].astype(str), strict=True))
        for part in (fitting, evaluated)
        if "identity" in part
        for known in [part[part["identity"].notna()]]
    ]
    return len(people[0] & people[1]) if len(people) == 2 else 0


def _tables(members: Sequence[Member], level: str) -> dict[str, pd.DataFrame]:
    """Predictions by member, frames or the mean of each video."""
    return {
        one.name: as_videos(one.scored.predictions) if level == "video" else one.scored.predictions
        for one in members
    }


def _check_weights_apart(found: Sequence[tuple[Path, Scored]]) -> None:
    seen: dict[str, str] = {}
    for path, scored in found:
        weights = only_value(scored.predictions, "checkpoint")
        if weights and weights in seen:
            raise InputError(
                f"{seen[weights]} and {path} are scores of the same weights ({weights[:12]}…); give each "
                "detector once, or put its tables together with `unmasked join`"
            )
        seen[weights] = str(path)


def _name(found: Sequence[tuple[Path, Scored]], place: int) -> str:
    path, scored = found[place]
    if [one.name for _, one in found].count(scored.name) == 1:
        return scored.name
    stem = path.stem if path.is_file() and path.stem != "predictions" else path.resolve().parent.name
    name = f"{scored.name} ({path.name if path.is_dir() else stem})"
    # The same name in folders of the same name.
    earlier = [_name(found, other) for other in range(place)]
    return name if name not in earlier else f"{name} {place + 1}"


def _given_threshold(text: str, scored: Scored) -> Threshold:
    from unmasked.evaluation.fitted import read_fitted

    try:
        value = float(text)
    except ValueError:
        return read_fitted(text, scored.predictions).threshold
    return Threshold.from_dict({"value": value, "rule": "given", "level": "any"})


def _stored_threshold(path: Path, scored: Scored) -> Threshold | None:
    """What lies beside the predictions, else what the card of these weights holds."""
    folder = (path / scored.files[0]).parent if path.is_dir() else path.parent
    found = threshold_beside(folder, scored.predictions, is_own=path.is_dir() and path == folder)
    if found is None and isinstance(stored := scored.card.get("threshold"), Mapping):
        return Threshold.from_dict(stored)
    return found


def _votes(members: Sequence[Member]) -> tuple[float, ...]:
    if without := [one.name for one in members if one.threshold is None]:
        raise InputError(
            f"method=majority counts votes at each member's own threshold, and none is stored with "
            f"{', '.join(without)}; run `unmasked evaluate` or `unmasked threshold` on its validation rows, "
            "or give thresholds=[…], a number or a thresholds.json for each member"
        )
    return tuple(one.threshold.value for one in members if one.threshold is not None)


def _vote_notes(members: Sequence[Member], level: str, is_tie: np.ndarray) -> list[str]:
    notes = []
    if ties := int(is_tie.sum()):
        notes.append(
            f"{ties} of {len(is_tie)} rows are ties, with as many votes for fake as for real: the ensemble "
            "abstains there; their score is 0.5, which score > 0.5 does not call fake"
        )
    of_videos = [one.name for one in members if one.threshold and one.threshold.level == "video"]
    if level == "row" and of_videos:
        notes.append(
            f"the threshold of {', '.join(of_videos)} was fitted on videos and is applied to single rows; "
            "level=video lets members vote on videos"
        )
    return notes


def _card(members: Sequence[Member], made: Ensemble, fitted_on: str, rule: Rule) -> dict[str, Any]:
    """What is known of the ensemble, as `detector.json` says it of other detectors."""
    trainings = [one.scored.training for one in members]
    stated = [
        {
            "name": one.name,
            "detector": one.scored.detector,
            "checkpoint": only_value(one.scored.predictions, "checkpoint") or NOT_STATED,
            "scores": dict(Origin.of(one.scored.predictions).scores),
            "trained_on": list(one.scored.training.datasets),
            "selection_rule": one.scored.training.selection_rule,
            "threshold": one.threshold.to_dict() if one.threshold else None,
            "training_data": one.scored.card.get("training_data"),
        }
        for one in members
    ]
    rules = list(dict.fromkeys(training.selection_rule for training in trainings))
    card: dict[str, Any] = {
        "architecture": ARCHITECTURE,
        "detector": f"ensemble, {rule.text}",
        # Facts of members that change nothing about the scores do not change what the ensemble is.
        "sha256": definition_digest(made, [{k: one[k] for k in ("checkpoint", "scores")} for one in stated]),
        "ensemble": made.to_dict(),
        "members": stated,
        "fitted_on": fitted_on,
        "training_data": _training_data(members, trainings),
        "selection": {"rule": "; ".join(rules)},
    }
    if rule.method == "majority":
        card["threshold"] = Threshold(0.5, "more than half of the votes", level="any").to_dict()
        if made.members % 2 == 0:
            band = Band(0.5 - 1e-9, 0.5, "as many votes for fake as for real", level="any")
            card["abstention"] = asdict(band)
    return card


def _training_data(members: Sequence[Member], trainings: Sequence[Training]) -> dict[str, Any]:
    """What all members were trained on; nothing where that is unknown of one."""
    stated = [one.scored.card.get("training_data") for one in members]
    if stated[0] and all(one == stated[0] for one in stated):
        return dict(stated[0])
    if not all(training.datasets for training in trainings):
        return {}
    return {
        name: sorted({value for training in trainings for value in getattr(training, name)})
        for name in ("datasets", "compression")
        if all(getattr(training, name) for training in trainings)
    }


def _stored_ensemble(
    stored: Mapping[str, Any], members: Sequence[Member], machine: Machine | None
) -> Ensemble:
    fields = stored.get("ensemble")
    if not isinstance(fields, Mapping):
        raise InputError(
            "the stored card is of no ensemble; give the detector.json that `unmasked ensemble` wrote"
        )
    made = Ensemble.from_dict(fields, machine)
    wanted = stored.get("members")
    listed = [one for one in wanted if isinstance(one, Mapping)] if isinstance(wanted, list) else []
    if made.members != len(members) or len(listed) != len(members):
        names = ", ".join(str(one.get("name")) for one in listed)
        raise InputError(
            f"the stored ensemble has {made.members} members ({names}), and {len(members)} were given; give "
            "predictions of each, in this order"
        )
    for one, given in zip(listed, members, strict=True):
        weights = only_value(given.scored.predictions, "checkpoint")
        known = one.get("checkpoint")
        if weights and known not in (None, NOT_STATED, weights):
            raise InputError(
                f"the stored ensemble has {one.get('name')} ({str(known)[:12]}…) where {given.name} "
                f"({weights[:12]}…) was given; give predictions of the same weights, in the same order"
            )
    return made


def _results(
    members: Sequence[Member],
    made: Ensemble,
    predictions: pd.DataFrame,
    scores: np.ndarray,
    settings: Settings,
    fitted_on: str,
) -> EnsembleResults:
    """The ensemble beside each member and the plain mean, on the rows that are evaluated."""
    others = {one.name: scores[:, place] for place, one in enumerate(members)}
    if not (made.rule.method == "mean" and made.rule.scale == "probability"):
        others[PLAIN_MEAN] = scores.mean(axis=1)
    columns = {name: f"score of {place}" for place, name in enumerate(others)}
    with_all = predictions.assign(**{columns[name]: values for name, values in others.items()})
    rows = evaluated_rows(with_all)
    datasets: dict[str, Any] = {}
    for name, part in by_condition(rows).items():
        against = [_against(part, other, columns[other], settings) for other in others]
        videos = part.drop_duplicates(["dataset", "video"])
        datasets[name] = {
            "videos": len(videos),
            "real_videos": int((videos["label"] == 0).sum()),
            "fake_videos": int((videos["label"] == 1).sum()),
            "against": against,
        }
    stored = made.to_dict()
    return {
        "rule": made.rule.text,
        "method": made.rule.method,
        "members": [one.name for one in members],
        "weights": stored["weights"],
        "thresholds": stored["thresholds"],
        "fitted_on": fitted_on,
        "datasets": datasets,
        "dropped": {},
        "ties": 0,
        "rows": len(predictions),
        "notes": [],
        "n_boot": settings.n_boot,
        "seed": settings.seed,
    }


def _against(rows: pd.DataFrame, name: str, column: str, settings: Settings) -> EnsembleAgainst:
    kept = [one for one in ("dataset", "video", "compression", "label", "identity") if one in rows]
    found = paired_difference(
        rows[[*kept, "score"]],
        rows[[*kept, column]].rename(columns={column: "score"}),
        only=COMPARED,
        n_boot=settings.n_boot,
        seed=settings.seed,
    )
    videos = found["n"]["shared_videos"]
    said = {metric: reading(metric, one, videos) for metric, one in found["metrics"].items()}
    return {
        "name": name,
        "metrics": found["metrics"],
        "readings": {metric: READINGS.get(words, words) for metric, words in said.items()},
    }
