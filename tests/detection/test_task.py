"""The task's batches: boxes that move with their pictures, crowds, balance, the last epochs, labels matched by name."""

import io

import numpy as np
import pytest
from PIL import Image
from tiny_detectors import pyramid

from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.detection.task import Augmentation, Detection, DetectionSettings
from resnet_tasks.errors import DataError, UsageError

# Four boxes of one picture: a real one, a crowd, another real one, padding.
BOXES = [[8, 4, 40, 20], [0, 0, 64, 32], [48, 16, 60, 30], [0, 0, 0, 0]]
SMALL = {"channels": 8, "head_depth": 1, "min_level": 4}


def png(boxes, size_wh=(64, 32)) -> bytes:
    """Black, with its boxes in red."""
    pixels = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for left, top, right, bottom in np.int32(boxes):
        pixels[top:bottom, left:right, 0] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def split_of(name: str, labels, boxes=None, crowd=None, encoded=None) -> Split:
    """`labels` `(pictures, rows)`; each row has its box of `BOXES`."""
    labels = np.int32(labels)
    boxes = np.float64(BOXES[: labels.shape[1]] if boxes is None else boxes)
    boxes = np.broadcast_to(boxes, (*labels.shape, 4)) * (labels >= 0)[..., None]
    crowd = np.zeros(labels.shape, bool) if crowd is None else np.broadcast_to(crowd, labels.shape)
    shown = [[box for box, c in zip(rows, cs) if box.any() and not c] for rows, cs in zip(boxes, crowd)]
    pictures = encoded or [png(rows) for rows in shown]
    area = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
    ids = tuple(f"{name}/{place}.png" for place in range(len(labels)))
    annotations = {"boxes": boxes.copy(), "labels": labels, "crowd": crowd.copy(), "area": area}
    return Split(name=name, ids=ids, encoded=tuple(pictures), annotations=annotations)


def task(split: Split, names=("ant", "bee", "cat"), **settings) -> Detection:
    source = Source(
        where="here",
        format="coco",
        labels=LabelMap(tuple(names)),
        splits={"train": split, "val": split_of("val", split.annotations["labels"])},
    )
    chosen = {
        "detector": "retinanet",
        "head": SMALL,
        "image_size": (64, 64),
        "batch_size": 4,
        "evaluation_batch_size": 4,
        "backbone": lambda input_shape: pyramid(input_shape[:2]),
        **settings,
    }
    return Detection(source, DetectionSettings(**chosen))


def epoch(of: Detection, number: int = 0) -> list[tuple[np.ndarray, dict]]:
    """The training batches of one epoch."""
    batches = of.batches("train", training=True)
    taken = batches.stream(number * batches.steps).take(batches.steps)
    return [(images.numpy(), {name: value.numpy() for name, value in targets.items()}) for images, targets in taken]


def extent(image: np.ndarray) -> list[int]:
    """xyxy of what is red."""
    red = (image[..., 0] > 150) & (image[..., 1] < 80)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_a_crowd_is_not_learnt_and_leaves_no_gap():
    split = split_of("train", [[0, 1, 2, -1]] * 4, crowd=[False, True, False, False])
    ((images, targets),) = epoch(task(split))
    assert targets["labels"].tolist() == [[0, 2]] * 4
    np.testing.assert_allclose(targets["boxes"], [[BOXES[0], BOXES[2]]] * 4)  # 64x32 on 64x64: at its own size
    assert images.shape == (4, 64, 64, 3)
    assert (images[:, 32:] == 114).all()


def test_boxes_move_with_their_pictures():
    everything = Augmentation(flip="random", scale=(0.5, 2.0), crop=0.5, expand=0.5, mosaic=0.3)
    moved = task(split_of("train", [[0]] * 16), batch_size=16, augmentation=everything)
    alone, off = 0, []
    for number in range(6):
        ((images, targets),) = epoch(moved, number)
        for image, boxes, labels in zip(images, targets["boxes"], targets["labels"]):
            if (labels >= 0).sum() == 1:
                off.append(np.abs(boxes[0] - extent(image)).max())
                alone += 1
    assert alone > 30
    assert np.quantile(off, 0.95) <= 1.0, "a box's edge is within a pixel of what it surrounds"


def test_a_flip_moves_the_boxes_as_the_pictures():
    ((images, targets),) = epoch(
        task(split_of("train", [[0]] * 16), batch_size=16, augmentation=Augmentation(flip="random"))
    )
    found = [tuple(extent(image)) for image in images]
    assert set(found) == {(8, 4, 40, 20), (24, 4, 56, 20)}
    np.testing.assert_allclose(targets["boxes"][:, 0], found)


def test_a_mosaic_holds_boxes_of_other_pictures_and_ends_with_the_last_epochs():
    split = split_of("train", np.arange(16)[:, None] % 3)
    mosaic = task(split, batch_size=16, augmentation=Augmentation(mosaic=1.0, scale=(0.8, 0.8)), close_after=1)
    ((_, targets),) = epoch(mosaic, 0)
    assert targets["boxes"].shape == (16, 4, 4)
    assert (targets["labels"] >= 0).sum() > 20
    ((images, targets),) = epoch(mosaic, 1)
    assert ((targets["labels"] >= 0).sum(axis=1) == 1).all()
    np.testing.assert_allclose(targets["boxes"][:, 0], np.broadcast_to(BOXES[0], (16, 4)))
    assert extent(images[0]) == BOXES[0]


def test_mixup_keeps_the_boxes_of_both():
    mixed = task(split_of("train", [[0]] * 8), batch_size=8, augmentation=Augmentation(mixup=1.0), close_after=1)
    ((_, targets),) = epoch(mixed, 0)
    assert targets["labels"].tolist() == [[0, 0]] * 8
    ((_, targets),) = epoch(mixed, 1)
    assert targets["labels"].tolist() == [[0, -1]] * 8


def test_rare_classes_weigh_more_or_come_more_often():
    labels = [[0, -1]] * 8 + [[0, 1]] * 2  # class 0 in 10 pictures, class 1 in 2: sqrt(10 / 2)
    weighted = task(split_of("train", labels), batch_size=10, balance="weights")
    ((_, targets),) = epoch(weighted)
    order = np.argsort(targets["index"])
    np.testing.assert_allclose(targets["weight"][order], [1] * 8 + [np.sqrt(5)] * 2, rtol=1e-6)
    repeated = task(split_of("train", labels), batch_size=12, balance="repeat")
    ((_, targets),) = epoch(repeated)
    assert np.bincount(targets["index"]).tolist() == [1] * 8 + [2] * 2


def test_a_broken_picture_weighs_nothing_and_costs_a_mosaic_no_more_than_a_quarter():
    split = split_of("train", [[0]] * 8)
    broken = split_of("train", [[0]] * 8, encoded=[*split.encoded[:4], b"no picture", *split.encoded[5:]])
    ((_, targets),) = epoch(task(broken, batch_size=8, augmentation=Augmentation(mosaic=1.0, scale=(1.0, 1.01))))
    assert targets["weight"][targets["index"] == 4].tolist() == [0.0]
    assert (targets["weight"][targets["index"] != 4] == 1).all()


def test_evaluation_sees_every_picture_once_and_knows_the_way_back():
    of = task(split_of("train", [[0]] * 6))
    batches = list(of.batches("val", training=False).stream())
    indices = np.concatenate([targets["index"] for _, targets in batches])
    assert indices.tolist() == [0, 1, 2, 3, 4, 5, -1, -1]
    prepared, targets = batches[0]
    assert prepared["scale"].numpy().tolist() == [1.0] * 4
    assert prepared["size"].numpy().tolist() == [[32.0, 64.0]] * 4
    assert set(targets) == {"index", "weight"}


def test_a_backbone_without_the_levels_is_refused_with_those_it_has():
    of = task(split_of("train", [[0]]), backbone="resnet_20_cifar", head={"channels": 8})
    with pytest.raises(UsageError, match=r"C0 \(stride 1\).*expected C3 and coarser"):
        of.build()


def test_other_data_are_matched_by_name():
    of = task(split_of("train", [[0, 1, 2, -1]]))
    other = Source(
        where="there",
        format="yolo",
        labels=LabelMap(("wasp", "cat", "ant")),
        splits={"test": split_of("test", [[0, 1, 2, -1], [2, 0, -1, -1]])},
    )
    with pytest.raises(DataError, match="wasp"):
        of.matched(other)
    found = of.matched(other, {"wasp": "ignore"}).source.splits["test"].annotations
    assert found["labels"].tolist() == [[2, 0, -1, -1], [0, -1, -1, -1]]
    assert found["boxes"][0, :2].tolist() == BOXES[1:3]
    assert found["boxes"][1, 0].tolist() == BOXES[0]
    renamed = of.matched(other, {"wasp": "bee"}).source.splits["test"].annotations
    assert renamed["labels"].tolist() == [[1, 2, 0, -1], [0, 1, -1, -1]]


def test_the_threshold_of_the_validation_settles_in_the_model():
    of = task(split_of("train", [[0]]))
    model = of.build()
    of.settle(model, {"threshold": 0.321})
    assert model.get_config()["threshold"] == 0.321
    assert model.source_ids == [] and model.class_names == ["ant", "bee", "cat"]


def test_results_have_the_numbers_of_the_data_that_were_measured():
    """The model's ids are 3, 5, 9, and the data's are others, in another order."""
    own = Source("here", "coco", LabelMap(("ant", "bee", "cat"), (3, 5, 9)), {"train": split_of("train", [[0]])})
    settings = {"detector": "retinanet", "head": SMALL, "image_size": (64, 64)}
    of_own = Detection(own, DetectionSettings(**settings))
    other = Source(
        "there", "coco", LabelMap(("wasp", "cat", "ant"), (30, 10, 20)), {"test": split_of("test", [[1, 2]])}
    )
    matched = of_own.matched(other, {"wasp": "ignore"})
    answers = {
        "boxes": np.float32([BOXES[:2]]),
        "scores": np.float32([[0.9, 0.8]]),
        "label_ids": np.int32([[2, 1]]),
    }
    targets = {"index": np.array([0]), "weight": np.array([1.0], np.float32)}
    assert [row["category_id"] for row in matched.measure([(answers, targets)], "test")["predictions"]] == [10, -1]
    of_own.source.splits["test"] = split_of("test", [[1, 2]])
    assert [row["category_id"] for row in of_own.measure([(answers, targets)], "test")["predictions"]] == [9, 5]


def test_beside_an_answer_the_crowds_of_the_truth_are_dashed():
    split = split_of("train", [[0, 1]], crowd=[False, True])
    image = np.zeros((32, 64, 3), np.uint8)
    nothing = {"boxes": [], "scores": [], "label_ids": [], "label_names": []}
    shown, row = np.asarray(task(split).beside_truth(image, nothing, "train", {"index": 0})), {"index": 0}
    split.annotations["crowd"][:] = False
    whole = np.asarray(task(split).beside_truth(image, nothing, "train", row))
    assert (shown != whole).any()
