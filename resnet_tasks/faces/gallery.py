"""A gallery: the faces that are known, in one file, and the exact search among them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from resnet_tasks.errors import DataError, ResnetTasksError, UsageError
from resnet_tasks.faces import gallery_file
from resnet_tasks.weights.bounds import Unreadable

SLACK = 1e-3  # by which a length may differ from 1: float16 rounds so
AT_ONCE = 1 << 24  # numbers that are looked at at a time
MOST_SCORES = 1 << 24  # similarities in memory at a time
LARGE = 1 << 22  # numbers from which a search is worth a thread for each core
RESIDENT = 3 << 29  # bytes of embeddings that stay in memory; those of a file beyond them come from it at each search


@dataclass(frozen=True, eq=False)
class Gallery:
    """Known faces.

    Attributes:
        embeddings: float32 `(faces, d)`, of unit length; one face at least.
        names: Whom each shows; a person may have several.
        files: The picture of each, as people know it.
        fingerprint: Of the model that made the embeddings; those of another cannot be compared with them.
        threshold: The model's, in -1..1: a face that is less similar to all of these is unknown.
        forget: Gives memory of embeddings that are mapped from a file back, see `gallery_file.read`; None of others.

    Raises:
        DataError: An embedding is not of unit length, or there is none.
        ValueError: The parts do not fit one another.
    """

    embeddings: np.ndarray
    names: Sequence[str]
    files: Sequence[str]
    fingerprint: str
    threshold: float
    forget: gallery_file.Forget | None = None

    def __post_init__(self):
        held = self.embeddings
        if held.ndim != 2 or held.dtype != np.float32:
            raise ValueError(f"embeddings are {held.dtype} {held.shape}; expected float32 (faces, d)")
        if not len(held) == len(self.names) == len(self.files):
            raise ValueError(f"{len(held)} embeddings, {len(self.names)} names and {len(self.files)} files")
        if not held.size:
            raise DataError("a gallery without a face; expected one at least")
        if not abs(self.threshold) <= 1 + SLACK:  # what accepts nobody lies above 1
            raise ValueError(f"the threshold is {self.threshold}; expected a cosine, in -1..1")
        for rows in self._blocks(0, len(held)):
            lengths = _lengths(held[rows])
            off = np.flatnonzero(~(np.abs(lengths - 1) <= SLACK))
            if len(off):
                file, length = self.files[rows.start + off[0]], lengths[off[0]]
                raise DataError(f"gallery: the embedding of {file} has the length {length:g}; expected 1")

    def __len__(self) -> int:
        return len(self.embeddings)

    @staticmethod
    def check_place(path: str | os.PathLike) -> None:
        """Raises UsageError unless a gallery may be written there: no file is replaced but a gallery."""
        path = Path(path)
        if path.is_dir():
            raise UsageError(f"{path} is a folder; expected the name of a file, which the gallery becomes")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent} to write the gallery to; make it first")
        if path.exists() and path.stat().st_size and not gallery_file.is_one(path):
            raise UsageError(
                f"{path} is there and is no gallery that can be read, so it is not replaced; name another file, or "
                "remove this one"
            )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file at exactly that path, aside first: if it breaks off, what was there before is there.

        Raises:
            UsageError: As `check_place`.
            ResnetTasksError: It could not be written, as on a full disk.
        """
        path = Path(path)
        self.check_place(path)
        parts = (self.embeddings, self.names, self.files, self.fingerprint, self.threshold)
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            gallery_file.write(aside, *parts)
            os.replace(aside, path)
        except OSError as error:
            raise ResnetTasksError(
                f"{path}: the gallery could not be written: {error}; nothing of it was kept"
            ) from error
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Gallery":
        """Reads the file, every byte of it checked; the embeddings are mapped from it, or in memory once.

        Raises:
            UsageError: There is no such file.
            DataError: It is torn, or no gallery.
        """
        path = Path(path)
        if not path.exists():
            raise UsageError(f"{path}: there is no such gallery; `resnet-tasks faces enroll` writes one")
        if path.is_dir():
            raise UsageError(
                f"{path} is a folder; expected the file of a gallery, as `resnet-tasks faces enroll` wrote it"
            )
        try:
            return cls(*gallery_file.read(path))
        except MemoryError as error:
            raise DataError(f"{path}: this gallery does not fit into memory") from error
        except Exception as error:  # a file can be damaged in every way that zipfile and numpy know
            why = error if isinstance(error, (Unreadable, DataError)) else f"it is torn or damaged ({error!r})"
            raise DataError(
                f"{path}: expected a gallery, as `resnet-tasks faces enroll` wrote it; {why}; enroll the pictures again"
            ) from error

    @classmethod
    def before(cls, path: str | os.PathLike, *, needed: bool) -> "Gallery | None":
        """The gallery that lies where another is to be written; None where there is none, or an empty file.

        Raises:
            DataError: It is torn and `needed`; else it is as if there were none.
        """
        path = Path(path)
        if not path.exists() or not path.stat().st_size:
            return None
        try:
            return cls.load(path)
        except DataError:
            if needed:
                raise
            return None

    @property
    def identities(self) -> int:
        """How many names it has."""
        return len(self._known)

    def extended(self, others: "Gallery") -> "Gallery":
        """These faces but for those whose file the others name too, and the others, with their threshold."""
        new = set(others.files)
        kept = np.array([file not in new for file in self.files])
        return Gallery(
            np.concatenate([self.embeddings[kept], others.embeddings]),
            (*(self.names[place] for place in np.flatnonzero(kept).tolist()), *others.names),
            (*(self.files[place] for place in np.flatnonzero(kept).tolist()), *others.files),
            others.fingerprint,
            others.threshold,
        )

    def check(self, fingerprint: str) -> None:
        """Raises DataError unless it is the fingerprint of the model that made this gallery."""
        if fingerprint != self.fingerprint:
            raise DataError(
                f"the gallery was made by another model ({self.fingerprint}; this one is {fingerprint}), and "
                "embeddings of two models cannot be compared; enroll the pictures with this model"
            )

    def search(self, queries: np.ndarray, k: int = 1, by_name: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The faces most similar to each query, the most similar first, of equal ones the first in the gallery.

        Nothing is approximated: one pass in float32 leaves those that its rounding cannot tell from the best, and they
        are compared in float64.  So an answer does not depend on the other queries.

        Args:
            queries: `(m, d)`, of unit length.
            k: How many; fewer come where there are no more.
            by_name: The best face of each of the `k` best names, in place of the `k` best faces.

        Returns:
            int64 `(m, k)` places in the gallery, and float32 `(m, k)` similarities in -1..1.

        Raises:
            DataError: The queries have another `d`, so they are another model's, or are not finite.
        """
        queries = np.asarray(queries, np.float32)
        width = self.embeddings.shape[1]
        if queries.ndim != 2 or queries.shape[1] != width:
            raise DataError(
                f"the gallery holds {width} numbers a face, and {queries.shape} came; expected (m, {width}), of the "
                "model that made it"
            )
        if not np.isfinite(queries).all():
            raise DataError("an embedding to look for in the gallery is not finite; the model is broken")
        k = min(k, len(self._known) if by_name else len(self))
        places = np.empty((len(queries), k), np.int64)
        similarities = np.empty((len(queries), k), np.float32)
        step = max(1, MOST_SCORES // len(self))
        for start in range(0, len(queries), step):
            rows = queries[start : start + step]
            for row, scores in enumerate(self._scores(rows), start):
                places[row], similarities[row] = self._best(queries[row], scores, k, by_name)
        return places, similarities

    def _scores(self, queries: np.ndarray) -> np.ndarray:
        """float32 `(m, faces)`: similarities with float32's rounding."""
        scores = np.empty((len(queries), len(self)), np.float32)

        def score(start: int, stop: int) -> None:
            for rows in self._blocks(start, stop):
                scores[:, rows] = (self.embeddings[rows] @ (queries[0] if len(queries) == 1 else queries.T)).T

        # BLAS shares the product of two matrices among the cores and leaves that with one vector to one core.
        if len(queries) > 1 or self.embeddings.size < LARGE:
            score(0, len(self))
            return scores
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        bounds = np.linspace(0, len(self), cores + 1).astype(int).tolist()
        with ThreadPoolExecutor(cores) as threads:
            for _ in threads.map(score, bounds[:-1], bounds[1:]):
                pass  # what went wrong in a thread is raised here
        return scores

    def _blocks(self, start: int, stop: int) -> Iterator[slice]:
        """The faces from `start` to `stop`, some at a time, whose memory is then given back, but for `RESIDENT`."""
        step = max(1, AT_ONCE // max(1, self.embeddings.shape[1]))
        for first in range(start, stop, step):
            rows = slice(first, min(first + step, stop))
            yield rows
            if self.forget is not None:
                begin, end = (row * self.embeddings.strides[0] for row in (rows.start, rows.stop))
                if end > RESIDENT:
                    self.forget(max(begin, RESIDENT), end)

    def _best(self, query: np.ndarray, scores: np.ndarray, k: int, by_name: bool) -> tuple[np.ndarray, np.ndarray]:
        """Places and similarities `(k,)` of one query, from its rounded similarities `(faces,)`."""
        if not by_name:
            return self._ordered(query, scores, k)
        looked = k
        while True:
            places, similarities = self._ordered(query, scores, looked)
            first = {self.names[place]: row for row, place in reversed(list(enumerate(places.tolist())))}
            if len(first) >= k or looked == len(self):
                rows = sorted(first.values())[:k]
                return places[rows], similarities[rows]
            looked = min(4 * looked, len(self))

    def _ordered(self, query: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The `k` best of all faces, from their rounded similarities.

        A sum of d products, in whatever order, is rounded by at most d u / (1 - d u) times the product of the lengths,
        u = 2^-24 (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1).  So what is among the
        best k lies at most twice that below the k-th of the rounded ones.
        """
        rounding = len(query) * 2.0**-24
        error = rounding / (1 - rounding) * float(np.linalg.norm(query)) * (1 + SLACK)
        least = float(np.partition(scores, len(scores) - k)[len(scores) - k])
        close = np.flatnonzero(scores >= np.nextafter(np.float32(least - 2 * error), np.float32(-np.inf)))
        exact = np.concatenate([(part * query.astype(np.float64)).sum(axis=1) for part in self._rows(close)])
        order = np.argsort(-exact, kind="stable")[:k]
        return close[order], np.clip(exact[order], -1.0, 1.0).astype(np.float32)

    def _rows(self, places: np.ndarray) -> Iterable[np.ndarray]:
        """Embeddings at `places` as float64, some at a time."""
        step = max(1, AT_ONCE // self.embeddings.shape[1] // 8)
        return (
            self.embeddings[places[start : start + step]].astype(np.float64) for start in range(0, len(places), step)
        )

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)


def _lengths(embeddings: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings))
