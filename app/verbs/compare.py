"""``unmasked compare``: two runs -> paired differences, and what is unlike between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.reading import OneScore, ReadAs, Replaces, check_nothing_lost, print_rows, read_scores

if TYPE_CHECKING:
    from unmasked.evaluation.origin import Origin


class Config(OneScore, ReadAs, Replaces):
    """Which two runs are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    a: Path = Field(description="a run's folder, or a predictions file (.parquet, .csv)")
    b: Path = Field(description="the other run's; differences are a minus b")
    out: Path = Field(Path("runs/compare"), description="folder for compare.json, compare.md and compare.tex")
    level: Literal["video", "frame"] = Field("video", description="what is ranked")
    n_boot: int = Field(2000, ge=0, description="bootstrap resamples behind each interval")
    seed: int = Field(0, ge=0, description="seed of the resampling")


def run(config: Config) -> None:
    """Compares on the videos that both scored, writes the results and prints them."""
    from unmasked.datasets.documents import write_json
    from unmasked.datasets.files import write_text
    from unmasked.evaluation.collection import join_default_datasets
    from unmasked.evaluation.compare import compare, read_run
    from unmasked.evaluation.origin import Origin
    from unmasked.evaluation.predictions import noun_of
    from unmasked.evaluation.row_counts import RowCount, left_out_rows
    from unmasked.evaluation.tables import as_latex, as_markdown, compare_tables
    from unmasked.evaluation.wording import name_files

    counts = RowCount(), RowCount()
    runs = [
        read_run(path, read=partial(read_scores, config, count=count))
        for path, count in zip((config.a, config.b), counts, strict=True)
    ]
    if config.a.is_file() and config.b.is_file():
        paths, rows = (config.a, config.b), [run.rows for run in runs]
        tables = join_default_datasets(paths, rows, config.a.name, are_of_same_videos=True)
        for side, run, table in zip("ab", runs, tables, strict=True):
            if (name := table["dataset"].iloc[0]) not in set(run.rows["dataset"]):
                print_result(f"{side} has no column dataset: its rows are taken for those of {name}")
        runs = [replace(run, rows=rows) for run, rows in zip(runs, tables, strict=True)]
    for side, run in zip("ab", runs, strict=True):
        check_nothing_lost(
            config,
            config.out / "compare.json",
            partial(Origin.of_rows, run.rows),
            partial(_origin_of, side),
        )
    results = compare(
        *runs, level=config.level, aggregation=config.aggregation, n_boot=config.n_boot, seed=config.seed
    )
    tables = compare_tables(results)
    write_json(config.out / "compare.json", results)
    nouns = {noun_of(run.rows) for run in runs}
    noun = nouns.pop() if len(nouns) == 1 else "file"
    names = [*results["datasets"], *(run.name for run in runs)]
    write_text(config.out / "compare.md", name_files(as_markdown(tables), noun, names))
    write_text(config.out / "compare.tex", name_files(as_latex(tables), noun, names))
    for side, run, count in zip("ab", runs, counts, strict=True):
        print_result(f"{side}: {run.name} ({run.scored.detector})")
        count.leave_out(left_out_rows(run.scored.predictions))
        print_rows(count, run.notes, noun)
    for line in _lines(results):
        print_result(name_files(line, noun, names))
    print_result(f"all of it: {config.out / 'compare.md'}, with numbers in {config.out / 'compare.json'}")


def _origin_of(side: str, there: Mapping[str, Any]) -> Origin:
    from unmasked.evaluation.origin import Origin

    return Origin.from_dict(there.get(side))


def _lines(results: dict[str, Any]) -> Iterator[str]:
    from unmasked.evaluation.metrics import METRICS
    from unmasked.evaluation.wording import NOT_ENOUGH, value_text

    for name, block in results["datasets"].items():
        yield f"{name}, {block['n']['shared_videos']} videos that both scored, a minus b:"
        if set(block["readings"].values()) == {NOT_ENOUGH}:
            yield f"  {NOT_ENOUGH} for any difference"
            continue
        for key, found in block["metrics"].items():
            difference = value_text(found["difference"], found["difference_ci"], places=3, plus=True)
            values = f"{value_text(found['a'], places=3)} - {value_text(found['b'], places=3)}"
            title = METRICS[key].title
            yield f"  {title:<4} {values} = {difference:<26} {block['readings'][key]}"
        for side, doubt in block["reversed"].items():
            if doubt:
                yield f"  NOTE on {side}: {doubt}"
    for name, data in results["data"].items():
        if data["only_a"] or data["only_b"]:
            yield f"  {name}: {data['only_a']} videos only in a, {data['only_b']} only in b; left out"
    # Tables of strangers say nothing of themselves but the names of their detectors.
    if not results["equal"] and {row["key"] for row in results["differences"]} <= {"detector"}:
        return
    sections = [row["section"] for row in results["differences"]]
    counted = ", ".join(f"{name} ({sections.count(name)})" for name in dict.fromkeys(sections))
    yield f"unlike: {counted or 'nothing that the runs say of themselves'}; equal: {results['equal']}"
    for sentence in results["unknown"]:
        yield f"  unknown: {sentence}"
