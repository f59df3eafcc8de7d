"""What is behind a person: a room out of focus."""

from __future__ import annotations

import cv2
import numpy as np


def paint_backdrop(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size, 3) float32 linear light, about 0.4 on average: a wall with blurred shapes."""
    base = rng.uniform(0.12, 0.5) * (1 + rng.uniform(-0.22, 0.22, 3))
    rows, columns = np.mgrid[0:1:64j, 0:1:64j]
    slope = rng.normal(0, 0.3, 2)
    shade = 1 + slope[0] * (columns - 0.5) + slope[1] * (rows - 0.5)
    image = (base * shade[..., None]).astype(np.float32)
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.integers(-10, 64, 2)
        width, height = rng.integers(6, 34, 2)
        colour = rng.uniform(0.03, 0.8) * (1 + rng.uniform(-0.5, 0.5, 3))
        if rng.uniform() < 0.6:
            cv2.rectangle(image, (int(x), int(y)), (int(x + width), int(y + height)), colour.tolist(), -1)
        else:
            cv2.circle(image, (int(x), int(y)), int(width // 3 + 1), colour.tolist(), -1)
    image = cv2.GaussianBlur(np.clip(image, 0.01, 1), (0, 0), rng.uniform(1.2, 4))
    return cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
