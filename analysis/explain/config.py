"""How a detector is explained."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ExplainConfig(BaseModel):
    """How many crops are looked at, and how t-SNE arranges them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int = Field(
        default=6, ge=1, le=24, description="Grad-CAM pictures of the reals and of each method"
    )
    points: int = Field(default=600, ge=8, le=5000, description="crops in the t-SNE, at most")
    crops_per_video: int = Field(default=4, ge=1, description="crops of one video in the t-SNE, at most")
    perplexity: float = Field(default=30, gt=0, description="t-SNE: about how many neighbours each point has")
    methods: tuple[str, ...] = Field(
        default=("auto",),
        description="maps that are tested and shown with what the tests found: grad_cam, grad_cam_pp, "
        "signed_cam, saliency, integrated_gradients, occlusion, lime, shapley; all; or auto: Grad-CAM, and "
        "where it fails integrated gradients, then occlusion",
    )
    tested: int = Field(
        default=8,
        ge=1,
        le=500,
        description="pictures that these maps are made of and tested on, one a video; 12 are shown",
    )
    layer: str = Field(
        default="", description="module that the CAMs look at, by its name; the detector's own if not given"
    )
    by: tuple[str, ...] = Field(
        default=(), description="attributes whose groups are compared: in the mean maps, and colours of t-SNE"
    )
    averaged: int = Field(
        default=0,
        ge=0,
        description="crops whose maps are averaged in one face frame, by dataset, method and group, with the "
        "first method that passed its tests; 0 makes no mean maps",
    )
    repeats: int = Field(
        default=10,
        ge=0,
        description="importance of blocks of features: draws of images whose features stand in; 0 leaves it",
    )
    splits: tuple[str, ...] = Field(
        default=(), description="splits whose crops are shown; test, or all where none is marked test"
    )
    batch_size: int = Field(default=16, ge=1, description="crops at a time")
    seed: int = Field(default=0, ge=0, description="seed of the choice of crops and of t-SNE")
