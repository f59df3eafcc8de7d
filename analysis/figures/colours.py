"""One colour for each group, dataset and method, the same in every figure and table."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

# Okabe & Ito, "Color Universal Design" (2008): distinct for every common kind of colour vision.
PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#F0E442",
}
# From the ninth name on: Paul Tol's "muted" and "bright" colours (2021), those unlike the ones above.
MORE = ("#332288", "#882255", "#999933", "#AA4499", "#117733", "#CC6677", "#BBBBBB", "#661100")
_FIXED = {
    "real": "blue",
    "fake": "vermillion",
    "FaceForensics++": "blue",
    "Celeb-DF-v2": "vermillion",
    "WildDeepfake": "green",
    "AI-Face": "purple",
    "Deepfakes": "vermillion",
    "Face2Face": "green",
    "FaceSwap": "purple",
    "NeuralTextures": "orange",
    "FaceShifter": "sky",
    "female": "purple",
    "male": "green",
    "light": "orange",
    "medium": "sky",
    "dark": "blue",
    "child": "orange",
    "youth": "sky",
    "young": "sky",
    "adult": "green",
    "middle": "purple",
    "senior": "vermillion",
    "asian": "orange",
    "black": "blue",
    "white": "green",
    "others": "purple",
    "unknown": "black",
}


def group_colour(name: str) -> str:
    """The colour that a group, dataset or method has in every figure, as ``#rrggbb``.

    Names of the datasets and demographics we know are fixed by hand; any other name gets a colour
    that depends on the name alone. Two unknown names may share one: see `group_colours`.

    >>> group_colour("fake")
    '#D55E00'
    """
    if name in _FIXED:
        return PALETTE[_FIXED[name]]
    choices = [colour for key, colour in PALETTE.items() if key not in ("yellow", "black")]
    return choices[zlib.crc32(str(name).encode("utf-8")) % len(choices)]


def group_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each of the names shown together, distinct up to sixteen.

    Known names keep theirs; the others move to the next free colour, in alphabetical order.
    """
    ordered = list(dict.fromkeys(map(str, names)))
    chosen: dict[str, str] = {}
    for name in sorted(ordered, key=lambda name: (name not in _FIXED, name)):
        wanted = group_colour(name)
        free = [colour for colour in (*PALETTE.values(), *MORE) if colour not in chosen.values()]
        chosen[name] = wanted if wanted in free or not free else free[0]
    return {name: chosen[name] for name in ordered}


def readable_ink(colour: str) -> str:
    """A ``#rrggbb`` dark enough for letters on white: WCAG's contrast of 4.5 to 1.

    >>> readable_ink("#0072B2"), readable_ink("#F0E442")
    ('#0072B2', '#7f7923')
    """
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    shade = 1.0
    while 1.05 / (_luminance([shade * one for one in channels]) + 0.05) < 4.5:
        shade -= 0.01
    if shade == 1.0:
        return colour
    return "#" + "".join(f"{round(255 * shade * one):02x}" for one in channels)


def _luminance(channels: Sequence[float]) -> float:
    """Relative luminance of sRGB in [0, 1] (WCAG 2.2)."""
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
