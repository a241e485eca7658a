"""Where all rows of boxes are looked over: what cannot be used is dropped by name, the rest is cut to its picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resnet_tasks.data.examples import Problem

if TYPE_CHECKING:
    from resnet_tasks.data.readers.boxes import Categories, Picture, Row

# The words that a dropped row's message begins with, behind what it is called; the last two are the readers' own.
KINDS = ("not finite", "unknown class", "turned", "empty", "outside", "no box", "no such picture")
# A pixel, as six decimals of a large picture's side may write it.
_LEAST_SIDE = 0.99
_NOTED_OVERHANG = 1.0  # pixels; less is the sources' rounding, and VOC's 0 for the first pixel


@dataclass(frozen=True, eq=False)
class Clean:
    """The rows that can be used, picture by picture, and what became of the others.

    Attributes:
        place: int64 (rows,), each row's picture.
        boxes: float64 (rows, 4), xyxy inside the picture.
        labels: int32 (rows,).
        crowd: bool (rows,).
        area: float64 (rows,), the source's own, else the box's.
        dropped: Rows that cannot be used.
        clipped: Rows that reached over the border by more than one pixel.
    """

    place: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    dropped: tuple[Problem, ...]
    clipped: tuple[Problem, ...]


def clean(pictures: Sequence[Picture], sizes_hw: Sequence[tuple[int, int] | None], categories: Categories) -> Clean:
    """Looks over the rows of pictures whose heights and widths, upright, are `sizes_hw`, None where unknown."""
    rows = [row for picture in pictures for row in picture.rows]
    place = np.repeat(np.arange(len(pictures)), np.array([len(picture.rows) for picture in pictures], np.int64))
    boxes = np.array([row.box for row in rows], np.float64).reshape(-1, 4)
    labels = np.array([categories.place.get(row.category, -1) for row in rows], np.int32)
    size_hw = np.array([size or (np.inf, np.inf) for size in sizes_hw], np.float64).reshape(-1, 2)[place]
    inside = np.clip(boxes, 0, size_hw[:, [1, 0, 1, 0]])
    with np.errstate(invalid="ignore"):  # infinities less infinities: those rows are not finite, and go
        kind = _kinds(boxes, inside, labels)
        over = np.abs(boxes - inside).max(axis=1, initial=0)
        box_area = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
    own_area = np.array([np.nan if row.area is None else row.area for row in rows], np.float64)
    crowd = np.array([row.crowd for row in rows], bool)

    def problem(index: int, what: str) -> Problem:
        return Problem(pictures[place[index]].name, f"{rows[index].called}: {what}")

    kept = kind < 0
    cut = np.flatnonzero(kept & (over > _NOTED_OVERHANG)).tolist()
    return Clean(
        place=place[kept],
        boxes=inside[kept],
        labels=labels[kept],
        crowd=crowd[kept],
        area=np.where(np.isnan(own_area), box_area, own_area)[kept],
        dropped=tuple(problem(i, _why(rows[i], KINDS[kind[i]], size_hw[i])) for i in np.flatnonzero(~kept).tolist()),
        clipped=tuple(problem(i, f"{over[i]:.7g} pixels over the border, {_numbers(rows[i])}") for i in cut),
    )


def _kinds(boxes: np.ndarray, inside: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns what is wrong with each row, an index of `KINDS`, -1 where nothing is."""
    sides = boxes[:, 2:] - boxes[:, :2]
    left = inside[:, 2:] - inside[:, :2]
    wrong = (
        ~np.isfinite(boxes).all(axis=1),
        labels < 0,
        (sides < 0).any(axis=1),
        (sides < _LEAST_SIDE).any(axis=1),
        (left <= 0).any(axis=1),
        (left < _LEAST_SIDE).any(axis=1),
    )
    names = ("not finite", "unknown class", "turned", "empty", "outside", "empty")
    return np.select(wrong, [KINDS.index(name) for name in names], -1)


def _why(row: Row, kind: str, size_hw: np.ndarray) -> str:
    if kind == "unknown class":
        return f"{kind} {row.category!r}, {_numbers(row)}"
    if kind in ("outside", "empty") and np.isfinite(size_hw).all():
        return f"{kind}, {_numbers(row)} in a picture {size_hw[1]:.0f} wide and {size_hw[0]:.0f} high"
    return f"{kind}, {_numbers(row)}"


def _numbers(row: Row) -> str:
    return "left {:.7g}, top {:.7g}, right {:.7g}, bottom {:.7g}".format(*row.box)


def counted(dropped: Sequence[Problem]) -> str:
    """Returns how many rows were dropped for what: "3 turned, 1 empty"."""
    words = [next((kind for kind in KINDS if f": {kind}" in problem.what), "other") for problem in dropped]
    return ", ".join(f"{number} {word}" for word, number in Counter(words).most_common())


def rarest(pictures: Sequence[Picture], categories: Categories) -> list[int]:
    """Returns the class that each picture is split by: the rarest of its boxes'; without boxes, one of its own."""
    shown = [
        [categories.place[row.category] for row in picture.rows if row.category in categories.place]
        for picture in pictures
    ]
    counts = Counter(label for of_picture in shown for label in of_picture)
    return [
        min(of_picture, key=lambda label: (counts[label], label), default=len(categories.labels))
        for of_picture in shown
    ]


def padded(rows: Clean, places: np.ndarray, most: int) -> dict[str, np.ndarray]:
    """Returns the arrays of `Split.annotations` for some pictures.

    Args:
        rows: All pictures' rows.
        places: The pictures, by their place, ascending.
        most: The length of the second axis; at least as many as any of the pictures has rows.
    """
    mine = np.isin(rows.place, places)
    # Rows lie picture by picture: a row's column is how far it is behind its picture's first.
    column = (np.arange(len(rows.place)) - np.searchsorted(rows.place, rows.place))[mine]
    at = np.searchsorted(places, rows.place[mine]), column
    shape = len(places), most
    arrays: dict[str, np.ndarray] = {
        "boxes": np.zeros((*shape, 4), np.float64),
        "labels": np.full(shape, -1, np.int32),
        "crowd": np.zeros(shape, bool),
        "area": np.zeros(shape, np.float64),
    }
    for key, array in arrays.items():
        array[at] = getattr(rows, key)[mine]
    return arrays
