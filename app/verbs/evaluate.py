"""``unmasked evaluate``: predictions -> metrics with intervals, matrix, thresholds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import ConfigDict, Field

from unmasked.app.inputs import Faces, read_faces
from unmasked.app.progress import print_result
from unmasked.app.verbs.reading import (
    OVERWRITE,
    Beside,
    ReadAs,
    Replaces,
    VideosOnly,
    check_nothing_lost,
    print_rows,
    read_scores,
)
from unmasked.app.verbs.scan import Names

if TYPE_CHECKING:
    from unmasked.evaluation.collection import Scored
    from unmasked.evaluation.fitted import Fitted
    from unmasked.evaluation.metrics import Aggregation
    from unmasked.evaluation.published import Published
    from unmasked.evaluation.records import (
        CollectionResults,
        CoverageRow,
        DatasetResults,
        LeaderRow,
        Measures,
        ProtocolRow,
        Results,
        SeedRow,
        Settings,
    )
    from unmasked.evaluation.tables import Table


Stated = str | dict[str, str]


class Config(VideosOnly, ReadAs, Beside, Replaces):
    """Which predictions are evaluated, and at which threshold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: Path = Field(
        description="a .parquet or .csv with dataset, video, label (1 = fake), score = P(fake); or a folder "
        "of such files, each of one detector"
    )
    out: Path = Field(
        cast(Path, None),  # `Beside` puts a folder there
        description="folder for metrics.json, metrics.md, metrics.tex and thresholds.json; that of the "
        "predictions if not given",
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
    faces: Faces | None = Field(
        None,
        description="the faces table that was scored: counts its videos without a score; what `predict` left "
        "beside the predictions",
    )
    rules: Names = Field(
        ("eer", "youden", "fpr:0.10", "fpr:0.05", "fpr:0.01"),
        description="thresholds fitted on the source's val rows, the first for tables: eer, youden, fpr:x, "
        "fnr:x",
    )
    thresholds: Path | None = Field(
        None, description="a stored thresholds.json or detector.json to apply instead of fitting"
    )
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
    evaluate_files(config)


def evaluate_files(config: Config) -> list[Scored]:
    """What `run` does; the detectors with the rows that were evaluated."""
    from unmasked.evaluation.collection import Stated as Said
    from unmasked.evaluation.collection import collect
    from unmasked.evaluation.row_counts import RowCount, left_out_rows

    if config.faces is not None:
        read_faces(config.faces)
    said = Said(source=config.source, held_out=config.held_out, selection=config.selection)
    count = RowCount()
    notes: list[str] = []
    scored, others = collect(
        config.predictions, said, cards=config.out, read=partial(read_scores, config, count=count)
    )
    # Imported once there is something to evaluate: a table that cannot be read is refused at once.
    from unmasked.evaluation.contamination import contaminated_sentences, contamination
    from unmasked.evaluation.coverage import coverage_rows, coverage_sentences
    from unmasked.evaluation.leaders import leader_rows, leader_sentences
    from unmasked.evaluation.protocols import check_names, load_protocols, run_protocols
    from unmasked.evaluation.published import load_published
    from unmasked.evaluation.seeds import seed_rows
    from unmasked.evaluation.wording import name_files

    protocols = load_protocols(config.protocols or ())
    published = load_published(config.published or ())
    check_names(protocols, scored)
    for note in others:
        print_result(f"  not predictions: {note}")
    is_several, places = len(scored) > 1, folder_names([detector.name for detector in scored])
    _check_replaced(config, scored, {name: place if is_several else "" for name, place in places.items()})
    fitted = {detector.name: _read_or_fit(config, detector) for detector in scored}
    found = {
        detector.name: _evaluate_detector(config, detector, fitted[detector.name]) for detector in scored
    }
    for detector in scored:
        count.leave_out(left_out_rows(detector.predictions))
        notes += found[detector.name]["settings"]["rows"]
    noun = _noun(found)
    print_rows(count, notes, noun)
    keep = _names(found)
    for detector in scored:
        _count_lost(config, detector, found[detector.name])
    points = {name: one.threshold for name, one in fitted.items() if one is not None}
    asked_of = [_with_worst_faces(detector, config.aggregation) for detector in scored]
    rows = run_protocols(asked_of, protocols, thresholds=points, n_boot=config.n_boot, seed=config.seed)
    for detector in scored:
        results = found[detector.name]
        results["protocols"] = [row for row in rows if row["detector"] == detector.name]
        results["contamination"] = contamination(detector)
        place = config.out / places[detector.name] if is_several else config.out
        _write_results(place, results, fitted[detector.name], [] if is_several else published)
    if not is_several:
        _store_in_card(config.out, fitted[scored[0].name], scored[0])
        _print_matrix(found[scored[0].name])
        _print_lowest_pair(found[scored[0].name])
    else:
        seeds = seed_rows(asked_of, thresholds=points, n_boot=config.n_boot, seed=config.seed)
        coverage = coverage_rows(asked_of, n_boot=config.n_boot, seed=config.seed)
        leaders = leader_rows(
            asked_of, aggregation=config.aggregation, n_boot=config.n_boot, seed=config.seed
        )
        _write_collection(config.out, scored, found, rows, seeds, leaders, coverage, published, places)
        _print_protocols(rows, noun)
        for line in leader_sentences(leaders):
            print_result(name_files(line, noun, keep))
        for line in (*coverage_sentences(coverage), *_doubtful(found)):
            print_result(name_files(line, noun, keep))
    for detector in scored:
        for line in contaminated_sentences(detector.name, found[detector.name]["contamination"]):
            print_result(name_files(line, noun, keep))
    print_result(
        f"all metrics with intervals: {config.out / 'metrics.json'}; as tables: {config.out / 'metrics.md'}"
    )
    return scored


def _check_replaced(config: Config, scored: list[Scored], places: dict[str, str]) -> None:
    """Refuses to write over results of other scores, or over those of detectors that are not here now."""
    from unmasked.datasets.documents import read_json
    from unmasked.datasets.errors import InputError
    from unmasked.evaluation.origin import Origin

    for detector in scored:
        path, new = (
            config.out / places[detector.name] / "metrics.json",
            partial(Origin.of, detector.predictions),
        )
        check_nothing_lost(config, path, new, lambda there: Origin.from_dict(there.get("settings")))
    path = config.out / "metrics.json"
    if config.overwrite or len(scored) == 1 or not path.exists():
        return
    content = read_json(path, OVERWRITE)
    if isinstance(listed := content.get("detectors"), dict):
        there = {name for one in listed.values() for name in one.get("predictions", [])}
        lost = there - {name for detector in scored for name in detector.files}
    else:  # one detector's, which may be among these now, its dataset under another name
        digests = Origin.from_dict(content.get("settings")).scores
        here = {digest for one in scored for digest in Origin.of(one.predictions).scores.values()}
        lost = {name for name, digest in digests.items() if digest not in here}
    if lost:
        raise InputError(f"{path} would be lost: it is also of {', '.join(sorted(lost))}; {OVERWRITE}")


def _read_or_fit(config: Config, detector: Scored) -> Fitted | None:
    """What is stored in a given file, else fitted on the source's val rows, else stored in the card."""
    from unmasked.evaluation.fitted import Fitted, fit_on_source, read_fitted

    if config.thresholds is not None:
        return read_fitted(config.thresholds, detector.predictions)
    predictions, source = detector.predictions, detector.training.source
    val = predictions[predictions["split"] == "val"] if "split" in predictions else predictions.iloc[:0]
    # A source that the user names must have these rows; one that only a card names need not be here.
    if source and config.rules and len(val) and (config.source or source in set(val["dataset"])):
        return fit_on_source(predictions, config.rules, dataset=source, aggregation=config.aggregation)
    return Fitted.from_dict(detector.card) if detector.card.get("threshold") else None


def _with_worst_faces(detector: Scored, aggregation: Aggregation) -> Scored:
    """The detector with the rows whose mean is the score of a video under the aggregation."""
    from unmasked.evaluation.metrics import rows_of_worst_face

    if aggregation == "mean":
        return detector
    return replace(detector, predictions=rows_of_worst_face(detector.predictions))


def _evaluate_detector(config: Config, detector: Scored, fitted: Fitted | None) -> Results:
    from unmasked.evaluation.evaluate import evaluate_fitted

    return evaluate_fitted(
        detector.predictions,
        fitted,
        n_boot=config.n_boot,
        seed=config.seed,
        source=detector.training.source,
        aggregation=config.aggregation,
        selection_rule=detector.training.selection_rule,
    )


def _count_lost(config: Config, detector: Scored, results: Results) -> None:
    """Puts the videos and frames without a score into the results, and prints how many there are."""
    import pandas as pd

    from unmasked.evaluation.attrition import add_attrition, attrition, find_lost, frame_losses, lines
    from unmasked.evaluation.predictions import evaluated_rows
    from unmasked.evaluation.wording import name_files

    rows = evaluated_rows(detector.predictions)
    noun = results["settings"].get("noun", "video")
    for name, loss in frame_losses(rows).items():
        results["datasets"][name]["frames"] = loss.model_dump()
        if said := loss.sentence():
            print_result(name_files(f"{name}: {said}", noun, [name]))
    folder = config.predictions if config.predictions.is_dir() else config.predictions.parent
    parts = [find_lost(folder / file, detector.predictions, config.faces) for file in detector.files]
    known = [(lost, origin) for lost, origin in parts if origin]
    if not known:
        return
    lost = pd.concat([part for part, _ in known], ignore_index=True).drop_duplicates(
        ["dataset", "video", "compression"]
    )
    counted = attrition(rows, lost, origin=known[0][1], n_boot=config.n_boot, seed=config.seed)
    add_attrition(results, counted)
    for line in lines(counted):
        print_result(name_files(line, noun, counted))


def _write_results(folder: Path, results: Results, fitted: Fitted | None, published: list[Published]) -> None:
    """One detector's metrics as JSON, Markdown and LaTeX, and what was fitted."""
    from unmasked.datasets.documents import write_json
    from unmasked.evaluation.contamination import contamination_table
    from unmasked.evaluation.cross_auc import cross_auc_tables
    from unmasked.evaluation.tables import result_tables

    write_json(folder / "metrics.json", results)
    crossed = cross_auc_tables({"": results.get("cross_auc", [])}, results["settings"]["n_boot"])
    seen = contamination_table({"": results["contamination"]})
    tables = [*result_tables(results), *crossed, seen]
    _write_tables(folder, tables, published, results["settings"], {"": results})
    if fitted is not None:
        made_from = {name: results["settings"][name] for name in ("checkpoint", "scores")}
        write_json(folder / "thresholds.json", fitted.to_dict() | {"made_from": made_from})


def _store_in_card(folder: Path, fitted: Fitted | None, detector: Scored) -> None:
    """What was fitted goes into the card in the run's folder, if it is the card of these weights."""
    from unmasked.evaluation.fitted import store_in_card

    card = folder / "detector.json"
    if fitted is not None and detector.card and card.is_file():
        store_in_card(fitted, card, detector.predictions)


def _write_collection(
    folder: Path,
    scored: list[Scored],
    found: dict[str, Results],
    protocols: list[ProtocolRow],
    seeds: list[SeedRow],
    leaders: list[LeaderRow],
    coverage: list[CoverageRow],
    published: list[Published],
    places: dict[str, str],
) -> None:
    """Protocols and seeds over all detectors, and where the results of each lie."""
    from unmasked.datasets.documents import write_json
    from unmasked.evaluation.contamination import contamination_table
    from unmasked.evaluation.coverage import coverage_table
    from unmasked.evaluation.cross_auc import cross_auc_tables
    from unmasked.evaluation.seeds import seed_table
    from unmasked.evaluation.tables import protocol_tables

    settings = {detector.name: found[detector.name]["settings"] for detector in scored}
    first = settings[scored[0].name]
    crossed = {name: one["cross_auc"] for name, one in found.items() if "cross_auc" in one}
    seen = {name: one["contamination"] for name, one in found.items()}
    results: CollectionResults = {
        "detectors": {
            detector.name: {
                "folder": places[detector.name],
                "predictions": list(detector.files),
                "trained_on": list(detector.training.datasets),
                "detector": settings[detector.name]["detector"],
                "checkpoint": settings[detector.name]["checkpoint"],
                "selection_rule": settings[detector.name]["selection_rule"],
                "threshold": settings[detector.name]["threshold"],
            }
            for detector in scored
        },
        "protocols": protocols,
        "seeds": seeds,
        "leaders": leaders,
        "coverage": coverage,
        "cross_auc": crossed,
        "contamination": seen,
        "settings": {
            "n_boot": first["n_boot"],
            "seed": first["seed"],
            "confidence": first["confidence"],
            "unit": first["unit"],
            "interval": first["interval"],
            "aggregation": first["aggregation"],
        },
    }
    if (noun := _noun(found)) != "video":
        results["settings"]["noun"] = noun
    write_json(folder / "metrics.json", results)
    tables = [*protocol_tables(protocols), *([seed_table(seeds)] if seeds else [])]
    tables += [coverage_table(coverage)] if coverage else []
    tables += [*cross_auc_tables(crossed, first["n_boot"]), contamination_table(seen)]
    _write_tables(folder, tables, published, None, found)


def _write_tables(
    folder: Path,
    tables: list[Table],
    published: list[Published],
    settings: Settings | None,
    found: Mapping[str, Results],
) -> None:
    """The tables as Markdown and LaTeX; ``found`` are the results they show, by detector."""
    from unmasked.datasets.documents import write_json
    from unmasked.datasets.files import write_text
    from unmasked.evaluation.published import published_table
    from unmasked.evaluation.tables import as_latex, as_markdown
    from unmasked.evaluation.wording import name_files

    noun = _noun(found)
    names = _names(found)
    tables = [*tables, *(published_table(one, settings) for one in published)]
    write_text(folder / "metrics.md", name_files(as_markdown(tables), noun, names))
    write_text(folder / "metrics.tex", name_files(as_latex(tables), noun, names))
    # In a file of its own, for the report: never among what was measured, nor left from an earlier run.
    if published:
        stated = [one.model_dump(mode="json") for one in published]
        write_json(folder / "published.json", {"published": stated})
    else:
        (folder / "published.json").unlink(missing_ok=True)


def _noun(found: Mapping[str, Results]) -> str:
    """What all detectors scored: video, picture, or file where it is both."""
    nouns = {results["settings"].get("noun", "video") for results in found.values()}
    return nouns.pop() if len(nouns) == 1 else "file"


def _names(found: Mapping[str, Results]) -> list[str]:
    """The names of detectors and datasets, which no sentence may change."""
    return [*found, *dict.fromkeys(name for results in found.values() for name in results["datasets"])]


def _doubtful(found: Mapping[str, Results]) -> list[str]:
    """A sentence for each detector and dataset that it is not shown to tell fakes of, or tells in reverse."""
    return [
        f"NOTE on {detector}, {name}: {said}"
        for detector, results in found.items()
        for name, block in results["datasets"].items()
        if (said := _doubt(block))
    ]


def _doubt(block: DatasetResults) -> str:
    """What stands in the way of reading an AUC as better than guessing; "" where nothing does."""
    said = block.get("reading", "")
    return "" if said.startswith("better") else said


def folder_names(names: list[str]) -> dict[str, str]:
    """A folder for each detector, in signs that every file system takes.

    >>> folder_names(["UCF (run a/b)", "UCF run a b"])
    {'UCF (run a/b)': 'UCF-run-a-b', 'UCF run a b': 'UCF-run-a-b-2'}
    """
    folders: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._+]+", "-", name).strip("-.")[:100] or "detector"
        twins = sum(
            re.fullmatch(rf"{re.escape(plain)}(-\d+)?", other, re.I) is not None for other in folders.values()
        )
        folders[name] = f"{plain}-{twins + 1}" if twins else plain
    return folders


def _print_matrix(results: Results) -> None:
    from unmasked.evaluation.wording import name_files, value_text

    noun = results["settings"].get("noun", "video")
    print_result(f"{noun} AUC with 95 % interval:")
    width = max(len(row["test"]) for row in results["matrix"])
    for row in results["matrix"]:
        n = results["datasets"][row["test"]]["n"]
        value = value_text(row["auc"], row["ci"], places=3)
        print_result(
            f"  {row['test']:<{width}}  {value:<20} "
            f"({n['real_videos']} real and {n['fake_videos']} fake {noun}s)"
        )
        block = results["datasets"][row["test"]]
        _print_rates_of_one_class(block, results["settings"]["threshold"]["value"], noun)
        if said := _doubt(block):
            print_result(f"  {'':<{width}}  {name_files(said, noun)}")


def _print_lowest_pair(results: Results) -> None:
    from unmasked.evaluation.cross_auc import lowest_pair

    if said := lowest_pair(results.get("cross_auc", [])):
        print_result(said)


def _print_rates_of_one_class(block: DatasetResults, threshold: float, noun: str) -> None:
    """Prints how many files are called fake where a dataset has one class, and so no AUC."""
    from unmasked.evaluation.wording import share_text

    video: Measures = block["video"]
    reals, fakes = block["n"]["real_videos"], block["n"]["fake_videos"]
    for words, missing, value, limits in (
        ("real", fakes, video["fpr"], video["fpr_ci"]),
        ("fake", reals, video["tpr"], video["tpr_ci"]),
    ):
        if missing == 0:
            said = share_text(value, limits)
            print_result(f"    {words} {noun}s called fake at score > {threshold:.4g}: {said}")


def _print_protocols(rows: list[ProtocolRow], noun: str) -> None:
    from unmasked.evaluation.tables import gap_or_reference
    from unmasked.evaluation.wording import metric_text, name_files

    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        asked = [row for row in rows if row["protocol"] == protocol]
        level = name_files(asked[0]["level"], noun)
        print_result(f"{asked[0]['title']}: {level} AUC with 95 % interval, and gap")
        names = [(row["detector"], row["train"], row["test"]) for row in asked]
        width = [max(map(len, column)) for column in zip(*names, strict=True)]
        for row, named in zip(asked, names, strict=True):
            text = "  ".join(name.ljust(size) for name, size in zip(named, width, strict=True))
            print_result(f"  {text}  {metric_text(row, 'auc', 3)}  {gap_or_reference(row)}")
