"""``unmasked fid``: two sets of images -> how far they are apart, with the floor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.generate import Extractors

if TYPE_CHECKING:
    from unmasked.generation.fid import Distance


class Config(Extractors):
    """Which images, and by whose features."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    a: Path = Field(description="the reals: a folder of images, or a faces or manifest table")
    b: Path = Field(description="what is held against them")
    a_rows: dict[str, str | int | float] = Field(
        {}, description="rows of a table, by column: {label: 0, split: test}; all with an image if not given"
    )
    b_rows: dict[str, str | int | float] = Field({}, description="rows of the other table")
    out: Path = Field(Path("runs/fid"), description="folder for fid.json, and features/ that are made once")
    size_px: int | None = Field(None, ge=8, description="side that all images are resized to first")
    below_d: bool = Field(
        False, description="also gives the Fréchet distance of fewer images than a feature has numbers"
    )
    seed: int = Field(0, ge=0, description="of halves and of sizes")


def run(config: Config) -> None:
    """Computes the distance, writes it and prints it."""
    from unmasked.app.verbs.generate import extractor_of
    from unmasked.datasets.documents import write_json
    from unmasked.datasets.errors import InputError
    from unmasked.evaluation.wording import metric_text
    from unmasked.generation.features import extract, images_of
    from unmasked.generation.fid import compare
    from unmasked.generation.judge import tell_apart

    extractor = extractor_of(config)
    if extractor is None:
        raise InputError(
            "no features were chosen; give extractor=… (a trained network), or inception=… (a local "
            "pt_inception-2015-12-05-6726825d.pth, for a distance that may be called FID)"
        )
    sides = [images_of(config.a, config.a_rows), images_of(config.b, config.b_rows)]
    features = [
        extract(images, extractor, config.out / "features", size_px=config.size_px) for images, _ in sides
    ]
    found = compare(
        *features,
        units=(sides[0][1], sides[1][1]),
        below_d=config.below_d,
        seed=config.seed,
    )
    apart = tell_apart(*features, units=(sides[0][1], sides[1][1]), seed=config.seed)
    record = {
        "extractor": extractor.name,
        "weights_sha256": extractor.sha256,
        "resize": extractor.resize,
        "size_px": config.size_px,
        "a": {"path": str(config.a), "rows": config.a_rows},
        "b": {"path": str(config.b), "rows": config.b_rows},
        **found.model_dump(mode="python"),
        "classifier": apart,
    }
    write_json(config.out / "fid.json", record)
    for line in _lines(found, record):
        print_result(line)
    said = metric_text(apart, "balanced_accuracy")
    print_result(f"a classifier fitted on one half tells the other's apart: balanced accuracy {said}")
    print_result(f"all of it: {config.out / 'fid.json'}")


def _lines(found: Distance, record: Mapping[str, object]) -> list[str]:
    from unmasked.evaluation.wording import value_text

    def text(value: float, interval: tuple[float, float] | None = None) -> str:
        return value_text(value, interval, places=4)

    weights = str(record["weights_sha256"])[:12]
    return [
        f"{record['extractor']}, weights {weights}, {record['resize']}, d = {found.d}",
        f"n: a {found.n_a} images of {found.units_a} people, videos or images; b {found.n_b} of "
        f"{found.units_b}",
        f"Fréchet distance  {text(found.frechet)}; for infinitely many images {text(found.frechet_infinite)}",
        f"KID               {text(found.kid, found.kid_ci)}",
        f"precision, recall {text(found.precision)}, {text(found.recall)}",
        f"floor: two halves of a, {found.floor.n} images each: Fréchet {text(found.floor.frechet)}, KID "
        f"{text(found.floor.kid)}; a and b at that size: {text(found.floor.frechet_of_sets)}",
        *(f"NOTE: {warning}" for warning in found.warnings),
    ]
