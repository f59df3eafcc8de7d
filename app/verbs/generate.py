"""``unmasked generate``: faces -> a generator; a generator -> images that no detector saw."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.inputs import Faces, check_inputs, read_faces
from unmasked.app.progress import Reporter, print_result
from unmasked.generation.config import GeneratorConfig

if TYPE_CHECKING:
    from unmasked.generation.features import Extractor

CHOSEN_BY = "action"  # the key that other keys depend on


class Extractors(BaseModel):
    """What makes the features of a distance."""

    extractor: Path | None = Field(
        None, description="a trained network of `unmasked train`, whose features are compared"
    )
    inception: Path | None = Field(
        None, description="or FID's own network: pt_inception-2015-12-05-6726825d.pth, a local file"
    )
    resize: Literal["bilinear", "antialias", "bicubic"] = Field(
        "bilinear", description="inception: as pytorch-fid, torchmetrics or clean-fid have it"
    )


class TrainConfig(GeneratorConfig, Extractors):
    """What a generator learns from, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["train"] = Field("train", description="train; leave it out to make images")
    faces: Faces = Field(Path("faces/faces.parquet"), description="what `unmasked preprocess` wrote")
    out: Path = Field(Path("runs/generator"), description="folder for the generator and its record")
    resume: bool = Field(False, description="go on from the state in out")
    restart: bool = Field(False, description="begin again, whatever state of a training lies in out")


class SampleConfig(BaseModel):
    """Which images are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["images"] = Field("images", description="images; or train: see `generate train --help`")
    generator: Path = Field(
        Path("runs/generator"), description="what `generate train` wrote: its folder or generator.safetensors"
    )
    out: Path = Field(Path("generated"), description="folder for the images and manifest.parquet")
    n: int = Field(1000, ge=1, description="images")
    seed: int = Field(0, ge=0, lt=2**31, description="image i depends on it and on i alone")
    truncation: float = Field(1.0, ge=0, le=1, description="below 1 images are better, and more alike")
    split: Literal["train", "val", "test"] = Field("test", description="of the manifest's rows")
    overwrite: bool = Field(False, description="replace made images that lie in `out`")


def config_of(action: str | None) -> type[BaseModel]:
    """The keys of training, or of making images."""
    return TrainConfig if action == "train" else SampleConfig


def run(config: TrainConfig | SampleConfig) -> None:
    """Trains a generator, or makes images with one."""
    from unmasked.app.run import only_one_in
    from unmasked.training.launch import is_first_process

    if isinstance(config, TrainConfig):
        check_inputs(faces=config.faces)
    # Of the processes of one training the first holds the lock.
    with only_one_in(config.out, "generate") if is_first_process() else nullcontext():
        if isinstance(config, TrainConfig):
            _train(config)
        else:
            _make_images(config)


def _train(config: TrainConfig) -> None:
    from unmasked.app.detectors import find
    from unmasked.app.run import record
    from unmasked.app.training import progress_callback
    from unmasked.generation.train import train
    from unmasked.training.launch import is_first_process
    from unmasked.training.train import check_nothing_is_lost

    if not (config.resume or config.restart):
        check_nothing_is_lost(config.out)
    settings = GeneratorConfig(**{name: getattr(config, name) for name in GeneratorConfig.model_fields})
    with Reporter() as reporter:
        progress = progress_callback(reporter, at_start=lambda: record(config.out, config))
        done = train(
            read_faces(config.faces),
            config.faces.parent,
            settings,
            config.out,
            judge=find("discriminator"),
            extractor=extractor_of(config),
            resume=config.resume,
            callbacks=[progress],
        )
    if not is_first_process():
        return
    for one in (done.history[0], done.history[-1]):
        if "kid" in one:
            low, high = one["kid_ci"]
            print_result(
                f"step {one['step']}: {one['extractor']}: KID {one['kid']:.4f} [{low:.4f}, {high:.4f}] of "
                f"{one['n_fakes']} fakes and {one['n_reals']} reals; two halves of the reals: "
                f"{one['floor_kid']:.4f}"
            )
    _print_shares(config)
    print_result(f"samples: {config.out / 'samples'}")
    print_result(f"generator written to {done.generator}, discriminator to {done.discriminator}")


def _print_shares(config: TrainConfig) -> None:
    """What the discriminator makes of its training reals, of others and of fresh fakes."""
    from unmasked.app.detectors import load as load_detector
    from unmasked.datasets.documents import write_json
    from unmasked.evaluation.wording import metric_text
    from unmasked.generation.judge import discriminator_shares
    from unmasked.generation.sample import load
    from unmasked.preprocessing.faces import FACES
    from unmasked.training.residual import Critic

    critic = load_detector(config.out / "discriminator")[0]
    assert isinstance(critic, Critic)
    shares = discriminator_shares(critic, load(config.out)[0], FACES.read(config.faces), config.faces.parent)
    write_json(config.out / "discriminator.json", shares)
    for split, block in shares.items():
        print_result(
            f"discriminator, reals of {split} ({block['reals']}): balanced accuracy "
            f"{metric_text(block, 'balanced_accuracy')}, reals called fake {metric_text(block, 'fpr')}, "
            f"fresh fakes called fake {metric_text(block, 'tpr')}"
        )


def extractor_of(config: Extractors) -> Extractor | None:
    """What makes features, or None where nothing was given.

    Raises:
        InputError: both were given, or a file is not what it is to be.
    """
    from unmasked.datasets.errors import InputError

    if config.extractor and config.inception:
        raise InputError("extractor= and inception= were given; give one of them")
    if config.inception:
        from unmasked.generation.features import fid_extractor

        return fid_extractor(config.inception, config.resize)
    if config.extractor:
        from torch import nn

        from unmasked.app.detectors import load
        from unmasked.generation.features import detector_extractor

        model, card = load(config.extractor)
        if not isinstance(model, nn.Module):
            raise InputError(f"extractor={config.extractor} is no network; give one of `unmasked train`")
        return detector_extractor(model, str(card["detector"]), str(card["sha256"]), int(card["size_px"]))
    return None


def _make_images(config: SampleConfig) -> None:
    from unmasked.generation.sample import load, write_images

    generator, card = load(config.generator)
    with Reporter() as reporter:
        manifest = write_images(
            generator,
            card,
            config.out,
            count=config.n,
            seed=config.seed,
            truncation=config.truncation,
            split=config.split,
            overwrite=config.overwrite,
            progress=reporter,
        )
    print_result(
        f"{len(manifest)} images of {card['size_px']} px by generator {card['sha256'][:12]}, step "
        f"{card['step']}"
    )
    print_result(
        f"manifest: {config.out / 'manifest.parquet'}; next: unmasked preprocess "
        f"manifest={config.out / 'manifest.parquet'} crops=as_is size_px={card['size_px']}"
    )
