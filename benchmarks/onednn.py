"""A training step by oneDNN's kernels, as the command line has them, beside those that TensorFlow takes by itself.

    python benchmarks/onednn.py [--steps 3] [--rounds 5]

Which kernels, TensorFlow decides when it is imported; so each of the two has a process, and they take turns.  On a CPU
with instructions for neural networks (AVX-512 VNNI, AMX) TensorFlow takes oneDNN's by itself, and both are the same.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SWITCH = "TF_ENABLE_ONEDNN_OPTS"
NETS = {  # backbone, side, batch
    "resnet_20_cifar, 32 px, batch 128": ("resnet_20_cifar", 32, 128),
    "resnet_20_cifar, 128 px, batch 8": ("resnet_20_cifar", 128, 8),
    "resnet_50, 224 px, batch 8": ("resnet_50", 224, 8),
}


def serve(steps: int) -> None:
    """Says the seconds of a step of the net that each line of the input names."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np
    import tensorflow as tf

    from resnet_tasks import backbones
    from resnet_tasks.classification import Classifier
    from resnet_tasks.engine.norms import set_norms
    from resnet_tasks.engine.optimizers import make_optimizer
    from resnet_tasks.engine.settings import TrainSettings
    from resnet_tasks.engine.step import TrainStep

    made = {}
    for name in map(str.strip, sys.stdin):
        if name not in made:
            backbone, side, batch = NETS[name]
            trunk = backbones.create(backbone, input_shape=(side, side, 3))
            net = Classifier(backbone=trunk, class_names=list("abcdefghij"), image_size=(side, side))
            set_norms(net, synchronized=False, frozen=False, fused=True)
            settings = TrainSettings(epochs=1, batch_size=batch, lr=0.01)
            step = TrainStep(net, make_optimizer(settings), tf.distribute.get_strategy(), settings)
            rng = np.random.default_rng(0)
            images = tf.constant(rng.integers(0, 256, (batch, side, side, 3)), tf.float32)
            targets = {"label": tf.constant(rng.integers(0, 10, batch), tf.int32), "weight": tf.ones(batch)}
            made[name] = step, ((images, targets),)
            float(step.run(made[name][1], tf.constant(0.01, tf.float64)).losses["loss"])
        step, data = made[name]
        start = time.perf_counter()
        for _ in range(steps):
            float(step.run(data, tf.constant(0.01, tf.float64)).losses["loss"])
        print((time.perf_counter() - start) / steps, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.steps)
    plain = {name: value for name, value in os.environ.items() if name != SWITCH}
    servers = {
        way: subprocess.Popen(
            [sys.executable, __file__, "--serve", "--steps", str(options.steps)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        for way, environment in (("onednn", {**plain, SWITCH: "1"}), ("by itself", plain))
    }
    speeds = {}
    for name in NETS:
        ratios = []
        for number in range(options.rounds + 1):
            seconds = {}
            for way in sorted(servers, reverse=bool(number % 2)):
                servers[way].stdin.write(name + "\n")
                seconds[way] = float(servers[way].stdout.readline())
            ratios.append(seconds["by itself"] / seconds["onednn"])
        speeds[name] = round(statistics.median(ratios[1:]), 3)
        print(f"{name}: {speeds[name]:.2f} times the speed", flush=True)
    for server in servers.values():
        server.stdin.close()
        server.wait()

    from resnet_tasks.engine.run_folder import environment as described

    result = {"benchmark": Path(__file__).stem, "speed_over_tensorflows_choice": speeds, "rounds": options.rounds}
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    (folder / f"{Path(__file__).stem}.json").write_text(json.dumps({**result, "environment": described()}, indent=1))
    print(json.dumps(result))
    return None


if __name__ == "__main__":
    main()
