"""Fitted pipelines in files of skops: of classes that are named, and no others.

No code of a file runs. But skops builds any class of scikit-learn, whose compiled parts follow the numbers of
a file unchecked: to any place in memory. So steps are named, and the numbers that such code follows are
looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from unmasked.datasets.archives import check_zip
from unmasked.datasets.errors import InputError


def load(path: Path, trusted: list[str]) -> Any:
    """What a file of skops holds; see `check_pipeline`.

    ``trusted`` are types beside those that skops knows to be safe.
    """
    from skops import io  # its list of types takes seconds

    check_zip(path)
    return io.load(path, trusted=trusted)


def check_pipeline(model: Any, steps: Collection[type], columns: int) -> None:
    """Raises InputError where a model is no pipeline of these steps on so many features."""
    is_known = isinstance(model, Pipeline) and len(model.steps) > 0
    if not (is_known and all(type(step) in steps for _, step in model.steps)):
        raise InputError("it holds no pipeline of the steps that this detector fits")
    if any(getattr(step, "classes_", np.arange(2)).tolist() != [0, 1] for _, step in model.steps):
        raise InputError("its classes are not real and fake")
    if model.n_features_in_ != columns:
        raise InputError(f"it is of {model.n_features_in_} features, and not {columns}")
    for _, step in model.steps:
        _check_trees(step)
        if isinstance(step, SVC):
            _check_machine(step)


def _check_trees(forest: Any) -> None:
    """Raises InputError where a tree leads outside itself or its features, or back."""
    for tree in (one.tree_ for one in getattr(forest, "estimators_", [])):
        places = np.arange(tree.node_count)
        is_leaf = tree.children_left == -1
        for children in (tree.children_left, tree.children_right):
            inside = (children > places) & (children < tree.node_count)
            if not np.where(is_leaf, children == -1, inside).all():
                raise InputError("a tree of the forest is damaged")
        feature = tree.feature[~is_leaf]
        if (
            tree.n_features != forest.n_features_in_
            or not ((feature >= 0) & (feature < tree.n_features)).all()
        ):
            raise InputError("a tree of the forest is of other features")


def _check_machine(machine: SVC) -> None:
    """Raises InputError where an SVC's arrays are not of one size, which libsvm does not ask."""
    count = len(machine.support_)
    shapes = {
        "support_vectors_": (count, machine.n_features_in_),
        "_dual_coef_": (1, count),
        "_intercept_": (1,),
        "_n_support": (2,),
        "_probA": (0,),
        "_probB": (0,),
    }
    is_fitting = all(np.shape(getattr(machine, name)) == shape for name, shape in shapes.items())
    supports = machine._n_support
    is_fitting &= bool((supports >= 0).all()) and int(supports.sum()) == count
    is_plain = (machine.kernel, machine._impl, machine._sparse) == ("rbf", "c_svc", False)
    if not (is_fitting and is_plain and machine.shape_fit_[1] == machine.n_features_in_):
        raise InputError("its support vectors are damaged")
