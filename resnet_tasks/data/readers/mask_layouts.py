"""Folders of pictures and folders of masks: where they lie, and which mask belongs to which picture."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_tasks.data import formats
from resnet_tasks.data.examples import Source
from resnet_tasks.data.readers import locate, mask_classes, splits
from resnet_tasks.data.readers.boxes import some
from resnet_tasks.data.readers.pairs_of_masks import Pair, assemble
from resnet_tasks.errors import DataError, UsageError

_PICTURES = ("images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "frames", "rgb")
_MASKS = ("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "groundtruth", "gt")
# CamVid's own folders, 701_StillsRaw_full and LabeledApproved_full, and others that say it within a longer name.
_LIKE_MASKS = re.compile(r"mask|label|annot|ground.?truth|(^|[_\- ])gt([_\- ]|$)", re.IGNORECASE)
_BESIDE = re.compile(rf"[_\- ]?({'|'.join(_MASKS)})", re.IGNORECASE)  # behind a split's name: trainannot, val_labels
_ENDINGS = re.compile(r"[_\-](l|p|masks?|labels?|gt|seg|segmentation|annot)$", re.IGNORECASE)  # of a mask's stem
_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif")
EXPECTED = (
    "expected train/images/1.jpg and train/masks/1.png, or images/train/1.jpg and masks/train/1.png, or train/1.jpg "
    "and trainannot/1.png; without splits images/1.jpg and masks/1.png"
)


@dataclass(frozen=True)
class Folders:
    """A folder of pictures and the one of their masks.

    Attributes:
        split: "train", "val", "test", or None.
        pictures: The folder of the pictures.
        masks: That of the masks; None where a split has none.
        without: Folders within both that do not count.
    """

    split: str | None
    pictures: Path
    masks: Path | None
    without: frozenset[str] = frozenset()


def read(where: Path | str, *, images: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads folders of pictures and of masks that share their names, but for the suffix.

    Args:
        where: The folder above both; or, with `images`, the one of the masks.
        images: The folder of the pictures, where they lie elsewhere.
        split_seed: Seeds the split where there are no folders for the splits.
        group: A regular expression on the pictures' names, for such a split.

    Raises:
        UsageError: `where` or `images` is no folder.
        DataError: No such folders, two for one split, or a file of classes that cannot be used.
    """
    where = Path(where)
    if not where.is_dir():
        raise UsageError(f"{where} is no folder; a folder of pictures and masks was expected")
    if images and not Path(images).is_dir():
        raise UsageError(f"--images {images} does not exist, or is no folder")
    found = find(where, Path(images) if images else None)
    notes, pairs = [], []
    sided = any(each.split for each in found)
    for each in found:
        of_folder = list(_pairs(where, each))
        if sided and not each.split:
            notes += _unused(of_folder)
        elif each.masks is None or not any(pair.mask for pair in of_folder):
            notes.append(f"{each.split or 'its pictures'}: {len(of_folder)} pictures without any mask, not used")
        else:
            pairs += of_folder
    if not pairs:
        raise DataError(f"{where}: no pictures with masks found; {EXPECTED}")
    if {pair.split for pair in pairs} == {"train"}:
        pairs = [replace(pair, split=None) for pair in pairs]
    above = [folder for each in found for folder in (each.masks, each.masks and each.masks.parent) if folder]
    masks = [pair.mask for pair in pairs if pair.mask]
    notes += _shared(pairs)
    classes, said = mask_classes.find(masks, [where, *above, where.resolve().parent])
    folders = ", ".join(_name(where, each.masks) for each in found if each.masks and bool(each.split) is sided)
    return assemble(
        where,
        "masks",
        pairs,
        classes,
        split_seed=split_seed,
        group=group,
        notes=(f"pictures and masks by their names: {len(masks)} masks in {folders}", *said, *notes),
    )


def has_files(where: Path) -> bool:
    """Whether a folder holds a folder of pictures and one of masks, with files in both."""
    return any(each.masks and _holds(each.masks) and _holds(each.pictures) for each in _search(where))


def find(where: Path, images: Path | None = None) -> list[Folders]:
    """Returns the folders of pictures and masks, by their splits.

    Raises:
        DataError: There are none, or two for one split.
    """
    found = _apart(images, _named(where, _MASKS) or where) if images else _search(where)
    for name in splits.NAMES:
        same = [_name(where, each.pictures) for each in found if each.split == name]
        if len(same) > 1:
            raise DataError(f"{where}: two folders for {name}: {', '.join(same)}; leave one, or name each: --data")
    if not found:
        raise DataError(f"{where}: no folder of pictures beside one of masks found; {EXPECTED}")
    return sorted(found, key=lambda each: splits.NAMES.index(each.split or "train"))


def _search(where: Path) -> list[Folders]:
    """Returns the folders for splits, and those of no split beside them; else what has no splits."""
    below = _below(where)
    of_splits = [(splits.split_name(path.name), path) for path in below]
    within = [(split, _named(path, _PICTURES), _named(path, _MASKS)) for split, path in of_splits]
    if any(split and pictures and masks for split, pictures, masks in within):
        return [Folders(split, pictures, masks) for split, pictures, masks in within if pictures and (split or masks)]
    beside = [(split, path, _beside(path, below)) for split, path in of_splits if _holds(path)]
    if any(split and masks for split, _, masks in beside):
        return [Folders(split, path, masks) for split, path, masks in beside if split or masks]
    pictures, masks = _named(where, _PICTURES), _named(where, _MASKS)
    if pictures and masks:
        return _apart(pictures, masks)
    like_masks = [path for path in below if _LIKE_MASKS.search(path.name) and _holds(path)]
    others = [path for path in below if path not in like_masks and _holds(path)]
    return _apart(others[0], like_masks[0]) if len(like_masks) == len(others) == 1 else []


def _apart(pictures: Path, masks: Path) -> list[Folders]:
    """Returns the folders for splits within both and what lies outside of these, or both where there are none."""
    of_masks = {split: path for path in _below(masks) if (split := splits.split_name(path.name))}
    within = [(splits.split_name(path.name), path) for path in _below(pictures)]
    of_splits = [Folders(split, path, of_masks.get(split)) for split, path in within if split]
    if not any(each.masks for each in of_splits):
        return [Folders(None, pictures, masks)]
    own = frozenset(path.name for path in (*of_masks.values(), *(each.pictures for each in of_splits)))
    return [*of_splits, Folders(None, pictures, masks, own)]


def _below(where: Path) -> list[Path]:
    return sorted(path for path in where.iterdir() if path.is_dir() and not path.name.startswith("."))


def _named(where: Path, names: Sequence[str]) -> Path | None:
    """Returns the folder in `where` of one of some names, the first that holds pictures."""
    below = {path.name.lower(): path for path in _below(where)}
    return next((below[name] for name in names if name in below and _holds(below[name])), None)


def _beside(folder: Path, others: Sequence[Path]) -> Path | None:
    """Returns the folder of masks that is named after a split's."""
    for other in others:
        rest = other.name[len(folder.name) :]
        if other.name.lower().startswith(folder.name.lower()) and _BESIDE.fullmatch(rest) and _holds(other):
            return other
    return None


def _holds(folder: Path) -> bool:
    """Whether a picture lies in a folder or below it."""
    return next(_files(folder), None) is not None


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the pictures below a folder, masks are such: path within it without suffix, composed; and the file."""
    for parent in locate.walked(folder):
        inner = os.path.relpath(parent, folder).replace(os.sep, "/")
        for name in sorted(entry.name for entry in os.scandir(parent) if entry.is_file()):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in formats.SUFFIXES and not name.startswith("."):
                yield locate.composed(stem if inner == "." else f"{inner}/{stem}"), os.path.join(parent, name)


def _pairs(where: Path, folders: Folders) -> Iterator[Pair]:
    """Yields the pairs of two folders, in the order in which people sort; then masks that have no picture."""

    def files(folder: Path) -> list[tuple[str, str]]:
        return [(key, path) for key, path in _files(folder) if key.partition("/")[0] not in folders.without]

    pictures = sorted(files(folders.pictures), key=lambda each: splits.natural(each[0]))
    masks: dict[str, str] = {}
    # Of two masks of one name the one that can hold ids.
    for key, path in sorted(files(folders.masks) if folders.masks else (), key=lambda each: _is_lossy(each[1])):
        masks.setdefault(key, path)
    of_picture = matched([key for key, _ in pictures], masks)
    for key, path in pictures:
        mask = masks.get(of_picture.get(key, ""))
        sought = _name(where, folders.masks / f"{key}.png") if folders.masks else None
        yield Pair(_name(where, path), path, mask, _name(where, mask) if mask else sought, folders.split)
    alone = set(masks) - set(of_picture.values())
    for key in sorted(alone, key=splits.natural):
        named = _name(where, masks[key])
        yield Pair(named, None, masks[key], named, folders.split)


def _unused(pairs: Sequence[Pair]) -> Iterator[str]:
    """Yields the sentence on pictures that lie outside of the splits' folders."""
    pictures = [pair.name for pair in pairs if pair.picture]
    if pictures:
        yield f"in no split's folder, and not used: {len(pictures)} pictures{some(pictures)}"


def _shared(pairs: Sequence[Pair]) -> Iterator[str]:
    """Yields the sentence on pictures whose names differ in their suffix alone, and which so have one mask."""
    names: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if pair.picture and pair.mask:
            names[pair.mask].append(pair.name)
    shared = [" = ".join(held) for held in names.values() if len(held) > 1]
    if shared:
        yield f"pictures of one name have the same mask: {len(shared)} times{some(shared)}"


def _is_lossy(path: str) -> bool:
    return path.lower().endswith(_LOSSY)


def matched(pictures: Sequence[str], masks: Mapping[str, str]) -> dict[str, str]:
    """Returns the mask of each picture that has one, both by their names without suffix.

    One of the same name; else one with an ending behind it (`a_L`, `a_mask`, `a.jpg` of the mask `a.jpg.png`); else one
    of the same file name in another folder, where there is but one.
    """
    found = {key: key for key in pictures if key in masks}
    taken = set(found.values())
    for of_mask, of_picture in ((_plain, str), (_last, _last)):
        sought = defaultdict(list)
        for key in pictures:
            if key not in found:
                sought[of_picture(key)].append(key)
        free = defaultdict(list)
        for key in masks:
            if key not in taken:
                free[of_mask(key)].append(key)
        for name, keys in sought.items():
            if len(free[name]) == len(keys) == 1:
                found[keys[0]] = free[name][0]
                taken.add(free[name][0])
    return found


def _plain(key: str) -> str:
    stem, suffix = os.path.splitext(key)
    return _ENDINGS.sub("", stem if suffix.lower() in formats.SUFFIXES else key)


def _last(key: str) -> str:
    return _plain(key.rpartition("/")[2])


def _name(where: Path, path: str | Path) -> str:
    return locate.composed(Path(os.path.relpath(path, where)).as_posix())
