"""``unmasked export-crops``: faces -> LMDB and lists that DeepfakeBench reads."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.inputs import Faces, read_faces
from unmasked.app.progress import print_result


class Config(BaseModel):
    """Which crops, and where to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    faces: Faces = Field(Path("faces/faces.parquet"), description="what `unmasked preprocess` wrote")
    out: Path = Field(
        Path("exported"), description="folder that gets <dataset>_lmdb and dataset_json/<dataset>.json"
    )


def run(config: Config) -> None:
    """Writes the files, and says how many rows are in them and what became of the others."""
    from unmasked.preprocessing.export import export_crops

    faces = read_faces(config.faces)
    done = export_crops(faces, config.faces.parent, config.out)
    for dataset, count in done.crops.items():
        print_result(f"{dataset}: {count} crops of {done.videos[dataset]} videos in {dataset}_lmdb")
    left = ", ".join(f"{count} {reason}" for reason, count in done.unused.most_common())
    used = sum(done.crops.values())
    print_result(f"rows: {len(faces)} given, {used} used{f', not used: {left}' if left else ''}")
    print_result(
        f"for DeepfakeBench: dataset_json_folder: {config.out / 'dataset_json'}, lmdb_dir: {config.out}, "
        "lmdb: True"
    )
