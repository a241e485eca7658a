"""The embedder in the engine's step: two replicas equal one, micro-batches too, and a compiled step is the same."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_embedder import embedder, pictures

from resnet_tasks.engine.norms import set_norms
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.precision import precision
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.step import TrainStep
from resnet_tasks.engine.strategy import choose_strategy

PLAIN = TrainSettings(epochs=1, batch_size=8, lr=0.05, momentum=0.0, precision="float64", sync_norms=True)
DECAY = 0.01


def batch(number: int) -> tuple[np.ndarray, dict]:
    """Weights that differ; in the second batch the second replica's half is of unknown identities, in the third it has
    no weight."""
    images, targets = pictures(8, seed=number)
    targets["weight"] = np.float32([2, 1, 0.5, 3, 1, 1, 4, 0.25])
    targets["step"] += number
    targets["epoch"] += number
    if number == 1:
        targets["label"][4:] = 7
    elif number == 2:
        targets["weight"][4:] = 0
    return images, targets


def placed(strategy, images: np.ndarray, targets: dict, micro_batches: int = 1) -> tuple:
    """The micro-batches, each cut over the replicas."""
    replicas = strategy.num_replicas_in_sync
    part = len(images) // replicas // micro_batches

    def share(values, micro: int):
        floats = keras.config.floatx() if values.dtype.kind == "f" else None
        own = values[micro * part * replicas :]
        if replicas == 1:
            return tf.constant(own[:part], floats)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(own[part * context.replica_id_in_sync_group :][:part], floats)
        )

    return tuple(
        (share(images, micro), {name: share(value, micro) for name, value in targets.items()})
        for micro in range(micro_batches)
    )


def build(**settings):
    """With all that there is: sub-centres, sampled negatives, a margin that grows with the batches' epochs."""
    rich = {"margin": "combined", "margins": (0.9, 0.4, 0.15), "centres": 2, "warm_up": 2, "sample_rate": 0.5}
    return embedder(spread=0.03, **{**rich, **settings})


def make_step(settings: TrainSettings, strategy=None, **chosen) -> TrainStep:
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = build(**chosen)
        set_norms(model, synchronized=settings.sync_norms, frozen=False, fused=not settings.xla)
        return TrainStep(model, make_optimizer(settings), strategy, settings)


def train(step: TrainStep, steps: int) -> np.ndarray:
    """`(steps, 2)`: the losses, and the norms of the gradient."""
    found = []
    for number in range(steps):
        data = placed(step.strategy, *batch(number), step.settings.accumulate)
        outcome = step.run(data, tf.constant(PLAIN.lr, tf.float64))
        assert bool(outcome.finite)
        found.append([float(outcome.losses["margin"]), float(outcome.gradient_norm)])
    return np.array(found)


def by_hand(model, steps: int, decay: float) -> np.ndarray:
    """The same of the whole batch at once, without the engine: plain descent, and what is decayed by name."""
    found, variables = [], model.trainable_variables
    for number in range(steps):
        ((images, targets),) = placed(tf.distribute.get_strategy(), *batch(number))
        with tf.GradientTape() as tape:
            total, normaliser = model.loss_terms(targets, model(images, training=True))["margin"]
            loss = total / normaliser
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, [variable.value for variable in variables])]
        found.append([float(loss), float(tf.linalg.global_norm(gradients))])
        for variable, gradient in zip(variables, gradients):
            decays = variable.path.endswith(("kernel", "class_centres/embeddings"))
            variable.value.assign_sub(PLAIN.lr * (gradient + (decay if decays else 0.0) * variable.value))
    return np.array(found)


def weights(model) -> list[np.ndarray]:
    return [variable.value.numpy() for variable in model.variables if variable.dtype.startswith("float")]


def compare(step: TrainStep, model, steps: int, tolerance: float) -> None:
    before = weights(model)
    losses = by_hand(model, steps, step.settings.weight_decay)
    np.testing.assert_allclose(train(step, steps), losses, rtol=tolerance, atol=tolerance)
    for one, other in zip(weights(step.model), weights(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
    moved = [np.abs(one - other).max() for one, other in zip(weights(model), before)]
    assert np.median(moved) > 10 * tolerance and (losses > 0).all(), "there is something to compare"


def test_two_replicas_are_one():
    """In float64 over three steps, one of them with a replica that knows nobody and one with a replica of weight 0."""
    with precision("float64"):
        strategy, _ = choose_strategy("mirrored", "cpu:2")
        settings = replace(PLAIN, weight_decay=DECAY)
        compare(make_step(settings, strategy), build(), 3, 1e-9)


def test_two_replicas_are_one_in_float32():
    with precision("float32"):
        strategy, _ = choose_strategy("mirrored", "cpu:2")
        settings = {"margin": "arcface", "margins": None, "scale": 64.0, "sample_rate": 1.0}
        compare(make_step(replace(PLAIN, precision="float32"), strategy, **settings), build(**settings), 1, 1e-5)


@pytest.mark.slow
def test_micro_batches_over_two_replicas_are_one_batch():
    """Without norms by the batch, which a micro-batch has fewer pictures for."""
    with precision("float64"):
        strategy, _ = choose_strategy("mirrored", "cpu:2")
        step = make_step(replace(PLAIN, accumulate=2), strategy, norm="group")
        model = build(norm="group")
        for each in (step.model, model):
            for layer in each._flatten_layers():
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.trainable = False
        step.retrace()
        compare(step, model, 3, 1e-9)


def test_a_compiled_step_is_the_same_step():
    """Two steps, the second of them half unknown."""
    settings = replace(PLAIN, precision="float32", sync_norms=False, xla=True, weight_decay=DECAY)
    compare(make_step(settings), build(), 2, 1e-4)
