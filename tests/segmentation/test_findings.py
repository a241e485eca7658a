"""The files of a segmenter's evaluation, read back; and what the report makes of them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.data.masks import IGNORE, Masks, grey_png, read_grey
from resnet_tasks.engine.report import evaluation as report
from resnet_tasks.segmentation import findings
from resnet_tasks.segmentation.metrics import measure

LABELS = LabelMap(("sky", "road", "car", "bus"))
FILES = ("a/one.jpg", "two, too.jpg", "three.jpg")
# A car half taken for road; a road for sky, beside void; all right.  A bus never.
TRUTHS = [[0, 0, 1, 1, 2, 2], [1, 1, 0, IGNORE], [0, 1]]
ANSWERS = [[0, 0, 1, 1, 2, 1], [0, 1, 0, 2], [0, 1]]


def measured(answers=ANSWERS) -> tuple[dict, Split]:
    truths = tuple(grey_png(np.array([row], np.uint8)) for row in TRUTHS)
    split = Split("val", FILES, encoded=(b"",) * 3, masks=Masks(truths, read_grey, FILES, plain=True))
    encoded = np.array([grey_png(np.array([row], np.uint8)) for row in answers], object)
    return measure([({"mask_png_bytes": encoded}, {"index": np.arange(3), "weight": np.ones(3)})], split, LABELS), split


def written(folder: Path, answers=ANSWERS) -> dict:
    result, split = measured(answers)
    findings.write(result, folder, split, LABELS)
    return result


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> tuple[Path, dict]:
    """The folder and what was measured."""
    folder = tmp_path_factory.mktemp("evaluation")
    return folder, written(folder)


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_classes(evaluation):
    folder, result = evaluation
    head, *table = rows(folder / "per_class.csv")
    assert head == ["class", "IoU", "accuracy", "dice", "boundary_f1", "pixels"]
    for (name, *cells), (expected, values) in zip(table, result["per_class"].items(), strict=True):
        assert name == expected
        assert dict(zip(head[1:], (float(cell) if cell else None for cell in cells), strict=True)) == values
    sky, road, car, bus = (row[1:] for row in table)
    assert [float(sky[0]), float(road[0]), float(car[0])] == [4 / 5, 4 / 6, 1 / 2]
    assert bus == ["", "", "", "", "0"]


def test_the_confusion(evaluation):
    assert rows(evaluation[0] / "confusion.csv") == [
        ["truth", "sky", "road", "car", "bus"],
        ["sky", "4", "0", "0", "0"],
        ["road", "1", "4", "0", "0"],
        ["car", "0", "1", "1", "0"],
        ["bus", "0", "0", "0", "0"],
    ]


def test_the_mistakes_lie_in_the_order_in_which_they_are_drawn(evaluation):
    folder, result = evaluation
    # One: sky 1, road 2/3, car 1/2; two: sky 1/2, road 1/2, of which road has no fewer pixels.
    head, *table = rows(folder / "mistakes.csv")
    assert head == ["file", "pixel_accuracy", "mIoU", "worst"]
    assert [(row[0], row[3]) for row in table] == [("two, too.jpg", "sky"), ("a/one.jpg", "car")]
    assert [float(row[1]) for row in table] == [2 / 3, 5 / 6]
    assert [float(row[2]) for row in table] == [0.5, pytest.approx((1 + 2 / 3 + 1 / 2) / 3)]
    assert [row["index"] for row in result["mistakes"]] == [1, 0]


def test_the_plots_are_pictures_and_the_same_numbers_give_the_same_ones(evaluation, tmp_path):
    folder, _ = evaluation
    written(tmp_path)
    for name in ("confusion.svg", "iou_by_class.svg"):
        drawn = (folder / "plots" / name).read_bytes()
        assert drawn.startswith(b"<?xml") and b"<svg" in drawn and b"<dc:date>" not in drawn
        assert drawn == (tmp_path / "plots" / name).read_bytes()


def test_the_plots_show_the_shares_and_the_classes():
    result, _ = measured()
    axes = findings._confusion(result, LABELS.names).axes[0]
    shares = np.ma.filled(axes.get_images()[0].get_array(), np.nan)
    expected = [[1, 0, 0, 0], [0.2, 0.8, 0, 0], [0, 0.5, 0.5, 0], [np.nan] * 4]
    np.testing.assert_array_equal(shares, expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(LABELS.names)
    assert [text.get_text() for text in axes.texts] == ["100", "20", "80", "50", "50"]
    axes = findings._iou_by_class(result).axes[0]
    bars = {label.get_text(): bar.get_width() for label, bar in zip(axes.get_yticklabels(), axes.patches)}
    assert bars == {"car": 0.5, "road": 4 / 6, "sky": 0.8}
    assert [line.get_label() for line in axes.get_lines()] == [f"mean: {(0.5 + 4 / 6 + 0.8) / 3:.3f}"]


def test_plots_of_many_classes():
    names = tuple(f"class {number}" for number in range(100))
    counts = np.eye(100, dtype=int)
    per_class = {name: {"IoU": number / 100} for number, name in enumerate(names)}
    axes = findings._confusion({"confusion": counts.tolist()}, names).axes[0]
    assert (list(axes.get_xticks()), len(axes.texts)) == ([], 0)
    figure = findings._iou_by_class({"per_class": per_class, "mIoU": 0.5})
    assert len(figure.axes[0].patches) == 100
    assert figure.get_figheight() > 15


def test_an_answer_that_is_all_right_leaves_no_old_file(tmp_path):
    written(tmp_path)
    written(tmp_path, [TRUTHS[0], [1, 1, 0, 0], [0, 1]])
    assert rows(tmp_path / "mistakes.csv") == [["file", "pixel_accuracy", "mIoU", "worst"]]
    assert report.mistakes(tmp_path) is None


def test_the_report_shows_it(evaluation):
    folder, _ = evaluation
    assert "66.7" in report.per_class(folder)
    assert "car → road: 1 of 2" in report.confusion(folder)
    assert "two, too.jpg" in report.mistakes(folder)
    drawn = report.pictures(folder)
    assert "confusion" in drawn and "iou by class" in drawn
