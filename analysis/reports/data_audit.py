"""The audit as a page, for the decision whether to train and test on these data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
from markupsafe import Markup

from unmasked.analysis.figures.colours import group_colours
from unmasked.analysis.figures.dots import Dot, DotDisplay
from unmasked.analysis.html.page import (
    KeyNumber,
    Section,
    absent_note,
    bullets,
    callout,
    first_screen,
    place_side_by_side,
    render_page,
    table,
)
from unmasked.analysis.html.pictures import image
from unmasked.analysis.reports.gallery import Gallery
from unmasked.datasets.audit.findings import NOUNS, Finding
from unmasked.datasets.audit.shortcuts import AUC_MIN, FEATURES
from unmasked.datasets.files import write_text
from unmasked.datasets.images import UnreadableImage, read_pixels
from unmasked.evaluation.wording import IN_BRACKETS, interval_in_words, list_names, value_text

if TYPE_CHECKING:
    from unmasked.datasets.audit.run import Audit

QUESTION = "What in these data would make a result too good, or wrong?"
KINDS = {
    "bad": ("bad", "Must be put right"),
    "warning": ("warning", "Should be looked at"),
    "note": ("note", "Note"),
}
CLEAN = "No leak, no near-copy and no shortcut among what was looked at."
PAGE = "audit.html"
PAIRS_SHOWN = 6
SPLIT_WORDS = {
    "split": "on both sides of a split",
    "label": "as real and as fake",
    "repeat": "under two names",
}
PICTURE_PX = 128
ROWS_SHOWN = 12  # of a dataset, in the picture
GUESSING = 0.5  # AUC


def write_page(audited: Audit, folder: Path) -> Path:
    """Writes ``audit.html``, and its figures with their numbers into ``figures/``.

    Returns the page.
    """
    gallery = Gallery()
    text = page(audited, gallery)
    gallery.write(folder / "figures", PAGE)
    write_text(folder / PAGE, text)
    return folder / PAGE


def page(audited: Audit, gallery: Gallery | None = None) -> str:
    """The whole report as one self-contained page.

    Its figures are put into the gallery as well.
    """
    gallery = Gallery() if gallery is None else gallery
    shortcuts = _shortcuts(audited, gallery)
    gists = dict(_gists(audited))
    parts = [
        ("answer", "What was found", bullets([_finding(finding) for finding in audited.findings])),
        ("shortcuts", "Shortcuts to the label", shortcuts),
        ("overlaps", "Shared between splits and datasets", _overlaps(audited)),
        ("duplicates", "Near-duplicate pictures", _duplicates(audited)),
        ("limits", "What was looked at, and what was not", _limits(audited)),
    ]
    sections = [Section(name, title, body, True, gists[name]) for name, title, body in parts if body]
    return render_page("Dataset audit", sections, subtitle=QUESTION, first=_first(audited, gallery))


def _gists(audited: Audit) -> Iterator[tuple[str, str]]:
    """(anchor, sentence) of each part."""
    yield "answer", "Why each matters, and what to do."
    measured = _measured(audited)
    yield "shortcuts", f"Found by {measured['is_shortcut'].sum()} of the {len(measured)} facts tested."
    shared = len(audited.overlaps.summary)
    yield "overlaps", f"Entries: {shared}." if shared else "Nothing that is known."
    pairs = 0 if audited.duplicates is None else len(audited.duplicates.pairs)
    yield "duplicates", f"Pairs: {pairs:,}." if pairs else "None."
    yield "limits", f"Not looked at: {len(audited.not_checked)}, and why."


def _measured(audited: Audit) -> pd.DataFrame:
    """The facts that could be tested, the most telling first."""
    if audited.shortcuts is None:
        return pd.DataFrame({"is_shortcut": []})
    tested = audited.shortcuts
    return tested[tested["reason"] == ""].sort_values("auc", ascending=False)


def _first(audited: Audit, gallery: Gallery) -> Markup:
    """The first screen: findings by kind, the most telling fact, what to do first."""
    counted = {kind: sum(one.severity == kind for one in audited.findings) for kind in KINDS}
    if audited.is_clean:
        verdict = callout("good", CLEAN, title=audited.clean_words.capitalize())
        decision = "train and test on these data; look at what was not checked first."
    else:
        first = min(audited.findings, key=lambda one: list(KINDS).index(one.severity))
        kind, title = KINDS[first.severity]
        more = f" Findings in all: {len(audited.findings)}, below." if len(audited.findings) > 1 else ""
        verdict = callout(kind, f"{first.found}.{more}", title=title)  # type: ignore[arg-type]
        decision = first.advice
    return first_screen(
        tested=_tested(audited),
        verdict=verdict,
        numbers=[
            KeyNumber(str(counted["bad"]), "must be put right", "a result on these data would be wrong"),
            KeyNumber(str(counted["warning"]), "should be looked at", "a result may be too good"),
            _telling_fact(audited),
        ],
        picture=gallery.html("shortcuts"),
        decision=decision,
        caution="that data without a finding are sound: only what this page lists was looked at.",
    )


def _tested(audited: Audit) -> str:
    """What was looked at, in a sentence; the last part has every line of it."""
    sets = list_names([f"{rows:,} of {name}" for name, rows in audited.rows.items()])
    pictures = audited.duplicates.pictures if audited.duplicates is not None else 0
    return (
        f"Rows of the manifest: {sets}. Pictures compared: {pictures:,}. "
        f"Facts about files tested: {len(_measured(audited))}."
    )


def _telling_fact(audited: Audit) -> KeyNumber:
    measured = _measured(audited)
    if measured.empty:
        return KeyNumber("–", "facts that tell fakes from reals: not tested", "see what was not looked at")
    row = measured.iloc[0]
    files = f"{row['real']:,} real + {row['fake']:,} fake; guessing 0.50"
    return KeyNumber(
        f"{row['auc']:.2f}",
        f"AUC of the most telling fact, {FEATURES[row['feature']].title}, on {row['dataset']}",
        ", ".join(filter(None, [interval_in_words([row["low"], row["high"]]), files])),
    )


def _finding(finding: Finding) -> Markup:
    return Markup("{}: <strong>{}.</strong> Why it matters: {} What to do: {}").format(
        KINDS[finding.severity][1], finding.found, finding.why, finding.advice
    )


def _shortcuts(audited: Audit, gallery: Gallery) -> Markup:
    measured = _measured(audited)
    intro = Markup(
        "<p>For each row a small decision tree (a rule on brightness for edges and corners) "
        "saw this one fact about files, and nothing else, and had to "
        "tell fakes from reals among people and videos it had not seen. Guessing gives an AUC of 0.5. Where "
        "a fact reaches {} or more, and chance does not explain it, a detector may have learnt it.</p>"
    ).format(AUC_MIN)
    if measured.empty:
        return absent_note("No test could be made:", "see “What was looked at, and what was not”.")
    colours = group_colours(measured["dataset"])
    dots = [
        Dot(
            FEATURES[row.feature].title,
            row.auc,
            row.low,
            row.high,
            f"{row.real + row.fake:,}",
            colours[name],
            block=name,
        )
        for name in colours
        for row in measured[measured["dataset"] == name].head(ROWS_SHOWN).itertuples()
    ]
    alt = f"AUC of each fact. {'; '.join(dot.text for dot in dots)}"
    display = DotDisplay(
        dots, "fake above real (AUC)", expected=dict.fromkeys(colours, GUESSING), n_of="files"
    )
    gallery.draw("shortcuts", display, alt, "Dotted: guessing. Line: 95 % interval.")  # on the first screen
    frame = pd.DataFrame(
        {
            "dataset": measured["dataset"],
            "fact": [FEATURES[name].title for name in measured["feature"]],
            "AUC": [value_text(row.auc, [row.low, row.high], places=3) for row in measured.itertuples()],
            "usual in reals": measured["in_reals"],
            "usual in fakes": measured["in_fakes"],
            "reals, fakes": [f"{row.real:,}, {row.fake:,}" for row in measured.itertuples()],
        },
        dtype=object,
    ).reset_index(drop=True)
    caption = f"Each fact by itself, the most telling first; shortcuts are marked. {IN_BRACKETS}"
    caption += " After what is usual: the middle half of the files."
    marked = measured["is_shortcut"].reset_index(drop=True)
    return intro + table(frame, caption=caption, highlight=marked)


def _overlaps(audited: Audit) -> Markup:
    summary = audited.overlaps.summary
    if summary.empty:
        return Markup("<p>No known person, original video or file is on both sides.</p>")
    frame = pd.DataFrame(
        {
            "what": [NOUNS[kind][1] for kind in summary["kind"]],
            "in": summary["dataset"] + " " + summary["split"],
            "and in": summary["other_dataset"] + " " + summary["other_split"],
            "shared": [f"{row.values:,} of {row.values_of:,}" for row in summary.itertuples()],
            "rows of the latter": [f"{row.rows:,} of {row.rows_of:,}" for row in summary.itertuples()],
            "counted": summary["certain"].map(
                {True: "yes", False: "no: numbers that each dataset starts again"}
            ),
        },
        dtype=object,
    )
    note = Markup('<p class="soft">overlaps.csv beside this page lists every one of them.</p>')
    return table(frame, caption="What is on both sides.") + note


def _duplicates(audited: Audit) -> Markup:
    found = audited.duplicates
    if found is None or not found.pictures:
        return absent_note("No pictures were compared.", Markup("Give <code>faces=</code>, a faces table."))
    if found.pairs.empty:
        return Markup(
            "<p>{:,} pictures were compared. None is a near-copy of another that the manifest does not tie "
            "to it, and none is on both sides of a split.</p>"
        ).format(found.pictures)
    parts = [
        Markup(
            "<p>{:,} pictures were compared by perceptual hash, then by details and colours; {:,} pairs are "
            "one picture, recompressed or rescaled at most. Frames of one video, and fakes beside the "
            "originals that the manifest names, are not counted. duplicates.csv beside this page lists all "
            "pairs.</p>"
        ).format(found.pictures, len(found.pairs))
    ]
    for kind, words in SPLIT_WORDS.items():
        pairs = found.pairs[found.pairs["finding"] == kind]
        if len(pairs):
            parts.append(Markup("<h3>{}: {:,}</h3>").format(f"Pairs {words}", len(pairs)))
            # One pair of each pair of videos first: ten frames of one clip show one thing.
            shown = pairs.drop_duplicates(["video", "other_video"]).head(PAIRS_SHOWN)
            parts.append(place_side_by_side([_pair(row) for row in shown.itertuples()]))
    return Markup("\n").join(parts)


def _pair(row: Any) -> Markup:
    """Both pictures side by side, with what the manifest calls them."""
    names = [
        f"{getattr(row, f'{side}video')} ({getattr(row, f'{side}dataset')}, {getattr(row, f'{side}split')}, "
        f"{'fake' if getattr(row, f'{side}label') else 'real'})"
        for side in ("", "other_")
    ]
    caption = Markup("{}<br>{}").format(*names)
    picture = _pair_of_pictures(row.picture, row.other_picture)
    if picture is None:
        return Markup("<p>{}</p>").format(caption)
    return image(picture, f"{names[0]} and {names[1]}", caption=caption, quality=82)


def _pair_of_pictures(first: str, second: str) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB of two image files; None where one has gone since it was compared."""
    pictures = []
    for path in (first, second):
        try:
            picture = read_pixels(path)
        except (UnreadableImage, OSError):
            return None
        pictures.append(cv2.resize(picture, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA))
    return np.hstack(pictures)


def _limits(audited: Audit) -> Markup:
    always = [
        "People are compared by the names that the manifest gives them. Nobody is recognised by the face.",
        "Mirrored, cropped or recoloured copies of a picture are not found.",
        "A fact that no row of this page tests (noise, colour, background, sound) may be a shortcut as well.",
    ]
    looked = Markup("<h3>Looked at</h3>") + bullets(audited.checked)
    return looked + Markup("<h3>Not looked at</h3>") + bullets([*audited.not_checked, *always])
