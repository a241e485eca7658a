"""Mixup and cutmix, within groups of consecutive pictures of an epoch; mixup with boxes, and cutmix with masks.

An operation is `get_x(parameters) -> fn(group, keys) -> group`: `group` holds `image` `(G, height, width, 3)` RGB
0..255 (uint8 or float32, kept), `label` `(G, classes)` float32 and, if there, `weight` `(G,)`; `keys` is `(G, 2)`, one
key a picture. G is static. Every picture is mixed with the one before it in its group. What happens to it depends on
its key and on its group, which is cut from the epoch's order; so it does not depend on batches or replicas, as long as
G divides every replica's batch. A picture of weight 0 (it could not be read) stays so, and is not mixed into another.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from resnet_tasks.data.geometric import as_pixels
from resnet_tasks.data.randomness import Salt, salted, uniform

Group = dict[str, tf.Tensor]
Mixing = Callable[[Group, tf.Tensor], Group]


def get_mixup(alpha: float) -> Mixing:
    """`lambda picture + (1 - lambda) partner`, lambda ~ Beta(alpha, alpha) (Zhang et al. 2017, arXiv 1710.09412)."""

    def mixup(group: Group, keys: tf.Tensor) -> Group:
        return _mix(group, share=_shares(keys, alpha))

    return mixup


def get_cutmix(alpha: float) -> Mixing:
    """A box of the partner is pasted in its place (Yun et al. 2019, arXiv 1905.04899, section 3.1).

    The box has the picture's aspect, the area 1 - lambda with lambda ~ Beta(alpha, alpha), a uniform centre, and is cut
    at the border; the labels are mixed by the pixels pasted.
    """

    def cutmix(group: Group, keys: tf.Tensor) -> Group:
        return _mix(group, box=_boxes(keys, alpha, group["image"]))

    return cutmix


def get_mix(mixup_alpha: float, cutmix_alpha: float) -> Mixing:
    """Mixup or cutmix, each for half of the pictures; an alpha of 0 leaves its kind out.

    Raises:
        ValueError: Both are 0: there is nothing to mix.
    """
    if mixup_alpha <= 0 and cutmix_alpha <= 0:
        raise ValueError("get_mix expects mixup_alpha or cutmix_alpha above 0; both are 0.")
    if cutmix_alpha <= 0:
        return get_mixup(mixup_alpha)
    if mixup_alpha <= 0:
        return get_cutmix(cutmix_alpha)

    def mix(group: Group, keys: tf.Tensor) -> Group:
        cut = _each(keys, lambda key: uniform(salted(key, Salt.MIX_CHOICE))) < 0.5
        share = tf.where(cut, 0.0, _shares(keys, mixup_alpha))
        rows, columns = _boxes(keys, cutmix_alpha, group["image"])
        return _mix(group, share, (rows & cut[:, None], columns))

    return mix


def get_box_mixup(alpha: float, probability: float) -> Mixing:
    """With `probability`, mixup of pictures that keep the boxes of both (Zhang et al. 2019, arXiv 1902.04103, 3.1).

    In place of `label` the group holds `boxes` `(G, M, 4)` and `labels` `(G, M)`, -1 where padding. What comes out has
    twice the rows: the picture's own, and behind these and their padding its partner's, or padding if it is not mixed.
    A box of either counts in full however faint its picture is, so alpha should be above 1: the paper's 1.5 leaves one
    of the two less than a tenth in one case of ten.
    """

    def box_mixup(group: Group, keys: tf.Tensor) -> Group:
        keys = salted(keys, Salt.BOX_MIXUP)
        wanted = _each(keys, lambda key: uniform(salted(key, 0))) < probability
        share = tf.where(wanted, _each(keys, lambda key: _beta(salted(key, 1), alpha)), 0.0)
        if "weight" in group:
            share = tf.where(tf.roll(group["weight"], 1, axis=0) > 0, share, 0.0)
        mixed = share > 0
        boxes = tf.where(mixed[:, None, None], tf.roll(group["boxes"], 1, axis=0), 0.0)
        labels = tf.where(mixed[:, None], tf.roll(group["labels"], 1, axis=0), -1)
        return {
            **_weighted(group, share),
            "image": _blend_pixels(group["image"], share),
            "boxes": tf.concat([group["boxes"], boxes], 1),
            "labels": tf.concat([group["labels"], labels], 1),
        }

    return box_mixup


def get_mask_cutmix(alpha: float, probability: float) -> Mixing:
    """With `probability`, cutmix of pictures with masks (French et al. 2020, arXiv 1906.01916, section 3.2).

    In place of `label` the group holds `mask` `(G, height, width)` uint8. The box is drawn as `get_cutmix`'s, and holds
    the partner's picture and mask. Each pixel keeps its own label, so the weights stay as they are.
    """

    def mask_cutmix(group: Group, keys: tf.Tensor) -> Group:
        keys = salted(keys, Salt.MASK_CUTMIX)
        image, mask = group["image"], group["mask"]
        wanted = _each(keys, lambda key: uniform(salted(key, 0))) < probability
        if "weight" in group:
            wanted &= tf.roll(group["weight"], 1, axis=0) > 0
        rows, columns = _boxes(salted(keys, 1), alpha, image)
        rows &= wanted[:, None]
        pasted = tf.where(rows[:, :, None] & columns[:, None, :], tf.roll(mask, 1, axis=0), mask)
        return {**group, "image": _paste(image, tf.roll(image, 1, axis=0), rows, columns), "mask": pasted}

    return mask_cutmix


def _mix(
    group: Group,
    share: tf.Tensor | None = None,
    box: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> Group:
    """Blends in `share` `(G,)` of the partners, and pastes their `box`: rows `(G, height)`, columns `(G, width)`."""
    image = group["image"]
    if "weight" in group:
        readable = tf.roll(group["weight"], 1, axis=0) > 0
        share = None if share is None else tf.where(readable, share, 0.0)
        box = None if box is None else (box[0] & readable[:, None], box[1])
    mixed, taken = image, tf.zeros(tf.shape(image)[:1])
    if share is not None:
        mixed, taken = _blend_pixels(image, share), share
    if box is not None:
        mixed = _paste(mixed, tf.roll(image, 1, axis=0), *box)
        pixels = tf.math.count_nonzero(box[0], 1) * tf.math.count_nonzero(box[1], 1)
        taken += tf.cast(pixels, tf.float32) / tf.cast(tf.size(image[0, :, :, 0]), tf.float32)
    return {**_weighted(group, taken), "image": mixed, "label": _blend(group["label"], taken[:, None])}


def _weighted(group: Group, share: tf.Tensor) -> Group:
    """The group with its weights blended, if it has any; those of 0 stay."""
    if "weight" not in group:
        return group
    weight = _blend(group["weight"], share)
    return {**group, "weight": tf.where(group["weight"] > 0, weight, tf.zeros_like(weight))}


def _blend(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    return (1.0 - share) * values + share * tf.roll(values, 1, axis=0)


def _blend_pixels(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    flat = tf.reshape(tf.cast(image, tf.float32), [tf.shape(image)[0], -1])
    mixed = as_pixels(_blend(flat, share[:, None]), image.dtype)
    return tf.ensure_shape(tf.reshape(mixed, tf.shape(image)), image.shape)


def _paste(image: tf.Tensor, partner: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    # The channels lie in the columns, since a condition that is broadcast over the last axis takes four times as long.
    count, height = tf.unstack(tf.shape(image)[:2])
    inside = rows[:, :, None] & tf.repeat(columns, 3, axis=1)[:, None, :]
    flat, partner = (tf.reshape(pixels, [count, height, -1]) for pixels in (image, partner))
    return tf.ensure_shape(tf.reshape(tf.where(inside, partner, flat), tf.shape(image)), image.shape)


def _shares(keys: tf.Tensor, alpha: float) -> tf.Tensor:
    """The partners' shares 1 - lambda of mixup, `(G,)`."""
    return _each(keys, lambda key: _beta(salted(key, Salt.MIXUP), alpha))


def _boxes(keys: tf.Tensor, alpha: float, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows `(G, height)` and columns `(G, width)` of cutmix's boxes, bool."""
    keys = salted(keys, Salt.CUTMIX)
    area = _each(keys, lambda key: _beta(salted(key, 0), alpha))
    centre = _each(keys, lambda key: uniform(salted(key, 1), [2]))
    size = tf.cast(tf.shape(image)[1:3], tf.float32)
    half = 0.5 * size * tf.sqrt(area)[:, None]  # (G, 2), height and width
    low, high = tf.round(centre * size - half), tf.round(centre * size + half)
    row, column = tf.range(size[0]), tf.range(size[1])
    return (
        (row >= low[:, 0:1]) & (row < high[:, 0:1]),
        (column >= low[:, 1:2]) & (column < high[:, 1:2]),
    )


def _beta(key: tf.Tensor, alpha: float) -> tf.Tensor:
    """A draw of Beta(alpha, alpha) from two gammas; float64 inside, since those of a small alpha vanish in float32."""
    first, second = tf.unstack(tf.random.stateless_gamma([2], key, alpha, dtype=tf.float64))
    return tf.cast(tf.math.divide_no_nan(first, first + second), tf.float32)


def _each(keys: tf.Tensor, draw: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    return tf.stack([draw(key) for key in tf.unstack(keys)])
