"""Names, layouts and folds by hand-made checkpoints: no peer is needed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resnet_tasks.errors import DataError, UsageError
from resnet_tasks.weights import files, inspecting, layouts
from resnet_tasks.weights.checkpoint import Checkpoint
from resnet_tasks.weights.conventions import model_config, mxnet_v2, reading
from resnet_tasks.weights.conversion import candidates, convert

RNG = np.random.default_rng(0)
LEAVES = ("gamma", "beta", "moving_mean", "moving_variance")


def checkpoint(tensors: dict, form="npz", path="hand.npz") -> Checkpoint:
    return Checkpoint(Path(path), form, tensors)


def torch_resnet_18(prefix: str = "") -> dict[str, np.ndarray]:
    """torchvision's names and shapes, counted values."""
    tensors: dict[str, np.ndarray] = {}

    def conv(name, read, filters, kernel):
        tensors[f"{prefix}{name}.weight"] = RNG.normal(size=(filters, read, kernel, kernel)).astype("float16")

    def norm(name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{prefix}{name}.{leaf}"] = RNG.uniform(0.5, 1, channels).astype("float32")
        tensors[f"{prefix}{name}.num_batches_tracked"] = np.array(3)

    conv("conv1", 3, 64, 7)
    norm("bn1", 64)
    read = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", read, width, 3)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width)
            if read != width:
                conv(f"{name}.downsample.0", read, width, 1)
                norm(f"{name}.downsample.1", width)
            read = width
    tensors[f"{prefix}fc.weight"] = RNG.normal(size=(10, 512)).astype("float32")
    tensors[f"{prefix}fc.bias"] = np.arange(10.0, dtype="float32")
    return tensors


@pytest.mark.parametrize("prefix", ["", "module.", "module.model.backbone."])
def test_every_tensor_finds_its_variable(prefix):
    tensors = torch_resnet_18(prefix)
    converted = convert(checkpoint(tensors), "resnet_18")
    assert {path: value.shape for path, value in converted.values.items()} == layouts.layout("resnet_18")
    assert {value.dtype for value in converted.values.values()} == {np.dtype("float32")}
    theirs = tensors[f"{prefix}layer3.0.downsample.0.weight"]
    assert converted.values["stage3_block1_shortcut/kernel"][0, 0, 5, 7] == theirs[7, 5, 0, 0]
    theirs = tensors[f"{prefix}layer1.1.conv2.weight"]
    assert converted.values["stage1_block2_conv2/kernel"][2, 1, 3, 4] == theirs[4, 3, 2, 1]
    np.testing.assert_array_equal(converted.values["stem_conv1_norm/gamma"], tensors[f"{prefix}bn1.weight"])
    np.testing.assert_array_equal(converted.head["kernel"], tensors[f"{prefix}fc.weight"].T)
    np.testing.assert_array_equal(converted.head["bias"], np.arange(10))
    assert (converted.unused, converted.convention, converted.standardise) == ((), "torchvision", None)


def test_what_is_not_a_backbones_is_unused_and_a_part_is_a_part():
    tensors = torch_resnet_18()
    tensors = {name: value for name, value in tensors.items() if not name.startswith(("layer4", "fc.weight"))}
    converted = convert(checkpoint(tensors | {"neck.weight": np.ones(3)}), "resnet_18")
    assert converted.unused == ("neck.weight", "fc.bias")
    assert converted.head is None
    missing = layouts.layout("resnet_18").keys() - converted.values.keys()
    assert {path.split("_")[0] for path in missing} == {"stage4"}


def test_two_networks_in_one_file_do_not_mix():
    """The longer name keeps its prefix, so its tensors are told apart and left out."""
    first, second = torch_resnet_18(), torch_resnet_18("model.")
    converted = convert(checkpoint(first | second), "resnet_18")
    np.testing.assert_array_equal(converted.values["stem_conv1_norm/beta"], first["bn1.bias"])
    assert "model.conv1.weight" in converted.unused


def without(tensors, start):
    return {name: value for name, value in tensors.items() if not name.startswith(start)}


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        (
            lambda t: t,
            "resnet_50",
            "layer1.0.conv1.weight (64, 64, 3, 3) would be stage1_block1_conv1/kernel",
        ),
        (lambda t: t, "resnet_34", "they are the whole of resnet_18, and resnet_34 has more, as stage1_block3_conv1"),
        (lambda t: t, "plain_18", 'its shortcuts are of the kind "project", and those of plain_18 "none"'),
        (lambda t: t, "iresnet_18", "conv1.weight (64, 3, 7, 7) would be stem_conv1/kernel, which iresnet_18 does not"),
        (lambda t: t | {"conv1.weight": np.ones((64, 3, 3, 3))}, "resnet_18", "(7, 7, 3, 64) in resnet_18"),
        (lambda t: t | {"layer1.0.se.conv.weight": np.ones((1, 1, 3))}, "resnet_18", "layer1.0.se.conv.weight"),
        (lambda t: {f"features.{n}.weight": np.ones((8, 8, 3, 3)) for n in range(3)}, "resnet_18", "nobody's names"),
        (lambda t: without(t, "layer4") | {"conv1.weight": np.ones((64, 3, 3, 3))}, "resnet_20_cifar", "option B"),
    ],
    ids=["bottlenecks", "deeper", "plain", "faces", "shape", "gate", "vgg", "option B"],
)
def test_another_family_is_refused(change, name, said):
    with pytest.raises(DataError, match="hand.npz") as raised:
        convert(checkpoint(change(torch_resnet_18())), name)
    assert said in str(raised.value)


def test_an_unknown_name_is_a_usage_error():
    with pytest.raises(UsageError, match="did you mean 'resnet_18'"):
        convert(checkpoint(torch_resnet_18()), "resnet18")


def test_keras_applications_folds_bias_epsilon_and_blue():
    tensors = {
        "conv1_conv/kernel": RNG.normal(size=(7, 7, 3, 64)),
        "conv1_conv/bias": np.full(64, 0.25),
        "conv1_bn/moving_mean": np.full(64, 1.0),
        "conv1_bn/moving_variance": np.full(64, 1e-5),
        "conv2_block1_0_conv/kernel": np.ones((1, 1, 64, 256)),
    }
    converted = convert(checkpoint(tensors, "h5"), "resnet_50_v1")
    np.testing.assert_array_equal(converted.values["stem_conv1_norm/moving_mean"], np.full(64, 0.75, "float32"))
    # 1e-5 + 1.001e-5 = variance + 1e-5
    np.testing.assert_allclose(converted.values["stem_conv1_norm/moving_variance"], 1.001e-5, rtol=1e-6)
    ours, theirs = converted.values["stem_conv1/kernel"], tensors["conv1_conv/kernel"].astype("float32")
    np.testing.assert_array_equal(ours[:, :, 0], theirs[:, :, 2])
    assert converted.standardise == ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))


def test_efficientnets_own_normalisation_travels():
    tensors = {path: np.ones(shape) for path, shape in layouts.layout("efficientnet_b0").items()}
    plain = convert(checkpoint(tensors, "h5"), "efficientnet_b0")
    assert (plain.convention, plain.standardise) == ("keras.applications", None)
    own = {"normalization/mean": np.zeros(3), "normalization/variance": np.ones(3)}
    assert convert(checkpoint(tensors | own, "h5"), "efficientnet_b0").standardise == ((0.0,) * 3, (255.0,) * 3)
    published = {"normalization/mean": [0.485, 0.456, 0.406], "normalization/variance": [0.229, 0.224, 0.225]}
    mean, deviation = convert(checkpoint(tensors | published, "h5"), "efficientnet_b0").standardise
    np.testing.assert_allclose((mean, deviation), [[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])


def norm_of(x, values, name):
    gamma, beta, mean, variance = (values[f"{name}/{leaf}"] for leaf in LEAVES)
    return (x - mean) / np.sqrt(variance + reading.EPSILON) * gamma + beta


def test_mxnets_two_norms_become_one():
    """A pool of four pixels between them; scales of both signs in the first, and the second as batch norms come out.

    Channel 2 of the second has a negative scale and offset: it is 0 whatever comes.  The first of channel 3 is dead.
    """
    channels, pixels = 4, RNG.normal(size=(50, 4, 3))
    kernel = RNG.normal(size=(1, 1, 3, channels))
    first = {"gamma": [1.0, -2.0, 1.0, 0.0], "beta": [0.5, 0.1, 0.2, -0.3], "moving_mean": [0.1, -0.2, 0.0, 0.4]}
    first = {leaf: np.array(values) for leaf, values in {**first, "moving_variance": [1.0, 0.3, 2.0, 1.0]}.items()}
    second = {"gamma": [1.5, 0.7, -0.5, 1.0], "beta": [0.1, -0.2, -0.4, 0.6], "moving_mean": [0.4, 0.9, 0.0, 0.0]}
    second = {leaf: np.array(values) for leaf, values in {**second, "moving_variance": [0.5, 2.0, 1.0, 1.0]}.items()}
    state = {f"first/{leaf}": value for leaf, value in first.items()}
    state |= {f"stem_out_norm/{leaf}": value for leaf, value in second.items()}
    stem = pixels @ kernel[0, 0]
    expected = np.maximum(norm_of(np.maximum(norm_of(stem, state, "first"), 0).max(1), state, "stem_out_norm"), 0)

    found = reading.Reading(convention="")
    found.values = {path: value for path, value in state.items() if path.startswith("stem")}
    found.values["stem_conv1/kernel"] = kernel
    mxnet_v2._fold_first_norm(found, first)
    pooled = (pixels @ found.values["stem_conv1/kernel"][0, 0]).max(1)
    ours = np.maximum(norm_of(pooled, found.values, "stem_out_norm"), 0)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert np.ptp(expected[:, 0]) > 1 and np.ptp(expected[:, 1]) > 0.5
    assert (expected[:, 2] == 0).all() and np.allclose(expected[:, 3], 0.6)


def test_mxnets_norm_of_the_data_becomes_preprocessing():
    """((x - m) / d - mean) / sqrt(variance) = (x - (m + d mean)) / (d sqrt(variance))"""
    norm = {
        "gamma": np.ones(3),
        "beta": np.zeros(3),
        "moving_mean": np.full(3, -0.1),
        "moving_variance": np.full(3, 4.0),
    }
    mean, deviation = mxnet_v2._with_data_norm(norm)
    np.testing.assert_allclose(mean, [123.675 - 5.8395, 116.28 - 5.712, 103.53 - 5.7375])
    np.testing.assert_allclose(deviation, [2 * 58.395, 2 * 57.12, 2 * 57.375], rtol=1e-5)


@pytest.mark.real_data
def test_the_real_partial_file(data_root):
    path = data_root / "weights" / "resnet50v2_imagenet_partial.npz"
    found = files.read(path)
    assert candidates(found) == ("resnet_50_v2",)
    converted = convert(found, "resnet_50_v2")
    missing = layouts.layout("resnet_50_v2").keys() - converted.values.keys()
    # Of stage 4 there are the norms and one convolution: 3 blocks of 3 and the shortcut are 10, less that one.
    assert sorted(missing) == sorted(
        [f"stage4_block{b}_conv{c}/kernel" for b in (1, 2, 3) for c in (1, 2, 3) if (b, c) != (1, 1)]
        + ["stage4_block1_shortcut/kernel"]
    )
    assert (converted.head, converted.unused) == (None, ("resnetv24_dense0_bias",))
    text = inspecting.inspect(path)
    for line in ("looks like resnet_50_v2", "stage 3 (C4):  whole (91 of 91", "stage 4 (C5):  part  (37 of 46"):
        assert line in text


@pytest.mark.real_data
def test_the_real_stem_is_one_norm_almost_everywhere(data_root):
    """Against MXNet's own order of norm, ReLU, pool, norm, ReLU, on a noise of the data's scale."""
    tensors = files.read(data_root / "weights" / "resnet50v2_imagenet_partial.npz").tensors
    values = convert(checkpoint(tensors), "resnet_50_v2").values
    state = {}
    for name, theirs in {"first": "batchnorm1", "second": "stage1_batchnorm0"}.items():
        for leaf, their_leaf in zip(LEAVES, ("gamma", "beta", "running_mean", "running_var")):
            state[f"{name}/{leaf}"] = tensors[f"resnetv24_{theirs}_{their_leaf}"].astype("float64")
    smooth = RNG.normal(size=(300, 1, 1, 3)) + 0.5 * RNG.normal(size=(300, 9, 49, 3))
    patches = smooth.reshape(300, 9, 147)
    stem = patches @ tensors["resnetv24_conv0_weight"].astype("float64").transpose(2, 3, 1, 0).reshape(147, 64)
    expected = np.maximum(norm_of(np.maximum(norm_of(stem, state, "first"), 0).max(1), state, "second"), 0)
    pooled = (patches @ values["stem_conv1/kernel"].reshape(147, 64)).max(1)
    ours = np.maximum(norm_of(pooled, values, "stem_out_norm"), 0)
    differs = np.abs(ours - expected).max(0) > 1e-3 * np.abs(expected).max()
    assert set(np.flatnonzero(differs)) <= {33, 44}


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_a_converted_file_is_read_back(tmp_path, ending):
    source = tmp_path / "theirs.npz"
    tensors = {path: RNG.normal(size=shape).astype("float32") for path, shape in layouts.layout("vgg_19").items()}
    np.savez(source, **tensors)
    said = inspecting.convert_file(source, tmp_path / f"ours{ending}")
    assert "vgg_19 from keras.applications weights, 32 of 32 variables" in said
    again = convert(files.read(tmp_path / f"ours{ending}"), "vgg_19")
    assert again.convention == "resnet_tasks"
    assert again.values.keys() == tensors.keys()
    assert all(np.array_equal(again.values[path], value) for path, value in tensors.items())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_preprocessing_head_and_traits_survive_a_converted_file(tmp_path):
    tensors = {
        "conv1_conv/kernel": np.ones((7, 7, 3, 64), "float32"),
        "conv2_block1_0_conv/kernel": np.ones((1, 1, 64, 256), "float32"),
        "predictions/kernel": RNG.normal(size=(2048, 4)).astype("float32"),
        "predictions/bias": np.arange(4, dtype="float32"),
        "other/kernel": np.ones(3),
    }
    np.savez(tmp_path / "keras.npz", **tensors)
    said = inspecting.convert_file(tmp_path / "keras.npz", tmp_path / "ours.npz", "resnet_50_v1")
    assert said.endswith("a classifier of 4 classes; 1 tensors were not used")
    written = files.read(tmp_path / "ours.npz")
    again = convert(written, "resnet_50_v1")
    np.testing.assert_allclose(again.standardise, [[123.68, 116.779, 103.939], [1, 1, 1]], rtol=1e-6)
    np.testing.assert_array_equal(again.head["kernel"], tensors["predictions/kernel"])
    note = json.loads(written.tensors["note"].tobytes())
    assert note == {"backbone": "resnet_50_v1", "convention": "keras.applications", "source": "keras.npz"}
    with pytest.raises(DataError, match="1x1 convolution, and those of resnet_50 in the 3x3"):
        convert(written, "resnet_50")


@pytest.mark.parametrize("output", ["ours.pth", "nowhere/ours.npz"])
def test_an_output_that_cannot_be_written_is_a_usage_error(tmp_path, output):
    np.savez(tmp_path / "theirs.npz", **torch_resnet_18())
    with pytest.raises(UsageError, match="ours"):
        inspecting.convert_file(tmp_path / "theirs.npz", tmp_path / output)


def test_inspecting_a_strangers_file_says_why_and_lists_it(tmp_path):
    np.savez(tmp_path / "other.npz", **{"features.0.weight": np.ones((8, 3, 3, 3), "float32")})
    text = inspecting.inspect(tmp_path / "other.npz")
    assert "nobody's names" in text and "features.0.weight  8x3x3x3  -" in text
    np.savez(tmp_path / "wide.npz", **torch_resnet_18() | {"conv1.weight": np.ones((64, 3, 5, 5), "float32")})
    text = inspecting.inspect(tmp_path / "wide.npz")
    assert "fits no backbone" in text
    assert "conv1.weight (64, 3, 5, 5) would be stem_conv1/kernel, as (5, 5, 3, 64), which is (7, 7, 3, 64)" in text


def test_a_config_tells_constants_and_backbone():
    layer = {"class_name": "Rescaling", "config": {"name": "standardise", "scale": [0.5] * 3, "offset": [-1, -2, -3]}}
    config = {"config": {"backbone": {"class_name": "Pyramid", "config": {"name": "resnet_18", "layers": [layer]}}}}
    assert model_config.constants(config) == ((2.0, 4.0, 6.0), (2.0, 2.0, 2.0))
    assert model_config.backbone(config) == "resnet_18"
    converter = {"class_name": "ResNetImageConverter", "config": {"name": "c", "scale": 0.25, "offset": None}}
    assert model_config.constants({"a": [converter]}) == ((0.0,) * 3, (4.0,) * 3)
    assert model_config.constants({"a": 1}) is None and model_config.read(Path("nowhere.keras")) == {}


def test_importing_is_light():
    heavy = "{'keras', 'tensorflow', 'h5py', 'torch'}"
    code = f"import sys, resnet_tasks.weights.inspecting; print(set(sys.modules) & {heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
