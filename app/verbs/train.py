"""``unmasked train``: faces table -> trained detector."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from unmasked.app.progress import Reporter, print_result
from unmasked.ucf.config import UCFConfig


class Config(UCFConfig):
    """Where from, where to, and how the UCF detector is trained."""

    faces: Path = Field(Path("faces/faces.parquet"), description="what `unmasked preprocess` wrote")
    out: Path = Field(Path("runs/ucf"), description="the run's folder")
    dataset: str = Field(
        "", description="train on this dataset of the faces table; may be left out if there is one"
    )
    resume: bool = Field(False, description="go on from the last checkpoint in `out`")

    def settings(self) -> UCFConfig:
        """The part that decides what is trained and how."""
        return UCFConfig(**{name: getattr(self, name) for name in UCFConfig.model_fields})


def run(config: Config) -> None:
    """Trains, keeps the checkpoint that is best on source validation, and says where it is."""
    from unmasked.app.run import record
    from unmasked.app.training import progress_callback, training_faces
    from unmasked.training.train import train
    from unmasked.ucf.pretrained import start

    faces = training_faces(config.faces, config.dataset)
    record(config.out, config)
    with Reporter() as reporter:
        reporter.say(f"  {start(config.model.imagenet)}")
        result = train(
            faces,
            config.faces.parent,
            config.settings(),
            config.out,
            resume=config.resume,
            callbacks=[progress_callback(reporter)],
        )
    print_result(f"detector written to {result.checkpoint}")
