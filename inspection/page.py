"""``case.html``: a case for people, one file without scripts or outside addresses."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from unmasked.analysis.figures.timeline import TimelineDisplay
from unmasked.analysis.html.page import (
    Kind,
    Section,
    aside,
    bullets,
    callout,
    code,
    first_screen,
    heading,
    join_parts,
    paragraph,
    place_side_by_side,
    record_table,
    render_page,
)
from unmasked.analysis.html.pictures import image, place_svg, svg_document
from unmasked.evaluation.likelihood import PROPOSITIONS, support_words
from unmasked.evaluation.wording import capitalise, count_text, share_text, threshold_text
from unmasked.inspection.finding import answer_below_verdict
from unmasked.inspection.records import Case, Credentials, Facts, Look, Maps, Person, Rates, Verdict

KINDS: dict[Verdict, Kind] = {
    "likely fake": "bad",
    "likely real": "note",  # not green: that one detector found nothing clears no file
    "inconclusive": "warning",
    "not judged": "note",
}
NOTHING_FOUND = "“Likely real” says that this detector found nothing, not that nothing was done to the file."
NOT_COMPARED = (
    "Not compared with the material that the detector learned from: none is stored for these weights, so a "
    "face of another kind is answered like any other"
)
# What follows from a verdict, and what does not.
DECISIONS: dict[Verdict, str] = {
    "likely fake": "a reason to look further, and no proof. Ask for the original and where it comes from.",
    "likely real": "it clears nothing. What else speaks for a fake still has to be looked at.",
    "inconclusive": "take it as not examined. A better copy or another detector may give an answer.",
    "not judged": "nothing was found out about the file; the reason says what would be needed.",
}
CAUTIONS: dict[Verdict, str] = {
    "likely fake": "how probable it is that the file is fake. That needs what else is known of it.",
    "likely real": "that the file is real. The detector finds fakes of the kinds that it learned from.",
    "inconclusive": "that the file is half fake, or suspicious because there is no answer.",
    "not judged": "that the file is real, or fake.",
}
SHOWN = 3  # crops of each person
PEOPLE_MAX = 6  # whose lines and crops are shown; all are in the table
KIND_WORDS = {
    "calibration": "where the threshold was fitted",
    "source": "as its training material",
    "unseen": "unlike its training material",
}


def render_case(case: Case, folder: Path) -> str:
    """The page of a case.

    Args:
        case: what was found.
        folder: where its crops are.
    """
    sections = [
        Section("people", "People and frames", _people(case, folder)),
        Section("errors", "How often the detector errs", _errors(case), is_folded=True),
        Section("exhibit", "What was examined, and how", _exhibit(case), is_folded=True),
        Section("limits", "What this does not say", _limits(case), is_folded=True),
    ]
    is_open = any(reason.code == "no_support" for reason in case.finding.reasons)
    verdict: Verdict = "inconclusive" if is_open else case.finding.verdict
    first = first_screen(
        tested=_tested(case),
        verdict=_answer(case),
        numbers=[],  # they stand in the verdict's box
        picture=Markup("<div>{}{}</div>").format(_picture(case, folder), _reasons(case)),
        decision=DECISIONS[verdict],
        caution=CAUTIONS[verdict],
    )
    size = f"{case.source.bytes:,} bytes, SHA-256 {case.source.sha256[:12]}…"
    return render_page(f"Case: {case.source.name}", sections, subtitle=size, first=first)


def _tested(case: Case) -> str:
    at = threshold_text(case.thresholds["threshold"])
    return f"{case.source.kind.capitalize()}, examined with {_name(case)}. Fake is above {at}."


def _name(case: Case) -> str:
    """The detector, which network of its family it is, and the folder of its weights."""
    weights = case.weights
    network = f" ({weights.network})" if weights.network else ""
    return f"{weights.detector}{network}" + (f", run “{weights.folder}”" if weights.folder else "")


def _picture(case: Case, folder: Path) -> Markup:
    """A video's scores over time, or a picture's most suspicious face; nothing where none has a score."""
    shown = _people_shown(case)
    if not shown:
        return Markup("")
    if case.source.kind == "video":
        return _timeline(case, shown)
    return _crop(max(_looks(case, shown[0]), key=lambda look: look.score), folder)


def _reasons(case: Case) -> Markup:
    reasons = [f"{capitalise(reason.words)} ({reason.code})" for reason in case.finding.reasons]
    if case.people and case.material is None:
        reasons.append(NOT_COMPARED)
    # No heading: none of a higher level stands above it.
    return join_parts([paragraph(Markup("<strong>Reasons</strong>")), bullets(reasons)] if reasons else [])


def _people_shown(case: Case) -> list[Person]:
    return [one for one in case.people if one.score is not None][:PEOPLE_MAX]


def finding_part(case: Case) -> Markup:
    """Verdict, sentences and reasons of a case, as its page begins."""
    return join_parts([_answer(case), _reasons(case)])


def _answer(case: Case) -> Markup:
    found = case.finding
    # In the box, so that nobody reads a verdict without its errors.
    sentences = [answer_below_verdict(found), *found.sentences[1:]]
    sentences += [NOTHING_FOUND] if found.verdict == "likely real" else []
    return callout(
        KINDS[found.verdict],
        join_parts([paragraph(one) for one in sentences]),
        title=found.verdict.capitalize(),
    )


def _people(case: Case, folder: Path) -> Markup:
    if not case.people:
        return paragraph(f"No face was scored in {count_text(case.sampled.frames, 'frame')} looked at.")
    rows = [
        {
            "who": f"person {one.number}",
            "verdict": one.verdict,
            "score": "–" if one.score is None else f"{one.score:.3f}",
            "likelihood ratio": _ratio(one),
            "frames": one.frames,
            "seen": _seen(one),
            "face, px": "–" if one.size_px is None else f"{one.size_px:.0f}",
        }
        for one in case.people
    ]
    table = record_table(rows, caption="Everybody who was looked at, who seems most fake first.")
    # Those of whose answer is the file's stand in the finding.
    others = [one for one in case.people if one.number != case.finding.person]
    why = [f"Person {one.number}: {reason.words}." for one in others for reason in one.reasons]
    parts = [table, *([bullets(why)] if why else [])]
    for one in _people_shown(case):
        parts.append(_crops(case, one, folder))
    return join_parts(parts)


def _timeline(case: Case, people: list[Person]) -> Markup:
    lines = {}
    for one in people:
        looks = [look for look in _looks(case, one) if look.time_s is not None]
        lines[f"person {one.number}"] = (
            [look.time_s or 0.0 for look in looks],
            [look.score for look in looks],
        )
    band = case.thresholds["abstention"]
    display = TimelineDisplay(
        lines,
        case.thresholds["threshold"]["value"],
        (band["low"], band["high"]) if band and band["low"] < band["high"] else None,
    ).plot()
    caption = "The verdict is made on the mean of a person's frames, not on single ones."
    if case.sampled.largest_gap_s is not None:
        gap_s = case.sampled.largest_gap_s
        caption += f" Between two frames that were looked at lie at most {gap_s:.2f} seconds."
    if case.sampled.between:
        more = count_text(case.sampled.between, "frame")
        caption += f" {more} more were looked at where scores move; they are drawn, and in no mean."
    return place_svg(
        svg_document(display.figure_), "Score of each person over time", name="timeline", caption=caption
    )


def _crops(case: Case, one: Person, folder: Path) -> Markup:
    looks = sorted(_looks(case, one), key=lambda look: -look.score)[:SHOWN]
    pictures = [_crop(look, folder) for look in looks]
    title = heading(3, f"Person {one.number}: the frames with the highest scores")
    return join_parts([title, place_side_by_side(pictures), *_maps(case, looks, folder)])


def _looks(case: Case, one: Person) -> list[Look]:
    return [look for look in case.looks if look.person == one.number]


def _crop(look: Look, folder: Path) -> Markup:
    return image(
        (folder / look.crop).read_bytes(),
        f"Person {look.person}, frame {look.frame}",
        caption=f"{_when(look)}: score {look.score:.3f}",
    )


def _maps(case: Case, looks: list[Look], folder: Path) -> list[Markup]:
    """The maps of looks, and whether they can be trusted; nothing where none were made."""
    by_crop = {one.crop: one for one in case.maps.shown} if case.maps is not None else {}
    shown = [(look, by_crop[look.crop]) for look in looks if look.crop in by_crop]
    if case.maps is None or not shown:
        return []
    pictures = []
    for look, one in shown:
        said = "nothing in it is evidence for a fake" if one.is_blank else case.maps.method
        caption = "in grey: the maps fail their tests" if case.maps.sentences else said
        alt = f"Map of person {look.person}, frame {look.frame}: {caption}"
        pictures.append(image((folder / one.file).read_bytes(), alt, caption=f"{_when(look)}: {caption}"))
    return [paragraph(map_words(case.maps)), place_side_by_side(pictures)]


def map_words(maps: Maps) -> str:
    """What a reader must know before he reads the maps."""
    if maps.sentences:
        return f"No map can be shown ({maps.method}): {'; '.join(maps.sentences)}."
    return (
        f"Where the detector found evidence ({maps.method}); the brighter, the more. Tested on these frames: "
        "the map changes when the detector forgets what it learned, and taking away what it marks lowers the "
        "score sooner than a random order does. It says nothing of how much, and not that the place was "
        "changed."
    )


def _errors(case: Case) -> Markup:
    if not case.performance:
        return aside("Not measured: no threshold says on what it was fitted, and no run was given.")
    rows = [
        {
            "measured on": one.dataset,
            "": KIND_WORDS[one.kind],
            "real called fake": _share(one, "fpr"),
            "fakes missed": _share(one, "fnr"),
            "real": one.real_videos,
            "fake": one.fake_videos,
        }
        for one in case.performance
    ]
    at = threshold_text(case.thresholds["threshold"])
    ends = [end for one in case.performance for end in (*one.fpr_ci, *one.fnr_ci)]
    unsure = (
        " A share without an interval is of too few people to say how exact it is." if None in ends else ""
    )
    return join_parts(
        [
            record_table(rows, caption=f"Errors at the threshold {at}. In brackets: 95 % interval."),
            aside(f"They are shares of {case.performance[0].noun}s with one person each." + unsure),
        ]
    )


def _exhibit(case: Case) -> Markup:
    settings = case.settings
    facts = [
        ("file", case.source.name),
        ("SHA-256 of the file", case.source.sha256),
        ("detector", f"{_name(case)} ({case.weights.architecture})"),
        ("SHA-256 of its weights", case.weights.sha256),
        ("SHA-256 of its card", case.weights.card_sha256),
        ("SHA-256 of the code", case.code_sha256),
        (
            "frames",
            f"{case.sampled.frames} looked at, {case.sampled.with_face} with a face, "
            f"{case.sampled.unreadable} unreadable, {case.sampled.between} more where scores move",
        ),
        ("faces", f"{settings.face_detector}, aligned by {settings.landmarks}, crops {settings.crops}"),
        ("Python", str(case.environment.get("python", "–"))),
    ]
    table = record_table(
        [{"what": name, "value": value} for name, value in facts], caption="The exhibit and the method."
    )
    if case.source.facts.model_copy(update={"credentials": None}) != Facts():
        table = join_parts([table, _facts(case.source.facts)])
    if case.source.facts.credentials is not None:
        table = join_parts([table, _credentials(case.source.facts.credentials)])
    noticed = [heading(3, "Noticed while decoding"), bullets(case.warnings)] if case.warnings else []
    again = paragraph(
        Markup("{} runs this case again and says what differs.").format(code("unmasked verify CASE"))
    )
    return join_parts([table, *noticed, again])


def _facts(facts: Facts) -> Markup:
    size = f"{facts.width_px} × {facts.height_px} pixels" if facts.width_px else "–"
    rows = [("format", " ".join(filter(None, (facts.format, facts.codec)))), ("size", size)]
    if facts.frames_per_s:
        rows.append(("frames", f"{facts.frames or 'unknown'} at {facts.frames_per_s:.4g} a second"))
    if facts.duration_s:
        rows.append(("duration", f"{facts.duration_s:.2f} s"))
    if facts.bits_per_pixel:
        rows.append(("bits a pixel", f"{facts.bits_per_pixel:.2g}"))
    caption = "What the file says of itself. Anyone can write this: it is no evidence."
    rows += sorted(facts.notes.items())
    return record_table([{"what": name, "value": value} for name, value in rows], caption=caption)


def _credentials(found: Credentials) -> Markup:
    """What the makers of a file claim, apart from the score and in no verdict."""
    rows = [("where", found.place), *found.claims.items()]
    if found.reader:
        rows += [("hashes and signature", found.state or "not read"), ("read by", found.reader)]
    caption = (
        "Content credentials (C2PA): what the makers of the file claim. They are in no score and no verdict, "
        "and nothing was fetched to check them."
    )
    if not found.reader:
        caption += " Here they were only noticed: pip install unmasked[c2pa] reads them."
    return record_table([{"what": name, "value": value} for name, value in rows], caption=caption)


def _limits(case: Case) -> Markup:
    return bullets(
        [
            f"Two propositions are compared: {PROPOSITIONS[0]}; {PROPOSITIONS[1]}. Fakes of another kind are "
            "neither.",
            "A score is no probability that the file is fake. That needs what else is known of the file.",
            NOTHING_FOUND,
            f"A person in fewer than {case.settings.few_frames} sampled frames of a video, or whose face is "
            f"smaller than {case.settings.small_face_px:.0f} pixels, is not judged.",
            _material_words(case),
        ]
    )


def _material_words(case: Case) -> str:
    if case.material is None:
        return (
            "Whether the file is like the material that the detector was calibrated on was not looked at: "
            "none is stored for these weights."
        )
    return (
        "Faces unlike the calibration material, with less fine detail or without texture are answered with "
        f"“inconclusive”; of files like {case.material.fitted_on} each of these three happens to "
        f"{100 * case.material.rate:.2g} of 100. A file that passes may still be unlike it in other ways."
    )


def _ratio(one: Person) -> str:
    if one.log10_lr is None:
        return "–"
    return f"{10**one.log10_lr:.2g} ({support_words(one.log10_lr)})"


def _seen(one: Person) -> str:
    if one.first_s is None or one.last_s is None:
        return "–"
    return f"{one.first_s:.1f} to {one.last_s:.1f} s"


def _when(look: Look) -> str:
    return f"frame {look.frame}" if look.time_s is None else f"{look.time_s:.2f} s"


def _share(one: Rates, name: str) -> str:
    return share_text(getattr(one, name), getattr(one, f"{name}_ci"))
