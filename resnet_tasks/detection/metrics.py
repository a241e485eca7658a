"""What is measured of a detector, from a stream of batches: COCO's measures, and those at one threshold."""

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.detection import matching
from resnet_tasks.detection.average_precision import ClassMeasures, measure_classes
from resnet_tasks.detection.matching import Found, Truth, xyxy_to_xywh
from resnet_tasks.errors import DataError

DETAILS = ("confusion", "curves", "by_threshold", "mistakes", "predictions")
MOST_MISTAKES = 10_000
MOST_POINTS = 256  # of `by_threshold`
NO_THRESHOLD = 0.5  # where no found box is right
AT_ONCE = 4096  # rows of predictions made into Python's numbers at a time


def measure(
    pairs: Iterable[tuple[dict, dict]], split: Split, labels: LabelMap, categories: Sequence | None = None
) -> dict:
    """Metrics over all pictures of weight above 0; every picture counts once, also one without a box.

    Args:
        pairs: `(answers, targets)`: `boxes` `(batch, n, 4)` xyxy in pixels of the picture, `scores` `(batch, n)`,
            `label_ids` `(batch, n)`; rows of label -1, of score 0 and of what is not finite are no boxes.  `index`
            `(batch,)`, the place in the split, -1 for padding; `weight` `(batch,)`, 0 for what could not be read.
        split: Holds the truth: `boxes`, `labels`, `crowd`, `area`; and `image_id`, int64 or JSON, where there are ids.
        labels: The model's.
        categories: What the data call each of the model's classes, -1 what they do not know; by default the model's
            own source ids, or else the contiguous ones.

    Returns:
        COCO's twelve, `AP` to `AR_large`, `None` where there is nothing to find.  `threshold`: the score with the best
        F1 at IoU 0.5 over all classes together, the highest of equal ones, 0.5 if no box is right.  `images`,
        `unreadable`, `per_class` (see `_per_class`).  And the details: `confusion` `(truth, answer)` counts at the
        threshold, classes and then the background, found boxes matched with true ones of any class; `curves`, of each
        class that occurs `recall` and `precision` at IoU 0.5; `by_threshold` (`threshold`, `precision`, `recall`,
        `f1`, at IoU 0.5); `mistakes` (see `_mistakes`); `predictions`, all found boxes as COCO's results.

    Raises:
        DataError: There is no picture to measure.
    """
    found, seen, unreadable = _gathered(pairs)
    if not len(seen):
        raise DataError("no picture of the split could be read; expected at least one to measure")
    truth = _truth(split, seen)
    coco = measure_classes(found, truth, _numbers(split), len(labels))
    overlaps = matching.overlaps(found, truth)
    taken, ignored = matching.match(found, truth, overlaps, by_class=True)
    curve = matching.sweep(found, truth, taken, ignored)
    best = int(np.argmax(curve["f1"])) if np.any(taken >= 0) else None
    # The very score in float64, so that it is met where a file or a model says it again in either precision.
    threshold = NO_THRESHOLD if best is None else float(curve["threshold"][best])
    any_class = matching.match(found, truth, overlaps, by_class=False, least=threshold)
    answers = _answers(found, truth, *any_class, threshold)
    return {
        **_summary(coco),
        "threshold": threshold,
        "images": len(seen),
        "unreadable": unreadable,
        "per_class": _per_class(coco, found, truth, taken, ignored, threshold, labels.names),
        "confusion": _confusion(answers, len(labels)),
        "curves": _curves(coco, labels.names),
        "by_threshold": _thinned(curve, best),
        "mistakes": _mistakes(answers),
        "predictions": Predictions(found, split, categories or labels.source_ids or range(len(labels))),
    }


class Predictions(Sequence):
    """COCO's results in the order of the split, best first in a picture; each is made when it is asked for.

    `image_id` (the source's id, or else the picture's file), `category_id` (one of `categories`), `bbox` left,
    top, width, height, and `score`: the float32 numbers of the answers, exactly.
    """

    def __init__(self, found: Found, split: Split, categories: Sequence):
        self._found = found
        numbers = split.annotations.get("image_id")
        self._images: Sequence = split.ids if numbers is None else numbers.tolist()
        if numbers is not None and numbers.dtype.kind == "U":
            self._images = [json.loads(number) for number in self._images]
        self._categories = categories

    def __len__(self) -> int:
        return len(self._found.score)

    def __getitem__(self, index):
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        return next(self._made(slice(places, places + 1)))

    def __iter__(self) -> Iterator[dict]:
        for start in range(0, len(self), AT_ONCE):
            yield from self._made(slice(start, start + AT_ONCE))

    def _made(self, rows: slice) -> Iterator[dict]:
        found = self._found
        columns = (found.picture, found.label, found.score)
        pictures, labels, scores = (column[rows].tolist() for column in columns)
        for picture, label, box, score in zip(pictures, labels, xyxy_to_xywh(found.xyxy[rows]).tolist(), scores):
            about = {"image_id": self._images[picture], "category_id": self._categories[label]}
            yield {**about, "bbox": box, "score": score}


def _gathered(pairs: Iterable[tuple[dict, dict]]) -> tuple[Found, np.ndarray, int]:
    """All found boxes in the order of the split, the pictures that were read, and how many were not."""
    kinds = (np.int64, np.int32, np.float32, np.float32)
    columns: list[list[np.ndarray]] = [[np.zeros((0, 4) if n == 2 else 0, kind)] for n, kind in enumerate(kinds)]
    pictures, unreadable = [np.zeros(0, np.int64)], 0
    for answers, targets in pairs:
        index = targets["index"].astype(np.int64)
        real = index >= 0
        seen = real & (targets["weight"] > 0)
        unreadable += int(np.sum(real & ~seen))
        pictures.append(index[seen])
        boxes, scores = answers["boxes"].astype(np.float32), answers["scores"].astype(np.float32)
        kept = seen[:, None] & (answers["label_ids"] >= 0) & (scores > 0)
        kept &= np.isfinite(scores) & np.isfinite(boxes).all(axis=-1)
        row = np.nonzero(kept)[0]
        for column, values in zip(columns, (index[row], answers["label_ids"][kept], boxes[kept], scores[kept])):
            column.append(values)
    picture, label, xyxy, score = (np.concatenate(column) for column in columns)
    order = np.lexsort((-score, picture))
    found = Found(picture[order], label[order].astype(np.int32), xyxy[order], score[order])
    return found, np.sort(np.concatenate(pictures)), unreadable


def _truth(split: Split, seen: np.ndarray) -> Truth:
    known = split.annotations
    row, slot = np.nonzero(known["labels"][seen] >= 0)
    rows = (seen[row], slot)
    return Truth(rows[0], *(known[name][rows] for name in ("labels", "boxes", "crowd", "area")))


def _numbers(split: Split) -> np.ndarray:
    """The order in which COCO goes through the pictures, from 1: by the source's numbers, or else by place."""
    order = np.argsort(split.annotations.get("image_id", np.arange(len(split))), kind="stable")
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(1, len(order) + 1)
    return numbers


def _summary(coco: ClassMeasures) -> dict[str, float | None]:
    """COCO's twelve measures; the overlaps 0.5 and 0.75 are the first and the sixth."""
    precision, recall = coco.precision, coco.recall
    sizes = tuple(enumerate(("small", "medium", "large"), start=1))
    return {
        "AP": _mean(precision[:, :, 0]),
        "AP50": _mean(precision[:, 0, 0]),
        "AP75": _mean(precision[:, 5, 0]),
        **{f"AP_{name}": _mean(precision[:, :, area]) for area, name in sizes},
        **{f"AR{most}": _mean(recall[:, :, 0, place]) for place, most in enumerate((1, 10, 100))},
        **{f"AR_{name}": _mean(recall[:, :, area, -1]) for area, name in sizes},
    }


def _mean(values: np.ndarray) -> float | None:
    """The mean of what is not -1."""
    there = values[values > -1]
    return float(there.mean()) if there.size else None


def _per_class(coco, found, truth, taken, ignored, threshold: float, names: tuple[str, ...]) -> dict[str, dict]:
    """By class `AP`, `AP50`, `AR100`; `precision`, `recall`, `f1` at the threshold and IoU 0.5; `boxes`, the true ones.

    Crowds are no boxes.  A class without a box has `None` everywhere, one that is never found a precision of 0.
    """
    kept = (found.score >= threshold) & ~ignored
    counted = (truth.label[~truth.crowd], found.label[kept], found.label[kept & (taken >= 0)])
    boxes, answers, right = (np.bincount(labels, minlength=len(names)).tolist() for labels in counted)
    rows = {}
    for label, name in enumerate(names):
        precision, recall = coco.precision[label, :, 0], coco.recall[label, :, 0, -1]
        row = {"AP": _mean(precision), "AP50": _mean(precision[0]), "AR100": _mean(recall)}
        hits, said, there = right[label], answers[label], boxes[label]
        row |= {"precision": hits / max(1, said), "recall": hits / max(1, there), "f1": 2 * hits / max(1, said + there)}
        rows[name] = {**(row if there else dict.fromkeys(row)), "boxes": there}
    return rows


def _curves(coco: ClassMeasures, names: tuple[str, ...]) -> dict[str, dict[str, list[float]]]:
    recall = np.linspace(0, 1, 101).tolist()
    return {name: {"recall": recall, "precision": row.tolist()} for name, row in zip(names, coco.curve) if row[0] > -1}


def _thinned(curve: dict[str, np.ndarray], best: int | None) -> dict[str, list[float]]:
    """Some points of the sweep over thresholds, the first, the last and the best among them."""
    points = len(curve["threshold"])
    places = {int(place) for place in np.linspace(0, points - 1, min(points, MOST_POINTS)).round()}
    chosen = sorted(places | ({best} if best is not None else set()))
    return {name: values[chosen].tolist() for name, values in curve.items()}


def _answers(found: Found, truth: Truth, taken: np.ndarray, ignored: np.ndarray, threshold: float) -> dict:
    """What became of each true box, and of each found one that has none, at the threshold.

    Columns `index` (place in the split), `truth` and `answer` (labels, -1 for none), `score` (NaN for a missed box)
    and `box` (the found one, or else the true one); the true boxes that were taken come first.
    """
    kept = (found.score >= threshold) & ~ignored
    hits, false = np.flatnonzero(kept & (taken >= 0)), np.flatnonzero(kept & (taken < 0))
    unseen = ~truth.crowd
    unseen[taken[hits]] = False
    missed = np.flatnonzero(unseen)
    said, nothing = np.concatenate([hits, false]), np.full(len(missed), -1)
    return {
        "index": np.concatenate([found.picture[said], truth.picture[missed]]),
        "truth": np.concatenate([truth.label[taken[hits]], np.full(len(false), -1), truth.label[missed]]),
        "answer": np.concatenate([found.label[said], nothing]),
        "score": np.concatenate([found.score[said].astype(np.float64), np.full(len(missed), np.nan)]),
        "box": np.concatenate([found.xyxy[said].astype(np.float64), truth.xyxy[missed]]),
    }


def _confusion(answers: dict[str, np.ndarray], classes: int) -> list[list[int]]:
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(counts, (answers["truth"], answers["answer"]), 1)  # -1 is the last, the background
    return counts.tolist()


def _mistakes(answers: dict[str, np.ndarray]) -> list[dict]:
    """Wrong answers: first the worst of each picture, then the others, both with the worst pictures first.

    A missed box costs 1, a false one its score, and one of the wrong class, which is both, 1 and its score.  A picture
    costs the sum of its mistakes.  `truth` is `None` for a false box, `answer` and `score` for a missed one; `box` is
    xyxy in pixels.
    """
    wrong = np.flatnonzero(answers["truth"] != answers["answer"])
    index, said = answers["index"][wrong], np.nan_to_num(answers["score"][wrong])
    cost = said + (answers["truth"][wrong] >= 0)
    total = np.bincount(index, cost)[index] if len(wrong) else cost
    order = np.lexsort((-cost, index, -total))
    opens = np.append(True, np.diff(index[order]) != 0)[: len(order)]
    order = np.concatenate([order[opens], order[~opens]])[:MOST_MISTAKES]
    columns = (answers[name][wrong[order]].tolist() for name in ("index", "truth", "answer", "score", "box"))
    return [
        {
            "index": index,
            "truth": truth if truth >= 0 else None,
            "answer": answer if answer >= 0 else None,
            "score": score if answer >= 0 else None,
            "box": box,
        }
        for index, truth, answer, score, box in zip(*columns)
    ]
