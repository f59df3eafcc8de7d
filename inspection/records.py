"""What a case folder holds: ``case.json``, checked when it is read.

A case is everything about one file that a second examiner needs to come to the same finding, or to say what
differs. It holds no folder of the machine that made it but those that `verify` needs, relative to the case.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unmasked.datasets.documents import read_json, write_json
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FRAME_MAX

CASE = "case.json"
TIMELINE = "timeline.csv"
PAGE = "case.html"
ADVICE = "give the folder that `unmasked inspect` wrote"

Verdict = Literal["likely fake", "likely real", "inconclusive", "not judged"]
Code = Literal[
    "no_face",
    "small_face",
    "few_frames",
    "several_people",
    "already_cropped",
    "audio_only",
    "decode_error",
    "missing_file",
    "too_large",
    "over_budget",
    "crashed",
    "within_band",
    "no_support",
    "two_heaps",
    "other_crops",
    "changed",
    "out_of_domain",
    "blurred",
    "heavy_compression",
    "drawing_or_rendering",
]
Count = Annotated[int, Field(ge=0, le=FRAME_MAX)]


class _Record(BaseModel):
    # No number that arithmetic cannot take: what is not known is null.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reason(_Record):
    """Why a finding is what it is, or is worth less: a code for machines, words for people."""

    code: Code
    words: str


class Credentials(_Record):
    """Content credentials (C2PA) in the file: what its makers claim of how it came about."""

    place: str  # where in the file
    reader: str = ""  # library and version that read them; "" where none is installed
    state: str = ""  # the library's word on hashes and signature; "" where not read
    claims: dict[str, str] = {}  # generator, signed by, time, actions, …


class Facts(_Record):
    """What the file says of itself; anyone can write it, so that it is no evidence."""

    format: str = ""
    codec: str = ""
    width_px: int | None = None
    height_px: int | None = None
    frames: int | None = None
    frames_per_s: float | None = None
    duration_s: float | None = None
    bits_per_pixel: float | None = None  # of a frame
    notes: dict[str, str] = {}  # encoder, software, dates, …
    credentials: Credentials | None = None  # None where the file holds none


class Source(_Record):
    """The file that was looked at."""

    name: str
    path: str  # relative to the case folder, POSIX
    kind: Literal["video", "image"]
    bytes: Count
    sha256: str
    facts: Facts = Facts()


class Weights(_Record):
    """The detector that scored it."""

    detector: str
    architecture: str
    module: str  # the user's own module or file, "" for one of ours
    path: str  # of the file of weights, relative to the case folder, POSIX
    sha256: str
    card_sha256: str  # of the .json beside it
    network: str = ""  # where the detector's name is that of a family, which of it
    folder: str = ""  # name of that of the weights, as a rule that of the run


class Material(_Record):
    """The calibration material that a file is held against."""

    path: str  # relative to the case folder, POSIX
    sha256: str
    fitted_on: str
    people: int
    rate: float  # of each measure: distance, detail and flatness
    kinds: list[str]  # video, picture


class Settings(_Record):
    """What a score depends on beside the file and the weights."""

    frames: int = Field(ge=1, le=FRAME_MAX)  # sampled evenly over the video
    size_px: Count  # of the images that the detector takes
    scale: float = Field(ge=1, le=4)
    crops: Literal["auto", "cut", "as_is"]
    border: Literal["black", "reflect"]
    face_detector: Literal["hog", "mmod", "mtcnn"]
    landmarks: Literal["dlib", "mtcnn"]
    recipe: dict[str, Any]  # of the crops, with the versions of the libraries
    few_frames: Count  # a person in fewer frames of a video is not judged
    small_face_px: float  # a smaller face is not judged
    tolerance: float  # within which a score is the same when a case is run again
    gap_s: float = Field(0.0, ge=0)  # between two sampled frames of a video, at most; 0: any
    closer: Count = 0  # frames between others that are looked at where scores move, at most


class Rates(_Record):
    """Measured errors at the threshold on one set of videos; NaN is null."""

    dataset: str
    kind: Literal["calibration", "source", "unseen"]
    noun: Literal["video", "picture", "file"] = "video"  # what was scored and counted
    fpr: float | None
    fpr_ci: tuple[float | None, float | None]
    fnr: float | None
    fnr_ci: tuple[float | None, float | None]
    real_videos: Count
    fake_videos: Count


class Look(_Record):
    """One crop: when, of whom, and its score."""

    person: Count
    frame: Count
    time_s: float | None
    score: float
    size_px: float | None  # of the face in the picture
    blur: float | None
    crop: str  # relative to the case folder
    between: bool = False  # looked at because the score moves here; in no mean


class Map(_Record):
    """Where in a look the detector found evidence."""

    crop: str  # of the look
    file: str  # relative to the case folder
    is_blank: bool  # nothing in it is evidence


class Maps(_Record):
    """The maps of the most suspicious frames, and what their tests found."""

    method: str
    shown: list[Map]
    sentences: list[str]  # why none of them can be trusted, and all are in grey; none where they passed


class Person(_Record):
    """One person in the file.

    The score is the mean of their frames, None where nobody may rely on it.
    """

    number: Count
    frames: Count
    first_s: float | None
    last_s: float | None
    size_px: float | None  # median
    score: float | None
    log10_lr: float | None  # of fake against real, within the bounds that calibration supports
    verdict: Verdict
    reasons: list[Reason]
    distance: float | None = None  # to the calibration material; 1 is usual there


class Finding(_Record):
    """The answer about the file: that of the person who seems most fake."""

    verdict: Verdict
    score: float | None
    log10_lr: float | None
    person: Count | None
    people: Count  # who were looked at
    reasons: list[Reason]
    sentences: list[str]


class Sampled(_Record):
    """How much of the file was looked at."""

    frames: Count
    with_face: Count
    unreadable: Count
    largest_gap_s: float | None
    between: Count = 0  # frames more, where scores move


class Case(_Record):
    """``case.json``."""

    format: Literal["unmasked case 1"] = "unmasked case 1"
    source: Source
    weights: Weights
    settings: Settings
    material: Material | None = None  # None where none is stored for these weights
    thresholds: dict[str, Any]  # threshold, abstention and likelihood, as the card or the run holds them
    run: str  # the folder whose measured errors these are, relative to the case, POSIX; "" for the card alone
    performance: list[Rates]
    finding: Finding
    people: list[Person]
    sampled: Sampled
    looks: list[Look]
    maps: Maps | None = None  # None where they were not asked for, or nobody was judged
    warnings: list[str]
    prior: float | None = None  # the user's own P(fake) beforehand
    code_sha256: str
    environment: dict[str, Any]
    files: dict[str, str] = {}  # SHA-256 of every other file of the folder, by name
    seal: str = ""  # SHA-256 of all the rest

    def seal_with(self, files: dict[str, str]) -> Case:
        """The case with the digests of its files, and of itself."""
        listed = self.model_copy(update={"files": files, "seal": ""})
        return listed.model_copy(update={"seal": listed.digest()})

    def digest(self, *, was_read: bool = False) -> str:
        """SHA-256 of everything but the seal.

        Args:
            was_read: of what the file said alone; a field that is newer than the case was not in its seal.
        """
        rest = self.model_dump(mode="json", exclude={"seal"}, exclude_unset=was_read)
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_case(case: Case, folder: Path) -> None:
    """Writes ``case.json``."""
    write_json(folder / CASE, case.model_dump(mode="json"))


def read_case(folder: Path) -> Case:
    """The record in a case folder.

    Raises:
        InputError: there is none, or it is no record of a case.
    """
    try:
        return Case.model_validate(read_json(folder / CASE, ADVICE, what="case"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"case {folder / CASE} is damaged ({where}: {first['msg']}); {ADVICE}") from error
