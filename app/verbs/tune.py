"""``unmasked tune``: a search for better settings of the training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from unmasked.app.detectors import DEFAULT
from unmasked.app.inputs import Faces, check_inputs, training_faces
from unmasked.app.progress import Reporter, print_result
from unmasked.app.verbs.train import Datasets
from unmasked.training.tuning.space import SearchConfig

if TYPE_CHECKING:
    import optuna

    from unmasked.training.tuning.study import Search

BEST = "best.yaml"


class Config(SearchConfig):
    """Where from, where to, what is searched, and how."""

    faces: Faces = Field(Path("faces/faces.parquet"), description="what `unmasked preprocess` wrote")
    out: Path = Field(Path("runs/tune"), description="the study's folder; the same one goes on with it")
    dataset: Datasets = ()
    detector: str = Field(DEFAULT, description="one of `unmasked detectors`, or your own module or .py file")
    start: str = Field(
        "",
        description="configuration of the training to begin with: a YAML file, or a shipped one; the "
        "detector's defaults if not given",
    )
    train: dict[str, Any] = Field(
        {}, description="what all trials have different from the start: train.model.width=0.25"
    )
    space: dict[str, Any] = Field(
        {}, description="what is searched: space.optimiser.lr={low: 1e-4, high: 1e-2, log: true}"
    )
    workers: int = Field(1, ge=1, description="processes that train trials at the same time")


def run(config: Config) -> None:
    """Goes on with the study; writes its trials, plots and the best configuration."""
    check_inputs(faces=config.faces)
    from unmasked.app.run import record
    from unmasked.app.signals import stopped_by_signals
    from unmasked.training.tuning.study import is_start, tune

    search = _search(config)
    record(config.out, config)
    with stopped_by_signals("the same command goes on from here"), Reporter() as reporter:

        def progress(trial: optuna.trial.FrozenTrial, finished: int) -> None:
            reporter("trials", finished, config.trials)
            value = "no value" if trial.value is None else f"{trial.value:.4f}"
            role = " (the start)" if is_start(trial) else ""
            reporter.say(
                f"  trial {trial.number}{role}: {trial.state.name.lower()}, {config.objective} {value}"
            )

        study = tune(search, workers=config.workers, progress=progress)
    _report(config, search, study)


def _search(config: Config) -> Search:
    from unmasked.app.config import load
    from unmasked.app.detectors import find
    from unmasked.app.training import dotlist
    from unmasked.training.tuning.space import flat_space
    from unmasked.training.tuning.study import Search

    faces = training_faces(config.faces, config.dataset)
    detector = find(config.detector)
    file = Path(config.start) if config.start else None
    start = load(detector.config, file, dotlist(config.train))
    settings = SearchConfig(**{name: getattr(config, name) for name in SearchConfig.model_fields})
    space = flat_space(config.space, start)
    return Search(faces, config.faces.parent, start, space, settings, config.out, detector)


def _report(config: Config, search: Search, study: optuna.Study) -> None:
    from omegaconf import OmegaConf

    from unmasked.datasets.files import write_text
    from unmasked.datasets.tables import write_frame
    from unmasked.training.tuning.plots import write_plots
    from unmasked.training.tuning.space import differences
    from unmasked.training.tuning.study import best_trial, start_trial, trials_table

    table = trials_table(study)
    write_frame(table, config.out / "trials.csv")
    best, start = best_trial(study), start_trial(study)
    began = "not finished" if start is None or start.value is None else f"{start.value:.4f}"
    found = f"{config.objective} on source validation: start {began}, best {best.value:.4f}"
    counts = ", ".join(f"{count} {state}" for state, count in table["state"].value_counts().items())
    found += f" (trial {best.number} of {len(table)}: {counts})"
    named = {} if config.detector == DEFAULT else {"detector": config.detector}
    settings = OmegaConf.to_yaml(OmegaConf.create(named | differences(search.trial_config(best.params))))
    write_text(
        config.out / BEST, f"# {found}.\n# The best of many is flattered: judge it on test.\n{settings}"
    )
    names = write_plots(study, config.out / "plots", config.objective)
    print_result(found)
    print_result(f"plots written to {config.out / 'plots'}: {', '.join(names)}")
    command = ["unmasked", "train", "--config", str(config.out / BEST), f"faces={config.faces}"]
    command += [f"dataset=[{','.join(config.dataset)}]"] if config.dataset else []
    print_result(f"train it: {shlex.join(command)}")
