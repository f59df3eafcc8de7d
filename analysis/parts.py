"""The parts of a report that show results: datasets, curves, thresholds, groups, explanations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.figures import Dot, DotDisplay, PrecisionRecallDisplay, RocDisplay, ScoreDisplay
from unmasked.analysis.pictures import CamRow, EmbeddingDisplay, strip
from unmasked.analysis.results import Run
from unmasked.evaluation.curves import curves, score_histogram
from unmasked.evaluation.page import NOT_ENOUGH, environment, image, svg, table
from unmasked.fairness.report import section

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = {"ap": "video AP", "eer": "video EER", "accuracy": "accuracy at the threshold"}
RULES = {
    "eer": "errors of both kinds equal",
    "youden": "most found minus wrongly accused",
    "given": "given",
}
BINS = 12
PHOTO_QUALITY = 82


def datasets_part(run: Run) -> Markup:
    """The cross-dataset matrix as a figure and a table, and each dataset's methods."""
    display = DotDisplay.from_matrix(run.metrics).plot()
    caption = (
        "How often a fake scores above a real video. Diamond: where it was trained. Line: 95 % interval."
    )
    figure = svg(display.figure_, f"Video AUC by dataset. {_told(display.dots)}", caption=caption)
    parts = [figure, _matrix(run), _reasons(run)]
    for name in run.datasets:
        if len(run.metrics["datasets"][name]["methods"]) > 1:
            parts += [Markup("<h3>{}, by manipulation method</h3>").format(name), _methods(run, name)]
    return Markup("").join(parts)


def _matrix(run: Run) -> Markup:
    rows = []
    for entry in run.metrics["matrix"]:
        name, block = entry["test"], run.metrics["datasets"][entry["test"]]
        row = {
            "tested on": name,
            "videos, real + fake": "{real_videos}\N{NO-BREAK SPACE}+\N{NO-BREAK SPACE}{fake_videos}".format(
                **block["n"]
            ),
            "video AUC": _two_lines(entry["auc"], *entry["ci"]),
        }
        if run.source is not None:
            lost = _two_lines(entry["gap_to_source"], *entry["gap_ci"])
            row[f"lost since {run.source}"] = "–" if name == run.source else lost
        row["frame AUC"] = _two_lines(block["frame"]["auc"], *block["frame"]["auc_ci"])
        video = block["video"]
        rows.append(
            row | {title: _two_lines(video[key], *video[f"{key}_ci"]) for key, title in SHOWN.items()}
        )
    trained = f"Trained on {run.source}" if run.source else "What it was trained on is not stated"
    # As objects: pandas would make plain text of finished HTML.
    frame = pd.DataFrame(rows, dtype=object)
    return table(frame, caption=f"{trained}; tested on each row. Below each value: 95 % interval.")


def _reasons(run: Run) -> Markup:
    """Why numbers or intervals are missing, where some are."""
    lines = [
        Markup("<li>{}: {}.</li>").format(name, block["reason"])
        for name, block in run.metrics["datasets"].items()
        if block.get("reason")
    ]
    return Markup('<ul class="soft">{}</ul>').format(Markup("").join(lines)) if lines else Markup("")


def _methods(run: Run, name: str) -> Markup:
    display = DotDisplay.from_methods(run.metrics, name).plot()
    real = run.metrics["datasets"][name]["n"]["real_videos"]
    return svg(
        display.figure_,
        f"Video AUC by method on {name}. {_told(display.dots)}",
        caption=f"Each method’s fakes against the same {real} real videos.",
    )


def curves_part(run: Run) -> Markup:
    """ROC and precision-recall curves, and where the scores of both classes lie."""
    if run.predictions is None:
        return Markup("<p>The curves need predictions.parquet in the run’s folder, which is not there.</p>")
    points = curves(run.predictions)
    roc = svg(
        RocDisplay.from_results(points, run.metrics).plot().figure_,
        "ROC curves of all datasets",
        caption="Each point is a threshold: how many fakes it finds, at what price.",
    )
    precision = svg(
        PrecisionRecallDisplay.from_results(points, run.metrics).plot().figure_,
        "Precision-recall curves of all datasets",
        caption="How far “fake” can be trusted, as more fakes are found.",
    )
    threshold = run.metrics["settings"]["threshold"]["value"]
    histograms = score_histogram(run.predictions, bins=BINS)
    scores = []
    for name in run.datasets:
        if bins := histograms.get(name):
            display = ScoreDisplay(name, bins["edges"], bins["real"], bins["fake"], threshold).plot()
            scores.append(svg(display.figure_, f"Scores of real and fake videos of {name}"))
    heading = Markup("<h3>Scores</h3><p>Where the two classes overlap, no threshold helps.</p>")
    return side_by_side([roc, precision]) + heading + side_by_side(scores)


def thresholds_part(run: Run) -> Markup:
    """What stored thresholds do on each dataset: realised error rates."""
    settings = run.metrics["settings"]["threshold"]
    intro = Markup(
        "<p>A user gets a detector with a threshold and applies it to whatever comes. So a threshold is "
        "chosen once and applied to every dataset as it is: {}. If it travelled, it would accuse as many "
        "reals everywhere.</p>"
    ).format(threshold_words(settings))
    dots = []
    for name in run.datasets:
        block = run.metrics["datasets"][name]
        low, high = block["video"]["fpr_ci"]
        n = f"{block['n']['real_videos']} real videos"
        dots.append(Dot(name, block["video"]["fpr"], low, high, n, is_reference=name == run.source))
    figure = svg(
        DotDisplay(dots, "share of real videos called fake (FPR)").plot().figure_,
        f"False positive rate by dataset. {_told(dots)}",
        caption="Real videos that are called fake at this threshold. Line: 95 % interval.",
    )
    rows = [row for name in run.datasets for row in _operating_rows(run, name)]
    rows.sort(key=lambda row: row.pop("order"))
    caption = "What each threshold does on each dataset. In brackets: 95 % interval."
    note = Markup('<p class="soft">{}</p>').format(settings["note"]) if settings.get("note") else Markup("")
    return intro + figure + table(pd.DataFrame(rows), caption=caption) + note


def _operating_rows(run: Run, name: str) -> Iterator[dict[str, Any]]:
    video = run.metrics["datasets"][name]["video"]
    settings = run.metrics["settings"]["threshold"]
    points = [video.get("at_threshold", video | settings), *video.get("at_thresholds", {}).values()]
    if "at_half" in video:
        points.append(video["at_half"])
    for order, point in enumerate(points):
        yield {
            "order": order,
            "rule": _rule(point["rule"]),
            "score above": f"{point['value']:.3f}",
            "dataset": name,
            "real videos called fake (FPR)": _interval(point, "fpr"),
            "fakes found (TPR)": _interval(point, "tpr"),
        }


def threshold_words(threshold: Mapping[str, Any]) -> str:
    """A threshold with where it comes from, in words."""
    rule = _rule(threshold["rule"])
    if threshold["fitted_on"]:
        return f"{threshold['value']:.3f}, chosen on {threshold['fitted_on']} ({rule})"
    return f"{threshold['value']:.3f} ({rule})"


def _rule(rule: str) -> str:
    kind, _, share = rule.partition(":")
    return (
        f"at most {100 * float(share):g} % of reals called fake" if kind == "fpr" else RULES.get(rule, rule)
    )


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
    ]
    return rendered(
        "explanations.html",
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


def _valued(value: float, low: float, high: float) -> str:
    if isnan(value):
        return NOT_ENOUGH
    # Spaces that do not break keep an interval on one line.
    return (
        f"{value:.2f}"
        if isnan(low)
        else f"{value:.2f}\N{NO-BREAK SPACE}[{low:.2f},\N{NO-BREAK SPACE}{high:.2f}]"
    )


def _two_lines(value: float, low: float, high: float) -> str | Markup:
    if isnan(value) or isnan(low):
        return _valued(value, low, high)
    return Markup('{:.2f}<br><span class="interval">{:.2f}–{:.2f}</span>').format(value, low, high)


def _interval(block: Mapping[str, Any], key: str) -> str:
    return _valued(block[key], *block[f"{key}_ci"])


def _told(dots: Sequence[Dot]) -> str:
    return "; ".join(f"{dot.label}: {_valued(dot.value, dot.low, dot.high)}" for dot in dots)


def side_by_side(drawn: list[Markup]) -> Markup:
    """Figures in a row that breaks where the page is narrow."""
    return Markup('<div class="row">{}</div>').format(Markup("").join(drawn))


def rendered(name: str, **values: Any) -> Markup:
    """A template of this layer, filled in."""
    return Markup(environment(TEMPLATES).get_template(name).render(**values))
