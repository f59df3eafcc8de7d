"""The detector behind a finding, with its stored threshold and its measured errors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    from unmasked.evaluation.fitted import Fitted
    from unmasked.inspection.examiner import Examiner

NO_THRESHOLD = (
    "checkpoint {} stores no threshold, and a verdict at a bare 0.5 would mean nothing; score its validation "
    "videos (`unmasked predict`), run `unmasked evaluate` on them and give that folder as performance="
)


def load_examiner(
    checkpoint: Path,
    detector: str = "",
    performance: Path | None = None,
    prior: float | None = None,
    *,
    maps: bool = False,
) -> Examiner:
    """The detector of a checkpoint, its threshold and band from the run or else from its card.

    Args:
        checkpoint: the file of weights, its card, or the folder of both.
        detector: the user's own module or file, where the checkpoint is of one.
        performance: folder with the ``metrics.json`` and ``thresholds.json`` of `unmasked evaluate`.
        prior: the user's own P(fake) beforehand.
        maps: whether suspicious frames get maps.

    Raises:
        InputError: the checkpoint cannot be used, no threshold is stored, or the run is of other weights or
            of another threshold.
    """
    from unmasked.app.detectors import load
    from unmasked.app.run import environment
    from unmasked.evaluation.domain import find_domain, read_domain
    from unmasked.inspection.examiner import Examiner
    from unmasked.inspection.finding import calibration_rates, check_prior, measured_rates
    from unmasked.inspection.maps import draw_maps
    from unmasked.training.checkpoint import stored_file

    check_prior(prior)
    model, card = load(checkpoint, detector)
    fitted = _fitted(checkpoint, card, performance)
    metrics = _metrics(performance, card["sha256"]) if performance is not None else {}
    file = find_domain(
        [*([performance] if performance is not None else []), stored_file(checkpoint).parent], card["sha256"]
    )
    domain = read_domain(file) if file is not None else None
    # What was calibrated on is what is counted, where no run says it.
    noun = "picture" if domain is not None and list(domain.kinds) == ["picture"] else "video"
    rates = calibration_rates(fitted, metrics.get("settings", {}).get("noun", noun))
    if performance is not None:
        source = metrics["settings"].get("source")
        learned = (card.get("training_data") or {}).get("datasets") or []
        rates += measured_rates(metrics, fitted, [*learned, *([source] if source else [])], performance)
    weights = stored_file(checkpoint)
    made = environment()
    draw = partial(draw_maps, model) if maps else None
    return Examiner(
        model, card, weights, detector, performance, fitted, rates, prior, made, domain, file, draw
    )


def _fitted(checkpoint: Path, card: dict[str, Any], performance: Path | None) -> Fitted:
    from unmasked.evaluation.fitted import Fitted, read_fitted

    if performance is not None and (performance / "thresholds.json").is_file():
        return read_fitted(performance / "thresholds.json")
    if not card.get("threshold"):
        raise InputError(NO_THRESHOLD.format(checkpoint))
    return Fitted.from_dict(card)


def _metrics(performance: Path, weights: str) -> dict[str, Any]:
    """What ``metrics.json`` of a run of these weights holds, NaN for null.

    Raises:
        InputError: it is absent, of several detectors, or of other weights.
    """
    from unmasked.datasets.documents import read_json, restore_nan

    path = performance / "metrics.json"
    metrics = restore_nan(read_json(path, "give the folder that `unmasked evaluate` wrote"))
    if "datasets" not in metrics or "settings" not in metrics:
        raise InputError(f"{path} is not of one detector; give the folder of this detector's results")
    made_by = metrics["settings"].get("checkpoint")
    if made_by != weights:
        raise InputError(
            f"{path} is of the weights {str(made_by)[:12]}…, and the checkpoint has {weights[:12]}…; give "
            "the run of these weights"
        )
    return metrics
