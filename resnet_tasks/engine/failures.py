"""What it means when an operation fails in training: no disk, no memory, a process that is gone."""

from typing import TYPE_CHECKING

import tensorflow as tf

from resnet_tasks.engine import together
from resnet_tasks.errors import ResnetTasksError

if TYPE_CHECKING:
    from resnet_tasks.engine.train import Trainer

# What a reduction ends with when a process that takes part in it has gone.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


def meaning(error: tf.errors.OpError, trainer: "Trainer") -> Exception:
    """The error as people can act on it, or itself where it is none of these."""
    settings, strategy, name = trainer.settings, trainer.strategy, trainer.folder.name
    if "No space left" in str(error):  # TensorBoard's events; TensorFlow calls that exhausted resources too
        return ResnetTasksError(
            f"the disk is full: {_said(error)}; the last good checkpoint is {trainer.checkpoints.named('last')}; make "
            f"room and go on with --run {name} --resume"
        )
    if isinstance(error, tf.errors.ResourceExhaustedError):
        part = settings.batch_size // (strategy.num_replicas_in_sync * settings.accumulate)
        size = "x".join(map(str, trainer.model.image_size))
        return ResnetTasksError(
            f"out of memory with {part} pictures of {size} a replica in {settings.precision}; start with --set "
            f"train.accumulate={2 * settings.accumulate}: half as many at a time, and the same global batch"
        )
    if together.several_processes(strategy) and isinstance(error, LOST):
        return lost(error, name, f" after step {trainer.progress.step} of {trainer.total}")
    return error


def lost(error: tf.errors.OpError, name, when: str = "") -> ResnetTasksError:
    """A process of the run `name` is gone; `when` it was noticed."""
    return ResnetTasksError(
        f"another process was lost{when} ({_said(error)}); see its log, and start all again with --run {name} --resume"
    )


def _said(error: tf.errors.OpError) -> str:
    """The line of an error that says what happened; the others tell where in the graph."""
    said = [line.strip() for line in str(error).splitlines()]
    where = ("Graph execution", "Detected at", "File ", "Node")
    telling = [line for line in said if line and not line.startswith(where)]
    return (telling or said)[0][:200]
