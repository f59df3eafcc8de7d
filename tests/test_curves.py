from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_curve

from unmasked.evaluation.curves import BAND_FPR, curves, roc_band
from unmasked.evaluation.intervals import Sample


def sample_of(separation, videos=60, rows=4, seed=0):
    """Rows of videos that share a score of their own: half of the videos are fakes."""
    rng = np.random.default_rng(seed)
    label = np.arange(videos) % 2
    shared = rng.normal(separation * label, 0.7)
    score = 1 / (1 + np.exp(-(np.repeat(shared, rows) + rng.normal(0, 0.7, videos * rows) - separation / 2)))
    return Sample.of(np.repeat(label, rows), score, np.repeat(np.arange(videos), rows))


def resampled_tpr(sample, at, n_boot, seed=1):
    """TPR at the FPRs ``at`` in each of ``n_boot`` draws of whole videos, by scikit-learn, one at a time."""
    rng = np.random.default_rng(seed)
    strata = [np.flatnonzero(sample.has_class(which)) for which in (0, 1)]
    drawn = []
    for _ in range(n_boot):
        clusters = np.concatenate([rng.choice(members, len(members)) for members in strata])
        rows = np.concatenate([np.flatnonzero(sample.cluster == cluster) for cluster in clusters])
        fpr, tpr, _ = roc_curve(sample.label[rows], sample.score[rows], drop_intermediate=False)
        drawn.append(np.interp(at, fpr, tpr))
    return np.array(drawn)


def test_band_is_that_of_scikit_learn_in_a_plain_loop():
    sample = sample_of(1.2)
    band = roc_band(sample, n_boot=1500, seed=0)
    at = np.array([0.1, 0.3, 0.6])
    expected = np.quantile(resampled_tpr(sample, at, 600), [0.025, 0.975], axis=0)
    places = np.searchsorted(BAND_FPR, at)
    found = np.array([band["low"], band["high"]])[:, places]
    # Both are of a limited number of draws: a few hundredths apart.
    np.testing.assert_allclose(found, expected, atol=0.04)


def test_estimate_within_the_band_is_the_curve_itself():
    sample = sample_of(1.2)
    band = roc_band(sample, n_boot=200)
    fpr, tpr, _ = roc_curve(sample.label, sample.score, drop_intermediate=False)
    # At most 200 points of the curve are kept, so that a step may be off by one of 60 rows.
    np.testing.assert_allclose(band["tpr"], np.interp(BAND_FPR, fpr, tpr), atol=0.02)
    assert (np.array(band["low"]) <= np.array(band["tpr"]) + 1e-9).all()
    assert (np.array(band["high"]) >= np.array(band["tpr"]) - 1e-9).all()


def test_band_never_narrows_to_certainty_where_no_error_was_made():
    label = np.repeat([0, 1], 10)
    band = roc_band(Sample.of(label, label * 0.8 + 0.1, np.arange(20)), n_boot=100)
    np.testing.assert_allclose(band["low"][:-1], 0.025 ** (1 / 10))
    assert band["high"] == [1.0] * len(BAND_FPR)
    assert band["low"][-1] == 1.0


def test_lower_edge_never_falls_as_more_reals_are_accused():
    band = roc_band(sample_of(2.5), n_boot=200)
    assert (np.diff(band["low"]) >= 0).all()


def test_one_class_has_no_band_and_one_video_of_a_class_no_interval():
    assert roc_band(Sample.of([1, 1], [0.2, 0.8], [0, 1]), n_boot=10)["fpr"] == []
    band = roc_band(Sample.of([0, 1, 1], [0.2, 0.8, 0.7], [0, 1, 2]), n_boot=10)
    assert np.isnan(band["low"][:-1]).all()
    assert band["tpr"][0] == pytest.approx(1.0)


def test_curves_have_bands_of_videos_only_where_they_are_asked_for():
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    table = pd.DataFrame({"dataset": "A", "video": [str(n) for n in range(40)], "label": label})
    table["score"] = rng.uniform(size=40) * 0.5 + 0.3 * label
    assert "band" not in curves(table)["A"]["video"]
    found = curves(table, n_boot=50, seed=3)
    assert "band" not in found["A"]["frame"]
    # The same whichever other datasets are in the table.
    both = pd.concat([table, table.assign(dataset="B")], ignore_index=True)
    assert curves(both, n_boot=50, seed=3)["A"] == found["A"]
