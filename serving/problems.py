"""Refusals as problem+json (RFC 9457), whatever refuses."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Match, Route

from unmasked.datasets.errors import printable
from unmasked.serving.records import Problem

MEDIA_TYPE = "application/problem+json"
CLOSE = {"Connection": "close"}  # after a body that was not read to its end
DRAIN_S = 2.0
FAULT = "a fault of the server; it is in its log"
NO_ROOM = "the server has no room for a file; try again later"
WORDS = {
    404: "there is nothing at this address; the interface is described in /openapi.json",
    405: "this address does not take that method; the interface is described in /openapi.json",
}


class Refusal(Exception):
    """A request that is not answered, with the status and the sentence that say why."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response of a refusal."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=printable(detail))
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Makes every refusal of the application a problem."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        await _drain(request)
        return problem(error.status, error.detail, error.headers)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods(app, request)))  # Starlette names one route's alone
        return problem(error.status_code, WORDS.get(error.status_code, str(error.detail)), headers)

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> JSONResponse:
        await _drain(request)
        said = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        return problem(422, "; ".join(said), CLOSE)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return problem(400, "the connection broke off", CLOSE)  # nobody reads it; it is no fault of ours

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return problem(507, NO_ROOM, CLOSE)
        return problem(500, FAULT, CLOSE)


def _methods(app: FastAPI, request: Request) -> set[str]:
    """What an address takes."""
    found: set[str] = set()
    for route in app.router.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE:
            found |= route.methods or set()
    return found


async def _drain(request: Request) -> None:
    """Reads on for a moment, so that a client that still sends can read why it is refused."""
    is_read = request.method != "POST" or getattr(request.state, "is_read", False)
    # Who waits for leave to send must not get it.
    is_asking = "expect" in request.headers and not getattr(request.state, "is_begun", False)
    if is_read or is_asking:
        return
    with suppress(ClientDisconnect, asyncio.TimeoutError):
        await asyncio.wait_for(_discard(request), DRAIN_S)


async def _discard(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def declare(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These refusals for the description of an address."""
    schema = {"$ref": "#/components/schemas/Problem"}
    headers = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
            **({"headers": headers} if status in (429, 503) else {}),
        }
        for status in statuses
    }
