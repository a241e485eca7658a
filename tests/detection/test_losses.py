"""The losses by hand, against plain NumPy and PyTorch, and their slopes where a careless formula has none."""

import math

import numpy as np
import pytest
from keras import ops
from other_process import computed
from tiny_detectors import compiled, gradient

from resnet_tasks.detection.losses import cross_entropy, distribution_focal, focal, smooth_l1

EXTREME = np.float32([-1e4, -100, -20, 0, 20, 100, 1e4])
TORCH = """
import torch
from torchvision.ops import sigmoid_focal_loss
logits, shares, differences = (torch.from_numpy(given[name]) for name in ("logits", "shares", "differences"))
for alpha, gamma in ((0.25, 2.0), (0.6, 1.5)):
    answer[f"focal {alpha} {gamma}"] = sigmoid_focal_loss(logits, shares, alpha, gamma).numpy()
for beta in (0.11, 1 / 9, 1.0):
    kept = torch.nn.functional.smooth_l1_loss(differences, torch.zeros(()), reduction="none", beta=beta)
    answer[f"smooth {beta}"] = kept.numpy()
"""


def number(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Logits, and shares of 0 and 1."""
    random = np.random.default_rng(0)
    return random.normal(0, 4, 200).astype(np.float32), random.integers(0, 2, 200).astype(np.float32)


def chances(logits) -> np.ndarray:
    return 1 / (1 + np.exp(-np.float64(logits)))


@pytest.mark.any_backend
def test_cross_entropy_by_hand_and_by_its_definition(drawn):
    logits, _ = drawn
    shares = np.random.default_rng(1).uniform(0, 1, 200).astype(np.float32)
    p = chances(logits)
    expected = -(shares * np.log(p) + (1 - shares) * np.log(1 - p))
    np.testing.assert_allclose(number(compiled(cross_entropy)(logits, shares)), expected, rtol=1e-4, atol=1e-6)
    by_hand = number(compiled(cross_entropy)(np.float32([0, 0, math.log(3), 1e4, 1e4]), np.float32([0, 0.3, 1, 1, 0])))
    np.testing.assert_allclose(by_hand, [math.log(2), math.log(2), math.log(4 / 3), 0, 1e4], rtol=1e-5)


@pytest.mark.any_backend
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_slope_of_cross_entropy_is_the_chance_less_the_share(share):
    """At exactly 0, where objectness begins, as well."""
    slope = gradient(lambda logits: ops.sum(cross_entropy(logits, ops.full_like(logits, share))), EXTREME)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(slope, chances(EXTREME) - share, atol=1e-6)


@pytest.mark.any_backend
def test_focal_by_hand():
    # At p = 1/2: alpha (1/2)^2 ln 2.  At p = 3/4 for a thing: a quarter is missed, 0.25 / 16 ln(4/3).
    logits, shares = np.float32([0, 0, math.log(3), math.log(3)]), np.float32([1, 0, 1, 0])
    expected = [
        0.25 / 4 * math.log(2), 0.75 / 4 * math.log(2), 0.25 / 16 * math.log(4 / 3), 0.75 * 9 / 16 * math.log(4)
    ]  # fmt: skip
    np.testing.assert_allclose(number(compiled(focal)(logits, shares)), expected, rtol=1e-5)


@pytest.mark.any_backend
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 1.5)])
def test_focal_and_its_slope_are_the_papers(drawn, alpha, gamma):
    logits, shares = drawn
    p = chances(logits)
    thing = -alpha * (1 - p) ** gamma * np.log(p)
    nothing = -(1 - alpha) * p**gamma * np.log(1 - p)
    found = number(compiled(focal)(logits, shares, alpha, gamma))
    np.testing.assert_allclose(found, np.where(shares == 1, thing, nothing), rtol=2e-4, atol=1e-8)
    # Appendix B: dFL/dx = y (1 - p_t)^gamma (gamma p_t log p_t + p_t - 1), y = 1 or -1, here with its alpha.
    sign, t = 2 * shares - 1, np.where(shares == 1, p, 1 - p)
    expected = np.where(shares == 1, alpha, 1 - alpha) * sign * (1 - t) ** gamma * (gamma * t * np.log(t) + t - 1)
    slope = gradient(lambda logits: ops.sum(focal(logits, ops.convert_to_tensor(shares), alpha, gamma)), logits)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_focal_has_a_slope_at_any_logit(share):
    """Surely right: none.  Surely wrong: alpha, as of a line."""
    slope = gradient(lambda logits: ops.sum(focal(logits, ops.full_like(logits, share))), EXTREME)
    right, wrong = (slope[-2:], slope[:2]) if share else (slope[:2], slope[-2:])
    np.testing.assert_allclose(right, 0, atol=1e-12)
    np.testing.assert_allclose(wrong, -0.25 if share else 0.75, rtol=1e-6)
    assert np.isfinite(slope).all()


@pytest.mark.any_backend
def test_smooth_l1_by_hand():
    differences = np.float32([0, 0.05, -0.05, 1 / 9, -1, 30])
    # Below 1/9: 0.05^2 / 2 x 9; above: less half of 1/9; where they meet, 1/18 by both.
    expected = [0, 0.01125, 0.01125, 1 / 18, 1 - 1 / 18, 30 - 1 / 18]
    np.testing.assert_allclose(number(compiled(smooth_l1)(differences, 1 / 9)), expected, rtol=1e-5, atol=1e-9)
    slope = gradient(lambda values: ops.sum(smooth_l1(values, 1 / 9)), np.float32([0, 0.05, -0.05, -1, 30, 1e30]))
    np.testing.assert_allclose(slope, [0, 0.45, -0.45, -1, 1, 1], rtol=1e-5)


@pytest.mark.any_backend
def test_distribution_focal_by_hand():
    p = np.float32([0.1, 0.2, 0.3, 0.4])
    values = np.float32([1, 1.25, 0, -7, 2.5, 3, 50])
    found = number(compiled(distribution_focal)(np.tile(np.log(p), (7, 1)) + 5, values))
    expected = [
        -math.log(0.2),  # on a bin
        -0.75 * math.log(0.2) - 0.25 * math.log(0.3),  # a quarter of the way to the next
        -math.log(0.1),
        -math.log(0.1),  # below the first: on the first
        -0.5 * math.log(0.3) - 0.5 * math.log(0.4),
    ]
    np.testing.assert_allclose(found[:5], expected, rtol=1e-5)
    np.testing.assert_allclose(found[5:], -math.log(0.4), atol=0.01)  # on the last, and beyond it
    assert found[5] == found[6]


@pytest.mark.any_backend
def test_distribution_focal_pulls_to_the_two_bins_around_the_value():
    random = np.random.default_rng(2)
    logits, values = random.normal(0, 2, (3, 4, 16)).astype(np.float32), random.uniform(0, 14.9, (3, 4))
    slope = gradient(lambda x: ops.sum(distribution_focal(x, ops.convert_to_tensor(values, "float32"))), logits)
    p = np.exp(np.float64(logits))
    wanted = np.maximum(1 - np.abs(np.arange(16) - values[..., None]), 0)  # a tent of width 1
    np.testing.assert_allclose(slope, p / p.sum(axis=-1, keepdims=True) - wanted, atol=1e-5)
    far = gradient(
        lambda x: ops.sum(distribution_focal(x, ops.convert_to_tensor([3.3, -1e6, 1e6]))), 1e4 * logits[0, :3]
    )
    assert np.isfinite(far).all()


@pytest.mark.peers
def test_losses_are_those_of_pytorch(drawn):
    logits, shares = drawn
    differences = np.random.default_rng(3).normal(0, 0.5, 200).astype(np.float32)
    theirs = computed(TORCH, {"logits": logits, "shares": shares, "differences": differences})
    for name, expected in theirs.items():
        kind, *numbers = name.split()
        if kind == "focal":
            found = focal(logits, shares, *map(float, numbers))
        else:
            found = smooth_l1(differences, float(numbers[0]))
        np.testing.assert_allclose(number(found), expected, rtol=1e-4, atol=1e-7, err_msg=name)
    assert len(theirs) == 5
