"""A folder a class: `WHERE/cat/1.jpg`, or with split folders `WHERE/train/cat/1.jpg`."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_tasks.data import formats
from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.data.readers import inspection, splits
from resnet_tasks.errors import DataError

# What file managers leave behind; ignored in silence, as all names that begin with a dot are.
_LITTER = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"))


@dataclass(frozen=True)
class _File:
    path: str
    name: str  # relative to the data set, with "/", composed (NFC): the same on every machine
    class_name: str
    split: str | None


def read(where: Path, *, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads the index of a folder of class folders, whatever lies below each of them included.

    Args:
        where: The folder.
        split_seed: Seeds the split where there are no split folders.
        group: A regular expression on the names (`cat/patient7_2.jpg`), where there are none.

    Raises:
        DataError: No class folders, or no picture in them.
    """
    if not where.is_dir():
        raise DataError(f"{where} is not a folder; a folder of class folders was expected")
    parts = _split_folders(where)
    files, others = [], []
    for split, folder in parts:
        for class_folder in _folders(folder):
            for path in _walk(class_folder):
                name = unicodedata.normalize("NFC", path.relative_to(where).as_posix())
                if path.suffix.lower() in formats.SUFFIXES:
                    class_name = unicodedata.normalize("NFC", class_folder.name)
                    files.append(_File(str(path), name, class_name, split))
                else:
                    others.append(name)
    if not files:
        raise DataError(_nothing(where, parts))
    files.sort(key=lambda file: splits.natural(file.name))
    return _source(where, files, others, split_seed, group)


def _source(where: Path, files: list[_File], others: list[str], split_seed: int, group: str | None) -> Source:
    class_names = sorted({file.class_name for file in files}, key=splits.natural)
    labels = LabelMap(names=tuple(class_names))
    place = {name: index for index, name in enumerate(class_names)}
    looked = inspection.inspect([file.path for file in files], [file.name for file in files])
    whole = Split(
        name="all",
        ids=tuple(file.name for file in files),
        paths=tuple(file.path for file in files),
        annotations={"label": np.array([place[file.class_name] for file in files], np.int32)},
        by_pillow=looked.by_pillow,
    )
    notes = [f"a folder a class: {len(files)} pictures of {len(labels)} classes"]
    if others:
        named = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        notes.append(f"left out, without a picture's suffix: {len(others)} ({named})")
    if files[0].split:
        sides: Sequence[str | None] = [file.split for file in files]
        notes.append("its own split folders: " + ", ".join(name for name in splits.NAMES if name in sides))
    else:
        # Unreadable files take part in the split: one that is repaired moves no other.
        groups = splits.grouped(whole.ids, group) if group else None
        sides = splits.hashed(whole.ids, whole.annotations["label"].tolist(), groups, split_seed)
        notes.append(splits.note(split_seed, group))
    return Source(
        where=str(where),
        format="folder",
        labels=labels,
        splits=splits.cut(whole, splits.only(sides, looked.readable)),
        problems=looked.problems,
        notes=tuple(notes),
    )


def _split_folders(where: Path) -> list[tuple[str | None, Path]]:
    """Returns the split folders, or `where` itself without a split's name.

    Folders are splits if every one of them is named as one and holds folders: "test" may be a class.
    """
    folders = _folders(where)
    found = [(splits.split_name(folder.name), folder) for folder in folders]
    if not found or any(name is None or not _folders(folder) for name, folder in found):
        return [(None, where)]
    names = [name for name, _ in found]
    if len(set(names)) < len(names):
        raise DataError(f"{where}: two folders for one split among {', '.join(folder.name for folder in folders)}")
    return sorted(found, key=lambda part: splits.NAMES.index(part[0]))


def _folders(where: Path) -> list[Path]:
    return sorted(path for path in where.iterdir() if path.is_dir() and not _is_litter(path.name))


def _walk(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder; links are followed, each folder once."""
    seen = set()
    for parent, below, names in os.walk(folder, followlinks=True):
        below[:] = sorted(name for name in below if not _is_litter(name))
        real = os.path.realpath(parent)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield from (Path(parent, name) for name in sorted(names) if not _is_litter(name))


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _nothing(where: Path, parts: list[tuple[str | None, Path]]) -> str:
    flat = sum(path.suffix.lower() in formats.SUFFIXES for path in where.iterdir())
    if flat:
        found = f"its {flat} pictures lie in no class folder"
    elif parts[0][0] or _folders(where):
        found = "there is no picture in its folders"
    else:
        found = "it holds no folder"
    return (
        f"{where}: no pictures found, {found}; expected a folder for each class, such as "
        f"{where / 'cat' / '1.jpg'}, or {where / 'train' / 'cat' / '1.jpg'}"
    )
