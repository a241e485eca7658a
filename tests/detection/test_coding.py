"""Boxes as offsets, as distances, and as distributions: by hand, there and back again, and against torchvision."""

import math

import numpy as np
import pytest
from keras import ops
from other_process import computed
from tiny_detectors import compiled, gradient

from resnet_tasks.detection.coding import MOST_GROWTH, decode, encode, expectation, from_distances, to_distances

SCALE = (10.0, 10.0, 5.0, 5.0)
TORCH = """
import torch
from torchvision.models.detection._utils import BoxCoder
coder = BoxCoder(tuple(given["scale"].tolist()))
anchors, boxes, offsets = (torch.from_numpy(given[name]) for name in ("anchors", "boxes", "offsets"))
answer["encoded"] = coder.encode_single(boxes, anchors).numpy()
answer["decoded"] = coder.decode_single(offsets, anchors).numpy()
"""


def number(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


def random_boxes(seed: int, *shape: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    corner = random.uniform(-50, 500, (*shape, 2))
    return np.concatenate([corner, corner + random.uniform(1, 300, (*shape, 2))], axis=-1).astype(np.float32)


@pytest.mark.any_backend
def test_offsets_by_hand():
    # From the middle (5, 10) of a 10 x 20 anchor to (15, 10) of a 20 x 10 box: one width, no height, twice and half.
    anchor, box = np.float32([[0, 0, 10, 20]]), np.float32([[5, 5, 25, 15]])
    np.testing.assert_allclose(number(compiled(encode)(anchor, box)), [[1, 0, math.log(2), -math.log(2)]], atol=1e-6)
    scaled = [[10, 0, 5 * math.log(2), -5 * math.log(2)]]
    np.testing.assert_allclose(number(compiled(encode)(anchor, box, SCALE)), scaled, atol=1e-5)
    np.testing.assert_allclose(number(compiled(decode)(anchor, np.zeros((1, 4), np.float32))), anchor)
    quarter = np.float32([[0.5, -0.25, math.log(0.5), 0]])  # 5 right, 5 up, half as wide: centre (10, 5), 5 x 20
    np.testing.assert_allclose(number(compiled(decode)(anchor, quarter)), [[7.5, -5, 12.5, 15]], atol=1e-5)


@pytest.mark.any_backend
@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0, 1.0), SCALE], ids=["plain", "scaled"])
def test_decode_undoes_encode_whatever_the_leading_axes(scale):
    anchors, boxes = random_boxes(0, 9), random_boxes(1, 2, 9)
    offsets = number(compiled(encode)(anchors[None], boxes, scale))
    np.testing.assert_allclose(number(compiled(decode)(anchors[None], offsets, scale)), boxes, atol=1e-3)
    apart = number(compiled(decode)(anchors[None, :, None], offsets[:, :, None], scale))  # as Faster R-CNN's classes do
    np.testing.assert_allclose(apart[:, :, 0], boxes, atol=1e-3)
    back = number(compiled(encode)(anchors[None], decode(anchors[None], 0.5 * offsets, scale), scale))
    np.testing.assert_allclose(back, 0.5 * offsets, atol=1e-3)


@pytest.mark.any_backend
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_sides_grow_at_most_62_and_a_half_times(scale):
    anchor = np.float32([[10, 10, 12, 14]])  # 2 x 4 around (11, 12)
    scales, limit = (1.0, 1.0, scale, scale), scale * MOST_GROWTH
    wild = number(compiled(decode)(anchor, np.float32([[0, 0, 1e4, limit + 1]]), scales))
    np.testing.assert_allclose(wild, [[11 - 62.5, 12 - 125, 11 + 62.5, 12 + 125]], rtol=1e-5)
    tame = number(compiled(decode)(anchor, np.float32([[0, 0, limit - scale * math.log(2), -1e4]]), scales))
    np.testing.assert_allclose(tame, [[11 - 31.25, 12, 11 + 31.25, 12]], rtol=1e-5)
    extreme = np.float32([[1e4, -1e4, 1e4, -1e4]])
    assert np.isfinite(gradient(lambda offsets: ops.sum(decode(anchor, offsets, scales)), extreme)).all()


@pytest.mark.any_backend
def test_distances_by_hand_and_back():
    points, boxes = np.float32([[10, 20], [4, 4]]), np.float32([[7, 15, 18, 40], [5, 0, 9, 3]])
    expected = np.float32([[3, 5, 8, 20], [-1, 4, 5, -1]])  # the second point lies left of its box, and below it
    np.testing.assert_array_equal(number(to_distances(points, boxes)), expected)
    np.testing.assert_array_equal(number(from_distances(points, expected)), boxes)
    batched = np.stack([expected, expected + 1])  # each side one pixel further out
    grown = boxes + np.float32([-1, -1, 1, 1])
    np.testing.assert_array_equal(number(from_distances(points, batched)), np.stack([boxes, grown]))


@pytest.mark.any_backend
def test_the_expectation_is_the_mean_of_the_bins():
    logits = np.zeros((4, 16), np.float32)  # uniform: (0 + ... + 15) / 16 = 7.5
    logits[1, 11] = 1e4  # certain
    logits[2] = -1e4
    logits[2, [4, 5]] = np.log([1, 3])  # (4 + 3 x 5) / 4
    logits[3] += 1e4  # uniform, wherever it lies
    np.testing.assert_allclose(number(compiled(expectation)(logits)), [7.5, 11, 4.75, 7.5], rtol=1e-6)
    # d mean / d logit i = p i (i - mean)
    slope = gradient(lambda values: ops.sum(expectation(values)), logits)
    np.testing.assert_allclose(slope[0], (np.arange(16) - 7.5) / 16, atol=1e-6)
    assert np.isfinite(slope).all()


@pytest.mark.peers
def test_offsets_are_torchvisions():
    random = np.random.default_rng(4)
    given = {"anchors": random_boxes(5, 50), "boxes": random_boxes(6, 50), "scale": np.float64(SCALE)}
    given["offsets"] = random.normal(0, 12, (50, 4)).astype(np.float32)  # some beyond the clamp
    theirs = computed(TORCH, given)
    np.testing.assert_allclose(
        number(compiled(encode)(given["anchors"], given["boxes"], SCALE)), theirs["encoded"], rtol=1e-5, atol=1e-5
    )
    decoded = number(compiled(decode)(given["anchors"], given["offsets"], SCALE))
    np.testing.assert_allclose(decoded, theirs["decoded"], rtol=1e-5, atol=1e-3)
    assert (given["offsets"] / 5 > MOST_GROWTH).any()
