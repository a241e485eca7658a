"""What a convention makes of a checkpoint: our names and layouts, whatever the backbone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Tensors = Mapping[str, np.ndarray]
Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of RGB 0..255

# Under which wrappers put the network that they wrap.
PREFIXES = ("module.", "model.", "backbone.", "encoder.")
IGNORED = ""
HEAD = "head/"
EPSILON = 1e-5  # of our batch norms


@dataclass(kw_only=True)
class Reading:
    """A checkpoint in our words.

    Attributes:
        convention: Whose names these are.
        values: By our `variable.path`, in our layout, float32.
        sources: Their name to our path, or to "head/kernel" and "head/bias".
        head: A classifier's kernel `(features, classes)` and bias `(classes,)`, or as much of it as there is.
        unused: Their names outside the backbone, in their order.
        foreign: Their names inside the backbone that no layer of ours takes: another family's.
        standardise: What the weights were trained with, or `None` for the backbone's own constants.
        traits: What shapes do not show, as `layouts.traits`.
        backbone: The catalogue's name, where the file says it.
        refused: Why no backbone of the catalogue can equal this network.
    """

    convention: str
    values: dict[str, np.ndarray] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    head: dict[str, np.ndarray] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    standardise: Constants | None = None
    traits: dict[str, str] = field(default_factory=dict)
    backbone: str | None = None
    refused: str | None = None


def gather(
    convention: str,
    tensors: Tensors,
    translate: Callable[[str], str | None],
    *,
    layout: Literal["torch", "keras"],
    inside: Callable[[str], bool] = lambda name: False,
    epsilon: float = EPSILON,
) -> Reading:
    """Renames and lays out each tensor.

    Args:
        convention: Its name.
        tensors: Without prefixes.
        translate: From their name to our path, `HEAD` and a leaf for a classifier, `IGNORED`, or `None`.
        layout: "torch" has convolutions OIHW and matrices (outputs, inputs).
        inside: Whether a name that is not translated belongs to the backbone.
        epsilon: Of their batch norms; the difference from ours goes into the moving variance.
    """
    reading = Reading(convention=convention)
    for name, array in tensors.items():
        path = translate(name)
        if path == IGNORED:
            continue
        if path is None or path in reading.sources.values():
            (reading.foreign if inside(name) else reading.unused).append(name)
            continue
        reading.sources[name] = path
        value = _from_torch(array, path) if layout == "torch" else np.asarray(array, np.float32)
        if path.startswith(HEAD):
            reading.head[path.removeprefix(HEAD)] = value
        else:
            reading.values[path] = value
    _fold_biases(reading)
    if epsilon != EPSILON:
        for path in reading.values:
            if path.endswith("/moving_variance"):
                reading.values[path] = reading.values[path] + np.float32(epsilon - EPSILON)
    return reading


def without_prefixes(names: Iterable[str]) -> dict[str, str]:
    """Short names, each with the whole one; a short name that is taken already stays whole."""
    short: dict[str, str] = {}
    for name in names:
        bare = _bare(name)
        short[name if bare in short else bare] = name
    return short


def torch_leaf(layer: str, leaf: str, *, norm: bool) -> str | None:
    """Our path of a parameter of PyTorch's `Conv2d`, `Linear`, `PReLU` or `BatchNorm2d`, as the layer is named here."""
    if leaf == "num_batches_tracked":
        return IGNORED
    if norm:
        ours = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    else:
        ours = {"weight": "alpha" if layer.endswith("prelu") else "kernel", "bias": "bias"}
    return f"{layer}/{ours[leaf]}" if leaf in ours else None


def depths(indices: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The number of blocks of each stage, from the (stage, block) that occur, both counted from 1."""
    found: dict[int, int] = {}
    for stage, block in indices:
        found[stage] = max(found.get(stage, 0), block)
    return found


def opening_norm(stage: int, block: int, blocks: Mapping[int, int]) -> str:
    """The norm that opens a pre-activation block: here it closes the one before."""
    if block > 1:
        return f"stage{stage}_block{block - 1}_out_norm"
    return f"stage{stage - 1}_block{blocks.get(stage - 1, 1)}_out_norm" if stage > 1 else "stem_out_norm"


def _bare(name: str) -> str:
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name


def _from_torch(array: np.ndarray, path: str) -> np.ndarray:
    array = np.asarray(array, np.float32)
    leaf = path.rpartition("/")[2]
    if leaf == "alpha":
        return array.reshape(1, 1, -1)
    if leaf != "kernel":
        return array
    if path.startswith(HEAD):  # a matrix, or a 1x1 convolution that does its work
        return np.ascontiguousarray(array.reshape(array.shape[:2]).T) if array[0, 0].size == 1 else array
    if array.ndim == 2:  # a gate's
        array = array[:, :, None, None]
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if array.ndim == 4 else array


def _fold_biases(reading: Reading) -> None:
    """A bias before a batch norm is a mean that the norm need not subtract."""
    for path in [path for path in reading.values if path.endswith("/bias")]:
        mean = f"{path.removesuffix('/bias')}_norm/moving_mean"
        if mean in reading.values and reading.values[mean].shape == reading.values[path].shape:
            reading.values[mean] = reading.values[mean] - reading.values.pop(path)
