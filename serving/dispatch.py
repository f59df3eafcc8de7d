"""Jobs to the process that looks at files, and what becomes of both when it ends."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from unmasked.serving.bench import Cancel, Order, Plan, Word, serve_bench
from unmasked.serving.jobs import STOPPED, Entry, Jobs
from unmasked.serving.metrics import Metrics
from unmasked.serving.records import State
from unmasked.serving.settings import Limits

TRIES = 2  # of a job; the second one alone, so that it is known who ends the process
TICK_S = 1.0
SWEEP_S = 30.0
RESTART_S_MAX = 30.0
ENDED = "the process that looks at files ended twice while it looked at this one"
TOO_LONG = "it took longer than the {:g} seconds that a file may take"

logger = logging.getLogger(__name__)


class Dispatch:
    """Keeps the process, gives it jobs, and ends them; lives in one event loop.

    Args:
        jobs: which there are.
        plan: how files are looked at.
        limits: see `Limits`.
        metrics: what is counted.
    """

    def __init__(self, jobs: Jobs, plan: Plan, limits: Limits, metrics: Metrics) -> None:
        self.jobs, self.plan, self._limits, self._metrics = jobs, plan, limits, metrics
        self.description: dict[str, Any] | None = None
        self.is_ready = False
        self._running: dict[str, tuple[Entry, float]] = {}
        self._connection: Connection | None = None
        self._process: BaseProcess | None = None
        self._deaths = 0  # since it was last ready
        self._fatal: Exception | None = None
        self._is_stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Starts the process and waits until it is ready.

        Raises:
            InputError: the detector cannot be loaded.
            RuntimeError: the process ended before it was ready.
        """
        self._loop = asyncio.get_running_loop()
        self._start_process()
        while not self.is_ready:
            await self._wait_for_change()
            if self._fatal is not None:
                raise self._fatal
            if self._deaths:
                raise RuntimeError("the process that looks at files ended before it was ready")
        self._do(self._tick())

    async def stop(self) -> None:
        """Ends what waits as stopped, lets what runs end for a while, and ends the process."""
        self._is_stopping = True
        for entry in self.jobs.unfinished():
            if entry.state == "queued":
                self.jobs.end(entry, "stopped", STOPPED)
        deadline_s = time.monotonic() + self._limits.stop_s
        while self._running and time.monotonic() < deadline_s:
            await self._wait_for_change(deadline_s - time.monotonic())
        for task in list(self._tasks):
            task.cancel()
        self._kill()
        for entry in self.jobs.unfinished():
            self.jobs.end(entry, "stopped", STOPPED)
        self._running = {}

    def pump(self) -> None:
        """Hands on waiting jobs, as many as are looked at at a time.

        A job that ended the process once is looked at alone.
        """
        while self.is_ready and not self._is_stopping and len(self._running) < self.plan.jobs:
            is_alone = any(entry.tries for entry, _ in self._running.values())
            if self._running and (is_alone or self.jobs.is_next_again()):
                return
            entry = self.jobs.take()
            if entry is None:
                return
            self._running[entry.id] = (entry, time.monotonic())
            assert self._connection is not None
            with suppress(OSError):  # a process that has just ended is met when its pipe is read
                self._connection.send(Order(entry.id, self.jobs.file(entry), self.jobs.path(entry)))

    def cancel(self, entry: Entry) -> None:
        """Ends the work at a job that was removed, so that there is room for the next."""
        if entry.id in self._running and self._connection is not None:
            with suppress(OSError):
                self._connection.send(Cancel(entry.id))

    def _start_process(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # Not a daemon: it starts the processes that decode.
        process = context.Process(target=serve_bench, args=(theirs, self.plan), daemon=False)
        process.start()
        self._process = process
        theirs.close()
        self._metrics.add("model_starts_total")
        threading.Thread(target=self._listen, args=(self._connection,), daemon=True).start()

    def _listen(self, connection: Connection) -> None:
        """Runs in a thread of its own: hands what the process says to the loop, then that it has ended."""
        with suppress(EOFError, OSError):
            while True:
                self._loop.call_soon_threadsafe(self._hear, connection, connection.recv())
        with suppress(RuntimeError):  # the loop has ended before the process
            self._loop.call_soon_threadsafe(self._mourn, connection)

    def _hear(self, connection: Connection, word: Word) -> None:
        if connection is not self._connection:
            return
        if word.kind == "ready":
            self.description, self.is_ready, self._deaths, self._fatal = word.content, True, 0, None
        elif word.kind == "fatal":
            self._fatal = word.content
            if self.description is not None:  # else `start` raises it
                logger.error("the detector cannot be loaded again: %s", word.content)
        elif word.kind == "batch":
            jobs, images, seconds = word.content
            self._metrics.add("batches_total")
            self._metrics.add("batch_jobs_total", jobs)
            self._metrics.add("batch_images_total", images)
            self._metrics.add("batch_seconds_total", seconds)
        elif word.job in self._running:
            entry, began_s = self._running[word.job]
            if word.kind == "stage":
                if entry.stage == "waiting":  # for a process that decodes; only now is it looked at
                    self._running[word.job] = (entry, time.monotonic())
                entry.stage = word.content
                return
            del self._running[word.job]
            self._end(entry, "done" if word.kind == "done" else "failed", word.content or "", began_s)
        self._note_change()

    def _mourn(self, connection: Connection) -> None:
        """Starts the process again; what it looked at is tried once more."""
        if connection is not self._connection or self._is_stopping:
            return
        self._kill()
        self._deaths += 1
        running, self._running = self._running, {}
        for entry, began_s in reversed(running.values()):
            entry.tries += entry.stage != "waiting"  # who had not begun has ended nothing
            if entry.tries >= TRIES or not self.jobs.is_known(entry):  # or it was removed meanwhile
                self._end(entry, "failed", ENDED, began_s)
            else:
                self.jobs.give_back(entry)
        logger.error("the process that looks at files has ended and is started again")
        if self.description is not None:  # else `start` says so
            self._do(self._restart(min(RESTART_S_MAX, 2.0 ** min(self._deaths - 1, 10) - 1)))
        self._note_change()

    async def _restart(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        self._start_process()

    async def _tick(self) -> None:
        swept_s = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            late = [
                job
                for job, (entry, began_s) in self._running.items()
                if entry.stage != "waiting" and time.monotonic() - began_s > self._limits.job_s
            ]
            for job in late:
                entry, began_s = self._running.pop(job)
                self._end(entry, "failed", TOO_LONG.format(self._limits.job_s), began_s)
            if late:
                for entry, _ in self._running.values():
                    entry.tries -= entry.stage != "waiting"  # the others did nothing
                self._kill_process()
            if time.monotonic() - swept_s > SWEEP_S:
                self.jobs.sweep()
                swept_s = time.monotonic()
            self.pump()

    def _end(self, entry: Entry, state: State, reason: str, began_s: float) -> None:
        seconds = time.monotonic() - began_s
        self.jobs.end(entry, state, reason, seconds)
        self._metrics.add("jobs_total", state=state)
        self._metrics.observe(seconds)
        logger.info("job %s: %s in %.2f s%s", entry.id, state, seconds, f" ({reason})" if reason else "")

    def _note_change(self) -> None:
        self._changed.set()
        self.pump()

    async def _wait_for_change(self, timeout_s: float | None = None) -> None:
        self._changed.clear()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)

    def _do(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _kill_process(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _kill(self) -> None:
        self.is_ready = False
        self._kill_process()
        if self._process is not None:
            self._process.join(5)
