"""At the door of scan: nothing silently wrong, nothing silently gone, one bad file costs one line."""

import io
import json
import os
import socket
import tarfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_trees import TREES, archive, celeb_df, dfdc, faceforensics, faceforensics_flat, touch, uadfv
from PIL import Image

from unmasked.app.verbs import scan as scan_verb
from unmasked.datasets import archives
from unmasked.datasets.archives import ArchiveError, frame_indices, natural_key, sequence_members
from unmasked.datasets.audit.run import audit
from unmasked.datasets.audit.settings import AuditSettings
from unmasked.datasets.errors import InputError, printable
from unmasked.datasets.frame_names import frames_as_videos, tell_methods_apart, video_stems
from unmasked.datasets.images import decode_image
from unmasked.datasets.listing import NOT_A_FILE, NOT_UTF8, REACHED_TWICE
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.scan import Splitting, _classes_by_split, scan
from unmasked.datasets.splits import SplitPlan
from unmasked.datasets.unused import unused_files


def said(result, part):
    return [line for line in result.messages if part in line]


# Evidence that contradicts


def bench(root, groups, folders=None):
    """A list of DeepfakeBench with two videos for each group, whose crops lie in folders of another name."""
    content = {}
    for position, (group, stated) in enumerate(groups.items()):
        videos = {}
        for number in range(2):
            where = f"D/{(folders or groups)[group]}/frames/v{position}{number}"
            touch(root / "rgb" / where / "000.png", "x")
            videos[f"v{position}{number}"] = {
                "label": stated,
                "frames": [f"x\\y\\{where}\\000.png".replace("/", "\\")],
            }
        content[group] = {"train": {}, "val": {}, "test": videos}
    touch(root / "dataset_json" / "D.json", json.dumps({"D": content}))
    return root


def test_a_group_is_fake_by_its_words_and_not_by_a_part_of_one(tmp_path):
    """whichisreal_Fake counted as real: 6 real and 0 fake."""
    root = bench(tmp_path, {"whichisreal_Real": "whichisreal_Real", "whichisreal_Fake": "whichisreal_Fake"})
    assert scan(root).manifest["label"].value_counts().to_dict() == {0: 2, 1: 2}


@pytest.mark.parametrize(
    ("groups", "folders", "part"),
    [
        (
            {"a_Real": "a_Fake", "a_Fake": "a_Fake"},
            None,
            "label says real and the video's own label says fake",
        ),
        (
            {"a_Real": "a_Real", "a_Fake": "a_Fake"},
            {"a_Real": "fake", "a_Fake": "real"},
            "the path says fake",
        ),
    ],
)
def test_a_group_that_the_entry_or_the_path_contradicts_is_refused_and_a_key_settles_it(
    tmp_path, groups, folders, part
):
    root = bench(tmp_path, groups, folders)
    with pytest.raises(InputError, match=part) as caught:
        scan(root)
    assert "labels_by=group or labels_by=path" in str(caught.value)
    assert scan(root, labels_by="group").manifest["label"].value_counts().to_dict() == {0: 2, 1: 2}


def test_a_list_with_half_a_character_is_refused_in_one_sentence(tmp_path):
    root = bench(tmp_path, {"a_Real": "a_Real", "a_Fake": "a_Fake"})
    path = root / "dataset_json" / "D.json"
    path.write_text(path.read_text().replace("a_Fake", "\\ud800_Fake"))
    with pytest.raises(InputError, match=r"holds a name that is no text"):
        scan(root)


def test_a_group_that_may_be_either_is_refused(tmp_path):
    with pytest.raises(InputError, match="'surreal' of a list of DeepfakeBench may be real or fake"):
        scan(bench(tmp_path, {"surreal": "surreal", "a_Fake": "a_Fake"}))


def test_a_link_to_another_class_folder_steals_no_label(tmp_path):
    """fake/loop, a link to ../real, made all files fake: links were followed first."""
    for name in ("real/a.mp4", "real/b.mp4", "fake/c.mp4"):
        touch(tmp_path / name, "x")
    (tmp_path / "fake" / "a_loop").symlink_to("../real")
    result = scan(tmp_path, "folder")
    assert dict(zip(result.manifest["path"], result.manifest["label"], strict=True)) == {
        "fake/c.mp4": 1,
        "real/a.mp4": 0,
        "real/b.mp4": 0,
    }
    assert result.unused.rows.to_dict("records") == [{"path": "fake/a_loop", "reason": REACHED_TWICE}]
    assert said(result, "fake/a_loop")


def test_a_link_to_a_file_of_the_other_class_is_refused_with_both_readings(tmp_path):
    touch(tmp_path / "real" / "a.mp4", "x")
    touch(tmp_path / "fake" / "b.mp4", "x")
    (tmp_path / "fake" / "c.mp4").symlink_to("../real/a.mp4")
    with pytest.raises(
        InputError, match=r"c\.mp4 is fake by its folder, and is a link to .*a\.mp4, which is real"
    ):
        scan(tmp_path, "folder")


# Ids, people, frames


@pytest.mark.parametrize(
    ("names", "stems"),
    [(["real/r0_frame001.png", "real/r0_frame002.png"], ["real/r0"] * 2), (["ff/000/0012.png"], ["ff/000"])],
)
def test_the_stem_of_a_frame_is_its_video(names, stems):
    assert list(video_stems(pd.Series(names))) == stems


def test_frames_are_noticed_and_numbered_portraits_are_not():
    frames = pd.Series([f"real/v{video}_{frame:03d}.png" for video in range(4) for frame in range(5)])
    assert "20 of 20 names look like frames of 4 videos" in frames_as_videos(frames)
    folders = pd.Series(
        [f"/data/ff/{video:03d}/{frame:04d}.png" for video in range(20) for frame in range(5)]
    )
    assert "100 of 100 names look like frames of 20 videos" in frames_as_videos(folders)
    few = pd.Series(
        [f"{label}/vid{v}/{n:04d}.jpg" for label in ("real", "fake") for v in (0, 1) for n in range(3)]
    )
    assert "12 of 12 names look like frames of 4 videos" in frames_as_videos(few)
    portraits = pd.Series([f"{label}/{n:05d}.jpg" for label in ("real", "fake") for n in range(50)])
    assert frames_as_videos(portraits) is None
    assert frames_as_videos(pd.Series([f"{a:03d}_{a + 1:03d}" for a in range(50)])) is None


def test_a_split_by_file_says_so_and_a_split_by_stem_keeps_frames_together(tmp_path):
    """Frames of 22 of 24 videos were in several splits, "split by person"."""
    for label in ("real", "fake"):
        for video in range(12):
            for frame in range(6):
                touch(tmp_path / label / f"{label}{video:02d}_frame{frame:03d}.png", "x")
    result = scan(tmp_path, plan=SplitPlan())
    line = said(result, "split by")[0]
    assert "split by file" in line
    assert "Nobody is known: one person or video can be in several splits" in line
    assert "split_by=stem" in line
    manifest = scan(tmp_path, plan=SplitPlan(by="stem")).manifest
    stems = video_stems(manifest["video"])
    assert (manifest.groupby(stems)["split"].nunique() == 1).all()
    assert set(manifest["split"]) == {"train", "val", "test"}
    with pytest.raises(InputError, match="split_by=person is unknown; it is one of auto, stem, file"):
        SplitPlan(by="person")


def test_people_known_in_part_are_said(tmp_path):
    rows = "path,label,identity\n" + "".join(
        f"{n}.mp4,{n % 2},{'p' if n < 4 else ''}{n if n < 4 else ''}\n" for n in range(20)
    )
    for n in range(20):
        touch(tmp_path / f"{n}.mp4", "x")
    result = scan(touch(tmp_path / "list.csv", rows), plan=SplitPlan())
    assert "split by person where known, else by file" in said(result, "split by")[0]
    assert "not known in 16 of 20 rows" in said(result, "split by")[0]


def test_ids_saved_as_numbers_have_their_zeros_again(tmp_path):
    """Every video was in no split file, and an empty manifest was written with exit code 0."""
    root = faceforensics(tmp_path)
    expected = scan(root).manifest
    for split in ("train", "val", "test"):
        pairs = json.loads((root / f"{split}.json").read_text())
        touch(root / f"{split}.json", json.dumps([[int(a), int(b)] for a, b in pairs]))
    pd.testing.assert_frame_equal(scan(root).manifest, expected)


def test_a_manifest_without_a_row_is_refused_with_the_reasons(tmp_path):
    splits = {split: [] for split in ("train", "val", "test")}
    root = faceforensics(tmp_path)
    for split in splits:
        touch(root / f"{split}.json", "[]")
    with pytest.raises(InputError, match=r"not one row could be made of it: .*in no split file and left out"):
        scan(root)


def test_classes_of_each_split_are_said_and_a_split_of_one_class_is_named(tmp_path):
    # Finding A31: one person with nearly all fakes left the test split without any, and nothing said so.
    manifest = pd.DataFrame({"split": ["train"] * 4 + ["val"] * 2 + ["test"], "label": [0, 0, 1, 1, 0, 1, 0]})
    lines = _classes_by_split(manifest)
    assert lines[0] == "by split: train 2 real and 2 fake; val 1 real and 1 fake; test 1 real and 0 fake"
    assert len(lines) == 2
    assert lines[1].startswith("NOTE: test has no fake")
    assert _classes_by_split(manifest[manifest["label"] == 0]) == []


@pytest.mark.parametrize("n", [1, 2, 3, 35])
def test_a_test_split_that_can_decide_little_is_named(n):
    # Finding C31: two fakes to test on, and no word that nothing can be decided by them.
    from scipy.stats import binomtest

    manifest = pd.DataFrame(
        {"split": ["train"] * 4 + ["test"] * (40 + n), "label": [0, 1] * 2 + [0] * 40 + [1] * n}
    )
    _, line = _classes_by_split(manifest)
    highest = binomtest(0, n).proportion_ci().high
    assert line.startswith(f"NOTE: test has {n} fake: ")
    assert f"may still err on {100 * highest:.0f} of 100" in line
    assert binomtest(0, 36).proportion_ci().high < 0.1 < binomtest(0, 35).proportion_ci().high
    enough = pd.concat([manifest, manifest[manifest["split"] == "test"].assign(label=1)])
    assert len(_classes_by_split(enough)) == 1


def test_a_manifest_of_one_class_says_so(tmp_path):
    touch(tmp_path / "real" / "a.jpg", "x")
    assert said(scan(tmp_path), "NOTE: all labels are real, there is no fake")


# What is lost


TREE = st.dictionaries(
    st.lists(
        st.sampled_from(["real", "fake", "train", "Validation", "sub", "a", ".hidden", "frames"]), max_size=3
    ).map(tuple),
    st.sets(
        st.sampled_from(["a.png", "b.MP4", "c.heic", "d.txt", "e", "f.jpg", ".g.png", "h.mp4.part", "1.png"]),
        max_size=4,
    ),
    max_size=7,
)


def entries(root):
    """Independent of the product: everything below root that is no folder, hidden folders as one."""
    total = 0
    for _, folders, names in os.walk(root):
        total += len(names) + sum(name.startswith(".") for name in folders)
        folders[:] = [name for name in folders if not name.startswith(".")]
    return total


@settings(max_examples=60, deadline=None, derandomize=True)
@given(TREE)
def test_what_is_used_and_what_is_not_add_up_to_what_was_given(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("tree")
    for folder, names in tree.items():
        for name in names:
            touch(root.joinpath(*folder) / name, "x")
    try:
        result = scan(root, "folder")
    except InputError:
        return
    unused = result.unused
    assert unused.given == entries(result.root)
    assert unused.given == len(result.manifest) + len(unused.rows)
    assert unused.rows["path"].is_unique
    assert set(unused.rows["path"]).isdisjoint(result.manifest["path"])


@pytest.mark.parametrize("name", sorted(set(TREES) - {"table"}))
def test_the_counts_add_up_in_every_layout(name, tmp_path):
    root = TREES[name](tmp_path)
    touch(root / "extra" / "x.heic")
    touch(root / "extra" / "y.mp4")
    unused = scan(root, name).unused
    assert unused.given == unused.used + len(unused.rows) == entries(root)
    reasons = dict(zip(unused.rows["path"], unused.rows["reason"], strict=True))
    assert reasons["extra/x.heic"] == ".heic (not read)"


def test_suffixes_that_are_not_read_are_named_by_class(tmp_path):
    for label in ("real", "fake"):
        touch(tmp_path / label / "a.jpg", "x")
        for suffix in ("heic", "heif", "tiff", "wmv", "png.part"):
            touch(tmp_path / label / f"b.{suffix}", "x")
    line = said(scan(tmp_path), "are not")[0]
    assert "of 12 files and the like, 2 are used and 10 are not" in line
    assert "2 .heic (not read)" in line
    assert "5 in fake and 5 in real" in line


def test_pictures_that_the_door_decodes_are_read_under_their_suffixes(tmp_path):
    """AVIF and JFIF files were decoded, and yet named as not read."""
    for label, suffix in (("real", "jfif"), ("real", "avif"), ("fake", "png")):
        path = tmp_path / label / f"a.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (90, 40, 20)).save(path, format={"jfif": "JPEG"}.get(suffix))
        assert np.abs(decode_image(path.read_bytes()).pixels[0, 0].astype(int) - (90, 40, 20)).max() < 9
    assert sorted(scan(tmp_path).manifest["kind"]) == ["image"] * 3


def test_folders_beside_the_one_that_is_read_are_named(tmp_path):
    celeb_df(tmp_path / "Celeb-DF-v2")
    touch(tmp_path / "more" / "x.mp4")
    assert said(scan(tmp_path), "folders beside Celeb-DF-v2 that are not read: 1 (more)")


def test_frames_that_a_list_names_and_the_disk_lacks_are_counted_and_listed(tmp_path):
    root = bench(tmp_path / "b", {"a_Real": "a_Real", "a_Fake": "a_Fake"})
    path = root / "dataset_json" / "D.json"
    content = json.loads(path.read_text())
    entry = content["D"]["a_Fake"]["test"]["v10"]
    entry["frames"] += [
        frame.replace("000.png", f"00{n}.png") for n in (1, 2) for frame in entry["frames"][:1]
    ]
    touch(path, json.dumps(content))
    (root / "rgb/D/a_Real/frames/v01/000.png").unlink()
    result = scan(root)
    assert said(result, "frames that the lists name and that are not there: 3 of 6")
    assert len(result.manifest) == 3
    out, unused = tmp_path / "m.parquet", tmp_path / "unused.csv"
    scan_verb.run(scan_verb.Config(root=(root,), out=out, unused=unused))
    listed = pd.read_csv(unused)
    assert (listed["reason"] == "listed, but not there").sum() == 3


def test_what_a_scan_does_not_use_is_always_listed_by_name_and_class(tmp_path):
    for label in ("real", "fake"):
        touch(tmp_path / "d" / label / "a.jpg", "x")
    touch(tmp_path / "d" / "fake" / "b.heic", "x")
    for _ in range(2):
        scan_verb.run(scan_verb.Config(root=(tmp_path / "d",), out=tmp_path / "m.parquet"))
        listed = pd.read_csv(tmp_path / "m.unused.csv")
        assert listed[["path", "class", "reason"]].to_numpy().tolist() == (
            [["fake/b.heic", "fake", ".heic (not read)"]] if (tmp_path / "d/fake/b.heic").exists() else []
        )
        (tmp_path / "d" / "fake" / "b.heic").unlink(missing_ok=True)


def test_a_folder_of_archives_is_told_to_be_unpacked(tmp_path):
    touch(tmp_path / "d" / "images.zip", "x")
    with pytest.raises(InputError, match=r"no video or image but archives \(images\.zip\); unpack them"):
        scan(tmp_path / "d")


def test_a_not_before_a_label_turns_it_round(tmp_path):
    """not_real was left out, and not_real_640 was read as real."""
    for name in ("not_real_640", "real"):
        touch(tmp_path / "d" / name / "a.jpg", "x")
    labels = scan(tmp_path / "d").manifest.set_index("video")["label"].to_dict()
    assert labels == {"not_real_640/a": 1, "real/a": 0}


def test_names_that_say_a_label_and_two_splits_in_one_path_are_said(tmp_path):
    for name in ("real_1.jpg", "fake_1.jpg"):
        touch(tmp_path / "names" / name, "x")
    assert said(scan(tmp_path / "names"), "NOTE: 2 names of files say real or fake")
    for label in ("real", "fake"):
        touch(tmp_path / "splits" / "train" / "test" / label / "a.jpg", "x")
    assert said(scan(tmp_path / "splits"), "NOTE: 2 files lie below folders of two splits")


def test_a_split_folder_in_the_plural_is_a_split_and_no_generator(tmp_path):
    """Fakes in tests/fake were of a method called tests."""
    for split in ("trains", "tests"):
        for label in ("real", "fake"):
            touch(tmp_path / "d" / split / label / "a.jpg", "x")
    manifest = scan(tmp_path / "d").manifest
    assert set(manifest["method"]) == {"real", "fake"}
    assert manifest["split"].value_counts().to_dict() == {"train": 2, "test": 2}


# Any set can be trained on


def test_val_is_taken_from_train_by_person_and_frozen(tmp_path):
    names = [f"Celeb-real/id{n}_{clip:04d}" for n in range(20) for clip in range(3)]
    root = celeb_df(tmp_path / "celeb", [*names, "YouTube-real/00001"], ["1 YouTube-real/00001.mp4"])
    frozen = tmp_path / "m.splits.json"
    result = scan(root, splitting=Splitting(file=frozen, val_from_train=0.2))
    assert said(result, "Celeb-DF-v2, val from train: split by person, seed 0: train 48, val 12, test 0")
    counts = result.manifest["split"].value_counts().to_dict()
    assert counts == {"train": 48, "val": 12, "test": 1}
    assert (result.manifest.groupby("identity")["split"].nunique() == 1).all()
    again = scan(root, splitting=Splitting(file=frozen)).manifest
    assert again.equals(result.manifest)
    with pytest.raises(InputError, match="move the file away to split again"):
        scan(root, splitting=Splitting(file=frozen, val_from_train=0.5))


def test_a_val_split_that_is_there_stays_and_a_share_that_is_none_is_refused(tmp_path):
    root = dfdc(tmp_path)
    result = scan(root, splitting=Splitting(val_from_train=0.5))
    assert said(result, "DFDC has a val split, which is kept")
    with pytest.raises(InputError, match="val_from_train=2 cannot be used"):
        scan(root, splitting=Splitting(val_from_train=2))


@pytest.mark.parametrize("name", sorted(TREES))
def test_any_set_can_be_all_test_or_all_train_or_split_by_shares(name, tmp_path):
    root = TREES[name](tmp_path / "root")
    for split in ("train", "test"):
        result = scan(root, name, splitting=Splitting(official=False), split=split)
        assert set(result.manifest["split"]) == {split}
    frozen = tmp_path / "s.json"
    splitting = Splitting(SplitPlan((0.5, 0.0, 0.5), by="file"), frozen, official=False)
    first = scan(root, name, splitting=splitting).manifest
    assert set(first["split"]) <= {"train", "test"}
    assert first["split"].nunique() == 2
    assert scan(root, name, splitting=splitting).manifest.equals(first)


# Unlabelled files


def test_a_video_whose_label_nobody_knows_reaches_a_manifest_and_back(tmp_path):
    touch(tmp_path / "inbox" / "clip.mp4", "x")
    for root in (tmp_path, tmp_path / "inbox", tmp_path / "inbox" / "clip.mp4"):
        out = tmp_path / "out" / "m.csv"
        scan_verb.run(scan_verb.Config(root=(root,), out=out))
        manifest = MANIFEST.read(out)
        assert manifest[["label", "method"]].isna().all(axis=None)
        assert manifest["video"].tolist() == ["clip"]
    listed = touch(tmp_path / "list.csv", "path,label\ninbox/clip.mp4,\n")
    result = scan(listed)
    assert result.manifest["label"].isna().all()
    assert said(result, "the labels of all 1 are missing")


def test_a_table_without_a_label_names_the_columns_that_may_be_it(tmp_path):
    """A column klass of real and fake was passed over in silence, and all labels told to be missing."""
    touch(tmp_path / "inbox" / "clip.mp4", "x")
    listed = touch(tmp_path / "list.csv", "file,klass\ninbox/clip.mp4,fake\n")
    assert said(scan(listed), "not read: klass. If one of them holds it, give columns={label: klass}")
    assert scan(listed, columns={"label": "klass"}).manifest["label"].tolist() == [1]


def test_labels_that_are_all_known_stay_integers(tmp_path):
    assert scan(uadfv(tmp_path)).manifest["label"].dtype == "int64"


# Layouts


def test_generators_side_by_side_are_all_read_as_methods(tmp_path):
    """test/biggan alone was read, and stylegan was not mentioned."""
    for place in ("biggan", "stylegan/car", "stylegan/cat"):
        for label in ("0_real", "1_fake"):
            touch(tmp_path / "test" / place / label / "a.png", "x")
    result = scan(tmp_path)
    manifest = result.manifest
    assert len(manifest) == 6
    assert manifest.groupby("method").size().to_dict() == {"biggan": 1, "real": 3, "stylegan": 2}
    assert set(manifest["split"]) == {"test"}
    assert said(result, "generators, read from the folders as methods: biggan, stylegan")
    touch(tmp_path / "train" / "progan" / "1_fake" / "a.png", "x")
    touch(tmp_path / "train" / "progan" / "0_real" / "a.png", "x")
    assert scan(tmp_path).manifest.groupby("split").size().to_dict() == {"test": 6, "train": 2}


def test_generators_below_the_fake_folder_are_read_as_methods_and_people_are_not(tmp_path):
    """All fakes were of a method called fake, and train asked for fakes of another method."""
    for place in ("fake/flux", "fake/gan", "real"):
        for n in range(2):
            touch(tmp_path / "a" / "Train" / place / f"{n}.png", "x")
    result = scan(tmp_path / "a")
    assert result.manifest.groupby("method").size().to_dict() == {"flux": 2, "gan": 2, "real": 2}
    assert said(result, "generators, read from the folders as methods: flux, gan")
    for place in ("fake/anna", "fake/ben", "real/anna", "real/ben", "fake/vid0"):
        touch(tmp_path / "b" / place / "0.png", "x")
    assert set(scan(tmp_path / "b").manifest["method"]) == {"real", "fake"}
    for place in ("fake/vid0", "fake/vid1", "real/x"):
        touch(tmp_path / "c" / place / "0.png", "x")
    assert set(scan(tmp_path / "c").manifest["method"]) == {"real", "fake"}


def test_celeb_df_plus_plus_keeps_methods_of_one_name_apart(tmp_path):
    manifest = scan(TREES["celeb_df_pp"](tmp_path)).manifest.set_index("video")
    assert manifest["label"].value_counts().to_dict() == {1: 4, 0: 3}
    fakes = manifest[manifest["label"] == 1]
    assert set(fakes["method"]) == {"Celeb-DF", "SimSwap", "LivePortrait", "SadTalker"}
    assert set(fakes["target_video"]) == {"id0_0000"}
    assert fakes.groupby("split").size().to_dict() == {"test": 2, "train": 2}
    touch(tmp_path / "List_of_testing_videos.txt", "1 Celeb-synthesis/FaceSwap/SimSwap/id0_id1_0000.mp4\n")
    with pytest.raises(InputError, match=r"calls Celeb-synthesis.* real, which its folder contradicts"):
        scan(tmp_path)


def test_lists_of_celeb_df_plus_plus_have_a_level_of_methods(tmp_path):
    root = bench(tmp_path, {"CelebDFv3_real": "CelebDFv3_real", "CelebDFv3_fake": "CelebDFv3_fake"})
    path = root / "dataset_json" / "D.json"
    content = json.loads(path.read_text())
    videos = content["D"]["CelebDFv3_fake"]["test"]
    content["D"]["CelebDFv3_fake"]["test"] = {
        "SimSwap": {"v10": videos["v10"]},
        "Real3DPortrait": {"v11": videos["v11"]},
    }
    touch(path, json.dumps(content))
    methods = scan(root).manifest.groupby(["method", "label"]).size().to_dict()
    assert methods == {("Real3DPortrait", 1): 1, ("SimSwap", 1): 1, ("real", 0): 2}


def test_the_repack_of_faceforensics_has_methods_people_and_the_official_split_where_it_is_given(tmp_path):
    root = faceforensics_flat(tmp_path / "FaceForensics++_C23")
    result = scan(root)
    manifest = result.manifest
    assert set(manifest["dataset"]) == {"FaceForensics++"}
    assert set(manifest["compression"]) == {"c23"}
    assert manifest.groupby("method").size().to_dict() == {
        **dict.fromkeys(("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter", "real"), 4)
    }
    row = manifest.set_index("video").loc["Face2Face/000_001"]
    assert (row["identity"], row["source_video"], row["target_video"]) == ("000", "001", "000")
    assert said(result, "DeepFakeDetection is there, without its originals, and is left out: 1")
    assert said(result, "the official split is not known")
    for split, pair in (("train", ["000", "001"]), ("val", []), ("test", ["002", "003"])):
        touch(root / f"{split}.json", json.dumps([pair] if pair else []))
    assert scan(root).manifest.groupby("split").size().to_dict() == {"test": 12, "train": 12}


def test_df40_without_its_lists_has_methods_splits_and_fakes_in_folders_called_real(tmp_path):
    result = scan(TREES["df40"](tmp_path))
    manifest = result.manifest.set_index("path")
    assert len(manifest) == 8
    assert set(manifest["kind"]) == {"sequence"}
    assert manifest.index[manifest["label"] == 0].tolist() == ["test/heygen/real/frames/a"]
    fake = manifest.loc["test/e4e/cdf/Celeb-real/inversions"]
    assert (fake["label"], fake["method"], fake["split"]) == (1, "e4e", "test")
    swap = manifest.loc["test/simswap/cdf/frames/id0_id1_0000"]
    assert (swap["identity"], swap["source_video"]) == ("id0", "id1")
    assert (manifest["split"] == manifest.index.str.split("/").str[0]).all()


def test_frame_folders_of_faceforensics_are_sequences(tmp_path):
    root = faceforensics(tmp_path)
    videos = scan(root).manifest
    for path in videos["path"]:
        (root / path).unlink()
        touch(root / path.replace("/videos/", "/frames/").removesuffix(".mp4") / "0000.png", "x")
    for folder in root.rglob("videos"):
        folder.rmdir()
    result = scan(root)
    assert set(result.manifest["kind"]) == {"sequence"}
    columns = ["label", "method", "split", "identity", "source_video", "compression"]
    pd.testing.assert_frame_equal(result.manifest[columns], videos[columns])
    assert result.unused.given == result.unused.used + len(result.unused.rows)


# Hostile files


def test_names_that_are_not_utf8_pipes_and_sockets_cost_a_line_each(tmp_path):
    for name in ("real/a.mp4", "fake/b.mp4"):
        touch(tmp_path / name, "x")
    odd = os.fsencode(tmp_path / "real") + b"/caf\xe9.mp4"
    with open(odd, "wb") as stream:
        stream.write(b"x")
    os.mkfifo(tmp_path / "real" / "pipe.mp4")
    (tmp_path / "real" / "gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "real" / "round.mp4").symlink_to("round.mp4")
    door = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tmp_path / "real")  # a socket's path may be no longer than 108 bytes
    door.bind("s.mp4")
    os.chdir(here)
    result = scan(tmp_path)
    door.close()
    assert result.manifest["path"].tolist() == ["fake/b.mp4", "real/a.mp4"]
    reasons = result.unused.rows["reason"].value_counts().to_dict()
    assert reasons == {NOT_A_FILE: 4, NOT_UTF8: 1}
    assert said(result, "caf\\xe9.mp4") or said(result, NOT_UTF8)
    assert result.unused.given == entries(tmp_path)


def test_a_pipe_in_the_place_of_a_video_is_not_waited_for_by_the_audit(tmp_path):
    for name in ("real/a.mp4", "fake/b.mp4"):
        touch(tmp_path / name, "x")
    manifest = scan(tmp_path).manifest
    (tmp_path / "real" / "a.mp4").unlink()
    os.mkfifo(tmp_path / "real" / "a.mp4")
    found = audit(manifest, settings=AuditSettings(n_boot=100))
    assert any("damaged" in line for line in found.not_checked)


def test_unlabelled_rows_are_audited_without_a_fault(tmp_path):
    for number in range(3):
        touch(tmp_path / f"{number}.jpg", f"{number}")
    found = audit(scan(tmp_path).manifest, settings=AuditSettings(n_boot=100))
    assert any("no label" in line for line in found.not_checked)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_cannot_be_listed_is_said(tmp_path):
    for name in ("real/a.mp4", "fake/b.mp4"):
        touch(tmp_path / name, "x")
    (tmp_path / "fake").chmod(0)
    try:
        result = scan(tmp_path)
    finally:
        (tmp_path / "fake").chmod(0o755)
    assert said(result, "a folder that cannot be listed")
    assert said(result, "NOTE: all labels are real")


def test_a_folder_whose_listing_fails_is_said(tmp_path, monkeypatch):
    """As above, for machines where tests run as root: a class vanished without a word."""
    for name in ("real/a.mp4", "fake/b.mp4"):
        touch(tmp_path / name, "x")
    listed = os.scandir

    def scandir(path="."):
        if os.fspath(path) == str(tmp_path / "fake"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = scan(tmp_path)
    assert said(result, "a folder that cannot be listed")
    assert said(result, "NOTE: all labels are real")


def test_names_cannot_command_the_terminal(tmp_path, capsys):
    for name in ("real/a.mp4", "fake/b.mp4", "other/\x1b[2Jx.mp4"):
        touch(tmp_path / name, "x")
    scan_verb.run(scan_verb.Config(root=(tmp_path,), out=tmp_path / "m.parquet"))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b[2Jx.mp4" in out
    assert printable("a\tb\u202e") == r"a\tb\u202e"


def test_scan_writes_over_no_file_that_it_reads(tmp_path):
    touch(tmp_path / "a.jpg", "x")
    listed = touch(tmp_path / "list.csv", "path,label\na.jpg,0\n")
    before = listed.read_bytes()
    with pytest.raises(InputError, match=r"out=.*list\.csv is a file that is read here"):
        scan_verb.run(scan_verb.Config(root=(listed,), out=listed))
    assert listed.read_bytes() == before


def test_a_second_scan_does_not_read_the_table_of_the_first_as_the_folder(tmp_path):
    for name in ("real/a.mp4", "fake/b.mp4"):
        touch(tmp_path / name, "x")
    out = tmp_path / "manifest.parquet"
    scan_verb.run(scan_verb.Config(root=(tmp_path,), out=out))
    before = out.read_bytes()
    with pytest.raises(InputError, match=r"is the table that is read in its folder.*remove it"):
        scan_verb.run(scan_verb.Config(root=(tmp_path,), split="train", out=out))
    assert out.read_bytes() == before


def test_a_name_of_3000_letters_is_refused_in_one_sentence(tmp_path):
    for name in ("real/a.mp4", "fake/b.mp4"):
        touch(tmp_path / name, "x")
    with pytest.raises(InputError, match=r"name of 3000 letters"):
        scan(tmp_path, dataset="x" * 3000)


@pytest.mark.parametrize("name", ["1²3.png", "٣.png", "frame_20240131123055123456.png", "9" * 5000 + ".png"])
def test_odd_numbers_in_names_of_frames_are_no_frame_numbers(name):
    names = sorted([name, "a2.png", "a10.png"], key=natural_key)
    assert sorted(frame_indices(names)) == [0, 1, 2]
    assert [one for one in names if one.startswith("a")] == ["a2.png", "a10.png"]


def header_bomb(path, *, members, header_bytes):
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for number in range(members):
            entry = tarfile.TarInfo(f"{number}.png")
            entry.pax_headers = {"comment": "x" * header_bytes}
            tar.addfile(entry, io.BytesIO())
    return path


@pytest.mark.parametrize(("members", "header_bytes"), [(1, 2 << 20), (100, 900 << 10)])
def test_archives_of_headers_are_refused_before_they_fill_the_memory(tmp_path, members, header_bytes):
    """5.5 MB of pax headers took 2.6 GB."""
    path = header_bomb(tmp_path / "a.tar.gz", members=members, header_bytes=header_bytes)
    with pytest.raises(ArchiveError, match=r"absurd size|little but headers|times its size"):
        sequence_members(path)


def test_a_chain_of_headers_and_a_sparse_map_of_letters_are_refused(tmp_path):
    chain = tmp_path / "chain.tar"
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 5
    chain.write_bytes((entry.tobuf(tarfile.GNU_FORMAT) + b"a.png".ljust(512, b"\0")) * 3000)
    with pytest.raises(ArchiveError):
        sequence_members(chain)
    sparse = tmp_path / "sparse.tar"
    with tarfile.open(sparse, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a.png")
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
        member.size = 512
        tar.addfile(member, io.BytesIO(b"letters\n".ljust(512, b"\0")))
    with pytest.raises(ArchiveError):
        sequence_members(sparse)


WHOLE: dict[str, bytes] = {}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), min_size=1, max_size=8), st.booleans()
)
def test_a_damaged_archive_is_read_or_refused_in_one_sentence(tmp_path_factory, changes, is_cut):
    folder = tmp_path_factory.mktemp("tar")
    if not WHOLE:
        source = archive(folder / "whole.tar.gz", [(f"s/{n}.png", b"frame" * 300) for n in range(4)])
        import gzip

        WHOLE["tar"] = gzip.decompress(source.read_bytes())
    content = bytearray(WHOLE["tar"])
    for place, value in changes:
        content[place % len(content)] = value
    path = folder / "a.tar"
    path.write_bytes(content[: changes[0][0]] if is_cut else content)
    archives._list_members.cache_clear()
    try:
        found = sequence_members(path)
    except ArchiveError as refused:
        found = {}
        message = str(refused)
        assert "\n" not in message
    assert all(isinstance(names, list) for names in found.values())


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["a.jpg", "b.jpg", "1", "0", "real", "", "NA", "é", "=x", "7e3", '"', "\x1b"]),
            max_size=4,
        ),
        max_size=5,
    ),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["path,label", "file,target,split", "path,label,gender", "path,label,age", "x,y"]),
)
def test_any_table_is_a_manifest_or_one_sentence(tmp_path_factory, rows, separator, header):
    folder = tmp_path_factory.mktemp("table")
    touch(folder / "a.jpg", "x")
    lines = [header.replace(",", separator), *(separator.join(row) for row in rows)]
    try:
        manifest = scan(touch(folder / "list.csv", "\n".join(lines) + "\n")).manifest
    except InputError:
        return
    assert MANIFEST.validate(manifest).equals(manifest)


def test_one_name_in_four_methods_is_four_videos():
    """60 fakes were counted where there were 240, and an AUC of 1.000 was reported for one of 0.750."""
    rows = [("F", f"{n:03d}", 0, "real") for n in range(3)]
    rows += [("F", f"{n:03d}_{n + 1:03d}", 1, f"m{method}") for n in range(3) for method in range(4)]
    rows += [("G", "000_001", 1, "m0"), ("G", "000_001", 1, "m0")]
    table = pd.DataFrame(rows, columns=["dataset", "video", "label", "method"])
    apart, sentence = tell_methods_apart(table)
    assert apart[apart["dataset"] == "F"]["video"].nunique() == 3 + 12
    assert set(apart.loc[apart["dataset"] == "G", "video"]) == {"000_001"}
    assert sentence.startswith(
        "names of videos that several methods have, read as a video for each method: 3 ("
    )
    assert tell_methods_apart(table.drop(columns="method"))[1] is None


@pytest.mark.parametrize(
    ("name", "said"),
    [("trian", "is 'train' meant"), ("tets", "is 'test' meant"), ("holdout", "val or test, whichever it is")],
)
def test_a_folder_that_is_nearly_a_split_is_no_generator(tmp_path, name, said):
    for split in (name, "test"):
        for word in ("real", "fake"):
            touch(tmp_path / split / word / "a.jpg")
    with pytest.raises(InputError, match=f"folder '{name}' lies beside 'test', which is a split.*{said}"):
        scan(tmp_path)


def test_generators_beside_a_split_that_are_like_none_are_read(tmp_path):
    for split in ("vae", "biggan", "text", "test"):  # text is a letter from test, and a word
        for word in ("real", "fake"):
            touch(tmp_path / split / word / "a.jpg")
    assert set(scan(tmp_path).manifest["method"]) >= {"vae", "biggan", "text"}


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
        (b"\0\0\0\x18ftypisom", "an MP4 or MOV video"),
        (b"RIFF\0\0\0\0WEBP", "a WebP picture"),
    ],
)
def test_a_picture_without_a_suffix_is_no_note(tmp_path, start, kind):
    for word in ("real", "fake"):
        touch(tmp_path / word / "a.jpg")
    (tmp_path / "fake" / "IMG_0001").write_bytes(start)
    touch(tmp_path / "LICENSE", "text")
    found = unused_files(tmp_path, scan(tmp_path).manifest)
    assert f"1 {kind} without a suffix (not read); 1 in fake" in found.sentences()[0]
    assert found.rows.set_index("path")["reason"]["LICENSE"] == "a list or note"


def test_frames_of_real_videos_beside_single_fakes_are_noticed(tmp_path):
    """They were said only where every file was one; beside as many fakes the split took them apart unsaid."""
    for video in ("interview", "speech", "debate", "rally", "hearing", "visit"):
        for frame in range(4):
            touch(tmp_path / "real" / f"{video}_f{frame * 90:06d}.jpg")
    for number in range(24):
        touch(tmp_path / "fake" / f"{'abcdefghijklmnopqrstuvwx'[number]}.jpg")
    said = " ".join(scan(tmp_path).messages)
    assert "NOTE: of the real ones, 24 of 24 names look like frames of 6 videos" in said
    (line,) = [line for line in scan(tmp_path, plan=SplitPlan()).messages if line.startswith("split by file")]
    assert "split_by=stem keeps frames of one name together" in line


def test_folders_0_and_1_are_no_labels_and_that_is_said(tmp_path):
    for name in ("0", "1"):
        touch(tmp_path / name / "a.jpg")
    result = scan(tmp_path)
    assert result.manifest["label"].isna().all()
    assert "NOTE: folders called 0 and 1 are not taken for labels" in " ".join(result.messages)


def test_columns_may_name_those_of_groups(tmp_path):
    """`fairness` took columns={gender: …}, and `scan` refused it."""
    touch(tmp_path / "a.jpg")
    touch(tmp_path / "b.jpg")
    table = tmp_path / "liste.csv"
    table.write_text("Datei;Urteil;Geschlecht;Alter\na.jpg;echt;w;34\nb.jpg;fake;m;70\n")
    own = {"path": "Datei", "label": "Urteil", "gender": "Geschlecht", "age": "Alter"}
    manifest = scan(table, "table", columns=own).manifest
    assert manifest["gender"].tolist() == ["female", "male"]
    assert manifest["age"].tolist() == ["adult", "senior"]
    with pytest.raises(InputError, match="columns= says that gender is 'Sexo', which is no column"):
        scan(table, "table", columns={**own, "gender": "Sexo"})
