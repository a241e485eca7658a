"""The variables of VGG-19, the DenseNets and the EfficientNets, which keep the layer names of `keras.applications`."""

import math
from collections.abc import Iterator

Variables = Iterator[tuple[str, tuple[int, ...]]]

DENSENETS = {
    "densenet_121": (6, 12, 24, 16),
    "densenet_169": (6, 12, 32, 32),
    "densenet_201": (6, 12, 48, 32),
}
# Width and depth over those of B0; Tan & Le 2019, https://arxiv.org/abs/1905.11946, section 3.3.
EFFICIENTNETS = {
    f"efficientnet_b{index}": scale
    for index, scale in enumerate(
        [(1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8), (1.6, 2.2), (1.8, 2.6), (2.0, 3.1)]
    )
}
# Of each stage of B0 the kernel, the blocks, the expansion and the output channels; section 4, table 1.
STAGES = ((3, 1, 1, 16), (3, 2, 6, 24), (5, 2, 6, 40), (3, 3, 6, 80), (5, 3, 6, 112), (5, 4, 6, 192), (3, 1, 6, 320))

NAMES = ("vgg_19", *DENSENETS, *EFFICIENTNETS)


def variables(name: str) -> Variables:
    """Paths and shapes, in the order of the network; `name` is one of `NAMES`."""
    if name in DENSENETS:
        return _densenet(DENSENETS[name])
    if name in EFFICIENTNETS:
        return _efficientnet(*EFFICIENTNETS[name])
    return _vgg_19()


def conv(name: str, kernel: int, read: int, filters: int, *, bias: bool = False) -> Variables:
    """A convolution's."""
    yield f"{name}/kernel", (kernel, kernel, read, filters)
    if bias:
        yield f"{name}/bias", (filters,)


def norm(name: str, channels: int) -> Variables:
    """A batch norm's four."""
    for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
        yield f"{name}/{leaf}", (channels,)


def _vgg_19() -> Variables:
    channels = 3
    for block, (depth, width) in enumerate(zip((2, 2, 4, 4, 4), (64, 128, 256, 512, 512)), 1):
        for index in range(1, depth + 1):
            yield from conv(f"block{block}_conv{index}", 3, channels, width, bias=True)
            channels = width


def _densenet(depths: tuple[int, ...], growth: int = 32) -> Variables:
    yield from conv("conv1_conv", 7, 3, 64)
    yield from norm("conv1_bn", 64)
    channels = 64
    for stage, depth in enumerate(depths, 2):
        for index in range(1, depth + 1):
            name = f"conv{stage}_block{index}"
            yield from norm(f"{name}_0_bn", channels)
            yield from conv(f"{name}_1_conv", 1, channels, 4 * growth)
            yield from norm(f"{name}_1_bn", 4 * growth)
            yield from conv(f"{name}_2_conv", 3, 4 * growth, growth)
            channels += growth
        if stage <= len(depths):
            yield from norm(f"pool{stage}_bn", channels)
            yield from conv(f"pool{stage}_conv", 1, channels, channels // 2)
            channels //= 2
    yield from norm("bn", channels)


def _efficientnet(width: float, depth: float) -> Variables:
    channels = _multiple_of_8(32 * width)
    yield from conv("stem_conv", 3, 3, channels)
    yield from norm("stem_bn", channels)
    for stage, (kernel, blocks, expansion, filters) in enumerate(STAGES, 1):
        for index in range(math.ceil(depth * blocks)):
            name, wide = f"block{stage}{chr(ord('a') + index)}", channels * expansion
            if expansion != 1:
                yield from conv(f"{name}_expand_conv", 1, channels, wide)
                yield from norm(f"{name}_expand_bn", wide)
            yield f"{name}_dwconv/kernel", (kernel, kernel, wide, 1)
            yield from norm(f"{name}_bn", wide)
            hidden = max(1, channels // 4)
            yield from conv(f"{name}_se_reduce", 1, wide, hidden, bias=True)
            yield from conv(f"{name}_se_expand", 1, hidden, wide, bias=True)
            channels = _multiple_of_8(filters * width)
            yield from conv(f"{name}_project_conv", 1, wide, channels)
            yield from norm(f"{name}_project_bn", channels)
    top = _multiple_of_8(1280 * width)
    yield from conv("top_conv", 1, channels, top)
    yield from norm("top_bn", top)


def _multiple_of_8(channels: float) -> int:
    """The nearest, but never less than nine tenths of what was asked for."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
