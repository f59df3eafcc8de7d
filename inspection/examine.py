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

import pandas as pd
from pydantic import BaseModel

from unmasked.datasets.csv_files import write_csv
from unmasked.datasets.errors import InputError
from unmasked.datasets.file_kinds import kind_of_file
from unmasked.datasets.files import atomic_path, sha256_of_file, write_text
from unmasked.datasets.listing import kinds
from unmasked.evaluation.fitted import Fitted
from unmasked.evaluation.predict import Detector, predict
from unmasked.inspection.finding import failures_of, finding_of, people_of
from unmasked.inspection.page import render_case
from unmasked.inspection.records import (
    CASE,
    PAGE,
    TIMELINE,
    Case,
    Look,
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
from unmasked.preprocessing.pool import Pool
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
# What decides a score, by layer; a page's looks do not.
CODE = ("datasets", "preprocessing", "evaluation", "inspection", "training", "ucf", "baselines")


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
        limits: budget_s, memory_gb and workers.
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
        with tempfile.TemporaryDirectory(prefix=".faces-", dir=part[0][1]) as work:
            manifest = pd.DataFrame([_manifest_row(file, str(n)) for n, (file, _) in enumerate(part)])
            faces = preprocess(manifest, Path(work), config, pool=pool)
            for number, (file, folder) in enumerate(part):
                rows = faces[faces["video"] == str(number)]
                kind = manifest["kind"].iloc[number]
                looks = _looks(rows, Path(work), folder, examiner, device)
                yield _write(file, folder, kind, rows, looks, examiner, settings, unlike, code)


def is_finished(folder: Path, file: Path, examiner: Examiner) -> bool:
    """True if the folder holds the case of these bytes and weights."""
    try:
        case = read_case(folder)
    except InputError:
        return False
    return (case.source.sha256, case.weights.sha256) == (sha256_of_file(file), examiner.card["sha256"])


def remove_case(folder: Path) -> None:
    """Removes what a case folder lists, and nothing else.

    ``case.json`` goes first: a case that is half gone is none.
    """
    listed = [name for name in read_case(folder).files if not Path(name).is_absolute() and ".." not in name]
    for name in (CASE, *listed):
        (folder / name).unlink(missing_ok=True)


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


def code_digest() -> str:
    """SHA-256 of the code that decides a score."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(path for layer in CODE for path in (root / layer).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _manifest_row(file: Path, name: str) -> dict[str, str | None]:
    place = {"path": file.name, "root": str(file.parent.resolve()), "kind": _kind(file)}
    return {"dataset": DATASET, "video": name, **place, "label": None, "method": None, "split": "test"}


def _kind(file: Path) -> str:
    """video or image: by content where that is known, else by suffix; anything else is tried as a video."""
    said = kind_of_file(file).rpartition(" ")[2]
    if said in ("picture", "video") and file.suffix.lower() != ".gif":
        return "image" if said == "picture" else "video"
    found = kinds(pd.Series([file.name])).iloc[0]
    return "video" if found == "sequence" else str(found)


def _write(
    file: Path,
    folder: Path,
    kind: Any,
    faces: pd.DataFrame,
    looks: list[Look],
    examiner: Examiner,
    settings: Settings,
    unlike: list[Reason],
    code: str,
) -> Case:
    scored = pd.DataFrame([look.model_dump() for look in looks]).rename(columns={"person": "face"})
    people = people_of(scored, examiner.fitted, settings, is_video=kind == "video") if looks else []
    sampled = _sampled(faces)
    failures = failures_of(faces) + (unlike if people else [])
    finding = finding_of(people, sampled, failures, examiner.rates, examiner.fitted, examiner.prior)
    stored = examiner.fitted.to_dict()
    case = Case(
        source=Source(
            name=file.name,
            path=_relative(file, folder),
            kind=kind,
            bytes=file.stat().st_size,
            sha256=sha256_of_file(file),
        ),
        weights=Weights(
            detector=examiner.card["detector"],
            architecture=examiner.card["architecture"],
            module=examiner.module,
            path=_relative(examiner.weights, folder),
            sha256=examiner.card["sha256"],
            card_sha256=sha256_of_file(examiner.weights.with_suffix(".json")),
        ),
        settings=settings,
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
    _write_timeline(case, folder)
    write_text(folder / PAGE, render_case(case, folder))
    names = [TIMELINE, PAGE, *(look.crop for look in looks)]
    case = case.seal_with({name: sha256_of_file(folder / name) for name in names})
    write_case(case, folder)
    return case


def _looks(faces: pd.DataFrame, work: Path, folder: Path, examiner: Examiner, device: str) -> list[Look]:
    """The scored crops, moved into the case folder. A picture in which no face was found has none."""
    usable = faces[(faces["status"] == "ok") & faces["size_px"].notna()]
    if usable.empty:
        return []
    card = examiner.card
    predictions = predict(
        examiner.model,
        usable,
        work,
        size_px=card["size_px"],
        device=device,
        detector=card["detector"],
        checkpoint=card["sha256"],
    )
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
    return looks


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
    return [str(text) for name in ("reason", "conversion") for text in faces[name].dropna().unique()]


def _is_known_recipe(config: PreprocessConfig, learned: Sequence[str]) -> bool:
    """True if the crops look like those of training, whichever faces of however many frames were kept."""
    for faces in ("largest", "all", "mask"):
        known = recipe(config.model_copy(update={"faces": faces}))
        for frames in range(1, FRAMES_TRIED + 1):
            if recipe_hash({**known, "frames_per_video": frames}) in learned:
                return True
    return False


def _write_timeline(case: Case, folder: Path) -> None:
    columns = ["person", "frame", "time_s", "score", "size_px", "blur", "crop"]
    table = pd.DataFrame([look.model_dump() for look in case.looks], columns=columns)
    with atomic_path(folder / TIMELINE) as temporary:
        write_csv(table, temporary)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
