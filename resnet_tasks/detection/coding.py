"""How a network's numbers mean a box: offsets from an anchor, or distances from a point."""

import math

from keras import ops

# No network means a box sixty times as long as its anchor, and exp would overflow: Girshick's 1000 / 16.
MOST_GROWTH = math.log(1000 / 16)


def encode(anchors, boxes, scale=(1.0, 1.0, 1.0, 1.0)):
    """Boxes as offsets from anchors: Girshick et al. 2013, arXiv 1311.2524, appendix C.

    Args:
        anchors: `(..., n, 4)` xyxy in pixels, of a positive size.
        boxes: The same shape, of a positive size.
        scale: What the four offsets are multiplied by, to be of the order of 1.

    Returns:
        `(..., n, 4)`: dx and dy in anchor sides, the logarithms of the ratios of width and height; times `scale`.
    """
    ax, ay, aw, ah = _centred(anchors)
    bx, by, bw, bh = _centred(boxes)
    offsets = ((bx - ax) / aw, (by - ay) / ah, ops.log(bw / aw), ops.log(bh / ah))
    return ops.stack([offset * factor for offset, factor in zip(offsets, scale)], axis=-1)


def decode(anchors, offsets, scale=(1.0, 1.0, 1.0, 1.0)):
    """The boxes that `encode` had: `(..., n, 4)` xyxy in pixels; sides grow at most 62.5 times."""
    ax, ay, aw, ah = _centred(anchors)
    dx, dy, dw, dh = (offsets[..., place] / factor for place, factor in enumerate(scale))
    x, y = ax + dx * aw, ay + dy * ah
    half_w = 0.5 * aw * ops.exp(ops.minimum(dw, MOST_GROWTH))
    half_h = 0.5 * ah * ops.exp(ops.minimum(dh, MOST_GROWTH))
    return ops.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1)


def from_distances(points, distances):
    """Boxes around points: Tian et al. 2019, arXiv 1904.01355, section 3.1.

    Args:
        points: `(n, 2)` xy in pixels.
        distances: `(..., n, 4)` to the left, top, right and bottom side, in pixels.

    Returns:
        `(..., n, 4)` xyxy in pixels.
    """
    return ops.concatenate([points - distances[..., :2], points + distances[..., 2:]], axis=-1)


def to_distances(points, boxes):
    """The distances that `from_distances` had; negative where a point lies outside its box."""
    return ops.concatenate([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1)


def expectation(logits):
    """The mean of a distribution over 0, 1, ..., bins - 1 given by logits `(..., bins)`: `(...)`."""
    bins = ops.arange(logits.shape[-1], dtype=logits.dtype)
    return ops.sum(ops.softmax(logits, axis=-1) * bins, axis=-1)


def _centred(boxes):
    """Centre x, centre y, width, height, `(..., n)` each."""
    left, top, right, bottom = (boxes[..., place] for place in range(4))
    return 0.5 * (left + right), 0.5 * (top + bottom), right - left, bottom - top
