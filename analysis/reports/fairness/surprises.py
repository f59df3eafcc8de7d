"""What else a reader should see: the worst of each part, a sentence and a link each."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from unmasked.analysis.html.page import bullets, join_parts
from unmasked.analysis.reports.fairness.findings import Findings
from unmasked.analysis.reports.fairness.groups import COMPARED
from unmasked.evaluation.wording import (
    change_text,
    fpr_limit,
    gap_text,
    interval_in_100,
    is_missing,
    p_text,
    points,
    rule_text,
    share_text,
)
from unmasked.fairness.statistics.comparisons import ALPHA
from unmasked.fairness.verdicts import EVENTS, people, title

PICKED = (
    "The worst of each part of the fairness report, picked from many figures and not corrected for that "
    "unless it says so: reasons to look closer, not findings."
)


def surprises(findings: Findings, page: str = "") -> Markup:
    """The worst of each part as a list of sentences that link to it.

    Nothing where nothing is remarkable.

    Args:
        findings: what was found.
        page: address of the page the parts are on, "" for this one.
    """
    told = [
        Markup('{} <a href="{}#{}">Read\u00a0on</a>').format(sentence, page, part)
        for part, sentence in _sentences(findings)
    ]
    if not told:
        return Markup("")
    intro = Markup("<p><strong>What else is remarkable.</strong> {}</p>").format(PICKED)
    return join_parts([intro, bullets(told)])


def _sentences(findings: Findings) -> Iterator[tuple[str, str]]:
    """(anchor of the part, sentence)."""
    for part, worst in (
        ("thresholds", _threshold_sentence(findings)),
        ("breakdowns", _tell_pooling(findings)),
        ("breakdowns", _change_sentence(findings)),
        ("perturbations", _tell_perturbation(findings)),
        ("annotation", _annotation_sentence(findings)),
        ("mitigation", _levelling_sentence(findings)),
    ):
        if worst:
            yield part, worst


def _threshold_sentence(findings: Findings) -> str:
    """The group that a threshold meant for a share of false alarms exceeds most, surely."""
    worst: tuple[float, str] = (0.0, "")
    for name, audit in findings.audits.items():
        for point in audit.get("operating_points", []):
            limit = fpr_limit(str(point["rule"]))
            if is_missing(limit):
                continue
            for attribute, entries in point["attributes"].items():
                for one in entries:
                    low = one["fpr_ci"][0]
                    few = "fpr" not in one.get("compared", ["fpr"]) or one["group"] == "unknown"
                    if few or is_missing(low) or low <= limit:
                        continue
                    over = one["fpr"] - limit
                    text = (
                        f"The threshold chosen by the rule “{rule_text(point['rule'])}” calls "
                        f"{share_text(one['fpr'], one['fpr_ci'])} of the {one['real_videos']:,} real videos "
                        f"of {people(attribute, one['group'])} on {name} fake."
                    )
                    worst = max(worst, (over, text))
    return worst[1]


def _tell_pooling(findings: Findings) -> str:
    """The widest difference between what pooling shows and what the levels hold."""
    worst: tuple[float, str] = (0.0, "")
    for name, audit in findings.audits.items():
        for one in audit.get("strata", []):
            if not one["simpson"] or is_missing(one["averaged"]) or is_missing(one["pooled"]["gap"]):
                continue
            text = (
                f"On {name}, the pooled gap between groups of {title(one['attribute'])} "
                f"({COMPARED.get(one['metric'], one['metric'])}) is {points(one['pooled']['gap'])}, but "
                f"within each {str(one['by']).replace('_', ' ')} it is {points(one['averaged'])} on average."
            )
            worst = max(worst, (abs(one["averaged"] - one["pooled"]["gap"]), text))
    return worst[1]


def _change_sentence(findings: Findings) -> str:
    """The gap that surely grows most from the source to a target."""
    worst: tuple[float, str] = (0.0, "")
    for one in findings.whole.get("changes", []):
        if is_missing(one["change_ci"][0]) or one["change_ci"][0] <= 0:
            continue
        text = (
            f"From {one['source']} to {one['target']} the gap between groups of {title(one['attribute'])} "
            f"({COMPARED.get(one['metric'], one['metric'])}) grows by "
            f"{gap_text(one['change'], one['change_ci'])} points."
        )
        worst = max(worst, (one["change"], text))
    return worst[1]


def _tell_perturbation(findings: Findings) -> str:
    """The group that a perturbation hits harder than another, by the widest difference that was shown.

    What a perturbation does to everybody is no finding about a group.
    """
    worst: tuple[float, str] = (0.0, "")
    for one in findings.whole.get("perturbation_gaps", []):
        if not one.get("p_adjusted", 1.0) < ALPHA or one["worst_group"] is None:
            continue
        harm = 1 if one["metric"] == "fpr" else -1  # fewer fakes found is the harm
        raised, other = (change_text(harm * change) for change in one["changes"])
        hit, spared = (people(one["attribute"], str(one[end])) for end in ("worst_group", "best_group"))
        text = (
            f"On {one['dataset']}, {str(one['perturbation']).replace('_', ' ')} at severity "
            f"{one['severity']:g} changes how often {EVENTS[one['metric']].format(f' of {hit}')} by {raised} "
            f"points, and of {spared} by {other}: {points(one['difference'])} more "
            f"({interval_in_100(one['difference_ci'])}, p = {p_text(one['p_adjusted'])}, corrected for all "
            "perturbations)."
        )
        worst = max(worst, (one["difference"], text))
    return worst[1]


def _annotation_sentence(findings: Findings) -> str:
    """How many videos have annotations that contradict themselves, at worst."""
    worst: tuple[float, str] = (0.0, "")
    for name, part in findings.whole.get("annotation", {}).items():
        for one in part["conflicts"]:
            if not one["conflicting"] or not one["videos"]:
                continue
            share = one["conflicting"] / one["videos"]
            text = (
                f"On {name}, frames of {one['conflicting']:,} of {one['videos']:,} videos disagree on "
                f"{title(one['attribute'])}."
            )
            worst = max(worst, (share, text))
    return worst[1]


def _levelling_sentence(findings: Findings) -> str:
    """Remedies that only make everybody worse off."""
    tried = findings.whole.get("mitigation")
    methods = tried["methods"] if tried else []
    bad = sum(bool(one["levelling_down"]) for one in methods)
    if not bad:
        return ""
    return f"{bad} of {len(methods)} remedies tried narrow a gap without anybody gaining (levelling down)."
