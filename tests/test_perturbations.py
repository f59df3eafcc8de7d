"""Each perturbation does what its name says, harder with severity, and the same whoever asks when."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from unmasked.datasets.errors import InputError
from unmasked.evaluation.perturbing.registry import NAMED, PERTURBATIONS, SEVERITIES, Setting, settings_of
from unmasked.preprocessing.video import read_video

OF_IMAGES = sorted(name for name, kind in PERTURBATIONS.items() if not kind.of_video)
RATE = Fraction(25)


def picture(seed=0, height=120, width=150):
    """A coloured picture with soft shapes and fine grain, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(rng.normal(0, 1, (height, width, 3)), (9, 9, 0.3))
    fine = ndimage.gaussian_filter(rng.normal(0, 1, (height, width, 3)), (1, 1, 0))
    mixed = 120 + 45 * coarse / coarse.std() + 12 * fine / fine.std()
    return np.clip(mixed, 0, 255).astype(np.uint8)


def psnr(one, other):
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return 10 * np.log10(255**2 / error)


def changed(name, severity, image, seed=0, key=("v", 0)):
    return Setting(name, severity, "crop").apply(image, seed, *key)


def value_of(name, severity):
    return PERTURBATIONS[name].settings[severity - 1]


def test_the_nine_are_there_with_five_severities_and_say_what_they_imitate():
    assert set(PERTURBATIONS) == {
        *("jpeg", "gaussian_noise", "gaussian_blur", "resize", "brightness", "contrast", "saturation"),
        *("block_dropout", "h264"),
    }
    for kind in PERTURBATIONS.values():
        assert len(kind.settings) == len(SEVERITIES) == len(set(kind.settings))
        assert ":" in (kind.change.__doc__ or "").splitlines()[0]


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_an_image_stays_an_image_and_is_left_alone(name, severity):
    image = picture(height=37, width=53)
    before = image.copy()
    result = changed(name, severity, image)
    assert (result.shape, result.dtype) == (image.shape, np.uint8)
    assert (image == before).all()
    assert (result != before).any()


@pytest.mark.parametrize("name", OF_IMAGES)
def test_harder_severities_take_more_away(name):
    images = [picture(seed) for seed in range(4)]
    ratios = [
        np.mean([psnr(changed(name, severity, image), image) for image in images]) for severity in SEVERITIES
    ]
    assert ratios == sorted(ratios, reverse=True)
    assert len(set(ratios)) == len(SEVERITIES)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_the_result_depends_on_seed_and_key_and_on_nothing_else(name):
    image = picture()
    first = changed(name, 3, image)
    changed(name, 3, picture(1))
    assert (changed(name, 3, image) == first).all()
    if name in ("gaussian_noise", "block_dropout"):
        for other in ({"seed": 1}, {"key": ("v", 1)}, {"key": ("w", 0)}):
            assert (changed(name, 3, image, **other) != first).any()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_that_of_pillow(severity):
    image = picture(height=128, width=128)
    encoded = io.BytesIO()
    quality = int(value_of("jpeg", severity))
    Image.fromarray(image).save(encoded, "JPEG", quality=quality, subsampling="4:2:0")
    expected = np.asarray(Image.open(encoded)).astype(int)
    difference = abs(changed("jpeg", severity, image) - expected)
    assert difference.mean() < 0.2
    assert difference.max() <= 4


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_deviation_that_it_says_and_no_bias(severity):
    grey = np.full((256, 256, 3), 128, np.uint8)
    noise = changed("gaussian_noise", severity, grey).astype(float) - 128
    expected = 255 * value_of("gaussian_noise", severity)
    assert noise.std() == pytest.approx(np.hypot(expected, np.sqrt(1 / 12)), rel=0.02)
    assert abs(noise.mean()) < 5 * expected / np.sqrt(noise.size)
    assert abs(np.corrcoef(noise.reshape(-1, 3).T)[0, 1]) < 0.02


def test_noise_is_clipped_and_does_not_wrap():
    white = np.full((64, 64, 3), 255, np.uint8)
    assert changed("gaussian_noise", 1, white).min() > 230


@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur_is_a_gaussian_of_the_kernel_that_it_says(severity):
    image = picture()
    side = int(value_of("gaussian_blur", severity))
    deviation = 0.3 * ((side - 1) / 2 - 1) + 0.8
    offsets = np.arange(side) - side // 2
    taps = np.exp(-0.5 * (offsets / deviation) ** 2)
    taps = {3: np.array([1, 2, 1.0]), 5: np.array([1, 4, 6, 4, 1.0])}.get(side, taps)
    taps /= taps.sum()
    expected = image.astype(float)
    for axis in (0, 1):
        expected = ndimage.correlate1d(expected, taps, axis=axis, mode="mirror")
    assert abs(changed("gaussian_blur", severity, image) - expected).max() < 1.01


def test_resizing_loses_what_is_finer_than_the_small_image_can_hold():
    rows, columns = np.indices((128, 128))
    board = np.where((rows + columns) % 2, 255, 0).astype(np.uint8)[..., None].repeat(3, 2)
    assert abs(changed("resize", 2, board).astype(int) - 127.5).max() <= 0.5
    flat = np.full((31, 77, 3), 90, np.uint8)
    assert (changed("resize", 5, flat) == 90).all()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_contrast_and_saturation_are_straight_lines(severity):
    image = picture()
    luma = image @ np.array([0.299, 0.587, 0.114])
    factor = value_of("brightness", severity)
    assert abs(changed("brightness", severity, image) - np.clip(image * factor, 0, 255)).max() <= 1
    factor, mean = value_of("contrast", severity), luma.mean()
    assert abs(changed("contrast", severity, image) - (mean + factor * (image - mean))).max() <= 1.5
    factor = value_of("saturation", severity)
    expected = np.clip(luma[..., None] + factor * (image - luma[..., None]), 0, 255)
    assert abs(changed("saturation", severity, image) - expected).max() <= 1.5


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_share_of_blocks_that_it_says_is_black_and_the_rest_untouched(severity):
    image = np.maximum(picture(height=160, width=320), 1)
    result = changed("block_dropout", severity, image)
    blocks = (result == 0).all(axis=2).reshape(10, 16, 20, 16).mean(axis=(1, 3))
    assert set(np.unique(blocks)) == {0.0, 1.0}
    assert blocks.sum() == round(200 * value_of("block_dropout", severity))
    kept = result.max(axis=2) > 0
    assert (result[kept] == image[kept]).all()


def encoded(path, severity, images):
    PERTURBATIONS["h264"].change(iter(images), path, value_of("h264", severity), RATE)
    return path


@pytest.mark.parametrize("shape", [(96, 128), (95, 127)])
def test_a_reencoded_video_has_the_same_frames_and_loses_more_with_severity(tmp_path, shape):
    # A pan over a picture: what H.264 is good at.
    wide = picture(height=shape[0], width=shape[1] + 40)
    images = [wide[:, 2 * step : 2 * step + shape[1]] for step in range(12)]
    ratios = []
    for severity in SEVERITIES:
        path = encoded(tmp_path / f"{severity}.mp4", severity, images)
        frames = [frame.image for frame in read_video(path, wanted=99, max_pixels=1 << 20)]
        assert len(frames) == len(images)
        assert [side + side % 2 for side in shape] == [*frames[0].shape[:2]]
        cut = [frame[: shape[0], : shape[1]] for frame in frames]
        ratios.append(np.mean([psnr(*pair) for pair in zip(cut, images, strict=True)]))
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 28
    assert abs(np.mean(np.subtract(cut, images, dtype=float), axis=(0, 1, 2))).max() < 2
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == RATE


def test_reencoding_gives_the_same_file_twice(tmp_path):
    images = [picture(seed, 64, 64) for seed in range(4)]
    one, two = (encoded(tmp_path / name, 3, images).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert one == two


def test_frames_that_change_their_size_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"64 x 64 .* 32 x 64"):
        encoded(tmp_path / "a.mp4", 1, [picture(0, 64, 64), picture(0, 64, 32)])


def test_published_settings_have_their_names():
    assert [setting.perturbation.words.format(setting.value) for setting in settings_of(NAMED)] == [
        "quality 50",
        "kernel 3 px",
        "standard deviation 0.02 x 255",
    ]
    assert settings_of(["jpeg_50", "jpeg:3"]) == [Setting("jpeg", 3, "crop")]


def test_names_say_the_place_and_the_severity():
    found = settings_of(["jpeg", "jpeg@crop", "gaussian_blur@frame", "resize@frame:5", "h264"], [2, 4])
    assert [(setting.label, setting.severity, setting.where) for setting in found] == [
        ("jpeg", 2, "crop"),
        ("jpeg", 4, "crop"),
        ("gaussian_blur@frame", 2, "frame"),
        ("gaussian_blur@frame", 4, "frame"),
        ("resize@frame", 5, "frame"),
        ("h264", 2, "frame"),
        ("h264", 4, "frame"),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "gaussian_blurr",
            r"'gaussian_blurr' is not known \(is 'gaussian_blur' meant\?\); choose from jpeg, ",
        ),
        ("", "perturbation '' is not known; choose from"),
        ("jpeg@image", "has the place 'image'; write jpeg@crop or jpeg@frame"),
        ("h264@crop", "has the place 'crop'; write h264@frame"),
        ("jpeg:9", r"severity 9 of jpeg is not known; choose 1 \(mild\) to 5"),
        ("jpeg:", "severity  of jpeg is not known"),
    ],
)
def test_a_wrong_name_is_refused_in_one_sentence(name, message):
    with pytest.raises(InputError, match=message) as caught:
        settings_of([name])
    assert "\n" not in str(caught.value)


def test_a_wrong_severity_is_refused():
    with pytest.raises(InputError, match="severity 0 of jpeg"):
        settings_of(["jpeg"], [1, 0])


@given(st.lists(st.sampled_from(OF_IMAGES), min_size=1), st.lists(st.sampled_from(SEVERITIES), min_size=1))
def test_every_combination_stands_once(names, severities):
    found = settings_of(names, severities)
    assert len(found) == len(set(found)) == len(set(names)) * len(set(severities))
