"""Maps of the most suspicious frames: where in a face the detector found evidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmasked.inspection.records import Case, Look

if TYPE_CHECKING:
    from unmasked.inspection.examine import Examiner

SHOWN = 3  # frames of each person
PEOPLE_MAX = 6


def has_layer(model: Any) -> bool:
    """True if the model has the layer that Grad-CAM looks at."""
    import torch

    return isinstance(model, torch.nn.Module) and isinstance(
        getattr(model, "cam_layer", None), torch.nn.Module
    )


def suspicious(case: Case) -> list[Look]:
    """The crops with the highest scores of each person who was judged."""
    judged = [one.number for one in case.people if one.score is not None][:PEOPLE_MAX]
    found = []
    for number in judged:
        looks = [look for look in case.looks if look.person == number]
        found += sorted(looks, key=lambda look: -look.score)[:SHOWN]
    return found


def write_maps(
    case: Case,
    crops: Path,
    folder: Path,
    run: Callable[[Callable[..., Any], Any], Any],
    examiner: Examiner,
    device: str,
) -> None:
    """Writes the map over each suspicious crop as ``folder/NAME.png``, named as the crop.

    Nothing is written where the detector has no layer to look at, or where nothing in it is evidence.

    Args:
        case: with its looks.
        crops: the case folder.
        folder: of the maps.
        run: calls a function with images while nobody else uses the model.
        examiner: whose model it is.
        device: where the model is.
    """
    looks = suspicious(case)
    if not looks or not has_layer(examiner.model):
        return
    import cv2
    import torch

    from unmasked.analysis.explain.gradcam import overlays
    from unmasked.datasets.loading import read_crops
    from unmasked.datasets.transforms import normalise

    model: Any = examiner.model
    pixels = read_crops([crops / look.crop for look in looks], examiner.card["size_px"])
    images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)).to(device)
    found = run(lambda batch: overlays(model, batch, model.cam_layer), images)
    folder.mkdir(exist_ok=True)
    for look, overlay, is_blank in zip(looks, found.overlays, found.blank, strict=True):
        if not is_blank:
            cv2.imwrite(str(folder / Path(look.crop).name), cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))
