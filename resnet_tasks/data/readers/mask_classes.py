"""Which classes masks have: by a file beside them, or by what the masks hold."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from resnet_tasks.data import formats
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.readers import color_tables, mask_files
from resnet_tasks.data.readers.mask_files import Table
from resnet_tasks.data.readers.pairs_of_masks import MOST_CLASSES, Classes, JpegMask
from resnet_tasks.errors import DataError, nearest

_KEYS = ("names", "ignore_id", "ids", "colors")
_EXAMPLE = '{"names": ["road", "car"], "ignore_id": 255}'
_THREADS = 8


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
    return of_file(masks, folders) or _found(masks)


def of_file(masks: Sequence[str], folders: Sequence[Path]) -> tuple[Classes, list[str]] | None:
    """As `find`; None where there is no file that names classes."""
    for folder in dict.fromkeys(folders):
        below = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True)}
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
    return Classes(labels, table.read, plain), [f"{path.name}: {len(labels)} classes, {said}"]


def _checked(path: Path) -> dict:
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); expected {_EXAMPLE}") from None

    def refuse(what: str):
        raise DataError(f"{path}: {what}; expected {_EXAMPLE}, and optionally ids and colors, one for each name")

    if not isinstance(held, dict) or not isinstance(held.get("names"), list):
        refuse("it has no list of names")
    for key in held:
        if key not in _KEYS:
            refuse(f"unknown key {key!r}{nearest(key, _KEYS)}")
    names, ids, colors, ignore = (held.get(key) for key in ("names", "ids", "colors", "ignore_id"))
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        refuse("names must be text, one or more")
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
    ids = {IGNORE: IGNORE} | {value: value for value in range(len(names))}
    labels = LabelMap(tuple(names), source_ids=tuple(range(len(names))))
    plain = all(map(mask_files.is_plain, masks))
    return Classes(labels, Table(ids).read, plain), [f"{path.name}: {len(names)} classes, {IGNORE} is void"]


_FILES = {
    "classes.json": of_json,
    "class_names.txt": _of_names,
    **color_tables.FILES,
}


def _found(masks: Sequence[str]) -> tuple[Classes, list[str]]:
    """Makes classes of the values that masks hold."""
    with ThreadPoolExecutor(_THREADS) as threads:
        seen = [each for each in threads.map(_seen, masks) if each]
    if any(is_color for _, is_color, _ in seen):
        return _of_found_colors(seen)
    values = sorted({int(value) for used, _, _ in seen for value in used})
    if len(values) > MOST_CLASSES or values[-1:] > [255]:
        raise DataError(f"the masks hold {len(values)} different values, up to {values[-1]}; {_NO_MASKS}")
    is_binary = values == [0, 255]
    kept = [value for value in values if value != IGNORE or is_binary]
    notes = [f"no classes.json: {len(kept)} classes by the values in the masks"]
    if is_binary:
        notes.append("the masks hold 0 and 255 alone: 255 is taken as a class, not as void")
    elif len(kept) < len(values):
        notes.append("255 in the masks is taken as void")
    colors = _palette_colors(seen, kept)
    labels = LabelMap(
        names=tuple(map(mask_files.hexadecimal, colors)) if colors else tuple(map(str, kept)),
        source_ids=tuple(kept),
        colors=tuple(map(mask_files.rgb, colors)),
    )
    ids = ({} if is_binary else {IGNORE: IGNORE}) | {value: id for id, value in enumerate(kept)}
    plain = mask_files.plain_values(ids, len(kept)) and all(map(mask_files.is_plain, masks))
    return Classes(labels, Table(ids).read, plain), notes


_NO_MASKS = (
    "classes are fewer: are these masks, saved without loss and without smoothed edges? If they are, name the classes "
    f"in a classes.json beside them: {_EXAMPLE}"
)


def _seen(path: str) -> tuple[list[int], bool, list[int]] | None:
    """Returns the values that a mask holds, whether they are colours, and their colours in a palette.

    None where it cannot be read.
    """
    try:
        pixels = mask_files.load(path)
    except (JpegMask, formats.Unreadable):
        return None
    if pixels.is_color:
        grey = pixels.grey()
        # Grey saved as RGB is taken for grey, unless other masks have colours.
        return (pixels if grey is None else grey).used()[0].tolist(), grey is None, []
    used = pixels.used()[0].tolist()
    palette = pixels.palette
    inside = palette is not None and all(value < len(palette) for value in used)
    return used, False, np.asarray(palette)[used].tolist() if inside else []


def _palette_colors(seen: Sequence[tuple[list[int], bool, list[int]]], kept: Sequence[int]) -> list[int]:
    """Returns the colour of each value, if all masks have palettes that agree, and no two values share one."""
    color: dict[int, int] = {}
    for used, _, colors in seen:
        if len(colors) != len(used):
            return []
        if any(color.setdefault(value, own) != own for value, own in zip(used, colors, strict=True)):
            return []
    found = [color[value] for value in kept]
    return found if len(set(found)) == len(found) else []


def _of_found_colors(seen: Sequence[tuple[list[int], bool, list[int]]]) -> tuple[Classes, list[str]]:
    found = set()
    for used, is_color, colors in seen:
        found.update(used if is_color else colors or [value * 0x010101 for value in used])
    if len(found) > MOST_CLASSES:
        raise DataError(f"the masks hold {len(found)} different colours; {_NO_MASKS}")
    colors = sorted(found)
    labels = LabelMap(tuple(map(mask_files.hexadecimal, colors)), colors=tuple(map(mask_files.rgb, colors)))
    table = Table({}, {color: id for id, color in enumerate(colors)}, greys_are_colors=True)
    return Classes(labels, table.read), [f"no classes.json: {len(colors)} classes by the colours in the masks"]
