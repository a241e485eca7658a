"""Masks as COCO's annotations: drawn again by COCO's own code they are the same masks, pixel by pixel."""

import json

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.readers import masks_coco
from resnet_tasks.segmentation import polygons


def drawn(row, shape):
    shapes = row["segmentation"]
    encoded = coco_mask.frPyObjects(shapes, *shape)
    return coco_mask.decode(coco_mask.merge(encoded) if isinstance(shapes, list) else encoded).astype(bool)


def blobs(seed, shape, classes):
    """Smooth random regions: the class of the largest of some random fields."""
    random = np.random.default_rng(seed)
    fields = random.random((classes, *(max(2, side // 6) for side in shape)))
    grown = [np.asarray(Image.fromarray(field).resize(shape[::-1], Image.Resampling.BICUBIC)) for field in fields]
    return np.argmax(grown, axis=0).astype(np.uint8)


def flooded(pixels, seed, connectivity):
    """The region of a bool mask around a pixel, grown pixel by pixel."""
    steps = [(0, 1), (1, 0), (0, -1), (-1, 0)] + [(1, 1), (1, -1), (-1, 1), (-1, -1)] * (connectivity == 8)
    region, waiting = np.zeros_like(pixels), [seed]
    while waiting:
        y, x = waiting.pop()
        if 0 <= y < pixels.shape[0] and 0 <= x < pixels.shape[1] and pixels[y, x] and not region[y, x]:
            region[y, x] = True
            waiting += [(y + dy, x + dx) for dy, dx in steps]
    return region


def of(picture):
    return np.array([[int(letter) for letter in row] for row in picture.split()], np.uint8)


def test_one_rectangle_by_hand():
    rows = polygons.annotations(of("00000 01110 01110 00000"), 7, {1: 90})
    assert rows == [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 90,
            "iscrowd": 0,
            "area": 6,
            "bbox": [1, 1, 3, 2],
            "segmentation": [[4, 1, 4, 3, 1, 3, 1, 1]],
        }
    ]


def test_a_hole_becomes_run_lengths():
    (row,) = polygons.annotations(of("111 101 111"), 1, {1: 5})
    assert row["segmentation"] == {"size": [3, 3], "counts": [0, 4, 1, 4]}
    assert (row["area"], row["bbox"]) == (8, [0, 0, 3, 3])
    both = polygons.annotations(of("111 101 111"), 1, [4, 5], first_id=10)
    assert [(each["id"], each["category_id"]) for each in both] == [(10, 5), (11, 4)]
    assert both[1]["segmentation"] == [[2, 1, 2, 2, 1, 2, 1, 1]]


@pytest.mark.parametrize(
    ("picture", "connectivity", "areas", "holes"),
    [
        ("10 01", 8, [2], 0),
        ("10 01", 4, [1, 1], 0),
        ("110 101 111", 8, [7], 1),  # closed at a corner: by 8 the inner pixel is cut off
        ("110 101 111", 4, [7], 0),  # by 4 it is joined with the outside there
        ("0110 1001 0110", 8, [6], 1),
        ("0110 1001 0110", 4, [2, 1, 1, 2], 0),
        ("11111 10101 11011 11111", 8, [17], 1),
        ("11111 10101 11011 11111", 4, [17], 1),
    ],
)
def test_what_touches_at_a_corner(picture, connectivity, areas, holes):
    mask = of(picture)
    rows = polygons.annotations(mask, 1, {1: 1}, connectivity=connectivity)
    assert [row["area"] for row in rows] == areas
    assert sum(isinstance(row["segmentation"], dict) for row in rows) == holes
    assert np.array_equal(sum(drawn(row, mask.shape).astype(int) for row in rows), mask)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("kind", ["noise", "blobs", "stripes"])
def test_drawn_again_each_region_is_itself(kind, connectivity):
    for seed, shape in enumerate([(1, 1), (1, 9), (9, 1), (2, 2), (7, 12), (33, 21), (40, 64)]):
        random = np.random.default_rng(seed)
        if kind == "noise":
            mask = random.integers(0, 3, shape).astype(np.uint8)
        elif kind == "blobs":
            mask = blobs(seed, shape, 4)
        else:
            mask = np.indices(shape).sum(0).astype(np.uint8) % 2  # a chessboard
        mask[random.random(shape) < 0.02] = 255
        rows = polygons.annotations(mask, 1, {0: 0, 1: 11, 2: 22, 3: 33}, connectivity=connectivity)
        again = np.full(shape, 255, np.uint8)
        for row in rows:
            region = drawn(row, shape)
            seed_pixel = tuple(np.argwhere(region)[0])
            value = row["category_id"] // 11
            assert np.array_equal(region, flooded(mask == value, seed_pixel, connectivity))
            assert (again[region] == 255).all()
            again[region] = value
            ys, xs = np.nonzero(region)
            assert row["area"] == len(ys)
            assert row["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            if isinstance(row["segmentation"], list):
                (points,) = row["segmentation"]
                corners = np.reshape(points, (-1, 2))
                steps = np.roll(corners, -1, 0) - corners
                assert ((steps == 0).sum(1) == 1).all() and (steps[:, 0] * np.roll(steps[:, 0], 1) == 0).all()
                # The signed area of the polygon (the shoelace's) is the count of its pixels.
                xs, ys = corners.T
                assert abs((xs * np.roll(ys, -1) - np.roll(xs, -1) * ys).sum()) / 2 == row["area"]
        assert np.array_equal(again, mask)
        assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > (1 if kind == "stripes" else 20) or connectivity == 4


def test_run_lengths():
    def lengths(pixels):
        return polygons.run_lengths(np.flatnonzero(pixels.ravel(order="F")), pixels.shape)

    for corner in (True, False):
        pixels = np.random.default_rng(0).random((9, 7)) < 0.5
        pixels[0, 0], pixels[-1, -1] = corner, not corner
        found = lengths(pixels)
        assert (found["counts"][0] == 0) == corner and sum(found["counts"]) == 63 and min(found["counts"][1:]) > 0
        assert np.array_equal(coco_mask.decode(coco_mask.frPyObjects(found, 9, 7)), pixels)
    assert lengths(np.zeros((2, 3), bool)) == {"size": [2, 3], "counts": [6]}
    assert lengths(np.ones((2, 3), bool)) == {"size": [2, 3], "counts": [0, 6]}


def test_arguments():
    assert polygons.annotations(np.zeros((0, 5), np.uint8), 1, {0: 1}) == []
    assert polygons.annotations(np.full((3, 5), 255, np.uint8), 1, [1, 2]) == []
    with pytest.raises(ValueError, match="connectivity: 4 or 8 expected, not 6"):
        polygons.annotations(np.zeros((2, 2), np.uint8), 1, {0: 1}, connectivity=6)


def test_the_categories_of_a_file():
    mask = of("0011 0211")
    named = LabelMap(("background", "cat", "dog"), (0, 17, 18))
    document = polygons.coco([("a.png", mask), ("b/c.png", mask)], named)
    assert document["images"][1] == {"id": 2, "file_name": "b/c.png", "height": 2, "width": 4}
    assert [(entry["id"], entry["name"]) for entry in document["categories"]] == [(17, "cat"), (18, "dog")]
    rows = [(row["id"], row["image_id"], row["category_id"], row["area"]) for row in document["annotations"]]
    assert rows == [(1, 1, 17, 4), (2, 1, 18, 1), (3, 2, 17, 4), (4, 2, 18, 1)]
    unnumbered = polygons.coco([("a.png", mask)], LabelMap(("sky", "road", "tree")))
    assert [entry["id"] for entry in unnumbered["categories"]] == [0, 1, 2]
    assert [row["category_id"] for row in unnumbered["annotations"]] == [0, 1, 2]
    lettered = polygons.coco([], LabelMap(("sky", "road"), ("s", "r")))
    assert lettered["categories"] == [
        {"id": 0, "name": "sky", "supercategory": ""},
        {"id": 1, "name": "road", "supercategory": ""},
    ]


def test_the_reader_of_coco_gives_the_masks_back(tmp_path):
    named = LabelMap(("background", "eel", "cat", "dog"), (0, 3, 17, 18))
    masks = {f"{number}.png": blobs(number, (48, 64), 4) for number in range(3)}
    for name in masks:
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    (tmp_path / "all.json").write_text(json.dumps(polygons.coco(masks.items(), named)))
    source = masks_coco.read(tmp_path / "all.json")
    assert source.labels == named
    read = {name: split.masks.ids(at) for split in source.splits.values() for at, name in enumerate(split.ids)}
    assert set(read) == set(masks)
    for name, mask in masks.items():
        assert np.array_equal(read[name], mask)
