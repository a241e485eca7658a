"""KerasHub's `ResNetBackbone`: v1.5 (which it calls ResNet), v2 and D ("vd").

conv1_conv, conv1_bn, stack0_block0_1_conv, stack0_block0_1_bn, stack0_block0_0_conv (the shortcut), predictions;
of v2 stack0_block0_pre_activation_bn and post_bn
"""

import re

from resnet_tasks.weights.conventions.reading import HEAD, Reading, Tensors, depths, gather, opening_norm

HALF = ((127.5,) * 3, (127.5,) * 3)  # its v2 weights are timm's
BLOCK = re.compile(r"stack(\d)_block(\d+)_(?:(\d)_(conv|bn)|pre_activation_bn)")


def read(tensors: Tensors, details: dict) -> Reading | None:
    found = [match for name in tensors if (match := BLOCK.match(_layer(name)))]
    if not found:
        return None
    blocks = depths((int(match[1]) + 1, int(match[2]) + 1) for match in found)

    def translate(name: str) -> str | None:
        layer, leaf = _layer(name), name.rpartition("/")[2]
        if layer == "predictions":
            return HEAD + leaf
        ours = _ours(layer, blocks)
        return ours and f"{ours}/{leaf}"

    reading = gather("KerasHub", tensors, translate, layout="keras", inside=_inside)
    deep = any(_layer(name) == "conv2_conv" for name in tensors)
    reading.traits = {"stride_in": "3x3", "shortcut": "pool" if deep else "project"}
    if any(match[0].endswith("pre_activation_bn") for match in found):
        reading.standardise = HALF
    return reading


def _layer(name: str) -> str:
    """The layer's own name, without those of the models around it."""
    return name.rpartition("/")[0].rpartition("/")[2]


def _ours(layer: str, blocks: dict[int, int]) -> str | None:
    if found := re.fullmatch(r"conv(\d)_(conv|bn)", layer):
        return f"stem_conv{found[1]}{'_norm' if found[2] == 'bn' else ''}"
    if layer == "post_bn":
        return opening_norm(len(blocks) + 1, 1, blocks)
    found = BLOCK.fullmatch(layer)
    if found is None:
        return None
    stage, block = int(found[1]) + 1, int(found[2]) + 1
    if found[3] is None:
        return opening_norm(stage, block, blocks)
    part = "shortcut" if found[3] == "0" else f"conv{found[3]}"
    return f"stage{stage}_block{block}_{part}{'_norm' if found[4] == 'bn' else ''}"


def _inside(name: str) -> bool:
    return re.match(r"stack\d+_|conv\d_|post_bn", _layer(name)) is not None
