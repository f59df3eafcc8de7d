"""``unmasked train``: faces table -> trained detector."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from unmasked.app.config import load
from unmasked.app.detectors import DEFAULT, config_class, folder_name
from unmasked.app.inputs import Faces, check_inputs, training_faces
from unmasked.app.progress import Reporter, print_result
from unmasked.app.verbs.scan import as_list
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    from unmasked.training.config import DetectorConfig

Datasets = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: as_list(value) if value else ()),
    Field(
        description="train on this dataset of the faces table, or on several together: [A,B]; may be left "
        "out if there is one"
    ),
]


class Crops(BaseModel):
    """What is trained on; the other keys depend on the detector."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    faces: Faces = Field(Path("faces/faces.parquet"), description="what `unmasked preprocess` wrote")
    dataset: Datasets = ()


def config_of(detector: str | None) -> type[DetectorConfig]:
    """Where from, where to, and how a detector is trained.

    Its own settings, and those of this verb.

    Raises:
        InputError: there is no such detector.
    """
    name = DEFAULT if detector is None else str(detector)
    fields: dict[str, Any] = {
        "detector": (
            str,
            Field(name, description="one of `unmasked detectors`, or your own module or .py file"),
        ),
        **{name: (field.annotation, field) for name, field in Crops.model_fields.items()},
        "out": (Path, Field(Path("runs") / folder_name(name), description="the run's folder")),
        "resume": (bool, Field(False, description="go on from the last checkpoint in `out`")),
        "restart": (bool, Field(False, description="begin again where `out` holds an unfinished training")),
    }
    return create_model("Config", __base__=config_class(name), **fields)


def check_first(file: Path | None, arguments: list[str]) -> None:
    """Looks at the faces table before a detector and its libraries are imported.

    Arguments as of `load`.

    Raises:
        InputError: the table is not there, or has no training rows.
    """
    given = load(Crops, file, arguments)
    check_inputs(faces=given.faces)
    training_faces(given.faces, given.dataset, tells_edits=True)


def run(config: Any) -> None:
    """Trains, keeps the checkpoint that is best on source validation, and says where it is."""
    from unmasked.app.detectors import find
    from unmasked.app.run import only_one_in, record
    from unmasked.app.signals import stopped_by_signals
    from unmasked.app.training import progress_callback
    from unmasked.training.fit import fit
    from unmasked.training.launch import is_first_process
    from unmasked.training.train import check_nothing_is_lost, train

    detector = find(config.detector)
    faces = training_faces(config.faces, config.dataset)
    settings: Any = detector.config(**{name: getattr(config, name) for name in detector.config.model_fields})
    if config.resume and not detector.has_gradients:
        raise InputError(
            f"{detector.title} is fitted in one go, so there is nothing to resume; leave resume out"
        )
    where = (faces, config.faces.parent, settings, config.out)
    advice = "no step was trained that could be kept; begin again with the same command"
    # Of the processes of one training the first holds the lock.
    lock = only_one_in(config.out, "train") if is_first_process() else nullcontext()
    with lock, stopped_by_signals(advice), Reporter() as reporter:
        if not (config.resume or config.restart):
            check_nothing_is_lost(config.out)
            if is_first_process() and any(config.out.glob("detector.s*")):  # safetensors or skops
                print_result(
                    f"  the detector in {config.out} is replaced; predictions and metrics that lie there are "
                    "of the old one"
                )
        start = detector.part("start", lambda settings: "")

        def begin() -> None:
            # Not before: a training that is refused says nothing of a start, and leaves the folder as it was.
            record(config.out, config)
            if said := start(settings):
                reporter.say(f"  {said}")

        if detector.has_gradients:
            progress = progress_callback(reporter, at_start=begin)
            result = train(*where, detector=detector, resume=config.resume, callbacks=[progress])
        else:
            result = fit(*where, detector=detector)
            begin()
            reporter.say(f"  val/video_auc {result.history[-1]['val/video_auc']:.3f}")
    if is_first_process():
        print_result(f"detector written to {result.checkpoint}")
