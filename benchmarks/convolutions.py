"""A convolution forward and backward: by Winograd's way, as the engine has it on CPUs, over TensorFlow's own kernels.

    python benchmarks/convolutions.py [--rounds 8]

The shapes are of a RetinaNet's step on two pictures of 512 pixels, and of a ResNet-50's on 16 of 224.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

import keras
import tensorflow as tf

from resnet_tasks.engine.convolutions import set_convolutions
from resnet_tasks.engine.run_folder import environment

SHAPES = {  # batch, side, channels in and out
    "head, P3, to 80 classes": (2, 64, 256, 720),
    "head, P3": (2, 64, 256, 256),
    "head, P4": (2, 32, 256, 256),
    "head, P5": (2, 16, 256, 256),
    "detector, stage 2": (2, 64, 128, 128),
    "detector, stage 4": (2, 16, 512, 512),
    "classifier, stage 2": (16, 28, 128, 128),
    "classifier, stage 3": (16, 14, 256, 256),
    "classifier, stage 4": (16, 7, 512, 512),
}


def step(batch: int, side: int, channels: int, filters: int, fewer_products: bool):
    """A compiled forward and backward pass of one convolution."""
    image = keras.Input((side, side, channels))
    convolution = keras.layers.Conv2D(filters, 3, padding="same")
    model = keras.Model(image, convolution(image))
    set_convolutions(model, fewer_products=fewer_products)
    images = tf.random.normal((batch, side, side, channels))

    @tf.function(autograph=False)
    def run():
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(model(images, training=True) ** 2)
        return tape.gradient(total, [images, convolution.kernel.value])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    speeds = {}
    for name, shape in SHAPES.items():
        steps = {fewer_products: step(*shape, fewer_products=fewer_products) for fewer_products in (False, True)}
        ratios = []
        for number in range(options.rounds + 1):
            seconds = {}
            for fewer_products, run in steps.items() if number % 2 else reversed(steps.items()):
                start = time.perf_counter()
                run()[1].numpy()
                seconds[fewer_products] = time.perf_counter() - start
            ratios.append(seconds[False] / seconds[True])
        speeds[name] = round(statistics.median(ratios[1:]), 3)  # the first round traces
        print(f"{name} {shape}: {speeds[name]:.2f} times the speed", flush=True)
    result = {"benchmark": Path(__file__).stem, "speed_over_stock": speeds, "rounds": options.rounds}
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    (folder / f"{Path(__file__).stem}.json").write_text(json.dumps({**result, "environment": environment()}, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
