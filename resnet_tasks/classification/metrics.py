"""What is measured of a classifier, from a stream of batches: a confusion matrix, and four numbers a picture."""

from collections.abc import Iterable

import numpy as np

from resnet_tasks.errors import DataError

BINS = 15  # of the calibration error: Guo et al. 2017, arXiv 1706.04599, section 2
MOST_MISTAKES = 1000


def measure(pairs: Iterable[tuple[dict, dict]], class_names: tuple[str, ...]) -> dict:
    """Metrics over all pictures of weight above 0; every picture counts once.

    Args:
        pairs: `(answers, targets)`: `probabilities` `(batch, classes)`; `label` `(batch,)`, `index` `(batch,)`,
            `weight` `(batch,)`, 0 for padding and for pictures that could not be read.
        class_names: In the order of the ids.

    Returns:
        `top1`, `top5` (None below 6 classes), `balanced_accuracy` and `macro_f1` (over the classes that occur),
        `loss` (mean negative log-likelihood), `ece`, `images`, `unreadable`, `per_class`; and the details
        `confusion` `(truth, answer)` counts, `mistakes`, most confident first, and `reliability` (see there).

    Raises:
        DataError: There is no picture to measure.
    """
    classes = len(class_names)
    confusion = np.zeros((classes, classes), np.int64)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("index", "truth", "answer", "score")}
    in_best, losses, unreadable = 0, 0.0, 0
    for answers, targets in pairs:
        real = targets["index"] >= 0
        seen = real & (targets["weight"] > 0)
        unreadable += int(np.sum(real & ~seen))
        probabilities, truth = answers["probabilities"][seen].astype(np.float64), targets["label"][seen]
        answer = np.argmax(probabilities, axis=1)
        np.add.at(confusion, (truth, answer), 1)
        own = probabilities[np.arange(len(truth)), truth]
        in_best += int(np.sum(np.sum(probabilities > own[:, None], axis=1) < 5))
        losses += float(-np.sum(np.log(np.maximum(own, 1e-12))))
        values = (targets["index"][seen], truth, answer, np.max(probabilities, axis=1, initial=0.0))
        for name, value in zip(columns, values):
            columns[name].append(value)
    if not confusion.any():
        raise DataError("no picture of the split could be read; expected at least one to measure")
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    images = len(table["index"])
    counted = {"loss": losses / images, "images": images, "unreadable": unreadable}
    return {**_summary(confusion, table, in_best, class_names), **counted}


def _summary(confusion: np.ndarray, table: dict, in_best: int, class_names: tuple[str, ...]) -> dict:
    """The metrics and details that the confusion matrix and the table of pictures hold."""
    right = table["truth"] == table["answer"]
    per_class = _per_class(confusion, class_names)
    occurring = [row for row in per_class.values() if row["images"]]
    return {
        "top1": float(right.mean()),
        "top5": in_best / len(right) if len(class_names) > 5 else None,
        "balanced_accuracy": float(np.mean([row["recall"] for row in occurring])),
        "macro_f1": float(np.mean([row["f1"] for row in occurring])),
        "ece": calibration_error(table["score"], right),
        "per_class": per_class,
        "confusion": confusion.tolist(),
        "mistakes": _mistakes(table),
        "reliability": reliability(table["score"], right),
    }


def calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: Σ over bins of share x |accuracy - confidence|; bins (0, 1/15], (1/15, 2/15], ..."""
    bins = _bins(scores)
    counts = np.bincount(bins, minlength=BINS)
    gaps = np.bincount(bins, right, BINS) - np.bincount(bins, scores, BINS)
    return float(np.sum(np.abs(gaps)) / max(1, counts.sum()))


def reliability(scores: np.ndarray, right: np.ndarray) -> list[dict]:
    """The bins behind `calibration_error`, for a plot: `confidence`, `accuracy`, `images` of each that is not empty."""
    bins = _bins(scores)
    chosen = [bins == number for number in range(BINS)]
    return [
        {"confidence": float(scores[c].mean()), "accuracy": float(right[c].mean()), "images": int(c.sum())}
        for c in chosen
        if c.any()
    ]


def _bins(scores: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(scores * BINS).astype(int) - 1, 0, BINS - 1)


def _per_class(confusion: np.ndarray, class_names: tuple[str, ...]) -> dict[str, dict]:
    """Precision, recall and F1 by class.

    Recall is None where a class does not occur, all are 0 where nothing is right.
    """
    right, truths, answers = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    rows = {}
    for name, r, t, a in zip(class_names, right.tolist(), truths.tolist(), answers.tolist()):
        rows[name] = {
            "precision": r / a if a else 0.0,
            "recall": r / t if t else None,
            "f1": 2 * r / (t + a) if t + a else 0.0,
            "images": t,
        }
    return rows


def _mistakes(table: dict[str, np.ndarray]) -> list[dict]:
    """Wrong answers, the most confident first, equal ones in the order of the split."""
    wrong = np.flatnonzero(table["truth"] != table["answer"])
    worst = wrong[np.argsort(-table["score"][wrong], kind="stable")][:MOST_MISTAKES]
    return [{name: column[row].item() for name, column in table.items()} for row in worst]
