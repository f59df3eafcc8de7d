"""A detector with what its verdicts rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmasked.evaluation.domain import Domain
from unmasked.evaluation.fitted import Fitted
from unmasked.evaluation.predict import Detector
from unmasked.inspection.maps import Draw
from unmasked.inspection.records import Rates


@dataclass(frozen=True)
class Examiner:
    """A detector with what its verdicts rest on, as `app` put it together.

    Attributes:
        model: images (N, 3, H, W) in [-1, 1] to logits (N, 2).
        card: of the detector.
        weights: the file of them; its card lies beside it.
        module: the user's own module or file, "" for one of ours.
        run: folder with the measured errors; None where they are the card's.
        fitted: threshold, band and likelihood ratio.
        rates: measured errors at that threshold.
        prior: the user's own P(fake) beforehand.
        environment: versions of this process.
        domain: the material that it was calibrated on; None where none is stored.
        domain_file: where that lies.
        draw: makes the maps of suspicious frames; None makes none.
    """

    model: Detector
    card: Mapping[str, Any]
    weights: Path
    module: str
    run: Path | None
    fitted: Fitted
    rates: Sequence[Rates]
    prior: float | None
    environment: Mapping[str, Any]
    domain: Domain | None = None
    domain_file: Path | None = None
    draw: Draw | None = None

    @property
    def network(self) -> str:
        """Which network or classifier it is, where the name is of a family; else ""."""
        config = self.card.get("config")
        model = config.get("model") if isinstance(config, Mapping) else None
        found = (model.get("backbone") or model.get("classifier")) if isinstance(model, Mapping) else ""
        return str(found or "")

    def __repr__(self) -> str:
        name, threshold = self.card["architecture"], self.fitted.threshold.value
        where = f", errors measured in {self.run}" if self.run else ""
        return f"Examiner({name}, {self.weights}, threshold {threshold:.3f}{where})"
