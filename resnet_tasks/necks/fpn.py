"""A feature pyramid: every level gets the coarser levels' meaning.

Lin et al. 2016, https://arxiv.org/abs/1612.03144; P6 and P7 as in Lin et al. 2017, https://arxiv.org/abs/1708.02002,
section 4.
"""

from typing import Literal

from keras import layers

from resnet_tasks.necks.convolution import Norm, conv, demand_halving


def fpn(
    features,
    channels: int = 256,
    *,
    coarser: Literal["conv", "pool"] | None = None,
    max_level: int | None = None,
    norm: Norm | None = None,
) -> dict:
    """Merges a backbone's pyramid top-down.

    Args:
        features: `{"C3": (batch, h, w, c3), ...}`, contiguous levels, finest first; each is exactly half the size of
            the one before.
        channels: Of every output.
        coarser: Where levels above the input's come from.  `"conv"`: 3x3 convolutions of stride 2, the first of the
            coarsest output, the next of the ReLU of the one before (RetinaNet).  `"pool"`: every other pixel of the
            one before (Faster R-CNN).  `None`: there are none.
        max_level: The coarsest output; 7 for `"conv"` and 6 for `"pool"` if not given.
        norm: A norm behind every convolution, for a neck that is trained from scratch; `None` as published.

    Returns:
        `{"P3": (batch, h, w, channels), ...}` up to `P{max_level}`, finest first.

    Raises:
        ValueError: The sizes do not halve, or `max_level` and `coarser` disagree.
    """
    levels = demand_halving(features)
    if max_level is None:
        max_level = {"conv": 7, "pool": 6, None: levels[-1]}[coarser]
    if max_level < levels[-1] or (max_level > levels[-1]) != (coarser is not None):
        raise ValueError(
            f"the coarsest feature is C{levels[-1]}: levels above it, up to max_level, need coarser='conv' or 'pool', "
            f"and neither goes without the other; got coarser={coarser!r}, max_level={max_level}"
        )
    pyramid = _top_down(features, levels, channels, norm)
    x = pyramid[f"P{levels[-1]}"]
    for level in range(levels[-1] + 1, max_level + 1):
        if coarser == "pool":
            x = layers.MaxPooling2D(1, 2, name=f"fpn_out{level}")(x)
        else:
            if level > levels[-1] + 1:
                x = layers.ReLU(name=f"fpn_relu{level}")(x)
            x = conv(x, channels, 3, 2, norm=norm, name=f"fpn_out{level}")
        pyramid[f"P{level}"] = x
    return pyramid


def _top_down(features, levels: list[int], channels: int, norm: Norm | None) -> dict:
    merged, above = {}, None
    for level in reversed(levels):
        x = conv(features[f"C{level}"], channels, 1, norm=norm, name=f"fpn_lateral{level}")
        if above is not None:
            above = layers.UpSampling2D(2, name=f"fpn_up{level}")(above)
            x = layers.Add(name=f"fpn_merge{level}")([x, above])
        merged[level] = above = x
    return {f"P{level}": conv(merged[level], channels, 3, norm=norm, name=f"fpn_out{level}") for level in levels}
