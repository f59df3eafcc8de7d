"""``unmasked verify``: a case run again, and what differs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    from unmasked.inspection.records import Case


class Config(BaseModel):
    """Which case, and where its file and weights are now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: Path = Field(description="folder that `unmasked inspect` wrote; may stand without `case=`")
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
    """Prints what differs, and ends with the exit code 1 where anything does."""
    from unmasked.inspection.verify import check_folder, check_inputs

    case, found = check_folder(config.case)
    if case is not None:
        file = _place(config.file, config.case / case.source.path, "file", "the file that was examined")
        weights = _place(config.checkpoint, config.case / case.weights.path, "checkpoint", "the weights")
        material = config.case / case.material.path if case.material is not None else None
        unlike = check_inputs(case, file, weights, material if material and material.is_file() else None)
        # Other bytes give other scores: to say so for each of them would hide the reason.
        found += unlike or _run_again(case, file, weights, config)
    for line in found:
        print_result(f"differs: {line}")
    if found:
        print_result(f"{config.case}: not verified, {len(found)} difference{'s' * (len(found) > 1)}")
        raise typer.Exit(1)
    assert case is not None
    print_result(f"{config.case}: verified, same bytes and scores within {case.settings.tolerance:g}")


def _run_again(case: Case, file: Path, weights: Path, config: Config) -> list[str]:
    """What a second run finds otherwise; prints what is unlike and need not matter."""
    from unmasked.app.examiner import load_examiner
    from unmasked.inspection.examine import crop_config, examine
    from unmasked.inspection.verify import differences, remarks

    performance = config.performance or (config.case / case.run if case.run else None)
    if performance is not None and not performance.is_dir():
        raise InputError(f"the run with the measured errors is not at {performance}; give performance=")
    detector = config.detector or case.weights.module
    examiner = load_examiner(weights, detector, performance, case.prior)
    given = crop_config(case.settings, budget_s=config.budget_s, memory_gb=config.memory_gb, workers=1)
    with tempfile.TemporaryDirectory(prefix="unmasked-verify-") as folder:
        (now,) = examine({file: Path(folder)}, examiner, given, device=config.device)
    for line in remarks(case, now):
        print_result(f"note: {line}")
    return list(differences(case, now))


def _place(given: Path | None, stored: Path, key: str, what: str) -> Path:
    from unmasked.training.checkpoint import stored_file

    if key == "checkpoint" and given is not None:
        return stored_file(given)
    path = given or stored
    if not path.is_file():
        raise InputError(f"{path} does not exist, where the case says {what} would be; give {key}=")
    return path
