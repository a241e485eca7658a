"""Pictures that stay in TFRecord files and are read one by one, at random: only the records' places are held.

A TFRecord file is a row of `[uint64 length][uint32 crc of it][data][uint32 crc of the data]`, little-endian
(tensorflow/core/lib/io/record_writer.h), so the 12 bytes before each record's data tell where the next record begins.
The data are a serialised tf.train.Example, one of whose features is the encoded picture.
"""

from __future__ import annotations

import functools
import os
import re
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from resnet_tasks.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

_HEADER = struct.Struct("<QI")
_FOOTER_BYTES = 4
_THREADS = 16  # they wait for the disk or the network


@dataclass(frozen=True, eq=False)
class Records:
    """Some pictures of TFRecord files, in some order.

    Attributes:
        paths: The files; as long as this object is used, they stay as they are.
        places: int64 `(pictures, 2)`: which of the files, and the byte at which the picture's record begins there.
        feature: The name of the encoded picture in a record.
    """

    paths: tuple[str, ...]
    places: np.ndarray
    feature: str

    def __len__(self) -> int:
        return len(self.places)

    def subset(self, indices: Sequence[int]) -> Records:
        """Returns the pictures at `indices`, in that order."""
        return replace(self, places=self.places[np.asarray(indices, np.int64)])

    def read(self, index: int) -> bytes:
        """Returns the encoded picture at `index`; raises Unreadable if its record is damaged or holds none."""
        import tensorflow as tf

        from resnet_tasks.data import formats

        file, byte = self.places[index].tolist()
        try:
            return self._picture(tf.constant(self.paths[file]), tf.constant(byte, tf.int64)).numpy()
        except tf.errors.OpError as error:
            raise formats.Unreadable(f"{self.paths[file]}, at byte {byte}: {because(error)}") from None

    def table(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the paths and the places, for `fetch`."""
        import tensorflow as tf

        return tf.constant(self.paths, tf.string, (len(self.paths),)), tf.constant(self.places, tf.int64)

    def fetch(self, table: tuple[tf.Tensor, tf.Tensor], index: tf.Tensor) -> tf.Tensor:
        """Returns the encoded picture at `index`, in a graph; fails where `read` raises."""
        import tensorflow as tf

        paths, places = table
        place = tf.gather(places, index)
        return self._picture(tf.gather(paths, place[0]), place[1])

    def _picture(self, path: tf.Tensor, byte: tf.Tensor) -> tf.Tensor:
        """Reads one record, compares it with its checksum, and takes the picture out."""
        import tensorflow as tf

        # All of it by TensorFlow's operations: a pipeline that calls Python can keep a process from ending, since it
        # waits for the interpreter, which waits for the pipeline.  `tf.data.TFRecordDataset` has no offsets.
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[path], compression_type="", buffer_size=0, byte_offsets=[byte]
        )
        record = tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.string)).take(1).get_single_element()
        return tf.io.parse_single_example(record, {self.feature: tf.io.FixedLenFeature((), tf.string)})[self.feature]


def join(parts: Sequence[Records]) -> Records:
    """Puts pictures of several sets of files together; a picture's name in its record is the same in all."""
    starts = np.cumsum([0, *(len(part.paths) for part in parts)])
    places = [part.places + np.array([start, 0]) for part, start in zip(parts, starts, strict=False)]
    return replace(parts[0], paths=sum((part.paths for part in parts), ()), places=np.concatenate(places))


def index_files(paths: Sequence[str]) -> list[np.ndarray]:
    """`index_file` of each file, several at a time."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(index_file, paths))


def index_file(path: str) -> np.ndarray:
    """Finds the records of a TFRecord file by their headers; the data are passed by.

    Returns:
        int64 `(records,)`, the byte at which each record, with its header, begins.

    Raises:
        DataError: There is no such local file, it is cut off, or it is no TFRecord file (or a compressed one).
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return np.array(_begins(path, file.fileno()), np.int64)
    except OSError as error:
        remote = "; records are read at random from local files only: copy it" if "://" in path else ""
        raise DataError(f"{path}: {error.strerror}{remote}") from None


def because(error: tf.errors.OpError) -> str:
    """What TensorFlow says of a file, without the names of its own nodes."""
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", error.message.splitlines()[0])


def _begins(path: str, descriptor: int) -> list[int]:
    size, at, found = os.fstat(descriptor).st_size, 0, []
    again = "copy it again, or prepare the data set again"
    while at < size:
        header = os.pread(descriptor, _HEADER.size, at)
        if len(header) < _HEADER.size:
            raise DataError(f"{path} is cut off: at byte {at} a record begins, and the file ends at {size}; {again}")
        length, said = _HEADER.unpack(header)
        if _masked_crc32c(header[:8]) != said:
            raise DataError(
                f"{path}: expected a TFRecord at byte {at}, found something else (the length's checksum is wrong); "
                f"the file is damaged, compressed or of another kind: {again}"
            )
        end = at + _HEADER.size + length + _FOOTER_BYTES
        if end > size:
            raise DataError(
                f"{path} is cut off: the record at byte {at} goes to byte {end}, and the file ends at {size}; {again}"
            )
        found.append(at)
        at = end
    return found


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
    """The checksum of each byte: RFC 3720, appendix B.4, the polynomial 0x1EDC6F41 reflected."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord headers: CRC-32C, turned and shifted (tensorflow/core/lib/hash/crc32c.h)."""
    table, crc = _crc32c_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
