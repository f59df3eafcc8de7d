"""The process that looks at files: the model, loaded once, and several jobs at a time.

Each job has a thread. A few processes decode and find faces within their budget (`preprocessing.pool`); they
go from job to job, so that a job whose faces are found keeps nobody from the next file. Jobs whose faces are
found meet in one queue: all that wait are judged at once, as a folder of files is. To score one crop and to
put its tables together costs about as much as for a dozen.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.pool import Outcome, Pool, end_with_parent
from unmasked.serving.jobs import CASE

if TYPE_CHECKING:
    from unmasked.inspection.examine import Examination, Found
    from unmasked.inspection.examiner import Examiner
    from unmasked.inspection.records import Case
    from unmasked.preprocessing.config import PreprocessConfig

BATCH = 16
COMPUTE = ("forward_with_features", "features")  # of a model, called with images
DEPTH = 8  # jobs at a time for each process that decodes, so that some can be judged together

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
        batch: jobs that are judged at once, at most.
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
    """Judges the jobs whose faces are found, all that wait at once.

    A job alone waits for nobody.

    Args:
        judge: yields the case of each of several files.
        say: called with the jobs and crops of each pass, and the seconds that it took.
        most: jobs of a pass.
        passes: at a time, so that one which has to look closer at a file keeps nobody waiting.
    """

    def __init__(
        self,
        judge: Callable[[Sequence[Found]], Iterator[Case]],
        say: Callable[[int, int, float], None],
        most: int = BATCH,
        passes: int = 1,
    ) -> None:
        self._judge, self._say, self._most = judge, say, most
        self._queue: queue.SimpleQueue[tuple[Found, Future[Case]]] = queue.SimpleQueue()
        for _ in range(passes):
            threading.Thread(target=self._serve, daemon=True).start()

    def __call__(self, found: Found) -> Case:
        """The case of a file."""
        future: Future[Case] = Future()
        self._queue.put((found, future))
        return future.result()

    def _serve(self) -> None:
        while True:
            parts = [self._queue.get()]
            with suppress(queue.Empty):
                while len(parts) < self._most:
                    parts.append(self._queue.get_nowait())
            began_s = time.monotonic()
            self._answer(parts)
            crops = sum(len(found.rows) for found, _ in parts)
            self._say(len(parts), crops, time.monotonic() - began_s)

    def _answer(self, parts: Sequence[tuple[Found, Future[Case]]]) -> None:
        """Hands each job its case as soon as it is there."""
        waiting = deque(parts)
        try:
            for case in self._judge([found for found, _ in parts]):
                waiting.popleft()[1].set_result(case)
        except Exception as error:  # its thread's to handle, whose job it is
            if len(parts) == 1:
                waiting.popleft()[1].set_exception(error)
        # One job's crops must not cost another its answer.
        for part in waiting:
            self._answer([part])


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
    """The finders as one job sees them, or a pass of several: a pool."""

    def __init__(self, finders: _Finders, job: str = "", on_start: Callable[[], None] = lambda: None) -> None:
        self._finders, self._job, self._on_start = finders, job, on_start

    def run(self, tasks: Sequence[Any]) -> Iterator[Outcome[Any, Any]]:
        """Yields the outcome of every task."""
        if not tasks:
            return iter(())
        return self._finders.run(self._job, tasks, self._on_start)


class _Locked:
    """A model that one thread computes with at a time: maps keep what layers give."""

    def __init__(self, model: Any, lock: threading.Lock) -> None:
        self._model, self._lock = model, lock
        self.__self__ = model  # as a method says whose it is

    def __call__(self, *given: Any) -> Any:
        with self._lock:
            return self._model(*given)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        return _Locked(found, self._lock) if name in COMPUTE else found


def serve_bench(connection: Connection, plan: Plan) -> None:
    """What the process does: ready, then a word for each job, until the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent's to handle, though all processes get it
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    lock = threading.Lock()

    def say(word: Word) -> None:
        with lock:
            connection.send(word)

    from unmasked.evaluation.inference import place_of
    from unmasked.inspection.examine import start_examination

    try:
        examiner = plan.make_examiner()
        config = _config(plan, examiner)
        device = str(place_of(plan.device))
        started = start_examination(examiner, config, closer=plan.closer, device=device, has_places=False)
        examination = _lock(started)
    except InputError as error:
        say(Word("fatal", content=error))
        return
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    finders = _Finders(plan, config)
    batcher = Batcher(
        partial(_judge, examination, finders, say),
        lambda *batch: say(Word("batch", content=batch)),
        plan.batch,
        plan.lanes,
    )
    for _ in range(plan.jobs):
        with_these = (orders, finders, say, examination, batcher)
        threading.Thread(target=_look_at_orders, args=with_these, daemon=True).start()
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
        "network": examiner.network,
        "sha256": examiner.card["sha256"],
        "threshold": examiner.fitted.threshold.value,
        "band": {"low": band.low, "high": band.high} if band is not None else None,
        "performance": [one.model_dump() for one in examiner.rates],
        "sentences": rate_sentences(examiner.rates),
        "frames": config.frames_per_video,
        "has_maps": examiner.draw is not None,
    }


def _lock(examination: Examination) -> Examination:
    """The same with a model that one thread uses at a time, to score and to draw."""
    lock, examiner = threading.Lock(), examination.examiner
    draw = None if examiner.draw is None else _Locked(examiner.draw, lock)
    return replace(examination, examiner=replace(examiner, model=_Locked(examiner.model, lock), draw=draw))


def _judge(
    examination: Examination, finders: _Finders, say: Callable[[Word], None], found: Sequence[Found]
) -> Iterator[Case]:
    for one in found:
        say(Word("stage", one.folder.parent.name, "scoring"))
    return examination.judge(found, _Turn(finders))


def _look_at_orders(
    orders: queue.SimpleQueue[Order],
    finders: _Finders,
    say: Callable[[Word], None],
    examination: Examination,
    batcher: Batcher,
) -> None:
    while True:
        order = orders.get()
        turn = _Turn(finders, order.job, partial(say, Word("stage", order.job, "finding faces")))
        try:
            with examination.look_into([(order.file, order.folder / CASE)], turn) as (found,):
                batcher(found)
            say(Word("done", order.job))
        except Exception as error:
            # One file must not end the others: its job says what happened, the log where.
            if not isinstance(error, Cancelled):
                logger.exception("job %s", order.job)
            say(Word("failed", order.job, words_of(error)))
        finally:
            finders.forget(order.job)


def words_of(error: Exception) -> str:
    """An error for who sent the file: texts of errors name places of the server.

    >>> words_of(OSError(28, "No space left on device", "/srv/cases/a")), words_of(KeyError("a"))
    ('the server could not read or write (No space left on device)', 'a fault of the server (KeyError)')
    """
    if isinstance(error, OSError):
        return f"the server could not read or write ({error.strerror})"
    return f"a fault of the server ({type(error).__name__})"
