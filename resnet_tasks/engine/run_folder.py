"""The run folder: who owns it, whether it may be started or resumed, and its small files."""

import fcntl
import json
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from resnet_tasks.engine.checkpoints import named, write_aside
from resnet_tasks.errors import ResnetTasksError, UsageError

PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "keras-cv", "tensorflow-datasets", "numpy", "resnet-tasks")


class RunFolder:
    """A run's folder, held by an `flock` that dies with its process.

    Args:
        path: The folder; made if absent.
        resume: Whether a run that is there goes on.

    Attributes:
        name: What messages call it: `path`, but for a process whose folder stands in for the chief's.
        state: "new", "unfinished" or "finished", as it was found.

    Raises:
        UsageError: A run is there and `resume` is not asked for, or another process is writing to it.
    """

    def __init__(self, path: str | os.PathLike, resume: bool = False):
        self.path = self.name = Path(path)
        self.state = startable(self.path, resume)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "a")  # noqa: SIM115 - held as long as the run
        except OSError as error:
            raise ResnetTasksError(f"{self.path} cannot be written: {error.strerror}; choose another --run") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{self.path} is in use by another process; wait for it, or name another folder"
            ) from error
        except OSError as error:
            raise ResnetTasksError(
                f"{self.path}: this file system has no locks ({error.strerror}), which keep two runs apart; mount it "
                "with them (Lustre: -o flock), or name another folder"
            ) from error

    def close(self) -> None:
        """Lets the folder go."""
        self._lock.close()

    def write(self, name: str, text: str) -> Path:
        """Writes a small text file, aside and renamed."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, text)
        return path

    def write_json(self, name: str, content) -> Path:
        """Writes JSON for people: indented, floats as they are, NaN refused."""
        return self.write(name, json.dumps(content, indent=1, allow_nan=False, default=_plain) + "\n")

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"


def startable(path: Path, resume: bool) -> str:
    """The state of a folder in which a run may start, or go on; a UsageError where it may not."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"--run {path}: expected a folder, and this is a file")
    state = state_of(path)
    if state != "new" and not resume:
        found = "a finished" if state == "finished" else "an unfinished"
        raise UsageError(f"{path} holds {found} run; name another folder, or go on with --resume")
    return state


def state_of(path: Path) -> str:
    """`new` (absent, or without a checkpoint), `unfinished` or `finished`."""
    last = named(Path(path) / "checkpoints", "last")
    if last is None:
        return "new"
    try:
        finished = json.loads((last / "state.json").read_text())["finished"]
    except (OSError, ValueError, KeyError):
        finished = False
    return "finished" if finished else "unfinished"


def next_free(parent: Path, name: str) -> Path:
    """`parent/name`, or with `-2`, `-3`, ... behind it where that is taken."""
    path, number = Path(parent) / name, 1
    while path.exists():
        number += 1
        path = Path(parent) / f"{name}-{number}"
    return path


def command_line() -> str:
    """The command that runs, as a shell would take it again."""
    own = Path(sys.argv[0]).name in ("resnet-tasks", "main.py")
    return shlex.join(["resnet-tasks", *sys.argv[1:]] if own else sys.argv)


def environment() -> dict:
    """Versions, hardware and commit: what a figure needs beside it."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": _accelerators(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
        "keras_backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _accelerators() -> list[str]:
    """The GPUs' names, where TensorFlow runs."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return []
    config = tensorflow.config
    return [
        config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in config.list_physical_devices("GPU")
    ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, `+` behind it where files differ; `None` if installed."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        run = lambda *args: subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True, timeout=10)  # noqa: E731
        head = run("rev-parse", "--short=12", "HEAD").stdout.strip()
        return (
            head + ("+" if run("status", "--porcelain", "--untracked-files=no").stdout.strip() else "")
            if head
            else None
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _plain(value):
    """NumPy's numbers and arrays as Python's."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
