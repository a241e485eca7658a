"""Boxes as numbers: the orders they are written in, their area, and what lies on the canvas.

Everywhere `(..., 4)`, continuous coordinates, in the dtype that comes in.  Within this package a box is `xyxy`: left,
top, right, bottom; the other orders live at the rims.
"""

from keras import ops


def xywh_to_xyxy(boxes):
    """From left, top, width, height, as COCO writes them."""
    x, y, width, height = _columns(boxes)
    return ops.stack([x, y, x + width, y + height], axis=-1)


def xyxy_to_xywh(boxes):
    """To left, top, width, height, as COCO writes them."""
    left, top, right, bottom = _columns(boxes)
    return ops.stack([left, top, right - left, bottom - top], axis=-1)


def cxcywh_to_xyxy(boxes):
    """From centre x, centre y, width, height."""
    x, y, width, height = _columns(boxes)
    return ops.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1)


def xyxy_to_cxcywh(boxes):
    """To centre x, centre y, width, height."""
    left, top, right, bottom = _columns(boxes)
    return ops.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=-1)


def area(boxes):
    """Of `xyxy (..., 4)`, as `(...)`: 0 where a box is turned, right of its right side or below its bottom."""
    left, top, right, bottom = _columns(boxes)
    return ops.maximum(right - left, 0) * ops.maximum(bottom - top, 0)


def clip(boxes, height, width):
    """The part of `xyxy` boxes on a canvas; a box wholly outside becomes an empty one on the border.

    Args:
        boxes: `(..., 4)`.
        height: Of the canvas: a number, or a tensor that broadcasts against `(...)`, such as `(batch, 1)`.
        width: Likewise.
    """
    left, top, right, bottom = _columns(boxes)

    def within(value, end):
        return ops.maximum(ops.minimum(value, end), 0)

    return ops.stack([within(left, width), within(top, height), within(right, width), within(bottom, height)], axis=-1)


def _columns(boxes):
    return tuple(boxes[..., column] for column in range(4))
