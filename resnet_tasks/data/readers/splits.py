"""Which picture goes into which split: by a hash of its name, the same on every machine."""

import hashlib
import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from resnet_tasks.data import masks, records
from resnet_tasks.data.examples import Split
from resnet_tasks.errors import DataError

NAMES = ("train", "val", "test")
_ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def split_name(word: str) -> str | None:
    """Returns "train", "val" or "test" for what sources call them ("valid", "Testing"), or None."""
    return _ALIASES.get(word.strip().lower())


def natural(name: str) -> list:
    """A sorting key that puts "2" before "10", as people do."""
    parts = re.split(r"(\d+)", unicodedata.normalize("NFC", name))
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def hashed(names: Sequence[str], labels: Sequence[int], groups: Sequence[str] | None, seed: int) -> list[str]:
    """Splits pictures 80/10/10, class by class, and keeps each group on one side.

    A class's pictures (its groups, where there are groups) are put in the order of their hashes;
    the first tenth is "test", the next "val". So the outcome depends on the names and the seed,
    not on the order of the files, the machine or any other class. A class of three or more has at
    least one in each split; a smaller one is all "train".

    Args:
        names: Each picture's name, relative to the data set, with `/`.
        labels: Each picture's class.
        groups: Each picture's group (a video, a patient), or None where each stands alone. A
            group of several classes counts for the one that it shows most.
        seed: `data.split_seed`.

    Returns:
        The split of each picture.
    """
    groups = names if groups is None else groups
    shown = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        shown[group][label] += 1
    members = defaultdict(list)
    for group, counter in shown.items():
        members[min(counter, key=lambda label: (-counter[label], label))].append(group)
    side = {}
    for of_class in members.values():
        of_class.sort(key=lambda group: _hash(group, seed))
        held = max(1, round(len(of_class) / 10)) if len(of_class) >= 3 else 0
        for place, group in enumerate(of_class):
            side[group] = "test" if place < held else "val" if place < 2 * held else "train"
    return [side[group] for group in groups]


def cut(whole: Split, sides: Sequence[str | None]) -> dict[str, Split]:
    """Cuts a split by what `sides` says of each picture; those of None go nowhere, no part is empty."""
    parts = {}
    for name in NAMES:
        places = [place for place, side in enumerate(sides) if side == name]
        if places:
            parts[name] = replace(whole.subset(places), name=name)
    return parts


def join(name: str, parts: Sequence[Split]) -> Split:
    """Puts splits together as one; all hold paths, or encoded pictures, or records."""
    starts = np.cumsum([0, *map(len, parts)])
    of_masks = [part.masks for part in parts if part.masks is not None]
    of_records = [part.records for part in parts if part.records is not None]
    return Split(
        name=name,
        ids=tuple(itertools.chain(*(part.ids for part in parts))),
        paths=parts[0].paths and tuple(itertools.chain(*(part.paths or () for part in parts))),
        encoded=parts[0].encoded and tuple(itertools.chain(*(part.encoded or () for part in parts))),
        records=records.join(of_records) if of_records else None,
        annotations={key: np.concatenate([part.annotations[key] for part in parts]) for key in parts[0].annotations},
        by_pillow=frozenset(
            int(start) + place for start, part in zip(starts, parts, strict=False) for place in part.by_pillow
        ),
        masks=masks.join(of_masks) if of_masks else None,
    )


def only(sides: Sequence[str | None], places: Iterable[int]) -> list[str | None]:
    """Returns `sides` with None everywhere but at `places`."""
    kept = set(places)
    return [side if place in kept else None for place, side in enumerate(sides)]


def note(seed: int, group: str | None) -> str:
    """Returns the sentence that says how `hashed` split."""
    by = f"the group that {group!r} finds" if group else "the file name"
    return f"split 80/10/10, class by class, by a hash of {by} and split seed {seed}"


def grouped(names: Iterable[str], pattern: str) -> list[str]:
    """Returns the group of each name: what the regular expression's first bracket, or all, finds."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"data.group: {pattern!r} is no regular expression ({error})") from None
    groups = []
    for name in names:
        found = expression.search(name)
        if not found:
            raise DataError(f"data.group: {pattern!r} finds nothing in {name!r}; it must find each file's group")
        groups.append(found[1] if expression.groups and found[1] is not None else found[0])
    return groups


def _hash(name: str, seed: int) -> bytes:
    # One file has one name: macOS writes accents decomposed, other systems composed.
    text = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return hashlib.sha256(f"{seed}\0{text}".encode(errors="surrogateescape")).digest()
