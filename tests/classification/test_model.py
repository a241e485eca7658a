"""The classifier: its loss against NumPy, `fit`, and its file, on every Keras backend."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from tiny_backbone import backbone

from resnet_tasks.classification import Classifier
from resnet_tasks.model import total_loss

CLASSES = ("ant", "bee", "cat", "dog")
RELOAD = """
import sys
import keras, numpy as np
import resnet_tasks.classification  # registers Classifier
model = keras.models.load_model(sys.argv[1])
images = np.load(sys.argv[2])
np.save(sys.argv[3], np.stack([keras.ops.convert_to_numpy(model(images)), model.predict(images, verbose=0)]))
"""


def classifier(size=(16, 16), **settings) -> Classifier:
    settings = {"class_names": CLASSES, "image_size": size, **settings}
    model = Classifier(backbone=backbone((*size, 3)), **settings)
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:  # norms and biases too, which begin as ones and zeros
        variable.assign(variable + draw.normal(0, 0.1, variable.shape))
    return model


def pictures(count: int, size=(16, 16)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3)).astype(np.float32)


def reference(logits, shares, weight, smoothing) -> tuple[float, float]:
    """Σ weight x cross-entropy and Σ weight, in float64."""
    logits = logits.astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    smoothed = shares * (1 - smoothing) + smoothing / logits.shape[1]
    return float((weight * -(smoothed * logs).sum(axis=1)).sum()), float(weight.sum())


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits `(6, 4)`, hard labels, mixed shares."""
    draw = np.random.default_rng(3)
    labels = np.array([0, 3, 2, 2, 1, 0], np.int32)
    share = draw.uniform(0.5, 1.0, (6, 1))
    shares = share * np.eye(4)[labels] + (1 - share) * np.eye(4)[np.roll(labels, 1)]
    return draw.normal(0, 3, (6, 4)).astype(np.float32), labels, shares.astype(np.float32)


@pytest.mark.any_backend
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, [1, 1, 1, 1, 1, 1], [2.0, 0.5, 0, 1, 0, 3]], ids=["none", "ones", "some"])
@pytest.mark.parametrize("mixed", [False, True], ids=["hard", "mixed"])
def test_loss_is_the_weighted_cross_entropy(drawn, smoothing, weight, mixed):
    logits, labels, shares = drawn
    model = classifier(label_smoothing=smoothing)
    targets = {"label": shares if mixed else labels}
    if weight is not None:
        targets["weight"] = np.float32(weight)
    terms = model.loss_terms(targets, ops.convert_to_tensor(logits))
    ((total, normaliser),) = terms.values()
    expected = reference(
        logits, shares if mixed else np.eye(4)[labels], np.ones(6) if weight is None else np.float64(weight), smoothing
    )
    assert float(total) == pytest.approx(expected[0], rel=1e-6)
    assert float(normaliser) == pytest.approx(expected[1], rel=1e-6)
    assert float(total_loss(terms)) == pytest.approx(expected[0] / expected[1], rel=1e-6)


@pytest.mark.any_backend
def test_rows_of_weight_zero_change_nothing(drawn):
    logits, labels, _ = drawn
    model = classifier()
    real = total_loss(model.loss_terms({"label": labels[:4]}, ops.convert_to_tensor(logits[:4])))
    weight = np.float32([1, 1, 1, 1, 0, 0])
    padded = total_loss(model.loss_terms({"label": labels, "weight": weight}, ops.convert_to_tensor(logits)))
    assert float(padded) == pytest.approx(float(real), rel=1e-6)


@pytest.mark.any_backend
def test_a_batch_without_weight_costs_nothing_and_teaches_nothing(drawn):
    logits, labels, _ = drawn
    model = classifier()

    def loss(outputs):
        return total_loss(model.loss_terms({"label": labels, "weight": np.zeros(6, np.float32)}, outputs))

    assert float(loss(ops.convert_to_tensor(logits))) == 0.0
    assert (gradient(loss, logits) == 0.0).all()  # and so not NaN


@pytest.mark.any_backend
def test_gradient_is_softmax_less_truth_over_the_weights(drawn):
    logits, labels, _ = drawn
    model, weight = classifier(), np.float32([2.0, 0.5, 0, 1, 0, 3])
    got = gradient(lambda outputs: total_loss(model.loss_terms({"label": labels, "weight": weight}, outputs)), logits)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got, (softmax - np.eye(4)[labels]) * (weight / weight.sum())[:, None], atol=1e-6)


def gradient(function, value: np.ndarray) -> np.ndarray:
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(jax.numpy.asarray(value)))
    import tensorflow as tf

    value = tf.constant(value)
    with tf.GradientTape() as tape:
        tape.watch(value)
        result = function(value)
    return tape.gradient(result, value).numpy()


@pytest.mark.any_backend
def test_compute_loss_is_the_formula_and_takes_no_sample_weight(drawn):
    logits, labels, _ = drawn
    model, outputs = classifier(label_smoothing=0.2), ops.convert_to_tensor(logits)
    expected, weight = reference(logits, np.eye(4)[labels], np.ones(6), 0.2)
    assert float(model.compute_loss(None, {"label": labels}, outputs)) == pytest.approx(expected / weight, rel=1e-6)
    with pytest.raises(ValueError, match="weights of examples belong into the targets"):
        model.compute_loss(None, {"label": labels}, outputs, sample_weight=np.ones(6))


def test_fit_over_two_replicas_is_refused_and_names_the_engine():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
    with strategy.scope():
        model = classifier()
        model.compile(optimizer="sgd")
    with pytest.raises(RuntimeError, match="here are 2 replicas; use resnet_tasks.train"):
        model.fit(pictures(4), {"label": np.int32([0, 1, 2, 3])}, batch_size=4, verbose=0)


@pytest.mark.any_backend
def test_fit_learns_the_digits_from_our_batches():
    import resnet_tasks

    batches = resnet_tasks.batches(
        "classify",
        "digits",
        image_size=8,
        batch_size=64,
        recipe="quickstart/classify_digits",
        set={"augment.pad_crop": 0},
    )
    model = classifier((8, 8), class_names=[str(digit) for digit in range(10)])
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    losses = model.fit(batches, epochs=3, verbose=0).history["loss"]
    assert losses[0] < np.log(10)
    assert losses[2] < 0.5 * losses[0]
    assert losses[2] < 0.6


@pytest.mark.any_backend
def test_logits_have_one_row_a_picture_at_any_batch_and_depend_on_their_own_picture():
    model, images = classifier(), pictures(5)
    together = ops.convert_to_numpy(model(images))
    alone = np.concatenate([ops.convert_to_numpy(model(images[row : row + 1])) for row in range(5)])
    assert together.shape == (5, 4)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.std(axis=0).min() > 1e-3  # the pictures are told apart at all


@pytest.mark.any_backend
def test_save_and_reload_keeps_outputs_and_all_that_load_needs(tmp_path):
    settings = {"source_ids": [7, 8, 9, 11], "crop_fraction": 0.875, "dropout": 0.25, "label_smoothing": 0.1}
    model = classifier((16, 20), **settings)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again) is Classifier
    assert (again.class_names, again.image_size) == (list(CLASSES), (16, 20))
    assert (again.source_ids, again.crop_fraction, again.label_smoothing) == ([7, 8, 9, 11], 0.875, 0.1)
    assert again.get_layer("dropout").rate == 0.25
    assert list(again.backbone.output) == ["C1", "C2"]
    images = pictures(3, (16, 20))
    np.testing.assert_array_equal(ops.convert_to_numpy(model(images)), ops.convert_to_numpy(again(images)))


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_fresh_process_gives_the_same_outputs(backend, tmp_path):
    if backend == "jax":
        pytest.importorskip("jax")
    model, images = classifier(dropout=0.5), pictures(3)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    names = [tmp_path / name for name in ("model.keras", "images.npy", "outputs.npy")]
    done = subprocess.run([sys.executable, "-c", RELOAD, *names], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    called, predicted = np.load(tmp_path / "outputs.npy")
    expected = ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(called, expected, atol=1e-6 if backend == "tensorflow" else 1e-4)
    np.testing.assert_allclose(predicted, expected, atol=1e-4)


@pytest.fixture
def bfloat16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.any_backend
def test_logits_and_loss_are_float32_under_mixed_bfloat16(bfloat16):
    model = classifier()
    assert keras.backend.standardize_dtype(model.backbone.output["C2"].dtype) == "bfloat16"
    logits = model(pictures(2))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    loss = model.compute_loss(None, {"label": np.int32([0, 1])}, logits)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"


@pytest.mark.any_backend
def test_a_model_trained_in_bfloat16_answers_the_same_where_float32_is_the_policy(bfloat16, tmp_path):
    model, images = classifier(dropout=0.1), pictures(4)
    expected = ops.convert_to_numpy(model(images))
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")  # as in the process that serves it
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(again(images)), expected)


@pytest.mark.any_backend
def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"at least two classes apart, got \['ant'\]"):
        classifier(class_names=["ant"])
