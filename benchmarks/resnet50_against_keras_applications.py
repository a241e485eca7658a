"""How fast our ResNet-50 trains beside `keras.applications.ResNet50`, the same net, in one run.

    python benchmarks/resnet50_against_keras_applications.py [--side 224] [--batch 16] [--steps 3] [--pairs 3]

Both are trained by the same bare step (SGD with momentum) on the same noise in float32.  `keras.applications` has
biases in its convolutions and strides in the first 1x1, as `resnet_50_v1` strides too.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from resnet_tasks import backbones
from resnet_tasks.classification import Classifier

CLASSES = 1000


def ours(side: int) -> keras.Model:
    """`resnet_50_v1` with a classifier."""
    backbone = backbones.create("resnet_50_v1", input_shape=(side, side, 3))
    net = Classifier(backbone=backbone, class_names=[str(n) for n in range(CLASSES)], image_size=(side, side))
    return keras.Model(net.input, net.output)


def theirs(side: int) -> keras.Model:
    """`keras.applications.ResNet50`, from scratch."""
    return keras.applications.ResNet50(weights=None, input_shape=(side, side, 3), classes=CLASSES, classifier_activation=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("side", 224), ("batch", 16), ("steps", 3), ("pairs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.batch, options.side, options.side, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, options.batch)
    nets = {"ours": ours(options.side), "keras.applications": theirs(options.side)}
    for net in nets.values():
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        net.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
        net.train_on_batch(images, labels)
    ratios = []
    for number in range(options.pairs):
        speed = {}
        for name in sorted(nets, reverse=bool(number % 2)):
            start = time.perf_counter()
            for _ in range(options.steps):
                nets[name].train_on_batch(images, labels)
            speed[name] = options.batch * options.steps / (time.perf_counter() - start)
        ratios.append(speed["ours"] / speed["keras.applications"])
        print(", ".join(f"{name} {rate:.2f} pictures/s" for name, rate in speed.items()), flush=True)
    result = {"benchmark": "resnet50_against_keras_applications", "speed_over_keras": round(statistics.median(ratios), 4)}
    print(json.dumps({**result, "side": options.side, "batch": options.batch}))


if __name__ == "__main__":
    main()
