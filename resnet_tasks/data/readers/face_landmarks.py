"""Five points of each face from `landmarks.csv`: a file, then x and y of each point.

The points are the left eye, the right eye, the nose, the left and the right corner of the mouth, as the viewer sees
left and right; in pixels of the upright picture, whole numbers at the centres of pixels (as OpenCV counts, and so the
detectors of faces). Nothing in the ten columns says that a face has none.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from resnet_tasks.data.readers.picture_places import Places
from resnet_tasks.errors import DataError

FILE = "landmarks.csv"
POINTS = 5
_NOTHING = ("", "nan", "none", "null")


class Unrelated(DataError):
    """A file of landmarks that names none of the pictures."""


def find(folder: Path) -> Path | None:
    """Returns the file in a folder, or else beside it."""
    return next((path for path in (folder / FILE, folder.absolute().parent / FILE) if path.is_file()), None)


def read(file: Path, places: Places, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads the points of `count` pictures.

    Returns:
        float32 `(count, 5, 2)`, x and y, NaN where there are none; and the names that no picture has.

    Raises:
        Unrelated: None of the names is a picture's.
        DataError: A row is not a name and ten numbers, or a picture has two.
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
    if not line_of:
        named = f", among them {unknown[0]}" if unknown else ""
        raise Unrelated(
            f"{file}: none of the {len(unknown)} files that it names is there{named}; names start from the folder "
            f"that it lies in, or from {places.folders[-1]}; put the names right, or move the file away"
        )
    return points, tuple(unknown)


def of_files(files: Sequence[Path]) -> list[np.ndarray | None]:
    """Reads the points of single pictures from the list that lies in the folder of each or in the folder above.

    Returns:
        Of each float32 `(5, 2)`, or None where there are none.

    Raises:
        DataError: As `read`, but for a list that names none of these.
    """
    of_list: dict[Path, list[int]] = defaultdict(list)
    for place, path in enumerate(file.absolute() for file in files):
        above = [folder / FILE for folder in path.parents[:2] if (folder / FILE).is_file()]
        if above:
            of_list[above[0]].append(place)
    found: list[np.ndarray | None] = [None] * len(files)
    for file, places in of_list.items():
        try:
            points, _ = read(
                file, Places([str(files[place]) for place in places], [file.parent], alone=False), len(places)
            )
        except Unrelated:
            continue
        for place, five in zip(places, points):
            found[place] = five if np.isfinite(five).all() else None
    return found


def _rows(file: Path) -> Iterator[tuple[int, str, list[float]]]:
    """Yields the line, the file's name, and ten numbers, all of them NaN where there are no landmarks."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            rows = csv.reader(stream, delimiter=max(",;\t|", key=head.count))
            for place, row in enumerate(rows):
                if not any(cell.strip() for cell in row):
                    continue
                numbers = _numbers(row[1:])
                if numbers is None and place == 0 and not any(map(_is_number, row[1:])):
                    continue  # the header
                if numbers is None:
                    raise DataError(
                        f"{file}, line {rows.line_num}: a file and ten numbers expected, x and y of left eye, right "
                        f"eye, nose, left and right corner of the mouth; got {', '.join(row)[:120]!r}"
                    )
                yield rows.line_num, row[0], numbers
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
