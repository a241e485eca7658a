"""Bilinear upsampling against its definition, in every precision and by every way of running it."""

import keras
import numpy as np
import pytest
from keras import ops
from tiny_detectors import compiled, gradient

from resnet_tasks.segmentation.upsampling import BilinearUpsampling2D


def drawn(*shape, kind=np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, shape).astype(kind)


def tents(length: int, factor: int) -> np.ndarray:
    """What each new pixel takes of each old one, `(new, old)`, pixel by pixel."""
    found = np.zeros((length * factor, length))
    for new in range(length * factor):
        place = (new + 0.5) / factor - 0.5  # half-pixel centres
        before = int(np.floor(place))
        for old, share in ((before, 1 - (place - before)), (before + 1, place - before)):
            found[new, min(max(old, 0), length - 1)] += share
    return found


def expected(x, factors=(2, 2)) -> np.ndarray:
    rows, columns = tents(x.shape[1], factors[0]), tents(x.shape[2], factors[1])
    return np.einsum("oh,pw,bhwc->bopc", rows, columns, np.float64(x))


@pytest.mark.any_backend
def test_a_row_by_hand():
    row = np.float32([0, 4, 8]).reshape(1, 1, 3, 1)
    doubled = ops.convert_to_numpy(BilinearUpsampling2D(2)(row))
    np.testing.assert_allclose(doubled[0, :, :, 0], [[0, 1, 3, 5, 7, 8]] * 2, rtol=1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize("factor", [2, 3, 4, 16, (2, 8)])
def test_it_is_the_definition_and_its_slope(factor):
    x, layer = drawn(2, 5, 7, 3), BilinearUpsampling2D(factor)
    factors = factor if isinstance(factor, tuple) else (factor, factor)
    found = compiled(layer)(x)
    assert tuple(found.shape) == layer.compute_output_shape(x.shape) == expected(x, factors).shape
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected(x, factors), atol=2e-6)
    pull = drawn(*found.shape)
    slope = gradient(lambda x: ops.sum(layer(x) * pull), x)
    by_hand = np.einsum("oh,pw,bopc->bhwc", tents(5, factors[0]), tents(7, factors[1]), np.float64(pull))
    np.testing.assert_allclose(slope, by_hand, atol=5e-5)


def test_in_float64_it_has_all_digits():
    """Of any size, in a graph too, and backwards."""
    import tensorflow as tf

    image = keras.Input((None, None, 3), dtype="float64")
    model = keras.Model(image, BilinearUpsampling2D(4, dtype="float64")(image))
    run = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float64)])
    for size in ((5, 7), (1, 3)):
        x = drawn(2, *size, 3, kind=np.float64)
        for found in (model(x), run(x)):
            assert found.dtype == tf.float64
            np.testing.assert_allclose(found, expected(x, (4, 4)), atol=1e-14)
        pull = drawn(2, 4 * size[0], 4 * size[1], 3, kind=np.float64)
        slope = gradient(lambda x, pull=pull: ops.sum(model(x) * pull), x)
        by_hand = np.einsum("oh,pw,bopc->bhwc", tents(size[0], 4), tents(size[1], 4), pull)
        np.testing.assert_allclose(slope, by_hand, atol=1e-12)


def test_compiled_by_xla_it_is_the_same():
    import tensorflow as tf

    x, layer = drawn(2, 5, 7, 3), BilinearUpsampling2D(4)
    pull = drawn(2, 20, 28, 3)

    @tf.function(jit_compile=True)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = layer(x)
            pulled = tf.reduce_sum(found * pull)
        return found, tape.gradient(pulled, x)

    found, slope = run(tf.constant(x))
    np.testing.assert_allclose(found, expected(x, (4, 4)), atol=2e-6)
    by_hand = np.einsum("oh,pw,bopc->bhwc", tents(5, 4), tents(7, 4), np.float64(pull))
    np.testing.assert_allclose(slope, by_hand, atol=5e-5)


def test_in_bfloat16_it_stays_so():
    x = ops.cast(drawn(1, 4, 4, 2), "bfloat16")
    found = BilinearUpsampling2D(2, dtype="mixed_bfloat16")(x)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    exact = expected(ops.convert_to_numpy(ops.cast(x, "float32")))
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(found, "float32")), exact, atol=0.02)


def test_it_comes_back_from_its_config():
    layer = BilinearUpsampling2D((2, 4), name="mine", dtype="float64")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (type(again), again.size, again.name, again.compute_dtype) == (
        BilinearUpsampling2D, (2, 4), "mine", "float64",
    )  # fmt: skip
    assert again.get_config() == layer.get_config() and again.interpolation == "bilinear"
