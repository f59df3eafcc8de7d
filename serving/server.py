"""The server: a socket, uvicorn and the application, until a signal ends it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from unmasked.datasets.errors import InputError
from unmasked.serving.app import make_app
from unmasked.serving.bench import Plan
from unmasked.serving.dispatch import Dispatch
from unmasked.serving.guard import HEADER_S, Guard, protocol
from unmasked.serving.jobs import Jobs
from unmasked.serving.metrics import Metrics
from unmasked.serving.settings import Limits
from unmasked.serving.tokens import Tokens, check_host

WATCH_S = 0.2  # while the detector is loaded, for a signal
GRACE_S = 5  # that answers which are being sent get to end


class _Server(uvicorn.Server):
    """Starts and ends the process that looks at files with itself; a fault of its start is raised."""

    def __init__(self, config: uvicorn.Config, dispatch: Dispatch, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._dispatch, self._on_ready = dispatch, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Loads the detector, then listens, then says so; a signal ends the waiting."""
        starting = asyncio.ensure_future(self._dispatch.start())
        while not starting.done() and not self.should_exit:
            await asyncio.wait([starting], timeout=WATCH_S)
        try:
            if self.should_exit:
                starting.cancel()
                await self._dispatch.stop()
                return
            await starting
            await super().startup(sockets)
        except BaseException:
            await self._dispatch.stop()
            raise
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets answers end, then jobs."""
        await super().shutdown(sockets)
        await self._dispatch.stop()


def serve(
    plan: Plan,
    folder: Path,
    limits: Limits,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    tokens: Sequence[str] = (),
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves until SIGTERM or Ctrl-C, which is raised again once all is ended.

    Args:
        plan: how files are looked at.
        folder: of the jobs.
        limits: see `Limits`.
        host: an address of this machine; any but a loopback address needs a token.
        port: 0 takes a free one.
        tokens: who is let in; none lets in everybody on this machine.
        on_ready: called with the server's address when it answers.

    Raises:
        InputError: the address is taken or not of this machine, needs a token, or the detector cannot be
            loaded.
    """
    check_host(host, tokens)
    listening = _listen(host, port)
    try:
        metrics, known = Metrics(), Tokens(tokens)
        jobs = Jobs(folder, limits)
        dispatch = Dispatch(jobs, plan, limits, metrics)
        app = Guard(make_app(jobs, dispatch, known, limits, metrics), metrics, is_open=not tokens)
        config = uvicorn.Config(
            app,
            http=protocol(limits.connections, min(HEADER_S, limits.idle_s)),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GRACE_S,
        )
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listening.getsockname()[1]}"
        _Server(config, dispatch, lambda: on_ready(address)).run(sockets=[listening])
    finally:
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
        # At once: while the detector is loaded, a second server could bind to the same port and fail later.
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(
            f"host={host} port={port} cannot be listened on ({error}); give another port=, or port=0 for a "
            "free one"
        ) from error
    return listening
