"""Differences of two runs against a plain loop and known truths; seeds as a level of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from unmasked.datasets.errors import InputError
from unmasked.evaluation.intervals import _weights, drawn_mean, percentile_interval
from unmasked.evaluation.metrics import video_scores
from unmasked.evaluation.paired import across_seeds, joint_samples, paired_difference


def run(seed: int, *, effect: float = 1.5, hard: int = 0, videos: int = 60, dataset: str = "D", frames=4):
    """Predictions; ``hard`` seeds what makes a video hard for every detector, ``seed`` the detector's own."""
    shared, own = np.random.default_rng([hard, 7]), np.random.default_rng([seed, 8])
    label = np.arange(videos) % 2
    logit = effect * label + shared.normal(0, 1.0, videos) + own.normal(0, 0.2, videos)
    table = pd.DataFrame({"dataset": dataset, "video": [f"v{index:03d}" for index in range(videos)]})
    table = table.assign(label=label, logit=logit).loc[np.repeat(np.arange(videos), frames)]
    score = 1 / (1 + np.exp(-table.pop("logit") - own.normal(0, 0.3, len(table))))
    return table.assign(score=score, frame=np.tile(np.arange(frames), videos)).reset_index(drop=True)


def test_differences_equal_a_plain_loop_over_the_same_resamples():
    a, b = run(0, videos=14), run(1, videos=14)
    found = paired_difference(a, b, n_boot=30, seed=4, only=("auc", "tpr"))
    videos = [video_scores(table) for table in (a, b)]
    weights = next(_weights(joint_samples(videos), 30, 30, 4))
    loop = []
    for weight in weights.T:
        rows = np.repeat(np.arange(14), weight.astype(int))
        aucs = [roc_auc_score(table["label"].iloc[rows], table["score"].iloc[rows]) for table in videos]
        loop.append(aucs[0] - aucs[1])
    assert found["metrics"]["auc"]["difference_ci"] == pytest.approx(
        percentile_interval(np.array(loop), clusters=7)
    )
    aucs = [roc_auc_score(table["label"], table["score"]) for table in videos]
    assert found["metrics"]["auc"]["difference"] == pytest.approx(aucs[0] - aucs[1])
    assert set(found["metrics"]) == {"auc", "tpr"}
    assert found["paired"] is True


def test_pairing_makes_the_interval_of_two_like_detectors_narrower():
    a, b = run(0), run(1)
    paired = paired_difference(a, b, only=("auc",), n_boot=500)["metrics"]["auc"]
    elsewhere = run(1).assign(dataset="E")
    apart = paired_difference(a, elsewhere, same_videos=False, only=("auc",), n_boot=500)
    assert apart["paired"] is False
    assert apart["n"]["shared_videos"] == 0
    low, high = apart["metrics"]["auc"]["difference_ci"]
    assert paired["difference_ci"][1] - paired["difference_ci"][0] < 0.5 * (high - low)


def test_a_run_compared_with_itself_differs_by_nothing():
    found = paired_difference(run(0), run(0), n_boot=50)["metrics"]
    assert {tuple(entry["difference_ci"]) for entry in found.values()} == {(0.0, 0.0)}
    assert {entry["difference"] for entry in found.values()} == {0.0}


def test_two_detectors_without_an_error_are_not_certainly_alike():
    a = run(0).assign(score=lambda table: table["label"] * 0.8)
    b = a.assign(score=a["label"] * 0.7 + 0.1)
    entry = paired_difference(a, b, only=("auc",), n_boot=50)["metrics"]["auc"]
    surest = 0.025 ** (1 / 30)
    assert entry["difference_ci"] == pytest.approx([surest - 1, 1 - surest])


def test_reals_that_two_sets_share_are_drawn_together():
    a = run(0)
    fakes = a[a["label"] == 1].assign(video=lambda table: "other/" + table["video"])
    b = pd.concat([a[a["label"] == 0], fakes])
    found = paired_difference(a, b, same_videos=False, only=("fpr", "tpr"), n_boot=200)
    assert found["n"]["shared_videos"] == 30
    assert found["metrics"]["fpr"]["difference_ci"] == [0.0, 0.0]
    assert found["metrics"]["tpr"]["difference_ci"][0] < 0 < found["metrics"]["tpr"]["difference_ci"][1]


def test_videos_that_one_run_lacks_are_left_out_and_counted():
    found = paired_difference(run(0), run(1, videos=50), n_boot=20)
    assert found["n"]["videos_a"] == found["n"]["videos_b"] == 50
    assert found["left_out"] == "10 videos that not every run has"


def test_runs_without_a_video_in_common_are_refused():
    with pytest.raises(InputError, match="no video in common"):
        paired_difference(run(0), run(1, dataset="E"))


def test_a_video_with_two_labels_is_refused():
    flipped = run(1).assign(label=lambda table: 1 - table["label"])
    with pytest.raises(InputError, match="'v000' of D is real in one run and fake in another"):
        paired_difference(run(0), flipped)


def test_one_identity_known_to_one_run_is_one_cluster_in_both():
    a = run(0, videos=8, frames=1)
    known = run(1, videos=8, frames=1).assign(identity=["p", "q", "p", "q", None, None, None, None])
    first, second = joint_samples([a, known])
    assert first.clusters == 6
    assert first.cluster.tolist() == second.cluster.tolist() == [0, 1, 0, 1, 2, 3, 4, 5]


def test_a_person_called_p_in_two_datasets_is_two():
    a = run(0, videos=4, frames=1).assign(identity="p")
    assert joint_samples([a, a.assign(dataset="E")])[0].clusters == 2


def test_frames_are_compared_where_asked():
    a, b = run(0), run(1)
    found = paired_difference(a, b, level="frame", only=("auc",), n_boot=50)["metrics"]["auc"]
    assert found["a"] == pytest.approx(roc_auc_score(a["label"], a["score"]))


def test_the_mean_of_drawn_seeds_spreads_as_a_mean_of_seeds_does():
    values = np.array([0.7, 0.75, 0.9, 0.85])
    drawn = drawn_mean([np.full(40_000, value) for value in values], 0)
    assert drawn.mean() == pytest.approx(values.mean(), abs=2e-3)
    assert drawn.var() == pytest.approx(values.var(ddof=1) / len(values), rel=0.03)
    assert drawn_mean([np.arange(3.0)], 0).tolist() == [0, 1, 2]


def test_seeds_that_differ_widen_the_interval():
    alike = across_seeds([run(seed) for seed in range(4)], only=("auc",), n_boot=500)
    differing = [run(seed, effect=effect) for seed, effect in enumerate((0.5, 1.0, 2.0, 3.0))]
    spread = across_seeds(differing, only=("auc",), n_boot=500)
    widths = [np.diff(found["metrics"]["auc"]["ci"])[0] for found in (alike, spread)]
    assert widths[0] < 0.7 * widths[1]
    entry = spread["metrics"]["auc"]
    assert entry["mean"] == pytest.approx(np.mean(entry["each"]))
    assert entry["sd"] == pytest.approx(np.std(entry["each"], ddof=1))
    assert (spread["seeds"], spread["videos"]) == (4, 60)


def test_one_seed_has_the_interval_of_its_videos_and_no_spread():
    alone = across_seeds([run(0)], only=("auc",), n_boot=100)["metrics"]["auc"]
    assert (
        alone["ci"] == paired_difference(run(0), run(1), only=("auc",), n_boot=100)["metrics"]["auc"]["a_ci"]
    )
    assert np.isnan(alone["sd"])


def test_seeds_have_each_their_own_threshold_at_an_fpr_and_their_mean_no_interval():
    names = ("auc", "tpr_at_fpr_5")
    found = across_seeds([run(0), run(1)], only=names, n_boot=50)["metrics"]
    assert np.isnan(found["tpr_at_fpr_5"]["ci"]).all()
    assert not np.isnan(found["auc"]["ci"]).any()
    alone = across_seeds([run(0)], only=names, n_boot=50)["metrics"]["tpr_at_fpr_5"]
    assert alone["ci"][0] <= alone["mean"] <= alone["ci"][1]


def test_runs_of_several_seeds_are_compared_by_their_means():
    a, b = [run(0), run(1)], [run(2), run(3), run(4)]
    found = paired_difference(a, b, only=("auc",), n_boot=100)
    assert (found["n"]["seeds_a"], found["n"]["seeds_b"]) == (2, 3)
    means = [across_seeds(side, only=("auc",), n_boot=0)["metrics"]["auc"]["mean"] for side in (a, b)]
    assert found["metrics"]["auc"]["difference"] == pytest.approx(means[0] - means[1])
