"""Mitigations of a predictions table: what is fitted where, before and after, files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_text
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.origin import Origin
from unmasked.evaluation.records import Measures
from unmasked.evaluation.tables import escape_markdown
from unmasked.evaluation.wording import (
    change_text,
    list_names,
    points_only,
    signed_points,
)
from unmasked.fairness.groups import UNKNOWN
from unmasked.fairness.mitigation.compare import Comparison, before_after, compared_groups, group_doubts
from unmasked.fairness.mitigation.folds import Fold, folds, match_scores
from unmasked.fairness.mitigation.group_calibration import fit_group_calibration
from unmasked.fairness.mitigation.group_thresholds import fit_group_thresholds
from unmasked.fairness.mitigation.rules import Rule, SingleThreshold, single_threshold
from unmasked.fairness.mitigation.threshold_optimizer import fit_threshold_optimizer
from unmasked.fairness.mitigation.words import advice, joined_warnings, worst_off_text
from unmasked.fairness.records import MITIGATION, BeforeAfter, Mitigation, Remedy, RemedyHead, by_question
from unmasked.fairness.selection import Level
from unmasked.fairness.statistics.metrics import needs
from unmasked.fairness.verdicts import people, title

ONE_RUN = "one training against one: how much two trainings differ by chance is in no interval"
LESS_USE = "the gap shrinks, but balanced accuracy falls and no group's rises: it is just less use"


@dataclass(frozen=True)
class Settings:
    """How mitigations are fitted and compared; `mitigate` documents each field."""

    source: str = ""
    split: str = "val"
    rule: str = "fpr:0.10"
    level: Level = "video"
    constraints: str = "false_positive_rate_parity"
    min_fit: int = 10
    comparison: Comparison = field(default_factory=Comparison)


Fit = Callable[[Fold, SingleThreshold, Settings], Rule]
# name: what is fitted on the source's validation rows
METHODS: Mapping[str, Fit] = {
    "group_thresholds": lambda fold, before, how: fit_group_thresholds(
        fold, before.threshold, min_clusters=how.min_fit
    ),
    "capped_group_thresholds": lambda fold, before, how: fit_group_thresholds(
        fold, before.threshold, capped=True, min_clusters=how.min_fit
    ),
    "threshold_optimizer": lambda fold, before, how: fit_threshold_optimizer(
        fold, before.threshold.value, constraints=how.constraints, min_clusters=how.min_fit
    ),
    "group_platt": lambda fold, before, how: fit_group_calibration(
        fold, before.threshold, kind="platt", min_clusters=how.min_fit
    ),
    "group_isotonic": lambda fold, before, how: fit_group_calibration(
        fold, before.threshold, kind="isotonic", min_clusters=how.min_fit
    ),
}


def mitigate(
    predictions: pd.DataFrame,
    by: Sequence[str],
    methods: Sequence[str] = tuple(METHODS),
    *,
    retrained: Mapping[str, pd.DataFrame] | None = None,
    settings: Settings = Settings(),
) -> Mitigation:
    """What each mitigation does to the gap on every dataset, and what it costs.

    Everything is fitted on the source's validation rows and judged on others, the source's test rows and
    further datasets alike.

    Args:
        predictions: of the detector as it is.
        by: attributes, each by itself.
        methods: of `METHODS`.
        retrained: name -> predictions of a detector that was trained otherwise, on the same rows.
        settings: source and split to fit on; rule that chooses the single threshold before, and after a
            calibration or a training; level of a row; fairlearn's constraint; units from which a group
            stands alone in a fit; and how before and after are compared.

    Returns:
        An entry for each attribute, dataset and method; what could not be judged, with the reason.

    Raises:
        InputError: a method is unknown, or see `folds.folds`.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise InputError(
            f"method {unknown[0]!r} is not known; choose of {', '.join(METHODS)}. New trainings are given as "
            "retrained.NAME=PREDICTIONS"
        )
    entries: list[Remedy] = []
    skipped: dict[str, str] = {}
    notes: list[str] = []
    for attribute in [by] if isinstance(by, str) else by:
        fitted, judged, reasons = folds(
            predictions, attribute, source=settings.source, split=settings.split, level=settings.level
        )
        skipped |= reasons
        notes += [note for fold in (fitted, *judged) if (note := _unknown_note(fold, settings.level))]
        notes += [note for fold in judged if (note := _rare_group_note(fold, settings))]
        before = single_threshold(fitted, settings.rule, settings.level)
        for name in methods:
            rule = METHODS[name](fitted, before, settings)
            entries += [_post_process(name, before, rule, fitted, fold, settings) for fold in judged]
        for name, other in (retrained or {}).items():
            entries += [_compare_retrained(name, before, other, fitted, fold, settings) for fold in judged]
    return {
        "methods": entries,
        "skipped": skipped,
        "notes": notes,
        "settings": _describe_settings(settings),
        "made_from": Origin.of(predictions).to_dict(),
    }


def write(found: Mitigation, out: str | os.PathLike[str]) -> Path:
    """Writes ``mitigation.json``, ``.csv`` and ``.md``; returns the path of the last."""
    write_json(Path(out) / MITIGATION, found)
    write_frame(table(found), Path(out) / "mitigation.csv")
    path = Path(out) / "mitigation.md"
    write_text(path, markdown(found))
    return path


WHO_PAYS = ("worst_group_gain", "best_group_gain", "worst_group_utility_change", "levelling_down")


def table(found: Mitigation) -> pd.DataFrame:
    """A row for every entry, in plain numbers; shares, not per cent."""
    rows = []
    entries: list[Measures] = [*found["methods"]]
    for entry in entries:
        row = {
            name: entry[name] for name in ("attribute", "fitted_on", "applied_to", "name", "kind", "metric")
        }
        row |= {"gap_before": entry["before"]["gap"], "gap_after": entry["after"]["gap"]}
        for change in ("gap_change", "utility_change", "tpr_change_at_same_fpr"):
            row[change] = entry[change]
            row[f"{change}_low"], row[f"{change}_high"] = entry[f"{change}_ci"]
        utility = entry["utility"]
        row |= {f"{utility}_before": entry["before"][utility], f"{utility}_after": entry["after"][utility]}
        row |= {name: entry[name] for name in WHO_PAYS}
        rows.append(row | {"randomised": entry["randomised"], "warning": entry["warning"]})
    return pd.DataFrame(rows)


def markdown(found: Mitigation) -> str:
    """The results as tables to read, in percentage points, with the warnings under each."""
    parts = ["# Mitigation, before and after\n"]
    for (attribute, dataset), entries in by_question(found).items():
        first = entries[0]
        parts.append(
            f"## {escape_markdown(f'{attribute}, {dataset}')}\n\nGaps are in {first['metric'].upper()}, "
            f"fitted on {escape_markdown(first['fitted_on'])}. All numbers are percentage points; [] is a "
            "95 % interval, paired.\n"
        )
        lines = [[*COLUMNS], ["---"] * len(COLUMNS), *map(cells, entries)]
        parts += ["\n".join(f"| {' | '.join(map(escape_markdown, line))} |" for line in lines) + "\n"]
        parts += [
            f"- {escape_markdown(line)}\n" for line in (advice(entries), *joined_warnings(entries)) if line
        ]
    parts += [f"- {escape_markdown(note)}\n" for note in found.get("notes", [])]
    parts += [
        escape_markdown(f"Not judged: {name}: {reason}") + "\n"
        for name, reason in found.get("skipped", {}).items()
    ]
    return "\n".join(parts)


COLUMNS = (
    *("method", "gap before", "gap after", "change", "balanced accuracy", "TPR at same FPR"),
    *("worst-off group", "its balanced accuracy", "levelling down", "randomised"),
)


def cells(entry: Remedy) -> list[str]:
    """One entry as text, in the order of `COLUMNS`."""
    then, now = entry["before"], entry["after"]
    return [
        entry["name"],
        points_only(then["gap"]),
        points_only(now["gap"]),
        change_text(entry["gap_change"], entry["gap_change_ci"]),
        change_text(entry["utility_change"], entry["utility_change_ci"]),
        change_text(entry["tpr_change_at_same_fpr"], entry["tpr_change_at_same_fpr_ci"]),
        worst_off_text(entry),
        signed_points(entry["worst_group_utility_change"]),
        "YES" if entry["levelling_down"] else "no",
        "yes" if entry["randomised"] else "no",
    ]


def _post_process(
    name: str, before: SingleThreshold, rule: Rule, fitted: Fold, fold: Fold, settings: Settings
) -> Remedy:
    unseen = [group for group in fold.groups if group not in fitted.groups]
    warnings = list(rule.warnings)
    if unseen:
        named = list_names([people(fold.attribute, group) for group in unseen])
        warnings.append(f"{named} are not in {fitted.name} and get the pooled treatment")
    head = _head(name, "post-processing", rule, fitted, fold, warnings)
    found = _add_warnings(head, before_after(before, rule, fold, settings.comparison))
    return {**found, **group_doubts(rule, fold, settings.comparison)}


def _compare_retrained(
    name: str, before: SingleThreshold, other: pd.DataFrame, fitted: Fold, fold: Fold, settings: Settings
) -> Remedy:
    refitted = fitted.with_score(match_scores(fitted, other, settings.level))
    rule = single_threshold(refitted, settings.rule, settings.level)
    head = _head(name, "training", rule, fitted, fold, [ONE_RUN, *rule.warnings])
    rescored = match_scores(fold, other, settings.level)
    return _add_warnings(head, before_after(before, rule, fold, settings.comparison, rescored=rescored))


def _add_warnings(head: RemedyHead, found: BeforeAfter) -> Remedy:
    """Head and findings, with a warning where the gap shrank at the cost of those it is about, or of all."""
    warnings = []
    paid = found["worst_group_utility_change"]
    if found["no_group_gains_utility"]:
        warnings.append(LESS_USE)
    elif found["gap_change"] < 0 and paid < -1e-9:
        worst_off = people(head["attribute"], str(found["before"]["worst_group"]))
        warnings.append(
            f"the gap shrinks, but balanced accuracy among {worst_off}, who were worst off, falls by "
            f"{-100 * paid:.1f} points on {head['applied_to']}"
        )
    return {**head, **found, "warning": "; ".join(filter(None, (*warnings, head["warning"])))}


def _unknown_note(fold: Fold, level: Level) -> str:
    """How many rows of a fold are of nobody known, and what becomes of them; "" if none are."""
    unknown = int((fold.group == UNKNOWN).sum())
    if not unknown:
        return ""
    return (
        f"{title(fold.attribute)}, {fold.name}: of {unknown:,} of {len(fold):,} {level}s nobody says who is "
        "shown: they are in no gap, and get the pooled treatment"
    )


def _rare_group_note(fold: Fold, settings: Settings) -> str:
    """The group whose few rows make most of a gap's variance, with the way out; "" if none does."""
    how, kinds = settings.comparison, needs(settings.comparison.metric)
    # The variance of a rate goes with 1 / people: so each group has this share of the sum.
    variance = {group: 1 / fold.units(group, kinds) for group in compared_groups(fold, how)}
    rarest = max(variance, key=variance.__getitem__, default="")
    if len(variance) < 3 or 2 * variance[rarest] < sum(variance.values()):
        return ""
    few = fold.units(rarest, kinds)
    return (
        f"{title(fold.attribute)}, {fold.name}: the interval of the gap is as wide as the fewest make it, "
        f"{people(fold.attribute, rarest)}, of whom {few} have {' and '.join(kinds)} {settings.level}s; "
        f"min_clusters={few + 1} compares the others without them"
    )


def _head(name: str, kind: str, rule: Rule, fitted: Fold, fold: Fold, warnings: Sequence[str]) -> RemedyHead:
    return {
        "name": name,
        "kind": kind,
        "randomised": rule.randomised,
        "fitted_on": fitted.name,
        "applied_to": fold.name,
        "attribute": fold.attribute,
        "warning": "; ".join(warnings),
    }


def _describe_settings(settings: Settings) -> dict[str, str | int | float]:
    plain = {name: value for name, value in vars(settings).items() if name != "comparison"}
    return plain | vars(settings.comparison)
