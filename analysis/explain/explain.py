"""A detector explained on its test crops: tested maps, Grad-CAM, mean maps, t-SNE."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from unmasked.analysis.explain.checks import check_method, check_passes, other_orders
from unmasked.analysis.explain.config import ExplainConfig
from unmasked.analysis.explain.embedding import MINIMUM_POINTS, embed, neighbour_purity, usable_perplexity
from unmasked.analysis.explain.explanation import Explanation, MethodMaps
from unmasked.analysis.explain.gradcam import (
    CamResult,
    in_grey,
    overlay,
    overlays,
    smooth_map,
    to_pixels,
)
from unmasked.analysis.explain.importance import block_importance
from unmasked.analysis.explain.mean_maps import group_differences, map_cells, mean_maps
from unmasked.analysis.explain.methods import (
    METHODS,
    Explained,
    check_methods,
    find_layer,
    fitting_methods,
    method_maps,
)
from unmasked.analysis.explain.regions import crop_scale, region_shares
from unmasked.analysis.explain.tensorboard import log_cams, log_embedding, summary_writer
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_crops, read_whole, usable_rows
from unmasked.datasets.transforms import normalise
from unmasked.evaluation.levels import clusters_of
from unmasked.fairness.groups import UNKNOWN, group_columns
from unmasked.preprocessing.provenance import FACES_DIGEST, faces_digests

Progress = Callable[[str, int, int], None]
Read = Callable[[pd.DataFrame], Iterator[Tensor]]
Masks = Callable[[pd.DataFrame], np.ndarray]

SPRITE_PX = 64
COUNTED = "maps and their tests, pictures through the detector"
DRAWN = 12  # tested pictures that are shown, at most
FRAME_PX = 128  # side of the mean picture below mean maps
AUTO = ("grad_cam", "integrated_gradients", "occlusion")  # one after the other, until one passes its tests
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
    masks: Masks | None = None,
    new: tuple[pd.DataFrame, Path] | None = None,
    config: ExplainConfig | None = None,
    progress: Progress | None = None,
    expect: Callable[[float], None] | None = None,
) -> Explanation:
    """Tested maps, Grad-CAM pictures and a t-SNE of the test crops.

    Of all crops where none is marked test.

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
        masks: gives (N, size, size) bool of rows of the faces table, True where a crop was changed and
            nowhere where that is not known; see `masks.changed_places`.
        new: a faces table and its folder, whose crops are placed into the t-SNE of the others.
        config: see `ExplainConfig`.
        progress: called with (what, done, total).
        expect: called with the seconds that maps and their tests will take, before they are made.

    Raises:
        InputError: no usable crop, or none of the splits that were asked for; a method, layer or attribute
            that there is not. Where no t-SNE can be made the summary says why under ``skipped``, and the
            pictures are there.
    """
    config = config or ExplainConfig()
    report = progress or (lambda what, done, total: None)
    layer = find_layer(model, config.layer) if config.layer else layer
    crops = _chosen_crops(faces, config.splits)
    # Files whose label nobody knows are a kind of their own, and not left out.
    crops["method"] = crops["method"].astype(object).fillna("label unknown")
    groups = group_columns(crops, config.by) if config.by else pd.DataFrame(index=crops.index)
    crops = crops.assign(**{str(name): groups[name] for name in groups})
    read = partial(_batches, crops_root=crops_root, size_px=size_px, batch_size=config.batch_size)
    shown = _spread_rows(crops.drop_duplicates(["dataset", "video"]), config, config.tested)
    side = read_whole(crop_paths(shown["crop"], crops_root)[0]).shape[0]
    explained = Explained(
        model, layer, config.seed, config.batch_size, crop_scale(shown[_is_aligned(shown)], side)
    )
    skipped: dict[str, str] = {}

    tested, drawn, methods = _methods(explained, shown, read, masks, config, report, expect)
    pictured, cams = _cams(explained, crops, read, methods, config, report, skipped)
    averaged, picture = _averaged(explained, crops, read, methods, list(groups), config, report, skipped)
    embedded = _spread_rows(crops, config, config.points)
    if features is None:
        skipped["t-SNE"] = "the detector has no features"
    elif len(embedded) < MINIMUM_POINTS:
        skipped["t-SNE"] = f"a map needs at least {MINIMUM_POINTS} crops, and there are {len(embedded)}"
    if features is None:
        embedded = embedded.iloc[:0]
    embedded, matrix, sprites = _features(explained, features, embedded, read, report)
    importance = {}
    if blocks and probability and config.repeats:
        try:
            importance = _importance(embedded, matrix, blocks, probability, config)
        except InputError as error:
            skipped["importance"] = str(error)
    embedded, placed = _place_points(explained, features, embedded, matrix, new, size_px, config, skipped)
    if "t-SNE" in skipped:
        matrix, sprites = matrix[:0], sprites[:0]
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    name = next((name for name, module in modules if module is layer), type(layer).__name__)
    signed = bool(getattr(model, "cam_signed", False))
    attributes = [str(one) for one in groups]
    summary = {"layer": name, "signed": signed, **_summary(pictured, embedded, matrix, attributes, config)}
    summary |= {"skipped": skipped}
    summary |= {"importance": importance} if importance else {}
    if methods:
        summary |= {"methods": [one.facts for one in methods], "tested": drawn}
    summary |= {"averaged": averaged} if averaged else {}
    return Explanation(
        pictured=pictured,
        pictures=cams.pictures,
        overlays=cams.overlays,
        maps=cams.maps,
        embedded=embedded,
        features=matrix,
        sprites=sprites,
        summary=summary,
        tested=tested,
        methods=methods,
        placed=placed,
        mean_picture=picture,
    )


def _cams(
    explained: Explained,
    crops: pd.DataFrame,
    read: Read,
    methods: Sequence[MethodMaps],
    config: ExplainConfig,
    report: Progress,
    skipped: dict[str, str],
) -> tuple[pd.DataFrame, CamResult]:
    """Grad-CAM pictures of every kind of crop; in grey where the method failed its tests."""
    model, layer = explained.model, explained.layer
    pictured = _first_crop_of_each_video(crops, config)
    if layer is None or not isinstance(model, nn.Module):
        skipped["Grad-CAM"] = "the detector has no gradients, or no cam_layer"
        size_px = next(read(crops.iloc[:1])).shape[-1]
        empty = np.empty((0, size_px, size_px, 3), np.uint8)
        cams = CamResult(np.empty((0, size_px, size_px), np.float32), empty, empty, np.empty(0, bool))
        return pictured.iloc[:0].assign(score=np.empty(0), blank=np.empty(0, bool)), cams
    images = torch.cat(list(read(pictured)))
    report("Grad-CAM", 0, len(pictured))
    cams = overlays(model, images, layer, batch_size=config.batch_size)
    report("Grad-CAM", len(pictured), len(pictured))
    if any(one.facts["method"] == "grad_cam" and one.is_failed for one in methods):
        cams = replace(cams, overlays=np.stack([in_grey(one) for one in cams.pictures]))
    return pictured.assign(score=_scores(model, images, config.batch_size), blank=cams.blank), cams


def _methods(
    explained: Explained,
    rows: pd.DataFrame,
    read: Read,
    masks: Masks | None,
    config: ExplainConfig,
    report: Progress,
    expect: Callable[[float], None] | None,
) -> tuple[np.ndarray | None, list[dict[str, Any]], tuple[MethodMaps, ...]]:
    """The pictures, what they are, and each method's maps of them with what their tests found.

    All are tested, and at most `DRAWN` of them shown.
    """
    is_auto = config.methods == ("auto",)
    fitting = fitting_methods(explained)
    names = tuple(METHODS) if config.methods == ("all",) else config.methods
    names = tuple(name for name in AUTO if name in fitting) if is_auto else names
    if not names:
        return None, [], ()
    check_methods(names, explained)
    images = torch.cat(list(read(rows)))
    changed = masks(rows) if masks is not None else None
    score = _scores(explained.model, images, explained.batch_size)
    passes = check_passes(explained, names[:1] if is_auto else names, len(images))
    if expect is not None:
        expect(passes * _pass_seconds(explained, images))
    counter = _Counter(report, passes)
    explained = replace(explained, count=counter)
    others = other_orders(explained, images)
    at = np.linspace(0, len(images) - 1, min(DRAWN, len(images))).astype(int)
    pictures, found = to_pixels(images[at]), []
    for number, name in enumerate(names):
        method = METHODS[name]
        if is_auto and number:
            counter.total += check_passes(explained, [name], len(images))
        maps = method_maps(explained, images, name)
        checks = check_method(explained, images, name, maps, changed, people=clusters_of(rows), others=others)
        drawn = [
            in_grey(picture) if checks.is_failed or is_blank else overlay(picture, smooth_map(one))
            for picture, one, is_blank in zip(pictures, maps[at], np.array(checks.blank)[at], strict=True)
        ]
        facts = {"title": method.title, "absent": method.absent, **checks.model_dump(mode="json")}
        if (is_read := _is_aligned(rows) & ~np.array(checks.blank)).any():
            facts["regions"] = region_shares(maps[is_read], explained.scale)
        found.append(MethodMaps(method.title, np.stack(drawn), facts))
        if is_auto and not checks.failed:
            break
    counter.finish()
    columns = ["dataset", "video", "method", "label", "crop"]
    shown = rows.iloc[at][columns].assign(score=score[at]).replace({np.nan: None}).to_dict("records")
    # What can be trusted comes first.
    return pictures, shown, tuple(sorted(found, key=lambda one: one.is_failed))


class _Counter:
    """Tells how many pictures went through the detector, of as many as maps and tests need."""

    def __init__(self, report: Progress, total: float) -> None:
        self.report, self.total, self.done = report, total, 0.0

    def __call__(self, pictures: float) -> None:
        self.done = min(self.done + pictures, self.total - 1)
        self.report(COUNTED, round(self.done), round(self.total))

    def finish(self) -> None:
        """Says that all is done; blank maps need less than was expected."""
        self.report(COUNTED, round(self.total), round(self.total))


def _pass_seconds(explained: Explained, images: Tensor) -> float:
    """How long a picture is in the detector, without gradients; the first call makes a network ready."""
    some = images[: explained.batch_size]
    explained.margins(some)
    since = time.monotonic()
    explained.margins(some)
    return (time.monotonic() - since) / len(some)


def _averaged(
    explained: Explained,
    crops: pd.DataFrame,
    read: Read,
    methods: Sequence[MethodMaps],
    by: list[str],
    config: ExplainConfig,
    report: Progress,
    skipped: dict[str, str],
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Mean maps of many crops with what differs between groups, and the crops' mean picture."""
    if not config.averaged:
        return {}, None
    passed = [one.facts["method"] for one in methods if not one.is_failed]
    if not passed:
        skipped["mean maps"] = "no method passed its tests, and a mean of maps that failed says nothing"
        return {}, None
    rows = _spread_rows(crops, config, config.averaged)
    cells, done = [], 0
    total = torch.zeros(3, FRAME_PX, FRAME_PX, dtype=torch.float64)
    for images in read(rows):
        cells.append(map_cells(method_maps(explained, images, passed[0])))
        small = nn.functional.interpolate(images, size=(FRAME_PX, FRAME_PX), mode="area")
        total += small.double().sum(dim=0)
        done += len(images)
        report("mean maps", done, len(rows))
    values = np.concatenate(cells)
    found = {
        "method": passed[0],
        "title": METHODS[passed[0]].title,
        "crops": len(rows),
        "aligned": bool(_is_aligned(rows).all()),
        "means": [asdict(one) | {"cells": one.cells.tolist()} for one in mean_maps(rows, values, by)],
        "differences": [
            one.model_dump(mode="json") | {"is_found": one.is_found}
            for one in (group_differences(rows, values, by, seed=config.seed) if by else [])
        ],
    }
    return found, to_pixels((total / len(rows)).float()[None])[0]


def _features(
    explained: Explained,
    features: Callable[[Tensor], Tensor] | None,
    rows: pd.DataFrame,
    read: Read,
    report: Progress,
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The rows with their scores, their (N, D) features, and small pictures of them."""
    vectors, scores, sprites = [np.empty((0, 0), np.float32)], [np.empty(0)], []
    for batch in read(rows):
        assert features is not None
        vectors.append(_call_without_gradients(explained.model, features, batch))
        scores.append(_scores(explained.model, batch, explained.batch_size))
        sprites.append(_sprites(batch))
        report("features", sum(map(len, vectors)), len(rows))
    matrix = np.concatenate(vectors[1:] or vectors).astype(np.float32)
    empty = np.empty((0, SPRITE_PX, SPRITE_PX, 3), np.uint8)
    return rows.assign(score=np.concatenate(scores)), matrix, np.concatenate(sprites) if sprites else empty


def _place_points(
    explained: Explained,
    features: Callable[[Tensor], Tensor] | None,
    embedded: pd.DataFrame,
    matrix: np.ndarray,
    new: tuple[pd.DataFrame, Path] | None,
    size_px: int,
    config: ExplainConfig,
    skipped: dict[str, str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the t-SNE with their places, and those of new crops that are placed into it."""
    none = pd.DataFrame(columns=["dataset", "video", "frame", "x", "y"])
    fitted = None
    if "t-SNE" not in skipped:
        try:
            fitted = embed(matrix, perplexity=config.perplexity, seed=config.seed)
        except InputError as error:  # too few points, or all alike: the pictures are there all the same
            skipped["t-SNE"] = str(error)
    if fitted is None:
        return embedded.iloc[:0].assign(x=np.empty(0), y=np.empty(0)), none
    embedded = embedded.assign(x=fitted.points[:, 0], y=fitted.points[:, 1])
    if new is None:
        return embedded, none
    rows = _spread_rows(_chosen_crops(new[0], ()), config, config.points)
    batches = _batches(rows, new[1], size_px, config.batch_size)
    assert features is not None
    vectors = [_call_without_gradients(explained.model, features, batch) for batch in batches]
    points = fitted.place(np.concatenate(vectors))
    return embedded, rows.assign(x=points[:, 0], y=points[:, 1])


def _is_aligned(rows: pd.DataFrame) -> np.ndarray:
    """(N,) True where a crop is aligned, so that parts of the face lie where they do in others."""
    return (rows.get("crops", pd.Series("cut", rows.index)) != "as_is").to_numpy(bool)


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
    # Words, and method first: the projector names points by the first column, and reads numbers as amounts.
    metadata = explanation.embedded.drop(columns=["x", "y"]).assign(
        label=explanation.embedded["label"].map({0: "real", 1: "fake"})
    )
    first = ["method", "label", "dataset", *explanation.summary["by"]]
    metadata = metadata[[*first, *metadata.columns.difference(first, sort=False)]]
    with summary_writer(folder) as writer:
        is_failed = any(one.is_failed for one in explanation.methods if one.facts["method"] == "grad_cam")
        if is_failed and explanation.trusted and explanation.tested is not None:
            # Grey pictures would say nothing: the maps that passed stand in their place.
            best = explanation.trusted[0]
            numbers = [f"{best.title}/{number}" for number in range(1, len(explanation.tested) + 1)]
            log_cams(writer, explanation.tested, best.overlays, numbers, step=step)
        else:
            blank = rows["blank"].to_numpy(bool) | is_failed
            log_cams(writer, explanation.pictures, explanation.overlays, names, blank=blank, step=step)
        if len(metadata):
            sprites = explanation.sprites
            log_embedding(writer, explanation.features, metadata, pictures=sprites, colours=first, step=step)


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
    pictured: pd.DataFrame,
    embedded: pd.DataFrame,
    features: np.ndarray,
    attributes: Sequence[str],
    config: ExplainConfig,
) -> dict[str, Any]:
    clusters = clusters_of(embedded)
    splits = {*pictured["split"], *embedded["split"]}
    points = embedded[["x", "y"]].to_numpy()
    purity = {}
    labels = {"real or fake": embedded["label"], "dataset": embedded["dataset"], "method": embedded["method"]}
    for name, label in (labels | {one: embedded[one] for one in attributes}).items():
        if label.nunique() > 1:
            known = (label.notna() & (label != UNKNOWN)).to_numpy()
            in_features = neighbour_purity(features[known], label[known], clusters=clusters[known])
            on_page = neighbour_purity(points[known], label[known], clusters=clusters[known])
            purity[name] = {
                "features": in_features.value,
                "features_ci": list(in_features.ci),
                "tsne": on_page.value,
                "tsne_ci": list(on_page.ci),
                "chance": in_features.chance,
                "k": in_features.k,
            }
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
        "by": list(attributes),
        "settings": config.model_dump(mode="json"),
    }
