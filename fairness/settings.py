"""How an audit is made."""

from __future__ import annotations

from dataclasses import dataclass

from unmasked.evaluation.records import StoredThreshold

# Ranking metrics need the scores of every permutation: fewer, as of their gaps no p-value is shown.
SCORE_RESAMPLES = 200
SCORE_WORK = 100_000_000  # resamples x rows
GROUP_WORK = 1_000_000_000  # the same of groups, all metrics together
MIN_SAMPLES = 100  # frames of a class that a group needs


@dataclass(frozen=True)
class Settings:
    """How an audit was made; `audit` documents each field."""

    threshold: float = 0.5
    n_boot: int = 2000
    n_perm: int = 2000
    margin: float = 0.03
    min_clusters: int = 10
    min_samples: int = 100
    random_state: int = 0
    unit: str = "cluster"  # what is resampled: cluster, video or identity
    level: str = "row"  # what a rate counts: row, frame or video
    threshold_rule: StoredThreshold | None = None  # the fitted rule that gave the threshold, if one did
    score_resamples: int = SCORE_RESAMPLES  # permutations of AUC, EER, Brier score and ECE

    def counts(self, n_rows: int) -> dict[str, int]:
        """How many resamples and permutations were really made of so many rows."""
        scores = self.resamples_of_scores(n_rows, self.n_perm)
        return {"group_resamples": self.resamples(n_rows), "score_permutations": scores}

    def resamples(self, n_rows: int) -> int:
        """How many resamples the groups of so many rows get: fewer from half a million rows on."""
        return int(min(self.n_boot, max(500, GROUP_WORK // max(n_rows, 1))))

    def resamples_of_scores(self, n_rows: int, wanted: int) -> int:
        """How many permutations of so many rows the metrics get that need their scores."""
        return int(min(wanted, self.score_resamples, max(50, SCORE_WORK // max(n_rows, 1))))


def fewest_samples(*, single: bool) -> int:
    """Frames of a class that a group needs where nothing else is asked for.

    ``single``: a row is a video, and not one of its frames.
    """
    return 1 if single else MIN_SAMPLES
