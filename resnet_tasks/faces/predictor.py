"""From a picture of a face to its embedding: the one preparation and the one answer of everything that asks."""

import io

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks.data.decode import decode_array
from resnet_tasks.data.face_alignment import align
from resnet_tasks.data.geometric import resize_center_crop
from resnet_tasks.faces.embedder import FaceEmbedder
from resnet_tasks.task import Predictor

SHORTEST = 1e-12  # an embedding's length, below which it has no direction


def aligned_png(encoded: bytes, landmarks: np.ndarray, image_size: tuple[int, int]) -> bytes:
    """A PNG of the face on the model's canvas, by its five landmarks `(5, 2)`.

    Raises:
        DataError: The picture cannot be decoded.
    """
    stream = io.BytesIO()
    Image.fromarray(align(decode_array(encoded), landmarks, image_size)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


class FacePredictor(Predictor):
    """Answers `embedding` `(batch, d)` float32, of unit length: the cosine of two is their product.

    Pictures are taken to show one aligned face each, and are brought to the canvas as they are.
    """

    def __init__(self, model: FaceEmbedder):
        self.model = model

    @property
    def weights(self) -> list:
        """Without the class centres, which may be more than all the rest: training alone reads them."""
        centres = self.model.class_centres.embeddings
        return [variable for variable in self.model.weights if variable is not centres]

    def prepare(self, image) -> dict:
        return {"image": resize_center_crop(image, self.model.image_size)}

    def canvas(self) -> dict:
        return {"image": tf.TensorSpec((*self.model.image_size, 3), tf.uint8)}

    def answer(self, batch: dict) -> dict:
        images = tf.cast(batch["image"], keras.config.floatx())
        embedding = self._embedded(images)
        if self.model.flip:
            embedding += self._embedded(tf.reverse(images, [2]))
        length = tf.norm(embedding, axis=-1, keepdims=True)
        return {"embedding": embedding / tf.maximum(length, SHORTEST)}

    def blank(self, answers: dict, readable) -> dict:
        embedding = answers["embedding"]
        return {"embedding": tf.where(readable[:, None], embedding, tf.zeros_like(embedding))}

    def describe(self, answers: dict, row: int, threshold: float | None = None) -> dict:
        return describe(self.model.class_names, answers, row, threshold)

    def _embedded(self, images):
        return tf.cast(self.model(images, training=False)["embedding"], tf.float32)


def describe(class_names: list[str], answers: dict, row: int, threshold: float | None = None) -> dict:
    """One row as JSON can hold it: `embedding`, a list of numbers."""
    return {"embedding": [float(value) for value in answers["embedding"][row]]}


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine of two embeddings of unit length, in -1..1."""
    return float(np.clip(np.dot(one.astype(np.float64), other.astype(np.float64)), -1.0, 1.0))


def beside(one: np.ndarray, other: np.ndarray) -> Image.Image:
    """Two pictures `(height, width, 3)` uint8 beside one another, of one height."""
    left, right = Image.fromarray(one), Image.fromarray(other)
    right = right.resize((max(1, round(right.width * left.height / right.height)), left.height))
    both = Image.new("RGB", (left.width + right.width + 4, left.height), "white")
    both.paste(left)
    both.paste(right, (left.width + 4, 0))
    return both
