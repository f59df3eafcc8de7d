"""Writing one unit of a synthetic corpus.

Two people rendered, their fakes made, every file written.
Real and fake videos pass through the same steps: frames of one length and size, one encoder, one crop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unmasked.datasets.synthetic.config import SyntheticConfig
from unmasked.datasets.synthetic.encode import reupload, write_video
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
from unmasked.datasets.synthetic.warp import lift_brows

CELEB_CRF = 23
AI_FACE_PX, AI_FACE_MARGIN = 256, 1.2
# As tight as the real ones: half of a crop that is cut out of them again lies outside.
WILD_PX, WILD_MARGIN = 224, 1.0

Record = dict[str, Any]


def write_unit(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    """Writes the unit's files and returns a record for each of its videos.

    A record says what was planted: dataset, split, files, mask (or None), label, method, identity, target
    and source (people's names), strength, and `ai_face`, the rows of the annotation table that show frames
    of the video.
    """
    return _WRITERS[unit.part](unit, config, out)


def _write_faceforensics(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    clips = [_render(unit, config, who) for who in (0, 1)]
    records = []
    for target, source in ((0, 1), (1, 0)):
        video = _Video(unit, config, out, target, clips[target])
        name = unit.names[target]
        files = {ff_video("youtube", name, c): CRF[c] for c in config.compressions}
        records.append(video.write(files, ("ff++", 0, f"youtube_{name}")))

        name = f"{name}_{unit.names[source]}"
        for method, manipulate in FACEFORENSICS.items():
            strength, rng = _strength(config, unit.people[target]), _rng(config, unit, method, name)
            frames, mask = manipulate(clips[target], clips[source], strength=strength, rng=rng)
            write_video(out / ff_mask(method, name), np.repeat(mask[..., None], 3, axis=-1), CRF["c23"])
            files = {ff_video(method, name, c): CRF[c] for c in config.compressions}
            record = video.write(files, ("ff++", 1, f"{method}_{name}"), frames)
            fake = _planted_facts(unit, method, source, strength)
            records.append({**record, **fake, "mask": ff_mask(method, name)})
    return records


def _write_celeb(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    method, records = "Celeb-synthesis", []
    for take in range(config.celeb_videos):
        clips = [_render(unit, config, who, take) for who in (0, 1)]
        for target, source in ((0, 1), (1, 0)):
            video = _Video(unit, config, out, target, clips[target])
            name = f"{unit.names[target]}_{take:04d}"
            files = {celeb_video("Celeb-real", name): CELEB_CRF}
            records.append(video.write(files, ("celebdf", 0, f"Celeb-real_{name}")))

            name = f"{unit.names[target]}_{unit.names[source]}_{take:04d}"
            strength, rng = _strength(config, unit.people[target]), _rng(config, unit, method, name)
            frames, _ = blended_swap(clips[target], clips[source], strength=strength, rng=rng)
            files = {celeb_video(method, name): CELEB_CRF}
            record = video.write(files, ("celebdf", 1, f"{method}_{name}"), frames)
            records.append({**record, **_planted_facts(unit, method, source, strength)})
    return records


def _write_youtube(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    records = []
    for who, name in enumerate(unit.names):
        video = _Video(unit, config, out, who, _render(unit, config, who))
        files = {celeb_video("YouTube-real", name): CELEB_CRF}
        records.append(video.write(files, ("celebdf", 0, f"YouTube-real_{name}")))
    return records


def _write_wild(unit: Unit, config: SyntheticConfig, out: Path) -> list[Record]:
    clips = [_render(unit, config, who) for who in (0, 1)]
    archives = [wild_archive(label, unit.split, unit.number) for label in (0, 1)]
    sequences: list[dict[str, np.ndarray]] = [{}, {}]
    records = []
    for target, source in ((0, 1), (1, 0)):
        clip, name = clips[target], unit.names[target]
        folders = [f"{unit.number}/{word}/{name}" for word in ("real", "fake")]
        frames = _reupload(clip.frames, _rng(config, unit, "real", name))
        sequences[0][folders[0]] = face_crops(frames, clip.points, WILD_PX, WILD_MARGIN)
        records.append(_real_record(unit, [f"{archives[0]}!{folders[0]}"], target))

        rng = _rng(config, unit, "fake", name)
        method = list(WILD)[rng.integers(len(WILD))]
        strength = _strength(config, unit.people[target]) * rng.uniform(*WILD_STRENGTH)
        frames, _ = WILD[method](clip, clips[source], strength=strength, rng=rng)
        sequences[1][folders[1]] = face_crops(_reupload(frames, rng), clip.points, WILD_PX, WILD_MARGIN)
        record = _real_record(unit, [f"{archives[1]}!{folders[1]}"], target)
        records.append({**record, **_planted_facts(unit, method, source, strength)})
    for archive, folders_of_one in zip(archives, sequences, strict=True):
        write_sequences(out / archive, folders_of_one)
    return records


_WRITERS: dict[str, Callable[[Unit, SyntheticConfig, Path], list[Record]]] = {
    "faceforensics": _write_faceforensics,
    "celeb": _write_celeb,
    "youtube": _write_youtube,
    "wild": _write_wild,
}


def face_crops(frames: np.ndarray, points: np.ndarray, size_px: int, margin: float) -> np.ndarray:
    """Upright squares around the head.

    (T, size_px, size_px, 3), ``margin`` times as large as its face.
    The square has one size through the clip and follows the face smoothly; beyond the frame it is mirrored.
    """
    points = np.concatenate([points, lift_brows(points, 0.45)], axis=1)
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


def _reupload(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The frames after a trip through the net: smaller, compressed harder."""
    return reupload(frames, scale=rng.uniform(0.55, 0.9), crf=int(rng.integers(24, 33)))


@dataclass(frozen=True)
class _Video:
    """One clip of one person, written with its own frames or with manipulated ones."""

    unit: Unit
    config: SyntheticConfig
    out: Path
    who: int
    clip: Clip

    def write(
        self, files: dict[str, int], shown: tuple[str, int, str], frames: np.ndarray | None = None
    ) -> Record:
        """Writes the video and its images for AI-Face; the record is that of a real video.

        Args:
            files: path -> rate factor.
            shown: subset, label and name of the video in AI-Face.
            frames: instead of the clip's own.
        """
        frames = self.clip.frames if frames is None else frames
        for path, crf in files.items():
            write_video(self.out / path, frames, crf)
        rows = self._write_images(shown, frames)
        return {**_real_record(self.unit, list(files), self.who), "ai_face": rows}

    def _write_images(self, shown: tuple[str, int, str], frames: np.ndarray) -> list[list[str | int]]:
        subset, label, video = shown
        chosen = [10 * i for i in range(self.config.ai_face_frames) if 10 * i < len(frames)]
        crops = face_crops(frames[chosen], self.clip.points[chosen], AI_FACE_PX, AI_FACE_MARGIN)
        rows = []
        for frame, crop in zip(chosen, crops, strict=True):
            image = ai_face_image(subset, label, video, frame + 1)
            write_image(self.out / AI_FACE / image, crop)
            rows.append(ai_face_row(image, self.unit.people[self.who], label))
        return rows


def _real_record(unit: Unit, files: list[str], who: int) -> Record:
    name = unit.people[who].name
    return {
        "dataset": unit.dataset,
        "split": unit.split,
        "files": files,
        "mask": None,
        "label": 0,
        "method": "real",
        "identity": name,
        "target": name,
        "source": None,
        "strength": 0.0,
        "ai_face": [],
    }


def _planted_facts(unit: Unit, method: str, source: int, strength: float) -> Record:
    return {"label": 1, "method": method, "source": unit.people[source].name, "strength": strength}
