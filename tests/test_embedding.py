from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from unmasked.analysis.explain.embedding import embed, neighbour_purity, usable_perplexity
from unmasked.datasets.errors import InputError


@pytest.fixture(scope="module")
def clusters():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(3, 20)) * 8
    label = np.repeat([0, 1, 2], 30)
    return centres[label] + generator.normal(size=(90, 20)), label


def test_neighbours_in_space_are_neighbours_in_the_picture(clusters):
    features, label = clusters
    points = embed(features)
    assert points.shape == (90, 2)
    assert trustworthiness(features, points, n_neighbors=10) > 0.9
    assert neighbour_purity(features, label).value == 1.0
    assert neighbour_purity(points, label).value == 1.0


def test_same_seed_gives_the_same_picture(clusters):
    features, _ = clusters
    np.testing.assert_array_equal(embed(features, seed=3), embed(features, seed=3))


def test_noise_does_not_become_classes():
    generator = np.random.default_rng(1)
    features, label = generator.normal(size=(120, 20)), generator.integers(0, 2, 120)
    purity = neighbour_purity(embed(features), label)
    assert purity.chance == pytest.approx(0.5, abs=0.02)
    assert purity.value == pytest.approx(purity.chance, abs=0.08)


@pytest.mark.parametrize("n", [8, 9, 20])
def test_few_points_lower_the_perplexity_and_say_so(n, caplog):
    points = embed(np.random.default_rng(0).normal(size=(n, 4)))
    assert np.isfinite(points).all()
    assert "perplexity lowered from 30 to" in caplog.text


def test_usable_perplexity_never_exceeds_a_third_of_the_others():
    assert usable_perplexity(8, 30) == pytest.approx(7 / 3)
    assert usable_perplexity(2, 30) == 1
    assert usable_perplexity(10_000, 30) == 30


def test_one_feature_can_be_embedded():
    assert embed(np.linspace(0, 1, 40)[:, None]).shape == (40, 2)


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
