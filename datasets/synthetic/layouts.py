"""The folder layouts of the real datasets.

Where each file stands, and the lists beside them.
Paths are POSIX and relative to the corpus. The layouts are those in which the datasets are distributed:
FaceForensics++ (Rössler et al. 2019), Celeb-DF-v2 (Li et al. 2020), WildDeepfake (Zi et al. 2020) and
AI-Face v2 (Lin et al. 2025).
"""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from unmasked.datasets.documents import write_json
from unmasked.datasets.files import atomic_path, write_bytes, write_text
from unmasked.datasets.synthetic.config import skin_tone_group
from unmasked.datasets.synthetic.plan import AI_FACE, CELEB_DF, FACEFORENSICS, WILD_DEEPFAKE, Unit

if TYPE_CHECKING:
    from unmasked.datasets.synthetic.people import Person

CRF = {"c23": 23, "c40": 40}

AI_FACE_COLUMNS = (
    "Image Path",
    "Predicted Gender",
    "Predicted Age",
    "Skin Tone",
    "Target",
    "Skin Tone Group",
    "Intersection",
)
# The codes of AI-Face v2. Ages run child 0, youth 1, adult 2, middle-aged 3, senior 4.
_GENDER = {"female": 0, "male": 1}
_AGE = {"child": 0, "youth": 1, "adult": 2, "middle": 3, "senior": 4}
_TONE_GROUP = {"light": 0, "medium": 1, "dark": 2}


def ff_video(method: str, name: str, compression: str) -> str:
    """A video of FaceForensics++; the method of an original is "youtube".

    >>> ff_video("Deepfakes", "000_003", "c23")
    'FaceForensics++/manipulated_sequences/Deepfakes/c23/videos/000_003.mp4'
    """
    folder = "original_sequences" if method == "youtube" else "manipulated_sequences"
    return f"{FACEFORENSICS}/{folder}/{method}/{compression}/videos/{name}.mp4"


def ff_mask(method: str, name: str) -> str:
    """The mask video of a fake of FaceForensics++."""
    return f"{FACEFORENSICS}/manipulated_sequences/{method}/masks/videos/{name}.mp4"


def celeb_video(folder: str, name: str) -> str:
    """A video of Celeb-DF-v2, in Celeb-real, Celeb-synthesis or YouTube-real."""
    return f"{CELEB_DF}/{folder}/videos/{name}.mp4"


def wild_archive(label: int, split: str, number: int) -> str:
    """An archive of WildDeepfake, which holds face sequences of one video.

    >>> wild_archive(1, "test", 7)
    'WildDeepfake/fake_test/7.tar.gz'
    """
    return f"{WILD_DEEPFAKE}/{'fake' if label else 'real'}_{split}/{number}.tar.gz"


def ai_face_image(subset: str, label: int, video: str, frame: int) -> str:
    """An image of AI-Face, as its table names it, relative to the folder of AI-Face.

    Args:
        subset: "ff++" or "celebdf".
        label: 1 = fake.
        video: method and video, e.g. "Deepfakes_300_304" or "Celeb-real_id0_0000".
        frame: of the video, counted from 1 as the originals do.
    """
    folder = "fake" if label else "real"
    return f"AI_Face_imagesV2/deepfakes/{subset}/{folder}/0_{video}_{frame}.png"


def ai_face_row(image: str, person: Person, label: int) -> list[str | int]:
    """A row of AI-Face's table, in the order of AI_FACE_COLUMNS and in its codes."""
    group = _TONE_GROUP[skin_tone_group(person.skin_tone)]
    gender = _GENDER[person.gender]
    return [image, gender, _AGE[person.age], person.skin_tone, label, group, 3 * gender + group]


def write_sequences(path: Path, folders: Mapping[str, np.ndarray]) -> None:
    """Writes an archive of folders of PNG frames, the same bytes for the same pixels.

    Args:
        path: ends in ``.tar.gz``.
        folders: name inside the archive -> frames (T, h, w, 3) uint8 RGB, named 0.png, 1.png, …
    """
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as stream,
        # Without a time of writing and a name in its header, and hardly compressing: PNG is compressed.
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for folder, frames in folders.items():
            for number, frame in enumerate(frames):
                content = png(frame)
                entry = tarfile.TarInfo(f"{folder}/{number}.png")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes an RGB image (h, w, 3) as PNG, whole or not at all."""
    write_bytes(path, png(image))


def png(image: np.ndarray) -> bytes:
    """An RGB image (h, w, 3) uint8 as PNG."""
    written, content = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 2])
    assert written
    return content.tobytes()


def write_lists(out: Path, units: Iterable[Unit], records: Sequence[Mapping[str, Any]]) -> None:
    """Writes the lists beside the files: split pairs, test list, annotation tables.

    Args:
        out: the corpus.
        units: all of them.
        records: all records of `corpus.write_unit`.
    """
    pairs: dict[str, list[tuple[str, str]]] = {"train": [], "val": [], "test": []}
    for unit in units:
        if unit.part == "faceforensics":
            pairs[unit.split].append(unit.names)
    for split, listed in pairs.items():
        write_json(out / FACEFORENSICS / f"{split}.json", listed)
    write_text(out / CELEB_DF / "List_of_testing_videos.txt", "".join(_celeb_test_lines(records)))
    for split in ("train", "test"):
        # AI-Face has no validation set: what others call val is for training there.
        chosen = [
            row
            for record in records
            if (record["split"] == "test") == (split == "test")
            for row in record["ai_face"]
        ]
        _write_table(out / AI_FACE / f"{split}.csv", AI_FACE_COLUMNS, chosen)


def _celeb_test_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines such as "1 YouTube-real/00170.mp4", in which 1 means real."""
    lines = []
    for record in records:
        if record["dataset"] == CELEB_DF and record["split"] == "test":
            _, folder, _, file = Path(record["files"][0]).parts
            lines.append(f"{1 - record['label']} {folder}/{file}\n")
    return lines


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
