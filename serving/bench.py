"""The process that looks at files: the model, loaded once, and lanes of a job each.

Each lane keeps a process that decodes and finds faces within its budget (`preprocessing.pool`). What the
lanes want scored meets in one queue: a batch holds the crops of several jobs.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from unmasked.datasets.errors import InputError
from unmasked.inspection.records import Case, write_case
from unmasked.preprocessing.pool import Pool, end_with_parent
from unmasked.serving.jobs import CASE, MAPS
from unmasked.serving.maps import write_maps

if TYPE_CHECKING:
    import torch

    from unmasked.inspection.examine import Examiner
    from unmasked.preprocessing.config import PreprocessConfig

BATCH = 64  # images that one pass takes, unless a single job has more

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """A job that is to be looked at."""

    job: str
    file: Path
    folder: Path  # gets case/ and maps/


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
        lanes: jobs at a time.
        device: auto, cpu, cuda, …
        has_maps: True if the most suspicious frames get maps.
        face_detector: builds what finds faces; None is the configured one.
    """

    make_examiner: Callable[[], Examiner]
    crops: BaseModel
    budget: Mapping[str, float]
    lanes: int
    device: str = "auto"
    has_maps: bool = True
    face_detector: Callable[[], Any] | None = None


class Batcher:
    """Scores the images of all lanes, those that wait together in one pass.

    Args:
        model: images (N, 3, H, W) to logits (N, 2).
        say: called with the jobs and images of each pass.
    """

    def __init__(
        self, model: Callable[[torch.Tensor], torch.Tensor], say: Callable[[int, int], None]
    ) -> None:
        self.model, self._say = model, say
        self._queue: queue.SimpleQueue[tuple[Callable[..., Any], Any, Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of a lane's images."""
        return self.run(self.model, images)

    def run(self, function: Callable[[torch.Tensor], Any], images: torch.Tensor) -> Any:
        """What a function makes of the images, while no other thread uses the model."""
        future: Future[Any] = Future()
        self._queue.put((function, images, future))
        return future.result()

    def _serve(self) -> None:
        held = None
        while True:
            function, images, future = held or self._queue.get()
            held, parts, count = None, [(images, future)], len(images)
            while function is self.model and count < BATCH and not self._queue.empty():
                held = self._queue.get()
                if held[0] is not self.model or count + len(held[1]) > BATCH:
                    break
                parts.append(held[1:])
                count, held = count + len(parts[-1][0]), None
            self._answer(function, parts)

    def _answer(self, function: Callable[..., Any], parts: list[Any]) -> None:
        import torch

        sizes = [len(images) for images, _ in parts]
        try:
            if function is self.model:
                with torch.inference_mode():
                    found = function(torch.cat([images for images, _ in parts]))
                self._say(len(parts), sum(sizes))
                answers = found.split(sizes)
            else:
                answers = [function(parts[0][0])]
        except Exception as error:  # the lane's to handle, whose job it is
            if len(parts) > 1:  # one job's images must not cost another its answer
                for part in parts:
                    self._answer(function, [part])
                return
            for _, future in parts:
                future.set_exception(error)
            return
        for (_, future), answer in zip(parts, answers, strict=True):
            future.set_result(answer)


class _AtWork:
    """The jobs that are looked at, and the processes that find faces for each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # so that no later job of a lane is meant
        self._pools: dict[str, Pool[Any, Any]] = {}

    @contextmanager
    def hold(self, job: str, pool: Pool[Any, Any]) -> Iterator[None]:
        """While a job is looked at."""
        with self._lock:
            self._pools[job] = pool
        try:
            yield
        finally:
            with self._lock:
                del self._pools[job]

    def interrupt(self, job: str) -> None:
        """Ends the search for faces of a job, if it is at that."""
        with self._lock:
            if job in self._pools:
                self._pools[job].interrupt()


class _Lane:
    """The model as one lane sees it: it says that scoring has begun."""

    def __init__(self, batcher: Batcher, on_call: Callable[[], None]) -> None:
        self._batcher, self._on_call = batcher, on_call

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self._on_call()
        return self._batcher(images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batcher.model, name)


def serve_bench(connection: Connection, plan: Plan) -> None:
    """What the process does: ready, then a word for each job, until the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent's to handle, though all processes get it
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    lock = threading.Lock()

    def say(word: Word) -> None:
        with lock:
            connection.send(word)

    try:
        examiner = plan.make_examiner()
        device = _place(examiner.model, plan.device)
    except InputError as error:
        say(Word("fatal", content=error))
        return
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    at_work = _AtWork()
    batcher = Batcher(examiner.model, lambda jobs, images: say(Word("batch", content=(jobs, images))))
    for _ in range(plan.lanes):
        threading.Thread(
            target=_lane, args=(orders, at_work, say, examiner, batcher, device, plan), daemon=True
        ).start()
    say(Word("ready", content=_description(examiner, plan)))
    while True:
        try:
            given = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(given, Order):
            orders.put(given)
        else:
            at_work.interrupt(given.job)


def _place(model: Any, device: str) -> str:
    """Puts a module into evaluation mode and onto the device; where that is."""
    import torch

    place = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(model, torch.nn.Module):
        model.eval().to(torch.device(place))
    return place


def _config(plan: Plan) -> PreprocessConfig:
    from unmasked.inspection.examine import crop_config

    return crop_config(plan.crops, **plan.budget, workers=1)


def _description(examiner: Examiner, plan: Plan) -> dict[str, Any]:
    """What `GET /v1/detector` says, without the limits."""
    from unmasked.inspection.finding import rate_sentences
    from unmasked.serving.maps import has_layer

    band = examiner.fitted.band
    return {
        "detector": examiner.card["detector"],
        "architecture": examiner.card["architecture"],
        "sha256": examiner.card["sha256"],
        "threshold": examiner.fitted.threshold.value,
        "band": {"low": band.low, "high": band.high} if band is not None else None,
        "performance": [one.model_dump() for one in examiner.rates],
        "sentences": rate_sentences(examiner.rates),
        "frames": _config(plan).frames_per_video,
        "has_maps": plan.has_maps and has_layer(examiner.model),
    }


def _lane(
    orders: queue.SimpleQueue[Order],
    at_work: _AtWork,
    say: Callable[[Word], None],
    examiner: Examiner,
    batcher: Batcher,
    device: str,
    plan: Plan,
) -> None:
    from unmasked.inspection.examine import examine
    from unmasked.preprocessing.run import worker_pool

    config = _config(plan)
    pool = worker_pool(config, plan.face_detector)
    while True:
        order = orders.get()
        say(Word("stage", order.job, "finding faces"))
        lane = _Lane(batcher, partial(say, Word("stage", order.job, "scoring")))
        try:
            mine = replace(examiner, model=lane)
            with at_work.hold(order.job, pool):
                (case,) = examine({order.file: order.folder / CASE}, mine, config, device=device, pool=pool)
            hide_places(case, order.folder / CASE)
            if plan.has_maps:
                write_maps(case, order.folder / CASE, order.folder / MAPS, batcher.run, examiner, device)
            say(Word("done", order.job))
        except Exception as error:
            # One file must not end the others: its job says what happened, the log where.
            logger.exception("job %s", order.job)
            say(Word("failed", order.job, words_of(error)))


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
