"""The variables of every backbone in the catalogue: their paths and shapes, without building it or importing Keras.

The tests hold each layout to the network that `backbones.create` builds.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from resnet_tasks.weights import application_layouts
from resnet_tasks.weights.application_layouts import conv, norm

Shapes = dict[str, tuple[int, ...]]  # by `variable.path`, in the order of the network


@dataclass(frozen=True, kw_only=True)
class Residual:
    """As much of a residual network as its variables show; the fields are those of `backbones.specs`.

    Attributes:
        kernels: Side and output channels of the stem's convolutions.
        inner: Channels of a bottleneck's 3x3 over the stage's width.
    """

    depths: tuple[int, ...]
    basic: bool = False
    kernels: tuple[tuple[int, int], ...] = ((7, 64),)
    inner: int = 1
    groups: int = 1
    pre_activation: bool = False
    shortcut: str = "project"
    stride_in: str = "3x3"
    squeezed: int = 0  # input over hidden channels of squeeze-and-excitation


@dataclass(frozen=True)
class IResidual:
    """insightface's networks."""

    depths: tuple[int, ...]


D18, D34, D50, D101 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3)
DEEP = ((3, 32), (3, 32), (3, 64))


def _cifar(depth: int, shortcut: str) -> Residual:
    return Residual(depths=((depth - 2) // 6,) * 3, basic=True, kernels=((3, 16),), shortcut=shortcut)


NETWORKS: dict[str, Residual | IResidual] = {
    "resnet_18": Residual(depths=D18, basic=True),
    "resnet_34": Residual(depths=D34, basic=True),
    "resnet_50": Residual(depths=D50),
    "resnet_101": Residual(depths=D101),
    "resnet_152": Residual(depths=(3, 8, 36, 3)),
    "resnet_50_v1": Residual(depths=D50, stride_in="1x1"),
    "resnet_50_v2": Residual(depths=D50, pre_activation=True),
    "resnet_50_d": Residual(depths=D50, kernels=DEEP, shortcut="pool"),
    "resnext_50_32x4d": Residual(depths=D50, inner=2, groups=32),
    "resnext_101_32x8d": Residual(depths=D101, inner=4, groups=32),
    "wide_resnet_50_2": Residual(depths=D50, inner=2),
    "se_resnet_50": Residual(depths=D50, squeezed=16),
    "plain_18": Residual(depths=D18, basic=True, shortcut="none"),
    "plain_34": Residual(depths=D34, basic=True, shortcut="none"),
    **{f"resnet_{depth}_cifar": _cifar(depth, "pad") for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"plain_{depth}_cifar": _cifar(depth, "none") for depth in (20, 32, 44, 56, 110)},
    "iresnet_18": IResidual(D18),
    "iresnet_34": IResidual(D34),
    "iresnet_50": IResidual((3, 4, 14, 3)),
    "iresnet_100": IResidual((3, 13, 30, 3)),
}


def names() -> tuple[str, ...]:
    """Every name that has a layout: the catalogue's."""
    return (*NETWORKS, *application_layouts.NAMES)


@cache
def layout(name: str) -> Shapes:
    """The shapes of a backbone's variables; not to be altered."""
    network = NETWORKS.get(name)
    if network is None:
        return dict(application_layouts.variables(name))
    return dict(_residual(network) if isinstance(network, Residual) else _iresidual(network))


def traits(name: str) -> dict[str, str]:
    """What shapes do not show and yet changes the answers: `stride_in` of bottlenecks, and `shortcut`."""
    network = NETWORKS.get(name)
    if not isinstance(network, Residual):
        return {}
    return {"shortcut": network.shortcut} | ({} if network.basic else {"stride_in": network.stride_in})


def part_of(name: str, path: str) -> str:
    """The part of the network that a variable belongs to, for people: "stem", "stage 2 (C3)", "block 5"."""
    found = re.match(r"(stage|block|conv|pool)(\d+)", path)
    if found is None:
        return "stem" if path.startswith("stem") else "top"
    if found[1] != "stage":
        # A DenseNet's transition leads to the next dense block, and its conv1 is the stem.
        number = int(found[2]) + (found[1] == "pool")
        return "stem" if (found[1], number) == ("conv", 1) else f"block {number}"
    at_stride = {"imagenet": 1, "faces": 0, "cifar": -1}
    stem = "faces" if isinstance(NETWORKS.get(name), IResidual) else "cifar" if name.endswith("_cifar") else "imagenet"
    return f"stage {found[2]} (C{int(found[2]) + at_stride[stem]})"


def _residual(network: Residual) -> Iterator[tuple[str, tuple[int, ...]]]:
    channels = 3
    for index, (kernel, filters) in enumerate(network.kernels, 1):
        yield from conv(f"stem_conv{index}", kernel, channels, filters)
        yield from norm("stem_out_norm" if network.pre_activation else f"stem_conv{index}_norm", filters)
        channels = filters
    width = channels
    for stage, depth in enumerate(network.depths, 1):
        for index in range(1, depth + 1):
            name = f"stage{stage}_block{index}"
            inner = width * network.inner
            convs = [(3, width, 1), (3, width, 1)]
            if not network.basic:
                convs = [(1, inner, 1), (3, inner, network.groups), (1, 4 * width, 1)]
            read, opens = channels, index == 1 and stage > 1
            for place, (kernel, filters, groups) in enumerate(convs, 1):
                yield from conv(f"{name}_conv{place}", kernel, read // groups, filters)
                if place < len(convs) or not network.pre_activation:
                    yield from norm(f"{name}_conv{place}_norm", filters)
                read = filters
            if network.squeezed:
                hidden = read // network.squeezed
                yield from ((f"{name}_se_reduce/kernel", (1, 1, read, hidden)), (f"{name}_se_reduce/bias", (hidden,)))
                yield from ((f"{name}_se_expand/kernel", (1, 1, hidden, read)), (f"{name}_se_expand/bias", (read,)))
            if network.shortcut in ("project", "pool") and (opens or channels != read):
                yield from conv(f"{name}_shortcut", 1, channels, read)
                if not network.pre_activation:
                    yield from norm(f"{name}_shortcut_norm", read)
            if network.pre_activation:
                yield from norm(f"{name}_out_norm", read)
            channels = read
        width *= 2


def _iresidual(network: IResidual) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from conv("stem_conv", 3, 3, 64)
    yield from norm("stem_conv_norm", 64)
    yield "stem_prelu/alpha", (1, 1, 64)
    channels = 64
    for stage, depth in enumerate(network.depths, 1):
        width = 32 * 2**stage
        for index in range(1, depth + 1):
            name = f"stage{stage}_block{index}"
            yield from norm(f"{name}_open_norm", channels)
            yield from conv(f"{name}_conv1", 3, channels, width)
            yield from norm(f"{name}_conv1_norm", width)
            yield f"{name}_prelu/alpha", (1, 1, width)
            yield from conv(f"{name}_conv2", 3, width, width)
            yield from norm(f"{name}_conv2_norm", width)
            if index == 1:
                yield from conv(f"{name}_shortcut", 1, channels, width)
                yield from norm(f"{name}_shortcut_norm", width)
            channels = width
