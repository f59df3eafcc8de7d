"""The manifest: one row for every video or image that a source found."""

from __future__ import annotations

from unmasked.datasets.tables import Column, Schema

SPLITS = ("train", "val", "test")
KINDS = ("video", "image", "sequence")

MANIFEST = Schema(
    name="manifest",
    columns={
        "dataset": Column("text"),
        # Relative path without suffix: the four FF++ methods' 000_003 stay four videos.
        "video": Column("text"),
        # POSIX, relative to `root`. A sequence in an archive is "<archive>!<folder inside>".
        "path": Column("text"),
        "root": Column("text", required=False, nullable=True),
        "kind": Column("text", allowed=KINDS),
        "label": Column("integer", nullable=True, allowed=(0, 1)),  # 1 = fake; missing where nobody knows
        # "real" for label 0, otherwise the manipulation's name; missing with the label
        "method": Column("text", nullable=True),
        "split": Column("text", allowed=SPLITS),
        "identity": Column("text", required=False, nullable=True),  # who is shown; the unit of resampling
        "source_video": Column("text", required=False, nullable=True),  # whose face was put in
        "target_video": Column("text", required=False, nullable=True),  # whose video it was put into
        "compression": Column("text", required=False, nullable=True),  # raw, c23, c40
        "mask": Column("text", required=False, nullable=True),  # path of the manipulation mask
        "gender": Column("text", required=False, nullable=True),  # female, male, or a word of the annotation
        "age": Column("text", required=False, nullable=True),  # the annotation's own age group
        "skin_tone": Column("number", required=False, nullable=True, minimum=1, maximum=10),  # Monk scale
        "race": Column("text", required=False, nullable=True),
        "annotation": Column("text", required=False, nullable=True),  # which source and version said so
    },
    key=("dataset", "video", "compression"),
    hint="`unmasked scan` writes a manifest.",
)

DEMOGRAPHICS = ("gender", "age", "skin_tone", "race")
