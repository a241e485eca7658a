"""A picture and its boxes onto a canvas: letterboxed, cropped, laid into a larger one, scaled at random.

Operations are `get_x(parameters) -> fn(example, key) -> example`, as in `data/geometric.py`. They take `image`
`(height, width, 3)` uint8 or float32 of any size, `boxes` `(M, 4)` xyxy in its pixels and `labels` `(M,)` int32, -1
where padding; and return `image` `(*size_hw, 3)`, `boxes` `(max_boxes, 4)` float32 xyxy in pixels of the canvas, and
`labels` `(max_boxes,)`, behind the kept rows zeros and -1. `crowd` and `area` speak of rows that are no more, and are
left out; an example with a `mask` is refused.

An edge at x in the picture lies at `scale * x + offset` on the canvas, both counted from the top left corner in pixels.
A canvas pixel shows the picture if its centre lies in it; the others are grey, `FILL`.

A box is kept if at least `min_visible` of its area is on the canvas and both its sides are at least a pixel there; it
is clipped. Of more than `max_boxes` those of the largest visible area stay, in the order in which they came.
"""

from __future__ import annotations

import math

import tensorflow as tf

from resnet_tasks.data.geometric import Example, Operation, as_pixels
from resnet_tasks.data.randomness import Salt, salted, uniform

FILL = 114  # the mean level of ImageNet's pictures, over its channels' 124, 117 and 104

_CROP_ATTEMPTS = 10
_CROP_AREA = (0.1, 1.0)  # of the picture's (Liu et al. 2015, arXiv 1512.02325, section 2.2)
_CROP_RATIO = 2.0
_HAIR = 0.01  # pixels: centres nearer than this to the picture's edge are taken for outside; above rounding errors


def letterbox(image: tf.Tensor, size_hw: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The whole picture at the top left of a canvas, its aspect kept, the rest `FILL`.

    Returns the canvas `(*size_hw, 3)`, dtype kept, and the scale, a float32 scalar: a box of the picture times the
    scale is the canvas's. A picture so long that it is less than half a pixel wide there is not seen.
    """
    scale = letterbox_scale(height_and_width(image), size_hw)
    canvas = lay(image, tf.constant(size_hw, tf.int32), scale, tf.zeros([2]))
    return tf.ensure_shape(canvas, (*size_hw, 3)), scale


def letterbox_scale(shape: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """The largest scale at which `shape` fits into `size`; height and width, float32 where they are tensors."""
    return tf.reduce_min(tf.cast(size, tf.float32) / shape)


def get_letterbox(size_hw: tuple[int, int], max_boxes: int) -> Operation:
    """`letterbox` with boxes; it draws nothing."""
    return get_placement(size_hw, max_boxes)


def get_placement(
    size_hw: tuple[int, int],
    max_boxes: int,
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    crop: float = 0.0,
    expand: float = 0.0,
    most_expand: float = 4.0,
    min_visible: float = 0.25,
) -> Operation:
    """Random crop, then expansion, then scale jitter, in one resampling; by default the letterbox.

    Args:
        size_hw: Of the canvas.
        max_boxes: Rows of boxes that come out.
        scale: The letterbox's scale is multiplied by a factor log-uniform in this range. Of what is then larger than
            the canvas a random part is seen, what is smaller lies at a random place (Ghiasi et al. 2020, arXiv
            2012.07177, section 3). With (1, 1) it lies at the top left.
        crop: The probability of `crop_window`.
        expand: The probability that the picture lies at a random place of a larger one, whose sides are 1 to
            `most_expand` times as long, uniformly (Liu et al. 2015, arXiv 1512.02325, section 3.6).
        most_expand: See above.
        min_visible: See the module's docstring; in 0..1.

    Raises:
        ValueError: `scale` is not a range above 0, or `most_expand` is below 1.
    """
    check_range(scale)
    if most_expand < 1:
        raise ValueError(f"most_expand is a factor of at least 1; got {most_expand}.")

    def placement(example: Example, key: tf.Tensor) -> Example:
        key = salted(key, Salt.PLACING)
        image, boxes, labels = picture_and_boxes(example)
        if crop > 0:
            image, boxes = _cropped(salted(key, 0), image, boxes, labels, crop)
        size, shape = tf.constant(size_hw, tf.float32), height_and_width(image)
        factor, offset = scale_and_offset(salted(key, 1), shape, size, scale, expand, most_expand)
        canvas = lay(image, tf.cast(size, tf.int32), factor, offset)
        boxes, visible = lay_boxes(boxes, labels, size, shape, factor, offset, min_visible)
        boxes, labels = keep_largest(boxes, labels, visible, max_boxes)
        return replaced(example, tf.ensure_shape(canvas, (*size_hw, 3)), boxes, labels)

    return placement


def _cropped(
    key: tf.Tensor, image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor, probability: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """The part in a `crop_window`, or with 1 - `probability` the whole picture, and the boxes seen from its corner."""
    window = crop_window(salted(key, 0), image, boxes, labels)
    whole = tf.concat([[0, 0], tf.shape(image)[:2]], 0)
    window = tf.where(uniform(salted(key, 1)) < probability, window, whole)
    part = tf.slice(image, tf.concat([window[:2], [0]], 0), tf.concat([window[2:], [3]], 0))
    return tf.ensure_shape(part, (None, None, 3)), boxes - tf.cast(tf.gather(window, [1, 0, 1, 0]), tf.float32)


def crop_window(key: tf.Tensor, image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """A random window with the centre of at least one box in it, int32 `[top, left, height, width]`.

    After Liu et al. 2015, section 2.2: its share of the area is uniform in 0.1..1, and its shares of the sides differ
    by a factor log-uniform in 1/2..2, as far as they stay within the picture. Of ten draws the first that holds a
    centre is taken; if none does, as without boxes, the whole picture.
    """
    shape = height_and_width(image)
    area_draw, ratio_draw, *place_draws = tf.unstack(uniform(key, [4, _CROP_ATTEMPTS]))
    area = _CROP_AREA[0] + area_draw * (_CROP_AREA[1] - _CROP_AREA[0])
    limit = tf.minimum(math.log(_CROP_RATIO), -tf.math.log(area))  # beyond it a side would be longer than the picture's
    taller = tf.exp(0.5 * limit * (2.0 * ratio_draw - 1.0))
    share = tf.sqrt(area)[:, None] * tf.stack([taller, 1.0 / taller], 1)
    size = tf.clip_by_value(tf.round(share * shape), 1.0, shape)  # (attempts, 2), as all below
    start = tf.floor(tf.stack(place_draws, 1) * (shape - size + 1.0))
    centres = 0.5 * (boxes[:, :2] + boxes[:, 2:])[:, ::-1]  # (M, 2), y and x
    is_in = (centres >= start[:, None]) & (centres < (start + size)[:, None])
    holds = tf.reduce_any(tf.reduce_all(is_in, -1) & (labels >= 0), -1)
    windows = tf.concat([start, size], 1)
    window = tf.where(tf.reduce_any(holds), windows[tf.argmax(tf.cast(holds, tf.int32))], tf.pad(shape, [[2, 0]]))
    return tf.cast(window, tf.int32)


def scale_and_offset(
    key: tf.Tensor,
    shape: tf.Tensor,
    size: tf.Tensor,
    scale: tuple[float, float],
    expand: float,
    most_expand: float,
    fit: tuple[int, int] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where a picture of `shape` comes to lie on a canvas of `size`; the parameters are `get_placement`'s.

    With `fit`, a height and width, the scale is the letterbox's of a canvas of that size, and the place is random.
    """
    choices, place, inner_place = tf.split(uniform(key, [7]), [3, 2, 2])
    larger, offset = shape, tf.zeros([2])
    if expand > 0:
        larger *= tf.where(choices[0] < expand, 1.0 + (most_expand - 1.0) * choices[1], 1.0)
    factor = letterbox_scale(larger, size if fit is None else tf.constant(fit, tf.float32))
    # Products of products would be reordered in graphs, and differ from eager mode's in their last bit.
    if scale != (1.0, 1.0):
        factor *= log_uniform(choices[2], scale)
    if scale != (1.0, 1.0) or fit is not None:
        offset += place * (size - factor * larger)
    if expand > 0:
        offset += inner_place * (factor * larger - factor * shape)
    return factor, offset


def lay(image: tf.Tensor, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """The picture, scaled, its top left corner at `offset` `(2,)` y and x, on a canvas of `size` `(2,)` int32."""
    low, high = seen_range(height_and_width(image), size, scale, offset)
    first, seen = tf.cast(low, tf.int32), tf.cast(tf.maximum(high - low, 0.0), tf.int32)
    pixels = as_pixels(_resample(image, tf.maximum(seen, 1), scale, offset - low), image.dtype)
    pixels = pixels[: seen[0], : seen[1]]  # it may be that nothing is seen
    around = tf.stack([first, size - first - seen], 1)
    # Three channels beside one another are padded faster than as an axis.
    flat = tf.reshape(pixels, [seen[0], 3 * seen[1]])
    canvas = tf.pad(flat, around * [[1], [3]], constant_values=tf.constant(FILL, image.dtype))
    return tf.reshape(canvas, tf.concat([size, [3]], 0))


def seen_range(shape: tf.Tensor, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The canvas pixels that show a picture of `shape`, as `lay` moves it: whole numbers, float32 `(2,)` y and x.

    Returns the first pixel, and the one behind the last; nothing is seen where the latter is not the larger.
    """
    low = tf.math.ceil(offset - 0.5 + _HAIR)
    high = tf.floor(offset + scale * shape - 0.5 - _HAIR) + 1.0
    limit = tf.cast(size, tf.float32)
    return tf.clip_by_value(low, 0.0, limit), tf.clip_by_value(high, 0.0, limit)


def _resample(image: tf.Tensor, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """`ScaleAndTranslate` bit for bit, in a third of its time.

    Its loop over the columns takes pixels one by one, that over the rows a whole row at once. So its rows are done, and
    then its columns as rows of the picture transposed.
    """
    columns_done = tf.transpose(_resample_rows(image, size[0], scale, offset[0]), [1, 0, 2])
    return tf.transpose(_resample_rows(columns_done, size[1], scale, offset[1]), [1, 0, 2])


def _resample_rows(image: tf.Tensor, count: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(image)[:2])
    rows = tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(image, [1, height, 1, 3 * width]),
        size=tf.stack([count, 1]),
        scale=tf.stack([scale, 1.0]),
        translation=tf.stack([offset, 0.0]),
        kernel_type="triangle",
        antialias=True,
    )
    return tf.reshape(rows, [count, width, 3])


def lay_boxes(
    boxes: tf.Tensor,
    labels: tf.Tensor,
    size: tf.Tensor,
    shape: tf.Tensor,
    scale: tf.Tensor,
    offset: tf.Tensor,
    min_visible: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The boxes of a picture of `shape` as `lay` moves it, clipped to what of it is on the canvas of `size`.

    `size`, `shape` and `offset` are `(2,)` float32, y and x. Returns the boxes `(M, 4)`, and `(M,)` their areas on the
    canvas, 0 for those not to be kept: of padding, too small, or seen in too small a part.
    """
    top_left = offset[::-1]
    moved = scale * boxes + tf.tile(top_left, [2])
    low, high = tf.maximum(top_left, 0.0), tf.minimum(scale * shape[::-1] + top_left, size[::-1])
    clipped = tf.clip_by_value(moved, tf.tile(low, [2]), tf.tile(tf.maximum(low, high), [2]))
    sides = clipped[:, 2:] - clipped[:, :2]
    area, whole = sides[:, 0] * sides[:, 1], tf.reduce_prod(moved[:, 2:] - moved[:, :2], 1)
    kept = (labels >= 0) & (tf.reduce_min(sides, 1) >= 1.0) & (area >= min_visible * whole)
    return clipped, tf.where(kept, area, 0.0)


def keep_largest(
    boxes: tf.Tensor, labels: tf.Tensor, visible: tf.Tensor, max_boxes: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """At most `max_boxes` of those whose `visible` area is above 0, the largest, in their order; padded."""
    count = tf.shape(labels)[0]
    area, rows = tf.math.top_k(visible, tf.minimum(max_boxes, count))
    rows = tf.sort(tf.where(area > 0, rows, count))  # `count` is the row of padding
    rows = tf.pad(rows, [[0, max_boxes - tf.size(rows)]], constant_values=count)
    boxes = tf.gather(tf.pad(boxes, [[0, 1], [0, 0]]), rows)
    labels = tf.gather(tf.pad(labels, [[0, 1]], constant_values=-1), rows)
    return tf.ensure_shape(boxes, (max_boxes, 4)), tf.ensure_shape(labels, (max_boxes,))


def picture_and_boxes(example: Example) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`image`, `boxes` as float32, and `labels`.

    Raises:
        ValueError: There is a `mask` too.
    """
    if "mask" in example:
        raise ValueError("the picture and its boxes are moved, but the example also has mask; leave one of them out.")
    return example["image"], tf.cast(example["boxes"], tf.float32), example["labels"]


def replaced(example: Example, image: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> Example:
    """The example with these in place of its own, and without what spoke of its rows."""
    others = {name: value for name, value in example.items() if name not in ("crowd", "area")}
    return {**others, "image": image, "boxes": boxes, "labels": labels}


def log_uniform(draw: tf.Tensor, limits: tuple[float, float]) -> tf.Tensor:
    """From a draw uniform in 0..1 one whose logarithm is uniform between the limits' own."""
    low, high = math.log(limits[0]), math.log(limits[1])
    return tf.exp(low + (high - low) * draw)


def check_range(scale: tuple[float, float]) -> None:
    """Raises ValueError unless these are factors, the smaller one first."""
    if not 0 < scale[0] <= scale[1]:
        raise ValueError(f"scale is a range of factors above 0, the smaller one first; got {scale}.")


def height_and_width(image: tf.Tensor) -> tf.Tensor:
    """Of a picture, float32 `(2,)`."""
    return tf.cast(tf.shape(image)[:2], tf.float32)
