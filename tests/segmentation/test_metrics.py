"""The measures of a segmenter: by hand, and equal to a plain NumPy reference on random masks."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.data.masks import IGNORE, Masks, grey_png, read_grey
from resnet_tasks.errors import DataError
from resnet_tasks.segmentation import metrics
from resnet_tasks.segmentation.boundary import boundary_f1
from resnet_tasks.segmentation.metrics import DETAILS, measure

LABELS = LabelMap(("sky", "road", "car"))


def split_of(*truths: np.ndarray) -> Split:
    names = tuple(f"{place}.jpg" for place in range(len(truths)))
    masks = Masks(tuple(grey_png(truth) for truth in truths), read_grey, names, plain=True)
    return Split("val", names, encoded=(b"",) * len(names), masks=masks)


def batches(answers, batch: int = 4, weights=None):
    """As evaluation hands them over: the last batch is filled with padding, which holds an answer too."""
    weights = np.ones(len(answers)) if weights is None else np.array(weights)
    for start in range(0, len(answers), batch):
        index = np.arange(start, start + batch)
        real, place = index < len(answers), np.minimum(index, len(answers) - 1)
        encoded = np.array([grey_png(answers[row]) if weights[row] else b"" for row in place], object)
        targets = {"index": np.where(real, index, -1), "weight": np.where(real, weights[place], 0).astype(np.float32)}
        yield {"mask_png_bytes": encoded}, targets


def measured(truths, answers, labels: LabelMap = LABELS) -> dict:
    return measure(batches(answers), split_of(*truths), labels)


def mask(*rows) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_two_pictures_by_hand():
    truths = mask([0, 0, 1, 1], [0, 1, 1, IGNORE]), mask([0], [0], [1])
    answers = mask([0, 1, 1, 1], [0, 1, 1, 2]), mask([0], [0], [1])
    got = measured(truths, answers)
    # Of sky 5 pixels, one taken for road; of road 5, all right; the car stands in void.
    assert got["confusion"] == [[4, 1, 0], [0, 5, 0], [0, 0, 0]]
    sky, road = 4 / 5, 5 / 6
    assert got["mIoU"] == (sky + road) / 2
    assert got["pixel_accuracy"] == 9 / 10
    assert got["mean_accuracy"] == (4 / 5 + 1) / 2
    assert got["mean_dice"] == pytest.approx((8 / 9 + 10 / 11) / 2, abs=1e-15)
    assert (got["images"], got["unreadable"]) == (2, 0)
    per_class = got["per_class"]
    assert per_class["sky"] == {"IoU": sky, "accuracy": 0.8, "dice": 8 / 9, "boundary_f1": 1.0, "pixels": 5}
    assert per_class["road"] == {"IoU": road, "accuracy": 1.0, "dice": 10 / 11, "boundary_f1": 1.0, "pixels": 5}
    assert per_class["car"] == {**dict.fromkeys(("IoU", "accuracy", "dice", "boundary_f1")), "pixels": 0}
    # In the first picture sky has 2 of 3, road 4 of 5.
    first = {"index": 0, "pixel_accuracy": 6 / 7, "mIoU": (2 / 3 + 4 / 5) / 2, "worst": "sky"}
    assert got["mistakes"] == [first]
    assert got["best"] == [{"index": 1, "pixel_accuracy": 1.0, "mIoU": 1.0, "worst": "sky"}, first]
    assert set(DETAILS) < set(got)


def test_a_class_that_is_only_answered_counts_as_0_in_the_means_of_overlap_alone():
    got = measured([mask([0, 0, 0, 0])], [mask([0, 0, 0, 2])])
    assert got["per_class"]["car"] == {"IoU": 0.0, "accuracy": None, "dice": 0.0, "boundary_f1": 0.0, "pixels": 0}
    assert got["per_class"]["road"]["IoU"] is None
    assert (got["mIoU"], got["mean_accuracy"]) == (0.75 / 2, 0.75)
    assert got["mean_dice"] == 6 / 7 / 2
    assert got["mistakes"][0]["worst"] == "car"


def test_the_mean_is_of_all_pixels_and_not_of_pictures():
    truths = [np.zeros((10, 10), np.uint8), mask([0, 1])]
    answers = [np.zeros((10, 10), np.uint8), mask([1, 0])]
    got = measured(truths, answers)
    assert got["mIoU"] == (100 / 102 + 0) / 2
    assert got["pixel_accuracy"] == 100 / 102


def random_pictures(seed: int, pictures: int, classes: int) -> tuple[list, list]:
    """Masks of many sizes whose classes occur unevenly, the last never; answers with three of four pixels right."""
    random = np.random.default_rng(seed)
    truths, answers = [], []
    for _ in range(pictures):
        shape = tuple(random.integers(1, 60, 2))
        truth = (random.integers(0, random.integers(1, classes), shape)).astype(np.uint8)
        answer = np.where(random.uniform(size=shape) < 0.75, truth, random.integers(0, classes - 1, shape))
        truths.append(np.where(random.uniform(size=shape) < 0.1, IGNORE, truth).astype(np.uint8))
        answers.append(answer.astype(np.uint8))
    return truths, answers


def counted(truth: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    return np.array([[((truth == a) & (answer == b)).sum() for b in range(classes)] for a in range(classes)])


def reference_iou(counts: np.ndarray) -> list[float | None]:
    unions = [counts[a].sum() + counts[:, a].sum() - counts[a, a] for a in range(len(counts))]
    return [counts[a, a] / union if union else None for a, union in enumerate(unions)]


@pytest.mark.parametrize(("seed", "classes"), [(0, 3), (1, 12), (2, 40)])
@pytest.mark.parametrize("at_once", [metrics.AT_ONCE, 100])
def test_a_plain_reference_gives_the_same_exactly(seed, classes, at_once, monkeypatch):
    monkeypatch.setattr(metrics, "AT_ONCE", at_once)
    truths, answers = random_pictures(seed, 17, classes)
    labels = LabelMap(tuple(f"c{number}" for number in range(classes)))
    got = measured(truths, answers, labels)
    each = [counted(*pair, classes) for pair in zip(truths, answers)]
    counts = sum(each)
    assert got["confusion"] == counts.tolist()
    ious = reference_iou(counts)
    assert [row["IoU"] for row in got["per_class"].values()] == ious
    assert ious[-1] is None
    assert got["mIoU"] == np.mean([iou for iou in ious if iou is not None])
    assert got["pixel_accuracy"] == np.trace(counts) / counts.sum()
    there = [label for label in range(classes) if counts[label].sum()]
    assert got["mean_accuracy"] == np.mean([counts[a, a] / counts[a].sum() for a in there])
    dice = [2 * counts[a, a] / (counts[a].sum() + counts[:, a].sum()) for a, iou in enumerate(ious) if iou is not None]
    assert got["mean_dice"] == np.mean(dice)
    assert [row["pixels"] for row in got["per_class"].values()] == counts.sum(axis=1).tolist()
    sharp = np.array([boundary_f1(*pair, classes) for pair in zip(truths, answers)])[:, :-1]
    np.testing.assert_allclose(
        [row["boundary_f1"] for row in got["per_class"].values()][:-1], np.nanmean(sharp, axis=0), rtol=1e-14
    )
    assert got["boundary_f1"] == pytest.approx(np.nanmean(sharp, axis=0).mean(), abs=1e-14)
    means = [np.mean([iou for iou in reference_iou(one) if iou is not None]) if one.any() else None for one in each]
    worst_first = sorted((place for place, mean in enumerate(means) if mean is not None), key=lambda n: means[n])
    assert [(row["index"], row["mIoU"]) for row in got["mistakes"]] == [
        (place, means[place]) for place in worst_first if means[place] < 1
    ]
    assert [row["mIoU"] for row in got["best"]] == [means[place] for place in worst_first[::-1][:8]]


def test_the_worst_class_is_of_equal_ones_that_with_the_most_pixels():
    got = measured([mask([0, 0, 0, 1, 2, 2])], [mask([0, 0, 0, 0, 0, 0])])
    assert got["mistakes"][0]["worst"] == "car"


def test_batches_of_any_size_and_in_any_order_give_the_same():
    truths, answers = random_pictures(5, 9, 6)
    labels = LabelMap(tuple("abcdef"))
    one, four = (measure(batches(answers, size), split_of(*truths), labels) for size in (1, 4))
    assert one == four
    turned = measure(reversed(list(batches(answers, 4))), split_of(*truths), labels)
    assert {**turned, "boundary_f1": 0, "per_class": 0, "best": 0, "mistakes": 0} == {
        **one, "boundary_f1": 0, "per_class": 0, "best": 0, "mistakes": 0
    }  # fmt: skip


def test_a_picture_that_could_not_be_read_is_counted_as_such():
    truths = [mask([0, 1]), mask([0, 1]), mask([1, 1])]
    got = measure(batches(truths, weights=[1, 0, 1]), split_of(*truths), LABELS)
    assert (got["images"], got["unreadable"], got["confusion"]) == (2, 1, [[1, 0, 0], [0, 3, 0], [0, 0, 0]])
    with pytest.raises(DataError, match="no picture of the split could be read"):
        measure(batches(truths, weights=[0, 0, 0]), split_of(*truths), LABELS)


def test_a_picture_of_void_alone():
    void = np.full((2, 2), IGNORE, np.uint8)
    got = measured([void, mask([0, 1])], [np.zeros((2, 2), np.uint8), mask([0, 1])])
    assert (got["images"], got["mIoU"], got["mistakes"], len(got["best"])) == (2, 1.0, [], 1)
    with pytest.raises(DataError, match="every pixel of the 1 masks is void"):
        measured([void], [np.zeros((2, 2), np.uint8)])


def test_an_answer_of_another_size_names_the_file_and_both_sizes():
    with pytest.raises(DataError, match=r"^1\.jpg: the answer's mask is 3 x 1 pixels, the true one 1 x 3; expected"):
        measured([mask([0, 1]), mask([0], [1], [0])], [mask([0, 1]), mask([0, 1, 0])])


def test_an_id_without_a_class_names_the_file():
    with pytest.raises(DataError, match=r"^0\.jpg: the answer's mask holds the id 3, but the 3 classes"):
        measured([mask([0, 1])], [mask([0, 3])])
    with pytest.raises(DataError, match=r"^0\.jpg: the true mask holds the id 200, but the 3 classes"):
        measured([mask([0, 200])], [mask([0, 0])])
    assert measured([mask([0, IGNORE])], [mask([0, 7])])["mIoU"] == 1.0  # in void nobody asks


def test_a_split_without_masks_is_refused_in_words():
    split = Split("val", ("0.jpg",), encoded=(b"",))
    with pytest.raises(DataError, match="'val' has no masks"):
        measure(batches([mask([0])]), split, LABELS)


def test_255_classes():
    ids = np.arange(255, dtype=np.uint8).reshape(15, 17)
    labels = LabelMap(tuple(str(number) for number in range(255)))
    got = measured([ids], [ids], labels)
    assert (got["mIoU"], got["boundary_f1"], got["per_class"]["254"]["pixels"]) == (1.0, 1.0, 1)


def test_one_picture_at_a_time_is_in_memory():
    """Of 30 pictures of a megapixel each the peak is that of a few bytes for each pixel of one."""
    truth = np.zeros((1000, 1000), np.uint8)
    truth[300:, 200:] = 1
    encoded = grey_png(truth)
    split = split_of(truth)
    split = Split("val", split.ids * 30, encoded=(b"",) * 30, masks=split.masks.subset([0] * 30))

    def pairs():
        for index in range(30):
            yield {"mask_png_bytes": np.array([encoded], object)}, {"index": np.array([index]), "weight": np.ones(1)}

    tracemalloc.start()
    measure(pairs(), split, LABELS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_an_answer_as_tensorflow_writes_it_is_read_the_same():
    import tensorflow as tf

    ids = np.random.default_rng(0).integers(0, 255, (31, 17, 1)).astype(np.uint8)
    encoded = tf.io.encode_png(ids, compression=1).numpy()
    np.testing.assert_array_equal(read_grey(encoded), ids[..., 0])
    assert Image.open(io.BytesIO(encoded)).mode == "L"
