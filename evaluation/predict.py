"""Scores of any detector on the crops of a faces table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_crops, usable_rows
from unmasked.evaluation.counts import Array
from unmasked.evaluation.domain import Domain, crop_statistics, fit_domain, thin_out
from unmasked.evaluation.inference import Precision, compute, ready_to_score
from unmasked.evaluation.perturbing.units import Perturbed, Unit
from unmasked.evaluation.perturbing.work import batches, plan_units
from unmasked.evaluation.predictions import FRAMES_SAMPLED, PREDICTIONS
from unmasked.preprocessing.lost import KEY
from unmasked.preprocessing.provenance import FACES_DIGEST, MANIFEST_DIGEST, faces_digests

Detector = Callable[[Tensor], Tensor]
Progress = Callable[[str, int, int], None]

# What the predictions keep of a faces table; any other column is of the crop, not of who is shown.
CARRIED = ("dataset", "video", "frame", "face", "label", "method", "split", "identity", "compression")
CROP_COLUMNS = (
    *("crop", "detector_score", "size_px", "blur", "status", "reason", "recipe", "root"),
    *("source_video", "target_video", "others", "padded", "crops", "conversion", MANIFEST_DIGEST),
)
LEAST = 10  # videos, and crops to compare with, that say anything about a kind of material
BATCH = 64
STATISTICS_PX = 256
STAGE = "scoring crops"
PERTURBED_STAGE = "scoring perturbed crops"


def predict(
    model: Detector,
    faces: pd.DataFrame,
    crops_root: Path,
    *,
    size_px: int,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "fp32",
    detector: str,
    checkpoint: str = "",
    perturbed: Perturbed | None = None,
    progress: Progress | None = None,
    kept: list[Array] | None = None,
    score_elsewhere: Callable[[Sequence[list[Path]]], list[NDArray[np.float64]]] | None = None,
) -> pd.DataFrame:
    """The predictions table of a detector.

    One score for every crop, and for every perturbed one.

    Args:
        model: (N, 3, H, W) float in [-1, 1] -> (N, 2) logits of real and fake. A module is put into
            evaluation mode and onto the device; what computes is its `inference.ready_to_score`.
        faces: see `preprocessing.faces`; rows without a crop are left out.
        crops_root: folder that the crops' paths are relative to.
        size_px: side of the images; crops of another size are resized.
        batch_size: images at a time.
        device: ``auto`` takes a GPU if there is one.
        precision: ``bf16`` computes the model in bfloat16 where that is safe (autocast): about twice as
            fast on hardware that has it; single scores differ by up to 0.1, AUC by about 0.001.
            `inference.choose_precision` says where it gains.
        detector, checkpoint: its name and the hash of its weights, for the table.
        perturbed: what is done to which crops beside; their rows follow the clean ones, setting by setting,
            and say it in ``perturbation`` and ``severity``. None perturbs nothing.
        progress: called with a stage, crops done, and their number.
        kept: gets the (N, F) features of each batch of clean crops, in the order of the rows, where the
            detector gives both in one pass (``forward_with_features``).
        score_elsewhere: scores batches of clean crops in order, and keeps no features; None scores here.

    Returns:
        A table valid under `PREDICTIONS` with dataset, video, frame, face, label, method, split, identity,
        compression, annotations (gender, age, …) and any group columns; score = softmax(logits)[:, 1].
        ``frames_sampled`` says how many frames of the video were looked at, with a face or without;
        ``faces_digest`` which crops it had (`preprocessing.provenance`).

    Raises:
        InputError: there is no crop, a crop is absent or cannot be read (never a score in its place),
            the detector returns something else, or a perturbation cannot be made (see `perturbed.planned`).
    """
    crops = _scored_rows(faces)
    # Before anything is scored: it says what is missing.
    units = plan_units(crops, Path(crops_root), perturbed, size_px) if perturbed else []

    scorer: Any = ready_to_score(model, size_px, device)

    score = partial(_score, scorer, device=device, precision=precision)

    def score_and_keep(images: Tensor) -> NDArray[np.float64]:
        assert kept is not None
        logits, values = compute(scorer.forward_with_features, images, device, precision)
        kept.append(values.double().cpu().numpy())
        return _probability(logits)

    score_clean = score if kept is None or not hasattr(model, "forward_with_features") else score_and_keep
    if score_elsewhere is None:
        images_of_batches = _batches(crops, Path(crops_root), size_px, batch_size, progress)
        scores = [score_clean(images) for images in images_of_batches]
    else:
        scores = score_elsewhere(_files_of_batches(crops, Path(crops_root), batch_size))
    named = {
        "detector": detector,
        "checkpoint": checkpoint or None,
        "score": np.concatenate(scores),
    }
    clean = _carry_columns(crops).assign(**named)
    if not perturbed:
        return PREDICTIONS.validate(clean)
    shape = (len(perturbed.settings), len(crops))
    tables = [clean.assign(perturbation=None, severity=np.nan)]
    by_setting = _perturbed_scores(units, shape, batch_size, score, progress)
    for setting, values in zip(perturbed.settings, by_setting, strict=True):
        moved = clean.assign(score=values, perturbation=setting.label, severity=setting.severity)
        tables.append(moved[~np.isnan(values)])
    return PREDICTIONS.validate(pd.concat(tables, ignore_index=True))


def scorer_of_files(
    model: Detector, size_px: int, device: str, precision: Precision
) -> Callable[[Sequence[Sequence[Path]]], list[NDArray[np.float64]]]:
    """What scores batches of crop files, as `predict` does; the arguments are its own."""
    scorer: Any = ready_to_score(model, size_px, device)

    def score(batches: Sequence[Sequence[Path]]) -> list[NDArray[np.float64]]:
        return [_score(scorer, images, device, precision) for images in _read_ahead(batches, size_px)]

    return score


def features(
    model: Detector,
    faces: pd.DataFrame,
    crops_root: Path,
    *,
    size_px: int,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """The crops' rows, as `predict` carries them, and the (N, F) features of each crop.

    Args are those of `predict`, but the model maps images to (N, F): `UCF.features`, for instance.
    """
    crops = _scored_rows(faces)
    batches = _batches(crops, Path(crops_root), size_px, batch_size, progress)
    values = [compute(model, images, device).float().cpu().numpy() for images in batches]
    return _carry_columns(crops), np.concatenate(values)


def describe_crops(
    model: Detector,
    faces: pd.DataFrame,
    crops_root: Path,
    *,
    size_px: int,
    device: str = "auto",
    features: Array | None = None,
) -> tuple[Array, Array | None]:
    """(N, 14) `domain.crop_statistics` of crops and (N, F) features, None without any.

    Args are those of `predict`; every row has a crop. ``features`` are those of the rows, where they are
    known already. The order is that of the rows.
    """
    # Pixels tell more at the crops' own size than at the detector's.
    statistics = [
        crop_statistics(images.permute(0, 2, 3, 1).numpy())
        for images in _batches(faces, Path(crops_root), STATISTICS_PX, BATCH, None)
    ]
    if features is None and (describe := getattr(model, "features", None)) is not None:
        found = [
            compute(describe, images, device).double().cpu().numpy()
            for images in _batches(faces, Path(crops_root), size_px, BATCH, None)
        ]
        features = np.concatenate(found)
    return np.concatenate(statistics), features


def domain_of(
    model: Detector, faces: pd.DataFrame, crops_root: Path, card: Mapping[str, Any], *, device: str = "auto"
) -> Domain | None:
    """What the material is like that a detector learned from and was calibrated on.

    Args:
        model: as of `predict`.
        faces: with the val rows, and best with the train rows, of the datasets that the card names.
        crops_root: as of `predict`.
        card: of the detector.
        device: as of `predict`.

    Returns:
        None where the table has too few val crops of them, or where the card names no datasets and the table
        has several.
    """
    crops = usable_rows(faces[faces["split"].isin(["train", "val"])])
    names = (card.get("training_data") or {}).get("datasets") or list(crops["dataset"].unique())
    crops = crops[crops["dataset"].isin(names)]
    train, val = (thin_out(crops[crops["split"] == split]) for split in ("train", "val"))
    is_told = bool(card.get("training_data")) or len(names) == 1
    if not is_told or val["video"].nunique() < LEAST:
        return None
    chosen = pd.concat([train, val], ignore_index=True) if len(train) >= LEAST else val
    statistics, values = describe_crops(model, chosen, crops_root, size_px=card["size_px"], device=device)
    is_reference = (chosen["split"] == "train").to_numpy()
    words = f"{', '.join(sorted(val['dataset'].unique()))}, val split"
    return fit_domain(chosen, statistics, values, is_reference, checkpoint=card["sha256"], fitted_on=words)


def _perturbed_scores(
    units: Sequence[Unit],
    shape: tuple[int, int],
    batch_size: int,
    score: Callable[[Tensor], NDArray[np.float64]],
    progress: Progress | None,
) -> NDArray[np.float64]:
    """Scores by setting and row, of that shape; NaN where a crop is not perturbed."""
    scores = np.full(shape, np.nan)
    done, total = 0, sum(unit.count for unit in units)
    for rows, settings, images in batches(units, batch_size):
        scores[settings, rows] = score(torch.from_numpy(images).permute(0, 3, 1, 2))
        done += len(rows)
        if progress is not None:
            progress(PERTURBED_STAGE, done, total)
    return scores


def _scored_rows(faces: pd.DataFrame) -> pd.DataFrame:
    added = {FRAMES_SAMPLED: _frames_sampled(faces), FACES_DIGEST: faces_digests(faces)}
    crops = usable_rows(faces.assign(**added))
    if crops.empty:
        raise InputError(
            f"none of the {len(faces)} rows of the faces table has a crop (status ok); "
            "run `unmasked preprocess` and look at its statuses"
        )
    return crops


def _frames_sampled(faces: pd.DataFrame) -> pd.Series:
    """(N,) how many frames were sampled of each row's video, those without a crop too."""
    key = [faces[name] for name in KEY if name in faces]
    return faces["frame"].where(faces["frame"] >= 0).groupby(key, dropna=False).transform("nunique")


def _batches(
    crops: pd.DataFrame, root: Path, size_px: int, batch_size: int, progress: Progress | None
) -> Iterator[Tensor]:
    """uint8 (N, 3, H, W) batches of the rows' crops, see `_read_ahead`."""
    done = 0
    for images in _read_ahead(_files_of_batches(crops, root, batch_size), size_px):
        yield images
        done += len(images)
        if progress is not None:
            progress(STAGE, done, len(crops))


def _read_ahead(parts: Sequence[Sequence[Path]], size_px: int) -> Iterator[Tensor]:
    """uint8 (N, 3, H, W) batches; the next one is read while the present one is scored."""
    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(read_crops, parts[0], size_px)
        for number in range(len(parts)):
            images = upcoming.result()
            if number + 1 < len(parts):
                upcoming = reader.submit(read_crops, parts[number + 1], size_px)
            yield torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last in memory


def _files_of_batches(crops: pd.DataFrame, root: Path, batch_size: int) -> list[list[Path]]:
    paths = crop_paths(crops["crop"], root)
    return [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]


def _score(scorer: Any, images: Tensor, device: str, precision: Precision) -> NDArray[np.float64]:
    return _probability(compute(scorer, images, device, precision))


def _probability(logits: Tensor) -> NDArray[np.float64]:
    if logits.ndim != 2 or logits.shape[1] != 2:
        raise InputError(
            f"the detector returned the shape {tuple(logits.shape)}; allowed is (N, 2), logits of real, fake"
        )
    return logits.double().softmax(1)[:, 1].cpu().numpy()


def _carry_columns(crops: pd.DataFrame) -> pd.DataFrame:
    others = [
        name
        for name in crops
        if name not in (*CARRIED, *CROP_COLUMNS)
        and not str(name).startswith(("box_", "point"))
        and not (str(name).startswith("m") and str(name)[1:].isdigit())
    ]
    kept = [name for name in (*CARRIED, *others) if name in crops]
    return crops[kept].copy()
