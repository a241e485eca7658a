"""Overlaps: by hand, against plain NumPy, and finite where a careless formula is not."""

import math

import numpy as np
import pytest
from keras import ops

from resnet_tasks.geometry.overlap import intersection, iou, paired_ciou, paired_giou, paired_iou

PAIRED = [paired_iou, paired_giou, paired_ciou]
# Empty, turned, a line, a speck, equal to the other, touching it, around it, far, and farther.
AWKWARD = np.array(
    [
        [0, 0, 0, 0], [8, 8, 2, 2], [2, 2, 2, 8], [0, 0, 1e-12, 1e-12], [2, 2, 8, 8], [8, 2, 14, 8],
        [0, 0, 10, 10], [1e6, 1e6, 1e6 + 1, 1e6 + 1], [-1e9, -1e9, 1e9, 1e9], [-1e9, -1e9, -9e8, -9e8],
        [2, 2, 1e9, 2.0001],
    ],
    np.float32,
)  # fmt: skip
TURNED = 1


def number(tensor):
    return ops.convert_to_numpy(tensor)


def random_boxes(seed: int, *shape: int) -> np.ndarray:
    """Some of them turned."""
    corners = np.random.default_rng(seed).uniform(0, 20, (*shape, 4))
    corners[..., 2:] = corners[..., :2] + np.random.default_rng(seed + 1).uniform(-1, 9, (*shape, 2))
    return corners.astype(np.float32)


def plain(a, b) -> dict[str, float]:
    """The same for one pair of boxes, in float64, as the papers write it."""
    a, b = (np.asarray(box, np.float64) for box in (a, b))
    size = [max(box[2] - box[0], 0) * max(box[3] - box[1], 0) for box in (a, b)]
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = sum(size) - shared
    around = [max(max(a[2], b[2]) - min(a[0], b[0]), 0), max(max(a[3], b[3]) - min(a[1], b[1]), 0)]
    overlap = shared / union if union else 0.0
    apart = math.hypot((a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2) / math.hypot(*around)
    turned = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)] if min(size) else [0, 0]
    v = 4 / math.pi**2 * (turned[0] - turned[1]) ** 2
    alpha = v / (1 - overlap + v) if v else 0.0
    return {
        "intersection": shared,
        "iou": overlap,
        "giou": overlap - (math.prod(around) - union) / math.prod(around),
        "ciou": overlap - apart**2 - alpha * v,
        "alpha": alpha,
    }


def test_by_hand():
    # 4 x 4 at the origin, and 4 x 2 shifted by 2: they share 2 x 2; the union is 16 + 8 - 4 = 20.
    a, b = np.float32([[0, 0, 4, 4]]), np.float32([[2, 2, 6, 4], [0, 0, 4, 4], [4, 0, 8, 4]])
    np.testing.assert_array_equal(number(intersection(a, b)), [[4, 16, 0]])
    np.testing.assert_allclose(number(iou(a, b)), [[4 / 20, 1, 0]])
    # Around them: 6 x 4, 4 x 4, 8 x 4.  Centres: 2 and 1 apart; 0; 4.
    np.testing.assert_allclose(number(paired_giou(a, b)), [0.2 - 4 / 24, 1, 0], atol=1e-7)
    v = 4 / np.pi**2 * (np.pi / 4 - np.arctan(2)) ** 2
    np.testing.assert_allclose(
        number(paired_ciou(a, b)), [0.2 - 5 / 52 - v * v / (0.8 + v), 1, -16 / 80], rtol=1e-6, atol=1e-7
    )


@pytest.mark.any_backend
@pytest.mark.parametrize("function", [intersection, iou])
def test_all_with_all(function, ways):
    a, b = random_boxes(0, 3, 7), random_boxes(5, 3, 4)
    expected = [[[plain(x, y)[function.__name__] for y in b[i]] for x in a[i]] for i in range(3)]
    for run in ways(function):
        np.testing.assert_allclose(number(run(a, b)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize("function", PAIRED)
def test_pairs(function, ways):
    a, b = random_boxes(0, 3, 7), random_boxes(5, 3, 7)
    name = function.__name__.removeprefix("paired_")
    expected = [[plain(x, y)[name] for x, y in zip(*pictures)] for pictures in zip(a, b)]
    for run in ways(function):
        np.testing.assert_allclose(number(run(a, b)), expected, rtol=1e-4, atol=1e-5)


def test_nothing_overlaps_nothing():
    empty = np.float32([[0, 0, 0, 0], [3, 3, 3, 7], [5, 5, 2, 2]])
    for function in (intersection, iou):
        np.testing.assert_array_equal(number(function(empty, empty)), np.zeros((3, 3)))
    assert number(paired_giou(empty[:1], empty[:1])).tolist() == [0]
    assert number(paired_ciou(empty[:1], empty[:1])).tolist() == [0]


@pytest.mark.any_backend
@pytest.mark.parametrize("function", PAIRED)
def test_values_and_gradients_are_finite(function, gradient, ways):
    a, b = (np.ascontiguousarray(x) for x in np.broadcast_arrays(AWKWARD[:, None], AWKWARD[None]))
    values = number(ways(function)[-1](a, b))
    assert np.isfinite(values).all()
    assert values.max() <= 1 + 1e-6
    proper = np.delete(np.delete(values, TURNED, 0), TURNED, 1)
    assert proper.min() >= {"paired_iou": 0, "paired_giou": -1, "paired_ciou": -2}[function.__name__] - 1e-6
    assert np.isfinite(gradient(function, a, b)).all()
    assert np.isfinite(gradient(lambda b, a: function(a, b), b, a)).all()


def test_pairwise_gradients_are_finite(gradient):
    assert np.isfinite(number(iou(AWKWARD, AWKWARD))).all()
    assert np.isfinite(gradient(iou, AWKWARD, AWKWARD)).all()


@pytest.mark.parametrize("name", ["iou", "giou", "ciou"])
def test_gradients_are_the_slopes(name, gradient):
    function = {"iou": paired_iou, "giou": paired_giou, "ciou": paired_ciou}[name]
    a, b = np.float32([[1, 2, 7, 9], [0, 0, 3, 4]]), np.float32([[3, 1, 9, 6], [5, 6, 9, 7]])
    slopes = np.zeros((2, 4))
    for row, column in np.ndindex(2, 4):
        at = {}
        for step in (-1e-5, 1e-5):
            moved = a[row].astype(np.float64)
            moved[column] += step
            at[step] = plain(moved, b[row])
        slopes[row, column] = (at[1e-5][name] - at[-1e-5][name]) / 2e-5
        if name == "ciou":  # alpha has no gradient: take out v * d(alpha), with v = (1 - iou) alpha / (1 - alpha)
            here = plain(a[row], b[row])
            v = (1 - here["iou"]) * here["alpha"] / (1 - here["alpha"])
            slopes[row, column] += v * (at[1e-5]["alpha"] - at[-1e-5]["alpha"]) / 2e-5
    np.testing.assert_allclose(gradient(function, a, b), slopes, rtol=1e-3, atol=1e-5)


def test_float64_stays_float64():
    a, b = random_boxes(0, 6).astype(np.float64), random_boxes(5, 6).astype(np.float64)
    for function in PAIRED:
        expected = [plain(x, y)[function.__name__.removeprefix("paired_")] for x, y in zip(a, b)]
        assert function(a, b).dtype == np.float64
        np.testing.assert_allclose(function(a, b), expected, rtol=1e-12, atol=1e-12)
