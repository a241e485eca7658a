"""Scenes of handwritten digits: canvases on which every pixel of ink, and so every box and mask, is known exactly."""

import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from resnet_tasks.data.readers import digits, splits

# Height and width; three shapes, so that a fixed canvas of training is not always filled.
_SIZES = ((128, 128), (128, 128), (96, 160), (160, 96))
_FEWEST, _MOST = 3, 8  # digits on a canvas
_SMALLEST, _LARGEST = 16, 44  # pixels that the eight cells of a digit's side are enlarged to
_EMPTY_EVERY = 12
_SHARED = 0.05  # of the smaller of two boxes may lie in the other; so their IoU is no more than that
_PLACES = 30  # tried before a digit is made smaller
_Digit = tuple[np.ndarray, int]  # its 8 x 8 cells, ink in 0..255, and its value


@dataclass(frozen=True, eq=False)
class Scene:
    """One canvas.

    Attributes:
        pixels: uint8 `(height, width, 3)`, RGB.
        owner: uint8 `(height, width)`: 0 is background, `n` the visible ink of the n-th digit, where its opacity is at
            least one half. No two digits have a pixel in common, faint ones included.
        labels: int32 `(digits,)`, each digit's value, 0 to 9.
        boxes: float64 `(digits, 4)`, xyxy in pixels: exactly the extent of each digit's visible ink.
    """

    pixels: np.ndarray
    owner: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """uint8 `(height, width)`: 0 is background, 1 to 10 the visible ink of the digits 0 to 9."""
        return np.concatenate([[0], self.labels + 1]).astype(np.uint8)[self.owner]

    def png(self) -> bytes:
        """Returns the pixels as the bytes of a PNG file."""
        stream = io.BytesIO()
        Image.fromarray(self.pixels).save(stream, "PNG", compress_level=1)
        return stream.getvalue()


def scenes(split: str, count: int, seed: int) -> list[Scene]:
    """Draws canvases from the digits of one split of `digits.read(split_seed=seed)` alone.

    Of every twelve canvases the last is empty; the others hold three to eight digits. The first of them are the same
    whatever `count` is.

    Args:
        split: "train", "val" or "test".
        count: Canvases.
        seed: `data.split_seed`; the digits' split and the drawing follow from it.
    """
    random = np.random.default_rng([seed, splits.NAMES.index(split)])
    deck = _deck(random, _digits(seed)[split])
    made = []
    for number in range(1, count + 1):
        many = 0 if number % _EMPTY_EVERY == 0 else int(random.integers(_FEWEST, _MOST + 1))
        made.append(_scene(random, [next(deck) for _ in range(many)]))
    return made


@functools.lru_cache(maxsize=1)  # three splits, one after the other
def _digits(seed: int) -> dict[str, list[_Digit]]:
    return {
        name: [
            (np.asarray(Image.open(io.BytesIO(split.read(place)))), label)
            for place, label in enumerate(split.annotations["label"].tolist())
        ]
        for name, split in digits.read(split_seed=seed).splits.items()
    }


def _deck(random: np.random.Generator, cards: Sequence[_Digit]) -> Iterator[_Digit]:
    """Deals all digits in a random order before any comes again."""
    while True:
        for place in random.permutation(len(cards)):
            yield cards[place]


def _scene(random: np.random.Generator, cards: Sequence[_Digit]) -> Scene:
    height, width = _SIZES[random.integers(len(_SIZES))]
    pixels, darker = _background(random, height, width)
    owner, touched = np.zeros((height, width), np.uint8), np.zeros((height, width), bool)
    labels, boxes = [], np.zeros((0, 4))
    for shape, label in cards:
        placed = _place(random, shape, touched, boxes)
        if placed is None:
            continue
        alpha, window, box = placed
        pixels[window] += alpha[..., None] * (_ink(random, darker) - pixels[window])
        touched[window] |= alpha > 0
        labels.append(label)
        owner[window][alpha >= 0.5] = len(labels)
        boxes = np.concatenate([boxes, box[None]])
    return Scene(np.round(pixels).astype(np.uint8), owner, np.array(labels, np.int32), boxes)


def _place(
    random: np.random.Generator, shape: np.ndarray, touched: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, tuple[slice, slice], np.ndarray] | None:
    """Enlarges a digit and finds it a free place: its opacity, where on the canvas that lies, and the ink's box."""
    largest = _LARGEST
    while True:
        side = int(random.integers(_SMALLEST, largest + 1))
        alpha = _enlarged(shape, side)
        height, width = alpha.shape
        extent = _extent(alpha >= 0.5)
        for _ in range(_PLACES):
            top = int(random.integers(touched.shape[0] - height + 1))
            left = int(random.integers(touched.shape[1] - width + 1))
            window = slice(top, top + height), slice(left, left + width)
            box = extent + np.array([left, top, left, top])
            if not (touched[window] & (alpha > 0)).any() and _apart(box, boxes):
                return alpha, window, box
        if largest == _SMALLEST:
            return None
        largest = max(_SMALLEST, side * 3 // 4)


def _enlarged(shape: np.ndarray, side: int) -> np.ndarray:
    """Returns a digit's opacity in 0..1 with its eight cells as `side` pixels, cut to where there is any.

    The cells count ink in squares of 4 x 4 (0..255 here), so half of the most is where a stroke's edge was: bicubic
    enlargement and a steep ramp through one half give a smooth stroke with an edge of a pixel or two.
    """
    padded = np.pad(shape, 1)  # strokes at the digit's border end there too
    size = round(side * 10 / 8)
    smooth = np.asarray(Image.fromarray(padded).resize((size, size), Image.Resampling.BICUBIC), np.float64)
    alpha = np.clip((smooth / 255 - 0.5) * (side / 10) + 0.5, 0, 1)
    left, top, right, bottom = _extent(alpha > 0).astype(int)
    return alpha[top:bottom, left:right]


def _extent(ink: np.ndarray) -> np.ndarray:
    """Returns the box, xyxy, of the pixels that are set."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def _apart(box: np.ndarray, boxes: np.ndarray) -> bool:
    sides = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None)
    smaller = np.minimum(np.prod(box[2:] - box[:2]), np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    return bool((np.prod(sides, axis=1) <= _SHARED * smaller).all())


def _background(random: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, bool]:
    """Returns float64 RGB of soft clouds, light or dark, and whether ink must be darker to be seen."""
    light = bool(random.integers(2))
    colour = random.uniform(150, 230, 3) if light else random.uniform(20, 100, 3)
    clouds = np.clip(colour + random.uniform(-25, 25, (4, 4, 3)), 0, 255).astype(np.uint8)
    smooth = Image.fromarray(clouds).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.integers(-4, 5, (height, width, 1))
    return np.clip(np.asarray(smooth, np.float64) + grain, 0, 255), light


def _ink(random: np.random.Generator, darker: bool) -> np.ndarray:
    """Returns a random colour that stands out: some 50 levels of grey and more from the backgrounds of its kind."""
    while True:
        colour = random.uniform(0, 255, 3)
        grey = colour @ (0.299, 0.587, 0.114)
        if grey < 70 if darker else grey > 185:
            return colour
