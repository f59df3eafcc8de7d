"""Controls: detectors whose worth is known are read as what they are, by the whole evaluation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.intervals import intervals
from unmasked.evaluation.levels import sample_of
from unmasked.evaluation.reading import LOOK


def corpus(videos: int = 80) -> pd.DataFrame:
    """Videos of 1 to 20 frames, half of them fake, with the scores of a good detector."""
    rng = np.random.default_rng(0)
    label = np.arange(videos) % 2
    lengths = rng.integers(1, 21, videos)
    table = pd.DataFrame({"dataset": "D", "video": [f"v{index:03d}" for index in range(videos)]})
    table = table.assign(label=label, logit=2 * label - 1 + rng.normal(0, 0.7, videos))
    table = table.loc[np.repeat(np.arange(videos), lengths)].reset_index(drop=True)
    return table.assign(score=1 / (1 + np.exp(-table.pop("logit") - rng.normal(0, 0.5, len(table)))))


def read(table: pd.DataFrame, **options) -> tuple[str, dict]:
    block = evaluate(table, n_boot=500, **options)["datasets"]["D"]
    return block["reading"], block


def shuffled(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table with the labels of its videos exchanged at random."""
    label = table.groupby("video")["label"].first()
    drawn = pd.Series(np.random.default_rng(seed).permutation(label), index=label.index)
    return table.assign(label=table["video"].map(drawn))


def test_shuffled_labels_are_not_told_from_chance():
    words, block = read(shuffled(corpus(), 0))
    for level in ("frame", "video"):
        low, high = block[level]["auc_ci"]
        assert low < 0.5 < high
    assert words.startswith("not told from chance: the interval of its AUC")


def test_the_interval_holds_chance_for_nearly_all_ways_to_shuffle():
    table, held = corpus(), 0
    for seed in range(100):
        rows = shuffled(table, seed)
        low, high = intervals(sample_of(rows), n_boot=200, seed=seed, only=("auc",))["auc"]
        held += low < 0.5 < high
    assert held >= 88  # of 100; 95 are expected


def test_a_good_detector_is_better_than_chance():
    words, block = read(corpus())
    assert words.startswith("better than chance: the interval of its AUC lies above 0.5")
    assert block["video"]["auc_ci"][0] > 0.5


@pytest.mark.parametrize("score", [0.1, 0.5, 0.7, 1.0])
def test_a_constant_detector_is_called_constant(score):
    words, block = read(corpus().assign(score=score))
    assert words == f"a constant detector: every video scores {score:g}, so it tells none apart"
    for level in ("frame", "video"):
        assert block[level]["auc"] == block[level]["eer"] == 0.5
        # So many videos do not prove that the next one scores alike: exact, and not [0.5, 0.5].
        assert block[level]["auc_ci"] == pytest.approx([0.338, 0.662], abs=1e-3)
        assert np.isnan(block[level]["mcc"])
    assert block["bench"]["auc"] == 0.5


def test_a_perfect_detector_is_perfect_and_not_certain():
    table = corpus()
    words, block = read(table.assign(score=0.1 + 0.8 * table["label"]))
    assert words.startswith("a perfect ranking: every fake scores above every real; with so many videos")
    assert block["video"]["auc"] == block["video"]["accuracy"] == 1.0
    assert block["video"]["eer"] == 0.0
    assert block["video"]["auc_ci"] == pytest.approx([0.025 ** (1 / 40), 1.0])


def test_a_perfect_ranking_with_a_useless_threshold_says_so():
    table = corpus()
    words, block = read(table.assign(score=0.6 + 0.2 * table["label"]))
    assert words.endswith("yet accuracy at score > 0.5 is 0.500")
    assert block["video"]["balanced_accuracy"] == 0.5


def test_a_reversed_detector_is_called_reversed():
    table = corpus()
    words, block = read(table.assign(score=0.9 - 0.8 * table["label"]))
    assert words.startswith("a reversed detector: every real scores above every fake")
    assert words.endswith(LOOK)
    assert block["video"]["auc"] == 0.0
    assert block["video"]["auc_ci"] == pytest.approx([0.0, 1 - 0.025 ** (1 / 40)])
    noisy, _ = read(table.assign(score=1 - table["score"]))
    assert noisy.startswith("worse than chance: reals tend to score above fakes")


def test_too_few_videos_do_not_rule_out_chance():
    table = corpus(videos=3)
    words, _ = read(table.assign(score=0.5 - 0.1 * table["label"]))
    assert words == (
        "every real scores above every fake, but there are 2 real and 1 fake to resample (people or videos), "
        "and two of each are needed: chance is not ruled out; " + LOOK
    )
    scores = {"v000": 0.2, "v001": 0.5, "v002": 0.7}
    words, _ = read(table.assign(score=table["video"].map(scores)))
    assert words.startswith("AUC 0.500 without an interval, as there are 2 real and 1 fake to resample")


@pytest.mark.parametrize(("turned", "order"), [(1, "every fake"), (-1, "every real")])
def test_no_verdict_comes_from_a_ranking_without_an_error_of_few_videos(turned, order):
    """ "a reversed detector" and "a perfect ranking" were said of two videos of each class."""
    few, many = corpus(videos=6), corpus(videos=40)
    words, block = read(few.assign(score=0.5 + 0.4 * turned * (few["label"] - 0.5)))
    assert words.startswith(f"{order} scores above every")
    assert "but of 3 real and 3 fake videos: chance is not ruled out" in words
    low, high = block["video"]["auc_ci"]
    assert low <= 0.5 <= high
    words, _ = read(many.assign(score=0.5 + 0.4 * turned * (many["label"] - 0.5)))
    assert words.startswith(("a perfect ranking", "a reversed detector"))


def test_one_person_is_not_called_too_few_videos():
    words, _ = read(corpus().assign(identity="bob"))
    assert words.endswith("without an interval, as all videos are of one person: chance is not ruled out")


def test_a_dataset_of_one_class_has_a_reason_and_no_reading():
    both = pd.concat([corpus(), corpus().assign(dataset="E", label=1)])
    block = evaluate(both, n_boot=20)["datasets"]["E"]
    assert block["reading"] == ""
    assert "holds only fakes" in block["reason"]
