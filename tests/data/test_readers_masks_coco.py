"""COCO's polygons and run lengths as masks: by hand, against COCO's own drawing, and what is broken in them."""

import json

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.readers import coco_shapes, masks_coco, sizes
from resnet_tasks.errors import DataError, UsageError

WIDTH, HEIGHT = 8, 6
CATEGORIES = ({"id": 90, "name": "eel"}, {"id": 7, "name": "cat", "supercategory": "pet"}, {"id": 13, "name": "dog"})


def draw(path, size=(WIDTH, HEIGHT), **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path, **more)


def picture(key, name, **more):
    return {"id": key, "file_name": name, "width": WIDTH, "height": HEIGHT, **more}


def rectangle(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(key, image, segmentation, category=7, **more):
    return {"id": key, "image_id": image, "category_id": category, "segmentation": segmentation, **more}


def write(path, images, annotations, categories=CATEGORIES):
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"images": images, "annotations": annotations, "categories": list(categories)}
    path.write_text(json.dumps(document))
    return path


def counts(mask, compressed=False):
    """Run lengths of a bool mask, counted one pixel after another."""
    if compressed:
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    runs, inside = [0], False
    for pixel in mask.ravel(order="F"):
        if pixel != inside:
            runs.append(0)
            inside = pixel
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


def one(tmp_path, annotations, **more):
    """The mask of a single picture with these annotations."""
    draw(tmp_path / "a.png")
    source = masks_coco.read(write(tmp_path / "all.json", [picture(1, "a.png", **more)], annotations))
    return source.splits["train"].masks.ids(0)


def broken(tmp_path, annotations, **more):
    """What is said of it."""
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    images = [picture(1, "a.png", **more), picture(2, "b.png")]
    rows = [*annotations, annotation(99, 2, [rectangle(0, 0, 4, 4)])]
    source = masks_coco.read(write(tmp_path / "all.json", images, rows))
    assert source.splits["train"].ids == ("b.png",)
    assert source.pairs.total == 2
    (problem,) = source.pairs.dropped
    assert problem.file == "a.png"
    return problem.what


def of(picture):
    return [[int(letter) if letter != "v" else IGNORE for letter in row] for row in picture.split()]


def test_polygons_run_lengths_and_crowds_together(tmp_path):
    ring = np.zeros((HEIGHT, WIDTH), bool)
    ring[1:5, 1:5] = True
    ring[2:4, 2:4] = False
    crowd = np.zeros((HEIGHT, WIDTH), bool)
    crowd[:, 4:] = True
    annotations = [
        annotation(1, 1, [rectangle(5, 0, 6, 1)], 90),  # one pixel on the crowd
        annotation(2, 1, counts(ring), 13),  # 12 pixels
        annotation(3, 1, counts(crowd), 7, iscrowd=1),  # 24 pixels, void where nothing else is
        annotation(4, 1, [rectangle(0, 3, 2, 6), rectangle(7, 5, 8, 6)], 7),  # two parts, 7 pixels
    ]
    expected = of(
        """
        0000v3vv
        02222vvv
        02002vvv
        11002vvv
        11222vvv
        1100vvv1
        """
    )
    assert one(tmp_path, annotations).tolist() == expected
    compressed = [{**annotations[1], "segmentation": counts(ring, compressed=True)}]
    compressed.append({**annotations[2], "segmentation": counts(crowd, compressed=True)})
    assert one(tmp_path, [*compressed, annotations[0], annotations[3]]).tolist() == expected
    source = masks_coco.read(tmp_path / "all.json")
    assert (source.format, source.labels.names) == ("coco", ("background", "cat", "dog", "eel"))
    assert source.labels.source_ids == (0, 7, 13, 90)
    held = source.splits["train"].annotations
    assert held["pixels"].tolist() == [[12, 7, 10, 1, 18]]
    assert held["present"].tolist() == [[True] * 4]
    assert any("crowds, void where no other thing is: 1" in note for note in source.notes)
    assert source.splits["train"].masks.names == ("all.json, image 1",)


def test_the_size_of_run_lengths_may_stand_as_floats(tmp_path):
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[1:3, 2:5] = True
    for compressed in (False, True):
        written = {**counts(inside, compressed), "size": [float(HEIGHT), float(WIDTH)]}
        assert one(tmp_path, [annotation(1, 1, written)]).tolist() == inside.astype(int).tolist()


def test_smaller_things_stay_visible_whatever_the_order(tmp_path):
    nested = [annotation(key, 1, [rectangle(0, 0, key, key)], (7, 13, 90)[key % 3]) for key in (1, 2, 4, 5)]
    expected = np.zeros((HEIGHT, WIDTH), int)
    for key in (5, 4, 2, 1):
        expected[:key, :key] = key % 3 + 1
    for order in (nested, nested[::-1], [nested[2], nested[0], nested[3], nested[1]]):
        assert one(tmp_path, order).tolist() == expected.tolist()
    # Drawn by its pixels, not by the area that somebody wrote.
    assert one(tmp_path, [{**row, "area": 100 - row["id"]} for row in nested]).tolist() == expected.tolist()
    alike = [annotation(key, 1, [rectangle(0, 0, 2, 2)], (7, 13)[key]) for key in (0, 1)]
    assert one(tmp_path, alike)[0, 0] == 2 and one(tmp_path, alike[::-1])[0, 0] == 1


def test_polygons_of_other_makers(tmp_path):
    assert one(tmp_path, [annotation(1, 1, rectangle(1, 1, 3, 2))]).tolist()[1] == [0, 1, 1, 0, 0, 0, 0, 0]  # no parts
    outside = one(tmp_path, [annotation(1, 1, [rectangle(-50, -50, 2, 900.5)])])
    assert (outside[:, :2] == 1).all() and (outside[:, 2:] == 0).all()
    thin = [[1, 1, 3, 3], rectangle(0, 0, 1, 1), [], [2, 2]]  # parts without area
    assert one(tmp_path, [annotation(1, 1, thin)]).sum() == 1
    assert one(tmp_path, [annotation(1, 1, [[1, 1, 3, 3]])]).sum() == 0
    assert one(tmp_path, [annotation(1, 1, [rectangle(0, 0, 2, 2)], "no such", iscrowd=1)])[0, 0] == IGNORE


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        (None, "annotation 5: no polygon and no run lengths (segmentation)"),
        ([], "annotation 5: no polygon and no run lengths (segmentation)"),
        ("text", "annotation 5: no polygon and no run lengths (segmentation)"),
        ([[1, 2, "x", 4, 5, 6]], "annotation 5: a polygon is no list of x and y in turn"),
        ([[1, 2, 3, 4, 5, 6, 7]], "annotation 5: a polygon is no list of x and y in turn"),
        ([[1, 2, float("nan"), 4, 5, 6]], "annotation 5: a polygon has a corner that is not finite"),
        ([[1, 2, 1e7, 4, 5, 6]], "annotation 5: a polygon has a corner further than 1000000 pixels away"),
        ([[1, 2, 10**400, 4, 5, 6]], "annotation 5: a polygon is no list of x and y in turn"),
        (
            {"size": [8, 6], "counts": [48]},
            "annotation 5: run lengths for a size (height, width) of [8, 6]; the picture's is [6, 8]",
        ),
        ({"counts": [48]}, "annotation 5: run lengths for a size (height, width) of None"),
        ({"size": [6, 8], "counts": [40]}, "annotation 5: run lengths of 40 pixels in all; 48 are needed"),
        ({"size": [6, 8], "counts": [60, -12]}, "annotation 5: run lengths that are no list of whole numbers from 0"),
        ({"size": [6, 8], "counts": [47.5, 0.5]}, "annotation 5: run lengths that are no list of whole numbers"),
        ({"size": [6, 8]}, "annotation 5: run lengths that are no list of whole numbers"),
        ({"size": [6, 8], "counts": "zzz"}, "annotation 5: compressed run lengths that are broken: "),
        ({"size": [6, 8], "counts": "\u20ac\x00"}, "annotation 5: compressed run lengths that are broken: "),
    ],
)
def test_what_cannot_be_drawn(tmp_path, segmentation, said):
    rows = [annotation(4, 1, [rectangle(0, 0, 2, 2)]), annotation(5, 1, segmentation)]
    assert broken(tmp_path, rows).startswith(f"unreadable: all.json, image 1: {said}")


def test_classes_that_are_unknown(tmp_path):
    rows = [
        annotation(4, 1, [rectangle(0, 0, 2, 2)], 77),
        annotation(5, 1, [rectangle(0, 0, 3, 3)], [1]),
        annotation(6, 1, [rectangle(0, 0, 1, 1)], 77),
        annotation(7, 1, [rectangle(0, 0, 1, 2)], 0),  # a number of the background's, of no category
    ]
    assert broken(tmp_path, rows) == "ids: all.json, image 1 holds values 77, [1], 0 without a class (16 pixels)"


def test_sizes_that_disagree(tmp_path):
    rows = [annotation(5, 1, [rectangle(0, 0, 2, 2)])]
    said = broken(tmp_path, rows, width=9)
    assert said == "size: the mask is 9 wide and 6 high, the picture 8 and 6"
    assert "too large for a mask" in broken(tmp_path, rows, width=10**9)
    # Where the file says nothing, the picture's own size is taken, upright.
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(tmp_path / "c.jpg", exif=exif)
    file = write(tmp_path / "c.json", [{"id": 1, "file_name": "c.jpg"}], rows)
    assert masks_coco.read(file).splits["train"].masks.ids(0).shape == (WIDTH, HEIGHT)
    assert sizes.upright_sizes([str(tmp_path / "c.jpg")]) == [(WIDTH, HEIGHT)]
    file = write(tmp_path / "c.json", [picture(1, "c.jpg")], rows)
    (problem,) = masks_coco.read(file).pairs.dropped
    assert problem.what.startswith("size: ") and "EXIF" in problem.what


def test_pictures_that_are_not_there_or_not_listed(tmp_path):
    draw(tmp_path / "a.png")
    images = [picture(1, "a.png"), picture(2, "gone.png"), {"id": 3, "file_name": "lost.png"}]
    rows = [annotation(1, 4, [rectangle(0, 0, 2, 2)]), annotation(2, None, [[]]), "nothing"]
    source = masks_coco.read(write(tmp_path / "all.json", images, rows))
    kinds = {problem.file: problem.what.partition(":")[0] for problem in source.pairs.dropped}
    assert kinds == {"gone.png": "no picture", "lost.png": "no picture"}
    assert any("annotations of pictures that the file does not list, which are not used: 3" in n for n in source.notes)
    assert any("pictures without an annotation, which are all background: 3" in note for note in source.notes)
    assert (source.splits["train"].masks.ids(0) == 0).all()


@pytest.mark.parametrize(
    ("categories", "names", "source_ids"),
    [
        (CATEGORIES, ("background", "cat", "dog", "eel"), (0, 7, 13, 90)),
        ([{"id": 0, "name": "cat"}, {"id": 7, "name": "dog"}], ("background", "cat", "dog"), (-1, 0, 7)),
        ([{"id": 7, "name": "cat"}, {"id": 8, "name": "Background"}], ("Background", "cat"), (8, 7)),
        # Roboflow's: the data set's name is category 0, and no class.
        (
            [{"id": 0, "name": "cells", "supercategory": "none"}, {"id": 7, "name": "rbc", "supercategory": "cells"}],
            ("background", "rbc"),
            (0, 7),
        ),
    ],
)
def test_the_classes(tmp_path, categories, names, source_ids):
    draw(tmp_path / "a.png")
    rows = [annotation(1, 1, [rectangle(0, 0, 2, 2)], 7)]
    source = masks_coco.read(write(tmp_path / "all.json", [picture(1, "a.png")], rows, categories))
    assert (source.labels.names, source.labels.source_ids) == (names, source_ids)
    assert source.splits["train"].masks.ids(0)[0, 0] == source_ids.index(7)


def test_what_is_annotated_as_background_is_background(tmp_path):
    draw(tmp_path / "a.png")
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "background"}]
    rows = [
        annotation(1, 1, [rectangle(0, 0, 4, 4)], 1),
        annotation(2, 1, [rectangle(0, 0, 2, 2)], 2),
    ]
    source = masks_coco.read(write(tmp_path / "all.json", [picture(1, "a.png")], rows, categories))
    assert source.splits["train"].annotations["pixels"].tolist() == [[36, 12, 0]]


def test_a_background_that_is_nowhere_is_no_class(tmp_path):
    """As in what `predict` writes for a model without one."""
    draw(tmp_path / "a.png")
    rows = [
        annotation(1, 1, [rectangle(0, 0, 4, HEIGHT)], 7),
        annotation(2, 1, [rectangle(4, 0, WIDTH, HEIGHT)], 13),
        annotation(3, 1, [rectangle(0, 0, 1, 1)], 90),
    ]
    source = masks_coco.read(write(tmp_path / "all.json", [picture(1, "a.png")], rows))
    assert (source.labels.names, source.labels.source_ids) == (("cat", "dog", "eel"), (7, 13, 90))
    train = source.splits["train"]
    assert train.annotations["pixels"].tolist() == [[23, 24, 1, 0]]
    assert train.annotations["present"].tolist() == [[True] * 3]
    assert train.masks.ids(0)[0].tolist() == [2, 0, 0, 0, 1, 1, 1, 1]
    assert source.notes[-1] == "things cover all pictures: there is no background"
    rows[1] = annotation(2, 1, [rectangle(5, 0, WIDTH, HEIGHT)], 13)  # a column of ground is left
    assert len(masks_coco.read(write(tmp_path / "all.json", [picture(1, "a.png")], rows)).labels) == 4
    # One that a category names stays, pixels or not.
    named = [*CATEGORIES, {"id": 1, "name": "background"}]
    rows[1] = annotation(2, 1, [rectangle(4, 0, WIDTH, HEIGHT)], 13)
    assert len(masks_coco.read(write(tmp_path / "all.json", [picture(1, "a.png")], rows, named)).labels) == 4


def test_files_for_splits_and_a_single_one(tmp_path):
    rows = [annotation(1, 1, [rectangle(0, 0, 2, 2)])]
    for split in ("train", "val"):
        draw(tmp_path / "images" / f"{split}.png")
        write(tmp_path / "annotations" / f"instances_{split}.json", [picture(1, f"{split}.png")], rows)
    source = masks_coco.read(tmp_path)
    assert {name: split.ids for name, split in source.splits.items()} == {"train": ("train.png",), "val": ("val.png",)}
    assert source.notes[0].startswith("COCO's JSON (annotations/instances_train.json, annotations/instances_val.json)")
    many = [picture(key, f"{key}.png") for key in range(20)]
    for each in many:
        draw(tmp_path / "more" / each["file_name"])
    file = write(tmp_path / "more" / "all.json", many, [])
    assert {name: len(split) for name, split in masks_coco.read(file).splits.items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }
    with pytest.raises(UsageError, match="--images .*nowhere does not exist"):
        masks_coco.read(file, images=str(tmp_path / "nowhere"))


def test_boxes_alone_are_refused(tmp_path):
    draw(tmp_path / "a.png")
    rows = [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2]}, annotation(2, 1, [])]
    with pytest.raises(DataError, match=r"none of the 2 annotations has a polygon or run lengths .*detect"):
        masks_coco.read(write(tmp_path / "all.json", [picture(1, "a.png")], rows))


def test_numbers_are_held_compactly():
    document = {"segmentation": [[1, 2.5, 3, 4, 5, 6]], "keypoints": [1, 2, 3]}
    held = json.loads(json.dumps(document), object_hook=coco_shapes.compact)
    assert held == {"segmentation": held["segmentation"]}
    assert [(part.typecode, part.tolist()) for part in held["segmentation"]] == [("d", [1, 2.5, 3, 4, 5, 6])]
    lengths = json.loads('{"segmentation": {"size": [1, 3], "counts": [1, 2]}}', object_hook=coco_shapes.compact)
    assert lengths["segmentation"]["counts"].typecode == "q"


@pytest.mark.real_data
def test_coco_mini(data_root):
    """Against the truth drawn thing by thing: each pixel has the class of the smallest thing on it."""
    source = masks_coco.read(data_root / "coco_mini")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 24, "val": 8}
    assert (len(source.labels), source.labels.source_ids[:2], source.pairs.dropped) == (81, (0, 1), ())
    for name, split in source.splits.items():
        document = json.loads((data_root / "coco_mini" / f"instances_{name}.json").read_text())
        for place, image in enumerate(document["images"]):
            size = image["height"], image["width"]
            smallest = np.full(size, np.inf)
            expected = np.zeros(size, np.uint8)
            for each in document["annotations"]:
                if each["image_id"] != image["id"]:
                    continue
                shape = coco_mask.frPyObjects(each["segmentation"], *size)
                pixels = coco_mask.decode(shape if each["iscrowd"] else coco_mask.merge(shape)) > 0
                area = 1e9 if each["iscrowd"] else pixels.sum()
                seen = pixels & (smallest >= area)
                smallest[seen] = area
                expected[seen] = IGNORE if each["iscrowd"] else source.labels.source_ids.index(each["category_id"])
            assert np.array_equal(split.masks.ids(place), expected)
            pixels = split.annotations["pixels"][place]
            assert pixels.sum() == expected.size and pixels[-1] == (expected == IGNORE).sum()
            assert np.array_equal(pixels[:-1] > 0, split.annotations["present"][place])
