"""``unmasked inspect``: one file, or a folder of them -> a finding and a case folder each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.inputs import CHECKPOINT, Border, Closer, FaceDetector, Frames, Gap, Landmarks, Scale
from unmasked.app.progress import print_result
from unmasked.datasets.errors import InputError, InterruptedBySignal, printable
from unmasked.datasets.regular_files import is_special

if TYPE_CHECKING:
    from unmasked.inspection.records import Case

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
FINDINGS, CASE = "findings.csv", "case.json"  # and the findings as .parquet


class Config(BaseModel):
    """What is looked at, by which detector, and where the case goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path = Field(description="a video or picture, or a folder of them; may stand without `file=`")
    checkpoint: Path = Field(description=CHECKPOINT)
    detector: str = Field(
        "", description="your own module or .py file, where the checkpoint is of one; ours are found by name"
    )
    performance: Path | None = Field(
        None, description="folder that `unmasked evaluate` wrote: measured errors, threshold and band; card"
    )
    out: Path = Field(Path("case"), description="folder of the case; of a folder, one for each file in it")
    frames: Frames = 32
    gap_s: Gap = 10.0
    closer: Closer = 4
    maps: bool = Field(
        False, description="show where in suspicious faces the detector found evidence, and test it"
    )
    crops: Literal["auto", "cut", "as_is"] = Field(
        "auto", description="as_is: the picture is a face crop already; see `unmasked preprocess`"
    )
    border: Border = None
    scale: Scale = None
    face_detector: FaceDetector = None
    landmarks: Landmarks = None
    prior: float | None = Field(
        None, description="your own probability beforehand that the file is fake; none, and nothing is said"
    )
    overwrite: bool = Field(False, description="replace a case of another file or other weights in `out`")
    budget_s: float = Field(300.0, gt=0, description="seconds a file may take to be decoded")
    memory_gb: float = Field(4.0, gt=0, description="memory that decoding a file may take (Linux)")
    workers: int = Field(1, ge=0, description="processes that decode files; 0 = one for each core")
    engine: Literal["local", "ray"] = Field(
        "local", description="where faces are looked for; ray: a Ray cluster (pip install unmasked[ray])"
    )
    device: str = Field("auto", description="auto, cpu, cuda, …")


def run(config: Config) -> None:
    """Examines the file, writes its case and prints the finding."""
    _check_file(config.file)
    if (config.out / FINDINGS).exists() and not config.file.is_dir():
        raise InputError(f"out={config.out} holds the cases of a folder of files; give another out=")
    try:
        _run(config)
    except InterruptedBySignal:
        if config.file.is_dir():
            finished = {file: case for file, case in _files(config)[0].items() if (case / CASE).is_file()}
            if finished:
                _write_findings(config, finished, 0, {})
        raise


def _run(config: Config) -> None:
    from unmasked.app.examiner import load_examiner
    from unmasked.evaluation.predict import LEAST
    from unmasked.inspection.examine import crop_config, examine, is_finished, remove_case

    examiner = load_examiner(
        config.checkpoint, config.detector, config.performance, config.prior, maps=config.maps
    )
    if examiner.domain is None:
        print_result(
            "NOTE: no calibration material is stored for these weights, so no file is compared with it; "
            f"`unmasked predict` of a table with {LEAST} val videos or more stores it beside the scores"
        )
    if (config.out / CASE).exists() and config.file.is_dir():
        raise InputError(f"out={config.out} is the case of one file; give another out=")
    files, unread = _files(config)
    done = [folder for file, folder in files.items() if is_finished(folder, file, examiner)]
    todo = {file: folder for file, folder in files.items() if folder not in done or not config.file.is_dir()}
    for folder in todo.values():
        if (folder / CASE).exists():
            if not config.overwrite:
                raise InputError(f"{folder} holds a case already; give another out=, or overwrite=true")
            remove_case(folder)
    limits = {name: getattr(config, name) for name in ("budget_s", "memory_gb", "workers", "engine")}
    given = crop_config(config, examiner.card.get("crops") or {}, **limits)
    is_alone = not config.file.is_dir()
    cases = examine(todo, examiner, given, closer=config.closer, device=config.device)
    for file, case in zip(todo, cases, strict=True):
        name = "" if is_alone else file.relative_to(config.file).as_posix()
        print_finding(case, is_alone=is_alone, name=name)
    if config.file.is_dir():
        for name, reason in unread.items():
            print_result(f"{name}: Not judged: {reason}. There is no score.")
        _write_findings(config, files, len(done), unread)
    else:
        print_result(f"case: {config.out / CASE}; page: {config.out / 'case.html'}")


def print_finding(case: Case, *, is_alone: bool, name: str = "") -> None:
    """Prints the answer about a file, then why.

    The detector's errors, which are those of every file, stand behind the answer about one that is alone.
    ``name`` is what the file is called, its own name if not given.
    """
    print_result(f"{printable(name or case.source.name)}: {case.finding.sentences[0]}")
    for sentence in case.finding.sentences[1:] if is_alone else ():
        print_result(f"  {sentence}")
    for reason in case.finding.reasons:
        # A refusal's sentence holds its reason.
        repeats = reason.words in case.finding.sentences[0]
        print_result(f"  {reason.code}" if repeats else f"  {reason.code}: {reason.words}")


def _check_file(file: Path) -> None:
    """Raises InputError where there is nothing to look at."""
    if is_special(file):
        raise InputError(f"file={file} is a pipe, a socket or a device; give a video or picture, or a folder")
    if file.exists():
        return
    if ADDRESS.match(str(file)):
        address = re.sub(r":/+", "://", str(file), count=1)  # a path has no two slashes in a row
        raise InputError(f"{address} is an address, and nothing is fetched; download it and give the file")
    raise InputError(f"file={file} does not exist; give a video or picture, or a folder of them")


def _files(config: Config) -> tuple[dict[Path, Path], dict[str, str]]:
    """Each file with its case folder, and what else lies there with the reason why it cannot be looked at.

    Raises:
        InputError: the folder holds no file.
    """
    from unmasked.datasets.listing import REACHED_TWICE, walk

    if not config.file.is_dir():
        return {config.file: config.out}, {}
    inside = config.out.resolve()
    walked = walk(config.file)
    found = [config.file / name for name in sorted(walked.files)]
    found = [path for path in found if inside not in path.resolve().parents]
    unread = {printable(name): why for name, why in walked.refused.items() if why != REACHED_TWICE}
    if not found and unread:
        name, why = next(iter(unread.items()))
        raise InputError(f"{config.file} holds no file that can be looked at ({name}: {why})")
    if not found:
        raise InputError(f"{config.file} holds no file; give a video or picture, or a folder of them")
    return {path: config.out / _case_name(path.relative_to(config.file)) for path in found}, unread


def _case_name(file: Path) -> Path:
    """The case folder of a file, apart from the table of all."""
    return Path(f"{file}.case") if file.parts[0] in (FINDINGS, CASE) else file


def _write_findings(config: Config, files: dict[Path, Path], done: int, unread: dict[str, str]) -> None:
    """Writes a row for each file of a folder beside their cases, also for what could not be looked at."""
    import pandas as pd

    from unmasked.datasets.csv_files import write_csv
    from unmasked.datasets.files import atomic_path
    from unmasked.evaluation.likelihood import support_words
    from unmasked.inspection.records import read_case

    rows = []
    for file, folder in files.items():
        case = read_case(folder)
        row = {"file": file.relative_to(config.file).as_posix(), "sha256": case.source.sha256}
        finding = case.finding.model_dump(include={"verdict", "score", "log10_lr", "people"})
        codes = " ".join(dict.fromkeys(reason.code for reason in case.finding.reasons))
        finding["support"] = "" if (lr := case.finding.log10_lr) is None else support_words(lr)
        rows.append({**row, **finding, "reasons": codes, "case": folder.relative_to(config.out).as_posix()})
    none = {"sha256": "", "verdict": "not judged", "people": 0, "reasons": "unreadable", "case": ""}
    rows += [{"file": name, **none} for name in unread]
    table = pd.DataFrame(rows)
    # The first of files with the same bytes, where there are several; "" for the others.
    first = table.groupby("sha256")["file"].transform("first")
    table.insert(2, "same_as", first.where((first != table["file"]) & (table["sha256"] != ""), ""))
    with atomic_path(config.out / FINDINGS) as temporary:
        write_csv(table, temporary)
    with atomic_path((config.out / FINDINGS).with_suffix(".parquet")) as temporary:
        table.to_parquet(temporary, index=False)
    again = f", {done} of them examined before" if done else ""
    twice = int((table["same_as"] != "").sum())
    again += f", {twice} with the same bytes as another" if twice else ""
    again += f", {len(unread)} that cannot be looked at" if unread else ""
    print_result(f"{len(table)} files{again}; a row for each: {config.out / FINDINGS}, and as .parquet")
