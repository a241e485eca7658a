"""Which devices train, and under which `tf.distribute` strategy."""

import os

import tensorflow as tf

from resnet_tasks.errors import UsageError

STRATEGIES = ("auto", "one", "mirrored", "multiworker", "tpu")


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


def choose_strategy(name: str = "auto", devices: str = "all"):
    """The strategy and one sentence on why.

    Returns:
        `(strategy, reason)`.

    Raises:
        UsageError: A strategy or device that does not exist or is not here: never a silent fallback.
    """
    if name not in STRATEGIES:
        raise UsageError(f"train.strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")
    if name in ("multiworker", "tpu"):
        raise UsageError(f"train.strategy: {name} is not supported by this version; use auto, one or mirrored")
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
