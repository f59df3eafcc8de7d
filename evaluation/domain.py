"""Whether a file is like the material that a detector was calibrated on.

A score says something only of material like that on which its threshold was fitted. How far a crop is from
that material is the distance to the nearest crop that the detector learned from (Sun et al. 2022: nearest
neighbours of a network's features), in 14 statistics of its pixels and the leading components of the
detector's own features, all of unit variance there. How far is too far is read off calibration videos, none
of which is among these crops, so that a new video of the same kind is called foreign at the stated rate
(conformal p-value: Vovk et al. 2005).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path
from unmasked.datasets.loading import sample_evenly
from unmasked.evaluation.counts import Array

RATE = 0.01  # of calibration-like people who are called foreign, in each of the measures
COMPONENTS = 16  # of the detector's features
CROPS_A_PERSON = 4
CROPS_MOST = 1000  # of each, reference and calibration
SUFFIX = ".domain.safetensors"
ADVICE = "score the source's val videos again with `unmasked predict`, which writes it"
MEASURES = ("distance", "detail", "flatness")
DETAIL, FLATNESS = 4, 5  # columns of the statistics
KINDS = {"video": "video", "sequence": "video", "image": "picture"}  # what a manifest's kind is to a reader


def domain_path(table: Path) -> Path:
    """Where a predictions table's domain is: ``predictions.domain.safetensors`` beside it.

    >>> domain_path(Path("run/predictions.parquet")).as_posix()
    'run/predictions.domain.safetensors'
    """
    return Path(table).with_suffix(SUFFIX)


def crop_statistics(images: NDArray[np.uint8]) -> Array:
    """(N, H, W, 3) RGB crops -> (N, 14) statistics of their pixels, float64.

    Detail in four bands, the finest detail (what blur and compression take away), the share of pixels that
    are as their neighbours (what drawings have), brightness, contrast, two colour means and spreads, steps
    at every eighth column, and noise in colour. Energies and shares are natural logarithms.
    """
    return np.array([_statistics(image) for image in images]).reshape(len(images), 14)


@dataclass(frozen=True)
class Place:
    """Where a person lies beside the calibration people.

    Attributes:
        distance: to the nearest reference crop, median over the person's crops; 1 is the median of the
            calibration people.
        shares: of calibration people at least as extreme, by measure, in (0, 1]; the person counted.
    """

    distance: float
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Domain:
    """Reference crops, and how far calibration people lie from them.

    Attributes:
        checkpoint: SHA-256 of the weights.
        fitted_on: which calibration videos, in words.
        kinds: ``video`` and ``picture``, as the calibration set had them.
        columns: standardisation and projection: of the statistics and, where the detector has some, of its
            features, each ``(centre (D,), scale (D,), map (D, C))``.
        reference: (R, C) in these columns.
        calibration: (P,) values of the calibration people in rising order, by measure.
    """

    checkpoint: str
    fitted_on: str
    kinds: Sequence[str]
    columns: Sequence[tuple[Array, Array, Array]]
    reference: Array
    calibration: Mapping[str, Array]

    @property
    def people(self) -> int:
        """How many calibration people there are."""
        return len(self.calibration["distance"])

    @property
    def rate(self) -> float:
        """Share of calibration-like people whom each measure calls foreign.

        `RATE`, or what so few people allow.
        """
        return max(RATE, 1 / (self.people + 1))

    def place(self, statistics: Array, features: Array | None) -> Place:
        """Where a person with these crops lies.

        Args:
            statistics: (N, 14), see `crop_statistics`.
            features: (N, F) of the detector; None if it has none.

        Raises:
            InputError: the features are not those of the detector that this is of.
        """
        values = _measures(self._distances(statistics, features), statistics)
        shares = {}
        for name, value in values.items():
            there = self.calibration[name]
            # Too little detail is foreign, and too much of the others.
            count = (there <= value).sum() if name == "detail" else (there >= value).sum()
            shares[name] = float(1 + count) / (self.people + 1)
        typical = float(np.median(self.calibration["distance"])) or 1.0
        return Place(values["distance"] / typical, shares)

    def _distances(self, statistics: Array, features: Array | None) -> Array:
        given = [statistics, *([features] if features is not None else [])]
        if [part.shape[1] for part in given] != [len(centre) for centre, _, _ in self.columns]:
            raise InputError(f"the stored calibration material is of another detector; {ADVICE}")
        return _nearest(_project(given, self.columns), self.reference)


def fit_domain(
    rows: pd.DataFrame,
    statistics: Array,
    features: Array | None,
    is_reference: NDArray[np.bool_],
    *,
    checkpoint: str,
    fitted_on: str = "",
) -> Domain:
    """The domain of a detector.

    Args:
        rows: a row a crop: dataset, video, kind, and face and identity where they are known.
        statistics: (N, 14), see `crop_statistics`.
        features: (N, F) of the detector; None if it has none.
        is_reference: (N,) crops that distances are measured to; the others are calibration crops. Where there
            are none, a calibration person is measured against all of other identities.
        checkpoint: SHA-256 of the weights.
        fitted_on: the calibration videos in words.

    Raises:
        InputError: there is no calibration crop, or there are fewer than three reference crops.
    """
    whose = rows["dataset"].astype(str) + "/" + rows["video"].astype(str)
    person = whose + "/" + (rows["face"].astype(str) if "face" in rows else "0")
    is_calibration = ~is_reference if is_reference.any() else np.ones(len(rows), bool)
    is_reference = is_reference if is_reference.any() else is_calibration
    if not is_calibration.any() or is_reference.sum() < 3:
        raise InputError("the calibration material needs crops that were learned from, and others; give both")
    parts = [statistics, *([features] if features is not None else [])]
    columns = [_whiten(part[is_reference], None if n == 0 else COMPONENTS) for n, part in enumerate(parts)]
    places = _project(parts, columns)
    identity = rows["identity"].fillna(whose).to_numpy() if "identity" in rows else whose.to_numpy()
    own = None
    if is_reference is is_calibration:
        own = identity[:, None] == identity[None]
    distance = _nearest(places[is_calibration], places[is_reference], own)
    by_person = pd.Series(np.arange(is_calibration.sum())).groupby(person[is_calibration].to_numpy())
    measured = [
        _measures(distance[index], statistics[is_calibration][index]) for index in by_person.indices.values()
    ]
    calibration = {name: np.sort([one[name] for one in measured]) for name in MEASURES}
    kinds = sorted({KINDS.get(str(kind), str(kind)) for kind in rows.loc[is_calibration, "kind"].dropna()})
    return Domain(checkpoint, fitted_on, kinds, columns, places[is_reference], calibration)


def thin_out(crops: pd.DataFrame) -> pd.DataFrame:
    """At most `CROPS_A_PERSON` crops of a video, spread evenly, and about `CROPS_MOST` in all."""
    if crops.empty:
        return crops
    videos = crops[["dataset", "video"]].drop_duplicates().shape[0]
    chosen = sample_evenly(crops, max(1, min(CROPS_A_PERSON, CROPS_MOST // videos)))
    return chosen.iloc[:: -(-len(chosen) // CROPS_MOST)].reset_index(drop=True)


def write_domain(domain: Domain, path: Path) -> None:
    """Writes a domain as safetensors."""
    from safetensors.numpy import save_file

    arrays = {"reference": domain.reference, **{name: domain.calibration[name] for name in MEASURES}}
    for number, part in enumerate(domain.columns):
        arrays |= {f"{name}.{number}": value for name, value in zip(_PARTS, part, strict=True)}
    said = {"checkpoint": domain.checkpoint, "fitted_on": domain.fitted_on, "kinds": json.dumps(domain.kinds)}
    with atomic_path(path) as temporary:
        save_file(
            {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()},
            temporary,
            metadata=said,
        )


def read_domain(path: Path) -> Domain:
    """What `write_domain` wrote.

    Raises:
        InputError: the file is none, or an array is absent or not of its shape.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as stored:
            said = stored.metadata() or {}
            arrays = {name: stored.get_tensor(name).astype(np.float64) for name in stored.keys()}  # noqa: SIM118
        columns = [
            tuple(arrays[f"{name}.{number}"] for name in _PARTS)
            for number in range(2)
            if f"centre.{number}" in arrays
        ]
        domain = Domain(
            said["checkpoint"],
            said["fitted_on"],
            json.loads(said["kinds"]),
            columns,
            arrays["reference"],
            {name: arrays[name] for name in MEASURES},
        )
        _check(domain)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no stored calibration material ({error}); {ADVICE}") from error
    return domain


def find_domain(folders: Sequence[Path], checkpoint: str) -> Path | None:
    """The domain of these weights, from the first folder that has one; None if none has."""
    from safetensors import SafetensorError, safe_open

    for path in (path for folder in folders for path in sorted(Path(folder).glob(f"*{SUFFIX}"))):
        try:
            with safe_open(path, framework="np") as stored:
                if (stored.metadata() or {}).get("checkpoint") == checkpoint:
                    return path
        except (SafetensorError, OSError):
            continue
    return None


_PARTS = ("centre", "scale", "map")


def _statistics(image: NDArray[np.uint8]) -> list[float]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    colour = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    bands: list[float] = []
    finer: NDArray[Any] = grey
    for sigma in (1, 2, 4, 8):
        coarser = cv2.GaussianBlur(grey, (0, 0), sigma)
        bands.append(float(np.log((finer - coarser).std() + 0.01)))
        finer = coarser
    even = grey[: grey.shape[0] // 2 * 2, : grey.shape[1] // 2 * 2]
    diagonal = (even[::2, ::2] - even[1::2, ::2] - even[::2, 1::2] + even[1::2, 1::2]) / 2
    here, below, beside = image[:-1, :-1], image[1:, :-1], image[:-1, 1:]
    # By channel, as numpy takes ten times as long over an axis of three. Black is beyond the picture's edge.
    red_is, green_is, blue_is = np.moveaxis((here == below) & (here == beside), 2, 0)
    is_flat = red_is & green_is & blue_is & (np.bitwise_or.reduce(np.moveaxis(here, 2, 0)) > 0)
    steps = np.abs(np.diff(grey, axis=1)).mean(0)
    red = colour[..., 1]
    return [
        *bands,
        np.log(np.median(np.abs(diagonal)) + 0.01),
        np.log(is_flat.mean() + 1e-3),
        grey.mean(),
        grey.std(),
        red.mean(),
        colour[..., 2].mean(),
        np.log(red.std() + 0.1),
        np.log(colour[..., 2].std() + 0.1),
        np.log((steps[7::8].mean() + 0.01) / (steps.mean() + 0.01)),
        np.log((red - cv2.GaussianBlur(red, (0, 0), 1)).std() + 0.01),
    ]


def _measures(distance: Array, statistics: Array) -> dict[str, float]:
    values = (distance, statistics[:, DETAIL], statistics[:, FLATNESS])
    return {name: float(np.median(value)) for name, value in zip(MEASURES, values, strict=True)}


def _whiten(values: Array, components: int | None) -> tuple[Array, Array, Array]:
    """Centre, scale and map to principal components of unit variance, divided by the root of their number."""
    values = np.asarray(values, np.float64)
    centre, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale < 1e-9] = 1.0
    _, spread, axes = np.linalg.svd((values - centre) / scale, full_matrices=False)
    count = min(components or len(spread), int((spread > 1e-6 * spread[0]).sum()))
    return centre, scale, axes[:count].T / spread[:count] * np.sqrt(len(values) / max(count, 1))


def _project(parts: Sequence[Array], columns: Sequence[tuple[Array, Array, Array]]) -> Array:
    pairs = zip(parts, columns, strict=True)
    return np.hstack(
        [(np.asarray(part, np.float64) - centre) / scale @ into for part, (centre, scale, into) in pairs]
    )


def _nearest(places: Array, reference: Array, own: NDArray[np.bool_] | None = None) -> Array:
    """(N,) distance to the nearest reference, those that are one's own left out."""
    squared = (places**2).sum(1)[:, None] + (reference**2).sum(1) - 2 * places @ reference.T
    if own is not None:
        squared = np.where(own, np.inf, squared)
    return np.sqrt(np.maximum(squared.min(axis=1), 0))


def _check(domain: Domain) -> None:
    width = sum(into.shape[1] for _, _, into in domain.columns)
    if not domain.columns or domain.reference.ndim != 2 or domain.reference.shape[1] != width:
        raise ValueError("the reference has other columns than its projection")
    if len({len(values) for values in domain.calibration.values()}) != 1 or not domain.people:
        raise ValueError("its measures are of different people")
    arrays = [
        domain.reference,
        *domain.calibration.values(),
        *(one for part in domain.columns for one in part),
    ]
    if not all(np.isfinite(values).all() for values in arrays):
        raise ValueError("every number in it is finite")
