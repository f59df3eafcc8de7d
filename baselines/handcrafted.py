"""Features of texture, gradients, frequencies and colours; an SVC or a forest.

Local binary patterns, oriented gradients, co-occurrences and cosine coefficients are those of
scikit-image 0.22 to 0.26 and OpenCV on 128 x 128 grey pixels. Of the 72 co-occurrence features twelve are
copies: at 45 and 135 degrees the distance 2 is rounded to the same neighbour as 1. They are kept, so that
vectors are equal.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Literal

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage, sparse
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from torch import Tensor

from unmasked.baselines.embedding import Embedding
from unmasked.baselines.fitted_files import check_pipeline, load
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path
from unmasked.datasets.loading import read_crops
from unmasked.evaluation.levels import clusters_of
from unmasked.evaluation.machine import Fold, calibrate, people_folds, pipeline
from unmasked.training.config import DetectorConfig, ModelConfig
from unmasked.training.detector import About

logger = logging.getLogger(__name__)

NAME = "Handcrafted features"
ABOUT = About(
    paper="Ojala et al. 2002 (LBP), Dalal & Triggs 2005 (HOG), Haralick et al. 1973 (GLCM)",
    licence="code MIT",
    weights="none: it is fitted on the training crops",
)
RECIPE = "1"  # part of the names of cached files: raise it when a feature changes
SIDE_PX = 128
BATCH = 64
FILE = "handcrafted.skops"
TRUSTED = ["sklearn.tree._tree.Tree"]  # numbers, at which `check_pipeline` looks
STEPS = (StandardScaler, PCA, RandomForestClassifier, SVC)
GREY = np.array([0.2125, 0.7154, 0.0721])
DISTANCES = (1, 2, 4)
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)

Array = NDArray[Any]
Block = Literal["lbp", "hog", "glcm", "dct", "colour", "gradient", "network"]
BLOCKS: tuple[Block, ...] = ("lbp", "hog", "glcm", "dct", "colour", "gradient")


class Model(ModelConfig):
    """The classifier and what it sees."""

    size_px: int = Field(
        256, ge=32, le=1024, description="Side of the crops that features are computed of; give their own"
    )
    blocks: tuple[Block, ...] = Field(
        BLOCKS, min_length=1, description="Kinds of features; network is what model.backbones make of it"
    )
    backbones: tuple[str, ...] = Field(
        (), description="Networks of timm's, which do not learn: their features are the block network"
    )
    weights: tuple[str, ...] = Field((), description="A local .pth or .safetensors file of each")
    classifier: Literal["svc", "forest"] = Field(
        "svc", description="Support vector machine with an RBF kernel, or random forest"
    )
    components: int = Field(
        100, ge=0, description="Principal components that svc sees; 0 gives it all features"
    )
    c: float = Field(10.0, gt=0, description="How closely svc follows the training crops")
    trees: int = Field(300, ge=1, description="Trees of the forest")
    max_crops: int = Field(
        4000,
        ge=20,
        description="Crops fitted on at most, spread over all videos: svc takes more than n² time",
    )
    max_hours: float = Field(
        1.0, gt=0, description="An svc that would take longer is refused before it starts"
    )


class Config(DetectorConfig):
    """Everything that decides how the classifier is fitted."""

    model: Model = Field(Model(), description="The classifier and its features")
    cache: str = Field("", description="Folder that keeps features by content; none are kept if not given")
    processes: int = Field(1, ge=1, description="Processes that compute features")


def start(config: Config) -> str:
    """What is fitted, in a sentence."""
    model = config.model
    if model.classifier == "forest":
        what = f"a forest of {model.trees} trees"
    else:
        what = (
            f"an SVC on {f'{model.components} principal components' if model.components else 'all features'}"
        )
    return f"{what} of {', '.join(model.blocks)}, from at most {model.max_crops} crops (model.max_crops)"


def check(faces: pd.DataFrame, config: Config) -> None:
    """Raises InputError where the block network lacks its networks, or is not asked for."""
    model = config.model
    if "network" not in model.blocks and (model.backbones or model.weights):
        raise InputError("model.backbones and model.weights are of the block network; add it to model.blocks")
    if "network" in model.blocks and not 0 < len(model.backbones) == len(model.weights):
        raise InputError(
            f"the block network is the features of networks with weights, and {len(model.backbones)} "
            f"model.backbones and {len(model.weights)} model.weights were given; give a file for each, such "
            "as model.backbones=[mobilenetv2_100] model.weights=[FILE], or leave it out of model.blocks"
        )


def features(
    images: NDArray[np.uint8], blocks: Sequence[str] = BLOCKS, embed: Embedding | None = None
) -> dict[str, Array]:
    """(N, H, W, 3) uint8 RGB -> (N, F) features by block, float64 or float32.

    F is 10 for lbp, 1764 for hog, 72 for glcm (property, distance, angle), 1024 for dct (row by row), 96 for
    colour and 21 for gradient; of network as many as ``embed`` gives. Runs in one thread.

    Raises:
        InputError: the array is no batch of RGB images.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not len(images):
        raise InputError(
            f"features want (N, H, W, 3) uint8 images, and got {images.shape} {images.dtype}; convert to RGB"
        )
    with threadpool_limits(1):  # small products: threads would cost more than they save
        grey = np.stack([grey_image(image) for image in images])
        levels = np.rint(grey * np.float32(255)).astype(np.uint8)
        of = {
            "lbp": lambda: np.stack([lbp(image) for image in levels]),
            "hog": lambda: np.stack([hog(image) for image in grey]),
            "glcm": lambda: np.stack([glcm(image) for image in levels]),
            "dct": lambda: dct(grey),
            "colour": lambda: colour(images),
            "gradient": lambda: gradient(grey.astype(np.float64)),
        }
        if embed is not None:
            of["network"] = lambda: embed(images)
        return {name: of[name]() for name in blocks}


def grey_image(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 -> (128, 128) in [0, 1], smoothed before it shrinks."""
    grey = (image * (1 / 255)) @ GREY
    rows, columns = (_resize_matrix(side) for side in grey.shape)
    return (columns @ (rows @ grey).T).T.astype(np.float32)


@cache
def _resize_matrix(side: int) -> sparse.csr_array:
    """(128, side): a Gaussian of sigma (factor - 1) / 2, then linear interpolation, along one axis."""
    identity, factor = np.eye(side), side / SIDE_PX
    sigma = max(0.0, (factor - 1) / 2)
    smooth = ndimage.gaussian_filter1d(identity, sigma, axis=0, mode="mirror") if sigma else identity
    return sparse.csr_array(
        ndimage.zoom(smooth, (SIDE_PX / side, 1), order=1, mode="mirror", grid_mode=True, prefilter=False)
    )


def lbp(levels: NDArray[np.uint8]) -> Array:
    """(10,) shares of the uniform patterns of 8 neighbours, then of all others."""
    side = len(levels)
    # A border of zeros: what lies outside the image counts as black.
    padded = np.pad(levels.astype(np.float64), ((1, 2), (1, 2)))
    places = np.arange(side, dtype=np.float64)
    codes = np.zeros(levels.shape, np.uint8)
    for bit in range(8):
        angle = 2 * np.pi * bit / 8
        rows, columns = places + np.round(-np.sin(angle), 5), places + np.round(np.cos(angle), 5)
        row, column = int(np.floor(rows[1])), int(np.floor(columns[1]))  # place 1 of the image is padded's 2
        # The order of operations is scikit-image's: another one decides ties otherwise.
        down, right = (rows - np.floor(rows))[:, None], columns - np.floor(columns)
        a, b, c, d = (padded[row + i :, column + j :][:side, :side] for i in (0, 1) for j in (0, 1))
        if not (down.any() or right.any()):
            neighbour = a
        else:
            top, bottom = (1 - right) * a + right * b, (1 - right) * c + right * d
            neighbour = (1 - down) * top + down * bottom
        codes |= (neighbour >= levels).astype(np.uint8) << bit
    return np.bincount(_uniform_patterns()[codes].ravel(), minlength=10) / side**2


@cache
def _uniform_patterns() -> NDArray[np.uint8]:
    """(256,) number of ones where the ring of bits changes at most twice, else 9."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, bits.sum(axis=1), 9).astype(np.uint8)


def hog(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1764,) gradients by 9 directions in 8 x 8 cells, normalised in blocks of 2 x 2."""
    root = np.sqrt(grey)
    down, right = np.zeros_like(root), np.zeros_like(root)
    down[1:-1] = root[2:] - root[:-2]
    right[:, 1:-1] = root[:, 2:] - root[:, :-2]
    down, right = down.astype(np.float64), right.astype(np.float64)
    angle = (np.arctan2(down, right) * (180 / np.pi)) % 180
    # Compared with 20, 40, …: dividing by 20 would put some angles into other bins.
    bins = np.searchsorted(np.arange(20.0, 180.0, 20.0), angle, side="right")
    cells = np.arange(SIDE_PX) // 16
    index = (cells[:, None] * 8 + cells) * 9 + bins
    sums = np.bincount(index.ravel(), weights=np.hypot(down, right).ravel(), minlength=576) / 256
    cell = sums.reshape(8, 8, 9)
    block = np.stack([cell[i : i + 7, j : j + 7] for i in (0, 1) for j in (0, 1)], axis=2).reshape(7, 7, 36)
    block = np.minimum(_unit(block), 0.2)
    return _unit(block).reshape(-1).astype(np.float32)


def _unit(block: Array) -> Array:
    return block / np.sqrt((block**2).sum(axis=-1, keepdims=True) + 1e-10)


@cache
def _offsets() -> list[tuple[int, int]]:
    """(row, column) of the neighbour at each distance and angle; two of them twice."""
    return [
        (round(float(np.sin(angle)) * distance), round(float(np.cos(angle)) * distance))
        for distance in DISTANCES
        for angle in ANGLES
    ]


def glcm(levels: NDArray[np.uint8]) -> Array:
    """(72,) six statistics of neighbours' levels, contrast to correlation.

    No matrix is made: all but one follow from the differences, ASM from how often each pair occurs.
    """
    found = {offset: _pair_statistics(levels.astype(np.int64), *offset) for offset in set(_offsets())}
    return np.stack([found[offset] for offset in _offsets()], axis=1).reshape(-1)


def _pair_statistics(levels: NDArray[np.int64], row: int, column: int) -> Array:
    side = len(levels)
    left, right = max(0, -column), side - max(0, column)
    one = levels[: side - row, left:right].ravel()
    other = levels[row:, left + column : right + column].ravel()
    count = len(one)
    low, high = np.minimum(one, other), np.maximum(one, other)
    difference, shares = np.arange(256), np.bincount(high - low, minlength=256) / count
    place = low * 256 + high
    pairs = np.bincount(place, minlength=65536)
    # The sum of squared counts, over the 16,000 pairs that occur in place of all 65,536. A pair of different
    # levels stands twice in the symmetric matrix, with half its share.
    asm = int(pairs[place].sum() + (pairs[::257] ** 2).sum()) / (2 * count**2)
    contrast = (shares * difference**2).sum()
    total, squares = int((one + other).sum()), int((one**2 + other**2).sum())
    variance = (2 * count * squares - total**2) / (2 * count) ** 2  # whole numbers: 0 is exact
    correlation = 1 - contrast / (2 * variance) if variance else 1.0
    dissimilarity, homogeneity = (shares * difference).sum(), (shares / (1 + difference**2)).sum()
    return np.array([contrast, dissimilarity, homogeneity, asm, np.sqrt(asm), correlation])


def dct(grey: NDArray[np.float32]) -> Array:
    """(N, 1024) the lowest coefficients of the orthonormal DCT-II; first 128 x the mean."""
    frequencies, places = np.arange(32)[:, None], np.arange(SIDE_PX)
    basis = np.cos(np.pi * (2 * places + 1) * frequencies / (2 * SIDE_PX)) * np.sqrt(2 / SIDE_PX)
    basis[0] /= np.sqrt(2)
    return (basis @ grey.astype(np.float64) @ basis.T).reshape(len(grey), -1)


def colour(images: NDArray[np.uint8]) -> Array:
    """(N, 96) shares of 32 bins of R, then G, then B."""
    pixels = images.shape[1] * images.shape[2]
    channels = (images.transpose(0, 3, 1, 2) >> 3).reshape(len(images), 3, pixels)
    return np.stack([np.hstack([np.bincount(c, minlength=32) for c in image]) for image in channels]) / pixels


def gradient(grey: Array) -> Array:
    """(N, 21) statistics of Sobel's magnitude and |Laplace|, and 9 directions.

    Directions are weighted by magnitude.

    The statistics are mean, standard deviation, mean square, and percentiles 50, 90 and 99.
    """
    # Image by image: scipy would smooth across the images of a batch too.
    down, right = (np.stack([ndimage.sobel(image, axis) for image in grey]) for axis in (0, 1))
    magnitude = np.hypot(down, right).reshape(len(grey), -1)
    laplace = np.stack([np.abs(ndimage.laplace(image)) for image in grey]).reshape(len(grey), -1)
    angle = (np.rad2deg(np.arctan2(down, right)) % 180).reshape(len(grey), -1)
    bins = np.searchsorted(np.arange(20.0, 180.0, 20.0), angle, side="right")
    directions = np.stack(
        [np.bincount(b, weights=m, minlength=9) for b, m in zip(bins, magnitude, strict=True)]
    )
    total = directions.sum(axis=1, keepdims=True)
    directions = np.divide(directions, total, out=np.zeros_like(directions), where=total > 0)
    return np.hstack([_six_numbers(magnitude), _six_numbers(laplace), directions])


def _six_numbers(values: Array) -> Array:
    moments = [values.mean(axis=1), values.std(axis=1), (values**2).mean(axis=1)]
    return np.stack([*moments, *np.percentile(values, (50, 90, 99), axis=1)], axis=1)


def vectors(
    images: NDArray[np.uint8], blocks: Sequence[str], folder: str = "", embed: Embedding | None = None
) -> NDArray[np.float32]:
    """(N, F) all blocks side by side; some read from the folder."""
    if not folder:
        return _fused(images, blocks, embed)
    recipe = f"{RECIPE} {' '.join(blocks)} {embed.digest if embed else ''}".rstrip()
    names = [_cached_file(Path(folder), image, recipe) for image in images]
    absent = [row for row, name in enumerate(names) if not name.is_file()]
    if absent:
        for row, vector in zip(absent, _fused(images[absent], blocks, embed), strict=True):
            names[row].parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(names[row]) as temporary, open(temporary, "wb") as stream:
                np.save(stream, vector)
    return np.stack([np.load(name, allow_pickle=False) for name in names])


def _fused(images: NDArray[np.uint8], blocks: Sequence[str], embed: Embedding | None) -> NDArray[np.float32]:
    found = features(images, blocks, embed)
    return np.hstack([found[name].astype(np.float32) for name in blocks])


def _cached_file(folder: Path, image: NDArray[np.uint8], recipe: str) -> Path:
    header = f"{recipe} {image.shape}".encode()
    digest = hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).hexdigest()
    return folder / digest[:2] / f"{digest}.npy"


def vectors_of_files(
    paths: Sequence[Path], config: Config, file: BinaryIO, embed: Embedding | None = None
) -> NDArray[np.float32]:
    """(N, F) of crops on disk, in an empty file that is open to be written and read.

    A few crops are read at a time, and their features, 12 kB a crop, lie on the disk: memory does not grow.
    """
    model = config.model
    done = Parallel(n_jobs=config.processes, return_as="generator")(
        delayed(_vectors_of_part)(
            paths[start : start + BATCH], model.size_px, model.blocks, config.cache, embed
        )
        for start in range(0, len(paths), BATCH)
    )
    for part in done:
        file.write(part.tobytes())
    file.flush()
    return np.memmap(file, np.float32, "r", shape=(len(paths), _width(model.blocks, embed)))


def _vectors_of_part(
    paths: Sequence[Path], size_px: int, blocks: Sequence[str], folder: str, embed: Embedding | None
) -> Array:
    return vectors(read_crops(paths, size_px), blocks, folder, embed)


def widths(blocks: Sequence[str], embed: Embedding | None = None) -> dict[str, slice]:
    """The columns of each block."""
    sizes = {"lbp": 10, "hog": 1764, "glcm": 72, "dct": 1024, "colour": 96, "gradient": 21}
    sizes |= {"network": embed.width} if embed else {}
    ends = np.cumsum([sizes[name] for name in blocks])
    return {name: slice(int(end) - sizes[name], int(end)) for name, end in zip(blocks, ends, strict=True)}


def _width(blocks: Sequence[str], embed: Embedding | None) -> int:
    return widths(blocks, embed)[blocks[-1]].stop


def fit(faces: pd.DataFrame, root: Path, config: Config, out: Path) -> Path:
    """Learns from the training crops, and writes ``handcrafted.skops``.

    Raises:
        InputError: an SVC would take hours, or there are too few people to calibrate on.
    """
    from skops import io  # its list of types takes seconds, which who only asks for names is spared

    faces = _spread(faces, config.model.max_crops)
    _refuse_hours(len(faces), config.model)
    label = faces["label"].to_numpy(np.int64)
    folds = _folds(label, clusters_of(faces), config.seed) if config.model.classifier == "svc" else []
    embed = Embedding(config.model.backbones, config.model.weights) if config.model.backbones else None
    rows = min((len(rows) for rows, _ in folds), default=len(faces))
    model = _classifier(config, rows, _width(config.model.blocks, embed))
    stored: dict[str, Any] = {"blocks": list(config.model.blocks), "model": model}
    stored |= {"network": embed.stored()} if embed else {}
    with TemporaryFile(dir=out) as file:
        x = vectors_of_files(crop_paths(faces["crop"], root), config, file, embed)
        if folds:
            # A person is never scored by a machine that saw another crop of theirs.
            stored["calibration"] = calibrate(model, x, label, folds)
        model.fit(x, label)
    io.dump(stored, out / FILE)
    return out / FILE


def _spread(faces: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, turn by turn from every video, so that no video is left out before another."""
    if len(faces) <= most:
        return faces.reset_index(drop=True)
    turn = faces.groupby(["label", "dataset", "video"], dropna=False).cumcount().to_numpy()
    shuffled = np.random.default_rng(0).permutation(len(faces))
    kept = np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:most])
    logger.warning(
        "%d of %d training crops are fitted on, spread over all videos (model.max_crops)", most, len(faces)
    )
    return faces.iloc[kept].reset_index(drop=True)


def _refuse_hours(crops: int, model: Model) -> None:
    """Raises InputError where an SVC with its calibration would take longer than it may.

    2000 rows of 2870 columns took 12.4 s, of 100 components 0.8 s, and time grows a little faster than n².
    """
    if model.classifier != "svc":
        return
    seconds = 6 * (0.8 if model.components else 12.4) * (crops / 2000) ** 2.2
    if seconds > model.max_hours * 3600:
        raise InputError(
            f"an SVC of {crops} crops would take about {seconds / 3600:.0f} hours; give a lower "
            "model.max_crops or data.frames_per_video, model.components=100 where it is 0, "
            "model.classifier=forest, or a higher model.max_hours"
        )


def _classifier(config: Config, rows: int, width: int) -> Pipeline:
    """The classifier, to be fitted on at least so many rows of so many features."""
    model = config.model
    if model.classifier == "forest":
        return make_pipeline(
            RandomForestClassifier(model.trees, class_weight="balanced", random_state=config.seed)
        )
    return pipeline(rows, width, components=model.components, c=model.c, seed=config.seed)


def _folds(label: Array, people: Array, seed: int) -> list[Fold]:
    try:
        return people_folds(label, people, seed)
    except InputError as counts:
        raise InputError(
            "an SVC is calibrated on people that it was not fitted on, and there are too few people for "
            f"that: {counts}, where each part of at least two needs both; give more people, or "
            "model.classifier=forest"
        ) from None


class Scorer:
    """A fitted classifier on images.

    Attributes:
        blocks: columns of each block of features.
    """

    def __init__(self, stored: Mapping[str, Any]) -> None:
        self.embed = Embedding.from_stored(stored["network"]) if "network" in stored else None
        self.blocks = widths(stored["blocks"], self.embed)
        self.model: Pipeline = stored["model"]
        self.calibration: LogisticRegression | None = stored.get("calibration")

    def features(self, images: Tensor) -> Tensor:
        """(N, F) of (N, 3, H, W) in [-1, 1]."""
        pixels = ((images.permute(0, 2, 3, 1).cpu().numpy() + 1) * 127.5).round().astype(np.uint8)
        return torch.from_numpy(vectors(pixels, list(self.blocks), embed=self.embed))

    def probability(self, vectors: Array) -> Array:
        """(N,) P(fake) of (N, F) features."""
        if self.calibration is None:
            return self.model.predict_proba(vectors)[:, 1]
        return self.calibration.predict_proba(self.model.decision_function(vectors)[:, None])[:, 1]

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 2) logits."""
        fake = np.clip(self.probability(self.features(images).numpy()), 1e-7, 1 - 1e-7)
        return torch.from_numpy(np.log(np.stack([1 - fake, fake], axis=1)))


def read(path: Path, card: Mapping[str, Any]) -> Scorer:
    """The classifier of a file that `fit` wrote; no code of the file is run."""
    stored = load(path, TRUSTED)
    known = isinstance(stored, dict) and set(stored) <= {"blocks", "model", "calibration", "network"}
    if not known or not isinstance(stored.get("model"), Pipeline):
        raise InputError("it holds no classifier of handcrafted features")
    scorer = Scorer(stored)
    check_pipeline(scorer.model, STEPS, _width(stored["blocks"], scorer.embed))
    if not isinstance(scorer.calibration, (LogisticRegression, type(None))):
        raise InputError("its calibration is none")
    return scorer
