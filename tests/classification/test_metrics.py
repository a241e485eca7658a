"""The measures against scikit-learn, and by hand where it has none."""

import json

import numpy as np
import pytest
from sklearn import metrics as theirs

from resnet_tasks.classification.metrics import calibration_error, measure, reliability
from resnet_tasks.errors import DataError

CLASSES = 7
ABSENT = 5  # a class without a picture
NAMES = tuple("abcdefg")


def drawn(count: int = 230) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `(count, 7)`, of which half or so are right, and truths, of which none is class 5."""
    draw = np.random.default_rng(0)
    truth = draw.choice([0, 0, 0, 1, 2, 3, 4, 6], count)
    logits = draw.normal(0, 1, (count, CLASSES)) + 1.5 * np.eye(CLASSES)[truth]
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32), truth.astype(np.int32)


def pairs(probabilities, truth, batch: int = 64):
    """As evaluation hands them over: the last batch is filled with padding, confidently wrong."""
    for start in range(0, len(truth), batch):
        index = np.arange(start, start + batch)
        real = index < len(truth)
        rows = np.minimum(index, len(truth) - 1)
        shown = np.where(real[:, None], probabilities[rows], np.roll(np.eye(CLASSES)[truth[rows]], 1, axis=1))
        targets = {"label": truth[rows], "index": np.where(real, index, -1), "weight": real.astype(np.float32)}
        yield {"probabilities": shown.astype(np.float32)}, targets


def of(probabilities, truth, index=None, weight=None, names=NAMES) -> dict:
    """Measures one batch."""
    count = len(truth)
    targets = {
        "label": np.int32(truth),
        "index": np.arange(count) if index is None else np.array(index),
        "weight": np.ones(count, np.float32) if weight is None else np.float32(weight),
    }
    return measure([({"probabilities": np.float32(probabilities)}, targets)], names)


def test_the_figures_are_scikit_learns():
    probabilities, truth = drawn()
    answer, occurring = probabilities.argmax(axis=1), sorted(set(truth.tolist()))
    got = measure(pairs(probabilities, truth), NAMES)
    assert 0.3 < got["top1"] < 0.9  # neither trivial
    assert got["top1"] == theirs.accuracy_score(truth, answer)
    assert got["top5"] == theirs.top_k_accuracy_score(truth, probabilities, k=5, labels=range(CLASSES))
    assert got["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(truth, answer), rel=1e-12)
    expected_f1 = theirs.f1_score(truth, answer, average="macro", labels=occurring)
    assert got["macro_f1"] == pytest.approx(expected_f1, rel=1e-12)
    expected_loss = theirs.log_loss(truth, probabilities.astype(np.float64), labels=range(CLASSES))
    assert got["loss"] == pytest.approx(expected_loss, rel=1e-6)
    np.testing.assert_array_equal(got["confusion"], theirs.confusion_matrix(truth, answer, labels=range(CLASSES)))
    assert (got["images"], got["unreadable"]) == (230, 0)


def test_every_class_has_scikit_learns_figures_and_an_absent_one_no_recall():
    probabilities, truth = drawn()
    rows = measure(pairs(probabilities, truth), NAMES)["per_class"]
    expected = theirs.precision_recall_fscore_support(
        truth, probabilities.argmax(axis=1), labels=range(CLASSES), zero_division=0
    )
    assert list(rows) == list(NAMES)
    for label, row in enumerate(rows.values()):
        precision, recall, f1, images = (column[label] for column in expected)
        assert row["images"] == images
        assert row["precision"] == pytest.approx(precision, rel=1e-12)
        assert row["f1"] == pytest.approx(f1, rel=1e-12)
        assert row["recall"] is None if label == ABSENT else row["recall"] == pytest.approx(recall, rel=1e-12)
    assert rows[NAMES[ABSENT]]["images"] == 0


def test_the_cut_into_batches_and_their_padding_count_for_nothing():
    probabilities, truth = drawn()
    whole = of(probabilities, truth)
    for batch in (1, 64, 229, 1000):
        got = measure(pairs(probabilities, truth, batch), NAMES)
        assert got["loss"] == pytest.approx(whole["loss"], rel=1e-12)
        assert {**got, "loss": 0} == {**whole, "loss": 0}


def test_pictures_that_cannot_be_read_are_counted_apart():
    right, wrong = np.eye(CLASSES)[0], np.eye(CLASSES)[1]
    got = of([right, wrong, right, wrong], [0, 0, 0, 0], index=[4, 5, 6, -1], weight=[1, 0, 1, 0])
    assert (got["top1"], got["images"], got["unreadable"]) == (1.0, 2, 1)
    assert got["mistakes"] == []


def test_top5_counts_the_classes_that_are_more_probable():
    fourth_of_equals = [0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2]  # three are more probable than class 0
    six_are_better = [0.04, 0.16, 0.16, 0.16, 0.16, 0.16, 0.16]
    fifth = [0.05, 0.2, 0.2, 0.2, 0.2, 0.05, 0.1]  # class 6: four are more probable
    assert of([fourth_of_equals], [0])["top5"] == 1.0
    assert of([six_are_better], [0])["top5"] == 0.0
    assert of([fifth], [6])["top5"] == 1.0
    assert of([fifth], [0])["top5"] == 0.0  # and here five
    assert of(np.full((1, 7), 1 / 7), [6])["top5"] == 1.0


def test_top5_has_no_meaning_below_six_classes():
    assert of(np.eye(5), range(5), names=NAMES[:5])["top5"] is None
    assert of(np.eye(6), range(6), names=NAMES[:6])["top5"] == 1.0


def test_calibration_error_by_hand():
    # 15 bins: 0.9 lies in (13/15, 14/15], 0.6 in (8/15, 9/15], the border belongs to the bin below it.
    scores, right = np.array([0.9, 0.9, 0.6, 0.6]), np.array([True, False, True, True])
    # |1 - 1.8| and |2 - 1.2|, over 4 pictures
    assert calibration_error(scores, right) == pytest.approx((0.8 + 0.8) / 4)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0
    assert calibration_error(np.array([1.0]), np.array([False])) == 1.0
    assert calibration_error(np.array([0.75] * 4), np.array([True, True, True, False])) == pytest.approx(0.0)


def test_calibration_error_of_a_measurement_is_that_of_its_answers():
    probabilities, truth = drawn()
    score, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (score > low) & (score <= low + 1 / 15)
        expected += inside.mean() * abs(right[inside].mean() - score[inside].mean()) if inside.any() else 0.0
    got = measure(pairs(probabilities, truth), NAMES)
    assert got["ece"] == pytest.approx(expected, rel=1e-6)
    bins = got["reliability"]
    assert bins == reliability(score.astype(np.float64), right)
    assert sum(row["images"] for row in bins) == 230
    gaps = sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in bins) / 230
    assert gaps == pytest.approx(got["ece"], rel=1e-9)


def test_mistakes_come_most_confident_first_and_equal_ones_in_order():
    answers = np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]])
    got = of(answers, [1, 1, 1, 0, 1, 0], index=[10, 11, 12, 13, 14, 15], names=("no", "yes"))
    assert [(m["index"], m["truth"], m["answer"]) for m in got["mistakes"]] == [
        (12, 1, 0), (15, 0, 1), (13, 0, 1), (10, 1, 0), (14, 1, 0),
    ]  # fmt: skip
    assert [m["score"] for m in got["mistakes"]] == pytest.approx([0.9, 0.9, 0.7, 0.6, 0.6])


def test_the_measures_can_be_written_as_json():
    got = measure(pairs(*drawn()), NAMES)
    assert json.loads(json.dumps(got, allow_nan=False)) == got


def test_a_confident_mistake_costs_much_and_not_infinity():
    got = of([[1.0, 0.0]], [1], names=("no", "yes"))
    assert got["loss"] == pytest.approx(-np.log(1e-12))
    assert (got["top1"], got["ece"], got["macro_f1"]) == (0.0, 1.0, 0.0)


def test_nothing_to_measure_is_an_error():
    with pytest.raises(DataError, match="no picture of the split could be read"):
        of([np.eye(7)[0]], [0], weight=[0])
