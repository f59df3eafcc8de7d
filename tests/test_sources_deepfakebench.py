"""DeepfakeBench's lists and crops: what they get wrong is set right, and its crops become a faces table."""

import json

import cv2
import numpy as np
import pytest
from layout_trees import deepfakebench, touch, wild_deepfake

from unmasked.app.verbs import scan as scan_verb
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_crop, usable_rows
from unmasked.datasets.scan import scan
from unmasked.datasets.sources import deepfakebench as source
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.ready import faces_of_crops, fault_of

FAKE = "datasets/rgb/FaceForensics++/manipulated_sequences/Deepfakes/c23/frames/004_005"


def by_video(manifest):
    return manifest.set_index("video")


def test_paths_of_somebody_elses_home_are_found_below_the_root(tmp_path):
    manifest = by_video(source.scan(deepfakebench(tmp_path)))
    row = manifest.loc[FAKE]
    assert (row["dataset"], row["kind"], row["label"], row["method"]) == (
        "FaceForensics++",
        "sequence",
        1,
        "Deepfakes",
    )
    assert (row["split"], row["compression"], row["identity"], row["source_video"]) == (
        "test",
        "c23",
        "004",
        "005",
    )
    assert (tmp_path / row["path"]).is_dir()


def test_official_pairs_of_faceforensics_stay_as_listed(tmp_path):
    manifest = source.scan(deepfakebench(tmp_path))
    ff = manifest[manifest["dataset"] == "FaceForensics++"]
    assert ff.groupby(["split", "label"]).size().to_dict() == {
        (split, label): 2 for split in ("train", "val", "test") for label in (0, 1)
    }


def test_no_celeb_df_test_video_stays_in_train(tmp_path):
    notes = []
    manifest = source.scan(deepfakebench(tmp_path), notes=notes)
    celeb = manifest[manifest["dataset"] == "Celeb-DF-v2"]
    assert celeb["video"].is_unique
    assert dict(zip(celeb["video"].str.split("/").str[-1], celeb["split"], strict=True)) == {
        "id0_0000": "test",
        "id1_0000": "train",
        "id0_id1_0000": "test",
        "id1_id0_0000": "train",
    }
    assert "Celeb-DF-v2: videos in several splits, kept in test, else in train: 2" in notes


def test_lists_that_repeat_another_are_left_out_unless_asked_for(tmp_path):
    root = deepfakebench(tmp_path)
    notes = []
    assert set(source.scan(root, notes=notes)["dataset"]) == {"FaceForensics++", "Celeb-DF-v2"}
    assert any("repeat FaceForensics++.json, left out: FF-DF" in note for note in notes)
    assert set(source.scan(root, lists=["FF-DF"])["dataset"]) == {"FF-DF"}
    with pytest.raises(InputError, match=r"list 'UADFV' is not there; there are Celeb-DF-v2, FF-DF"):
        source.scan(root, lists="UADFV")


def test_found_stands_against_official_by_method_and_split(tmp_path):
    found = {
        part: (count, official)
        for part, count, official in source.counts(source.scan(deepfakebench(tmp_path)))
    }
    assert found["FaceForensics++ Deepfakes train"] == (2, 720)
    assert found["FaceForensics++ real test"] == (2, 140)
    assert found["Celeb-DF-v2 real test"] == (1, 178)


def test_the_broken_val_of_dfdc_is_no_list_of_videos(tmp_path):
    entry = {"label": "DFDC_Real", "frames": ["./rgb/DFDC/test/frames/aaa/000.png"]}
    content = {"DFDC": {"DFDC_Real": {"train": {}, "test": {"aaa": entry}, "val": entry}}}
    touch(tmp_path / "dataset_json" / "DFDC.json", json.dumps(content))
    touch(tmp_path / "rgb/DFDC/test/frames/aaa/000.png")
    manifest = source.scan(tmp_path)
    assert list(manifest["split"]) == ["test"]
    assert manifest["identity"].isna().all()


def test_videos_without_crops_are_reported_and_no_crop_at_all_is_refused(tmp_path):
    root = deepfakebench(tmp_path / "root")
    for path in (root / FAKE).iterdir():
        path.unlink()
    (root / FAKE).rmdir()
    notes = []
    source.scan(root, notes=notes)
    assert sum("crops are not there: 1" in note for note in notes) == 1
    (root / "datasets").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="give crops=<the folder"):
        source.scan(root)
    moved = source.scan(root, crops=tmp_path / "elsewhere" / "rgb")
    assert moved["root"].unique().tolist() == [str(tmp_path / "elsewhere" / "rgb")]


def test_a_damaged_list_is_refused_and_other_json_files_are_none(tmp_path):
    root = deepfakebench(tmp_path)
    touch(root / "preprocessing/dataset_json/readme.json", '{"a": 1}')
    assert len(source.scan(root)) == 16
    path = root / "preprocessing/dataset_json/FaceForensics++.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(InputError, match=r"FaceForensics\+\+\.json is not a list of DeepfakeBench"):
        source.scan(root)


# The faces table of crops that are there already


def with_pictures(root):
    picture = cv2.imencode(".png", np.full((256, 256, 3), 90, np.uint8))[1].tobytes()
    for path in (root / "datasets").rglob("*.png"):
        path.write_bytes(picture)
    return root


def test_crops_become_a_faces_table_that_a_loader_reads(tmp_path):
    root = with_pictures(deepfakebench(tmp_path / "bench"))
    out = tmp_path / "faces" / "faces.parquet"
    scan_verb.run(scan_verb.Config(root=(root,), out=tmp_path / "m.parquet", faces=out))
    faces = FACES.read(out)
    assert faces["status"].value_counts().to_dict() == {"ok": 32}
    first = faces[faces["video"] == FAKE]
    assert list(first["frame"]) == [0, 8]
    assert (first["recipe"] == "as found").all()
    assert first["box_left"].isna().all()
    crop = read_crop(out.parent / usable_rows(faces)["crop"][0], 256)
    assert crop.shape == (256, 256, 3)
    assert (crop == 90).all()


def test_broken_and_absent_crops_are_rows_with_a_reason(tmp_path):
    root = with_pictures(deepfakebench(tmp_path))
    folder = root / FAKE
    whole = (folder / "000.png").read_bytes()
    (folder / "001.png").write_bytes(b"")
    (folder / "002.png").write_bytes(whole[:-20])
    (folder / "003.jpg").write_bytes(b"<html>")
    (folder / "004.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    manifest = source.scan(root)
    gone = root / manifest.loc[0, "path"]
    for path in gone.iterdir():
        path.unlink()
    faces = faces_of_crops(manifest, tmp_path / "faces.csv")
    rows = faces[faces["video"] == FAKE].set_index("frame")
    assert rows["status"].to_dict() == {
        0: "ok",
        1: "decode_error",
        2: "decode_error",
        3: "decode_error",
        4: "ok",
        8: "ok",
    }
    assert rows["reason"][[1, 2, 3]].tolist() == [
        "001.png: zero bytes",
        "002.png: cut short",
        "003.jpg: not an image",
    ]
    lost = faces[faces["video"] == manifest.loc[0, "video"]]
    assert (lost["frame"].tolist(), lost["status"].tolist()) == ([-1], ["missing_file"])


def test_what_is_no_folder_of_crops_is_refused(tmp_path):
    manifest = scan(wild_deepfake(tmp_path)).manifest
    with pytest.raises(InputError, match=r"!0/fake/0 is no crop in a folder; .* run preprocess crops=as_is"):
        faces_of_crops(manifest, tmp_path / "faces.csv")
    assert fault_of(str(tmp_path / "nothing.png")) == "No such file or directory"
