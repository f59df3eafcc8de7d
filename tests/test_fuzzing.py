"""Changed files at every door: refused in words or read, and nothing else; see `fuzz_doors`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from unmasked.analysis.explain.explanation import read_explanation
from unmasked.analysis.reports.gallery import slug
from unmasked.datasets.cards import check_card
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.videos import RefusedFormat, open_video
from unmasked.evaluation.collection import collect
from unmasked.evaluation.thresholds import Threshold

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


# What it found, each of which ended in a traceback


@pytest.mark.parametrize(
    "change", [lambda content: b"", lambda content: content[:90] + b"\xff" * 60 + content[150:]]
)
def test_a_damaged_explanation_is_named(tmp_path, change):
    arrays = io.BytesIO()
    values = np.random.default_rng(0).integers(0, 255, (3, 40, 40), dtype=np.uint8)
    np.savez_compressed(arrays, pictures=values, overlays=values, maps=values)
    (tmp_path / "explain").mkdir()
    (tmp_path / "explain/explain.json").write_text("{}")
    (tmp_path / "explain/cams.npz").write_bytes(change(arrays.getvalue()))
    with pytest.raises(InputError, match="run `unmasked explain` again"):
        read_explanation(tmp_path)


def test_what_ffmpeg_has_not_implemented_is_a_refused_format(tmp_path, monkeypatch):
    (tmp_path / "a.webm").write_bytes(b"x")

    def not_yet(*_: object, **__: object) -> None:
        raise av.error.PatchWelcomeError(
            1163346256, "Not yet implemented in FFmpeg, patches welcome", "video"
        )

    monkeypatch.setattr("unmasked.datasets.videos.av.open", not_yet)
    with pytest.raises(RefusedFormat, match="Not yet implemented"), open_video(tmp_path / "a.webm"):
        pass


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("training_data", []), ("training_data", {"datasets": {"A": 1}}),
        ("training_data", {"datasets": [{}]}),
        ("training_data", {"train": 3}), ("selection", "best"), ("selection", {"rule": 1}), ("size_px", "64"),
        ("size_px", -1), ("size_px", 10**9), ("width", float("nan")), ("method_classes", 5),
        ("method_classes", [1]), ("sha256", 12), ("architecture", ["ucf"]),
    ],
)  # fmt: skip
def test_a_card_with_an_entry_of_another_type_is_named(entry, value, tmp_path, caplog):
    card = {"sha256": "ab" * 32, "architecture": "ucf", "size_px": 64, "method_classes": ["real"]} | {
        entry: value
    }
    with pytest.raises(InputError, match=rf"card c\.json is damaged \({entry}"):
        check_card(card, "c.json")
    (tmp_path / "detector.json").write_text(json.dumps(card))
    table = {"dataset": "A", "video": ["a", "b"], "label": [0, 1], "score": [0.1, 0.9]}
    pd.DataFrame(table).assign(checkpoint="ab" * 32).to_csv(tmp_path / "scores.csv", index=False)
    (scored,), _ = collect(tmp_path / "scores.csv")
    assert scored.card == {}
    assert "detector.json is damaged" in caplog.text


def test_names_of_files_stay_short_and_distinct():
    names = ["n" * 3000, "n" * 2999 + "m"]
    assert len({slug(name) for name in names}) == 2
    assert all(len(slug(name)) <= 60 for name in names)
    assert slug("FaceForensics++, c23") == "FaceForensics-c23"


@pytest.mark.parametrize(
    "change",
    [
        {"n_fake": {}},
        {"n_real": -1},
        {"fitted_on": {"１２": 1}},
        {"rule": None},
        {"tpr": 10**30},
        {"note": 3},
    ],
)
def test_a_stored_threshold_with_an_entry_of_another_type_is_a_sentence(change):
    # `inspect` ended in a traceback when it computed with them.
    stored = Threshold(0.5, "eer", "A", n_real=20, n_fake=20, fpr=0.1, tpr=0.9).to_dict()
    with pytest.raises(InputError, match="is not a stored threshold"):
        Threshold.from_dict({**stored, **change})


def test_half_a_character_in_a_name_is_written_by_its_code(tmp_path):
    write_json(tmp_path / "a.json", {"name": "\ud800x"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "\ud800x"}
