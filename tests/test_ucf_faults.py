"""Faults of the published training code, each with what is done here instead.

Others have their test where the subject is: method classes, a schedule that acts, and a failed image in
test_ucf_training.py; evenly sampled frames in test_loading.py; memory in test_ucf_resume.py.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ucf_fakes import UCFModule, load, narrow_config, train, write_faces

from unmasked.app.config import load as load_config
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FACES
from unmasked.training.callbacks import KeepBest
from unmasked.training.tables import training_tables
from unmasked.training.train import seed_everything
from unmasked.ucf.config import UCFConfig
from unmasked.ucf.model import UCF


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    return root, FACES.validate(write_faces(root, {"train": 2, "val": 1, "test": 2}, frames=2))


def test_six_epochs_are_not_run_where_five_are_asked_for(corpus, tmp_path):
    # nEpochs + 1 are run by the published loop.
    root, faces = corpus
    result = train(faces, root, narrow_config(training__epochs=2), tmp_path)
    assert [record["epoch"] for record in result.history] == [1, 2]
    assert result.history[-1]["step"] == 2 * 2  # 8 fakes in batches of 4


def test_the_test_split_does_not_choose_the_checkpoint(corpus, tmp_path):
    # The published loop takes the state that is best on each test set. Here its crops need not even exist.
    root, faces = corpus
    hidden = faces.assign(crop=faces["crop"].where(faces["split"] != "test", "absent.png"))
    result = train(hidden, root, narrow_config(), tmp_path)
    assert result.selection["split"] == "val"
    assert not result.selection["is_oracle"]
    assert load(result.checkpoint)[1]["detector"] == "UCF"


def test_an_oracle_takes_the_test_split_and_says_so_in_every_output(corpus, tmp_path):
    root, faces = corpus
    tables = training_tables(faces, narrow_config(training__selection="oracle"))
    assert set(tables.val["split"]) == {"test"}
    hidden = faces.assign(crop=faces["crop"].where(faces["split"] != "val", "absent.png"))
    result = train(hidden, root, narrow_config(training__selection="oracle"), tmp_path)
    card = load(result.checkpoint)[1]
    # Predictions take the detector's name from the card, and all tables, figures and reports from them.
    assert card["detector"] == "UCF (oracle selection)"
    for selection in (result.selection, card["selection"]):
        assert selection["rule"].startswith("ORACLE")
        assert selection["split"] == "test"
        assert selection["is_oracle"]
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert {name for name in line if name.endswith("auc")} == {"oracle/frame_auc", "oracle/video_auc"}


def test_a_seed_seeds_python_numpy_and_torch():
    # The published code never seeds numpy, and torch only on a GPU.
    def drawn() -> tuple[float, float, float]:
        return random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        seed_everything(5)
        first = drawn()
        seed_everything(5)
        assert drawn() == first
        seed_everything(6)
        assert not set(drawn()) & set(first)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def test_fakes_of_one_method_are_refused_before_the_first_step(corpus, tmp_path):
    # The published specific head then learns what the common one does.
    root, faces = corpus
    one = faces[faces["method"] != "Face2Face"]
    with pytest.raises(InputError, match=r"of one method, Deepfakes; .*data\.fakes=both.*loss\.specific=0"):
        train(one, root, narrow_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert training_tables(one, narrow_config(loss__specific=0.0)).methods == ["real", "Deepfakes"]
    assert len(training_tables(one, narrow_config(data__fakes="both")).methods) == 3


def test_the_bench_recipe_is_the_published_behaviour_and_the_paper_is_the_defaults():
    bench = load_config(UCFConfig, Path("ucf/ucf_bench"))
    assert (bench.training.epochs, bench.training.selection) == (5 + 1, "oracle")
    assert bench.augment.recipe == "published"
    assert bench.optimiser.schedule == "none"
    assert load_config(UCFConfig, Path("ucf/ucf_paper")) == UCFConfig()


def test_the_fast_recipe_changes_how_steps_are_computed_and_nothing_else():
    fast = load_config(UCFConfig, Path("ucf/ucf_fast"))
    same = {"training": UCFConfig().training, "data": UCFConfig().data}
    assert fast.model_copy(update=same) == UCFConfig()
    changed = {name for name, value in fast.training if value != getattr(UCFConfig().training, name)}
    assert changed == {"precision", "compile"}


# What is kept, and when training ends


def validated(keep: KeepBest, tmp_path: Path, scores: list[float]) -> None:
    faces = pd.DataFrame({"crop": []})
    module = UCFModule(narrow_config(), ["real", "a"], train_faces=faces, val_faces=faces, total_steps=9)

    class Trainer:
        is_global_zero = True

    for step, score in enumerate(scores, 1):
        module.record = {"step": step, "val/video_auc": score, "val/frame_auc": 0.5}
        keep.on_validation_end(Trainer(), module)


def test_as_many_of_the_best_detectors_are_kept_as_asked_for(tmp_path):
    card = {"method_classes": ["real", "a"], "size_px": 64}
    keep = KeepBest(tmp_path / "detector.safetensors", card, count=2)
    validated(keep, tmp_path, [0.5, 0.7, 0.6, 0.7, 0.1])
    kept = sorted(path.stem for path in (tmp_path / "checkpoints").glob("*.safetensors"))
    assert kept == ["step-0000002", "step-0000004"]
    assert load(tmp_path)[1]["selection"]["step"] == 2  # of two that are equal, the earlier one
    resumed = KeepBest(tmp_path / "detector.safetensors", card, count=2)
    resumed.load_state_dict(keep.state_dict())
    assert resumed.best == keep.best


def test_training_ends_after_so_many_validations_without_a_better_one(corpus, tmp_path):
    root, faces = corpus
    # At a rate of nearly nothing no validation is better than the first.
    config = narrow_config(optimiser__lr=1e-12, training__epochs=9, training__patience=2)
    result = train(faces, root, config, tmp_path)
    assert len(result.history) == 3


def test_gradients_of_accumulated_batches_are_clipped_once(corpus, tmp_path):
    root, faces = corpus
    result = train(
        faces, root, narrow_config(optimiser__accumulate=2, optimiser__gradient_clip=0.1), tmp_path
    )
    assert result.history[-1]["step"] == 1  # 8 fakes, 2 batches of 4 a step


def test_bfloat16_trains_on_a_cpu_to_nearly_the_same_losses(corpus, tmp_path):
    root, faces = corpus
    losses = [
        train(faces, root, narrow_config(training__precision=precision), tmp_path / precision).history[0]
        for precision in ("32-true", "bf16-mixed")
    ]
    assert losses[1]["train/overall"] == pytest.approx(losses[0]["train/overall"], rel=0.02)
    assert losses[1]["train/overall"] != losses[0]["train/overall"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")  # Python 3.13.0
def test_the_training_pass_is_one_graph_for_the_compiler():
    torch.manual_seed(0)
    model = UCF(width=0.125, decoder_dropout=0.0, head_dropout=0.0).eval()
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    order = torch.tensor([1, 0, 3, 2])
    compiled = torch.compile(model.forward_pairs, backend="eager", fullgraph=True)
    with torch.no_grad():
        eager, traced = model.forward_pairs(images, order), compiled(images, order)
    for name, value in vars(eager).items():
        torch.testing.assert_close(getattr(traced, name), value)
