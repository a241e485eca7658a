"""Files that name classes by the colours of their pixels: CamVid's, Kaggle's and CVAT's."""

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.readers import mask_files
from resnet_tasks.data.readers.mask_files import Table
from resnet_tasks.data.readers.pairs_of_masks import Classes
from resnet_tasks.errors import DataError

_Rows = list[tuple[str, tuple[int, ...]]]  # names, and red, green and blue
# What files of classes call pixels that nobody looked at.
VOID = frozenset(("void", "ignore", "ignored", "__ignore__", "unlabelled", "unlabeled"))


def _of_table(read: Callable[[Path], _Rows]) -> Callable:
    """Makes of a function that returns names and colours what finds the classes."""

    def of_file(path: Path, masks: Sequence[str]) -> tuple[Classes, list[str]]:
        try:
            rows = read(path)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: cannot be read ({error})") from None
        if not rows:
            raise DataError(f"{path}: no class with its colour found; expected a name and red, green and blue a line")
        return of_colors(path, rows, masks)

    return of_file


def of_colors(path: Path, rows: _Rows, masks: Sequence[str]) -> tuple[Classes, list[str]]:
    """Makes classes of a table of names and colours; masks without any colour hold the table's places, from 0."""
    wrong = [name for name, color in rows if len(color) != 3 or not all(map(is_byte, color))]
    if wrong:
        raise DataError(f"{path}: {wrong[0]!r} has no colour of red, green and blue from 0 to 255")
    refuse_twice(path, [name for name, _ in rows], [mask_files.packed(color) for _, color in rows])
    kept = [place for place, (name, _) in enumerate(rows) if name.lower() not in VOID]
    refuse_same(path, [rows[place][0] for place in kept])
    by_color = all(len(set(color)) == 1 for _, color in rows) or any(map(mask_files.is_in_color, masks))
    id_of = {place: id for id, place in enumerate(kept)}
    table = Table(
        ids={IGNORE: IGNORE} | {place: id_of.get(place, IGNORE) for place in range(min(len(rows), 256))},
        colors={mask_files.packed(color): id_of.get(place, IGNORE) for place, (_, color) in enumerate(rows)},
        greys_are_colors=by_color,
    )
    labels = LabelMap(
        names=tuple(rows[place][0] for place in kept),
        source_ids=() if by_color else tuple(kept),
        colors=tuple(tuple(rows[place][1]) for place in kept),
    )
    void = [name for name, _ in rows if name.lower() in VOID]
    said = f"; {', '.join(void)} is void" if void else ""
    return Classes(labels, table.read), [f"{path.name}: {len(labels)} classes by their colours{said}"]


def _label_colors(path: Path) -> _Rows:
    """Reads CamVid's lines, `128 64 128 Road`."""
    lines = [re.match(r"\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\S.*?)\s*$", line) for line in _text(path).splitlines()]
    return [(line[4], (int(line[1]), int(line[2]), int(line[3]))) for line in lines if line]


def _labelmap(path: Path) -> _Rows:
    """Reads CVAT's lines, `road:128,64,128::`."""
    lines = [re.match(r"([^#:][^:]*):\s*(\d+),\s*(\d+),\s*(\d+)\s*(:|$)", line) for line in _text(path).splitlines()]
    return [(line[1].strip(), (int(line[2]), int(line[3]), int(line[4]))) for line in lines if line]


def _class_dict(path: Path) -> _Rows:
    """Reads Kaggle's columns `name,r,g,b`, in any order."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(_text(path).splitlines()) if any(row)]
    header = [cell.lower() for cell in rows[0]] if rows else []
    if not {"name", "r", "g", "b"} <= set(header):
        raise DataError(f"{path}: the columns name, r, g and b were expected; found {', '.join(header) or 'none'}")
    columns = [header.index(key) for key in ("name", "r", "g", "b")]
    made = []
    for number, row in enumerate(rows[1:], 2):
        cells = [row[column] for column in columns if column < len(row)]
        if len(cells) < 4 or not all(cell.isdecimal() for cell in cells[1:]):
            raise DataError(f"{path}: row {number} has no name with red, green and blue: {', '.join(row)}")
        made.append((cells[0], tuple(map(int, cells[1:]))))
    return made


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def is_byte(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def refuse_same(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: names of classes must differ, but these stand twice: {', '.join(twice)}")


def refuse_twice(path: Path, names: Sequence[str], colors: Sequence[int]) -> None:
    first: dict[int, str] = {}
    for name, color in zip(names, colors, strict=True):
        if first.setdefault(color, name) != name:
            raise DataError(
                f"{path}: {first[color]!r} and {name!r} have the same colour, {mask_files.hexadecimal(color)}; give "
                "each class its own"
            )


FILES = {
    "label_colors.txt": _of_table(_label_colors),
    "class_dict.csv": _of_table(_class_dict),
    "class_dict_seg.csv": _of_table(_class_dict),
    "labelmap.txt": _of_table(_labelmap),
}
