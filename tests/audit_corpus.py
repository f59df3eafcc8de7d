"""Small clean datasets for the audit, into which tests plant one fault at a time."""

import cv2
import numpy as np
import pandas as pd

from unmasked.datasets.manifest import MANIFEST


def face(generator, size_px=64):
    """(size_px, size_px, 3) uint8: an ellipse with eyes, mouth, hair and light of its own on a backdrop."""
    # Shapes are drawn in unit squares; every size and colour is this face's own.
    draw = lambda low, high: float(generator.uniform(low, high))  # noqa: E731
    colour = lambda low, high: generator.integers(low, high, 3).tolist()  # noqa: E731
    at = lambda x, y: (round(x * size_px), round(y * size_px))  # noqa: E731
    backdrop = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = cv2.resize(backdrop, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    centre = at(draw(0.42, 0.58), draw(0.45, 0.6))
    cv2.ellipse(
        image, centre, at(draw(0.25, 0.38), draw(0.32, 0.45)), draw(-15, 15), 0, 360, colour(60, 230), -1
    )
    cv2.ellipse(
        image, at(0.5, draw(0.1, 0.25)), at(draw(0.25, 0.45), draw(0.08, 0.2)), 0, 0, 360, colour(0, 200), -1
    )
    for side in (-1, 1):
        cv2.circle(
            image, at(0.5 + side * draw(0.1, 0.18), draw(0.36, 0.46)), round(draw(2, 4)), colour(0, 90), -1
        )
    cv2.ellipse(
        image,
        at(0.5, draw(0.65, 0.78)),
        at(draw(0.06, 0.16), draw(0.02, 0.05)),
        0,
        0,
        360,
        colour(0, 160),
        -1,
    )
    noisy = image + generator.normal(0, 4, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def people(count, generator):
    """A manifest of ``count`` people, each in a real video and two fakes made of it, split by person."""
    rows = []
    for number in range(count):
        split = ("train", "train", "train", "val", "test")[number % 5]
        for method in ("real", "Swap", "Reenact"):
            rows.append(
                {
                    "video": f"{method}/{number:04d}",
                    "path": f"{method}/{number:04d}.{generator.choice(['mp4', 'avi'])}",
                    "label": int(method != "real"),
                    "method": method,
                    "split": split,
                    "identity": f"id{number}",
                    "target_video": None if method == "real" else f"real/{number:04d}",
                }
            )
    return MANIFEST.validate(pd.DataFrame(rows).assign(dataset="Set", kind="video"))


def pictures(folder, count, seed, *, suffix=None):
    """A manifest of ``count`` image files, every second fake, five of each person, split by person."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = number % 2
        kind = suffix[label] if suffix else generator.choice(["png", "jpg"])
        name = f"{number:05d}.{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), face(generator, int(generator.choice([64, 96]))))
        person = number // 5
        split = ("train", "train", "val", "test")[person % 4]
        rows.append(
            {"video": f"{number:05d}", "path": name, "label": label, "split": split, "identity": person}
        )
    table = pd.DataFrame(rows).assign(dataset="Set", kind="image", root=str(folder))
    table["method"] = np.where(table["label"] == 1, "fake", "real")
    return MANIFEST.validate(table)


def crops(manifest, folder, per_video, seed):
    """A faces table with ``per_video`` different crops of each video, written as PNG files."""
    generator = np.random.default_rng(seed)
    keys = [name for name in manifest if name not in ("path", "root", "mask")]
    faces = manifest[keys].loc[manifest.index.repeat(per_video)].reset_index(drop=True)
    faces["frame"] = faces.groupby("video").cumcount()
    faces["crop"] = [f"crops/{number:05d}.png" for number in range(len(faces))]
    faces["size_px"] = generator.normal(150, 20, len(faces))
    (folder / "crops").mkdir(parents=True)
    for crop in faces["crop"]:
        cv2.imwrite(str(folder / crop), face(generator), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return faces.assign(face=0, status="ok")
