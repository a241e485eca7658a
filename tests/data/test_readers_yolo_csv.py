"""Boxes from YOLO's text files and from CSV files; pictures are drawn here, so every pixel of a box is known."""

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.readers import csv_boxes, yolo
from resnet_tasks.errors import DataError, UsageError

# Width, height; and boxes (left, top, right, bottom, class) in pixels. Fractions of powers of two are exact.
SCENES = {
    "a": ((128, 64), [(8, 16, 40, 48, 1), (0, 0, 128, 64, 0)]),
    "b": ((64, 256), [(1, 3, 2, 255, 0)]),
    "c": ((32, 32), []),
    "d": ((640, 480), [(17, 301, 336, 454, 1)]),
}
NAMES = ("cell", "no")  # which YAML 1.1 takes for False


def draw(path, size, exif=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"exif": exif} if exif else {}
    Image.new("RGB", size, (90, 20, 160)).save(path, **options)


def line(size, box):
    width, height = size
    left, top, right, bottom, number = box
    return f"{number} {(left + right) / 2 / width} {(top + bottom) / 2 / height} {(right - left) / width} " + (
        f"{(bottom - top) / height}\n"
    )


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def scene(root, picture, label, name):
    size, boxes = SCENES[name]
    draw(root / picture, size)
    if boxes:
        write(root / label, "".join(line(size, box) for box in boxes))


def truth(names):
    return {name: [(NAMES[box[4]], *map(float, box[:4])) for box in SCENES[name][1]] for name in names}


def found(source):
    """The boxes of each picture by its stem, as (class, left, top, right, bottom)."""
    of_picture = {}
    for split in source.splits.values():
        for place, name in enumerate(split.ids):
            labels = split.annotations["labels"][place]
            rows = zip(labels[labels >= 0], split.annotations["boxes"][place][labels >= 0], strict=True)
            stem = name.rpartition("/")[2].rpartition(".")[0]
            of_picture[stem] = [(source.labels.names[label], *box.tolist()) for label, box in rows]
    return of_picture


def sides(source):
    return {name: sorted(split.ids) for name, split in source.splits.items()}


def images_first(root):
    for split, names in (("train", "ab"), ("val", "cd")):
        for name in names:
            scene(root, f"images/{split}/{name}.png", f"labels/{split}/{name}.txt", name)
    return "train: images/train\nval: images/val\n"


def split_first(root):
    """As Roboflow exports it, paths that lead out of the folder included."""
    for split, names in (("train", "ab"), ("valid", "cd")):
        for name in names:
            scene(root, f"{split}/images/{name}.png", f"{split}/labels/{name}.txt", name)
    return "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\n"


def lists(root):
    """As Darknet has it: labels beside the pictures, lists that were written on another machine."""
    for name in "abcd":
        scene(root, f"obj/{name}.png", f"obj/{name}.txt", name)
    write(root / "train.txt", "./obj/a.png\n/content/data/obj/b.png\n")
    write(root / "val.txt", "data\\obj\\c.png\nobj/d.png\n\n")
    return "path: .\ntrain: train.txt\nval: val.txt\n"


def absolute(root):
    images_first(root)
    return "path: /content/set\ntrain: [/content/set/images/train]\nval: images/val\ntest:\n"


@pytest.mark.parametrize("lay_out", [images_first, split_first, lists, absolute])
@pytest.mark.parametrize("way", ["yaml", "folder with yaml", "folder"])
def test_layouts_give_the_same_boxes_to_the_bit(tmp_path, lay_out, way):
    text = lay_out(tmp_path)
    names = tmp_path / "classes.txt"
    if way == "folder":
        write(names, "\n".join(NAMES) + "\n\n")
    else:
        write(tmp_path / "data.yaml", text + "names: {0: cell, 1: no}\n")
    source = yolo.read(tmp_path / "data.yaml" if way == "yaml" else tmp_path)
    assert found(source) == truth("abcd")
    assert {name: [id.rpartition("/")[2] for id in ids] for name, ids in sides(source).items()} == {
        "train": ["a.png", "b.png"],
        "val": ["c.png", "d.png"],
    }
    assert source.labels.names == NAMES and source.labels.source_ids == (0, 1)
    assert (source.format, source.rows.total, source.rows.dropped, source.problems) == ("yolo", 4, (), ())
    for split in source.splits.values():
        annotations = split.annotations
        assert annotations["boxes"].shape == (2, 2, 4) and not annotations["crowd"].any()
        area = np.prod(annotations["boxes"][..., 2:] - annotations["boxes"][..., :2], axis=-1)
        assert np.array_equal(annotations["area"], area)
        assert all((tmp_path / name).read_bytes() == split.read(place) for place, name in enumerate(split.ids))


def test_a_picture_on_its_side_is_annotated_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "images/a.jpg", (128, 64), exif)  # upright: 64 wide, 128 high
    write(tmp_path / "labels/a.txt", "0 0.5 0.5 0.25 0.5\n")
    source = yolo.read(tmp_path)
    assert found(source) == {"a": [("0", 24.0, 32.0, 40.0, 96.0)]}
    assert any("called by number" in note for note in source.notes)


def test_a_folder_without_splits_is_split_by_hash(tmp_path):
    for number in range(20):
        draw(tmp_path / f"images/p{number // 2}_{number}.png", (16, 16))
        write(tmp_path / f"labels/p{number // 2}_{number}.txt", "3 0.5 0.5 0.5 0.5\n")
    source = yolo.read(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 16, "val": 2, "test": 2}
    assert source.labels.names == ("3",) and source.labels.source_ids == (3,)
    grouped = yolo.read(tmp_path, group=r"(p\d+)_", split_seed=1)
    of_group = {name: {id.split("_")[0] for id in split.ids} for name, split in grouped.splits.items()}
    assert not of_group["train"] & of_group["test"] and not of_group["train"] & of_group["val"]
    # Only train: cut as well, by the same hash.
    write(tmp_path / "data.yaml", "train: images\nnames: [a, b, c, d]\n")
    assert sides(yolo.read(tmp_path)) == sides(source)


ROWS = {  # a line, and what is said of it; None: it is a box
    "1 0.5 0.5 0.25 0.25": None,
    "1.0 5e-1 0.5 0.25 .25": None,
    "1 0.25 0.5 0.5 0.25 0.75 0.75": None,  # a triangle
    "1 0.5 0.5 0.25 0.25 0.9": "no box, 6 numbers, the last a confidence",
    "1 0.5 0.5 0.25": "no box, 4 numbers; 5 expected",
    "1 0.25 0.25 0.75 0.25 0.5 0.75 0.5": "no box, 8 numbers; 5 expected",
    "cat 0.5 0.5 0.25 0.25": "no box, 'cat 0.5 0.5 0.25 0.25' where numbers were expected",
    "1 32 32 16 16": r"no box, pixels (32 32 16 16) where fractions of the picture's sides",
    "1 0.5 nan 0.25 0.25": "not finite",
    "1 0.25 0.25 0.75 nan 0.5 0.75": "not finite",
    "2 0.5 0.5 0.25 0.25": "unknown class 2",
    "-1 0.5 0.5 0.25 0.25": "unknown class -1",
    "0.5 0.5 0.5 0.25 0.25": "unknown class '0.5'",
    "1 0.5 0.5 -0.25 0.25": "turned",
    "1 0.5 0.5 0 0.25": "empty",
    "1 1.3 0.5 0.25 0.25": "outside",
}


def test_lines_that_are_no_box_are_named(tmp_path):
    draw(tmp_path / "images/a.png", (64, 64))
    write(tmp_path / "labels/a.txt", "\ufeff" + "\n\n".join(ROWS) + "\n")
    write(tmp_path / "data.yaml", "train: images\nval: images\nnames: [cell, 'no']\n")
    source = yolo.read(tmp_path)
    one = ("no", 24.0, 24.0, 40.0, 40.0)
    assert found(source) == {"a": [one, one, ("no", 16.0, 16.0, 48.0, 48.0)]}
    said = {problem.what.partition(":")[0]: problem for problem in source.rows.dropped}
    expected = {f"line {2 * place + 1} of labels/a.txt": what for place, what in enumerate(ROWS.values()) if what}
    assert said.keys() == expected.keys()
    for called, what in expected.items():
        assert said[called].what.startswith(f"{called}: {what}") and said[called].file == "images/a.png"
    assert source.rows.total == 2 * len(ROWS)  # train and val are one folder, which is said
    assert any("1 pictures stand in more than one split" in note for note in source.notes)
    assert any("outlines, of which the extent is taken: 2 of" in note for note in source.notes)


def test_key_points_behind_a_box_are_no_outline(tmp_path):
    draw(tmp_path / "images/a.png", (64, 64))
    write(tmp_path / "labels/a.txt", "0 0.5 0.5 0.25 0.25 0.1 0.1 2 0.9 0.9 1\n")
    write(tmp_path / "set.yaml", "train: images\nnames: [cell]\nkpt_shape: [2, 3]\n")
    assert found(yolo.read(tmp_path)) == {"a": [("cell", 24.0, 24.0, 40.0, 40.0)]}


def test_a_folder_of_pictures_alone_finds_its_labels(tmp_path, monkeypatch):
    images_first(tmp_path)
    monkeypatch.chdir(tmp_path / "images")
    source = yolo.read("train")
    rows = {stem: [box[1:] for box in boxes] for stem, boxes in found(source).items()}
    assert rows == {stem: [box[1:] for box in boxes] for stem, boxes in truth("ab").items()}


def test_numbers_of_classes_may_have_gaps(tmp_path):
    draw(tmp_path / "images/a.png", (64, 64))
    write(tmp_path / "labels/a.txt", "90 0.5 0.5 0.25 0.25\n7 0.5 0.5 0.5 0.5\n")
    write(tmp_path / "data.yaml", "train: images\nnames: {90: cross, 7: disc}\n")
    source = yolo.read(tmp_path)
    assert source.labels.names == ("disc", "cross") and source.labels.source_ids == (7, 90)
    assert found(source) == {"a": [("cross", 24.0, 24.0, 40.0, 40.0), ("disc", 16.0, 16.0, 48.0, 48.0)]}


def test_what_is_missing_is_a_problem_with_what_was_tried(tmp_path):
    lists(tmp_path)
    write(tmp_path / "train.txt", "obj/a.png\nobj/gone.png\n")
    write(tmp_path / "data.yaml", "train: train.txt\nval: val.txt\nnames: [cell, no]\n")
    source = yolo.read(tmp_path)
    assert [problem.file for problem in source.problems] == ["obj/gone.png"]
    assert f"tried {tmp_path / 'obj/gone.png'}" in source.problems[0].what
    assert sides(source)["train"] == ["obj/a.png"]


def test_a_label_without_a_picture_is_a_missing_picture(tmp_path):
    images_first(tmp_path)
    (tmp_path / "images/train/a.png").unlink()
    write(tmp_path / "labels/train/classes.txt", "cell\nno\n")
    source = yolo.read(tmp_path)
    assert [problem.file for problem in source.problems] == ["images/train/a"]
    assert source.problems[0].what.startswith("missing: ")
    assert source.rows.total == 4 and found(source) == truth("bcd")


def test_broken_pictures_are_problems_and_their_boxes_counted(tmp_path):
    images_first(tmp_path)
    (tmp_path / "images/train/a.png").write_bytes(b"none")
    source = yolo.read(tmp_path)
    assert [problem.file for problem in source.problems] == ["images/train/a.png"]
    assert source.rows.total == 4 and source.rows.dropped == ()


def test_pictures_elsewhere(tmp_path):
    for name in "abcd":
        scene(tmp_path, f"pictures/{name}.png", f"boxes/labels/{name}.txt", name)
    write(tmp_path / "boxes/classes.txt", "cell\nno\n")
    source = yolo.read(tmp_path / "boxes", images=str(tmp_path / "pictures"))
    assert found(source) == truth("abcd")
    with pytest.raises(UsageError, match="--images .*nowhere does not exist"):
        yolo.read(tmp_path / "boxes", images=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: images/train\nval: images/va\nnames: [a, b]\n", "val: there is no images/va; tried .*images/va"),
        ("train: images/train\nval: ../val/images\nnames: [a, b]\n", "val: there is no ../val/images; tried"),
        ("train: images/train\nnames: [a, b, c]\nnc: 2\n", "nc is 2, but names has 3"),
        ("train: images/train\nnames: a\n", r"names: \[cat, dog\]"),
        ("train: images/train\nnames: {cat: 0}\n", r"names: \[cat, dog\]"),
        ("train: images/train\nnames: [a, a]\n", "class names must differ"),
        ("train: {a: b}\n", "a folder, a list of folders or a .txt file expected"),
        ("val: images/val\nvalid: images/val\n", "two keys for the split 'val'"),
        ("train: images/train/a.png\n", "neither a folder nor a .txt list"),
        ("- a\n", "the keys train, val and names were expected"),
        ("a: [\n", "not a YAML file"),
    ],
)
def test_a_data_yaml_that_cannot_be_used(tmp_path, text, said):
    images_first(tmp_path)
    write(tmp_path / "data.yaml", text)
    with pytest.raises(DataError, match=said):
        yolo.read(tmp_path / "data.yaml")


def test_folders_that_hold_too_little(tmp_path):
    with pytest.raises(DataError, match="no pictures found"):
        yolo.read(tmp_path)
    draw(tmp_path / "images/a.png", (8, 8))
    with pytest.raises(DataError, match=f"no picture has a label file; expected, for example, {tmp_path}/labels/a.txt"):
        yolo.read(tmp_path)
    (tmp_path / "images/val").mkdir()
    (tmp_path / "images/valid").mkdir()
    with pytest.raises(DataError, match="two folders for one split"):
        yolo.read(tmp_path)


def table(root, header, rows, name="boxes.csv"):
    for stem, (size, _) in SCENES.items():
        draw(root / "images" / f"{stem}.png", size)
    write(root / name, "".join(f"{row}\n" for row in ([header] if header else []) + rows))
    return root / name


def rows_of(pattern, empty):
    """A row a box by `pattern`, and the row `empty` for the picture without one."""
    rows = []
    for stem, (size, boxes) in SCENES.items():
        for x0, y0, x1, y1, number in boxes:
            values = {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "w": x1 - x0, "h": y1 - y0}
            rows.append(pattern.format(file=f"{stem}.png", name=NAMES[number], W=size[0], H=size[1], **values))
        if not boxes:
            rows.append(empty.format(file=f"{stem}.png", W=size[0], H=size[1]))
    return rows


@pytest.mark.parametrize(
    ("header", "pattern", "empty"),
    [
        ("file,xmin,ymin,xmax,ymax,label", "{file},{x0},{y0},{x1},{y1},{name}", "{file},,,,,"),
        ("Label;X0;Y0;X1;Y1;File", "{name};{x0};{y0};{x1};{y1};images\\{file}", ";;;;;images\\{file}"),
        ("image_path,x1,y1,x2,y2,class_name", "./images/{file},{x0},{y0},{x1},{y1},{name}", "./images/{file}"),
        ("image\tleft\ttop\tright\tbottom\tclass", "{file}\t{x0}\t{y0}\t{x1}\t{y1}\t{name}", "{file}\t\t\t\t\tnone"),
        ("path,x,y,width,height,name", "/their/{file},{x0},{y0},{w},{h},{name}", "/their/{file},,,,,"),
        (
            "filename,width,height,class,xmin,ymin,xmax,ymax",  # TensorFlow's: width and height are the picture's
            "{file},{W},{H},{name},{x0},{y0},{x1},{y1}",
            "{file},{W},{H},,,,,",
        ),
        (
            "image,x,y,w,h,label,image_width,image_height",
            "{file},{x0},{y0},{w},{h},{name},{W},{H}",
            "{file},,,,,,{W},{H}",
        ),
        (None, "{file},{x0},{y0},{x1},{y1},{name}", "{file},,,,,"),  # keras-retinanet's
    ],
)
def test_columns_by_their_names(tmp_path, header, pattern, empty):
    source = csv_boxes.read(table(tmp_path, header, rows_of(pattern, empty)))
    assert found(source) == truth("abcd")
    assert source.labels.names == NAMES and source.labels.source_ids == ()
    assert (source.format, source.rows.total, source.rows.dropped, source.disagree) == ("csv", 4, (), ())
    assert any("no header" in note for note in source.notes) is (header is None)


def test_the_split_and_the_group_column(tmp_path):
    header = "file,xmin,ymin,xmax,ymax,label,split,patient"
    rows = ["a.png,1,2,9,9,x,train,7", "a.png,1,2,9,8,y,train,7", "b.png,,,,,,Valid,7", "c.png,1,2,9,9,x,test,8"]
    assert sides(csv_boxes.read(table(tmp_path, header, rows))) == {
        "train": ["a.png"],
        "val": ["b.png"],
        "test": ["c.png"],
    }
    many = [f"{stem}.png,1,2,9,9,x,{patient}" for patient in range(9) for stem in SCENES]
    where = table(tmp_path, header.replace(",split", ""), [])
    for number, row in enumerate(many):
        name = f"{number}.png"
        draw(tmp_path / "images" / name, (16, 16))
        many[number] = name + row[5:]
    write(where, "\n".join([header.replace(",split", ""), *many]))
    source = csv_boxes.read(where, group="patient", split_seed=2)
    patients = {name: {int(id[:-4]) // 4 for id in split.ids} for name, split in source.splits.items()}
    assert sum(map(len, patients.values())) == 9  # each in one split
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 28, "val": 4, "test": 4}
    assert "'patient'" in " ".join(source.notes)
    by_name = csv_boxes.read(where, group=r"^(\d)")
    assert len({id[0] for split in by_name.splits.values() for id in split.ids}) == sum(
        len({id[0] for id in split.ids}) for split in by_name.splits.values()
    )


def test_rows_that_are_no_box_are_named(tmp_path):
    rows = [
        "a.png,1,2,30,30,cell",
        "a.png,1,,30,30,cell",
        "a.png,1,2,x,30,cell",
        "a.png,1,2,30,30,",
        "a.png,40,2,30,30,no",
    ]
    rows += ["a.png,nan,2,30,30,cell", "a.png,400,2,430,30,cell", "gone.png,1,2,30,30,cell"]
    source = csv_boxes.read(table(tmp_path, "file,xmin,ymin,xmax,ymax,label", rows), split_seed=0)
    assert found(source) == {"a": [("cell", 1.0, 2.0, 30.0, 30.0)]}
    what = {problem.what.partition(": ")[0]: problem.what.partition(": ")[2] for problem in source.rows.dropped}
    assert {called: text.partition(",")[0] for called, text in what.items()} == {
        "line 3 of boxes.csv": "no box",
        "line 4 of boxes.csv": "no box",
        "line 5 of boxes.csv": "unknown class ''",
        "line 6 of boxes.csv": "turned",
        "line 7 of boxes.csv": "not finite",
        "line 8 of boxes.csv": "outside",
    }
    assert what["line 3 of boxes.csv"] == "no box, '1 (empty) 30 30' where four numbers were expected"
    assert [problem.file for problem in source.problems] == ["gone.png"]
    assert source.rows.total == 8


def test_a_size_that_is_not_the_pictures_is_said(tmp_path):
    rows = ["a.png,64,128,x,1,2,9,9", "b.png,64,256,x,1,2,9,9"]
    source = csv_boxes.read(table(tmp_path, "filename,width,height,class,xmin,ymin,xmax,ymax", rows))
    assert [problem.file for problem in source.disagree] == ["a.png"]


def test_pictures_of_a_csv_elsewhere_and_without_suffix(tmp_path):
    where = table(tmp_path, "image_id,xmin,ymin,xmax,ymax,label", ["a,1,2,9,9,x", "b.png,1,2,9,9,x"])
    (tmp_path / "images").rename(tmp_path / "there")
    (tmp_path / "below").mkdir()
    where = where.rename(tmp_path / "below" / "boxes.csv")
    assert len(csv_boxes.read(where).problems) == 2
    assert csv_boxes.read(where, images=str(tmp_path / "there")).problems == ()
    with pytest.raises(UsageError, match="--images .*nowhere does not exist"):
        csv_boxes.read(where, images="nowhere")


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        (
            "file,xmin,ymin,xmax,label",
            ["a.png,1,2,3,x"],
            r"no column for the box; found 'file', 'xmin'.*\(x y width height\)",
        ),
        ("file,xmin,ymin,xmax,ymax", ["a.png,1,2,3,4"], "no column for the class"),
        ("xmin,ymin,xmax,ymax,label", ["1,2,3,4,x"], "no column for the picture"),
        ("file,xmin,ymin,xmax,ymax,label", [], "no rows"),
        ("file,xmin,ymin,xmax,ymax,label", [",1,2,3,4,x"], "line 2: no picture is named"),
        (
            "file,xmin,ymin,xmax,ymax,label",
            ["a.png,0.1,0.2,0.3,1,x"],
            "pixels were expected, and no box reaches beyond 1",
        ),
        ("file,xmin,ymin,xmax,ymax,label,split", ["a.png,1,2,3,4,x,mine"], "line 2: split 'mine'; train, val or test"),
        (
            "file,xmin,ymin,xmax,ymax,label,split",
            ["a.png,1,2,3,4,x,train", "a.png,1,2,3,4,x,val"],
            "a.png stands in more than one split: train in line 2, val in line 3",
        ),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path, header, rows, said):
    with pytest.raises(DataError, match=said):
        csv_boxes.read(table(tmp_path, header, rows))


def test_one_picture_has_one_name(tmp_path):
    rows = ["images/a.png,1,2,9,9,x", "./images/a.png,3,2,9,9,x", "images\\a.png,4,2,9,9,x"]
    source = csv_boxes.read(table(tmp_path, "file,xmin,ymin,xmax,ymax,label", rows))
    assert source.splits["train"].ids == ("images/a.png",)
    assert source.splits["train"].annotations["boxes"][0, :, 0].tolist() == [1, 3, 4]


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "boxes.csv").write_bytes(b"\xff\xfe\x00f")
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        csv_boxes.read(tmp_path / "boxes.csv")


def test_the_pictures_size_is_not_the_boxs(tmp_path):
    draw(tmp_path / "a.png", (128, 64))
    (tmp_path / "boxes.csv").write_text("image,width,height,x,y,w,h,label\na.png,128,64,8,16,32,24,no\n")
    assert found(csv_boxes.read(tmp_path / "boxes.csv")) == {"a": [("no", 8, 16, 40, 40)]}


def test_numbers_far_over_the_border_are_no_fractions(tmp_path):
    """Key points with their visibility, 2, behind a box; and a side in pixels."""
    images_first(tmp_path)
    label = next(tmp_path.rglob("a.txt"))
    label.write_text(label.read_text() + "0 .5 .5 .2 .2 .1 .1 2 .2 .2 2\n0 .5 .5 12 .2\n")
    source = yolo.read(tmp_path)
    assert [problem.what.partition(": ")[2] for problem in source.rows.dropped] == [
        "no box, 2, where fractions of the picture's sides were expected",
        "no box, 12, where fractions of the picture's sides were expected",
    ]


def test_a_folder_beside_those_of_the_splits_is_not_used_and_that_is_said(tmp_path):
    images_first(tmp_path)
    draw(tmp_path / "images" / "extra" / "z.png", (32, 32))
    source = yolo.read(tmp_path)
    assert "z" not in found(source)
    assert any("in no split, and not used: 1 pictures" in note for note in source.notes)


def test_a_folder_beside_train_alone_is_not_used_and_train_is_split(tmp_path):
    for number in range(20):
        draw(tmp_path / "images" / "train" / f"{number}.png", (32, 32))
        write(tmp_path / "labels" / "train" / f"{number}.txt", "0 .5 .5 .5 .5\n")
    draw(tmp_path / "images" / "extra" / "z.png", (32, 32))
    source = yolo.read(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 16, "val": 2, "test": 2}
    assert any("in no split, and not used: 1 pictures" in note for note in source.notes)


def test_label_files_in_capitals_and_a_readme_beside_them(tmp_path):
    images_first(tmp_path)
    (tmp_path / "labels/train/a.txt").rename(tmp_path / "labels/train/a.TXT")
    write(tmp_path / "classes.txt", "cell\nno\n")
    write(tmp_path / "labels/train/README.txt", "Labels, by hand.\n\nSee the paper.\n")
    write(tmp_path / "labels/train/lost.TXT", "0 .5 .5 .5 .5\n")
    source = yolo.read(tmp_path)
    assert found(source) == truth("abcd")
    assert [problem.file for problem in source.problems] == ["images/train/lost"]


def test_a_picture_of_a_csv_by_two_ways_is_one(tmp_path):
    names = ("images/a.png", f"{tmp_path}/images/a.png", "a.png", "b.png")
    rows = [f"{name},{left},2,9,9,x,{name[-5]}" for left, name in enumerate(names, 1)]
    source = csv_boxes.read(table(tmp_path, "file,xmin,ymin,xmax,ymax,label,patient", rows), group="patient")
    (boxes,) = [row["boxes"] for row in (split.annotations for split in source.splits.values())]
    assert source.splits["train"].ids == ("images/a.png", "b.png")
    assert boxes[0, :, 0].tolist() == [1, 2, 3]
