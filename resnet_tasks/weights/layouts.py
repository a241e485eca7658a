"""The variables of every backbone in the catalogue: their paths and shapes, without building it or importing Keras.

What tells one network from another is its spec; what its variables are called and how large they are follows from it
here.  The tests hold each layout to the network that `backbones.create` builds.
"""

import re
from collections.abc import Iterator
from functools import cache

from resnet_tasks.backbones.specs import CATALOG, ApplicationSpec, IResNetSpec, ResNetSpec
from resnet_tasks.weights import application_layouts
from resnet_tasks.weights.application_layouts import conv, norm

Shapes = dict[str, tuple[int, ...]]  # by `variable.path`, in the order of the network


def names() -> tuple[str, ...]:
    """Every name that has a layout: the catalogue's."""
    return tuple(CATALOG)


@cache
def layout(name: str) -> Shapes:
    """The shapes of a backbone's variables; not to be altered."""
    spec = CATALOG[name].spec
    if isinstance(spec, ApplicationSpec):
        return dict(application_layouts.variables(name))
    return dict(_residual(spec) if isinstance(spec, ResNetSpec) else _iresidual(spec))


def traits(name: str) -> dict[str, str]:
    """What shapes do not show and yet changes the answers: `stride_in` of bottlenecks, and `shortcut`."""
    spec = CATALOG[name].spec
    if not isinstance(spec, ResNetSpec):
        return {}
    return {"shortcut": spec.shortcut} | ({} if spec.block == "basic" else {"stride_in": spec.stride_in})


def part_of(name: str, path: str) -> str:
    """The part of the network that a variable belongs to, for people: "stem", "stage 2 (C3)", "block 5"."""
    found = re.match(r"(stage|block|conv|pool)(\d+)", path)
    if found is None:
        return "stem" if path.startswith("stem") else "top"
    if found[1] != "stage":
        # A DenseNet's transition leads to the next dense block, and its conv1 is the stem.
        number = int(found[2]) + (found[1] == "pool")
        return "stem" if (found[1], number) == ("conv", 1) else f"block {number}"
    spec = CATALOG[name].spec
    depths = () if isinstance(spec, ApplicationSpec) else spec.depths
    return f"stage {found[2]} ({spec.levels[int(found[2]) - 1 - len(depths)]})"


def _residual(spec: ResNetSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    channels, width = 3, spec.width
    stems = {"imagenet": [(7, width)], "deep": [(3, width // 2), (3, width // 2), (3, width)], "cifar": [(3, width)]}
    for index, (kernel, filters) in enumerate(stems[spec.stem], 1):
        yield from conv(f"stem_conv{index}", kernel, channels, filters)
        yield from norm("stem_out_norm" if spec.pre_activation else f"stem_conv{index}_norm", filters)
        channels = filters
    for stage, depth in enumerate(spec.depths, 1):
        for index in range(1, depth + 1):
            name = f"stage{stage}_block{index}"
            inner = width * spec.groups * (spec.group_width or spec.width) // spec.width
            convs = [(3, width, 1), (3, width, 1)]
            if spec.block == "bottleneck":
                convs = [(1, inner, 1), (3, inner, spec.groups), (1, 4 * width, 1)]
            read, opens = channels, index == 1 and stage > 1
            for place, (kernel, filters, groups) in enumerate(convs, 1):
                yield from conv(f"{name}_conv{place}", kernel, read // groups, filters)
                if place < len(convs) or not spec.pre_activation:
                    yield from norm(f"{name}_conv{place}_norm", filters)
                read = filters
            if spec.se_ratio:
                hidden = round(read * spec.se_ratio)
                yield from ((f"{name}_se_reduce/kernel", (1, 1, read, hidden)), (f"{name}_se_reduce/bias", (hidden,)))
                yield from ((f"{name}_se_expand/kernel", (1, 1, hidden, read)), (f"{name}_se_expand/bias", (read,)))
            if spec.shortcut in ("project", "pool") and (opens or channels != read):
                yield from conv(f"{name}_shortcut", 1, channels, read)
                if not spec.pre_activation:
                    yield from norm(f"{name}_shortcut_norm", read)
            if spec.pre_activation:
                yield from norm(f"{name}_out_norm", read)
            channels = read
        width *= 2


def _iresidual(spec: IResNetSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from conv("stem_conv", 3, 3, 64)
    yield from norm("stem_conv_norm", 64)
    yield "stem_prelu/alpha", (1, 1, 64)
    channels = 64
    for stage, depth in enumerate(spec.depths, 1):
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
