"""The one exception that stands for a mistake in what the user gave, and text that can be shown."""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used; the message says what was given, what is allowed, what to do next.

    The command line prints the message as it is and exits with code 2; any other exception is a
    fault of ours and keeps its traceback.
    """


def printable(text: object) -> str:
    r"""Text that can be shown on any terminal: control characters and bytes that are not UTF-8 are escaped.

    >>> printable("caf\udce9 \x1b[31m")
    'caf\\xe9 \\x1b[31m'
    """
    try:
        encoded = str(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, which JSON can spell
        encoded = str(text).encode("utf-8", "surrogatepass")
    whole = encoded.decode("utf-8", "backslashreplace")
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in whole
    )
