"""What is done to which crops, and the work of one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unmasked.evaluation.perturbing.registry import Image, Setting

Batch = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]


@dataclass(frozen=True)
class Perturbed:
    """What is done to which crops."""

    settings: Sequence[Setting]
    seed: int = 0
    manifest: pd.DataFrame | None = None  # where the videos are; for settings of the frame only
    per_video: int | None = None  # crops of a video that are perturbed, evenly spread; None is all


class Made(NamedTuple):
    """A perturbed crop, and which row and setting it is of."""

    row: int
    setting: int
    image: Image


@dataclass(frozen=True)
class Unit:
    """Work for one thread: how many crops it makes, and how."""

    count: int
    make: Callable[[], list[Made]]
