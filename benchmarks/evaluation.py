"""Do intervals cover, is a million frames quick, are useless detectors read as such?

    python benchmarks/evaluation.py [--sets 500] [--frames 1000000] [--videos 30000] [--most-seconds 60]
                                    [--most-gb 4] [--only coverage|metrics|groups|calibration|scale|controls]

Metrics: of how many simulated sets the interval of each metric holds its true value, which is that of two
million rows; sets of 60 + 60 videos of one frame, and of twenty (ICC 0.5), of 30 + 30, and of 600 + 600.
Groups: the same of groups of 20 + 20 to 60 + 60 videos in a larger table, as `fairness` measures them.
Calibration: the same of the ECE alone, of scores that are calibrated and of scores that are not.
Coverage: simulated sets whose true AUC is known (60 videos of 20 frames, ICC 0.5, AUC 0.85); how often the
95 % interval of the frame AUC holds it, when videos are resampled and when frames are. Scale: all metrics
and 2,000 resamples of frames and of videos, in a process of its own; scikit-learn's metrics in a plain loop
over 20 resamples, extrapolated, in another. Controls: what `evaluate` says of shuffled labels and of a
constant, a perfect and a reversed detector. Exits with 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from unmasked.evaluation import metrics
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.intervals import Sample, intervals, intervals_of, resample
from unmasked.evaluation.levels import sample_of
from unmasked.evaluation.metrics import video_scores
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.slices import Rows, measure

TRUE_AUC, ICC = 0.85, 0.5
N_BOOT = 2000
LOOPS = 20  # resamples of the plain loop that are timed
COVERED = (0.93, 0.97)
STAGES = ("ours", "loop")
CUT = 0.85  # calls 15 % of the reals fake, and 67 % of the fakes
DESIGNS = {  # name -> videos, frames of each
    "60 + 60 videos": (120, 1),
    "60 + 60 of 20 frames": (120, 20),
    "30 + 30 videos": (60, 1),
    "30 + 30 of 20 frames": (60, 20),
    "600 + 600 videos": (1200, 1),
}
# name -> slope and shift of the calibrated log odds, share of fakes
CALIBRATIONS = {
    "calibrated": (1.0, 0.0, 0.5),
    "nearly": (1.3, 0.2, 0.5),
    "overconfident": (2.5, 0.0, 0.5),
    "timid, shifted": (0.5, 0.5, 0.5),
    "one in five fake, shifted": (1.5, 1.0, 0.2),
}
CALIBRATION_SIZES = ((30, 1), (60, 1), (120, 1), (400, 1), (60, 5), (120, 10))  # videos, frames of each
GROUPS = {"20 + 20": 40, "30 + 30": 60, "40 + 40": 80, "60 + 60": 120, "all others": 400}


def main() -> int:
    """Runs the three parts and says whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--videos", type=int, default=30_000)
    parser.add_argument("--most-seconds", type=float, default=60)
    parser.add_argument("--most-gb", type=float, default=4)
    parser.add_argument(
        "--only", choices=("coverage", "metrics", "groups", "calibration", "scale", "controls")
    )
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        run = ours if arguments.stage == "ours" else plain_loop
        print(json.dumps(run(corpus(arguments.frames, arguments.videos))))
        return 0
    parts: dict[str, Callable[[], bool]] = {
        "coverage": lambda: coverage(arguments.sets),
        "metrics": lambda: coverage_of_metrics(arguments.sets),
        "groups": lambda: coverage_by_group(arguments.sets),
        "calibration": lambda: coverage_of_calibration(arguments.sets),
        "scale": lambda: scale(arguments),
        "controls": controls,
    }
    checks = [part() for name, part in parts.items() if arguments.only in (None, name)]
    return 0 if all(checks) else 1


def coverage_of_metrics(sets: int) -> bool:
    """How often each metric's interval holds the truth, by design; a table in Markdown."""
    truth = true_values()
    held = {design: dict.fromkeys(truth, 0) for design in DESIGNS}
    for design, (videos, frames) in DESIGNS.items():
        for seed in range(sets):
            label, score, video = draw_clustered(
                np.random.default_rng([seed, videos, frames]), videos, frames
            )
            sample = Sample.of(label, score, video)
            for name, (low, high) in intervals(sample, CUT, n_boot=1000, seed=seed).items():
                held[design][name] += low <= truth[name] <= high
    return print_coverage(truth, held, sets)


def coverage_by_group(sets: int) -> bool:
    """The same of groups in one table, videos of one and of four frames, as `fairness` slices them."""
    truth = {name: value for name, value in true_values().items() if name in metrics.group_metrics()}
    frames_of = {"": 1, " of 4 frames": 4}
    held = {group + many: dict.fromkeys(truth, 0) for many in frames_of for group in GROUPS}
    settings = Settings(threshold=CUT, n_boot=500, n_perm=1, min_samples=1)
    of_video = np.repeat(list(GROUPS), list(GROUPS.values()))
    for many, frames in frames_of.items():
        for seed in range(sets):
            label, score, video = draw_clustered(
                np.random.default_rng([seed, frames, 5]), len(of_video), frames
            )
            rows = Rows(label, score, video, video, np.ones(len(label), dtype=np.int64))
            found = measure(rows, pd.Series(of_video[video], name=f"group {seed}"), settings)
            is_held = (found.low[list(truth)] <= pd.Series(truth)) & (pd.Series(truth) <= found.high)
            for group in GROUPS:
                for name in truth:
                    held[group + many][name] += bool(is_held.loc[group, name])
    return print_coverage(truth, held, sets)


def coverage_of_calibration(sets: int) -> bool:
    """How often the interval of the ECE holds the truth, and how long it is, by how scores are wrong."""
    print("| scores | true ECE |", " | ".join(f"{videos} × {frames}" for videos, frames in CALIBRATION_SIZES))
    for kind, form in CALIBRATIONS.items():
        label, score, _ = draw_probabilities(np.random.default_rng(9), 1_000_000, 1, form)
        truth = metrics.expected_calibration_error(label, score) if kind != "calibrated" else 0.0
        cells = []
        for videos, frames in CALIBRATION_SIZES:
            ends = []
            for seed in range(sets):
                drawn = draw_probabilities(
                    np.random.default_rng([seed, videos, frames, 77]), videos, frames, form
                )
                ends.append(intervals(Sample.of(*drawn), n_boot=600, seed=seed, only=("ece",))["ece"])
            low, high = np.array(ends).T
            held = ((low <= truth) & (truth <= high)).mean()
            cells.append(f"{100 * held:.1f} ({(high - low).mean():.2f})")
        print(f"| {kind} | {truth:.3f} |", " | ".join(cells), flush=True)
    return True


def true_values() -> dict[str, float]:
    """Every metric of two million rows."""
    label, score, _ = draw_clustered(np.random.default_rng(4), videos=2_000_000, frames=1)
    return metrics.all_metrics(label, score, CUT)


def print_coverage(truth: dict[str, float], held: dict[str, dict[str, int]], sets: int) -> bool:
    """Prints shares of sets whose interval held the truth, a column a design; True if the AUC's did."""
    print(f"95 % intervals that hold the truth, of {sets} sets; in brackets one standard error, all per cent")
    print(f"| metric | true value | {' | '.join(held)} |\n|---|---|{'---|' * len(held)}")
    for name, value in truth.items():
        shares = [design[name] / sets for design in held.values()]
        cells = [f"{100 * share:.1f} ({100 * (share * (1 - share) / sets) ** 0.5:.1f})" for share in shares]
        print(f"| {metrics.METRICS[name].title} | {value:.3f} | {' | '.join(cells)} |", flush=True)
    return all(design["auc"] / sets >= 0.9 for design in held.values())


def coverage(sets: int) -> bool:
    """How often the interval holds the true AUC, with clusters and without."""
    held = {"videos": 0, "frames": 0}
    for seed in range(sets):
        label, score, video = draw_clustered(np.random.default_rng([seed, 2]), videos=60, frames=20)
        for unit, cluster in (("videos", video), ("frames", np.arange(len(label)))):
            sample = Sample.of(label, score, cluster)
            low, high = intervals(sample, n_boot=1000, seed=seed, only=("auc",))["auc"]
            held[unit] += low <= TRUE_AUC <= high
        if (seed + 1) % 100 == 0:
            print(f"  {seed + 1} sets: {held}", flush=True)
    share = held["videos"] / sets
    error = np.sqrt(share * (1 - share) / sets)
    print(
        f"coverage of {TRUE_AUC} by 95 % intervals, {sets} sets: {share:.1%} (standard error {error:.1%}; "
        f"wanted {COVERED[0]:.0%} to {COVERED[1]:.0%}); forgetting clusters {held['frames'] / sets:.1%}"
    )
    return COVERED[0] <= share <= COVERED[1]


def scale(arguments: argparse.Namespace) -> bool:
    """Seconds and memory for many frames, beside a plain loop, each in a process of its own."""
    found = {}
    for stage in STAGES:
        command = [sys.executable, __file__, f"--stage={stage}"]
        command += [f"--frames={arguments.frames}", f"--videos={arguments.videos}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[stage] = json.loads(output.splitlines()[-1])
    ours_of, loop = found["ours"], found["loop"]
    total = ours_of["seconds"]
    print(
        f"{arguments.frames} frames in {arguments.videos} videos, all {len(metrics.METRICS)} metrics and "
        f"{N_BOOT} resamples of both levels: {total:.1f} s (at most {arguments.most_seconds:g}; "
        f"{ours_of['cpu']:.1f} s CPU), peak {ours_of['gb']:.2f} GB (at most {arguments.most_gb:g})"
    )
    print(f"  of that: {', '.join(f'{name} {value:.1f} s' for name, value in ours_of['parts'].items())}")
    whole, own = loop["seconds"] * N_BOOT, ours_of["parts"]["frames"]
    print(
        f"plain loop of scikit-learn's metrics on the same frames: {loop['seconds']:.2f} s a resample "
        f"({LOOPS} timed), {whole:.0f} s for {N_BOOT}; ours {own:.1f} s, {whole / own:.0f} times as fast"
    )
    print(f"  AUC {ours_of['auc']:.6f} and {loop['auc']:.6f}; intervals {ours_of['ci']} and {loop['ci']}")
    return total <= arguments.most_seconds and ours_of["gb"] <= arguments.most_gb


def ours(table: pd.DataFrame) -> dict[str, Any]:
    """All metrics with intervals of frames and of videos, with what it took."""
    parts: dict[str, float] = {}
    start, start_cpu = time.perf_counter(), time.process_time()
    videos = _time_call(parts, "video scores", lambda: video_scores(table))
    frame, found = _time_call(parts, "frames", lambda: _numbers(table))
    _time_call(parts, "videos", lambda: _numbers(videos))
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    ci = [round(end, 4) for end in found["auc"]]
    return {"seconds": seconds, "cpu": cpu, "parts": parts, "gb": _peak_gb(), "auc": frame["auc"], "ci": ci}


def plain_loop(table: pd.DataFrame) -> dict[str, Any]:
    """Scikit-learn's metrics on resampled videos, one resample after the other."""
    label, score = table["label"].to_numpy(), table["score"].to_numpy()
    code, _ = pd.factorize(table["video"])
    rows = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
    rng = np.random.default_rng(0)
    by_class = [[rows[video] for video in np.unique(code[label == which])] for which in (0, 1)]
    start, aucs = time.perf_counter(), []
    for _ in range(LOOPS):
        drawn = [
            members[index] for members in by_class for index in rng.integers(0, len(members), len(members))
        ]
        chosen = np.concatenate(drawn)
        aucs.append(_sklearn_metrics(label[chosen], score[chosen])["auc"])
    seconds = (time.perf_counter() - start) / LOOPS
    ci = [round(float(end), 4) for end in np.quantile(aucs, [0.025, 0.975])]
    return {"seconds": seconds, "auc": _sklearn_metrics(label, score)["auc"], "ci": ci}


def controls() -> bool:
    """What is said of detectors whose worth is known."""
    rng = np.random.default_rng(0)
    label, score, video = draw_clustered(rng, videos=200, frames=10)
    table = pd.DataFrame({"dataset": "controls", "video": video.astype(str), "label": label, "score": score})
    shuffled = table.assign(label=rng.permutation(np.arange(200) % 2)[video])
    cases = {
        "the detector itself": (table, "better than chance"),
        "labels shuffled": (shuffled, "not told from chance"),
        "constant": (table.assign(score=0.7), "a constant detector"),
        "perfect": (table.assign(score=0.1 + 0.8 * label), "a perfect ranking"),
        "reversed": (table.assign(score=0.9 - 0.8 * label), "a reversed detector"),
    }
    right = True
    print("controls, as `evaluate` reads them:")
    for name, (rows, expected) in cases.items():
        block = evaluate(rows, n_boot=N_BOOT)["datasets"]["controls"]
        low, high = block["video"]["auc_ci"]
        print(f"  {name}: AUC {block['video']['auc']:.3f} [{low:.3f}, {high:.3f}]: {block['reading']}")
        right = right and block["reading"].startswith(expected)
    held, ways = 0, 200
    for seed in range(ways):
        drawn = np.random.default_rng([seed, 3]).permutation(np.arange(200) % 2)[video]
        found = intervals(Sample.of(drawn, score, video), n_boot=500, seed=seed, only=("auc",))["auc"]
        held += found[0] <= 0.5 <= found[1]
    print(f"  labels shuffled in {ways} ways: the interval holds 0.5 in {held / ways:.1%} (95 % expected)")
    return right


def draw_clustered(
    rng: np.random.Generator, videos: int, frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and videos of frames, every second video fake, with that AUC and ICC."""
    label = np.repeat(np.arange(videos) % 2, frames)
    video = np.repeat(np.arange(videos), frames)
    shared = np.repeat(rng.normal(0, ICC**0.5, videos), frames)
    own = rng.normal(0, (1 - ICC) ** 0.5, len(label))
    return label, norm.cdf(shared + own + norm.ppf(TRUE_AUC) * 2**0.5 * label), video


def draw_probabilities(
    rng: np.random.Generator, videos: int, frames: int, form: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and videos; the log odds of the scores are the true ones times a slope, and shifted."""
    slope, shift, share = form
    label = np.repeat(np.arange(videos) < share * videos, frames).astype(np.int64)
    video = np.repeat(np.arange(videos), frames)
    apart = norm.ppf(TRUE_AUC) * 2**0.5
    shared = np.repeat(rng.normal(0, ICC**0.5, videos), frames)
    place = shared + rng.normal(0, (1 - ICC) ** 0.5, len(label)) + apart * label
    odds = apart * place - apart**2 / 2 + np.log(share / (1 - share))
    return label, expit(slope * odds + shift), video


def corpus(frames: int, videos: int) -> pd.DataFrame:
    """A predictions table of videos of unequal length."""
    rng = np.random.default_rng(1)
    video = np.sort(np.concatenate([np.arange(videos), rng.integers(0, videos, frames - videos)]))
    label = video % 2
    shared = rng.normal(0, ICC**0.5, videos)[video]
    score = norm.cdf(shared + rng.normal(0, (1 - ICC) ** 0.5, frames) + norm.ppf(TRUE_AUC) * 2**0.5 * label)
    names = pd.Series(np.char.mod("v%05d", np.arange(videos))).to_numpy()[video]
    return pd.DataFrame({"dataset": "big", "video": names, "label": label, "score": score})


def _numbers(rows: pd.DataFrame) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    sample = sample_of(rows)
    values = metrics.all_metrics(sample.label, sample.score)
    return values, intervals_of(sample, values, resample(sample, n_boot=N_BOOT))


def _sklearn_metrics(label: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """As many of our metrics as scikit-learn has, each by its own function, and two from its curve."""
    from sklearn import metrics as sk

    called = score > 0.5
    fpr, tpr, _ = sk.roc_curve(label, score)
    return {
        "auc": sk.roc_auc_score(label, score),
        "partial_auc": sk.roc_auc_score(label, score, max_fpr=0.1),
        "ap": sk.average_precision_score(label, score),
        "eer": fpr[np.argmin(np.abs(1 - tpr - fpr))],
        "tpr_at_fpr_5": tpr[fpr <= 0.05].max(),
        "accuracy": sk.accuracy_score(label, called),
        "balanced_accuracy": sk.balanced_accuracy_score(label, called),
        "precision": sk.precision_score(label, called),
        "recall": sk.recall_score(label, called),
        "f1": sk.f1_score(label, called),
        "mcc": sk.matthews_corrcoef(label, called),
        "brier": sk.brier_score_loss(label, score),
        "log_loss": sk.log_loss(label, score),
    }


def _time_call(parts: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = work()
    parts[name] = time.perf_counter() - start
    return result


def _peak_gb() -> float:
    """Largest resident memory of this process so far, in GB (10^9 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    sys.exit(main())
