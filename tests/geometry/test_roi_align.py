"""RoIAlign against loops in plain NumPy, by hand on a slope, and its gradient as the adjoint that it is."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from resnet_tasks.geometry.roi_align import roi_align

STRIDES = {"P2": 4, "P3": 8, "P4": 16, "P5": 32}
# On a canvas 96 high and 128 wide.  Inside; over each border; outside; empty; a line; padding; one for each level.
BOXES = np.float32(
    [
        [[10, 12, 50, 40], [-20, -10, 30, 20], [100, 70, 150, 120], [300, 300, 340, 350], [9, 9, 9, 9], [5, 8, 5, 40]],
        [[0, 0, 0, 0], [0, 0, 111, 111], [0, 0, 112, 112], [-50, -50, 180, 190], [-200, -200, 300, 300], [1, 2, 3, 99]],
    ]
)


def pyramid(channels: int = 3, levels=STRIDES, seed: int = 0, dtype=np.float32) -> dict:
    random = np.random.default_rng(seed)
    shapes = {level: (2, 96 // stride, 128 // stride, channels) for level, stride in STRIDES.items() if level in levels}
    return {level: random.normal(size=shape).astype(dtype) for level, shape in shapes.items()}


def read_at(feature, y, x):
    """Between the four neighbours; the border repeats for one cell, and then there is nothing."""
    h, w, channels = feature.shape
    if not (-1 <= y <= h and -1 <= x <= w):
        return np.zeros(channels)
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
    above = feature[top, left] * (left + 1 - x) + feature[top, right] * (x - left)
    below = feature[bottom, left] * (left + 1 - x) + feature[bottom, right] * (x - left)
    return above * (top + 1 - y) + below * (y - top)


def plain(features, boxes, size, samples, aligned) -> np.ndarray:
    """The paper's words as loops, in float64."""
    levels = [int(level[1:]) for level in features]
    out = np.zeros((*boxes.shape[:2], size, size, next(iter(features.values())).shape[-1]))
    for picture, place in np.ndindex(boxes.shape[:2]):
        box = boxes[picture, place].astype(np.float64)
        side = math.sqrt(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))
        level = math.floor(4 + math.log2(max(side, 1e-9) / 224) + 1e-6)
        level = min(max(level, levels[0]), levels[-1])
        left, top, right, bottom = box / 2**level - (0.5 if aligned else 0)
        width, height = (right - left, bottom - top) if aligned else (max(right - left, 1), max(bottom - top, 1))
        feature = features[f"P{level}"][picture].astype(np.float64)
        for i, j, s, t in np.ndindex(size, size, samples, samples):
            y = top + height * (i + (s + 0.5) / samples) / size
            x = left + width * (j + (t + 0.5) / samples) / size
            out[picture, place, i, j] += read_at(feature, y, x) / samples**2
    return out


@pytest.mark.any_backend
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "samples", "levels"), [(3, 2, STRIDES), (2, 3, ("P3", "P4")), (4, 1, ("P4",))])
def test_equals_the_loops(size, samples, levels, aligned, ways):
    features = pyramid(levels=levels)
    expected = plain(features, BOXES, size, samples, aligned)
    assert np.abs(expected[0, 3]).max() == 0 < np.abs(expected[0, 1]).max()

    def align(features, boxes):
        return roi_align(features, boxes, STRIDES, size, samples, aligned=aligned)

    for run in ways(align):
        np.testing.assert_allclose(ops.convert_to_numpy(run(features, BOXES)), expected, atol=2e-5)


def test_a_slope_is_read_where_the_cells_stand():
    """Features that say their own middle, in pixels: the grid's cells then read their own middles."""
    x, y = (np.arange(side) * 4 + 2.0 for side in (32, 24))
    feature = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), -1)[None].astype(np.float32)
    read = roi_align({"P2": feature}, np.float32([[[20, 30, 41, 65]]]), STRIDES, 7, 2)
    columns, rows = 20 + 3 * (np.arange(7) + 0.5), 30 + 5 * (np.arange(7) + 0.5)
    expected = np.stack(np.broadcast_arrays(columns[None, :], rows[:, None]), -1)
    np.testing.assert_allclose(ops.convert_to_numpy(read)[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("side", "level"), [(0, 2), (8, 2), (111.9, 2), (112, 3), (223.9, 3), (224, 4), (447.9, 4), (448, 5), (5000, 5)]
)
def test_a_box_reads_the_level_of_its_size(side, level):
    features = {name: np.full((1, 2, 2, 1), float(name[1:]), np.float32) for name in STRIDES}
    wide = dict.fromkeys(STRIDES, 10_000)  # so that every box lies within its level
    read = roi_align(features, np.float32([[[0, 0, side * 2, side / 2]]]), wide, 1, 1)
    assert ops.convert_to_numpy(read).item() == level


@pytest.mark.any_backend
def test_the_gradient_is_the_adjoint(gradient):
    """The pooled features are linear in the features: <read(f), g> is <f, gradient(g)>, whatever f and g are."""
    features, others = pyramid(), pyramid(seed=1)
    g = np.random.default_rng(2).normal(size=(2, 6, 3, 3, 3)).astype(np.float32)
    for level in STRIDES:

        def weighed(feature, level=level):
            return roi_align({**features, level: feature}, BOXES, STRIDES, 3, 2) * g

        slope = gradient(weighed, features[level]).astype(np.float64)
        moved = plain({**features, level: features[level] + others[level]}, BOXES, 3, 2, True)
        change = ((moved - plain(features, BOXES, 3, 2, True)) * g).sum()
        assert abs(change) > 0.1
        np.testing.assert_allclose((slope * others[level]).sum(), change, rtol=1e-4)


def test_boxes_have_no_gradient(gradient):
    features = pyramid()
    assert np.abs(gradient(lambda boxes: roi_align(features, boxes, STRIDES), BOXES)).max() == 0


@pytest.mark.any_backend
def test_boxes_that_are_no_numbers_read_nothing(ways):
    boxes = np.float32([[[np.nan] * 4, [0, 0, np.inf, np.inf]], [[np.nan, 0, 9, 9], [0, 0, 9, 9]]])
    read = ops.convert_to_numpy(ways(lambda boxes: roi_align(pyramid(), boxes, STRIDES, 3))[-1](boxes))
    assert np.isfinite(read).all()
    assert np.abs(read[0]).max() == 0 < np.abs(read[1, 1]).max()


def test_half_precision_features():
    features = {level: ops.cast(feature, "bfloat16") for level, feature in pyramid().items()}
    read = roi_align(features, BOXES, STRIDES, 3)
    assert keras.backend.standardize_dtype(read.dtype) == "bfloat16"
    rounded = {level: np.asarray(ops.cast(feature, "float32")) for level, feature in features.items()}
    expected = plain(rounded, BOXES, 3, 2, True)
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(read, "float32")), expected, atol=0.03)


def test_in_a_graph_that_knows_no_sizes_and_in_float64():
    import tensorflow as tf

    features, boxes = pyramid(dtype=np.float64), BOXES.astype(np.float64)
    any_size = {level: tf.TensorSpec((None, None, None, 3), tf.float64) for level in STRIDES}
    run = tf.function(
        lambda features, boxes: roi_align(features, boxes, STRIDES, 3),
        input_signature=[any_size, tf.TensorSpec((None, 6, 4), tf.float64)],
    )
    assert run.get_concrete_function().output_shapes.as_list() == [None, 6, 3, 3, 3]
    np.testing.assert_allclose(run(features, boxes), plain(features, boxes, 3, 2, True), rtol=1e-12, atol=1e-12)
