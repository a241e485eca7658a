"""TensorFlow without its greetings.

At its import TensorFlow writes notes on CPU features and missing GPU drivers straight to the descriptor of stderr, past
every setting of its own.  Here these lines, and no others, are kept back; RESNET_TASKS_DEBUG=1 shows them.
"""

import contextlib
import importlib.abc
import importlib.machinery
import os
import re
import sys
import tempfile
from collections.abc import Iterator

SPEAKERS = rb"port|cudart_stub|cpu_feature_guard|cuda_platform|cuda_diagnostics|gpu_device"  # source files of theirs
GREETING = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|To enable the following instructions"
    rb"|[IWE]\d{4} .*\b(" + SPEAKERS + rb")\.cc:"
)


def greet_nobody() -> None:
    """Lets TensorFlow be imported silently, whenever that happens."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what it says later on
    wanted = os.environ.get("RESNET_TASKS_DEBUG", "0") == "0" and "tensorflow" not in sys.modules
    if wanted and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as Python does, and wraps its execution."""

    def find_spec(self, name, path, target=None):
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def silently(module) -> None:
            with without_greetings():
                execute(module)
                module.config.list_physical_devices("GPU")  # here it says so if there is no driver

        spec.loader.exec_module = silently
        return spec


@contextlib.contextmanager
def without_greetings() -> Iterator[None]:
    """Holds stderr back, and then lets through all that is no greeting."""
    try:
        stderr = os.dup(2)
    except OSError:  # closed, as of a daemon
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            for line in said:
                if not GREETING.match(line):
                    os.write(2, line)
