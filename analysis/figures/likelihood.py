"""Likelihood ratios: what they say of fakes and reals, and what they cost at each prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from unmasked.analysis.figures.colours import PALETTE
from unmasked.analysis.figures.display import CHANCE, PHONE, Display, legend_below, new_axes
from unmasked.evaluation.records import LikelihoodEffect

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 2.9  # inches


@dataclass
class TippettDisplay(Display):
    """Share of fakes and of reals with at least an LR (Tippett et al. 1968).

    Attributes:
        points: ``log10_lr``, and at each of them the shares ``fake`` and ``real``.
        bounds: log10, beyond which no LR is stated.
    """

    points: dict[str, list[float]]
    bounds: tuple[float, float]

    @classmethod
    def from_results(cls, found: LikelihoodEffect) -> TippettDisplay:
        """From the ``likelihood`` of `evaluate`."""
        return cls(found["tippett"], (found["bounds"][0], found["bounds"][1]))

    def table(self) -> pd.DataFrame:
        """A row a point: log10_lr, fake, real."""
        return pd.DataFrame(self.points)

    def plot(self, ax: Axes | None = None, **settings: Any) -> TippettDisplay:
        """Draws both curves and the line of LR = 1; ``settings`` go to both curves."""
        self.ax_ = ax or new_axes(PHONE, HEIGHT)
        self.lines_ = []
        x = [self.bounds[0] - 0.2, *self.points["log10_lr"], self.bounds[1] + 0.2]
        for name, colour, dashes in (("fake", "vermillion", "-"), ("real", "blue", "--")):
            y = [1.0, *self.points[name], 0.0]
            style = {"color": PALETTE[colour], "linestyle": dashes} | settings
            (line,) = self.ax_.step(x, y, where="pre", label=f"{name} videos", **style)
            self.lines_.append(line)
        self.one_ = self.ax_.axvline(0, **CHANCE, label="LR 1: neither")
        self.ax_.set(ylim=(-0.02, 1.02))
        self.ax_.set_xlabel("log10 of the likelihood ratio")
        self.ax_.set_ylabel("share with at least this LR")
        legend_below(self.ax_)
        return self


@dataclass
class CrossEntropyDisplay(Display):
    """Bits still missing after the LR, at each prior (Ramos and Gonzalez-Rodriguez 2013).

    Attributes:
        curves: ``prior_log10_odds``, and the bits with the ``stated`` LRs, with the ``best`` of their order,
            and ``without`` any.
    """

    curves: dict[str, list[float]]

    @classmethod
    def from_results(cls, found: LikelihoodEffect) -> CrossEntropyDisplay:
        """From the ``likelihood`` of `evaluate`."""
        return cls(found["ece"])

    def table(self) -> pd.DataFrame:
        """A row a prior: prior_log10_odds, stated, best, without."""
        return pd.DataFrame(self.curves)

    def plot(self, ax: Axes | None = None, **settings: Any) -> CrossEntropyDisplay:
        """Draws the three curves; ``settings`` go to all of them."""
        self.ax_ = ax or new_axes(PHONE, HEIGHT)
        styles = {
            "stated": ({"color": PALETTE["vermillion"]}, "as stated"),
            "best": ({"color": PALETTE["blue"], "linestyle": "--"}, "the best of their order"),
            "without": (CHANCE, "without the detector"),
        }
        self.lines_ = []
        for name, (style, label) in styles.items():
            (line,) = self.ax_.plot(
                self.curves["prior_log10_odds"], self.curves[name], label=label, **style | settings
            )
            self.lines_.append(line)
        self.ax_.set(ylim=(0, None))
        self.ax_.set_xlabel("log10 of the odds of fake beforehand")
        self.ax_.set_ylabel("uncertainty left, bits")
        legend_below(self.ax_)
        return self
