"""Principal components and a support vector machine on features, kept as plain numbers.

The classifier of `handcrafted`, and of an ensemble that is stacked on its members' features.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unmasked.datasets.errors import InputError
from unmasked.evaluation.counts import Array

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows to fit on, rows left out
logger = logging.getLogger(__name__)

FOLDS = 5
FLAT = 1e-3  # the slope of a calibration, at least
COMPONENTS = 100
C = 10.0


@dataclass(frozen=True)
class Machine:
    """A fitted pipeline without its library.

    P(fake) of features x (F,) is the sigmoid of ``calibration[0] * d + calibration[1]``, where d is the sum
    over support vectors s of ``weight * exp(-gamma * |x @ project + shift - s|²)``, plus ``bias``.

    Attributes:
        project: (F, K) standardisation and principal components together.
        shift: (K,).
        vectors: (S, K) support vectors.
        weight: (S,).
        numbers: (4,) bias, gamma, and the two of the calibration.
    """

    project: Array
    shift: Array
    vectors: Array
    weight: Array
    numbers: Array

    @classmethod
    def fit(cls, x: Array, label: NDArray[Any], folds: list[Fold], seed: int) -> Machine:
        """Learns from features (N, F), calibrated out of fold."""
        rows = min(len(train) for train, _ in folds)
        model = pipeline(rows, x.shape[1], components=COMPONENTS, c=C, seed=seed)
        calibration = calibrate(model, x, label, folds)
        return cls.of(model.fit(x, label), calibration)

    @classmethod
    def of(cls, model: Pipeline, calibration: LogisticRegression) -> Machine:
        """The numbers of a fitted `pipeline`."""
        scaler, svc = model[0], model[-1]
        project, shift = np.diag(1 / scaler.scale_), -scaler.mean_ / scaler.scale_
        if len(model) == 3:
            project, shift = (
                model[1].components_.T / scaler.scale_[:, None],
                (shift - model[1].mean_) @ model[1].components_.T,
            )
        numbers = [svc.intercept_[0], svc._gamma, calibration.coef_[0, 0], calibration.intercept_[0]]
        return cls(project, shift, svc.support_vectors_, svc.dual_coef_[0], np.array(numbers))

    def score(self, x: Array) -> Array:
        """(N,) P(fake) of features (N, F)."""
        from scipy.spatial.distance import cdist
        from scipy.special import expit

        bias, gamma, slope, offset = self.numbers
        near = np.exp(-gamma * cdist(x @ self.project + self.shift, self.vectors, "sqeuclidean"))
        return expit(slope * (near @ self.weight + bias) + offset)

    @property
    def width(self) -> int:
        """How many features it takes."""
        return len(self.project)

    @property
    def digest(self) -> str:
        """SHA-256 of the numbers."""
        found = hashlib.sha256()
        for name, values in self.arrays().items():
            found.update(f"{name} {values.shape}".encode() + np.ascontiguousarray(values, "<f8").tobytes())
        return found.hexdigest()

    def arrays(self) -> dict[str, Array]:
        """All numbers by name, as for an .npz file."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Machine:
        """What `arrays` gave; ValueError where sizes do not fit or a number is not finite."""
        found = cls(**{one.name: np.asarray(arrays[one.name], np.float64) for one in fields(cls)})
        (_, inner), (vectors, width) = found.project.shape, found.vectors.shape
        sizes = (found.shift.shape, found.weight.shape, found.numbers.shape)
        if inner != width or sizes != ((inner,), (vectors,), (4,)):
            raise ValueError("numbers of a support vector machine that do not fit together")
        if not all(np.isfinite(values).all() for values in found.arrays().values()):
            raise ValueError("values that are not finite")
        return found


def pipeline(rows: int, width: int, *, components: int, c: float, seed: int) -> Pipeline:
    """Standardisation, principal components and an SVC with an RBF kernel, to be fitted.

    Args:
        rows: how many it is fitted on at least.
        width: of the features.
        components: at most; 0 leaves all features as they are.
        c: how closely the SVC follows its rows.
        seed: of the components' solver.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    components = min(components, rows - 1)
    reduce = [PCA(components, random_state=seed)] if 0 < components < width else []
    return make_pipeline(StandardScaler(), *reduce, SVC(C=c, class_weight="balanced"))


def calibrate(model: Pipeline, x: NDArray[Any], label: NDArray[Any], folds: list[Fold]) -> LogisticRegression:
    """A logistic curve on the distances of rows from machines that saw nobody of their fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    distance = cross_val_predict(model, x, label, cv=folds, method="decision_function")
    curve = LogisticRegression(C=1e6).fit(distance[:, None], label)
    if curve.coef_[0, 0] < FLAT:
        logger.warning("an SVC found nothing in its features that holds for people it did not see")
        curve.coef_, curve.intercept_ = np.array([[FLAT]]), np.log([label.mean() / (1 - label.mean())])
    return curve


def people_folds(label: NDArray[Any], people: NDArray[Any], seed: int) -> list[Fold]:
    """Rows to fit on and rows left out, up to `FOLDS` times; a person is on one side alone.

    Raises:
        InputError: people cannot be parted so that both classes are left to fit on. Its text is how many
            there are of each class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    counts = [len(np.unique(people[label == which])) for which in (0, 1)]
    for number in range(min(FOLDS, *counts), 1, -1):
        splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fewer people of a class than folds
            found = list(splitter.split(label, label, people))
        if all(len(test) and len(np.unique(label[train])) == 2 for train, test in found):
            return found
    raise InputError(f"{counts[0]} with real crops and {counts[1]} with fake ones")
