"""What a reader hands on: the label map, the splits and their pictures.

An example is a plain dict from the reader to the loss. Its keys, where present:

    image    uint8 or float32 (height, width, 3), RGB in 0..255, upright
    label    int32 scalar, contiguous from 0, an index of `LabelMap.names`
    boxes    float32 (n, 4), xyxy in pixels of the upright `image`
    labels   int32 (n,), one for each box; -1 is padding
    crowd    bool (n,), whether a box surrounds many things at once (COCO's iscrowd)
    area     float64 (n,), of the thing in the box, in pixels, as its source counts it
    mask     uint8 (height, width), an index of `LabelMap.names` for each pixel, 255 where it is of no class
    id       string scalar, the file the picture came from
    index    int64 scalar, the place in its split
    epoch    int64 scalar, from 0
    step     int64 scalar, from 0: one for all pictures of a global batch
    key      int32 (2,), from seed, epoch and index: all randomness of this picture derives from it
    weight   float32 scalar, 0 for a picture that could not be read
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet_tasks.data import masks as mask_files
from resnet_tasks.data.masks import Masks
from resnet_tasks.data.records import Records
from resnet_tasks.errors import DataError, nearest

if TYPE_CHECKING:
    import tensorflow as tf

# No path holds a zero byte, so an entry of `Split.table` that begins with one is a path that
# Pillow reads in TensorFlow's place.
_BY_PILLOW = b"\0"


@dataclass(frozen=True)
class LabelMap:
    """The classes of a data set, in the order of their contiguous ids.

    Attributes:
        names: `names[id]`; text even where classes are named by numbers.
        source_ids: The source's own ids (a COCO file's category ids), in the same order, or empty.
        colors: RGB in 0..255 for each class, or empty.
    """

    names: tuple[str, ...]
    source_ids: tuple = ()
    colors: tuple = ()

    def __post_init__(self):
        for name in self.names:
            if (written := name.encode(errors="backslashreplace").decode()) != name:
                raise DataError(f"the class name {written} is not in UTF-8; rename it")
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise DataError(f"class names must differ, but these stand twice: {', '.join(twice)}")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Returns the id of a name; raises DataError with the nearest one if it is unknown."""
        if name not in self.names:
            raise DataError(f"unknown class {name!r}{nearest(name, self.names)} (known: {_listed(self.names)})")
        return self.names.index(name)

    def match(self, other: LabelMap, mapping: Mapping[str, str] | None = None) -> np.ndarray:
        """Finds a data set's classes among this map's, the model's, by name.

        Args:
            other: The data's label map; it may hold a part of the names, in any order.
            mapping: From a name of the data to one of the model, or to "ignore".

        Returns:
            int32 `(len(other),)`: for each id of the data the id of the model, -1 for "ignore".

        Raises:
            DataError: A name of the data that the model does not know, or a mapping from a name
                that the data do not have.
        """
        mapping = mapping or {}
        for name in mapping:
            if name not in other.names:
                raise DataError(
                    f"the mapping names {name!r}, which the data do not have"
                    f"{nearest(name, other.names)} (the data: {_listed(other.names)})"
                )
        wanted = [mapping.get(name, name) for name in other.names]
        unknown = [name for name in wanted if name not in self.names and name != "ignore"]
        if unknown:
            culprits = ", ".join(f"{name!r}{nearest(name, self.names)}" for name in unknown[:5])
            raise DataError(
                f"{len(unknown)} of the data's {len(other)} classes are unknown to the model: "
                f"{culprits}\n  the model: {_listed(self.names)}\n  the data:  "
                f"{_listed(other.names)}\n  say which is which: --map DATA=MODEL or --map DATA=ignore"
            )
        place = {name: index for index, name in enumerate(self.names)}
        return np.array([place.get(name, -1) for name in wanted], np.int32)

    def to_json(self) -> dict:
        return {
            "names": list(self.names),
            "source_ids": list(self.source_ids),
            "colors": [list(color) for color in self.colors],
        }

    @classmethod
    def from_json(cls, value: Mapping) -> LabelMap:
        return cls(
            names=tuple(value["names"]),
            source_ids=tuple(value.get("source_ids", ())),
            colors=tuple(tuple(color) for color in value.get("colors", ())),
        )


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used, and why, in words for people."""

    file: str
    what: str


@dataclass(frozen=True)
class Rows:
    """What became of a source's rows of annotation, one a box.

    Attributes:
        total: Rows that the source holds, bad ones too.
        crowds: Rows that are marked as crowds.
        dropped: Rows that cannot be used.
        clipped: Rows that reached over the picture's border, and were cut there.
    """

    total: int
    crowds: int = 0
    dropped: tuple[Problem, ...] = ()
    clipped: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Pairs:
    """What became of a source's pairs of a picture and a mask.

    Attributes:
        total: Pairs that were looked for, broken ones too.
        dropped: Those that cannot be used.  What is said of each begins with its kind: "no mask", "no picture", "size",
            "ids", "jpeg" or "unreadable".
    """

    total: int
    dropped: tuple[Problem, ...] = ()


@dataclass(frozen=True, eq=False)
class Split:
    """The pictures of one split, with random access, and what is known of each.

    Attributes:
        name: "train", "val" or "test".
        ids: The file of each picture as people know it; `tfds:cifar10/test/17` where there is none.
        paths: The files, or None.
        encoded: The files' bytes, or None.
        annotations: Arrays whose first axis is the picture; "label" int32 in classification.
        by_pillow: Places in `paths` of files that TensorFlow cannot read and Pillow can.
        records: The pictures' places in record files, or None; exactly one of the three is set.
        masks: Of segmentation: the pictures' masks.
        pairs: Of verification: int32 `(n, 4)`: two places in the split, whether they are the same (0, 1), and the fold.
        is_protocol: Whether `pairs` came with the data, as a protocol to be followed, and were not made.
    """

    name: str
    ids: tuple[str, ...]
    paths: tuple[str, ...] | None = None
    encoded: tuple[bytes, ...] | None = None
    annotations: dict[str, np.ndarray] = field(default_factory=dict)
    by_pillow: frozenset[int] = frozenset()
    records: Records | None = None
    masks: Masks | None = None
    pairs: np.ndarray | None = None
    is_protocol: bool = False

    def __post_init__(self):
        held = [source for source in (self.paths, self.encoded, self.records) if source is not None]
        if len(held) != 1:
            raise ValueError("a split holds either paths or encoded pictures or records")
        lengths = {len(self.ids), len(held[0])}
        lengths.update(len(array) for array in self.annotations.values())
        lengths.update(() if self.masks is None else {len(self.masks)})
        if len(lengths) > 1:
            raise ValueError(f"the parts of split {self.name!r} differ in length: {lengths}")

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, indices: Sequence[int] | np.ndarray) -> Split:
        """Returns the pictures at `indices`, in that order."""
        places = [int(index) for index in indices]
        return Split(
            name=self.name,
            ids=tuple(self.ids[place] for place in places),
            paths=self.paths and tuple(self.paths[place] for place in places),
            encoded=self.encoded and tuple(self.encoded[place] for place in places),
            records=None if self.records is None else self.records.subset(places),
            annotations={key: array[places] for key, array in self.annotations.items()},
            by_pillow=frozenset(new for new, place in enumerate(places) if place in self.by_pillow),
            masks=None if self.masks is None else self.masks.subset(places),
        )

    def fingerprint(self) -> str:
        """Returns a hash of the files' names, wherever they lie, their order and their annotations."""
        sha = hashlib.sha256("\n".join(name.rpartition("/")[2] for name in self.ids).encode())
        for key, array in sorted(self.annotations.items()):
            sha.update(f"\n{key} {array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
        sha.update(b"" if self.masks is None else mask_files.fingerprint(self.masks))
        sha.update(b"" if self.pairs is None else self.pairs.tobytes())
        return sha.hexdigest()[:16]

    def read(self, index: int) -> bytes:
        """Returns the bytes of one picture as the decoder takes them."""
        if self.encoded is not None:
            return self.encoded[index]
        if self.records is not None:
            return self.records.read(index)
        path = (self.paths or ())[index]
        if index in self.by_pillow:
            from resnet_tasks.data import formats

            return formats.readable_bytes(path)
        return Path(path).read_bytes()

    def table(self) -> tf.Tensor | tuple[tf.Tensor, ...]:
        """Returns what `fetch` takes: strings `(pictures,)`, the paths or the encoded pictures; or the records'."""
        import tensorflow as tf

        if self.encoded is not None:
            return tf.constant(list(self.encoded), tf.string, (len(self),))
        if self.records is not None:
            return self.records.table()
        entries = [
            (_BY_PILLOW if place in self.by_pillow else b"") + path.encode()
            for place, path in enumerate(self.paths or ())
        ]
        return tf.constant(entries, tf.string, (len(entries),))

    def fetch(self, table: tf.Tensor | tuple[tf.Tensor, ...], index: tf.Tensor) -> tf.Tensor:
        """Returns the bytes of one picture as a string scalar, in a graph; `table` is this split's."""
        import tensorflow as tf

        if self.records is not None:
            return self.records.fetch(table, index)
        entry = tf.gather(table, index)
        if self.encoded is not None:
            return entry
        if not self.by_pillow:
            return tf.io.read_file(entry)
        return tf.cond(
            tf.strings.substr(entry, 0, 1) == _BY_PILLOW,
            lambda: tf.ensure_shape(tf.numpy_function(_reencode, [entry], tf.string), ()),
            lambda: tf.io.read_file(entry),
        )


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as a reader found it.

    Attributes:
        where: What the user named.
        format: "folder", "csv", "tfds" or "digits".
        labels: The one label map, from here to the artefact.
        splits: Some of "train", "val" and "test".
        problems: The files that cannot be read; no split holds them.
        notes: Sentences to print: what was found, how it was split, what was left out.
        rows: Of boxes: how many there are, and which could not be used.
        disagree: Of boxes: pictures whose size is not what their annotation says.
        pairs: Of masks: how many pairs with a picture there are, and which could not be used.
        identities: Of faces: by split the names of those that it shows, where it shows any.
    """

    where: str
    format: str
    labels: LabelMap
    splits: dict[str, Split]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    rows: Rows | None = None
    disagree: tuple[Problem, ...] = ()
    pairs: Pairs | None = None
    identities: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def found(self) -> str:
        """Returns what there is, for a message: the splits, and below them what the reader has to say."""
        counts = ", ".join(f"{name} ({len(split)} pictures)" for name, split in self.splits.items())
        return "\n  ".join([counts or "no split", *self.notes])


def _reencode(entry: bytes | np.ndarray) -> bytes:
    from resnet_tasks.data import formats

    # A graph hands over bytes, eager TensorFlow an array without axes.
    path = np.asarray(entry, object).item()[len(_BY_PILLOW) :].decode()
    try:
        return formats.readable_bytes(path)
    except formats.Unreadable:
        return b""  # which the decoder then refuses, as it does any broken picture


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
