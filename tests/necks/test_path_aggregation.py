"""Path aggregation: every merge worked out by hand on constant features, its count, and what reaches where."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from resnet_tasks.necks.path_aggregation import path_aggregation


def neck(channels: int = 4, side: int | None = 64, **settings) -> keras.Model:
    inputs = {f"C{n}": keras.Input((*2 * [side and side // 2**n], 2), name=f"C{n}") for n in (3, 4, 5)}
    return keras.Model(inputs, path_aggregation(inputs, channels, **settings))


def constants(values: dict[str, float], side: int = 64) -> dict[str, np.ndarray]:
    sides = {level: side // 2 ** int(level[1:]) for level in values}
    return {level: np.full((1, n, n, 2), values[level], np.float32) for level, n in sides.items()}


def average_channels(model) -> None:
    """Sets every kernel to the mean of the channels of the pixel in its middle."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(layer.kernel.shape, np.float32)
            kernel[layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1 / kernel.shape[2]
            layer.kernel.assign(kernel)


def random_features(side: int = 64) -> dict[str, np.ndarray]:
    random, shapes = np.random.default_rng(0), constants({"C3": 1, "C4": 1, "C5": 1}, side)
    return {level: random.normal(size=x.shape).astype(np.float32) for level, x in shapes.items()}


def answers(model, x) -> dict[str, np.ndarray]:
    # JAX compiles a model at once faster than its operations one by one.
    outputs = model.predict_on_batch(x) if keras.backend.backend() == "jax" else model(x)
    return {level: ops.convert_to_numpy(ops.cast(y, "float32")) for level, y in outputs.items()}


@pytest.mark.any_backend
@pytest.mark.parametrize("depth", [1, 2])
def test_by_hand(depth):
    """On constants a convolution is its norm, x / sqrt(1 + epsilon); ReLU lets what is positive through."""
    model = neck(depth=depth, activation="relu")
    average_channels(model)
    given = {"C3": 1.0, "C4": 10.0, "C5": 100.0}
    norm = 1 / math.sqrt(1 + 1e-3)

    def fuse(x, other):
        x = norm * (x + other) / 2
        for _ in range(depth):
            x = x + norm * norm * x
        return x

    l3, l4, l5 = (norm * value for value in given.values())
    n4 = fuse(l4, l5)
    p3 = fuse(l3, n4)
    p4 = fuse(n4, norm * p3)
    p5 = fuse(l5, norm * p4)
    got = answers(model, constants(given))
    assert list(got) == ["P3", "P4", "P5"]
    for (level, y), expected in zip(got.items(), (p3, p4, p5)):
        np.testing.assert_allclose(y, np.full(y.shape, expected), rtol=1e-4, err_msg=level)


def test_count():
    # c channels: laterals (512 + 1024 + 2048) c; two ways down 9 c²; four merges 2 c² and blocks c²/2 + 9/2 c².
    # A norm: gamma and beta for each channel of 3 laterals, 2 ways down, 4 merges, and 3/2 for each block.
    for depth in (1, 2):
        inputs = {f"C{n}": keras.Input((None, None, 64 * 2**n), name=f"C{n}") for n in (3, 4, 5)}
        model = keras.Model(inputs, path_aggregation(inputs, 128, depth=depth))
        c = 128
        kernels = 3584 * c + 2 * 9 * c * c + 4 * (2 * c * c + depth * 5 * c * c)
        norms = 2 * c * (3 + 2 + 4) + 2 * 4 * depth * 3 * c // 2
        assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == kernels + norms


def test_a_block_is_x_plus_f_of_x():
    """With F switched off by its last gamma, depth does not matter."""
    shallow, deep = neck(depth=1), neck(depth=3)
    for model in (shallow, deep):
        average_channels(model)
        for layer in model.layers:
            if "_block" in layer.name and layer.name.endswith("_conv2_norm"):
                layer.gamma.assign(0 * layer.gamma)
    x = random_features()
    expected = answers(shallow, x)
    for level, y in answers(deep, x).items():
        assert np.abs(y).max() > 0.01
        np.testing.assert_allclose(y, expected[level], rtol=1e-6)


def test_every_level_reaches_every_level():
    model, flat = neck(), constants({"C3": 1.0, "C4": 1.0, "C5": 1.0})
    still = answers(model, flat)
    for moved in flat:
        for level, y in answers(model, {**flat, moved: 2 * flat[moved]}).items():
            assert np.abs(y - still[level]).max() > 1e-4, (moved, level)


def test_the_way_down_is_padded_alike():
    """A point at an even place of P3 reaches P4 at half of it, and nowhere else, through the kernels' middles."""
    model = neck(activation="relu")
    average_channels(model)
    flat = constants({"C3": 0.0, "C4": 0.0, "C5": 0.0})
    flat["C3"][0, 2, 6] = 1.0
    fine, coarse = (np.asarray(model(flat)[level])[0, ..., 0] for level in ("P3", "P4"))
    assert np.argwhere(fine > 0).tolist() == [[2, 6]]
    assert np.argwhere(coarse > 0).tolist() == [[1, 3]]


def test_norms_are_set_for_small_batches():
    norms = [layer for layer in neck().layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 3 + 2 + 4 * 3
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.97, 1e-3)}


def test_sizes_that_do_not_halve():
    with pytest.raises(ValueError, match=r"C4 7x7 is not half of C3 15x15.*size_multiple, 32"):
        neck(side=120)


def test_any_size_any_policy_and_saved_without_us(tmp_path):
    model = neck(8, None)
    model.save(tmp_path / "neck.keras")
    again = keras.models.load_model(tmp_path / "neck.keras")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = neck(8, None)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    for side in (64, 128):
        x = random_features(side)
        expected, same, rounded = (answers(each, x) for each in (model, again, half))
        for level, y in expected.items():
            np.testing.assert_array_equal(same[level], y)
            np.testing.assert_allclose(rounded[level], y, atol=0.1)
    assert {weight.dtype for weight in half.weights} == {"float32"}
    assert {y.dtype for y in half.output.values()} == {"bfloat16"}
