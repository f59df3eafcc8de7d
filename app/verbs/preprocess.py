"""``unmasked preprocess``: manifest -> face crops and the faces table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from unmasked.app.progress import Reporter, print_result
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.config import PreprocessConfig

if TYPE_CHECKING:
    import pandas as pd


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
    from unmasked.preprocessing.run import preprocess

    manifest = MANIFEST.read(config.manifest)
    with Reporter() as reporter:
        faces = preprocess(manifest, config.out, config.settings(), progress=reporter)
    if faces.empty:
        print_result(f"shard {config.shard} holds none of the {len(manifest)} videos")
        return
    # A shard may hold nothing but bad files; the others are not stopped for that.
    if not config.shard and not (faces["status"] == "ok").any():
        raise InputError(_no_face_message(faces))
    for line in summary(faces):
        print_result(line)
    if config.preview:
        from unmasked.preprocessing.sheet import contact_sheet

        sheet = contact_sheet(faces, config.out, config.out / "preview.png", manifest=manifest)
        print_result(f"contact sheet: {sheet}")
    if config.shard:
        print_result(f"shard {config.shard} done; once all are, the same command without shard joins them")
    else:
        print_result(f"{len(faces)} rows written to {config.out / 'faces.parquet'}")


def _no_face_message(faces: pd.DataFrame) -> str:
    counts = faces["status"].value_counts()
    listed = ", ".join(f"{count} {status}" for status, count in counts.items())
    named = ", ".join(faces["video"].unique()[:3])
    return (
        f"no face was found in any file ({listed}; first files: {named}); "
        "give readable videos or images that show faces"
    )


def summary(faces: pd.DataFrame) -> list[str]:
    """One line a dataset: sampled frames, share with a face, and the other statuses by name."""
    lines = []
    for dataset, rows in faces.groupby("dataset", observed=True):
        counts = rows["status"].value_counts()
        others = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "ok")
        share = counts.get("ok", 0) / len(rows)
        shown = f" ({others})" if others else ""
        lines.append(f"{dataset}: a face in {share:.1%} of {len(rows)} sampled frames{shown}")
    return lines
