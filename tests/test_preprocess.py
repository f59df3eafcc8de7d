"""Every sampled frame has a row, whatever happens to a file, a worker or the run itself."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from preprocessing_fakes import (
    BLUE,
    GREY,
    DyingDetector,
    HangingDetector,
    RaisingDetector,
    SquareDetector,
    manifest_of,
    square_frame,
    write_video,
)

from unmasked.app.verbs import preprocess as command
from unmasked.app.verbs.preprocess import _masks, summary
from unmasked.datasets.errors import InputError
from unmasked.preprocessing import overlay
from unmasked.preprocessing.align import similarity_matrix, template, warp
from unmasked.preprocessing.config import PreprocessConfig, recipe, recipe_hash
from unmasked.preprocessing.extract import Task, extract
from unmasked.preprocessing.faces import BOX, FACES, MATRIX, POINTS
from unmasked.preprocessing.overlay import MARK, THUMB_PX
from unmasked.preprocessing.parts import safe_folders
from unmasked.preprocessing.run import preprocess
from unmasked.preprocessing.sheet import (
    FAKE,
    GAP_PX,
    HEADING_PX,
    MARGIN_PX,
    REAL,
    TILE,
    TILE_PX,
    TITLE_PX,
    contact_sheet,
)

CONFIG = PreprocessConfig(frames_per_video=4, size_px=64, workers=1)


def run(manifest, out, config=CONFIG, detector=SquareDetector, **options):
    return preprocess(manifest, out, config, detector=detector, **options)


def contents(folder):
    """The bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def blue_and_grey(root, count=4, blue=(1,)):
    """``count`` videos of which those in ``blue`` have a blue background."""
    paths = [f"{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        colour = BLUE if number in blue else GREY
        write_video(root / path, 6, draw=lambda index, colour=colour: square_frame(index, colour=colour))
    return manifest_of(root, paths)


def task_of(root, path, kind="video"):
    return Task(root=str(root), path=path, kind=kind, folder="crops/d/v", workdir=str(root / "work"))


# One video


def test_rows_and_crops_are_what_the_frames_say(tmp_path):
    write_video(tmp_path / "a.mp4", 12)
    rows, crops = extract(task_of(tmp_path, "a.mp4"), CONFIG, SquareDetector())
    assert [row["frame"] for row in rows] == [0, 3, 7, 11]
    for row in rows:
        left = 8 + 2 * row["frame"]
        assert [row[name] for name in BOX] == pytest.approx([left, 20, left + 32, 52], abs=1)
        matrix = np.array([row[name] for name in MATRIX]).reshape(2, 3)
        points = np.array([row[name] for name in POINTS]).reshape(5, 2)
        np.testing.assert_allclose(matrix, similarity_matrix(points, 64))
        np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], template(64), atol=0.5)
        assert row["crop"] == f"crops/d/v/{row['frame']:05d}_0.png"
        assert row["size_px"] == pytest.approx(32, abs=1)
        assert row["detector_score"] == 1.5
        assert row["time_s"] == pytest.approx(row["frame"] / 25)
    crop = cv2.imdecode(np.frombuffer(crops["00000_0.png"], np.uint8), cv2.IMREAD_COLOR_RGB)
    expected = warp(square_frame(0), np.array([rows[0][name] for name in MATRIX]).reshape(2, 3), 64)
    assert crop.shape == (64, 64, 3)
    assert abs(crop.astype(int) - expected).mean() < 6  # the video is compressed
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    assert rows[0]["blur"] == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var())


def test_a_frame_without_a_face_has_a_row_and_no_crop(tmp_path):
    write_video(tmp_path / "a.mp4", 4, draw=lambda index: square_frame(index) // (1 if index % 2 else 3))
    rows, crops = extract(task_of(tmp_path, "a.mp4"), CONFIG, SquareDetector())
    assert [row["status"] for row in rows] == ["no_face", "ok", "no_face", "ok"]
    assert rows[0]["reason"] is None
    assert sorted(crops) == ["00001_0.png", "00003_0.png"]


def test_a_video_with_a_wrong_frame_count_is_sampled_again(tmp_path):
    path = write_video(tmp_path / "liar.avi", 20, codec="mpeg4")
    content = bytearray(path.read_bytes())
    content[content.index(b"strh") + 40] = 90
    path.write_bytes(content)
    rows, _ = extract(task_of(tmp_path, "liar.avi"), CONFIG, SquareDetector())
    assert [(row["frame"], row["status"]) for row in rows] == [(0, "ok"), (6, "ok"), (12, "ok"), (19, "ok")]


def test_jpeg_crops_are_smaller_and_have_the_quality_in_the_recipe(tmp_path):
    Image.fromarray(square_frame(0)).save(tmp_path / "a.png")
    sizes = {}
    for quality in (40, 95):
        config = PreprocessConfig(crop_format="jpeg", jpeg_quality=quality)
        _, crops = extract(task_of(tmp_path, "a.png", "image"), config, SquareDetector())
        [(name, encoded)] = crops.items()
        assert name == "00000_0.jpg"
        assert encoded[:2] == b"\xff\xd8"
        sizes[quality] = len(encoded)
    assert sizes[40] < sizes[95]


# The recipe


def test_the_recipe_changes_with_what_changes_a_crop_and_with_nothing_else():
    known = recipe_hash(recipe(PreprocessConfig()))
    for other in ({"size_px": 224}, {"scale": 1.5}, {"max_side_px": 800}, {"crop_format": "jpeg"}):
        assert recipe_hash(recipe(PreprocessConfig(**other))) != known
    for same in ({"workers": 7}, {"budget_s": 9.0}, {"max_pixels": 10**6}, {"jpeg_quality": 50}):
        assert recipe_hash(recipe(PreprocessConfig(**same))) == known
    assert recipe_hash(recipe(PreprocessConfig(), "another detector")) != known


# Names


@pytest.mark.parametrize(
    "video",
    [
        "../../../etc/cron.d/x",
        "/etc/passwd",
        "a/../../b",
        ".",
        "..",
        "",
        "a\\..\\b",
        "C:/x",
        "a\0b",
        "~/.ssh/x",
        "x" * 300,
    ],
)
def test_no_name_leads_out_of_the_folder(video):
    [folder] = safe_folders([("data set", video, "")])
    parts = Path(folder).parts
    assert not Path(folder).is_absolute()
    assert parts[0] == "data set"
    assert len(parts) >= 2
    assert all(part not in ("", ".", "..") and not part.startswith(".") and len(part) < 120 for part in parts)
    assert not set("\\:\0~") & set(folder)


def test_plain_names_are_kept_and_equal_ones_are_told_apart():
    keys = [
        ("FaceForensics++", "manipulated_sequences/Deepfakes/c23/videos/000_003", "c23"),
        ("d", "a b", ""),
        ("d", "a?b", ""),
        ("d", "a*b", ""),
        ("d", "A b", ""),
        ("d", "v", "c23"),
        ("d", "v", "c40"),
    ]
    folders = safe_folders(keys)
    assert folders[0] == "FaceForensics++/manipulated_sequences/Deepfakes/c23/videos/000_003"
    assert folders[1] == "d/a b"
    assert folders[5:] == ["d/v@c23", "d/v@c40"]
    assert len({folder.casefold() for folder in folders}) == len(keys)


# A run


def test_a_run_writes_a_valid_table_and_the_crops_it_names(tmp_path):
    manifest = blue_and_grey(tmp_path / "in", 3, blue=())
    manifest["gender"] = ["female", None, "male"]
    manifest["my_column"] = [1, 2, 3]
    said = []
    faces = run(manifest, tmp_path / "out", progress=lambda *args: said.append(args))
    assert said == [("faces", done, 3) for done in range(4)]
    assert len(faces) == 12
    assert (faces["status"] == "ok").all()
    assert faces["video"].tolist() == [name for name in ("0", "1", "2") for _ in range(4)]
    assert faces.groupby("video")["gender"].first().fillna("-").to_dict() == {
        "0": "female",
        "1": "-",
        "2": "male",
    }
    assert faces.groupby("video")["my_column"].first().tolist() == [1, 2, 3]
    assert faces["recipe"].nunique() == 1
    pd.testing.assert_frame_equal(FACES.read(tmp_path / "out" / "faces.parquet"), faces)
    on_disk = {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out" / "crops").rglob("*.png")
    }
    assert on_disk == set(faces["crop"])
    assert not (tmp_path / "out" / ".partial").exists()


def test_bad_files_cost_their_rows_and_nothing_else(tmp_path):
    root = tmp_path / "in"
    write_video(root / "good.mp4", 6)
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("no video")
    write_video(
        root / "cut.mp4",
        40,
        draw=lambda i: np.random.default_rng(i).integers(0, 180, (64, 64, 3), np.uint8),
        movflags="faststart",
    )
    (root / "cut.mp4").write_bytes((root / "cut.mp4").read_bytes()[:-60_000])
    names = ["empty.mp4", "text.mp4", "good.mp4", "gone.mp4", "cut.mp4"]
    faces = run(manifest_of(root, names), tmp_path / "out")
    statuses = faces.groupby("video", sort=False)["status"].agg(list).to_dict()
    assert statuses["empty"] == statuses["text"] == ["decode_error"]
    assert statuses["gone"] == ["missing_file"]
    assert statuses["good"] == ["ok"] * 4
    assert set(statuses["cut"]) == {"no_face", "decode_error"}
    failed = faces[faces["status"].isin(["decode_error", "missing_file"])]
    assert failed["reason"].notna().all()
    assert failed["crop"].isna().all()
    assert faces.loc[faces["video"].isin(["empty", "text", "gone"]), "frame"].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("detector", "workers", "budget_s", "status", "words"),
    [
        (HangingDetector, 1, 1.5, "over_budget", "budget"),
        (HangingDetector, 2, 1.5, "over_budget", "budget"),
        (DyingDetector, 1, 60.0, "crashed", "exit code 11"),
        (RaisingDetector, 1, 60.0, "crashed", "blue is too much"),
    ],
)
def test_a_worker_that_hangs_or_dies_costs_one_video(tmp_path, detector, workers, budget_s, status, words):
    manifest = blue_and_grey(tmp_path / "in", 4, blue=(1,))
    config = CONFIG.model_copy(update={"budget_s": budget_s, "workers": workers})
    faces = run(manifest, tmp_path / "out", config, detector)
    assert faces.groupby("video")["status"].agg(set).to_dict() == {
        "0": {"ok"},
        "1": {status},
        "2": {"ok"},
        "3": {"ok"},
    }
    [row] = faces[faces["video"] == "1"].to_dict("records")
    assert row["frame"] == -1
    assert words in row["reason"]
    assert not (tmp_path / "out" / "crops" / "squares" / "1").exists()


def test_an_image_and_a_sequence_are_rows_too(tmp_path):
    root = tmp_path / "in"
    (root / "s").mkdir(parents=True)
    for number in (5, 7, 8):
        Image.fromarray(square_frame(number)).save(root / "s" / f"{number}.png")
    Image.fromarray(square_frame(1)).save(root / "a.jpg", quality=95)
    manifest = pd.concat([manifest_of(root, ["a.jpg"], "image"), manifest_of(root, ["s"], "sequence")])
    faces = run(manifest, tmp_path / "out")
    assert faces[["video", "frame", "status"]].to_numpy().tolist() == [
        ["a", 0, "ok"],
        ["s", 5, "ok"],
        ["s", 7, "ok"],
        ["s", 8, "ok"],
    ]


# Going on


def test_a_finished_run_is_not_done_again_but_takes_new_annotations(tmp_path):
    manifest = blue_and_grey(tmp_path / "in", 2, blue=())
    run(manifest, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    said = []
    faces = run(
        manifest.assign(gender="female", label=1), tmp_path / "out", progress=lambda *args: said.append(args)
    )
    assert said == [("faces", 2, 2)]
    assert faces["gender"].eq("female").all()
    assert faces["label"].eq(1).all()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")} == before


def test_a_file_that_has_come_or_changed_is_done_again(tmp_path):
    root = tmp_path / "in"
    manifest = blue_and_grey(root, 2, blue=())
    late = pd.concat([manifest, manifest_of(root, ["late.mp4"])])
    assert run(late, tmp_path / "out")["status"].tolist() == ["ok"] * 8 + ["missing_file"]
    write_video(root / "late.mp4", 3)
    write_video(root / "0.mp4", 2)
    faces = run(late, tmp_path / "out")
    assert faces.groupby("video", sort=False).size().to_dict() == {"0": 2, "1": 4, "late": 3}
    assert (faces["status"] == "ok").all()
    on_disk = {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out" / "crops").rglob("*.png")
    }
    assert on_disk == set(faces["crop"])


def test_two_recipes_in_one_folder_are_refused_with_the_difference(tmp_path):
    manifest = blue_and_grey(tmp_path / "in", 1, blue=())
    run(manifest, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=r"size_px 64 there, 80 now.*give another out="):
        run(manifest, tmp_path / "out", CONFIG.model_copy(update={"size_px": 80}))
    assert contents(tmp_path / "out") == before


def test_an_empty_manifest_and_a_file_for_a_folder_are_refused(tmp_path):
    manifest = manifest_of(tmp_path, ["a.mp4"])
    with pytest.raises(InputError, match="no rows"):
        run(manifest.iloc[:0], tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="give a folder"):
        run(manifest, tmp_path / "file")


SCRIPT = """
from functools import partial
from preprocessing_fakes import SlowSquareDetector
from unmasked.app.cli import app
from unmasked.preprocessing import run
run.preprocess = partial(run.preprocess, detector=SlowSquareDetector)
files = ["manifest=" + {manifest!r}, "out=" + {out!r}]
app(["preprocess", *files, "frames_per_video=4", "size_px=64", "workers=2"])
"""


def start_run(manifest, out):
    manifest.to_csv(out.parent / "manifest.csv", index=False)
    script = SCRIPT.format(manifest=str(out.parent / "manifest.csv"), out=str(out))
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", script]
    with open(out.parent / "stderr.txt", "w") as stream:
        return subprocess.Popen(command, env=environment, cwd=out.parent, stderr=stream)


@pytest.mark.slow
def test_a_run_that_was_killed_and_started_again_equals_an_uninterrupted_one(tmp_path):
    manifest = blue_and_grey(tmp_path / "in", 12, blue=())
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start_run(manifest, whole).wait(60) == 0
    for done, number in ((2, signal.SIGTERM), (8, signal.SIGKILL)):
        process = start_run(manifest, killed)
        deadline_s = time.monotonic() + 60
        while len(list(killed.glob("parts/*/*.json"))) < done:
            assert time.monotonic() < deadline_s
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        process.wait(60)
        if number == signal.SIGTERM:  # it ended the command without a word
            assert process.returncode == 143
            said = (tmp_path / "stderr.txt").read_text().rstrip()
            assert said.endswith(
                "unmasked preprocess: stopped by SIGTERM; finished videos are kept, and the same command "
                "goes on from here"
            )
        assert not (killed / "faces.parquet").exists()
    kept = {path: path.stat().st_mtime_ns for path in killed.glob("parts/*/*.json")}
    assert 8 <= len(kept) < 12
    assert start_run(manifest, killed).wait(60) == 0
    assert contents(killed) == contents(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # what was done is not done again


def test_a_killed_run_leaves_its_half_written_files_only_where_the_next_one_sweeps(tmp_path):
    manifest = blue_and_grey(tmp_path / "in", 1, blue=())
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start_run(manifest, whole).wait(60) == 0
    for name in (".partial/0/part.json", ".partial/0/.part-abcdefgh.json", ".faces-abcdefgh.parquet"):
        (killed / name).parent.mkdir(parents=True, exist_ok=True)
        (killed / name).write_bytes(b"half")
    assert start_run(manifest, killed).wait(60) == 0
    assert contents(killed) == contents(whole)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    manifest = blue_and_grey(tmp_path / "in", 40, blue=())
    process = start_run(manifest, tmp_path / "out")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        process.wait()
        pytest.skip("this system does not list a process's children")
    while not list((tmp_path / "out").glob("parts/*/*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    workers = [int(pid) for pid in children.read_text().split()]
    assert len(workers) >= 2
    process.kill()
    process.wait()
    deadline_s = time.monotonic() + 10
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# The contact sheet


@pytest.fixture
def table(tmp_path):
    """A faces table of six videos of four frames, two of them fake, with crops; and one that is missing."""
    manifest = manifest_of(tmp_path, [f"{number}.mp4" for number in range(7)])
    manifest["label"] = [0, 1, 0, 1, 0, 0, 0]
    rows = manifest.loc[np.repeat(range(7), [4] * 6 + [1])].reset_index(drop=True)
    rows["frame"] = [0, 1, 2, 3] * 6 + [-1]
    rows["face"] = 0
    rows["status"] = ["ok"] * 24 + ["missing_file"]
    rows["crop"] = [f"{video}_{frame}.png" for video, frame in zip(rows["video"], rows["frame"], strict=True)]
    for name in rows["crop"]:
        Image.fromarray(square_frame(1)).save(tmp_path / name)
    return FACES.validate(rows)


def grey_tiles(path):
    """How many tiles' worth of the failures' grey a sheet has."""
    sheet = np.asarray(Image.open(io.BytesIO(path.read_bytes())))
    grey = (sheet == tuple(bytes.fromhex(TILE[1:]))).all(axis=2)
    return round(grey.sum() / TILE_PX**2)


@pytest.mark.parametrize(("kept", "shown"), [([0], {REAL}), ([1], {FAKE}), ([0, 1], {REAL, FAKE})])
def test_the_contact_sheet_frames_crops_in_the_colour_of_their_label(table, tmp_path, kept, shown):
    faces = table[table["label"].isin(kept) & (table["status"] == "ok")]
    path = contact_sheet(faces, tmp_path, tmp_path / "sheet.png", columns=8)
    sheet = np.asarray(Image.open(io.BytesIO(path.read_bytes())))[TITLE_PX:]  # below the legend
    present = set(map(tuple, sheet.reshape(-1, 3).tolist()))
    for colour in (REAL, FAKE):
        assert (tuple(bytes.fromhex(colour[1:])) in present) == (colour in shown)


def test_failures_and_lost_crops_are_grey_tiles(table, tmp_path):
    whole = table[table["status"] == "ok"]
    assert grey_tiles(contact_sheet(whole, tmp_path, tmp_path / "a.png")) == 0
    assert grey_tiles(contact_sheet(table, tmp_path, tmp_path / "b.png")) == 1
    for name in whole["crop"].iloc[:3]:
        (tmp_path / name).unlink()
    assert grey_tiles(contact_sheet(table, tmp_path, tmp_path / "c.png")) in (3, 4)  # less their words


def test_sheet_of_crops_whose_label_nobody_knows_claims_neither_class(table, tmp_path):
    unknown = table[table["status"] == "ok"].astype({"label": "Int64"}).assign(label=pd.NA)
    path = contact_sheet(unknown, tmp_path, tmp_path / "sheet.png", columns=8)
    sheet = np.asarray(Image.open(io.BytesIO(path.read_bytes())))[TITLE_PX:]  # below the legend
    present = set(map(tuple, sheet.reshape(-1, 3).tolist()))
    assert present.isdisjoint(tuple(bytes.fromhex(colour[1:])) for colour in (REAL, FAKE))


def test_a_limited_sheet_is_smaller(table, tmp_path):
    heights = []
    for limit in (100, 8):
        path = contact_sheet(table, tmp_path, tmp_path / f"{limit}.png", columns=4, limit=limit)
        heights.append(cv2.imread(str(path)).shape[0])
    assert heights[1] < heights[0] / 2


def test_the_sheet_shows_the_frame_above_the_crop_with_box_and_points(tmp_path):
    write_video(tmp_path / "a.mp4", 3, draw=lambda index: square_frame(index) // (3 if index == 1 else 1))
    manifest = manifest_of(tmp_path, ["a.mp4", "gone.mp4"])
    faces = run(manifest, tmp_path / "out")
    assert faces["status"].tolist() == ["ok", "no_face", "ok", "missing_file"]
    path = contact_sheet(faces, tmp_path / "out", tmp_path / "sheet.png", manifest=manifest)
    sheet = np.asarray(Image.open(path)).astype(int)
    top, factor = TITLE_PX + HEADING_PX, THUMB_PX[1] / 96
    marked = (sheet == tuple(bytes.fromhex(MARK[1:]))).all(axis=2)[top : top + THUMB_PX[1]]
    for column, row in enumerate(faces.iloc[:3].to_dict("records")):
        left = MARGIN_PX + column * (TILE_PX + GAP_PX)
        rows, columns = np.nonzero(marked[:, left : left + TILE_PX])
        if row["status"] != "ok":
            assert not len(rows)
            shown = sheet[top : top + THUMB_PX[1], left + TILE_PX // 2]
            assert abs(shown.mean() - 20) < 8  # the dark frame itself
            continue
        columns = columns - (TILE_PX - THUMB_PX[1]) // 2  # a square thumbnail is in the middle
        drawn = (columns.min(), rows.min(), columns.max(), rows.max())
        np.testing.assert_allclose(drawn, [factor * row[name] for name in BOX], atol=1.5)


def test_a_sheet_does_not_open_what_hung_or_crashed(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", 3)
    manifest = manifest_of(tmp_path, ["a.mp4"])
    faces = FACES.validate(manifest.assign(frame=-1, face=0, status="over_budget"))
    monkeypatch.setattr(overlay, "read_frames", lambda *args, **options: pytest.fail("was opened"))
    contact_sheet(faces, tmp_path, tmp_path / "sheet.png", manifest=manifest)


def test_a_sheet_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="no rows"):
        contact_sheet(FACES.empty(), tmp_path, tmp_path / "sheet.png")


# Real faces


def test_faces_are_found_in_real_videos(shared, tmp_path):
    root = shared / "faces"
    names = [
        "fsgan/real/conan_obrien.mp4",
        "grid/real/bbaf2n.mpg",
        "edtalk/fake/demo_EDTalk_A.mp4",
        "liveportrait/real/s20.mp4",
        "pyfeat/real/WolfgangLanger_Pexels.mp4",
    ]
    config = PreprocessConfig(frames_per_video=5, workers=2)
    faces = preprocess(manifest_of(root, names), tmp_path, config)
    assert len(faces) == 25
    assert (faces["status"] == "ok").mean() >= 0.95
    found = faces[faces["status"] == "ok"]
    assert (found["size_px"] > 60).all()
    assert (found["detector_score"] > -0.1).all()


# What the command says


def faces_of(*rows: tuple[str, int, int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["video", "frame", "face", "status"]).assign(dataset="d")


def test_the_summary_counts_frames_where_a_frame_has_several_faces():
    faces = faces_of(("a", 0, 0, "ok"), ("a", 0, 1, "ok"), ("a", 1, 0, "no_face"), ("b", 0, 0, "ok"))
    assert summary(faces) == ["d: a face in 66.7% of 3 sampled frames (3 faces, 1 no_face)"]
    assert summary(faces[faces["face"] == 0]) == ["d: a face in 66.7% of 3 sampled frames (1 no_face)"]


def test_choosing_by_mask_without_any_mask_is_refused_before_anything_is_made(tmp_path):
    write_video(tmp_path / "a.mp4", 4)
    manifest = manifest_of(tmp_path, ["a.mp4"]).assign(label=1, method="x")
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    out = tmp_path / "faces"
    with pytest.raises(InputError, match=r"none of the 1 fakes .* has a manipulation mask"):
        command.run(command.Config(manifest=tmp_path / "manifest.csv", out=out, faces="mask"))
    assert not out.exists()


def test_the_command_says_of_how_many_fakes_a_mask_chooses_the_face():
    manifest = pd.DataFrame({"label": [0, 1, 1], "mask": [None, "m.mp4", None]})
    assert _masks(manifest, Path("manifest.csv")).startswith("manipulation masks: 1 of 2 fakes")
