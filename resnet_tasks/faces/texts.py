"""Many short texts in little memory: their bytes and eight more for each, where Python's `str` takes fifty more."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

CODE = "utf-8", "surrogateescape"  # which keeps a file's name that is no UTF-8, and reads whatever bytes there are


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Texts, as two arrays.

    Attributes:
        utf8: uint8 `(bytes,)`: all of them, one behind the other.
        ends: int64 `(texts,)`: where each ends.

    Raises:
        ValueError: The ends do not fit the bytes.
    """

    utf8: np.ndarray
    ends: np.ndarray

    def __post_init__(self):
        steps = np.diff(self.ends, prepend=0)
        if (steps < 0).any() or steps.sum() != len(self.utf8):
            raise ValueError(f"the texts do not end where their {len(self.utf8)} bytes do")

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        encoded = [text.encode(*CODE) for text in texts]
        return cls(
            np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([len(text) for text in encoded], dtype=np.int64)
        )

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place):
        places = range(len(self))[place]
        if isinstance(place, slice):
            return tuple(self[one] for one in places)
        start = self.ends[places - 1] if places else 0
        return self.utf8[start : self.ends[places]].tobytes().decode(*CODE)
