"""Exceptions that are answered in a sentence, names perhaps meant, printable text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """What was given cannot be used.

    The message says what was given, what is allowed, what to do next.
    The command line prints the message as it is and exits with code 2; any other exception is a
    fault of ours and keeps its traceback.
    """


class InterruptedBySignal(BaseException):
    """A signal ended the work; the message says what is kept and how to go on.

    No Exception, as KeyboardInterrupt is none: what a library does about faults of its own, such as printing
    them and going on, would be done about the signal.

    The command line prints the message and exits with 128 and the signal's number.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = int(number)


def printable(text: object) -> str:
    r"""Text that can be shown on any terminal.

    Control characters and bytes that are not UTF-8 are escaped.

    >>> printable("caf\udce9 \x1b[31m")
    'caf\\xe9 \\x1b[31m'
    """
    try:
        encoded = str(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, which JSON can spell
        encoded = str(text).encode("utf-8", "surrogatepass")
    whole = encoded.decode("utf-8", "backslashreplace")
    return "".join(
        # A space that does not break a line is one on a terminal too.
        sign
        if sign.isprintable() or sign == "\N{NO-BREAK SPACE}"
        else sign.encode("unicode_escape").decode("ascii")
        for sign in whole
    )


@contextmanager
def explain_bad_fields(fields: object, what: str, advice: str) -> Iterator[None]:
    """Turns whatever is wrong with the fields of a stored record into one InputError.

    Args:
        fields: as they were read.
        what: they should be, such as "threshold".
        advice: what to give in their place, after "give".
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{fields!r} is not a stored {what} ({error}); give {advice}") from error


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like a misspelled one; None if none is like it.

    Args:
        name: as given.
        known: what may be given.
        cutoff: least similarity in [0, 1], see `difflib.get_close_matches`.

    >>> nearest_name("gendre", ["age", "gender"])
    'gender'
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A question to put behind a misspelled name in a message; "" if no known name is like it.

    >>> did_you_mean("gendre", ["age", "gender"])
    " (is 'gender' meant?)"
    """
    near = nearest_name(name, known, cutoff)
    return f" (is {near!r} meant?)" if near else ""
