"""Batches from a tf.data service on loopback: the same batches, each once."""

import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.data.batching import Batches
from resnet_tasks.data.examples import Split
from resnet_tasks.data.pictures import Pictures
from resnet_tasks.errors import UsageError

COUNT, BATCH = 40, 8


@pytest.fixture(scope="module")
def dispatcher():
    return tf.data.experimental.service.DispatchServer()


def worker(dispatcher) -> tf.data.experimental.service.WorkerServer:
    address = dispatcher.target.partition("://")[2]
    return tf.data.experimental.service.WorkerServer(tf.data.experimental.service.WorkerConfig(address))


def noisy(example: dict, key) -> dict:
    canvas = tf.ensure_shape(tf.image.resize(example["image"], (4, 4), method="nearest"), (4, 4, 3))
    return {**example, "image": tf.cast(canvas, tf.float32) + tf.random.stateless_uniform((), key)}


def finish(batch: dict) -> tuple:
    return batch["image"], {"index": batch["index"], "key": batch["key"]}


def batches(**options) -> Batches:
    png = [tf.io.encode_png(np.full((4, 4, 3), index, np.uint8)).numpy() for index in range(COUNT)]
    label = {"label": np.arange(COUNT, dtype=np.int32)}
    split = Split("train", tuple(map(str, range(COUNT))), encoded=tuple(png), annotations=label)
    return Batches(split, Pictures(split), BATCH, noisy, finish, training=True, **options)


def taken(stream: tf.data.Dataset, count: int) -> list[tuple]:
    return list(stream.take(count).as_numpy_iterator())


def test_one_worker_gives_the_very_stream(dispatcher):
    server = worker(dispatcher)
    expected = taken(batches().stream(3, micro_batches=2), 12)
    got = taken(batches(service=dispatcher.target).stream(3, micro_batches=2), 12)
    for (image, targets), (same, also) in zip(got, expected, strict=True):
        np.testing.assert_array_equal(image, same)
        np.testing.assert_array_equal(targets["index"], also["index"])
    server.stop()


def test_two_workers_give_each_batch_once(dispatcher):
    servers = [worker(dispatcher), worker(dispatcher)]
    local = {tuple(targets["index"]): image for image, targets in taken(batches().stream(), 40)}
    got = taken(batches(service=dispatcher.target).stream(), 20)
    orders = [tuple(targets["index"]) for _, targets in got]
    assert len(set(orders)) == 20
    for image, targets in got:
        np.testing.assert_array_equal(image, local[tuple(targets["index"])])
    for server in servers:
        server.stop()


def test_evaluation_stays_here():
    made = batches(service="grpc://localhost:1")
    stream = Batches(**{**vars(made), "training": False}).stream()
    assert [list(targets["index"]) for _, targets in taken(stream, 9)] == np.arange(COUNT).reshape(-1, BATCH).tolist()


def test_a_dispatcher_that_is_not_there_is_said():
    with pytest.raises(UsageError, match=r"data.service: nobody answers at grpc://localhost:1 .*start its dispatcher"):
        batches(service="grpc://localhost:1").stream()


def test_pictures_that_take_pillow_are_refused():
    made = batches(service="grpc://localhost:1")
    split = Split("train", ("a.tif",), paths=("a.tif",), by_pillow=frozenset({0}))
    with pytest.raises(UsageError, match=r"data.service: its workers cannot read 1 of the pictures, among them a.tif"):
        Batches(**{**vars(made), "split": split}).stream()
