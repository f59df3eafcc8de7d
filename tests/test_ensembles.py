"""Ensembles: equal to reference numbers, fitted on nothing that is evaluated, aligned row by row."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from unmasked.datasets.errors import InputError
from unmasked.evaluation import machine
from unmasked.evaluation.alignment import align, as_videos
from unmasked.evaluation.ensembles import (
    Ensemble,
    Rule,
    constant_members,
    equal_members,
    fit,
    logit,
    out_of_fold,
)
from unmasked.evaluation.metrics import auc, log_loss


@pytest.fixture
def numbers(shared):
    """160 rows of four detectors, what each ensemble makes of them, and which rows are validation."""
    found = json.loads((shared / "reference" / "ensembles_reference.json").read_text(encoding="utf-8"))
    return {key: np.array(value) if isinstance(value, list) else value for key, value in found.items()}


def drawn(seed: int, members: int = 3, rows: int = 60):
    rng = np.random.default_rng(seed)
    label = np.arange(rows) % 2
    strength = rng.uniform(0, 2, members)
    return label, 1 / (1 + np.exp(-((label[:, None] - 0.5) * strength + rng.normal(0, 1, (rows, members)))))


def test_mean_and_votes_are_those_of_the_reference(numbers):
    scores = numbers["scores"]
    np.testing.assert_allclose(Ensemble(Rule(), 4).score(scores), numbers["mean"], atol=1e-12)
    vote = Ensemble(Rule("majority"), 4, thresholds=tuple(numbers["thresholds"]))
    np.testing.assert_allclose(vote.score(scores), numbers["vote_share"], atol=1e-12)
    assert np.flatnonzero(vote.is_tie(scores)).tolist() == numbers["ties"].tolist()
    assert not (vote.score(scores)[numbers["ties"]] > 0.5).any()  # a tie is not called fake


def test_weights_are_those_of_the_reference(numbers):
    val, scores = numbers["is_val"], numbers["scores"]
    for kind, tolerance in (("inverse", 1e-6), ("simplex", 1e-4)):
        made = fit(Rule("weighted", weights=kind), scores[val], numbers["labels"][val])
        stored = numbers["weights_inverse_log_loss" if kind == "inverse" else "weights_simplex"]
        np.testing.assert_allclose(made.weights, stored, atol=tolerance)
        np.testing.assert_allclose(made.score(scores), numbers[f"weighted_{kind}"], atol=tolerance)


def test_stacking_is_that_of_the_reference(numbers):
    val, stored = numbers["is_val"], numbers["stack_logistic_on_logits"]
    made = fit(Rule("stacking"), numbers["scores"][val], numbers["labels"][val])
    np.testing.assert_allclose(made.layers[0].weight[:, 0], stored["coef"], atol=1e-6)
    np.testing.assert_allclose(made.layers[0].bias, [stored["intercept"]], atol=1e-6)
    np.testing.assert_allclose(made.score(numbers["scores"]), stored["score"], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), members=st.integers(2, 5))
def test_simplex_weights_meet_the_conditions_of_the_one_optimum(seed, members):
    """Of a mixture's likelihood: mean(q_j / q @ w) is 1 where w_j > 0, and at most 1 elsewhere."""
    label, scores = drawn(seed, members)
    weights = fit(Rule("weighted"), scores, label).weights
    q = np.where(label[:, None] == 1, scores, 1 - scores)
    slope = (q / (q @ weights)[:, None]).mean(axis=0)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    assert slope.max() <= 1 + 1e-4
    assert np.abs(slope[weights > 1e-3] - 1).max() <= 1e-4


def test_simplex_is_no_worse_than_any_member_or_the_mean_where_it_is_fitted():
    for seed in range(5):
        label, scores = drawn(seed)
        own = log_loss(label, fit(Rule("weighted"), scores, label).score(scores))
        others = [log_loss(label, column) for column in scores.T] + [log_loss(label, scores.mean(axis=1))]
        assert own <= min(others) + 1e-9


def test_mean_of_logits_is_the_geometric_one():
    scores = np.array([[0.2, 0.8], [0.9, 0.9], [0.0, 1.0]])
    found = Ensemble(Rule(scale="logit"), 2).score(scores)
    np.testing.assert_allclose(found, [0.5, 0.9, 0.5], atol=1e-9)


def test_stacking_equals_scikit_learn_and_a_stored_one_scores_alike():
    label, scores = drawn(3)
    model = LogisticRegression(C=1.0).fit(logit(scores), label)
    made = fit(Rule("stacking"), scores, label)
    np.testing.assert_allclose(made.score(scores), model.predict_proba(logit(scores))[:, 1], atol=1e-6)
    for rule in (Rule("stacking"), Rule("stacking", meta="mlp"), Rule("weighted"), Rule("mean", "logit")):
        one = fit(rule, scores, label) if rule.method != "mean" else Ensemble(rule, 3)
        again = Ensemble.from_dict(json.loads(json.dumps(one.to_dict())))
        np.testing.assert_array_equal(again.score(scores), one.score(scores))


def test_an_mlp_finds_what_no_weighting_does():
    """Fake where exactly one of two detectors says so."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.05, 0.95, (400, 2))
    label = ((scores[:, 0] > 0.5) != (scores[:, 1] > 0.5)).astype(int)
    linear = auc(label, fit(Rule("stacking"), scores, label).score(scores))
    curved = auc(label, fit(Rule("stacking", meta="mlp"), scores, label).score(scores))
    assert linear < 0.65
    assert curved > 0.9


@pytest.mark.parametrize("meta", ["logistic", "mlp", "svc"])
def test_random_labels_read_half_out_of_fold_by_identity(meta):
    """Labels are drawn for each person, and members know the person: in sample that looks like skill."""
    people, images, members = 60, 4, 6
    cluster = np.repeat(np.arange(people), images)
    by_person, in_sample = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        label = np.repeat(rng.permutation(np.arange(people) % 2), images)
        face = np.repeat(rng.normal(0, 1.5, (people, members)), images, axis=0)
        scores = 1 / (1 + np.exp(-(face + rng.normal(0, 0.1, face.shape))))
        rule = Rule("stacking", meta=meta, seed=seed)
        in_sample.append(auc(label, fit(rule, scores, label, cluster=cluster).score(scores)))
        by_person.append(auc(label, out_of_fold(rule, scores, label, cluster)))
    # The standard error over 6 sets of 60 people is about 0.03.
    assert np.mean(by_person) == pytest.approx(0.5, abs=0.1)
    assert np.mean(in_sample) > (0.6 if meta == "logistic" else 0.85)


@pytest.mark.parametrize("width", [5, 130])
def test_stacking_on_features_equals_scikit_learn_and_a_stored_one_scores_alike(width):
    """With and without principal components; calibrated on distances out of fold."""
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(50), 4)
    label = np.repeat(np.arange(50) % 2, 4)
    x = rng.normal(0, 1, (200, width)) + 0.7 * label[:, None] * (np.arange(width) < 3)
    made = fit(Rule("stacking", meta="svc"), x, label, cluster=cluster, members=2)
    folds = machine.people_folds(label, cluster, 0)
    reduce = [PCA(100, random_state=0)] if width > 100 else []
    wanted = make_pipeline(StandardScaler(), *reduce, SVC(C=10, class_weight="balanced"))
    distance = cross_val_predict(wanted, x, label, cv=folds, method="decision_function")[:, None]
    own = wanted.fit(x, label).decision_function(x)[:, None]
    probability = LogisticRegression(C=1e6).fit(distance, label).predict_proba(own)[:, 1]
    np.testing.assert_allclose(made.score(x), probability, atol=1e-9)
    stored = machine.Machine.from_arrays(made.machine.arrays())
    again = Ensemble.from_dict(json.loads(json.dumps(made.to_dict())), stored)
    np.testing.assert_array_equal(again.score(x), made.score(x))
    other = machine.Machine.from_arrays(made.machine.arrays() | {"numbers": np.ones(4)})
    for broken in (None, other):
        with pytest.raises(InputError, match="no support vector machine, or another one"):
            Ensemble.from_dict(made.to_dict(), broken)
    with pytest.raises(ValueError, match="do not fit together"):
        machine.Machine.from_arrays(made.machine.arrays() | {"shift": np.ones(3)})
    with pytest.raises(InputError, match=f"this ensemble has {width} features"):
        made.score(x[:, 1:])


def test_a_person_is_never_scored_by_what_was_fitted_on_them():
    """Each row is scored as if its person did not exist."""
    label, scores = drawn(5, rows=40)
    cluster = np.arange(40) // 4
    first = out_of_fold(Rule("stacking"), scores, label, cluster)
    flipped = label.copy()
    flipped[cluster == 0] = 1 - flipped[cluster == 0]
    second = out_of_fold(Rule("stacking"), scores, flipped, cluster)
    np.testing.assert_allclose(second[cluster == 0], first[cluster == 0])
    assert not np.allclose(second, first)


@pytest.mark.parametrize(
    ("label", "words"), [([1, 1], "hold only fakes"), ([0, 0], "hold only reals"), ([], "hold no row")]
)
def test_one_class_fits_nothing(label, words):
    with pytest.raises(InputError, match=words):
        fit(Rule("stacking"), np.full((len(label), 2), 0.4), label)


def test_one_person_of_a_class_makes_no_folds():
    label, scores = drawn(0, rows=8)
    with pytest.raises(InputError, match=r"cannot be parted .* there are 1 with real crops and 4 with fake"):
        out_of_fold(Rule("stacking"), scores, label, np.where(label == 0, 0, np.arange(8)))


def test_constant_and_equal_members_are_named():
    scores = np.array([[0.5, 0.1, 0.1], [0.5, 0.9, 0.9]])
    assert constant_members(scores, "ABC") == ["A"]
    assert equal_members(scores, "ABC") == ["B and C"]
    made = fit(Rule("stacking"), scores, [0, 1])
    assert made.score(scores)[1] > 0.5 > made.score(scores)[0]


@pytest.mark.parametrize(
    "damage",
    [
        {"method": "magic"},
        {"weights": [0.5]},
        {"weights": None},
        {"weights": [0.5, float("nan"), 0.5]},
        {"weights": "abc"},
        {"layers": 3},
        {"n_members": "many"},
        {"thresholds": None},
    ],
)
def test_a_damaged_file_is_refused(damage):
    label, scores = drawn(0)
    whole = fit(Rule("weighted"), scores, label).to_dict()
    assert Ensemble.from_dict(whole).members == 3
    with pytest.raises(InputError, match="stored ensemble is not whole"):
        Ensemble.from_dict(whole | damage)


def test_a_meta_model_of_other_sizes_is_refused():
    label, scores = drawn(0)
    whole = fit(Rule("stacking", meta="mlp"), scores, label).to_dict()
    for broken in ({"layers": whole["layers"][1:]}, {"layers": []}, {"n_members": 2}):
        with pytest.raises(InputError, match="stored ensemble is not whole"):
            Ensemble.from_dict(whole | broken)
    with pytest.raises(InputError, match="this ensemble has 3 members"):
        Ensemble.from_dict(whole).score(scores[:, :2])


# rows that are put side by side


def table(**columns) -> pd.DataFrame:
    rows = {"dataset": "A", "video": ["a", "b", "c"], "label": [0, 1, 1], "score": [0.1, 0.7, 0.8]}
    return pd.DataFrame(rows | columns)


def test_rows_are_matched_in_whatever_order_they_come():
    one, other = table(frame=[0, 1, 2]), table(frame=[0, 1, 2], score=[0.2, 0.3, 0.4])
    found = align({"one": one, "other": other.iloc[::-1]})
    np.testing.assert_array_equal(found.scores, [[0.1, 0.2], [0.7, 0.3], [0.8, 0.4]])
    assert found.rows["video"].tolist() == ["a", "b", "c"]
    assert "score" not in found.rows


def test_perturbed_rows_meet_their_own_kind_only():
    both = pd.concat([table(), table(perturbation="jpeg", severity=2, score=[0.3, 0.3, 0.3])])
    found = align({"one": both, "other": both.iloc[::-1].fillna({"perturbation": "none"})})
    assert found.rows["perturbation"].isna().sum() == 3 == (found.rows["perturbation"] == "jpeg").sum()
    np.testing.assert_array_equal(found.scores[:, 0], found.scores[:, 1])


def test_a_missing_row_is_an_error_or_dropped_and_counted():
    with pytest.raises(
        InputError, match=r"other lacks 1 of the 3 rows .*, A/b first; .*missing=drop takes the 2"
    ):
        align({"one": table(), "other": table().drop(index=1)})
    found = align({"one": table(), "other": table().drop(index=1)}, missing="drop")
    assert found.rows["video"].tolist() == ["a", "c"]
    assert found.dropped == {"other": 1}
    np.testing.assert_array_equal(found.scores, [[0.1, 0.1], [0.8, 0.8]])


def test_tables_that_share_no_row_say_what_each_scored():
    with pytest.raises(
        InputError, match=r"share no row: one scored 3 videos of A \(as a\), other scored 3 videos of B"
    ):
        align({"one": table(), "other": table(dataset="B")}, missing="drop")


@pytest.mark.parametrize(
    ("column", "values"), [("compression", ("c23", "c40")), ("frame", (0, 1)), ("perturbation", ("", "jpeg"))]
)
def test_equal_videos_without_a_shared_row_say_what_is_unlike(column, values):
    """ "share no row: one scored 3 videos of A, other scored 3 videos of A" said nothing."""
    one, other = (table(**{column: value}) for value in values)
    told = [str(value) or "none" for value in values]
    with pytest.raises(InputError, match=rf"unlike {column} \(one: {told[0]}; other: {told[1]}\)"):
        align({"one": one, "other": other})


@pytest.mark.parametrize(
    ("fact", "values"),
    [("label", [0, 0, 1]), ("split", ["val", "test", "test"]), ("identity", ["x", "y", "z"])],
)
def test_members_that_contradict_each_other_are_refused(fact, values):
    one = table(split="test", identity=["x", "y", "q"])
    with pytest.raises(InputError, match=rf"contradict each other: A/.* has the {fact}"):
        align({"one": one, "other": one.assign(**{fact: values})})


def test_what_one_member_does_not_know_another_may():
    one = table(identity=["x", None, None])
    found = align({"one": one, "other": table(identity=[None, "y", None], gender="female")})
    assert found.rows["identity"].fillna("-").tolist() == ["x", "y", "-"]
    assert set(found.rows["gender"]) == {"female"}


def test_frames_of_one_table_do_not_meet_the_videos_of_another():
    frames = pd.concat([table(frame=0), table(frame=1)])
    with pytest.raises(InputError, match=r"several rows of A/a .*other has no column frame.*level=video"):
        align({"one": frames, "other": table()})
    found = align({"one": as_videos(frames), "other": as_videos(table())})
    assert len(found.rows) == 3


def test_a_compression_that_one_table_lacks_is_not_used_and_said():
    found = align({"one": table(compression="c23"), "other": table()})
    assert found.notes == ["rows are matched without compression, which other does not state"]
    two = pd.concat([table(compression="c23"), table(compression="c40")])
    with pytest.raises(InputError, match="other has no column compression"):
        align({"one": two, "other": table()})


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), lost=st.lists(st.integers(0, 11), max_size=6))
def test_every_row_is_kept_or_counted(seed, lost):
    rng = np.random.default_rng(seed)
    whole = pd.DataFrame(
        {"dataset": "A", "video": [f"v{n // 3}" for n in range(12)], "frame": np.arange(12) % 3}
    ).assign(label=0, score=rng.uniform(size=12))
    part = whole.drop(index=set(lost)).sample(frac=1, random_state=seed)
    if part.empty:
        return
    found = align({"whole": whole, "part": part}, missing="drop")
    assert len(found.rows) + found.dropped.get("part", 0) == 12
    np.testing.assert_array_equal(found.scores[:, 0], found.scores[:, 1])
