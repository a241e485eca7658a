"""A convolution forward and backward: its kernel's gradient as products of matrices, over TensorFlow's own.

    python benchmarks/convolution_gradients.py [--rounds 8]

The shapes are of a RetinaNet's step on two pictures of 512 pixels, and of a classifier's on 16 of 224.  The engine
takes the products on CPUs with AVX2 and without AVX-512 (engine/convolutions.py); here they are measured on any.
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

SHAPES = {  # batch, side, channels in and out, kernel
    "head, P3, to 80 classes": (2, 64, 256, 720, 3),
    "head, P3": (2, 64, 256, 256, 3),
    "head, P4": (2, 32, 256, 256, 3),
    "stage 1": (2, 128, 64, 64, 3),
    "stage 2, 1x1": (2, 64, 128, 512, 1),
    "stage 3": (2, 32, 256, 256, 3),
    "classifier, stage 1": (16, 56, 64, 64, 3),
    "classifier, stage 3": (16, 14, 256, 256, 3),
}


def step(batch: int, side: int, channels: int, filters: int, kernel: int, by_products: bool):
    """A compiled forward and backward pass of one convolution."""
    image = keras.Input((side, side, channels))
    convolution = keras.layers.Conv2D(filters, kernel, padding="same")
    model = keras.Model(image, convolution(image))
    set_convolutions(model, by_products=by_products)
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
        steps = {by_products: step(*shape, by_products=by_products) for by_products in (False, True)}
        ratios = []
        for number in range(options.rounds + 1):
            seconds = {}
            for by_products, run in steps.items() if number % 2 else reversed(steps.items()):
                start = time.perf_counter()
                run()[1].numpy()
                seconds[by_products] = time.perf_counter() - start
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
