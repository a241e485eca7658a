"""Bilinear upsampling against its definition, in every precision and by every way of running it."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from tiny_detectors import compiled, gradient

from resnet_tasks.segmentation.upsampling import BilinearUpsampling2D


def drawn(*shape, kind=np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, shape).astype(kind)


def tents(length: int, factor: int) -> np.ndarray:
    """What each new pixel takes of each old one, `(new, old)`, by the distance of their centres."""
    found = np.zeros((length * factor, length))
    for new in range(length * factor):
        place = (new + 0.5) / factor - 0.5
        before = math.floor(place)
        for old, share in ((before, 1 - (place - before)), (before + 1, place - before)):
            found[new, min(max(old, 0), length - 1)] += share
    return found


def expected(x, factor) -> np.ndarray:
    down, across = factor if isinstance(factor, tuple) else (factor, factor)
    return np.einsum("oh,pw,bhwc->bopc", tents(x.shape[1], down), tents(x.shape[2], across), np.float64(x))


def slope_expected(pull, factor) -> np.ndarray:
    down, across = factor if isinstance(factor, tuple) else (factor, factor)
    rows, columns = tents(pull.shape[1] // down, down), tents(pull.shape[2] // across, across)
    return np.einsum("oh,pw,bopc->bhwc", rows, columns, np.float64(pull))


@pytest.mark.any_backend
def test_a_row_by_hand():
    row = np.float32([0, 4, 8]).reshape(1, 1, 3, 1)
    doubled = ops.convert_to_numpy(BilinearUpsampling2D(2)(row))
    np.testing.assert_allclose(doubled[0, :, :, 0], [[0, 1, 3, 5, 7, 8]] * 2, rtol=1e-6)


@pytest.mark.any_backend
@pytest.mark.parametrize("factor", [2, 4, (3, 16)])
def test_it_is_the_definition_and_so_is_its_slope(factor):
    x, layer = drawn(2, 5, 7, 3), BilinearUpsampling2D(factor)
    found = compiled(layer)(x)
    assert tuple(found.shape) == layer.compute_output_shape(x.shape) == expected(x, factor).shape
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected(x, factor), atol=2e-6)
    pull = drawn(*found.shape)
    slope = gradient(lambda x: ops.sum(layer(x) * pull), x)
    np.testing.assert_allclose(slope, slope_expected(pull, factor), atol=5e-5)


@pytest.mark.parametrize("sizes", ["known", "unknown"])
@pytest.mark.parametrize(
    ("kind", "digits"), [("float32", 2e-6), ("float64", 1e-14), ("bfloat16", 0.03), ("float16", 3e-3)]
)
def test_in_a_graph_it_has_the_digits_of_its_precision(kind, digits, sizes):
    """Also of pictures whose height and width only the data tell; and compiled by XLA, which knows them."""
    import tensorflow as tf

    model = keras.Sequential([keras.Input((None, None, 3), dtype=kind), BilinearUpsampling2D(4, dtype=kind)])

    def both(x, pull):
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = model(x)
            pulled = tf.reduce_sum(found * pull)
        return found, tape.gradient(pulled, x)

    spec = [tf.TensorSpec((None, None, None, 3), kind)] * 2 if sizes == "unknown" else None
    for jit_compile in (False, True):
        run = tf.function(both, spec, jit_compile=jit_compile, autograph=False)
        for height, width in ((5, 7), (1, 3)):
            x, pull = drawn(2, height, width, 3, kind=np.float64), drawn(2, 4 * height, 4 * width, 3, kind=np.float64)
            found, slope = run(tf.cast(x, kind), tf.cast(pull, kind))
            assert found.dtype == slope.dtype == kind
            np.testing.assert_allclose(tf.cast(found, "float64"), expected(x, 4), atol=digits)
            np.testing.assert_allclose(tf.cast(slope, "float64"), slope_expected(pull, 4), atol=20 * digits)


def test_it_comes_back_from_its_config():
    layer = BilinearUpsampling2D((2, 4), name="mine", dtype="float64")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is BilinearUpsampling2D and again.get_config() == layer.get_config()
    found = again.size, again.name, again.compute_dtype, again.interpolation
    assert found == ((2, 4), "mine", "float64", "bilinear")
