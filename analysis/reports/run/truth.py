"""What was planted in a synthetic corpus, beside what the audit of a run found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from unmasked.analysis.html.page import absent_note, bullets, code, join_parts, paragraph
from unmasked.analysis.reports.run.folder import Run
from unmasked.evaluation.wording import percent
from unmasked.fairness.records import FairnessResults, Test
from unmasked.fairness.verdicts import people

COLUMNS = {"skin_tone": "skin_tone_group"}  # of the corpus -> of the audit
# Where traces are fainter, fakes and reals of a group look alike to the detector, and its threshold decides
# which of the two errors becomes more frequent.
WAYS = {
    "tpr": "their fakes are missed more often",
    "fpr": "their reals are called fake more often, as the detector tells them less well from their fakes",
}


def planted_group(truth: Mapping[str, Any]) -> tuple[str, str] | None:
    """Attribute and group whose fakes show fainter traces; None where no bias was planted."""
    attribute, _, group = str(truth.get("config", {}).get("bias") or "").partition(":")
    return (COLUMNS.get(attribute, attribute), group) if group else None


def planted_sentence(truth: Mapping[str, Any]) -> str:
    """What was planted."""
    planted = planted_group(truth)
    if planted is None:
        return "No difference between groups was planted."
    fainter = truth["config"].get("bias_strength")
    how = "" if fainter is None else f" by {percent(fainter)}"
    return f"Fakes of {people(*planted)} show traces that are fainter{how}."


def found_sentences(truth: Mapping[str, Any], found: FairnessResults) -> list[str]:
    """What the audit says of it, a sentence for each dataset; and what else it claims."""
    planted = planted_group(truth)
    lines = []
    for dataset, audit in found["datasets"].items():
        shown = [
            (attribute, test)
            for attribute, part in audit["attributes"].items()
            for test in part["tests"]
            if test["verdict"] == "disparity"
        ]
        own = [
            test for attribute, test in shown if planted is not None and _is_planted(attribute, test, planted)
        ]
        if planted is not None:
            ways = " and ".join(WAYS[test["metric"]] for test in own)
            said = f"found: {ways}" if own else "not found: the videos are too few to show it"
            lines.append(f"On {dataset} it was {said}.")
        others = [
            f"{people(attribute, str(test['worst_group']))} ({test['metric'].upper()})"
            for attribute, test in shown
            if test not in own
        ]
        if others:
            lines.append(
                f"On {dataset} a difference that nobody planted was claimed as well: {', '.join(others)}."
            )
    return lines or ["No difference was claimed, which is right."]


def _is_planted(attribute: str, test: Test, planted: tuple[str, str]) -> bool:
    return (attribute, str(test["worst_group"])) == planted and test["metric"] in WAYS


def truth_part(run: Run) -> Markup:
    """Both, as a part of the page; nothing where the corpus is not a synthetic one."""
    if run.truth is None:
        return Markup("")
    if run.fairness is None:
        return absent_note("What was planted in this corpus was not looked for:", code("unmasked fairness"))
    return join_parts(
        [
            paragraph(f"This was planted. {planted_sentence(run.truth)}"),
            paragraph("This was found."),
            bullets(found_sentences(run.truth, run.fairness)),
        ]
    )
