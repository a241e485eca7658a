"""The three detectors on a backbone of a few channels, pictures of rectangles, and what tests ask of a loss."""

import keras
import numpy as np
from keras import layers, ops

from resnet_tasks.detection import YOLO, FasterRCNN, RetinaNet
from resnet_tasks.model import Pyramid, total_loss

NAMES = ("red", "green", "blue")
COLOURS = np.float32([[230, 40, 40], [40, 210, 60], [50, 60, 230]])
SMALL = {
    RetinaNet: {"channels": 8, "head_depth": 1, "min_level": 4, "anchor_size": 1.5},
    FasterRCNN: {
        "channels": 8,
        "width": 16,
        "min_level": 3,
        "anchor_size": 3.0,
        "before": 60,
        "proposals": 80,
        "drawn": 64,
        "regions": 32,
    },
    YOLO: {"channels": 8, "head_depth": 1, "min_level": 4, "neck_depth": 0},
}
DETECTORS = tuple(SMALL)
LAST = ("class", "box", "objectness", "offsets")  # the layers whose outputs a detector begins with near 0


def pyramid(size=(64, 64), widths=(8,) * 5) -> Pyramid:
    """C1 to C5 without norms, a convolution each."""
    image = keras.Input((*size, 3), name="image")
    x, features = layers.Rescaling(1 / 127.5, offset=-1.0, name="normalise")(image), {}
    for level, width in enumerate(widths, 1):
        x = layers.Conv2D(width, 3, 2, padding="same", name=f"conv{level}")(x)
        features[f"C{level}"] = x = layers.ReLU(name=f"relu{level}")(x)
    return Pyramid(image, features, name="tiny")


def detector(kind, size=(64, 64), spread: float = 0.0, widths=(8,) * 5, **settings) -> keras.Model:
    """A small one, with the same weights in every process and on every backend.

    Args:
        kind: The class.
        size: Height and width of the canvas.
        spread: A deviation that is added to all weights: the answers of a fresh detector are nearly alike.
        widths: The backbone's.
        settings: Beside those of `SMALL`.
    """
    model = kind(
        backbone=pyramid(size, widths), **{"class_names": NAMES, "image_size": size, **SMALL[kind], **settings}
    )
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        value, shape = ops.convert_to_numpy(variable), tuple(variable.shape)
        if len(shape) > 1:
            gain = {YOLO: 1.0}.get(kind, 0.0) if variable.path.split("/")[-2] in LAST else 2.0
            value = random.normal(0, np.sqrt(gain / np.prod(shape[:-1])) or 0.01, shape)
        variable.assign(value + random.normal(0, 1, shape) * spread)
    return model


def pictures(count: int, side: int = 64, most: int = 3, seed: int = 0) -> tuple[np.ndarray, dict]:
    """Rectangles of three colours on grey noise, a class for each colour, of which no two overlap much.

    Returns:
        Images float32 `(count, side, side, 3)`, and targets: `boxes` and `labels`, padded to `most`, `key`, `weight`.
    """
    random = np.random.default_rng(seed)
    images = random.normal(120, 12, (count, side, side, 3)).clip(0, 255).astype(np.float32)
    boxes, labels = np.zeros((count, most, 4), np.float32), np.full((count, most), -1, np.int32)
    for row in range(count):
        for place in range(1 + row % most):
            box = None
            while box is None or (overlaps(boxes[row, :place], box) > 0.1).any():
                sides = random.integers(12, 33, 2)
                corner = [random.integers(0, side - length + 1) for length in sides]
                box = np.float32([*corner, corner[0] + sides[0], corner[1] + sides[1]])
            left, top, right, bottom = box.astype(int)
            labels[row, place] = random.integers(0, 3)
            images[row, top:bottom, left:right] = COLOURS[labels[row, place]]
            boxes[row, place] = box
    key = random.integers(-(2**31), 2**31, (count, 2)).astype(np.int32)
    return images, {"boxes": boxes, "labels": labels, "key": key, "weight": np.ones(count, np.float32)}


def overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union of `boxes` `(n, 4)` with one, in float64."""
    boxes, box = np.float64(boxes), np.float64(box)
    shared = np.prod(np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0), axis=-1)
    union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) + np.prod(box[2:] - box[:2]) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def compiled(function):
    """On JAX, where single operations are compiled one by one, all of them at once."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def gradient(function, value: np.ndarray) -> np.ndarray:
    """Of a scalar function, by its argument, on the backend that runs."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.jit(jax.grad(function))(jax.numpy.asarray(value)))
    import tensorflow as tf

    value = tf.constant(value)
    with tf.GradientTape() as tape:
        tape.watch(value)
        result = function(value)
    return tf.convert_to_tensor(tape.gradient(result, value, unconnected_gradients="zero")).numpy()


def terms_of(model, targets: dict, outputs: dict) -> dict[str, tuple[float, float]]:
    """The loss's terms as numbers."""
    found = compiled(model.loss_terms)(targets, {name: ops.convert_to_tensor(value) for name, value in outputs.items()})
    return {name: (float(total), float(normaliser)) for name, (total, normaliser) in found.items()}


def loss_and_gradients(model, images, targets) -> tuple[float, list[np.ndarray]]:
    """Of the whole batch, by all that trains; TensorFlow."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = total_loss(model.loss_terms(targets, model(tf.constant(images), training=True)))
    variables = [variable.value for variable in model.trainable_variables]
    found = tape.gradient(loss, variables, unconnected_gradients="zero")
    return float(loss), [tf.convert_to_tensor(value).numpy() for value in found]
