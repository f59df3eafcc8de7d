"""LMDB as DeepfakeBench has it: read page by page and never believed, written by `unmasked export-crops`."""

import json
import random
import struct
from contextlib import suppress

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_trees import deepfakebench

from unmasked.app.verbs import export_crops as verb
from unmasked.datasets.archives import ArchiveError, read_member_images, sequence_members
from unmasked.datasets.errors import InputError
from unmasked.datasets.lmdb_files import list_values, read_value
from unmasked.datasets.scan import scan
from unmasked.datasets.unused import unused_files
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.export import export_crops
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.run import preprocess

lmdb = pytest.importorskip("lmdb", reason="the extra lmdb is not installed: pip install unmasked[lmdb]")


def write(folder, values, **options):
    folder.mkdir(parents=True, exist_ok=True)
    with (
        lmdb.open(str(folder), map_size=1 << 26, **options) as database,
        database.begin(write=True) as change,
    ):
        for key, value in values.items():
            change.put(key if isinstance(key, bytes) else key.encode(), value)
    return folder


def png(level=0, side=16):
    return cv2.imencode(".png", np.full((side, side, 3), level, np.uint8))[1].tobytes()


def read_all(folder):
    with open(folder / "data.mdb", "rb", buffering=0) as stream:
        return {key: read_value(stream, value) for key, value in list_values(stream)}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rounds=st.integers(1, 3))
def test_what_was_put_is_read_whatever_was_deleted_between(tmp_path_factory, seed, rounds):
    draw, folder, truth = random.Random(seed), tmp_path_factory.mktemp("d"), {}
    with lmdb.open(str(folder), map_size=1 << 26) as database:
        for _ in range(rounds):
            with database.begin(write=True) as change:
                for _ in range(draw.choice([0, 1, 3, 200])):
                    key = f"D\\a\\frames\\{draw.randrange(300)}".encode() + b"x" * draw.choice([0, 0, 400])
                    value = draw.randbytes(draw.choice([0, 1, 100, 2030, 2040, 4096, 9000]))
                    change.put(key, value)
                    truth[key] = value
                for key in draw.sample(sorted(truth), len(truth) // 3):
                    change.delete(key)
                    del truth[key]
    assert read_all(folder) == truth


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(st.integers(0, 50000), st.integers(0, 255), max_size=6), cut=st.integers(0, 60000)
)
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, made, changes, cut):
    """LMDB's own library reads behind the end of such a file, which ends the process."""
    content = bytearray(made)
    for at, byte in changes.items():
        content[at % len(content)] = byte
    folder = tmp_path_factory.mktemp("d") / "D_lmdb"
    folder.mkdir()
    (folder / "data.mdb").write_bytes(content[: max(cut, 100)] if cut % 3 == 0 else content)
    with suppress(ArchiveError):
        for inside in sequence_members(folder):
            assert all(
                len(image) < 60000 for _, image in read_member_images(folder.parent, f"D_lmdb!{inside}")
            )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    values = {f"D\\real\\frames\\{i}\\{j:03d}.png": png(i, 40) * (1 + j) for i in range(12) for j in range(9)}
    return (write(tmp_path_factory.mktemp("made") / "D_lmdb", values) / "data.mdb").read_bytes()


def test_pages_that_name_one_another_end(tmp_path, made):
    page_bytes = 4096
    content = bytearray(made)
    for at in range(2 * page_bytes, len(content), page_bytes):
        (flags,) = struct.unpack_from("<H", content, at + 10)
        if flags & 1:  # a branch: its first child is now itself
            node = struct.unpack_from("<H", content, at + 16)[0]
            struct.pack_into("<HHH", content, at + node, at // page_bytes, 0, 0)
    folder = tmp_path / "D_lmdb"
    folder.mkdir()
    (folder / "data.mdb").write_bytes(content)
    with pytest.raises(ArchiveError, match="reached twice; the file is damaged"):
        sequence_members(folder)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("D\\..\\..\\etc\\1.png", "leaves its folder"),
        ("/etc/1.png", "has an absolute path"),
        ("C:\\1.png", "has an absolute path"),
        (b"D\\\xff.png", "cannot be read"),
        ("D/a\\1.png", "stands there twice"),
    ],
)
def test_keys_that_are_no_paths_inside_are_refused(tmp_path, key, said):
    write(tmp_path / "D_lmdb", {"D\\a\\1.png": png(), key: png()})
    with pytest.raises(ArchiveError, match=said):
        sequence_members(tmp_path / "D_lmdb")


def test_other_kinds_of_file_are_named(tmp_path):
    (tmp_path / "D_lmdb").mkdir()
    with pytest.raises(ArchiveError, match=r"does not exist; .*holds data\.mdb"):
        sequence_members(tmp_path / "D_lmdb")
    (tmp_path / "D_lmdb" / "data.mdb").write_bytes(bytes(20000))
    with pytest.raises(ArchiveError, match="not an LMDB file of format 1 of a 64-bit machine"):
        sequence_members(tmp_path / "D_lmdb")


def test_values_that_are_no_images_are_never_unpickled(tmp_path):
    write(tmp_path / "D_lmdb", {"D\\a\\1.png": b"cos\nsystem\n(S'echo'\ntR.", "D\\a\\1.npy": b"\x93NUMPY"})
    assert sequence_members(tmp_path / "D_lmdb") == {"D/a": ["D/a/1.png"]}
    manifest = pd.DataFrame(
        {"dataset": "D", "video": "a", "path": "D_lmdb!D/a", "kind": "sequence", "label": 1, "method": "x"},
        index=[0],
    ).assign(split="test", root=str(tmp_path))
    preprocess(manifest, tmp_path / "faces", PreprocessConfig(crops="as_is", workers=1, size_px=64))
    (row,) = FACES.read(tmp_path / "faces/faces.parquet").to_dict("records")
    assert (row["status"], row["reason"]) == (
        "decode_error",
        "the image cannot be decoded (cannot identify image file)",
    )


def into_lmdb(root, separator):
    """Moves the crops of a tree of DeepfakeBench into LMDB, keys with one or the other slash."""
    rgb = root / "datasets/rgb"
    for dataset in [path for path in rgb.iterdir() if path.is_dir()]:
        files = {path: path.relative_to(dataset).as_posix() for path in dataset.rglob("*.png")}
        values = {
            f"{dataset.name}\\{name}".replace("/", separator): png(len(name)) for path, name in files.items()
        }
        write(root / "datasets_lmdbs" / f"{dataset.name}_lmdb", values)
    rgb.rename(root.parent / f"{root.name}-rgb")


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_lists_of_deepfakebench_find_their_crops_in_lmdb_as_in_folders(tmp_path, separator):
    columns = ["dataset", "label", "method", "split", "identity", "source_video", "compression"]
    root = deepfakebench(tmp_path / "a")
    before = scan(root).manifest
    into_lmdb(root, separator)
    found = scan(root)
    assert found.manifest["path"].str.contains("_lmdb!").all()
    assert found.manifest["video"].tolist() == before["video"].str.removeprefix("datasets/rgb/").tolist()
    pd.testing.assert_frame_equal(found.manifest[columns], before[columns])
    assert unused_files(root, found.manifest).rows["reason"].eq("a list or note").all()


def test_crops_in_lmdb_are_cut_by_no_one_and_made_anew_where_the_file_changed(tmp_path):
    write(tmp_path / "D_lmdb", {f"D\\a\\frames\\1\\{i:03d}.png": png(40 * i, 64) for i in range(3)})
    manifest = pd.DataFrame(
        {"dataset": "D", "video": "1", "path": "D_lmdb!D/a/frames/1", "kind": "sequence", "label": 0},
        index=[0],
    ).assign(method="real", split="test", root=str(tmp_path))
    config = PreprocessConfig(crops="as_is", workers=1, size_px=64)
    for shift in (0, 9):
        if shift:
            write(tmp_path / "D_lmdb", {"D\\a\\frames\\1\\000.png": png(shift, 64)})
        preprocess(manifest, tmp_path / "faces", config)
        faces = FACES.read(tmp_path / "faces/faces.parquet")
        assert faces["frame"].tolist() == [0, 1, 2]
        levels = [cv2.imread(str(tmp_path / "faces" / crop)).mean() for crop in faces["crop"]]
        assert levels == [shift, 40, 80]


def table_of(folder, rows):
    """A faces table: (dataset, video, label, split, face, status) of each row, with a crop where it is ok."""
    records = []
    for number, (dataset, video, label, split, face, status) in enumerate(rows):
        crop = f"crops/{number}.png"
        (folder / "crops").mkdir(parents=True, exist_ok=True)
        if status in ("ok", "cut"):
            (folder / crop).write_bytes(png(number, 32) if status == "ok" else png()[:-9])
        records.append(
            {
                **{"dataset": dataset, "video": video, "label": label, "split": split, "frame": number},
                "face": face,
                "kind": "video",
                "method": {0: "real", 1: "Deepfakes"}.get(label),
                "crop": crop if status in ("ok", "cut") else None,
                "status": status if status != "cut" else "ok",
                "compression": "c23" if dataset == "FaceForensics++" else None,
            }
        )
    return FACES.validate(pd.DataFrame(records).astype({"label": "Int64"}))


FF = "FaceForensics++"
ROWS = [
    (FF, "original_sequences/youtube/c23/videos/000", 0, "train", 0, "ok"),
    (FF, "original_sequences/youtube/c23/videos/000", 0, "train", 0, "ok"),
    (FF, "original_sequences/youtube/c23/videos/000", 0, "train", 1, "ok"),
    (FF, "manipulated_sequences/Deepfakes/c23/videos/000_003", 1, "test", 0, "ok"),
    ("Celeb-DF-v2", "Celeb-real/id0_0000", 0, "test", 0, "ok"),
    ("Celeb-DF-v2", "YouTube-real/id0_0000", 0, "test", 0, "ok"),
    ("ours", "swap/a", 1, "test", 0, "ok"),
    ("ours", "swap/b", 1, "test", 0, "no_face"),
    ("ours", "swap/c", None, "test", 0, "ok"),
    ("ours", "swap/d", 1, "test", 0, "cut"),
]


def test_an_export_has_the_keys_labels_and_bytes_that_deepfakebench_asks_for(tmp_path, capsys):
    table = table_of(tmp_path / "faces", ROWS)
    FACES.write(table, tmp_path / "faces/faces.parquet")
    out = tmp_path / "out"
    verb.run(verb.Config(faces=tmp_path / "faces/faces.parquet", out=out))
    listed = json.loads((out / "dataset_json" / f"{FF}.json").read_text())[FF]
    key = f"{FF}\\original_sequences\\youtube\\c23\\frames\\000\\000.png"
    assert listed["FF-real"]["train"]["c23"]["000"] == {
        "label": "FF-real",
        "frames": [key, key[:-7] + "001.png"],
    }
    assert list(listed["FF-real"]["train"]["c23"]) == ["000", "000_face1"]
    assert list(listed["FF-DF"]["test"]["c23"]) == ["000_003"]
    # As its loader does: the frame of the list is the key, and OpenCV decodes the value.
    with lmdb.open(str(out / f"{FF}_lmdb"), readonly=True, lock=False) as database, database.begin() as look:
        assert look.stat()["entries"] == 4
        assert cv2.imdecode(np.frombuffer(look.get(key.encode()), np.uint8), cv2.IMREAD_COLOR).shape == (
            32,
            32,
            3,
        )
    celeb = json.loads((out / "dataset_json/Celeb-DF-v2.json").read_text())["Celeb-DF-v2"]
    assert len(celeb["CelebDFv2_real"]["test"]) == 2, "two videos of one name stay two"
    said = capsys.readouterr().out
    assert "FaceForensics++: 4 crops of 3 videos" in said
    assert "rows: 10 given, 7 used, not used: " in said
    for words in ("1 without a crop", "1 without a label", "1 of a crop that cannot be read (cut short)"):
        assert words in said


# DeepfakeBench's ``label_dict``, as far as the rows below need it.
LABEL_DICT = {
    "FF-real": 0,
    "FF-DF": 1,
    "CelebDFv2_real": 0,
    "CelebDFv2_fake": 1,
    "ours_Real": 0,
    "ours_Fake": 1,
}


def read_as_deepfakebench(out, dataset, split, compression):
    """(label, video, number, picture) of each frame, by its published scheme; nothing of ours is used."""
    listed = json.loads((out / "dataset_json" / f"{dataset}.json").read_text())[dataset]
    with (
        lmdb.open(
            str(out / f"{dataset}_lmdb"), create=False, subdir=True, readonly=True, lock=False
        ) as database,
        database.begin(write=False) as look,
    ):
        for splits in listed.values():
            videos = splits[split]
            if compression in videos:
                videos = videos[compression]
            for name, video in videos.items():
                numbers = [int(frame.split("\\")[-1].split(".")[0]) for frame in video["frames"]]
                assert numbers == sorted(numbers)
                for number, frame in zip(numbers, video["frames"], strict=True):
                    value = look.get(frame.encode())
                    picture = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR)
                    yield LABEL_DICT[video["label"]], name, number, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def test_every_exported_crop_is_found_by_the_published_scheme_of_keys(tmp_path):
    """The keys of the list are those of the LMDB, whole and in order, with labels that are known there."""
    table = table_of(tmp_path, ROWS)
    out = tmp_path / "out"
    export_crops(table, tmp_path, out)
    usable = table[(table["status"] == "ok") & table["label"].notna() & (table["video"] != "swap/d")]
    for dataset, rows in usable.groupby("dataset"):
        found = [
            (label, number, int(picture.mean()))
            for split in ("train", "val", "test")
            for label, _, number, picture in read_as_deepfakebench(out, dataset, split, "c23")
        ]
        # The level of each picture is its row's number.
        assert sorted(found) == sorted((int(row.label), row.frame, row.Index) for row in rows.itertuples())
        with lmdb.open(str(out / f"{dataset}_lmdb"), readonly=True, lock=False) as database:
            assert database.stat()["entries"] == len(rows)


def test_what_was_exported_is_scanned_with_the_same_labels_splits_and_people(tmp_path):
    export_crops(table_of(tmp_path, ROWS), tmp_path, tmp_path / "out")
    found = scan(tmp_path / "out", source="deepfakebench").manifest
    told = found[["dataset", "label", "method", "split", "compression"]].drop_duplicates()
    assert {tuple(row) for row in told.astype(object).fillna("").to_numpy()} == {
        (FF, 0, "real", "train", "c23"),
        (FF, 1, "Deepfakes", "test", "c23"),
        ("Celeb-DF-v2", 0, "real", "test", ""),
        ("ours", 1, "ours_Fake", "test", ""),
    }
    assert found.loc[found["method"] == "Deepfakes", "identity"].tolist() == ["000"]


def test_an_export_writes_over_nothing_and_names_what_it_cannot_write(tmp_path, monkeypatch):
    export_crops(table_of(tmp_path, ROWS[:1]), tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="is there already; move it or give another out="):
        export_crops(table_of(tmp_path, ROWS[:1]), tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match=r"no row .* can be exported \(1 without a crop\)"):
        export_crops(table_of(tmp_path, ROWS[7:8]), tmp_path, tmp_path / "b")
    for video, dataset, said in (
        ("x" * 600, "D", "511 bytes"),
        ("../a", "D", "no '..'"),
        ("a", "../D", "rename"),
    ):
        with pytest.raises(InputError, match=said):
            # Alone: nothing is left to be written.
            export_crops(table_of(tmp_path, [(dataset, video, 1, "test", 0, "ok")]), tmp_path, tmp_path / "c")
    # Finding A33: one such name among others refused the whole export.
    rows = table_of(tmp_path, [*ROWS[:1], ("D", "a\\b", 1, "test", 0, "ok")])
    done = export_crops(rows, tmp_path, tmp_path / "some")
    assert sum(done.crops.values()) == 1
    assert [count for reason, count in done.unused.items() if "no backslash" in reason] == [1]
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(InputError, match=r"pip install unmasked\[lmdb\]"):
        export_crops(table_of(tmp_path, ROWS[:1]), tmp_path, tmp_path / "d")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["A", "B"]),
            st.sampled_from(["a", "b/c", "b/d"]),
            st.sampled_from([0, 1, None]),
            st.just("test"),
            st.integers(0, 2),
            st.sampled_from(["ok", "no_face", "missing_file", "cut"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_rows_that_are_used_and_those_that_are_not_add_up(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("t")
    table = table_of(folder, rows)
    if not ((table["status"] == "ok") & table["label"].notna()).any():
        with pytest.raises(InputError, match="no row of the faces table can be exported"):
            export_crops(table, folder, folder / "out")
        return
    done = export_crops(table, folder, folder / "out")
    assert done.crops.total() + done.unused.total() == len(rows)
    for dataset, count in done.crops.items():
        assert len(read_all(folder / "out" / f"{dataset}_lmdb")) == count
