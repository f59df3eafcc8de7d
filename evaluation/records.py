"""What ``metrics.json`` holds: records that `evaluate` makes and pages read.

A record is a dictionary whose keys are declared here, so it is what the file holds, key by key, and the type
checker knows it; `documents.read_record` checks a file against it. Undefined is NaN in memory and null in the
file. Keys that are not declared are kept as they are. To add one: declare it (`NotRequired`, as older files
lack it), then write it.

Blocks of metrics have each metric of `METRICS` under its name and its 95 % interval under ``<name>_ci``;
those that somebody reads by name are declared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, with_config
from typing_extensions import NotRequired, TypedDict

Interval: TypeAlias = Annotated[list[float], Field(min_length=2, max_length=2)]  # low, high
Numbers: TypeAlias = dict[str, float | Interval]  # metric -> value, <metric>_ci -> interval
Measures: TypeAlias = Mapping[str, Any]  # any record, read by the name of a metric
# null is no number here, but nothing: `read_record` made it NaN.
NULL = BeforeValidator(lambda value: None if value != value else value)
KEPT = with_config(ConfigDict(extra="allow"))  # holds for the records inside as well


class StoredThreshold(TypedDict):
    """`thresholds.Threshold` as it is stored."""

    value: float
    rule: str
    fitted_on: NotRequired[str]
    level: NotRequired[str]
    n_real: NotRequired[int]
    n_fake: NotRequired[int]
    fpr: NotRequired[float]
    tpr: NotRequired[float]
    note: NotRequired[str]


class AppliedThreshold(TypedDict):
    """What a stored threshold does on a dataset: a block of the metrics that need one."""

    value: float
    rule: str
    fitted_on: str
    note: NotRequired[str]
    fitted_fpr: NotRequired[float]  # on the rows that it was fitted on
    fitted_tpr: NotRequired[float]
    fpr: float
    fpr_ci: Interval
    tpr: float
    tpr_ci: Interval


class Reliability(TypedDict):
    """Each bin of the ECE that has rows, see `calibration.reliability`."""

    score: list[float]
    share_fake: list[float]
    n: list[int]
    low: NotRequired[list[float]]
    high: NotRequired[list[float]]


class CalibrationEffect(TypedDict):
    """Brier score, ECE and log loss before and after a stored calibration."""

    fitted_on: str
    parameter: float | dict[str, list[float]]
    note: str
    before: Numbers
    after: Numbers


class RiskCurve(TypedDict):
    """Risk among the surest share of rows."""

    coverage: list[float]
    risk: list[float]


class Abstention(TypedDict):
    """What a stored band does: `abstention.abstention` says what each number is."""

    band: list[float]  # low, high
    rule: str
    fitted_on: str
    note: NotRequired[str]
    coverage: float
    coverage_ci: Interval
    risk: float
    risk_ci: Interval
    risk_all: NotRequired[float]
    risk_all_ci: NotRequired[Interval]
    curve: RiskCurve
    aurc: NotRequired[float]


class StatedSupport(TypedDict):
    """Videos whose LRs are alike: what was stated, and what is observed."""

    stated: float  # mean log10 LR
    observed: float  # log10 of (share of the fakes that is here / share of the reals), half a video added
    observed_ci: Interval  # Katz et al. 1978, videos as if independent
    real: int
    fake: int


class LikelihoodEffect(TypedDict):
    """What a stored likelihood ratio does here: `likelihood.likelihood_effect`."""

    fitted_on: str
    n_real: int  # calibration videos
    n_fake: int
    bounds: list[float]  # log10
    note: str
    cllr: float
    cllr_ci: Interval
    cllr_min: float
    tippett: dict[str, list[float]]  # log10_lr, fake, real
    ece: dict[str, list[float]]  # prior_log10_odds, stated, best, without
    stated: list[StatedSupport]


class LevelResults(TypedDict):
    """A block of every metric, of frames or of videos; the last four are of videos only."""

    auc: float
    auc_ci: Interval
    ap: NotRequired[float]
    eer: NotRequired[float]
    accuracy: NotRequired[float]
    fpr: float
    tpr: float
    ece: NotRequired[float]
    auc_ci_delong: NotRequired[Interval]  # where each cluster is one row
    confusion: NotRequired[dict[str, int]]  # tn, fp, fn, tp
    at_threshold: NotRequired[AppliedThreshold]  # the stored operating point, where there is one
    at_half: NotRequired[AppliedThreshold]  # 0.5 beside it
    at_thresholds: NotRequired[dict[str, AppliedThreshold]]  # further ones by name
    reliability: NotRequired[Reliability]
    calibration: NotRequired[dict[str, CalibrationEffect]]  # by kind
    abstention: NotRequired[Abstention]
    likelihood: NotRequired[LikelihoodEffect]


class Sizes(TypedDict):
    """How many there are; ``unit`` says what is resampled."""

    frames: int
    videos: int
    real_videos: int
    fake_videos: int
    identities: Annotated[int | None, NULL]
    clusters: int
    real_clusters: int
    fake_clusters: int
    unit: str


class MethodResults(TypedDict):
    """One method's fakes against the dataset's reals."""

    video: LevelResults
    n: Sizes
    reason: NotRequired[str]


class DatasetResults(TypedDict):
    """The numbers of one dataset."""

    frame: LevelResults
    video: LevelResults
    n: Sizes
    reason: NotRequired[str]  # why numbers or intervals are NaN
    reading: NotRequired[str]  # what the AUC is worth, in words
    aggregations: NotRequired[dict[str, Numbers]]  # AUC by how frame scores become a video score
    methods: dict[str, MethodResults]
    bench: NotRequired[dict[str, float]]  # as DeepfakeBench computes them, for its tables only
    attrition: NotRequired[dict[str, object]]  # `attrition.Attrition`: its videos without a score
    frames: NotRequired[dict[str, object]]  # `attrition.FrameLoss`: frames without one in its scored videos


class MatrixRow(TypedDict):
    """Video AUC on a dataset, and how far it falls behind the source's."""

    train: str
    test: str
    level: str
    auc: float
    ci: Interval
    gap_to_source: float
    gap_ci: Interval
    paired: bool


class CrossAucRow(TypedDict):
    """Reals of one dataset against fakes of one: see `cross_auc.cross_auc`."""

    reals: str
    fakes: str
    auc: float
    auc_ci: Interval
    real_videos: int
    fake_videos: int


class ContaminationRow(TypedDict):
    """What of a test set a detector has seen: see `contamination.contamination`."""

    test: str
    trained: str  # known, possible, unknown or none
    selected: str
    videos: int
    why: list[str]


class Robustness(TypedDict):
    """One dataset under one perturbation: see `perturbing.drift.robustness`."""

    dataset: str
    perturbation: str
    severity: Annotated[int | None, NULL]
    where: str
    setting: str
    videos: int
    real_videos: int
    fake_videos: int
    threshold: float
    auc: float
    auc_ci: Interval
    auc_clean: NotRequired[float]
    auc_change: float
    auc_change_ci: Interval


class ProtocolRow(TypedDict):
    """One test that a protocol asks of a detector: see `protocols.run_protocols`."""

    protocol: str
    title: str
    detector: str
    train: str
    test: str
    level: str
    auc: float
    auc_ci: Interval
    gap: float
    gap_ci: Interval
    gap_is: str
    is_reference: bool  # the gap is measured from this row
    paired: bool
    real_videos: int
    fake_videos: int
    threshold: Annotated[StoredThreshold | None, NULL]  # the detector's stored one
    fpr: float  # at it, as the three below; NaN without one
    tpr: float
    fpr_ci: Interval
    tpr_ci: Interval
    selection_rule: str
    predictions: list[str]  # files
    rows: NotRequired[list[str]]  # which count, and what was left out


class CoverageRow(TypedDict):
    """A detector on the videos that all scored, where these are not all of its own."""

    dataset: str
    detector: str
    videos: int  # that it scored
    common: int  # that all of them scored
    auc: float
    auc_ci: Interval


class PairedMetric(TypedDict):
    """A metric of two runs, and a minus b."""

    a: float
    a_ci: Interval
    b: float
    b_ci: Interval
    difference: float
    difference_ci: Interval


class Paired(TypedDict):
    """Two runs on the same videos: see `paired.paired_difference`."""

    metrics: dict[str, PairedMetric]
    paired: bool
    n: dict[str, int]
    left_out: str  # in words


class SeedMetric(TypedDict):
    """A metric of several trainings."""

    mean: float
    ci: Interval
    sd: float  # between them
    each: list[float]


class AcrossSeeds(TypedDict):
    """Trainings that differ in their seed: see `paired.across_seeds`."""

    seeds: int
    videos: int
    metrics: dict[str, SeedMetric]
    left_out: str


class SeedRow(TypedDict):
    """Several trainings of one detector on a dataset: see `seeds.seed_rows`."""

    detector: str
    members: list[str]  # their names in the collection
    train: str
    test: str
    level: str
    seeds: int
    videos: int
    auc: float
    auc_ci: Interval
    auc_sd: float  # between seeds
    auc_each: list[float]
    fpr: NotRequired[float]  # as the three below, where each training has a stored threshold: each at its own
    tpr: NotRequired[float]
    fpr_ci: NotRequired[Interval]
    tpr_ci: NotRequired[Interval]
    left_out: str
    rows: NotRequired[list[str]]
    selection_rule: str


class Settings(TypedDict):
    """How the numbers came about."""

    threshold: NotRequired[StoredThreshold]  # absent for several detectors, as are the keys below
    decision: NotRequired[str]
    n_boot: int
    seed: int
    confidence: float
    unit: str
    interval: str
    delong: NotRequired[str]
    gap: NotRequired[str]
    aggregation: str
    top_k: NotRequired[int]
    rows: NotRequired[list[str]]  # which count, and what was left out
    noun: NotRequired[str]  # what was scored, where that is not videos: picture, file
    source: NotRequired[str]
    selection_rule: NotRequired[str]
    detector: NotRequired[str]
    checkpoint: NotRequired[str]
    scores: NotRequired[dict[str, str]]  # of each dataset, `origin.scores_digest`


@KEPT
class Results(TypedDict):
    """``metrics.json`` of one detector."""

    datasets: dict[str, DatasetResults]
    matrix: list[MatrixRow]
    settings: Settings
    contamination: NotRequired[list[ContaminationRow]]
    cross_auc: NotRequired[list[CrossAucRow]]  # where there are several datasets
    robustness: NotRequired[list[Robustness]]  # where the table has perturbed rows
    protocols: NotRequired[list[ProtocolRow]]
    unscored: NotRequired[dict[str, dict[str, object]]]  # datasets without any score


class DetectorEntry(TypedDict):
    """One of several detectors, and the folder of its own results."""

    folder: str
    predictions: list[str]
    trained_on: list[str]
    detector: str
    checkpoint: str
    selection_rule: str
    threshold: StoredThreshold


class LeadOver(TypedDict):
    """The leader's AUC minus that of another detector, on the videos that both scored."""

    name: str
    difference: float
    difference_ci: Interval
    reading: str  # see `compare.reading`; a is the leader


class LeaderRow(TypedDict):
    """Who ranks best on a dataset that no detector was trained on: see `leaders.leader_rows`."""

    test: str
    detector: str
    auc: float
    against: list[LeadOver]


@KEPT
class CollectionResults(TypedDict):
    """``metrics.json`` of several detectors."""

    detectors: dict[str, DetectorEntry]
    protocols: list[ProtocolRow]
    seeds: NotRequired[list[SeedRow]]
    leaders: NotRequired[list[LeaderRow]]
    coverage: NotRequired[list[CoverageRow]]
    cross_auc: NotRequired[dict[str, list[CrossAucRow]]]  # by detector
    contamination: NotRequired[dict[str, list[ContaminationRow]]]  # by detector
    settings: Settings


class EnsembleAgainst(TypedDict):
    """The ensemble (a) minus a member or the plain mean (b): see `paired.paired_difference`."""

    name: str
    metrics: dict[str, PairedMetric]
    readings: dict[str, str]


class EnsembleDataset(TypedDict):
    """An ensemble on one dataset."""

    videos: int
    real_videos: int
    fake_videos: int
    against: list[EnsembleAgainst]


@KEPT
class EnsembleResults(TypedDict):
    """``ensemble.json``: see `ensemble_tables.make_ensemble`."""

    rule: str
    method: str
    members: list[str]
    weights: Annotated[list[float] | None, NULL]
    thresholds: list[float]
    fitted_on: str
    datasets: dict[str, EnsembleDataset]
    dropped: dict[str, int]  # by member: rows of others that it lacks
    ties: int
    rows: int
    notes: list[str]
    n_boot: int
    seed: int
