"""Doors that came later: LMDB, workbooks, weights, fitted classifiers, records of provenance, the server.

Run by `fuzz_doors.py --late` and `fuzz_doors.py --server`.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fuzz_doors import (
    NASTY_TEXT,
    SCORES,
    Content,
    Door,
    as_parquet,
    changed_bytes,
    changed_object,
    encoded_pictures,
)
from hypothesis import strategies as st

from unmasked.datasets.errors import InputError

# What the JSON in a file of skops may be made to name.
NAMES_OF_CODE = st.sampled_from(
    [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("operator", "methodcaller"),
     ("sklearn.ensemble", "HistGradientBoostingClassifier"), ("sklearn.neighbors", "KNeighborsClassifier"),
     ("sklearn.preprocessing", "FunctionTransformer"), ("numpy", "fromfile"), ("pathlib", "PosixPath")]
)  # fmt: skip
LOADERS = st.sampled_from(
    ["FunctionNode", "MethodNode", "OperatorFuncNode", "TypeNode", "PartialNode", "ReduceNode", "ObjectNode",
     "CachedNode", "NdArrayNode", "JsonNode", "TreeNode", "SGDNode", "ListNode"]
)  # fmt: skip


@st.composite
def changed_zip(draw: Any, content: bytes) -> bytes:
    """One member has other values or bytes, in an archive that is intact; now and then that is not."""
    if draw(st.integers(0, 4)) == 0:
        return draw(changed_bytes(content))
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    if name.endswith(".json"):
        members[name] = draw(changed_schema(json.loads(members[name])))
    else:
        members[name] = draw(changed_bytes(members[name]))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, part in members.items():
            packed.writestr(name, part)
    return stream.getvalue()


@st.composite
def changed_schema(draw: Any, content: Any) -> bytes:
    """A schema of skops: other values, or a node that is of another class or loaded otherwise."""
    if draw(st.booleans()):
        return draw(changed_object(content))
    nodes = [node for node in _nodes(content) if "__class__" in node]
    node = draw(st.sampled_from(nodes))
    node["__module__"], node["__class__"] = draw(NAMES_OF_CODE)
    if draw(st.booleans()):
        node["__loader__"] = draw(LOADERS)
    return json.dumps(content).encode()


def _nodes(value: Any) -> Any:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict):
        yield value
    for one in inner:
        yield from _nodes(one)


def late_doors(folder: Path) -> dict[str, Door]:
    """Files that are read in whole by one function each."""
    return _table_doors(folder) | _lmdb_door(folder) | _weight_doors(folder) | _fitted_doors(folder)


def _table_doors(folder: Path) -> dict[str, Door]:
    from openpyxl import Workbook
    from ucf_fakes import write_faces

    from unmasked.evaluation.domain import fit_domain, read_domain, write_domain
    from unmasked.evaluation.predictions import read_predictions
    from unmasked.preprocessing import made
    from unmasked.preprocessing.faces import FACES
    from unmasked.preprocessing.provenance import (
        FACES_DIGEST,
        MANIFEST_DIGEST,
        changes_since,
        faces_digests,
        manifest_changes,
    )

    book = Workbook()
    for row in (list(SCORES.columns), *SCORES.itertuples(index=False)):
        book.active.append([value.item() if hasattr(value, "item") else value for value in row])
    book.create_sheet("other").append(["title"])
    packed = io.BytesIO()
    book.save(packed)
    crops = folder / "crops"
    crops.mkdir()
    faces = FACES.validate(write_faces(crops, {"test": 3}, frames=1))
    faces = faces.assign(**{MANIFEST_DIGEST: "ab" * 8})
    made.write_faces(faces, crops / "faces.parquet")
    record = (crops / ("faces" + made.SUFFIX)).read_bytes()
    later = SCORES.assign(**{FACES_DIGEST: "ab" * 8})

    def read_record(path: Path) -> None:
        path.replace(crops / ("faces" + made.SUFFIX))
        made.edits(faces, crops / "faces.parquet")

    def read_faces(path: Path) -> None:
        table = FACES.read(path)
        faces_digests(table)
        manifest_changes(table, faces)

    def read_scores(path: Path) -> None:
        table = read_predictions(path)
        changes_since(table, FACES_DIGEST, faces, faces_digests(faces))

    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"dataset": "A", "video": [f"v{n // 2}" for n in range(24)], "kind": "video"})
    domain = fit_domain(
        rows, rng.normal(size=(24, 14)), rng.normal(size=(24, 4)), np.arange(24) < 12,
        checkpoint="ab" * 32, fitted_on="A",
    )  # fmt: skip
    write_domain(domain, folder / "domain.safetensors")

    def place(path: Path) -> None:
        read_domain(path).place(rng.normal(size=(2, 14)), rng.normal(size=(2, 4)))

    return {
        "workbook": Door(read_predictions, ".xlsx", [packed.getvalue()], changes=changed_zip),
        "made.parquet": Door(read_record, ".parquet", [record]),
        "faces.parquet": Door(read_faces, ".parquet", [as_parquet(faces)]),
        "digests.parquet": Door(read_scores, ".parquet", [as_parquet(later)]),
        "domain": Door(place, ".safetensors", [(folder / "domain.safetensors").read_bytes()]),
    }


def _lmdb_door(folder: Path) -> dict[str, Door]:
    import lmdb

    from unmasked.datasets.archives import read_member_images, sequence_members
    from unmasked.datasets.images import UnreadableImage, decode_image

    kinds = []
    for number, extra in enumerate((0, 300)):  # values in their page, and on pages of their own
        place = folder / f"{number}_lmdb"
        with lmdb.open(str(place), map_size=1 << 24) as database, database.begin(write=True) as change:
            for n in range(3 + extra):
                picture = encoded_pictures()[0] if n < 3 else b"\0" * (n * 40)
                change.put(f"D\\{n % 5}\\frames\\{n:03d}.png".encode(), picture)
        content = (place / "data.mdb").read_bytes()
        pages = -(-len(content.rstrip(b"\0")) // 4096)
        kinds.append(content[: 4096 * pages])

    def read(path: Path) -> None:
        place = folder / "D_lmdb"
        place.mkdir(exist_ok=True)
        path.replace(place / "data.mdb")
        for name in sequence_members(place):
            for _, picture in read_member_images(folder, f"D_lmdb!{name}"):
                with suppress(UnreadableImage):
                    decode_image(picture)

    return {"lmdb": Door(read, ".mdb", kinds, changes=partial(changed_numbers, starts=(0, 4096)))}


@st.composite
def changed_numbers(draw: Any, content: bytes, starts: tuple[int, ...]) -> bytes:
    """Bytes at the beginnings of pages, where the numbers are, half of the time."""
    if draw(st.booleans()):
        return draw(changed_bytes(content))
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        page = 4096 * draw(st.integers(0, max(0, len(data) // 4096 - 1)))
        at = page + draw(st.integers(0, 64))
        value = draw(st.sampled_from([b"\0\0", b"\1\0", b"\2\0", b"\xff\xff", b"\0\x10", b"\x10\0\0\0\0\0"]))
        data[at : at + len(value)] = value
    return bytes(data)


def _weight_doors(folder: Path) -> dict[str, Door]:
    import torch
    from safetensors.torch import save

    from unmasked.app.verbs import import_checkpoint
    from unmasked.baselines import backbone, gend
    from unmasked.training import checkpoint

    torch.manual_seed(0)
    size = {"backbone": "test_vit", "size_px": 64}
    config = backbone.Config.model_validate({"model": size})
    network = backbone.build(config, ["real", "fake"])

    def start(path: Path) -> None:
        given = config.model_copy(update={"model": config.model.model_copy(update={"weights": str(path)})})
        backbone.initialise(network, given)

    state = {name: value.contiguous() for name, value in network.trunk.state_dict().items()}
    flat = io.BytesIO()
    torch.save(state, flat)
    other = gend.build(gend.Config.model_validate({"model": size}), ["real", "fake"]).state_dict()
    theirs = {f"feature_extractor.backbone.{name.removeprefix('trunk.')}": value.contiguous()
              for name, value in other.items() if name.startswith("trunk.")}  # fmt: skip
    theirs |= {"model.linear.weight": other["head.1.weight"], "model.linear.bias": other["head.1.bias"]}

    def import_gend(path: Path) -> None:
        given = {"detector": "gend", "file": path, "model": size, "out": folder / "gend"}
        import_checkpoint.run(import_checkpoint.Config.model_validate(given))

    own = folder / "own"
    card = {"method_classes": ["real", "fake"], "size_px": 64, "config": config.model_dump(mode="json")}
    from unmasked.app.detectors import find, load

    checkpoint.save(find("backbone"), network, own, card)

    def load_card(path: Path) -> None:
        path.replace(own / "detector.json")
        load(own)

    whole = json.loads((own / "detector.json").read_text())
    return {
        "backbone .safetensors": Door(start, ".safetensors", [save(state)]),
        "backbone .pth": Door(start, ".pth", [flat.getvalue()], changes=changed_weights),
        "gend import": Door(import_gend, ".safetensors", [save(theirs)]),
        "backbone card": Door(load_card, ".json", [whole], changes=changed_object),
    }


def changed_weights(content: bytes) -> st.SearchStrategy[bytes]:
    """As bytes, or a member of torch's archive."""
    return st.one_of(changed_bytes(content), changed_zip(content))


def _fitted_doors(folder: Path) -> dict[str, Door]:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
    from skops import io as skops

    from unmasked.app.detectors import find
    from unmasked.baselines.handcrafted import widths
    from unmasked.training.checkpoint import read_fitted

    rng, label = np.random.default_rng(0), np.arange(40) % 2
    columns = widths(["lbp"])["lbp"].stop
    x = rng.normal(size=(40, columns)) + label[:, None]
    forest = make_pipeline(RandomForestClassifier(2, random_state=0)).fit(x, label)
    machine = make_pipeline(StandardScaler(), SVC()).fit(x, label)
    calibration = LogisticRegression().fit(machine.decision_function(x)[:, None], label)
    wide = rng.normal(size=(40, 32)) + label[:, None]
    spectrum = make_pipeline(StandardScaler(), LogisticRegression()).fit(wide, label)
    known = {"blocks": ["lbp"], "model": forest}
    stored = [skops.dumps(known), skops.dumps({**known, "model": machine, "calibration": calibration})]

    def read(name: str, values: Any, path: Path) -> None:
        scorer = read_fitted(find(name), path, {"size_px": 64})
        with suppress(ValueError, AttributeError, TypeError):  # said by `predict` in a sentence
            scorer.probability(values[:2])  # type: ignore[attr-defined]

    return {
        "handcrafted.skops": Door(partial(read, "handcrafted", x), ".skops", stored, changes=changed_zip),
        "spectrum.skops": Door(
            partial(read, "spectrum", wide), ".skops", [skops.dumps(spectrum)], changes=changed_zip
        ),
    }


# The server, without a process that looks at files


def server_doors(folder: Path) -> dict[str, Door]:
    """What a client sends, by byte and by request, and what lies in the folder of the jobs."""
    import uvicorn

    from unmasked.serving.app import make_app
    from unmasked.serving.dispatch import Dispatch
    from unmasked.serving.guard import Guard, protocol
    from unmasked.serving.jobs import Entry, Jobs, now
    from unmasked.serving.metrics import Metrics
    from unmasked.serving.settings import Limits
    from unmasked.serving.tokens import Tokens

    limits, metrics = Limits(max_mb=0.1), Metrics()
    jobs = Jobs(folder / "served", limits)
    inner = make_app(jobs, Dispatch(jobs, None, limits, metrics), Tokens(), limits, metrics)  # type: ignore[arg-type]
    app = Guard(inner, metrics, is_open=True)
    made = protocol(8)
    config = uvicorn.Config(app, http=made, ws="none", lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    inside = folder / "served"

    def check_folder() -> None:
        found = {path.name for path in folder.iterdir()}
        assert found <= {"served", "jobs", "input.bin", "intact.bin", "input.json", "intact.json"}, found
        for job in list(jobs._entries.values()):
            assert {path.name for path in jobs.path(job).iterdir()} <= {"job.json", "upload"}
            jobs.remove(job)
        assert not list(inside.iterdir()), list(inside.iterdir())

    def upload(path: Path) -> None:
        given = json.loads(path.read_bytes())
        status, _ = asyncio.run(_ask(app, given))
        check_folder()
        if status >= 400:
            raise InputError(str(status))
        assert status in (202, 200, 204), status

    def request(path: Path) -> None:
        answers = asyncio.run(_talk(made, config, path.read_bytes()))
        check_folder()
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 "), answer[:80]
            assert not answer.startswith(b"HTTP/1.1 5"), answer[:300]
        if any(answer.startswith(b"HTTP/1.1 4") for answer in answers):
            raise InputError("refused")

    def load_jobs(path: Path) -> None:
        place = folder / "jobs" / ("ab" * 16)
        shutil.rmtree(place, ignore_errors=True)
        (place / "upload").mkdir(parents=True)
        (place / "upload/a.mp4").write_bytes(b"a")
        victim = folder / "jobs" / "upload"
        victim.mkdir(exist_ok=True)
        (victim / "keep").write_bytes(b"keep")
        path.replace(place / "job.json")
        found = Jobs(folder / "jobs", Limits(retain_h=0.001))
        found.sweep()
        assert (victim / "keep").exists()
        if not found._entries:
            raise InputError("no job, or too old")

    entry = Entry(id="ab" * 16, owner="", name="a.mp4", bytes=1, sha256="0", keep=False, created=now())
    record = {**entry.model_dump(mode="json"), "state": "failed", "finished": entry.created.isoformat()}
    line = b"POST /v1/jobs?name=a%20b.mp4&keep=true HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    body = encoded_pictures()[0][:200]
    raw = [
        line + b"Content-Type: image/png\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body,
        line + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"GET /v1/jobs/" + b"ab" * 16 + b"/crops/1_0.png HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
        b"DELETE /v1/jobs/" + b"ab" * 16 + b" HTTP/1.1\r\nHost: [::1]\r\nOrigin: http://[::1]\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ]
    asked = {
        "method": "POST", "path": "/v1/jobs", "query": "name=a.mp4&keep=false",
        "headers": [["host", "127.0.0.1"], ["content-type", "image/png"]], "body": [body.hex(), "00ff"],
    }  # fmt: skip
    asked_others = [
        {**asked, "method": "GET", "path": f"/v1/jobs/{'ab' * 16}/{part}", "body": []}
        for part in ("report", "case", "crops/1_0.png", "maps/1_0.png")
    ]
    return {
        "serve upload": Door(upload, ".json", [asked, *asked_others], changes=changed_request),
        "serve bytes": Door(request, ".bin", raw, changes=changed_lines),
        "serve job.json": Door(load_jobs, ".json", [record], changes=changed_object),
    }


@st.composite
def changed_request(draw: Any, content: Content) -> bytes:
    """A request with another method, path, query, headers or body, as JSON."""
    value = json.loads(json.dumps(content))
    text = st.one_of(NASTY_TEXT, st.text(max_size=12))
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["method", "path", "query", "header", "body", "many"]))
        if kind == "method":
            value["method"] = draw(st.sampled_from(["GET", "HEAD", "PUT", "OPTIONS", "TRACE", "DELETE", "X"]))
        elif kind == "path":
            value["path"] = f"{value['path']}/{draw(text)}" if draw(st.booleans()) else f"/{draw(text)}"
        elif kind == "query":
            name = draw(st.sampled_from(["name", "keep", "x", "name\r\nX: y"]))
            value["query"] += f"&{name}={draw(text)}"
        elif kind == "header":
            name = draw(
                st.sampled_from(["host", "origin", "authorization", "content-type", "content-length",
                                 "content-encoding", "expect", "range", "sec-fetch-site", "x\r\ny"])
            )  # fmt: skip
            value["headers"].append([name, str(draw(st.one_of(text, st.integers(-1, 10**20))))])
        elif kind == "many":
            value["headers"] += [["x", "y" * 500]] * draw(st.integers(1, 200))
        else:
            parts = draw(st.lists(st.binary(max_size=3000), max_size=4))
            value["body"] = [part.hex() for part in parts] * draw(st.sampled_from([1, 1, 20]))
    return json.dumps(value).encode("utf-8", "surrogatepass")


@st.composite
def changed_lines(draw: Any, content: bytes) -> bytes:
    """A request's bytes; now and then with a line twice, one of another, or one without end."""
    if draw(st.booleans()):
        return draw(changed_bytes(content))
    lines = content.split(b"\r\n")
    extra = [
        b"Host: evil.example", b"Content-Length: 5", b"Content-Length: -1", b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked", b"X: " + b"y" * 100_000, b"Expect: 100-continue",
        b"Host: 127.0.0.1\nX: y", b" folded", b"Connection: upgrade", b"Upgrade: h2c", b"\x00: a", b": a",
    ]  # fmt: skip
    for _ in range(draw(st.integers(1, 3))):
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from([*extra, *lines])))
    return b"\r\n".join(lines)


async def _ask(app: Any, given: dict[str, Any]) -> tuple[int, bytes]:
    """Status and body of what an application answers."""
    encode = partial(str.encode, encoding="utf-8", errors="surrogatepass")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": given["method"], "path": given["path"], "raw_path": encode(given["path"]),
        "root_path": "", "query_string": encode(given["query"]),
        "headers": [(encode(name).lower(), encode(value)) for name, value in given["headers"]],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    parts, sent = [bytes.fromhex(part) for part in given["body"]], []
    waiting = [{"type": "http.request", "body": part, "more_body": n + 1 < len(parts)}
               for n, part in enumerate(parts)] or [{"type": "http.request", "body": b""}]  # fmt: skip

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1, sent
    for name, value in starts[0]["headers"]:
        assert not {13, 10} & {*name, *value}, (name, value)  # what the server's library refuses to send
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return starts[0]["status"], body


class _Pipe(asyncio.Transport):
    """A connection that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 80)}.get(name, default)

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_protocol(self, protocol: Any) -> None: ...


async def _talk(made: Any, config: Any, content: bytes) -> list[bytes]:
    """The answers to the bytes of a connection, each from its first line."""
    from uvicorn.server import ServerState

    loop = asyncio.get_running_loop()
    faults: list[Any] = []
    loop.set_exception_handler(lambda loop, context: faults.append(context))
    connection = made(config=config, server_state=ServerState(), app_state={}, _loop=loop)
    pipe = _Pipe()
    connection.connection_made(pipe)
    for at in range(0, len(content), 4096):
        if not pipe.is_closed:
            connection.data_received(content[at : at + 4096])
            await asyncio.sleep(0)
    for _ in range(400):
        if pipe.is_closed or not connection._is_answering():
            break
        await asyncio.sleep(0.001)
    if not pipe.is_closed:
        connection.eof_received()
    connection.connection_lost(None)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        with suppress(asyncio.TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
    assert not faults, faults
    whole = b"".join(pipe.written)
    return [b"HTTP/1.1 " + part for part in whole.split(b"HTTP/1.1 ")[1:]]
