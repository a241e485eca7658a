"""The classes of masks that no file names: by the values that they hold, or by their colours."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from resnet_tasks.data import formats
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.readers import mask_files
from resnet_tasks.data.readers.mask_files import Table
from resnet_tasks.data.readers.pairs_of_masks import DOUBT, MOST_CLASSES, Classes, JpegMask
from resnet_tasks.errors import DataError

EXAMPLE = '{"names": ["road", "car"], "ignore_id": 255}'
_THREADS = 8
_WORST = 3  # masks that an error names
_BINARY = 0.9  # of the masks that hold more than 0: so many of 0 and 255 alone make two classes of these
# Smoothed edges are thought of where there are more values than this in all, and than that in the mean mask,
_MANY, _EACH = 20, 10
_THIN, _MOST = 0.01, 0.9  # and most lie on less than this share of the pixels.


@dataclass(frozen=True)
class _Seen:
    """What a mask holds.

    Attributes:
        path: Its file.
        pixels: Of each grey level, index or colour (0xrrggbb); empty where there are too many to be classes.
        number: How many different ones there are.
        is_color: Whether they are colours.
        is_bits: Whether they are of one bit.
        palette: The colour of each index; empty where there is no palette, or it lacks one of them.
    """

    path: str
    pixels: dict[int, int]
    number: int
    is_color: bool = False
    is_bits: bool = False
    palette: dict[int, int] | None = None


def classes_of(masks: Sequence[str]) -> tuple[Classes, list[str]]:
    """Makes classes of the values that masks hold, or of their colours.

    A mask that holds more of them than there can be classes has no say, if others do; nor have values above 255.

    Raises:
        DataError: All masks hold too many values to be of classes, or together they do.
    """
    seen = _looked(masks)
    held = [each for each in seen if each.pixels]
    if seen and not held:
        raise _too_many(seen)
    disagree = _disagree(held)
    if any(each.is_color for each in held):
        return _of_colors(held)
    if disagree and all(each.palette for each in held):
        classes, notes = _of_colors(held)
        return classes, [*notes, "an index has several colours in the masks' palettes: the colours are taken"]
    classes, notes = _of_values(masks, held)
    return classes, [*notes, *([DISAGREE] if disagree else [])]


DISAGREE = (
    f"{DOUBT}an index has several colours in their palettes, and the indices are taken; where the colours are what "
    "counts, add colors to classes.json"
)


def palettes_disagree(masks: Sequence[str]) -> bool:
    """Whether an index that masks use has several colours in their palettes."""
    return _disagree(_looked([path for path in masks if mask_files.has_palette(path)]))


def _looked(masks: Sequence[str]) -> list[_Seen]:
    with ThreadPoolExecutor(_THREADS) as threads:
        return [each for each in threads.map(_seen, masks) if each]


def _seen(path: str) -> _Seen | None:
    """Returns what a mask holds; None where it cannot be read."""
    try:
        pixels = mask_files.load(path)
    except (JpegMask, formats.Unreadable):
        return None
    # Grey saved as RGB is taken for grey, unless other masks have colours.
    pixels = (pixels.grey() or pixels) if pixels.is_color else pixels
    used, counts = pixels.used()
    if len(used) > MOST_CLASSES:
        return _Seen(path, {}, len(used), pixels.is_color)
    palette = pixels.palette
    inside = palette is not None and used[-1] < len(palette)
    colors = dict(zip(used.tolist(), np.asarray(palette)[used].tolist())) if inside else None
    return _Seen(
        path, dict(zip(used.tolist(), counts.tolist())), len(used), pixels.is_color, pixels.is_bits, palette=colors
    )


def _too_many(seen: Sequence[_Seen], together: int | None = None) -> DataError:
    """The error that names the masks with the most values."""
    worst = sorted(seen, key=lambda each: -each.number)[:_WORST]
    folder = os.path.commonpath([os.path.dirname(each.path) for each in seen])
    named = ", ".join(f"{os.path.relpath(each.path, folder)} {each.number}" for each in worst)
    what = "colours" if worst[0].is_color else "values"
    in_all = f"{together} in all, " if together else ""
    return DataError(
        f"{folder}: {MOST_CLASSES} classes at most were expected, and the masks hold more different {what}: {in_all}"
        f"{named}. Are these masks, saved without loss and without smoothed edges? If they are, name the classes in a "
        f"classes.json beside them, with their colors where masks are in RGB: {EXAMPLE}"
    )


def _disagree(seen: Sequence[_Seen]) -> bool:
    color: dict[int, int] = {}
    return any(color.setdefault(index, own) != own for each in seen for index, own in (each.palette or {}).items())


def _of_values(masks: Sequence[str], seen: Sequence[_Seen]) -> tuple[Classes, list[str]]:
    seen = _whitened(seen)
    told = [each for each in seen if each.pixels.keys() != {0}]
    binary = [each for each in told if each.pixels.keys() <= {0, 255}]
    has_ground = any(0 in each.pixels for each in seen)
    is_binary = has_ground and bool(binary) and len(binary) >= _BINARY * len(told)
    counts = _summed((value, pixels) for each in seen for value, pixels in each.pixels.items() if value <= 255)
    values = [0, 255] if is_binary else sorted(counts)
    kept = [value for value in values if value != IGNORE or is_binary]
    if len(values) > MOST_CLASSES:
        raise _too_many(seen, len(values))
    notes = [f"no classes.json: {len(kept)} classes by the values in the masks"]
    if is_binary and len(binary) == len(told):
        notes.append("the masks hold 0 and 255 alone: 255 is taken as a class, not as void")
    elif is_binary:
        notes.append(f"{len(binary)} of {len(told)} masks hold 0 and 255 alone: 255 is taken as a class, not as void")
    elif len(kept) < len(values):
        notes.append("255 in the masks is taken as void")
        if has_ground and 2 * len(binary) >= len(told) > len(binary) > 0:
            notes.append(
                f"{DOUBT}{len(binary)} of {len(told)} hold 0 and 255 alone; if 255 is a class, say so in a classes.json"
            )
    notes += [] if is_binary else _smoothed(seen, counts, "values")
    colors = _palette_colors(seen, kept)
    labels = LabelMap(
        names=tuple(map(mask_files.hexadecimal, colors)) if colors else tuple(map(str, kept)),
        source_ids=tuple(kept),
        colors=tuple(map(mask_files.rgb, colors)),
    )
    ids = ({} if is_binary else {IGNORE: IGNORE}) | {value: id for id, value in enumerate(kept)}
    plain = mask_files.plain_values(ids, len(kept)) and all(map(mask_files.is_plain, masks))
    return Classes(labels, Table(ids).read, plain), notes


def _whitened(seen: Sequence[_Seen]) -> list[_Seen]:
    """Counts the white of masks of one bit as 255 where others hold nothing but 0 and 255, as `Table` reads it."""
    if not any(255 in each.pixels and each.pixels.keys() <= {0, 255} for each in seen):
        return list(seen)
    return [
        replace(each, pixels={255 * value: pixels for value, pixels in each.pixels.items()}) if each.is_bits else each
        for each in seen
    ]


def _palette_colors(seen: Sequence[_Seen], kept: Sequence[int]) -> list[int]:
    """Returns the colour of each value, if all masks have palettes that agree, and no two values share one."""
    if _disagree(seen) or not all(each.palette for each in seen):
        return []
    color = {index: own for each in seen for index, own in (each.palette or {}).items()}
    found = [color[value] for value in kept]
    return found if len(set(found)) == len(found) else []


def _of_colors(seen: Sequence[_Seen]) -> tuple[Classes, list[str]]:
    def color(each: _Seen, value: int) -> int:
        return value if each.is_color else each.palette[value] if each.palette else value * 0x010101

    counts = _summed(
        (color(each, value), pixels)
        for each in seen
        for value, pixels in each.pixels.items()
        if each.is_color or value <= 255
    )
    if len(counts) > MOST_CLASSES:
        raise _too_many(seen, len(counts))
    colors = sorted(counts)
    labels = LabelMap(tuple(map(mask_files.hexadecimal, colors)), colors=tuple(map(mask_files.rgb, colors)))
    table = Table({}, {color: id for id, color in enumerate(colors)}, greys_are_colors=True)
    notes = [f"no classes.json: {len(colors)} classes by the colours in the masks", *_smoothed(seen, counts, "colours")]
    return Classes(labels, table.read), notes


def _summed(pixels: Iterable[tuple[int, int]]) -> Counter:
    counts: Counter = Counter()
    for value, number in pixels:
        counts[value] += number
    return counts


def _smoothed(seen: Sequence[_Seen], counts: Counter, what: str) -> list[str]:
    """What is said where masks hold many values on hardly a pixel each, as on edges that were smoothed."""
    thin = sum(number < _THIN * counts.total() for number in counts.values())
    in_the_mean = sum(each.number for each in seen) / max(1, len(seen))
    if len(counts) <= _MANY or in_the_mean <= _EACH or thin < _MOST * len(counts):
        return []
    return [
        f"{DOUBT}they hold {len(counts)} different {what}, {thin} of them on less than {_THIN:.0%} of the pixels each: "
        "were they saved with smoothed edges? Name the classes in a classes.json, and other values are found"
    ]
