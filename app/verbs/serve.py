"""``unmasked serve``: `inspect` as a page and an interface for other programs."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from unmasked.app.inputs import (
    CHECKPOINT,
    Border,
    Closer,
    FaceDetector,
    Frames,
    Gap,
    Landmarks,
    Scale,
    check_inputs,
)
from unmasked.app.progress import print_result
from unmasked.datasets.errors import InputError
from unmasked.serving.settings import Limits

VARIABLE = "UNMASKED_TOKEN"


class Config(Limits):
    """Where it listens, what looks at the files, and what clients may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint: Path = Field(description=CHECKPOINT)
    detector: str = Field("", description="your own module or .py file, where the checkpoint is of one")
    performance: Path | None = Field(None, description="folder that `unmasked evaluate` wrote; see `inspect`")
    out: Path = Field(Path("served"), description="folder of the jobs; those in it are there again")
    host: str = Field(
        "127.0.0.1", description="address to listen on; any but this machine's own needs a token"
    )
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free one")
    token_file: Path | None = Field(
        None, description=f"tokens, one a line; also by the environment variable {VARIABLE}"
    )
    frames: Frames = 32
    gap_s: Gap = 10.0
    closer: Closer = 4
    crops: Literal["auto", "cut", "as_is"] = Field("auto", description="see `unmasked preprocess`")
    border: Border = None
    scale: Scale = None
    face_detector: FaceDetector = None
    landmarks: Landmarks = None
    maps: bool = Field(
        True, description="show where in suspicious faces the detector found evidence, and test it"
    )
    budget_s: float = Field(300.0, gt=0, description="seconds a file may take to be decoded")
    memory_gb: float = Field(4.0, gt=0, description="memory that decoding a file may take (Linux)")
    workers: int = Field(2, ge=1, description="processes that decode and find faces")
    batch: int = Field(16, ge=1, description="jobs whose faces are found that are judged at once, at most")
    device: str = Field("auto", description="auto, cpu, cuda, …")
    log: bool = Field(False, description="a line for each request and job, to standard error")


def run(config: Config) -> None:
    """Serves until SIGTERM or Ctrl-C."""
    try:
        from unmasked.serving.server import serve
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; pip install unmasked[serve]") from error
    from unmasked.app.examiner import load_examiner
    from unmasked.serving.bench import Plan
    from unmasked.serving.tokens import read_tokens

    check_inputs(checkpoint=config.checkpoint)
    # Taken out, so that the processes that read files of strangers do not have it.
    tokens = read_tokens(config.token_file, os.environ.pop(VARIABLE, ""))
    if config.log:
        logging.getLogger("unmasked.serving").setLevel(logging.INFO)
    examiner = partial(
        load_examiner, config.checkpoint, config.detector, config.performance, maps=config.maps
    )
    budget = {"budget_s": config.budget_s, "memory_gb": config.memory_gb}
    plan = Plan(examiner, config, budget, config.workers, config.closer, config.device, batch=config.batch)
    serve(
        plan,
        config.out,
        Limits(**config.model_dump(include=set(Limits.model_fields))),
        host=config.host,
        port=config.port,
        tokens=tokens,
        on_ready=lambda address: print_result(f"{address} answers; Ctrl-C ends it"),
    )
