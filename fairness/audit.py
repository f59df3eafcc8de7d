"""For whom does a detector fail, and how sure are we: an audit by group, with tests that hold.

Names and pandas types are those of fairlearn's `MetricFrame`. What is added: people or videos, not frames,
are the unit of every interval and test; every gap stands beside what chance alone would show; undefined
stays undefined; and each comparison ends in a verdict that includes "we cannot tell".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import write_json, write_text
from unmasked.evaluation.metrics import checked
from unmasked.fairness import verdicts
from unmasked.fairness.bench import bench_table
from unmasked.fairness.comparisons import compare, constant_detector, fairlearn_measures, spread_of
from unmasked.fairness.distributions import calibration, score_histograms
from unmasked.fairness.groups import as_columns, check_groups
from unmasked.fairness.metrics import METRICS, RATES, count_rows, rates, score_metrics
from unmasked.fairness.score_tables import cut
from unmasked.fairness.slices import Rows, Settings, Slice, measure

if TYPE_CHECKING:
    from fairlearn.metrics import MetricFrame


@dataclass(frozen=True)
class Audit:
    """What `audit` found. Frames by group have the index (attribute, group): ``by_group.loc["gender"]``.

    Attributes:
        overall: every metric over all rows.
        by_group: every metric of every group, "unknown" and the small ones included; NaN is undefined.
        overall_ci, by_group_ci: [lower, upper] 95 % limits, shaped as the estimates (`ci_quantiles`).
        support, overall_support: videos, frames and units behind every group, by class; and all together.
        in_gap: boolean, shaped as by_group: is the group large enough to be compared on this metric.
        excluded: attribute, group, metrics, reason: what was left out of gaps and tests.
        tests: a row for every attribute and metric: gap, its interval, what chance alone shows
            (null_floor, the 95th percentile, and null_mean), p_value, p_adjusted (Holm), verdict, the
            groups at both ends, and n_needed: videos that would settle an inconclusive one.
        verdicts: the same in sentences.
        constant_detector: what calling everything fake would score: fair by most gaps, and useless.
        fairlearn: fairlearn's own disparity measures among the compared groups.
        spread: attribute -> metric -> standard deviation between the compared groups, raw and corrected for
            what sampling adds, see `spread.between_group_spread`.
        cross_auc: attribute -> AUC of one group's fakes against another's reals.
    """

    overall: pd.Series
    by_group: pd.DataFrame
    overall_ci: list[pd.Series]
    by_group_ci: list[pd.DataFrame]
    support: pd.DataFrame
    overall_support: pd.Series
    in_gap: pd.DataFrame
    excluded: pd.DataFrame
    tests: pd.DataFrame
    null_floor: pd.DataFrame
    verdicts: list[str]
    constant_detector: dict[str, Any]
    fairlearn: dict[str, dict[str, float]]
    settings: Settings
    origin: dict[str, Any]
    ci_quantiles: list[float] = field(default_factory=lambda: [0.025, 0.975])
    spread: dict[str, dict[str, Any]] = field(default_factory=dict)
    cross_auc: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _rows: Rows | None = field(default=None, repr=False)
    _groups: pd.DataFrame | None = field(default=None, repr=False)

    def difference(self, method: Literal["between_groups", "to_overall"] = "between_groups") -> pd.DataFrame:
        """Largest difference of each metric for each attribute, among the groups that are compared."""
        if _checked_method(method) == "between_groups":
            return self.group_max() - self.group_min()
        return _by_attribute((self._compared() - self.overall).abs(), "max")

    def ratio(self, method: Literal["between_groups", "to_overall"] = "between_groups") -> pd.DataFrame:
        """Smallest ratio of each metric for each attribute, at most 1, among the groups that are compared."""
        if _checked_method(method) == "between_groups":
            return self.group_min() / self.group_max()
        ratio = self._compared() / self.overall
        return _by_attribute(ratio.where(ratio <= 1, 1 / ratio), "min")

    def group_min(self) -> pd.DataFrame:
        """Smallest value of each metric for each attribute, among the groups that are compared."""
        return _by_attribute(self._compared(), "min")

    def group_max(self) -> pd.DataFrame:
        """Largest value of each metric for each attribute, among the groups that are compared."""
        return _by_attribute(self._compared(), "max")

    def bench(self) -> dict[str, Any]:
        """F_FPR, F_EO, F_MEO, F_DP and F_OAE as AI-Face and Fairness-Generalization print them.

        For every attribute and for the detector that calls everything fake, with the groups that those
        benches drop and why; see `bench.bench_table`.
        """
        assert self._rows is not None
        assert self._groups is not None
        return bench_table(self._rows.label, self._rows.score, self._groups)

    def to_metricframe(self, attribute: str | None = None) -> MetricFrame:
        """fairlearn's `MetricFrame` of these rows; several attributes are crossed, as fairlearn does.

        Args:
            attribute: one of the audited attributes; None takes all of them.
        """
        from fairlearn.metrics import MetricFrame

        assert self._rows is not None
        assert self._groups is not None
        columns = list(self._groups.columns) if attribute is None else [attribute]
        return MetricFrame(
            metrics={name: _row_metric(name, self.settings.threshold) for name in METRICS},
            y_true=self._rows.label,
            y_pred=self._rows.score,
            sensitive_features=self._groups[columns],
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; NaN where undefined."""
        low, high = self.overall_ci
        overall = dict(self.overall) | {f"{name}_ci": [low[name], high[name]] for name in METRICS}
        overall["support"] = dict(self.overall_support)
        return {
            "settings": asdict(self.settings) | self.origin,
            "overall": overall,
            "attributes": {name: self._attribute(name) for name in self.support.index.unique(0)},
            "verdicts": list(self.verdicts),
            "constant_detector": self.constant_detector,
            "fairlearn": self.fairlearn,
            "bench": self.bench(),
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_dict`; NaN becomes null."""
        write_json(path, self.to_dict())

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as one page that needs neither network nor JavaScript."""
        from unmasked.fairness.report import page

        write_text(path, page(self.to_dict()))

    def to_long(self) -> pd.DataFrame:
        """A row for every attribute, group and metric, the layout of ``by_group.csv``."""
        low, high = self.by_group_ci
        parts = []
        for name in METRICS:
            part = pd.DataFrame({"value": self.by_group[name], "lo": low[name], "hi": high[name]})
            part.insert(0, "metric", name)
            part["compared"] = self.in_gap[name]
            parts.append(part.join(self.support.add_prefix("n_")))
        return pd.concat(parts).sort_index(level=0, sort_remaining=False, kind="stable").reset_index()

    def _compared(self) -> pd.DataFrame:
        return self.by_group.where(self.in_gap)

    def _attribute(self, attribute: str) -> dict[str, Any]:
        low, high = (limits.loc[attribute] for limits in self.by_group_ci)
        groups = []
        for group, values in self.by_group.loc[attribute].iterrows():
            entry: dict[str, Any] = {"group": group, "support": dict(self.support.loc[(attribute, group)])}
            for name in METRICS:
                entry[name] = values[name]
                entry[f"{name}_ci"] = [low.loc[group, name], high.loc[group, name]]
            entry["compared"] = [name for name in METRICS if self.in_gap.loc[(attribute, group), name]]
            groups.append(entry)
        tests = self.tests[self.tests["attribute"] == attribute].drop(columns="attribute")
        excluded = self.excluded[self.excluded["attribute"] == attribute].drop(columns="attribute")
        return {
            "groups": groups,
            "tests": tests.to_dict("records"),
            "excluded": excluded.to_dict("records"),
            "spread": self.spread[attribute],
            "cross_auc": self.cross_auc[attribute],
            **self._distributions(attribute),
        }

    def _distributions(self, attribute: str) -> dict[str, Any]:
        assert self._rows is not None
        assert self._groups is not None
        given = self._rows.label, self._rows.score, self._groups[attribute]
        return {"calibration": calibration(*given), "scores": score_histograms(*given)}


def audit(
    y_true: Any,
    y_score: Any,
    *,
    sensitive_features: Any,
    clusters: Any = None,
    threshold: float = 0.5,
    control_features: Any = None,
    n_boot: int = 2000,
    n_perm: int = 2000,
    margin: float = 0.03,
    min_clusters: int = 10,
    min_samples: int = 100,
    random_state: int = 0,
) -> Audit:
    """The audit of a detector's scores by group.

    Args:
        y_true: (N,) 0 = real, 1 = fake.
        y_score: (N,) P(fake) in [0, 1]; a row is called fake when its score exceeds the threshold.
        sensitive_features: who is shown, as in fairlearn: Series, DataFrame, dict, list or array. Each
            column is an attribute of its own; give a crossed column (`groups.cross`) to cross two.
            Missing values are the group "unknown", listed and left out of gaps.
        clusters: (N,) who or which video each row belongs to: the unit of resampling. None takes every
            row for itself, which is right only for unrelated images. A cluster may hold both classes.
        threshold: operating point, best transferred from the data the detector was calibrated on.
        control_features: kept for conditional audits; must be None.
        n_boot, n_perm: bootstrap resamples behind intervals, permutations behind p-values.
        margin: gaps below this are called equivalent.
        min_clusters, min_samples: support that a group needs in a class to be compared on it.
        random_state: seed; the same input and seed give the same audit.

    Raises:
        InputError: lengths differ, labels are not 0 and 1, scores are not P(fake), or an attribute
            cannot be used (see `groups.check_groups`).

    The verdict on a gap is "disparity" where its Holm-adjusted p-value is below 0.05, "equivalent" where
    the upper 95 % limit is below the margin (stricter than two one-sided tests at 5 %), "inconclusive"
    otherwise, and "not enough data" where fewer than two groups can be compared.
    """
    if control_features is not None:
        raise InputError("control_features is not supported yet; audit each level by itself")
    label, score = check_rows(y_true, y_score)
    groups = as_columns(sensitive_features, len(label))
    cluster = _codes(clusters, len(label))
    settings = Settings(
        threshold=float(threshold),
        n_boot=n_boot,
        n_perm=n_perm,
        margin=margin,
        min_clusters=min_clusters,
        min_samples=min_samples,
        random_state=random_state,
    )
    names = np.arange(len(label)) if clusters is None else np.asarray(clusters)
    check_groups(groups, label, names)
    # A cluster's real and fake material are two videos at least; nothing more is known here.
    rows = Rows(label, score, cluster, video=cluster * 2 + label, frames=np.ones(len(label), dtype=np.int64))
    return audit_rows(rows, groups, settings)


def audit_rows(
    rows: Rows, groups: pd.DataFrame, settings: Settings, origin: dict[str, Any] | None = None
) -> Audit:
    """The audit of checked rows; ``origin`` (dataset, detector, …) is kept beside the settings."""
    levels = cut(rows.label, rows.score)
    slices = [measure(rows, groups[name], settings, levels) for name in groups.columns]
    everyone = measure(rows, pd.Series("everyone", index=groups.index, name=""), settings, levels)
    tests = compare(slices, settings)
    by_group = _stacked(slices, "values")
    null_floor = tests.set_index(["attribute", "metric"])[["null_mean", "null_floor"]]
    return Audit(
        overall=everyone.values.iloc[0].rename(None),
        by_group=by_group,
        overall_ci=[everyone.low.iloc[0].rename(None), everyone.high.iloc[0].rename(None)],
        by_group_ci=[_stacked(slices, "low"), _stacked(slices, "high")],
        support=_stacked(slices, "support"),
        overall_support=everyone.support.iloc[0].rename(None),
        in_gap=_stacked(slices, "in_gap"),
        excluded=pd.DataFrame(
            [{"attribute": one.attribute, **entry} for one in slices for entry in one.excluded],
            columns=["attribute", "group", "metrics", "reason"],
        ),
        tests=tests,
        null_floor=null_floor.rename(columns={"null_mean": "mean", "null_floor": "p95"}),
        verdicts=verdicts.sentences(tests, by_group, settings),
        constant_detector=constant_detector(rows, groups, slices),
        fairlearn={
            one.attribute: fairlearn_measures(rows, groups[one.attribute], one, settings) for one in slices
        },
        spread={one.attribute: spread_of(one) for one in slices},
        cross_auc={one.attribute: one.cross_auc for one in slices},
        settings=settings,
        origin=origin or {},
        _rows=rows,
        _groups=groups,
    )


def _stacked(slices: list[Slice], part: str) -> pd.DataFrame:
    frames = {one.attribute: getattr(one, part) for one in slices}
    return pd.concat(frames, names=["attribute", "group"])


def _by_attribute(values: pd.DataFrame, how: str) -> pd.DataFrame:
    """One row for each attribute; NaN where fewer than two groups have a value."""
    grouped = values.groupby(level="attribute", sort=False)
    return grouped.agg(how).where(grouped.count() >= 2)


def _row_metric(name: str, threshold: float) -> Callable[[Any, Any], float]:
    def metric(y_true: Any, y_pred: Any) -> float:
        label, score = np.asarray(y_true), np.asarray(y_pred)
        if name in RATES:
            return float(rates(count_rows(label, score, threshold).sum(axis=0))[name])
        return score_metrics(label, score)[name]

    return metric


def _checked_method(method: str) -> str:
    if method not in ("between_groups", "to_overall"):
        raise InputError(f"method {method!r} is not known; choose between_groups or to_overall")
    return method


def check_rows(y_true: Any, y_score: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as arrays; raises InputError where they cannot be audited."""
    if len(y_true) != len(y_score):
        raise InputError(
            f"y_score has {len(y_score)} values but y_true has {len(y_true)}; give one for every row"
        )
    label, score = checked(y_true, y_score)
    if len(np.unique(label)) < 2:
        only = {0: "reals", 1: "fakes"}.get(int(label[0])) if len(label) else None
        raise InputError(
            f"y_true holds {f'only {only}' if only else 'no row'}; an audit needs real and fake rows"
        )
    if np.isin(score, (0, 1)).all():
        raise InputError(
            "y_score holds only 0 and 1, which are decisions; give P(fake), any value between 0 and 1"
        )
    return label, score


def _codes(values: Any, n_rows: int) -> np.ndarray:
    if values is None:
        return np.arange(n_rows)
    if len(values) != n_rows:
        raise InputError(f"clusters has {len(values)} values but y_true has {n_rows}; give one for every row")
    codes, _ = pd.factorize(np.asarray(values, dtype=object), use_na_sentinel=True)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise InputError(f"clusters is missing in row {row}; give the video where the person is not known")
    return codes.astype(np.int64)
