"""Batch norms while a model trains: the fused kernel does what Keras's operations do, and leaves nothing behind."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.backbones.residual import TappedBatchNormalization
from resnet_tasks.engine.norms import set_norms, share_statistics
from resnet_tasks.engine.precision import precision

RNG = np.random.default_rng(3)


def network(shape=(5, 6, 3), **options) -> keras.Model:
    """One norm with weights that are nothing special."""
    image = keras.Input(shape)
    norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name="norm", **options)
    model = keras.Model(image, norm(image))
    for number, variable in enumerate(norm.variables):
        variable.assign(np.linspace(0.5, 2.0, variable.shape[0]) + number)
    return model


def trained_on(model: keras.Model, images, *, graph: bool = False) -> list[np.ndarray]:
    """Output, gradients and statistics of one pass in training, as float32."""

    def one_pass():
        inputs = tf.convert_to_tensor(images)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = model(inputs, training=True)
            total = tf.reduce_sum(tf.cast(outputs, "float32") ** 3)
        variables = [variable.value for variable in model.trainable_variables]
        return [outputs, *tape.gradient(total, [inputs, *variables])]

    made = tf.function(one_pass, autograph=False)() if graph else one_pass()
    return [np.float32(value) for value in (*made, *(v.numpy() for v in model.non_trainable_variables))]


@pytest.mark.parametrize("graph", [False, True])
def test_the_fused_kernel_equals_keras(graph):
    images = RNG.normal(3, 2, (4, 5, 6, 3)).astype("float32")
    stock, fused = network(), network()
    set_norms(fused, synchronized=False, frozen=False, fused=True)
    for ours, theirs in zip(trained_on(fused, images, graph=graph), trained_on(stock, images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_statistics_are_the_biased_ones_of_keras():
    """Two values, 1 and 3: their mean is 2, their biased variance 1 (the kernel's own would be 2)."""
    model = network((1, 1, 1))
    set_norms(model, synchronized=False, frozen=False, fused=True)
    mean, variance = (v.numpy().item() for v in model.non_trainable_variables)
    model(np.array([1.0, 3.0], "float32").reshape(2, 1, 1, 1), training=True)
    got = [v.numpy().item() for v in model.non_trainable_variables]
    np.testing.assert_allclose(got, [0.9 * mean + 0.2, 0.9 * variance + 0.1], rtol=1e-6)


def test_a_single_value_has_no_variance_and_no_nan():
    model = network((1, 1, 1))
    set_norms(model, synchronized=False, frozen=False, fused=True)
    assert np.isfinite(model(np.full((1, 1, 1, 1), 7.0, "float32"), training=True)).all()
    assert np.isfinite([v.numpy().item() for v in model.non_trainable_variables]).all()


def test_in_float16_within_its_precision():
    with precision("float16"):
        images = RNG.normal(0, 1, (4, 5, 6, 3)).astype("float16")
        stock, fused = network(), network()
        set_norms(fused, synchronized=False, frozen=False, fused=True)
        ours, theirs = trained_on(fused, images), trained_on(stock, images)
        assert fused(images, training=True).dtype == "float16"
    np.testing.assert_allclose(ours[0], theirs[0], rtol=2e-3, atol=2e-3)
    for got, expected in zip(ours[-2:], theirs[-2:]):
        np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_fused_only_where_it_can_be():
    def is_fused(model: keras.Model, **state) -> bool:
        set_norms(model, **{"synchronized": False, "frozen": False, "fused": True, **state})
        return "call" in vars(model.get_layer("norm"))

    assert is_fused(network())
    assert not is_fused(network(), fused=False)
    assert not is_fused(network(), synchronized=True)
    assert not is_fused(network(center=False))
    assert not is_fused(network((6, 3)))
    with precision("float64"):
        assert not is_fused(network())


def test_a_norm_that_is_called_otherwise_is_left_alone():
    """v2's stem lends its norm to a second tensor."""
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, TappedBatchNormalization(name="norm")(image, image))
    set_norms(model, synchronized=False, frozen=False, fused=True)
    assert all(np.isfinite(part).all() for part in model(np.ones((2, 4, 4, 3), "float32"), training=True))


def test_a_frozen_norm_uses_its_statistics_and_keeps_them():
    images = RNG.normal(3, 2, (4, 5, 6, 3)).astype("float32")
    model = network()
    before = [v.numpy() for v in model.variables]
    expected = model(images, training=False)
    set_norms(model, synchronized=False, frozen=True, fused=True)
    np.testing.assert_array_equal(model(images, training=True), expected)
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_outside_training_and_afterwards_it_is_keras_own():
    images = RNG.normal(3, 2, (4, 5, 6, 3)).astype("float32")
    model = network()
    expected = model(images, training=False)
    set_norms(model, synchronized=False, frozen=False, fused=True)
    np.testing.assert_array_equal(model(images, training=False), expected)
    set_norms(model, synchronized=False, frozen=False)
    assert vars(model.get_layer("norm")).get("call") is None
    assert model.get_layer("norm").get_config() == network().get_layer("norm").get_config()


def test_every_replica_gets_the_first_ones_statistics():
    strategy = tf.distribute.MirroredStrategy(["/CPU:0", "/CPU:1"], tf.distribute.ReductionToOneDevice())
    with strategy.scope():
        model = network((1, 1, 1))
    rows = iter(np.array([[1.0, 3.0], [5.0, 9.0]], "float32").reshape(2, 2, 1, 1, 1))
    values = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(next(rows)))
    set_norms(model, synchronized=False, frozen=False, fused=True)
    strategy.run(tf.function(lambda x: model(x, training=True), autograph=False), args=(values,))
    first, second = (v.numpy() for v in model.non_trainable_variables[0].value.values)
    assert first != second
    share_statistics(model, strategy)
    first_now, second_now = (v.numpy() for v in model.non_trainable_variables[0].value.values)
    assert first_now == second_now == first
