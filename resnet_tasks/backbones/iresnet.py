"""insightface's residual network for faces, which ArcFace and its successors train.

Deng et al. 2018 (https://arxiv.org/abs/1801.07698), section 3.1: a norm opens each branch, a
PReLU stands between its two 3x3 convolutions, nothing follows the sum, and a stem of stride 1
keeps the resolution of small, aligned faces (112x112).  The embedding head belongs to the task.
"""

import keras
from keras import layers

from resnet_tasks.backbones.residual import conv, norm, standardise
from resnet_tasks.backbones.specs import IResNetSpec
from resnet_tasks.errors import UsageError
from resnet_tasks.model import Pyramid


def iresnet(
    spec: IResNetSpec,
    input_shape=(None, None, 3),
    *,
    output_stride: int = 32,
    name: str = "iresnet",
) -> Pyramid:
    """Builds a backbone for faces.

    Returns:
        A model from images `(batch, height, width, 3)`, RGB 0..255, to a dict of features, finest
        first: `"C0"`, the stem, to `"C4"`, where `"C{l}"` has stride `2**l` and, but for the
        stem, is the bare sum that ends a stage.

    Raises:
        UsageError: `output_stride` is not 32: the published network has no dilated form.
    """
    if output_stride != 32:
        raise UsageError(
            f"output_stride={output_stride}: {name} ends at stride 16 and cannot be dilated; leave "
            "output_stride out, or take one of the resnet_* backbones"
        )
    image = keras.Input(input_shape, name="image")
    x = standardise(image, mean=(127.5,) * 3, deviation=(127.5,) * 3)
    x = _prelu(norm(conv(x, 64, 3, name="stem_conv"), "stem_conv", spec.norm), "stem")
    features = {"C0": x}
    for stage, depth in enumerate(spec.depths, 1):
        for index in range(1, depth + 1):
            stride = 2 if index == 1 else 1
            x = _block(x, 64 * 2 ** (stage - 1), stride, spec, f"stage{stage}_block{index}")
        features[f"C{stage}"] = x
    return Pyramid(image, features, name=name)


def _block(x, width: int, stride: int, spec: IResNetSpec, name: str):
    """One residual block, `x + F(x)`."""
    residual = norm(x, f"{name}_open", spec.norm)
    residual = norm(conv(residual, width, 3, name=f"{name}_conv1"), f"{name}_conv1", spec.norm)
    residual = conv(_prelu(residual, name), width, 3, stride, name=f"{name}_conv2")
    residual = norm(residual, f"{name}_conv2", spec.norm)
    if stride != 1:
        x = conv(x, width, 1, stride, name=f"{name}_shortcut")
        x = norm(x, f"{name}_shortcut", spec.norm)
    return layers.Add(name=f"{name}_add")([x, residual])


def _prelu(x, name: str):
    """A ReLU with a learned slope for each channel; 0.25 is He et al. 2015's start."""
    return layers.PReLU(keras.initializers.Constant(0.25), shared_axes=[1, 2], name=f"{name}_prelu")(x)
