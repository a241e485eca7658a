"""Processes that train together: who they are (TF_CONFIG, Slurm), and how they meet before TensorFlow starts.

TensorFlow waits for the others of a cluster without saying for whom.  So the processes meet first: the chief listens at
its own address, the others call there, and when all have come it tells them all the same thing.  Who did not come in
time is named.
"""

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from resnet_tasks.errors import ResnetTasksError, UsageError

SHAPE = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
SLURM_PORT = 8888  # of the first process of a node; the next ones of it take the next ports
PAUSE = 0.2  # seconds between calls to a chief that is not there yet
HELLO = 5.0  # seconds in which a caller says who it is; others wait meanwhile
GRACE = 10.0  # seconds that the others wait longer than the chief does, for what it tells them
LONGEST = 2**24  # bytes of a line


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
        UsageError: TF_CONFIG is not what it should be, or Slurm's variables are not; or Slurm numbers the tasks
            otherwise than TensorFlow.
    """
    if environment.get("TF_CONFIG", "").strip() not in ("", "{}"):
        cluster = read_tf_config(environment["TF_CONFIG"])
    elif environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
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
    if task["type"] not in list(jobs):  # it may be a list itself
        raise wrong(f"task.type is {task['type']!r}, and the cluster has {', '.join(jobs)}")
    index, count = task["index"], len(jobs[task["type"]])
    if isinstance(index, str) and index.isdecimal():
        index = int(index)
    if type(index) is not int or not 0 <= index < count:
        raise wrong(f"task.index is {task['index']!r}, and cluster.{task['type']} has {count}, counted from 0")
    return Cluster({job: tuple(addresses) for job, addresses in jobs.items()}, task["type"], index, "TF_CONFIG")


def _read_slurm(environment: Mapping[str, str]) -> Cluster:
    """A Slurm step, by TensorFlow's resolver; which GPUs a task sees is left to Slurm."""
    import tensorflow as tf

    resolve = tf.distribute.cluster_resolver.SlurmClusterResolver
    try:
        # The resolver asks nvidia-smi for the GPUs, and cannot do without any: it is told that there are enough.
        resolver = resolve(port_base=SLURM_PORT, gpus_per_node=2**16, gpus_per_task=1, auto_set_gpu=False)
        addresses = tuple(resolver.cluster_spec().as_dict()["worker"])
        rank = int(environment["SLURM_PROCID"])
        own = addresses[rank]
    except (RuntimeError, ValueError, LookupError) as error:
        raise UsageError(f"Slurm: {error}; start the processes with srun, or set TF_CONFIG") from error
    node = environment.get("SLURMD_NODENAME")
    if node and own.rpartition(":")[0] != node:  # the resolver sorts the names as texts
        raise UsageError(
            f"Slurm's task {rank} runs on {node}, and TensorFlow's resolver looks for it on {own}; "
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
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        listener = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise UsageError(f"{cluster.source}: the chief's port {port} cannot be had here: {error.strerror}") from error
    present: dict[int, socket.socket] = {}
    try:
        with listener:
            _await(cluster, listener, present, time.monotonic() + seconds)
            if missing := [rank for rank in range(1, len(cluster.addresses)) if rank not in present]:
                named = ", ".join(f"rank {rank} ({cluster.addresses[rank]})" for rank in missing)
                what = f"{len(missing)} of {len(cluster.addresses)} processes did not come in {seconds:.0f} s: {named}"
                _tell(present.values(), {"missing": what})
                raise ResnetTasksError(f"{what}; see why these did not start, and start all again")
            _tell(present.values(), {"message": message})
            for caller in present.values():  # they hang up first, so that the port is free for TensorFlow at once
                _line(caller, HELLO)
        return message
    finally:
        for caller in present.values():
            caller.close()


def _await(cluster: Cluster, listener: socket.socket, present: dict[int, socket.socket], end: float) -> None:
    """Adds who calls to `present`, by rank, until all have or the time is over; who hangs up is awaited again."""
    while True:
        for rank in [rank for rank, caller in present.items() if _has_gone(caller)]:
            present.pop(rank).close()
        left = end - time.monotonic()
        if len(present) == len(cluster.addresses) - 1 or left <= 0:
            return
        listener.settimeout(left)
        try:
            caller, _ = listener.accept()
        except TimeoutError:
            continue
        hello = _hello(caller, min(left, HELLO))
        if hello is None:
            caller.close()
            continue
        rank, addresses = hello
        if addresses != cluster.addresses:
            what = f"rank {rank} was started with other addresses: {', '.join(addresses)}"
            _tell([*present.values(), caller], {"refused": what})
            caller.close()
            raise UsageError(f"{cluster.source}: {what}; here they are {', '.join(cluster.addresses)}")
        if not 0 < rank < len(cluster.addresses):
            caller.close()
        elif rank in present and not _has_gone(present[rank]):
            _tell([caller], {"refused": f"rank {rank} came already; each process has a task of its own"})
            caller.close()
        else:
            present[rank] = caller


def _hello(caller: socket.socket, seconds: float) -> tuple[int, tuple[str, ...]] | None:
    """The rank and the addresses of who calls; `None` for something else that tries ports."""
    said = _line(caller, seconds) or {}
    rank, addresses = said.get("rank"), said.get("addresses")
    if type(rank) is not int or not isinstance(addresses, list) or not addresses:
        return None
    return (rank, tuple(addresses)) if all(isinstance(address, str) for address in addresses) else None


def _has_gone(caller: socket.socket) -> bool:
    """Whether a caller has hung up: it says nothing while it waits."""
    caller.settimeout(0)
    try:
        caller.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _call(cluster: Cluster, seconds: float) -> dict:
    """The others' part."""
    end, chief = time.monotonic() + seconds, cluster.addresses[0]
    hello = {"rank": cluster.rank, "addresses": list(cluster.addresses)}
    while time.monotonic() < end:
        try:
            with socket.create_connection(_split(chief), timeout=2) as line:
                _tell([line], hello)
                answer = _line(line, seconds + GRACE) or {}  # the chief may have come just now, and waits as long
        except (OSError, UnicodeError):  # the second for a name that cannot be one
            answer = {}
        if "message" in answer:
            return answer["message"]
        if "refused" in answer:
            raise UsageError(f"{cluster.source}: {answer['refused']}")
        if "missing" in answer:
            raise ResnetTasksError(f"{answer['missing']}; see why these did not start, and start all again")
        time.sleep(PAUSE)
    raise ResnetTasksError(
        f"the chief ({chief}, rank 0) did not answer in {seconds:.0f} s; see why it did not start, or whether its "
        "port can be reached from here"
    )


def _tell(present: Iterable[socket.socket], what: dict) -> None:
    for line in present:
        line.settimeout(HELLO)
        try:
            line.sendall(json.dumps(what).encode() + b"\n")
        except OSError:
            pass  # it has gone, and will be missed later


def _line(connection: socket.socket, seconds: float) -> dict | None:
    """The next line, as JSON; `None` at the end, when the time is over, or for something else."""
    end, line = time.monotonic() + seconds, bytearray()
    try:
        while not line.endswith(b"\n"):
            connection.settimeout(max(end - time.monotonic(), 0.01))
            part = connection.recv(2**16)
            if not part or len(line) > LONGEST or time.monotonic() > end:
                return None
            line += part
        answer = json.loads(line)
    except (OSError, ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _split(address, where: str = "", wrong=UsageError) -> tuple[str, int]:
    """`host:port` apart; `[::1]:port` too."""
    parts = re.fullmatch(r"(?:\[([^][\s]+)]|([^][:\s]+)):([0-9]{1,5})", address if isinstance(address, str) else "")
    if not parts or not 0 < int(parts[3]) < 2**16:
        raise wrong(f"{where} is {json.dumps(address)}, not host:port")
    return parts[1] or parts[2], int(parts[3])
