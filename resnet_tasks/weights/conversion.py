"""From a checkpoint of whatever origin to the variables of a backbone of the catalogue, or the reason why not."""

from dataclasses import dataclass

import numpy as np

from resnet_tasks.errors import DataError, UsageError, nearest
from resnet_tasks.weights import layouts
from resnet_tasks.weights.checkpoint import Checkpoint
from resnet_tasks.weights.conventions import (
    cifar,
    insightface,
    keras_applications,
    keras_hub,
    model_config,
    mxnet_v2,
    own,
    timm_v2,
    torchvision,
)
from resnet_tasks.weights.conventions.reading import Constants, Reading, without_prefixes

# The first that knows the names reads them: insightface and CIFAR before torchvision, whose names they share.
CONVENTIONS = (own, keras_hub, keras_applications, mxnet_v2, timm_v2, insightface, cifar, torchvision)
KNOWN = (
    "torchvision, timm (resnet, resnetv2), MXNet's or the ONNX zoo's v2, insightface, PyTorch's CIFAR nets, "
    "keras.applications, KerasHub and this project"
)
DIFFERENCES = {
    "stride_in": "its bottlenecks take their stride in the {0} convolution, and those of {name} in the {1}",
    "shortcut": 'its shortcuts are of the kind "{0}", and those of {name} "{1}"',
}


@dataclass(frozen=True)
class Conversion:
    """Weights for a backbone of the catalogue.

    Attributes:
        values: By our `variable.path`, in our layout, float32.
        head: A classifier's kernel `(features, classes)` and bias `(classes,)`, or `None`.
        unused: Their names that no layer of ours takes.
        convention: Whose names they were.
        standardise: Mean and deviation of RGB 0..255 that the weights were trained with, or `None` for the backbone's
            own constants.
    """

    values: dict[str, np.ndarray]
    head: dict[str, np.ndarray] | None
    unused: tuple[str, ...]
    convention: str
    standardise: Constants | None


def convert(checkpoint: Checkpoint, name: str) -> Conversion:
    """Names, lays out and folds the weights for one backbone; some of its variables may find nothing.

    Raises:
        UsageError: The catalogue has no such name.
        DataError: Nobody's names that are known here, or another network's weights.
    """
    if name not in layouts.names():
        raise UsageError(f"no backbone is called {name!r}{nearest(name, layouts.names())}")
    reading = read_names(checkpoint)
    why, others = misfit(checkpoint, reading, name), fitting(checkpoint, reading)
    if why is None and name not in others:
        missing = next(path for path in layouts.layout(name) if path not in reading.values)
        why = f"they are the whole of {others[0]}, and {name} has more, as {missing}"
    if why:
        raise DataError(f"{checkpoint.path}: {reading.convention} weights, but not of {name}: {why}; {_hint(others)}")
    head = reading.head if {"kernel", "bias"} <= reading.head.keys() else None
    left = [] if head else [theirs for theirs, path in reading.sources.items() if path.startswith("head/")]
    return Conversion(reading.values, head, (*reading.unused, *left), reading.convention, reading.standardise)


def candidates(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The catalogue's names that the checkpoint fits, wholly or in part, best first.

    Raises:
        DataError: Nobody's names that are known here, or a network that no backbone can equal.
    """
    return fitting(checkpoint, read_names(checkpoint))


def read_names(checkpoint: Checkpoint) -> Reading:
    """The checkpoint in our words, whatever the backbone.

    Raises:
        DataError: As `candidates`.
    """
    theirs = without_prefixes(checkpoint.tensors)
    tensors = {bare: checkpoint.tensors[name] for bare, name in theirs.items()}
    read = (convention.read(tensors, checkpoint.details) for convention in CONVENTIONS)
    reading = next((found for found in read if found is not None), None)
    if reading is None:
        some = ", ".join(list(checkpoint.tensors)[:3])
        raise DataError(
            f"{checkpoint.path}: nobody's names for a backbone of the catalogue ({some}, ...); known are {KNOWN}"
        )
    if reading.refused:
        raise DataError(f"{checkpoint.path}: {reading.convention} weights that cannot be taken: {reading.refused}")
    if not reading.values:
        raise DataError(f"{checkpoint.path}: {reading.convention} names, but nothing of a backbone among them")
    if checkpoint.format == "keras":
        config = model_config.read(checkpoint.path)
        reading.backbone = model_config.backbone(config) or reading.backbone
        reading.standardise = model_config.constants(config) or reading.standardise
    if reading.backbone in layouts.names():
        reading.traits = layouts.traits(reading.backbone)
    reading.sources = {theirs[bare]: path for bare, path in reading.sources.items()}
    reading.unused = [theirs[bare] for bare in reading.unused]
    reading.foreign = [theirs[bare] for bare in reading.foreign]
    return reading


def misfit(checkpoint: Checkpoint, reading: Reading, name: str) -> str | None:
    """Why these weights are not this backbone's: the first difference; `None` if they are, wholly or in part."""
    if reading.foreign:
        theirs = reading.foreign[0]
        return f"no backbone here has a layer for {theirs}, or the {len(reading.foreign)} names like it"
    for trait, ours in layouts.traits(name).items():
        theirs = reading.traits.get(trait, ours)
        if theirs != ours:
            return DIFFERENCES[trait].format(theirs, ours, name=name)
    layout = layouts.layout(name)
    for theirs, path in reading.sources.items():
        if path not in reading.values:
            continue
        came = f"{theirs} {checkpoint.tensors[theirs].shape}"
        if path not in layout:
            return f"{came} would be {path}, which {name} does not have"
        if reading.values[path].shape != layout[path]:
            return f"{came} would be {path}, as {reading.values[path].shape}, which is {layout[path]} in {name}"
    return None


def fitting(checkpoint: Checkpoint, reading: Reading) -> tuple[str, ...]:
    """The catalogue's names without a misfit, the most complete first; of a whole network no larger ones."""
    names = [name for name in layouts.names() if misfit(checkpoint, reading, name) is None]
    names = [name for name in names if _whole(reading, name)] or names
    return tuple(sorted(names, key=lambda name: (name != reading.backbone, -_share(reading, name))))


def _share(reading: Reading, name: str) -> float:
    return len(reading.values) / len(layouts.layout(name))


def _whole(reading: Reading, name: str) -> bool:
    return layouts.layout(name).keys() <= reading.values.keys()


def _hint(others: tuple[str, ...]) -> str:
    if not others:
        return "they are of no backbone in the catalogue (`resnet-tasks backbones` lists it)"
    return f"they look like {others[0]}: pass that as the backbone"
