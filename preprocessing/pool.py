"""A pool of worker processes that can be killed: a bad task costs that task alone."""

from __future__ import annotations

import multiprocessing
import os
import pickle  # for the name of an error; messages come from our own workers  # nosec B403
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.sandbox import confine

START_S = 120.0  # a worker that is not ready by then never will be
WATCH_EVERY_S = 0.2  # a worker's memory

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What became of a task: a result, or why there is none."""

    task: T
    result: R | None
    status: str = "ok"  # ok, over_budget, crashed
    reason: str = ""


@dataclass(frozen=True)
class Budget:
    """What one task may take; a worker that takes more is killed, and its task is over budget."""

    time_s: float = float("inf")
    memory_bytes: float = float("inf")  # resident, of the whole worker; watched where there is /proc


class Pool(Generic[T, R]):
    """Worker processes that are kept from one call of `run` to the next; `stop` ends them.

    Processes are spawned, not forked, so a script that uses this needs ``if __name__ == "__main__":``.

    Args:
        make_work: picklable; called once in each process, gives the function that is applied to tasks.
        workers: number of processes, at least 1.
        budget: of each task; the process of one that takes more is killed and replaced.
    """

    def __init__(self, make_work: Callable[[], Callable[[T], R]], *, workers: int, budget: Budget) -> None:
        self._make_work, self._count, self._budget = make_work, workers, budget
        self._workers: list[Worker[T, R]] = []

    def run(self, tasks: Sequence[T]) -> Iterator[Outcome[T, R]]:
        """Yields the outcome of every task as it comes, in any order.

        Args:
            tasks: picklable, none of them None.

        Raises:
            InputError: raised by ``make_work`` or by the work: a mistake that no other task would escape.
            RuntimeError: a process could not be started.
        """
        waiting = deque(tasks)
        # One that has ended since the last call would be met only when it is given a task.
        self._workers = [worker for worker in self._workers if not worker.is_stopped and worker.is_alive]
        try:
            while waiting or any(worker.is_busy for worker in self._workers):
                open_tasks = len(waiting) + sum(worker.is_busy for worker in self._workers)
                while len(self._workers) < min(self._count, open_tasks):
                    with _signals_held_back():
                        self._workers.append(Worker(self._make_work, self._budget))
                for worker in self._workers:
                    if worker.is_idle and waiting:
                        worker.give(waiting.popleft())
                for worker in wait_for(self._workers):
                    outcome = worker.receive()
                    if outcome is not None:
                        yield outcome
                self._workers = [worker for worker in self._workers if not worker.is_stopped]
        finally:
            for worker in self._workers:  # whoever left the loop early must not get their answers later
                if not worker.is_idle:
                    worker.stop()

    def interrupt(self) -> None:
        """Kills the processes that are at a task, which has crashed then; for another thread."""
        for worker in list(self._workers):
            if worker.is_busy:
                worker.process.kill()

    def stop(self) -> None:
        """Kills all processes."""
        for worker in self._workers:
            worker.stop()
        self._workers = []


def run_tasks(
    tasks: Sequence[T], make_work: Callable[[], Callable[[T], R]], *, workers: int, budget: Budget
) -> Iterator[Outcome[T, R]]:
    """Yields the outcome of every task, as `Pool` does; its processes end with the last one."""
    pool = Pool(make_work, workers=workers, budget=budget)
    try:
        yield from pool.run(tasks)
    finally:
        pool.stop()


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Worker(Generic[T, R]):
    """A process, the pipe to it, and the task it is at."""

    def __init__(self, make_work: Callable[[], Callable[[T], R]], budget: Budget) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make_work), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.budget = budget
        self.deadline_s = time.monotonic() + START_S
        self.excess = ""  # of its budget, in words
        self.task: T | None = None
        self.is_started = False
        self.is_stopped = False

    @property
    def is_busy(self) -> bool:
        """True if it is at a task."""
        return self.task is not None

    @property
    def is_idle(self) -> bool:
        """True if it can be given a task."""
        return self.is_started and not self.is_busy and not self.is_stopped

    @property
    def is_alive(self) -> bool:
        """True if its process has not ended."""
        return self.process.is_alive()

    def is_over_budget(self) -> bool:
        """True if the task, or the start, has taken more time or memory than it may."""
        if self.deadline_s <= time.monotonic():
            self.excess = "took longer than the budget of seconds"
        elif self.is_busy and _resident_bytes(self.process.pid) > self.budget.memory_bytes:
            self.excess = f"took more memory than the budget of {self.budget.memory_bytes / 2**30:g} GiB"
        return bool(self.excess)

    def give(self, task: T) -> None:
        """Sends a task to an idle worker."""
        self.task = task
        self.deadline_s = time.monotonic() + self.budget.time_s
        with suppress(OSError):  # a process that has just died is met at the next `receive`
            self.connection.send(task)

    def receive(self) -> Outcome[T, R] | None:
        """The outcome of the task.

        None where the process said only that it is ready, or had no task.
        Called when `wait_for` has named the worker: the pipe has something to read, or it is over budget.
        """
        task = self.task
        try:
            if not self.connection.poll():
                self.stop()
                return self._give_up(task, "over_budget", self.excess)
            kind, content = self.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            _kill_group(self.process.pid)  # before its number can belong to another
            self.process.join(1.0)  # for its exit code
            code = self.process.exitcode
            self.stop()
            return self._give_up(task, "crashed", f"the worker process ended with exit code {code}")
        self.task, self.deadline_s, self.is_started, self.excess = None, float("inf"), True, ""
        resident_bytes = _resident_bytes(self.process.pid)
        if resident_bytes > self.budget.memory_bytes:
            self.stop()  # what it keeps would be charged to its next task
            if kind == "ready":  # so would be every other worker's: they would be started for ever
                raise InputError(
                    f"memory_gb={self.budget.memory_bytes / 2**30:g} is less than the "
                    f"{resident_bytes / 2**30:.2f} GiB that a worker takes before its first file; give at "
                    f"least {2 * resident_bytes / 2**30:.1f}"
                )
        if kind == "fatal":
            raise content
        if task is None:
            return None
        return Outcome(task, content) if kind == "done" else Outcome(task, None, "crashed", content)

    def stop(self) -> None:
        """Kills the process, and whatever it has started."""
        self.is_stopped = True
        self.connection.close()
        self.process.kill()
        _kill_group(self.process.pid)
        self.process.join()

    def _give_up(self, task: T | None, status: str, reason: str) -> Outcome[T, R] | None:
        self.task = None
        if not self.is_started:
            raise RuntimeError(
                f"a worker process could not be started ({reason}); a script that calls this must do so "
                'below `if __name__ == "__main__":`'
            )
        return None if task is None else Outcome(task, None, status, reason)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Keeps SIGTERM and SIGINT back until the end of the block.

    A worker that is ended, or whose parent is, while it reads what it shall do prints Python's traceback.
    It inherits the mask, so that a signal to all processes of a job passes it too.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # where it is started in the block, it undoes the mask
    numbers, kept = (signal.SIGTERM, signal.SIGINT), []
    # Both: the mask is of this thread alone, and another one of the process may get the signal.
    before = {number: signal.signal(number, lambda number, _: kept.append(number)) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        if kept:
            signal.raise_signal(kept[0])


def wait_for(pool: Sequence[Worker[T, R]]) -> list[Worker[T, R]]:
    """The workers that have something to say, or are over their budget; waits for the first."""
    while True:
        first_s = min(worker.deadline_s for worker in pool) - time.monotonic()
        spoken = wait([worker.connection for worker in pool], max(0.0, min(first_s, WATCH_EVERY_S)))
        if due := [worker for worker in pool if worker.connection in spoken or worker.is_over_budget()]:
            return due


def _kill_group(leader: int | None) -> None:
    """Kills the process group of a worker; nothing where it has none yet, or the system knows none."""
    with suppress(OSError, AttributeError):
        if leader is not None and os.getpgid(leader) == leader:
            os.killpg(leader, signal.SIGKILL)


def _resident_bytes(process: int | None) -> int:
    """Memory that a process holds; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except (OSError, IndexError):  # no /proc, or the process has just ended
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _serve(connection: Connection, make_work: Callable[[], Callable[[T], R]]) -> None:
    """What a worker process does: ready, then a result for each task, until the pipe is closed."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the parent's to handle, though a job's every process gets it
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError, AttributeError):
        os.setpgid(0, 0)  # so that it can be killed with whatever it has started
    threading.Thread(target=end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent is gone
        try:
            work = make_work()
        except InputError as error:
            connection.send(("fatal", error))
            return
        confine()  # models are loaded; from here on it reads files of strangers
        connection.send(("ready", None))
        while True:
            connection.send(_answer(work, connection.recv()))


def _answer(work: Callable[[T], R], task: T) -> tuple[str, Any]:
    try:
        return "done", work(task)
    except InputError as error:
        return "fatal", error
    except Exception:
        # One task must not end the run: the fault is reported with its traceback and costs this task.
        return "crashed", traceback.format_exc(limit=-3)


def end_with_parent() -> None:
    """Ends this process when its parent is gone, even in the middle of a file that hangs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        _kill_group(os.getpid())
        os._exit(1)
