"""Numbers for Prometheus, in its text format (version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
HELP = {
    "jobs_total": "Jobs by how they ended.",
    "requests_total": "Answers by status.",
    "uploaded_bytes_total": "Bytes of files that were taken.",
    "batches_total": "Passes in which jobs whose faces are found are judged.",
    "batch_images_total": "Faces in these passes.",
    "batch_jobs_total": "Jobs that met in these passes.",
    "batch_seconds_total": "Seconds that these passes took.",
    "model_starts_total": "Starts of the process with the detector.",
    "jobs": "Jobs by state.",
    "ready": "1 if files can be looked at.",
}


class Metrics:
    """Counters, and the seconds that jobs took."""

    def __init__(self) -> None:
        self.counters: Counter[tuple[str, str]] = Counter()
        self._buckets: Counter[float] = Counter()
        self._sum_s, self._count = 0.0, 0

    def add(self, name: str, value: float = 1, **label: str) -> None:
        """Adds to a counter of `HELP`, under one label or none."""
        text = "".join(f'{{{key}="{word}"}}' for key, word in label.items())
        self.counters[name, text] += value  # type: ignore[assignment]

    def observe(self, seconds: float) -> None:
        """Adds the seconds of a job."""
        self._sum_s += seconds
        self._count += 1
        self._buckets.update(bound for bound in BOUNDS_S if seconds <= bound)

    def text(self, jobs: Mapping[str, int], *, is_ready: bool) -> str:
        """All of them, with the jobs by state."""
        values = dict(self.counters)
        values |= {("jobs", f'{{state="{state}"}}'): count for state, count in jobs.items()}
        values["ready", ""] = int(is_ready)
        lines = []
        for name, words in HELP.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP unmasked_{name} {words}", f"# TYPE unmasked_{name} {kind}"]
            found = sorted(key[1] for key in values if key[0] == name)
            lines += [f"unmasked_{name}{label} {values[name, label]:g}" for label in found]
        name = "unmasked_job_seconds"
        lines += [f"# HELP {name} Seconds from the start of the work to its end.", f"# TYPE {name} histogram"]
        lines += [f'{name}_bucket{{le="{bound:g}"}} {self._buckets[bound]}' for bound in BOUNDS_S]
        lines += [f'{name}_bucket{{le="+Inf"}} {self._count}', f"{name}_sum {self._sum_s:.6f}"]
        return "\n".join([*lines, f"{name}_count {self._count}", ""])
