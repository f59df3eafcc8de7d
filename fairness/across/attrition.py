"""Whose videos have no score: shares by group and class, with tests of the difference.

A detector is fair or not on the videos that it scores. Where no face is found in the videos of one group, its
people cannot be scored at all, and every error rate by group is silent about it.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict

from unmasked.datasets.errors import InputError
from unmasked.evaluation.attrition import lost_of_splits
from unmasked.evaluation.levels import clusters_of
from unmasked.evaluation.predictions import evaluated_rows
from unmasked.evaluation.wording import capitalise, interval_in_100, p_text, percent, points
from unmasked.fairness.groups import UNKNOWN, group_columns
from unmasked.fairness.result import Audit, audit_rows
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.comparisons import judge_tests
from unmasked.fairness.statistics.slices import Rows
from unmasked.fairness.verdicts import detectable_sentence, difference_text, never_or_always, people, title
from unmasked.preprocessing.lost import KEY, class_of

CLASS = "class"  # the attribute of the test of reals against fakes
# A lost video is one that is "called fake": shares of it have the intervals and tests of FPR and TPR.
RATES = {"fpr": "real", "tpr": "fake"}
NOUNS = {"real": "real videos", "fake": "fakes", "": "videos"}
Name = Annotated[str, BeforeValidator(lambda value: "" if value is None or value != value else str(value))]


class GroupLoss(BaseModel):
    """The videos of a group and class that were given, and how many have no score."""

    model_config = ConfigDict(frozen=True)

    attribute: str
    group: str
    of: str  # real or fake
    given: int
    lost: int
    share: float
    share_ci: tuple[float, float]
    is_compared: bool  # large enough for the test


class LossTest(BaseModel):
    """Whether groups differ in the share of their videos without a score.

    The fields are those of `Audit.tests`; ``of`` is real or fake, "" where the groups are the classes.
    """

    model_config = ConfigDict(frozen=True)

    attribute: str
    of: str
    difference: float
    difference_ci: tuple[float, float]
    chance: float
    detectable: float = float("nan")
    p_adjusted: float
    verdict: str
    worst_group: Name
    best_group: Name


class LossAudit(BaseModel):
    """The videos of one dataset that have no score, by group.

    Attributes:
        given, lost: videos.
        groups: a row for each group and class.
        tests: a row for each attribute and class, and one of reals against fakes.
        not_tested: attribute -> why its groups cannot be compared.
        origin: the file that says which videos were lost.
    """

    model_config = ConfigDict(frozen=True)

    given: int
    lost: int
    groups: list[GroupLoss]
    tests: list[LossTest]
    not_tested: dict[str, str]
    origin: str

    @property
    def disparities(self) -> list[str]:
        """A sentence for each difference that was shown."""
        return [self._sentence(test) for test in self._shown()]

    @property
    def shown_between(self) -> set[str]:
        """What surely loses unlike shares of its videos: "groups", "classes", both or nothing."""
        return {"classes" if test.attribute == CLASS else "groups" for test in self._shown()}

    def _shown(self) -> list[LossTest]:
        return [test for test in self.tests if test.verdict == "disparity"]

    def sentences(self) -> list[str]:
        """What was found, differences first."""
        told = [f"{self.lost} of {self.given} videos have no score", *self.disparities]
        for test in self.tests:
            if test.verdict in ("inconclusive", "equivalent"):
                told.append(self._sentence(test))
        return told + [f"without a score by {title(name)}: {why}" for name, why in self.not_tested.items()]

    def _sentence(self, test: LossTest) -> str:
        what = NOUNS[test.of]
        if test.verdict != "disparity":
            shown = (
                "about equally often" if test.verdict == "equivalent" else "no difference was shown in how"
            )
            gap = f"a difference of {points(test.difference)}, {interval_in_100(test.difference_ci)}"
            among = "reals and fakes" if test.attribute == CLASS else f"groups of {title(test.attribute)}"
            if test.verdict == "equivalent":
                return f"{capitalise(what)} of {among} have no score {shown} ({gap})"
            is_one_share = never_or_always([row.share for row in self._rows(test)])
            power = "" if is_one_share else f"{detectable_sentence(test.detectable)} "
            return (
                f"Between {among} {shown} often {what} have no score ({gap}). {power}That is not proof of "
                "equality"
            )
        worst, best = (self._share(test, group) for group in (test.worst_group, test.best_group))
        if test.attribute == CLASS:
            whom, other = NOUNS[test.worst_group], NOUNS[test.best_group]
        else:
            whom = f"{what} of {people(test.attribute, test.worst_group)}"
            other = f"those of {people(test.attribute, test.best_group)}"
        return (
            f"{capitalise(whom)} have no score in {percent(worst)} of cases, {other} in "
            f"{percent(best)} ({difference_text(test.difference, test.difference_ci, worst - best)}, "
            f"p = {p_text(test.p_adjusted)}): no error rate says anything of these videos"
        )

    def _share(self, test: LossTest, group: str) -> float:
        return next(row.share for row in self._rows(test) if row.group == group)

    def _rows(self, test: LossTest) -> list[GroupLoss]:
        """The groups of a test."""
        return [
            row for row in self.groups if row.attribute == test.attribute and row.of in (test.of, row.group)
        ]


def audit_losses(
    predictions: pd.DataFrame, lost: pd.DataFrame, by: list[str], settings: Settings, *, origin: str = ""
) -> dict[str, LossAudit]:
    """What was lost of each dataset that lost anything, by group.

    Args:
        predictions: with the attributes as columns; those rows count that an audit counts.
        lost: see `unmasked.evaluation.attrition.find_lost`, with the attributes as columns.
        by: attributes, see `groups.group_columns`.
        settings: numbers of resamples, support, seed; its unit and level are set here.
        origin: the file that says which videos were lost.
    """
    rows = evaluated_rows(predictions)
    lost = lost_of_splits(lost, rows)
    found = {}
    for dataset in lost["dataset"].unique():
        scored = rows[rows["dataset"] == dataset]
        scored = scored.drop_duplicates([name for name in KEY if name in scored])
        gone = lost[lost["dataset"] == dataset]
        gone = gone[[name for name in gone if name in scored or name == "label"]]
        table = pd.concat([scored, gone.astype(object)], ignore_index=True)
        is_lost = np.arange(len(table)) >= len(scored)
        found[str(dataset)] = _audit_dataset(table, is_lost, by, settings, origin)
    return found


def _audit_dataset(
    table: pd.DataFrame, is_lost: np.ndarray, by: list[str], settings: Settings, origin: str
) -> LossAudit:
    counts = {"given": len(table), "lost": int(is_lost.sum()), "origin": origin}
    known = table["label"].notna().to_numpy()
    table, is_lost = table[known].reset_index(drop=True), is_lost[known]
    if "identity" in table:
        table["identity"] = table["identity"].astype(object)
    label = table["label"].to_numpy(np.int64)
    groups, not_tested = _groups(table, is_lost, by)
    rows = Rows(
        label=label,
        score=is_lost.astype(np.float64),
        cluster=pd.factorize(clusters_of(table))[0].astype(np.int64),
        video=np.arange(len(table)),
        frames=np.ones(len(table), dtype=np.int64),
    )
    audits = [] if groups.empty else [audit_rows(rows, groups, settings)]
    classes = pd.DataFrame({CLASS: table["label"].map(class_of)})
    # One rate over both classes: all are taken for reals, and the groups are the classes.
    audits.append(audit_rows(_as_reals(rows), classes, settings))
    tests = pd.concat([audit.tests for audit in audits], ignore_index=True)
    pairs = [pair for audit in audits for pair in audit._pair_tests]
    kept = tests["metric"].isin(RATES) & ((tests["attribute"] != CLASS) | (tests["metric"] == "fpr"))
    tests = judge_tests(tests[kept], [pairs[place] for place in np.flatnonzero(kept)], settings)
    return LossAudit(
        **counts,
        groups=[row for audit in audits for row in _group_losses(audit)],
        tests=[_loss_test(row) for row in tests.to_dict("records")],
        not_tested=not_tested,
    )


def _groups(table: pd.DataFrame, is_lost: np.ndarray, by: list[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """The groups of every video, and why some attributes say nothing of the lost ones."""
    columns, reasons = {}, {}
    for name in by:
        try:
            column = group_columns(table, [name]).iloc[:, 0]
        except InputError as error:
            reasons[name] = str(error)
            continue
        of_lost = column[is_lost]
        if len(of_lost) and (of_lost == UNKNOWN).all():
            # Shares of nothing in every group would look like a fair loss.
            reasons[str(column.name)] = (
                f"nobody recorded the group of any of the {len(of_lost)} videos without a score; give faces= "
                "with that column, or annotations="
            )
        else:
            columns[str(column.name)] = column
    return pd.DataFrame(columns, index=table.index), reasons


def _as_reals(rows: Rows) -> Rows:
    return Rows(np.zeros_like(rows.label), rows.score, rows.cluster, rows.video, rows.frames)


def _group_losses(audit: Audit) -> list[GroupLoss]:
    found = []
    for (attribute, group), values in audit.by_group.iterrows():
        low, high = (ends.loc[(attribute, group)] for ends in audit.by_group_ci)
        for metric, of in RATES.items():
            given = int(audit.support.loc[(attribute, group), f"{of}_videos"])
            if attribute == CLASS:
                if metric != "fpr":
                    continue
                of = str(group)
            if not given:
                continue
            share = float(values[metric])
            found.append(
                GroupLoss(
                    attribute=str(attribute),
                    group=str(group),
                    of=of,
                    given=given,
                    lost=round(share * given),
                    share=share,
                    share_ci=(float(low[metric]), float(high[metric])),
                    is_compared=bool(audit.in_gap.loc[(attribute, group), metric]),
                )
            )
    return found


def _loss_test(row: dict) -> LossTest:
    # A TPR's worst group is the one with the lowest: here it is the one that loses least.
    ends = (row["worst_group"], row["best_group"])
    worst, best = ends if row["metric"] == "fpr" else ends[::-1]
    return LossTest(
        attribute=row["attribute"],
        of="" if row["attribute"] == CLASS else RATES[row["metric"]],
        difference=row["difference"],
        difference_ci=(row["ci_low"], row["ci_high"]),
        chance=row["chance"],
        detectable=row["detectable"],
        p_adjusted=row["p_adjusted"],
        verdict=row["verdict"],
        worst_group=worst,
        best_group=best,
    )
