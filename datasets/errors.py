"""The one exception that stands for a mistake in what the user gave."""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used; the message says what was given, what is allowed, what to do next.

    The command line prints the message as it is and exits with code 2; any other exception is a
    fault of ours and keeps its traceback.
    """
