"""How the chance to find a difference between groups rises with the size of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pandas as pd

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.display import (
    CHANCE,
    MARKERS,
    Display,
    axes_above_legend,
    label_as_percent,
    legend_below,
)
from unmasked.evaluation.wording import is_missing
from unmasked.fairness.planning import Need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import Container


@dataclass
class PowerDisplay(Display):
    """Power over people, a line for each group that may be the one that is worse off.

    Attributes:
        needs: a curve each.
        wanted: share of studies that are to find the difference.
    """

    needs: Sequence[Need]
    wanted: float

    def table(self) -> pd.DataFrame:
        """A row for each group and size."""
        return pd.DataFrame(
            [{"worse": need.worse, **asdict(one)} for need in self.needs for one in need.curve]
        )

    def plot(self, ax: Axes | None = None) -> PowerDisplay:
        """Draws the simulated studies with their standard errors, and the wanted power."""
        self.ax_ = ax or axes_above_legend(len(self.needs))
        self.lines_: list[Container] = []
        colours = group_colours([need.worse for need in self.needs])
        for place, need in enumerate(self.needs):
            told = "not found" if is_missing(need.people) else f"{need.people:,.0f} people"
            drawn = self.ax_.errorbar(
                [one.people for one in need.curve],
                [one.power for one in need.curve],
                yerr=[one.standard_error for one in need.curve],
                color=colours[need.worse],
                marker=MARKERS[place % len(MARKERS)],
                capsize=2,
                label=f"{need.worse} worse off: {told}",
            )
            self.lines_.append(drawn)
        self.ax_.axhline(self.wanted, **CHANCE, label=f"wanted: {100 * self.wanted:.0f} %")
        self.ax_.set(ylim=(0, 1.02), xscale="log", xlabel="people in the study, all groups together")
        label_as_percent(self.ax_.yaxis, "studies that find the difference")
        legend_below(self.ax_)
        return self
