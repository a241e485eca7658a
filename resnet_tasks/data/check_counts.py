"""Findings from the number of pictures or boxes of each class, and which splits there are."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from resnet_tasks.data.check_report import Finding

_IMBALANCE = 10  # the largest class over the smallest from which an overall figure says little
_FEW = 10  # of a class in train
_IN_A_SENTENCE = 10  # names of classes


def class_findings(
    counts: Mapping[str, np.ndarray], names: Sequence[str], thing: str, advice: str
) -> Iterator[Finding]:
    """Says which classes and splits are missing, small, or out of balance.

    Args:
        counts: For each split `(classes,)`.
        names: Of the classes.
        thing: What is counted: "picture" or "box".
        advice: What to do where classes are out of balance.
    """
    things = {"picture": "pictures", "box": "boxes"}[thing]
    nowhere = np.sum(list(counts.values()), axis=0) == 0
    if nowhere.any():
        unused = [names[label] for label in np.flatnonzero(nowhere).tolist()]
        yield _of_classes("warning", f"nothing can be learnt, for want of a {thing} in any split,", unused)
    for split, count in counts.items():
        missing = [names[label] for label in np.flatnonzero((count == 0) & ~nowhere).tolist()]
        if missing:
            yield _of_classes("error" if split == "train" else "warning", f"no {thing} in {split}", missing)
    for split, lack in (("train", "nothing can be trained"), ("val", "no state can be chosen as the best")):
        if split not in counts:
            yield Finding("note", f"there is no split {split!r}: {lack}")
    if "train" not in counts:
        return
    train = counts["train"]
    few = [f"{names[label]} ({train[label]})" for label in np.flatnonzero((train > 0) & (train < _FEW)).tolist()]
    if few:
        yield _of_classes("warning", f"fewer than {_FEW} {things} in train", few)
    present = train[train > 0]
    if len(present) and present.max() > _IMBALANCE * present.min():
        large, small = int(train.argmax()), int(np.where(train > 0, train, train.max()).argmin())
        yield Finding(
            "warning",
            f"the classes of train are out of balance: {names[large]} has {train[large]} {things}, "
            f"{names[small]} {train[small]}; {advice}",
        )


def _of_classes(level: str, what: str, classes: list[str]) -> Finding:
    """Names the classes in the sentence where they are few, else behind it."""
    what = f"{what} of {len(classes)} of the classes"
    if len(classes) > _IN_A_SENTENCE:
        return Finding(level, what, tuple(classes))
    return Finding(level, f"{what}: {', '.join(classes)}")
