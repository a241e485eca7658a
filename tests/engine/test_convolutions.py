"""The gradient of convolutions as products of matrices is TensorFlow's own, and leaves nothing behind."""

import builtins
import io

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.engine import convolutions
from resnet_tasks.engine.convolutions import products_are_faster, set_convolutions

RNG = np.random.default_rng(7)
CHANNELS = convolutions.FEWEST


def network(**options) -> tuple[keras.Model, keras.layers.Conv2D]:
    image = keras.Input((9, 8, CHANNELS), dtype="float64")
    layer = keras.layers.Conv2D(**{"filters": 5, "kernel_size": 3, "dtype": "float64", **options})
    return keras.Model(image, layer(image)), layer


def gradients(model: keras.Model, images: np.ndarray, *, graph: bool) -> list[np.ndarray]:
    """The output, and what comes back for the pictures and each variable."""

    def once():
        inputs = tf.convert_to_tensor(images)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            outputs = model(inputs, training=True)
            total = tf.reduce_sum(tf.sin(outputs) * outputs)
        return [outputs, *tape.gradient(total, [inputs, *(v.value for v in model.trainable_variables)])]

    return [value.numpy() for value in (tf.function(once, autograph=False) if graph else once)()]


def replaced(layer: keras.layers.Layer) -> bool:
    return "convolution_op" in vars(layer)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same"},
        {"padding": "valid"},
        {"padding": "same", "kernel_size": 1},
        {"padding": "same", "kernel_size": (3, 5)},
        {"padding": "valid", "kernel_size": (2, 3)},
        {"padding": "same", "use_bias": False},
    ],
    ids=lambda options: " ".join(f"{key}={value}" for key, value in options.items()),
)
def test_gradients_are_tensorflows(options, graph):
    model, layer = network(**options)
    images = RNG.normal(size=(3, 9, 8, CHANNELS))
    expected = gradients(model, images, graph=graph)
    set_convolutions(model, by_products=True)
    assert replaced(layer)
    for ours, theirs in zip(gradients(model, images, graph=graph), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_the_gradient_of_one_pixel_by_hand():
    """With a kernel of 1x1 it is, for each pair of channels, the sum over pixels of the input times what came back."""
    model, layer = network(kernel_size=1, use_bias=False, filters=2)
    set_convolutions(model, by_products=True)
    images = np.zeros((1, 9, 8, CHANNELS))
    images[0, 4, 4, 3], images[0, 5, 1, 3] = 2.0, 10.0
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(images, training=True)[0, 4, 4] * [1.0, 5.0])
    got = tape.gradient(total, layer.kernel.value).numpy()[0, 0]
    expected = np.zeros((CHANNELS, 2))
    expected[3] = 2.0, 10.0  # the pixel's 2 times 1 and 5; what came back for the other pixel is 0
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "valid", "strides": 2},
        {"padding": "same", "kernel_size": 2},
        {"groups": 2, "filters": 4},
        {"padding": "same", "dilation_rate": 2},
        {"dtype": "mixed_bfloat16"},
    ],
    ids=["a stride", "an even kernel", "groups", "dilated", "half precision"],
)
def test_other_convolutions_stay_as_they_are(options):
    model, layer = network(**options)
    set_convolutions(model, by_products=True)
    assert not replaced(layer)


def test_few_channels_stay_as_they_are():
    image = keras.Input((8, 8, CHANNELS - 1))
    layer = keras.layers.Conv2D(4, 3, padding="same")
    set_convolutions(keras.Model(image, layer(image)), by_products=True)
    assert not replaced(layer)


def test_submodels_are_reached_and_all_is_taken_back(tmp_path):
    inner, layer = network(padding="same")
    image = keras.Input((9, 8, CHANNELS), dtype="float64")
    model = keras.Model(image, inner(image))
    set_convolutions(model, by_products=True)
    assert replaced(layer)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert not any(replaced(one) for one in again._flatten_layers() if isinstance(one, keras.layers.Conv2D))
    set_convolutions(model, by_products=False)
    assert not replaced(layer)


@pytest.mark.parametrize(
    ("told", "faster"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse4_1 avx2 fma\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        (None, False),
    ],
    ids=["AVX2 alone", "AVX-512", "no x86", "no such file"],
)
def test_the_cpu_decides(told, faster, monkeypatch):
    def opened(name, *arguments, **options):
        assert name == "/proc/cpuinfo"
        if told is None:
            raise FileNotFoundError(name)
        return io.StringIO(told)

    monkeypatch.setattr(builtins, "open", opened)
    assert products_are_faster() is faster
