"""From logits to masks: the way back to the picture, the same answer in every form, what is said of it and drawn."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_segmenters import NAMES, segmenter

from resnet_tasks.data.drawing_masks import legend, overlay, palette_of
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.masks import IGNORE, grey_png
from resnet_tasks.engine.export import export_saved_model
from resnet_tasks.engine.loaded import Loaded
from resnet_tasks.segmentation import DeepLabV3Plus, UNet, predictor
from resnet_tasks.segmentation.predictor import (
    GAP,
    MOST_NAMED,
    SegmentationPredictor,
    decoded,
    describe,
    differences,
    draw,
    mask_of,
    prepare,
    summarised,
    tiled,
)
from resnet_tasks.segmentation.tiles import tiled as blended

CANVAS_HW = (48, 64)


def smooth(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Coarse noise, enlarged: float32, about 0..255."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (channels, 5, 6)).astype(np.float32)
    large = [Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC) for channel in coarse]
    return np.stack([np.asarray(channel) for channel in large], axis=-1)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return smooth(height, width, seed=seed).clip(0, 255).astype(np.uint8)


def tents(out: int, scale: float) -> np.ndarray:
    """What each of `out` pixels of a picture takes of those of its canvas that show it, by the triangle filter.

    A canvas pixel lies at its centre, and spans 1 / scale of the picture's; where that is less than one pixel, the
    filter is as wide as the picture's pixel.  Beyond the last centre it is as there.
    """
    shown = max(1, int(np.floor(out * scale - 0.5 - 1e-3)) + 1)
    centres = (np.arange(out) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(shown + 1) + 0.5 - centres[:, None]) / max(1.0, scale))
    weights /= weights.sum(axis=1, keepdims=True)
    weights[:, -2] += weights[:, -1]
    return weights[:, :-1]


def reference(logits: np.ndarray, scale: float, size: tuple[int, int]) -> np.ndarray:
    """The logits of the picture's own pixels, in float64."""
    rows, columns = (tents(length, scale) for length in size)
    seen = logits[: rows.shape[1], : columns.shape[1]].astype(np.float64)
    return np.einsum("pw,owc->opc", columns, np.einsum("oh,hwc->owc", rows, seen))


# Larger than the canvas, smaller, the canvas's own; wide and high; in one direction just a pixel or two of the canvas.
SIZES = [(97, 131), (131, 97), (48, 64), (30, 40), (17, 20), (200, 31), (5, 300), (150, 260), (48, 10), (1, 1), (90, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("classes", [2, 21])
def test_a_mask_is_that_of_the_logits_resampled(size, classes):
    scale = min(one / other for one, other in zip(CANVAS_HW, size))
    logits = smooth(*CANVAS_HW, classes, seed=classes)
    mask = mask_of(tf.constant(logits), tf.constant(scale, tf.float32), tf.constant(size), CANVAS_HW)
    assert mask.dtype == tf.uint8 and mask.shape == size
    expected = reference(logits, scale, size)
    best = np.sort(expected, axis=-1)
    clear = best[..., -1] - best[..., -2] > 1e-2
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(mask.numpy()[clear], expected.argmax(axis=-1)[clear])
    if scale < 1:  # then it is plain interpolation between the centres, and as at the outermost ones beyond these
        rows = min(CANVAS_HW[0], tents(size[0], scale).shape[1])
        column = np.interp((np.arange(size[0]) + 0.5) * scale, np.arange(rows) + 0.5, logits[:rows, 0, 0])
        np.testing.assert_allclose(expected[:, 0, 0], column, rtol=1e-6, atol=1e-4)


def test_on_a_canvas_of_the_pictures_size_every_pixel_has_its_own_best_class():
    logits = np.random.default_rng(0).normal(size=(*CANVAS_HW, 30)).astype(np.float32)
    one = tf.function(lambda scores: mask_of(scores, tf.constant(1.0), tf.constant(CANVAS_HW), CANVAS_HW))
    np.testing.assert_array_equal(one(tf.constant(logits)), logits.argmax(axis=-1))


@pytest.mark.parametrize("at_once", [1, 3, 8, 100])
def test_classes_are_compared_in_parts_as_in_one_go(at_once, monkeypatch):
    monkeypatch.setattr(predictor, "AT_ONCE", at_once)
    # Whole numbers: many are equally good, and the first of these is taken, in whatever part it is.
    logits = np.random.default_rng(0).integers(0, 4, (*CANVAS_HW, 17)).astype(np.float32)
    mask = mask_of(tf.constant(logits), tf.constant(1.0), tf.constant(CANVAS_HW), CANVAS_HW)
    np.testing.assert_array_equal(mask, logits.argmax(axis=-1))


@pytest.mark.parametrize("size", [(97, 131), (131, 97), (300, 500), (49, 65), (1000, 20)], ids=str)
def test_no_class_comes_in_at_the_border(size):
    """The last pixels of a picture lie beyond the last centre of the canvas that shows it; below it is padding."""
    canvas = prepare(tf.zeros((*size, 3), tf.uint8), CANVAS_HW)
    logits = np.full((*CANVAS_HW, 3), -9, np.float32)
    rows, columns = np.ceil(np.multiply(size, float(canvas["scale"])) - 0.501).astype(int).clip(1)
    logits[:rows, :columns] = [-1, 0, -1]
    mask = mask_of(tf.constant(logits), canvas["scale"], canvas["size"], CANVAS_HW)
    assert (mask.numpy() == 1).all()


class Pointwise:
    """A segmenter of four classes that judges a pixel by its colour alone, or by its whole canvas's mean too."""

    image_size, class_names = CANVAS_HW, NAMES
    weights = np.float32([[0.1, -0.2, 0.05, 0], [0, 0.1, 0.1, -0.2], [-0.1, 0.1, -0.1, 0.2]])

    def __init__(self, about: float = 0.0):
        self.about = about

    def __call__(self, images, training):
        images = tf.cast(images, tf.float32)
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        return {"logits": tf.tensordot(images - self.about * mean, self.weights, 1)}


def prepared(of: SegmentationPredictor, images: list[np.ndarray]) -> dict:
    rows = [of.prepare(tf.constant(image)) for image in images]
    batch = {name: tf.stack([row[name] for row in rows]) for name in rows[0]}
    for name, spec in of.canvas().items():
        assert batch[name].dtype == spec.dtype and batch[name].shape[1:] == spec.shape
    return batch


MIXED = [picture(97, 131, 1), picture(12, 10, 2), picture(*CANVAS_HW, 3), picture(64, 200, 4)]


def test_a_picture_is_answered_at_its_own_size_and_its_answer_is_its_own():
    of = SegmentationPredictor(Pointwise(about=0.5))
    together = of.answer(prepared(of, MIXED))["mask_png_bytes"].numpy()
    for png, image in zip(together, MIXED):
        mask = decoded(png)
        assert mask.shape == image.shape[:2] and len(np.unique(mask)) > 1
        alone = of.answer(prepared(of, [image]))["mask_png_bytes"].numpy()
        np.testing.assert_array_equal(decoded(alone[0]), mask)
    logits = tf.tensordot(tf.cast(MIXED[2], tf.float32) - 0.5 * MIXED[2].mean((0, 1)), Pointwise.weights, 1)
    assert (decoded(together[2]) == logits.numpy().argmax(-1)).mean() > 0.999


def test_pictures_of_one_size_are_answered_alike_as_an_array():
    of, images = SegmentationPredictor(Pointwise()), [picture(71, 95, seed) for seed in range(3)]
    batch = prepared(of, images)
    masks = of.answer_alike(batch)["mask"]
    assert masks.dtype == tf.uint8 and masks.shape == (3, 71, 95)
    pngs = of.answer(batch)["mask_png_bytes"].numpy()
    np.testing.assert_array_equal(masks, [decoded(png) for png in pngs])
    assert differences({"mask": masks.numpy()}, {"mask": masks.numpy()}, np.array([95] * 3)) == {"mask": 0.0}


def test_scores_are_probabilities_of_the_windows_own_pixels():
    of = SegmentationPredictor(Pointwise())
    windows = np.stack([picture(*CANVAS_HW, seed) for seed in range(2)])
    scores = of.scores(tf.constant(windows)).numpy()
    exps = np.exp(windows.astype(np.float64) @ Pointwise.weights)
    np.testing.assert_allclose(scores, exps / exps.sum(axis=-1, keepdims=True), atol=1e-5)


def test_a_picture_that_could_not_be_read_is_blank():
    pngs = tf.constant([grey_png(np.full((2, 2), label, np.uint8)) for label in (0, 1, 2)])
    of = SegmentationPredictor(Pointwise())
    blank = of.blank({"mask_png_bytes": pngs}, tf.constant([True, False, True]))
    assert blank["mask_png_bytes"].numpy().tolist() == [pngs[0].numpy(), b"", pngs[2].numpy()]


MASK = np.array([[2, 2, 2, 0], [2, 2, 0, 3]], np.uint8)


def test_a_row_is_described_by_its_classes_the_largest_first():
    answers = {"mask_png_bytes": np.array([b"", grey_png(MASK)], object)}
    found = describe(NAMES, answers, 1)
    np.testing.assert_array_equal(found.pop("mask"), MASK)
    assert found == {
        "label_ids": [2, 0, 3],
        "label_names": ["green", "ground", "blue"],
        "shares": [5 / 8, 2 / 8, 1 / 8],
    }
    json.dumps(found)
    few = describe(NAMES, answers, 1, threshold=0.2)
    assert (few["label_ids"], few["shares"]) == ([2, 0], [5 / 8, 2 / 8])
    np.testing.assert_array_equal(few["mask"], MASK)
    assert describe(NAMES, answers, 1, threshold=2 / 8)["label_ids"] == [2, 0], "classes with less are left out"
    assert describe(NAMES, answers, 1, threshold=0.0)["label_ids"] == [2, 0, 3]
    assert SegmentationPredictor(Pointwise()).describe(answers, 1)["label_names"] == found["label_names"]


def test_classes_of_equal_shares_come_in_the_order_of_their_ids():
    assert summarised(NAMES, np.uint8([[3, 1], [1, 3]]))["label_ids"] == [1, 3]


def test_answers_differ_by_the_largest_share_of_a_pictures_pixels():
    other, side = MASK.copy(), np.array([4, 4])
    other[0, 0] = 1
    one = {"mask_png_bytes": np.array([grey_png(MASK), grey_png(MASK)], object), "readable": np.array([True, True])}
    two = {**one, "mask_png_bytes": np.array([grey_png(MASK), grey_png(other)], object)}
    assert differences(one, one, side) == {"mask_png_bytes": 0.0, "readable": 0.0}
    assert differences(one, two, side) == {"mask_png_bytes": 1 / 8, "readable": 0.0}
    smaller = np.array([grey_png(MASK), grey_png(MASK[:1])], object)
    empty = np.array([grey_png(MASK), b""], object)
    for wrong in (smaller, empty):
        assert differences(one, {**one, "mask_png_bytes": wrong}, side)["mask_png_bytes"] == 1.0
        assert differences({**one, "mask_png_bytes": wrong}, one, side)["mask_png_bytes"] == 1.0
    assert differences({"mask_png_bytes": empty}, {"mask_png_bytes": empty}, side) == {"mask_png_bytes": 0.0}
    assert differences(one, {**one, "readable": np.array([True, False])}, side)["readable"] == 1.0
    assert differences({"mask": np.stack([MASK] * 2)}, {"mask": np.stack([MASK, other])}, side) == {"mask": 1 / 8}
    of = SegmentationPredictor(Pointwise())
    assert of.differences(one, two, side) == differences(one, two, side)


def test_a_drawing_is_the_picture_under_its_mask_with_a_legend():
    labels = LabelMap(NAMES)
    image, mask = picture(120, 200), np.repeat(np.repeat(MASK, 60, 0), 50, 1)
    palette = palette_of(labels)
    sheet = draw(image, summarised(NAMES, mask), labels)
    strip = legend(["green", "ground", "blue"], [palette[label] for label in (2, 0, 3)])
    assert sheet.size == (max(200, strip.width), 120 + strip.height)
    np.testing.assert_array_equal(np.asarray(sheet)[:120, :200], overlay(image, mask, palette))
    np.testing.assert_array_equal(np.asarray(sheet)[120:, : strip.width], strip)
    # Without a label map the classes that are there have their names, and colours of our own.
    assert draw(image, summarised(NAMES, mask)).size == sheet.size


def test_the_truth_stands_on_the_left_and_its_classes_in_the_legend():
    labels = LabelMap(NAMES, colors=((0, 0, 0), (200, 0, 0), (0, 200, 0), (0, 0, 200)))
    image, mask = picture(60, 300), np.repeat(np.repeat(MASK, 30, 0), 75, 1)
    truth = np.full((60, 300), 1, np.uint8)
    truth[:30] = IGNORE
    sheet = draw(image, summarised(NAMES, mask), labels, truth)
    # red 9000 pixels, green 11250, ground 4500, blue 2250; void is no class
    strip = legend(["green", "red", "ground", "blue"], [labels.colors[label] for label in (2, 1, 0, 3)])
    assert sheet.size == (2 * 300 + GAP, 60 + strip.height)
    drawn = np.asarray(sheet)
    np.testing.assert_array_equal(drawn[:60, :300], overlay(image, truth, labels.colors))
    np.testing.assert_array_equal(drawn[:60, 300 + GAP :], overlay(image, mask, labels.colors))
    assert (drawn[:60, 300 : 300 + GAP] == 255).all()
    np.testing.assert_array_equal(drawn[60:, : strip.width], strip)


def test_of_many_classes_the_largest_are_named():
    names = tuple(f"class {number}" for number in range(40))
    mask = np.repeat(np.arange(40, dtype=np.uint8), np.arange(40) + 1)[None]
    sheet = draw(picture(1, mask.size), summarised(names, mask), LabelMap(names))
    largest = list(range(39, 39 - MOST_NAMED, -1))
    colours = palette_of(LabelMap(names))
    strip = legend([names[label] for label in largest], [colours[label] for label in largest])
    np.testing.assert_array_equal(np.asarray(sheet)[1:, : strip.width], strip)


# A network, and what it is exported as


@pytest.fixture(scope="module")
def model() -> Loaded:
    """A segmenter that nobody has trained."""
    network = segmenter(UNet, (64, 64), spread=0.1)
    of = SegmentationPredictor(network)
    loaded = Loaded.of_model("segment", of, LabelMap(NAMES, (0, 5, 6, 7)), "nowhere")
    loaded.tiled = tiled
    return loaded


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> tuple[Loaded, dict]:
    """The same as an artefact, and how far it is from the model."""
    folder = tmp_path_factory.mktemp("exported") / "1"
    card = {"task": "segment", "image_size": list(model.image_size)}
    files = [*map(png_of, (picture(97, 131), picture(40, 33))), b"words"]
    parity = export_saved_model(model.predictor, model.labels, card, files, folder)
    loaded = Loaded.of_artefact(folder, describe)
    loaded.tiled = tiled
    return loaded, parity


def png_of(image: np.ndarray) -> bytes:
    """A picture's file."""
    import io

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def same(answers: list[dict], expected: list[dict]) -> None:
    for answer, other in zip(answers, expected, strict=True):
        assert answer.keys() == other.keys() and answer["file"] == other["file"]
        if "error" not in answer:
            assert (answer["mask"] != other["mask"]).mean() <= 1e-4
            assert answer["label_ids"] == other["label_ids"]


def test_the_artefact_agrees_and_serves_scores(model, exported):
    artefact, parity = exported
    assert parity["agrees"] and parity["images"] == 3
    assert parity["differences"].keys() == {"mask_png_bytes", "mask", "readable"}
    signatures = artefact.saved.signatures
    assert set(signatures) == {"serving_default", "serve_images", "serve_scores"}
    assert signatures["serving_default"].structured_outputs.keys() == {"mask_png_bytes", "readable"}
    pictures = [*MIXED, b"words"]
    expected = model.predict(pictures)
    assert expected[4] == {"file": "4", "error": "not a picture: it begins with b'words'"}
    assert all(len(answer["label_ids"]) > 1 for answer in expected[:1])
    same(artefact.predict(pictures), expected)
    masks = signatures["serve_images"](images=tf.constant(MIXED[0][None]))["mask"].numpy()
    assert masks.dtype == np.uint8 and (masks[0] != expected[0]["mask"]).mean() <= 1e-4
    windows = np.stack([picture(64, 64, seed) for seed in range(2)])
    logits = model.keras_model(windows.astype(np.float32), training=False)["logits"]
    for scores in (model.scores, artefact.scores):
        np.testing.assert_allclose(scores(windows), tf.nn.softmax(logits), atol=1e-5)


def test_what_is_served_says_nothing_of_an_auxiliary_head(tmp_path):
    network = segmenter(DeepLabV3Plus, (32, 32), spread=0.1, widths=(8, 8), image_size=(32, 32), rates=[1], aux=True)
    of, card = SegmentationPredictor(network), {"task": "segment", "image_size": [32, 32]}
    assert export_saved_model(of, LabelMap(NAMES), card, [png_of(picture(40, 33))], tmp_path / "1")["agrees"]
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serve_scores"]
    scores = served(images=tf.constant(picture(32, 32)[None]))
    assert {name: value.shape for name, value in scores.items()} == {"probabilities": (1, 32, 32, 4)}
    logits = network(picture(32, 32)[None].astype(np.float32), training=False)["logits"]
    np.testing.assert_allclose(scores["probabilities"], tf.nn.softmax(logits), atol=1e-5)


def test_in_windows_model_and_artefact_answer_alike(model, exported):
    artefact, _ = exported
    pictures = [picture(150, 200), picture(64, 64), picture(40, 90), b"words"]
    expected = model.predict(pictures, tile=True)
    same(artefact.predict(pictures, tile=True), expected)
    whole = model.predict(pictures)
    assert (whole[0]["mask"] != expected[0]["mask"]).mean() > 0.01, "in windows things are larger"
    same(expected[1:2], whole[1:2])  # one that fits has the answer of the whole
    by_hand = blended(pictures[0], (64, 64), model.scores)
    np.testing.assert_array_equal(expected[0]["mask"], by_hand)
    assert expected[0]["shares"] == summarised(NAMES, by_hand)["shares"]
    assert expected[3]["error"] == whole[3]["error"]
    streamed = model.predict(iter(pictures), tile=True)
    same(list(streamed), expected)
