"""Who is in the data: people, videos and frames of each group, and who was left out."""

from __future__ import annotations

from markupsafe import Markup

from unmasked.analysis.html.page import Cell, bullets, heat_table, join_parts, paragraph, record_table, swatch
from unmasked.analysis.reports.fairness.findings import Findings, by_dataset, has_one_score_each
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import list_names, share_text, support_text, units
from unmasked.fairness.across.attrition import LossAudit
from unmasked.fairness.groups import CROSS, UNKNOWN, order_groups
from unmasked.fairness.records import AuditResults, GroupResults
from unmasked.fairness.verdicts import title

COUNTED = ("real_videos", "fake_videos")
COUNTED_FRAMES = ("real_frames", "fake_frames")


def support(findings: Findings) -> Markup:
    """The part on support: a rule, then by dataset a table, combinations, who was left out."""
    settings = next(iter(findings.audits.values()))["settings"]
    is_single = all(has_one_score_each(audit) for audit in findings.audits.values())
    sample = "video" if is_single else "frame"
    needed = support_text(settings["min_clusters"], settings["min_samples"], settings["unit"], sample)
    rule = (
        f"A group is compared on real videos, or on fakes, where it has at least {needed} of "
        "that class. Smaller groups are listed with their intervals but no gap rests on them."
    )
    return join_parts([paragraph(rule), by_dataset(findings, lambda _, audit: _dataset(audit, findings))])


def find_crossings(audit: AuditResults) -> dict[str, tuple[str, str]]:
    """The attributes that cross others -> (what heads the rows, what heads the columns)."""
    found = {}
    for attribute in audit["attributes"]:
        rows, cross, last = attribute.rpartition(CROSS)
        if cross:
            found[attribute] = (rows, last)
    return found


def grid(
    groups: list[GroupResults],
) -> tuple[list[str], list[str], dict[tuple[str, str], GroupResults]]:
    """Rows, columns and the group in each cell of a crossed attribute; unknown has no cell."""
    cells = {
        (str(entry["group"]).rpartition(CROSS)[0], str(entry["group"]).rpartition(CROSS)[2]): entry
        for entry in groups
        if entry["group"] != UNKNOWN
    }
    return list(dict.fromkeys(row for row, _ in cells)), _columns(groups), cells


def _columns(groups: list[GroupResults]) -> list[str]:
    names = [str(entry["group"]) for entry in groups if entry["group"] != UNKNOWN]
    return order_groups([name.rpartition(CROSS)[2] for name in names])


def _dataset(audit: AuditResults, findings: Findings) -> Markup:
    noun = units(audit["settings"]["unit"])
    counted = COUNTED if has_one_score_each(audit) else (*COUNTED, *COUNTED_FRAMES)
    rows = []
    for attribute, found in audit["attributes"].items():
        for entry in found["groups"]:
            behind: Measures = entry["support"]
            rows.append(
                {
                    "groups of": title(attribute),
                    "group": swatch(findings.colour(attribute, entry["group"]), entry["group"]),
                    noun: behind["clusters"],
                    **{name.replace("_", " "): behind[name] for name in counted},
                }
            )
    maps = [_map(attribute, parts, audit) for attribute, parts in find_crossings(audit).items()]
    shown = record_table(rows, caption="Who is behind each group")
    return join_parts([shown, *maps, _left_out_groups(audit), *_without_score(audit, findings)])


def _without_score(audit: AuditResults, findings: Findings) -> list[Markup]:
    """Whose videos have no score: what was found, and a table by group and class; nothing where all have."""
    if "attrition" not in audit:
        return []
    losses = LossAudit.model_validate(audit["attrition"])
    rows = [
        {
            "groups of": title(row.attribute),
            "group": swatch(findings.colour(row.attribute, row.group), row.group),
            "class": row.of,
            "videos given": row.given,
            "without a score": row.lost,
            "share [95\u00a0%]": share_text(row.share, row.share_ci),
        }
        for row in losses.groups
    ]
    heading = findings.heading("Whose videos have no score")
    return [heading, bullets(losses.sentences()), record_table(rows, caption="Videos without a score")]


def _left_out_groups(audit: AuditResults) -> Markup:
    """Who no gap rests on, groups with the same reason together."""
    together: dict[tuple[str, str, str], list[str]] = {}
    for attribute, found in audit["attributes"].items():
        for entry in found["excluded"]:
            key = (attribute, entry["metrics"], entry["reason"])
            together.setdefault(key, []).append(entry["group"])
    if not together:
        return paragraph("No group was left out.")
    items = [
        f"{title(attribute)}: {_who(groups, audit, attribute)} left out of {metrics} ({reason})"
        for (attribute, metrics, reason), groups in together.items()
    ]
    return join_parts([paragraph("Left out of gaps:"), bullets(items)])


def _who(groups: list[str], audit: AuditResults, attribute: str) -> str:
    everyone = len(groups) > 1 and len(groups) == len(audit["attributes"][attribute]["groups"])
    return "every group" if everyone else list_names(groups)


def _map(attribute: str, parts: tuple[str, str], audit: AuditResults) -> Markup:
    """Videos of each combination, darker where there are more; hatched below the support that is needed."""
    rows, columns, cells = grid(audit["attributes"][attribute]["groups"])
    most = max(_videos(entry) for entry in cells.values()) or 1

    def shown(row: str, column: str) -> Cell:
        entry = cells.get((row, column))
        if entry is None:
            return Cell("nobody", greyed=True)
        behind = entry["support"]
        few = not {"fpr", "tpr"} & set(entry["compared"])
        below = "too few to compare" if few else ""
        return Cell(
            f"{behind['real_videos']:,} real, {behind['fake_videos']:,} fake",
            below,
            _videos(entry) / most,
            few,
        )

    return heat_table(
        [(row, [shown(row, column) for column in columns]) for row in rows],
        [title(parts[0]), *columns],
        f"Videos by {title(attribute)}: darker is more, hatched is too few to compare",
    )


def _videos(entry: GroupResults) -> int:
    return entry["support"]["real_videos"] + entry["support"]["fake_videos"]
