"""Processes that train together: who they are (TF_CONFIG, Slurm), and how they meet before TensorFlow starts.

TensorFlow waits for the others of a cluster without saying for whom.  So the processes meet first: the chief listens at
its own address, the others call there, and when all have come it tells them all the same thing.  Who did not come in
time is named.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from resnet_tasks.errors import ResnetTasksError, UsageError

SHAPE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
SLURM_PORT = 8888  # of the first process of a node; the next ones of it take the next ports
PAUSE = 0.2  # seconds between calls to a chief that is not there yet


@dataclass(frozen=True)
class Cluster:
    """The processes of a distributed run, and which of them this is.

    Attributes:
        jobs: `{"chief": (address,), "worker": (address, ...)}`, addresses as `host:port`; a chief is optional.
        task: This process's job, and
        index: its number in it.
        source: Where this was read.
    """

    jobs: Mapping[str, tuple[str, ...]]
    task: str
    index: int
    source: str

    @property
    def addresses(self) -> tuple[str, ...]:
        """All processes in the order of their ranks, the chief first."""
        return (*self.jobs.get("chief", ()), *self.jobs.get("worker", ()))

    @property
    def rank(self) -> int:
        """This process's place in `addresses`."""
        return self.index + (len(self.jobs.get("chief", ())) if self.task == "worker" else 0)

    @property
    def is_chief(self) -> bool:
        """Whether this process decides and writes."""
        return self.rank == 0


def find_cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that the environment describes, or `None` where this process is alone.

    TF_CONFIG (which Kubeflow, Vertex AI and SageMaker set) goes before a Slurm step of more than one task.

    Raises:
        UsageError: TF_CONFIG is not what it should be; or Slurm numbers the tasks otherwise than TensorFlow.
    """
    if environment.get("TF_CONFIG", "").strip() not in ("", "{}"):
        cluster = read_tf_config(environment["TF_CONFIG"])
    elif environment.get("SLURM_STEP_NUM_TASKS", "1") != "1" and "SLURM_PROCID" in environment:
        cluster = _read_slurm(environment)
    else:
        return None
    return cluster if len(cluster.addresses) > 1 else None


def read_tf_config(text: str) -> Cluster:
    """Reads and checks TF_CONFIG.

    Raises:
        UsageError: Names the part that is wrong, and what was expected there.
    """

    def wrong(what: str) -> UsageError:
        return UsageError(f"TF_CONFIG: {what}; expected {SHAPE}, the same cluster in every process, the task its own")

    try:
        config = json.loads(text)
    except ValueError as error:
        raise wrong(f"not JSON ({error})") from error
    jobs = config.get("cluster") if isinstance(config, dict) else None
    if not isinstance(jobs, dict) or not jobs:
        raise wrong("it has no cluster")
    if others := sorted(set(jobs) - {"chief", "worker"}):
        raise wrong(f"cluster.{others[0]} has no part in synchronous training")
    for job, addresses in jobs.items():
        if not isinstance(addresses, list) or not addresses:
            raise wrong(f"cluster.{job} is {json.dumps(addresses)}, not a list of addresses")
        for number, address in enumerate(addresses):
            _split(address, f"cluster.{job}[{number}]", wrong)
    if len(jobs.get("chief", ())) > 1:
        raise wrong(f"cluster.chief names {len(jobs['chief'])} processes, and there is one chief")
    every = [address for addresses in jobs.values() for address in addresses]
    if twice := sorted({address for address in every if every.count(address) > 1}):
        raise wrong(f"{twice[0]} stands there twice")
    task = config.get("task")
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise wrong("it has no task with type and index")
    if task["type"] not in jobs:
        raise wrong(f"task.type is {task['type']!r}, and the cluster has {', '.join(jobs)}")
    index, count = task["index"], len(jobs[task["type"]])
    if isinstance(index, str) and index.isdigit():
        index = int(index)
    if type(index) is not int or not 0 <= index < count:
        raise wrong(f"task.index is {task['index']!r}, and cluster.{task['type']} has {count}, counted from 0")
    return Cluster({job: tuple(addresses) for job, addresses in jobs.items()}, task["type"], index, "TF_CONFIG")


def _read_slurm(environment: Mapping[str, str]) -> Cluster:
    """A Slurm step, by TensorFlow's resolver; which GPUs a task sees is left to Slurm."""
    from tensorflow.distribute.cluster_resolver import SlurmClusterResolver

    try:
        # The resolver asks nvidia-smi for the GPUs, and cannot do without any: it is told that there are enough.
        resolver = SlurmClusterResolver(port_base=SLURM_PORT, gpus_per_node=2**16, gpus_per_task=1, auto_set_gpu=False)
        addresses = tuple(resolver.cluster_spec().as_dict()["worker"])
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"Slurm: {error}; start the processes with srun, or set TF_CONFIG") from error
    rank, node = int(environment["SLURM_PROCID"]), environment.get("SLURMD_NODENAME")
    if node and addresses[rank].rpartition(":")[0] != node:  # the resolver sorts the names as texts
        raise UsageError(
            f"Slurm's task {rank} runs on {node}, and TensorFlow's resolver looks for it on {addresses[rank]}; "
            "use nodes whose names sort as Slurm numbers them and srun's block distribution, or set TF_CONFIG"
        )
    return Cluster({"worker": addresses}, "worker", rank, "Slurm")


def meet(cluster: Cluster, message: dict | None, seconds: float) -> dict:
    """Waits until all processes of the cluster are there; returns the chief's message in each of them.

    Args:
        cluster: Who is awaited.
        message: What the chief tells the others, as JSON; the others pass `None`.
        seconds: How long the others are awaited.

    Raises:
        ResnetTasksError: Somebody did not come: the message names them.
        UsageError: Somebody's cluster is another one, or the chief's port is taken.
    """
    return _receive(cluster, message, seconds) if message is not None else _call(cluster, seconds)


def _receive(cluster: Cluster, message: dict, seconds: float) -> dict:
    """The chief's part."""
    _, port = _split(cluster.addresses[0])
    try:
        listener = socket.create_server(("", port))
    except OSError as error:
        raise UsageError(f"{cluster.source}: the chief's port {port} cannot be had here: {error.strerror}") from error
    present: dict[int, socket.socket] = {}
    try:
        with listener:
            _await(cluster, listener, present, time.monotonic() + seconds)
            if missing := [rank for rank in range(1, len(cluster.addresses)) if rank not in present]:
                named = ", ".join(f"rank {rank} ({cluster.addresses[rank]})" for rank in missing)
                what = f"{len(missing)} of {len(cluster.addresses)} processes did not come in {seconds:.0f} s: {named}"
                _tell(present, {"missing": what})
                raise ResnetTasksError(f"{what}; see why these did not start, and start all again")
            _tell(present, {"message": message})
            for caller in present.values():  # they hang up first, so that the port is free for TensorFlow at once
                _line(caller)
        return message
    finally:
        for caller in present.values():
            caller.close()


def _await(cluster: Cluster, listener: socket.socket, present: dict[int, socket.socket], end: float) -> None:
    """Adds who calls to `present`, by rank, until all have or the time is over."""
    while len(present) < len(cluster.addresses) - 1:
        listener.settimeout(max(end - time.monotonic(), 0.01))
        try:
            caller, _ = listener.accept()
        except TimeoutError:
            return
        caller.settimeout(5)
        hello = _line(caller)
        if hello is None or "rank" not in hello:
            caller.close()  # something else that tries ports
            continue
        rank, addresses = hello["rank"], hello["addresses"]
        present[rank] = caller
        if addresses != list(cluster.addresses):
            what = f"rank {rank} was started with other addresses: {', '.join(addresses)}"
            _tell(present, {"refused": what})
            raise UsageError(f"{cluster.source}: {what}; here they are {', '.join(cluster.addresses)}")


def _call(cluster: Cluster, seconds: float) -> dict:
    """The others' part."""
    end, chief = time.monotonic() + seconds, cluster.addresses[0]
    hello = {"rank": cluster.rank, "addresses": list(cluster.addresses)}
    while time.monotonic() < end:
        try:
            with socket.create_connection(_split(chief), timeout=2) as line:
                line.sendall(json.dumps(hello).encode() + b"\n")
                line.settimeout(max(end - time.monotonic(), 0.01) + 10)
                answer = _line(line)
        except OSError:
            answer = None
        if answer is None:
            time.sleep(PAUSE)
        elif "message" in answer:
            return answer["message"]
        elif "refused" in answer:
            raise UsageError(f"{cluster.source}: {answer['refused']}")
        else:
            raise ResnetTasksError(f"{answer['missing']}; see why these did not start, and start all again")
    raise ResnetTasksError(
        f"the chief ({chief}, rank 0) did not answer in {seconds:.0f} s; see why it did not start, or whether its "
        "port can be reached from here"
    )


def _tell(present: Mapping[int, socket.socket], what: dict) -> None:
    for line in present.values():
        try:
            line.sendall(json.dumps(what).encode() + b"\n")
        except OSError:
            pass  # it has gone, and will be missed later


def _line(connection: socket.socket) -> dict | None:
    """The next line, as JSON; `None` at the end, or for something else."""
    try:
        with connection.makefile("rb") as file:
            answer = json.loads(file.readline())
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def _split(address, where: str = "", wrong=UsageError) -> tuple[str, int]:
    """`host:port` apart; `[::1]:port` too."""
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise wrong(f"{where} is {json.dumps(address)}, not host:port")
    return host.strip("[]"), int(port)
