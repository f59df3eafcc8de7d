"""One file to a case folder: faces, scores, verdict, and what a second examiner needs."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from unmasked.datasets.csv_files import csv_text
from unmasked.datasets.errors import InputError
from unmasked.datasets.file_kinds import kind_of_file
from unmasked.datasets.files import sha256_of_file, write_text
from unmasked.datasets.listing import kinds
from unmasked.datasets.loading import sample_evenly
from unmasked.evaluation.counts import Array
from unmasked.evaluation.domain import CROPS_A_PERSON, Domain, Place
from unmasked.evaluation.fitted import Fitted
from unmasked.evaluation.predict import Detector, describe_crops, predict
from unmasked.inspection.file_facts import file_facts
from unmasked.inspection.finding import failures_of, finding_of, foreign_reasons, people_of
from unmasked.inspection.page import render_case
from unmasked.inspection.records import (
    CASE,
    PAGE,
    TIMELINE,
    Case,
    Facts,
    Look,
    Material,
    Rates,
    Reason,
    Sampled,
    Settings,
    Source,
    Weights,
    read_case,
    write_case,
)
from unmasked.preprocessing.config import PreprocessConfig, recipe, recipe_hash
from unmasked.preprocessing.extract import Row, Task
from unmasked.preprocessing.pool import Budget, Pool
from unmasked.preprocessing.run import preprocess

DATASET = "inspected"
CHUNK = 16  # files whose faces are found before the first of them is written down
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
}
LOSSLESS = ("PNG", "BMP", "GIF")
# What decides a score, by layer; a page's looks do not.
CODE = ("datasets", "preprocessing", "evaluation", "inspection", "training", "ucf", "baselines")
Stamp = tuple[int, int, int]  # size, time of change, inode: as `preprocess` tells a changed file


@dataclass(frozen=True)
class Examiner:
    """A detector with what its verdicts rest on, as `app` put it together.

    Attributes:
        model: images (N, 3, H, W) in [-1, 1] to logits (N, 2).
        card: of the detector.
        weights: the file of them; its card lies beside it.
        module: the user's own module or file, "" for one of ours.
        run: folder with the measured errors; None where they are the card's.
        fitted: threshold, band and likelihood ratio.
        rates: measured errors at that threshold.
        prior: the user's own P(fake) beforehand.
        environment: versions of this process.
        domain: the material that it was calibrated on; None where none is stored.
        domain_file: where that lies.
    """

    model: Detector
    card: Mapping[str, Any]
    weights: Path
    module: str
    run: Path | None
    fitted: Fitted
    rates: Sequence[Rates]
    prior: float | None
    environment: Mapping[str, Any]
    domain: Domain | None = None
    domain_file: Path | None = None


def settings_of(config: PreprocessConfig, size_px: int) -> Settings:
    """What a score depends on beside file and weights.

    Args:
        config: of the crops.
        size_px: of the images that the detector takes.
    """
    return Settings(
        **{ours: getattr(config, theirs) for ours, theirs in CROP_KEYS.items()},
        size_px=size_px,
        recipe=recipe(config),
        few_frames=FEW_FRAMES,
        small_face_px=SMALL_FACE_PX,
        tolerance=TOLERANCE,
    )


def crop_config(settings: BaseModel, **limits: Any) -> PreprocessConfig:
    """The configuration of the crops of these settings.

    Args:
        settings: `Settings`, or another model with the keys of `CROP_KEYS`.
        limits: budget_s, memory_gb, workers and engine.
    """
    keys = {theirs: getattr(settings, ours) for ours, theirs in CROP_KEYS.items()}
    return PreprocessConfig(faces="all", **keys, **limits)


def examine(
    files: Mapping[Path, Path],
    examiner: Examiner,
    config: PreprocessConfig,
    *,
    device: str = "auto",
    pool: Pool[Task, list[Row]] | None = None,
) -> Iterator[Case]:
    """The case of each file, written into its folder.

    A bad file is a case without a score.

    Args:
        files: file -> its case folder. ``case.json`` is written last: a folder without it is not finished.
        examiner: the detector.
        config: how faces are found and cut out; ``faces`` is all.
        device: where the detector runs.
        pool: of the processes that find faces, where they are kept; see `preprocessing.run.worker_pool`.
    """
    listed = list(files.items())
    settings, unlike = settings_of(config, examiner.card["size_px"]), crop_reasons(examiner.card, config)
    code = code_digest()
    for start in range(0, len(listed), CHUNK):
        part = listed[start : start + CHUNK]
        for folder in dict(part).values():
            folder.mkdir(parents=True, exist_ok=True)
            if not is_inside("crops", folder):
                raise InputError(f"{folder / 'crops'} is a link; give a new folder for the case")
        stamps = {file: _stamp(file) for file, _ in part}
        with tempfile.TemporaryDirectory(prefix=".faces-", dir=part[0][1]) as work:
            facts = file_facts(list(dict(part)), Budget(config.budget_s, config.memory_gb * 2**30))
            rows = [_manifest_row(file, str(n), facts[file]) for n, (file, _) in enumerate(part)]
            manifest = pd.DataFrame(rows)
            faces = preprocess(manifest, Path(work), config, pool=pool)
            for number, (file, folder) in enumerate(part):
                found = faces[faces["video"] == str(number)]
                looked = _looks(found, Path(work), folder, examiner, device)
                source = _source(file, folder, manifest["kind"].iloc[number], facts[file])
                is_changed = _stamp(file) != stamps[file]  # what was scored need not be what was hashed
                yield _write(
                    source, folder, found, looked, examiner, settings, unlike, code, is_changed=is_changed
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
    if not learned or _is_known_recipe(config, learned):
        return []
    words = (
        f"the crops are not made as those that the detector learned from (recipe {', '.join(learned)}): "
        "other settings, or other versions of the libraries that make them"
    )
    return [Reason(code="other_crops", words=words)]


def timeline_text(case: Case) -> str:
    """``timeline.csv``: a row a scored crop."""
    columns = ["person", "frame", "time_s", "score", "size_px", "blur", "crop"]
    return csv_text(pd.DataFrame([look.model_dump() for look in case.looks], columns=columns))


def code_digest() -> str:
    """SHA-256 of the code that decides a score."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(path for layer in CODE for path in (root / layer).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _manifest_row(file: Path, name: str, facts: Facts) -> dict[str, str | None]:
    place = {"path": file.name, "root": str(file.parent.resolve()), "kind": _kind(file, facts)}
    return {"dataset": DATASET, "video": name, **place, "label": None, "method": None, "split": "test"}


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


def _source(file: Path, folder: Path, kind: Any, facts: Facts) -> Source:
    return Source(
        name=file.name,
        path=_relative(file, folder),
        kind=kind,
        bytes=file.stat().st_size,
        sha256=sha256_of_file(file),
        facts=facts,
    )


def _write(
    source: Source,
    folder: Path,
    faces: pd.DataFrame,
    looked: _Looked,
    examiner: Examiner,
    settings: Settings,
    unlike: list[Reason],
    code: str,
    *,
    is_changed: bool,
) -> Case:
    is_video = source.kind == "video"
    domain, looks = examiner.domain, looked.looks
    failures = failures_of(faces)
    if is_changed:
        looks = []
        failures = [Reason(code="changed", words="the file changed while it was examined"), *failures]
    places = {}
    if domain is not None:
        for person, place in looked.places.items():
            is_lossless = source.facts.format in LOSSLESS
            bits = None if is_lossless else source.facts.bits_per_pixel
            places[person] = place, foreign_reasons(place, domain, is_video=is_video, bits_per_pixel=bits)
    scored = pd.DataFrame([look.model_dump() for look in looks]).rename(columns={"person": "face"})
    people = people_of(scored, examiner.fitted, settings, is_video=is_video, places=places) if looks else []
    sampled = _sampled(faces)
    failures += unlike if people else []
    finding = finding_of(people, sampled, failures, examiner.rates, examiner.fitted, examiner.prior)
    stored = examiner.fitted.to_dict()
    case = Case(
        source=source,
        weights=Weights(
            detector=examiner.card["detector"],
            architecture=examiner.card["architecture"],
            module=examiner.module,
            path=_relative(examiner.weights, folder),
            sha256=examiner.card["sha256"],
            card_sha256=sha256_of_file(examiner.weights.with_suffix(".json")),
        ),
        settings=settings,
        material=_material(examiner, folder),
        thresholds={name: stored[name] for name in ("threshold", "abstention", "likelihood")},
        run=_relative(examiner.run, folder) if examiner.run is not None else "",
        performance=list(examiner.rates),
        finding=finding,
        people=people,
        sampled=sampled,
        looks=looks,
        warnings=_warnings(faces),
        prior=examiner.prior,
        code_sha256=code,
        environment=dict(examiner.environment),
    )
    write_text(folder / TIMELINE, timeline_text(case))
    write_text(folder / PAGE, render_case(case, folder))
    names = [TIMELINE, PAGE, *(look.crop for look in looks)]
    case = case.seal_with({name: sha256_of_file(folder / name) for name in names})
    write_case(case, folder)
    return case


def _material(examiner: Examiner, folder: Path) -> Material | None:
    if examiner.domain is None or examiner.domain_file is None:
        return None
    return Material(
        path=_relative(examiner.domain_file, folder),
        sha256=sha256_of_file(examiner.domain_file),
        fitted_on=examiner.domain.fitted_on,
        people=examiner.domain.people,
        rate=examiner.domain.rate,
        kinds=list(examiner.domain.kinds),
    )


@dataclass(frozen=True)
class _Looked:
    """The scored crops of a file, and where each person lies in the calibration material."""

    looks: list[Look]
    places: Mapping[int, Place]


def _places(
    usable: pd.DataFrame, work: Path, examiner: Examiner, device: str, features: Array | None
) -> dict[int, Place]:
    """Where each person lies, by a few of their crops; none where no material is stored.

    ``features`` are those of all rows, where scoring gave them.
    """
    if examiner.domain is None:
        return {}
    numbered = usable.assign(video=usable["face"].astype(str), row=np.arange(len(usable)))
    few = sample_evenly(numbered, CROPS_A_PERSON)
    statistics, values = describe_crops(
        examiner.model,
        few,
        work,
        size_px=examiner.card["size_px"],
        device=device,
        features=None if features is None else features[few["row"]],
    )
    return {
        int(person): examiner.domain.place(statistics[rows], None if values is None else values[rows])
        for person, rows in few.groupby("face").indices.items()
    }


def _looks(faces: pd.DataFrame, work: Path, folder: Path, examiner: Examiner, device: str) -> _Looked:
    """The scored crops, moved into the case folder. A picture in which no face was found has none."""
    usable = faces[(faces["status"] == "ok") & faces["size_px"].notna()]
    if usable.empty:
        return _Looked([], {})
    card = examiner.card
    kept: list[Array] | None = [] if examiner.domain is not None else None
    predictions = predict(
        examiner.model,
        usable,
        work,
        size_px=card["size_px"],
        device=device,
        detector=card["detector"],
        checkpoint=card["sha256"],
        kept=kept,
    )
    features = np.concatenate(kept) if kept else None
    key = ["frame", "face"]
    rows = usable.merge(predictions[[*key, "score"]], on=key, validate="one_to_one")
    (folder / "crops").mkdir(exist_ok=True)
    looks = []
    for row in rows.sort_values(["face", "frame"]).itertuples():
        crop = f"crops/{Path(row.crop).name}"
        shutil.copyfile(work / row.crop, folder / crop)
        looks.append(
            Look(
                person=row.face,
                frame=row.frame,
                time_s=None if pd.isna(row.time_s) else row.time_s,
                score=row.score,
                size_px=row.size_px,
                blur=None if pd.isna(row.blur) else row.blur,
                crop=crop,
            )
        )
    return _Looked(looks, _places(usable, work, examiner, device, features))


def _sampled(faces: pd.DataFrame) -> Sampled:
    frames = faces[faces["frame"] >= 0].drop_duplicates("frame")
    times = frames["time_s"].dropna().sort_values()
    gap = times.diff().max()
    return Sampled(
        frames=len(frames),
        with_face=int(((frames["status"] == "ok") & frames["size_px"].notna()).sum()),
        unreadable=int((~frames["status"].isin(["ok", "no_face", "already_cropped"])).sum()),
        largest_gap_s=None if pd.isna(gap) else float(gap),
    )


def _warnings(faces: pd.DataFrame) -> list[str]:
    """What decoding met, and what was done to show frames as players do."""
    found = [str(text) for name in ("reason", "conversion") for text in faces[name].dropna().unique()]
    # Of a fault its last line: the others name files of the machine.
    return [text.strip().splitlines()[-1] if text.startswith("Traceback") else text for text in found]


def _is_known_recipe(config: PreprocessConfig, learned: Sequence[str]) -> bool:
    """True if the crops look like those of training, whichever faces of however many frames were kept."""
    for faces in ("largest", "all", "mask"):
        known = recipe(config.model_copy(update={"faces": faces}))
        for frames in range(1, FRAMES_TRIED + 1):
            if recipe_hash({**known, "frames_per_video": frames}) in learned:
                return True
    return False


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
