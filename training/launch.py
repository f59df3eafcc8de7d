"""Where a training runs: on one device, several of one machine, or in many processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from unmasked.datasets.errors import InputError
from unmasked.training.config import TrainingConfig


def is_first_process() -> bool:
    """True if this is the process that speaks and writes for all that a launcher started."""
    return getattr(rank_zero_only, "rank", 0) == 0


def placement(settings: TrainingConfig, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The Trainer's accelerator, devices, nodes and strategy.

    Under ``torchrun`` and in SLURM's ``srun`` the processes are there already, and their numbers are taken
    from the environment; else ``training.devices`` starts them on this machine. The backend is NCCL among
    GPUs, gloo on CPUs.

    Raises:
        InputError: the settings need a GPU and there is none, or ask for other numbers than the launcher's.
    """
    gpu = torch.cuda.is_available()
    if settings.precision == "16-mixed" and not gpu:
        raise InputError("training.precision=16-mixed needs a GPU; set 32-true or bf16-mixed")
    if settings.sync_batchnorm and not gpu:
        raise InputError(
            "training.sync_batchnorm=true needs GPUs; on a CPU leave it out: each process then normalises "
            "with its own batch, as each GPU does by default"
        )
    devices, nodes = _launcher_sizes(environment) or (settings.devices, 1)
    if devices == "auto":
        devices = torch.cuda.device_count() if gpu else 1
    elif settings.devices not in ("auto", devices):
        raise InputError(
            f"training.devices={settings.devices}, but the launcher started {devices} processes on this "
            "machine; leave training.devices out"
        )
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": devices,
        "num_nodes": nodes,
        "strategy": "ddp" if int(devices) * nodes > 1 else "auto",
    }


def _launcher_sizes(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Processes of this machine, and machines, if a launcher started this process."""
    if "TORCHELASTIC_RUN_ID" in environment:
        here = int(environment["LOCAL_WORLD_SIZE"])
        return here, int(environment["WORLD_SIZE"]) // here
    # An interactive shell inside an allocation has SLURM's variables too, but was not started by srun.
    if "SLURM_STEP_ID" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        return int(environment.get("SLURM_STEP_NUM_TASKS", "1")) // nodes, nodes
    return None
