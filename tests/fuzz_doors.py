"""Changed inputs at every door where files of strangers come in, in a process that is watched.

    python tests/fuzz_doors.py [--GROUP] [--seconds S] COUNT [SEED [DOOR …]]

Hypothesis draws the changes: of bytes in an encoded file, of values in a JSON object or a table. Each door
may raise what its documentation says. Whatever else it raises, a program that starts, a socket, a file
outside its folder that is opened and memory beyond the budget is a finding. Prints a line for each door as it
is done, to standard error, and last a JSON object of all. After --seconds a door is closed; its inputs are
those until then. Groups: files (if none is named), verbs, weights, cases, states, late, server.

The case folder gets links that lead out. The harness writes through none, but run it as a user who could not
(`setpriv --reuid=65534 --regid=65534 --clear-groups`, HOME and TMPDIR in a folder of that user).
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.errors import InputError

MEMORY_BYTES = 2 << 30  # beyond what the process has after one intact input at each door
TIME_S = 60
REPOSITORY = Path(__file__).parents[1]

Content = Any


@dataclass
class Door:
    """What reads a kind of file, intact examples of it, and what it may raise."""

    read: Callable[[Path], object]
    suffix: str
    examples: list[Content]
    allowed: tuple[type[BaseException], ...] = (InputError,)
    changes: Callable[[Content], st.SearchStrategy[bytes]] = field(
        default=lambda content: changed_bytes(content)
    )


# Changes

INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\0",
    b"-1",
    b"{",
)


@st.composite
def changed_bytes(draw: Any, content: bytes) -> bytes:
    """Some bytes overwritten, removed, repeated or put in; most near the start, where headers are."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        near = draw(st.booleans())
        at = draw(st.integers(0, max(0, min(len(data), 96 if near else len(data)) - 1)))
        kind = draw(st.sampled_from(["byte", "bytes", "cut", "remove", "repeat", "insert"]))
        if kind == "byte" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "bytes":
            value = draw(st.one_of(st.sampled_from(INTERESTING), st.binary(min_size=1, max_size=8)))
            data[at : at + len(value)] = value
        elif kind == "cut" and draw(st.integers(0, 3)) == 0:
            del data[at:]
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 64))] * draw(st.integers(1, 20))
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=16))
    return bytes(data)


NASTY_TEXT = st.sampled_from(
    ["", "../../../dev/zero", "/etc/passwd", "a\0b", "\ud800", "x" * 3000, "$x_{$", "=1+1", "\x1b[31m", "nan",
     "1²3", "１２", "-0", "1e999", "99999999999999999999", "true", "\u202e", "a/b", ".", "..", " ", "\n"]
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63, 10**30, -(10**30), 1e308, float("inf"), float("nan"), 0.5]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, NASTY_TEXT, st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(NASTY_TEXT, st.text(max_size=5)), inner, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def changed_object(draw: Any, content: Any) -> bytes:
    """An object some of whose values, however deep, are others or gone; now and then no JSON."""
    value = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, name = draw(st.sampled_from(places))
        if draw(st.integers(0, 4)) == 0:
            del holder[name]
        else:
            holder[name] = draw(VALUES)
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    return draw(changed_bytes(text)) if draw(st.integers(0, 6)) == 0 else text


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for name in value:
            yield value, name
            yield from _places(value[name])
    elif isinstance(value, list):
        for at in range(len(value)):
            yield value, at
            yield from _places(value[at])


@st.composite
def changed_table(draw: Any, content: list[list[str]]) -> bytes:
    """A CSV some of whose cells, rows or columns are others, gone or twice; now and then its bytes are."""
    rows = [list(row) for row in content]
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(rows) - 1))
        column = draw(st.integers(0, max(0, len(rows[at]) - 1)))
        kind = draw(st.sampled_from(["cell", "cell", "cell", "drop", "double", "row"]))
        if kind == "cell" and rows[at]:
            rows[at][column] = str(draw(st.one_of(NASTY_TEXT, NUMBERS, st.text(max_size=6))))
        elif kind == "drop":
            rows = [[cell for place, cell in enumerate(row) if place != column] for row in rows]
        elif kind == "double":
            rows = [[*row, *row[column : column + 1]] for row in rows]
        elif kind == "row":
            rows.insert(at, list(rows[draw(st.integers(0, len(rows) - 1))]))
    sign = draw(st.sampled_from([",", ",", ";", "\t", "|"]))
    text = "\n".join(sign.join(row) for row in rows).encode("utf-8", "surrogatepass")
    return draw(changed_bytes(text)) if draw(st.integers(0, 4)) == 0 else text


# Intact examples


def picture(side: int = 24) -> Image.Image:
    """A small picture without order."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8))


def encoded_pictures() -> list[bytes]:
    """One of each format that is decoded, some with notes, transparency and a palette."""
    found = []
    for kind, mode, options in (
        ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "I;16", {}), ("JPEG", "RGB", {}),
        ("JPEG", "CMYK", {}), ("JPEG", "RGB", {"progressive": True}), ("BMP", "RGB", {}), ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"lossless": True}), ("GIF", "P", {}), ("AVIF", "RGB", {}),
    ):  # fmt: skip
        stream = io.BytesIO()
        image = picture().convert("L").convert("I;16") if mode == "I;16" else picture().convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6
        with suppress(OSError, KeyError):  # a format that this Pillow cannot write
            image.save(stream, kind, **options, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}))
            found.append(stream.getvalue())
    return found


def archives() -> list[bytes]:
    """Tar archives of two folders of pictures, in every format of headers, packed and not."""
    found = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for mode in ("w", "w:gz"):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode=mode, format=kind) as tar:
                for name in (
                    "1/real/0/1.png",
                    "1/real/0/2.png",
                    "1/fake/" + "n" * (90 if mode == "w" else 3) + "/1.png",
                ):
                    member = tarfile.TarInfo(name)
                    content = encoded_pictures()[0]
                    member.size = len(content)
                    if kind == tarfile.PAX_FORMAT:
                        member.pax_headers = {"comment": "ü" * 20, "mtime": "1.5"}
                    tar.addfile(member, io.BytesIO(content))
            found.append(stream.getvalue())
    return found


def videos(folder: Path) -> list[bytes]:
    """Small videos in several containers."""
    from preprocessing_fakes import write_video

    found = []
    for name, codec in (("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx")):
        write_video(folder / name, 6, codec=codec)
        found.append((folder / name).read_bytes())
    return found


def as_parquet(table: pd.DataFrame) -> bytes:
    """A table's bytes as Parquet."""
    stream = io.BytesIO()
    table.to_parquet(stream, index=False)
    return stream.getvalue()


def as_rows(table: pd.DataFrame) -> list[list[str]]:
    """The header and the cells as text."""
    return [list(table.columns), *([str(cell) for cell in row] for row in table.to_numpy())]


SCORES = pd.DataFrame(
    {"dataset": "A", "video": [f"v{n}" for n in range(6)], "frame": 0, "label": [0, 1] * 3, "split": "test",
     "score": [0.1, 0.9, 0.3, 0.7, 0.2, 0.8], "gender": ["f", "m"] * 3}
)  # fmt: skip
MANIFEST = pd.DataFrame(
    {"dataset": "A", "video": ["a", "b"], "root": "r", "path": ["a.mp4", "b.mp4"], "kind": "video",
     "label": [0, 1], "method": ["real", "fake"], "split": "test", "identity": ["1", "2"]}
)  # fmt: skip
CARD = {
    "detector": "UCF", "architecture": "ucf", "sha256": "ab" * 32, "size_px": 64, "width": 0.0625,
    "method_classes": ["real", "Deepfakes"], "file": "detector.safetensors", "licence": "MIT",
    "training_data": {"datasets": ["A"], "compression": ["c23"], "train": {"videos_by_method": {"real": 3}}},
    "selection": {"rule": "best AUC"}, "preprocessing": {"size_px": 64},
}  # fmt: skip


# The doors


def doors(folder: Path) -> dict[str, Door]:
    """Every door by name; ``folder`` gets what the intact examples need."""
    from unmasked.analysis.explain.explanation import read_explanation
    from unmasked.app.config import load
    from unmasked.app.verbs import audit as audit_verb
    from unmasked.datasets.annotations import read_annotations
    from unmasked.datasets.archives import read_member_images, sequence_members
    from unmasked.datasets.audit.headers import read_headers
    from unmasked.datasets.codebooks import load_codebook
    from unmasked.datasets.documents import write_json
    from unmasked.datasets.images import UnreadableImage, decode_crop, decode_image
    from unmasked.datasets.manifest import MANIFEST as MANIFEST_SCHEMA
    from unmasked.evaluation.collection import collect
    from unmasked.evaluation.evaluate import evaluate
    from unmasked.evaluation.fitted import fit_on_source, read_fitted
    from unmasked.evaluation.predictions import read_predictions
    from unmasked.preprocessing.config import PreprocessConfig, recipe
    from unmasked.preprocessing.parts import Item, Parts, items
    from unmasked.preprocessing.video import FewerFrames, Unreadable, read_video

    def read_archive(path: Path) -> None:
        for name in sequence_members(path):
            list(read_member_images(path.parent, f"{path.name}!{name}"))

    def decode_all(path: Path) -> None:
        content = path.read_bytes()
        for decode in (decode_image, decode_crop):
            with suppress(UnreadableImage):
                decode(content)

    def read_whole_video(path: Path) -> None:
        for decode_every in (False, True):
            with suppress(Unreadable, FewerFrames):
                list(read_video(path, wanted=3, max_pixels=1 << 24, decode_all=decode_every))
        row = pd.DataFrame({"dataset": ["A"], "video": ["v"], "root": [str(path.parent)], "path": [path.name],
                            "kind": ["video"], "label": [0]})  # fmt: skip
        read_headers(MANIFEST_SCHEMA.validate(row.assign(method="real", split="test")))

    def use_scores(path: Path) -> None:
        evaluate(read_predictions(path), n_boot=0)
        collect(path)

    def use_manifest(path: Path) -> None:
        items(MANIFEST_SCHEMA.read(path))

    def open_folder(path: Path) -> None:
        out = path.parent / "faces"
        out.mkdir(exist_ok=True)
        path.replace(out / "recipe.json")
        Parts(out, recipe(PreprocessConfig())).close()

    item = Item(("A", "v", ""), str(folder), "v.mp4", "video", "A/v")

    def read_part(path: Path) -> None:
        out = path.parent / "parts_of"
        parts = Parts(out, recipe(PreprocessConfig()))
        try:
            target = out / "parts" / "A" / "v.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            if parts.is_done(item):
                parts.rows(item)
        finally:
            parts.close()

    def read_explained(path: Path) -> None:
        explained = path.parent / "explain"
        explained.mkdir(exist_ok=True)
        path.replace(explained / "cams.npz")
        (explained / "explain.json").write_text("{}")
        for name in ("pictured", "embedding"):
            SCORES.to_parquet(explained / f"{name}.parquet")
        read_explanation(path.parent)

    arrays = io.BytesIO()
    np.savez_compressed(
        arrays, **dict.fromkeys(("pictures", "overlays", "maps"), np.zeros((2, 4, 4), np.uint8))
    )
    known = recipe(PreprocessConfig())
    row = {"frame": 0, "face": 0, "status": "ok", "crop": "crops/A/v/00000_0.png", "time_s": 0.0}
    from unmasked.preprocessing.config import recipe_hash

    part = {"recipe": recipe_hash(known), "key": ["A", "v", ""], "path": "v.mp4", "mask": "", "stamp": [""],
            "crop_bytes": {"00000_0.png": 5}, "rows": [row]}  # fmt: skip
    book = (REPOSITORY / "configs/annotations").glob("*.yaml")
    annotations = pd.DataFrame(
        {"path": ["a.png", "b.png"], "gender": ["male", "female"], "age": ["adult", "senior"]}
    )
    fitted = fit_on_source(SCORES.assign(split="val"), ["eer", "fpr:0.10"])
    write_json(folder / "fitted.json", CARD | fitted.to_dict())
    stored = json.loads((folder / "fitted.json").read_text())
    found = {
        "tar": Door(read_archive, ".tar.gz", archives()),
        "image": Door(decode_all, ".png", encoded_pictures()),
        "video": Door(read_whole_video, ".mp4", videos(folder)),
        "scores.csv": Door(use_scores, ".csv", [as_rows(SCORES)], changes=changed_table),
        "scores.parquet": Door(use_scores, ".parquet", [as_parquet(SCORES)]),
        "manifest.csv": Door(use_manifest, ".csv", [as_rows(MANIFEST)], changes=changed_table),
        "annotations.csv": Door(
            lambda path: read_annotations(path, "auto"), ".csv", [as_rows(annotations)], changes=changed_table
        ),
        "thresholds.json": Door(read_fitted, ".json", [stored], changes=changed_object),
        "recipe.json": Door(open_folder, ".json", [known], changes=changed_object),
        "part.json": Door(read_part, ".json", [part], changes=changed_object),
        "config.yaml": Door(
            lambda path: load(audit_verb.Config, path),
            ".yaml",
            [{"manifest": "m.parquet", "faces": ["a"], "out": "o", "fail": True, "seed": 1}],
            changes=changed_object,
        ),
        "codebook.yaml": Door(load_codebook, ".yaml", [path.read_bytes() for path in book]),
        "explanation.npz": Door(read_explained, ".npz", [arrays.getvalue()]),
    }
    return found | _torch_doors(folder)


def _torch_doors(folder: Path) -> dict[str, Door]:
    import torch
    from safetensors.torch import save

    from unmasked.app.detectors import load
    from unmasked.evaluation.collection import collect
    from unmasked.training.checkpoint import read_safetensors, read_state_dict

    tensors = {"a.weight": torch.zeros(3, 4), "b": torch.ones(2)}
    flat = io.BytesIO()
    torch.save(tensors, flat)
    weights = save(tensors)

    def load_card(path: Path) -> None:
        place = path.parent / "detector"
        place.mkdir(exist_ok=True)
        (place / "detector.safetensors").write_bytes(weights)
        path.replace(place / "detector.json")
        SCORES.assign(checkpoint="ab" * 32).to_parquet(place / "predictions.parquet")
        collect(place)
        load(place)

    return {
        "card.json": Door(load_card, ".json", [CARD], changes=changed_object),
        "safetensors": Door(read_safetensors, ".safetensors", [weights]),
        "state.pth": Door(read_state_dict, ".pth", [flat.getvalue()]),
    }


def scored_table() -> pd.DataFrame:
    """Scores of two frames a video, of a source's val and test and of an unseen set."""
    from report_fakes import SOURCE, UNSEEN, scored

    parts = ((SOURCE, "val"), (SOURCE, "test"), (UNSEEN, "test"))
    table = pd.concat([scored(name, split, 2.0, people=6) for name, split in parts])
    return table[table["frame"] < 2].drop(columns="checkpoint")


def verb_doors(folder: Path) -> dict[str, Door]:
    """Whole commands, one of whose inputs is changed; slower than the doors that they are made of."""
    from report_fakes import SOURCE, write_run
    from test_report import add_everything

    from unmasked.analysis.explain.explanation import MethodMaps, read_explanation, write_explanation
    from unmasked.analysis.reports.run.page import write_report
    from unmasked.app.verbs import compare, fairness, join, mitigate, threshold
    from unmasked.evaluation.predictions import PREDICTIONS

    table = scored_table()
    PREDICTIONS.write(table, folder / "intact.csv")
    PREDICTIONS.write(table.assign(dataset="other " + table["dataset"]), folder / "other.csv")
    out, run = folder / "verb", folder / "run"
    write_run(run, table)
    by = {"by": ["skin_tone_group"], "n_boot": 100}
    mitigate.run(_config(mitigate, predictions=folder / "intact.csv", out=run, **by))
    stored = {path.name: json.loads(path.read_text()) for path in sorted(run.glob("*.json"))}
    stored["detector.json"] = CARD

    def of_verb(verb: Any, key: str, **more: Any) -> Door:
        def read(path: Path) -> None:
            given = [path, folder / "other.csv"] if key == "tables" else path
            verb.run(_config(verb, **{key: given}, **more))

        return Door(read, ".csv", [as_rows(table)], changes=changed_table)

    def of_file(name: str) -> Door:
        def read(path: Path) -> None:
            kept = (run / name).read_bytes() if (run / name).is_file() else None
            path.replace(run / name)
            try:
                write_report(run)
            finally:
                (run / name).unlink()
                if kept is not None:
                    (run / name).write_bytes(kept)

        return Door(read, ".json", [stored[name]], changes=changed_object)

    found = {
        "threshold": of_verb(threshold, "predictions", dataset=SOURCE, out=out, overwrite=True, max_fpr=0.2),
        "compare": of_verb(compare, "a", b=folder / "intact.csv", out=out, overwrite=True, n_boot=20),
        "join": of_verb(join, "tables", out=out / "joined.csv"),
        "fairness": of_verb(fairness, "predictions", out=out, overwrite=True, n_perm=100, **by),
        "mitigate": of_verb(mitigate, "predictions", out=out, overwrite=True, **by),
    }
    found |= {f"report {name}": of_file(name) for name in stored}
    explained = folder / "explained"
    write_run(explained, table.assign(checkpoint="ab" * 32))
    add_everything(explained)
    plain = read_explanation(explained)
    order = {"random": {"value": 0.1, "ci": [0.0, 0.2]}, "centre": {"value": 0.1, "ci": [0.0, 0.2]}}
    tests = {"method": "occlusion", "title": "Occlusion", "blank": [False] * 4, "pictures": 4, "alike": 0.1}
    tests |= {"shuffled": [0.5, 0.2, 0.1], "deletion": order, "insertion": order, "failed": ["alike"]}
    block = {"block": "lbp", "features": 10} | {
        f"{name}{end}": 0.1 for name in ("shapley", "drop") for end in ("", "_low", "_high")
    }
    parts = {"auc": 0.8, "chance": 0.5, "clusters": 9, "repeats": 3, "blocks": [block]}
    summary = {**plain.summary, "methods": [tests], "importance": parts}
    maps = (MethodMaps("Occlusion", plain.pictures, tests),)
    write_explanation(replace(plain, summary=summary, tested=plain.pictures, methods=maps), explained)
    facts = json.loads((explained / "explain/explain.json").read_text())

    def report_explanation(path: Path) -> None:
        path.replace(explained / "explain/explain.json")
        write_report(explained)

    found["explain.json"] = Door(report_explanation, ".json", [facts], changes=changed_object)
    return found


def weight_doors(folder: Path) -> dict[str, Door]:
    """Weights that are imported and exported, and a search's database."""
    import torch
    from ucf_fakes import DETECTOR, narrow_config, save

    from unmasked.app.verbs import export_checkpoint, import_checkpoint
    from unmasked.training.tuning.space import SearchConfig, flat_space
    from unmasked.training.tuning.study import Search, _open_study

    config = narrow_config()
    model, place = DETECTOR.build(config, ["real", "fake"]), folder / "stored"
    card = {"method_classes": ["real", "fake"], "size_px": 64, "config": config.model_dump(mode="json")}
    weights = save(model, place / "detector.safetensors", card).read_bytes()
    settings = {"model": {"width": config.model.width}, "size_px": 64, "out": folder / "imported"}
    settings["classes"] = ["real", "fake"]
    flat = io.BytesIO()
    torch.save(model.state_dict(), flat)

    def import_file(path: Path) -> None:
        import_checkpoint.run(_config(import_checkpoint, file=path, **settings))

    def export_file(path: Path) -> None:
        path.replace(place / "detector.safetensors")
        export_checkpoint.run(_config(export_checkpoint, checkpoint=place, out=folder / "flat.pth"))

    space = flat_space({"optimiser": {"lr": {"low": 1e-4, "high": 1e-1, "log": True}}}, config)
    search = Search(pd.DataFrame(), folder, config, space, SearchConfig(trials=1), folder / "study", DETECTOR)
    search.out.mkdir()
    _open_study(search)
    database = next(search.out.glob("*.db"))
    study = database.read_bytes()

    def open_study(path: Path) -> None:
        path.replace(database)
        _open_study(search)

    return {
        "import .pth": Door(import_file, ".pth", [flat.getvalue()]),
        "import .safetensors": Door(import_file, ".safetensors", [weights]),
        "export": Door(export_file, ".safetensors", [weights]),
        "study.db": Door(open_study, ".db", [study]),
    }


def call(verb: str, *arguments: object) -> None:
    """Types a whole command; a refusal is an InputError, any other end than 0 and 1 what ended it."""
    done = CliRunner().invoke(app, [verb, *map(str, arguments)])
    if done.exit_code == 2:
        raise InputError(done.stderr)
    if done.exit_code not in (0, 1) or not isinstance(done.exception, (SystemExit, type(None))):
        raise done.exception or AssertionError(f"exit code {done.exit_code}")


def case_doors(folder: Path) -> dict[str, Door]:
    """`inspect` with a changed card, `verify` of a changed case; their faces are stored ones."""
    import torch
    from ucf_fakes import save

    from unmasked.evaluation.abstention import Band
    from unmasked.evaluation.fitted import Fitted
    from unmasked.evaluation.likelihood import fit_likelihood
    from unmasked.evaluation.thresholds import Threshold
    from unmasked.inspection import examine
    from unmasked.preprocessing.pool import Outcome
    from unmasked.ucf.model import UCF

    place, rows = folder / "cases", []
    (place / "found").mkdir(parents=True)
    for frame in range(4):
        picture(64).save(place / "found" / f"{frame:05d}_0.png")
        rows.append({"frame": frame, "time_s": frame / 5, "face": 0, "size_px": 90.0,
                     "crop": f"{frame:05d}_0.png", "status": "ok"})  # fmt: skip

    def stored(tasks: list[Any], config: object, **_: object) -> Iterator[Any]:
        for task in tasks:
            shutil.copytree(place / "found", task.workdir, dirs_exist_ok=True)
            yield Outcome(task, [{**row, "crop": f"{task.folder}/{row['crop']}"} for row in rows])

    facts_of, known = examine.file_facts, {}

    def stored_facts(files: list[Path], budget: object) -> dict[Path, Any]:
        if not known:
            known["facts"] = next(iter(facts_of(files, budget).values()))  # by a process of its own
        return dict.fromkeys(files, known["facts"])

    examine.crop_files, examine.file_facts = stored, stored_facts
    threshold = Threshold(0.5, "eer", "A, val split", n_real=20, n_fake=20, fpr=0.1, tpr=0.8)
    scores = np.r_[np.linspace(0, 0.7, 20), np.linspace(0.3, 1, 20)]
    fitted = Fitted(threshold, band=Band(0.4, 0.6), likelihood=fit_likelihood([0] * 20 + [1] * 20, scores))
    torch.manual_seed(0)
    card = {"method_classes": ["real", "Deepfakes"], "size_px": 64, **fitted.to_dict()}
    save(UCF(width=0.125, method_classes=2).eval(), place / "weights", card)
    (place / "clip.mp4").write_bytes(b"clip")
    given = (f"checkpoint={place / 'weights'}", "overwrite=true")
    call("inspect", place / "clip.mp4", *given, f"out={place / 'case'}")
    cards = json.loads((place / "weights/detector.json").read_text())
    case = json.loads((place / "case/case.json").read_text())

    def verify(path: Path) -> None:
        path.replace(place / "case/case.json")
        call("verify", place / "case")

    def inspect(path: Path) -> None:
        before = (place / "weights/detector.json").read_bytes()
        path.replace(place / "weights/detector.json")
        try:
            call("inspect", place / "clip.mp4", *given, f"out={place / 'again'}")
        finally:
            (place / "weights/detector.json").write_bytes(before)

    whole = {path.relative_to(place / "case"): path.read_bytes() for path in (place / "case").rglob("*.*")}

    def verify_folder(path: Path) -> None:
        changed = place / "changed"
        shutil.rmtree(changed, ignore_errors=True)
        for name, content in whole.items():
            (changed / name).parent.mkdir(parents=True, exist_ok=True)
            (changed / name).write_bytes(content)
        for change in json.loads(path.read_bytes()):
            with suppress(OSError, ValueError):  # a name that no file can have
                _change_folder(changed, **change)
        call("verify", changed, f"file={place / 'clip.mp4'}", f"checkpoint={place / 'weights'}")

    return {
        "inspect card.json": Door(inspect, ".json", [cards], changes=changed_object),
        "verify case.json": Door(verify, ".json", [case], changes=changed_object),
        "case folder": Door(
            verify_folder, ".json", [[]], changes=lambda _: changed_folder([str(name) for name in whole])
        ),
    }


@st.composite
def changed_folder(draw: Any, names: list[str]) -> bytes:
    """What happens to files of a folder, as JSON: other bytes, links, pipes, folders, gone, or one more."""
    changes = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["bytes", "cut", "link", "pipe", "folder", "remove", "add"]))
        name = draw(st.one_of(st.sampled_from(names), NASTY_TEXT)) if kind == "add" else None
        target = draw(
            st.sampled_from(
                ["/etc/hostname", "/dev/zero", "/proc/self/mem", ".", "..", "case.json", "absent"]
            )
        )
        change = {"kind": kind, "name": name or draw(st.sampled_from(names)), "target": target}
        changes.append({**change, "at": draw(st.integers(0, 5000)), "byte": draw(st.integers(0, 255))})
    return json.dumps(changes).encode("utf-8", "surrogatepass")


def _change_folder(folder: Path, kind: str, name: str, target: str, at: int, byte: int) -> None:
    path = folder / name
    # Never through a link that was put there: where it leads is not ours to write.
    is_inside = Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(folder))
    if not is_inside or path.name == "..":
        return
    if path.is_symlink() or path.is_fifo():
        path.unlink()
    content = bytearray(path.read_bytes()) if path.is_file() else bytearray(b"x" * 9)
    if kind in ("bytes", "cut") and content:
        content[at % max(1, len(content))] = byte
        path.write_bytes(content if kind == "bytes" else content[: at % max(1, len(content))])
        return
    path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "add":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def state_doors(folder: Path) -> dict[str, Door]:
    """An ensemble's stored card, and the records of an audit that is added to.

    The audit of the same scores is computed once: what is changed is read after it.
    """
    from unmasked.app.verbs import fairness
    from unmasked.evaluation.predictions import PREDICTIONS

    audits_of, known = fairness._audits, {}

    def stored_audits(config: Any, *given: Any) -> Any:
        if config.predictions not in known:
            known[config.predictions] = audits_of(config, *given)
        return copy.deepcopy(known[config.predictions])

    fairness._audits = stored_audits
    table = scored_table()
    place = folder / "states"
    for name, seen in (("a", 0.0), ("b", 0.3)):
        scores = table.assign(detector=name, score=table["score"] * (1 - seen), checkpoint=name * 64)
        PREDICTIONS.write(scores, place / f"{name}.parquet")
    members = f"predictions=['{place / 'a.parquet'}','{place / 'b.parquet'}']"
    call("ensemble", members, f"out={place / 'first'}", "n_boot=0", "method=weighted")
    card = json.loads((place / "first/detector.json").read_text())
    by = ("by=[skin_tone_group]", "n_boot=100", "n_perm=100", "min_clusters=1", "min_samples=1")
    call("fairness", f"predictions={place / 'a.parquet'}", *by, f"out={place / 'since'}")
    for part in "xyz":
        new = table.assign(detector="a", checkpoint="a" * 64, video=table["video"] + part)
        PREDICTIONS.write(new.assign(identity=new["identity"] + part), place / f"{part}.parquet")
    since = (*by, f"out={place / 'now'}", f"since={place / 'since'}", "overwrite=true")
    call("fairness", f"predictions={place / 'x.parquet'}", *since)
    before = {name: (place / "since" / name).read_bytes() for name in ("fairness.json", "monitor.json")}

    def apply(path: Path) -> None:
        call("ensemble", members, f"out={place / 'second'}", "n_boot=0", "method=weighted", f"stored={path}")

    def add_to(name: str) -> Door:
        def read(path: Path) -> None:
            for other, content in before.items():
                (place / "since" / other).write_bytes(content)
            path.replace(place / "since" / name)
            call("fairness", f"predictions={place / 'y.parquet'}", *since)

        return Door(read, ".json", [json.loads(before[name])], changes=changed_object)

    return {"ensemble stored": Door(apply, ".json", [card], changes=changed_object)} | {
        f"since {name}": add_to(name) for name in before
    }


def _config(verb: Any, **given: Any) -> Any:
    return verb.Config.model_validate(given)


# The watch

STARTS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
)
LISTENS = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")


class Watch:
    """What audit hooks see of programs, sockets and files outside, while a door is open."""

    def __init__(self, folder: Path) -> None:
        self.inside = str(folder.resolve())
        readable = {
            sys.prefix,
            sys.base_prefix,
            str(REPOSITORY.resolve()),
            "/proc/self",
            "/sys/devices/system/cpu",
        }
        self.readable = tuple(str(Path(path).resolve()) + os.sep for path in readable if path)
        self.seen: list[str] = []
        self.is_on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event in STARTS or event in LISTENS:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            writes = (
                bool(arguments[2] & (os.O_WRONLY | os.O_RDWR)) if isinstance(arguments[2], int) else False
            )
            is_inside = path.startswith(self.inside + os.sep)
            if not is_inside and (writes or not path.startswith(self.readable)):
                self.seen.append(f"open {path} ({'write' if writes else 'read'})")


class Closed(BaseException):
    """Ends Hypothesis at once: an Exception is a finding, a return draws what is left."""


def fuzz(
    door: Door, count: int, number: int, folder: Path, watch: Watch, seconds: float = float("inf")
) -> dict[str, Any]:
    """What ``count`` changed inputs did at a door, or as many as there was time for."""
    result: dict[str, Any] = {"inputs": 0, "refused": 0, "read": 0, "findings": Counter(), "first": {}}
    closes_s = time.monotonic() + seconds

    def note(kind: str, content: bytes, details: str) -> None:
        result["findings"][kind] += 1
        result["first"].setdefault(kind, {"input": repr(content[:300]), "details": details[-1500:]})

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(range(len(door.examples))).flatmap(lambda at: door.changes(door.examples[at])))
    def one(content: bytes) -> None:
        if time.monotonic() > closes_s:
            raise Closed
        path = folder / f"input{door.suffix}"
        path.write_bytes(content)
        result["inputs"] += 1
        signal.setitimer(signal.ITIMER_PROF, TIME_S)  # of the processor, whose others may be at work
        signal.alarm(10 * TIME_S)
        watch.seen.clear()
        watch.is_on = True
        try:
            door.read(path)
            result["read"] += 1
        except door.allowed:
            result["refused"] += 1
        except BaseException as error:
            watch.is_on = False
            last = traceback.extract_tb(error.__traceback__)
            ours = next((entry for entry in reversed(last) if "unmasked" in entry.filename), last[-1])
            note(
                f"{type(error).__name__} in {Path(ours.filename).name}:{ours.name}",
                content,
                traceback.format_exc(),
            )
        finally:
            watch.is_on = False
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
        for event in watch.seen:
            note(event, content, event)

    with suppress(Closed):
        one()
    result["findings"] = dict(result["findings"])
    return result


def run(
    count: int,
    number: int = 0,
    names: list[str] | None = None,
    *,
    make: Callable[[Path], dict[str, Door]] = doors,
    seconds: float = float("inf"),
) -> dict[str, Any]:
    """The results of every door (or of those named), and the memory they took.

    Args:
        count: changed inputs a door.
        number: seed.
        names: of the doors; None is all.
        make: the doors by name; gets a folder for what the intact examples need.
        seconds: after which a door is closed.
    """
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    np.seterr(all="ignore")

    def late(number: int, frame: Any) -> None:
        raise TimeoutError(f"took longer than {TIME_S} s")

    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGPROF, late)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["TMPDIR"] = tempfile.tempdir = place
        known = make(folder)
        known = {name: known[name] for name in names or known}
        watch = Watch(folder)
        for name, door in known.items():  # what is imported late is imported now
            path = folder / f"intact{door.suffix}"
            path.write_bytes(_as_bytes(door, door.examples[0]))
            with suppress(InputError) if name == "card.json" else nullcontext():  # its weights fit no UCF
                door.read(path)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        found = {}
        for name, door in known.items():
            began_s = time.monotonic()
            found[name] = fuzz(door, count, number, folder, watch, seconds)
            told = {key: value for key, value in found[name].items() if key != "first"}
            taken_s = round(time.monotonic() - began_s, 1)
            print(json.dumps({"door": name, **told, "s": taken_s, "mib": _peak_mib()}), file=sys.stderr)
    return {"doors": found, "peak_rss_mib": _peak_mib()}


def _as_bytes(door: Door, content: Content) -> bytes:
    if isinstance(content, bytes):
        return content
    if door.changes is changed_table:
        return "\n".join(",".join(row) for row in content).encode()
    return json.dumps(content).encode()


def _peak_mib() -> int:
    """Resident memory at its highest; ru_maxrss begins with what the parent held when it forked."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) >> 10


def main() -> None:
    """Runs the doors that the command line names."""
    from fuzz_late import late_doors, server_doors

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = {"verbs": verb_doors, "weights": weight_doors, "cases": case_doors, "states": state_doors}
    kinds |= {"late": late_doors, "server": server_doors}
    for name, make in kinds.items():
        parser.add_argument(f"--{name}", dest="make", action="store_const", const=make, default=doors)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("names", nargs="*", metavar="DOOR")
    given = parser.parse_args()
    with redirect_stdout(io.StringIO()):  # what commands print
        found = run(given.count, given.seed, given.names or None, make=given.make, seconds=given.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
