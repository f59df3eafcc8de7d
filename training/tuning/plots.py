"""Optuna's plots of a study, as PNG files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from unmasked.datasets.files import atomic_path

logger = logging.getLogger(__name__)

DPI = 120


def write_plots(study: optuna.Study, folder: Path, objective: str) -> list[str]:
    """Writes Optuna's plots that the study has enough trials for, and returns their names.

    Args:
        study: with at least one complete trial.
        folder: gets ``<name>.png``.
        objective: what is on the value axes.
    """
    import matplotlib
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    drawn: dict[str, Callable[[], Any]] = {
        "history": lambda: plots.plot_optimization_history(study, target_name=objective),
        "slices": lambda: plots.plot_slice(study, target_name=objective),
        "parallel": lambda: plots.plot_parallel_coordinate(study, target_name=objective),
        "validations": lambda: plots.plot_intermediate_values(study),
    }
    if _has_importances(study):
        drawn["importances"] = lambda: plots.plot_param_importances(study, target_name=objective)
    folder.mkdir(parents=True, exist_ok=True)
    # Optuna draws with pyplot, on any backend, and sets a style: all of it is given back.
    before = matplotlib.get_backend()
    pyplot.switch_backend("agg")
    try:
        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # that it is experimental, and that axes of one value have no width
            for name, draw in drawn.items():
                axes = np.ravel(draw())
                figure = axes[0].figure
                figure.set_size_inches(max(8.0, 2.6 * len(axes)), 4.8)
                with atomic_path(folder / f"{name}.png") as temporary:
                    figure.savefig(temporary, dpi=DPI, bbox_inches="tight")
                pyplot.close(figure)
    finally:
        pyplot.switch_backend(before)
    return list(drawn)


def _has_importances(study: optuna.Study) -> bool:
    """True if importances can be told: at least two values of complete trials."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return len({trial.value for trial in complete}) > 1
