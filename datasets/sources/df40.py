"""DF40: face crops of fakes by 40 methods, as given out, without the authors' lists.

Paper: Yan et al., "DF40: Toward Next-Generation Deepfake Detection", NeurIPS 2024 (Datasets and Benchmarks).
Licence: CC BY-NC 4.0, on request; each source keeps its own terms.

    <root>/                                             DF40_train is train, DF40 is test
        <method>/[ff|cdf/][frames/]<video>/<n>.png      31 methods, of FaceForensics++ and Celeb-DF: fakes
        <method>/{real,fake}/[frames/]<video>/<n>.png   methods that bring their reals along

Each folder of images is a sequence. **Most methods have no real part here**: it is that of FaceForensics++
and Celeb-DF, scanned by itself. With the authors' lists (dataset_json) the source deepfakebench reads the
same crops, reals included. Real is what lies in a folder called ``real``, and nothing else: e4e keeps its
fakes in folders called Celeb-real and YouTube-real. The split is that of a folder called train or test;
where none says, all is test. Identities are read from the names of FaceForensics++ and Celeb-DF.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from unmasked.datasets.archives import IMAGE_SUFFIXES
from unmasked.datasets.errors import InputError
from unmasked.datasets.listing import Count, as_manifest, count_by, walk_files
from unmasked.datasets.tables import TEXT
from unmasked.datasets.vocabulary import split_of

NAME = "DF40"
PAPER = "https://arxiv.org/abs/2406.13495"
LICENCE = "CC BY-NC 4.0, on request"
REQUEST = "https://github.com/YZY-stack/DF40"
LAYOUT = "a folder of face crops for each method: simswap/frames/<video>, sd2.1/ff/<video>, …"

OFFICIAL: dict[str, int] = {}
METHODS = (
    *("fsgan", "faceswap", "simswap", "inswap", "blendface", "uniface", "mobileswap", "e4s", "facedancer"),
    *("deepfacelab", "fomm", "facevid2vid", "wav2lip", "MRAA", "one_shot_free", "pirender", "tpsm", "lia"),
    *("danet", "sadtalker", "mcnet", "hyperreenact", "heygen", "VQGAN", "StyleGAN2", "StyleGAN3"),
    *("StyleGANXL", "sd2.1", "ddim", "RDDM", "pixart", "DiT", "SiT", "MidJourney", "whichfaceisreal"),
    *("whichisreal", "CollabDiff", "e4e", "stargan", "starganv2", "styleclip"),
)
METHODS_MIN = 3  # folders of such names that tell the set
_NAMES = {name.lower() for name in METHODS}
_PEOPLE = (
    r"^(?P<target>\d{3})(?:_(?P<source>\d{3}))?$",  # FaceForensics++
    r"^(?P<target>id\d+)(?:_(?P<source>id\d+))?_\d+$",  # Celeb-DF
)


def matches(root: Path) -> bool:
    """True if several folders, here or in train and test, are named as DF40's methods."""
    return any(len(_methods(place)) >= METHODS_MIN for place in _places(root))


def scan(root: Path, *, split: str | None = "test", notes: list[str] | None = None) -> pd.DataFrame:
    """The manifest of all folders of face crops, kind ``sequence``.

    Args:
        root: the folder with the methods, or with a train and a test folder of them.
        split: of what no folder's name says; None leaves it missing.
        notes: where absent reals are said.

    Raises:
        InputError: there is no image.
    """
    notes = [] if notes is None else notes
    rows = []
    for place in _places(root):
        for method in _methods(place):
            prefix = (place / method).relative_to(root).as_posix()
            images = walk_files(place / method, IMAGE_SUFFIXES)
            folders = sorted({image.rpartition("/")[0] for image in images})
            said = split_of(place.name) or split
            rows += [(f"{prefix}/{folder}".rstrip("/"), method, said, folder) for folder in folders]
    if not rows:
        raise InputError(f"{root} has folders of {NAME} but no image in them; available from {REQUEST}")
    found = pd.DataFrame(rows, columns=["path", "method", "split", "folder"], dtype=TEXT)
    is_real = found["folder"].str.lower().str.split("/").map(lambda parts: "real" in parts).astype(bool)
    if not is_real.any():
        notes.append(
            "no method here brings reals along: they are those of FaceForensics++ and Celeb-DF, to be "
            "scanned beside it (root=[…,…])"
        )
    name = found["path"].str.rpartition("/")[2]
    people = pd.DataFrame({"target": pd.NA, "source": pd.NA}, index=found.index, dtype=TEXT)
    for pattern in _PEOPLE:
        people = people.fillna(name.str.extract(pattern).astype(TEXT))
    return as_manifest(
        pd.DataFrame(
            {
                "path": found["path"],
                "video": found["path"],
                "kind": "sequence",
                "label": (~is_real).astype("int64"),
                "method": found["method"].mask(is_real, "real"),
                "split": found["split"],
                "identity": people["target"],
                "source_video": people["source"].mask(is_real),
            }
        ),
        NAME,
        root,
    )


def counts(manifest: pd.DataFrame) -> list[Count]:
    """Sequences found by method and split; official counts are not known."""
    return count_by(manifest["method"] + " " + manifest["split"], {})


def _places(root: Path) -> list[Path]:
    """The root and its folders for train and test."""
    try:
        inside = sorted(path for path in root.iterdir() if path.is_dir() and split_of(path.name))
    except OSError:
        inside = []
    return [root, *inside]


def _methods(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.is_dir() and path.name.lower() in _NAMES)
