"""A face laid upon a template by five landmarks: one similarity (turn, scale, shift) by least squares.

Landmarks are `(5, 2)`, x and y in pixels of the upright picture, in the order of `readers/face_landmarks.py`. Whole
numbers are the centres of pixels, the first one's (0, 0), as OpenCV, the detectors of faces and the template count.
The least squares are TensorFlow's and NumPy's own, so that they stand in a graph; the tests compare them with the
closed form of Umeyama 1991, which skimage's and insightface's alignment use.

Pixels are interpolated bilinearly, black where the canvas shows what lies outside of the picture (as the published
crops have it). A face that comes out at less than half its size is first shrunk, with antialiasing, to twice the size
that it will have, so that no pixel of a large photograph is skipped.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from resnet_tasks.data.geometric import Example, Operation, as_pixels, resize_center_crop

# ArcFace's (Deng et al. 2019, arXiv 1801.07698; the numbers are insightface's, for 112x112).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE.flags.writeable = False
_SIDE = 112  # of the template's canvas
_LEAST = 1e-3  # pixels; of points closer together no similarity can be made
_LEAST_SCALE = 0.5  # below which a picture is shrunk before it is warped


def template(size_hw: tuple[int, int]) -> np.ndarray:
    """The template on another canvas: as high as it, in the middle of its width; float64 `(5, 2)`.

    A canvas of 112x96 is so the usual one, whose eyes lie eight pixels further left.
    """
    scale = size_hw[0] / _SIDE
    middle = 0.5 * np.array([size_hw[1], size_hw[0]])
    return (TEMPLATE + 0.5 - 0.5 * _SIDE) * scale + middle - 0.5


def similarity(points: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The map of the picture to the canvas that brings the landmarks nearest to the template, by least squares.

    Args:
        points: The landmarks.
        size_hw: Height and width of the canvas.

    Returns:
        float64 `(2, 3)`: `[[a, -b, x], [b, a, y]]`, by which `(u, v)` comes to `(a u - b v + x, b u + a v + y)`.

    Raises:
        ValueError: The landmarks are not `(5, 2)`, not finite, or all in one place.
    """
    points = np.asarray(points, np.float64)
    if points.shape != TEMPLATE.shape or not np.isfinite(points).all() or np.ptp(points, axis=0).max() < _LEAST:
        raise ValueError(f"five landmarks (5, 2), finite and not all in one place, expected; got {points.tolist()}")
    middle = points.mean(axis=0)
    (a, b, x, y), *_ = np.linalg.lstsq(_rows(points - middle), template(size_hw).ravel(), rcond=None)
    turn = np.array([[a, -b], [b, a]])
    return np.column_stack([turn, np.array([x, y]) - turn @ middle])


def misfit(points: np.ndarray) -> float:
    """How far the landmarks stay from the template once they are nearest to it, root mean square in pixels of 112.

    Faces turned by up to 60 degrees stay within some 9; full profiles come to 12 and more, as wrong orders do.

    Raises:
        ValueError: As `similarity`.
    """
    found = similarity(points, (_SIDE, _SIDE))
    laid = np.asarray(points, np.float64) @ found[:, :2].T + found[:, 2]
    return float(np.sqrt(np.mean(np.sum((laid - TEMPLATE) ** 2, axis=1))))


def align(image: np.ndarray, landmarks: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """One picture, uint8 `(height, width, 3)`, on its canvas `(*size_hw, 3)`, by the pixels of `get_alignment`."""
    return _compiled(tuple(size_hw))(tf.constant(image), tf.constant(landmarks, tf.float32)).numpy()


def get_alignment(size_hw: tuple[int, int]) -> Operation:
    """Lays a face upon the template by the example's "landmarks", which leave it with that.

    A picture without them (none, NaN among them, or all in one place) is resized as it is, its aspect kept and what
    reaches over the canvas cut off, as the predictor prepares a picture. It draws nothing.
    """
    goal = template(size_hw)

    def alignment(example: Example, key: tf.Tensor) -> Example:
        others = {name: value for name, value in example.items() if name != "landmarks"}
        image = example["image"]
        if "landmarks" not in example:
            return {**others, "image": resize_center_crop(image, size_hw)}
        points = tf.cast(tf.ensure_shape(example["landmarks"], TEMPLATE.shape), tf.float64)
        extent = tf.reduce_max(points, 0) - tf.reduce_min(points, 0)
        usable = tf.reduce_all(tf.math.is_finite(points)) & (tf.reduce_max(extent) >= _LEAST)
        aligned = tf.cond(
            usable,
            lambda: _warped(image, _solved(points, goal), size_hw),
            lambda: tf.ensure_shape(resize_center_crop(image, size_hw), (*size_hw, 3)),
        )
        return {**others, "image": aligned}

    return alignment


@functools.cache
def _compiled(size_hw: tuple[int, int]) -> tf.types.experimental.PolymorphicFunction:
    operation = get_alignment(size_hw)

    def aligned(image: tf.Tensor, landmarks: tf.Tensor) -> tf.Tensor:
        return operation({"image": image, "landmarks": landmarks}, tf.zeros([2], tf.int32))["image"]

    picture = tf.TensorSpec((None, None, 3), tf.uint8)
    return tf.function(aligned, input_signature=[picture, tf.TensorSpec(TEMPLATE.shape, tf.float32)])


def _rows(points: np.ndarray) -> np.ndarray:
    """The equations of `similarity`, `(10, 4)`: two rows a point, of the unknowns a, b, x, y."""
    u, v = points.T
    one, none = np.ones_like(u), np.zeros_like(u)
    return np.stack([np.stack([u, -v, one, none], 1), np.stack([v, u, none, one], 1)], 1).reshape(-1, 4)


def _solved(points: tf.Tensor, goal: np.ndarray) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """`similarity` in a graph: a, b, x and y, float64."""
    middle = tf.reduce_mean(points, axis=0)
    u, v = tf.unstack(points - middle, axis=1)
    one, none = tf.ones_like(u), tf.zeros_like(u)
    rows = tf.stack([tf.stack([u, -v, one, none], 1), tf.stack([v, u, none, one], 1)], 1)
    found = tf.linalg.lstsq(tf.reshape(rows, [-1, 4]), tf.constant(goal.reshape(-1, 1)), fast=False)
    a, b, x, y = tf.unstack(found[:, 0])
    return a, b, x - a * middle[0] + b * middle[1], y - b * middle[0] - a * middle[1]


def _warped(image: tf.Tensor, found: tuple, size_hw: tuple[int, int]) -> tf.Tensor:
    a, b, x, y = found
    square = a * a + b * b
    inverse = [a / square, b / square, -(a * x + b * y) / square, -b / square, a / square, (b * x - a * y) / square]
    shape = tf.cast(tf.shape(image)[:2], tf.float64)
    shrunk = tf.maximum(tf.round(shape * tf.minimum(tf.sqrt(square) / _LEAST_SCALE, 1.0)), 1.0)
    source = tf.cond(
        tf.reduce_all(shrunk == shape),
        lambda: tf.cast(image, tf.float32),
        lambda: tf.image.resize(image, tf.cast(shrunk, tf.int32), "bilinear", antialias=True),
    )
    # A point p of the picture lies at (p + 1/2) factor - 1/2 of the shrunk one.
    down, across = tf.unstack(shrunk / shape)
    c, d, e, f, g, h = inverse
    moved = [c * across, d * across, (e + 0.5) * across - 0.5, f * down, g * down, (h + 0.5) * down - 0.5]
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=source[None],
        transforms=tf.cast(tf.stack([*moved, 0.0, 0.0]), tf.float32)[None],
        output_shape=tf.constant(size_hw, tf.int32),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )[0]
    return as_pixels(tf.ensure_shape(warped, (*size_hw, 3)), image.dtype)
