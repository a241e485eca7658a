"""Pascal VOC's masks: `SegmentationClass/*.png` beside `JPEGImages`, and lists of them in `ImageSets/Segmentation`."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from resnet_tasks.data import formats
from resnet_tasks.data.examples import LabelMap, Source
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.readers import locate, mask_classes, mask_files, splits, voc_layout
from resnet_tasks.data.readers.locate import Locator
from resnet_tasks.data.readers.mask_files import Table
from resnet_tasks.data.readers.pairs_of_masks import Classes, Pair, assemble
from resnet_tasks.errors import DataError, UsageError

NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
# SBD's masks (Hariharan et al. 2011) as they are spread, and its list: VOC's train with what else was annotated later.
_MASKS, _MORE_MASKS, _MORE = "segmentationclass", "segmentationclassaug", ("trainaug", "train_aug")
_PICTURES, _DEVKIT = ("jpegimages", "images"), "VOCdevkit"


def color(index: int) -> tuple[int, int, int]:
    """Returns VOC's colour of an index: its bits, the lowest first, are dealt to red, green and blue from the top."""
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return channels[0], channels[1], channels[2]


def read(where: Path | str, *, images: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads the masks of Pascal VOC's layout; those of single objects are passed by.

    Classes are VOC's 21 with its colours, and 255 is void, unless a file beside the folder names others.

    Args:
        where: The folder: with `SegmentationClass/`, or with `VOC2012/` and its like.
        images: The folder of the pictures, where they lie elsewhere.
        split_seed: Seeds the split where `ImageSets/Segmentation` has no lists.
        group: A regular expression on the pictures' names, for such a split.

    Raises:
        UsageError: `where` or `images` is no folder.
        DataError: No masks, or a list that is no text.
    """
    where = Path(where)
    if not where.is_dir():
        raise UsageError(f"{where} is no folder; a folder in Pascal VOC's layout was expected")
    if images and not Path(images).is_dir():
        raise UsageError(f"--images {images} does not exist, or is no folder")
    parts = _parts(where)
    notes: list[str] = []
    pairs: list[Pair] = []
    listed: list[bool] = []
    for part in parts:
        found, by_lists = _pairs(where, part, images, notes)
        pairs += found
        listed.append(by_lists)
    if len(set(listed)) > 1:
        raise DataError(
            f"{where}: some of {', '.join(part.name for part in parts)} have lists in ImageSets/Segmentation, others "
            "none; give all of them lists, or name each part: --data train=FOLDER --data val=FOLDER"
        )
    if not pairs:
        raise DataError(f"{where}: no masks found; expected SegmentationClass/1.png and JPEGImages/1.jpg")
    if {pair.split for pair in pairs} == {"train"}:
        pairs = [replace(pair, split=None) for pair in pairs]
    classes, said = _classes([pair.mask for pair in pairs if pair.mask], [where, *parts, *(p.parent for p in parts)])
    return assemble(
        where,
        "voc",
        pairs,
        classes,
        split_seed=split_seed,
        group=group,
        notes=(f"Pascal VOC's masks: {sum(pair.mask is not None for pair in pairs)}", *said, *notes),
    )


def has_files(where: Path) -> bool:
    """Whether a folder has VOC's masks, itself or in its parts."""
    return bool(_parts(where))


def _parts(where: Path) -> list[Path]:
    inside = where / _DEVKIT if (where / _DEVKIT).is_dir() else where
    return [path for path in (where, *_below(inside)) if _folder(path, (_MASKS, _MORE_MASKS))]


def _below(where: Path) -> list[Path]:
    return sorted(path for path in where.iterdir() if path.is_dir() and not path.name.startswith("."))


def _folder(part: Path, names: Sequence[str]) -> Path | None:
    return next((path for path in _below(part) if path.name.lower() in names), None)


def _classes(masks: Sequence[str], folders: Sequence[Path]) -> tuple[Classes, list[str]]:
    own = mask_classes.of_file(masks, folders)
    if own:
        return own
    colors = [color(index) for index in range(len(NAMES))]
    table = Table(
        ids={IGNORE: IGNORE} | {index: index for index in range(len(NAMES))},
        colors={mask_files.packed(color(index)): index for index in (*range(len(NAMES)), IGNORE)},
    )
    labels = LabelMap(NAMES, source_ids=tuple(range(len(NAMES))), colors=tuple(colors))
    return Classes(labels, table.read), ["no classes.json: the classes are VOC's 21, 255 is void"]


def _pairs(where: Path, part: Path, images: str | None, notes: list[str]) -> tuple[list[Pair], bool]:
    """Returns a part's pairs, and whether lists say which."""
    prefix = "" if part == where else f"{part.relative_to(where).as_posix()}/"
    masks = _masks(part)
    folder = Path(images) if images else _folder(part, _PICTURES) or part
    locator = Locator(folder)
    listed = list(_listed(part, prefix, masks, notes))
    pairs = []
    for key, split in listed or [(key, None) for key in sorted(masks, key=splits.natural)]:
        picture, mask = locator.find(key, [folder], any_suffix=True).path, masks.get(key)
        mask_name = f"{prefix}{Path(mask).relative_to(part).as_posix() if mask else f'SegmentationClass/{key}.png'}"
        name = (
            f"{prefix}{folder.name}/{os.path.basename(picture or f'{key}.jpg')}" if picture or not mask else mask_name
        )
        pairs.append(Pair(name, picture, mask, mask_name, split))
    return pairs, bool(listed)


def _masks(part: Path) -> dict[str, str]:
    """Returns the masks by their ids, their names without suffix; VOC's own before SBD's."""
    folders = [folder for name in (_MORE_MASKS, _MASKS) if (folder := _folder(part, (name,)))]
    files = [path for folder in folders for path in sorted(folder.iterdir())]
    return {
        locate.composed(path.stem): str(path)
        for path in files
        if path.suffix.lower() in formats.SUFFIXES and not path.name.startswith(".")
    }


def _listed(part: Path, prefix: str, masks: Collection[str], notes: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yields the ids in the lists of `ImageSets/Segmentation`, each with its split, None for one of train and val.

    `trainval.txt` makes up for the one of train and val that is missing; SBD's `trainaug.txt` stands for train if all
    of it have masks. A list of which no picture has a mask, as that of VOC's own test pictures, is passed by.
    """
    sides: dict[str | None, list[str]] = {}
    both: list[str] = []
    more: list[str] = []
    for path in sorted((part / "ImageSets" / "Segmentation").glob("*.txt")):
        ids = [line.rpartition("/")[2] for line in voc_layout._lines(path)]
        if masks and not set(ids) & set(masks):
            notes.append(f"{prefix}ImageSets/Segmentation/{path.name}: none of its {len(ids)} has a mask, not used")
        elif path.stem.lower() == voc_layout.TRAINVAL:
            both = ids
        elif path.stem.lower() in _MORE:
            more = ids
        elif split := splits.split_name(path.stem):
            sides.setdefault(split, []).extend(ids)
        else:
            notes.append(f"{prefix}ImageSets/Segmentation/{path.name}: no list of train, val or test, not used")
    if more:
        notes += _with_more(sides, more, masks, f"{prefix}ImageSets/Segmentation")
    missing = [name for name in ("train", "val") if name not in sides]
    taken = {key for name in ("train", "val") for key in sides.get(name, ())}
    rest = [key for key in both if key not in taken]
    if rest and len(missing) == 1:
        sides[missing[0]] = rest
    elif rest and missing:
        # Beside a list of test pictures it is all there is to learn of.
        sides["train" if "test" in sides else None] = rest
    yield from ((key, split) for split, ids in sides.items() for key in ids)


def _with_more(
    sides: dict[str | None, list[str]], more: Sequence[str], masks: Collection[str], folder: str
) -> Iterator[str]:
    """Puts SBD's list in the place of train's, and yields what is said of it."""
    lacking = sum(key not in masks for key in more)
    if "train" in sides and lacking:
        yield f"{folder}: train.txt is used; {lacking} of the {len(more)} of trainaug.txt have no mask"
        return
    held = {key for name in ("val", "test") for key in sides.get(name, ())}
    kept = [key for key in more if key not in held]
    out = f"; {len(more) - len(kept)} of them are in val or test, and stay there" if len(kept) < len(more) else ""
    instead = f" in place of the {len(sides['train'])} of train.txt" if "train" in sides else ""
    sides["train"] = kept
    yield f"{folder}/trainaug.txt: its {len(more)} are train{instead}{out}"
