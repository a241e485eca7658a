"""The segmenters in the engine's step: two replicas equal one, and a compiled step equals one that is not."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_segmenters import SEGMENTERS, pictures, segmenter

from resnet_tasks.data.masks import IGNORE
from resnet_tasks.engine.norms import set_norms
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.precision import precision
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.step import TrainStep
from resnet_tasks.engine.strategy import choose_strategy
from resnet_tasks.segmentation import DeepLabV3Plus, SemanticFPN, UNet

PLAIN = TrainSettings(epochs=1, batch_size=4, lr=0.05, momentum=0.0, precision="float64", sync_norms=True)
ALL = {"cross_entropy": 1.0, "focal": 0.5, "dice": 1.0, "lovasz": 0.25}
NAME, slow = (lambda kind: kind.__name__), pytest.mark.slow


def but_one_slow(fast):
    kinds = [kind if kind is fast else pytest.param(kind, marks=slow) for kind in SEGMENTERS]
    return pytest.mark.parametrize("kind", kinds, ids=NAME)


def batch(number: int) -> tuple[np.ndarray, dict]:
    """Weights that differ; in the second batch the second replica's half is void, in the third it has no weight."""
    images, targets = pictures(4, side=32, seed=number)
    targets["weight"] = np.float32([2, 1, 0.5, 3])
    if number == 1:
        targets["mask"][2:] = IGNORE
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


def build(kind):
    """With an auxiliary head, where it has one, and all losses."""
    own = {UNet: {"decoder_channels": [8, 8, 8]}, DeepLabV3Plus: {"aux": True}, SemanticFPN: {}}[kind]
    return segmenter(kind, (32, 32), spread=0.03, widths=(8,) * 3, losses=ALL, **own)


def make_step(kind, settings: TrainSettings, strategy=None) -> TrainStep:
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = build(kind)
        set_norms(model, synchronized=settings.sync_norms, frozen=False, fused=not settings.xla)
        return TrainStep(model, make_optimizer(settings), strategy, settings)


def train(step: TrainStep, steps: int) -> np.ndarray:
    """`(steps, terms + 1)`: all losses of all steps, and the norm of the gradient."""
    found = []
    for number in range(steps):
        outcome = step.run(placed(step.strategy, *batch(number)), tf.constant(PLAIN.lr, tf.float64))
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
            variable.assign_sub(PLAIN.lr * gradient)
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


@but_one_slow(DeepLabV3Plus)
def test_two_replicas_are_one(kind):
    """In float64 over three steps, one of them with a replica that is all void and one with a replica of weight 0."""
    compare_replicas(kind, PLAIN, 3, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEGMENTERS, ids=NAME)
def test_two_replicas_are_one_in_float32(kind):
    compare_replicas(kind, replace(PLAIN, precision="float32"), 1, 1e-5)


@but_one_slow(UNet)
def test_a_compiled_step_is_the_same_step(kind):
    """Two steps, the second of them half void.  `fit` compiles as well, for all three: see test_segmenters."""
    settings = replace(PLAIN, precision="float32", sync_norms=False, xla=True)
    compare(make_step(kind, settings), build(kind), 2, 1e-4)
