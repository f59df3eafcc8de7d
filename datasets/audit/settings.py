"""What the audit looks at; a file of its own, since the command line reads it first."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class AuditSettings(BaseModel):
    """What is looked at, and how closely."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shared_names: bool = Field(
        False, description="equal identity names mean the same person in every dataset, also id12 and 007"
    )
    duplicates: bool = Field(True, description="look for near-duplicate pictures; reads every crop")
    shortcuts: bool = Field(
        True, description="ask what files give away; reads headers, and pixels of pictures"
    )
    max_files: int = Field(
        10_000, ge=100, description="files of a dataset, at random, whose headers are read for shortcuts"
    )
    n_boot: int = Field(1000, ge=100, description="resamples behind the interval of each shortcut")
    seed: int = Field(0, ge=0, description="seed of sampling, folds and resampling")
