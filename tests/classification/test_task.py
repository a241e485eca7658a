"""The task's batches: weights, repeats, the last epochs, and labels that are matched by name."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from tiny_backbone import backbone

from resnet_tasks.classification.task import Augmentation, Classification, ClassificationSettings
from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.errors import DataError

EVERYTHING = Augmentation(flip="random", pad_crop=4, rand_augment=(2, 9), random_erasing=1.0, mixup=1.0, cutmix=1.0)


def png(seed: int, side: int = 16) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def split_of(name: str, labels, encoded=None) -> Split:
    pictures = encoded or [png(seed) for seed in range(len(labels))]
    ids = tuple(f"{name}/{place}.png" for place in range(len(labels)))
    return Split(name=name, ids=ids, encoded=tuple(pictures), annotations={"label": np.int32(labels)})


def task(labels, names=("ant", "bee", "cat"), **settings) -> Classification:
    source = Source(
        where="here",
        format="folder",
        labels=LabelMap(tuple(names)),
        splits={"train": split_of("train", labels), "val": split_of("val", labels)},
    )
    chosen = {"backbone": backbone, "image_size": (16, 16), "batch_size": 8, "evaluation_batch_size": 8, **settings}
    return Classification(source, ClassificationSettings(**chosen))


def epoch(of: Classification, number: int) -> list[tuple[np.ndarray, dict]]:
    """The training batches of one epoch."""
    batches = of.batches("train", training=True)
    taken = batches.stream(number * batches.steps).take(batches.steps)
    return [(images.numpy(), {name: value.numpy() for name, value in targets.items()}) for images, targets in taken]


def test_class_weights_weigh_all_classes_alike():
    weighted = task([0] * 6 + [1] * 2, balance="weights")  # 8 pictures of 2 classes: 4 each, and no cat
    np.testing.assert_allclose(weighted.class_weights, [4 / 6, 4 / 2, 0.0])
    ((_, targets),) = epoch(weighted, 0)
    np.testing.assert_allclose(targets["weight"], np.where(targets["label"] == 0, 4 / 6, 4 / 2))
    assert targets["weight"].sum() == pytest.approx(8)
    ((_, plain),) = epoch(task([0] * 6 + [1] * 2), 0)
    assert (plain["weight"] == 1).all()


def test_class_weights_of_mixed_pictures_are_mixed():
    mixed = task([0] * 6 + [1] * 2, balance="weights", augmentation=Augmentation(mixup=1.0))
    ((_, targets),) = epoch(mixed, 0)
    assert targets["label"].shape == (8, 3)
    assert ((targets["label"] > 0.01) & (targets["label"] < 0.99)).any()
    np.testing.assert_allclose(targets["weight"], targets["label"] @ [4 / 6, 2.0, 0.0], rtol=1e-6)


def test_repeat_shows_every_class_as_often_as_the_largest():
    repeated = task([0] * 6 + [1] * 2 + [2] * 3, balance="repeat", batch_size=18)
    assert repeated.batches("train", training=True).steps == 1
    for number in (0, 1):
        ((_, targets),) = epoch(repeated, number)
        assert np.bincount(targets["label"]).tolist() == [6, 6, 6]
        assert np.bincount(targets["index"]).tolist() == [1] * 6 + [3] * 2 + [2] * 3
        assert (targets["weight"] == 1).all()


def test_repeat_leaves_evaluation_alone():
    repeated = task([0] * 6 + [1] * 2, balance="repeat")
    ((_, targets),) = repeated.batches("val", training=False).stream()
    assert targets["index"].numpy().tolist() == list(range(8))


def test_the_last_epochs_show_the_pictures_as_they_are():
    closing = task([0, 1] * 4, augmentation=EVERYTHING, close_after=2)
    shown = closing.batches("val", training=False).stream()
    ((prepared, _),) = shown
    originals = prepared["image"].numpy().astype(np.float32)
    for number in range(4):
        ((images, targets),) = epoch(closing, number)
        same, mirrored = (
            np.array([np.array_equal(image, original) for image, original in zip(images.astype(np.float32), wanted)])
            for wanted in (originals[targets["index"]], originals[targets["index"], :, ::-1])
        )
        unmixed = (targets["label"].max(axis=1) == 1).all()
        if number < 2:
            assert not (same | mirrored).any() and not unmixed
        else:
            assert (same | mirrored).all() and unmixed
            assert same.any() and mirrored.any()  # a flip is no deformation: it goes on


def test_augmentation_without_an_end_goes_on():
    never = task([0, 1] * 4, augmentation=Augmentation(pad_crop=4), close_after=None)
    for number in (0, 50):
        ((images, _),) = epoch(never, number)
        borders = images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]
        blackened = np.any([(border == 0).all(axis=(1, 2)) for border in borders], axis=0)
        assert blackened.sum() >= 4  # all but 1 in 81 of the windows lie off the middle


def test_a_broken_picture_keeps_its_place_with_weight_zero():
    encoded = [png(0), b"not a picture", png(2)]
    split = split_of("val", [0, 1, 2], encoded)
    source = Source(where="here", format="folder", labels=LabelMap(("ant", "bee", "cat")), splits={"val": split})
    broken = Classification(source, ClassificationSettings(image_size=(16, 16), evaluation_batch_size=8))
    ((prepared, targets),) = broken.batches("val", training=False).stream()
    real = targets["index"].numpy() >= 0
    assert targets["index"].numpy()[real].tolist() == [0, 1, 2]
    assert targets["weight"].numpy().tolist() == [1, 0, 1] + [0] * (len(real) - 3)
    images = prepared["image"].numpy()
    assert images[0].std() > 10 and images[2].std() > 10
    assert (images[1] == 0).all()


def test_labels_are_matched_by_name_not_by_place():
    model = task([0, 1, 2], names=("ant", "bee", "cat"))
    data = Source(
        where="there", format="csv", labels=LabelMap(("cat", "ant")), splits={"test": split_of("test", [0, 1, 1, 0])}
    )
    matched = model.matched(data)
    assert matched.labels.names == ("ant", "bee", "cat")
    assert matched.source.splits["test"].annotations["label"].tolist() == [2, 0, 0, 2]
    ((_, targets),) = matched.batches("test", training=False).stream()
    assert targets["label"].numpy()[:4].tolist() == [2, 0, 0, 2]


def test_ignored_classes_are_left_out_and_the_others_keep_their_files():
    model = task([0, 1, 2])
    data = Source(
        where="there",
        format="folder",
        labels=LabelMap(("ants", "dog", "cat")),
        splits={"test": split_of("test", [0, 1, 2, 1, 0])},
    )
    with pytest.raises(DataError, match=r"(?s)'dog'.*the model: ant, bee, cat.*the data:  ants, dog, cat.*--map"):
        model.matched(data)
    kept = model.matched(data, {"ants": "ant", "dog": "ignore"}).source.splits["test"]
    assert kept.annotations["label"].tolist() == [0, 2, 0]
    assert kept.ids == ("test/0.png", "test/2.png", "test/4.png")
    assert kept.read(1) == data.splits["test"].read(2)


def test_findings_name_files_and_classes(tmp_path):
    model = task([0, 1, 2])
    measured = {
        "split": "val",
        "per_class": {"ant": {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "images": 1},
                      "bee": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "images": 1},
                      "cat": {"precision": 0.0, "recall": None, "f1": 0.0, "images": 0}},
        "confusion": [[1, 0, 0], [1, 0, 0], [0, 0, 0]],
        "mistakes": [{"index": 1, "truth": 1, "answer": 0, "score": 0.75}],
        "reliability": [{"confidence": 0.75, "accuracy": 0.5, "images": 2}],
    }  # fmt: skip
    model.findings(measured, tmp_path)
    read = {path.name: list(csv.reader(path.open())) for path in tmp_path.glob("*.csv")}
    assert read["mistakes.csv"] == [["file", "truth", "answer", "score"], ["val/1.png", "bee", "ant", "0.750000"]]
    assert read["confusion.csv"][1:] == [["ant", "1", "0", "0"], ["bee", "1", "0", "0"], ["cat", "0", "0", "0"]]
    assert read["per_class.csv"][3] == ["cat", "0.0", "", "0.0", "0"]
    assert json.loads((tmp_path / "reliability.json").read_text()) == measured["reliability"]


def test_build_makes_the_network_of_the_settings():
    model = task([0, 1, 2], image_size=(16, 24), crop_fraction=0.9, dropout=0.3, label_smoothing=0.1).build()
    assert model.input_shape == (None, 16, 24, 3)
    assert model.output_shape == (None, 3)
    assert (model.class_names, model.image_size) == (["ant", "bee", "cat"], (16, 24))
    assert (model.crop_fraction, model.label_smoothing, model.get_layer("dropout").rate) == (0.9, 0.1, 0.3)
