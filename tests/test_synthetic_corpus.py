from __future__ import annotations

import csv
import doctest
import hashlib
import importlib
import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from test_synthetic_manipulate import drawn_clip

from unmasked.datasets.errors import InputError
from unmasked.datasets.synthetic import corpus, units
from unmasked.datasets.synthetic.config import SyntheticConfig
from unmasked.datasets.synthetic.corpus import write_corpus
from unmasked.datasets.synthetic.encode import reupload, write_video
from unmasked.datasets.synthetic.people import draw_people
from unmasked.datasets.synthetic.plan import look_alikes, plan

TINY = SyntheticConfig(
    size_px=160,
    frames=4,
    ff_train=2,
    ff_val=2,
    ff_test=4,
    celeb_test=2,
    celeb_train=2,
    celeb_youtube=2,
    celeb_videos=1,
    wild_train=2,
    wild_test=2,
)
FAKES = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def stand_in(person, *, frames, size_px, seed, expression=None) -> SimpleNamespace:
    return drawn_clip(seed % 2**32, frames=frames, size_px=size_px, skin=210 - 15 * person.skin_tone)


@pytest.fixture
def drawn(monkeypatch):
    """Drawn faces instead of rendered ones: fast, and without anny."""
    monkeypatch.setattr(corpus, "_prepare_renderer", lambda: None)
    monkeypatch.setattr(units, "render_clip", stand_in)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "_prepare_renderer", lambda: None)
        patch.setattr(units, "render_clip", stand_in)
        return write_corpus(TINY, tmp_path_factory.mktemp("corpus"), workers=1)


def files_of(folder: Path) -> dict[str, str]:
    """Every file by its relative path, with a digest of its bytes."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def stream_facts(path: Path) -> tuple:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = sum(1 for _ in container.decode(video=0))
        context = video.codec_context
        return context.name, context.pix_fmt, context.width, context.height, float(video.average_rate), frames


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("module", ["config", "layouts", "plan"])
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(importlib.import_module(f"unmasked.datasets.synthetic.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_faceforensics_stands_in_its_own_layout(written):
    root = written / "FaceForensics++"
    pairs = [
        p for split in ("train", "val", "test") for p in json.loads((root / f"{split}.json").read_text())
    ]
    assert sorted(name for pair in pairs for name in pair) == [f"{i:03d}" for i in range(8)]
    fakes = [f"{a}_{b}" for pair in pairs for a, b in (pair, pair[::-1])]
    expected = {
        f"original_sequences/youtube/{c}/videos/{i:03d}.mp4" for c in ("c23", "c40") for i in range(8)
    }
    for method in FAKES:
        for folder in ("c23", "c40", "masks"):
            expected |= {f"manipulated_sequences/{method}/{folder}/videos/{name}.mp4" for name in fakes}
    assert {path.relative_to(root).as_posix() for path in root.rglob("*.mp4")} == expected


def test_celeb_df_stands_in_its_own_layout(written):
    root = written / "Celeb-DF-v2"
    names = {path.relative_to(root).as_posix() for path in root.rglob("*.mp4")}
    assert {f"Celeb-real/videos/id{i}_0000.mp4" for i in range(4)} <= names
    assert {f"YouTube-real/videos/{i:05d}.mp4" for i in range(2)} <= names
    assert sum(name.startswith("Celeb-synthesis/videos/id") for name in names) == 4
    assert len(names) == 10


def test_one_means_real_in_the_test_list_of_celeb_df(written):
    lines = (written / "Celeb-DF-v2" / "List_of_testing_videos.txt").read_text().splitlines()
    assert len(lines) == 2 + 2 + 2  # two celebrities, their fakes, two people of YouTube-real
    for line in lines:
        digit, path = line.split(" ")
        folder, name = path.split("/")
        assert digit == ("0" if folder == "Celeb-synthesis" else "1")
        assert (written / "Celeb-DF-v2" / folder / "videos" / name).is_file()


def test_wild_deepfake_holds_archives_of_face_crops(written):
    root = written / "WildDeepfake"
    archives = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.tar.gz"))
    assert archives == [
        f"{label}_{split}/0.tar.gz" for label in ("fake", "real") for split in ("test", "train")
    ]
    with tarfile.open(root / "fake_test" / "0.tar.gz") as archive:
        names = archive.getnames()
        image = archive.extractfile(names[0]).read()
    assert len(names) == 2 * TINY.frames
    assert all(name.startswith("0/fake/") and name.endswith(".png") for name in names)
    assert cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR).shape == (224, 224, 3)


def test_ai_face_describes_every_video_of_two_datasets_in_its_codes(written):
    truth = json.loads((written / "truth.json").read_text())
    rows = []
    for split in ("train", "test"):
        text = (written / "AI-Face" / f"{split}.csv").read_text()
        header = "Image Path,Predicted Gender,Predicted Age,Skin Tone,Target,Skin Tone Group,Intersection"
        assert text.splitlines()[0] == header
        rows += list(csv.DictReader(io.StringIO(text)))
    assert len({row["Image Path"] for row in rows}) == len(rows)
    tones = {person["skin_tone"] for person in truth["people"].values()}
    for row in rows:
        assert (written / "AI-Face" / row["Image Path"]).is_file()
        assert ("/fake/" in row["Image Path"]) == (row["Target"] == "1")
        assert int(row["Skin Tone"]) in tones
        group = 0 if int(row["Skin Tone"]) <= 3 else 1 if int(row["Skin Tone"]) <= 6 else 2
        assert int(row["Skin Tone Group"]) == group
        assert int(row["Intersection"]) == 3 * int(row["Predicted Gender"]) + group
    described = {Path(row["Image Path"]).stem.removeprefix("0_").rpartition("_")[0] for row in rows}
    videos = [v for v in truth["videos"] if v["dataset"] != "WildDeepfake"]
    assert len(described) == len(videos)
    for name in ("youtube_000", "YouTube-real_00001", "Celeb-real_id0_0000"):
        assert name in described


def test_annotations_of_a_fake_are_those_of_the_person_shown(written):
    truth = json.loads((written / "truth.json").read_text())
    tables = [(written / "AI-Face" / f"{split}.csv").read_text() for split in ("train", "test")]
    table = {row["Image Path"]: row for text in tables for row in csv.DictReader(io.StringIO(text))}
    video = next(v for v in truth["videos"] if v["method"] == "FaceSwap")
    name = Path(video["files"][0]).stem
    row = table[f"AI_Face_imagesV2/deepfakes/ff++/fake/0_FaceSwap_{name}_1.png"]
    shown = truth["people"][video["target"]]
    assert row["Skin Tone"] == str(shown["skin_tone"])
    assert row["Predicted Gender"] == str(int(shown["gender"] == "male"))


def test_reals_and_fakes_are_files_of_one_kind(written):
    root = written / "FaceForensics++"
    facts = {stream_facts(path) for path in root.rglob("*.mp4")}
    assert facts == {("h264", "yuv420p", 160, 160, 25.0, 4)}


def test_truth_lists_every_video_and_who_is_in_it(written):
    truth = json.loads((written / "truth.json").read_text())
    assert len(truth["videos"]) == 4 * 10 + (2 + 2 + 2 + 2 + 2) + 8
    for video in truth["videos"]:
        assert video["identity"] == video["target"]
        assert (video["source"] is None) == (video["label"] == 0)
        assert (video["strength"] > 0) == (video["label"] == 1)
        for file in video["files"]:
            assert (written / file.partition("!")[0]).is_file()
    train = {v["identity"] for v in truth["videos"] if v["split"] == "train"}
    test = {v["identity"] for v in truth["videos"] if v["split"] == "test"}
    assert not train & test


def test_same_configuration_gives_the_same_bytes(written, tmp_path, drawn):
    again = write_corpus(TINY, tmp_path / "again", workers=1)
    assert files_of(again) == files_of(written)


def test_another_seed_gives_other_pixels_and_other_people(written, tmp_path, drawn):
    other = write_corpus(TINY.model_copy(update={"seed": 1}), tmp_path / "other", workers=1)
    name = "FaceForensics++/original_sequences/youtube/c23/videos/000.mp4"
    assert (decoded(other / name) != decoded(written / name)).any()


def test_interrupted_corpus_is_completed_with_the_same_bytes(written, tmp_path, drawn, monkeypatch):
    calls = []

    def failing(person, **options):
        calls.append(person.name)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return stand_in(person, **options)

    monkeypatch.setattr(units, "render_clip", failing)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(TINY, tmp_path / "corpus", workers=1)
    assert not (tmp_path / "corpus" / "truth.json").exists()
    resumed = []
    monkeypatch.setattr(
        units, "render_clip", lambda person, **o: resumed.append(person) or stand_in(person, **o)
    )
    write_corpus(TINY, tmp_path / "corpus", workers=1)
    assert len(resumed) == 8 + 6 + 4 - 4  # two units of two were whole
    assert files_of(tmp_path / "corpus") == files_of(written)


def test_finished_corpus_is_left_alone(written, monkeypatch):
    monkeypatch.setattr(units, "render_clip", lambda *_, **__: pytest.fail("rendered again"))
    assert write_corpus(TINY, written) == written


def test_progress_counts_videos_up_to_all(tmp_path, drawn):
    seen = []
    write_corpus(TINY, tmp_path / "c", workers=1, progress=lambda *step: seen.append(step))
    videos = [(done, total) for stage, done, total in seen if stage == "synthetic videos"]
    assert videos[0] == (0, 58)
    assert videos[-1] == (58, 58)
    assert videos == sorted(videos)


def test_folder_of_another_configuration_is_refused_by_the_field_that_differs(written):
    with pytest.raises(InputError, match="frames 4, now 6"):
        write_corpus(TINY.model_copy(update={"frames": 6}), written)


def test_folder_with_other_things_in_it_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="give an empty or new folder"):
        write_corpus(TINY, tmp_path)
    assert files_of(tmp_path).keys() == {"thesis.txt"}


def test_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_corpus(TINY, tmp_path / "file")


def test_missing_renderer_says_what_to_install(tmp_path, monkeypatch):
    from unmasked.datasets.synthetic import head

    def absent():
        raise ModuleNotFoundError("No module named 'anny'", name="anny")

    monkeypatch.setattr(head, "load_head", absent)
    with pytest.raises(InputError, match=r"pip install -e"):
        write_corpus(TINY, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_unknown_bias_is_refused_with_the_groups_there_are():
    with pytest.raises(ValidationError, match="skin_tone:dark"):
        SyntheticConfig(bias="skin_tone:blue")
    with pytest.raises(ValidationError, match="not a group"):
        SyntheticConfig(bias="dark")


def test_bias_weakens_the_fakes_of_its_group_only(written, tmp_path, drawn):
    config = TINY.model_copy(update={"bias": "gender:female", "bias_strength": 0.75})
    biased = write_corpus(config, tmp_path / "biased", workers=1)
    truth = json.loads((biased / "truth.json").read_text())
    ratio = {"female": [], "male": []}
    for video in truth["videos"]:
        if video["dataset"] != "FaceForensics++" or video["label"] == 0:
            continue
        gender = truth["people"][video["target"]]["gender"]
        assert video["strength"] == (0.25 if gender == "female" else 1.0)
        target = Path(video["files"][0]).stem.partition("_")[0]
        real = decoded(
            written / f"FaceForensics++/original_sequences/youtube/c23/videos/{target}.mp4"
        ).astype(int)
        change = [np.abs(decoded(root / video["files"][0]) - real).mean() for root in (biased, written)]
        ratio[gender].append(change[0] / change[1])
    assert np.mean(ratio["male"]) == pytest.approx(1)
    assert np.mean(ratio["female"]) < 0.6


def test_people_are_paired_with_their_own_gender_and_a_near_skin_tone():
    people = draw_people(24, seed=0)
    pairs = look_alikes(people)
    assert sorted(p.name for pair in pairs for p in pair) == sorted(p.name for p in people)
    assert all(a.gender == b.gender for a, b in pairs)
    assert max(abs(a.skin_tone - b.skin_tone) for a, b in pairs) <= 3


def test_units_have_distinct_keys_and_names():
    planned = plan(SyntheticConfig(), draw_people)
    assert len({unit.key for unit in planned}) == len(planned)
    for part in ("faceforensics", "celeb", "youtube", "wild"):
        names = [name for unit in planned if unit.part == part for name in unit.names]
        assert len(set(names)) == len(names)


def test_video_bytes_follow_from_the_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (5, 64, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", frames, 23)
    write_video(tmp_path / "b.mp4", frames, 23)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert stream_facts(tmp_path / "a.mp4") == ("h264", "yuv420p", 48, 64, 25.0, 5)


def test_stronger_compression_is_further_from_the_frames(tmp_path):
    clip = drawn_clip(0)
    errors = []
    for crf in (23, 40):
        write_video(tmp_path / "v.mp4", clip.frames, crf)
        errors.append(np.abs(decoded(tmp_path / "v.mp4").astype(int) - clip.frames).mean())
    assert errors[0] < errors[1] < 12


def test_posted_frames_keep_their_size_and_lose_detail():
    frames = drawn_clip(0).frames
    back = reupload(frames, scale=0.6, crf=28)
    assert back.shape == frames.shape
    assert back.dtype == np.uint8

    def detail(images):
        return np.mean([cv2.Laplacian(image, cv2.CV_32F).std() for image in images])

    assert detail(back) < 0.7 * detail(frames)


@pytest.mark.slow
def test_rendered_corpus_does_not_depend_on_the_number_of_processes(tmp_path):
    pytest.importorskip("anny")
    smallest = TINY.model_copy(update={"frames": 2, "ff_test": 2, "celeb_train": 0, "wild_train": 0})
    alone = write_corpus(smallest, tmp_path / "alone", workers=1)
    together = write_corpus(smallest, tmp_path / "together", workers=2)
    assert files_of(alone) == files_of(together)


def test_wilddeepfakes_pictures_are_as_tight_as_the_real_ones():
    """Half of what would be cut out of them lies outside; of real faces cut as tight, 46 to 55 %."""
    from unmasked.datasets.synthetic.people import draw_people
    from unmasked.datasets.synthetic.render import render_clip
    from unmasked.datasets.synthetic.units import WILD_MARGIN, WILD_PX, face_crops
    from unmasked.preprocessing.align import FIVE_POINTS, padded_share, similarity_matrix
    from unmasked.preprocessing.detect import DlibDetector, find_faces, largest_face

    detector = DlibDetector()
    shares = []
    for person in draw_people(2, seed=3, prefix="x"):
        clip = render_clip(person, frames=1, size_px=320, seed=1)
        [crop] = face_crops(clip.frames, clip.points, WILD_PX, WILD_MARGIN)
        face = largest_face(find_faces(detector, crop))
        points = detector.landmarks(crop, face.box)[list(FIVE_POINTS)]
        shares.append(padded_share(similarity_matrix(points), crop.shape))
    assert 0.4 < min(shares) <= max(shares) < 0.6
