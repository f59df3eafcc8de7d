"""Writing one unit of a synthetic corpus: two people rendered, their fakes made, every file written.

Real and fake videos pass through the same steps: frames of one length and size, one encoder, one crop.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmasked.datasets.synthetic.config import SyntheticConfig
from unmasked.datasets.synthetic.encode import posted, write_video
from unmasked.datasets.synthetic.layouts import (
    CRF,
    ai_face_image,
    ai_face_row,
    celeb_video,
    ff_mask,
    ff_video,
    wild_archive,
    write_image,
    write_sequences,
)
from unmasked.datasets.synthetic.manipulate import FACEFORENSICS, WILD, WILD_STRENGTH, blended_swap
from unmasked.datasets.synthetic.people import Person
from unmasked.datasets.synthetic.plan import AI_FACE, Unit, seed_for
from unmasked.datasets.synthetic.render import Clip, render_clip

CELEB_CRF = 23
AI_FACE_PX, AI_FACE_MARGIN = 256, 1.3
WILD_PX, WILD_MARGIN = 224, 1.5

Record = dict[str, Any]


def write_unit(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    """Writes the unit's files and returns a record for each of its videos.

    A record says what was planted: dataset, split, files, mask (or None), label, method, identity, target
    and source (people's names), strength, biased (was the strength lowered), and `ai_face`, the rows of
    the annotation table that show frames of the video.
    """
    return _WRITERS[unit.part](unit, config, out)


def _write_faceforensics(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    clips = [_render(unit, config, who) for who in (0, 1)]
    records = []
    for target, source in ((0, 1), (1, 0)):
        name = unit.names[target]
        files = {ff_video("youtube", name, c): CRF[c] for c in config.compressions}
        _write_videos(out, files, clips[target].frames)
        rows = _write_ai_face(unit, config, out, target, clips[target], ("ff++", 0, f"youtube_{name}"))
        records.append(_record(unit, files, target, rows))
        name = f"{name}_{unit.names[source]}"
        for method, manipulate in FACEFORENSICS.items():
            strength, rng = _strength(config, unit.people[target]), _rng(config, unit, method, name)
            frames, mask = manipulate(clips[target], clips[source], strength=strength, rng=rng)
            files = {ff_video(method, name, c): CRF[c] for c in config.compressions}
            _write_videos(out, files, frames)
            write_video(out / ff_mask(method, name), np.repeat(mask[..., None], 3, axis=-1), CRF["c23"])
            shown = ("ff++", 1, f"{method}_{name}")
            rows = _write_ai_face(unit, config, out, target, clips[target], shown, frames)
            fake = {"method": method, "source": source, "strength": strength, "mask": ff_mask(method, name)}
            records.append(_record(unit, files, target, rows, **fake))
    return records


def _write_celeb(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    records = []
    for take in range(config.celeb_videos):
        clips = [_render(unit, config, who, take) for who in (0, 1)]
        for target, source in ((0, 1), (1, 0)):
            name = f"{unit.names[target]}_{take:04d}"
            files = {celeb_video("Celeb-real", name): CELEB_CRF}
            _write_videos(out, files, clips[target].frames)
            shown = ("celebdf", 0, f"Celeb-real_{name}")
            rows = _write_ai_face(unit, config, out, target, clips[target], shown)
            records.append(_record(unit, files, target, rows))
            name = f"{unit.names[target]}_{unit.names[source]}_{take:04d}"
            strength, rng = (
                _strength(config, unit.people[target]),
                _rng(config, unit, "Celeb-synthesis", name),
            )
            frames, _ = blended_swap(clips[target], clips[source], strength=strength, rng=rng)
            files = {celeb_video("Celeb-synthesis", name): CELEB_CRF}
            _write_videos(out, files, frames)
            shown = ("celebdf", 1, f"Celeb-synthesis_{name}")
            rows = _write_ai_face(unit, config, out, target, clips[target], shown, frames)
            fake = {"method": "Celeb-synthesis", "source": source, "strength": strength}
            records.append(_record(unit, files, target, rows, **fake))
    return records


def _write_youtube(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    records = []
    for who, name in enumerate(unit.names):
        clip = _render(unit, config, who)
        files = {celeb_video("YouTube-real", name): CELEB_CRF}
        _write_videos(out, files, clip.frames)
        rows = _write_ai_face(unit, config, out, who, clip, ("celebdf", 0, f"YouTube-real_{name}"))
        records.append(_record(unit, files, who, rows))
    return records


def _write_wild(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    clips = [_render(unit, config, who) for who in (0, 1)]
    real_archive, fake_archive = (wild_archive(label, unit.split, unit.number) for label in (0, 1))
    real, fake, records = {}, {}, []
    for target, source in ((0, 1), (1, 0)):
        clip, folder = clips[target], f"{unit.number}/real/{unit.names[target]}"
        frames = _posted(clip.frames, _rng(config, unit, "real", folder))
        real[folder] = face_crops(frames, clip.points, WILD_PX, WILD_MARGIN)
        records.append(_record(unit, [f"{real_archive}!{folder}"], target, []))

        folder = f"{unit.number}/fake/{unit.names[target]}"
        rng = _rng(config, unit, "fake", folder)
        method = list(WILD)[rng.integers(len(WILD))]
        strength = _strength(config, unit.people[target]) * rng.uniform(*WILD_STRENGTH)
        frames, _ = WILD[method](clip, clips[source], strength=strength, rng=rng)
        fake[folder] = face_crops(_posted(frames, rng), clip.points, WILD_PX, WILD_MARGIN)
        made = {"method": method, "source": source, "strength": strength}
        records.append(_record(unit, [f"{fake_archive}!{folder}"], target, [], **made))
    write_sequences(out / real_archive, real)
    write_sequences(out / fake_archive, fake)
    return records


_WRITERS: dict[str, Callable[[Unit, SyntheticConfig, Path], list[Record]]] = {
    "faceforensics": _write_faceforensics,
    "celeb": _write_celeb,
    "youtube": _write_youtube,
    "wild": _write_wild,
}


def face_crops(frames: np.ndarray, points: np.ndarray, size_px: int, margin: float) -> np.ndarray:
    """Upright squares around the face: (T, size_px, size_px, 3), ``margin`` times as large as its points.

    The square has one size through the clip and follows the face smoothly; beyond the frame it is mirrored.
    """
    low, high = points.min(axis=1), points.max(axis=1)
    side = margin * (high - low).max()
    crops = []
    for frame, (x, y) in zip(frames, (low + high) / 2, strict=True):
        scale = size_px / side
        matrix = np.array([[scale, 0, size_px / 2 - scale * x], [0, scale, size_px / 2 - scale * y]])
        crops.append(cv2.warpAffine(frame, matrix, (size_px, size_px), borderMode=cv2.BORDER_REFLECT))
    return np.stack(crops)


def _render(unit: Unit, config: SyntheticConfig, who: int, take: int = 0) -> Clip:
    person = unit.people[who]
    seed = seed_for(config.seed, "clip", person.name, take)
    return render_clip(person, frames=config.frames, size_px=config.size_px, seed=seed)


def _rng(config: SyntheticConfig, unit: Unit, *names: str) -> np.random.Generator:
    return np.random.default_rng(seed_for(config.seed, unit.part, *names))


def _strength(config: SyntheticConfig, person: Person) -> float:
    return config.strength_for(gender=person.gender, age=person.age, skin_tone=person.skin_tone)


def _posted(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The frames after a trip through the net: smaller, compressed harder."""
    return posted(frames, scale=rng.uniform(0.55, 0.9), crf=int(rng.integers(24, 33)))


def _write_videos(out: Path, files: dict[str, int], frames: np.ndarray) -> None:
    for path, crf in files.items():
        write_video(out / path, frames, crf)


def _write_ai_face(
    unit: Unit,
    config: SyntheticConfig,
    out: Path,
    who: int,
    clip: Clip,
    shown: tuple[str, int, str],
    frames: np.ndarray | None = None,
) -> list[list[str | int]]:
    """Writes images of a video (subset, label, name) for AI-Face and returns their rows."""
    subset, label, video = shown
    numbers = [1 + 10 * i for i in range(config.ai_face_frames) if 10 * i < config.frames]
    chosen = [number - 1 for number in numbers]
    pixels = clip.frames if frames is None else frames
    crops = face_crops(pixels[chosen], clip.points[chosen], AI_FACE_PX, AI_FACE_MARGIN)
    rows = []
    for number, crop in zip(numbers, crops, strict=True):
        image = ai_face_image(subset, label, video, number)
        write_image(out / AI_FACE / image, crop)
        rows.append(ai_face_row(image, unit.people[who], label))
    return rows


def _record(
    unit: Unit,
    files: Any,
    target: int,
    rows: list[list[str | int]],
    *,
    method: str = "real",
    source: int | None = None,
    strength: float = 0.0,
    mask: str | None = None,
) -> Record:
    return {
        "dataset": unit.dataset,
        "split": unit.split,
        "files": list(files),
        "mask": mask,
        "label": int(method != "real"),
        "method": method,
        "identity": unit.people[target].name,
        "target": unit.people[target].name,
        "source": None if source is None else unit.people[source].name,
        "strength": strength,
        "ai_face": rows,
    }
