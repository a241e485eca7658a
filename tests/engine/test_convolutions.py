"""Winograd's convolutions are TensorFlow's own, forward and backward, and leave nothing behind in a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.engine import convolutions, winograd
from resnet_tasks.engine.convolutions import set_convolutions

RNG = np.random.default_rng(7)
WIDE = convolutions.FEWEST


def stock(images, kernel):
    return tf.nn.conv2d(images, kernel, 1, "SAME")


def with_gradients(convolve, *values, graph: bool = False) -> list[np.ndarray]:
    """The output, and what comes back for pictures and kernel."""

    def once(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = convolve(*tensors)
            total = tf.reduce_sum(tf.sin(outputs) * outputs)
        return [outputs, *tape.gradient(total, tensors)]

    run = tf.function(once, autograph=False) if graph else once
    return [value.numpy() for value in run(*map(tf.convert_to_tensor, values))]


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(
    ("height", "width"),
    [(8, 8), (4, 12), (7, 7), (9, 6), (1, 5)],
    ids=["whole tiles", "a row of them", "a border of padding", "two borders", "less than a tile"],
)
def test_winograd_is_a_convolution(height, width, graph):
    """Against float64; the paper's own kernels are out by some 1e-5 of the largest value too."""
    images, kernel = RNG.normal(size=(2, height, width, 5)), RNG.normal(size=(3, 3, 5, 6))
    expected = with_gradients(stock, images, kernel)
    got = with_gradients(winograd.convolve, images.astype("float32"), kernel.astype("float32"), graph=graph)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("place", [(0, 0), (3, 4), (6, 9)], ids=["a corner", "between tiles", "the last pixel"])
def test_a_single_pixel_gives_the_kernel_turned_round(place):
    """A convolution of a 1 among zeros by hand: at each place around it the kernel's weight that looks back at it."""
    images, kernel = np.zeros((1, 7, 10, 1), "float32"), np.arange(1, 10, dtype="float32").reshape(3, 3, 1, 1)
    images[0, place[0], place[1], 0] = 1.0
    expected = np.zeros((9, 12))  # with a border that is cut off again
    expected[place[0] : place[0] + 3, place[1] : place[1] + 3] = [[9, 8, 7], [6, 5, 4], [3, 2, 1]]
    got = winograd.convolve(tf.constant(images), tf.constant(kernel)).numpy()[0, :, :, 0]
    np.testing.assert_allclose(got, expected[1:-1, 1:-1], atol=1e-5)


def test_the_gradient_of_one_product_by_hand():
    """Two pixels side by side: only the weight that reaches one from the other meets both."""
    images = np.zeros((1, 8, 8, 1), "float32")
    images[0, 3, 3, 0] = 2.0
    kernel = tf.constant(RNG.normal(size=(3, 3, 1, 1)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        total = 5.0 * winograd.convolve(tf.constant(images), kernel)[0, 3, 4, 0]
    expected = np.zeros((3, 3))
    expected[1, 0] = 2.0 * 5.0  # from the pixel to its left
    np.testing.assert_allclose(tape.gradient(total, kernel).numpy()[:, :, 0, 0], expected, atol=1e-5)


def network(side: int = 8, channels: int = WIDE, **options) -> tuple[keras.Model, keras.layers.Conv2D]:
    image = keras.Input((side, side, channels))
    layer = keras.layers.Conv2D(**{"filters": WIDE, "kernel_size": 3, "padding": "same", **options})
    return keras.Model(image, layer(image)), layer


def replaced(layer: keras.layers.Layer) -> bool:
    return "convolution_op" in vars(layer)


def trained_on(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    def once():
        with tf.GradientTape() as tape:
            outputs = model(tf.convert_to_tensor(images), training=True)
            total = tf.reduce_mean(outputs**2)
        return [outputs, *tape.gradient(total, [variable.value for variable in model.trainable_variables])]

    return [value.numpy() for value in tf.function(once, autograph=False)()]


@pytest.mark.parametrize("options", [{}, {"activation": "relu"}, {"use_bias": False}], ids=str)
def test_a_layer_trains_as_before(options):
    model, layer = network(**options)
    images = RNG.normal(size=(2, 8, 8, WIDE)).astype("float32")
    expected = trained_on(model, images)
    set_convolutions(model, fewer_products=True)
    assert replaced(layer)
    for ours, theirs in zip(trained_on(model, images), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_small_maps_stay_with_tensorflow(monkeypatch):
    """Of 5x5 pixels the tiles have 8x8, 2.6 times as many; of 7x7 1.3 times."""
    asked = []
    monkeypatch.setattr(
        winograd, "convolve", lambda images, kernel: asked.append(images.shape[1]) or stock(images, kernel)
    )
    for side in (5, 7):
        model, _ = network(side)
        set_convolutions(model, fewer_products=True)
        model(np.zeros((1, side, side, WIDE), "float32"), training=True)
    assert asked == [7]


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2},
        {"dilation_rate": 2},
        {"padding": "valid"},
        {"kernel_size": 1},
        {"kernel_size": (3, 5)},
        {"groups": 2},
        {"filters": WIDE - 1},
        {"channels": WIDE - 1},
        {"dtype": "mixed_bfloat16"},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_other_convolutions_stay_as_they_are(options):
    model, layer = network(**options)
    set_convolutions(model, fewer_products=True)
    assert not replaced(layer)


def test_submodels_are_reached_and_all_is_taken_back(tmp_path):
    inner, layer = network()
    image = keras.Input((8, 8, WIDE))
    model = keras.Model(image, inner(image))
    set_convolutions(model, fewer_products=True)
    assert replaced(layer)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert not any(replaced(one) for one in again._flatten_layers() if isinstance(one, keras.layers.Conv2D))
    set_convolutions(model, fewer_products=False)
    assert not replaced(layer)


def test_a_fixed_kernel_costs_no_gradient():
    """What is frozen is not asked for, and the compiled step does not compute it."""
    model, layer = network()
    set_convolutions(model, fewer_products=True)
    layer.trainable = False
    image = keras.Input((8, 8, WIDE))
    last = keras.layers.Dense(2)
    whole = keras.Model(image, last(model(image)))
    assert [variable.path for variable in whole.trainable_variables] == [last.kernel.path, last.bias.path]
    assert all(np.isfinite(value).all() for value in trained_on(whole, np.ones((1, 8, 8, WIDE), "float32")))


@pytest.mark.parametrize(
    ("kinds", "alone"), [(["CPU"], True), (["CPU", "CPU"], True), (["CPU", "GPU"], False)], ids=str
)
def test_accelerators_have_ways_of_their_own(kinds, alone, monkeypatch):
    devices = [tf.config.LogicalDevice(f"/device:{kind}:0", kind) for kind in kinds]
    monkeypatch.setattr(convolutions.tf.config, "list_logical_devices", lambda: devices)
    assert convolutions.on_cpus_alone() is alone
