"""The losses of segmenters, each as a sum and what it is divided by; both add up exactly over the parts of a batch.

In all of them: `logits` `(batch, height, width, classes)`, float32 or float64; `mask` `(batch, height, width)`, ids
0..classes - 1, and `IGNORE` where void; `weight` `(batch,)` of each picture, at least 0.  Void pixels and pictures of
weight 0 are as if they were not there, whatever their logits are.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

from resnet_tasks.data.masks import IGNORE


class _Pixels(NamedTuple):
    logits: Any  # zeros where not valid
    ids: Any  # int32; 0 where not valid
    valid: Any  # bool


def cross_entropy(logits, mask, weight, class_weights: Sequence[float] | None = None) -> tuple:
    """Of all valid pixels.

    Args:
        logits: See above.
        mask: See above.
        weight: See above.
        class_weights: What a pixel of each class counts, in the loss and in what it is divided by; 1 if not given.

    Returns:
        The sum, and the sum of the pixels' weights.
    """
    pixels = _read(logits, mask, weight)
    counts = _counts(pixels, weight, class_weights)
    return ops.sum(counts * _surprise(pixels)), ops.sum(counts)


def focal(logits, mask, weight, gamma: float = 2.0, class_weights: Sequence[float] | None = None) -> tuple:
    """Cross-entropy in which what is sure already counts less: Lin et al. 2017, arXiv 1708.02002, equation 4.

    Args:
        logits: See above.
        mask: See above.
        weight: See above.
        gamma: The power of 1 - p; at least 1.
        class_weights: As for `cross_entropy`.

    Returns:
        As `cross_entropy`.
    """
    pixels = _read(logits, mask, weight)
    counts, surprise = _counts(pixels, weight, class_weights), _surprise(pixels)
    missed = -ops.expm1(-surprise)  # 1 - p, with all digits where p is nearly 1
    return ops.sum(counts * missed**gamma * surprise), ops.sum(counts)


def dice(logits, mask, weight) -> tuple:
    """1 - Dice of each picture and each class that its mask has, with probabilities for ids.

    Milletari et al. 2016, arXiv 1606.04797, section 3, for each class, with the sums that Dice himself has.

    Returns:
        The sum, and the weighted number of pairs of a picture and a class that it has.
    """
    pixels = _read(logits, mask, weight)
    truth, likely = _truth(pixels), _likely(pixels)
    both, area = ops.sum(likely * truth, axis=(1, 2)), ops.sum(truth, axis=(1, 2))
    present = area > 0
    areas = ops.where(present, area + ops.sum(likely, axis=(1, 2)), 1.0)
    losses = ops.where(present, 1.0 - 2.0 * both / areas, 0.0)
    counts = ops.cast(weight, logits.dtype)[:, None] * ops.cast(present, logits.dtype)
    return ops.sum(counts * losses), ops.sum(counts)


def lovasz_softmax(logits, mask, weight) -> tuple:
    """1 - IoU of the classes that each picture has, by its Lovász extension: Berman et al. 2018, arXiv 1705.08790.

    Returns:
        The weighted sum over pictures of the mean over classes, and the weighted number of pictures with a valid pixel.
    """
    pixels = _read(logits, mask, weight)
    likely, truth, valid = (_rows(part) for part in (_likely(pixels), _truth(pixels), pixels.valid[..., None]))
    errors = ops.where(truth > 0, 1.0 - likely, likely) * ops.cast(valid, logits.dtype)
    order = ops.argsort(-ops.where(valid, errors, -1.0), axis=-1)  # the worst first, and last what is not valid
    errors, own = (ops.take_along_axis(part, order, axis=-1) for part in (errors, truth))
    losses = ops.sum(errors * _slopes(own, ops.sum(ops.cast(valid, "int32"), axis=-1, keepdims=True)), axis=-1)
    present = ops.cast(ops.any(truth > 0, axis=-1), logits.dtype)
    means = ops.sum(losses, axis=-1) / ops.maximum(ops.sum(present, axis=-1), 1.0)
    counts = ops.cast(weight, logits.dtype) * ops.cast(ops.any(pixels.valid, axis=(1, 2)), logits.dtype)
    return ops.sum(counts * means), ops.sum(counts)


LOSSES: dict[str, Callable[..., tuple]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "lovasz": lovasz_softmax,
}
# What each is a mean of; losses of the same are divided by the same number.
MEAN_OF = {"cross_entropy": "pixels", "focal": "pixels", "dice": "classes", "lovasz": "pictures"}


def _read(logits, mask, weight) -> _Pixels:
    mask = ops.cast(mask, "int32")
    valid = ops.logical_and(mask != IGNORE, ops.convert_to_tensor(weight)[:, None, None] > 0)
    # Replaced before the arithmetic: behind it, a slope of 0 times one that is not finite would be no number.
    return _Pixels(ops.where(valid[..., None], logits, 0.0), ops.where(valid, mask, 0), valid)


def _counts(pixels: _Pixels, weight, class_weights: Sequence[float] | None):
    """What each pixel weighs, `(batch, height, width)`."""
    dtype = pixels.logits.dtype
    counts = ops.cast(pixels.valid, dtype) * ops.cast(weight, dtype)[:, None, None]
    if class_weights is None:
        return counts
    return counts * ops.take(ops.convert_to_tensor(class_weights, dtype), pixels.ids)


def _surprise(pixels: _Pixels):
    """-log p of each pixel's own class, `(batch, height, width)`."""
    return ops.sparse_categorical_crossentropy(pixels.ids, pixels.logits, from_logits=True)


def _likely(pixels: _Pixels):
    """The classes' probabilities, 0 where not valid."""
    return ops.softmax(pixels.logits, axis=-1) * ops.cast(pixels.valid, pixels.logits.dtype)[..., None]


def _truth(pixels: _Pixels):
    """1 for each pixel's own class, 0 for the others, and where not valid."""
    own = ops.where(pixels.valid, pixels.ids, -1)
    return ops.one_hot(own, pixels.logits.shape[-1], dtype=pixels.logits.dtype)


def _rows(values):
    """`(batch, height, width, n)` to `(batch, n, height * width)`."""
    height, width, numbers = ops.shape(values)[1:]
    return ops.transpose(ops.reshape(values, (-1, height * width, numbers)), (0, 2, 1))


def _slopes(own, valid):
    """By how much the loss grows with each error, in the order of falling errors: `(batch, classes, pixels)`.

    1 - IoU grows with each pixel that joins those that are wrong: by 1 / union for a pixel of the class, and for
    another, which widens the union from u - 1 to u, by intersection / (u (u - 1)).  Written out so, and not as a
    difference, it has all its digits in large pictures too.

    Args:
        own: 1 where the pixel is of the class, else 0.
        valid: How many pixels are valid, `(batch, 1, 1)`; those behind them get 0.
    """
    other = ops.cast(ops.arange(ops.shape(own)[-1], dtype="int32") < valid, own.dtype) - own
    area = ops.sum(own, axis=-1, keepdims=True)
    intersection = area - ops.cumsum(own, axis=-1)
    union = ops.maximum(area + ops.cumsum(other, axis=-1), 1.0)
    return ops.where(own > 0, 1.0 / union, intersection / (union * ops.maximum(union - 1.0, 1.0)))
