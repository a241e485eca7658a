"""Real runs in processes of their own, alone or as a cluster on loopback, to be signalled and killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SUPPORT = Path(__file__).parent
PATIENCE = 180.0  # seconds that anything here may take
# A net of two small layers, and many epochs of few steps.
TINY = {"model.backbone": "tiny_backbone:backbone", "train.log_every": 1, "train.deterministic": True}


def free_addresses(count: int) -> list[str]:
    """Addresses on loopback that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in sockets]
    for listener in sockets:
        listener.close()
    return addresses


def start(
    run: Path,
    *words: str,
    task: str = "classify",
    cluster: list[str] | None = None,
    rank: int = 0,
    cwd: Path | None = None,
    **changes,
) -> subprocess.Popen:
    """`resnet-tasks <task> train` on the digits, in the background; what it says goes to `<run>.<rank>.log`."""
    sets = [f"--set={key.replace('__', '.')}={json.dumps(value)}" for key, value in {**TINY, **changes}.items()]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT), "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    environment.pop("TF_CONFIG", None)
    if cluster:
        place = {"type": "worker", "index": rank}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": place})
    command = "import sys; from resnet_tasks.cli.main import main; sys.exit(main())"
    recipe = [] if "--resume" in words else [f"quickstart/{task}_digits"]
    arguments = [task, "train", *recipe, f"--run={run}", *([] if "--resume" in words else sets), *words]
    with log_of(run, rank).open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-c", command, *arguments], stdout=log, stderr=log, env=environment, cwd=cwd or run.parent
        )


def start_all(run: Path, count: int, *words: str, **changes) -> list[subprocess.Popen]:
    """A cluster of so many processes; the chief is the first."""
    cluster = free_addresses(count)
    return [start(run, *words, cluster=cluster, rank=rank, **changes) for rank in range(count)]


def ended(*processes: subprocess.Popen) -> list[int]:
    """The exit codes; a process that does not end is killed, and that is an error."""
    try:
        return [process.wait(PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()


def until_step(run: Path, step: int, process: subprocess.Popen) -> int:
    """Waits until the run has logged that step; returns the step that it has come to."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (reached := last_step(run)) >= step:
            return reached
        assert process.poll() is None, f"ended with {process.returncode}: {said(run)}"
        time.sleep(0.002)
    raise AssertionError(f"step {step} was not reached: {said(run)}")


def last_step(run: Path) -> int:
    """The last whole line of metrics.jsonl."""
    path = run / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return json.loads(lines[-1])["step"] if lines else 0


def log_of(run: Path, rank: int = 0) -> Path:
    """Where a process's words go."""
    return run.with_name(f"{run.name}.{rank}.log")


def said(run: Path, rank: int = 0) -> str:
    """What a process said, without TensorFlow's own lines."""
    lines = log_of(run, rank).read_text().splitlines() if log_of(run, rank).is_file() else []
    return "\n".join(line for line in lines if not re.match(r"[IWEF]0|WARNING: All log", line))


def kill(process: subprocess.Popen, number: int = signal.SIGKILL) -> int:
    """Sends a signal; returns the exit code."""
    process.send_signal(number)
    return process.wait(PATIENCE)


def state(run: Path) -> dict[str, np.ndarray]:
    """All values of the last checkpoint: weights, optimizer, averages, generators."""
    import tensorflow as tf

    last = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
    reader = tf.train.load_checkpoint(str(last / "state"))
    names = [
        name for name in reader.get_variable_to_shape_map() if not name.startswith(("_CHECKPOINTABLE", "save_counter"))
    ]
    return {name: reader.get_tensor(name) for name in sorted(names)}


def furthest(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of two states of the same model."""
    assert one.keys() == other.keys()
    return max(float(np.max(np.abs(one[name].astype("f8") - other[name].astype("f8")), initial=0)) for name in one)
