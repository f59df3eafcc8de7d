"""Several processes: the same gradients as one, no validation crop twice, launchers that decide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch.nn.parallel import DistributedDataParallel
from ucf_fakes import load, narrow_config, train, write_faces

from unmasked.datasets.errors import InputError
from unmasked.evaluation.predict import predict
from unmasked.preprocessing.faces import FACES
from unmasked.training.config import TrainingConfig
from unmasked.training.launch import placement
from unmasked.ucf.config import LossConfig
from unmasked.ucf.losses import Orders, ucf_losses
from unmasked.ucf.model import UCF

# Started twice by torchrun; each process also takes the mean gradient of one batch of a bare UCF.
PROCESS = """
import sys
from pathlib import Path
import torch
from torch import distributed
sys.path.insert(0, {tests!r})
from test_ucf_parallel import KeepGradients, pass_of
from unmasked.preprocessing.faces import FACES
from unmasked.ucf.config import UCFConfig
from ucf_fakes import train

out = Path({out!r})
keep = KeepGradients()
config = UCFConfig.model_validate_json({config!r})
train(FACES.read({faces!r}), Path({root!r}), config, out, callbacks=[keep])
rank = distributed.get_rank()
torch.save(keep.first, out / f"gradients-{{rank}}.pt")
keep.scored.to_parquet(out / f"scored-{{rank}}.parquet")
torch.save(pass_of(rank, 2), out / f"pass-{{rank}}.pt")
"""


class KeepGradients(pl.Callback):
    """Those of the first step, and the scores of the last validation."""

    first: dict[str, torch.Tensor] | None = None
    scored: pd.DataFrame | None = None

    def on_validation_end(self, trainer, pl_module):
        self.scored = pl_module.scored[["video", "frame", "score"]].reset_index(drop=True)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if self.first is None:
            named = pl_module.model.named_parameters()
            self.first = {name: value.grad.clone() for name, value in named if value.grad is not None}


class Pairs(torch.nn.Module):
    """A training pass as a module's forward, which is what DistributedDataParallel wraps."""

    def __init__(self):
        super().__init__()
        self.ucf = UCF(width=0.125)

    def forward(self, images, order):
        return self.ucf.forward_pairs(images, order)


def pass_of(rank: int, processes: int) -> dict[str, torch.Tensor]:
    """Gradients of a share of 8 pairs; statistics of normalisation are the stored ones."""
    torch.manual_seed(0)
    model = Pairs().eval().double()  # in float32 sums of another order differ by more than the law
    called = DistributedDataParallel(model) if processes > 1 else model
    images = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    labels = (torch.arange(16) >= 8).long()
    methods = labels * (1 + torch.arange(16) % 3)
    # Each share of 4 pairs is reversed within its halves, and anchors are compared within it.
    order = torch.arange(16).view(4, 4).flip(1).flatten()
    rows = torch.cat([torch.arange(8).chunk(processes)[rank], 8 + torch.arange(8).chunk(processes)[rank]])
    place = torch.empty(16, dtype=torch.int64)
    place[rows] = torch.arange(len(rows))
    mine = place[order[rows]]
    orders = Orders(mine, mine, torch.arange(len(rows)))
    output = called(images[rows], orders.mixing)
    losses = ucf_losses(output, images[rows], labels[rows], methods[rows], orders=orders, config=LossConfig())
    losses.overall.backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one)


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_and_score_each_crop_once(tmp_path):
    root = tmp_path / "squares"
    # 5 x 3 x 3 crops of validation: not a multiple of two, so one of them comes twice.
    faces = FACES.validate(write_faces(root, {"train": 2, "val": 5}, frames=3))
    FACES.write(faces, root / "faces.parquet")
    options = {"augment": {"flip": 0.5, "noise": 0.5}, "model__head_dropout": 0.2}
    config = narrow_config(**options)
    code = PROCESS.format(
        tests=str(Path(__file__).parent),
        config=config.model_dump_json(),
        faces=str(root / "faces.parquet"),
        root=str(root),
        out=str(tmp_path / "two"),
    )
    script = tmp_path / "process.py"
    script.write_text(code)
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    # One process that accumulates two batches: same pairs, draws, dropout, and statistics of each batch.
    keep = KeepGradients()
    train(faces, root, narrow_config(**options, optimiser__accumulate=2), tmp_path / "one", callbacks=[keep])
    gradients = [torch.load(tmp_path / "two" / f"gradients-{rank}.pt") for rank in (0, 1)]
    assert largest_difference(gradients[0], gradients[1]) == 0
    assert largest_difference(keep.first, gradients[0]) < 1e-5

    # One process with the whole batch at once.
    whole = pass_of(0, 1)
    for rank in (0, 1):
        assert largest_difference(whole, torch.load(tmp_path / "two" / f"pass-{rank}.pt")) < 1e-5

    # Both know the score of every crop, once, by the detector that is written: its running statistics are
    # the first process's, in all of them.
    model, _ = load(tmp_path / "two")
    expected = predict(model, faces[faces["split"] == "val"], root, size_px=64, detector="UCF")
    for rank in (0, 1):
        scored = pd.read_parquet(tmp_path / "two" / f"scored-{rank}.parquet")
        assert scored[["video", "frame"]].equals(expected[["video", "frame"]])
        assert scored["score"].to_numpy() == pytest.approx(expected["score"].to_numpy(), abs=1e-6)


def test_torchrun_and_slurm_decide_how_many_processes_there_are():
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}
    slurm = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "3", "SLURM_STEP_NUM_TASKS": "6"}
    for environment, devices, nodes in ((torchrun, 4, 2), (slurm, 2, 3)):
        where = placement(TrainingConfig(), environment)
        assert (where["devices"], where["num_nodes"], where["strategy"]) == (devices, nodes, "ddp")
    with pytest.raises(InputError, match=r"launcher started 4 processes .* leave training\.devices out"):
        placement(TrainingConfig(devices=2), torchrun)


def test_a_shell_inside_an_allocation_is_no_launch():
    shell = {"SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "interactive", "SLURM_STEP_NUM_TASKS": "6"}
    assert placement(TrainingConfig(devices=1), shell)["strategy"] == "auto"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("setting", [{"precision": "16-mixed"}, {"sync_batchnorm": True}])
def test_what_needs_a_gpu_is_refused_without_one(setting):
    with pytest.raises(InputError, match=r"needs (a GPU|GPUs)"):
        placement(TrainingConfig(**setting), {})
