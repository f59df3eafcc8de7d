from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from unmasked.analysis.explain.embedding import embed, neighbour_purity, usable_perplexity
from unmasked.analysis.explain.intervals import mean_interval
from unmasked.datasets.errors import InputError


@pytest.fixture(scope="module")
def clusters():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(3, 20)) * 8
    label = np.repeat([0, 1, 2], 30)
    return centres[label] + generator.normal(size=(90, 20)), label


def test_neighbours_in_space_are_neighbours_in_the_picture(clusters):
    features, label = clusters
    points = embed(features).points
    assert points.shape == (90, 2)
    assert trustworthiness(features, points, n_neighbors=10) > 0.9
    assert neighbour_purity(features, label).value == 1.0
    assert neighbour_purity(points, label).value == 1.0


def test_same_seed_gives_the_same_picture(clusters):
    features, _ = clusters
    np.testing.assert_array_equal(embed(features, seed=3).points, embed(features, seed=3).points)


def test_noise_does_not_become_classes():
    generator = np.random.default_rng(1)
    features, label = generator.normal(size=(120, 20)), generator.integers(0, 2, 120)
    purity = neighbour_purity(embed(features).points, label)
    assert purity.chance == pytest.approx(0.5, abs=0.02)
    assert purity.value == pytest.approx(purity.chance, abs=0.08)


@pytest.mark.parametrize("n", [8, 9, 20])
def test_few_points_lower_the_perplexity_and_say_so(n, caplog):
    points = embed(np.random.default_rng(0).normal(size=(n, 4))).points
    assert np.isfinite(points).all()
    assert "perplexity lowered from 30 to" in caplog.text


def test_usable_perplexity_never_exceeds_a_third_of_the_others():
    assert usable_perplexity(8, 30) == pytest.approx(7 / 3)
    assert usable_perplexity(2, 30) == 1
    assert usable_perplexity(10_000, 30) == 30


def test_one_feature_can_be_embedded():
    assert embed(np.linspace(0, 1, 40)[:, None]).points.shape == (40, 2)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((7, 3)), "at least 8 rows"),
        (np.zeros(20), "at least 8 rows"),
        (np.zeros((20, 3)), "all features are the same"),
        (np.full((20, 3), np.nan), "NaN"),
    ],
)
def test_features_without_a_picture_are_refused(features, message):
    with pytest.raises(InputError, match=message):
        embed(features)


def test_purity_equals_the_votes_of_a_nearest_neighbour_classifier(clusters):
    features, _ = clusters
    label = np.random.default_rng(2).integers(0, 3, len(features))
    model = KNeighborsClassifier(n_neighbors=6).fit(features, label)
    # The first neighbour of a training point is the point itself.
    neighbours = model.kneighbors(features, return_distance=False)[:, 1:]
    expected = (label[neighbours] == label[:, None]).mean()
    assert neighbour_purity(features, label, k=5).value == pytest.approx(expected)


def test_frames_of_one_video_do_not_count_as_neighbours():
    # Four videos far apart, two frames each: every frame's only near neighbour is its own video.
    points = np.repeat([0.0, 10.0, 20.0, 31.0], 2)[:, None] + np.tile([0, 0.1], 4)[:, None]
    label, video = np.repeat([0, 1, 0, 1], 2), np.repeat([0, 1, 2, 3], 2)
    assert neighbour_purity(points, label, k=1).value == 1.0
    assert neighbour_purity(points, label, clusters=video, k=1).value == 0.0
    assert neighbour_purity(points, label, clusters=video).chance == pytest.approx(1 / 3)


def test_chance_of_unequal_classes_is_the_chance_of_drawing_ones_own():
    label = np.array([0] * 9 + [1])
    assert neighbour_purity(np.arange(10.0)[:, None], label).chance == pytest.approx((9 * 8 / 9 + 0) / 10)


def test_purity_without_other_points_is_undefined():
    assert np.isnan(neighbour_purity([[0.0]], [1]).value)
    assert np.isnan(neighbour_purity([[0.0], [1.0]], [1, 0], clusters=["a", "a"]).chance)


def test_a_new_file_is_placed_among_its_like_and_moves_nothing(clusters):
    features, label = clusters
    fitted = embed(features)
    before = fitted.points.copy()
    new = features + np.random.default_rng(5).normal(size=features.shape)
    placed = fitted.place(new)
    nearest = KNeighborsClassifier(5).fit(fitted.points, label)
    assert (nearest.predict(placed) == label).all()
    np.testing.assert_array_equal(fitted.points, before)
    # whatever else is placed: alone, together, and again
    np.testing.assert_allclose(fitted.place(new[:1]), placed[:1], atol=1e-6)


def test_the_interval_of_purity_is_that_of_the_mean_over_clusters():
    """By hand: resampled videos, each with its points' shares; frames of a video are no further evidence."""
    rng = np.random.default_rng(3)
    video = np.repeat(np.arange(40), 5)
    label = np.repeat(rng.integers(0, 2, 40), 5)
    points = np.repeat(rng.normal(size=(40, 3)) + label[::5, None], 5, axis=0) + rng.normal(0, 0.01, (200, 3))
    found = neighbour_purity(points, label, clusters=video)
    assert found.ci[0] < found.value < found.ci[1]
    assert found.ci[0] > found.chance - 0.05
    by_frame = neighbour_purity(points, label)
    assert by_frame.ci[1] - by_frame.ci[0] < found.ci[1] - found.ci[0]
    assert np.isnan(neighbour_purity([[0.0], [1.0]], [0, 1], clusters=[0, 0]).ci).all()


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        person = np.repeat(rng.normal(0.5, 1, 20), 4)  # people differ, their pictures hardly do
        low, high = mean_interval(person + rng.normal(0, 0.1, 80), np.repeat(np.arange(20), 4), seed=seed)
        covered += low <= 0.5 <= high
    assert 180 <= covered <= 199
