"""The detectors in the engine's step: two replicas equal one, and a compiled step equals one that is not."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_detectors import DETECTORS, detector, pictures

from resnet_tasks.detection import YOLO, FasterRCNN, RetinaNet
from resnet_tasks.engine.norms import set_norms
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.precision import precision
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.step import TrainStep
from resnet_tasks.engine.strategy import choose_strategy

RATES = {RetinaNet: 0.1, FasterRCNN: 0.1, YOLO: 0.3}
PLAIN = TrainSettings(epochs=1, batch_size=4, lr=0.1, momentum=0.0, precision="float64", sync_norms=True)
NAME, slow = (lambda kind: kind.__name__), pytest.mark.slow
each_detector = pytest.mark.parametrize("kind", DETECTORS, ids=NAME)


def batch(number: int) -> tuple[np.ndarray, dict]:
    """Weights that differ; in the second batch the second replica's half has no box, in the third one no weight."""
    images, targets = pictures(4, seed=number)
    targets["weight"] = np.float32([2, 1, 0.5, 3])
    if number == 1:
        targets["labels"][2:], targets["boxes"][2:] = -1, 0
    elif number == 2:
        targets["weight"][2:] = 0
    return images, targets


def placed(strategy, images: np.ndarray, targets: dict) -> tuple:
    """One micro-batch, cut over the replicas."""
    replicas = strategy.num_replicas_in_sync
    part = len(images) // replicas

    def share(values):
        floats = keras.config.floatx() if values.dtype.kind == "f" else None
        if replicas == 1:
            return tf.constant(values, floats)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[part * context.replica_id_in_sync_group :][:part], floats)
        )

    return ((share(images), {name: share(value) for name, value in targets.items()}),)


def build(kind, **settings):
    return detector(kind, spread=0.03, **settings)


def make_step(kind, settings: TrainSettings, strategy=None, **chosen) -> TrainStep:
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = build(kind, **chosen)
        set_norms(model, synchronized=settings.sync_norms, frozen=False, fused=not settings.xla)
        return TrainStep(model, make_optimizer(settings), strategy, settings)


def train(step: TrainStep, steps: int) -> np.ndarray:
    """`(steps, terms + 1)`: all losses of all steps, and the norm of the gradient."""
    found = []
    for number in range(steps):
        outcome = step.run(placed(step.strategy, *batch(number)), tf.constant(RATES[type(step.model)], tf.float64))
        assert bool(outcome.finite)
        losses = {name: value for name, value in outcome.losses.items() if name != "loss"}
        found.append([float(losses[name]) for name in sorted(losses)] + [float(outcome.gradient_norm)])
    return np.array(found)


def by_hand(model, steps: int) -> np.ndarray:
    """The same of the whole batch at once, without the engine: plain descent."""
    found, variables = [], [variable.value for variable in model.trainable_variables]
    for number in range(steps):
        ((images, targets),) = placed(tf.distribute.get_strategy(), *batch(number))
        with tf.GradientTape() as tape:
            terms = model.loss_terms(targets, model(images, training=True))
            losses = {name: total / normaliser for name, (total, normaliser) in terms.items()}
            loss = sum(losses.values())
        gradients = tape.gradient(loss, variables)
        found.append([float(losses[name]) for name in sorted(losses)] + [float(tf.linalg.global_norm(gradients))])
        for variable, gradient in zip(variables, gradients):
            variable.assign_sub(RATES[type(model)] * gradient)
    return np.array(found)


def weights(model) -> list[np.ndarray]:
    return [variable.value.numpy() for variable in model.variables if variable.dtype.startswith("float")]


def compare(step: TrainStep, model, steps: int, tolerance: float) -> None:
    before = weights(model)
    losses = by_hand(model, steps)
    np.testing.assert_allclose(train(step, steps), losses, rtol=tolerance, atol=tolerance)
    for one, other in zip(weights(step.model), weights(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
    moved = [np.abs(one - other).max() for one, other in zip(weights(model), before)]
    assert np.median(moved) > 10 * tolerance and (losses > 0).all(), "there is something to compare"


def compare_replicas(kind, settings: TrainSettings, steps: int, tolerance: float) -> None:
    with precision(settings.precision):
        strategy, _ = choose_strategy("mirrored", "cpu:2")
        compare(make_step(kind, settings, strategy), build(kind), steps, tolerance)


@each_detector
def test_two_replicas_are_one(kind):
    """In float64 over three steps, one of them with a replica that has no box and one with a replica of weight 0."""
    compare_replicas(kind, PLAIN, 3, 1e-9)


@pytest.mark.slow
@each_detector
def test_two_replicas_are_one_in_float32(kind):
    compare_replicas(kind, replace(PLAIN, precision="float32"), 1, 1e-5)


@pytest.mark.parametrize(
    "kind", [pytest.param(RetinaNet, marks=slow), FasterRCNN, pytest.param(YOLO, marks=slow)], ids=NAME
)
def test_a_compiled_step_is_the_same_step(kind):
    """Two steps, the second of them half background.  `fit` compiles as well, for all three: see test_detectors."""
    settings = replace(PLAIN, precision="float32", sync_norms=False, xla=True)
    fewer = {"min_level": 4} if kind is FasterRCNN else {}
    compare(make_step(kind, settings, **fewer), build(kind, **fewer), 2, 1e-4)
