"""A worker that reads files of strangers can neither use the network nor start a program, and dies whole."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from unmasked.preprocessing.pool import Budget, run_tasks

has_seccomp = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
linux = pytest.mark.skipif(not has_seccomp, reason="nothing is taken away on this system")


def make_escaper():
    return escape


def escape(way: str) -> str:
    """What came of an attempt; "done" if it succeeded."""
    try:
        if way == "socket":
            socket.socket()
        elif way == "local socket":
            socket.socket(socket.AF_UNIX)
        elif way == "program":
            subprocess.run(["true"], check=True)
        elif way == "exec":
            os.execv(sys.executable, [sys.executable, "-c", ""])
        elif way == "fork":
            if os.fork() == 0:
                os._exit(0)
        elif way == "thread":
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
        elif way == "file":
            Path(__file__).read_bytes()
    except OSError as error:
        return type(error).__name__
    return "done"


@linux
def test_workers_cannot_use_the_network_or_start_programs_but_threads_and_files():
    ways = ["socket", "local socket", "program", "exec", "fork", "thread", "file"]
    outcomes = {o.task: o.result for o in run_tasks(ways, make_escaper, workers=1, budget=Budget())}
    assert outcomes == {
        **dict.fromkeys(ways[:5], "PermissionError"),
        "thread": "done",
        "file": "done",
    }


def make_parent():
    """Starts a child before it is confined, as a detector's library might."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    return Hanging(child)


class Hanging:
    """Says who its child is, then hangs."""

    def __init__(self, child: int) -> None:
        self.child = child

    def __call__(self, task: str) -> None:
        Path(task).write_text(str(self.child))
        time.sleep(600)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@linux
def test_a_worker_over_its_budget_is_killed_with_its_descendants(tmp_path):
    """What Ghostscript had been told to loop ran on after its worker was gone."""
    note = str(tmp_path / "child")
    [outcome] = run_tasks([note], make_parent, workers=1, budget=Budget(time_s=1.0))
    assert outcome.status == "over_budget"
    child = int(Path(note).read_text())
    deadline_s = time.monotonic() + 10
    while is_running(child):
        if time.monotonic() > deadline_s:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the child of a killed worker lives on")
        time.sleep(0.02)
