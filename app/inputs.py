"""What a command reads, looked at before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from unmasked.datasets.cards import absent_checkpoint, card_path
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FACES_FILE = "faces.parquet"


def faces_file(path: Path) -> Path:
    """The faces table, given by its own path or by the folder that it lies in."""
    return path / FACES_FILE if path.is_dir() else path


Faces = Annotated[Path, AfterValidator(faces_file)]
CHECKPOINT = (
    "what `unmasked train` wrote: its folder, or the detector.safetensors or detector.skops with its card "
    "detector.json beside it"
)

# Keys of `inspect` and of `serve`.
_LEARNED = "as in the crops that the detector learned from, unless given; see `unmasked preprocess`"
Frames = Annotated[int, Field(ge=1, description="frames looked at, spread evenly over a video")]
Gap = Annotated[
    float,
    Field(
        ge=0,
        description="seconds between two frames that are looked at, at most: a long video gets more of them; "
        "0 = any",
    ),
]
Closer = Annotated[
    int,
    Field(
        ge=0,
        description="frames more where scores move of who is not called fake anyway; they show when, and are "
        "in no mean",
    ),
]
Border = Annotated[
    Literal["black", "reflect"] | None, Field(description=f"beyond the picture's edge; {_LEARNED}")
]
Scale = Annotated[float | None, Field(ge=1.0, le=4.0, description=f"room around the face; {_LEARNED}")]
FaceDetector = Annotated[
    Literal["hog", "mmod", "mtcnn"] | None, Field(description=f"what finds faces; {_LEARNED}")
]
Landmarks = Annotated[Literal["dlib", "mtcnn"] | None, Field(description=f"what aligns them; {_LEARNED}")]


def check_inputs(*, faces: Path | None = None, checkpoint: Path | None = None) -> None:
    """Refuses files that are not there, all at once and before anything heavy is imported.

    Raises:
        InputError: one sentence for all that are absent.
    """
    absent, advice = [], []
    if checkpoint is not None and not (checkpoint.is_file() or card_path(checkpoint).is_file()):
        absent.append(f"checkpoint={checkpoint}")
        advice.append(absent_checkpoint(checkpoint))
    if faces is not None and not faces.exists():
        absent.append(f"faces={faces}")
        advice.append(f"give the {FACES_FILE} that `unmasked preprocess` wrote, or its folder")
    if absent:
        are = "do" if len(absent) > 1 else "does"
        raise InputError(f"{' and '.join(absent)} {are} not exist; {'; '.join(advice)}")


def read_faces(path: Path) -> pd.DataFrame:
    """A faces table; prints what was changed in it since it was made."""
    from unmasked.app.progress import print_result
    from unmasked.preprocessing.faces import FACES
    from unmasked.preprocessing.made import edits

    faces = FACES.read(path)
    if said := edits(faces, path):
        print_result(f"NOTE: {said}")
    return faces


def training_faces(path: Path, datasets: Sequence[str], *, tells_edits: bool = False) -> pd.DataFrame:
    """A faces table, or the rows of some datasets in it; prints its edits, if asked.

    Raises:
        InputError: nothing has training rows, or a dataset has none, or several have some and none was
            chosen.
    """
    from unmasked.datasets.splits import absent_split
    from unmasked.preprocessing.faces import FACES

    faces = read_faces(path) if tells_edits else FACES.read(path)
    names = sorted(faces.loc[faces["split"] == "train", "dataset"].unique())
    if len(faces) and not names:
        raise InputError(absent_split(faces, "train"))
    for dataset in datasets:
        if dataset not in names:
            raise InputError(
                f"dataset {dataset!r} has no training rows in {path}; "
                f"datasets with some are {', '.join(names) or 'none'}"
            )
    if not datasets and len(names) > 1:
        raise InputError(
            f"{path} has training rows of {', '.join(names)}; choose one with dataset=…, or several that are "
            f"trained on together with dataset=[{','.join(names[:2])}]"
        )
    return faces[faces["dataset"].isin(list(datasets))].reset_index(drop=True) if datasets else faces
