"""``unmasked preprocess``: manifest -> face crops and the faces table."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from unmasked.app.progress import Reporter, print_result
from unmasked.preprocessing.config import PreprocessConfig


class Config(PreprocessConfig):
    """Where from, where to, and how faces are cropped."""

    manifest: Path = Field(Path("manifest.parquet"), description="what `unmasked scan` wrote")
    out: Path = Field(Path("faces"), description="folder for faces.parquet and crops/")
    preview: bool = Field(False, description="also draw preview.png, a contact sheet to look at")

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
    for line in summary(faces):
        print_result(line)
    if config.preview:
        from unmasked.preprocessing.sheet import contact_sheet

        print_result(f"contact sheet: {contact_sheet(faces, config.out, config.out / 'preview.png')}")
    print_result(f"{len(faces)} rows written to {config.out / 'faces.parquet'}")


def summary(faces: "pd.DataFrame") -> list[str]:  # noqa: F821
    """One line a dataset: sampled frames, share with a face, and the other statuses by name."""
    lines = []
    for dataset, rows in faces.groupby("dataset", observed=True):
        counts = rows["status"].value_counts()
        others = ", ".join(f"{count} {status}" for status, count in counts.items() if status != "ok")
        share = counts.get("ok", 0) / len(rows)
        lines.append(
            f"{dataset}: a face in {share:.1%} of {len(rows)} sampled frames{f' ({others})' if others else ''}"
        )
    return lines
