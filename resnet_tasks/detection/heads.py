"""What reads a feature pyramid: towers of convolutions, shared by all levels, that predict at every place."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers

SMALL = 0.01  # the deviation of the last kernels, as the authors of RetinaNet and Faster R-CNN begin
PRIOR = 0.01  # the share of places that show a thing, as the first predictions have it: Lin et al. 2017, section 4.1
ACTIVATIONS = {"relu": layers.ReLU, "silu": lambda name: layers.Activation("silu", name=name)}


def tower(pyramid: Mapping, depth: int, channels: int, *, norm: str | None, activation: str, name: str) -> dict:
    """`depth` 3x3 convolutions, the same on all levels; norms, whose statistics differ, are each level's own.

    Args:
        pyramid: `{"P3": (batch, height, width, any), ...}`, of equal channels.
        depth: How many; 0 gives the pyramid itself.
        channels: Of each.
        norm: `None` (the convolutions then have biases), "batch" or "group".
        activation: "relu" or "silu".
        name: Of the layers.

    Returns:
        `{"P3": (batch, height, width, channels), ...}`.
    """
    current = dict(pyramid)
    for index in range(1, depth + 1):
        conv = layers.Conv2D(
            channels, 3, padding="same", use_bias=norm is None, kernel_initializer="he_normal", name=f"{name}{index}"
        )
        for key, x in current.items():
            x = conv(x)
            if norm is not None:
                x = _norm(norm, channels, f"{name}{index}_norm_{key}")(x)
            current[key] = ACTIVATIONS[activation](name=f"{name}{index}_{activation}_{key}")(x)
    return current


def predictions(
    tower: Mapping,
    kernel: int,
    channels: int,
    *,
    name: str,
    prior: float | None = None,
    first: Any = None,
    bias: Any = 0.0,
) -> dict:
    """The last convolution, float32 whatever the policy.

    Args:
        tower: `{"P3": (batch, height, width, any), ...}`.
        kernel: Its side.
        channels: Numbers at each place.
        name: Of the layer; the outputs are called `{name}_P3`.
        prior: The probability that the sigmoid of its first outputs comes to; `None` for outputs around 0.
        first: The kernel's initialiser; `None` for a small normal one.
        bias: Its biases' first values, without `prior`: a number, or one for each output.

    Returns:
        `{"P3": (batch, height, width, channels), ...}`.
    """
    conv = layers.Conv2D(
        channels,
        kernel,
        padding="same",
        # Made here: an initialiser takes its seed when it is made, and gives the same numbers at each call.
        kernel_initializer=first or keras.initializers.RandomNormal(stddev=SMALL),
        bias_initializer=keras.initializers.Constant(bias if prior is None else -math.log((1 - prior) / prior)),
        dtype=keras.config.floatx(),
        name=name,
    )
    return {key: conv(x) for key, x in tower.items()}


def box_head(size: int, channels: int, width: int, classes: int, name: str) -> keras.Model:
    """Fast R-CNN's second stage: two wide layers on a region's features (Lin et al. 2016, section 4.2).

    Returns:
        From `(regions, size, size, channels)` to `class` `(regions, classes + 1)`, logits of which the first is the
        background's, and `box` `(regions, 4 * (classes + 1))`, offsets for each of these, the background's unused.
    """
    region = keras.Input((size, size, channels), name="region")
    x = layers.Flatten(name="flat")(region)
    for index in (1, 2):
        x = layers.Dense(width, "relu", kernel_initializer="he_uniform", name=f"dense{index}")(x)
    precise = keras.config.floatx()
    normal: Callable = keras.initializers.RandomNormal
    outputs = {
        "class": layers.Dense(classes + 1, kernel_initializer=normal(stddev=SMALL), dtype=precise, name="class")(x),
        "box": layers.Dense(4 * (classes + 1), kernel_initializer=normal(stddev=0.001), dtype=precise, name="box")(x),
    }
    return keras.Model(region, outputs, name=name)


def _norm(kind: str, channels: int, name: str):
    if kind == "group":
        return layers.GroupNormalization(math.gcd(32, channels // 2), epsilon=1e-5, name=name)
    # Batches are small where pictures are large: the averages follow more slowly than a classifier's.
    return layers.BatchNormalization(momentum=0.97, epsilon=1e-3, name=name)
