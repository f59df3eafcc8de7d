"""Weights from a hub, an address, a folder: what arrives is what was pinned, or nothing is written."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.app.detectors import load
from unmasked.app.weights import Pinned
from unmasked.datasets.files import sha256_of_file
from unmasked.evaluation.shipped import CONFIGS, load_shipped, shipped_names
from unmasked.ucf.model import UCF

RUNNER = CliRunner()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A narrow UCF as a flat file, and its SHA-256."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "ucf.pth"
    torch.save(UCF(width=0.125, method_classes=3).state_dict(), path)
    return path, sha256_of_file(path)


class Server(BaseHTTPRequestHandler):
    """One file under whatever path ends with its name, as a hub serves it."""

    content = b""
    told = 0  # bytes that the header speaks of; 0 is the truth
    sent = 0

    def do_HEAD(self):
        self.answer(is_head=True)

    def do_GET(self):
        self.answer(is_head=False)

    def answer(self, *, is_head: bool):
        if not self.path.endswith("ucf.pth"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(type(self).told or len(self.content)))
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not is_head:
            type(self).sent += 1
            self.wfile.write(self.content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(weights, monkeypatch):
    """The address of a server on this machine, and its class, whose content may be changed."""
    kind = type("OneFile", (Server,), {"content": weights[0].read_bytes()})
    running = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{running.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield address, kind
    running.shutdown()
    running.server_close()
    thread.join()


def run(folder: Path, *arguments: str):
    given = [*arguments, "classes=[real,a,b]", f"out={folder / 'out'}"]
    found = RUNNER.invoke(app, ["import-checkpoint", *given])
    return found.exit_code, " ".join(found.output.split())


def refused(folder: Path, *arguments: str) -> str:
    code, output = run(folder, *arguments)
    assert code == 2, output
    assert list(folder.iterdir()) == []  # nothing half-written, no folder of a download
    return output


HUB = ("source=hf://someone/ucf", "weights_file=ucf.pth", f"revision={COMMIT}")


def test_a_file_of_a_hub_is_fetched_checked_and_imported(server, weights, tmp_path):
    code, output = run(tmp_path, *HUB, f"sha256={weights[1]}", "accept_licence=true", "licence=MIT")
    assert code == 0, output
    assert output.index("licence of hf://someone/ucf: MIT") < output.index("weights fit")
    model, card = load(tmp_path / "out")
    assert card["imported"]["sha256"] == weights[1]
    assert card["source"] == "hf://someone/ucf"
    wanted = torch.load(weights[0], weights_only=True)
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_of_an_address_a_folder_or_a_path_is_the_same(server, weights, tmp_path):
    code, output = run(
        tmp_path, f"source={server[0]}/a/ucf.pth", f"sha256={weights[1]}", "accept_licence=true"
    )
    assert code == 0, output
    first = load(tmp_path / "out")[0].state_dict()
    for number, source in enumerate((weights[0], weights[0].parent)):
        place = tmp_path / str(number)
        place.mkdir()
        code, output = run(place, f"source={source}", f"sha256={weights[1]}")
        assert code == 0, output
        assert "licence of ucf.pth: not stated" in output
        again = load(place / "out")[0].state_dict()
        assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_nothing_is_fetched_before_the_licence_was_accepted(server, weights, tmp_path):
    output = refused(tmp_path, *HUB, f"sha256={weights[1]}", "licence=CC BY-NC 4.0")
    assert "licence: CC BY-NC 4.0; read its terms" in output
    assert "accept_licence=true" in output
    assert server[1].sent == 0


@pytest.mark.parametrize("place", ["hub", "web"])
def test_another_file_than_was_pinned_is_refused(server, weights, tmp_path, place):
    server[1].content = bytes(len(server[1].content))
    source = HUB if place == "hub" else (f"source={server[0]}/ucf.pth",)
    output = refused(tmp_path, *source, f"sha256={weights[1]}", "accept_licence=true")
    assert f"and not {weights[1][:12]}…: it is not the file that was asked for" in output


@pytest.mark.parametrize("is_told", [False, True])
def test_a_file_that_is_cut_off_is_refused(server, weights, tmp_path, is_told):
    whole = len(server[1].content)
    server[1].content = server[1].content[: whole // 2]
    server[1].told = whole if is_told else 0
    output = refused(tmp_path, f"source={server[0]}/ucf.pth", f"sha256={weights[1]}", "accept_licence=true")
    wanted = f"of {whole} bytes: it is cut off" if is_told else "is not the file that was asked for"
    assert wanted in output or "IncompleteRead" in output


def test_a_hub_that_ends_early_is_refused(server, weights, tmp_path):
    server[1].content = server[1].content[:1000]
    assert "not the file that was asked for" in refused(
        tmp_path, *HUB, f"sha256={weights[1]}", "accept_licence=true"
    )


def test_no_server_no_file_no_repository(server, weights, tmp_path, monkeypatch):
    given = (f"sha256={weights[1]}", "accept_licence=true")
    assert "404" in refused(tmp_path, f"source={server[0]}/other.pth", *given)
    missing = refused(tmp_path, HUB[0], "weights_file=other.pth", *given)
    assert "could not be fetched" in missing
    closed = "http://127.0.0.1:9"
    assert "could not be fetched" in refused(tmp_path, f"source={closed}/ucf.pth", *given)
    monkeypatch.setenv("HF_ENDPOINT", closed)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's attempts
    assert "look at the name and the network" in refused(tmp_path, *HUB, *given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give either file="),
        (("file=a.pth", "source=hf://a/b"), "give either file="),
        (("source=hf://a/b", "weights_file=x.pth"), "give the sha256= that its author states"),
        (("source=hf://a/b", "weights_file=x.pth", "sha256=abc"), "is no SHA-256"),
        (("source=hf://a", "weights_file=x.pth", f"sha256={'a' * 64}"), "is no repository"),
        (("source=hf://a/b/c", "weights_file=x.pth", f"sha256={'a' * 64}"), "is no repository"),
        (("source=hf://a/b", f"sha256={'a' * 64}"), "is no file of weights"),
        (("source=https://x.invalid/setup.exe", f"sha256={'a' * 64}"), "is no file of weights"),
        (("source=ftp://x.invalid/a.pth", f"sha256={'a' * 64}"), "does not exist"),
        (("source=file:///etc/passwd", f"sha256={'a' * 64}"), "does not exist"),
        (("source=gend_clip_l14",), "does not exist"),
        (("source=hf://yermandy/GenD_CLIP_L_14", f"sha256={'a' * 64}"), "is not that of configs/weights"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(tmp_path, arguments, words):
    assert words in refused(tmp_path, *arguments)


def test_a_folder_must_say_which_file(weights, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("a.pth", "b.safetensors"):
        (folder / name).write_bytes(b"x")
    code, output = run(tmp_path, f"source={folder}")
    assert code == 2
    assert "has 2 files of weights (a.pth, b.safetensors); name the one by weights_file=" in output
    code, output = run(tmp_path, f"source={folder}", "weights_file=c.pth")
    assert code == 2
    assert "has no file c.pth" in output
    assert not (tmp_path / "out").exists()


def test_a_wrong_local_file_is_refused(weights, tmp_path):
    output = refused(tmp_path, f"file={weights[0]}", f"sha256={'a' * 64}")
    assert "is not the file that was asked for" in output


@pytest.mark.parametrize("name", shipped_names("weights"))
def test_every_pinned_file_is_described(name):
    one = load_shipped(Pinned, "weights", name)
    assert one.licence
    assert one.source.startswith(("hf://", "https://"))
    stored = yaml.safe_load((CONFIGS / "weights" / f"{name}.yaml").read_text())
    assert stored["sha256"] == one.sha256
