"""How much boxes overlap.  All boxes are `xyxy`.

Values and gradients are finite whatever the boxes, within coordinates of 1e9 pixels: empty, turned, equal or far.
Where a denominator could vanish it is replaced *before* the division: masking the quotient afterwards would leave a
gradient of 0 x NaN.
"""

import math

from keras import ops

from resnet_tasks.geometry.boxes import area

# An area, in square pixels, that counts as none: its square can still be divided by in float32.
_NOTHING = 1e-12


def intersection(a, b):
    """Areas that each two boxes share: `a (..., n, 4)`, `b (..., m, 4)` to `(..., n, m)`."""
    return _shared(a[..., :, None, :], b[..., None, :, :])


def iou(a, b):
    """Intersection over union of each two boxes: `a (..., n, 4)`, `b (..., m, 4)` to `(..., n, m)`.

    0 where both are empty.
    """
    shared = intersection(a, b)
    return _share_of(shared, area(a)[..., :, None] + area(b)[..., None, :] - shared)


def paired_iou(a, b):
    """Intersection over union of the pairs `a (..., 4)` and `b (..., 4)`, as `(...)`."""
    shared = _shared(a, b)
    return _share_of(shared, area(a) + area(b) - shared)


def paired_giou(a, b):
    """Generalised IoU of pairs, -1..1: less the share of the enclosing box that neither fills.

    Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630, algorithm 1.  `a (..., 4)` and `b (..., 4)` to `(...)`.
    """
    shared = _shared(a, b)
    union = area(a) + area(b) - shared
    width, height = _enclosing(a, b)
    enclosing = width * height
    return _share_of(shared, union) - _share_of(enclosing - union, enclosing)


def paired_ciou(a, b):
    """Complete IoU of pairs: less the distance of the centres, and less the difference of the aspect ratios.

    Zheng et al. 2019, https://arxiv.org/abs/1911.08287, section 3.3; the weight alpha has no gradient, as in
    https://arxiv.org/abs/2005.03572, section 3.2.  An empty box has no aspect ratio, and differs in it from none.
    `a (..., 4)` and `b (..., 4)` to `(...)`.
    """
    overlap = paired_iou(a, b)
    width, height = _enclosing(a, b)
    across = (a[..., 0] + a[..., 2] - b[..., 0] - b[..., 2]) / 2
    down = (a[..., 1] + a[..., 3] - b[..., 1] - b[..., 3]) / 2
    distance = _share_of(across * across + down * down, width * width + height * height)
    shape = _difference_in_shape(a, b)
    apart = ops.maximum(1 - overlap, 0) + shape
    alpha = ops.stop_gradient(_share_of(shape, apart))
    return overlap - distance - alpha * shape


def _shared(a, b):
    """The area that boxes share, broadcast over the leading axes."""
    width = ops.minimum(a[..., 2], b[..., 2]) - ops.maximum(a[..., 0], b[..., 0])
    height = ops.minimum(a[..., 3], b[..., 3]) - ops.maximum(a[..., 1], b[..., 1])
    return ops.maximum(width, 0) * ops.maximum(height, 0)


def _enclosing(a, b):
    """Width and height of the smallest box around both."""
    width = ops.maximum(a[..., 2], b[..., 2]) - ops.minimum(a[..., 0], b[..., 0])
    height = ops.maximum(a[..., 3], b[..., 3]) - ops.minimum(a[..., 1], b[..., 1])
    return ops.maximum(width, 0), ops.maximum(height, 0)


def _share_of(part, whole):
    """`part / whole`, and 0 where the whole is nothing."""
    something = whole > _NOTHING
    return ops.where(something, part / ops.where(something, whole, 1), 0)


def _difference_in_shape(a, b):
    """The squared difference of the boxes' angles of width over height, over that of the widest and the tallest."""
    angles, defined = [], True
    for box in (a, b):
        width, height = box[..., 2] - box[..., 0], box[..., 3] - box[..., 1]
        proper = ops.minimum(width, height) > math.sqrt(_NOTHING)
        defined = ops.logical_and(defined, proper)
        angles.append(ops.arctan2(ops.where(proper, width, 1), ops.where(proper, height, 1)))
    difference = ops.where(defined, angles[0] - angles[1], 0)
    return 4 / math.pi**2 * difference * difference
