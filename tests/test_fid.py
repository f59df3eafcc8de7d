import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from unmasked.datasets.errors import InputError
from unmasked.generation import fid
from unmasked.generation.fid import (
    Moments,
    extrapolate,
    floor,
    frechet_distance,
    kernel_distance,
    precision_recall,
)


@pytest.fixture(scope="module")
def cases(request):
    from conftest import SHARED

    if not SHARED.is_dir():
        pytest.skip("the folder of reference numbers is not beside this checkout")
    return np.load(SHARED / "reference" / "fid_reference.npz")


def case(cases, number):
    if number == 4:
        rows = np.random.default_rng([20261, 71, 4]).standard_normal((100, 20))
        return rows, rows
    return cases[f"x{number}"], cases[f"y{number}"]


@pytest.mark.parametrize("number", range(5))
def test_the_reference_is_met(cases, number):
    x, y = case(cases, number)
    assert frechet_distance(x, y) == pytest.approx(cases["fid"][number], abs=1e-8)
    if np.isfinite(cases["kid"][number]):
        # A mean of 1000 is no kernel's case, and the last case is another sample of the same law.
        assert number == 4 or kernel_distance(x, y).value == pytest.approx(cases["kid"][number], abs=1e-8)


def by_covariances(a, b):
    """The formula as it is written, for n > d."""
    s1, s2 = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(s1 @ s2).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * root)


def test_the_factor_is_that_of_the_covariances(monkeypatch):
    monkeypatch.setattr(fid, "BLOCK", 7)  # rows in many small blocks
    random = np.random.default_rng(1)
    a, b = random.normal(size=(40, 6)), 5 + random.normal(size=(53, 6)) @ random.normal(size=(6, 6))
    assert frechet_distance(a, b) == pytest.approx(by_covariances(a, b), rel=1e-10)
    found = Moments.of(a)
    assert found.factor.shape == (6, 6)  # what is kept does not grow with the rows
    np.testing.assert_allclose(found.factor.T @ found.factor, 39 * np.cov(a.T), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(2, 9), st.integers(1, 5))
def test_a_distance_is_symmetric_and_0_to_itself_and_shifts_add(seed, n, m, d):
    random = np.random.default_rng(seed)
    a, b, shift = random.normal(size=(n, d)), random.normal(size=(m, d)), random.normal(size=d)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + shift) == pytest.approx((shift**2).sum(), abs=1e-9)


def plain_kid(x, y, units=None):
    def kernel(one, two):
        return (one @ two.T / x.shape[1] + 1) ** 3

    def mean_of_pairs(rows, units):
        units = np.arange(len(rows)) if units is None else units
        return kernel(rows, rows)[units[:, None] != units].mean()

    return mean_of_pairs(x, units) + mean_of_pairs(y, None) - 2 * kernel(x, y).mean()


def test_the_kernel_distance_leaves_out_one_unit_at_a_time(monkeypatch):
    monkeypatch.setattr(fid, "BLOCK", 5)
    random = np.random.default_rng(2)
    x, y = random.normal(size=(12, 3)), random.normal(size=(9, 3)) + 1
    units = np.repeat([4, 1, 7, 2], [3, 2, 3, 4])
    found = kernel_distance(x, y, units_a=units)
    assert found.value == pytest.approx(plain_kid(x, y, units), abs=1e-12)
    left = [plain_kid(x[units != unit], y, units[units != unit]) for unit in np.unique(units)]
    left_y = [plain_kid(x, np.delete(y, row, 0), units) for row in range(9)]
    variance = 3 * np.var(left) + 8 * np.var(left_y)
    assert found.high - found.value == pytest.approx(3.182446 * np.sqrt(variance), rel=1e-6)


def test_the_kernel_distance_of_one_persons_images_is_unknown():
    """It divided 0 by 0, and said so in a warning of numpy."""
    found = kernel_distance(np.eye(5), 2 * np.eye(5), units_a=np.zeros(5))
    assert np.isnan([found.value, found.low, found.high]).all()


def test_the_kernel_distances_interval_holds_the_truth():
    """Rows of ten a unit that share half of what they are; the truth is known by moments of the product."""
    d, shift, units = 16, 0.3, np.repeat(np.arange(30), 10)
    truth = _mean_kernel(0, 0, d) + _mean_kernel(shift, shift, d) - 2 * _mean_kernel(0, shift, d)
    random = np.random.default_rng(3)
    hits, alone = 0, 0
    for _ in range(60):
        x, y = (
            np.sqrt(0.5) * (np.repeat(random.normal(size=(30, d)), 10, 0) + random.normal(size=(300, d)))
            for _ in range(2)
        )
        found = kernel_distance(x, y + shift, units_a=units, units_b=units)
        hits += found.low <= truth <= found.high
        by_row = kernel_distance(x, y + shift)
        alone += by_row.low <= truth <= by_row.high
    assert hits >= 54
    assert alone < 45  # as if rows of one unit were so many units


def _mean_kernel(one, two, d):
    """E (x·y / d + 1)³ of independent normal vectors with these means in every place."""
    first, second = one * two, (1 + one**2) * (1 + two**2)
    third = (3 * one + one**3) * (3 * two + two**3)
    k1, k2, k3 = d * first, d * (second - first**2), d * (third - 3 * first * second + 2 * first**3)
    moments = 1, k1, k2 + k1**2, k3 + 3 * k2 * k1 + k1**3
    return sum(
        count * moment / d**power
        for power, count, moment in zip(range(4), (1, 3, 3, 1), moments, strict=True)
    )


def test_the_line_to_infinitely_many_rows_takes_the_bias_away():
    random = np.random.default_rng(4)
    a, b = random.normal(size=(600, 32)), random.normal(0.1, size=(600, 32))
    assert frechet_distance(a, b) > 1.2  # the truth is 0.32
    assert extrapolate(a, b) == pytest.approx(0.32, abs=0.2)
    assert np.isnan(extrapolate(a[:60], b[:60]))


def test_the_floor_halves_units_and_grows_where_rows_are_copies():
    random = np.random.default_rng(5)
    videos = random.normal(size=(20, 4))
    rows, units = np.repeat(videos, 10, 0), np.repeat(np.arange(20), 10)
    by_unit, by_row = floor(rows, rows, units_a=units), floor(rows, rows)
    assert by_unit.n == by_row.n == 100
    assert by_unit.frechet > 5 * by_row.frechet  # copies in both halves make any set look reachable
    with pytest.raises(InputError, match="cannot be halved"):
        floor(rows, rows, units_a=np.zeros(200))


def test_precision_falls_for_wrong_fakes_and_recall_for_few_kinds():
    random = np.random.default_rng(6)
    reals = np.concatenate([random.normal(0, 1, (80, 2)), random.normal(50, 1, (80, 2))])
    precision, recall = precision_recall(reals, random.normal(0, 1, (100, 2)))
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.05)
    precision, recall = precision_recall(reals, random.normal(25, 0.1, (100, 2)))
    assert (precision, recall) == (0, 0)


def test_bad_features_are_refused_in_a_sentence():
    good = np.zeros((3, 2))
    for other, words in (
        (np.zeros((3, 4)), "one extractor"),
        (np.zeros((1, 2)), "two rows"),
        (np.full((3, 2), np.nan), "not finite"),
    ):
        with pytest.raises(InputError, match=words):
            frechet_distance(good, other)
