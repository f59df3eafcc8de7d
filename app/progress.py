"""Progress on the terminal: a bar on a screen, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from unmasked.datasets.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

LINE_EVERY_S = 10.0
LEAST = 10  # steps, or a tenth of all, before the time left is said: the first one has the start in it


class Reporter:
    """Shows stages of work; an instance is a callback ``(stage, done, total)``.

    Args:
        console: where to print; standard error by default, so that results can be piped.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.console = console or Console(stderr=True, highlight=False)
        self._tasks: dict[str, TaskID] = {}
        self._printed_s: dict[str, float] = {}
        self._first: dict[str, tuple[float, int]] = {}  # when a stage began, with how many done already
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Reporter:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Says that ``done`` of ``total`` steps of a stage are finished."""
        if self.console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._bars.update(self._tasks[stage], completed=done, total=total)
            return
        now = time.monotonic()
        due = now - self._printed_s.get(stage, -LINE_EVERY_S) >= LINE_EVERY_S
        if due or done == total:
            self._printed_s[stage] = now
            left = self._time_left(stage, now, done, total)
            self.console.print(f"  {stage} {done}/{total}{left}", markup=False)

    def _time_left(self, stage: str, now: float, done: int, total: int) -> str:
        """How long the rest takes at the speed so far, in words; "" where that is not known yet."""
        began, before = self._first.setdefault(stage, (now, done))
        if done == total or now == began or (done - before < LEAST and 10 * (done - before) < total):
            return ""
        return f", about {duration_text((total - done) * (now - began) / (done - before))} left"

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        self.console.print(text, markup=False)


def duration_text(seconds: float) -> str:
    """A duration as somebody who waits wants it.

    >>> duration_text(8.2), duration_text(75), duration_text(200)
    ('8 s', '1 min', '3 min')
    """
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def print_result(text: str) -> None:
    """Prints what a command found, to standard output.

    Names in it cannot command the terminal.
    """
    # A space that does not break is one all the same, and not to be shown as \\xa0.
    sys.stdout.write("\n".join(map(printable, text.replace("\xa0", " ").split("\n"))) + "\n")
    sys.stdout.flush()
