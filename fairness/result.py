"""What an audit found, by group: every number with its interval, the tests, the verdicts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation.intervals import interleave
from unmasked.evaluation.metrics import all_metrics
from unmasked.fairness import verdicts
from unmasked.fairness.groups import CROSS
from unmasked.fairness.records import (
    AgainstOthers,
    AttributeResults,
    AuditResults,
    BaseRate,
    Bench,
    ConstantDetector,
    CrossAuc,
    Origin,
    ShrunkRate,
    Spread,
    SubgroupScan,
    WithinLevel,
)
from unmasked.fairness.selection import Selection
from unmasked.fairness.statistics.bench import bench_table
from unmasked.fairness.statistics.comparisons import (
    base_rates,
    compare,
    constant_detector,
    fairlearn_measures,
    pair_tests,
    spread_of,
)
from unmasked.fairness.statistics.distributions import calibration, score_histograms
from unmasked.fairness.statistics.estimates import generator
from unmasked.fairness.statistics.pairs import PairTest
from unmasked.fairness.statistics.score_tables import cut
from unmasked.fairness.statistics.slices import Rows, Settings, Slice, measure
from unmasked.fairness.statistics.subgroups import scan

if TYPE_CHECKING:
    from fairlearn.metrics import MetricFrame


@dataclass(frozen=True)
class Audit:
    """What `audit` found. Frames by group have the index (attribute, group).

    ``by_group.loc["gender"]``.

    Attributes:
        overall: every metric over all rows.
        by_group: every metric of every group, "unknown" and the small ones included; NaN is undefined.
        overall_ci, by_group_ci: [lower, upper] 95 % limits, shaped as the estimates (`ci_quantiles`).
        support, overall_support: videos, frames and units behind every group, by class; and all together.
        in_gap: boolean, shaped as by_group: is the group large enough to be compared on this metric.
        excluded: attribute, group, metrics, reason: what was left out of gaps and tests.
        tests: a row for every attribute and metric: gap, the largest value minus the smallest, and what
            chance alone makes of it (null_floor, the 95th percentile, and null_mean); of FPR and TPR the
            difference of the pair of groups that differs most for its size (worst_group, best_group; units
            weighed by their precision), its interval and what chance does not go beyond, p_value,
            p_adjusted (Holm), which say the same by construction, and verdict; also, the worse and the better
            group of every further pair that differs; gap_worst and gap_best, the groups that the gap is
            between; detectable, the difference of the first pair that 80
            of 100 studies like this one would find (NaN if none); videos that were
            compared, and n_needed: those that would settle an inconclusive one. Of other metrics the
            difference is the gap, with an interval and without a test.
        verdicts: the same in sentences.
        constant_detector: what calling everything fake would score: fair by most gaps, and useless.
        fairlearn: fairlearn's own disparity measures among the compared groups.
        spread: attribute -> metric -> standard deviation between the compared groups, raw and corrected for
            what sampling adds, see `spread.between_group_spread`.
        cross_auc: attribute -> AUC of one group's fakes against another's reals.
        against_others: attribute -> AUC of each group's fakes against the reals of all others.
        base_rates: attribute -> how often a group is called fake beside its share of fakes.
        shrunk: crossed attribute -> rates pulled towards main effects, see `shrinkage.shrink`.
        control_levels: names of the control features; None without. With them every frame above has them
            as its first index levels, as in `MetricFrame`, and so has `overall`, then a frame.
        pooled: the audit of all rows, beside the one within levels; None without control features.
        levels: each level and its own audit.
        selection: the rows with all that the predictions say of them; None where arrays were audited.
    """

    overall: pd.Series | pd.DataFrame
    by_group: pd.DataFrame
    overall_ci: list[Any]
    by_group_ci: list[pd.DataFrame]
    support: pd.DataFrame
    overall_support: pd.Series | pd.DataFrame
    in_gap: pd.DataFrame
    excluded: pd.DataFrame
    tests: pd.DataFrame
    null_floor: pd.DataFrame
    verdicts: list[str]
    constant_detector: ConstantDetector
    fairlearn: dict[str, dict[str, float]]
    settings: Settings
    origin: Origin
    ci_quantiles: list[float] = field(default_factory=lambda: [0.025, 0.975])
    spread: dict[str, dict[str, Spread]] = field(default_factory=dict)
    cross_auc: dict[str, list[CrossAuc]] = field(default_factory=dict)
    against_others: dict[str, list[AgainstOthers]] = field(default_factory=dict)
    base_rates: dict[str, list[BaseRate]] = field(default_factory=dict)
    shrunk: dict[str, list[ShrunkRate]] = field(default_factory=dict)
    control_levels: list[str] | None = None
    pooled: Audit | None = field(default=None, repr=False)
    levels: list[tuple[dict[str, str], Audit]] = field(default_factory=list, repr=False)
    selection: Selection | None = field(default=None, repr=False)
    _rows: Rows | None = field(default=None, repr=False)
    _groups: pd.DataFrame | None = field(default=None, repr=False)
    _controls: pd.DataFrame | None = field(default=None, repr=False)
    _pair_tests: list[PairTest | None] = field(default_factory=list, repr=False)

    def difference(self, method: Literal["between_groups", "to_overall"] = "between_groups") -> pd.DataFrame:
        """Largest difference of each metric for each attribute, among the compared groups."""
        if _check_method(method) == "between_groups":
            return self.group_max() - self.group_min()
        return _by_attribute((self._compared_values() - self._overall_by_group()).abs(), "max")

    def ratio(self, method: Literal["between_groups", "to_overall"] = "between_groups") -> pd.DataFrame:
        """Smallest ratio, at most 1, of each metric for each attribute, among compared groups."""
        if _check_method(method) == "between_groups":
            return self.group_min() / self.group_max()
        ratio = self._compared_values() / self._overall_by_group()
        return _by_attribute(ratio.where(ratio <= 1, 1 / ratio), "min")

    def group_min(self) -> pd.DataFrame:
        """Smallest value of each metric for each attribute, among the groups that are compared."""
        return _by_attribute(self._compared_values(), "min")

    def group_max(self) -> pd.DataFrame:
        """Largest value of each metric for each attribute, among the groups that are compared."""
        return _by_attribute(self._compared_values(), "max")

    def bench(self) -> Bench:
        """F_FPR, F_EO, F_MEO, F_DP and F_OAE as AI-Face and Fairness-Generalization print them.

        For every attribute and for the detector that calls everything fake, with the groups that those
        benches drop and why; see `bench.bench_table`.
        """
        rows, groups = rows_of(self)
        return bench_table(rows.label, rows.score, groups)

    @cached_property
    def scan(self) -> SubgroupScan | None:
        """The subgroups that are got wrong most; None where fewer than two attributes are audited."""
        rows, groups = rows_of(self)
        called = rows.score > self.settings.threshold
        rng = generator(self.settings, "scan")
        return scan(rows.label, called, rows.cluster, groups, self.settings, rng)

    def to_metricframe(self, attribute: str | None = None) -> MetricFrame:
        """fairlearn's `MetricFrame` of these rows.

        Several attributes are crossed, as fairlearn does.

        Args:
            attribute: one of the audited attributes; None takes all of them.
        """
        from fairlearn.metrics import MetricFrame

        rows, groups = rows_of(self)
        single = [name for name in groups.columns if CROSS not in name]
        columns = (single or list(groups.columns)) if attribute is None else [attribute]
        return MetricFrame(
            metrics={name: _row_metric(name, self.settings.threshold) for name in self.by_group.columns},
            y_true=rows.label,
            y_pred=rows.score,
            sensitive_features=groups[columns],
            control_features=self._controls,
        )

    def to_dict(self) -> AuditResults:
        """Everything as plain values; NaN where undefined.

        With control features: the pooled audit, and each level's under ``control``.
        """
        if self.pooled is not None:
            whole = self.pooled.to_dict()
            levels: list[WithinLevel] = []
            for level, audit in self.levels:
                found = audit.to_dict()
                parts = found["overall"], found["attributes"], found["verdicts"]
                levels.append(
                    {"level": level, "overall": parts[0], "attributes": parts[1], "verdicts": parts[2]}
                )
            whole["control"] = {"features": list(self.control_levels or ()), "levels": levels}
            return whole
        low, high = self.overall_ci
        overall: Any = dict(self.overall) | {
            f"{name}_ci": [low[name], high[name]] for name in self.by_group.columns
        }
        settings: Any = asdict(self.settings) | self.settings.counts(len(rows_of(self)[0])) | self.origin
        return {
            "settings": settings,
            "overall": overall | {"support": dict(self.overall_support)},
            "attributes": {name: self._attribute(name) for name in self.support.index.unique(0)},
            "verdicts": list(self.verdicts),
            "constant_detector": self.constant_detector,
            "fairlearn": self.fairlearn,
            "bench": self.bench(),
            "scan": self.scan,
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_dict`; NaN becomes null."""
        write_json(path, self.to_dict())

    def to_long(self) -> pd.DataFrame:
        """A row for every attribute, group and metric, the layout of ``by_group.csv``."""
        low, high = self.by_group_ci
        parts = []
        for name in self.by_group.columns:
            part = pd.DataFrame({"value": self.by_group[name], "lo": low[name], "hi": high[name]})
            part.insert(0, "metric", name)
            part["compared"] = self.in_gap[name]
            parts.append(part.join(self.support.add_prefix("n_")))
        return pd.concat(parts).sort_index(level=0, sort_remaining=False, kind="stable").reset_index()

    def _overall_by_group(self) -> Any:
        """The overall value that each group is held against: of everybody, or of everybody at its level."""
        if self.control_levels is None:
            return self.overall
        keys = self.by_group.index.droplevel(["attribute", "group"])
        return self.overall.reindex(keys).set_axis(self.by_group.index, axis=0)

    def _compared_values(self) -> pd.DataFrame:
        return self.by_group.where(self.in_gap)

    def _attribute(self, attribute: str) -> AttributeResults:
        low, high = (limits.loc[attribute] for limits in self.by_group_ci)
        groups: list[Any] = []
        for group, values in self.by_group.loc[attribute].iterrows():
            ends = zip(low.loc[group], high.loc[group], strict=True)
            entry = {"group": group, "support": dict(self.support.loc[(attribute, group)])}
            entry |= interleave(dict(values), dict(zip(values.index, ends, strict=True)))
            compared = self.in_gap.loc[(attribute, group)]
            groups.append(entry | {"compared": list(compared.index[compared])})
        tests, excluded = (
            table[table["attribute"] == attribute].drop(columns="attribute").to_dict("records")
            for table in (self.tests, self.excluded)
        )
        rows, names = rows_of(self)
        given = rows.label, rows.score, names[attribute]
        return {
            "groups": groups,
            "tests": tests,
            "excluded": excluded,
            "spread": self.spread[attribute],
            "cross_auc": self.cross_auc[attribute],
            "against_others": self.against_others[attribute],
            "base_rates": self.base_rates[attribute],
            "shrunk": self.shrunk[attribute],
            "calibration": calibration(*given),
            "scores": score_histograms(*given),
        }


def rows_of(audit: Audit) -> tuple[Rows, pd.DataFrame]:
    """The rows and the groups that an audit was made of."""
    assert audit._rows is not None
    assert audit._groups is not None
    return audit._rows, audit._groups


def audit_rows(
    rows: Rows,
    groups: pd.DataFrame,
    settings: Settings,
    origin: Origin | None = None,
    selection: Selection | None = None,
) -> Audit:
    """The audit of checked rows; ``origin`` (dataset, detector, …) is kept in the settings."""
    levels = cut(rows.label, rows.score)
    slices = [measure(rows, groups[name], settings, levels) for name in groups.columns]
    # Over all rows the numbers are those of `evaluate`, and so are units and resamples.
    whole = rows if rows.whole is None else replace(rows, cluster=rows.whole)
    everybody = pd.Series("everyone", index=groups.index, name="")
    everyone = measure(whole, everybody, settings, levels, seed=(origin or {}).get("dataset", ""))
    constant = constant_detector(slices, everyone)
    tests = compare(slices, everyone, constant, settings)
    by_group = _stack_slices(slices, "values")
    null_floor = tests.set_index(["attribute", "metric"])[["null_mean", "null_floor"]]
    return Audit(
        overall=everyone.values.iloc[0].rename(None),
        by_group=by_group,
        overall_ci=[everyone.low.iloc[0].rename(None), everyone.high.iloc[0].rename(None)],
        by_group_ci=[_stack_slices(slices, "low"), _stack_slices(slices, "high")],
        support=_stack_slices(slices, "support"),
        overall_support=everyone.support.iloc[0].rename(None),
        in_gap=_stack_slices(slices, "in_gap"),
        excluded=pd.DataFrame(
            [{"attribute": one.attribute, **entry} for one in slices for entry in one.excluded],
            columns=["attribute", "group", "metrics", "reason"],
        ),
        tests=tests,
        null_floor=null_floor.rename(columns={"null_mean": "mean", "null_floor": "p95"}),
        verdicts=verdicts.sentences(tests, by_group, settings),
        constant_detector=constant,
        fairlearn={one.attribute: fairlearn_measures(one) for one in slices},
        spread={one.attribute: spread_of(one) for one in slices},
        cross_auc={one.attribute: one.cross_auc for one in slices},
        against_others={one.attribute: one.against_others for one in slices},
        base_rates={one.attribute: base_rates(one, everyone) for one in slices},
        shrunk={one.attribute: one.shrunk for one in slices},
        settings=settings,
        origin=origin or {},
        selection=selection,
        _rows=rows,
        _groups=groups,
        _pair_tests=pair_tests(slices),
    )


def _stack_slices(slices: list[Slice], part: str) -> pd.DataFrame:
    frames = {one.attribute: getattr(one, part) for one in slices}
    return pd.concat(frames, names=["attribute", "group"])


def _by_attribute(values: pd.DataFrame, how: str) -> pd.DataFrame:
    """One row for each attribute (and level); NaN where fewer than two groups have a value."""
    keys = [name for name in values.index.names if name != "group"]
    grouped = values.groupby(level=keys if len(keys) > 1 else keys[0], sort=False)
    return grouped.agg(how).where(grouped.count() >= 2)


def _row_metric(name: str, threshold: float) -> Callable[[Any, Any], float]:
    def metric(y_true: Any, y_pred: Any) -> float:
        return all_metrics(y_true, y_pred, threshold, (name,))[name]

    return metric


def _check_method(method: str) -> str:
    if method not in ("between_groups", "to_overall"):
        raise InputError(f"method {method!r} is not known; choose between_groups or to_overall")
    return method
