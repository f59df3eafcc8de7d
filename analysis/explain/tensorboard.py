"""What TensorBoard shows: curves, calibration, pictures, settings, results, features."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from google.protobuf import text_format
from numpy.typing import ArrayLike, NDArray
from tensorboard.plugins.projector import ProjectorConfig
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from unmasked.analysis.figures.calibration import CalibrationDisplay
from unmasked.datasets.documents import write_json
from unmasked.datasets.files import write_text
from unmasked.evaluation.metrics import brier_score, expected_calibration_error

CONFIG = "projector_config.pbtxt"  # what torch and the projector call it
LOOKED_AT = "what_it_looks_at"  # after "train" and "val" in the alphabet
SPRITE_PX = 32  # the projector draws all pictures from one sheet, at most 8192 px wide
SPRITE_SHEET_PX = 8192
TITLE_PX = 24  # height of a line above a grid's columns, which TensorBoard shows at half its size
THRESHOLDS = 127  # points of a precision-recall curve


@contextmanager
def summary_writer(folder: Path) -> Iterator[SummaryWriter]:
    """A writer into ``folder`` (for ``tensorboard --logdir``), flushed and closed at the end."""
    with quieten_writer_thread():
        writer = SummaryWriter(str(folder))
        try:
            yield writer
        finally:
            writer.close()


@contextmanager
def quieten_writer_thread() -> Iterator[None]:
    """Keeps back the traceback that TensorBoard's thread prints of a full disk.

    The writer raises the same error once more where it is used, and whoever uses it says it in words.
    """
    before = threading.excepthook

    def print_others(failure: threading.ExceptHookArgs) -> None:
        if not isinstance(failure.exc_value, OSError):
            before(failure)

    threading.excepthook = print_others
    try:
        yield
    finally:
        threading.excepthook = before


def log_cams(
    writer: SummaryWriter,
    pictures: np.ndarray,
    overlays: np.ndarray,
    names: Sequence[str],
    *,
    blank: NDArray[np.bool_] | None = None,
    step: int = 0,
) -> None:
    """Each picture beside its overlay, (N, H, W, 3) uint8, under a unique name.

    They come after the scalars of training, as TensorBoard sorts names.

    Where a map is ``blank`` (N,), "(no map)" is written on it: the picture alone would look like a map that
    marks nothing.
    """
    is_blank = np.zeros(len(pictures), bool) if blank is None else blank
    for name, picture, overlay, nothing in zip(names, pictures, overlays, is_blank, strict=True):
        pair = np.concatenate([picture, overlay], axis=1)  # two (H, W, 3) -> (H, 2 W, 3)
        if nothing:
            pair = _write_on(pair, "(no map)", (picture.shape[1] + 3, picture.shape[0] - 5))
        writer.add_image(f"{LOOKED_AT}/{name}", pair, global_step=step, dataformats="HWC")


def log_embedding(
    writer: SummaryWriter,
    features: np.ndarray,
    metadata: pd.DataFrame,
    *,
    pictures: np.ndarray | None = None,
    colours: Sequence[str] = (),
    tag: str = "features",
    step: int = 0,
) -> None:
    """Features for the projector tab, with the columns of ``metadata`` to colour by.

    The projector begins without colours; a click on one of its bookmarks colours by a column.

    Args:
        writer: see `summary_writer`.
        features: (N, D) one row a crop.
        metadata: N rows.
        pictures: (N, H, W, 3) uint8, shown as the points; left out beyond what one sheet holds.
        colours: columns that have a bookmark.
        tag: name in the projector's list.
        step: training step that the features belong to.
    """
    header = [str(name) for name in metadata.columns]
    # The file is tab-separated, a row a line.
    rows = [[_one_line(value) for value in row] for row in metadata.itertuples(index=False)]
    if len(header) == 1:  # a single column has no header line in the projector's format
        single: list = [row[0] for row in rows]
        rows, header = single, None  # type: ignore[assignment]
    writer.add_embedding(
        torch.as_tensor(np.asarray(features, dtype=np.float32)),
        metadata=rows,
        metadata_header=header,
        label_img=_sprites(pictures),
        tag=tag,
        global_step=step,
    )
    if colours:
        _write_bookmarks(Path(writer.log_dir), features.shape, colours)


def _write_bookmarks(folder: Path, shape: tuple[int, ...], colours: Sequence[str]) -> None:
    """States of the projector that show the principal components, coloured by a column each."""
    config = ProjectorConfig()
    text_format.Parse((folder / CONFIG).read_text(encoding="utf-8"), config)
    empty = {f"custom{side}Text": "" for side in ("XLeft", "XRight", "YUp", "YDown")}
    states = [
        empty
        | {
            "label": f"coloured by {name}",
            "selectedColorOptionName": name,
            "forceCategoricalColoring": True,
            "selectedLabelOption": name,
            "customSelectedSearchByMetadataOption": name,
            "selectedProjection": "pca",
            "pcaComponentDimensions": [0, 1],
            "projections": [],
            "selectedPoints": [],
            "dataSetDimensions": list(shape),
            "tSNEIteration": 0,
            "tSNEPerplexity": 30,
            "tSNELearningRate": 1,
            "umapNeighbors": 15,
            # The projector restores its camera too: above the middle, with all points in view.
            "cameraDef": {"orthographic": True, "position": [0, 0, 10], "target": [0, 0, 0], "zoom": 1},
        }
        for name in colours
    ]
    place = Path(config.embeddings[-1].tensor_path).parent / "bookmarks.json"
    write_json(folder / place, states)
    config.embeddings[-1].bookmarks_path = place.as_posix()
    write_text(folder / CONFIG, text_format.MessageToString(config))


def log_scores(
    writer: SummaryWriter, label: ArrayLike, score: ArrayLike, *, name: str, step: int = 0
) -> None:
    """How good scores are: precision and recall, calibration, and how the classes are spread.

    Args:
        writer: see `summary_writer`.
        label: (N,) 0 = real, 1 = fake; both occur.
        score: (N,) P(fake).
        name: of what was scored, ``val/video`` for instance; entries are ``<name>_ece`` and so on.
        step: training step that the scores belong to.
    """
    label, score = np.asarray(label, np.int64), np.asarray(score, np.float64)
    writer.add_pr_curve(f"{name}_precision_recall", label, score, step, num_thresholds=THRESHOLDS)
    writer.add_scalar(f"{name}_ece", expected_calibration_error(label, score), step)
    writer.add_scalar(f"{name}_brier", brier_score(label, score), step)
    display = CalibrationDisplay.from_scores(label, score, f"{name}, step {step}").plot()
    display.figure_.set_dpi(150)
    writer.add_figure(f"{name}_calibration", display.figure_, step)
    for value, kind in ((0, "real"), (1, "fake")):
        writer.add_histogram(f"{name}_score/{kind}", score[label == value], step)


def log_grid(
    writer: SummaryWriter,
    rows: NDArray[np.uint8],
    titles: Sequence[str],
    *,
    name: str,
    step: int = 0,
    tile_px: int = 112,
) -> None:
    """Pictures side by side under the titles of their columns.

    Args:
        writer: see `summary_writer`.
        rows: (R, C, H, W, 3) RGB.
        titles: C short texts.
        name: of the entry in the images tab.
        step: training step.
        tile_px: side of a picture in the grid.
    """
    lines = [np.concatenate([_tile(image, tile_px) for image in row], axis=1) for row in rows]
    words = [wrap(title, tile_px // 11) for title in titles]  # eleven pixels a letter
    header = np.full((TITLE_PX * max(map(len, words)), lines[0].shape[1], 3), 255, np.uint8)
    for column, parts in enumerate(words):
        for number, part in enumerate(parts, start=1):
            place = (column * tile_px + 3, number * TITLE_PX - 6)
            cv2.putText(header, part, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    writer.add_image(name, np.concatenate([header, *lines]), step, dataformats="HWC")


def log_settings(writer: SummaryWriter, settings: Mapping[str, Any]) -> None:
    """All settings of a run as a table in the text tab.

    Args:
        writer: see `summary_writer`.
        settings: by dotted key.
    """
    lines = [f"| `{key}` | `{_one_line(value) or ' '}` |" for key, value in settings.items()]
    writer.add_text("config", "\n".join(["| key | value |", "|---|---|", *lines]))


def log_hyperparameters(
    writer: SummaryWriter,
    settings: Mapping[str, Any],
    metrics: Sequence[str],
    *,
    results: Mapping[str, float] | None = None,
    step: int = 0,
) -> None:
    """A line of the hparams tab, which compares all runs below one folder.

    Args:
        writer: see `summary_writer`.
        settings: by dotted key; the columns to compare by.
        metrics: names of all results, whether they are known yet or not.
        results: at the end of a run, their values; None at its beginning.
        step: training step.
    """
    shown = {
        key: value if isinstance(value, (bool, int, float)) else _value_text(value)
        for key, value in settings.items()
    }
    begin, session, end = hparams(shown, dict.fromkeys(metrics, 0.0))
    for summary in (begin, session) if results is None else (end,):
        writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]
    for name, value in (results or {}).items():
        writer.add_scalar(name, value, step)
    writer.flush()


def _write_on(image: NDArray[np.uint8], text: str, place: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture with white letters on a black edge, so that they can be read on anything."""
    written = np.ascontiguousarray(image)
    scale = max(0.3, image.shape[0] / 400)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(written, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
    return written


def _tile(image: NDArray[np.uint8], tile_px: int) -> NDArray[np.uint8]:
    return cv2.resize(image, (tile_px, tile_px), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _value_text(value: object) -> str:
    return "none" if value is None else _one_line(value)


def _one_line(value: object) -> str:
    return "" if value is None or value != value else " ".join(str(value).split())


def _sprites(pictures: np.ndarray | None) -> torch.Tensor | None:
    if pictures is None or len(pictures) > (SPRITE_SHEET_PX // SPRITE_PX) ** 2:
        return None
    images = torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 255  # (N, H, W, 3) -> (N, 3, H, W)
    return functional.interpolate(images, size=(SPRITE_PX, SPRITE_PX), mode="area")
