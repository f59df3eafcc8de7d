"""A number means the same wherever it is shown: which rows it is of, its interval, its metric."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from unmasked.datasets.errors import InputError
from unmasked.evaluation.curves import curves
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.predictions import evaluated_rows
from unmasked.fairness.run import audit_datasets

FAST = {"n_boot": 100, "n_perm": 20}


def videos(
    dataset: str, count: int, split: str | None, seed: int = 0, *, first: int = 0, frames: int = 2
) -> pd.DataFrame:
    """Frames of videos, every second one fake, with a gender for each pair of videos."""
    rng = np.random.default_rng([seed, count])
    video = np.repeat(np.arange(count), frames)
    label = video % 2
    return pd.DataFrame(
        {
            "dataset": dataset,
            "video": [f"v{first + number}" for number in video],
            "frame": np.tile(np.arange(frames), count),
            "label": label,
            "score": np.clip(0.3 + 0.3 * label + rng.normal(0, 0.25, len(video)), 0.001, 0.999).round(3),
            "split": split,
            "gender": np.where(video % 4 < 2, "female", "male"),
        }
    )


def scored_on_two_splits() -> pd.DataFrame:
    """FF++ scored on val alone; Celeb-DF with 60 test videos and 20 without a split."""
    parts = [
        videos("FF++", 60, "val"),
        videos("Celeb-DF", 60, "test"),
        videos("Celeb-DF", 20, None, first=60),
    ]
    return pd.concat(parts, ignore_index=True)


def test_evaluate_and_fairness_take_the_same_rows_and_say_what_they_left_out():
    table = scored_on_two_splits()
    results = evaluate(table, n_boot=50)
    audits, skipped = audit_datasets(table, ["gender"], min_samples=1, **FAST)
    assert list(results["datasets"]) == list(audits) == ["Celeb-DF"]
    assert results["datasets"]["Celeb-DF"]["n"]["videos"] == 60
    support = audits["Celeb-DF"].overall_support
    assert support["real_videos"] + support["fake_videos"] == 60
    assert list(curves(table)) == ["Celeb-DF"]
    said = " ".join(results["settings"]["rows"])
    assert "its 60 videos of the test split are evaluated; left out: 20 videos (40 rows) without" in said
    assert "FF++ is not evaluated: it has only 60 videos (120 rows) of val" in said
    assert "60 videos (120 rows) of val" in skipped["FF++"]
    assert "20 videos (40 rows) without a split" in " ".join(audits["Celeb-DF"].origin["rows"])


def test_rows_that_were_trained_or_fitted_on_are_never_evaluated():
    table = pd.concat([videos("A", 20, "val"), videos("B", 20, "train")], ignore_index=True)
    with pytest.raises(InputError, match=r"A is not evaluated: it has only 20 videos .* of val.*B is not"):
        evaluate(table, n_boot=10)
    with pytest.raises(InputError, match="B is not evaluated"):
        audit_datasets(table, ["gender"], **FAST)


def test_perturbed_rows_are_chosen_by_the_split_of_the_clean_ones():
    clean = scored_on_two_splits()
    blurred = clean.assign(perturbation="blur", severity=1)
    # Perturbed test rows alone make no test split.
    alone = videos("DFDC", 20, "test").assign(perturbation="blur", severity=1)
    table = pd.concat([clean, blurred, videos("DFDC", 20, None), alone], ignore_index=True)
    rows, _ = evaluated_rows(table, perturbed=True)
    assert rows.groupby("dataset").size().to_dict() == {"Celeb-DF": 240, "DFDC": 40}
    results = evaluate(table, n_boot=20)
    assert {row["dataset"]: row["videos"] for row in results["robustness"]} == {"Celeb-DF": 60}
