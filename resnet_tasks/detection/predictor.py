"""From a picture to its boxes: the one preparation and the one answer of evaluation, `predict` and the artefact."""

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks.data.drawing import class_colors, draw_boxes, sized_to_draw
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.placing import letterbox
from resnet_tasks.detection.detector import Detector
from resnet_tasks.task import Predictor, largest_difference


def prepare(image, size_hw: tuple[int, int]) -> dict:
    """One picture on its canvas, and how to come back: `scale`, and `size`, its height and width, float32."""
    canvas, scale = letterbox(image, size_hw)
    return {"image": canvas, "scale": scale, "size": tf.cast(tf.shape(image)[:2], tf.float32)}


class DetectionPredictor(Predictor):
    """Answers `boxes` `(batch, 100, 4)` xyxy in pixels of each picture given, `scores`, `label_ids` and `count`.

    Best first, down to the model's floor; behind the last box zeros, and -1 as its label.  `count` `(batch,)` boxes
    reach the model's threshold.
    """

    def __init__(self, model: Detector):
        self.model = model

    def prepare(self, image) -> dict:
        return prepare(image, self.model.image_size)

    def canvas(self) -> dict:
        return {
            "image": tf.TensorSpec((*self.model.image_size, 3), tf.uint8),
            "scale": tf.TensorSpec((), tf.float32),
            "size": tf.TensorSpec((2,), tf.float32),
        }

    def answer(self, batch: dict) -> dict:
        model = self.model
        images = tf.cast(batch["image"], keras.config.floatx())
        boxes, scores = (tf.cast(part, tf.float32) for part in model.candidates(model(images, training=False)))
        # To pixels of the picture, and into it, before the better of two boxes is chosen.
        right_bottom = tf.reverse(batch["size"], [1])[:, None, None]  # width, height
        boxes = boxes / batch["scale"][:, None, None, None]
        boxes = tf.minimum(tf.maximum(boxes, 0.0), tf.concat([right_bottom, right_bottom], axis=-1))
        has_area = tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1)
        best = tf.image.combined_non_max_suppression(
            boxes,
            tf.where(has_area, scores, 0.0),
            max_output_size_per_class=model.most,
            max_total_size=model.most,
            iou_threshold=model.overlap,
            score_threshold=model.floor,
            clip_boxes=False,
        )
        real = tf.range(model.most) < best.valid_detections[:, None]
        kept = tf.where(real, best.nmsed_scores, 0.0)
        return {
            "boxes": tf.where(real[..., None], best.nmsed_boxes, 0.0),
            "scores": kept,
            "label_ids": tf.where(real, tf.cast(best.nmsed_classes, tf.int32), -1),
            "count": tf.reduce_sum(tf.cast(real & (kept >= model.threshold), tf.int32), axis=1),
        }

    def blank(self, answers: dict, readable) -> dict:
        keep = readable[:, None]
        return {
            "boxes": tf.where(keep[..., None], answers["boxes"], 0.0),
            "scores": tf.where(keep, answers["scores"], 0.0),
            "label_ids": tf.where(keep, answers["label_ids"], -1),
            "count": tf.where(readable, answers["count"], 0),
        }

    def describe(self, answers: dict, row: int, threshold: float | None = None) -> dict:
        return describe(self.model.class_names, answers, row, threshold)

    def differences(self, expected: dict, got: dict, sides: np.ndarray) -> dict[str, float]:
        return differences(expected, got, sides)


def describe(class_names: list[str], answers: dict, row: int, threshold: float | None = None) -> dict:
    """One row as JSON can hold it: the boxes that reach the model's own threshold, or the one given, best first."""
    scores, ids = answers["scores"][row], answers["label_ids"][row]
    shown = list(range(int(answers["count"][row])))
    if threshold is not None:
        shown = [place for place in range(len(scores)) if ids[place] >= 0 and scores[place] >= threshold]
    return {
        "boxes": [[float(side) for side in answers["boxes"][row][place]] for place in shown],
        "scores": [float(scores[place]) for place in shown],
        "label_ids": [int(ids[place]) for place in shown],
        "label_names": [class_names[ids[place]] for place in shown],
    }


def differences(expected: dict, got: dict, sides: np.ndarray) -> dict[str, float]:
    """How far two answers for the same pictures are apart; boxes in parts of the picture's longer side.

    A box is compared with the nearest one of its class in the other answer, since two of nearly equal scores may
    change places.  One that only rounding keeps above the floor, or among the best, may have no partner: it is left out
    if its score is within 1e-4 of the last, and the other answer has fewer boxes or this one has no room for more.

    Args:
        expected: Answers, as arrays.
        got: The others.
        sides: `(batch,)`, the longer side of each picture in pixels.
    """
    found = {"boxes": 0.0, "scores": 0.0}
    for row, side in enumerate(sides):
        for one, other in ((expected, got), (got, expected)):
            boxes, scores, ids = (np.asarray(one[name][row]) for name in ("boxes", "scores", "label_ids"))
            theirs = [np.asarray(other[name][row]) for name in ("boxes", "scores", "label_ids")]
            last = scores[ids >= 0].min(initial=1.0)
            is_cut = (ids >= 0).all() or (ids >= 0).sum() > (theirs[2] >= 0).sum()
            for box, score, label in zip(boxes[ids >= 0], scores[ids >= 0], ids[ids >= 0]):
                alike = theirs[2] == label
                apart = np.abs(theirs[0][alike] - box).max(axis=1, initial=0.0) / side
                gaps = np.abs(theirs[1][alike] - score)
                worse = np.maximum(apart, gaps)
                if worse.min(initial=1.0) > 1e-4 and is_cut and score - last <= 1e-4:
                    continue
                if not alike.any():
                    return {"boxes": 1.0, "scores": 1.0}
                nearest = np.argmin(worse)
                found["boxes"] = max(found["boxes"], float(apart[nearest]))
                found["scores"] = max(found["scores"], float(gaps[nearest]))
    rest = {name: value for name, value in expected.items() if name == "readable"}
    return {**found, **largest_difference(rest, got)}


def draw(image: np.ndarray, prediction: dict, labels: LabelMap | None = None, truth: dict | None = None) -> Image.Image:
    """The picture `(height, width, 3)` uint8 with its boxes; with a truth, that beside it on the left.

    Args:
        image: RGB.
        prediction: As `describe` words it.
        labels: Of the model; boxes are drawn in the house's own colours.
        truth: `boxes` `(n, 4)`, `label_ids` and `label_names` of a picture that was annotated, and `dashed` `(n,)`,
            whether each is a crowd.
    """
    if truth is None:
        return _drawn(image, prediction)
    left, right = _drawn(image, truth), _drawn(image, prediction)
    both = Image.new("RGB", (left.width + right.width + 8, left.height), "white")
    both.paste(left)
    both.paste(right, (left.width + 8, 0))
    return both


def _drawn(image: np.ndarray, answer: dict) -> Image.Image:
    names = list(answer["label_names"])
    ids = answer["label_ids"]
    palette = class_colors(1 + max(ids, default=0))
    picture, scale = sized_to_draw(image)
    boxes = np.asarray(answer["boxes"], np.float64).reshape(-1, 4) * scale
    colours = [palette[label] for label in ids]
    return draw_boxes(picture, boxes, names, colours, answer.get("scores"), answer.get("dashed"))
