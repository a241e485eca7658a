"""timm's `resnetv2.py`: pre-activation ResNets.

    stem.conv, stages.0.blocks.0.norm1, .conv1, .norm2, .conv2, .norm3, .conv3, .downsample.conv, norm, head.fc

Its weights were trained on channels of mean and deviation 0.5, not with ImageNet's constants.
"""

import re

from resnet_tasks.weights.conventions.reading import HEAD, Reading, Tensors, depths, gather, opening_norm, torch_leaf

HALF = ((127.5,) * 3, (127.5,) * 3)
BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.(.+)")
BIT = (
    "its norms have no running statistics: these are networks of group norms and standardised kernels (Big Transfer), "
    "which no backbone here can equal"
)


def read(tensors: Tensors, details: dict) -> Reading | None:
    found = [match for name in tensors if (match := BLOCK.match(name))]
    if not any("norm1" in match[3] for match in found):
        return None
    if not any(name.endswith(".running_mean") for name in tensors):
        return Reading(convention="timm resnetv2", refused=BIT)
    blocks = depths((int(match[1]) + 1, int(match[2]) + 1) for match in found)

    def translate(name: str) -> str | None:
        layer, _, leaf = name.rpartition(".")
        if layer == "head.fc":
            return HEAD + {"weight": "kernel", "bias": "bias"}.get(leaf, leaf)
        ours = _ours(layer, blocks)
        return None if ours is None else torch_leaf(ours, leaf, norm=ours.endswith("norm"))

    reading = gather("timm resnetv2", tensors, translate, layout="torch", inside=_inside)
    reading.traits = {"stride_in": "3x3", "shortcut": "project"}
    reading.standardise = HALF
    return reading


def _ours(layer: str, blocks: dict[int, int]) -> str | None:
    if layer == "stem.conv":
        return "stem_conv1"
    if layer == "norm":
        return opening_norm(len(blocks) + 1, 1, blocks)
    found = BLOCK.fullmatch(layer)
    if found is None:
        return None
    stage, block = int(found[1]) + 1, int(found[2]) + 1
    if found[3] == "norm1":
        return opening_norm(stage, block, blocks)
    part = {"conv1": "conv1", "norm2": "conv1_norm", "conv2": "conv2", "norm3": "conv2_norm", "conv3": "conv3"}
    ours = {**part, "downsample.conv": "shortcut"}.get(found[3])
    return ours and f"stage{stage}_block{block}_{ours}"


def _inside(name: str) -> bool:
    return re.match(r"(stem|stages|norm)\.", name) is not None
