"""The three segmenters: counts, sizes, losses, files, and what they learn."""

import inspect
import json
import math
from functools import cache

import keras
import numpy as np
import pytest
import tiny_backbone
from keras import ops
from other_process import computed
from tiny_detectors import compiled, gradient, loss_and_gradients, pyramid, terms_of
from tiny_segmenters import NAMES, SEGMENTERS, SMALL, pictures, segmenter

from resnet_tasks.data.masks import IGNORE
from resnet_tasks.model import Pyramid, total_loss
from resnet_tasks.segmentation import DeepLabV3Plus, SemanticFPN, UNet
from resnet_tasks.segmentation.losses import LOSSES

each_segmenter = pytest.mark.parametrize("kind", SEGMENTERS, ids=lambda kind: kind.__name__)
ALL = {"cross_entropy": 1.0, "focal": 0.5, "dice": 2.0, "lovasz": 0.25}


def number(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


@cache
def small(kind, *settings):
    """Shared by the tests that change nothing in it."""
    return segmenter(kind, spread=0.03, **dict(settings))


def rows(targets: dict, chosen) -> dict:
    return {name: values[chosen] for name, values in targets.items()}


def assert_close(found: dict, expected: dict, rtol: float) -> None:
    assert sorted(found) == sorted(expected)
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name], numbers, rtol=rtol, atol=1e-9, err_msg=name)


def names(count: int) -> list[str]:
    return [f"class {index}" for index in range(count)]


def parameters(model) -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_weights)


def test_parameters_of_unet_are_those_of_segmentation_models():
    """In its layout on ResNet-34."""
    from resnet_tasks import backbones

    backbone = backbones.create("resnet_34", weights=None)
    assert parameters(UNet(backbone=backbone, class_names=names(1))) == 24_436_369
    assert parameters(UNet(backbone=backbone, class_names=names(11))) == 24_436_369 + 10 * (16 * 9 + 1)
    # Three channels to 16, 16 to 16, their norms; and 16 more channels for the last block's first convolution.
    full = UNet(backbone=backbone, class_names=names(1), full_resolution_skip=True)
    assert parameters(full) == 24_436_369 + 16 * 9 * (3 + 16) + 2 * 2 * 16 + 16 * 9 * 16


def test_parameters_of_deeplab_are_torchvisions():
    """Its DeepLabV3 on ResNet-50 for 21 classes, and what DeepLabV3+ has in place of the last 3x3 convolution."""
    from resnet_tasks import backbones

    backbone = backbones.create("resnet_50", weights=None, output_stride=8)
    with_aux = DeepLabV3Plus(backbone=backbone, class_names=names(21), low_level=False, aux=True)
    of_aux = [weight for weight in with_aux.trainable_weights if weight.path.startswith("aux")]
    assert parameters(with_aux) == 42_004_074
    assert parameters(with_aux) - sum(math.prod(weight.shape) for weight in of_aux) == 39_638_869
    assert parameters(DeepLabV3Plus(backbone=backbone, class_names=names(21), low_level=False)) == 39_638_869
    decoder = 256 * 48 + 2 * 48 + 9 * 256 * 48 + 9 * 256 * 256 + 2 * 256
    assert parameters(DeepLabV3Plus(backbone=backbone, class_names=names(21))) == 39_638_869 + decoder


def test_parameters_of_semantic_fpn_by_hand():
    """On levels of 8 channels, C2 to C4."""
    model = SemanticFPN(backbone=pyramid((64, 64), (8,) * 4), class_names=NAMES, channels=16, head_channels=6)
    backbone = parameters(model.backbone)
    neck = 3 * (8 * 16 + 16 + 9 * 16 * 16 + 16)
    # A convolution for P2, one for P3, two for P4, and their norms.
    head = 3 * (9 * 16 * 6 + 12) + 9 * 6 * 6 + 12
    assert parameters(model) == backbone + neck + head + 6 * 4 + 4


@each_segmenter
def test_any_size_that_fits(kind):
    """Fixed, or several in one model, or in one graph; a picture is answered alike in all of them."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    dynamic = segmenter(kind, (None, None), spread=0.03)
    of_any_size = [tf.TensorSpec((None, None, None, 3))]
    unknown = tf.function(lambda images: dynamic(images)["logits"], of_any_size, autograph=False)
    assert dynamic.output["logits"].shape == (None, None, None, 4)
    for size in ((96, 160), (32, 48)):
        image = random.uniform(0, 255, (2, *size, 3)).astype(np.float32)
        fixed, found = segmenter(kind, size, spread=0.03)(image)["logits"], dynamic(image)["logits"]
        assert found.shape == fixed.shape == (2, *size, 4)
        np.testing.assert_allclose(found, fixed, rtol=1e-4, atol=1e-4)
        assert np.ptp(found, axis=(1, 2)).min() > 0.1, "it looks at the picture"
        np.testing.assert_allclose(unknown(image), fixed, rtol=1e-4, atol=1e-4)


def with_levels(strides: dict[str, int]) -> Pyramid:
    """A backbone of these levels, each a plain mean of the picture."""
    image = keras.Input((None, None, 3), name="image")
    outputs = {}
    for level, stride in strides.items():
        x = keras.layers.AveragePooling2D(stride, name=f"mean_{level}")(image)
        outputs[level] = keras.layers.Conv2D(6, 1, name=level)(x)
    return Pyramid(image, outputs, name="levels")


@pytest.mark.parametrize(
    ("strides", "blocks"),
    [
        pytest.param({"C0": 1, "C1": 2, "C2": 4}, 2, id="a CIFAR net's"),
        pytest.param({"C1": 2, "C2": 4, "C3": 8, "C4": 16, "C5": 32}, 5, id="a ResNet's"),
        pytest.param({"C1": 2, "C2": 4, "C3": 8, "C4": 8, "C5": 8}, 5, id="a dilated one's"),
        pytest.param({"C0": 1, "C1": 2, "C2": 4, "C3": 8, "C4": 16}, 4, id="an IResNet's"),
        pytest.param({"C2": 4}, 1, id="one level"),
    ],
)
def test_on_backbones_of_any_levels_answers_are_of_full_size(strides, blocks):
    backbone, image = with_levels(strides), np.ones((1, 32, 64, 3), np.float32)
    unet = UNet(backbone=backbone, class_names=NAMES, decoder_channels=(12, 10, 8, 6, 4))
    widths = [layer.filters for layer in unet.layers if layer.name.startswith("decoder") and "conv1" in layer.name[-5:]]
    assert widths == [12, 10, 8, 6, 4][-blocks:]
    deeplab = DeepLabV3Plus(backbone=backbone, class_names=NAMES, channels=8, low_level=len(strides) > 1)
    models = [unet, deeplab]
    if strides != {"C1": 2, "C2": 4, "C3": 8, "C4": 8, "C5": 8}:
        models.append(SemanticFPN(backbone=backbone, class_names=NAMES, channels=8, head_channels=8))
    for model in models:
        assert model(image)["logits"].shape == (1, 32, 64, 4), model.name


def test_unet_reads_every_level_and_the_picture_where_it_is_asked_to():
    backbone = with_levels({"C1": 2, "C2": 4, "C3": 8})
    plain = UNet(backbone=backbone, class_names=NAMES, decoder_channels=(8, 8, 8))
    full = UNet(backbone=backbone, class_names=NAMES, decoder_channels=(8, 8, 8), full_resolution_skip=True)
    merged = {
        model.name: [layer.name for layer in model.layers if isinstance(layer, keras.layers.Concatenate)]
        for model in (plain, keras.Model(full.input, full.output, name="full"))
    }
    assert merged == {
        "unet": ["decoder1_concat", "decoder2_concat"],
        "full": ["decoder1_concat", "decoder2_concat", "decoder3_concat"],
    }
    # A checkerboard of single pixels is grey at stride 2: only the picture itself can tell where its dark ones are.
    board = np.indices((16, 16)).sum(axis=0)[None, ..., None] % 2 * np.float32([250, 250, 250])
    inside = {model: number(model(board)["logits"])[0, 4:12, 4:12] for model in (plain, full)}
    here, there = (inside[full][start::2, ::2].mean(axis=(0, 1)) for start in (0, 1))
    assert np.abs(here - there).max() > 1e-4
    moved = number(plain(board[:, ::-1])["logits"])[0, 4:12, 4:12]
    np.testing.assert_allclose(inside[plain], moved, atol=1e-5)


def test_the_rates_of_deeplab_reach_as_far_at_every_stride():
    def rates(strides, **settings) -> list[int]:
        model = DeepLabV3Plus(backbone=with_levels(strides), class_names=NAMES, channels=8, low_level=False, **settings)
        found = [layer for layer in model.layers if layer.name.startswith("pyramid_atrous")]
        return [layer.dilation_rate[0] for layer in found if isinstance(layer, keras.layers.Conv2D)]

    assert rates({"C3": 8, "C4": 8}) == [12, 24, 36]
    assert rates({"C3": 8, "C4": 16}) == [6, 12, 18]
    assert rates({"C3": 8, "C5": 32}) == [3, 6, 9]
    assert rates({"C3": 8, "C4": 16}, rates=(2, 5)) == [2, 5]


def test_the_mean_of_the_picture_is_a_view_like_the_others():
    """As published: laid out over all pixels, beside the views, before one convolution and one norm."""
    model = small(DeepLabV3Plus)
    parts = ["pyramid_concat", "pyramid_whole_relu", "pyramid_project_add"]
    inside = keras.Model(model.input, [model.get_layer(name).output for name in parts])
    views, whole, found = (number(part) for part in inside(pictures(2)[0]))
    beside = np.concatenate([views, np.broadcast_to(whole, (*views.shape[:3], whole.shape[-1]))], axis=-1)
    kernels = [number(model.get_layer(f"pyramid_project_{name}").kernel)[0, 0] for name in ("views", "whole")]
    np.testing.assert_allclose(found, beside @ np.concatenate(kernels), rtol=1e-4, atol=1e-4)
    assert whole.std() > 0 and views.shape[-1] == 4 * 8


def test_the_decoder_of_deeplab_reads_c2():
    model = small(DeepLabV3Plus)
    assert model.get_layer("low_level").input.shape == model.backbone.output["C2"].shape
    assert model.get_layer("low_level").input is model.backbone.output["C2"]
    assert model.get_layer("decoder_up").size == (4, 4) and model.get_layer("logits_up").size == (4, 4)


def outputs_of(model, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 2, (count, 64, 64, 4)).astype(np.float32) for name in model.output}


def test_the_loss_is_the_weighted_sum_of_those_that_are_chosen():
    weights = [1.0, 2.0, 0.5, 3.0]
    model = segmenter(DeepLabV3Plus, losses=ALL, class_weights=weights, aux=True, aux_weight=0.3)
    (_, targets), outputs = pictures(4), outputs_of(model, 4)
    targets["weight"] = np.float32([1, 0.5, 0, 3])
    targets["mask"][1] = IGNORE
    found, expected = terms_of(model, targets, outputs), {}
    for output, prefix, share in (("logits", "", 1.0), ("aux", "aux_", 0.3)):
        for name, factor in ALL.items():
            more = {"class_weights": weights} if name in ("cross_entropy", "focal") else {}
            total, normaliser = LOSSES[name](outputs[output], targets["mask"], targets["weight"], **more)
            expected[prefix + name] = (share * factor * float(total), float(normaliser))
    assert_close(found, expected, 1e-5)
    assert min(total for total, _ in found.values()) > 0.01


@each_segmenter
def test_pixels_overlap_and_nothing_else_by_default(kind):
    model, (_, targets) = small(kind), pictures(2)
    outputs = {name: ops.convert_to_tensor(value) for name, value in outputs_of(model, 2).items()}
    terms = model.loss_terms(targets, outputs)
    assert sorted(terms) == ["cross_entropy", "dice"] and model.loss_weights == {"cross_entropy": 1.0, "dice": 1.0}
    without = model.loss_terms({"mask": targets["mask"]}, outputs)
    assert {name: [float(part) for part in pair] for name, pair in terms.items()} == {
        name: [float(part) for part in pair] for name, pair in without.items()
    }, "a picture weighs 1"


def test_terms_that_are_divided_by_the_same_share_it():
    """The engine takes a gradient for each."""
    model, (_, targets) = segmenter(DeepLabV3Plus, losses=ALL, aux=True), pictures(2)
    outputs = {name: ops.convert_to_tensor(value) for name, value in outputs_of(model, 2).items()}
    terms = model.loss_terms(targets, outputs)
    assert len(terms) == 8 and len({id(normaliser) for _, normaliser in terms.values()}) == 3
    assert terms["focal"][1] is terms["cross_entropy"][1] is terms["aux_focal"][1]
    assert segmenter(UNet, losses={"dice": 0, "lovasz": 2}).loss_weights == {"lovasz": 2.0}


@each_segmenter
def test_nothing_to_learn_is_a_loss_of_0_without_slopes(kind):
    model, (images, targets) = small(kind), pictures(2)
    nothing = {"mask": np.full_like(targets["mask"], IGNORE), "weight": targets["weight"]}
    loss, slopes = loss_and_gradients(model, images, nothing)
    assert loss == 0 and all((slope == 0).all() for slope in slopes)
    one_class = {"mask": np.zeros_like(targets["mask"]), "weight": targets["weight"]}
    loss, slopes = loss_and_gradients(model, images, one_class)
    assert loss > 0 and all(np.isfinite(slope).all() for slope in slopes)


@pytest.fixture
def float64():
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


@each_segmenter
def test_in_float64_the_terms_of_two_halves_are_those_of_the_whole(kind, float64):
    model, (images, targets) = segmenter(kind, spread=0.03, losses=ALL), pictures(4)
    targets["weight"] = np.float64([1, 0.5, 2, 3])
    targets["mask"][3] = IGNORE
    outputs = {name: number(value) for name, value in model(np.float64(images)).items()}
    found = model.loss_terms(targets, {name: ops.convert_to_tensor(value) for name, value in outputs.items()})
    assert {keras.backend.standardize_dtype(part.dtype) for pair in found.values() for part in pair} == {"float64"}
    halves = [terms_of(model, rows(targets, part), rows(outputs, part)) for part in (slice(0, 2), slice(2, 4))]
    summed = {name: np.add(halves[0][name], halves[1][name]) for name in halves[0]}
    assert_close(terms_of(model, targets, outputs), summed, 1e-12)


CHANGED = {
    UNet: {"decoder_channels": [4, 6, 4, 6], "full_resolution_skip": True, "norm": "group"},
    DeepLabV3Plus: {
        "rates": [1, 2],
        "channels": 6,
        "low_level": False,
        "low_level_channels": 2,
        "aux": True,
        "aux_weight": 0.25,
        "dropout": 0.5,
        "norm": "group",
    },
    SemanticFPN: {"channels": 6, "head_channels": 4, "norm": "batch", "min_level": 3},
}
SHARED = {
    "source_ids": [3, 7, 1, 0],
    "colors": [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]],
    "losses": {"focal": 0.5, "lovasz": 2.0},
    "class_weights": [0.5, 1.0, 2.0, 1.5],
    "name": "mine",
}
RELOAD = """
import json
import keras
import resnet_tasks.segmentation  # registers the segmenters
from tiny_detectors import compiled
for index, path in enumerate(given["paths"]):
    model = keras.models.load_model(str(path))
    for name, value in compiled(lambda images: model(images))(given["images"]).items():
        answer[f"{index} {name}"] = keras.ops.convert_to_numpy(value)
    config = {name: value for name, value in model.get_config().items() if name != "backbone"}
    answer[f"{index} config"] = json.dumps([type(model).__name__, config], sort_keys=True)
"""


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.slow), "jax"])
def test_a_fresh_process_opens_what_was_saved(backend, tmp_path):
    """Of another size than any that they were called with."""
    if backend == "jax":
        pytest.importorskip("jax")
    fewer = {UNet: {"decoder_channels": [8, 8, 8]}, DeepLabV3Plus: {"aux": True}, SemanticFPN: {}}
    models = [segmenter(kind, (None, None), 0.03, (8,) * 3, **fewer[kind], **SHARED) for kind in SEGMENTERS]
    paths = [str(tmp_path / f"{index}.keras") for index in range(len(models))]
    for model, path in zip(models, paths):
        model.save(path)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 48, 3)).astype(np.float32)
    # Half of the time would go into optimising what runs once.
    environment = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    found = computed(RELOAD, {"images": images, "paths": np.array(paths)}, **environment)
    for index, model in enumerate(models):
        kind, config = json.loads(str(found.pop(f"{index} config")))
        assert kind == type(model).__name__
        assert config == {name: value for name, value in model.get_config().items() if name != "backbone"}
        own = {name.split(" ")[1]: value for name, value in found.items() if name.startswith(f"{index} ")}
        expected = model(images)
        assert sorted(own) == sorted(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(own[name], number(value), rtol=1e-3, atol=1e-4, err_msg=name)
            assert np.ptp(own[name]) > 0.1


@each_segmenter
def test_every_setting_is_in_the_file(kind, tmp_path):
    model = segmenter(kind, spread=0.03, **CHANGED[kind], **SHARED)
    settings = model.get_config()
    assert set(settings) == set(inspect.signature(kind).parameters), "all arguments of the constructor"
    assert {name: settings[name] for name in CHANGED[kind]} == CHANGED[kind]
    assert {name: settings[name] for name in SHARED} == SHARED
    assert settings["image_size"] == [64, 64] and settings["class_names"] == list(NAMES)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again) is kind and list(again.backbone.output) == list(model.backbone.output)
    assert {**again.get_config(), "backbone": None} == {**settings, "backbone": None}
    assert (again.source_ids, again.image_size, again.name) == ([3, 7, 1, 0], (64, 64), "mine")
    assert (again.colors, again.class_weights) == (SHARED["colors"], SHARED["class_weights"])
    images, targets = pictures(2)
    losses = [float(one.compute_loss(None, targets, one(images))) for one in (model, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert len(again.weights) == len(model.weights) and len({variable.path for variable in again.weights}) > 20
    defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    assert all(defaults[name] != value for name, value in {**CHANGED[kind], **SHARED}.items())


@pytest.mark.any_backend
@each_segmenter
def test_fit_trains_with_the_same_loss(kind):
    """By Keras's own loop, compiled."""
    fewer = {UNet: {"decoder_channels": [8, 8]}, DeepLabV3Plus: {"rates": [2]}, SemanticFPN: {}}
    model, (images, targets) = segmenter(kind, (32, 32), widths=(8, 8), **fewer[kind]), pictures(4, side=32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False  # which computes in training as it does otherwise; this is about the loss
    first = float(compiled(lambda: model.compute_loss(None, targets, model(images)))())
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), jit_compile=True)
    losses = model.fit(images, targets, batch_size=4, epochs=15, shuffle=False, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(first, rel=1e-4)
    assert losses[-1] < 0.9 * first


@each_segmenter
def test_the_first_weights_are_a_function_of_the_seed(kind):
    """Of the seed that is set before a model is built; and no two kernels begin alike."""
    found = []
    for seed in (5, 6, 5):
        keras.utils.set_random_seed(seed)
        model = kind(backbone=pyramid((64, 64), (8,) * 4), class_names=NAMES, **SMALL[kind])
        found.append([number(variable) for variable in model.trainable_variables if len(variable.shape) > 1])
    for one, other, again in zip(*found):
        np.testing.assert_array_equal(one, again)
        assert not np.isclose(one, other, rtol=1e-3).all()
    assert len({kernel.ravel()[0] for kernel in found[0]}) == len(found[0])


@pytest.fixture
def bfloat16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


@each_segmenter
def test_logits_and_loss_are_float32_under_mixed_bfloat16(kind, bfloat16):
    aux = {"aux": True} if kind is DeepLabV3Plus else {}
    model, (images, targets) = segmenter(kind, spread=0.03, **aux), pictures(2)
    assert {keras.backend.standardize_dtype(value.dtype) for value in model(images).values()} == {"float32"}
    inner = [layer.compute_dtype for layer in model.layers if "conv" in layer.name]
    assert set(inner) == {"bfloat16"}, "the network computes in it"
    loss, slopes = loss_and_gradients(model, images, targets)
    assert np.isfinite(loss) and all(np.isfinite(slope).all() for slope in slopes)
    keras.config.set_dtype_policy("float32")
    exact, _ = loss_and_gradients(segmenter(kind, spread=0.03, **aux), images, targets)
    assert loss == pytest.approx(exact, rel=0.1)


def test_what_cannot_be_built_says_why():
    for kind in SEGMENTERS:
        with pytest.raises(ValueError, match="a segmenter needs the names of 1 to 255 classes, got 0"):
            segmenter(kind, class_names=[])
        with pytest.raises(ValueError, match="expected cross_entropy, focal, dice, lovasz with a weight each, got iou"):
            segmenter(kind, losses={"iou": 1})
        for losses in ({}, {"dice": 0}, {"dice": 1, "focal": -1}):
            with pytest.raises(ValueError, match="losses: expected weights above 0"):
                segmenter(kind, losses=losses)
        for weights in ([1, 1, 1], [1, 1, 1, -1]):
            with pytest.raises(ValueError, match="class_weights: expected 4 numbers of at least 0"):
                segmenter(kind, class_weights=weights)
        with pytest.raises(ValueError, match=r"image_size: \(50, 64\) must divide by 16, for .* write \(48, 64\)"):
            segmenter(kind, image_size=(50, 64))
    with pytest.raises(ValueError, match=r"decoder_channels: tiny needs 4, a number for each block, got \[8, 8\]"):
        segmenter(UNet, decoder_channels=[8, 8])
    one = with_levels({"C2": 4})
    with pytest.raises(ValueError, match="no level finer than its last, of stride 4; write low_level=False"):
        DeepLabV3Plus(backbone=one, class_names=NAMES)
    with pytest.raises(ValueError, match="one level only; write aux=False"):
        DeepLabV3Plus(backbone=one, class_names=NAMES, low_level=False, aux=True)
    with pytest.raises(ValueError, match=r"C2 \(stride 4\); expected C3 \(min_level\) and coarser ones"):
        SemanticFPN(backbone=one, class_names=NAMES, min_level=3)
    with pytest.raises(ValueError, match=r"C4 \(stride 8\); expected C2 \(min_level\) and coarser ones"):
        SemanticFPN(backbone=with_levels({"C2": 4, "C3": 8, "C4": 8}), class_names=NAMES)


LARGER = {
    UNet: {"decoder_channels": (32, 16, 16, 8)},
    DeepLabV3Plus: {"channels": 32, "low_level_channels": 16},
    SemanticFPN: {"channels": 32, "head_channels": 32, "min_level": 1},
}


def mean_iou(answer: np.ndarray, truth: np.ndarray) -> float:
    """Over all pictures at once."""
    valid = truth != IGNORE
    ious = [((answer == c) & (truth == c)).sum() / (((answer == c) | (truth == c)) & valid).sum() for c in range(4)]
    return float(np.mean(ious))


@each_segmenter
def test_a_tiny_one_learns_eight_pictures_by_heart(kind):
    import tensorflow as tf

    steps, (images, targets) = 100, pictures(8, side=48)
    model = segmenter(kind, (48, 48), widths=(8, 16, 32, 32), **LARGER[kind])
    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(model.trainable_variables)
    variables = [variable.value for variable in model.trainable_variables]

    @tf.function(autograph=False)
    def step(images, targets):
        with tf.GradientTape() as tape:
            loss = total_loss(model.loss_terms(targets, model(images, training=True)))
        optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)
        return loss

    truth = {name: tf.constant(value) for name, value in targets.items()}
    for place in range(steps):
        optimizer.learning_rate = 1e-2 * (0.5 + 0.5 * math.cos(math.pi * place / steps))
        step(tf.constant(images), truth)
    answer = number(model(images)["logits"]).argmax(axis=-1)
    assert mean_iou(answer, targets["mask"]) >= 0.95


def test_a_model_of_two_small_layers_is_a_backbone_too():
    backbone = tiny_backbone.backbone()
    for kind in SEGMENTERS:
        settings = {key: value for key, value in SMALL[kind].items() if key != "decoder_channels"}
        model = kind(backbone=backbone, class_names=NAMES, **settings)
        assert model(np.zeros((1, 12, 20, 3), np.float32))["logits"].shape == (1, 12, 20, 4)


@pytest.mark.parametrize("kind", [DeepLabV3Plus])
def test_the_auxiliary_head_teaches_the_level_before_the_last(kind):
    model, (_, targets) = segmenter(kind, aux=True), pictures(2)
    outputs = outputs_of(model, 2)

    def loss(value):
        return total_loss(model.loss_terms(targets, {**outputs, "aux": value}))

    assert np.abs(gradient(loss, outputs["aux"])).max() > 0
    assert model.get_layer("aux_conv").input is model.backbone.output["C3"]
    assert model.get_layer("aux_conv").filters == 2, "a quarter of the level's channels"
