"""What the interface answers: jobs, findings, the detector, and problems."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from unmasked.inspection.records import Finding, Look, Maps, Person, Rates, Sampled

State = Literal["queued", "running", "done", "failed", "stopped"]
Stage = Literal["waiting", "finding faces", "scoring", "finished"]
Upload = Literal["there", "deleted", "kept"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(_Answer):
    """Why a request was refused (RFC 9457)."""

    type: str = Field("about:blank", description="about:blank: the status says it all")
    title: str = Field(description="the phrase of the status")
    status: int
    detail: str = Field(description="what was given, what is allowed, what to do next")


class Band(_Answer):
    """Scores between these are not answered."""

    low: float
    high: float


class Result(_Answer):
    """What was found in a file; as in ``case.json``."""

    kind: Literal["video", "image"]
    finding: Finding
    people: list[Person]
    looks: list[Look] = Field(description="every scored crop: person, time, score")
    maps: Maps | None = Field(
        description="where in suspicious crops the detector found evidence, and what tests found of it"
    )
    sampled: Sampled
    performance: list[Rates] = Field(description="measured errors at the threshold")
    is_compared: bool = Field(description="True if faces were held against what the detector learned from")
    warnings: list[str] = Field(description="what decoding met")
    threshold: float
    band: Band | None


class Job(_Answer):
    """One file on its way to a finding."""

    id: str = Field(pattern="^[0-9a-f]{32}$")
    name: str = Field(description="of the file, as far as it can be a file's name")
    bytes: int
    sha256: str
    state: State
    stage: Stage
    before: int = Field(description="jobs that come before it in the queue")
    created: datetime
    finished: datetime | None = None
    seconds: float | None = Field(None, description="from the start of the work to its end")
    reason: str = Field("", description="why there is no result, where the job failed or was stopped")
    upload: Upload = Field(description="what became of the uploaded file: deleted unless keep=true")
    deleted: bool = Field(description="True if the uploaded file is gone")
    result: Result | None = None


class Limits(_Answer):
    """What a client may send."""

    bytes_max: int
    queue: int = Field(description="jobs of one token that may wait")
    retain_h: float = Field(description="hours after which a finished job is removed")


class Detector(_Answer):
    """What looks at the files, and how often it errs."""

    detector: str
    architecture: str
    network: str = Field("", description="which of its family it is, where the name is that of a family")
    sha256: str = Field(description="of the weights")
    threshold: float
    band: Band | None
    performance: list[Rates]
    sentences: list[str] = Field(description="the measured errors in words")
    frames: int = Field(description="frames of a video that are looked at")
    has_maps: bool = Field(description="True if it can show where in a face it found evidence")
    limits: Limits


class Health(_Answer):
    """Whether files can be looked at now."""

    status: Literal["ok", "starting"]
