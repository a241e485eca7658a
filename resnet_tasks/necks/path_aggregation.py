"""Path aggregation: top-down as in a feature pyramid, and then bottom-up again.

Liu et al. 2018, https://arxiv.org/abs/1803.01534, section 3.1; merging by concatenation, as in YOLOv4 (Bochkovskiy et
al. 2020, https://arxiv.org/abs/2004.10934, section 3.4), and the fused levels refined by residual blocks.
"""

from keras import layers

from resnet_tasks.necks.convolution import conv, demand_halving


def path_aggregation(features, channels: int, *, depth: int = 1, activation: str = "silu") -> dict:
    """Merges a backbone's pyramid top-down and bottom-up, so that coarse levels see fine edges as well.

    Args:
        features: `{"C3": (batch, h, w, c3), ...}`, contiguous levels, finest first; each is exactly half the size of
            the one before.
        channels: Of every output; even.
        depth: Residual blocks at each merge.
        activation: Behind every convolution's batch norm.

    Returns:
        `{"P3": (batch, h, w, channels), ...}`, the same levels, finest first.

    Raises:
        ValueError: The sizes do not halve.
    """
    levels = demand_halving(features)

    def convolve(x, filters, kernel, stride=1, *, name):
        return conv(x, filters, kernel, stride, norm="batch", activation=activation, name=name)

    def fuse(x, other, name):
        """Both at once: reduced to `channels`, then `depth` blocks x + F(x)."""
        x = layers.Concatenate(name=f"{name}_concat")([x, other])
        x = convolve(x, channels, 1, name=f"{name}_reduce")
        for index in range(1, depth + 1):
            block = f"{name}_block{index}"
            residual = convolve(x, channels // 2, 1, name=f"{block}_conv1")
            residual = convolve(residual, channels, 3, name=f"{block}_conv2")
            x = layers.Add(name=f"{block}_add")([x, residual])
        return x

    path = {level: convolve(features[f"C{level}"], channels, 1, name=f"pan_lateral{level}") for level in levels}
    for level in reversed(levels[:-1]):
        above = layers.UpSampling2D(2, name=f"pan_up{level}")(path[level + 1])
        path[level] = fuse(path[level], above, f"pan_topdown{level}")
    for level in levels[1:]:
        below = convolve(path[level - 1], channels, 3, 2, name=f"pan_down{level}")
        path[level] = fuse(path[level], below, f"pan_bottomup{level}")
    return {f"P{level}": path[level] for level in levels}
