"""Shortcuts: the AUC against scikit-learn, planted ones found, chance left alone; headers of real files."""

import av
import numpy as np
import pandas as pd
import pytest
from audit_corpus import face, people
from PIL import Image
from sklearn.metrics import roc_auc_score

from unmasked.datasets.audit.findings import DO
from unmasked.datasets.audit.headers import read_headers
from unmasked.datasets.audit.run import _sizes
from unmasked.datasets.audit.shortcuts import FEATURES, POOLED, auc_within_folds, shortcuts


def facts(seed, count=120):
    """Files whose facts vary by person and say nothing of the label."""
    generator = np.random.default_rng(seed)
    table = people(count, generator)
    of_person = np.repeat(generator.normal(0, 1, count), 3)
    height = generator.choice([360, 720, 1080], len(table))
    return table.assign(
        format=table["path"].str.rsplit(".").str[-1],
        codec=generator.choice(["h264", "mpeg4"], len(table)),
        width_px=height * 16 // 9,
        height_px=height,
        bit_rate=np.exp(13 + of_person + generator.normal(0, 0.5, len(table))),
        size_bytes=np.exp(15 + of_person + generator.normal(0, 0.5, len(table))),
        frames=generator.integers(200, 600, len(table)),
        face_size_px=150 + 20 * of_person + generator.normal(0, 20, len(table)),
        face_in_crop_px=160 + generator.normal(0, 10, len(table)),
        padded=generator.integers(0, 20, len(table)),
        jpeg_quality=generator.choice([75, 90, 95], len(table)),
        blocks=generator.uniform(1, 1.3, len(table)),
        edge=list(generator.uniform(0, 255, (len(table), 68))),
        corners=list(generator.uniform(0, 255, (len(table), 4096))),
    )


def measured(table, feature, **settings):
    result = shortcuts(table, **{"n_boot": 200, **settings})
    return result[result["feature"] == feature].iloc[0]


def test_auc_of_one_fold_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    label, score = generator.integers(0, 2, 300), generator.integers(0, 20, 300)
    levels = np.unique(score)
    positive, negative = (
        np.array([[np.sum((score == level) & (label == which))] for level in levels], float)
        for which in (1, 0)
    )
    found = auc_within_folds(positive, negative, np.zeros(len(levels), int))
    assert found[0] == pytest.approx(roc_auc_score(label, score))


def test_pairs_across_folds_do_not_count():
    positive, negative = np.array([[0.0], [1.0], [0.0], [1.0]]), np.array([[1.0], [0.0], [1.0], [0.0]])
    # Fold 1 scores lower as a whole, which says nothing.
    assert auc_within_folds(positive, negative, np.array([0, 0, 1, 1])).tolist() == [1.0]


@pytest.mark.parametrize("seed", range(10))
def test_facts_that_say_nothing_of_the_label_are_no_shortcut(seed):
    result = shortcuts(facts(seed), n_boot=200, seed=seed)
    assert set(result["feature"]) == set(FEATURES)
    assert not result["is_shortcut"].any()
    assert (result["low"] < result["auc"]).all()
    assert result["auc"].mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("feature", FEATURES)
def test_each_fact_that_gives_the_label_away_is_a_shortcut(feature):
    table = facts(0)
    for column in FEATURES[feature].columns:
        told = {"format": ["mp4", "avi"], "codec": ["h264", "vp9"]}.get(column, [400.0, 500.0])
        if FEATURES[feature].is_pattern:
            marked = np.stack(table[column].to_list())
            marked[table["label"] == 1, 30:60] = 255
            table[column] = list(marked)
            continue
        table[column] = np.array(told, dtype=object if isinstance(told[0], str) else float)[table["label"]]
    found = measured(table, feature)
    assert found["is_shortcut"]
    assert found["auc"] == 1.0
    # 120 people, each of them real and fake: no certainty, but the exact bound for so many.
    assert (found["low"], found["high"]) == (pytest.approx(0.025 ** (1 / 120)), 1.0)


def test_a_shortcut_of_some_of_the_files_has_the_auc_it_must_have():
    table = facts(0, count=400)
    marked = (table["label"] == 1) & (np.random.default_rng(1).random(len(table)) < 0.5)
    table["codec"] = np.where(marked, "vp9", "h264")
    found = measured(table, "codec")
    assert found["is_shortcut"]
    assert found["auc"] == pytest.approx(0.5 + marked.sum() / (table["label"] == 1).sum() / 2, abs=0.02)
    assert found["low"] < 0.75 < found["high"]
    assert found["in_reals"] == "100 % h264"


def test_a_person_known_by_the_size_of_the_face_is_no_shortcut():
    # The size names the person, and people differ in label; unseen people show that it says no more.
    table = facts(0, count=60)
    table = table[table["label"] == (table["identity"].str[2:].astype(int) % 2)].copy()
    table["face_size_px"] = (
        table["identity"].str[2:].astype(int).map(dict(enumerate(np.random.default_rng(0).permutation(60))))
    )
    assert not measured(table, "face_size")["is_shortcut"]


def test_reals_of_one_dataset_and_fakes_of_another_are_tested_together():
    table = facts(0)
    table["dataset"] = np.where(table["label"] == 1, "fakes", "reals")
    table["format"] = np.where(table["label"] == 1, "png", "jpg")
    result = shortcuts(table, n_boot=200)
    assert set(result.loc[result["reason"] != "", "dataset"]) == {"fakes", "reals"}
    pooled = result[(result["dataset"] == POOLED) & (result["feature"] == "format")].iloc[0]
    assert pooled["is_shortcut"]
    assert pooled["auc"] == 1.0


def test_few_people_are_not_tested_and_the_reason_is_given():
    found = measured(facts(0, count=9), "codec")
    assert found["reason"].startswith("fewer than 10")
    assert np.isnan(found["auc"])


def video(path, codec="mpeg4", frames=10, size=(64, 48)):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        image = np.zeros((size[1], size[0], 3), np.uint8)
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())


def test_headers_say_what_was_written(tmp_path):
    video(tmp_path / "a.mp4")
    Image.fromarray(face(np.random.default_rng(0))).save(
        tmp_path / "b.JPG", "PNG"
    )  # a PNG that says it is a JPEG
    (tmp_path / "seq").mkdir()
    for number in range(3):
        Image.fromarray(face(np.random.default_rng(number))).save(tmp_path / f"seq/{number}.png")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    rows = pd.DataFrame(
        [
            ("a.mp4", "video"),
            ("b.JPG", "image"),
            ("seq", "sequence"),
            ("bad.mp4", "video"),
            ("gone.mp4", "video"),
        ],
        columns=["path", "kind"],
    ).assign(root=str(tmp_path))
    rows.loc[5] = ["x.tar.gz!x/real/0", "sequence", str(tmp_path)]
    found = read_headers(rows)
    assert found["status"].tolist() == ["ok", "ok", "ok", "unreadable", "missing", "archived"]
    assert found["format"].tolist()[:5] == ["mp4", "jpg", "png", "mp4", "mp4"]
    assert found["codec"].tolist()[:3] == ["mpeg4", "png", "png"]
    assert found[["width_px", "height_px", "frames"]].iloc[:3].to_numpy().tolist() == [
        [64, 48, 10],
        [64, 64, 1],
        [64, 64, 3],
    ]
    assert found["bit_rate"].iloc[0] == pytest.approx(8 * (tmp_path / "a.mp4").stat().st_size / 0.4, rel=0.01)
    assert found["size_bytes"].iloc[2] == sum(path.stat().st_size for path in (tmp_path / "seq").iterdir())


def test_every_feature_has_an_advice():
    """`audit` ended with a KeyError where the empty part of crops was the first shortcut."""
    assert set(FEATURES) <= set(DO)


def test_the_face_in_its_crop_is_measured_from_box_and_matrix():
    crops = {"dataset": "D", "video": "a", "compression": None, "status": "ok", "size_px": 100.0}
    table = pd.DataFrame([crops | {"m00": 0.6, "m10": 0.8, "padded": 0.1}, crops])
    assert _sizes(table)["face_in_crop_px"].round(6).tolist()[0] == 100.0
    assert _sizes(table)["face_in_crop_px"].isna().tolist() == [False, True]
