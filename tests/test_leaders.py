"""Who ranks best on what none was trained on: against scikit-learn, and in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from unmasked.evaluation.collection import Scored, Training
from unmasked.evaluation.leaders import leader_rows, leader_sentences

VIDEOS = 60


def detector(name: str, strength: dict[str, float], trained_on: str = "Home") -> Scored:
    """Scores of the same videos of each dataset: noise, and the label as strongly as is said."""
    rows = []
    for number, (dataset, shift) in enumerate(strength.items()):
        label = np.arange(VIDEOS) % 2
        score = np.random.default_rng([7, number, len(name)]).normal(size=VIDEOS) + shift * label
        rows.append(
            pd.DataFrame(
                {
                    "dataset": dataset,
                    "video": [f"v{one}" for one in range(VIDEOS)],
                    "label": label,
                    "score": 1 / (1 + np.exp(-score)),
                }
            )
        )
    training = Training(datasets=(trained_on,))
    return Scored(name, name, pd.concat(rows, ignore_index=True), (f"{name}.csv",), training)


def test_leads_are_differences_of_scikit_learns_auc():
    strong, weak = detector("A", {"New": 3.0}), detector("Bb", {"New": 0.5})
    (row,) = leader_rows([weak, strong], n_boot=200)
    expected = {
        one.name: roc_auc_score(one.predictions["label"], one.predictions["score"]) for one in (strong, weak)
    }
    assert (row["test"], row["detector"]) == ("New", "A")
    assert row["auc"] == pytest.approx(expected["A"], abs=1e-12)
    (lead,) = row["against"]
    assert lead["name"] == "Bb"
    assert lead["difference"] == pytest.approx(expected["A"] - expected["Bb"], abs=1e-12)
    low, high = lead["difference_ci"]
    assert 0 < low < lead["difference"] < high
    assert leader_sentences([row])[0] == "A holds up best: it ranks better than every other one on New."


def test_a_lead_within_chance_is_no_best():
    rows = leader_rows([detector("A", {"New": 1.0}), detector("Bb", {"New": 1.0})], n_boot=200)
    first, second = leader_sentences(rows)
    assert "but not by more than chance" in first
    assert "no difference that 60 videos show" in second


def test_each_first_somewhere_is_said():
    one = detector("A", {"New": 3.0, "Other": 0.0})
    other = detector("Bb", {"New": 0.0, "Other": 3.0})
    first = leader_sentences(leader_rows([one, other], n_boot=50))[0]
    assert first == "None is first everywhere, but A on New and Bb on Other."


def test_what_one_was_trained_on_or_one_did_not_score_or_has_one_class_is_left_out():
    one = detector("A", {"Home": 2.0, "Second": 2.0, "Alone": 2.0, "Reals": 2.0, "New": 2.0})
    other = detector("Bb", {"Home": 1.0, "Second": 1.0, "Reals": 1.0, "New": 1.0}, trained_on="Second")
    for part in (one, other):
        part.predictions.loc[part.predictions["dataset"] == "Reals", "label"] = 0
    assert [row["test"] for row in leader_rows([one, other], n_boot=50)] == ["New"]
    assert leader_sentences([]) == []
