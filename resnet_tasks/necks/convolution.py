"""The convolution that necks are made of, with or without a norm, and what they ask of a pyramid's sizes."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

from keras import layers

Norm = Literal["batch", "group"]


def conv(x, filters: int, kernel: int, stride: int = 1, *, norm: Norm | None = None, activation=None, name: str):
    """A convolution padded alike on both sides; with a norm behind it, it has no bias of its own.

    Under a stride, TensorFlow's "same" pads more on the right and bottom.
    """
    if stride > 1 and kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters, kernel, stride, "valid" if stride > 1 else "same", use_bias=norm is None,
        # Variance 1 / fan-in, as FPN's authors begin (Caffe2's XavierFill); behind a norm it makes no difference.
        kernel_initializer="lecun_uniform", name=name,
    )(x)  # fmt: skip
    if norm == "batch":
        # A detector's batch is a few pictures, whose statistics are noise: the average is of some 33 steps, not 10.
        # And in few pictures a channel can be next to silent: 1e-3, not 1e-5, keeps that from being amplified.
        x = layers.BatchNormalization(momentum=0.97, epsilon=1e-3, name=f"{name}_norm")(x)
    elif norm == "group":
        # Wu & He's 32 groups, or as many as leave at least two channels in each.
        x = layers.GroupNormalization(math.gcd(32, filters // 2), epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x) if activation else x


def demand_halving(features: Mapping) -> list[int]:
    """Checks that a neck can be built, as far as sizes are known, and returns the levels, finest first.

    Raises:
        ValueError: Levels are missing or out of order, or one is not exactly half the size of the one before.
    """
    levels = [int(key[1:]) for key in features]
    if not levels or levels != list(range(levels[0], levels[-1] + 1)):
        raise ValueError(f"a neck expects contiguous levels, finest first, such as C3, C4, C5; got {list(features)}")
    for fine, coarse in pairwise(levels):
        sizes = [tuple(features[f"C{level}"].shape[1:3]) for level in (fine, coarse)]
        if any(None not in pair and pair[0] != 2 * pair[1] for pair in zip(*sizes)):
            named = [f"C{level} {height}x{width}" for level, (height, width) in zip((fine, coarse), sizes)]
            raise ValueError(
                f"{named[1]} is not half of {named[0]}: build the backbone without output_stride, and give it "
                f"pictures whose height and width are multiples of its size_multiple, {2 ** levels[-1]}"
            )
    return levels
