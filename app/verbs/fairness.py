"""``unmasked fairness``: predictions -> error rates by group, with tests."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import BeforeValidator, ConfigDict, Field

from unmasked.app.inputs import Faces, read_faces
from unmasked.app.progress import print_result
from unmasked.app.verbs.reading import (
    Beside,
    ReadAs,
    Replaces,
    VideosOnly,
    check_nothing_lost,
    print_rows,
    read_scores,
)
from unmasked.app.verbs.scan import (
    AnnotationFiles,
    Codebooks,
    JoinReportFile,
    Policy,
    as_list,
    join_annotations,
)
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from unmasked.evaluation.thresholds import Threshold
    from unmasked.fairness.across.attrition import LossAudit
    from unmasked.fairness.records import Across, Mitigation
    from unmasked.fairness.result import Audit


class Config(VideosOnly, ReadAs, Beside, Replaces):
    """Whose error rates are compared, at which threshold, and how surely."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: Path = Field(
        description="a .parquet or .csv with dataset, video, label, score and group columns"
    )
    by: Annotated[tuple[str, ...], BeforeValidator(as_list)] = Field(
        description="attributes, alone or crossed: [gender,skin_tone_group,'gender × skin_tone_group']"
    )
    out: Path = Field(
        cast(Path, None),  # `Beside` puts a folder there
        description="folder for fairness.json, fairness.html, by_group.csv and other tables; that of the "
        "predictions if not given",
    )
    since: Path | None = Field(
        None,
        description="folder of an earlier audit: the scores are new ones, and are added to what is watched "
        "since then; looking every week keeps false alarms below 5 %",
    )
    threshold: float = Field(0.5, ge=0, le=1, description="a score above it is called fake")
    thresholds: Path | None = Field(
        None, description="a stored thresholds.json; wins over `threshold`, and all in it are shown"
    )
    rule: str = Field(
        "", description="which of the stored thresholds the tests are made at, e.g. fpr:0.10; the first"
    )
    level: Literal["video", "frame"] = Field(
        "video", description="what is counted: videos by mean score, or frames"
    )
    source: str = Field(
        "",
        description="dataset that gaps of the others are compared with; the one the thresholds are fitted on",
    )
    detector: str = Field("", description="whose rows are audited, where the table holds several detectors")
    against: str = Field(
        "", description="another detector on the same videos: its name in the table, or its predictions file"
    )
    against_threshold: float | None = Field(
        None, ge=0, le=1, description="that detector's own threshold; the same as here"
    )
    annotations: AnnotationFiles = ()
    codebook: Codebooks = ("auto",)
    policy: Policy = "majority"
    join_report: JoinReportFile = None
    second_annotations: Annotated[tuple[Path, ...], BeforeValidator(as_list)] = Field(
        (), description="another source's annotations of the same videos: how far both agree, and what if not"
    )
    second_codebook: Codebooks = ("auto",)
    faces: Faces | None = Field(
        None,
        description="the faces table of the predictions: whose videos have no score (else what `predict` "
        "left beside them says it), and gaps by face size and blur",
    )
    noise: Annotated[tuple[float, ...], BeforeValidator(as_list)] = Field(
        (0.02, 0.05, 0.1, 0.2), description="shares of wrong annotations whose effect on each gap is shown"
    )
    n_boot: int = Field(2000, ge=100, description="bootstrap resamples behind each interval")
    n_perm: int = Field(2000, ge=100, description="permutations behind each p-value")
    margin: float = Field(0.03, gt=0, lt=1, description="gaps surely below it are called equivalent")
    min_clusters: int = Field(
        10, ge=1, description="people (or videos) of a class that a group needs to be compared"
    )
    min_samples: int | None = Field(
        None, ge=1, description="frames of a class that a group needs; 100, or 1 where a row is a video"
    )
    seed: int = Field(0, ge=0, description="seed of resampling and permutation")
    pdf: bool = Field(False, description="write each figure as PDF, too, for a paper")


def run(config: Config) -> None:
    """Audits every dataset that can be audited, writes the results and prints the verdicts."""
    from unmasked.evaluation.row_counts import RowCount

    if config.since is not None and config.since.resolve() == config.out.resolve():
        raise InputError(
            f"since={config.since} is also the folder that is written; give the new audit another: out=FOLDER"
        )
    count = RowCount()
    used = {part.strip() for name in config.by for part in re.split(r"[*×]", name)}
    predictions = read_scores(config, config.predictions, count=count, used=used)
    # Imported once there is something to audit: a table that cannot be read is refused at once.
    from unmasked.analysis.reports.fairness.page import write_page
    from unmasked.analysis.reports.run.folder import origin_of_audits
    from unmasked.evaluation.direction import reversals
    from unmasked.evaluation.metrics import rows_of_worst_face
    from unmasked.evaluation.origin import Origin
    from unmasked.evaluation.predictions import evaluated_rows, noun_of
    from unmasked.evaluation.wording import name_files
    from unmasked.fairness.across import monitoring
    from unmasked.fairness.across.run import Beside, compare_across, source_of
    from unmasked.fairness.records import FILE
    from unmasked.fairness.run import write
    from unmasked.fairness.selection import rows_of_one

    if config.annotations:
        predictions = join_annotations(
            predictions, config.annotations, config.codebook, policy=config.policy, report=config.join_report
        )
    if config.faces is not None:
        predictions = _add_qualities(predictions, config.faces)
    if config.aggregation == "worst_face":
        given = len(predictions)
        predictions = rows_of_worst_face(predictions)
        count.leave_out({"of faces other than the worst of their video": given - len(predictions)})
    audited = rows_of_one(predictions, detector=config.detector) if config.detector else predictions
    check_nothing_lost(config, config.out / FILE, partial(Origin.of, audited), origin_of_audits)
    thresholds = _thresholds(config, audited)
    losses = _losses(config, predictions)
    audits, skipped = _audits(config, predictions, thresholds[0])
    against, against_name = _audit_other_detector(config, predictions, thresholds[0], audits)
    beside = Beside(
        thresholds=thresholds,
        source=config.source or source_of(thresholds, list(audits)),
        votes=_votes(config, predictions),
        second=_read_second_annotation(config, predictions),
        noises=config.noise,
        against=against,
        against_name=against_name,
    )
    more = compare_across(predictions, audits, beside, detector=config.detector or None)
    for name, loss in losses.items():
        if name in audits:
            more["datasets"][name]["attrition"] = loss.model_dump()
        else:
            skipped.setdefault(name, loss.sentences()[0])
    if mitigation := _mitigation(config.out, audited):
        more["mitigation"] = mitigation
    watched = monitoring.watch(audits, config.since) if config.since is not None else None
    if watched is not None:
        more["monitor"] = watched
    more["made"] = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    page = write_page(write(audits, skipped, config.out, more=more), config.out, has_pdf=config.pdf)
    if watched is not None and config.since is not None:
        # Last: if anything above fails, these scores are still new ones.
        monitoring.write(watched, config.since)
    count.leave_out(_unaudited_rows(predictions, audits, config.detector or None))
    noun = noun_of(audited)
    print_rows(count, [note for audit in audits.values() for note in audit.origin.get("rows", ())], noun)
    for doubt in reversals(evaluated_rows(audited), config.aggregation):
        print_result(name_files(f"NOTE: {doubt}", noun, list(audits)))
    for line in lines(audits, skipped, more, losses):
        print_result(name_files(line, noun, [*audits, *config.by]))
    print_result(f"fairness report: {page}; its figures with their numbers: {page.parent / 'figures'}")


def lines(
    audits: dict[str, Audit], skipped: dict[str, str], more: Across, losses: Mapping[str, LossAudit]
) -> list[str]:
    """Who has no score, the verdicts, what pooling hid, and which gaps surely changed."""
    from unmasked.evaluation.wording import change_text
    from unmasked.fairness.across.monitoring import sentences
    from unmasked.fairness.verdicts import scan_sentence

    found = sentences(more["monitor"]) if "monitor" in more else []
    for name, audit in audits.items():
        found.append(f"{name}:")
        if name in losses:
            found += [f"  {sentence}" for sentence in losses[name].sentences()]
        absent = _words_of_absent_class(audit)
        found += [f"  {sentence}" for sentence in audit.verdicts if not absent or absent not in sentence]
        if (scan := audit.scan) is not None:
            found.append(f"  {scan_sentence(scan, audit.settings.unit)}")
        found += uncompared_groups(audit)
        found += [
            f"  by {entry['by'].replace('_', ' ')}, {entry['attribute']}: {entry['note']}"
            for entry in more["datasets"][name]["strata"]
            if entry["simpson"]
        ]
    for row in more["changes"]:
        low, high = row["change_ci"]
        if low > 0 or high < 0:
            found.append(
                f"the {row['metric'].upper()} gap by {row['attribute']} changes by "
                f"{change_text(row['change'], row['change_ci'])} points from "
                f"{row['source']} to {row['target']}"
            )
    found += [f"not audited: {name}: {reason}" for name, reason in skipped.items()]
    return found


def _words_of_absent_class(audit: Audit) -> str:
    """What verdicts call the error of the class that has no row, "" where both have some."""
    if audit.selection is None or len(present := set(audit.selection.rows.label)) > 1:
        return ""
    return "how often fakes are missed" if present == {0} else "how often real videos are called fake"


def uncompared_groups(audit: Audit) -> list[str]:
    """Groups in no comparison, or of one class only; the smallest one; the unknown."""
    from unmasked.evaluation.wording import count_text, support_text
    from unmasked.fairness.groups import UNKNOWN

    found = []
    support, unit = audit.support, audit.settings.unit
    least = support_text(audit.settings.min_clusters, audit.settings.min_samples, unit)
    needed = f"a group needs {least} of a class (keys min_clusters and min_samples)"
    for attribute in support.index.get_level_values(0).unique():
        videos = support.loc[attribute][["real_videos", "fake_videos"]].sum(axis=1)
        by_class = audit.in_gap.loc[attribute][["fpr", "tpr"]]
        people = support.loc[attribute]["clusters"]
        size = {
            group: f"{group} ({count_text(videos[group], 'video')}"
            f"{'' if unit == 'video' else f' of {count_text(people[group], unit)}'})"
            for group in videos.index
            if group != UNKNOWN
        }
        compared = [group for group in size if by_class.loc[group].any()]
        small = [size[group] for group in size if group not in compared]
        parts = [f"too few to compare: {', '.join(small)}; {needed}"] if small else []
        for metric, kind in (("fpr", "real"), ("tpr", "fake")):
            if by_class[metric].any():
                few = [group for group in compared if not by_class.loc[group, metric]]
                counts = support.loc[attribute][f"{kind}_clusters"]
                listed = [f"{group} ({count_text(counts[group], unit)})" for group in few]
                parts += [f"too few {kind}s to compare: {', '.join(listed)}; {needed}"] if few else []
        if len(compared) > 2:
            parts.append(f"the smallest of {len(compared)} compared: {size[min(compared, key=videos.get)]}")
        if UNKNOWN in videos.index and videos[UNKNOWN]:
            parts.append(f"unknown: {videos[UNKNOWN]} of {videos.sum()} videos")
        if parts:
            found.append(f"  {attribute}: {'; '.join(parts)}")
    return found


def _unaudited_rows(
    predictions: pd.DataFrame, audits: dict[str, Audit], detector: str | None
) -> dict[str, int]:
    """How many rows no audit is of, by reason."""
    from unmasked.evaluation.row_counts import left_out_rows
    from unmasked.fairness.selection import rows_of_one

    ours = rows_of_one(predictions, detector=detector)
    counted = {"of other detectors": len(predictions) - len(ours)} | left_out_rows(ours)
    audited = sum(int(audit.selection.table["frames"].sum()) for audit in audits.values() if audit.selection)
    rest = len(predictions) - sum(counted.values()) - audited
    return counted | {"of datasets that are not audited": rest}


def _losses(config: Config, predictions: pd.DataFrame) -> dict[str, LossAudit]:
    """Whose videos have no score, by dataset, where a faces table or `predict` says it."""
    from unmasked.datasets.demographics import join_files
    from unmasked.evaluation.attrition import find_lost
    from unmasked.fairness.across.attrition import audit_losses
    from unmasked.fairness.selection import rows_of_one
    from unmasked.fairness.settings import Settings

    lost, origin = find_lost(config.predictions, predictions, config.faces)
    if lost.empty:
        return {}
    if config.annotations:
        policy = "majority" if config.policy == "frame" else config.policy
        lost, _ = join_files(
            lost, config.annotations, config.codebook, policy=policy, age_groups=config.age_groups
        )
    settings = Settings(
        n_boot=config.n_boot,
        n_perm=config.n_perm,
        margin=config.margin,
        min_clusters=config.min_clusters,
        min_samples=1,
        random_state=config.seed,
        level="video",
    )
    chosen = rows_of_one(predictions, detector=config.detector or None)
    return audit_losses(chosen, lost, list(config.by), settings, origin=Path(origin).name)


def stored_thresholds(path: Path, rule: str = "", predictions: pd.DataFrame | None = None) -> list[Threshold]:
    """All thresholds in a ``thresholds.json``, the one of the rule first.

    Raises:
        InputError: the file cannot be used, has none of the rule, or is of other weights than the
            predictions.
    """
    from unmasked.evaluation.fitted import read_fitted

    stored = read_fitted(path, predictions)
    by_rule = {stored.threshold.rule: stored.threshold, **stored.other_thresholds}
    if rule and rule not in by_rule:
        raise InputError(
            f"thresholds file {path} has none of the rule {rule!r}; it has {', '.join(by_rule)}. "
            f"Choose one of these, or fit it: unmasked evaluate … rules=[{rule}]"
        )
    chosen = by_rule.pop(rule or stored.threshold.rule)
    return [chosen, *by_rule.values()]


def _thresholds(config: Config, predictions: pd.DataFrame) -> list[Threshold]:
    """The operating points, the one that the tests are made at first."""
    from unmasked.evaluation.thresholds import Threshold

    if config.thresholds is not None:
        return stored_thresholds(config.thresholds, config.rule, predictions)
    if config.rule:
        raise InputError(f"rule={config.rule} chooses among stored thresholds; give them: thresholds=FILE")
    return [Threshold(config.threshold, "fixed" if config.threshold == 0.5 else "given")]


def _audits(
    config: Config, predictions: pd.DataFrame, threshold: Threshold
) -> tuple[dict[str, Audit], dict[str, str]]:
    from unmasked.fairness.run import audit_datasets

    optional = {} if config.min_samples is None else {"min_samples": config.min_samples}
    return audit_datasets(
        predictions,
        config.by,
        thresholds=threshold,
        level=config.level,
        detector=config.detector or None,
        n_boot=config.n_boot,
        n_perm=config.n_perm,
        margin=config.margin,
        min_clusters=config.min_clusters,
        random_state=config.seed,
        **optional,
    )


def _audit_other_detector(
    config: Config, predictions: pd.DataFrame, threshold: Threshold, audits: dict[str, Audit]
) -> tuple[dict[str, Audit], str]:
    """The audits of the other detector on the same videos, and its name; none where none is asked for."""
    from unmasked.datasets.tables import is_table
    from unmasked.evaluation.collection import join_default_datasets
    from unmasked.evaluation.thresholds import Threshold
    from unmasked.fairness.across.detectors import replace_scores
    from unmasked.fairness.selection import rows_of_one

    if not config.against:
        return {}, ""
    if config.level != "video":
        raise InputError("two detectors are compared on videos; leave out level=frame, or against")
    ours = rows_of_one(predictions, detector=config.detector or None) if config.detector else predictions
    name = config.against
    if is_table(name):
        other = read_scores(config, Path(name))
        paths = config.predictions, Path(name)
        ours, other = join_default_datasets(paths, (ours, other), config.predictions.name)
        named = other["detector"].dropna().unique() if "detector" in other else []
        name = str(named[0]) if len(named) == 1 else Path(name).stem
    else:
        other = rows_of_one(predictions, detector=name)
    ours = ours[ours["dataset"].isin(list(audits))]
    cut = threshold if config.against_threshold is None else Threshold(config.against_threshold, "given")
    found, _ = _audits(config, replace_scores(ours, other), cut)
    return found, name


def _add_qualities(predictions: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The predictions with face size and blur of each crop.

    Raises:
        InputError: the faces are not those of the predictions.
    """
    from unmasked.fairness.selection import CROP, QUALITIES

    faces = read_faces(path)
    keys = [name for name in CROP if name in predictions and name in faces and faces[name].notna().any()]
    if not {"frame", "face"} <= set(keys):
        print_result(
            "gaps by face size and blur are left out: crops are matched by dataset, video, frame and face, "
            "and the predictions have no frame and face (or columns size_px and blur)"
        )
        return predictions
    measured = faces[[*keys, *QUALITIES]].drop_duplicates(keys)
    kept = predictions.drop(columns=[name for name in QUALITIES if name in predictions])
    joined = kept.merge(measured, on=keys, how="left", indicator="found")
    if not (joined.pop("found") == "both").any():
        raise InputError(f"none of the predictions' crops is in {path}; give the faces table that was scored")
    return joined


def _votes(config: Config, predictions: pd.DataFrame) -> pd.DataFrame | None:
    """What frames of each video were annotated with, where annotation files are given."""
    import pandas as pd

    from unmasked.datasets.demographics import read_files, votes_by_video

    if not config.annotations:
        return None
    # What was taken for granted was said when they were joined.
    read = read_files(predictions, config.annotations, config.codebook, readings=[])
    return votes_by_video(predictions, pd.concat(read, ignore_index=True))


def _read_second_annotation(config: Config, predictions: pd.DataFrame) -> pd.DataFrame | None:
    """dataset, video and the attributes that the second source gives."""
    from unmasked.datasets.demographics import join_files

    if not config.second_annotations:
        return None
    videos = predictions.drop_duplicates(["dataset", "video"])
    bare = videos[[name for name in ("dataset", "video", "path", "identity") if name in videos]].reset_index(
        drop=True
    )
    second, reports = join_files(bare, config.second_annotations, config.second_codebook)
    for report in reports:
        print_result(f"second source, {report}")
    return second


def _mitigation(out: Path, predictions: pd.DataFrame) -> Mitigation | None:
    """What `unmasked mitigate` left in the folder, if it is of these scores; says so if it is not."""
    from unmasked.evaluation.origin import Origin
    from unmasked.fairness.records import MITIGATION, read_mitigation

    path = out / MITIGATION
    if not path.is_file():
        return None
    found = read_mitigation(path)
    if unlike := Origin.of(predictions).difference(Origin.from_dict(found.get("made_from"))):
        print_result(f"left out: {path}: {unlike}; run `unmasked mitigate` again, or remove the file")
        return None
    return found
