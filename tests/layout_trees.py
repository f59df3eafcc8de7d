"""Tiny trees in the layouts of the real datasets, of empty files: scanning opens no video and no image."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

FF_SPLITS = {"train": [["000", "001"]], "val": [["002", "003"]], "test": [["004", "005"]]}
FF_METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def touch(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def faceforensics(root, splits=FF_SPLITS, compressions=("c23",), methods=FF_METHODS):
    for split, pairs in splits.items():
        touch(root / f"{split}.json", json.dumps(pairs))
        for a, b in pairs:
            for level in compressions:
                for name in (a, b):
                    touch(root / f"original_sequences/youtube/{level}/videos/{name}.mp4")
                for method in methods:
                    for name in (f"{a}_{b}", f"{b}_{a}"):
                        touch(root / f"manipulated_sequences/{method}/{level}/videos/{name}.mp4")
    return root


CELEB_TEST = ("1 YouTube-real/00001.mp4", "1 Celeb-real/id0_0000.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4")
CELEB_VIDEOS = (
    "Celeb-real/id0_0000",
    "Celeb-real/id0_0001",
    "Celeb-real/id1_0000",
    "YouTube-real/00000",
    "YouTube-real/00001",
    "Celeb-synthesis/id0_id1_0000",
    "Celeb-synthesis/id1_id0_0000",
)


def celeb_df(root, videos=CELEB_VIDEOS, test=CELEB_TEST, inner=""):
    for name in videos:
        folder, stem = name.split("/")
        touch(root / folder / inner / f"{stem}.mp4")
    touch(root / "List_of_testing_videos.txt", "\n".join(test) + "\n")
    return root


PP_VIDEOS = (
    "Celeb-real/id0_0000",
    "Celeb-real/id1_0000",
    "YouTube-real/00001",
    "Celeb-synthesis/FaceSwap/Celeb-DF/id0_id1_0000",
    "Celeb-synthesis/FaceSwap/SimSwap/id0_id1_0000",
    "Celeb-synthesis/FaceReenact/LivePortrait/id0_id1_0000",
    "Celeb-synthesis/TalkingFace/SadTalker/id0_id1_0000",
)
PP_TEST = (
    "1 Celeb-real/id0_0000.mp4",
    "0 Celeb-synthesis/FaceSwap/SimSwap/id0_id1_0000.mp4",
    "0 Celeb-synthesis/TalkingFace/SadTalker/id0_id1_0000.mp4",
)


def celeb_df_pp(root, videos=PP_VIDEOS, test=PP_TEST):
    for name in videos:
        touch(root / f"{name}.mp4")
    touch(root / "List_of_testing_videos.txt", "\n".join(test) + "\n")
    return root


def df40(root):
    for name in (
        "train/simswap/frames/001_870/000.png",
        "train/sd2.1/ff/001/000.png",
        "test/simswap/cdf/frames/id0_id1_0000/000.png",
        "test/e4e/cdf/Celeb-real/inversions/00001.jpg",
        "test/heygen/real/frames/a/000.png",
        "test/heygen/fake/frames/b/000.png",
        "test/blendface/ff/frames/003_000/000.png",
        "train/blendface/frames/004_005/000.png",
    ):
        touch(root / name)
    return root


def faceforensics_flat(root, pairs=(("000", "001"), ("002", "003"))):
    for pair in pairs:
        for a, b in (pair, pair[::-1]):
            touch(root / "original" / f"{a}.mp4")
            for method in (*FF_METHODS, "FaceShifter"):
                touch(root / method / f"{a}_{b}.mp4")
    touch(root / "DeepFakeDetection" / "01_02__exit_phone_room__ABCDEFGH.mp4")
    touch(root / "csv" / "Deepfakes.csv", "File Path,Label\n")
    return root


def archive(path: Path, members) -> Path:
    """A gzipped tar of (name, content) pairs; a content that is a TarInfo is added as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.name = name
            if isinstance(content, bytes):
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                tar.addfile(entry)
    return path


def frames(folder: str, numbers=(0, 1, 2)):
    return [(f"{folder}/{number}.png", b"frame %d" % number) for number in numbers]


def wild_deepfake(root):
    for name in ("real_train", "real_test", "fake_train", "fake_test"):
        label = name.split("_")[0]
        archive(root / name / "0.tar.gz", [*frames(f"0/{label}/0"), *frames(f"0/{label}/1")])
    return root


V2_HEADER = "Image Path,Predicted Gender,Predicted Age,Skin Tone,Target,Skin Tone Group,Intersection"
V2_TRAIN = (
    "AI_Face_imagesV2/DMs/DCFACe/7856/6.jpg,1,3,6,1,1,4",
    "AI_Face_imagesV2/Real/FFHQ/00000.png,0,2,9,0,2,2",
    "AI_Face_imagesV2/deepfakes/ff++/fake/0_Deepfakes_300_304_151.png,0,1,2,1,0,0",
)
V2_TEST = ("AI_Face_imagesV2/deepfakes/celebdf/real/0_Celeb-real_id0_0001_91.png,1,4,3,0,0,3",)


def ai_face(root, train=V2_TRAIN, test=V2_TEST):
    for split, rows in (("train", train), ("test", test)):
        touch(root / f"{split}.csv", "\n".join([V2_HEADER, *rows]) + "\n")
        for row in rows:
            touch(root / row.split(",")[0])
    return root


def folder(root):
    for name in ("Train/Real/a.jpg", "Train/Fake/a.jpg", "valid/real/b.png", "test/fake/deep/c.mp4"):
        touch(root / name)
    return root


def table(root):
    rows = [
        "file,label,kind,gender,age",
        "a/x.mp4,1,video,female,44",
        "a/y.jpg,0,image,,",
        "z.PNG,real,,M,60",
    ]
    touch(root / "manifest.csv", "\n".join(rows) + "\n")
    for name in ("a/x.mp4", "a/y.jpg", "z.PNG"):
        touch(root / name)
    return root


DFD_FAKES = ("01_02__meeting_serious__YVGY8LOK", "02_03__kitchen_still__480LQD1C")


def deepfakedetection(root, fakes=DFD_FAKES, compressions=("c23",)):
    reals = sorted({f"{actor}__{name.split('__')[1]}" for name in fakes for actor in name[:5].split("_")})
    for level in compressions:
        for name in reals:
            touch(root / f"original_sequences/actors/{level}/videos/{name}.mp4")
        for name in fakes:
            touch(root / f"manipulated_sequences/DeepFakeDetection/{level}/videos/{name}.mp4")
    return root


def celeb_df_v1(root):
    absent = [f"0 Celeb-synthesis/id9_id8_{n:04d}.mp4" for n in range(97)]
    return celeb_df(root, test=(*CELEB_TEST, *absent))  # 100 lines: version 1


def dfdc(root, inner="train/", label_file="metadata.json"):
    """Two training parts, validation and test, with names of ten letters as published."""
    parts = {
        "dfdc_train_part_0": {
            "aapnvogymq.mp4": {"label": "FAKE", "split": "train", "original": "jdubbvfswz.mp4"},
            "abarnvbtwb.mp4": {"label": "REAL", "split": "train"},
        },
        "dfdc_train_part_1": {
            "jdubbvfswz.mp4": {"label": "REAL", "split": "train"},
            "zzcuejxbzk.mp4": {"label": "FAKE", "split": "train", "original": "jdubbvfswz.mp4"},
        },
    }
    for part, labels in parts.items():
        touch(root / f"{inner}{part}" / "metadata.json", json.dumps(labels))
        for name in labels:
            touch(root / f"{inner}{part}" / name)
    touch(root / "validation" / "labels.csv", "filename,label\nvvvvvvvvvv.mp4,0\n")
    touch(root / "validation" / "vvvvvvvvvv.mp4")
    test = {"tttttttttt.mp4": {"is_fake": 1, "augmentations": {}}, "uuuuuuuuuu.mp4": {"is_fake": 0}}
    if label_file == "metadata.json":
        touch(root / "test" / "metadata.json", json.dumps(test))
    else:
        lines = [f"{name},{entry['is_fake']}" for name, entry in test.items()]
        touch(root / "test" / "labels.csv", "\n".join(["filename,label", *lines]) + "\n")
    for name in test:
        touch(root / "test" / ("videos" if label_file == "labels.csv" else "") / name)
    return root


PREVIEW = {
    "original_videos/1003254/1003254_A_001.mp4": ("real", "train", 1003254, None),
    "method_A/1003254/1003254_A/1255229_1003254_A_001.mp4": ("fake", "train", 1003254, 1255229),
    "original_videos/643669/643669_B_000.mp4": ("real", "test", 643669, None),
    "method_B/643669/643669_B/2167929_643669_B_000.mp4": ("fake", "test", 643669, 2167929),
}


def dfdc_preview(root, clips=PREVIEW):
    listed = {
        path: {"label": label, "set": split, "target_id": target, "swapped_id": swapped, "augmentations": []}
        for path, (label, split, target, swapped) in clips.items()
    }
    touch(root / "dataset.json", json.dumps(listed))
    for path in clips:
        touch(root / path)
    return root


DEEPER_SPLITS = {"train": ["000_M101"], "val": ["001_W010"], "test": ["002_M005", "003_W010"]}


def deeperforensics(root, splits=DEEPER_SPLITS, variants=("end_to_end", "end_to_end_level_1")):
    for split, names in splits.items():
        touch(root / "lists" / "splits" / f"{split}.txt", "".join(f"{name}.mp4\n" for name in names))
        for variant in variants:
            for name in names:
                touch(root / "manipulated_videos" / variant / f"{name}.mp4")
    touch(root / "source_videos/M101/light_up/happy/camera_front/M101_light_up_happy_camera_front.mp4")
    return root


def uadfv(root, count=3):
    for number in range(count):
        touch(root / "real" / f"{number:04d}.mp4")
        touch(root / "fake" / f"{number:04d}_fake.mp4")
    return root


AVCELEB = (  # source, target1, method, category, race, gender, name
    ("id00076", "-", "real", "RealVideo-RealAudio", "African", "men", "00109.mp4"),
    ("id00166", "-", "real", "RealVideo-RealAudio", "Asian (East)", "women", "00010.mp4"),
    ("id00076", "-", "rtvc", "RealVideo-FakeAudio", "African", "men", "00109_fake.mp4"),
    ("id00076", "-", "wav2lip", "FakeVideo-FakeAudio", "African", "men", "00109_0_id00166_wavtolip.mp4"),
    (
        "id00076",
        "id00366",
        "faceswap",
        "FakeVideo-RealAudio",
        "African",
        "men",
        "00109_id00366_1_faceswap.mp4",
    ),
)


def fakeavceleb(root, table=True, rows=AVCELEB):
    lines = ["source,target1,target2,method,category,type,race,gender,path,"]
    for source, target, method, category, race, gender, name in rows:
        folder = f"{category}/{race}/{gender}/{source}"
        touch(root / folder / name)
        lines.append(f"{source},{target},-,{method},A,{category},{race},{gender},{name},FakeAVCeleb/{folder}")
    if table:
        touch(root / "meta_data.csv", "\n".join(lines) + "\n")
    return root


def _listed_video(label, folder, root, count=2):
    """An entry of a list of DeepfakeBench, with backslashes and the home of its maker, and its crops."""
    for number in range(count):
        touch(root / "datasets/rgb" / folder / f"{number * 8:03d}.png")
    frames_of = [
        f"/home/maker/rgb/{folder}/{number * 8:03d}.png".replace("/", "\\") for number in range(count)
    ]
    return {"label": label, "frames": frames_of}


def deepfakebench(root):
    """Lists of FaceForensics++ (one method), Celeb-DF-v2 and UADFV, with the published faults."""
    ff: dict = {label: {split: {"c23": {}} for split in FF_SPLITS} for label in ("FF-real", "FF-DF")}
    for split, pairs in FF_SPLITS.items():
        for a, b in pairs:
            for name in (a, b):
                where = f"FaceForensics++/original_sequences/youtube/c23/frames/{name}"
                ff["FF-real"][split]["c23"][name] = _listed_video("FF-real", where, root)
            for name in (f"{a}_{b}", f"{b}_{a}"):
                where = f"FaceForensics++/manipulated_sequences/Deepfakes/c23/frames/{name}"
                ff["FF-DF"][split]["c23"][name] = _listed_video("FF-DF", where, root)
    celeb: dict = {f"CelebDFv2_{word}": {split: {} for split in FF_SPLITS} for word in ("real", "fake")}
    for folder, word, names in (
        ("Celeb-real", "real", ("id0_0000", "id1_0000")),
        ("Celeb-synthesis", "fake", ("id0_id1_0000", "id1_id0_0000")),
    ):
        for position, name in enumerate(names):
            video = _listed_video(f"CelebDFv2_{word}", f"Celeb-DF-v2/{folder}/frames/{name}", root)
            for split in ("train", "val", "test") if position == 0 else ("train",):
                celeb[f"CelebDFv2_{word}"][split][name] = video  # the test videos are in train as well
    lists = root / "preprocessing/dataset_json"
    touch(lists / "FaceForensics++.json", json.dumps({"FaceForensics++": ff}))
    touch(lists / "FF-DF.json", json.dumps({"FF-DF": ff}))
    touch(lists / "Celeb-DF-v2.json", json.dumps({"Celeb-DF-v2": celeb}))
    return root


# One for each source; a new source needs one, or the tests that go over all sources say so.
TREES = {
    "faceforensics": faceforensics,
    "celeb_df": celeb_df,
    "celeb_df_v1": celeb_df_v1,
    "celeb_df_pp": celeb_df_pp,
    "faceforensics_flat": faceforensics_flat,
    "df40": df40,
    "deepfakedetection": deepfakedetection,
    "deepfakebench": deepfakebench,
    "dfdc": dfdc,
    "dfdc_preview": dfdc_preview,
    "deeperforensics": deeperforensics,
    "uadfv": uadfv,
    "fakeavceleb": fakeavceleb,
    "wild_deepfake": wild_deepfake,
    "ai_face": ai_face,
    "folder": folder,
    "table": table,
}
