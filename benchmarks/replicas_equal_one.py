"""How far 2 and 4 replicas are from one that trains on the same global batches.

    python benchmarks/replicas_equal_one.py [--steps 20] [--replicas 2 4]

Logical CPU devices under MirroredStrategy, through a task as `resnet-tasks classify train` builds it: the embedded
digits and a net of two layers.  A row is a thing that replicas can get wrong; its figure is the largest difference of
any loss, of any variable at the end (weights, optimizer, averages, moving statistics), and of any measured value.
float64 proves equality; float32 shows what rounding leaves of it, with frozen norms, which amplify rounding otherwise.
The script ends with 1 if a row is above 1e-5.
"""

import argparse
import functools
import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from resnet_tasks.engine.evaluate import Evaluator, distributed
from resnet_tasks.engine.norms import set_norms
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.precision import precision
from resnet_tasks.engine.schedule import learning_rate
from resnet_tasks.engine.step import TrainStep, averaged
from resnet_tasks.engine.strategy import choose_strategy, prepare_devices
from resnet_tasks.model import Pyramid
from resnet_tasks.recipes import build
from resnet_tasks.recipes.load import load_recipe
from resnet_tasks.recipes.tasks import task_of

LIMIT = 1e-5
BASE = {
    "model.backbone": f"{__name__}:backbone",
    "model.norm": "sync_batch",
    "train.precision": "float64",
    "train.batch_size": 64,
    "train.weight_decay": 0.0,
    "train.lr": 0.1,
    "augment.pad_crop": 1,
    "train.bn": "train",
}
GROUPED = {"model.backbone": f"{__name__}:grouped_backbone", "model.norm": "batch"}
ROWS = {
    "synchronised norms, momentum, cosine": {},
    "group norms": GROUPED,
    "weight decay, coupled (SGD)": {"train.weight_decay": 5e-2},
    "weight decay, decoupled (AdamW)": {"train.optimizer": "adamw", "train.weight_decay": 5e-2, "train.lr": 1e-3},
    "LAMB": {"train.optimizer": "lamb", "train.weight_decay": 5e-2, "train.lr": 1e-3},
    "clipping by the global norm": {"train.clip_norm": 0.2},
    "4 micro-batches": {**GROUPED, "train.accumulate": 4},
    "4 micro-batches, clipped, decayed": {
        **GROUPED,
        "train.accumulate": 4,
        "train.clip_norm": 0.2,
        "train.weight_decay": 5e-2,
    },
    "averaged weights (EMA)": {"train.ema": 0.9},
    "class weights: uneven sums over shards": {"data.balance": "weights"},
    "mixup": {"augment.mixup": 0.4},
    "cutmix": {"augment.cutmix": 1.0},
    "label smoothing": {"train.label_smoothing": 0.1},
    "evaluation with a partial last batch": {"evaluate.batch_size": 50},
    "several steps in one execution": {"train.steps_per_execution": 5},
    "float32, frozen norms": {"train.precision": "float32", "train.bn": "freeze", "train.lr": 0.01},
    "float32, frozen norms, XLA": {
        "train.precision": "float32",
        "train.bn": "freeze",
        "train.lr": 0.01,
        "train.xla": True,
    },
}


def backbone(input_shape=(None, None, 3), grouped: bool = False) -> Pyramid:
    """Strides 2 and 4, with batch or group norms."""
    image = keras.Input(input_shape, name="image")
    x, features = layers.Rescaling(1 / 127.5, offset=-1.0)(image), {}
    for level, filters in (("C1", 16), ("C2", 32)):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.GroupNormalization(8)(x) if grouped else layers.BatchNormalization(momentum=0.9)(x)
        features[level] = x = layers.ReLU()(x)
    return Pyramid(image, features, name="two_layers")


grouped_backbone = functools.partial(backbone, grouped=True)


def trained(replicas: int, steps: int, changes: dict) -> dict[str, np.ndarray]:
    """Losses, variables and measured values after so many steps."""
    if replicas == 1:  # the reference takes the whole batch at once
        changes = {**changes, "train.accumulate": 1, "train.steps_per_execution": 1}
    recipe = load_recipe("quickstart/classify_digits", "classify", {**BASE, **changes})
    recipe, _ = build.resolve(recipe, accelerator=False, replicas=replicas)
    strategy, _ = choose_strategy("one" if replicas == 1 else "mirrored", f"cpu:{replicas}")
    task, settings = task_of(recipe, build.read(recipe)), build.train_settings(recipe, replicas)
    with precision(settings.precision):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = task.build()
            set_norms(model, synchronized=settings.sync_norms, frozen=settings.freeze_norms)
            step = TrainStep(model, make_optimizer(settings), strategy, settings)
        batches = task.batches("train", training=True)
        data = iter(distributed(strategy, batches, 0, settings.accumulate))
        losses = []
        for number in range(0, steps, settings.steps_per_execution):
            rates = [
                learning_rate(n, batches.steps, settings) for n in range(number, number + settings.steps_per_execution)
            ]
            if len(rates) > 1:
                outcomes = step.run_many(data, rates)
            else:
                micro_batches = tuple(next(data) for _ in range(settings.accumulate))
                outcomes = [step.run(micro_batches, tf.constant(rates[0], tf.float64))]
            losses += [float(outcome.losses["loss"]) for outcome in outcomes]
        with averaged(step):
            measured = Evaluator(task, model, strategy, "val").run()
        variables = [*model.variables, *step.optimizer.variables]
        kept = np.concatenate([np.ravel(variable.numpy()).astype("float64") for variable in variables])
        average = np.concatenate([[0.0], *(np.ravel(variable.numpy()) for variable in step.average)])
    return {
        "loss": np.array(losses),
        "variables": np.concatenate([kept, average]),
        "measured": np.array([measured["top1"], measured["loss"], measured["ece"], measured["images"]]),
    }


def overflow(replicas: int) -> float:
    """float16: one picture of the last replica overflows; the largest change that its step makes on any replica."""
    changes = {**GROUPED, "train.precision": "float16"}
    recipe, _ = build.resolve(
        load_recipe("quickstart/classify_digits", "classify", {**BASE, **changes}), False, replicas
    )
    strategy, _ = choose_strategy("mirrored", f"cpu:{replicas}")
    task, settings = task_of(recipe, build.read(recipe)), build.train_settings(recipe, replicas)
    with precision(settings.precision), strategy.scope():
        model = task.build()
        step = TrainStep(model, make_optimizer(settings), strategy, settings)
        images, targets = next(iter(distributed(strategy, task.batches("train", training=True))))
        last = strategy.experimental_local_results(images)[-1]
        poisoned = iter([*strategy.experimental_local_results(images)[:-1], tf.fill(last.shape, float("nan"))])
        images = strategy.experimental_distribute_values_from_function(lambda _: next(poisoned))
        before = [variable.numpy() for variable in model.trainable_variables]
        outcome = step.run(((images, targets),), tf.constant(0.1, tf.float64))
        assert not bool(outcome.finite)
        local = [strategy.experimental_local_results(variable.value) for variable in model.trainable_variables]
        return max(float(np.abs(v.numpy() - b).max()) for values, b in zip(local, before) for v in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--replicas", type=int, nargs="+", default=[2, 4])
    options = parser.parse_args()
    prepare_devices(f"cpu:{max(options.replicas)}")
    print("| what | " + " | ".join(f"{n} replicas: loss, variables, measured" for n in options.replicas) + " |")
    print("|---|" + "---|" * len(options.replicas), flush=True)
    worst = 0.0
    for name, changes in ROWS.items():
        one, cells = trained(1, options.steps, changes), []
        for replicas in options.replicas:
            many = trained(replicas, options.steps, changes)
            gaps = [float(np.abs(many[key] - one[key]).max()) for key in one]
            worst = max(worst, *gaps)
            cells.append(", ".join(f"{gap:.1e}" for gap in gaps))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    changes = [overflow(replicas) for replicas in options.replicas]
    worst = max(worst, *changes)
    print("| float16, an overflow on the last replica: change of any weight | " + " | ".join(map(str, changes)) + " |")
    print(json.dumps({"benchmark": "replicas_equal_one", "largest_difference": worst, "steps": options.steps}))
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
