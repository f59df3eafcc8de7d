"""Do maps find an artefact where it was planted? Methods by detectors, with what a picture costs.

    python benchmarks/explanations.py [pictures=64] [steps=400] [seed=0]

Pictures are smooth random fields with fine grain. Every fake has a chequered patch of 12 pixels, fainter
than the field, at a place drawn by lot: nothing else tells it from a real, so that a detector which tells
them apart looks there. Detectors learn on other pictures than those that the maps are of.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import timm
import torch
from torch import Tensor, nn

from unmasked.analysis.explain.checks import centre_map, check_method, inside
from unmasked.analysis.explain.methods import METHODS, Explained, check_methods, method_maps
from unmasked.datasets.errors import InputError
from unmasked.evaluation.intervals import percentile_interval
from unmasked.evaluation.metrics import auc

SIZE, PATCH, STRENGTH = 64, 12, 0.22


def pictures(n: int, rng: np.random.Generator) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """(n, 3, SIZE, SIZE) in [-1, 1], labels (n,), and where each fake was changed, (n, SIZE, SIZE)."""
    coarse = torch.from_numpy(rng.normal(0, 0.5, (n, 3, 6, 6)).astype(np.float32))
    images = nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")
    images += torch.from_numpy(rng.normal(0, 0.08, images.shape).astype(np.float32))
    label, masks = rng.integers(0, 2, n), np.zeros((n, SIZE, SIZE), bool)
    board = torch.from_numpy((-1.0) ** np.add.outer(np.arange(PATCH) // 2, np.arange(PATCH) // 2)).float()
    for row in np.flatnonzero(label):
        top, left = rng.integers(0, SIZE - PATCH, 2)
        images[row, :, top : top + PATCH, left : left + PATCH] += STRENGTH * board
        masks[row, top : top + PATCH, left : left + PATCH] = True
    return images.clamp(-1, 1), label, masks


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


def tokens() -> nn.Module:
    """A small vision transformer of 64 tokens."""
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=SIZE, patch_size=8, depth=4, embed_dim=96, num_classes=2
    )
    model.cam_layer, model.cam_prefix_tokens = model.blocks[-1].norm1, 1
    return model


def learn(model: nn.Module, steps: int, rng: np.random.Generator) -> None:
    """Adam on fresh pictures."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(steps):
        images, label, _ = pictures(32, rng)
        loss = nn.functional.cross_entropy(model(images), torch.from_numpy(label))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def _share(values: np.ndarray, seed: int) -> str:
    draws = np.random.default_rng(seed).integers(0, len(values), (2000, len(values)))
    low, high = percentile_interval(values[draws].mean(axis=1), clusters=len(values))
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def main(pictures_shown: int = 64, steps: int = 400, seed: int = 0) -> None:
    """Prints a row for each detector and method, and the two maps that know nothing."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    made: dict[str, Callable[[], nn.Module]] = {"CNN": Small, "ViT": tokens}
    print("| detector | method | points inside | mass inside | rank inside | outcome of its tests | ms |")
    print("|---|---|---|---|---|---|---|")
    for name, make in made.items():
        model = make()
        learn(model, steps, rng)
        images, label, masks = pictures(2 * pictures_shown, rng)
        explained = Explained(model, model.cam_layer, seed)
        found = auc(label, 1 / (1 + np.exp(-explained.margins(images))))
        fakes, masks = images[label == 1], masks[label == 1]
        if found < 0.9:
            print(f"| {name} | | AUC {found:.3f}: it did not learn to see the patch | | | | |")
            continue
        for method in METHODS:
            try:
                check_methods([method], explained)
            except InputError as error:
                print(f"| {name} | {method} | {error} | | | | |")
                continue
            begun = time.process_time()
            maps = method_maps(explained, fakes, method)
            cost = 1000 * (time.process_time() - begun) / len(fakes)
            shares = inside(maps, masks)
            outcome = "; ".join(check_method(explained, fakes[:16], method, maps[:16]).failed) or "passed"
            cells = [_share(shares[one], seed) for one in ("pointing", "mass", "rank")]
            row = [f"{name} (AUC {found:.3f})", METHODS[method].title, *cells, outcome, f"{cost:.0f}"]
            print(f"| {' | '.join(row)} |", flush=True)
        centre = np.repeat(centre_map(SIZE)[None], len(masks), axis=0)
        shares = inside(centre, masks)
        cells = [_share(shares[one], seed) for one in ("pointing", "mass", "rank")]
        print(f"| {name} | the middle of the picture | {' | '.join(cells)} | | |")
    print(f"\nBy chance: {PATCH**2 / SIZE**2:.3f}. {len(masks)} fakes, intervals over pictures.")


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    main(int(given.get("pictures", 64)), int(given.get("steps", 400)), int(given.get("seed", 0)))
