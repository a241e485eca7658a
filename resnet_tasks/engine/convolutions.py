"""Convolutions while a model trains on a CPU: wide ones of 3x3 take a quarter of the multiplications.

Wide ones, for what Winograd's way adds is a few passes over picture and output, and what it saves grows with the
channels.  benchmarks/convolutions.py measures it.  Accelerators' libraries do so by themselves.
All of this is a state of training: nothing of it is in a model's config or file.
"""

import functools

import keras
import tensorflow as tf

from resnet_tasks.engine import winograd

FEWEST = 128  # channels in and out
MOST_PADDING = 1.4  # pixels of the tiles over those of the picture: 7x7 in two by two tiles have 1.3


def set_convolutions(model: keras.Model, *, fewer_products: bool) -> None:
    """Sets how the model convolves while it trains, its submodels too.

    Args:
        model: Any Keras model; the first time that it is traced after this.
        fewer_products: By Winograd's way where that is faster; else as Keras does.
    """
    for layer in model._flatten_layers():
        if type(layer) is not keras.layers.Conv2D:  # a subclass may convolve otherwise
            continue
        layer.__dict__.pop("convolution_op", None)
        if fewer_products and _fits(layer):
            object.__setattr__(layer, "convolution_op", functools.partial(_convolved, layer))


def on_cpus_alone() -> bool:
    """Whether TensorFlow has no other device."""
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


def _fits(layer: keras.layers.Conv2D) -> bool:
    plain = layer.kernel_size == (3, 3) and {*layer.strides, *layer.dilation_rate, layer.groups} == {1}
    same = layer.padding == "same" and layer.data_format == "channels_last"
    return plain and same and layer.compute_dtype == "float32" and min(layer.kernel.shape[2:]) >= FEWEST


def _convolved(layer: keras.layers.Conv2D, inputs, kernel):
    """Stands in for `layer.convolution_op`."""
    height, width = inputs.shape[1:3]
    if None in (height, width) or winograd.tiled(height) * winograd.tiled(width) > MOST_PADDING * height * width:
        return type(layer).convolution_op(layer, inputs, kernel)
    return winograd.convolve(inputs, tf.convert_to_tensor(kernel))
