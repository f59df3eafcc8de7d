"""Losses that look at the worst, against sorted means, a minimisation, plain loops and extreme logits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn import functional
from ucf_fakes import narrow_config, train, write_faces

from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FACES
from unmasked.training.group_losses import (
    CVaR,
    GroupDRO,
    NestedCVaR,
    Reweighted,
    TrainingGroups,
    build,
    cvar,
    cvar_by_cell,
)
from unmasked.training.tables import training_tables
from unmasked.ucf.config import LossConfig
from unmasked.ucf.model import PairOutput


def groups_of(codes, labels, names=("dark", "light", "medium")):
    return TrainingGroups("tone", names, np.asarray(codes, np.int64), np.asarray(labels, np.int64))


def sorted_mean(losses, share):
    """The definition: whole losses from the top, and a part of the one at the boundary."""
    ranked = sorted(map(float, losses), reverse=True)
    wanted = share * len(ranked)
    total, left = 0.0, wanted
    for loss in ranked:
        taken = min(1.0, left)
        total, left = total + taken * loss, left - taken
    return total / wanted


def rockafellar_uryasev(losses, share):
    losses = np.asarray(losses, float)
    found = minimize_scalar(
        lambda level: level + np.maximum(losses - level, 0).mean() / share,
        bounds=(losses.min() - 1, losses.max() + 1),
        method="bounded",
        options={"xatol": 1e-12},
    )
    return found.fun


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 50), min_size=1, max_size=24),
    st.floats(0.05, 1.0),
)
def test_cvar_is_the_sorted_mean_and_the_least_of_the_rockafellar_uryasev_form(losses, share):
    found = float(cvar(torch.tensor(losses, dtype=torch.float64), share))
    assert found == pytest.approx(sorted_mean(losses, share), rel=1e-9, abs=1e-9)
    assert found == pytest.approx(rockafellar_uryasev(losses, share), rel=1e-4, abs=1e-4)


def test_cvar_of_everything_is_the_mean_and_of_almost_nothing_the_largest():
    losses = torch.rand(17, dtype=torch.float64)
    assert cvar(losses, 1.0).item() == pytest.approx(losses.mean().item())
    assert cvar(losses, 1e-6).item() == pytest.approx(losses.max().item())


def test_gradient_of_cvar_is_that_of_the_worst_images_alone():
    losses = torch.tensor([1.0, 4.0, 2.0, 3.0], requires_grad=True)
    cvar(losses, 0.375).backward()  # the worst one, and half of the next
    assert losses.grad.tolist() == pytest.approx([0, 2 / 3, 0, 1 / 3])


def test_cvar_of_each_cell_is_its_own_and_absent_cells_are_zero():
    generator = torch.Generator().manual_seed(0)
    losses, cells = torch.rand(30, generator=generator, dtype=torch.float64), torch.arange(30) % 3
    found = cvar_by_cell(losses, cells, 5, 0.35)
    expected = [sorted_mean(losses[cells == cell], 0.35) for cell in range(3)] + [0, 0]
    assert found.tolist() == pytest.approx(expected)


def test_nested_cvar_is_the_cvar_over_present_groups_of_the_cvar_within_each():
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 4, (40,), generator=generator).numpy()
    loss = NestedCVaR(groups_of(codes, codes % 2, "abcd"), within=0.9, between=0.4)
    for _ in range(20):
        rows = torch.randperm(40, generator=generator)[:5]
        losses = torch.rand(5, generator=generator, dtype=torch.float64)
        inner = [
            sorted_mean(losses[torch.from_numpy(codes[rows] == code)], 0.9) for code in np.unique(codes[rows])
        ]
        assert loss(losses, rows).item() == pytest.approx(sorted_mean(inner, 0.4))


def test_group_dro_follows_a_plain_loop():
    rng = np.random.default_rng(2)
    codes, labels = rng.integers(0, 3, 60), rng.integers(0, 2, 60)
    loss = GroupDRO(groups_of(codes, labels), step_size=0.3)
    q = np.full(6, 1 / 6)
    for _ in range(50):
        rows = rng.choice(60, 7, replace=False)
        losses = rng.exponential(size=7)
        cells = 2 * codes[rows] + labels[rows]
        mean = {cell: losses[cells == cell].mean() for cell in np.unique(cells)}
        for cell, value in mean.items():
            q[cell] *= np.exp(0.3 * value)
        q /= q.sum()
        found = loss(torch.tensor(losses), torch.from_numpy(rows))
        assert found.item() == pytest.approx(sum(q[cell] * value for cell, value in mean.items()), rel=1e-4)
        assert loss.q.numpy() == pytest.approx(q, rel=1e-4)


def test_group_dro_finds_the_group_that_fares_worst():
    codes, labels = np.repeat([0, 1, 2], 20), np.tile([0, 1], 30)
    loss = GroupDRO(groups_of(codes, labels), step_size=0.1)
    losses = torch.where(torch.from_numpy((codes == 2) & (labels == 0)), 2.0, 0.5)
    for _ in range(100):
        loss(losses, torch.arange(60))
    assert loss.q.argmax() == 2 * 2 + 0
    assert loss.q.max() > 0.9
    assert loss(losses, torch.arange(60)).item() > 1.8


def test_a_cell_without_training_rows_gets_no_weight():
    loss = GroupDRO(groups_of([0, 0, 1], [0, 1, 0]), step_size=1.0)
    loss(torch.ones(3), torch.arange(3))
    assert loss.q[3:].tolist() == [0, 0, 0]
    assert loss.q.sum().item() == pytest.approx(1)


def test_group_dro_updates_by_the_sums_over_all_processes():
    # Two processes, the other of which holds rows 2 and 3: both end with the weights of one that has all.
    groups, losses = groups_of([0, 1, 0, 1], [0, 0, 0, 0]), torch.tensor([1.0, 2.0, 5.0, 0.5])
    whole = GroupDRO(groups, step_size=0.5)
    whole(losses, torch.arange(4))
    other = torch.zeros(2, 6).index_add(1, torch.tensor([0, 2]), torch.stack([losses[2:], torch.ones(2)]))
    half = GroupDRO(groups, step_size=0.5, shared=lambda sums: sums + other)
    half(losses[:2], torch.arange(2))
    assert torch.allclose(half.q, whole.q)


def test_weights_of_group_dro_are_part_of_the_state():
    loss = GroupDRO(groups_of([0, 1, 2], [0, 1, 0]), step_size=1.0)
    loss(torch.tensor([3.0, 0.1, 0.1]), torch.arange(3))
    other = GroupDRO(groups_of([0, 1, 2], [0, 1, 0]), step_size=1.0)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.q, loss.q)
    assert list(loss.state_dict()) == ["log_q"]


def test_reweighted_groups_of_a_class_weigh_the_same_and_weights_average_one():
    codes = np.array([0] * 6 + [1] * 2 + [0] * 3 + [1] * 9)
    labels = np.array([0] * 8 + [1] * 12)
    loss = Reweighted(groups_of(codes, labels, ("a", "b")))
    for label in (0, 1):
        totals = [float(loss.weights[(codes == code) & (labels == label)].sum()) for code in (0, 1)]
        assert totals[0] == pytest.approx(totals[1])
        assert float(loss.weights[labels == label].mean()) == pytest.approx(1)
    losses = torch.rand(20)
    assert loss(losses, torch.arange(20)).item() == pytest.approx((loss.weights * losses).mean().item())


def all_losses():
    groups = groups_of([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1])
    return {
        name: build(LossConfig(robust=name), groups)
        for name in ("cvar", "nested_cvar", "group_dro", "reweighted")
    }


@pytest.mark.parametrize("name", ["cvar", "nested_cvar", "group_dro", "reweighted"])
@pytest.mark.parametrize("size", [1e-30, 1.0, 80.0, 1e4, 1e8])
def test_gradients_are_finite_at_extreme_logits(name, size):
    loss = all_losses()[name]
    logits = size * torch.tensor([[1.0, -1], [-1, 1], [0, 0], [1, -1], [1, 1], [-1, 1]])
    logits.requires_grad_()
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    value = loss(functional.cross_entropy(logits, labels, reduction="none"), torch.arange(6))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    if name == "group_dro":
        assert loss.q.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["cvar", "nested_cvar", "group_dro", "reweighted"])
def test_equal_losses_give_that_loss_whatever_is_weighted(name):
    assert all_losses()[name](torch.full((6,), 0.7), torch.arange(6)).item() == pytest.approx(0.7)


def test_the_mean_is_left_to_the_four_losses_themselves():
    assert build(LossConfig(), None) is None
    assert isinstance(build(LossConfig(robust="cvar", cvar_share=0.3), None), CVaR)


# In training


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    return root, FACES.validate(write_faces(root, {"train": 4, "val": 2}, frames=3))


class Recorder(pl.Callback):
    """Replaces the logits of each image by its mean brightness, and keeps what the loss is given."""

    def __init__(self):
        self.seen = []

    def on_fit_start(self, trainer, pl_module):
        forward = pl_module.model.forward_pairs

        def bright(images, mixing):
            self.brightness = images.mean((1, 2, 3))
            bright = self.brightness[mixing]
            output = forward(images, mixing)
            logits = 0 * output.common_logits + torch.stack([bright, -bright], 1)
            return PairOutput(**{**vars(output), "common_logits": logits})

        def record(losses, rows):
            self.seen.append((losses.detach(), rows, self.rows, self.labels, self.brightness))
            return losses.mean()

        pl_module._forward = bright
        pl_module.robust.forward = record

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rows, self.labels = batch["row"], batch["label"]


def test_a_loss_is_of_the_group_of_the_image_whose_features_were_exchanged(corpus, tmp_path):
    root, faces = corpus
    recorder = Recorder()
    config = narrow_config(loss__mixing_probability=1.0, loss__robust="cvar", training__max_steps=3)
    train(faces, root, config, tmp_path, callbacks=[recorder])
    assert any(not torch.equal(rows, batch) for _, rows, batch, *_ in recorder.seen)
    for losses, rows, batch, labels, brightness in recorder.seen:
        for loss, row in zip(losses, rows, strict=True):
            place = int(torch.nonzero(batch == row)[0])
            bright, label = brightness[place], labels[place]
            logits = torch.stack([bright, -bright])[None]
            assert loss.item() == pytest.approx(functional.cross_entropy(logits, label[None]).item())


@pytest.mark.parametrize("name", ["cvar", "nested_cvar", "group_dro", "reweighted"])
def test_every_loss_trains(corpus, tmp_path, name):
    root, faces = corpus
    config = narrow_config(loss__robust=name, data__groups="" if name == "cvar" else "gender")
    result = train(faces, root, config, tmp_path)
    assert np.isfinite(result.history[-1]["train/common"])


def test_settings_that_change_nothing_leave_every_bit_as_it_was(corpus, tmp_path):
    root, faces = corpus
    config = narrow_config(training__max_steps=4)
    plain = train(faces, root, config, tmp_path / "plain")
    others = narrow_config(training__max_steps=4, loss__cvar_share=0.2, loss__group_dro_step=3.0)
    same = train(faces, root, others, tmp_path / "same")
    assert plain.history == same.history
    one, other = (torch.load(result.last, weights_only=True)["state_dict"] for result in (plain, same))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not any("robust" in name for name in one)


def test_resumed_group_dro_goes_on_with_its_weights(corpus, tmp_path):
    root, faces = corpus
    changes = {"loss__robust": "group_dro", "loss__group_dro_step": 0.5, "data__groups": "gender"}
    changes |= {"data__balance": "group_class"}
    whole = train(faces, root, narrow_config(training__epochs=2, **changes), tmp_path / "whole")
    train(faces, root, narrow_config(training__epochs=1, **changes), tmp_path / "parts")
    parts = train(faces, root, narrow_config(training__epochs=2, **changes), tmp_path / "parts", resume=True)
    one, other = (torch.load(result.last, weights_only=True)["state_dict"] for result in (whole, parts))
    assert one["robust.log_q"].exp().max() > 0.27  # four cells began with a quarter each
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert whole.history == parts.history


def test_a_state_from_before_these_settings_can_be_resumed(corpus, tmp_path):
    root, faces = corpus
    train(faces, root, narrow_config(training__max_steps=2), tmp_path)
    path = tmp_path / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    stored = json.loads(state["config"])
    for section, keys in {"loss": ("robust", "cvar_share"), "data": ("groups", "balance")}.items():
        for key in keys:
            del stored[section][key]
    torch.save({**state, "config": json.dumps(stored)}, path)
    assert train(faces, root, narrow_config(training__max_steps=3), tmp_path, resume=True).history


def refused(faces, **changes):
    with pytest.raises(InputError) as error:
        training_tables(faces, narrow_config(**changes))
    return str(error.value)


def test_groups_that_cannot_be_used_are_each_a_clear_sentence(corpus):
    _, faces = corpus
    assert "there is no column 'tone'" in refused(faces, loss__robust="group_dro", data__groups="tone")
    assert "name a column" in refused(faces, loss__robust="nested_cvar")
    assert "used by nothing" in refused(faces, data__groups="gender")
    asked = {"data__balance": "group_class", "data__groups": "gender"}
    assert "one group only" in refused(faces.assign(gender="female"), **asked)
    assert "unknown in every row" in refused(faces.assign(gender=None), **asked)


def test_rows_of_whom_nobody_said_who_they_are_count_as_a_group_with_a_warning(corpus, caplog):
    _, faces = corpus
    gender = faces["gender"].where(faces["video"] != "train000")
    tables = training_tables(
        faces.assign(gender=gender), narrow_config(loss__robust="group_dro", data__groups="gender")
    )
    assert tables.groups.names == ["female", "male", "unknown"]
    assert (tables.groups.codes == 2).sum() == 3
    assert "3 of 36 training crops do not say gender" in caplog.text


def test_crossed_attributes_are_groups_too(corpus):
    _, faces = corpus
    tone = np.where(faces["identity"].str[-1] < "2", 2.0, 9.0)
    tables = training_tables(
        faces.assign(skin_tone=tone),
        narrow_config(loss__robust="group_dro", data__groups="gender * skin_tone"),
    )
    assert tables.groups.names == ["female × light", "female × dark", "male × light", "male × dark"]


# Started twice by torchrun; each process keeps the weights that it ended with.
PROCESS = """
import sys
from pathlib import Path
import pytorch_lightning as pl
import torch
from torch import distributed
sys.path.insert(0, {tests!r})
from unmasked.preprocessing.faces import FACES
from unmasked.ucf.config import UCFConfig
from ucf_fakes import train

class KeepWeights(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, *_):
        self.q = pl_module.robust.q.clone()

keep = KeepWeights()
config = UCFConfig.model_validate_json({config!r})
train(FACES.read({faces!r}), Path({root!r}), config, Path({out!r}), callbacks=[keep])
torch.save(keep.q, Path({out!r}) / f"q-{{distributed.get_rank()}}.pt")
"""


@pytest.mark.slow
def test_two_processes_keep_the_same_weights_of_groups(corpus, tmp_path):
    root, faces = corpus
    FACES.write(faces, tmp_path / "faces.parquet")
    config = narrow_config(
        loss__robust="group_dro", loss__group_dro_step=0.5, data__groups="gender", training__max_steps=3
    )
    paths = {"faces": str(tmp_path / "faces.parquet"), "root": str(root), "out": str(tmp_path)}
    script = tmp_path / "process.py"
    script.write_text(
        PROCESS.format(tests=str(Path(__file__).parent), config=config.model_dump_json(), **paths)
    )
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (torch.load(tmp_path / f"q-{rank}.pt") for rank in (0, 1))
    assert torch.equal(one, other)
    assert one.max() > one.min() + 0.01
