"""The audit's tests on real group and cluster sizes, and the cost of a million rows.

    python benchmarks/fairness.py margins=group_margins.csv [runs=400] [power_runs=200] [perms=500]
                                  [boots=200] [rows=1646545] [parts=alarms,covers,shown,power,small,nasty,
                                   rare,plan,scan,shrunk,monitor,remedies,scale] [seeds=5]
                                  [plans=1,2,3,4,5,6,7,8,9,10,11,12] [designs=1,2,3,4,5,6]

``margins`` is a CSV of frames per test video and group (dataset, video, label, gender, race, frames); a
video whose frames disagree gets the group of most of them, and keeps all its frames. Simulated detectors
call each frame of a video fake with the video's own rate, drawn from a beta distribution around the class's
rate so that the intra-class correlation is 0.5. The declared family is FPR and TPR of gender, of race, and of
gender × race, which an audit adds by itself.

``alarms``: a detector with TPR 0.85 and FPR 0.15 in every group: how often any gap is called a disparity
(nominal 5 %), with and without the crossing. ``covers``: how often the 95 % interval of a group's FPR holds
0.15. ``shown``: the same of every interval that a page shows, by group and between groups, in
the designs that ``designs`` numbers. ``power``: how
often a gap of 15 points in the FPR of women and men is found, with women worse and with men worse, around
the FPR of 0.15 and above it. Beside it stands the power of a z test of two means that knows every variance,
at the level of the smallest p-value under Holm's correction: what this many videos can carry. (A
permutation test takes the variance of the pool, so it does better where the smaller group is worse, and
worse where the larger one is.)
``small``: two groups of 30 and of 50 videos a class, drawn from
each dataset, without and with the gap. ``nasty``: false alarms on designs that break tests: rare groups, 70
groups, a giant cluster, correlation 0.8, FPR 0.01, reals of one person, unknowns, sparse crossings. ``rare``:
power with and without a rare third group. ``plan``: the power that `unmasked plan` promises against
simulated audits, in the designs that ``plans`` numbers. ``scan``: false alarms of the search over
subgroups on the designs of ``nasty`` with a third attribute, and how often a planted subgroup is found.
``shrunk``: coverage of the shrunk rates of crossed groups. ``monitor``: false alarms of an audit that is
looked at a hundred times, and when a difference is found. ``remedies``: what each remedy that is fitted on
scores does to planted biases of two kinds, over ``seeds`` simulated corpora. ``scale``: the table of
AI-Face's size, with its three attributes, their pairs and their triple, and fairlearn's bootstrap on it.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from unmasked.evaluation.metrics import all_metrics
from unmasked.fairness.audit import audit
from unmasked.fairness.groups import cross
from unmasked.fairness.mitigation.compare import Comparison
from unmasked.fairness.mitigation.run import Settings as MitigationSettings
from unmasked.fairness.mitigation.run import mitigate
from unmasked.fairness.planning import Study, people_needed
from unmasked.fairness.statistics import pairs
from unmasked.fairness.statistics.betting import BETS, ENOUGH, add_people, adjust_e_values, e_value
from unmasked.fairness.statistics.comparisons import compare, constant_detector
from unmasked.fairness.statistics.resampling import holm_levels
from unmasked.fairness.statistics.score_tables import cut
from unmasked.fairness.statistics.shrinkage import shrink
from unmasked.fairness.statistics.simulation import compare_groups, draw_rates, rejected
from unmasked.fairness.statistics.slices import Rows, Settings, Slice, measure
from unmasked.fairness.statistics.subgroups import scan

FPR, TPR, ICC = 0.15, 0.85, 0.5
GAP = 0.15
RACES = ("asian", "white", "black", "others")
DEFAULTS = {
    "margins": "",
    "runs": "400",
    "power_runs": "200",
    "perms": "500",
    "boots": "200",
    "rows": "1646545",
    "seeds": "5",
    "plans": "1,2,3,4,5,6,7,8,9,10,11,12",
    "designs": "1,2,3,4,5,6",
    "parts": "alarms,covers,shown,power,small,nasty,rare,plan,scan,shrunk,monitor,remedies,scale",
}


def main() -> None:
    """Prints the figures of every part that was asked for."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if unknown := set(given) - set(DEFAULTS):
        sys.exit(f"{', '.join(sorted(unknown))}: not an option; there are {', '.join(DEFAULTS)}")
    options = DEFAULTS | given
    parts = options["parts"].split(",")
    counts = {name: int(options[name]) for name in ("runs", "power_runs", "perms", "boots", "rows", "seeds")}
    if {"alarms", "covers", "power", "small"} & set(parts):
        if not options["margins"]:
            sys.exit("margins=FILE is missing: a CSV of frames per video and group")
        margins = pd.read_csv(options["margins"])
        datasets = {name: videos_of(part) for name, part in margins.groupby("dataset")}
        settings = Settings(n_boot=counts["boots"], n_perm=counts["perms"], score_resamples=2)
        if "alarms" in parts:
            alarms(datasets, settings, counts["runs"])
        if "covers" in parts:
            covers(datasets, settings, counts["runs"])
        if "power" in parts:
            power(datasets, settings, counts["power_runs"])
        if "small" in parts:
            small(datasets, settings, counts["power_runs"])
    settings = Settings(n_boot=2, n_perm=counts["perms"], score_resamples=2, min_samples=1)
    if "shown" in parts:
        shown(counts["runs"], counts["boots"], [int(number) for number in options["designs"].split(",")])
    if "nasty" in parts:
        nasty(settings, counts["runs"])
    if "rare" in parts:
        rare(settings, counts["power_runs"])
    if "plan" in parts:
        plans(counts["power_runs"], [int(number) for number in options["plans"].split(",")])
    if "scan" in parts:
        search(settings, counts["runs"])
    if "shrunk" in parts:
        shrunk(counts["runs"])
    if "monitor" in parts:
        watched(counts["runs"])
    if "remedies" in parts:
        remedies(counts["seeds"])
    if "scale" in parts:
        scale(counts["rows"])


# Simulated detectors on real margins


def videos_of(margins: pd.DataFrame) -> pd.DataFrame:
    """One row a video: label, frames, gender and race as most of its frames have them."""
    found = margins.groupby("video").agg(label=("label", "first"), frames=("frames", "sum"))
    for name, values in (("gender", ("female", "male")), ("race", RACES)):
        frames = margins.groupby(["video", name])["frames"].sum().reset_index()
        most = frames.sort_values("frames", ascending=False, kind="stable").drop_duplicates("video")
        found[name] = np.array(values, dtype=object)[most.set_index("video")[name].reindex(found.index)]
    return found.reset_index(drop=True)


def draw_unbiased(videos: pd.DataFrame) -> np.ndarray:
    """The rate at which frames of each video are called fake, the same in every group."""
    return np.where(videos["label"] == 1, TPR, FPR)


def draw_biased(videos: pd.DataFrame, worse: str, low: float) -> np.ndarray:
    """The same, with reals of one gender called fake 15 points more; the other has ``low``."""
    fpr = np.where(videos["gender"] == worse, low + GAP, low)
    return np.where(videos["label"] == 1, TPR, fpr)


@dataclass(frozen=True)
class Found:
    """The slices and tests of one simulated audit."""

    slices: list[Slice]
    tests: pd.DataFrame

    def disparities(self) -> set[tuple[str, str]]:
        """Attribute and metric of every gap that was called a disparity."""
        named = self.tests[self.tests["verdict"] == "disparity"]
        return set(zip(named["attribute"], named["metric"], strict=True))


def simulate(
    videos: pd.DataFrame,
    rate: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
    correlation: float = ICC,
) -> Found:
    """An audit of scores drawn at these rates, as `audit_rows` makes it but for reports.

    Videos of one ``person``, where that is a column, share their rate, and the person is the unit.
    """
    person, own = _people(videos, rate, correlation, rng)
    of_frame = np.repeat(np.arange(len(videos)), videos["frames"])
    flagged = rng.random(len(of_frame)) < own[of_frame]
    score = np.where(flagged, 0.75, 0.25) + rng.uniform(-0.2, 0.2, len(of_frame))
    label = videos["label"].to_numpy()[of_frame]
    rows = Rows(label, score, person[of_frame], of_frame, np.ones(len(of_frame), dtype=np.int64))
    columns = [videos["gender"], videos["race"], cross(videos["gender"], videos["race"])]
    groups = [column.iloc[of_frame].reset_index(drop=True) for column in columns if column.nunique() > 1]
    levels = cut(label, score)
    slices = [measure(rows, group, settings, levels) for group in groups]
    everyone = measure(rows, pd.Series("everyone", index=groups[0].index, name=""), settings, levels)
    return Found(slices, compare(slices, everyone, constant_detector(slices, everyone), settings))


def _people(
    videos: pd.DataFrame, rate: np.ndarray, correlation: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(V,) person of each video, and the rate at which its frames are called fake."""
    person = pd.factorize(videos["person"])[0] if "person" in videos else np.arange(len(videos))
    # One draw a person and class.
    return person, draw_rates(rate, 2 * person + videos["label"].to_numpy(), correlation, rng)


def simulate_tests(
    videos: pd.DataFrame,
    rate: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
    correlation: float = ICC,
) -> dict[tuple[str, str], pairs.PairTest]:
    """The tests alone of such an audit, without its intervals and the metrics of scores: 20 times as fast."""
    person, own = _people(videos, rate, correlation, rng)
    frames, fake = videos["frames"].to_numpy(), videos["label"].to_numpy() == 1
    called = rng.binomial(frames, own)
    real = np.where(fake, 0, [frames - called, called])
    counts = np.concatenate([real, np.where(fake, [frames - called, called], 0)]).T
    columns = {name: videos[name] for name in ("gender", "race") if videos[name].nunique() > 1}
    if len(columns) == 2:
        columns["gender × race"] = cross(videos["gender"], videos["race"])
    return compare_groups(counts, person, columns, settings, rng)


def alarms(datasets: dict[str, pd.DataFrame], settings: Settings, runs: int) -> None:
    """Family-wise false alarms of an unbiased detector, with the crossing of gender and race and without."""
    print(f"\nUnbiased detector, FPR {FPR}, TPR {TPR}, ICC {ICC}; {runs} runs a dataset, {settings.n_perm}")
    print("permutations. Nominal: 5 %. Alone: the audit of gender and race without their crossing; of gender")
    head = f"{'dataset':9}{'tests':>6}{'false alarms':>14}{'(95 % CI)':>13}{'no crossing':>13}{'gender':>8}"
    print(f"{head}{'without correction':>20}{'CPU s':>8}")
    for name, videos in datasets.items():
        rng, start, named = np.random.default_rng(0), time.process_time(), np.zeros(4, dtype=int)
        for _ in range(runs):
            tests = simulate_tests(videos, draw_unbiased(videos), settings, rng)
            families = [
                tests,
                {key: test for key, test in tests.items() if "×" not in key[0]},
                {key: test for key, test in tests.items() if key[0] == "gender"},
            ]
            named += [
                *(bool(rejected(one)) for one in families),
                min(t.p_value for t in tests.values()) < 0.05,
            ]
        shares = named / runs
        print(f"{name:9}{len(tests):6}{shares[0]:14.1%}{_wilson(int(named[0]), runs):>13}", end="")
        print(f"{shares[1]:13.1%}{shares[2]:8.1%}{shares[3]:20.1%}", end="")
        print(f"{time.process_time() - start:8.0f}", flush=True)


def covers(datasets: dict[str, pd.DataFrame], settings: Settings, runs: int) -> None:
    """How often the intervals that an audit shows hold the true value, on the same margins."""
    print(f"\nIntervals of an unbiased detector; {runs} runs a dataset, {settings.n_boot} resamples")
    print(
        f"{'dataset':9}{'FPR':>8}{'(intervals)':>12}{'10-29 videos':>14}{'30-99':>8}{'100+':>8}{'CPU s':>8}"
    )
    for name, videos in datasets.items():
        rng, start, inside = np.random.default_rng(0), time.process_time(), []
        for run in range(runs):
            found = simulate(videos, draw_unbiased(videos), _settings_with_seed(settings, run), rng)
            inside += [pair for one in found.slices for pair in _coverage(one)]
        held, size = np.array(inside).T
        print(f"{name:9}{held.mean():8.1%}{len(held):12,}", end="")
        for low, high in ((10, 30), (30, 100), (100, 10**6)):
            part = held[(size >= low) & (size < high)]
            print(f"{part.mean() if len(part) else np.nan:{14 if low == 10 else 8}.1%}", end="")
        print(f"{time.process_time() - start:8.0f}", flush=True)


def _coverage(one: Slice) -> list[tuple[bool, int]]:
    kept = one.in_gap["fpr"].to_numpy()
    inside = (one.low["fpr"] <= FPR) & (one.high["fpr"] >= FPR)
    return list(zip(inside.to_numpy()[kept], one.support["real_videos"].to_numpy()[kept], strict=True))


# The detector of `shown`: its scores are normal on a latent scale, and these are their places.
SHOWN_METRICS = (
    "fpr",
    "tpr",
    "selection_rate",
    "accuracy",
    "balanced_accuracy",
    "auc",
    "eer",
    "brier",
    "ece",
)
THRESHOLD_SHOWN = 0.5


def shown_designs() -> Iterator[tuple[str, list[int], int, list[float]]]:
    """(name, people of each class in each group, frames a video, what is added to a group's scores)."""
    yield "149, 118", [149, 118], 1, [0.5, 0.0]
    yield "30, 30", [30, 30], 1, [0.5, 0.0]
    yield "12, 200", [12, 200], 1, [0.0, 0.0]
    yield "60, 40 of 20 frames", [60, 40], 20, [0.5, 0.0]
    yield "200, 100, 15", [200, 100, 15], 1, [0.0, 0.4, 0.0]
    yield "60, 60, almost perfect", [60, 60], 1, [0.3, 0.0]


def shown(runs: int, boots: int, chosen: Sequence[int]) -> None:
    """How often every interval that a page shows of groups holds the true value, by design.

    ``chosen`` are the numbers of the designs, from 1, that are run.
    """
    print(f"\nIntervals that an audit shows: share that holds the truth; {runs} runs, {boots} resamples")
    for number, (name, sizes, frames, shifts) in enumerate(shown_designs(), start=1):
        if number not in chosen:
            continue
        start, rng = time.process_time(), np.random.default_rng(12)
        apart = 4.5 if "perfect" in name else 2.0
        true = true_values(shifts, apart, sizes)
        held: dict[str, list[bool]] = {}
        wrong: Counter[str] = Counter()
        for run in range(runs):
            _shown(sizes, frames, shifts, apart, true, boots, run, rng, held, wrong)
        print(f"{name} ({time.process_time() - start:.0f} s of CPU)")
        for what, inside in held.items():
            share = np.mean(inside)
            error = np.sqrt(share * (1 - share) / runs)
            print(f"    {what:46}{share:7.1%} ({error:.1%}) {_tell(wrong, what)}".rstrip(), flush=True)


def _tell(wrong: Counter[str], what: str) -> str:
    told = ("without their value", "of no width", "undefined")
    return ", ".join(f"{wrong[f'{what} {fault}']} {fault}" for fault in told if wrong[f"{what} {fault}"])


def latent_scores(
    label: np.ndarray, shift: np.ndarray, apart: float, video: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Scores of frames: normal on a latent scale, half of whose variance is the video's."""
    own = rng.normal(size=int(video.max()) + 1)[video]
    noise = np.sqrt(ICC) * own + np.sqrt(1 - ICC) * rng.normal(size=len(video))
    return norm.cdf(apart * label + shift + noise - 1)


def true_values(shifts: Sequence[float], apart: float, sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Every metric of every group (J,), AUC across groups (J, J) and against all others' reals (J,)."""
    rng, many = np.random.default_rng(13), 400_000
    label = np.tile([0, 1], many)
    found: dict[str, np.ndarray] = {name: np.empty(len(shifts)) for name in SHOWN_METRICS}
    for place, shift in enumerate(shifts):
        score = latent_scores(label, np.full(2 * many, shift), apart, np.arange(2 * many), rng)
        values = all_metrics(label, score, THRESHOLD_SHOWN, SHOWN_METRICS)
        for name in SHOWN_METRICS:
            found[name][place] = values[name]
    moved = np.array(shifts)
    found["cross"] = norm.cdf((apart + moved[:, None] - moved[None]) / np.sqrt(2))
    weight = np.where(np.eye(len(sizes), dtype=bool), 0, np.array(sizes)[None])
    found["others"] = (weight * found["cross"]).sum(axis=1) / weight.sum(axis=1)
    return found


def _shown(
    sizes: Sequence[int],
    frames: int,
    shifts: Sequence[float],
    apart: float,
    true: dict[str, np.ndarray],
    boots: int,
    run: int,
    rng: np.random.Generator,
    held: dict[str, list[bool]],
    wrong: Counter[str],
) -> None:
    """One audit; adds to ``held`` whether each of its intervals holds the truth, and counts bad ones."""
    group = np.tile(np.repeat(np.arange(len(sizes)), sizes), 2)
    label = np.repeat([0, 1], len(group) // 2)
    video = np.repeat(np.arange(len(group)), frames)
    score = latent_scores(label[video], np.array(shifts)[group][video], apart, video, rng)
    names = np.array([f"g{place}" for place in range(len(sizes))], dtype=object)
    found = audit(
        label[video],
        score,
        sensitive_features={"gender": names[group][video]},
        clusters=video,
        n_boot=boots,
        n_perm=400,
        min_samples=1,
        min_clusters=10,
        random_state=run,
    )

    def add(what: str, value: float, ends: Sequence[float], truth: float) -> None:
        low, high = ends
        if np.isnan([low, high]).any():
            wrong[f"{what} undefined"] += 1
            return
        wrong[f"{what} without their value"] += not low - 1e-9 <= value <= high + 1e-9
        wrong[f"{what} of no width"] += not low < high
        # A gap may be closed at its end, where 0 is the truth.
        held.setdefault(what, []).append(bool(low <= truth + 1e-9 and truth <= high + 1e-9))

    for place, name in enumerate(names):
        for metric in SHOWN_METRICS:
            ends = [limits.loc[("gender", name), metric] for limits in found.by_group_ci]
            add(
                f"{metric} of {sizes[place]}",
                found.by_group.loc[("gender", name), metric],
                ends,
                true[metric][place],
            )
    for row in found.tests.to_dict("records"):
        metric = row["metric"]
        if metric not in SHOWN_METRICS or np.isnan(row["ci_low"]):
            continue
        truth = float(np.ptp(true[metric]))
        if metric in ("fpr", "tpr"):
            if pd.isna(row["worst_group"]):
                continue
            sign = 1 if metric == "fpr" else -1
            worst, best = (true[metric][int(row[end][1:])] for end in ("worst_group", "best_group"))
            truth = sign * float(worst - best)
        add(f"difference of {metric}", row["difference"], (row["ci_low"], row["ci_high"]), truth)
    for row in found.cross_auc["gender"]:
        fake, real = int(row["positives_of"][1:]), int(row["negatives_of"][1:])
        if fake != real:
            add("AUC across groups", row["auc"], row["auc_ci"], true["cross"][fake, real])
    for row in found.against_others["gender"]:
        add("AUC against all others' reals", row["auc"], row["auc_ci"], true["others"][int(row["group"][1:])])
    for row in found.base_rates["gender"]:
        add(
            "selection rate beside the base rate",
            row["selection_rate"],
            row["selection_rate_ci"],
            true["selection_rate"][int(row["group"][1:])],
        )


def power(datasets: dict[str, pd.DataFrame], settings: Settings, runs: int) -> None:
    """How often a planted gap of 15 points between women and men is found."""
    print(f"\nA gap of {GAP:.0%} in FPR between women and men; {runs} runs each. Found: called a disparity")
    print("after Holm's correction. z test: of two means, every variance known")
    head = f"{'dataset':9}{'real f/m':>10}{'fake f/m':>10}{'50 a class':>12}{'worse':>8}{'FPR':>14}"
    print(f"{head}{'found':>8}{'(95 % CI)':>13}{'z test':>9}{'other gaps':>12}")
    for name, videos in datasets.items():
        sizes = pd.crosstab(videos["label"], videos["gender"])
        large = bool((sizes >= 50).all(axis=None))
        for worse in ("female", "male"):
            for low in (FPR, FPR - GAP / 2):
                rng, found, others = np.random.default_rng(1), 0, 0
                for _ in range(runs):
                    tests = simulate_tests(videos, draw_biased(videos, worse, low), settings, rng)
                    named = rejected(tests)
                    found += ("gender", "fpr") in named
                    others += any(metric == "tpr" for _, metric in named)
                print(f"{name:9}{_pair(sizes.loc[0]):>10}{_pair(sizes.loc[1]):>10}", end="")
                print(f"{'yes' if large else 'no':>12}{worse:>8}{f'{low:.3f}/{low + GAP:.3f}':>14}", end="")
                known = z_power(videos, worse, low, len(tests))
                print(
                    f"{found / runs:8.1%}{_wilson(found, runs):>13}{known:9.1%}{others / runs:12.1%}",
                    flush=True,
                )


def z_power(videos: pd.DataFrame, worse: str, low: float, tests: int) -> float:
    """Power of the two-sided z test of two precision-weighted means with known variances.

    At the level of the smallest of ``tests`` p-values under Holm's correction.
    """
    real = videos[videos["label"] == 0]
    variance = 0.0
    for gender, frames in real.groupby("gender")["frames"]:
        rate = low + GAP if gender == worse else low
        of_video = rate * (1 - rate) * (ICC + (1 - ICC) / frames.to_numpy())
        variance += 1 / (1 / of_video).sum()
    return float(norm.cdf(GAP / np.sqrt(variance) - norm.isf(0.025 / tests)))


def small(datasets: dict[str, pd.DataFrame], settings: Settings, runs: int) -> None:
    """Verdicts on FPR between two groups of a few videos, audited by themselves."""
    print(f"\nTwo groups of n videos a class drawn from a dataset, gender alone; {runs} runs each")
    print(
        f"{'dataset':9}{'n':>4}{'FPR':>14}{'disparity':>11}{'equivalent':>12}{'inconclusive':>14}"
        f"{'needs, median':>15}"
    )
    for name, videos in datasets.items():
        for size in (30, 50):
            for gap in (0.0, GAP):
                rng, verdicts, needed = np.random.default_rng(2), Counter(), []
                for run in range(runs):
                    chosen = _draw_groups(videos, size, rng)
                    rate = draw_biased(chosen, "male", FPR) if gap else draw_unbiased(chosen)
                    row = simulate(chosen, rate, _settings_with_seed(settings, run), rng).tests.iloc[0]
                    verdicts[row["verdict"]] += 1
                    needed.append(row["n_needed"])
                shares = [verdicts[verdict] / runs for verdict in ("disparity", "equivalent", "inconclusive")]
                print(
                    f"{name:9}{size:4}{f'{FPR:.2f}/{FPR + gap:.2f}':>14}{shares[0]:11.1%}{shares[1]:12.1%}",
                    end="",
                )
                print(f"{shares[2]:14.1%}{np.nanmedian(needed):15,.0f}", flush=True)


def _draw_groups(videos: pd.DataFrame, size: int, rng: np.random.Generator) -> pd.DataFrame:
    """Two groups of ``size`` videos of each class; who is in which is random, sizes of videos are real."""
    parts = []
    for _, part in videos.groupby("label"):
        chosen = part.iloc[rng.choice(len(part), 2 * size, replace=len(part) < 2 * size)]
        parts.append(chosen.assign(gender=np.repeat(["female", "male"], size), race="all"))
    return pd.concat(parts, ignore_index=True)


def _settings_with_seed(settings: Settings, seed: int) -> Settings:
    return Settings(
        n_boot=settings.n_boot,
        n_perm=settings.n_perm,
        score_resamples=settings.score_resamples,
        min_samples=settings.min_samples,
        random_state=seed,
    )


def _pair(sizes: pd.Series) -> str:
    return "/".join(str(size) for size in sizes)


def _wilson(count: int, runs: int) -> str:
    z, share = norm.isf(0.025), count / runs
    centre = (share + z * z / 2 / runs) / (1 + z * z / runs)
    half = z / (1 + z * z / runs) * np.sqrt(share * (1 - share) / runs + z * z / 4 / runs**2)
    return f"{max(centre - half, 0):.1%}-{centre + half:.1%}"


# Designs that break tests


def designs() -> Iterator[tuple[str, pd.DataFrame, float, float]]:
    """(name, videos, FPR, correlation): no group differs from another in any of them."""
    rng = np.random.default_rng(3)

    def videos(gender: Sequence[int], race: Sequence[int] = (), frames: int | np.ndarray = 1) -> pd.DataFrame:
        """So many real, and as many fake, videos of each gender; races are drawn in these proportions."""
        parts = []
        for label in (0, 1):
            names = np.repeat([f"g{number}" for number in range(len(gender))], gender)
            drawn = rng.choice(len(race), len(names), p=np.array(race) / sum(race)) if race else None
            kinds = "all" if drawn is None else np.array([f"r{number}" for number in range(len(race))])[drawn]
            parts.append(pd.DataFrame({"label": label, "gender": names, "race": kinds}))
        found = pd.concat(parts, ignore_index=True)
        found["frames"] = frames if isinstance(frames, int) else rng.choice(frames, len(found))
        return found

    yield "a group of 10 beside 1,000", videos([1000, 1000, 10]), FPR, ICC
    yield "the same, FPR 0.01", videos([1000, 1000, 10]), 0.01, ICC
    yield "70 groups of 5 to 300", videos(np.geomspace(10, 300, 70).astype(int).tolist()), FPR, ICC
    yield "1 to 1,000 frames a video", videos([60, 40], [5, 3, 1], np.array([1, 5, 30, 1000])), FPR, ICC
    yield "correlation 0.8", videos([100, 60, 15], [6, 2, 1], 20), FPR, 0.8
    giant = videos([120, 120], [3, 1])
    giant["person"] = np.arange(len(giant))
    giant.loc[(giant["gender"] == "g0") & (giant.index % 2 == 0), "person"] = 0
    # A person has one group in everything.
    giant.loc[giant["person"] == 0, "race"] = "r0"
    yield "one person in half of a group's videos", giant, FPR, ICC
    one = videos([80, 80], [2, 1])
    one["person"] = np.arange(len(one))
    reals = (one["label"] == 0) & (one["gender"] == "g1")
    one.loc[reals, "person"], one.loc[reals, "race"] = -1, "r0"
    yield "a group whose reals are one person", one, FPR, ICC
    yield "crossed groups of 2 to 40", videos([150, 90], [20, 9, 4, 2, 1, 1]), FPR, ICC
    unknown = videos([200, 150], [4, 2, 1])
    unknown.loc[unknown.index % 3 == 0, "gender"] = "unknown"
    yield "a third unknown", unknown, FPR, ICC
    yield "FPR 0.01, 40 videos a group", videos([40, 40, 40], [2, 1], 10), 0.01, ICC
    pair = videos([90, 70], [3, 1])
    pair["person"] = np.tile(np.arange(len(pair) // 2), 2)
    pair["race"] = np.tile(pair["race"].to_numpy()[: len(pair) // 2], 2)
    yield "every person real and faked", pair, FPR, ICC


def nasty(settings: Settings, runs: int) -> None:
    """Family-wise false alarms where groups, people and frames are as uneven as they come."""
    print(f"\nNo group differs; TPR {TPR}; {runs} runs a design. Nominal: 5 % false alarms")
    print(f"{'design':42}{'tests':>6}{'false alarms':>14}{'(95 % CI)':>13}{'CPU s':>8}")
    for name, videos, fpr, correlation in designs():
        rng, start, named = np.random.default_rng(4), time.process_time(), 0
        rate = np.where(videos["label"] == 1, TPR, fpr)
        for _ in range(runs):
            tests = simulate_tests(videos, rate, settings, rng, correlation)
            named += bool(rejected(tests))
        print(f"{name:42}{len(tests):6}{named / runs:14.1%}{_wilson(named, runs):>13}", end="")
        print(f"{time.process_time() - start:8.0f}", flush=True)


def rare(settings: Settings, runs: int) -> None:
    """Power to find a difference of two groups, alone and beside a rare third that has the lower rate."""
    print(f"\nFPR of women above that of men; {runs} runs each; found: the two are named")
    print(f"{'women, men':>12}{'FPR':>13}{'alone':>8}{'10 others':>11}{'20':>8}{'30':>8}")
    for sizes, low, high in (
        ((209, 209), 0.16, 0.35),
        ((1000, 1000), 0.10, 0.20),
        ((149, 118), 0.15, 0.30),
        ((150, 150), 0.05, 0.15),
        ((1000, 1000), 0.01, 0.03),
    ):
        print(f"{f'{sizes[0]}, {sizes[1]}':>12}{f'{low:.2f}/{high:.2f}':>13}", end="")
        for others in (0, 10, 20, 30):
            groups = np.repeat(["female", "male", "other"], [*sizes, others])
            videos = pd.DataFrame({"label": 0, "gender": groups, "race": "all", "frames": 1})
            fakes = videos.assign(label=1)
            both = pd.concat([videos, fakes], ignore_index=True)
            fpr = np.where(both["gender"] == "female", high, low)
            rate = np.where(both["label"] == 1, TPR, fpr)
            rng, found = np.random.default_rng(5), 0
            for _ in range(runs):
                tests = simulate_tests(both, rate, settings, rng)
                found += ("female", "male") in named_pairs(tests)
            print(f"{found / runs:{11 if others == 10 else 8}.1%}", end="", flush=True)
        print()
    print(f"\nA rare group is the one that is worse; {runs} runs each; it is named, with all pairs alike and")
    print(f"with pairs weighed by what they show{'':8}{'FPR':>11}{'alike':>8}{'weighed':>9}")
    for sizes, low, high in (
        ((149, 118, 10), 0.15, 0.45),
        ((149, 118, 30), 0.15, 0.45),
        ((1000, 1000, 30), 0.10, 0.30),
        ((300, 200, 100, 50, 20), 0.10, 0.40),
    ):
        names = [f"g{place}" for place in range(len(sizes))]
        videos = pd.DataFrame({"label": 0, "gender": np.repeat(names, sizes), "race": "all", "frames": 1})
        both = pd.concat([videos, videos.assign(label=1)], ignore_index=True)
        rate = np.where(both["label"] == 1, TPR, np.where(both["gender"] == names[-1], high, low))
        print(f"{', '.join(map(str, sizes)):43}{f'{low:.2f}/{high:.2f}':>11}", end="")
        for gain in (0.0, pairs.GAIN):
            rng, found = np.random.default_rng(5), 0
            with patch.object(pairs, "GAIN", gain):
                for _ in range(runs):
                    tests = simulate_tests(both, rate, settings, rng)
                    found += any(worse == names[-1] for worse, _ in named_pairs(tests))
            print(f"{found / runs:{9 if gain else 8}.1%}", end="", flush=True)
        print()


def named_pairs(tests: dict[tuple[str, str], pairs.PairTest]) -> set[tuple[str, str]]:
    """Higher and lower group of every pair whose FPR of gender is said to differ."""
    levels = dict(zip(tests, holm_levels(np.array([test.p_value for test in tests.values()])), strict=True))
    test = tests["gender", "fpr"]
    return {(test.names[a], test.names[b]) for a, b in test.pairs_below(levels["gender", "fpr"])}


def plans(runs: int, chosen: Sequence[int]) -> None:
    """Power that `unmasked plan` promises, and how often whole families of tests find the difference.

    ``chosen`` are the numbers of the designs, from 1, that are run.
    """
    print(f"\nPlanned power against {runs} simulated audits of that size (one standard error)")
    print(f"{'groups':22}{'rate':>6}{'gap':>6}{'videos':>8}{'ICC':>5}{'tests':>6}{'people':>8}", end="")
    print(f"{'planned':>9}{'found':>15}{'CPU s':>7}")
    two, three, rare_one = (0.5, 0.5), (0.4, 0.4, 0.2), (0.1, 0.45, 0.45)
    for number, (shares, rate, gap, each, correlation, tests, power) in enumerate(
        (
            (two, 0.1, 0.1, 1, 0.5, 2, 0.8),
            (two, 0.1, 0.1, 1, 0.5, 6, 0.9),
            (two, 0.01, 0.02, 1, 0.5, 2, 0.8),
            (two, 0.5, 0.1, 1, 0.5, 2, 0.8),
            (two, 0.15, 0.15, 5, 0.5, 2, 0.8),
            (two, 0.15, 0.15, 5, 0.1, 6, 0.8),
            (three, 0.1, 0.1, 1, 0.5, 2, 0.8),
            (three, 0.1, 0.3, 1, 0.5, 6, 0.8),
            (rare_one, 0.1, 0.15, 1, 0.5, 2, 0.8),
            (rare_one, 0.3, 0.2, 3, 0.8, 2, 0.6),
            ((0.3, 0.7), 0.05, 0.1, 10, 0.5, 2, 0.9),
            ((0.7, 0.3), 0.05, 0.1, 2, 0.5, 2, 0.5),
        ),
        start=1,
    ):
        if number not in chosen:
            continue
        start, rng = time.process_time(), np.random.default_rng(6)
        names = [f"g{place}" for place in range(len(shares))]
        study = Study(gap, rate, dict(zip(names, shares, strict=True)), each, correlation, tests)
        need = people_needed(study, "g0", power=power, studies=600)
        gender = np.repeat(names, study.sizes(int(need.people)))
        person = pd.DataFrame({"gender": gender, "person": np.arange(len(gender)), "frames": 1})
        found = 0
        for _ in range(runs):
            person["race"] = "all" if tests == 2 else rng.choice(["r0", "r1"], len(person))
            videos = person.loc[person.index.repeat(each)]
            fakes = videos.assign(label=1, person=videos["person"] + len(person))
            both = pd.concat([videos.assign(label=0), fakes], ignore_index=True)
            worse = (both["label"] == 0) & (both["gender"] == "g0")
            chance = np.where(both["label"] == 1, TPR, rate + gap * worse)
            settings = Settings(n_perm=1000, min_samples=1)
            outcome = simulate_tests(both, chance, settings, rng, correlation if each > 1 else 0.0)
            test = outcome["gender", "fpr"]
            found += ("gender", "fpr") in rejected(outcome) and test.names[test.widest[0]] == "g0"
        share = found / runs
        print(f"{' '.join(f'{one:g}' for one in shares):22}{rate:6}{gap:6}{each:8}{correlation:5}", end="")
        print(f"{len(outcome):6}{need.people:8,.0f}{need.power:9.1%}", end="")
        print(f"{share:8.1%} ({np.sqrt(share * (1 - share) / runs):.1%})", end="")
        print(f"{time.process_time() - start:7.0f}", flush=True)


# Subgroups


def search(settings: Settings, runs: int) -> None:
    """How often the search over subgroups finds one where there is none, and a planted one."""
    print(f"\nThe search over all subgroups of three attributes; TPR {TPR}; {runs} runs each. Nominal: 5 %")
    print(f"{'design':42}{'people':>8}{'compared':>10}{'found':>9}{'(95 % CI)':>13}{'covers':>9}{'CPU s':>8}")
    for name, videos, fpr, correlation in designs():
        _search(name, videos, settings, runs, np.full(len(videos), fpr), correlation)
    rng = np.random.default_rng(7)
    for size, extra in ((600, 0.2), (600, 0.3), (2000, 0.2), (2000, 0.3)):
        kinds = {"gender": [0.5, 0.5], "race": [0.5, 0.35, 0.15]}
        drawn = {
            key: rng.choice([f"{key[0]}{at}" for at in range(len(share))], size, p=share)
            for key, share in kinds.items()
        }
        videos = pd.DataFrame(drawn | {"label": np.tile([0, 1], size // 2), "frames": 1})
        worse = ((videos["gender"] == "g0") & (videos["race"] == "r2")).to_numpy()
        name = f"planted: FPR + {extra:.2f} in {int((worse & (videos['label'] == 0)).sum())} of g0 × r2"
        _search(name, videos, settings, runs, np.where(worse, FPR + extra, FPR), ICC, worse, extra)


def _search(
    name: str,
    videos: pd.DataFrame,
    settings: Settings,
    runs: int,
    fpr: np.ndarray,
    correlation: float,
    worse: np.ndarray | None = None,
    extra: float = 0.0,
) -> None:
    rng, start, found, covers, compared = np.random.default_rng(8), time.process_time(), 0, [], []
    rate = np.where(videos["label"] == 1, TPR, fpr)
    for _ in range(runs):
        person, own = _people(videos, rate, correlation, rng)
        of_row = np.repeat(np.arange(len(videos)), videos["frames"])
        called = rng.random(len(of_row)) < own[of_row]
        # A person has one age.
        ages = rng.choice(["a0", "a1", "a2"], int(person.max()) + 1, p=[0.5, 0.3, 0.2])[person]
        groups = videos[["gender", "race"]].assign(age=ages).iloc[of_row].reset_index(drop=True)
        label = videos["label"].to_numpy()[of_row]
        one = scan(label, called, person[of_row], groups, settings, rng)
        compared.append(one["searched"])
        if not one["found"]:
            continue
        worst = one["found"][0]
        found += worst["p_value"] < 0.05 and (worse is None or worst["group"].startswith("g0 × r2"))
        true = 0.0 if worse is None else extra
        if worse is None or worst["group"] == "g0 × r2":
            covers.append(worst["ci_low"] <= true <= worst["ci_high"])
    print(f"{name:42}{len(np.unique(person)):8,}{np.mean(compared):10.0f}{found / runs:9.1%}", end="")
    print(f"{_wilson(found, runs):>13}{np.mean(covers) if covers else np.nan:9.1%}", end="")
    print(f"{time.process_time() - start:8.0f}", flush=True)


def shrunk(runs: int) -> None:
    """Coverage of the shrunk rates, beside the raw ones, by size of the crossing and of its residuals."""
    print(
        f"\nShrunk rates of crossed groups of 8 to 120 people, main effects of 0.08 (angle); {runs} runs each"
    )
    print(
        f"{'groups':>10}{'residual':>10}{'FPR':>6}{'covers':>9}{'under 20':>10}{'error':>8}{'raw':>8}", end=""
    )
    print(f"{'shrinkage':>11}{'width':>8}{'CPU s':>7}")
    for levels in ((2, 2), (2, 4), (2, 3, 5)):
        for residual in (0.0, 0.05, 0.15):
            for fpr in (0.05, FPR):
                _shrunk(levels, residual, fpr, runs)


def _shrunk(levels: tuple[int, ...], residual: float, fpr: float, runs: int) -> None:
    rng, start = np.random.default_rng(9), time.process_time()
    cells = np.stack(np.meshgrid(*map(np.arange, levels), indexing="ij"), axis=-1).reshape(-1, len(levels))
    names = [" × ".join(f"{at}{value}" for at, value in enumerate(cell)) for cell in cells]
    covers, few, error, raw, pulled, width = [], [], [], [], [], []
    for _ in range(runs):
        size = np.exp(rng.uniform(np.log(8), np.log(120), len(cells))).astype(int)
        angle = np.arcsin(np.sqrt(fpr)) + residual * rng.normal(size=len(cells))
        for at, level in enumerate(levels):
            angle += 0.08 * rng.normal(size=level)[cells[:, at]]
        rate = np.sin(np.clip(angle, 0.02, np.pi / 2)) ** 2
        share = rng.binomial(size, rate) / size
        one = shrink(names, share, size.astype(float))
        inside = (one.low <= rate) & (rate <= one.high)
        assert ((one.low <= one.value) & (one.value <= one.high) & (one.low < one.high)).all()
        covers.append(inside)
        few.append(inside[size < 20])
        error.append((one.value - rate) ** 2)
        raw.append((share - rate) ** 2)
        pulled.append(one.shrinkage.mean())
        width.append((one.high - one.low).mean())
    print(f"{' x '.join(map(str, levels)):>10}{residual:10.2f}{fpr:6.2f}{np.mean(covers):9.1%}", end="")
    print(
        f"{np.mean(np.concatenate(few)):10.1%}{np.sqrt(np.mean(error)):8.3f}{np.sqrt(np.mean(raw)):8.3f}",
        end="",
    )
    print(f"{np.mean(pulled):11.0%}{np.mean(width):8.3f}{time.process_time() - start:7.0f}", flush=True)


# Looking every week


def watched(runs: int) -> None:
    """How often bets find a difference in 100 looks, where there is none and where there is one."""
    print(f"\n100 looks at new people, two groups and three groups, FPR and TPR; {runs} runs. Nominal: 5 %")
    print(
        f"{'design':46}{'found by look 10':>17}{'50':>7}{'100':>7}{'(95 % CI)':>13}{'median people':>15}",
        end="",
    )
    print(f"{'z test each week':>18}{'CPU s':>7}")
    for name, each, low, high, drift in (
        ("no difference, 5 and 5 a week", (5, 5), FPR, FPR, 0.0),
        ("no difference, 1 and 20 a week", (1, 20), FPR, FPR, 0.0),
        ("no difference, FPR 0.01", (20, 20), 0.01, 0.01, 0.0),
        ("no difference, FPR rises from 0.05 to 0.45", (5, 5), 0.05, 0.05, 0.4),
        ("0.15 and 0.30, 5 and 5 a week", (5, 5), 0.15, 0.30, 0.0),
        ("0.15 and 0.30, 1 and 20 a week", (1, 20), 0.15, 0.30, 0.0),
        ("0.10 and 0.20, 20 and 20 a week", (20, 20), 0.10, 0.20, 0.0),
        ("0.01 and 0.05, 20 and 20 a week", (20, 20), 0.01, 0.05, 0.0),
    ):
        rng, start, at, naive = np.random.default_rng(10), time.process_time(), [], 0
        for _ in range(runs):
            found, alarm = _watch(each, low, high, drift, rng)
            at.append(found)
            naive += alarm
        looks = np.array(at)
        shares = [(looks <= look).mean() for look in (10, 50, 100)]
        print(f"{name:46}{shares[0]:17.1%}{shares[1]:7.1%}{shares[2]:7.1%}", end="")
        middle = f"{np.median(looks) * sum(each):,.0f}" if shares[2] > 0.5 else "-"
        print(f"{_wilson(int((looks <= 100).sum()), runs):>13}{middle:>15}{naive / runs:18.1%}", end="")
        print(f"{time.process_time() - start:7.0f}", flush=True)


def _watch(
    each: tuple[int, int], low: float, high: float, drift: float, rng: np.random.Generator
) -> tuple[float, bool]:
    """The look at which any pair is found (infinite if none), and whether a z test each week finds one.

    Pairs: of two groups, and of three that everybody is in as well, each in both classes; the first group
    alone differs, in its reals.
    """
    watched_pairs = [
        (attribute, label, one, other)
        for attribute, size in ((0, 2), (1, 3))
        for label in (0, 1)
        for one in range(size)
        for other in range(one + 1, size)
    ]
    capital, sums = np.zeros((len(watched_pairs), len(BETS))), np.zeros((len(watched_pairs), 2, 2))
    found, alarm = np.inf, False
    for look in range(1, 101):
        parts = []
        for rates in (np.array([high, low]) + drift * look / 100, np.array([TPR, TPR])):
            two = np.repeat([0, 1], each)
            called = (rng.random(len(two)) < rates[two]).astype(float)
            parts.append((called, (two, rng.integers(0, 3, len(two)))))
        for place, (attribute, label, one, other) in enumerate(watched_pairs):
            called, groups = parts[label]
            sides = [called[groups[attribute] == side] for side in (one, other)]
            capital[place] = add_people(capital[place], sides[0], sides[1], rng)
            sums[place] += [[side.sum(), len(side)] for side in sides]
        if np.isinf(found) and adjust_e_values(np.array([e_value(row) for row in capital])).max() >= ENOUGH:
            found = look
        size, share = sums[..., 1], sums[..., 0] / np.maximum(sums[..., 1], 1)
        both = sums[..., 0].sum(axis=1) / np.maximum(size.sum(axis=1), 1)
        error = np.sqrt(both * (1 - both) * (1 / np.maximum(size, 1)).sum(axis=1))
        z = np.abs(share[:, 0] - share[:, 1]) / np.where(error > 0, error, np.inf)
        alarm |= bool(look >= 10 and z.max() > norm.isf(0.025 / len(watched_pairs)))
    return found, alarm


# Remedies


def remedies(seeds: int) -> None:
    """What each remedy does to a planted gap of FPR, on simulated scores: means over corpora."""
    print(
        f"\nRemedies fitted on 60 people a group and class, judged on 150; {seeds} corpora each; points, 95 %"
    )
    print(f"{'bias':22}{'gap before':>12} {'remedy':26}{'gap after':>16}{'change':>18}", end="")
    print(
        f"{'balanced accuracy':>20}{'worst-off gain':>16}{'levels down':>13}{'surely less':>13}{'front':>7}"
    )
    for kind in ("shift", "noise"):
        for strength in (0.0, 0.5, 1.0):
            if strength or kind == "shift":
                _remedies(kind, strength, seeds)


def _remedies(kind: str, strength: float, seeds: int) -> None:
    how = MitigationSettings(comparison=Comparison(n_boot=400))
    runs = [mitigate(people_with_bias(kind, strength, seed), ["tone"], settings=how) for seed in range(seeds)]
    names = [one["name"] for one in runs[0]["methods"]]
    by_name = {name: [run["methods"][place] for run in runs] for place, name in enumerate(names)}
    mean = {
        name: (
            np.mean([one["after"]["gap"] for one in found]),
            np.mean([one["utility_change"] for one in found]),
        )
        for name, found in by_name.items()
    }
    before = np.array([run["methods"][0]["before"]["gap"] for run in runs])
    points = {"as it is": (before.mean(), 0.0)} | mean
    for name, found in by_name.items():
        gap, use = mean[name]
        beaten = any(other[0] <= gap and other[1] >= use and other != (gap, use) for other in points.values())
        after, change, utility, gain = (
            np.array(values)
            for values in (
                [one["after"]["gap"] for one in found],
                [one["gap_change"] for one in found],
                [one["utility_change"] for one in found],
                [one["worst_group_gain"] for one in found],
            )
        )
        print(f"{f'{kind} {strength}':22}{_spread(before):>12} {name:26}{_spread(after):>16}", end="")
        print(f"{_spread(change):>18}{_spread(utility):>20}{100 * np.nanmean(gain):16.1f}", end="")
        down = sum(one["levelling_down"] for one in found)
        surely = sum(one["gap_change_ci"][1] < 0 for one in found)
        print(f"{down:>10} / {seeds}{surely:>9} / {seeds}{'' if beaten else 'yes':>7}", flush=True)


def _spread(values: np.ndarray) -> str:
    """Mean over corpora with the half width of its 95 % interval (Student's t), in points."""
    half = t.isf(0.025, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{100 * values.mean():.1f} ± {100 * half:.1f}"


def people_with_bias(kind: str, strength: float, seed: int) -> pd.DataFrame:
    """Scores of people of three skin tones, one real and one fake video each; the dark-skinned are got wrong.

    The latent score of a real is normal around 0, of a fake around 2. A bias by ``shift`` raises all scores
    of dark-skinned people, which a threshold of their own takes away; one by ``noise`` brings their fakes
    nearer to reals and widens both, which no threshold does.
    """
    rng = np.random.default_rng([seed, 11])
    parts = []
    for split, each in (("val", 60), ("test", 150)):
        tone = np.repeat(["light", "medium", "dark"], each)
        for label in (0, 1):
            worse = strength * (tone == "dark")
            latent = 2.0 * label + rng.normal(size=len(tone))
            if kind == "shift":
                latent += worse
            else:
                latent = 2.0 * label * (1 - worse / 2) + rng.normal(size=len(tone)) * (1 + worse)
            names = [f"{split}{label}{at}" for at in range(len(tone))]
            parts.append(
                pd.DataFrame(
                    {"dataset": "simulated", "video": names, "split": split, "label": label, "tone": tone}
                ).assign(score=norm.cdf(latent - 1))
            )
    return pd.concat(parts, ignore_index=True)


# A million rows


def scale(n_rows: int) -> None:
    """Time and memory of an audit of AI-Face's size, and fairlearn's bootstrap of it."""
    label, score, groups, clusters = million(n_rows)
    print(f"\n{n_rows:,} rows of {len(np.unique(clusters)):,} videos and images; gender, age and skin tone,")
    print("their pairs and their triple: 7 attributes, 71 groups; 2,000 resamples, 2,000 permutations")
    chosen = [*_pairs(list(groups)), tuple(groups)]
    for unit, given in (("videos", clusters), ("rows", None)):
        wall, cpu = time.perf_counter(), time.process_time()
        found = audit(label, score, sensitive_features=groups, clusters=given, intersections=chosen)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        alarm = int((found.tests["verdict"] == "disparity").sum())
        print(
            f"audit, unit of resampling {unit}: {wall:.1f} s, {cpu:.1f} s of CPU, peak {peak:.2f} GiB; ",
            end="",
        )
        print(f"{len(found.by_group)} groups, {alarm} disparities in {found.tests['p_value'].count()} tests")
    fairlearns(label, score, groups, wall)


def million(n_rows: int) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, np.ndarray]:
    """Labels, scores, groups, clusters: AI-Face's share of fakes; two in five are of videos."""
    rng = np.random.default_rng(0)
    frames = np.concatenate([np.full(int(0.4 * n_rows / 10) + 1, 10), np.ones(n_rows, dtype=int)])
    clusters = np.repeat(np.arange(len(frames)), frames)[:n_rows]
    size = int(clusters[-1]) + 1
    fake = (rng.random(size) < 1_245_660 / 1_646_545).astype(np.int64)
    own = rng.normal(size=size)
    centre = np.where(fake == 1, norm.ppf(TPR), norm.ppf(FPR))[clusters]
    score = norm.cdf(centre + np.sqrt(ICC) * own[clusters] + np.sqrt(1 - ICC) * rng.normal(size=n_rows))
    shares = {
        "gender": (["female", "male"], [0.5, 0.5]),
        "age": (["child", "young", "adult", "middle", "senior"], [0.05, 0.35, 0.35, 0.15, 0.1]),
        "skin_tone_group": (["light", "medium", "dark"], [0.5, 0.4, 0.1]),
    }
    groups = {
        name: np.array(values, dtype=object)[rng.choice(len(values), size, p=share)][clusters]
        for name, (values, share) in shares.items()
    }
    return fake[clusters], score, pd.DataFrame(groups), clusters


def fairlearns(label: np.ndarray, score: np.ndarray, groups: pd.DataFrame, ours: float) -> None:
    """Time of fairlearn's own bootstrap of four rates, by attribute, from two resamples each."""
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
    from sklearn.metrics import accuracy_score

    metrics = {
        "fpr": false_positive_rate,
        "tpr": true_positive_rate,
        "selection_rate": selection_rate,
        "accuracy": accuracy_score,
    }
    given = {"metrics": metrics, "y_true": label, "y_pred": (score > 0.5).astype(int)}
    total = 0.0
    for columns in ([name] for name in groups):
        times = []
        for n_boot in (0, 2):
            resampling = (
                {"n_boot": n_boot, "ci_quantiles": [0.025, 0.975], "random_state": 0} if n_boot else {}
            )
            start = time.perf_counter()
            MetricFrame(**given, sensitive_features=groups[columns], **resampling)
            times.append(time.perf_counter() - start)
        one = (times[1] - times[0]) / 2
        total += 2000 * one
        print(f"fairlearn {' × '.join(columns)}: {one:.1f} s a resample of four rates", flush=True)
    print(
        f"fairlearn, 2,000 resamples of the three single attributes, extrapolated: {total / 3600:.1f} h;",
        end="",
    )
    print(
        f" {total / ours:,.0f} times our audit, which adds permutations, crossings, AUC, EER, Brier and ECE"
    )


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(first, second) for place, first in enumerate(names) for second in names[place + 1 :]]


if __name__ == "__main__":
    main()
