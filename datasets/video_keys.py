"""The name under which annotations know a video, from paths of videos, frames and crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from unmasked.datasets.listing import SUFFIX
from unmasked.datasets.tables import TEXT

FACEFORENSICS = "Deepfakes|Face2Face|FaceSwap|NeuralTextures|FaceShifter|DeepFakeDetection|youtube|actors"
CELEB_DF = "Celeb-synthesis|Celeb-real|YouTube-real"
# Where layouts keep a video, on its path without suffix, and where a frame of it. RE2 syntax, any case.
VIDEO_PATTERNS = (
    r"(?:^|/)(?:original|manipulated)_sequences/(?P<folder>[^/]+)/[^/]+/(?:videos|frames|images|faces)/(?P<video>[^/]+)$",
    rf"(?:^|/)(?P<folder>{CELEB_DF})/(?:videos/)?(?P<video>[^/]+)$",
)
FRAME_PATTERNS = (
    # AI-Face: <face>_<folder>_<video>_<frame>; its older paths: <folder>/<split>/<video>.mp4/<face>-<frame>.
    rf"(?:^|/)\d+_(?P<folder>{FACEFORENSICS}|{CELEB_DF})_(?P<video>.+)_(?P<frame>\d+)$",
    rf"/(?P<folder>{FACEFORENSICS}|{CELEB_DF})/(?:train/|val/|test/)?(?P<video>[^/]+)\.mp4/\d+-(?P<frame>\d+)$",
    r"(?:^|/)(?P<folder>dfdc?)/(?:[^/]+/)*\d+_(?P<video>.+)_(?P<frame>\d+)$",
    # The A-series and DeepfakeBench: the layout of the videos, with a folder of frames for each.
    r"(?:^|/)(?:original|manipulated)_sequences/(?P<folder>[^/]+)/[^/]+/[^/]+/(?P<video>[^/]+)/[^/]*?(?P<frame>\d+)$",
    rf"(?:^|/)(?P<folder>{CELEB_DF})/(?:frames/)?(?P<video>[^/]+)/[^/]*?(?P<frame>\d+)$",
)
# One dataset goes by three names; its real and fake videos have different ones.
ALIASES = {"deepfakedetection/": "dfd/", "actors/": "dfd/"}


def video_keys(videos: pd.Series) -> pd.Series:
    """``youtube/186``, ``celeb-real/id0_0001``.

    The same for every compression, frame and crop of a video.
    Videos of other layouts keep their own name.

    Args:
        videos: paths without suffix, as in a manifest's column ``video``.
    """
    return keys_and_frames(videos, (*VIDEO_PATTERNS, *FRAME_PATTERNS))["key"]


def keys_and_frames(stems: pd.Series, patterns: Sequence[str]) -> pd.DataFrame:
    """Columns key, ``<lower-case folder>/<video>`` by the first pattern that fits, and frame.

    Args:
        stems: paths without suffix. One that matches no pattern is its own key.
        patterns: with the groups folder and video, and frame where a path is a frame's.

    Returns:
        ``frame`` is int64, -1 where the path names none.
    """
    frame = np.full(len(stems), -1)
    open_rows = np.flatnonzero(stems.notna().to_numpy())
    text = as_arrow(stems)
    key = pa.nulls(len(stems), text.type)
    for pattern in patterns:
        if not len(open_rows):
            break
        parts = pc.extract_regex(text.take(pa.array(open_rows)), pattern=f"(?i:{pattern})")
        hit = np.asarray(parts.is_valid())
        if not hit.any():
            continue
        parts, rows = parts.filter(pa.array(hit)), open_rows[hit]
        folder, video = pc.utf8_lower(parts.field("folder")), parts.field("video")
        named = pc.binary_join_element_wise(folder, video, pa.scalar("/", video.type))
        key = _put(key, rows, named.cast(text.type))
        if "frame" in {field.name for field in parts.type}:
            frame[rows] = _numbers(parts.field("frame"))
        open_rows = open_rows[~hit]
    for name, alias in ALIASES.items():
        key = pc.replace_substring_regex(key, pattern=f"^{name}", replacement=alias)
    keys = pd.Series(pc.coalesce(key, text), index=stems.index, dtype=TEXT)
    return pd.DataFrame({"key": keys, "frame": frame})


def stems(paths: pd.Series) -> pd.Series:
    """Paths without the suffix of a file; ü is one sign, also where a Mac wrote two."""
    ascii_alone = pc.all(pc.string_is_ascii(as_arrow(paths))).as_py() is not False
    composed = paths if ascii_alone else paths.str.normalize("NFC")
    return composed.str.replace(SUFFIX, "", regex=True)


def normalised_paths(paths: pd.Series) -> pd.Series:
    """Paths with ``/`` between their parts and no leading ``./`` or ``../``."""
    return paths.str.replace("\\", "/", regex=False).str.replace(r"^(?:\.{1,2}/+)+", "", regex=True)


def as_arrow(text: pd.Series) -> pa.Array:
    """The strings in one piece of memory, missing ones as nulls."""
    array = pa.array(text, type=pa.large_string(), from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _put(values: pa.Array, rows: np.ndarray, new: pa.Array) -> pa.Array:
    mask = np.zeros(len(values), dtype=bool)
    mask[rows] = True
    return pc.replace_with_mask(values, pa.array(mask), new)


def _numbers(digits: pa.Array) -> np.ndarray:
    """(N,) int64; -1 for an optional group that did not match and for numbers too long to be a frame's."""
    short = pc.match_substring_regex(digits, pattern=r"^\d{1,9}$")
    return np.asarray(pc.if_else(short, digits, "-1").cast(pa.int64()))
