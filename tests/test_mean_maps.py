from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from unmasked.analysis.explain.mean_maps import compare, group_differences, map_cells, mean_maps


def drawn(seed: int, people: int = 24, crops: int = 3):
    """Crops of people, half of them of each group, with maps that are a person's own."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), crops)
    rows = pd.DataFrame(
        {
            "dataset": "A",
            "video": [f"v{one}" for one in person],
            "identity": [f"p{one}" for one in person],
            "label": 1,
            "method": "Swap",
            "tone": np.where(person % 2, "dark", "light"),
        }
    )
    maps = rng.gamma(2, size=(people, 16, 16))[person] + rng.gamma(0.2, size=(len(person), 16, 16))
    return rows, maps.astype(np.float32)


def test_p_values_are_those_of_all_ways_to_part_the_people():
    """By hand: every choice of three people of seven, largest cell of each."""
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(7, 4))
    is_first = np.arange(7) < 3
    scaled = cells / cells.std(axis=0)
    largest = []
    for chosen in combinations(range(7), 3):
        mask = np.isin(np.arange(7), chosen)
        largest.append(np.abs(scaled[mask].mean(0) - scaled[~mask].mean(0)).max())
    seen = np.abs(scaled[is_first].mean(0) - scaled[~is_first].mean(0))
    wanted = (np.array(largest)[:, None] >= seen - 1e-9).mean(axis=0)
    found = compare(cells, is_first, permutations=20_000)
    np.testing.assert_allclose(np.ravel(found["p_cells"]), wanted, atol=0.02)
    assert found["p"] == np.min(found["p_cells"])
    np.testing.assert_allclose(
        np.ravel(found["difference"]), cells[is_first].mean(0) - cells[~is_first].mean(0)
    )


def test_groups_that_are_looked_at_alike_are_found_unlike_as_rarely_as_the_level_says():
    rng = np.random.default_rng(1)
    found = 0
    for seed in range(200):
        cells = rng.gamma(1, size=(20, 64)) * rng.gamma(1, size=64)
        found += compare(cells, np.arange(20) < 8, permutations=199, seed=seed)["p"] <= 0.05
    assert found <= 18  # of 200; 5 % are 10


def test_where_a_detector_looks_elsewhere_on_one_group_is_found_there():
    rows, maps = drawn(0)
    maps[(rows["tone"] == "dark").to_numpy(), 10:13, 4:8] += 6
    (one,) = group_differences(rows, map_cells(maps), ["tone"])
    assert one.groups == ("light", "dark")
    assert one.people == (12, 12)
    assert one.is_found
    cells = np.array(one.p_cells) <= 0.05
    assert cells[10:13, 4:8].mean() > 0.8
    cells[10:13, 4:8] = False
    assert cells.sum() <= 5
    assert np.array(one.difference)[11, 5] < 0
    rows, maps = drawn(3)
    assert not group_differences(rows, map_cells(maps), ["tone"])[0].is_found


def test_a_person_counts_once_however_many_crops_there_are():
    rows, maps = drawn(0, people=10, crops=1)
    more = pd.concat([rows, *[rows.iloc[:1]] * 40], ignore_index=True)
    cells = map_cells(np.concatenate([maps, *[maps[:1]] * 40]))
    first, second = (
        group_differences(r, c, ["tone"])[0] for r, c in ((rows, map_cells(maps)), (more, cells))
    )
    np.testing.assert_allclose(first.difference, second.difference, atol=1e-12)
    assert first.people == second.people == (5, 5)
    mean = {(one.of, one.name): one for one in mean_maps(more, cells, ["tone"])}
    assert mean["method", "Swap"].people == 10
    np.testing.assert_allclose(mean["method", "Swap"].cells.ravel(), map_cells(maps).mean(axis=0))


def test_reals_and_fakes_and_unknown_groups_are_kept_apart():
    rows, maps = drawn(0, people=40, crops=1)
    rows["label"] = np.arange(40) // 20
    rows.loc[rows.index[:15], "tone"] = None
    found = group_differences(rows, map_cells(maps), ["tone"])
    assert {one.kind: one.reason for one in found} == {"real": "fewer than 5 people of a group", "fake": ""}
    assert all("unknown" not in one.groups for one in found)
    assert found[0].p_adjusted != found[0].p_adjusted  # NaN: not tested


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_map_of_one_value_is_no_reason_to_stop(value):
    cells = map_cells(np.full((4, 16, 16), value, np.float32))
    assert np.isfinite(cells).all()
    assert compare(cells, np.array([True, True, False, False]), permutations=10)["p"] == 1.0
