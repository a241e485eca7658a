"""The task's batches: faces that are laid upon the template, augmentation, balance, the last epochs, galleries."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from numpy.lib.stride_tricks import sliding_window_view
from painted_scenes import png
from PIL import Image
from tiny_backbone import backbone

from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.data.face_alignment import template
from resnet_tasks.data.randomness import picture_key
from resnet_tasks.engine import measuring
from resnet_tasks.engine.evaluate import Evaluator
from resnet_tasks.errors import UsageError
from resnet_tasks.faces import task as module
from resnet_tasks.faces.task import Augmentation, Faces, FacesSettings

NAMES = ("anna", "boris")


def noise(count: int, size_hw=(16, 16), seed: int = 0) -> np.ndarray:
    """Pictures `(count, height, width, 3)` uint8 without a zero."""
    return np.random.default_rng(seed).integers(1, 256, (count, *size_hw, 3), np.uint8)


def ramp(height: int, width: int, step: int) -> np.ndarray:
    """A picture whose red and green say where a pixel lies, x and y, `step` levels a pixel."""
    y, x = np.mgrid[:height, :width] * step
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def split_of(name: str, images, labels=None, **parts) -> Split:
    """As a reader hands pictures over, arrays or files' bytes."""
    encoded = tuple(image if isinstance(image, bytes) else png(image) for image in images)
    label = np.zeros(len(encoded), np.int32) if labels is None else np.array(labels, np.int32)
    annotations = {"label": label, **parts.pop("annotations", {})}
    ids = tuple(f"{name}/{place}.png" for place in range(len(encoded)))
    return Split(name, ids, encoded=encoded, annotations=annotations, **parts)


def task(train: Split | None, test: Split | None = None, names=NAMES, **settings) -> Faces:
    """With a network of a few channels."""
    held = {split.name: split for split in (train, test) if split is not None}
    chosen = {"backbone": backbone, "image_size": (16, 16), "batch_size": len(train or ()) or 1, **settings}
    return Faces(Source("here", "folder", LabelMap(names), held), FacesSettings(**chosen))


def batches(of: Faces, count: int = 1) -> list[tuple[np.ndarray, dict]]:
    """The first training batches, in most of the tests below an epoch each; pictures in the order of the split."""
    found = []
    for images, targets in of.batches("train", training=True).stream().take(count):
        order = np.argsort(targets["index"].numpy(), kind="stable")
        found.append((images.numpy()[order], {name: value.numpy()[order] for name, value in targets.items()}))
    return found


def drawn(of: Faces, epochs: int) -> list[np.ndarray]:
    """The training pictures of some epochs, in the order of the split, one by one and eagerly."""
    made, found = of.batches("train", training=True), []
    for epoch in range(epochs):
        keys = [picture_key(of.settings.seed, epoch, index) for index in range(made.count)]
        pictures = [made.pictures.read(tf.constant(index))[0] for index in range(made.count)]
        rows = [made.transform({"image": image}, key)["image"] for image, key in zip(pictures, keys)]
        found.append(np.stack(rows))
    return found


# Alignment

MIDDLE, TURN = np.array([56.0, 60.0]), 1.3 * np.array([[np.sqrt(3), -1], [1, np.sqrt(3)]]) / 2  # by 30 degrees


def on_the_picture(points: np.ndarray) -> np.ndarray:
    """Where points of a canvas of 56x56 lie on the picture of 112x120 below, x and y."""
    return (points - 27.5) @ TURN.T + MIDDLE


def with_landmarks(**settings) -> Faces:
    """A face that is turned, and two without landmarks: one as large as the canvas and a wider one."""
    landmarks = np.full((3, 5, 2), np.nan, np.float32)
    landmarks[0] = on_the_picture(template((56, 56)))
    images = [ramp(120, 112, 2), *noise(1, (56, 56)), *noise(1, (56, 76))]
    known = {"annotations": {"landmarks": landmarks}}
    train = split_of("train", images, [0, 1, 1], **known)
    return task(train, split_of("test", images, [2, 3, 3], **known), image_size=(56, 56), **settings)


def are_aligned(images: np.ndarray) -> bool:
    """Whether each pixel shows what lies there where the face is upon the template; the other two are as they are."""
    y, x = np.mgrid[:56, :56]
    expected = 2 * on_the_picture(np.stack([x, y], axis=-1))  # bilinear, of a ramp it is what the ramp is
    assert expected.min() > 2 and expected[..., 0].max() < 2 * 110 and expected[..., 1].max() < 2 * 118
    np.testing.assert_allclose(images[0, ..., :2], expected, atol=0.6)
    np.testing.assert_array_equal(images[1], noise(1, (56, 56))[0])
    np.testing.assert_array_equal(images[2], noise(1, (56, 76))[0][:, 10:66])  # the middle
    return True


@pytest.mark.parametrize("is_late", [False, True], ids=["in training", "in the last epochs"])
def test_faces_are_laid_upon_the_template_by_their_landmarks(is_late):
    wild = Augmentation(random_resized_crop=((0.2, 0.3), (1.0, 1.0)), random_erasing=1.0)
    of = with_landmarks(close_after=0, augmentation=wild) if is_late else with_landmarks()
    ((images, targets),) = batches(of)
    assert images.dtype == np.uint8
    assert are_aligned(images)
    assert "landmarks" not in targets


def test_faces_are_laid_upon_the_template_in_evaluation():
    of = with_landmarks(evaluation_batch_size=2)
    found = list(of.batches("test", training=False).stream())
    images = np.concatenate([prepared["image"] for prepared, _ in found])
    assert are_aligned(images[:3])
    # Every picture once, in order; the last batch is filled.
    index, weight = (np.concatenate([targets[name] for _, targets in found]) for name in ("index", "weight"))
    assert index.tolist() == [0, 1, 2, -1] and weight.tolist() == [1, 1, 1, 0]
    assert all(prepared.keys() == {"image"} and targets.keys() == {"index", "weight"} for prepared, targets in found)


# Augmentation


def turned(images: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Which of the pictures are mirrored; all others have to be as they were."""
    mirrored = (images == whole[:, :, ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(images[~mirrored], whole[~mirrored])
    return mirrored


def test_a_flip_mirrors_some_and_an_alternating_one_all_in_turn():
    whole = noise(8)
    found = {}
    for flip in ("random", "alternate"):
        of = task(split_of("train", whole), augmentation=Augmentation(flip=flip))
        found[flip] = np.stack([turned(images, whole) for images, _ in batches(of, 3)])
        assert 0 < found[flip][0].sum() < 8
    np.testing.assert_array_equal(found["alternate"][1], ~found["alternate"][0])
    np.testing.assert_array_equal(found["alternate"][2], found["alternate"][0])
    assert (found["random"][1] == found["random"][0]).any()


@pytest.mark.parametrize(("mode", "padding"), [("zeros", "constant"), ("reflect", "reflect")])
def test_pad_crop_cuts_windows_of_the_padded_picture(mode, padding):
    whole = noise(8)
    of = task(split_of("train", whole), augmentation=Augmentation(pad_crop=3, pad_mode=mode))
    corners = []
    for images in drawn(of, 6):
        for image, own in zip(images, whole):
            padded = np.pad(own, ((3, 3), (3, 3), (0, 0)), padding)
            windows = sliding_window_view(padded, (16, 16, 3))[..., 0, :, :, :]
            (corner,) = np.argwhere((windows == image).all(axis=(2, 3, 4)))
            corners.append(corner)
    assert np.min(corners, axis=0).tolist() == [0, 0] and np.max(corners, axis=0).tolist() == [6, 6]


def test_a_random_part_is_stretched_to_the_canvas():
    crop = Augmentation(random_resized_crop=((0.25, 0.25), (1.0, 1.0)), pad_crop=3)
    of = task(split_of("train", [ramp(32, 32, 8)] * 8), image_size=(32, 32), augmentation=crop)
    corners = []
    for images in drawn(of, 4):
        for image in images.astype(int):
            left, top = image[0, 0, :2] // 8
            half = np.clip((np.arange(32) + 0.5) / 2 - 0.5, 0, 15)  # 16 of 32 pixels, interpolated between centres
            np.testing.assert_array_equal(image[..., 0], np.broadcast_to(8 * (left + half), (32, 32)))
            np.testing.assert_array_equal(image[..., 1], np.broadcast_to(8 * (top + half)[:, None], (32, 32)))
            corners.append((left, top))
    assert len(set(corners)) > 20
    assert np.min(corners) <= 2 and 12 <= np.max(corners) <= 16


def test_the_last_epochs_have_flips_and_colours_alone(monkeypatch):
    asked = []

    def made(name: str, change):
        """An operation that shows in the pixels, in the place of one that takes long to trace."""

        def get(*settings):
            asked.append((name, *settings))
            return lambda example, key: {**example, "image": change(example["image"])}

        monkeypatch.setattr(module.photometric, name, get)

    made("get_rand_augment", lambda image: 255 - image)
    made("get_color_jitter", lambda image: image[..., ::-1])
    whole = noise(8)
    wild = Augmentation(flip="alternate", pad_crop=3, rand_augment=(3, 5.0), color_jitter=0.4, random_erasing=1.0)
    first, second, third = batches(task(split_of("train", whole), augmentation=wild, close_after=1), 3)
    assert asked == [("get_rand_augment", 3, 5.0), ("get_color_jitter", 0.4), ("get_color_jitter", 0.4)]
    assert not any((one == other[..., ::-1]).mean() > 0.5 for one, other in zip(first[0], whole))
    mirrored = turned(second[0], whole[..., ::-1])
    assert 0 < mirrored.sum() < 8
    np.testing.assert_array_equal(turned(third[0], whole[..., ::-1]), ~mirrored)


def test_erasing_covers_a_part_of_the_picture():
    grey = np.full((8, 16, 16, 3), 100, np.uint8)
    (images,) = drawn(task(split_of("train", grey), augmentation=Augmentation(random_erasing=1.0)), 1)
    covered = (images != 100).any(axis=-1).mean(axis=(1, 2))
    assert (covered > 0).all() and (covered < 0.4).all() and len(set(covered)) > 2


# Targets and balance


def test_targets_say_who_it_is_and_when():
    labels = [0, 1, 1, 0, 1, 0, 1, 1]
    whole = noise(8)
    of = task(split_of("train", whole, labels), batch_size=4, seed=7)
    found = batches(of, 4)
    for number, (images, targets) in enumerate(found):
        np.testing.assert_array_equal(images, whole[targets["index"]])
        assert targets.keys() == {"label", "index", "key", "epoch", "step", "weight"}
        assert targets["label"].tolist() == [labels[index] for index in targets["index"]]
        assert targets["epoch"].tolist() == [number // 2] * 4 and targets["step"].tolist() == [number] * 4
        assert targets["weight"].tolist() == [1] * 4
        np.testing.assert_array_equal(targets["key"], picture_key(7, number // 2, targets["index"]))
    for epoch in (0, 2):
        assert sorted([*found[epoch][1]["index"], *found[epoch + 1][1]["index"]]) == list(range(8))


def test_identities_of_few_pictures_weigh_more():
    # 3, 2 and 1 pictures, 2 in the mean; one picture of the second cannot be read.
    labels = np.int32([0, 1, 0, 2, 1, 0])
    batch = {name: np.zeros(6, np.int64) for name in ("index", "key", "epoch", "step", "image")}
    batch |= {"label": labels, "weight": np.float32([1, 1, 1, 1, 0, 1])}
    weights = {}
    for balance in ("weights", "none"):
        of = task(split_of("train", noise(6), labels), names=("a", "b", "c"), balance=balance)
        weights[balance] = of.batches("train", training=True).finish(batch)[1]["weight"]
    np.testing.assert_allclose(weights["weights"], [2 / 3, 1, 2 / 3, 2, 0, 2 / 3], rtol=1e-6)
    assert weights["none"].tolist() == [1, 1, 1, 1, 0, 1]


def test_identities_of_few_pictures_come_more_often():
    # 6, 3, 2 and 4 pictures: each once, twice, three times; 6 / 4 is rounded to two.
    labels = np.repeat(np.arange(4), [6, 3, 2, 4])
    split = split_of("train", noise(15), labels)
    ((_, targets),) = batches(task(split, names=("a", "b", "c", "d"), balance="repeat", batch_size=26))
    assert np.bincount(targets["index"]).tolist() == [1] * 6 + [2] * 3 + [3] * 2 + [2] * 4
    assert (targets["weight"] == 1).all()
    assert np.bincount(targets["label"]).tolist() == [6, 6, 6, 8]


# Evaluation


class Compass:
    """Its embedding is the direction that a picture's red and green point to."""

    image_size, flip = (16, 16), False

    def __call__(self, images, training):
        return {"embedding": tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2))[:, :2] - 128.0}


def pointing(*degrees: float) -> list[np.ndarray]:
    angles = np.radians(degrees)
    colours = np.stack([128 + 100 * np.cos(angles), 128 + 100 * np.sin(angles), 0 * angles], axis=-1)
    return [np.full((16, 16, 3), colour, np.uint8) for colour in colours.round()]


TEST = split_of(
    "test",
    [*pointing(10, 15), b"words", *pointing(180, 100)],
    [0, 1, 0, 1, 0],
    pairs=np.array([[0, 1, 0, 0], [0, 4, 1, 0], [2, 4, 1, 0], [1, 3, 1, 1], [3, 4, 0, 1]], np.int32),
)


def closed() -> Faces:
    """Anna is known at 0 and 90 degrees, Boris at 40 and 210; a picture of hers cannot be read, nor one in the test."""
    known = split_of("train", [*pointing(0, 90, 40), b"words", *pointing(210)], [0, 0, 1, 0, 1])
    return task(known, TEST, evaluation_batch_size=4, cache="ram")


def opened() -> Faces:
    """The same pictures, of people who are not trained on."""
    strangers = {"label": TEST.annotations["label"] + 2}
    test = Split("test", TEST.ids, encoded=TEST.encoded, annotations=strangers, pairs=TEST.pairs)
    return task(closed().source.splits["train"], test, evaluation_batch_size=4, cache="ram")


def evaluated(of: Faces, split: str = "test") -> dict:
    return Evaluator(of, Compass(), tf.distribute.get_strategy(), split).run()


@pytest.fixture(scope="module")
def of_closed() -> dict:
    return evaluated(closed())


@pytest.fixture(scope="module")
def of_opened() -> dict:
    return evaluated(opened())


def test_in_a_closed_set_the_pictures_of_train_are_the_gallery(of_closed):
    of, measured = closed(), of_closed
    assert of.batches("test", training=False).split.ids == (*TEST.ids, *of.source.splits["train"].ids)
    # Anna at 10 is next to 0, at 100 to 90; Boris at 180 to 210.  At 15 he is next to Anna at 0, then himself at 40.
    assert (measured["rank1"], measured["rank5"]) == (3 / 4, 1.0)
    counts = {"images": 4, "unreadable": 1, "identities": 2, "pairs": 4, "compared": 6}
    assert {name: measured[name] for name in counts} == counts
    # Of the test alone: 90 and 165 degrees the same; 5, 80, 85, 170 different: each wins against the last.
    assert measured["auc"] == pytest.approx(2 / 8)
    similarity = measured["listed"]["similarity"]
    assert np.isnan(similarity[2])
    expected = np.cos(np.radians([5, 90, 165, 80]))
    np.testing.assert_allclose(similarity[[0, 1, 3, 4]], expected, atol=0.015)  # the colours are whole numbers
    np.testing.assert_array_equal(measured["listed"]["pairs"], TEST.pairs)
    assert {place for row in measured["mistakes"] for place in (row["index"], row["partner"])} == {0, 1, 3, 4}


def test_in_an_open_set_pictures_are_looked_for_among_one_another(of_opened):
    of, measured = opened(), of_opened
    assert of.batches("test", training=False).split.ids == TEST.ids
    # 10 and 15 are of two, as are 180 and 100 and all that lies nearer to them than their own.
    assert (measured["rank1"], measured["rank5"]) == (0.0, 1.0)
    assert measured["auc"] == pytest.approx(2 / 8) and measured["images"] == 4
    # The training pictures, which settle the threshold where there is no validation: 0, 90 of one, 40, 210 of another.
    on_train = evaluated(of, "train")
    assert on_train["images"] == 4 and on_train["rank1"] == 0.0
    # 90 and 170 degrees the same; 40, 50, 120, 150 different: 90 wins against two, 170 against none.
    assert on_train["auc"] == pytest.approx(2 / 8)


def test_one_stranger_makes_it_an_open_set():
    strange = Split("test", TEST.ids, encoded=TEST.encoded, annotations={"label": np.int32([0, 1, 0, 1, 2])})
    assert task(split_of("train", pointing(0, 40), [0, 1]), strange).batches("test", False).split.ids == TEST.ids
    assert task(None, TEST).batches("test", training=False).split.ids == TEST.ids, "without train there is no gallery"


@pytest.mark.parametrize("kind", ["opened", "closed"])
def test_the_pictures_of_a_mistaken_pair_are_drawn(kind, tmp_path, monkeypatch, request):
    measured = request.getfixturevalue(f"of_{kind}")
    monkeypatch.setattr(measuring, "Evaluator", lambda *_: SimpleNamespace(run=lambda: measured))
    monkeypatch.setattr(module.findings, "write", lambda *_: None)
    loaded = SimpleNamespace(keras_model=Compass(), predict=lambda encoded: [{} for _ in encoded])
    measuring.measure_and_write({"opened": opened, "closed": closed}[kind](), loaded, "test", tmp_path)
    assert len(measured["mistakes"]) == 6
    by_place = dict(zip((0, 1, 3, 4), pointing(10, 15, 180, 100)))
    for number, row in enumerate(measured["mistakes"]):
        sheet = np.asarray(Image.open(tmp_path / "mistakes" / f"{number:02d}.png"))
        assert sheet.shape == (16, 36, 3) and (sheet[:, 16:20] == 255).all()
        np.testing.assert_array_equal(sheet[:, :16], by_place[row["index"]])
        np.testing.assert_array_equal(sheet[:, 20:], by_place[row["partner"]])


def test_an_answer_is_drawn_as_the_picture():
    of, image = closed(), noise(1)[0]
    np.testing.assert_array_equal(of.draw(image, {}), image)


# The model, and other data


@pytest.mark.parametrize(("at_far", "threshold"), [(0.31, 0.31), (0.0, 0.0), (None, 0.52)])
def test_the_threshold_is_that_of_the_false_accept_rate_where_there_is_one(at_far, threshold):
    model = SimpleNamespace(threshold=0.5)
    closed().settle(model, {"far_threshold": at_far, "threshold": 0.52, "far": 0.001, **OF_VAL})
    assert model.threshold == threshold


OF_VAL = {"split": "val", "roc": {"different": 4500}}


def test_where_the_threshold_is_from_is_kept_and_a_makeshift_one_is_said(caplog):
    model, measured = SimpleNamespace(), {"far_threshold": 0.3, "threshold": 0.5, "far": 0.001, **OF_VAL}
    closed().settle(model, measured)
    assert model.threshold_from == "far 0.001 on val"
    closed().settle(model, {**measured, "split": "train"})
    assert model.threshold_from == "far 0.001 on the training identities"
    assert not caplog.records
    closed().settle(model, {**measured, "far_threshold": None})
    assert model.threshold_from == "best accuracy on val: 4,500 different pairs are too few for far 0.001"
    assert caplog.messages == [f"threshold 0.500: {model.threshold_from}; choose your own by --threshold"]


def other_source(test: Split, shown: set[str]) -> Source:
    train = split_of("train", noise(2), [0, 1])
    known = {"train": frozenset({"x", "y"}), "test": frozenset(shown)}
    return Source("there", "folder", LabelMap(("x", "y")), {"train": train, "test": test}, identities=known)


def test_people_that_were_trained_on_are_no_strangers_in_other_data(caplog):
    own = task(split_of("train", noise(2), [0, 1]))
    strangers = split_of("test", noise(4), [2, 3, 4, 2])
    own.matched(other_source(strangers, {"clara", "dora", "emil"}))
    own.matched(own.source)
    own.matched(other_source(split_of("test", noise(2), [0, 1]), {"anna", "boris"}))  # closed: of its own train
    assert not caplog.records
    own.matched(other_source(strangers, {"clara", "boris", "anna"}))
    (said,) = caplog.messages
    assert said.startswith("2 of the 3 identities of test bear names that the model was trained on (anna, boris)")


def answered(of: Faces, split: str, *degrees: float) -> dict:
    """What is measured of embeddings at these angles."""
    angles = np.radians(degrees)
    answers = {"embedding": np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)}
    return of.measure([(answers, {"index": np.arange(len(angles)), "weight": np.ones(len(angles))})], split)


def test_the_threshold_is_for_the_rate_that_the_head_was_given(of_opened):
    train = split_of("train", noise(3), [0, 1, 0])
    assert answered(task(train, head={"far": 0.2}), "train", 0, 90, 10)["far"] == 0.2
    assert of_opened["far"] == 1e-3


@pytest.mark.parametrize(("is_protocol", "compared", "auc"), [(True, 3, 1 / 2), (False, 6, 2 / 8)])
def test_of_a_protocol_the_pairs_of_its_list_are_compared_and_no_others(is_protocol, compared, auc):
    # In the list 90 degrees the same, and 85 and 170 different; of all also 165 the same, 5 and 80 different.
    pairs = np.array([[0, 3, 1, 0], [1, 3, 0, 0], [0, 2, 0, 1]], np.int32)
    test = split_of("test", noise(4), [2, 3, 3, 2], pairs=pairs, is_protocol=is_protocol)
    measured = answered(task(split_of("train", noise(2), [0, 1]), test), "test", 10, 15, 180, 100)
    assert (measured["pairs"], measured["compared"]) == (3, compared)
    assert measured["auc"] == pytest.approx(auc)


def test_the_model_knows_its_identities_and_settings():
    head = {"embedding": 4, "margin": "cosface", "scale": 8.0, "centres": 2, "flip": True, "norm": "group"}
    model = task(split_of("train", noise(2), [0, 1]), image_size=(24, 16), head=head).build()
    assert (model.class_names, model.image_size, model.margins) == (list(NAMES), (24, 16), (1.0, 0.0, 0.35))
    assert (model.scale, model.flip, model.input.shape) == (8.0, True, (None, 24, 16, 3))
    assert model.output["embedding"].shape == (None, 4) and tuple(model.class_centres.embeddings.shape) == (4, 4)
    assert type(model.get_layer("head_norm")).__name__ == "GroupNormalization"


def test_the_model_says_how_its_pictures_were_aligned():
    assert with_landmarks().build().alignment == "landmarks"
    assert task(split_of("train", noise(2), [0, 1])).build().alignment == "none"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"embedding": 0}, "model: embedding: expected 1 or more, got 0"),
        ({"centres": 0}, "model: centres: expected 1 or more, got 0"),
        ({"margins": (1.0, 0.5, 0.2)}, r"model: margins: arcface has \[1, m, 0\], got \[1.0, 0.5, 0.2\]"),
        ({"margins": (1.0, 4.0, 0.0)}, "model: margins: .* m2 from 0 to less than pi"),
    ],
)
def test_what_no_model_can_have_is_refused(head, said):
    with pytest.raises(UsageError, match=f"^{said}"):
        task(split_of("train", noise(2), [0, 1]), head=head).build()


def test_one_identity_is_refused():
    with pytest.raises(UsageError, match=r"^model: .*at least two identities, got \['anna'\]"):
        task(split_of("train", noise(2)), names=("anna",)).build()


def others() -> Source:
    """Other data: a test and nothing else, whose people a reader numbers from 0 on."""
    return Source("there", "folder", LabelMap(()), {"test": split_of("test", noise(4), [0, 1, 1, 0])})


def test_other_data_are_measured_as_they_are():
    of = closed()
    matched = of.matched(others(), {"anna": "boris"})
    assert matched.labels is of.labels and matched.settings is of.settings
    assert matched.splits == ("test",) and matched.source.where == "there"
    assert matched.batches("test", training=False).split.ids == matched.source.splits["test"].ids
    measured = answered(matched, "test", 10, 15, 180, 100)
    assert (measured["images"], measured["identities"], measured["rank1"]) == (4, 2, 0.0)
    # 90 and 165 degrees the same; 5, 80, 85, 170 different.
    assert measured["auc"] == pytest.approx(2 / 8)


def test_strangers_of_other_data_have_no_number_of_the_models():
    matched = closed().matched(others())
    assert matched.source.splits["test"].annotations["label"].min() >= len(NAMES)
