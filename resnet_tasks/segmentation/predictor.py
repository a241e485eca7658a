"""From a picture to its mask: the one preparation and the one answer of evaluation, `predict` and the artefact."""

import io
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks.data.drawing_masks import legend, overlay, palette_of
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.masks import grey_png
from resnet_tasks.data.placing import letterbox, seen_range
from resnet_tasks.segmentation import tiles
from resnet_tasks.segmentation.segmenter import Segmenter
from resnet_tasks.task import Predictor, largest_difference

AT_ONCE = 8  # classes whose logits are brought to a picture's size together: of 12 megapixels those of all may be 10 GB
MOST_NAMED = 12  # classes in the legend of a drawing
GAP = 8  # pixels between truth and answer


def prepare(image, size_hw: tuple[int, int]) -> dict:
    """One picture on its canvas, and how to come back: `scale` float32, and `size`, its height and width, int32."""
    canvas, scale = letterbox(image, size_hw)
    return {"image": canvas, "scale": scale, "size": tf.shape(image)[:2]}


class SegmentationPredictor(Predictor):
    """Answers `mask_png_bytes` `(batch,)`: a grey PNG of ids, as large as each picture given."""

    def __init__(self, model: Segmenter):
        self.model = model

    def prepare(self, image) -> dict:
        return prepare(image, self.model.image_size)

    def canvas(self) -> dict:
        return {
            "image": tf.TensorSpec((*self.model.image_size, 3), tf.uint8),
            "scale": tf.TensorSpec((), tf.float32),
            "size": tf.TensorSpec((2,), tf.int32),
        }

    def answer(self, batch: dict) -> dict:
        def encoded(row):
            return tf.io.encode_png(self._mask(row)[..., None], compression=1)

        return {"mask_png_bytes": tf.map_fn(encoded, self._rows(batch), fn_output_signature=tf.string)}

    def answer_alike(self, batch: dict) -> dict:
        """`mask` `(batch, height, width)` uint8 for pictures of one size."""
        spec = tf.TensorSpec((None, None), tf.uint8)
        return {"mask": tf.map_fn(self._mask, self._rows(batch), fn_output_signature=spec)}

    def scores(self, images):
        """Probabilities `(batch, height, width, classes)` float32 of windows `(batch, height, width, 3)` uint8.

        The windows are as large as the model's canvas.
        """
        return tf.nn.softmax(self._logits(images), axis=-1)

    def blank(self, answers: dict, readable) -> dict:
        return {"mask_png_bytes": tf.where(readable, answers["mask_png_bytes"], "")}

    def describe(self, answers: dict, row: int, threshold: float | None = None) -> dict:
        return describe(self.model.class_names, answers, row, threshold)

    def differences(self, expected: dict, got: dict, sides: np.ndarray) -> dict[str, float]:
        return differences(expected, got, sides)

    def _rows(self, batch: dict) -> tuple:
        return self._logits(batch["image"]), batch["scale"], batch["size"]

    def _mask(self, row: tuple):
        logits, scale, size = row
        return mask_of(logits, scale, size, self.model.image_size)

    def _logits(self, images):
        outputs = self.model(tf.cast(images, keras.config.floatx()), training=False)
        return tf.cast(outputs["logits"], tf.float32)


def mask_of(logits, scale, size, canvas_hw: tuple[int, int]):
    """The ids of a picture, uint8 `size`, from its canvas's logits.

    The canvas's pixels that show the picture are resampled to the picture's own, and the best class of each is taken.
    """
    seen = seen_range(tf.cast(size, tf.float32), tf.constant(canvas_hw), scale, tf.zeros([2]))[1]
    rows, columns = tf.unstack(tf.cast(tf.maximum(seen, 1.0), tf.int32))
    # The picture may reach half a pixel over the last centre that shows it, where the resampling would find nothing.
    shown = tf.pad(logits[:rows, :columns], [[0, 1], [0, 1], [0, 0]], "SYMMETRIC")
    best, ids = None, None
    for first in range(0, logits.shape[-1], AT_ONCE):
        part = tf.raw_ops.ScaleAndTranslate(
            images=shown[None, ..., first : first + AT_ONCE],
            size=size,
            scale=tf.stack([1.0 / scale, 1.0 / scale]),
            translation=tf.zeros([2]),
            kernel_type="triangle",
            antialias=True,
        )[0]
        value, place = tf.reduce_max(part, -1), tf.argmax(part, -1, tf.int32) + first
        ids = place if best is None else tf.where(value > best, place, ids)
        best = value if best is None else tf.maximum(value, best)
    return tf.cast(ids, tf.uint8)


def decoded(png: bytes) -> np.ndarray:
    """The ids of an answer, uint8 `(height, width)`."""
    return np.asarray(Image.open(io.BytesIO(png)))


def describe(class_names: Sequence[str], answers: dict, row: int, threshold: float | None = None) -> dict:
    """One row: the `mask` as an array, and the classes on it by `shares` of the picture, largest first.

    A class whose share is less than `threshold` is not named; the mask keeps it.
    """
    png = answers["mask_png_bytes"][row]
    return summarised(class_names, decoded(png), threshold)


def summarised(class_names: Sequence[str], mask: np.ndarray, threshold: float | None = None) -> dict:
    """`mask` uint8 `(height, width)` with what `describe` says of it."""
    shares = np.bincount(mask.ravel(), minlength=len(class_names)) / mask.size
    largest_first = np.argsort(-shares, kind="stable").tolist()
    order = [label for label in largest_first if shares[label] > 0 and shares[label] >= (threshold or 0.0)]
    return {
        "mask": mask,
        "label_ids": order,
        "label_names": [class_names[label] for label in order],
        "shares": [float(shares[label]) for label in order],
    }


def differences(expected: dict, got: dict, sides: np.ndarray) -> dict[str, float]:
    """The largest share of a picture's pixels that differ between two answers; 1 where the sizes do."""
    found = {}
    for name in ("mask_png_bytes", "mask"):
        if name in expected:
            pairs = zip(expected[name], got[name], strict=True)
            found[name] = max((_apart(one, other) for one, other in pairs), default=0.0)
    rest = {name: value for name, value in expected.items() if name == "readable"}
    return {**found, **largest_difference(rest, got)}


def _apart(one, other) -> float:
    if isinstance(one, bytes):
        if not one or not other:
            return float(one != other)
        one, other = decoded(one), decoded(other)
    return float(np.mean(one != other)) if one.shape == other.shape else 1.0


def draw(
    image: np.ndarray, prediction: dict, labels: LabelMap | None = None, truth: np.ndarray | None = None
) -> Image.Image:
    """The picture `(height, width, 3)` uint8 with its mask over it; with a truth, that beside it on the left.

    Args:
        image: RGB.
        prediction: As `describe` words it.
        labels: Of the model: the classes' names and colours.
        truth: Ids `(height, width)` of a picture that was annotated; `IGNORE` is void.
    """
    mask = prediction["mask"]
    if labels is None:
        names = dict(zip(prediction["label_ids"], prediction["label_names"]))
        labels = LabelMap(tuple(names.get(label, f"class {label}") for label in range(1 + int(mask.max(initial=0)))))
    palette = palette_of(labels)
    masks = [mask] if truth is None else [truth, mask]
    shown = [overlay(image, each, palette) for each in masks]
    counts = np.bincount(np.concatenate([each.ravel() for each in masks]), minlength=256)[: len(labels)]
    named = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]][:MOST_NAMED]
    strip = legend([labels.names[label] for label in named], [palette[label] for label in named])
    width = max(sum(part.width for part in shown) + GAP * (len(shown) - 1), strip.width)
    sheet = Image.new("RGB", (width, shown[0].height + strip.height), "white")
    for place, part in enumerate(shown):
        sheet.paste(part, (place * (part.width + GAP), 0))
    sheet.paste(strip, (0, shown[0].height))
    return sheet


def tiled(image: np.ndarray, tile_hw: tuple[int, int], scores: Callable) -> dict:
    """One picture's answer from overlapping windows of the model's canvas; `scores` as `SegmentationPredictor.scores`.

    Returns:
        Answers for a batch of this one picture.
    """
    return {"mask_png_bytes": [grey_png(tiles.tiled(image, tile_hw, scores))]}
