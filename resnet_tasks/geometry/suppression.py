"""Non-maximum suppression with static shapes, so that it compiles.

Greedy suppression reads: a box stays if it is valid and no box before it that stays overlaps it.  That is one equation
for all boxes at once, and it has one solution.  Putting a guess in on the right gives a better one on the left: after
k rounds the first k boxes are right, whatever the guess was, and in practice all of them are after a few.
"""

from keras import ops

from resnet_tasks.geometry.overlap import iou


def suppress(boxes, threshold: float, valid):
    """Which boxes greedy non-maximum suppression keeps, exactly.

    Needs `n * n` floats a picture.  Knows no classes: see `offset_by_class`.

    Args:
        boxes: `(batch, n, 4)` xyxy, the best first.
        threshold: A box is dropped whose IoU with a better one that stays is greater.
        valid: bool `(batch, n)`: False for padding, which is neither kept nor drops anything.

    Returns:
        bool `(batch, n)`.
    """
    valid = ops.cast(valid, "bool")
    order = ops.arange(ops.shape(boxes)[1])
    before = order[None, :] < order[:, None]
    # Row i holds 1 where box i would be dropped by the box of that column.  Float: a product of matrices is fast.  The
    # comparison ends the gradient, which the loop could not pass on.
    dropped_by = ops.cast(ops.logical_and(iou(boxes, boxes) > threshold, before), "float32")

    def round_of(keep, _):
        drops = ops.matmul(dropped_by, ops.cast(keep, "float32")[..., None])[..., 0]
        better = ops.logical_and(valid, drops < 0.5)
        return better, ops.any(ops.not_equal(better, keep))

    return ops.while_loop(lambda _, changed: changed, round_of, (valid, ops.any(valid)))[0]


def offset_by_class(boxes, label_ids):
    """Shifts boxes so that those of different classes cannot meet: suppression within each class then is one call.

    Shifted coordinates are large, and float32 has them in steps: of 1/256 pixel up to 65,536, which is some fifty
    classes on a canvas of 1,333 pixels.

    Args:
        boxes: `(..., n, 4)` xyxy.
        label_ids: Integers `(..., n)`, -1 for padding.
    """
    edges = (-2, -1)
    span = ops.max(boxes, axis=edges, keepdims=True) - ops.min(boxes, axis=edges, keepdims=True) + 1
    return boxes + ops.cast(label_ids, boxes.dtype)[..., None] * span
