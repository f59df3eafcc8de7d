"""The video sets beyond FaceForensics++ and Celeb-DF v2, on trees in their real layouts, with their traps."""

import json
import shutil

import pytest
from layout_trees import (
    CELEB_TEST,
    DEEPER_SPLITS,
    FF_METHODS,
    PREVIEW,
    celeb_df,
    celeb_df_v1,
    deeperforensics,
    deepfakedetection,
    dfdc,
    dfdc_preview,
    faceforensics,
    fakeavceleb,
    touch,
    uadfv,
)

from unmasked.datasets.errors import InputError
from unmasked.datasets.scan import scan
from unmasked.datasets.sources import celeb_df as celeb_source
from unmasked.datasets.sources import celeb_df_v1 as celeb_v1_source
from unmasked.datasets.sources import deeperforensics as deeper_source
from unmasked.datasets.sources import deepfakedetection as dfd_source
from unmasked.datasets.sources import dfdc as dfdc_source
from unmasked.datasets.sources import dfdc_preview as preview_source
from unmasked.datasets.sources import faceforensics as ff_source
from unmasked.datasets.sources import fakeavceleb as avceleb_source
from unmasked.datasets.sources import uadfv as uadfv_source


def by_video(manifest):
    return manifest.set_index("video")


def found(source, manifest):
    return {part: (count, official) for part, count, official in source.counts(manifest)}


# FaceForensics++ with FaceShifter and all compressions


def test_all_five_methods_are_read_where_asked_for(tmp_path):
    methods = (*FF_METHODS, "FaceShifter")
    root = faceforensics(tmp_path, compressions=("raw", "c23", "c40"), methods=methods)
    manifest = ff_source.scan(root, methods="all")
    assert set(manifest["method"]) == {"real", *methods}
    assert manifest["video"].is_unique
    assert manifest.groupby("compression").size().to_dict() == dict.fromkeys(("raw", "c23", "c40"), 6 + 5 * 6)
    assert found(ff_source, manifest)["raw FaceShifter train"] == (2, 720)


# DeepFakeDetection


def test_dfd_actors_come_from_the_name_and_the_swap_names_its_original(tmp_path):
    manifest = by_video(dfd_source.scan(deepfakedetection(tmp_path)))
    folder = "manipulated_sequences/DeepFakeDetection/c23/videos/"
    fake = manifest.loc[folder + "01_02__meeting_serious__YVGY8LOK"]
    assert (fake["identity"], fake["source_video"], fake["target_video"]) == (
        "01",
        "02",
        "01__meeting_serious",
    )
    real = manifest.loc["original_sequences/actors/c23/videos/01__meeting_serious"]
    assert (real["identity"], real["label"], real["method"]) == ("01", 0, "real")
    assert real[["source_video", "target_video"]].isna().all()


def test_dfd_is_read_alone_and_in_the_tree_of_faceforensics_where_asked_for(tmp_path):
    assert scan(deepfakedetection(tmp_path / "alone")).source == "deepfakedetection"
    both = deepfakedetection(faceforensics(tmp_path / "both"))
    result = scan(both)
    assert result.source == "faceforensics"
    assert sum("source=deepfakedetection reads it" in line for line in result.messages) == 2
    asked = scan(both, "deepfakedetection").manifest
    assert set(asked["dataset"]) == {"DeepFakeDetection"}
    assert not asked["path"].str.contains("youtube|Deepfakes/").any()


def test_dfd_counts_are_of_each_compression(tmp_path):
    manifest = dfd_source.scan(deepfakedetection(tmp_path, compressions=("c23", "c40")))
    counted = found(dfd_source, manifest)
    assert counted["c40 DeepFakeDetection"] == (2, 3068)
    assert counted["c23 actors"] == (4, 363)
    only = dfd_source.scan(tmp_path, compression="c40")
    assert set(only["compression"]) == {"c40"}


def test_a_dfd_video_of_another_name_stays_without_an_actor_and_is_said(tmp_path):
    root = deepfakedetection(tmp_path)
    touch(root / "manipulated_sequences/DeepFakeDetection/c23/videos/copy.mp4")
    notes = []
    manifest = by_video(dfd_source.scan(root, notes=notes))
    assert manifest.loc["manipulated_sequences/DeepFakeDetection/c23/videos/copy"].isna()["identity"]
    assert any("actors unknown: 1 (copy)" in note for note in notes)
    with pytest.raises(InputError, match="no video in raw"):
        dfd_source.scan(root, compression="raw")


# Celeb-DF v1


def test_the_length_of_the_list_tells_the_versions_of_celeb_df_apart(tmp_path, shared):
    one = celeb_df_v1(tmp_path / "a")
    assert (celeb_source.version(one), scan(one).source) == (1, "celeb_df_v1")
    two = celeb_df(tmp_path / "b")
    shutil.copy(shared / "annotations" / "celeb_df" / celeb_source.TEST_LIST, two)
    assert (celeb_source.version(two), scan(two).source) == (2, "celeb_df")
    assert celeb_source.version(celeb_df(tmp_path / "Celeb-DF-v1")) == 1
    assert celeb_source.version(tmp_path) is None


def test_celeb_df_v1_keeps_its_test_videos_out_of_train(tmp_path):
    manifest = celeb_v1_source.scan(celeb_df_v1(tmp_path))
    assert set(manifest["dataset"]) == {"Celeb-DF-v1"}
    assert (manifest["split"] == "test").sum() == len(CELEB_TEST)
    counted = found(celeb_v1_source, manifest)
    assert counted["Celeb-real"] == (3, 158)
    assert counted["YouTube-real"] == (2, 250)
    assert counted["Celeb-synthesis"] == (2, 795)
    assert counted["test"] == (3, 100)


def test_celeb_df_videos_outside_the_three_folders_are_reported(tmp_path):
    root = celeb_df(tmp_path)
    for name in ("Celeb-real/more/x.mp4", "extra/y.mp4"):
        touch(root / name)
    notes = []
    celeb_source.scan(root, notes=notes)
    assert notes == ["in no place of the layout, left out: 2 (Celeb-real/more/x.mp4, extra/y.mp4)"]


# DFDC


def test_dfdc_labels_splits_and_originals_come_from_its_metadata(tmp_path):
    manifest = by_video(dfdc_source.scan(dfdc(tmp_path)))
    fake = manifest.loc["train/dfdc_train_part_0/aapnvogymq"]
    assert (fake["label"], fake["split"], fake["target_video"], fake["method"]) == (
        1,
        "train",
        "jdubbvfswz",
        "DFDC",
    )
    # The original lies in another part: names are unique in all of them.
    original = manifest.loc["train/dfdc_train_part_1/jdubbvfswz"]
    assert (original["label"], original["method"]) == (0, "real")
    assert manifest["identity"].isna().all()
    splits = manifest.groupby(["split", "label"]).size().to_dict()
    assert splits == {("train", 0): 2, ("train", 1): 2, ("val", 0): 1, ("test", 0): 1, ("test", 1): 1}


@pytest.mark.parametrize("inner", ["", "train/"])
@pytest.mark.parametrize("label_file", ["metadata.json", "labels.csv"])
def test_dfdc_is_read_in_all_its_published_forms(inner, label_file, tmp_path):
    manifest = dfdc_source.scan(dfdc(tmp_path, inner, label_file))
    labels = manifest[manifest["split"] == "test"].set_index("video")["label"]
    assert sorted(labels) == [0, 1]
    assert labels[next(name for name in labels.index if "tttttttttt" in name)] == 1
    assert (manifest["split"] == "train").sum() == 4


def test_a_dfdc_part_that_was_unpacked_one_deeper_is_found(tmp_path):
    root = dfdc(tmp_path)
    part = root / "train" / "dfdc_train_part_0"
    part.rename(root / "train" / "part")
    (root / "train" / "dfdc_train_part_0").mkdir()
    (root / "train" / "part").rename(root / "train" / "dfdc_train_part_0" / "dfdc_train_part_0")
    assert (dfdc_source.scan(root)["split"] == "train").sum() == 4


def test_dfdc_clips_without_a_label_or_a_file_and_missing_parts_are_reported(tmp_path):
    root = dfdc(tmp_path)
    touch(root / "test" / "unknown.mp4")
    (root / "train" / "dfdc_train_part_1" / "zzcuejxbzk.mp4").unlink()
    notes = []
    manifest = dfdc_source.scan(root, notes=notes)
    assert not manifest["path"].str.contains("unknown").any()
    assert "test: not in metadata.json, left out: 1 (unknown.mp4)" in notes
    assert "train/dfdc_train_part_1: in metadata.json but not there: 1 (zzcuejxbzk.mp4)" in notes
    assert any(note.startswith("training parts that are not there: 48 of 50 (2, 3, 4, …") for note in notes)


def test_a_dfdc_test_clip_that_is_also_in_train_stays_in_test_alone(tmp_path):
    root = dfdc(tmp_path)
    labels = json.loads((root / "train/dfdc_train_part_0/metadata.json").read_text())
    labels["tttttttttt.mp4"] = {"label": "FAKE", "split": "train", "original": "jdubbvfswz.mp4"}
    touch(root / "train/dfdc_train_part_0/metadata.json", json.dumps(labels))
    touch(root / "train/dfdc_train_part_0/tttttttttt.mp4")
    notes = []
    manifest = dfdc_source.scan(root, notes=notes)
    assert list(manifest["split"][manifest["path"].str.contains("tttttttttt")]) == ["test"]
    assert any("of a name that is there already" in note for note in notes)


def test_kaggles_sample_is_read_where_there_is_no_part(tmp_path):
    labels = {"aapnvogymq.mp4": {"label": "FAKE", "split": "train", "original": "x.mp4"}}
    touch(tmp_path / "train_sample_videos" / "metadata.json", json.dumps(labels))
    touch(tmp_path / "train_sample_videos" / "aapnvogymq.mp4")
    assert list(dfdc_source.scan(tmp_path)["target_video"]) == ["x"]
    assert "aapnvogymq" not in set(dfdc_source.scan(dfdc(tmp_path))["path"].str[:19])


def test_dfdc_labels_that_are_not_understood_are_refused(tmp_path):
    root = dfdc(tmp_path)
    touch(root / "test/metadata.json", '{"tttttttttt.mp4": {"label": "maybe"}}')
    with pytest.raises(InputError, match=r"calls tttttttttt\.mp4 'maybe'"):
        dfdc_source.scan(root)
    touch(root / "test/metadata.json", "[1]")
    with pytest.raises(InputError, match="is not an object of file names"):
        dfdc_source.scan(root)


# DFDC preview


def test_preview_ids_are_the_actors_of_folder_and_name(tmp_path):
    manifest = by_video(preview_source.scan(dfdc_preview(tmp_path)))
    fake = manifest.loc["method_A/1003254/1003254_A/1255229_1003254_A_001"]
    assert (fake["identity"], fake["source_video"], fake["target_video"]) == (
        "1003254",
        "1255229",
        "1003254_A_001",
    )
    assert (fake["method"], fake["label"], fake["split"]) == ("method_A", 1, "train")
    real = manifest.loc["original_videos/643669/643669_B_000"]
    assert (real["identity"], real["split"], real["label"]) == ("643669", "test", 0)
    assert real[["source_video", "target_video"]].isna().all()


def test_preview_counts_stand_by_label_and_split(tmp_path):
    counted = found(preview_source, preview_source.scan(dfdc_preview(tmp_path)))
    assert counted == {"real": (2, 1131), "fake": (2, 4113), "train": (2, 4464), "test": (2, 780)}


def test_preview_clips_that_are_missing_or_unlisted_are_reported(tmp_path):
    root = dfdc_preview(tmp_path)
    (root / "original_videos/1003254/1003254_A_001.mp4").unlink()
    touch(root / "method_B/1/1_A/2_1_A_000.mp4")
    notes = []
    assert len(preview_source.scan(root, notes=notes)) == 3
    assert notes == [
        "in dataset.json but not there: 1 (original_videos/1003254/1003254_A_001.mp4)",
        "in no place of the layout, left out: 1 (method_B/1/1_A/2_1_A_000.mp4)",
    ]


def test_a_preview_list_that_contradicts_its_folders_is_refused(tmp_path):
    path = "method_A/1003254/1003254_A/1255229_1003254_A_001.mp4"
    root = dfdc_preview(tmp_path, {**PREVIEW, path: ("real", "train", 1003254, None)})
    with pytest.raises(InputError, match=r"is real in set 'train'; original_videos is real"):
        preview_source.scan(root)
    (root / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"has no dataset\.json"):
        preview_source.scan(root)


# DeeperForensics-1.0


def test_deeperforensics_splits_are_its_lists_in_every_variant(tmp_path):
    root = deeperforensics(tmp_path)
    notes = []
    manifest = deeper_source.scan(root, notes=notes)
    assert set(manifest["method"]) == {"end_to_end"}
    assert manifest.groupby("split").size().to_dict() == {"train": 1, "val": 1, "test": 2}
    assert any("variants that are there and left out: end_to_end_level_1" in note for note in notes)
    assert any("recordings of the actors, not the real part" in note for note in notes)
    every = deeper_source.scan(root, variants="all")
    assert every.groupby("split").size().to_dict() == {"train": 2, "val": 2, "test": 4}
    assert every["video"].is_unique  # the eleven variants share their names
    assert found(deeper_source, every)["end_to_end_level_1 test"] == (2, 201)


def test_deeperforensics_names_tell_target_actor_and_gender(tmp_path):
    row = by_video(deeper_source.scan(deeperforensics(tmp_path))).loc[
        "manipulated_videos/end_to_end/001_W010"
    ]
    assert (row["identity"], row["target_video"], row["source_video"]) == ("001", "001", "W010")
    assert (row["gender"], row["annotation"]) == ("female", "DeeperForensics-1.0")


def test_the_real_part_of_deeperforensics_is_that_of_faceforensics(tmp_path):
    root = deeperforensics(tmp_path / "deeper")
    ff = faceforensics(tmp_path / "ff")
    notes = []
    alone = deeper_source.scan(root, notes=notes)
    assert set(alone["label"]) == {1}
    assert any("there is no real video; targets=<folder of FaceForensics++>" in note for note in notes)
    for targets in (ff, ff / "original_sequences/youtube/c23/videos"):
        manifest = deeper_source.scan(root, targets=targets)
        reals = manifest[manifest["label"] == 0].set_index("identity")
        # 002 is a validation video of FaceForensics++, and here it goes where its swap is.
        assert reals["split"].to_dict() == {"000": "train", "001": "val", "002": "test", "003": "test"}
        assert dict(reals["gender"])["000"] == "male"
        assert not manifest["path"].str.contains("source_videos").any()
    with pytest.raises(InputError, match="holds no target of a swap"):
        deeper_source.scan(root, targets=root)


def test_deeperforensics_lists_that_are_missing_or_overlap_are_refused(tmp_path):
    root = deeperforensics(tmp_path, {**DEEPER_SPLITS, "val": ["000_M101"]})
    with pytest.raises(InputError, match=r"000_M101 is in train\.txt as well"):
        deeper_source.scan(root)
    with pytest.raises(InputError, match="variant 'x' is not one of"):
        deeper_source.scan(root, variants=["x"])
    (root / "lists/splits/train.txt").unlink()
    with pytest.raises(InputError, match=r"train\.txt is not there, which says what is train"):
        deeper_source.scan(root)


# UADFV


def test_uadfv_fakes_name_the_video_they_were_made_of(tmp_path):
    manifest = by_video(uadfv_source.scan(uadfv(tmp_path)))
    assert manifest.loc["fake/0001_fake", "target_video"] == "0001"
    assert manifest.loc["real/0001"].isna()["target_video"]
    assert manifest["label"].to_dict() == {
        **{f"fake/{n:04d}_fake": 1 for n in range(3)},
        **{f"real/{n:04d}": 0 for n in range(3)},
    }
    assert found(uadfv_source, manifest.reset_index()) == {"real": (3, 49), "fake": (3, 49)}


def test_a_folder_of_other_fakes_is_not_taken_for_uadfv(tmp_path):
    root = uadfv(tmp_path)
    touch(root / "fake" / "mine.mp4")
    assert scan(root).source == "folder"


def test_uadfv_fakes_without_their_video_are_reported(tmp_path):
    root = uadfv(tmp_path)
    (root / "real" / "0002.mp4").unlink()
    notes = []
    uadfv_source.scan(root, notes=notes)
    assert notes == ["real videos of a fake that are not there: 1 (0002)"]


# FakeAVCeleb


@pytest.mark.parametrize("has_table", [True, False])
def test_fakeavceleb_reads_pictures_methods_and_celebrities(has_table, tmp_path):
    manifest = by_video(avceleb_source.scan(fakeavceleb(tmp_path, has_table)))
    swap = manifest.loc["FakeVideo-RealAudio/African/men/id00076/00109_id00366_1_faceswap"]
    assert (swap["method"], swap["identity"], swap["source_video"]) == ("faceswap", "id00076", "id00366")
    assert (swap["gender"], swap["race"], swap["target_video"]) == ("male", "black", "id00076/00109")
    lips = manifest.loc["FakeVideo-FakeAudio/African/men/id00076/00109_0_id00166_wavtolip"]
    assert (lips["method"], lips["label"]) == ("wav2lip", 1)
    assert lips.isna()["source_video"]  # only the voice is somebody else's
    real = manifest.loc["RealVideo-RealAudio/Asian (East)/women/id00166/00010"]
    assert (real["label"], real["gender"], real["race"]) == (0, "female", "asian")


def test_fakeavceleb_videos_whose_voice_alone_is_fake_are_left_out_and_said(tmp_path):
    notes = []
    manifest = avceleb_source.scan(fakeavceleb(tmp_path), notes=notes)
    assert not manifest["path"].str.contains("RealVideo-FakeAudio").any()
    assert "RealVideo-FakeAudio, left out since its pictures are real: 1" in notes
    assert found(avceleb_source, manifest)["FakeVideo-FakeAudio"] == (1, 10_835)


def test_fakeavceleb_without_its_table_says_where_methods_come_from(tmp_path):
    notes = []
    avceleb_source.scan(fakeavceleb(tmp_path, table=False), notes=notes)
    assert any("methods are those of the files' names" in note for note in notes)
