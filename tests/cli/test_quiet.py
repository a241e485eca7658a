"""TensorFlow's greetings are kept back; nothing else is."""

import os
import subprocess
import sys

import pytest

from resnet_tasks.cli.quiet import without_greetings

GREETINGS = b"""WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795451108.406396   31343 port.cc:153] oneDNN custom operations are on.
E0000 00:00:1795451139.966619   31343 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error
"""


def test_greetings_go_and_the_rest_stays(capfd):
    with without_greetings():
        os.write(2, GREETINGS + b"E0000 00:00:1795451139.9 31343 collective_ops.cc:1] lost\nW0000 the disk is slow\n")
        os.write(2, b"a line of somebody's own")
    assert capfd.readouterr().err == (
        "E0000 00:00:1795451139.9 31343 collective_ops.cc:1] lost\nW0000 the disk is slow\na line of somebody's own"
    )


def test_what_was_said_before_an_error_is_shown(capfd):
    with pytest.raises(ImportError), without_greetings():
        os.write(2, b"libcudart: cannot open shared object file\n")
        raise ImportError
    assert "libcudart" in capfd.readouterr().err
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


@pytest.mark.slow
def test_the_command_line_says_only_what_it_has_to_say():
    code = "import sys; from resnet_tasks.cli.main import main; sys.exit(main(['doctor']))"
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stderr == ""
