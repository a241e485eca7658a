"""RandAugment's operations against Pillow, its draws, colour jitter and erasing."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from resnet_tasks.data import photometric
from resnet_tasks.data.geometric import as_pixels
from resnet_tasks.data.randomness import picture_key

OUTSIDE = (128, 128, 128)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """160 x 120, with levels from 0 to 255 in every channel."""
    return Image.fromarray(load_sample_image("flower.jpg")[100:220, 200:360])


def affine(matrix):
    return lambda picture: picture.transform(picture.size, Image.AFFINE, matrix, Image.BILINEAR, fillcolor=OUTSIDE)


# At magnitude 10 and sign +1, from the ranges of AutoAugment's table 6.
PUBLISHED = {
    "identity": lambda picture: picture,
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "rotate": lambda picture: picture.rotate(30, Image.BILINEAR, fillcolor=OUTSIDE),
    "solarize": lambda picture: ImageOps.solarize(picture, 0),
    "color": lambda picture: ImageEnhance.Color(picture).enhance(1.9),
    "posterize": lambda picture: ImageOps.posterize(picture, 4),
    "contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.9),
    "brightness": lambda picture: ImageEnhance.Brightness(picture).enhance(1.9),
    "sharpness": lambda picture: ImageEnhance.Sharpness(picture).enhance(1.9),
    "shear_x": affine((1, 0.3, 0, 0, 1, 0)),
    "shear_y": affine((1, 0, 0, 0.3, 1, 0)),
    "translate_x": affine((1, 0, -160 * 150 / 331, 0, 1, 0)),
    "translate_y": affine((1, 0, 0, 0, 1, -120 * 150 / 331)),
}
# Pillow cuts levels off where we round, and its bilinear seam does not fade into what is outside.
SEAMS = {"rotate": 0.03, "shear_x": 0.03, "shear_y": 0.03, "translate_x": 0.01, "translate_y": 0.01}


def apply(name: str, picture: Image.Image, level: float, sign: float) -> np.ndarray:
    image = tf.constant(np.asarray(picture), tf.float32)
    return as_pixels(photometric.distortions(level)[name](image, tf.constant(sign)), tf.uint8).numpy().astype(int)


def test_there_are_the_fourteen_operations_of_the_paper():
    assert list(photometric.distortions(0.9)) == list(PUBLISHED)
    assert len(PUBLISHED) == 14


@pytest.mark.parametrize("name", PUBLISHED)
def test_at_full_magnitude_an_operation_is_pillows(photograph, name):
    error = np.abs(apply(name, photograph, 1.0, 1.0) - np.asarray(PUBLISHED[name](photograph)))
    assert (error > 2).any(-1).mean() <= SEAMS.get(name, 0.0)
    assert error.mean() < 1.0
    if name != "identity":
        assert np.abs(np.asarray(photograph).astype(int) - apply(name, photograph, 1.0, 1.0)).mean() > 1.0


@pytest.mark.parametrize("name", ["color", "contrast", "brightness", "sharpness"])
def test_the_other_sign_enhances_by_one_tenth(photograph, name):
    expected = getattr(ImageEnhance, name.capitalize())(photograph).enhance(0.1)
    assert np.abs(apply(name, photograph, 1.0, -1.0) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() - {"autocontrast", "equalize"}))
def test_magnitude_zero_changes_nothing(photograph, name):
    np.testing.assert_array_equal(apply(name, photograph, 0.0, -1.0), np.asarray(photograph))


def test_rotations_and_shifts_of_both_signs_mirror_each_other(photograph):
    mirrored = Image.fromarray(np.asarray(photograph)[:, ::-1].copy())
    for name in ("rotate", "translate_x"):
        error = apply(name, photograph, 0.7, -1.0) - apply(name, mirrored, 0.7, 1.0)[:, ::-1]
        assert np.abs(error).max() <= 2


def test_rand_augment_draws_every_operation_alike_often():
    """By how many different pictures come of one, and how often each."""
    picture = tf.constant(np.random.default_rng(0).integers(20, 230, (16, 16, 3)), tf.uint8)
    operation = photometric.get_rand_augment(1, 10)
    dataset = tf.data.Dataset.range(1400).map(lambda i: operation({"image": picture}, picture_key(0, 0, i))["image"])
    counts: dict[bytes, int] = {}
    for image in dataset.as_numpy_iterator():
        counts[image.tobytes()] = counts.get(image.tobytes(), 0) + 1
    # 5 without a sign (identity, autocontrast, equalize, solarize, posterize) and 9 with one.
    assert len(counts) == 5 + 2 * 9
    assert counts[picture.numpy().tobytes()] == pytest.approx(100, abs=5 * (1400 / 14) ** 0.5)
    by_count = np.sort(list(counts.values()))
    assert by_count[:18].mean() == pytest.approx(50, abs=8)
    assert by_count[18:].mean() == pytest.approx(100, abs=16)


def test_two_layers_are_one_after_the_other(photograph):
    """Where the first layer alone keeps the picture the second still changes it, and the layers draw apart."""
    image = {"image": tf.constant(np.asarray(photograph))}
    one, two = photometric.get_rand_augment(1, 9), photometric.get_rand_augment(2, 9)

    def both(index):
        key = picture_key(2, 0, index)
        return one(image, key)["image"], two(image, key)["image"]

    pairs = list(tf.data.Dataset.range(30).map(both).as_numpy_iterator())
    assert sum(not np.array_equal(first, second) for first, second in pairs) > 22
    none = photometric.get_rand_augment(0, 9)(image, picture_key(2, 0, 0))
    np.testing.assert_array_equal(none["image"], image["image"])


def test_a_magnitude_out_of_range_is_refused():
    with pytest.raises(ValueError, match="0 to 10; got 11"):
        photometric.get_rand_augment(2, 11)


def test_color_jitter_scales_brightness_by_uniform_factors():
    """A grey picture knows neither contrast nor saturation: what is left is brightness."""
    picture = tf.fill([4, 4, 3], 100.0)
    jitter = photometric.get_color_jitter(0.4)
    dataset = tf.data.Dataset.range(1500).map(lambda i: jitter({"image": picture}, picture_key(1, 0, i))["image"])
    images = np.array(list(dataset.as_numpy_iterator()))
    assert images.std((1, 2, 3)).max() < 1e-3
    factors = images[:, 0, 0, 0] / 100
    assert factors.min() > 0.6 - 1e-4
    assert factors.max() < 1.4 + 1e-4
    assert factors.mean() == pytest.approx(1.0, abs=0.03)
    assert factors.std() == pytest.approx(0.8 / 12**0.5, rel=0.08)


def test_color_jitter_of_strength_zero_changes_nothing_and_one_reaches_all_three(photograph):
    image = tf.constant(np.asarray(photograph))
    key = picture_key(1, 0, 0)
    np.testing.assert_array_equal(photometric.get_color_jitter(0.0)({"image": image}, key)["image"], image)
    jitter = photometric.get_color_jitter(1.0)
    dataset = tf.data.Dataset.range(40).map(lambda i: jitter({"image": image}, picture_key(1, 0, i))["image"])
    images = np.array(list(dataset.as_numpy_iterator()), float)
    level, spread = images.mean((1, 2, 3)), images.mean(-1).std((1, 2))
    chroma = images.std(-1).mean((1, 2))
    assert level.std() > 20
    assert (spread / level).std() > 0.1
    assert (chroma / level).std() > 0.1


def erased(probability: float, count: int, **parameters) -> np.ndarray:
    """Which pixels of a picture of a level that noise does not have were erased: bool `(count, 40, 50)`."""
    operation = photometric.get_random_erasing(probability, **parameters)
    picture = tf.fill([40, 50, 3], 77.5)
    dataset = tf.data.Dataset.range(count).map(lambda i: operation({"image": picture}, picture_key(6, 0, i))["image"])
    images = np.array(list(dataset.as_numpy_iterator()))
    changed = images != 77.5
    noise = images[changed]
    assert noise.min() >= 0
    assert noise.max() <= 255
    assert noise.mean() == pytest.approx(127.5, abs=2)
    assert noise.std() == pytest.approx(256 / 12**0.5, abs=2)
    return changed.all(-1)


def test_erasing_covers_one_window_of_the_area_and_ratio_asked_for():
    windows = erased(1.0, 600)
    heights, widths = windows.any(2).sum(1), windows.any(1).sum(1)
    np.testing.assert_array_equal(windows.sum((1, 2)), heights * widths)
    areas = heights * widths / 2000
    assert areas.min() > 0.016, "0.02, less the rounding of sides"
    assert areas.max() < 0.345
    assert areas.mean() == pytest.approx(0.175, abs=0.02)
    assert (widths / heights).min() > 0.24
    assert (widths / heights).max() < 4.0


@pytest.mark.parametrize("probability", [0.25, 0.9])
def test_erasing_happens_with_its_probability(probability):
    hits = erased(probability, 1500).any((1, 2)).sum()
    assert hits == pytest.approx(1500 * probability, abs=5 * (1500 * probability * (1 - probability)) ** 0.5)


def test_where_no_window_fits_nothing_is_erased():
    operation = photometric.get_random_erasing(1.0, scale=(0.9, 1.0), ratio=(4.0, 5.0))
    picture = tf.fill([40, 40, 3], 77.5)
    np.testing.assert_array_equal(operation({"image": picture}, picture_key(0, 0, 0))["image"], picture)
