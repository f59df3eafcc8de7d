"""The small detector of `train_fakes`, whose training is sent a signal in the middle of a step.

UNMASKED_TEST_SIGNAL=NUMBER:WHO:CALL sends a signal at a call of the objective: in the first of several
processes to itself ("self") or to the one that started it ("parent"), or in each of them twice to itself
("twice"), as where a terminal and a launcher both send it.
"""

from __future__ import annotations

import os

from train_fakes import Config, build
from train_fakes import Config as _Config

from unmasked.training.detector import Losses, Step, cross_entropy

NAME = "Signalled"
calls = 0

__all__ = ["NAME", "Config", "build", "objective"]


def objective(step: Step, config: _Config) -> Losses:
    """Cross entropy, and at one call a signal."""
    global calls
    calls += 1
    number, who, call = (os.environ.get("UNMASKED_TEST_SIGNAL") or "0::0").split(":")
    if calls == int(call) and (who == "twice" or os.environ.get("RANK", "0") == "0"):
        for _ in range(2 if who == "twice" else 1):
            os.kill(os.getppid() if who == "parent" else os.getpid(), int(number))
    return cross_entropy(step, config)
