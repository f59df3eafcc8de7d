"""``unmasked preprocess``: manifest -> face crops and the faces table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from unmasked.app.progress import Reporter, print_result
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import first_names
from unmasked.preprocessing.config import LANDMARK_TERMS, PreprocessConfig

if TYPE_CHECKING:
    import pandas as pd

FRAME = ("dataset", "video", "compression", "frame")  # what tells sampled frames apart
UNUSED = "unused.csv"


class Config(PreprocessConfig):
    """Where from, where to, and how faces are cropped."""

    manifest: Path = Field(Path("manifest.parquet"), description="what `unmasked scan` wrote")
    out: Path = Field(Path("faces"), description="folder for faces.parquet and crops/")
    preview: bool = Field(
        False, description="also draw preview.png: frames with boxes and points, crops, failures"
    )

    def settings(self) -> PreprocessConfig:
        """The part that decides what the crops look like and how they are made."""
        return PreprocessConfig(**{name: getattr(self, name) for name in PreprocessConfig.model_fields})


def run(config: Config) -> None:
    """Crops the faces of every row; a second call goes on where the first stopped."""
    from unmasked.datasets.manifest import MANIFEST
    from unmasked.preprocessing.lost import LOST, lost_lines, lost_videos, videos_of
    from unmasked.preprocessing.run import preprocess

    manifest = MANIFEST.read(config.manifest)
    if config.faces == "mask":
        print_result(_masks(manifest, config.manifest))
    is_first = not (config.out / "recipe.json").exists()
    if is_first and config.landmarks == "dlib":
        print_result(f"terms: {LANDMARK_TERMS}")
    with Reporter() as reporter:
        faces = preprocess(manifest, config.out, config.settings(), progress=reporter)
    if faces.empty:
        print_result(f"shard {config.shard} holds none of the {len(manifest)} videos")
        return
    lost = lost_videos(faces)
    if not config.shard:
        LOST.write(lost, config.out / UNUSED)
    for line in (*summary(faces), *crop_lines(faces, config.size_px), *lost_lines(videos_of(faces), lost)):
        print_result(line)
    if len(lost) and not config.shard:
        print_result(f"files without a crop, by name: {config.out / UNUSED}")
    # A shard may hold nothing but bad files; the others are not stopped for that.
    if not config.shard and not (faces["status"] == "ok").any():
        raise InputError(_no_face_message(faces))
    if config.preview:
        from unmasked.preprocessing.sheet import contact_sheet

        sheet = contact_sheet(faces, config.out, config.out / "preview.png", manifest=manifest)
        print_result(f"contact sheet: {sheet}")
    if config.shard:
        print_result(f"shard {config.shard} done; once all are, the same command without shard joins them")
    else:
        print_result(f"{len(faces)} rows written to {config.out / 'faces.parquet'}")


def _masks(manifest: pd.DataFrame, origin: Path) -> str:
    """How many fakes have a manipulation mask; the others keep their largest face.

    Raises:
        InputError: none has one, so that nothing could be chosen by it.
    """
    fakes = manifest[manifest["label"] == 1]
    masked = int((fakes["mask"].notna() & (fakes["mask"] != "")).sum()) if "mask" in fakes else 0
    if not masked:
        raise InputError(
            f"faces=mask was given, but none of the {len(fakes)} fakes in {origin} has a manipulation mask; "
            "scan a root that holds the masks, or choose faces=largest or faces=all"
        )
    return f"manipulation masks: {masked} of {len(fakes)} fakes; the largest face is kept of all others"


def _no_face_message(faces: pd.DataFrame) -> str:
    counts = faces["status"].value_counts()
    listed = ", ".join(f"{count} {status}" for status, count in counts.items())
    named = ", ".join(faces["video"].unique()[:3])
    if counts.get("already_cropped"):
        reason = faces.loc[faces["status"] == "already_cropped", "reason"].iloc[0]
        return f"no crop was made ({listed}; first files: {named}): {reason}"
    return (
        f"no face was found in any file ({listed}; first files: {named}); "
        "give readable videos or images that show faces"
    )


def summary(faces: pd.DataFrame) -> list[str]:
    """One line a dataset: frames, share with a face, several faces, other statuses by name."""
    lines = []
    for dataset, rows in faces.groupby("dataset", observed=True):
        frames = rows.drop_duplicates([name for name in FRAME if name in rows])  # faces=all: a row a face
        counts = frames["status"].value_counts()
        others = [f"{count} {status}" for status, count in counts.items() if status != "ok"]
        if len(rows) > len(frames):
            others.insert(0, f"{(rows['status'] == 'ok').sum()} faces")
        share = counts.get("ok", 0) / len(frames)
        shown = f" ({', '.join(others)})" if others else ""
        # Pictures that are used as they are were searched for nothing.
        is_searched = "crops" not in rows or not (rows["crops"].dropna() == "as_is").all()
        what = "a face in" if is_searched else "a picture of"
        lines.append(f"{dataset}: {what} {share:.1%} of {len(frames)} sampled frames{shown}")
        crowded = rows[rows["others"] > 0] if "others" in rows else rows[:0]
        if len(crowded):
            files = crowded["video"].drop_duplicates()
            lines.append(
                f"  NOTE: frames in which other faces were seen and not kept: {len(crowded)}, "
                f"of files: {len(files)}, up to {crowded['others'].max():.0f} faces in one "
                f"({first_names(files)}); faces=all keeps everybody"
            )
    return lines


def crop_lines(faces: pd.DataFrame, size_px: int) -> list[str]:
    """One line a dataset and way of making crops.

    How large the face is in them, and what is empty.
    """
    if not {"crops", "padded", "size_px", "m00", "m10"} <= set(faces):
        return []
    lines = []
    made = faces[faces["status"] == "ok"]
    words = {"cut": "cut out", "cut_reflect": "cut out, mirrored at the border", "as_is": "used as they are"}
    for (dataset, crops), rows in made.groupby(["dataset", "crops"], observed=True):
        share = rows["size_px"] * (rows["m00"] ** 2 + rows["m10"] ** 2) ** 0.5 / size_px
        face = f"the face takes {share.median():.0%} of the crop's width" if share.notna().any() else ""
        empty = f"{rows['padded'].mean():.1%} of their pixels lie outside the picture"
        lines.append(f"{dataset}: crops {words[str(crops)]}; " + "; ".join(filter(None, [face, empty])))
    return lines
