"""Residual networks, from CIFAR-10's ResNet-20 to SE-ResNet-50, as one family.

A residual network is a stem, then stages of blocks `x + F(x)`.  Each stage after the first
halves the resolution and doubles the width.  Whatever tells one published variant from another
is a field of `ResNetSpec`; the code below has no other switch.
"""

from typing import NamedTuple

import keras
from keras import layers, ops

from resnet_tasks.backbones.specs import Norm, ResNetSpec
from resnet_tasks.errors import UsageError
from resnet_tasks.model import Pyramid

# Mean and deviation of RGB 0..255, as the published weights were trained with.
IMAGENET_RGB = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # torchvision
CIFAR_RGB = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))  # of CIFAR-10's 50,000 training pictures


class Grid(NamedTuple):
    """How a block samples the plane.

    A dilated network keeps its resolution where the published one halves it, and spreads its
    kernels instead: each of its outputs still reads the very pixels that it would have read.

    Attributes:
        halves: Whether the published network halves the resolution here.
        stride: The stride, 1 or 2, of what halves it.
        before: Dilation of the kernels up to the one that halves, itself included.
        after: Dilation of the kernels after it.
    """

    halves: bool = False
    stride: int = 1
    before: int = 1
    after: int = 1


def resnet(spec: ResNetSpec, input_shape=(None, None, 3), *, output_stride: int = 32, name: str = "resnet") -> Pyramid:
    """Builds a backbone: images in, a pyramid of features out.

    Args:
        spec: Which network.
        input_shape: `(height, width, 3)` of the images; `None` where it varies.
        output_stride: 8 or 16 keep the last stages at this stride and dilate them (DeepLab,
            https://arxiv.org/abs/1706.05587, section 3.1).  32 is the network as published.
        name: The model's name.

    Returns:
        A model from images `(batch, height, width, 3)`, RGB 0..255, to a dict of features, finest
        first.  The feature under key `"C{l}"` has stride `s = min(2**l, output_stride)`:
        `(batch, ceil(height / s), ceil(width / s), channels)`.  `"C1"` is the stem before its
        pool.  A feature is what the next stage reads: of v2 therefore after the norm and ReLU.

    Raises:
        UsageError: The network's strides end before `output_stride`.
    """
    if spec.stem == "cifar" and output_stride != 32:
        raise UsageError(
            f"output_stride={output_stride}: {name} is made for small pictures, ends at stride 4 "
            "and cannot be dilated; pass output_stride=32 (model.output_stride), or take resnet_18 or larger"
        )
    image = keras.Input(input_shape, name="image")
    x, opened, features = _stem(image, spec)
    grid = Grid()
    stride = 1 if spec.stem == "cifar" else 4
    for stage, (depth, level) in enumerate(zip(spec.depths, spec.levels[-len(spec.depths) :]), 1):
        if stage > 1:
            grid = _halve(stride, output_stride, grid.after)
            stride *= grid.stride
        for index in range(1, depth + 1):
            block = f"stage{stage}_block{index}"
            x = _block(x, opened, spec, spec.width * 2 ** (stage - 1), grid, block)
            opened = norm_relu(x, f"{block}_out", spec.norm) if spec.pre_activation else x
            grid = Grid(before=grid.after, after=grid.after)
        features[level] = opened
    return Pyramid(image, features, name=name)


def _halve(stride: int, output_stride: int, dilation: int) -> Grid:
    """How a stage opens that halves the resolution, in a network that stands at `stride`."""
    if stride < output_stride:
        return Grid(halves=True, stride=2)
    return Grid(halves=True, before=dilation, after=2 * dilation)


def _stem(image, spec: ResNetSpec):
    """Returns the stem's output, the same as a convolution may read it, and the levels so far."""
    x = standardise(image, *(CIFAR_RGB if spec.stem == "cifar" else IMAGENET_RGB))
    convs = {
        "imagenet": [(7, spec.width, 2)],
        "deep": [(3, spec.width // 2, 2), (3, spec.width // 2, 1), (3, spec.width, 1)],
        "cifar": [(3, spec.width, 1)],
    }[spec.stem]
    for index, (kernel, filters, stride) in enumerate(convs, 1):
        x = conv(x, filters, kernel, stride, name=f"stem_conv{index}")
        if index < len(convs) or not spec.pre_activation:
            x = norm_relu(x, f"stem_conv{index}", spec.norm)
    if spec.stem == "cifar":
        return x, norm_relu(x, "stem_out", spec.norm) if spec.pre_activation else x, {}
    # Zeros would win the maximum where v2's stem, which has no ReLU yet, is negative.
    border = float("-inf") if spec.pre_activation else 0.0
    padded = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=border)
    pooled = layers.MaxPooling2D(3, 2, name="stem_pool")(padded)
    if not spec.pre_activation:
        return pooled, pooled, {"C1": x}
    opened, tapped = _norm_with_tap(pooled, x, spec.norm)
    return pooled, layers.ReLU(name="stem_out_relu")(opened), {"C1": layers.ReLU(name="C1")(tapped)}


def _block(x, opened, spec: ResNetSpec, width: int, grid: Grid, name: str):
    """One residual block, `x + F(x)`; `opened` is `x` as a convolution may read it."""
    residual = _branch(opened, spec, width, grid, name)
    if spec.shortcut == "none":
        return layers.ReLU(name=f"{name}_relu")(residual)
    if grid.halves or x.shape[-1] != residual.shape[-1]:
        reshape = _pad_channels if spec.shortcut == "pad" else _project
        x = reshape(opened, spec, residual.shape[-1], grid, name)
    x = layers.Add(name=f"{name}_add")([x, residual])
    return x if spec.pre_activation else layers.ReLU(name=f"{name}_relu")(x)


def _branch(x, spec: ResNetSpec, width: int, grid: Grid, name: str):
    """The residual function F: convolutions with a norm and a ReLU between each two."""
    if spec.block == "basic":
        halving, convs = 1, [(3, width, 1), (3, width, 1)]
    else:
        inner = width * spec.groups * (spec.group_width or spec.width) // spec.width
        halving = 1 if spec.stride_in == "1x1" else 2
        convs = [(1, inner, 1), (3, inner, spec.groups), (1, 4 * width, 1)]

    for index, (kernel, filters, groups) in enumerate(convs, 1):
        stride = grid.stride if index == halving else 1
        dilation = grid.before if index <= halving else grid.after
        x = conv(x, filters, kernel, stride, dilation, groups, name=f"{name}_conv{index}")
        if index < len(convs):
            x = norm_relu(x, f"{name}_conv{index}", spec.norm)
        elif not spec.pre_activation:
            x = norm(x, f"{name}_conv{index}", spec.norm, gamma=spec.last_gamma)
    return _squeeze_excite(x, spec.se_ratio, name) if spec.se_ratio else x


def _project(x, spec: ResNetSpec, filters: int, grid: Grid, name: str):
    """The shortcut by a 1x1 convolution, option B; D averages before it, so as to read all pixels."""
    stride = grid.stride
    if spec.shortcut == "pool" and grid.halves:
        if stride == 1:
            x = _mean_of_neighbours(x, grid.before)
        else:
            x = layers.AveragePooling2D(2, padding="same", name=f"{name}_shortcut_pool")(x)
            stride = 1
    x = conv(x, filters, 1, stride, name=f"{name}_shortcut")
    return x if spec.pre_activation else norm(x, f"{name}_shortcut", spec.norm)


def _pad_channels(x, spec: ResNetSpec, filters: int, grid: Grid, name: str):
    """The shortcut without parameters, option A: every other pixel, and channels of zeros."""
    # Pools of one pixel: the gradient of a strided slice is ten times slower on a CPU.
    x = layers.MaxPooling2D(1, grid.stride, name=f"{name}_shortcut")(x)
    missing = filters - x.shape[-1]
    return ops.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


def _mean_of_neighbours(x, dilation: int):
    """A 2x2 average pool at stride 1 whose pixels lie `dilation` apart; at the border, of fewer."""
    x = (x + ops.concatenate([x[:, dilation:], x[:, -dilation:]], axis=1)) / 2
    return (x + ops.concatenate([x[:, :, dilation:], x[:, :, -dilation:]], axis=2)) / 2


def _squeeze_excite(x, ratio: float, name: str):
    """Scales each channel by a gate computed from the image's mean channels."""
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_squeeze")(x)
    hidden = round(channels * ratio)
    gate = layers.Conv2D(hidden, 1, activation="relu", name=f"{name}_se_reduce")(gate)
    gate = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_se_expand")(gate)
    return layers.Multiply(name=f"{name}_se_scale")([x, gate])


def standardise(image, mean: tuple[float, ...], deviation: tuple[float, ...]):
    """Images 0..255 to channels of mean 0 and deviation 1."""
    scale = [1 / d for d in deviation]
    offset = [-m / d for m, d in zip(mean, deviation)]
    # As precise as the variables are: bfloat16 is out by up to two of a picture's 256 steps.
    precision = keras.config.dtype_policy().variable_dtype
    return layers.Rescaling(scale, offset, dtype=precision, name="standardise")(image)


def conv(x, filters: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1, *, name: str):
    """A convolution padded alike on both sides, as the published weights expect.

    Under a stride, TensorFlow's "same" pads more on the right and bottom.
    """
    if stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters, kernel, stride, "valid" if stride > 1 else "same", dilation_rate=dilation,
        groups=groups, use_bias=False, kernel_initializer="he_normal", name=name,
    )(x)  # fmt: skip


def norm(x, name: str, kind: Norm, *, gamma: str = "ones"):
    """Batch or group normalisation; `gamma` is the initial scale."""
    settings = {"epsilon": 1e-5, "gamma_initializer": gamma, "name": f"{name}_norm"}
    if kind == "group":
        return layers.GroupNormalization(_groups(x.shape[-1]), **settings)(x)
    return layers.BatchNormalization(momentum=0.9, **settings)(x)


def norm_relu(x, name: str, kind: Norm):
    return layers.ReLU(name=f"{name}_relu")(norm(x, name, kind))


def _groups(channels: int) -> int:
    """Wu & He's 32; below 64 channels two in each, for one in each would be instance norm."""
    return min(32, channels // 2)


def _norm_with_tap(pooled, stem, kind: Norm):
    """v2's first norm, which reads the pooled stem; and the same norm on the stem, for `"C1"`."""
    settings = {"epsilon": 1e-5, "name": "stem_out_norm"}
    if kind == "group":
        group_norm = layers.GroupNormalization(_groups(stem.shape[-1]), **settings)
        return group_norm(pooled), group_norm(stem)
    return TappedBatchNormalization(momentum=0.9, **settings)(pooled, stem)


@keras.saving.register_keras_serializable("resnet_tasks")
class TappedBatchNormalization(layers.BatchNormalization):
    """A batch norm of one tensor that lends what it has learned to another.

    v2's published weights normalise the stem after its pool; a decoder wants it before, at
    stride 2, without a norm of its own.  Calling a stock layer twice would mix two statistics in
    its moving averages.  Here `tapped` is always normalised by the moving averages, which `x`
    alone makes.

    Returns:
        The two tensors, normalised.
    """

    def build(self, x_shape, tapped_shape):
        super().build(x_shape)

    def call(self, x, tapped, training=None):
        return super().call(x, training=training), super().call(tapped, training=False)

    def compute_output_shape(self, x_shape, tapped_shape):
        return x_shape, tapped_shape
