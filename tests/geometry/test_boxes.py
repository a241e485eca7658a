"""Orders of boxes, their area, and the canvas they are clipped to: worked out by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from resnet_tasks.geometry.boxes import area, clip, cxcywh_to_xyxy, xywh_to_xyxy, xyxy_to_cxcywh, xyxy_to_xywh

pytestmark = pytest.mark.any_backend

XYXY = np.array([[[1, 2, 4, 8], [0, 0, 1, 1]], [[-3, 5, 0, 6], [2, 2, 2, 2]]], np.float32)
XYWH = np.array([[[1, 2, 3, 6], [0, 0, 1, 1]], [[-3, 5, 3, 1], [2, 2, 0, 0]]], np.float32)
CXCYWH = np.array([[[2.5, 5, 3, 6], [0.5, 0.5, 1, 1]], [[-1.5, 5.5, 3, 1], [2, 2, 0, 0]]], np.float32)


@pytest.mark.parametrize(
    ("convert", "given", "expected"),
    [
        (xywh_to_xyxy, XYWH, XYXY),
        (xyxy_to_xywh, XYXY, XYWH),
        (cxcywh_to_xyxy, CXCYWH, XYXY),
        (xyxy_to_cxcywh, XYXY, CXCYWH),
    ],
)
def test_orders(convert, given, expected):
    np.testing.assert_array_equal(ops.convert_to_numpy(convert(ops.convert_to_tensor(given))), expected)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="has no float64 unless asked")
def test_float64_stays_float64():
    boxes = np.random.default_rng(0).uniform(0, 100, (5, 4)) + 1e-9
    for there, back in ((xyxy_to_xywh, xywh_to_xyxy), (xyxy_to_cxcywh, cxcywh_to_xyxy)):
        np.testing.assert_allclose(back(there(boxes)), boxes, rtol=1e-14)
    assert area(boxes).dtype == clip(boxes, 50, 50).dtype == np.float64


def test_area():
    boxes = np.array([[1, 2, 4, 8], [4, 2, 1, 8], [1, 8, 4, 2], [4, 8, 1, 2], [3, 3, 3, 9]], np.float32)
    assert ops.convert_to_numpy(area(boxes)).tolist() == [18, 0, 0, 0, 0]


def test_clip_to_one_canvas():
    boxes = np.array([[-5, -6, 7, 8], [1, 2, 99, 98], [30, 40, 50, 60], [-9, 3, -1, 5]], np.float32)
    expected = [[0, 0, 7, 8], [1, 2, 20, 10], [20, 10, 20, 10], [0, 3, 0, 5]]
    assert ops.convert_to_numpy(clip(boxes, 10, 20)).tolist() == expected


def test_clip_to_a_canvas_for_each_picture():
    boxes = np.tile(np.float32([-5, -6, 70, 80]), (2, 3, 1))
    height, width = np.float32([[10], [30]]), np.float32([[20], [40]])
    clipped = ops.convert_to_numpy(clip(boxes, height, width))
    assert clipped.tolist() == [[[0, 0, 20, 10]] * 3, [[0, 0, 40, 30]] * 3]
