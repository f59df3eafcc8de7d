"""For whom does a detector fail, and how sure are we.

An audit by group, with tests that hold.
Names and pandas types are those of fairlearn's `MetricFrame`. What is added: people or videos, not frames,
are the unit of every interval and test; every gap is beside what chance alone would show; undefined
stays undefined; and each comparison ends in a verdict that includes "we cannot tell".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from unmasked.evaluation.thresholds import Threshold
from unmasked.fairness.conditional import audit_within, control_columns
from unmasked.fairness.groups import as_columns, check_groups, crossings
from unmasked.fairness.inputs import check_rows, cluster_codes, operating_point
from unmasked.fairness.records import Origin
from unmasked.fairness.result import Audit, audit_rows
from unmasked.fairness.settings import fewest_samples
from unmasked.fairness.statistics.slices import Rows, Settings


def audit(
    y_true: Any,
    y_score: Any,
    *,
    sensitive_features: Any,
    clusters: Any = None,
    threshold: float | Threshold = 0.5,
    control_features: Any = None,
    intersections: Literal["pairs"] | Sequence[Sequence[str]] | None = "pairs",
    n_boot: int = 2000,
    n_perm: int = 2000,
    margin: float = 0.03,
    min_clusters: int = 10,
    min_samples: int | None = None,
    random_state: int = 0,
) -> Audit:
    """The audit of a detector's scores by group.

    Args:
        y_true: (N,) 0 = real, 1 = fake.
        y_score: (N,) P(fake) in [0, 1]; a row is called fake when its score exceeds the threshold.
        sensitive_features: who is shown, as in fairlearn: Series, DataFrame, dict, list or array. Each
            column is audited alone and crossed with every other, see ``intersections``. Missing values
            are the group "unknown", listed and left out of gaps.
        clusters: (N,) who or which video each row belongs to: the unit of resampling. None takes every
            row for itself, which is right only for unrelated images. A cluster may hold both classes.
        threshold: operating point: a number, or a rule fitted on the data that the detector was
            calibrated on (`evaluation.thresholds.fit`), which is kept in the settings.
        control_features: in the same forms: what is to be held constant, such as compression. The audit is
            then made at each of its levels, with the pooled one in `Audit.pooled`.
        intersections: "pairs" crosses every two attributes that say something new (`groups.crossings`);
            lists of columns cross just these, in twos, threes or more; None crosses nothing. Whatever is
            crossed is part of the family that Holm's correction is over.
        n_boot, n_perm: bootstrap resamples behind intervals, permutations behind p-values.
        margin: gaps below this are called equivalent.
        min_clusters, min_samples: clusters and rows of a class that a group needs to be compared on it;
            None asks for 100 rows, or 1 where no cluster has several of a class.
        random_state: seed; the same input and seed give the same audit.

    Raises:
        InputError: lengths differ, labels are not 0 and 1, scores are not P(fake), or an attribute
            cannot be used (see `groups.check_groups`).

    The verdict on a gap is "disparity" where its Holm-adjusted p-value is below 0.05, "equivalent" where
    two one-sided tests at 5 % put every pair of groups within the margin, "inconclusive" otherwise, and
    "not enough data" where fewer than two groups can be compared.
    """
    label, score = check_rows(y_true, y_score)
    groups = as_columns(sensitive_features, len(label))
    cluster = cluster_codes(clusters, len(label))
    value, rule = operating_point(threshold)
    # A cluster's real and fake material are two videos at least; nothing more is known here.
    video = cluster * 2 + label
    if min_samples is None:
        min_samples = fewest_samples(single=len(np.unique(video)) == len(label))
    settings = Settings(
        threshold=value,
        n_boot=n_boot,
        n_perm=n_perm,
        margin=margin,
        min_clusters=min_clusters,
        min_samples=min_samples,
        random_state=random_state,
        threshold_rule=rule,
    )
    names = np.arange(len(label)) if clusters is None else np.asarray(clusters)
    check_groups(groups, label, names)
    crossed, left_out = crossings(groups, intersections)
    groups = groups.join(crossed)
    rows = Rows(label, score, cluster, video=video, frames=np.ones(len(label), dtype=np.int64))
    origin: Origin = {"crossings": list(crossed.columns), "not_crossed": left_out}
    if control_features is None:
        return audit_rows(rows, groups, settings, origin)
    controls = control_columns(control_features, len(label), groups.columns)
    return audit_within(rows, groups, controls, audit_rows(rows, groups, settings, origin))
