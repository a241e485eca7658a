"""VGG, DenseNet and EfficientNet of `keras.applications`, as pyramids.

The published graph is built and then laid again, layer by layer, behind this project's own preprocessing.  Layers keep
their names, their order and the shapes of their weights, so that published files fit.  What differs:

- The picture's normalisation is one layer, `standardise`.  EfficientNet's own `rescaling` and `normalization` are left
  out: `keras.applications` gives them a third layer where, and only where, it loads ImageNet's weights itself.
- An odd side is rounded up at every stride, as in all pyramids.  VGG and DenseNet drop the last row; EfficientNet
  rounds down where it is built for any size.  On even sides nothing changes.
- Batch norms average as fast as in the rest of the catalogue: at Keras's momentum of 0.99, a run of a few hundred steps
  is evaluated with statistics that are still near their start.
- The last stages can be dilated.
"""

import keras
from keras import layers, ops

from resnet_tasks.backbones.residual import standardise
from resnet_tasks.backbones.specs import ApplicationSpec
from resnet_tasks.model import Pyramid


def application(
    spec: ApplicationSpec,
    input_shape=(None, None, 3),
    *,
    output_stride: int = 32,
    name: str = "application",
) -> Pyramid:
    """Builds a backbone: images in, a pyramid of features out.

    Args:
        spec: Which network.
        input_shape: `(height, width, 3)` of the images; `None` where it varies.
        output_stride: 8 or 16 keep the last stages at this stride and dilate them, as in `residual.resnet`; the gates
            of an EfficientNet then average over more places than published.
        name: The model's name.

    Returns:
        A model from images `(batch, height, width, 3)`, RGB 0..255, to a dict of features, finest first.  The feature
        under key `"C{l}"` has stride `s = min(2**l, output_stride)`:
        `(batch, ceil(height / s), ceil(width / s), channels)`.
    """
    build = getattr(keras.applications, spec.builder)
    published = build(include_top=False, weights=None, input_shape=(None, None, 3))
    image = keras.Input(input_shape, name="image")
    x = standardise(image, spec.mean, spec.deviation)
    if spec.bgr:
        x = ops.flip(x, axis=-1)
    tensors = {id(published.input): x}  # ours, by their place in the published graph
    strides = {id(published.input): 1}  # the published ones, likewise
    for layer in published.layers[1:]:  # from the input to the output
        many = isinstance(layer.input, list)
        read = [id(tensor) for tensor in (layer.input if many else [layer.input])]
        inputs, stride = [tensors[key] for key in read], max(strides[key] for key in read)
        tensors[id(layer.output)] = _lay(layer, inputs if many else inputs[0], stride, output_stride)
        strides[id(layer.output)] = stride * 2 if _halves(layer) else stride
    features = {level: tensors[id(published.get_layer(tap).output)] for level, tap in zip(spec.levels, spec.taps)}
    return Pyramid(image, features, name=name)


def _halves(layer) -> bool:
    return getattr(layer, "strides", None) == (2, 2)


def _lay(layer, x, stride: int, output_stride: int):
    """The published layer anew, on `x`, which it reads at `stride` in the published graph."""
    if isinstance(layer, layers.Rescaling | layers.Normalization):
        return x
    config = layer.get_config()
    dilation = max(1, stride // output_stride)
    if isinstance(layer, layers.ZeroPadding2D):
        if len({before for before, _ in layer.padding} | {after for _, after in layer.padding}) > 1:
            return x  # EfficientNet's, worked out for an even side; "same" below does it for every side
        config["name"] = f"{_behind(x).name}_pad"  # Keras counts these through the process
    elif isinstance(layer, layers.BatchNormalization):
        config["momentum"] = 0.9
    elif _halves(layer):
        if not isinstance(_behind(x), layers.ZeroPadding2D):
            config["padding"] = "same"
        if stride >= output_stride:
            if isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
                return _pool_in_place(layer, x, dilation)
            config["strides"] = (1, 1)
    if dilation > 1 and "dilation_rate" in config and layer.kernel_size != (1, 1):
        config["dilation_rate"] = (dilation, dilation)
    return type(layer).from_config(config)(x)


def _pool_in_place(layer, x, dilation: int):
    """A 2x2 pool at stride 1 whose pixels lie `dilation` apart; at the border, of fewer."""
    merge = layers.Maximum if isinstance(layer, layers.MaxPooling2D) else layers.Average
    x = merge(name=f"{layer.name}_rows")([x, ops.concatenate([x[:, dilation:], x[:, -dilation:]], axis=1)])
    return merge(name=layer.name)([x, ops.concatenate([x[:, :, dilation:], x[:, :, -dilation:]], axis=2)])


def _behind(tensor):
    """What computed it."""
    return tensor._keras_history.operation
