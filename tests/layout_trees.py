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


# One for each source; a new source needs one, or the tests that go over all sources say so.
TREES = {
    "faceforensics": faceforensics,
    "celeb_df": celeb_df,
    "wild_deepfake": wild_deepfake,
    "ai_face": ai_face,
    "folder": folder,
    "table": table,
}
