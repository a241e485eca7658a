"""`predict --tile`: each thing of a large picture once, whatever a seam cuts; for a run, a `.keras` and an artefact."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny_detectors import NAMES, detector

import resnet_tasks
from resnet_tasks.cli import answers as words
from resnet_tasks.cli.main import main
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.detection import RetinaNet
from resnet_tasks.detection.predictor import describe, draw
from resnet_tasks.detection.tiles import tiled
from resnet_tasks.engine.export import Servable
from resnet_tasks.engine.loaded import BATCH, Loaded
from resnet_tasks.engine.predicting import Paper, predict_files
from resnet_tasks.errors import UsageError
from resnet_tasks.geometry.windows import windows

CANVAS_HW = (160, 200)
SIZE_HW = (700, 1000)


def place_of_each_pixel(size_hw) -> np.ndarray:
    """A picture whose every pixel tells where it lies: x, y, and the third channel the higher bits of both."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.stack([x % 256, y % 256, x // 256 * 16 + y // 256], axis=-1).astype(np.uint8)


class Oracle:
    """Stands in for a model: knows the things of a large picture, and answers with what a view shows of them.

    It sees a thing that has 6 pixels a side on the canvas, if a third of it is in view; in a window exactly, in the
    whole picture to a pixel of the canvas; and is the less sure of it the less is to be seen.
    """

    def __init__(self, boxes: np.ndarray, labels: np.ndarray):
        self.boxes, self.labels, self.batches = boxes, labels, []

    def __call__(self, encoded: tf.Tensor) -> dict:
        self.batches.append(len(encoded))
        rows = [self._answer(data.numpy()) for data in encoded]
        return {name: tf.constant(np.stack([row[name] for row in rows])) for name in rows[0]}

    def _answer(self, encoded: bytes) -> dict:
        view = np.asarray(Image.open(io.BytesIO(encoded))) if encoded else np.zeros((1, 1, 3), np.uint8)
        corner = view[0, 0].astype(int)
        left, top = corner[0] + corner[2] // 16 * 256, corner[1] + corner[2] % 16 * 256
        height, width = view.shape[:2]
        scale = min(1.0, CANVAS_HW[0] / height, CANVAS_HW[1] / width)
        shown = self.boxes.clip((left, top) * 2, (left + width, top + height) * 2)
        sides, whole = shown[:, 2:] - shown[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]
        share = sides.prod(axis=1) / whole.prod(axis=1)
        seen = np.flatnonzero((share >= 1 / 3) & (sides.min(axis=1) * scale >= 6))
        shown = np.round((shown[seen] - (left, top) * 2) * scale) / scale
        answer = {
            "boxes": np.zeros((100, 4), np.float32),
            "scores": np.zeros(100, np.float32),
            "label_ids": np.full(100, -1, np.int32),
            "count": np.int32((share[seen] >= 0.5).sum()),
            "readable": bool(encoded),
        }
        order = np.argsort(-share[seen], kind="stable")
        answer["boxes"][: len(seen)] = shown[order]
        answer["scores"][: len(seen)] = share[seen][order]
        answer["label_ids"][: len(seen)] = self.labels[seen][order]
        return answer


def loaded(oracle) -> Loaded:
    def described(answers, row, threshold=None):
        return describe(list(NAMES), answers, row, threshold)

    model = Loaded("detect", LabelMap(NAMES), oracle, described, None, "nowhere")
    model.image_size, model.tiled = CANVAS_HW, tiled
    return model


def scene(seed: int, count: int, smallest: int, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes anywhere in the picture, whole pixels, none over another; and their labels."""
    random, boxes = np.random.default_rng(seed), np.zeros((0, 4))
    for _ in range(20 * count):
        sides = random.integers(smallest, largest, 2)
        corner = random.integers(0, (SIZE_HW[1] - sides[0], SIZE_HW[0] - sides[1]), endpoint=True)
        box = np.array([*corner, *(corner + sides)])
        apart = (boxes[:, :2] >= box[2:]).any(axis=1) | (boxes[:, 2:] <= box[:2]).any(axis=1)
        if apart.all() and len(boxes) < count:
            boxes = np.concatenate([boxes, [box]])
    return boxes, random.integers(0, len(NAMES), len(boxes))


def by_place(boxes, labels) -> list[tuple]:
    return sorted((*np.round(box).astype(int).tolist(), int(label)) for box, label in zip(boxes, labels))


@pytest.mark.parametrize("seed", range(2))
def test_every_thing_that_a_window_can_hold_is_found_once_and_exactly(seed):
    # A fifth of the canvas is 32 x 40: what is no larger is whole in some window; in the whole picture it is too small.
    boxes, labels = scene(seed, 300, 8, 32)
    assert len(boxes) > 250
    oracle = Oracle(boxes, labels)
    (answer,) = loaded(oracle).predict(place_of_each_pixel(SIZE_HW), tile=True)
    assert answer.keys() == {"file", "boxes", "scores", "label_ids", "label_names"}
    assert by_place(answer["boxes"], answer["label_ids"]) == by_place(boxes, labels)
    assert answer["label_names"] == [NAMES[label] for label in answer["label_ids"]]
    assert answer["scores"] == [1.0] * len(boxes)  # more than the hundred of one view, all of them seen whole
    json.dumps(answer)
    views = len(windows(SIZE_HW, CANVAS_HW)) + 1
    assert sum(oracle.batches) == views and max(oracle.batches) <= BATCH


@pytest.mark.parametrize("seed", range(2))
def test_things_of_every_size_are_found_once(seed):
    # The windows show 200 x 160; the largest things are twice that, and seen whole in the whole picture only, where
    # a pixel of the canvas is 5 of the picture; those between come from there, or from their halves.
    boxes, labels = scene(seed, 12, 150, 400)
    small, small_labels = scene(seed + 10, 150, 10, 32)
    apart = (small[:, None, :2] >= boxes[:, 2:]) | (small[:, None, 2:] <= boxes[:, :2])
    clear = apart.any(axis=2).all(axis=1)
    boxes, labels = np.concatenate([boxes, small[clear]]), np.concatenate([labels, small_labels[clear]])
    (answer,) = loaded(Oracle(boxes, labels)).predict(place_of_each_pixel(SIZE_HW), tile=True)
    assert len(answer["boxes"]) == len(boxes) > 40
    found = np.array(answer["boxes"])
    for box, label in zip(boxes, labels):
        off = np.abs(found - box).max(axis=1)
        nearest = np.argmin(off)
        assert off[nearest] <= 5 / 2 + 1e-3 and answer["label_ids"][nearest] == label


def test_a_thing_in_a_window_and_in_none_by_its_halves():
    # 90 x 12, across the seam at 160..200 between the first two windows: too low for the whole picture (12 / 5 pixels),
    # too wide for either window; 75 and 55 of 90 are in view.
    oracle = Oracle(np.array([[125.0, 40, 215, 52]]), np.array([1]))
    assert windows(SIZE_HW, CANVAS_HW)[:2, [0, 2]].tolist() == [[0, 200], [160, 360]]
    (answer,) = loaded(oracle).predict(place_of_each_pixel(SIZE_HW), tile=True)
    assert answer["boxes"] == [[125, 40, 215, 52]]
    assert answer["scores"] == pytest.approx([75 / 90])


def test_the_threshold_is_the_models_own_or_the_one_asked_for():
    # 100 x 12: of it 45 are in the first window, share 0.45, below the model's 0.5; 95 in the second.
    oracle = Oracle(np.array([[155.0, 40, 255, 52]]), np.array([1]))
    picture = place_of_each_pixel(SIZE_HW)
    assert loaded(oracle).predict(picture, tile=True)[0]["boxes"] == [[160, 40, 255, 52]]
    (answer,) = loaded(oracle).predict(picture, threshold=0.4, tile=True)
    assert answer["boxes"] == [[155, 40, 255, 52]]
    assert answer["scores"] == pytest.approx([0.95])
    assert loaded(oracle).predict(picture, threshold=0.96, tile=True)[0]["boxes"] == []


def test_small_broken_and_large_pictures_keep_their_order_and_small_ones_their_batches(tmp_path):
    box = np.array([[20.0, 30, 50, 60]])
    oracle = Oracle(box, np.array([2]))
    Image.fromarray(place_of_each_pixel(SIZE_HW)).save(tmp_path / "large.png")
    (tmp_path / "words.png").write_text("not a picture")
    small = [place_of_each_pixel((80, 70 + number)) for number in range(3)]
    small.append(place_of_each_pixel(CANVAS_HW))
    asked = [*small, tmp_path / "words.png", tmp_path / "none.png", tmp_path / "large.png", small[0]]
    model = loaded(oracle)
    answers = model.predict(asked, tile=True)
    names = ["0", "1", "2", "3", *(str(tmp_path / name) for name in ("words.png", "none.png", "large.png")), "7"]
    assert [answer["file"] for answer in answers] == names
    assert ["error" in answer for answer in answers] == [False] * 4 + [True] * 2 + [False] * 2
    assert answers[4:6] == model.predict(asked[4:6])
    assert all(answer["boxes"] == box.tolist() for answer in answers if "error" not in answer)
    assert oracle.batches[0] == 6  # those that need no windows, together
    assert answers[0] == model.predict(small[:1])[0]
    streamed = model.predict(iter(asked), tile=True)
    assert next(streamed) == answers[0] and list(streamed) == answers[1:]


def test_a_view_that_cannot_be_answered_is_an_error_of_that_picture():
    class Refusing(Oracle):
        def __call__(self, encoded):
            return {**super().__call__(encoded), "readable": tf.zeros(len(encoded), tf.bool)}

    model = loaded(Refusing(np.array([[20.0, 30, 50, 60]]), np.array([2])))
    (answer,) = model.predict([place_of_each_pixel(SIZE_HW)], tile=True)
    assert answer == {"file": "0", "error": "not a picture that can be read, or damaged"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A detector that nobody has trained, from a run folder: it answers something everywhere."""
    run = tmp_path_factory.mktemp("run")
    (run / "recipe.yaml").touch()  # what a run folder is known by; it answers by its model.keras
    detector(RetinaNet, (64, 96), spread=0.05, threshold=0.02, floor=0.02, most=30).save(run / "model.keras")
    return resnet_tasks.load(run)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.png"
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((200, 130), Image.Resampling.BICUBIC).save(path)
    return path


def same(answer: dict, expected: dict) -> None:
    assert answer["label_ids"] == expected["label_ids"]
    np.testing.assert_allclose(answer["boxes"], expected["boxes"], atol=0.02)  # 1e-4 of the longer side
    np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-4)


def test_run_and_artefact_answer_alike(model, large, tmp_path):
    servable = Servable(model.predictor, model.labels)
    tf.saved_model.save(servable, str(tmp_path), signatures={"serving_default": servable.from_bytes})
    (tmp_path / "assets" / "labels.json").write_text(json.dumps(model.labels.to_json()))
    (tmp_path / "model_card.json").write_text(json.dumps({"task": "detect", "image_size": [64, 96]}))
    artefact = resnet_tasks.load(tmp_path)
    assert artefact.image_size == model.image_size == (64, 96)
    (expected,) = model.predict(large, tile=True)
    assert len(expected["boxes"]) > 10
    same(artefact.predict(large, tile=True)[0], expected)
    # Without --tile the picture is answered otherwise; a picture of the canvas's size is not.
    assert model.predict(large)[0]["boxes"] != expected["boxes"]
    window = np.asarray(Image.open(large))[:64, :96]
    assert model.predict(window, tile=True) == model.predict(window)


def test_the_command_answers_by_a_keras_file_in_json_and_lines(model, large, tmp_path, capsys):
    asked = ["detect", "predict", str(model.path), str(large), "--output", str(tmp_path), "--tile", "--json"]
    assert model.path.name == "model.keras"
    assert main(asked) == 0
    (answer,) = json.loads(capsys.readouterr().out.splitlines()[-1])["pictures"]
    assert [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()] == [answer]
    same(answer, model.predict(str(large), tile=True)[0])
    assert len(list(tmp_path.glob("large-*.png"))) == 1


@pytest.mark.parametrize("tile", [True, False])
def test_answers_with_and_without_are_not_mixed(model, large, tmp_path, tile):
    def predicted(tile):
        return predict_files(model, [str(large)], Paper(draw), tmp_path, None, False, tile)["pictures"]

    first = predicted(tile)
    assert predicted(tile) == first
    with pytest.raises(UsageError, match=f"holds answers made {'with' if tile else 'without'} --tile; name another"):
        predicted(not tile)
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 1


def test_a_task_without_windows_says_which_have_them(digits_run, digits_model, large, capsys):
    assert main(["classify", "predict", str(digits_run), str(large), "--tile"]) == 2
    said = capsys.readouterr().err
    assert "--tile: classify answers each picture as a whole (tasks that have it: detect, segment)" in said
    with pytest.raises(UsageError, match="tile: a model of the task 'classify' answers each picture as a whole"):
        digits_model.predict([large], tile=True)


def test_of_nothing_found_the_best_score_is_known_to_people_and_not_to_json():
    answer = {
        "boxes": np.zeros((2, 3, 4), np.float32),
        "scores": np.float32([[0.312, 0.1, 0.0], [0.0, 0.0, 0.0]]),
        "label_ids": np.int32([[1, 0, -1], [-1, -1, -1]]),
        "count": np.int32([0, 0]),
        "readable": np.array([True, True]),
    }

    def described(answers, row, threshold=None):
        return describe(list(NAMES), answers, row, threshold)

    def rows(encoded):
        return {name: tf.constant(values[np.arange(len(encoded)) % 2]) for name, values in answer.items()}

    model = Loaded("detect", LabelMap(NAMES), rows, described, None, "nowhere")
    model.image_size, model.tiled, model.threshold = CANVAS_HW, tiled, 0.42
    small = np.zeros((*CANVAS_HW, 3), np.uint8)
    first, second = model.predict([small, small])
    assert words.detect(first) == "nothing (the best score is 0.31, the threshold 0.42)"
    assert words.detect(second) == "nothing"
    assert json.loads(json.dumps(first)) == {
        "file": "0", "boxes": [], "scores": [], "label_ids": [], "label_names": []
    }  # fmt: skip
    assert words.detect(model.predict([small], threshold=0.2)[0]).startswith("1 ")
    (large,) = model.predict([np.zeros((*SIZE_HW, 3), np.uint8)], tile=True)
    assert words.detect(large) == "nothing (the best score is 0.31, the threshold 0.42)"
    assert words.detect({"boxes": [], "scores": [], "label_ids": []}) == "nothing"  # out of predictions.jsonl
