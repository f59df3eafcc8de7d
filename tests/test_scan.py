"""From a folder to a manifest: which source, what the messages say, what is refused."""

import re
import time

import numpy as np
import pandas as pd
import pytest
from layout_trees import FF_SPLITS, TREES, celeb_df, faceforensics, table, touch, uadfv, wild_deepfake

from unmasked.app.verbs import scan as scan_verb
from unmasked.datasets import scan
from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import MANIFEST
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.extract import Task, extract


@pytest.mark.parametrize("name", scan.sources())
def test_every_layout_is_recognised_by_itself_and_from_the_folder_above(name, tmp_path):
    root = TREES[name](tmp_path / "root")
    assert scan.scan(root).source == name
    above = scan.scan(tmp_path)
    assert (above.source, above.root) == (name, root)


@pytest.mark.parametrize("name", scan.sources())
def test_counts_add_up_to_the_manifest(name, tmp_path):
    result = scan.scan(TREES[name](tmp_path / "root"))
    parts = [count for part, count, _ in result.counts if part not in ("sequences", "train", "val", "test")]
    if name == "folder":  # there is no official number to compare with: the first message has the files
        assert (parts, len(result.manifest)) == ([], 4)
        assert "2 real and 2 fake; train 2, val 1, test 1" in result.messages[0]
    else:
        assert sum(parts) == len(result.manifest)


def test_registry_is_the_folder_with_general_layouts_last():
    files = {path.stem for path in scan.FOLDER.glob("*.py")}
    assert set(scan.sources()) == files
    assert tuple(scan.sources())[-2:] == ("table", "folder")


def test_a_source_goes_by_its_file_name_or_its_own_name(tmp_path):
    root = celeb_df(tmp_path)
    assert scan.scan(root, "celeb_df").manifest.equals(scan.scan(root, "Celeb-DF-v2").manifest)


def test_found_stands_against_official_with_where_to_get_the_rest(tmp_path):
    messages = scan.scan(celeb_df(tmp_path)).messages
    assert messages[0].startswith(f"Celeb-DF-v2 in {tmp_path}: 7 videos; 5 real and 2 fake; train 4, test 3")
    assert "Celeb-real test: 1 of 108" in messages
    missing = 590 + 300 + 5639 - 7
    assert any(
        line.startswith(f"{missing} are missing") and "https://github.com" in line for line in messages
    )


def test_more_than_the_official_number_is_said(tmp_path):
    splits = {**FF_SPLITS, "val": [[f"{i:03d}", f"{i + 1:03d}"] for i in range(100, 242, 2)]}
    result = scan.scan(faceforensics(tmp_path, splits, methods=()))
    assert any("c23 youtube val: 142 of 140, 2 more than there should be" in line for line in result.messages)


def test_official_counts_of_absent_compressions_are_not_asked_for(tmp_path):
    counts = scan.scan(faceforensics(tmp_path)).counts
    assert {part.split()[0] for part, _, _ in counts} == {"c23"}
    assert sum(official for _, _, official in counts) == 5000


def test_options_reach_the_source_and_unknown_ones_are_named(tmp_path):
    root = faceforensics(tmp_path, compressions=("c23", "c40"))
    assert set(scan.scan(root, compression=("c40",)).manifest["compression"]) == {"c40"}
    with pytest.raises(InputError, match="no option 'compresion'; it has compression, methods"):
        scan.scan(root, compresion=("c40",))


def test_refused_archives_are_in_the_messages(tmp_path):
    root = wild_deepfake(tmp_path)
    touch(root / "real_test" / "broken.tar.gz")
    assert any("broken.tar.gz cannot be read" in line for line in scan.scan(root).messages)


def test_files_of_zero_bytes_are_reported_and_stay_for_preprocessing_to_say_why(tmp_path):
    for name in ("real/a.png", "fake/b.png", "fake/c.mp4"):
        touch(tmp_path / name, "content" if name.startswith("real") else "")
    result = scan.scan(tmp_path)
    assert "files of zero bytes: 2 (fake/b.png, fake/c.mp4)" in result.messages
    settings, statuses = PreprocessConfig(), {}
    for row in result.manifest.itertuples():
        rows, crops = extract(Task(row.root, row.path, row.kind, "", ""), settings, detector=None)
        assert crops == {}
        statuses[row.path] = [(found["frame"], found["status"], found["reason"]) for found in rows]
    assert statuses["fake/b.png"] == [(-1, "decode_error", "b.png has zero bytes")]
    assert statuses["fake/c.mp4"] == [(-1, "decode_error", "c.mp4 has zero bytes")]
    assert statuses["real/a.png"][0][1] == "decode_error"


def test_the_verb_splits_freezes_and_finds_its_split_again(tmp_path, capsys):
    root = uadfv(tmp_path / "uadfv", count=20)
    out = tmp_path / "out" / "manifest.parquet"
    scan_verb.run(scan_verb.Config(root=root, out=out, split_seed=1))
    first = MANIFEST.read(out)
    assert set(first["split"]) == {"train", "val", "test"}
    assert (out.parent / "manifest.splits.json").is_file()
    scan_verb.run(scan_verb.Config(root=root, out=out))
    assert MANIFEST.read(out).equals(first)
    assert "split by source video, seed 1" in capsys.readouterr().out
    with pytest.raises(InputError, match="split=test and split_seed or split_fractions exclude each other"):
        scan_verb.run(scan_verb.Config(root=root, out=out, split="test", split_seed=1))


def test_a_missing_root_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist; give the folder of a dataset"):
        scan.scan(tmp_path / "nowhere")


def test_an_empty_root_is_refused(tmp_path):
    with pytest.raises(InputError, match="is empty; give a folder with"):
        scan.scan(tmp_path)


def test_an_unknown_layout_is_refused_with_the_known_ones(tmp_path):
    touch(tmp_path / "notes" / "a.txt")
    with pytest.raises(
        InputError, match=r"not laid out like.*real/ and fake/.*Celeb-DF-v2.*source=NAME"
    ) as said:
        scan.scan(tmp_path)
    assert len(str(said.value)) < 600
    assert f"root {tmp_path} is" in str(said.value)  # and not the folder notes/ in it


def test_a_folder_of_tables_is_told_that_one_of_them_may_be_the_root(tmp_path):
    touch(tmp_path / "scores.csv")
    touch(tmp_path / "fold" / "more.csv")
    with pytest.raises(InputError, match=rf"root {tmp_path} is .*\(fold/more\.csv, scores\.csv\) may be"):
        scan.scan(tmp_path)


def test_an_unknown_source_is_refused_with_the_nearest(tmp_path):
    root = faceforensics(tmp_path)
    with pytest.raises(InputError, match="is 'faceforensics' meant"):
        scan.scan(root, "faceforensic")
    with pytest.raises(InputError, match=re.escape("it is one of auto, ai_face")):
        scan.scan(root, "zzz")


def test_a_root_of_another_layout_than_the_named_source_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"not laid out like.*FaceForensics\+\+"):
        scan.scan(celeb_df(tmp_path), "faceforensics")


def test_a_folder_of_several_datasets_is_not_chosen_from(tmp_path):
    celeb_df(tmp_path / "a")
    faceforensics(tmp_path / "b")
    with pytest.raises(InputError, match="holds several datasets"):
        scan.scan(tmp_path)
    assert scan.scan(tmp_path, "celeb_df").root == tmp_path / "a"


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is a file; give the folder of a dataset, or a \.csv"):
        scan.scan(touch(tmp_path / "a.doc", "x"))
    with pytest.raises(InputError, match="is a file, which source table alone can read"):
        scan.scan(touch(tmp_path / "a.csv", "x"), "folder")


def test_a_table_is_a_root_of_its_own(tmp_path):
    root = table(tmp_path)
    assert scan.scan(root / "manifest.csv").manifest.equals(scan.scan(root).manifest)


def test_a_manifest_that_was_written_reads_back_the_same(tmp_path):
    manifest = scan.scan(faceforensics(tmp_path / "ff")).manifest
    for suffix in (".parquet", ".csv"):
        MANIFEST.write(manifest, tmp_path / f"manifest{suffix}")
        again = MANIFEST.read(tmp_path / f"manifest{suffix}")
        pd.testing.assert_frame_equal(again, manifest)


def test_real_faces_are_scanned_by_their_table(shared):
    result = scan.scan(shared / "faces")
    assert result.source == "table"
    assert result.manifest["kind"].value_counts().to_dict() == {"image": 439, "video": 46}
    assert result.manifest["label"].value_counts().to_dict() == {0: 222, 1: 263}
    assert not any("not there" in line for line in result.messages)


def test_a_hundred_thousand_rows_scan_and_validate_in_seconds(tmp_path):

    rows = np.arange(100_000)
    touch(tmp_path / "0" / "0.jpg")
    listed = pd.DataFrame(
        {"path": [f"{row // 100}/{row}.jpg" for row in rows], "label": rows % 2, "age": rows % 80}
    )
    listed.to_csv(tmp_path / "manifest.csv", index=False)
    started = time.process_time()
    assert len(scan.scan(tmp_path).manifest) == 100_000
    assert time.process_time() - started < 20  # about 2 s; per-row work would take minutes
