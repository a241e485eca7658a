"""VGG, DenseNet and EfficientNet as pyramids: published counts, `keras.applications`' own numbers, dilation, saving."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from resnet_tasks import backbones
from resnet_tasks.backbones.specs import CATALOG, ApplicationSpec
from resnet_tasks.errors import UsageError

# Trainable parameters with a classifier of 1000 classes, as torchvision publishes them.
PUBLISHED = {
    "vgg_19": 143_667_240,
    "densenet_121": 7_978_856,
    "densenet_169": 14_149_480,
    "densenet_201": 20_013_928,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
}
FAMILIES = ("vgg_19", "densenet_121", "efficientnet_b0")
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of RGB 0..1, ImageNet
SLOW_NAMES = [pytest.param(name, marks=() if name in FAMILIES else pytest.mark.slow) for name in PUBLISHED]


def numbers(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor).astype("float32")


def pictures(count: int = 1, side: int = 64) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3)).astype("float32")


def answers(model, images):
    """What a model computes; compiled on JAX, which runs one operation at a time slowly."""
    if keras.backend.backend() == "jax":
        return model.predict(images, verbose=0)
    return keras.tree.map_structure(numbers, model(images))


def perturb(model):
    """Statistics, gammas and biases that are neither 0 nor 1."""
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(generator.uniform(-0.5, 0.5, layer.bias.shape))
    return model


def preprocessed(name: str, images):
    """What `keras.applications` wants to be fed."""
    if name == "vgg_19":
        return keras.applications.vgg19.preprocess_input(images.copy())
    if name.startswith("densenet"):
        return keras.applications.densenet.preprocess_input(images.copy())
    return (images / 255 - MEAN) / DEVIATION * 255  # it divides by 255 itself


def published(name: str, input_shape=(None, None, 3)):
    """The network of `keras.applications` with every level of the pyramid for an output."""
    spec = CATALOG[name].spec
    model = getattr(keras.applications, spec.builder)(include_top=False, weights=None, input_shape=input_shape)
    outputs = {level: model.get_layer(tap).output for level, tap in zip(spec.levels, spec.taps)}
    return perturb(keras.Model(model.input, outputs))


def copy_by_name(source, target) -> None:
    """All weights, by the names of their layers; EfficientNet's own normalisation has none to give."""
    names = [layer.name for layer in source.layers if layer.weights and "normalization" not in layer.name]
    assert names == [layer.name for layer in target.layers if layer.weights]
    for name in names:
        target.get_layer(name).set_weights(source.get_layer(name).get_weights())


@pytest.mark.parametrize("name", SLOW_NAMES)
def test_parameters_and_levels_are_the_published_ones(name):
    model = backbones.create(name)
    channels = list(model.output.values())[-1].shape[-1]
    head = (channels + 1) * 1000
    if name == "vgg_19":
        head = (channels * 49 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trainable + head == PUBLISHED[name]
    described = backbones.describe(name)
    assert described.parameters == trainable
    assert described.levels == tuple(model.output)
    assert described.levels[0] == ("C0" if name == "vgg_19" else "C1")
    assert model.strides == {level: 2 ** int(level[1:]) for level in described.levels}
    for level, tap in model.pyramid_level_inputs.items():
        assert model.get_layer(tap).output is model.pyramid_outputs[level]


def test_the_published_table_has_all_names():
    assert set(PUBLISHED) == {name for name, entry in CATALOG.items() if isinstance(entry.spec, ApplicationSpec)}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("vgg_19", marks=pytest.mark.any_backend),
        "densenet_121",
        "efficientnet_b0",
        # JAX compiles these for half a minute each.
        pytest.param("densenet_121", marks=[pytest.mark.any_backend, pytest.mark.slow], id="densenet_121 on any"),
        pytest.param("efficientnet_b0", marks=[pytest.mark.any_backend, pytest.mark.slow], id="efficientnet_b0 on any"),
    ],
)
def test_keras_applications_computes_the_same(name):
    theirs, ours = published(name), backbones.create(name)
    copy_by_name(theirs, ours)
    expected, found = answers(theirs, preprocessed(name, pictures())), answers(ours, pictures())
    assert list(found) == list(CATALOG[name].spec.levels)
    for level, feature in found.items():
        scale = np.abs(expected[level]).max()
        np.testing.assert_allclose(feature / scale, expected[level] / scale, rtol=0, atol=1e-4, err_msg=level)


@pytest.mark.parametrize("name", FAMILIES)
def test_odd_sizes_round_up_also_where_the_size_is_not_known(name):
    ours = backbones.create(name)
    features = answers(ours, pictures(1, 35))
    for level, feature in features.items():
        assert feature.shape[1:3] == (-(-35 // 2 ** int(level[1:])),) * 2, level
    if name == "efficientnet_b0":  # which keras.applications rounds up too where it knows the size
        theirs = published(name, (35, 35, 3))
        copy_by_name(theirs, ours)
        expected = answers(theirs, preprocessed(name, pictures(1, 35)))["C5"]
        found = answers(ours, pictures(1, 35))["C5"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("output_stride", [pytest.param(16, marks=pytest.mark.slow), 8])  # 8 dilates twice
def test_a_dilated_network_holds_the_published_ones_answers(name, output_stride):
    coarse, fine = perturb(backbones.create(name)), backbones.create(name, output_stride=output_stride)
    for layer in coarse.layers:
        if layer.name.endswith("se_expand"):  # a gate sees the mean of more places than published: here, of none
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    copy_by_name(coarse, fine)
    expected, dilated = answers(coarse, pictures()), answers(fine, pictures())
    assert fine.strides == {level: min(stride, output_stride) for level, stride in coarse.strides.items()}
    for level, feature in dilated.items():
        step = feature.shape[1] // expected[level].shape[1]
        # TensorFlow's "same" centres a strided kernel of 3 on the second of two pixels, of which it keeps one.
        first = step - 1 if name == "efficientnet_b0" else 0
        scale = np.abs(expected[level]).max()
        np.testing.assert_allclose(
            feature[:, first::step, first::step] / scale, expected[level] / scale, rtol=0, atol=1e-4, err_msg=level
        )


@pytest.mark.parametrize(("name", "reason"), [("vgg_19", "without any norm"), ("densenet_121", "its batch norms")])
def test_group_norm_is_refused_with_the_reason(name, reason):
    with pytest.raises(UsageError, match=reason):
        backbones.create(name, norm="group")


def test_a_picture_may_be_smaller_than_keras_applications_allows():
    assert list(backbones.create("vgg_19", input_shape=(8, 8, 3)).output.values())[-1].shape == (None, 1, 1, 512)


def test_layers_are_named_and_averaged_as_in_the_rest_of_the_catalogue():
    model = backbones.create("densenet_121")
    # keras.applications leaves these two to Keras, which counts them through the process.
    pads = [layer.name for layer in model.layers if isinstance(layer, keras.layers.ZeroPadding2D)]
    assert pads == ["standardise_pad", "conv1_relu_pad"]
    momenta = {layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert momenta == {0.9}


def test_a_picture_keeps_its_256_steps_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = backbones.create("vgg_19", output_stride=8)
    finally:
        keras.config.set_dtype_policy("float32")
    grey = keras.Model(model.input, model.get_layer("standardise").output)(np.full((1, 2, 2, 3), 255.0))
    np.testing.assert_allclose(numbers(grey)[0, 0, 0], [255 - 123.68, 255 - 116.779, 255 - 103.939], atol=1e-4)
    features = answers(model, pictures())
    assert model.output["C5"].dtype == "bfloat16"
    assert all(np.isfinite(feature).all() for feature in features.values())


@pytest.mark.any_backend
def test_saved_backbones_answer_alike_in_a_fresh_process(tmp_path):
    models, expected = {"vgg_19": backbones.create("vgg_19", output_stride=8)}, {}
    if keras.backend.backend() != "jax":  # which compiles it for a minute
        models["efficientnet_b0"] = backbones.create("efficientnet_b0")
    for name, model in models.items():
        perturb(model).save(tmp_path / f"{name}.keras")
        for level, feature in answers(model, pictures()).items():
            expected[f"{name}/{level}"] = feature
    np.save(tmp_path / "pictures.npy", pictures())
    code = (
        "import sys, pathlib, keras, numpy as np, resnet_tasks.model\n"
        "folder = pathlib.Path(sys.argv[1]); images = np.load(folder / 'pictures.npy')\n"
        "models = {path.stem: keras.models.load_model(path) for path in folder.glob('*.keras')}\n"
        "assert {type(model).__name__ for model in models.values()} == {'Pyramid'}\n"
        "jax = keras.backend.backend() == 'jax'\n"
        "ask = lambda model: model.predict(images, verbose=0) if jax else model(images)\n"
        "answers = {f'{n}/{k}': v for n, m in models.items() for k, v in ask(m).items()}\n"
        "np.savez(folder / 'answers.npz', **answers)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    reloaded = np.load(tmp_path / "answers.npz")
    assert sorted(reloaded) == sorted(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(reloaded[key], value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=key)
