"""Where Pascal VOC's XML files lie, which split each belongs to, and where their pictures may lie."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_tasks.data.examples import Problem
from resnet_tasks.data.readers import locate, splits
from resnet_tasks.errors import DataError

ANNOTATIONS, TRAINVAL = "annotations", "trainval"
_PICTURES = ("jpegimages", "images")
_DEVKIT = "VOCdevkit"
_COLUMNS = re.compile(r"(\s+-?\d+)+$")  # behind a name, as in the lists of single classes; a name may hold blanks


@dataclass(frozen=True)
class Listed:
    """A picture by its XML file.

    Attributes:
        xml: The file.
        id: Its name without suffix, below the folder of annotations.
        name: The same from the data set's folder on, `VOC2007/000005`.
        split: "train", "val", "test", "trainval", or None.
        places: Where the picture may lie.
    """

    xml: Path
    id: str
    name: str
    split: str | None
    places: tuple[Path, ...]


@dataclass(frozen=True)
class Layout:
    """What lies where.

    Attributes:
        listed: The pictures that are used; twice where two lists name them.
        problems: Files that a list names and that are not there.
        notes: Sentences.
        by_lists: Whether lists in `ImageSets` say what is used.
    """

    listed: tuple[Listed, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    by_lists: bool


def find(root: Path) -> Layout:
    """Looks for the XML files of all parts below `root`, and for their splits.

    Raises:
        DataError: One part has lists of its splits and another none, or a list is no text.
    """
    found: list[Listed] = []
    problems: list[Problem] = []
    notes: list[str] = []
    parts, by_lists = _parts(root), []
    for part in parts:
        prefix = f"{part.relative_to(root).as_posix()}/" if part != root else ""
        files = _xml_files(part)
        from_lists = _by_lists(part, prefix, files, problems, notes)
        by_lists.append(bool(from_lists))
        sides = from_lists or _by_folders(files)
        places = _Places(part)
        found += [
            Listed(files[key], key, prefix + key, split, places.of(files[key]))
            for key, of_key in sides.items()
            for split in of_key
        ]
    if len(set(by_lists)) > 1:
        raise DataError(
            f"{root}: some of {', '.join(part.name for part in parts)} have lists of their splits in ImageSets/Main, "
            "others none; give all of them lists, or name each part: --data train=FOLDER --data val=FOLDER"
        )
    return Layout(tuple(found), tuple(problems), tuple(notes), any(by_lists))


def has_files(where: Path) -> bool:
    """Whether a folder looks like VOC's: XML files in it, in its folders, or in `Annotations` there."""
    folders = _folders(where)
    below = [inner for folder in folders for inner in _folders(folder)]
    lower = [inner for folder in below if folder.parent.name == _DEVKIT for inner in _folders(folder)]
    return any(_holds_xml(folder) for folder in (where, *folders, *below, *lower))


def _holds_xml(folder: Path) -> bool:
    return any(entry.name.lower().endswith(".xml") for entry in os.scandir(folder))


def _parts(root: Path) -> list[Path]:
    """Returns the folders that hold `Annotations` each, or `root` where the XML files lie in another way."""
    if _annotations(root):
        return [root]
    inside = root / _DEVKIT if (root / _DEVKIT).is_dir() else root
    years = [path for path in _folders(inside) if _annotations(path) and not splits.split_name(path.name)]
    return years or [root]


def _folders(where: Path) -> list[Path]:
    return sorted(path for path in where.iterdir() if path.is_dir() and not path.name.startswith("."))


def _annotations(part: Path) -> Path | None:
    return next((path for path in _folders(part) if path.name.lower() == ANNOTATIONS), None)


def _xml_files(part: Path) -> dict[str, Path]:
    """Returns the XML files by their ids, in the order in which people sort."""
    top = _annotations(part) or part
    files = {}
    for folder in locate.walked(top):
        inner = os.path.relpath(folder, top).replace(os.sep, "/")
        for entry in os.scandir(folder):
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() == ".xml" and not stem.startswith("."):
                files[locate.composed(stem if inner == "." else f"{inner}/{stem}")] = Path(folder, entry.name)
    return {key: files[key] for key in sorted(files, key=splits.natural)}


def _by_folders(files: dict[str, Path]) -> dict[str, tuple[str | None, ...]]:
    """Returns each file's split by the first of its folders; what lies outside of them is then in none.

    Without one for training they are splits only where all files lie in such folders.
    """
    sides = {key: splits.split_name(key.partition("/")[0]) if "/" in key else None for key in files}
    own = "train" in sides.values() or all(sides.values())
    return {key: (split if own else None,) for key, split in sides.items()}


def _by_lists(
    part: Path, prefix: str, files: dict[str, Path], problems: list[Problem], notes: list[str]
) -> dict[str, tuple[str | None, ...]]:
    """Returns the splits of each file that `ImageSets` lists."""
    by_stem = defaultdict(list)
    for key in files:
        by_stem[key.rpartition("/")[2]].append(key)
    sides: dict[str, list[str]] = defaultdict(list)
    for split, (path, lines) in _lists(part).items():
        listed_keys = [(_key(line, files, by_stem), line) for line in lines]
        named = f"{prefix}ImageSets/{path.relative_to(part / 'ImageSets').as_posix()}"
        missing = [_COLUMNS.sub("", line) for key, line in listed_keys if key is None]
        if len(missing) == len(lines):
            notes.append(f"{named} lists {len(lines)} pictures, none of them with an XML file: not used")
            continue
        what = f"missing: listed in {named}, but there is no XML file"
        problems += [Problem(f"{prefix}{key}", what) for key in missing]
        for key in dict.fromkeys(key for key, _ in listed_keys if key is not None):
            sides[key].append(split)
    if sides and len(sides) < len(files):
        notes.append(
            f"in no list of {prefix}ImageSets, and not used: {len(files) - len(sides)} of {len(files)} XML files"
        )
    return {key: tuple(sides[key]) for key in files if key in sides}


def _key(line: str, files: Mapping[str, Path], by_stem: Mapping[str, Sequence[str]]) -> str | None:
    """Returns the id that a list's line means, as it stands or with a suffix, a folder, or columns behind it."""
    name = _COLUMNS.sub("", line)
    for each in dict.fromkeys((line, name, os.path.splitext(name)[0], line.split()[0])):
        alike = [each] if each in files else by_stem.get(each.rpartition("/")[2], ())
        if len(alike) == 1:
            return alike[0]
    return None


def _lists(part: Path) -> dict[str, tuple[Path, list[str]]]:
    """Returns the lists of `ImageSets/Main` by their split.

    `trainval.txt` makes up for the one of train and val that is missing, or stands for both.
    """
    found: dict[str, tuple[Path, list[str]]] = {}
    for folder in (part / "ImageSets" / "Main", part / "ImageSets"):
        for path in sorted(folder.glob("*.txt")):
            split = TRAINVAL if path.stem.lower() == TRAINVAL else splits.split_name(path.stem)
            lines = list(_lines(path)) if split else []
            if split and lines:
                found.setdefault(split, (path, lines))
        if found:
            break
    if TRAINVAL in found:
        path, both = found.pop(TRAINVAL)
        missing = [name for name in ("train", "val") if name not in found]
        if len(missing) == 2:
            found[TRAINVAL] = path, both
        elif missing:
            (other,) = {"train", "val"} - set(missing)
            held = set(found[other][1])
            rest = [line for line in both if line not in held]
            found |= {missing[0]: (path, rest)} if rest else {}
    return found


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error})") from None
    yield from dict.fromkeys(
        locate.composed(line.strip()).replace("\\", "/") for line in text.splitlines() if line.strip()
    )


class _Places:
    """Where the pictures of a part may lie."""

    def __init__(self, part: Path):
        self._part = part
        self._of_folder: dict[Path, tuple[Path, ...]] = {}

    def of(self, xml: Path) -> tuple[Path, ...]:
        """Returns the places for one file: the part's folders of pictures, beside the file, and beside its folder."""
        if xml.parent not in self._of_folder:
            above = xml.parent.parent if xml.parent != self._part else self._part
            pictures = [path for folder in (self._part, above) for path in _folders(folder) if _is_pictures(path)]
            self._of_folder[xml.parent] = tuple(dict.fromkeys((*pictures, xml.parent, above, self._part)))
        return self._of_folder[xml.parent]


def _is_pictures(folder: Path) -> bool:
    return folder.name.lower() in _PICTURES
