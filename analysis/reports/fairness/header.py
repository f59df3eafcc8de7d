"""First and last part of the fairness report: what was audited, and its limits."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable

import pandas as pd
from markupsafe import Markup

from unmasked.analysis.html.page import bullets, callout, code, join_parts, paragraph, record_table, table
from unmasked.analysis.reports.fairness.findings import Findings, has_one_score_each
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import points, threshold_origin, units
from unmasked.fairness.records import AuditResults, AuditSettings

SOFTWARE = ("unmasked", "fairlearn", "numpy", "pandas")
DECIDED = {
    "video": "Each video is decided once, by the mean score of its frames.",
    "frame": "Every frame is decided by itself, as published benchmarks count.",
}
ROW = "Every row is decided by itself."


def about(findings: Findings) -> Markup:
    """Detector, weights, data, annotation, threshold, statistics and software."""
    settings = next(iter(findings.audits.values()))["settings"]
    facts: dict[str, str | Markup] = {"detector": settings.get("detector") or "not recorded"}
    if settings.get("checkpoint"):
        hashed = Markup('<code style="overflow-wrap: anywhere">{}</code>').format(settings["checkpoint"])
        facts["weights (sha256)"] = hashed
    is_single = all(map(has_one_score_each, findings.audits.values()))
    facts |= {
        "decisions": _decisions(findings.audits.values()),
        "evidence is counted in": units(settings["unit"])
        + ("" if is_single else "; frames of one video are nearly copies"),
        "statistics": resampling_text(settings),
        "a gap is about equal": f"where it is surely below {points(settings['margin'])}",
        "software": _software(),
    }
    if "made" in findings.whole:
        facts["made"] = findings.whole["made"]
    rows = pd.DataFrame({"what": list(facts), "": list(facts.values())}, dtype=object)
    which = [
        words if words.startswith(name) else f"{name}: {words}"
        for name, audit in findings.audits.items()
        for words in audit["settings"].get("rows", [])
    ]
    said = [paragraph("Rows that count:"), bullets(which)] if which else []
    return join_parts([table(rows, caption="The audit"), _datasets(findings), *said])


def _decisions(audits: Iterable[AuditResults]) -> str:
    audits = list(audits)
    level = audits[0]["settings"]["level"]
    if level == "video" and all(map(has_one_score_each, audits)):
        return "Each video is decided once, by its one score."
    return DECIDED.get(level, ROW)


def resampling_text(settings: AuditSettings) -> str:
    """How many resamples and permutations there were, and the seed."""
    n_boot = settings["n_boot"]
    groups = settings.get("group_resamples", n_boot)
    fewer = f" ({groups:,} of each group, as there are many rows)" if groups < n_boot else ""
    return (
        f"{n_boot:,} bootstrap resamples{fewer} and {settings['n_perm']:,} permutations of "
        f"{units(settings['unit'])}, seed {settings['random_state']}"
    )


def limits(findings: Findings) -> Markup:
    """What was skipped, what the figures do not say, and what they are for."""
    first = next(iter(findings.audits.values()))
    return join_parts([skipped_part(findings), caveats(first), _list_uses()])


def caveats(audit: AuditResults) -> Markup:
    """What the figures do not say."""
    settings = audit["settings"]
    noun = units(settings["unit"])
    copies = f"Frames of one video are nearly copies, so {noun} are what was counted as evidence."
    source = f"annotation ({settings['annotation']})" if settings.get("annotation") else "table"
    return bullets(
        [
            f"Groups are what the {source} says; it may be wrong, and errors in it mostly hide differences.",
            f"{_decisions([audit])} All figures hold for the threshold "
            f"{settings['threshold']:.3f}, and for the manipulations, cameras and compression in this data.",
            *([] if has_one_score_each(audit) else [copies]),
            "No difference shown is not the same as no difference. Only “about equal” says that a gap larger "
            f"than {points(settings['margin'])} is unlikely.",
            "A difference says that something is wrong, not why: light, resolution, age of the camera or the "
            "choice of videos may go along with a group.",
        ]
    )


def skipped_part(findings: Findings) -> Markup:
    """Datasets and attributes that could not be audited, and why."""
    left_out = findings.whole.get("skipped", {})
    if not left_out:
        return Markup("")
    return callout("note", bullets([f"{name}: {why}" for name, why in left_out.items()]), title="Not audited")


def _list_uses() -> Markup:
    text = bullets(
        [
            "Use this report to decide where a detector may be deployed, for whom its decisions need a "
            "second look, and what data to collect next.",
            "Do not use it to certify a detector as fair, to compare groups of people, or to infer anybody’s "
            "gender, age or skin tone.",
            "Measure again on your own material before you rely on it: a threshold, a camera or a new kind "
            "of fake can change every figure here.",
        ]
    )
    return join_parts([Markup("<h3>What it is for</h3>"), text])


def _datasets(findings: Findings) -> Markup:
    rows = []
    for name, audit in findings.audits.items():
        settings, support = audit["settings"], audit["overall"]["support"]
        rows.append(
            {
                "dataset": name,
                "groups according to": settings.get("annotation") or "not recorded",
                units(settings["unit"]): support["clusters"],
                "real videos": support["real_videos"],
                "fake videos": support["fake_videos"],
                "called fake above": f"{settings['threshold']:.3f}",
                "threshold chosen": origin_text(audit),
            }
        )
    return record_table(rows, caption="The material")


def origin_text(audit: AuditResults) -> str:
    """How the audit's threshold was chosen and on what, where that was recorded."""
    used = audit["settings"]["threshold"]
    if audit["settings"].get("rule", "given") != "given":
        point: Measures = audit["settings"]
    else:
        same = [one for one in audit.get("operating_points", []) if abs(one["value"] - used) < 1e-9]
        point = same[0] if same else {}
    return threshold_origin(point or {"rule": "given"})


def _software() -> Markup:
    versions = []
    for name in SOFTWARE:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return code(", ".join(versions))
