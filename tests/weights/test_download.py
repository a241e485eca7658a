"""Downloads from a server on loopback that cuts off, lies, forgets and disappears, onto disks that fill up."""

import errno
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from loopback import BODY, Server

from resnet_tasks.cli.main import main
from resnet_tasks.errors import DataError, ResnetTasksError
from resnet_tasks.weights import download, sources
from resnet_tasks.weights.published import NAMED, Published

SHA256 = hashlib.sha256(BODY).hexdigest()
KEY = "resnet_18.here"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.held.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def house(monkeypatch, tmp_path):
    """An empty home for weights; its folder of files."""
    monkeypatch.setenv("RESNET_TASKS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


def publish(monkeypatch, server, *, sha256=SHA256, md5=None):
    row = Published(
        backbone="resnet_18", publisher="here", url=server.url, sha256=sha256, md5=md5, licence="none", top1=None
    )
    monkeypatch.setitem(NAMED, KEY, row)


@pytest.fixture
def published(monkeypatch, server, house):
    publish(monkeypatch, server)
    return house / f"{KEY}.npz"


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_file_comes_whole_and_once(published, server):
    said = []
    assert sources.local(KEY) is None
    assert sources.fetch(KEY, say=said.append) == published
    assert published.read_bytes() == BODY
    assert left(published.parent) == [published.name]
    assert sources.local(KEY) == published and sources.published_as(published).key == KEY
    assert sources.fetch(KEY, say=said.append) == published
    assert (server.asked, server.sent) == ([None], [len(BODY)])
    assert SHA256 in said[1] and "here already" in said[-1]


def test_a_long_download_says_each_tenth_once(published, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 1000)
    said = []
    sources.fetch(KEY, say=said.append)
    assert said[1:-1] == [f"{tenth}0 % of 3.0 MB" for tenth in range(1, 11)]


@pytest.mark.parametrize(
    ("hashes", "says"),
    [
        ({"sha256": SHA256[:8]}, "sha256:"),
        ({"sha256": None, "md5": hashlib.md5(BODY).hexdigest()}, "md5:"),
        ({"sha256": None}, "no hash is published"),
    ],
    ids=["the beginning of a hash", "md5", "no hash"],
)
def test_a_file_is_held_to_what_is_published(hashes, says, server, house, monkeypatch):
    publish(monkeypatch, server, **hashes)
    said = []
    assert sources.fetch(KEY, say=said.append).read_bytes() == BODY
    assert says in said[-1]


def test_a_cut_download_goes_on_where_it_stopped(published, server):
    server.stop_after = 1_000_000
    with pytest.raises(ResnetTasksError, match=r"cut off at 1\.0 MB of 3\.0 MB.*repeat the command") as caught:
        sources.fetch(KEY, say=[].append)
    assert caught.value.exit_code == 1
    assert not published.exists() and sources.local(KEY) is None
    server.stop_after = None
    sources.fetch(KEY, say=[].append)
    assert published.read_bytes() == BODY
    assert server.asked == [None, "bytes=1000000-"]
    assert server.sent == [1_000_000, 2_000_000]  # not a byte twice


@pytest.mark.parametrize("etag", ['"two"', 'W/"one"', ""], ids=["changed", "weak", "none"])
def test_another_version_of_a_file_is_never_joined_to_the_first(etag, server, house, monkeypatch):
    publish(monkeypatch, server, sha256=None)
    server.stop_after = 1_000_000
    server.etag = '"one"' if etag == '"two"' else etag
    with pytest.raises(ResnetTasksError, match="cut off"):
        sources.fetch(KEY, say=[].append)
    server.stop_after, server.etag, server.body = None, etag, BODY[::-1]
    assert sources.fetch(KEY, say=[].append).read_bytes() == BODY[::-1]
    assert server.sent[-1] == len(BODY)


def test_a_server_that_ignores_range_starts_over(published, server):
    server.stop_after, server.ranges = 1_000_000, False
    with pytest.raises(ResnetTasksError):
        sources.fetch(KEY, say=[].append)
    server.stop_after = None
    assert sources.fetch(KEY, say=[].append).read_bytes() == BODY
    assert server.asked[-1] == "bytes=1000000-" and server.sent[-1] == len(BODY)


def test_a_connection_that_is_reset(published, server):
    server.stop_after, server.resets = 1_000_000, True
    with pytest.raises(ResnetTasksError, match=r"cut off at 1\.0 MB.*reset by peer.*repeat the command"):
        sources.fetch(KEY, say=[].append)
    server.stop_after, server.resets = None, False
    assert sources.fetch(KEY, say=[].append).read_bytes() == BODY
    assert server.sent == [1_000_000, 2_000_000]


def test_an_answer_that_begins_elsewhere_is_not_joined(published, server):
    server.stop_after = 1_000_000
    with pytest.raises(ResnetTasksError):
        sources.fetch(KEY, say=[].append)
    server.stop_after, server.shift = None, 10
    with pytest.raises(ResnetTasksError, match="asked for byte 1000000, the server gave 999990"):
        sources.fetch(KEY, say=[].append)
    assert sources.fetch(KEY, say=[].append).read_bytes() == BODY


def test_a_part_that_is_the_whole_is_only_verified(published, server):
    published.parent.mkdir(parents=True)
    published.with_name(f"{published.name}.part").write_bytes(BODY)
    assert sources.fetch(KEY, say=[].append).read_bytes() == BODY
    assert server.sent == []


def test_a_part_that_is_too_long_is_dropped(published, server):
    published.parent.mkdir(parents=True)
    published.with_name(f"{published.name}.part").write_bytes(BODY + b"more")
    assert sources.fetch(KEY, say=[].append).read_bytes() == BODY
    assert server.sent == [len(BODY)]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_wrong_hash_leaves_nothing(resumed, published, server):
    if resumed:
        published.parent.mkdir(parents=True)
        published.with_name(f"{published.name}.part").write_bytes(b"x" * 1000)
    else:
        server.body = BODY[:-1] + b"x"
    with pytest.raises(DataError, match=f"expected sha256:{SHA256}, and what came is sha256:") as caught:
        sources.fetch(KEY, say=[].append)
    assert caught.value.exit_code == 3
    assert left(published.parent) == []


def test_a_file_that_rotted_here_is_told(published, server):
    sources.fetch(KEY, say=[].append)
    published.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match=r"resnet_18\.here\.npz: expected .* remove the file"):
        sources.fetch(KEY, say=[].append)


def test_without_length_and_hash_nothing_is_taken_for_whole(server, house, monkeypatch):
    publish(monkeypatch, server, sha256=None)
    server.tells_length = False
    with pytest.raises(ResnetTasksError, match="names no length and no hash"):
        sources.fetch(KEY, say=[].append)
    assert left(house) == []


def test_an_address_that_is_gone(published, server):
    server.status = 404
    with pytest.raises(ResnetTasksError, match=r"weights\.npz: the server answers 404 .*put it at .*here\.npz$"):
        sources.fetch(KEY, say=[].append)
    server.status, server.kind = None, "text/html; charset=utf-8"
    with pytest.raises(ResnetTasksError, match="a web page came"):
        sources.fetch(KEY, say=[].append)
    server.shutdown()
    server.server_close()
    with pytest.raises(ResnetTasksError, match=r"no answer \(.*refused"):
        sources.fetch(KEY, say=[].append)
    assert left(published.parent) == []


def test_what_cannot_fit_is_not_begun(published, server, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(BODY) - 1))
    with pytest.raises(ResnetTasksError, match="the disk is full.*RESNET_TASKS_HOME"):
        sources.fetch(KEY, say=[].append)
    assert left(published.parent) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(BODY)))
    assert sources.fetch(KEY, say=[].append).read_bytes() == BODY


def test_a_disk_that_fills_up_on_the_way(published, server, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(ResnetTasksError, match="the disk is full"):
        sources.fetch(KEY, say=[].append)
    assert left(published.parent) == [] and sources.local(KEY) is None


def test_a_real_full_disk(published, server, tmp_path):
    (tmp_path / "home").mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "home"], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        server.tells_length = False  # so that its length cannot be seen beforehand
        with pytest.raises(ResnetTasksError, match="the disk is full"):
            sources.fetch(KEY, say=[].append)
        assert len(server.sent) <= 1 and left(published.parent) == []
    finally:
        subprocess.run(["umount", tmp_path / "home"], check=True)


def fetching(server):
    """A process that fetches KEY."""
    script = f"""
from resnet_tasks.weights import sources
from resnet_tasks.weights.published import NAMED, Published
NAMED[{KEY!r}] = Published(
    backbone="resnet_18", publisher="here", url={server.url!r}, sha256={SHA256!r}, licence="none", top1=None)
print(sources.fetch({KEY!r}, say=lambda line: print(line, flush=True)))
"""
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_two_fetches_at_once_are_one_download(published, server):
    server.held.clear()
    first = fetching(server)
    wait_until(lambda: server.asked)
    second = fetching(server)
    assert "another process is fetching it; waiting" in second.stdout.readline()
    server.held.set()
    for process in (first, second):
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 0 and out.splitlines()[-1] == str(published)
    assert published.read_bytes() == BODY
    assert server.asked == [None]


def test_a_killed_fetch_goes_on(published, server):
    server.held.clear()
    process, part = fetching(server), published.with_name(f"{published.name}.part")
    wait_until(lambda: part.is_file() and part.stat().st_size >= 1 << 20)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    here = part.stat().st_size
    server.held.set()
    sources.fetch(KEY, say=[].append)  # the lock died with its process
    assert published.read_bytes() == BODY
    assert server.asked == [None, f"bytes={here}-"] and server.sent[-1] == len(BODY) - here


def test_the_commands(published, server, capsys):
    assert main(["weights", "list", "resnet_18", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["weights"]
    assert [row["key"] for row in rows] == ["resnet_18.torchvision_v1", KEY]
    assert rows[0]["sha256"] == "f37072fd" and rows[0]["licence"] == "BSD-3-Clause" and rows[1]["path"] is None
    assert main(["weights", "fetch", KEY, "nosuch"]) == 2
    assert server.asked == []
    assert main(["weights", "fetch", KEY]) == 0
    out, log = capsys.readouterr()
    assert out == f"{published}\n" and server.url in log
    assert main(["weights", "list", "resnet_18"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"^resnet_18\.torchvision_v1 +69\.8  ImageNet +46\.8  BSD-3-Clause  sha256$", lines[1])
    assert re.search(r"^resnet_18\.here .*sha256 +yes$", lines[2])
    published.unlink()
    server.body = b"wrong"
    assert main(["weights", "fetch", KEY]) == 3
    assert "Traceback" not in capsys.readouterr().err
