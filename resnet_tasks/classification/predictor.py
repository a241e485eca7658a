"""From a picture to its classes: the one preparation and the one answer of evaluation, `predict` and the artefact."""

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from resnet_tasks.classification.model import Classifier
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.geometric import resize_center_crop
from resnet_tasks.task import Predictor

BEST = 5  # classes that label_ids holds, or fewer where there are fewer


class ClassificationPredictor(Predictor):
    """Answers `probabilities` `(batch, classes)` and `label_ids` `(batch, min(5, classes))`, best first."""

    def __init__(self, model: Classifier):
        self.model = model

    def prepare(self, image) -> dict:
        return {"image": resize_center_crop(image, self.model.image_size, self.model.crop_fraction)}

    def canvas(self) -> dict:
        return {"image": tf.TensorSpec((*self.model.image_size, 3), tf.uint8)}

    def answer(self, batch: dict) -> dict:
        images = tf.cast(batch["image"], keras.config.floatx())
        probabilities = tf.nn.softmax(self.model(images, training=False))
        best = min(BEST, len(self.model.class_names))
        return {"probabilities": probabilities, "label_ids": tf.math.top_k(probabilities, best).indices}

    def blank(self, answers: dict, readable) -> dict:
        keep = readable[:, None]
        return {
            "probabilities": tf.where(keep, answers["probabilities"], tf.zeros_like(answers["probabilities"])),
            "label_ids": tf.where(keep, answers["label_ids"], -tf.ones_like(answers["label_ids"])),
        }

    def describe(self, answers: dict, row: int, threshold: float | None = None) -> dict:
        return describe(self.model.class_names, answers, row, threshold)


def describe(class_names: list[str], answers: dict, row: int, threshold: float | None = None) -> dict:
    """One row as JSON can hold it: probabilities, label_ids and their names, best first; those of the threshold."""
    ids = [int(index) for index in answers["label_ids"][row]]
    if threshold is not None:
        ids = [index for index in ids if index >= 0 and answers["probabilities"][row][index] >= threshold]
    return {
        "probabilities": [float(value) for value in answers["probabilities"][row]],
        "label_ids": ids,
        "label_names": [class_names[index] if index >= 0 else "" for index in ids],
    }


def draw(image: np.ndarray, prediction: dict, labels: LabelMap | None = None) -> Image.Image:
    """The picture `(height, width, 3)` uint8 with its three best classes written under it."""
    picture = Image.fromarray(image)
    scale = max(1.0, 240 / picture.width)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.NEAREST)
    best = list(zip(prediction["label_ids"], prediction["label_names"]))[:3]
    lines = [f"{name} {prediction['probabilities'][index]:.1%}" for index, name in best if index >= 0]
    canvas = Image.new("RGB", (picture.width, picture.height + 16 * len(lines) + 4), "white")
    canvas.paste(picture)
    ImageDraw.Draw(canvas).multiline_text((4, picture.height + 2), "\n".join(lines), fill="black")
    return canvas
