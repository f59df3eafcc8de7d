"""The radial spectrum: rings by hand, and what a file may hold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops import io

from unmasked.app.detectors import find
from unmasked.baselines.spectrum import spectra
from unmasked.datasets.errors import InputError
from unmasked.training import checkpoint


def by_hand(image):
    """Oracle: a sum of waves in place of FFT, a loop over frequencies in place of rings."""
    side = image.shape[0]
    grey, places = image.mean(axis=2), np.arange(side)
    logs = [[] for _ in range(side)]
    for row in range(-(side // 2), side // 2):
        for column in range(-(side // 2), side // 2):
            wave = np.exp(-2j * np.pi * (row * places[:, None] + column * places) / side)
            logs[round(np.hypot(row, column))].append(np.log1p(abs((grey * wave).sum()) ** 2))
    return [np.mean(ring) for ring in logs[: side // 2]]


def test_rings_are_those_of_single_waves_summed_by_hand():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(spectra(images), [by_hand(image) for image in images], rtol=1e-9)


def test_waves_raise_their_own_ring_and_turning_the_picture_changes_nothing():
    waves = np.fft.fftfreq(32, 1 / 32)
    of_ring = np.rint(np.hypot(waves[:, None], waves)) == 5
    noise = np.fft.ifft2(np.fft.fft2(np.random.default_rng(1).normal(size=(32, 32))) * of_ring).real
    grey = np.rint(127 + 20 * noise / noise.std()).astype(np.uint8)
    image = np.repeat(grey[None, :, :, None], 3, axis=3)
    found = spectra(image)[0]
    assert np.argsort(found[1:])[-1] + 1 == 5
    np.testing.assert_allclose(spectra(np.rot90(image, axes=(1, 2)).copy())[0], found, rtol=1e-9)


@pytest.mark.parametrize("stored", [[1], LogisticRegression().fit([[0.0], [1.0]], [0, 1]), "columns"])
def test_another_file_is_refused(stored, tmp_path):
    if stored == "columns":  # of crops of another size
        stored = make_pipeline(StandardScaler(), LogisticRegression()).fit(np.eye(6), [0, 1] * 3)
    io.dump(stored, tmp_path / "other.skops")
    with pytest.raises(InputError, match="no regression on the spectra of crops of that size"):
        checkpoint.read_fitted(find("spectrum"), tmp_path / "other.skops", {"size_px": 32})
