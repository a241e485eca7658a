"""torchvision's names, which timm's `resnet.py` shares: ResNet, ResNeXt, wide, D, SE; v1.5, its stride in the 3x3.

    conv1, bn1, layer1.0.conv1, layer1.0.bn1, layer1.0.downsample.0, fc

timm adds the deep stem (conv1.0, conv1.1, conv1.3, ...), the pooled shortcut (downsample.0 is the pool, which has no
parameters) and the gates (layer1.0.se.fc1; se_module in its older files).
"""

import re

from resnet_tasks.weights.conventions.reading import HEAD, Reading, Tensors, gather, torch_leaf

HEADS = ("fc", "classifier", "last_linear", "head.fc", "linear")
DEEP = {
    "conv1.0": "stem_conv1",
    "conv1.1": "stem_conv1_norm",
    "conv1.3": "stem_conv2",
    "conv1.4": "stem_conv2_norm",
    "conv1.6": "stem_conv3",
    "bn1": "stem_conv3_norm",
}
PLAIN = {"conv1": "stem_conv1", "bn1": "stem_conv1_norm"}
BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)")
GATES = {"fc1": "se_reduce", "fc2": "se_expand", "fc.0": "se_reduce", "fc.2": "se_expand"}
LEGACY_SE = (
    "these are the first SE-ResNets (Cadene's, timm's legacy_seresnet*): they take their strides in the 1x1 "
    "convolutions and pool without padding, so no backbone here can equal them; take timm's seresnet50"
)


def read(tensors: Tensors, details: dict) -> Reading | None:
    if not any(re.fullmatch(r"layer\d+\.\d+\.conv\d\.weight", name) for name in tensors):
        return None
    if "layer0.conv1.weight" in tensors:
        return Reading(convention="timm", refused=LEGACY_SE)
    deep = "conv1.0.weight" in tensors
    pooled = _pooled(tensors)
    gated = any(".se." in name or ".se_module." in name for name in tensors)

    def translate(name: str) -> str | None:
        layer, _, leaf = name.rpartition(".")
        if layer in HEADS:
            return HEAD + {"weight": "kernel", "bias": "bias"}.get(leaf, leaf)
        stem = (DEEP if deep else PLAIN).get(layer)
        if stem is not None:
            return torch_leaf(stem, leaf, norm=stem.endswith("norm"))
        found = BLOCK.fullmatch(layer)
        ours = _inside_block(found[3], pooled) if found else None
        if found is None or ours is None:
            return None
        return torch_leaf(f"stage{found[1]}_block{int(found[2]) + 1}_{ours}", leaf, norm=ours.endswith("norm"))

    convention = "timm" if deep or pooled or gated else "torchvision"
    reading = gather(convention, tensors, translate, layout="torch", inside=inside)
    reading.traits = {"stride_in": "3x3", "shortcut": "pool" if pooled else "project"}
    return reading


def inside(name: str) -> bool:
    """Whether a name is the backbone's."""
    return re.match(r"(layer\d+|conv1|bn1|stem)\.", name) is not None


def _pooled(tensors: Tensors) -> bool:
    """Whether the shortcuts average first: their convolution then comes second."""
    return any(name.endswith(".downsample.1.weight") and tensor.ndim == 4 for name, tensor in tensors.items())


def _inside_block(layer: str, pooled: bool) -> str | None:
    """Our name of a block's layer."""
    if found := re.fullmatch(r"(conv|bn)(\d)", layer):
        return f"conv{found[2]}" + ("_norm" if found[1] == "bn" else "")
    if found := re.fullmatch(r"downsample\.(\d)", layer):
        return {0: "shortcut", 1: "shortcut_norm"}.get(int(found[1]) - pooled)
    if found := re.fullmatch(r"(?:se|se_module)\.(fc1|fc2|fc\.0|fc\.2)", layer):
        return GATES[found[1]]
    return None
