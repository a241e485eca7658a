"""Geometric augmentation and preparation of one picture, before batching.

An operation is `get_x(parameters) -> fn(example, key) -> example`: `example` is the dict of `data/examples.py` with
`image` `(height, width, 3)` RGB 0..255, uint8 or float32, and keeps its dtype; `key` is the picture's own
(`data/randomness.py`).
The flip also moves `boxes` and `mask`. The others know pictures only and refuse examples that carry more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import tensorflow as tf

from resnet_tasks.data.decode import decode, orientation
from resnet_tasks.data.randomness import Salt, salted, uniform

Example = dict[str, tf.Tensor]
Operation = Callable[[Example, tf.Tensor], Example]

_CROP_ATTEMPTS = 10
_HALF = 0.50027183  # more than a half, by what no product of levels and short decimals falls upon
_COLOR_REACH = 2  # columns: colour is stored at half the width, and upsampled from two samples


def in_turn(operations: Sequence[Operation], example: Example, key: tf.Tensor) -> Example:
    """The example after all operations, one after another."""
    for operation in operations:
        example = operation(example, key)
    return example


def resize(image: tf.Tensor, size_hw: tuple[int, int]) -> tf.Tensor:
    """Bilinear with antialiasing, as Pillow's; the sides are stretched to `size_hw`, dtype kept."""
    if tuple(image.shape[:2]) == tuple(size_hw):
        return image
    resized = tf.image.resize(image, size_hw, "bilinear", antialias=True)
    return as_pixels(resized, image.dtype)


def as_pixels(image: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Float pixels clipped to 0..255, and rounded if `dtype` is of integers.

    Halves go up, and so does what lies just below them: levels then do not hang on the last bit, which differs
    between graphs and eager mode.
    """
    if dtype.is_integer:
        image = tf.floor(image + _HALF)
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0), dtype)


def warp(image: tf.Tensor, matrix: list[tf.Tensor | float], fill: float = 128.0) -> tf.Tensor:
    """An affine map, bilinear; what comes from outside the picture is `fill`.

    `matrix` is `[a, b, c, d, e, f]`: the point `(x, y)` of the result shows `(a x + b y + c, d x + e y + f)` of the
    picture, in pixels from its top left corner, pixel centres at one half (Pillow's convention). Float32 or uint8.
    """
    a, b, c, d, e, f = (tf.convert_to_tensor(value, tf.float32) for value in matrix)
    # TensorFlow counts from the centre of the first pixel.
    c, f = c + 0.5 * (a + b - 1.0), f + 0.5 * (d + e - 1.0)
    transform = tf.stack([a, b, c, d, e, f, 0.0, 0.0])
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=transform[None],
        output_shape=tf.shape(image)[:2],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=fill,
    )[0]
    return tf.ensure_shape(warped, image.shape)


def get_flip(alternate: bool = False) -> Operation:
    """Mirrors left and right in half of the cases, with `boxes` and `mask`.

    With `alternate` a picture that was mirrored in one epoch is not in the next, so that any two consecutive epochs
    show every picture both ways (Jordan 2024, arXiv 2404.00498, section 3.6). This reads `example["epoch"]`, an integer
    scalar, and `example["identity_key"]`, a key that does not change with the epoch.
    """

    def flip(example: Example, key: tf.Tensor) -> Example:
        source = example["identity_key"] if alternate else key
        bit = tf.cast(uniform(salted(source, Salt.FLIP)) < 0.5, tf.int64)
        if alternate:
            bit = tf.math.floormod(bit + tf.cast(example["epoch"], tf.int64), 2)
        return _mirror(example, bit == 1)

    return flip


def get_pad_crop(size_hw: tuple[int, int], padding: int, mode: Literal["zeros", "reflect"] = "zeros") -> Operation:
    """Pads every side by `padding` pixels and cuts a random window of `size_hw` (He et al. 2015, section 4.2)."""
    pad_mode = {"zeros": "CONSTANT", "reflect": "REFLECT"}[mode]

    def pad_crop(example: Example, key: tf.Tensor) -> Example:
        image = _picture_alone(example, "pad_crop")
        padded = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]], pad_mode)
        room = tf.cast(tf.shape(padded)[:2] - size_hw, tf.float32) + 1.0
        start = tf.cast(uniform(salted(key, Salt.PAD_CROP), [2]) * room, tf.int32)
        window = tf.slice(padded, tf.concat([start, [0]], 0), [*size_hw, 3])
        return {**example, "image": window}

    return pad_crop


def random_window(
    key: tf.Tensor,
    shape_hw: tf.Tensor,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[tf.Tensor, tf.Tensor]:
    """A window whose share of the area is uniform in `scale` and whose width / height is log-uniform in `ratio`.

    Of ten draws the first that fits into `shape_hw` is taken. Returns int32 `[top, left, height, width]` and whether
    any fitted (if none did, the window means nothing).
    """
    area_draw, ratio_draw, top_draw, left_draw = tf.unstack(uniform(key, [4, _CROP_ATTEMPTS]))
    rows, columns = tf.unstack(tf.cast(shape_hw, tf.float32))
    area = rows * columns * (scale[0] + area_draw * (scale[1] - scale[0]))
    aspect = tf.exp(math.log(ratio[0]) + ratio_draw * math.log(ratio[1] / ratio[0]))
    height, width = tf.round(tf.sqrt(area / aspect)), tf.round(tf.sqrt(area * aspect))
    fits = (height >= 1.0) & (height <= rows) & (width >= 1.0) & (width <= columns)
    top = tf.floor(top_draw * (rows - height + 1.0))
    left = tf.floor(left_draw * (columns - width + 1.0))
    windows = tf.cast(tf.stack([top, left, height, width], axis=1), tf.int32)
    return windows[tf.argmax(tf.cast(fits, tf.int32))], tf.reduce_any(fits)


def resized_crop_window(
    key: tf.Tensor,
    shape_hw: tf.Tensor,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tf.Tensor:
    """The window of a random resized crop (Szegedy et al. 2014, section 6), int32 `[top, left, height, width]`.

    Where none fits, in pictures much longer than wide, the largest centred window of an allowed ratio.
    """
    window, fits = random_window(salted(key, Salt.RESIZED_CROP), shape_hw, scale, ratio)
    rows, columns = tf.unstack(tf.cast(shape_hw, tf.float32))
    height = tf.maximum(tf.minimum(rows, tf.round(columns / ratio[0])), 1.0)
    width = tf.maximum(tf.minimum(columns, tf.round(rows * ratio[1])), 1.0)
    middle = tf.stack([0.5 * (rows - height), 0.5 * (columns - width), height, width])
    return tf.where(fits, window, tf.cast(middle, tf.int32))


def get_random_resized_crop(
    size_hw: tuple[int, int],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Operation:
    """A random part of the picture, stretched to `size_hw`; parameters as in `resized_crop_window`."""

    def random_resized_crop(example: Example, key: tf.Tensor) -> Example:
        image = _picture_alone(example, "random_resized_crop")
        window = resized_crop_window(key, tf.shape(image)[:2], scale, ratio)
        return {**example, "image": resize(_cut(image, window), size_hw)}

    return random_resized_crop


def decode_random_resized_crop(
    data: tf.Tensor,
    key: tf.Tensor,
    size_hw: tuple[int, int],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tf.Tensor:
    """`decode`, then `get_random_resized_crop`, from a file's bytes: uint8 `(*size_hw, 3)`, bit for bit the same.

    Of an upright JPEG only the rows and blocks under the window are decoded, so damage elsewhere may go unseen. Raises
    on unreadable bytes, as `decode` does.
    """

    def of_jpeg() -> tf.Tensor:
        shape = tf.image.extract_jpeg_shape(data)[:2]
        top, left, height, width = tf.unstack(resized_crop_window(key, shape, scale, ratio))
        # The colours of the outer columns are interpolated with those beside them, which must be decoded too.
        before = tf.minimum(left, _COLOR_REACH)
        wider = before + tf.minimum(width + _COLOR_REACH, shape[1] - left)
        image = tf.image.decode_and_crop_jpeg(
            data, [top, left - before, height, wider], channels=3, dct_method="INTEGER_ACCURATE"
        )
        return tf.ensure_shape(image[:, before : before + width], (None, None, 3))

    def of_any() -> tf.Tensor:
        image = decode(data)
        return _cut(image, resized_crop_window(key, tf.shape(image)[:2], scale, ratio))

    return resize(tf.cond(_is_plain_jpeg(data), of_jpeg, of_any), size_hw)


def resize_center_crop(image: tf.Tensor, size_hw: tuple[int, int], crop_fraction: float = 1.0) -> tf.Tensor:
    """The middle of a picture, as classification evaluates it.

    The picture is resized, its aspect kept, to the least size that covers `size_hw / crop_fraction`; then the centre is
    cut out. Both happen in one resampling that computes only the pixels kept. Returns `(*size_hw, 3)`, dtype kept.
    """
    if tuple(image.shape[:2]) == tuple(size_hw) and crop_fraction == 1.0:
        return image
    size = tf.constant(size_hw, tf.float32)
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    covering = tf.round(shape * tf.reduce_max(size / crop_fraction / shape))
    offset = tf.floor(0.5 * (covering - size))
    window = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=tf.constant(size_hw, tf.int32),
        scale=covering / shape,
        translation=-offset,
        kernel_type="triangle",
        antialias=True,
    )[0]
    return as_pixels(tf.ensure_shape(window, (*size_hw, 3)), image.dtype)


def get_resize_center_crop(size_hw: tuple[int, int], crop_fraction: float = 1.0) -> Operation:
    """`resize_center_crop` as an operation; it draws nothing."""

    def prepare(example: Example, key: tf.Tensor) -> Example:
        image = _picture_alone(example, "resize_center_crop")
        return {**example, "image": resize_center_crop(image, size_hw, crop_fraction)}

    return prepare


def _mirror(example: Example, wanted: tf.Tensor) -> Example:
    mirrored = {**example, "image": _mirror_columns(example["image"], wanted)}
    if "mask" in example:
        mirrored["mask"] = _mirror_columns(example["mask"], wanted)
    if "boxes" in example:
        width = tf.cast(tf.shape(example["image"])[1], tf.float32)
        left, top, right, bottom = tf.unstack(example["boxes"], axis=-1)
        moved = tf.stack([width - right, top, width - left, bottom], axis=-1)
        mirrored["boxes"] = tf.where(wanted, moved, example["boxes"])
    return mirrored


def _mirror_columns(picture: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    # tf.reverse, since a slice with stride -1 takes 50 times as long at 224 pixels.
    return tf.cond(wanted, lambda: tf.reverse(picture, [1]), lambda: picture)


def _cut(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    part = tf.slice(image, tf.concat([window[:2], [0]], 0), tf.concat([window[2:], [3]], 0))
    return tf.ensure_shape(part, (None, None, 3))


def _is_plain_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Whether the JPEG's own pixels are those of `decode`: upright, and not CMYK."""

    def plain() -> tf.Tensor:
        return (orientation(data) == 1) & (tf.image.extract_jpeg_shape(data)[2] <= 3)

    return tf.cond(tf.io.is_jpeg(data), plain, lambda: False)


def _picture_alone(example: Example, operation: str) -> tf.Tensor:
    extra = sorted({"boxes", "mask"} & example.keys())
    if extra:
        raise ValueError(
            f"{operation} moves the picture only, but the example also has {', '.join(extra)}; "
            "use an operation that moves them too."
        )
    return example["image"]
