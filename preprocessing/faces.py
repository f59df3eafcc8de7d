"""The faces table: one row for every face crop, and for every sampled frame that gave none."""

from __future__ import annotations

from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.tables import Column, Schema

# ok: a crop was written. no_face: the frame was read, no face was found. The others say why a
# frame, or a whole file (frame = -1), gave nothing: over_budget took more seconds than allowed,
# crashed ended its worker process.
STATUSES = ("ok", "no_face", "decode_error", "missing_file", "too_large", "over_budget", "crashed")

POINTS = tuple(f"point{i}_{axis}" for i in range(5) for axis in "xy")  # frame pixels
MATRIX = tuple(f"m{row}{column}" for row in range(2) for column in range(3))  # frame -> crop pixels
BOX = ("box_left", "box_top", "box_right", "box_bottom")  # frame pixels

_measured = {
    name: Column("number", required=False, nullable=True)
    for name in (*BOX, *POINTS, *MATRIX, "detector_score", "size_px", "blur")
}

FACES = Schema(
    name="faces",
    columns={
        **{name: column for name, column in MANIFEST.columns.items() if name not in ("path", "root", "mask")},
        "frame": Column("integer", minimum=-1),  # index in the video; -1 where the file could not be opened
        "time_s": Column("number", required=False, nullable=True),
        "face": Column("integer", minimum=0),  # track number
        "crop": Column("text", required=False, nullable=True),  # path relative to the table's folder
        **_measured,
        "status": Column("text", allowed=STATUSES),
        "reason": Column("text", required=False, nullable=True),  # what went wrong, in words
        "recipe": Column("text", required=False, nullable=True),  # hash of profile, versions and settings
    },
    key=("dataset", "video", "compression", "frame", "face"),
    hint="`unmasked preprocess` writes a faces table.",
)
