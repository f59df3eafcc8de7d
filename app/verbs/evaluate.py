"""``unmasked evaluate``: predictions -> metrics with intervals, cross-dataset matrix, thresholds."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.app.verbs.scan import Names

if TYPE_CHECKING:
    from unmasked.evaluation.collection import Scored
    from unmasked.evaluation.published import Published
    from unmasked.evaluation.tables import Table
    from unmasked.evaluation.thresholds import Threshold


Stated = str | dict[str, str]


class Config(BaseModel):
    """Which predictions are evaluated, and at which threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: Path = Field(
        description="a .parquet or .csv with dataset, video, label (1 = fake), score = P(fake); or a folder "
        "of such files, each of one detector"
    )
    out: Path = Field(
        Path("runs/ucf"), description="folder for metrics.json, metrics.md, metrics.tex and thresholds.json"
    )
    source: Stated = Field(
        "",
        description="dataset that the detector was trained on, if neither its card nor a column trained_on "
        "says it; in a folder also {FILE: dataset}",
    )
    held_out: Stated = Field(
        "", description="method that was left out of training, or {FILE: method}; else column held_out"
    )
    selection: Stated = Field(
        "", description="how the checkpoint was chosen, or {FILE: how}, if its card does not say it"
    )
    rules: Names = Field(
        ("eer", "fpr:0.10"),
        description="thresholds fitted on the source's val rows, the first for tables: eer, youden, fpr:x",
    )
    thresholds: Path | None = Field(None, description="a stored thresholds.json to apply instead of fitting")
    protocols: Names = Field(
        ("all",), description="what to ask: names in configs/protocols, or YAML files; all, or none with []"
    )
    published: Names = Field(
        (), description="numbers of others to put below, apart: names in configs/published, or YAML files"
    )
    n_boot: int = Field(2000, ge=0, description="bootstrap resamples behind each interval")
    seed: int = Field(0, ge=0, description="seed of the resampling")


def run(config: Config) -> None:
    """Evaluates every detector on every dataset, writes the results and prints the matrix."""
    from unmasked.evaluation.collection import Stated as Said
    from unmasked.evaluation.collection import collect
    from unmasked.evaluation.protocols import check_names, load_protocols, run_protocols
    from unmasked.evaluation.published import load_published

    protocols = load_protocols(config.protocols or ())
    published = load_published(config.published or ())
    said = Said(source=config.source, held_out=config.held_out, selection=config.selection)
    scored, notes = collect(config.predictions, said, cards=config.out)
    check_names(protocols, scored)
    for note in notes:
        print_result(f"  not predictions: {note}")
    found = [_evaluated(config, detector) for detector in scored]
    points = {
        detector.name: thresholds[0]
        for detector, (_, thresholds) in zip(scored, found, strict=True)
        if thresholds
    }
    rows = run_protocols(scored, protocols, thresholds=points, n_boot=config.n_boot, seed=config.seed)
    if len(scored) == 1:
        results, thresholds = found[0]
        results["protocols"] = rows
        _write_results(config.out, results, thresholds, published)
        _print_matrix(results)
    else:
        _write_collection(config.out, scored, found, rows, published)
    print_result(
        f"all metrics with intervals: {config.out / 'metrics.json'}; as tables: {config.out / 'metrics.md'}"
    )


def _evaluated(config: Config, detector: Scored) -> tuple[dict[str, Any], list[Threshold]]:
    """The results of one detector, and the thresholds that they are at, the first for tables."""
    from unmasked.evaluation.evaluate import evaluate

    thresholds = _thresholds(config, detector)
    results = evaluate(
        detector.predictions,
        threshold=thresholds[0] if thresholds else None,
        thresholds={threshold.rule: threshold for threshold in thresholds[1:]},
        n_boot=config.n_boot,
        seed=config.seed,
        source=detector.training.source,
        selection_rule=detector.training.selection_rule,
    )
    return results, thresholds


def _write_results(
    folder: Path, results: dict[str, Any], thresholds: list[Threshold], published: list[Published]
) -> None:
    """One detector's metrics as JSON, Markdown and LaTeX, and its thresholds."""
    from unmasked.datasets.files import write_json
    from unmasked.evaluation.tables import result_tables

    write_json(folder / "metrics.json", results)
    _write_tables(folder, result_tables(results), published, results["settings"])
    if thresholds:
        fitted = {threshold.rule: threshold.to_dict() for threshold in thresholds}
        write_json(folder / "thresholds.json", {"threshold": thresholds[0].to_dict(), "thresholds": fitted})


def _write_collection(
    folder: Path,
    scored: list[Scored],
    found: list[tuple[dict[str, Any], list[Threshold]]],
    rows: list[dict[str, Any]],
    published: list[Published],
) -> None:
    """Every detector's results in a folder of its own, and the protocols over all of them."""
    from unmasked.datasets.files import write_json
    from unmasked.evaluation.tables import protocol_tables

    detectors = {}
    for detector, (results, thresholds) in zip(scored, found, strict=True):
        own = [row for row in rows if row["detector"] == detector.name]
        place = folder_name(detector.name)
        _write_results(folder / place, {**results, "protocols": own}, thresholds, [])
        detectors[detector.name] = {
            "folder": place,
            "predictions": list(detector.files),
            "trained_on": list(detector.training.datasets),
            **{key: results["settings"][key] for key in ("selection_rule", "checkpoint", "threshold")},
        }
    settings = {
        key: found[0][0]["settings"][key] for key in ("n_boot", "seed", "confidence", "unit", "aggregation")
    }
    write_json(folder / "metrics.json", {"detectors": detectors, "protocols": rows, "settings": settings})
    _write_tables(folder, protocol_tables(rows), published, {})
    _print_protocols(rows)


def _write_tables(
    folder: Path, tables: list[Table], published: list[Published], settings: dict[str, Any]
) -> None:
    from unmasked.datasets.files import write_text
    from unmasked.evaluation.published import published_table
    from unmasked.evaluation.tables import as_latex, as_markdown

    tables = [*tables, *(published_table(one, settings) for one in published)]
    write_text(folder / "metrics.md", as_markdown(tables))
    write_text(folder / "metrics.tex", as_latex(tables))


def folder_name(name: str) -> str:
    """A detector's name as that of a folder, in signs that every file system takes.

    >>> folder_name("UCF (run a/b)")
    'UCF-run-a-b'
    """
    return re.sub(r"[^A-Za-z0-9._+]+", "-", name).strip("-.") or "detector"


def stored_threshold(path: Path) -> Threshold:
    """The threshold in a ``thresholds.json``.

    Raises:
        InputError: the file is absent or holds no threshold.
    """
    import json

    from unmasked.datasets.errors import InputError
    from unmasked.evaluation.thresholds import Threshold

    try:
        return Threshold.from_dict(json.loads(path.read_text(encoding="utf-8"))["threshold"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"thresholds file {path} cannot be used ({type(error).__name__}: {error}); "
            "give the thresholds.json that `unmasked evaluate` wrote"
        ) from error


def _thresholds(config: Config, detector: Scored) -> list[Threshold]:
    """The stored threshold, else those fitted on the source's validation rows, else none: 0.5 is used."""
    from unmasked.evaluation.fitted import fit_threshold

    if config.thresholds is not None:
        return [stored_threshold(config.thresholds)]
    predictions, source = detector.predictions, detector.training.source
    if source is None or "split" not in predictions:
        return []
    val = predictions[predictions["split"] == "val"]
    # A source that the user names must have these rows; one that only a card names need not be here.
    if val.empty or (not config.source and source not in set(val["dataset"])):
        return []
    return [fit_threshold(predictions, rule, dataset=source) for rule in config.rules or ()]


def _print_matrix(results: dict[str, Any]) -> None:
    print_result("video AUC with 95 % interval:")
    width = max(len(row["test"]) for row in results["matrix"])
    for row in results["matrix"]:
        low, high = row["ci"]
        n = results["datasets"][row["test"]]["n"]
        interval = "" if math.isnan(low) else f"[{low:.3f}, {high:.3f}]"
        value = "undefined" if math.isnan(row["auc"]) else f"{row['auc']:.3f} {interval}"
        print_result(
            f"  {row['test']:<{width}}  {value:<20} "
            f"({n['real_videos']} real and {n['fake_videos']} fake videos)"
        )


def _print_protocols(rows: list[dict[str, Any]]) -> None:
    from unmasked.evaluation.tables import gap_text, with_interval

    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        asked = [row for row in rows if row["protocol"] == protocol]
        print_result(f"{asked[0]['title']}: {asked[0]['level']} AUC with 95 % interval, and gap")
        width = [max(len(row[key]) for row in asked) for key in ("detector", "train", "test")]
        for row in asked:
            named = "  ".join(
                f"{row[key]:<{size}}" for key, size in zip(("detector", "train", "test"), width, strict=True)
            )
            print_result(f"  {named}  {with_interval(row['auc'], row['auc_ci'])}  {gap_text(row)}")
