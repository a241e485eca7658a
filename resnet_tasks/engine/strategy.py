"""Which devices train, and under which `tf.distribute` strategy."""

import os
from pathlib import Path

import tensorflow as tf

from resnet_tasks.engine.cluster import Cluster
from resnet_tasks.errors import UsageError

STRATEGIES = ("auto", "one", "mirrored", "multiworker", "tpu")
TPU_DEVICES = ("/dev/accel0", "/dev/vfio/0")  # what a TPU VM has
LONGEST_SILENCE = 1800.0  # seconds that processes wait in a reduction for one that lives and does not come


def require_tensorflow() -> None:
    """The engine and the artefacts are TensorFlow's, whatever Keras runs on elsewhere.

    Raises:
        UsageError: Keras runs on another backend here, or TensorFlow is told to use Keras 2.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"the engine runs on TensorFlow, and Keras was started on {keras.backend.backend()!r}; "
            "set KERAS_BACKEND=tensorflow (backbones and models run on any backend)"
        )
    if os.environ.get("TF_USE_LEGACY_KERAS", "0").lower() in ("1", "true"):
        raise UsageError("TF_USE_LEGACY_KERAS asks TensorFlow for Keras 2; this package needs Keras 3: unset it")


def prepare_devices(devices: str) -> None:
    """Splits the CPU for `cpu:N` and lets GPU memory grow; before TensorFlow starts.

    Raises:
        UsageError: `devices` is not `all`, `cpu:N` or `gpu:I,...`; or the CPU was already split otherwise.
    """
    require_tensorflow()
    kind, _, rest = devices.partition(":")
    if kind == "cpu":
        count = _at_least_one(devices, rest)
        cpu = tf.config.list_physical_devices("CPU")[0]
        present = tf.config.get_logical_device_configuration(cpu)
        if count > 1 and len(present or [None]) < count:
            _configure(
                lambda: tf.config.set_logical_device_configuration(
                    cpu, [tf.config.LogicalDeviceConfiguration()] * count
                ),
                devices,
            )
        if tf.config.list_physical_devices("GPU"):
            _configure(lambda: tf.config.set_visible_devices([], "GPU"), devices)
    elif kind not in ("all", "gpu"):
        raise UsageError(f"--devices: expected all, cpu:N or gpu:I,J, got {devices!r}")
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            pass  # TensorFlow has started with that GPU: it keeps what was set then


def choose_strategy(name: str = "auto", devices: str = "all", cluster: Cluster | None = None):
    """The strategy and one sentence on why.

    Args:
        name: Of `STRATEGIES`.
        devices: As for `prepare_devices`.
        cluster: The processes that train together, all of which are there; `None` where this one is alone.

    Returns:
        `(strategy, reason)`.

    Raises:
        UsageError: A strategy or device that does not exist or is not here: never a silent fallback.
    """
    if name not in STRATEGIES:
        raise UsageError(f"train.strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")
    if name == "multiworker" or (name == "auto" and cluster):
        return _multiworker(cluster, devices)
    if name == "tpu" or (name == "auto" and devices == "all" and any(Path(path).exists() for path in TPU_DEVICES)):
        return _tpu()
    wanted = _devices(devices)
    if name == "one" or (name == "auto" and len(wanted) == 1):
        why = "asked for" if name == "one" else f"{wanted[0]} is the only device"
        strategy = (
            tf.distribute.OneDeviceStrategy(f"/{wanted[0]}")
            if wanted[0].startswith("GPU")
            else tf.distribute.get_strategy()
        )
        return strategy, f"one device, {wanted[0]}: {why}"
    reduce = tf.distribute.ReductionToOneDevice() if wanted[0].startswith("CPU") else None
    strategy = tf.distribute.MirroredStrategy([f"/{device}" for device in wanted], cross_device_ops=reduce)
    why = "asked for" if name == "mirrored" else f"{len(wanted)} devices"
    return strategy, f"MirroredStrategy over {', '.join(wanted)}: {why}"


def _multiworker(cluster: Cluster | None, devices: str):
    if cluster is None:
        raise UsageError(
            "train.strategy: multiworker needs to know its processes: set TF_CONFIG in each, or start them with srun"
        )
    wanted = _devices(devices)
    if wanted[0].startswith("CPU") and len(wanted) > 1:
        raise UsageError(f"--devices {devices}: with several processes each has one CPU; start more processes")
    physical = tf.config.list_physical_devices("GPU")
    gpus = [physical[int(device.partition(":")[2])] for device in wanted if device.startswith("GPU")]
    tf.config.set_visible_devices(gpus, "GPU")
    resolvers = tf.distribute.cluster_resolver
    resolver = resolvers.SimpleClusterResolver(
        tf.train.ClusterSpec({job: list(addresses) for job, addresses in cluster.jobs.items()}),
        task_type=cluster.task,
        task_id=cluster.index,
        num_accelerators={"GPU": len(gpus)},
        rpc_layer="grpc",
    )
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=LONGEST_SILENCE)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    each = ", ".join(wanted)
    processes = f"{len(cluster.addresses)} processes of {cluster.source}, this one of rank {cluster.rank}"
    return strategy, f"MultiWorkerMirroredStrategy over {processes}, each with {each}"


def _tpu():
    """The TPU that this machine has, or that TPU_NAME names."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=os.environ.get("TPU_NAME", "local"))
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, ImportError, tf.errors.OpError) as error:
        raise UsageError(
            f"train.strategy: no TPU can be reached ({str(error).splitlines()[0][:200]}); on a TPU VM install "
            "tensorflow-tpu in place of tensorflow, elsewhere choose another strategy"
        ) from error
    return strategy, f"TPUStrategy over {strategy.num_replicas_in_sync} TPU cores"


def _devices(devices: str) -> list[str]:
    kind, _, rest = devices.partition(":")
    gpus = len(tf.config.list_physical_devices("GPU"))
    if kind == "cpu":
        count, here = _at_least_one(devices, rest), len(tf.config.list_logical_devices("CPU"))
        if count > here:
            raise UsageError(
                f"--devices {devices}: TensorFlow has started with {here} CPU device(s); ask in a new process"
            )
        return [f"CPU:{index}" for index in range(count)]
    if kind == "gpu":
        chosen = [_count(devices, part) for part in rest.split(",")] if rest else list(range(gpus))
        missing = [index for index in chosen if index >= gpus]
        if missing or not chosen:
            raise UsageError(
                f"--devices {devices}: there are {gpus} GPUs here" + (f", no GPU {missing[0]}" if missing else "")
            )
        return [f"GPU:{index}" for index in chosen]
    return [f"GPU:{index}" for index in range(gpus)] or ["CPU:0"]


def _count(devices: str, text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"--devices: expected all, cpu:N or gpu:I,J, got {devices!r}")
    return int(text)


def _at_least_one(devices: str, text: str) -> int:
    if not (count := _count(devices, text)):
        raise UsageError(f"--devices {devices}: expected 1 or more")
    return count


def _configure(set_devices, devices: str) -> None:
    try:
        set_devices()
    except RuntimeError as error:
        raise UsageError(
            f"--devices {devices}: TensorFlow has already started in this process with other devices; "
            "ask for them in a new process, before anything else uses TensorFlow"
        ) from error
