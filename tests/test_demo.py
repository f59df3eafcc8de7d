"""The whole flow on real video files, as `unmasked demo` runs it."""

import io
import json
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_fakes import table_of
from rich.console import Console
from typer.testing import CliRunner

from unmasked.app.cli import VERBS, app
from unmasked.app.config import load
from unmasked.app.progress import Reporter
from unmasked.app.verbs import demo
from unmasked.app.verbs.demo import Config, commands

FIGURES = ["matrix", "roc", "det", "precision_recall", "thresholds_fpr", "thresholds_tpr", "risk_coverage"]
FIGURES += ["robustness_jpeg", "robustness_gaussian_blur", "reliability_Celeb-DF-v2"]


def test_every_command_of_the_demo_is_one_that_a_user_can_type():
    from unmasked.app.cli import config_class, verb_module

    for verb, arguments in commands(Config(bias="gender:female", shuffle_labels=True)):
        assert verb in VERBS
        typed = shlex.split(shlex.join(arguments))
        file, rest = (typed[1], typed[2:]) if typed[0] == "--config" else (None, typed)
        file = demo.Path(file) if file else None
        load(config_class(verb_module(verb), file, rest), file, rest)


def test_every_step_of_the_demo_has_its_time():
    counted = Counter(verb for verb, _ in commands(Config()))
    assert counted == {verb: len(seconds) for verb, seconds in demo.STEP_S.items()}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    pytest.importorskip("anny")
    out = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(app, ["demo", f"out={out}", "quick=true", "workers=1"])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return out, result


@pytest.mark.slow
def test_demo_leaves_everything_that_a_run_holds(study):
    out, result = study
    main = out / "run" / demo.MAIN
    left = {str(path.relative_to(main)) for path in main.rglob("*") if path.is_file()}
    assert left >= {
        *("config.yaml", "environment.json", "metrics.json", "metrics.jsonl", "thresholds.json"),
        *("detector.safetensors", "detector.json", "predictions.parquet", "checkpoints/last.ckpt"),
        *("explain/cam.png", "explain/tsne.png", "report.html", "model_card.md"),
        *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("svg", "csv")),
    }
    assert any("tfevents" in name for name in left)
    for page in (main.parent / "report.html", main / "report.html", main.parent / "case" / "case.html"):
        assert str(page) in result.output
        assert page.is_file()


@pytest.mark.slow
def test_demo_looks_at_one_unseen_fake_and_ends_with_what_was_planted_beside_what_was_found(study):
    out, result = study
    case = json.loads((out / "run" / "case" / "case.json").read_text())
    truth = json.loads((out / "corpus" / "truth.json").read_text())
    examined = demo.suspicious_file(out / "corpus")
    assert examined.parent.parent.parent.name == demo.UNSEEN
    assert case["source"]["name"] == examined.name
    # It was cropped with room around the face, and the page said that training had no such crops.
    assert (case["settings"]["scale"], case["settings"]["recipe"]["size_px"]) == (1.0, 128)
    assert "other_crops" not in {reason["code"] for reason in case["finding"]["reasons"]}
    assert truth["config"]["bias"] == "skin_tone:dark"
    told = result.output[result.output.index("done in ") :]
    assert "this was planted: Fakes of dark-skinned people show traces that are fainter by 90 %." in told
    assert told.index("this was planted") < told.index("this was found: On FaceForensics++ it was ")
    assert "What was planted, and what was found" in (out / "run" / demo.MAIN / "report.html").read_text()


def test_the_time_that_is_left_is_said_once_it_can_be_known():
    console = Console(file=io.StringIO(), width=200)
    reporter = Reporter(console)
    clock = iter([0.0, 10.0, 20.0, 40.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unmasked.app.progress.time.monotonic", lambda: next(clock))
        for done in (10, 11, 20, 100):  # of one step, with the start in it, "61 min left" was told
            reporter("faces", done, 100)
    lines = console.file.getvalue().splitlines()
    assert lines[:2] == ["  faces 10/100", "  faces 11/100"]
    assert lines[2:] == ["  faces 20/100, about 3 min left", "  faces 100/100"]


@pytest.mark.slow
def test_the_page_of_the_demo_says_which_of_three_holds_up_best_and_leads_to_each(study):
    out, _ = study
    metrics = json.loads((out / "run" / "metrics.json").read_text())
    assert set(metrics["detectors"]) == {"UCF", "Handcrafted features", "Backbone"}
    # The demo's folders are those that `unmasked evaluate` writes each one's results to.
    assert {one["folder"] for one in metrics["detectors"].values()} == set(demo.DETECTORS)
    assert {row["test"] for row in metrics["leaders"]} == {"Celeb-DF-v2", "WildDeepfake"}
    page = (out / "run" / "report.html").read_text()
    assert page.count("ranks a fake above a real video in") >= len(metrics["leaders"])
    assert f'href="{demo.MAIN}/report.html"' in page


@pytest.mark.slow
def test_tables_of_the_demo_agree_with_each_other(study):
    out, _ = study
    manifest, faces = (
        pd.read_parquet(out / "manifest.parquet"),
        pd.read_parquet(out / "faces" / "faces.parquet"),
    )
    predictions = pd.read_parquet(out / "run" / demo.MAIN / "predictions.parquet")
    assert set(faces["video"]) == set(manifest["video"])
    assert (faces["status"] == "ok").mean() > 0.9
    scored = faces[(faces["status"] == "ok") & faces["split"].isin(["val", "test"])]
    is_changed = predictions["perturbation"].notna()
    assert len(predictions[~is_changed]) == len(scored)
    assert set(predictions.loc[is_changed, "perturbation"]) == {
        "jpeg",
        "gaussian_blur",
        "gaussian_noise",
        "h264",
    }
    truth = json.loads((out / "corpus" / "truth.json").read_text())
    assert truth["config"]["bias"] == "skin_tone:dark"
    metrics = json.loads((out / "run" / demo.MAIN / "metrics.json").read_text())
    assert set(metrics["datasets"]) == {"FaceForensics++", "Celeb-DF-v2", "WildDeepfake"}
    real = manifest[
        (manifest["dataset"] == "FaceForensics++") & (manifest["split"] == "test") & (manifest["label"] == 0)
    ]
    assert metrics["datasets"]["FaceForensics++"]["n"]["real_videos"] == len(real) == 4


@pytest.mark.slow
def test_demographics_reach_the_predictions_from_the_annotation_file(study):
    out, _ = study
    predictions = pd.read_parquet(out / "run" / demo.MAIN / "predictions.parquet")
    planted = json.loads((out / "corpus" / "truth.json").read_text())
    known = predictions[predictions["dataset"] == "FaceForensics++"]
    assert known["gender"].isin(["female", "male"]).all()
    assert predictions.loc[predictions["dataset"] == "WildDeepfake", "gender"].isna().all()
    assert planted["people"]


@pytest.mark.slow
def test_second_demo_reuses_corpus_and_crops(study, monkeypatch):
    out, _ = study
    # What follows on the predictions is the same as in the first: not run twice.
    monkeypatch.setattr(demo, "DETECTORS", {demo.MAIN: demo.DETECTORS[demo.MAIN]})
    monkeypatch.setattr(demo, "commands", lambda config: list(commands(config))[:4])
    crops = {path: path.stat().st_mtime_ns for path in (out / "faces" / "crops").rglob("*.png")}
    result = CliRunner().invoke(app, ["demo", f"out={out}", "quick=true", "workers=1", "run=again"])
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in (out / "faces" / "crops").rglob("*.png")} == crops
    first = pd.read_parquet(out / "run" / demo.MAIN / "predictions.parquet")
    second = pd.read_parquet(out / "again" / demo.MAIN / "predictions.parquet")
    pd.testing.assert_series_equal(first["score"], second["score"], atol=1e-6)


@pytest.mark.slow
def test_corpus_of_another_configuration_is_refused(study):
    out, _ = study
    result = CliRunner().invoke(app, ["demo", f"out={out}", "quick=true", "corpus_seed=5"])
    assert result.exit_code == 2
    assert "corpus" in result.stderr


# The commands of docs/tutorial.md, typed in order on small files

TUTORIAL = Path(__file__).parent.parent / "docs" / "tutorial.md"
VIDEOS = 10  # of each class


def commands_of(job: int) -> list[list[str]]:
    text = TUTORIAL.read_text(encoding="utf-8")
    part = re.split(r"^## \d\. ", text, flags=re.MULTILINE)[job]
    lines = re.search(r"^```\n(.*?)^```", part, re.MULTILINE | re.DOTALL)[1].splitlines()
    typed = [shlex.split(line) for line in lines]
    assert all(words[0] == "unmasked" for words in typed)
    return [words[1:] for words in typed]


def type_job(job: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    told = ""
    for words in commands_of(job):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{words}: {result.output}{result.exception!r}"
        told += result.output
    return told


@pytest.mark.slow
def test_a_folder_of_videos_becomes_a_table_for_a_paper(study, tmp_path, monkeypatch):
    root = study[0] / "corpus" / demo.SOURCE
    for label, folder in (
        ("real", "original_sequences/youtube"),
        ("fake/Deepfakes", "manipulated_sequences/Deepfakes"),
    ):
        (tmp_path / "my_videos" / label).mkdir(parents=True)
        found = sorted((root / folder / "c23" / "videos").glob("*.mp4"))[:VIDEOS]
        assert len(found) == VIDEOS
        for path in found:
            (tmp_path / "my_videos" / label / path.name).symlink_to(path)
    type_job(1, tmp_path, monkeypatch)
    latex = (tmp_path / "paper" / "metrics.tex").read_text()
    first = latex[: latex.index(r"\end{table}")]
    assert r"\caption{Video AUC, a row a detector and a column a tested dataset.}" in first
    assert "my\\_videos" in first
    # One real and one fake video are tested, which bear no interval; the star says: of the source.
    assert len(re.findall(r"& \d\.\d{3} \*", first)) == 2
    assert latex.count("& 1 + 1 &") == 2
    page = (tmp_path / "paper" / "report.html").read_text()
    assert "2 detectors: which holds up" in page
    # One real and one fake video stand behind an AUC of 1.00, and nothing unseen was tested.
    assert "Too few videos to tell" in page
    assert page.count("on my_videos, where it was trained") == 2


def test_scores_of_a_bought_detector_become_a_decision(tmp_path, monkeypatch):
    table = table_of(fainter=("dark",)).query("dataset == 'Celeb-DF-v2'")
    table = table.groupby(["dataset", "video", "label", "identity"], as_index=False)["score"].mean()
    people = np.unique(table["identity"], return_inverse=True)[1]
    table.assign(gender=np.where(people % 2, "female", "male")).to_csv(tmp_path / "scores.csv", index=False)
    told = type_job(2, tmp_path, monkeypatch)
    assert "threshold: " in told
    report = (tmp_path / "bought" / "report.html").read_text()
    assert "fixed at 0.5" in report[: report.index('<details class="part">')]
    assert "by gender" in (tmp_path / "bought" / "fairness.html").read_text()


@pytest.mark.slow
def test_one_suspicious_video_becomes_a_case_that_somebody_else_can_check(study, tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").symlink_to(demo.suspicious_file(study[0] / "corpus"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "ucf").symlink_to(study[0] / "run" / demo.MAIN)
    told = type_job(3, tmp_path, monkeypatch)
    assert "clip.mp4: " in told
    assert (tmp_path / "case" / "case.html").is_file()
