"""The report holds the run's numbers, loads nothing, and does without what is missing."""

import base64
import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.engine.report import files, plots, write_report
from resnet_tasks.engine.report.page import duration, fraction, shown, tag

EVIL = '<script>alert("x")</script>'
CLASSES = ("zero", "one & only", EVIL)
CONFUSION = ((7, 2, 1), (0, 9, 1), (1, 0, 4))  # rows are truths: 10, 10 and 5 pictures
METRICS = {
    "top1": 0.8,  # (7 + 9 + 4) / 25
    "top5": None,
    "loss": 0.51234567,
    "images": 25,
    "unreadable": 0,
    "per_class": {"zero": {"recall": 0.7}},
    "tar_at_far": {"0.001": 0.625},
    "split": "test",
    "seconds": 75.0,
}
EPOCHS = """\
epoch,step,loss,cross_entropy,lr,images_per_second,data_wait,val_top1,val_loss,seconds
1,100,2.25,2.25,0.1,400.5,0.25,0.5,1.5,30.0
2,200,1.125,1.125,0.05,410.5,0.2,0.75,1.0,60.0
3,300,0.75,0.75,0.001,420.5,0.15,0.625,1.25,4330.0
"""
MISTAKES = [
    ("cats/a.png", "zero", EVIL, "0.987654"),
    (f"cats/{EVIL}.png", "one & only", "zero", "0.876543"),
    ("tfds:cifar10/test/17", "zero", "one & only", "0.765432"),
]


def write_csv(path: Path, rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def make_run(run: Path) -> Path:
    """A finished run of three classes, with every file that the report reads."""
    test, best = run / "evaluation" / "test", run / "checkpoints" / "00000200"
    for folder in (test / "mistakes", test / "plots", best, run / "checkpoints" / "00000300"):
        folder.mkdir(parents=True)
    dataset = {
        "where": "my/pictures",
        "format": "folder",
        "splits": {"train": 3200, "val": 40, "test": 25},
        "problems": [{"file": f"{EVIL}.jpg", "what": "not a picture"}],
        "notes": ["split 80/10/10 by the hash of the file name"],
    }
    environment = {
        "processor": "Some CPU",
        "cores": 2,
        "packages": {"keras": "3.15.0"},
        "commit": "abc123def456",
    }
    bins = [
        {"confidence": 0.55, "accuracy": 0.5, "images": 5},
        {"confidence": 0.95, "accuracy": 0.9, "images": 20},
    ]
    jsons = {
        run / "dataset.json": dataset,
        run / "environment.json": environment,
        run / "labels.json": {"names": CLASSES},
        run / "checkpoints" / "00000300" / "state.json": {"step": 300, "finished": True},
        best / "state.json": {"step": 200, "best": 0.75, "best_epoch": 2},
        test / "metrics.json": METRICS,
        test / "reliability.json": bins,
    }
    for path, value in jsons.items():
        path.write_text(json.dumps(value))
    (run / "checkpoints" / "last").write_text("00000300\n")
    (run / "checkpoints" / "best").write_text("00000200\n")
    (run / "recipe.yaml").write_text(f"task: classify\ndata:\n  where: {EVIL!r}\n")
    (run / "command.txt").write_text("resnet-tasks classify train quickstart/digits --epochs 3\n")
    (run / "metrics.csv").write_text(EPOCHS)
    columns = ("class", "precision", "recall", "images")
    per_class = [("zero", 0.875, 0.7, 10), (CLASSES[1], 0.8125, 0.9, 10), (EVIL, 0.75, "", 0)]
    write_csv(test / "per_class.csv", [columns, *per_class])
    matrix = [(name, *row) for name, row in zip(CLASSES, CONFUSION)]
    write_csv(test / "confusion.csv", [("truth", *CLASSES), *matrix])
    write_csv(test / "mistakes.csv", [("file", "truth", "answer", "score"), *MISTAKES])
    for number in range(3):
        Image.new("RGB", (32, 32), (80 * number, 10, 20)).save(test / f"mistakes/{number:03}.png")
    Image.new("RGB", (64, 32), "green").save(run / "training_batch.png")
    Image.new("RGB", (30, 30), "blue").save(test / "plots" / "roc_curve.png")
    (test / "plots" / "other.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'></svg>")
    return run


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of a whole run."""
    return write_report(make_run(tmp_path_factory.mktemp("whole") / "my_run"))


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run to change and to write reports of, which take no time over their plots."""
    for name in ("curves", "reliability"):
        monkeypatch.setattr(plots, name, lambda *args: None)
    monkeypatch.setattr(plots, "svg", lambda figure: b"<svg/>")
    return make_run(tmp_path / "my_run")


class Reader(HTMLParser):
    """The page as a browser reads it: elements, addresses, exact values, text."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.addresses, self.values, self.pieces = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join("".join(self.pieces).split())

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        for key, value in attributes:
            if key in ("src", "href", "srcset", "action", "poster", "data", "background"):
                self.addresses.append(value)
            if name == "data" and key == "value":
                self.values.append(value)

    def handle_data(self, text):
        self.pieces.append(text)


def test_page_holds_the_files_exact_values(report):
    page = Reader(report)
    floats = set(map(float, page.values))
    tiles = r'<dt>([^<]*)</dt><dd><data value="(.*?)">(.*?)</data>'
    assert re.findall(tiles, report.read_text()) == [
        ("top1", "0.8", "80.00%"),
        ("loss", "0.51234567", "0.5123"),
        ("images", "25", "25"),
        ("unreadable", "0", "0"),
        ("tar at far 0.001", "0.625", "62.50%"),
        ("seconds", "75.0", "1 min"),
    ]
    for line in EPOCHS.splitlines()[1:]:
        cells = re.search(f'<th scope="row"><data value="{line[0]}">.*?</tr>', report.read_text())[0]
        assert [*map(float, re.findall('value="(.*?)"', cells))] == [*map(float, line.split(","))]
    assert {0.875, 0.7, 0.8125, 0.9, 0.75} <= floats  # per_class.csv
    assert {0.987654, 0.876543, 0.765432} <= floats  # mistakes.csv
    assert {3200, 40, 25} <= floats  # dataset.json


def test_heading_says_what_it_was_in_a_line(report):
    text = Reader(report).text
    for fact in (
        "classifyquickstart/digits",  # two elements
        "top1 80.00% on test · 3,265 pictures (train 3,200, val 40, test 25)",
        "3 epochs in 1 h 12 min",  # 4330 s
        "Some CPU, 2 cores",
        "commit abc123def456",
        "run folder my_run",
    ):
        assert fact in text


def test_text_of_the_files_is_escaped(report):
    page = Reader(report)
    assert "script" not in page.tags
    assert "<script" not in report.read_text(encoding="utf-8")
    # per class; the matrix, twice; a mistake's answer; a file left out; the recipe
    assert page.text.count(EVIL) == 6


def test_nothing_is_loaded_from_elsewhere(report):
    page = Reader(report)
    # 5 curves, reliability, 2 plots, 3 mistakes, the training batch
    assert len(page.addresses) == 12
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not {"link", "script", "iframe", "object", "embed", "a"} & set(page.tags)
    style = re.search(r"<style>(.*?)</style>", report.read_text(), re.S)[1]
    assert "url(" not in style and "@import" not in style
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert f'content="{policy}"' in report.read_text().replace("&#x27;", "'")


def test_confusion_counts_and_shares(report):
    html = report.read_text()
    cells = re.findall(r'<td class="(\w+)" style="--share:([\d.]+)" title="[^"]*">(\d*)</td>', html)
    assert [int(count or 0) for _, _, count in cells] == [7, 2, 1, 0, 9, 1, 1, 0, 4]
    assert [kind for kind, _, _ in cells] == ["right", *["wrong"] * 3] * 2 + ["right"]
    assert float(cells[0][1]) == pytest.approx(0.65 * 7 / 10)
    assert float(cells[1][1]) == pytest.approx(2.5 * 2 / 10)


def test_many_classes_show_the_most_confused_pairs(run):
    names = [f"class {number}" for number in range(40)]
    matrix = np.diag(np.full(40, 20))
    matrix[3, 5], matrix[7, 2] = 12, 8  # of 32 and of 28 pictures
    rows = [(name, *row) for name, row in zip(names, matrix.tolist())]
    write_csv(run / "evaluation/test/confusion.csv", [("truth", *names), *rows])
    page = Reader(write_report(run))
    text = page.text
    assert text.index("class 3 → class 5") < text.index("class 7 → class 2")
    assert repr(12 / 32) in page.values and repr(8 / 28) in page.values
    assert text.count("→") < 10  # no other pairs


def test_mistakes_have_their_own_pictures_and_captions(run):
    html = write_report(run).read_text()
    items = re.findall(r"<li><img (.*?)</li>", html, re.S)
    assert len(items) == 3
    for number, (item, row) in enumerate(zip(items, MISTAKES)):
        picture = (run / f"evaluation/test/mistakes/{number:03}.png").read_bytes()
        assert base64.b64encode(picture).decode() in item
        assert f'<data value="{row[3]}"' in item
        assert "pixels" in item  # 32 pixels wide: shown as squares
    assert "zero → one &amp; only" in items[2] and "76.5%" in items[2]


def test_mistakes_without_pictures_are_a_table(run):
    for picture in (run / "evaluation/test/mistakes").iterdir():
        picture.unlink()
    text = Reader(write_report(run)).text
    assert "0.987654" in text and "tfds:cifar10/test/17" in text


@pytest.mark.parametrize(
    ("file", "heading"),
    [
        ("metrics.csv", "Training"),
        ("training_batch.png", "A training batch"),
        ("dataset.json", "pictures in train"),
        ("recipe.yaml", "Recipe"),
        ("command.txt", "Command"),
        ("environment.json", "Environment"),
        ("evaluation/test/metrics.json", "tar at far 0.001"),
        ("evaluation/test/per_class.csv", "By class"),
        ("evaluation/test/confusion.csv", "Confusion"),
        ("evaluation/test/mistakes.csv", "The worst mistakes"),
        ("evaluation/test/reliability.json", "Reliability"),
    ],
)
@pytest.mark.parametrize("torn", [False, True])
def test_missing_or_torn_file_leaves_only_its_part_out(run, file, heading, torn):
    assert heading in Reader(write_report(run)).text
    if torn:
        content = (run / file).read_bytes()
        (run / file).write_bytes(content[: len(content) // 2] if file.endswith(("json", "png")) else b"")
    else:
        (run / file).unlink()
    page = Reader(write_report(run))
    assert heading not in page.text
    assert page.tags.count("section") >= 6  # of 7


def test_empty_run_folder_gives_a_page(tmp_path):
    page = Reader(write_report(tmp_path))
    assert "section" not in page.tags
    assert tmp_path.name in page.text


def test_unfinished_run_says_where_it_stands(run):
    state = run / "checkpoints/00000300/state.json"
    state.write_text(json.dumps({"step": 1300, "finished": False}))
    (run / "evaluation/test/metrics.json").unlink()  # then the best of training stands for it
    text = Reader(write_report(run)).text
    assert "This run has not ended: it stands at step 1,300." in text
    assert "val_top1 0.7500 in epoch 2" in text


def test_divergence_is_reported(run):
    report = {"step": 42, "losses": {"loss": "nan"}, "files": ["a.png", EVIL], "norms": {"w": "1"}}
    (run / "nan_report.json").write_text(json.dumps(report))
    page = Reader(write_report(run))
    assert "The loss was not finite" in page.text and "nan" in page.text
    assert "42" in page.values and f"a.png{EVIL}" in page.text


def test_test_split_comes_first_then_val(run):
    for name in ("val", "another"):
        (run / "evaluation" / name).mkdir()
        (run / "evaluation" / name / "metrics.json").write_text('{"AP": 0.25}')
    text = Reader(write_report(run)).text
    places = [text.index(f"Evaluation: {name}") for name in ("test", "val", "another")]
    assert places == sorted(places)


def test_curves_draw_the_values_and_mark_the_best():
    points = [(1, 0.5), (2, 0.75)]
    axes = plots.curves({"val_top1": points}, best=2).axes[0]
    drawn, mark = axes.get_lines()
    assert list(zip(drawn.get_xdata(), drawn.get_ydata())) == points
    assert set(mark.get_xdata()) == {2}
    wide = plots.curves({"loss": [(1, 31.0), (2, 1.0)]}).axes[0]
    assert wide.get_yscale() == "log" and axes.get_yscale() == "linear"
    assert plots.curves({"lr": [(1, 5.0), (2, 4.0)]}, form="positive").axes[0].get_ylim()[0] == 0


def test_reliability_draws_the_bins():
    bins = [{"confidence": 0.55, "accuracy": 0.5, "images": 5}]
    bins += [{"confidence": 0.95, "accuracy": 0.9, "images": 20}]
    above, below = plots.reliability(bins).axes
    measured = above.get_lines()[1]
    assert list(measured.get_xdata()) == [0.55, 0.95] and list(measured.get_ydata()) == [0.5, 0.9]
    assert [bar.get_height() for bar in below.patches] == [5, 20]


def test_same_run_gives_the_same_bytes(report):
    first, run = report.read_bytes(), report.parent
    assert write_report(run).read_bytes() == first
    assert list(run.glob(".*")) == []  # nothing is left from writing aside


def test_large_pictures_are_made_smaller(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 800, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    kind, content = files.embedded(tmp_path / "large.png", 200).split(";base64,")
    (tmp_path / "small.jpg").write_bytes(base64.b64decode(content))
    assert kind == "data:image/jpeg"
    assert Image.open(tmp_path / "small.jpg").size == (200, 100)


def test_numbers_as_people_read_them():
    assert shown(12345) == '<data value="12345">12,345</data>'
    assert shown(0.123456) == '<data value="0.123456">0.1235</data>'
    assert shown(1234.5) == '<data value="1234.5">1,234</data>'  # half to even
    assert ">92.31%</data>" in fraction(0.92308) and "--part:92.3%" in fraction(0.92308)
    assert "–" in shown(None)
    assert [duration(s) for s in (12.34, 61, 3725, 3599)] == [
        "12.3 s",
        "1 min",
        "1 h 2 min",
        "1 h 0 min",
    ]
    assert tag("p", "a<b", title='"') == '<p title="&quot;">a&lt;b</p>'


def test_importing_it_imports_nothing_heavy():
    modules = "('tensorflow', 'keras', 'matplotlib')"
    code = "import sys, resnet_tasks.engine.report, resnet_tasks.engine.draw\n"
    code += f"sys.exit(any(name in sys.modules for name in {modules}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
