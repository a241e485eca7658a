"""Where YOLO's pictures and label files lie: by a data.yaml, by lists of pictures, or by the folders' names."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from resnet_tasks.data import formats
from resnet_tasks.data.readers import locate, splits, yolo_config
from resnet_tasks.errors import DataError, UsageError


@dataclass(frozen=True)
class Listed:
    """A picture and its label file.

    Attributes:
        name: Relative to the data set, with `/`.
        path: The picture; None where it was not found.
        label: Its label file; None where it has none.
        split: "train", "val", "test", or None.
        tried: Where a picture was sought that was not found.
    """

    name: str
    path: str | None
    label: str | None
    split: str | None
    tried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """What lies where.

    Attributes:
        root: The folder of the data set, absolute.
        listed: The pictures, in the order of their names within each split.
        names: The classes' names by their numbers; None where nothing says them.
        keypoints: How many numbers follow each box (`kpt_shape` in the data.yaml).
        notes: Sentences on what was found.
    """

    root: Path
    listed: tuple[Listed, ...]
    names: dict[int, str] | None
    keypoints: int
    notes: tuple[str, ...]


def find(where: Path, images: str | None = None) -> Layout:
    """Looks for the parts of a data set.

    Args:
        where: A data.yaml, or a folder that holds one or holds pictures and labels.
        images: The folder of the pictures, where they do not lie beside the labels.

    Raises:
        UsageError: `images` does not exist.
        DataError: The data.yaml cannot be used, or there are no pictures, or no label file belongs to any of them.
    """
    if images and not Path(images).is_dir():
        raise UsageError(f"--images {images} does not exist, or is no folder")
    # Absolute: its own name may be the `images` that stands for `labels`.
    config = yolo_config.read(Path(os.path.abspath(where)))
    finder = _Finder(config, Path(os.path.abspath(images)) if images else None)
    lists = {} if config.path else yolo_config.lists(config.root)
    entries = config.splits() or lists
    listed: list[Listed] = []
    notes = []
    for split, written in entries.items():
        part = [each for entry in written for each in finder.entry(split, entry)]
        if not part:
            notes.append(f"its split {split!r} holds no picture")
        listed += part
    if not entries:
        listed = finder.by_folders()
    _check(where, listed, finder)
    names, said = _names(config, listed)
    by = config.path.name if config.path else "its lists of pictures" if lists else "the names of its folders"
    notes = [f"YOLO, by {by}: {said}", *notes, *_twice(listed)]
    return Layout(config.root, tuple(listed), names, config.keypoints, tuple(notes))


def _names(config: yolo_config.Config, listed: Sequence[Listed]) -> tuple[dict[int, str] | None, str]:
    """Returns the classes' names by number and where they are from."""
    names = config.names()
    if names is not None:
        return names, f"{len(names)} classes"
    folders = {Path(path).parent for each in listed for path in (each.label, each.path) if path}
    found = yolo_config.listed_names([config.root, config.root / "labels", config.root / "data", *sorted(folders)])
    if found is not None:
        return found[0], f"{len(found[0])} classes, named in {found[1].name}"
    return None, "nothing names the classes (no names in a data.yaml, no classes.txt), so they are called by number"


class _Finder:
    """Finds pictures and their label files below a root, or in the user's folder of pictures."""

    def __init__(self, config: yolo_config.Config, images: Path | None):
        self._by, self._root, self._images = str(config.path or config.root), config.root, images
        self._bases = list(dict.fromkeys((*([images] if images else []), config.base, config.root)))
        self._locator = locate.Locator(images or config.root)
        self.sought = ""  # a place where a label file would have lain

    def entry(self, split: str, entry: str) -> list[Listed]:
        """Returns the pictures that one entry of a split names: a folder's, or those of a list."""
        place = _existing(entry, self._bases)
        if place is None:
            if split == "test":  # which exports name whether or not they write it
                return []
            tried = ", ".join(os.path.normpath(base / entry) for base in self._bases)
            raise DataError(f"{self._by}: {split}: there is no {entry}; tried {tried}")
        if place.is_dir():
            return self._in_folder(place, split)
        if place.suffix.lower() != ".txt":
            raise DataError(f"{self._by}: {split}: {entry} is neither a folder nor a .txt list of pictures")
        return self._in_list(place, split)

    def by_folders(self) -> list[Listed]:
        """Returns the pictures of `images/train` and so on, `train/images` and so on, or of `images`, or all."""
        bases = [self._images] if self._images else [self._root / "images", self._root]
        for base in bases:
            folders = [path for path in sorted(base.iterdir()) if path.is_dir()] if base.is_dir() else []
            named = [(split, path) for path in folders if (split := splits.split_name(path.name))]
            if len({split for split, _ in named}) < len(named):
                raise DataError(f"{base}: two folders for one split among {', '.join(path.name for _, path in named)}")
            named.sort(key=lambda part: splits.NAMES.index(part[0]))
            listed = [each for split, path in named for each in self._in_folder(path, split)]
            if listed:
                others = [path for path in folders if splits.split_name(path.name) is None and path.name != "labels"]
                return listed + [each for path in others for each in self._in_folder(path, None) if not each.tried]
        base = next(base for base in bases if base.is_dir())
        return self._in_folder(base, None)

    def _in_folder(self, folder: Path, split: str | None) -> list[Listed]:
        listed = []
        for parent in locate.walked(folder):
            files = sorted((entry.name for entry in os.scandir(parent) if entry.is_file()), key=splits.natural)
            names = [name for name in files if os.path.splitext(name)[1].lower() in formats.SUFFIXES]
            listed += [self._listed(os.path.join(parent, name), split) for name in names]
            if names:
                listed += self._without_picture(parent, {os.path.splitext(name)[0] for name in names}, split)
        return listed

    def _in_list(self, path: Path, split: str) -> list[Listed]:
        listed = []
        for line in yolo_config.lines(path):
            if not line:
                continue
            found = self._locator.find(line, (path.parent, *self._bases, *(base / "images" for base in self._bases)))
            if found.path is None:
                listed.append(Listed(line.replace("\\", "/").removeprefix("./"), None, None, split, found.tried))
            else:
                listed.append(self._listed(os.path.normpath(found.path), split))
        return listed

    def _listed(self, path: str, split: str | None) -> Listed:
        places = self._label_places(path)
        self.sought = self.sought or places[0]
        written = (os.path.splitext(place)[0] + suffix for place in places for suffix in (".txt", ".TXT"))
        label = next((place for place in written if os.path.isfile(place)), None)
        return Listed(self._name(path), path, label, split)

    def _label_places(self, path: str) -> list[str]:
        """Returns where a picture's label file may lie, the likeliest first."""
        beside = os.path.splitext(path)[0] + ".txt"
        places = [beside]
        in_labels = _in_labels(os.path.dirname(path))
        if in_labels:
            places.insert(0, os.path.join(in_labels, os.path.basename(beside)))
        if self._images:
            relative = os.path.relpath(beside, self._images)
            places += [str(self._root / "labels" / relative), str(self._root / relative)]
        return places

    def _without_picture(self, folder: str, stems: set[str], split: str | None) -> Iterator[Listed]:
        """Yields the label files of a folder's `labels` counterpart to which no picture belongs."""
        in_labels = _in_labels(folder)
        if in_labels and os.path.isdir(in_labels):
            for file in sorted(os.listdir(in_labels), key=splits.natural):
                stem, suffix = os.path.splitext(file)
                label = os.path.join(in_labels, file)
                is_label = suffix.lower() == ".txt" and file not in yolo_config.NAME_FILES
                if is_label and stem not in stems and not _is_prose(label):
                    picture = os.path.join(folder, stem)
                    tried = (f"{picture}.jpg", "and other suffixes")
                    yield Listed(self._name(picture), None, label, split, tried)

    def _name(self, path: str) -> str:
        return locate.composed(Path(os.path.relpath(path, self._root)).as_posix())


def _is_prose(path: str) -> bool:
    """Whether a file has text, and no line that begins with a number, as a README has."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return False
    words = [line.split()[0] for line in text.splitlines() if line.strip()]
    return bool(words) and not any(word.lstrip("+-")[:1].isdecimal() for word in words)


def _in_labels(folder: str) -> str | None:
    """Returns the folder with its last `images` as `labels`, or None if it has none."""
    parts = list(Path(folder).parts)
    if "images" not in parts:
        return None
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return os.path.join(*parts)


def _existing(entry: str, bases: list[Path]) -> Path | None:
    """Returns where an entry lies: as it is written, or, written for another place, by the end of its path."""
    written = PurePosixPath(entry.replace("\\", "/"))
    parts = [part for part in written.parts if part not in ("..", written.anchor)]
    # Two folders of the end at least: `../val/images` must not become `images`.
    tails = [PurePosixPath(*parts[skipped:]) for skipped in range(max(1, len(parts) - 1))] if parts else []
    for tail in (written, *tails):
        for base in bases:
            if (base / tail).exists():
                return Path(os.path.normpath(base / tail))
    return None


def _check(where: Path, listed: list[Listed], finder: _Finder) -> None:
    if not any(each.path for each in listed):
        missing = next((f"; {each.name}: tried {', '.join(each.tried)}" for each in listed), "")
        raise DataError(f"{where}: no pictures found; expected images/train/1.jpg and labels/train/1.txt{missing}")
    if not any(each.path and each.label for each in listed):
        raise DataError(f"{where}: no picture has a label file; expected, for example, {finder.sought}")


def _twice(listed: list[Listed]) -> Iterator[str]:
    """Yields the sentence about pictures that several splits name."""
    named = defaultdict(set)
    for each in listed:
        named[each.name].add(each.split)
    twice = [name for name, of in named.items() if len(of) > 1]
    if twice:
        yield f"{len(twice)} pictures stand in more than one split, whose figures say nothing of new ones: {twice[0]}"
