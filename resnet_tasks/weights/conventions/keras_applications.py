"""keras.applications: ResNet v1 (`conv2_block1_1_conv`), and VGG, DenseNet and EfficientNet, whose names we keep.

ResNet v1 takes its strides in the 1x1, has biases before its norms, an epsilon of 1.001e-5, and reads blue first, with
ImageNet's mean subtracted ("caffe").
"""

import re
from functools import cache

import numpy as np

from resnet_tasks.weights import application_layouts, layouts
from resnet_tasks.weights.conventions.reading import HEAD, IGNORED, Constants, Reading, Tensors, gather

CAFFE = ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
V2 = (
    "keras.applications' ResNet V2 halves the resolution in the last block of a stage, the paper and every backbone "
    "here in the first: none can equal it; take timm's or KerasHub's ResNet v2"
)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
TOPS = ("predictions", "fc1000", "logits")
LEAVES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def read(tensors: Tensors, details: dict) -> Reading | None:
    named = {_joined(name): array for name, array in tensors.items()}
    if any("_preact_bn/" in name for name in named):
        return Reading(convention="keras.applications", refused=V2)
    if any(re.match(r"conv2_block\d+_0_conv/", name) for name in named):
        reading = gather("keras.applications", named, _resnet, layout="keras", inside=_inside, epsilon=1.001e-5)
        reading.traits = {"stride_in": "1x1", "shortcut": "project"}
        reading.standardise = CAFFE
        if "stem_conv1/kernel" in reading.values:
            reading.values["stem_conv1/kernel"] = reading.values["stem_conv1/kernel"][:, :, ::-1]
    elif len(named.keys() & _kept()) > len(named) / 4:
        reading = gather("keras.applications", named, _same, layout="keras")
        reading.standardise = _normalised(named)
    else:
        return None
    theirs = {_joined(name): name for name in tensors}
    reading.sources = {theirs[name]: path for name, path in reading.sources.items()}
    reading.unused = [theirs[name] for name in reading.unused]
    reading.foreign = [theirs[name] for name in reading.foreign]
    return reading


@cache
def _kept() -> set[str]:
    return {path for name in application_layouts.NAMES for path in layouts.layout(name)}


def _joined(name: str) -> str:
    """`conv1/bn/gamma`, as the oldest files have it, is `conv1_bn/gamma` now."""
    layer, _, leaf = name.rpartition("/")
    return f"{layer.replace('/', '_')}/{'kernel' if leaf == 'depthwise_kernel' else leaf}"


def _resnet(name: str) -> str | None:
    layer, _, leaf = name.rpartition("/")
    if leaf not in LEAVES:
        return None
    if layer in TOPS:
        return HEAD + leaf
    if layer in ("conv1_conv", "conv1_bn"):
        return f"stem_conv1{'_norm' if layer == 'conv1_bn' else ''}/{leaf}"
    found = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", layer)
    if found is None:
        return None
    part = "shortcut" if found[3] == "0" else f"conv{found[3]}"
    return f"stage{int(found[1]) - 1}_block{found[2]}_{part}{'_norm' if found[4] == 'bn' else ''}/{leaf}"


def _inside(name: str) -> bool:
    return re.match(r"conv\d_", name) is not None


def _same(name: str) -> str | None:
    layer, _, leaf = name.rpartition("/")
    if layer in TOPS:
        return HEAD + leaf
    if layer == "normalization":
        return IGNORED
    return name if name in _kept() else None


def _normalised(tensors: Tensors) -> Constants | None:
    """What an EfficientNet that carries its own normalisation was trained with; it first divides by 255.

    ImageNet's weights have deviations where the layer wants variances, and a further layer makes up for it: what
    results is ImageNet's usual constants.
    """
    mean, variance = tensors.get("normalization/mean"), tensors.get("normalization/variance")
    if mean is None or variance is None:
        return None
    mean, variance = np.ravel(mean).astype(float), np.ravel(variance).astype(float)
    deviation = variance if np.allclose(variance, IMAGENET_DEVIATION, atol=1e-4) else np.sqrt(variance)
    return tuple(map(float, 255 * mean)), tuple(map(float, 255 * deviation))
