"""The server: jobs that are never lost, refusals in sentences, and the same findings as `inspect`."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, urlsplit

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from preprocessing_fakes import SquareDetector, square_frame, write_video
from starlette.requests import ClientDisconnect
from test_inspection import FITTED
from typer.testing import CliRunner
from ucf_fakes import save

from unmasked.app.cli import app
from unmasked.app.examiner import load_examiner
from unmasked.app.verbs.serve import Config
from unmasked.datasets.errors import InputError
from unmasked.inspection.examine import examine
from unmasked.inspection.file_facts import examiner_pool
from unmasked.inspection.finding import answer_below_verdict
from unmasked.inspection.records import Finding
from unmasked.inspection.verify import check_folder
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.pool import Budget, Pool
from unmasked.serving.app import _pack, make_app
from unmasked.serving.bench import Batcher, _Locked, words_of
from unmasked.serving.dispatch import Dispatch
from unmasked.serving.guard import Guard
from unmasked.serving.jobs import NAME_BYTES_MAX, Entry, Jobs, QueueFull, file_name, now
from unmasked.serving.metrics import Metrics
from unmasked.serving.server import _listen
from unmasked.serving.settings import Limits
from unmasked.serving.tokens import NOBODY, Tokens, check_host, read_tokens
from unmasked.ucf.model import UCF

FIRST, SECOND = "first-token-of-two-0123456789", "second-token-of-two-0123456789"
LARGE = partial(square_frame, size_px=192)  # a face of 64 pixels
IN_CHROMIUM = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="Debian's chromium and chromium-driver are not installed",
)
HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy")


class Server:
    """A server process, and requests to it."""

    def __init__(self, kind: str, folder: Path, *arguments: str, token: str = "", **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, Path(__file__).with_name("serving_fakes.py"), kind, *arguments, "port=0"]
        self.folder, self.token = folder / "served", token
        self.errors = open(folder / "errors.txt", "w+b")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*map(str, command), f"out={self.folder}"],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, **environment},
            text=True,
        )
        line = self.process.stdout.readline()
        if "answers" not in line:
            self.stop()
            raise AssertionError((folder / "errors.txt").read_text())
        self.address = line.split()[0]
        self.host = urlsplit(self.address).netloc

    def ask(self, method, path, body=None, *, token=None, **headers):
        """The status, headers (small letters) and body; problems are checked to be problems."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        given = self.token if token is None else token
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Authorization": f"Bearer {given}"} if given else {}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        content, found = answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        assert set(HEADERS) <= set(found)
        if answer.status >= 400 and not path.startswith("/healthz"):
            assert found["content-type"] == "application/problem+json"
            said = json.loads(content)
            assert said["status"] == answer.status
            assert said["detail"]
        return answer.status, found, content

    def get(self, path, **options):
        """What a GET answers, as JSON."""
        status, _, content = self.ask("GET", path, **options)
        assert status == 200, content
        return json.loads(content)

    def send(self, content: bytes, name: str, **options) -> dict:
        """The job of a file."""
        keep = options.pop("keep", False)
        path = f"/v1/jobs?name={quote(name)}{'&keep=true' if keep else ''}"
        status, headers, body = self.ask("POST", path, content, **options)
        assert status == 202, body
        job = json.loads(body)
        assert headers["location"] == f"/v1/jobs/{job['id']}"
        return job

    def wait(self, job: dict, **options) -> dict:
        """The job once it has ended."""
        for _ in range(1200):
            found = self.get(f"/v1/jobs/{job['id']}", **options)
            if found["state"] not in ("queued", "running"):
                return found
            time.sleep(0.05)
        raise AssertionError(f"job has not ended: {found}")

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.process.stdout.close()
        self.errors.close()
        return code


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A narrow UCF whose card stores a threshold."""
    root = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    card = {"method_classes": ["real", "Deepfakes"], "size_px": 64, **FITTED.to_dict()}
    save(UCF(width=0.125, method_classes=2).eval(), root / "weights", card)
    return root / "weights"


@pytest.fixture(scope="module")
def quick(weights, tmp_path_factory):
    """A server that answers at once and lets everybody in."""
    limits = ("max_mb=1", "queue=4", "idle_s=1", "stop_s=1")
    server = Server("quick", tmp_path_factory.mktemp("quick"), f"checkpoint={weights}", *limits)
    yield server
    if server.process.poll() is None:
        assert server.stop() == 143


@pytest.fixture(scope="module")
def closed(weights, tmp_path_factory):
    """The same, for two tokens."""
    folder = tmp_path_factory.mktemp("closed")
    (folder / "tokens").write_text(f"# two\n{FIRST}\n")
    given = (
        f"checkpoint={weights}",
        f"token_file={folder / 'tokens'}",
        "host=0.0.0.0",
        "queue=2",
        "stop_s=0.1",
    )
    server = Server("quick", folder, *given, token=FIRST, UNMASKED_TOKEN=SECOND)
    server.host = f"127.0.0.1:{urlsplit(server.address).port}"
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture(scope="module")
def whole(weights, tmp_path_factory):
    """A server with a small detector that takes bright squares for faces."""
    given = (f"checkpoint={weights}", "frames=6", "workers=1")
    server = Server("whole", tmp_path_factory.mktemp("whole"), *given)
    yield server
    server.stop()


# Jobs without a server


def entry_of(jobs: Jobs, owner: str = "a") -> Entry:
    with jobs.place(owner) as job:
        known = {"id": job, "owner": owner, "name": "a.mp4", "bytes": 1, "sha256": "0", "keep": False}
        entry = Entry(**known, created=now())
    jobs.file(entry).parent.mkdir(parents=True)
    jobs.file(entry).write_bytes(b"a")
    jobs.write(entry)
    jobs.add(entry)
    return entry


def test_owners_take_turns_and_each_has_its_own_places(tmp_path):
    jobs = Jobs(tmp_path, Limits(queue=2))
    first = [entry_of(jobs, "a"), entry_of(jobs, "a")]
    with pytest.raises(QueueFull), jobs.place("a"):
        pass
    other = entry_of(jobs, "b")
    assert [jobs.before(one) for one in (*first, other)] == [0, 1, 0]
    assert [jobs.take() for _ in range(4)] == [first[0], other, first[1], None]
    half = jobs.path(first[1]) / "case" / ".faces-of-a-process-that-ended"
    half.mkdir(parents=True)
    jobs.give_back(first[1])
    assert jobs.take() is first[1]
    assert not half.parent.exists()


def test_places_of_files_that_are_being_sent_count(tmp_path):
    jobs = Jobs(tmp_path, Limits(queue=1))
    with jobs.place("a"), pytest.raises(QueueFull), jobs.place("a"):
        pass
    with jobs.place("a"):
        pass


def test_a_job_belongs_to_its_owner_alone(tmp_path):
    jobs = Jobs(tmp_path, Limits())
    entry = entry_of(jobs, "a")
    assert jobs.find(entry.id, "a") is entry
    assert jobs.find(entry.id, "b") is None


def test_the_file_is_gone_when_a_job_ends_unless_it_is_kept(tmp_path):
    jobs = Jobs(tmp_path, Limits())
    entry, kept = entry_of(jobs), entry_of(jobs)
    kept.keep = True
    jobs.end(entry, "done")
    jobs.end(kept, "failed", "why")
    assert (entry.upload, jobs.file(entry).exists()) == ("deleted", False)
    assert (kept.upload, jobs.file(kept).exists()) == ("kept", True)
    jobs.remove(kept)
    assert not jobs.path(kept).exists()


def test_a_running_job_that_is_removed_leaves_nothing_at_once(tmp_path):
    jobs = Jobs(tmp_path, Limits())
    entry = entry_of(jobs)
    assert jobs.take() is entry
    jobs.remove(entry)
    assert not jobs.path(entry).exists()


def test_on_a_full_disk_a_job_ends_all_the_same(tmp_path, monkeypatch):
    jobs = Jobs(tmp_path, Limits())
    entry = entry_of(jobs)
    monkeypatch.setattr(jobs, "write", full)
    jobs.end(entry, "failed", "why")
    assert (entry.state, jobs.file(entry).exists()) == ("failed", False)


def full(*given):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/place")


def test_what_a_server_had_not_finished_is_stopped_and_the_rest_is_there_again(tmp_path):
    jobs = Jobs(tmp_path, Limits())
    done, waiting = entry_of(jobs), entry_of(jobs)
    jobs.end(done, "done", seconds=1.0)
    (tmp_path / ("0" * 32) / "upload").mkdir(parents=True)  # an upload that broke off
    others = tmp_path / ("1" * 32) / "a.jpg"  # somebody names folders by digests
    others.parent.mkdir()
    others.touch()
    again = Jobs(tmp_path, Limits())
    assert others.exists()
    assert again.find(done.id, "a").state == "done"
    found = again.find(waiting.id, "a")
    assert (found.state, found.upload) == ("stopped", "deleted")
    assert not jobs.file(waiting).exists()
    assert not (tmp_path / ("0" * 32)).exists()


def test_old_jobs_are_removed_and_so_are_too_many(tmp_path):
    jobs = Jobs(tmp_path, Limits(retain_jobs=2))
    entries = [entry_of(jobs) for _ in range(4)]
    for entry in entries[:3]:
        jobs.take()
        jobs.end(entry, "done")
    jobs.sweep()
    assert [jobs.find(entry.id, "a") for entry in entries] == [None, *entries[1:]]
    for _ in range(2):  # another's jobs push out none of these
        other = entry_of(jobs, "b")
        jobs.end(other, "stopped")
    jobs.sweep()
    assert jobs.find(entries[1].id, "a") is entries[1]
    Jobs(tmp_path, Limits(retain_h=1e-9)).sweep()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_whatever_a_file_is_called_it_stays_in_its_folder(name):
    found = file_name(name)
    assert found == Path(found).name
    assert found not in ("", ".", "..")
    assert not found.startswith(".")
    assert "\0" not in found
    assert len(found.encode()) <= NAME_BYTES_MAX
    assert file_name(found) == found


# Tokens


def test_a_token_is_let_in_whole_and_alone():
    tokens = Tokens([FIRST, SECOND])
    owners = {tokens.owner(f"Bearer {one}") for one in (FIRST, SECOND)}
    assert None not in owners
    assert len(owners) == 2
    halves = (f"Bearer {FIRST[:-1]}", f"Bearer {FIRST}x", "Bearer ", "Bearer é")
    for wrong in ("", FIRST, f"Basic {FIRST}", *halves):
        assert tokens.owner(wrong) is None
    assert Tokens().owner("") == NOBODY


def test_other_machines_need_a_token(tmp_path):
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(InputError, match="there is no token"):
            check_host(host, [])
        check_host(host, [FIRST])
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        check_host(host, [])
    with pytest.raises(InputError, match="at least 16"):
        read_tokens(None, "short")
    (tmp_path / "empty").write_text("# none\n")
    with pytest.raises(InputError, match="holds no token"):
        read_tokens(tmp_path / "empty", "")
    with pytest.raises(InputError, match="cannot be read"):
        read_tokens(tmp_path / "absent", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("host=0.0.0.0",), "there is no token"),
        (("host=203.0.113.77", "token_file=tokens"), "cannot be listened on"),
        (("token_file=absent",), "cannot be read"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(weights, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens").write_text(FIRST)
    done = CliRunner().invoke(app, ["serve", f"checkpoint={weights}", "port=0", *arguments])
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_two_servers_do_not_take_one_port_while_they_load():
    """Both took it, and the second ended in a traceback once its detector was loaded, or never."""
    with closing(_listen("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError, match=f"port={port} cannot be listened on"):
            _listen("127.0.0.1", port)


# Batches


def judged(names, judge, **options):
    """What became of jobs that were found one after the other, and the sizes of the passes."""
    passes, found = [], {}
    batcher = Batcher(judge, lambda jobs, crops, seconds: passes.append((jobs, crops)), **options)

    def ask(name):
        try:
            found[name] = batcher(SimpleNamespace(name=name, rows=[{}] * 2))
        except ValueError as error:
            found[name] = str(error)

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
        time.sleep(0.02)  # so that their order is known
    for thread in threads:
        thread.join(10)
    return found, passes


def test_jobs_that_wait_are_judged_together_and_come_back_to_who_sent_them():
    def judge(found):
        time.sleep(0.2)  # the first alone waits for nobody; meanwhile the others come
        yield from (f"case of {one.name}" for one in found)

    found, passes = judged("abcdef", judge, most=3)
    assert found == {name: f"case of {name}" for name in "abcdef"}
    assert passes == [(1, 2), (3, 6), (2, 4)]


def test_a_job_that_cannot_be_judged_costs_no_other_its_answer():
    def judge(found):
        time.sleep(0.1)
        for one in found:
            if one.name == "bad":
                raise ValueError("it is bad")
            yield one.name

    found, passes = judged(["first", "one", "bad", "last"], judge)
    assert found == {"first": "first", "one": "one", "bad": "it is bad", "last": "last"}
    assert passes == [(1, 2), (3, 6)]


def test_one_thread_at_a_time_computes_with_the_model():
    """With stored calibration material each job's thread called the model by itself, in the midst of maps."""
    at_work, most = [], []

    class Model:
        def features(self, images):
            at_work.append(1)
            most.append(len(at_work))
            time.sleep(0.02)
            at_work.pop()
            return images

        __call__ = features

    lock = threading.Lock()
    model, draw = _Locked(Model(), lock), _Locked(Model(), lock)
    threads = [
        threading.Thread(target=function, args=(1,)) for function in (model, model.features, draw, draw)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == [1, 1, 1, 1]


def test_work_at_a_removed_job_is_ended_from_another_thread():
    pool = Pool(partial(partial, time.sleep), workers=1, budget=Budget())
    is_over = threading.Event()

    def interrupt():  # until it is met at its task
        while not is_over.wait(0.1):
            pool.interrupt()

    threading.Thread(target=interrupt).start()
    try:
        (outcome,) = pool.run([600])
        assert outcome.status == "crashed"
    finally:
        is_over.set()
        pool.stop()


def test_metrics_are_in_the_format_of_prometheus():
    metrics = Metrics()
    metrics.add("jobs_total", state="done")
    for seconds in (0.4, 3.0, 1000.0):
        metrics.observe(seconds)
    text = metrics.text({"queued": 2}, is_ready=True)
    line = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"\})? [0-9.e+-]+)\n')
    assert line.sub("", text) == ""
    assert 'unmasked_job_seconds_bucket{le="5"} 2\n' in text
    assert 'unmasked_job_seconds_bucket{le="+Inf"} 3\n' in text
    assert 'unmasked_jobs{state="queued"} 2\n' in text


# Requests in this process


def answer_of(folder, method, path, body=b"", **headers):
    """What the application answers without a server."""
    metrics = Metrics()
    jobs = Jobs(folder, Limits())
    made = make_app(jobs, Dispatch(jobs, None, Limits(), metrics), Tokens(), Limits(), metrics)
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    given = [(b"host", b"127.0.0.1"), *((name.encode(), value.encode()) for name, value in headers.items())]
    url = urlsplit(path)
    scope = {"type": "http", "method": method, "path": url.path, "query_string": url.query.encode()}
    asyncio.run(Guard(made, metrics, is_open=True)({**scope, "headers": given}, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert set(HEADERS) <= set(found)
    return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize(("fault", "status"), [(full, 507), (lambda *_: 1 / 0, 500)])
def test_a_full_disk_and_a_fault_are_problems_that_name_no_place(tmp_path, monkeypatch, fault, status):
    """They were text without a word, and a disk that filled up meanwhile was a fault."""
    monkeypatch.setattr("unmasked.serving.app.receive", fault)
    found, headers, body = answer_of(tmp_path, "POST", "/v1/jobs", b"a")
    assert (found, headers["content-type"]) == (status, "application/problem+json")
    assert json.loads(body)["status"] == status
    assert b"place" not in body
    assert b"Zero" not in body
    assert not [*tmp_path.iterdir()]


def test_a_client_that_goes_is_no_fault(tmp_path, monkeypatch):
    def gone(*given):
        raise ClientDisconnect

    monkeypatch.setattr("unmasked.serving.app.receive", gone)
    assert answer_of(tmp_path, "POST", "/v1/jobs", b"a")[0] == 400
    assert not [*tmp_path.iterdir()]


def test_texts_of_errors_name_no_place_of_the_server():
    with pytest.raises(OSError, match="place") as error:
        full()
    assert words_of(error.value) == "the server could not read or write (No space left on device)"
    assert words_of(InputError("/a/place is a link")) == "a fault of the server (InputError)"


def test_a_packed_case_has_no_faces_of_a_process_that_ended(tmp_path):
    for name in ("case/case.json", "case/.faces-1/0.png", "case/maps/0.png", "upload/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with _pack(tmp_path) as file, zipfile.ZipFile(file) as packed:
        assert packed.namelist() == ["case/case.json", "case/maps/0.png"]


# Requests


def test_every_refusal_is_a_problem_with_its_own_sentence(quick):
    job = quick.send(b"a", "fail.mp4")
    assert quick.wait(job)["reason"] == "ValueError: it failed"
    cases = {
        ("GET", "/nowhere"): 404,
        ("GET", f"/v1/jobs/{'0' * 32}"): 404,
        ("GET", "/v1/jobs/short"): 404,  # 422 spoke of a pattern
        ("PUT", "/v1/jobs"): 405,
        ("POST", "/v1/detector"): 405,
        ("GET", f"/v1/jobs/{job['id']}/report"): 409,
        ("GET", f"/v1/jobs/{job['id']}/case"): 409,
        ("GET", f"/v1/jobs/{job['id']}/crops/00001_0.png"): 409,
        ("GET", f"/v1/jobs/{job['id']}/crops/..%2f..%2fjob.json"): 404,
        ("DELETE", f"/v1/jobs/{'0' * 32}"): 404,
        ("TRACE", "/"): 405,
    }
    assert {case: quick.ask(*case)[0] for case in cases} == cases
    _, headers, _ = quick.ask("PUT", "/v1/jobs")
    assert headers["allow"] == "POST"


def test_uploads_are_refused_by_size_type_and_content(quick):
    def post(body, path="/v1/jobs", **headers):
        return quick.ask("POST", path, body, **headers)[0]

    assert post(b"") == 422
    assert post(b"a", "/v1/jobs?keep=perhaps") == 422
    assert post(b"a", Content_Type="multipart/form-data; boundary=a") == 415
    assert post(b"a", Content_Type="application/x-www-form-urlencoded") == 415
    assert post(b"a", Content_Encoding="gzip") == 415
    assert post(b"%PDF-1.7 ".ljust(600, b"a")) == 415
    assert post(b"PK\x03\x04 a") == 415
    assert post(iter([b"a" * 600_000, b"a" * 600_000])) == 413  # in chunks, without its size
    assert not [path for path in quick.folder.iterdir() if path.is_dir() and not (path / "job.json").exists()]


def test_a_file_that_says_it_is_too_large_is_refused_before_it_is_sent(quick):
    with socket.create_connection(quick.host.split(":")) as client:
        sizes = "Content-Length: 2000000\r\nExpect: 100-continue"
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {quick.host}\r\n{sizes}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_full_queue_answers_429_and_when_to_come_again(quick):
    first = [quick.send(b"a", "wait") for _ in range(2)]  # at work
    waiting = [quick.send(b"a", f"{n}") for n in range(4)]
    status, headers, _ = quick.ask("POST", "/v1/jobs?name=a", b"a")
    assert status == 429
    assert 1 <= int(headers["retry-after"]) <= 60
    assert [quick.get(f"/v1/jobs/{job['id']}")["before"] for job in waiting] == [0, 1, 2, 3]
    assert quick.ask("DELETE", f"/v1/jobs/{waiting[0]['id']}")[0] == 204
    assert quick.ask("GET", f"/v1/jobs/{waiting[0]['id']}")[0] == 404
    quick.send(b"a", "another")
    for job in first:
        assert quick.ask("DELETE", f"/v1/jobs/{job['id']}")[0] == 204
        assert not (quick.folder / job["id"]).exists()
    assert {quick.wait(job)["state"] for job in waiting[1:]} == {"done"}


def bench_of(server: Server) -> int:
    """The number of the process that looks at files."""
    children = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    found = [int(pid) for path in children for pid in path.read_text().split()]
    (bench,) = [pid for pid in found if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return bench


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc")
def test_who_ends_the_process_fails_with_a_reason_and_the_others_go_on(quick):
    innocent = [quick.send(b"a", "a"), quick.send(b"a", "b")]
    wicked = quick.send(b"a", "die.mp4")
    innocent.append(quick.send(b"a", "c"))
    found = quick.wait(wicked)
    assert found["state"] == "failed"
    assert "ended twice while it looked at this one" in found["reason"]
    assert [quick.wait(job)["state"] for job in innocent] == ["done"] * 3
    # Who does not end it, and is at work when it is ended, is tried again.
    waiting = quick.send(b"a", "wait")
    os.kill(bench_of(quick), signal.SIGKILL)
    later = quick.send(b"a", "another")
    assert quick.get(f"/v1/jobs/{waiting['id']}")["state"] in ("queued", "running")
    assert quick.ask("DELETE", f"/v1/jobs/{waiting['id']}")[0] == 204
    assert quick.wait(later)["state"] == "done"


def test_pages_of_other_sites_and_other_names_of_this_machine_are_refused(quick):
    assert quick.ask("POST", "/v1/jobs", b"a", Origin="https://evil.example")[0] == 403
    assert quick.ask("POST", "/v1/jobs", b"a", Sec_Fetch_Site="cross-site")[0] == 403
    assert quick.ask("GET", "/v1/detector", Host="evil.example")[0] == 421
    assert quick.ask("GET", "/v1/detector", Host="[::bad")[0] == 421
    assert quick.ask("GET", "/", Host="evil.example")[0] == 421
    for origin in ("null", "http://127.0.0.1:1", f"http://{quick.host}.evil.example", "http://localhost"):
        assert quick.ask("POST", "/v1/jobs", b"a", Origin=origin)[0] == 403
        assert quick.ask("DELETE", f"/v1/jobs/{'0' * 32}", Origin=origin)[0] == 403
    asked = {"Origin": "https://evil.example", "Access_Control_Request_Method": "POST"}
    status, headers, _ = quick.ask("OPTIONS", "/v1/jobs", **asked)
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]
    assert quick.ask("GET", "/", Sec_Fetch_Site="cross-site")[0] == 200
    assert quick.ask("GET", "/v1/detector", Origin=quick.address, Sec_Fetch_Site="same-origin")[0] == 200


def test_a_token_sees_its_own_jobs_and_nobody_else_does(closed):
    mine = closed.wait(closed.send(b"a", "a"))
    for path in (f"/v1/jobs/{mine['id']}", f"/v1/jobs/{mine['id']}/report", f"/v1/jobs/{mine['id']}/case"):
        assert closed.ask("GET", path, token=SECOND)[0] == 404
    assert closed.ask("DELETE", f"/v1/jobs/{mine['id']}", token=SECOND)[0] == 404
    for path in (f"/v1/jobs/{mine['id']}", "/v1/detector", "/metrics"):
        for token in ("", "wrong-token-0123456789"):
            status, headers, _ = closed.ask("GET", path, token=token or "-")
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert closed.ask("POST", "/v1/jobs", b"a", token="-")[0] == 401
    assert closed.wait(closed.send(b"a", "b", token=SECOND), token=SECOND)["state"] == "done"
    assert closed.ask("GET", "/healthz", token="-")[0] == closed.ask("GET", "/", token="-")[0] == 200


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc")
def test_the_process_that_looks_at_files_does_not_have_the_tokens(closed):
    given = Path(f"/proc/{bench_of(closed)}/environ").read_bytes()
    assert b"PATH=" in given
    assert SECOND.encode() not in given


def test_a_second_server_takes_no_others_jobs(quick, weights):
    waiting = quick.send(b"a", "wait")
    done = CliRunner().invoke(app, ["serve", f"checkpoint={weights}", "port=0", f"out={quick.folder}"])
    assert done.exit_code == 2
    assert "another `unmasked serve`" in done.stderr
    assert quick.get(f"/v1/jobs/{waiting['id']}")["upload"] == "there"
    assert quick.ask("DELETE", f"/v1/jobs/{waiting['id']}")[0] == 204


def test_other_users_of_the_machine_see_no_faces(quick):
    job = quick.wait(quick.send(b"a", "a"))
    assert (quick.folder / job["id"]).stat().st_mode & 0o077 == 0


# The image


def test_the_image_is_made_as_its_steps_say_and_its_health_check_asks_what_answers(quick):
    """No image can be built where the tests run: what its parts say of each other is compared."""
    root = Path(__file__).parents[1]
    lines = [line.partition(" ") for line in (root / "Dockerfile").read_text().splitlines()]
    steps = {word: rest for word, _, rest in lines}
    made, copied = (rest for word, _, rest in lines if word == "RUN")
    user = steps["USER"]
    assert f" {user} " in made
    assert f"chown {user} " in made
    script = "docker/install.sh"
    assert os.access(root / script, os.X_OK)
    (environment,) = re.findall(rf"{script} (\S+)", copied)
    assert steps["ENV"].startswith(f"PATH={environment}/bin:$PATH ")
    installed = (root / script).read_text()
    assert '"$1/bin/pip" install --quiet --no-cache-dir ".[serve]"' in installed
    assert subprocess.run(["sh", "-n", root / script], check=True).returncode == 0
    # Its command: keys that there are, and folders that are the user's.
    entry, more = json.loads(steps["ENTRYPOINT"]), json.loads(steps["CMD"])
    config = Config(**dict(one.split("=") for one in [*entry[2:], *more]))
    assert entry[:2] == ["unmasked", "serve"]
    assert json.loads(steps["VOLUME"]) == [str(config.out)]
    assert {str(config.out), str(Path(environment).parent)} <= set(made.partition("chown")[2].split())
    assert steps["EXPOSE"] == str(config.port)
    # Its health check, as it is, but for the port.
    kind, said = steps["HEALTHCHECK"].split(" CMD ")
    assert kind.startswith("--start-period=")
    python, *rest = json.loads(said)
    assert python == "python"
    for port, code in ((urlsplit(quick.address).port, 0), (1, 1)):
        given = [one.replace(f":{config.port}/", f":{port}/") for one in rest]
        assert given != rest
        assert subprocess.run([sys.executable, *given], stderr=subprocess.DEVNULL).returncode == code


# What root becomes: a user who may read all, for a Python below /root, and write what is his alone.
ORDINARY = 10001
READS = "-all,+dac_read_search"
AS_ORDINARY = ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
AS_ORDINARY += [f"--{kind}={READS}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is not installed")
def test_the_steps_of_the_image_install_a_server_as_an_ordinary_user():
    """What it needs is taken from where the tests run, for no index is asked: all else is done as it says."""
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        source, environment = Path(folder) / "src", Path(folder) / "env"
        left_out = shutil.ignore_patterns(".*", "build", "tests", "docs", "*.egg-info", "__pycache__")
        shutil.copytree(root, source, ignore=left_out)
        is_root = os.geteuid() == 0
        if is_root and subprocess.run([*AS_ORDINARY, "true"], capture_output=True, check=False).returncode:
            pytest.skip("this system does not let root become a user who may read what root can")
        if is_root:
            for path in (Path(folder), *Path(folder).rglob("*")):
                os.chown(path, ORDINARY, ORDINARY)
        own = {"HOME": folder, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}

        def run(*command, **known):
            given = [*(AS_ORDINARY if is_root else []), *map(str, command)]
            return subprocess.run(
                given, capture_output=True, text=True, cwd=folder, env=own | known, check=False
            )

        # Nothing is fetched, and no second environment is made to build in.
        known = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_COMPILE": "1"}
        known["PYTHONPATH"] = os.path.dirname(torch.__path__[0])
        done = run(source / "docker" / "install.sh", environment, **known)
        assert done.returncode == 0, done.stdout + done.stderr
        assert environment.stat().st_uid == (ORDINARY if is_root else os.geteuid())
        # What was installed is ours, whole, and found without the checkout.
        said = run(environment / "bin" / "python", "-I", "-c", "import unmasked; print(*unmasked.__path__)")
        (place,) = environment.resolve().glob("lib/python*/site-packages/unmasked")
        assert said.stdout.split() == [str(place)], said.stderr
        files = [path for kind in ("*.py", "page/*.*") for path in (root / "serving").glob(kind)]
        assert not [path for path in files if not (place / path.relative_to(root)).is_file()]


def test_slow_clients_are_dropped(quick):
    """A request whose headers never end is met by a clock of its own, uvicorn has none."""
    with socket.create_connection(quick.host.split(":")) as client:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {quick.host}\r\nContent-Length: 100\r\n\r\na"
        client.sendall(head.encode())
        client.settimeout(20)
        began = time.monotonic()
        assert client.recv(4096).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 8
    assert not [path for path in quick.folder.iterdir() if path.is_dir() and not (path / "job.json").exists()]


def test_what_is_no_http_is_refused_as_a_problem(quick):
    with socket.create_connection(quick.host.split(":")) as client:
        client.sendall(b"hello\r\n\r\n")
        answer = b"".join(iter(partial(client.recv, 4096), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert all(name.encode() in answer.lower() for name in HEADERS)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400


def test_a_request_whose_headers_never_end_is_met_by_a_clock_which_uvicorn_has_not(quick):
    with socket.create_connection(quick.host.split(":")) as client:
        client.settimeout(20)
        began = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\nHo")
        with suppress(ConnectionError):
            assert client.recv(1) == b""
        assert time.monotonic() - began < 8


# The whole


def picture() -> bytes:
    return cv2.imencode(".png", LARGE(3))[1].tobytes()


def test_a_finding_is_that_of_inspect(whole, weights, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 12, draw=LARGE)
    jobs = [whole.send(clip.read_bytes(), "clip.mp4"), whole.send(picture(), "picture.png", keep=True)]
    found = [whole.wait(job) for job in jobs]
    (tmp_path / "picture.png").write_bytes(picture())
    config = PreprocessConfig(faces="all", frames_per_video=6, workers=1)
    pool = examiner_pool(config, SquareDetector)
    files = {tmp_path / name: tmp_path / f"case of {name}" for name in ("clip.mp4", "picture.png")}
    expected = list(examine(files, load_examiner(weights), config, pool=pool))
    pool.stop()
    for job, case in zip(found, expected, strict=True):
        assert job["state"] == "done", job
        assert job["sha256"] == case.source.sha256
        result = job["result"]
        assert result["finding"]["verdict"] == case.finding.verdict
        assert result["finding"]["score"] == pytest.approx(case.finding.score, abs=1e-4)
        assert [look["score"] for look in result["looks"]] == pytest.approx(
            [look.score for look in case.looks], abs=1e-4
        )
        assert result["threshold"] == 0.5
        assert result["band"] == {"low": 0.4, "high": 0.6}
    assert (found[0]["upload"], found[0]["deleted"]) == ("deleted", True)
    assert (found[1]["upload"], found[1]["deleted"]) == ("kept", False)
    assert [path.name for path in whole.folder.glob("*/upload/*")] == ["picture.png"]

    base = f"/v1/jobs/{found[0]['id']}"
    _, headers, page = whole.ask("GET", f"{base}/report")
    assert "sandbox" in headers["content-security-policy"]
    assert b"clip.mp4" in page
    _, headers, packed = whole.ask("GET", f"{base}/case")
    assert headers["content-type"] == "application/zip"
    zipfile.ZipFile(io.BytesIO(packed)).extractall(tmp_path / "packed")
    case, differs = check_folder(tmp_path / "packed" / "case")
    assert (differs, case.source.sha256) == ([], hashlib.sha256(clip.read_bytes()).hexdigest())
    # Nothing of where things lie on the server.
    assert case.weights.path == next(weights.glob("*.safetensors")).name
    assert weights.parent.name not in (tmp_path / "packed" / "case" / "case.json").read_text()
    look = found[0]["result"]["looks"][0]["crop"]
    assert whole.ask("GET", f"{base}/{look}")[2].startswith(b"\x89PNG")
    for one in found[0]["result"]["maps"]["shown"]:
        assert whole.ask("GET", f"{base}/{one['file']}")[2].startswith(b"\x89PNG")
    assert whole.ask("DELETE", base)[0] == 204
    assert not (whole.folder / found[0]["id"]).exists()
    batches = whole.ask("GET", "/metrics")[2].decode()
    assert "unmasked_batch_images_total" in batches


def test_malformed_uploads_end_with_a_reason_and_never_a_number(whole, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 6, draw=LARGE).read_bytes()
    rng = np.random.default_rng(0)
    bad = [b"a", bytes(1000), clip[:100], picture()[:60]]
    bad += [b"\x1aE\xdf\xa3" + rng.bytes(500), b"GIF89a" + bytes(20)]
    for job in [whole.send(content, f"{n}.mp4") for n, content in enumerate(bad)]:
        found = whole.wait(job)
        assert found["state"] == "done", found
        finding = found["result"]["finding"]
        assert (finding["verdict"], finding["score"]) == ("not judged", None)
        assert finding["reasons"]
        assert str(whole.folder) not in json.dumps(found)
        assert ".py" not in json.dumps(found)


# The page, in a real Chromium: requests, keys, names for who cannot see, sorting


@pytest.fixture(scope="module")
def browser():
    """Chromium, 400 pixels wide, that notes every request."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield driver
    driver.quit()


def until(condition, seconds=90):
    for _ in range(seconds * 5):
        if condition():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen")


@pytest.mark.slow
@IN_CHROMIUM
def test_files_are_sent_and_answered_and_nothing_is_asked_of_others(whole: Server, browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    clip = write_video(tmp_path / "clip.mp4", 12, draw=LARGE)
    (tmp_path / "picture.png").write_bytes(picture())
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7")
    find = partial(browser.find_elements, By.CSS_SELECTOR)
    browser.get(whole.address)
    until(lambda: find("#limits")[0].text)
    names = [clip, tmp_path / "picture.png", tmp_path / "paper.pdf"]
    find("#files")[0].send_keys("\n".join(map(str, names)))
    until(lambda: len(find("#rows .open")) == 2)
    texts = [row.text for row in find("#rows tr")]
    assert "is a PDF" in next(text for text in texts if text.startswith("paper.pdf"))
    assert all(word in " ".join(texts) for word in ("clip.mp4", "picture.png"))
    # By keys alone: sort by name, turn it round, open the first.
    heading = find("th[data-key=name] button")[0]
    for order, sign in (("ascending", 1), ("descending", -1)):
        heading.send_keys(Keys.ENTER)
        assert find("th[data-key=name]")[0].get_attribute("aria-sort") == order
        shown = [row.text.split()[0] for row in find("#rows tr")]
        assert shown == sorted(shown)[::sign]
    find("#rows .open")[-1].send_keys(Keys.ENTER)
    until(lambda: find("#detail .strip svg"))
    assert browser.switch_to.active_element.get_attribute("id") == "detail-title"
    detail = find("#detail")[0].text
    job = whole.get(
        f"/v1/jobs/{json.loads(browser.execute_script('return sessionStorage.getItem(`unmasked-jobs`)'))[0]}"
    )
    finding = Finding.model_validate(job["result"]["finding"])
    assert f"\n{answer_below_verdict(finding)}\n" in detail  # the verdict's word stands above it already
    for sentence in finding.sentences[1:]:
        assert sentence in detail
    assert "not compared with the material that the detector learned from" in detail
    assert "The uploaded file has been deleted." in detail
    # Asked in the page itself: the strip is drawn anew when its width changes.
    label = "return document.querySelector(`.strip svg`).getAttribute(`aria-label`)"
    assert "Score of person 0 over time" in browser.execute_script(label)
    until(lambda: all(image.get_property("naturalWidth") for image in find("#detail img")))
    # Every control has a name; nothing is wider than a phone.
    for control in find("button, input:not([hidden]), a, [role=img]"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    asked = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if 'Network.requestWillBeSent"' in entry["message"]
    ]
    assert asked
    assert all(url.startswith((whole.address, "blob:", "data:")) for url in asked), asked
    faults = [entry for entry in browser.get_log("browser") if "415" not in entry["message"]]
    assert faults == []


@pytest.mark.slow
@IN_CHROMIUM
def test_a_token_is_asked_for_once_and_used(closed, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    find = partial(browser.find_element, By.CSS_SELECTOR)
    browser.get(f"http://{closed.host}")
    until(lambda: find("#token-form").is_displayed())
    find("#token").send_keys("a-wrong-token-0123456789" + Keys.ENTER)
    until(lambda: "not known" in find("#status").text)
    find("#token").clear()
    find("#token").send_keys(FIRST + Keys.ENTER)
    until(lambda: not find("#token-form").is_displayed())
    assert "MB a file" in find("#limits").text


# The end: what follows stops a server


def test_a_stopped_server_ends_with_143_and_gives_its_jobs_back_as_stopped(closed, weights):
    done = closed.wait(closed.send(b"a", "a"))
    left = [closed.send(b"a", "wait") for _ in range(2)] + [closed.send(b"a", "b")]
    assert closed.stop() == 143
    again = Server("quick", closed.folder.parent, f"checkpoint={weights}", token=FIRST, UNMASKED_TOKEN=FIRST)
    assert again.get(f"/v1/jobs/{done['id']}")["state"] == "done"
    for job in left:
        found = again.get(f"/v1/jobs/{job['id']}")
        assert (found["state"], found["deleted"]) == ("stopped", True)
        assert "send it again" in found["reason"]
    assert not [*again.folder.glob("*/upload/*")]
    assert again.stop() == 143
