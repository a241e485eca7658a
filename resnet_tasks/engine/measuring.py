"""An evaluation written down: metrics.json, the task's tables, the worst mistakes drawn."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet_tasks.engine.checkpoints import write_aside
from resnet_tasks.engine.evaluate import Evaluator
from resnet_tasks.engine.loaded import BATCH, Loaded
from resnet_tasks.task import Task

MOST_DRAWN = 24


def measure_and_write(task: Task, loaded: Loaded, split: str, folder: Path) -> dict:
    """Measures a model or an artefact on a split of the task's data.

    Args:
        task: On the data, with the model's labels.
        loaded: The model.
        split: The split's name.
        folder: Where the files go; those of an earlier evaluation are replaced.

    Returns:
        The metrics, as written to metrics.json.
    """
    if loaded.keras_model is None:
        start = time.perf_counter()
        measured = {
            **task.measure(_artefact_pairs(task, loaded, split), split),
            "split": split,
            "seconds": time.perf_counter() - start,
        }
    else:
        measured = Evaluator(task, loaded.keras_model, tf.distribute.get_strategy(), split).run()
    folder.mkdir(parents=True, exist_ok=True)
    task.findings(measured, folder)
    _draw(task, loaded, split, measured.get("mistakes", [])[:MOST_DRAWN], folder / "mistakes")
    if "best" in measured:
        _draw(task, loaded, split, measured["best"], folder / "best")
    metrics = {key: value for key, value in measured.items() if key not in task.details}
    write_aside(folder / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    return metrics


def _artefact_pairs(task: Task, loaded: Loaded, split: str) -> Iterator[tuple[dict, dict]]:
    """(answers, targets) of an artefact, which takes the files' bytes."""
    pictures = task.batches(split, training=False).split
    for start in range(0, len(pictures), BATCH):
        indices = np.arange(start, min(start + BATCH, len(pictures)))
        answers = loaded.answer([task.as_served(pictures, index) for index in indices.tolist()])
        targets = {name: values[indices] for name, values in pictures.annotations.items()}
        yield answers, {**targets, "index": indices, "weight": answers["readable"].astype(np.float32)}


def _draw(task: Task, loaded: Loaded, split: str, chosen: list[dict], folder: Path) -> None:
    """Draws answers of pictures, each named by its `index` in the split."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("[0-9][0-9].png"):
        old.unlink()
    pictures = task.batches(split, training=False).split
    encoded = [pictures.read(picture["index"]) for picture in chosen]
    if not encoded:
        return
    from resnet_tasks.data.decode import decode_array

    for number, (picture, prediction) in enumerate(zip(chosen, loaded.predict(encoded))):
        if "error" not in prediction:
            image = decode_array(encoded[number])
            task.beside_truth(image, prediction, split, picture).save(folder / f"{number:02d}.png")
