"""Anchors and points: where on the canvas a detector's outputs stand.  NumPy: constants of a compiled step."""

from collections.abc import Mapping, Sequence

import numpy as np


def anchors(
    shapes: Mapping[str, tuple[int, int]],
    strides: Mapping[str, int],
    sizes: Mapping[str, Sequence[float]],
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
) -> np.ndarray:
    """The anchors of all levels in one table.  Ren et al. 2015, https://arxiv.org/abs/1506.01497, section 3.1.1.

    Args:
        shapes: Height and width of each level, `{"P3": (h, w), ...}`, finest first.
        strides: Pixels of the canvas between two cells, by level.
        sizes: Square roots of the anchors' areas in pixels, by level.  All levels have equally many.
        ratios: Heights over widths.

    Returns:
        float32 `(n, 4)`, xyxy in pixels of the canvas, around the middle of each cell and over the border as they
        come.  Levels in the order of `shapes`; in a level by y, then x; in a cell by ratio, and for each ratio by
        size: the order in which a convolution's output `(h, w, ratios x sizes x k)` is reshaped to `(n, k)`.
    """
    tables = []
    for level, shape in shapes.items():
        height = np.sqrt(np.asarray(ratios, np.float64))[:, None] * np.asarray(sizes[level], np.float64)
        width = np.asarray(sizes[level], np.float64) / np.sqrt(np.asarray(ratios, np.float64))[:, None]
        around = np.stack([-width, -height, width, height], axis=-1).reshape(-1, 4) / 2
        tables.append((np.tile(_centres(shape, strides[level]), 2)[:, None] + around).reshape(-1, 4))
    return np.concatenate(tables).astype(np.float32)


def points(shapes: Mapping[str, tuple[int, int]], strides: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """The middles of all cells, for a detector without anchors.

    Args:
        shapes: Height and width of each level, `{"P3": (h, w), ...}`, finest first.
        strides: Pixels of the canvas between two cells, by level.

    Returns:
        The middles, float32 `(n, 2)`, x and y in pixels of the canvas, levels in the order of `shapes`, in a level by
        y, then x; and the stride at each, float32 `(n,)`.
    """
    middles = [_centres(shape, strides[level]) for level, shape in shapes.items()]
    steps = [np.full(len(table), strides[level]) for level, table in zip(shapes, middles)]
    return np.concatenate(middles).astype(np.float32), np.concatenate(steps).astype(np.float32)


def _centres(shape: tuple[int, int], stride: int) -> np.ndarray:
    """`(h * w, 2)` middles of a level's cells, x and y in pixels, by y, then x."""
    y, x = ((np.arange(side) + 0.5) * stride for side in shape)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
