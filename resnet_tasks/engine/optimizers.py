"""Optimizers whose `update_step` is all of their update, and the weight decay beside it.

Keras keeps weight decay outside `update_step`, decoupled for every optimizer: `v -= lr * wd * v` even for SGD, where
the papers add `wd * v` to the gradient, through the momentum.  So the decay is the engine's.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from resnet_tasks.engine.settings import TrainSettings

COUPLED = {"sgd"}


def make_optimizer(settings: TrainSettings) -> keras.optimizers.Optimizer:
    """The optimizer without decay, clipping or averages, which are the engine's."""
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
    if settings.optimizer == "adamw":
        return keras.optimizers.Adam(settings.lr)
    return keras.optimizers.Lamb(settings.lr)


def decays(variable) -> bool:
    """Whether weight decay reaches a variable: kernels and matrices, not norms and biases (Goyal et al. 2017, 5.1)."""
    return len(variable.shape) > 1


def make_update(optimizer: keras.optimizers.Optimizer, settings: TrainSettings) -> Callable:
    """`update(variable, gradient, lr)`: decay, then the optimizer's step, on one replica's variable.

    The gradient is reduced and clipped.  `variable` is a `tf.Variable`, as `strategy.extended.update` passes it.
    """
    coupled, decay = settings.optimizer in COUPLED, settings.weight_decay

    def update(variable, gradient, lr):
        if decay and decays(variable):
            if coupled:
                gradient = gradient + tf.constant(decay, gradient.dtype) * variable
            else:
                variable.assign_sub(lr * tf.constant(decay, lr.dtype) * variable)
        optimizer.update_step(gradient, variable, lr)

    return update
