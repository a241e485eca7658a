"""What all readers of boxes share: looking rows over, sizes, splits, finding pictures, formats, joining, refusing."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.examples import LabelMap, Problem
from resnet_tasks.data.readers import box_rows, classes, detection_formats, sizes
from resnet_tasks.data.readers.boxes import Categories, Picture, Row, assemble
from resnet_tasks.data.readers.detection import read_detection
from resnet_tasks.data.readers.locate import Locator
from resnet_tasks.errors import DataError, UsageError

CATS = Categories(LabelMap(names=("cat", "dog"), source_ids=(7, 90)), {7: 0, 90: 1})
WIDTH, HEIGHT = 100, 50


def draw(path, size=(WIDTH, HEIGHT), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path, **options)
    return str(path)


def row(*box, category=7, number=1, **more):
    return Row(tuple(map(float, box)), category, f"annotation {number}", **more)


def cleaned(*rows, size=(HEIGHT, WIDTH)):
    return box_rows.clean([Picture("a.png", "a.png", rows)], [size], CATS)


def coco(path, images, rows, categories=((7, "cat"), (90, "dog"))):
    """Writes a COCO file; images: name -> id; rows: (image's id, bbox, category's id)."""
    document = {
        "images": [{"id": key, "file_name": name, "width": WIDTH, "height": HEIGHT} for name, key in images.items()],
        "annotations": [
            {"id": 100 + number, "image_id": image, "bbox": bbox, "category_id": category, "iscrowd": 0}
            for number, (image, bbox, category) in enumerate(rows)
        ],
        "categories": [{"id": key, "name": name} for key, name in categories],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("box", "kept", "area"),
    [
        ((10, 10, 20, 30), (10, 10, 20, 30), 200),
        ((0, 0, 100, 50), (0, 0, 100, 50), 5000),
        ((99, 49, 100, 50), (99, 49, 100, 50), 1),  # one pixel in the corner
        ((10, 10, 10.995, 20), (10, 10, 10.995, 20), 9.95),  # a pixel, rounded
        ((-1, -0.5, 10, 50.75), (0, 0, 10, 50), 500),  # up to a pixel over the border: cut without a word
    ],
)
def test_a_good_row_is_kept_and_cut_to_its_picture(box, kept, area):
    rows = cleaned(row(*box))
    np.testing.assert_allclose(rows.boxes, [kept], rtol=0, atol=1e-12)
    np.testing.assert_allclose(rows.area, [area], rtol=1e-9)
    assert (rows.dropped, rows.clipped, rows.labels.tolist(), rows.crowd.tolist()) == ((), (), [0], [False])


def test_a_row_far_over_the_border_is_cut_and_named():
    rows = cleaned(row(-3, 5, 10, 60.5, number=4), row(1, 1, 101.5, 9, category=90, number=5, area=77.5, crowd=True))
    np.testing.assert_array_equal(rows.boxes, [[0, 5, 10, 50], [1, 1, 100, 9]])
    np.testing.assert_array_equal(rows.area, [450, 77.5])  # of what is left; the source's own stays
    assert (rows.labels.tolist(), rows.crowd.tolist()) == ([0, 1], [False, True])
    assert rows.clipped == (
        Problem("a.png", "annotation 4: 10.5 pixels over the border, left -3, top 5, right 10, bottom 60.5"),
        Problem("a.png", "annotation 5: 1.5 pixels over the border, left 1, top 1, right 101.5, bottom 9"),
    )


@pytest.mark.parametrize(
    ("box", "category", "kind"),
    [
        ((20, 10, 10, 30), 7, "turned"),
        ((10, 30, 20, 10), 7, "turned"),
        ((400, 400, 300, 300), 7, "turned"),  # outside too
        ((10, 10, 10, 30), 7, "empty"),
        ((10, 10, 20, 10.98), 7, "empty"),
        ((99.5, 10, 120, 20), 7, "empty"),  # half a pixel is left of it
        ((100, 10, 120, 20), 7, "outside"),  # touches the border from without
        ((-20, 10, -5, 20), 7, "outside"),
        ((10, 60, 20, 70), 7, "outside"),
        ((np.nan, 10, 20, 30), 7, "not finite"),
        ((10, 10, np.inf, 30), 7, "not finite"),
        ((-np.inf, -np.inf, np.inf, np.inf), 7, "not finite"),
        ((10, 10, 20, 30), 77, "unknown class 77"),
        ((10, 10, 20, 30), None, "unknown class None"),
    ],
)
def test_a_bad_row_is_dropped_by_name(box, category, kind):
    rows = cleaned(row(*box, category=category, number=900001), row(1, 2, 3, 4))
    np.testing.assert_array_equal(rows.boxes, [[1, 2, 3, 4]])
    (problem,) = rows.dropped
    assert problem.file == "a.png"
    assert problem.what.startswith(f"annotation 900001: {kind}, left {box[0]:g}, top {box[1]:g}, right {box[2]:g}")
    assert box_rows.counted(rows.dropped) == f"1 {kind.removesuffix(' 77').removesuffix(' None')}"


def test_without_a_size_nothing_is_cut_and_bad_rows_are_still_found():
    rows = cleaned(row(1000, 0, 2000, 10), row(9, 9, 3, 3), size=None)
    np.testing.assert_array_equal(rows.boxes, [[1000, 0, 2000, 10]])
    assert [problem.what[:20] for problem in rows.dropped] == ["annotation 1: turned"]


def test_rows_are_padded_behind_to_one_width_in_all_splits(tmp_path):
    def picture(name, split, number, *rows):
        return Picture(name, draw(tmp_path / name), rows, split, image_id=number)

    pictures = [
        picture("0.png", "val", 50, row(0, 0, 10, 10)),
        picture("1.png", "train", 51, row(0, 0, 10, 20), row(9, 9, 3, 3), row(0, 0, 5, 5, category=90, crowd=True)),
        picture("2.png", "train", 52),
        picture("3.png", "train", 2**40, row(200, 0, 210, 5), row(50, 0, 60, 10, category=90, area=3)),
    ]
    source = assemble(tmp_path, "coco", pictures, CATS, split_seed=0, notes=("first",))
    train, val = source.splits["train"], source.splits["val"]
    assert (train.ids, val.ids) == (("1.png", "2.png", "3.png"), ("0.png",))
    expected = {
        "boxes": [[[0, 0, 10, 20], [0, 0, 5, 5]], [[0] * 4] * 2, [[50, 0, 60, 10], [0] * 4]],
        "labels": [[0, 1], [-1, -1], [1, -1]],
        "crowd": [[False, True], [False, False], [False, False]],
        "area": [[200, 25], [0, 0], [3, 0]],
        "image_id": [51, 52, 2**40],
    }
    for key, array in expected.items():
        np.testing.assert_array_equal(train.annotations[key], array, err_msg=key)
    kinds = {key: array.dtype.name for key, array in train.annotations.items()}
    assert kinds == {"boxes": "float64", "labels": "int32", "crowd": "bool", "area": "float64", "image_id": "int64"}
    assert {key: array.shape for key, array in val.annotations.items()} == {
        "boxes": (1, 2, 4),
        "labels": (1, 2),
        "crowd": (1, 2),
        "area": (1, 2),
        "image_id": (1,),
    }
    assert (source.rows.total, source.rows.crowds, len(source.rows.dropped)) == (6, 1, 2)
    assert source.notes[:3] == (
        "first",
        "its own splits: train, val",
        "4 boxes, 1 of them crowds, on 4 pictures; 1 pictures have none and are background",
    )
    assert source.notes[3].startswith("boxes that cannot be used and are left out (1 turned, 1 outside): 2 (1.png: ann")


def test_no_boxes_at_all_leave_one_column_of_padding(tmp_path):
    source = assemble("here", "voc", [Picture("a.png", draw(tmp_path / "a.png"), (), "val")], CATS, split_seed=0)
    assert source.splits["val"].annotations["labels"].tolist() == [[-1]]
    assert "image_id" not in source.splits["val"].annotations
    nothing = assemble("here", "voc", [], CATS, split_seed=0)
    assert (nothing.splits, nothing.rows.total) == ({}, 0)


def test_files_that_cannot_be_used_take_no_place(tmp_path):
    (tmp_path / "text.png").write_text("words, no picture")
    whole = Path(draw(tmp_path / "whole.png")).read_bytes()
    (tmp_path / "head.png").write_bytes(whole[:8] + b"\0" * 40 + whole[-12:])  # its first and last bytes are right
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "old.pgm")
    names = ["text.png", "whole.png", "head.png", "old.pgm"]
    pictures = [Picture(name, str(tmp_path / name), (row(0, 0, 9, 9),), "train") for name in names]
    rows = row(0, 0, 120, 9), row(9, 9, 3, 3)
    gone = Picture("gone.png", None, rows, "train", annotated_hw=(50, 100), tried=("x/gone.png",))
    sizeless = Picture("sizeless.png", None, rows, "train", annotated_hw=(0, 0))
    source = assemble(tmp_path, "csv", [gone, sizeless, *pictures], CATS, split_seed=0)
    assert source.splits["train"].ids == ("whole.png", "old.pgm")
    assert source.splits["train"].by_pillow == {1}
    assert [problem.file for problem in source.problems] == ["gone.png", "sizeless.png", "text.png", "head.png"]
    assert source.problems[0].what == "missing: not found; tried x/gone.png"
    assert "not a picture" in source.problems[2].what
    assert "header cannot be read" in source.problems[3].what
    # A lost picture's rows are counted and looked over by the size that its annotation claims.
    assert (source.rows.total, len(source.rows.dropped), len(source.rows.clipped)) == (8, 2, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_decoded_picture(tmp_path, orientation):
    from resnet_tasks.data import decode

    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in (".jpg", ".tif"):
        path = draw(tmp_path / f"a{suffix}", (30, 20), exif=exif)
        upright = (30, 20) if orientation >= 5 else (20, 30)
        assert sizes.upright_sizes([path, Path(path).read_bytes()]) == [upright, upright]
        assert decode.decode_array(path).shape[:2] == upright


def test_an_orientation_that_the_decoder_does_not_heed_turns_nothing(tmp_path):
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>"
    segment = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    plain = Path(draw(tmp_path / "a.jpg", (30, 20))).read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    png = draw(tmp_path / "a.png", (30, 20), exif=exif)
    broken = b"\xff\xe1\x00\x10Exif\0\0" + b"\xff" * 8
    assert sizes.upright_sizes([plain[:2] + segment + plain[2:], png, plain[:2] + broken + plain[2:]]) == [(20, 30)] * 3


def test_a_turned_picture_is_cut_upright_and_its_annotation_is_doubted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    paths = [draw(tmp_path / f"{name}.jpg", (100, 50), exif=exif) for name in "abcd"]
    claims = [(100, 50), (50, 100), (200, 100), (0, 0)]
    pictures = [
        Picture(f"{name}.jpg", path, (row(40, 0, 60, 90),), "train", annotated_hw=claim)
        for name, path, claim in zip("abcd", paths, claims)
    ]
    pictures.append(Picture("e.jpg", draw(tmp_path / "e.jpg", (100, 50)), (), "val"))
    source = assemble(tmp_path, "coco", pictures, CATS, split_seed=0)
    np.testing.assert_array_equal(source.splits["train"].annotations["boxes"], [[[40, 0, 50, 90]]] * 4)
    assert source.disagree == (
        Problem("b.jpg", "annotated as 100 wide and 50 high, on its side; it is 50 wide and 100 high"),
        Problem("c.jpg", "annotated as 100 wide and 200 high; it is 50 wide and 100 high"),
    )
    assert any("another size than their annotation" in note and "2 (b.jpg" in note for note in source.notes)


def scattered(tmp_path, repaired=False):
    """30 pictures of many cats and a dog, 50 of cats alone, 20 background; some cannot be read, some rows are bad."""

    def at(name):
        return draw(tmp_path / name)

    dog = row(0, 0, 9, 9, category=90) if repaired else row(9, 9, 0, 0, category=90)
    pictures = [Picture(f"dog{n}.png", at(f"dog{n}.png"), (row(0, 0, 9, 9), row(5, 5, 9, 9), dog)) for n in range(30)]
    cats = [at(f"cat{n}.png") if n or repaired else None for n in range(50)]
    pictures += [Picture(f"cat{n}.png", path, (row(0, 0, 9, 9),)) for n, path in enumerate(cats)]
    return [*pictures, *(Picture(f"none{n}.png", at(f"none{n}.png"), ()) for n in range(20))]


def test_a_split_of_our_own_goes_by_the_rarest_class_of_each_picture(tmp_path):
    source = assemble("here", "voc", scattered(tmp_path), CATS, split_seed=0)
    counts = {
        name: [sum(id.startswith(word) for id in split.ids) for word in ("dog", "cat", "none")]
        for name, split in source.splits.items()
    }
    # One of the 40 cats for training is missing, and moved no other.
    assert counts == {"train": [24, 39, 16], "val": [3, 5, 2], "test": [3, 5, 2]}
    repaired = assemble("here", "voc", scattered(tmp_path, repaired=True), CATS, split_seed=0)
    for name, split in source.splits.items():
        assert [id for id in repaired.splits[name].ids if id != "cat0.png"] == list(split.ids)
    other = assemble("here", "voc", scattered(tmp_path), CATS, split_seed=1)
    assert set(other.splits["test"].ids) != set(source.splits["test"].ids)


def test_groups_stay_on_one_side(tmp_path):
    names = [f"{film}_{n}.png" for film in range(20) for n in range(3)]
    pictures = [Picture(name, draw(tmp_path / name), (row(0, 0, 9, 9),)) for name in names]
    by_name = assemble("here", "csv", pictures, CATS, split_seed=0, group=r"^(\d+)_")
    known = [picture.name.split("_")[0] for picture in pictures]
    by_column = assemble("here", "csv", pictures, CATS, split_seed=0, group="film", groups=known)
    for source in (by_name, by_column):
        sides = [{id.split("_")[0] for id in split.ids} for split in source.splits.values()]
        assert sorted(map(len, sides)) == [2, 2, 16] and len(set.union(*sides)) == 20
    with pytest.raises(DataError, match="finds nothing in '0_0.png'"):
        assemble("here", "csv", pictures, CATS, split_seed=0, group="video")


def test_pictures_in_no_split_are_not_used_where_others_have_one(tmp_path):
    path = draw(tmp_path / "one.png")
    pictures = [Picture(f"{side}.png", path, (row(0, 0, 9, 9),), side) for side in ("train", None, "test")]
    source = assemble("here", "csv", pictures, CATS, split_seed=0)
    assert {name: split.ids for name, split in source.splits.items()} == {
        "train": ("train.png",),
        "test": ("test.png",),
    }
    assert source.rows.total == 2
    assert "in no split, and not used: 1 pictures (None.png)" in source.notes


def test_finding_pictures(tmp_path):
    accented = unicodedata.normalize("NFD", "caf\u00e9.png")
    for name in (
        "a.png",
        "images/a.png",
        "images/b.JPG",
        "deep/er/c.png",
        "one/d.png",
        "two/d.png",
        f"images/{accented}",
    ):
        draw(tmp_path / name)
    (tmp_path / "images" / "b.txt").write_text("")
    draw(tmp_path / ".hidden" / "e.png")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    locator = Locator(tmp_path)
    here, images = tmp_path, tmp_path / "images"

    def find(name, *folders, **options):
        found = locator.find(name, folders or (here, here / "nowhere", images), **options)
        return found.path and Path(found.path).relative_to(tmp_path).as_posix()

    assert find("a.png") == "a.png"
    assert find("a.png", images, here) == "images/a.png"
    assert find(str(images / "a.png")) == "images/a.png"  # absolute
    assert find(r"images\a.png") == find("./images/a.png") == find("../images/a.png", images) == "images/a.png"
    assert find("caf\u00e9.png") == f"images/{accented}"
    assert find(r"C:\data\c.png") == "deep/er/c.png"  # by its base name
    assert find("b", any_suffix=True) == "images/b.JPG"
    assert find("er/c", any_suffix=True) == "deep/er/c.png"
    assert find("d.png") is None and find("e.png") is None
    assert locator.find("d.png", [here, here / "nowhere"]).tried == (
        str(here / "d.png"),
        f"below {here} 2 files of the name d.png",
    )
    assert sorted(Path(path).name for path in locator.pictures(images)) == ["a.png", "b.JPG", accented]


def test_a_file_that_is_anothers_is_not_guessed(tmp_path):
    draw(tmp_path / "cam1" / "0.png")
    draw(tmp_path / "cam2" / "1.png")
    locator = Locator(tmp_path)
    pictures = []
    for name in ("cam1/0.png", "cam2/0.png", "cam3/1.png"):
        found = locator.find(name, [tmp_path])
        pictures.append(Picture(name, found.path, (row(1, 1, 9, 9),), "val", tried=found.tried, guessed=found.guessed))
    source = assemble("here", "coco", pictures, CATS, split_seed=0)
    assert source.splits["val"].ids == ("cam1/0.png", "cam3/1.png")  # the last by the only file of its name
    (problem,) = source.problems
    assert problem.file == "cam2/0.png"
    assert problem.what == (
        f"missing: not found; tried {tmp_path / 'cam2' / '0.png'}, the only file of that name is cam1/0.png's"
    )
    several = [pictures[2], replace(pictures[2], name="cam4/1.png", rows=())]
    source = assemble("here", "coco", [pictures[0], *several], CATS, split_seed=0)
    assert source.splits["val"].ids == ("cam1/0.png",)
    assert source.problems[0].what.endswith("is cam4/1.png's as well")
    listed_twice = [pictures[2], replace(pictures[2], split="test")]
    assert not assemble("here", "voc", listed_twice, CATS, split_seed=0).problems


def test_one_file_of_two_names_is_one_picture(tmp_path):
    path = draw(tmp_path / "a.png")
    (tmp_path / "link").symlink_to(tmp_path)
    other = str(tmp_path / "link" / "a.png")
    pictures = [
        Picture("a.png", path, (row(1, 1, 9, 9),), "val", 7),
        Picture("link/a.png", other, (row(2, 2, 9, 9, number=2),), "val", 8),
        Picture("a.png", path, (), "test", 7),
    ]
    source = assemble("here", "coco", pictures, CATS, split_seed=0)
    assert {name: split.ids for name, split in source.splits.items()} == {"val": ("a.png",), "test": ("a.png",)}
    val = source.splits["val"].annotations
    assert (val["image_id"].tolist(), val["boxes"][0, :, 0].tolist()) == ([7], [1, 2])
    assert any("whose boxes are put together: 1 (link/a.png)" in note for note in source.notes)


def test_what_is_all_train_is_split_without_what_is_in_no_split(tmp_path):
    pictures = [
        Picture(f"{n}.png", draw(tmp_path / f"{n}.png"), (row(1, 1, 9, 9),), "train" if n < 20 else None)
        for n in range(22)
    ]
    source = assemble("here", "yolo", pictures, CATS, split_seed=0, group=r"\d+")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 16, "val": 2, "test": 2}
    assert "in no split, and not used: 2 pictures (20.png, 21.png)" in source.notes
    patients = [str(n % 10) for n in range(22)]
    grouped = assemble("here", "csv", pictures, CATS, split_seed=0, group="patient", groups=patients).splits
    sides = [{id.removesuffix(".png")[-1] for id in split.ids} for split in grouped.values()]
    assert len(sides) == 3 and sum(map(len, sides)) == 10


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("instances_train.json", "images/a.jpg"), "coco"),
        (("annotations/instances_val2017.json",), "coco"),
        (("train/_annotations.coco.json", "train/a.jpg"), "coco"),
        (("boxes.json", "a.jpg"), "coco"),
        (("Annotations/a.xml", "boxes.csv"), "voc"),
        (("VOCdevkit/VOC2007/Annotations/a.xml",), "voc"),
        (("train/a.xml", "train/a.jpg", "about.json"), "voc"),
        (("a.xml", "a.jpg"), "voc"),
        (("data.yaml", "train/images/a.jpg", "train/labels/a.txt"), "yolo"),
        (("labels/train/a.txt", "images/train/a.jpg"), "yolo"),
        (("a.jpg", "a.txt"), "yolo"),
        (("train/a.jpg", "train/a.txt", "notes.md"), "yolo"),
        (("boxes.csv", "a.jpg"), "csv"),
        (("train/_annotations.csv", "train/a.jpg"), "csv"),
    ],
)
def test_the_format_of_a_folder_is_found_out(tmp_path, files, expected):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("names: [a]\n")
    assert detection_formats.find(str(tmp_path)) == expected


def test_the_format_by_name_and_what_is_none(tmp_path):
    assert detection_formats.find("tfds:voc") == "tfds"
    assert detection_formats.find("digits") == "digits"
    for name, expected in (("a.json", "coco"), ("a.YAML", "yolo"), ("a.tsv", "csv")):
        (tmp_path / name).write_text("")
        assert detection_formats.find(str(tmp_path / name)) == expected
    (tmp_path / "a.doc").write_text("")
    with pytest.raises(UsageError, match=r"a\.doc: a folder, a \.json"):
        read_detection(tmp_path / "a.doc")
    with pytest.raises(UsageError, match="nowhere does not exist"):
        read_detection(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="nowhere does not exist"):
        read_detection(tmp_path / "nowhere", data_format="voc")
    with pytest.raises(UsageError, match="data format: auto, coco"):
        read_detection(tmp_path, data_format="pascal")
    with pytest.raises(UsageError, match="on_bad_image: auto"):
        read_detection(tmp_path, on_bad_image="never")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no annotations found; expected COCO"):
        read_detection(tmp_path / "none")
    for name in ("train.json", "labels/a.txt"):
        (tmp_path / "two" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "two" / name).write_text("")
    with pytest.raises(UsageError, match="looks like coco and like yolo"):
        read_detection(tmp_path / "two")


def test_a_folder_of_csv_files(tmp_path):
    for split, count in (("train", 3), ("valid", 2)):
        for name in ("a.png", "b.png"):
            draw(tmp_path / split / name)
        lines = [f"{'ab'[n % 2]}.png,1,2,{10 + n},20,cat" for n in range(count)]
        (tmp_path / split / "_annotations.csv").write_text("\n".join(["filename,xmin,ymin,xmax,ymax,class", *lines]))
    source = read_detection(tmp_path)
    assert (source.format, source.where, source.rows.total) == ("csv", str(tmp_path), 5)
    assert source.splits["train"].annotations["boxes"].tolist() == [
        [[1, 2, 10, 20], [1, 2, 12, 20]],
        [[1, 2, 11, 20], [0] * 4],
    ]
    assert source.splits["val"].annotations["labels"].tolist() == [[0, -1], [0, -1]]


def twenty(tmp_path, bad):
    images = {f"{n}.png": n for n in range(20)}
    for name in images:
        draw(tmp_path / name)
    rows = [(n, [5, 5, 0 if n < bad else 9, 9], 7) for n in images.values()]
    return coco(tmp_path / "boxes.json", images, rows)


def test_up_to_five_per_cent_of_bad_rows_are_left_out_and_more_are_refused(tmp_path):
    source = read_detection(twenty(tmp_path, bad=1))
    assert len(source.rows.dropped) == 1
    assert any("left out (1 empty): 1 (0.png: annotation 100: empty, left 5" in note for note in source.notes)
    with pytest.raises(DataError, match=r"2 of 20 boxes cannot be used \(10\.0 %, at most 5 %"):
        read_detection(twenty(tmp_path, bad=2))
    path = twenty(tmp_path, bad=12)
    with pytest.raises(DataError) as refused:
        read_detection(path)
    said = str(refused.value)
    assert refused.value.exit_code == 3
    assert "12 of 20 boxes cannot be used (60.0 %, at most 5 % is allowed): 12 empty" in said
    assert "  0.png: annotation 100: empty" in said and "9.png: annotation 109" in said
    assert "annotation 110" not in said and "and 2 more" in said
    assert len(read_detection(path, most_bad_rows=0.6).rows.dropped) == 12
    with pytest.raises(DataError, match="no box that can be used"):
        read_detection(twenty(tmp_path, bad=20), most_bad_rows=1)


def test_missing_pictures_are_held_to_the_policy_of_unreadable_ones(tmp_path):
    path = twenty(tmp_path, bad=0)
    (tmp_path / "3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 20 pictures cannot be read(?s:.*)3\.png: missing: not found; tried"):
        read_detection(path)
    source = read_detection(path, on_bad_image="skip")
    assert sum(map(len, source.splits.values())) == 19
    assert any(note.startswith("cannot be read and left out: 1 (3.png: missing") for note in source.notes)
    with pytest.raises(DataError, match="none is allowed"):
        read_detection(path, on_bad_image="fail")


def test_parts_are_joined_by_name_and_number(tmp_path):
    for name in "abcd":
        draw(tmp_path / f"{name}.png")
    one = coco(tmp_path / "one.json", {"a.png": 1, "b.png": 2}, [(1, [0, 0, 9, 9], 90), (1, [1, 1, 5, 5], 7)])
    few = ((90, "dog"), (13, "eel"))
    two = coco(tmp_path / "two.json", {"c.png": 1}, [(1, [0, 0, 8, 8], 13), (1, [50, 50, 1, 0], 90)], few)
    source = read_detection({"train": str(one), "valid": str(two)}, most_bad_rows=0.5)
    assert (source.labels.names, source.labels.source_ids) == (("cat", "eel", "dog"), (7, 13, 90))
    assert list(source.splits) == ["train", "val"]
    assert source.splits["train"].annotations["labels"].tolist() == [[2, 0], [-1, -1]]
    assert source.splits["val"].annotations["labels"].tolist() == [[1, -1]]
    assert source.splits["val"].annotations["boxes"].tolist() == [[[0, 0, 8, 8], [0, 0, 0, 0]]]
    assert source.splits["val"].annotations["image_id"].tolist() == [1]
    assert (source.rows.total, len(source.rows.dropped), source.format) == (4, 1, "coco")
    assert not any("80/10/10" in note for note in source.notes)
    assert "classes without a box in train, which nothing can be learnt of: 1 (eel)" in source.notes
    other = coco(tmp_path / "other.json", {"d.png": 1}, [(1, [0, 0, 8, 8], 3)], ((3, "cat"),))
    with pytest.raises(DataError, match=r"class 'cat' is number 7 in train=.*one.json and 3 in val=.*other.json"):
        read_detection({"train": str(one), "val": str(other)})
    with pytest.raises(UsageError, match="names the split 'val' twice"):
        read_detection({"val": str(one), "valid": str(two)})
    with pytest.raises(UsageError, match="--data night=...: train, val or test expected"):
        read_detection({"night": str(one)})


def test_a_part_of_several_files_loses_numbers_that_repeat(tmp_path):
    for split in ("train", "valid"):
        draw(tmp_path / split / f"{split}.png")
        rows = [(0, [0, 0, 9, 9], 7)] * (2 if split == "valid" else 1)
        coco(tmp_path / split / "_annotations.coco.json", {f"{split}.png": 0}, rows)
    source = read_detection({"test": str(tmp_path)})
    assert source.splits["test"].ids == ("train/train.png", "valid/valid.png")
    assert source.splits["test"].annotations["labels"].tolist() == [[0, -1], [0, 0]]
    assert "image_id" not in source.splits["test"].annotations


def test_classes_of_several_files():
    def agreed(*maps):
        return classes.agreed({str(number): LabelMap(*each) for number, each in enumerate(maps)})

    assert agreed((("b", "a"), ()), (("b", "a"), ())).names == ("b", "a")
    assert agreed((("b", "a"), ()), (("a",), ())).names == ("b", "a")  # the first has them all
    assert agreed((("b", "a10"), ()), (("a9",), ())).names == ("a9", "a10", "b")
    both = agreed((("b",), (5,)), (("a", "b"), (2, 5)))
    assert (both.names, both.source_ids) == (("a", "b"), (2, 5))
    mixed = agreed((("b", "c"), (5, 6)), (("a",), ()))  # of "a" no number is known
    assert (mixed.names, mixed.source_ids) == (("a", "b", "c"), ())
    with pytest.raises(DataError, match="class number 5 is 'b' in 0 and 'a' in 1"):
        agreed((("b",), (5,)), (("a",), (5,)))


def test_only_crowds_are_nothing_to_learn(tmp_path):
    draw(tmp_path / "a.png")
    file = coco(tmp_path / "instances_val.json", {"a.png": 1}, [(1, [1, 1, 9, 9], 7)])
    document = json.loads(file.read_text())
    document["annotations"][0]["iscrowd"] = 1
    (tmp_path / "crowds.json").write_text(json.dumps(document))
    crowds, plain = str(tmp_path / "crowds.json"), str(file)
    with pytest.raises(DataError, match=r"no box that can be used on any .*; 1 are marked as crowds or difficult"):
        read_detection(crowds)
    with pytest.raises(DataError, match=r"on any picture of train; 1 are marked as crowds"):
        read_detection({"train": crowds, "val": plain})
    read_detection({"train": plain, "val": crowds})


def test_what_leaves_nothing_is_named(tmp_path):
    file = coco(tmp_path / "instances_val.json", {"gone.png": 1}, [(1, [1, 1, 9, 9], 7)])
    with pytest.raises(DataError, match=r"no picture found that can be read\n  gone\.png: missing: not found"):
        read_detection(str(file), on_bad_image="skip")
    draw(tmp_path / "a.png")
    file = coco(tmp_path / "instances_val.json", {"a.png": 1}, [(1, [0.1, 0.1, 0.5, 0.5], 7)])
    with pytest.raises(DataError, match=r"no box that can be used.*\n  a\.png: annotation 100: empty"):
        read_detection(str(file), most_bad_rows=1.0)
