"""Annotations joined to videos, images, faces and scores."""

import json
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_trees import FF_SPLITS, V2_HEADER, celeb_df, faceforensics, touch

from unmasked.datasets.annotations import read_annotations
from unmasked.datasets.demographics import POLICIES, join, join_files
from unmasked.datasets.errors import InputError
from unmasked.datasets.join_report import write_reports
from unmasked.datasets.manifest import DEMOGRAPHICS, MANIFEST
from unmasked.datasets.sources import celeb_df as celeb_source
from unmasked.datasets.sources import faceforensics as ff_source
from unmasked.datasets.tables import read_frame
from unmasked.datasets.video_keys import stems, video_keys


def v2_frames(folder, rows, name="train.csv"):
    """A v2 file of (frame name, gender, age, tone, label) rows, with its derived columns right."""
    lines = [V2_HEADER]
    for frame, gender, age, tone, label in rows:
        group = 0 if tone <= 3 else 1 if tone <= 6 else 2
        codes = [gender, age, tone, label, group, 3 * gender + group]
        lines.append(",".join(map(str, [f"AI_Face_imagesV2/deepfakes/{frame}.png", *codes])))
    return touch(folder / name, "\n".join(lines) + "\n")


@pytest.fixture
def videos(tmp_path):
    """FaceForensics++ (two compressions) and Celeb-DF in one manifest."""
    ff = ff_source.scan(faceforensics(tmp_path / "ff", compressions=("c23", "c40")))
    return pd.concat([ff, celeb_source.scan(celeb_df(tmp_path / "cdf", inner="videos"))], ignore_index=True)


# Keys


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("x/deepfakes/ff++/fake/0_Deepfakes_300_304_151.png", "deepfakes/300_304"),
        ("x/deepfakes/ff++/crop_img/0_youtube_186_151.png", "youtube/186"),
        ("0_Celeb-synthesis_id54_id50_0006_91.png", "celeb-synthesis/id54_id50_0006"),
        ("x/0_YouTube-real_00170_1.png", "youtube-real/00170"),
        ("f/FaceForensics++_All/FaceForensics++/real/youtube/train/113.mp4/0-745.jpeg", "youtube/113"),
        ("f/FaceForensics++/fake/FaceSwap/val/000_003.mp4/0-12.jpeg", "faceswap/000_003"),
        ("x/deepfakes/dfdc/fake/0_4316_71.png", "dfdc/4316"),
        (
            "x/deepfakes/dfd/0_23_19__secret_conversation__H4SUVFTL_271.png",
            "dfd/23_19__secret_conversation__H4SUVFTL",
        ),
        ("x/DMs/DCFACe/7856/6.jpg", "x/DMs/DCFACe/7856/6"),
    ],
)
def test_frames_are_known_by_their_video(path, key):
    assert list(video_keys(stems(pd.Series([path], dtype="str")))) == [key]


def test_videos_have_one_key_in_every_compression(videos):
    keys = video_keys(videos["video"])
    ff = videos["dataset"] == "FaceForensics++"
    assert keys[ff].value_counts().unique().tolist() == [2]
    assert "deepfakes/004_005" in set(keys)
    assert "celeb-synthesis/id0_id1_0000" in set(keys)


# Joining


def test_frames_join_to_videos_of_both_datasets_in_every_compression(videos, tmp_path):
    path = v2_frames(
        tmp_path,
        [
            ("ff++/fake/0_Deepfakes_000_001_1", 0, 1, 2, 1),
            ("ff++/fake/0_Deepfakes_000_001_11", 0, 1, 2, 1),
            ("celebdf/real/0_Celeb-real_id0_0000_91", 1, 4, 9, 0),
            ("celebdf/real/0_Celeb-real_id77_0000_91", 1, 4, 9, 0),
        ],
    )
    joined, report = join(videos, read_annotations(path))
    assert list(joined.columns) == list(videos.columns)
    MANIFEST.validate(joined)
    said = joined[joined["gender"].notna()]
    assert sorted(zip(said["compression"].fillna("-"), said["gender"], said["skin_tone"], strict=True)) == [
        ("-", "male", 9),
        ("c23", "female", 2),
        ("c40", "female", 2),
    ]
    assert set(said["annotation"]) == {"AI-Face v2"}
    assert (report.rows, report.matched, report.unmatched, report.unused) == (
        len(videos),
        3,
        len(videos) - 3,
        1,
    )
    assert report.conflicts == dict.fromkeys(DEMOGRAPHICS, 0)
    assert joined.loc[joined["gender"].isna(), ["annotation", *DEMOGRAPHICS]].isna().all(axis=None)


def test_nothing_is_inferred_from_another_video_of_the_same_person(videos, tmp_path):
    path = v2_frames(tmp_path, [("ff++/real/0_youtube_000_1", 0, 1, 2, 0)])
    joined, _ = join(videos, read_annotations(path))
    same_person = joined[(joined["identity"] == "000") & (joined["label"] == 1)]
    assert len(same_person) == 8
    assert same_person[[*DEMOGRAPHICS]].isna().all(axis=None)


def test_frames_that_disagree_go_by_majority_or_are_dropped(videos, tmp_path):
    frames = [(f"ff++/real/0_youtube_000_{n}", int(n > 2), 1, 2, 0) for n in range(1, 11)]  # 8 of 10 male
    frames += [(f"ff++/real/0_youtube_001_{n}", n % 2, 2, 3, 0) for n in range(1, 5)]  # two and two
    annotations = read_annotations(v2_frames(tmp_path, frames))
    majority, report = join(videos, annotations, policy="majority")
    real = majority[majority["video"].str.startswith("original_sequences/youtube/c23/")].set_index("identity")
    assert real.loc["000", "gender"] == "male"
    assert pd.isna(real.loc["001", "gender"])
    assert real.loc["001", "age"] == "adult"
    assert (report.conflicts["gender"], report.undecided["gender"]) == (2, 1)
    dropped, report = join(videos, annotations, policy="drop")
    assert dropped["gender"].isna().all()
    assert (report.conflicts["gender"], report.undecided["gender"]) == (2, 2)
    assert dropped["age"].notna().sum() == 4
    assert "videos whose frames disagree on gender: 2 (2 left missing, policy drop)" in str(report)


def test_a_row_that_stands_twice_has_one_vote(videos, tmp_path):
    frames = [("ff++/real/0_youtube_000_1", 0, 1, 2, 0)] * 5 + [
        ("ff++/real/0_youtube_000_11", 1, 1, 2, 0),
        ("ff++/real/0_youtube_000_21", 1, 1, 2, 0),
    ]
    joined, report = join(videos, read_annotations(v2_frames(tmp_path, frames)))
    assert report.duplicated == 4
    assert joined["gender"].dropna().unique().tolist() == ["male"]


def test_labels_that_disagree_are_counted_and_the_manifests_kept(videos, tmp_path):
    joined, report = join(
        videos, read_annotations(v2_frames(tmp_path, [("ff++/real/0_youtube_000_1", 0, 1, 2, 1)]))
    )
    assert report.label_disagreements == 2
    assert (joined["label"] == videos["label"]).all()
    assert "rows with another label there, the table's kept: 2" in str(report)


def test_a_second_file_adds_and_does_not_erase(videos, tmp_path):
    first = v2_frames(tmp_path, [("ff++/real/0_youtube_000_1", 0, 1, 2, 0)])
    second = v2_frames(tmp_path, [("ff++/real/0_youtube_004_1", 1, 2, 8, 0)], name="test.csv")
    joined = videos
    for path in (first, second):
        joined, _ = join(joined, read_annotations(path))
    c23 = joined[joined["compression"] == "c23"].dropna(subset=["gender"])
    assert dict(zip(c23["identity"], c23["gender"], strict=True)) == {"000": "female", "004": "male"}
    plain = read_annotations(touch(tmp_path / "race.csv", "video,race\nyoutube/000,black\n"), "plain")
    joined, _ = join(joined, plain)
    row = joined[joined["video"].eq("original_sequences/youtube/c23/videos/000")].iloc[0]
    assert list(row[["gender", "race", "annotation"]]) == ["female", "black", "AI-Face v2 + plain columns"]


def test_plain_rows_join_by_video_path_or_dataset(videos, tmp_path):
    text = (
        "dataset,video,gender\n"
        "Celeb-DF-v2,Celeb-real/id0_0000,male\n"
        ",youtube/004,female\n"
        ",original_sequences/youtube/c23/videos/005.mp4,male\n"
        "Other,Celeb-real/id0_0001,female\n"
    )
    joined, report = join(videos, read_annotations(touch(tmp_path / "a.csv", text), "plain"))
    said = joined.dropna(subset=["gender"])
    assert dict(zip(said["video"], said["gender"], strict=True)) == {
        "Celeb-real/videos/id0_0000": "male",
        "original_sequences/youtube/c23/videos/004": "female",
        "original_sequences/youtube/c40/videos/004": "female",
        "original_sequences/youtube/c23/videos/005": "male",
        "original_sequences/youtube/c40/videos/005": "male",
    }
    assert report.unused == 1


def test_annotations_of_another_dataset_are_refused(videos, tmp_path):
    path = v2_frames(tmp_path, [("ff++/real/0_youtube_777_1", 0, 1, 2, 0)])
    with pytest.raises(InputError, match=r"none of the 1 videos of AI-Face v2.*'youtube/777'"):
        join(videos, read_annotations(path))
    with pytest.raises(InputError, match="has no row"):
        join(videos, read_annotations(touch(tmp_path / "x.csv", V2_HEADER + "\n")))
    with pytest.raises(InputError, match="policy 'mean' is unknown"):
        join(videos, read_annotations(path), policy="mean")


# Images and crops, by path


def image_table(*paths, dataset="D"):
    videos = [path.rsplit(".", 1)[0] for path in paths]
    return pd.DataFrame(
        {"dataset": dataset, "video": videos, "path": list(paths), "kind": "image", "label": 0}
    )


def annotations_of(folder, rows, name="mine.csv"):
    """Plain annotations: (path, gender) rows."""
    return read_annotations(touch(folder / name, "path,gender\n" + "".join(f"{p},{g}\n" for p, g in rows)))


@pytest.mark.parametrize(
    ("prefix", "folder"),
    [("", ""), ("", "images/"), ("", "a/b/"), ("AI_Face_imagesV2/", ""), ("./", "a/"), ("..\\a\\b\\", "")],
)
def test_images_are_found_from_whichever_folder_the_paths_start(prefix, folder, tmp_path):
    table = image_table(*(f"{folder}DMs/DCFace/{n}/6.jpg" for n in range(9)))
    rows = [(f"{prefix}DMs/DCFace/{n}/6.png", ("male", "female")[n % 2]) for n in range(6)]
    joined, report = join(table, annotations_of(tmp_path, rows))
    assert joined["gender"].fillna("-").tolist() == ["male", "female"] * 3 + ["-"] * 3
    assert (report.matched, report.by_path, report.unused) == (6, 6, 0)


def test_a_name_that_several_files_have_is_nobodys(tmp_path):
    table = image_table("a/real/1.png", "a/fake/1.png", "a/real/2.png")
    with pytest.raises(InputError, match=r"none of the 1 videos of plain columns"):
        join(table, annotations_of(tmp_path, [("1.png", "male")]))
    joined, report = join(table, annotations_of(tmp_path, [("1.png", "male"), ("2.png", "female")]))
    assert joined["gender"].fillna("-").tolist() == ["-", "-", "female"]
    assert report.unused == 1


def test_other_folders_of_the_same_files_are_other_people(tmp_path):
    """1.png of one generator is not 1.png of another."""
    said = annotations_of(tmp_path, [(f"DMs/Palette/train/{n}.png", "male") for n in range(9)])
    for folder in ("GANs/StyleGAN/train/", "StyleGAN/train/", ""):
        with pytest.raises(InputError, match="none of the 9 videos"):
            join(image_table(*(f"{folder}{n}.png" for n in range(9))), said)


def test_a_name_that_two_datasets_have_is_left_out_until_the_dataset_is_named(tmp_path):
    table = pd.concat([image_table("a/1.png", "a/2.png", dataset="A"), image_table("a/2.png", dataset="B")])
    joined, report = join(table, annotations_of(tmp_path, [("a/1.png", "male"), ("a/2.png", "female")]))
    assert joined["gender"].fillna("-").tolist() == ["male", "-", "-"]
    assert (report.unclear, report.unused, report.matched) == (1, 1, 1)
    assert "in several datasets, which a column `dataset` would tell: 1" in str(report)
    with pytest.raises(InputError, match="those of 2 rows of several datasets; say whose each is"):
        join(table, annotations_of(tmp_path, [("a/2.png", "female")]))
    named = touch(tmp_path / "named.csv", "dataset,path,gender\nB,a/2.png,female\n")
    assert join(table, read_annotations(named))[0]["gender"].fillna("-").tolist() == ["-", "-", "female"]


def test_the_same_frame_of_another_method_is_not_taken_for_this_one(tmp_path):
    tree = "manipulated_sequences/{}/c23/frames/000_003/{}.png"
    table = image_table(*(tree.format("FaceSwap", n) for n in range(5)))
    with pytest.raises(InputError, match="have 'deepfakes/000_003', the table has 'faceswap/000_003'"):
        join(table, annotations_of(tmp_path, [(tree.format("Deepfakes", n), "male") for n in range(5)]))


def test_crops_that_are_not_annotated_themselves_go_by_their_video(tmp_path):
    table = image_table(*(f"Celeb-DF-v2/Celeb-real/frames/id0_0001/{n:03d}.png" for n in range(4)))
    joined, report = join(table, annotations_of(tmp_path, [("Celeb-real/id0_0001", "male")]))
    assert joined["gender"].tolist() == ["male"] * 4
    assert (report.matched, report.by_path) == (4, 0)


def test_rows_without_a_path_are_nobodys(tmp_path):
    said = annotations_of(tmp_path, [("a/1.png", "male"), ("", "female"), ("b/9.png", "male")])
    joined, report = join(image_table("a/1.png", "a/2.png"), said)
    assert joined["gender"].fillna("-").tolist() == ["male", "-"]
    unused = report.findings[report.findings["finding"] == "not_in_table"]
    assert unused["path"].tolist() == ["b/9.png"]
    with pytest.raises(InputError, match="none of the 0 videos of plain columns"):
        join(image_table("a/1.png"), said[1:2])


# Frames


def test_each_frame_keeps_its_own_under_the_policy_frame(tmp_path):
    paths = [f"x/Celeb-real/id0_0001/frame{n}.png" for n in (1, 11, 21)]
    said = annotations_of(tmp_path, list(zip(paths, ["male", "female", "male"], strict=True)))
    images = image_table(*paths)
    assert join(images, said, policy="frame")[0]["gender"].tolist() == ["male", "female", "male"]
    assert join(images, said, policy="majority")[0]["gender"].tolist() == ["male"] * 3
    assert join(images, said, policy="drop")[0]["gender"].isna().all()


def test_rows_of_faces_get_the_nearest_frame_and_videos_what_all_frames_say(tmp_path):
    rows = [(f"x/Celeb-real/id0_0001/frame{n}.png", gender) for n, gender in ((1, "male"), (11, "female"))]
    rows += [(f"x/Celeb-real/id0_0002/frame{n}.png", "female") for n in (1, 11)]
    said = annotations_of(tmp_path, rows)
    videos = ["Celeb-real/id0_0001"] * 6 + ["Celeb-real/id0_0002"] * 2
    frames = [0, 5, 7, 16, 17, -1, 3, 100]
    faces = pd.DataFrame({"dataset": "Celeb-DF-v2", "video": videos, "frame": frames, "score": 0.5})
    joined, report = join(faces, said, policy="frame")
    # Frame 17 is six away from any; a row without a frame is of the video, whose frames disagree.
    expected = ["male", "male", "female", "female", "-", "-", "female", "female"]
    assert joined["gender"].fillna("-").tolist() == expected
    assert (report.by_frame, report.matched) == (5, 8)
    manifest = faces.drop_duplicates("video").drop(columns=["frame", "score"])
    assert join(manifest, said, policy="frame")[0]["gender"].fillna("-").tolist() == ["-", "female"]


def test_a_frame_that_two_rows_describe_differently_is_missing(tmp_path):
    said = annotations_of(tmp_path, [("a/1.png", "male"), ("a/1.png", "female"), ("a/2.png", "male")])
    joined, _ = join(image_table("a/1.png", "a/2.png"), said, policy="frame")
    assert joined["gender"].fillna("-").tolist() == ["-", "male"]


def test_scores_without_frames_are_joined_by_video(tmp_path):
    scores = pd.DataFrame(
        {"dataset": ["X", "X"], "video": ["000", "001"], "label": [0, 1], "score": [0.1, 0.9]}
    )
    joined, report = join(scores, annotations_of(tmp_path, [("001.mp4", "female")]))
    assert joined["gender"].fillna("-").tolist() == ["-", "female"]
    assert report.unmatched == 1
    with pytest.raises(InputError, match="has no column 'dataset'; it has video, label, score"):
        join(scores.drop(columns="dataset"), annotations_of(tmp_path, [("001.mp4", "female")]))


# Several files


def test_files_of_one_book_vote_together_and_books_follow_one_another(videos, tmp_path):
    train = v2_frames(tmp_path, [("ff++/real/0_youtube_000_1", 0, 1, 2, 0)])
    test = v2_frames(
        tmp_path, [(f"ff++/real/0_youtube_000_{n}", 1, 1, 2, 0) for n in (11, 21)], name="test.csv"
    )
    mine = touch(tmp_path / "mine.csv", "video,gender,race\nyoutube/000,female,black\nyoutube/001,male,\n")
    joined, reports = join_files(videos, [train, test, mine])
    assert [report.annotation for report in reports] == ["AI-Face v2", "plain columns"]
    assert (reports[0].conflicts["gender"], reports[0].undecided["gender"]) == (1, 0)
    assert reports[1].replaced["gender"] == 2
    row = joined[joined["video"].eq("original_sequences/youtube/c23/videos/000")].iloc[0]
    assert list(row[["gender", "race", "skin_tone"]]) == ["female", "black", 2]
    assert row["annotation"] == "AI-Face v2 + plain columns"
    again, _ = join_files(videos, [train, test, mine], ["ai_face_v2", "ai_face_v2", "plain"])
    pd.testing.assert_frame_equal(joined, again)
    with pytest.raises(InputError, match="3 annotation files have 2 code books"):
        join_files(videos, [train, test, mine], ["ai_face_v2", "plain"])


# Report


def test_the_report_names_every_row_concerned(tmp_path):
    rows = [("Celeb-real/id0_0001/frame1.png", 1, 0), ("Celeb-real/id0_0001/frame11.png", -1, 0)]
    rows += [("Celeb-real/id0_0001/frame11.png", -1, 0), ("Celeb-real/id9_0009/frame1.png", 1, 0)]
    rows += [("Celeb-synthesis/id0_id1_0000/frame1.png", 1, 1)]
    text = ",path,label,male,white,black\n" + "".join(f"0,c/{p},{label},{m},1,-1\n" for p, m, label in rows)
    table = pd.DataFrame(
        {
            "dataset": "Celeb-DF-v2",
            "video": ["Celeb-real/id0_0001", "Celeb-real/id0_0002", "Celeb-synthesis/id0_id1_0000"],
            "label": [0, 0, 0],
        }
    )
    _, report = join(table, read_annotations(touch(tmp_path / "a.csv", text)))
    found = report.findings.fillna("-").to_numpy().tolist()
    assert found == [
        ["not_annotated", "Celeb-DF-v2", "Celeb-real/id0_0002", "-", "-", "-"],
        ["not_in_table", "-", "celeb-real/id9_0009", "c/Celeb-real/id9_0009/frame1.png", "-", "-"],
        ["repeated", "-", "celeb-real/id0_0001", "c/Celeb-real/id0_0001/frame11.png", "-", "-"],
        ["conflict", "-", "celeb-real/id0_0001", "-", "gender", "male 1, female 1; left missing"],
        ["other_label", "Celeb-DF-v2", "Celeb-synthesis/id0_id1_0000", "-", "label", "the table says 0"],
    ]
    for name in ("report.csv", "report.parquet"):
        write_reports([report], tmp_path / name)
        read = read_frame(tmp_path / name)
        assert read.drop(columns="annotation").fillna("-").to_numpy().tolist() == found
        assert read["annotation"].unique().tolist() == ["A-Celeb-DF"]
    write_reports([report], tmp_path / "report.json")
    (written,) = json.loads((tmp_path / "report.json").read_text())
    assert (written["rows"], written["matched"], written["unused"], written["duplicated"]) == (3, 2, 1, 1)
    assert list(written["findings"][0].values())[:3] == found[0][:3]
    with pytest.raises(InputError, match=r"suffix '.txt'; it is written as .csv, .parquet or .json"):
        write_reports([report], tmp_path / "report.txt")


# Laws

NAMES = [f"{folder}/id{n}_0000" for folder in ("Celeb-real", "Celeb-synthesis") for n in range(3)]
PATHS = [*NAMES, *(f"{name}/frame{n}.png" for name in NAMES for n in (1, 11)), "other/1.png", "other/2.png"]
votes = st.lists(
    st.tuples(
        st.sampled_from(PATHS), st.sampled_from(["male", "female", ""]), st.sampled_from([1, 5, 9, ""])
    ),
    min_size=1,
    max_size=25,
)


def read_votes(rows):
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{path},{gender},{tone}\n" for path, gender, tone in rows]
        return read_annotations(
            touch(Path(folder) / "a.csv", "path,gender,skin_tone\n" + "".join(lines)), "plain"
        )


@given(rows=votes, table=st.permutations(PATHS), policy=st.sampled_from(POLICIES))
@settings(max_examples=15, deadline=None)
def test_joining_changes_neither_number_nor_order_nor_other_columns(rows, table, policy):
    table = image_table(*table).set_axis(range(100, 100 + len(PATHS)))
    joined, report = join(table, read_votes(rows), policy=policy)
    pd.testing.assert_frame_equal(joined[list(table.columns)], table)
    assert report.matched + report.unmatched == len(table)
    assert not joined.loc[joined["annotation"].isna(), list(DEMOGRAPHICS)].notna().any(axis=None)


@given(rows=votes, random=st.randoms(use_true_random=False), policy=st.sampled_from(POLICIES))
@settings(max_examples=15, deadline=None)
def test_the_order_of_annotation_rows_changes_nothing(rows, random, policy):
    table = image_table(*PATHS)
    shuffled = list(rows)
    random.shuffle(shuffled)
    (one, first), (other, second) = (
        join(table, read_votes(each), policy=policy) for each in (rows, shuffled)
    )
    pd.testing.assert_frame_equal(one, other)
    assert first.as_dict() == second.as_dict()


@given(rows=votes)
@settings(max_examples=15, deadline=None)
def test_the_majority_is_that_of_pandas_mode(rows):
    read = read_votes(rows)
    joined, _ = join(image_table(*PATHS), read)
    distinct = read.drop_duplicates(["key", "path", *DEMOGRAPHICS])
    for key, said in zip(video_keys(pd.Series(stems(pd.Series(PATHS)))), joined["gender"], strict=True):
        modes = distinct.loc[distinct["key"] == key, "gender"].mode()
        assert (pd.isna(said) and len(modes) != 1) or list(modes) == [said]


# Real files


def test_the_real_v1_sample_joins_to_the_official_videos(shared, tmp_path):
    root = faceforensics(tmp_path, splits={})
    for split in FF_SPLITS:
        touch(
            root / f"{split}.json", (shared / "annotations" / "faceforensics" / f"{split}.json").read_text()
        )
    for name in ff_source.read_splits(root):
        if "_" not in name:
            touch(root / f"original_sequences/youtube/c23/videos/{name}.mp4")
    joined, report = join(
        ff_source.scan(root),
        read_annotations(shared / "annotations" / "ai_face" / "v1_sample.csv", "ai_face_v1"),
    )
    assert (report.rows, report.matched, report.unused, report.duplicated) == (1000, 691, 0, 28)
    assert report.conflicts["gender"] == 103
    assert joined["gender"].notna().sum() == 691 - report.undecided["gender"]
