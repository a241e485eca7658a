"""From outputs to answers: the way back to the picture, suppression, padding, thresholds, and what counts as equal."""

import numpy as np
import pytest
import tensorflow as tf
from tiny_detectors import DETECTORS, detector

from resnet_tasks.detection.detector import Candidates
from resnet_tasks.detection.predictor import DetectionPredictor, describe, differences, draw


class Fixed:
    """A detector that finds the same in every picture."""

    image_size, most, overlap, floor, threshold = (64, 64), 5, 0.5, 0.1, 0.6
    class_names = ("ant", "bee")

    def __init__(self, boxes, scores):
        self.found = Candidates(tf.constant(boxes, tf.float32)[:, :, None], tf.constant(scores, tf.float32))

    def __call__(self, images, training):
        return images

    def candidates(self, outputs):
        return self.found


def answered(boxes, scores, scale=0.5, size=(100.0, 80.0)) -> dict:
    batch = {
        "image": tf.zeros((len(boxes), 64, 64, 3), tf.uint8),
        "scale": tf.fill([len(boxes)], scale),
        "size": tf.constant([size] * len(boxes)),
    }
    return {name: value.numpy() for name, value in DetectionPredictor(Fixed(boxes, scores)).answer(batch).items()}


def test_an_answer_is_in_pixels_of_the_picture_and_best_first():
    # On the canvas at half the size; the second overlaps the first by 0.8, the third is of another class.
    boxes = [[[10, 10, 20, 20], [10, 12, 20, 20], [10, 10, 20, 20], [30, 40, 60, 62]]]
    scores = [[[0.7, 0.0], [0.9, 0.0], [0.0, 0.65], [0.0, 0.2]]]
    answer = answered(boxes, scores)
    assert answer["boxes"][0].tolist() == [
        [20, 24, 40, 40],
        [20, 20, 40, 40],
        [60, 80, 80, 100],  # cut at the picture's border: 80 wide, 100 high
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    np.testing.assert_allclose(answer["scores"][0], [0.9, 0.65, 0.2, 0, 0])
    assert answer["label_ids"][0].tolist() == [0, 1, 1, -1, -1]
    assert answer["count"].tolist() == [2]


def test_what_lies_in_the_padding_or_below_the_floor_is_nothing():
    boxes = [[[45, 10, 60, 20], [0, 0, 10, 10], [5, 5, 5, 9]]]  # right of the picture; fine; without a width
    answer = answered(boxes, [[[0.9, 0.0], [0.09, 0.0], [0.8, 0.0]]])
    assert (answer["label_ids"] == -1).all()
    assert answer["count"].tolist() == [0]


def test_nothing_found_is_no_error():
    answer = answered([[[0, 0, 0, 0]]], [[[0.0, 0.0]]])
    assert not answer["boxes"].any() and not answer["scores"].any()


def test_a_row_is_described_by_the_models_threshold_or_another():
    answer = answered([[[0, 0, 10, 10], [20, 20, 30, 30]]], [[[0.7, 0.0], [0.0, 0.3]]])
    own = describe(["ant", "bee"], answer, 0)
    assert own["label_names"] == ["ant"] and own["boxes"] == [[0, 0, 20, 20]]
    assert describe(["ant", "bee"], answer, 0, threshold=0.25)["label_names"] == ["ant", "bee"]
    assert describe(["ant", "bee"], answer, 0, threshold=0.95)["boxes"] == []


def test_a_broken_picture_is_blank_and_costs_no_other():
    answer = answered([[[0, 0, 10, 10]]] * 2, [[[0.7, 0.0]]] * 2)
    predictor = DetectionPredictor(Fixed([[[0, 0, 1, 1]]], [[[0, 0]]]))
    blank = predictor.blank({name: tf.constant(value) for name, value in answer.items()}, tf.constant([True, False]))
    assert blank["label_ids"].numpy().tolist() == [[0, -1, -1, -1, -1], [-1] * 5]
    assert blank["count"].numpy().tolist() == [1, 0]
    assert not blank["boxes"][1].numpy().any() and blank["boxes"][0].numpy().any()


@pytest.mark.parametrize("kind", DETECTORS, ids=lambda kind: kind.__name__)
def test_an_answer_does_not_depend_on_the_other_pictures(kind):
    predictor = DetectionPredictor(detector(kind, spread=0.2, floor=1e-4))
    random = np.random.default_rng(0)
    sizes = [(64, 64), (40, 100), (200, 30)]
    prepared = [predictor.prepare(tf.constant(random.integers(0, 256, (*size, 3)), tf.uint8)) for size in sizes]
    for values, spec in zip(prepared[1].items(), predictor.canvas().items()):
        assert values[0] == spec[0] and spec[1].is_compatible_with(values[1])
    batch = {name: tf.stack([one[name] for one in prepared]) for name in prepared[0]}
    together = predictor.answer(batch)
    assert (together["label_ids"][:, 0] >= 0).numpy().any()
    for row, size in enumerate(sizes):
        alone = predictor.answer({name: value[row : row + 1] for name, value in batch.items()})
        here = {name: value[row : row + 1].numpy() for name, value in together.items()}
        apart = differences(here, {name: value.numpy() for name, value in alone.items()}, np.array([max(size)]))
        assert max(apart.values()) < 1e-5
        right_bottom = here["boxes"][0, :, 2:]
        assert (right_bottom <= [size[1], size[0]]).all()


def answers(*rows) -> dict:
    """Of one picture, from (box, score, label) each."""
    boxes, scores, ids = zip(*rows)
    return {"boxes": np.float32([boxes]), "scores": np.float32([scores]), "label_ids": np.int32([ids])}


def test_answers_are_equal_also_where_two_change_places():
    one, two, three = ([0, 0, 10, 10], 0.50001, 0), ([50, 50, 90, 90], 0.5, 1), ([5, 5, 6, 6], 0.1, 0)
    nothing = ([0, 0, 0, 0], 0.0, -1)
    side = np.array([100])
    assert differences(answers(one, two, nothing), answers(two, one, nothing), side) == {"boxes": 0.0, "scores": 0.0}
    moved = ([0, 0, 10, 10.5], 0.50001, 0)
    assert differences(answers(one, two, nothing), answers(moved, two, nothing), side)["boxes"] == pytest.approx(0.005)
    # The last one may be there or not; another may not.
    assert differences(answers(one, two, three), answers(one, two, nothing), side)["boxes"] == 0.0
    assert differences(answers(one, two, three), answers(one, three, nothing), side)["boxes"] == 1.0
    assert differences(answers(one, nothing), answers(([0, 0, 10, 10], 0.50001, 1), nothing), side)["boxes"] == 1.0


def test_a_drawing_shows_the_truth_beside_the_answer():
    image = np.zeros((40, 60, 3), np.uint8)
    answer = {"boxes": [[5, 5, 30, 30]], "scores": [0.9], "label_ids": [1], "label_names": ["bee"]}
    truth = {"boxes": np.array([[4, 5, 30, 31]]), "label_ids": [1], "label_names": ["bee"]}
    alone, both = draw(image, answer), draw(image, answer, truth=truth)
    assert both.width == 2 * alone.width + 8 and both.height == alone.height
    assert np.asarray(alone).any()
    empty = draw(image, {"boxes": [], "scores": [], "label_ids": [], "label_names": []})
    assert not np.asarray(empty).any()
