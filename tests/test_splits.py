"""Splits by person: nobody on two sides, the same every time, frozen in a file."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layout_trees import DFD_FAKES, deepfakedetection, fakeavceleb, touch, uadfv

from unmasked.datasets.audit.overlaps import overlaps
from unmasked.datasets.errors import InputError
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.scan import scan
from unmasked.datasets.splits import SplitPlan, assign, frozen_split, read

PLAN = SplitPlan((0.6, 0.2, 0.2), seed=3)


def manifest_of(rows):
    """A manifest of (video, label, identity, source_video, target_video) tuples."""
    columns = ["video", "label", "identity", "source_video", "target_video"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.assign(dataset="d", path=table["video"] + ".mp4", kind="video", split="test")
    return MANIFEST.validate(table.assign(method=np.where(table["label"] == 1, "swap", "real")))


def swaps(people, pairs):
    """A real video a person, and a swap for each pair (whose video, whose face)."""
    reals = [(f"real/p{a}", 0, f"p{a}", None, None) for a in range(people)]
    fakes = [(f"fake/p{a}_p{b}", 1, f"p{a}", f"p{b}", f"p{a}") for a, b in sorted(set(pairs)) if a != b]
    return manifest_of(reals + fakes)


pairs_of_people = st.integers(4, 25).flatmap(
    lambda people: st.tuples(
        st.just(people),
        st.lists(st.tuples(st.integers(0, people - 1), st.integers(0, people - 1)), max_size=60),
    )
)


@settings(max_examples=150, deadline=None)
@given(pairs_of_people, st.integers(0, 5))
def test_no_person_is_on_two_sides_whoever_was_swapped_with_whom(drawn, seed):
    manifest = swaps(*drawn)
    splits = assign(manifest, SplitPlan((0.6, 0.2, 0.2), seed))
    seen: dict[str, set[str]] = {}
    for split, identity, source in zip(splits, manifest["identity"], manifest["source_video"], strict=True):
        if pd.notna(split):
            for person in {identity, source} - {np.nan, None}:
                if pd.notna(person):
                    seen.setdefault(person, set()).add(split)
    assert all(len(sides) == 1 for sides in seen.values()), seen


@settings(max_examples=60, deadline=None)
@given(pairs_of_people, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(drawn, random):
    manifest = swaps(*drawn)
    order = list(range(len(manifest)))
    random.shuffle(order)
    shuffled = manifest.iloc[order].reset_index(drop=True)
    expected = dict(zip(manifest["video"], assign(manifest, PLAN).fillna("out"), strict=True))
    assert dict(zip(shuffled["video"], assign(shuffled, PLAN).fillna("out"), strict=True)) == expected


@settings(max_examples=60, deadline=None)
@given(pairs_of_people)
def test_reals_are_never_left_out_and_every_split_gets_some(drawn):
    manifest = swaps(*drawn)
    splits = assign(manifest, PLAN)
    reals = splits[manifest["label"] == 0]
    assert reals.notna().all()
    assert set(splits.dropna()) <= {"train", "val", "test"}


def test_the_audit_finds_nothing_across_such_a_split():
    rng = np.random.default_rng(0)
    manifest = swaps(28, [(a, b) for a, b in rng.integers(0, 28, (300, 2)).tolist()])
    splits = assign(manifest, PLAN)
    assert splits.isna().any()  # all were swapped around: some fakes are between two sides
    kept = manifest.assign(split=splits).dropna(subset=["split"])
    assert len(overlaps(kept).shared) == 0
    naive = manifest.assign(split=rng.choice(["train", "test"], len(manifest)))
    assert len(overlaps(naive).shared) > 0


def test_small_groups_stay_whole_and_shares_are_those_asked_for():
    manifest = swaps(600, [(a, a + 1) for a in range(0, 600, 2)] + [(a + 1, a) for a in range(0, 600, 2)])
    splits = assign(manifest, PLAN)
    assert splits.notna().all()
    assert splits.value_counts(normalize=True).to_dict() == pytest.approx(
        {"train": 0.6, "val": 0.2, "test": 0.2}, abs=0.01
    )


def test_reals_and_fakes_have_the_same_shares_where_nobody_is_named():
    rows = [(f"real/{i}", 0, None, None, None) for i in range(900)]
    rows += [(f"fake/{i}", 1, None, None, None) for i in range(100)]
    manifest = manifest_of(rows)
    by_label = assign(manifest, PLAN).groupby(manifest["label"]).value_counts(normalize=True)
    for label in (0, 1):
        assert by_label[label].to_dict() == pytest.approx({"train": 0.6, "val": 0.2, "test": 0.2}, abs=0.01)


def test_a_fake_stays_with_its_video_where_nobody_is_named():
    rows = [(f"real/{i:04d}", 0, None, None, None) for i in range(49)]
    rows += [(f"fake/{i:04d}_fake", 1, None, None, f"{i:04d}") for i in range(49)]
    splits = assign(manifest_of(rows), PLAN).tolist()
    assert splits[:49] == splits[49:]
    assert set(splits) == {"train", "val", "test"}


def test_equally_named_files_of_two_folders_are_not_tied():
    rows = [
        (f"{folder}/{i}", int(folder == "fake"), None, None, None)
        for folder in ("real", "fake")
        for i in range(90)
    ]
    splits = assign(manifest_of(rows), PLAN).tolist()
    assert splits[:90] != splits[90:]


def test_the_seed_decides_and_the_same_seed_gives_the_same():
    manifest = swaps(40, [])
    one, again, other = (assign(manifest, SplitPlan(seed=seed)) for seed in (1, 1, 2))
    assert one.equals(again)
    assert not one.equals(other)


def test_three_people_are_enough_for_three_splits_and_a_share_of_none_gets_none():
    assert set(assign(swaps(3, []), PLAN)) == {"train", "val", "test"}
    assert set(assign(swaps(30, []), SplitPlan((0.5, 0.0, 0.5)))) == {"train", "test"}


@pytest.mark.parametrize("shares", [(0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.2, 0.2)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(InputError, match="give the shares of train, val and test"):
        SplitPlan(shares)


# Frozen


def test_a_frozen_split_is_given_again_and_the_file_is_hashed(tmp_path):
    manifest, path, notes = swaps(20, [(0, 1), (2, 3)]), tmp_path / "m.splits.json", []
    first = frozen_split(manifest, "d", PLAN, path, notes)
    text = path.read_text()
    assert frozen_split(manifest, "d", PLAN, path, notes).equals(first)
    assert frozen_split(manifest, "d", None, path, notes).equals(first)
    assert path.read_text() == text
    kept = json.loads(text)["datasets"]["d"]
    assert (kept["seed"], kept["fractions"], len(kept["sha256"])) == (3, [0.6, 0.2, 0.2], 64)


def test_fakes_left_out_stay_left_out(tmp_path):
    manifest = swaps(10, [(a, b) for a in range(10) for b in range(10)])
    first = frozen_split(manifest, "d", PLAN, tmp_path / "s.json", [])
    assert first.isna().any()
    assert frozen_split(manifest, "d", None, tmp_path / "s.json", []).equals(first)


def test_another_plan_than_the_frozen_one_is_told(tmp_path):
    frozen_split(swaps(20, []), "d", PLAN, tmp_path / "s.json", [])
    with pytest.raises(InputError, match=r"with seed 3 and shares \[0.6, 0.2, 0.2\].*move the file away"):
        frozen_split(swaps(20, []), "d", SplitPlan((0.6, 0.2, 0.2), seed=4), tmp_path / "s.json", [])


def test_a_dataset_that_grew_is_told_and_one_that_shrank_keeps_its_split(tmp_path):
    first = frozen_split(swaps(20, []), "d", PLAN, tmp_path / "s.json", [])
    with pytest.raises(InputError, match=r"d has changed since it was split: 1 videos.*\(real/p20\)"):
        frozen_split(swaps(21, []), "d", PLAN, tmp_path / "s.json", [])
    notes = []
    fewer = swaps(20, []).iloc[:19]
    assert frozen_split(fewer, "d", PLAN, tmp_path / "s.json", notes).equals(first.iloc[:19])
    assert any("not there: 1 (real/p19)" in note for note in notes)


def test_a_file_changed_by_hand_is_refused(tmp_path):
    path = tmp_path / "s.json"
    frozen_split(swaps(20, []), "d", PLAN, path, [])
    content = json.loads(path.read_text())
    videos = content["datasets"]["d"]["videos"]
    videos["train"].append(videos["test"].pop())
    touch(path, json.dumps(content))
    with pytest.raises(InputError, match="does not match its own hash"):
        read(path)
    touch(path, "[1]")
    with pytest.raises(InputError, match="is not a file of frozen splits"):
        read(path)


def test_several_datasets_share_a_file(tmp_path):
    frozen_split(swaps(20, []), "a", PLAN, tmp_path / "s.json", [])
    frozen_split(swaps(30, []), "b", SplitPlan(), tmp_path / "s.json", [])
    assert set(read(tmp_path / "s.json")) == {"a", "b"}


# From the scan


def test_a_dataset_without_a_split_is_test_until_it_is_split(tmp_path):
    root = uadfv(tmp_path / "uadfv", count=20)
    assert set(scan(root).manifest["split"]) == {"test"}
    result = scan(root, plan=PLAN, splits_file=tmp_path / "m.splits.json")
    assert result.manifest.groupby("split").size().to_dict() == {"train": 24, "val": 8, "test": 8}
    assert any(
        "split by source video, seed 3: train 24, val 8, test 8, frozen in" in line
        for line in result.messages
    )
    later = scan(root, splits_file=tmp_path / "m.splits.json")
    assert later.manifest.equals(result.manifest)


def test_an_official_split_is_kept_and_said(tmp_path):
    root = tmp_path / "mine"
    for name in ("train/real/a.jpg", "train/fake/b.jpg", "test/real/c.jpg", "test/fake/d.jpg"):
        touch(root / name)
    result = scan(root, plan=PLAN, splits_file=tmp_path / "s.json")
    assert result.manifest["split"].value_counts().to_dict() == {"train": 2, "test": 2}
    assert "has a split of its own, which is kept" in result.messages
    assert not (tmp_path / "s.json").exists()


def test_a_split_by_actor_leaves_out_swaps_between_the_sides(tmp_path):
    names = [
        f"{a:02d}_{b:02d}__kitchen_still__480LQD1C" for a in range(1, 13) for b in range(1, 13) if a != b
    ]
    root = deepfakedetection(tmp_path, fakes=(*DFD_FAKES, *names))
    result = scan(root, plan=PLAN)
    manifest = result.manifest
    people = manifest[["split", "identity"]].drop_duplicates()
    assert people["identity"].is_unique
    fakes = manifest[manifest["label"] == 1]
    side = dict(zip(people["identity"], people["split"], strict=True))
    assert (fakes["source_video"].map(side) == fakes["split"]).all()
    assert any("two people from different splits, left out" in line for line in result.messages)


def test_celebrities_are_split_with_those_whose_face_they_got(tmp_path):
    result = scan(fakeavceleb(tmp_path), plan=SplitPlan((0.5, 0.0, 0.5)))
    sides = result.manifest.groupby("identity")["split"].nunique()
    assert (sides == 1).all()
