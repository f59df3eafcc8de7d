"""`unmasked ensemble` from tables to a table, a card and paired differences; what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.datasets.tables import read_frame, write_frame
from unmasked.evaluation.collection import collect
from unmasked.evaluation.compare import compare, read_run
from unmasked.evaluation.evaluate import evaluate
from unmasked.preprocessing.faces import FACES

RUNNER = CliRunner()
MEMBERS = {"A": 1.6, "B": 1.2, "C": 0.3}  # how far fakes are from reals


def scores(strength: float, seed: int, **columns) -> pd.DataFrame:
    """Frames of 24 people of FF, half of them val, and of 12 of CDF; a real and a fake video each."""
    rng = np.random.default_rng(seed)
    rows = [
        (dataset, f"{kind}/{person}", frame, label, f"{dataset}{person}", split)
        for dataset, people in (("FF", 24), ("CDF", 12))
        for person in range(people)
        for label, kind in enumerate(("real", "fake"))
        for frame in range(2)
        for split in ["val" if dataset == "FF" and person < 12 else "test"]
    ]
    found = pd.DataFrame(rows, columns=["dataset", "video", "frame", "label", "identity", "split"])
    logit = strength * (found["label"] - 0.5) + rng.normal(0, 1, len(found))
    return found.assign(score=1 / (1 + np.exp(-logit)), **columns)


@pytest.fixture
def tables(tmp_path):
    for seed, (name, strength) in enumerate(MEMBERS.items()):
        write_frame(scores(strength, seed), tmp_path / f"{name}.csv")
    return tmp_path


def run(folder, *arguments, out="out", members="ABC"):
    listed = ",".join(str(folder / f"{name}.csv") for name in members)
    given = [f"predictions=[{listed}]", *arguments]
    found = RUNNER.invoke(app, ["ensemble", *given, f"out={folder / out}", "n_boot=50"])
    return found.exit_code, " ".join(found.output.split())


def refused(folder, *arguments, **how) -> str:
    code, output = run(folder, *arguments, **how)
    assert code == 2, output
    assert not (folder / "out").exists()
    return output


def test_predictions_a_card_and_differences_come_out(tables):
    code, output = run(tables, "method=weighted")
    assert code == 0, output
    assert "scores of FF, val split are out of fold, by identity" in output
    assert "against plain mean" in output
    results = json.loads((tables / "out" / "ensemble.json").read_text())
    weights = dict(zip(results["members"], results["weights"], strict=True))
    assert weights["A"] == max(weights.values())
    assert sum(weights.values()) == pytest.approx(1)
    (scored,), _ = collect(tables / "out")
    assert scored.card["architecture"] == "ensemble"
    assert scored.predictions["checkpoint"].unique().tolist() == [scored.card["sha256"]]
    assert len(scored.predictions) == len(scores(1, 0))
    for name in ("A", "B", "C"):
        assert f"against | {name}" not in output
    found = RUNNER.invoke(app, ["evaluate", f"predictions={tables / 'out'}", "source=FF", "n_boot=50"])
    assert found.exit_code == 0, found.output
    # thresholds that `evaluate` fits on the out-of-fold scores are stored with the ensemble
    assert "threshold" in json.loads((tables / "out" / "detector.json").read_text())


def test_the_difference_to_a_member_is_that_of_compare(tables):
    run(tables)
    found = json.loads((tables / "out" / "ensemble.json").read_text())["datasets"]["CDF"]["against"]
    wanted = compare(read_run(tables / "out"), read_run(tables / "B.csv"), n_boot=50)["datasets"]["CDF"]
    own = next(one for one in found if one["name"] == "B")["metrics"]["auc"]
    for key in ("a", "b", "difference"):
        assert own[key] == pytest.approx(wanted["metrics"]["auc"][key])
    alone = evaluate(read_run(tables / "out").scored.predictions, n_boot=50)["datasets"]["CDF"]["video"]
    assert own["a_ci"] == alone["auc_ci"]


def test_test_rows_are_scored_by_what_val_rows_taught_and_nothing_else(tables):
    """Labels of test rows change nothing about the scores."""
    run(tables, "method=stacking", out="first")
    for name in MEMBERS:
        table = read_frame(tables / f"{name}.csv")
        is_test = table["split"] == "test"
        table["label"] = table["label"].where(~is_test, 1 - table["label"])
        table["video"] = table["video"].str.replace("fake/", "x/").str.replace("real/", "y/")
        write_frame(table, tables / f"{name}.csv")
    run(tables, "method=stacking", out="second")
    first, second = (read_frame(tables / out / "predictions.parquet")["score"] for out in ("first", "second"))
    np.testing.assert_array_equal(first, second)


def test_a_stored_ensemble_gives_the_same_scores_to_other_rows(tables):
    run(tables, "method=stacking", "meta=mlp")
    first = read_frame(tables / "out" / "predictions.parquet")
    for name in MEMBERS:
        table = read_frame(tables / f"{name}.csv")
        write_frame(table[table["dataset"] == "CDF"].drop(columns="split"), tables / f"{name}.csv")
    code, output = run(tables, f"stored={tables / 'out' / 'detector.json'}", out="again")
    assert code == 0, output
    again = read_frame(tables / "again" / "predictions.parquet")
    np.testing.assert_allclose(again["score"], first.loc[first["dataset"] == "CDF", "score"])
    code, output = run(tables, f"stored={tables / 'out' / 'detector.json'}", out="third", members="AB")
    assert code == 2
    assert "has 3 members (A, B, C), and 2 were given" in output


def test_votes_are_counted_at_each_members_own_threshold(tables):
    code, output = run(tables, "method=majority", "thresholds=[0.5,0.4]", members="AB")
    assert code == 0, output
    assert "rows are ties" in output
    one, other = (read_frame(tables / f"{name}.csv")["score"] for name in "AB")
    found = read_frame(tables / "out" / "predictions.parquet")["score"]
    np.testing.assert_array_equal(found, ((one > 0.5).astype(int) + (other > 0.4)) / 2)
    card = json.loads((tables / "out" / "detector.json").read_text())
    assert card["abstention"]["high"] == 0.5 == card["threshold"]["value"]


def test_a_seller_s_table_without_a_dataset_is_of_the_videos_that_the_others_scored(tables):
    """It was refused with "score the same crops with each", which they were; `compare` took it."""
    table = read_frame(tables / "A.csv").query("dataset == 'CDF'")
    write_frame(table, tables / "A.csv")
    write_frame(table.drop(columns="dataset").assign(score=table["score"] / 2), tables / "B.csv")
    code, output = run(tables, "method=mean", members="AB")
    assert code == 0, output
    made = read_frame(tables / "out" / "predictions.parquet")
    assert set(made["dataset"]) == {"CDF"}
    assert made["score"].tolist() == pytest.approx((table["score"] * 0.75).tolist())


def test_thresholds_beside_the_members_are_theirs(tables):
    paths = []
    for name in "AB":
        folder = tables / f"run_{name}"
        write_frame(read_frame(tables / f"{name}.csv"), folder / "predictions.parquet")
        evaluated = RUNNER.invoke(app, ["evaluate", f"predictions={folder}", "source=FF", "n_boot=0"])
        assert evaluated.exit_code == 0, evaluated.output
        paths.append(folder)
    given = f"predictions=[{paths[0]},{paths[1]}]"
    found = RUNNER.invoke(
        app, ["ensemble", given, "method=majority", "level=video", f"out={tables / 'v'}", "n_boot=0"]
    )
    assert found.exit_code == 0, found.output
    stored = [json.loads((path / "thresholds.json").read_text())["threshold"]["value"] for path in paths]
    assert json.loads((tables / "v" / "ensemble.json").read_text())["thresholds"] == stored
    assert len(read_frame(tables / "v" / "predictions.parquet")) == 72
    # Scores that were made again are not those that the threshold was fitted on.
    write_frame(scores(1.0, 9), paths[0] / "predictions.parquet")
    found = RUNNER.invoke(app, ["ensemble", given, "method=majority", f"out={tables / 'w'}", "n_boot=0"])
    assert found.exit_code == 2
    assert "none is stored with run_A" in " ".join(found.output.split())


def test_scores_to_fit_on_may_lie_in_tables_of_their_own(tables):
    for name in MEMBERS:
        table = read_frame(tables / f"{name}.csv")
        write_frame(table[table["split"] == "val"], tables / f"{name}_val.csv")
        write_frame(table[table["split"] == "test"], tables / f"{name}.csv")
    listed = ",".join(str(tables / f"{name}_val.csv") for name in MEMBERS)
    code, output = run(tables, "method=weighted", f"fit_on=[{listed}]")
    assert code == 0, output
    assert "fit_on has 2 members and predictions 3" in refused_after(
        tables, f"fit_on=[{','.join(listed.split(',')[:2])}]"
    )
    test = ",".join(str(tables / f"{name}.csv") for name in MEMBERS)
    assert "fit_on holds 96 rows of the test split" in refused_after(tables, f"fit_on=[{test}]")
    for name in MEMBERS:
        for end in ("", "_val"):
            table = read_frame(tables / f"{name}{end}.csv").drop(columns="split")
            write_frame(table, tables / f"{name}{end}.csv")
    assert "videos are among those to fit on and among" in refused_after(tables, f"fit_on=[{test}]")


def refused_after(folder, *arguments) -> str:
    code, output = run(folder, "method=weighted", *arguments, out="other")
    assert code == 2, output
    return output


def test_folds_without_people_are_by_video_and_said(tables):
    for name in MEMBERS:
        write_frame(read_frame(tables / f"{name}.csv").drop(columns="identity"), tables / f"{name}.csv")
    code, output = run(tables, "method=stacking")
    assert code == 0, output
    assert "the identity is not known of every row of FF, val split" in output


def test_a_table_of_a_stranger_is_a_member(tables):
    """Semicolons, decimal commas, percent, other names of columns, and the rows in another order."""
    table = read_frame(tables / "B.csv").sample(frac=1, random_state=0)
    named = table.rename(columns={"video": "filename", "score": "probability"})
    named["probability"] = (100 * named["probability"]).round(3)
    named["label"] = named["label"].map({0: "real", 1: "fake"})
    named.to_csv(tables / "B.csv", sep=";", decimal=",", index=False)
    code, output = run(tables, members="AB")
    assert code == 0, output
    expected = (read_frame(tables / "A.csv")["score"] + scores(MEMBERS["B"], 1)["score"]) / 2
    np.testing.assert_allclose(
        read_frame(tables / "out" / "predictions.parquet")["score"], expected, atol=1e-4
    )


def test_each_bad_input_is_answered_in_a_sentence_and_nothing_is_written(tables):
    assert "two members or more, and A was given" in refused(tables, members="A")
    assert "given more than once" in refused(tables, members="AAB")
    assert "none is stored with A, B, C" in refused(tables, "method=majority")
    assert "2 thresholds were given for 3 members" in refused(tables, "method=majority", "thresholds=[0.5,1]")
    assert "outside the scores' range" in refused(tables, "method=majority", "thresholds=[0.5,7,0.5]")
    assert "method" in refused(tables, "method=magic")
    assert "'UADFV'" in refused(tables, "method=weighted", "source=UADFV")
    assert "is of no ensemble" in refused(tables, f"stored={card(tables)}")
    write_frame(scores(1, 4).iloc[3:], tables / "D.csv")
    assert "D lacks 3 of the" in refused(tables, members="AD")
    elsewhere = scores(1, 4).replace({"dataset": {"FF": "FF2", "CDF": "CDF2"}})
    write_frame(elsewhere, tables / "D.csv")
    assert "share no row" in refused(tables, members="AD")
    moved = scores(1, 4)
    moved["label"] = 1 - moved["label"]
    moved["video"] = moved["video"].str.split("/").str[1] + moved["label"].astype(str)
    first = moved.assign(label=1 - moved["label"])
    write_frame(moved, tables / "D.csv")
    write_frame(first, tables / "E.csv")
    assert "contradict each other" in refused(tables, "score_of=fake", members="DE")
    only_fakes = [
        table[(table["split"] != "val") | (table["label"] == 1)] for table in (scores(1, 1), scores(2, 2))
    ]
    for name, table in zip("DE", only_fakes, strict=True):
        write_frame(table, tables / f"{name}.csv")
    assert "hold only fakes" in refused(tables, "method=stacking", members="DE")
    for name in "DE":
        write_frame(scores(1, ord(name)).drop(columns="split"), tables / f"{name}.csv")
    assert "no row has the split val" in refused(tables, "method=stacking", members="DE")


def card(folder):
    path = folder / "card.json"
    path.write_text(json.dumps({"architecture": "ucf", "sha256": "a"}))
    return path


def test_a_constant_member_is_named_and_changes_no_ranking(tables):
    write_frame(scores(1, 4).assign(score=0.3), tables / "D.csv")
    code, output = run(tables, members="AD")
    assert code == 0, output
    assert "D gives every row the same score" in output
    found = json.loads((tables / "out" / "ensemble.json").read_text())["datasets"]["CDF"]["against"]
    assert found[0]["metrics"]["auc"]["difference"] == 0


def test_members_of_one_class_are_scored_and_said_to_have_no_auc(tables):
    for name in "AB":
        found = read_frame(tables / f"{name}.csv")
        write_frame(found[found["label"] == 1], tables / f"{name}.csv")
    code, output = run(tables, members="AB")
    assert code == 0, output
    assert "dataset CDF, 0 real and 12 fake videos evaluated: one class alone has no AUC" in output
    assert "not enough data" not in output
    assert len(read_frame(tables / "out/predictions.parquet")) == 72


def test_the_ensemble_knows_what_its_members_were_trained_on(tables):
    for name, trained in (("A", "FF"), ("B", "FF + DFDC")):
        write_frame(read_frame(tables / f"{name}.csv").assign(trained_on=trained), tables / f"{name}.csv")
    run(tables, members="AB")
    made = json.loads((tables / "out" / "detector.json").read_text())
    assert made["training_data"]["datasets"] == ["DFDC", "FF"]
    run(tables, members="ABC", out="unknown")  # nobody says what C was trained on
    assert "datasets" not in json.loads((tables / "unknown" / "detector.json").read_text())["training_data"]


def test_stacking_on_features_goes_from_two_detectors_to_a_stored_file_and_back(tmp_path):
    """Features of each member's crops are fitted on val rows, and kept as numbers beside the card."""
    FACES.write(
        FACES.validate(write_faces(tmp_path, {"train": 4, "val": 6, "test": 4}, frames=2, size_px=32)),
        tmp_path / "faces.parquet",
    )
    faces = f"faces={tmp_path / 'faces.parquet'}"
    for name, arguments in {
        "F": [
            "detector=handcrafted",
            "model.blocks=[colour]",
            "model.classifier=forest",
            "model.trees=9",
            "model.size_px=32",
        ],
        "S": ["detector=spectrum"],
    }.items():
        for verb in (
            ["train", *arguments, f"out={tmp_path / name}"],
            ["predict", f"checkpoint={tmp_path / name}"],
        ):
            to = [f"out={tmp_path / name / 'predictions.parquet'}"] if verb[0] == "predict" else []
            found = RUNNER.invoke(app, [*verb, *to, faces])
            assert found.exit_code == 0, found.output

    def ensemble(*given, out="out"):
        members = f"predictions=[{tmp_path / 'F'},{tmp_path / 'S'}]"
        found = RUNNER.invoke(app, ["ensemble", members, *given, f"out={tmp_path / out}", "n_boot=0"])
        return found.exit_code, " ".join(found.output.split())

    code, output = ensemble("method=stacking", "meta=svc", faces)
    assert code == 0, output
    assert "out of fold, by identity" in output
    card = json.loads((tmp_path / "out" / "detector.json").read_text())
    assert card["detector"] == "ensemble, stacking (principal components and an SVC on features)"
    stored = f"stored={tmp_path / 'out' / 'detector.json'}"
    assert ensemble(stored, faces, out="again")[0] == 0
    first, second = (
        read_frame(tmp_path / name / "predictions.parquet").set_index(["video", "frame"])
        for name in ("out", "again")
    )
    is_test = first["split"] == "test"
    np.testing.assert_array_equal(first["score"][is_test], second["score"][is_test])
    assert not np.allclose(first["score"][~is_test], second["score"][~is_test])
    fewer = read_frame(tmp_path / "faces.parquet").iloc[:-1]
    write_frame(fewer, tmp_path / "fewer.parquet")
    (tmp_path / "out" / "machine.npz").write_bytes(b"PK")
    for given, sentence in (
        (["method=stacking", "meta=svc"], "give faces=, the table of crops"),
        (["method=stacking", "meta=svc", faces, "level=video"], "and level=row"),
        (
            ["method=stacking", "meta=svc", f"faces={tmp_path / 'fewer.parquet'}"],
            "scored rows have no crop in",
        ),
        ([stored, faces], "machine.npz cannot be used"),
    ):
        code, output = ensemble(*given, out="refused")
        assert code == 2
        assert sentence in output, output
        assert not (tmp_path / "refused").exists()
