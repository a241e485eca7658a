"""How well the borders between classes are met: boundary F1, with exact Euclidean distances.

After Csurka et al. 2013 ("What is a good evaluation measure for semantic segmentation?", BMVC): of a class's boundary
in an answer the share that lies near the true one is its precision, of the true one the share that lies near the
answer's its recall; near is within 0.75 % of the picture's diagonal, and at least a pixel.
"""

import math

import numpy as np

from resnet_tasks.data.masks import IGNORE

NEAR_SQUARED = 9, 160_000  # (3 / 400)², 0.75 % squared, as a fraction, so that the distances compare exactly
AT_ONCE = 64  # classes, a bit each of a pixel's number
WIDTHS = ((8, np.uint8), (16, np.uint16), (32, np.uint32), (64, np.uint64))


def boundary_f1(truth: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    """Boundary F1 of one picture by class, float64 `(classes,)`, NaN where neither truth nor answer has the class.

    A pixel lies on its class's boundary if one of its four neighbours is not of the class; outside of the picture there
    are no neighbours.  Void is taken out of both masks: what is answered there changes nothing, and a boundary ends
    there in both alike, for there are data whose things all have a rim of void.  A class that fills the whole picture
    has no boundary: 1 where truth and answer agree on that.  A class that one of them alone has gets 0.

    Args:
        truth: Ids uint8 `(height, width)`, `IGNORE` where void.
        answer: Ids uint8 of the same shape.
        classes: How many there are.
    """
    answer = np.where(truth == IGNORE, IGNORE, answer).astype(np.uint8)
    (truth_has, truth_edge), (answer_has, answer_edge) = (_classes_and_edge(ids, classes) for ids in (truth, answer))
    scores = np.full(classes, np.nan)
    scores[truth_has | answer_has] = 0.0
    both = np.flatnonzero(truth_has & answer_has)
    limit = near_squared(truth.shape)
    for start in range(0, len(both), AT_ONCE):
        group = both[start : start + AT_ONCE]
        recall = _met(truth, truth_edge, _near(answer, answer_edge, group, limit), group)
        precision = _met(answer, answer_edge, _near(truth, truth_edge, group, limit), group)
        scores[group] = _f1(precision, recall)
    return scores


def near_squared(shape: tuple[int, ...]) -> int:
    """The largest square of a distance in pixels that is near in a picture `(height, width)`."""
    share, of = NEAR_SQUARED
    return max(1, share * (shape[0] ** 2 + shape[1] ** 2) // of)


def _classes_and_edge(ids: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Which classes a mask has, bool `(classes,)`, and the flat places where neighbours differ."""
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge = np.zeros(ids.shape, bool)
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    has = np.zeros(256, bool)
    has[ids.ravel()] = True
    return has[:classes], np.flatnonzero(edge)


def _near(ids: np.ndarray, edge: np.ndarray, group: np.ndarray, limit: int) -> np.ndarray:
    """For each pixel which classes' boundaries lie near it: bit `n` of its number is the class `group[n]`."""
    kind = next(kind for width, kind in WIDTHS if len(group) <= width)
    bit = np.zeros(256, kind)
    bit[group] = np.left_shift(kind(1), np.arange(len(group), dtype=kind))
    bits = np.zeros(ids.shape, kind)
    bits.ravel()[edge] = bit[ids.ravel()[edge]]
    return _spread(bits, limit)


def _spread(bits: np.ndarray, limit: int) -> np.ndarray:
    """Each pixel's bits with those of all pixels within a disc, dx² + dy² <= limit, around it.

    The disc is made of rows, which grow longer from its top to its middle; so a row is the one above it and the pixels
    that it is longer by, and the work grows with the disc's radius, not with its area.
    """
    height = len(bits)
    spread, run, reach = np.zeros_like(bits), bits.copy(), 0
    for down in range(min(math.isqrt(limit), height - 1), -1, -1):
        longer = math.isqrt(limit - down * down)
        for across in range(reach + 1, longer + 1):
            run[:, across:] |= bits[:, :-across]
            run[:, :-across] |= bits[:, across:]
        reach = longer
        spread[down:] |= run[: height - down]
        spread[: height - down] |= run[down:]
    return spread


def _met(ids: np.ndarray, edge: np.ndarray, near: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Of each class's boundary in `ids` the share that is near the other's, float64 `(len(group),)`; NaN of nothing."""
    place = np.full(256, len(group), np.uint8)
    place[group] = np.arange(len(group))
    own = place[ids.ravel()[edge]]
    near_bits = near.ravel()[edge]
    own_near = np.right_shift(near_bits, own.clip(max=len(group) - 1).astype(near.dtype)) & near.dtype.type(1)
    counts = np.bincount(own, minlength=len(group) + 1)[:-1]
    met = np.bincount(own[own_near > 0], minlength=len(group) + 1)[:-1]
    return np.divide(met, counts, out=np.full(len(group), np.nan), where=counts > 0)


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Of shares, each NaN where there is no boundary: 1 where there is none in both, 0 where there is none in one."""
    neither = np.isnan(precision) & np.isnan(recall)
    precision, recall = np.nan_to_num(precision), np.nan_to_num(recall)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros(len(total)), where=total > 0)
    return np.where(neither, 1.0, f1)
