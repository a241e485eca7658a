"""From a picture to its answer: the same canvas everywhere, and no neighbour in a batch counts."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_backbone import backbone

from resnet_tasks.classification import Classifier
from resnet_tasks.classification.predictor import ClassificationPredictor, describe, draw
from resnet_tasks.classification.task import Classification, ClassificationSettings
from resnet_tasks.data.examples import LabelMap, Source, Split

NAMES = tuple("abcdefg")


def predictor(size=(24, 20), names=NAMES, crop_fraction=0.875) -> ClassificationPredictor:
    model = Classifier(backbone=backbone((*size, 3)), class_names=names, image_size=size, crop_fraction=crop_fraction)
    return ClassificationPredictor(model)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coarse blots under fine noise: what is left of a picture when it is made small differs from others."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 236, (4, 4, 3), dtype=np.uint8)).resize((width, height))
    return np.asarray(coarse) + draw.integers(0, 20, (height, width, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def test_prepare_gives_the_very_canvas_of_evaluation():
    images = [picture(97, 131), picture(131, 97, 1), picture(24, 20, 2), picture(5, 300, 3), picture(640, 481, 4)]
    split = Split(
        name="val",
        ids=tuple("12345"),
        encoded=tuple(png(image) for image in images),
        annotations={"label": np.zeros(5, np.int32)},
    )
    source = Source(where="here", format="folder", labels=LabelMap(NAMES), splits={"val": split})
    settings = ClassificationSettings(image_size=(24, 20), crop_fraction=0.875, evaluation_batch_size=5)
    ((batch, _),) = Classification(source, settings).batches("val", training=False).stream()
    for canvas, image in zip(batch["image"].numpy(), images):
        prepare = predictor().prepare
        np.testing.assert_array_equal(canvas, prepare(tf.constant(image))["image"])
        compiled = tf.function(prepare, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
        np.testing.assert_array_equal(canvas, compiled(image)["image"])
        assert canvas.std() > 10


def test_prepare_keeps_the_middle_of_the_picture():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 50:150] = 200  # covers 100 x 200 -> 50 x 100 -> the middle 50 x 50
    prepared = predictor((50, 50), crop_fraction=1.0).prepare(tf.constant(image))["image"].numpy()
    assert (prepared[:, 1:-1] == 200).all()
    spec = predictor((50, 50)).canvas()["image"]
    assert (tuple(spec.shape), spec.dtype) == (prepared.shape, tf.uint8)


def test_an_answer_does_not_depend_on_its_batch():
    asked = predictor()
    canvases = np.stack(
        [picture(24, 20, seed) for seed in range(7)] + [np.zeros((24, 20, 3)), np.full((24, 20, 3), 255)]
    )
    together = asked.answer({"image": tf.constant(canvases.astype(np.uint8))})
    for row, canvas in enumerate(canvases):
        alone = asked.answer({"image": tf.constant(canvas.astype(np.uint8)[None])})
        np.testing.assert_allclose(together["probabilities"][row], alone["probabilities"][0], atol=1e-6)
        np.testing.assert_array_equal(together["label_ids"][row], alone["label_ids"][0])


def test_answers_are_the_softmax_and_its_best_five():
    asked = predictor()
    canvases = np.stack([picture(24, 20, seed) for seed in range(4)])
    got = asked.answer({"image": tf.constant(canvases)})
    logits = asked.model(canvases.astype(np.float32), training=False).numpy().astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got["probabilities"], expected, atol=1e-6)
    np.testing.assert_array_equal(got["label_ids"], np.argsort(-expected, axis=1)[:, :5])
    few = predictor(names=("no", "yes")).answer({"image": tf.constant(canvases)})
    assert few["label_ids"].shape == (4, 2)


def test_rows_that_cannot_be_read_are_blanked_and_no_others():
    answers = {"probabilities": tf.constant([[0.25, 0.75], [0.5, 0.5]]), "label_ids": tf.constant([[1, 0], [0, 1]])}
    blanked = predictor(names=("no", "yes")).blank(answers, tf.constant([True, False]))
    np.testing.assert_array_equal(blanked["probabilities"], [[0.25, 0.75], [0, 0]])
    np.testing.assert_array_equal(blanked["label_ids"], [[1, 0], [-1, -1]])


def test_describe_names_the_labels_best_first():
    answers = {"probabilities": np.float32([[0, 0], [0.25, 0.75]]), "label_ids": np.int32([[-1, -1], [1, 0]])}
    expected = {"probabilities": [0.25, 0.75], "label_ids": [1, 0], "label_names": ["yes", "no"]}
    assert describe(["no", "yes"], answers, 1) == expected
    assert describe(["no", "yes"], answers, 0)["label_names"] == ["", ""]


@pytest.mark.parametrize(("height", "width", "scale"), [(8, 10, 24), (300, 480, 1)])
def test_draw_keeps_the_picture_and_writes_below_it(height, width, scale):
    image = picture(height, width)
    drawn = np.asarray(
        draw(image, describe(["no", "yes"], {"probabilities": [[0.25, 0.75]], "label_ids": [[1, 0]]}, 0))
    )
    shown = drawn[: height * scale : scale, ::scale]
    np.testing.assert_array_equal(shown, image)
    below = drawn[height * scale :]
    assert below.shape[0] == 2 * 16 + 4
    assert below.min() < 64 and below.max() == 255  # black on white
