"""Which optimizer a setting makes, and what weight decay reaches.  Their updates are in test_step.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.engine.optimizers import decays, make_optimizer, make_update
from resnet_tasks.engine.settings import TrainSettings


def settings(**changes) -> TrainSettings:
    return TrainSettings(**{"epochs": 1, "batch_size": 8, "lr": 0.25, **changes})


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", keras.optimizers.SGD), ("adamw", keras.optimizers.Adam), ("lamb", keras.optimizers.Lamb)],
)
def test_keras_keeps_no_decay_clipping_or_average_of_its_own(name, kind):
    optimizer = make_optimizer(settings(optimizer=name, weight_decay=0.1, clip_norm=1.0, ema=0.9))
    assert type(optimizer) is kind
    assert not optimizer.weight_decay and not optimizer.use_ema
    assert optimizer.clipnorm is optimizer.global_clipnorm is optimizer.clipvalue is None
    assert float(optimizer.learning_rate) == 0.25


def test_sgd_takes_its_momentum():
    optimizer = make_optimizer(settings(momentum=0.7, nesterov=True))
    assert optimizer.momentum == 0.7 and optimizer.nesterov


def test_decay_reaches_kernels_only():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dense(2, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    reached = {variable.path for variable in model.trainable_variables if decays(variable)}
    assert reached == {"conv/kernel", "depthwise/kernel", "logits/kernel"}
    assert len(model.trainable_variables) == 8


@pytest.mark.parametrize(
    ("name", "expected"),
    # coupled: w - lr (g + wd w) = 2 - 0.5 (0.4 + 0.2); decoupled: w - lr wd w, then Adam's first step, lr sign(g)
    [("sgd", [[1.7]]), ("adamw", [[2 - 0.5 * 0.1 * 2 - 0.5]])],
)
def test_one_update_by_hand(name, expected):
    variable = keras.Variable([[2.0]], name="kernel")
    optimizer = make_optimizer(settings(optimizer=name, momentum=0.0))
    optimizer.build([variable])
    update = make_update(optimizer, settings(optimizer=name, weight_decay=0.1))
    update(variable.value, tf.constant([[0.4]]), tf.constant(0.5))
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)


def test_no_decay_leaves_a_weight_without_gradient_alone():
    variable = keras.Variable([[2.0]], name="kernel")
    optimizer = make_optimizer(settings(momentum=0.0))
    optimizer.build([variable])
    make_update(optimizer, settings())(variable.value, tf.constant([[0.0]]), tf.constant(0.5))
    assert variable.numpy() == [[2.0]]
