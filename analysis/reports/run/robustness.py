"""What changes to a video do to a detector, grouped by kind of change and put into words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan

from unmasked.analysis.figures.robustness import clean_rate
from unmasked.analysis.reports.run.folder import Run
from unmasked.evaluation.perturbing.drift import is_drift_hidden
from unmasked.evaluation.records import Measures
from unmasked.evaluation.wording import count_in_100, ends, interval_in_100, number

TITLES = {
    "jpeg": "JPEG compression",
    "gaussian_noise": "noise",
    "gaussian_blur": "blur",
    "resize": "made smaller and large again",
    "brightness": "brighter",
    "contrast": "less contrast",
    "saturation": "less colour",
    "block_dropout": "blocks lost",
    "h264": "H.264, as video sites compress",
}
RATES = ("auc", "fpr", "tpr")
EVENTS = {"fpr": "real videos are called fake", "tpr": "fakes are found"}
WORSE = {"fpr": 1, "tpr": -1}  # in which direction a rate does harm
AUC_LITTLE = 0.1  # a loss that a table of AUCs would pass over
Record = Measures  # a `Robustness`, read by the name of a rate


@dataclass(frozen=True)
class Change:
    """One kind of change to a video, with its records at all severities on all datasets."""

    key: str
    title: str
    records: list[Record]

    @property
    def strongest_records(self) -> list[Record]:
        """The record of each dataset at the highest severity it was tested at."""
        found: dict[str, Record] = {}
        for record in sorted(self.records, key=severity):
            found[record["dataset"]] = record
        return list(found.values())

    @property
    def strongest_text(self) -> str:
        """The strongest severity in words, for readers who cannot see the figure."""
        return "; ".join(
            f"{record['dataset']}, {setting(record)}: "
            + ", ".join(
                f"{rate.upper()} {clean_rate(record, rate):.2f} to {record[rate]:.2f}" for rate in RATES
            )
            for record in self.strongest_records
        )


def changes(run: Run) -> list[Change]:
    """The kinds of change that the run was tested under, datasets in the order of the matrix."""
    place = {name: position for position, name in enumerate(run.datasets)}
    found: dict[str, Change] = {}
    for record in sorted(run.robustness, key=lambda record: place.get(record["dataset"], len(place))):
        name, where = record["perturbation"], record["where"]
        on_frame = where == "frame" and name != "h264"
        title = TITLES.get(name, name.replace("_", " ")) + (", whole frame" if on_frame else "")
        key = f"{name}-frame" if on_frame else name
        found.setdefault(key, Change(key, title, [])).records.append(record)
    known = list(TITLES)
    return sorted(found.values(), key=lambda change: _place(known, change.key))


def find_hidden_drift(records: Iterable[Record]) -> list[tuple[Record, str]]:
    """(record, rate) where the AUC stays and the rate surely moves, the worst first.

    The AUC moves by at most 0.02; FPR or TPR by at least 0.05, and the interval of that change leaves out 0.
    """
    found = [(record, rate) for record in records for rate in EVENTS if is_drift_hidden(record, rate)]
    return sorted(found, key=lambda pair: -abs(pair[0][f"{pair[1]}_change"]))


def tell_understated(records: Iterable[Record]) -> str:
    """The largest harm among changes that cost the AUC little, as a sentence; "" for none."""
    near = [
        (record, rate)
        for record in records
        for rate, sign in WORSE.items()
        if _is_shown(record, rate)
        and sign * record[f"{rate}_change"] > 0
        and abs(record["auc_change"]) <= AUC_LITTLE
    ]
    if not near:
        return ""
    record, rate = max(near, key=lambda pair: abs(pair[0][f"{pair[1]}_change"]))
    return (
        f"{setting(record)} on {record['dataset']}: the AUC goes from {clean_rate(record, 'auc'):.2f} to "
        f"{record['auc']:.2f}, but {count_in_100(record[rate])} of 100 {EVENTS[rate]}, "
        f"before it "
        f"were {count_in_100(clean_rate(record, rate))}."
    )


def drift_words(record: Record, rate: str) -> str:
    """What a change does to decisions while the AUC stays, in a sentence."""
    return (
        f"{setting(record)} on {record['dataset']}: fakes are ranked above reals as well as before "
        f"(AUC {record['auc']:.2f}, before {clean_rate(record, 'auc'):.2f}), but "
        f"{count_in_100(record[rate])} of 100 {EVENTS[rate]}, before it were "
        f"{count_in_100(clean_rate(record, rate))}."
    )


def worst_words(records: Sequence[Record], rate: str) -> str:
    """The largest rise in accused reals or fall in found fakes, as a sentence; "" for none."""
    sign = WORSE[rate]
    shown = [record for record in records if _is_shown(record, rate) and sign * record[f"{rate}_change"] > 0]
    if not shown:
        return ""
    record = max(shown, key=lambda record: sign * record[f"{rate}_change"])
    told = interval_in_100(record[f"{rate}_ci"])
    interval = f" ({told})" if told else ""
    return (
        f"{setting(record)}: on {record['dataset']}, {count_in_100(record[rate])} of 100 "
        f"{EVENTS[rate]}{interval}; untouched, {count_in_100(clean_rate(record, rate))}. The AUC goes from "
        f"{clean_rate(record, 'auc'):.2f} to {record['auc']:.2f}."
    )


def setting(record: Record) -> str:
    """A change and how strong it is, in words.

    >>> setting({"perturbation": "jpeg", "severity": 3, "setting": "quality 50", "where": "crop"})
    'JPEG compression (quality 50)'
    """
    name = str(record["perturbation"])
    title = TITLES.get(name, name.replace("_", " "))
    place = ", whole frame" if record["where"] == "frame" and name != "h264" else ""
    known = record.get("setting") or ("" if isnan(severity(record)) else f"severity {record['severity']}")
    strength = f" ({known}{place})" if known else place
    return f"{title[0].upper()}{title[1:]}{strength}"


def severity(record: Record) -> float:
    """How strong a change is; NaN where whoever made the predictions did not say."""
    return number(record["severity"])


def setting_list(records: Iterable[Record]) -> str:
    """The severities with what each one is, "" where that is not known.

    >>> setting_list([{"severity": 1, "setting": "quality 90"}, {"severity": 3, "setting": "quality 50"}])
    'Severity 1: quality 90; 3: quality 50.'
    """
    words = {record["severity"]: record["setting"] for record in records if record.get("setting")}
    told = "; ".join(f"{severity}: {words[severity]}" for severity in sorted(words))
    return f"Severity {told}." if told else ""


def _is_shown(record: Record, rate: str) -> bool:
    low, high = ends(record[f"{rate}_change_ci"])
    return low > 0 or high < 0


def _place(known: Sequence[str], key: str) -> tuple[int, str]:
    name = key.removesuffix("-frame")
    return (known.index(name) if name in known else len(known)), key
