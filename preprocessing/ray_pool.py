"""The pool on a Ray cluster.

The same worker processes, each kept by an actor on some machine.
`Supervisor` is a Ray actor that keeps one `unmasked.preprocessing.pool.Worker` and kills it when a task hangs
or eats too much, so a video is treated as it is without Ray. What Ray adds is that machines may be lost:
their tasks are given to others. All machines must see the datasets and ``out`` under the same paths.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.pool import START_S, Budget, Outcome, Worker, wait_for

TRIES = 3  # of a task whose machine is lost

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger(__name__)


class Supervisor(Generic[T, R]):
    """Runs one task at a time in a worker process, which it kills and replaces if needed."""

    def __init__(self, make_work: Callable[[], Callable[[T], R]], budget: Budget, folder: str) -> None:
        self._make_work = make_work
        self._budget = budget
        self._folder = folder
        self._worker: Worker[T, R] | None = None

    def start(self) -> None:
        """Goes to the folder that relative paths are seen from.

        Raises:
            InputError: this machine does not have it.
        """
        try:
            os.chdir(self._folder)
        except OSError as error:
            raise InputError(
                f"machine {socket.gethostname()} of the Ray cluster has no folder {self._folder} "
                f"({error.strerror}); engine=ray needs storage that all machines see under the same paths"
            ) from error

    def run(self, task: T) -> Outcome[T, R]:
        """The outcome of a task.

        Raises:
            InputError, RuntimeError: as `unmasked.preprocessing.pool.run_tasks`.
        """
        if self._worker is None or self._worker.is_stopped:
            self._worker = Worker(self._make_work, self._budget)
        outcome = None
        while outcome is None:
            if self._worker.is_idle:
                self._worker.give(task)
            wait_for([self._worker])
            outcome = self._worker.receive()
        return outcome


def run_tasks_on_ray(
    tasks: Sequence[T], make_work: Callable[[], Callable[[T], R]], *, workers: int, budget: Budget
) -> Iterator[Outcome[T, R]]:
    """Yields the outcome of every task as it comes, like `preprocessing.pool.run_tasks`.

    The cluster is the one that this process is connected to, or that RAY_ADDRESS names ("auto": one that runs
    on this machine). Without either, one of this machine alone is started, which listens on the loopback
    interface only, and is stopped at the end.

    Args:
        tasks: picklable, none of them None.
        make_work: picklable, importable on every machine.
        workers: number of processes; 0 = one for each CPU of the cluster.
        budget: of each task.

    Raises:
        InputError: Ray is not installed, a machine lacks a folder, or as `run_tasks`.
        RuntimeError: the cluster has no free CPU, or a process could not be started.
    """
    if not tasks:
        return
    is_asked = bool(os.environ.get("RAY_ADDRESS"))
    if not is_asked:
        # Read when Ray is imported. Its name says what it is for on other systems; on every one a cluster
        # without it has the address 127.0.0.1, and none of its ports can be reached from elsewhere.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray = _ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local cluster would report to its makers
        on_sigterm = signal.getsignal(signal.SIGTERM)
        ray.init(
            address=None if is_asked else "local",
            include_dashboard=None if is_asked else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own there
    try:
        count = workers or int(ray.cluster_resources().get("CPU", 1))
        yield from _dispatch(ray, tasks, (make_work, budget, os.getcwd()), min(count, len(tasks)))
    finally:
        if is_ours:
            ray.shutdown()


def _dispatch(ray: Any, tasks: Sequence[T], brief: tuple[Any, ...], count: int) -> Iterator[Outcome[T, R]]:
    """Gives tasks to ``count`` supervisors, and again to others where a machine is lost."""
    remote_class = ray.remote(num_cpus=1, max_restarts=0)(Supervisor)
    waiting = deque(enumerate(tasks))
    tries: Counter[int] = Counter()
    busy: dict[Any, tuple[Any, tuple[int, T] | None]] = {}  # future -> supervisor, (number, task)
    has_started = False

    def start_supervisor() -> None:
        supervisor = remote_class.remote(*brief)
        busy[supervisor.start.remote()] = (supervisor, None)

    for _ in range(count):
        start_supervisor()
    try:
        while busy:
            done, _ = ray.wait(list(busy), num_returns=1, timeout=None if has_started else START_S)
            if not done:
                raise RuntimeError(f"no CPU of the Ray cluster became free in {START_S:g} s; add machines")
            has_started = True
            supervisor, given = busy.pop(done[0])
            outcome, is_lost = _collect(ray, done[0])
            if is_lost and given is not None:
                tries[given[0]] += 1
                if tries[given[0]] < TRIES:
                    waiting.append(given)
                else:
                    outcome = Outcome(given[1], None, "crashed", f"lost with its machine, {TRIES} times")
            if outcome is not None:
                yield outcome
            if is_lost and waiting:
                start_supervisor()
            elif waiting:
                given = waiting.popleft()
                busy[supervisor.run.remote(given[1])] = (supervisor, given)
            else:
                ray.kill(supervisor)
    finally:
        for supervisor, _ in busy.values():
            ray.kill(supervisor)


def _collect(ray: Any, future: Any) -> tuple[Any, bool]:
    """(what the future holds, whether its supervisor is lost)."""
    try:
        return ray.get(future), False
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):  # the user's mistake, without Ray's traceback around it
            raise InputError(str(error.cause)) from None
        raise
    except ray.exceptions.RayError as error:
        logger.warning("a Ray worker was lost: %s", str(error).splitlines()[0])
        return None, True


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "engine=ray, but Ray is not installed; run `pip install unmasked[ray]`, or leave engine=local"
        ) from error
    return ray
