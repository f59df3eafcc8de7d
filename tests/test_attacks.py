"""Attacks on what came later: workbooks, fitted classifiers, cards, the server. Each names its fault."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from openpyxl import Workbook
from report_fakes import SOURCE, scored, write_run
from safetensors import torch as safetensors
from sklearn.calibration import FrozenEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from skops import io as skops
from test_report import add_everything
from test_serving import Jobs, answer_of, entry_of

from unmasked.analysis.reports.run.page import write_report
from unmasked.app.detectors import find, load
from unmasked.app.verbs.verify import _stored
from unmasked.baselines import backbone, fitted_files
from unmasked.baselines.fitted_files import check_pipeline
from unmasked.baselines.handcrafted import STEPS
from unmasked.datasets import archives, workbooks
from unmasked.datasets.errors import InputError
from unmasked.datasets.tables import read_frame
from unmasked.datasets.workbooks import read_sheet
from unmasked.fairness.across.monitoring import STATE, _new_pair, read_monitor
from unmasked.fairness.statistics.betting import BETS
from unmasked.serving import guard, uploads
from unmasked.serving.jobs import JOB
from unmasked.serving.problems import Refusal
from unmasked.serving.settings import Limits
from unmasked.training import checkpoint
from unmasked.training.config import TrainedConfig
from unmasked.training.train import check_resume

# Workbooks

CELL = '<c r="{}1" t="inlineStr"><is><t>{}</t></is></c>'
HEADER = f'<row r="1">{CELL.format("A", "video")}{CELL.format("B", "score")}</row>'
NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def workbook(path, rows, *, before="", dimension="A1:B2"):
    """A workbook whose first sheet has these rows of XML."""
    book, packed = Workbook(), io.BytesIO()
    book.active.append(["x"])
    book.save(packed)
    size = f'<dimension ref="{dimension}"/>' if dimension else ""
    sheet = (
        f'<?xml version="1.0"?>{before}<worksheet xmlns="{NAMESPACE}">{size}'
        f"<sheetData>{HEADER}{rows}</sheetData></worksheet>"
    )
    with zipfile.ZipFile(packed) as read, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for name in read.namelist():
            written.writestr(name, sheet if name.endswith("sheet1.xml") else read.read(name))
    return path


@pytest.mark.parametrize(
    ("rows", "dimension"),
    [
        ('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>', "A1:XFD1048576"),
        ('<row r="999999999999"><c r="A1"><v>1</v></c></row>', ""),
        ('<row><c r="XFD2"><v>1</v></c></row>' * 20, ""),
    ],
)
def test_a_workbook_that_announces_billions_of_cells_is_refused_at_once(
    tmp_path, monkeypatch, rows, dimension
):
    # openpyxl fills up what a sheet leaves out: a file of 5 kB ran for more than two minutes.
    monkeypatch.setattr(workbooks, "ROWS_MAX", 10_000)
    monkeypatch.setattr(workbooks, "CELLS_MAX", 200_000)
    with pytest.raises(InputError, match=r"more than 10,000 rows or 200,000 cells.*export the sheet as CSV"):
        read_sheet(workbook(tmp_path / "a.xlsx", rows, dimension=dimension), [])


def test_a_row_that_is_formatted_to_its_end_is_read(tmp_path):
    rows = '<row r="2"><c r="A2"><v>1</v></c><c r="B2"><v>2</v></c><c r="XFD2"/></row>'
    assert read_sheet(workbook(tmp_path / "a.xlsx", rows), []).to_numpy().tolist() == [[1, 2]]


@pytest.mark.parametrize("entity", ['SYSTEM "file:///etc/passwd"', '"aaaaaaaaaa"'])
def test_entities_of_a_workbook_open_no_file_and_fill_no_memory(tmp_path, entity):
    pairs = zip("abcdefg", "bcdefgh", strict=True)
    many = "".join(f'<!ENTITY {after} "' + f"&{name};" * 10 + '">' for name, after in pairs)
    before = f"<!DOCTYPE x [<!ENTITY a {entity}>{many}]>"
    row = '<row r="2"><c r="A2" t="inlineStr"><is><t>&h;&h;</t></is></c></row>'
    with pytest.raises(InputError, match="no intact Excel workbook"):
        read_sheet(workbook(tmp_path / "a.xlsx", row, before=before), [])


def test_a_formula_is_what_it_gave_and_is_not_computed(tmp_path):
    row = (
        '<row r="2"><c r="A2"><f>WEBSERVICE("http://127.0.0.1/x")</f><v>7</v></c><c r="B2"><v>1</v></c></row>'
    )
    assert read_sheet(workbook(tmp_path / "a.xlsx", row), []).to_numpy().tolist() == [[7, 1]]


def test_a_workbook_with_changed_packed_bytes_is_refused(tmp_path):
    # zlib's own error was no refusal.
    path = workbook(tmp_path / "a.xlsx", "")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as packed:
        for one in packed.infolist():
            at = one.header_offset + 30 + len(one.filename)
            content[at : at + 12] = b"\xff" * 12
    path.write_bytes(content)
    with pytest.raises(InputError, match="no intact Excel workbook"):
        read_sheet(path, [])


# Parquet


def test_text_in_a_parquet_file_that_is_no_utf8_is_refused_when_it_is_read(tmp_path):
    # pyarrow reads it, and raised its own errors where it was first compared or written.
    offsets, letters = pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"\xffa")
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, letters])
    pq.write_table(pa.table({"dataset": ["A", "A"], "video": text}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="UTF8"):
        read_frame(tmp_path / "a.parquet")


# Fitted classifiers

X = np.random.default_rng(0).normal(size=(40, 10)) + np.arange(40)[:, None] % 2
Y = np.arange(40) % 2


@pytest.mark.parametrize(
    "last",
    [KNeighborsClassifier(1), HistGradientBoostingClassifier(max_iter=1), FrozenEstimator(SVC().fit(X, Y))],
)
def test_a_class_that_the_detector_does_not_fit_is_refused(last, tmp_path):
    # skops takes any class of scikit-learn, whose compiled parts follow a file's numbers anywhere in memory.
    model = make_pipeline(StandardScaler(), last).fit(X, Y)
    with pytest.raises(InputError, match="no pipeline of the steps"):
        check_pipeline(model, STEPS, 10)


def test_a_step_that_calls_a_function_is_refused(tmp_path):
    model = make_pipeline(FunctionTransformer(np.exp), LogisticRegression()).fit(X, Y)
    skops.dump(model, tmp_path / "a.skops")
    with pytest.raises(InputError, match="no pipeline of the steps"):
        checkpoint.read_fitted(find("spectrum"), tmp_path / "a.skops", {"size_px": 20})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_n_support", np.array([10**6, 10**6], np.int32)),
        ("_n_support", np.array([-5, 5], np.int32)),
        ("_dual_coef_", np.zeros((1, 2))),
        ("_intercept_", np.zeros(0)),
        ("support_vectors_", np.zeros((2, 3))),
        ("_probA", np.zeros(7)),
        ("kernel", "precomputed"),
        ("_sparse", True),
    ],
)
def test_an_svc_whose_numbers_lead_outside_is_not_used(name, value):
    # libsvm believes the counts of a file.
    model = make_pipeline(StandardScaler(), SVC()).fit(X, Y)
    check_pipeline(model, STEPS, 10)
    setattr(model[-1], name, value)
    with pytest.raises(InputError, match="support vectors are damaged"):
        check_pipeline(model, STEPS, 10)


# Cards


def test_a_card_that_names_the_largest_network_makes_no_network(tmp_path, monkeypatch):
    # 4.4 billion random weights took 17 GB before they were compared with the file's.
    config = backbone.Config.model_validate({"model": {"backbone": "test_vit", "size_px": 64}})
    network = backbone.build(config, ["real", "fake"])
    card = {"method_classes": ["real", "fake"], "size_px": 64, "config": config.model_dump(mode="json")}
    checkpoint.save(find("backbone"), network, tmp_path, card)
    assert load(tmp_path)[1]["architecture"] == "backbone"
    stored = json.loads((tmp_path / "detector.json").read_text())
    stored["config"]["model"] |= {"backbone": "vit_huge_patch14_224", "size_px": 224}
    (tmp_path / "detector.json").write_text(json.dumps(stored))
    made, build = [], backbone.build
    monkeypatch.setattr(backbone, "build", lambda *given: made.append(build(*given)) or made[-1])
    with pytest.raises(InputError, match="does not fit"):
        load(tmp_path)
    assert [all(value.is_meta for value in one.parameters()) for one in made] == [True]


@pytest.mark.parametrize("key", ["architecture", "detector", "module"])
def test_no_card_makes_us_import_a_module(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile_module.py").write_text("open('ran', 'w').close()")
    safetensors.save_file({"a": torch.zeros(1)}, tmp_path / "detector.safetensors")
    card = {"architecture": "absent", "method_classes": ["real", "fake"], "size_px": 64, "sha256": "ab" * 32}
    (tmp_path / "detector.json").write_text(json.dumps({**card, key: "hostile_module"}))
    with pytest.raises(InputError, match="a card alone makes us import nothing"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert "hostile_module" not in sys.modules


# The server


@pytest.mark.parametrize("wrong", [{"id": ""}, {"id": ".."}, {"id": "../.."}, {"name": "../../a"}])
def test_a_job_s_record_decides_no_path(tmp_path, wrong):
    # An old record with another id removed that folder, `..` the one that all jobs lie in.
    folder = tmp_path / "served"
    entry = entry_of(Jobs(folder, Limits()))
    record = {**entry.model_dump(mode="json"), "state": "done", "finished": "2020-01-01T00:00:00Z", **wrong}
    (folder / entry.id / JOB).write_text(json.dumps(record))
    (tmp_path / "mine").write_text("mine")
    jobs = Jobs(folder, Limits())
    jobs.sweep()
    assert not jobs.count()
    assert (tmp_path / "mine").exists()
    assert (folder / entry.id / JOB).exists()


def test_a_file_and_a_link_named_like_a_job_are_left(tmp_path):
    # A file of that name ended the start of the server in a traceback.
    (tmp_path / "served").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "served" / ("a" * 32)).write_text("mine")
    (tmp_path / "served" / ("b" * 32)).symlink_to(tmp_path / "mine")
    assert not Jobs(tmp_path / "served", Limits()).count()
    assert len(os.listdir(tmp_path / "served")) == 2


def test_kept_files_of_one_owner_have_a_bound(tmp_path):
    jobs = Jobs(tmp_path, Limits(keep_gb=2))
    entries = [entry_of(jobs, owner) for owner in "aaab"]
    for entry in entries:
        entry.keep, entry.bytes = True, 10**9
        jobs.take()
        jobs.end(entry, "done")
    jobs.sweep()
    assert [jobs.is_known(entry) for entry in entries] == [False, True, True, True]


def test_files_that_are_being_received_have_the_disk_reserved(tmp_path, monkeypatch):
    # Each of many uploads saw the same free disk.
    request = SimpleNamespace(headers={})
    limits = Limits(max_mb=100)
    free = 2 * limits.bytes_max + uploads.ROOM_BYTES
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    uploads.check_announced(request, limits, tmp_path, 1)
    with pytest.raises(Refusal, match="no room"):
        uploads.check_announced(request, limits, tmp_path, 2)


def test_a_path_with_line_breaks_forges_no_line_of_the_log(tmp_path, caplog):
    caplog.set_level("INFO", logger=guard.access.name)
    answer_of(tmp_path, "GET", "/v1/%0aGET /v1/jobs 200\n\x1b[2J", b"")
    (record,) = [one for one in caplog.records if one.name == guard.access.name]
    assert "\n" not in record.getMessage()
    assert "\x1b" not in record.getMessage()


# Packed arrays and weights


@pytest.mark.parametrize("kind", ["pth", "npz", "skops", "ckpt"])
def test_a_packed_file_that_unpacks_to_far_more_than_its_size_is_refused_before(tmp_path, kind, monkeypatch):
    # A .pth of 290 kB took 800 MB, and one of 10 MB would have taken 10 GB.
    monkeypatch.setattr(archives, "RATIO_FREE_BYTES", 1 << 20)
    path, zeros = tmp_path / f"a.{kind}", np.zeros(1 << 18)
    if kind == "npz":
        np.savez_compressed(path, maps=zeros)
    else:
        stored = io.BytesIO()
        torch.save({"a": torch.from_numpy(zeros)}, stored)
        with zipfile.ZipFile(stored) as read, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
            for name in read.namelist():
                written.writestr(name, read.read(name))
    read = {
        "pth": checkpoint.read_state_dict,
        "npz": archives.check_zip,
        "skops": partial(fitted_files.load, trusted=[]),
        "ckpt": checkpoint.read_training_state,
    }
    with pytest.raises(InputError, match=r"unpacks to 2 MB, over 100 times its size; nothing was read"):
        read[kind](path)
    np.savez_compressed(tmp_path / "b.npz", maps=np.random.default_rng(0).bytes(1 << 20))
    archives.check_zip(tmp_path / "b.npz")


class Runs:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (b"", r"restart=true"),
        (b"PK\x03\x04" + bytes(99), r"restart=true"),
        (Runs, r"was refused without running it.*restart=true"),
        ([1], r"is not the state of a training; .*restart=true"),
        ({"global_step": True, "config": "{}"}, r"is not the state of a training; .*restart=true"),
        ({"global_step": 3}, r"does not say how it was trained; .*restart=true"),
        ({"global_step": 3, "config": "{"}, r"does not say how it was trained; .*restart=true"),
        ({"global_step": 3, "config": '{"seed": []}'}, r"does not say how it was trained; .*restart=true"),
    ],
)
def test_a_damaged_or_hostile_state_is_not_resumed_and_said_in_a_sentence(tmp_path, state, words):
    last, made = tmp_path / "checkpoints" / "last.ckpt", tmp_path / "made"
    last.parent.mkdir()
    if isinstance(state, bytes):
        last.write_bytes(state)
    else:
        torch.save(Runs(str(made)) if state is Runs else state, last)
    with pytest.raises(InputError, match=words):
        check_resume(last, TrainedConfig())
    assert not made.exists()


# Cases


def test_a_case_that_names_a_file_of_the_system_s_own_making_is_refused(tmp_path):
    # /proc/kmsg is an ordinary file that is waited for, /proc/kcore one without end.
    for place in ("/proc/kmsg", "/sys/kernel/notes"):
        with pytest.raises(InputError, match="not seen from its own folder"):
            _stored(tmp_path, os.path.relpath(place, tmp_path))
    assert _stored(tmp_path, "../clip.mp4") == tmp_path / "../clip.mp4"


# An audit that goes on


@pytest.mark.parametrize(
    "change",
    [{"groups": ["a"]}, {"people": [1, -1]}, {"rates": [0.1, 7.0]}, {"log_capital": [0.0]}, {"metric": "x"},
     {"log_capital": [None] * len(BETS)}],
)  # fmt: skip
def test_a_watched_pair_of_another_shape_is_a_sentence(tmp_path, change):
    # `fairness since=` ended in an IndexError or a ValueError when it bet with them.
    pair = _new_pair("A", "gender", "fpr", ("a", "b"))
    kept = {"since": "run", "looks": [], "counted": [], "pairs": [pair]}
    (tmp_path / STATE).write_text(json.dumps(kept))
    assert read_monitor(tmp_path)["pairs"] == [pair]
    (tmp_path / STATE).write_text(json.dumps({**kept, "pairs": [{**pair, **change}]}))
    with pytest.raises(InputError, match=rf"{next(iter(change))}.*remove it to begin anew"):
        read_monitor(tmp_path)


# A report


def test_facts_of_an_explanation_that_have_another_type_are_a_sentence(tmp_path):
    # Tracebacks of KeyError, TypeError and AttributeError while the page was drawn.
    write_run(tmp_path, pd.concat([scored(SOURCE, "test", 2.0, people=6)]).assign(checkpoint="ab" * 32))
    add_everything(tmp_path)
    path = tmp_path / "explain/explain.json"
    facts = json.loads(path.read_text())
    for change in ({"purity": 3}, {"methods": [1]}):
        path.write_text(json.dumps({**facts, **change}))
        with pytest.raises(InputError, match=r"is damaged.* run `unmasked explain` again"):
            write_report(tmp_path)
