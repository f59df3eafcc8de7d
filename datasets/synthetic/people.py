"""Invented people: who they are, and everything about how they look."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

# Years in which each age group falls, first included, last not. Children are not drawn.
AGE_GROUPS = {"youth": (18, 26), "adult": (26, 42), "middle": (42, 60), "senior": (60, 76)}
# The Monk tones of each group, as Heldreth et al. (2024) and AI-Face group them.
TONE_GROUPS = {"light": (1, 2, 3), "medium": (4, 5, 6), "dark": (7, 8, 9, 10)}
GENDERS = ("female", "male")
HAIR_STYLES = {
    "female": ("long", "long", "bob", "bob", "bun", "curly"),
    "male": ("short", "short", "short", "crop", "crop", "curly", "receding", "bald"),
}
BEARDS = ("none", "none", "none", "stubble", "moustache", "full")

_HAIR_COLOURS = {  # sRGB
    "black": (24, 20, 19),
    "dark brown": (52, 36, 27),
    "brown": (86, 58, 38),
    "auburn": (116, 58, 32),
    "blond": (176, 140, 88),
    "grey": (146, 139, 129),
    "white": (186, 180, 170),
}
_EYE_COLOURS = {"brown": (82, 52, 30), "dark": (48, 32, 22), "green": (92, 108, 72), "blue": (92, 124, 150)}
_CLOTH_COLOURS = (
    (44, 62, 92), (120, 36, 42), (60, 84, 62), (206, 200, 188), (38, 38, 42),
    (96, 72, 120), (176, 120, 60), (90, 130, 150), (70, 70, 76), (150, 90, 100),
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """One identity. The planted attributes come first.

    The rest is appearance, drawn independently of them
    wherever people's looks allow it (beards go with men, grey hair with age, dark hair with dark skin).

    Attributes:
        skin_tone: Monk scale, 1 (lightest) to 10.
        age: group of `age_years`, a key of AGE_GROUPS.
        phenotype: (name, value) pairs for `Head.neutral_vertices`.
        changes: (name, signed amount) pairs for `Head.neutral_vertices`, what tells one face from another.
        brow: thickness of the eyebrows, 1 = ordinary.
        lip: how far the lips' colour differs from the skin, 1 = ordinary.
        freckles: density, 0 to 1.
        seed: of the person's skin and hair texture.
    """

    name: str
    gender: str
    age_years: float
    age: str
    skin_tone: int
    phenotype: tuple[tuple[str, float], ...]
    changes: tuple[tuple[str, float], ...]
    hair_style: str
    hair_colour: tuple[int, int, int]
    beard: str
    eye_colour: tuple[int, int, int]
    brow: float
    lip: float
    freckles: float
    cloth_colour: tuple[int, int, int]
    seed: int


def draw_people(n: int, *, seed: int, prefix: str = "") -> list[Person]:
    """n people, spread evenly over gender, tone and age groups; the same for the same seed.

    Every 24 people hold each combination once, in an order that also keeps the beginnings even. Names are
    the prefix and a number of three digits or more.

    >>> [(p.name, p.age) == (q.name, q.age) for p, q in zip(draw_people(2, seed=1), draw_people(2, seed=1))]
    [True, True]
    """
    rng = np.random.default_rng(seed)
    cells = _balanced_cells(n, rng)
    return [_draw_person(f"{prefix}{index:03d}", *cell, rng) for index, cell in enumerate(cells)]


def _balanced_cells(n: int, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """n (gender, tone group, age group) triples: the rarest yet, of those the one that keeps most even."""
    every = list(product(GENDERS, TONE_GROUPS, AGE_GROUPS))
    subsets = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
    counts: dict[tuple, int] = {}
    chosen = []
    for _ in range(n):
        order = rng.permutation(len(every))

        def crowding(index: int) -> tuple[int, ...]:
            cell = every[index]
            count = [counts.get((subset, *(cell[i] for i in subset)), 0) for subset in subsets]
            return count[6], sum(count[:3]), sum(count[3:6])

        cell = every[min(order, key=crowding)]
        for subset in subsets:
            key = (subset, *(cell[i] for i in subset))
            counts[key] = counts.get(key, 0) + 1
        chosen.append(cell)
    return chosen


def _draw_person(name: str, gender: str, tone_group: str, age: str, rng: np.random.Generator) -> Person:
    tone = int(rng.choice(TONE_GROUPS[tone_group]))
    years = float(np.round(rng.uniform(*AGE_GROUPS[age]), 1))
    hair_style = str(rng.choice(HAIR_STYLES[gender]))
    if hair_style in ("receding", "bald") and years < 38:
        hair_style = "crop"
    return Person(
        name=name,
        gender=gender,
        age_years=years,
        age=age,
        skin_tone=tone,
        phenotype=_draw_phenotype(gender, years, rng),
        changes=_draw_changes(gender, years, rng),
        hair_style=hair_style,
        hair_colour=_draw_hair_colour(tone, years, rng),
        beard=str(rng.choice(BEARDS)) if gender == "male" else "none",
        eye_colour=_draw_eye_colour(tone, rng),
        brow=float(rng.uniform(0.6, 1.1) if gender == "female" else rng.uniform(1.0, 1.6)),
        lip=float(rng.uniform(0.9, 1.6) if gender == "female" else rng.uniform(0.4, 0.8)),
        freckles=float(max(0.0, rng.normal(0.0, 0.5))) if tone <= 4 else 0.0,
        cloth_colour=_CLOTH_COLOURS[int(rng.integers(len(_CLOTH_COLOURS)))],
        seed=int(rng.integers(2**31)),
    )


def _draw_phenotype(gender: str, years: float, rng: np.random.Generator) -> tuple[tuple[str, float], ...]:
    # Face shape is drawn apart from skin tone, so that tone alone carries the planted group.
    ancestry = rng.dirichlet((0.8, 0.8, 0.8))
    return (
        ("gender", float(rng.uniform(0.9, 1.0) if gender == "female" else rng.uniform(0.0, 0.1))),
        ("age", float(2 / 3 + (years - 25) / (90 - 25) / 3)),
        ("muscle", float(rng.uniform(0.3, 0.8))),
        ("weight", float(rng.uniform(0.25, 0.7))),
        ("proportions", float(rng.uniform(0.3, 0.9))),
        *zip(("african", "asian", "caucasian"), map(float, ancestry), strict=True),
    )


# Local changes by name, and one standard deviation of their amount. A name that starts with "lr-" stands
# for the two sides, moved together and a little apart.
_CHANGE_SPREAD = {
    "lr-cheek-volume-incr": 0.35, "lr-cheek-bones-incr": 0.45, "lr-cheek-inner-incr": 0.25,
    "chin-height-incr": 0.18, "chin-prominent-incr": 0.3, "chin-width-incr": 0.35, "chin-bones-incr": 0.3,
    "chin-cleft-incr": 0.3, "chin-prognathism-incr": 0.2, "chin-jaw-drop-incr": 0.3,
    "lr-ear-scale-incr": 0.3, "lr-ear-wing-incr": 0.3, "lr-ear-lobe-incr": 0.3,
    "eyebrows-angle-up": 0.35, "eyebrows-trans-up": 0.35, "eyebrows-trans-forward": 0.15,
    "lr-eye-corner1-up": 0.5, "lr-eye-corner2-up": 0.5, "lr-eye-height2-incr": 0.35,
    "lr-eye-scale-incr": 0.35, "lr-eye-trans-out": 0.35, "lr-eye-epicanthus-out": 0.35,
    "lr-eye-eyefold-up": 0.4, "lr-eye-bag-incr": 0.3,
    "forehead-temple-incr": 0.4, "forehead-trans-forward": 0.2, "forehead-scale-vert-incr": 0.15,
    "head-scale-horiz-incr": 0.22, "head-scale-vert-incr": 0.2, "head-fat-incr": 0.4,
    "head-scale-depth-incr": 0.2,
    "mouth-scale-horiz-incr": 0.5, "mouth-scale-vert-incr": 0.4, "mouth-lowerlip-height-incr": 0.3,
    "mouth-lowerlip-volume-incr": 0.35, "mouth-upperlip-height-incr": 0.35,
    "mouth-upperlip-volume-incr": 0.35, "mouth-cupidsbow-incr": 0.5, "mouth-angles-up": 0.25,
    "mouth-trans-up": 0.25, "mouth-dimples-out": 0.4,
    "nose-scale-horiz-incr": 0.35, "nose-scale-vert-incr": 0.3, "nose-width2-incr": 0.4,
    "nose-point-width-incr": 0.35, "nose-hump-incr": 0.4, "nose-point-up": 0.4, "nose-greek-incr": 0.3,
    "nose-nostrils-width-incr": 0.35, "nose-volume-incr": 0.3, "nose-curve-convex": 0.3, "nose-base-up": 0.3,
    "nose-trans-up": 0.25, "nose-scale-depth-incr": 0.3,
}  # fmt: skip


# Added for women and taken away for men; then added for all, towards livelier proportions.
_FEMALE_SHIFT = {
    "chin-bones-incr": -0.25, "chin-width-incr": -0.3, "eyebrows-trans-forward": -0.12,
    "head-fat-incr": -0.12,
    "mouth-upperlip-volume-incr": 0.2, "mouth-lowerlip-volume-incr": 0.2, "nose-volume-incr": -0.2,
    "nose-scale-horiz-incr": -0.15, "l-eye-scale-incr": 0.25, "r-eye-scale-incr": 0.25,
    "l-cheek-bones-incr": 0.1, "r-cheek-bones-incr": 0.1, "nose-point-up": 0.15,
}  # fmt: skip
_SHIFT = {
    "l-eye-scale-incr": 0.4, "r-eye-scale-incr": 0.4, "head-scale-horiz-incr": -0.15, "head-fat-incr": -0.3,
    "nose-volume-incr": -0.15,
}  # fmt: skip


def _draw_changes(gender: str, years: float, rng: np.random.Generator) -> tuple[tuple[str, float], ...]:
    changes: dict[str, float] = {}
    for name, spread in _CHANGE_SPREAD.items():
        amount = float(0.8 * np.clip(rng.normal(0, spread), -2 * spread, 2 * spread))
        if name.startswith("nose"):
            amount *= 0.8
        if not name.startswith("lr-"):
            changes[name] = amount
            continue
        for side in "lr":  # nobody's sides are quite the same
            changes[f"{side}-{name[3:]}"] = amount + float(rng.normal(0, 0.15 * spread))
    sex = -1.0 if gender == "female" else 1.0
    for name, by in {
        "chin-bones-incr": 0.25,
        "chin-width-incr": 0.25,
        "eyebrows-trans-forward": 0.15,
    }.items():
        changes[name] += sex * by
    for name, by in {"mouth-upperlip-volume-incr": 0.25, "mouth-lowerlip-volume-incr": 0.25}.items():
        changes[name] -= sex * by
    changes["head-age-incr"] = float(np.interp(years, (18, 40, 75), (-0.5, 0.3, 1.1)))
    changes["mouth-laugh-lines-out"] = float(np.interp(years, (18, 75), (-0.6, 0.5)))
    return tuple(changes.items())


def _draw_hair_colour(tone: int, years: float, rng: np.random.Generator) -> tuple[int, int, int]:
    if tone <= 3:
        shares = {"black": 1, "dark brown": 2, "brown": 3, "auburn": 2, "blond": 3}
    elif tone <= 6:
        shares = {"black": 3, "dark brown": 3, "brown": 2}
    else:
        shares = {"black": 4, "dark brown": 1}
    weights = np.array(list(shares.values()), float)
    base = np.array(_HAIR_COLOURS[str(rng.choice(list(shares), p=weights / weights.sum()))], float)
    grey = (
        float(np.clip(rng.normal(np.interp(years, (35, 75), (0.0, 0.95)), 0.15), 0, 1)) if years > 35 else 0.0
    )
    target = np.array(_HAIR_COLOURS["white" if years > 66 else "grey"], float)
    colour = (1 - grey) * base + grey * target + rng.normal(0, 3, 3)
    return tuple(int(value) for value in np.clip(colour, 5, 250))  # type: ignore[return-value]


def _draw_eye_colour(tone: int, rng: np.random.Generator) -> tuple[int, int, int]:
    names = list(_EYE_COLOURS) if tone <= 4 else ["brown", "dark"]
    colour = np.array(_EYE_COLOURS[str(rng.choice(names))]) + rng.normal(0, 6, 3)
    return tuple(int(value) for value in np.clip(colour, 15, 200))  # type: ignore[return-value]
