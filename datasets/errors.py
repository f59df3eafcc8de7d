"""The exceptions that the command line answers in a sentence: a mistake in what was given, and a signal."""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used; the message says what was given, what is allowed, what to do next.

    The command line prints the message as it is and exits with code 2; any other exception is a
    fault of ours and keeps its traceback.
    """


class InterruptedBySignal(Exception):
    """A signal ended the work; the message says what is kept and how to go on.

    The command line prints the message and exits with 128 and the signal's number.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = int(number)
