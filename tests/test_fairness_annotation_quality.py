"""Agreement against scikit-learn, noise against its closed form, votes against a plain loop."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from test_fairness_audit import corpus

from unmasked.datasets.annotations import read_annotations
from unmasked.datasets.demographics import votes_by_video
from unmasked.datasets.errors import InputError
from unmasked.fairness.across.annotation_quality import (
    agreement,
    conflicts,
    measured_confusion,
    noisy_gaps,
    sensitivity,
    symmetric_confusion,
)
from unmasked.fairness.audit import audit

TONES = ["light", "medium", "dark"]


def two_groups(n=500, rates=(0.1, 0.5)):
    """As many reals and fakes of either group, one row each, with exactly these error rates."""
    group, label = np.repeat([0, 1], 2 * n), np.tile(np.repeat([0, 1], n), 2)
    place = np.tile(np.arange(n), 4)
    wrong = place < np.array(rates)[group] * n
    score = np.where(wrong != (label == 1), 0.9, 0.1) + 1e-5 * place
    names = np.array(["a", "b"])[group]
    return audit(label, score, sensitive_features={"who": names}, n_boot=10, n_perm=2)


@pytest.fixture(scope="module")
def balanced():
    return two_groups()


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2, 0.5])
def test_symmetric_noise_between_equal_groups_keeps_one_minus_two_e_of_the_gap(balanced, noise):
    for entry in noisy_gaps(balanced, "who", [symmetric_confusion(2, noise)], ["a", "b"], draws=2000):
        assert entry["gap"] == pytest.approx(0.4)
        assert entry["gap_mean"] == pytest.approx(0.4 * (1 - 2 * noise), abs=0.004)
        assert entry["noise"] == pytest.approx(noise)
        assert entry["gap_low"] - 1e-9 <= entry["gap_mean"] <= entry["gap_high"] + 1e-9


def test_unequal_noise_mixes_the_groups_as_bayes_says(balanced):
    """30 % of a pass for b, nobody the other way: b is then 3/13 a."""
    entry = noisy_gaps(balanced, "who", [np.array([[0.7, 0.3], [0.0, 1.0]])], ["a", "b"], draws=2000)[0]
    mixed = (1 * 0.5 + 0.3 * 0.1) / 1.3
    assert entry["gap_mean"] == pytest.approx(mixed - 0.1, abs=0.004)
    assert entry["noise"] == pytest.approx(0.15)


def test_drawn_gaps_spread_as_those_of_a_loop_that_flips_person_by_person(balanced):
    rows, names = balanced._rows, balanced._groups["who"].to_numpy()
    real = rows.label == 0
    flagged, b = (rows.score > 0.5)[real], (names == "b")[real]
    rng = np.random.default_rng(0)
    plain = []
    for _ in range(1500):
        now = b ^ (rng.uniform(size=len(b)) < 0.1)
        plain.append(flagged[now].mean() - flagged[~now].mean())
    entry = noisy_gaps(balanced, "who", [symmetric_confusion(2, 0.1)], ["a", "b"], draws=1500)[0]
    assert entry["gap_mean"] == pytest.approx(np.mean(plain), abs=0.002)
    assert [entry["gap_low"], entry["gap_high"]] == pytest.approx(
        np.quantile(plain, [0.025, 0.975]), abs=0.005
    )


def test_an_order_that_noise_cannot_turn_is_kept_and_none_is_a_coin_toss(balanced):
    assert noisy_gaps(balanced, "who", [symmetric_confusion(2, 0.2)], ["a", "b"])[0]["order_kept"] == 1
    coin = noisy_gaps(balanced, "who", [symmetric_confusion(2, 0.5)], ["a", "b"])[0]["order_kept"]
    assert 0.4 < coin < 0.6


def test_sensitivity_is_of_every_attribute_and_strength():
    table = corpus(0, tpr_dark=0.4)
    found = audit(
        table["label"],
        table["score"],
        sensitive_features=table[["gender", "skin_tone_group"]],
        clusters=table["identity"],
        n_boot=10,
        n_perm=2,
    )
    entries = {
        (each["attribute"], each["metric"], each["noise"]): each for each in sensitivity(found, [0.0, 0.3])
    }
    assert set(entries) == {
        (name, metric, noise)
        for name in ("gender", "skin_tone_group")
        for metric in ("fpr", "tpr")
        for noise in (0.0, 0.3)
    }
    own = found.tests.set_index(["attribute", "metric"])["gap"]
    for (name, metric, noise), entry in entries.items():
        if noise == 0:
            assert [entry["gap_mean"], entry["gap_low"]] == pytest.approx([own[(name, metric)]] * 2)
    assert entries[("skin_tone_group", "tpr", 0.3)]["gap_mean"] < 0.7 * own[("skin_tone_group", "tpr")]
    with pytest.raises(InputError, match=r"noise 1.5 is not a share of mistakes"):
        sensitivity(found, [1.5])


def test_kappa_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    ours = pd.Series(rng.choice(TONES, 300), name="tone")
    theirs = ours.where(rng.uniform(size=300) > 0.3, pd.Series(rng.choice(TONES, 300)))
    found = agreement(ours, theirs)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(ours, theirs))
    assert found["share"] == pytest.approx((ours == theirs).mean())
    assert found["kappa_ci"][0] < found["kappa"] < found["kappa_ci"][1]
    assert found["confusion"]["light"]["dark"] == ((ours == "light") & (theirs == "dark")).sum()
    shares = measured_confusion(found, TONES)
    assert shares.sum(axis=1) == pytest.approx([1, 1, 1])
    assert shares[0, 2] == pytest.approx((theirs[ours == "light"] == "dark").mean())


def test_unrelated_sources_have_no_kappa_to_speak_of():
    rng = np.random.default_rng(1)
    found = agreement(*(pd.Series(rng.choice(TONES, 400), name="tone") for _ in range(2)))
    assert found["kappa_ci"][0] < 0 < found["kappa_ci"][1]


def test_unknown_is_neither_agreement_nor_disagreement():
    ours = pd.Series(["a", "b", "unknown", "a"], name="who")
    found = agreement(ours, pd.Series(["a", "a", "b", "unknown"]))
    assert (found["videos"], found["share"]) == (2, 0.5)
    with pytest.raises(InputError, match="no video has a group of 'who' in both"):
        agreement(ours, pd.Series(["unknown"] * 4))
    with pytest.raises(InputError, match="one source has 4 videos and the other 2"):
        agreement(ours, ours[:2])


def test_one_group_only_has_no_kappa():
    same = pd.Series(["a"] * 5, name="who")
    found = agreement(same, same)
    assert found["share"] == 1
    assert np.isnan(found["kappa"])


def test_conflicts_count_videos_and_frames():
    votes = pd.DataFrame(
        [
            ("v0", "gender", "female", 9),
            ("v0", "gender", "male", 1),
            ("v1", "gender", "male", 10),
            ("v2", "gender", "female", 1),  # a single frame cannot disagree
            ("v0", "age", "adult", 10),
        ],
        columns=["video", "attribute", "value", "votes"],
    )
    gender, age = conflicts(votes)
    assert (gender["videos"], gender["conflicting"], gender["share"]) == (2, 1, 0.5)
    assert gender["frames_against"] == pytest.approx(1 / 20)
    assert gender["pairs"] == {"female / male": 1}
    assert (age["videos"], age["conflicting"]) == (1, 0)


def test_votes_by_video_are_those_of_a_plain_count(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (
            f"Celeb-real/id{video}_0000/{frame:03d}.png",
            rng.choice(["male", "female"]),
            int(rng.integers(1, 11)),
        )
        for video in range(6)
        for frame in range(4)
    ]
    pd.DataFrame(rows, columns=["path", "gender", "skin_tone"]).to_csv(tmp_path / "a.csv", index=False)
    names = [f"Celeb-real/id{video}_0000" for video in range(4) for _ in range(3)]
    table = pd.DataFrame({"dataset": "Celeb-DF-v2", "video": names})
    votes = votes_by_video(table, read_annotations(tmp_path / "a.csv"))
    found = {(row.video, row.attribute, row.value): row.votes for row in votes.itertuples()}
    expected = Counter()
    for path, gender, tone in rows:
        video = path.rsplit("/", 1)[0]
        if video in set(table["video"]):
            expected[(video, "gender", gender)] += 1
            expected[(video, "skin_tone", tone)] += 1
    assert found == dict(expected)


def test_real_annotations_disagree_within_videos_as_counted_by_hand(shared):
    """A table of videos made of the annotation's own paths: every frame of a video votes."""
    files = sorted((shared / "annotations").rglob("*.csv"))
    if not files:
        pytest.skip("no annotation files beside this checkout")
    annotations = read_annotations(files[0])
    named = annotations.dropna(subset=["key"])
    table = pd.DataFrame({"dataset": "any", "video": named["key"].unique()})
    votes = votes_by_video(table, annotations)
    found = {each["attribute"]: each for each in conflicts(votes)}
    distinct = named.drop_duplicates(["dataset", "key", "path", "gender", "age", "skin_tone", "race"])
    for name, entry in found.items():
        known = distinct.dropna(subset=[name]).groupby("key")[name]
        several = known.size() > 1
        assert entry["videos"] == several.sum()
        assert entry["conflicting"] == (known.nunique()[several] > 1).sum()
