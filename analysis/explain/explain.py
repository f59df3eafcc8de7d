"""A detector explained on its test crops: Grad-CAM pictures and t-SNE, kept as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from unmasked.analysis.explain.checks import check_method
from unmasked.analysis.explain.config import ExplainConfig
from unmasked.analysis.explain.embedding import MINIMUM_POINTS, embed, neighbour_purity, usable_perplexity
from unmasked.analysis.explain.explanation import Explanation, MethodMaps
from unmasked.analysis.explain.gradcam import (
    CamResult,
    in_grey,
    overlay,
    overlays,
    to_pixels,
)
from unmasked.analysis.explain.importance import block_importance
from unmasked.analysis.explain.methods import METHODS, Explained, check_methods, method_maps
from unmasked.analysis.explain.tensorboard import log_cams, log_embedding, summary_writer
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_crops, usable_rows
from unmasked.datasets.transforms import normalise
from unmasked.evaluation.levels import clusters_of
from unmasked.preprocessing.provenance import FACES_DIGEST, faces_digests

Progress = Callable[[str, int, int], None]

SPRITE_PX = 64
UNLABELLED = "unlabelled"  # in place of a method that nobody knows


def explain(
    model: Callable[[Tensor], Tensor],
    faces: pd.DataFrame,
    crops_root: Path,
    *,
    layer: nn.Module | None,
    features: Callable[[Tensor], Tensor] | None,
    size_px: int,
    blocks: Mapping[str, slice] | None = None,
    probability: Callable[[np.ndarray], np.ndarray] | None = None,
    config: ExplainConfig | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Grad-CAM pictures and a t-SNE of the test crops, or of all where none is marked test.

    Crops are drawn by the seed, never by how well they suit: for each dataset and method as many videos,
    one crop of each for Grad-CAM.

    Args:
        model: (N, 3, size, size) in [-1, 1] -> (N, 2) logits of real and fake.
        faces: a faces table.
        crops_root: the folder that its crops are relative to.
        layer: the module for Grad-CAM; None skips it, and the summary says so.
        features: (N, 3, size, size) -> (N, D); None skips the t-SNE.
        size_px: side that crops are scaled to before the model sees them.
        blocks: columns of ``features`` by kind, for their importance; None has none.
        probability: (N, D) features -> (N,) P(fake); with ``blocks``.
        config: see `ExplainConfig`.
        progress: called with (what, done, total).

    Raises:
        InputError: no usable crop, or none of the splits that were asked for. Where no t-SNE can be made the
            summary says why under ``skipped``, and the pictures are there.
    """
    config = config or ExplainConfig()
    report = progress or (lambda what, done, total: None)
    crops = _chosen_crops(faces, config.splits)
    # Files whose label nobody knows are a kind of their own, and not left out.
    crops["method"] = crops["method"].astype(object).fillna("label unknown")
    skipped: dict[str, str] = {}
    pictured = _first_crop_of_each_video(crops, config)
    if layer is None or not isinstance(model, nn.Module):
        skipped["Grad-CAM"] = "the detector has no gradients, or no cam_layer"
        pictured = pictured.iloc[:0].assign(score=np.empty(0), blank=np.empty(0, bool))
        empty = np.empty((0, size_px, size_px, 3), np.uint8)
        cams = CamResult(np.empty((0, size_px, size_px), np.float32), empty, empty, np.empty(0, bool))
    else:
        images = torch.cat(list(_batches(pictured, crops_root, size_px, config.batch_size)))
        report("Grad-CAM", 0, len(pictured))
        cams = overlays(model, images, layer, batch_size=config.batch_size)
        report("Grad-CAM", len(pictured), len(pictured))
        pictured = pictured.assign(score=_scores(model, images, config.batch_size), blank=cams.blank)

    explained = Explained(model, layer, config.seed, config.batch_size)
    names = tuple(METHODS) if config.methods == ("all",) else config.methods
    tested, methods = _methods(explained, names, crops, crops_root, size_px, config, report)
    embedded = _spread_rows(crops, config, config.points)
    if features is None:
        skipped["t-SNE"] = "the detector has no features"
    elif len(embedded) < MINIMUM_POINTS:
        skipped["t-SNE"] = f"a map needs at least {MINIMUM_POINTS} crops, and there are {len(embedded)}"
    if features is None:
        embedded = embedded.iloc[:0]
    vectors, scores, sprites = [np.empty((0, 0), np.float32)], [np.empty(0)], []
    for batch in _batches(embedded, crops_root, size_px, config.batch_size):
        assert features is not None
        vectors.append(_call_without_gradients(model, features, batch))
        scores.append(_scores(model, batch, config.batch_size))
        sprites.append(_sprites(batch))
        report("features", sum(map(len, vectors)), len(embedded))
    matrix = np.concatenate(vectors[1:] or vectors).astype(np.float32)
    embedded = embedded.assign(score=np.concatenate(scores))
    points = np.empty((0, 2))
    importance = {}
    if blocks and probability and config.repeats:
        try:
            importance = _importance(embedded, matrix, blocks, probability, config)
        except InputError as error:
            skipped["importance"] = str(error)
    if "t-SNE" not in skipped:
        try:
            points = embed(matrix, perplexity=config.perplexity, seed=config.seed)
        except InputError as error:  # too few points, or all alike: the pictures are there all the same
            skipped["t-SNE"] = str(error)
    if "t-SNE" in skipped:
        embedded, matrix, sprites = embedded.iloc[:0], matrix[:0], []
    embedded = embedded.assign(x=points[:, 0], y=points[:, 1])
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    name = next((name for name, module in modules if module is layer), type(layer).__name__)
    signed = bool(getattr(model, "cam_signed", False))
    summary = {"layer": name, "signed": signed, **_summary(pictured, embedded, matrix, config)}
    summary |= {"skipped": skipped}
    summary |= {"importance": importance} if importance else {}
    summary |= {"methods": [one.facts for one in methods]} if methods else {}
    return Explanation(
        pictured=pictured,
        pictures=cams.pictures,
        overlays=cams.overlays,
        maps=cams.maps,
        embedded=embedded,
        features=matrix,
        sprites=np.concatenate(sprites) if sprites else np.empty((0, SPRITE_PX, SPRITE_PX, 3), np.uint8),
        summary=summary,
        tested=tested,
        methods=methods,
    )


def _methods(
    explained: Explained,
    names: tuple[str, ...],
    crops: pd.DataFrame,
    crops_root: Path,
    size_px: int,
    config: ExplainConfig,
    report: Progress,
) -> tuple[np.ndarray | None, tuple[MethodMaps, ...]]:
    """The pictures, and the maps that each method makes of them with what their tests found."""
    if not names:
        return None, ()
    check_methods(names, explained)
    rows = _spread_rows(crops.drop_duplicates(["dataset", "video"]), config, config.tested)
    images = torch.cat(list(_batches(rows, crops_root, size_px, config.batch_size)))
    pictures, found = to_pixels(images), []
    for number, name in enumerate(names):
        method = METHODS[name]
        report(f"maps: {method.title}", number, len(names))
        maps = method_maps(explained, images, name)
        checks = check_method(explained, images, name, maps)
        drawn = [
            in_grey(picture) if checks.is_failed or is_blank else overlay(picture, one / np.abs(one).max())
            for picture, one, is_blank in zip(pictures, maps, checks.blank, strict=True)
        ]
        facts = {"title": method.title, "absent": method.absent, **checks.model_dump(mode="json")}
        found.append(MethodMaps(method.title, np.stack(drawn), facts))
    report("maps", len(names), len(names))
    return pictures, tuple(found)


def _importance(
    rows: pd.DataFrame,
    vectors: np.ndarray,
    blocks: Mapping[str, slice],
    probability: Callable[[np.ndarray], np.ndarray],
    config: ExplainConfig,
) -> dict[str, Any]:
    known = rows["label"].notna().to_numpy()
    return block_importance(
        probability,
        vectors[known],
        rows["label"][known].to_numpy(np.int64),
        clusters_of(rows)[known],
        blocks,
        repeats=config.repeats,
        seed=config.seed,
    ).facts()


def log_explanation(explanation: Explanation, folder: Path, *, step: int = 0) -> None:
    """Shows an explanation in TensorBoard: pictures, and labelled features in the projector."""
    assert explanation.features is not None
    rows = explanation.pictured
    place = rows.groupby(["dataset", "method"]).cumcount() + 1
    names = [
        f"{dataset}/{method}/{number}"
        for dataset, method, number in zip(rows["dataset"], rows["method"], place, strict=True)
    ]
    metadata = explanation.embedded.drop(columns=["x", "y"])
    with summary_writer(folder) as writer:
        log_cams(writer, explanation.pictures, explanation.overlays, names, step=step)
        if len(metadata):
            log_embedding(writer, explanation.features, metadata, pictures=explanation.sprites, step=step)


def _chosen_crops(faces: pd.DataFrame, splits: tuple[str, ...]) -> pd.DataFrame:
    ok = usable_rows(faces.assign(**{FACES_DIGEST: faces_digests(faces)}))
    if ok.empty:
        raise InputError("the faces table has no crop with status ok; run `unmasked preprocess` first")
    if splits:
        chosen = ok[ok["split"].isin(splits)]
        if chosen.empty:
            counts = ok["split"].value_counts()
            listed = ", ".join(f"{split} {count}" for split, count in counts.items())
            raise InputError(
                f"splits {', '.join(splits)} have no crop in the faces table; it has {listed}. Choose with "
                "splits=[…]"
            )
        return chosen.reset_index(drop=True)
    of_test = ok[ok["split"] == "test"]
    chosen = (ok if of_test.empty else of_test).reset_index(drop=True)
    return chosen.assign(method=chosen["method"].fillna(UNLABELLED))  # they are shown as a group of their own


def _first_crop_of_each_video(rows: pd.DataFrame, config: ExplainConfig) -> pd.DataFrame:
    rng = np.random.default_rng(config.seed)
    shuffled = rows.iloc[rng.permutation(len(rows))].drop_duplicates(["dataset", "video"])
    chosen = shuffled.groupby(["dataset", "method"], sort=True).head(config.pictures)
    return chosen.sort_values(["dataset", "label", "method", "video"]).reset_index(drop=True)


def _spread_rows(rows: pd.DataFrame, config: ExplainConfig, most: int) -> pd.DataFrame:
    """At most ``most`` rows, as evenly as they allow over datasets, methods and videos."""
    rng = np.random.default_rng(config.seed + 1)
    shuffled = rows.iloc[rng.permutation(len(rows))]
    shuffled = shuffled.groupby(["dataset", "video"]).head(config.crops_per_video)
    # The first row of every kind, then the second of every kind, until there are enough.
    turn = shuffled.groupby(["dataset", "method"]).cumcount()
    chosen = shuffled.iloc[np.argsort(turn.to_numpy(), kind="stable")[:most]]
    return chosen.sort_values(["dataset", "label", "method", "video", "frame"]).reset_index(drop=True)


def _batches(rows: pd.DataFrame, crops_root: Path, size_px: int, batch_size: int) -> Iterator[Tensor]:
    paths = crop_paths(rows["crop"], crops_root)
    for start in range(0, len(paths), batch_size):
        pixels = read_crops(paths[start : start + batch_size], size_px)
        yield normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))


def _scores(model: Callable[[Tensor], Tensor], images: Tensor, batch_size: int) -> np.ndarray:
    logits = [_call_without_gradients(model, model, batch) for batch in images.split(batch_size)]
    return torch.softmax(torch.from_numpy(np.concatenate(logits)).double(), dim=1)[:, 1].numpy()


def _call_without_gradients(
    model: Callable[[Tensor], Tensor], function: Callable[[Tensor], Tensor], images: Tensor
) -> np.ndarray:
    if not isinstance(model, nn.Module):
        return function(images).float().cpu().numpy()
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
    pictured: pd.DataFrame, embedded: pd.DataFrame, features: np.ndarray, config: ExplainConfig
) -> dict[str, Any]:
    clusters = clusters_of(embedded)
    splits = {*pictured["split"], *embedded["split"]}
    points = embedded[["x", "y"]].to_numpy()
    purity = {}
    for name, label in (("real or fake", embedded["label"]), ("dataset", embedded["dataset"])):
        if label.nunique() > 1:
            known = label.notna().to_numpy()
            in_features = neighbour_purity(features[known], label[known], clusters=clusters[known])
            on_page = neighbour_purity(points[known], label[known], clusters=clusters[known])
            purity[name] = {
                "features": in_features.value,
                "tsne": on_page.value,
                "chance": in_features.chance,
            }
            purity[name]["k"] = in_features.k
    return {
        "target": "fake",
        "pictures": len(pictured),
        "blank": int(pictured["blank"].sum()),
        "crops": len(embedded),
        "videos": int(embedded.groupby(["dataset", "video"]).ngroups),
        "split": ", ".join(config.splits) or ("test" if splits == {"test"} else "all"),
        "feature_size": int(features.shape[1]),
        "perplexity": usable_perplexity(len(embedded), config.perplexity) if len(embedded) else None,
        "purity": purity,
        "settings": config.model_dump(mode="json"),
    }
