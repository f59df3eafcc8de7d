"""The threshold for a promised false alarm rate: exactness of its bound, cross-fitting, and the command."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.errors import InputError
from unmasked.evaluation.false_alarms import limit_false_alarms, sentence
from unmasked.evaluation.fitted import read_fitted


def videos(seed, real=200, fake=200, people=None):
    """Normal scores mapped to (0, 1): real N(-1, 1), fake N(1, 1); people share half of the variance."""
    rng = np.random.default_rng(seed)
    label = np.repeat([0, 1], [real, fake])
    noise = rng.standard_normal(real + fake)
    table = pd.DataFrame({"video": [f"v{i}" for i in range(real + fake)], "label": label})
    if people:
        person = rng.integers(0, people, real + fake)
        noise = np.sqrt(0.5) * noise + np.sqrt(0.5) * rng.standard_normal(people)[person]
        table["identity"] = [f"p{i}" for i in person]
    table["score"] = stats.norm.cdf(noise + 2 * label - 1)
    return table


def true_fpr(cut):
    return float(stats.norm.sf(stats.norm.ppf(cut) + 1))


def test_bound_holds_in_at_least_95_of_100_samples_and_not_much_more():
    found = [limit_false_alarms(videos(seed, fake=1), 0.05, n_boot=0) for seed in range(400)]
    kept = np.mean([true_fpr(one.threshold.value) <= one.fpr_bound for one in found])
    assert 0.93 <= kept <= 0.99  # exact for a threshold at a score; ours lies halfway to the next


def test_guaranteed_threshold_keeps_the_limit_in_at_least_95_of_100_samples():
    found = [limit_false_alarms(videos(seed, fake=1), 0.05, guaranteed=True, n_boot=0) for seed in range(250)]
    assert all(one.is_kept for one in found)
    assert np.mean([true_fpr(one.threshold.value) <= 0.05 for one in found]) >= 0.95 - 2 * 0.014


def test_cross_fitted_rate_is_that_of_videos_never_seen():
    found = [limit_false_alarms(videos(seed), 0.05, n_boot=0) for seed in range(60)]
    fresh = np.mean([true_fpr(one.threshold.value) for one in found])
    assert np.mean([one.fpr for one in found]) == pytest.approx(fresh, abs=0.006)


def test_bound_of_people_counts_who_is_accused_at_least_once():
    table = videos(0, people=80)
    found = limit_false_alarms(table, 0.05)
    reals = table[table["label"] == 0]
    accused = reals[reals["score"] > found.threshold.value]["identity"].nunique()
    n = reals["identity"].nunique()
    assert found.unit == "identity"
    assert found.fpr_bound == pytest.approx(stats.binomtest(accused, n).proportion_ci(0.9, "exact").high)
    assert "people are, in any of their videos, called fake" in sentence(found)


def test_reals_alone_are_enough_and_nothing_is_said_of_fakes():
    found = limit_false_alarms(videos(0, fake=0), 0.05)
    assert np.isnan(found.tpr)
    assert "fakes" not in sentence(found)
    never = sentence(limit_false_alarms(videos(0, fake=0), 0.001))
    assert never.startswith("No video scores above this threshold: it calls nothing fake. ")
    assert "finds no fake" not in never  # there is none to find


def test_shifting_all_scores_by_a_monotone_map_changes_no_rate():
    table = videos(3)
    moved = table.assign(score=table["score"] ** 3)
    one, other = limit_false_alarms(table, 0.05), limit_false_alarms(moved, 0.05)
    assert (one.fpr_bound, one.threshold.fpr, one.threshold.tpr) == (
        other.fpr_bound,
        other.threshold.fpr,
        other.threshold.tpr,
    )


@pytest.mark.parametrize("share", [0, 1, -0.1, 5])
def test_limit_that_is_no_share_is_refused(share):
    with pytest.raises(InputError, match="is no share"):
        limit_false_alarms(videos(0), share)


def test_promise_that_needs_more_reals_says_how_many():
    with pytest.raises(InputError, match=r"needs 299 real videos and there are 200"):
        limit_false_alarms(videos(0), 0.01, guaranteed=True)
    assert "at least 299 real videos are needed" in sentence(limit_false_alarms(videos(0), 0.01))


def test_one_person_cannot_check_a_threshold():
    table = videos(0, real=20, fake=20).assign(identity="p")
    with pytest.raises(InputError, match="all real videos belong to one person"):
        limit_false_alarms(table, 0.1)


def scores(tmp_path, table, **columns):
    path = tmp_path / "scores.csv"
    table.assign(dataset="mine", **columns).to_csv(path, index=False)
    return path


def test_command_stores_a_threshold_that_other_verbs_read(tmp_path):
    path = scores(tmp_path, videos(0))
    done = CliRunner().invoke(app, ["threshold", f"predictions={path}", "max_fpr=0.05", f"out={tmp_path}/o"])
    assert done.exit_code == 0, done.output
    assert "of 100 real videos are called fake" in done.stdout
    kept = json.loads((tmp_path / "o/thresholds.json").read_text())
    assert read_fitted(tmp_path / "o/thresholds.json").threshold.value == kept["threshold"]["value"]
    assert kept["limit"]["sentence"] in done.stdout.replace("\n", " ")
    args = [
        f"predictions={path}",
        f"thresholds={tmp_path}/o/thresholds.json",
        f"out={tmp_path}/e",
        "n_boot=100",
    ]
    again = CliRunner().invoke(app, ["evaluate", *args])
    assert again.exit_code == 0, again.output


def test_rows_of_val_are_used_where_there_are_any(tmp_path):
    table = videos(0)
    split = np.where(np.arange(len(table)) % 2, "val", "test")
    path = scores(tmp_path, table, split=split)
    done = CliRunner().invoke(app, ["threshold", f"predictions={path}", "max_fpr=0.05", f"out={tmp_path}/o"])
    assert done.exit_code == 0
    kept = json.loads((tmp_path / "o/thresholds.json").read_text())["threshold"]
    assert kept["fitted_on"] == "mine, val videos, cross-fitted"
    assert kept["n_real"] == 100


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("dataset=other", "is not in the predictions; they have mine"),
        ("split=dev", "belongs to the split 'dev'"),
    ],
)
def test_wrong_choice_is_one_sentence(tmp_path, argument, message):
    path = scores(tmp_path, videos(0))
    done = CliRunner().invoke(app, ["threshold", f"predictions={path}", argument, f"out={tmp_path}/o"])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "o").exists()
