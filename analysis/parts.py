"""The parts of a report that show results: datasets, curves, groups, explanations."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.figures_matrix import cross_dataset
from unmasked.analysis.gallery import Drawing, of_kind, slug
from unmasked.analysis.markup import rendered, side_by_side, two_lines, two_lines_of
from unmasked.analysis.pictures import CamRow, EmbeddingDisplay, strip
from unmasked.analysis.protocols import other_protocols, pair_table, published_part, sizes
from unmasked.analysis.results import Run
from unmasked.evaluation.page import image, svg, table
from unmasked.fairness.report import section

SHOWN = {"ap": "video AP", "eer": "video EER", "accuracy": "accuracy at the threshold"}
AGGREGATIONS = {
    "mean": "mean of the frames",
    "median": "median of the frames",
    "top_k_mean": "mean of the highest frames",
}
PHOTO_QUALITY = 82
Figures = Mapping[str, Drawing]


def datasets_part(run: Run, figures: Figures) -> Markup:
    """The cross-dataset matrix as a figure and a table, each dataset's methods, and other protocols."""
    pairs = cross_dataset(run.metrics)
    if len({(row["train"], row.get("detector")) for row in pairs}) > 1:
        parts = [figures["matrix"].html, pair_table(pairs, "Every detector on every dataset.")]
    else:
        parts = [figures["auc_by_dataset"].html]
    parts += [_matrix(run), _reasons(run), _aggregations(run)]
    for name in run.datasets:
        if drawing := figures.get(f"methods_{slug(name)}"):
            parts += [Markup("<h3>{}, by manipulation method</h3>").format(name), drawing.html]
    return Markup("").join(
        [*parts, *other_protocols(run.metrics.get("protocols", [])), published_part(run.metrics)]
    )


def _matrix(run: Run) -> Markup:
    rows = []
    for entry in run.metrics["matrix"]:
        name, block = entry["test"], run.metrics["datasets"][entry["test"]]
        row = {
            "tested on": name,
            "videos, real + fake": sizes(block["n"]),
            "video AUC": two_lines(entry["auc"], *entry["ci"]),
        }
        if run.source is not None:
            lost = two_lines(entry["gap_to_source"], *entry["gap_ci"])
            row[f"lost since {run.source}"] = "–" if name == run.source else lost
        row["frame AUC"] = two_lines_of(block["frame"], "auc")
        rows.append(row | {title: two_lines_of(block["video"], key) for key, title in SHOWN.items()})
    trained = f"Trained on {run.source}" if run.source else "What it was trained on is not stated"
    # As objects: pandas would make plain text of finished HTML.
    frame = pd.DataFrame(rows, dtype=object)
    selection = run.metrics["settings"].get("selection_rule", "not stated")
    caption = (
        f"{trained}; tested on each row. Below each value: 95 % interval. Checkpoint chosen by: {selection}."
    )
    return table(frame, caption=caption)


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
        if found := run.metrics["datasets"][name].get("aggregations"):
            scores = {AGGREGATIONS.get(how, how): two_lines_of(one, "auc") for how, one in found.items()}
            rows.append({"tested on": name} | scores)
    if not rows:
        return Markup("")
    shown = table(
        pd.DataFrame(rows, dtype=object),
        caption="Video AUC, by how frame scores become one. Below each value: 95 % interval.",
    )
    summary = Markup("<summary>Does it matter how frames are put together?</summary>")
    return Markup("<details>{}{}</details>").format(summary, shown)


def curves_part(run: Run, figures: Figures) -> Markup:
    """ROC, DET and precision-recall curves, and where the scores of both classes lie."""
    if run.predictions is None:
        return Markup("<p>The curves need predictions.parquet in the run’s folder, which is not there.</p>")
    curves = side_by_side([figures[name].html for name in ("roc", "precision_recall")])
    det = Markup("<details><summary>The same where errors are few (DET)</summary>{}</details>").format(
        figures["det"].html
    )
    heading = Markup("<h3>Scores</h3><p>Where the two classes overlap, no threshold helps.</p>")
    scores = side_by_side([drawing.html for drawing in of_kind(figures, "scores")])
    return curves + det + heading + scores


def fairness_part(run: Run) -> Markup:
    """The audit by group."""
    if run.fairness is None:
        return Markup(
            "<p>Whether the detector fails some people more than others was not audited in this run; "
            "<code>unmasked fairness</code> does it where annotations say who is shown.</p>"
        )
    return Markup(section(run.fairness))


def explanations_part(run: Run) -> Markup:
    """Grad-CAM pictures and t-SNE, with what to see in them and what not."""
    explanation = run.explanation
    if explanation is None:
        return rendered("explanations.html", explanation=None)
    embedded = explanation.embedded
    skipped = explanation.summary.get("skipped", {})
    labels = {"real and fake": embedded["label"].map({0: "real", 1: "fake"}), "method": embedded["method"]}
    if embedded["dataset"].nunique() > 1:
        labels["dataset"] = embedded["dataset"]
    points = embedded[["x", "y"]].to_numpy()
    drawn = [
        svg(
            EmbeddingDisplay(points, label.to_numpy(), f"by {name}").plot().figure_,
            f"t-SNE of the detector's features, coloured by {name}",
        )
        for name, label in labels.items()
        if len(points)
    ]
    return rendered(
        "explanations.html",
        skipped=skipped,
        explanation=explanation,
        rows=[
            {"name": row.name.replace("\n", ": "), "strip": _strip(row)}
            for row in explanation.cam_rows(run.datasets)
        ],
        scatters=side_by_side(drawn),
        summary=explanation.summary,
        purity=_purity(explanation.summary["purity"]),
    )


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


def _purity(purity: Mapping[str, Mapping[str, float]]) -> Markup:
    if not purity:
        return Markup("")
    columns = {"in the features": "features", "in the picture": "tsne", "by chance": "chance"}
    rows = [
        {"neighbours share": name, **{title: of[key] for title, key in columns.items()}}
        for name, of in purity.items()
    ]
    k = next(iter(purity.values()))["k"]
    caption = (
        f"How many of a crop’s {k} nearest crops of other people are of its own kind. What the picture shows "
        "and the features do not is an accident of the picture."
    )
    return table(pd.DataFrame(rows), formats=dict.fromkeys(columns, ".0%"), caption=caption)
