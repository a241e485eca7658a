"""Five points of each face from `landmarks.csv`: a file, then x and y of each point.

The points are the left eye, the right eye, the nose, the left and the right corner of the mouth, as the viewer sees
left and right; in pixels of the upright picture, whole numbers at the centres of pixels (as OpenCV counts, and so the
detectors of faces). Nothing in the ten columns says that a face has none. A header may name the columns in another
order, see `landmark_columns`.
"""

import csv
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resnet_tasks.data.readers import landmark_columns, locate
from resnet_tasks.data.readers.landmark_columns import POINTS
from resnet_tasks.data.readers.picture_places import Places
from resnet_tasks.errors import DataError

FILE = "landmarks.csv"
LEVELS = 5  # folders over a picture whose lists are looked at: split, person and one below, the set, and beside it
_NOTHING = ("", "nan", "none", "null")


class Unrelated(DataError):
    """A file of landmarks that names none of the pictures, or no file at all."""


def find(folder: Path) -> Path | None:
    """Returns the file in a folder, or else beside it."""
    return next((path for path in (folder / FILE, folder.absolute().parent / FILE) if path.is_file()), None)


def read(file: Path, places: Places, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads the points of `count` pictures.

    Returns:
        float32 `(count, 5, 2)`, x and y, NaN where there are none; and the names that no picture has.

    Raises:
        Unrelated: None of the names is a picture's.
        DataError: A row is not a name and ten numbers, a picture has two, or a header names the columns strangely.
    """
    points = np.full((count, POINTS, 2), np.nan, np.float32)
    unknown: list[str] = []
    line_of: dict[int, int] = {}
    for line, name, numbers in _rows(file):
        place = places.find(name)
        if place is None:
            unknown.append(name)
            continue
        if place in line_of:
            raise DataError(f"{file}, line {line}: {name} has landmarks in line {line_of[place]} already")
        line_of[place] = line
        points[place] = np.reshape(numbers, (POINTS, 2))
    if not line_of and not unknown:
        raise Unrelated(f"{file}: it holds no row; a file and ten numbers were expected in each; fill it, or remove it")
    if not line_of:
        named = f", among them {unknown[0]}" if unknown else ""
        raise Unrelated(
            f"{file}: none of the {len(unknown)} files that it names is there{named}; names start from the folder "
            f"that it lies in, or from {places.folders[-1]}; put the names right, or move the file away"
        )
    return points, tuple(unknown)


class Nearby:
    """Points of single pictures, by the lists in their folders or up to `LEVELS` above; each list is read once."""

    def __init__(self):
        self._listed: dict[str, dict[str, np.ndarray]] = {}

    def find(self, picture: str | os.PathLike) -> np.ndarray | None:
        """Returns the points `(5, 2)` of a picture by the nearest list that names it; None where there are none.

        Names are absolute, or start from the list's folder or from one on the way to that of the person.

        Raises:
            DataError: A row is not a name and ten numbers, a picture has two, or a header names the columns strangely.
        """
        path = Path(os.path.abspath(picture))
        for level, folder in enumerate(path.parents[:LEVELS]):
            listed = self._read(folder)
            starts = [folder, *path.parents[1:level]] if listed else []
            for name in (path.as_posix(), *(path.relative_to(start).as_posix() for start in starts)):
                found = listed.get(locate.composed(name))
                if found is not None:
                    return found if np.isfinite(found).all() else None
        return None

    def _read(self, folder: Path) -> dict[str, np.ndarray]:
        """Returns the points of a folder's list by the names in it."""
        if str(folder) not in self._listed:
            points: dict[str, np.ndarray] = {}
            file = folder / FILE
            for line, name, numbers in _rows(file) if file.is_file() else ():
                name = locate.composed(os.path.normpath(name.strip().replace("\\", "/")))
                if name in points:
                    raise DataError(f"{file}, line {line}: {name} has landmarks in a line before it already")
                points[name] = np.reshape(numbers, (POINTS, 2)).astype(np.float32)
            self._listed[str(folder)] = points
        return self._listed[str(folder)]


def _rows(file: Path) -> Iterator[tuple[int, str, list[float]]]:
    """Yields the line, the file's name, and ten numbers, in the order of points, NaN where there are no landmarks."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            rows = csv.reader(stream, delimiter=max(",;\t|", key=head.count))
            order, is_first = None, True
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                numbers = _numbers(row[1:])
                if numbers is None and is_first and not any(map(_is_number, row[1:])):
                    order, is_first = landmark_columns.order(row[1:], str(file)), False
                    continue
                is_first = False
                if numbers is None:
                    raise DataError(
                        f"{file}, line {rows.line_num}: a file and ten numbers expected, x and y of left eye, right "
                        f"eye, nose, left and right corner of the mouth; got {', '.join(row)[:120]!r}"
                    )
                yield rows.line_num, row[0], numbers if order is None else [numbers[place] for place in order]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: not a CSV file in UTF-8 ({error}); save it as one") from None


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _numbers(cells: list[str]) -> list[float] | None:
    """Returns ten numbers, or None where the cells are not that."""
    cells = [cell.strip() for cell in cells]
    if all(cell.lower() in _NOTHING for cell in cells) and len(cells) in (0, 2 * POINTS):
        return [math.nan] * (2 * POINTS) if cells else None
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return None
    return numbers if len(numbers) == 2 * POINTS and all(map(math.isfinite, numbers)) else None
