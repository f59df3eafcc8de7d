"""The parts of a report about decisions: thresholds, scores as odds, withheld answers."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan, nan

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.figures.decisions import RiskCoverageDisplay
from unmasked.analysis.html.page import Absent, absent_note, fill_template, place_side_by_side, table
from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.answer import absent_class
from unmasked.analysis.reports.run.decisions import (
    broken_promises,
    expected_rate,
    lost_fakes,
    operating_points,
)
from unmasked.analysis.reports.run.folder import Run
from unmasked.evaluation.records import Abstention, Measures
from unmasked.evaluation.wording import (
    IN_BRACKETS,
    capitalise,
    count_in_100,
    ends,
    fpr_limit,
    list_names,
    metric_text,
    rule_name,
    share_text,
    signed_points,
    threshold_text,
)

FPR, TPR = "reals called fake (FPR)", "fakes found (TPR)"
HALF = 0.5
CALIBRATORS = {"temperature": "temperature", "isotonic": "isotonic"}


def thresholds_part(run: Run, figures: Gallery) -> Markup:
    """What stored thresholds do on each dataset: realised error rates beside expected ones."""
    settings = run.metrics["settings"]["threshold"]
    rows, over = [], []
    for _, name, point in sorted(_points(run), key=lambda found: found[0]):
        rows.append(_operating_row(run, name, point))
        over.append({column: _is_over(run, point) and column == FPR for column in rows[-1]})
    rules = list(dict.fromkeys(point["rule"] for _, _, point in _points(run)))
    caption = (
        "What each threshold does on each dataset. Expected: the share of reals called fake that the rule "
        "allows, else that of the videos on which it was chosen. Drift: how many more of 100 it is. "
        f"{IN_BRACKETS} Marked: surely more than the rule allows."
    )
    shown = table(pd.DataFrame(rows, dtype=object), caption=caption, highlight=pd.DataFrame(over))
    return fill_template(
        "thresholds.html",
        threshold=threshold_text(settings),
        broken=list(broken_promises(run)),
        lost=lost_fakes(run),
        is_chosen=run.source is not None,
        rules=rules,
        has_limit=any(not isnan(fpr_limit(rule)) for rule in rules),
        figures=place_side_by_side([figures.html(f"thresholds_{rate}") for rate in ("fpr", "tpr")]),
        table=shown,
        notes=_notes(run),
    )


def _points(run: Run) -> Iterator[tuple[int, str, Measures]]:
    for name in run.datasets:
        for order, point in enumerate(operating_points(run, name)):
            yield order, name, point


def _operating_row(run: Run, name: str, point: Measures) -> dict[str, str]:
    before = expected_rate(run, point["rule"], "fpr")
    drift = point["fpr"] - before
    return {
        "rule": rule_name(point["rule"]),
        "score above": f"{point['value']:.3f}",
        "dataset": name,
        "expected FPR": "–" if isnan(before) else f"{before:.2f}",
        FPR: metric_text(point, "fpr"),
        "drift": "–" if isnan(drift) else signed_points(drift),
        TPR: metric_text(point, "tpr"),
    }


def _is_over(run: Run, point: Measures) -> bool:
    return ends(point["fpr_ci"])[0] > fpr_limit(point["rule"])


def _notes(run: Run) -> list[str]:
    """Why a rule may not hold elsewhere, as the fit said it."""
    found = {point["rule"]: point.get("note") for _, _, point in sorted(_points(run), key=lambda one: one[0])}
    rules: dict[str, list[str]] = {}
    for rule, note in found.items():
        if note:
            rules.setdefault(note, []).append(rule_name(rule))
    return [capitalise(f"{list_names(names)}: {note}.") for note, names in rules.items()]


def calibration_part(run: Run, figures: Gallery) -> Markup:
    """Whether a score is a probability: diagrams, and scores corrected on the source."""
    if absent := absent_class(run):
        # The mean score would pass for an error: the share of fakes is known without looking.
        return absent_note(f"Calibration was not looked at, as no {absent} were scored.", "Score some.")
    diagrams = figures.of_kind("reliability")
    rows = [row for name in run.datasets for row in _calibration_rows(run, name)]
    caption = (
        "How far scores are from being probabilities; lower is better. Brier score: mean squared distance "
        "of score and truth. ECE: mean distance of score and share of fakes. "
        f"{IN_BRACKETS}"
    )
    return fill_template(
        "calibration.html",
        diagrams=place_side_by_side(diagrams) if diagrams else None,
        table=table(pd.DataFrame(rows, dtype=object), caption=caption) if rows else None,
        fitted_on=_fit_source_text(run),
        notes=_calibration_notes(run),
    )


def _calibration_rows(run: Run, name: str) -> Iterator[dict[str, str]]:
    found = run.metrics["datasets"][name]["video"].get("calibration", {})
    states = [("as it is", next(iter(found.values()))["before"])] if found else []
    states += [(f"after {CALIBRATORS.get(how, how)}", one["after"]) for how, one in found.items()]
    for state, values in states:
        yield {
            "dataset": name,
            "scores": state,
            "Brier score": metric_text(values, "brier", 3),
            "ECE": metric_text(values, "ece", 3),
            "log loss": f"{values['log_loss']:.2f}",
        }


def likelihood_part(run: Run, figures: Gallery) -> Markup:
    """What the stated likelihood ratios cost, and stated beside observed ones."""
    found = {
        name: block
        for name in run.datasets
        if (block := run.metrics["datasets"][name]["video"].get("likelihood"))
    }
    if not found:
        return Absent(fill_template("likelihood.html", found=None))
    costs, groups = [], []
    for name, block in found.items():
        costs.append(
            {
                "dataset": name,
                "Cllr": metric_text(block, "cllr"),
                "at best (Cllr min)": f"{block['cllr_min']:.2f}",
                "lost by calibration": f"{block['cllr'] - block['cllr_min']:.2f}",
            }
        )
        for one in block["stated"]:
            low, high = one["observed_ci"]
            groups.append(
                {
                    "dataset": name,
                    "stated LR": _ratio_text(one["stated"]),
                    "observed": f"{_ratio_text(one['observed'])} [{_ratio_text(low)}, {_ratio_text(high)}]",
                    "real": one["real"],
                    "fake": one["fake"],
                }
            )
    first = next(iter(found.values()))
    pictures = [*figures.of_kind("tippett"), *figures.of_kind("cross_entropy")]
    return fill_template(
        "likelihood.html",
        found=True,
        first=first,
        lower=f"{10 ** -first['bounds'][0]:.2g}",
        upper=f"{10 ** first['bounds'][1]:.2g}",
        figures=place_side_by_side(pictures) if pictures else None,
        costs=table(
            pd.DataFrame(costs, dtype=object),
            caption=f"Bits that the stated ratios cost; 1 is what saying nothing costs. {IN_BRACKETS}",
        ),
        groups=table(
            pd.DataFrame(groups, dtype=object),
            caption="Stated beside observed: how many times as large a share of fakes as of reals is there. "
            f"{IN_BRACKETS}",
        ),
    )


def _ratio_text(log10_lr: float) -> str:
    """Two digits, without an exponent."""
    lr = 10**log10_lr
    return f"{lr:,.0f}" if lr >= 100 else f"{lr:.2g}"


def _fit_source_text(run: Run) -> str:
    for name in run.datasets:
        for one in run.metrics["datasets"][name]["video"].get("calibration", {}).values():
            return str(one["fitted_on"])
    return ""


def _calibration_notes(run: Run) -> list[str]:
    """Why a calibration may not hold elsewhere; it is the same for every dataset."""
    for name in run.datasets:
        found = run.metrics["datasets"][name]["video"].get("calibration", {})
        notes = {how: one["note"] for how, one in found.items() if one.get("note")}
        if notes:
            return [capitalise(f"{CALIBRATORS.get(how, how)}: {note}.") for how, note in notes.items()]
    return []


def abstention_part(run: Run, figures: Gallery) -> Markup:
    """The band of scores without an answer, and how much surer the other answers are."""
    found = RiskCoverageDisplay.from_results(run.metrics).abstentions
    if not found:
        return Absent(fill_template("abstention.html", figure=None))
    first = next(iter(found.values()))
    low, high = first["band"]
    rows = [
        {
            "dataset": name,
            "videos": run.metrics["datasets"][name]["n"]["videos"],
            "get an answer": share_text(block["coverage"], block["coverage_ci"]),
            "wrong, of the answers": share_text(block["risk"], block["risk_ci"]),
            "wrong, if all are answered": share_text(block.get("risk_all"), block.get("risk_all_ci")),
        }
        for name, block in found.items()
    ]
    return fill_template(
        "abstention.html",
        figure=figures.html("risk_coverage"),
        is_empty=not low < high,
        low=f"{low:.2f}",
        high=f"{high:.2f}",
        note=capitalise(first.get("note") or ""),
        rule=first["rule"],
        fitted_on=first["fitted_on"],
        lines=[line for name, block in found.items() if (line := _tell_abstention(name, block))],
        table=table(pd.DataFrame(rows, dtype=object), caption=f"Shares of the videos. {IN_BRACKETS}"),
    )


def _tell_abstention(name: str, block: Abstention) -> str:
    coverage, risk, risk_all = block["coverage"], block["risk"], block.get("risk_all", nan)
    if isnan(coverage):
        return ""
    if coverage == 0 or isnan(risk):
        return f"{name}: no video gets an answer."
    text = (
        f"{name}: {count_in_100(coverage)} of 100 videos get an answer, and of 100 answers "
        f"{count_in_100(risk)} are wrong"
    )
    if coverage < 1 and not isnan(risk_all):
        text += f" (if all were answered, {count_in_100(risk_all)})"
    curve = zip(block["curve"]["coverage"], block["curve"]["risk"], strict=True)
    surer = [(x, y) for x, y in curve if not isnan(y)]
    if surer and coverage > HALF:
        _, risk = min(surer, key=lambda point: abs(point[0] - HALF))
        text += f"; if only the surer half were answered, {count_in_100(risk)}"
    return f"{text}."
