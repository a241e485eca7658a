"""insightface's IResNet (`recognition/arcface_torch/backbones/iresnet.py`); its embedding, at the end, is not used.

conv1, bn1, prelu, layer1.0.bn1, .conv1, .bn2, .prelu, .conv2, .bn3, .downsample.0, .downsample.1, bn2, fc, features
"""

import re

from resnet_tasks.weights.conventions.reading import IGNORED, Reading, Tensors, gather, torch_leaf

STEM = {"conv1": "stem_conv", "bn1": "stem_conv_norm", "prelu": "stem_prelu"}
BLOCK = {
    "bn1": "open_norm",
    "conv1": "conv1",
    "bn2": "conv1_norm",
    "prelu": "prelu",
    "conv2": "conv2",
    "bn3": "conv2_norm",
    "downsample.0": "shortcut",
    "downsample.1": "shortcut_norm",
}


def read(tensors: Tensors, details: dict) -> Reading | None:
    if not any(re.fullmatch(r"layer\d\.\d+\.prelu\.weight", name) for name in tensors):
        return None
    return gather("insightface", tensors, _translate, layout="torch", inside=_inside)


def _translate(name: str) -> str | None:
    layer, _, leaf = name.rpartition(".")
    if leaf == "num_batches_tracked":
        return IGNORED
    found = re.fullmatch(r"layer(\d+)\.(\d+)\.(.+)", layer)
    ours = BLOCK.get(found[3]) if found else STEM.get(layer)
    if ours is None:
        return None
    if found:
        ours = f"stage{found[1]}_block{int(found[2]) + 1}_{ours}"
    return torch_leaf(ours, leaf, norm=ours.endswith("norm"))


def _inside(name: str) -> bool:
    return re.match(r"(layer\d+|conv1|bn1|prelu)\.", name) is not None
