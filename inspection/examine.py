"""One file to a case folder: faces, scores, verdict, and what a second examiner needs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from unmasked.datasets.csv_files import csv_text
from unmasked.datasets.errors import InputError
from unmasked.datasets.file_kinds import kind_of_file
from unmasked.datasets.files import sha256_of_file, write_text
from unmasked.datasets.listing import kinds
from unmasked.evaluation.domain import Place
from unmasked.evaluation.inference import ready_to_score
from unmasked.inspection.examiner import Examiner
from unmasked.inspection.file_facts import examiner_pool, facts_pool, file_facts
from unmasked.inspection.finding import failures_of, finding_of, foreign_reasons, people_of
from unmasked.inspection.looks import find_places, score_faces, write_looks
from unmasked.inspection.maps import FOLDER as MAPS
from unmasked.inspection.maps import suspicious, write_maps
from unmasked.inspection.page import render_case
from unmasked.inspection.records import (
    CASE,
    PAGE,
    TIMELINE,
    Case,
    Facts,
    Look,
    Material,
    Reason,
    Sampled,
    Settings,
    Source,
    Weights,
    read_case,
    write_case,
)
from unmasked.preprocessing.config import PreprocessConfig, config_like, crops_of, recipe, recipe_hash
from unmasked.preprocessing.extract import Row, Task
from unmasked.preprocessing.run import Runner, crop_files, faces_table, rows_of

DATASET = "inspected"
CHUNK = 16  # files whose faces are found before the first of them is written down
GAP_S = 10.0  # between two frames of a video, at most, unless the caller says otherwise
CLOSER = 4  # frames more where the scores move, unless the caller says otherwise
FEW_FRAMES = 3
SMALL_FACE_PX = 48.0
TOLERANCE = 1e-4  # scores of other thread counts and processors differ in their last digits
FRAMES_TRIED = 512  # a recipe's hash is compared for so many frames a video
# Keys of `Settings`, and of `PreprocessConfig`, which decide what a crop looks like.
CROP_KEYS = {
    "frames": "frames_per_video",
    "scale": "scale",
    "crops": "crops",
    "border": "border",
    "face_detector": "detector",
    "landmarks": "landmarks",
    "gap_s": "gap_s",
}
LOSSLESS = ("PNG", "BMP", "GIF")
# What decides a score, by layer; a page's looks do not.
CODE = ("datasets", "preprocessing", "evaluation", "inspection", "training", "ucf", "baselines")
Stamp = tuple[int, int, int]  # size, time of change, inode: as `preprocess` tells a changed file


def settings_of(config: PreprocessConfig, size_px: int, closer: int = 0) -> Settings:
    """What a score depends on beside file and weights.

    Args:
        config: of the crops.
        size_px: of the images that the detector takes.
        closer: as of `examine`.
    """
    return Settings(
        **{ours: getattr(config, theirs) for ours, theirs in CROP_KEYS.items()},
        size_px=size_px,
        recipe=recipe(config),
        few_frames=FEW_FRAMES,
        small_face_px=SMALL_FACE_PX,
        tolerance=TOLERANCE,
        closer=closer,
    )


def crop_config(settings: BaseModel, recipe: Mapping[str, Any], **limits: Any) -> PreprocessConfig:
    """The configuration of the crops of these settings.

    Args:
        settings: `Settings`, or another model with the keys of `CROP_KEYS`; None is as in the recipe.
        recipe: of the crops that the detector learned from, or of those of a case.
        limits: budget_s, memory_gb, workers and engine.
    """
    keys = {theirs: getattr(settings, ours) for ours, theirs in CROP_KEYS.items()}
    return config_like(recipe, faces="all", **keys, **limits)


def examine(
    files: Mapping[Path, Path],
    examiner: Examiner,
    config: PreprocessConfig,
    *,
    closer: int = 0,
    device: str = "auto",
    pool: Runner | None = None,
) -> Iterator[Case]:
    """The case of each file, written into its folder.

    A bad file is a case without a score.

    Args:
        files: file -> its case folder. ``case.json`` is written last: a folder without it is not finished.
        examiner: the detector.
        config: how faces are found and cut out; ``faces`` is all.
        closer: frames of a video that are looked at beside, at most, where scores move of a person who is not
            called fake anyway; none where faces are looked for on other machines.
        device: where the detector runs.
        pool: of the processes that look into files, where they are kept; as `examiner_pool` makes it.
    """
    listed = list(files.items())
    examination = start_examination(examiner, config, closer=closer, device=device)
    kept = None
    if pool is None:
        kept = facts_pool(config) if config.engine == "ray" else examiner_pool(config)
    try:
        for start in range(0, len(listed), CHUNK):
            with examination.look_into(listed[start : start + CHUNK], pool or kept) as found:
                yield from examination.judge(found, pool or kept)
    finally:
        if kept is not None:
            kept.stop()


def start_examination(
    examiner: Examiner,
    config: PreprocessConfig,
    *,
    closer: int = 0,
    device: str = "auto",
    has_places: bool = True,
) -> Examination:
    """What is the same for all files, made once.

    Args:
        examiner: the detector.
        config: as of `examine`.
        closer: as of `examine`.
        device: as of `examine`.
        has_places: True if cases say where weights, run and material lie; else they say their names alone.
    """
    settings = settings_of(config, examiner.card["size_px"], 0 if config.engine == "ray" else closer)
    # Once for all passes: to make it costs as much as to score some twenty faces.
    ready: Any = ready_to_score(examiner.model, settings.size_px, device)
    examiner = replace(examiner, model=ready)
    unlike = crop_reasons(examiner.card, config)
    known = recipe_hash(recipe(config))
    return Examination(examiner, config, settings, unlike, known, code_digest(), device, has_places)


@dataclass(frozen=True)
class Found:
    """A file that was looked into, of which nothing is scored yet.

    Attributes:
        file: the file.
        folder: of its case.
        stamp: of the file, from before it was read.
        facts: what it says of itself.
        task: what finds its faces; ``workdir`` holds their crops, below the folder.
        rows: of its faces table; crops are relative to the folder.
    """

    file: Path
    folder: Path
    stamp: Stamp
    facts: Facts
    task: Task
    rows: list[Row]


@dataclass(frozen=True)
class Examination:
    """What is the same for all files: a file is looked into, then several are judged at once.

    Made by `start_examination`.
    """

    examiner: Examiner
    config: PreprocessConfig
    settings: Settings
    unlike: list[Reason]
    recipe: str
    code: str
    device: str
    has_places: bool

    @contextmanager
    def look_into(self, part: Sequence[tuple[Path, Path]], pool: Any) -> Iterator[list[Found]]:
        """The faces found in files; their crops are there as long as the context is."""
        with ExitStack() as stack:
            stamps = [_stamp(file) for file, _ in part]
            facts = file_facts([file for file, _ in part], pool)
            tasks = []
            for file, folder in part:
                folder.mkdir(parents=True, exist_ok=True)
                for name in ("crops", MAPS):
                    if not is_inside(name, folder):
                        raise InputError(f"{folder / name} is a link; give a new folder for the case")
                work = stack.enter_context(tempfile.TemporaryDirectory(prefix=".faces-", dir=folder))
                tasks.append(self._task(file, facts[file], Path(work).absolute()))
            finder = None if self.config.engine == "ray" else pool
            rows = {done.task: rows_of(done) for done in crop_files(tasks, self.config, pool=finder)}
            yield [
                Found(file, folder, stamp, facts[file], task, rows[task])
                for (file, folder), stamp, task in zip(part, stamps, tasks, strict=True)
            ]

    def _task(self, file: Path, facts: Facts, work: Path) -> Task:
        """What finds a file's faces; other machines see its folders from another place than this one."""
        place = (str(file.parent.resolve()), file.name, _kind(file, facts), work.name, str(work))
        return Task(*place, crops=crops_of(DATASET, self.config))

    def judge(self, found: Sequence[Found], pool: Any) -> Iterator[Case]:
        """The cases of a few files, whose crops are scored together."""
        root = Path(os.path.commonpath([one.folder.resolve() for one in found]))
        known = {"dataset": DATASET, "label": None, "method": None, "split": "test"}
        described = [{**known, "video": str(n), "kind": one.task.kind} for n, one in enumerate(found)]
        measured = [_rows_below(root, one) for one in found]
        faces = faces_table(pd.DataFrame(described), measured, self.recipe)
        scored = score_faces(
            faces,
            {str(n): _task_below(root, one) for n, one in enumerate(found) if one.task.kind == "video"},
            root,
            self.examiner,
            pool=pool if self.config.engine != "ray" else None,
            closer=self.settings.closer,
            device=self.device,
        )
        places = find_places(scored, root, self.examiner, self.device)
        for number, one in enumerate(found):
            rows = scored.rows[scored.rows["video"] == str(number)]
            looks = write_looks(rows, root, one.folder) if len(rows) else []
            its_places = {face: place for (video, face), place in places.items() if video == str(number)}
            source = _source(one)
            is_changed = _stamp(one.file) != one.stamp  # what was scored need not be what was hashed
            theirs = faces[faces["video"] == str(number)]
            yield self.write(source, one.folder, theirs, looks, its_places, is_changed=is_changed)

    def write(
        self,
        source: Source,
        folder: Path,
        faces: pd.DataFrame,
        looks: list[Look],
        places: Mapping[int, Place],
        *,
        is_changed: bool,
    ) -> Case:
        """The case of one file, written into its folder."""
        examiner, settings = self.examiner, self.settings
        is_video = source.kind == "video"
        domain = examiner.domain
        failures = failures_of(faces)
        if is_changed:
            looks = []
            failures = [Reason(code="changed", words="the file changed while it was examined"), *failures]
        foreign = {}
        if domain is not None:
            is_lossless = source.facts.format in LOSSLESS
            bits = None if is_lossless else source.facts.bits_per_pixel
            for person, place in places.items():
                reasons = foreign_reasons(place, domain, is_video=is_video, bits_per_pixel=bits)
                foreign[person] = place, reasons
        # The threshold is of means over frames that are spread evenly.
        even = [look.model_dump() for look in looks if not look.between]
        scored = pd.DataFrame(even).rename(columns={"person": "face"})
        people = []
        if even:
            people = people_of(scored, examiner.fitted, settings, is_video=is_video, places=foreign)
        sampled = _sampled(faces, looks)
        failures += self.unlike if people else []
        maps = None
        if examiner.draw is not None:
            maps = write_maps(suspicious(people, looks), folder, examiner.card["size_px"], examiner.draw)
        finding = finding_of(people, sampled, failures, examiner.rates, examiner.fitted, examiner.prior)
        stored = examiner.fitted.to_dict()
        case = Case(
            source=source,
            weights=Weights(
                detector=examiner.card["detector"],
                architecture=examiner.card["architecture"],
                module=examiner.module if self.has_places else Path(examiner.module).name,
                path=self._place(examiner.weights, folder),
                sha256=examiner.card["sha256"],
                card_sha256=sha256_of_file(examiner.weights.with_suffix(".json")),
                network=examiner.network,
                folder=examiner.weights.resolve().parent.name,
            ),
            settings=settings,
            material=self._material(folder),
            thresholds={name: stored[name] for name in ("threshold", "abstention", "likelihood")},
            run=self._place(examiner.run, folder) if examiner.run is not None else "",
            performance=list(examiner.rates),
            finding=finding,
            people=people,
            sampled=sampled,
            looks=looks,
            maps=maps,
            warnings=_warnings(faces),
            prior=examiner.prior,
            code_sha256=self.code,
            environment=dict(examiner.environment),
        )
        write_text(folder / TIMELINE, timeline_text(case))
        write_text(folder / PAGE, render_case(case, folder))
        names = [TIMELINE, PAGE, *(look.crop for look in looks)]
        names += [one.file for one in maps.shown] if maps else []
        case = case.seal_with({name: sha256_of_file(folder / name) for name in names})
        write_case(case, folder)
        return case

    def _place(self, path: Path, folder: Path) -> str:
        return _relative(path, folder) if self.has_places else path.name

    def _material(self, folder: Path) -> Material | None:
        examiner = self.examiner
        if examiner.domain is None or examiner.domain_file is None:
            return None
        return Material(
            path=self._place(examiner.domain_file, folder),
            sha256=sha256_of_file(examiner.domain_file),
            fitted_on=examiner.domain.fitted_on,
            people=examiner.domain.people,
            rate=examiner.domain.rate,
            kinds=list(examiner.domain.kinds),
        )


def is_finished(folder: Path, file: Path, examiner: Examiner) -> bool:
    """True if the folder holds the case of these bytes and weights."""
    try:
        case = read_case(folder)
    except InputError:
        return False
    return (case.source.sha256, case.weights.sha256) == (sha256_of_file(file), examiner.card["sha256"])


def remove_case(folder: Path) -> None:
    """Removes what a case folder lists and nobody has changed since, and nothing else.

    ``case.json`` goes first: a case that is half gone is none.
    """
    case = read_case(folder)
    (folder / CASE).unlink()
    for name, digest in case.files.items():
        path = folder / name
        # Somebody else's record may list anything, and a link may lead anywhere.
        if is_inside(name, folder) and path.is_file() and sha256_of_file(path) == digest:
            path.unlink()


def is_inside(name: str, folder: Path) -> bool:
    """True if a name is one of a file below a folder, by no link."""
    try:
        place = (folder / name).resolve()
        return ".." not in Path(name).parts and place == folder.resolve() / name and place != folder.resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, links in a circle
        return False


def crop_reasons(card: Mapping[str, Any], config: PreprocessConfig) -> list[Reason]:
    """A reason where the detector did not learn from crops like these; none if unknown."""
    learned = (card.get("training_data") or {}).get("recipe") or []
    if not learned or _is_known_recipe(config, tuple(learned)):
        return []
    words = (
        f"the crops are not made as those that the detector learned from (recipe {', '.join(learned)}): "
        "other settings, or other versions of the libraries that make them"
    )
    return [Reason(code="other_crops", words=words)]


def timeline_text(case: Case) -> str:
    """``timeline.csv``: a row a scored crop."""
    columns = ["person", "frame", "time_s", "score", "size_px", "blur", "crop", "between"]
    return csv_text(pd.DataFrame([look.model_dump() for look in case.looks], columns=columns))


@cache  # of the code that runs, whatever is written meanwhile
def code_digest() -> str:
    """SHA-256 of the code that decides a score."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(path for layer in CODE for path in (root / layer).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _rows_below(root: Path, found: Found) -> list[Row]:
    """The rows of a file, its crops relative to a folder above."""
    below = found.folder.resolve().relative_to(root)
    return [
        {**row, "crop": (below / row["crop"]).as_posix()} if row.get("crop") else row for row in found.rows
    ]


def _task_below(root: Path, found: Found) -> Task:
    """What finds more faces of a file, its crops relative to a folder above."""
    below = found.folder.resolve().relative_to(root)
    return replace(found.task, folder=(below / found.task.folder).as_posix())


def _stamp(file: Path) -> Stamp:
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _kind(file: Path, facts: Facts) -> str:
    """video or image: by content where that is known, else by suffix; anything else is tried as a video.

    A GIF that moves is a video.
    """
    if facts.format == "GIF":
        return "video" if (facts.frames or 1) > 1 else "image"
    said = kind_of_file(file).rpartition(" ")[2]
    if said in ("picture", "video"):
        return "image" if said == "picture" else "video"
    found = kinds(pd.Series([file.name])).iloc[0]
    return "video" if found == "sequence" else str(found)


def _source(found: Found) -> Source:
    return Source(
        name=found.file.name,
        path=_relative(found.file, found.folder),
        kind=found.task.kind,
        bytes=found.file.stat().st_size,
        sha256=sha256_of_file(found.file),
        facts=found.facts,
    )


def _sampled(faces: pd.DataFrame, looks: Sequence[Look]) -> Sampled:
    frames = faces[faces["frame"] >= 0].drop_duplicates("frame")
    times = frames["time_s"].dropna().sort_values()
    gap = times.diff().max()
    return Sampled(
        frames=len(frames),
        with_face=int(((frames["status"] == "ok") & frames["size_px"].notna()).sum()),
        unreadable=int((~frames["status"].isin(["ok", "no_face", "already_cropped"])).sum()),
        largest_gap_s=None if pd.isna(gap) else float(gap),
        between=len({look.frame for look in looks if look.between}),
    )


def _warnings(faces: pd.DataFrame) -> list[str]:
    """What decoding met, and what was done to show frames as players do."""
    found = [str(text) for name in ("reason", "conversion") for text in faces[name].dropna().unique()]
    # Of a fault its last line: the others name files of the machine.
    return [text.strip().splitlines()[-1] if text.startswith("Traceback") else text for text in found]


@lru_cache(64)  # a server asks for every job
def _is_known_recipe(config: PreprocessConfig, learned: tuple[str, ...]) -> bool:
    """True if the crops look like those of training, whichever faces of however many frames were kept."""
    for faces in ("largest", "all", "mask"):
        known = recipe(config.model_copy(update={"faces": faces, "gap_s": 0.0}))
        for frames in range(1, FRAMES_TRIED + 1):
            if recipe_hash({**known, "frames_per_video": frames}) in learned:
                return True
    return False


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
