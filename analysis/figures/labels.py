"""Names beside the lines of a figure, where there is room for all; else a legend below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unmasked.analysis.figures.colours import readable_ink
from unmasked.analysis.figures.display import legend_below, shorten_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

LINES_MAX = 6  # beside more of them names are searched for longer than in a list
LETTERS_MAX = 26
FONT_SIZE = 8
# Shares of square axes of 3.5 inches that a letter is wide and a line of text is high.
LETTER, LINE = 0.016, 0.039
MARGIN = 0.012  # between a name and every line
TOUCHING = 0.03  # a name so near needs no pointer
APART = 0.04  # what a pointer ends at is so far from all other lines
CROSSING = 0.08  # what crossing another line or name costs, as a distance
CELLS = 100  # of the grid on which room is looked for
STEP = 2  # cells from one place that is tried to the next
POINTS = 40  # of a line that a name may point to
SAMPLES = 40  # of a pointer's way, looked at for crossings


def name_lines(axes: Axes, lines: Sequence[Line2D]) -> None:
    """Writes the label of each line beside it; a legend where one finds no room.

    Names lie on no line and on no other name; a thin pointer leads to a line that is not near.

    Args:
        axes: square ones, with their limits set.
        lines: what is named; a legend is needed where one has no points. All that the axes hold are kept
            free.
    """
    from matplotlib.colors import to_hex

    texts = [_text(line) for line in lines]
    has_points = all(len(line.get_xdata()) for line in lines)  # type: ignore[arg-type]
    places = _find_places(axes, lines, texts) if has_points and len(lines) <= LINES_MAX else []
    if not places:
        legend_below(axes)
    for line, text, place in zip(lines, texts, places, strict=False):
        ink = readable_ink(to_hex(line.get_color()))
        pointer = {"arrowstyle": "-", "color": ink, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            text,
            tuple(place.target),
            xycoords="axes fraction",
            xytext=tuple(place.corner),
            textcoords="axes fraction",
            fontsize=FONT_SIZE,
            color=ink,
            arrowprops=pointer | {"relpos": place.relative_end} if place.is_far else None,
        )


def _text(line: Line2D) -> str:
    """The label in short lines: the name, the number, the counts."""
    name, _, rest = str(line.get_label()).partition(": ")
    rest = re.sub(r", (?=n =|chance)", "\n", rest)
    return "\n".join(shorten_name(part, LETTERS_MAX) for part in [name, *rest.split("\n")] if part)


@dataclass(frozen=True)
class Place:
    """Where a name stands and what it points to, as shares of the axes."""

    corner: np.ndarray  # (2,) lower left
    size: np.ndarray  # (2,)
    target: np.ndarray  # (2,) of its line

    @property
    def nearest(self) -> np.ndarray:
        """(2,) the point of the name that is nearest to the line."""
        return np.clip(self.target, self.corner, self.corner + self.size)

    @property
    def is_far(self) -> bool:
        """True if a pointer is needed."""
        return bool(np.hypot(*(self.target - self.nearest)) > TOUCHING)

    @property
    def relative_end(self) -> tuple[float, float]:
        """Where on the name its pointer begins, as shares of its box."""
        x, y = (self.nearest - self.corner) / self.size
        return float(x), float(y)


def _find_places(axes: Axes, lines: Sequence[Line2D], texts: Sequence[str]) -> list[Place]:
    """A place for each name, none at all where one finds none.

    Whichever found none is placed first in the next attempt.
    """
    points = {line: _dense_points(axes, line) for line in axes.lines}
    of_lines = np.zeros((CELLS, CELLS), dtype=bool)  # [x, y]
    for one in points.values():
        of_lines[tuple(_cells(one).T)] = True
    targets = [
        _distinct_points(points[line], [one for key, one in points.items() if key is not line])
        for line in lines
    ]
    order = list(range(len(lines)))
    for _ in lines:
        is_taken, places = of_lines.copy(), {}
        for number in order:
            place = _find_place(targets[number], _size(texts[number]), is_taken)
            if place is None:
                order.remove(number)
                order.insert(0, number)
                break
            places[number] = place
            (left, low), (right, high) = _cells(np.array([place.corner, place.corner + place.size]))
            is_taken[left : right + 1, low : high + 1] = True
        else:
            return [places[number] for number in range(len(lines))]
    return []


def _distinct_points(own: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """(N, 2) points of a line at which it cannot be taken for another."""
    near = own[:: max(1, len(own) // POINTS)]
    for other in others:
        gaps = np.hypot(*np.moveaxis(near[:, None] - other, -1, 0))
        near = near[gaps.min(axis=1, initial=1) > APART]
    return near


def _find_place(points: np.ndarray, size: np.ndarray, is_taken: np.ndarray) -> Place | None:
    """The free place nearest to the points, crossings counted as a longer way; None for no room."""
    corners = _free_corners(size, is_taken)
    if not len(corners) or not len(points):
        return None
    # (corners, points, 2): from each place to each point.
    nearest = np.clip(points, corners[:, None], corners[:, None] + size)
    ways = points - nearest
    gaps = np.hypot(*np.moveaxis(ways, -1, 0))
    steps = np.linspace(0, 1, SAMPLES)
    cells = _cells(nearest[:, :, None] + steps[:, None] * ways[:, :, None])
    # Its own line, where the way ends, is crossed by none.
    is_met = is_taken[cells[..., 0], cells[..., 1]] & (gaps[..., None] * (1 - steps) > TOUCHING)
    crossings = (is_met[..., 1:] & ~is_met[..., :-1]).sum(axis=-1)
    corner, point = np.unravel_index(np.argmin(gaps + CROSSING * crossings), gaps.shape)
    return Place(corners[corner], size, points[point])


def _free_corners(size: np.ndarray, is_taken: np.ndarray) -> np.ndarray:
    """(places, 2) lower left corners of boxes of that size which hold nothing that is taken."""
    wide, high = np.ceil((size + 2 * MARGIN) * CELLS).astype(int)
    if max(wide, high) > CELLS:
        return np.empty((0, 2))
    total = np.pad(is_taken, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)  # of all cells to the lower left
    held = total[wide:, high:] - total[:-wide, high:] - total[wide:, :-high] + total[:-wide, :-high]
    return np.argwhere(held[::STEP, ::STEP] == 0) * STEP / CELLS + MARGIN


def _size(text: str) -> np.ndarray:
    lines = text.split("\n")
    return np.array([LETTER * max(map(len, lines)), LINE * len(lines)])


def _dense_points(axes: Axes, line: Line2D) -> np.ndarray:
    """(N, 2) points of a line at most a cell apart, as shares of the axes."""
    corners = (line.get_transform() - axes.transAxes).transform(line.get_xydata())
    corners = np.clip(corners[np.isfinite(corners).all(axis=1)], 0, 1)
    if len(corners) < 2:
        return corners
    way = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    at = np.linspace(0, way[-1], int(way[-1] * 2 * CELLS) + 2)
    return np.stack([np.interp(at, way, corners[:, axis]) for axis in (0, 1)], axis=1)


def _cells(points: np.ndarray) -> np.ndarray:
    return np.clip((points * CELLS).astype(int), 0, CELLS - 1)
