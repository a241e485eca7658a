"""How fast our RetinaNet on ResNet-50 trains beside KerasHub's on the same backbone, in one run.

    python benchmarks/retinanet_against_keras_hub.py [--side 512] [--batch 2] [--steps 2] [--pairs 5]

Both have levels P3 to P7, 256 channels, four convolutions a branch and nine anchors a place, 80 classes, float32, and
learn the same boxes on the same noise by Adam.  KerasHub's is trained on one of our `resnet_50`, by `compile` and
`train_on_batch`: as it comes, by which Keras compiles the step with XLA on a CPU too; and with `jit_compile=False`,
which is the faster of the two here and has to be known.  Ours by the same `train_on_batch` with `jit_compile=False`; by
the engine's step as it comes, which leaves XLA to accelerators; and by the engine's step as
detection/coco_retinanet_resnet50 trains it, in the published setting: the stem, the first stage and the backbone's
norms stay as ImageNet has them, for which KerasHub's has no setting.
"""

import argparse
import functools
import json
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

import keras
import numpy as np
import tensorflow as tf

from resnet_tasks import backbones
from resnet_tasks.detection import RetinaNet
from resnet_tasks.engine.convolutions import on_cpus_alone, set_convolutions
from resnet_tasks.engine.finetune import freeze, frozen_levels
from resnet_tasks.engine.norms import set_norms
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.run_folder import environment
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.step import TrainStep

CLASSES, BOXES, RATE = 80, 8, 1e-4


def trunk(side: int):
    return backbones.create("resnet_50", input_shape=(side, side, 3))


def ours(side: int) -> RetinaNet:
    names = [str(number) for number in range(CLASSES)]
    return RetinaNet(backbone=trunk(side), class_names=names, image_size=(side, side))


def theirs(side: int) -> keras.Model:
    """KerasHub's, with its own label encoder and anchors, which are ours too."""
    from keras_hub.models import RetinaNetBackbone, RetinaNetObjectDetector

    body = RetinaNetBackbone(trunk(side), min_level=3, max_level=7, use_p5=True, image_shape=(side, side, 3))
    return RetinaNetObjectDetector(body, CLASSES, "yxyx")


def truth(batch: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes `(batch, 8, 4)` xyxy and their labels."""
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 0.6 * side, (batch, BOXES, 2))
    size = rng.uniform(0.05 * side, 0.4 * side, (batch, BOXES, 2))
    return np.concatenate([corner, corner + size], axis=-1).astype("float32"), rng.integers(0, CLASSES, (batch, BOXES))


def bare(side: int, images, boxes, labels):
    """Ours by Keras's own step."""
    net = ours(side)
    net.compile(keras.optimizers.Adam(RATE), jit_compile=False)
    targets = {"boxes": boxes, "labels": labels.astype("int32")}
    return lambda: net.train_on_batch(images, targets)


def hub(side: int, images, boxes, labels, jit_compile: bool | str):
    """KerasHub's by Keras's own step."""
    net = theirs(side)
    net.compile(keras.optimizers.Adam(RATE), jit_compile=jit_compile)
    targets = {"boxes": boxes[..., [1, 0, 3, 2]], "labels": labels.astype("float32")}
    return lambda: keras.Model.train_on_batch(net, images, targets)  # past the pipeline, which has nothing to do


def engine(side: int, images, boxes, labels, published: bool = False):
    """Ours by the engine's step; `published`: with what the published setting freezes."""
    net = ours(side)
    settings = TrainSettings(
        epochs=1, batch_size=len(images), lr=RATE, optimizer="adamw", freeze="C2" if published else None
    )
    set_norms(net, synchronized=False, frozen=published, fused=True)
    set_convolutions(net, fewer_products=on_cpus_alone())
    step = TrainStep(net, make_optimizer(settings), tf.distribute.get_strategy(), settings)
    if published:
        freeze(net, frozen_levels(net, settings, 0), norms=True)
    targets = {"boxes": tf.constant(boxes), "labels": tf.constant(labels, tf.int32), "weight": tf.ones(len(images))}
    batch = ((tf.constant(images), targets),)
    return lambda: float(step.run(batch, tf.constant(RATE, tf.float64)).losses["loss"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("side", 512), ("batch", 2), ("steps", 2), ("pairs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (options.batch, options.side, options.side, 3)).astype("float32")
    boxes, labels = truth(options.batch, options.side)
    makers = {
        "ours": bare,
        "ours_by_the_engine": engine,
        "ours_as_published": functools.partial(engine, published=True),
        "keras_hub": functools.partial(hub, jit_compile=False),
        "keras_hub_as_it_comes": functools.partial(hub, jit_compile="auto"),
    }
    steps = {name: make(options.side, images, boxes, labels) for name, make in makers.items()}
    for step in steps.values():
        step()
    rounds: list[dict[str, float]] = []
    for number in range(options.pairs):
        rounds.append({})
        for name in sorted(steps, reverse=bool(number % 2)):
            start = time.perf_counter()
            for _ in range(options.steps):
                steps[name]()
            rounds[-1][name] = (time.perf_counter() - start) / options.steps
        print(", ".join(f"{name} {rounds[-1][name]:.2f} s a step" for name in steps), flush=True)
    speeds = {
        f"{name}_speed_over_{peer}": round(statistics.median(r[peer] / r[name] for r in rounds), 4)
        for peer in makers
        for name in makers
        if peer.startswith("keras_hub") and not name.startswith("keras_hub")
    }
    seconds = {name: round(statistics.median(r[name] for r in rounds), 4) for name in steps}
    result = {"benchmark": Path(__file__).stem, **speeds, "seconds_a_step": seconds, **vars(options)}
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    (folder / f"{Path(__file__).stem}.json").write_text(json.dumps({**result, "environment": environment()}, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
