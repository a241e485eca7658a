"""The data doctor on boxes: a source with one of every illness, and the arithmetic of sizes."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.check_box_drawings import chosen_pictures
from resnet_tasks.data.check_box_rows import corners_of, kind_of, row_findings
from resnet_tasks.data.check_box_sizes import Boxes, histogram, larger_canvas, size_findings
from resnet_tasks.data.check_boxes import check_detection, doubled, report_of
from resnet_tasks.data.check_counts import class_findings
from resnet_tasks.data.check_pictures import Picture
from resnet_tasks.data.check_report import Report
from resnet_tasks.data.duplicates import Print
from resnet_tasks.data.examples import LabelMap, Problem, Rows, Source, Split

RANDOM = np.random.default_rng(0)
NAMES = ("disc", "square", "cross", "ghost")
DISC, SQUARE, CROSS = range(3)


def saved(path, height=96, width=128):
    coarse = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return str(path)


def split_of(name, folder, rows, sizes=None):
    """A split with a picture of 96 x 128 for each member of `rows`, lists of `(box, label[, crowd])`."""
    most = max(1, *map(len, rows))
    arrays = {
        "boxes": np.zeros((len(rows), most, 4)),
        "labels": np.full((len(rows), most), -1, np.int32),
        "crowd": np.zeros((len(rows), most), bool),
        "area": np.zeros((len(rows), most)),
    }
    ids = tuple(f"{name}{number:02d}.png" for number in range(len(rows)))
    for picture, of_picture in enumerate(rows):
        for place, (box, label, *crowd) in enumerate(of_picture):
            arrays["boxes"][picture, place], arrays["labels"][picture, place] = box, label
            arrays["crowd"][picture, place] = bool(crowd and crowd[0])
            arrays["area"][picture, place] = (box[2] - box[0]) * (box[3] - box[1])
    paths = tuple(saved(folder / file, *(sizes or {}).get(file, ())) for file in ids)
    return Split(name, ids, paths=paths, annotations=arrays)


def corners(x0, y0, x1, y1):
    return f"left {x0}, top {y0}, right {x1}, bottom {y1}"


@pytest.fixture(scope="module")
def ill(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    usual = [((10, 10, 40, 40), DISC), ((50, 20, 90, 60), DISC), ((60, 30, 84, 66), SQUARE)]
    train = [list(usual) for _ in range(12)]
    train[1] += [((10, 10, 40, 40.5), DISC)]  # stands twice: IoU 30 / 30.5
    train[2] += [((0, 0, 128, 95), SQUARE)]  # 95 / 96 of the picture
    train[3] += [((20, 60, 22, 62), SQUARE)]  # 2 px, 8 on a canvas 4 times as large
    train[4] = []
    train[8] = [((2, 2, 12, 12), DISC)]
    train[5] += [((0, 0, 128, 50), SQUARE, True)]
    train[6] = [((x, y, x + 5, y + 5), DISC) for x in range(0, 110, 10) for y in range(0, 90, 9)]  # 110 boxes
    val = [[((10, 10, 40, 40), SQUARE)], [((10, 10, 40, 40), CROSS), ((5, 5, 65, 15), CROSS)], []]  # 6:1
    splits = {"train": split_of("train", folder, train, {"train08.png": (20, 20)}), "val": split_of("val", folder, val)}
    (folder / "val02.png").write_bytes((folder / "train07.png").read_bytes())  # leaked, and without its boxes
    whole = (folder / "train09.png").read_bytes()
    (folder / "train09.png").write_bytes(whole[: len(whole) // 2])
    dropped = [
        ("train00.png", f"annotation 900001: turned, {corners(60, 60, 30, 40)}"),
        ("train00.png", f"annotation 900002: turned, {corners(60, 60, 30, 40)}"),
        ("train02.png", f"annotation 900004: empty, {corners(40, 40, 40, 52)} in a picture 128 wide and 96 high"),
        ("train03.png", f"annotation 900007: outside, {corners(400, 400, 430, 430)}"),
        ("val00.png", f"annotation 900010: not finite, {corners('nan', 20, 'nan', 50)}"),
        ("val01.png", f"annotation 900013: unknown class 77, {corners(30, 30, 70, 70)}"),
    ]
    return Source(
        where="hand",
        format="coco",
        labels=LabelMap(NAMES, (7, 13, 90, 91)),
        splits=splits,
        problems=(
            Problem("t021.jpg", "missing: not in images/, not beside the file"),
            Problem("bad.png", "no picture"),
        ),
        notes=("12 pictures", "cannot be read: 2 (bad.png: no picture; and one more)"),
        rows=Rows(
            total=100,
            crowds=1,
            dropped=tuple(Problem(*row) for row in dropped),
            clipped=(Problem("train00.png", f"annotation 3: 5 pixels over the border, {corners(-5, 0, 9, 9)}"),),
        ),
        disagree=(Problem("val00.png", "96x128, the annotation says 128x96"),),
    )


@pytest.fixture(scope="module")
def report(ill):
    return report_of(ill, (384, 512))  # every picture but train08.png is enlarged 4 times


@pytest.mark.parametrize(
    ("level", "what", "files"),
    [
        ("error", "6 of 100 boxes cannot be used (6.0%); training stops above 5%", []),
        (
            "error",
            "turned: right lies left of left, or bottom above top (a negative width or height): 2 of 100",
            ["train00.png: annotation 900001: turned", "900002"],
        ),
        ("error", "empty: a side is shorter than one pixel: 1 of 100 boxes", ["train02.png: annotation 900004"]),
        ("error", "outside: no part lies in the picture: 1 of 100", ["900007"]),
        ("error", "not finite: a number is NaN or infinite: 1 of 100", ["900010"]),
        ("error", "unknown class: the source defines no such class: 1 of 100", ["900013: unknown class 77"]),
        ("note", "over the picture's border, and are cut there: 1 of 100", ["annotation 3: 5 pixels"]),
        ("error", "1 of 17 pictures are annotated and missing (5.9%)", ["t021.jpg: missing: not in images/"]),
        ("error", "2 of 17 pictures cannot be read", ["bad.png: no picture", "train09.png"]),
        ("warning", "another size than their annotation says: 1;", ["val00.png: 96x128"]),
        ("note", "crowds (iscrowd, boxes around many things at once): 1;", ["train05.png: square at 0 0 128 50"]),
        ("warning", "for want of a box in any split, of 1 of the classes: ghost", []),
        ("error", "no box in train of 1 of the classes: cross", []),
        ("warning", "no box in val of 1 of the classes: disc", []),
        ("warning", "out of balance: disc has 130 boxes, square 11", []),
        ("note", "larger than 813 px", None),
        ("warning", "the same box stands twice", ["train01.png: disc at 10 10 40 40 and at 10 10 40 40.5"]),
        ("warning", "boxes over more than 95% of their picture: 1", ["train02.png: square at 0 0 128 95"]),
        ("note", "which anchors fit badly: 1 of 141 (0.7%)", ["val01.png: cross at 5 5 65 15 (6.0:1)"]),
        ("note", "more than 100 boxes, the most that a model answers with: 1", ["train06.png: 110 boxes"]),
        ("error", "the same picture is in train and in another split", ["train07.png (train, 3 boxes) = val02.png"]),
        ("warning", "the same picture has different boxes: 1 times", ["val02.png (val, 0 boxes)"]),
        ("warning", "smaller than a 4th of the median: 1", ["train08.png (20x20)"]),
        ("note", "12 pictures", []),
    ],
)
def test_each_illness_is_found(report, level, what, files):
    found = [finding for finding in report.findings if what in finding.what]
    if files is None:
        assert not found
        return
    (finding,) = found
    assert finding.level == level
    for file in files:
        assert any(file in named for named in finding.files)


def test_the_report_counts_by_class_with_the_sources_ids(report):
    assert report.counts == {
        "train": {"disc": 2 * 9 + 110 + 2, "square": 9 + 2, "cross": 0, "ghost": 0},
        "val": {"disc": 0, "square": 1, "cross": 2, "ghost": 0},
    }
    assert report.pictures["train"] == {"crowds (besides)": 1, "pictures": 12, "without a box": 1}
    text = report.text()
    assert re.search(r"^cross +90 +0 +2$", text, re.M)
    assert re.search(r"^all +141 +3$", text, re.M)
    assert re.search(r"^without a box +1 +1$", text, re.M)
    assert "boxes: 144, pictures: 15, errors: 10," in text
    told = json.loads(json.dumps(report.to_json()))
    assert told["source_ids"] == {"disc": 7, "square": 13, "cross": 90, "ghost": 91}
    assert told["counts"]["train"]["square"] == 11
    assert report.errors
    assert text.count("bad.png") == 1  # not once more as a note of the reader


def test_few_bad_rows_are_a_warning(ill):
    rows = Rows(total=100, dropped=ill.rows.dropped[:5])
    found = list(row_findings(Source("", "", ill.labels, {}, rows=rows)))
    assert {finding.level for finding in found} == {"warning"}
    assert not any("cannot be used" in finding.what for finding in found)


def test_text_names_twenty_and_json_all(ill):
    rows = Rows(total=30, dropped=tuple(Problem(f"{n}.png", "line 1: empty, left 1") for n in range(25)))
    (finding,) = [f for f in row_findings(Source("", "", ill.labels, {}, rows=rows)) if f.what.startswith("empty")]
    told = Report("", "coco", {"train": {"disc": 1}}, (finding,), counted="boxes")
    assert told.text().count("line 1: empty") == 20
    assert "and 5 more" in told.text()
    assert len(told.to_json()["findings"][0]["files"]) == 25


def test_the_page_shows_pictures_with_their_boxes(report):
    page = report.html()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("data:image/jpeg") == len(report.drawn) == 13  # 14 that decode, but one of two without a box
    captions = [caption for caption, _ in report.drawn]
    assert captions[0].startswith("train00.png (train, 3 boxes); left out: annotation 900001: turned")
    assert "0 boxes" in captions[-1]
    turned = np.asarray(report.drawn[0][1])  # 128 wide, enlarged 4 times: the turned box lies at 120 160 .. 240 240
    red = (turned[239, 120:240] == (229, 28, 35)).all(axis=-1)  # the last row of its lines
    assert 0.3 < red.mean() < 0.7  # dashed
    assert report.drawn[0][1].size == (512, 384)


def test_of_many_classes_each_is_named_behind_the_sentence():
    counts = {"train": np.array([20] * 3 + [0] * 11), "val": np.array([0] * 2 + [1] * 12)}
    named = [f"c{number}" for number in range(14)]
    error, warning = class_findings(counts, named, "box", "")
    assert (error.level, error.what) == ("error", "no box in train of 11 of the classes")
    assert error.files == tuple(named[3:])
    assert (warning.what, warning.files) == ("no box in val of 2 of the classes: c0, c1", ())


def boxes_of(sides, labels, size_hw=(100, 200)):
    """One picture with square boxes."""
    xyxy = np.array([(0, 0, side, side) for side in sides], float)
    zeros = np.zeros(len(sides), np.int64)
    return Boxes(zeros, xyxy, np.array(labels), np.tile(size_hw, (len(sides), 1)))


def picture_of(split="train", index=0, file="a.png"):
    return Picture(split, index, file, Print(b"", 0, np.zeros((16, 16, 3), np.uint8), (100, 200)), (), "")


def test_small_boxes_and_the_canvas_that_mends_them():
    """A picture of 100 x 200 on 512 x 512 is scaled by min(5.12, 2.56)."""
    boxes = boxes_of([2.0, 2.5] + [3.0] * 6 + [4.0] + [50.0] * 11, [1, 1] + [0] * 6 + [1] * 12)
    sides = boxes.sides((512, 512))
    np.testing.assert_allclose(sides[:3], [5.12, 6.4, 7.68])
    found = list(size_findings(boxes, [picture_of()], ("cat", "dog"), (512, 512)))
    (small,) = [finding for finding in found if "8 px" in finding.what]
    assert small.level == "warning"
    assert "8 of 20 (40.0%)" in small.what
    assert small.files == ("cat: 6 of 6", "dog: 2 of 14")
    # 19 of 20 boxes have 16 px or more where the second smallest, 2.5 of 200 px, has them: 200 / 2.5 * 16 = 1280.
    assert "--image-size 1280 brings 95% of all boxes to 16 px or more" in small.what
    assert "model.min_level=2" in small.what
    assert "--tile" not in small.what  # the pictures are smaller than the canvas
    assert (boxes.sides((1280, 1280)) >= 16).mean() == 0.95
    assert (boxes.sides((1248, 1248)) >= 16).mean() < 0.95


@pytest.mark.parametrize(
    ("count", "canvas", "expected"),
    [
        (20, (512, 512), (1024, 1024)),  # the second smallest, 8 px, doubles
        (19, (512, 512), (2048, 2048)),  # of 19 none may be left out: 4 px
        (20, (256, 512), (512, 1024)),
        (20, (300, 500), (608, 1024)),  # multiples of 32
    ],
)
def test_a_larger_canvas(count, canvas, expected):
    sides = np.array([4.0] + [8.0] * (count - 1))
    assert larger_canvas(sides, canvas) == expected


def test_a_canvas_out_of_reach_and_large_pictures():
    boxes = boxes_of([10.0, 1500.0], [0, 0], (4000, 4000))
    (small,) = [f for f in size_findings(boxes, [picture_of()], ("cat",), (512, 512)) if "8 px" in f.what]
    assert "would have 16 px only at --image-size 6400" in small.what
    assert "predict --tile" in small.what
    (large,) = [f for f in size_findings(boxes, [picture_of()], ("cat",), (4000, 4000)) if "largest" in f.what]
    assert large.files == ("cat: 1 of 2",)  # 1500 > 4 * 128 * 2 ** (2 / 3) = 812.7


def test_sizes_by_octave():
    boxes = boxes_of([3.9, 4.0, 7.9, 8.0, 31.0, 0.2], [0] * 6, (512, 512))
    told = histogram(boxes, [picture_of("val")], ["train", "val"], (512, 512))
    counts = {name: of_split["val"] for name, of_split in told.bins.items()}
    assert counts == {"below 4 px": 2, "4 to 8 px": 2, "8 to 16 px": 1, "16 to 32 px": 1}
    assert {of_split["train"] for of_split in told.bins.values()} == {0}
    (largest,) = histogram(boxes_of([5000.0], [0], (512, 512)), [picture_of()], ["train"], (512, 512)).bins
    assert largest == "1024 px and more"


def test_doubled_boxes_are_of_one_class_and_nearly_equal():
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 96], [0, 0, 100, 94], [0, 0, 100, 100], [0, 4, 100, 100]], float)
    # 0 and 1: 96 / 100; 0 and 4: 96 / 100; 1 and 2: 94 / 96; 0 and 2: 94 / 100; 3 is of another class.
    assert doubled(boxes, np.array([0, 0, 0, 1, 0])).tolist() == [[0, 1], [0, 4], [1, 2]]
    assert doubled(boxes[:0], np.zeros(0)).shape == (0, 2)


@pytest.mark.parametrize("kind", ["turned", "empty", "outside", "not finite", "unknown class"])
def test_the_kind_of_a_dropped_row(kind):
    assert kind_of(Problem("a.jpg", f"line 2 of turned.txt: {kind}, left 1")) == kind


def test_corners_are_read_and_put_in_order():
    assert corners_of(Problem("", "row: turned, " + corners("60", "1e-07", "-30.5", "40"))).tolist() == [
        -30.5,
        1e-7,
        60,
        40,
    ]
    assert corners_of(Problem("", "row: not finite, " + corners("nan", 1, 2, 3))) is None
    assert corners_of(Problem("", "row: no box")) is None


def test_pictures_to_draw_take_turns_and_show_every_class():
    labels = np.full((40, 2), -1, np.int32)
    labels[:, 0] = np.arange(40) // 20  # classes 0 and 1
    labels[37, 0] = 2  # the rare one
    labels[39, 0] = -1
    splits = {
        name: Split(name, tuple(map(str, range(40))), paths=("",) * 40, annotations={"labels": labels})
        for name in ("train", "val")
    }
    source = Source("", "", LabelMap(("a", "b", "c")), splits)
    pictures = [picture_of(split, index, f"{split}{index}") for split in splits for index in range(40)]
    chosen = chosen_pictures(source, pictures, {"train5", "train6"})
    assert len(chosen) == len(set(chosen)) == 16
    assert chosen[:2] == [5, 6]
    assert chosen[-1] == 39  # without a box
    assert sum(place >= 40 for place in chosen) in (6, 7)
    assert {37, 77} & set(chosen)


def test_a_source_of_pictures_without_boxes(tmp_path):
    source = Source("here", "coco", LabelMap(("a",)), {"train": split_of("train", tmp_path, [[], []])})
    report = report_of(source, (512, 512))
    assert report.histogram is None
    assert report.counts == {"train": {"a": 0}}
    assert "for want of a box in any split, of 1 of the classes: a" in report.text()
    assert report.html()


@pytest.fixture
def coco(tmp_path):
    """A folder of COCO's with a bad row of each kind, a crowd and a file that is missing."""
    wrong = [
        ([60, 60, -30, -20], 7),
        ([40, 40, 0, 12], 13),
        ([400, 400, 30, 30], 90),
        ([float("nan"), 20, 30, 30], 7),
        ([30, 30, 40, 40], 77),
    ]
    for split, first in (("train", 0), ("val", 100)):
        images, rows = [], []
        for number in range(4):
            name = f"{split}{number}.png"
            images.append({"id": first + number, "file_name": name, "width": 128, "height": 96})
            saved(tmp_path / name)
            for place, category in enumerate((7, 13, 90)):
                box = [10 + 30 * place, 20, 24, 30]
                rows.append(
                    {"image_id": first + number, "category_id": category, "bbox": box, "area": 700, "iscrowd": 0}
                )
        if split == "train":
            rows += [{"image_id": 1, "category_id": category, "bbox": box} for box, category in wrong]
            (tmp_path / "train3.png").unlink()
        rows[0]["iscrowd"] = 1
        rows = [{"id": 1000 * first + 900_000 + number, **row} for number, row in enumerate(rows)]
        categories = [{"id": key, "name": name} for key, name in ((7, "disc"), (13, "square"), (90, "cross"))]
        told = {"images": images, "annotations": rows, "categories": categories}
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(told))
    return tmp_path


def test_what_the_reader_leaves_out_is_named_and_drawn(coco):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in coco.iterdir()}
    report = check_detection(str(coco))
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in coco.iterdir()} == before
    errors = {finding.what.split(":")[0]: finding.files for finding in report.findings if finding.level == "error"}
    for number, kind in enumerate(("turned", "empty", "outside", "not finite", "unknown class")):
        (file,) = errors[kind]
        assert file.startswith(f"train1.png: annotation {900_012 + number}: {kind}")
    (missing,) = errors["1 of 8 pictures are annotated and missing (12.5%)"]
    assert missing.startswith("train3.png: missing")
    assert report.counts["train"] == {"disc": 2, "square": 3, "cross": 3}  # one disc is a crowd
    assert report.source_ids == {"disc": 7, "square": 13, "cross": 90}
    assert report.pictures["train"]["crowds (besides)"] == report.pictures["val"]["crowds (besides)"] == 1
    caption, drawn = report.drawn[0]
    assert caption.startswith("train1.png")
    assert (np.asarray(drawn) == (229, 28, 35)).all(axis=-1).any()  # the lines of a row that was left out


@pytest.mark.parametrize("missing", [True, False])
def test_what_leaves_nothing_is_reported_and_named(tmp_path, missing):
    if not missing:
        saved(tmp_path / "a.png")
    told = {
        "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 96}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 7, "bbox": [0.1, 0.2, 0.5, 0.5]}],  # fractions
        "categories": [{"id": 7, "name": "disc"}],
    }
    (tmp_path / "instances_val.json").write_text(json.dumps(told))
    report = check_detection(str(tmp_path))
    text = report.text()
    assert report.errors and report.html() and json.dumps(report.to_json())
    assert "a.png: annotation 5: empty" in text
    if missing:
        assert "no picture found that can be read" in text and "a.png: missing: not found; tried" in text
    else:
        assert "no box that can be used on any of its pictures" in text
