"""``unmasked import-checkpoint``.

Weights from elsewhere (UCF's published ones, for instance) -> detector.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from unmasked.app.detectors import DEFAULT
from unmasked.app.progress import print_result
from unmasked.app.verbs.scan import as_list

if TYPE_CHECKING:
    from unmasked.training.config import DetectorConfig
    from unmasked.training.handle import Detector


MISFITS_SHOWN = 20  # weights of another network differ in hundreds of names


class Config(BaseModel):
    """Which file to read, and what it does not say about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: str = Field(DEFAULT, description="one of `unmasked detectors`, or your own module or .py file")
    file: Path = Field(
        description="a flat state dict, .pth or .safetensors, such as ucf_best.pth; no code in it is ever run"
    )
    out: Path = Field(Path("runs/imported"), description="folder for the detector and detector.json")
    classes: Annotated[tuple[str, ...], BeforeValidator(as_list)] = Field(
        (), description="names of the method classes, real first; for UCF's five, those of FaceForensics++"
    )
    size_px: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="side of the images that it was trained on; the detector's if not given",
    )
    model: dict[str, Any] = Field(
        {}, description="settings of the network that are not its defaults: model.width=8"
    )
    licence: str = Field("", description="of the weights; for UCF non-commercial, as the published ones are")


def run(config: Config) -> None:
    """Prints key by key what does not fit; if everything does, writes weights and card."""
    from unmasked.app.config import load
    from unmasked.app.detectors import find
    from unmasked.app.training import dotlist

    detector = find(config.detector)
    size = {} if config.size_px is None else {"size_px": config.size_px}
    settings = load(detector.config, None, dotlist({"model": config.model | size}))
    write = _import_network if detector.has_gradients else _import_fitted
    path = write(config, detector, settings)
    print_result(f"detector written to {path}")


def _import_network(config: Config, detector: Detector, settings: DetectorConfig) -> Path:
    from unmasked.training.checkpoint import (
        described,
        fill,
        imported_card,
        misfits,
        read_safetensors,
        read_state_dict,
        save,
    )

    read = read_safetensors if config.file.suffix == ".safetensors" else read_state_dict
    weights = read(config.file)
    classes = list(config.classes) or ["real", "fake"]
    shaped, stated = detector.part("from_weights"), detector.part("weights_card")
    model = shaped(weights, settings) if shaped else detector.build(settings, classes)
    found = misfits(model.state_dict(), weights)
    for misfit in found[:MISFITS_SHOWN]:
        print_result(f"  {misfit}")
    if len(found) > MISFITS_SHOWN:
        print_result(f"  and {len(found) - MISFITS_SHOWN} more")
    facts = detector.part("card")
    card = {"method_classes": classes, **(facts(model) if facts else {})}
    what = described(detector, card)
    fill(model, weights, str(config.file), what=what, advice=f"give a checkpoint of {detector.title}")
    card |= (
        stated(model, config.classes, settings) if stated else {"config": settings.model_dump(mode="json")}
    )
    card |= imported_card(config.file, settings.model.size_px)
    card |= {"licence": config.licence} if config.licence else {}
    path = save(detector, model, config.out, card)
    print_result(f"all {len(weights)} weights fit {what}")
    print_result(f"method classes: {', '.join(card['method_classes'])}")
    if "licence" in card:
        print_result(f"licence: {card['licence']}")
    return path


def _import_fitted(config: Config, detector: Detector, settings: DetectorConfig) -> Path:
    from unmasked.datasets.errors import InputError
    from unmasked.training.checkpoint import imported_card, read_fitted, save_fitted

    if not config.file.is_file():
        raise InputError(
            f"checkpoint {config.file} does not exist; give the file that {detector.title} wrote"
        )
    card = {
        **imported_card(config.file, settings.model.size_px),
        "method_classes": list(config.classes) or ["real", "fake"],
        "config": settings.model_dump(mode="json"),
        **({"licence": config.licence} if config.licence else {}),
    }
    read_fitted(detector, config.file, card)  # refuses what is not its own
    config.out.mkdir(parents=True, exist_ok=True)
    copy = config.out / f".{config.file.name}"
    shutil.copyfile(config.file, copy)
    return save_fitted(detector, copy, config.out, card)
