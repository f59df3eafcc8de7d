"""docs/cases.md: 34 inputs that once came out wrong, and the tests that hold what is right."""

import ast
import re

import numpy as np
import pandas as pd
from test_layering import ROOT

from unmasked.evaluation.predictions import read_predictions
from unmasked.fairness.run import audit_predictions


def test_each_of_the_34_inputs_names_tests_that_are_there():
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", (ROOT / "docs/cases.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 35))
    for number, cell in rows:
        tests = re.findall(r"`(\w+)::(\w+)`", cell)
        assert tests, f"input {number} names no test"
        for file, name in tests:
            tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"))
            assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, name


def false_alarms(tmp_path, words):
    """FPR by eyewear of an audit of a CSV in which the first group is often called fake."""
    group, label = np.arange(120) % 3, np.arange(120) // 3 % 2
    rank = np.arange(120) // 6  # of the 20 videos of a class and group
    is_called_fake = np.where((label == 0) & (group > 0), rank < 1, rank < 15)
    table = pd.DataFrame({"dataset": "D", "video": [f"v{i}" for i in range(120)], "label": label})
    table = table.assign(score=np.where(is_called_fake, 0.8, 0.2), eyewear=np.array(words)[group])
    table.to_csv(tmp_path / "scores.csv", index=False)
    read = read_predictions(tmp_path / "scores.csv")
    found = audit_predictions(read, ["eyewear"], n_boot=50, n_perm=200)
    return found.by_group.loc["eyewear"]["fpr"].to_dict()


def test_a_group_called_none_is_compared_like_any_other(tmp_path):
    """None, which means no eyewear, was taken for missing, and its false alarms were left out."""
    assert false_alarms(tmp_path, ["None", "a", "b"]) == {"None": 0.75, "a": 0.05, "b": 0.05}
    assert false_alarms(tmp_path, ["no eyewear", "a", "b"]) == {"no eyewear": 0.75, "a": 0.05, "b": 0.05}
