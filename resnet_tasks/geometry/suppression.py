"""Non-maximum suppression with static shapes, so that it compiles.

Greedy suppression reads: a box stays if it is valid and no box before it that stays overlaps it.  That is one equation
for all boxes at once, and it has one solution.  Putting a guess in on the right gives a better one on the left: after
k rounds the first k boxes are right, whatever the guess was, and in practice all of them are after a few.
"""

from keras import ops

from resnet_tasks.geometry.overlap import iou


def suppress(boxes, threshold: float, valid):
    """Which boxes greedy non-maximum suppression keeps, exactly.

    Needs `n * n` floats a picture.  Knows no classes.

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
