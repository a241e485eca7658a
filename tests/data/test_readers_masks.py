"""Folders of pictures and masks: which belong together, what is broken, how they are split."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.readers.pairs_of_masks import Classes, Pair, assemble
from resnet_tasks.data.readers.segmentation import find, read_segmentation
from resnet_tasks.errors import DataError, UsageError

WIDTH, HEIGHT = 6, 4
NAMES = {"names": ["a", "b", "c"], "ignore_id": 3}
# Of 24 pixels: 4 of a, 6 of b, 6 of c, 8 void.
MASK = np.array([[0, 1, 2, 3, 3, 0], [0, 1, 2, 3, 3, 0], [1, 1, 2, 3, 3, 2], [1, 1, 2, 3, 3, 2]], np.uint8)


def picture(path, size=(WIDTH, HEIGHT), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path, **options)


def mask(path, ids=MASK, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(ids, np.uint8)).save(path, **options)


def folder(root, *files, names=NAMES):
    """Fills a folder: files that end with `.png` are masks, others pictures; and `classes.json`."""
    for file in files:
        (mask if file.endswith(".png") else picture)(root / file)
    if names:
        (root / "classes.json").write_text(json.dumps(names))
    return root


def layout(source):
    """The pictures of each split, and the masks beside them."""
    return {name: list(zip(split.ids, split.masks.names, strict=True)) for name, split in source.splits.items()}


LAYOUTS = {
    "folders in splits": (
        *("train/images/a.jpg", "train/masks/a.png", "train/images/b/a.jpg", "train/masks/b/a.png"),
        *("valid/images/a.jpg", "valid/masks/a.png"),
    ),
    "splits in folders": (
        *("images/training/a.jpg", "annotations/training/a.png", "images/training/b/a.jpg"),
        *("annotations/training/b/a.png", "images/validation/a.jpg", "annotations/validation/a.png"),
    ),
    "SegNet's": (
        *("train/a.jpg", "trainannot/a.png", "train/b/a.jpg", "trainannot/b/a.png", "val/a.jpg", "valannot/a.png"),
    ),
    "Kaggle's CamVid": (
        *("train/a.jpg", "train_labels/a_L.png", "train/b/a.jpg", "train_labels/b/a_L.png"),
        *("val/a.jpg", "val_labels/a_L.png"),
    ),
    "names in capitals": (
        *("Train/Img/a.jpg", "Train/Labels/a.png", "Train/Img/b/a.jpg", "Train/Labels/b/a.png"),
        *("Val/Img/a.jpg", "Val/Labels/a.png"),
    ),
}


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_layouts_with_splits(tmp_path, kind):
    source = read_segmentation(folder(tmp_path, *LAYOUTS[kind]))
    assert (source.format, find(str(tmp_path)), source.labels.names) == ("masks", "masks", ("a", "b", "c"))
    pictures, masks = ([file for file in LAYOUTS[kind] if file.endswith(suffix)] for suffix in (".jpg", ".png"))
    assert layout(source) == {
        "train": list(zip(pictures[:2], masks[:2], strict=True)),
        "val": list(zip(pictures[2:], masks[2:], strict=True)),
    }
    train = source.splits["train"]
    assert [Path(path).relative_to(tmp_path).as_posix() for path in train.paths] == pictures[:2]
    assert train.annotations["pixels"].tolist() == [[4, 6, 6, 8]] * 2
    assert train.annotations["present"].tolist() == [[True] * 3] * 2
    ids = train.masks.ids(1)
    assert (ids.dtype, ids.tolist()) == (np.uint8, np.where(MASK == 3, 255, MASK).tolist())
    assert (source.pairs.total, source.pairs.dropped, source.problems) == (3, (), ())
    assert "its own splits: train, val" in source.notes
    shares = "of the pixels: b 25.0 %, c 25.0 %, a 16.7 %; void 33.3 %"
    assert f"3 pictures with masks of 3 classes; {shares}" in source.notes


@pytest.mark.parametrize(
    ("pictures", "masks", "ending"),
    [
        ("images", "masks", ""),
        ("img", "gt", "_mask"),
        ("imgs", "annotations/trimaps", ""),
        ("701_StillsRaw_full", "LabeledApproved_full", "_L"),
    ],
)
def test_layouts_without_splits_are_split_80_10_10(tmp_path, pictures, masks, ending):
    names = [f"{place}" for place in range(20)]
    folder(tmp_path, *(f"{pictures}/{name}.jpg" for name in names), *(f"{masks}/{name}{ending}.png" for name in names))
    source = read_segmentation(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 16, "val": 2, "test": 2}
    pairs = [pair for split in layout(source).values() for pair in split]
    assert sorted(pairs) == sorted((f"{pictures}/{name}.jpg", f"{masks}/{name}{ending}.png") for name in names)
    assert layout(read_segmentation(tmp_path, split_seed=1)) != layout(source)
    grouped = layout(read_segmentation(tmp_path, group=r"(\d)\.jpg"))
    assert all(
        {f"{pictures}/1{digit}.jpg", f"{pictures}/{digit}.jpg"} <= set(dict(split))
        for digit, split in [(Path(name).stem[-1], split) for split in grouped.values() for name, _ in split]
    )


def test_camvids_own_colours(tmp_path):
    colors = np.array([[(128, 64, 128), (0, 0, 0)], [(64, 0, 128), (128, 64, 128)]], np.uint8)
    picture(tmp_path / "701_StillsRaw_full" / "0001TP_006690.png", (2, 2))
    mask(tmp_path / "LabeledApproved_full" / "0001TP_006690_L.png", colors)
    (tmp_path / "label_colors.txt").write_text("64 0 128\tCar\n128 64 128\tRoad\n0 0 0\t\tVoid\n")
    source = read_segmentation(tmp_path)
    assert (source.labels.names, source.labels.colors) == (("Car", "Road"), ((64, 0, 128), (128, 64, 128)))
    assert source.splits["train"].masks.ids(0).tolist() == [[1, 255], [0, 1]]


def test_nothing_but_train_is_the_whole(tmp_path):
    files = [
        f"train/{part}/{place}.{suffix}"
        for place in range(20)
        for part, suffix in (("images", "jpg"), ("masks", "png"))
    ]
    source = read_segmentation(folder(tmp_path, *files))
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 16, "val": 2, "test": 2}


def test_a_split_without_any_mask_is_not_used(tmp_path):
    source = read_segmentation(folder(tmp_path, *LAYOUTS["folders in splits"], "test/images/q.jpg"))
    assert list(source.splits) == ["train", "val"]
    assert "test: 1 pictures without any mask, not used" in source.notes
    assert source.pairs.total == 3


def test_masks_elsewhere(tmp_path):
    folder(tmp_path / "m", "train/a.png", "val/b.png")
    folder(tmp_path / "p", "train/a.jpg", "val/b.jpg", names=None)
    source = read_segmentation(tmp_path / "m", images=str(tmp_path / "p"))
    assert layout(source) == {"train": [("../p/train/a.jpg", "train/a.png")], "val": [("../p/val/b.jpg", "val/b.png")]}
    with pytest.raises(UsageError, match="--images .*q does not exist"):
        read_segmentation(tmp_path / "m", data_format="masks", images=str(tmp_path / "q"))


def test_of_two_masks_the_one_that_holds_ids(tmp_path):
    folder(tmp_path, *LAYOUTS["folders in splits"])
    mask(tmp_path / "train" / "masks" / "a.jpg")
    assert read_segmentation(tmp_path).pairs.dropped == ()


def broken(root):
    """A folder with 44 pairs of which six are broken, each in another way; one picture is broken besides."""
    files = [f"train/{part}/{n}.{suffix}" for n in range(44) for part, suffix in (("images", "jpg"), ("masks", "png"))]
    folder(root, *files)
    images, masks = root / "train" / "images", root / "train" / "masks"
    mask(masks / "0.png", MASK[:, :3])
    mask(masks / "1.png", np.where(MASK == 0, 9, MASK))
    (masks / "2.png").unlink()
    mask(masks / "2.jpg")
    (masks / "3.png").unlink()
    (images / "4.jpg").unlink()
    (masks / "5.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    (images / "6.jpg").write_bytes(b"")
    folder(root, "val/images/a.jpg", "val/masks/a.png")
    return root


SAID = {
    "train/images/0.jpg": "size: the mask is 3 wide and 4 high, the picture 6 and 4",
    "train/images/1.jpg": "ids: train/masks/1.png holds value 9 without a class (4 pixels)",
    "train/images/2.jpg": "jpeg: train/masks/2.jpg is saved as JPEG, which blurs ids into others; save it as PNG",
    "train/images/3.jpg": "no mask: none was found for this picture, such as train/masks/3.png",
    "train/masks/4.png": "no picture: none was found for the mask train/masks/4.png",
    "train/images/5.jpg": "unreadable: train/masks/5.png: not a picture",
}


def test_broken_pairs_are_left_out_named_and_counted(tmp_path):
    before = {path: path.read_bytes() for path in sorted(broken(tmp_path).rglob("*")) if path.is_file()}
    source = read_segmentation(tmp_path, on_bad_image="skip", most_bad_pairs=0.2)
    assert {problem.file: problem.what for problem in source.pairs.dropped} == SAID
    assert source.pairs.total == 45
    assert [problem.file for problem in source.problems] == ["train/images/6.jpg"]
    assert source.splits["train"].ids == tuple(f"train/images/{n}.jpg" for n in range(7, 44))
    assert source.splits["train"].masks.names == tuple(f"train/masks/{n}.png" for n in range(7, 44))
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_too_many_broken_pairs_are_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"6 of 45 pairs .* \(13.3 %, at most 5 % is allowed\): 1 size, 1 ids"
    ) as caught:
        read_segmentation(broken(tmp_path), on_bad_image="skip")
    assert all(f"  {file}: {what}\n" in str(caught.value) for file, what in SAID.items())
    assert read_segmentation(tmp_path, on_bad_image="skip", most_bad_pairs=6 / 45).pairs.total == 45
    with pytest.raises(DataError, match="1 of 39 pictures cannot be read"):
        read_segmentation(tmp_path, most_bad_pairs=1.0)


@pytest.mark.parametrize(("orientation", "is_said"), [(6, True), (5, True), (1, False), (3, False)])
def test_a_picture_that_exif_turns_and_its_mask(tmp_path, orientation, is_said):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lies, upright = ((HEIGHT, WIDTH), (WIDTH, HEIGHT)) if is_said else ((HEIGHT, WIDTH), (HEIGHT, WIDTH))
    folder(tmp_path, "images/fits.jpg", "masks/fits.png", "images/not.jpg", "masks/not.png")
    for name in ("fits", "not"):
        picture(tmp_path / "images" / f"{name}.jpg", lies, exif=exif)
    mask(tmp_path / "masks" / "fits.png", np.zeros(upright[::-1]))
    mask(tmp_path / "masks" / "not.png", np.zeros(lies[::-1] if is_said else lies))
    (problem,) = read_segmentation(tmp_path, most_bad_pairs=1.0).pairs.dropped
    assert problem.file == "images/not.jpg"
    assert problem.what.startswith("size: the mask is ")
    assert ("before EXIF turns it upright" in problem.what) is is_said


def test_what_is_no_data_set_of_masks(tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    with pytest.raises(DataError, match="no folder of pictures beside one of masks found; expected train/images/1.jpg"):
        read_segmentation(tmp_path)
    picture(tmp_path / "images" / "1.jpg")
    with pytest.raises(DataError, match="no folder of pictures"):
        read_segmentation(tmp_path)
    with pytest.raises(UsageError, match="q does not exist; a folder"):
        read_segmentation(tmp_path / "q")
    with pytest.raises(UsageError, match=r"a folder, a \.json"):
        read_segmentation(tmp_path / "images" / "1.jpg")
    with pytest.raises(UsageError, match="data format: auto, masks"):
        read_segmentation(tmp_path, data_format="mask")
    mask(tmp_path / "masks" / "1.png", np.full((HEIGHT, WIDTH), 3))
    with pytest.raises(DataError, match="all masks are void"):
        read_segmentation(tmp_path)
    folder(tmp_path, "val/images/a.jpg", "val/masks/a.png", "valid/images/a.jpg", "valid/masks/a.png")
    with pytest.raises(DataError, match="two folders for val: val/images, valid/images"):
        read_segmentation(tmp_path)


def test_a_folder_of_two_formats_must_be_named(tmp_path):
    folder(tmp_path, *LAYOUTS["folders in splits"])
    (tmp_path / "instances_train.json").write_text("{}")
    with pytest.raises(UsageError, match="looks like masks and like coco; say which is meant: --data-format masks"):
        read_segmentation(tmp_path)
    assert len(read_segmentation(tmp_path, data_format="masks").splits) == 2
    (tmp_path / "other").mkdir()
    folder(tmp_path / "other", "images/a.jpg", names=None)
    (tmp_path / "other" / "annotations").mkdir()
    (tmp_path / "other" / "annotations" / "things.json").write_text("{}")
    assert find(str(tmp_path / "other")) == "coco"


def test_splits_given_apart(tmp_path):
    folder(
        tmp_path / "one", "images/a.jpg", "masks/a.png", names={**NAMES, "colors": [[1, 0, 0], [2, 0, 0], [3, 0, 0]]}
    )
    # The same numbers with fewer names, and another value for void.
    names = {"names": ["c", "b"], "ids": [2, 1], "ignore_id": 9, "colors": [[3, 0, 0], [2, 0, 0]]}
    folder(tmp_path / "two", "train/images/b.jpg", "val/images/c.jpg", names=names)
    for split, name in (("train", "b"), ("val", "c")):
        mask(tmp_path / "two" / split / "masks" / f"{name}.png", [[9, 9, 2, 2, 2, 1]] * HEIGHT)
    source = read_segmentation({"train": str(tmp_path / "one"), "valid": str(tmp_path / "two")})
    assert source.labels == LabelMap(("a", "b", "c"), (0, 1, 2), ((1, 0, 0), (2, 0, 0), (3, 0, 0)))
    assert {name: split.ids for name, split in source.splits.items()} == {
        "train": ("images/a.jpg",),
        "val": ("train/images/b.jpg", "val/images/c.jpg"),
    }
    val = source.splits["val"]
    assert val.masks.ids(1).tolist() == [[255, 255, 2, 2, 2, 1]] * HEIGHT
    assert val.annotations["pixels"].tolist() == [[0, 4, 12, 8]] * 2
    assert val.annotations["present"].tolist() == [[False, True, True]] * 2
    assert source.pairs.total == 3
    with pytest.raises(UsageError, match="holdout=...: train, val or test expected"):
        read_segmentation({"holdout": str(tmp_path / "one")})


def test_one_class_is_nothing_to_tell_apart(tmp_path):
    folder(tmp_path, "images/a.jpg", "masks/a.png", names={"names": ["cell"], "ignore_id": 3})
    mask(tmp_path / "masks" / "a.png", np.where(MASK == 3, 3, 0))
    with pytest.raises(DataError, match=r"one class only \('cell'\); a segmenter needs two or more: give what is not"):
        read_segmentation(tmp_path)
    assert read_segmentation(tmp_path, most_bad_pairs=1.0).labels.names == ("cell",)  # `check` says it


def test_classes_that_nothing_can_be_learnt_of_are_said(tmp_path):
    folder(tmp_path, *LAYOUTS["folders in splits"])
    for file in ("a.png", "b/a.png"):
        mask(tmp_path / "train" / "masks" / file, np.where(MASK == 1, 0, MASK))
    said = (
        "classes without a pixel in train, which nothing can be learnt of: 1 (b); are they what is void in the masks?"
    )
    assert said in read_segmentation(tmp_path).notes


def test_pictures_in_memory_and_their_rarest_class():
    # The rarest class decides: 0 is in all pictures, 1 in three of four, 2 in ten of 40; each class gives a tenth.
    masks = [np.array([[0, 1 if n % 4 else 2]], np.uint8) for n in range(40)]
    png = np.zeros((1, 2, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(png).save(stream, "PNG")
    pairs = [Pair(f"p/{n}", None, each, None, encoded=stream.getvalue()) for n, each in enumerate(masks)]
    classes = Classes(LabelMap(("a", "b", "c")), lambda each: each)
    source = assemble("memory", "tfds", pairs, classes, split_seed=0)
    rare = {name: int(split.annotations["present"][:, 2].sum()) for name, split in source.splits.items()}
    assert rare == {"train": 8, "val": 1, "test": 1}
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 32, "val": 4, "test": 4}
    assert source.splits["val"].read(0) == stream.getvalue()
    with pytest.raises(DataError, match="256 classes; masks may hold 255"):
        assemble("memory", "tfds", pairs, Classes(LabelMap(tuple(map(str, range(256)))), classes.read), split_seed=0)


@pytest.mark.real_data
def test_camvid(data_root):
    source = read_segmentation(data_root / "camvid")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 367, "val": 101, "test": 233}
    assert (len(source.labels), source.labels.source_ids) == (11, tuple(range(11)))
    assert (source.pairs.total, source.pairs.dropped, source.problems) == (701, (), ())
    test = source.splits["test"]
    assert test.annotations["pixels"].sum() == 233 * 360 * 480
    stored = np.asarray(Image.open(data_root / "camvid" / test.masks.names[7]))
    ids = test.masks.ids(7)
    assert (ids == np.where(stored == 11, 255, stored)).all()
    counts = np.bincount(stored.ravel(), minlength=12)
    assert test.annotations["pixels"][7].tolist() == counts.tolist()
