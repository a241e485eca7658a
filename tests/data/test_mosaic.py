"""Mosaics: whose pixels, whose boxes, how often."""

import math

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data import mosaic as module
from resnet_tasks.data.mosaic import get_mosaic
from resnet_tasks.data.placing import FILL, get_letterbox, get_placement
from resnet_tasks.data.randomness import picture_key

SPECS = tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((2,), tf.int32)
OWN = 7
COLOURS = np.array([[number >> 2 & 1, number >> 1 & 1, number & 1] for number in range(8)], np.uint8) * 255


def rectangles() -> tuple[np.ndarray, np.ndarray]:
    """Pictures 1..7 at their places, each a rectangle of its own colour on black, and their boxes."""
    images, boxes = np.zeros((8, 97, 143, 3), np.uint8), np.zeros((8, 4), np.float32)
    for number in range(1, 8):
        left, top, right, bottom = boxes[number] = 12 + 3 * number, 36 - 3 * number, 100 + 4 * number, 84 - 3 * number
        images[number, top:bottom, left:right] = COLOURS[number]
    return images, boxes


def flat(index, size_hw=(40, 60), level=None) -> dict:
    """A picture of one level, with a box all over it whose label is the index."""
    level = tf.cast(index if level is None else level, tf.uint8)
    return {
        "image": tf.ensure_shape(tf.fill([*size_hw, 3], level), (*size_hw, 3)),
        "boxes": tf.constant([[0, 0, size_hw[1], size_hw[0]]], tf.float32),
        "labels": tf.reshape(tf.cast(index, tf.int32), [1]),
        "weight": tf.constant(1.0),
    }


def drawn(operation, given: dict, count: int) -> list[dict]:
    """The example under `count` keys, in parallel, and without AutoGraph, as our pipelines run."""
    plain = tf.autograph.experimental.do_not_convert(lambda index: operation(given, picture_key(6, 0, index)))
    return list(tf.data.Dataset.range(count).map(plain, num_parallel_calls=2).as_numpy_iterator())


def eager(operation, given: dict, count: int) -> list[dict]:
    """The same, one by one; less work for a few keys."""
    outs = (operation(given, picture_key(6, 0, index)) for index in range(count))
    return [{name: np.asarray(value) for name, value in out.items()} for out in outs]


def assert_uniform(draws, low: float, high: float):
    draws, spread = np.asarray(draws), high - low
    assert draws.min() >= low - 1e-3
    assert draws.max() <= high + 1e-3
    assert draws.mean() == pytest.approx((low + high) / 2, abs=5 * spread / (12 * draws.size) ** 0.5)
    assert draws.var() == pytest.approx(spread**2 / 12, rel=0.15)


def test_a_box_is_where_its_pixels_are():
    images, boxes = (tf.constant(values) for values in rectangles())

    def read(number):
        """Its rectangle's label is the picture's number; that of a box all over it, 10 more."""
        both = tf.stack([boxes[number], [0.0, 0.0, 143.0, 97.0], [0.0, 0.0, 0.0, 0.0]])
        labels = tf.stack([number, number + 10, -1])
        return {"image": images[number], "boxes": both, "labels": tf.cast(labels, tf.int32), "weight": tf.constant(1.0)}

    place = get_placement((90, 112), 9, scale=(0.5, 2.0), min_visible=0.0)
    mosaic = get_mosaic(
        (90, 112), 9, fetch=lambda index: read(index + 1), count=6, probability=0.8, scale=(0.3, 1.5), otherwise=place,
        min_visible=0.0,
    )  # fmt: skip
    errors, alone = [], 0
    for out in drawn(mosaic, read(tf.constant(OWN, tf.int64)), 300):
        labels = out["labels"][out["labels"] >= 0]
        pictures = labels[labels > 10] - 10
        assert OWN in pictures and len(pictures) in (1, 4)
        alone += len(pictures) == 1
        if len(set(pictures)) < len(pictures):
            continue  # one colour twice
        for box, label in zip(out["boxes"], labels, strict=False):
            if label < 10 and np.min(box[2:] - box[:2]) > 3:
                rows, columns = np.nonzero(np.all((out["image"] > 127) == (COLOURS[label] > 0), -1))
                errors.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] - box)
                assert np.abs(errors[-1]).max() <= 0.51, "half a pixel, and the hair at the picture's edge"
        np.testing.assert_array_equal(out["boxes"][len(labels) :], 0)
    assert alone == pytest.approx(60, abs=5 * (300 * 0.16) ** 0.5)
    assert len(errors) > 300
    assert np.abs(np.mean(errors, 0)).max() < 5 * (1 / 12 / len(errors)) ** 0.5


def test_pictures_of_a_mosaic_are_drawn_alike_often_and_so_are_mosaics():
    mosaic = get_mosaic(
        (16, 16), 4, fetch=flat, count=10, probability=0.4, otherwise=get_letterbox((16, 16), 4), min_visible=0.0
    )
    labels = np.array([out["labels"] for out in drawn(mosaic, flat(99), 2000)])
    is_mosaic = labels[:, 1] >= 0
    assert is_mosaic.sum() == pytest.approx(800, abs=5 * (2000 * 0.24) ** 0.5)
    np.testing.assert_array_equal(labels[~is_mosaic], np.tile([99, -1, -1, -1], (np.sum(~is_mosaic), 1)))
    np.testing.assert_array_equal(labels[is_mosaic][:, 0], 99)
    for partners in labels[is_mosaic][:, 1:].T:
        counts = np.bincount(partners, minlength=10)
        assert np.abs(counts - counts.sum() / 10).max() < 5 * (counts.sum() * 0.09) ** 0.5


def test_the_centre_is_uniform_in_the_middle_half_and_the_picture_itself_at_the_top_left():
    mosaic = get_mosaic(
        (200, 100), 4, fetch=lambda index: flat(index, level=index + 1), count=200, probability=1.0, scale=(8.0, 9.0),
        otherwise=get_letterbox((200, 100), 4), min_visible=0.0,
    )  # fmt: skip
    heights, widths = [], []
    for out in drawn(mosaic, flat(255), 400):
        own = out["image"][..., 0] == 255
        heights.append(own[:, 0].sum() / 200)
        widths.append(own[0].sum() / 100)
        y, x = own[:, 0].sum(), own[0].sum()
        assert own.sum() == y * x and own[:y, :x].all()
        for level, part in zip(out["labels"][1:] + 1, (own[:y, x:], own[y:, :x], own[y:, x:]), strict=True):
            assert not part.any()
            assert 1 <= level <= 200
        np.testing.assert_array_equal(out["image"][[0, -1, -1], [-1, 0, -1], 0], out["labels"][1:] + 1)
        np.testing.assert_array_equal(out["boxes"], [[0, 0, x, y], [x, 0, 100, y], [0, y, x, 200], [x, y, 100, 200]])
    assert_uniform(heights, 0.25, 0.75)
    assert_uniform(widths, 0.25, 0.75)


def test_factors_are_log_uniform_and_each_pictures_own():
    # Of a canvas of 100 x 100 the letterbox of 40 x 60 is 100 wide; at 0.24 and less it fits into every quadrant.
    mosaic = get_mosaic(
        (100, 100), 4, fetch=flat, count=5, probability=1.0, scale=(0.12, 0.24), otherwise=get_letterbox((100, 100), 4)
    )
    outs = drawn(mosaic, flat(9), 600)
    factors = np.array([(out["boxes"][:, 2] - out["boxes"][:, 0]) / 100 for out in outs])
    for column in factors.T:
        assert_uniform(np.log(column), math.log(0.12), math.log(0.24))
    assert np.abs(np.corrcoef(factors.T) - np.eye(4)).max() < 5 / 600**0.5
    for out in outs[:20]:
        covered = np.any(out["image"] != FILL, -1)
        expected = sum(np.prod(box[2:] - box[:2]) for box in out["boxes"])
        assert covered.sum() == pytest.approx(expected, rel=0.15), "the rest is grey"


def test_an_unreadable_partner_leaves_its_quadrant_grey():
    def fetch(index):
        return {**flat(index), "image": tf.zeros([1, 1, 3], tf.uint8), "weight": tf.constant(0.0)}

    mosaic = get_mosaic(
        (40, 60), 4, fetch=fetch, count=5, probability=1.0, scale=(3.0, 4.0), otherwise=get_letterbox((40, 60), 4),
        min_visible=0.0,
    )  # fmt: skip
    for out in eager(mosaic, flat(200), 4):
        np.testing.assert_array_equal(out["labels"], [200, -1, -1, -1])
        left, top, right, bottom = out["boxes"][0].astype(int)
        assert (left, top) == (0, 0)
        expected = np.full((40, 60, 3), FILL)
        expected[:bottom, :right] = 200
        np.testing.assert_array_equal(out["image"], expected)


def test_without_weight_or_luck_nothing_is_fetched_and_the_other_operation_is_taken():
    place = get_placement((24, 30), 3, scale=(0.5, 2.0))

    def fetch(index):
        with tf.control_dependencies([tf.debugging.Assert(index < 0, ["fetched"])]):
            return flat(tf.identity(index))

    for probability, weight in ((1.0, 0.0), (0.0, 1.0)):
        mosaic = get_mosaic((24, 30), 3, fetch=fetch, count=5, probability=probability, otherwise=place)
        given = {**flat(50), "weight": tf.constant(weight), "crowd": tf.constant([False])}
        for out, expected in zip(eager(mosaic, given, 3), eager(place, given, 3), strict=True):
            assert out.keys() == expected.keys()
            for name, value in expected.items():
                np.testing.assert_array_equal(out[name], value)
    unlucky = get_mosaic((24, 30), 3, fetch=fetch, count=5, probability=1.0, otherwise=place)
    with pytest.raises(tf.errors.InvalidArgumentError, match="fetched"):
        eager(unlucky, flat(50), 1)


def test_of_too_many_boxes_the_largest_seen_stay():
    corner = np.random.default_rng(0).uniform(0, 50, (30, 2))
    boxes = np.concatenate([corner, corner + np.random.default_rng(1).uniform(2, 40, (30, 2))], 1).astype(np.float32)

    def fetch(index):
        rows = tf.range(30) + 100 * tf.cast(index, tf.int32)
        return {**flat(index, (90, 90)), "boxes": tf.constant(boxes), "labels": rows}

    given = fetch(tf.constant(9, tf.int64))
    few, all_of_them = (
        get_mosaic((80, 80), most, fetch=fetch, count=9, probability=1.0, otherwise=get_letterbox((80, 80), most))
        for most in (25, 120)
    )
    for some, whole in zip(eager(few, given, 6), eager(all_of_them, given, 6), strict=True):
        np.testing.assert_array_equal(some["image"], whole["image"])
        count = np.sum(whole["labels"] >= 0)
        assert count > 25 and np.all(whole["labels"][count:] == -1)
        area = np.prod(whole["boxes"][:, 2:] - whole["boxes"][:, :2], 1)
        largest = np.sort(np.argsort(-area, kind="stable")[:25])
        np.testing.assert_array_equal(some["labels"], whole["labels"][largest])
        np.testing.assert_array_equal(some["boxes"], whole["boxes"][largest])
        assert len(np.unique(some["labels"] // 100)) > 1, "not of the first picture alone"


def test_one_key_one_result_in_eager_mode_in_a_graph_and_in_parallel():
    pictures = tf.constant(np.random.default_rng(3).integers(0, 256, (5, 33, 47, 3)), tf.uint8)

    def fetch(index):
        return {**flat(index, (33, 47)), "image": pictures[index]}

    place = get_placement((40, 36), 5, scale=(0.5, 2.0))
    mosaic = get_mosaic((40, 36), 5, fetch=fetch, count=5, probability=0.7, otherwise=place)
    given = fetch(tf.constant(2, tf.int64))

    @tf.function(input_signature=SPECS, autograph=False)
    def graph(image, key):
        return mosaic({**given, "image": image}, key)

    for index, in_parallel in enumerate(drawn(mosaic, given, 5)):
        key = picture_key(6, 0, index)
        first = mosaic(given, key)
        for other in (mosaic(given, key), graph(given["image"], key), in_parallel):
            for name, value in first.items():
                np.testing.assert_array_equal(value, other[name])
    static = graph.get_concrete_function().structured_outputs
    assert static["image"].shape == (40, 36, 3) and static["boxes"].shape == (5, 4) and static["labels"].shape == (5,)


def test_the_smallest_canvas_has_four_quadrants():
    for draws in ([0.0, 0.0], [0.999, 0.0], [0.999, 0.999]):
        starts = set()
        for start, size in module.quadrants(tf.constant(draws), (2, 2)):
            np.testing.assert_array_equal(size, [1, 1])
            starts.add(tuple(start.numpy()))
        assert starts == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_wrong_parameters_are_refused():
    with pytest.raises(ValueError, match="factors above 0"):
        get_mosaic((9, 9), 1, fetch=flat, count=1, probability=1.0, otherwise=flat, scale=(0.0, 1.0))
