"""A picture and its mask onto a canvas: turned, scaled and placed as one.

Operations are `get_x(parameters) -> fn(example, key) -> example`, as in `data/geometric.py`. They take `image`
`(height, width, 3)` uint8 or float32 of any size and `mask` `(height, width)` uint8; and return both at the canvas's
size, `FILL` and `IGNORE` where the canvas does not show the picture. What `data/placing.py` says of edges holds here: a
canvas pixel shows what lies under its centre, of the picture filtered, of the mask the one id there.
"""

from __future__ import annotations

import math

import tensorflow as tf

from resnet_tasks.data.geometric import Example, Operation, as_pixels, warp
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.placing import FILL, check_range, height_and_width, lay, scale_and_offset, seen_range
from resnet_tasks.data.randomness import Salt, salted, uniform

# `[a, b, c, d, e, f]`, as `geometric.warp` takes it
Matrix = list[tf.Tensor]


def get_mask_placement(
    size_hw: tuple[int, int],
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    rotate: float = 0.0,
    fit: tuple[int, int] | None = None,
) -> Operation:
    """Random rotation, then scale jitter; by default the letterbox, which draws nothing.

    Args:
        size_hw: Of the canvas.
        scale: As for `placing.get_placement`: a factor on the letterbox's scale, log-uniform in this range; of what is
            then larger than the canvas a random part is seen, what is smaller lies at a random place.
        rotate: Degrees; the picture is turned about its centre by an angle uniform in -`rotate`..`rotate`. It keeps its
            frame: corners that leave it are lost, and those of the frame that it leaves are `FILL` and `IGNORE`.
        fit: Height and width of the canvas whose letterbox `scale` is a factor of, where it is another one: a smaller
            `size_hw` is then a random crop of it.

    Raises:
        ValueError: `scale` is not a range above 0, or `rotate` is not in 0..180.
    """
    check_range(scale)
    if not 0 <= rotate <= 180:
        raise ValueError(f"rotate is an angle in 0..180 degrees; got {rotate}.")

    other = fit if fit != size_hw else None

    def placement(example: Example, key: tf.Tensor) -> Example:
        if "boxes" in example:
            raise ValueError("the picture and its mask are moved, but the example also has boxes; leave one out.")
        key = salted(key, Salt.MASK_PLACING)
        image, mask = example["image"], example["mask"]
        size, shape = tf.constant(size_hw, tf.int32), height_and_width(image)
        size_of_canvas = tf.cast(size, tf.float32)
        factor, offset = scale_and_offset(salted(key, 0), shape, size_of_canvas, scale, 0.0, 1.0, other)
        if rotate > 0:
            angle = math.radians(rotate) * (2.0 * uniform(salted(key, 1)) - 1.0)
            turn = rotation(angle, shape)
            picture = lay(warp(tf.cast(image, tf.float32), turn, FILL), size, factor, offset)
            canvas = as_pixels(picture, image.dtype)
            ids = lay_turned_mask(mask, turn, size, factor, offset)
        else:
            canvas, ids = lay(image, size, factor, offset), lay_mask(mask, size, factor, offset)
        return {**example, "image": tf.ensure_shape(canvas, (*size_hw, 3)), "mask": tf.ensure_shape(ids, size_hw)}

    return placement


def lay_mask(mask: tf.Tensor, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """The mask as `placing.lay` lays its picture, and `IGNORE` around it.

    `size` `(2,)` is int32, `scale` a float32 scalar, `offset` `(2,)` float32; all y and x.
    """
    shape = height_and_width(mask)
    low, high = seen_range(shape, size, scale, offset)
    for axis in (0, 1):
        # What the last bit of the division puts beyond the border lies on it.
        under = tf.floor((tf.range(low[axis], tf.maximum(low, high)[axis]) + 0.5 - offset[axis]) / scale)
        mask = tf.gather(mask, tf.cast(tf.clip_by_value(under, 0.0, shape[axis] - 1.0), tf.int32), axis=axis)
    first = tf.cast(low, tf.int32)
    around = tf.stack([first, size - first - tf.shape(mask)], 1)
    return tf.pad(mask, around, constant_values=tf.constant(IGNORE, mask.dtype))


def lay_turned_mask(mask: tf.Tensor, turn: Matrix, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """`lay_mask` of the mask turned by `turn`, in one step: ids are looked up once, not looked up of what was."""
    a, b, c, d, e, f = (term / scale if place % 3 < 2 else term for place, term in enumerate(turn))
    c, f = c - (a * offset[1] + b * offset[0]), f - (d * offset[1] + e * offset[0])
    # TensorFlow counts from the centre of the first pixel.
    c, f = c + 0.5 * (a + b - 1.0), f + 0.5 * (d + e - 1.0)
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=mask[None, :, :, None],
        transforms=tf.stack([a, b, c, d, e, f, 0.0, 0.0])[None],
        output_shape=size,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
        fill_value=float(IGNORE),
    )[0, :, :, 0]
    low, high = seen_range(height_and_width(mask), size, scale, offset)
    rows, columns = (tf.range(tf.cast(side, tf.float32)) for side in tf.unstack(size))
    rows, columns = (rows >= low[0]) & (rows < high[0]), (columns >= low[1]) & (columns < high[1])
    return tf.where(rows[:, None] & columns[None, :], turned, tf.constant(IGNORE, mask.dtype))


def rotation(angle: tf.Tensor, shape: tf.Tensor) -> Matrix:
    """What turns a picture of `shape` `(2,)` by `angle`, radians, clockwise about its centre."""
    cosine, sine, (y, x) = tf.cos(angle), tf.sin(angle), tf.unstack(0.5 * shape)
    return [cosine, sine, x - (cosine * x + sine * y), -sine, cosine, y - (cosine * y - sine * x)]
