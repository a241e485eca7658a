"""Seeds of a picture: every random choice is a function of (seed, epoch, index, operation).

A key is an int32 tensor `[2]`, the seed that `tf.random.stateless_*` takes. Nothing here keeps a state, so a picture's
draws do not depend on its batch, its replica, the order of the threads or where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import tensorflow as tf

_WORD = 2**64
# Odd constants of splitmix64 (Steele et al. 2014) and its finaliser, a bijection of 64 bits.
_SEED_STEP, _EPOCH_STEP, _INDEX_STEP = 0xD1B54A32D192ED03, 0x9E3779B97F4A7C15, 0x8CB92BA72F3D8DD7
_MULTIPLY_FIRST, _MULTIPLY_SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Salt(IntEnum):
    """One number for each operation that draws; two operations with one number would draw alike."""

    FLIP = 1
    PAD_CROP = 2
    RESIZED_CROP = 3
    RAND_AUGMENT = 4
    COLOR_JITTER = 5
    ERASING = 6
    MIXUP = 7
    CUTMIX = 8
    MIX_CHOICE = 9
    PLACING = 10
    MOSAIC = 11
    BOX_MIXUP = 12
    MASK_PLACING = 13
    MASK_CUTMIX = 14


def picture_key(seed: int | tf.Tensor, epoch: int | tf.Tensor, index: int | tf.Tensor) -> tf.Tensor:
    """The key of a picture in an epoch; `index` is its place in the data set, not in the epoch.

    Integers or integer tensors of any width, negative ones too. Returns int32 `[2]`, or `(n, 2)` for `n` indices.
    """
    state = (
        _as_word(seed) * _constant(_SEED_STEP)
        + _as_word(epoch) * _constant(_EPOCH_STEP)
        + _as_word(index) * _constant(_INDEX_STEP)
    )
    state = _fold(state, 30) * _constant(_MULTIPLY_FIRST)
    state = _fold(state, 27) * _constant(_MULTIPLY_SECOND)
    return tf.bitcast(_fold(state, 31), tf.int32)


def salted(key: tf.Tensor, number: int) -> tf.Tensor:
    """Another key of the same picture, for the operation or the step `number`.

    `key` is `(..., 2)`; salts may be nested, and their order matters. The stateless generators scramble their seed, so
    keys need only differ here, not look random.
    """
    masks = [_mixed(2 * number) % 2**32, _mixed(2 * number + 1) % 2**32]
    words = tf.bitcast(key, tf.uint32)  # unsigned, since only there is overflow defined
    words = tf.bitwise.bitwise_xor(words, tf.constant(masks, tf.uint32))
    return tf.bitcast(words * tf.constant(0x9E3779B1, tf.uint32), tf.int32)


def uniform(key: tf.Tensor, shape: Sequence[int] = ()) -> tf.Tensor:
    """Float32 draws in [0, 1) by Philox, which gives the same numbers on every device."""
    return tf.random.stateless_uniform(shape, key, alg="philox")


def _as_word(value: int | tf.Tensor) -> tf.Tensor:
    if isinstance(value, int):
        return _constant(value)
    return tf.cast(value, tf.uint64)


def _constant(value: int) -> tf.Tensor:
    return tf.constant(value % _WORD, tf.uint64)


def _fold(state: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(state, tf.bitwise.right_shift(state, _constant(bits)))


def _mixed(number: int) -> int:
    """The finaliser of splitmix64 on a Python integer."""
    state = (number + 1) * _EPOCH_STEP % _WORD
    state = (state ^ state >> 30) * _MULTIPLY_FIRST % _WORD
    state = (state ^ state >> 27) * _MULTIPLY_SECOND % _WORD
    return state ^ state >> 31
