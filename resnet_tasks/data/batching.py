"""An epoch as a function of (seed, epoch): batches that do not depend on replicas, processes or interruptions.

A run is one endless row of places.  Place p belongs to epoch p // E (E pictures an epoch), and the picture at a place
is a permutation of the split that depends on (seed, epoch) alone.  So to skip is to add to p, before anything is
decoded; and a replica's share of a step is a range of places.  What is random for a picture is drawn from a key of
(seed, epoch, index).  One iterator serves a whole run: the end of a `tf.data` iterator can hang on its autotuning.
"""

import itertools
import math
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from resnet_tasks.data.decode import map_groups_or_blank
from resnet_tasks.data.examples import Split
from resnet_tasks.data.pictures import Pictures
from resnet_tasks.data.randomness import picture_key
from resnet_tasks.errors import DataError, UsageError

MIXING_GROUP = 8  # pictures that mixup and cutmix draw their partners from; divides every replica's batch
ENDLESS = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Share:
    """Which part of every global batch one process reads: `replicas` of `of`, from replica `first` on."""

    first: int = 0
    replicas: int = 1
    of: int = 1


@dataclass(frozen=True)
class Batches:
    """A split as batches `(images, targets)`.

    Attributes:
        split: The pictures and their annotations.
        pictures: Where the pixels come from (files, memory, a cache).
        batch_size: Examples of a global batch, over all replicas and micro-batches.
        transform: `(example, key) -> example` for one picture, to its canvas; key is `(2,)` int32.
        mix: `(group, keys) -> group` over `MIXING_GROUP` pictures, or `None`.
        finish: `(batch) -> (images, targets)`.
        training: Shuffled, without end; else every picture once, in order, the last batch filled with weight 0.
        seed: Of the order and of every random choice.
        places: Indices into the split, some perhaps repeated (`data.balance: repeat`); all of it by default.
        service: Address of a tf.data service whose workers make the training batches; `None` for this process.
    """

    split: Split
    pictures: Pictures
    batch_size: int
    transform: Callable
    finish: Callable
    training: bool
    mix: Callable | None = None
    seed: int = 0
    places: np.ndarray | None = None
    service: str | None = None

    def __post_init__(self):
        if not len(self.split):
            raise DataError(f"split {self.split.name!r} holds no picture; expected at least one")
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}: expected 1 or more")
        if self.mix and self.training and self.group == 1:
            raise UsageError(
                "mixup and cutmix mix the pictures of a batch with one another, so their number must be even; "
                f"train.batch_size {self.batch_size} is not: make it {self.batch_size + 1}, or leave augment.mixup and "
                "augment.cutmix at 0"
            )

    @property
    def count(self) -> int:
        """Pictures of an epoch, each as often as `places` holds it."""
        return len(self.split) if self.places is None else len(self.places)

    @property
    def steps(self) -> int:
        """Steps of an epoch.  In training a remainder smaller than a batch is left to the next epoch's draw."""
        steps = self.count / self.batch_size
        return max(1, math.floor(steps)) if self.training else math.ceil(steps)

    def ids(self, indices) -> list[str]:
        """The files (or names) of the pictures at these indices of the split; -1 is padding and left out."""
        return [self.split.ids[int(index)] for index in np.ravel(indices) if index >= 0]

    def stream(self, first_step: int = 0, share: Share = Share(), micro_batches: int = 1) -> tf.data.Dataset:
        """The batches from global step `first_step` on: of each step the micro-batches, of each of these the replicas.

        Raises:
            UsageError: The global batch does not divide by replicas and micro-batches, or a replica's part not by
                the mixing group.
        """
        part = self._part(share.of, micro_batches)
        own = part * share.replicas  # this process's pictures of a micro-batch
        micro = part * share.of
        step = own * micro_batches

        def place(number):
            return number // own * micro + share.first * part + number % own

        if self.service is None or not self.training:
            return self._pipeline(tf.data.Dataset.range(first_step * step, self._end(step)).map(place), part)
        if self.split.records is not None:
            raise UsageError(
                f"data.service: its workers cannot read {self.split.ids[0]} and the others out of their record files; "
                "lay the pictures out as files, or leave data.service out"
            )
        if self.split.by_pillow:
            example = self.split.ids[min(self.split.by_pillow)]
            raise UsageError(
                f"data.service: its workers cannot read {len(self.split.by_pillow)} of the pictures, among them "
                f"{example}, which take Pillow; save them as PNG or JPEG"
            )
        # Whole steps are what the workers share out, each to one of them.
        steps = tf.data.Dataset.range(first_step, ENDLESS // step)
        numbers = steps.flat_map(lambda number: tf.data.Dataset.range(number * step, (number + 1) * step))
        return _by_service(self._pipeline(numbers.map(place), part), self.service)

    def epochs(self) -> tf.data.Dataset:
        """One epoch at each iteration, the next one each time: what `keras.Model.fit` expects."""
        number = itertools.count()
        if not self.training:
            return self.stream()
        epochs = tf.data.Dataset.from_generator(
            lambda: iter([next(number)]), output_signature=tf.TensorSpec((), tf.int64)
        )
        size = self.steps * self.batch_size
        places = epochs.flat_map(lambda epoch: tf.data.Dataset.range(epoch * size, (epoch + 1) * size))
        dataset = self._pipeline(places, self._part(1, 1))
        return dataset.apply(tf.data.experimental.assert_cardinality(self.steps))

    def examples(self) -> Iterator[dict]:
        """The pictures as they are read, one by one, in order, as NumPy arrays."""
        for index, (image, readable) in enumerate(self.pictures.all().as_numpy_iterator()):
            example = {name: values[index] for name, values in self.split.annotations.items()}
            yield {"image": image, "readable": bool(readable), "id": self.split.ids[index], **example}

    def _part(self, replicas: int, micro_batches: int) -> int:
        part, rest = divmod(self.batch_size, replicas * micro_batches)
        if rest and not self.training:
            return part + 1  # a little more padding behind the split's end
        if rest:
            raise UsageError(
                f"train.batch_size {self.batch_size} does not divide by {replicas} replicas times {micro_batches} "
                f"micro-batches; {(part + 1) * replicas * micro_batches} would"
            )
        if self.mix and self.training and part % self.group:
            raise UsageError(
                f"mixing takes groups of {self.group} pictures, and a replica's part of the batch is {part}; "
                f"make train.batch_size a multiple of {self.group * replicas * micro_batches}"
            )
        return part

    @property
    def group(self) -> int:
        """Pictures that mix among themselves: a function of the global batch alone."""
        return math.gcd(MIXING_GROUP, self.batch_size)

    def _end(self, step_size: int) -> int:
        return ENDLESS if self.training else self.steps * step_size

    def _pipeline(self, places: tf.data.Dataset, part: int) -> tf.data.Dataset:
        workers = os.cpu_count() or 1
        mix = self.mix if self.training else None
        group = self.group if mix else part
        # Nothing here is written for AutoGraph, whose conversion takes longer than all the tracing.
        plain = tf.autograph.experimental.do_not_convert
        example = plain(self._example(self.pictures.read))
        if self.pictures.may_fail:
            blank = plain(self._example(self.pictures.blank))
            dataset = map_groups_or_blank(places, example, blank, group, parallel=workers)
        else:
            dataset = places.map(example, num_parallel_calls=workers, deterministic=True)
            dataset = dataset.batch(group, drop_remainder=True)
        if mix:
            mixing = plain(lambda pictures: mix(pictures, pictures["key"]))
            mixed = dataset.map(mixing, num_parallel_calls=workers, deterministic=True)
            dataset = mixed.batch(part // group, drop_remainder=True).map(_merge_groups)
        dataset = dataset.map(self.finish).prefetch(4)
        options = tf.data.Options()
        options.autotune.enabled = False  # see the module's docstring
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        options.experimental_optimization.apply_default_optimizations = False
        return dataset.with_options(options)

    def _example(self, read: Callable) -> Callable:
        """From a place to an example on its canvas; `read(index)` gives its picture."""
        count, size = self.count, self.steps * self.batch_size
        table = tf.constant(np.arange(count, dtype=np.int64) if self.places is None else self.places)
        annotations = {name: tf.constant(values) for name, values in self.split.annotations.items()}

        def shuffled(epoch, place):
            # A set smaller than a batch is gone through several times in it, each time in another order.
            rounds, within = place // count, place % count
            return tf.random.experimental.index_shuffle(within, picture_key(self.seed, epoch, rounds), count - 1)

        def example(place):
            step = place // self.batch_size
            if self.training:
                epoch, place = place // size, place % size
                index, real = tf.gather(table, shuffled(epoch, place)), True
            else:
                epoch, real = tf.constant(0, tf.int64), place < count
                index = tf.gather(table, tf.minimum(place, count - 1))
            image, readable = read(index)
            weight = tf.cast(tf.logical_and(readable, real), tf.float32)
            values = {name: tf.gather(column, index) for name, column in annotations.items()}
            key = picture_key(self.seed, epoch, index)
            identity = picture_key(self.seed, tf.constant(-1, tf.int64), index)
            when = {"epoch": epoch, "step": step}
            made = {"image": image, **when, "identity_key": identity, "weight": weight, "key": key, **values}
            made["index"] = index if self.training else tf.where(real, index, tf.constant(-1, tf.int64))
            return self.transform(made, key)

        return example


def _by_service(batches: tf.data.Dataset, service: str) -> tf.data.Dataset:
    """The batches as a tf.data service's workers make them, each once, in the order in which they come.

    Raises:
        UsageError: Nobody answers at that address; TensorFlow itself would wait without a word.
    """
    host, _, port = service.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"data.service: nobody answers at {service} ({error}); start its dispatcher first") from error
    sharing = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    return batches.apply(tf.data.experimental.service.distribute(sharing, service)).prefetch(4)


def _merge_groups(batch: dict) -> dict:
    """`(groups, size, ...)` to `(groups * size, ...)` in every value."""
    return {
        name: tf.reshape(value, tf.concat([[-1], tf.shape(value)[2:]], 0))
        if value.shape[2:].rank is None
        else tf.reshape(value, [-1, *value.shape[2:]])
        for name, value in batch.items()
    }
