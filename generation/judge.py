"""How well the discriminator, and a fresh classifier, tell reals and fakes apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_crops
from unmasked.datasets.transforms import normalise
from unmasked.evaluation.intervals import Sample, interleave, intervals
from unmasked.evaluation.metrics import all_metrics
from unmasked.generation.features import units_of
from unmasked.generation.fid import Array
from unmasked.generation.stylegan2 import Generator, sample
from unmasked.generation.train import real_rows
from unmasked.training.residual import Critic

BATCH = 64
N_BOOT = 500
SHOWN = ("balanced_accuracy", "auc", "fpr", "tpr")
SEED = 30_000  # of fakes that neither training nor its samples showed


def discriminator_shares(
    critic: Critic, generator: Generator, faces: pd.DataFrame, crops_root: Path, *, fakes: int = 1000
) -> dict[str, Mapping[str, Any]]:
    """What a discriminator makes of images, not augmented, at D(x) > 0 for real.

    Against the same fresh fakes of the averaged generator: ``train``, the reals that it learned from, and
    ``test`` and ``val``, reals that it never saw, where the table has any. Each is a block of metrics with
    intervals by person or video: fpr is the share of reals that it calls fake, tpr that of fakes.

    Args:
        critic: of one training.
        generator: of the same one.
        faces: the table that it was trained on.
        crops_root: folder that the crops' paths are relative to.
        fakes: how many are made.
    """
    critic, generator = critic.cpu().eval(), generator.cpu().eval()
    size_px = int(generator.synthesis(generator.styles(torch.zeros(1, generator.w_dim))).shape[-1])
    made = _scores(critic, _fake_batches(generator, fakes))
    found: dict[str, Mapping[str, Any]] = {}
    for split in ("train", "val", "test"):
        try:
            rows = real_rows(faces, split)
        except InputError:
            continue
        paths = crop_paths(rows["crop"], crops_root)
        reals = _scores(critic, _real_batches(paths, size_px))
        units = [f"real {unit}" for unit in units_of(rows)]
        one = Sample.of(
            np.repeat([0, 1], [len(reals), len(made)]),
            np.concatenate([reals, made]),
            [*units, *(f"fake {place}" for place in range(len(made)))],
        )
        found[split] = {"reals": len(reals), "units": len(set(units)), "fakes": len(made), **_block(one)}
    return found


def _block(one: Sample) -> dict[str, Any]:
    values = all_metrics(one.label, one.score, 0.5, SHOWN)
    return interleave(values, intervals(one, 0.5, n_boot=N_BOOT, only=SHOWN))


def _fake_batches(generator: Generator, count: int) -> Iterator[Tensor]:
    for start in range(0, count, BATCH):
        yield sample(generator, range(start, min(start + BATCH, count)), SEED)


def _real_batches(paths: list[Path], size_px: int) -> Iterator[Tensor]:
    for start in range(0, len(paths), BATCH):
        yield torch.from_numpy(read_crops(paths[start : start + BATCH], size_px)).permute(0, 3, 1, 2)


@torch.inference_mode()
def _scores(critic: Critic, batches: Iterator[Tensor]) -> NDArray[np.float64]:
    """P(fake) of (N, 3, R, R) uint8 images."""
    found = [torch.sigmoid(-critic.realness(normalise(batch)).double()) for batch in batches]
    return torch.cat(found).numpy()


def tell_apart(
    a: Array, b: Array, *, units: tuple[NDArray, NDArray] | None = None, seed: int = 0
) -> dict[str, Any]:
    """A two-sample test: a classifier fitted on one half of both, judged on the other.

    Balanced accuracy and AUC near 0.5: it cannot tell them apart. Lopez-Paz and Oquab,
    arxiv.org/abs/1610.06545, with a logistic regression. Whole units go to one half.

    Args:
        a, b: (n, d) and (m, d) features.
        units: of the rows of both; each row its own if not given.
        seed: of the halves.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(seed)
    kinds = units or (np.arange(len(a)), np.arange(len(b)))
    codes = [np.unique(kind, return_inverse=True)[1] for kind in kinds]
    halves = [(random.permutation(code.max() + 1) % 2 == 0)[code] for code in codes]
    x = np.concatenate([np.asarray(a[:], np.float64), np.asarray(b[:], np.float64)])
    label = np.repeat([0, 1], [len(a), len(b)])
    cluster = np.concatenate([codes[0], codes[1] + codes[0].max() + 1])
    fits = np.concatenate(halves)
    if min(np.bincount(label[fits], minlength=2).min(), np.bincount(label[~fits], minlength=2).min()) < 2:
        return {"n": 0, **{name: float("nan") for name in SHOWN[:2]}}
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    )
    score = model.fit(x[fits], label[fits]).predict_proba(x[~fits])[:, 1]
    return {"n": int((~fits).sum()), **_block(Sample.of(label[~fits], score, cluster[~fits]))}
