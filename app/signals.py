"""What SIGTERM and Ctrl-C do to a command: a sentence, exit code 143 or 130.

SIGTERM comes from scancel, docker stop and timeout.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unmasked.datasets.errors import InterruptedBySignal

# Verbs that go on where they were. What any other has not finished is gone: files are whole or absent.
GOES_ON = {
    "preprocess": "finished videos are kept, and the same command goes on from here",
    "inspect": "of a folder, finished cases are kept, and the same command goes on from here",
    "serve": "finished jobs are kept, what was not is given back as stopped",
    "tune": "finished trials are kept, and the same command goes on from here",
}


def advice_after_signal(verb: str) -> str:
    """How to go on with a verb that a signal has ended, in words."""
    return GOES_ON.get(verb, "what was not finished is not kept; the same command begins again")


@contextmanager
def stopped_by_signals(advice: str) -> Iterator[None]:
    """Ends the work in it with one sentence on SIGTERM and SIGINT.

    Args:
        advice: how to go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return

    def stop(number: int, frame: Any) -> None:
        raise InterruptedBySignal(number, f"stopped by {signal.Signals(number).name}; {advice}")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
