"""What every part of the fairness report reads.

The findings, their colours, and where figures go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from markupsafe import Markup

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.html.page import details, heading, join_parts
from unmasked.analysis.reports.gallery import Drawable, Gallery, slug
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import metric_text, percent, share_text
from unmasked.fairness.records import AuditResults, FairnessResults


@dataclass(frozen=True)
class Findings:
    """What ``fairness.json`` holds, and one colour for each group of an attribute.

    Attributes:
        whole: everything; the parts that span datasets are read from here.
        audits: dataset -> `Audit.to_dict` with what was added to it.
        colours: attribute -> group -> ``#rrggbb``.
        gallery: takes the figures.
    """

    whole: FairnessResults
    audits: dict[str, AuditResults]
    colours: dict[str, dict[str, str]]
    gallery: Gallery = field(default_factory=Gallery)

    @classmethod
    def of(cls, whole: FairnessResults, gallery: Gallery | None = None) -> Findings:
        """Read from the audits of one dataset or several."""
        audits = whole["datasets"]
        groups: dict[str, list[str]] = {}
        for audit in audits.values():
            for attribute, part in audit["attributes"].items():
                groups.setdefault(attribute, []).extend(entry["group"] for entry in part["groups"])
        colours = {name: group_colours(members) for name, members in groups.items()}
        return cls(whole, audits, colours, Gallery() if gallery is None else gallery)

    @property
    def has_several(self) -> bool:
        """True if more than one dataset was audited, so that each needs a heading."""
        return len(self.audits) > 1

    def heading(self, text: str) -> Markup:
        """A heading within a dataset's part: h3, or h4 below the name of one of several."""
        return heading(4 if self.has_several else 3, text)

    def colour(self, attribute: str, group: str) -> str:
        """The colour of a group wherever it is drawn; black for one that no audit lists."""
        return self.colours.get(attribute, {}).get(group, "#000000")

    def draw(self, names: tuple[str, ...], display: Drawable, alt: str) -> Markup:
        """The figure in the page; in the gallery it is named by its kind, its dataset and so on."""
        return self.gallery.draw("_".join([names[0], *map(slug, names[1:])]), display, alt)


def has_one_score_each(audit: AuditResults) -> bool:
    """True if every video has one score, so that nothing is said of its frames."""
    counts: Measures = audit["overall"]["support"]
    return all(counts[f"{which}_frames"] == counts[f"{which}_videos"] for which in ("real", "fake"))


def by_dataset(findings: Findings, body: Callable[[str, AuditResults], Markup]) -> Markup:
    """``body(name, audit)`` for each dataset under its name; empty ones are left out."""
    parts = []
    for name, audit in findings.audits.items():
        found = body(name, audit)
        if found:
            parts += [heading(3, name) if findings.has_several else "", found]
    return join_parts(parts)


def fold_away(figures: Markup, too_small: bool) -> Markup:
    """The figures, folded away where all that they show is chance."""
    return details("The groups are too small to be compared; look anyway", figures) if too_small else figures


def utility(audit: AuditResults) -> Markup:
    """How good the detector is at all, the line beside every fairness figure."""
    overall, constant = audit["overall"], audit["constant_detector"]["overall"]
    return Markup(
        '<p class="soft">How good it is at all here: AUC {}, balanced accuracy {} '
        "(calling everything fake: {}).</p>"
    ).format(
        metric_text(overall, "auc"),
        share_text(overall["balanced_accuracy"], overall.get("balanced_accuracy_ci")),
        percent(constant["balanced_accuracy"]),
    )
