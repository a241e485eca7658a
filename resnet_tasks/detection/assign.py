"""Which candidate learns which box: by overlap, by alignment with the task, by lot.

Truth is `boxes` `(batch, m, 4)` xyxy in pixels of the canvas and `labels` `(batch, m)`, -1 where padding.
"""

from typing import Any, NamedTuple

from keras import ops

from resnet_tasks.geometry.overlap import iou


class Match(NamedTuple):
    """What each candidate has to learn.

    Attributes:
        index: `(batch, n)` int32, the box of the truth that fits best; any where there is none.
        positive: `(batch, n)` bool: it learns that box.
        negative: `(batch, n)` bool: it learns that there is nothing.  Neither: it is left out.
    """

    index: Any
    positive: Any
    negative: Any


def match(candidates, boxes, labels, *, foreground: float, background: float, every_box: bool) -> Match:
    """By overlap: Ren et al. 2015, arXiv 1506.01497, section 3.1.2.

    Args:
        candidates: `(n, 4)` or `(batch, n, 4)` xyxy in pixels: anchors, proposals.
        boxes: The truth's.
        labels: The truth's.
        foreground: A candidate whose best overlap reaches this is positive.
        background: One whose best overlap is below this is negative; between the two it is left out.
        every_box: The candidates that overlap a box most are positive too, however little that is; as all others, they
            learn the box that they overlap most, which may be another one.
    """
    real = labels >= 0
    overlaps = ops.where(real[:, None, :], iou(candidates, boxes), -1.0)  # (batch, n, m)
    best = ops.max(overlaps, axis=-1)
    positive = best >= foreground
    if every_box:
        most = ops.max(overlaps, axis=1, keepdims=True)  # (batch, 1, m)
        # Rounding may differ between the two ways to the same overlap under a compiler; a little less counts too.
        closest = (overlaps >= most * (1 - 1e-6)) & (most > 0)
        positive = positive | ops.any(closest, axis=-1)
    negative = (best < background) & ops.logical_not(positive)
    return Match(ops.cast(ops.argmax(overlaps, axis=-1), "int32"), positive, negative)


class Alignment(NamedTuple):
    """What each point has to learn.

    Attributes:
        index: `(batch, n)` int32, its box of the truth; any where `share` is 0.
        share: `(batch, n)` in 0..1: the score that it learns for the class of its box; 0 for background.
    """

    index: Any
    share: Any


def align(scores, predicted, points, reach, boxes, labels, *, most=10, score_power=0.5, overlap_power=6.0) -> Alignment:
    """By alignment with the task: Feng et al. 2021, arXiv 2108.07755, section 3.2.

    Of the points in a box, those that predict it best (`score**score_power * overlap**overlap_power`) learn it; a
    point that two boxes ask for learns the one that it overlaps more.  The best point of a box learns the largest
    overlap of its points as score, the others in proportion.

    Args:
        scores: `(batch, n, classes)` in 0..1, as predicted; no gradient goes into them.
        predicted: `(batch, n, 4)` xyxy in pixels, as predicted.
        points: `(n, 2)` xy in pixels.
        reach: `(n,)` in pixels: a box is taken to extend at least this far from its centre, so that one that lies
            between points has some.
        boxes: The truth's.
        labels: The truth's.
        most: Points of a box.
        score_power: See above.
        overlap_power: See above.
    """
    real = labels >= 0
    safe = ops.where(real, labels, 0)
    inside = _inside(points, reach, boxes) & real[:, :, None]  # (batch, m, n)
    own = ops.take_along_axis(ops.transpose(scores, (0, 2, 1)), safe[:, :, None], axis=1)  # (batch, m, n)
    overlap = ops.where(inside, iou(boxes, predicted), 0.0)
    fit = ops.where(inside, own, 0.0) ** score_power * overlap**overlap_power
    least = ops.top_k(fit, min(most, fit.shape[-1]))[0][..., -1:]
    chosen = inside & (fit >= least) & (fit > 0)
    asked = ops.where(chosen, overlap, -1.0)
    index = ops.argmax(asked, axis=1)  # (batch, n)
    mine = ops.equal(ops.arange(boxes.shape[1])[None, :, None], ops.cast(index, "int32")[:, None, :]) & chosen
    fit, overlap = ops.where(mine, fit, 0.0), ops.where(mine, overlap, 0.0)
    best_fit, best_overlap = ops.max(fit, axis=-1, keepdims=True), ops.max(overlap, axis=-1, keepdims=True)
    share = ops.max(fit / ops.where(best_fit > 0, best_fit, 1.0) * best_overlap, axis=1)
    return Alignment(ops.stop_gradient(ops.cast(index, "int32")), ops.stop_gradient(share))


def _inside(points, reach, boxes):
    """`(batch, m, n)` bool: whether a point lies in a box that extends at least `reach` from its centre."""
    centre = 0.5 * (boxes[..., :2] + boxes[..., 2:])[:, :, None]  # (batch, m, 1, 2)
    half = 0.5 * (boxes[..., 2:] - boxes[..., :2])[:, :, None]
    distance = ops.abs(points[None, None] - centre)
    return ops.all(distance < ops.maximum(half, reach[None, None, :, None]), axis=-1)


def draw(match: Match, key, *, total: int, positive_share: float, salt: int):
    """By lot: at most `total` candidates of a picture, of these at most a share positive, the others negative.

    Args:
        match: Whom to choose from.
        key: `(batch, words)` int32, of the picture: the lots are a function of it and of the candidate's place alone.
        total: Candidates of a picture.
        positive_share: In 0..1.
        salt: Tells one drawing from another.

    Returns:
        Two `(batch, n)` bools: the chosen positive and the chosen negative ones.
    """
    lots = lottery(key, match.positive.shape[-1], salt)
    positive = match.positive & (_rank(match.positive, lots) < round(total * positive_share))
    left = total - ops.sum(ops.cast(positive, "int32"), axis=-1, keepdims=True)
    return positive, match.negative & (_rank(match.negative, lots) < left)


def lottery(key, count: int, salt: int):
    """`(batch, count)` float32 in [0, 1): a hash of key `(batch, words)` int32, place and salt."""

    def constant(value: int):
        return ops.convert_to_tensor(value % 2**32, "uint32")

    def scrambled(word):
        # Wellons's hash of 32 bits (lowbias32): every bit of the input moves every bit of the output.
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            word = ops.bitwise_xor(word, ops.right_shift(word, constant(shift))) * constant(factor)
        return ops.bitwise_xor(word, ops.right_shift(word, constant(16)))

    state = scrambled(ops.cast(ops.arange(count), "uint32") + constant(0x9E3779B9 * (salt + 1)))[None]
    for word in range(key.shape[-1]):
        state = scrambled(ops.bitwise_xor(state, ops.cast(key[:, word : word + 1], "uint32")))
    return ops.cast(ops.right_shift(state, constant(8)), "float32") / 2.0**24


def _rank(wanted, lots):
    """Each candidate's place among the wanted of its picture, 0 for the smallest lot; the unwanted come behind."""
    order = ops.argsort(ops.where(wanted, lots, 2.0 + lots), axis=-1)
    return ops.argsort(order, axis=-1)
