"""Boundary F1: worked out by hand, and against distances that SciPy measures pixel by pixel."""

import time

import numpy as np
import pytest
from scipy import ndimage

from resnet_tasks.data.masks import IGNORE
from resnet_tasks.segmentation import boundary
from resnet_tasks.segmentation.boundary import boundary_f1, near_squared

CROSS = ndimage.generate_binary_structure(2, 1)


def reference(truth: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    """By distance transforms, class by class."""
    scores = np.full(classes, np.nan)
    valid = truth != IGNORE
    tolerance = max(1.0, 0.0075 * np.hypot(*truth.shape))
    for label in range(classes):
        regions = [(mask == label) & valid for mask in (truth, answer)]
        if not any(region.any() for region in regions):
            continue
        true, said = (region & ~ndimage.binary_erosion(region, CROSS, border_value=1) for region in regions)
        if not (regions[0].any() and regions[1].any()):
            scores[label] = 0
        elif not true.any() or not said.any():
            scores[label] = float(not true.any() and not said.any())
        else:
            hits = [
                (ndimage.distance_transform_edt(~other)[own] <= tolerance + 1e-9).mean()
                for own, other in ((said, true), (true, said))
            ]
            scores[label] = 2 * hits[0] * hits[1] / (sum(hits) or 1)
    return scores


def blobs(random: np.random.Generator, shape: tuple[int, int], classes: int, smooth: float, void=0.0) -> np.ndarray:
    """A mask of smooth regions, some of it void."""
    levels = [ndimage.gaussian_filter(random.normal(size=shape), smooth) for _ in range(classes)]
    mask = np.argmax(levels, axis=0).astype(np.uint8)
    if void:
        level = ndimage.gaussian_filter(random.normal(size=shape), smooth)
        mask[level < np.quantile(level, void)] = IGNORE
    return mask


def pair(random: np.random.Generator, shape, classes, smooth, void=0.0) -> tuple[np.ndarray, np.ndarray]:
    """A truth and an answer that is it moved by some pixels, with patches of its own."""
    truth = blobs(random, shape, classes, smooth, void)
    answer = np.roll(np.where(truth == IGNORE, 0, truth), random.integers(-6, 7, 2), (0, 1)).astype(np.uint8)
    other = blobs(random, shape, classes, smooth)
    changed = ndimage.gaussian_filter(random.normal(size=shape), 2 * smooth)
    return truth, np.where(changed > np.quantile(changed, 0.8), other, answer)


@pytest.mark.parametrize(
    ("shape", "classes", "smooth", "void"),
    [
        ((90, 120), 3, 5, 0.0),  # tolerance 1.125
        ((300, 400), 11, 10, 0.1),  # 3.75
        ((480, 640), 5, 14, 0.1),  # 6 exactly: pixels 6 apart are near
        ((31, 700), 4, 4, 0.05),  # 5.25
        ((5, 2000), 3, 3, 0.0),  # 15.0: the disc is higher than the picture
        ((2000, 5), 3, 3, 0.0),
        ((120, 90), 150, 2, 0.1),  # three groups of 64
        ((60, 60), 255, 0.5, 0.2),  # as many as there can be, of single pixels
        ((64, 64), 9, 0.0001, 0.1),  # noise
        ((1, 1), 2, 1, 0.0),
        ((1, 50), 2, 2, 0.0),
    ],
)
def test_distances_measured_pixel_by_pixel_give_the_same(shape, classes, smooth, void):
    random = np.random.default_rng(7)
    for _ in range(3):
        truth, answer = pair(random, shape, classes, smooth, void)
        expected = reference(truth, answer, classes)
        np.testing.assert_allclose(boundary_f1(truth, answer, classes), expected, rtol=0, atol=1e-12)


def test_the_disc_is_exact_at_every_radius():
    for limit in (1, 2, 4, 5, 20, 25, 49, 50, 81):
        bits = np.zeros((41, 31), np.uint8)
        bits[20, 12] = 1
        bits[3, 29] = 2
        y, x = np.mgrid[:41, :31]
        expected = ((y - 20) ** 2 + (x - 12) ** 2 <= limit) + 2 * ((y - 3) ** 2 + (x - 29) ** 2 <= limit)
        np.testing.assert_array_equal(boundary._spread(bits, limit), expected)


def test_how_near_is_near():
    assert near_squared((480, 640)) == 36  # 0.75 % of 800 is 6
    assert near_squared((360, 480)) == 20  # of 600 it is 4.5, squared 20.25
    assert near_squared((10, 10)) == 1  # at least a pixel


def halves(column: int, shape=(100, 100)) -> np.ndarray:
    """Class 0 on the left of a column, 1 from there on."""
    mask = np.zeros(shape, np.uint8)
    mask[:, column:] = 1
    return mask


def test_by_hand():
    # The diagonal is 141.4, near is 1.06 pixels: dx² + dy² <= 1.
    np.testing.assert_array_equal(boundary_f1(halves(50), halves(50), 3), [1, 1, np.nan])
    np.testing.assert_array_equal(boundary_f1(halves(50), halves(51), 2), [1, 1])
    np.testing.assert_array_equal(boundary_f1(halves(50), halves(52), 2), [0, 0])
    # The lower half of the answer's border is 2 pixels too far.
    answer = halves(50)
    answer[50:, 50:52] = 0
    # Class 0 has its boundary in column 49 in rows 0..49, in column 51 in rows 50..99, and at (50, 50), the step: 101
    # pixels, of which the first 50 and the step are near the true column 49.  Of the true 100 those in rows 0..49 are
    # near, and that in row 50, below the last of them.  Class 1 is the same upside down, its step at (49, 51).
    precision, recall = 51 / 101, 51 / 100
    expected = 2 * precision * recall / (precision + recall)
    np.testing.assert_allclose(boundary_f1(halves(50), answer, 2), [expected] * 2, rtol=0, atol=1e-12)


def test_a_class_of_one_of_the_two_has_0_and_of_none_nothing():
    truth, answer = halves(50), halves(50)
    answer[answer == 1] = 2
    np.testing.assert_array_equal(boundary_f1(truth, answer, 4), [1, 0, 0, np.nan])


def test_a_class_that_fills_the_picture():
    whole = np.zeros((50, 50), np.uint8)
    np.testing.assert_array_equal(boundary_f1(whole, whole, 2), [1, np.nan])
    np.testing.assert_array_equal(boundary_f1(whole, halves(20, (50, 50)), 2), [0, 0])
    np.testing.assert_array_equal(boundary_f1(np.full((50, 50), IGNORE, np.uint8), whole, 2), [np.nan] * 2)


def test_what_is_answered_in_void_changes_nothing():
    random = np.random.default_rng(3)
    truth, answer = pair(random, (200, 200), 4, 8, void=0.2)
    expected = boundary_f1(truth, answer, 6)
    for _ in range(3):
        anything = np.where(truth == IGNORE, random.integers(0, 256, truth.shape), answer).astype(np.uint8)
        np.testing.assert_array_equal(boundary_f1(truth, anything, 6), expected)
    # All things have a rim of void, as VOC's: what is right outside of it is wholly right, what is not is not.
    truth = halves(50)
    truth[:, 48:53] = IGNORE
    np.testing.assert_array_equal(boundary_f1(truth, halves(50), 2), [1, 1])
    # Class 1 is answered in columns 40..47 too: of its borders in columns 40, 47 and 53 the last is right.
    np.testing.assert_array_equal(boundary_f1(truth, halves(40), 2), [0, 0.5])


def test_no_mask_is_altered():
    truth, answer = pair(np.random.default_rng(0), (40, 50), 3, 3, void=0.2)
    before = truth.copy(), answer.copy()
    for mask in (truth, answer):
        mask.setflags(write=False)
    boundary_f1(truth, answer, 3)
    np.testing.assert_array_equal(truth, before[0])
    np.testing.assert_array_equal(answer, before[1])


def test_it_is_fast():
    """A picture of 480 x 360 takes some 5 ms; four times the promised 30 are left for a busy machine."""
    truth, answer = pair(np.random.default_rng(1), (360, 480), 11, 12, void=0.05)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        boundary_f1(truth, answer, 11)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.12
