"""A case run again: the same bytes and scores, or what differs in words.

The seal of a case is a digest and no signature: it finds what was changed by accident or carelessly. Who
writes a new seal is found by the second run, as long as file and weights are the original ones. A case may be
a stranger's: nothing that it says decides how exact the comparison is, which code runs, or what is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import sha256_of_file
from unmasked.evaluation.fitted import Fitted
from unmasked.inspection.examine import TOLERANCE, is_inside, timeline_text
from unmasked.inspection.page import render_case
from unmasked.inspection.records import CASE, PAGE, TIMELINE, Case, read_case

# To where a browser ends it, however that is spelled.
STYLE = re.compile(r"<style>.*?</style", re.DOTALL | re.IGNORECASE)
FITTED = ("threshold", "abstention", "likelihood")
# Parts of a case that a second run on another machine may have otherwise; they are told, not counted.
NOT_COMPARED = {"environment", "code_sha256", "files", "seal"}
# Where a file lies is no finding, and what it is was compared before; versions are told with the environment.
PLACES = {
    *("source.name", "source.path", "weights.path", "weights.module", "weights.folder", "run"),
    *("settings.recipe.versions", "material.path"),
}


def find_cases(place: Path) -> list[Path]:
    """The folders of the cases at a place.

    It is a case's own folder, its ``case.json``, or a folder of cases.

    Raises:
        InputError: there is none.
    """
    if place.name == CASE and not place.is_dir():
        place = place.parent
    if (place / CASE).is_file():
        return [place]
    # Named as they are found: a case may lie in a folder called as a file.
    found = sorted(path.parent for path in place.rglob(CASE) if path.is_file())
    if not found:
        raise InputError(f"{place} holds no {CASE}; give a folder that `unmasked inspect` wrote")
    return found


def check_folder(folder: Path) -> tuple[Case | None, list[str]]:
    """The case, None where it is damaged, and what was changed in its folder."""
    try:
        case = read_case(folder)
    except InputError as error:
        return None, [f"case.json: damaged ({error})"]
    found = []
    if case.digest(was_read=True) != case.seal:
        found.append("case.json: changed after it was written, for its seal does not fit")
    for name, digest in case.files.items():
        path = folder / name
        if not is_inside(name, folder):
            found.append(f"case.json: lists {name}, which is no file of the case")
        elif not path.is_file():
            found.append(f"{name}: missing")
        elif sha256_of_file(path) != digest:
            found.append(f"{name}: changed after it was written")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    added = sorted(name for name in there - {CASE, *case.files} if not name.startswith("."))
    return case, found + [f"{name}: added after the case was written" for name in added]


def check_inputs(case: Case, file: Path, weights: Path, material: Path | None = None) -> list[str]:
    """What differs in file, weights, card and calibration material, by their digests."""
    card = weights.with_suffix(".json")
    pairs = (
        ("input", file, case.source.sha256),
        ("weights", weights, case.weights.sha256),
        ("card", card, case.weights.card_sha256),
        *([("material", material, case.material.sha256)] if case.material and material else []),
    )
    if not card.is_file():
        raise InputError(f"{weights} has no card {card.name} beside it; give checkpoint=")
    return [
        f"{name}: {path.name} has other bytes than were examined (SHA-256 {found[:12]}…, not {digest[:12]}…)"
        for name, path, digest in pairs
        if (found := sha256_of_file(path)) != digest
    ]


def differences(before: Case, now: Case) -> Iterator[str]:
    """What the second run found otherwise, a sentence each."""
    crops = {look.crop for look in before.looks} & {look.crop for look in now.looks}
    if changed := sorted(name for name in crops if before.files.get(name) != now.files.get(name)):
        yield f"crops: {len(changed)} of {len(crops)} have other pixels now (first: {changed[0]})"
    first, second = (_comparable(case, before, now) for case in (before, now))
    yield from _unlike(first, second, "", TOLERANCE)  # ours: the case's own could be anything


def _comparable(case: Case, *cases: Case) -> dict[str, Any]:
    """What a second run must find again; credentials only where the same library read them."""
    fields = case.model_dump(mode="json", exclude=NOT_COMPARED)
    found = [one.source.facts.credentials for one in cases]
    if len({one.reader if one is not None else None for one in found} - {None}) > 1:
        fields["source"]["facts"]["credentials"] = None
    return fields


def threshold_differences(case: Case, fitted: Fitted) -> list[str]:
    """What a run's thresholds have otherwise than the case, a sentence each."""
    stored = fitted.to_dict()
    now = case.model_copy(update={"thresholds": {name: stored[name] for name in FITTED}})
    first, second = (one.model_dump(mode="json")["thresholds"] for one in (case, now))
    return list(_unlike(first, second, "thresholds", TOLERANCE))


def page_differences(case: Case, folder: Path) -> tuple[list[str], list[str]]:
    """What page and timeline show otherwise than the confirmed record; what looks otherwise.

    The second where only the style sheet is another: our own may have changed since.
    """
    drawn = {TIMELINE: timeline_text(case), PAGE: render_case(case, folder)}
    there = {name: (folder / name).read_text(encoding="utf-8", errors="replace") for name in drawn}
    unlike = [name for name, text in drawn.items() if there[name] != text]
    shown = [f"{name}: shows something else than case.json" for name in unlike]
    if unlike != [PAGE] or STYLE.sub("", there[PAGE], 1) != STYLE.sub("", drawn[PAGE], 1):
        return shown, []
    said = f"{PAGE}: only its style sheet is another than ours, which can hide things; rely on {CASE} alone"
    return [], [said]


def remarks(before: Case, now: Case) -> list[str]:
    """What is unlike and need not matter: versions, machine and code."""
    found = []
    if before.code_sha256 != now.code_sha256:
        found.append("the code is another one than that which made the case")
    then, here = before.environment, now.environment
    old_packages, new_packages = then.get("packages"), here.get("packages")
    packages = {
        name: (version, new_packages.get(name) if isinstance(new_packages, dict) else None)
        for name, version in (old_packages.items() if isinstance(old_packages, dict) else ())
    }
    unlike = {"Python": (then.get("python"), here.get("python")), **packages}
    found += [f"{name} was {old}, and is {new}" for name, (old, new) in unlike.items() if old != new]
    return found


def _unlike(before: Any, now: Any, where: str, tolerance: float) -> Iterator[str]:
    if where in PLACES:
        return
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before | now:
            place = f"{where}.{key}" if where else key
            yield from _unlike(before.get(key), now.get(key), place, tolerance)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, pair in enumerate(zip(before, now, strict=True)):
            yield from _unlike(*pair, f"{where}.{number}", tolerance)
    elif _is_number(before) and _is_number(now):
        if not _is_close(before, now, tolerance):
            yield f"{where}: {_short(before)} in the case, {_short(now)} now"
    elif (".sentences" in where or where.endswith(".words")) and isinstance(before, str):
        if not _is_same_sentence(before, str(now)):
            yield f"{where}: {_short(before)} in the case, {_short(now)} now"
    elif before != now:
        yield f"{where}: {_short(before)} in the case, {_short(now)} now"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} entries"
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _is_close(before: float, now: float, tolerance: float) -> bool:
    try:
        return math.isclose(before, now, abs_tol=tolerance, rel_tol=tolerance)
    except OverflowError:  # an integer beyond every float
        return before == now


def _is_same_sentence(before: str, now: str) -> bool:
    """True if words are equal, and numbers to the last digit that is shown: scores have a tolerance.

    >>> _is_same_sentence("score 0.71 of 3", "score 0.72 of 3"), _is_same_sentence("0 of 9", "1 of 9")
    (True, False)
    """
    first, second = (re.split(r"(\d+(?:\.\d+)?)", text) for text in (before, now))
    if len(first) != len(second) or first[::2] != second[::2]:
        return False
    return all(
        one == other
        or ("." in one and len(one) == len(other) and abs(float(one) - float(other)) < 1.5 * _last_digit(one))
        for one, other in zip(first[1::2], second[1::2], strict=True)
    )


def _last_digit(number: str) -> float:
    return float(10.0 ** -len(number.partition(".")[2]))
