"""Explanations in TensorBoard: Grad-CAM pictures, features for the projector, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPRITE_PX = 32  # the projector draws all pictures from one sheet, at most 8192 px wide
SPRITE_SHEET_PX = 8192


@contextmanager
def summary_writer(folder: Path) -> Iterator[SummaryWriter]:
    """A writer into ``folder`` (for ``tensorboard --logdir``) that is flushed and closed at the end."""
    writer = SummaryWriter(str(folder))
    try:
        yield writer
    finally:
        writer.close()


def log_cams(
    writer: SummaryWriter, pictures: np.ndarray, overlays: np.ndarray, names: Sequence[str], *, step: int = 0
) -> None:
    """Each picture beside its overlay, (N, H, W, 3) uint8, under ``gradcam/<name>``; names are unique."""
    for name, picture, overlay in zip(names, pictures, overlays, strict=True):
        pair = np.concatenate([picture, overlay], axis=1)  # two (H, W, 3) -> (H, 2 W, 3)
        writer.add_image(f"gradcam/{name}", pair, global_step=step, dataformats="HWC")


def log_embedding(
    writer: SummaryWriter,
    features: np.ndarray,
    metadata: pd.DataFrame,
    *,
    pictures: np.ndarray | None = None,
    tag: str = "features",
    step: int = 0,
) -> None:
    """Features for the projector tab, with the columns of ``metadata`` to colour by.

    Args:
        writer: see `summary_writer`.
        features: (N, D) one row a crop.
        metadata: N rows.
        pictures: (N, H, W, 3) uint8, shown as the points; left out beyond what one sheet holds.
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


def log_figures(writer: SummaryWriter, figures: Mapping[str, Figure], *, step: int = 0) -> None:
    """Figures under their names in the images tab; the figures are closed."""
    for name, figure in figures.items():
        writer.add_figure(name, figure, global_step=step)


def _one_line(value: object) -> str:
    return "" if value is None or value != value else " ".join(str(value).split())


def _sprites(pictures: np.ndarray | None) -> torch.Tensor | None:
    if pictures is None or len(pictures) > (SPRITE_SHEET_PX // SPRITE_PX) ** 2:
        return None
    images = torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 255  # (N, H, W, 3) -> (N, 3, H, W)
    return functional.interpolate(images, size=(SPRITE_PX, SPRITE_PX), mode="area")
