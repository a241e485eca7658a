"""What a step through the engine costs beside a bare `keras.Model.fit` of the same net on the same batches.

    python benchmarks/engine_overhead.py [--steps 30] [--pairs 7]

ResNet-20, batch 128, pictures in memory, float32.  Both do the same mathematics (SGD with momentum and Nesterov); the
engine also has its weight decay, the gradient's norm and the check that all is finite.  It is measured as it trains,
with the fused kernel of batch norms, and with Keras's norms, which are what `fit` runs: that ratio is the loop's own
cost.  They take turns, in alternating order; what is printed is the median of the rounds' ratios.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

import keras
import numpy as np
import tensorflow as tf

from resnet_tasks import backbones
from resnet_tasks.classification import Classifier
from resnet_tasks.engine.convolutions import on_cpus_alone, set_convolutions
from resnet_tasks.engine.norms import set_norms
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.step import TrainStep

BATCH = 128
SETTINGS = TrainSettings(epochs=1, batch_size=BATCH, lr=0.01, nesterov=True, weight_decay=5e-4)


def network() -> Classifier:
    """The net of both."""
    backbone = backbones.create("resnet_20_cifar", input_shape=(32, 32, 3))
    return Classifier(backbone=backbone, class_names=[str(n) for n in range(10)], image_size=(32, 32))


def batches() -> tf.data.Dataset:
    """Eight batches in memory, without end."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8 * BATCH, 32, 32, 3)).astype("float32")
    label = rng.integers(0, 10, 8 * BATCH).astype("int32")
    targets = {"label": label, "weight": np.ones(8 * BATCH, "float32")}
    return (
        tf.data.Dataset.from_tensor_slices((images, targets))
        .batch(BATCH, drop_remainder=True)
        .cache()
        .repeat()
        .prefetch(2)
    )


class Fit:
    """`keras.Model.fit`, bare."""

    def __init__(self):
        net = network()
        self.model = keras.Model(net.input, net.output)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), loss, jit_compile=False)
        self.data = batches().map(lambda images, targets: (images, targets["label"]))

    def run(self, steps: int) -> None:
        self.model.fit(self.data, steps_per_epoch=steps, epochs=1, verbose=0)


class Engine:
    """The engine's step, its outcomes read at the end as the loop does; with its fused norms, or with Keras's own."""

    def __init__(self, fused: bool):
        strategy = tf.distribute.get_strategy()
        net = network()
        set_norms(net, synchronized=False, frozen=False, fused=fused)
        set_convolutions(net, fewer_products=on_cpus_alone())
        self.step = TrainStep(net, make_optimizer(SETTINGS), strategy, SETTINGS)
        self.data = batches()

    def run(self, steps: int) -> None:
        data, outcomes = iter(self.data), []
        for _ in range(steps):
            outcomes.append(self.step.run((next(data),), tf.constant(0.01, tf.float64)))
        for outcome in outcomes:
            float(outcome.losses["loss"])


def timed(runner, steps: int) -> float:
    """Seconds a step."""
    start = time.perf_counter()
    runner.run(steps)
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    runners = {"engine": Engine(fused=True), "engine_with_keras_norms": Engine(fused=False), "fit": Fit()}
    for runner in runners.values():
        runner.run(3)
    rounds = []
    for number in range(options.pairs):
        order = sorted(runners, reverse=bool(number % 2))
        rounds.append({name: timed(runners[name], options.steps) for name in order})
        print(", ".join(f"{name} {BATCH / rounds[-1][name]:.0f} pictures/s" for name in runners), flush=True)
    ratios = {
        f"{name}_step_time_over_fit": round(statistics.median(seconds[name] / seconds["fit"] for seconds in rounds), 4)
        for name in runners
        if name != "fit"
    }
    print(json.dumps({"benchmark": "engine_overhead", **ratios, "pairs": options.pairs, "steps": options.steps}))


if __name__ == "__main__":
    main()
