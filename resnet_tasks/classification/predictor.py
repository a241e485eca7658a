"""From a picture to its classes: the one preparation and the one answer of evaluation, `predict` and the artefact."""

import keras
import tensorflow as tf

from resnet_tasks.classification.model import Classifier
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

    def describe(self, answers: dict, row: int) -> dict:
        return describe(self.model.class_names, answers, row)


def describe(class_names: list[str], answers: dict, row: int) -> dict:
    """One row as JSON can hold it: probabilities, label_ids and their names, best first."""
    ids = [int(index) for index in answers["label_ids"][row]]
    return {
        "probabilities": [float(value) for value in answers["probabilities"][row]],
        "label_ids": ids,
        "label_names": [class_names[index] if index >= 0 else "" for index in ids],
    }
