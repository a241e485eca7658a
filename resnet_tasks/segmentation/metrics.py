"""What is measured of a segmenter, from a stream of batches: one confusion matrix over a split, and its boundaries."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.data.masks import IGNORE, read_grey
from resnet_tasks.errors import DataError
from resnet_tasks.segmentation.boundary import boundary_f1

DETAILS = ("confusion", "mistakes", "best")
MOST_MISTAKES = 10_000
BEST = 8
AT_ONCE = 1 << 20  # pixels that are counted at a time: counting takes eight bytes for each


def measure(pairs: Iterable[tuple[dict, dict]], split: Split, labels: LabelMap) -> dict:
    """Metrics over all pictures of weight above 0, each at its own size; one picture at a time is in memory.

    Pixels whose truth is void count nowhere.

    Args:
        pairs: `(answers, targets)`: `mask_png_bytes` `(batch,)`, grey PNGs of ids, each as large as its picture.
            `index` `(batch,)`, the place in the split, -1 for padding; `weight` `(batch,)`, 0 for what could not be
            read.
        split: Holds the truth, `masks`.
        labels: The model's.

    Returns:
        `mIoU`, the mean over the classes that occur in truth or answers, from one confusion matrix of all pixels;
        `pixel_accuracy`; `mean_accuracy`, over the classes that occur in truth; `mean_dice`, as `mIoU`; `boundary_f1`,
        the mean of the classes' (see `_per_class`).  `images`, `unreadable`, `per_class`.  And the details:
        `confusion` `(truth, answer)` pixels; `mistakes`, the pictures that are not all right, the lowest mIoU first,
        and `best`, up to eight, the highest first: see `_picture`.

    Raises:
        DataError: There is no picture or no pixel to measure; an answer's mask has another size than the truth's, or an
            id that no class has.
    """
    gathered = _gathered(pairs, split, labels)
    if not gathered.images:
        raise DataError("no picture of the split could be read; expected at least one to measure")
    if not gathered.rows:
        raise DataError(f"every pixel of the {gathered.images} masks is void; expected some of a class to measure")
    worst_first = sorted(gathered.rows, key=lambda row: row["mIoU"])
    return {
        **_summary(gathered.confusion, gathered.sharp),
        "images": gathered.images,
        "unreadable": gathered.unreadable,
        "per_class": _per_class(gathered.confusion, gathered.sharp, labels.names),
        "confusion": gathered.confusion.tolist(),
        "mistakes": [row for row in worst_first if row["mIoU"] < 1][:MOST_MISTAKES],
        "best": sorted(gathered.rows, key=lambda row: -row["mIoU"])[:BEST],
    }


@dataclass(frozen=True, eq=False)
class _Gathered:
    """Of all pictures together.

    Attributes:
        confusion: int64 `(classes, classes)`: pixels by truth and answer.
        sharp: Boundary F1, float64 `(classes,)`: the mean over the pictures that have the class; NaN where none has.
        rows: `_picture` of each that is not all void.
        images: How many were read.
        unreadable: How many were not.
    """

    confusion: np.ndarray
    sharp: np.ndarray
    rows: list[dict]
    images: int
    unreadable: int


def _gathered(pairs: Iterable[tuple[dict, dict]], split: Split, labels: LabelMap) -> _Gathered:
    classes = len(labels)
    confusion = np.zeros((classes, classes), np.int64)
    f1_sums, pictures = np.zeros(classes), np.zeros(classes, np.int64)
    rows, images, unreadable = [], 0, 0
    for index, answer in _answers(pairs):
        if answer is None:
            unreadable += 1
            continue
        images += 1
        truth = _truth(split, index)
        counts = _counts(truth, answer, classes, split.ids[index])
        confusion += counts
        if counts.any():
            rows.append(_picture(index, counts, labels))
        f1 = boundary_f1(truth, answer, classes)
        f1_sums += np.nan_to_num(f1)
        pictures += ~np.isnan(f1)
    sharp = np.divide(f1_sums, pictures, out=np.full(classes, np.nan), where=pictures > 0)
    return _Gathered(confusion, sharp, rows, images, unreadable)


def _answers(pairs: Iterable[tuple[dict, dict]]) -> Iterator[tuple[int, np.ndarray | None]]:
    """The place of each picture in the split and its answer, ids `(height, width)`; `None` if it could not be read."""
    for answers, targets in pairs:
        for png, index, weight in zip(answers["mask_png_bytes"], targets["index"].tolist(), targets["weight"]):
            if index >= 0:
                yield index, read_grey(png) if weight > 0 else None


def _truth(split: Split, index: int) -> np.ndarray:
    if split.masks is None:
        raise DataError(f"the split {split.name!r} has no masks; expected one for each picture to measure against")
    return split.masks.ids(index)


def _counts(truth: np.ndarray, answer: np.ndarray, classes: int, file: str) -> np.ndarray:
    """Pixels of one picture by truth and answer, int64 `(classes, classes)`."""
    if truth.shape != answer.shape:
        (height, width), (other_height, other_width) = answer.shape, truth.shape
        raise DataError(
            f"{file}: the answer's mask is {width} x {height} pixels, the true one {other_width} x {other_height}; "
            f"expected the size of the picture in both"
        )
    counts = np.zeros(1 << 16, np.int64)
    flat_truth, flat_answer = truth.ravel(), answer.ravel()
    for start in range(0, truth.size, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        both = flat_truth[part].astype(np.uint16) << 8 | flat_answer[part]
        counts += np.bincount(both, minlength=1 << 16)
    table = counts.reshape(256, 256)
    for name, unknown in (("true", table[classes:IGNORE].sum(axis=1)), ("answer's", table[:classes, classes:].sum(0))):
        if unknown.any():
            first = classes + int(np.argmax(unknown > 0))
            raise DataError(f"{file}: the {name} mask holds the id {first}, but the {classes} classes end before it")
    return table[:classes, :classes]


def _measures(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By class intersection over union, accuracy and Dice, float64 `(classes,)`; NaN where they divide nothing."""
    right, truths, answers = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    parts = ((right, truths + answers - right), (right, truths), (2 * right, truths + answers))
    iou, accuracy, dice = (np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0) for a, b in parts)
    return iou, accuracy, dice


def _mean(values: np.ndarray) -> float:
    """The mean of what is not NaN."""
    return float(values[~np.isnan(values)].mean())


def _picture(index: int, counts: np.ndarray, labels: LabelMap) -> dict:
    """One picture's `index`, `pixel_accuracy`, `mIoU`, and `worst`: the class of the lowest IoU in it.

    Of several that is the one with the most pixels in truth or answer.
    """
    iou = _measures(counts)[0]
    union = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    worst = int(np.lexsort((-union, np.nan_to_num(iou, nan=2.0)))[0])
    accuracy = float(np.trace(counts) / counts.sum())
    return {"index": index, "pixel_accuracy": accuracy, "mIoU": _mean(iou), "worst": labels.names[worst]}


def _summary(confusion: np.ndarray, sharp: np.ndarray) -> dict[str, float]:
    iou, accuracy, dice = _measures(confusion)
    return {
        "mIoU": _mean(iou),
        "pixel_accuracy": float(np.trace(confusion) / confusion.sum()),
        "mean_accuracy": _mean(accuracy),
        "mean_dice": _mean(dice),
        "boundary_f1": _mean(sharp),
    }


def _per_class(confusion: np.ndarray, sharp: np.ndarray, names: tuple[str, ...]) -> dict[str, dict]:
    """By class `IoU`, `accuracy` (the share of its true pixels that are right), `dice`, `boundary_f1`, `pixels`.

    `boundary_f1` is the mean over the pictures in which truth or answer has the class, `pixels` are the true ones.
    `None` where a class neither occurs nor is ever answered; the accuracy where it does not occur.
    """
    columns = [[None if np.isnan(value) else value for value in one.tolist()] for one in (*_measures(confusion), sharp)]
    keys = ("IoU", "accuracy", "dice", "boundary_f1", "pixels")
    return {name: dict(zip(keys, row)) for name, *row in zip(names, *columns, confusion.sum(axis=1).tolist())}
