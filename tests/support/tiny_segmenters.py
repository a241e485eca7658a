"""The three segmenters on a backbone of a few channels, and pictures of rectangles with their masks."""

import keras
import numpy as np
from keras import ops
from tiny_detectors import pictures as pictures_with_boxes
from tiny_detectors import pyramid

from resnet_tasks.data.masks import IGNORE
from resnet_tasks.segmentation import DeepLabV3Plus, SemanticFPN, UNet

NAMES = ("ground", "red", "green", "blue")
SMALL = {
    UNet: {"decoder_channels": [8, 8, 8, 8]},
    DeepLabV3Plus: {"channels": 8, "low_level_channels": 4},
    SemanticFPN: {"channels": 8, "head_channels": 8},
}
SEGMENTERS = tuple(SMALL)


def segmenter(kind, size=(64, 64), spread: float = 0.0, widths=(8,) * 4, **settings) -> keras.Model:
    """A small one, with the same weights in every process and on every backend.

    Args:
        kind: The class.
        size: Height and width of the pictures, `None` where they vary.
        spread: A deviation that is added to all weights, so that none is 0 or 1.
        widths: The backbone's, from C1 on.
        settings: Beside those of `SMALL`.
    """
    chosen = {"class_names": NAMES, "image_size": (64, 64), **SMALL[kind], **settings}
    model = kind(backbone=pyramid(size, widths), **chosen)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        value, shape = ops.convert_to_numpy(variable), tuple(variable.shape)
        if len(shape) > 1:
            value = random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        variable.assign(value + random.normal(0, 1, shape) * spread)
    return model


def pictures(count: int, side: int = 64, seed: int = 0, void: float = 0.1) -> tuple[np.ndarray, dict]:
    """Rectangles of three colours on grey noise, and which pixels they are.

    Args:
        count: How many.
        side: Height and width.
        seed: Of everything.
        void: The share of pixels, here and there, that are void in the mask.

    Returns:
        Images float32 `(count, side, side, 3)`, and targets: `mask` uint8 `(count, side, side)` and `weight`.
    """
    images, drawn = pictures_with_boxes(count, side=side, seed=seed)
    mask = np.zeros((count, side, side), np.uint8)
    for row in range(count):
        for (left, top, right, bottom), label in zip(drawn["boxes"][row].astype(int), drawn["labels"][row]):
            if label >= 0:
                mask[row, top:bottom, left:right] = label + 1
    mask[np.random.default_rng(seed + 1).random(mask.shape) < void] = IGNORE
    return images, {"mask": mask, "weight": np.ones(count, np.float32)}
