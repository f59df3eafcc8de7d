"""The application: the interface under /v1, the page, and what a monitor asks for."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, StreamingResponse

from unmasked.datasets.errors import InputError, printable
from unmasked.inspection.maps import FOLDER as MAPS
from unmasked.inspection.records import CASE as RECORD
from unmasked.inspection.records import PAGE, read_case
from unmasked.serving.dispatch import Dispatch
from unmasked.serving.guard import PAGE_OF_A_CASE
from unmasked.serving.jobs import CASE, UPLOAD, Entry, Jobs, QueueFull, file_name, now
from unmasked.serving.metrics import MEDIA_TYPE, Metrics
from unmasked.serving.problems import CLOSE, Refusal, add_handlers, declare
from unmasked.serving.records import Band, Detector, Health, Job, Limits, Problem, Result
from unmasked.serving.settings import Limits as Settings
from unmasked.serving.tokens import Tokens
from unmasked.serving.uploads import check_announced, receive

ABOUT = (
    "One video or picture in, a finding with known error rates out: send a file to /v1/jobs, ask for the job "
    "until it has ended, read its result, its report or its case. Errors are problem+json (RFC 9457)."
)
STATIC = Path(__file__).parent / "page"
PICTURE = r"^[0-9]{1,9}_[0-9]{1,9}\.png$"
BLOCK_BYTES = 1 << 18
ZIPS = 2  # cases that are packed at a time
RESULTS = 64  # of finished jobs that are held; a long video with many people has some MB
FILE = {"schema": {"type": "string", "format": "binary"}}
UPLOADED = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
BODY = {
    "required": True,
    "content": dict.fromkeys(("application/octet-stream", "video/*", "image/*"), UPLOADED),
}


async def owner_of(request: Request) -> str:
    """The owner of the jobs that a request may see; Refusal 401 where it is not let in."""
    owner = request.app.state.tokens.owner(request.headers.get("authorization", ""))
    if owner is None:
        said = "a token is asked for, as the header `Authorization: Bearer …`, and this is none that is known"
        raise Refusal(401, said, {"WWW-Authenticate": "Bearer", **CLOSE})
    return owner


Owner = Annotated[str, Depends(owner_of)]
# Said, not checked: what is no id is no job either, which 404 says better than 422.
JobId = Annotated[
    str,
    InPath(description="as the answer to the upload says", json_schema_extra={"pattern": "^[0-9a-f]{32}$"}),
]
PictureName = Annotated[str, InPath(pattern=PICTURE, description="the last part of a look's crop")]

logger = logging.getLogger(__name__)


def make_app(jobs: Jobs, dispatch: Dispatch, tokens: Tokens, settings: Settings, metrics: Metrics) -> FastAPI:
    """The application.

    Args:
        jobs: which there are.
        dispatch: looks at them.
        tokens: who is let in.
        settings: limits.
        metrics: what is counted.
    """

    # Without the pages of FastAPI that describe the interface, which load scripts from elsewhere, and without
    # its telemetry, which the environment could send elsewhere.
    app = FastAPI(
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        title="unmasked",
        version="1",
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.tokens = tokens
    add_handlers(app)
    _add_jobs(app, jobs, dispatch, tokens, settings, metrics)
    _add_results(app, jobs, tokens)
    _add_monitoring(app, jobs, dispatch, tokens, settings, metrics)
    _add_page(app)
    app.openapi = partial(_describe, app, tokens)  # type: ignore[method-assign]
    return app


def _refusals(tokens: Tokens, *statuses: int) -> dict[int | str, dict[str, Any]]:
    # By name or origin where everybody is let in, by token where not.
    doors = (401,) if tokens.is_asked_for else (403, 421)
    return declare(*doors, *statuses)


def _add_jobs(
    app: FastAPI, jobs: Jobs, dispatch: Dispatch, tokens: Tokens, settings: Settings, metrics: Metrics
) -> None:
    @app.post(
        "/v1/jobs",
        status_code=202,
        operation_id="createJob",
        summary="Send a file; the answer is the job that looks at it",
        openapi_extra={"requestBody": BODY},
        responses=_refusals(tokens, 400, 408, 411, 413, 415, 422, 429, 500, 507),
    )
    async def create_job(
        request: Request,
        response: Response,
        owner: Owner,
        name: Annotated[str, Query(max_length=1000, description="of the file")] = "upload",
        keep: Annotated[bool, Query(description="keep the file when there is an answer")] = False,
    ) -> Job:
        entry = await _take(request, owner, name, keep)
        metrics.add("uploaded_bytes_total", entry.bytes)
        jobs.add(entry)
        dispatch.pump()
        response.headers["Location"] = f"/v1/jobs/{entry.id}"
        return _job(jobs, entry)

    async def _take(request: Request, owner: str, name: str, keep: bool) -> Entry:
        check_announced(request, settings, jobs.folder, jobs.receiving)
        try:
            with jobs.place(owner) as job, _new_folder(jobs.folder / job) as folder:
                file = folder / UPLOAD / file_name(name)
                size, digest = await receive(request, file, settings)
                entry = Entry(
                    id=job, owner=owner, name=file.name, bytes=size, sha256=digest, keep=keep, created=now()
                )
                await asyncio.to_thread(jobs.write, entry)
                return entry
        except QueueFull as full:
            said = f"{settings.queue} jobs of yours wait already; come again in {full.retry_s} seconds"
            raise Refusal(429, said, {"Retry-After": str(full.retry_s), **CLOSE}) from None

    @app.get(
        "/v1/jobs/{job}",
        operation_id="getJob",
        summary="A job, with its result once it is done",
        responses=_refusals(tokens, 404, 422, 500),
    )
    async def get_job(job: JobId, owner: Owner) -> Job:
        entry = _find(jobs, job, owner)
        return await asyncio.to_thread(_job, jobs, entry)

    @app.delete(
        "/v1/jobs/{job}",
        status_code=204,
        operation_id="deleteJob",
        summary="Remove a job and all its files",
        responses=_refusals(tokens, 404, 422, 500),
    )
    async def delete_job(job: JobId, owner: Owner) -> Response:
        entry = _find(jobs, job, owner)
        jobs.remove(entry)
        dispatch.cancel(entry)
        return Response(status_code=204)


def _add_results(app: FastAPI, jobs: Jobs, tokens: Tokens) -> None:
    packing = asyncio.Semaphore(ZIPS)
    refusals = _refusals(tokens, 404, 409, 422, 500, 507)

    @app.get(
        "/v1/jobs/{job}/report",
        operation_id="getReport",
        summary="The page of a case",
        response_class=HTMLResponse,
        responses=refusals,
    )
    async def get_report(job: JobId, owner: Owner) -> Response:
        page = await _read(_case_folder(jobs, job, owner) / PAGE)
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": PAGE_OF_A_CASE})

    @app.get(
        "/v1/jobs/{job}/case",
        operation_id="getCase",
        summary="The case folder, packed, for `unmasked verify`",
        response_class=Response,
        responses={200: {"content": {"application/zip": FILE}}, **refusals},
    )
    async def get_case(job: JobId, owner: Owner) -> Response:
        folder = _case_folder(jobs, job, owner)
        async with packing:
            try:
                packed = await asyncio.to_thread(_pack, folder.parent)
            except FileNotFoundError:  # removed in this very moment
                raise Refusal(404, f"there is no job {job} any more") from None
        name = f"case-{job[:8]}.zip"
        return StreamingResponse(
            _blocks(packed),
            media_type="application/zip",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    pictures = {200: {"content": {"image/png": FILE}}, **refusals}

    @app.get(
        "/v1/jobs/{job}/crops/{name}",
        operation_id="getCrop",
        summary="The picture of a look",
        response_class=Response,
        responses=pictures,
    )
    async def get_crop(job: JobId, name: PictureName, owner: Owner) -> Response:
        content = await _read(_case_folder(jobs, job, owner) / "crops" / name)
        return Response(content, media_type="image/png")

    @app.get(
        "/v1/jobs/{job}/maps/{name}",
        operation_id="getMap",
        summary="Where in a look the detector found evidence",
        response_class=Response,
        responses=pictures,
    )
    async def get_map(job: JobId, name: PictureName, owner: Owner) -> Response:
        content = await _read(_case_folder(jobs, job, owner) / MAPS / name)
        return Response(content, media_type="image/png")


def _add_monitoring(
    app: FastAPI, jobs: Jobs, dispatch: Dispatch, tokens: Tokens, settings: Settings, metrics: Metrics
) -> None:
    @app.get(
        "/v1/detector",
        operation_id="getDetector",
        summary="What looks at files, its measured errors, and the limits",
        dependencies=[Depends(owner_of)],
        responses=_refusals(tokens, 500),
    )
    async def get_detector() -> Detector:
        limits = Limits(bytes_max=settings.bytes_max, queue=settings.queue, retain_h=settings.retain_h)
        return Detector.model_validate({**(dispatch.description or {}), "limits": limits})

    @app.get(
        "/healthz",
        operation_id="getHealth",
        summary="Whether files can be looked at now",
        responses={503: {"model": Health, "description": "the detector is being loaded"}, **declare(500)},
    )
    async def get_health(response: Response) -> Health:
        if not dispatch.is_ready:
            response.status_code = 503
            return Health(status="starting")
        return Health(status="ok")

    @app.get(
        "/metrics",
        operation_id="getMetrics",
        summary="Numbers for Prometheus",
        response_class=Response,
        dependencies=[Depends(owner_of)],
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **_refusals(tokens, 500),
        },
    )
    async def get_metrics() -> Response:
        return Response(metrics.text(jobs.count(), is_ready=dispatch.is_ready), media_type=MEDIA_TYPE)


def _add_page(app: FastAPI) -> None:
    for path, name, kind in (
        ("/", "index.html", "text/html"),
        ("/page.css", "page.css", "text/css"),
        ("/page.js", "page.js", "text/javascript"),
        ("/icon.svg", "icon.svg", "image/svg+xml"),
    ):
        content = (STATIC / name).read_text(encoding="utf-8")
        app.get(path, include_in_schema=False)(partial(_static, content, kind))


async def _static(content: str, kind: str) -> Response:
    return Response(content, media_type=kind)


def _describe(app: FastAPI, tokens: Tokens) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = found.setdefault("components", {})
        components["schemas"]["Problem"] = Problem.model_json_schema()
        if tokens.is_asked_for:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, operations in found["paths"].items():
                if path != "/healthz":
                    for operation in operations.values():
                        operation["security"] = [{"token": []}]
        app.openapi_schema = found
    return app.openapi_schema


def _find(jobs: Jobs, job: str, owner: str) -> Entry:
    entry = jobs.find(job, owner)
    if entry is None:
        raise Refusal(
            404, f"there is no job {printable(job[:32])}: it was removed, is too old, or is of another token"
        )
    return entry


def _case_folder(jobs: Jobs, job: str, owner: str) -> Path:
    entry = _find(jobs, job, owner)
    if entry.state != "done":
        why = entry.reason or "ask for the job until it is done"
        raise Refusal(409, f"the job is {entry.state}: {why}")
    return jobs.path(entry) / CASE


async def _read(path: Path) -> bytes:
    try:
        return await asyncio.to_thread(path.read_bytes)
    except OSError:
        raise Refusal(404, f"there is no {path.name} in this job") from None


def _job(jobs: Jobs, entry: Entry) -> Job:
    upload = entry.upload
    fields = entry.model_dump(exclude={"owner", "keep", "tries"})
    result = _result(jobs.path(entry)) if entry.state == "done" else None
    return Job(**fields, before=jobs.before(entry), upload=upload, deleted=upload == "deleted", result=result)


def _result(folder: Path) -> Result | None:
    try:
        return _parsed_result(folder, (folder / CASE / RECORD).stat().st_mtime_ns)
    except (InputError, OSError):  # removed in this very moment
        return None


@lru_cache(maxsize=RESULTS)
def _parsed_result(folder: Path, changed_ns: int) -> Result:
    """A job that is asked for again and again is read once."""
    case = read_case(folder / CASE)
    band = case.thresholds["abstention"]
    return Result(
        kind=case.source.kind,
        finding=case.finding,
        people=case.people,
        looks=case.looks,
        maps=case.maps,
        sampled=case.sampled,
        performance=case.performance,
        is_compared=case.material is not None,
        warnings=case.warnings,
        threshold=case.thresholds["threshold"]["value"],
        band=Band(low=band["low"], high=band["high"]) if band else None,
    )


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A job's folder, which is gone again where no job came of it."""
    folder.mkdir(mode=0o700)  # faces of people: other users of the machine see nothing of it
    (folder / UPLOAD).mkdir()
    try:
        yield folder
    except BaseException:  # a client that has gone is a cancelled task
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _pack(folder: Path) -> IO[bytes]:
    """A ZIP of the case, as a file without a name: gone whenever it is closed."""
    packed = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by who reads it)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted((folder / CASE).rglob("*")):
            if path.is_file() and not any(name.startswith(".") for name in path.relative_to(folder).parts):
                archive.write(path, path.relative_to(folder).as_posix())
    packed.seek(0)
    return packed


def _blocks(packed: IO[bytes]) -> Iterator[bytes]:
    with packed:
        while block := packed.read(BLOCK_BYTES):
            yield block
