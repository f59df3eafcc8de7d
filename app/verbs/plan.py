"""``unmasked plan``: a difference between groups -> people that it takes to find it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from unmasked.app.progress import Reporter, print_result
from unmasked.app.verbs.reading import OneScore, ReadAs, print_rows, read_scores
from unmasked.app.verbs.scan import as_list
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from unmasked.fairness.planning import Need, Study
    from unmasked.fairness.result import Audit


class Config(OneScore, ReadAs):
    """What is looked for, in whom; or in a table of scores, whose groups and rates are taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gap: float = Field(0.1, gt=0, lt=1, description="how much more often the worse-off group is got wrong")
    rate: float = Field(0.1, ge=0, lt=1, description="how often everybody else is got wrong")
    groups: dict[str, float] = Field(
        {"women": 0.5, "men": 0.5}, description="shares of the people: groups={women: 0.45, men: 0.55}"
    )
    power: float = Field(0.8, ge=0.5, le=0.99, description="share of studies that are to find the difference")
    videos_per_person: int = Field(1, ge=1, description="of the class at issue, real or fake")
    icc: float = Field(0.5, ge=0, lt=1, description="correlation of the decisions on one person's videos")
    comparisons: int = Field(
        1, ge=1, description="tests that are corrected for: two (FPR, TPR) of every attribute and crossing"
    )
    predictions: Path | None = Field(
        None, description="a table of scores: what it can find, and what a study like it needs for `gap`"
    )
    by: Annotated[tuple[str, ...], BeforeValidator(as_list)] = Field(
        (), description="attributes of that table, as `fairness` takes them"
    )
    threshold: float = Field(0.5, ge=0, le=1, description="a score above it is called fake")
    dataset: str = Field("", description="which one, where the table holds several")
    detector: str = Field("", description="whose rows, where the table holds several")
    studies: int = Field(400, ge=100, description="simulated at each size")
    seed: int = Field(0, ge=0, description="seed of the simulation")
    out: Path = Field(Path("runs/plan"), description="folder for plan.json, plan.csv and plan.svg")


def run(config: Config) -> None:
    """Simulates studies, writes the curves and prints how many people are needed."""
    from unmasked.datasets.tables import write_frame
    from unmasked.fairness.planning import Study, detectable_differences

    if config.predictions is None:
        study = Study(
            config.gap,
            config.rate,
            config.groups,
            videos_per_person=config.videos_per_person,
            correlation=config.icc,
            comparisons=config.comparisons,
        )
        _plan(config, {"": ("", study)})
        return
    if not config.by:
        raise InputError("predictions= needs the attributes that are compared; give by=[gender]")
    audit = _audit(config, config.predictions)
    found = detectable_differences(audit, config.power)
    write_frame(found, config.out / "detectable.csv")
    _print_detectable(found, config.power)
    _plan(config, _studies(config, audit))


def _audit(config: Config, path: Path) -> Audit:
    from unmasked.app.verbs.fairness import uncompared_groups
    from unmasked.evaluation.metrics import rows_of_worst_face
    from unmasked.evaluation.predictions import noun_of
    from unmasked.evaluation.row_counts import RowCount, left_out_rows
    from unmasked.evaluation.wording import name_files
    from unmasked.fairness.run import audit_predictions
    from unmasked.fairness.selection import rows_of_one

    count = RowCount()
    predictions = read_scores(config, path, count=count, used=config.by)
    if config.aggregation == "worst_face":
        given = len(predictions)
        predictions = rows_of_worst_face(predictions)
        count.leave_out({"of faces other than the worst of their video": given - len(predictions)})
    audit = audit_predictions(
        predictions,
        config.by,
        threshold=config.threshold,
        dataset=config.dataset or None,
        detector=config.detector or None,
        n_boot=100,  # its intervals are not shown
        random_state=config.seed,
    )
    chosen = rows_of_one(predictions, dataset=config.dataset or None, detector=config.detector or None)
    count.leave_out({"of other datasets or detectors": len(predictions) - len(chosen)})
    count.leave_out(left_out_rows(chosen))
    noun = noun_of(chosen)
    print_rows(count, audit.origin.get("rows", ()), noun)
    for line in uncompared_groups(audit):
        print_result(name_files(line, noun, [*config.by]))
    return audit


def _print_detectable(table: pd.DataFrame, power: float) -> None:
    """Which difference of each pair of groups the table can find."""
    from unmasked.evaluation.wording import points
    from unmasked.fairness.verdicts import EVENTS, people, title

    for (attribute, metric), pairs in table.groupby(["attribute", "metric"], sort=False):
        event = EVENTS[str(metric)].format("")
        for pair in pairs.sort_values("detectable", na_position="last").to_dict("records"):
            one, other = (people(str(attribute), str(pair[end])) for end in ("group_a", "group_b"))
            size = "no difference" if pair["detectable"] != pair["detectable"] else points(pair["detectable"])
            print_result(
                f"{title(str(attribute))}, how often {event}, {one} and {other}: {100 * power:.0f} of "
                f"100 studies like this table find {size}"
            )
    if table.empty:
        print_result("no two groups of this table are large enough to be compared")


def _studies(config: Config, audit: Audit) -> dict[str, tuple[str, Study]]:
    """Attribute and a study like the table for each attribute and metric, by its words."""
    from unmasked.fairness.planning import study_of_table
    from unmasked.fairness.statistics.comparisons import TESTED
    from unmasked.fairness.verdicts import EVENTS, title

    found = {}
    for attribute in audit.support.index.unique(0):
        for metric in TESTED:
            if study := study_of_table(audit, str(attribute), metric, config.gap):
                words = f"{title(str(attribute))}, how often {EVENTS[metric].format('')}"
                found[words] = str(attribute), study
    return found


def _plan(config: Config, studies: dict[str, tuple[str, Study]]) -> None:
    """People for each study and each group that may be worse off; writes and prints them."""
    from dataclasses import asdict

    import pandas as pd

    from unmasked.analysis.figures.power import PowerDisplay
    from unmasked.analysis.html.pictures import svg_document
    from unmasked.datasets.documents import write_json
    from unmasked.datasets.files import write_text
    from unmasked.datasets.tables import write_frame
    from unmasked.fairness.planning import needs_by_group

    record: list[dict[str, Any]] = []
    tables = []
    with Reporter() as reporter:
        for place, (words, (attribute, study)) in enumerate(studies.items()):
            if place:
                reporter("comparisons", place, len(studies))
            needs = needs_by_group(
                study, power=config.power, studies=config.studies, random_state=config.seed
            )
            display = PowerDisplay(needs, config.power)
            name = "plan" if place == 0 else f"plan_{place + 1}"
            write_text(config.out / f"{name}.svg", svg_document(display.plot().figure_))
            tables.append(display.table().assign(comparison=words))
            record.append(
                {"comparison": words, "study": asdict(study), "needs": [asdict(one) for one in needs]}
            )
            for share in dict.fromkeys(study.shares.values()):
                same = [need for need in needs if study.shares[need.worse] == share]
                print_result(_sentence(words, attribute, study, same, config.power))
    if tables:
        write_frame(pd.concat(tables, ignore_index=True), config.out / "plan.csv")
    write_json(config.out / "plan.json", {"power": config.power, "studies": config.studies, "plans": record})
    print_result(f"curves: {config.out}")


def _sentence(words: str, attribute: str, study: Study, same: list[Need], power: float) -> str:
    """How many people it takes where one of these groups of one size is worse off."""
    from unmasked.evaluation.wording import is_missing, percent, points
    from unmasked.fairness.verdicts import people

    head = f"{words}: " if words else ""
    need = same[0]
    names = [people(attribute, one.worse) if attribute else one.worse for one in same]
    worse = " or on ".join(names)
    if is_missing(need.people):
        return (
            f"{head}no study of a possible size finds in {100 * power:.0f} of 100 cases that errors on "
            f"{worse} are {points(study.gap)} more frequent"
        )
    error = "" if is_missing(need.error) else f" (± {need.error:,.0f} by the simulation)"
    videos = f", {study.videos_per_person} videos each" if study.videos_per_person > 1 else ""
    return (
        f"{head}to find in {100 * power:.0f} of 100 studies that errors on {worse} are "
        f"{points(study.gap)} more frequent than the {percent(study.rate)} on others takes about "
        f"{need.people:,.0f} people{error}"
        f"{videos}, {need.people_of_group:,.0f} of them {' and as many '.join(names)}"
    )
