"""A CSV file: a row a picture, columns by their names.

file,label,split,patient
scans/0001.png,healthy,train,17
"""

import csv
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.data.readers import inspection, splits
from resnet_tasks.errors import DataError, UsageError

_FILE = ("file", "path", "image", "filename", "file_name", "filepath", "file_path", "image_path")
_LABEL = ("label", "class", "class_name", "category", "target")
_SPLIT = ("split", "set", "subset", "partition")


def read(where: Path, *, images: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads a CSV (or TSV) file of pictures and their classes.

    Args:
        where: The file. Columns: the picture, its class; perhaps its split, perhaps others.
        images: The folder that the names start from; else they start beside the file, or under
            `images/` there.
        split_seed: Seeds the split where there is no split column.
        group: A column's name, or a regular expression on the pictures' names.

    Raises:
        UsageError: `images` does not exist.
        DataError: No rows, a column is missing, or an unknown split's name.
    """
    if not where.is_file():
        raise DataError(f"{where} is no file; a CSV file was expected")
    if images and not Path(images).is_dir():
        raise UsageError(f"--images {images} does not exist, or is no folder")
    rows, columns = _rows(where)
    file, label = _column(where, columns, _FILE, "picture"), _column(where, columns, _LABEL, "class")
    names = [row[file].strip().replace("\\", "/") for row in rows]
    classes = [row[label].strip() for row in rows]
    if "" in names or "" in classes:
        line = 2 + min(values.index("") for values in (names, classes) if "" in values)
        raise DataError(f"{where}, row {line}: columns {file!r} and {label!r} must not be empty")
    finder = _Finder(where.parent, images)
    paths = [finder.find(name) for name in names]

    labels = LabelMap(names=tuple(sorted(set(classes), key=splits.natural)))
    place = {name: index for index, name in enumerate(labels.names)}
    looked = inspection.inspect(paths, names)
    whole = Split(
        name="all",
        ids=tuple(names),
        paths=tuple(paths),
        annotations={"label": np.array([place[name] for name in classes], np.int32)},
        by_pillow=looked.by_pillow,
    )
    found = f"a CSV file: {file!r} is the picture, {label!r} its class, {len(rows)} rows"
    sides, how = _sides(where, rows, columns, whole, split_seed, group)
    return Source(
        where=str(where),
        format="csv",
        labels=labels,
        splits=splits.cut(whole, splits.only(sides, looked.readable)),
        problems=tuple(replace(each, what=finder.missing.get(each.file, each.what)) for each in looked.problems),
        notes=(found, how),
    )


def _sides(
    where: Path, rows: list[dict], columns: list[str], whole: Split, split_seed: int, group: str | None
) -> tuple[list[str], str]:
    """Returns each row's split, by the split column or else by hash, and a sentence on which."""
    column = next((column for column in columns if column.strip().lower() in _SPLIT), None)
    if column:
        return [
            _side(where, number, row[column]) for number, row in enumerate(rows, 2)
        ], f"its own splits, column {column!r}"
    groups = None
    if group:
        groups = [row[group] for row in rows] if group in columns else splits.grouped(whole.ids, group)
    hashed = splits.hashed(whole.ids, whole.annotations["label"].tolist(), groups, split_seed)
    return hashed, splits.note(split_seed, group)


class _Finder:
    """Finds a picture by the name that a CSV file gives it.

    Attributes:
        missing: For each name that was not found, what was tried, in words.
    """

    def __init__(self, beside: Path, images: str | None):
        self._beside = beside
        self._images = images
        self._by_base_name: dict[str, list[str]] | None = None
        self.missing: dict[str, str] = {}

    def find(self, name: str) -> str:
        """Returns the path of `name`, or, having noted what was tried, one that does not exist."""
        places = [Path(name), self._beside / name, self._beside / "images" / name]
        if self._images:
            places.insert(0, Path(self._images) / name)
        for path in places:
            if path.is_file():
                return str(path)
        alike = self._named(PurePosixPath(name).name)
        if len(alike) == 1:
            return alike[0]
        tried = ", ".join(dict.fromkeys(str(path) for path in places))
        found = f"{len(alike)} files" if alike else "no file"
        self.missing[name] = f"not found; tried {tried}; below {self._root} {found} of that base name"
        return str(places[0])

    @property
    def _root(self) -> Path:
        return Path(self._images) if self._images else self._beside

    def _named(self, base_name: str) -> list[str]:
        if self._by_base_name is None:
            self._by_base_name = defaultdict(list)
            for parent, _, names in os.walk(self._root):
                for name in names:
                    self._by_base_name[name].append(os.path.join(parent, name))
        return self._by_base_name.get(base_name, [])


def _rows(where: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Returns the rows and the names of the columns."""
    try:
        with open(where, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            delimiter = max(",;\t|", key=header.count)
            file.seek(0)
            reader = csv.DictReader(file, delimiter=delimiter, restval="")
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: not a CSV file in UTF-8 ({error}); save it as one") from None
    if not rows:
        raise DataError(f"{where}: no rows; a header and a row for each picture were expected")
    return rows, columns


def _column(where: Path, columns: list[str], known: tuple[str, ...], what: str) -> str:
    for wanted in known:
        for column in columns:
            if column.strip().lower() == wanted:
                return column
    raise DataError(
        f"{where}: no column for the {what}; found {', '.join(map(repr, columns))}, expected one of {', '.join(known)}"
    )


def _side(where: Path, line: int, word: str) -> str:
    side = splits.split_name(word)
    if side is None:
        raise DataError(f"{where}, row {line}: split {word!r}; train, val or test expected")
    return side
