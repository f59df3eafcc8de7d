"""Limits of the server, with their defaults."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """What one client, and all of them, may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_mb: float = Field(500.0, gt=0, description="megabytes that a file may have")
    queue: int = Field(64, ge=1, description="jobs of one token that may wait; more are answered with 429")
    retain_h: float = Field(24.0, gt=0, description="hours after which a finished job is removed")
    retain_jobs: int = Field(
        2000, ge=1, description="finished jobs of one token that are kept; the oldest go first"
    )
    keep_gb: float = Field(
        20.0, gt=0, description="gigabytes of files of one token that are kept (keep=true); as above"
    )
    upload_s: float = Field(1800.0, gt=0, description="seconds that an upload may take")
    idle_s: float = Field(20.0, gt=0, description="seconds without a byte after which a client is dropped")
    job_s: float = Field(900.0, gt=0, description="seconds that a job may take before it is given up")
    stop_s: float = Field(10.0, ge=0, description="seconds that running jobs get to end when it is stopped")
    connections: int = Field(512, ge=1, description="connections at a time; others are closed at once")

    @property
    def bytes_max(self) -> int:
        """Bytes that a file may have."""
        return int(self.max_mb * 1e6)
