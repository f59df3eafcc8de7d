"""The process that looks at files: the model, loaded once, and several jobs at a time.

Each job has a thread. A few processes decode and find faces within their budget (`preprocessing.pool`); they
go from job to job, so that a job whose faces are found keeps nobody from the next file. What jobs want scored
meets in one queue: a pass of the detector takes the crops of all that wait.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from unmasked.datasets.errors import InputError
from unmasked.inspection.records import Case, write_case
from unmasked.preprocessing.pool import Outcome, Pool, end_with_parent
from unmasked.serving.jobs import CASE

if TYPE_CHECKING:
    import torch

    from unmasked.inspection.examiner import Examiner
    from unmasked.inspection.maps import Draw
    from unmasked.preprocessing.config import PreprocessConfig

BATCH = 64
LINGER_S = 0.5  # that a pass waits for jobs at work that it is yet to score; alone a job waits for nobody
LOOK_EVERY_S = 0.02
COMPUTE = ("forward_with_features", "features")  # of a model, called with images
DEPTH = 4  # jobs at a time for each process that decodes, so that some can be scored together

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """A job that is to be looked at."""

    job: str
    file: Path
    folder: Path  # gets case/


@dataclass(frozen=True)
class Cancel:
    """A job that nobody wants any more."""

    job: str


@dataclass(frozen=True)
class Word:
    """What the process says: of a job, or of itself."""

    kind: str  # ready, fatal, stage, batch, done, failed
    job: str = ""
    content: Any = None


@dataclass(frozen=True)
class Plan:
    """How files are looked at; picklable.

    Attributes:
        make_examiner: builds the detector with what its verdicts rest on.
        crops: with the keys of `unmasked.inspection.examine.CROP_KEYS`.
        budget: of the decoding of a file: budget_s and memory_gb.
        lanes: processes that decode.
        depth: jobs at a time for each of them.
        batch: images that one pass of the detector takes, unless a single job has more.
        closer: frames looked at beside where scores move, at most.
        device: auto, cpu, cuda, …
        face_detector: builds what finds faces; None is the configured one.
    """

    make_examiner: Callable[[], Examiner]
    crops: BaseModel
    budget: Mapping[str, float]
    lanes: int
    closer: int = 0
    device: str = "auto"
    face_detector: Callable[[], Any] | None = None
    depth: int = DEPTH
    batch: int = BATCH

    @property
    def jobs(self) -> int:
        """How many jobs are looked at at a time."""
        return self.depth * self.lanes


class Batcher:
    """Scores the images of all jobs, those that wait together in one pass.

    Args:
        model: images (N, 3, H, W) to logits (N, 2).
        say: called with the jobs and images of each pass, and the seconds that it took.
        is_expected: True if another job may want something scored soon.
        most: images that one pass takes, unless a single job has more.
    """

    def __init__(
        self,
        model: Callable[[torch.Tensor], torch.Tensor],
        say: Callable[[int, int, float], None],
        is_expected: Callable[[], bool] = lambda: False,
        most: int = BATCH,
    ) -> None:
        self.model, self._say, self._is_expected, self._most = model, say, is_expected, most
        self._queue: queue.SimpleQueue[tuple[Callable[..., Any], Any, Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of a job's images."""
        return self.run(self.model, images)

    def run(self, function: Callable[[torch.Tensor], Any], images: torch.Tensor) -> Any:
        """What a function makes of the images, while no other thread uses the model.

        The model itself, and what gives its features with the logits, takes images of several jobs.
        """
        future: Future[Any] = Future()
        self._queue.put((function, images, future))
        return future.result()

    def _serve(self) -> None:
        held = None
        while True:
            function, images, future = held or self._queue.get()
            held, parts, count = None, [(images, future)], len(images)
            until_s = time.monotonic() + LINGER_S
            while self._is_shared(function) and count < self._most:
                held = self._next(until_s)
                if held is None or held[0] != function or count + len(held[1]) > self._most:
                    break
                parts.append(held[1:])
                count, held = count + len(parts[-1][0]), None
            self._answer(function, parts)

    def _is_shared(self, function: Callable[..., Any]) -> bool:
        """True if a function takes images of several jobs in one pass."""
        return function in (self.model, getattr(self.model, "forward_with_features", None))

    def _next(self, until_s: float) -> tuple[Callable[..., Any], Any, Future[Any]] | None:
        """What comes next; None where nothing does, or not in time."""
        while True:
            with suppress(queue.Empty):
                return self._queue.get_nowait()
            if not self._is_expected() or time.monotonic() >= until_s:
                return None
            with suppress(queue.Empty):
                return self._queue.get(timeout=LOOK_EVERY_S)

    def _answer(self, function: Callable[..., Any], parts: list[Any]) -> None:
        import torch

        sizes = [len(images) for images, _ in parts]
        began_s = time.monotonic()
        try:
            if self._is_shared(function):
                with torch.inference_mode():
                    found = function(torch.cat([images for images, _ in parts]))
                self._say(len(parts), sum(sizes), time.monotonic() - began_s)
                if isinstance(found, tuple):  # logits and features
                    answers = list(zip(*(one.split(sizes) for one in found), strict=True))
                else:
                    answers = found.split(sizes)
            else:
                answers = [function(parts[0][0])]
        except Exception as error:  # its thread's to handle, whose job it is
            if len(parts) > 1:  # one job's images must not cost another its answer
                for part in parts:
                    self._answer(function, [part])
                return
            for _, future in parts:
                future.set_exception(error)
            return
        for (_, future), answer in zip(parts, answers, strict=True):
            future.set_result(answer)


class Cancelled(Exception):
    """Nobody wants the job any more."""


class _Finders:
    """The processes that look into files, which go from job to job, and the jobs that they are at."""

    def __init__(self, plan: Plan, config: PreprocessConfig) -> None:
        from unmasked.inspection.file_facts import examiner_pool

        self._free: queue.SimpleQueue[Pool[Any, Any]] = queue.SimpleQueue()
        for _ in range(plan.lanes):
            self._free.put(examiner_pool(config, plan.face_detector))
        self._lock = threading.Lock()  # so that no later job of a process is meant
        self._at: dict[str, Pool[Any, Any]] = {}
        self._cancelled: set[str] = set()

    def run(
        self, job: str, tasks: Sequence[Any], on_start: Callable[[], None]
    ) -> Iterator[Outcome[Any, Any]]:
        """Yields the outcomes of a job's tasks, once a process is free for them.

        Raises:
            Cancelled: nobody wants the job.
        """
        pool = self._free.get()
        try:
            with self._lock:
                if job in self._cancelled:
                    raise Cancelled(job)
                self._at[job] = pool
            on_start()
            yield from pool.run(tasks)
        finally:
            with self._lock:
                self._at.pop(job, None)
            self._free.put(pool)

    def cancel(self, job: str) -> None:
        """Ends what is done for a job, and lets nothing more be begun."""
        with self._lock:
            self._cancelled.add(job)
            if job in self._at:
                self._at[job].interrupt()

    def forget(self, job: str) -> None:
        """Drops what is known of a job that has ended."""
        with self._lock:
            self._cancelled.discard(job)


class _Turn:
    """The finders as one job sees them: a pool."""

    def __init__(self, finders: _Finders, job: str, on_start: Callable[[], None]) -> None:
        self._finders, self._job, self._on_start = finders, job, on_start

    def run(self, tasks: Sequence[Any]) -> Iterator[Outcome[Any, Any]]:
        """Yields the outcome of every task."""
        if not tasks:
            return iter(())
        return self._finders.run(self._job, tasks, self._on_start)


class _Model:
    """The model as one job sees it: it says that scoring has begun."""

    def __init__(self, batcher: Batcher, on_call: Callable[[], None]) -> None:
        self._batcher, self._on_call = batcher, on_call

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self._on_call()
        return self._batcher(images)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._batcher.model, name)
        # Whatever computes must not do so beside another thread: maps keep what layers give.
        return partial(self._run, found) if name in COMPUTE else found

    def _run(self, function: Callable[..., Any], images: torch.Tensor) -> Any:
        self._on_call()
        return self._batcher.run(function, images)


def serve_bench(connection: Connection, plan: Plan) -> None:
    """What the process does: ready, then a word for each job, until the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent's to handle, though all processes get it
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    lock = threading.Lock()

    def say(word: Word) -> None:
        with lock:
            connection.send(word)

    from unmasked.evaluation.inference import place_of, ready_to_score

    try:
        examiner = plan.make_examiner()
        config = _config(plan, examiner)
        device = str(place_of(plan.device))
        ready: Any = ready_to_score(examiner.model, examiner.card["size_px"], device)
        examiner = replace(examiner, model=ready)
    except InputError as error:
        say(Word("fatal", content=error))
        return
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    finders = _Finders(plan, config)
    unscored: set[str] = set()  # jobs at work that have asked for nothing yet
    batcher = Batcher(
        examiner.model,
        lambda *batch: say(Word("batch", content=batch)),
        lambda: bool(unscored),
        plan.batch,
    )
    for _ in range(plan.jobs):
        threading.Thread(
            target=_look_at_orders,
            args=(orders, finders, unscored, say, examiner, batcher, device, plan, config),
            daemon=True,
        ).start()
    say(Word("ready", content=_description(examiner, config)))
    while True:
        try:
            given = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(given, Order):
            orders.put(given)
        else:
            finders.cancel(given.job)


def _config(plan: Plan, examiner: Examiner) -> PreprocessConfig:
    from unmasked.inspection.examine import crop_config

    return crop_config(plan.crops, examiner.card.get("crops") or {}, **plan.budget, workers=1)


def _description(examiner: Examiner, config: PreprocessConfig) -> dict[str, Any]:
    """What `GET /v1/detector` says, without the limits."""
    from unmasked.inspection.finding import rate_sentences

    band = examiner.fitted.band
    return {
        "detector": examiner.card["detector"],
        "architecture": examiner.card["architecture"],
        "sha256": examiner.card["sha256"],
        "threshold": examiner.fitted.threshold.value,
        "band": {"low": band.low, "high": band.high} if band is not None else None,
        "performance": [one.model_dump() for one in examiner.rates],
        "sentences": rate_sentences(examiner.rates),
        "frames": config.frames_per_video,
        "has_maps": examiner.draw is not None,
    }


def _look_at_orders(
    orders: queue.SimpleQueue[Order],
    finders: _Finders,
    unscored: set[str],
    say: Callable[[Word], None],
    examiner: Examiner,
    batcher: Batcher,
    device: str,
    plan: Plan,
    config: PreprocessConfig,
) -> None:
    from unmasked.inspection.examine import examine

    while True:
        order = orders.get()
        unscored.add(order.job)
        turn = _Turn(finders, order.job, partial(say, Word("stage", order.job, "finding faces")))
        model = _Model(batcher, partial(_begin_scoring, order.job, unscored, say))
        mine = replace(examiner, model=model, draw=_drawn_alone(examiner, batcher))
        folder = order.folder / CASE
        try:
            (case,) = examine(
                {order.file: folder}, mine, config, closer=plan.closer, device=device, pool=turn
            )
            hide_places(case, folder)
            say(Word("done", order.job))
        except Exception as error:
            # One file must not end the others: its job says what happened, the log where.
            if not isinstance(error, Cancelled):
                logger.exception("job %s", order.job)
            say(Word("failed", order.job, words_of(error)))
        finally:
            unscored.discard(order.job)
            finders.forget(order.job)


def _begin_scoring(job: str, unscored: set[str], say: Callable[[Word], None]) -> None:
    say(Word("stage", job, "scoring"))
    unscored.discard(job)  # just before its images wait: a pass must not end between


def _drawn_alone(examiner: Examiner, batcher: Batcher) -> Draw | None:
    """What makes maps while no other thread uses the model; None where none are made."""
    draw = examiner.draw
    if draw is None:
        return None
    return lambda images, people: batcher.run(lambda batch: draw(batch, people), images)


def words_of(error: Exception) -> str:
    """An error for who sent the file: texts of errors name places of the server.

    >>> words_of(OSError(28, "No space left on device", "/srv/cases/a")), words_of(KeyError("a"))
    ('the server could not read or write (No space left on device)', 'a fault of the server (KeyError)')
    """
    if isinstance(error, OSError):
        return f"the server could not read or write ({error.strerror})"
    return f"a fault of the server ({type(error).__name__})"


def hide_places(case: Case, folder: Path) -> None:
    """Writes the case anew with names in place of paths, which show where things lie here."""
    weights = {"path": _last(case.weights.path), "module": _last(case.weights.module)}
    material = case.material and case.material.model_copy(update={"path": _last(case.material.path)})
    update = {
        "weights": case.weights.model_copy(update=weights),
        "material": material,
        "run": _last(case.run),
    }
    write_case(case.model_copy(update=update).seal_with(case.files), folder)


def _last(path: str) -> str:
    return PurePath(path).name
