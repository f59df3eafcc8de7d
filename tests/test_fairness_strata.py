"""Gaps within strata: worked examples of what pooling hides and makes up, then plain loops."""

import numpy as np
import pandas as pd
import pytest

from unmasked.evaluation.thresholds import Threshold
from unmasked.fairness.across.operating_points import add_half, operating_points
from unmasked.fairness.across.strata import strata
from unmasked.fairness.run import audit_predictions
from unmasked.fairness.selection import select


def videos(cells, *, real=20):
    """One row a video; ``cells``: (group, level) -> (fakes, found). Levels are methods and compressions."""
    rows = [
        {
            "group": group,
            "method": level,
            "compression": level,
            "label": 1,
            "score": 0.9 if place < found else 0.1,
        }
        for (group, level), (fakes, found) in cells.items()
        for place in range(fakes)
    ]
    rows += [
        {"group": group, "method": "real", "compression": level, "label": 0, "score": 0.2 + 0.001 * place}
        for group, level in cells
        for place in range(real)
    ]
    table = pd.DataFrame(rows)
    return table.assign(dataset="hand", video=[f"v{place}" for place in range(len(table))])


def strata_of(table, **options):
    options = {"n_boot": 200, "n_perm": 400} | options
    found = strata(select(table, ["group"]), audit_predictions(table, ["group"], **options))
    return {(entry["by"], entry["metric"]): entry for entry in found}


# The admissions of Berkeley in small: b is better in both levels, and has most of its videos in the hard one.
SIMPSON = {("a", "easy"): (90, 72), ("b", "easy"): (10, 9), ("a", "hard"): (10, 2), ("b", "hard"): (90, 36)}
# Each method fails another group.
CANCELLING = {("a", "one"): (40, 38), ("b", "one"): (40, 16), ("a", "two"): (40, 16), ("b", "two"): (40, 38)}


def test_simpsons_paradox_is_told():
    entry = strata_of(videos(SIMPSON))[("method", "tpr")]
    assert entry["pooled"]["gap"] == pytest.approx(0.74 - 0.45)
    assert entry["pooled"]["worst_group"] == "b"
    assert [level["worst_group"] for level in entry["levels"]] == ["a", "a"]
    assert [level["gap"] for level in entry["levels"]] == pytest.approx([0.1, 0.2])
    assert entry["averaged"] == pytest.approx(0.15)
    # Rates with both levels alike: a (0.8 + 0.2) / 2, b (0.9 + 0.4) / 2.
    assert entry["standardised"] == pytest.approx(0.15)
    assert entry["simpson"]
    assert (entry["reversed"], entry["cancels"]) == (True, False)
    assert "within every level of method it is the other way round" in entry["note"]


def test_a_gap_that_cancels_when_pooled_is_found_within_the_methods():
    entry = strata_of(videos(CANCELLING))[("method", "tpr")]
    assert entry["pooled"]["gap"] == pytest.approx(0)
    assert entry["standardised"] == pytest.approx(0)
    assert entry["averaged"] == pytest.approx(22 / 40)
    assert [level["worst_group"] for level in entry["levels"]] == ["b", "a"]
    assert all(level["p_adjusted"] < 0.05 for level in entry["levels"])
    assert entry["simpson"]
    assert (entry["reversed"], entry["cancels"]) == (False, True)
    assert entry["note"].startswith("A gap was shown within one (worst: b), two (worst: a), and none")


def test_equal_gaps_everywhere_are_no_paradox():
    same = {(group, level): (40, 38 if group == "a" else 16) for group in "ab" for level in ("one", "two")}
    entry = strata_of(videos(same))[("method", "tpr")]
    assert entry["averaged"] == pytest.approx(entry["pooled"]["gap"])
    assert not entry["simpson"]
    assert entry["note"] == ""


def test_methods_divide_only_the_fakes_and_compression_both():
    assert set(strata_of(videos(SIMPSON), n_perm=20)) == {
        ("method", "tpr"),
        ("compression", "fpr"),
        ("compression", "tpr"),
    }


def test_chance_rarely_calls_a_level_different():
    """Twelve audits of an unbiased detector with two methods; Holm's p-values over all levels."""
    alarms = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        cells = {
            (group, level): (30, int(rng.binomial(30, 0.7))) for group in "ab" for level in ("one", "two")
        }
        entry = strata_of(videos(cells, real=12), n_boot=20, n_perm=200)[("method", "tpr")]
        alarms += any(level["p_adjusted"] < 0.05 for level in entry["levels"])
    assert alarms <= 3


def test_a_level_without_two_groups_of_enough_videos_is_undefined():
    thin = CANCELLING | {("a", "two"): (5, 2)}
    entry = strata_of(videos(thin), n_perm=20)[("method", "tpr")]
    two = entry["levels"][1]
    assert np.isnan([two["gap"], two["p_value"], *two["gap_ci"]]).all()
    assert (two["n"], two["worst_group"]) == (45, None)
    assert np.isnan(entry["averaged"])
    assert not entry["simpson"]
    assert entry["note"] == "Fewer than two levels have enough videos of two groups."


def frames_with_sizes(seed=0):
    """Videos of five frames whose faces grow from video to video; the detector misses small dark faces."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(240), 5)
    size = 40.0 + number // 4
    tone = np.array(["light", "dark"])[number % 2]
    label = number // 2 % 2
    missed = (label == 1) & (tone == "dark") & (number < 80)
    score = np.where(label == 1, np.where(missed, 0.2, 0.8), 0.1) + 0.05 * rng.uniform(size=len(number))
    return pd.DataFrame(
        {
            "dataset": "sizes",
            "video": [f"v{each}" for each in number],
            "frame": np.tile(np.arange(5), 240),
            "face": 0,
            "label": label,
            "score": score,
            "tone": tone,
            "size_px": size + rng.normal(0, 0.2, len(number)),
            "blur": 100.0,
        }
    )


@pytest.mark.parametrize("level", ["video", "frame"])
def test_thirds_by_face_size_are_of_the_videos_medians(level):
    table = frames_with_sizes()
    options = {"level": level, "min_samples": 1, "n_boot": 50, "n_perm": 100}
    found = strata(select(table, ["tone"], level=level), audit_predictions(table, ["tone"], **options))
    entry = {(each["by"], each["metric"]): each for each in found}[("face_size", "tpr")]
    assert [each["level"].split(" (")[0] for each in entry["levels"]] == ["small", "medium", "large"]
    medians = table[table["label"] == 1].groupby("video")["size_px"].median()
    assert [each["n"] for each in entry["levels"]] == pytest.approx([len(medians) / 3] * 3, abs=2)
    assert [each["gap"] for each in entry["levels"]] == pytest.approx([1, 0, 0], abs=0.06)
    # Equal everywhere, so nothing to divide by.
    assert "blur" not in {each["by"] for each in found}


def test_rates_at_every_threshold_are_those_of_a_plain_count():
    table = frames_with_sizes()
    audited = audit_predictions(table, ["tone"], min_samples=1, n_boot=50, n_perm=20)
    points = operating_points(audited, add_half([Threshold(0.83, "fpr:0.10", fitted_on="sizes, val split")]))
    assert [(point["rule"], point["value"]) for point in points] == [("fpr:0.10", 0.83), ("fixed", 0.5)]
    means = table.groupby("video").agg({"score": "mean", "label": "first", "tone": "first"})
    for point in points:
        for entry in point["attributes"]["tone"]:
            here = means[means["tone"] == entry["group"]]
            for name, label in (("fpr", 0), ("tpr", 1)):
                rate = (here.loc[here["label"] == label, "score"] > point["value"]).mean()
                assert entry[name] == pytest.approx(rate)
                assert entry[f"{name}_ci"][0] <= rate <= entry[f"{name}_ci"][1]
            assert (entry["real_videos"], entry["fake_videos"]) == (60, 60)
    at_half = {entry["group"]: entry for entry in points[1]["attributes"]["tone"]}
    for group in ("light", "dark"):
        assert at_half[group]["tpr"] == audited.by_group.loc[("tone", group), "tpr"]


def test_half_is_not_given_twice():
    assert [each.value for each in add_half([Threshold(0.5, "given")])] == [0.5]
