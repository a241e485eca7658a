"""The embedded canvases of digits: boxes and masks against every pixel of ink, and no digit in two splits."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.readers import digits, digits_drawing, digits_scenes


@pytest.fixture(scope="module")
def source():
    return digits_scenes.read()


@pytest.fixture(scope="module")
def drawn():
    return digits_drawing.scenes("val", 48, 0)


def overlap(boxes):
    """The IoU of all pairs, with -1 on the diagonal."""
    corner = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    shared = np.prod(np.clip(corner, 0, None), axis=-1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    return shared / (areas[:, None] + areas[None] - shared) - 2 * np.eye(len(boxes))


def test_the_source(source):
    assert source.format == "digits" and source.labels.names == tuple("0123456789")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 600, "val": 80, "test": 120}
    assert source.splits["train"].ids[:2] == ("digits/train/0001.png", "digits/train/0002.png")
    assert (source.problems, source.rows.dropped, source.rows.clipped, source.disagree) == ((), (), (), ())
    counts = (source.splits["train"].annotations["labels"] >= 0).sum(axis=1)
    assert sorted(set(counts.tolist())) == [0, 3, 4, 5, 6, 7, 8]
    assert np.flatnonzero(counts == 0).tolist() == list(range(11, 600, 12))
    labels = source.splits["train"].annotations["labels"]
    assert np.bincount(labels[labels >= 0]).min() > 200
    assert source.rows.total == sum(int((each.annotations["labels"] >= 0).sum()) for each in source.splits.values())


def test_pictures_and_boxes_are_those_that_were_drawn(source, drawn):
    val = source.splits["val"]
    for place, scene in enumerate(drawn):
        many = len(scene.labels)
        assert np.array_equal(val.annotations["boxes"][place, :many], scene.boxes)
        labels = val.annotations["labels"][place].tolist()
        assert labels == scene.labels.tolist() + [-1] * (len(labels) - many)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(val.read(place)))), scene.pixels)
    sizes = {scene.pixels.shape for scene in drawn}
    assert sizes == {(128, 128, 3), (96, 160, 3), (160, 96, 3)}


def test_a_box_is_the_extent_of_its_ink(drawn):
    for scene in drawn:
        assert scene.owner.max(initial=0) == len(scene.labels) == len(scene.boxes)
        for number, (label, box) in enumerate(zip(scene.labels, scene.boxes, strict=True), 1):
            ink = scene.owner == number
            rows, columns = np.nonzero(ink)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert (scene.mask[ink] == label + 1).all()
            assert 15 <= max(box[2:] - box[:2]) <= 46
        assert (scene.mask > 0).sum() == (scene.owner > 0).sum()
        assert overlap(scene.boxes).max(initial=0) <= 0.05


def test_ink_is_where_opacity_is_one_half_and_more(monkeypatch):
    """Black canvas, white ink: the picture is the opacity itself."""
    monkeypatch.setattr(digits_drawing, "_background", lambda random, *size: (np.zeros((*size, 3)), False))
    monkeypatch.setattr(digits_drawing, "_ink", lambda random, darker: np.full(3, 255.0))
    for scene in digits_drawing.scenes("test", 24, 3):
        assert np.array_equal(scene.pixels[..., 0] >= 128, scene.owner > 0)  # 127.5 rounds to 128
        for number, (left, top, right, bottom) in enumerate(scene.boxes.astype(int), 1):
            alone = np.where(scene.owner == number, scene.pixels[..., 0], 0)
            inside = alone[top:bottom, left:right]
            assert alone.sum() == inside.sum() and inside.max() == 255
            assert min(inside[0].max(), inside[-1].max(), inside[:, 0].max(), inside[:, -1].max()) >= 128


@pytest.mark.parametrize("cell", [2, 5])
def test_a_cell_of_ink_becomes_its_square_of_pixels(cell):
    """A bar three cells high and five wide: bicubic enlargement keeps one half at the cells' edges."""
    cells = np.zeros((8, 8), np.uint8)
    cells[2:5, 1:6] = 255
    alpha = digits_drawing._enlarged(cells, 8 * cell)
    rows, columns = np.nonzero(alpha >= 0.5)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (3 * cell, 5 * cell)
    assert (alpha >= 0.5).sum() >= 15 * cell**2 - 4  # but for the rounded corners
    assert alpha.min() == 0 and alpha.max() == 1
    assert (alpha > 0).any(0).all() and (alpha > 0).any(1).all()  # cut to where there is any
    whole = digits_drawing._enlarged(np.full((8, 8), 255, np.uint8), 8 * cell)
    rows, columns = np.nonzero(whole >= 0.5)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (8 * cell, 8 * cell)  # up to its own border


def test_ink_stands_out(drawn):
    """Every digit is darker than all the ground of a light canvas, or lighter than that of a dark one."""
    for scene in drawn:
        grey = scene.pixels @ np.array([0.299, 0.587, 0.114])
        ground = np.median(grey[scene.owner == 0])
        for number in range(1, len(scene.labels) + 1):
            assert abs(np.median(grey[scene.owner == number]) - ground) > 40


def test_no_digit_is_in_two_splits(monkeypatch):
    dealt = {}

    def key(shape, label):
        return hashlib.sha256(shape.tobytes()).digest(), int(label)

    monkeypatch.setattr(
        digits_drawing, "_scene", lambda random, cards: dealt[split].update(key(*card) for card in cards)
    )
    for split in ("train", "val", "test"):
        dealt[split] = set()
        digits_drawing.scenes(split, digits_scenes.COUNTS[split], 5)
        own = digits.read(split_seed=5).splits[split]
        shapes = [np.asarray(Image.open(io.BytesIO(own.read(place)))) for place in range(len(own))]
        assert dealt[split] == set(map(key, shapes, own.annotations["label"]))  # all of them, and no other
    assert not dealt["train"] & dealt["val"] and not dealt["train"] & dealt["test"] and not dealt["val"] & dealt["test"]


def test_the_same_seed_draws_the_same(source, drawn):
    again = digits_drawing.scenes("val", 20, 0)
    assert all(np.array_equal(one.pixels, two.pixels) for one, two in zip(drawn, again, strict=False))
    other = digits_drawing.scenes("val", 1, 1)[0]
    assert other.pixels.shape != drawn[0].pixels.shape or (other.pixels != drawn[0].pixels).any()
    train = digits_drawing.scenes("train", 20, 0)
    assert train[0].png() == source.splits["train"].read(0)
    assert [len(scene.labels) for scene in train] != [len(scene.labels) for scene in drawn[:20]]
