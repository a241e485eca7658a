"""The feature pyramid: published counts, and its arithmetic with kernels that pass on what they read."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from resnet_tasks.necks.fpn import fpn

RESNET_50 = {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}


def neck(widths: dict[str, int], side: int | None = 64, **settings) -> keras.Model:
    """Over features of those channels, of pictures of that side."""
    inputs = {
        level: keras.Input((*2 * [side and side // 2 ** int(level[1:])], count), name=level)
        for level, count in widths.items()
    }
    return keras.Model(inputs, fpn(inputs, **settings))


def trainable(model) -> int:
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def pass_on(model) -> None:
    """Sets every kernel to the identity in its middle, and every bias to 0."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(layer.kernel.shape, np.float32)
            kernel[layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = np.eye(*kernel.shape[2:])
            layer.kernel.assign(kernel)


def features(channels: int = 2, side: int = 64, levels=(3, 4, 5)) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    sides = {f"C{level}": side // 2**level for level in levels}
    return {level: random.normal(size=(2, n, n, channels)).astype(np.float32) for level, n in sides.items()}


def doubled(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, axis=1).repeat(2, axis=2)


def answers(model, x) -> dict[str, np.ndarray]:
    # JAX compiles a model at once faster than its operations one by one.
    outputs = model.predict_on_batch(x) if keras.backend.backend() == "jax" else model(x)
    return {level: ops.convert_to_numpy(y) for level, y in outputs.items()}


def test_published_counts():
    # Laterals (512 + 1024 + 2048) x 256 + 3 x 256; outputs, P6 and P7 5 x (9 x 256 x 256 + 256).
    c345 = {level: RESNET_50[level] for level in ("C3", "C4", "C5")}
    retinanet = neck(c345, coarser="conv")
    assert trainable(retinanet) == 918_272 + 5 * 590_080 == 3_868_672
    # torchvision's RetinaNet of 91 classes has 34,014,999: ResNet-50 without its norms' gamma and beta, this neck, and
    # two towers of four convolutions that end in 9 x 91 and 9 x 4 outputs.
    towers = 8 * 590_080 + (9 * 256 + 1) * 9 * (91 + 4)
    assert (23_508_032 - 53_120) + trainable(retinanet) + towers == 34_014_999
    # Faster R-CNN: laterals 3840 x 256 + 4 x 256, four outputs; its P6 is a pool.
    assert trainable(neck(RESNET_50, coarser="pool")) == 984_064 + 4 * 590_080 == 3_344_384
    # A norm's gamma and beta for each bias.
    for norm in ("batch", "group"):
        assert trainable(neck(c345, coarser="conv", norm=norm)) == 3_868_672 + 8 * 256


@pytest.mark.any_backend
def test_coarse_levels_reach_fine_ones():
    x, model = features(), neck(dict.fromkeys(("C3", "C4", "C5"), 2), channels=2)
    pass_on(model)
    got = answers(model, x)
    assert list(got) == ["P3", "P4", "P5"]
    np.testing.assert_allclose(got["P5"], x["C5"])
    np.testing.assert_allclose(got["P4"], x["C4"] + doubled(x["C5"]), rtol=1e-6)
    np.testing.assert_allclose(got["P3"], x["C3"] + doubled(x["C4"] + doubled(x["C5"])), rtol=1e-5, atol=1e-6)


@pytest.mark.any_backend
def test_convolutions_above_are_padded_alike_and_p7_reads_the_relu():
    x, model = features(side=256), neck(dict.fromkeys(("C3", "C4", "C5"), 2), 256, channels=2, coarser="conv")
    pass_on(model)
    got = answers(model, x)
    assert list(got) == ["P3", "P4", "P5", "P6", "P7"]
    assert got["P6"].min() < 0
    np.testing.assert_allclose(got["P6"], got["P5"][:, ::2, ::2])  # the middle of a kernel padded on both sides
    np.testing.assert_allclose(got["P7"], np.maximum(got["P6"], 0)[:, ::2, ::2])


def test_pools_above_and_from_p2():
    levels = ("C2", "C3", "C4", "C5")
    x, model = features(side=128, levels=(2, 3, 4, 5)), neck(dict.fromkeys(levels, 2), 128, channels=2, coarser="pool")
    pass_on(model)
    got = answers(model, x)
    assert list(got) == ["P2", "P3", "P4", "P5", "P6"]
    np.testing.assert_allclose(got["P2"] - x["C2"], doubled(got["P3"]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["P6"], got["P5"][:, ::2, ::2])


def test_one_level_above():
    assert list(neck({"C3": 2, "C4": 2}, channels=2, coarser="conv", max_level=5).output) == ["P3", "P4", "P5"]


def test_a_batch_norm_averages_over_33_steps():
    model = neck({"C4": 2, "C5": 2}, channels=2, norm="batch")
    norm = model.get_layer("fpn_lateral5_norm")
    x = features(levels=(4, 5))
    lateral = keras.Model(model.input["C5"], model.get_layer("fpn_lateral5").output)(x["C5"])
    model(x, training=True)
    expected = 0.03 * ops.convert_to_numpy(lateral).mean((0, 1, 2))
    np.testing.assert_allclose(ops.convert_to_numpy(norm.moving_mean), expected, rtol=1e-4, atol=1e-6)


def test_a_group_norm_has_two_channels_or_more_in_a_group():
    for channels, groups in ((256, 32), (64, 32), (48, 8), (8, 4)):
        model = neck({"C5": 2}, channels=channels, norm="group")
        assert model.get_layer("fpn_out5_norm").groups == groups
        level = answers(model, features(levels=(5,)))["P5"].reshape(2, 4, groups, channels // groups)
        np.testing.assert_allclose(level.mean((1, 3)), 0, atol=1e-4)


def test_sizes_that_do_not_halve():
    with pytest.raises(ValueError, match=r"C5 3x3 is not half of C4 7x7.*size_multiple, 32"):
        neck({"C3": 2, "C4": 2, "C5": 2}, 112)
    with pytest.raises(ValueError, match=r"C5 4x4 is not half of C4 4x4.*without output_stride"):
        fpn({"C4": keras.Input((4, 4, 2)), "C5": keras.Input((4, 4, 2))})
    with pytest.raises(ValueError, match=r"contiguous levels, finest first.*\['C5', 'C4'\]"):
        fpn({"C5": keras.Input((2, 2, 2)), "C4": keras.Input((4, 4, 2))})


@pytest.mark.parametrize("settings", [{"coarser": "conv", "max_level": 5}, {"max_level": 6}, {"max_level": 4}])
def test_levels_above_need_a_way(settings):
    with pytest.raises(ValueError, match=r"coarsest feature is C5.*max_level"):
        neck({"C4": 2, "C5": 2}, **settings)


def test_any_size_any_policy_and_saved_without_us(tmp_path):
    model = neck(dict.fromkeys(("C3", "C4", "C5"), 4), None, channels=8, coarser="conv")
    model.save(tmp_path / "neck.keras")
    again = keras.models.load_model(tmp_path / "neck.keras")
    for side in (64, 128):
        x = features(4, side)
        expected = answers(model, x)
        for level, y in answers(again, x).items():
            np.testing.assert_array_equal(y, expected[level])
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = neck(dict.fromkeys(("C3", "C4", "C5"), 4), None, channels=8, coarser="conv")
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    for level, y in half(x).items():
        assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
        np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(y, "float32")), expected[level], atol=0.1)
