"""The small detector of `train_fakes`, whose training is sent a signal in the middle of a step.

UNMASKED_TEST_SIGNAL=NUMBER:WHO sends a signal to this process ("self") or to the one that started it
("parent") at the call UNMASKED_TEST_CALL of the objective, in the first process of a launcher only.
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
    number, _, who = os.environ.get("UNMASKED_TEST_SIGNAL", "").partition(":")
    is_time = calls == int(os.environ.get("UNMASKED_TEST_CALL", "0"))
    if number and is_time and os.environ.get("RANK", "0") == "0":
        os.kill(os.getppid() if who == "parent" else os.getpid(), int(number))
    return cross_entropy(step, config)
