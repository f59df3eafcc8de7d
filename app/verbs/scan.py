"""``unmasked scan``: dataset folders -> manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def as_list(value: Any) -> Any:
    """A lone value as a list of one: ``root=A`` and ``root=[A,B]`` both work."""
    return value if value is None or isinstance(value, (list, tuple)) else [value]


Names = Annotated[tuple[str, ...] | None, BeforeValidator(as_list)]
OPTIONS = ("compression", "methods", "dataset", "split", "method")  # of some sources only


class Config(BaseModel):
    """What to scan and where the manifest goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Annotated[tuple[Path, ...], BeforeValidator(as_list)] = Field(
        description="folder of a dataset, or a list of them: root=[FF,CDF]"
    )
    source: str = Field("auto", description="which reader; auto looks at the folder's layout")
    out: Path = Field(Path("manifest.parquet"), description="the manifest, .parquet or .csv")
    compression: Names = Field(
        None, description="FaceForensics++: only these, e.g. [c23]; all that are there"
    )
    methods: Names = Field(
        None, description="FaceForensics++: folders of manipulated_sequences; the four of 2019"
    )
    dataset: str | None = Field(None, description="folder and table: name of the dataset; that of the folder")
    split: Literal["train", "val", "test"] | None = Field(
        None, description="folder and table: split of files that nothing says the split of; test"
    )
    method: str | None = Field(None, description="folder: what the fakes are called; fake")
    annotations: Annotated[tuple[Path, ...], BeforeValidator(as_list)] = Field(
        (), description="CSV files with demographics to join to the videos"
    )
    codebook: str = Field(
        "ai_face_v2", description="how to read the annotations: a name in configs/annotations"
    )
    policy: Literal["majority", "drop"] = Field("majority", description="when frames of a video disagree")


def run(config: Config) -> None:
    """Scans every root, joins the annotations, writes one manifest and prints what was found."""
    import pandas as pd

    from unmasked.datasets.manifest import MANIFEST
    from unmasked.datasets.scan import options_of, scan

    options = {name: value for name in OPTIONS if (value := getattr(config, name)) is not None}
    taken = {root: options_of(root, config.source) & set(options) for root in config.root}
    if unused := set(options) - set().union(*taken.values()):
        raise InputError(f"no root is of a source that takes {', '.join(sorted(unused))}; leave it out")
    manifests = []
    for root in config.root:
        result = scan(root, config.source, **{name: options[name] for name in taken[root]})
        for line in result.messages:
            print_result(line)
        manifests.append(result.manifest)
    manifest = pd.concat(manifests, ignore_index=True)
    if config.annotations:
        manifest = _joined(manifest, config)
    MANIFEST.write(manifest, config.out)
    print_result(f"{len(manifest)} rows written to {config.out}")


def _joined(manifest: pd.DataFrame, config: Config) -> pd.DataFrame:
    import pandas as pd

    from unmasked.datasets.demographics import join, read_annotations

    annotations = pd.concat([read_annotations(path, config.codebook) for path in config.annotations])
    joined, report = join(manifest, annotations.reset_index(drop=True), policy=config.policy)
    print_result(f"annotations: {report}")
    return joined
