"""A detector explained on its test crops: Grad-CAM pictures and a t-SNE of its features, kept as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from unmasked.analysis.config import ExplainConfig
from unmasked.analysis.embedding import embed, neighbour_purity, usable_perplexity
from unmasked.analysis.gradcam import CamResult, overlays, to_pixels
from unmasked.analysis.pictures import CamGridDisplay, CamRow, EmbeddingDisplay
from unmasked.analysis.tensorboard import log_cams, log_embedding, summary_writer
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path, write_json
from unmasked.datasets.loading import read_crops, usable
from unmasked.datasets.tables import write_frame
from unmasked.evaluation.evaluate import clusters_of

Progress = Callable[[str, int, int], None]

FOLDER = "explain"  # inside a run's folder
SPRITE_PX = 64


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes:
        pictured: a row for each Grad-CAM picture: where it is from, its score, is its map blank.
        cams: the pictures, maps and overlays of these rows.
        embedded: a row for each crop in the t-SNE, with its x and y and its score.
        features: (N, D) float32 of these crops; None where read back from a run's folder.
        sprites: (N, 64, 64, 3) uint8 small pictures of these crops; None where read back.
        summary: numbers in words' reach: layer, counts, purity of neighbourhoods, settings.
    """

    pictured: pd.DataFrame
    cams: CamResult
    embedded: pd.DataFrame
    features: np.ndarray | None
    sprites: np.ndarray | None
    summary: dict[str, Any]

    def cam_rows(self) -> list[CamRow]:
        """The Grad-CAM pictures by dataset and method, the reals of a dataset first."""
        rows = []
        several = self.pictured["dataset"].nunique() > 1
        ordered = self.pictured.assign(order=self.pictured["label"])
        for (dataset, _, method), part in ordered.groupby(["dataset", "order", "method"], sort=True):
            name = f"{dataset}\n{method}" if several else str(method)
            at = part.index.to_numpy()
            rows.append(
                CamRow(name, self.cams.pictures[at], self.cams.overlays[at], part["score"].to_numpy())
            )
        return rows


def explain(
    model: nn.Module,
    faces: pd.DataFrame,
    crops_root: Path,
    *,
    layer: nn.Module,
    features: Callable[[Tensor], Tensor],
    size_px: int,
    config: ExplainConfig | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Grad-CAM pictures and a t-SNE of the crops in the test split, or of all where none is marked test.

    Crops are drawn by the seed, never by how well they suit: for each dataset and method as many videos,
    one crop of each for Grad-CAM.

    Args:
        model: (N, 3, size, size) in [-1, 1] -> (N, 2) logits of real and fake.
        faces: a faces table.
        crops_root: the folder that its crops are relative to.
        layer: the module for Grad-CAM.
        features: (N, 3, size, size) -> (N, D).
        size_px: side that crops are scaled to before the model sees them.
        config: see `ExplainConfig`.
        progress: called with (what, done, total).

    Raises:
        InputError: no usable crop, or too few for a t-SNE.
    """
    config = config or ExplainConfig()
    report = progress or (lambda what, done, total: None)
    crops = _test_crops(faces)
    pictured = _one_a_video(crops, config)
    images = torch.cat(list(_batches(pictured, crops_root, size_px, config.batch_size)))
    report("Grad-CAM", 0, len(pictured))
    cams = overlays(model, images, layer, batch_size=config.batch_size)
    report("Grad-CAM", len(pictured), len(pictured))
    pictured = pictured.assign(score=_scores(model, images, config.batch_size), blank=cams.blank)

    embedded = _spread(crops, config)
    vectors, scores, sprites = [], [], []
    for batch in _batches(embedded, crops_root, size_px, config.batch_size):
        vectors.append(_without_gradients(model, features, batch))
        scores.append(_scores(model, batch, config.batch_size))
        sprites.append(_sprites(batch))
        report("features", sum(map(len, vectors)), len(embedded))
    matrix = np.concatenate(vectors).astype(np.float32)
    points = embed(matrix, perplexity=config.perplexity, seed=config.seed)
    embedded = embedded.assign(score=np.concatenate(scores), x=points[:, 0], y=points[:, 1])
    summary = _summary(layer, pictured, embedded, matrix, config)
    return Explanation(pictured, cams, embedded, matrix, np.concatenate(sprites), summary)


def write_explanation(explanation: Explanation, run: Path) -> Path:
    """Writes ``explain/`` into a run's folder and returns it.

    It holds ``explain.json`` (what and how), ``cams.npz`` (pictures, overlays, maps), ``pictured.parquet``
    and ``embedding.parquet`` (a row a crop), ``cam.png`` and ``tsne.png`` to look at.
    """
    folder = run / FOLDER
    cams = explanation.cams
    maps = (cams.maps * 255).round().astype(np.uint8)
    with atomic_path(folder / "cams.npz") as path:
        np.savez_compressed(path, pictures=cams.pictures, overlays=cams.overlays, maps=maps)
    write_frame(explanation.pictured, folder / "pictured.parquet")
    write_frame(explanation.embedded, folder / "embedding.parquet")
    points = explanation.embedded[["x", "y"]].to_numpy()
    method = explanation.embedded["method"].to_numpy()
    for name, display in (
        ("cam.png", CamGridDisplay(explanation.cam_rows())),
        ("tsne.png", EmbeddingDisplay(points, method, "features by method")),
    ):
        with atomic_path(folder / name) as path:
            display.plot().figure_.savefig(path, dpi=100, bbox_inches="tight")
    write_json(folder / "explain.json", explanation.summary)
    return folder


def read_explanation(run: Path) -> Explanation | None:
    """What `write_explanation` left in a run's folder; None if it is not there."""
    folder = run / FOLDER
    if not (folder / "explain.json").is_file():
        return None
    with np.load(folder / "cams.npz") as arrays:
        maps = arrays["maps"].astype(np.float32) / 255
        pictures, over = arrays["pictures"], arrays["overlays"]
    pictured = pd.read_parquet(folder / "pictured.parquet")
    embedded = pd.read_parquet(folder / "embedding.parquet")
    summary = json.loads((folder / "explain.json").read_text(encoding="utf-8"))
    cams = CamResult(maps, over, pictures, pictured["blank"].to_numpy())
    return Explanation(pictured, cams, embedded, None, None, summary)


def log_explanation(explanation: Explanation, folder: Path, *, step: int = 0) -> None:
    """Shows an explanation in TensorBoard: pictures, and features with labels in the projector."""
    assert explanation.features is not None
    rows = explanation.pictured
    place = rows.groupby(["dataset", "method"]).cumcount() + 1
    names = [
        f"{dataset}/{method}/{number}"
        for dataset, method, number in zip(rows["dataset"], rows["method"], place, strict=True)
    ]
    metadata = explanation.embedded.drop(columns=["x", "y"])
    with summary_writer(folder) as writer:
        log_cams(writer, explanation.cams, names, step=step)
        log_embedding(writer, explanation.features, metadata, pictures=explanation.sprites, step=step)


def _test_crops(faces: pd.DataFrame) -> pd.DataFrame:
    ok = usable(faces)
    if ok.empty:
        raise InputError("the faces table has no crop with status ok; run `unmasked preprocess` first")
    of_test = ok[ok["split"] == "test"]
    return (ok if of_test.empty else of_test).reset_index(drop=True)


def _one_a_video(rows: pd.DataFrame, config: ExplainConfig) -> pd.DataFrame:
    rng = np.random.default_rng(config.seed)
    shuffled = rows.iloc[rng.permutation(len(rows))].drop_duplicates(["dataset", "video"])
    chosen = shuffled.groupby(["dataset", "method"], sort=True).head(config.pictures)
    return chosen.sort_values(["dataset", "label", "method", "video"]).reset_index(drop=True)


def _spread(rows: pd.DataFrame, config: ExplainConfig) -> pd.DataFrame:
    """At most ``points`` rows, as evenly as they allow over datasets, methods and videos."""
    rng = np.random.default_rng(config.seed + 1)
    shuffled = rows.iloc[rng.permutation(len(rows))]
    shuffled = shuffled.groupby(["dataset", "video"]).head(config.crops_per_video)
    # The first row of every kind, then the second of every kind, until there are enough.
    turn = shuffled.groupby(["dataset", "method"]).cumcount()
    chosen = shuffled.iloc[np.argsort(turn.to_numpy(), kind="stable")[: config.points]]
    return chosen.sort_values(["dataset", "label", "method", "video", "frame"]).reset_index(drop=True)


def _batches(rows: pd.DataFrame, crops_root: Path, size_px: int, batch_size: int) -> Iterator[Tensor]:
    paths = [crops_root / crop for crop in rows["crop"]]
    for start in range(0, len(paths), batch_size):
        pixels = read_crops(paths[start : start + batch_size], size_px)
        # (N, H, W, 3) uint8 -> (N, 3, H, W) in [-1, 1]
        yield torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _scores(model: nn.Module, images: Tensor, batch_size: int) -> np.ndarray:
    logits = [_without_gradients(model, model, batch) for batch in images.split(batch_size)]
    return torch.softmax(torch.from_numpy(np.concatenate(logits)).double(), dim=1)[:, 1].numpy()


def _without_gradients(model: nn.Module, function: Callable[[Tensor], Tensor], images: Tensor) -> np.ndarray:
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return function(images.to(next(model.parameters()).device)).float().cpu().numpy()
    finally:
        model.train(was_training)


def _sprites(images: Tensor) -> np.ndarray:
    return to_pixels(nn.functional.interpolate(images, size=(SPRITE_PX, SPRITE_PX), mode="area"))


def _summary(
    layer: nn.Module,
    pictured: pd.DataFrame,
    embedded: pd.DataFrame,
    features: np.ndarray,
    config: ExplainConfig,
) -> dict[str, Any]:
    clusters = clusters_of(embedded)
    points = embedded[["x", "y"]].to_numpy()
    purity = {}
    for name, label in (("real or fake", embedded["label"]), ("dataset", embedded["dataset"])):
        if label.nunique() > 1:
            in_features = neighbour_purity(features, label, clusters=clusters)
            on_page = neighbour_purity(points, label, clusters=clusters)
            purity[name] = {
                "features": in_features.value,
                "tsne": on_page.value,
                "chance": in_features.chance,
            }
            purity[name]["k"] = in_features.k
    return {
        "layer": type(layer).__name__,
        "target": "fake",
        "pictures": len(pictured),
        "blank": int(pictured["blank"].sum()),
        "crops": len(embedded),
        "videos": int(embedded.groupby(["dataset", "video"]).ngroups),
        "split": "test" if (embedded["split"] == "test").all() else "all",
        "feature_size": int(features.shape[1]),
        "perplexity": usable_perplexity(len(embedded), config.perplexity),
        "purity": purity,
        "settings": config.model_dump(mode="json"),
    }
