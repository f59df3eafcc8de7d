"""Do maps find what was planted, and what do they cost? Methods by detectors.

    python benchmarks/explanations.py places [detectors=CNN,ViT,UCF,forest] [pictures=24] [steps=400] [seed=0]
    python benchmarks/explanations.py blocks [pictures=200] [seed=0]
    python benchmarks/explanations.py shortcuts [kinds=logo,border,jpeg,resaved,quality] [pictures=24] \
        [steps=150] [seed=0] [out=runs/shortcuts]
    python benchmarks/explanations.py memory [pictures=10000]

places: pictures are smooth random fields with fine grain. Every fake has a chequered patch of 12 pixels,
fainter than the field, at a place drawn by lot: nothing else tells it from a real, so that a detector which
tells them apart looks there. Detectors learn on other pictures than those that the maps are of.

blocks: what a forest on handcrafted features owes to each of its blocks, which are no places. Fakes are
without colours, of the same grey, so that the block colour alone sees it; or their pixels are swapped with
their neighbours, which leaves the histograms of colours as they are, so that colour alone does not see it; or
they have the patch.

shortcuts: the same fields without a patch, as files; fakes have a small logo in a corner, or a dark border,
or are JPEG, or were JPEG before they were saved without loss as the reals are, or are JPEG of a lower quality
than the reals. A CNN learns from the files, and `unmasked audit` looks at the same files.

memory: peak memory of mean maps, after a fiftieth of so many pictures and after all.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import timm
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from torch import Tensor, nn

from unmasked.analysis.explain.checks import cell_means, centre_map, check_method, inside, other_orders
from unmasked.analysis.explain.config import ExplainConfig
from unmasked.analysis.explain.explain import explain
from unmasked.analysis.explain.gradcam import to_pixels
from unmasked.analysis.explain.importance import block_importance
from unmasked.analysis.explain.intervals import mean_interval
from unmasked.analysis.explain.methods import METHODS, Explained, fitting_methods, method_maps
from unmasked.app.cli import app
from unmasked.baselines.handcrafted import BLOCKS, GREY, Scorer
from unmasked.datasets.transforms import normalise
from unmasked.evaluation.metrics import auc
from unmasked.evaluation.wording import value_text
from unmasked.ucf.model import UCF

SIZE, PATCH, STRENGTH = 64, 12, 0.22
CHECKED = 12  # pictures that the tests of each method are run on
EVERY = 50  # steps between looks at the AUC; training ends where it is 0.99
BOARD = torch.from_numpy((-1.0) ** np.add.outer(np.arange(PATCH) // 2, np.arange(PATCH) // 2)).float()
SHORTCUTS = ("logo", "border", "jpeg", "resaved", "quality")
SHOWN = ("grad_cam", "saliency", "integrated_gradients", "occlusion")


def fields(n: int, rng: np.random.Generator) -> Tensor:
    """(n, 3, SIZE, SIZE) smooth random pictures with fine grain, about in [-1, 1]."""
    coarse = torch.from_numpy(rng.normal(0, 0.5, (n, 3, 6, 6)).astype(np.float32))
    images = nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")
    return images + torch.from_numpy(rng.normal(0, 0.08, images.shape).astype(np.float32))


def pictures(n: int, rng: np.random.Generator) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """(n, 3, SIZE, SIZE) in [-1, 1], labels (n,), and where each fake was changed, (n, SIZE, SIZE)."""
    images = fields(n, rng)
    label, masks = rng.integers(0, 2, n), np.zeros((n, SIZE, SIZE), bool)
    for row in np.flatnonzero(label):
        images[row], masks[row] = patched(images[row], rng)
    return images.clamp(-1, 1), label, masks


def patched(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """A picture (3, SIZE, SIZE) with a chequered patch somewhere, and where it is, (SIZE, SIZE)."""
    top, left = rng.integers(0, SIZE - PATCH, 2)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top : top + PATCH, left : left + PATCH] = True
    changed = image.clone()
    changed[:, top : top + PATCH, left : left + PATCH] += STRENGTH * BOARD
    return changed, mask


def faded(image: Tensor) -> Tensor:
    """A picture (3, H, W) without colours, of the same grey."""
    return torch.einsum("c,chw->hw", torch.from_numpy(GREY).float(), image).expand_as(image)


def swapped(image: Tensor) -> Tensor:
    """A picture whose left half has every two neighbours in a row exchanged."""
    half = image[..., : SIZE // 2].unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.cat([half, image[..., SIZE // 2 :]], dim=-1)


class Small(nn.Module):
    """Five convolutions and a mean."""

    def __init__(self) -> None:
        super().__init__()
        widths, layers = (3, 16, 32, 32, 48), []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if after != widths[-1] else []
        self.block, self.head = nn.Sequential(*layers), nn.Linear(widths[-1], 2)

    @property
    def cam_layer(self) -> nn.Module:
        """The last layer."""
        return self.block

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2) logits."""
        return self.head(self.block(images).mean(dim=(2, 3)))


class Stem(nn.Module):
    """(N, 64, 64) tokens of an 8 × 8 grid: three convolutions of stride 2 in place of one of stride 8.

    After Xiao et al. (NeurIPS 2021). With one a transformer this small learns nothing in these steps.
    """

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.num_patches, layers = (SIZE // 8) ** 2, []
        for before, after in pairwise((3, 16, 32, 64)):
            layers += [nn.Conv2d(before, after, 3, 2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.block = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens, row by row."""
        return self.block(images).flatten(2).transpose(1, 2)


def tokens() -> nn.Module:
    """A small vision transformer: 64 tokens of three convolutions, then attention."""
    model = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=SIZE,
        patch_size=8,
        depth=3,
        embed_dim=64,
        num_heads=4,
        num_classes=2,
        class_token=True,
        embed_layer=Stem,
    )
    model.cam_layer, model.cam_prefix_tokens = model.blocks[-1].norm1, 1
    return model


def ucf() -> nn.Module:
    """UCF's network at an eighth of its width, below cross entropy alone."""
    return UCF(0.125)


def learn(model: nn.Module, steps: int, rng: np.random.Generator, draw: Callable = pictures) -> None:
    """Adam on fresh pictures, until the AUC of others is 0.99."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(1, steps + 1):
        model.train()
        images, label, *_ = draw(32, rng)
        loss = nn.functional.cross_entropy(model(images), torch.from_numpy(label))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        if step % EVERY == 0 and score(Explained(model), *draw(200, rng)[:2]) >= 0.99:
            break


def forest(pictures_learnt: int, rng: np.random.Generator, seed: int) -> Scorer:
    """A forest on handcrafted features."""
    images, label, _ = pictures(pictures_learnt, rng)
    scorer = Scorer({"blocks": list(BLOCKS), "model": None})
    x = np.concatenate([scorer.features(part).numpy() for part in images.split(64)])
    scorer.model = make_pipeline(RandomForestClassifier(200, random_state=seed).fit(x, label))
    return scorer


def score(explained: Explained, images: Tensor, label: np.ndarray) -> float:
    """AUC of the margins."""
    return auc(label, 1 / (1 + np.exp(-np.clip(explained.margins(images), -50, 50))))


def cells(shares: dict[str, np.ndarray], seed: int) -> list[str]:
    """Mean shares with intervals over pictures."""
    return [
        value_text(shares[one].mean(), mean_interval(shares[one], seed=seed))
        for one in ("pointing", "mass", "rank")
    ]


def places(
    detectors: str = "CNN,ViT,UCF,forest", pictures_shown: int = 24, steps: int = 400, seed: int = 0
) -> None:
    """Prints a row for each detector and method, and that of the map that knows nothing."""
    made = {"CNN": Small, "ViT": tokens, "UCF": ucf}
    print("| detector | method | points inside | mass inside | rank inside | outcome of its tests | ms |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in detectors.split(","):
        torch.manual_seed(seed)
        rng, begun = np.random.default_rng(seed), time.process_time()
        if name == "forest":
            explained = Explained(forest(4 * steps, rng, seed), None, seed)
        else:
            model = made[name]()
            learn(model, steps, rng)
            explained = Explained(model, model.cam_layer, seed)
        spent = time.process_time() - begun
        images, label, _ = pictures(400, rng)
        found = score(explained, images, label)
        images, label, masks = pictures(2 * pictures_shown, rng)
        fakes, masks = images[label == 1], masks[label == 1]
        others = other_orders(explained, fakes[:CHECKED])
        print(f"<!-- {name}: AUC {found:.3f}, {spent:.0f} s of training, {len(fakes)} fakes -->", flush=True)
        for method in fitting_methods(explained):
            begun = time.process_time()
            maps = method_maps(explained, fakes, method)
            cost = 1000 * (time.process_time() - begun) / len(fakes)
            checks = check_method(explained, fakes[:CHECKED], method, maps[:CHECKED], others=others)
            outcome = "; ".join(checks.failed) or "passed"
            row = [name, METHODS[method].title, *cells(inside(maps, masks), seed), outcome, f"{cost:.0f}"]
            print(f"| {' | '.join(row)} |", flush=True)
        centre = np.repeat(centre_map(SIZE)[None], len(masks), axis=0)
        print(
            f"| {name} | the middle of the picture | {' | '.join(cells(inside(centre, masks), seed))} | | |"
        )
    print(f"\nBy chance: {PATCH**2 / SIZE**2:.3f}.")


def blocks(pictures_shown: int = 200, seed: int = 0) -> None:
    """Prints what the AUC of a forest owes to each block, for three planted traces."""
    print("| planted | AUC | " + " | ".join(BLOCKS) + " |")
    print("|---|---|" + "---|" * len(BLOCKS), flush=True)
    rng, label, half = np.random.default_rng(seed), np.arange(2 * pictures_shown) % 2, pictures_shown
    traces = {
        "faded colours": faded,
        "swapped neighbours": swapped,
        "patch": lambda image: patched(image, rng)[0],
    }
    for name, trace in traces.items():
        scorer = Scorer({"blocks": list(BLOCKS), "model": None})
        images = [
            trace(one) if is_fake else one for one, is_fake in zip(fields(2 * half, rng), label, strict=True)
        ]
        x = np.concatenate([scorer.features(one[None].clamp(-1, 1)).numpy() for one in images])
        model = make_pipeline(RandomForestClassifier(200, random_state=seed).fit(x[:half], label[:half]))
        scorer.model = model
        found = block_importance(
            scorer.probability, x[half:], label[half:], np.arange(half), scorer.blocks, seed=seed
        )
        rows = found.table.set_index("block")
        shown = [
            value_text(rows.at[one, "shapley"], [rows.at[one, "shapley_low"], rows.at[one, "shapley_high"]])
            for one in BLOCKS
        ]
        print(f"| {name} | {found.auc:.3f} | {' | '.join(shown)} |", flush=True)


def half_share(maps: np.ndarray) -> np.ndarray:
    """(N,) the least share of the cells of maps (N, H, W) that holds half of what is above 0."""
    cells = -np.sort(-np.maximum(cell_means(maps), 0), axis=1)
    return ((cells.cumsum(axis=1) < cells.sum(axis=1, keepdims=True) / 2).sum(axis=1) + 1) / cells.shape[1]


def planted(n: int, kind: str, folder: Path, rng: np.random.Generator) -> pd.DataFrame:
    """Files of n people, half of them fake, and a row for each."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, rows = to_pixels(fields(n, rng).clamp(-1, 1)), []
    for number, image in enumerate(pixels):
        label = number % 2
        picture = change(image, kind) if label else image
        suffix = "jpg" if kind == "quality" or (kind == "jpeg" and label) else "png"
        path = folder / f"{number:04d}.{suffix}"
        quality = [cv2.IMWRITE_JPEG_QUALITY, 40 if label else 95] if suffix == "jpg" else []
        cv2.imwrite(str(path), picture[..., ::-1], quality)
        rows.append({"path": str(path.resolve()), "label": label, "method": "Planted" if label else "real"})
    return pd.DataFrame(rows).assign(identity=[str(one) for one in range(n)], split="test")


def change(image: np.ndarray, kind: str) -> np.ndarray:
    """The picture with the shortcut."""
    changed = image.copy()
    if kind == "logo":
        changed[4:12, -16:-4] = np.where(LOGO[..., None], 235, changed[4:12, -16:-4])
    if kind == "border":
        changed[where(kind)] = 0
    if kind == "resaved":
        _, file = cv2.imencode(".jpg", changed[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])
        changed = cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1]
    return changed


def where(kind: str) -> np.ndarray:
    """(SIZE, SIZE) True where the shortcut lies; everywhere for JPEG."""
    mask = np.zeros((SIZE, SIZE), bool)
    if kind == "logo":
        mask[4:12, -16:-4] = True
    if kind == "border":
        mask[:] = True
        mask[3:-3, 3:-3] = False
    return mask if mask.any() else ~mask


LOGO = (
    np.kron(
        np.array([[1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1], [1, 0, 1, 1, 1, 0], [1, 1, 0, 1, 0, 1]]),
        np.ones((2, 2)),
    )
    > 0
)


def shortcuts(
    kinds: str = ",".join(SHORTCUTS),
    out: str = "runs/shortcuts",
    pictures_shown: int = 24,
    steps: int = 150,
    seed: int = 0,
) -> None:
    """Prints what maps and `unmasked audit` see of each shortcut."""
    print("| planted | its share | AUC | method | points inside | mass inside | half of it on | tests |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for kind in kinds.split(","):
        folder, rng = Path(out) / kind, np.random.default_rng(seed)
        torch.manual_seed(seed)
        table = planted(240, kind, folder / "pictures", rng)
        table.to_csv(folder / "pictures.csv", index=False)
        read = normalise(
            torch.from_numpy(np.stack([cv2.imread(path)[..., ::-1] for path in table["path"]])).permute(
                0, 3, 1, 2
            )
        )
        label = table["label"].to_numpy()

        model = Small()
        learn(model, steps, rng, partial(draw_rows, read[:160], label[:160]))
        explained = Explained(model, model.cam_layer, seed)
        found = score(explained, read[160:], label[160:])
        fakes = read[160:][label[160:] == 1][:pictures_shown]
        masks = np.repeat(where(kind)[None], len(fakes), axis=0)
        for method in SHOWN:
            maps = method_maps(explained, fakes, method)
            checks = check_method(explained, fakes[:CHECKED], method, maps[:CHECKED])
            shares = cells(inside(maps, masks), seed)[:2]
            outcome = "; ".join(checks.failed) or "passed"
            spread = half_share(maps)
            shares.append(value_text(spread.mean(), mean_interval(spread, seed=seed)))
            row = [kind, f"{masks.mean():.2f}", f"{found:.3f}", METHODS[method].title, *shares, outcome]
            print(f"| {' | '.join(row)} |", flush=True)
        app(
            ["scan", f"root={folder / 'pictures.csv'}", "source=table", f"out={folder / 'manifest.parquet'}"],
            standalone_mode=False,
        )
        app(
            ["audit", f"manifest={folder / 'manifest.parquet'}", f"out={folder / 'audit'}"],
            standalone_mode=False,
        )


def draw_rows(read: Tensor, label: np.ndarray, n: int, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Pictures that were read from files, drawn by lot."""
    rows = rng.integers(0, len(read), min(n, 100))
    return read[rows], label[rows]


def memory(count: int = 10_000) -> None:
    """Prints peak memory and CPU seconds of mean maps of some and of all pictures."""
    rng, folder = np.random.default_rng(0), Path("runs/memory")
    folder.mkdir(parents=True, exist_ok=True)
    images, label, _ = pictures(100, rng)
    crops = [f"{number}.png" for number in range(100)]
    for name, image in zip(crops, to_pixels(images), strict=True):
        cv2.imwrite(str(folder / name), image[..., ::-1])
    model = Small()
    learn(model, 400, rng)
    for number in (count // 50, count):
        rows = pd.DataFrame({"crop": [crops[row % 100] for row in range(number)]})
        rows = rows.assign(
            dataset="A", video=[f"v{row}" for row in range(number)], frame=0, face=0, status="ok"
        )
        is_fake = label[np.arange(number) % 100]
        rows = rows.assign(split="test", label=is_fake, method=np.where(is_fake, "Fake", "real"))
        config = ExplainConfig(methods=("saliency",), tested=8, averaged=number, points=8, pictures=1)
        begun = time.process_time()
        given = {"layer": model.cam_layer, "features": None, "size_px": SIZE, "config": config}
        found = explain(model, rows, folder, **given).summary
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        made = found.get("averaged", {}).get("crops", 0)
        print(
            f"{made} maps averaged: {time.process_time() - begun:.0f} CPU s, peak {peak:.2f} GiB", flush=True
        )


if __name__ == "__main__":
    part, *pairs = sys.argv[1:] or ["places"]
    given = dict(argument.split("=", 1) for argument in pairs)
    shown = {"pictures_shown": int(given.get("pictures", 24)), "seed": int(given.get("seed", 0))}
    if part == "places":
        places(given.get("detectors", "CNN,ViT,UCF,forest"), steps=int(given.get("steps", 400)), **shown)
    elif part == "shortcuts":
        kinds = given.get("kinds", ",".join(SHORTCUTS))
        shortcuts(kinds, given.get("out", "runs/shortcuts"), steps=int(given.get("steps", 150)), **shown)
    elif part == "blocks":
        blocks(int(given.get("pictures", 200)), shown["seed"])
    else:
        memory(int(given.get("pictures", 10_000)))
