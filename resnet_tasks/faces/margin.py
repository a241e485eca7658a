"""Margins: how much nearer to its own identity's centre than to all others an embedding has to be.

ArcFace: Deng et al. 2018, arXiv 1801.07698; CosFace: Wang et al. 2018, arXiv 1801.09414; SphereFace: Liu et al. 2017,
arXiv 1704.08063; all in one as ArcFace's section 2.3 has them: cos(m1 x angle + m2) - m3.

A cosine says little of a small angle: float32 knows none between 0 and 0.0003, and the slope of the inverse cosine has
no bound there.  So a sine is computed beside it, from what one vector lacks of the other, which keeps all its digits,
and whose slope is at most 1.
"""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from keras import ops

Margin = Literal["arcface", "cosface", "combined"]
# m1, m2, m3 of the papers; the combined ones are CM1 in ArcFace's table 2.
PUBLISHED = {"arcface": (1.0, 0.5, 0.0), "cosface": (1.0, 0.0, 0.35), "combined": (1.0, 0.3, 0.2)}
SHORTEST = 1e-12  # a vector's length, below which it has no direction


def checked_margins(kind: str, margins: Sequence[float] | None) -> tuple[float, float, float]:
    """m1, m2 and m3: the given ones if they are of this kind, the published ones where none are given.

    Raises:
        ValueError: No such kind, or not its margins.
    """
    if kind not in PUBLISHED:
        raise ValueError(f"margin: expected one of {', '.join(get_args(Margin))}, got {kind!r}")
    found = PUBLISHED[kind] if margins is None else tuple(float(margin) for margin in margins)
    if len(found) != 3 or not (found[0] > 0 and 0 <= found[1] < math.pi and found[2] >= 0):
        raise ValueError(
            "margins: expected m1 above 0, m2 from 0 to less than pi and m3 of at least 0, of cos(m1 x angle + m2) - "
            f"m3; got {list(found)}"
        )
    times, plus, less = found
    own = {"arcface": times == 1 and less == 0, "cosface": times == 1 and plus == 0, "combined": True}
    if not own[kind]:
        form = {"arcface": "[1, m, 0]", "cosface": "[1, 0, m]"}[kind]
        raise ValueError(f"margins: {kind} has {form}, got {list(found)}; margin: combined takes them")
    return times, plus, less


def unit(vectors):
    """Vectors `(..., d)` at length 1; one of length 0 stays it, and no gradient goes through it."""
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    has_direction = squares > SHORTEST**2
    return ops.where(has_direction, vectors * ops.rsqrt(ops.where(has_direction, squares, 1.0)), 0.0)


def cosine_and_sine(one, other):
    """Of the angle between two vectors `(..., d)` of length 1; where one has length 0, of a right angle.

    Returns:
        Two tensors `(...)`.  Where the vectors are parallel no gradient goes through the sine.
    """
    cosine = ops.sum(one * other, axis=-1)
    squares = ops.sum(ops.square(one - cosine[..., None] * other), axis=-1)
    squares = ops.where(ops.square(cosine) + squares < 0.5, 1.0, squares)
    apart = squares > 0
    return cosine, ops.where(apart, ops.sqrt(ops.where(apart, squares, 1.0)), 0.0)


def with_margin(cosine, sine, margins: tuple[float, float, float], share=1.0):
    """cos(m1 x angle + m2) - m3, which an embedding and the centre of its own identity are made to count as.

    From where m1 x angle + m2 passes pi a cosine would rise again.  There, with m1 = 1, it is cos(angle) - m2 sin(m2) -
    m3, as ArcFace's authors publish it; with another m1, SphereFace's continuation (section 3.3): the falling half
    wave of the cosine once more, from where it ended.

    Args:
        cosine: `(batch,)`, of the angle.
        sine: `(batch,)`, of the angle.
        margins: m1, m2, m3.
        share: In 0..1, how much of the margins counts yet: a number, or `(batch,)`.

    Returns:
        `(batch,)`.
    """
    times, plus, less = margins
    share = ops.cast(share, cosine.dtype)
    shift = plus * share
    if times != 1:
        angle = (1 + (times - 1) * share) * ops.arctan2(sine, cosine) + shift
        waves = ops.stop_gradient(ops.floor(angle / math.pi))
        harder = (1 - 2 * ops.mod(waves, 2)) * ops.cos(angle) - 2 * waves
    elif plus:
        cosine_of_shift, sine_of_shift = ops.cos(shift), ops.sin(shift)
        turned = cosine * cosine_of_shift - sine * sine_of_shift
        harder = ops.where(cosine > -cosine_of_shift, turned, cosine - shift * sine_of_shift)
    else:
        harder = cosine
    return harder - less * share


def cross_entropy(own, others):
    """-log softmax of `own` `(batch,)` among itself and `others` `(batch, n)`: `(batch,)`.

    As log(1 + the others' share over one's own), which keeps its digits where it is nearly 0.
    """
    return ops.softplus(ops.logsumexp(others, axis=-1) - own)
