"""Every interval that an audit gives: it holds its estimate, has a width, and stays in the possible range."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmasked.fairness.audit import audit


def intervals(found, path=""):
    """(path, value, low, high) of every interval in a record, however deep."""
    if isinstance(found, list):
        for place, entry in enumerate(found):
            yield from intervals(entry, f"{path}[{place}]")
    elif isinstance(found, dict):
        for name, value in found.items():
            if name.endswith("_ci"):
                yield f"{path}.{name}", found[name.removesuffix("_ci")], *value
            else:
                yield from intervals(value, f"{path}.{name}")
        if "ci_low" in found:
            yield f"{path}.difference", found["difference"], found["ci_low"], found["ci_high"]


def check(found):
    seen = 0
    for path, value, low, high in intervals(found):
        if pd.isna(value) or pd.isna(low):
            continue
        seen += 1
        assert low <= value <= high, (path, value, low, high)
        assert low < high, (path, value, low, high)
        assert low >= (-1 if "difference" in path else 0), (path, value, low, high)
        assert high <= 1, (path, value, low, high)
    return seen


people = st.tuples(
    st.lists(st.integers(2, 40), min_size=2, max_size=4),  # people of each group and class
    st.sampled_from([1, 3]),  # videos of each
    st.sampled_from(["scores", "steps", "perfect", "never", "equal"]),
    st.booleans(),  # the same people real and fake
    st.integers(0, 99),
)


def audited(sizes, videos, kind, paired, seed):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    person = np.repeat(np.arange(len(group)), videos)
    label = np.repeat([0, 1], len(person))
    names = np.array(["light", "medium", "dark", "other"], dtype=object)[group][person]
    score = {
        "scores": np.clip(0.3 + 0.4 * label + rng.normal(0, 0.2, len(label)), 0, 1),
        "steps": rng.choice([0.2, 0.6], len(label)),
        "perfect": 0.1 + 0.8 * label,
        "never": np.full(len(label), 0.4) + 0.05 * label,
        # In every group the same: two in three are called fake.
        "equal": np.where(np.arange(len(label)) % 3 > 0, 0.7, 0.3),
    }[kind]
    both = pd.DataFrame({"skin_tone": np.tile(names, 2)})
    both["gender"] = np.where(np.tile(person, 2) % 2 > 0, "female", "male")
    return audit(
        label,
        score,
        sensitive_features=both,
        clusters=np.concatenate([person, person + (0 if paired else person.max() + 1)]),
        intersections=[("skin_tone", "gender")],
        n_boot=40,
        n_perm=40,
        min_samples=1,
        min_clusters=2,
    ).to_dict()


@settings(max_examples=8, deadline=None)
@given(people)
def test_intervals_hold_their_estimate_have_a_width_and_stay_in_range(drawn):
    assert check(audited(*drawn)) > 20


@pytest.mark.parametrize("kind", ["perfect", "never", "equal"])
def test_intervals_of_extreme_tables_have_a_width(kind):
    """A share of 0 had a lower end of 6e-17, and rates that happen to be equal a spread of [0, 0]."""
    assert check(audited([6, 6, 3], 3, kind, True, 0)) > 20
