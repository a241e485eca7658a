"""The task's batches: masks that move with their pictures, crops, balance, the last epochs, labels matched by name."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from painted_scenes import LEVELS, NAMES, SMALL, agreement, painted, png, rows, scene, split_of, task

from resnet_tasks.data.drawing_masks import overlay, palette_of
from resnet_tasks.data.examples import LabelMap, Source
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.placing import FILL
from resnet_tasks.engine.evaluate import Evaluator
from resnet_tasks.errors import DataError, UsageError
from resnet_tasks.segmentation import task as module
from resnet_tasks.segmentation.predictor import GAP, summarised
from resnet_tasks.segmentation.task import Augmentation, Segmentation


def batches(of: Segmentation, count: int = 1) -> list[tuple[np.ndarray, dict]]:
    """The first training batches, in the tests below an epoch each."""
    taken = of.batches("train", training=True).stream().take(count)
    return [(images.numpy(), {name: value.numpy() for name, value in targets.items()}) for images, targets in taken]


def test_without_augmentation_a_picture_is_its_letterbox_with_void_around():
    split = split_of("train", [scene(seed, (32, 64)) for seed in range(4)])
    ((images, targets),) = batches(task(split))
    assert set(targets) == {"mask", "index", "key", "weight"}
    assert images.shape == (4, 64, 64, 3) and targets["mask"].dtype == np.uint8
    assert sorted(targets["index"]) == [0, 1, 2, 3]
    for image, mask, index in zip(images, targets["mask"], targets["index"]):
        np.testing.assert_array_equal(mask[:32], split.masks.ids(index))
        np.testing.assert_array_equal(image[:32], painted(split.masks.ids(index)))
        assert (mask[32:] == IGNORE).all() and (image[32:] == FILL).all()


def test_masks_move_with_their_pictures():
    everything = Augmentation(flip="random", scale=(0.5, 2.0), rotate=20.0, cutmix=0.5)
    split = split_of("train", [scene(seed, (48, 80)) for seed in range(8)])
    masks = []
    for images, targets in batches(task(split, batch_size=8, augmentation=everything), 3):
        masks.append(targets["mask"][np.argsort(targets["index"])])
        assert agreement(images, targets["mask"]) > 0.9  # but for the pixels along the edges
        assert set(np.unique(targets["mask"])) == {0, 1, 2, IGNORE}
    assert (masks[0] != masks[1]).any(axis=(1, 2)).all(), "another place in each epoch"


def test_a_flip_moves_the_mask_as_the_picture():
    split = split_of("train", [scene(seed) for seed in range(8)])
    turned = 0
    for images, targets in batches(task(split, batch_size=8, augmentation=Augmentation(flip="random")), 2):
        assert agreement(images, targets["mask"]) == 1.0
        for mask, index in zip(targets["mask"], targets["index"]):
            whole = split.masks.ids(index)
            is_turned = (mask != whole).any()
            np.testing.assert_array_equal(mask, whole[:, ::-1] if is_turned else whole)
            turned += is_turned
    assert 0 < turned < 16


def test_a_crop_is_a_part_of_the_picture_at_the_size_it_is_answered_at():
    # Red and green say where a pixel lies: one a pixel of the picture, which is twice as large as its canvas.
    y, x = np.mgrid[:128, :128]
    ramp = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)
    split = split_of("train", [(x >= 64).astype(np.uint8)] * 8, encoded=[png(ramp)] * 8)
    of = task(split, batch_size=8, augmentation=Augmentation(crop_size=(32, 48)))
    corners = []
    for images, targets in batches(of, 4):
        assert images.shape == (8, 32, 48, 3) and targets["mask"].shape == (8, 32, 48)
        found = images.astype(int)
        across, down = np.diff(found[..., 0], axis=2), np.diff(found[..., 1], axis=1)
        assert abs(across.mean() - 2) < 0.02 and abs(down.mean() - 2) < 0.02, "half the picture's size"
        np.testing.assert_array_equal(targets["mask"] == 1, found[..., 0] >= 64)
        corners += [tuple(image[0, 0, :2]) for image in found]
    left, top = np.array(corners).T
    assert len(set(corners)) > 20
    # The canvas's 64 pixels leave 16 to the sides and 32 above and below: of the picture 32 and 64.
    assert 0 <= left.min() < 8 and 24 < left.max() <= 33
    assert 0 <= top.min() < 12 and 52 < top.max() <= 65


def test_the_last_epochs_have_flips_and_colours_alone():
    split = split_of("train", [scene(seed) for seed in range(8)])
    wild = Augmentation(scale=(0.3, 0.5), rotate=30.0, cutmix=1.0)
    (_, before), (images, targets) = batches(task(split, batch_size=8, augmentation=wild, close_after=1), 2)
    assert (before["mask"] == IGNORE).mean() > 0.5, "smaller, and turned"
    assert agreement(images, targets["mask"]) == 1.0
    for mask, index in zip(targets["mask"], targets["index"]):
        np.testing.assert_array_equal(mask, split.masks.ids(index))


def test_cutmix_pastes_parts_of_other_pictures_with_their_masks_and_nothing_of_a_broken_one():
    whole = split_of("train", [np.full((64, 64), label, np.uint8) for label in (0, 1, 0, 1, 0, 2, 1, 2)])
    broken = split_of("train", [*map(whole.masks.ids, range(8))], [*whole.encoded[:4], b"words", *whole.encoded[5:]])
    mixed = 0
    for images, targets in batches(task(broken, batch_size=8, augmentation=Augmentation(cutmix=1.0)), 3):
        at = targets["index"] == 4
        assert targets["weight"].tolist() == np.where(at, 0.0, 1.0).tolist()
        assert agreement(images[~at], targets["mask"][~at]) == 1.0
        assert not (targets["mask"][~at] == IGNORE).any() and (targets["mask"][at] == IGNORE).any()
        mixed += sum(len(np.unique(mask)) == 2 for mask in targets["mask"][~at])
    assert mixed > 5


def test_kept_pictures_have_masks_that_are_read_once_and_a_broken_one_is_void():
    masks, asked = [scene(seed, void=False) for seed in range(4)], []

    def read(entry: int) -> np.ndarray:
        asked.append(entry)
        return masks[entry]

    whole = split_of("train", masks)
    split = split_of("train", masks, [*whole.encoded[:2], b"no picture", whole.encoded[3]], read)
    made = task(split, cache="ram").batches("train", training=True)
    assert sorted(asked) == [0, 1, 2, 3], "when the batches are made"
    for images, targets in made.stream().take(3):
        at = targets["index"].numpy() == 2
        assert targets["weight"].numpy().tolist() == np.where(at, 0.0, 1.0).tolist()
        assert (targets["mask"][at] == IGNORE).numpy().all()
        assert agreement(images[~at].numpy(), targets["mask"][~at].numpy()) == 1.0
    assert len(asked) == 4
    # Else they are read in Python when their pictures come.
    ((images, targets),) = batches(task(split_of("train", masks, read=read)))
    assert agreement(images, targets["mask"]) == 1.0 and len(asked) > 4


# Balance


@pytest.fixture
def plain_unet(monkeypatch):
    """What a U-Net would be made with, in its place."""
    monkeypatch.setitem(module.SEGMENTERS, "unet", lambda **settings: SimpleNamespace(**settings))


def test_classes_weigh_by_the_median_frequency(plain_unet):
    # Ground is in both, with 3 + 4 of 4 + 4 pixels that are not void: 7/8.  Road is in the first alone: 1/4.
    split = split_of("train", rows((3, 1, 0, 2), (4, 0, 0, 5)))
    median = (7 / 8 + 1 / 4) / 2
    weights = task(split, balance="weights").build().class_weights
    np.testing.assert_allclose(weights, [median / (7 / 8), median / (1 / 4), 1.0], rtol=1e-12)
    # Of 8 pixels 5 and 2, in both; of the second's 4 one: 5/8, 1/4, 1/4.
    split = split_of("train", rows((3, 1, 0, 0), (2, 1, 1, 0)))
    weights = task(split, balance="weights").build().class_weights
    np.testing.assert_allclose(weights, [(1 / 4) / (5 / 8), 1.0, 1.0], rtol=1e-12)
    assert task(split).build().class_weights is None
    assert task(split, head={"class_weights": [1, 2, 3]}).build().class_weights == [1, 2, 3]


def test_pictures_of_rare_classes_come_more_often():
    # Ground is in 9 of 11 pictures, road in 2, the car in one: the roots of 9/2 and 9 are 2.1 and 3.  Void comes once.
    scenes = rows(*[(4, 0, 0, 0)] * 7, (3, 1, 0, 0), (2, 1, 1, 0), (0, 0, 0, 4), (0, 0, 0, 4))
    ((_, targets),) = batches(task(split_of("train", scenes), batch_size=14, balance="repeat"))
    assert np.bincount(targets["index"]).tolist() == [1] * 7 + [2, 3] + [1, 1]
    assert (targets["weight"] == 1).all()


# Evaluation


class Oracle:
    """Reads the painted classes off the canvas."""

    image_size, class_names = (64, 64), NAMES

    def __call__(self, images, training):
        return {"logits": -tf.abs(tf.cast(images[..., :1], tf.float32) - tf.constant(LEVELS, tf.float32))}


def test_evaluation_sees_every_picture_once_and_knows_the_way_back():
    split = split_of("val", [scene(seed, (32, 64)) for seed in range(6)])
    found = list(task(split).batches("val", training=False).stream())
    indices = np.concatenate([targets["index"] for _, targets in found])
    assert indices.tolist() == [0, 1, 2, 3, 4, 5, -1, -1]
    prepared, targets = found[0]
    assert prepared["scale"].numpy().tolist() == [1.0] * 4
    assert prepared["size"].numpy().tolist() == [[32, 64]] * 4
    assert prepared["image"].dtype == tf.uint8 and set(targets) == {"index", "weight"}


def test_who_answers_what_is_painted_is_right_at_every_size():
    sizes = [(64, 64), (32, 64), (97, 131), (128, 128), (200, 96), (40, 50)]
    masks = [scene(seed, size) for seed, size in enumerate(sizes)]
    of = task(split_of("train", masks[:1]), split_of("val", masks))
    measured = Evaluator(of, Oracle(), tf.distribute.get_strategy(), "val").run()
    assert measured["images"] == 6 and measured["mIoU"] > 0.93
    assert {row["index"] for row in measured["mistakes"]}.isdisjoint({0, 1}), "at its own size it is exact"
    logged = of.logged(measured)
    assert logged["IoU: car"] == measured["per_class"]["car"]["IoU"] and logged["mIoU"] == measured["mIoU"]
    assert all(isinstance(value, (int, float)) for value in logged.values())


def test_a_class_that_is_not_there_is_not_logged():
    of = task(split_of("train", [scene(0)]))
    per_class = {"ground": {"IoU": 0.5}, "road": {"IoU": 0.0}, "car": {"IoU": None}}
    measured = {"mIoU": 0.25, "images": 1, "split": "val", "per_class": per_class, "confusion": [[1]]}
    assert of.logged(measured) == {"mIoU": 0.25, "images": 1, "IoU: ground": 0.5, "IoU: road": 0.0}


def test_a_drawing_stands_beside_its_truth_and_a_batch_shows_its_masks():
    split, colors = split_of("train", [scene(0), scene(1)]), ((0, 0, 0), (90, 90, 90), (200, 0, 0))
    of, image = task(split, colors=colors), painted(scene(1))
    sheet = of.beside_truth(image, summarised(NAMES, scene(0, void=False)), "train", {"index": 1})
    drawn = np.asarray(sheet)
    np.testing.assert_array_equal(drawn[:64, :64], overlay(image, scene(1), colors))
    np.testing.assert_array_equal(drawn[:64, 64 + GAP :][:, :64], overlay(image, scene(0, void=False), colors))
    alone = np.asarray(of.draw(image, summarised(NAMES, scene(0, void=False))))
    np.testing.assert_array_equal(alone[:64, :64], drawn[:64, 64 + GAP :][:, :64])
    images = np.stack([image, image]).astype(np.float32) + 300.0  # as colours may leave them
    first, second = of.as_trained(images, {"mask": np.stack([scene(1), scene(0)])})
    np.testing.assert_array_equal(first, overlay(np.full_like(image, 255), scene(1), palette_of(of.labels)))
    assert first.shape == second.shape == (64, 64, 3)


# Other data, and what cannot be built


def test_other_data_are_matched_by_name():
    of = task(split_of("train", [scene(0)]))
    mask = np.array([[0, 0, 0, 1], [1, 2, IGNORE, IGNORE]], np.uint8)
    other = Source("there", "voc", LabelMap(("wasp", "car", "ground")), {"test": split_of("test", [mask])})
    with pytest.raises(DataError, match="wasp"):
        of.matched(other)
    for mapping, ids, pixels in (
        ({"wasp": "ignore"}, [[255, 255, 255, 2], [2, 0, 255, 255]], [[1, 0, 2, 5]]),
        ({"wasp": "car"}, [[2, 2, 2, 2], [2, 0, 255, 255]], [[1, 0, 5, 2]]),
    ):
        matched = of.matched(other, mapping)
        assert matched.labels == of.labels and matched.settings is of.settings
        split = matched.source.splits["test"]
        assert split.masks.ids(0).tolist() == ids
        assert split.annotations["pixels"].tolist() == pixels
        assert split.annotations["present"].tolist() == [[count > 0 for count in pixels[0][:3]]]
    same = of.matched(Source("there", "masks", LabelMap(NAMES), other.splits)).source.splits["test"]
    assert same.masks is other.splits["test"].masks


def test_the_model_knows_its_classes_numbers_and_colours():
    split = split_of("train", [scene(0)])
    model = task(split, colors=((1, 2, 3),) * 3, image_size=(64, 96), balance="weights").build()
    assert (model.class_names, model.source_ids, model.image_size) == (list(NAMES), [0, 1, 2], (64, 96))
    assert model.colors == [[1, 2, 3]] * 3 and len(model.class_weights) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"segmenter": "semantic_fpn", "head": {"min_level": 5}}, "model.segmenter: semantic_fpn: .*expected C5"),
        ({"backbone": "resnet_20_cifar", "output_stride": 8, "head": {}}, "output_stride=8: resnet_20_cifar"),
        ({"head": {"decoder_channels": [8, 8]}}, "model.segmenter: unet: decoder_channels: tiny needs 4"),
        ({"head": {**SMALL, "class_weights": [1, 2]}}, "model.segmenter: unet: class_weights: expected 3 numbers"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings, said):
    with pytest.raises(UsageError, match=said):
        task(split_of("train", [scene(0)]), **settings).build()
