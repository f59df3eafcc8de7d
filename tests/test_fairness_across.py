"""What goes across audits, by function and by command: against plain counts, then what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test
from test_fairness_audit import corpus
from typer.testing import CliRunner

from unmasked.app.cli import app
from unmasked.datasets.errors import InputError
from unmasked.evaluation.thresholds import Threshold
from unmasked.fairness.across.perturbed import perturbations
from unmasked.fairness.across.run import Beside, compare_across, source_of
from unmasked.fairness.run import audit_datasets, audit_predictions, fairness_record
from unmasked.fairness.selection import select
from unmasked.fairness.settings import Settings
from unmasked.fairness.statistics.shuffling import compare_changes

FAST = {"n_boot": 100, "n_perm": 100}
QUICK = ["n_boot=100", "n_perm=100"]
BY = ["gender", "skin_tone_group"]


def damaged(table, by, group=None):
    """The table's scores after a perturbation that raises those of one group, or of all."""
    hit = np.full(len(table), True) if group is None else (table["skin_tone_group"] == group).to_numpy()
    return np.where(hit, np.minimum(table["score"] + by, 1), table["score"])


@pytest.fixture(scope="module")
def perturbed():
    clean = corpus(3).assign(face=0)
    parts = [clean.assign(perturbation=None, severity=pd.array([None] * len(clean), dtype="Int64"))]
    for severity in (1, 3):
        score = damaged(clean, 0.2 * severity, "dark")
        parts.append(clean.assign(perturbation="jpeg", severity=severity, score=score))
    # Damaged crops in any order, and not of every frame.
    parts[2] = parts[2][parts[2]["frame"] < 6].iloc[::-1]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def clean_audit(perturbed):
    return audit_predictions(perturbed, BY, **FAST)


def test_rates_under_damage_are_plain_counts_over_the_crops_scored_twice(perturbed, clean_audit):
    by_group, _ = perturbations(perturbed, clean_audit, dataset="corpus")
    assert {(row["perturbation"], row["severity"]) for row in by_group} == {("jpeg", 1), ("jpeg", 3)}
    for row in by_group:
        kept = (perturbed[row["attribute"]] == row["group"]) & (
            perturbed["frame"] < (10 if row["severity"] == 1 else 6)
        )
        here = perturbed[kept & (perturbed["label"] == (row["metric"] == "tpr"))]
        means = (
            here.assign(severity=here["severity"].fillna(0)).groupby(["severity", "video"])["score"].mean()
        )
        rate = {severity: float((part > 0.5).mean()) for severity, part in means.groupby(level=0)}
        assert row["value"] == pytest.approx(rate[row["severity"]])
        assert row["change"] == pytest.approx(rate[row["severity"]] - rate[0])
        assert row["ci"][0] - 1e-9 <= row["value"] <= row["ci"][1] + 1e-9
        assert row["change_ci"][0] <= row["change"] <= row["change_ci"][1]
        assert row["videos"] == here["video"].nunique()


def test_damage_to_one_group_is_seen_in_its_rates_and_in_the_gap(perturbed, clean_audit):
    by_group, gaps = perturbations(perturbed, clean_audit, dataset="corpus")
    worst = [
        row
        for row in by_group
        if (row["severity"], row["attribute"], row["metric"]) == (3, "skin_tone_group", "fpr")
    ]
    for row in worst:
        assert (row["change_ci"][0] > 0) == (row["group"] == "dark")
        assert (row["change"] == 0) == (row["group"] != "dark")
    grown = {(row["severity"], row["attribute"], row["metric"]): row for row in gaps}
    row = grown[(3, "skin_tone_group", "fpr")]
    assert row["change_ci"][0] > 0
    assert row["change"] == pytest.approx(row["gap"] - row["gap_clean"])


def test_what_happens_to_everybody_is_no_groups_finding(perturbed, clean_audit):
    _, gaps = perturbations(perturbed, clean_audit, dataset="corpus")
    found = {(row["severity"], row["attribute"], row["metric"]): row for row in gaps}
    row = found[(3, "skin_tone_group", "fpr")]
    assert row["worst_group"] == "dark"
    assert row["p_adjusted"] < 0.05
    assert 0 < row["difference_ci"][0] < row["difference"] <= row["difference_ci"][1]
    assert row["chance"] < row["difference"]
    clean = perturbed[perturbed["perturbation"].isna()]
    noisy = clean.assign(perturbation="noise", severity=1, score=damaged(clean, 0.6))
    table = pd.concat([clean, noisy], ignore_index=True)
    by_group, gaps = perturbations(table, clean_audit, dataset="corpus")
    assert all(row["change"] > 0.5 for row in by_group if row["metric"] == "fpr")
    assert all(row["p_adjusted"] > 0.05 for row in gaps)


def test_changes_are_as_significant_as_scipys_permutation_test_has_them():
    rng = np.random.default_rng(0)
    change = np.array([1, 1, 0, 1, 1, 0, 0, -1, 0, 0, 1, 0])
    codes = np.repeat([0, 1], 6)
    settings = Settings(n_perm=20_000)
    test = compare_changes(np.ones(12, dtype=int), change, codes, ["a", "b"], settings, rng)
    exact = permutation_test(
        (change[:6], change[6:]),
        lambda a, b, axis: np.abs(a.mean(axis) - b.mean(axis)),
        vectorized=True,
        n_resamples=np.inf,
        alternative="greater",
    )
    assert test.p_value == pytest.approx(exact.pvalue, abs=0.012)
    assert 2 * (test.share[0] - test.share[1]) == pytest.approx(change[:6].mean() - change[6:].mean())


def test_damage_to_crops_that_nobody_scored_clean_is_left_out(perturbed, clean_audit, caplog):
    odd = perturbed.copy()
    odd.loc[odd["severity"] == 1, "frame"] += 1000
    by_group, _ = perturbations(odd, clean_audit, dataset="corpus")
    assert {row["severity"] for row in by_group} == {3}
    assert (
        "jpeg, severity 1 on corpus is left out: none of the perturbed crops was scored clean" in caplog.text
    )


def test_videos_without_frame_numbers_are_compared_by_their_means():
    clean = corpus(4).drop(columns="frame")
    table = pd.concat(
        [clean.assign(perturbation="none"), clean.assign(perturbation="blur", score=damaged(clean, 0.3))],
        ignore_index=True,
    )
    audited = audit_predictions(table, ["gender"], **FAST)
    by_group, _ = perturbations(table, audited, dataset="corpus")
    assert {row["severity"] for row in by_group} == {1}
    for row in by_group:
        own = audited.by_group.loc[("gender", row["group"]), row["metric"]]
        assert row["value"] - row["change"] == pytest.approx(own)
        assert row["change"] >= 0


@pytest.fixture(scope="module")
def two_sets():
    return pd.concat(
        [corpus(0).assign(dataset="source"), corpus(1, tpr_dark=0.4).assign(dataset="target")],
        ignore_index=True,
    )


def test_changes_go_from_the_source_to_every_other_dataset(two_sets):
    audits, _ = audit_datasets(two_sets, BY, **FAST)
    found = fairness_record(
        audits, {}, compare_across(two_sets, audits, Beside(source="source", noises=(0.1,)))
    )
    assert {(row["kind"], row["source"], row["target"]) for row in found["changes"]} == {
        ("dataset", "source", "target")
    }
    planted = [
        row for row in found["changes"] if (row["attribute"], row["metric"]) == ("skin_tone_group", "tpr")
    ]
    assert planted[0]["change_ci"][0] > 0
    assert planted[0]["change"] == pytest.approx(planted[0]["gap_target"] - planted[0]["gap_source"])
    assert [point["rule"] for point in found["datasets"]["target"]["operating_points"]] == ["fixed"]
    assert {row["noise"] for row in found["annotation"]["target"]["sensitivity"]} == {0.1}
    with pytest.raises(
        InputError, match=r"source 'FF' was not audited; the audited datasets are source, target"
    ):
        compare_across(two_sets, audits, Beside(source="FF"))


def test_the_source_is_the_dataset_that_the_thresholds_were_fitted_on():
    fitted = Threshold(0.4, "eer", fitted_on="Celeb-DF-v2, val split")
    assert source_of([fitted], ["Celeb-DF", "Celeb-DF-v2"]) == "Celeb-DF-v2"
    assert source_of([fitted], ["DFDC"]) == ""
    assert source_of([Threshold(0.5, "given")], ["DFDC"]) == ""


def test_a_second_source_is_compared_video_by_video(two_sets):
    audits, _ = audit_datasets(two_sets, BY, **FAST)
    videos = two_sets.drop_duplicates(["dataset", "video"])[["dataset", "video", "gender"]]
    flipped = videos["video"].isin([f"v{place}" for place in range(18)]) & (videos["dataset"] == "source")
    other = videos["gender"].map({"female": "male", "male": "female"})
    second = videos.assign(gender=videos["gender"].mask(flipped, other))
    found = compare_across(two_sets, audits, Beside(second=second, noises=()))["annotation"]
    (entry,) = found["source"]["agreement"]  # of skin tone it says nothing
    assert (entry["attribute"], entry["videos"]) == ("gender", 180)
    assert entry["share"] == pytest.approx(162 / 180)
    measured = found["source"]["measured_sensitivity"]
    assert {row["attribute"] for row in measured} == {"gender"}
    assert found["target"]["agreement"][0]["kappa"] == 1
    with pytest.raises(InputError, match="second source of annotations knows none of the audited videos"):
        compare_across(two_sets, audits, Beside(second=second.assign(dataset="elsewhere")))


def test_one_of_several_detectors_can_be_chosen(two_sets):
    table = pd.concat(
        [two_sets.assign(detector="A"), two_sets.assign(detector="B", score=1 - two_sets["score"])],
        ignore_index=True,
    )
    chosen = select(table, ["gender"], dataset="source", detector="B")
    own = select(two_sets, ["gender"], dataset="source")
    np.testing.assert_allclose(chosen.rows.score, 1 - own.rows.score)
    with pytest.raises(InputError, match=r"several detectors \(A, B\); audit one of them: detector='A'"):
        select(table, ["gender"], dataset="source")
    with pytest.raises(InputError, match=r"detector 'C' is not in the predictions; they have A, B"):
        select(table, ["gender"], dataset="source", detector="C")


@pytest.fixture
def without_page(monkeypatch):
    """The page is tested elsewhere, and drawing it takes longer than all the rest."""
    monkeypatch.setattr("unmasked.analysis.reports.fairness.page.page", lambda found, gallery: "")


def command(*arguments):
    return CliRunner().invoke(app, ["fairness", *map(str, arguments), *QUICK])


def test_a_table_made_elsewhere_is_audited_by_one_command(tmp_path):
    made = corpus(0, tpr_dark=0.4)
    videos = made.groupby("video", as_index=False).agg(
        dataset=("dataset", "first"),
        label=("label", "first"),
        score=("score", "mean"),
        gender=("gender", "first"),
    )
    videos.to_csv(tmp_path / "other.csv", index=False)
    result = command(f"predictions={tmp_path / 'other.csv'}", "by=[gender]", f"out={tmp_path / 'out'}")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "fairness.json").read_text())
    assert {"changes", "perturbations", "annotation"} <= set(found)
    assert found["changes"] == []
    audited = found["datasets"]["corpus"]
    assert [point["value"] for point in audited["operating_points"]] == [0.5]
    assert audited["strata"] == []
    for name in ("by_group", "gaps_by_stratum", "gap_changes", "groups_by_perturbation"):
        assert (tmp_path / "out" / f"{name}.csv").is_file()


def test_groups_may_stand_in_a_file_of_their_own(tmp_path, without_page):
    made = corpus(0).assign(video=lambda rows: "Celeb-real/id" + rows["video"].str[1:] + "_0000")
    bare = made.drop(columns=["gender", "age", "skin_tone_group", "identity"])
    bare.to_csv(tmp_path / "p.csv", index=False)
    frames = made.assign(path=made["video"] + "/" + made["frame"].astype(str) + ".png")[["path", "gender"]]
    wrong = (made["frame"] == 0) & made["video"].isin(sorted(made["video"].unique())[:9])
    frames["gender"] = frames["gender"].mask(
        wrong, frames["gender"].map({"female": "male", "male": "female"})
    )
    frames.to_csv(tmp_path / "a.csv", index=False)
    videos = made.drop_duplicates("video")[["video", "gender"]]
    videos.to_csv(tmp_path / "b.csv", index=False)
    result = command(
        f"predictions={tmp_path / 'p.csv'}",
        "by=[gender]",
        f"annotations={tmp_path / 'a.csv'}",
        "codebook=plain",
        f"second_annotations={tmp_path / 'b.csv'}",
        "second_codebook=plain",
        f"out={tmp_path}",
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "fairness.json").read_text())["annotation"]["corpus"]
    assert [(row["attribute"], row["videos"], row["conflicting"]) for row in found["conflicts"]] == [
        ("gender", 180, 9)
    ]
    assert found["agreement"][0]["share"] == 1  # of the majority


def test_stored_thresholds_are_all_shown_and_one_of_them_decides(tmp_path, without_page, two_sets):
    two_sets.to_parquet(tmp_path / "p.parquet")
    stored = {
        rule: Threshold(value, rule, fitted_on="source, val split").to_dict()
        for rule, value in (("eer", 0.6), ("fpr:0.10", 0.7))
    }
    thresholds = tmp_path / "thresholds.json"
    thresholds.write_text(
        json.dumps({"threshold": stored["eer"], "thresholds": stored}).replace("NaN", "null")
    )
    given = [
        f"predictions={tmp_path / 'p.parquet'}",
        "by=[gender]",
        f"out={tmp_path}",
        f"thresholds={thresholds}",
    ]
    result = command(*given, "rule=fpr:0.10", f"against={tmp_path / 'p.parquet'}", "against_threshold=0.6")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "fairness.json").read_text())
    target = found["datasets"]["target"]
    assert [(point["rule"], point["value"]) for point in target["operating_points"]] == [
        ("fpr:0.10", 0.7),
        ("eer", 0.6),
        ("fixed", 0.5),
    ]
    settings = target["settings"]
    assert (settings["threshold"], settings["rule"], settings["fitted_on"]) == (
        0.7,
        "fpr:0.10",
        "source, val split",
    )
    kinds = {(row["kind"], row["source"], row["target"]) for row in found["changes"]}
    assert ("dataset", "source", "target") in kinds
    assert ("detector", "p on target", "this detector on target") in kinds
    refused = command(*given, "rule=youden")
    assert "has none of the rule 'youden'; it has eer, fpr:0.10" in " ".join(refused.output.split())


def test_face_sizes_come_from_the_faces_table(tmp_path, without_page):
    made = corpus(0, people=72).assign(face=0)
    size = 50.0 + made["video"].str[1:].astype(int) // 120 * 50
    faces = made[["dataset", "video", "label", "frame", "face"]].assign(
        size_px=size, blur=9.0, status="ok", kind="video", method="real", split="test"
    )
    faces.sample(frac=1, random_state=0).to_csv(tmp_path / "faces.csv", index=False)
    made.to_parquet(tmp_path / "p.parquet")
    given = ["by=[gender]", f"out={tmp_path}", "min_clusters=5", "min_samples=1"]
    result = command(f"predictions={tmp_path / 'p.parquet'}", f"faces={tmp_path / 'faces.csv'}", *given)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "fairness.json").read_text())["datasets"]["corpus"]["strata"]
    assert {entry["by"] for entry in found} == {"face_size"}
    levels = found[0]["levels"]
    assert [level["level"] for level in levels] == [
        "small (up to 50 px)",
        "medium (50 to 100 px)",
        "large (above 100 px)",
    ]
    assert all(level["gap"] is not None for level in levels)
    made.drop(columns="frame").to_parquet(tmp_path / "p.parquet")
    result = command(
        f"predictions={tmp_path / 'p.parquet'}", f"faces={tmp_path / 'faces.csv'}", *given, "overwrite=true"
    )
    assert result.exit_code == 0, result.output
    assert "the predictions have no frame and face" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{", "is not valid JSON"),
        ('{"methods": 3}', "methods: Input should be a valid list"),
        ("{}", "has no methods"),
    ],
)
def test_a_broken_mitigation_file_is_named(tmp_path, written, told):
    corpus(0).to_parquet(tmp_path / "p.parquet")
    (tmp_path / "mitigation.json").write_text(written)
    refused = command(f"predictions={tmp_path / 'p.parquet'}", "by=[gender]", f"out={tmp_path}")
    assert refused.exit_code != 0
    assert told in " ".join(refused.output.split())
    assert "mitigation.json" in refused.output.replace("\n", "")


def test_options_that_need_each_other_say_so(tmp_path, without_page):
    corpus(0).to_parquet(tmp_path / "p.parquet")
    given = [f"predictions={tmp_path / 'p.parquet'}", "by=[gender]", f"out={tmp_path}"]
    for options, told in (
        (["rule=eer"], "give them: thresholds=FILE"),
        (["level=frame", f"against={tmp_path / 'p.parquet'}"], "two detectors are compared on videos"),
        (["against=XYZ"], "detector 'XYZ' is not in the predictions; they have no detectors"),
        (["noise=[2]"], "noise 2.0 is not a share of mistakes"),
        (["source=FF"], "source 'FF' was not audited"),
        (["by=[label]"], "attribute 'label' is what is predicted, not who is shown"),
    ):
        refused = command(*given, *options)
        assert refused.exit_code != 0
        assert told in " ".join(refused.output.split()), refused.output
