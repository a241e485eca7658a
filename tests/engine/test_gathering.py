"""The rows of all replicas in one place, as several processes have them: of every type, texts of any bytes too."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.engine import evaluate, together
from resnet_tasks.engine.evaluate import Evaluator
from resnet_tasks.engine.strategy import choose_strategy

# Zeros, bytes that are no text, letters of two bytes; the longest is in the one replica's batch, then in the other's.
TEXTS = [b"", b"\0a\0", b"\xff\xfe" * 150, "größe".encode(), b"x", b"y" * 3, bytes(range(256)) * 3, b"\n"]


class Batches:
    """As `data.batching.Batches`: a replica's two rows at a time."""

    def __init__(self, texts: list[bytes]):
        self.texts = texts

    def stream(self, first_step=0, share=None, micro_batches=1):
        count = len(self.texts)
        mask = np.arange(count * 6, dtype=np.uint8).reshape(count, 2, 3)
        prepared = {"text": self.texts, "score": np.linspace(0, 1, count, dtype=np.float32), "mask": mask}
        targets = {"index": np.arange(count), "weight": np.ones(count, np.float32), "id": self.texts}
        return tf.data.Dataset.from_tensor_slices((prepared, targets)).batch(2)


def answer(prepared: dict) -> dict:
    """Answers of every type that tasks have."""
    return {
        "png": tf.strings.join([prepared["text"], "!"]),
        "empty": tf.strings.substr(prepared["text"], 0, 0),
        "score": 2 * prepared["score"],
        "count": tf.range(2),
        "readable": prepared["score"] > 0.5,
        "mask": prepared["mask"],
    }


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    """Two replicas."""
    task = SimpleNamespace(
        batches=lambda split, training: Batches(TEXTS), predictor=lambda model: SimpleNamespace(answer=answer)
    )
    strategy, _ = choose_strategy("mirrored", "cpu:2")
    return Evaluator(task, None, strategy, "val")


def joined(pairs: list, of: int) -> dict[str, np.ndarray]:
    return {name: np.concatenate([pair[of][name] for pair in pairs]) for name in pairs[0][of]}


def test_of_several_processes_every_batch_has_the_rows_of_all_replicas(evaluator, monkeypatch):
    """Real processes are in tests/processes; here their way of gathering is taken for the replicas of one."""
    own = list(evaluator.pairs())
    monkeypatch.setattr(together, "several_processes", lambda strategy: True)
    gathered = list(evaluator.pairs())
    assert [len(targets["index"]) for _, targets in own] == [2] * 4
    assert [len(targets["index"]) for _, targets in gathered] == [4] * 2
    for part in (0, 1):
        expected, found = joined(own, part), joined(gathered, part)
        for name, values in expected.items():
            assert found[name].dtype == values.dtype, name
            assert found[name].tolist() == values.tolist(), name
    answers, targets = joined(gathered, 0), joined(gathered, 1)
    assert answers["png"].tolist() == [text + b"!" for text in TEXTS]
    assert answers["empty"].tolist() == [b""] * 8 and targets["id"].tolist() == TEXTS
    assert answers["mask"].dtype == np.uint8 and answers["readable"].dtype == bool


def test_texts_from_bytes_and_lengths():
    rows = tf.constant([[97, 0, 255, 0], [0, 0, 0, 0], [98, 0, 0, 0]])
    texts = evaluate._texts(rows, tf.constant([3, 0, 2]))
    assert texts.dtype == object and texts.tolist() == [b"a\0\xff", b"", b"b\0"]
