"""Networks of torchvision, timm and others' repositories, saved by PyTorch: ours give the same features and logits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from converted import distance, features, logits, pyramid_with

from resnet_tasks.errors import DataError
from resnet_tasks.weights import files
from resnet_tasks.weights.conversion import candidates, convert

pytestmark = pytest.mark.peers

SCRIPT = Path(__file__).parents[1] / "support" / "torch_peers.py"
HALF = ((127.5,) * 3, (127.5,) * 3)
TORCHVISION = ("resnet_18", "resnet_34", "resnet_50", "resnext_50_32x4d", "wide_resnet_50_2")


@pytest.fixture(scope="module")
def peers(tmp_path_factory) -> Path:
    """A folder of files that PyTorch wrote, with what their networks answer."""
    folder = tmp_path_factory.mktemp("peers")
    made = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    return folder


def compared(peers: Path, file: str, name: str, coarsest: str):
    """Converts a peer's file, holds every level to the peer's, and the logits if there is a classifier."""
    conversion = convert(files.read(peers / file), name)
    with np.load(peers / f"{file.rpartition('.')[0]}.answers.npz") as archive:
        expected = dict(archive)
    found = features(pyramid_with(name, conversion), expected.pop("pictures"))
    answer = expected.pop("answer")
    assert coarsest in expected and len(expected) >= 3
    for level, feature in expected.items():
        assert distance(found[level], feature) < 1e-4, level
    if conversion.head:
        assert distance(logits(found[coarsest], conversion.head), answer) < 1e-4
    return conversion


@pytest.mark.parametrize("name", [*TORCHVISION, "resnet_50_d", "se_resnet_50"])
def test_torchvision_and_timm(peers, name):
    assert candidates(files.read(peers / f"{name}.pth")) == (name,)
    conversion = compared(peers, f"{name}.pth", name, "C5")
    assert conversion.convention == ("torchvision" if name in TORCHVISION else "timm")
    assert conversion.head["kernel"].shape[1] == 1000
    assert (conversion.unused, conversion.standardise) == ((), None)


def test_timm_pre_activation(peers):
    assert candidates(files.read(peers / "resnet_50_v2.safetensors")) == ("resnet_50_v2",)
    conversion = compared(peers, "resnet_50_v2.safetensors", "resnet_50_v2", "C5")
    assert conversion.head["kernel"].shape == (2048, 1000)
    assert conversion.standardise == HALF


@pytest.mark.parametrize("head", ["linear", "fc"])
def test_cifar_nets(peers, head):
    file = f"resnet_20_cifar.{head}.pth"
    assert candidates(files.read(peers / file)) == ("resnet_20_cifar", "plain_20_cifar")
    conversion = compared(peers, file, "resnet_20_cifar", "C2")
    assert conversion.head["kernel"].shape == (64, 10)


def test_insightface(peers):
    assert candidates(files.read(peers / "iresnet_18.pth")) == ("iresnet_18",)
    conversion = compared(peers, "iresnet_18.pth", "iresnet_18", "C4")
    assert conversion.head is None
    assert {name.split(".")[1] for name in conversion.unused if "tracked" not in name} == {"bn2", "fc", "features"}


@pytest.mark.parametrize(
    ("theirs", "name", "reason"),
    [
        ("resnet50c", "resnet_50_d", 'its shortcuts are of the kind "project", and those of resnet_50_d "pool"'),
        ("ecaresnet50d", "resnet_50_d", "no backbone here has a layer for layer1.0.se.conv.weight"),
        ("legacy_seresnet50", "se_resnet_50", "take timm's seresnet50"),
        ("resnetv2_50x1_bit", "resnet_50_v2", "Big Transfer"),
        ("resnet26", "resnet_18", "layer1.0.conv1.weight .64, 64, 1, 1. would be stage1_block1_conv1/kernel"),
        ("densenet121", "densenet_121", "nobody's names"),
    ],
)
def test_relatives_are_refused(peers, theirs, name, reason):
    with pytest.raises(DataError, match=reason) as raised:
        convert(files.read(peers / f"{theirs}.pth"), name)
    assert f"{theirs}.pth" in str(raised.value)


def test_a_backbone_of_another_name(peers):
    with pytest.raises(DataError, match="look like wide_resnet_50_2"):
        convert(files.read(peers / "wide_resnet_50_2.pth"), "resnet_50")
