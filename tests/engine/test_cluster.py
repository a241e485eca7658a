"""Who belongs to a run of several processes, what is refused, and a meeting over real sockets."""

import contextlib
import errno
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from resnet_tasks.engine import cluster as module
from resnet_tasks.engine.cluster import Cluster, find_cluster, meet, read_tf_config
from resnet_tasks.errors import ResnetTasksError, UsageError

MESSAGE = {"run": "runs/größe", "state": "new", "recipe": {"names": ["a", "b"], "lr": 0.1}}
LATE = 0.15  # seconds; enough for who is not late to be there
LIMIT = 10.0  # seconds that nobody needs
TWO = {"worker": ["a:2222", "b:2222"]}


def tf_config(cluster, type="worker", index=0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": type, "index": index}})


# TF_CONFIG


@pytest.mark.parametrize(
    ("type", "index", "rank"), [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2), ("worker", "1", 2)]
)
def test_a_chief_goes_before_the_workers(type, index, rank):
    jobs = {"worker": ["b:1", "c:65535"], "chief": ["a:2222"]}  # in this order: the job counts, not its place
    cluster = read_tf_config(tf_config(jobs, type, index))
    assert cluster.addresses == ("a:2222", "b:1", "c:65535")
    assert (cluster.task, cluster.index, cluster.rank) == (type, int(index), rank)
    assert cluster.is_chief == (rank == 0)
    assert cluster.jobs == {"worker": ("b:1", "c:65535"), "chief": ("a:2222",)} and cluster.source == "TF_CONFIG"


@pytest.mark.parametrize("index", [0, 1, "0", "1"])
def test_without_a_chief_the_first_worker_is_it(index):
    cluster = read_tf_config(tf_config({"worker": ["[::1]:2222", "10.0.0.2:2222"]}, "worker", index))
    assert cluster.addresses == ("[::1]:2222", "10.0.0.2:2222")
    assert cluster.rank == int(index) and cluster.is_chief == (int(index) == 0)


def test_what_others_write_into_tf_config_is_passed_over():
    text = json.dumps({**json.loads(tf_config(TWO)), "environment": "cloud", "rpc_layer": "grpc"})
    assert read_tf_config(text).addresses == ("a:2222", "b:2222")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("worker=a:1", "not JSON (Expecting value"),
        ('["a:1"]', "it has no cluster"),
        ("7", "it has no cluster"),
        ('{"task": {"type": "worker", "index": 0}}', "it has no cluster"),
        (tf_config({}), "it has no cluster"),
        (tf_config(["a:1"]), "it has no cluster"),
        (tf_config({**TWO, "ps": ["c:1"]}), "cluster.ps has no part in synchronous training"),
        (tf_config({**TWO, "evaluator": ["c:1"]}), "cluster.evaluator has no part in synchronous training"),
        (tf_config({"worker": "a:1"}), 'cluster.worker is "a:1", not a list of addresses'),
        (tf_config({"worker": {"0": "a:1"}}), 'cluster.worker is {"0": "a:1"}, not a list of addresses'),
        (tf_config({"worker": []}), "cluster.worker is [], not a list of addresses"),
        (tf_config({**TWO, "chief": []}), "cluster.chief is [], not a list of addresses"),
        (tf_config({"chief": ["a:1", "b:1"]}, "chief"), "cluster.chief names 2 processes, and there is one chief"),
        (tf_config({"chief": ["a:1"], "worker": ["b:1", "a:1"]}), "a:1 stands there twice"),
        (tf_config({"worker": ["a:1", "a:1"]}), "a:1 stands there twice"),
        (json.dumps({"cluster": TWO}), "it has no task with type and index"),
        (json.dumps({"cluster": TWO, "task": "worker"}), "it has no task with type and index"),
        (json.dumps({"cluster": TWO, "task": {"type": "worker"}}), "it has no task with type and index"),
        (json.dumps({"cluster": TWO, "task": {"index": 0}}), "it has no task with type and index"),
        (tf_config(TWO, "evaluator"), "task.type is 'evaluator', and the cluster has worker"),
        (tf_config({"chief": ["a:1"], "worker": ["b:1"]}, "ps"), "'ps', and the cluster has chief, worker"),
        (tf_config(TWO, ["worker"]), "task.type is ['worker'], and the cluster has worker"),
        (tf_config(TWO, index=2), "task.index is 2, and cluster.worker has 2, counted from 0"),
        (tf_config({**TWO, "chief": ["c:1"]}, "chief", 1), "task.index is 1, and cluster.chief has 1"),
        (tf_config(TWO, index=-1), "task.index is -1,"),
        (tf_config(TWO, index="-1"), "task.index is '-1',"),
        (tf_config(TWO, index="2"), "task.index is '2',"),
        (tf_config(TWO, index=True), "task.index is True,"),
        (tf_config(TWO, index=1.0), "task.index is 1.0,"),
        (tf_config(TWO, index=None), "task.index is None,"),
        (tf_config(TWO, index="x"), "task.index is 'x',"),
        (tf_config(TWO, index="¹"), "task.index is '¹',"),
    ],
)
def test_a_wrong_tf_config_is_refused_by_its_wrong_part(text, said):
    with pytest.raises(UsageError) as error:
        read_tf_config(text)
    assert str(error.value).startswith("TF_CONFIG: ") and said in str(error.value)
    assert module.SHAPE in str(error.value)


@pytest.mark.parametrize(
    "address",
    ["a", "a:", ":2222", "a:0", "a:65536", "a:70000", "a:-1", "a:http", "a:²", "http://a:1", "::1", "[::1]", "::1:2222",
     "a b:1", "", 2222, None, ["a", 2222]],
)  # fmt: skip
def test_an_address_is_host_and_port(address):
    with pytest.raises(UsageError) as error:
        read_tf_config(tf_config({"worker": ["z:1", address]}))
    assert f"TF_CONFIG: cluster.worker[1] is {json.dumps(address)}, not host:port; expected" in str(error.value)


# Who is asked


@pytest.fixture
def slurm(monkeypatch):
    """`slurm(**changes)`: the environment of a step of four tasks on two nodes, changed; `None` deletes."""

    def step(**changes):
        told = {
            "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_PROCID": "2",
            "SLURM_STEP_NODELIST": "n[01-02]",
            "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
            "SLURMD_NODENAME": "n02",
            "TF_CONFIG": None,
            "CUDA_VISIBLE_DEVICES": None,
            **changes,
        }
        for name, value in told.items():
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)

    return step


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": " {} "},
        {"TF_CONFIG": tf_config({"worker": ["a:1"]})},
        {"TF_CONFIG": tf_config({"chief": ["a:1"]}, "chief")},
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"},
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    ],
)
def test_who_is_alone_has_no_cluster(environment):
    assert find_cluster(environment) is None


def test_the_environment_of_this_process_is_asked(slurm):
    slurm(TF_CONFIG=tf_config(TWO, index=1))
    cluster = find_cluster()
    assert cluster == Cluster({"worker": ("a:2222", "b:2222")}, "worker", 1, "TF_CONFIG")
    slurm(TF_CONFIG=tf_config({"worker": ["a:2222"]}))  # alone, although Slurm says otherwise
    assert find_cluster() is None
    slurm(TF_CONFIG="nonsense")
    with pytest.raises(UsageError, match="TF_CONFIG: not JSON"):
        find_cluster()


@pytest.mark.parametrize("tf_config", [None, "{}"])
@pytest.mark.parametrize(("rank", "node"), [("0", "n01"), ("2", "n02"), ("3", "n02"), ("3", None)])
def test_a_slurm_step(slurm, rank, node, tf_config):
    slurm(SLURM_PROCID=rank, SLURMD_NODENAME=node, TF_CONFIG=tf_config)
    cluster = find_cluster()
    assert cluster.addresses == ("n01:8888", "n01:8889", "n02:8888", "n02:8889")
    assert (cluster.task, cluster.rank, cluster.source) == ("worker", int(rank), "Slurm")
    assert cluster.is_chief == (rank == "0")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ  # which GPUs a task sees is Slurm's


def test_slurms_nodes_of_which_not_all_have_as_many_tasks(slurm):
    slurm(SLURM_STEP_NODELIST="a7,n[1,3]", SLURM_STEP_TASKS_PER_NODE="2,1(x2)", SLURMD_NODENAME="n1")
    assert find_cluster().addresses == ("a7:8888", "a7:8889", "n1:8888", "n3:8888")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SLURM_STEP_NODELIST": "n[9-10]", "SLURM_PROCID": "0", "SLURMD_NODENAME": "n9"},
         "Slurm's task 0 runs on n9, and TensorFlow's resolver looks for it on n10:8888"),
        ({"SLURM_PROCID": "1"},  # cyclic distribution
         "Slurm's task 1 runs on n02, and TensorFlow's resolver looks for it on n01:8889"),
        ({"SLURMD_NODENAME": "n0"}, "Slurm's task 2 runs on n0,"),
        ({"SLURM_PROCID": None}, "SLURM_PROCID not found"),
        ({"SLURM_STEP_NODELIST": None}, "SLURM_STEP_NODELIST not found"),
        ({"SLURM_STEP_TASKS_PER_NODE": None}, "SLURM_STEP_TASKS_PER_NODE not found"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2"}, "Requested 4 tasks but only 2 were assigned"),
        ({"SLURM_STEP_TASKS_PER_NODE": "two"}, 'Invalid tasks-per-node list format "two"'),
        ({"SLURM_STEP_NODELIST": "n[1-"}, 'Invalid hostlist format "n[1-"'),
        ({"SLURM_STEP_NUM_TASKS": "many"}, "'many'"),
        ({"SLURM_PROCID": "first"}, "'first'"),
        ({"SLURM_PROCID": "4"}, "Slurm: "),
    ],
)  # fmt: skip
def test_a_slurm_step_that_tensorflow_misreads_is_refused(slurm, changes, said):
    slurm(**changes)
    with pytest.raises(UsageError) as error:
        find_cluster()
    assert said in str(error.value) and "set TF_CONFIG" in str(error.value)


# The meeting


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    for name, seconds in (("PAUSE", 0.02), ("HELLO", 0.2), ("GRACE", 0.35)):
        monkeypatch.setattr(module, name, seconds)


def free(count: int, host: str = "127.0.0.1") -> tuple[str, ...]:
    """Addresses of this machine whose ports nobody has."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return tuple(f"{host}:{each.getsockname()[1]}" for each in taken)


def of(addresses, rank: int) -> Cluster:
    """The process of that rank."""
    return Cluster({"worker": tuple(addresses)}, "worker", rank, "TF_CONFIG")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


class Meeting:
    """Processes, as threads, that meet; `came` is `{rank: message or error}` and `took` their seconds."""

    def __init__(self, addresses, seconds=LIMIT, late=None, absent=()):
        """`late` is `{rank: seconds}`; who is in `absent` never starts."""
        self.addresses, self.seconds, self.late = addresses, seconds, late or {}
        self.came, self.took = {}, {}
        self.threads = [
            threading.Thread(target=self._take_part, args=[rank], daemon=True)
            for rank in range(len(addresses))
            if rank not in absent
        ]

    def _take_part(self, rank):
        time.sleep(self.late.get(rank, 0))
        start = time.monotonic()
        try:
            self.came[rank] = meet(of(self.addresses, rank), MESSAGE if rank == 0 else None, self.seconds)
        except BaseException as error:
            self.came[rank] = error
        self.took[rank] = time.monotonic() - start

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for thread in self.threads:
            thread.join(2 * LIMIT)
        assert not any(thread.is_alive() for thread in self.threads), "somebody waits for ever"


def call(address: str, text: bytes = b"", end: bool = False) -> socket.socket:
    """Calls as soon as somebody listens there, and says that; `end` says that nothing will follow."""
    until = time.monotonic() + LIMIT
    while True:
        try:
            line = socket.create_connection(("127.0.0.1", port_of(address)), timeout=LIMIT)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < until, "nobody listens"
            time.sleep(0.01)
    line.sendall(text)
    if end:
        line.shutdown(socket.SHUT_WR)
    return line


def answer(line: socket.socket) -> bytes:
    """All that is said until the other side hangs up."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := line.recv(2**16):
            said += part
    return said


def hello(rank, addresses) -> bytes:
    return json.dumps({"rank": rank, "addresses": list(addresses)}).encode() + b"\n"


def everybody_met(meeting: Meeting) -> bool:
    return meeting.came == dict.fromkeys(range(len(meeting.addresses)), MESSAGE)


@pytest.mark.parametrize(
    ("count", "late"),
    [(2, {}), (2, {0: LATE}), (2, {1: LATE}), (3, {}), (3, {0: LATE}), (3, {2: LATE}), (3, {0: LATE, 1: 2 * LATE})],
)
def test_all_hear_the_chief_whoever_comes_first(count, late):
    with Meeting(free(count), late=late) as meeting:
        pass
    assert everybody_met(meeting)
    assert max(meeting.took.values()) < LATE + 2


@pytest.mark.parametrize("host", ["localhost", "[::1]"])
def test_a_chief_with_a_name_or_an_address_of_ipv6(host):
    if host == "[::1]":
        if not socket.has_dualstack_ipv6():
            pytest.skip("no IPv6 here")
        with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
            try:
                probe.bind(("::1", 0))
            except OSError:
                pytest.skip("no IPv6 here")
    with Meeting(free(2, host), seconds=2) as meeting:
        pass
    assert everybody_met(meeting)


def test_the_chief_of_a_cluster_that_names_it():
    """The worker of index 0 is not the chief where there is one."""
    chief, worker = free(2)
    jobs = {"chief": (chief,), "worker": (worker,)}
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(meet, Cluster(jobs, "worker", 0, "TF_CONFIG"), None, LIMIT)
        assert meet(Cluster(jobs, "chief", 0, "TF_CONFIG"), MESSAGE, LIMIT) == MESSAGE
        assert told.result() == MESSAGE


def test_the_chiefs_port_is_free_at_once():
    """Even for who does not ask to reuse it: nothing of the meeting lingers on the chief's side."""
    addresses = free(3)
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(meet, of(addresses, rank), None, LIMIT) for rank in (1, 2)]
        meet(of(addresses, 0), MESSAGE, LIMIT)
        with socket.socket() as next_one:
            next_one.bind(("", port_of(addresses[0])))
            next_one.listen()
        assert [other.result() for other in others] == [MESSAGE] * 2


@pytest.mark.parametrize("count", [2, 4])
def test_who_does_not_come_is_named_to_all(count):
    addresses, absent = free(count), range(1, count, 2)
    with Meeting(addresses, seconds=0.4, absent=absent) as meeting:
        pass
    named = ", ".join(f"rank {rank} ({addresses[rank]})" for rank in absent)
    what = f"{len(absent)} of {count} processes did not come in 0 s: {named}; see why"
    for rank, error in meeting.came.items():
        assert type(error) is ResnetTasksError and str(error).startswith(what), rank
        assert 0.3 < meeting.took[rank] < 1.4
    assert sorted(meeting.came) == sorted(set(range(count)) - set(absent))


def test_a_late_chief_still_says_who_is_missing():
    """A worker that has waited long for the chief waits as long again for the chief's answer."""
    addresses = free(3)
    with Meeting(addresses, seconds=0.51, late={0: 0.45}, absent=[2]) as meeting:
        pass
    for error in meeting.came.values():
        assert str(error).startswith(f"1 of 3 processes did not come in 1 s: rank 2 ({addresses[2]});")


def test_a_chief_that_does_not_come_is_named():
    addresses = free(2)
    with Meeting(addresses, seconds=0.3, absent=[0]) as meeting:
        pass
    assert type(meeting.came[1]) is ResnetTasksError
    assert f"the chief ({addresses[0]}, rank 0) did not answer in 0 s" in str(meeting.came[1])
    assert 0.3 < meeting.took[1] < 1.3


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_a_chief_whose_name_cannot_be_one_is_named(host):
    with pytest.raises(ResnetTasksError, match=f"{host}:2222, rank 0.* did not answer"):
        meet(of((f"{host}:2222", "b:1"), 1), None, 0.1)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b'{"error": 400}\n', b"7\n"])
def test_something_else_at_the_chiefs_address_is_not_the_chief(says):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    line, _ = other.accept()
                    line.sendall(says)
                    line.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(ResnetTasksError, match="rank 0.* did not answer in 0 s"):
            meet(of((address, "b:1"), 1), None, 0.1)
        other.shutdown(socket.SHUT_RDWR)


def test_something_silent_at_the_chiefs_address_is_not_the_chief(monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address, start = f"127.0.0.1:{silent.getsockname()[1]}", time.monotonic()
        with pytest.raises(ResnetTasksError, match="rank 0.* did not answer"):
            meet(of((address, "b:1"), 1), None, 0.2)
        assert time.monotonic() - start < 1.3


@pytest.mark.parametrize("theirs", ["another", "fewer", "more"])
def test_another_list_of_addresses_is_refused_on_both_sides(theirs):
    first, *others = free(4)
    here = (first, *others[:2])
    there = {"another": (first, others[0], others[2]), "fewer": here[:2], "more": (*here, others[2])}[theirs]
    with ThreadPoolExecutor(2) as pool:
        chief = pool.submit(meet, of(here, 0), MESSAGE, LIMIT)
        with call(first, hello(2, here)) as right:  # who is there already, and hears why it ends
            wrong = pool.submit(meet, of(there, len(there) - 1 if theirs == "more" else 1), None, LIMIT)
            errors = [each.exception(timeout=LIMIT / 2) for each in (chief, wrong)]
            heard = json.loads(answer(right))["refused"]
    said = f"was started with other addresses: {', '.join(there)}"
    assert all(type(error) is UsageError and said in str(error) for error in errors) and said in heard
    assert f"here they are {', '.join(here)}" in str(errors[0])


STRAYS = {
    "hangs up": (b"", True),
    "says nothing": (b"", False),
    "has no end": (b"x" * 2**16, False),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", False),
    "no text": (b"\xff\xfe\x00\n", False),
    "deep": (b"[" * 50_000 + b"\n", False),
    "a number": (b"7\n", False),
    "a list": (b'["rank", "addresses"]\n', False),
    "null": (b"null\n", False),
    "a rank alone": (b'{"rank": 1}\n', False),
    "addresses alone": (b'{"addresses": []}\n', False),
    "addresses of no list": (b'{"rank": 1, "addresses": 7}\n', False),
    "addresses of no texts": (b'{"rank": 1, "addresses": [7]}\n', False),
    "addresses of nobody": (b'{"rank": 1, "addresses": []}\n', False),
    "half a line": (b'{"rank": 1, "addr', True),
}


@pytest.mark.parametrize("stray", STRAYS)
def test_something_else_that_calls_does_not_count(stray):
    addresses = free(2)
    with Meeting(addresses, absent=[1]) as meeting:
        with call(addresses[0], *STRAYS[stray]) as line:
            assert answer(line) == b""
        assert not meeting.came
        assert meet(of(addresses, 1), None, LIMIT) == MESSAGE
    assert meeting.came == {0: MESSAGE}


@pytest.mark.parametrize("rank", [0, -1, 2, 10**30, True, 1.0, "1", None, [1]], ids=repr)
def test_a_rank_that_nobody_has_does_not_count(rank):
    addresses = free(2)
    with Meeting(addresses, absent=[1]) as meeting:
        with call(addresses[0], hello(rank, addresses)) as line:
            assert answer(line) == b""
        assert not meeting.came
        assert meet(of(addresses, 1), None, LIMIT) == MESSAGE
    assert meeting.came == {0: MESSAGE}


def test_a_rank_that_came_already_is_refused_and_the_first_one_stays():
    addresses = free(3)
    with Meeting(addresses, absent=[1, 2]) as meeting, call(addresses[0], hello(1, addresses)) as first:
        with pytest.raises(UsageError, match=r"TF_CONFIG: rank 1 came already"):
            meet(of(addresses, 1), None, LIMIT)
        assert not meeting.came
        assert meet(of(addresses, 2), None, LIMIT) == MESSAGE
        first.shutdown(socket.SHUT_WR)  # as who hangs up
        assert json.loads(answer(first)) == {"message": MESSAGE}
    assert meeting.came == {0: MESSAGE}


def test_a_process_that_ends_and_starts_again_is_taken():
    addresses = free(3)
    with Meeting(addresses, absent=[1, 2]) as meeting, ThreadPoolExecutor(1) as pool:
        call(addresses[0], hello(1, addresses)).close()
        again = pool.submit(meet, of(addresses, 1), None, LIMIT)
        time.sleep(LATE)
        assert not meeting.came and not again.done()
        assert meet(of(addresses, 2), None, LIMIT) == MESSAGE == again.result()
    assert meeting.came == {0: MESSAGE}


def test_a_process_that_ends_while_it_waits_is_missing():
    addresses = free(3)
    with Meeting(addresses, seconds=0.4, absent=[1, 2]) as meeting:
        call(addresses[0], hello(1, addresses)).close()
        with pytest.raises(ResnetTasksError, match=rf"1 of 3 .*: rank 1 \({addresses[1]}\);"):
            meet(of(addresses, 2), None, 0.4)
    assert f"1 of 3 processes did not come in 0 s: rank 1 ({addresses[1]});" in str(meeting.came[0])


def test_a_caller_that_dribbles_does_not_hold_the_chief():
    addresses = free(2)
    with Meeting(addresses, absent=[1]) as meeting:
        with call(addresses[0]) as line, pytest.raises(ConnectionError):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(1000):
                line.sendall(b"x")
                time.sleep(0.002)
        assert meet(of(addresses, 1), None, LIMIT) == MESSAGE
    assert meeting.came == {0: MESSAGE}


def test_a_caller_that_never_stops_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(module, "HELLO", LIMIT)
    monkeypatch.setattr(module, "LONGEST", 10_000)
    addresses = free(2)
    with Meeting(addresses, absent=[1]) as meeting:
        with call(addresses[0]) as line, contextlib.suppress(ConnectionError):
            for _ in range(10):
                line.sendall(b"x" * 10_000)
            assert answer(line) == b""
        assert meet(of(addresses, 1), None, LIMIT) == MESSAGE
    assert max(meeting.took.values()) < LIMIT / 2


def test_the_time_limit_holds_for_silent_callers(monkeypatch):
    monkeypatch.setattr(module, "HELLO", LIMIT)
    addresses = free(2)
    with Meeting(addresses, seconds=0.3, absent=[1]) as meeting, call(addresses[0]) as line:
        assert answer(line) == b""
    assert "rank 1" in str(meeting.came[0])
    assert meeting.took[0] < 1.3


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_taken_port_is_refused(host):
    with socket.create_server((host, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as error:
            meet(of((f"127.0.0.1:{port}", "b:1"), 0), MESSAGE, LIMIT)
    assert str(error.value).startswith(f"TF_CONFIG: the chief's port {port} cannot be had here: ")
    assert os.strerror(errno.EADDRINUSE) in str(error.value)
