"""A file brought over HTTP: streamed aside, resumed where it was cut off, verified, and only then named.

NAME.part       what has come so far
NAME.part.from  which version of the file that is, as the server told: its ETag or date
NAME.lock       held by the process that writes
"""

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from resnet_tasks.errors import DataError, ResnetTasksError

CHUNK = 1 << 20
PATIENCE = 60  # seconds without a byte

Say = Callable[[str], Any]


def download(url: str, path: Path, *, digest: str | None, say: Say) -> None:
    """Brings `url` to `path`, which appears whole and verified or not at all.

    Args:
        path: Where to; its folder exists and the caller holds `locked(path)`.
        digest: `sha256:` or `md5:` and the hexadecimal hash, or its beginning; `None` if none is published,
            and then the length that the server gives is all there is to hold it to.

    Raises:
        ResnetTasksError: The address does not answer, the connection broke (what came is kept, and the next
            call goes on there), or the disk is full (nothing is kept).
        DataError: The whole file came and is another than the published one; nothing is kept.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        total = _receive(url, part, digest is not None, say)
        here = part.stat().st_size
        if total is not None and here < total:
            raise _cut_off(url, here, total, "the server ended early")
        if total is None and digest is None:
            _forget(part)
            raise ResnetTasksError(f"{url}: the server names no length and no hash is published; {_by_hand(path)}")
        found = digest and mismatch(part, digest)
        if found:
            _forget(part)
            raise DataError(
                f"{url}: expected {digest}, and what came is {found}; it was removed. "
                f"Try once more; if it stays so, do not trust the address"
            )
        _make_it_so(part, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _forget(part)
            raise ResnetTasksError(
                f"{path}: the disk is full; what had come was removed. Free some space, "
                f"or name another folder by RESNET_TASKS_HOME"
            ) from error
        raise


@contextlib.contextmanager
def locked(path: Path, say: Say) -> Iterator[None]:
    """Holds the right to write `path`; waits for another process that has it."""
    with open(path.with_name(f"{path.name}.lock"), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{path.name}: another process is fetching it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def mismatch(path: Path, digest: str) -> str | None:
    """Returns the file's hash if it does not begin as `digest`, such as `sha256:11ad3fa6`, says."""
    kind, _, wanted = digest.partition(":")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    return None if found.startswith(wanted.lower()) else f"{kind}:{found}"


def _receive(url: str, part: Path, hash_is_known: bool, say: Say) -> int | None:
    """Adds to `part` what is missing; returns the whole length if the server tells it."""
    try:
        with _answer(url, part, hash_is_known) as response:
            start = _start(response, part)
            length = response.headers.get("Content-Length")
            total = None if length is None else start + int(length)
            _room_for(part, total, start)
            if start:
                say(f"goes on at {_size(start)} of {_size(total)}")
            else:
                _remember(part, response)
            _write(response, part, start, total, say)
            return total
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.exists():
            return _whole_already(url, error, part, hash_is_known, say)
        raise ResnetTasksError(f"{url}: the server answers {error.code} {error.reason}; {_by_hand(part)}") from error
    except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError) as error:
        here = part.stat().st_size if part.exists() else 0
        reason = getattr(error, "reason", None) or error
        if here:
            raise _cut_off(url, here, None, reason) from error
        raise ResnetTasksError(f"{url}: no answer ({reason}); {_by_hand(part)}") from error


def _answer(url: str, part: Path, hash_is_known: bool):
    """The server's answer: the rest where a part lies here and can be gone on with, else the whole."""
    headers = {"User-Agent": "resnet-tasks"}
    here = part.stat().st_size if part.exists() else 0
    version = _origin(part).read_text() if _origin(part).is_file() else ""
    if here and (version or hash_is_known):
        headers["Range"] = f"bytes={here}-"
        if version:
            headers["If-Range"] = version  # another version comes whole, from its beginning
    response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE)
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise ResnetTasksError(f"{url}: a web page came instead of a file; {_by_hand(part)}")
    return response


def _start(response, part: Path) -> int:
    """Where in the file the answer begins: behind what is here, or at 0 if the server ignored the question."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    given = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    here = part.stat().st_size
    if given != str(here):
        _forget(part)
        raise ResnetTasksError(f"{response.url}: asked for byte {here}, the server gave {given}; repeat the command")
    return here


def _whole_already(url: str, error: urllib.error.HTTPError, part: Path, hash_is_known: bool, say: Say) -> int | None:
    """Nothing lies behind the part: it is the whole file, or another one."""
    total = error.headers.get("Content-Range", "").rpartition("/")[2]
    error.close()
    if total == str(part.stat().st_size):
        return int(total)
    _forget(part)
    return _receive(url, part, hash_is_known, say)


def _write(response, part: Path, start: int, total: int | None, say: Say) -> None:
    """Streams the answer to the disk; a tenth of the way is a line."""
    done, said = start, 10 * start // total if total else 0
    with open(part, "ab") as file:
        try:
            while chunk := _read(response):
                file.write(chunk)
                done += len(chunk)
                if total and total > 10 * CHUNK and 10 * done // total > said:
                    said = 10 * done // total
                    say(f"{said}0 % of {_size(total)}")
        finally:
            file.flush()
            os.fsync(file.fileno())


def _read(response) -> bytes:
    """The next bytes.  Whatever the network fails of is a ConnectionError, so that a failing disk is told from it."""
    try:
        return response.read1(CHUNK)  # not `read`, which loses what it had when the connection breaks
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def _room_for(part: Path, total: int | None, start: int) -> None:
    """Refuses what cannot fit before it fills the disk."""
    free = shutil.disk_usage(part.parent).free + (part.stat().st_size if part.exists() and not start else 0)
    if total is not None and total - start > free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part))


def _make_it_so(part: Path, path: Path) -> None:
    os.replace(part, path)
    _origin(part).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name outlives a power cut too
    finally:
        os.close(folder)


def _remember(part: Path, response) -> None:
    """Keeps the version that the server names; a weak ETag does not promise equal bytes."""
    etag = response.headers.get("ETag", "")
    version = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
    part.unlink(missing_ok=True)  # before its new origin is written: never an old part with a new origin
    _origin(part).write_text(version)


def _origin(part: Path) -> Path:
    return part.with_name(f"{part.name}.from")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _origin(part).unlink(missing_ok=True)


def _cut_off(url: str, here: int, total: int | None, reason) -> ResnetTasksError:
    return ResnetTasksError(
        f"{url}: cut off at {_size(here)}{f' of {_size(total)}' if total else ''} ({reason}); "
        f"what came is kept: repeat the command, and it goes on there"
    )


def _by_hand(path: Path) -> str:
    return f"or bring the file here by other means and put it at {path.with_name(path.name.removesuffix('.part'))}"


def _size(count: int | None) -> str:
    return "?" if count is None else f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"
