"""The pairs of a picture and a mask that a reader left out, and pictures that EXIF turns."""

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from resnet_tasks.data import decode
from resnet_tasks.data.check_pictures import Picture
from resnet_tasks.data.check_report import Finding
from resnet_tasks.data.examples import Problem, Source

_MOST_DROPPED = 0.05  # of the pairs; training stops above it
_ONE_SIDE = "EXIF on one side only"
# The kinds that `readers.pairs_of_masks` begins its reasons with, what they mean, and what helps.
_KINDS = {
    "no mask": "a picture without a mask of its name",
    "no picture": "a mask without a picture of its name",
    "size": "mask and picture differ in size",
    _ONE_SIDE: "the mask has the size of the picture as it lies in its file, before EXIF turns it upright",
    "ids": "the mask holds values without a class; name them in classes.json, or as its ignore_id where they are void",
    "jpeg": "the mask is saved as JPEG or as lossy WebP, which blurs ids into others; save it as PNG",
    "unreadable": "the mask cannot be read",
}
_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF 2.3, section 4.6.4: rows are columns


def pair_findings(source: Source) -> Iterator[Finding]:
    """Names the broken pairs, kind by kind: errors where they are too many to train on."""
    if source.pairs is None or not source.pairs.dropped:
        return
    total, dropped = source.pairs.total, source.pairs.dropped
    level = "error" if len(dropped) > _MOST_DROPPED * total else "warning"
    if level == "error":
        yield Finding(
            "error",
            f"{len(dropped)} of {total} pairs of a picture and a mask cannot be used ({len(dropped) / total:.1%}); "
            f"training stops above {_MOST_DROPPED:.0%}",
        )
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in dropped:
        kinds[kind_of(problem)].append(problem)
    for kind in sorted(kinds, key=[*_KINDS].index):
        yield Finding(
            level,
            f"{kind}: {_KINDS[kind]}: {len(kinds[kind])} of {total} pairs",
            tuple(f"{problem.file}: {problem.what}" for problem in kinds[kind]),
        )


def kind_of(problem: Problem) -> str:
    """Returns the kind of a broken pair: a size that EXIF explains is a kind of its own."""
    kind = problem.what.partition(":")[0]
    if kind == "size" and "EXIF" in problem.what:
        return _ONE_SIDE
    return kind if kind in _KINDS else "unreadable"


def turned_by_exif(source: Source, pictures: Sequence[Picture]) -> dict[int, int]:
    """Returns the places of the pictures that EXIF turns or mirrors, and their orientations, 2 to 8."""

    def look(picture: Picture) -> int:
        data = source.splits[picture.split].read(picture.index)
        if b"Exif" not in data[: 1 << 17]:  # it stands within the first 64 kB behind the start or a JFIF segment
            return 1
        return int(_orientation()(tf.constant(data)))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found = list(threads.map(look, pictures))
    return {place: orientation for place, orientation in enumerate(found) if orientation != 1}


def turned_findings(pictures: Sequence[Picture], turned: Mapping[int, int]) -> Iterator[Finding]:
    """Names the pictures that EXIF turns, whose masks must have been drawn on the upright picture."""
    named: dict[bool, list[str]] = {True: [], False: []}
    for place, orientation in turned.items():
        height, width = pictures[place].taken.size_hw
        told = orientation in _ON_ITS_SIDE and height != width
        named[told].append(f"{pictures[place].file}: orientation {orientation}, {width} wide and {height} high upright")
    if named[True]:
        yield Finding(
            "note",
            f"pictures that EXIF turns on their side, with masks of the upright size: {len(named[True])}",
            tuple(named[True]),
        )
    if named[False]:
        yield Finding(
            "warning",
            f"pictures that EXIF turns and that keep their size: {len(named[False])}; sizes do not tell whether the "
            "masks were drawn on the upright pictures: look at them",
            tuple(named[False]),
        )


@functools.cache
def _orientation() -> Callable[[tf.Tensor], np.ndarray]:
    return tf.function(decode.orientation, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
