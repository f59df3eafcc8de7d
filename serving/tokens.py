"""Who asks: bearer tokens, compared in constant time. A token sees its own jobs alone."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from unmasked.datasets.errors import InputError

SHORTEST = 16
ADVICE = "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes one"
NOBODY = ""  # the owner of all jobs where no token is asked for


class Tokens:
    """The tokens that are let in; none lets everybody in.

    Args:
        tokens: as they were given.
    """

    def __init__(self, tokens: Sequence[str] = ()) -> None:
        # Digests are equally long: a comparison takes as long whatever is sent.
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    @property
    def is_asked_for(self) -> bool:
        """True if a request needs a token."""
        return bool(self._digests)

    def owner(self, authorization: str) -> str | None:
        """The name of a token's jobs: its SHA-256. None where it is not let in.

        Args:
            authorization: the header of that name; "" for none.
        """
        if not self._digests:
            return NOBODY
        scheme, _, token = authorization.partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        # All of them are compared, so that time does not say which came near.
        found = [hmac.compare_digest(given, digest) for digest in self._digests]
        return given.hex() if scheme.lower() == "bearer" and any(found) else None


def read_tokens(file: Path | None, variable: str) -> list[str]:
    """The tokens of a file, one a line, and of an environment variable, split at blanks.

    Raises:
        InputError: the file cannot be read, or a token is too short to be one.
    """
    tokens = variable.split()
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"token_file={file} cannot be read ({error}); give a file of text") from error
        tokens += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not tokens:
            raise InputError(f"token_file={file} holds no token; write one on each line ({ADVICE})")
    for token in tokens:
        if len(token) < SHORTEST or not (token.isascii() and token.isprintable()) or " " in token:
            raise InputError(
                f"a token of {len(token)} characters was given; give at least {SHORTEST} of ASCII "
                f"without blanks ({ADVICE})"
            )
    return list(dict.fromkeys(tokens))


def check_host(host: str, tokens: Sequence[str]) -> None:
    """Refuses to listen to other machines without a token.

    Raises:
        InputError: the address is not of this machine alone, and there is no token.
    """
    if not is_loopback(host) and not tokens:
        raise InputError(
            f"host={host} is open to other machines, and there is no token; give token_file= or the "
            f"environment variable UNMASKED_TOKEN ({ADVICE}), or leave host=127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """True if only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
