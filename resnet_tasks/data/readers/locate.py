"""Finding the pictures that annotations name, wherever they lie; each folder is listed once."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from resnet_tasks.data import formats


@dataclass(frozen=True)
class Found:
    """Where a picture lies.

    Attributes:
        path: The file, or `None`.
        tried: Where else it was sought, in words.
        guessed: Whether the file only bears its name, and may be meant by another's.
    """

    path: str | None
    tried: tuple[str, ...] = ()
    guessed: bool = False


@dataclass
class _Folder:
    """A folder's files: their real names by their names, and those of pictures by their names without suffix."""

    files: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)


class Locator:
    """Finds files by the names that annotations give them.

    `/` and `\\` are alike, and so are composed and decomposed accents.

    Attributes:
        root: Below it a file is sought by its base name in the end.
    """

    def __init__(self, root: Path):
        self.root = root
        self._folders: dict[str, _Folder] = {}
        self._below: dict[bool, dict[str, list[str]]] = {}

    def find(self, name: str, folders: Iterable[Path], *, any_suffix: bool = False) -> Found:
        """Finds `name`: as it is if it is absolute, then from each of the folders, then by its base name below `root`.

        Args:
            name: A file's name, with or without folders before it.
            folders: Where it may start from, the likeliest first; those that do not exist are passed over.
            any_suffix: `name` has no suffix, and a picture with any is meant.
        """
        name = composed(name.replace("\\", "/"))
        if not any_suffix and os.path.isabs(name) and os.path.isfile(name):
            return Found(name)
        starts = list(dict.fromkeys(str(folder) for folder in folders))
        inner, _, last = name.rpartition("/")
        for folder in starts:
            parent = os.path.normpath(os.path.join(folder, inner)) if inner else folder
            real = self._names(parent, any_suffix).get(last)
            if real:
                return Found(os.path.join(parent, real))
        alike = self._named(last, any_suffix)
        places = tuple(os.path.join(folder, name) for folder in starts if os.path.isdir(folder))
        if len(alike) == 1:
            return Found(alike[0], places, guessed=True)
        count = f"{len(alike)} files" if alike else "no file"
        return Found(None, (*places, f"below {self.root} {count} of the name {last}"))

    def pictures(self, folder: str | Path) -> list[str]:
        """Returns the paths of the pictures that lie in a folder itself."""
        return [os.path.join(folder, name) for name in self._listed(str(folder)).pictures.values()]

    def _names(self, folder: str, any_suffix: bool) -> dict[str, str]:
        listed = self._listed(folder)
        return listed.pictures if any_suffix else listed.files

    def _listed(self, folder: str) -> _Folder:
        if folder not in self._folders:
            listed = self._folders[folder] = _Folder()
            try:
                names = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
            except OSError:
                names = []
            for real in names:
                name = composed(real)
                listed.files[name] = real
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in formats.SUFFIXES:
                    listed.pictures.setdefault(stem, real)
        return self._folders[folder]

    def _named(self, name: str, any_suffix: bool) -> list[str]:
        if any_suffix not in self._below:
            below = self._below[any_suffix] = defaultdict(list)
            for folder in walked(self.root):
                for key, real in self._names(folder, any_suffix).items():
                    below[key].append(os.path.join(folder, real))
        return self._below[any_suffix].get(name, [])


def walked(root: str | Path) -> Iterator[str]:
    """Yields `root` and the folders below it, sorted; links are followed, each folder once, hidden ones never."""
    seen = set()
    for parent, below, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith(".") and name != "__MACOSX")
        yield parent


def composed(name: str) -> str:
    """Returns a file's name with its accents composed (macOS's older disks and archives have them apart)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
