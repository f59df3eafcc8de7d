"""Scores of a callable or module on crops."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from unmasked.app import ray_scores
from unmasked.datasets.errors import InputError
from unmasked.evaluation.predict import features, predict
from unmasked.evaluation.predictions import PREDICTIONS
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.pool import Outcome

LEVELS = (0, 51, 102, 255, 204)


@pytest.fixture
def faces(tmp_path):
    rows = []
    for number, level in enumerate(LEVELS):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((32, 32, 3), level, np.uint8))
        rows.append(
            {
                "dataset": "D",
                "video": f"v{number // 2}",
                "kind": "video",
                "label": number // 2 % 2,
                "method": "Swap" if number // 2 % 2 else "real",
                "split": "test",
                "identity": f"p{number // 2}",
                "gender": "female",
                "frame": number,
                "face": 0,
                "crop": f"{number}.png",
                "size_px": 32.0,
                "box_left": 1.0,
                "status": "ok",
                "hair": "grey",
            }
        )
    rows.append({**rows[-1], "frame": 99, "crop": None, "status": "no_face"})
    return FACES.validate(pd.DataFrame(rows))


def brightness(images: torch.Tensor) -> torch.Tensor:
    mean = images.mean((1, 2, 3))
    return torch.stack([-mean, mean], 1)


def scored(faces, root, model=brightness, **options):
    return predict(model, faces, root, **{"size_px": 32, "batch_size": 2, "detector": "mean", **options})


def test_score_is_the_softmax_of_the_second_logit_on_values_from_minus_one_to_one(faces, tmp_path):
    predictions = scored(faces, tmp_path)
    values = np.array(LEVELS) / 127.5 - 1
    assert predictions["score"].to_numpy() == pytest.approx(1 / (1 + np.exp(-2 * values)), abs=1e-6)


def test_predictions_carry_keys_annotations_and_group_columns_but_nothing_of_the_crop(faces, tmp_path):
    predictions = scored(faces, tmp_path, checkpoint="abc")
    assert PREDICTIONS.validate(predictions).equals(predictions)
    assert len(predictions) == len(LEVELS)
    assert set(predictions["hair"]) == {"grey"}
    assert set(predictions["gender"]) == {"female"}
    assert predictions["identity"].tolist() == ["p0", "p0", "p1", "p1", "p2"]
    assert (predictions["detector"] == "mean").all()
    assert (predictions["checkpoint"] == "abc").all()
    assert not {"crop", "status", "size_px", "box_left", "m00"} & set(predictions)
    assert set(predictions["kind"]) == {"video"}  # what was scored: sentences name it


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_scores_do_not_depend_on_the_batch(faces, tmp_path, batch_size):
    whole = scored(faces, tmp_path, batch_size=5)["score"]
    assert scored(faces, tmp_path, batch_size=batch_size)["score"].tolist() == pytest.approx(whole.tolist())


def test_a_module_is_scored_in_evaluation_mode(faces, tmp_path):
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(0.99)

        def forward(self, images):
            return brightness(self.dropout(images))

    model = Dropped().train()
    assert scored(faces, tmp_path, model)["score"].equals(scored(faces, tmp_path)["score"])


def test_bfloat16_gives_nearly_the_same_scores(faces, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    whole, half = (
        scored(faces, tmp_path, model, precision=precision)["score"] for precision in ("fp32", "bf16")
    )
    assert half.to_numpy() == pytest.approx(whole.to_numpy(), abs=0.01)
    assert not half.equals(whole)


def test_a_missing_crop_is_an_error_that_names_it_never_a_score(faces, tmp_path):
    (tmp_path / "3.png").unlink()
    with pytest.raises(InputError, match=r"3\.png cannot be read"):
        scored(faces, tmp_path)


def test_a_table_without_crops_is_refused(faces, tmp_path):
    with pytest.raises(InputError, match="none of the 6 rows"):
        scored(faces.assign(status="no_face"), tmp_path)


def test_a_detector_with_another_output_is_refused(faces, tmp_path):
    with pytest.raises(InputError, match=r"returned the shape \(2, 1\)"):
        scored(faces, tmp_path, lambda images: brightness(images)[:, :1])


def test_progress_counts_every_crop(faces, tmp_path):
    seen = []
    scored(faces, tmp_path, progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == [2, 4, 5]
    assert {total for *_, total in seen} == {5}


def test_features_come_with_the_rows_they_belong_to(faces, tmp_path):
    rows, values = features(lambda images: images.mean((2, 3)), faces, tmp_path, size_px=32)
    assert values.shape == (5, 3)
    assert values[:, 0] == pytest.approx(np.array(LEVELS) / 127.5 - 1, abs=1e-6)
    assert rows["frame"].tolist() == [0, 1, 2, 3, 4]


# On a cluster: what comes back, in any order, from processes that may end; a real one is in
# test_preprocess_shards.py


@pytest.fixture
def cluster(monkeypatch):
    """Tasks done here in the opposite order; ``wrong`` makes an outcome of one."""
    state = {"wrong": None}

    def run_tasks_on_ray(tasks, make_work, *, workers, budget):
        work = make_work()
        for task in reversed(tasks):
            yield state["wrong"](task) if state["wrong"] else Outcome(task, work(task))

    monkeypatch.setattr(ray_scores, "run_tasks_on_ray", run_tasks_on_ray)
    monkeypatch.setattr(ray_scores, "load", lambda *_: (brightness, {"sha256": "a" * 64}))
    monkeypatch.setattr(ray_scores, "BATCHES", 1)
    return state


def on_cluster(faces, root, sha256="a" * 64, **options):
    brief = ray_scores.Brief(root, "", sha256, 32, "cpu", "fp32")
    return scored(faces, root, score_elsewhere=partial(ray_scores.score_on_ray, brief=brief, **options))


def test_scores_of_a_cluster_stand_at_their_crops_in_whatever_order_they_come(faces, tmp_path, cluster):
    seen = []
    found = on_cluster(faces, tmp_path, progress=lambda stage, done, total: seen.append((done, total)))
    pd.testing.assert_frame_equal(found, scored(faces, tmp_path))
    assert seen == [(1, 5), (3, 5), (5, 5)]


def test_a_machine_with_other_weights_or_one_that_ends_is_told_and_gives_no_score(faces, tmp_path, cluster):
    with pytest.raises(InputError, match="let all machines see the same file"):
        on_cluster(faces, tmp_path, sha256="b" * 64)
    cluster["wrong"] = lambda task: Outcome(task, None, "crashed", "lost with its machine, 3 times")
    with pytest.raises(InputError, match="could not be scored on the cluster"):
        on_cluster(faces, tmp_path)


def test_perturbed_crops_are_not_scored_on_a_cluster(tmp_path):
    from unmasked.app.verbs import predict as verb

    (tmp_path / "faces.parquet").write_bytes(b"")
    (tmp_path / "w.safetensors").write_bytes(b"")
    config = verb.Config(
        checkpoint=tmp_path / "w.safetensors",
        faces=tmp_path / "faces.parquet",
        engine="ray",
        perturbations="jpeg",
    )
    with pytest.raises(InputError, match="leave engine=local for perturbations"):
        verb.run(config)
