"""What the processes of one run tell each other, through the strategy's own reductions."""

import numpy as np
import tensorflow as tf

CHUNK = 2**23  # numbers in one reduction, 64 MiB


def of_all(strategy, wishes: list[bool]) -> list[bool]:
    """For each wish, whether any process has it."""
    if not several_processes(strategy):
        return wishes
    total = _summed(strategy, np.array(wishes, np.int64))
    return [bool(count) for count in total]


def from_chief(strategy, values: list[np.ndarray]) -> list[np.ndarray]:
    """The chief's values, bit by bit, in every process.

    Args:
        strategy: Of any kind.
        values: Arrays of the same shapes and types everywhere; what those of other processes hold is of no account.
    """
    if not several_processes(strategy) or not values:
        return values
    parts = [np.ascontiguousarray(value).reshape(-1).view(np.uint8) for value in values]
    joined = np.concatenate(parts)
    # As whole numbers, whose sum with zeros is exact whatever the bits mean.
    numbers = np.pad(joined, (0, -len(joined) % 8)).view(np.int64)
    if not is_chief(strategy):
        numbers = np.zeros_like(numbers)
    chunks = [_summed(strategy, numbers[start : start + CHUNK]) for start in range(0, len(numbers), CHUNK)]
    told = np.concatenate(chunks).view(np.uint8)
    ends = np.cumsum([len(part) for part in parts])
    return [
        told[end - len(part) : end].view(value.dtype).reshape(value.shape)
        for value, part, end in zip(values, parts, ends)
    ]


def alike(strategy, text: str) -> bool:
    """Whether all processes have the chief's text; the same answer in each."""
    return not of_all(strategy, [text_from_chief(strategy, text) != text])[0]


def text_from_chief(strategy, text: str) -> str:
    """The chief's text in every process."""
    if not several_processes(strategy):
        return text
    encoded = np.frombuffer(text.encode(), np.uint8)
    (length,) = from_chief(strategy, [np.array([len(encoded)], np.int64)])
    (told,) = from_chief(strategy, [np.resize(encoded, int(length[0]))])
    return told.tobytes().decode()


def several_processes(strategy) -> bool:
    """Whether the replicas live in more than one process."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy) -> bool:
    """Whether this process decides and writes."""
    if not several_processes(strategy):
        return True
    resolver = strategy.cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def _summed(strategy, numbers: np.ndarray) -> np.ndarray:
    """The sum of the processes' int64 numbers, each process counted once."""
    cluster = strategy.cluster_resolver.cluster_spec()
    replicas = strategy.num_replicas_in_sync // sum(cluster.num_tasks(job) for job in cluster.jobs)

    def own(context) -> tf.Tensor:
        return tf.constant(numbers if context.replica_id_in_sync_group % replicas == 0 else np.zeros_like(numbers))

    values = strategy.experimental_distribute_values_from_function(own)
    return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()
