"""The parts of a report that show results: datasets, curves, groups, explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.explain.explanation import (
    DAMAGED,
    Explanation,
    averaged_lines,
    importance_table,
    inside_table,
    method_table,
)
from unmasked.analysis.figures.matrix import cross_dataset
from unmasked.analysis.figures.pictures import CamRow, MeanMapDisplay, side_by_side, strip
from unmasked.analysis.html.page import (
    Absent,
    absent_note,
    bullets,
    callout,
    details,
    fill_template,
    heading,
    place_side_by_side,
    table,
)
from unmasked.analysis.html.pictures import image
from unmasked.analysis.reports.fairness.page import section
from unmasked.analysis.reports.gallery import Gallery, slug
from unmasked.analysis.reports.run.answer import audits
from unmasked.analysis.reports.run.folder import Run
from unmasked.analysis.reports.run.protocols import (
    contamination_part,
    crossed_part,
    other_protocols,
    pair_table,
    published_part,
    sizes,
)
from unmasked.datasets.documents import first_line
from unmasked.datasets.errors import InputError
from unmasked.evaluation.attrition import FrameLoss, read_attrition
from unmasked.evaluation.metrics import METRICS
from unmasked.evaluation.tables import has_frames
from unmasked.evaluation.wording import (
    IN_BRACKETS,
    list_names,
    metric_text,
    number,
    share_text,
    threshold_text,
    value_text,
)

SHOWN = {"ap": "video AP", "eer": "video EER", "accuracy": "accuracy at the threshold"}
AGGREGATIONS = {
    "mean": "mean of the frames",
    "median": "median of the frames",
    "top_k_mean": "mean of the highest frames",
}
PHOTO_QUALITY = 82


def datasets_part(run: Run, figures: Gallery) -> Markup:
    """The cross-dataset matrix as a figure and a table, the methods, and other protocols."""
    pairs = cross_dataset(run.metrics)
    if len({(row["train"], row["detector"]) for row in pairs}) > 1:
        parts = [figures.html("matrix"), pair_table(pairs, "Every detector on every dataset.")]
    else:
        parts = [figures.html("auc_by_dataset")]
    parts += [_matrix(run), _without_score(run), _reasons(run), _every_metric(run), _aggregations(run)]
    for name in run.datasets:
        if drawn := figures.html(f"methods_{slug(name)}"):
            parts += [heading(3, f"{name}, by manipulation method"), drawn]
    parts += other_protocols(run.metrics.get("protocols", []))
    parts += contamination_part({"": run.metrics.get("contamination", [])})
    parts += crossed_part({"": run.metrics.get("cross_auc", [])}, run.metrics["settings"])
    return Markup("").join([*parts, published_part(run.published, run.metrics["settings"])])


def _matrix(run: Run) -> Markup:
    rows = []
    for entry in run.metrics["matrix"]:
        name, block = entry["test"], run.metrics["datasets"][entry["test"]]
        row = {
            "tested on": name,
            "videos, real + fake": sizes(block["n"]),
            "video AUC": value_text(entry["auc"], entry["ci"]),
        }
        if run.source is not None:
            lost = value_text(entry["gap_to_source"], entry["gap_ci"])
            row[f"lost since {run.source}"] = "–" if name == run.source else lost
        if has_frames(run.metrics):
            row["frame AUC"] = metric_text(block["frame"], "auc")
        rows.append(row | {title: metric_text(block["video"], key) for key, title in SHOWN.items()})
    trained = f"Trained on {run.source}" if run.source else "What it was trained on is not stated"
    # As objects: pandas would make plain text of finished HTML.
    frame = pd.DataFrame(rows, dtype=object)
    selection = run.metrics["settings"].get("selection_rule", "not stated")
    caption = f"{trained}; tested on each row. {IN_BRACKETS} Checkpoint chosen by: {selection}."
    return table(frame, caption=caption)


def _without_score(run: Run) -> Markup:
    """How many of the videos that were given are scored, by dataset; a warning where a class lost more."""
    found = read_attrition(run.metrics)
    frames = {
        name: FrameLoss.model_validate(block["frames"]).sentence()
        for name, block in run.metrics["datasets"].items()
        if "frames" in block
    }
    sentences = [f"{name}: {one.sentence()}." for name, one in found.items()]
    sentences += [f"{name}: {sentence}." for name, sentence in frames.items() if sentence]
    if not sentences:
        return Markup("")
    lines = bullets(sentences)
    if any(one.is_uneven for one in found.values()):
        return callout("warning", lines, title="One class is scored less often than the other")
    return Markup("<p>Every number is of the videos that were scored:</p>") + lines


def _every_metric(run: Run) -> Markup:
    """What is registered as a metric, of each dataset's videos; folded away."""
    blocks = {name: run.metrics["datasets"][name]["video"] for name in run.datasets}
    rows = [
        {"metric": one.title} | {of: metric_text(video, name) for of, video in blocks.items()}
        for name, one in METRICS.items()
        if all(name in video for video in blocks.values())
    ]
    found = table(pd.DataFrame(rows, dtype=object), caption="Every metric of videos, with its interval.")
    return details("Every metric", found)


def _reasons(run: Run) -> Markup:
    """Why numbers or intervals are missing, where some are."""
    lines = [
        Markup("<li>{}: {}.</li>").format(name, block["reason"])
        for name, block in run.metrics["datasets"].items()
        if block.get("reason")
    ]
    return Markup('<ul class="soft">{}</ul>').format(Markup("").join(lines)) if lines else Markup("")


def _aggregations(run: Run) -> Markup:
    """Video AUC under each way of making one score of many frames."""
    rows = []
    for name in run.datasets:
        block = run.metrics["datasets"][name]
        # Of one frame each, all ways give the same.
        if (found := block.get("aggregations")) and block["n"]["frames"] > block["n"]["videos"]:
            scores = {AGGREGATIONS.get(how, how): metric_text(one, "auc") for how, one in found.items()}
            rows.append({"tested on": name} | scores)
    if not rows:
        return Markup("")
    shown = table(
        pd.DataFrame(rows, dtype=object),
        caption=f"Video AUC, by how frame scores become one. {IN_BRACKETS}",
    )
    return details("Does it matter how frames are put together?", shown)


def curves_part(run: Run, figures: Gallery) -> Markup:
    """ROC, DET and precision-recall curves, and where the scores of both classes lie."""
    if run.predictions is None:
        return absent_note("They need predictions.parquet in the run’s folder,", "which is not there.")
    curves = place_side_by_side([figures.html(name) for name in ("roc", "precision_recall")])
    det = details("The same where errors are few (DET)", figures.html("det"))
    heading = Markup("<h3>Scores</h3><p>Where the two classes overlap, no threshold helps.</p>")
    scores = place_side_by_side(figures.of_kind("scores"))
    return curves + det + heading + scores


def fairness_part(run: Run, figures: Gallery) -> Markup:
    """The audit by group; at another threshold than the metrics under its own heading."""
    if "fairness.json" in run.left_out:
        return Markup("<p>The audit in this folder is not shown: {}.</p>").format(
            run.left_out["fairness.json"]
        )
    if run.fairness is None:
        return absent_note(
            "Whether the detector fails some people more than others was not audited in this run;",
            Markup("<code>unmasked fairness</code> does it where annotations say who is shown."),
        )
    return _other_threshold(run) + section(run.fairness, figures)


def _other_threshold(run: Run) -> Markup:
    """A heading and a sentence where the audit is at another threshold than the rest of the page."""
    here = run.metrics["settings"]["threshold"]
    of_audits = {number(audit["settings"]["threshold"]) for audit in audits(run).values()}
    if others := sorted(of_audits - {number(here["value"])}):
        return heading(3, f"At the threshold {list_names([f'{one:.3f}' for one in others])}") + callout(
            "warning",
            f"Everything else on this page is at {threshold_text(here)}, so error rates here and there are "
            "not those of the same decisions. For one threshold run unmasked fairness with "
            "thresholds=thresholds.json.",
            title="Another threshold",
        )
    return Markup("")


def explanations_part(run: Run, figures: Gallery) -> Markup:
    """Grad-CAM pictures and t-SNE, with what to see in them and what not."""
    explanation = run.explanation
    if "explain/explain.json" in run.left_out:
        return Markup("<p>The explanation in this folder is not shown: {}.</p>").format(
            run.left_out["explain/explain.json"]
        )
    if explanation is None:
        return Absent(fill_template("explanations.html", explanation=None, is_ours=run.is_ours))
    try:
        return _explained(run, figures, explanation)
    except DAMAGED as error:  # its facts are no record yet
        raise InputError(
            f"the explanation in this folder is damaged ({type(error).__name__}: {first_line(error)}); run "
            "`unmasked explain` again, or remove its folder"
        ) from error


def _explained(run: Run, figures: Gallery, explanation: Explanation) -> Markup:
    drawn = [
        figures.draw(f"tsne_{slug(name)}", display, f"t-SNE of the detector’s features, coloured by {name}")
        for name, display in explanation.embeddings().items()
    ]
    summary = explanation.summary
    averaged = summary.get("averaged")
    mean_maps = Markup("")
    if averaged and explanation.mean_picture is not None:
        display = MeanMapDisplay(explanation.mean_picture, averaged)
        mean_maps = figures.draw("mean_maps", display, "Mean maps in one face frame")
    return fill_template(
        "explanations.html",
        skipped=summary.get("skipped", {}),
        explanation=explanation,
        answer=_looks_answer(explanation),
        doubt=explanation.cam_doubt(),
        rows=[
            {"name": row.name.replace("\n", ": "), "strip": _strip(row)}
            for row in explanation.cam_rows(run.datasets)
        ],
        scatters=place_side_by_side(drawn),
        summary=summary,
        methods=_methods(summary.get("methods")),
        methods_tested=summary.get("methods", [{}])[0].get("pictures", 0),
        method_pictures=_method_pictures(explanation),
        inside=_inside(summary.get("methods")),
        mean_maps=mean_maps,
        averaged=averaged_lines(averaged)[1:],
        purity=_purity(summary["purity"]),
        importance=_importance(summary.get("importance")),
    )


def _looks_answer(explanation: Explanation) -> Markup:
    """What the detector looks at, and whether the maps can be trusted, in two sentences."""
    if not explanation.methods:
        return Markup("")
    trusted, tried = explanation.trusted, len(explanation.methods)
    if not trusted:
        reasons = {one.title: "; ".join(one.facts["failed"]) for one in explanation.methods}
        said = "; ".join(f"{title}: {reason}" for title, reason in reasons.items())
        return callout(
            "warning",
            f"Where it looks cannot be said: none of {tried} methods passed its tests ({said}). The maps "
            "below are drawn in grey.",
            title="No map can be trusted",
        )
    first = trusted[0]
    where = [one for one in first.facts.get("regions", []) if one["density"] > 1][:2]
    placed = " and ".join(
        f"{one['region']} ({one['share']:.0%} of the map on {one['area']:.0%} of the picture)"
        for one in where
    )
    looks = f"By {first.title} it looks most at {placed}. " if placed else ""
    others = [one.title for one in explanation.methods if one.is_failed]
    failed = f" {list_names(others)} failed: these maps are drawn in grey, with the reason." if others else ""
    return callout(
        "note",
        f"{looks}{list_names([one.title for one in trusted])} passed the tests below: such a map can be read "
        f"as what this detector’s score depends on.{failed}",
        title="Where it looks",
    )


def _inside(methods: Sequence[Mapping[str, Any]] | None) -> Markup:
    rows = inside_table(methods or [])
    if rows.empty:
        return Markup("")
    titles = {
        "pointing": "brightest point inside",
        "mass": "of the map inside",
        "rank": "of the highest cells inside",
        "pointing less centre": "point, less the middle’s",
        "mass less centre": "map, less the middle’s",
        "rank less centre": "cells, less the middle’s",
        "chance": "by chance",
    }
    caption = (
        "Shares that lie where the fakes were changed, by their manipulation masks; a map by lot reaches the "
        "masks’ share of the picture. How much more that is than what a spot in the middle of every picture "
        "reaches, paired; intervals of 95 % over pictures."
    )
    return table(rows.rename(columns=titles), caption=caption)


def _importance(importance: Mapping[str, Any] | None) -> Markup:
    if not importance:
        return Markup("")
    titles = {"shapley": "its part of the AUC (Shapley value)", "drop": "AUC lost where it alone is swapped"}
    caption = (
        f"The parts add up to {importance['auc'] - importance['chance']:.3f}: the AUC of all blocks, "
        f"{importance['auc']:.3f} crop by crop, less the {importance['chance']:.3f} of none. Intervals draw "
        f"{importance['clusters']} people or videos; {importance['repeats']} swaps."
    )
    return table(importance_table(importance).rename(columns=titles), caption=caption)


def _methods(methods: Sequence[Mapping[str, Any]] | None) -> Markup:
    if not methods:
        return Markup("")
    titles = {
        "blank": "blank maps",
        "alike": "alike between pictures",
        "shuffled": "alike after 10, 50, 100 % of the weights are shuffled",
        "deletion_random": "taking away, against a random order",
        "deletion_centre": "taking away, against the middle first",
        "insertion_random": "putting back, against a random order",
        "insertion_centre": "putting back, against the middle first",
        "said": "outcome",
    }
    caption = (
        "Rank correlations of maps: a good map is unlike that of another picture, and unlike that of a "
        "detector that forgot what it learned. Taking away: how much sooner the score falls, in units of the "
        "logit, when the cells that the map marks are blurred first; putting back: how much sooner it rises. "
        "Above 0 is better than the other order; intervals of 95 % over pictures."
    )
    return table(method_table(methods).rename(columns=titles), caption=caption)


def _method_pictures(explanation: Explanation) -> Markup:
    if not explanation.methods or explanation.tested is None:
        return Markup("")
    known = " · ".join(explanation.tested_labels())
    strips = [
        image(
            side_by_side(overlays),
            f"{len(overlays)} pictures: {title}",
            caption=f"{title}: {outcome}",
            quality=PHOTO_QUALITY,
        )
        for title, overlays, outcome in [
            ("the pictures, and P(fake)", explanation.tested, known or "not kept"),
            *explanation.method_rows(),
        ]
    ]
    return Markup("").join(strips)


def _strip(row: CamRow) -> Markup:
    scores = [
        f"{score:.2f}{' (no map)' if blank else ''}"
        for score, blank in zip(row.score, row.blank, strict=True)
    ]
    name = row.name.replace("\n", ": ")
    return image(
        strip(row),
        f"{len(scores)} crops of {name}, and under each the same with its Grad-CAM map",
        caption=f"P(fake) from left to right: {', '.join(scores)}",
        quality=PHOTO_QUALITY,
    )


def _purity(purity: Mapping[str, Mapping[str, Any]]) -> Markup:
    if not purity:
        return Markup("")
    rows = [
        {
            "neighbours share": name,
            "in the features": share_text(of["features"], of.get("features_ci")),
            "in the picture": share_text(of["tsne"], of.get("tsne_ci")),
            "by chance": share_text(of["chance"]),
        }
        for name, of in purity.items()
    ]
    k = next(iter(purity.values()))["k"]
    caption = (
        f"How many of a crop’s {k} nearest crops of other people are of its own kind. What the picture shows "
        "and the features do not is an accident of the picture. Intervals of 95 % draw people or videos."
    )
    return table(pd.DataFrame(rows), caption=caption)
