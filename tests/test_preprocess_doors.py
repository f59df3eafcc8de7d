"""Crops that are crops already, changed and damaged files, other people's files: each is noticed and said."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from preprocessing_fakes import SquareDetector, manifest_of, square_frame, write_video

from unmasked.app.verbs import preprocess as command
from unmasked.app.verbs.preprocess import crop_lines
from unmasked.datasets.errors import InputError
from unmasked.datasets.images import fit_to_size
from unmasked.datasets.manifest import MANIFEST
from unmasked.preprocessing.align import cut, padded_share, similarity_matrix, template, warp, whole_matrix
from unmasked.preprocessing.config import PreprocessConfig, crops_of, recipe, recipe_hash, terms_of
from unmasked.preprocessing.detect import Detection
from unmasked.preprocessing.extract import Task, extract
from unmasked.preprocessing.faces import MATRIX, STATUSES
from unmasked.preprocessing.lost import LOST, class_of, lost_lines, lost_videos, videos_of
from unmasked.preprocessing.parts import card_of_crops, safe_folders
from unmasked.preprocessing.run import preprocess

CONFIG = PreprocessConfig(frames_per_video=4, size_px=64, workers=1)


def run(manifest, out, detector=SquareDetector, **settings):
    return preprocess(manifest, out, CONFIG.model_copy(update=settings), detector=detector)


def tight_frame(index, size_px=96):
    """A square that fills all but the rim of the picture, as faces do that were cut out already."""
    image = np.full((size_px, size_px, 3), 60, np.uint8)
    image[2:-2, 2:-2] = 255
    return image


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


# Crops that are crops already


def test_the_padded_share_is_that_of_pixels_that_are_black_for_want_of_a_picture():
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = template() + rng.normal(0, 12, (5, 2)) + rng.uniform(-90, 90, 2)
        matrix = similarity_matrix(points, 128)
        white = np.full((200, 240, 3), 255, np.uint8)
        black = (warp(white, matrix, 128)[..., 0] < 128).mean()
        assert padded_share(matrix, white.shape, 128) == pytest.approx(black, abs=0.02)


def test_a_picture_that_is_a_crop_already_is_noticed_and_gets_no_stamp_on_black(tmp_path):
    save(tmp_path / "tight.png", tight_frame(0))
    save(tmp_path / "wide.png", square_frame(0))
    manifest = manifest_of(tmp_path, ["tight.png", "wide.png"], kind="image")
    faces = run(manifest, tmp_path / "out", scale=2.0)
    assert faces["status"].tolist() == ["already_cropped", "ok"]
    assert faces["crop"].isna().tolist() == [True, False]
    assert faces["padded"][0] > 0.3 > faces["padded"][1]
    assert "crops=as_is" in faces["reason"][0]
    assert not list((tmp_path / "out" / "crops").rglob("tight*/*.png"))
    cut_anyway = run(manifest, tmp_path / "cut", scale=2.0, crops="cut")
    assert cut_anyway["status"].tolist() == ["ok", "ok"]
    assert cut_anyway["crops"].tolist() == ["cut", "cut"]


def test_pictures_used_as_they_are_are_resized_whole_and_their_faces_measured(tmp_path):
    save(tmp_path / "tight.png", tight_frame(0))
    save(tmp_path / "empty.png", np.full((80, 80, 3), 40, np.uint8))
    manifest = manifest_of(tmp_path, ["tight.png", "empty.png", "gone.png"], kind="image")
    faces = run(manifest, tmp_path / "out", crops="as_is").set_index("video")
    assert faces["status"].to_dict() == {"tight": "ok", "empty": "ok", "gone": "missing_file"}
    assert faces["crops"].tolist()[:2] == ["as_is", "as_is"]
    assert faces["padded"].tolist()[:2] == [0.0, 0.0]
    assert faces["size_px"]["tight"] == pytest.approx(92, abs=1)
    assert np.isnan(faces["size_px"]["empty"])
    crop = cv2.imread(str(tmp_path / "out" / faces["crop"]["tight"]))[..., ::-1]
    assert np.array_equal(crop, fit_to_size(tight_frame(0), 64))
    matrix = faces.loc["tight", list(MATRIX)].to_numpy(float).reshape(2, 3)
    assert np.allclose(matrix, whole_matrix(96, 96, 64))


def test_wilddeepfake_is_used_as_it_is_and_others_are_cut(tmp_path):
    save(tmp_path / "s" / "0.png", square_frame(0))
    manifest = manifest_of(tmp_path, ["s"], kind="sequence").assign(dataset="WildDeepfake")
    assert run(manifest, tmp_path / "out")["crops"].tolist() == ["as_is"]
    assert run(manifest, tmp_path / "cut", crops="cut")["crops"].tolist() == ["cut"]
    assert run(manifest.assign(dataset="x"), tmp_path / "x")["crops"].tolist() == ["cut"]
    assert crops_of("WildDeepfake", PreprocessConfig(crops="cut")) == "cut"


def test_a_reflected_border_shows_the_picture_and_no_black(tmp_path):
    save(tmp_path / "tight.png", np.maximum(tight_frame(0), 60))
    manifest = manifest_of(tmp_path, ["tight.png"], kind="image")
    shares = {}
    for border in ("black", "reflect"):
        faces = run(manifest, tmp_path / border, crops="cut", border=border, scale=2.0)
        crop = cv2.imread(str(tmp_path / border / faces["crop"][0]))
        shares[faces["crops"][0]] = (crop < 30).mean()
    assert shares["cut"] > 0.3
    assert shares["cut_reflect"] == 0


def test_a_whole_picture_maps_its_middles_onto_the_middles_of_the_crop():
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 3)
    warped = cv2.warpAffine(image, whole_matrix(40, 40, 60), (60, 60), borderMode=cv2.BORDER_REPLICATE)
    assert abs(warped.astype(int) - cut(image, whole_matrix(40, 40, 60), 60, "as_is")).mean() < 1


def test_the_summary_says_how_large_faces_are_in_their_crops(tmp_path):
    save(tmp_path / "tight.png", tight_frame(0))
    faces = run(manifest_of(tmp_path, ["tight.png"], kind="image"), tmp_path / "out", crops="as_is")
    assert crop_lines(faces, 64) == [
        "squares: crops used as they are; the face takes 96% of the crop's width; "
        "0.0% of their pixels lie outside the picture"
    ]


# Changed and damaged


def crop_bytes(out):
    return {path.name: path.read_bytes() for path in (out / "crops").rglob("*.png")}


def test_a_picture_of_the_same_size_that_was_replaced_is_read_again(tmp_path):
    save(tmp_path / "a.bmp", square_frame(0))
    manifest = manifest_of(tmp_path, ["a.bmp"], kind="image")
    run(manifest, tmp_path / "out")
    before = crop_bytes(tmp_path / "out")
    size = (tmp_path / "a.bmp").stat().st_size
    save(tmp_path / "a.bmp", square_frame(0, colour=(120, 10, 10)))
    assert (tmp_path / "a.bmp").stat().st_size == size
    run(manifest, tmp_path / "out")
    assert crop_bytes(tmp_path / "out") != before


def test_a_sequence_that_was_completed_is_read_again(tmp_path):
    for number in range(3):
        save(tmp_path / "s" / f"{number}.png", square_frame(number))
    manifest = manifest_of(tmp_path, ["s"], kind="sequence")
    assert run(manifest, tmp_path / "out")["frame"].tolist() == [0, 1, 2]
    for number in range(3, 30):
        save(tmp_path / "s" / f"{number}.png", square_frame(number))
    assert run(manifest, tmp_path / "out")["frame"].tolist() == [0, 9, 19, 29]


@pytest.fixture
def made(tmp_path):
    write_video(tmp_path / "a.mp4", 6)
    manifest = manifest_of(tmp_path, ["a.mp4"])
    return manifest, tmp_path / "out", run(manifest, tmp_path / "out")


def test_crops_are_on_the_disk_before_a_part_says_that_they_are_there(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def note(handle):
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write_video(tmp_path / "a.mp4", 6)
    faces = preprocess(
        manifest_of(tmp_path, ["a.mp4"]),
        tmp_path / "out",
        PreprocessConfig(frames_per_video=3, size_px=64, workers=1),
        detector=SquareDetector,
    )
    at = synced.index("part.json")
    crops = sorted(Path(crop).name for crop in faces["crop"])
    assert len(crops) == 3
    assert sorted(name for name in synced[:at] if name.endswith(".png")) == crops


def test_an_emptied_or_cut_crop_is_made_again(made):
    manifest, out, faces = made
    before = crop_bytes(out)
    crops = sorted((out / "crops").rglob("*.png"))
    crops[0].write_bytes(b"")
    crops[1].write_bytes(crops[1].read_bytes()[:50])
    assert run(manifest, out).equals(faces)
    assert crop_bytes(out) == before


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", "null", "[" * 5000, '{"rows": 3}', "no status", "no rows", "huge frame", "nul"]
)
def test_a_damaged_part_is_made_again(made, damage):
    manifest, out, faces = made
    [part] = (out / "parts").rglob("*.json")
    whole = json.loads(part.read_text())
    if damage == "no status":
        whole["rows"][0].pop("status")
    elif damage == "no rows":
        whole["rows"] = []
    elif damage == "huge frame":
        whole["rows"][0]["frame"] = 10**20
    edited = damage in ("no status", "no rows", "huge frame")
    part.write_text(json.dumps(whole) if edited else "\0" if damage == "nul" else damage)
    assert run(manifest, out).equals(faces)


@pytest.mark.parametrize("damage", ["", "[]", "{}", "{", "[" * 5000])
def test_a_damaged_recipe_is_one_sentence(made, damage):
    manifest, out, _ = made
    (out / "recipe.json").write_text(damage)
    with pytest.raises(InputError, match=r"recipe\.json is damaged"):
        run(manifest, out)


def test_frame_numbers_of_twenty_digits_are_numbered_from_zero(tmp_path):
    """Every crop was made, then the table could not be written."""
    for number in (20240131123055123456, 20240131123055123457):
        save(tmp_path / "s" / f"{number}.png", square_frame(number % 7))
    faces = run(manifest_of(tmp_path, ["s"], kind="sequence"), tmp_path / "out")
    assert faces["frame"].tolist() == [0, 1]
    assert faces["status"].tolist() == ["ok", "ok"]


def test_files_that_are_none_cost_a_row_each(tmp_path):
    write_video(tmp_path / "a.mp4", 4)
    paths = ["a.mp4", "nul\0.mp4", "x" * 300 + ".mp4", "/".join(["d"] * 300) + ".mp4"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        (tmp_path / "zero.mp4").symlink_to("/dev/zero")
        paths += ["pipe.mp4", "zero.mp4"]
    manifest = manifest_of(tmp_path, paths)
    faces = run(manifest, tmp_path / "out")
    assert faces["video"].nunique() == len(paths)
    assert (faces["status"] == "ok").sum() == 4
    assert set(faces["status"]) <= {"ok", "missing_file", "decode_error"}
    pd.testing.assert_frame_equal(run(manifest, tmp_path / "out"), faces)


def test_a_socket_costs_a_row(tmp_path, monkeypatch):
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("no sockets with names here")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.mp4")
        faces = run(manifest_of(tmp_path, ["s.mp4"]), tmp_path / "out")
    assert faces["status"].tolist() == ["decode_error"]


def test_folders_of_long_names_stay_short_and_apart():
    keys = [("d" * 3000, "/".join(["v" * 90] * 50) + str(number), "") for number in range(3)]
    folders = safe_folders(keys)
    assert len(set(folders)) == 3
    assert max(map(len, folders)) < 200


# Other people's files


def test_a_folder_with_crops_of_somebody_else_is_not_touched(tmp_path):
    """Files in it were deleted."""
    write_video(tmp_path / "a.mp4", 4)
    out = tmp_path / "out"
    (out / "crops" / "squares" / "a").mkdir(parents=True)
    (out / "crops" / "squares" / "a" / "0001.png").write_text("mine")
    with pytest.raises(InputError, match=r"holds crops but no recipe\.json"):
        run(manifest_of(tmp_path, ["a.mp4"]), out)
    assert (out / "crops" / "squares" / "a" / "0001.png").read_text() == "mine"
    assert not (out / "recipe.json").exists()


def test_files_of_other_names_survive_in_a_folder_of_ours(made):
    manifest, out, _ = made
    crops = next((out / "crops").rglob("*.png")).parent
    mine = [
        crops / "landmarks.npy",
        crops / "0001.png",
        out / ".faces-notes.txt",
        out / ".partial" / "upload" / "x",
    ]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    next((out / "parts").rglob("*.json")).unlink()  # so that it is made again
    run(manifest, out)
    assert [path.read_text() for path in mine] == ["mine"] * 4


def test_a_memory_budget_below_a_workers_own_need_is_one_sentence(tmp_path):
    """Workers were started and killed for ever, without a word."""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("memory is not watched on this system")
    write_video(tmp_path / "a.mp4", 4)
    with pytest.raises(InputError, match=r"memory_gb=0\.01 is less than the .* a worker takes"):
        run(manifest_of(tmp_path, ["a.mp4"]), tmp_path / "out", memory_gb=0.01)


# Nothing is lost without a word

ROWS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.integers(0, 6), st.integers(0, 3), st.sampled_from(STATUSES)
    ),
    min_size=1, max_size=40, unique_by=lambda row: row[:3],
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_files_with_and_without_a_crop_add_up_to_those_given(rows):
    faces = pd.DataFrame(rows, columns=["dataset", "video", "frame", "status"])
    faces["compression"] = None
    faces["reason"] = [None if status == "ok" else "why" for status in faces["status"]]
    faces["label"] = [(0, 1, np.nan)[video % 3] for video in faces["video"]]
    faces["video"] = faces["video"].astype(str)
    lost = lost_videos(faces)
    used = faces[faces["status"] == "ok"][["dataset", "video"]].drop_duplicates()
    given_ = faces[["dataset", "video", "label"]].drop_duplicates(["dataset", "video"])
    assert len(lost) + len(used) == len(given_)
    assert set(map(tuple, lost[["dataset", "video"]].to_numpy())).isdisjoint(map(tuple, used.to_numpy()))
    for line in lost_lines(videos_of(faces), lost):
        if line.startswith("  "):  # names, groups
            continue
        dataset = line.split(":")[0]
        of_set = lost[lost["dataset"] == dataset]
        total, with_crop = int(line.split(": ")[1].split()[0]), int(line.split("given, ")[1].split()[0])
        assert total == (given_["dataset"] == dataset).sum()
        assert total - with_crop == len(of_set)
        said = Counter()
        for part in line.split("; ")[1:]:
            class_ = part.split()[2]
            for count in part.split("(")[1].rstrip(")").split(", "):
                number, status = count.split()
                said[class_, status] += int(number)
        assert said == Counter(zip(of_set["class"], of_set["status"], strict=True))


def test_what_gave_no_crop_is_named_in_a_fresh_file_even_where_nothing_gave_one(tmp_path):
    """The file was absent where no crop was made at all, and stale after an earlier run."""
    save(tmp_path / "a.png", square_frame(0))
    (tmp_path / "b.png").write_bytes(b"")
    manifest = manifest_of(tmp_path, ["a.png", "b.png"], kind="image", gender=["female", "male"])
    MANIFEST.write(manifest, tmp_path / "m.parquet")
    config = command.Config(manifest=tmp_path / "m.parquet", out=tmp_path / "out", workers=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "unused.csv").write_text("of an earlier run")
    with pytest.raises(InputError, match="no face was found in any file"):
        command.run(config)
    lost = LOST.read(tmp_path / "out" / "unused.csv").set_index("video")
    assert lost["status"].to_dict() == {"a": "no_face", "b": "decode_error"}
    assert lost["gender"].to_dict() == {"a": "female", "b": "male"}
    assert lost["class"].tolist() == ["real", "real"]


def test_who_gave_no_crop_is_counted_by_group(tmp_path):
    faces = pd.DataFrame(
        {
            "dataset": "d",
            "video": ["a", "b", "c", "d"],
            "frame": 0,
            "label": [0, 0, 0, 1],
            "gender": ["female", "female", "male", None],
            "status": ["ok", "no_face", "ok", "no_face"],
        }
    )
    lines = lost_lines(videos_of(faces), lost_videos(faces))
    assert lines[0] == (
        "d: 4 files given, 2 with a crop; of 1 fake ones 1 without (1 no_face); "
        "of 3 real ones 1 without (1 no_face)"
    )
    assert "  without, by gender: female 1 of 2, male 0 of 1, unknown 1 of 1" in lines


class TwoSquares(SquareDetector):
    """Sees the square, and a smaller face in its corner."""

    def detect(self, image):
        found = super().detect(image)
        left, top, *_ = found[0].box if found else (0, 0)
        return [*found, Detection((left - 30, top - 18, left - 14, top - 2), 1.0)] if found else []


def test_faces_that_are_seen_and_not_kept_are_said(tmp_path):
    """Two of three people in a picture were left out without a word."""
    task = Task(str(tmp_path), "a.png", "image", "crops/a", "")
    image = np.full((96, 128, 3), 60, np.uint8)
    image[40:72, 70:102] = 255
    save(tmp_path / "a.png", image)
    rows, _ = extract(task, CONFIG, TwoSquares())
    assert [row["others"] for row in rows] == [1]
    rows, _ = extract(task, CONFIG.model_copy(update={"faces": "all"}), TwoSquares())
    assert [row["others"] for row in rows] == [0, 0]
    faces = pd.DataFrame({"dataset": "d", "video": ["a", "b"], "frame": 0, "status": "ok", "others": [3, 0]})
    assert command.summary(faces)[1] == (
        "  NOTE: frames in which other faces were seen and not kept: 1, of files: 1, up to 3 faces in "
        "one (a); faces=all keeps everybody"
    )


def test_a_class_of_which_nothing_is_left_is_said_in_a_line_of_its_own():
    rows = {"dataset": "d", "video": list("abc"), "frame": 0, "label": [0, 0, 1]}
    faces = pd.DataFrame(rows | {"status": ["ok", "ok", "decode_error"]})
    lines = lost_lines(videos_of(faces), lost_videos(faces))
    assert lines[1] == "  NOTE: not one fake of d is with a crop"
    assert not [line for line in lost_lines(videos_of(faces[:2]), lost_videos(faces[:2])) if "NOTE" in line]


def test_classes_have_words():
    assert [class_of(label) for label in (0, 1, np.nan, None)] == ["real", "fake", "unlabelled", "unlabelled"]


def test_terms_that_exclude_a_use_are_said_where_crops_are_first_made_and_in_the_recipe(tmp_path, capsys):
    save(tmp_path / "a.png", square_frame(0))
    MANIFEST.write(manifest_of(tmp_path, ["a.png"], kind="image"), tmp_path / "m.parquet")
    config = command.Config(manifest=tmp_path / "m.parquet", out=tmp_path / "out", workers=1)
    for count in (1, 0):  # said once
        with pytest.raises(InputError):
            command.run(config)
        assert capsys.readouterr().out.count("terms: dlib's 68-point model") == count
    assert "iBUG 300-W" in json.loads((tmp_path / "out" / "recipe.json").read_text())["terms"]
    # A joined table names crops of several folders.
    faces = pd.DataFrame({"crop": ["out/crops/a/1.png", "other/crops/b/1.png", None]})
    assert "iBUG 300-W" in card_of_crops(faces, tmp_path)["terms_of_crops"]
    assert card_of_crops(faces[1:], tmp_path) == {}
    without = recipe(PreprocessConfig(landmarks="mtcnn"))
    assert not terms_of(without)
    assert recipe_hash(without) != recipe_hash(recipe(PreprocessConfig()))
