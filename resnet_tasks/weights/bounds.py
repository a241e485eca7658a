"""What every reader of a file of weights holds to: a claim in the file is checked before memory is spent on it."""

from collections.abc import Iterable
from math import prod

import numpy as np

# Deflate shrinks zeros a thousandfold, trained weights hardly at all.  What unpacks to a hundred times its file and is
# large besides is an attack or a broken header.
_MOST_TIMES, _ALWAYS_FINE = 100, 2**30


class Unreadable(Exception):
    """Why a file cannot be read, as a clause that follows its name."""


def check_unpacked(unpacked: int, file_size: int) -> None:
    """Refuses a file that claims to unpack to far more than it can hold.

    Args:
        unpacked: Bytes of all arrays together.
        file_size: Bytes of the file.
    """
    if unpacked > max(_ALWAYS_FINE, _MOST_TIMES * file_size):
        raise Unreadable(
            f"claims to unpack to {unpacked:,} bytes, and has {file_size:,}; it is damaged or made to harm"
        )


def counted(shape: Iterable) -> int:
    """The number of elements of a shape that a file states; refuses what is no shape."""
    sides = list(shape)
    if len(sides) > 32 or any(type(side) is not int or not 0 <= side < 2**48 for side in sides):
        raise Unreadable("states a shape that no array has")
    return prod(sides)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 of the same values; bfloat16 is its upper half, read as uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
