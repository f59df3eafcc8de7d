"""What an explanation consists of, and its files in a run's folder. Needs no torch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from unmasked.analysis.figures.display import save_figure
from unmasked.analysis.figures.pictures import (
    CamGridDisplay,
    CamRow,
    EmbeddingDisplay,
    MeanMapDisplay,
    MethodGridDisplay,
)
from unmasked.analysis.reports.gallery import slug
from unmasked.datasets.archives import check_zip
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path
from unmasked.datasets.tables import read_frame, write_frame
from unmasked.evaluation.wording import value_text

FOLDER = "explain"  # inside a run's folder
# What zipfile, zlib and NumPy raise on damaged archives; RuntimeError: it says that it is encrypted.
DAMAGED = (
    *(OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error, RuntimeError, MemoryError),
    *(AttributeError, TypeError, IndexError, OverflowError),
)


@dataclass(frozen=True)
class MethodMaps:
    """The maps of one method and what their tests found.

    Attributes:
        title: the method in words.
        overlays: (n, H, W, 3) uint8 the maps over the pictures; grey where a map cannot be trusted.
        facts: see `checks.MethodChecks`, as for JSON.
    """

    title: str
    overlays: np.ndarray
    facts: dict[str, Any]

    @property
    def is_failed(self) -> bool:
        """True if no map of the method can be trusted; older files say it by their reasons."""
        return bool(self.facts.get("is_failed", self.facts["failed"]))


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes:
        pictured: a row for each Grad-CAM picture: where it is from, its score, is its map blank.
        pictures, overlays: (n, H, W, 3) uint8 of these rows, see `gradcam.CamResult`.
        maps: (n, H, W) float32 in [0, 1], or [-1, 1], see `gradcam.CamResult`.
        embedded: a row for each crop in the t-SNE, with its x and y and its score.
        features: (N, D) float32 of these crops; None where read back from a run's folder.
        sprites: (N, 64, 64, 3) uint8 small pictures of these crops; None where read back.
        summary: numbers in words' reach: layer, counts, purity of neighbourhoods, settings.
        tested: (n, H, W, 3) uint8 the pictures of the further methods.
        methods: their maps, those that passed their tests first.
        placed: new crops with their place in the t-SNE of the others.
        mean_picture: (H, W, 3) uint8 the mean of the crops whose maps were averaged; None where none were.
    """

    pictured: pd.DataFrame
    pictures: np.ndarray
    overlays: np.ndarray
    maps: np.ndarray
    embedded: pd.DataFrame
    features: np.ndarray | None
    sprites: np.ndarray | None
    summary: dict[str, Any]
    tested: np.ndarray | None = None
    methods: tuple[MethodMaps, ...] = ()
    placed: pd.DataFrame | None = None
    mean_picture: np.ndarray | None = None

    @property
    def trusted(self) -> list[MethodMaps]:
        """The methods whose maps passed every test."""
        return [one for one in self.methods if not one.is_failed]

    def cam_doubt(self) -> str:
        """Why the Grad-CAM pictures cannot be trusted, in words; "" where they can."""
        found = [one for one in self.methods if one.facts["method"] == "grad_cam"]
        if not found:
            return "not put to the tests"
        return outcome(found[0].facts) if found[0].is_failed else ""

    def labels(self) -> dict[str, pd.Series]:
        """What the points of the t-SNE can be coloured by: label, method, dataset, groups."""
        rows = self.embedded
        names = {"real and fake": rows["label"].map({0: "real", 1: "fake"}), "method": rows["method"]}
        names |= {"dataset": rows["dataset"]}
        names |= {name: rows[name] for name in self.summary.get("by", []) if name in rows}
        return {
            name: label
            for name, label in names.items()
            if name in ("real and fake", "method") or label.nunique() > 1
        }

    def embeddings(self) -> dict[str, EmbeddingDisplay]:
        """The t-SNE by each of `labels`, with new crops on it."""
        points = self.embedded[["x", "y"]].to_numpy()
        placed = self.placed[["x", "y"]].to_numpy() if self.placed is not None else None
        return {
            name: EmbeddingDisplay(points, label.to_numpy(), f"by {name}", placed)
            for name, label in (self.labels() if len(points) else {}).items()
        }

    def method_rows(self) -> list[tuple[str, np.ndarray, str]]:
        """Title, overlays and the `outcome` of each method."""
        return [(one.title, one.overlays, outcome(one.facts)) for one in self.methods]

    def tested_labels(self) -> list[str]:
        """What each tested picture is, with its P(fake); older files do not say it."""
        return [
            f"{'unknown' if one['label'] is None else 'fake' if one['label'] else 'real'}, {one['score']:.2f}"
            for one in self.summary.get("tested", [])
        ]

    def cam_rows(self, datasets: Sequence[str] = ()) -> list[CamRow]:
        """The Grad-CAM pictures by dataset and method: reals first, ``datasets`` before others."""
        rows = []
        several = self.pictured["dataset"].nunique() > 1
        place = {name: position for position, name in enumerate(datasets)}
        ordered = self.pictured.assign(place=self.pictured["dataset"].map(place).fillna(len(place)))
        by = ["place", "dataset", "label", "method"]
        for (_, dataset, _, method), part in ordered.groupby(by, dropna=False):
            name = f"{dataset}\n{method}" if several else str(method)
            at = part.index.to_numpy()
            score, blank = part["score"].to_numpy(), part["blank"].to_numpy()
            rows.append(CamRow(name, self.pictures[at], self.overlays[at], score, blank))
        return rows


def write_explanation(explanation: Explanation, run: Path) -> Path:
    """Writes ``explain/`` into a run's folder and returns it.

    It holds ``explain.json`` (what and how), ``cams.npz`` (pictures, overlays, maps), ``pictured.parquet``
    and ``embedding.parquet`` (a row a crop), ``placed.parquet`` (new crops in the t-SNE), and to look at
    ``cam.png``, ``methods.png``, ``mean_maps.png``, ``tsne.png``, and for print ``tsne_<colours>.svg`` and
    ``.pdf``.
    """
    folder = run / FOLDER
    maps = (explanation.maps * 255).round().astype(np.int16)  # some have a sign
    with atomic_path(folder / "cams.npz") as path:
        further: dict[str, Any] = {
            f"method_{one.facts['method']}": one.overlays for one in explanation.methods
        }
        for name in ("tested", "mean_picture"):
            if (pixels := getattr(explanation, name)) is not None:
                further[name] = pixels
        np.savez_compressed(
            path, pictures=explanation.pictures, overlays=explanation.overlays, maps=maps, **further
        )
    write_frame(explanation.pictured, folder / "pictured.parquet")
    write_frame(explanation.embedded, folder / "embedding.parquet")
    placed = folder / "placed.parquet"
    if explanation.placed is not None and len(explanation.placed):
        write_frame(explanation.placed, placed)
    else:
        placed.unlink(missing_ok=True)
    displays: dict[str, CamGridDisplay | EmbeddingDisplay | MethodGridDisplay | MeanMapDisplay] = {}
    if explanation.methods and explanation.tested is not None:
        displays["methods.png"] = MethodGridDisplay(
            explanation.tested, explanation.method_rows(), explanation.tested_labels()
        )
    if len(explanation.pictured):
        displays["cam.png"] = CamGridDisplay(explanation.cam_rows(), explanation.cam_doubt())
    if explanation.mean_picture is not None:
        displays["mean_maps.png"] = MeanMapDisplay(explanation.mean_picture, explanation.summary["averaged"])
    embeddings = explanation.embeddings()
    if embeddings:
        displays["tsne.png"] = embeddings["method"]
    for name, embedding in embeddings.items():
        displays |= {f"tsne_{slug(name)}.{suffix}": embedding for suffix in ("svg", "pdf")}
    for path in (*folder.glob("*.png"), *folder.glob("tsne_*")):
        if path.name not in displays:
            path.unlink()  # of an earlier run
    for name, display in displays.items():
        with atomic_path(folder / name) as path:
            save_figure(display.plot().figure_, path, dpi=100)
    write_json(folder / "explain.json", explanation.summary)
    return folder


def outcome(facts: Mapping[str, Any]) -> str:
    """Whether a method's maps can be read, and why not, in words.

    Args:
        facts: see `checks.MethodChecks`, as for JSON.
    """
    reasons = "; ".join(facts["failed"])
    if not reasons:
        return "passed"
    if not facts.get("is_failed", True):
        return f"passed, but {reasons}"
    if facts["pictures"] == 1 and len(facts["failed"]) == 1 and not any(facts["blank"]):
        return f"not tested, so not shown: {reasons}"
    return f"failed, so not shown: {reasons}"


def importance_table(importance: Mapping[str, Any]) -> pd.DataFrame:
    """What each block of features is worth, as text, the largest first.

    Columns: block, features, shapley, drop.
    """
    rows = sorted(importance["blocks"], key=lambda row: -row["shapley"])
    values = {
        name: [value_text(row[name], [row[f"{name}_low"], row[f"{name}_high"]], places=3) for row in rows]
        for name in ("shapley", "drop")
    }
    return pd.DataFrame({name: [row[name] for row in rows] for name in ("block", "features")} | values)


def method_table(methods: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What the tests found of each method, as text."""
    rows = []
    for facts in methods:
        row = {"method": facts["title"], "blank": f"{sum(facts['blank'])} of {facts['pictures']}"}
        row["alike"] = value_text(facts["alike"])
        row["shuffled"] = ", ".join(map(value_text, facts["shuffled"])) or "–"
        for test in ("deletion", "insertion"):
            for other, found in facts[test].items():
                row[f"{test}_{other}"] = value_text(found["value"], found["ci"], plus=True)
        rows.append(row | {"said": outcome(facts)})
    return pd.DataFrame(rows).fillna("–")


def inside_table(methods: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """How much of each method's maps lies inside the masks, as text; empty without masks."""
    rows = []
    for facts in methods:
        if inside := facts.get("inside"):
            row = {"method": facts["title"], "fakes": str(inside["pictures"])}
            for name in ("pointing", "mass", "rank"):
                own, less = inside["shares"][name], inside["less_centre"][name]
                row[name] = value_text(own["value"], own["ci"])
                row[f"{name} less centre"] = value_text(less["value"], less["ci"], plus=True)
            rows.append(row | {"chance": value_text(inside["chance"])})
    return pd.DataFrame(rows)


def averaged_lines(averaged: Mapping[str, Any] | None) -> list[str]:
    """Where two groups' mean maps differ, a line a comparison."""
    if not averaged:
        return []
    found = [f"mean maps of {averaged['crops']} crops, {averaged['title']}"]
    for one in averaged["differences"]:
        said = one["reason"] or (
            f"p = {one['p_adjusted']:.3g}: {'they differ' if one['is_found'] else 'no difference found'}"
        )
        first, second = one["groups"]
        found.append(
            f"  {one['dataset']}, {one['kind']}s, {first} ({one['people'][0]}) and {second} "
            f"({one['people'][1]} people): {said}"
        )
    return found


def method_lines(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the tests say of each method, a line a method."""
    return [f"  {facts['title']}: {outcome(facts)}" for facts in methods]


def importance_lines(importance: Mapping[str, Any] | None) -> list[str]:
    """What each block of features is worth, a line a block, the most important first."""
    if not importance:
        return []
    first = (
        f"what the AUC of {importance['auc']:.3f} owes to each block (Shapley values, in all "
        f"{importance['auc'] - importance['chance']:.3f} above the {importance['chance']:.3f} of no block), "
        "and its drop without the block:"
    )
    rows = importance_table(importance).itertuples()
    return [first] + [f"  {row.block:9} {row.shapley}, drop {row.drop}" for row in rows]


def read_explanation(run: Path) -> Explanation | None:
    """What `write_explanation` left in a run's folder; None if it is not there.

    Raises:
        InputError: it is there, and damaged.
    """
    folder = run / FOLDER
    if not (folder / "explain.json").is_file():
        return None
    check_zip(folder / "cams.npz")
    try:
        with open(folder / "cams.npz", "rb") as file, np.load(file, allow_pickle=False) as arrays:
            maps = arrays["maps"].astype(np.float32) / 255
            pictures, overlays = arrays["pictures"], arrays["overlays"]
            summary = json.loads((folder / "explain.json").read_text(encoding="utf-8"))
            methods = tuple(
                MethodMaps(facts["title"], arrays[f"method_{facts['method']}"], facts)
                for facts in summary.get("methods", [])
            )
            tested = arrays["tested"] if methods else None
            mean_picture = arrays.get("mean_picture")
    except DAMAGED as error:
        raise InputError(f"{folder} is damaged ({error}); run `unmasked explain` again") from error
    pictured = read_frame(folder / "pictured.parquet")
    embedded = read_frame(folder / "embedding.parquet")
    placed = folder / "placed.parquet"
    return Explanation(
        pictured,
        pictures,
        overlays,
        maps,
        embedded,
        None,
        None,
        summary,
        tested,
        methods,
        read_frame(placed) if placed.is_file() else None,
        mean_picture,
    )
