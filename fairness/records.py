"""What ``fairness.json`` and ``mitigation.json`` hold, as records.

`unmasked.evaluation.records` says what a record is, how one is read, and how a key is added.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Annotated

from pydantic import Field, TypeAdapter
from typing_extensions import NotRequired, TypedDict

from unmasked.datasets.documents import read_json, read_record
from unmasked.evaluation.records import KEPT, NULL, Interval, Reliability, StoredThreshold
from unmasked.fairness.statistics.betting import BETS

FILE = "fairness.json"
MITIGATION = "mitigation.json"
TWO = Field(min_length=2, max_length=2)
Finite = Annotated[float, Field(allow_inf_nan=False)]
Group = Annotated[str | None, NULL]  # None where no group is worst or best


class Origin(TypedDict, total=False):
    """What an audit is of, as far as the table says it."""

    dataset: str
    detector: str
    checkpoint: str
    scores: str  # `evaluation.origin.scores_digest` of the evaluated rows
    annotation: str
    rows: list[str]  # which count, and what was left out
    noun: str  # what was scored, where that is not videos: picture, file
    rule: str  # of the threshold, and what it was fitted on
    fitted_on: str
    crossings: list[str]
    not_crossed: dict[str, str]  # attribute -> why


class AuditSettings(Origin):
    """`settings.Settings`, and the origin."""

    threshold: float
    n_boot: int
    n_perm: int
    margin: float
    min_clusters: int
    min_samples: int
    random_state: int
    unit: str
    level: str
    threshold_rule: NotRequired[Annotated[StoredThreshold | None, NULL]]
    score_resamples: NotRequired[int]  # at most so many permutations of metrics that need the scores
    group_resamples: NotRequired[int]  # of groups; fewer than n_boot where there are many rows
    score_permutations: NotRequired[int]  # of metrics that need the scores, likewise


class Support(TypedDict):
    """How much is behind a group."""

    real_videos: int
    fake_videos: int
    real_frames: int
    fake_frames: int
    clusters: int
    real_clusters: int
    fake_clusters: int


class Everybody(TypedDict):
    """A block of the metrics of groups, over all rows."""

    support: Support
    auc: float
    auc_ci: NotRequired[Interval]
    balanced_accuracy: float
    balanced_accuracy_ci: NotRequired[Interval]
    fpr: float
    fnr: float


class GroupResults(TypedDict):
    """A block of the metrics of one group."""

    group: str
    support: Support
    auc: float
    auc_ci: Interval
    compared: list[str]  # the metrics that it has enough support for


class Test(TypedDict):
    """A gap and its test: `Audit.tests` says what each number is."""

    metric: str
    gap: float
    ci_low: float
    ci_high: float
    null_floor: float
    null_mean: NotRequired[float]
    difference: NotRequired[float]  # files of 0.1 tested the gap itself
    chance: NotRequired[float]
    detectable: NotRequired[float]
    videos: NotRequired[int]
    p_value: float
    p_adjusted: float
    verdict: str
    worst_group: Group
    best_group: Group
    also: NotRequired[list[list[str]]]  # worse and better group of further pairs that differ
    gap_worst: NotRequired[Group]  # the groups that `gap` is between
    gap_best: NotRequired[Group]
    n_needed: float
    equivalence_high: NotRequired[float]
    constant_gap: NotRequired[float]
    utility: NotRequired[float]


class Excluded(TypedDict):
    """What was left out of gaps and tests."""

    group: str
    metrics: str
    reason: str


class Spread(TypedDict):
    """`spread.between_group_spread` of a metric."""

    raw: float
    corrected: float
    corrected_ci: Interval


class CrossAuc(TypedDict):
    """AUC of one group's fakes against another's reals."""

    positives_of: str
    negatives_of: str
    auc: float
    auc_ci: Interval


class AgainstOthers(TypedDict):
    """AUC of a group's fakes against the reals of all other compared groups."""

    group: str
    auc: float
    auc_ci: Interval


class BaseRate(TypedDict):
    """How often a group is called fake, and how far that only says how many fakes it has."""

    group: str
    share_fake: float  # of its rows
    selection_rate: float
    selection_rate_ci: Interval
    expected: float  # with everybody's FPR and TPR, and its own share of fakes
    as_everybody: float  # with its own FPR and TPR, and everybody's share of fakes


class ShrunkRate(TypedDict):
    """A rate of a small crossed group, pulled towards what its attributes alone say."""

    group: str
    metric: str  # fpr, tpr
    raw: float
    main_effects: float  # what the attributes say without their interaction
    shrunk: float
    shrunk_ci: Interval
    shrinkage: float  # share of the way from raw to main_effects, 0 to 1
    units: int


class Subgroup(TypedDict):
    """A subgroup beside everybody else: see `statistics.subgroups`."""

    attribute: str
    group: str
    metric: str
    people: int  # units of the class that the metric is of
    others: int
    rate: float  # of errors: reals called fake, fakes missed; units weighed by their precision
    rate_of_others: float
    difference: float
    ci_low: float
    ci_high: float
    chance: float
    p_value: float  # counts the search
    people_to_confirm: float


class SubgroupScan(TypedDict):
    """The search over all groups and crossings, the worst first."""

    attributes: list[str]
    left_out: list[str]  # attributes that would make too many cells
    depth: int  # how many attributes are crossed at most
    searched: int  # comparisons: subgroups of enough people, in both classes
    units: int
    found: list[Subgroup]


class GroupReliability(Reliability):
    """The reliability diagram of a group."""

    group: str


class GroupScores(TypedDict):
    """How many rows of a group and class score in each bin."""

    group: str
    label: int  # 0 = real, 1 = fake
    edges: list[float]
    counts: list[int]


class AttributeResults(TypedDict):
    """The groups of one attribute, in reading order."""

    groups: list[GroupResults]
    tests: list[Test]
    excluded: list[Excluded]
    spread: NotRequired[dict[str, Spread]]  # by metric
    cross_auc: NotRequired[list[CrossAuc]]
    against_others: NotRequired[list[AgainstOthers]]
    base_rates: NotRequired[list[BaseRate]]
    shrunk: NotRequired[list[ShrunkRate]]  # of crossed attributes
    calibration: NotRequired[list[GroupReliability]]
    scores: NotRequired[list[GroupScores]]


class ConstantDetector(TypedDict):
    """What calling everything fake would score."""

    decision: NotRequired[str]
    overall: dict[str, float]  # by metric
    gaps: NotRequired[dict[str, dict[str, float]]]  # attribute -> metric -> gap
    fairlearn: NotRequired[dict[str, dict[str, float]]]  # attribute -> measure


class BenchMeasures(TypedDict):
    """One attribute as other benches measure it: see `statistics.bench.bench_measures`."""

    F_FPR: float
    F_EO: float
    F_MEO: float
    F_DP: float
    F_OAE: float
    printed: NotRequired[dict[str, float]]
    groups: list[str]
    dropped: NotRequired[dict[str, str]]
    accuracy: NotRequired[float]
    auc: NotRequired[float]


class Bench(TypedDict):
    """By attribute, and the same of the detector that calls everything fake."""

    attributes: dict[str, BenchMeasures]
    constant: dict[str, BenchMeasures]
    note: str


class GroupAtThreshold(TypedDict):
    """FPR and TPR of a group at a threshold; ``compared``: those with enough support."""

    group: str
    fpr: float
    fpr_ci: Interval
    tpr: float
    tpr_ci: Interval
    real_videos: int
    fake_videos: int
    compared: NotRequired[list[str]]


class OperatingPoint(TypedDict):
    """What every group meets at a stored threshold."""

    rule: str
    value: float
    fitted_on: str
    level: NotRequired[str]
    note: NotRequired[str]
    attributes: dict[str, list[GroupAtThreshold]]


class Pooled(TypedDict):
    """The gap over all levels of a stratification, as the audit has it."""

    gap: float
    worst_group: Group
    best_group: NotRequired[Group]
    p_value: NotRequired[float]
    verdict: NotRequired[str]


class StratumLevel(TypedDict):
    """The gap within one level."""

    level: str
    n: int  # its videos of the class at issue, of known group
    gap: float
    gap_ci: Interval
    p_value: float
    p_adjusted: NotRequired[float]
    worst_group: Group
    groups: NotRequired[dict[str, float]]  # their rates


class Stratified(TypedDict):
    """A gap within levels: `across.strata.strata` says what each number is."""

    by: str
    attribute: str
    metric: str
    pooled: Pooled
    levels: list[StratumLevel]
    averaged: float
    standardised: NotRequired[float]
    reversed: NotRequired[bool]
    cancels: NotRequired[bool]
    simpson: bool
    note: str


class WithinLevel(TypedDict):
    """The audit at one level of the control features."""

    level: dict[str, str]
    overall: Everybody
    attributes: dict[str, AttributeResults]
    verdicts: list[str]


class Control(TypedDict):
    """Audits within levels of control features."""

    features: list[str]
    levels: list[WithinLevel]


@KEPT
class AuditResults(TypedDict):
    """The audit of one dataset."""

    settings: AuditSettings
    overall: Everybody
    attributes: dict[str, AttributeResults]
    verdicts: list[str]
    constant_detector: ConstantDetector
    fairlearn: dict[str, dict[str, float]]  # attribute -> measure
    bench: NotRequired[Bench]
    scan: NotRequired[Annotated[SubgroupScan | None, NULL]]
    control: NotRequired[Control]
    operating_points: NotRequired[list[OperatingPoint]]  # as the next, where asked across
    strata: NotRequired[list[Stratified]]
    attrition: NotRequired[dict[str, object]]  # `fairness.across.attrition.LossAudit`


class GapChange(TypedDict):
    """A gap on a target beside that on a source, which ``kind`` says: dataset or detector."""

    kind: NotRequired[str]
    attribute: str
    metric: str
    source: str
    target: str
    gap_source: float
    gap_target: float
    change: float
    change_ci: Interval
    groups: NotRequired[list[str]]
    note: str
    dataset: NotRequired[str]


class PerturbedRate(TypedDict):
    """A rate of a group under a perturbation, and its change on the same crops."""

    dataset: str
    perturbation: str
    severity: int
    attribute: str
    group: str
    metric: str  # fpr, tpr
    value: float
    ci: Interval
    change: float
    change_ci: Interval
    compared: NotRequired[bool]
    videos: NotRequired[int]


class PerturbedGap(TypedDict):
    """A gap under a perturbation."""

    dataset: str
    perturbation: str
    severity: int
    attribute: str
    metric: str
    gap_clean: float
    gap: float
    change: float
    change_ci: Interval
    note: str
    # Of the pair of groups whose rates changed most unlike, absent where fewer than two are compared:
    difference: NotRequired[float]  # change of the one that is hit harder, minus that of the other
    difference_ci: NotRequired[Interval]
    changes: NotRequired[list[float]]  # of the rates of worst_group and best_group
    chance: NotRequired[float]
    p_adjusted: NotRequired[float]  # Holm's, over all perturbations of the dataset
    worst_group: NotRequired[Group]
    best_group: NotRequired[Group]


class Conflicts(TypedDict):
    """Frames of a video that disagree on a group: see `annotation_quality.conflicts`."""

    attribute: str
    videos: int
    conflicting: int
    share: NotRequired[float]
    frames_against: NotRequired[float]
    pairs: NotRequired[dict[str, int]]


class Agreement(TypedDict):
    """Two sources of annotation: see `annotation_quality.agreement`."""

    attribute: str
    videos: int
    share: float
    share_ci: NotRequired[Interval]
    kappa: float
    kappa_ci: NotRequired[Interval]
    confusion: NotRequired[dict[str, dict[str, int]]]  # ours -> theirs -> videos


class NoisyGap(TypedDict):
    """A gap under mistaken annotations: see `annotation_quality.noisy_gaps`."""

    attribute: str
    metric: str
    noise: float
    gap: float
    gap_mean: float
    gap_low: float
    gap_high: float
    order_kept: NotRequired[float]


class AnnotationQuality(TypedDict):
    """How far the groups of a dataset can be trusted."""

    conflicts: list[Conflicts]
    agreement: list[Agreement]
    measured_sensitivity: NotRequired[list[NoisyGap]]  # if we were as wrong as the sources disagree
    sensitivity: list[NoisyGap]


class GroupOutcome(TypedDict):
    """A block of rates of a group under a rule."""

    group: str
    fpr: NotRequired[float]
    tpr: NotRequired[float]
    balanced_accuracy: float
    real: int
    fake: int
    compared: NotRequired[bool]


class Outcome(TypedDict):
    """A block of rates over all rows under a rule, the gap, and how the rule is stored."""

    gap: float
    fpr: float
    tpr: float
    balanced_accuracy: float
    worst_group: Group
    best_group: NotRequired[Group]
    groups: NotRequired[list[GroupOutcome]]


class GroupUnknown(TypedDict):
    """What a rule that needs groups does where nobody's is known."""

    gap: float
    balanced_accuracy: float


class GroupWrong(TypedDict):
    """The same where a share of groups is wrong."""

    share: float
    gap_mean: float
    gap_low: float
    gap_high: float
    balanced_accuracy: float


class RemedyHead(TypedDict):
    """Which mitigation, fitted and judged on what."""

    name: str
    kind: str
    randomised: bool
    fitted_on: str
    applied_to: str
    attribute: str
    warning: str


class LevellingDown(TypedDict):
    """Whether a gap shrank at the cost of the better-off alone, and what both ends gain."""

    levelling_down: bool
    worst_group_gain: NotRequired[float]
    best_group_gain: NotRequired[float]


class BeforeAfter(TypedDict):
    """What it changed: see `mitigation.compare.before_after`."""

    metric: str
    before: Outcome
    after: Outcome
    gap_before_ci: NotRequired[Interval]  # holds 0 where no gap is shown
    gap_change: float
    gap_change_ci: Interval
    utility: str
    utility_change: float
    utility_change_ci: Interval
    tpr_change_at_same_fpr: NotRequired[float]
    tpr_change_at_same_fpr_ci: NotRequired[Interval]
    no_group_gains_utility: NotRequired[bool]
    worst_group_utility_change: NotRequired[float]
    levelling_down: bool
    worst_group_gain: NotRequired[float]
    best_group_gain: NotRequired[float]


class Doubts(TypedDict, total=False):
    """What is left of it where groups are not known, or wrong."""

    group_unknown: GroupUnknown
    group_wrong: GroupWrong


class Remedy(RemedyHead, BeforeAfter, Doubts):
    """A mitigation before and after."""


@KEPT
class Mitigation(TypedDict):
    """``mitigation.json``."""

    methods: list[Remedy]
    made_from: NotRequired[dict[str, object]]  # weights and scores, `evaluation.origin.Origin`
    skipped: NotRequired[dict[str, str]]
    notes: NotRequired[list[str]]  # whose group nobody knows, and whose few rows make an interval wide
    settings: NotRequired[dict[str, str | int | float]]


class Unwatched(TypedDict):
    """New videos of a group and class that no watched pair has; 0 if the group vanished."""

    dataset: str
    attribute: str
    group: str
    kind: str  # real, fake
    videos: int
    reason: str


class Look(TypedDict):
    """One time that new scores were added to a run."""

    made: str
    datasets: list[str]
    units: int  # people or videos that were bet on
    seen_before: int  # people who were counted earlier, left out
    unwatched: NotRequired[list[Unwatched]]


class WatchedPair(TypedDict):
    """Two groups that are watched, see `fairness.across.monitoring`."""

    dataset: str
    attribute: str
    metric: Annotated[str, Field(pattern="^(fpr|tpr)$")]
    groups: Annotated[list[str], TWO]
    people: Annotated[list[Annotated[int, Field(ge=0)]], TWO]  # new ones, of the class, of each group
    rates: Annotated[list[Annotated[float, Field(ge=0, le=1)]], TWO]  # of the metric
    log_capital: Annotated[list[Finite], Field(min_length=len(BETS), max_length=len(BETS))]
    e_value: float
    e_adjusted: float  # corrected for the number of pairs
    found_at: int  # look at which it was first above 20; 0 if never


class Monitor(TypedDict):
    """``monitor.json``: an audit that goes on."""

    since: str
    looks: list[Look]
    pairs: list[WatchedPair]
    counted: list[str]  # hashes of videos and people


class AcrossDatasets(TypedDict, total=False):
    """What goes across the audits of several datasets."""

    changes: list[GapChange]
    perturbations: list[PerturbedRate]
    perturbation_gaps: list[PerturbedGap]
    annotation: dict[str, AnnotationQuality]
    mitigation: Mitigation
    monitor: Monitor
    made: str


class AcrossDataset(TypedDict):
    """What goes across the rows of one dataset."""

    operating_points: list[OperatingPoint]
    strata: list[Stratified]
    attrition: NotRequired[dict[str, object]]  # `fairness.across.attrition.LossAudit`


class Across(AcrossDatasets):
    """What `across.run.compare_across` gives."""

    datasets: dict[str, AcrossDataset]


@KEPT
class FairnessResults(AcrossDatasets):
    """``fairness.json``."""

    datasets: dict[str, AuditResults]
    skipped: NotRequired[dict[str, str]]  # "dataset" or "dataset: attribute" -> why


def read(path: str | os.PathLike[str]) -> FairnessResults:
    """The audits in a ``fairness.json``; a single `Audit.to_json` is read as one dataset's.

    Raises:
        InputError: the file is absent or damaged.
    """
    advice = "run `unmasked fairness` again"
    several, one, _ = _kinds()
    if "attributes" in read_json(path, advice):
        audit = read_record(path, one, advice)
        return {"datasets": {audit["settings"].get("dataset", "these predictions"): audit}}
    return read_record(path, several, advice)


def read_mitigation(path: str | os.PathLike[str]) -> Mitigation:
    """What `unmasked mitigate` wrote; InputError where it is damaged."""
    return read_record(path, _kinds()[2], "run `unmasked mitigate` again, or remove the file")


@cache
def _kinds() -> tuple[TypeAdapter[FairnessResults], TypeAdapter[AuditResults], TypeAdapter[Mitigation]]:
    return TypeAdapter(FairnessResults), TypeAdapter(AuditResults), TypeAdapter(Mitigation)


def by_question(found: Mitigation) -> dict[tuple[str, str], list[Remedy]]:
    """The entries of each attribute and dataset."""
    grouped: dict[tuple[str, str], list[Remedy]] = {}
    for entry in found["methods"]:
        grouped.setdefault((entry["attribute"], entry["applied_to"]), []).append(entry)
    return grouped
