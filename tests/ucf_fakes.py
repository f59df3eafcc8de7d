"""Small faces tables with crops that a narrow UCF can learn in seconds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from unmasked.training import checkpoint, module
from unmasked.training import train as training
from unmasked.training.handle import Detector
from unmasked.ucf.config import UCFConfig

DETECTOR = Detector("ucf", "unmasked.ucf.detector")
# The engine's doors, with UCF as the detector.
train = partial(training.train, detector=DETECTOR)
UCFModule = partial(module.DetectorModule, DETECTOR)
save, load = partial(checkpoint.save, DETECTOR), partial(checkpoint.load, DETECTOR)

METHODS = ("Deepfakes", "Face2Face")


def write_faces(
    root: Path, videos: dict[str, int], *, frames: int = 4, size_px: int = 64, seed: int = 0
) -> pd.DataFrame:
    """A faces table of smooth random images; fakes are the same with a square blurred or made grainy.

    Args:
        root: gets ``crops/``.
        videos: number of identities in each split; each has one real video and one fake of each method.
    """
    rng = np.random.default_rng(seed)
    rows = []
    (root / "crops").mkdir(parents=True, exist_ok=True)
    for split, count in videos.items():
        for identity in range(count):
            base = _smooth(rng, size_px)
            for label, method in [(0, "real"), *((1, name) for name in METHODS)]:
                name = f"{split}{identity:03d}" if label == 0 else f"{method}/{split}{identity:03d}_x"
                for frame in range(frames):
                    image = np.clip(base + rng.normal(0, 6, base.shape), 0, 255)
                    crop = f"crops/{name.replace('/', '-')}-{frame}.png"
                    cv2.imwrite(str(root / crop), _manipulated(image, method, rng).astype(np.uint8))
                    rows.append(
                        {
                            "dataset": "Squares",
                            "video": name,
                            "kind": "video",
                            "label": label,
                            "method": method,
                            "split": split,
                            "identity": f"{split}{identity:03d}",
                            "target_video": f"{split}{identity:03d}" if label else None,
                            "compression": "c23",
                            "gender": "female" if identity % 2 else "male",
                            "frame": frame * 10,
                            "face": 0,
                            "crop": crop,
                            "status": "ok",
                        }
                    )
    return pd.DataFrame(rows)


def narrow_config(**changes: object) -> UCFConfig:
    """A narrow UCF; changes are written section__key."""
    values: dict = {
        "seed": 3,
        "model": {"width": 0.125, "size_px": 64, "decoder_dropout": 0.0},
        "optimiser": {"lr": 1e-3},
        "training": {"batch_pairs": 4, "epochs": 1, "log_every_steps": 1},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            values.setdefault(section, {})[name] = value
        else:
            values[section] = value
    return UCFConfig.model_validate(values)


def _smooth(rng: np.random.Generator, size_px: int) -> np.ndarray:
    coarse = rng.uniform(40, 215, (4, 4, 3)).astype(np.float32)
    return cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC)


def _manipulated(image: np.ndarray, method: str, rng: np.random.Generator) -> np.ndarray:
    quarter = len(image) // 4
    inside = (slice(quarter, 3 * quarter), slice(quarter, 3 * quarter))
    if method == "Deepfakes":
        image[inside] = cv2.GaussianBlur(image[inside], (7, 7), 3)
    elif method == "Face2Face":
        image[inside] = np.clip(image[inside] + rng.normal(0, 14, image[inside].shape), 0, 255)
    return image
