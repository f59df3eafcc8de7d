"""Annotations: decoded by code book, checked against themselves, joined to videos."""

import numpy as np
import pandas as pd
import pytest
from layout_trees import FF_SPLITS, V2_HEADER, celeb_df, faceforensics, touch

from unmasked.datasets import codebooks
from unmasked.datasets.annotations import read_annotations
from unmasked.datasets.codebooks import load_codebook
from unmasked.datasets.decoding import age_group, skin_tone_group
from unmasked.datasets.demographics import join
from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import DEMOGRAPHICS, MANIFEST
from unmasked.datasets.sources import celeb_df as celeb_source
from unmasked.datasets.sources import faceforensics as ff_source
from unmasked.datasets.video_keys import stems, video_keys

V1_HEADER = "Image Path,Ground Truth Gender,Ground Truth Age,Ground Truth Race,Intersection,Target"
BOOKS = sorted(path.stem for path in codebooks.FOLDER.glob("*.yaml"))


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


# Code books


@pytest.mark.parametrize("name", BOOKS)
def test_every_code_book_loads_and_names_its_version(name):
    book = load_codebook(name)
    assert book.name
    assert set(book.attributes) <= set(DEMOGRAPHICS)


def test_an_unknown_code_book_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"'ai_face_v3' does not exist \(is 'ai_face_v\d' meant\?\)"):
        load_codebook("ai_face_v3")


def test_a_code_book_of_ones_own_is_a_file(tmp_path):
    path = touch(
        tmp_path / "mine.yaml", "name: mine\npath: [who]\nattributes: {race: {columns: [r], codes: {7: x}}}\n"
    )
    assert list(read_annotations(touch(tmp_path / "a.csv", "who,r\n1.mp4,7\n"), str(path))["race"]) == ["x"]
    with pytest.raises(InputError, match=r"mine\.yaml: attributes"):
        load_codebook(
            touch(tmp_path / "mine.yaml", "name: mine\npath: [who]\nattributes: {hair: {columns: [r]}}\n")
        )


# Reading


def test_the_published_first_row_of_ai_face_v2_decodes(tmp_path):
    row = "AI_Face_imagesV2/DMs/DCFACe/7856/6.jpg,1,3,6,1,1,4"
    read = read_annotations(touch(tmp_path / "train.csv", f"{V2_HEADER}\n{row}\n")).iloc[0]
    assert list(read[["gender", "age", "skin_tone", "label"]]) == ["male", "middle", 6, 1]
    assert read["annotation"] == "AI-Face v2"
    assert read["key"] == "AI_Face_imagesV2/DMs/DCFACe/7856/6"


def test_the_columns_that_the_readme_names_are_read_as_well(tmp_path):
    text = "Image Path,Gender,Age,Skin Tone,Intersection,Target\na.jpg,0,4,10,2,0\n"
    read = read_annotations(touch(tmp_path / "train.csv", text)).iloc[0]
    assert list(read[["gender", "age", "skin_tone", "label"]]) == ["female", "senior", 10, 0]


def test_the_reversed_intersection_of_early_2025_is_refused_and_called_so(tmp_path):
    rows = ["a.jpg,1,3,6,1,1,1", "b.jpg,0,3,9,1,2,5", "c.jpg,0,1,2,0,0,3"]
    with pytest.raises(InputError, match="reversed coding"):
        read_annotations(touch(tmp_path / "train.csv", "\n".join([V2_HEADER, *rows]) + "\n"))


def test_an_intersection_that_is_merely_wrong_names_the_row(tmp_path):
    rows = ["a.jpg,1,3,6,1,1,4", "b.jpg,0,3,9,1,2,4", "c.jpg,0,1,2,0,0,0"]
    with pytest.raises(InputError, match=r"1 of 3 rows \(row 1: 4, but female, dark\)"):
        read_annotations(touch(tmp_path / "train.csv", "\n".join([V2_HEADER, *rows]) + "\n"))


def test_a_tone_group_that_is_not_the_tones_is_refused(tmp_path):
    with pytest.raises(InputError, match="'Skin Tone Group' disagrees with skin_tone_group"):
        read_annotations(touch(tmp_path / "train.csv", f"{V2_HEADER}\na.jpg,1,3,6,1,2,5\n"))


def test_the_readmes_age_code_that_no_file_has_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"'Predicted Age' holds '5' in row 0.*0, 1, 2, 3, 4"):
        read_annotations(touch(tmp_path / "train.csv", f"{V2_HEADER}\na.jpg,1,5,6,1,1,4\n"))


def test_missing_codes_stay_missing_and_are_not_checked(tmp_path):
    rows = ["a.jpg,1,3,6,1,1,4", "b.jpg,,,,1,,", "c.jpg,0,,2,,0,"]
    read = read_annotations(touch(tmp_path / "train.csv", "\n".join([V2_HEADER, *rows]) + "\n"))
    assert read.loc[1, [*DEMOGRAPHICS]].isna().all()
    assert list(read["gender"].fillna("-")) == ["male", "-", "female"]
    assert list(read["label"].fillna(-1)) == [1, 1, -1]


def test_ai_face_v1_has_race_and_another_intersection(tmp_path):
    text = f"{V1_HEADER}\na.jpg,1,3,0,0,0\nb.jpg,0,2,2,6,1\n"
    read = read_annotations(touch(tmp_path / "test.csv", text), "ai_face_v1")
    assert read[["gender", "age", "race"]].to_numpy().tolist() == [
        ["male", "others", "asian"],
        ["female", "senior", "black"],
    ]
    assert read["skin_tone"].isna().all()
    with pytest.raises(InputError, match="disagrees with gender and race"):
        read_annotations(touch(tmp_path / "test.csv", f"{V1_HEADER}\na.jpg,1,3,0,4,0\n"), "ai_face_v1")


def test_a_file_of_another_version_is_refused(tmp_path):
    path = touch(tmp_path / "test.csv", f"{V1_HEADER}\na.jpg,1,3,0,0,0\n")
    with pytest.raises(InputError, match="none of the columns of AI-Face v2"):
        read_annotations(path, "ai_face_v2")
    with pytest.raises(InputError, match="no column 'Image Path'"):
        read_annotations(touch(tmp_path / "x.csv", "name,Predicted Gender\na,1\n"), "ai_face_v2")


def test_plain_columns_take_words_years_and_tones(tmp_path):
    text = "video,gender,age,skin_tone,race\n000,F,12,1,Asian\n001,male,25-34,10,\n"
    read = read_annotations(touch(tmp_path / "mine.csv", text), "plain")
    assert list(read["key"]) == ["000", "001"]
    assert list(read["gender"]) == ["female", "male"]
    assert list(read["age"]) == ["child", "25-34"]
    assert list(read["skin_tone"]) == [1, 10]
    assert list(read["race"].fillna("-")) == ["asian", "-"]


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
    with pytest.raises(InputError, match=r"none of the 1 annotated videos.*'youtube/777'"):
        join(videos, read_annotations(path))
    with pytest.raises(InputError, match="has no row"):
        join(videos, read_annotations(touch(tmp_path / "x.csv", V2_HEADER + "\n")))
    with pytest.raises(InputError, match="policy 'mean' is unknown"):
        join(videos, read_annotations(path), policy="mean")


# Groups


def test_tones_are_grouped_as_1_to_3_4_to_6_and_7_to_10():
    groups = skin_tone_group(pd.Series([*range(1, 11), np.nan]))
    assert list(groups[:10]) == ["light"] * 3 + ["medium"] * 3 + ["dark"] * 4
    assert pd.isna(groups[10])


def test_years_are_grouped_at_13_25_45_and_60():
    years = pd.Series([0, 12.9, 13, 24, 25, 44, 45, 59, 60, 101, np.nan])
    expected = ["child"] * 2 + ["youth"] * 2 + ["adult"] * 2 + ["middle"] * 2 + ["senior"] * 2
    assert list(age_group(years)[:10]) == expected
    assert age_group(years)[10:].isna().all()


# Real files


def test_the_real_v1_sample_decodes_and_agrees_with_itself(shared):
    read = read_annotations(shared / "annotations" / "ai_face" / "v1_sample.csv", "ai_face_v1")
    assert len(read) == 2499
    assert read["key"].str.fullmatch(r"youtube/\d{3}").all()
    assert set(read["race"]) == {"asian", "white", "black", "others"}
    assert (read["gender"] == "male").sum() == 127 + 852 + 42 + 69


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
