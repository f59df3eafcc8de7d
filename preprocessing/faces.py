"""The faces table: a row for every face crop, and for every frame that gave none."""

from __future__ import annotations

from collections.abc import Sequence

from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.tables import Column, Schema

# ok: a crop was written. no_face: the frame was read, no face was found. The others say why a
# frame, or a whole file (frame = -1), gave nothing: over_budget took more seconds than allowed,
# crashed ended its worker process. already_cropped: the picture is a face crop, and most of what would be
# cut out of it lies outside of it.
STATUSES = (
    "ok",
    "no_face",
    "decode_error",
    "missing_file",
    "too_large",
    "over_budget",
    "crashed",
    "already_cropped",
)

CROPS = (
    "cut",
    "cut_reflect",
    "as_is",
)  # cut with black or mirrored borders; resized whole
POINTS = tuple(f"point{i}_{axis}" for i in range(5) for axis in "xy")  # frame pixels
MATRIX = tuple(f"m{row}{column}" for row in range(2) for column in range(3))  # frame -> crop pixels
BOX = ("box_left", "box_top", "box_right", "box_bottom")  # frame pixels

_measured = {
    name: Column("number", required=False, nullable=True)
    for name in (*BOX, *POINTS, *MATRIX, "detector_score", "size_px", "blur")
}

FRAME_MAX = 1 << 53  # the largest frame number that every format of tables keeps exactly


def frame_numbers(indices: Sequence[int]) -> list[int]:
    """The numbers of a sequence's images for the column ``frame``.

    As found, or from 0 if one is too large.

    >>> frame_numbers([3, 7]), frame_numbers([20240131123055123456])
    ([3, 7], [0])
    """
    return list(range(len(indices))) if any(index > FRAME_MAX for index in indices) else list(indices)


FACES = Schema(
    name="faces",
    columns={
        **{name: column for name, column in MANIFEST.columns.items() if name not in ("path", "root", "mask")},
        "frame": Column("integer", minimum=-1),  # index in the video; -1 where the file could not be opened
        "time_s": Column("number", required=False, nullable=True),
        "face": Column("integer", minimum=0),  # track number
        "crop": Column("text", required=False, nullable=True),  # path relative to the table's folder
        **_measured,
        # Share of the crop that lies outside the picture.
        "padded": Column("number", required=False, nullable=True, minimum=0, maximum=1),
        # Faces seen in the frame beside the one that was kept; as many as the search for that one meets.
        "others": Column("number", required=False, nullable=True, minimum=0),
        "crops": Column("text", required=False, nullable=True, allowed=CROPS),
        "conversion": Column("text", required=False, nullable=True),  # of the frame, to show it as players do
        "status": Column("text", allowed=STATUSES),
        "reason": Column("text", required=False, nullable=True),  # what went wrong, in words
        "recipe": Column("text", required=False, nullable=True),  # hash of profile, versions and settings
        "manifest_digest": Column("text", required=False, nullable=True),  # see `provenance`
    },
    key=("dataset", "video", "compression", "frame", "face"),
    hint="`unmasked preprocess` writes a faces table.",
)
