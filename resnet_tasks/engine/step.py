"""One training step: N replicas and M micro-batches give what one replica with the whole batch gives.

    forward -> all-reduce of the normalisers -> backward -> all-reduce of the gradients -> clip -> decay and update
    -> average of the weights

With micro-batches the normalisers of later ones are not known yet, so there the gradient of each distinct normaliser
is kept apart and divided after the reduction.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from resnet_tasks.engine.finetune import rates
from resnet_tasks.engine.optimizers import make_update
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.model import TaskModel, ratio

FIRST_LOSS_SCALE = 2.0**15
GROW_AFTER = 2000  # finite steps in a row before the scale is doubled: Micikevicius et al. 2017, arXiv 1710.03740


class Outcome(NamedTuple):
    """What a step leaves for the host: scalars that are the same on every replica."""

    losses: dict  # by term, and "loss", their sum
    gradient_norm: tf.Tensor  # before clipping
    finite: tf.Tensor  # whether the update was made


class TrainStep:
    """The compiled step of a model under a strategy.

    Args:
        model: A `TaskModel`, made in the strategy's scope.
        optimizer: From `make_optimizer`, made in the strategy's scope.
        strategy: Any `tf.distribute` strategy; the default one for one device.
        settings: The engine's settings.
    """

    def __init__(self, model: TaskModel, optimizer: keras.optimizers.Optimizer, strategy, settings: TrainSettings):
        self.model, self.optimizer, self.strategy, self.settings = model, optimizer, strategy, settings
        self._every = list(model.trainable_variables)
        self._rates = rates(model, settings)
        self._update = make_update(optimizer, settings)
        self.averaged = [v for v in model.variables if v.dtype.startswith(("float", "bfloat"))]
        with strategy.scope():
            optimizer.build(model.trainable_variables)
            self.average = (
                [_copy(variable, index) for index, variable in enumerate(self.averaged)] if settings.ema else []
            )
            self.updates = _counter("updates", tf.int64, 0)
            self.scale = _counter("loss_scale", tf.float32, FIRST_LOSS_SCALE if self._scaled else 1.0)
            self.finite_in_a_row = _counter("finite_in_a_row", tf.int64, 0)
        self.retrace()

    def retrace(self) -> None:
        """Takes up what trains now: the model's layers may have been frozen, or frozen no more."""
        trains = {variable.path for variable in self.model.trainable_variables}
        chosen = [variable for variable in self._every if variable.path in trains]
        self._trainable = [variable.value for variable in chosen]
        self._factors = [self._rates.get(variable.path, 1.0) for variable in chosen]
        terms = tf.function(self._terms, jit_compile=True, autograph=False)
        self._forward = terms if self.settings.xla else self._terms
        self.run = tf.function(self._step, autograph=False)
        self._several = tf.function(self._loop, autograph=False)

    def run_many(self, data: Iterator, rates: list[float]) -> list[Outcome]:
        """Several steps in one execution, which the host does not interrupt; the batches come from `data`.

        Args:
            data: An iterator of micro-batches, of a dataset or a distributed one.
            rates: The learning rate of each step, at most `settings.steps_per_execution` of them.
        """
        padded = rates + rates[-1:] * (self.settings.steps_per_execution - len(rates))
        outcomes = self._several(data, tf.constant(padded, tf.float64), tf.constant(len(rates)))
        rows = [tf.unstack(values)[: len(rates)] for values in tf.nest.flatten(outcomes)]
        return [tf.nest.pack_sequence_as(outcomes, row) for row in zip(*rows)]

    def _loop(self, data, rates, count) -> Outcome:
        """An `Outcome` of stacked values; those after `count` say nothing."""

        def one(number) -> Outcome:
            return self.run(tuple(next(data) for _ in range(self.settings.accumulate)), rates[number])

        first = one(0)  # outside the loop, which must know what it carries
        size = self.settings.steps_per_execution
        kept = [tf.TensorArray(value.dtype, size, element_shape=()).write(0, value) for value in tf.nest.flatten(first)]

        def body(number, *arrays):
            return (number + 1, *(a.write(number, v) for a, v in zip(arrays, tf.nest.flatten(one(number)))))

        _, *kept = tf.while_loop(lambda number, *_: number < count, body, (tf.constant(1), *kept))
        return tf.nest.pack_sequence_as(first, [values.stack() for values in kept])

    @property
    def _scaled(self) -> bool:
        return self.settings.precision == "float16"

    def _step(self, micro_batches: tuple, lr) -> Outcome:
        gradients, losses = self.strategy.run(self._replica, args=(micro_batches,))
        gradients, losses = [self._unreduced(g) for g in gradients], {k: self._first(v) for k, v in losses.items()}
        first = [self._first(gradient) for gradient in gradients]
        norm = tf.linalg.global_norm(first)
        finite = tf.logical_and(tf.math.is_finite(norm), tf.math.is_finite(losses["loss"]))
        tf.cond(finite, lambda: self._apply(gradients, norm, lr), self._skip)
        return Outcome(losses, norm, finite)

    def _replica(self, micro_batches: tuple) -> tuple[list, dict]:
        """Gradients and losses, both already reduced over replicas."""
        if len(micro_batches) == 1:
            return self._whole(*micro_batches[0])
        return self._accumulated(micro_batches)

    def _terms(self, images, targets) -> dict:
        outputs = self.model(images, training=True)
        return self.model.loss_terms(targets, tf.nest.map_structure(_at_least_float32, outputs))

    def _whole(self, images, targets) -> tuple[list, dict]:
        with tf.GradientTape() as tape:
            terms = self._forward(images, targets)
            normalisers = self._sum({name: normaliser for name, (_, normaliser) in terms.items()})
            losses = {name: ratio(total, normalisers[name]) for name, (total, _) in terms.items()}
            scaled = sum(losses.values()) * tf.cast(self.scale, next(iter(losses.values())).dtype)
        gradients = _dense(tape.gradient(scaled, self._trainable, unconnected_gradients="zero"))
        reduced, losses = self._sum((gradients, losses))
        return self._unscaled(reduced), {"loss": sum(losses.values()), **losses}

    def _accumulated(self, micro_batches: tuple) -> tuple[list, dict]:
        sums = None
        for images, targets in micro_batches:
            part = self._by_normaliser(images, targets)
            sums = part if sums is None else tf.nest.map_structure(tf.add, sums, part)
        gradients, normalisers, totals = self._sum(sums)
        losses = {
            name: ratio(total, normalisers[group]) for group, named in totals.items() for name, total in named.items()
        }
        shares = [[ratio(g, normalisers[group]) for g in gradients[group]] for group in gradients]
        return self._unscaled([tf.add_n(parts) for parts in zip(*shares)]), {"loss": sum(losses.values()), **losses}

    def _by_normaliser(self, images, targets) -> tuple[dict, dict, dict]:
        """Gradients, normaliser, and totals by name, for each distinct normaliser (named for its first term)."""
        with tf.GradientTape(persistent=True) as tape:
            terms = self._forward(images, targets)
            normalisers, totals, seen = {}, {}, {}
            for name, (total, normaliser) in terms.items():
                group = seen.setdefault(id(normaliser), name)
                normalisers[group] = normaliser
                totals.setdefault(group, {})[name] = total
            scaled = {g: sum(named.values()) * tf.cast(self.scale, normalisers[g].dtype) for g, named in totals.items()}
        gradients = {
            group: _dense(tape.gradient(total, self._trainable, unconnected_gradients="zero"))
            for group, total in scaled.items()
        }
        return gradients, normalisers, totals

    def _sum(self, structure):
        """The structure's tensors summed over all replicas, in one all-reduce a data type."""
        if self.strategy.num_replicas_in_sync == 1:
            return structure
        flat = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(structure))
        return tf.nest.pack_sequence_as(structure, flat)

    def _unscaled(self, gradients: list) -> list:
        return [gradient / tf.cast(self.scale, gradient.dtype) for gradient in gradients] if self._scaled else gradients

    def _apply(self, gradients: list, norm, lr):
        factor = tf.ones((), norm.dtype)
        if self.settings.clip_norm:
            factor = tf.minimum(factor, tf.constant(self.settings.clip_norm, norm.dtype) / norm)
        lr = tf.cast(lr, keras.config.floatx())

        def update(variable, gradient, factor, lr):
            self._update(variable, gradient * factor if self.settings.clip_norm else gradient, lr)

        for variable, gradient, rate in zip(self._trainable, gradients, self._factors):
            self.strategy.extended.update(variable, update, args=(gradient, factor, lr * rate), group=False)
        self.optimizer.iterations.assign_add(1)
        self.updates.assign_add(1)
        self._follow()
        if self._scaled:
            grow = tf.equal((self.finite_in_a_row + 1) % GROW_AFTER, 0)
            self.scale.assign(tf.where(grow, self.scale * 2.0, self.scale))
            self.finite_in_a_row.assign_add(1)
        return tf.constant(True)

    def _skip(self):
        if self._scaled:
            self.scale.assign(tf.maximum(self.scale / 2.0, 1.0))
            self.finite_in_a_row.assign(0)
        return tf.constant(False)

    def _follow(self):
        """The average of all variables, moving statistics too; its decay rises from 0.1 in the first steps."""
        if not self.average:
            return
        count = tf.cast(self.updates, tf.float32)
        decay = tf.minimum(tf.constant(self.settings.ema, tf.float32), (1 + count) / (10 + count))
        for average, variable in zip(self.average, self.averaged):

            def follow(average, value, decay):
                decay = tf.cast(decay, average.dtype)
                average.assign(average * decay + tf.cast(value, average.dtype) * (1 - decay))

            self.strategy.extended.update(average, follow, args=(variable.value, decay), group=False)

    def _first(self, value):
        return self.strategy.experimental_local_results(value)[0]

    def _unreduced(self, value):
        """As `extended.update` wants it: per-replica values as they are (all equal), a tensor on one replica."""
        return value


@contextlib.contextmanager
def averaged(step: TrainStep) -> Iterator[None]:
    """The model with the averages in place of its variables, bit by bit as before afterwards; nothing without EMA."""
    kept = [variable.value.numpy() for variable in step.averaged] if step.average else []
    for variable, average in zip(step.averaged, step.average):
        variable.value.assign(average.numpy())
    try:
        yield
    finally:
        for variable, value in zip(step.averaged, kept):
            variable.value.assign(value)


def _dense(gradients: list) -> list:
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


def _at_least_float32(tensor):
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def _counter(name: str, dtype, value) -> tf.Variable:
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(value, dtype=dtype, trainable=False, name=name, aggregation=first)


def _copy(variable, index: int) -> tf.Variable:
    return tf.Variable(tf.identity(variable.value), trainable=False, name=f"average_{index}")
