"""Pictures and their masks as a source has them, and the one place where each pair is looked over."""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_tasks.data import formats
from resnet_tasks.data.examples import LabelMap, Pairs, Problem, Source, Split
from resnet_tasks.data.masks import IGNORE, Masks
from resnet_tasks.data.readers import inspection, sizes, splits
from resnet_tasks.data.readers.boxes import some
from resnet_tasks.errors import DataError

# The kinds of broken pairs: what is said of one begins with its kind and a colon.
KINDS = ("no mask", "no picture", "size", "ids", "jpeg", "unreadable")
# How a note begins that `check` shows as a warning.
DOUBT = "look at the masks: "
MOST_CLASSES = 255  # ids fill a byte, and one of its values is `IGNORE`
_THREADS = 8  # decoding holds a processor, files wait for the disk
_SHARES = 12  # classes in a note


class UnknownIds(DataError):
    """A mask that holds values without a class.

    Attributes:
        values: What the mask holds, as messages show it: 9, or "#ff0080".
        pixels: How many of its pixels do.
    """

    def __init__(self, values: Sequence[object], pixels: int, hint: str = ""):
        self.values, self.pixels = tuple(values), int(pixels)
        shown = ", ".join(map(str, self.values[:10])) + (", ..." if len(self.values) > 10 else "")
        super().__init__(
            f"{'value' if len(self.values) == 1 else 'values'} {shown} without a class ({self.pixels} pixels){hint}"
        )


class JpegMask(DataError):
    """A mask saved as JPEG, or in another `kind` of file that blurs ids into others."""

    def __init__(self, kind: str = "JPEG"):
        self.kind = kind
        super().__init__(f"the mask is saved as {kind}, which blurs ids into others; save masks as PNG")


@dataclass(frozen=True)
class Pair:
    """One picture with its mask.

    Attributes:
        name: The picture's file as people know it, relative to the data set; the mask's where there is no picture.
        picture: The picture's file; `None` where it is missing, or `encoded` holds it.
        mask: A path, or whatever `Classes.read` takes; `None` where it is missing.
        mask_name: The mask's file as people know it; what it might be called where it is missing.
        split: "train", "val", "test", or `None` where the source has no splits.
        encoded: The picture's bytes, where there is no file.
    """

    name: str
    picture: str | None
    mask: Any | None
    mask_name: str | None
    split: str | None = None
    encoded: bytes | None = None


@dataclass(frozen=True)
class Classes:
    """A source's classes, and how its masks are read.

    Attributes:
        labels: The label map; without void.
        read: From a pair's `mask` to ids, uint8 `(height, width)`, contiguous, `IGNORE` where void. It raises
            UnknownIds, JpegMask, or `formats.Unreadable` with the reason, and is called from several threads.
        plain: As for `Masks`.
    """

    labels: LabelMap
    read: Callable[[Any], np.ndarray]
    plain: bool = False


@dataclass(frozen=True)
class _Looked:
    """What a look at the pairs told.

    Attributes:
        usable: Places of the pairs that may be used.
        by_pillow: Those of them whose pictures TensorFlow cannot read.
        pixels: int64 (pairs, classes + 1), by class and last void; zero where the mask cannot be read.
        problems: Pictures that cannot be read.
        dropped: Broken pairs, of pictures that can be.
    """

    usable: tuple[int, ...]
    by_pillow: frozenset[int]
    pixels: np.ndarray
    problems: tuple[Problem, ...]
    dropped: tuple[Problem, ...]


def assemble(
    where: str | Path,
    format: str,
    pairs: Sequence[Pair],
    classes: Classes,
    *,
    split_seed: int,
    group: str | None = None,
    notes: Sequence[str] = (),
) -> Source:
    """Puts a source together: looks at the pictures, reads every mask once, leaves out broken pairs, and splits.

    Args:
        where: What the user named.
        format: How it was read.
        pairs: All pairs, those that lack a half too. If any has a split, those without one are not used.
        classes: The classes, and how masks are read.
        split_seed: Seeds the split where no pair has one: 80/10/10, by each picture's rarest class.
        group: A regular expression on the names that keeps pictures in one split.
        notes: What the reader has to say, first.

    Returns:
        The source; its splits' annotations are "present", bool (pictures, classes), which classes a mask holds, and
        "pixels", int64 (pictures, classes + 1), the pixels by class, last void.

    Raises:
        DataError: More than 255 classes, or `group` is no regular expression, or finds nothing in a name.
    """
    if len(classes.labels) > MOST_CLASSES:
        raise DataError(f"{where}: {len(classes.labels)} classes; masks may hold {MOST_CLASSES} at most")
    sided = any(pair.split for pair in pairs)
    used = [pair for pair in pairs if pair.split or not sided]
    looked = _look(used, classes)
    sides, how = _sides(pairs, used, looked.pixels, split_seed, group)
    made = _splits(used, classes, looked, sides)
    return Source(
        where=str(where),
        format=format,
        labels=classes.labels,
        splits=made,
        problems=looked.problems,
        notes=(*notes, *how, *_counts(made, classes.labels), *_left_out(looked.dropped)),
        pairs=Pairs(total=len(used), dropped=looked.dropped),
    )


def _sides(
    pairs: Sequence[Pair], used: Sequence[Pair], pixels: np.ndarray, split_seed: int, group: str | None
) -> tuple[list[str | None], list[str]]:
    """Returns the split of each pair that is used, and sentences on it."""
    sides = [pair.split for pair in used]
    if not any(sides):
        # Broken pairs take part in the split: what is repaired moves few other pictures.
        names = [pair.name for pair in used]
        groups = splits.grouped(names, group) if group else None
        hashed = splits.hashed(names, _rarest(pixels[:, :-1] > 0), groups, split_seed)
        return list(hashed), [splits.note(split_seed, group)]
    notes = ["its own splits: " + ", ".join(name for name in splits.NAMES if name in sides)]
    unused = [pair.name for pair in pairs if not pair.split]
    if unused:
        notes.append(f"in no split, and not used: {len(unused)} pictures{some(unused)}")
    return sides, notes


def counted(dropped: Sequence[Problem]) -> str:
    """Returns how many pairs are broken in which way: "3 size, 1 jpeg"."""
    kinds = Counter(problem.what.partition(":")[0] for problem in dropped)
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())


def _rarest(present: np.ndarray) -> list[int]:
    """Returns the class that each picture is split by: the rarest that it shows; one of its own where it shows none.

    Args:
        present: bool (pictures, classes).
    """
    if not present.size:
        return [0] * len(present)
    shown = np.where(present, present.sum(axis=0), len(present) + 1)
    return np.where(present.any(axis=1), shown.argmin(axis=1), present.shape[1]).tolist()


def _look(pairs: Sequence[Pair], classes: Classes) -> _Looked:
    wrong, by_pillow, sizes_hw = _pictures(pairs)
    with ThreadPoolExecutor(_THREADS) as threads:
        read = list(threads.map(lambda pair: _read(pair, classes), pairs))
    pixels = np.zeros((len(pairs), len(classes.labels) + 1), np.int64)
    dropped, usable = [], []
    for place, (pair, mask) in enumerate(zip(pairs, read, strict=True)):
        if isinstance(mask, tuple):
            pixels[place] = mask[1]
        if place in wrong:
            continue
        broken = _broken(pair, mask, sizes_hw.get(place))
        if broken:
            dropped.append(Problem(pair.name, broken))
        else:
            usable.append(place)
    return _Looked(
        usable=tuple(usable),
        by_pillow=by_pillow,
        pixels=pixels,
        problems=tuple(Problem(pairs[place].name, wrong[place]) for place in sorted(wrong)),
        dropped=tuple(dropped),
    )


def _pictures(pairs: Sequence[Pair]) -> tuple[dict[int, str], frozenset[int], dict[int, tuple[int, int]]]:
    """Returns which pictures cannot be read and why, which only Pillow reads, and the upright sizes of the others."""
    here = [place for place, pair in enumerate(pairs) if pair.picture is not None and pair.encoded is None]
    looked = inspection.inspect([str(pairs[place].picture) for place in here], [str(place) for place in here])
    wrong = {int(problem.file): problem.what for problem in looked.problems}
    held = [
        place
        for place, pair in enumerate(pairs)
        if place not in wrong and (pair.picture is not None or pair.encoded is not None)
    ]
    read = sizes.upright_sizes([pairs[place].encoded or str(pairs[place].picture) for place in held])
    wrong |= {place: size for place, size in zip(held, read, strict=True) if isinstance(size, str)}
    sizes_hw = {place: size for place, size in zip(held, read, strict=True) if not isinstance(size, str)}
    return wrong, frozenset(here[index] for index in looked.by_pillow), sizes_hw


def _read(pair: Pair, classes: Classes) -> tuple[tuple[int, int], np.ndarray] | str:
    """Returns a mask's height and width and its pixels by class, last void; or how the pair is broken."""
    if pair.mask is None:
        sought = f", such as {pair.mask_name}" if pair.mask_name else ""
        return f"no mask: none was found for this picture{sought}"
    called = pair.mask_name or "the mask"
    try:
        ids = classes.read(pair.mask)
    except UnknownIds as error:
        return f"ids: {called} holds {error}"
    except JpegMask as error:
        return f"jpeg: {called} is saved as {error.kind}, which blurs ids into others; save it as PNG"
    except (formats.Unreadable, OSError) as error:
        return f"unreadable: {called}: {error}"
    pixels = np.bincount(ids.ravel(), minlength=IGNORE + 1)
    of_classes = len(classes.labels)
    return ids.shape, np.append(pixels[:of_classes], pixels[IGNORE])


def _broken(pair: Pair, mask: tuple[tuple[int, int], np.ndarray] | str, picture_hw: tuple[int, int] | None) -> str:
    """Returns how a pair is broken, or nothing."""
    if picture_hw is None:
        return f"no picture: none was found for the mask {pair.mask_name or pair.name}"
    if isinstance(mask, str):
        return mask
    mask_hw = mask[0]
    if mask_hw == picture_hw:
        return ""
    what = f"size: the mask is {mask_hw[1]} wide and {mask_hw[0]} high, the picture {picture_hw[1]} and {picture_hw[0]}"
    if mask_hw == picture_hw[::-1] and _is_turned(pair):
        what += (
            "; it fits the picture as it lies in the file, before EXIF turns it upright: save both upright, without "
            "an EXIF orientation"
        )
    return what


def _is_turned(pair: Pair) -> bool:
    """Whether a picture whose header was read is laid on its side by EXIF."""
    with Image.open(io.BytesIO(pair.encoded) if pair.encoded else str(pair.picture)) as picture:
        return picture.size != sizes.upright_sizes([pair.encoded or str(pair.picture)])[0][::-1]


def _splits(pairs: Sequence[Pair], classes: Classes, looked: _Looked, sides: Sequence[str | None]) -> dict[str, Split]:
    held = [pairs[place] for place in looked.usable]
    pixels = looked.pixels[list(looked.usable)]
    encoded = bool(held) and held[0].encoded is not None
    whole = Split(
        name="all",
        ids=tuple(pair.name for pair in held),
        paths=None if encoded else tuple(str(pair.picture) for pair in held),
        encoded=tuple(pair.encoded or b"" for pair in held) if encoded else None,
        annotations={"present": pixels[:, :-1] > 0, "pixels": pixels},
        by_pillow=frozenset(new for new, place in enumerate(looked.usable) if place in looked.by_pillow),
        masks=Masks(
            entries=tuple(pair.mask for pair in held),
            read=classes.read,
            names=tuple(pair.mask_name or pair.name for pair in held),
            plain=classes.plain,
        ),
    )
    return splits.cut(whole, [sides[place] for place in looked.usable])


def _counts(made: Mapping[str, Split], labels: LabelMap) -> Iterator[str]:
    """Yields the sentence about pictures and the shares of the classes."""
    if not made:
        return
    pixels = np.sum([split.annotations["pixels"].sum(axis=0) for split in made.values()], axis=0)
    shares = pixels / max(1, pixels.sum())
    largest = sorted(range(len(labels)), key=lambda label: (-shares[label], label))[:_SHARES]
    said = [f"{labels.names[label]} {100 * shares[label]:.1f} %" for label in largest]
    more = f", and {len(labels) - _SHARES} more" if len(labels) > _SHARES else ""
    void = f"; void {100 * shares[-1]:.1f} %" if pixels[-1] else ""
    pictures = sum(map(len, made.values()))
    yield f"{pictures} pictures with masks of {len(labels)} classes; of the pixels: {', '.join(said)}{more}{void}"


def _left_out(dropped: Sequence[Problem]) -> Iterator[str]:
    if dropped:
        named = [f"{problem.file}: {problem.what}" for problem in dropped]
        yield f"pairs that cannot be used and are left out: {len(dropped)} ({counted(dropped)}){some(named, '; ')}"


def whole_as(part: Source, name: str, labels: LabelMap) -> Split | None:
    """Returns a source's splits together as one of that name, with the ids of a joint label map; None if it has none.

    Raises:
        DataError: The label map lacks one of the source's classes.
    """
    if not part.splits:
        return None
    whole = splits.join(name, [replace(split, name=name) for split in part.splits.values()])
    ids = labels.match(part.labels)
    pixels = np.zeros((len(whole), len(labels) + 1), np.int64)
    pixels[:, [*ids.tolist(), -1]] = whole.annotations["pixels"]
    return replace(
        whole,
        annotations={**whole.annotations, "present": pixels[:, :-1] > 0, "pixels": pixels},
        masks=whole.masks and whole.masks.relabelled(ids),
    )
