"""What remedies do to a bias that was planted in rendered people, with trained detectors.

    python benchmarks/mitigation.py cache=FOLDER [people=900] [workers=2] [seeds=5] [out=FOLDER] [show=FILE]

People are rendered (`datasets/synthetic`), a frame of each left as it is and another manipulated by one of
four methods, at each of `STRENGTHS`. The crops are kept in ``cache`` (a file for 24 people, 0.15 MB a person;
a stopped run goes on). Biases that are planted in dark-skinned people, `BIASES`: fainter traces in their
fakes; poorer cameras, which make reals and fakes small and enlarge them again; or few of them in training.

For every seed people are split anew, half of each skin tone for the test, a fifth for validation, the rest
for training. A network of one hidden layer is trained on handcrafted features of the crops, once as it is,
once more with another seed, and with every loss of `training/group_losses`; remedies that are fitted on
scores are fitted on validation, and so is every threshold, at an FPR of 10 %. The gap is of FPR on the test.

Printed: means over seeds ± half of the 95 % interval, in points. The splits share people, so that the
interval is Student's with the variance that Nadeau and Bengio (2003) give it, six times that of unrelated
runs at five seeds. ``finds`` is the change of the gap that 80 of 100 such experiments would show. ``out``
gets the table and the Pareto fronts; ``show`` is such a table, of which the fronts alone are drawn again.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from scipy.stats import t
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from unmasked.baselines.handcrafted import features
from unmasked.datasets.synthetic.config import skin_tone_group
from unmasked.datasets.synthetic.manipulate import FACEFORENSICS
from unmasked.datasets.synthetic.people import Person, draw_people
from unmasked.datasets.synthetic.plan import look_alikes, seed_for
from unmasked.datasets.synthetic.render import render_clip
from unmasked.datasets.synthetic.units import face_crops
from unmasked.evaluation.records import Measures
from unmasked.fairness.mitigation.compare import Comparison
from unmasked.fairness.mitigation.run import Settings, mitigate
from unmasked.training.config import LossConfig
from unmasked.training.group_losses import TrainingGroups, build

DEFAULTS = {"cache": "", "people": "900", "workers": "2", "seeds": "5", "out": "", "show": ""}
# Of the traces of a fake: of everybody, and of those whose fakes are fainter.
STRENGTHS = (1.0, 0.65, 0.3)
FRAME_PX, CROP_PX, MARGIN = 224, 128, 1.2
BATCH = 24
BLOCKS = ("lbp", "colour", "gradient")
ROBUST = ("reweighted", "cvar", "nested_cvar", "group_dro")
CONTROL = "another seed"
TEST, VAL = 0.5, 0.2  # of each skin tone; the rest is trained on


@dataclass(frozen=True)
class Bias:
    """What is planted in dark-skinned people.

    Attributes:
        name: in the table.
        strength: of the traces in their fakes.
        scale: width of their crops, as a share, before they are enlarged again.
        trained_on: share of them that is left in training.
    """

    name: str
    strength: float = 1.0
    scale: float = 1.0
    trained_on: float = 1.0


BIASES = (
    Bias("none"),
    Bias("fainter by 35 %", strength=0.65),
    Bias("fainter by 70 %", strength=0.3),
    Bias("small to 80 %", scale=0.8),
    Bias("small to 60 %", scale=0.6),
    Bias("a fifth in training", trained_on=0.2),
)

Pair = tuple[Person, Person]


def main() -> None:
    """Renders what is not there yet, then prints the table."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if (unknown := set(given) - set(DEFAULTS)) or not given.get("cache"):
        sys.exit(f"{', '.join(sorted(unknown)) or 'no cache'}: give cache=FOLDER and {', '.join(DEFAULTS)}")
    options = DEFAULTS | given
    out = Path(options["out"]) if options["out"] else None
    if options["show"]:
        draw(pd.read_csv(options["show"]), out or Path())
        return
    people, cache = int(options["people"]), Path(options["cache"])
    render(people, cache, int(options["workers"]))
    table = judge(people, cache, int(options["seeds"]))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        table.to_csv(out / "remedies.csv", index=False)
        draw(table, out)


# Rendering


def batches(people: int, cache: Path) -> list[tuple[list[Pair], Path]]:
    """Pairs of look-alikes, some at a time, and the file of each batch."""
    pairs = look_alikes(draw_people(people, seed=0, prefix="p"))
    # Every batch has people of all kinds: they are sorted by gender and skin tone.
    count = -(-len(pairs) // (BATCH // 2))
    found = []
    for start in range(count):
        batch = pairs[start::count]
        key = repr((batch, STRENGTHS, FRAME_PX, CROP_PX, MARGIN))
        found.append((batch, cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"))
    return found


def render(people: int, cache: Path, workers: int) -> None:
    """Writes the files that are missing."""
    cache.mkdir(parents=True, exist_ok=True)
    waiting = [one for one in batches(people, cache) if not one[1].is_file()]
    if not waiting:
        return
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        cpu = sum(pool.map(write_batch, waiting))
    faces = sum(2 * len(batch) for batch, _ in waiting)
    print(f"{faces} people rendered: {cpu / faces:.2f} s of CPU each, ", end="")
    print(f"{time.perf_counter() - start:.0f} s on the clock with {workers} processes", flush=True)


def write_batch(task: tuple[list[Pair], Path]) -> float:
    """Renders some pairs and writes their crops; seconds of CPU.

    Of each person: name, tone and (1 + strengths, CROP_PX, CROP_PX, 3) crops, the real one first.
    """
    pairs, path = task
    cv2.setNumThreads(1)
    start = time.process_time()
    names, tones, crops = [], [], []
    for pair in pairs:
        clips = [
            render_clip(one, frames=2, size_px=FRAME_PX, seed=seed_for(0, "clip", one.name)) for one in pair
        ]
        for target in (0, 1):
            name, clip = pair[target].name, clips[target]
            method = list(FACEFORENSICS)[seed_for(0, "method", name) % len(FACEFORENSICS)]
            # The real is the first frame, fakes are made of the second.
            shown = [face_crops(clip.frames[:1], clip.points[:1], CROP_PX, MARGIN)[0]]
            for strength in STRENGTHS:
                rng = np.random.default_rng(seed_for(0, "fake", name))
                frames, _ = FACEFORENSICS[method](clip, clips[1 - target], strength=strength, rng=rng)
                shown.append(face_crops(frames[1:], clip.points[1:], CROP_PX, MARGIN)[0])
            names.append(name)
            tones.append(skin_tone_group(pair[target].skin_tone))
            crops.append(np.stack(shown))
    part = path.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez_compressed(part, person=np.array(names), tone=np.array(tones), crops=np.stack(crops))
    part.rename(path)
    return time.process_time() - start


# Trainings


def read(people: int, cache: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """People (person, tone), and their crops (P, 1 + strengths, CROP_PX, CROP_PX, 3), reals first."""
    parts = []
    for _, path in batches(people, cache):
        with np.load(path) as found:
            parts.append([found["person"], found["tone"], found["crops"]])
    names, tones, crops = (np.concatenate(values) for values in zip(*parts, strict=True))
    return pd.DataFrame({"person": names, "tone": tones}), crops


def shown(people: pd.DataFrame, crops: np.ndarray, bias: Bias) -> np.ndarray:
    """(P, 2, F) features of everybody's real and fake under a bias."""
    dark = (people["tone"] == "dark").to_numpy()
    fake = np.where(dark, 1 + STRENGTHS.index(bias.strength), 1)
    found = []
    for person, name in enumerate(people["person"]):
        for label, place in enumerate((0, fake[person])):
            scale = bias.scale if dark[person] else 1.0
            found.append(photograph(crops[person, place], scale, seed_for(0, "jpeg", name, label)))
    blocks = features(np.stack(found), BLOCKS)
    joined = np.concatenate([blocks[name] for name in BLOCKS], axis=1)
    return joined.reshape(len(people), 2, -1).astype(np.float32)


def photograph(image: np.ndarray, scale: float, seed: int) -> np.ndarray:
    """The image made smaller, enlarged again, and written as JPEG of a quality of its own, 75 to 95."""
    if scale < 1:
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    _, buffer = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75 + seed % 21])
    return np.ascontiguousarray(cv2.imdecode(buffer, cv2.IMREAD_COLOR)[..., ::-1])


def split_people(tone: np.ndarray, trained_on: float, seed: int) -> np.ndarray:
    """(P,) test, val, train, or nothing: those of dark skin who are left out of training."""
    rng, found = np.random.default_rng([seed, 21]), np.full(len(tone), "", dtype=object)
    for name in np.unique(tone):
        drawn = rng.permutation(np.flatnonzero(tone == name))
        test, val = round(TEST * len(drawn)), round(VAL * len(drawn))
        train = drawn[test + val :]
        if name == "dark":
            train = train[: round(trained_on * len(train))]
        found[drawn[:test]], found[drawn[test : test + val]], found[train] = "test", "val", "train"
    return found


def train(x: np.ndarray, rows: pd.DataFrame, robust: str, seed: int) -> np.ndarray:
    """(N,) P(fake) by a network of one hidden layer that is trained on the rows of the split train."""
    torch.manual_seed(seed)
    own = np.flatnonzero(rows["split"] == "train")
    codes, names = pd.factorize(rows["tone"].to_numpy()[own], sort=True)
    label = rows["label"].to_numpy()[own].astype(np.int64)
    loss = build(
        LossConfig(robust=robust), TrainingGroups("tone", list(names), codes.astype(np.int64), label)
    )
    network = nn.Sequential(nn.Linear(x.shape[1], 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-3)
    inputs, wanted = torch.from_numpy(x[own]), torch.from_numpy(label).float()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(40):
        for batch in torch.randperm(len(own), generator=generator).split(64):
            losses = nn.functional.binary_cross_entropy_with_logits(
                network(inputs[batch])[:, 0], wanted[batch], reduction="none"
            )
            optimiser.zero_grad()
            (losses.mean() if loss is None else loss(losses, batch)).backward()
            optimiser.step()
    network.eval()
    with torch.no_grad():
        return torch.sigmoid(network(torch.from_numpy(x))[:, 0]).double().numpy()


def experiment(people: pd.DataFrame, x: np.ndarray, bias: Bias, seed: int) -> list[Measures]:
    """What `mitigate` says of every remedy, trained and fitted with this seed."""
    split = split_people(people["tone"].to_numpy(), bias.trained_on, seed)
    rows = people.assign(split=split, dataset="rendered").loc[people.index.repeat(2)].reset_index(drop=True)
    rows["label"] = np.tile([0, 1], len(people))
    rows["video"] = rows["person"] + np.where(rows["label"] == 1, "f", "r")
    rows["identity"] = rows["person"]
    kept = (rows["split"] != "").to_numpy()
    rows, inputs = rows[kept].reset_index(drop=True), x.reshape(len(kept), -1)[kept]
    trained_on = (rows["split"] == "train").to_numpy()
    inputs = StandardScaler().fit(inputs[trained_on]).transform(inputs).astype(np.float32)

    def scored(robust: str, with_seed: int) -> pd.DataFrame:
        score = train(inputs, rows, robust, with_seed)
        return rows.drop(columns="person").assign(score=score)[~trained_on]

    before = scored("none", seed)
    retrained = {robust: scored(robust, seed) for robust in ROBUST} | {CONTROL: scored("none", seed + 1000)}
    how = Settings(comparison=Comparison(n_boot=400))
    found: list[Measures] = [*mitigate(before, ["tone"], retrained=retrained, settings=how)["methods"]]
    test = before[before["split"] == "test"]
    auc = roc_auc_score(test["label"], test["score"])
    return [entry | {"auc": float(auc)} for entry in found]


def judge(people: int, cache: Path, seeds: int) -> pd.DataFrame:
    """Prints a line for every bias and remedy, and gives them as numbers."""
    who, crops = read(people, cache)
    size = int(who.groupby("tone").size().min())
    print(f"\n{seeds} seeds; of each skin tone {round(TEST * size)} people in the test, ", end="")
    print(f"{round(VAL * size)} in validation; points, ± half of the 95 % interval")
    print(f"{'remedy':26}{'gap':>12}{'change':>13}{'finds':>7}{'gap of TPR':>13}", end="")
    print(f"{'balanced acc.':>14}{'worst-off':>11}{'down':>7}{'less':>7}{'front':>7}")
    table = []
    for bias in BIASES:
        start = time.process_time()
        x = shown(who, crops, bias)
        runs = [experiment(who, x, bias, seed) for seed in range(seeds)]
        rows = summarise(bias, runs)
        print(f"{bias.name}: AUC {rows[0]['auc']:.3f}, gap {text(rows[0], 'gap_before')}, ", end="")
        print(f"of TPR {text(rows[0], 'tpr_gap_before')} ({time.process_time() - start:.0f} s of CPU)")
        for row in rows:
            print(f"  {row['remedy']:24}{text(row, 'gap_after'):>12}{text(row, 'change'):>13}", end="")
            print(f"{100 * row['finds']:7.1f}{text(row, 'tpr_gap_change'):>13}", end="")
            print(f"{text(row, 'balanced_accuracy'):>14}{100 * row['worst_off']:11.1f}", end="")
            print(f"{row['levels_down']:>5}/{seeds}{row['surely_less']:>5}/{seeds}", end="")
            print(f"{'yes' if row['front'] else '':>7}", flush=True)
        table += rows
    return pd.DataFrame(table)


def summarise(bias: Bias, runs: list[list[Measures]]) -> list[Measures]:
    """A record for each remedy, of all seeds."""
    table: list[Measures] = []
    for place, entry in enumerate(runs[0]):
        found = [run[place] for run in runs]
        gaps = [(tpr_gap(one["before"]), tpr_gap(one["after"])) for one in found]
        row: Measures = {"bias": bias.name, "remedy": entry["name"]}
        row["auc"] = float(np.mean([one["auc"] for one in found]))
        row |= spread("gap_before", [one["before"]["gap"] for one in found])
        row |= spread("gap_after", [one["after"]["gap"] for one in found])
        row |= spread("change", [one["gap_change"] for one in found])
        row |= spread("tpr_gap_before", [before for before, _ in gaps])
        row |= spread("tpr_gap_change", [after - before for before, after in gaps])
        row |= spread("balanced_accuracy", [one["utility_change"] for one in found])
        row["worst_off"] = float(np.nanmean([one["worst_group_gain"] for one in found]))
        row["levels_down"] = sum(one["levelling_down"] for one in found)
        row["surely_less"] = sum(one["gap_change_ci"][1] < 0 for one in found)
        degrees = len(runs) - 1
        row["finds"] = row["change_half"] * (1 + t.isf(0.2, degrees) / t.isf(0.025, degrees))
        table.append(row)
    points = [(0.0, 0.0), *((row["change"], row["balanced_accuracy"]) for row in table)]
    for row in table:
        own = row["change"], row["balanced_accuracy"]
        row["front"] = not any(one[0] <= own[0] and one[1] >= own[1] and one != own for one in points)
    return table


def tpr_gap(outcome: Measures) -> float:
    """Largest TPR of a group minus the smallest."""
    return float(np.ptp([group["tpr"] for group in outcome["groups"]]))


def spread(name: str, values: list[float]) -> Measures:
    """Mean over seeds, and half of its 95 % interval."""
    # Nadeau and Bengio 2003: what is tested over what is fitted on is how far splits share people.
    variance = np.var(values, ddof=1) * (1 / len(values) + TEST / (1 - TEST))
    half = t.isf(0.025, len(values) - 1) * np.sqrt(variance)
    return {name: float(np.mean(values)), f"{name}_half": float(half)}


def text(row: Measures, name: str) -> str:
    """A mean with its half interval, in points."""
    return f"{100 * row[name]:.1f} ± {100 * row[f'{name}_half']:.1f}"


def draw(table: pd.DataFrame, out: Path) -> None:
    """A panel for each bias: the gap against the change of balanced accuracy, with intervals and front."""
    import matplotlib.pyplot as plt

    biases = list(dict.fromkeys(table["bias"]))
    figure, grid = plt.subplots(2, -(-len(biases) // 2), figsize=(13, 8.5), sharex=True, sharey=True)
    colours = plt.get_cmap("tab10").colors
    for ax, bias in zip(grid.flat, biases, strict=False):
        part = table[table["bias"] == bias].reset_index(drop=True)
        before = 100 * part["gap_before"][0]
        ax.axhline(before, color="grey", lw=0.8, ls=":")
        ax.axvline(0, color="grey", lw=0.8, ls=":")
        ax.plot(0, before, "k*", ms=9, label="as it is")
        for place, row in part.iterrows():
            error = {"xerr": 100 * row["balanced_accuracy_half"], "yerr": 100 * row["change_half"]}
            flag = ", levels down" if row["levels_down"] else ""
            ax.errorbar(
                100 * row["balanced_accuracy"],
                100 * row["gap_after"],
                **error,
                fmt="v" if flag else "o",
                color=colours[place % 10],
                elinewidth=0.6,
                label=row["remedy"].replace("_", " "),
            )
        front = [
            (0.0, before),
            *part.loc[part["front"], ["balanced_accuracy", "gap_after"]].mul(100).to_numpy(),
        ]
        best = [one for one in front if not any(o[0] >= one[0] and o[1] < one[1] for o in front)]
        ax.step(*zip(*sorted(map(tuple, best)), strict=True), where="pre", color="black", lw=1)
        ax.set_title(f"{bias}: AUC {part['auc'][0]:.2f}", fontsize=10)
    for ax in grid[-1]:
        ax.set_xlabel("change of balanced accuracy (points)")
    for ax in grid[:, 0]:
        ax.set_ylabel("gap of FPR (points)")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=6, fontsize=8)
    figure.suptitle(
        "Bars: change from as it is, 95 %. Triangles levelled down in some run. Line: Pareto front"
    )
    figure.tight_layout(rect=(0, 0.06, 1, 0.98))
    figure.savefig(out / "mitigation.png", dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
