"""``unmasked demo``: every stage on synthetic people with a planted bias."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import Reporter, duration_text, print_result

BIASED_BY = "skin_tone_group"  # the attribute whose gap the demo tries to close
UNSEEN = "Celeb-DF-v2"
SOURCE = "FaceForensics++"  # what the demo trains on; the other datasets are never seen before the test
COMPRESSION = "c23"  # the only one of FaceForensics++ that is scanned, so the only one that is written

# A dozen people and four steps: enough to see every stage at work, far too little to learn anything.
QUICK_CORPUS = {
    "ff_train": 4,
    "ff_val": 2,
    "ff_test": 4,
    "celeb_test": 2,
    "celeb_train": 0,
    "celeb_youtube": 2,
    "celeb_videos": 1,
    "wild_train": 0,
    "wild_test": 2,
    "frames": 6,
}
# Videos as they reach a user: three changes at three strengths on two crops of each video, and all of it
# re-encoded once.
CHANGED = [
    "perturbations=[jpeg,gaussian_blur,gaussian_noise,h264:4]",
    "severities=[1,3,5]",
    "perturbed_per_video=2",
]
MAIN = "UCF"  # of the three the one that is perturbed, audited and explained
SMALL = ["model.backbone=mobilenetv3_small_050", "model.size_px=128", "optimiser.lr=2e-3"]
SMALL += ["optimiser.schedule=one_cycle", "training.max_steps=200", "training.val_every_steps=50"]
DETECTORS = {  # folder, as `unmasked evaluate` names it -> arguments of `unmasked train`
    MAIN: ["--config", "ucf/demo"],
    "Handcrafted-features": ["detector=handcrafted", "model.classifier=forest", "model.size_px=128"],
    "Backbone": ["detector=backbone", *SMALL, "data.val_frames_per_video=4"],
}
QUICK = {
    MAIN: ["training.max_steps=4", "model.width=0.125", "model.size_px=64"],
    "Handcrafted-features": ["model.blocks=[lbp,colour]", "model.trees=20"],
    "Backbone": ["training.max_steps=4", "training.val_every_steps=4", "model.size_px=32"],
}
# Seconds of each step on two idle cores, in order where a command comes several times; their ratios give the
# time that is left.
CORPUS_S = 190
STEP_S = {
    "scan": [2],
    "preprocess": [46],
    "train": [95, 30, 20],
    "predict": [45, 25, 10],
    "evaluate": [5],
    "mitigate": [3],
    "fairness": [15],
    "explain": [30],
    "inspect": [6],
    "report": [8, 1],
}
REUSED_S = 10


class Config(BaseModel):
    """Where the demo writes, and what is planted in its corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path = Field(Path("unmasked-demo"), description="folder for the corpus, the crops and the run")
    seed: int = Field(0, ge=0, description="seed of the training; `corpus_seed` draws the people")
    corpus_seed: int = Field(0, ge=0, description="seed of the synthetic people, clips and manipulations")
    bias: str = Field(
        "skin_tone:dark",
        description="plant a disparity: fakes of this group show fainter traces; `bias=` for none",
    )
    bias_strength: float = Field(0.9, ge=0, le=1, description="share by which those traces are fainter")
    shuffle_labels: bool = Field(
        False, description="control: shuffle labels among training videos; the test AUC must then be 0.5"
    )
    quick: bool = Field(
        False,
        description="a dozen people and four training steps, in a minute: shows the flow, learns nothing",
    )
    workers: int = Field(0, ge=0, description="processes for rendering and cropping; 0 = one a core")
    run: str = Field(
        "run", description="folder inside `out` for the three detectors; the corpus is shared between runs"
    )


def run(config: Config) -> None:
    """Renders the corpus (once), then runs the commands of `commands` one after the other."""
    started = time.monotonic()
    from unmasked.app.cli import config_class, verb_module
    from unmasked.app.config import load

    steps = list(commands(config))
    of_verb = {verb: iter(seconds) for verb, seconds in STEP_S.items()}
    ahead = [next(of_verb[verb]) for verb, _ in steps]
    total = len(steps) + 1
    with Reporter() as reporter:
        reporter.say(f"1/{total}  synthetic corpus in {config.out / 'corpus'}")
        _write_corpus(config, reporter)
    # A corpus that was there already took no time, and says nothing of how fast this machine is.
    past = CORPUS_S if time.monotonic() - started > REUSED_S else 0
    for number, (verb, arguments) in enumerate(commands(config), start=2):
        file = Path(arguments[1]) if arguments[0] == "--config" else None
        shown = shlex.join(["unmasked", verb, *arguments])
        left = sum(ahead) * (time.monotonic() - started) / past if past else 0
        words = f"about {duration_text(left)} left  " if left else ""
        print_result(f"\n{number}/{total}  {words}$ {shown}")
        module = verb_module(verb)
        given = arguments[2:] if file else arguments
        module.run(load(config_class(module, file, given), file, given))
        past += ahead.pop(0)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    result = config.out / config.run
    print_result(f"\ndone in {minutes} min {seconds:02d} s")
    _reveal(config)
    print_result(f"which of the three holds up best: {(result / 'report.html').resolve()}")
    print_result(f"{MAIN} by group, threshold and damage: {(result / MAIN / 'report.html').resolve()}")
    print_result(f"one video, looked at as a case: {(result / 'case' / 'case.html').resolve()}")
    print_result(f"TensorBoard: tensorboard --logdir {shlex.quote(str(result / MAIN))}")


def commands(config: Config) -> Iterator[tuple[str, list[str]]]:
    """The command lines of the demo, as (verb, arguments), in order."""
    out, result = config.out, config.out / config.run
    corpus, main = out / "corpus", config.out / config.run / MAIN
    roots = [corpus / name for name in (SOURCE, UNSEEN, "WildDeepfake")]
    annotations = [corpus / "AI-Face" / name for name in ("train.csv", "test.csv")]
    predictions = f"predictions={main / 'predictions.parquet'}"
    faces = f"faces={out / 'faces' / 'faces.parquet'}"
    manifest = f"manifest={out / 'manifest.parquet'}"
    yield (
        "scan",
        [
            f"root=[{','.join(map(str, roots))}]",
            f"annotations=[{','.join(map(str, annotations))}]",
            f"compression=[{COMPRESSION}]",
            f"out={out / 'manifest.parquet'}",
        ],
    )
    cropping = [manifest, f"out={out / 'faces'}", f"workers={config.workers}", "preview=true"]
    yield "preprocess", ["--config", "preprocessing/demo", *cropping]
    shared = [faces, f"dataset={SOURCE}", f"seed={config.seed}"]
    shared += ["shuffle_labels=true"] if config.shuffle_labels else []
    for name, arguments in DETECTORS.items():
        quick = QUICK[name] if config.quick else []
        yield "train", [*arguments, *quick, *shared, f"out={result / name}"]
    for name in DETECTORS:
        scores = [f"checkpoint={result / name}", faces, f"out={result / name / 'predictions.parquet'}"]
        yield "predict", [*scores, *([manifest, *CHANGED] if name == MAIN else [])]
    rules = "rules=[eer,fpr:0.10,fpr:0.05,fpr:0.01,youden]"
    yield "evaluate", [f"predictions={result}", f"source={SOURCE}", rules, f"out={result}"]
    yield "mitigate", [predictions, f"by=[{BIASED_BY}]", f"source={SOURCE}", f"out={main}"]
    yield (
        "fairness",
        [
            predictions,
            f"by=[gender,age,{BIASED_BY}]",
            f"thresholds={main / 'thresholds.json'}",
            f"source={SOURCE}",
            faces,
            f"out={main}",
        ],
    )
    yield "explain", [f"checkpoint={main}", faces, f"out={main}"]
    case = [f"performance={main}", f"out={result / 'case'}", "overwrite=true"]
    yield "inspect", [f"file={suspicious_file(corpus)}", f"checkpoint={main}", *case]
    yield "report", [f"run={main}", f"truth={corpus / 'truth.json'}"]
    yield "report", [f"run={result}"]


def suspicious_file(corpus: Path) -> Path:
    """The first fake among the test videos of Celeb-DF-v2, which no detector was trained on."""
    root, name = corpus / UNSEEN, "Celeb-synthesis/id1_id0_0000.mp4"  # until the corpus is written
    listed = root / "List_of_testing_videos.txt"
    if listed.is_file():
        rows = [line.split() for line in listed.read_text(encoding="utf-8").splitlines()]
        name = next(name for label, name in rows if label == "0")
    kind, _, file = name.partition("/")
    return root / kind / "videos" / file


def _reveal(config: Config) -> None:
    """Prints what was planted in the corpus, and what the audit found of it."""
    from unmasked.analysis.reports.run.truth import found_sentences, planted_sentence
    from unmasked.datasets.documents import read_json
    from unmasked.fairness import records

    truth = read_json(config.out / "corpus" / "truth.json", "run the demo again with another out=")
    audit = config.out / config.run / MAIN / records.FILE
    print_result(f"\nthis was planted: {planted_sentence(truth)}")
    if audit.is_file():
        print_result(f"this was found: {' '.join(found_sentences(truth, records.read(audit)))}\n")


def _write_corpus(config: Config, reporter: Reporter) -> None:
    from unmasked.datasets.synthetic.config import SyntheticConfig
    from unmasked.datasets.synthetic.corpus import write_corpus

    corpus = SyntheticConfig(
        seed=config.corpus_seed,
        bias=config.bias,
        bias_strength=config.bias_strength,
        compressions=(COMPRESSION,),
        **(QUICK_CORPUS if config.quick else {}),
    )
    write_corpus(
        corpus, config.out / "corpus", workers=config.workers or os.cpu_count() or 1, progress=reporter
    )
