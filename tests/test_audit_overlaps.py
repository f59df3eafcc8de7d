"""Who and what stands on both sides of a split, against a slow count by hand."""

import numpy as np
import pandas as pd
import pytest
from audit_corpus import people
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_trees import celeb_df, faceforensics

from unmasked.datasets.audit.overlaps import overlaps, repeated_files
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.scan import scan


def manifest(rows, **columns):
    table = pd.DataFrame(rows, columns=["dataset", "video", "label", "split", "identity"]).assign(**columns)
    table["path"] = table.get("path", table["video"] + ".mp4")
    return MANIFEST.validate(table.assign(kind="video", method=np.where(table["label"] == 1, "fake", "real")))


def shared(found, kind="identity"):
    rows = found.shared[(found.shared["kind"] == kind) & found.shared["certain"]]
    return set(
        rows[["value", "dataset", "split", "other_dataset", "other_split"]].itertuples(index=False, name=None)
    )


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("AB"), st.sampled_from(["train", "val", "test"]), st.integers(0, 5)),
        min_size=1,
    )
)
def test_shared_people_are_those_counted_by_hand(rows):
    order = {"train": 0, "val": 1, "test": 2}
    table = manifest(
        [(d, f"v{i}", 0, split, f"ann{'bcdefg'[who]}") for i, (d, split, who) in enumerate(rows)]
    )
    expected = set()
    for d, split, who in rows:
        for other_d, other_split, other_who in rows:
            within = d == other_d and order[split] < order[other_split]
            between = d != other_d and split != "test" and other_split == "test"
            if who == other_who and (within or between):
                expected.add((f"ann{'bcdefg'[who]}", d, split, other_d, other_split))
    assert shared(overlaps(table)) == expected


def test_whose_face_was_put_in_counts_as_shown():
    rows = [
        ("A", "real/1", 0, "train", "ann"),
        ("A", "real/2", 0, "test", "bob"),
        ("A", "fake/2_1", 1, "test", "bob"),
    ]
    by_person = overlaps(manifest(rows, source_video=[None, None, "ann"]))
    by_video = overlaps(manifest(rows, source_video=[None, None, "real/1"]))
    by_name = overlaps(manifest(rows, source_video=[None, None, "1"]))
    for found in (by_person, by_video, by_name):
        assert shared(found) == {("ann", "A", "train", "A", "test")}
    assert shared(by_person, "video") == set()  # a person is no video
    assert shared(by_name, "video") == {("1", "A", "train", "A", "test")}


def test_a_source_that_is_no_video_of_the_dataset_is_a_person():
    rows = [("A", "fake/1_W9", 1, "train", "ann"), ("A", "fake/2_W9", 1, "test", "bob")]
    found = overlaps(manifest(rows, source_video="W9", target_video=["1", "2"]))
    assert found.shared[["kind", "value"]].to_numpy().tolist() == [["identity", "W9"]]


def test_an_original_and_its_fake_on_two_sides_are_found_without_identities():
    rows = [
        ("A", "real/1", 0, "train", None),
        ("A", "fake/x", 1, "test", None),
        ("A", "real/2", 0, "test", None),
    ]
    found = overlaps(manifest(rows, target_video=[None, "real/1", None]))
    assert shared(found, "video") == {("real/1", "A", "train", "A", "test")}
    assert found.summary[["values", "rows", "rows_of"]].to_numpy().tolist() == [[1, 1, 2]]


def test_two_videos_of_one_name_in_different_folders_are_not_taken_for_one():
    rows = [
        ("A", "x/01", 0, "train", None),
        ("A", "y/01", 0, "test", None),
        ("A", "fake/x", 1, "train", None),
    ]
    assert overlaps(manifest(rows, target_video=[None, None, "01"])).shared.empty


def test_the_same_file_in_two_splits_is_found_whatever_it_is_called():
    rows = [("A", "a", 0, "train", None), ("A", "b", 0, "test", None)]
    assert shared(overlaps(manifest(rows, path="one.mp4", root="/data")), "file") == {
        ("/data/one.mp4", "A", "train", "A", "test")
    }
    assert overlaps(manifest(rows, path="one.mp4", root=["/data", "/other"])).shared.empty


def test_repeated_files_are_listed_with_both_labels():
    rows = [("A", "a", 0, "train", None), ("A", "b", 1, "train", None), ("A", "c", 1, "train", None)]
    found = repeated_files(manifest(rows, path=["x.mp4", "x.mp4", "y.mp4"], root="/data"))
    assert found[["file", "label"]].to_numpy().tolist() == [["/data/x.mp4", 0], ["/data/x.mp4", 1]]


@pytest.mark.parametrize(
    ("first", "second", "name", "is_certain"),
    [
        ("A", "B", "id12", False),  # each numbers its own
        ("A", "B", "000", False),
        ("A", "B", "person_3", False),
        ("A", "B", "aalscayrfi", True),
        ("A", "B", "ann", True),
        ("FaceForensics++", "DeeperForensics-1.0", "000", True),
        ("Celeb-DF-v1", "Celeb-DF-v2", "id12", True),
    ],
)
def test_equal_names_of_two_datasets_count_where_they_mean_something(first, second, name, is_certain):
    table = manifest([(first, "a", 0, "train", name), (second, "b", 0, "test", name)])
    assert overlaps(table).shared["certain"].tolist() == [is_certain]
    assert overlaps(table, shared_names=True).shared["certain"].tolist() == [True]


def test_data_without_a_training_split_are_held_against_others_as_a_whole():
    one = manifest([("A", "a", 0, "test", "ann")])
    other = manifest([("B", "b", 0, "train", "ann")])
    assert shared(overlaps(one, other)) == {("ann", "A", "test", "B", "train")}


def test_unknown_people_are_shared_with_nobody():
    assert overlaps(manifest([("A", "a", 0, "train", None), ("A", "b", 0, "test", None)])).shared.empty


def test_official_ff_splits_share_nobody_and_celeb_df_shares_people_only_as_it_is_known_to(tmp_path):
    assert overlaps(scan(faceforensics(tmp_path / "ff")).manifest).shared.empty
    celebrities = overlaps(scan(celeb_df(tmp_path / "cdf")).manifest)
    assert set(celebrities.shared["kind"]) <= {"identity", "video"}
    assert celebrities.summary["certain"].all()


def test_a_clean_split_by_person_has_no_overlap_and_one_moved_fake_two():
    table = people(200, np.random.default_rng(0))
    assert overlaps(table).shared.empty
    table.loc[table["video"] == "Swap/0000", "split"] = "val"
    assert overlaps(table).shared[["kind", "value"]].to_numpy().tolist() == [
        ["identity", "id0"],
        ["video", "real/0000"],
    ]
