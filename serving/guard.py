"""What every request passes: headers of safety, doors for browsers, time limits, faults."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import h11
from starlette.datastructures import Headers, MutableHeaders
from uvicorn.protocols.http.h11_impl import H11Protocol

from unmasked.datasets.errors import printable
from unmasked.serving.metrics import Metrics
from unmasked.serving.problems import CLOSE, FAULT, MEDIA_TYPE, problem
from unmasked.serving.tokens import is_loopback

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

HEADER_S = 10.0  # from the start of a connection, or the last answer, to the end of a request's headers
SEND_S = 60.0  # that a client may take to make room for the next part of an answer
HEADERS = {
    # blob: is what the page makes of pictures that it fetched with its token.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# A case page has its style and pictures inside, and no script.
PAGE_OF_A_CASE = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
)

logger = logging.getLogger(__name__)
access = logging.getLogger("unmasked.serving.access")


class Guard:
    """Around the application.

    Where no token is asked for, the browser of this machine is the door that others could use: pages of
    other sites are refused by Origin and Sec-Fetch-Site, and other names for this machine (DNS rebinding) by
    Host.

    Args:
        app: the application.
        metrics: counts answers.
        is_open: True if no token is asked for.
    """

    def __init__(self, app: App, metrics: Metrics, *, is_open: bool) -> None:
        self._app, self._metrics, self._is_open = app, metrics, is_open

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, status = time.monotonic(), 0
        asked = printable(f"{scope['method']} {scope['path']}")  # in a log: a path may hold line breaks

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            # A client that does not read would hold its answer for ever.
            await asyncio.wait_for(send(message), SEND_S)

        try:
            # The page itself may be linked to; what it asks for is asked by itself.
            is_page = (scope["method"], scope["path"]) == ("GET", "/")
            refusal = self._refusal(Headers(scope=scope), is_page) if self._is_open else None
            await (refusal or self._app)(scope, receive, guarded)
        except asyncio.TimeoutError:
            logger.info("a client did not read its answer")
            raise
        except Exception:
            logger.exception("%s", asked)
            if not status:
                await problem(500, FAULT, CLOSE)(scope, receive, guarded)
            elif status < 500:  # half an answer is sent: its connection must not go on
                raise
        finally:
            self._metrics.add("requests_total", status=str(status or 499))
            taken_s = time.monotonic() - began_s
            access.info("%s %d %.3f s", asked, status or 499, taken_s)

    def _refusal(self, headers: Headers, is_page: bool) -> App | None:
        host = headers.get("host", "")
        if not is_loopback(_name_of(f"//{host}")):
            said = f"this server answers on this machine alone, and was called {host!r}; open 127.0.0.1"
            return problem(421, said, CLOSE)
        origin = headers.get("origin")
        is_foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        # As text: an origin is a scheme, :// and a host as it is in the header.
        is_foreign |= origin is not None and origin.partition("://")[2] != host
        if is_foreign and not is_page:
            said = "the request comes from a page of another site; open the page of this server"
            return problem(403, said, CLOSE)
        return None


def _name_of(address: str) -> str:
    """The host of an address; "" where it is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def protocol(connections: int, header_s: float = HEADER_S) -> type[H11Protocol]:
    """uvicorn's protocol with bounds on connections and on the time that headers take.

    Args:
        connections: that may be open at a time.
        header_s: seconds from the start of a connection, or the last answer, to the end of the headers.
    """

    class Protocol(H11Protocol):
        """uvicorn itself waits for ever for the end of a request's headers."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Starts the clock, or closes one connection too many."""
            super().connection_made(transport)
            if len(self.connections) > connections:
                transport.abort()
                return
            self._start_clock()

        def connection_lost(self, exc: Exception | None) -> None:
            """Stops the clock."""
            self._stop_clock()
            super().connection_lost(exc)

        def handle_events(self) -> None:
            """Stops the clock where a request is complete."""
            super().handle_events()
            if self._is_answering():
                self._stop_clock()

        def on_response_complete(self) -> None:
            """Starts the clock for the next request."""
            super().on_response_complete()
            if not self._is_answering():
                self._start_clock()

        def send_400_response(self, msg: str) -> None:
            """Refuses what is no HTTP, as a problem."""
            body = bytes(problem(400, "what was sent is no HTTP request").body)
            headers = [
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
                *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
            ]
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _start_clock(self) -> None:
            self._stop_clock()
            self._timer = self.loop.call_later(header_s, self.transport.abort)

        def _stop_clock(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Protocol
