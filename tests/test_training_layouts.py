"""From every source's layout to a report: two steps of training, scores, metrics, fairness, a page."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from layout_trees import AVCELEB, PP_VIDEOS, PREVIEW, TREES, V2_TEST, V2_TRAIN, archive, touch
from preprocessing_fakes import write_video
from typer.testing import CliRunner

from unmasked.analysis.reports.gallery import Drawing, Gallery
from unmasked.app.cli import app
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.scan import sources

SWAPS = [(f"id{a}", f"id{b}") for a, b in ((0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4))]
CELEB = (
    *(f"Celeb-real/id{n}_0000" for n in range(6)),
    *("YouTube-real/00000", "YouTube-real/00001"),
    *(f"Celeb-synthesis/{a}_{b}_0000" for a, b in SWAPS),
)
CELEB_LIST = ("1 YouTube-real/00001.mp4", "1 Celeb-real/id4_0000.mp4", "0 Celeb-synthesis/id4_id5_0000.mp4")


def celeb_df_pp(root):
    more = (f"Celeb-synthesis/FaceSwap/Celeb-DF/{a}_{b}_0000" for a, b in SWAPS)
    reals = (f"Celeb-real/id{n}_0000" for n in range(6))
    return TREES["celeb_df_pp"](root, videos=tuple(dict.fromkeys((*PP_VIDEOS, *more, *reals))))


def df40(root):
    """Reals of other sets are needed; here some method brings them along."""
    for split in ("train", "test"):
        for number in range(6):
            for place in (f"heygen/real/frames/r{number}", f"heygen/fake/frames/f{number}"):
                touch(root / split / place / "000.png")
    return TREES["df40"](root)


def dfdc(root):
    TREES["dfdc"](root)
    labels = root / "validation" / "labels.csv"
    labels.write_text(labels.read_text() + "wwwwwwwwww.mp4,1\n")
    touch(root / "validation" / "wwwwwwwwww.mp4")
    return root


def dfdc_preview(root):
    clips = dict(PREVIEW)
    for actor, other in ((11, 12), (13, 14), (15, 16)):
        clips[f"original_videos/{actor}/{actor}_A_001.mp4"] = ("real", "train", actor, None)
        name = f"method_A/{actor}/{actor}_A/{other}_{actor}_A_001.mp4"
        clips[name] = ("fake", "train", actor, other)
    return TREES["dfdc_preview"](root, clips=clips)


SPLITS_OF_DEEPER = {"train": [["000", "010"]], "val": [["001", "011"]], "test": [["002", "003"]]}


def deeperforensics(root):
    TREES["faceforensics"](root.parent / "targets", splits=SPLITS_OF_DEEPER)
    return TREES["deeperforensics"](root, variants=("end_to_end",))


def fakeavceleb(root):
    rows = list(AVCELEB)
    for number in range(8):
        who = f"id1{number:04d}"
        rows.append((who, "-", "real", "RealVideo-RealAudio", "African", "men", "00001.mp4"))
        rows.append((who, "-", "wav2lip", "FakeVideo-FakeAudio", "African", "men", "00001_wavtolip.mp4"))
    return TREES["fakeavceleb"](root, rows=rows)


def wild_deepfake(root):
    for name in ("real_train", "real_test", "fake_train", "fake_test"):
        label = name.split("_")[0]
        for number in range(4):
            frames = [
                (f"{number}/{label}/0/{frame}.png", image(f"{name}{number}{frame}")) for frame in (0, 1)
            ]
            archive(root / name / f"{number}.tar.gz", frames)
    return root


def ai_face(root):
    reals = tuple(f"AI_Face_imagesV2/Real/FFHQ/1{n:04d}.png,0,2,9,0,2,2" for n in range(6))
    fakes = tuple(f"AI_Face_imagesV2/DMs/DCFACe/1{n:04d}/6.jpg,1,3,6,1,1,4" for n in range(6))
    return TREES["ai_face"](
        root, train=(*V2_TRAIN, *reals[:4], *fakes[:4]), test=(*V2_TEST, *reals[4:], *fakes[4:])
    )


def folder(root):
    for split in ("Train", "valid", "test"):
        for kind in ("Real", "Fake"):
            for name in ("a.jpg", "b.png", "c.mp4"):
                touch(root / split / kind / name)
    return root


def table(root):
    lines = ["file,label,kind,gender,age"]
    for number in range(12):
        lines.append(f"{number}.png,{number % 2},image,{'female' if number % 3 else 'male'},40")
        touch(root / f"{number}.png")
    touch(root / "manifest.csv", "\n".join(lines) + "\n")
    return root


def celeb_df_v1(root):
    absent = [f"0 Celeb-synthesis/id9_id8_{n:04d}.mp4" for n in range(97)]
    return TREES["celeb_df"](root, videos=CELEB, test=(*CELEB_LIST, *absent))


def deepfakedetection(root):
    names = [f"{n:02d}_{n + 1:02d}__meeting_serious__YVGY8LO{n % 10}" for n in range(1, 16, 2)]
    return TREES["deepfakedetection"](root, fakes=names)


FLAT_PAIRS = [(f"{n:03d}", f"{n + 1:03d}") for n in range(0, 8, 2)]
FRACTIONS = ("split_fractions=[0.5,0.25,0.25]",)
HELD_OUT = ("data.val_from_train=0.4",)
# By source: how to lay it out, keys of scan, keys of train.
LAYOUTS = {
    "faceforensics": (TREES["faceforensics"], (), ()),
    "celeb_df": (lambda root: TREES["celeb_df"](root, videos=CELEB, test=CELEB_LIST), (), HELD_OUT),
    "celeb_df_v1": (celeb_df_v1, (), HELD_OUT),
    "celeb_df_pp": (celeb_df_pp, (), HELD_OUT),
    "faceforensics_flat": (
        lambda root: TREES["faceforensics_flat"](root, pairs=FLAT_PAIRS),
        FRACTIONS,
        (),
    ),
    "df40": (df40, (), HELD_OUT),
    "deepfakedetection": (deepfakedetection, FRACTIONS, ()),
    "deepfakebench": (TREES["deepfakebench"], (), ()),
    "dfdc": (dfdc, (), ()),
    "dfdc_preview": (dfdc_preview, (), HELD_OUT),
    "deeperforensics": (deeperforensics, ("targets=../targets",), ()),
    "uadfv": (lambda root: TREES["uadfv"](root, count=8), FRACTIONS, ()),
    "fakeavceleb": (fakeavceleb, FRACTIONS, ()),
    "wild_deepfake": (wild_deepfake, (), HELD_OUT),
    "ai_face": (ai_face, (), HELD_OUT),
    "folder": (folder, (), ()),
    "table": (table, FRACTIONS, ()),
}
# Folders of a user's own: how to lay them out, keys of scan.
PLAIN = [f"{kind}/{number}.png" for kind in ("real", "fake") for number in range(8)]
OWN = {
    "plain": (PLAIN, ("split=train",)),
    "unlabelled": ([f"{number}.png" for number in range(4)], ()),
    "unlabelled_train": ([f"{number}.png" for number in range(4)], ("split=train",)),
    "one_video": (["clip.mp4"], ()),
    "one_class": ([f"real/{number}.png" for number in range(4)], ("split=train",)),
    "one_person": (PLAIN, ("split=train",)),
}


def image(name: str) -> bytes:
    """A small picture as PNG, another one for each name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    pixels = cv2.resize(rng.uniform(20, 235, (4, 4, 3)).astype(np.float32), (40, 40))
    return cv2.imencode(".png", pixels.astype(np.uint8))[1].tobytes()


def fill(root: Path) -> None:
    """Pictures and short videos into the empty files of a tree."""
    clips = [write_video(root.parent / f"clip{n}.mp4", 4, draw=lambda i, n=n: frame(n, i)) for n in range(3)]
    for path in sorted(root.rglob("*")):
        if not path.is_file() or path.stat().st_size:
            continue
        name = path.relative_to(root).as_posix()
        if path.suffix == ".mp4":
            shutil.copyfile(clips[zlib.crc32(name.encode()) % len(clips)], path)
        elif path.suffix.lower() in (".png", ".jpg"):
            path.write_bytes(image(name))


def frame(clip: int, index: int) -> np.ndarray:
    return np.full((40, 40, 3), 40 + 60 * clip + 5 * index, np.uint8)


def unmasked(*arguments: object) -> str:
    """What a command printed; it must have succeeded."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, f"{arguments}\n{done.output}\n{done.exception!r}"
    return done.output


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Every layout scanned, each under a name of its own, and all of them cropped in one go."""
    base = tmp_path_factory.mktemp("layouts")
    for name, (lay_out, keys, _) in LAYOUTS.items():
        root = base / name / name
        root.mkdir(parents=True)
        lay_out(root)
        fill(base / name)
        keys = [key.replace("..", str(root.parent)) for key in keys]
        unmasked("scan", f"root={root}", f"out={base / name / 'manifest.parquet'}", *keys)
    for name, (files, keys) in OWN.items():
        for file in files:
            touch(base / name / name / file)
        fill(base / name)
        unmasked("scan", f"root={base / name / name}", f"out={base / name / 'manifest.parquet'}", *keys)
    tables = [
        pd.read_parquet(base / name / "manifest.parquet").assign(source=name) for name in (*LAYOUTS, *OWN)
    ]
    manifest = pd.concat(tables, ignore_index=True)
    # Two sources read the same dataset, and nothing says who most people are.
    several = manifest.groupby("source")["dataset"].transform("nunique") > 1
    manifest["dataset"] = manifest["source"].where(~several, manifest["source"] + " " + manifest["dataset"])
    turn = manifest.groupby(["dataset", "split", "label"], dropna=False).cumcount() % 2
    manifest["gender"] = np.where(turn, "female", "male")
    manifest.loc[manifest["source"] == "one_person", "identity"] = "Anna"
    MANIFEST.write(manifest.drop(columns="source"), base / "manifest.parquet")
    made = ("crops=as_is", "frames_per_video=2", "size_px=32", f"out={base / 'faces'}")
    unmasked("preprocess", f"manifest={base / 'manifest.parquet'}", *made)
    faces = pd.read_parquet(base / "faces" / "faces.parquet")
    assert set(faces["status"]) == {"ok"}
    assert len(faces[["dataset", "video", "compression"]].drop_duplicates()) == len(manifest)
    return base, faces


def faces_of(work, dataset: str) -> Path:
    """A faces table of one dataset alone."""
    base, faces = work
    path = base / "faces" / f"{dataset}.parquet"
    faces[faces["dataset"] == dataset].to_parquet(path)
    return path


SMALL = ("detector=train_fakes", "training.max_steps=2", "training.batch_images=4")
NARROW = ("training.max_steps=2", "training.batch_pairs=2", "model.width=0.125", "model.size_px=64")


def test_each_source_has_a_layout_here():
    assert set(LAYOUTS) == set(sources())


@pytest.mark.slow
@pytest.mark.parametrize("source", LAYOUTS)
def test_every_layout_is_trained_on_validated_scored_and_evaluated(work, tmp_path, source):
    _, faces = work
    dataset = "deepfakebench FaceForensics++" if source == "deepfakebench" else source
    table, keys = faces_of(work, dataset), LAYOUTS[source][2]
    unmasked("train", *SMALL, f"faces={table}", f"out={tmp_path}", *keys)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 2
    assert all(0 <= record["val/video_auc"] <= 1 for record in records)
    data = json.loads((tmp_path / "detector.json").read_text())["training_data"]
    assert ("val_from_train" in data) == bool(keys)
    assert data["datasets"] == [dataset]
    scores = tmp_path / "predictions.parquet"
    unmasked("predict", "detector=train_fakes", f"faces={table}", f"checkpoint={tmp_path}", f"out={scores}")
    unmasked("evaluate", f"predictions={scores}", f"out={tmp_path}", "n_boot=20", "protocols=[]")
    counted = json.loads((tmp_path / "metrics.json").read_text())["datasets"][dataset]["n"]
    test = faces[(faces["dataset"] == dataset) & (faces["split"] == "test")].drop_duplicates("video")
    assert counted["videos"] == len(test)
    assert counted["fake_videos"] == int(test["label"].sum()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("source", ["wild_deepfake", "ai_face", "folder", "deeperforensics"])
def test_ucf_learns_on_layouts_without_pairs_or_with_one_method(work, tmp_path, source):
    keys = [*LAYOUTS[source][2], *([] if source == "ai_face" else ["loss.specific=0"])]
    unmasked("train", *NARROW, f"faces={faces_of(work, source)}", f"out={tmp_path}", *keys)
    assert (tmp_path / "detector.safetensors").is_file()


def keep_numbers(gallery, name, display, alt, caption=""):
    """A figure's numbers without its picture, in place of `Gallery.draw`."""
    drawing = Drawing(name, '<svg viewBox="0 0 1 1"></svg>', display.table(), alt, caption)
    gallery.drawings[name] = drawing
    return drawing.html


@pytest.mark.slow
def test_all_layouts_at_once_are_audited_and_reported(work, tmp_path, monkeypatch):
    # A hundred pictures take minutes to draw; their numbers, and all that is around them, take seconds.
    monkeypatch.setattr(Gallery, "draw", keep_numbers)
    base, faces = work
    labelled = [name for name in faces["dataset"].unique() if name not in OWN]
    faces[faces["dataset"].isin(labelled)].to_parquet(base / "faces" / "all.parquet")
    table = f"faces={base / 'faces' / 'all.parquet'}"
    # DF40's fakes and the reals of another dataset, as its authors train on them.
    unmasked("train", *SMALL, table, f"out={tmp_path}", "dataset=[df40,faceforensics]")
    card = json.loads((tmp_path / "detector.json").read_text())
    assert card["training_data"]["datasets"] == ["df40", "faceforensics"]
    scores = tmp_path / "predictions.parquet"
    unmasked("predict", "detector=train_fakes", table, f"checkpoint={tmp_path}", f"out={scores}")
    unmasked("evaluate", f"predictions={scores}", f"out={tmp_path}", "n_boot=20")
    quick = ("n_boot=100", "n_perm=100", "min_clusters=1", "min_samples=1", "noise=[]")
    said = unmasked("fairness", f"predictions={scores}", "by=[gender]", f"out={tmp_path}", *quick)
    unmasked("report", f"run={tmp_path}")
    metrics = json.loads((tmp_path / "metrics.json").read_text())["datasets"]
    audits = json.loads((tmp_path / "fairness.json").read_text())["datasets"]
    page = (tmp_path / "report.html").read_text()
    for name in labelled:
        assert name in metrics
        assert name in audits or f"not audited: {name}" in said
        assert name in page
    assert len(audits) > len(labelled) / 2


# Folders of a user's own


@pytest.fixture(scope="module")
def detector(work):
    """A detector of plain images."""
    out = work[0] / "plain_run"
    unmasked("train", *SMALL, f"faces={faces_of(work, 'plain')}", f"out={out}", "data.val_from_train=0.25")
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "keys", "sentence"),
    [
        ("unlabelled_train", HELD_OUT, "none of the 4 crops of train and val has a label"),
        ("one_class", HELD_OUT, "none of them fake; training needs reals and fakes"),
        ("one_person", HELD_OUT, r"sets nothing aside: the 16 videos and images of train are of one person"),
        ("plain", (), r"set some of train aside with data\.val_from_train=0\.1"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_sentence(work, tmp_path, name, keys, sentence):
    arguments = ["train", *SMALL, f"faces={faces_of(work, name)}", f"out={tmp_path / 'run'}", *keys]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, done.output
    assert re.search(sentence, done.stderr), done.stderr
    assert not list((tmp_path / "run").glob("detector.*"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "crops"), [("unlabelled", 4), ("one_video", 2)])
def test_files_that_nobody_labelled_are_scored_and_the_scores_written(work, detector, tmp_path, name, crops):
    # They were all scored, and then the table was refused.
    scores = tmp_path / "predictions.parquet"
    given = ("detector=train_fakes", f"faces={faces_of(work, name)}", f"checkpoint={detector}")
    said = unmasked("predict", *given, f"out={scores}")
    assert f"{crops} of them are of files that nobody labelled" in said
    by_file = pd.read_csv(next(tmp_path.rglob("*.by_file.csv")))
    assert len(by_file) == {"unlabelled": 4, "one_video": 1}[name]
    assert by_file["crops"].sum() == crops
    assert by_file["score"].between(0, 1).all()
    table = pd.read_parquet(scores)
    assert len(table) == crops
    assert table["label"].isna().all()
    assert table["score"].between(0, 1).all()
    for verb in ("evaluate", "fairness", "threshold", "mitigate"):
        more = [] if verb in ("evaluate", "threshold") else ["by=[gender]"]
        done = CliRunner().invoke(app, [verb, f"predictions={scores}", f"out={tmp_path / 'out'}", *more])
        assert done.exit_code == 2, done.output
        assert f"none of its {crops} rows has a label" in done.stderr
    assert not (tmp_path / "out").exists()
    unmasked("explain", *given, "perplexity=2", "methods=[]", f"out={tmp_path / 'maps'}")
    pictured = pd.read_parquet(tmp_path / "maps" / "explain" / "pictured.parquet")
    assert len(pictured) == pictured["video"].nunique() == {"unlabelled": 4, "one_video": 1}[name]


@pytest.mark.slow
def test_rows_without_a_label_are_left_out_beside_others_and_counted(work, tmp_path):
    base, faces = work
    mixed = faces[faces["dataset"] == "folder"].copy()
    mixed.loc[mixed["video"].isin(["test/Real/a", "Train/Fake/b"]), ["label", "method"]] = np.nan
    mixed.to_parquet(base / "faces" / "mixed.parquet")
    table = f"faces={base / 'faces' / 'mixed.parquet'}"
    unmasked("train", *SMALL, table, f"out={tmp_path}")
    data = json.loads((tmp_path / "detector.json").read_text())["training_data"]
    assert data["crops_without_label"] == 1
    assert data["train"]["crops"] == len(mixed[mixed["split"] == "train"]) - 1
    scores = tmp_path / "predictions.parquet"
    unmasked("predict", "detector=train_fakes", table, f"checkpoint={tmp_path}", f"out={scores}")
    known = len(pd.read_parquet(scores)) - 1
    said = unmasked("evaluate", f"predictions={scores}", f"out={tmp_path}", "n_boot=20", "protocols=[]")
    assert re.search(rf"rows without a label +left out: 1 of {known + 1}", said)
    metrics = json.loads((tmp_path / "metrics.json").read_text())["datasets"]["folder"]["n"]
    assert (metrics["real_videos"], metrics["fake_videos"]) == (2, 3)
    unmasked("report", f"run={tmp_path}")
    # They are explained beside the others, as a group of their own.
    given = ["detector=train_fakes", table, f"checkpoint={tmp_path}", "perplexity=3", "methods=[]"]
    unmasked("explain", *given)
    pictured = pd.read_parquet(tmp_path / "explain" / "pictured.parquet")
    assert pictured["method"].value_counts().to_dict() == {"fake": 3, "real": 2, "unlabelled": 1}
    purity = json.loads((tmp_path / "explain" / "explain.json").read_text())["purity"]
    assert set(purity) >= {"real or fake"}
