"""Windows over pictures that are larger than a model's canvas."""

import math

import numpy as np

# Neighbouring windows share a fifth of their side, or more: what is no larger than that is seen whole in one of them,
# and what is larger still has a twentieth of the canvas's side in a whole picture four times as large.  Sharing half
# would take 2.6 times as many windows.
SHARED_PARTS = 5


def windows(size_hw: tuple[int, int], tile_hw: tuple[int, int]) -> np.ndarray:
    """int64 `(n, 4)` xyxy: windows of `tile_hw` that cover a picture of `size_hw`, row by row.

    None reaches beyond the picture: along a side that is shorter than the tile's a window is as long as that.  The
    first and the last lie flush with the borders, those between are spread evenly.
    """
    (tops, height), (lefts, width) = (along(*lengths) for lengths in zip(size_hw, tile_hw))
    return np.array([(left, top, left + width, top + height) for top in tops for left in lefts], np.int64)


def along(length: int, tile: int) -> tuple[list[int], int]:
    """Where the windows along one side begin, and how long they are."""
    if length <= tile:
        return [0], length
    apart = max(1, tile - -(-tile // SHARED_PARTS))
    steps = math.ceil((length - tile) / apart)
    return [step * (length - tile) // steps for step in range(steps + 1)], tile
