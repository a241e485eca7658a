"""Sampled negatives, where there are too many identities to compare with all: PartialFC.

An et al. 2021, arXiv 2010.05222, but for two things: they keep the identities of the whole batch and draw only the
rest, and here the lot knows nothing of the batch, so that all replicas draw alike and each row has its own centre and
the drawn ones, the others' of the batch not for certain; and they spread the centres over the machines, where here each
holds them all.
"""

from keras import ops


def sampled(step, classes: int, count: int):
    """The identities that a step compares with, by lot.

    Args:
        step: Whole number, a scalar: the lots are a function of it and of the class alone, so that all replicas and
            micro-batches of a step draw the same.
        classes: How many there are.
        count: How many are drawn, at most `classes`.

    Returns:
        `(count,)` int32, all different.
    """
    lots = _scrambled(ops.cast(ops.arange(classes), "uint32") + _constant(0x9E3779B9))
    lots = _scrambled(ops.bitwise_xor(lots, ops.cast(step, "uint32")))
    # 24 bits are what float32 holds; equal ones fall to the smaller class.
    lots = ops.cast(ops.right_shift(lots, _constant(8)), "float32")
    return ops.cast(ops.top_k(lots, count)[1], "int32")


def _scrambled(word):
    # Wellons's hash of 32 bits (lowbias32): every bit of the input moves every bit of the output.
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        word = ops.bitwise_xor(word, ops.right_shift(word, _constant(shift))) * _constant(factor)
    return ops.bitwise_xor(word, ops.right_shift(word, _constant(16)))


def _constant(value: int):
    return ops.convert_to_tensor(value, "uint32")
