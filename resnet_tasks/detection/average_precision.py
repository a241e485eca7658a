"""COCO's average precision and recall by faster-coco-eval, class by class, so that one class alone is in memory."""

from dataclasses import dataclass

import numpy as np

from resnet_tasks.detection.matching import Found, Truth, xyxy_to_xywh

AREAS = ("all", "small", "medium", "large")  # of the thing, in pixels: any, to 32², to 96², above
MOST = (1, 10, 100)  # found boxes of a class in a picture that count
# From so many found boxes of one class the areas are measured one after another: the library keeps ten matches for
# each box and area, and 500,000 boxes would take 660 MB; so it is 450.
MANY = 100_000


@dataclass(frozen=True, eq=False)
class ClassMeasures:
    """Of each class, float64, -1 where it has nothing to find.

    Attributes:
        precision: `(classes, 10 overlaps, 4 areas)`: the mean over 101 recalls; overlaps 0.5, 0.55, ..., 0.95.
        recall: `(classes, 10 overlaps, 4 areas, 3)`: with 1, 10 and 100 boxes a picture.
        curve: `(classes, 101)`: the precision at recalls 0, 0.01, ..., 1 for overlap 0.5, all areas, 100 boxes.
    """

    precision: np.ndarray
    recall: np.ndarray
    curve: np.ndarray


@dataclass
class _Row:
    """A box as the library reads it, a dict: `vars` of an instance, as those share their keys: a third less memory."""

    id: int  # not 0, which means "no match" to the library
    image_id: int
    category_id: int
    bbox: np.ndarray
    area: float
    score: float = 0.0
    iscrowd: int = 0


def measure_classes(found: Found, truth: Truth, number: np.ndarray, classes: int) -> ClassMeasures:
    """Measures every class of a data set.

    Args:
        found: The found boxes; of each class in a picture the best 100 count.
        truth: The true boxes.
        number: int64 `(pictures of the split,)`: of equal scores the box in the picture of the lower number counts as
            the better one.
        classes: How many.
    """
    precision, recall = -np.ones((classes, 10, len(AREAS))), -np.ones((classes, 10, len(AREAS), len(MOST)))
    curve = -np.ones((classes, 101))
    rows_of_found, rows_of_truth = _by_class(found.label, classes), _by_class(truth.label, classes)
    for label, (chosen, true) in enumerate(zip(rows_of_found, rows_of_truth)):
        if np.all(truth.crowd[true]):
            continue  # nothing to find
        got = xyxy_to_xywh(found.xyxy[chosen])
        measured = _measure(
            _rows(number[found.picture[chosen]], got, got[:, 2] * got[:, 3], score=found.score[chosen]),
            _rows(
                number[truth.picture[true]],
                xyxy_to_xywh(truth.xyxy[true]),
                truth.area[true],
                iscrowd=truth.crowd[true].astype(int),
            ),
        )
        precisions, recall[label] = measured
        precision[label], curve[label] = precisions.mean(axis=1), precisions[0, :, 0]
    return ClassMeasures(precision, recall, curve)


def _by_class(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """The rows of each class, in order."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.searchsorted(labels[order], np.arange(1, classes)))


def _rows(number: np.ndarray, xywh: np.ndarray, area: np.ndarray, **columns: np.ndarray) -> list[dict]:
    names, values = tuple(columns), zip(*(column.tolist() for column in columns.values()))
    parts = zip(number.tolist(), xywh, area.tolist(), values)
    return [
        vars(_Row(place, image, 1, box, size, **dict(zip(names, more))))
        for place, (image, box, size, more) in enumerate(parts, start=1)
    ]


def _measure(found: list[dict], truth: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Precision `(10, 101, areas)` and recall `(10, areas, 3)` of one class."""
    from faster_coco_eval import COCO, COCOeval_faster

    images = [{"id": number} for number in sorted({row["image_id"] for rows in (found, truth) for row in rows})]
    about = {"images": images, "categories": [{"id": 1}]}
    both = [COCO({**about, "annotations": rows}, print_function=_silent) for rows in (truth, found)]
    evaluation = COCOeval_faster(*both, iouType="bbox", print_function=_silent)
    areas = evaluation.params.areaRng
    precisions, recalls = [], []
    for part in [[area] for area in areas] if len(found) > MANY else [areas]:
        evaluation.params.areaRng = part
        evaluation.evaluate()
        evaluation.accumulate()
        precisions.append(evaluation.eval["precision"][:, :, 0, :, -1])
        recalls.append(evaluation.eval["recall"][:, 0])
    return np.concatenate(precisions, axis=2), np.concatenate(recalls, axis=1)


def _silent(*_) -> None:
    """Where the library would print."""
