"""Changed files at every door: refused in words or read, and nothing else; see `fuzz_doors`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

INPUTS = int(os.environ.get("FUZZ_INPUTS", "12"))  # a door
BUDGET_MIB = 1500  # resident, of the whole process
SCRIPT = Path(__file__).parent / "fuzz_doors.py"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the budget is measured by /proc")
def test_changed_files_are_refused_or_read_and_nothing_else_happens():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(INPUTS), "7"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["doors"]) == 16
    for name, door in found["doors"].items():
        assert not door["findings"], (name, door["findings"], door["first"])
        assert door["inputs"] == door["refused"] + door["read"] >= INPUTS // 2, name
    assert found["peak_rss_mib"] < BUDGET_MIB


def test_the_watch_sees_a_program_a_socket_and_a_file_outside(tmp_path):
    code = (
        "import os, socket, subprocess, sys, tempfile; from pathlib import Path\n"
        "from fuzz_doors import Door, Watch, fuzz\n"
        "def read(path):\n"
        "    subprocess.run(['true']); socket.getaddrinfo('localhost', 1); open('/etc/passwd').close()\n"
        "    raise ZeroDivisionError\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "found = fuzz(Door(read, '.x', [b'abc']), 1, 0, folder, Watch(folder))['findings']\n"
        "print(sorted(name.split()[0] for name in found))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{SCRIPT.parent}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "'ZeroDivisionError'" in done.stdout, done.stderr
    for event in ("subprocess.Popen", "socket.getaddrinfo", "open"):
        assert f"'{event}'" in done.stdout
