"""Frozen levels, gradual unfreezing and layer-wise rates: what changes in a step, and what does not by a bit."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.classification.model import Classifier
from resnet_tasks.engine.finetune import freeze, frozen_levels, levels, rates
from resnet_tasks.engine.norms import set_norms
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.step import TrainStep
from resnet_tasks.errors import UsageError

PLAIN = TrainSettings(epochs=1, batch_size=8, lr=0.1, momentum=0.0, weight_decay=0.01)


@pytest.fixture
def model(tiny_pyramid) -> Classifier:
    """C0 and C1, and the head."""
    keras.utils.set_random_seed(1)
    return Classifier(backbone=tiny_pyramid(), class_names=["a", "b", "c"], image_size=(8, 8))


def one_step(model, settings: TrainSettings, frozen: tuple[str, ...] = ()) -> dict[str, float]:
    """By variable, its largest change in a step; the optimizer's too."""
    set_norms(model, synchronized=False, frozen=settings.freeze_norms, fused=True)
    freeze(model, (), norms=settings.freeze_norms)
    step = TrainStep(model, make_optimizer(settings), tf.distribute.get_strategy(), settings)
    freeze(model, frozen, norms=settings.freeze_norms)
    step.retrace()
    variables = [*model.variables, *step.optimizer.variables]
    before = [variable.numpy() for variable in variables]
    rng = np.random.default_rng(0)
    targets = {"label": tf.constant(rng.integers(0, 3, 8), tf.int32), "weight": tf.ones(8)}
    step.run(((tf.constant(rng.uniform(0, 255, (8, 8, 8, 3)), tf.float32), targets),), tf.constant(0.1, tf.float64))
    return {v.path: float(np.abs(v.numpy() - value).max()) for v, value in zip(variables, before)}


def test_levels_are_the_backbones_and_the_head(model):
    of_layer = levels(model)
    assert [of_layer[name] for name in ("conv0", "norm0", "conv1", "norm1", "logits")] == [
        "C0",
        "C0",
        "C1",
        "C1",
        "head",
    ]


@pytest.mark.parametrize(("frozen", "still"), [((), ()), (("C0",), ("0",)), (("C0", "C1"), ("0", "1"))])
def test_what_is_frozen_does_not_move_by_a_bit(model, frozen, still):
    changes = one_step(model, replace(PLAIN, momentum=0.9), frozen)
    counted = {path: change for path, change in changes.items() if "iteration" not in path and "learning" not in path}
    for path, change in counted.items():
        owner = path.split("/")[-1] if "sgd" in path.lower() else path.split("/")[0]
        if any(f"conv{level}" in owner or f"norm{level}" in owner for level in still):
            assert change == 0.0, path
        else:
            assert change > 0.0, path


def test_frozen_norms_leave_the_rest_training(model):
    changes = one_step(model, replace(PLAIN, freeze_norms=True))
    assert changes["norm0/gamma"] == changes["norm1/moving_mean"] == 0.0
    assert changes["conv0/kernel"] > 0 and changes["logits/kernel"] > 0


def test_thawed_levels_train_again(model):
    settings = replace(PLAIN, freeze="C0")
    assert one_step(model, settings, ("C0",))["conv0/kernel"] == 0
    changes = one_step(model, settings, ())
    assert changes["conv0/kernel"] > 0 and changes["norm0/moving_mean"] > 0


def test_gradual_unfreezing_begins_with_the_coarsest(model):
    settings = replace(PLAIN, freeze="backbone", unfreeze_every=2)
    frozen = [frozen_levels(model, settings, epoch) for epoch in range(6)]
    assert frozen == [("C0", "C1"), ("C0", "C1"), ("C0",), ("C0",), (), ()]
    assert frozen_levels(model, replace(PLAIN, freeze="C0"), 99) == ("C0",)
    assert frozen_levels(model, PLAIN, 0) == ()
    with pytest.raises(UsageError, match="train.freeze: tiny has C0, C1, and no C4"):
        frozen_levels(model, replace(PLAIN, freeze="C4"), 0)


def test_layer_wise_rates_are_powers_of_the_decay(model):
    found = rates(model, replace(PLAIN, layer_decay=0.5))
    assert found["logits/kernel"] == 1.0 and found["conv1/kernel"] == 0.5 and found["norm0/gamma"] == 0.25
    assert rates(model, PLAIN) == {}


def test_a_step_is_that_much_smaller(model):
    """Plain SGD: a variable's change is its gradient times its rate, decay included."""
    weights = model.get_weights()
    whole = one_step(model, PLAIN)
    model.set_weights(weights)
    decayed = one_step(model, replace(PLAIN, layer_decay=0.5))
    for path, factor in (("logits/kernel", 1.0), ("conv1/kernel", 0.5), ("conv0/kernel", 0.25), ("norm0/gamma", 0.25)):
        assert decayed[path] == pytest.approx(factor * whole[path], rel=1e-3), path
