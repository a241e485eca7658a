"""The residual family: published counts, strides, dilation, arithmetic, saving; what every name of the catalogue does.

Where the wiring matters and the width does not, a network is `small`: its own spec with one block
a stage and 16 channels.
"""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from resnet_tasks import backbones
from resnet_tasks.backbones.iresnet import iresnet
from resnet_tasks.backbones.residual import IMAGENET_RGB, conv, resnet
from resnet_tasks.backbones.specs import CATALOG, ApplicationSpec, IResNetSpec, ResNetSpec
from resnet_tasks.classification import Classifier
from resnet_tasks.errors import UsageError

# Published trainable parameters with a classifier of 1000 classes, of 10 for CIFAR.
PUBLISHED = {
    "resnet_18": 11_689_512,
    "resnet_34": 21_797_672,
    "resnet_50": 25_557_032,
    "resnet_101": 44_549_160,
    "resnet_152": 60_192_808,
    "resnet_50_v1": 25_557_032,
    "resnet_50_v2": 25_549_352,
    "resnet_50_d": 25_576_264,
    "resnext_50_32x4d": 25_028_904,
    "resnext_101_32x8d": 88_791_336,
    "wide_resnet_50_2": 68_883_240,
    "se_resnet_50": 28_088_024,
    # A plain net lacks the three projections, 64x128 + 128x256 + 256x512, and their norms, 2x896.
    "plain_18": 11_689_512 - 173_824,
    "plain_34": 21_797_672 - 173_824,
    "resnet_20_cifar": 269_722,
    "resnet_32_cifar": 464_154,
    "resnet_44_cifar": 658_586,
    "resnet_56_cifar": 853_018,
    "resnet_110_cifar": 1_727_962,
    "resnet_1202_cifar": 19_421_274,
    "plain_20_cifar": 269_722,
    "plain_32_cifar": 464_154,
    "plain_44_cifar": 658_586,
    "plain_56_cifar": 853_018,
    "plain_110_cifar": 1_727_962,
}
# With insightface's head to 512 numbers at 112x112.
PUBLISHED_FACES = {
    "iresnet_18": 24_025_600,
    "iresnet_34": 34_139_328,
    "iresnet_50": 43_590_848,
    "iresnet_100": 65_156_160,
}
ONE_PER_FIELD = (
    "resnet_18",  # basic block
    "resnet_50",  # bottleneck
    "resnet_50_v1",  # stride_in
    "resnet_50_v2",  # pre_activation
    "resnet_50_d",  # stem, pooled shortcut
    "resnext_50_32x4d",  # groups
    "wide_resnet_50_2",  # group_width
    "se_resnet_50",  # se_ratio
    "plain_18",  # no shortcut
    "resnet_20_cifar",  # padded shortcut, last_gamma
    "iresnet_18",
)
RESIDUAL = [name for name, entry in CATALOG.items() if not isinstance(entry.spec, ApplicationSpec)]
SLOW_NAMES = [pytest.param(name, marks=pytest.mark.slow if "1202" in name else ()) for name in RESIDUAL]


def small(name: str, input_shape=(None, None, 3), output_stride: int = 32, stages: int = 4, **fields):
    """The named network with one block of 16 channels a stage, and weights none of which is 0 or 1."""
    spec = CATALOG[name].spec
    if isinstance(spec, IResNetSpec):
        model = iresnet(replace(spec, depths=(1, 1), **fields), input_shape, name=name)
    else:
        spec = replace(spec, depths=(1,) * min(stages, len(spec.depths)), width=16, **fields)
        model = resnet(spec, input_shape, output_stride=output_stride, name=name)
    return perturb(model)


def perturb(model):
    generator = np.random.default_rng(0)
    for variable in model.variables:
        value = np.asarray(variable.numpy(), "float32")
        noise = generator.uniform(0.5, 1.5, value.shape) * (1 + (value == 0))
        variable.assign(np.where(value == 0, noise - 1, value * noise))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(generator.uniform(0.5, 1.5, layer.moving_variance.shape))
    return model


def pictures(count: int = 2, side: int = 64) -> np.ndarray:
    generator = np.random.default_rng(1)
    return generator.integers(0, 256, (count, side, side, 3)).astype("float32")


def numbers(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor).astype("float32")


def answers(model, images) -> dict[str, np.ndarray]:
    """The model's features by level; compiled, for JAX runs one operation at a time slowly."""
    return model.predict(images, verbose=0)


def trainable(model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


# Names, counts, levels


@pytest.mark.parametrize("name", SLOW_NAMES)
def test_parameters_and_levels_are_the_published_ones(name):
    model = backbones.create(name)
    head = (512 * 49 * 512 + 512) + 2 * 512 + 2 * 512  # a dense layer between two batch norms
    if name in PUBLISHED:
        classes = 10 if name.endswith("cifar") else 1000
        head = (list(model.output.values())[-1].shape[-1] + 1) * classes
    assert trainable(model) + head == {**PUBLISHED, **PUBLISHED_FACES}[name]
    described = backbones.describe(name)
    assert described.parameters == trainable(model)
    assert described.levels == tuple(model.output)
    assert model.strides == {level: 2 ** int(level[1:]) for level in described.levels}


def test_the_published_table_and_the_catalogue_have_the_same_names():
    assert {*PUBLISHED, *PUBLISHED_FACES} == set(RESIDUAL)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["resnet_50_v2", "resnet_50_d", "resnet_20_cifar", "iresnet_18"])
def test_odd_sizes_round_up(name):
    model = small(name)
    for level, feature in answers(model, pictures(1, 35)).items():
        side = -(-35 // 2 ** int(level[1:]))
        assert feature.shape[1:3] == (side, side), level


@pytest.mark.any_backend
def test_the_pyramid_speaks_to_other_peoples_detectors():
    model = small("resnet_50_v2")
    assert list(model.pyramid_outputs) == ["P1", "P2", "P3", "P4", "P5"]
    for level, name in model.pyramid_level_inputs.items():
        assert model.get_layer(name).output is model.pyramid_outputs[level]
    assert model.size_multiple == 32
    assert small("resnet_18", output_stride=8).size_multiple == 8
    assert small("resnet_20_cifar", (24, 40, 3)).size_multiple == 4  # of a fixed size


def test_listing_names_imports_no_keras():
    code = (
        "import sys; from resnet_tasks import backbones; backbones.describe(backbones.names()[0]); "
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet_51", {}, "did you mean 'resnet_5"),
        ("resnet_18", {"weights": "nosuch.npz"}, "nosuch.npz: there is no such file"),
        ("resnet_18", {"output_stride": 4}, "8, 16 or 32"),
        ("resnet_20_cifar", {"output_stride": 8}, "cannot be dilated"),
        ("iresnet_18", {"output_stride": 16}, "cannot be dilated"),
        ("resnet_18", {"norm": "layer"}, "batch, group"),
        ("resnet_18", {"input_shape": (64, 64, 1)}, "(64, 64, 1)"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, message):
    with pytest.raises(UsageError) as error:
        backbones.create(name, **arguments)
    assert message in str(error.value)


# Arithmetic


@pytest.mark.any_backend
def test_a_strided_convolution_is_padded_alike_on_both_sides():
    image = keras.Input((4, 4, 1))
    layer = keras.Model(image, conv(image, 1, 3, 2, name="conv"))
    layer.layers[-1].kernel.assign(np.ones((3, 3, 1, 1)))
    # Of each 3x3 window, those centred on pixels 0 and 2, the ones inside count: 2 or 3 a side.
    # TensorFlow's "same" pads only the right and bottom, and gives [[9, 6], [6, 4]].
    answer = numbers(layer(np.ones((1, 4, 4, 1))))[0, :, :, 0]
    np.testing.assert_allclose(answer, [[4, 6], [6, 9]])


def convolve(x, kernel, stride=1):
    """A convolution by its definition; even zero padding, x `(batch, height, width, channels)`."""
    size = kernel.shape[0]
    rows, columns = x.shape[1:3]
    x = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    return sum(
        x[:, i : i + rows : stride, j : j + columns : stride] @ kernel[i, j] for i in range(size) for j in range(size)
    )


class Reference:
    """The layers of a model, by name, in NumPy and float64."""

    def __init__(self, model):
        self.model = model

    def weights(self, name):
        return [numbers(weight).astype("float64") for weight in self.model.get_layer(name).weights]

    def conv(self, x, name, stride=1):
        return convolve(x, self.weights(name)[0], stride)

    def norm(self, x, name):
        gamma, beta, mean, variance = self.weights(f"{name}_norm")
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def conv_norm(self, x, name, stride=1):
        return self.norm(self.conv(x, name, stride), name)


def relu(x):
    return np.maximum(x, 0)


@pytest.mark.any_backend
def test_a_cifar_net_is_the_papers_sum():
    spec = replace(CATALOG["resnet_20_cifar"].spec, depths=(1, 1), width=6)
    model = perturb(resnet(spec))
    at, image = Reference(model), pictures(2, 6)
    x = (image - [125.3, 123.0, 113.9]) / [63.0, 62.1, 66.7]
    x = relu(at.conv_norm(x, "stem_conv1"))
    for block, stride in (("stage1_block1", 1), ("stage2_block1", 2)):
        residual = relu(at.conv_norm(x, f"{block}_conv1", stride))
        residual = at.conv_norm(residual, f"{block}_conv2")
        if stride == 2:  # option A: 6 channels become 3 zeros, the 6, 3 zeros
            x = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (3, 3)))
        x = relu(x + residual)
    np.testing.assert_allclose(answers(model, image)["C1"], x, rtol=1e-4, atol=1e-4)


@pytest.mark.any_backend
def test_v2_is_the_papers_sum_with_norms_first():
    spec = ResNetSpec(depths=(1, 1), width=4, pre_activation=True)
    model = perturb(resnet(spec))
    at, image = Reference(model), pictures(2, 8)
    x = at.conv((image - np.array(IMAGENET_RGB[0])) / IMAGENET_RGB[1], "stem_conv1", 2)
    fine = relu(at.norm(x, "stem_out"))
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    x = np.max([x[:, i : i + 4 : 2, j : j + 4 : 2] for i in range(3) for j in range(3)], axis=0)
    opened = relu(at.norm(x, "stem_out"))
    for block, stride in (("stage1_block1", 1), ("stage2_block1", 2)):
        residual = relu(at.conv_norm(opened, f"{block}_conv1"))
        residual = relu(at.conv_norm(residual, f"{block}_conv2", stride))
        x = at.conv(opened, f"{block}_shortcut", stride) + at.conv(residual, f"{block}_conv3")
        opened = relu(at.norm(x, f"{block}_out"))
    features = answers(model, image)
    np.testing.assert_allclose(features["C1"], fine, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features["C3"], opened, rtol=1e-4, atol=1e-4)


@pytest.mark.any_backend
def test_a_block_starts_as_the_identity():
    model = resnet(replace(CATALOG["resnet_18"].spec, depths=(2, 1), width=8))
    features = answers(model, pictures())
    # Stage 1 has the identity for a shortcut and F(x) = 0: C2 is the pooled stem.
    pooled = keras.layers.MaxPooling2D(3, 2)(ops.pad(features["C1"], ((0, 0), (1, 1), (1, 1), (0, 0))))
    np.testing.assert_allclose(features["C2"], numbers(pooled), atol=1e-6)
    cifar = resnet(replace(CATALOG["resnet_20_cifar"].spec, depths=(1, 1)))
    assert numbers(cifar.get_layer("stage2_block1_conv2_norm").gamma).min() == 1


@pytest.mark.any_backend
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_padding_never_wins_the_pool_of_v2(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = resnet(ResNetSpec(depths=(1,), width=4, pre_activation=True))
    finally:
        keras.config.set_dtype_policy("float32")
    kernel = np.zeros((7, 7, 3, 4))
    kernel[3, 3, 0] = -1  # a white picture's red is (255 - 123.675) / 58.395 = 2.2489
    model.get_layer("stem_conv1").kernel.assign(kernel)
    pooled = keras.Model(model.input, model.get_layer("stem_pool").output)(np.full((1, 8, 8, 3), 255))
    np.testing.assert_allclose(numbers(pooled), -2.2489, rtol=4e-3)


@pytest.mark.any_backend
def test_the_tap_of_v2_leaves_the_moving_averages_alone():
    model = small("resnet_50_v2")
    norm = model.get_layer("stem_out_norm")
    before = numbers(norm.moving_mean)
    pooled = keras.Model(model.input, model.get_layer("stem_pool").output)(pictures())
    model(pictures(), training=True)
    expected = 0.9 * before + 0.1 * numbers(pooled).mean((0, 1, 2))
    np.testing.assert_allclose(numbers(norm.moving_mean), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["resnet_18", "resnet_50_v1", "resnet_50", "resnet_50_d", "resnet_50_v2"])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_a_dilated_network_holds_the_published_ones_answers(name, output_stride):
    coarse, fine = small(name), small(name, output_stride=output_stride)
    fine.set_weights(coarse.get_weights())
    expected, dilated = answers(coarse, pictures()), answers(fine, pictures())
    assert fine.strides == {f"C{i}": min(2**i, output_stride) for i in range(1, 6)}
    for level, feature in dilated.items():
        step = feature.shape[1] // expected[level].shape[1]
        np.testing.assert_allclose(feature[:, ::step, ::step], expected[level], rtol=1e-3, atol=1e-3)


@pytest.mark.any_backend
@pytest.mark.parametrize("name", ["resnet_50_v2", "resnet_20_cifar"])
def test_group_norm_keeps_pictures_apart(name):
    model = small(name, stages=2, norm="group")
    kinds = {type(layer) for layer in model.layers}
    assert not any(issubclass(kind, keras.layers.BatchNormalization) for kind in kinds)
    both, alone = model(pictures(2), training=True), model(pictures(2)[:1], training=True)
    for level in both:
        np.testing.assert_allclose(numbers(both[level])[:1], numbers(alone[level]), rtol=1e-3, atol=1e-3)


@pytest.mark.any_backend
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
@pytest.mark.parametrize("name", ["resnet_50_v2", "resnet_20_cifar"])
def test_a_step_in_other_precisions_stays_finite(name, policy):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 only where jax_enable_x64 is set at its start")
    keras.config.set_dtype_policy(policy)
    try:
        trunk = small(name, stages=2)
        pooled = keras.layers.GlobalAveragePooling2D(dtype="float32")(list(trunk.output.values())[-1])
        model = keras.Model(trunk.input, keras.layers.Dense(2, dtype="float32")(pooled))
    finally:
        keras.config.set_dtype_policy("float32")
    assert list(trunk.output.values())[-1].dtype == policy.removeprefix("mixed_")
    kernel = next(v for v in trunk.trainable_variables if v.path.endswith("conv1/kernel") or "stem" in v.path)
    before = numbers(kernel)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(pictures(4, 32), np.array([0, 1, 0, 1]), batch_size=4, verbose=0)
    assert all(np.isfinite(numbers(variable)).all() for variable in model.variables)
    assert np.abs(numbers(kernel) - before).max() > 0


# Other people's code


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet_18", {"block_type": "basic_block"}),
        ("resnet_50", {"block_type": "bottleneck_block"}),
        ("resnet_50_v2", {"block_type": "bottleneck_block", "use_pre_activation": True}),
        ("resnet_50_d", {"block_type": "bottleneck_block_vd"}),
    ],
)
def test_keras_hub_computes_the_same(name, settings):
    keras_hub = pytest.importorskip("keras_hub")
    stem = [(32, 3), (32, 3), (64, 3)] if name == "resnet_50_d" else [(64, 7)]
    depths = CATALOG[name].spec.depths
    filters, kernels = zip(*stem, strict=True)
    theirs = keras_hub.models.ResNetBackbone(
        filters, kernels, [64, 128, 256, 512], depths, [1, 2, 2, 2], image_shape=(64, 64, 3), **settings
    )
    ours = perturb(backbones.create(name, input_shape=(64, 64, 3)))
    for layer in theirs.layers:
        if layer.weights:
            layer.set_weights(ours.get_layer(our_name(layer.name, depths)).get_weights())
    image = pictures(1)
    expected = numbers(theirs((image - np.array(IMAGENET_RGB[0])) / IMAGENET_RGB[1]))
    np.testing.assert_allclose(numbers(ours(image)["C5"]), expected, rtol=1e-3, atol=1e-3 * expected.max())


def our_name(theirs: str, depths: tuple[int, ...]) -> str:
    """`stack0_block1_2_bn` of KerasHub is `stage1_block2_conv2_norm` here."""
    if theirs == "post_bn":
        return f"stage4_block{depths[-1]}_out_norm"
    match theirs.split("_"):
        case [conv_index, kind]:
            name = f"stem_{conv_index}"
        case [stack, block, "pre", "activation", kind]:
            stage, index = int(stack[5:]), int(block[5:])
            before = f"stage{stage + 1}_block{index}" if index else f"stage{stage}_block{depths[stage - 1]}"
            name = f"{before}_out" if stage or index else "stem_out"
        case [stack, block, part, kind]:
            place = "shortcut" if part == "0" else f"conv{part}"
            name = f"stage{int(stack[5:]) + 1}_block{int(block[5:]) + 1}_{place}"
    return f"{name}_norm" if kind == "bn" else name


@pytest.mark.peers
def test_a_keras_hub_detector_trains_a_step_on_our_backbone():
    keras_hub = pytest.importorskip("keras_hub")
    trunk = backbones.create("resnet_18", input_shape=(128, 128, 3))
    body = keras_hub.models.RetinaNetBackbone(
        image_encoder=trunk, min_level=3, max_level=5, use_p5=True, image_shape=(128, 128, 3)
    )
    assert {level: feature.shape[1] for level, feature in body.output.items()} == {"P3": 16, "P4": 8, "P5": 4}
    detector = keras_hub.models.RetinaNetObjectDetector(backbone=body, num_classes=2, bounding_box_format="xyxy")
    detector.compile(keras.optimizers.SGD(1e-3))  # with its own losses
    truth = {"boxes": np.array([[[20, 30, 90, 100]]] * 2, "float32"), "labels": np.array([[1]] * 2)}
    kernel = trunk.get_layer("stem_conv1").kernel
    before = numbers(kernel)
    history = detector.fit(pictures(2, 128), truth, batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    assert np.abs(numbers(kernel) - before).max() > 0


# Saving


@pytest.mark.any_backend
def test_saved_backbones_answer_alike_in_a_fresh_process(tmp_path):
    models = {name: small(name, stages=2) for name in ONE_PER_FIELD}
    models["dilated"] = small("resnet_50_d", output_stride=8)
    models["group"] = small("resnet_50_v2", stages=2, norm="group")
    expected = {}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
        for level, feature in answers(model, pictures()).items():
            expected[f"{name}/{level}"] = feature
    np.save(tmp_path / "pictures.npy", pictures())
    code = (
        "import sys, pathlib, keras, numpy as np, resnet_tasks.model, resnet_tasks.backbones.residual\n"
        "folder = pathlib.Path(sys.argv[1]); images = np.load(folder / 'pictures.npy')\n"
        "models = {path.stem: keras.models.load_model(path) for path in folder.glob('*.keras')}\n"
        "assert {type(model).__name__ for model in models.values()} == {'Pyramid'}\n"
        "answers = {f'{n}/{k}': v for n, m in models.items() for k, v in m.predict(images, verbose=0).items()}\n"
        "np.savez(folder / 'answers.npz', **answers)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    reloaded = np.load(tmp_path / "answers.npz")
    assert sorted(reloaded) == sorted(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(reloaded[key], value, rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.slow
@pytest.mark.any_backend
@pytest.mark.parametrize("name", [name for name in CATALOG if "1202" not in name])
def test_every_name_runs_saves_and_reloads(name, tmp_path):
    model = backbones.create(name, input_shape=(64, 64, 3))
    features = model(pictures(1))
    for level, feature in features.items():
        assert feature.shape[1:3] == (64 >> int(level[1:]),) * 2
        assert np.isfinite(numbers(feature)).all()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")(pictures(1))
    for level, feature in features.items():
        np.testing.assert_allclose(numbers(again[level]), numbers(feature), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CATALOG if "1202" not in name])
def test_every_name_trains_two_steps_as_a_classifier(name):
    model = Classifier(backbone=backbones.create(name, input_shape=(32, 32, 3)), class_names=["a", "b"])
    before = [numbers(variable) for variable in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), run_eagerly=True)  # XLA would compile for minutes
    targets = {"label": np.array([0, 1, 1, 0], "int32")}
    history = model.fit(pictures(4, 32), targets, batch_size=2, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert all(np.isfinite(numbers(variable)).all() for variable in model.weights)
    moved = [np.abs(numbers(new) - old).max() > 0 for new, old in zip(model.trainable_variables, before)]
    assert np.mean(moved) > 0.9
