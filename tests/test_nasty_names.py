"""Names that attack whoever prints, draws or writes them, through every verb that does."""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
import traceback
import xml.etree.ElementTree as ET  # of what we wrote ourselves
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from preprocessing_fakes import SquareDetector, square_frame
from report_fakes import Reader, scored
from train_fakes import SMALL, Network, small_config
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.evaluation.abstention import Band
from unmasked.evaluation.fitted import Fitted
from unmasked.evaluation.predictions import PREDICTIONS
from unmasked.evaluation.thresholds import Threshold
from unmasked.inspection.file_facts import examiner_pool
from unmasked.preprocessing.faces import FACES
from unmasked.training import checkpoint

NAMES = (
    "$x_{$",
    "</script><script>alert(1)</script><img src=//x onerror=alert(1)>",
    "a\0b",
    "\x1b]0;owned\x07\x1b[31mred\x9b1m",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "-2+3+cmd",
    "n" * 3000,
    "\u202egnp.exe\u2066\u200f",
    "two\nlines\r\n# heading\n\n<b>",
    "../../../etc/passwd",
    "![x](http://127.0.0.1/x) [y](javascript:alert(1)) `z` | w",
    "\\input{/etc/passwd} \\write18{id} %",
    "{{7*7}} ${oc.env:HOME} %s %n",
)
DATASETS = NAMES[1], NAMES[8]
# As names of files: without what no file name can hold.
FILES = (*(name.replace("\0", "").replace("/", "")[:200] for name in NAMES), "caf\udce9")
OWN = f"detector={Path(__file__).parent / 'train_fakes.py'}"
GROUP = "mine"  # a column of the user's own, so that no vocabulary reads its words


def nasty_scores() -> pd.DataFrame:
    """Scores in which every name is a group, a method, a video's and a person's."""
    parts = [
        scored(DATASETS[0], "val", 2.0),
        scored(DATASETS[0], "test", 2.0),
        scored(DATASETS[1], "test", 1.0),
    ]
    table = pd.concat(parts, ignore_index=True)
    table = table[table["frame"] < 2]
    number = pd.factorize(table["identity"])[0] % len(NAMES)
    fake = table["label"] == 1
    names = pd.Series(NAMES)[number].set_axis(table.index)
    table[GROUP] = names
    table["method"] = table["method"].where(~fake, names + table["method"])
    table["video"] = table["video"] + "/" + names
    return table.assign(identity=table["identity"] + names, detector=NAMES[3], compression=NAMES[0])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Scores, faces, a detector and files, all with such names, in a folder with one."""
    folder = tmp_path_factory.mktemp("names") / FILES[1] / FILES[6]
    folder.mkdir(parents=True)
    table = nasty_scores()
    PREDICTIONS.write(table, folder / "a.parquet")
    score = 1 - (1 - table["score"]) ** 2
    others = table.assign(detector=NAMES[4], score=score, checkpoint="cd" * 32)
    PREDICTIONS.write(others, folder / "b.parquet")
    table.to_csv(folder / "a.csv", index=False)
    faces = write_faces(folder, {"test": 7}, frames=1, size_px=32)
    number = pd.factorize(faces["identity"])[0]
    faces["method"] = faces["method"].where(faces["label"] == 0, pd.Series(NAMES)[number % 14].to_numpy())
    faces["video"] = faces["video"] + pd.Series(NAMES)[np.arange(len(faces)) % 14].to_numpy()
    FACES.write(faces.assign(dataset=DATASETS[0]), folder / "faces.parquet")
    torch.manual_seed(0)
    card = {
        "method_classes": ["real", NAMES[1]],
        "size_px": 32,
        "config": small_config().model_dump(mode="json"),
    }
    card |= Fitted(Threshold(0.5, "eer", NAMES[1], n_real=20, n_fake=20), band=Band(0.4, 0.6)).to_dict()
    checkpoint.save(SMALL, Network(), folder / "detector.safetensors", card)
    for label in ("real", "fake"):
        for name in FILES:
            (folder / "data" / label / name).mkdir(parents=True)
            image = square_frame(3, size_px=192)
            (folder / "data" / label / name / f"{name[:40]}.png").write_bytes(cv2.imencode(".png", image)[1])
    (folder / "few").mkdir()
    for name in FILES[:3]:
        shutil.copy(folder / "data/real" / name / f"{name[:40]}.png", folder / "few")
    videos = table["video"].unique()
    rows = pd.DataFrame({"video": videos, "mine": [*NAMES, *videos[14:]], "gender": "female"})
    rows.to_csv(folder / "notes.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def squares(monkeypatch):
    """Faces are bright squares, found without dlib's models."""
    pool = partial(examiner_pool, detector=SquareDetector)
    monkeypatch.setattr("unmasked.inspection.examine.examiner_pool", pool)


FEW = ("n_boot=100",)
AUDIT = (f"by=[{GROUP}]", "min_clusters=1", "min_samples=1", "n_boot=100")
# Verb -> its arguments; {in} is the folder of inputs, {out} is where it writes. Some read what others wrote.
COMMANDS = {
    "evaluate": ("predictions={in}/a.parquet", "out={out}/run", *FEW),
    "fairness": ("predictions={in}/a.parquet", "out={out}/run", "n_perm=100", *AUDIT),
    "mitigate": ("predictions={in}/a.parquet", "out={out}/run", f"by=[{GROUP}]", "n_boot=100"),
    "explain": (
        OWN,
        "checkpoint={in}",
        "faces={in}",
        "out={out}/run",
        "pictures=1",
        "points=20",
        "perplexity=3",
        "tested=2",
    ),
    "report": ("run={out}/run",),
    "threshold": (
        "predictions={in}/a.parquet",
        "out={out}/threshold",
        "max_fpr=0.2",
        f"dataset={json.dumps(DATASETS[0])}",
    ),
    "compare": ("a={in}/a.parquet", "b={in}/b.parquet", "out={out}/compare", *FEW),
    "plan": (
        "predictions={in}/a.parquet",
        f"by=[{GROUP}]",
        "out={out}/plan",
        f"dataset={json.dumps(DATASETS[0])}",
    ),
    "ensemble": ("predictions=['{in}/a.parquet','{in}/b.parquet']", "out={out}/ensemble", *FEW),
    "join": ("tables=['{in}/a.parquet','{in}/c.parquet']", "out={out}/joined.csv"),
    "annotate": ("table={in}/a.parquet", "annotations={in}/notes.csv", "out={out}/annotated.csv"),
    "scan": ("root={in}/data", "source=folder", "out={out}/manifest.csv"),
    "inspect": ("{in}/few", OWN, "checkpoint={in}", "out={out}/cases"),
    "verify": ("{case}", OWN, "checkpoint={in}"),
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_nasty_names_stay_names(place, verb, capfd):
    out = place.parent / "out"
    if verb == "join":
        table = PREDICTIONS.read(place / "a.parquet")
        PREDICTIONS.write(table.assign(dataset=NAMES[6] + table["dataset"]), place / "c.parquet")
    case = next(out.glob("cases/*/case.json"), out / "none").parent
    before = {path: path.lstat().st_mtime_ns for path in place.parent.parent.parent.rglob("*")}
    logging.getLogger().handlers.clear()  # logged lines go to this call's standard error
    given = [text.replace("{in}", str(place)).replace("{out}", str(out)) for text in COMMANDS[verb]]
    done = CliRunner().invoke(app, [verb, *(text.replace("{case}", str(case)) for text in given)])
    said = done.output + "".join(capfd.readouterr())
    assert done.exit_code == 0, (said, "".join(traceback.format_exception(done.exception)))
    assert "Traceback" not in said
    assert all(sign.isprintable() or sign in "\n\N{NO-BREAK SPACE}" for sign in said), said
    after = {path: path.lstat().st_mtime_ns for path in place.parent.parent.parent.rglob("*")}
    written = [path for path in after if after[path] != before.get(path)]
    assert {path for path in written if path.is_file()} <= {*out.rglob("*")}
    for path in written:
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            try:
                CHECKS.get(path.suffix, lambda text: None)(text)
            except (AssertionError, ValueError, SyntaxError) as error:
                raise AssertionError(f"{path.name[:100]}: {error}") from error


# What a file may hold

OWN_FILES = ("data:,", "fairness.html")  # no picture in the tab; the audit beside the report


def check_html(text: str) -> None:
    page = Reader(text)
    assert not page.tags & {"script", "iframe", "object", "embed", "base", "form"}, page.tags
    asked = [address for address in page.addresses if not address.startswith(("#", "data:image/"))]
    assert {*asked} <= {*OWN_FILES}
    assert not re.search("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def check_markdown(text: str) -> None:
    assert not re.search(r"(?<!\\)<(script|img|b)\b", text)
    assert not re.search(r"(?<!\\)\]\((http|javascript)", text)
    assert "\n# heading" not in text
    assert not re.search("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def check_latex(text: str) -> None:
    assert not re.search(r"(?m)^[^%\n]*\\(input|write18)\b", text)
    assert not re.search("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text)


def check_csv(text: str) -> None:
    csv.field_size_limit(1 << 24)
    for row in csv.reader(text.replace("\0", "").splitlines(keepends=True)):
        for cell in row:
            assert not re.match(r"[=+\-@\t\r]", cell) or re.fullmatch(
                r"[+-]?[\d.]+(e[+-]?\d+)?", cell, re.I
            ), cell


CHECKS = {
    ".html": check_html,
    ".md": check_markdown,
    ".tex": check_latex,
    ".csv": check_csv,
    ".json": json.loads,
    ".svg": ET.fromstring,
}
