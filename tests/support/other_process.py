"""Python in a process of its own: another backend, a fresh start, or PyTorch, which may not share TensorFlow's."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

AROUND = """
import sys
import numpy as np
given, answer = dict(np.load(sys.argv[1])), {}
%s
np.savez(sys.argv[2], **answer)
"""


def computed(code: str, given: dict, **environment: str) -> dict[str, np.ndarray]:
    """What `code` leaves in `answer`, from the arrays in `given`.

    Args:
        code: Python; `np`, `given` and `answer` are there.
        given: Arrays by name.
        environment: Variables beside this process's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("given.npz", "answer.npz")]
        np.savez(files[0], **given)
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path, **environment}
        done = subprocess.run(
            [sys.executable, "-c", AROUND % code, *files], env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return dict(np.load(files[1]))
