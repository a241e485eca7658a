"""Which classes masks have: by a file beside them, else by what the masks hold."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.readers import color_tables, mask_files, mask_values
from resnet_tasks.data.readers.mask_files import Table
from resnet_tasks.data.readers.mask_values import EXAMPLE
from resnet_tasks.data.readers.pairs_of_masks import MOST_CLASSES, Classes
from resnet_tasks.errors import DataError, nearest

_KEYS = ("names", "ignore_id", "ids", "colors")


def find(masks: Sequence[str], folders: Sequence[Path]) -> tuple[Classes, list[str]]:
    """Finds the classes of masks.

    Args:
        masks: The files of all masks.
        folders: Where `classes.json`, `class_names.txt`, `label_colors.txt`, `class_dict.csv` or `labelmap.txt` may
            lie, the likeliest first.

    Returns:
        The classes, and sentences on where they come from.

    Raises:
        DataError: Such a file cannot be read or contradicts itself, or masks hold too many values to be of classes.
    """
    return of_file(masks, folders) or mask_values.classes_of(masks)


def of_file(masks: Sequence[str], folders: Sequence[Path]) -> tuple[Classes, list[str]] | None:
    """As `find`; None where there is no file that names classes."""
    for folder in dict.fromkeys(folders):
        try:
            below = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True)}
        except OSError:  # the folder above the data's may be closed to us
            continue
        for name, read in _FILES.items():
            if name in below:
                return read(below[name], masks)
    return None


def of_json(path: Path, masks: Sequence[str]) -> tuple[Classes, list[str]]:
    """Reads `classes.json`; its `ids`, else 0, 1, ..., are the values in masks, its `colors` theirs in RGB."""
    held = _checked(path)
    names, ignore = held["names"], held.get("ignore_id", IGNORE)
    values = held.get("ids") or list(range(len(names)))
    colors = held.get("colors") or ()
    kept = [place for place, value in enumerate(values) if value != ignore]
    ids = {values[place]: id for id, place in enumerate(kept)} | ({} if ignore is None else {ignore: IGNORE})
    void = [place for place in range(len(names)) if place not in kept]
    of_colors = {mask_files.packed(colors[place]): id for id, place in enumerate(kept)} if colors else {}
    of_colors |= {mask_files.packed(colors[place]): IGNORE for place in void} if colors else {}
    labels = LabelMap(
        names=tuple(names[place] for place in kept),
        source_ids=tuple(values[place] for place in kept),
        colors=tuple(tuple(colors[place]) for place in kept) if colors else (),
    )
    said = "no value is void" if ignore is None else f"{ignore} is void"
    table = Table(ids, of_colors)
    plain = mask_files.plain_values(ids, len(kept)) and all(map(mask_files.is_plain, masks))
    return Classes(labels, table.read, plain), [
        f"{path.name}: {len(labels)} classes, {said}",
        *_doubts(path, labels, masks),
    ]


def _doubts(path: Path, labels: LabelMap, masks: Sequence[str]) -> Iterator[str]:
    """Yields what may not be meant of a file that names classes by values."""
    void = [name for name in labels.names if name.lower() in color_tables.VOID]
    if void:
        yield (
            f"{path.name}: {', '.join(void)} is learnt as a class like any other; where it is what nobody looked at, "
            "give its value as ignore_id in a classes.json"
        )
    if not labels.colors and mask_values.palettes_disagree(masks):
        yield mask_values.DISAGREE


def _checked(path: Path) -> dict:
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); expected {EXAMPLE}") from None

    def refuse(what: str):
        raise DataError(f"{path}: {what}; expected {EXAMPLE}, and optionally ids and colors, one for each name")

    if not isinstance(held, dict) or not isinstance(held.get("names"), list):
        refuse("it has no list of names")
    for key in held:
        if key not in _KEYS:
            refuse(f"unknown key {key!r}{nearest(key, _KEYS)}")
    names, ids, colors, ignore = (held.get(key) for key in ("names", "ids", "colors", "ignore_id"))
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        refuse("names must be text, one or more")
    color_tables.refuse_same(path, names)
    if len(names) > 256:
        refuse(f"{len(names)} names; values in masks are 0 to 255")
    if ignore is not None and not color_tables.is_byte(ignore):
        refuse(f"ignore_id must be a whole number from 0 to 255, or null, not {ignore!r}")
    for key, entries in (("ids", ids), ("colors", colors)):
        if entries and (not isinstance(entries, list) or len(entries) != len(names)):
            refuse(f"{key} must be a list with an entry for each of the {len(names)} names")
    if ids and (not all(map(color_tables.is_byte, ids)) or len(set(ids)) < len(ids)):
        refuse("ids must be different whole numbers from 0 to 255")
    if colors:
        if not all(
            isinstance(each, list) and len(each) == 3 and all(map(color_tables.is_byte, each)) for each in colors
        ):
            refuse("colors must be red, green and blue from 0 to 255, such as [128, 64, 128]")
        color_tables.refuse_twice(path, names, [mask_files.packed(color) for color in colors])
    return held


def _of_names(path: Path, masks: Sequence[str]) -> tuple[Classes, list[str]]:
    """Reads LabelMe's `class_names.txt`: a name a line, of the values 0, 1, ...; 255 is void."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    names = [line for line in lines if line and line != "__ignore__"]
    if not 0 < len(names) <= MOST_CLASSES:
        raise DataError(f"{path}: {len(names)} names; a name a line was expected, {MOST_CLASSES} at most")
    color_tables.refuse_same(path, names)
    ids = {IGNORE: IGNORE} | {value: value for value in range(len(names))}
    labels = LabelMap(tuple(names), source_ids=tuple(range(len(names))))
    plain = all(map(mask_files.is_plain, masks))
    return Classes(labels, Table(ids).read, plain), [
        f"{path.name}: {len(names)} classes, {IGNORE} is void",
        *_doubts(path, labels, masks),
    ]


_FILES = {
    "classes.json": of_json,
    "class_names.txt": _of_names,
    **color_tables.FILES,
}
