"""What a YOLO data set says of itself: its data.yaml, its lists of pictures, its files of class names."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from resnet_tasks.data import formats
from resnet_tasks.data.readers import splits
from resnet_tasks.errors import DataError

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names")
_CONFIGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NOTHING = ("", "null", "~")


@dataclass(frozen=True)
class Config:
    """A data.yaml, or its absence.

    Attributes:
        root: The folder of the data set: the file's own.
        path: The file, if there is one.
        settings: What it holds; every scalar is text.
    """

    root: Path
    path: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> Path:
        """The folder that the splits start from: `path`, if there is such a folder, or the file's own."""
        written = self.settings.get("path")
        base = self.root / written.replace("\\", "/") if isinstance(written, str) else self.root
        return base if base.is_dir() else self.root

    def splits(self) -> dict[str, list[str]]:
        """Returns the folders and lists that are named for each split.

        Raises:
            DataError: Something else is named, or two keys for one split.
        """
        found: dict[str, list[str]] = {}
        for key, value in self.settings.items():
            split = splits.split_name(key)
            written = value if isinstance(value, list) else [value]
            written = [each for each in written if each not in _NOTHING]
            if split is None or not written:
                continue
            if any(not isinstance(each, str) for each in written):
                expected = "a folder, a list of folders or a .txt file expected"
                raise DataError(f"{self.path}: {key}: {expected}, not {value!r:.60}")
            if split in found:
                raise DataError(f"{self.path}: two keys for the split {split!r}")
            found[split] = written
        return {name: found[name] for name in splits.NAMES if name in found}

    def names(self) -> dict[int, str] | None:
        """Returns the classes' names by their numbers, ascending; None where there are none.

        Raises:
            DataError: They are no names, or not as many as `nc` says.
        """
        written, count = self.settings.get("names"), self.settings.get("nc")
        try:
            named = dict(enumerate(written)) if isinstance(written, list) else written
            names = None if named is None else {int(number): str(name) for number, name in named.items()}
            nc = None if count is None else int(count)
        except (AttributeError, TypeError, ValueError):
            raise DataError(f"{self.path}: names: [cat, dog] or {{0: cat, 1: dog}} expected, and nc a number") from None
        if names is not None and nc is not None and nc != len(names):
            raise DataError(f"{self.path}: nc is {nc}, but names has {len(names)}")
        return names and dict(sorted(names.items()))

    @property
    def keypoints(self) -> int:
        """How many numbers a pose data set writes behind each box: `kpt_shape` is their count and their length."""
        try:
            count, length = self.settings.get("kpt_shape") or (0, 0)
            return int(count) * int(length)
        except (TypeError, ValueError):
            return 0


def read(where: Path) -> Config:
    """Reads a data.yaml, or the one that a folder holds, if it holds one.

    Raises:
        DataError: It cannot be read, or holds no keys.
    """
    path = where if where.is_file() else in_folder(where)
    return Config(where) if path is None else Config(path.parent, path, _settings(path))


def in_folder(folder: Path) -> Path | None:
    """Returns the data.yaml of a folder: by that name, or the only YAML file there that names splits and classes."""
    for name in _CONFIGS:
        if (folder / name).is_file():
            return folder / name
    found = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            settings = _settings(path)
        except DataError:
            continue
        if "names" in settings and any(splits.split_name(key) for key in settings):
            found.append(path)
    return found[0] if len(found) == 1 else None


def lists(root: Path) -> dict[str, list[str]]:
    """Returns the lists of pictures in a folder by their splits: `train.txt` and so on, as Darknet has them."""
    found = {}
    for path in sorted(root.glob("*.txt")):
        split = splits.split_name(path.stem)
        # It may be the label file of a picture called test.jpg.
        if split and PurePosixPath(next(iter(lines(path)), "")).suffix.lower() in formats.SUFFIXES:
            found[split] = [path.name]
    return {name: found[name] for name in splits.NAMES if name in found}


def listed_names(folders: Iterable[Path]) -> tuple[dict[int, str], Path] | None:
    """Returns the classes of the first file of names in one of the folders (a name a line), and the file."""
    for folder in folders:
        for name in NAME_FILES:
            path = folder / name
            if path.is_file() and (names := lines(path)):
                return {number: line or str(number) for number, line in enumerate(names)}, path
    return None


def lines(path: Path) -> list[str]:
    """Returns a text file's lines, stripped, without the empty ones at its end."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error})") from None
    while found and not found[-1]:
        found.pop()
    return found


def _settings(path: Path) -> dict[str, Any]:
    import yaml

    try:
        # Every scalar stays text: a class may be called no, 010 or 1e3.
        settings = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    if not isinstance(settings, dict):
        raise DataError(f"{path}: the keys train, val and names were expected, not {settings!r:.60}")
    return settings
