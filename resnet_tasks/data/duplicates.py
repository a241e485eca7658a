"""Pictures that show the same: pixel for pixel, or nearly so after another compression, size or brightness.

Near duplicates have difference hashes (64 signs of horizontal gradients of a 9 x 8 grey miniature) at most `NEAR_BITS`
bits apart, and, since small or smooth pictures share hashes by chance, miniatures of 16 x 16 that differ by at most
`NEAR_LEVELS` of 255 levels on average.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

NEAR_BITS = 7
NEAR_LEVELS = 10
_MINIATURE = 16
# Two hashes at most 7 bits apart differ by one bit at most in one of 4 bands of 16 bits.
_BANDS = 4
_FLIPS = (0, *(1 << bit for bit in range(16)))
_PAIRS = 1 << 20  # compared at a time


@dataclass(frozen=True)
class Print:
    """What is kept of a picture.

    Attributes:
        pixels: A digest of its size and pixels.
        bits: The difference hash.
        miniature: uint8 `(16, 16, 3)`.
        size_hw: Height and width.
    """

    pixels: bytes
    bits: int
    miniature: np.ndarray
    size_hw: tuple[int, int]


def take_print(image: np.ndarray) -> Print:
    """Takes the print of a decoded picture, uint8 `(height, width, 3)`."""
    digest = hashlib.sha256(str(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    picture = Image.fromarray(image)
    grey = np.asarray(picture.resize((9, 8), Image.Resampling.BOX).convert("L"), np.int16)
    signs = np.packbits(grey[:, 1:] > grey[:, :-1])
    return Print(
        pixels=digest.digest(),
        bits=int.from_bytes(signs.tobytes(), "big"),
        miniature=np.asarray(picture.resize((_MINIATURE, _MINIATURE), Image.Resampling.BOX)),
        size_hw=image.shape[:2],
    )


def exact(prints: list[Print]) -> list[list[int]]:
    """Returns the groups of places whose pictures are equal, each in order."""
    groups = defaultdict(list)
    for place, taken in enumerate(prints):
        groups[taken.pixels].append(place)
    return [group for group in groups.values() if len(group) > 1]


def near(prints: list[Print]) -> list[list[int]]:
    """Returns the groups of places whose pictures are nearly equal; of equal ones each group holds the first only.

    Pictures are joined in chains: the ends of a group may differ by more than its neighbours.
    """
    first = {}
    for place, taken in enumerate(prints):
        first.setdefault(taken.pixels, place)
    places = np.array(sorted(first.values()), np.int64)
    if len(places) < 2:
        return []
    bits = np.array([prints[place].bits for place in places], np.uint64)
    miniatures = np.stack([prints[place].miniature for place in places])
    joined = _Groups(len(places))
    for left, right in _alike(bits):
        apart = np.abs(miniatures[left].astype(np.int16) - miniatures[right]).mean(axis=(1, 2, 3))
        for one, other in zip(left[apart <= NEAR_LEVELS], right[apart <= NEAR_LEVELS], strict=True):
            joined.join(int(one), int(other))
    return [[int(places[member]) for member in group] for group in joined.groups()]


def _alike(bits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields pairs of places whose hashes are at most `NEAR_BITS` apart, some of them more than once.

    Only hashes alike in a band are compared.  Of many pictures with one and the same hash (blank pages) each is paired
    with the first, not with every other.
    """
    unique, first, inverse = np.unique(bits, return_index=True, return_inverse=True)
    others = np.flatnonzero(first[inverse] != np.arange(len(bits)))
    for start in range(0, len(others), _PAIRS // 64):
        some = others[start : start + _PAIRS // 64]
        yield first[inverse[some]], some
    bands = unique[:, None].view(np.uint16)  # (hashes, 4)
    for band in range(_BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        ordered = bands[order, band]
        for flip in _FLIPS:
            wanted = bands[:, band] ^ np.uint16(flip)
            for one, place in _ranges(
                np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right")
            ):
                other = order[place]
                apart = _POPCOUNT[bands[one] ^ bands[other]].sum(axis=1)
                is_near = (apart <= NEAR_BITS) & (one < other)
                yield first[one[is_near]], first[other[is_near]]


def _ranges(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields `(row, place)` for every place in `start[row]..stop[row]`, about `_PAIRS` at a time."""
    ends = np.cumsum(stop - start)
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] + _PAIRS, _PAIRS), "right")
    for low, high in itertools.pairwise(np.unique([0, *cuts, len(start)])):
        counts = stop[low:high] - start[low:high]
        row = np.repeat(np.arange(low, high), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        yield row, np.arange(len(row)) - before + start[row]


class _Groups:
    """Disjoint groups of 0..n-1 that grow together."""

    def __init__(self, count: int):
        self._parent = list(range(count))

    def join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._parent[max(one, other)] = min(one, other)

    def groups(self) -> list[list[int]]:
        members = defaultdict(list)
        for place in range(len(self._parent)):
            members[self._root(place)].append(place)
        return [group for group in members.values() if len(group) > 1]

    def _root(self, place: int) -> int:
        while self._parent[place] != place:
            self._parent[place] = self._parent[self._parent[place]]
            place = self._parent[place]
        return place


_POPCOUNT = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(
    axis=1, dtype=np.uint8
)
