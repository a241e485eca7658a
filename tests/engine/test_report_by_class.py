"""The report of a task that measures every class in every epoch, and draws its best pictures beside its worst."""

import base64
import csv
import re
from pathlib import Path

import pytest
from PIL import Image

from resnet_tasks.engine.report import plots, write_report
from resnet_tasks.engine.report.evaluation import best, mistakes


def write_csv(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def epochs(run: Path, classes: dict[str, tuple], monitor=(0.25, 0.5, 0.375)) -> None:
    """metrics.csv: a measure, and one of each class."""
    columns = ("epoch", "step", "loss", "lr", "val_mIoU", *(f"val_IoU: {name}" for name in classes))
    rows = [
        (number, 10 * number, 1 / number, 0.1, value, *(values[number - 1] for values in classes.values()))
        for number, value in enumerate(monitor, 1)
    ]
    write_csv(run / "metrics.csv", [columns, *rows])


@pytest.fixture
def drawn(monkeypatch) -> list[dict]:
    """The series of every chart, which takes no time to draw."""
    charts = []
    monkeypatch.setattr(plots, "curves", lambda series, best=None, form="number": charts.append(series))
    monkeypatch.setattr(plots, "svg", lambda figure: b"<svg/>")
    return charts


def test_the_classes_have_a_chart_of_their_own(tmp_path, drawn):
    # A class that was not there in an epoch has no value; a name may hold what parts it from the measure.
    epochs(tmp_path, {"sky": (0.5, 0.75, 1), "sign: stop": (0.0, "", 0.25), "never": ("", "", "")})
    html = write_report(tmp_path).read_text()
    by_class = {"sky": [(1, 0.5), (2, 0.75), (3, 1)], "sign: stop": [(1, 0.0), (3, 0.25)]}
    assert drawn[-1] == by_class
    assert "Validation: IoU by class" in html and "every class" in html
    # What is best is decided by the mean; no class is it, nor drawn beside it.
    assert {"val_mIoU": [(1, 0.25), (2, 0.5), (3, 0.375)]} in drawn
    assert sum("sky" in series or "val_IoU: sky" in series for series in drawn) == 1
    assert "Validation: mIoU" in html


def test_a_class_is_not_taken_for_the_measure_that_decides(tmp_path, drawn):
    epochs(tmp_path, {"sky": (0.25, 0.5, 0.375)}, monitor=("", "", ""))
    html = write_report(tmp_path).read_text()
    assert drawn[-1] == {"sky": [(1, 0.25), (2, 0.5), (3, 0.375)]}
    assert "Validation: IoU by class" in html and "Validation: IoU: sky" not in html


def test_of_many_classes_those_that_end_lowest_are_drawn_in_their_order(tmp_path, drawn):
    names = [f"class {number:02d}" for number in range(30)]
    epochs(tmp_path, {name: (0.9, 0.9, (7 * number % 30) / 30) for number, name in enumerate(names)})
    html = write_report(tmp_path).read_text()
    lowest = [name for number, name in enumerate(names) if 7 * number % 30 < plots.MOST_LINES]
    assert list(drawn[-1]) == lowest and len(lowest) == 18
    assert "the 18 classes that end lowest" in html


def test_without_classes_there_is_no_such_chart(tmp_path, drawn):
    epochs(tmp_path, {})
    assert "by class" not in write_report(tmp_path).read_text()
    assert drawn


def test_as_many_lines_as_can_be_told_apart_have_their_legend_below():
    few = plots.curves({"one": [(1, 0.5), (2, 0.6)], "two": [(1, 0.2), (2, 0.1)]})
    names = [f"class {number}" for number in range(plots.MOST_LINES)]
    many = plots.curves({name: [(1, 0.5), (2, 0.6)] for name in names})
    looks = {(line.get_color(), line.get_linestyle()) for line in many.axes[0].get_lines()}
    assert len(looks) == len(names)
    assert few.axes[0].get_legend() is not None and not few.legends
    assert many.axes[0].get_legend() is None
    assert [text.get_text() for text in many.legends[0].get_texts()] == names
    assert many.get_figheight() > few.get_figheight()


def picture(path: Path, size: tuple[int, int]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 9 * size[0] % 256, 9)).save(path)
    return path.read_bytes()


def test_the_best_pictures_are_shown_in_their_order(tmp_path):
    assert best(tmp_path) is None
    files = [
        picture(tmp_path / "best" / f"{number:02d}.png", size) for number, size in enumerate([(90, 80), (160, 80)])
    ]
    (tmp_path / "best" / "notes.txt").touch()
    html = str(best(tmp_path))
    assert html.startswith("<div><h3>The best</h3>")
    shown = re.findall(r'<li( class="wide")?><img src="data:image/png;base64,([^"]*)" alt="(\d\d)"', html)
    assert [(wide != "", base64.b64decode(data), name) for wide, data, name in shown] == [
        (False, files[0], "00"),
        (True, files[1], "01"),  # with the truth beside it
    ]
    (tmp_path / "best" / "00.png").write_bytes(b"torn")
    (tmp_path / "best" / "01.png").unlink()
    assert best(tmp_path) is None


def test_a_mistake_that_is_no_label_says_what_was_measured(tmp_path):
    columns = ("file", "pixel_accuracy", "mIoU", "worst")
    write_csv(tmp_path / "mistakes.csv", [columns, ("a/<b>.jpg", 0.6666, 0.5, "sky & sea"), ("c.jpg", 1.0, 0.99, "")])
    for number in range(2):
        picture(tmp_path / "mistakes" / f"{number:02d}.png", (160, 80))
    html = str(mistakes(tmp_path))
    assert re.findall("<b>(.*?)</b>", html) == [
        "pixel accuracy 0.67, mIoU 0.50, worst sky &amp; sea",
        "pixel accuracy 1.00, mIoU 0.99, worst ",
    ]
    assert 'alt="a/&lt;b&gt;.jpg: pixel accuracy 0.67' in html
    assert "On the left what was annotated, on the right the answer." in html
