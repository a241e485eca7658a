"""Pictures larger than a segmenter's canvas: answered in overlapping windows, blended where these overlap.

A window has the canvas's size, so in it things are seen at the picture's own resolution.  Near an inner border a window
knows least of what surrounds a pixel; so its share in the answer falls smoothly to nothing there.
"""

from collections.abc import Callable

import numpy as np

from resnet_tasks.geometry.windows import along

FILL = 114  # of a window that is smaller than the canvas; as of the letterbox, `data.placing`
AT_ONCE = 4  # windows whose scores are in memory together


def tiled(image: np.ndarray, tile_hw: tuple[int, int], scores: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """One picture's mask at its own size, from its windows' scores: ids uint8 `(height, width)`.

    The scores of a pixel are the mean of those of all windows that show it, by weights that sum to one (see `shares`).
    Only those of one row of windows are in memory, float32 `(tile height, picture's width, classes)`; rows of pixels
    that no later window shows are decided and forgotten.

    Args:
        image: `(height, width, 3)` uint8.
        tile_hw: The windows' height and width: the model's canvas.
        scores: Gives `(n, *tile_hw, classes)` float, probabilities or other scores that may be averaged, for windows
            `(n, *tile_hw, 3)` uint8.  What a picture leaves free of a window, at the bottom and on the right, is 114.
    """
    height, width = image.shape[:2]
    (tops, tall), (lefts, wide) = (along(*lengths) for lengths in zip((height, width), tile_hw))
    of_rows, of_columns = shares(height, tops, tall), shares(width, lefts, wide)
    ids = np.zeros((height, width), np.uint8)
    band = None  # the sums of the rows from this row of windows' top on
    for row, top in enumerate(tops):
        for start in range(0, len(lefts), AT_ONCE):
            chosen = lefts[start : start + AT_ONCE]
            parts = [image[top : top + tall, left : left + wide] for left in chosen]
            answers = np.asarray(scores(_as_large(parts, tile_hw)))
            if band is None:
                band = np.zeros((tall, width, answers.shape[-1]), np.float32)
            for column, (left, answer) in enumerate(zip(chosen, answers), start):
                weight = of_rows[row][:, None] * of_columns[column]
                band[:, left : left + wide] += weight[..., None] * answer[:tall, :wide]
        assert band is not None
        decided = (tops[row + 1] if row + 1 < len(tops) else height) - top
        ids[top : top + decided] = np.argmax(band[:decided], axis=-1)
        band[: tall - decided] = band[decided:]
        band[tall - decided :] = 0
    return ids


def shares(length: int, starts: list[int], tile: int) -> np.ndarray:
    """The weights of windows along one side of a picture, float32 `(windows, tile)`; over each pixel they sum to one.

    A window's weight is one in its middle, and beyond it as far as the picture's border; towards a border inside of the
    picture it falls to nothing like a squared sine.  They are then divided by their sum.

    Args:
        length: The picture's.
        starts: Where the windows begin.
        tile: Their length.
    """
    near = np.sin(np.pi / 2 * np.minimum(1.0, (np.arange(tile) + 0.5) / (tile / 2))) ** 2
    weights, sums = np.ones((len(starts), tile)), np.zeros(length)
    for weight, start in zip(weights, starts):
        if start > 0:
            weight *= near
        if start + tile < length:
            weight *= near[::-1]
        sums[start : start + tile] += weight
    for weight, start in zip(weights, starts):
        weight /= sums[start : start + tile]
    return weights.astype(np.float32)


def _as_large(parts: list[np.ndarray], tile_hw: tuple[int, int]) -> np.ndarray:
    """Windows of one size, uint8 `(n, *tile_hw, 3)`, each at the top left of its canvas."""
    canvases = np.full((len(parts), *tile_hw, 3), FILL, np.uint8)
    for canvas, part in zip(canvases, parts):
        canvas[: part.shape[0], : part.shape[1]] = part
    return canvases
