"""Cutmix of pictures with masks: of both the same box, and each pixel keeps its own label."""

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.mixing import get_cutmix, get_mask_cutmix
from resnet_tasks.data.randomness import picture_key

GROUP = 8
BEFORE = np.roll(np.arange(GROUP), 1)


def group(first: int = 0, dtype=tf.uint8, size_hw=(12, 20)) -> tuple[dict, tf.Tensor]:
    """Picture i is 30 i everywhere, and its mask i."""
    levels = np.arange(GROUP)[:, None, None]
    image = tf.cast(np.broadcast_to(30 * levels[..., None], (GROUP, *size_hw, 3)), dtype)
    mask = tf.constant(np.broadcast_to(levels, (GROUP, *size_hw)).astype(np.uint8))
    return {"image": image, "mask": mask, "weight": tf.ones(GROUP)}, picture_key(1, 0, first + tf.range(GROUP))


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_of_picture_and_mask_the_same_rectangle_is_the_partners(dtype):
    mix = tf.function(get_mask_cutmix(1.0, 0.5), autograph=False)
    mixed, areas = 0, []
    for first in range(0, 800, GROUP):
        given, keys = group(first, dtype)
        out = mix(given, keys)
        mask = out["mask"].numpy()
        np.testing.assert_array_equal(out["image"], np.repeat(30 * mask.astype(int)[..., None], 3, -1))
        pasted = mask == BEFORE[:, None, None]
        assert np.all(pasted ^ (mask == np.arange(GROUP)[:, None, None]))
        np.testing.assert_array_equal(out["weight"], 1)
        for box in pasted[pasted.any((1, 2))]:
            assert box.sum() == box.any(0).sum() * box.any(1).sum(), "one whole rectangle"
            areas.append(box.mean())
            mixed += 1
        assert out["image"].dtype == dtype and out["mask"].dtype == tf.uint8
    assert mixed == pytest.approx(400, abs=5 * 200**0.5 + 10), "a few boxes are empty"
    # As of cutmix, see there: E over a ~ U(0, 1) of what the border leaves.
    assert np.mean(areas) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=5 * 0.27 / 400**0.5)


def test_with_certainty_every_picture_is_mixed_and_with_none_nothing_changes():
    given, keys = group()
    for name, value in get_mask_cutmix(1.0, 0.0)(given, keys).items():
        np.testing.assert_array_equal(value, given[name])
    out = get_mask_cutmix(4.0, 1.0)(given, keys)
    assert np.all(np.any(out["mask"].numpy() == BEFORE[:, None, None], (1, 2)))


def test_void_is_pasted_too():
    given, keys = group()
    mask = given["mask"].numpy().copy()
    mask[2] = IGNORE
    mixed = get_mask_cutmix(4.0, 1.0)(given, keys)["mask"].numpy()[3]
    out = get_mask_cutmix(4.0, 1.0)({**given, "mask": tf.constant(mask)}, keys)["mask"].numpy()[3]
    np.testing.assert_array_equal(out == IGNORE, mixed == 2)


def test_from_an_unreadable_picture_nothing_is_taken():
    given, keys = group()
    weight = np.array([1, 1, 1, 0, 1, 1, 2, 1], np.float32)
    out = get_mask_cutmix(4.0, 1.0)({**given, "weight": tf.constant(weight)}, keys)
    np.testing.assert_array_equal(out["image"][4], given["image"][4])
    np.testing.assert_array_equal(out["mask"][4], given["mask"][4])
    np.testing.assert_array_equal(out["weight"], weight)
    weightless = {name: value for name, value in given.items() if name != "weight"}
    whole = get_mask_cutmix(4.0, 1.0)(weightless, keys)
    others = [0, 1, 2, 3, 5, 6, 7]
    np.testing.assert_array_equal(out["mask"].numpy()[others], whole["mask"].numpy()[others])
    assert np.any(whole["mask"][4] == 3)


def test_one_key_one_result_and_its_own_draws():
    noise = np.random.default_rng(0).integers(0, 256, (GROUP, 9, 7, 3))
    mix = get_mask_cutmix(1.0, 0.7)
    graph = tf.function(mix, autograph=False)
    seen = set()
    for first in (0, 8, 16):
        given, keys = group(first, size_hw=(9, 7))
        given["image"] = tf.constant(noise, tf.uint8)
        eager = mix(given, keys)
        for other in (mix(given, keys), graph(given, keys)):
            for name, value in eager.items():
                np.testing.assert_array_equal(value, other[name])
        seen.add(eager["mask"].numpy().tobytes())
        plain = get_cutmix(1.0)({"image": given["image"], "label": tf.eye(GROUP)}, keys)["image"]
        assert np.any(plain != get_mask_cutmix(1.0, 1.0)(given, keys)["image"])
    assert len(seen) == 3
