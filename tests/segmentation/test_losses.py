"""The losses by hand, against float64 NumPy that knows nothing of them, and where something is absent."""

import math
from functools import cache

import keras
import numpy as np
import pytest
from other_process import computed

from resnet_tasks.data.masks import IGNORE
from resnet_tasks.segmentation.losses import LOSSES, MEAN_OF, cross_entropy, dice, focal, lovasz_softmax

each_loss = pytest.mark.parametrize("name", LOSSES)
CLASS_WEIGHTS = (0.5, 2.0, 1.0, 3.0, 0.25)
TORCH = """
import torch
logits = torch.from_numpy(given["logits"]).permute(0, 3, 1, 2)
mask = torch.from_numpy(given["mask"].astype("int64"))
weights = torch.from_numpy(given["class_weights"])
answer["plain"] = torch.nn.functional.cross_entropy(logits, mask, ignore_index=255).numpy()
answer["weighted"] = torch.nn.functional.cross_entropy(logits, mask, weights, ignore_index=255).numpy()
"""


def drawn(seed: int = 0, shape=(4, 9, 11), classes: int = 5, deviation: float = 2.0):
    """Logits, masks and weights; the third picture is all void, the fourth has two classes, the first a weight of 0."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, deviation, (*shape, classes)).astype(np.float32)
    mask = random.integers(0, classes, shape).astype(np.uint8)
    mask[3] = np.where(mask[3] > 2, 1, 4)
    mask[random.random(shape) < 0.15] = IGNORE
    mask[2] = IGNORE
    return logits, mask, np.float32([0, 1.5, 2, 0.75])


def likely(logits) -> np.ndarray:
    grown = np.exp(np.float64(logits) - np.float64(logits).max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def pixels_expected(logits, mask, weight, gamma: float, class_weights) -> tuple[float, float]:
    total = normaliser = 0.0
    for place in np.argwhere(mask != IGNORE):
        label, place = mask[tuple(place)], tuple(place)
        p = likely(logits[place])[label]
        counts = float(weight[place[0]]) * class_weights[label]
        total, normaliser = total + counts * (1 - p) ** gamma * -math.log(p), normaliser + counts
    return total, normaliser


def dice_expected(logits, mask, weight) -> tuple[float, float]:
    total = normaliser = 0.0
    for row in range(len(mask)):
        valid = mask[row] != IGNORE
        p, truth = likely(logits[row])[valid], mask[row][valid]
        for label in np.unique(truth):
            own = truth == label
            overlap = 2 * p[own, label].sum() / (p[:, label].sum() + own.sum())
            total, normaliser = total + weight[row] * (1 - overlap), normaliser + weight[row]
    return total, normaliser


def iou_loss(wrong: set, own: set) -> float:
    """1 - IoU of an answer that is wrong in just these pixels; `own` are the class's."""
    return len(wrong) / len(own | wrong)


def lovasz_expected(logits, mask, weight) -> tuple[float, float]:
    """By the definition of a Lovász extension: the errors fall, and one pixel after the other becomes wrong."""
    total = normaliser = 0.0
    for row in range(len(mask)):
        valid = mask[row] != IGNORE
        p, truth, found = likely(logits[row])[valid], mask[row][valid], []
        for label in np.unique(truth):
            own = set(np.flatnonzero(truth == label))
            errors = np.where(truth == label, 1 - p[:, label], p[:, label])
            loss, wrong = 0.0, set()
            for place in np.argsort(-errors):
                more = iou_loss(wrong | {place}, own) - iou_loss(wrong, own)
                loss, wrong = loss + errors[place] * more, wrong | {place}
            found.append(loss)
        if found:
            total, normaliser = total + weight[row] * np.mean(found), normaliser + weight[row]
    return total, normaliser


@cache
def running(name: str, **settings):
    """`(logits, mask, weight)` to total, normaliser and the total's slopes; compiled once where that takes long."""

    def loss(logits, mask, weight):
        return LOSSES[name](logits, mask, weight, **settings)

    if keras.backend.backend() == "jax":
        import jax

        both = jax.jit(jax.value_and_grad(loss, has_aux=True))

        def run(*given):
            (total, normaliser), slopes = both(*given)
            return float(total), float(normaliser), np.asarray(slopes)

        return run
    import tensorflow as tf

    def run_eagerly(*given):
        logits, mask, weight = (tf.constant(value) for value in given)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total, normaliser = loss(logits, mask, weight)
        return float(total), float(normaliser), tape.gradient(total, logits).numpy()

    return run_eagerly


def found(name: str, logits, mask, weight, **settings) -> tuple[float, float]:
    return running(name, **settings)(logits, mask, weight)[:2]


def slope(name: str, logits, mask, weight) -> np.ndarray:
    return running(name)(logits, mask, weight)[2]


EXPECTED = {
    "cross_entropy": lambda *given: pixels_expected(*given, gamma=0, class_weights=[1] * 5),
    "focal": lambda *given: pixels_expected(*given, gamma=2, class_weights=[1] * 5),
    "dice": dice_expected,
    "lovasz": lovasz_expected,
}


@pytest.mark.any_backend
@each_loss
@pytest.mark.parametrize("deviation", [0.5, 8.0], ids=["unsure", "sure"])
def test_a_loss_is_what_numpy_finds_in_float64(name, deviation):
    given = drawn(deviation=deviation)
    np.testing.assert_allclose(found(name, *given), EXPECTED[name](*given), rtol=1e-5)


@pytest.mark.parametrize(("name", "gamma"), [("cross_entropy", 0), ("focal", 2)])
def test_pixels_weigh_what_their_class_does(name, gamma):
    weighted = found(name, *drawn(), class_weights=CLASS_WEIGHTS)
    np.testing.assert_allclose(weighted, pixels_expected(*drawn(), gamma, CLASS_WEIGHTS), rtol=1e-5)


def test_focal_takes_any_power():
    total, normaliser = (float(part) for part in focal(*drawn(), gamma=1.5))
    np.testing.assert_allclose((total, normaliser), pixels_expected(*drawn(), 1.5, [1] * 5), rtol=1e-5)


@pytest.mark.any_backend
def test_the_losses_by_hand():
    """Two pixels of two classes, of which the second is answered 3 : 1 for the wrong one; a third is void."""
    logits = np.float32([[[[50, -50], [math.log(3), 0], [7, 7]]]])
    mask, weight = np.uint8([[[0, 1, IGNORE]]]), np.float32([2])
    np.testing.assert_allclose(found("cross_entropy", logits, mask, weight), (2 * math.log(4), 4), rtol=1e-6)
    np.testing.assert_allclose(found("focal", logits, mask, weight), (2 * 0.75**2 * math.log(4), 4), rtol=1e-6)
    # Class 0: 2 x 1 / (1.75 + 1); class 1: 2 x 0.25 / (0.25 + 1).
    np.testing.assert_allclose(found("dice", logits, mask, weight), (2 * (1 - 2 / 2.75 + 1 - 0.4), 4), rtol=1e-6)
    # Class 0: its own pixel is right, the other wrong by 0.75: IoU goes to 1/2.  Class 1: wrong by 0.75, to 0.
    np.testing.assert_allclose(found("lovasz", logits, mask, weight), (2 * (0.75 / 2 + 0.75) / 2, 2), rtol=1e-6)


def test_of_answers_without_doubt_lovasz_is_the_iou_and_dice_is_dice():
    random = np.random.default_rng(5)
    mask, answer = random.integers(0, 4, (2, 1, 6, 7)).astype(np.uint8)
    logits = np.where(answer[..., None] == np.arange(4), 200.0, 0.0).astype(np.float32)
    ious = [((mask == c) & (answer == c)).sum() / ((mask == c) | (answer == c)).sum() for c in range(4)]
    assert found("lovasz", logits, mask, np.ones(1, np.float32))[0] == pytest.approx(1 - np.mean(ious), rel=1e-5)
    overlaps = [2 * iou / (1 + iou) for iou in ious]
    assert found("dice", logits, mask, np.ones(1, np.float32))[0] == pytest.approx(4 - sum(overlaps), rel=1e-5)


@each_loss
def test_a_loss_adds_up_over_the_parts_of_a_batch(name):
    given = drawn(1)
    parts = [found(name, *(value[part] for value in given)) for part in (slice(0, 1), slice(1, 3), slice(3, 4))]
    np.testing.assert_allclose(found(name, *given), np.sum(parts, axis=0), rtol=1e-6)


@pytest.mark.any_backend
@each_loss
def test_void_pixels_and_pictures_of_weight_0_are_not_there(name):
    """Whatever their logits are; and nothing is learnt from them."""
    logits, mask, weight = drawn(2)
    valid = (mask != IGNORE) & (weight > 0)[:, None, None]
    for junk in (np.nan, np.inf, 1e4):
        spoilt = np.where(valid[..., None], logits, np.float32(junk))
        assert found(name, spoilt, mask, weight) == found(name, logits, mask, weight)
        slopes = slope(name, spoilt, mask, weight)
        assert np.isfinite(slopes).all() and (slopes[~valid] == 0).all()
        assert (np.abs(slopes[valid]).max(axis=-1) > 0).mean() > 0.9
    everything = np.full_like(mask, IGNORE), np.zeros_like(weight)
    for nothing in ((everything[0], weight), (mask, everything[1])):
        assert found(name, logits, *nothing) == (0.0, 0.0)
        assert (slope(name, logits, *nothing) == 0).all()


@each_loss
def test_slopes_are_those_of_the_reference(name):
    """By differences of the float64 reference, for a pixel of each picture and all of its classes."""
    logits, mask, weight = drawn(3, shape=(4, 3, 3))
    slopes, step = slope(name, logits, mask, weight), 1e-5
    for row in (1, 3):
        for label in range(5):
            ends = []
            for sign in (1, -1):
                moved = np.float64(logits)
                moved[row, 1, 1, label] += sign * step
                ends.append(EXPECTED[name](moved, mask, weight)[0])
            assert slopes[row, 1, 1, label] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-6)


@pytest.mark.any_backend
@each_loss
@pytest.mark.parametrize("size", [0.0, 1e4], ids=["alike", "extreme"])
def test_slopes_are_finite_at_any_logits(name, size):
    logits, mask, weight = drawn(4)
    logits = size * np.sign(logits)
    assert np.isfinite(found(name, logits, mask, weight)).all()
    assert np.isfinite(slope(name, logits, mask, weight)).all()


@each_loss
def test_a_large_picture_costs_no_digits(name):
    logits, mask = large_picture()
    expected = {**EXPECTED, "lovasz": lovasz_sorted}[name](logits, mask, np.ones(1, np.float32))
    np.testing.assert_allclose(found(name, logits, mask, np.ones(1, np.float32)), expected, rtol=1e-5)


def test_the_slopes_of_lovasz_have_their_digits_in_a_large_picture():
    """Where 1 - IoU grows by less than float32 tells apart."""
    logits, mask = large_picture()
    p, by_p = likely(logits)[0].reshape(-1, 2), []
    for label in range(2):
        own = mask.ravel() == label
        growth = lovasz_growth(np.where(own, 1 - p[:, label], p[:, label]), own)
        by_p.append(np.where(own, -1, 1) * growth / 2)
    by_p = np.stack(by_p, axis=-1)
    by_logits = p * (by_p - (by_p * p).sum(axis=-1, keepdims=True))
    slopes = slope("lovasz", logits, mask, np.ones(1, np.float32))[0].reshape(-1, 2)
    near = np.isclose(slopes, by_logits, rtol=1e-3, atol=1e-9)
    assert near.mean() > 0.99, "all but those whose errors are alike to all digits, which may change places"


def large_picture() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(6)
    logits = random.normal(0, 1, (1, 200, 200, 2)).astype(np.float32)
    return logits, (logits[..., 1] + random.normal(0, 1, (1, 200, 200)) > 1).astype(np.uint8)


def lovasz_growth(errors: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The loss's growth with each error, in float64, by differences of 1 - IoU."""
    order = np.argsort(-errors, kind="stable")
    hits = np.cumsum(own[order], dtype=np.float64)
    losses = 1 - (own.sum() - hits) / (own.sum() + np.arange(1, len(own) + 1) - hits)
    growth = np.empty(len(own))
    growth[order] = np.diff(losses, prepend=0.0)
    return growth


def lovasz_sorted(logits, mask, weight) -> tuple[float, float]:
    p, losses = likely(logits)[0].reshape(-1, 2), []
    for label in range(2):
        own = mask.ravel() == label
        errors = np.where(own, 1 - p[:, label], p[:, label])
        losses.append((errors * lovasz_growth(errors, own)).sum())
    return np.mean(losses), 1.0


def test_what_is_divided_by_the_same_number():
    given = drawn()
    by_kind: dict = {}
    for name in LOSSES:
        by_kind.setdefault(MEAN_OF[name], set()).add(found(name, *given)[1])
    assert {kind: len(values) for kind, values in by_kind.items()} == {"pixels": 1, "classes": 1, "pictures": 1}
    assert {LOSSES[name] for name in MEAN_OF} == {cross_entropy, focal, dice, lovasz_softmax}


@pytest.mark.peers
def test_cross_entropy_is_pytorchs():
    logits, mask, _ = drawn()
    given = logits, mask, np.ones(4, np.float32)
    class_weights = np.float32(CLASS_WEIGHTS)
    theirs = computed(TORCH, {"logits": logits, "mask": mask, "class_weights": class_weights})
    for name, weights in (("plain", None), ("weighted", CLASS_WEIGHTS)):
        total, normaliser = found("cross_entropy", *given, class_weights=weights)
        assert total / normaliser == pytest.approx(float(theirs[name]), rel=1e-5)
