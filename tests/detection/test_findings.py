"""The files of a detector's evaluation, read back; and what the report makes of them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.detection import findings
from resnet_tasks.detection.metrics import measure
from resnet_tasks.engine.report import evaluation as report

CAT, DOG, OWL = 0, 1, 2
LABELS = LabelMap(("cat", "dog", "owl"), source_ids=(3, 7, 8))
FILES = ("a/one.jpg", "two, too.jpg", "three.jpg")
# A cat that is found and a dog that is taken for an owl; a dog that is missed, and a cat where nothing is; two owls.
TRUE_LABELS, FOUND_LABELS = [[CAT, DOG], [DOG, -1], [OWL, OWL]], [[CAT, OWL], [CAT, -1], [OWL, OWL]]
SCORES = [[0.9, 0.88], [0.85, 0.0], [0.8, 0.8]]
ONE, OTHER, FAR = (0, 0, 10, 10), (20, 20, 30, 30), (50.1, 60, 70.3, 80)


def measured(true_labels=TRUE_LABELS, found_labels=FOUND_LABELS) -> tuple[dict, Split]:
    """Of three pictures with room for two boxes each."""
    labels = np.array(true_labels, np.int32)
    known = {"boxes": np.array([[ONE, OTHER]] * 3, np.float64), "labels": labels, "crowd": np.zeros((3, 2), bool)}
    known |= {"area": np.full((3, 2), 100.0), "image_id": np.array([41, 12, 13])}
    answers = {
        "boxes": np.array([[ONE, OTHER], [FAR, FAR], [ONE, OTHER]], np.float32),
        "label_ids": np.array(found_labels, np.int32),
        "scores": np.array(SCORES, np.float32),
    }
    split = Split("val", FILES, encoded=(b"",) * 3, annotations=known)
    return measure([(answers, {"index": np.arange(3), "weight": np.ones(3)})], split, LABELS), split


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> tuple[Path, dict]:
    """The folder and what was measured."""
    folder = tmp_path_factory.mktemp("evaluation")
    result, split = measured()
    findings.write(result, folder, split, LABELS)
    return folder, result


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_classes(evaluation):
    folder, result = evaluation
    head, *table = rows(folder / "per_class.csv")
    assert head == ["class", "AP", "AP50", "AR100", "precision", "recall", "f1", "boxes"]
    for (name, *cells), (expected, values) in zip(table, result["per_class"].items(), strict=True):
        assert name == expected
        assert dict(zip(head[1:], map(float, cells), strict=True)) == values
    cat, dog, owl = ([float(cell) for cell in row[4:]] for row in table)
    assert cat == [0.5, 1.0, pytest.approx(2 / 3), 1]
    assert dog == [0.0, 0.0, 0.0, 2]
    assert owl == [pytest.approx(2 / 3), 1.0, pytest.approx(0.8), 2]


def test_the_confusion(evaluation):
    assert rows(evaluation[0] / "confusion.csv") == [
        ["truth", "cat", "dog", "owl", "background"],
        ["cat", "1", "0", "0", "0"],
        ["dog", "0", "0", "1", "1"],
        ["owl", "0", "0", "2", "0"],
        ["background", "1", "0", "0", "0"],
    ]


def test_the_mistakes_lie_in_the_order_in_which_they_are_drawn(evaluation):
    folder, result = evaluation
    # The first picture costs 1.88, the second 1 for the missed dog and 0.85.
    assert rows(folder / "mistakes.csv") == [
        ["file", "truth", "answer", "score", "x0", "y0", "x1", "y1"],
        ["a/one.jpg", "dog", "owl", "0.880000", "20.00", "20.00", "30.00", "30.00"],
        ["two, too.jpg", "dog", "missed", "", "0.00", "0.00", "10.00", "10.00"],
        ["two, too.jpg", "background", "cat", "0.850000", "50.10", "60.00", "70.30", "80.00"],
    ]
    assert [row["index"] for row in result["mistakes"]] == [0, 1, 1]


def test_the_predictions_are_read_back_exactly(evaluation):
    folder, result = evaluation
    read = json.loads((folder / "predictions.json").read_text())
    assert read == list(result["predictions"])
    corners = np.float32(FAR).astype(np.float64)
    assert read[2] == {
        "image_id": 12,
        "category_id": 3,
        "bbox": [*corners[:2], *(corners[2:] - corners[:2])],
        "score": float(np.float32(0.85)),
    }
    assert [row["image_id"] for row in read] == [41, 41, 12, 13, 13]


def test_the_plots_are_pictures_and_the_same_numbers_give_the_same_ones(evaluation, tmp_path):
    folder, _ = evaluation
    findings.write(*_first(measured(), tmp_path), LABELS)
    for name in ("precision_recall.svg", "f1_by_threshold.svg"):
        drawn = (folder / "plots" / name).read_bytes()
        assert drawn.startswith(b"<?xml") and b"<svg" in drawn and b"<dc:date>" not in drawn
        assert drawn == (tmp_path / "plots" / name).read_bytes()


def _first(pair: tuple, folder: Path) -> tuple:
    result, split = pair
    return result, folder, split


def test_the_plots_show_the_curves_and_the_threshold():
    result, _ = measured()
    axes = findings._precision_recall(result).axes[0]
    lines = {line.get_label(): np.array(line.get_data()) for line in axes.get_lines()}
    for name, curve in result["curves"].items():
        np.testing.assert_array_equal(lines[name], [curve["recall"], curve["precision"]])
    dots = [line.get_data() for line in axes.get_lines() if line.get_marker() == "o"][:3]
    assert [(float(x[0]), float(y[0])) for x, y in dots] == [(1.0, 0.5), (0.0, 0.0), (1.0, pytest.approx(2 / 3))]
    axes = findings._f1_by_threshold(result).axes[0]
    lines = {line.get_label(): line.get_data() for line in axes.get_lines()}
    np.testing.assert_array_equal(lines["F1"][1], result["by_threshold"]["f1"])
    assert list(lines["threshold: 0.8"][0]) == [result["threshold"]] * 2


def test_of_many_classes_the_mean_is_drawn():
    row = {"recall": 0.5, "precision": 0.25}
    curves = {str(n): {"recall": [0.0, 1.0], "precision": [1.0, n / 8]} for n in range(8)}
    rows_of = {"per_class": dict.fromkeys(curves, row), "curves": curves, "threshold": 0.5}
    axes = findings._precision_recall(rows_of).axes[0]
    lines = {line.get_label(): list(line.get_data()[1]) for line in axes.get_lines()}
    assert lines["mean of 8 classes"] == [1.0, pytest.approx(3.5 / 8)]


def test_an_evaluation_of_nothing_leaves_no_old_file(tmp_path):
    nothing = [[-1, -1]] * 3
    findings.write(*_first(measured(), tmp_path), LABELS)
    findings.write(*_first(measured(nothing, nothing), tmp_path), LABELS)
    assert json.loads((tmp_path / "predictions.json").read_text()) == []
    assert rows(tmp_path / "per_class.csv")[1] == ["cat", *[""] * 6, "0"]
    assert len(rows(tmp_path / "mistakes.csv")) == 1
    assert list((tmp_path / "plots").iterdir()) == []
    assert report.per_class(tmp_path) and report.mistakes(tmp_path) is None and report.pictures(tmp_path) is None


def test_the_report_shows_it(evaluation):
    folder, _ = evaluation
    assert "66.7" in report.per_class(folder)
    assert "dog → owl: 1 of 2" in report.confusion(folder)
    assert "dog → background: 1 of 2" in report.confusion(folder)
    assert "missed" in report.mistakes(folder)
    drawn = report.pictures(folder)
    assert "precision recall" in drawn and "f1 by threshold" in drawn
