"""Pascal VOC's masks: its folders, its lists, its classes and colours."""

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.readers import masks_voc
from resnet_tasks.data.readers.segmentation import find, read_segmentation
from resnet_tasks.errors import DataError, UsageError

# A horse (13) and its rider (15) before a background, with a void line around.
MASK = np.array([[0, 255, 13, 13], [0, 255, 15, 255]], np.uint8)
IDS = MASK.tolist()


def pair(part, key, *, in_color=False):
    for folder in ("JPEGImages", "SegmentationClass"):
        (part / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", MASK.shape[::-1]).save(part / "JPEGImages" / f"{key}.jpg")
    image = Image.fromarray(MASK)
    image.putpalette([value for index in range(256) for value in masks_voc.color(index)])
    (image.convert("RGB") if in_color else image).save(part / "SegmentationClass" / f"{key}.png")


def lists(part, **ids):
    (part / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, keys in ids.items():
        (part / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("".join(f"{key}\n" for key in keys))


def layout(source):
    return {name: split.ids for name, split in source.splits.items()}


def test_voc(tmp_path):
    part = tmp_path / "VOCdevkit" / "VOC2012"
    for key in ("1", "2", "3", "4"):
        pair(part, key, in_color=key == "2")
    Image.new("RGB", (4, 2)).save(part / "JPEGImages" / "without a mask.jpg")
    lists(part, train=["1", "4"], val=["2"], trainval=["1", "2", "4"], test=["8", "9"])
    (part / "Annotations").mkdir()
    for where, prefix in ((part, ""), (part.parent, "VOC2012/"), (tmp_path, "VOCdevkit/VOC2012/")):
        source = read_segmentation(where)
        assert (find(str(where)), source.format) == ("voc", "voc")
        assert layout(source) == {
            "train": tuple(f"{prefix}JPEGImages/{key}.jpg" for key in "14"),
            "val": (f"{prefix}JPEGImages/2.jpg",),
        }
        assert (source.pairs.total, source.pairs.dropped) == (3, ())
    assert source.splits["train"].masks.ids(0).tolist() == source.splits["val"].masks.ids(0).tolist() == IDS
    assert source.splits["val"].masks.names == ("VOCdevkit/VOC2012/SegmentationClass/2.png",)
    labels = source.labels
    assert (len(labels), labels.index("horse"), labels.index("person"), labels.source_ids[20]) == (21, 13, 15, 20)
    assert (labels.colors[15], labels.colors[20]) == ((192, 128, 128), (0, 64, 128))
    counts = dict(zip((*labels.names, "void"), source.splits["val"].annotations["pixels"][0].tolist(), strict=True))
    assert {name: pixels for name, pixels in counts.items() if pixels} == {
        "background": 2,
        "horse": 2,
        "person": 1,
        "void": 3,
    }
    assert "VOCdevkit/VOC2012/ImageSets/Segmentation/test.txt: none of its 2 has a mask, not used" in source.notes


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ({"train": "12", "trainval": "1234"}, {"train": "12", "val": "34"}),
        ({"val": "4", "trainval": "1234"}, {"train": "123", "val": "4"}),
        ({"test": "4", "trainval": "123"}, {"train": "123", "test": "4"}),
        ({"train": "1", "val": "3", "somebodys": "24"}, {"train": "1", "val": "3"}),
        ({"trainval": "234"}, {"train": "2", "val": "3", "test": "4"}),
        ({"train": "234"}, {"train": "2", "val": "3", "test": "4"}),
        ({}, {"train": "12", "val": "3", "test": "4"}),
    ],
)
def test_lists(tmp_path, ids, expected):
    for key in "1234":
        pair(tmp_path, key)
    if ids:
        lists(tmp_path, **ids)
    found = {
        name: "".join(key.removeprefix("JPEGImages/").removesuffix(".jpg") for key in keys)
        for name, keys in layout(read_segmentation(tmp_path)).items()
    }
    if len(expected) < 3:
        assert found == expected
    else:  # split by a hash
        assert sorted("".join(found.values())) == sorted("".join(expected.values()))
        assert {name: len(keys) for name, keys in found.items()} == {name: len(keys) for name, keys in expected.items()}


@pytest.mark.parametrize(
    ("ids", "expected", "said"),
    [
        ({"train": "1", "val": "4", "trainaug": "123"}, {"train": "123", "val": "4"},
         "ImageSets/Segmentation/trainaug.txt: its 3 are train in place of the 1 of train.txt"),
        ({"val": "4", "train_aug": "1234"}, {"train": "123", "val": "4"},
         "ImageSets/Segmentation/trainaug.txt: its 4 are train; 1 of them are in val or test, and stay there"),
        ({"train": "1", "val": "4", "trainaug": "1239"}, {"train": "1", "val": "4"},
         "ImageSets/Segmentation: train.txt is used; 1 of the 4 of trainaug.txt have no mask"),
        ({"train": "1", "val": "4", "somebodys": "23"}, {"train": "1", "val": "4"},
         "ImageSets/Segmentation/somebodys.txt: no list of train, val or test, not used"),
    ],
)  # fmt: skip
def test_lists_beside_those_of_voc(tmp_path, ids, expected, said):
    for key in "1234":
        pair(tmp_path, key)
    lists(tmp_path, **ids)
    source = read_segmentation(tmp_path)
    found = {name: "".join(key.removeprefix("JPEGImages/")[0] for key in keys) for name, keys in layout(source).items()}
    assert (found, source.pairs.dropped) == (expected, ())
    assert said in source.notes


def test_sbds_masks_are_used_where_voc_has_none(tmp_path):
    for key in "123":
        pair(tmp_path, key)
    (tmp_path / "SegmentationClass").rename(tmp_path / "SegmentationClassAug")
    pair(tmp_path, "3", in_color=True)
    lists(tmp_path, train="3", trainaug="13", val="2")
    source = read_segmentation(tmp_path)
    assert find(str(tmp_path)) == "voc"
    assert {name: split.masks.names for name, split in source.splits.items()} == {
        "train": ("SegmentationClassAug/1.png", "SegmentationClass/3.png"),
        "val": ("SegmentationClassAug/2.png",),
    }
    assert source.splits["train"].masks.ids(0).tolist() == source.splits["train"].masks.ids(1).tolist() == IDS


def test_what_a_list_names_and_is_not_there(tmp_path):
    for key in "123":
        pair(tmp_path, key)
    (tmp_path / "SegmentationClass" / "2.png").unlink()
    (tmp_path / "JPEGImages" / "3.jpg").unlink()
    lists(tmp_path, train="1239", val="1")
    source = read_segmentation(tmp_path, most_bad_pairs=1.0)
    assert {problem.file: problem.what.partition(":")[0] for problem in source.pairs.dropped} == {
        "JPEGImages/2.jpg": "no mask",
        "SegmentationClass/3.png": "no picture",
        "JPEGImages/9.jpg": "no picture",
    }
    with pytest.raises(DataError, match="3 of 5 pairs"):
        read_segmentation(tmp_path)


def test_names_of_ones_own(tmp_path):
    pair(tmp_path, "1", in_color=True)
    pair(tmp_path, "2")
    table = {"sky": (0, 0, 0), "pony": (192, 0, 128), "void": (224, 224, 192), "rider": (192, 128, 128)}
    rows = (f"{name}:{','.join(map(str, color))}::\n" for name, color in table.items())
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "".join(rows))
    source = read_segmentation(tmp_path)
    assert (source.labels.names, source.labels.colors[1]) == (("sky", "pony", "rider"), (192, 0, 128))
    read = source.splits["train"].masks
    assert [read.ids(place).tolist() for place in (0, 1)] == [[[0, 255, 1, 1], [0, 255, 2, 255]]] * 2


def test_pictures_elsewhere_and_what_is_no_voc(tmp_path):
    pair(tmp_path / "VOC", "1")
    (tmp_path / "VOC" / "JPEGImages").rename(tmp_path / "pictures")
    source = read_segmentation(tmp_path / "VOC", images=str(tmp_path / "pictures"))
    assert source.splits["train"].paths == (str(tmp_path / "pictures" / "1.jpg"),)
    with pytest.raises(UsageError, match="--images .*q does not exist"):
        read_segmentation(tmp_path / "VOC", images=str(tmp_path / "q"))
    with pytest.raises(UsageError, match="no folder"):
        masks_voc.read(tmp_path / "q")
    with pytest.raises(DataError, match=r"no masks found; expected SegmentationClass/1\.png"):
        read_segmentation(tmp_path / "pictures", data_format="voc")


def test_parts_with_lists_beside_parts_without(tmp_path):
    pair(tmp_path / "VOC2007", "1")
    pair(tmp_path / "VOC2012", "2")
    assert sum(map(len, layout(read_segmentation(tmp_path)).values())) == 2
    lists(tmp_path / "VOC2012", train="2")
    with pytest.raises(DataError, match="some of VOC2007, VOC2012 have lists in ImageSets/Segmentation, others none"):
        read_segmentation(tmp_path)
