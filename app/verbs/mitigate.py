"""``unmasked mitigate``: predictions -> what each mitigation does to a gap, and its cost."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import BeforeValidator, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.reading import (
    Beside,
    ReadAs,
    Replaces,
    check_nothing_lost,
    print_rows,
    read_scores,
)
from unmasked.app.verbs.scan import as_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unmasked.fairness.records import Remedy

METHODS = (
    *("group_thresholds", "capped_group_thresholds", "threshold_optimizer"),
    *("group_platt", "group_isotonic"),
)
Names = Annotated[tuple[str, ...], BeforeValidator(as_list)]


class Config(ReadAs, Beside, Replaces):
    """Which gap is to be closed, by which means, fitted on whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: Path = Field(
        description="a .parquet or .csv with dataset, video, split, label, score and group columns"
    )
    by: Names = Field(description="attributes, alone or crossed, each mitigated by itself: [skin_tone_group]")
    out: Path = Field(
        cast(Path, None),  # `Beside` puts a folder there
        description="folder for mitigation.json, mitigation.csv and mitigation.md; that of the predictions "
        "if not given",
    )
    methods: Names = Field(METHODS, description=f"what is tried: {', '.join(METHODS)}")
    retrained: dict[str, Path] = Field(
        {}, description="predictions of detectors trained otherwise, on the same faces: retrained.NAME=FILE"
    )
    source: str = Field("", description="dataset to fit on; may be left out if one has rows of `split` only")
    split: str = Field("val", description="the source's rows to fit on; all others are judged")
    rule: str = Field(
        "fpr:0.10", description="the single threshold before: eer, youden or fpr:x, on the rows to fit on"
    )
    metric: Literal["fpr", "tpr", "selection_rate", "accuracy", "balanced_accuracy"] = Field(
        "fpr", description="whose gap between groups is to be closed"
    )
    constraints: str = Field(
        "false_positive_rate_parity", description="what fairlearn's ThresholdOptimizer makes equal"
    )
    level: Literal["video", "frame"] = Field("video", description="what is decided on: videos, or frames")
    min_fit: int = Field(
        10, ge=1, description="people (or videos) of a class from which a group stands alone in a fit"
    )
    min_clusters: int = Field(
        10, ge=1, description="people (or videos) of a class that a group needs to be compared"
    )
    wrong: float = Field(0.2, ge=0, le=1, description="share of wrong groups in the what-if")
    n_boot: int = Field(2000, ge=100, description="bootstrap resamples behind each interval")
    seed: int = Field(0, ge=0, description="seed of the resampling")


def run(config: Config) -> None:
    """Fits every method, writes before and after, and prints the tables."""
    from unmasked.evaluation.origin import Origin
    from unmasked.evaluation.predictions import noun_of
    from unmasked.evaluation.row_counts import RowCount
    from unmasked.evaluation.wording import name_files
    from unmasked.fairness.mitigation.compare import Comparison
    from unmasked.fairness.mitigation.folds import left_out_of_folds
    from unmasked.fairness.mitigation.run import COLUMNS, Settings, cells, mitigate, write
    from unmasked.fairness.mitigation.words import advice
    from unmasked.fairness.records import MITIGATION, by_question

    settings = Settings(
        source=config.source,
        split=config.split,
        rule=config.rule,
        level=config.level,
        constraints=config.constraints,
        min_fit=config.min_fit,
        comparison=Comparison(
            metric=config.metric,
            min_clusters=config.min_clusters,
            n_boot=config.n_boot,
            wrong=config.wrong,
            random_state=config.seed,
        ),
    )
    count = RowCount()
    used = {part.strip() for name in config.by for part in re.split(r"[*×]", name)}
    predictions = read_scores(config, config.predictions, count=count, used=used)
    found = mitigate(
        predictions,
        config.by,
        config.methods,
        retrained={name: read_scores(config, path, used=used) for name, path in config.retrained.items()},
        settings=settings,
    )
    made_from = partial(Origin.from_dict, found["made_from"])
    check_nothing_lost(
        config, config.out / MITIGATION, made_from, lambda there: Origin.from_dict(there.get("made_from"))
    )
    path = write(found, config.out)
    count.leave_out(left_out_of_folds(predictions, source=config.source, split=config.split))
    print_rows(count, noun=noun_of(predictions))
    for (attribute, dataset), entries in by_question(found).items():
        print_result(
            f"{config.metric.upper()} gap by {attribute}, {dataset}, in percentage points [95 % interval]; "
            f"fitted on {entries[0]['fitted_on']}:"
        )
        _print_table([COLUMNS, *map(cells, entries)])
        if line := advice(entries):
            print_result(f"  {name_files(line, noun_of(predictions), [*config.by])}")
    for note in found.get("notes", []):
        print_result(name_files(f"note on {note}", noun_of(predictions), [*config.by]))
    _print_warnings(found["methods"])
    for name, reason in found.get("skipped", {}).items():
        print_result(f"not judged: {name}: {reason}")
    print_result(f"before and after: {path}")


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        print_result(f"  {line.rstrip()}")


def _print_warnings(entries: Sequence[Remedy]) -> None:
    from unmasked.fairness.mitigation.words import joined_warnings
    from unmasked.fairness.verdicts import people

    for entry in entries:
        if entry["levelling_down"]:
            print_result(
                f"LEVELLING DOWN: {entry['name']} on {entry['applied_to']} shrinks the gap by making "
                f"{people(entry['attribute'], str(entry['before']['best_group']))} worse off; "
                f"{people(entry['attribute'], str(entry['before']['worst_group']))} gain nothing"
            )
    for warning in joined_warnings(entries):
        print_result(f"note on {warning}")
