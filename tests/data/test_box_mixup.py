"""Mixup of pictures with boxes: the pixels blend, the boxes add up."""

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data.mixing import get_box_mixup
from resnet_tasks.data.randomness import picture_key

GROUP, ROWS = 8, 3
BEFORE = np.roll(np.arange(GROUP), 1)
BOXES = np.arange(GROUP * ROWS * 4, dtype=np.float32).reshape(GROUP, ROWS, 4)
LABELS = np.where(np.arange(ROWS) < 2, np.arange(GROUP)[:, None], -1).astype(np.int32)  # two boxes and a padding


def group(first: int = 0, dtype=tf.float32, size_hw=(6, 10)) -> tuple[dict, tf.Tensor]:
    """Picture i of the group is 30 i everywhere."""
    image = tf.cast(tf.fill([GROUP, *size_hw, 3], 30.0) * np.arange(GROUP)[:, None, None, None], dtype)
    boxes = tf.constant(np.where(LABELS[..., None] >= 0, BOXES, 0), tf.float32)
    values = {"image": image, "boxes": boxes, "labels": tf.constant(LABELS), "weight": tf.ones(GROUP)}
    return values, picture_key(1, 0, first + tf.range(GROUP))


def shares(image) -> np.ndarray:
    """The partners' shares, from the levels."""
    own, partner = 30.0 * np.arange(GROUP), 30.0 * BEFORE
    return (np.asarray(image)[:, 0, 0, 0] - own) / (partner - own)


@pytest.mark.parametrize("dtype", [tf.float32, tf.uint8])
def test_both_pictures_boxes_are_there_where_it_is_mixed_and_padding_elsewhere(dtype):
    mix = tf.function(get_box_mixup(1.5, 0.5), autograph=False)
    whole = 0
    for first in range(0, 200, GROUP):
        given, keys = group(first, dtype)
        out = mix(given, keys)
        mixed = out["labels"].numpy()[:, ROWS] >= 0
        np.testing.assert_array_equal(out["boxes"][:, :ROWS], given["boxes"])
        np.testing.assert_array_equal(out["labels"][:, :ROWS], LABELS)
        np.testing.assert_array_equal(out["labels"][:, ROWS:], np.where(mixed[:, None], LABELS[BEFORE], -1))
        expected = np.where(mixed[:, None, None], given["boxes"].numpy()[BEFORE], 0)
        np.testing.assert_array_equal(out["boxes"][:, ROWS:], expected)
        np.testing.assert_array_equal(out["image"].numpy()[~mixed], given["image"].numpy()[~mixed])
        assert out["image"].dtype == dtype
        assert np.ptp(out["image"].numpy(), axis=(1, 2, 3)).max() == 0
        assert np.all(shares(out["image"])[mixed] > 0)
        assert np.all(shares(out["image"]) <= 1)
        whole += mixed.sum()
    assert whole == pytest.approx(100, abs=5 * 50**0.5)
    assert out["boxes"].shape == (GROUP, 2 * ROWS, 4) and out["labels"].shape == (GROUP, 2 * ROWS)


@pytest.mark.parametrize("alpha", [1.5, 8.0])
def test_lambda_has_the_moments_of_beta(alpha):
    mix = tf.function(get_box_mixup(alpha, 1.0), autograph=False)
    drawn = np.ravel([shares(mix(*group(first, size_hw=(1, 1)))["image"]) for first in range(0, 2400, GROUP)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert drawn.mean() == pytest.approx(0.5, abs=5 * (variance / drawn.size) ** 0.5)
    assert drawn.var() == pytest.approx(variance, rel=0.12)


def test_an_unreadable_picture_is_mixed_into_no_other_and_stays_unreadable():
    given, keys = group()
    weight = np.array([1, 1, 1, 0, 1, 1, 2, 1], np.float32)
    out = get_box_mixup(1.5, 1.0)({**given, "weight": tf.constant(weight)}, keys)
    np.testing.assert_array_equal(out["image"][4], given["image"][4])
    np.testing.assert_array_equal(out["labels"][4], [*LABELS[4], -1, -1, -1])
    np.testing.assert_array_equal(out["boxes"][4, ROWS:], np.zeros((ROWS, 4)))
    share = shares(out["image"])
    expected = (1 - share) * weight + share * weight[BEFORE]
    expected[[3, 4]] = 0, 1
    np.testing.assert_allclose(out["weight"], expected, rtol=1e-5)


def test_without_weights_and_with_other_values_nothing_else_changes():
    given, keys = group()
    weightless = {name: value for name, value in given.items() if name != "weight"} | {"index": tf.range(GROUP)}
    out = get_box_mixup(1.5, 0.5)(weightless, keys)
    np.testing.assert_array_equal(out.pop("index"), np.arange(GROUP))
    for name, value in out.items():
        np.testing.assert_array_equal(value, get_box_mixup(1.5, 0.5)(given, keys)[name])
    untouched = get_box_mixup(1.5, 0.0)(given, keys)
    np.testing.assert_array_equal(untouched["image"], given["image"])
    np.testing.assert_array_equal(untouched["labels"][:, ROWS:], -1)


def test_one_key_one_result_in_eager_mode_and_in_a_graph():
    mix = get_box_mixup(1.5, 0.5)
    noise = tf.constant(np.random.default_rng(0).integers(0, 256, (GROUP, 9, 7, 3)), tf.uint8)
    graph = tf.function(mix, autograph=False)
    images = set()
    for first in (0, 8):
        given, keys = group(first)
        given["image"] = noise
        eager = mix(given, keys)
        for other in (mix(given, keys), graph(given, keys)):
            for name, value in eager.items():
                np.testing.assert_array_equal(value, other[name])
        images.add(eager["image"].numpy().tobytes())
    assert len(images) == 2
