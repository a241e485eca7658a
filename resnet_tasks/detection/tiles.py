"""Pictures larger than a detector's canvas: answered in overlapping windows and as a whole, and put together.

A window has the canvas's size, so in it things are seen at the picture's own resolution; the whole picture, brought to
the canvas, shows those that no window holds.  At a seam between windows a thing may be found cut; what it is then
taken for stands at `merge`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from resnet_tasks.geometry.windows import windows

# A box is cut if it comes this near to the seam: a detector's edges are off by a pixel or two, and by some percent of a
# large thing's side.  Taking a whole box for a cut one does no harm where the other window shows the same.
NEAR_PIXELS, NEAR_SHARE = 2.0, 0.05
ALIKE = 0.5  # intersection over union from which two boxes are one thing, as usual in suppression
COVERED = 2 / 3  # of a cut box: two boxes of one size have an IoU of 0.5 when each covers two thirds of the other


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in views of one picture: in its windows, and in the whole.

    Attributes:
        boxes: float64 `(n, 4)` xyxy in pixels of the picture, each inside its view.
        scores: `(n,)`.
        labels: Integers `(n,)`.
        views: Integers `(n,)`: the row of `places` that each was found in.
        places: `(views, 4)` xyxy: which part of the picture each view shows.
        size_hw: The picture's height and width.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    views: np.ndarray
    places: np.ndarray
    size_hw: tuple[int, int]

    def at_seam(self, boxes: np.ndarray, views: np.ndarray) -> np.ndarray:
        """bool `(n,)`: whether each box comes near an inner border of the view beside it, or crosses it."""
        height, width = self.size_hw
        shown = self.places[views]
        near = np.maximum(NEAR_PIXELS, NEAR_SHARE * (boxes[:, 2:] - boxes[:, :2]))
        left_top = (shown[:, :2] > 0) & (boxes[:, :2] - shown[:, :2] <= near)
        right_bottom = (shown[:, 2:] < (width, height)) & (shown[:, 2:] - boxes[:, 2:] <= near)
        return (left_top | right_bottom).any(axis=1)

    def taken(self, rows: np.ndarray) -> "Found":
        """Some of the boxes."""
        parts = {name: getattr(self, name)[rows] for name in ("boxes", "scores", "labels", "views")}
        return replace(self, **parts)


def tiled(image: np.ndarray, tile_hw: tuple[int, int], answer: Callable[[Iterable], Iterable[dict]]) -> dict:
    """One picture's answer, from its windows' and the whole's.

    Args:
        image: `(height, width, 3)` uint8.
        tile_hw: The windows' height and width: the model's canvas.
        answer: Gives each picture's answer as `detection.predictor.describe` words it, in order.

    Returns:
        The same for the picture; as many boxes as were found, best first.
    """
    size_hw = image.shape[0], image.shape[1]
    places = windows(size_hw, tile_hw)
    if len(places) > 1:
        places = np.concatenate([places, [(0, 0, size_hw[1], size_hw[0])]])
    answers = list(answer(image[top:bottom, left:right] for left, top, right, bottom in places.tolist()))
    views = np.repeat(np.arange(len(places)), [len(one["scores"]) for one in answers])
    boxes = np.array([box for one in answers for box in one["boxes"]], np.float64).reshape(-1, 4)
    scores, labels, names = ([value for one in answers for value in one[key]] for key in _EACH)
    moved = boxes + np.tile(places[views, :2], 2)
    merged = merge(Found(moved, np.array(scores, np.float64), np.array(labels, np.int64), views, places, size_hw))
    name_of = dict(zip(labels, names))
    return {
        "boxes": merged.boxes.tolist(),
        "scores": merged.scores.tolist(),
        "label_ids": merged.labels.tolist(),
        "label_names": [name_of[label] for label in merged.labels.tolist()],
    }


def merge(found: Found) -> Found:
    """Each thing once, best first; only boxes of one class, found in different views, are ever taken for one thing.

    A box at an inner border of its window is a cut one.

    1.  It is left out if a box that sees more of the thing covers it: one that is not cut, or one in a window that
        shows the place of the cut one clear of its own borders.
    2.  Cut boxes that remain are joined to the box around them, with the best of their scores, where they look alike
        in the part of the picture that both their windows show.
    3.  Of boxes that overlap the one with the best score stays.  Two of one view never suppress each other: the model
        has told them apart already.

    `views` of a joined box is that of its best part.
    """
    cut = found.at_seam(found.boxes, found.views)
    rows = np.flatnonzero(_best_views(found, cut))
    joined, seen_in = _joined(found.taken(rows), cut[rows])
    order = np.argsort(-joined.scores, kind="stable")
    joined, seen_in = joined.taken(order), [seen_in[place] for place in order]
    return joined.taken(np.flatnonzero(_suppressed(joined, seen_in)))


_EACH = ("scores", "label_ids", "label_names")


def _best_views(found: Found, cut: np.ndarray) -> np.ndarray:
    """bool `(n,)`: False for the cut boxes whose thing another view shows better."""
    first, second = _meeting(found)
    box, other = np.concatenate([first, second]), np.concatenate([second, first])
    box, other = box[cut[box]], other[cut[box]]
    area = _area(found.boxes[box])
    covered = _area(_clipped(found.boxes[box], found.boxes[other])) >= COVERED * area
    better = covered & (~cut[other] | ~found.at_seam(found.boxes[box], found.views[other]))
    stays = np.ones(len(found.boxes), bool)
    # The smallest first, and what was left out explains nothing: of two that would explain each other one stays.
    for place in np.argsort(area, kind="stable"):
        if better[place] and stays[other[place]]:
            stays[box[place]] = False
    return stays


def _joined(found: Found, cut: np.ndarray) -> tuple[Found, list[set[int]]]:
    """The boxes with the cut ones that continue each other made one; and the views that each was found in."""
    first, second = _meeting(found)
    both = cut[first] & cut[second]
    first, second = first[both], second[both]
    region = _clipped(found.places[found.views[first]], found.places[found.views[second]])
    a, b = (_clipped(found.boxes[rows], region) for rows in (first, second))
    alike = _iou(a, b)
    groups = [{row} for row in range(len(found.boxes))]
    views = [{int(view)} for view in found.views]
    for pair in np.argsort(-alike, kind="stable"):
        if alike[pair] < ALIKE:
            break
        one, two = groups[first[pair]], groups[second[pair]]
        parts = one | two
        of_parts = [int(found.views[row]) for row in parts]
        # One view has told its boxes apart: no two of them are parts of one thing.
        if one is not two and len(set(of_parts)) == len(of_parts):
            for row in parts:
                groups[row], views[row] = parts, set(of_parts)
    boxes = found.boxes.copy()
    best = [max(parts, key=lambda row: (found.scores[row], -row)) for parts in groups]
    for row, parts in enumerate(groups):
        members = found.boxes[sorted(parts)]
        boxes[row] = [*members[:, :2].min(axis=0), *members[:, 2:].max(axis=0)]
    rows = np.array([row for row, surest in enumerate(best) if row == surest], np.int64)
    return replace(found, boxes=boxes).taken(rows), [views[row] for row in rows]


def _suppressed(found: Found, seen_in: list[set[int]]) -> np.ndarray:
    """bool `(n,)`: what greedy suppression between views keeps of boxes in the order of their scores."""
    first, second = _meeting(found, seen_in)
    much = _iou(found.boxes[first], found.boxes[second]) > ALIKE
    better, worse = np.minimum(first, second)[much], np.maximum(first, second)[much]
    stays = np.ones(len(found.boxes), bool)
    for pair in np.argsort(better, kind="stable"):
        if stays[better[pair]]:
            stays[worse[pair]] = False
    return stays


def _meeting(found: Found, seen_in: list[set[int]] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of rows, each once, whose boxes share some area, of one class and of different views.

    Along the picture's width each box is compared with those that begin under it, not with all: a picture of
    thousands of things has too many pairs.
    """
    boxes, labels, views = found.boxes, found.labels, found.views
    order = np.argsort(boxes[:, 0], kind="stable")
    ends = np.searchsorted(boxes[order, 0], boxes[order, 2])
    pairs = [np.zeros((2, 0), np.int64)]
    for place, end in enumerate(ends):
        row, others = order[place], order[place + 1 : end]
        meets = (boxes[others, 1] < boxes[row, 3]) & (boxes[others, 3] > boxes[row, 1])
        others = others[meets & (labels[others] == labels[row]) & (views[others] != views[row])]
        if seen_in is not None:
            others = np.array([other for other in others if not seen_in[other] & seen_in[row]], np.int64)
        pairs.append(np.stack([np.full(len(others), row), others]))
    return tuple(np.concatenate(pairs, axis=1))


def _clipped(boxes: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The parts of boxes `(n, 4)` inside of others; of no size where there is none."""
    left_top = np.maximum(boxes[:, :2], limits[:, :2])
    return np.concatenate([left_top, np.maximum(np.minimum(boxes[:, 2:], limits[:, 2:]), left_top)], axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of pairs, `(n,)`, 0 where both are empty."""
    shared = _area(_clipped(a, b))
    whole = _area(a) + _area(b) - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)
