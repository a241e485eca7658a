"""YOLO's text files: a line a box, the class's number, then the centre and the sides as fractions of the picture's.

0 0.5 0.25 0.125 0.0625
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from resnet_tasks.data.examples import LabelMap, Problem, Source
from resnet_tasks.data.readers import boxes, sizes, yolo_layout
from resnet_tasks.data.readers.yolo_layout import Layout, Listed
from resnet_tasks.errors import DataError

_THREADS = 16  # they wait for the disk
# Rows of a picture whose size nobody can read are still counted, and no box may look too small.
_ANY_SIZE_HW = (2**16, 2**16)
_LARGEST_FRACTION = 1.5  # some tools write 1.0001; four numbers beyond this are pixels
_DECIMALS = 6  # of a pixel: whole pixels come back whole from fractions in double precision


@dataclass(frozen=True)
class _Box:
    """A line that could be read.

    Attributes:
        number: The class's, or the text that is none.
        fractions: xyxy as fractions of the upright picture's sides.
        polygon: Whether it is the extent of an outline.
    """

    number: int | str
    fractions: tuple[float, float, float, float]
    polygon: bool = False


def read(where: Path | str, *, images: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads the index of a data set in YOLO's layout.

    The label file of `images/a/b.jpg` is `labels/a/b.txt` (the last `images` of the path as `labels`), or lies beside
    the picture. A picture without one, or with an empty one, is background. A line of seven numbers or more is an
    outline (class x y x y x y ...), and its extent is taken. Six numbers are what a detector writes, the last its
    confidence: such a line is no annotation and is dropped.

    Args:
        where: A data.yaml (path, train, val, test, names, nc), or a folder with one, or with `images` and `labels`.
        images: The folder of the pictures, where they lie apart.
        split_seed: Seeds the split of a data set that has none.
        group: A regular expression on the pictures' names, for such a split.

    Raises:
        UsageError: `images` does not exist.
        DataError: No pictures, no labels, or a data.yaml that cannot be used.
    """
    layout = yolo_layout.find(Path(where), images)
    with ThreadPoolExecutor(_THREADS) as threads:
        texts = list(threads.map(_text, (each.label for each in layout.listed)))
    parsed = [_parsed(text, layout.keypoints) for text in texts]
    pictures, lost = _pictures(layout, parsed)
    return boxes.assemble(
        where,
        "yolo",
        pictures,
        _categories(layout, parsed),
        split_seed=split_seed,
        group=group,
        notes=(*layout.notes, *_notes(layout, parsed)),
        lost=lost,
    )


def _pictures(layout: Layout, parsed: Sequence[Mapping[int, _Box | str]]) -> tuple[list[boxes.Picture], list[Problem]]:
    """Returns the pictures with their boxes in pixels, and the lines that are no box."""
    paths = [each.path for each in layout.listed if each.path]
    size_of = dict(zip(paths, sizes.upright_sizes(paths), strict=True))
    pictures, lost = [], []
    for each, lines in zip(layout.listed, parsed, strict=True):
        size = size_of.get(each.path or "")
        size_hw = size if isinstance(size, tuple) else _ANY_SIZE_HW
        rows = []
        for number, line in lines.items():
            called = f"line {number} of {_label(each, layout)}"
            if isinstance(line, str):
                lost.append(Problem(each.name, f"{called}: no box, {line}"))
            else:
                rows.append(boxes.Row(_pixels(line.fractions, size_hw), line.number, called))
        pictures.append(boxes.Picture(each.name, each.path, tuple(rows), each.split, tried=each.tried))
    return pictures, lost


def _text(label: str | None) -> str:
    if label is None:
        return ""
    try:
        # What is not ASCII is no number: the line is named then.
        return Path(label).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{label}: {error.strerror or error}") from None


def _parsed(text: str, keypoints: int) -> dict[int, _Box | str]:
    """Returns the boxes of a label file by the number of their line, or what is wrong with the line."""
    lines = enumerate(text.splitlines(), 1)
    return {number: _line(line.split(), keypoints) for number, line in lines if line.strip()}


def _line(words: list[str], keypoints: int) -> _Box | str:
    try:
        values = [float(word) for word in words]
    except ValueError:
        return f"{' '.join(words)[:60]!r} where numbers were expected"
    if keypoints and len(values) == 5 + keypoints:
        values = values[:5]
    number = int(values[0]) if values[0].is_integer() else words[0]
    rest = values[1:]
    if len(values) == 6:
        return "6 numbers, the last a confidence, as detectors write their answers; an annotation has 5"
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        return (
            f"{len(values)} numbers; 5 expected (class, centre, sides), or a class and the x y of three corners or more"
        )
    if min(rest) > _LARGEST_FRACTION:
        return f"pixels ({' '.join(words[1:5])}) where fractions of the picture's sides were expected"
    if not all(map(math.isfinite, rest)):
        return _Box(number, (math.nan,) * 4)
    if max(rest if len(values) > 5 else rest[2:]) > _LARGEST_FRACTION:
        return f"{max(rest):g}, where fractions of the picture's sides were expected"
    if len(values) > 5:
        xs, ys = rest[::2], rest[1::2]
        return _Box(number, (min(xs), min(ys), max(xs), max(ys)), polygon=True)
    x, y, width, height = rest
    return _Box(number, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def _pixels(fractions: tuple[float, ...], size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    height, width = size_hw
    left, top, right, bottom = fractions
    return (
        round(left * width, _DECIMALS),
        round(top * height, _DECIMALS),
        round(right * width, _DECIMALS),
        round(bottom * height, _DECIMALS),
    )


def _categories(layout: Layout, parsed: list[dict[int, _Box | str]]) -> boxes.Categories:
    names = layout.names
    if names is None:
        lines = (line for of_file in parsed for line in of_file.values() if isinstance(line, _Box))
        numbers = {line.number for line in lines if isinstance(line.number, int) and line.number >= 0}
        names = {number: str(number) for number in sorted(numbers)}
    return boxes.Categories(
        labels=LabelMap(names=tuple(names.values()), source_ids=tuple(names)),
        place={number: place for place, number in enumerate(names)},
    )


def _label(each: Listed, layout: Layout) -> str:
    label = Path(each.label or "")
    return label.relative_to(layout.root).as_posix() if label.is_relative_to(layout.root) else str(label)


def _notes(layout: Layout, parsed: list[dict[int, _Box | str]]) -> list[str]:
    notes = []
    without = sum(bool(each.path and not each.label) for each in layout.listed)
    if without:
        notes.append(f"without a label file, and so background: {without} pictures")
    lines = [line for of_file in parsed for line in of_file.values() if isinstance(line, _Box)]
    polygons = sum(line.polygon for line in lines)
    if polygons:
        notes.append(f"outlines, of which the extent is taken: {polygons} of {len(lines)} lines")
    if layout.keypoints:
        notes.append("key points, which stand behind each box, are not used")
    return notes
