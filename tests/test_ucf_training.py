"""Pairs, schedule and the training itself, on images that can be told apart in seconds."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from ucf_fakes import METHODS, load, train, write_faces
from ucf_fakes import narrow_config as config

from unmasked.datasets.errors import InputError
from unmasked.evaluation.metrics import auc
from unmasked.evaluation.predict import predict
from unmasked.preprocessing.faces import FACES
from unmasked.training.callbacks import HoldLimits
from unmasked.training.config import OptimiserConfig
from unmasked.training.module import learning_rate_factor
from unmasked.training.tables import shuffle_labels, training_tables
from unmasked.ucf.config import UCFConfig

CONFIGS = Path(__file__).parents[1] / "configs" / "ucf"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    return root, FACES.validate(write_faces(root, {"train": 20, "val": 8, "test": 10}))


@pytest.fixture
def small(corpus):
    """Two identities a split, two frames a video: 8 fakes to train on."""
    root, faces = corpus
    few = faces["identity"].str[-1].astype(int).isin([0, 1]) & faces["identity"].str.contains("00")
    return root, faces[few & (faces["frame"] < 20)].reset_index(drop=True)


# Tables


def test_number_of_method_classes_comes_from_the_data(corpus):
    # The published code counts data sets, and fails on FaceForensics++ as one of them.
    tables = training_tables(corpus[1], config())
    assert tables.methods == ["real", *METHODS]
    digests = tables.summary()["train"]["video_digests"]
    assert len(digests) == len(set(digests)) == tables.summary()["train"]["videos"]
    assert tables.summary()["train"]["videos_by_method"] == {"real": 20, "Deepfakes": 20, "Face2Face": 20}


def test_self_blended_fakes_replace_the_data_sets_own_or_join_them_and_validation_keeps_its_own(corpus):
    faces = corpus[1]
    own, only, both = (
        training_tables(faces, config(data__fakes=fakes)) for fakes in ("dataset", "self_blended", "both")
    )
    assert only.methods == ["real", "self_blended"]
    assert both.methods == ["real", *METHODS, "self_blended"]
    assert only.train["label"].sum() == (only.train["label"] == 0).sum() == 80
    assert len(both.train) == len(own.train) + 80
    assert only.val.equals(own.val)


def test_reals_alone_are_enough_with_self_blended_fakes_and_are_refused_without(corpus, tmp_path):
    root, faces = corpus
    reals = faces[faces["label"] == 0]
    with pytest.raises(InputError, match=r"none of them fake.*data\.fakes=self_blended"):
        train(reals, root, config(), tmp_path / "run")
    settings = config(data__fakes="self_blended", data__pairing="source", training__max_steps=2)
    result = train(reals, root, settings, tmp_path / "run")
    assert load(result.checkpoint)[1]["method_classes"] == ["real", "self_blended"]
    again = train(reals, root, settings, tmp_path / "again")
    assert again.history == result.history


def test_shuffled_labels_permute_whole_videos(corpus):
    faces = corpus[1]
    train_rows = faces[faces["split"] == "train"].reset_index(drop=True)
    shuffled = shuffle_labels(train_rows, seed=0)
    videos = shuffled.drop_duplicates("video")
    assert (shuffled.groupby("video")["label"].nunique() == 1).all()
    assert ((videos["method"] == "real") == (videos["label"] == 0)).all()
    assert sorted(videos["method"]) == sorted(train_rows.drop_duplicates("video")["method"])
    assert shuffled.drop(columns=["label", "method"]).equals(train_rows.drop(columns=["label", "method"]))


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_say_nothing_about_the_true_ones(seed):
    # A plain permutation of 60 reals and 240 fakes would leave 12 +- 3 of the reals among the new reals.
    methods = np.repeat(["real", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"], 60)
    faces = pd.DataFrame({"video": [f"v{i}" for i in range(300)], "method": methods})
    faces = faces.assign(dataset="D", compression="c23")
    faces["label"] = (faces["method"] != "real").astype(int)
    shuffled = shuffle_labels(faces, seed)
    shares = pd.crosstab(faces["method"], shuffled["method"])
    assert shares.to_numpy().min() >= 11
    assert shares.to_numpy().max() <= 13
    other = shuffle_labels(faces, seed + 1)
    assert (shuffled["method"] != other["method"]).mean() > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(status="no_face"), "has a crop"),
        (lambda f: f[f["label"] == 0], "none of them fake"),
        (lambda f: f[f["label"] == 1], "none of them real"),
        (lambda f: f[f["split"] != "val"], "split 'val'; the faces table has test, train"),
        (lambda f: f[(f["split"] != "val") | (f["label"] == 1)], "split 'val' has .* none of them real"),
        (lambda f: f.iloc[:0], "none of the 0 rows"),
    ],
    ids=["no crop", "no fakes", "no reals", "no val", "one class in val", "empty"],
)
def test_tables_that_cannot_be_trained_on_are_refused_before_anything_is_written(
    corpus, tmp_path, change, message
):
    root, faces = corpus
    with pytest.raises(InputError, match=message):
        train(change(faces), root, config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Schedule


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("none", 0.0, [1, 1, 1]),
        ("none", 0.5, [0, 1, 1]),
        ("cosine", 0.0, [1, 0.5, 0]),
        ("cosine", 0.5, [0, 1, 0]),
        ("one_cycle", 0.0, [0.04, 0.5 * (1 + math.cos(math.pi * 2 / 7)), 0]),
    ],
)
def test_learning_rate_at_start_middle_and_end(schedule, warmup, expected):
    settings = OptimiserConfig(schedule=schedule, warmup=warmup)
    assert [learning_rate_factor(share, settings) for share in (0, 0.5, 1)] == pytest.approx(expected)


def test_minutes_end_training_and_count_on_after_a_resume():
    now = [0.0]
    limits = HoldLimits(2.0, lambda: now[0])
    limits.on_train_start(None, None)
    now[0] = 90.0
    stored = limits.state_dict()
    later = HoldLimits(2.0, lambda: now[0])
    later.load_state_dict(stored)
    later.on_train_start(None, None)
    now[0] = 120.0
    assert later.elapsed_s() == pytest.approx(120.0)


# Training


@pytest.mark.slow
def test_a_narrow_ucf_learns_and_leaves_all_files(corpus, tmp_path):
    root, faces = corpus
    # Crops of the test split are not there yet: training and selection cannot have seen them.
    elsewhere = faces.assign(crop=faces["crop"].where(faces["split"] != "test", "absent.png"))
    settings = config(optimiser__schedule="one_cycle", training__batch_pairs=8, training__epochs=6)
    result = train(elsewhere, root, settings, tmp_path)
    model, card = load(result.checkpoint)
    test = faces[faces["split"] == "test"]
    predictions = predict(
        model, test, root, size_px=card["size_px"], detector="UCF", checkpoint=card["sha256"]
    )
    assert auc(predictions["label"], predictions["score"]) > 0.9
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # The published loop runs one epoch more than it is asked for.
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines] == [20, 40, 60, 80, 100, 120]
    assert lines == result.history
    best = max(lines, key=lambda line: (line["val/video_auc"], line["val/frame_auc"]))
    assert card["selection"] == result.selection
    assert result.selection["step"] == best["step"]
    assert "validation" in card["selection"]["rule"]
    assert card["method_classes"] == ["real", *METHODS]
    assert result.last.is_file()


def logged(out: Path) -> EventAccumulator:
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return events


def test_every_loss_rate_throughput_and_auc_is_in_tensorboard_and_the_schedule_acts(small, tmp_path):
    # The published schedule is stepped after training, so it never acts.
    root, faces = small
    train(faces, root, config(optimiser__schedule="cosine", training__epochs=2), tmp_path)
    events = logged(tmp_path)
    losses = {f"train/{name}" for name in ("overall", "common", "specific", "reconstruction", "contrastive")}
    wanted = losses | {"train/lr", "train/images_per_s", "val/frame_auc", "val/video_auc"}
    assert wanted <= set(events.Tags()["scalars"])
    rates = [event.value for event in events.Scalars("train/lr")]
    assert rates == pytest.approx([1e-3 * 0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(4)], rel=1e-5)
    assert "config/text_summary" in events.Tags()["tensors"]


def test_same_seed_gives_the_same_losses_step_by_step_and_another_seed_does_not(small, tmp_path):
    root, faces = small
    losses = []
    for number, seed in enumerate((3, 3, 4)):
        settings = config(
            seed=seed, augment={"flip": 0.5, "noise": 0.5, "jpeg": 0.5}, model__head_dropout=0.2
        )
        train(faces, root, settings, tmp_path / str(number))
        losses.append([event.value for event in logged(tmp_path / str(number)).Scalars("train/overall")])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_generators_are_given_back_as_they_were(small, tmp_path):
    root, faces = small
    torch.manual_seed(11)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train(faces, root, config(training__max_steps=1), tmp_path)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


class StopAfter(pl.Callback):
    """An interruption at the start of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise ConnectionResetError


def test_a_training_that_was_interrupted_between_epochs_ends_as_if_it_had_not_been(small, tmp_path):
    root, faces = small
    settings = config(training__epochs=3, optimiser__schedule="cosine", augment__noise=0.5)
    whole = train(faces, root, settings, tmp_path / "whole")
    with pytest.raises(ConnectionResetError):
        train(faces, root, settings, tmp_path / "parts", callbacks=[StopAfter(1)])
    parts = train(faces, root, settings, tmp_path / "parts", resume=True)
    assert parts.history == whole.history
    assert parts.selection == whole.selection
    weights = [torch.load(r.last, weights_only=True)["state_dict"] for r in (whole, parts)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_finished_training_is_resumed_without_a_further_step(small, tmp_path):
    root, faces = small
    first = train(faces, root, config(), tmp_path)
    again = train(faces, root, config(), tmp_path, resume=True)
    assert again == first


def test_resuming_needs_a_state_and_the_same_configuration(small, tmp_path):
    root, faces = small
    with pytest.raises(InputError, match="nothing to resume"):
        train(faces, root, config(), tmp_path, resume=True)
    train(faces, root, config(), tmp_path)
    with pytest.raises(InputError, match=r"other values of optimiser\.lr, seed"):
        train(faces, root, config(optimiser__lr=5e-4, seed=8), tmp_path, resume=True)


def test_max_steps_ends_training_with_a_validation(small, tmp_path):
    root, faces = small
    result = train(faces, root, config(training__epochs=9, training__max_steps=3), tmp_path)
    assert [record["step"] for record in result.history] == [2, 3]


def test_validation_can_come_more_often_than_epochs(corpus, tmp_path):
    root, faces = corpus
    settings = config(training__max_steps=4, training__val_every_steps=2, data__val_frames_per_video=1)
    result = train(faces, root, settings, tmp_path)
    assert [record["step"] for record in result.history] == [2, 4]


def test_the_last_step_is_validated_wherever_it_falls(small, tmp_path):
    root, faces = small
    settings = config(training__epochs=2, training__val_every_steps=3)
    assert [record["step"] for record in train(faces, root, settings, tmp_path).history] == [3, 4]


def test_a_loss_that_is_no_number_stops_with_the_crops_of_the_batch(small, tmp_path):
    root, faces = small
    with pytest.raises(
        InputError, match=r"not a finite number in step \d+ .*crops/.*\.png.*lower optimiser\.lr"
    ):
        train(faces, root, config(optimiser__lr=1e30, training__epochs=3), tmp_path)


def test_an_absent_training_crop_is_named(small, tmp_path):
    root, faces = small
    broken = faces.assign(crop=faces["crop"].where(faces.index != 0, "gone.png"))
    with pytest.raises(InputError, match=r"gone\.png cannot be read"):
        train(broken, root, config(), tmp_path)


def test_crops_read_by_worker_processes_give_the_same_training(small, tmp_path):
    root, faces = small
    held = train(faces, root, config(), tmp_path / "held")
    read = train(faces, root, config(data__cache_mb=0, data__workers=1), tmp_path / "read")
    assert read.history == held.history


def imported_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_training_imports_neither_dlib_nor_fairlearn_nor_anny():
    loaded = imported_by(
        "unmasked.training.train", "unmasked.training.checkpoint", "unmasked.evaluation.predict"
    )
    assert not {"dlib", "fairlearn", "anny", "lightning", "plotly"} & loaded


def test_settings_import_nothing_heavy():
    assert not {"torch", "numpy", "pandas", "cv2"} & imported_by("unmasked.ucf.config")


def test_a_recipe_is_named_in_a_training_and_single_keys_replace_its_values():
    resolved = config(augment={"recipe": "published", "jpeg": 0.1}).augment
    assert (resolved.rotate, resolved.colour, resolved.jpeg, resolved.noise) == (0.5, 0.5, 0.1, 0.0)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_hold_differences_only(path):
    from omegaconf import OmegaConf

    written = OmegaConf.to_container(OmegaConf.load(path))
    resolved, default = UCFConfig.model_validate(written), UCFConfig()
    for section, values in written.items():
        for key, value in values.items():
            ours, theirs = (getattr(getattr(c, section), key) for c in (resolved, default))
            assert ours == value
            assert ours != theirs, f"{section}.{key} repeats the default"
