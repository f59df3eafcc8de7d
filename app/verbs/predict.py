"""``unmasked predict``: checkpoint × faces -> predictions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from unmasked.app.inputs import CHECKPOINT, Faces, check_inputs, read_faces
from unmasked.app.progress import Reporter, print_result

if TYPE_CHECKING:
    import pandas as pd

    from unmasked.evaluation.perturbing.units import Perturbed
    from unmasked.evaluation.predict import Detector


class Config(BaseModel):
    """Which detector scores which faces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: Path = Field(description=CHECKPOINT)
    detector: str = Field(
        "", description="your own module or .py file, where the checkpoint is of one; ours are found by name"
    )
    faces: Faces = Field(Path("faces/faces.parquet"), description="what `unmasked preprocess` wrote")
    out: Path = Field(Path("predictions.parquet"), description="the predictions, .parquet or .csv")
    overwrite: bool = Field(False, description="replace an `out` of other weights or other videos")
    splits: tuple[str, ...] = Field(("val", "test"), description="splits to score")
    batch_size: int = Field(64, ge=1, description="images at a time")
    device: str = Field("auto", description="auto, cpu, cuda, …")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32",
        description="bf16 is about twice as fast where hardware has it, single scores differ by up to 0.1; "
        "auto takes it where it is faster",
    )
    perturbations: tuple[str, ...] = Field(
        (),
        description="also score perturbed crops: [jpeg,gaussian_blur@frame,h264], or standard, or published",
    )
    severities: tuple[int, ...] = Field((1, 2, 3, 4, 5), description="of the perturbations: 1 mild, 5 strong")
    seed: int = Field(0, ge=0, description="of the perturbations' random draws")
    perturbed_per_video: int = Field(0, ge=0, description="crops of each video that are perturbed; 0 = all")
    manifest: Path = Field(
        Path("manifest.parquet"), description="where the videos are, for h264 and perturbations @frame"
    )

    engine: Literal["local", "ray"] = Field(
        "local", description="where crops are scored; ray: a Ray cluster (pip install unmasked[ray])"
    )
    workers: int = Field(0, ge=0, description="processes of engine=ray; 0 = one for each of its CPUs")

    @field_validator("perturbations", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


def run(config: Config) -> None:
    """Scores the crops and writes the table."""
    check_inputs(checkpoint=config.checkpoint, faces=config.faces)
    from unmasked.app.detectors import load
    from unmasked.datasets.errors import InputError
    from unmasked.evaluation.inference import choose_precision
    from unmasked.evaluation.origin import place_of_faces
    from unmasked.evaluation.predict import predict
    from unmasked.evaluation.predictions import PREDICTIONS
    from unmasked.preprocessing.provenance import manifest_changes

    if config.engine == "ray" and config.perturbations:
        raise InputError("engine=ray scores crops as they are; leave engine=local for perturbations=…")
    model, card = load(config.checkpoint, config.detector)
    faces = read_faces(config.faces)
    chosen = faces[faces["split"].isin(config.splits)]
    if chosen.empty:
        found = ", ".join(sorted(faces["split"].unique()))
        raise InputError(
            f"splits {', '.join(config.splits)} have no rows in {config.faces}; it has {found}. "
            "Choose with splits=[…]"
        )
    if not config.overwrite:
        _check_out(config.out, card["sha256"], chosen)
    perturbed = perturbations_to_score(config)
    videos = perturbed.manifest if perturbed else None
    if videos is not None and (said := manifest_changes(chosen, videos)):
        print_result(f"NOTE: {config.faces} was made of another manifest than {config.manifest}: {said}")
    precision = config.precision
    if precision == "auto":
        precision = choose_precision(model, card["size_px"], config.device)
        print_result(f"precision: {precision}, the faster one here")
    with Reporter() as reporter:
        elsewhere = None
        if config.engine == "ray":
            from unmasked.app.ray_scores import Brief, score_on_ray

            weights = (config.checkpoint, config.detector, card["sha256"])
            brief = Brief(*weights, card["size_px"], config.device, precision)
            elsewhere = partial(score_on_ray, brief=brief, workers=config.workers, progress=reporter)
        predictions = predict(
            model,
            chosen,
            config.faces.parent,
            size_px=card["size_px"],
            batch_size=config.batch_size,
            device=config.device,
            precision=precision,
            detector=card["detector"],
            checkpoint=card["sha256"],
            perturbed=perturbed,
            progress=reporter,
            score_elsewhere=elsewhere,
        )
    PREDICTIONS.write(predictions.assign(faces_table=place_of_faces(config.faces, config.out)), config.out)
    _write_lost(faces, chosen, config)
    _write_domain(model, faces, card, config)
    print_result(f"{len(predictions)} scores written to {config.out}")
    if unlabelled := int(predictions["label"].isna().sum()):
        print_result(
            f"{unlabelled} of them are of files that nobody labelled: `unmasked evaluate` and its like leave "
            f"them out; a row for each file: {_write_by_file(predictions, card, config.out)}"
        )


def _write_by_file(predictions: pd.DataFrame, card: Mapping[str, Any], out: Path) -> Path:
    """Writes the mean score of each unlabelled file, and whether it exceeds the card's threshold."""
    from unmasked.datasets.csv_files import write_csv
    from unmasked.datasets.files import atomic_path
    from unmasked.evaluation.metrics import video_scores
    from unmasked.evaluation.predictions import is_perturbed

    rows = predictions[predictions["label"].isna() & ~is_perturbed(predictions)]
    files = video_scores(rows)[["dataset", "video", "frames", "score"]]
    threshold = card.get("threshold")
    if threshold:
        files["called_fake"] = files["score"] > threshold["value"]
    path = out.with_suffix(".by_file.csv")
    with atomic_path(path) as temporary:
        write_csv(files.rename(columns={"frames": "crops"}), temporary)
    return path


def _write_domain(model: Detector, faces: pd.DataFrame, card: Mapping[str, Any], config: Config) -> None:
    """Writes what the calibration material is like, for `unmasked inspect`, where val rows are scored."""
    from unmasked.evaluation.domain import domain_path, write_domain
    from unmasked.evaluation.predict import domain_of

    if "val" not in config.splits:
        return
    domain = domain_of(model, faces, config.faces.parent, card, device=config.device)
    if domain is not None:
        write_domain(domain, domain_path(config.out))


def _write_lost(faces: pd.DataFrame, chosen: pd.DataFrame, config: Config) -> None:
    """Writes which videos have no score beside the predictions, and prints how many of which class.

    Videos given = scored + without a crop + of other splits.
    """
    from unmasked.preprocessing.lost import LOST, lost_lines, lost_videos, unused_path, videos_of

    lost, others = lost_videos(chosen), videos_of(faces)
    others = others[~others["split"].isin(config.splits)]
    LOST.write(lost, unused_path(config.out))
    for line in lost_lines(videos_of(chosen), lost, what="scored"):
        print_result(line)
    if len(others):
        listed = ", ".join(f"{split} {count}" for split, count in others["split"].value_counts().items())
        print_result(f"videos of other splits, not scored: {listed}")
    if len(lost):
        print_result(f"videos without a score, by name: {unused_path(config.out)}")


def _check_out(out: Path, checkpoint: str, chosen: pd.DataFrame) -> None:
    """Refuses to write over a table that is not of these weights and of some of these videos.

    Raises:
        InputError: it would be lost.
    """
    from unmasked.datasets.errors import InputError
    from unmasked.datasets.loading import VIDEO
    from unmasked.datasets.tables import read_frame
    from unmasked.preprocessing.lost import is_among

    if not out.exists():
        return
    try:
        there = read_frame(out, text=(*VIDEO, "checkpoint"))
        made_by = set(there["checkpoint"].unique())
        is_known = is_among(there[[name for name in VIDEO if name in there]], chosen)
    except (InputError, KeyError):
        what = "is no table of scores that `unmasked predict` wrote"
    else:
        if made_by == {checkpoint} and is_known.all():
            return
        what = "holds scores of other weights" if made_by != {checkpoint} else "holds scores of other videos"
    raise InputError(f"out={out} {what}, and they would be lost; give another out=, or overwrite=true")


def perturbations_to_score(config: Config) -> Perturbed | None:
    """What is to be perturbed; None for nothing.

    Raises:
        InputError: a perturbation or severity is not known, or the manifest is needed and cannot be read.
    """
    if not config.perturbations:
        return None
    from unmasked.datasets.errors import InputError
    from unmasked.datasets.manifest import MANIFEST
    from unmasked.evaluation.perturbing.registry import settings_of
    from unmasked.evaluation.perturbing.units import Perturbed

    settings = settings_of(_names(config.perturbations), config.severities)
    manifest = None
    if any(setting.where == "frame" for setting in settings):
        try:
            manifest = MANIFEST.read(config.manifest)
        except InputError as error:
            raise InputError(
                f"h264 and perturbations @frame read the videos that the manifest names, and {error}"
            ) from error
    return Perturbed(settings, config.seed, manifest, config.perturbed_per_video or None)


def _names(given: tuple[str, ...]) -> list[str]:
    """Perturbations, with the names of files in configs/perturbations replaced by what they list."""
    from omegaconf import OmegaConf

    from unmasked.app.config import CONFIGS

    names: list[str] = []
    for name in given:
        file = CONFIGS / "perturbations" / f"{name}.yaml"
        names += OmegaConf.load(file).perturbations if file.is_file() else [name]
    return names
