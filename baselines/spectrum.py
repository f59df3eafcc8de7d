"""A logistic regression on the radial power spectrum of a face.

Durall et al., Unmasking DeepFakes with simple Features, arxiv.org/abs/1911.00686. Ours takes logarithms
before the mean over angles, so that no single wave outweighs its ring, and the regression is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from unmasked.baselines.fitted_files import check_pipeline, load
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_crops
from unmasked.training.config import DetectorConfig, ModelConfig
from unmasked.training.detector import About

NAME = "Radial spectrum"
ABOUT = About(
    paper="Durall et al., arxiv.org/abs/1911.00686",
    licence="code MIT",
    weights="none: it is fitted on the training crops",
)
BATCH = 64
BANDS = ("low", "middle", "high")  # thirds of the frequencies, whose importance `explain` tells


class Model(ModelConfig):
    """The features and the regression."""

    size_px: int = Field(128, ge=16, le=1024, description="Side of the crops; give their own")
    c: float = Field(1.0, gt=0, description="How closely the training crops are followed")


class Config(DetectorConfig):
    """Everything that decides how the regression is fitted."""

    model: Model = Field(Model(), description="The features and the regression")


def spectra(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, S, S, 3) uint8 RGB -> (N, S // 2) mean log power of rings, by whole waves a side.

    >>> spectra(np.zeros((1, 4, 4, 3), np.uint8)).tolist()  # nothing in them: log of 1
    [[0.0, 0.0]]
    """
    side = images.shape[1]
    power = np.abs(np.fft.fft2(images.mean(axis=3))) ** 2
    ring, count = _rings(side)
    logs = np.log1p(power).reshape(len(images), -1)
    sums = np.stack([np.bincount(ring, weights=one, minlength=side) for one in logs])
    return sums[:, : side // 2] / count[: side // 2]


@cache
def _rings(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ring of each frequency, rounded, and how many frequencies each ring has."""
    waves = np.fft.fftfreq(side, 1 / side)
    ring = np.rint(np.hypot(waves[:, None], waves)).astype(np.int64).ravel()
    return ring, np.bincount(ring, minlength=side)


def fit(faces: pd.DataFrame, root: Path, config: Config, out: Path) -> Path:
    """Learns from the training crops, and writes ``spectrum.skops``."""
    from skops import io  # its list of types takes seconds

    paths, size_px = crop_paths(faces["crop"], root), config.model.size_px
    starts = range(0, len(paths), BATCH)
    x = np.concatenate([spectra(read_crops(paths[start : start + BATCH], size_px)) for start in starts])
    regression = LogisticRegression(C=config.model.c, class_weight="balanced", max_iter=1000)
    model = make_pipeline(StandardScaler(), regression).fit(x, faces["label"].to_numpy(np.int64))
    io.dump(model, out / "spectrum.skops")
    return out / "spectrum.skops"


class Scorer:
    """A fitted regression on images."""

    def __init__(self, model: Pipeline) -> None:
        self.model = model
        ends = np.linspace(0, model.n_features_in_, len(BANDS) + 1).astype(int)
        self.blocks = {name: slice(*ends[place : place + 2]) for place, name in enumerate(BANDS)}

    def features(self, images: Tensor) -> Tensor:
        """(N, S // 2) of (N, 3, S, S) in [-1, 1]."""
        pixels = (images.permute(0, 2, 3, 1).cpu().numpy() + 1) * 127.5
        return torch.from_numpy(spectra(pixels.round().astype(np.uint8)))

    def probability(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """(N,) P(fake) of (N, S // 2) features."""
        return self.model.predict_proba(vectors)[:, 1]

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 2) logits."""
        fake = torch.from_numpy(self.model.decision_function(self.features(images).numpy()))
        return torch.stack([torch.zeros_like(fake), fake], 1)


def read(path: Path, card: Mapping[str, Any]) -> Scorer:
    """The regression of a file that `fit` wrote; no code of the file is run."""
    model = load(path, [])
    try:
        check_pipeline(model, (StandardScaler, LogisticRegression), card["size_px"] // 2)
    except InputError as error:
        raise InputError(f"it holds no regression on the spectra of crops of that size: {error}") from error
    return Scorer(model)
