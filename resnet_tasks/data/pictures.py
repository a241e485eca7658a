"""Where a split's pixels come from: decoded anew each time, or kept decoded in memory or on disk."""

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet_tasks.data import decode
from resnet_tasks.data.examples import Split
from resnet_tasks.errors import UsageError

logger = logging.getLogger("resnet_tasks")

CACHES = ("off", "ram", "disk")


class Pictures:
    """Random access to the pixels of a split, in a graph.

    Args:
        split: The pictures.
        cache: "off" decodes at every reading; "ram" decodes once into memory; "disk" once into raw files.
        folder: Where "disk" makes a folder for its files, which goes away with the process: a few bytes more than
            height x width x 3 each.

    Attributes:
        may_fail: Whether `read` raises, in the graph, on a broken picture; kept pictures are told apart beforehand.

    Raises:
        UsageError: An unknown cache, or too little memory or disk for the pictures; the message has both sizes.
    """

    def __init__(self, split: Split, cache: str = "off", folder: Path | None = None):
        if cache not in CACHES:
            raise UsageError(f"data.cache: expected one of {', '.join(CACHES)}, got {cache!r}")
        self.split = split
        self._fetch = _fetcher(split)
        self.may_fail = True
        self._read = self._decoded
        if cache != "off":
            self._read = self._in_memory() if cache == "ram" else self._on_disk(folder)
            self.may_fail = False

    def read(self, index):
        """`(image (height, width, 3) uint8, readable bool)` of the picture at `index`, a scalar int64 tensor."""
        return self._read(index)

    def blank(self, index):
        """What stands for a picture that cannot be read."""
        return tf.zeros((1, 1, 3), tf.uint8), tf.constant(False)

    def all(self, indices: np.ndarray | None = None) -> tf.data.Dataset:
        """`(image, readable)` of all pictures, or of some, in order; a broken one is blank."""
        indices = np.arange(len(self.split)) if indices is None else indices
        places = tf.data.Dataset.from_tensor_slices(indices.astype(np.int64))
        if not self.may_fail:
            return places.map(self.read)
        return decode.map_or_blank(places, self._decoded, self.blank, parallel=os.cpu_count() or 1)

    def _decoded(self, index):
        return decode.decode(self._fetch(index)), tf.constant(True)

    def foreseen(self, sample: int = 64) -> int:
        """Bytes that the decoded split will take, from up to `sample` pictures spread over it."""
        chosen = np.unique(np.linspace(0, len(self.split) - 1, min(sample, len(self.split))).astype(np.int64))
        sizes = [image.size for image, _ in self.all(chosen).as_numpy_iterator()]
        return int(np.mean(sizes) * len(self.split))

    def _in_memory(self) -> Callable:
        wanted, free = self.foreseen(), free_memory()
        if wanted > 0.8 * free:
            raise UsageError(
                f"data.cache: the decoded split {self.split.name!r} takes about {wanted / 2**30:.1f} GiB and "
                f"{free / 2**30:.1f} GiB of memory are free; use --cache disk or --cache off"
            )
        self._say("in memory", wanted, free)
        images, readable = [], []
        for image, good in self.all().as_numpy_iterator():
            images.append(image)
            readable.append(good)
        sizes = tf.constant([image.shape[:2] for image in images], tf.int64)
        starts = tf.constant(np.cumsum([0] + [image.size for image in images[:-1]]), tf.int64)
        pixels = tf.constant(np.concatenate([image.ravel() for image in images]))
        readable = tf.constant(readable)
        alike = {image.shape for image in images}
        shape = alike.pop() if len(alike) == 1 else (None, None, 3)

        def read(index):
            size = sizes[index]
            image = tf.reshape(tf.slice(pixels, [starts[index]], [size[0] * size[1] * 3]), tf.concat([size, [3]], 0))
            return tf.ensure_shape(image, shape), readable[index]

        return read

    def _say(self, where: str, wanted: int, free: int) -> None:
        sizes = f"about {wanted / 2**20:.0f} MiB of {free / 2**20:.0f} MiB free"
        logger.info("split %s is kept decoded %s: %s", self.split.name, where, sizes)

    def _on_disk(self, folder: Path | None) -> Callable:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="resnet-tasks-cache-", dir=folder))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # data sets may outlive this object
        status = os.statvfs(folder)
        wanted, free = self.foreseen(), status.f_bavail * status.f_frsize
        if wanted > 0.9 * free:
            raise UsageError(
                f"data.cache: the decoded split {self.split.name!r} takes about {wanted / 2**30:.1f} GiB and "
                f"{folder} has {free / 2**30:.1f} GiB free; use --cache off"
            )
        self._say("on disk", wanted, free)
        for index, (image, good) in enumerate(self.all().as_numpy_iterator()):
            header = np.array([*image.shape[:2], good], "<i4").tobytes()
            (folder / str(index)).write_bytes(header + image.tobytes())

        def read(index):
            raw = tf.io.read_file(tf.strings.join([str(folder), "/", tf.strings.as_string(index)]))
            header = tf.io.decode_raw(tf.strings.substr(raw, 0, 12), tf.int32)
            image = tf.io.decode_raw(tf.strings.substr(raw, 12, -1), tf.uint8)
            return tf.reshape(image, tf.stack([header[0], header[1], 3])), header[2] > 0

        return read


def _fetcher(split: Split) -> Callable:
    table = split.table()
    return lambda index: split.fetch(table, index)


def free_memory() -> int:
    """Bytes of memory that can be had without swapping; a container's limit counts where it is lower."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            free = min(free, int(limit) - used)
    except (OSError, ValueError):
        pass
    return free
