"""Drift under perturbation is that of the same crops, with the same videos drawn before and after."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from unmasked.analysis.reports.run.robustness import drift_words, find_hidden_drift
from unmasked.datasets.errors import InputError
from unmasked.evaluation.perturbing.drift import robustness
from unmasked.evaluation.predictions import validate_predictions
from unmasked.evaluation.thresholds import Threshold

CUT = 0.5


def table(videos=12, frames=3, seed=0, shift=0.2, dataset="D", settings=(("jpeg", 3),), **columns):
    """Clean rows, and rows shifted up by ``shift`` and some noise under each setting; half are fakes."""
    rng = np.random.default_rng(seed)
    video = np.repeat(np.arange(videos), frames)
    label = video % 2
    clean = pd.DataFrame(
        {
            "dataset": dataset,
            "video": [f"v{number:02d}" for number in video],
            "frame": np.tile(np.arange(frames), videos),
            "face": 0,
            "label": label,
            "score": np.clip(0.35 + 0.2 * label + rng.normal(0, 0.15, len(label)), 0, 1),
            **columns,
        }
    )
    parts = [clean.assign(perturbation=None, severity=np.nan)]
    for name, severity in settings:
        moved = np.clip(clean["score"] + shift + rng.normal(0, 0.05, len(label)), 0, 1)
        parts.append(clean.assign(score=moved, perturbation=name, severity=severity))
    return validate_predictions(pd.concat(parts, ignore_index=True))


def by_video(rows, videos=None):
    means = rows.groupby("video")[["label", "score"]].mean()
    return means.loc[sorted(means.index) if videos is None else videos]


def numbers(means):
    called = means["score"] > CUT
    return {
        "auc": roc_auc_score(means["label"], means["score"]),
        "fpr": called[means["label"] == 0].mean(),
        "tpr": called[means["label"] == 1].mean(),
    }


def resampled_changes(predictions, n_boot, seed):
    """A plain loop: draw real and fake videos, the same for both, and subtract."""
    clean = by_video(predictions[predictions["perturbation"].isna()])
    moved = by_video(predictions[predictions["perturbation"].notna()])
    strata = [np.flatnonzero(clean["label"] == which) for which in (0, 1)]
    generators = np.random.default_rng([seed, zlib.crc32(b"D")]).spawn(2)
    drawn = [
        generator.integers(0, len(members), (n_boot, len(members)))
        for generator, members in zip(generators, strata, strict=True)
    ]
    rows = []
    for number in range(n_boot):
        names = [clean.index[members[which[number]]] for members, which in zip(strata, drawn, strict=True)]
        before, after = (numbers(means.loc[np.concatenate(names)]) for means in (clean, moved))
        rows.append({name: after[name] - before[name] for name in before})
    return pd.DataFrame(rows)


def test_values_and_changes_are_those_of_a_plain_loop():
    predictions = table()
    (record,) = robustness(predictions, CUT, n_boot=200, seed=3)
    before = numbers(by_video(predictions[predictions["perturbation"].isna()]))
    after = numbers(by_video(predictions[predictions["perturbation"].notna()]))
    changes = resampled_changes(predictions, 200, 3)
    for name in ("auc", "fpr", "tpr"):
        assert record[name] == pytest.approx(after[name])
        assert record[f"{name}_clean"] == pytest.approx(before[name])
        assert record[f"{name}_change"] == pytest.approx(after[name] - before[name])
        # Widened for the six videos of a class that were drawn.
        tail = stats.norm.cdf(np.sqrt(6 / 5) * stats.t.ppf(0.025, 5))
        expected = np.quantile(changes[name], [tail, 1 - tail])
        assert record[f"{name}_change_ci"] == pytest.approx(expected, abs=1e-12)


def test_a_record_says_what_it_is_of():
    settings = [("jpeg", 3), ("jpeg@frame", 1), ("h264", 5), ("fog", 2)]
    records = robustness(table(settings=settings), Threshold(0.5, "eer"), n_boot=50)
    assert [
        (record["perturbation"], record["severity"], record["where"], record["setting"]) for record in records
    ] == [
        ("fog", 2, "crop", ""),
        ("h264", 5, "frame", "CRF 45"),
        ("jpeg", 3, "crop", "quality 50"),
        ("jpeg", 1, "frame", "quality 90"),
    ]
    assert {(r["dataset"], r["videos"], r["real_videos"], r["fake_videos"]) for r in records} == {
        ("D", 12, 6, 6)
    }
    assert {record["threshold"] for record in records} == {0.5}


def test_pairing_makes_the_interval_of_a_change_narrower_than_without():
    (record,) = robustness(table(videos=60), CUT, n_boot=500)
    low, high = record["auc_change_ci"]
    assert high - low < 0.7 * (record["auc_ci"][1] - record["auc_ci"][0])


def test_clean_scores_of_crops_that_were_not_perturbed_do_not_count():
    whole = table()
    some = whole[whole["perturbation"].isna() | (whole["frame"] == 0)]
    alone = whole[whole["frame"] == 0]
    assert robustness(some, CUT, n_boot=50) == robustness(alone, CUT, n_boot=50)


def test_the_order_of_rows_changes_nothing():
    rows = table(settings=[("jpeg", 1), ("jpeg", 2)])
    shuffled = rows.sample(frac=1, random_state=1)
    for one, other in zip(
        robustness(rows, CUT, n_boot=50), robustness(shuffled, CUT, n_boot=50), strict=True
    ):
        assert one["fpr_change"] == other["fpr_change"]
        assert one["auc_change"] == pytest.approx(other["auc_change"])


def test_a_table_without_frames_is_paired_by_video():
    rows = table(frames=1).drop(columns=["frame", "face"])
    (record,) = robustness(rows, CUT, n_boot=50)
    (expected,) = robustness(table(frames=1), CUT, n_boot=50)
    assert record == expected


def test_only_the_test_split_counts_where_there_is_one():
    test = table(split="test")
    both = validate_predictions(
        pd.concat(
            [test, table(dataset="D", seed=9, split="val").assign(video="x", label=0)], ignore_index=True
        ).drop_duplicates(["video", "frame", "perturbation"])
    )
    assert robustness(both, CUT, n_boot=50) == robustness(test, CUT, n_boot=50)


def test_identities_are_drawn_whole_even_where_perturbed_rows_do_not_name_them():
    people = table(identity=np.repeat([f"p{number // 4}" for number in range(12)], 3))
    lacking = people.assign(identity=people["identity"].where(people["perturbation"].isna()))
    assert robustness(people, CUT, n_boot=50) == robustness(lacking, CUT, n_boot=50)


def test_without_perturbed_rows_there_is_nothing():
    rows = table(settings=())
    assert robustness(rows, CUT) == []
    assert robustness(rows.drop(columns=["perturbation", "severity"]), CUT) == []


def test_perturbed_scores_without_clean_ones_of_the_same_crops_are_refused():
    rows = table()
    rows.loc[rows["perturbation"].notna(), "frame"] += 100
    with pytest.raises(InputError, match="scores of D under jpeg have no clean scores of the same crops"):
        robustness(rows, CUT)


def test_a_dataset_of_one_class_has_rates_but_no_auc():
    rows = table().assign(label=1)
    (record,) = robustness(validate_predictions(rows), CUT, n_boot=50)
    assert np.isnan(record["auc"])
    assert np.isnan(record["fpr_change"])
    assert record["tpr_change"] > 0
    assert not np.isnan(record["tpr_change_ci"]).any()


def test_a_rate_that_no_video_moves_is_not_claimed_to_stand_still_for_certain():
    (record,) = robustness(
        table(videos=20, shift=0, seed=5).assign(score=lambda rows: 0.9 * rows["label"]), CUT, n_boot=50
    )
    assert record["fpr_change"] == 0
    assert record["fpr_change_ci"] == pytest.approx([-(1 - 0.025**0.1), 1 - 0.025**0.1])


def test_the_drift_that_auc_hides_is_found_and_named():
    rows = table(videos=60)
    moved = rows["perturbation"].notna()
    rows.loc[moved, "score"] = np.clip(rows.loc[~moved, "score"].to_numpy() + 0.3, 0, 1)
    records = robustness(rows, CUT, n_boot=200)
    (record, rate), *_ = find_hidden_drift(records)
    assert (record["perturbation"], record["severity"], record["dataset"], rate) == ("jpeg", 3, "D", "fpr")
    before, after = (f"{100 * record[name]:.0f}" for name in ("fpr_clean", "fpr"))
    assert f"{after} of 100 real videos are called fake, before it were {before}" in drift_words(record, rate)


def test_no_drift_is_found_where_auc_hides_nothing():
    assert find_hidden_drift([]) == []
    assert find_hidden_drift(robustness(table(shift=0), CUT, n_boot=100)) == []
