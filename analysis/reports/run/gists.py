"""What each folded part of a run's report says, in a sentence beside its title."""

from __future__ import annotations

from collections.abc import Iterator

from unmasked.analysis.reports.run.answer import Answer, absent_class
from unmasked.analysis.reports.run.decisions import broken_promises
from unmasked.analysis.reports.run.folder import Run
from unmasked.analysis.reports.run.robustness import worst_words
from unmasked.evaluation.records import LevelResults
from unmasked.evaluation.wording import metric_text, share_text, value_text


def part_gists(run: Run, found: Answer) -> Iterator[tuple[str, str]]:
    """(anchor, sentence) of the parts that have a number to say."""
    videos: dict[str, LevelResults] = {name: run.metrics["datasets"][name]["video"] for name in run.datasets}
    matrix = {row["test"]: value_text(row["auc"], row["ci"]) for row in run.metrics["matrix"]}
    yield "answer", "What its decisions do, and what not to do with it."
    yield "datasets", f"AUC: {_each(matrix)}."
    yield "curves", "ROC, precision-recall, and where the scores of both classes lie."
    yield "thresholds", _thresholds(run)
    yield "robustness", worst_words(run.robustness, "fpr") or worst_words(run.robustness, "tpr")
    answered = {
        name: share_text(one["abstention"]["coverage"], one["abstention"]["coverage_ci"])
        for name, one in videos.items()
        if "abstention" in one
    }
    yield "abstention", f"It answers: {_each(answered)} of videos." if answered else ""
    errors = {} if absent_class(run) else {name: metric_text(one, "ece") for name, one in videos.items()}
    yield "calibration", f"Calibration error: {_each(errors)}." if errors else ""
    costs = {
        name: metric_text(one["likelihood"], "cllr") for name, one in videos.items() if "likelihood" in one
    }
    yield "likelihood", f"Cllr, where 1 says nothing: {_each(costs)}." if costs else ""
    first, *_ = (found.groups[0] if found.groups else found.no_groups).split(". ")
    yield "fairness", f"{first.rstrip('.')}."
    yield "explanations", "Pictures that mark what speaks for “fake”; what not to conclude from them."
    yield "truth", "The bias of the synthetic corpus, and whether the audit saw it."
    yield "limits", "For which videos the numbers hold, and what nobody can be accused of."
    yield "settings", "Weights, settings and versions: what is needed to make it again."
    yield "glossary", "AUC, FPR, TPR, threshold, interval and other words."


def _thresholds(run: Run) -> str:
    kept = "No threshold was shown to do otherwise than it should."
    return next(broken_promises(run), kept if run.source else "What each threshold does on each dataset.")


def _each(texts: dict[str, str]) -> str:
    return "; ".join(f"{name} {text}" for name, text in texts.items())
