"""The two base classes: a pyramid knows its strides, a task's model its loss, and both come back from a file."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resnet_tasks.model import Pyramid, TaskModel, ratio, total_loss


def pyramid(side: int | None = 16) -> Pyramid:
    image = keras.Input((side, side, 3), name="image")
    x = layers.Rescaling(1 / 255, name="normalise")(image)
    features = {}
    for level in (1, 2, 3):
        x = features[f"C{level}"] = layers.Conv2D(4, 3, 2, padding="same", activation="relu", name=f"conv{level}")(x)
    return Pyramid(image, features, name="tiny")


@keras.saving.register_keras_serializable("resnet_tasks_test_model")
class Regressor(TaskModel):
    """One number a picture, by squared error."""

    def __init__(self, *, backbone: Pyramid, scale: float = 1.0, name: str = "regressor"):
        self.scale = scale
        x = layers.GlobalAveragePooling2D(name="pool")(backbone.output["C3"])
        outputs = layers.Dense(1, name="number")(x)
        super().__init__(backbone.input, outputs, backbone=backbone, settings={"scale": scale}, name=name)

    def loss_terms(self, targets, outputs):
        error = ops.square(self.scale * outputs[:, 0] - targets["number"])
        return {"error": (ops.sum(targets["weight"] * error), ops.sum(targets["weight"]))}


def batch(count: int = 6) -> tuple[np.ndarray, dict]:
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (count, 16, 16, 3)).astype(np.float32)
    weight = np.array([0, 1, 2, 1, 1, 3][:count], np.float32)
    return images, {"number": random.normal(size=count).astype(np.float32), "weight": weight}


@pytest.mark.any_backend
def test_a_pyramid_knows_its_strides():
    for backbone in (pyramid(), pyramid(None)):
        assert backbone.strides == {"C1": 2, "C2": 4, "C3": 8}
        assert backbone.size_multiple == 8


@pytest.mark.any_backend
def test_a_pyramid_names_its_levels_for_other_peoples_detectors():
    backbone = pyramid()
    assert list(backbone.pyramid_outputs) == ["P1", "P2", "P3"]
    assert all(backbone.pyramid_outputs[f"P{level}"] is backbone.output[f"C{level}"] for level in (1, 2, 3))
    assert backbone.pyramid_level_inputs == {"P1": "conv1", "P2": "conv2", "P3": "conv3"}


@pytest.mark.any_backend
def test_the_ratio_is_zero_where_nothing_was_counted():
    assert float(ratio(ops.array(6.0), ops.array(4.0))) == 1.5
    assert float(ratio(ops.array(6.0), ops.array(0.0))) == 0.0
    terms = {
        "a": (ops.array(6.0), ops.array(4.0)),
        "b": (ops.array(5.0), ops.array(0.0)),
        "c": (ops.array(-1.0), ops.array(2.0)),
    }
    assert float(total_loss(terms)) == 1.0


def test_the_ratios_gradient_is_finite_where_nothing_was_counted():
    import tensorflow as tf

    total, normaliser = tf.Variable(3.0), tf.Variable([0.0, 2.0])
    with tf.GradientTape() as tape:
        loss = ratio(total, normaliser[0]) + ratio(total, normaliser[1])
    by_total, by_normaliser = tape.gradient(loss, [total, normaliser])
    assert float(by_total) == 0.5
    np.testing.assert_allclose(by_normaliser, [0.0, -0.75])


@pytest.mark.any_backend
def test_compute_loss_is_the_sum_of_the_ratios():
    model = Regressor(backbone=pyramid(), scale=0.5)
    images, targets = batch()
    outputs = model(images)
    error = (0.5 * ops.convert_to_numpy(outputs)[:, 0] - targets["number"]) ** 2
    expected = np.sum(targets["weight"] * error) / 8
    assert float(model.compute_loss(images, targets, outputs)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.any_backend
def test_fit_trains_with_that_loss():
    keras.utils.set_random_seed(0)
    model = Regressor(backbone=pyramid())
    images, targets = batch()
    first = float(model.compute_loss(images, targets, model(images)))
    model.compile(keras.optimizers.SGD(0.1))
    history = model.fit(images, targets, batch_size=6, epochs=20, shuffle=False, verbose=0).history["loss"]
    assert history[0] == pytest.approx(first, rel=1e-5)
    assert history[-1] < 0.95 * first


def test_fit_under_replicas_is_refused_and_names_the_engine():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(
        ["/CPU:0", "/CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        model = Regressor(backbone=pyramid())
        model.compile(keras.optimizers.SGD(0.1))
    images, targets = batch()
    with pytest.raises(RuntimeError, match="one device only, and here are 2 replicas; use resnet_tasks.train"):
        model.fit(tf.data.Dataset.from_tensor_slices((images, targets)).batch(6), verbose=0)


def test_weights_of_examples_belong_into_the_targets():
    model = Regressor(backbone=pyramid())
    images, targets = batch()
    with pytest.raises(ValueError, match="belong into the targets"):
        model.compute_loss(images, targets, model(images), sample_weight=np.ones(6))


def test_a_model_without_a_loss_says_so():
    backbone = pyramid()
    model = TaskModel(backbone.input, backbone.output, backbone=backbone, settings={}, name="bare")
    with pytest.raises(TypeError, match="TaskModel must define loss_terms"):
        model.loss_terms({}, None)


@pytest.mark.any_backend
def test_a_model_comes_back_from_its_file(tmp_path):
    model = Regressor(backbone=pyramid(), scale=0.25, name="mine")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert type(again) is Regressor and type(again.backbone) is Pyramid
    assert again.scale == 0.25 and again.name == "mine"
    images, _ = batch()
    np.testing.assert_array_equal(ops.convert_to_numpy(again(images)), ops.convert_to_numpy(model(images)))
    shared = {variable.path for variable in again.backbone.weights}
    assert len(again.weights) == len(again.backbone.weights) + 2 and len(shared) == 6, (
        "the backbone lies in the model once"
    )
