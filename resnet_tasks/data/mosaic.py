"""Mosaic: four pictures and their boxes on one canvas (Bochkovskiy et al. 2020, arXiv 2004.10934, section 3.4).

What goes in and comes out is as in `data/placing.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from resnet_tasks.data.geometric import Example, Operation
from resnet_tasks.data.placing import (
    FILL,
    check_range,
    height_and_width,
    keep_largest,
    lay,
    lay_boxes,
    letterbox_scale,
    log_uniform,
    picture_and_boxes,
    replaced,
)
from resnet_tasks.data.randomness import Salt, salted, uniform

_CENTRE = (0.25, 0.75)  # of the canvas's sides

# (top left and size of a quadrant), both (2,) int32, y and x
Quadrant = tuple[tf.Tensor, tf.Tensor]
# image, boxes, labels, and the boxes' visible areas
Part = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


def get_mosaic(
    size_hw: tuple[int, int],
    max_boxes: int,
    *,
    fetch: Callable[[tf.Tensor], Example],
    count: int,
    probability: float,
    otherwise: Operation,
    scale: tuple[float, float] = (0.5, 1.5),
    min_visible: float = 0.25,
) -> Operation:
    """With `probability` the picture and three others in four quadrants, else `otherwise`.

    The quadrants meet at a whole pixel, uniform in the middle half of the canvas along both axes. The picture itself
    lies in the one at the top left. Each is laid into its quadrant as `get_placement` lays it on the canvas: at the
    scale of the whole canvas's letterbox times a factor of its own, log-uniform in `scale`, a random part of what is
    larger, at a random place what is smaller. Pictures of weight 0 take no partners.

    Args:
        max_boxes: Rows of boxes that come out of all four.
        fetch: From an index, an int64 scalar of 0 to `count` - 1, to a partner's `image`, `boxes`, `labels` and
            `weight`; it must not fail: weight 0 marks what could not be read, whose quadrant stays `FILL`. Only the
            pictures of a mosaic are fetched.
        count: Pictures to draw from; the picture itself may be drawn too.
        otherwise: An operation of `data/placing.py` for the same canvas and `max_boxes`.
        min_visible: The least share of a box's area that is seen in its quadrant.

    Raises:
        ValueError: `scale` is not a range above 0.
    """
    check_range(scale)

    def mosaic_of(example: Example, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        indices = tf.random.stateless_uniform([3], salted(key, 1), 0, count, tf.int64, alg="philox")
        pictures = [example, *(fetch(index) for index in tf.unstack(indices))]
        canvas, boxes, labels, visible = _together(pictures, salted(key, 2), size_hw, scale, min_visible)
        return canvas, *keep_largest(boxes, labels, visible, max_boxes)

    def alone(example: Example, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        placed = otherwise(example, key)
        return placed["image"], placed["boxes"], placed["labels"]

    def mosaic(example: Example, key: tf.Tensor) -> Example:
        own = salted(key, Salt.MOSAIC)
        wanted = uniform(salted(own, 0)) < probability
        if "weight" in example:
            wanted &= example["weight"] > 0
        return replaced(example, *tf.cond(wanted, lambda: mosaic_of(example, own), lambda: alone(example, key)))

    return mosaic


def _together(
    pictures: list[Example], key: tf.Tensor, size_hw: tuple[int, int], scale: tuple[float, float], min_visible: float
) -> Part:
    """Four pictures on one canvas, row by row, with all their boxes."""
    centre, *draws = tf.split(uniform(key, [14]), [2, 3, 3, 3, 3])
    parts = []
    for picture, quadrant, draw in zip(pictures, quadrants(centre, size_hw), draws, strict=True):
        largest = letterbox_scale(height_and_width(picture["image"]), size_hw)
        parts.append(_laid(picture, quadrant, largest * log_uniform(draw[0], scale), draw[1:], min_visible))
    images, *rows = zip(*parts, strict=True)
    canvas = tf.concat([tf.concat(images[:2], 1), tf.concat(images[2:], 1)], 0)
    return tf.ensure_shape(canvas, (*size_hw, 3)), *(tf.concat(row, 0) for row in rows)


def _laid(example: Example, quadrant: Quadrant, scale: tf.Tensor, place: tf.Tensor, min_visible: float) -> Part:
    """The picture in its quadrant, its boxes on the canvas; `place` 0..1 is its share of the room, along y and x."""
    image, boxes, labels = picture_and_boxes(example)
    shape = height_and_width(image)
    start, room = (tf.cast(corner, tf.float32) for corner in quadrant)
    offset = place * (room - scale * shape)
    canvas = lay(image, quadrant[1], scale, offset)
    boxes, visible = lay_boxes(boxes, labels, room, shape, scale, offset, min_visible)
    if "weight" in example:
        is_read = example["weight"] > 0
        canvas, visible = tf.where(is_read, canvas, FILL), tf.where(is_read, visible, 0.0)
    return canvas, boxes + tf.tile(start[::-1], [2]), labels, visible


def quadrants(draws: tf.Tensor, size_hw: tuple[int, int]) -> list[Quadrant]:
    """Four, row by row, around a centre that two draws of 0..1 place; each at least a pixel high and wide."""
    share = _CENTRE[0] + (_CENTRE[1] - _CENTRE[0]) * draws
    size = tf.constant(size_hw, tf.int32)
    centre = tf.clip_by_value(tf.cast(tf.round(share * tf.cast(size, tf.float32)), tf.int32), 1, size - 1)
    whole = []
    for is_lower, is_right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        is_second = tf.constant([is_lower, is_right])
        whole.append((centre * is_second, tf.where(is_second == 1, size - centre, centre)))
    return whole
