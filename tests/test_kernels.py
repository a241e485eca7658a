"""TensorFlow's kernels are chosen before it is imported, and only where that was tried."""

import os
import subprocess
import sys

import pytest

from resnet_tasks import kernels

SWITCH = "TF_ENABLE_ONEDNN_OPTS"


@pytest.mark.parametrize(
    ("machine", "before", "after"),
    [("x86_64", None, "1"), ("AMD64", None, "1"), ("x86_64", "0", "0"), ("arm64", None, None)],
    ids=["x86-64", "Windows's name for it", "what a user says stays", "elsewhere TensorFlow decides"],
)
def test_switch(machine, before, after, monkeypatch):
    monkeypatch.setattr(kernels.platform, "machine", lambda: machine)
    monkeypatch.delenv(SWITCH, raising=False)
    if before:
        monkeypatch.setenv(SWITCH, before)
    kernels.prefer_onednn()
    assert os.environ.get(SWITCH) == after
    monkeypatch.delenv(SWITCH, raising=False)  # what the function set itself


@pytest.mark.parametrize("first", ["resnet_tasks.backbones", "resnet_tasks.train"])
def test_the_door_comes_before_tensorflow(first):
    """Through any name of the door, in a process that has not imported TensorFlow."""
    program = f"""
import os, sys
import resnet_tasks.kernels
resnet_tasks.kernels.platform.machine = lambda: "x86_64"
import resnet_tasks
assert {SWITCH!r} not in os.environ
{first}
assert os.environ[{SWITCH!r}] == "1"
"""
    environment = {name: value for name, value in os.environ.items() if name != SWITCH}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
