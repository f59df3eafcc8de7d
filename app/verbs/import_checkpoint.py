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
from unmasked.app.weights import is_remote

if TYPE_CHECKING:
    from unmasked.app.weights import Pinned
    from unmasked.training.config import DetectorConfig
    from unmasked.training.handle import Detector


MISFITS_SHOWN = 20  # weights of another network differ in hundreds of names


class Config(BaseModel):
    """Which file to read, and what it does not say about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: str = Field(DEFAULT, description="one of `unmasked detectors`, or your own module or .py file")
    file: Path | None = Field(
        None,
        description="your own: a flat state dict, .pth or .safetensors, such as ucf_best.pth; no code in it "
        "is ever run",
    )
    source: str = Field(
        "",
        description="in place of file: hf://OWNER/NAME, an address, a folder, or a name in configs/weights",
    )
    weights_file: str = Field("", description="which file of a repository or folder, where it has several")
    revision: str = Field("", description="commit of a repository; the one in configs/weights if not given")
    sha256: str = Field("", description="of the file, where configs/weights does not know it")
    accept_licence: bool = Field(
        False, description="fetch weights whose licence was shown; nothing is fetched without it"
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
    from unmasked.app.weights import Wanted, digest_of, pinned_of, weights_file
    from unmasked.datasets.errors import InputError

    if (config.file is None) == (not config.source):
        raise InputError("give either file= (of your own) or source= (hf://OWNER/NAME, an address, a folder)")
    source = config.source or str(config.file)
    pinned = pinned_of(source) if config.source else None
    wanted = Wanted(
        source=source,
        file=config.weights_file,
        revision=config.revision,
        sha256=config.sha256,
        licence=config.licence,
        is_licence_accepted=config.accept_licence,
    )
    digest_of(wanted, pinned)  # what is wrong with it is said before anything is looked for
    detector = find_for(config, pinned)
    if config.file is not None and not config.sha256:
        _import(config, detector, config.file, None)
        return
    with weights_file(wanted, pinned, config.out) as (file, known):
        _import(config, detector, file, known)


def _source_text(source: str) -> str:
    """Where weights are from, for a card that others may read: of a path its name alone."""
    return source if is_remote(source) else Path(source).name


def find_for(config: Config, pinned: Pinned | None) -> Detector:
    """The detector that was named, else the one that the weights are known to be of."""
    from unmasked.app.detectors import find

    is_known = pinned is not None and pinned.detector and config.detector == DEFAULT
    return find(pinned.detector if pinned is not None and is_known else config.detector)


def _import(config: Config, detector: Detector, file: Path, known: Pinned | None) -> None:
    from unmasked.app.config import load
    from unmasked.app.training import dotlist

    size = {} if config.size_px is None else {"size_px": config.size_px}
    # A network's settings are those of the detector that the weights are known to be of.
    stated = known.model if known is not None and known.detector == detector.name else {}
    settings = load(detector.config, None, dotlist({"model": stated | config.model | size}))
    source = {"source": _source_text(config.source)} if config.source else {}
    facts = source if known is None else known.facts()
    write = _import_network if detector.has_gradients else _import_fitted
    path = write(config, detector, settings, file, facts)
    print_result(f"detector written to {path}")


def _import_network(
    config: Config, detector: Detector, settings: DetectorConfig, file: Path, facts: dict[str, Any]
) -> Path:
    from unmasked.training.checkpoint import (
        described,
        fill,
        imported_card,
        misfits,
        read_weights,
        save,
    )

    weights = read_weights(file)
    classes = list(config.classes) or ["real", "fake"]
    shaped, stated = detector.part("from_weights"), detector.part("weights_card")
    model = shaped(weights, settings) if shaped else detector.build(settings, classes)
    if translate := detector.part("translate"):
        weights = translate(weights, model)
    found = misfits(model.state_dict(), weights)
    for misfit in found[:MISFITS_SHOWN]:
        print_result(f"  {misfit}")
    if len(found) > MISFITS_SHOWN:
        print_result(f"  and {len(found) - MISFITS_SHOWN} more")
    stated_by_model = detector.part("card")
    card = {"method_classes": classes, **(stated_by_model(model) if stated_by_model else {})}
    what = described(detector, card)
    fill(model, weights, str(file), what=what, advice=f"give a checkpoint of {detector.title}")
    card |= (
        stated(model, config.classes, settings) if stated else {"config": settings.model_dump(mode="json")}
    )
    card |= imported_card(file, settings.model.size_px) | facts
    card |= {"licence": config.licence} if config.licence else {}
    path = save(detector, model, config.out, card)
    print_result(f"all {len(weights)} weights fit {what}")
    print_result(f"method classes: {', '.join(card['method_classes'])}")
    if "licence" in card:
        print_result(f"licence: {card['licence']}")
    return path


def _import_fitted(
    config: Config, detector: Detector, settings: DetectorConfig, file: Path, facts: dict[str, Any]
) -> Path:
    from unmasked.datasets.errors import InputError
    from unmasked.training.checkpoint import imported_card, read_fitted, save_fitted

    if not file.is_file():
        raise InputError(f"checkpoint {file} does not exist; give the file that {detector.title} wrote")
    card = {
        **imported_card(file, settings.model.size_px),
        "method_classes": list(config.classes) or ["real", "fake"],
        "config": settings.model_dump(mode="json"),
        **facts,
        **({"licence": config.licence} if config.licence else {}),
    }
    read_fitted(detector, file, card)  # refuses what is not its own
    config.out.mkdir(parents=True, exist_ok=True)
    copy = config.out / f".{file.name}"
    shutil.copyfile(file, copy)
    return save_fitted(detector, copy, config.out, card)
