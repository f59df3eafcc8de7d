"""Crops cut again, at the stored places, from perturbed frames and re-encoded videos."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import JpegImagePlugin

from unmasked.datasets.archives import split_sequence_path
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.images import UnreadableImage, decode_crop, open_image
from unmasked.datasets.loading import fit_to_size
from unmasked.evaluation.perturbing.registry import Image, Setting
from unmasked.evaluation.perturbing.units import Made, Perturbed, Unit
from unmasked.preprocessing.align import cut
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.faces import MATRIX
from unmasked.preprocessing.overlay import keys_of
from unmasked.preprocessing.parts import Item, items
from unmasked.preprocessing.video import FewerFrames, Unreadable, frame_rate, read_frames, read_video

# What the crops of one unit of work may take; of a longer video, the rest is decoded for itself.
UNIT_BYTES = 64 << 20
MAX_PIXELS = PreprocessConfig.model_fields["max_pixels"].default
EVERY_FRAME = 1 << 31

Numbered = Sequence[tuple[int, Setting]]  # settings with their numbers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """The crops of one video, image or sequence, and where they were cut."""

    item: Item
    rows: NDArray[np.int64]  # (N,) positions in the table
    frames: NDArray[np.int64]  # (N,)
    matrices: NDArray[np.float64]  # (N, 2, 3) frame -> crop pixels
    crops: Sequence[Path]  # as they are stored
    kinds: Sequence[str]  # how each was made: cut, cut_reflect or as_is

    @property
    def path(self) -> Path:
        """The file; of a sequence in an archive, the archive."""
        return Path(self.item.root) / split_sequence_path(self.item.path)[0]


def frame_units(
    crops: pd.DataFrame, root: Path, settings: Numbered, perturbed: Perturbed, size_px: int
) -> Iterator[Unit]:
    """The work that makes the crops of settings that change frames or videos.

    See `perturbed.planned`.

    Args:
        crops: rows that have crops, with their positions in the column ``_row``.
        root: folder that the crops' paths are relative to.
        settings: those whose place is the frame.
        perturbed: with the manifest.
        size_px: side of the detector's images.

    Raises:
        InputError: a video is not there or not in the manifest, a crop has no matrix, or only videos can be
            perturbed as asked and there are none.
    """
    of_image = [pair for pair in settings if not pair[1].perturbation.of_video]
    of_video = [pair for pair in settings if pair[1].perturbation.of_video]
    videos = _videos(crops, root, perturbed.manifest)
    if of_video:
        others = sum(len(video.rows) for video in videos if video.item.kind != "video")
        if not of_image:
            videos = [video for video in videos if video.item.kind == "video"]
        if not videos:
            raise InputError(
                "h264 re-encodes videos; these faces are of images and sequences: leave h264 out"
            )
        if others:
            logger.warning("h264: %d crops of images and sequences are left out: they are no videos", others)
    _check_present(videos)
    for video in videos:
        yield from _units_of(video, of_image, of_video, perturbed.seed, size_px)


def _videos(crops: pd.DataFrame, root: Path, manifest: pd.DataFrame | None) -> list[Video]:
    if manifest is None:
        raise InputError(
            "h264 and perturbations @frame read the videos, and the faces table does not say where they are; "
            "give the manifest that it was made from"
        )
    lacking = set(MATRIX) - set(crops) or crops[list(MATRIX)].isna().any(axis=1).sum()
    if lacking:
        raise InputError(
            "h264 and perturbations @frame cut crops with the matrices of the faces table, which has crops "
            "without one (made elsewhere); perturb the crops: leave @frame and h264 out"
        )
    known = {item.key: item for item in items(manifest)}
    positions: dict[tuple[str, str, str], list[int]] = {}
    for position, key in enumerate(keys_of(crops)):
        positions.setdefault(key, []).append(position)
    if absent := [key for key in positions if key not in known]:
        raise InputError(
            f"{len(absent)} of {len(positions)} videos of the faces table are not in the manifest (first: "
            f"{absent[0][0]} {absent[0][1]}); give the manifest that the faces table was made from"
        )
    matrices = crops[list(MATRIX)].to_numpy(np.float64).reshape(-1, 2, 3)
    rows, frames = (crops[name].to_numpy(np.int64) for name in ("_row", "frame"))
    paths = crop_paths(crops["crop"], root)
    kinds = crops["crops"].fillna("cut").tolist() if "crops" in crops else ["cut"] * len(crops)
    return [
        Video(
            known[key],
            rows[at],
            frames[at],
            matrices[at],
            [paths[position] for position in at],
            [kinds[position] for position in at],
        )
        for key, at in positions.items()
    ]


def _check_present(videos: Sequence[Video]) -> None:
    present = {path: path.exists() for path in {video.path for video in videos}}
    absent = [path for path, is_there in present.items() if not is_there]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(present)} files that h264 and perturbations @frame read are gone (first: "
            f"{min(absent)}); put them back, scan them where they are now, or perturb the crops alone"
        )


def _units_of(
    video: Video, of_image: Numbered, of_video: Numbered, seed: int, size_px: int
) -> Iterator[Unit]:
    count = len(video.rows)
    at_once = max(1, UNIT_BYTES // (count * size_px**2 * 3))
    for start in range(0, len(of_image), at_once):
        part = of_image[start : start + at_once]
        yield Unit(count * len(part), partial(_crops_of_frames, video, part, seed, size_px))
    for number, setting in of_video if video.item.kind == "video" else ():
        yield Unit(count, partial(_crops_of_video, video, number, setting, size_px))


def _crops_of_frames(video: Video, settings: Numbered, seed: int, size_px: int) -> list[Made]:
    made: list[Made] = []
    dataset, name, _ = video.item.key
    wanted = sorted(set(video.frames.tolist()))
    try:
        frames = read_frames(
            Path(video.item.root), video.item.path, video.item.kind, wanted=wanted, max_pixels=MAX_PIXELS
        )
        for frame in frames:
            if frame.image is None:
                raise Unreadable(frame.status, frame.reason)
            for number, setting in settings:
                image = setting.apply(frame.image, seed, dataset, name, frame.index)
                made += _cut(image, video, frame.index, number, size_px)
    except (Unreadable, FewerFrames) as error:
        raise _changed_file_error(video, error) from error
    return _check_complete(made, video, len(settings))


def _crops_of_video(video: Video, number: int, setting: Setting, size_px: int) -> list[Made]:
    """The crops of the video after re-encoding; the whole file is encoded, and its sampled frames decoded."""
    made: list[Made] = []
    try:
        with TemporaryDirectory(prefix="unmasked-") as folder:
            target = Path(folder) / "reencoded.mp4"
            written: list[tuple[int, tuple[int, int]]] = []
            rate = frame_rate(video.path, max_pixels=MAX_PIXELS)
            setting.perturbation.change(_every_frame(video, written), target, setting.value, rate)
            sampled = set(video.frames.tolist())
            # The new file lacks frames that could not be decoded: it numbers by the place in `written`.
            wanted = [place for place, (index, _) in enumerate(written) if index in sampled]
            for frame in read_video(target, wanted=wanted, max_pixels=MAX_PIXELS):
                if frame.image is not None:
                    index, (height, width) = written[frame.index]
                    made += _cut(frame.image[:height, :width], video, index, number, size_px)
    except (Unreadable, FewerFrames) as error:
        raise _changed_file_error(video, error) from error
    return _check_complete(made, video, 1)


def _every_frame(video: Video, written: list[tuple[int, tuple[int, int]]]) -> Iterator[Image]:
    """Every frame that can be decoded, upright; ``written`` gets their indices, heights and widths."""
    with suppress(FewerFrames):  # it has ended, and every frame was given
        for frame in read_video(video.path, wanted=EVERY_FRAME, max_pixels=MAX_PIXELS):
            if frame.image is not None:
                written.append((frame.index, frame.image.shape[:2]))
                yield frame.image


def _cut(image: Image, video: Video, frame: int, number: int, size_px: int) -> Iterator[Made]:
    """The crops that were cut out of a frame, cut out of its perturbed image."""
    for position in np.flatnonzero(video.frames == frame).tolist():
        crop = _as_stored(image, video.matrices[position], video.crops[position], video.kinds[position])
        yield Made(int(video.rows[position]), number, fit_to_size(crop, size_px))


def _as_stored(image: Image, matrix: NDArray[np.float64], path: Path, kind: str) -> Image:
    """The crop in the size of the stored one, and through the same JPEG where that is one."""
    try:
        with open_image(path) as stored:
            crop = cut(image, matrix, stored.width, kind)
            if not isinstance(stored, JpegImagePlugin.JpegImageFile):
                return crop
            options = {"qtables": stored.quantization, "subsampling": JpegImagePlugin.get_sampling(stored)}
    except (UnreadableImage, OSError) as error:
        raise InputError(f"crop {path} cannot be read ({error}); run `unmasked preprocess` again") from error
    encoded = io.BytesIO()
    Pillow.fromarray(crop).save(encoded, "JPEG", **options)
    return decode_crop(encoded.getvalue())


def _check_complete(made: list[Made], video: Video, settings: int) -> list[Made]:
    if len(made) != settings * len(video.rows):
        raise _changed_file_error(video, "it lacks frames that have crops")
    return made


def _changed_file_error(video: Video, reason: object) -> InputError:
    return InputError(
        f"{video.path} is not what its crops were cut from ({reason}); run `unmasked preprocess` on it again"
    )
