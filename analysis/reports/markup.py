"""Templates, and figures in rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from unmasked.analysis.figures.dots import Dot
from unmasked.analysis.html.page import environment
from unmasked.evaluation.wording import value_text

TEMPLATES = Path(__file__).parent / "templates"


def told(dots: Sequence[Dot]) -> str:
    """Dots for who cannot see them."""
    return "; ".join(f"{dot.label}: {value_text(dot.value, [dot.low, dot.high])}" for dot in dots)


def side_by_side(drawn: Sequence[Markup]) -> Markup:
    """Figures in a row that breaks where the page is narrow."""
    return Markup('<div class="row">{}</div>').format(Markup("").join(drawn))


def rendered(name: str, **values: Any) -> Markup:
    """A template of this layer, filled in."""
    return Markup(environment(TEMPLATES).get_template(name).render(**values))
