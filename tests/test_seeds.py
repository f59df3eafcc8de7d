"""Trainings that differ in their seed: which belong together, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from unmasked.evaluation.collection import Scored, Training
from unmasked.evaluation.seeds import seed_rows, seed_table
from unmasked.evaluation.thresholds import Threshold


def scored(name: str, seed: int, training: Training, datasets: str = "AB", detector: str = "ucf") -> Scored:
    parts = []
    for dataset in datasets:
        rng = np.random.default_rng([seed, ord(dataset)])
        label = np.arange(40) % 2
        score = 1 / (1 + np.exp(-(2 * label - 1 + rng.normal(size=40))))
        table = pd.DataFrame({"dataset": dataset, "video": [f"v{row}" for row in range(40)], "label": label})
        parts.append(table.assign(score=score))
    return Scored(name, detector, pd.concat(parts, ignore_index=True), (f"{name}.csv",), training)


ON_A = Training(datasets=("A",), selection_rule="best on A's val")
ON_B = Training(datasets=("B",))


def test_each_dataset_has_the_mean_and_the_spread_of_its_trainings():
    runs = [scored(f"ucf-{seed}", seed, ON_A) for seed in range(3)]
    rows = seed_rows(runs, n_boot=200)
    assert [row["test"] for row in rows] == ["A", "B"]
    tables = [run.predictions[run.predictions["dataset"] == "B"] for run in runs]
    each = [roc_auc_score(table["label"], table["score"]) for table in tables]
    assert rows[1]["auc_each"] == pytest.approx(each)
    assert rows[1]["auc"] == pytest.approx(np.mean(each))
    assert rows[1]["auc_sd"] == pytest.approx(np.std(each, ddof=1))
    assert rows[1]["auc_ci"][0] < rows[1]["auc"] < rows[1]["auc_ci"][1]
    assert (rows[1]["seeds"], rows[1]["videos"], rows[1]["train"]) == (3, 40, "A")
    assert rows[1]["members"] == ["ucf-0", "ucf-1", "ucf-2"]
    assert "fpr" not in rows[0]


def test_only_trainings_of_one_detector_on_the_same_data_belong_together():
    runs = [
        scored("a", 0, ON_A),
        scored("b", 1, ON_B),
        scored("c", 2, ON_A, detector="xception"),
        scored("d", 3, Training()),
        scored("e", 4, Training()),
    ]
    assert seed_rows(runs, n_boot=10) == []
    found = seed_rows([*runs, scored("f", 5, ON_A, datasets="A")], n_boot=10)
    assert [(row["members"], row["test"]) for row in found] == [(["a", "f"], "A")]


def test_a_forest_and_an_svc_on_the_same_features_are_no_two_seeds_of_one_detector():
    def card(seed: int, classifier: str, workers: int = 0) -> dict:
        config = {"seed": seed, "model": {"classifier": classifier}, "data": {"workers": workers}}
        return {"architecture": "handcrafted", "config": config}

    cards = [card(0, "forest"), card(0, "svc"), card(1, "forest", workers=4)]
    runs = [replace(scored(name, seed, ON_A, "A"), card=cards[seed]) for seed, name in enumerate("abc")]
    assert [row["members"] for row in seed_rows(runs, n_boot=10)] == [["a", "c"]]
    assert seed_rows(runs[:2], n_boot=10) == []


def test_each_training_is_read_at_its_own_threshold():
    runs = [scored("a", 0, ON_A), scored("b", 1, ON_A)]
    points = {"a": Threshold(0.3, "eer"), "b": Threshold(0.7, "eer")}
    row = seed_rows(runs, thresholds=points, n_boot=50)[0]
    rates = []
    for run in runs:
        real = run.predictions[(run.predictions["dataset"] == "A") & (run.predictions["label"] == 0)]
        rates.append((real["score"] > points[run.name].value).mean())
    assert row["fpr"] == pytest.approx(np.mean(rates))
    assert "fpr" not in seed_rows(runs, thresholds={"a": Threshold(0.3, "eer")}, n_boot=10)[0]


def test_the_table_has_a_row_a_dataset_and_names_the_selection_rule():
    runs = [scored("a", 0, ON_A), scored("b", 1, ON_A)]
    points = {"a": Threshold(0.3, "eer"), "b": Threshold(0.7, "eer")}
    table = seed_table(seed_rows(runs, thresholds=points, n_boot=50))
    assert len(table.rows) == 2
    assert {len(row) for row in table.rows} == {len(table.head)}
    assert table.rows[0][:5] == ["ucf", "2", "A", "A", "40"]
    assert "best on A's val" in table.markdown()
