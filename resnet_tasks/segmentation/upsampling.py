"""Bilinear upsampling by a whole factor, exact in float64 too."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("resnet_tasks")
class BilinearUpsampling2D(layers.UpSampling2D):
    """Each pixel becomes `size` pixels, around its centre; what lies beyond the outermost centres equals these.

    Keras's own layer, but in float64: there TensorFlow's kernel computes in float32, and what is to prove that two
    computations are the same would end at 1e-7.

    Args:
        size: Pixels for each, a number or `(down, across)`.
        settings: Other arguments of `keras.layers.UpSampling2D`.
    """

    def __init__(self, size=(2, 2), **settings):
        super().__init__(size, **{**settings, "interpolation": "bilinear"})

    def call(self, inputs):
        if self.compute_dtype != "float64":
            return super().call(inputs)
        height, width = ops.shape(inputs)[1:3]
        rows, columns = _tents(height, self.size[0]), _tents(width, self.size[1])
        return ops.einsum("oh,pw,bhwc->bopc", rows, columns, inputs)


def _tents(length, factor: int):
    """What each new pixel takes of each old one, float64 `(length * factor, length)`: the nearer, the more."""
    places = (ops.arange(length * factor, dtype="float64") + 0.5) / factor - 0.5
    places = ops.clip(places, 0.0, ops.cast(length - 1, "float64"))
    return ops.relu(1.0 - ops.abs(places[:, None] - ops.arange(length, dtype="float64")))
