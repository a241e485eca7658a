"""MXNet Gluon's ResNet v2, and the ONNX model zoo's, which was exported from it.

    resnetv24_conv0_weight, resnetv24_stage1_batchnorm0_gamma, ...: counted by kind in each stage, in order of creation

Three things differ from the paper's network and from ours, and are folded into what we have:

- A batch norm of the data, before the stem, becomes part of `standardise`.
- The stem has a norm and a ReLU before its pool, and the first block opens with a second norm and ReLU.  Where the
  second scales a channel by a > 0 and shifts it by b <= 0, relu(a relu(u) + b) = relu(a u + b): one norm does for both.
  Where b > 0, that holds for u >= 0 only.  In the published ResNet-50 this is so in two channels of 64, whose u is
  positive with more than two deviations.
- A pool takes the maximum, so a channel whose first norm has a negative scale changes sign first, in the stem's kernel.
"""

import re

import numpy as np

from resnet_tasks.weights.conventions.reading import (
    EPSILON,
    HEAD,
    Reading,
    Tensors,
    depths,
    gather,
    opening_norm,
)

NAME = re.compile(r"(resnetv2\d*_)(?:stage(\d)_)?(conv|batchnorm|dense)(\d+)_(\w+)")
LEAVES = {
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
    "moving_mean": "moving_mean",
    "moving_var": "moving_variance",
    "weight": "kernel",
    "bias": "bias",
}
IMAGENET_RGB = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # what the zoo's pictures went through first
BASIC = "a pre-activation network of basic blocks, of which the catalogue has none"
LEADING = ("data", "stem_first_norm")  # batch norms 0 and 1 outside the stages


def read(tensors: Tensors, details: dict) -> Reading | None:
    found = [match for name in tensors if (match := NAME.fullmatch(name))]
    if not found:
        return None
    first = next((tensors[match[0]] for match in found if match.group(2, 3, 4) == ("1", "conv", "0")), None)
    if first is not None and first.shape[2:] == (3, 3):
        return Reading(convention="MXNet v2", refused=BASIC)
    blocks = depths(
        (int(match[2]), _block(match[3], int(match[4]))[0]) for match in found if match[2] and match[3] != "dense"
    )

    def translate(name: str) -> str | None:
        match = NAME.fullmatch(name)
        leaf = match and LEAVES.get(match[5])
        if not match or leaf is None:
            return None
        if match[3] == "dense":
            return HEAD + leaf
        return f"{_ours(match[2], match[3], int(match[4]), blocks)}/{leaf}"

    reading = gather("MXNet v2", tensors, translate, layout="torch", inside=lambda name: bool(NAME.fullmatch(name)))
    reading.traits = {"stride_in": "3x3", "shortcut": "project"}
    reading.standardise = _with_data_norm(_taken(reading, "data"))
    _fold_first_norm(reading, _taken(reading, "stem_first_norm"))
    return reading


def _block(kind: str, index: int) -> tuple[int, int]:
    """The block, from 1, and the place in it, from 1, of a stage's counted layer; place 4 is the shortcut."""
    if kind == "batchnorm":
        return index // 3 + 1, index % 3 + 1
    return (1, index + 1) if index < 4 else ((index - 4) // 3 + 2, (index - 4) % 3 + 1)


def _ours(stage: str | None, kind: str, index: int, blocks: dict[int, int]) -> str:
    if stage is None:
        if kind == "conv":
            return f"stem_conv{index + 1}"
        return LEADING[index] if index < len(LEADING) else opening_norm(max(blocks, default=0) + 1, 1, blocks)
    block, place = _block(kind, index)
    if kind == "batchnorm" and place == 1:
        return opening_norm(int(stage), block, blocks)
    ours = f"conv{place - 1}_norm" if kind == "batchnorm" else "shortcut" if place == 4 else f"conv{place}"
    return f"stage{stage}_block{block}_{ours}"


def _taken(reading: Reading, norm: str) -> dict[str, np.ndarray]:
    """A norm's four vectors, taken out of what has been read; none if it is not whole."""
    paths = [path for path in reading.values if path.partition("/")[0] == norm]
    found = {path.partition("/")[2]: reading.values.pop(path).astype(np.float64) for path in paths}
    for name in [name for name, path in reading.sources.items() if path in paths]:
        reading.sources[name] = {"data": "standardise", "stem_first_norm": "stem_out_norm"}[norm]
    return found if len(found) == 4 else {}


def _with_data_norm(norm: dict[str, np.ndarray]):
    """Mean and deviation of RGB 0..255 when a batch norm follows ImageNet's constants."""
    mean, deviation = (np.array(values) for values in IMAGENET_RGB)
    if norm:
        width = np.sqrt(norm["moving_variance"] + EPSILON) / norm["gamma"]
        mean = mean + deviation * (norm["moving_mean"] - norm["beta"] * width)
        deviation = deviation * width
    return tuple(map(float, mean)), tuple(map(float, deviation))


def _fold_first_norm(reading: Reading, first: dict[str, np.ndarray]) -> None:
    """Two norms and ReLUs in a row, the pool between them, as the one norm and ReLU that we have.

    The second norm reads u = |scale| p + shift of the pooled channel p: its statistics are carried back through that,
    and its gamma and beta stay.
    """
    names = [f"stem_out_norm/{leaf}" for leaf in ("gamma", "beta", "moving_mean", "moving_variance")]
    if not first or "stem_conv1/kernel" not in reading.values or any(name not in reading.values for name in names):
        for path in ("stem_conv1/kernel", *names):
            reading.values.pop(path, None)  # neither is of use without the others
        return
    gamma, beta, mean, variance = (reading.values[name].astype(np.float64) for name in names)
    scale = first["gamma"] / np.sqrt(first["moving_variance"] + EPSILON)
    shift = first["beta"] - first["moving_mean"] * scale
    kernel = reading.values["stem_conv1/kernel"] * np.where(scale < 0, -1, 1)
    slope = gamma / np.sqrt(variance + EPSILON)
    offset = beta - mean * slope
    scale = np.abs(scale)
    constant = (scale < 1e-12) | ((slope <= 0) & (offset <= 0))  # of the first: relu(shift); of the second: 0
    steady = np.maximum(slope * np.maximum(shift, 0) + offset, 0) * (scale < 1e-12)
    safe = np.where(constant, 1, scale)
    carried = np.maximum((variance + EPSILON) / safe**2 - EPSILON, 0)
    # Where no variance is small enough, gamma takes the rest.
    gamma = np.where(constant, 0, slope * safe * np.sqrt(carried + EPSILON))
    beta = np.where(constant, steady, slope * mean + offset)
    mean = np.where(constant, 0, (mean - shift) / safe)
    variance = np.where(constant, 1, carried)
    for name, value in zip(names, (gamma, beta, mean, variance)):
        reading.values[name] = value.astype(np.float32)
    reading.values["stem_conv1/kernel"] = kernel.astype(np.float32)
