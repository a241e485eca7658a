"""Which found box answers which true one: COCO's greedy matching at one overlap, in NumPy, all pictures at once."""

from dataclasses import dataclass

import numpy as np

ENOUGH = 0.5  # the overlap (IoU) from which a found box may answer a true one


@dataclass(frozen=True, eq=False)
class Truth:
    """True boxes of many pictures, one after another.

    Attributes:
        picture: int64 `(n,)`, its place in the split, never falling.
        label: int32 `(n,)`.
        xyxy: float64 `(n, 4)`, pixels.
        crowd: bool `(n,)`: surrounds many things; a found box of its class in it is neither right nor wrong.
        area: float64 `(n,)`, as the source counts it.
    """

    picture: np.ndarray
    label: np.ndarray
    xyxy: np.ndarray
    crowd: np.ndarray
    area: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """Found boxes of many pictures, one after another; of equal scores in a picture the first counts as the better.

    Attributes:
        picture: int64 `(n,)`, its place in the split, never falling.
        label: int32 `(n,)`.
        xyxy: float32 `(n, 4)`, pixels.
        score: float32 `(n,)`.
    """

    picture: np.ndarray
    label: np.ndarray
    xyxy: np.ndarray
    score: np.ndarray


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs of a found and a true box of one picture, of any classes, that overlap by `ENOUGH`.

    Attributes:
        found: int64 `(pairs,)`.
        truth: int64 `(pairs,)`.
        iou: float64 `(pairs,)`.
    """

    found: np.ndarray
    truth: np.ndarray
    iou: np.ndarray


def xyxy_to_xywh(xyxy: np.ndarray) -> np.ndarray:
    """float64 `(n, 4)`: left, top, width and height; what COCO measures, and what predictions.json holds."""
    corners = xyxy.astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def iou(found_xywh: np.ndarray, truth_xywh: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """float64 `(found, truth)`: intersection over union; over the found box's own area where the truth is a crowd.

    The sums are taken in COCO's order, so that a box on the edge of `ENOUGH` falls to the same side.
    """
    found, truth = found_xywh[:, None], truth_xywh[None]
    ends = np.minimum(found[..., :2] + found[..., 2:], truth[..., :2] + truth[..., 2:])
    sides = np.maximum(ends - np.maximum(found[..., :2], truth[..., :2]), 0.0)
    shared = sides[..., 0] * sides[..., 1]
    own, other = found[..., 2] * found[..., 3], truth[..., 2] * truth[..., 3]
    whole = np.where(crowd, own, own + other - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def overlaps(found: Found, truth: Truth) -> Overlaps:
    """All pairs that overlap enough, picture by picture."""
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    pictures = np.intersect1d(found.picture, truth.picture)
    sides = (np.searchsorted(table.picture, pictures, side) for table in (found, truth) for side in ("left", "right"))
    found_xywh, truth_xywh = xyxy_to_xywh(found.xyxy), xyxy_to_xywh(truth.xyxy)
    for f0, f1, t0, t1 in zip(*(side.tolist() for side in sides)):
        of_picture = iou(found_xywh[f0:f1], truth_xywh[t0:t1], truth.crowd[t0:t1])
        row, column = np.nonzero(of_picture >= ENOUGH)
        parts.append((row + f0, column + t0, of_picture[row, column]))
    return Overlaps(*(np.concatenate(part) for part in zip(*parts)))


def match(
    found: Found, truth: Truth, pairs: Overlaps, *, by_class: bool, least: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Lets each found box, best score first, take the free true box that it overlaps most, the last of equal ones.

    As every box chooses after the better ones, what boxes below a threshold do does not change those above it.

    Args:
        found: The found boxes.
        truth: The true boxes.
        pairs: Theirs, from `overlaps`.
        by_class: Whether a found box takes true boxes of its own class only.
        least: Boxes of a lower score take nothing.

    Returns:
        `taken`, int64 `(found,)`: the true box, -1 for none; and `ignored`, bool `(found,)`: it took none, but lies
        in a crowd of its class.
    """
    own_class = found.label[pairs.found] == truth.label[pairs.truth]
    crowd, scored = truth.crowd[pairs.truth], found.score[pairs.found] >= least
    chosen = scored & ~crowd & (own_class if by_class else True)
    rank = np.empty(len(found.score), np.int64)
    rank[np.argsort(-found.score, kind="stable")] = np.arange(len(rank))
    taken = _greedy(rank, len(truth.label), *(part[chosen] for part in (pairs.found, pairs.truth, pairs.iou)))
    ignored = np.zeros(len(rank), bool)
    ignored[pairs.found[scored & crowd & own_class]] = True
    return taken, ignored & (taken < 0)


def _greedy(rank: np.ndarray, truths: int, found: np.ndarray, truth: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """The greedy choice in rounds: in each, every box whose first choice no better box could still take gets it."""
    taken = np.full(len(rank), -1, np.int64)
    order = np.lexsort((truth, iou, rank[found]))  # a box's pairs lie together, its first choice last
    found, truth = found[order], truth[order]
    first, choice = np.empty(truths, np.int64), np.empty(len(rank), np.int64)
    free = np.ones(truths, bool)
    while len(found):
        first[truth[::-1]] = found[::-1]  # the last to write is the best box that could take it
        choice[found] = truth  # and here the most overlapped
        wins = (first[truth] == found) & (choice[found] == truth)
        taken[found[wins]] = truth[wins]
        free[truth[wins]] = False
        left = free[truth] & (taken[found] < 0)
        found, truth = found[left], truth[left]
    return taken


def sweep(found: Found, truth: Truth, taken: np.ndarray, ignored: np.ndarray) -> dict[str, np.ndarray]:
    """What each score would do as a threshold, over all classes together.

    Args:
        found: The found boxes.
        truth: The true boxes.
        taken: From `match` by class.
        ignored: From `match` by class.

    Returns:
        `threshold` float32, every score that occurs, highest first; `precision`, `recall` and `f1` float64.  A recall
        without true boxes is 0.
    """
    counted = np.flatnonzero(~ignored)
    order = counted[np.argsort(-found.score[counted], kind="stable")]
    scores, right = found.score[order], np.cumsum(taken[order] >= 0)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])
    boxes, answers, right = int(np.sum(~truth.crowd)), last + 1, right[last]
    return {
        "threshold": scores[last],
        "precision": right / answers,
        "recall": right / max(1, boxes),
        "f1": 2 * right / (answers + boxes),
    }
