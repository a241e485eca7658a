"""Suppression by fixed point equals the greedy loop, box for box."""

import numpy as np
import pytest
from keras import ops

from resnet_tasks.geometry.suppression import suppress


def greedy(boxes, threshold, valid) -> np.ndarray:
    """One picture, the textbook's way, in float64."""
    boxes, keep = boxes.astype(np.float64), np.zeros(len(boxes), bool)
    for i, box in enumerate(boxes):
        if not valid[i]:
            continue
        kept = boxes[keep]
        sides = np.minimum(kept[:, 2:], box[2:]) - np.maximum(kept[:, :2], box[:2])
        shared = np.maximum(sides, 0).prod(-1)
        union = (kept[:, 2:] - kept[:, :2]).prod(-1) + (box[2:] - box[:2]).prod() - shared
        keep[i] = not (shared > threshold * union).any()
    return keep


def crowd(seed: int, pictures: int, count: int, side: float = 60) -> np.ndarray:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, side, (pictures, count, 2))
    return np.concatenate([corner, corner + random.uniform(5, 30, corner.shape)], -1).astype(np.float32)


@pytest.mark.any_backend
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_equals_the_greedy_loop(threshold, ways):
    boxes, valid = crowd(0, 3, 200), np.random.default_rng(1).random((3, 200)) < 0.8
    valid[2] = False
    expected = np.stack([greedy(boxes[i], threshold, valid[i]) for i in range(3)])
    assert 2 < expected.sum() < valid.sum() - 2  # something stays, and something goes
    for run in ways(lambda boxes, valid: suppress(boxes, threshold, valid)):
        np.testing.assert_array_equal(ops.convert_to_numpy(run(boxes, valid)), expected)


def test_a_chain_takes_as_many_rounds_as_it_has_links():
    """Each box overlaps the next alone, so every other one stays, and the last learns of it last."""
    left = np.arange(64) * 5.0
    chain = np.stack([left, 0 * left, left + 9, 0 * left + 9], -1)[None].astype(np.float32)
    kept = ops.convert_to_numpy(suppress(chain, 0.2, np.ones((1, 64), bool)))
    assert kept[0].tolist() == [True, False] * 32


def test_the_threshold_itself_stays():
    boxes = np.float32([[[0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 4, 4]]])  # IoU 0.5 with the first, and 1
    valid = np.ones((1, 3), bool)
    assert ops.convert_to_numpy(suppress(boxes, 0.5, valid)).tolist() == [[True, True, False]]
    assert ops.convert_to_numpy(suppress(boxes, 0.49, valid)).tolist() == [[True, False, False]]


def test_padding_neither_stays_nor_drops():
    boxes = np.float32([[[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 0, 0], [0, 0, 0, 0]]])
    for valid in ([False, True, True, False], [False, True, False, False], [False] * 4):
        assert ops.convert_to_numpy(suppress(boxes, 0.5, np.array([valid]))).tolist() == [valid]


@pytest.mark.any_backend
def test_does_not_stand_in_the_way_of_gradients(gradient):
    """A loss in which the kept boxes appear can be differentiated, though the loop cannot."""
    boxes = np.float32([[[0, 0, 4, 4], [0, 0, 4, 3], [9, 9, 12, 12]]])

    def kept_only(boxes):
        return boxes * ops.cast(suppress(boxes, 0.5, ops.ones((1, 3), "bool")), "float32")[..., None]

    assert gradient(kept_only, boxes).tolist() == [[[1] * 4, [0] * 4, [1] * 4]]
