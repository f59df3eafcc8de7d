"""An audit that goes on: bets that may be looked at every week, and what is refused to be added to a run."""

import json

import numpy as np
import pandas as pd
import pytest

from unmasked.app.verbs.fairness import Config, run
from unmasked.datasets.errors import InputError
from unmasked.fairness.across.monitoring import STATE, read_monitor
from unmasked.fairness.statistics.betting import BETS, ENOUGH, add_people, adjust_e_values, e_value


def test_capital_is_the_mean_of_all_bets_on_the_differences():
    rng = np.random.default_rng(0)
    capital = add_people(np.zeros(len(BETS)), np.ones(3), np.zeros(3), rng)
    assert e_value(capital) == pytest.approx(np.mean((1 + BETS) ** 3))
    assert e_value(add_people(capital, np.zeros(0), np.ones(5), rng)) == e_value(capital)


def test_expected_capital_does_not_grow_where_both_groups_have_one_rate():
    """The e-value's mean is 1 at any look, also with groups of unequal size: Ville's inequality needs it."""
    rng = np.random.default_rng(1)
    ends = []
    for _ in range(4000):
        capital = np.zeros(len(BETS))
        for _ in range(2):
            capital = add_people(capital, rng.random(2) < 0.3, rng.random(5) < 0.3, rng)
        ends.append(e_value(capital))
    assert np.mean(ends) == pytest.approx(1, abs=0.03)


def test_of_a_hundred_looks_every_one_is_allowed():
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(120):
        capital, largest = np.zeros(len(BETS)), 0.0
        for _ in range(100):
            capital = add_people(capital, rng.random(4) < 0.2, rng.random(4) < 0.2, rng)
            largest = max(largest, e_value(capital))
        alarms += largest >= ENOUGH
    assert alarms <= 10


def test_a_change_over_time_that_meets_both_groups_is_no_difference():
    rng, capital = np.random.default_rng(3), np.zeros(len(BETS))
    for week in range(60):
        sizes = (10, 1) if week < 30 else (1, 10)
        capital = add_people(capital, *(rng.random(size) < 0.1 + 0.8 * week / 60 for size in sizes), rng)
    assert e_value(capital) < ENOUGH


def test_corrected_e_values_are_the_least_mean_over_all_sets_with_the_pair():
    from itertools import combinations

    values = np.random.default_rng(4).exponential(size=6) ** 3
    for place, found in enumerate(adjust_e_values(values)):
        others = [at for at in range(6) if at != place]
        sets = [chosen for size in range(6) for chosen in combinations(others, size)]
        assert found == pytest.approx(min(values[[place, *chosen]].mean() for chosen in sets))


def scores(name, n=160, fpr=(0.1, 0.1), seed=0, **columns):
    """A table of one score a video; women's and men's reals are called fake so often."""
    rng = np.random.default_rng(seed)
    gender = np.where(np.arange(n) % 4 < 2, "female", "male")
    label = np.arange(n) % 2
    rate = np.where(label == 1, 0.85, np.where(gender == "female", fpr[0], fpr[1]))
    score = np.where(rng.random(n) < rate, 0.8, 0.2) + rng.uniform(-0.1, 0.1, n)
    table = {"dataset": "inbox", "video": [f"{name}{at}" for at in range(n)], "label": label, "score": score}
    return pd.DataFrame(table | {"gender": gender, "detector": "mine"} | columns)


def audited(table, out, **more):
    table.to_csv(out.with_suffix(".csv"), index=False)
    run(Config(predictions=out.with_suffix(".csv"), by=["gender"], out=out, n_boot=100, n_perm=100, **more))
    return out


@pytest.fixture
def first(tmp_path):
    return audited(scores("a"), tmp_path / "first")


def test_weeks_add_up_in_the_run_and_are_told_on_page_and_terminal(first, tmp_path, capsys):
    audited(scores("b", fpr=(0.6, 0.05), seed=1), tmp_path / "week1", since=first)
    state = read_monitor(first)
    assert len(state["looks"]) == 1
    assert {pair["metric"] for pair in state["pairs"]} == {"fpr", "tpr"}
    assert state["pairs"][0]["people"] == [40, 40]
    table = scores("b", fpr=(0.6, 0.05), seed=1)
    women = table[(table["gender"] == "female") & (table["label"] == 0)]
    assert state["pairs"][0]["rates"][0] == pytest.approx((women["score"] > 0.5).mean())
    audited(scores("c", fpr=(0.6, 0.05), seed=2), tmp_path / "week2", since=first)
    state = read_monitor(first)
    assert (len(state["looks"]), state["pairs"][0]["people"]) == (2, [80, 80])
    assert state["pairs"][0]["found_at"] in (1, 2)
    said = "Watched since first: 2 looks, 320 new people or videos. On inbox a difference was found at look"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "week2" / "fairness.html").read_text()
    assert json.loads((tmp_path / "week2" / "fairness.json").read_text())["monitor"]["since"] == "first"


def test_no_difference_is_told_with_the_evidence_so_far(first, tmp_path, capsys):
    audited(scores("b", seed=1), tmp_path / "week1", since=first)
    assert "No difference was found so far; that is not proof of equality" in capsys.readouterr().out


def test_who_is_not_watched_is_said_with_the_reason_and_so_are_groups_that_vanish_or_come(tmp_path, capsys):
    """37 of 3,600 videos were in no watch, and nothing said so."""
    few, new = scores("a"), scores("b", seed=1)
    few.loc[:10, "gender"] = "nonbinary"  # 6 reals, 5 fakes: too few
    first = audited(few, tmp_path / "first")
    new.loc[:3, "gender"] = "agender"
    new.loc[4:8, "gender"] = None
    audited(new, tmp_path / "week1", since=first)
    said = capsys.readouterr().out
    assert (
        "Not watched on inbox, by gender: nonbinary: nobody at look 1; 2 real and 2 fake of agender (no such "
        "group in first); 3 real and 2 fake of unknown (nobody says who they are)."
    ) in said
    again = scores("c", seed=2)
    again.loc[:3, "gender"] = "nonbinary"
    audited(again, tmp_path / "week2", since=first)
    said = capsys.readouterr().out
    assert "2 real and 2 fake of nonbinary (too few in first)" in said
    assert "2 real and 2 fake of agender (no such group in first)" in said
    assert said.count("Not watched") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"table": scores("a")}, "160 of 160 videos of inbox are counted already in first"),
        ({"table": scores("a").iloc[:40]}, "40 of 40 videos of inbox are counted already"),
        ({"threshold": 0.6}, "has threshold 0.5, the new scores 0.6"),
        ({"table": scores("b", detector="yours")}, "has detector mine, the new scores yours"),
        ({"table": scores("b", dataset="other")}, "audits inbox, the new scores are of other"),
        ({"since": "nowhere"}, "holds no fairness.json"),
        ({"out": "first"}, "is also the folder that is written"),
    ],
)
def test_what_cannot_be_added_is_refused_in_a_sentence_and_nothing_is_counted(first, tmp_path, change, words):
    change = dict(change)
    out, since = tmp_path / change.pop("out", "week"), tmp_path / change.pop("since", "first")
    with pytest.raises(InputError, match=words):
        audited(change.pop("table", scores("b")), out, since=since, **change)
    assert not (first / STATE).exists()


def test_a_week_is_counted_once(first, tmp_path):
    audited(scores("b"), tmp_path / "week1", since=first)
    kept = (first / STATE).read_bytes()
    with pytest.raises(InputError, match="counted already"):
        audited(scores("b"), tmp_path / "again", since=first)
    assert (first / STATE).read_bytes() == kept


def test_people_who_were_counted_are_left_out_and_said(tmp_path, capsys):
    people = {"identity": [f"p{at}" for at in range(160)]}
    first = audited(scores("a", **people), tmp_path / "first")
    mixed = {"identity": [f"p{at}" for at in range(80)] + [f"q{at}" for at in range(80)]}
    audited(scores("b", **mixed), tmp_path / "week1", since=first)
    assert "80 new people or videos (80 seen before are left out)" in capsys.readouterr().out
