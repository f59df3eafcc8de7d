"""What the tests say, in sentences for someone who has to act on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from unmasked.evaluation.wording import (
    capitalise,
    interval_in_100,
    is_missing,
    list_names,
    p_text,
    percent,
    points,
    support_text,
    units,
)
from unmasked.fairness.groups import CROSS, SKIN_TONE_GROUP
from unmasked.fairness.records import SubgroupScan
from unmasked.fairness.statistics.slices import Settings
from unmasked.fairness.statistics.subgroups import LEVEL

# What a rate means for a person who is shown. TPR is told as its complement: fakes that are missed.
EVENTS = {"fpr": "real videos{} are called fake", "tpr": "fakes{} are missed"}
# The order in which verdicts are told.
ORDER = {"disparity": 0, "inconclusive": 1, "equivalent": 2, "not enough data": 3}
CLASSES = {"fpr": "real", "tpr": "fake"}

PEOPLE = {
    ("gender", "female"): "women",
    ("gender", "male"): "men",
    (SKIN_TONE_GROUP, "light"): "light-skinned people",
    (SKIN_TONE_GROUP, "medium"): "medium-skinned people",
    (SKIN_TONE_GROUP, "dark"): "dark-skinned people",
}


def sentences(tests: pd.DataFrame, by_group: pd.DataFrame, settings: Settings) -> list[str]:
    """One sentence or two for every tested gap, disparities first, in the order of the tests."""
    tested = tests[tests["metric"].isin(EVENTS)]
    family = int(tested["p_value"].notna().sum())

    ranked = tested.assign(rank=tested["verdict"].map(ORDER)).sort_values("rank", kind="stable")
    return [sentence(row, by_group.loc[row["attribute"]], settings, family) for _, row in ranked.iterrows()]


def sentence(test: pd.Series, by_group: pd.DataFrame, settings: Settings, family: int) -> str:
    """The verdict on one gap in words.

    Args:
        test: a row of `Audit.tests` whose metric is FPR or TPR.
        by_group: the metrics of that attribute's groups.
        settings: of the audit.
        family: how many comparisons were corrected for.
    """
    told = {
        "disparity": _disparity_sentence,
        "inconclusive": _inconclusive_sentence,
        "equivalent": _equivalence_sentence,
        "not enough data": _too_few_sentence,
    }
    if test["verdict"] != "not enough data" and (what := sole_decision(by_group["fpr"], by_group["tpr"])):
        return (
            f"At this threshold {what} is called fake, in all groups of {title(test['attribute'])}: whether "
            f"they differ in how often {EVENTS[test['metric']].format('')} cannot be seen at it."
        )
    return told[test["verdict"]](test, by_group, settings, family)


def never_or_always(rates: ArrayLike) -> str:
    """Whether an event never happens in any group, or always in all; "" where it varies.

    >>> never_or_always([0.0, float("nan")]), never_or_always([1.0, 1.0]), never_or_always([0.0, 1.0])
    ('never', 'always', '')
    """
    values = np.asarray(rates, dtype=np.float64)
    return {(0.0,): "never", (1.0,): "always"}.get(tuple(set(values[~np.isnan(values)].tolist())), "")


def sole_decision(fpr: ArrayLike, tpr: ArrayLike) -> str:
    """What is called fake at a threshold that tells nothing apart.

    "" where it does, or a class is absent.

    >>> sole_decision([0.0, 0.0], [0.0]), sole_decision([1.0], [1.0]), sole_decision([0.0], [1.0])
    ('nothing', 'everything', '')
    """
    called = never_or_always(fpr)
    return {"never": "nothing", "always": "everything", "": ""}[
        called if called == never_or_always(tpr) else ""
    ]


def people(attribute: str, group: str) -> str:
    """How the people of a group are called in a sentence.

    >>> people("gender", "female"), people("age", "senior")
    ('women', 'people of age “senior”')
    """
    if (attribute, group) in PEOPLE:
        return PEOPLE[attribute, group]
    return f"people of {title(attribute)} “{group}”"


def title(attribute: str) -> str:
    """An attribute's name in words.

    >>> title("gender × skin_tone_group")
    'gender × skin tone'
    """
    parts = [
        "skin tone" if part == SKIN_TONE_GROUP else part.replace("_", " ") for part in attribute.split(CROSS)
    ]
    return CROSS.join(parts)


def scan_sentence(found: SubgroupScan, unit: str) -> str:
    """The subgroup that is got wrong most, and what would confirm it; or that none stands out."""
    searched = f"a search over {found['searched']:,} comparisons of subgroups of {_attributes(found)}"
    if not found["searched"]:
        return f"No subgroup of {_attributes(found)} has enough {units(unit)} to be searched."
    if not found["found"] or (worst := found["found"][0])["p_value"] >= LEVEL:
        return f"No subgroup stands out in {searched}."
    event = EVENTS[worst["metric"]].format(f" of {people(worst['attribute'], worst['group'])}")
    confirm = worst["people_to_confirm"]
    return (
        f"Worst subgroup in {searched}: {event} in {percent(worst['rate'])} of cases, of everybody else in "
        f"{percent(worst['rate_of_others'])} ({worst['people']:,} and {worst['others']:,} {units(unit)}; a "
        f"difference of {points(worst['difference'])}, "
        f"{interval_in_100([worst['ci_low'], worst['ci_high']])}, p = {p_text(worst['p_value'])} with the "
        "search counted). A search finds differences larger than they are. To confirm it, test this subgroup "
        f"alone on new {units(unit)}: {confirm:,.0f} of it, and others in proportion, find so large a "
        f"difference in 80 of 100 studies; {4 * confirm:,.0f} find one half as large."
    )


def _attributes(found: SubgroupScan) -> str:
    return list_names([title(name) for name in found["attributes"]])


def _disparity_sentence(test: pd.Series, by_group: pd.DataFrame, settings: Settings, family: int) -> str:
    attribute, metric = test["attribute"], test["metric"]
    shown = "fpr" if metric == "fpr" else "fnr"
    worst, best = by_group.loc[test["worst_group"], shown], by_group.loc[test["best_group"], shown]
    event = EVENTS[metric].format(f" of {people(attribute, test['worst_group'])}")
    other = people(attribute, test["best_group"])
    if best > 0:
        compared = (
            f"{_times(worst / best)} times as often as of {other}, {percent(worst)} against {percent(best)}"
        )
    else:
        compared = f"in {percent(worst)} of cases and never of {other}"
    corrected = f", corrected for {family} comparisons" if family > 1 else ""
    text = (
        f"{capitalise(event)} {compared} ({difference_text(test['difference'], _ends(test), worst - best)}, "
        f"p = {p_text(test['p_adjusted'])}{corrected}). An unbiased detector would show a difference of up "
        f"to {points(test['chance'])} between these two groups by chance{_less_text(test)}."
    )
    if len(also := test["also"]):
        named = [f"{people(attribute, one)} beside {people(attribute, two)}" for one, two in also]
        text += f" The same is shown of {list_names(named)}."
    text += _largest_gap_sentence(test)
    if test["ci_high"] < settings.margin:
        text += f" The difference is real but below the margin of {points(settings.margin)}."
    return text


def _less_text(test: pd.Series) -> str:
    """That chance shows less than the difference of a disparity, where both round to one number."""
    alike = points(test["chance"]) == points(test["difference"])
    return ", a little less than this one" if alike else ""


def _inconclusive_sentence(test: pd.Series, by_group: pd.DataFrame, settings: Settings, family: int) -> str:
    metric, margin = test["metric"], points(settings.margin)
    power = f"{detectable_sentence(test['detectable'])} "
    if never_or_always(by_group[metric]):
        # Of what never happens, or always, nobody knows how it varies.
        share = by_group[metric].max() if metric == "fpr" else 1 - by_group[metric].max()
        found, power = f"{percent(share)} in every group", ""
    elif is_missing(test["worst_group"]):
        found = "the rates are equal"
    else:
        pair = " and ".join(people(test["attribute"], test[end]) for end in ("worst_group", "best_group"))
        found = (
            f"the clearest, for the number of videos, is between {pair}: {points(test['difference'])}, "
            f"{_interval(test)}; an unbiased detector would show up to {points(test['chance'])} between "
            "these two by chance"
        )
    return (
        f"Between groups of {title(test['attribute'])} no difference was shown in how often "
        f"{EVENTS[metric].format('')} ({found}).{_largest_gap_sentence(test)} {power}"
        "That is not proof of equality: to show that no two "
        f"groups are {margin} apart would take about {test['n_needed']:,.0f} {CLASSES[metric]} videos."
    )


def _largest_gap_sentence(test: pd.Series) -> str:
    """The largest gap, where it is of a rarer group than the pair that was named; else empty."""
    ends = [test["gap_worst"], test["gap_best"]]
    pair = {test["worst_group"], test["best_group"]}
    if any(map(is_missing, ends)) or set(ends) == pair or ends in list(test["also"]):
        return ""
    named = " and ".join(people(test["attribute"], one) for one in ends)
    return (
        f" The largest, {points(test['gap'])} between {named}, is not told from chance, which shows as much "
        "of so few."
    )


def difference_text(difference: float, interval: Sequence[float], shown: float) -> str:
    """The tested difference with its interval, beside that of the shares shown.

    Args:
        difference, interval: of the test, which weighs people (or videos) by how much their rows say.
        shown: the shares' own difference, in which every row counts alike.

    >>> difference_text(0.18, [0.02, 0.32], 0.18)
    'a difference of 18 points, 95 % interval [2, 32]'
    >>> difference_text(0.18, [0.02, 0.32], 0.06)[:40]
    'a difference of 6 points; in the test, w'
    """
    tested = f"{points(difference)}, {interval_in_100(interval)}"
    if points(shown) == points(difference) or abs(shown - difference) < 0.0005:
        return f"a difference of {tested}"
    other_way = " the other way" if shown < 0 else ""
    return (
        f"a difference of {points(abs(shown))}{other_way}; in the test, where many rows of one "
        f"person or video count less, {tested}"
    )


def detectable_sentence(difference: float) -> str:
    """How large a difference a study of this size finds, and so what it may hide.

    >>> detectable_sentence(0.12)
    'A difference of 12 points would be found in 80 of 100 studies of this size, a smaller one in fewer.'
    """
    if is_missing(difference):
        return "In a study of this size even the largest difference would often not be found."
    return (
        f"A difference of {points(difference)} would be found in 80 of 100 studies of this size, a smaller "
        "one in fewer."
    )


def _equivalence_sentence(test: pd.Series, by_group: pd.DataFrame, settings: Settings, family: int) -> str:
    event = capitalise(EVENTS[test["metric"]].format(""))
    return (
        f"{event} about equally often in all groups of {title(test['attribute'])}: the gap is "
        f"{points(test['gap'])} and surely below the margin of {points(settings.margin)} (two one-sided "
        f"tests at 5 %: at most {points(test['equivalence_high'])})."
    )


def _too_few_sentence(test: pd.Series, by_group: pd.DataFrame, settings: Settings, family: int) -> str:
    event = EVENTS[test["metric"]].format("")
    return (
        f"There is not enough data to compare how often {event} between groups of "
        f"{title(test['attribute'])}: fewer than two of them have at least "
        f"{support_text(settings.min_clusters, settings.min_samples, settings.unit)} (keys min_clusters "
        "and min_samples)."
    )


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"


def _interval(test: pd.Series) -> str:
    return interval_in_100(_ends(test))


def _ends(test: pd.Series) -> list[float]:
    return [test["ci_low"], test["ci_high"]]
