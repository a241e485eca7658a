"""The three detectors: counts, losses against slow references, boxes by hand, files, and what they learn."""

import inspect
import math
from functools import cache

import keras
import numpy as np
import pytest
from detector_references import faster_rcnn_terms, giou, moved, proposed, retinanet_terms, yolo_terms
from keras import ops
from other_process import computed
from tiny_detectors import (
    DETECTORS,
    SMALL,
    compiled,
    detector,
    gradient,
    loss_and_gradients,
    overlaps,
    pictures,
    pyramid,
    terms_of,
)

from resnet_tasks.detection import YOLO, FasterRCNN, RetinaNet
from resnet_tasks.model import total_loss

each_detector = pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
# What outputs are drawn with: mean, deviation.
SPREADS = {"class": (-2, 1.5), "objectness": (0, 2), "offsets": (0, 0.2)}


def number(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


@cache
def small(kind, **settings):
    """Shared by the tests that change nothing in it."""
    return detector(kind, spread=0.03, **settings)


def random_outputs(model, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """What a network might say; the network itself is not run."""
    random = np.random.default_rng(seed)
    boxes = (0, 2) if isinstance(model, YOLO) else (0, 0.2)
    return {
        name: random.normal(*{**SPREADS, "box": boxes}.get(name.split("_")[0], (0, 1)), (count, *tensor.shape[1:]))
        .astype(np.float32)
        for name, tensor in model.output.items()
    }  # fmt: skip


def truth(count: int = 4, most: int = 3) -> dict[str, np.ndarray]:
    """The third picture shows nothing, and the weights differ."""
    _, targets = pictures(count, most=most)
    targets["labels"][2], targets["boxes"][2] = -1, 0
    targets["weight"] = np.float32([1, 0.5, 2, 3, 0.25, 1, 0, 1][:count])
    return targets


def rows(targets: dict, chosen) -> dict:
    return {name: values[chosen] for name, values in targets.items()}


def assert_close(found: dict, expected: dict, rtol: float) -> None:
    assert sorted(found) == sorted(expected)
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name], numbers, rtol=rtol, atol=1e-6, err_msg=name)


def test_parameters_are_those_of_the_published_networks():
    """torchvision's, whose norms are frozen, so that they have no gamma and no beta to train; 5 of 91, 21 and 4 ids."""
    from resnet_tasks import backbones

    backbone, found = backbones.create("resnet_50", input_shape=(64, 64, 3), weights=None), {}
    counted = [(RetinaNet, count) for count in (91, 20, 3)] + [(FasterRCNN, count) for count in (90, 20, 3)]
    for kind, count in counted:
        model = kind(backbone=backbone, class_names=[f"class {index}" for index in range(count)])
        trains = [v.shape for v in model.trainable_weights if v.name not in ("gamma", "beta")]
        found[kind.__name__, count] = sum(math.prod(shape) for shape in trains)
    assert found == {
        ("RetinaNet", 91): 34_014_999,
        ("RetinaNet", 20): 32_542_104,
        ("RetinaNet", 3): 32_189_439,
        ("FasterRCNN", 90): 41_755_286,  # and the background
        ("FasterRCNN", 20): 41_396_536,
        ("FasterRCNN", 3): 41_309_411,
    }


@pytest.mark.any_backend
@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_the_loss_of_retinanet(box_loss):
    model, targets = small(RetinaNet, box_loss=box_loss), truth(8)
    outputs = random_outputs(model, 8)
    expected = retinanet_terms(outputs, targets, 3, model.anchor_size, giou if box_loss == "giou" else None)
    assert expected["box"][0] > 1 and expected["box"][1] > 15
    assert_close(terms_of(model, targets, outputs), expected, 1e-4)


@pytest.mark.any_backend
def test_the_loss_of_yolo():
    model, targets = small(YOLO), truth(8)
    outputs = random_outputs(model, 8)
    expected = yolo_terms(outputs, targets, 3)
    assert min(total for total, _ in expected.values()) > 0.1
    assert_close(terms_of(model, targets, outputs), expected, 1e-4)


def second_stage(model, outputs):
    """`second(row, boxes)` of the model's own; as many regions at a time as fit, so that it compiles once."""
    room, run = 160, compiled(lambda outputs, boxes: model._second(outputs, boxes))

    def second(row: int, boxes: np.ndarray):
        padded = np.concatenate([boxes, np.tile([0.0, 0, 8, 8], (room - len(boxes), 1))])[None]
        own = {name: ops.convert_to_tensor(value[row : row + 1]) for name, value in outputs.items()}
        return [number(part)[0, : len(boxes)] for part in run(own, ops.convert_to_tensor(padded, "float32"))]

    return second


@pytest.mark.any_backend
def test_the_loss_of_faster_rcnn():
    model, targets = small(FasterRCNN), truth()
    outputs = random_outputs(model, 4)
    second = second_stage(model, outputs)
    expected = faster_rcnn_terms(outputs, targets, 3, model.anchor_size, (64, 64), model.counts, second)
    assert expected["offsets"][0] > 0.1 and expected["box"][0] > 1
    assert_close(terms_of(model, targets, outputs), expected, 1e-4)


@each_detector
@pytest.mark.parametrize("which", ["the background's own", "a whole batch of them"])
def test_pictures_without_boxes_are_learnt_from(kind, which):
    """Without a box to learn, and without a NaN: that all is background."""
    model, targets = small(kind), truth()
    outputs = random_outputs(model, 4)
    if which != "the background's own":
        targets = {**targets, "boxes": np.zeros((4, 3, 4), np.float32), "labels": np.full((4, 3), -1, np.int32)}
    chosen = "objectness" if kind is FasterRCNN else "class"
    name = next(name for name in outputs if name.startswith(chosen))

    def loss(value):
        return total_loss(model.loss_terms(targets, {**outputs, name: value}))

    slope = gradient(loss, outputs[name])
    assert np.isfinite(slope).all() and np.isfinite(float(loss(outputs[name])))
    assert (slope[2] >= 0).all() and slope[2].max() > 0, "every score is pushed down"
    terms = terms_of(model, rows(targets, [2]), {name: value[2:3] for name, value in outputs.items()})
    for name, (total, normaliser) in terms.items():
        assert total > 0 if name in ("class", "objectness") else total == 0, name
        assert normaliser > 0


@each_detector
def test_a_picture_of_weight_0_is_as_if_it_were_not_there(kind):
    model, (images, targets) = detector(kind, spread=0.03), pictures(4)
    keras_norms_off(model)
    targets["weight"] = np.float32([1, 0, 2, 0])
    images[1] = np.linspace(0, 255, images[1].size).reshape(images[1].shape)
    kept = [0, 2]
    np.testing.assert_allclose(
        *[loss_and_gradients(model, images[part], rows(targets, part))[0] for part in ([0, 1, 2, 3], kept)], rtol=1e-5
    )
    whole, alone = (loss_and_gradients(model, images[part], rows(targets, part))[1] for part in ([0, 1, 2, 3], kept))
    for one, other in zip(whole, alone):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()))
    outputs = random_outputs(model, 4)
    terms = terms_of(model, targets, outputs)
    assert_close(terms, terms_of(model, rows(targets, kept), rows(outputs, kept)), 1e-5)
    nobody = terms_of(model, {**targets, "weight": np.zeros(4, np.float32)}, outputs)
    assert set(nobody.values()) == {(0.0, 0.0)}
    del targets["weight"]
    ones = terms_of(model, {**targets, "weight": np.ones(4, np.float32)}, outputs)
    assert_close(terms_of(model, targets, outputs), ones, 1e-6)


def keras_norms_off(model) -> None:
    """A batch norm sees all pictures of a batch, whatever they weigh; this is about the loss."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


@each_detector
def test_padding_and_the_order_of_boxes_change_nothing(kind):
    """Also where there are fewer proposals than the second stage could learn from."""
    model = small(kind) if kind is not FasterRCNN else small(kind, regions=200)
    outputs, targets = random_outputs(model, 4), truth()
    terms = terms_of(model, targets, outputs)
    padded = {
        **targets,
        "boxes": np.pad(targets["boxes"], [(0, 0), (0, 7), (0, 0)]),
        "labels": np.pad(targets["labels"], [(0, 0), (0, 7)], constant_values=-1),
    }
    assert_close(terms_of(model, padded, outputs), terms, 1e-6)
    junk = np.where(padded["labels"][..., None] < 0, np.float32([5, 5, 40, 40]), padded["boxes"])
    assert_close(terms_of(model, {**padded, "boxes": junk}, outputs), terms, 1e-6)
    turned = {**targets, **{name: targets[name][:, ::-1] for name in ("boxes", "labels")}}
    assert_close(terms_of(model, turned, outputs), terms, 1e-5)


@pytest.fixture
def float64():
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


@each_detector
def test_in_float64_the_terms_of_two_halves_are_those_of_the_whole(kind, float64):
    model, targets = detector(kind, spread=0.03), truth()
    targets["weight"] = targets["weight"].astype(np.float64)
    outputs = {name: value.astype(np.float64) for name, value in random_outputs(model, 4).items()}
    found = model.loss_terms(targets, {name: ops.convert_to_tensor(value) for name, value in outputs.items()})
    for total, normaliser in found.values():
        assert {keras.backend.standardize_dtype(value.dtype) for value in (total, normaliser)} == {"float64"}
    groups = [{name for name, (_, other) in found.items() if other is own} for _, own in found.values()]
    first, second = {"objectness", "offsets"}, {"class", "box"}
    assert all(group in ([first, second] if kind is FasterRCNN else [set(found)]) for group in groups), "shared"
    halves = [terms_of(model, rows(targets, part), rows(outputs, part)) for part in (slice(0, 2), slice(2, 4))]
    summed = {name: np.add(halves[0][name], halves[1][name]) for name in halves[0]}
    assert_close(terms_of(model, targets, outputs), summed, 1e-9)
    boxes, scores = model.candidates({name: ops.convert_to_tensor(value) for name, value in outputs.items()})
    assert {keras.backend.standardize_dtype(value.dtype) for value in (boxes, scores)} == {"float64"}
    expected = {RetinaNet: retinanet_terms, YOLO: yolo_terms}.get(kind)
    if expected:  # digit for digit, but for anchors and points, which are float32's
        more = (model.anchor_size,) if kind is RetinaNet else ()
        assert_close(terms_of(model, targets, outputs), expected(outputs, targets, 3, *more), 1e-7)


@each_detector
def test_lots_differ_with_the_key_in_faster_rcnn_alone(kind):
    model, targets = small(kind), truth()
    outputs = random_outputs(model, 4)
    terms = terms_of(model, targets, outputs)
    other = terms_of(model, {**targets, "key": targets["key"] + 1}, outputs)
    assert (other != terms) == (kind is FasterRCNN)
    assert terms_of(model, targets, outputs) == terms


def silent(model, count: int = 1) -> dict[str, np.ndarray]:
    """Outputs in which nothing is found, and every offset is 0."""
    low = ("class", "objectness")
    return {
        name: np.full((count, *tensor.shape[1:]), -30.0 if name.startswith(low) else 0.0, np.float32)
        for name, tensor in model.output.items()
    }


@pytest.mark.any_backend
def test_the_boxes_of_retinanet_by_hand():
    """The sixth anchor (ratio 1, the third octave) of the lower left cell of P5, of stride 32: around (16, 48)."""
    model = small(RetinaNet)
    outputs = silent(model)
    outputs["class_P5"][0, 1, 0, 5 * 3 + 2] = math.log(3)  # the third class, three quarters
    outputs["box_P5"][0, 1, 0, 5 * 4 : 6 * 4] = [0.5, -0.25, 0, math.log(0.5)]
    boxes, scores = (number(part) for part in compiled(model.candidates)(outputs))
    place = 16 * 9 + 2 * 9 + 5  # behind the 4 x 4 cells of P4 and two cells of P5
    assert boxes.shape == (1, (16 + 4 + 1 + 1) * 9, 1, 4)
    assert scores[0, place, 2] == pytest.approx(0.75) and (scores > 1e-9).sum() == 1
    side = 1.5 * 32 * 2 ** (2 / 3)
    x, y = 16 + side / 2, 48 - side / 4
    expected = [x - side / 2, y - side / 4, x + side / 2, y + side / 4]
    np.testing.assert_allclose(boxes[0, place, 0], expected, rtol=1e-5)
    # The first of all: the cell (0, 0) of P4, twice as wide as high, of the area of (1.5 x 16)^2.
    w, h = 24 * math.sqrt(2), 24 / math.sqrt(2)
    np.testing.assert_allclose(boxes[0, 0, 0], [8 - w / 2, 8 - h / 2, 8 + w / 2, 8 + h / 2], rtol=1e-5)


@pytest.mark.any_backend
def test_the_boxes_of_yolo_by_hand():
    """The upper right cell of P5, of stride 32, around (48, 16): 1, 0, 2 and half a stride to its four sides."""
    model = small(YOLO)
    outputs = silent(model)
    outputs["class_P5"][0, 0, 1, 1] = math.log(3)
    sides = outputs["box_P5"][0, 0, 1].reshape(4, 16)
    sides[[0, 1, 2, 3, 3], [1, 0, 2, 0, 1]] = 60
    boxes, scores = (number(part) for part in compiled(model.candidates)(outputs))
    assert boxes.shape == (1, 16 + 4, 1, 4)
    assert scores[0, 16 + 1, 1] == pytest.approx(0.75) and (scores > 1e-9).sum() == 1
    np.testing.assert_allclose(boxes[0, 16 + 1, 0], [16, 16, 112, 32], rtol=1e-5)
    np.testing.assert_allclose(boxes[0, 0, 0], [8 - 120, 8 - 120, 8 + 120, 8 + 120], rtol=1e-5)  # 7.5 strides of 16


@pytest.mark.any_backend
def test_the_first_sides_of_yolo_are_about_two_strides():
    model = small(YOLO)
    bias = number(model.get_layer("box").bias).reshape(4, 16)
    likely = np.exp(bias) / np.exp(bias).sum(axis=-1, keepdims=True)
    assert (likely @ np.arange(16) == pytest.approx(2.0, abs=0.1)) and (np.diff(likely) < 0).all()
    outputs = {name: number(value) for name, value in model(np.zeros((1, 64, 64, 3), np.float32)).items()}
    boxes, _ = (number(part) for part in compiled(model.candidates)(outputs))
    sides = (boxes[0, :, 0, 2:] - boxes[0, :, 0, :2]) / np.repeat([16, 32], [16, 4])[:, None]
    assert (sides > 2).all() and (sides < 7).all(), "both sides of a place together, in strides"


@pytest.mark.any_backend
def test_proposals_keep_the_best_drop_what_overlaps_it_and_stay_on_the_canvas():
    """Anchors of P3 with ratio 1: 24 pixels around 4 + 8 x, 4 + 8 y."""
    model = small(FasterRCNN)
    outputs = silent(model, 2)
    scores, offsets = outputs["objectness_P3"], outputs["offsets_P3"]
    scores[0, 2, 2, 1] = 5.0  # (8, 8, 32, 32)
    scores[0, 2, 3, 1], offsets[0, 2, 3, 4] = 4.0, -7 / 24  # (16, 8, 40, 32) moved to (9, 8, 33, 32): IoU 23/25
    scores[0, 7, 7, 1] = 3.0  # (48, 48, 72, 72), of which a third lies beyond the border either way
    scores[0, 0, 7, 1], offsets[0, 0, 7, 6] = 6.0, -4.0  # 24 e^-4 = 0.44 pixels wide: nothing
    outputs["objectness_P4"][0, 0, 0, 1] = 4.5  # 48 pixels around (8, 8): (0, 0, 32, 32), IoU with the first 9/16
    scores[1, 2, 3, 1] = 4.0  # in the other picture nothing overlaps it
    boxes, valid = (number(part) for part in compiled(model.proposals)(outputs))
    expected = [[8, 8, 32, 32], [0, 0, 32, 32], [48, 48, 64, 64]]
    np.testing.assert_allclose(boxes[0, :3], expected, atol=1e-4)
    np.testing.assert_allclose(boxes[1, 0], [16, 8, 40, 32], atol=1e-4)
    assert valid[0, :3].all() and not np.isclose(boxes[0][valid[0]], [9, 8, 33, 32], atol=1e-2).all(axis=1).any()
    for picture in range(2):
        kept = boxes[picture][valid[picture]]
        assert 3 < len(kept) <= model.counts["proposals"]
        assert kept.min() >= 0 and kept.max() <= 64 and (kept[:, 2:] - kept[:, :2]).min() >= 1


def test_the_boxes_of_faster_rcnn_are_those_of_the_second_stage():
    """Each class's own, from the proposal and that class's offsets; what is no proposal scores 0."""
    model = small(FasterRCNN, proposals=150)
    outputs = random_outputs(model, 2)
    boxes, scores = (number(part) for part in model.candidates(outputs))
    second = second_stage(model, outputs)
    for picture in range(2):
        found = proposed(outputs, picture, model.anchor_size, (64, 64), 60, 150)
        logits, offsets = second(picture, found)
        shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(scores[picture, : len(found)], shares[:, 1:], atol=1e-5)
        assert (scores[picture, len(found) :] == 0).all() and len(found) < scores.shape[1]
        for place in (0, 7, len(found) - 1):
            expected = [moved(found[place], offsets[place, label + 1], (10, 10, 5, 5)) for label in range(3)]
            np.testing.assert_allclose(boxes[picture, place], expected, atol=1e-3)
            assert np.ptp(np.array(expected), axis=0).max() > 0.01


def test_the_second_stage_teaches_features_and_not_where_they_are_read():
    model, targets = small(FasterRCNN), truth()
    outputs = random_outputs(model, 4)

    def second_loss(name):
        def loss(value):
            terms = model.loss_terms(targets, {**outputs, name: value})
            return terms["class"][0] + terms["box"][0]

        return loss

    for name in ("objectness_P3", "offsets_P3"):
        assert (gradient(second_loss(name), outputs[name]) == 0).all()
    assert np.abs(gradient(second_loss("P3"), outputs["P3"])).max() > 0


def test_what_yolo_assigns_is_no_way_for_gradients():
    """The class term knows the boxes only by the shares, the boxes' terms the scores only by them."""
    model, targets = small(YOLO), truth()
    outputs = random_outputs(model, 4)
    for term, name in (("class", "box_P4"), ("box", "class_P4"), ("side", "class_P4")):
        slope = gradient(lambda v, n=name, t=term: model.loss_terms(targets, {**outputs, n: v})[t][0], outputs[name])
        assert (slope == 0).all(), (term, name)
    for term in ("box", "side"):
        slope = gradient(lambda v, t=term: model.loss_terms(targets, {**outputs, "box_P4": v})[t][0], outputs["box_P4"])
        assert np.abs(slope).max() > 0 and np.isfinite(slope).all()


CHANGED = {
    RetinaNet: {"norm": "group", "box_loss": "giou", "min_level": 3, "anchor_size": 3.5, "head_depth": 2},
    FasterRCNN: {"norm": "batch", "width": 12, "before": 50, "proposals": 40, "drawn": 30, "regions": 20},
    YOLO: {"neck_depth": 1, "head_depth": 0, "min_level": 3, "channels": 12},
}
SHARED = {"source_ids": [3, 7, 1], "threshold": 0.25, "floor": 0.02, "overlap": 0.3, "most": 7, "name": "mine"}
RELOAD = """
import json
import keras
import resnet_tasks.detection  # registers the detectors
from tiny_detectors import compiled
for index, path in enumerate(given["paths"]):
    model = keras.models.load_model(str(path))
    outputs = model(given["images"])
    boxes, scores = compiled(model.candidates)(outputs)
    for name, value in {**outputs, "boxes": boxes, "scores": scores}.items():
        answer[f"{index} {name}"] = keras.ops.convert_to_numpy(value)
    config = {name: value for name, value in model.get_config().items() if name != "backbone"}
    answer[f"{index} config"] = json.dumps([type(model).__name__, config, model.threshold], sort_keys=True)
"""


@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.slow), "jax"])
def test_a_fresh_process_opens_what_was_saved(backend, tmp_path):
    if backend == "jax":
        pytest.importorskip("jax")
    images, models = pictures(2)[0], [small(kind) for kind in DETECTORS]
    paths = [str(tmp_path / f"{model.name}.keras") for model in models]
    for model, path in zip(models, paths):
        model.save(path)
    # Half of the time would go into optimising what runs once.
    environment = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    found = computed(RELOAD, {"images": images, "paths": np.array(paths)}, **environment)
    for index, model in enumerate(models):
        kind, config, threshold = eval(str(found.pop(f"{index} config")), {"null": None})
        assert kind == type(model).__name__ and threshold == 0.5
        assert config == {name: value for name, value in model.get_config().items() if name != "backbone"} | {
            "class_names": list(model.class_names)
        }
        outputs = model(images)
        boxes, scores = model.candidates(outputs)
        expected = {**outputs, "boxes": boxes, "scores": scores}
        own = {name.split(" ")[1]: value for name, value in found.items() if name.startswith(f"{index} ")}
        assert sorted(own) == sorted(expected)
        for name, value in expected.items():
            tolerance = {"boxes": 1e-3, "scores": 1e-6}.get(name, 1e-4)
            np.testing.assert_allclose(own[name], number(value), rtol=1e-4, atol=tolerance, err_msg=name)
        assert np.ptp(own["scores"]) > 1e-4


@each_detector
def test_every_setting_is_in_the_file(kind, tmp_path):
    model = detector(kind, spread=0.03, **CHANGED[kind], **SHARED)
    settings = {**model.get_config(), "threshold": 0.125}
    assert set(settings) == set(inspect.signature(kind).parameters), "all arguments of the constructor"
    assert {name: settings[name] for name in CHANGED[kind]} == CHANGED[kind]
    assert settings["image_size"] == [64, 64] and settings["class_names"] == ["red", "green", "blue"]
    model.threshold = 0.125  # as validation chose it
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again) is kind and list(again.backbone.output) == list(model.backbone.output)
    assert {**again.get_config(), "backbone": None} == {**settings, "backbone": None}
    assert (again.threshold, again.floor, again.overlap, again.most) == (0.125, 0.02, 0.3, 7)
    assert (again.source_ids, again.image_size, again.name) == ([3, 7, 1], (64, 64), "mine")
    images, targets = pictures(2)
    losses = [float(one.compute_loss(None, targets, one(images))) for one in (model, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert len(again.weights) == len(model.weights) and len({variable.path for variable in again.weights}) > 20


# Faster R-CNN takes JAX's compiler ten seconds.
ON_JAX = keras.backend.backend() == "jax"
FITTED = [
    pytest.param(RetinaNet, {"min_level": 5, "anchor_size": 0.75}, id="RetinaNet"),
    pytest.param(FasterRCNN, {"min_level": 4}, id="FasterRCNN", marks=[pytest.mark.slow] if ON_JAX else []),
    pytest.param(YOLO, {"min_level": 5}, id="YOLO"),
]


@pytest.mark.any_backend
@pytest.mark.parametrize(("kind", "settings"), FITTED)
def test_fit_trains_with_the_same_loss(kind, settings):
    """By Keras's own loop, compiled."""
    model, (images, targets) = detector(kind, **settings), pictures(4)
    keras_norms_off(model)
    if kind is YOLO:  # sides of 1 stride: where few predictions overlap a box there is little to lose at first
        model.get_layer("box").bias.assign(np.tile(np.eye(16)[1] * 4, 4))
    first = float(compiled(lambda: model.compute_loss(None, targets, model(images)))())
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), jit_compile=True)
    losses = model.fit(images, targets, batch_size=4, epochs=30, shuffle=False, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(first, rel=1e-4)
    assert losses[-1] < 0.95 * first


@each_detector
def test_the_first_weights_are_a_function_of_the_seed(kind):
    """Of the seed that is set before a model is built; and no two kernels begin alike."""
    settings = {"class_names": ["a"] * 4, "image_size": (64, 64), **SMALL[kind]}
    found = []
    for seed in (5, 6, 5):
        keras.utils.set_random_seed(seed)
        model = kind(backbone=pyramid(), **settings)
        found.append([number(variable) for variable in model.trainable_variables if len(variable.shape) > 1])
    for one, other, again in zip(*found):
        np.testing.assert_array_equal(one, again)
        assert not np.isclose(one, other).any()
    assert len({kernel.ravel()[0] for kernel in found[0]}) == len(found[0])


@pytest.fixture
def bfloat16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


@each_detector
def test_predictions_and_loss_are_float32_under_mixed_bfloat16(kind, bfloat16):
    model, (images, targets) = detector(kind, spread=0.03), pictures(2)
    kinds = {name: keras.backend.standardize_dtype(value.dtype) for name, value in model(images).items()}
    features = {name for name in kinds if name.startswith("P")}
    assert {kinds[name] for name in features} <= {"bfloat16"}, "the network computes in it"
    assert {kinds[name] for name in kinds.keys() - features} == {"float32"}
    loss, slopes = loss_and_gradients(model, images, targets)
    assert np.isfinite(loss) and all(np.isfinite(slope).all() for slope in slopes)
    keras.config.set_dtype_policy("float32")
    exact, _ = loss_and_gradients(detector(kind, spread=0.03), images, targets)
    assert loss == pytest.approx(exact, rel=0.1)
    boxes, scores = model.candidates(model(images))
    assert {keras.backend.standardize_dtype(value.dtype) for value in (boxes, scores)} == {"float32"}


def test_group_norms_take_any_even_number_of_channels():
    for channels in (6, 72):  # 72 is no multiple of 32
        model = detector(RetinaNet, norm="group", channels=channels)
        groups = {layer.groups for layer in model.layers if isinstance(layer, keras.layers.GroupNormalization)}
        assert groups == {math.gcd(32, channels // 2)}


def test_what_cannot_be_built_says_why():
    for kind in DETECTORS:
        with pytest.raises(ValueError, match="a detector needs the name of at least one class"):
            detector(kind, class_names=[])
    with pytest.raises(ValueError, match="box_loss: expected smooth_l1 or giou, got 'iou'"):
        detector(RetinaNet, box_loss="iou")
    with pytest.raises(ValueError, match=r"C1 \(stride 2\).*; expected C6 and coarser ones, each at half the size"):
        detector(RetinaNet, min_level=6)
    from resnet_tasks import backbones

    dilated = backbones.create("resnet_18", input_shape=(64, 64, 3), output_stride=16)
    with pytest.raises(ValueError, match=r"C5 \(stride 16\); expected C3 and coarser ones"):
        RetinaNet(backbone=dilated, class_names=["ant"])
    model = detector(YOLO, size=(None, None), image_size=(64, 64))
    with pytest.raises(ValueError, match="need pictures of a known height and width; give batches of a fixed size"):
        model.candidates(model.output)


LARGER = {
    RetinaNet: {"min_level": 3, "anchor_size": 2.5},
    FasterRCNN: {"min_level": 3, "anchor_size": 3.0, "width": 64},
    YOLO: {"min_level": 3},
}


def average_precision(answers: dict, targets: dict) -> float:
    """At IoU 0.5, the mean over the classes of the area under precision, made to fall, over recall."""
    found = []
    for label in range(3):
        hits, scores, total = [], [], 0
        for row in range(len(targets["labels"])):
            free = targets["boxes"][row][targets["labels"][row] == label]
            total += len(free)
            for place in np.flatnonzero(answers["label_ids"][row] == label):
                table = overlaps(free, answers["boxes"][row, place])
                hits.append(table.max(initial=0) >= 0.5)
                scores.append(answers["scores"][row, place])
                free = np.delete(free, table.argmax(), axis=0) if hits[-1] else free
        hits = np.array(hits, float)[np.argsort(-np.array(scores), kind="stable")]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        found.append((np.maximum.accumulate(precision[::-1])[::-1] * hits).sum() / total)
    return float(np.mean(found))


@each_detector
def test_a_tiny_one_learns_eight_pictures_by_heart(kind):
    import tensorflow as tf

    from resnet_tasks.detection.predictor import DetectionPredictor

    steps, (images, targets) = 120, pictures(8)
    model = detector(kind, widths=(8, 16, 32, 32, 32), channels=32, **LARGER[kind])
    optimizer, random = keras.optimizers.Adam(3e-3), np.random.default_rng(0)
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
        optimizer.learning_rate = 3e-3 * (0.5 + 0.5 * math.cos(math.pi * place / steps))
        key = tf.constant(random.integers(0, 2**31, (8, 2)), tf.int32)
        step(tf.constant(images), {**truth, "key": key})
    batch = {"image": tf.constant(images, tf.uint8), "scale": tf.ones(8), "size": tf.fill((8, 2), 64.0)}
    answers = {name: value.numpy() for name, value in DetectionPredictor(model).answer(batch).items()}
    assert average_precision(answers, targets) >= 0.95
    assert np.median(answers["scores"][:, 0]) > 0.5, "and it is sure of them"
