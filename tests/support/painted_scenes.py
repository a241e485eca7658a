"""Pictures painted from their masks, so that a pixel shows which class it is; and the task of segmentation on them."""

import io

import numpy as np
from PIL import Image
from tiny_detectors import pyramid

from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.data.masks import IGNORE, Masks, grey_png, read_grey
from resnet_tasks.data.placing import FILL
from resnet_tasks.segmentation.task import Segmentation, SegmentationSettings

NAMES = ("ground", "road", "car")
LEVELS = np.array([20, 200, 250], np.uint8)  # of red, by class; void is as the canvas around
SMALL = {"decoder_channels": [8] * 4}


def scene(seed: int = 0, size_hw=(64, 64), void: bool = True) -> np.ndarray:
    """A mask: ground, a road below, a car on it; a strip of void on the right."""
    random, (height, width) = np.random.default_rng(seed), size_hw
    mask = np.zeros(size_hw, np.uint8)
    mask[height // 2 + random.integers(-8, 8) :] = 1
    left = random.integers(8, width // 2)
    mask[height // 2 + 9 : height - 6, left : left + 16] = 2
    if void:
        mask[:, width - 8 :] = IGNORE
    return mask


def rows(*counts) -> list[np.ndarray]:
    """Masks of one row, of so many pixels of each class and of void: `(ground, road, car, void)` each."""
    ids = np.array([0, 1, 2, IGNORE], np.uint8)
    return [np.repeat(ids, count)[None] for count in counts]


def painted(mask: np.ndarray) -> np.ndarray:
    """The picture `(height, width, 3)` uint8 that a mask is of."""
    table = np.full(256, FILL, np.uint8)
    table[: len(LEVELS)] = LEVELS
    return np.stack([table[mask], np.zeros_like(mask), np.zeros_like(mask)], axis=-1)


def agreement(images: np.ndarray, masks: np.ndarray) -> float:
    """The share of pixels whose class is the one that is painted there."""
    red = images[..., :1].astype(int)
    nearest = np.abs(red - np.array([*LEVELS, FILL], int)).argmin(axis=-1)
    return float(np.mean(np.array([*range(len(LEVELS)), IGNORE])[nearest] == masks))


def png(image: np.ndarray) -> bytes:
    """A picture's file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def split_of(name: str, masks: list[np.ndarray], encoded=None, read=None) -> Split:
    """Pictures painted from their masks, or `encoded` ones, as a reader hands them over.

    With `read` the masks' entries are their numbers, which it turns into ids.
    """
    ids = tuple(f"{name}/{place}.png" for place in range(len(masks)))
    counts = [np.bincount(mask.ravel(), minlength=256) for mask in masks]
    pixels = np.array([[*count[: len(NAMES)], count[IGNORE]] for count in counts], np.int64)
    entries = tuple(range(len(masks))) if read else tuple(map(grey_png, masks))
    pictures = tuple(encoded or (png(painted(mask)) for mask in masks))
    kept = Masks(entries, read or read_grey, ids, plain=read is None)
    annotations = {"pixels": pixels, "present": pixels[:, :-1] > 0}
    return Split(name, ids, encoded=pictures, annotations=annotations, masks=kept)


def task(train: Split, val: Split | None = None, colors=(), **settings) -> Segmentation:
    """With a network of a few channels."""
    labels = LabelMap(NAMES, tuple(range(len(NAMES))), colors)
    chosen = {
        "head": SMALL,
        "image_size": (64, 64),
        "batch_size": 4,
        "evaluation_batch_size": 4,
        "backbone": lambda input_shape: pyramid(input_shape[:2], (8,) * 4),
        **settings,
    }
    source = Source("here", "masks", labels, {"train": train, "val": val or train})
    return Segmentation(source, SegmentationSettings(**chosen))
