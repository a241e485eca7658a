"""Keras's files: the layers' own names and the variables' values, from every layout that Keras has written."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from resnet_tasks.errors import DataError
from resnet_tasks.weights import files


def randomised(model):
    """Gives every variable values of its own, and returns them as `{layer/variable: array}`."""
    random = np.random.default_rng(3)
    model.set_weights([random.standard_normal(value.shape).astype(value.dtype) for value in model.get_weights()])
    return {"/".join(one.path.split("/")[-2:]): np.asarray(one) for one in model.weights if "seed" not in one.path}


def same(tensors: dict, expected: dict) -> None:
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(tensors[name], value)


@pytest.fixture(scope="module")
def nested():
    """A model with a model inside, and every layer whose variables are named in its own way; compiled and trained."""
    import keras
    from keras import layers

    inner = [layers.DepthwiseConv2D(3, name="depthwise"), layers.SeparableConv2D(4, 3, name="separable")]
    inner += [layers.PReLU(name="prelu"), layers.Dropout(0.5, name="dropout")]
    inner = keras.Sequential(inner, name="inner")
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(3, 1, use_bias=False, name="conv_b")(layers.Normalization(name="standard")(image))
    x = layers.BatchNormalization(center=False, name="norm_gamma")(inner(x))
    x = layers.BatchNormalization(scale=False, name="norm_beta")(x)
    x = layers.BatchNormalization(scale=False, center=False, name="norm_none")(x)
    x = layers.GroupNormalization(2, scale=False, name="group")(layers.Conv2D(4, 3, name="conv_a")(x))
    x = layers.Flatten()(layers.Conv2DTranspose(2, 1, name="up")(x))
    model = keras.Model(image, layers.Dense(2, name="head")(x), name="outer")
    expected = randomised(model)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model, expected


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_saved_model(nested, tmp_path, ending):
    model, expected = nested
    model.save(tmp_path / f"model.{ending}")
    checkpoint = files.read(tmp_path / f"model.{ending}")
    same(checkpoint.tensors, expected)
    assert len(expected) == 25 and expected["norm_beta/beta"].shape == (4,)
    assert checkpoint.format == ending
    assert (checkpoint.details["class"], checkpoint.details["name"]) == ("Functional", "outer")
    if ending == "keras":
        assert checkpoint.details["left out"] == ["optimizer"]


def test_saved_weights_name_the_layers(nested, tmp_path):
    model, expected = nested
    model.save_weights(tmp_path / "a.weights.h5")
    tensors = files.read(tmp_path / "a.weights.h5").tensors
    # Which of gamma and beta a layer has, this file does not say: such a layer's variables keep their numbers.
    for layer in ("norm_gamma", "norm_beta"):
        assert {f"{layer}/{n}" for n in range(3)} < set(tensors)
    certain = {name for name in expected if not name.startswith(("norm_gamma", "norm_beta", "group"))}
    same({name: tensors[name] for name in certain}, {name: expected[name] for name in certain})
    assert len(tensors) == len(expected)


def without_names(path, ending: str = "") -> None:
    """Takes the layers' names out, as files before Keras 3.10 are; the groups have another name before 2.14."""
    with h5py.File(path, "r+") as file:
        holders: list = []
        file.visititems(lambda name, one: holders.append(one) if name.endswith("vars") else None)
        for holder in holders:
            holder.attrs.pop("name", None)
        if ending:
            file.visititems(lambda name, one: None)
            _rename(file, ending)


def _rename(group, name: str) -> None:
    for key in list(group):
        if isinstance(group[key], h5py.Group):
            _rename(group[key], name)
    if "layers" in group:
        group.move("layers", name)


def test_an_older_keras_file_is_named_by_its_config(nested, tmp_path):
    model, expected = nested
    model.save(tmp_path / "new.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    without_names(tmp_path / "model.weights.h5")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        old.writestr("config.json", new.read("config.json"))
        old.write(tmp_path / "model.weights.h5", "model.weights.h5")
    same(files.read(tmp_path / "old.keras").tensors, expected)


def test_weights_without_any_names_are_counted_by_class(nested, tmp_path):
    model, expected = nested
    model.save_weights(tmp_path / "a.weights.h5")
    without_names(tmp_path / "a.weights.h5", "_layer_checkpoint_dependencies")
    checkpoint = files.read(tmp_path / "a.weights.h5")
    assert "counted by class" in checkpoint.details["names"]
    np.testing.assert_array_equal(checkpoint.tensors["conv2d/kernel"], expected["conv_b/kernel"])
    np.testing.assert_array_equal(checkpoint.tensors["conv2d_1/bias"], expected["conv_a/bias"])
    np.testing.assert_array_equal(checkpoint.tensors["p_re_lu/alpha"], expected["prelu/alpha"])
    moving = checkpoint.tensors["batch_normalization_2/moving_variance"]
    np.testing.assert_array_equal(moving, expected["norm_none/moving_variance"])


def test_layers_of_one_name_keep_their_models_apart(tmp_path):
    import keras
    from keras import layers

    image = keras.Input((4, 4, 3))
    models = [keras.Sequential([layers.Conv2D(3, 1, name="conv")], name=name) for name in ("left", "right")]
    model = keras.Model(image, layers.Conv2D(2, 1, name="last")(models[1](models[0](image))))
    randomised(model)
    expected = {f"{one.name}/conv/kernel": np.asarray(one.layers[0].kernel) for one in models}
    expected |= {f"{one.name}/conv/bias": np.asarray(one.layers[0].bias) for one in models}
    expected |= {"last/kernel": np.asarray(model.layers[-1].kernel), "last/bias": np.asarray(model.layers[-1].bias)}
    for name in ("a.keras", "a.h5"):
        model.save(tmp_path / name)
        same(files.read(tmp_path / name).tensors, expected)


@pytest.mark.parametrize(
    "name", ["resnet_20_cifar", "iresnet_18", pytest.param("se_resnet_50", marks=pytest.mark.slow)]
)
def test_our_own_backbones_and_what_stands_on_them(tmp_path, name):
    from resnet_tasks import backbones
    from resnet_tasks.classification import Classifier

    backbone = backbones.create(name, input_shape=(32, 32, 3))
    model = Classifier(backbone=backbone, class_names=["a", "b"])
    expected = randomised(model)
    model.save(tmp_path / "task.keras")
    same(files.read(tmp_path / "task.keras").tensors, expected)
    inside = {one.path: np.asarray(one) for one in backbone.variables}
    assert set(inside) < set(expected)
    backbone.save(tmp_path / "backbone.keras")
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    for file in ("backbone.keras", "backbone.weights.h5"):
        same(files.read(tmp_path / file).tensors, inside)


def test_bfloat16_becomes_float32(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head", dtype="bfloat16")])
    model.save(tmp_path / "a.keras")
    kernel = files.read(tmp_path / "a.keras").tensors["head/kernel"]
    assert kernel.dtype == np.float32
    expected = keras.ops.convert_to_numpy(keras.ops.cast(model.layers[0].kernel, "float32"))
    np.testing.assert_array_equal(kernel, expected)


def written_before_3(path, layers: dict[str, dict[str, np.ndarray]], chunks: int = 1):
    """The published layout: attributes list the layers and, in each layer's group, its weights."""
    with h5py.File(path, "w") as file:
        names = np.array([name.encode() for name in layers])
        parts = np.array_split(names, chunks)
        for n, part in enumerate(parts):
            file.attrs[f"layer_names{n}" if chunks > 1 else "layer_names"] = part
        for layer, weights in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in weights])
            for name, value in weights.items():
                group[name] = value
    return path


@pytest.mark.parametrize("chunks", [1, 3])
def test_files_before_keras_3(tmp_path, chunks):
    layers = {
        "conv1_conv": ["conv1_conv/kernel:0", "conv1_conv/bias:0"],  # Keras 2
        "block1_conv1": ["block1_conv1_W_1:0", "block1_conv1_b_1:0"],  # Keras 1
        "bn2a": ["bn2a_gamma_1:0", "bn2a_beta_1:0", "bn2a_running_mean_1:0", "bn2a_running_std_1:0"],
        "block1a_dwconv": ["block1a_dwconv/depthwise_kernel:0"],
        "separable": ["separable/depthwise_kernel:0", "separable/pointwise_kernel:0"],
        "twice": ["twice_1/kernel:0"],  # TensorFlow 1 counted the scopes of a graph
        "resnet50": ["stem/kernel:0", "stem_norm/moving_variance:0"],  # a model inside
        "pool": [],
    }
    values = iter(np.arange(100, dtype="float32").reshape(-1, 2))
    layers = {layer: {name: next(values) for name in names} for layer, names in layers.items()}
    checkpoint = files.read(written_before_3(tmp_path / "a.h5", layers, chunks))
    assert list(checkpoint.tensors) == [
        *("conv1_conv/kernel", "conv1_conv/bias", "block1_conv1/kernel", "block1_conv1/bias"),
        *("bn2a/gamma", "bn2a/beta", "bn2a/moving_mean", "bn2a/moving_variance", "block1a_dwconv/kernel"),
        *("separable/depthwise_kernel", "separable/pointwise_kernel", "twice/kernel"),
        *("stem/kernel", "stem_norm/moving_variance"),
    ]
    assert [value[0] for value in checkpoint.tensors.values()] == list(range(0, 28, 2))


def refused(path, saying: str | None) -> None:
    with pytest.raises(DataError, match=saying) as caught:
        files.read(path)
    assert str(path) in str(caught.value)


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    layers = {f"conv{n}": {f"conv{n}/kernel:0": np.zeros((3, 3), "float32")} for n in range(9)}
    path = written_before_3(tmp_path / "a.h5", layers)
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 97):
        path.write_bytes(content[:length])
        refused(path, None)


def test_a_listed_layer_or_weight_that_is_not_there(tmp_path):
    path = written_before_3(tmp_path / "a.h5", {"a": {"a/kernel:0": np.zeros(3)}, "b": {}})
    with h5py.File(path, "r+") as file:
        del file["b"]
    refused(path, "lists the layer 'b'")
    with h5py.File(path, "r+") as file:
        file.create_group("b").attrs["weight_names"] = [b"b/kernel:0"]
    refused(path, "has 'b/kernel:0', which is not there")


def outside(group, tmp_path) -> None:
    group["0"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/secret")


def soft(group, tmp_path) -> None:
    group["0"] = h5py.SoftLink("/elsewhere")


def raw(group, tmp_path) -> None:
    group.create_dataset("0", (2,), "f4", external=[(str(tmp_path / "secret.h5"), 0, 8)])


def virtual(group, tmp_path) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "secret", (2,))
    group.create_virtual_dataset("0", layout)


def unwritten(group, tmp_path) -> None:
    group.create_dataset("0", (2**40,), "f4")


def shape_bomb(group, tmp_path) -> None:
    data = group.create_dataset("0", (2**40,), "f4", chunks=(2**16,), compression="gzip")
    data[:10] = 1


def words(group, tmp_path) -> None:
    group["0"] = b"text"


ABUSES = {outside: "leads elsewhere", soft: "leads elsewhere", raw: "in another file", virtual: "in another file"}
ABUSES |= {unwritten: "does not hold its numbers", shape_bomb: "claims to unpack", words: "numbers are expected"}


@pytest.mark.parametrize("abuse", ABUSES)
def test_hdf5_that_would_read_elsewhere_or_fill_the_memory(tmp_path, abuse):
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["secret"] = np.ones(2, "float32")
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        abuse(file.create_group("layers/dense/vars"), tmp_path)
    refused(tmp_path / "a.weights.h5", ABUSES[abuse])


def test_groups_that_contain_themselves_come_to_an_end(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 3), "float32")
        for name in ("a", "b", "c"):
            file[f"layers/{name}"] = file["/"]
    assert list(files.read(tmp_path / "a.weights.h5").tensors) == ["dense/kernel"]


BAD_ZIPS = {
    "no weights": ({"config.json": b"{}"}, "without model.weights.h5"),
    "no config that is JSON": ({"config.json": b"{", "model.weights.h5": b""}, "no JSON"),
    "a config of another kind": ({"config.json": b"[]", "model.weights.h5": b""}, "no JSON object"),
    "no HDF5": ({"config.json": b"{}", "model.weights.h5": b"not weights"}, "damaged or cut off"),
    "something else": ({"readme.txt": b""}, "not weights"),
}


@pytest.mark.parametrize("case", BAD_ZIPS)
def test_a_bad_keras_file(tmp_path, case):
    content, saying = BAD_ZIPS[case]
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    refused(tmp_path / "a.keras", saying)


def test_a_generators_state_is_no_weight(tmp_path):
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 3), "float32")
        file["layers/random_flip/seed_generator/vars/0"] = np.zeros(2, "uint32")
    checkpoint = files.read(tmp_path / "a.weights.h5")
    assert list(checkpoint.tensors) == ["dense/kernel"]
    assert checkpoint.details["left out"] == ["layers/random_flip/seed_generator"]


def test_a_config_only_names_and_never_builds(tmp_path):
    """A Lambda's code lies in the config as text; nothing looks at it."""
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers/lambda/layers/dense/vars/0"] = np.ones((2, 3), "float32")
    code = {"class_name": "Lambda", "module": "os", "config": {"function": ["system"], "name": "pwned", "layers": 3}}
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": [code]}}))
        archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
    assert list(files.read(tmp_path / "a.keras").tensors) == ["dense/kernel"]


def test_hdf5_of_others_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data/x"] = np.ones(3)
    refused(tmp_path / "a.h5", "without the layers' variables")
