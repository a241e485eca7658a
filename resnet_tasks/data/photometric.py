"""Augmentation of the pixels' values: RandAugment (with its geometry), colour jitter, random erasing.

Operations are `get_x(parameters) -> fn(example, key) -> example`, as in `data/geometric.py`. Levels are RGB 0..255 in
and out. Where keras-cv has the published operation it is used by its pure half, `augment_images`, with our draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import tensorflow as tf

from resnet_tasks.data.geometric import Example, Operation, as_pixels, random_window, warp
from resnet_tasks.data.randomness import Salt, salted, uniform

# (image (height, width, 3) float32 with whole levels, sign -1 or 1) -> image, to be clipped and rounded
Distortion = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's conversion to grey


def get_rand_augment(layers: int = 2, magnitude: float = 9) -> Operation:
    """`layers` times one of 14 operations, drawn for each picture (Cubuk et al. 2019, arXiv 1909.13719, section 3).

    `magnitude`, 0..10, scales the ranges of AutoAugment (Cubuk et al. 2018, arXiv 1805.09501, table 6) from no change
    to the most; autocontrast and equalize have none. Posterize goes down to 4 bits. Where an operation has a direction
    its sign is drawn. Pixels that come from outside are grey. A float picture is rounded to whole levels.

    Raises:
        ValueError: The magnitude is not in 0..10.
    """
    if not 0 <= magnitude <= 10:
        raise ValueError(f"RandAugment expects a magnitude of 0 to 10; got {magnitude}.")
    operations = list(distortions(magnitude / 10).values())

    def one_of_all(image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        choice, side = tf.unstack(uniform(key, [2]))
        sign = tf.where(side < 0.5, -1.0, 1.0)
        index = tf.cast(choice * len(operations), tf.int32)
        branches = [lambda distort=distort: distort(image, sign) for distort in operations]
        return as_pixels(tf.ensure_shape(tf.switch_case(index, branches), image.shape), tf.uint8)

    def rand_augment(example: Example, key: tf.Tensor) -> Example:
        image = example["image"]
        key = salted(key, Salt.RAND_AUGMENT)
        levels = as_pixels(tf.cast(image, tf.float32), tf.uint8)
        for layer in range(layers):
            levels = one_of_all(tf.cast(levels, tf.float32), salted(key, layer))
        return {**example, "image": tf.cast(levels, image.dtype)}

    return rand_augment


def get_color_jitter(strength: float) -> Operation:
    """Brightness, contrast, then saturation, each by a factor uniform in `1 - strength .. 1 + strength`."""

    def color_jitter(example: Example, key: tf.Tensor) -> Example:
        image = example["image"]
        draws = uniform(salted(key, Salt.COLOR_JITTER), [3])
        bright, contrasted, saturated = tf.unstack(1.0 + strength * (2.0 * draws - 1.0))
        jittered = tf.cast(image, tf.float32)
        for adjust, factor in ((brightness, bright), (contrast, contrasted), (color, saturated)):
            jittered = tf.clip_by_value(adjust(jittered, factor), 0.0, 255.0)
        return {**example, "image": as_pixels(jittered, image.dtype)}

    return color_jitter


def get_random_erasing(
    probability: float,
    scale: tuple[float, float] = (0.02, 0.33),
    ratio: tuple[float, float] = (0.3, 3.3),
) -> Operation:
    """With `probability`, uniform noise over a window (Zhong et al. 2017, arXiv 1708.04896, algorithm 1, RE-R).

    `scale` is the window's share of the area, `ratio` its width / height, drawn log-uniformly.
    """

    def random_erasing(example: Example, key: tf.Tensor) -> Example:
        image = example["image"]
        key = salted(key, Salt.ERASING)

        def erased() -> tf.Tensor:
            window, fits = random_window(salted(key, 1), tf.shape(image)[:2], scale, ratio)
            window = tf.where(fits, window, 0)  # an empty window
            return _erase(image, window, salted(key, 2))

        wanted = uniform(salted(key, 0)) < probability
        return {**example, "image": tf.cond(wanted, erased, lambda: image)}

    return random_erasing


def _erase(image: tf.Tensor, window: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    top, left, height, width = tf.unstack(window)
    rows, columns = tf.unstack(tf.shape(image)[:2])
    noise = tf.cast(tf.floor(uniform(key, [height, width, 3]) * 256.0), image.dtype)
    around = [[top, rows - top - height], [left, columns - left - width], [0, 0]]
    inside = tf.pad(tf.ones([height, width, 1], tf.bool), around)
    return tf.ensure_shape(tf.where(inside, tf.pad(noise, around), image), image.shape)


def distortions(level: float) -> dict[str, Distortion]:
    """The operations of RandAugment at `level` 0..1 of their ranges."""
    angle, shear, shift, change = math.radians(30) * level, 0.3 * level, 150 / 331 * level, 0.9 * level
    return {
        "identity": lambda image, sign: image,
        "autocontrast": lambda image, sign: autocontrast(image),
        "equalize": lambda image, sign: equalize(image),
        "rotate": lambda image, sign: rotate(image, sign * angle),
        "solarize": lambda image, sign: solarize(image, 256.0 * (1.0 - level)),
        "color": lambda image, sign: color(image, 1.0 + sign * change),
        "posterize": lambda image, sign: posterize(image, 8 - round(4 * level)),
        "contrast": lambda image, sign: contrast(image, 1.0 + sign * change),
        "brightness": lambda image, sign: brightness(image, 1.0 + sign * change),
        "sharpness": lambda image, sign: sharpness(image, 1.0 + sign * change),
        "shear_x": lambda image, sign: warp(image, [1.0, sign * shear, 0.0, 0.0, 1.0, 0.0]),
        "shear_y": lambda image, sign: warp(image, [1.0, 0.0, 0.0, sign * shear, 1.0, 0.0]),
        "translate_x": lambda image, sign: translate(image, 0.0, sign * shift),
        "translate_y": lambda image, sign: translate(image, sign * shift, 0.0),
    }


def rotate(image: tf.Tensor, radians: tf.Tensor | float) -> tf.Tensor:
    """About the picture's centre, counterclockwise as one sees it."""
    middle_y, middle_x = tf.unstack(0.5 * tf.cast(tf.shape(image)[:2], tf.float32))
    radians = tf.cast(radians, tf.float32)
    cosine, sine = tf.cos(radians), tf.sin(radians)
    from_x = middle_x - cosine * middle_x + sine * middle_y
    from_y = middle_y - sine * middle_x - cosine * middle_y
    return warp(image, [cosine, -sine, from_x, sine, cosine, from_y])


def translate(image: tf.Tensor, down: tf.Tensor | float, right: tf.Tensor | float) -> tf.Tensor:
    """Moves the picture by fractions of its height and width."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    return warp(image, [1.0, 0.0, -right * width, 0.0, 1.0, -down * height])


def solarize(image: tf.Tensor, threshold: float) -> tf.Tensor:
    """Inverts the levels from `threshold` on."""
    return tf.where(image < threshold, image, 255.0 - image)


def brightness(image: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
    """Factor 0 gives black, 1 the picture; not clipped. keras-cv's adds a constant instead."""
    return image * factor


def contrast(image: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
    """Factor 0 gives the mean grey, 1 the picture; not clipped. keras-cv's takes each channel's mean instead."""
    grey = tf.reduce_sum(tf.reduce_mean(image, axis=[0, 1]) * _LUMA)
    return grey + factor * (image - grey)


def color(image: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
    """Factor 0 gives the grey picture, 1 the picture."""
    return _keras_cv("RandomColorDegeneration", factor=0.0).augment_images(image[None], transformations=1.0 - factor)[0]


def sharpness(image: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
    """Factor 0 gives the picture smoothed by a 3x3 kernel, 1 the picture."""
    layer = _keras_cv("RandomSharpness", factor=0.0, value_range=(0, 255))
    return layer.augment_images(image[None], transformations=1.0 - factor)[0]


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Every channel stretched to 0..255."""
    return _keras_cv("AutoContrast", value_range=(0, 255)).augment_images(image[None])[0]


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Every channel's histogram made flat."""
    return _equalize_images()(_keras_cv("Equalization", value_range=(0, 255)), image[None])[0]


def posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    """Keeps the upper `bits`, 1..8, of every level."""
    return _keras_cv("Posterization", value_range=(0, 255), bits=bits).augment_image(image)


@cache
def _equalize_images() -> Callable:
    """keras-cv's method with its `and` of two tensors converted: our pipelines trace without AutoGraph."""
    return tf.autograph.to_graph(type(_keras_cv("Equalization", value_range=(0, 255))).augment_images)


@cache
def _keras_cv(name: str, **parameters: Any) -> Any:
    """A layer of keras-cv, made once and out of any graph; imported late, since the import takes seconds."""
    with tf.init_scope():
        import keras_cv

        return getattr(keras_cv.layers, name)(**parameters, dtype="float32")
