"""Where the records of a data set lie and what their labels are: found once, and kept in the user's cache folder.

The folder is `$RESNET_TASKS_HOME`, without it `~/.cache/resnet_tasks`; where it cannot be written, everything is found
anew at each start.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_tasks.data import records
from resnet_tasks.errors import DataError

logger = logging.getLogger("resnet_tasks")

_KIND = "places and labels 1"  # of the files that are kept; another one when what they hold changes
_BATCH_BYTES = 16 << 20  # of records parsed together
_DISK_SPEED = 200e6  # bytes a second, a hard disk's, for the estimate that is told


@dataclass(frozen=True)
class Index:
    """What is known of the records of a list of files, one file after the other.

    Attributes:
        places: int64 `(records, 2)`: which of the files, and the byte at which the record begins there.
        labels: int32 `(records,)`.
    """

    places: np.ndarray
    labels: np.ndarray


def of_tfrecords(where: str, paths: Sequence[str], label: str) -> Index:
    """Finds the records of TFRecord files, and their labels, which takes one passage through all bytes.

    Args:
        where: What the user named, for messages.
        paths: The files, in order.
        label: The name of the label, an integer, in a record.

    Raises:
        DataError: A file is not there, cut off or damaged, or a record has no such label.
    """

    def found() -> Index:
        begins = records.index_files(paths)
        _say(where, sum(map(len, begins)), sum(map(os.path.getsize, paths)))
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            labels = list(threads.map(lambda path, of_file: _labels(path, len(of_file), label), paths, begins))
        files = np.repeat(np.arange(len(paths)), [len(of_file) for of_file in begins])
        return Index(np.stack([files, np.concatenate(begins)], axis=1), np.concatenate(labels))

    return _kept_or(found, paths, label)


def _say(where: str, count: int, size: int) -> None:
    """Tells before it begins what may take long."""
    seconds = size / _DISK_SPEED
    takes = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
    logger.info(
        "%s: the labels of %d records are looked up, once, in all %.1f GiB of them; from a disk of 200 MB a second "
        "that takes about %s",
        *(where, count, size / 2**30, takes),
    )


def _labels(path: str, count: int, label: str) -> np.ndarray:
    """The labels of one file's records; TensorFlow compares every record with its checksum on the way."""
    import tensorflow as tf

    together = int(np.clip(_BATCH_BYTES * count // max(1, os.path.getsize(path)), 1, 1024))
    spec, found = {label: tf.io.FixedLenFeature((), tf.int64)}, [np.zeros(0, np.int32)]
    try:
        for batch in tf.data.TFRecordDataset(path, buffer_size=8 << 20).batch(together):
            found.append(tf.io.parse_example(batch, spec)[label].numpy().astype(np.int32))
    except tf.errors.OpError as error:
        raise DataError(f"{path}: {records.because(error)}; copy it again, or prepare the data set again") from None
    return np.concatenate(found)


def _kept_or(found: Callable[[], Index], paths: Sequence[str], label: str) -> Index:
    """The index that was kept for these files, if they are still as they were; else what `found` finds, kept."""
    files = [os.path.abspath(path) for path in paths]
    try:
        states = np.array([(state.st_size, state.st_mtime_ns) for state in map(os.stat, files)], np.int64)
    except OSError:
        return found()  # which says what is missing
    name = hashlib.sha256("\n".join((_KIND, label, *files)).encode()).hexdigest()[:24] + ".npz"
    try:
        kept = Path(os.environ.get("RESNET_TASKS_HOME") or "~/.cache/resnet_tasks").expanduser() / "records" / name
    except RuntimeError:  # a user without a home
        return found()
    index = _load(kept, states)
    if index is None:
        begin = time.monotonic()
        index = found()
        _keep(kept, states, index)
        logger.debug("%s holds what was found in %.1f s", kept, time.monotonic() - begin)
    return index


def _load(kept: Path, states: np.ndarray) -> Index | None:
    try:
        with np.load(kept) as arrays:
            if np.array_equal(arrays["states"], states):
                return Index(arrays["places"], arrays["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # there is none, or half of one
    return None


def _keep(kept: Path, states: np.ndarray, index: Index) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".part", delete=False) as file:
            try:
                np.savez(file, states=states, places=index.places, labels=index.labels)
                file.close()
                os.replace(file.name, kept)  # at once: other processes may be reading it
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        logger.info("what was found is looked up again at the next start: %s cannot be written (%s)", kept, error)
