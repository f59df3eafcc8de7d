"""Results of one detector are never shown beside those of another: `evaluation.origin` and its readers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from report_fakes import SOURCE, UNSEEN, Reader, scored, table_of, write_run
from typer.testing import CliRunner

from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.folder import read_run
from unmasked.analysis.reports.run.page import write_report
from unmasked.analysis.reports.run.results_part import fairness_part
from unmasked.app.cli import app
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.fitted import read_fitted
from unmasked.evaluation.origin import Origin, scores_digest
from unmasked.evaluation.predictions import PREDICTIONS, read_predictions

ONE, TWO = "1" * 64, "2" * 64


def audited_run(folder, **settings):
    return write_run(folder, table_of(**settings))


def test_order_group_columns_and_the_kind_of_file_leave_the_digest_as_it_is(tmp_path):
    table = scored(SOURCE, "test", 2.0)
    digest = scores_digest(table)
    assert scores_digest(table.sample(frac=1, random_state=0)) == digest
    assert scores_digest(table.drop(columns="skin_tone_group").assign(gender="female")) == digest
    PREDICTIONS.write(table, tmp_path / "a.csv")
    PREDICTIONS.write(table, tmp_path / "a.parquet")
    assert {scores_digest(read_predictions(tmp_path / name)) for name in ("a.csv", "a.parquet")} == {digest}


@pytest.mark.parametrize("column", ["video", "frame", "label", "score"])
def test_one_other_value_makes_another_digest(column):
    table = scored(SOURCE, "test", 2.0)
    changed = table.copy()
    changed.loc[7, column] = {"video": "other", "frame": 99, "label": 1 - table.loc[7, "label"]}.get(
        column, table.loc[7, "score"] + 1e-6
    )
    assert scores_digest(changed) != scores_digest(table)


def test_scores_that_change_places_make_another_digest():
    table = scored(SOURCE, "test", 2.0)
    swapped = table.assign(score=np.roll(table["score"].to_numpy(), 5))
    assert scores_digest(swapped) != scores_digest(table)


def test_only_the_rows_that_are_evaluated_count():
    table = table_of()
    without_val = table[table["split"] != "val"]
    assert Origin.of(without_val) == Origin.of(table)
    assert set(Origin.of(table).scores) == {SOURCE, UNSEEN}


def test_difference_names_weights_scores_or_what_is_not_known():
    scores = {"A": "a", "B": "b"}
    assert Origin(ONE, scores).difference(Origin(ONE, {"A": "a"})) == ""
    assert "weights 22222222" in Origin(ONE, scores).difference(Origin(TWO, scores))
    assert Origin("", scores).difference(Origin("", {"B": "x"})) == "it is of other scores of B"
    assert Origin(ONE, {}).difference(Origin(ONE, {})) == ""
    assert "does not say" in Origin(ONE, scores).difference(Origin())
    assert "does not say" in Origin("", scores).difference(Origin("", {"C": "c"}))
    for damaged in (None, [], {"checkpoint": 3, "scores": "x"}, {"scores": {"A": 1}}):
        assert Origin.from_dict(damaged) == Origin()


def second_detector_in_the_same_folder(folder):
    """What attack 07 did: another detector is predicted and evaluated, fairness is not run again."""
    other = table_of(unseen=2.0, seed=5).assign(checkpoint=TWO)
    PREDICTIONS.write(other, folder / "predictions.parquet")
    write_json(folder / "metrics.json", evaluate(other, source=SOURCE, n_boot=50))


def test_report_leaves_out_what_is_of_another_detector_and_says_so(tmp_path):
    run = audited_run(tmp_path, fainter=("dark",))
    write_json(run / "detector.json", {"detector": "UCF", "sha256": "ab" * 32, "size_px": 77})
    (run / "metrics.jsonl").write_text('{"epoch": 1, "train/overall": 1.0}\n')
    second_detector_in_the_same_folder(run)
    found = read_run(run)
    assert found.fairness is None
    assert found.card == {}
    assert found.records == []
    assert set(found.left_out) == {"fairness.json", "thresholds.json", "detector.json", "metrics.jsonl"}
    text = Reader(write_report(run).read_text(encoding="utf-8"))
    assert "abababab" in text["answer"]
    assert "run unmasked fairness again" in text["fairness"]
    assert "dark" not in text["fairness"]
    card = (run / "model_card.md").read_text(encoding="utf-8")
    assert "abababab…, not of 22222222…" in card
    assert "77 × 77" not in card


def test_report_shows_what_is_of_the_same_scores(tmp_path):
    assert read_run(audited_run(tmp_path)).left_out == {}


def test_metrics_of_other_scores_than_the_predictions_beside_them_are_refused(tmp_path):
    run = audited_run(tmp_path)
    PREDICTIONS.write(table_of(seed=9), run / "predictions.parquet")
    with pytest.raises(InputError, match=r"not computed from .* as it is now \(it is of other scores of"):
        read_run(run)


def test_a_card_without_a_hash_describes_nothing(tmp_path):
    run = audited_run(tmp_path)
    write_json(run / "detector.json", {"detector": "Somebody's", "size_px": 77})
    found = read_run(run)
    assert found.card == {}
    assert "does not say of which weights" in found.left_out["detector.json"]


def test_an_audit_at_another_threshold_has_a_heading_of_its_own(tmp_path):
    run = audited_run(tmp_path)
    same = fairness_part(read_run(run), Gallery())
    assert "Another threshold" not in same
    fairness = json.loads((run / "fairness.json").read_text())
    for audit in fairness["datasets"].values():
        audit["settings"]["threshold"] = 0.77
    write_json(run / "fairness.json", fairness)
    other = fairness_part(read_run(run), Gallery())
    assert "At the threshold 0.77" in other
    assert "Another threshold" in other


def test_thresholds_of_other_weights_are_not_applied(tmp_path):
    run = audited_run(tmp_path)
    other = table_of().assign(checkpoint=TWO)
    assert read_fitted(run / "thresholds.json", table_of()).threshold.rule == "eer"
    with pytest.raises(InputError, match="of the weights abababababab…, the scores of 222222222222…"):
        read_fitted(run / "thresholds.json", other)
    PREDICTIONS.write(other, tmp_path / "other.parquet")
    for verb in (["evaluate"], ["fairness", "by=[skin_tone_group]"]):
        arguments = [f"predictions={tmp_path / 'other.parquet'}", f"thresholds={run / 'thresholds.json'}"]
        answer = CliRunner().invoke(app, [*verb, *arguments, f"out={tmp_path / 'out'}"])
        assert answer.exit_code == 2
        assert "their own thresholds" in " ".join(answer.output.split())
    assert not (tmp_path / "out").exists()


def test_remedies_of_other_scores_are_left_out_of_an_audit(tmp_path):
    table = table_of()
    PREDICTIONS.write(table, tmp_path / "predictions.parquet")
    made_from = Origin.of(table.assign(checkpoint=TWO)).to_dict()
    write_json(tmp_path / "mitigation.json", {"methods": [], "made_from": made_from})
    arguments = [f"predictions={tmp_path / 'predictions.parquet'}", "by=[skin_tone_group]", "n_boot=100"]
    answer = CliRunner().invoke(app, ["fairness", *arguments, "n_perm=100", f"out={tmp_path}"])
    assert answer.exit_code == 0, answer.output
    assert "left out:" in answer.output
    assert "it is of the weights 22222222…" in " ".join(answer.output.split())
    assert "mitigation" not in json.loads((tmp_path / "fairness.json").read_text())


def test_compare_takes_no_threshold_or_configuration_of_other_weights(tmp_path):
    from unmasked.evaluation.compare import read_run as read_side

    run = audited_run(tmp_path, fainter=("dark",))
    assert read_side(run).threshold is not None
    PREDICTIONS.write(table_of().assign(checkpoint=TWO), run / "predictions.parquet")
    write_json(run / "detector.json", {"sha256": "ab" * 32, "architecture": "ucf"})
    (run / "config.yaml").write_text("seed: 1\n")
    found = read_side(run)
    assert (found.threshold, found.card, found.config) == (None, {}, {})


@pytest.mark.parametrize("column", ["video", "compression"])
def test_text_that_looks_like_a_number_is_one_scheme(column):
    table = pd.DataFrame({"video": ["1", "2"], "label": [0, 1], "score": [0.1, 0.9]})
    table[column] = ["1", "2"]
    assert scores_digest(table) == scores_digest(table.astype({column: "string"}))
