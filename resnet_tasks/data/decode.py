"""The one decoder: bytes of a picture to upright RGB, for readers, `predict` and the exported artefact alike.

JPEG as Pillow decodes it, bit for bit, turned upright by its EXIF orientation; PNG, GIF (the first frame), WebP and
24-bit BMP by TensorFlow's own decoders.  Grey becomes RGB, of 16 bits the upper 8 are kept, and alpha is dropped, not
blended: the colours under it stand as the file has them.  Other formats pass through `formats.decodable` first, which a
graph cannot.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks.data import formats
from resnet_tasks.errors import DataError


def decode(data: tf.Tensor) -> tf.Tensor:
    """Decodes one picture, in a graph or eagerly.

    Args:
        data: A string scalar, the file's bytes.

    Returns:
        uint8 `(height, width, 3)`, RGB, upright.

    Raises:
        tf.errors.InvalidArgumentError: The bytes are broken, or of a format that TensorFlow does not read rightly.
    """
    head = tf.strings.substr(data, 0, 4)
    image = tf.cond(
        head == b"\x89PNG",
        lambda: tf.io.decode_png(data, channels=3),
        lambda: tf.cond(
            tf.strings.substr(head, 0, 3) == b"\xff\xd8\xff",
            lambda: _decode_jpeg(data),
            lambda: _decode_other(data),
        ),
    )
    return tf.ensure_shape(image, (None, None, 3))


def decode_or_blank(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """`decode`, but a broken picture gives zeros `(1, 1, 3)` and disturbs nothing; and whether it was readable.

    Each call makes a dataset of its own, which takes 2 to 5 ms: right for an artefact or a handful of pictures.  In a
    pipeline `map_or_blank` costs a tenth of that, and `map_groups_or_blank` next to nothing.
    """
    return map_or_blank(tf.data.Dataset.from_tensors(data), _seen, _unseen).get_single_element()


def map_or_blank(dataset: tf.data.Dataset, function: Callable, blank: Callable, parallel: int = 1) -> tf.data.Dataset:
    """`dataset.map(function)`, in order, but where `function` fails the element is `blank`'s.

    Args:
        dataset: Any elements.
        function: As `map` takes it; pure, since it may be run again.
        blank: Takes the same arguments and returns the same structure, dtypes and ranks; it is run only for failures.
        parallel: How many elements are in the making at once.
    """

    def made(*element):
        element = tf.data.Dataset.from_tensors(element)
        return element.map(function).ignore_errors().concatenate(element.map(blank)).take(1)

    return _in_order(dataset, made, parallel)


def map_groups_or_blank(
    dataset: tf.data.Dataset, function: Callable, blank: Callable, group: int, parallel: int = 1
) -> tf.data.Dataset:
    """`map_or_blank(...).batch(group, drop_remainder=True)`, at the cost of a plain `map`.

    A group is tried whole, and gone through one by one only if a member of it fails.

    Args:
        dataset: As many elements as divide by `group`.
        function: As for `map_or_blank`; its results have one shape.
        blank: As for `map_or_blank`, with that shape.
        group: Elements of a group.
        parallel: How many groups are in the making at once.
    """

    def made(*members):
        members = tf.data.Dataset.from_tensor_slices(members)
        whole = members.map(function).ignore_errors().batch(group, drop_remainder=True)
        mended = map_or_blank(members, function, blank).batch(group, drop_remainder=True)
        return whole.concatenate(mended).take(1)

    return _in_order(dataset.batch(group, drop_remainder=True), made, parallel)


def _in_order(dataset: tf.data.Dataset, made: Callable, parallel: int) -> tf.data.Dataset:
    """Joins datasets of one element each, which `made` gives, in order."""
    if parallel == 1:
        return dataset.flat_map(made)
    return dataset.interleave(
        made, cycle_length=parallel, block_length=1, num_parallel_calls=parallel, deterministic=True
    )


def decode_array(picture: str | Path | bytes | np.ndarray | Image.Image) -> np.ndarray:
    """Decodes what Python callers have: a path, bytes, a Pillow picture, or pixels that need no decoding.

    Args:
        picture: An array is uint8, `(height, width)` or `(height, width, 1 | 3 | 4)`, grey, RGB or RGBA.

    Returns:
        uint8 RGB `(height, width, 3)`, the pixels that `decode` gives.

    Raises:
        UsageError: There is no such file.
        DataError: The picture cannot be read; the message has the path and the reason.
    """
    if isinstance(picture, Image.Image):
        return formats.rgb(picture)
    if isinstance(picture, np.ndarray):
        return _from_pixels(picture)
    name = "picture" if isinstance(picture, bytes) else str(picture)
    try:
        data = formats.decodable(picture) if isinstance(picture, bytes) else formats.readable_bytes(picture)
        return _compiled()(tf.constant(data)).numpy()
    except (formats.Unreadable, tf.errors.OpError) as error:
        raise formats.Unreadable(f"{name}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """Returns in words for people why a picture could not be decoded."""
    if not isinstance(error, tf.errors.OpError):
        return str(error)
    # The rest of the message is about nodes of the graph.
    said = re.search(r"(Invalid [^\n\[{]*|[Nn]ot [^\n\[{]*)", error.message)
    return f"broken or cut off: {said[1].strip()}" if said else "broken or cut off"


@functools.cache
def _compiled() -> tf.types.experimental.PolymorphicFunction:
    return tf.function(decode, input_signature=[tf.TensorSpec((), tf.string)])


def _seen(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return decode(data), tf.constant(True)


def _unseen(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.ensure_shape(tf.zeros((1, 1, 3), tf.uint8), (None, None, 3)), tf.constant(False)


def _from_pixels(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise DataError(
            "expected an array of uint8 (height, width, 3), RGB 0..255 (or grey, or RGBA), got "
            f"{pixels.dtype} {pixels.shape}"
        )
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[2] == 1 else pixels[..., :3]


def _decode_jpeg(data: tf.Tensor) -> tf.Tensor:
    # TensorFlow's default, INTEGER_FAST, is up to 11 levels off Pillow.
    return _upright(tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"), orientation(data))


def _decode_other(data: tf.Tensor) -> tf.Tensor:
    """GIF, WebP and BMP, once their headers show that `tf.io.decode_image` reads them rightly."""
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 0, 36), tf.uint8, fixed_length=36), tf.int32)

    def says(place, text):
        return tf.reduce_all(head[place : place + len(text)] == [*text])

    is_webp = says(0, b"RIFF") & says(8, b"WEBP")
    # An animated WebP frees memory twice and takes the process with it (TensorFlow 2.21).
    is_animated = is_webp & says(12, b"VP8X") & (tf.bitwise.bitwise_and(head[20], 2) != 0)
    # A BMP with a palette would come out as its indices, in silence.
    is_odd_bmp = says(0, b"BM") & ~says(28, b"\x18\0\0\0\0\0")
    refused = ["an animated WebP, or a BMP of other than 24 bits a pixel"]
    with tf.control_dependencies([tf.debugging.Assert(~(is_animated | is_odd_bmp), refused)]):
        data = tf.identity(data)
    # Of a WebP it gives the channels there are, and refuses to give others.
    return tf.cond(
        is_webp,
        lambda: tf.io.decode_image(data, channels=0, expand_animations=False)[..., :3],
        lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )


def orientation(jpeg: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation of a JPEG's bytes, int32 1..8; 1 where there is none.

    The segments before the first table are walked: EXIF 2.3, section 4.7.1, puts its own right behind the start.
    """
    size = tf.strings.length(jpeg)

    def segment(at):
        """The marker, the length and the first six bytes of the segment at `at`, as int32 (10,)."""
        return tf.cast(tf.io.decode_raw(tf.strings.substr(jpeg, at, 10), tf.uint8, fixed_length=10), tf.int32)

    def is_application(head):
        return (head[0] == 0xFF) & (((head[1] >= 0xE0) & (head[1] <= 0xEF)) | (head[1] == 0xFE))

    def is_exif(head):
        return (head[1] == 0xE1) & tf.reduce_all(head[4:] == [*b"Exif\0\0"])

    def passes_by(at, head):
        return is_application(head) & ~is_exif(head)

    def following(at, head):
        at = tf.minimum(at + 2 + 256 * head[2] + head[3], size - 1)
        return at, segment(at)

    at, head = tf.while_loop(passes_by, following, (2, segment(2)), maximum_iterations=64)
    is_found = is_application(head)
    body = tf.strings.substr(jpeg, tf.minimum(at + 10, size), 1 << 16)
    return tf.cond(is_found, lambda: _tiff_orientation(body), lambda: 1)


def _tiff_orientation(tiff: tf.Tensor) -> tf.Tensor:
    """Returns tag 274 of the first directory of a TIFF (Exif's body), 1 where it is missing or not in 1..8."""
    block = tf.cast(tf.io.decode_raw(tiff, tf.uint8), tf.int64)
    block = tf.pad(block, [[0, 16]])
    size = tf.size(block, tf.int64)
    little = block[0] == ord("I")

    def number(rows):
        """Numbers from rows of bytes, `(n, bytes)`, in the file's order."""
        powers = 256 ** tf.range(tf.shape(rows, tf.int64)[1])
        return tf.reduce_sum(rows * tf.where(little, powers, powers[::-1]), axis=1)

    start = tf.clip_by_value(number(block[None, 4:8])[0], 8, size - 2)
    count = tf.minimum(number(block[None, start : start + 2])[0], (size - start - 2) // 12)
    entries = tf.reshape(block[start + 2 : start + 2 + 12 * count], (-1, 12))
    is_orientation = number(entries[:, :2]) == 0x0112
    value = tf.reduce_max(tf.where(is_orientation, number(entries[:, 8:10]), 0))
    return tf.cast(tf.where((value >= 1) & (value <= 8), value, 1), tf.int32)


def _upright(image: tf.Tensor, turned: tf.Tensor) -> tf.Tensor:
    """Undoes an EXIF orientation (TIFF 6.0, section 8: which side the first row and column show)."""

    def turn():
        swapped = tf.cond(turned >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        is_down = tf.reduce_any(turned == [3, 4, 7, 8])
        is_mirrored = tf.reduce_any(turned == [2, 3, 6, 7])
        upright = tf.cond(is_down, lambda: tf.reverse(swapped, [0]), lambda: swapped)
        return tf.cond(is_mirrored, lambda: tf.reverse(upright, [1]), lambda: upright)

    return tf.cond(turned == 1, lambda: image, turn)
