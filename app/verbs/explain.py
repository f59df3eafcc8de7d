"""``unmasked explain``: where a detector looks, and how its features lie."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from unmasked.analysis.explain.config import ExplainConfig
from unmasked.app.inputs import CHECKPOINT, Faces, check_inputs, read_faces
from unmasked.app.progress import Reporter, duration_text, print_result
from unmasked.datasets.cards import card_path


class Config(ExplainConfig):
    """Which detector is explained on which faces."""

    checkpoint: Path = Field(description=CHECKPOINT)
    faces: Faces = Field(Path("faces/faces.parquet"), description="what `unmasked preprocess` wrote")
    manifest: Path | None = Field(
        None,
        description="the manifest of the same videos, for its manipulation masks: how much of a map lies "
        "where a fake was changed",
    )
    new: Faces | None = Field(
        None, description="faces table of other files, whose crops are placed into the t-SNE of the others"
    )
    detector: str = Field(
        "", description="your own module or .py file, where the checkpoint is of one; ours are found by name"
    )
    out: Path | None = Field(
        None,
        description="the run's folder, explain/ is written into it; that of the checkpoint if not given",
    )

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.out or card_path(self.checkpoint).parent

    def settings(self) -> ExplainConfig:
        """The part that decides what is drawn."""
        return ExplainConfig(**{name: getattr(self, name) for name in ExplainConfig.model_fields})


def run(config: Config) -> None:
    """Draws the pictures, keeps them as files and shows them in TensorBoard."""
    check_inputs(checkpoint=config.checkpoint, faces=config.faces)
    check_inputs(faces=config.new)
    from functools import partial

    from torch import nn

    from unmasked.analysis.explain.explain import explain, log_explanation
    from unmasked.analysis.explain.explanation import (
        averaged_lines,
        importance_lines,
        method_lines,
        write_explanation,
    )
    from unmasked.analysis.explain.masks import changed_places
    from unmasked.app.detectors import load
    from unmasked.datasets.files import sha256_of_file
    from unmasked.datasets.manifest import MANIFEST
    from unmasked.datasets.tables import read_frame
    from unmasked.evaluation.origin import faces_changes

    model, card = load(config.checkpoint, config.detector)
    out = config.folder
    is_fitted = not isinstance(model, nn.Module)
    faces = read_faces(config.faces)
    masks = None
    if config.manifest:
        given = {"manifest": MANIFEST.read(config.manifest), "root": config.manifest.parent}
        masks = partial(changed_places, **given, crops_root=config.faces.parent, size_px=card["size_px"])
    with Reporter() as reporter:
        explanation = explain(
            model,
            faces,
            config.faces.parent,
            layer=getattr(model, "cam_layer", None),
            features=getattr(model, "features", None),
            # Of a detector without gradients: a network's blocks are its layers.
            blocks=getattr(model, "blocks", None) if is_fitted else None,
            probability=getattr(model, "probability", None) if is_fitted else None,
            size_px=card["size_px"],
            masks=masks,
            new=(read_faces(config.new), config.new.parent) if config.new else None,
            config=config.settings(),
            progress=reporter,
            expect=lambda seconds: reporter.say(
                f"  maps and their tests take about {duration_text(seconds)} here"
            ),
        )
    explanation.summary["made_from"] = {
        "checkpoint": card["sha256"],
        "faces": sha256_of_file(config.faces),
    }
    folder = write_explanation(explanation, out)
    scores = out / "predictions.parquet"
    if scores.is_file() and (said := faces_changes(scores, read_frame(scores), config.faces)):
        print_result(f"NOTE: {said}")
    log_explanation(explanation, out / "tensorboard")  # one run with the training: scalars come first
    for what, reason in explanation.summary["skipped"].items():
        print_result(f"without {what}: {reason}")
    for text in importance_lines(explanation.summary.get("importance")):
        print_result(text)
    if methods := explanation.summary.get("methods"):
        count = methods[0]["pictures"]
        what = "1 picture" if count == 1 else f"{count} pictures"
        print_result(f"maps of {what}, each method put to the same tests:")
        for text in method_lines(methods):
            print_result(text)
    for text in averaged_lines(explanation.summary.get("averaged")):
        print_result(text)
    names = ("methods.png", "cam.png", "mean_maps.png", "tsne.png")
    pictures = [str(folder / name) for name in names if (folder / name).is_file()]
    print_result(f"pictures: {', '.join(pictures) or 'none'}; numbers: {folder / 'explain.json'}")
