"""Margins and sampled negatives: by hand, and against float64 at every angle, the edges too."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from tiny_detectors import compiled, gradient
from tiny_embedder import drawn, hardened, margin_loss

from resnet_tasks.faces.margin import (
    PUBLISHED,
    checked_margins,
    cosine_and_sine,
    cross_entropy,
    unit,
    with_margin,
)
from resnet_tasks.faces.sampling import sampled

KINDS = {
    **PUBLISHED,
    "cm2": (0.9, 0.4, 0.15),  # ArcFace's table 2
    "sphereface": (1.35, 0.0, 0.0),
    "sphereface 4": (4.0, 0.0, 0.0),
    "wide": (1.0, 3.0, 0.0),
    "none": (1.0, 0.0, 0.0),
}
each_kind = pytest.mark.parametrize("margins", KINDS.values(), ids=KINDS)
# 0 and pi, near to them, and on both sides of where a margin of 0.5 or 0.3 passes pi.
ANGLES = [0, 1e-4, 1e-3, 0.02, 0.3, 1, math.pi / 2, 2, math.pi - 0.501, math.pi - 0.499, math.pi - 0.301]
ANGLES += [math.pi - 0.299, 3, math.pi - 1e-3, math.pi - 1e-4, math.pi]


def number(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


def counted(angles, margins, share=1.0) -> np.ndarray:
    cosine, sine = np.cos(angles).astype(np.float32), np.abs(np.sin(angles)).astype(np.float32)
    return number(compiled(lambda *parts: with_margin(*parts, margins, share))(cosine, sine))


@pytest.mark.any_backend
def test_margins_by_hand():
    right, obtuse = math.pi / 2, 2 * math.pi / 3
    np.testing.assert_allclose(counted([0, right], (1, 0.5, 0)), [math.cos(0.5), -math.sin(0.5)], atol=1e-6)
    np.testing.assert_allclose(counted([0, right, math.pi], (1, 0, 0.35)), [0.65, -0.35, -1.35], atol=1e-6)
    # Past pi, where cos(angle + m) would rise again: cos(angle) - m sin(m).
    late = [3, math.pi]
    np.testing.assert_allclose(counted(late, (1, 0.5, 0)), np.cos(late) - 0.5 * math.sin(0.5), atol=1e-6)
    # cos(pi / 3 + pi / 6) - 0.2 and, past pi by pi / 6, cos(pi) - pi / 6 sin(pi / 6) - 0.2.
    combined = (1, math.pi / 6, 0.2)
    np.testing.assert_allclose(counted([math.pi / 3, math.pi], combined), [-0.2, -1.2 - math.pi / 12], atol=1e-6)
    # SphereFace: cos(2 angle) to pi / 2, and -cos(2 angle) - 2 from there.
    np.testing.assert_allclose(counted([0, right, obtuse, math.pi], (2, 0, 0)), [1, -1, -1.5, -3], atol=1e-6)


@pytest.mark.any_backend
@each_kind
def test_a_larger_angle_never_counts_as_a_smaller_one(margins):
    angles = np.linspace(0, math.pi, 500)
    found = counted(angles, margins)
    np.testing.assert_allclose(found, [hardened(angle, margins)[0] for angle in angles], atol=1e-5)
    assert (np.diff(found) < 1e-6).all() or margins == KINDS["wide"]  # the published rule jumps up where m2 is large
    assert (found <= np.cos(angles) + 1e-6).all() or margins == KINDS["cm2"]


@each_kind
def test_margins_grow_from_nothing(margins):
    angles = np.linspace(0.1, 3.1, 7)
    np.testing.assert_allclose(counted(angles, margins, np.zeros(7)), np.cos(angles), atol=1e-6)
    share = np.linspace(0, 1, 7)
    grown = [(1 + (margins[0] - 1) * part, margins[1] * part, margins[2] * part) for part in share]
    if margins[0] != 1:  # 1 is the one m1 that has ArcFace's rule
        grown[0] = (1 + 1e-9, *grown[0][1:])
    expected = [hardened(angle, part)[0] for angle, part in zip(angles, grown)]
    np.testing.assert_allclose(counted(angles, margins, share), expected, atol=1e-6)


def at_angle(angle: float, dtype) -> tuple[np.ndarray, np.ndarray]:
    """An embedding `(d,)` and centres `(4, 1, d)`, the second of which is at this angle to it; of any lengths."""
    random = np.random.default_rng(5)
    centres = random.normal(0, 1, (4, 1, 6))
    own = centres[1, 0] / np.linalg.norm(centres[1, 0])
    across = random.normal(0, 1, 6)
    across -= (across @ own) * own
    direction = np.cos(angle) * own + np.sin(angle) * across / np.linalg.norm(across)
    centres *= 0.3
    if math.sin(angle) < 1e-9:  # exactly parallel in every precision
        direction, centres[1, 0] = (np.cos(angle) * np.eye(6)[0], 0.5 * np.eye(6)[0])
    return (2 * direction).astype(dtype), centres.astype(dtype)


def loss_of(embedding, centres, margins, scale):
    """As the model composes it: one row, own class 1."""
    one, rows = unit(embedding)[None], unit(centres)[:, 0]
    own = with_margin(*cosine_and_sine(one, rows[1:2]), margins)
    others = ops.where(ops.arange(4)[None] == 1, -1e9, scale * ops.matmul(one, ops.transpose(rows)))
    return ops.sum(cross_entropy(scale * own, others))


def assert_loss(angle: float, margins, scale: float, dtype, tolerance: float, slope_tolerance: float) -> None:
    embedding, centres = at_angle(angle, dtype)
    loss, *slopes = margin_loss(embedding, centres, 1, margins, scale)
    found = float(loss_of(ops.convert_to_tensor(embedding), ops.convert_to_tensor(centres), margins, scale))
    assert found == pytest.approx(loss, rel=tolerance, abs=tolerance)
    by_embedding = gradient(lambda value: loss_of(value, ops.convert_to_tensor(centres), margins, scale), embedding)
    by_centres = gradient(lambda value: loss_of(ops.convert_to_tensor(embedding), value, margins, scale), centres)
    for by_hand, slope in zip(slopes, (by_embedding, by_centres)):
        largest = max(1.0, np.abs(by_hand).max())
        np.testing.assert_allclose(slope / largest, by_hand / largest, rtol=0, atol=slope_tolerance)


@pytest.mark.parametrize("margins", [KINDS[name] for name in ("arcface", "cosface", "combined", "cm2", "sphereface 4")])
def test_loss_and_slopes_are_those_of_float64(margins):
    """In float32; within 0.001 of 0 and pi the slope's direction has fewer digits, as the vectors' own have."""
    for angle in ANGLES:
        near = 0 < math.sin(angle) < 0.01
        assert_loss(angle, margins, 64.0, np.float32, 1e-5, 1e-3 if near else 1e-5)


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@each_kind
def test_in_float64_loss_and_slopes_have_all_digits(float64, margins):
    for angle in ANGLES:
        assert_loss(angle, margins, 64.0, np.float64, 1e-10, 1e-9)


@each_kind
def test_slopes_are_finite_for_vectors_that_are_parallel_opposite_or_nothing(margins):
    axis, nothing = np.float32([0, 0, 2, 0]), np.zeros(4, np.float32)
    rows = np.stack([axis, -axis, nothing, axis * 1e-20, axis * 1e8, np.float32([1e-4, 0, 2, 0])])
    pairs = [np.float32(part) for part in zip(*[(one, other) for one in rows for other in rows])]

    def loss(both):
        own = with_margin(*cosine_and_sine(unit(both[0]), unit(both[1])), margins)
        return ops.sum(cross_entropy(64 * own, ops.zeros((36, 3))))

    found, slope = float(compiled(loss)(np.stack(pairs))), gradient(loss, np.stack(pairs))
    assert np.isfinite(found) and np.isfinite(slope).all()
    assert not slope[np.abs(np.stack(pairs)).sum(axis=-1) < 1e-12].any(), "nothing has no direction to turn"


@pytest.mark.any_backend
def test_a_vector_of_no_length_is_at_a_right_angle_to_all():
    random = np.random.default_rng(0).normal(0, 1, (3, 5)).astype(np.float32)
    random[1] = 0
    length = np.linalg.norm(number(unit(random)), axis=-1)
    np.testing.assert_allclose(length, [1, 0, 1], atol=1e-6)
    cosine, sine = cosine_and_sine(unit(random), unit(random[::-1].copy()))
    assert number(cosine)[1] == 0 and number(sine)[1] == 1
    np.testing.assert_allclose(number(cosine) ** 2 + number(sine) ** 2, 1, atol=1e-6)


@pytest.mark.any_backend
def test_cross_entropy_keeps_its_digits():
    own, others = np.float32([0, 60, -60, 5]), np.float32([[0, 0], [0, 0], [0, 0], [-1e9, -1e9]])
    found = number(cross_entropy(ops.convert_to_tensor(own), ops.convert_to_tensor(others)))
    np.testing.assert_allclose(found[:3], [math.log(3), 2 * math.exp(-60), 60 + math.log(2)], rtol=1e-5)
    assert found[3] == 0


@pytest.mark.parametrize(
    ("kind", "margins", "message"),
    [
        ("triplet", None, "expected one of arcface, cosface, combined, got 'triplet'"),
        ("arcface", (1.35, 0.5, 0), r"arcface has \[1, m, 0\].*combined takes them"),
        ("cosface", (1, 0.5, 0.1), r"cosface has \[1, 0, m\]"),
        ("combined", (1, 0.5), "expected m1 above 0"),
        ("combined", (0, 0.5, 0.1), "expected m1 above 0"),
        ("arcface", (1, 3.2, 0), "m2 from 0 to less than pi"),
        ("cosface", (1, 0, -0.1), "m3 of at least 0"),
    ],
)
def test_margins_that_are_none_are_refused(kind, margins, message):
    with pytest.raises(ValueError, match=message):
        checked_margins(kind, margins)


def test_margins_are_the_published_ones_by_default():
    assert checked_margins("arcface", None) == (1.0, 0.5, 0.0)
    assert checked_margins("cosface", None) == (1.0, 0.0, 0.35)
    assert checked_margins("combined", [0.9, 0.4, 0.15]) == (0.9, 0.4, 0.15)


@pytest.mark.any_backend
def test_lots_are_a_function_of_the_step():
    draw = compiled(lambda step: sampled(step, 1000, 100))
    first, again, other = (number(draw(np.int64(step))).tolist() for step in (3, 3, 4))
    assert first == again == drawn(3, 1000, 100)
    assert other == drawn(4, 1000, 100) != first
    assert number(compiled(lambda step: sampled(step, 7, 7))(np.int64(2**31 + 5))).tolist() == drawn(2**31 + 5, 7, 7)


@pytest.mark.any_backend
def test_every_identity_is_drawn_as_often():
    draw = compiled(lambda step: sampled(step, 50, 10))
    counts = np.bincount(np.concatenate([number(draw(np.int64(step))) for step in range(300)]), minlength=50)
    # 60 each in the mean, with a deviation of sqrt(300 x 0.2 x 0.8) = 6.9.
    assert counts.sum() == 3000 and counts.min() > 60 - 4.5 * 6.9 and counts.max() < 60 + 4.5 * 6.9


def test_lots_are_the_same_compiled():
    import tensorflow as tf

    for xla in (False, True):
        run = tf.function(lambda step: sampled(step, 300, 40), jit_compile=xla)
        assert run(tf.constant(11, tf.int64)).numpy().tolist() == drawn(11, 300, 40)
