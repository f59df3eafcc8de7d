"""Which rows an epoch shows: laws that hold for any table."""

from __future__ import annotations

import logging
from collections import Counter
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmasked.datasets.errors import InputError
from unmasked.datasets.samplers import BalancedSampler, Batches, Draw, InOrder, NaturalSampler, PairSampler

SEEDS = st.integers(0, 2**31 - 1)
SMALL = st.integers(1, 9)


def table(reals: int, fakes: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset": "D",
            "video": [f"real{i}" for i in range(reals)] + [f"fake{i}" for i in range(fakes)],
            "label": [0] * reals + [1] * fakes,
            "target_video": [None] * reals + [f"real{i % reals}" for i in range(fakes)],
        }
    )


def grouped(sizes: dict[tuple[int, str], int]) -> pd.DataFrame:
    rows = [(label, gender) for (label, gender), size in sizes.items() for _ in range(size)]
    return pd.DataFrame(rows, columns=["label", "gender"]).sample(frac=1, random_state=0, ignore_index=True)


# Natural


@settings(deadline=None)
@given(rows=st.integers(1, 60), seed=SEEDS, epoch=st.integers(0, 5), replicas=st.integers(1, 4))
def test_natural_epoch_is_a_permutation_shared_out_in_equal_parts(rows, seed, epoch, replicas):
    shares = []
    for rank in range(replicas):
        sampler = NaturalSampler(rows, seed=seed, rank=rank, replicas=replicas)
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    drawn = Counter(row for share in shares for row in share)
    assert set(drawn) == set(range(rows))
    assert sum(drawn.values()) - rows < replicas
    if replicas == 1:
        assert max(drawn.values()) == 1


def test_natural_order_changes_with_the_epoch_and_with_the_seed_only():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = NaturalSampler(50, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(*which)) for which in product((1, 2), (0, 1))}) == 4


def test_rows_in_order_are_the_same_in_every_epoch_and_fill_up_equal_shares():
    shares = [InOrder(5, rank=rank, replicas=2) for rank in (0, 1)]
    shares[0].set_epoch(3)
    assert [list(share) for share in shares] == [[0, 2, 4], [1, 3, 0]]


# Balanced


@settings(deadline=None)
@given(reals=SMALL, fakes=st.integers(1, 40), seed=SEEDS, epoch=st.integers(0, 3))
def test_balanced_epoch_has_half_of_each_class_and_every_row_at_least_once(reals, fakes, seed, epoch):
    faces = table(reals, fakes)
    sampler = BalancedSampler(faces, seed=seed)
    sampler.set_epoch(epoch)
    rows = list(sampler)
    assert len(rows) == len(sampler) == 2 * max(reals, fakes)
    assert faces["label"].to_numpy()[rows].mean() == 0.5
    drawn = Counter(rows)
    assert set(drawn) == set(range(len(faces)))
    for label in (0, 1):
        times = [count for row, count in drawn.items() if faces["label"][row] == label]
        assert max(times) - min(times) <= 1


@settings(deadline=None)
@given(
    sizes=st.fixed_dictionaries(dict.fromkeys(product((0, 1), ("female", "male")), SMALL)),
    seed=SEEDS,
    replicas=st.integers(1, 3),
)
def test_group_balanced_epoch_has_equal_shares_of_every_label_and_group_in_every_process(
    sizes, seed, replicas
):
    faces = grouped(sizes)
    drawn = []
    for rank in range(replicas):
        rows = list(BalancedSampler(faces, groups=["gender"], seed=seed, rank=rank, replicas=replicas))
        shares = faces.iloc[rows].groupby(["label", "gender"]).size()
        assert len(shares) == 4
        assert shares.nunique() == 1
        # Within every four draws, too: no batch is without a group.
        cells = [tuple(cell) for cell in faces.iloc[rows][["label", "gender"]].to_numpy()]
        assert all(len(set(cells[start : start + 4])) == 4 for start in range(0, len(cells), 4))
        drawn += rows
    assert set(drawn) == set(range(len(faces)))


def test_rows_without_the_attribute_are_left_out_with_a_warning(caplog):
    faces = grouped(dict.fromkeys(product((0, 1), ("female", "male")), 3))
    faces.loc[[0, 5], "gender"] = None
    with caplog.at_level(logging.WARNING):
        rows = list(BalancedSampler(faces, groups=["gender"]))
    assert not {0, 5} & set(rows)
    assert "2 of 12 rows are left out: they lack gender" in caplog.text


@pytest.mark.parametrize(
    ("faces", "groups", "message"),
    [
        (table(3, 0), (), "none of the 3 rows to balance is fake"),
        (
            grouped({(0, "female"): 2, (1, "female"): 2, (0, "male"): 2}),
            ["gender"],
            "is fake and gender=male",
        ),
        (table(2, 2), ["gender"], "no column gender"),
        (table(2, 2).assign(gender=None), ["gender"], "none of the 4 rows has gender"),
    ],
    ids=["one class", "group of reals", "no column", "nothing known"],
)
def test_tables_that_cannot_be_balanced_are_refused(faces, groups, message):
    with pytest.raises(InputError, match=message):
        BalancedSampler(faces, groups=groups)


# Pairs


@settings(deadline=None)
@given(reals=SMALL, fakes=st.integers(1, 30), size=st.integers(1, 5), seed=SEEDS, replicas=st.integers(1, 3))
def test_an_epoch_has_every_fake_each_with_a_real_in_whole_batches(reals, fakes, size, seed, replicas):
    faces = table(reals, fakes)
    shares = [
        list(PairSampler(faces, size, seed=seed, rank=rank, replicas=replicas)) for rank in range(replicas)
    ]
    assert len({len(share) for share in shares}) == 1
    assert len(shares[0]) % size == 0
    drawn = Counter(fake for share in shares for _, fake in share)
    assert set(drawn) == set(range(reals, reals + fakes))
    assert sum(drawn.values()) - fakes < size * replicas
    assert {real for share in shares for real, _ in share} <= set(range(reals))


def test_an_epoch_of_pairs_has_every_fake_once_where_batches_come_out_even():
    pairs = list(PairSampler(table(3, 12), 4))
    assert sorted(fake for _, fake in pairs) == list(range(3, 15))


def test_pairs_are_those_that_earlier_trainings_of_this_seed_drew():
    # Drawn by the sampler before it moved to this module: a change would change every training.
    sampler = PairSampler(table(3, 5), 2, seed=7)
    sampler.set_epoch(2)
    assert list(sampler) == [(1, 3), (2, 5), (1, 4), (2, 6), (2, 7), (0, 3)]


def test_same_seed_and_epoch_give_the_same_pairs_and_others_do_not():
    one, same, other = (PairSampler(table(5, 20), 4, seed=seed) for seed in (1, 1, 2))
    assert list(one) == list(same)
    assert list(one) != list(other)
    same.set_epoch(1)
    assert list(one) != list(same)


def test_processes_share_out_the_fakes_of_an_epoch():
    shares = [list(PairSampler(table(3, 16), 4, rank=rank, replicas=2)) for rank in (0, 1)]
    assert [len(share) for share in shares] == [8, 8]
    assert sorted(fake for share in shares for _, fake in share) == list(range(3, 19))


def test_pairing_by_source_takes_the_video_that_the_fake_was_put_into():
    for real, fake in PairSampler(table(4, 20), 4, pairing="source"):
        assert real == (fake - 4) % 4


def test_a_source_is_also_found_by_the_last_part_of_its_path():
    faces = table(2, 4)
    faces.loc[:1, "video"] = ["original/youtube/c23/real0", "original/youtube/c23/real1"]
    assert all(real == fake % 2 for real, fake in PairSampler(faces, 2, pairing="source"))


def test_pairing_by_source_without_sources_is_refused():
    with pytest.raises(InputError, match=r"data\.pairing=random"):
        PairSampler(table(2, 4).assign(target_video=None), 2, pairing="source")
    with pytest.raises(InputError, match=r"data\.pairing=random"):
        PairSampler(table(2, 4).assign(target_video="elsewhere"), 2, pairing="source")


# Batches


def test_a_batch_of_pairs_is_reals_first_then_their_fakes():
    pairs = list(PairSampler(table(3, 8), 4, seed=5))
    batches = list(Batches(PairSampler(table(3, 8), 4, seed=5), 4))
    assert [[draw.row for draw in batch] for batch in batches] == [
        [real for real, _ in pairs[start : start + 4]] + [fake for _, fake in pairs[start : start + 4]]
        for start in (0, 4)
    ]


@settings(deadline=None, max_examples=30)
@given(fakes=st.integers(1, 30), size=st.integers(1, 5), seed=SEEDS, epoch=st.integers(0, 3), data=st.data())
def test_a_resumed_epoch_is_the_rest_of_the_whole_one_and_later_epochs_are_whole(
    fakes, size, seed, epoch, data
):
    batches = Batches(PairSampler(table(3, fakes), size, seed=seed), size, seed=seed)
    batches.set_epoch(epoch)
    whole = list(batches)
    done = data.draw(st.integers(0, len(whole)))
    resumed = Batches(PairSampler(table(3, fakes), size, seed=seed), size, seed=seed)
    resumed.resume(epoch, done)
    assert list(resumed) == whole[done:]
    assert len(resumed) == len(whole)
    for later in (resumed, batches):
        later.set_epoch(epoch + 1)
    assert list(resumed) == list(batches)


@settings(deadline=None, max_examples=30)
@given(fakes=st.integers(1, 40), size=st.integers(1, 4), processes=st.integers(1, 4), seed=SEEDS)
def test_processes_see_in_each_step_what_one_that_accumulates_does(fakes, size, processes, seed):
    faces = table(3, fakes)
    shares = [
        list(PairSampler(faces, size, seed=seed, rank=rank, replicas=processes)) for rank in range(processes)
    ]
    turns = [
        shares[rank][start : start + size]
        for start in range(0, len(shares[0]), size)
        for rank in range(processes)
    ]
    alone = list(PairSampler(faces, size, seed=seed, accumulate=processes))
    assert [pair for turn in turns for pair in turn] == alone


def test_batches_of_rows_keep_the_order_and_the_last_may_be_short():
    batches = Batches(InOrder(5), 2)
    assert [[draw.row for draw in batch] for batch in batches] == [[0, 1], [2, 3], [4]]
    assert len(batches) == 3


def drawn_seeds(seed: int = 0, epoch: int = 0, rank: int = 0) -> list[int]:
    batches = Batches(NaturalSampler(40), 8, seed=seed, rank=rank)
    batches.set_epoch(epoch)
    return [draw.seed for batch in batches for draw in batch]


def test_every_draw_has_a_seed_of_its_own_that_depends_on_seed_epoch_and_process():
    ways = [drawn_seeds(), drawn_seeds(seed=1), drawn_seeds(epoch=1), drawn_seeds(rank=1)]
    assert drawn_seeds() == ways[0]
    assert len({seed for way in ways for seed in way}) == 4 * 40


def test_an_epoch_is_resumed_by_its_number_alone():
    faces = table(4, 12)
    whole = Batches(PairSampler(faces, 4, seed=3), 4, seed=3)
    epochs = []
    for epoch in range(3):
        whole.set_epoch(epoch)
        epochs.append(list(whole))
    resumed = Batches(PairSampler(faces, 4, seed=3), 4, seed=3)
    resumed.set_epoch(2)
    assert list(resumed) == epochs[2]
    assert isinstance(epochs[0][0][0], Draw)
    assert all(isinstance(value, int) and not isinstance(value, np.integer) for value in epochs[0][0][0])


# Pairs of balanced groups


@settings(deadline=None)
@given(seed=SEEDS, epoch=st.integers(0, 3), replicas=st.integers(1, 2))
def test_balanced_pairs_show_each_group_equally_often_in_each_class(seed, epoch, replicas):
    faces = table(9, 24)
    groups = np.array([0] * 7 + [1] * 2 + [0] * 3 + [1] * 21)
    drawn = []
    for rank in range(replicas):
        sampler = PairSampler(faces, 4, groups=groups, seed=seed, rank=rank, replicas=replicas)
        sampler.set_epoch(epoch)
        drawn += list(sampler)
    assert len(drawn) == len(PairSampler(faces, 4, replicas=replicas)) * replicas == 24
    for column, label in ((0, 0), (1, 1)):
        rows = np.array(drawn)[:, column]
        assert (faces["label"].to_numpy()[rows] == label).all()
        assert Counter(groups[rows].tolist()) == {0: 12, 1: 12}


def test_balanced_pairs_depend_on_seed_and_epoch_only():
    faces, groups = table(6, 20), np.array([0, 1] * 13)
    one, same, other = (PairSampler(faces, 4, groups=groups, seed=seed) for seed in (1, 1, 2))
    assert list(one) == list(same) != list(other)
    same.set_epoch(1)
    assert list(one) != list(same)
