"""The strategy that is chosen, why, and the refusals: never a silent fallback."""

import pytest
import tensorflow as tf

from resnet_tasks.engine.strategy import choose_strategy, prepare_devices
from resnet_tasks.errors import UsageError


@pytest.fixture(autouse=True, scope="module")
def started():
    """Four logical CPUs, made by conftest.py, and a TensorFlow that can no longer be told otherwise."""
    assert len(tf.config.list_logical_devices("CPU")) == 4


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="says what happens without a GPU")
def test_without_a_gpu_auto_is_one_device_and_says_so():
    strategy, why = choose_strategy("auto", "all")
    assert strategy is tf.distribute.get_strategy() and strategy.num_replicas_in_sync == 1
    assert why == "one device, CPU:0: CPU:0 is the only device"
    assert choose_strategy("one", "cpu:2")[1] == "one device, CPU:0: asked for"


@pytest.mark.parametrize(("name", "why"), [("auto", "2 devices"), ("mirrored", "asked for")])
def test_a_split_cpu_is_mirrored(name, why):
    strategy, sentence = choose_strategy(name, "cpu:2")
    assert isinstance(strategy, tf.distribute.MirroredStrategy) and strategy.num_replicas_in_sync == 2
    assert sentence == f"MirroredStrategy over CPU:0, CPU:1: {why}"


def test_two_strategies_live_in_one_process():
    """TensorFlow's default reduction over CPUs fails for the second one: tensorflow#62790."""
    for devices, total in (("cpu:2", 1.0), ("cpu:4", 6.0)):
        strategy, _ = choose_strategy("mirrored", devices)

        @tf.function
        def add(strategy=strategy):
            def own():
                context = tf.distribute.get_replica_context()
                return context.all_reduce("SUM", tf.cast(context.replica_id_in_sync_group, tf.float32))

            return strategy.experimental_local_results(strategy.run(own))

        assert [float(value) for value in add()] == [total] * strategy.num_replicas_in_sync


@pytest.mark.parametrize(
    ("name", "devices", "said"),
    [
        ("nonsense", "all", "expected one of auto, one, mirrored"),
        ("tpu", "all", "no TPU can be reached"),
        ("multiworker", "all", "set TF_CONFIG in each, or start them with srun"),
        ("auto", "cpu:8", "started with 4 CPU device"),
        ("auto", "cpu:0", "1 or more"),
        ("auto", "cpu:many", "expected all, cpu:N or gpu:I,J, got 'cpu:many'"),
        ("auto", "gpu:99", "no GPU 99"),
        ("mirrored", "gpu:0,99", "no GPU"),
    ],
)
def test_what_is_not_here_is_refused(name, devices, said):
    with pytest.raises(UsageError) as error:
        choose_strategy(name, devices)
    assert said in str(error.value)


def test_devices_are_prepared_before_tensorflow_starts_or_not_at_all():
    prepare_devices("all")
    prepare_devices("cpu:2")  # of the four that are here
    with pytest.raises(UsageError, match="ask for them in a new process"):
        prepare_devices("cpu:8")
    assert len(tf.config.list_logical_devices("CPU")) == 4


@pytest.mark.parametrize("devices", ["tpu", "cpu", "cpu:", "cpu:x", "cpu:0", "banana"])
def test_devices_that_are_none_are_refused(devices):
    with pytest.raises(UsageError, match="--devices"):
        prepare_devices(devices)
