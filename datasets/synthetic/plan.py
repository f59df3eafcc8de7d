"""Who appears in which video of a synthetic corpus: look-alikes in pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from unmasked.datasets.synthetic.config import SyntheticConfig

if TYPE_CHECKING:
    from unmasked.datasets.synthetic.people import Person

FACEFORENSICS, CELEB_DF, WILD_DEEPFAKE, AI_FACE = "FaceForensics++", "Celeb-DF-v2", "WildDeepfake", "AI-Face"
FF_METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


@dataclass(frozen=True)
class Unit:
    """Two people who look alike, and every video that shows one of them.

    Attributes:
        dataset: as in the manifest.
        part: "faceforensics", "celeb", "youtube" or "wild", what is made of the two.
        split: train, val or test.
        names: what the two are called in file names: "004", "id7", "00012", or the sequence's number.
        number: of the unit within its part and split, from 0.
        videos: how many videos the unit holds.
    """

    dataset: str
    part: str
    split: str
    people: tuple[Person, Person]
    names: tuple[str, str]
    number: int
    videos: int

    @property
    def key(self) -> str:
        """A name that no other unit of the corpus has."""
        return f"{self.part}-{self.split}-{self.number:03d}"


def plan(config: SyntheticConfig, draw: Callable[..., Sequence[Person]]) -> list[Unit]:
    """All units of a corpus, the longest first.

    Args:
        config: of the corpus.
        draw: `people.draw_people`, or another function with its arguments.
    """
    ff = (("train", config.ff_train), ("val", config.ff_val), ("test", config.ff_test))
    celeb = (("train", config.celeb_train), ("test", config.celeb_test))
    wild = (("train", config.wild_train), ("test", config.wild_test))
    ff_videos = 2 * (1 + len(FF_METHODS))
    return list(
        chain(
            _units(config, draw, FACEFORENSICS, "faceforensics", ff, "{:03d}", ff_videos),
            _units(config, draw, CELEB_DF, "celeb", celeb, "id{}", 4 * config.celeb_videos),
            _units(config, draw, WILD_DEEPFAKE, "wild", wild, "{}", 4),
            _units(config, draw, CELEB_DF, "youtube", (("test", config.celeb_youtube),), "{:05d}", 2),
        )
    )


def seed_for(seed: int, *names: str | int) -> int:
    """A seed for these names, independent of the order in which things are made.

    >>> seed_for(0, "004", "clip") == seed_for(0, "004", "clip") != seed_for(0, "005", "clip")
    True
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def look_alikes(people: Sequence[Person]) -> list[tuple[Person, Person]]:
    """Pairs of the same gender and of similar skin tone and age, like the originals' pairs.

    With an odd number of women one pair is mixed; the two then share a dark skin tone.
    """
    # Women from light to dark, then men from dark to light: neighbours differ little everywhere.
    women = sorted((p for p in people if p.gender == "female"), key=lambda p: (p.skin_tone, p.age_years))
    men = sorted((p for p in people if p.gender != "female"), key=lambda p: (-p.skin_tone, p.age_years))
    line = women + men
    return list(zip(line[::2], line[1::2], strict=True))


def _units(
    config: SyntheticConfig,
    draw: Callable[..., Sequence[Person]],
    dataset: str,
    part: str,
    splits: Sequence[tuple[str, int]],
    naming: str,
    videos: int,
) -> Iterator[Unit]:
    """The units of one part; file names are drawn at random, so that they say nothing."""
    total = sum(count for _, count in splits)
    names = iter(np.random.default_rng(seed_for(config.seed, part)).permutation(total).tolist())
    for split, count in splits:
        if not count:
            continue
        people = draw(count, seed=seed_for(config.seed, part, split), prefix=f"{part}-{split}-")
        for number, pair in enumerate(look_alikes(people)):
            called = (naming.format(next(names)), naming.format(next(names)))
            yield Unit(dataset, part, split, pair, called, number, videos)
