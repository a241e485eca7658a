"""How fast our ResNet-50 trains beside `keras.applications.ResNet50`, the same net, in one run.

    python benchmarks/resnet50_against_keras_applications.py [--side 224] [--batch 16] [--steps 3] [--pairs 3]

Both are trained by `train_on_batch` (SGD with momentum) on the same noise in float32, and ours by the engine's step
too, as `resnet-tasks classify train` does.  `keras.applications` has biases in its convolutions, and strides in the
first 1x1, as `resnet_50_v1` does.
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

CLASSES = 1000


def ours(side: int) -> Classifier:
    """`resnet_50_v1` with a classifier."""
    backbone = backbones.create("resnet_50_v1", input_shape=(side, side, 3))
    return Classifier(backbone=backbone, class_names=[str(n) for n in range(CLASSES)], image_size=(side, side))


def theirs(side: int) -> keras.Model:
    """`keras.applications.ResNet50`, from scratch."""
    return keras.applications.ResNet50(
        weights=None, input_shape=(side, side, 3), classes=CLASSES, classifier_activation=None
    )


def bare(net: keras.Model, images, labels):
    """A step of Keras's own."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
    return lambda: net.train_on_batch(images, labels)


def engine(net: Classifier, images, labels):
    """A step of the engine."""
    settings = TrainSettings(epochs=1, batch_size=len(images), lr=0.01, weight_decay=1e-4)
    set_norms(net, synchronized=False, frozen=False, fused=True)
    set_convolutions(net, fewer_products=on_cpus_alone())
    step = TrainStep(net, make_optimizer(settings), tf.distribute.get_strategy(), settings)
    targets = {"label": tf.constant(labels, tf.int32), "weight": tf.ones(len(images))}
    batch = ((tf.constant(images), targets),)
    return lambda: float(step.run(batch, tf.constant(0.01, tf.float64)).losses["loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("side", 224), ("batch", 16), ("steps", 3), ("pairs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.batch, options.side, options.side, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, options.batch)
    net = ours(options.side)
    steps = {
        "ours": bare(keras.Model(net.input, net.output), images, labels),
        "ours_by_the_engine": engine(ours(options.side), images, labels),
        "keras_applications": bare(theirs(options.side), images, labels),
    }
    for step in steps.values():
        step()
    rounds = []
    for number in range(options.pairs):
        rounds.append({})
        for name in sorted(steps, reverse=bool(number % 2)):
            start = time.perf_counter()
            for _ in range(options.steps):
                steps[name]()
            rounds[-1][name] = options.batch * options.steps / (time.perf_counter() - start)
        print(", ".join(f"{name} {rounds[-1][name]:.2f} pictures/s" for name in steps), flush=True)
    ratios = {
        f"{name}_speed_over_keras_applications": round(
            statistics.median(speed[name] / speed["keras_applications"] for speed in rounds), 4
        )
        for name in ("ours", "ours_by_the_engine")
    }
    result = {"benchmark": "resnet50_against_keras_applications", **ratios}
    print(json.dumps({**result, "side": options.side, "batch": options.batch, "pairs": options.pairs}))


if __name__ == "__main__":
    main()
