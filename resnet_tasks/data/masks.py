"""The masks of a split's pictures: which class each pixel is of, with random access, in Python and in a graph."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import tensorflow as tf

IGNORE = 255  # the id of a pixel of no class, void: neither learnt from nor counted


@dataclass(frozen=True, eq=False)
class Masks:
    """A mask for each picture of a split.

    Attributes:
        entries: One a picture: a path, the bytes of a PNG, or whatever `read` understands.
        read: From an entry to ids, uint8 `(height, width)`: indices of `LabelMap.names`, or `IGNORE`.
        names: The file of each mask as people know it.
        plain: Whether the entries are paths or bytes of grey PNGs of 8 bits that hold the ids themselves, which a graph
            decodes; else it calls `read`.
    """

    entries: tuple
    read: Callable[[Any], np.ndarray]
    names: tuple[str, ...]
    plain: bool = False

    def __len__(self) -> int:
        return len(self.entries)

    def ids(self, index: int) -> np.ndarray:
        """The mask of the picture at `index`, uint8 `(height, width)`."""
        return self.read(self.entries[index])

    def subset(self, indices: Iterable[int]) -> Masks:
        """The masks at `indices`, in that order."""
        places = [int(index) for index in indices]
        entries, names = (tuple(column[place] for place in places) for column in (self.entries, self.names))
        return replace(self, entries=entries, names=names)

    def relabelled(self, ids: np.ndarray) -> Masks:
        """The same masks by other ids: `ids[old]` is the new one, -1 for `IGNORE`."""
        table = np.full(256, IGNORE, np.uint8)
        table[: len(ids)] = np.where(np.asarray(ids) < 0, IGNORE, ids)
        if (table[: len(ids)] == np.arange(len(ids))).all():
            return self
        return replace(self, read=lambda entry: table[self.read(entry)], plain=False)

    def in_memory(self) -> Masks:
        """The same masks as PNGs in memory, which a graph decodes; all are read, in threads."""
        if self.plain and all(isinstance(entry, bytes) for entry in self.entries):
            return self
        with ThreadPoolExecutor() as threads:
            encoded = tuple(threads.map(lambda entry: grey_png(self.read(entry)), self.entries))
        return Masks(encoded, read_grey, self.names, plain=True)

    def fetcher(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """What gives the mask at an index, an int64 scalar, in a graph: uint8 `(height, width)`."""
        import tensorflow as tf

        if not self.plain:

            def read(index) -> np.ndarray:
                return np.ascontiguousarray(self.ids(int(index)), np.uint8)

            def fetch(index: tf.Tensor) -> tf.Tensor:
                return tf.ensure_shape(tf.numpy_function(read, [index], tf.uint8), (None, None))

            return fetch
        of_files = all(isinstance(entry, str) for entry in self.entries)
        table = tf.constant(list(self.entries), tf.string, (len(self),))

        def decode(index: tf.Tensor) -> tf.Tensor:
            entry = tf.gather(table, index)
            return tf.io.decode_png(tf.io.read_file(entry) if of_files else entry, channels=1)[..., 0]

        return decode


def join(parts: Sequence[Masks]) -> Masks:
    """Masks of several splits one after another, each read in its own way."""
    kinds = {all(isinstance(entry, str) for entry in part.entries) for part in parts}
    names = tuple(name for part in parts for name in part.names)
    if all(part.plain for part in parts) and len(kinds) == 1:
        return replace(parts[0], entries=tuple(entry for part in parts for entry in part.entries), names=names)
    entries = tuple((part.read, entry) for part in parts for entry in part.entries)
    return Masks(entries, _read_by_own, names)


def fingerprint(masks: Masks) -> bytes:
    """What tells these masks from others: their files' names, or their contents where they lie in memory."""
    sha = hashlib.sha256()
    for entry, name in zip(masks.entries, masks.names, strict=True):
        sha.update(entry if isinstance(entry, bytes) else name.rpartition("/")[2].encode())
    return sha.digest()


def read_grey(entry: str | bytes) -> np.ndarray:
    """The ids of a plain entry: a grey PNG of 8 bits that holds them."""
    data = entry if isinstance(entry, bytes) else Path(entry).read_bytes()
    return np.asarray(Image.open(io.BytesIO(data)))


def grey_png(ids: np.ndarray) -> bytes:
    """A grey PNG of 8 bits that holds `ids`, uint8 `(height, width)`."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(ids, np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _read_by_own(entry: tuple[Callable[[Any], np.ndarray], Any]) -> np.ndarray:
    read, own = entry
    return read(own)
