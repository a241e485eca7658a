"""The gradient of convolutions' kernels on CPUs that have AVX2 and not AVX-512.

Of few and large pictures TensorFlow's own takes more than twice as long there as the way forward, which multiplies as
much; written as products of matrices, one for each place of the kernel, it takes what they do.  With AVX-512 its own is
as fast, without their copies.  benchmarks/convolution_gradients.py measures both.

All of this is a state of training: nothing of it is in a model's config or file.
"""

import functools

import keras
import tensorflow as tf

FEWEST = 64  # channels of the input, below which the copies cost more than the products save
COMPUTES_IN = ("float32", "float64")


def set_convolutions(model: keras.Model, *, by_products: bool) -> None:
    """Sets how the gradients of the model's convolutions are computed, of those in submodels too.

    Args:
        model: Any Keras model; the first time that it is traced after this.
        by_products: As products of matrices where that is faster, or else as TensorFlow does it.
    """
    for layer in model._flatten_layers():
        if type(layer) is not keras.layers.Conv2D:  # a subclass may convolve otherwise
            continue
        layer.__dict__.pop("convolution_op", None)
        if by_products and _is_faster(layer):
            object.__setattr__(layer, "convolution_op", functools.partial(_convolved, layer))


def products_are_faster() -> bool:
    """Whether TensorFlow has CPUs alone, of the kind that this file is about; what cannot be told is not."""
    if any(device.device_type != "CPU" for device in tf.config.list_logical_devices()):
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as told:
            flags = next((line.split() for line in told if line.startswith("flags")), [])
    except OSError:
        return False
    return "avx2" in flags and "avx512f" not in flags


def _is_faster(layer: keras.layers.Conv2D) -> bool:
    # TensorFlow takes dilated ones apart before its kernels see them, and pads unevenly under a stride.
    plain = layer.data_format == "channels_last" and layer.groups == 1
    plain = plain and {*layer.strides, *layer.dilation_rate} == {1}
    even = layer.padding == "valid" or all(side % 2 for side in layer.kernel_size)
    return plain and even and layer.kernel.shape[2] >= FEWEST and layer.compute_dtype in COMPUTES_IN


def _convolved(layer: keras.layers.Conv2D, inputs, kernel):
    """Stands in for `layer.convolution_op`."""
    settings = {"strides": [1, 1, 1, 1], "padding": layer.padding.upper()}

    @tf.custom_gradient
    def convolved(images, weights):
        def gradient(upstream):
            of_images = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(images), filter=weights, out_backprop=upstream, **settings
            )
            return of_images, _of_kernel(layer, images, upstream)

        return tf.nn.conv2d(images, weights, **settings), gradient

    return convolved(inputs, tf.convert_to_tensor(kernel))


def _of_kernel(layer: keras.layers.Conv2D, images, upstream):
    """`(rows, columns, in, out)`: for each place of the kernel, the pixels it met times what came back for them."""
    rows, columns = layer.kernel_size
    if layer.padding == "same":
        images = tf.pad(images, [[0, 0], [rows // 2] * 2, [columns // 2] * 2, [0, 0]])
    channels, filters = images.shape[-1], upstream.shape[-1]
    height, width = tf.shape(upstream)[1], tf.shape(upstream)[2]
    upstream = tf.reshape(upstream, (-1, filters))
    products = []
    for row in range(rows):
        for column in range(columns):
            met = images[:, row : row + height, column : column + width]
            products.append(tf.matmul(tf.reshape(met, (-1, channels)), upstream, transpose_a=True))
    return tf.reshape(tf.stack(products), (rows, columns, channels, filters))
