"""Files that torch, torchvision, timm, safetensors, KerasHub and keras.applications have written, read to the bit."""

import argparse
import pathlib
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest

from resnet_tasks.errors import DataError
from resnet_tasks.weights import files

pytestmark = pytest.mark.peers


def same(tensors: dict[str, np.ndarray], state: dict) -> None:
    import torch

    assert list(tensors) == list(state)
    for name, value in state.items():
        value = value.detach()
        expected = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        assert tensors[name].dtype == expected.dtype
        np.testing.assert_array_equal(tensors[name], expected)


@pytest.fixture(scope="module")
def every_kind() -> OrderedDict:
    """Tensors of every type and way to lie in a storage."""
    import torch

    torch.manual_seed(0)
    whole, cube = torch.randn(6, 8), torch.randn(4, 4, 4)
    kinds = {f"{dtype}": torch.arange(4).to(dtype) for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32)}
    kinds |= {f"{dtype}": torch.randn(3).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64)}
    kinds |= {"bool": torch.tensor([True, False]), "complex": torch.randn(2, dtype=torch.complex64)}
    lying = {"whole": whole, "turned": whole.t(), "part": whole[1:3, 2:6], "scalar": torch.tensor(3)}
    lying |= {"parameter": torch.nn.Parameter(cube.permute(2, 0, 1)[1:]), "expanded": torch.randn(1, 3).expand(5, 3)}
    lying |= {"channels_last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)}
    return OrderedDict(**lying, **kinds, empty=torch.zeros(0, 3))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("container", ["zip", "stream"])
def test_a_training_checkpoint_of_torch(tmp_path, every_kind, container, protocol):
    import torch

    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    options = argparse.Namespace(lr=0.1, where=pathlib.Path("x"), device=torch.device("cuda:0"), kind=torch.float32)
    root = {"epoch": 3, "arch": "resnet50", "best": np.float64(0.5), "table": np.arange(6).reshape(2, 3)}
    root |= {"args": options, "optimizer": optimizer.state_dict(), "steps": Counter([1, 1]), "size": torch.Size([2])}
    root |= {"some": defaultdict(list, a=[1]), "of": {1, 2}, "model": {"state_dict": every_kind}}
    zipped = container == "zip"
    torch.save(root, tmp_path / "a.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    checkpoint = files.read(tmp_path / "a.pth")
    same(checkpoint.tensors, every_kind)
    assert checkpoint.details["container"] == container
    assert checkpoint.details["wrapper"] == "model.state_dict"
    assert checkpoint.details["notes"] == {"epoch": 3, "arch": "resnet50", "best": 0.5}


def test_unsigned_types_of_newer_torch(tmp_path):
    import torch

    state = {"w": torch.arange(6, dtype=torch.int32).to(torch.uint16)[2:]}
    torch.save(state, tmp_path / "a.pth")
    assert files.read(tmp_path / "a.pth").tensors["w"].tolist() == [2, 3, 4, 5]
    torch.save({"w": torch.ones(3).to(torch.float8_e4m3fn)}, tmp_path / "a.pth")
    with pytest.raises(DataError, match=r"carries code|not read here"):
        files.read(tmp_path / "a.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_torchvision(tmp_path, zipped):
    import torch
    import torchvision

    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    same(files.read(tmp_path / "a.pth").tensors, state)


def test_timm_by_safetensors(tmp_path):
    import safetensors.numpy
    import safetensors.torch
    import timm

    state = timm.create_model("resnet26d").state_dict()
    safetensors.torch.save_file(state, tmp_path / "a.safetensors", {"format": "pt"})
    checkpoint = files.read(tmp_path / "a.safetensors")
    same(dict(sorted(checkpoint.tensors.items())), dict(sorted(state.items())))
    assert checkpoint.details == {"metadata": {"format": "pt"}}
    arrays = {name: value.numpy().astype("float16") for name, value in state.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "b.safetensors")
    read = files.read(tmp_path / "b.safetensors").tensors
    assert all(read[name].dtype == np.float16 and (read[name] == value).all() for name, value in arrays.items())


def test_bfloat16_by_safetensors(tmp_path, every_kind):
    import safetensors.torch

    state = {name: value.detach().clone().contiguous() for name, value in every_kind.items()}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    tensors = files.read(tmp_path / "a.safetensors").tensors
    same({name: tensors[name] for name in state}, state)


def test_whole_models_of_torch_are_refused(tmp_path):
    import torch

    network = torch.nn.Linear(3, 2)
    torch.save(network, tmp_path / "whole.pth")
    torch.jit.save(torch.jit.trace(network, torch.ones(1, 3)), tmp_path / "script.pt")
    for name, code in (("whole.pth", r"torch\.nn\.modules\.linear\.Linear"), ("script.pt", "a TorchScript program")):
        with pytest.raises(DataError, match=rf"carries code \({code}\): refused, nothing was run.*state_dict"):
            files.read(tmp_path / name)


def own_names(model) -> dict[str, np.ndarray]:
    variables = [one for one in model.weights if "seed_generator" not in one.path]
    return {"/".join(one.path.split("/")[-2:]): np.asarray(one) for one in variables}


def same_arrays(tensors: dict, expected: dict) -> None:
    assert set(tensors) == set(expected)
    assert all(np.array_equal(tensors[name], value) for name, value in expected.items())


@pytest.mark.parametrize("name", ["ResNet50", "DenseNet121", "EfficientNetB0", "VGG19"])
def test_keras_applications(tmp_path, name):
    import keras

    model = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(64, 64, 3))
    model.save(tmp_path / "a.keras")
    model.save_weights(tmp_path / "a.weights.h5")
    model.save(tmp_path / "a.h5")
    for file in ("a.keras", "a.weights.h5", "a.h5"):
        same_arrays(files.read(tmp_path / file).tensors, own_names(model))


@pytest.mark.parametrize("block", ["basic_block", "bottleneck_block"])
def test_keras_hub(tmp_path, block):
    import keras_hub

    depths = {"stackwise_num_filters": [64, 128], "stackwise_num_blocks": [1, 2], "stackwise_num_strides": [1, 2]}
    stem = {"input_conv_filters": [64], "input_conv_kernel_sizes": [7]}
    backbone = keras_hub.models.ResNetBackbone(**stem, **depths, block_type=block, image_shape=(32, 32, 3))
    model = keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=3)
    for saved in (backbone, model):
        saved.save(tmp_path / "a.keras")
        saved.save_weights(tmp_path / "a.weights.h5")
        for file in ("a.keras", "a.weights.h5"):
            same_arrays(files.read(tmp_path / file).tensors, own_names(saved))
