"""An audit that goes on: new scores are added to a run, and every look at it is allowed.

The pairs of groups that the run's audit compares are watched from then on, each by bets
(`statistics.betting`). What the audit itself was made of is not bet on: it said what to watch. State is
kept in the run as ``monitor.json``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from unmasked.datasets.documents import read_record, write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.wording import percent
from unmasked.fairness.groups import UNKNOWN, order_groups
from unmasked.fairness.records import FILE, AuditResults, Look, Monitor, Unwatched, WatchedPair, read
from unmasked.fairness.result import Audit
from unmasked.fairness.statistics.betting import BETS, ENOUGH, add_people, adjust_e_values, e_value
from unmasked.fairness.statistics.estimates import generator
from unmasked.fairness.statistics.shuffling import TESTED_OF
from unmasked.fairness.verdicts import EVENTS, people, title

STATE = "monitor.json"
AUDITED = "audited.parquet"  # who an audit was made of, so that nobody is counted twice
KEYS = ("dataset", "video", "compression")


def write_audited(audits: Iterable[Audit], out: str | os.PathLike[str]) -> None:
    """Writes which videos and people the audits are of, as hashes."""
    found: set[str] = set()
    for audit in audits:
        if audit.selection:
            found.update(*_keys(audit.selection.table))
    write_frame(pd.DataFrame({"key": sorted(found)}, dtype=str), Path(out) / AUDITED)


def watch(audits: Mapping[str, Audit], run: str | os.PathLike[str]) -> Monitor:
    """The run's record with these audits' people added; `write` keeps it.

    Args:
        audits: of new scores, by dataset, as `run.audit_datasets` gives them.
        run: folder of the audit that they go on from.

    Raises:
        InputError: the folder holds no audit, it is of another detector, threshold, level or attributes, it
            compares no two groups, or some of the videos are counted already.
    """
    run = Path(run)
    advice = "give since= the folder of an audit that `unmasked fairness` wrote"
    before = read(run / FILE) if (run / FILE).is_file() else None
    if before is None:
        raise InputError(f"{run} holds no {FILE}; {advice}")
    if not (run / AUDITED).is_file():
        raise InputError(f"{run} does not say whom it audited ({AUDITED} is absent); audit its scores again")
    common = [name for name in audits if name in before["datasets"]]
    if not common:
        raise InputError(
            f"{run} audits {', '.join(before['datasets'])}, the new scores are of {', '.join(audits)}; "
            f"{advice} of the same dataset"
        )
    for name in common:
        _check_same(audits[name], before["datasets"][name], run)
    state = read_monitor(run) or _start(before["datasets"], run)
    for pair in state["pairs"]:
        audit = before["datasets"].get(pair["dataset"])
        if audit is None or pair["attribute"] not in audit["attributes"]:
            raise InputError(
                f"{run / STATE} watches {pair['attribute']!r} of {pair['dataset']!r}, which {FILE} beside it "
                "does not audit; remove it to begin anew from the run's audit"
            )
    counted = {*pd.read_parquet(run / AUDITED)["key"], *state["counted"]}
    added: list[str] = []
    units, again = 0, 0
    for name in common:
        keys, new, old = _add(state, name, audits[name], counted)
        added, units, again = added + keys, units + new, again + old
    state["counted"] = sorted({*state["counted"], *added})
    made = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    look: Look = {"made": made, "datasets": common, "units": units, "seen_before": again}
    look["unwatched"] = [
        entry for name in common for entry in _unwatched(state, name, audits[name], before["datasets"][name])
    ]
    state["looks"].append(look)
    _settle(state)
    return state


def read_monitor(run: str | os.PathLike[str]) -> Monitor | None:
    """What was kept in a run, None where nothing was added yet; InputError where damaged."""
    path = Path(run) / STATE
    if not path.is_file():
        return None
    return read_record(path, TypeAdapter(Monitor), "remove it to begin anew from the run's audit")


def write(state: Monitor, run: str | os.PathLike[str]) -> None:
    """Keeps the record in the run, whole or not at all."""
    write_json(Path(run) / STATE, state)


def sentences(state: Monitor) -> list[str]:
    """What was found so far, at any of the looks."""
    looks = len(state["looks"])
    units, again = (sum(look[name] for look in state["looks"]) for name in ("units", "seen_before"))
    head = f"Watched since {state['since']}: {looks} look{'s' if looks > 1 else ''}, {units:,} new people or "
    head += f"videos{f' ({again:,} seen before are left out)' if again else ''}"
    rule = "However often you look, at most 5 of 100 such watches report a difference where there is none."
    found = [pair for pair in state["pairs"] if pair["found_at"]]
    if found:
        return [*(f"{head}. {_pair_sentence(pair)} {rule}" for pair in found), *_unwatched_sentences(state)]
    largest = max(state["pairs"], key=lambda pair: pair["e_adjusted"])
    return [
        f"{head}. No difference was found so far; that is not proof of equality. The most evidence, e = "
        f"{largest['e_adjusted']:.2g} where {ENOUGH:.0f} is enough, is on {largest['dataset']}: "
        f"{_compared(largest)}. {rule}",
        *_unwatched_sentences(state),
    ]


def _unwatched_sentences(state: Monitor) -> list[str]:
    """How many new videos no watched pair has, by dataset, attribute, group and reason."""
    counts: dict[tuple[str, str], dict[tuple[str, str], dict[str, int]]] = {}
    for look in state["looks"]:
        for one in look.get("unwatched", []):
            of_attribute = counts.setdefault((one["dataset"], one["attribute"]), {})
            of_group = of_attribute.setdefault((one["group"], one["reason"]), {})
            of_group[one["kind"]] = of_group.get(one["kind"], 0) + one["videos"]
    found = []
    for (dataset, attribute), groups in counts.items():
        listed = []
        for (group, reason), kinds in groups.items():
            videos = " and ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
            listed.append(f"{videos} of {group} ({reason})" if videos else f"{group}: {reason}")
        found.append(f"Not watched on {dataset}, by {title(attribute)}: {'; '.join(listed)}.")
    return found


def _pair_sentence(pair: WatchedPair) -> str:
    return (
        f"On {pair['dataset']} a difference was found at look {pair['found_at']}: {_compared(pair)} (e = "
        f"{pair['e_adjusted']:.3g} now; {ENOUGH:.0f} is enough)."
    )


def _compared(pair: WatchedPair) -> str:
    rates = [1 - rate if pair["metric"] == "tpr" else rate for rate in pair["rates"]]
    first, second = (people(pair["attribute"], name) for name in pair["groups"])
    if not all(pair["people"]):
        return f"nobody new to compare between {first} and {second}"
    return (
        f"{EVENTS[pair['metric']].format(f' of {first}')} in {percent(rates[0])} of cases, of {second} in "
        f"{percent(rates[1])} ({pair['people'][0]:,} and {pair['people'][1]:,} new)"
    )


def _start(datasets: Mapping[str, AuditResults], run: Path) -> Monitor:
    pairs: list[WatchedPair] = []
    for dataset, audit in datasets.items():
        crossed = audit["settings"].get("crossings", [])
        for attribute, found in audit["attributes"].items():
            if attribute in crossed:  # what was not asked for would cost the others power
                continue
            for metric in TESTED_OF.values():
                names = [one["group"] for one in found["groups"] if metric in one["compared"]]
                pairs += [_new_pair(dataset, attribute, metric, pair) for pair in combinations(names, 2)]
    if not pairs:
        raise InputError(f"the audit in {run} compares no two groups; there is nothing to watch")
    return {"since": run.name, "looks": [], "pairs": pairs, "counted": []}


def _new_pair(dataset: str, attribute: str, metric: str, groups: tuple[str, str]) -> WatchedPair:
    return {
        "dataset": dataset,
        "attribute": attribute,
        "metric": metric,
        "groups": list(groups),
        "people": [0, 0],
        "rates": [0.0, 0.0],
        "log_capital": [0.0] * len(BETS),
        "e_value": 1.0,
        "e_adjusted": 1.0,
        "found_at": 0,
    }


def _check_same(audit: Audit, before: AuditResults, run: Path) -> None:
    """Raises InputError where the new audit would be added to one of another kind."""
    settings = before["settings"]
    ours = {
        "threshold": audit.settings.threshold,
        "level": audit.settings.level,
        "detector": audit.origin.get("detector", "none named"),
        "weights": audit.origin.get("checkpoint", "none named"),
        "attributes": ", ".join(
            _attributes(list(audit.support.index.unique(0)), audit.origin.get("crossings"))
        ),
    }
    theirs = {
        "threshold": settings["threshold"],
        "level": settings["level"],
        "detector": settings.get("detector", "none named"),
        "weights": settings.get("checkpoint", "none named"),
        "attributes": ", ".join(_attributes(list(before["attributes"]), settings.get("crossings"))),
    }
    for name, value in ours.items():
        if value != theirs[name]:
            raise InputError(
                f"the audit in {run} has {name} {theirs[name]}, the new scores {value}: they cannot be added "
                "up. Audit them alike, or begin anew with an audit of their own"
            )


def _attributes(names: list[str], crossings: list[str] | None) -> list[str]:
    return sorted(set(names) - set(crossings or ()))


def _add(state: Monitor, dataset: str, audit: Audit, counted: set[str]) -> tuple[list[str], int, int]:
    """Bets on the new people of a dataset.

    Returns the keys of who was counted, how many were new, and how many were seen before.
    """
    selection = audit.selection
    assert selection is not None  # the audits are of a table
    videos, persons = _keys(selection.table)
    if twice := sum(key in counted for key in set(videos)):
        raise InputError(
            f"{twice:,} of {len(set(videos)):,} videos of {dataset} are counted already in {state['since']}; "
            "give new videos only"
        )
    # Of a person who was seen before nothing new can be bet on: he errs as he did.
    fresh = np.array([key not in counted for key in persons])
    rng = generator(audit.settings, f"{dataset}, look {len(state['looks'])}")
    called = (selection.rows.score > audit.settings.threshold).astype(np.float64)
    used = np.zeros(len(fresh), dtype=bool)
    for pair in state["pairs"]:
        if pair["dataset"] != dataset:
            continue
        label = list(TESTED_OF.values()).index(pair["metric"])
        names = selection.groups[pair["attribute"]].to_numpy()
        parts = []
        for name in pair["groups"]:
            member = fresh & (names == name) & (selection.rows.label == label)
            parts.append(pd.Series(called[member]).groupby(selection.rows.cluster[member]).mean().to_numpy())
            used |= member
        pair["log_capital"] = add_people(np.array(pair["log_capital"]), parts[0], parts[1], rng).tolist()
        for at, part in enumerate(parts):
            total = pair["people"][at] + len(part)
            if total:
                pair["rates"][at] += (part.sum() - len(part) * pair["rates"][at]) / total
            pair["people"][at] = total
    cluster = selection.rows.cluster
    return [*videos, *persons], len(np.unique(cluster[used])), len(np.unique(cluster[~fresh]))


def _unwatched(state: Monitor, dataset: str, audit: Audit, before: AuditResults) -> list[Unwatched]:
    """The new videos that no watched pair has, and groups of the first audit that nobody new is of."""
    selection = audit.selection
    assert selection is not None  # the audits are of a table
    watched = {
        (pair["attribute"], pair["metric"], group)
        for pair in state["pairs"]
        for group in pair["groups"]
        if pair["dataset"] == dataset
    }
    found: list[Unwatched] = []
    for attribute in sorted({attribute for attribute, _, _ in watched}):
        names = selection.groups[attribute].to_numpy()
        known = [one["group"] for one in before["attributes"][attribute]["groups"]]
        for group in dict.fromkeys([*known, *order_groups(names.tolist())]):
            has_vanished = group != UNKNOWN and not (names == group).any()
            reason = (
                f"too few in {state['since']}" if group in known else f"no such group in {state['since']}"
            )
            reason = "nobody says who they are" if group == UNKNOWN else reason
            reason = f"nobody at look {len(state['looks']) + 1}" if has_vanished else reason
            for label, (kind, metric) in enumerate(TESTED_OF.items()):
                videos = int(((names == group) & (selection.rows.label == label)).sum())
                if has_vanished or (videos and (attribute, metric, group) not in watched):
                    entry = Unwatched(
                        dataset=dataset,
                        attribute=attribute,
                        group=group,
                        kind=kind,
                        videos=videos,
                        reason=reason,
                    )
                    found.append(entry)
    return found


def _settle(state: Monitor) -> None:
    """e-values of all pairs; who is found once stays found: that is what one look in twenty allows."""
    for pair in state["pairs"]:
        pair["e_value"] = e_value(np.array(pair["log_capital"]))
    adjusted = adjust_e_values(np.array([pair["e_value"] for pair in state["pairs"]]))
    for pair, value in zip(state["pairs"], adjusted, strict=True):
        pair["e_adjusted"] = float(value)
        if value >= ENOUGH and not pair["found_at"]:
            pair["found_at"] = len(state["looks"])


def _keys(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """(N,) hash of each row's video, and (N,) of its person, or of the video where nobody is known."""
    videos = _hashes(table, KEYS)
    if "identity" not in table:
        return videos, videos
    # A column of its own name: person "7" is not video "7".
    persons = _hashes(table.assign(person="identity"), ["person", "dataset", "identity"])
    return videos, np.where(table["identity"].notna(), persons, videos).tolist()


def _hashes(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """(N,) hash of each row's values; an absent column is one without any value."""
    joined = pd.Series("", index=table.index, dtype=object)
    for column in columns:
        if column in table:
            values = table[column].astype(object)
            joined += values.where(values.notna(), "").map(str)
        joined += "\0"
    codes, names = pd.factorize(joined)
    hashed = [hashlib.blake2b(name.encode(), digest_size=8).hexdigest() for name in names]
    return [hashed[code] for code in codes]
