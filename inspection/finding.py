"""From scores to a verdict in words, or to a refusal with its reason.

A verdict comes from the stored threshold and band, never from a bare 0.5. Where no face was scored there is
no number at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from unmasked.datasets.errors import InputError
from unmasked.evaluation.counts import Array
from unmasked.evaluation.domain import Domain, Place
from unmasked.evaluation.fitted import Fitted
from unmasked.evaluation.intervals import exact_interval
from unmasked.evaluation.likelihood import NO_SUPPORT, posterior, support_sentence, support_words
from unmasked.evaluation.metrics import mean_without_rounding_error
from unmasked.evaluation.wording import count_in_100, count_text, interval_in_100, name_files
from unmasked.inspection.records import Code, Finding, Person, Rates, Reason, Sampled, Settings, Verdict

# Which of several people's verdicts is the file's.
ORDER: tuple[Verdict, ...] = ("likely fake", "inconclusive", "likely real", "not judged")
WORDS = {
    "no_face": "no face was found",
    "audio_only": "the file holds sound and no pictures",
    "decode_error": "the file cannot be read as a picture or video",
    "missing_file": "the file is not there",
    "too_large": "its frames have more pixels than are decoded",
    "over_budget": "decoding took more time or memory than is allowed",
    "crashed": "decoding it ended the process that did it",
    "already_cropped": "the picture is a face crop already: most of a face cut out of it would be empty",
}
NO_VIDEO = "has no video stream"  # how preprocessing words a file of sound alone


# Measure -> what it says of a person who lies beyond nearly all of the calibration material in it.
FOREIGN: dict[str, tuple[Code, str]] = {
    "distance": ("out_of_domain", "the face lies farther from what the detector learned from"),
    "flatness": ("drawing_or_rendering", "more of the face has no texture, as in drawings and renderings,"),
    "detail": ("blurred", "the face has less fine detail"),
}
# Bits a pixel, below which little detail is the work of compression, not of a lens or pencil. A choice: H.264
# at the strongest of the three usual rates (c40) lies at about 0.02, at the middle one (c23) at about 0.1.
FEW_BITS = 0.05
FEW_BITS_PICTURE = 0.5
# Scores beyond which frames make two heaps, a quarter of them at least in each and three in both; of how many
# frames. Choices.
HEAPS = (0.25, 0.75)
HEAPS_OF = 8


def verdict_of(score: float, fitted: Fitted) -> Verdict:
    """What the stored band says of a score; where there is no band, the stored threshold."""
    if fitted.band is not None and fitted.band.low < score <= fitted.band.high:
        return "inconclusive"
    above = fitted.band.high if fitted.band is not None else fitted.threshold.value
    return "likely fake" if score > above else "likely real"


def foreign_reasons(
    place: Place, domain: Domain, *, is_video: bool, bits_per_pixel: float | None
) -> list[Reason]:
    """Why a person is unlike the calibration material; none if alike.

    Args:
        place: of the person in it.
        domain: of the detector.
        is_video: whether a video or a picture is looked at.
        bits_per_pixel: of a file that is compressed with loss; None for others, and where it is not known.
    """
    reasons = []
    kind = "video" if is_video else "picture"
    if domain.kinds and kind not in domain.kinds:
        words = f"this is a {kind}, and the threshold was fitted on {domain.kinds[0]}s ({domain.fitted_on})"
        reasons.append(Reason(code="out_of_domain", words=words))
    for name, (code, words) in FOREIGN.items():
        share = place.shares[name]
        if share > domain.rate + 1e-12:
            continue
        few_bits = FEW_BITS if is_video else FEW_BITS_PICTURE
        if name != "distance" and bits_per_pixel is not None and bits_per_pixel < few_bits:
            code = "heavy_compression"
            left = "less fine detail" if name == "detail" else "more of it without texture"
            words = f"{bits_per_pixel:.2g} bits a pixel left the face {left}"
        how = f" ({place.distance:.1f} times the usual distance)" if name == "distance" else ""
        are_all = share * (domain.people + 1) < 1.5
        whom = "any" if are_all else f"{100 * (1 - share):.3g} %"
        than = (
            f"than {whom} of {domain.people} calibration faces; "
            f"{100 * domain.rate:.2g} % of files like those are refused so"
        )
        reasons.append(Reason(code=code, words=f"{words}{how} {than}"))
    return reasons


def people_of(
    scored: pd.DataFrame,
    fitted: Fitted,
    settings: Settings,
    *,
    is_video: bool,
    places: Mapping[int, tuple[Place, list[Reason]]] | None = None,
) -> list[Person]:
    """Each person with their verdict, the one who seems most fake first.

    Args:
        scored: a row a scored crop: face, frame, time_s, score, size_px.
        fitted: threshold, band and likelihood ratio.
        settings: how many frames and how large a face it takes.
        is_video: a person may be in one frame of a picture.
        places: of each person in the calibration material, and why they are none of it; None where no
            material is stored.
    """
    each = scored.groupby("face")["score"]
    means = mean_without_rounding_error(each.mean(), each.min(), each.max())  # as of a video
    people = [
        _person(
            int(face),
            rows,
            float(means[face]),
            fitted,
            settings,
            is_video,
            (places or {}).get(int(face)),
        )
        for face, rows in scored.groupby("face", sort=True)
    ]
    # Who is not judged has no score, and comes last.
    return sorted(people, key=lambda one: (ORDER.index(one.verdict), -(one.score or 0), one.number))


def _person(
    number: int,
    rows: pd.DataFrame,
    score: float,
    fitted: Fitted,
    settings: Settings,
    is_video: bool,
    place: tuple[Place, list[Reason]] | None,
) -> Person:
    size_px = float(rows["size_px"].median())
    reasons = []
    verdict = verdict_of(score, fitted)
    if verdict == "inconclusive":
        assert fitted.band is not None
        reasons.append(
            Reason(
                code="within_band",
                words=f"the score {score:.3g} lies between {fitted.band.low:.3g} and {fitted.band.high:.3g}, "
                "where the detector errs too often to answer",
            )
        )
    if heaps := _heap_words(rows["score"].to_numpy(), score):
        reasons.append(Reason(code="two_heaps", words=heaps))
    foreign = place[1] if place is not None else []
    if foreign:
        verdict, reasons = "inconclusive", [*foreign, *reasons]
    least = min(settings.few_frames, settings.frames) if is_video else 1
    if len(rows) < least:
        words = f"seen in {len(rows)} of the sampled frames; {least} are needed"
        reasons = [Reason(code="few_frames", words=words)]
    elif size_px < settings.small_face_px:
        words = f"the face is {size_px:.0f} pixels wide; {settings.small_face_px:.0f} are needed"
        reasons = [Reason(code="small_face", words=words)]
    is_judged = not {one.code for one in reasons} & {"few_frames", "small_face"}
    ratio = fitted.likelihood
    return Person(
        number=number,
        frames=len(rows),
        first_s=_or_none(rows["time_s"].min()),
        last_s=_or_none(rows["time_s"].max()),
        size_px=size_px,
        score=score if is_judged else None,
        # Both propositions are of material like that of the calibration.
        log10_lr=float(ratio(score)) if is_judged and not foreign and ratio is not None else None,
        verdict=verdict if is_judged else "not judged",
        reasons=reasons,
        distance=place[0].distance if place is not None else None,
    )


def _heap_words(scores: Array, mean: float) -> str:
    """What is said where a mean is of two heaps of frames, and hardly a frame has it; "" elsewhere."""
    low, high = int((scores < HEAPS[0]).sum()), int((scores > HEAPS[1]).sum())
    if min(low, high) < len(scores) / 4 or low + high < 3 * len(scores) / 4 or len(scores) < HEAPS_OF:
        return ""
    return (
        f"single frames lie in two heaps, {low} of {len(scores)} below {HEAPS[0]:g} and {high} above "
        f"{HEAPS[1]:g}: the score {mean:.3g} is the mean of both, and hardly a frame has it"
    )


def finding_of(
    people: Sequence[Person],
    sampled: Sampled,
    failures: Sequence[Reason],
    rates: Sequence[Rates],
    fitted: Fitted,
    prior: float | None = None,
) -> Finding:
    """The answer about a file.

    Args:
        people: as `people_of`.
        sampled: how much was looked at.
        failures: why frames, or the whole file, gave no face.
        rates: measured errors at the threshold.
        fitted: threshold, band and likelihood ratio.
        prior: the user's own P(fake) beforehand; without it nothing is said of a probability.
    """
    if not people:
        reasons = list(failures) or [Reason(code="no_face", words=WORDS["no_face"])]
        said = f"Not judged: {reasons[0].words}. There is no score."
        return Finding(
            verdict="not judged",
            score=None,
            log10_lr=None,
            person=None,
            people=0,
            reasons=reasons,
            sentences=[said],
        )
    worst = people[0]
    reasons = [*worst.reasons]
    if len(people) > 1:
        reasons.append(
            Reason(
                code="several_people",
                words=f"{len(people)} people were looked at and the one who seems most fake is the answer: "
                "the more people, the more often one of them is accused by chance, beyond the stated rates",
            )
        )
    if _is_unsupported(worst):
        words = "a score like this is about as frequent if the file is real as if it is fake"
        reasons.append(Reason(code="no_support", words=words))
    # Frames without a face are usual; frames that could not be read are not.
    reasons += [reason for reason in failures if reason.code != "no_face"]
    judged = sum(one.verdict != "not judged" for one in people)
    sentences = [_answer(worst, len(people), judged, sampled)]
    if judged:
        sentences += rate_sentences(rates)
        noun = rates[0].noun if rates else "video"
        if sampled.frames == 1 and noun == "video":
            sentences.append(
                "These are rates of videos, whose scores are means of many frames; on a single picture the "
                "detector errs more."
            )
        elif sampled.frames > 1 and noun == "picture":
            sentences.append("These are rates of single pictures; those of videos were not measured.")
    if worst.log10_lr is not None and fitted.likelihood is not None:
        said = support_sentence(worst.log10_lr, fitted.likelihood)
        sentences.append(name_files(said, rates[0].noun if rates else "video", []))
        if prior is not None:
            after = float(posterior(worst.log10_lr, prior))
            sentences.append(
                f"Whoever held it {100 * prior:.3g} % probable before that the file is fake should hold it "
                f"{100 * after:.3g} % probable now, if nothing else is known."
            )
    return Finding(
        verdict=worst.verdict,
        score=worst.score,
        log10_lr=worst.log10_lr,
        person=worst.number,
        people=len(people),
        reasons=reasons,
        sentences=sentences,
    )


def rate_sentences(rates: Sequence[Rates]) -> list[str]:
    """How often the detector errs at this threshold, for who must decide what to print."""
    noun = rates[0].noun if rates else "video"
    names = [one.dataset for one in rates]
    return [name_files(sentence, noun, names) for sentence in _rate_sentences(rates)]


def _rate_sentences(rates: Sequence[Rates]) -> list[str]:
    measured = [one for one in rates if one.kind == "source"]
    sentences = [
        f"At this threshold the detector {_errors(one)} on videos of {one.dataset}, like those that it "
        "learned from."
        for one in measured
    ]
    sentences += [said for one in measured if (said := _useless_words(one))]
    sentences += [
        f"At this threshold the detector {_errors(one)} on the videos that the threshold was fitted on "
        f"({one.dataset}); on any others it errs more."
        for one in rates
        if one.kind == "calibration" and not measured
    ]
    unseen = [one for one in rates if one.kind == "unseen"]
    if len(unseen) == 1:
        sentences.append(
            f"On videos unlike its training material ({unseen[0].dataset}) it {_errors(unseen[0])}."
        )
    elif unseen:
        named = ", ".join(one.dataset for one in unseen)
        sentences.append(
            f"On videos unlike its training material ({named}) it calls {_range(unseen, 'fpr')} of 100 real "
            f"videos fake and misses {_range(unseen, 'fnr')} of 100 fakes."
        )
    if unseen and all((one.fpr or 0.0) + (one.fnr or 0.0) >= 1 for one in unseen):
        sentences.append("There it told fakes from reals no better than guessing; so it may be here.")
    if not unseen:
        sentences.append("How often it errs on videos unlike its training material was not measured here.")
    return sentences


def _useless_words(one: Rates) -> str:
    """What errors on its own kind of material leave of a detector's answers; "" where they mean something."""
    fpr, fnr = one.fpr or 0.0, one.fnr or 0.0
    if fpr + fnr >= 1:
        return "Even there it told fakes from reals no better than guessing: it answers nothing."
    if fpr > 0.5:
        return "It calls most real videos of its own kind fake: its “likely fake” answers nothing."
    if fnr > 0.5:
        return "It misses most fakes of its own kind: its “likely real” answers nothing."
    return ""


def answer_below_verdict(finding: Finding) -> str:
    """The first sentence, for where the verdict's word stands above it already."""
    text = finding.sentences[0].removeprefix(finding.verdict.capitalize()).lstrip(" :,")
    return text[:1].upper() + text[1:]


def failures_of(faces: pd.DataFrame) -> list[Reason]:
    """Why a file, or some of its frames, gave no face, the most frequent reason first."""
    failed = faces[faces["status"] != "ok"]
    counts = failed["status"].value_counts()
    reasons = []
    for status in counts.index:
        said = failed.loc[failed["status"] == status, "reason"].dropna()
        detail = str(said.iloc[0]) if len(said) else ""
        code = "audio_only" if status == "decode_error" and NO_VIDEO in detail else str(status)
        words = f"{WORDS[code]} ({detail})" if detail else WORDS[code]
        reasons.append(Reason.model_validate({"code": code, "words": words}))
    return reasons


def check_prior(prior: float | None) -> None:
    """Refuses a prior that is no probability; InputError as `likelihood.posterior`."""
    if prior is not None:
        posterior(0.0, prior)


def measured_rates(
    metrics: Mapping[str, Any], fitted: Fitted, trained_on: Sequence[str], folder: object
) -> list[Rates]:
    """Errors at the threshold on each test set of a run.

    Args:
        metrics: what ``metrics.json`` of `unmasked evaluate` holds.
        fitted: with the threshold that they must be of.
        trained_on: names of the datasets that the detector learned from.
        folder: of the run, for the message.

    Raises:
        InputError: they are of another threshold, or of none.
    """
    rates = []
    for name, block in metrics["datasets"].items():
        at = block["video"].get("at_threshold")
        if at is None or abs(at["value"] - fitted.threshold.value) > 1e-9:
            found = "no stored threshold" if at is None else f"the threshold {at['value']:.6f}"
            raise InputError(
                f"performance={folder} has numbers of {found}, and the verdict is made at "
                f"{fitted.threshold.value:.6f}; give the run whose thresholds these are"
            )
        fnr, (low, high) = 1 - at["tpr"], at["tpr_ci"]
        rates.append(
            Rates(
                dataset=name,
                kind="source" if name in trained_on else "unseen",
                noun=metrics["settings"].get("noun", "video"),
                fpr=_or_none(at["fpr"]),
                fpr_ci=(_or_none(at["fpr_ci"][0]), _or_none(at["fpr_ci"][1])),
                fnr=_or_none(fnr),
                fnr_ci=(_or_none(1 - high), _or_none(1 - low)),
                real_videos=block["n"]["real_videos"],
                fake_videos=block["n"]["fake_videos"],
            )
        )
    return rates


def calibration_rates(fitted: Fitted, noun: Literal["video", "picture", "file"] = "video") -> list[Rates]:
    """Errors on the rows that the threshold was fitted on, where it says them.

    ``noun`` is what these rows were.
    """
    at = fitted.threshold
    if not np.isfinite([at.fpr, at.tpr]).all():
        return []
    return [
        Rates(
            dataset=at.fitted_on,
            kind="calibration",
            noun=noun,
            fpr=at.fpr,
            fpr_ci=exact_interval(round(at.fpr * at.n_real), at.n_real),
            fnr=1 - at.tpr,
            fnr_ci=exact_interval(round((1 - at.tpr) * at.n_fake), at.n_fake),
            real_videos=at.n_real,
            fake_videos=at.n_fake,
        )
    ]


def _answer(worst: Person, people: int, judged: int, sampled: Sampled) -> str:
    readable = count_text(sampled.frames - sampled.unreadable, "frame")
    how_many = f"{count_text(people, 'identity')} in {readable} looked at"
    if not judged:
        return f"Not judged: {worst.reasons[0].words} ({how_many}). There is no verdict."
    unjudged = f", {people - judged} of them not judged" if people > judged else ""
    who = "" if people == 1 else f", for person {worst.number}, who seems most fake"
    but = " by the threshold, but the score supports neither" if _is_unsupported(worst) else ""
    return f"{worst.verdict.capitalize()}{but}{who}: {how_many}{unjudged}."


def _is_unsupported(person: Person) -> bool:
    """True if the likelihood ratio of a person's score does not support their verdict."""
    has_answer = person.verdict in ("likely fake", "likely real") and person.log10_lr is not None
    return has_answer and support_words(person.log10_lr or 0.0) == NO_SUPPORT


def _errors(one: Rates) -> str:
    parts = []
    for value, interval, count, words in (
        (one.fpr, one.fpr_ci, one.real_videos, "calls {} of {} real videos fake"),
        (one.fnr, one.fnr_ci, one.fake_videos, "misses {} of {} fakes"),
    ):
        if value is None:
            parts.append(words.format("an unknown number", 100))
        elif bounds := interval_in_100(interval):
            parts.append(f"{words.format(count_in_100(value), 100)} (measured on {count:,}, {bounds})")
        else:  # "0 of 100" would say more than one video does
            parts.append(
                f"{words.format(f'{round(value * count):,}', f'{count:,}')} (too few people for an interval)"
            )
    return " and ".join(parts)


def _range(rates: Sequence[Rates], name: str) -> str:
    values = sorted(value for one in rates if (value := getattr(one, name)) is not None)
    if not values:
        return "an unknown number"
    low, high = count_in_100(values[0]), count_in_100(values[-1])
    return low if low == high else f"{low} to {high}"


def _or_none(value: object) -> float | None:
    number = float("nan") if value is None else float(value)  # type: ignore[arg-type]
    return number if np.isfinite(number) else None
