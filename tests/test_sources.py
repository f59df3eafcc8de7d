"""Each source, on trees in its real layout, with the layout's traps."""

import re
import shutil
import tarfile

import pytest
from layout_trees import (
    CELEB_TEST,
    CELEB_VIDEOS,
    FF_METHODS,
    FF_SPLITS,
    TREES,
    V2_HEADER,
    V2_TRAIN,
    ai_face,
    archive,
    celeb_df,
    faceforensics,
    frames,
    table,
    touch,
    wild_deepfake,
)

from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.scan import GENERAL, scan, sources
from unmasked.datasets.sources import ai_face as ai_face_source
from unmasked.datasets.sources import celeb_df as celeb_source
from unmasked.datasets.sources import faceforensics as ff_source
from unmasked.datasets.sources import folder as folder_source
from unmasked.datasets.sources import table as table_source
from unmasked.datasets.sources import wild_deepfake as wild_source

ALL = sources()


def by_video(manifest):
    return manifest.set_index("video")


@pytest.mark.parametrize("name", ALL)
def test_every_source_has_a_tree_and_reads_it(name, tmp_path):
    assert name in TREES, f"source {name} has no tree in tests/layout_trees.py"
    root = TREES[name](tmp_path / "root")
    assert ALL[name].matches(root)
    manifest = ALL[name].scan(root)
    assert list(manifest.columns) == list(MANIFEST.columns)
    assert len(manifest) > 2
    assert (manifest["root"] == str(root)).all()
    assert set(manifest["method"][manifest["label"] == 0]) <= {"real"}  # DeeperForensics has no real part
    assert "real" not in set(manifest["method"][manifest["label"] == 1])
    assert manifest["video"].is_unique


@pytest.mark.parametrize("name", ALL)
def test_every_source_states_its_facts(name):
    source = ALL[name]
    assert source.NAME
    assert source.LICENCE
    assert source.LAYOUT
    assert "<root>" in source.__doc__, "the docstring shows the expected tree"
    for link in (source.REQUEST, source.PAPER):
        assert link == "" or link.startswith("https://")


@pytest.mark.parametrize("name", ALL)
def test_no_source_takes_a_tree_of_another_for_its_own(name, tmp_path):
    root = TREES[name](tmp_path / "root")
    taken = [other for other, source in ALL.items() if other not in GENERAL and source.matches(root)]
    assert taken == [] if name in GENERAL else [name]


# FaceForensics++


def test_same_named_videos_of_four_methods_stay_four_videos(tmp_path):
    manifest = ff_source.scan(faceforensics(tmp_path))
    same = manifest[manifest["path"].str.endswith("/004_005.mp4")]
    assert set(same["method"]) == set(FF_METHODS)
    assert same["video"].nunique() == 4


def test_a_pair_of_a_split_holds_two_reals_and_two_fakes_of_each_method(tmp_path):
    manifest = ff_source.scan(faceforensics(tmp_path))
    assert manifest.groupby(["split", "label"]).size().to_dict() == {
        (split, label): (8 if label else 2) for split in ("train", "val", "test") for label in (0, 1)
    }
    test = manifest[manifest["split"] == "test"]
    assert set(test["identity"]) == {"004", "005"}


def test_target_and_source_come_from_the_name(tmp_path):
    fakes = by_video(ff_source.scan(faceforensics(tmp_path)))
    row = fakes.loc["manipulated_sequences/FaceSwap/c23/videos/001_000"]
    assert (row["target_video"], row["source_video"], row["identity"]) == ("001", "000", "001")
    real = fakes.loc["original_sequences/youtube/c23/videos/001"]
    assert real["identity"] == "001"
    assert real[["target_video", "source_video", "mask"]].isna().all()


def test_all_compressions_are_read_unless_one_is_chosen(tmp_path):
    root = faceforensics(tmp_path, compressions=("c23", "c40"))
    both = ff_source.scan(root)
    assert set(both["compression"]) == {"c23", "c40"}
    assert both["video"].is_unique
    assert set(ff_source.scan(root, compression="c40")["compression"]) == {"c40"}
    with pytest.raises(InputError, match="compression 'c30' is not one of"):
        ff_source.scan(root, compression=("c30",))


def test_only_the_chosen_methods_are_read(tmp_path):
    root = faceforensics(tmp_path, methods=(*FF_METHODS, "FaceShifter"))
    notes = []
    assert "FaceShifter" not in set(ff_source.scan(root, notes=notes)["method"])
    assert any("FaceShifter is there and is left out" in note for note in notes)
    assert set(ff_source.scan(root, methods=["FaceShifter"])["method"]) == {"real", "FaceShifter"}


def test_mask_stands_where_its_video_does(tmp_path):
    root = faceforensics(tmp_path)
    mask = "manipulated_sequences/Deepfakes/masks/videos/000_001.mp4"
    touch(root / mask)
    masks = ff_source.scan(root)["mask"].dropna()
    assert list(masks) == [mask]


def test_a_video_in_no_split_file_is_reported_and_not_guessed(tmp_path):
    root = faceforensics(tmp_path)
    touch(root / "manipulated_sequences/Deepfakes/c23/videos/000_004.mp4")  # known ids, but no pair
    touch(root / "original_sequences/youtube/c23/videos/999.mp4")
    notes = []
    manifest = ff_source.scan(root, notes=notes)
    assert not manifest["path"].str.contains("000_004|999").any()
    assert (
        sum("no split file" in note and re.search(r"\(000_004\)|\(999\)", note) is not None for note in notes)
        == 2
    )


def test_deepfakedetection_in_the_same_tree_is_left_out_and_reported(tmp_path):
    root = faceforensics(tmp_path)
    touch(root / "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__talking__YVGY8LOK.mp4")
    notes = []
    assert not ff_source.scan(root, notes=notes)["path"].str.contains("DeepFakeDetection").any()
    assert any("DeepFakeDetection is there" in note for note in notes)


def test_videos_that_the_splits_name_and_the_disk_lacks_are_reported(tmp_path):
    root = faceforensics(tmp_path)
    (root / "manipulated_sequences/FaceSwap/c23/videos/004_005.mp4").unlink()
    notes = []
    ff_source.scan(root, notes=notes)
    assert notes == ["c23 FaceSwap, in a split file but not there: 1 (004_005)"]


def test_split_files_that_overlap_are_refused(tmp_path):
    root = faceforensics(tmp_path, splits={**FF_SPLITS, "test": [["000", "005"]]})
    with pytest.raises(InputError, match=r"video 000 is also in train\.json"):
        ff_source.scan(root)


def test_absent_or_broken_split_files_are_refused_with_their_origin(tmp_path):
    root = faceforensics(tmp_path)
    touch(root / "val.json", '{"a": 1}')
    with pytest.raises(InputError, match=r"val\.json is not a list of pairs"):
        ff_source.scan(root)
    for split in FF_SPLITS:
        (root / f"{split}.json").unlink()
    with pytest.raises(InputError, match=r"no train\.json, val\.json and test\.json.*github"):
        ff_source.scan(root)


def test_faceforensics_folders_without_a_video_are_refused(tmp_path):
    (tmp_path / "original_sequences" / "youtube").mkdir(parents=True)
    with pytest.raises(InputError, match="but no video"):
        ff_source.scan(tmp_path)


def test_official_pairs_give_720_140_140_videos(tmp_path, shared):
    for split in ("train", "val", "test"):
        shutil.copy(shared / "annotations" / "faceforensics" / f"{split}.json", tmp_path)
    splits = ff_source.read_splits(tmp_path)
    reals = [split for name, split in splits.items() if "_" not in name]
    fakes = [split for name, split in splits.items() if "_" in name]
    expected = {"train": 720, "val": 140, "test": 140}
    assert {split: reals.count(split) for split in expected} == expected
    assert {split: fakes.count(split) for split in expected} == expected


# Celeb-DF


def test_one_in_the_celeb_df_list_means_real(tmp_path):
    manifest = celeb_source.scan(celeb_df(tmp_path))
    test = manifest[manifest["split"] == "test"]
    assert dict(zip(test["video"], test["label"], strict=True)) == {
        "YouTube-real/00001": 0,
        "Celeb-real/id0_0000": 0,
        "Celeb-synthesis/id0_id1_0000": 1,
    }


def test_no_celeb_df_test_video_is_in_train_and_no_folder_is_lost(tmp_path):
    manifest = celeb_source.scan(celeb_df(tmp_path))
    train = manifest[manifest["split"] == "train"]
    test = manifest[manifest["split"] == "test"]
    assert set(train["video"]) & set(test["video"]) == set()
    assert set(train["video"]) | set(test["video"]) == set(CELEB_VIDEOS)
    assert set(train["video"].str.split("/").str[0]) == {"Celeb-real", "YouTube-real", "Celeb-synthesis"}
    assert "val" not in set(manifest["split"])


def test_celeb_df_identities_are_the_celebrities_and_each_youtuber(tmp_path):
    manifest = by_video(celeb_source.scan(celeb_df(tmp_path)))
    assert manifest.loc["Celeb-real/id0_0001", "identity"] == "id0"
    fake = manifest.loc["Celeb-synthesis/id1_id0_0000"]
    assert (fake["identity"], fake["source_video"], fake["target_video"]) == ("id1", "id0", "id1_0000")
    youtube = manifest[manifest.index.str.startswith("YouTube")]["identity"]
    assert list(youtube) == ["youtube_00000", "youtube_00001"]


def test_celeb_df_videos_may_lie_in_a_videos_folder_in_another_case(tmp_path):
    root = celeb_df(tmp_path, inner="videos")
    (root / "YouTube-real").rename(root / "Youtube-real")
    manifest = celeb_source.scan(root)
    assert (manifest["split"] == "test").sum() == len(CELEB_TEST)
    assert manifest["path"].str.contains("/videos/").all()
    found = {part: count for part, count, official in celeb_source.counts(manifest)}
    assert found["YouTube-real test"] == 1


def test_a_celeb_df_list_with_reversed_labels_is_refused(tmp_path):
    flipped = [line.translate(str.maketrans("01", "10", ""))[:1] + line[1:] for line in CELEB_TEST]
    with pytest.raises(InputError, match="1 means real"):
        celeb_source.scan(celeb_df(tmp_path, test=flipped))


def test_an_absent_or_foreign_celeb_df_list_is_refused(tmp_path):
    root = celeb_df(tmp_path, test=["Celeb-real/id0_0000.mp4"])
    with pytest.raises(InputError, match="line 1 is 'Celeb-real/id0_0000"):
        celeb_source.scan(root)
    (root / celeb_source.TEST_LIST).unlink()
    with pytest.raises(InputError, match=r"no List_of_testing_videos\.txt"):
        celeb_source.scan(root)


def test_listed_celeb_df_videos_and_folders_that_are_not_there_are_reported(tmp_path):
    root = celeb_df(tmp_path, videos=[name for name in CELEB_VIDEOS if "YouTube" not in name])
    notes = []
    celeb_source.scan(root, notes=notes)
    assert notes == [
        "in the test list but not there: 1 (YouTube-real/00001)",
        "folder YouTube-real is not there",
    ]


def test_official_celeb_df_list_has_518_videos_of_which_178_real(tmp_path, shared):
    shutil.copy(shared / "annotations" / "celeb_df" / celeb_source.TEST_LIST, tmp_path)
    listed = celeb_source.read_test_list(tmp_path)
    assert len(listed) == 518
    assert sum(label == 0 for label in listed.values()) == 178
    official = celeb_source.OFFICIAL
    assert sum(count for part, count in official.items() if part.endswith(" test")) == 518
    assert sum(count for part, count in official.items() if part.startswith("Celeb-synthesis")) == 5639


# WildDeepfake


def test_each_folder_in_an_archive_is_a_sequence(tmp_path):
    manifest = wild_source.scan(wild_deepfake(tmp_path))
    assert (manifest["kind"] == "sequence").all()
    assert manifest.groupby(["split", "label"]).size().to_dict() == {
        ("test", 0): 2,
        ("test", 1): 2,
        ("train", 0): 2,
        ("train", 1): 2,
    }
    paths = manifest[(manifest["split"] == "test") & (manifest["label"] == 1)]["path"]
    assert list(paths) == ["fake_test/0.tar.gz!0/fake/0", "fake_test/0.tar.gz!0/fake/1"]
    assert manifest["identity"].isna().all()


def test_scanning_archives_writes_nothing(tmp_path):
    root = wild_deepfake(tmp_path)
    before = sorted(root.rglob("*"))
    wild_source.scan(root)
    assert sorted(root.rglob("*")) == before


def test_hostile_archives_are_refused_by_name_and_the_rest_is_read(tmp_path):

    root = wild_deepfake(tmp_path)
    link = tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive(root / "real_test" / "up.tar.gz", [("../../x.png", b"x")])
    archive(root / "real_test" / "absolute.tar.gz", [("/tmp/x.png", b"x")])
    archive(root / "real_test" / "link.tar.gz", [("a/0.png", link)])
    whole = archive(root / "real_test" / "short.tar.gz", frames("a", range(200))).read_bytes()
    (root / "real_test" / "short.tar.gz").write_bytes(whole[: len(whole) // 2])
    touch(root / "real_test" / "empty.tar.gz")
    archive(root / "real_test" / "no_image.tar.gz", [("a/readme.txt", b"x")])
    notes = []
    manifest = wild_source.scan(root, notes=notes)
    assert len(manifest) == 8
    for name in ("up", "absolute", "link", "short", "empty", "no_image"):
        assert sum(f"{name}.tar.gz" in note for note in notes) == 1, name
    assert not (tmp_path.parent / "x.png").exists()


def test_folders_unpacked_beside_their_archive_are_read_once(tmp_path):
    root = wild_deepfake(tmp_path)
    for folder in ("0/real/0", "0/real/1"):
        for number in range(3):
            touch(root / "real_test" / folder / f"{number}.png")
    notes = []
    manifest = wild_source.scan(root, notes=notes)
    paths = manifest[(manifest["split"] == "test") & (manifest["label"] == 0)]["path"]
    assert list(paths) == ["real_test/0/real/0", "real_test/0/real/1"]
    assert len(manifest) == 8
    assert any("the unpacked ones are read: 2 sequences" in note for note in notes)


def test_wild_deepfake_without_a_readable_sequence_is_refused(tmp_path):
    touch(tmp_path / "real_train" / "0.tar.gz", "not an archive")
    with pytest.raises(InputError, match=r"no image sequence.*0\.tar\.gz cannot be read"):
        wild_source.scan(tmp_path)


# AI-Face


def test_ai_face_rows_decode_and_keep_their_split(tmp_path):
    manifest = by_video(ai_face_source.scan(ai_face(tmp_path)))
    row = manifest.loc["AI_Face_imagesV2/DMs/DCFACe/7856/6"]
    assert (row["gender"], row["age"], row["skin_tone"]) == ("male", "middle", 6)
    assert (row["label"], row["method"], row["split"], row["annotation"]) == (
        1,
        "DCFACe",
        "train",
        "AI-Face v2",
    )
    assert manifest.loc["AI_Face_imagesV2/Real/FFHQ/00000", "method"] == "real"
    frame = manifest.loc["AI_Face_imagesV2/deepfakes/ff++/fake/0_Deepfakes_300_304_151"]
    assert (frame["method"], frame["identity"], frame["kind"]) == ("Deepfakes", "300", "image")
    assert manifest["split"].value_counts().to_dict() == {"train": 3, "test": 1}


def test_ai_face_paths_are_found_below_whatever_folder_they_were_unpacked_in(tmp_path):
    root = ai_face(tmp_path)
    (root / "AI_Face_imagesV2").rename(root / "images")
    for path in list((root / "images").iterdir()):
        path.rename(root / path.name)
    (root / "images").rmdir()
    manifest = ai_face_source.scan(root)
    assert len(manifest) == 4
    assert manifest["path"].str.startswith(("DMs/", "Real/", "deepfakes/")).all()


def test_absent_and_unlisted_ai_face_images_are_reported(tmp_path):
    root = ai_face(tmp_path)
    (root / "AI_Face_imagesV2/Real/FFHQ/00000.png").unlink()
    touch(root / "AI_Face_imagesV2/Real/FFHQ/99999.png")
    notes = []
    assert len(ai_face_source.scan(root, notes=notes)) == 3
    assert notes == [
        "listed but not there: 1 (AI_Face_imagesV2/Real/FFHQ/00000.png)",
        "images in no CSV file, left out: 1 (AI_Face_imagesV2/Real/FFHQ/99999.png)",
    ]


def test_an_ai_face_image_of_both_splits_is_a_test_image(tmp_path):
    root = ai_face(tmp_path, test=V2_TRAIN[:1])
    notes = []
    manifest = by_video(ai_face_source.scan(root, notes=notes))
    assert manifest.loc["AI_Face_imagesV2/DMs/DCFACe/7856/6", "split"] == "test"
    assert len(manifest) == 3
    assert any("rows that repeat an image" in note for note in notes)


def test_ai_face_v1_frames_are_known_by_the_folders_of_their_videos(tmp_path):
    header = "Image Path,Ground Truth Gender,Ground Truth Age,Ground Truth Race,Intersection,Target"
    base = "fairness_dataset/FaceForensics++_All/FaceForensics++"
    paths = {
        f"{base}/real/youtube/train/197.mp4/0-231.jpeg": ("real", "197", 0),
        f"{base}/fake/Deepfakes/train/300_304.mp4/0-151.jpeg": ("Deepfakes", "300", 1),
        "fairness_dataset/AttGAN/000001.jpg": ("fake", "nobody", 1),
    }
    lines = [f"{path},1,1,1,1,{label}" for path, (_, _, label) in paths.items()]
    touch(tmp_path / "train.csv", "\n".join([header, *lines]) + "\n")
    for path in paths:
        touch(tmp_path / path)
    manifest = ai_face_source.scan(tmp_path).set_index("path")
    assert set(manifest["annotation"]) == {"AI-Face v1"}
    for path, (method, identity, _) in paths.items():
        assert manifest.loc[path, "method"] == method
        assert manifest["identity"].fillna("nobody")[path] == identity


def test_fakes_in_a_folder_called_real_are_kept_as_listed_and_counted(tmp_path, shared):
    rows = (shared / "annotations" / "ai_face" / "v1_sample.csv").read_text().splitlines()
    touch(tmp_path / "test.csv", "\n".join(rows) + "\n")
    for row in rows[1:]:
        touch(tmp_path / row.split(",")[0])
    notes = []
    manifest = ai_face_source.scan(tmp_path, notes=notes)
    fakes = int((manifest["label"] == 1).sum())
    assert fakes > 300  # every path of this sample says real
    assert any(f"fake by the CSV file, in a folder called real: {fakes} " in note for note in notes)


def test_ai_face_without_images_or_split_names_is_refused(tmp_path):
    root = ai_face(tmp_path)
    shutil.rmtree(root / "AI_Face_imagesV2")
    with pytest.raises(InputError, match="none of the 4 images"):
        ai_face_source.scan(root)
    (root / "train.csv").rename(root / "all.csv")
    with pytest.raises(InputError, match=r"all\.csv has no split in its name"):
        ai_face_source.scan(root)


def test_ai_face_row_without_a_label_is_refused(tmp_path):
    root = ai_face(tmp_path)
    touch(root / "test.csv", f"{V2_HEADER}\nAI_Face_imagesV2/Real/FFHQ/00000.png,0,2,9,,2,2\n")
    with pytest.raises(InputError, match="'Target' is empty in row 2"):
        ai_face_source.scan(root)


# folder


def test_folder_takes_labels_and_splits_from_folder_names(tmp_path):
    manifest = folder_source.scan(TREES["folder"](tmp_path / "mine"), method="StyleGAN2")
    found = {row.path: (row.label, row.split, row.kind, row.method) for row in manifest.itertuples()}
    assert found == {
        "Train/Fake/a.jpg": (1, "train", "image", "StyleGAN2"),
        "Train/Real/a.jpg": (0, "train", "image", "real"),
        "test/fake/deep/c.mp4": (1, "test", "video", "StyleGAN2"),
        "valid/real/b.png": (0, "val", "image", "real"),
    }
    assert set(manifest["dataset"]) == {"mine"}


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("training_real/a.jpg", 0),
        ("training_fake/a.jpg", 1),
        ("Original/a.jpg", 0),
        ("manipulated/a.jpg", 1),
        ("Deepfakes/a.jpg", 1),
        ("real/deep/a.jpg", 0),
    ],
)
def test_folder_knows_the_usual_names(path, label, tmp_path):
    touch(tmp_path / path)
    manifest = folder_source.scan(tmp_path)
    assert list(manifest["label"]) == [label]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (  # the 140k real and fake faces
            [
                "real_vs_fake/real-vs-fake/train/real/1.jpg",
                "real_vs_fake/real-vs-fake/valid/fake/2.jpg",
                "real_vs_fake/real-vs-fake/test/fake/3.jpg",
            ],
            [("test", 1), ("train", 0), ("val", 1)],
        ),
        (  # Yonsei: the fakes' difficulty is in their names
            [
                "real_and_fake_face/training_real/real_00001.jpg",
                "real_and_fake_face/training_fake/easy_1_1110.jpg",
            ],
            [("train", 0), ("train", 1)],
        ),
        (  # deepfake and real images
            [
                "Dataset/Train/Real/real_0.jpg",
                "Dataset/Validation/Fake/fake_0.jpg",
                "Dataset/Test/Real/real_1.jpg",
            ],
            [("test", 0), ("train", 0), ("val", 1)],
        ),
    ],
)
def test_public_image_sets_are_found_below_the_folder_they_unpack_to(paths, expected, tmp_path):
    for path in paths:
        touch(tmp_path / path)
    result = scan(tmp_path)
    assert result.source == "folder"
    assert sorted(zip(result.manifest["split"], result.manifest["label"], strict=True)) == expected


def test_files_that_are_neither_or_both_are_left_out_and_reported(tmp_path):
    for name in ("real/a.jpg", "fake/a.jpg", "other/b.jpg", "real_and_fake/c.jpg", "real/fake/d.jpg"):
        touch(tmp_path / name)
    notes = []
    manifest = folder_source.scan(tmp_path, notes=notes)
    assert list(manifest["path"]) == ["fake/a.jpg", "real/a.jpg"]
    assert notes[0].startswith("in neither a real nor a fake folder, left out: 3")


def test_files_that_differ_in_suffix_only_stay_two(tmp_path):
    for name in ("real/a.jpg", "real/a.png", "fake/b.jpg"):
        touch(tmp_path / name)
    assert sorted(folder_source.scan(tmp_path)["video"]) == ["fake/b", "real/a.jpg", "real/a.png"]


def test_a_folder_without_sorted_files_is_read_without_labels_and_one_without_media_refused(tmp_path):
    """There was no way to score a video whose label nobody knows."""
    touch(tmp_path / "notes" / "a.txt")
    with pytest.raises(InputError, match="no image or video"):
        folder_source.scan(tmp_path)
    touch(tmp_path / "things" / "a.jpg")
    notes = []
    manifest = folder_source.scan(tmp_path, notes=notes)
    assert manifest[["label", "method"]].isna().all(axis=None)
    assert "the labels of all 1 are missing" in notes[0]
    with pytest.raises(InputError, match="split 'dev' is unknown"):
        folder_source.scan(tmp_path, split="dev")


# table


def test_table_reads_words_and_groups(tmp_path):
    manifest = table_source.scan(table(tmp_path / "mine"))
    rows = manifest.set_index("path")
    assert dict(rows["label"]) == {"a/x.mp4": 1, "a/y.jpg": 0, "z.PNG": 0}
    assert dict(rows["kind"]) == {"a/x.mp4": "video", "a/y.jpg": "image", "z.PNG": "image"}
    assert list(rows.loc["a/x.mp4", ["gender", "age", "method", "split"]]) == [
        "female",
        "adult",
        "fake",
        "test",
    ]
    assert list(rows.loc["z.PNG", ["gender", "age", "annotation"]]) == ["male", "senior", "manifest.csv"]
    assert rows.loc["a/y.jpg", ["gender", "age", "annotation"]].isna().all()
    assert set(manifest["dataset"]) == {"mine"}


@pytest.mark.parametrize("header", ["path,label", "File,Target", "Image Path,is_fake", "img_path,class"])
def test_table_knows_the_usual_column_names(header, tmp_path):
    touch(tmp_path / "a.jpg")
    listed = touch(tmp_path / "list.csv", f"{header}\na.jpg,1\n")
    manifest = table_source.scan(listed)
    assert list(manifest["label"]) == [1]
    assert manifest["root"][0] == str(tmp_path)


def test_table_carries_the_manifest_columns_and_keeps_leading_zeros(tmp_path):
    touch(tmp_path / "007.mp4")
    text = "path,label,dataset,identity,method,split,race\n007.mp4,1,Mine,007,FSGAN,val,Asian\n"
    row = table_source.scan(touch(tmp_path / "list.csv", text)).iloc[0]
    expected = ["Mine", "007", "007", "FSGAN", "val", "asian"]
    assert list(row[["dataset", "video", "identity", "method", "split", "race"]]) == expected


def test_table_of_sequences_in_archives_and_folders(tmp_path):
    archive(tmp_path / "a.tar.gz", frames("s/0"))
    touch(tmp_path / "seq" / "0.png")
    listed = touch(tmp_path / "list.csv", "path,label\na.tar.gz!s/0,1\nseq,0\n")
    notes = []
    assert list(table_source.scan(listed, notes=notes)["kind"]) == ["sequence", "sequence"]
    assert notes == []


def test_listed_files_that_are_not_there_stay_and_are_reported(tmp_path):
    touch(tmp_path / "a.jpg")
    listed = touch(tmp_path / "list.csv", "path,label\na.jpg,0\nb.jpg,1\n")
    notes = []
    assert len(table_source.scan(listed, notes=notes)) == 2
    assert notes == ["listed but not there: 1 (b.jpg)"]


def test_backslashes_are_separators_unless_a_file_is_called_so(tmp_path):
    touch(tmp_path / "a" / "x.jpg")
    (tmp_path / "Gonz\\303.jpg").touch()
    listed = touch(tmp_path / "list.csv", "path,label\na\\x.jpg,0\nGonz\\303.jpg,1\n")
    notes = []
    assert set(table_source.scan(listed, notes=notes)["path"]) == {"a/x.jpg", "Gonz\\303.jpg"}
    assert notes == []


def test_the_name_of_a_video_never_leads_out_of_its_folder(tmp_path):
    touch(tmp_path / "x.jpg")
    outside = [f"{tmp_path}/x.jpg", "../out/x.jpg", "a/../../y.jpg", "./b//z.jpg"]
    listed = touch(tmp_path / "in" / "list.csv", "path,label\n" + "".join(f"{path},0\n" for path in outside))
    videos = set(table_source.scan(listed)["video"])
    assert videos == {f"{tmp_path}/x".lstrip("/"), "out/x", "a/y", "b/z"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\na.jpg,1\n", "no column is called path or file"),
        ("path,label\n", "no row"),
        ("path,label\na.jpg,maybe\n", "holds 'maybe' in row 2"),  # as a spreadsheet counts
        ("path,label\n,1\n", "'path' is empty in row 2"),
        (
            "path,label,split\na.jpg,1,late\n",
            "'split' holds 'late', which is no split; allowed are train, val",
        ),
        ("path,label,skin_tone\na.jpg,1,11\n", "from 1 to 10"),
        ("path,label\nb.jpg,1\n", "none of the 1 files"),
        ("path,label\na.jpg,1\na.jpg,0\n", "stands more than once"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_a_reason(text, message, tmp_path):
    touch(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=re.escape(message)):
        table_source.scan(touch(tmp_path / "list.csv", text))
