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

RATES = {RetinaNet: 0.01, FasterRCNN: 0.01, YOLO: 0.1}
PLAIN = TrainSettings(epochs=1, batch_size=4, lr=0.01, momentum=0.9, precision="float64", sync_norms=True)
each_detector = pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)


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


def make_step(kind, settings: TrainSettings, strategy=None) -> TrainStep:
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = detector(kind, spread=0.03)
        set_norms(model, synchronized=settings.sync_norms, frozen=False, fused=not settings.xla)
        return TrainStep(model, make_optimizer(settings), strategy, settings)


def train(step: TrainStep, steps: int) -> np.ndarray:
    """`(steps, terms)`: all losses of all steps, and the gradient's norm."""
    losses = []
    for number in range(steps):
        outcome = step.run(placed(step.strategy, *batch(number)), tf.constant(RATES[type(step.model)], tf.float64))
        assert bool(outcome.finite)
        losses.append([float(outcome.losses[name]) for name in sorted(outcome.losses)] + [float(outcome.gradient_norm)])
    return np.array(losses)


def weights(step: TrainStep) -> list[np.ndarray]:
    return [variable.value.numpy() for variable in step.model.variables if variable.dtype.startswith("float")]


def compared(kind, settings: TrainSettings, steps: int, tolerance: float) -> None:
    with precision(settings.precision):
        strategy, _ = choose_strategy("mirrored", "cpu:2")
        alone, both = make_step(kind, settings), make_step(kind, settings, strategy)
        before = weights(alone)
        losses = train(alone, steps)
        np.testing.assert_allclose(train(both, steps), losses, rtol=tolerance, atol=tolerance)
        for one, other in zip(weights(both), weights(alone), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
        moved = [np.abs(one - other).max() for one, other in zip(weights(alone), before)]
    assert np.median(moved) > 1e-4 and (losses > 0).all(), "there is something to compare"


@each_detector
def test_two_replicas_are_one(kind):
    """In float64 over three steps, one of them with a replica that has no box and one with a replica of weight 0."""
    compared(kind, PLAIN, 3, 1e-9)


@pytest.mark.slow
@each_detector
def test_two_replicas_are_one_in_float32(kind):
    compared(kind, replace(PLAIN, precision="float32"), 1, 1e-5)


@each_detector
def test_a_compiled_step_is_the_same_step(kind):
    """The losses of two steps, the second of them with a background; the weights between them too."""
    settings = replace(PLAIN, precision="float32", sync_norms=False)
    plain, fast = make_step(kind, settings), make_step(kind, replace(settings, xla=True))
    losses = train(plain, 2)
    np.testing.assert_allclose(train(fast, 2), losses, rtol=1e-4, atol=1e-4)
    for one, other in zip(weights(fast), weights(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
