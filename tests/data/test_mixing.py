"""Mixup and cutmix: the label is the share of the pixels."""

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data.mixing import get_cutmix, get_mix, get_mixup
from resnet_tasks.data.randomness import picture_key

GROUP = 8
BY_PLACE = np.arange(GROUP)


def flat_group(first: int = 0, dtype=tf.float32, size_hw=(12, 20)) -> tuple[dict, tf.Tensor]:
    """Picture i of the group is 10 i everywhere, its class is i."""
    image = tf.cast(tf.fill([GROUP, *size_hw, 3], 10.0) * BY_PLACE[:, None, None, None], dtype)
    group = {"image": image, "label": tf.eye(GROUP), "weight": tf.ones(GROUP)}
    return group, picture_key(1, 0, first + tf.range(GROUP))


def partner_shares(label: np.ndarray) -> np.ndarray:
    """The mass on the class of the picture before, which is all that is not on the picture's own."""
    shares = label[BY_PLACE, BY_PLACE - 1]
    np.testing.assert_allclose(label[BY_PLACE, BY_PLACE] + shares, 1.0, atol=1e-6)
    np.testing.assert_allclose(label.sum(1), 1.0, atol=1e-6)
    return shares


@pytest.mark.parametrize("dtype", [tf.float32, tf.uint8])
def test_cutmix_moves_the_label_by_exactly_the_pixels_pasted(dtype):
    cutmix = tf.function(get_cutmix(1.0))
    for first in range(0, 200, GROUP):
        group, keys = flat_group(first, dtype)
        out = cutmix(group, keys)
        image = out["image"].numpy()
        pasted = image == 10 * np.roll(BY_PLACE, 1)[:, None, None, None]
        own = image == 10 * BY_PLACE[:, None, None, None]
        assert np.all(pasted ^ own)
        shares = partner_shares(out["label"].numpy())
        np.testing.assert_allclose(shares, pasted[..., 0].mean((1, 2)), atol=1e-7)
        for box in pasted[..., 0]:
            assert box.sum() == box.any(0).sum() * box.any(1).sum(), "one whole rectangle"


def test_cutmix_box_has_the_pictures_aspect_and_the_area_of_beta():
    """Beta(1, 1) is uniform. A side of length s, its centre anywhere in 0..1, keeps s - s^2 / 4 within the border."""
    heights, widths, areas = [], [], []
    cutmix = tf.function(get_cutmix(1.0))
    for first in range(0, 2400, GROUP):
        group, keys = flat_group(first, tf.uint8, (20, 40))
        pasted = cutmix(group, keys)["image"].numpy() == 10 * np.roll(BY_PLACE, 1)[:, None, None, None]
        heights += list(pasted[..., 0].any(2).sum(1) / 20)
        widths += list(pasted[..., 0].any(1).sum(1) / 40)
        areas += list(pasted[..., 0].mean((1, 2)))
    # E over a ~ U(0, 1), s = sqrt(a): E[s - s^2/4] = 2/3 - 1/8; E[(s - s^2/4)^2] = 1/2 - 1/2 * 2/5 + 1/16 * 1/3.
    assert np.mean(heights) == pytest.approx(2 / 3 - 1 / 8, abs=0.025)
    assert np.mean(widths) == pytest.approx(2 / 3 - 1 / 8, abs=0.025)
    assert np.mean(areas) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.025)


@pytest.mark.parametrize("dtype", [tf.float32, tf.uint8])
def test_mixup_blends_picture_and_label_by_one_lambda(dtype):
    group, keys = flat_group(0, dtype)
    out = get_mixup(1.0)(group, keys)
    shares = partner_shares(out["label"].numpy())
    expected = 10 * ((1 - shares) * BY_PLACE + shares * np.roll(BY_PLACE, 1))
    expected = expected[:, None, None, None] * np.ones((1, 12, 20, 3))
    np.testing.assert_allclose(out["image"], np.round(expected) if dtype == tf.uint8 else expected, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_lambda_has_the_moments_of_beta(alpha):
    mix = tf.function(get_mixup(alpha))
    shares = []
    for first in range(0, 4000, GROUP):
        group, keys = flat_group(first, size_hw=(1, 1))
        shares.append(partner_shares(mix(group, keys)["label"].numpy()))
    shares = np.ravel(shares)
    variance = 1 / (4 * (2 * alpha + 1))  # of Beta(a, a)
    assert shares.mean() == pytest.approx(0.5, abs=5 * (variance / shares.size) ** 0.5)
    assert shares.var() == pytest.approx(variance, rel=0.06)


def test_lambda_of_a_tiny_alpha_is_a_number():
    """Both gammas of alpha = 0.01 vanish in float32 in a sixth of the cases: 0 / 0."""
    shares = []
    mix = tf.function(get_mixup(0.01))
    for first in range(0, 160, GROUP):
        group, keys = flat_group(first, size_hw=(1, 1))
        label = mix(group, keys)["label"].numpy()
        assert np.isfinite(label).all()
        shares += list(partner_shares(label))
    assert np.mean(np.minimum(shares, 1 - np.array(shares)) < 0.01) > 0.8, "nearly always 0 or 1"
    assert np.mean(shares) == pytest.approx(0.5, abs=5 * 0.5 / 160**0.5)


def test_mix_takes_each_kind_for_half_of_the_pictures():
    mix = tf.function(get_mix(1.0, 1.0))
    mixed = cut = 0
    for first in range(0, 1600, GROUP):
        group, keys = flat_group(first)
        out = mix(group, keys)
        shares = partner_shares(out["label"].numpy())
        image = out["image"].numpy()
        blended = image.std((1, 2, 3)) < 1e-3  # one level everywhere: mixup, or an empty or full box
        mean = 10 * ((1 - shares) * BY_PLACE + shares * np.roll(BY_PLACE, 1))
        np.testing.assert_allclose(image.mean((1, 2, 3)), mean, atol=1e-3)
        mixed += np.sum(blended & (shares > 0) & (shares < 1))
        cut += np.sum(~blended)
    assert mixed == pytest.approx(800, abs=5 * 20), "binomial, p = 1/2"
    assert cut == pytest.approx(800, abs=5 * 20 + 40), "a few boxes are empty"


def test_mix_with_one_alpha_is_that_kind_alone():
    group, keys = flat_group()
    for combined, alone in ((get_mix(0.4, 0), get_mixup(0.4)), (get_mix(0, 1.0), get_cutmix(1.0))):
        np.testing.assert_array_equal(combined(group, keys)["image"], alone(group, keys)["image"])
    with pytest.raises(ValueError, match="above 0"):
        get_mix(0, 0)


@pytest.mark.parametrize("mix", [get_mixup(1.0), get_cutmix(1.0), get_mix(1.0, 1.0)])
def test_an_unreadable_picture_is_mixed_into_no_other(mix):
    group, keys = flat_group()
    weight = np.ones(GROUP, np.float32)
    weight[3] = 0
    out = mix({**group, "weight": tf.constant(weight)}, keys)
    np.testing.assert_array_equal(out["label"][4], np.eye(GROUP)[4])
    np.testing.assert_array_equal(out["image"][4], group["image"][4])
    np.testing.assert_allclose(out["weight"], weight, atol=1e-6)
    others = [0, 1, 2, 5, 6, 7]
    np.testing.assert_array_equal(out["image"].numpy()[others], mix(group, keys)["image"].numpy()[others])


def test_weights_are_mixed_as_the_labels_are():
    group, keys = flat_group()
    weight = np.linspace(0.5, 2.0, GROUP, dtype=np.float32)
    out = get_mixup(1.0)({**group, "weight": tf.constant(weight)}, keys)
    shares = partner_shares(out["label"].numpy())
    np.testing.assert_allclose(out["weight"], (1 - shares) * weight + shares * np.roll(weight, 1), rtol=1e-6)


@pytest.mark.parametrize("mix", [get_mixup(1.0), get_cutmix(1.0), get_mix(1.0, 1.0)])
def test_cutting_an_epoch_into_shards_changes_nothing(mix):
    """48 pictures in batches of 16: by one replica, and by two replicas of 8, in groups of 4."""
    rng = np.random.default_rng(0)
    pictures = tf.constant(rng.integers(0, 256, (48, 8, 8, 3)), tf.uint8)
    order = rng.permutation(48).astype(np.int64)

    def read(index):
        return {"image": pictures[index], "label": tf.one_hot(index, 48), "key": picture_key(1, 2, index)}

    def run(places):
        dataset = tf.data.Dataset.from_tensor_slices(order[places]).map(read, num_parallel_calls=2)
        dataset = dataset.batch(4, drop_remainder=True).map(lambda group: mix(group, group["key"]))
        return dict(zip(places, dataset.unbatch().as_numpy_iterator(), strict=True))

    whole = run(np.arange(48))
    by_step = np.arange(48).reshape(3, 2, 8)
    for replica in range(2):
        for place, example in run(by_step[:, replica].ravel()).items():
            np.testing.assert_array_equal(example["image"], whole[place]["image"])
            np.testing.assert_array_equal(example["label"], whole[place]["label"])
