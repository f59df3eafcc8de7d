"""The whole flow on real video files, as `unmasked demo` runs it."""

import json
import shlex

import pandas as pd
import pytest
from typer.testing import CliRunner

from unmasked.app.cli import VERBS, app
from unmasked.app.config import load
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
    for page in (main.parent / "report.html", main / "report.html"):
        assert str(page) in result.output


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
    assert truth["config"]["bias"] == ""
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
