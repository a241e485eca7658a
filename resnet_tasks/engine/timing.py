"""How fast a model answers and a recipe trains, and which learning rate a recipe can bear."""

import io
import math
import time
from functools import partial

import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks.engine.evaluate import distributed
from resnet_tasks.engine.loaded import Loaded
from resnet_tasks.engine.logs import Meter
from resnet_tasks.engine.train import Trainer

WARM_UP = 3
REPEATS = 20
FIND_STEPS = 100
FIND_RANGE = (1e-6, 10.0)  # learning rates, tried in equal ratios


def time_answers(loaded: Loaded, side: int = 500) -> dict:
    """Latency of answers to JPEGs of side x side pixels, by batch size.

    In milliseconds, at the 50th, 90th and 99th percentile.
    """
    noise = np.random.default_rng(0).integers(0, 256, (side // 10, side // 10, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((side, side)).save(buffer, "JPEG", quality=90)
    rows = []
    for batch in (1, 8):
        answer = partial(loaded.answer, [buffer.getvalue()] * batch)
        seconds = [_timed(answer) for _ in range(WARM_UP + REPEATS)][WARM_UP:]
        percentiles = {f"p{p}_ms": float(np.percentile(seconds, p) * 1000) for p in (50, 90, 99)}
        rows.append({"batch": batch, **percentiles, "images_per_second": batch / float(np.median(seconds))})
    return {"picture": f"JPEG {side}x{side}", "answers": rows}


def time_training(trainer: Trainer, steps: int = REPEATS) -> dict:
    """Pictures a second of training with its own input, and the share of time spent waiting for data."""
    settings = trainer.settings
    data = iter(distributed(trainer.strategy, trainer.batches, 0, settings.accumulate))
    meter = Meter()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            meter = Meter()
        began = time.perf_counter()
        micro_batches = tuple(next(data) for _ in range(settings.accumulate))
        waited = time.perf_counter() - began
        float(trainer.step.run(micro_batches, tf.constant(0.0, tf.float64)).losses["loss"])
        meter.add(settings.batch_size, waited)
    return {"batch_size": settings.batch_size, "steps": steps, **meter.read()}


def find_learning_rate(trainer: Trainer, steps: int = FIND_STEPS) -> dict:
    """Trains with a learning rate that grows from step to step until the loss is four times its least.

    The suggestion is a tenth of the learning rate at which the smoothed loss was least.
    """
    low, high = FIND_RANGE
    data = iter(distributed(trainer.strategy, trainer.batches, 0, trainer.settings.accumulate))
    curve, smoothed, least, at_least = [], 0.0, math.inf, low
    for step in range(steps):
        lr = low * (high / low) ** (step / (steps - 1))
        micro_batches = tuple(next(data) for _ in range(trainer.settings.accumulate))
        loss = float(trainer.step.run(micro_batches, tf.constant(lr, tf.float64)).losses["loss"])
        smoothed = 0.8 * smoothed + 0.2 * loss
        unbiased = smoothed / (1 - 0.8 ** (step + 1))
        curve.append({"lr": lr, "loss": unbiased})
        if not math.isfinite(loss) or unbiased > 4 * least:
            break
        if unbiased < least:
            least, at_least = unbiased, lr
    return {"suggested": at_least / 10, "curve": [point for point in curve if math.isfinite(point["loss"])]}


def _timed(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
