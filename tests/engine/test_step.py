"""One training step against NumPy, against Keras, and over replicas and micro-batches against one whole batch."""

from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from resnet_tasks.classification.model import Classifier
from resnet_tasks.engine import step as step_module
from resnet_tasks.engine.norms import set_norms
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.precision import precision
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.step import FIRST_LOSS_SCALE, TrainStep
from resnet_tasks.engine.strategy import choose_strategy
from resnet_tasks.model import total_loss

BATCH = 16
RATES = (0.1, 0.3, 0.2, 0.05, 0.1)  # a schedule: momentum must carry the learning rate as Keras's does
PLAIN = TrainSettings(epochs=1, batch_size=BATCH, lr=0.1, momentum=0.9, precision="float64")


class ThreeTerms(Classifier):
    """Besides the cross-entropy a term over some of the examples only, and one over none, which must count as 0."""

    def loss_terms(self, targets, outputs):
        chosen = ops.cast(targets["chosen"], outputs.dtype)
        size = ops.mean(ops.square(outputs - 1.0), axis=-1)
        return {
            **super().loss_terms(targets, outputs),
            "size": (ops.sum(chosen * size), ops.sum(chosen)),
            "nothing": (ops.sum(ops.square(outputs)), ops.sum(0.0 * chosen)),
        }


class Poisoned(Classifier):
    """The slope of the root is not finite for examples that are not `good`; its value is."""

    def loss_terms(self, targets, outputs):
        total, normaliser = super().loss_terms(targets, outputs)["cross_entropy"]
        root = ops.sqrt(ops.mean(ops.square(outputs), axis=-1) * targets["good"])
        return {"cross_entropy": (total + 0.01 * ops.sum(root), normaliser)}


@pytest.fixture(autouse=True)
def float64():
    with precision("float64"):
        yield


def batch(seed: int) -> tuple[np.ndarray, dict]:
    """Weights from 0 to 3 that differ much between the batch's parts; only the last five examples are `chosen`."""
    random = np.random.default_rng(seed)
    images = random.uniform(0, 255, (BATCH, 8, 8, 3))
    label = random.integers(0, 3, BATCH).astype(np.int32)
    images += 40.0 * label[:, None, None, None]
    weight = np.where(np.arange(BATCH) < 4, 3.0, random.choice([0.0, 0.5, 1.0], BATCH))
    chosen = np.arange(BATCH) >= BATCH - 5
    return images, {"label": label, "weight": weight, "chosen": chosen, "good": np.ones(BATCH)}


BATCHES = [batch(seed) for seed in range(20)]


def placed(strategy, images: np.ndarray, targets: dict, micro_batches: int = 1) -> tuple:
    """The micro-batches of a step, each cut over the replicas."""
    replicas = strategy.num_replicas_in_sync
    part = len(images) // (micro_batches * replicas)
    floats = keras.config.floatx()

    def share(values, micro):
        def own(replica: int):
            start = (micro * replicas + replica) * part
            rows = values[start : start + part]
            return tf.constant(rows, floats if rows.dtype.kind == "f" else None)

        if replicas == 1:
            return own(0)
        return strategy.experimental_distribute_values_from_function(
            lambda context: own(context.replica_id_in_sync_group)
        )

    columns = range(micro_batches)
    return tuple((share(images, m), {name: share(values, m) for name, values in targets.items()}) for m in columns)


def start(model: keras.Model) -> keras.Model:
    """Gives a model weights that are the same everywhere, and no norm or bias at its first value."""
    random = np.random.default_rng(9)
    for variable in model.weights:
        value = random.normal(0.0, 0.4, variable.shape)
        variable.assign(np.abs(value) + 0.5 if "gamma" in variable.path or "variance" in variable.path else value)
    return model


def make_step(pyramid, settings: TrainSettings, strategy=None, kind=ThreeTerms) -> TrainStep:
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        model = start(kind(backbone=pyramid(), class_names=["a", "b", "c"]))
        set_norms(model, synchronized=settings.sync_norms, frozen=settings.freeze_norms, fused=not settings.xla)
        return TrainStep(model, make_optimizer(settings), strategy, settings)


def train(step: TrainStep, steps: int, rates=RATES) -> np.ndarray:
    """`(steps, terms)`: all losses of all steps."""
    losses = []
    for number in range(steps):
        micro_batches = placed(step.strategy, *BATCHES[number], step.settings.accumulate)
        outcome = step.run(micro_batches, tf.constant(rates[number % len(rates)], tf.float64))
        assert bool(outcome.finite)
        losses.append([float(outcome.losses[name]) for name in sorted(outcome.losses)])
    return np.array(losses)


def weights(model: keras.Model) -> list[np.ndarray]:
    return [variable.value.numpy() for variable in model.variables if variable.dtype.startswith("float")]


def assert_same(got: list, expected: list, tolerance: float) -> None:
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def by_hand(pyramid, steps: int, rule, each=lambda model: None, kind=ThreeTerms) -> keras.Model:
    """The same training without the engine: the whole batch's gradients, and `rule(variables, gradients, lr)`."""
    model = start(kind(backbone=pyramid(), class_names=["a", "b", "c"]))
    for number in range(steps):
        images, targets = BATCHES[number]
        with tf.GradientTape() as tape:
            loss = total_loss(model.loss_terms(targets, model(tf.constant(images), training=True)))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        rule(model.trainable_variables, [gradient.numpy() for gradient in gradients], RATES[number % len(RATES)])
        each(model)
    return model


def sgd(momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0, clip: float | None = None):
    """Sutskever et al. 2013 in NumPy, with the decay added to the gradient of what is no vector."""
    velocities = {}

    def rule(variables, gradients, lr):
        norm = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients))
        for variable, gradient in zip(variables, gradients):
            gradient = gradient * min(1.0, clip / norm) if clip else gradient
            gradient = gradient + decay * variable.numpy() * (variable.value.shape.rank > 1)
            velocity = momentum * velocities.get(variable.path, 0.0) - lr * gradient
            velocities[variable.path] = velocity
            variable.assign(variable.numpy() + (momentum * velocity - lr * gradient if nesterov else velocity))

    return rule


# Keras takes 0.9 to float64 by way of float32; seven eighths are exact in both.
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.875, False), (0.875, True)])
def test_sgd_couples_the_decay_and_leaves_norms_and_biases_out(tiny_pyramid, momentum, nesterov):
    settings = replace(PLAIN, momentum=momentum, nesterov=nesterov, weight_decay=0.2)
    step = make_step(tiny_pyramid, settings)
    train(step, 5)
    expected = by_hand(tiny_pyramid, 5, sgd(momentum, nesterov, 0.2))
    assert_same(weights(step.model), weights(expected), 1e-11)
    assert int(step.optimizer.iterations.numpy()) == int(step.updates.numpy()) == 5


@pytest.mark.parametrize(("name", "kind"), [("adamw", keras.optimizers.AdamW), ("lamb", keras.optimizers.Lamb)])
def test_decoupled_decay_is_that_of_keras(tiny_pyramid, name, kind):
    step = make_step(tiny_pyramid, replace(PLAIN, optimizer=name, weight_decay=0.3))
    train(step, 5)
    optimizer = kind(0.1, weight_decay=0.3)

    def rule(variables, gradients, lr):
        if not optimizer.built:
            optimizer.exclude_from_weight_decay([variable for variable in variables if len(variable.shape) < 2])
        optimizer.learning_rate = lr
        optimizer.apply([tf.constant(gradient) for gradient in gradients], variables)

    expected = by_hand(tiny_pyramid, 5, rule)
    assert_same(weights(step.model), weights(expected), 1e-6)


def test_an_average_follows_all_variables(tiny_pyramid):
    """decay = min(0.7, (1 + n) / (10 + n)) after update n, the moving statistics too."""
    step = make_step(tiny_pyramid, replace(PLAIN, momentum=0.0, ema=0.7))
    averages, counts = weights(step.model), iter(range(1, 100))

    def follow(model):
        decay = min(0.7, (1 + (count := next(counts))) / (10 + count))
        for average, value in zip(averages, weights(model)):
            average[...] = decay * average + (1 - decay) * value

    train(step, 20)
    by_hand(tiny_pyramid, 20, sgd(), follow)
    names = [variable.path for variable in step.averaged]
    assert sum("moving_mean" in name or "moving_variance" in name for name in names) == 4
    assert_same([average.numpy() for average in step.average], averages, 1e-6)  # the decay is float32's
    moved = [np.abs(a - v).max() for a, v in zip(averages, weights(step.model))]
    assert min(moved) > 1e-4, "every average differs from its variable, or this test would not tell them apart"


@pytest.mark.parametrize("devices", ["cpu:1", "cpu:2"])
def test_clipping_takes_the_norm_of_the_whole_gradient(tiny_pyramid, devices):
    strategy, _ = choose_strategy("auto", devices)
    step = make_step(partial(tiny_pyramid, norm=False), replace(PLAIN, clip_norm=0.05, momentum=0.0), strategy)
    norms = []

    def rule(variables, gradients, lr):
        norms.append(np.sqrt(sum(np.sum(gradient**2) for gradient in gradients)))
        sgd(clip=0.05)(variables, gradients, lr)

    expected = by_hand(partial(tiny_pyramid, norm=False), 3, rule)
    for number in range(3):
        outcome = step.run(placed(strategy, *BATCHES[number]), tf.constant(RATES[number], tf.float64))
        assert float(outcome.gradient_norm) == pytest.approx(norms[number], rel=1e-10)
    assert min(norms) > 0.1, "all of them are clipped"
    assert_same(weights(step.model), weights(expected), 1e-11)


def test_micro_batches_are_the_whole_batch(tiny_pyramid):
    """Three terms: of uneven normalisers, one of which is 0 in the first micro-batch and one in both."""
    whole = make_step(partial(tiny_pyramid, norm=False), PLAIN)
    parts = make_step(partial(tiny_pyramid, norm=False), replace(PLAIN, accumulate=2))
    losses = train(whole, 5)
    np.testing.assert_allclose(train(parts, 5), losses, rtol=0, atol=1e-9)
    assert_same(weights(parts.model), weights(whole.model), 1e-9)
    assert np.ptp(losses[:, 0]) > 0.01, "it learns"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_term_over_nothing_is_zero(tiny_pyramid, accumulate):
    step = make_step(partial(tiny_pyramid, norm=False), replace(PLAIN, accumulate=accumulate))
    images, targets = BATCHES[0]
    targets = {**targets, "chosen": np.zeros(BATCH, bool)}
    outcome = step.run(placed(step.strategy, images, targets, accumulate), tf.constant(0.1, tf.float64))
    assert float(outcome.losses["nothing"]) == float(outcome.losses["size"]) == 0.0
    assert float(outcome.losses["loss"]) == float(outcome.losses["cross_entropy"]) > 0
    assert bool(outcome.finite) and all(np.isfinite(value).all() for value in weights(step.model))
    expected = start(ThreeTerms(backbone=tiny_pyramid(norm=False), class_names=["a", "b", "c"]))
    with tf.GradientTape() as tape:
        total, normaliser = expected.loss_terms(targets, expected(tf.constant(images)))["cross_entropy"]
        loss = total / normaliser
    norm = tf.linalg.global_norm(tape.gradient(loss, [v.value for v in expected.trainable_variables]))
    assert float(outcome.gradient_norm) == pytest.approx(float(norm), rel=1e-10)


@pytest.fixture(scope="module")
def one_replica():
    """Losses and weights of 20 steps on one replica, by the number of micro-batches; each is trained once."""
    return {}


@pytest.mark.parametrize(("devices", "accumulate"), [("cpu:2", 1), ("cpu:4", 1), ("cpu:2", 2)])
def test_replicas_are_one(tiny_pyramid, one_replica, devices, accumulate):
    """Losses with uneven weights, weights of the network and moving statistics after 20 steps, in float64."""
    settings = replace(PLAIN, accumulate=accumulate, sync_norms=True, ema=0.9, weight_decay=0.01, clip_norm=2.0)
    if accumulate not in one_replica:
        alone = make_step(tiny_pyramid, settings)
        one_replica[accumulate] = train(alone, 20), weights(alone.model), [a.numpy() for a in alone.average]
    losses, values, averages = one_replica[accumulate]
    strategy, _ = choose_strategy("mirrored", devices)
    step = make_step(tiny_pyramid, settings, strategy)
    np.testing.assert_allclose(train(step, 20), losses, rtol=0, atol=1e-9)
    assert_same(weights(step.model), values, 1e-9)
    assert_same([average.numpy() for average in step.average], averages, 1e-9)
    for variable in step.model.variables:
        replicas = [part.numpy() for part in variable.value.values]
        assert all(np.array_equal(replicas[0], other) for other in replicas[1:]), variable.path
    assert losses[-1, 1] < losses[0, 1] - 0.05, "it learns"


def test_replicas_are_one_in_float32_with_frozen_norms(tiny_pyramid):
    settings = replace(PLAIN, precision="float32", freeze_norms=True)
    with precision("float32"):
        alone = make_step(tiny_pyramid, settings)
        strategy, _ = choose_strategy("mirrored", "cpu:2")
        step = make_step(tiny_pyramid, settings, strategy)
        assert len(alone.model.trainable_variables) == 4
        before = {v.path: v.numpy() for v in alone.model.variables if "norm" in v.path}
        np.testing.assert_allclose(train(step, 20), train(alone, 20), rtol=0, atol=1e-5)
    after = {v.path: v.numpy() for v in alone.model.variables if "norm" in v.path}
    assert all(np.array_equal(before[path], after[path]) for path in before) and len(before) == 8


def test_a_gradient_that_is_not_finite_on_one_replica_stops_all(tiny_pyramid, monkeypatch):
    """float16: the step is left out everywhere and the scale is halved; the next step is made, and the scale grows."""
    monkeypatch.setattr(step_module, "GROW_AFTER", 2)
    strategy, _ = choose_strategy("mirrored", "cpu:2")
    images, targets = BATCHES[0]
    good = np.ones(BATCH)
    good[BATCH - 3] = 0.0  # lies on the second replica
    with precision("float16"):
        settings = replace(PLAIN, precision="float16", freeze_norms=True, ema=0.9)
        step = make_step(tiny_pyramid, settings, strategy, Poisoned)
        before = weights(step.model)
        outcome = step.run(placed(strategy, images, {**targets, "good": good}), tf.constant(0.1, tf.float64))
        assert np.isfinite(float(outcome.losses["loss"])), "the loss does not tell"
        assert not bool(outcome.finite) and not np.isfinite(float(outcome.gradient_norm))
        assert_same(weights(step.model), before, 0.0)
        assert_same([average.numpy() for average in step.average], before, 0.0)
        assert int(step.optimizer.iterations.numpy()) == int(step.updates.numpy()) == 0
        assert float(step.scale.numpy()) == FIRST_LOSS_SCALE / 2
        for count in (1, 2):
            outcome = step.run(placed(strategy, images, targets), tf.constant(0.1, tf.float64))
            assert bool(outcome.finite)
            assert int(step.updates.numpy()) == int(step.finite_in_a_row.numpy()) == count
        assert float(step.scale.numpy()) == FIRST_LOSS_SCALE
    moved = [not np.array_equal(one, other) for one, other in zip(weights(step.model), before)]
    assert sum(moved) == 4
    for variable in step.model.trainable_variables:
        first, second = (part.numpy() for part in variable.value.values)
        assert np.array_equal(first, second)


def test_the_loss_scale_divides_out(tiny_pyramid):
    """The mixed policy's gradient, unscaled, is float32's to float16's three digits."""
    norms = []
    for name in ("float32", "float16"):
        with precision(name):
            step = make_step(tiny_pyramid, replace(PLAIN, precision=name, freeze_norms=True))
            for _ in range(10):  # steps that overflow are left out, and halve the scale until none does
                outcome = step.run(placed(step.strategy, *BATCHES[0]), tf.constant(0.1, tf.float64))
                if bool(outcome.finite):
                    break
            norms.append(float(outcome.gradient_norm))
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def test_an_input_that_is_not_finite_leaves_the_weights_alone(tiny_pyramid):
    step = make_step(partial(tiny_pyramid, norm=False), replace(PLAIN, ema=0.9, weight_decay=0.1))
    before = weights(step.model)
    images, targets = BATCHES[0]
    images = images.copy()
    images[3, 2, 2, 1] = np.nan
    outcome = step.run(placed(step.strategy, images, targets), tf.constant(0.1, tf.float64))
    assert not bool(outcome.finite) and np.isnan(float(outcome.losses["loss"]))
    assert_same(weights(step.model), before, 0.0)
    assert_same([average.numpy() for average in step.average], before, 0.0)
    assert int(step.updates.numpy()) == 0 and float(step.scale.numpy()) == 1.0


@pytest.mark.parametrize(
    ("devices", "accumulate"),
    [("cpu:1", 1), pytest.param("cpu:1", 2, marks=pytest.mark.slow), pytest.param("cpu:2", 1, marks=pytest.mark.slow)],
)
def test_xla_gives_the_same_losses(tiny_pyramid, devices, accumulate):
    settings = replace(PLAIN, precision="float32", accumulate=accumulate, freeze_norms=devices != "cpu:1")
    strategy, _ = choose_strategy("auto", devices)
    with precision("float32"):
        plain = make_step(tiny_pyramid, settings, strategy)
        compiled = make_step(tiny_pyramid, replace(settings, xla=True), strategy)
        losses = train(plain, 5)
        np.testing.assert_allclose(train(compiled, 5), losses, rtol=0, atol=1e-5 if devices != "cpu:1" else 1e-4)
    assert np.ptp(losses[:, 0]) > 0.01
