"""From a picture to its embedding: of unit length, the same in every form, mirrored too, and what is said of it."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_tasks import backbones
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.engine.export import export_saved_model
from resnet_tasks.engine.loaded import Loaded
from resnet_tasks.engine.predicting import fingerprint
from resnet_tasks.faces import FaceEmbedder
from resnet_tasks.faces.predictor import FacePredictor, beside, describe, similarity

NAMES = ("anna", "boris", "clara")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coarse noise, enlarged: uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


CANVASES = np.stack([picture(32, 32, seed) for seed in range(4)])
MIXED = [picture(32, 32, 1), picture(40, 61, 2), picture(90, 33, 3), b"words", picture(9, 12, 4)]


def embedder(flip: bool = False) -> FaceEmbedder:
    """One that nobody has trained; no weight is 0 or 1, and those of two are alike."""
    backbone = backbones.create("resnet_20_cifar", input_shape=(32, 32, 3))
    model = FaceEmbedder(backbone=backbone, class_names=NAMES, image_size=(32, 32), embedding=8, flip=flip)
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        spread = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
        centre = 0.0 if len(shape) > 1 else keras.ops.convert_to_numpy(variable)
        variable.assign(centre + random.normal(0, spread, shape))
    return model


@pytest.fixture(scope="module")
def model() -> FaceEmbedder:
    return embedder()


@pytest.fixture(scope="module")
def flipping() -> FaceEmbedder:
    return embedder(flip=True)


def raw(model: FaceEmbedder, images: np.ndarray) -> np.ndarray:
    """The network's own numbers, in float64."""
    return model(images.astype(np.float32), training=False)["embedding"].numpy().astype(np.float64)


def at_unit_length(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def answered(model, images: np.ndarray) -> np.ndarray:
    return FacePredictor(model).answer({"image": tf.constant(images)})["embedding"].numpy()


def test_a_picture_comes_to_the_canvas_as_it_is(model):
    of = FacePredictor(model)
    canvas = {"image": tf.TensorSpec((32, 32, 3), tf.uint8)}
    assert of.canvas() == canvas
    np.testing.assert_array_equal(of.prepare(tf.constant(CANVASES[0]))["image"], CANVASES[0])
    wide = picture(32, 53)
    prepared = of.prepare(tf.constant(wide))
    np.testing.assert_array_equal(prepared["image"], wide[:, 10:42])  # 21 columns too many: 10 and 11
    assert prepared.keys() == canvas.keys() and prepared["image"].dtype == tf.uint8


def test_an_answer_is_the_networks_direction(model):
    found, numbers = answered(model, CANVASES), raw(model, CANVASES)
    assert found.dtype == np.float32 and found.shape == (4, 8)
    lengths = np.linalg.norm(numbers, axis=1)
    assert (np.abs(lengths - 1) > 0.05).all(), "else it would say nothing"
    np.testing.assert_allclose(np.linalg.norm(found.astype(np.float64), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found, numbers / lengths[:, None], atol=1e-5)
    np.testing.assert_allclose(answered(model, CANVASES[2:3])[0], found[2], atol=1e-5)  # whoever else is asked for
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_the_mean_of_both_directions_is_brought_to_unit_length(flipping):
    mirrored = CANVASES[:, :, ::-1]
    here, there = raw(flipping, CANVASES), raw(flipping, mirrored)
    found = answered(flipping, CANVASES)
    np.testing.assert_allclose(found, at_unit_length((here + there) / 2), atol=1e-5)
    assert np.abs(found - at_unit_length(here)).max() > 0.01
    # The mean of the embeddings, not of their directions: the longer one counts for more.
    assert np.abs(found - at_unit_length(at_unit_length(here) + at_unit_length(there))).max() > 1e-4
    np.testing.assert_allclose(answered(flipping, mirrored), found, atol=1e-5)


class Constant:
    """An embedder of one embedding for all."""

    image_size, flip, class_names = (32, 32), False, NAMES

    def __init__(self, *embedding: float):
        self.embedding = np.float32([embedding])

    def __call__(self, images, training):
        return {"embedding": tf.repeat(self.embedding, tf.shape(images)[0], axis=0)}


def test_what_has_no_direction_is_no_nan():
    assert answered(Constant(0, 0, 0), CANVASES).tolist() == [[0, 0, 0]] * 4
    np.testing.assert_allclose(answered(Constant(3e-6, 0, -4e-6), CANVASES[:1]), [[0.6, 0, -0.8]], rtol=1e-6)


def test_a_picture_that_could_not_be_read_is_blank():
    embedding = np.float32([[0.6, 0.8], [1, 0], [0, -1]])
    blank = FacePredictor(Constant(1)).blank({"embedding": tf.constant(embedding)}, tf.constant([True, False, True]))
    assert blank.keys() == {"embedding"}
    np.testing.assert_array_equal(blank["embedding"], embedding * [[1], [0], [1]])


def test_a_row_is_described_as_json_can_hold_it():
    answers = {"embedding": np.float32([[0, 1], [0.6, -0.8]])}
    found = describe(list(NAMES), answers, 1)
    assert json.loads(json.dumps(found)) == {"embedding": [float(np.float32(0.6)), float(np.float32(-0.8))]}
    assert FacePredictor(Constant(1)).describe(answers, 1, threshold=0.9) == found


def test_a_similarity_is_a_cosine():
    one, other = np.float32([0.6, 0.8]), np.float32([1, 0])
    assert similarity(one, other) == pytest.approx(0.6, abs=1e-7)
    long = np.float32([0.6, 0.8]) * np.float32(1.0001)
    assert (similarity(long, long), similarity(long, -long)) == (1.0, -1.0), "whatever the rounding"
    assert type(similarity(one, other)) is float


def test_two_pictures_stand_beside_one_another_at_one_height():
    one, other = picture(20, 30), np.full((10, 8, 3), 77, np.uint8)
    drawn = np.asarray(beside(one, other))
    assert drawn.shape == (20, 30 + 4 + 16, 3)
    np.testing.assert_array_equal(drawn[:, :30], one)
    assert (drawn[:, 30:34] == 255).all() and (drawn[:, 34:] == 77).all()


# What it is exported as


@pytest.fixture(scope="module")
def loaded(flipping) -> Loaded:
    flipping.threshold = 0.37
    return Loaded.of_model("faces", FacePredictor(flipping), LabelMap(NAMES), "nowhere")


def file_of(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def exported(loaded, tmp_path_factory) -> tuple[Loaded, dict]:
    """The same as an artefact, and how far it is from the model."""
    folder = tmp_path_factory.mktemp("exported") / "1"
    card = {"task": "faces", "threshold": loaded.threshold, **loaded.settings}
    parity = export_saved_model(loaded.predictor, loaded.labels, card, [file_of(MIXED[1]), b"words"], folder)
    return Loaded.of_artefact(folder, describe), parity


def test_predict_answers_what_the_network_does(loaded, flipping):
    found = loaded.predict(MIXED)
    assert found[3] == {"file": "3", "error": "not a picture: it begins with b'words'"}
    prepared = np.stack([FacePredictor(flipping).prepare(tf.constant(MIXED[place]))["image"] for place in (0, 1, 2, 4)])
    expected = at_unit_length(raw(flipping, prepared) + raw(flipping, prepared[:, :, ::-1]))
    for answer, row, number in zip([*found[:3], found[4]], expected, ("0", "1", "2", "4")):
        assert answer.keys() == {"file", "embedding"} and answer["file"] == number
        np.testing.assert_allclose(answer["embedding"], row, atol=1e-5)
    json.dumps(found)


def test_the_artefact_answers_as_the_model(loaded, exported):
    artefact, parity = exported
    assert parity["agrees"] and parity["images"] == 2 and parity["differences"].keys() == {"embedding", "readable"}
    assert (artefact.task, artefact.threshold, artefact.image_size) == ("faces", 0.37, (32, 32))
    assert set(artefact.saved.signatures) == {"serving_default", "serve_images"}
    outputs = artefact.saved.signatures["serving_default"].structured_outputs
    assert outputs.keys() == {"embedding", "readable"}
    expected, found = loaded.predict(MIXED), artefact.predict(MIXED)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys() and one["file"] == other["file"]
        np.testing.assert_allclose(one.get("embedding", 0), other.get("embedding", 0), atol=1e-5)
    assert found[3] == expected[3]
    blank = artefact.answer([b"words"])
    assert blank["embedding"].tolist() == [[0.0] * 8] and blank["readable"].tolist() == [False]


def test_the_artefact_takes_pixels(loaded, exported):
    images = np.stack([MIXED[1], picture(40, 61, 7)])
    found = exported[0].saved.signatures["serve_images"](images=tf.constant(images))
    assert found.keys() == {"embedding"}
    expected = [answer["embedding"] for answer in loaded.predict(list(images))]
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-5)


def test_the_artefact_carries_no_class_centres_and_is_told_to_be_the_same_model(loaded, exported, flipping):
    served = exported[0]
    centres = flipping.class_centres.embeddings.numpy()
    shapes = [tuple(weight.shape) for weight in served.saved.model_weights]
    assert len(shapes) == len(flipping.weights) - 1 and centres.shape not in shapes
    assert fingerprint(served) == fingerprint(loaded)
    moved = flipping.class_centres.embeddings
    try:
        moved.assign(centres + 1)
        assert fingerprint(loaded) == fingerprint(served), "answers are the same"
    finally:
        moved.assign(centres)
