"""Maps of the most suspicious frames: where in a face the detector found evidence.

Each is tested. A map that fails its tests is no map: the frame is drawn in grey, and the reason stands
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unmasked.inspection.records import Look, Map, Maps, Person

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 3  # frames of each person
PEOPLE_MAX = 6
FOLDER = "maps"


@dataclass(frozen=True)
class Drawn:
    """The maps of N pictures.

    Attributes:
        method: the title of the method.
        pictures: (N, H, W, 3) uint8 RGB, the map over the picture; in grey where it says nothing.
        blank: for each, whether nothing in it is evidence.
        failed: what the tests found against all of them, in words; none where they passed.
    """

    method: str
    pictures: NDArray[np.uint8]
    blank: list[bool]
    failed: list[str]


# Pictures (N, 3, H, W) in [-1, 1], and whose face each shows, to their maps.
Draw = Callable[["Tensor", Sequence[int]], Drawn]


def suspicious(people: Sequence[Person], looks: Sequence[Look]) -> list[Look]:
    """The crops with the highest scores of each person who was judged."""
    judged = [one.number for one in people if one.score is not None][:PEOPLE_MAX]
    found = []
    for number in judged:
        theirs = [look for look in looks if look.person == number]
        found += sorted(theirs, key=lambda look: -look.score)[:SHOWN]
    return found


def draw_maps(model: Any, images: Tensor, people: Sequence[int]) -> Drawn:
    """The maps of pictures, by Grad-CAM where the detector has a layer, else by occlusion.

    Args:
        model: the detector.
        images: (N, 3, H, W) in [-1, 1].
        people: whose face each shows; maps of one face are alike by nature.
    """
    import torch

    from unmasked.analysis.explain.checks import check_method
    from unmasked.analysis.explain.gradcam import in_grey, overlay, smooth_map, to_pixels
    from unmasked.analysis.explain.methods import METHODS, Explained, method_maps

    is_module = isinstance(model, torch.nn.Module)
    layer = getattr(model, "cam_layer", None) if is_module else None
    name = "grad_cam" if isinstance(layer, torch.nn.Module) else "occlusion"
    if is_module:
        images = images.to(next(model.parameters()).device)
    explained = Explained(model, layer)
    maps = method_maps(explained, images, name)
    checks = check_method(explained, images, name, maps, sources=people, is_brief=True)
    pictures = [
        in_grey(picture) if checks.is_failed or is_blank else overlay(picture, smooth_map(one))
        for picture, one, is_blank in zip(to_pixels(images), maps, checks.blank, strict=True)
    ]
    failed = checks.failed if checks.is_failed else []
    return Drawn(METHODS[name].title, np.stack(pictures), checks.blank, failed)


def write_maps(looks: Sequence[Look], folder: Path, size_px: int, draw: Draw) -> Maps | None:
    """What the maps of looks are, written into the case folder; None where there are no looks.

    Args:
        looks: with their crops below the folder.
        folder: of the case.
        size_px: of the images that the detector takes.
        draw: makes them.
    """
    if not looks:
        return None
    import cv2
    import torch

    from unmasked.datasets.loading import read_crops
    from unmasked.datasets.transforms import normalise

    pixels = read_crops([folder / look.crop for look in looks], size_px)
    images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    drawn = draw(images, [look.person for look in looks])
    (folder / FOLDER).mkdir(exist_ok=True)
    shown = []
    for look, picture, is_blank in zip(looks, drawn.pictures, drawn.blank, strict=True):
        place = f"{FOLDER}/{Path(look.crop).stem}.png"
        cv2.imwrite(str(folder / place), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        shown.append(Map(crop=look.crop, file=place, is_blank=is_blank))
    return Maps(method=drawn.method, shown=shown, sentences=drawn.failed)
