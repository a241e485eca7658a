"""Batch norms while a model trains: synchronised, frozen, and by TensorFlow's fused kernel.

Keras writes a batch norm out in single operations.  The fused kernel computes the same in two passes over the
activations instead of some ten, which on a CPU makes a whole training step of ResNet-20 a quarter faster.
All of this is a state of training: nothing of it is in a model's config or file.
"""

import keras
import tensorflow as tf

from resnet_tasks.engine import together

FUSED = ("float32", "float16")  # what the kernel computes in on every device; float64 is not among them


def set_norms(model: keras.Model, *, synchronized: bool, frozen: bool, fused: bool = False) -> None:
    """Sets the batch norms' state of training, those of submodels too.

    Args:
        model: Any Keras model.
        synchronized: Statistics over all replicas; these come from Keras's own operations.
        frozen: Those of the backbone, whose statistics came with its weights, use these, and nothing of them trains; a
            head's norms begin with the head.  Of a model without a backbone: all.
        fused: By the fused kernel where it can be; the first time a model is traced after this.
    """
    of_backbone = {id(layer) for layer in getattr(model, "backbone", model)._flatten_layers()}
    for layer in model._flatten_layers():  # the only way that reaches submodels held as attributes
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        layer.synchronized = synchronized
        if frozen and id(layer) in of_backbone:
            layer.trainable = False
        layer.__dict__.pop("call", None)
        if fused and not synchronized and _fusible(layer):
            object.__setattr__(layer, "call", _fused_call(layer))


def share_statistics(model: keras.Model, strategy) -> None:
    """Gives every replica the first one's moving statistics: what is measured is then what is saved.

    Norms that are not synchronised gather statistics of their own on each replica, and a file holds the first one's.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    variables = [variable.value for variable in model.non_trainable_variables]
    first = [strategy.experimental_local_results(variable)[0].numpy() for variable in variables]
    for variable, value in zip(variables, together.from_chief(strategy, first)):
        variable.assign(value)


def _fusible(layer: keras.layers.BatchNormalization) -> bool:
    if type(layer) is not keras.layers.BatchNormalization:  # a subclass may be called otherwise
        return False
    channels_last = layer.axis in (-1, 3) and layer.input_spec is not None and layer.input_spec.ndim == 4
    return channels_last and layer.scale and layer.center and not layer.renorm and layer.compute_dtype in FUSED


def _fused_call(layer: keras.layers.BatchNormalization):
    """Stands in for `layer.call`; outside training, and frozen, it is the layer's own."""
    stock = layer.call

    def call(inputs, training=None, mask=None):
        if mask is not None or not (training and layer.trainable):
            return stock(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, tf.cast(layer.gamma, "float32"), tf.cast(layer.beta, "float32"), epsilon=layer.epsilon
        )
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), variance.dtype)
        variance = (
            variance * tf.maximum(count - 1, 1) / count
        )  # the kernel gives the unbiased one, Keras keeps the other
        for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + batch * (1 - layer.momentum))
        return outputs

    return call
