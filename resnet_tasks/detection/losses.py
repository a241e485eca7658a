"""The losses of detectors, one number for each element; sums and normalisers are the models'."""

from keras import ops


def cross_entropy(logits, shares):
    """Binary cross-entropy, elementwise: `logits` and `shares` in 0..1 of one shape."""
    # One comparison for both: the slopes of max(x, 0) and |x| at exactly 0 would not add up on TensorFlow.
    above = logits >= 0
    return ops.where(above, logits, 0.0) - logits * shares + ops.log1p(ops.exp(ops.where(above, -logits, logits)))


def focal(logits, shares, alpha: float = 0.25, gamma: float = 2.0):
    """Lin et al. 2017, arXiv 1708.02002, equation 5, elementwise; `shares` are 0 or 1."""
    likely = ops.sigmoid(logits)
    missed = shares * (1.0 - likely) + (1.0 - shares) * likely  # 1 - p_t
    balance = shares * alpha + (1.0 - shares) * (1.0 - alpha)
    return balance * missed**gamma * cross_entropy(logits, shares)


def smooth_l1(differences, beta: float):
    """Girshick 2015, arXiv 1504.08083, equation 3: a parabola below `beta`, a line of slope 1 above."""
    size = ops.abs(differences)
    return ops.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def distribution_focal(logits, values):
    """Li et al. 2020, arXiv 2006.04388, equation 6.

    Args:
        logits: `(..., bins)` over the values 0, 1, ..., bins - 1.
        values: `(...)`; outside 0..bins - 1 they are moved to the nearest end.

    Returns:
        `(...)`: the cross-entropy that puts the probability on the two bins around the value, by their distances.
    """
    last = logits.shape[-1] - 1
    values = ops.clip(values, 0.0, last - 0.01)  # so that a bin lies above
    below = ops.floor(values)
    share = values - below
    likely = ops.log_softmax(logits, axis=-1)
    place = ops.cast(below, "int32")[..., None]
    low = ops.take_along_axis(likely, place, axis=-1)[..., 0]
    high = ops.take_along_axis(likely, place + 1, axis=-1)[..., 0]
    return -((1.0 - share) * low + share * high)
