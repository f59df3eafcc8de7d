"""A search for better settings of a training, with Optuna.

Resumable, pruned, by several processes.
The study is a SQLite file. Trial 0 is the start itself. All trials train on equally many images, whatever
their batch size, with the same seed; only source validation is seen.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from unmasked.datasets.errors import InputError, InterruptedBySignal
from unmasked.training.config import DetectorConfig, TrainedConfig
from unmasked.training.data import TrainingData
from unmasked.training.fit import fit
from unmasked.training.handle import Detector
from unmasked.training.module import DetectorModule, DivergedError
from unmasked.training.tables import training_tables
from unmasked.training.train import train
from unmasked.training.tuning.space import Choices, Range, SearchConfig, Space, with_values

NAME = "study.db"
POLL_S = 1.0
LOCK_S = 120.0  # how long a process waits for its turn to draw a trial
DISK_FULL = "database or disk is full"  # SQLite's words
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

Progress = Callable[[FrozenTrial, int], None]


@dataclass(frozen=True)
class Search:
    """What is searched: everything that a worker process must know.

    Attributes:
        faces: see `preprocessing.faces`.
        crops_root: folder that the crops' paths are relative to.
        start: the configuration of trial 0; the others differ from it within ``space``.
        space: by dotted key.
        settings: how.
        out: folder of the study.
        detector: whose training it is; the study has its name.
    """

    faces: pd.DataFrame
    crops_root: Path
    start: DetectorConfig
    space: Space
    settings: SearchConfig
    out: Path
    detector: Detector

    def trial_config(self, values: dict[str, Any]) -> DetectorConfig:
        """The training of a trial: the start with other values, and the shared budget."""
        config = with_values(self.start, values)
        if not isinstance(config, TrainedConfig):
            return config
        training = config.training
        tables = training_tables(self.faces, config)
        steps_of_epoch = TrainingData(self.detector, tables, self.crops_root, config).steps_of_epoch
        steps = training.epochs * steps_of_epoch
        if (images := self.settings.budget_images) is not None:
            step_images = training.entries * training.images_of_entry * config.optimiser.accumulate
            steps = max(1, images // step_images)
        budget = {
            "epochs": math.ceil(steps / steps_of_epoch),
            "max_steps": steps,
            "val_every_steps": math.ceil(steps / self.settings.validations),
        }
        return with_values(config, {f"training.{name}": value for name, value in budget.items()})


def tune(search: Search, *, workers: int = 1, progress: Progress | None = None) -> optuna.Study:
    """Continues the study in ``search.out`` up to its number of trials, and returns it.

    Trials that an interruption left unfinished are marked as failed and begun again.

    Args:
        search: what and how.
        workers: processes; 1 trains in this one. On GPUs they take turns among the devices.
        progress: called after each trial with it and the number of finished ones.

    Raises:
        InputError: another process works on the study, it was begun with other settings, there is none
            to report on, or a training cannot begin.
    """
    search.out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(search.out / ".tune.lock", timeout=0), _explain_full_disk(search.out / NAME):
            study = _open_study(search)
            _begin_again(study)
            if workers == 1:
                _work(search, study, progress)
            else:
                _work_in_processes(search, study, workers=workers, progress=progress)
            return study
    except InterruptedBySignal as stopped:
        name = signal.Signals(stopped.number).name
        raise InterruptedBySignal(
            stopped.number,
            f"stopped by {name}; finished trials are kept, and the same command goes on from here",
        ) from stopped
    except Timeout as error:
        raise InputError(
            f"another process is tuning in {search.out}; wait for it, or give another out=…"
        ) from error


def best_trial(study: optuna.Study) -> FrozenTrial:
    """The finished trial of the highest value, the earliest among equals.

    Raises:
        InputError: none was finished without being pruned.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise InputError("no trial of the study was completed; go on with more trials, or with prune=false")
    return max(complete, key=lambda trial: (trial.value, -trial.number))


def start_trial(study: optuna.Study) -> FrozenTrial | None:
    """The finished trial of the start, None if there is none."""
    return next(
        (trial for trial in study.get_trials(deepcopy=False, states=FINISHED) if is_start(trial)), None
    )


def is_start(trial: FrozenTrial) -> bool:
    """True if the trial is the configuration that the search began with."""
    return bool(trial.user_attrs.get("is_start"))


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """One row a trial: number, state, value, validations, seconds, reason, and settings.

    Each setting is a column.
    """
    return pd.DataFrame(
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value,
            "validations": len(trial.intermediate_values),
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            "is_start": is_start(trial),
            "reason": trial.user_attrs.get("reason"),
            **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
        if trial.state != TrialState.WAITING
    )


def _open_study(search: Search) -> optuna.Study:
    """The study, made if there is none, and with the start as its first trial."""
    path, described = search.out / NAME, _describe_search(search)
    is_new = not path.is_file()
    if is_new and search.settings.trials == 0:
        raise InputError(f"there is no study in {search.out} to report on; give trials=… to begin one")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(search, create=True)
    stored = study.user_attrs.get("search")
    if stored is None:
        values = _values(search.start)
        study.enqueue_trial({key: values[key] for key in search.space}, user_attrs={"is_start": True})
        study.set_user_attr("search", described)
    elif stored != described:
        before, now = json.loads(stored), json.loads(described)
        # Settings that are newer than the study have the values that it was begun with: their defaults.
        before["start"] = type(search.start).model_validate(before["start"]).model_dump(mode="json")
        differing = [key for key in now if before.get(key) != now[key]]
        if not differing:
            return study
        raise InputError(
            f"the study in {search.out} was begun with another {', '.join(differing)}; go on with the same "
            "settings, or give another out=…"
        )
    return study


def _study(search: Search, *, create: bool = False) -> optuna.Study:
    path, settings = search.out / NAME, search.settings
    try:
        # Without a pool: connections are closed when they are done with, not when Python finds them.
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCK_S}, "poolclass": NullPool}
        )
        known = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
        if (known and search.detector.name not in known) or not (create or known):
            raise InputError(
                f"{path} holds no study of the detector {search.detector.name!r}, but of "
                f"{', '.join(map(repr, known)) or 'nothing'}; give another out=…"
            )
        study = optuna.create_study(
            storage=storage, study_name=search.detector.name, direction="maximize", load_if_exists=True
        )
    except (ValueError, RuntimeError, SQLAlchemyError) as error:
        if _is_disk_full(error):
            raise
        raise InputError(f"{path} is not a study of Optuna ({error}); give another out=…") from error
    # The first validation comes too early to judge by; Optuna judges from step n_warmup_steps on.
    median = optuna.pruners.MedianPruner(settings.startup_trials, n_warmup_steps=2)
    study.pruner = median if settings.prune else optuna.pruners.NopPruner()
    return study


@contextmanager
def _explain_full_disk(path: Path) -> Iterator[None]:
    """Says that the study cannot be written to, instead of where in Optuna that was noticed."""
    try:
        yield
    except Exception as error:
        if not _is_disk_full(error):
            raise
        raise InputError(
            f"{path} cannot be written to: the disk is full; trials that it holds are whole. Make room, and "
            "the same command goes on from here"
        ) from error


def _is_disk_full(error: BaseException | None) -> bool:
    """True if SQLite, below SQLAlchemy and Optuna, found no room."""
    while error is not None:
        # Python 3.10 knows an error's text alone.
        if isinstance(error, sqlite3.Error) and str(error) == DISK_FULL:
            return True
        error = error.__cause__
    return False


def _describe_search(search: Search) -> str:
    """What must not change while a study goes on."""
    settings = search.settings
    described = {
        "start": search.start.model_dump(mode="json"),
        "space": {key: drawn.model_dump(mode="json") for key, drawn in search.space.items()},
        "pairs": settings.pairs,
        "images": settings.images,
        "validations": settings.validations,
        "objective": settings.objective,
        "crops": len(search.faces),
    }
    return json.dumps(described)


def _values(config: DetectorConfig) -> dict[str, Any]:
    return {
        f"{section}.{name}" if name else section: value
        for section, values in config.model_dump(mode="json").items()
        for name, value in (values if isinstance(values, dict) else {"": values}).items()
    }


def _distribution(drawn: Range | Choices, start: Any) -> BaseDistribution:
    if isinstance(drawn, Choices):
        return CategoricalDistribution(drawn.values)
    if isinstance(start, int):
        return IntDistribution(int(drawn.low), int(drawn.high), log=drawn.log, step=int(drawn.step or 1))
    return FloatDistribution(drawn.low, drawn.high, log=drawn.log, step=drawn.step)


def _begin_again(study: optuna.Study) -> None:
    """Marks trials as failed that no process works on any more, and enqueues them again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={**trial.user_attrs, "repeats": trial.number})


def _work(search: Search, study: optuna.Study, progress: Progress | None) -> None:
    """Draws and trains one trial after the other until there are enough."""
    values = _values(search.start)
    distributions = {key: _distribution(drawn, values[key]) for key, drawn in search.space.items()}
    while True:
        with FileLock(search.out / ".draw.lock", timeout=LOCK_S):
            begun = study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING))
            if len(begun) >= search.settings.trials:
                return
            # By the trials before it, failed ones aside: an interrupted search draws what a whole one does.
            study.sampler = optuna.samplers.TPESampler(
                seed=search.settings.seed + len(begun),
                n_startup_trials=search.settings.startup_trials,
                constant_liar=True,
            )
            trial = study.ask(distributions)
        _train(search, study, trial)
        if progress:
            finished = study.get_trials(deepcopy=False, states=FINISHED)
            progress(study.get_trials(deepcopy=False)[trial.number], len(finished))


def _train(search: Search, study: optuna.Study, trial: optuna.Trial) -> None:
    folder = search.out / "trials" / f"{trial.number:04d}"
    report = _Report(trial, search.settings)
    try:
        config = search.trial_config(trial.params)
        where = (search.faces, search.crops_root)
        if isinstance(config, TrainedConfig):
            config = with_values(config, {"training.devices": 1})
            train(*where, config, folder, detector=search.detector, callbacks=[report])
        else:
            report.record(fit(*where, config, folder, detector=search.detector).history[-1])
    except (DivergedError, torch.OutOfMemoryError) as error:
        # A bad choice is a result: the search shall keep away from it.
        trial.set_user_attr("reason", str(error).splitlines()[0])
        study.tell(trial, state=TrialState.PRUNED)
    else:
        if report.is_pruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, report.best)
    finally:
        _discard_weights(folder)


class _Report(pl.Callback):
    """Tells the study of each validation, and ends a training that is not worth going on with."""

    def __init__(self, trial: optuna.Trial, settings: SearchConfig) -> None:
        self.trial, self.settings = trial, settings
        self.best = -math.inf
        self.count = 0
        self.is_pruned = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DetectorModule)
        # Numbered, not at steps: trials of other batch sizes have other steps at the same share of pairs.
        self.record(pl_module.record)
        if trainer.global_step < pl_module.total_steps and self.trial.should_prune():
            self.is_pruned = True
            trainer.should_stop = True

    def record(self, record: dict[str, Any]) -> None:
        """Tells the study of one validation."""
        self.count += 1
        self.best = max(self.best, float(record[f"val/{self.settings.objective}"]))
        self.trial.report(self.best, self.count)


def _discard_weights(folder: Path) -> None:
    """Leaves a trial's metrics and TensorBoard events; training with best.yaml gives the weights again."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for file in folder.glob("detector.*"):
        if file.suffix != ".json":
            file.unlink()


def _work_in_processes(
    search: Search, study: optuna.Study, *, workers: int, progress: Progress | None
) -> None:
    told = {trial.number for trial in study.get_trials(deepcopy=False, states=FINISHED)}
    context = multiprocessing.get_context("spawn")
    failures = context.SimpleQueue()
    processes = [
        context.Process(target=_work_alone, args=(search, number, workers, failures))
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        while running := [process.sentinel for process in processes if process.is_alive()]:
            wait(running, POLL_S)
            finished = study.get_trials(deepcopy=False, states=FINISHED)
            for trial in finished:
                if trial.number not in told and progress:
                    progress(trial, len(finished))
                told.add(trial.number)
            codes = [process.exitcode for process in processes if process.exitcode]
            if codes:
                raise InputError(_failure(codes[0], None if failures.empty() else failures.get()))
    finally:
        for process in processes:  # where one failed, the others' trials are begun again another time
            process.terminate()
            process.join()


def _work_alone(search: Search, number: int, workers: int, failures: Any) -> None:
    """Works in a process of its own, with its share of the cores, or on one of the GPUs."""
    _end_with_parent()
    if devices := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(devices)))).split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[number % devices]
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        with _explain_full_disk(search.out / NAME):
            _work(search, _study(search), None)
    except InputError as error:
        failures.put(str(error))
        sys.exit(1)
    except InterruptedBySignal:
        sys.exit(0)  # the process that started this one says it


def _failure(code: int, message: str | None) -> str:
    return message or (
        f"a worker process ended with code {code}, perhaps because memory ran out; the same command "
        f"goes on from "
        "here, with fewer workers if need be"
    )


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, killed too: none may go on drawing trials."""
    parent = multiprocessing.parent_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends this one

    def watch() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
