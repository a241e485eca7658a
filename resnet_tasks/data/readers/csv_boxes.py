"""A CSV file of boxes: a row a box, columns by their names, pixels counted from 0.

file,xmin,ymin,xmax,ymax,label,split
scans/0001.png,12,40,96,120,cell,train
scans/0002.png,,,,,,train

A row without a box says that its picture is background.
"""

import csv
import math
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from resnet_tasks.data import formats
from resnet_tasks.data.examples import LabelMap, Problem, Source
from resnet_tasks.data.readers import boxes, locate, splits
from resnet_tasks.errors import DataError, UsageError

# Names are compared without case, `_`, `-` and spaces.
_FILE = ("file", "filename", "filepath", "path", "image", "imagepath", "imagename", "imagefile", "imageid")
_LABEL = ("label", "class", "classname", "labelname", "category", "categoryname", "name", "target")
_SPLIT = ("split", "set", "subset", "partition")
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
_SIDES = (  # where both are there, "width" and "height" are the picture's
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("xmin", "ymin", "w", "h"),
    ("xmin", "ymin", "width", "height"),
    ("left", "top", "w", "h"),
    ("left", "top", "width", "height"),
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
)
_SIZE = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("width", "height"))

# xyxy; None: the row has no box; or what is wrong with it, in words.
_Box = tuple[float, float, float, float] | str | None
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class _Columns:
    """The places of the columns in a row.

    Attributes:
        file: The picture's.
        label: The class's.
        box: The four of the box.
        sides: Whether the third and fourth of them are width and height.
        size: The picture's own width and height, if there are such columns.
        split: The split's, if there is one.
        group: The group's, if the user named one.
        said: A sentence on what was found.
    """

    file: int
    label: int
    box: tuple[int, ...]
    sides: bool
    size: tuple[int, ...] | None = None
    split: int | None = None
    group: int | None = None
    said: str = ""


@dataclass(frozen=True)
class _Line:
    number: int
    cells: tuple[str, ...]

    def __getitem__(self, place: int) -> str:
        return self.cells[place].strip() if place < len(self.cells) else ""


def read(where: Path | str, *, images: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads a CSV (or TSV) file of boxes.

    Without a header the columns are those of keras-retinanet: path, x1, y1, x2, y2, class.

    Args:
        where: The file. Columns: the picture; xmin ymin xmax ymax (or x0 y0 x1 y1, x1 y1 x2 y2, left top right bottom;
            or x y width height, the corner and the sides); the class; perhaps the split, perhaps others. `width` and
            `height` beside two corners are the picture's.
        images: The folder that the names start from; else they start beside the file, or under `images/` there.
        split_seed: Seeds the split where there is no split column.
        group: A column's name, or a regular expression on the pictures' names.

    Raises:
        UsageError: `images` does not exist.
        DataError: No rows, a column is missing, an unknown split's name, or fractions in place of pixels.
    """
    where = Path(where)
    if not where.is_file():
        raise DataError(f"{where} is no file; a CSV file was expected")
    if images and not Path(images).is_dir():
        raise UsageError(f"--images {images} does not exist, or is no folder")
    lines, columns = _table(where, group)
    of_picture: dict[str, list[_Line]] = {}
    for line in lines:
        if not line[columns.file]:
            raise DataError(f"{where}, line {line.number}: no picture is named")
        name = posixpath.normpath(line[columns.file].replace("\\", "/"))
        of_picture.setdefault(name, []).append(line)
    parsed = {line.number: _box(line, columns) for line in lines}
    _must_be_pixels(where, [box for box in parsed.values() if isinstance(box, tuple)])
    with_box = [line for line in lines if parsed[line.number] is not None]
    names = sorted({line[columns.label] for line in with_box} - {""}, key=splits.natural)
    pictures, lost = _pictures(where, of_picture, columns, parsed, Path(images) if images else None)
    return boxes.assemble(
        where,
        "csv",
        pictures,
        boxes.Categories(LabelMap(tuple(names)), {name: place for place, name in enumerate(names)}),
        split_seed=split_seed,
        group=group,
        groups=None if columns.group is None else [mine[0][columns.group] for mine in of_picture.values()],
        notes=(f"a CSV file: {columns.said}, {len(lines)} rows", *_marked_background(lines, columns, parsed)),
        lost=lost,
    )


def _pictures(
    where: Path,
    of_picture: Mapping[str, Sequence[_Line]],
    columns: _Columns,
    parsed: Mapping[int, _Box],
    images: Path | None,
) -> tuple[list[boxes.Picture], list[Problem]]:
    """Returns the pictures with their boxes, and the rows that hold none that could be read."""
    locator = locate.Locator(images or where.parent)
    folders = [*([images] if images else []), where.parent, where.parent / "images"]
    pictures, lost = [], []
    for name, mine in of_picture.items():
        found, rows = locator.find(name, folders), []
        if found.path is None and PurePosixPath(name).suffix.lower() not in formats.SUFFIXES:
            found = locator.find(name, folders, any_suffix=True)  # "image_id", which is the name without its suffix
        for line in mine:
            box, called = parsed[line.number], f"line {line.number} of {where.name}"
            if isinstance(box, str):
                lost.append(Problem(name, f"{called}: no box, {box}"))
            elif box is not None:
                rows.append(boxes.Row(box, line[columns.label], called))
        split, size_hw = _split(where, mine, columns), _annotated(mine[0], columns)
        picture = boxes.Picture(name, found.path, tuple(rows), split, annotated_hw=size_hw)
        pictures.append(replace(picture, tried=found.tried, guessed=found.guessed))
    return pictures, lost


def _table(where: Path, group: str | None) -> tuple[list[_Line], _Columns]:
    """Returns the rows below the header, or all where there is none, and what their columns are."""
    try:
        with open(where, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t|", key=first.count))
            lines = [_Line(reader.line_num, tuple(cells)) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: not a CSV file in UTF-8 ({error}); save it as one") from None
    if lines and _is_a_box(lines[0]):
        said = "no header, so the columns are path, x1, y1, x2, y2, class"
        return lines, _Columns(file=0, label=5, box=(1, 2, 3, 4), sides=False, said=said)
    if len(lines) < 2:
        raise DataError(f"{where}: no rows; a header and a row for each box were expected")
    return lines[1:], _columns(where, [cell.strip() for cell in lines[0].cells], group)


def _is_a_box(line: _Line) -> bool:
    """Whether a first line is no header, but a row of keras-retinanet's six columns."""
    four = [line[place] for place in range(1, 5)]
    return len(line.cells) == 6 and (not any(four) or all(_number(cell) is not None for cell in four))


def _columns(where: Path, header: Sequence[str], group: str | None) -> _Columns:
    place = {}
    for index, name in enumerate(header):
        place.setdefault(name.lower().translate(str.maketrans("", "", "_- ")), index)

    def first(known: Sequence[str]) -> int | None:
        return next((place[name] for name in known if name in place), None)

    def all_of(known: Sequence[Sequence[str]]) -> tuple[int, ...] | None:
        return next((tuple(place[name] for name in names) for names in known if place.keys() >= set(names)), None)

    def needed(found: _Found | None, what: str, known: Sequence[str]) -> _Found:
        if found is None:
            named = ", ".join(map(repr, header))
            raise DataError(f"{where}: no column for {what}; found {named}, expected one of {', '.join(known)}")
        return found

    corners = all_of(_CORNERS)
    box = needed(corners or all_of(_SIDES), "the box", [f"({' '.join(names)})" for names in (*_CORNERS, *_SIDES)])
    file, label = needed(first(_FILE), "the picture", _FILE), needed(first(_LABEL), "the class", _LABEL)
    size = next((found for names in _SIZE if (found := all_of([names])) and not set(found) & set(box)), None)
    how = "two corners" if corners else "a corner and the sides"
    named = " ".join(header[index] for index in box)
    return _Columns(
        file=file,
        label=label,
        box=box,
        sides=corners is None,
        size=size,
        split=first(_SPLIT),
        group=header.index(group) if group in header else None,
        said=f"{header[file]!r} is the picture, {header[label]!r} the class, {named!r} the box ({how})",
    )


def _box(line: _Line, columns: _Columns) -> _Box:
    words = [line[place] for place in columns.box]
    if not any(words):
        return None
    numbers = [number for word in words if (number := _number(word)) is not None]
    if len(numbers) < 4:
        return f"{' '.join(word or '(empty)' for word in words)!r} where four numbers were expected"
    x, y, third, fourth = numbers
    return (x, y, x + third, y + fourth) if columns.sides else (x, y, third, fourth)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _must_be_pixels(where: Path, found: Sequence[tuple[float, ...]]) -> None:
    finite = [box for box in found if all(map(math.isfinite, box))]
    if finite and all(max(map(abs, box)) <= 1.5 for box in finite):
        raise DataError(
            f"{where}: pixels were expected, and no box reaches beyond {max(map(max, finite)):.4g}, as fractions do; "
            "multiply them by the pictures' widths and heights"
        )


def _split(where: Path, lines: Sequence[_Line], columns: _Columns) -> str | None:
    """Returns the split that all rows of a picture agree on."""
    if columns.split is None:
        return None
    found = {}
    for line in lines:
        word = line[columns.split]
        split = splits.split_name(word)
        if split is None:
            raise DataError(f"{where}, line {line.number}: split {word!r}; train, val or test expected")
        found.setdefault(split, line.number)
    if len(found) > 1:
        said = ", ".join(f"{split} in line {number}" for split, number in found.items())
        raise DataError(f"{where}: {lines[0][columns.file]} stands in more than one split: {said}")
    return next(iter(found))


def _annotated(line: _Line, columns: _Columns) -> tuple[int, int] | None:
    if columns.size is None:
        return None
    width, height = (_number(line[place]) for place in columns.size)
    if width is None or height is None or not (math.isfinite(width) and math.isfinite(height)):
        return None
    return int(height), int(width)


def _marked_background(lines: Sequence[_Line], columns: _Columns, parsed: Mapping[int, _Box]) -> list[str]:
    """Returns the sentence about rows with a class and no box ("No finding"), which are taken as background."""
    found = sorted({line[columns.label] for line in lines if parsed[line.number] is None} - {""})
    return [f"rows of these classes have no box, and are background: {', '.join(found)}"] if found else []
