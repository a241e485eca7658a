"""The readers of COCO's JSON and of Pascal VOC's XML, on small folders and on the real data sets."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.readers import coco, coco_layout, voc
from resnet_tasks.data.readers.detection import look, read_detection
from resnet_tasks.detection.matching import Found
from resnet_tasks.detection.metrics import Predictions, measure
from resnet_tasks.errors import DataError, UsageError

WIDTH, HEIGHT = 64, 48


def draw(path, size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path)


def picture(key, name, **more):
    return {"id": key, "file_name": name, "width": WIDTH, "height": HEIGHT, **more}


def annotation(key, image, category=7, bbox=(1, 2, 10, 20), **more):
    return {"id": key, "image_id": image, "category_id": category, "bbox": list(bbox), **more}


CATEGORIES = ({"id": 90, "name": "eel"}, {"id": 7, "name": "cat", "supercategory": "pet"}, {"id": 13, "name": "dog"})


def write(path, images, annotations, categories=CATEGORIES):
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"info": {}, "images": images, "annotations": annotations, "categories": list(categories)}
    path.write_text(json.dumps(document))
    return path


def layout(source):
    return {name: split.ids for name, split in source.splits.items()}


def test_coco_in_full(tmp_path):
    for name in ("t/0.png", "t/1.png", "v.png"):
        draw(tmp_path / "images" / name)
    polygon = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]
    write(
        tmp_path / "instances_train.json",
        [picture(5007, "t/0.png"), picture(3, r"t\1.png")],
        [
            annotation(1, 5007, 90, (1.5, 2.25, 10, 20), area=123.5, iscrowd=1, segmentation=polygon),
            annotation(2, 3, 7, (0, 0, 64, 48), keypoints=[1, 2, 2], area=None),
            annotation(3, 5007, 7, (60, 40, 4, 8), iscrowd=0, area=9),
        ],
    )
    write(tmp_path / "instances_val.json", [picture(5007, "v.png")], [])
    source = coco.read(tmp_path)
    assert (source.labels.names, source.labels.source_ids) == (("cat", "dog", "eel"), (7, 13, 90))
    assert layout(source) == {"train": ("t/0.png", "t/1.png"), "val": ("v.png",)}
    train = source.splits["train"]
    assert [Path(path).relative_to(tmp_path).as_posix() for path in train.paths] == ["images/t/0.png", "images/t/1.png"]
    assert train.annotations["boxes"].tolist() == [
        [[1.5, 2.25, 11.5, 22.25], [60, 40, 64, 48]],
        [[0, 0, 64, 48], [0] * 4],
    ]
    assert train.annotations["labels"].tolist() == [[2, 0], [0, -1]]
    assert train.annotations["crowd"].tolist() == [[True, False], [False, False]]
    assert train.annotations["area"].tolist() == [[123.5, 9], [64 * 48, 0]]
    assert train.annotations["image_id"].tolist() == [5007, 3]
    assert source.splits["val"].annotations["labels"].tolist() == [[-1, -1]]
    assert (source.rows.total, source.rows.crowds, source.disagree, source.problems) == (3, 1, (), ())
    assert source.notes[0] == "COCO's JSON (instances_train.json, instances_val.json): 3 classes"


def test_rows_of_a_coco_file_that_cannot_be_used_are_named_by_their_ids(tmp_path):
    draw(tmp_path / "a.png")
    nan = float("nan")
    rows = [
        annotation(1, 1),
        annotation(2, 8),
        annotation(3, 1, bbox=(1, 2, 3)),
        annotation(4, 1, bbox=(1, "2", 3, 4)),
        {"id": 5, "image_id": 1, "category_id": 7},
        annotation(6, 1, bbox=(1, nan, 3, 4)),
        annotation(7, 1, bbox=(1, 2, 10**400, 4)),
        annotation(8, 1, category=77),
        annotation(9, 1, category=[7]),
        annotation(10, 1, bbox=(60, 40, -30, -20)),
        annotation(11, 1, bbox=(40, 40, 0, 5)),
        annotation(12, 1, bbox=(400, 40, 5, 5)),
        {"image_id": 1, "category_id": 7, "bbox": [0, 0, 0, 0]},
        "nothing",
    ]
    source = coco.read(write(tmp_path / "train.json", [picture(1, "a.png")], rows))
    assert source.splits["train"].annotations["boxes"].tolist() == [[[1, 2, 11, 22]]]
    assert source.rows.total == 14
    said = {problem.what.partition(",")[0]: problem.file for problem in source.rows.dropped}
    assert said == {
        "annotation 2: no such picture": "train.json",
        "annotation 3: no box": "a.png",
        "annotation 4: no box": "a.png",
        "annotation 5: no box": "a.png",
        "annotation 6: not finite": "a.png",
        "annotation 7: not finite": "a.png",
        "annotation 8: unknown class 77": "a.png",
        "annotation 9: unknown class '[7]'": "a.png",
        "annotation 10: turned": "a.png",
        "annotation 11: empty": "a.png",
        "annotation 12: outside": "a.png",
        "entry 12 of annotations: empty": "a.png",
        "entry 13 of annotations: no such picture": "train.json",
    }


@pytest.mark.parametrize(
    ("files", "where", "expected"),
    [
        (("instances_train2017.json", "instances_val2017.json"), "", {"train": "train2017", "val": "val2017"}),
        (("annotations/instances_train.json", "annotations/instances_val.json"), "", {"train": "train", "val": "val"}),
        (("train.json", "valid.json", "test.json"), "", {"train": "train", "val": "valid", "test": "test"}),
        (("annotations/my_test-set.json",), "", {"test": "test"}),
        (("annotations/instances_val2014.json",), "annotations", {"val": "val2014"}),
        (("annotations/instances_val2014.json",), "annotations/instances_val2014.json", {"val": "val2014"}),
        # COCO's own folder holds others, without boxes or with the same ones again.
        (
            (
                "annotations/captions_val2017.json",
                "annotations/person_keypoints_val2017.json",
                "annotations/instances_val2017.json",
                "annotations/image_info_test2017.json",
            ),
            "",
            {"val": "val2017"},
        ),
        (("person_keypoints_val2017.json",), "", {"val": "val2017"}),
    ],
)
@pytest.mark.parametrize("images", ["{}", "images/{}", "data/deep/{}"])
def test_splits_by_the_names_of_coco_files(tmp_path, files, where, expected, images):
    for split, word in expected.items():
        draw(tmp_path / images.format(word) / f"{split}.png")
    for file in files:
        split = next((split for split, word in expected.items() if word in file), "elsewhere")
        write(tmp_path / file, [picture(1, f"{split}.png")], [annotation(1, 1)])
    source = coco.read(tmp_path / where)
    assert layout(source) == {split: (f"{split}.png",) for split in expected}
    assert [split.paths[0] for split in source.splits.values()] == [
        str(tmp_path / images.format(word) / f"{split}.png") for split, word in expected.items()
    ]


@pytest.mark.parametrize("folder", ["{}", "images/{}"])
def test_a_file_name_in_two_splits_is_found_in_each(tmp_path, folder):
    for split in ("train", "val"):
        draw(tmp_path / folder.format(split) / "0.png", (WIDTH, HEIGHT + (split == "val")))
        write(tmp_path / f"{split}.json", [picture(1, "0.png", height=HEIGHT + (split == "val"))], [annotation(1, 1)])
    source = coco.read(tmp_path)
    assert (source.problems, source.disagree) == ((), ())


def test_roboflow_s_coco(tmp_path):
    categories = ({"id": 0, "name": "cat", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "cat"})
    for folder in ("train", "valid", "test"):
        draw(tmp_path / folder / "0.png")
        write(tmp_path / folder / "_annotations.coco.json", [picture(0, "0.png")], [annotation(0, 0, 1)], categories)
    source = read_detection(tmp_path)
    assert not any(note.startswith("classes without a box in train") for note in source.notes)
    assert layout(source) == {"train": ("train/0.png",), "val": ("valid/0.png",), "test": ("test/0.png",)}
    assert (source.labels.names, source.labels.source_ids) == (("cat",), (1,))
    assert source.splits["val"].paths == (str(tmp_path / "valid" / "0.png"),)
    one = [annotation(0, 0, 1, iscrowd=1)]
    write(tmp_path / "train" / "_annotations.coco.json", [picture(0, "0.png")], one, categories)
    crowd = look(str(tmp_path)).notes  # of crowds nothing is learnt
    assert "classes without a box in train, which nothing can be learnt of: 1 (cat)" in crowd
    alone = read_detection(tmp_path / "valid" / "_annotations.coco.json")
    assert list(alone.splits) == ["val"]


@pytest.mark.parametrize("name", ["boxes.json", "annotations/boxes.json", "train.json", "train/_annotations.coco.json"])
def test_one_coco_file_for_all_is_split(tmp_path, name):
    images = [picture(key, f"{key}.png") for key in range(30)]
    for each in images:
        draw(tmp_path / each["file_name"])
    write(tmp_path / name, images, [annotation(key, key) for key in range(30)])
    source = read_detection(tmp_path)
    assert {split: len(ids) for split, ids in layout(source).items()} == {"train": 24, "val": 3, "test": 3}
    assert any("80/10/10" in note for note in source.notes)
    for split in source.splits.values():  # what belongs together stays together
        assert [f"{key}.png" for key in split.annotations["image_id"]] == [id.rpartition("/")[2] for id in split.ids]


def test_the_folder_of_the_pictures_may_be_named(tmp_path):
    draw(tmp_path / "pictures" / "sub" / "a.png")
    draw(tmp_path / "b.png", (9, 9))
    draw(tmp_path / "pictures" / "b.png")
    file = write(tmp_path / "boxes" / "val.json", [picture(1, "a.png"), picture(2, "b.png")], [annotation(1, 1)])
    source = coco.read(file, images=str(tmp_path / "pictures"))
    assert source.splits["val"].paths == tuple(str(tmp_path / "pictures" / name) for name in ("sub/a.png", "b.png"))
    with pytest.raises(UsageError, match="--images .*nowhere does not exist"):
        coco.read(file, images=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("keys", [("x-1", 2.0, 3.5), ("img-0", "img-1", "img-2"), (2**70, 1, 2)])
def test_ids_of_pictures_that_are_no_numbers_are_kept(tmp_path, keys):
    for name in "abc":
        draw(tmp_path / f"{name}.png")
    images = [picture(key, f"{name}.png") for key, name in zip(keys, "abc")]
    split = coco.read(write(tmp_path / "val.json", images, [annotation(1, keys[0])])).splits["val"]
    assert [json.loads(number) for number in split.annotations["image_id"].tolist()] == list(keys)
    found = Found(np.arange(3), np.zeros(3, np.int32), np.zeros((3, 4), np.float32), np.ones(3, np.float32))
    assert [row["image_id"] for row in json.loads(json.dumps(list(Predictions(found, split, (7,)))))] == list(keys)
    targets = {"index": np.arange(3), "weight": np.ones(3)}
    answers = {
        "boxes": np.float32([[[1, 2, 11, 22]]] * 3),
        "scores": np.float32([[0.9], [0.0], [0.0]]),
        "label_ids": np.int32([[0], [-1], [-1]]),
    }
    assert measure([(answers, targets)], split, LabelMap(("cat", "dog", "eel")))["AP"] == pytest.approx(1)


def test_two_ids_of_one_file_are_one_picture(tmp_path):
    draw(tmp_path / "a.png")
    images = [picture(1, "a.png"), picture(2, "./a.png")]
    split = coco.read(write(tmp_path / "val.json", images, [annotation(1, 1), annotation(2, 2)])).splits["val"]
    assert split.ids == ("a.png",) and split.annotations["labels"].tolist() == [[0, 0]]


def test_a_missing_picture_of_coco_is_not_anothers(tmp_path):
    draw(tmp_path / "train" / "0.png")
    for split in ("train", "val"):
        write(tmp_path / "annotations" / f"instances_{split}.json", [picture(1, "0.png")], [annotation(1, 1)])
    source = coco.read(tmp_path)
    assert list(source.splits) == ["train"]
    assert source.problems[0].what.endswith("the only file of that name is 0.png's in train")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", r"not JSON \(.*a COCO file was expected"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00\xd8", "not JSON"),
        ("[]", "an object with the lists images, annotations, categories was expected, it is a list"),
        ('{"images": [], "info": {}}', "was expected, it is an object with 'images', 'info'"),
        ('{"images": [], "annotations": {}, "categories": []}', "was expected"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "entry 0 of images has"),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "entry 0 of categories has no id or no name"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "two categories have the id 1: 'a' and 'b'",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": [], '
            '"categories": [{"id": 1, "name": "a"}]}',
            "two images have the id 1: a and b",
        ),
        (
            '{"images": [], "annotations": [{"category_id": 1}, {"category_id": 2}], '
            '"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "two categories have the name 'a', ids 1 and 2, and both have boxes",
        ),
    ],
)
def test_what_is_no_coco_file_is_said(tmp_path, text, said):
    path = tmp_path / "boxes.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=said):
        coco.read(path)


def test_coco_files_that_disagree(tmp_path):
    draw(tmp_path / "a.png")
    write(tmp_path / "train.json", [picture(1, "a.png")], [annotation(1, 1)])
    write(tmp_path / "val.json", [picture(1, "a.png")], [annotation(1, 1, 3)], ({"id": 3, "name": "cat"},))
    with pytest.raises(DataError, match=r"class 'cat' is number 7 in .*train\.json and 3 in .*val\.json"):
        coco.read(tmp_path)
    # A file may lack classes that another has.
    write(tmp_path / "val.json", [picture(1, "a.png")], [annotation(1, 1, 13)], ({"id": 13, "name": "dog"},))
    source = coco.read(tmp_path)
    assert source.labels.names == ("cat", "dog", "eel")
    assert source.splits["val"].annotations["labels"].tolist() == [[1]]
    write(tmp_path / "valid.json", [], [])
    with pytest.raises(DataError, match=r"2 files for val: val\.json, valid\.json; name one: --data val=FILE"):
        coco.read(tmp_path)
    for name in ("train", "val", "valid"):
        (tmp_path / f"{name}.json").rename(tmp_path / f"{name}s.json")
    with pytest.raises(DataError, match=r"one JSON file for each split was expected.* found these: trains\.json"):
        coco_layout.annotation_files(tmp_path)


def thing(name, box, *, difficult=0, inner=""):
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
    mark = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{mark}<bndbox>{corners}</bndbox>{inner}</object>"


def annotate(path, *things, filename="", size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path.write_text(f"<annotation><filename>{filename}</filename>{sides}{''.join(things)}</annotation>")


def many(root, names, *, annotations="Annotations", pictures="JPEGImages", box=(1, 1, 9, 9)):
    for name in names:
        annotate(root / annotations / f"{name}.xml", thing("cat", box))
        draw(root / pictures / f"{name}.png")
    return root


def lists(root, **of):
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in of.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def test_voc_in_full(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part>"
    part += part.replace("part>", "object>")
    annotate(
        tmp_path / "Annotations" / "1.xml",
        thing("dog10", (1, 1, 64, 48), inner=part),  # the whole picture
        thing("dog9", (10.5, 20, 30.25, 40), difficult=1),
        thing("dog9", (5, 5, 6, 6), difficult=None),  # two pixels by two
        filename="other.png",
    )
    annotate(tmp_path / "Annotations" / "2.xml", size=(48, 64))  # background, annotated on its side
    annotate(tmp_path / "Annotations" / "3.xml", thing("dog9", (1, 1, 9, 9)))
    for name in ("1.png", "2.png", "3.png", "other.png"):
        draw(tmp_path / "JPEGImages" / name)
    lists(tmp_path, train=["1"], val=["2  1"], cat_train=["1 -1", "2 1"])
    source = read_detection(tmp_path)
    assert (source.format, source.labels.names, source.labels.source_ids) == ("voc", ("dog9", "dog10"), ())
    assert layout(source) == {"train": ("1.png",), "val": ("2.png",)}
    train = source.splits["train"].annotations
    assert train["boxes"].tolist() == [[[0, 0, 64, 48], [9.5, 19, 30.25, 40], [4, 4, 6, 6]]]
    assert train["labels"].tolist() == [[1, 0, 0]]
    assert train["crowd"].tolist() == [[False, True, False]]
    assert train["area"].tolist() == [[64 * 48, 20.75 * 21, 4]]
    assert "image_id" not in train
    assert source.splits["val"].annotations["labels"].tolist() == [[-1, -1, -1]]
    assert [problem.what.split(";")[0] for problem in source.disagree] == [
        "annotated as 48 wide and 64 high, on its side"
    ]
    assert (source.rows.total, source.rows.crowds) == (3, 1)
    notes = " | ".join(source.notes)
    assert "marked as difficult, and so neither learnt nor asked for in evaluation, as crowds: 1 objects" in notes
    assert "in no list of ImageSets, and not used: 1 of 3 XML files" in notes


def test_rows_of_voc_that_cannot_be_used_are_named_by_file_and_number(tmp_path):
    annotate(
        tmp_path / "Annotations" / "a.xml",
        thing("cat", (1, 1, 9, 9)),
        thing("cat", (5, 5, 5, 5)),  # drawn by a click
        thing("cat", (5, 5, 5, 9)),
        thing("cat", (9, 5, 2, 9)),
        thing("cat", (65, 5, 70, 9)),
        thing("cat", ("nan", 5, 70, 9)),
        thing("cat", ("", 5, 70, 9)),
        thing("cat", (5, 5)),
        "<object><name>cat</name><polygon/></object>",
        thing("", (1, 1, 9, 9)),
        thing("cat", (0, 0, 64, 48)),  # counted from 0 by mistake: a pixel over the border
    )
    draw(tmp_path / "JPEGImages" / "a.png")
    source = voc.read(tmp_path)
    assert source.splits["train"].annotations["boxes"].tolist() == [[[0, 0, 9, 9], [0, 0, 64, 48]]]
    said = sorted(problem.what.partition(",")[0] for problem in source.rows.dropped)
    kinds = {2: "empty", 3: "empty", 4: "turned", 5: "outside", 6: "not finite", 7: "no box", 8: "no box", 9: "no box"}
    kinds[10] = "unknown class ''"
    assert said == sorted(f"object {number} of Annotations/a.xml: {kind}" for number, kind in kinds.items())
    assert {problem.file for problem in source.rows.dropped} == {"a.png"}
    assert (source.rows.total, source.rows.clipped) == (11, ())


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ({"train": "ab", "val": "cd", "test": "e"}, {"train": "ab", "val": "cd", "test": "e"}),
        ({"train": "ab", "val": "cd", "trainval": "abcde"}, {"train": "ab", "val": "cd"}),
        ({"train": "ab", "trainval": "abcd", "test": "e"}, {"train": "ab", "val": "cd", "test": "e"}),
        ({"val": "ab", "trainval": "abcd"}, {"train": "cd", "val": "ab"}),
        ({"train": "ab", "valid": "c", "cat_test": "d", "Layout": "e"}, {"train": "ab", "val": "c"}),
        ({"train": "ab", "val": "bc"}, {"train": "ab", "val": "bc"}),  # what stands in both is in both
    ],
)
def test_voc_s_lists(tmp_path, of, expected):
    many(tmp_path, "abcde")
    lists(tmp_path, **of)
    assert layout(voc.read(tmp_path)) == {split: tuple(f"{n}.png" for n in ids) for split, ids in expected.items()}


def test_trainval_alone_is_split_into_train_and_val(tmp_path):
    names = [f"{number:03d}" for number in range(60)]
    many(tmp_path, names)
    lists(tmp_path, trainval=names[:50], test=names[50:])
    source = voc.read(tmp_path, split_seed=3)
    assert {split: len(ids) for split, ids in layout(source).items()} == {"train": 45, "val": 5, "test": 10}
    assert any(
        "trainval.txt split 90/10 into train and val" in note and "split seed 3" in note for note in source.notes
    )
    assert layout(voc.read(tmp_path, split_seed=4))["val"] != layout(source)["val"]
    lists(tmp_path, test=[])
    assert {split: len(ids) for split, ids in layout(voc.read(tmp_path)).items()} == {"train": 45, "val": 5}


@pytest.mark.parametrize("lines", [["my cell.1", "b"], ["my cell.1.png 1", "b.jpg"], ["JPEGImages/my cell.1", r".\b"]])
def test_names_in_voc_s_lists(tmp_path, lines):
    many(tmp_path, ["my cell.1", "b"])
    lists(tmp_path, train=lines[:1], val=lines[1:])
    assert layout(voc.read(tmp_path)) == {"train": ("my cell.1.png",), "val": ("b.png",)}


def test_what_is_listed_and_lacks_its_xml_is_a_problem(tmp_path):
    many(tmp_path, "abc")
    lists(tmp_path, train=["a", "gone"], val=["b"], test=["x", "y"])
    source = voc.read(tmp_path)
    assert [(problem.file, problem.what) for problem in source.problems] == [
        ("gone", "missing: listed in ImageSets/Main/train.txt, but there is no XML file")
    ]
    assert list(source.splits) == ["train", "val"]
    assert any("test.txt lists 2 pictures, none of them with an XML file: not used" in note for note in source.notes)


def test_broken_xml_and_missing_pictures_are_problems(tmp_path):
    many(tmp_path, "abc")
    broken = {
        "cut.xml": "<annotation><object>",
        "empty.xml": "",
        "other.xml": "<annotations><image/></annotations>",
        "encoding.xml": '<?xml version="1.0" encoding="klingon"?><annotation/>',
    }
    for name, text in broken.items():
        (tmp_path / "Annotations" / name).write_text(text)
    annotate(tmp_path / "Annotations" / "lost.xml", thing("cat", (1, 1, 9, 9)), filename="lost.jpg")
    source = voc.read(tmp_path)
    said = {problem.file: problem.what for problem in source.problems}
    assert set(said) == {*(f"Annotations/{name}" for name in broken), "lost.jpg"}
    assert said["Annotations/cut.xml"].startswith("broken XML: ")
    assert said["Annotations/other.xml"] == "not Pascal VOC's: <annotation> expected, found <annotations>"
    assert said["lost.jpg"].startswith(f"missing: not found; tried {tmp_path / 'JPEGImages' / 'lost'}, ")
    with pytest.raises(DataError, match="5 of 8 pictures cannot be read"):
        read_detection(tmp_path)
    with pytest.raises(UsageError, match="is no folder; a folder of Pascal VOC's XML"):
        read_detection(tmp_path / "Annotations" / "a.xml", data_format="voc")
    with pytest.raises(DataError, match=r"no \.xml file found"):
        voc.read(tmp_path / "JPEGImages")


def test_roboflow_s_voc(tmp_path):
    for folder in ("train", "valid", "test"):
        many(tmp_path / folder, ["a_jpg.rf.1", "b_jpg.rf.2"], annotations="", pictures="")
    draw(tmp_path / "train" / "alone.png")
    source = read_detection(tmp_path)
    assert layout(source) == {
        name: (f"{folder}/a_jpg.rf.1.png", f"{folder}/b_jpg.rf.2.png")
        for name, folder in (("train", "train"), ("val", "valid"), ("test", "test"))
    }
    assert all(
        str(tmp_path / id) == path for split in source.splits.values() for id, path in zip(split.ids, split.paths)
    )
    assert "pictures without an XML file, which are not used: 1 (alone.png)" in source.notes


@pytest.mark.parametrize(
    ("annotations", "pictures", "where"),
    [
        ("", "", ""),
        ("annotations", "images", ""),
        ("Annotations", "JPEGImages", "Annotations"),
        ("Annotations", "Annotations", ""),
        ("Annotations/set1", "JPEGImages/set1", ""),
        ("Annotations/set1", "deep/down", ""),
        ("train/annotations", "train/images", ""),  # with nothing but train there is no split
    ],
)
def test_voc_without_lists_is_split(tmp_path, annotations, pictures, where):
    many(tmp_path, map(str, range(20)), annotations=annotations, pictures=pictures)
    source = voc.read(tmp_path / where)
    assert {split: len(ids) for split, ids in layout(source).items()} == {"train": 16, "val": 2, "test": 2}
    assert all(Path(path).parent == tmp_path / pictures for path in source.splits["train"].paths)
    assert any("80/10/10" in note for note in source.notes)


@pytest.mark.parametrize(
    ("annotations", "pictures"),
    [
        ("{}/annotations", "{}/images"),
        ("Annotations/{}", "Annotations/{}"),
        ("Annotations/{}", "images/{}"),
        ("{}", "{}"),
    ],
)
def test_an_id_in_two_folders_of_voc_is_found_in_each(tmp_path, annotations, pictures):
    for split in ("train", "val"):
        many(tmp_path, "a", annotations=annotations.format(split), pictures=pictures.format(split))
    source = voc.read(tmp_path)
    assert {name: split.paths for name, split in source.splits.items()} == {
        split: (str(tmp_path / pictures.format(split) / "a.png"),) for split in ("train", "val")
    }


def test_the_pictures_of_voc_may_lie_elsewhere_and_be_named_within(tmp_path):
    annotate(tmp_path / "xml" / "1.xml", thing("cat", (1, 1, 9, 9)), filename="photo of a cat.png")
    draw(tmp_path / "photos" / "photo of a cat.png")
    source = voc.read(tmp_path / "xml", images=str(tmp_path / "photos"))
    assert source.splits["train"].paths == (str(tmp_path / "photos" / "photo of a cat.png"),)
    assert source.splits["train"].ids == ("1.png",)
    with pytest.raises(UsageError, match="--images .*nowhere does not exist"):
        voc.read(tmp_path / "xml", images=str(tmp_path / "nowhere"))


def test_the_years_of_voc_are_joined(tmp_path):
    for year, test in (("VOC2007", "c"), ("VOC2012", "")):
        root = many(tmp_path / "VOCdevkit" / year, "abc", box=(1, 1, int(year[-2:]), 20))
        lists(root, train="a", val="b", trainval="ab", test=test)
    for where in (tmp_path, tmp_path / "VOCdevkit"):
        source = read_detection(where)
        prefix = "VOCdevkit/" if where == tmp_path else ""
        assert layout(source) == {
            "train": (f"{prefix}VOC2007/a.png", f"{prefix}VOC2012/a.png"),
            "val": (f"{prefix}VOC2007/b.png", f"{prefix}VOC2012/b.png"),
            "test": (f"{prefix}VOC2007/c.png",),
        }
        assert source.splits["val"].annotations["boxes"][:, 0, 2].tolist() == [7, 12]
        assert [Path(path).parts[-3] for path in source.splits["train"].paths] == ["VOC2007", "VOC2012"]
    (tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets").rename(tmp_path / "away")
    with pytest.raises(DataError, match="some of VOC2007, VOC2012 have lists of their splits"):
        voc.read(tmp_path)


@pytest.mark.real_data
def test_bccd(data_root):
    source = read_detection(data_root / "bccd")
    assert source.labels.names == ("Platelets", "RBC", "WBC")
    counts = {
        name: (len(split), np.bincount(split.annotations["labels"][split.annotations["labels"] >= 0]).tolist())
        for name, split in source.splits.items()
    }
    # As published (train 2382 RBC, val 968), less one of each that was drawn by a click.
    assert counts == {"train": (205, [209, 2381, 214]), "val": (87, [83, 967, 87]), "test": (72, [69, 805, 71])}
    assert (source.rows.total, source.rows.crowds, len(source.rows.clipped)) == (4888, 0, 0)
    assert [(problem.file, problem.what.split(",")[0]) for problem in source.rows.dropped] == [
        ("BloodImage_00338.jpg", "object 13 of Annotations/BloodImage_00338.xml: empty"),
        ("BloodImage_00343.jpg", "object 4 of Annotations/BloodImage_00343.xml: empty"),
    ]
    assert (source.problems, source.disagree) == ((), ())
    # The first object of BloodImage_00000.xml: 260 177 491 376.
    val = source.splits["val"]
    row = val.ids.index("BloodImage_00000.jpg")
    assert val.annotations["boxes"][row, 0].tolist() == [259, 176, 491, 376]


@pytest.mark.real_data
def test_coco_mini(data_root):
    source = read_detection(data_root / "coco_mini")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 24, "val": 8}
    assert (len(source.labels), source.labels.source_ids[-1], source.labels.names[-1]) == (80, 90, "toothbrush")
    assert (source.rows.total, source.rows.crowds, source.rows.dropped, source.rows.clipped) == (210, 1, (), ())
    for name, split in source.splits.items():
        document = json.loads((data_root / "coco_mini" / f"instances_{name}.json").read_text())
        assert split.annotations["image_id"].tolist() == [image["id"] for image in document["images"]]
        of = {id: place for place, id in enumerate(split.annotations["image_id"].tolist())}
        seen = dict.fromkeys(of, 0)
        for each in document["annotations"]:
            place, column = of[each["image_id"]], seen[each["image_id"]]
            seen[each["image_id"]] += 1
            x, y, w, h = each["bbox"]
            held = {key: array[place, column] for key, array in split.annotations.items() if key != "image_id"}
            np.testing.assert_allclose(held["boxes"], [x, y, x + w, y + h], rtol=0, atol=1e-9)
            assert source.labels.source_ids[held["labels"]] == each["category_id"]
            assert (held["area"], held["crowd"]) == (each["area"], each["iscrowd"] == 1)
        assert (split.annotations["labels"] >= 0).sum(axis=1).tolist() == list(seen.values())
    crowd = source.splits["val"].annotations
    assert crowd["image_id"][crowd["crowd"].any(axis=1)].tolist() == [149]


def test_a_stray_folder_leaves_voc_s_splits_as_they_are(tmp_path):
    many(tmp_path / "train", [f"{number}" for number in range(8)], annotations=".", pictures=".")
    many(tmp_path / "valid", ["v"], annotations=".", pictures=".")
    many(tmp_path / "extra", ["e"], annotations=".", pictures=".")
    source = voc.read(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 8, "val": 1}
    assert any("in no split, and not used: 1 pictures" in note for note in source.notes)


def test_what_is_all_called_train_is_split(tmp_path):
    names = [f"{number}.png" for number in range(20)]
    for name in names:
        draw(tmp_path / "images" / name)
    images = [picture(number, name) for number, name in enumerate(names)]
    file = write(tmp_path / "instances_train.json", images, [annotation(n, n) for n in range(20)])
    source = coco.read(file)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 16, "val": 2, "test": 2}
    whole = read_detection({"train": str(file)})
    assert {name: len(split) for name, split in whole.splits.items()} == {"train": 20}


@pytest.mark.parametrize("folders", [("valid", "test"), ("test",)])
def test_folders_without_train_are_splits_where_all_lie_in_them(tmp_path, folders):
    for folder in folders:
        many(tmp_path / folder, [f"{folder}{number}" for number in range(5)], annotations=".", pictures=".")
    source = voc.read(tmp_path)
    assert list(source.splits) == ["val", "test"][-len(folders) :]
    assert {len(split) for split in source.splits.values()} == {5}
    many(tmp_path / "extra", [f"e{number}" for number in range(20)], annotations=".", pictures=".")
    assert any("80/10/10" in note for note in voc.read(tmp_path).notes)


def test_an_xml_file_does_not_take_anothers_picture_by_the_name_in_it(tmp_path):
    many(tmp_path, ["0", "1"])
    annotate(tmp_path / "Annotations" / "0_flipped.xml", thing("cat", (1, 1, 9, 9)), filename="0.png")
    source = voc.read(tmp_path)
    (problem,) = source.problems
    assert problem.file.startswith("0_flipped") and problem.what.endswith("the only file of that name is 0.png's")
    assert sum(map(len, source.splits.values())) == 2
