"""Evaluation: every picture of a split once, in order, on all replicas."""

import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from resnet_tasks.data.batching import Batches, Share
from resnet_tasks.engine import together
from resnet_tasks.model import TaskModel
from resnet_tasks.task import Task

# What a reduction over processes takes; truth values and small integers are widened for it.
GATHERED = (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int32, tf.int64)


def distributed(strategy, batches: Batches, first_step: int = 0, micro_batches: int = 1):
    """The batches' stream, an iterable of what `strategy.run` takes: tensors on one device, else per-replica values."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches.stream(first_step, micro_batches=micro_batches)

    def stream(context):
        own = replicas // context.num_input_pipelines
        share = Share(context.input_pipeline_id * own, own, replicas)
        return batches.stream(first_step, share, micro_batches)

    return strategy.distribute_datasets_from_function(stream)


class Evaluator:
    """Measures a model on a split, as often as asked, without tracing anew.

    Args:
        task: The task.
        model: Its model, in the strategy's scope.
        strategy: A `tf.distribute` strategy.
        split: The split's name.
    """

    def __init__(self, task: Task, model: TaskModel, strategy, split: str):
        self._task, self._split, self._strategy = task, split, strategy
        self.batches = task.batches(split, training=False)
        self._data = distributed(strategy, self.batches)
        predictor = task.predictor(model)
        self._gathered = tf.function(self._of_all, autograph=False)
        self._answer = tf.function(lambda prepared: strategy.run(predictor.answer, args=(prepared,)), autograph=False)

    def run(self) -> dict:
        """The task's metrics, with `images`, `split` and `seconds`."""
        start = time.perf_counter()
        measured = self._task.measure(self.pairs(), self._split)
        return {**measured, "split": self._split, "seconds": time.perf_counter() - start}

    def pairs(self) -> Iterator[tuple[dict, dict]]:
        """(answers, targets) as NumPy arrays, in the order of the split.

        A batch a replica; of several processes a batch of all replicas, the same in each process.
        """
        for prepared, targets in self._data:
            answers = self._answer(prepared)
            if together.several_processes(self._strategy):
                yield _arrays(self._gathered(answers)), _arrays(self._gathered(targets))
                continue
            local = zip(self._rows(answers), self._rows(targets))
            yield from ((_arrays(answer), _arrays(target)) for answer, target in local)

    def _of_all(self, values: dict) -> dict:
        """The rows of all replicas, one after another."""
        return {name: self._gather(value) for name, value in values.items()}

    def _gather(self, value):
        kind = self._strategy.experimental_local_results(value)[0].dtype
        if kind in GATHERED:
            return self._strategy.gather(value, axis=0)
        if kind == tf.string:
            return self._gather_texts(value)
        wide = self._strategy.run(lambda part: tf.cast(part, tf.int64), args=(value,))
        return tf.cast(self._strategy.gather(wide, axis=0), kind)

    def _gather_texts(self, value) -> tuple:
        """Strings `(batch,)` of all replicas, as bytes `(batch, longest)` and lengths: no reduction takes strings."""
        lengths = self._strategy.gather(self._strategy.run(tf.strings.length, args=(value,)), axis=0)
        longest = tf.maximum(tf.reduce_max(lengths), 1)

        def as_bytes(texts):
            return tf.cast(tf.io.decode_raw(texts, tf.uint8, fixed_length=longest), tf.int32)

        return self._strategy.gather(self._strategy.run(as_bytes, args=(value,)), axis=0), lengths

    def _rows(self, values: dict) -> list[dict]:
        """One dict a replica."""
        columns = {name: self._strategy.experimental_local_results(value) for name, value in values.items()}
        count = len(next(iter(columns.values())))
        return [{name: column[index] for name, column in columns.items()} for index in range(count)]


def _arrays(values: dict) -> dict[str, np.ndarray]:
    return {name: _texts(*value) if isinstance(value, tuple) else value.numpy() for name, value in values.items()}


def _texts(rows, lengths) -> np.ndarray:
    """Strings as `_gather_texts` gives them, `(batch,)` of bytes."""
    found = [row[:length].tobytes() for row, length in zip(rows.numpy().astype(np.uint8), lengths.numpy())]
    return np.array(found, object)
