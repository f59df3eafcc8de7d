"""Importance of blocks: games of known answer, and models that look at known blocks only."""

from __future__ import annotations

import json
import re
from itertools import permutations
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from sklearn.ensemble import RandomForestClassifier
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.analysis.explain.explanation import read_explanation
from unmasked.analysis.explain.importance import block_importance, shapley
from unmasked.analysis.reports.gallery import Gallery
from unmasked.analysis.reports.run.results_part import explanations_part
from unmasked.app.cli import app
from unmasked.baselines.handcrafted import GREY, features
from unmasked.datasets.errors import InputError
from unmasked.evaluation.wording import value_text
from unmasked.preprocessing.faces import FACES

SIX = {name: slice(2 * place, 2 * place + 2) for place, name in enumerate("abcdef")}


def by_orders(values):
    """Oracle: the mean over all orders in which the players may come."""
    players = len(values).bit_length() - 1
    found, orders = np.zeros(players), list(permutations(range(players)))
    for order in orders:
        present = 0
        for player in order:
            found[player] += values[present | 1 << player] - values[present]
            present |= 1 << player
    return found / len(orders)


def test_a_game_of_six_with_one_pair_that_works_together():
    """Additive but for 0.3 that blocks 0 and 1 bring together: each gets half of it."""
    alone = np.array([0.1, 0.2, 0.0, 0.05, 0.4, -0.1])
    values = np.array([sum(alone[b] for b in range(6) if s >> b & 1) + 0.3 * (s & 3 == 3) for s in range(64)])
    np.testing.assert_allclose(shapley(values), alone + np.array([0.15, 0.15, 0, 0, 0, 0]), atol=1e-12)


def test_the_game_of_gloves():
    """One left glove, two right ones, a pair is worth 1: two thirds and a sixth each (Shapley 1959)."""
    values = np.array([float(s & 1 and s & 6 != 0) for s in range(8)])
    np.testing.assert_allclose(shapley(values), [2 / 3, 1 / 6, 1 / 6])


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, 16, elements=st.floats(-1, 1)))
def test_values_are_the_mean_over_all_orders_and_add_up(values):
    np.testing.assert_allclose(shapley(values), by_orders(values), atol=1e-12)
    assert shapley(values).sum() == pytest.approx(values[-1] - values[0], abs=1e-12)


def made(rng, people=60, each=4):
    """Features of which only blocks a and b depend on the label; people are all real or all fake."""
    person = np.repeat(np.arange(people), each)
    label = person % 2
    x = rng.normal(size=(len(label), 12))
    x[:, 0] += 1.5 * label
    x[:, 2] += 1.5 * label
    return x, label, person


def test_blocks_that_a_model_does_not_look_at_are_worth_nothing_and_equals_are_equal():
    x, label, person = made(np.random.default_rng(0))
    found = block_importance(
        lambda v: expit(v[:, 0] + v[:, 2]), x, label, person, SIX, repeats=10, n_boot=200
    )
    table = found.table.set_index("block")
    unused = table.loc[list("cdef"), ["drop", "shapley", "drop_low", "drop_high", "shapley_low"]]
    np.testing.assert_allclose(unused, 0, atol=1e-12)
    assert table["shapley"].sum() == pytest.approx(found.auc - found.chance)
    assert abs(table.loc["a", "shapley"] - table.loc["b", "shapley"]) < 0.08  # alike but for noise
    assert (table.loc[["a", "b"], ["drop_low", "shapley_low"]] > 0).all(axis=None)
    assert (table["shapley_low"] <= table["shapley"]).all()
    assert (table["shapley"] <= table["shapley_high"]).all()


def test_a_block_alone_has_the_whole_auc_above_chance():
    x, label, person = made(np.random.default_rng(1))
    found = block_importance(lambda v: expit(v[:, 0]), x, label, person, SIX, repeats=50, n_boot=20)
    assert found.chance == pytest.approx(0.5, abs=0.1)
    assert found.table["shapley"][0] == pytest.approx(found.auc - found.chance)


def test_intervals_are_of_people_and_not_of_crops():
    """Forty copies of each crop tell nothing new."""
    made_once = made(np.random.default_rng(2), people=24, each=1)
    x, label, person = (np.repeat(values, 40, axis=0) for values in made_once)
    of_people, of_crops = (
        block_importance(lambda v: expit(v[:, 0]), x, label, cluster, SIX, repeats=2, n_boot=300)
        for cluster in (person, np.arange(len(x)))
    )
    widths = [one.table["shapley_high"][0] - one.table["shapley_low"][0] for one in (of_people, of_crops)]
    assert widths[0] > 1.2 * widths[1]
    assert (of_people.clusters, of_crops.clusters) == (24, 960)


def test_one_class_or_too_many_blocks_are_refused():
    x, label, person = made(np.random.default_rng(3), people=4)
    with pytest.raises(InputError, match="wants reals and fakes"):
        block_importance(lambda v: expit(v[:, 0]), x, np.ones_like(label), person, SIX)
    nine = {str(place): slice(place, place + 1) for place in range(9)}
    with pytest.raises(InputError, match="9 blocks"):
        block_importance(lambda v: expit(v[:, 0]), x, label, person, nine)


def test_the_block_that_a_planted_trace_is_in_is_named():
    """Faded pictures of the same grey differ in colour alone, swapped neighbours in all else."""
    rng = np.random.default_rng(0)
    blocks = {"lbp": slice(0, 10), "colour": slice(10, 106), "gradient": slice(106, 127)}
    label = np.arange(120) % 2
    coarse = rng.integers(60, 196, (120, 6, 6, 3)).astype(np.float32)
    images = np.stack([cv2.resize(one, (48, 48)) for one in coarse]) + rng.normal(0, 10, (120, 48, 48, 3))
    faded, swapped = images.copy(), images.copy()
    faded[1::2] = (images[1::2] @ GREY)[..., None]
    swapped[1::2] = images[1::2].reshape(60, 48, 24, 2, 3)[:, :, :, ::-1].reshape(60, 48, 48, 3)
    named = {}
    for trace, changed in (("faded", faded), ("swapped", swapped)):
        x = np.hstack([*features(changed.round().astype(np.uint8), list(blocks)).values()])
        forest = RandomForestClassifier(40, random_state=0).fit(x[:60], label[:60])
        found = block_importance(
            lambda v, forest=forest: forest.predict_proba(v)[:, 1],
            *(x[60:], label[60:], np.arange(60), blocks),
            repeats=3,
            n_boot=50,
        )
        named[trace] = found.table.set_index("block")["shapley"]
        assert found.auc > 0.9
    assert named["faded"].idxmax() == "colour"
    assert abs(named["faded"].drop("colour")).max() < 0.1
    assert abs(named["swapped"]["colour"]) < 0.02
    assert named["swapped"].drop("colour").sum() > 0.4


def found_in(run):
    return json.loads((run / "explain" / "explain.json").read_text())["importance"]


def test_a_forest_s_blocks_are_told_by_explain(tmp_path):
    table = FACES.validate(write_faces(tmp_path, {"train": 4, "val": 2, "test": 4}, frames=1))
    FACES.write(table, tmp_path / "faces.parquet")
    run, faces = tmp_path / "run", f"faces={tmp_path}/faces.parquet"
    small = ["model.classifier=forest", "model.trees=10", "model.size_px=64", "model.blocks=[lbp,colour]"]
    for arguments in (
        ["train", "detector=handcrafted", faces, f"out={run}", *small],
        ["explain", f"checkpoint={run}", faces, "repeats=2", "perplexity=2", "methods=[]"],
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{done.output}\n{done.exception}"
    assert "lbp" in done.output
    assert "drop" in done.output
    found = found_in(run)
    assert [row["block"] for row in found["blocks"]] == ["lbp", "colour"]
    total = sum(row["shapley"] for row in found["blocks"])
    assert total == pytest.approx(found["auc"] - found["chance"])
    page = explanations_part(
        SimpleNamespace(left_out={}, datasets=(), explanation=read_explanation(run)), Gallery()
    )
    page = re.sub("<[^>]+>", "", page)
    for row in found["blocks"]:
        assert value_text(row["shapley"], [row["shapley_low"], row["shapley_high"]], places=3) in page
    assert f"less the {found['chance']:.3f} of none" in page
    # Of crops too few for a map it said "there are 0 classes".
    few = table[table["split"] == "test"].iloc[:7]
    FACES.write(few, tmp_path / "few.parquet")
    arguments = ["explain", f"checkpoint={run}", f"faces={tmp_path}/few.parquet", "repeats=2", "methods=[]"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"{done.output}\n{done.exception}"
    assert "without t-SNE: a map needs at least 8 crops, and there are 7" in done.output
    assert "without importance" not in done.output
    assert f"above the {found_in(run)['chance']:.3f} of no block" in done.output.replace("\n", " ")


def test_a_forest_of_random_labels_reads_chance_by_identity_and_not_by_image():
    """Labels are random for each person: scores of people that were seen would read 1."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    from unmasked.baselines.handcrafted import Config, _classifier, _folds
    from unmasked.evaluation.metrics import auc

    config = Config.model_validate({"model": {"classifier": "forest", "trees": 15}})
    by_person, by_image = [], []
    for draw in range(6):
        rng = np.random.default_rng(draw)
        person = np.repeat(np.arange(100), 8)
        label = rng.permutation(np.arange(100) % 2)[person]
        x = rng.normal(size=(100, 20))[person] + 0.2 * rng.normal(size=(800, 20))
        for found, folds in (
            (by_person, _folds(label, person, seed=draw)),
            (by_image, list(StratifiedKFold(5, shuffle=True, random_state=draw).split(x, label))),
        ):
            model = _classifier(config, 600, 20)
            assert isinstance(model[-1], RandomForestClassifier)
            score = cross_val_predict(model, x, label, cv=folds, method="predict_proba")[:, 1]
            found.append(auc(label, score))
    assert abs(np.mean(by_person) - 0.5) < 0.06, by_person
    assert np.mean(by_image) > 0.95
    print(f"by identity {np.mean(by_person):.3f}, by image {np.mean(by_image):.3f}")
