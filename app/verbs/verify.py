"""``unmasked verify``: a case, or a folder of cases, run again, and what differs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import Reporter, print_result
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    from unmasked.inspection.records import Case


PLACE_MAX = 4096  # characters of a path
STAGE = "cases examined again"


class Config(BaseModel):
    """Which case, and where its file and weights are now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: Path = Field(
        description="folder that `unmasked inspect` wrote, its case.json, or a folder of cases; may stand "
        "without `case=`"
    )
    file: Path | None = Field(None, description="the file that was examined; where the case says")
    checkpoint: Path | None = Field(None, description="the weights; where the case says")
    detector: str = Field("", description="your own module or .py file, where the checkpoint is of one")
    performance: Path | None = Field(
        None, description="the folder of measured errors, if `inspect` was given one; where the case says"
    )
    budget_s: float = Field(300.0, gt=0, description="seconds the file may take to be decoded")
    memory_gb: float = Field(4.0, gt=0, description="memory that decoding it may take (Linux)")
    device: str = Field("auto", description="auto, cpu, cuda, …")


def run(config: Config) -> None:
    """Prints what differs, and ends with the exit code 1 where anything does.

    Of several cases one that cannot be looked at does not end the others: the exit code is 2 then, unless
    another one differs.
    """
    from unmasked.inspection.verify import find_cases

    folders = find_cases(config.case)
    if len(folders) > 1 and config.file is not None:
        raise InputError(f"{config.case} holds {len(folders)} cases, and file= is of one; give one case")
    one_of = [config.model_copy(update={"case": folder}) for folder in folders]
    codes = []
    with Reporter() as report:
        for number, one in enumerate(one_of):
            report(STAGE, number, len(one_of))
            try:
                codes.append(1 if _verify(one) else 0)
            except InputError as error:
                if len(one_of) == 1:
                    raise
                codes.append(2)
                print_result(f"{one.case}: cannot be looked at: {error}")
    if len(one_of) == 1:
        if codes[0]:
            raise typer.Exit(1)
        return
    same, unlike, unread = map(codes.count, (0, 1, 2))
    said = f", {unread} cannot be looked at" if unread else ""
    print_result(f"{len(codes)} cases: {same} verified, {unlike} not{said}")
    if unlike or unread:
        raise typer.Exit(1 if unlike else 2)


def _verify(config: Config) -> list[str]:
    """What differs in one case, printed."""
    from unmasked.inspection.examine import TOLERANCE
    from unmasked.inspection.verify import check_folder, check_inputs

    case, found = check_folder(config.case)
    if case is not None:
        source, stored = _stored(config.case, case.source.path), _stored(config.case, case.weights.path)
        file = _place(config.file, source, "file", "the file that was examined")
        weights = _place(config.checkpoint, stored, "checkpoint", "the weights")
        material = _stored(config.case, case.material.path) if case.material is not None else None
        unlike = check_inputs(case, file, weights, material if material and material.is_file() else None)
        # Other bytes give other scores: to say so for each of them would hide the reason.
        found += unlike or _run_again(case, file, weights, config, is_whole=not found)
    for line in found:
        print_result(f"differs: {line}")
    if found:
        print_result(f"{config.case}: not verified, {len(found)} difference{'s' * (len(found) > 1)}")
    else:
        print_result(f"{config.case}: verified, same bytes and scores within {TOLERANCE:g}")
    return found


def _run_again(case: Case, file: Path, weights: Path, config: Config, *, is_whole: bool) -> list[str]:
    """What a second run finds otherwise; prints what is unlike and need not matter.

    ``is_whole`` says that no file of the case is missing or changed: its page can be drawn again.
    """
    from unmasked.app.examiner import load_examiner
    from unmasked.evaluation.fitted import read_fitted
    from unmasked.inspection.examine import crop_config, examine
    from unmasked.inspection.verify import differences, page_differences, remarks, threshold_differences

    performance = config.performance or (_stored(config.case, case.run) if case.run else None)
    if performance is not None and not performance.is_dir():
        raise InputError(f"the run with the measured errors is not at {performance}; give performance=")
    if case.weights.module and not config.detector:
        raise InputError(
            f"the case was made with the detector module {case.weights.module}, and a case alone makes us "
            "import nothing; if you trust the module, give it as detector="
        )
    # Errors are measured at the old threshold: the run with another one could not be loaded at all.
    if performance is not None and (performance / "thresholds.json").is_file():
        fitted = read_fitted(performance / "thresholds.json")
        if unlike := threshold_differences(case, fitted):
            return unlike
    has_maps = case.maps is not None
    examiner = load_examiner(weights, config.detector, performance, case.prior, maps=has_maps)
    given = crop_config(
        case.settings, case.settings.recipe, budget_s=config.budget_s, memory_gb=config.memory_gb, workers=1
    )
    with tempfile.TemporaryDirectory(prefix="unmasked-verify-") as folder:
        closer = case.settings.closer
        (now,) = examine({file: Path(folder)}, examiner, given, closer=closer, device=config.device)
    for line in (notes := remarks(case, now)):
        print_result(f"note: {line}")
    found = list(differences(case, now))
    # Of a case with missing files no page can be drawn; what was not confirmed is not drawn either.
    if found or not is_whole:
        return found
    drawn, style = page_differences(case, config.case)
    for line in style:
        print_result(f"note: {line}")
    if not notes:
        return drawn
    for line in drawn:  # other versions may draw it otherwise
        print_result(f"note: {line}, or was drawn by other versions; rely on case.json alone")
    return []


def _stored(case: Path, place: str) -> Path:
    """Where something lies that a case names, seen from the case; the name is a stranger's."""
    is_odd = Path(place).is_absolute() or "\0" in place or len(place) > PLACE_MAX
    # What the system makes up there may have no end, or be waited for.
    if is_odd or os.path.realpath(case / place).startswith(("/proc/", "/sys/")):
        raise InputError(f"case {case} names the place {place[:80]!r}, which is not seen from its own folder")
    return case / place


def _place(given: Path | None, stored: Path, key: str, what: str) -> Path:
    from unmasked.training.checkpoint import stored_file

    if key == "checkpoint" and given is not None:
        return stored_file(given)
    path = given or stored
    if not path.is_file():
        raise InputError(f"{path} does not exist, where the case says {what} would be; give {key}=")
    return path
