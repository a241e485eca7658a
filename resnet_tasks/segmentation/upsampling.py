"""Bilinear upsampling by a whole factor, for pictures of any size and in every precision."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("resnet_tasks")
class BilinearUpsampling2D(layers.UpSampling2D):
    """Each pixel becomes `size` pixels around its centre; what lies beyond the outermost centres is as these are.

    Keras's own layer, which is the fastest, where that is right.  Keras 3.15 fails in a graph that does not know the
    height and width; TensorFlow 2.21 computes float64 in float32; and compiled by XLA, its gradient of bfloat16 and
    float16 is what lies in the memory.

    Args:
        size: Pixels for each, a number or `(down, across)`.
        settings: Other arguments of `keras.layers.UpSampling2D`.
    """

    def __init__(self, size=(2, 2), **settings):
        super().__init__(size, **{**settings, "interpolation": "bilinear"})

    def call(self, inputs):
        precise = "float64" if self.compute_dtype == "float64" else "float32"
        x = ops.cast(inputs, precise)
        if precise == "float64" or None in inputs.shape[1:3]:
            height, width = ops.shape(x)[1:3]
            rows, columns = (_tents(*pair, precise) for pair in ((height, self.size[0]), (width, self.size[1])))
            x = ops.einsum("oh,pw,bhwc->bopc", rows, columns, x)
        else:
            x = super().call(x)
        return ops.cast(x, inputs.dtype)


def _tents(length, factor: int, dtype: str):
    """What each new pixel takes of each old one, `(length * factor, length)`: the nearer, the more."""
    places = (ops.arange(length * factor, dtype=dtype) + 0.5) / factor - 0.5
    places = ops.clip(places, 0.0, ops.cast(length - 1, dtype))
    return ops.relu(1.0 - ops.abs(places[:, None] - ops.arange(length, dtype=dtype)))
