"""The measures of a detector: by hand, against pycocotools, and the threshold against trying every one."""

import json

import numpy as np
import pytest

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.detection import average_precision, matching
from resnet_tasks.detection.metrics import DETAILS, measure
from resnet_tasks.errors import DataError

COCO = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
COCO += ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")
LABELS = LabelMap(("cat", "dog"))
CAT, DOG = 0, 1
SQUARE = (0, 0, 10, 10)
CROWD = {"crowd": True}


def split_of(*pictures, image_id=None) -> Split:
    """A split from `(label, box)` or `(label, box, {"crowd", "area"})` for each true box of each picture."""
    most = max(1, *(len(picture) for picture in pictures))
    shape = (len(pictures), most)
    known = {"boxes": np.zeros((*shape, 4)), "labels": np.full(shape, -1, np.int32)}
    known |= {"crowd": np.zeros(shape, bool), "area": np.zeros(shape)}
    for place, picture in enumerate(pictures):
        for slot, (label, box, *more) in enumerate(picture):
            about = {"crowd": False, "area": (box[2] - box[0]) * (box[3] - box[1]), **(more[0] if more else {})}
            for name, value in {"boxes": box, "labels": label, **about}.items():
                known[name][place, slot] = value
    if image_id is not None:
        known["image_id"] = np.array(image_id, np.int64)
    names = tuple(f"{place}.jpg" for place in range(len(pictures)))
    return Split("val", names, encoded=(b"",) * len(names), annotations=known)


def answers_of(*pictures, most: int = 5) -> dict[str, np.ndarray]:
    """Answers from `(label, box, score)` for each found box of each picture, padded as a predictor does."""
    shape = (len(pictures), most)
    answers = {"boxes": np.zeros((*shape, 4), np.float32), "scores": np.zeros(shape, np.float32)}
    answers["label_ids"] = np.full(shape, -1, np.int32)
    for place, picture in enumerate(pictures):
        for slot, (label, box, score) in enumerate(picture):
            answers["label_ids"][place, slot] = label
            answers["boxes"][place, slot], answers["scores"][place, slot] = box, score
    return answers


def batches(answers: dict, batch: int = 16):
    """As evaluation hands them over: the last batch is filled with padding, which is full of boxes."""
    count = len(answers["scores"])
    for start in range(0, count, batch):
        index = np.arange(start, start + batch)
        real = index < count
        shown = {name: value[np.minimum(index, count - 1)] for name, value in answers.items()}
        yield shown, {"index": np.where(real, index, -1), "weight": real.astype(np.float32)}


def measured(split: Split, answers: dict, labels: LabelMap = LABELS) -> dict:
    return measure(batches(answers), split, labels)


def scene(seed: int, pictures=12, classes=3, found=20, steps=None, crowds=0.15) -> tuple[Split, dict, LabelMap]:
    """A split with crowds, areas below the boxes', sparse ids and empty pictures, and a poor detector's answers.

    Args:
        seed: Of the draws, which are RandomState's: those of no other generator are promised to stay.
        pictures: How many.
        classes: How many; the last one never occurs.
        found: The most found boxes of a picture.
        steps: Scores are multiples of 1 / steps, so that many are equal; `None` for any.
        crowds: The share of crowds.
    """
    draw = np.random.RandomState(seed)
    truths, founds = [], []
    for _ in range(pictures):
        truth, many = [], draw.randint(0, 7)
        for _ in range(many):
            x, y, w, h = draw.uniform(0, 300, 2).tolist() + np.exp(draw.uniform(2, 5.5, 2)).tolist()
            about = {"crowd": draw.uniform() < crowds, "area": w * h * draw.uniform(0.3, 1)}
            truth.append((draw.randint(max(1, classes - 1)), (x, y, x + w, y + h), about))
        rows = []
        for _ in range(draw.randint(found + 1) if draw.uniform() < 0.8 else 0):
            label, box, _ = truth[draw.randint(many)] if truth else (0, (5, 5, 60, 60), None)
            moved = np.array(box) + draw.normal(0, 5, 4)
            score = draw.uniform(0.01, 1)
            label = draw.randint(classes) if draw.uniform() < 0.3 else label
            moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
            rows.append((label, tuple(moved), np.ceil(score * steps) / steps if steps else score))
        truths.append(truth)
        founds.append(sorted(rows, key=lambda row: -row[2]))
    labels = LabelMap(tuple(f"c{n}" for n in range(classes)), source_ids=tuple(range(3, 4 * classes, 4)))
    numbers = draw.permutation(10 * pictures)[:pictures]
    return split_of(*truths, image_id=numbers), answers_of(*founds, most=found), labels


def by_pycocotools(split: Split, predictions: list[dict], labels: LabelMap):
    """Its evaluation of the split's own annotations."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    known, annotations = split.annotations, []
    for picture, slot in zip(*np.nonzero(known["labels"] >= 0)):
        x0, y0, x1, y1 = known["boxes"][picture, slot].tolist()
        about = {"id": len(annotations) + 1, "image_id": int(known["image_id"][picture])}
        about |= {"category_id": labels.source_ids[known["labels"][picture, slot]], "bbox": [x0, y0, x1 - x0, y1 - y0]}
        about |= {
            name: known[source][picture, slot].item() for name, source in (("area", "area"), ("iscrowd", "crowd"))
        }
        annotations.append(about)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": number} for number in known["image_id"].tolist()],
        "categories": [{"id": number} for number in labels.source_ids],
        "annotations": annotations,
    }
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(predictions), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def greedily(split: Split, answers: dict, by_class: bool = True) -> list[tuple[float, int, int, int]]:
    """COCO's matching at IoU 0.5 box by box: `(score, picture, label, true label)`; true: -1 false, -2 in a crowd."""
    rows = []
    for picture, labels in enumerate(split.annotations["labels"]):
        true = [(slot, *split.annotations["boxes"][picture, slot]) for slot in np.flatnonzero(labels >= 0)]
        crowd, gone = split.annotations["crowd"][picture], set()
        for slot in np.argsort(-answers["scores"][picture], kind="stable"):
            label, score = int(answers["label_ids"][picture, slot]), float(answers["scores"][picture, slot])
            if label < 0:
                continue
            x0, y0, x1, y1 = answers["boxes"][picture, slot].astype(float)
            best, best_iou, in_crowd = None, 0.5, False
            for other, u0, v0, u1, v1 in true:
                shared = max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))
                own = (x1 - x0) * (y1 - y0)
                if crowd[other]:
                    in_crowd |= labels[other] == label and shared / own >= 0.5
                elif other not in gone and (labels[other] == label or not by_class):
                    iou = shared / (own + (u1 - u0) * (v1 - v0) - shared)
                    if iou >= best_iou:
                        best, best_iou = other, iou
            gone.add(best)
            rows.append((score, picture, label, int(labels[best]) if best is not None else -2 if in_crowd else -1))
    return rows


def best_threshold(split: Split, answers: dict) -> tuple[float, float]:
    """Every score tried as the threshold: the best one, the highest of equal ones, and its F1."""
    rows, known = greedily(split, answers), split.annotations
    boxes = int(np.sum((known["labels"] >= 0) & ~known["crowd"]))
    tried = []
    for threshold in {row[0] for row in rows}:
        kept = [true for score, _, _, true in rows if score >= threshold and true != -2]
        right = sum(true >= 0 for true in kept)
        tried.append((2 * right / (len(kept) + boxes) if kept or boxes else 0.0, threshold))
    f1, threshold = max(tried)
    return threshold, f1


def test_two_boxes_by_hand():
    split = split_of([(CAT, (0, 0, 10, 10)), (DOG, (20, 20, 40, 40))])
    # The dog's is half the dog: right at the overlap of 0.5 alone, of the ten.
    got = measured(split, answers_of([(CAT, (0, 0, 10, 10), 0.9), (DOG, (20, 20, 40, 30), 0.8)]))
    assert got["AP"] == pytest.approx((1 + 0.1) / 2, abs=1e-12)
    assert got["AP50"] == pytest.approx(1.0, abs=1e-12)
    assert got["AP75"] == pytest.approx(0.5, abs=1e-12)
    assert got["AP_small"] == pytest.approx(0.55, abs=1e-12)  # areas 100 and 400, below 32²
    assert [got[name] for name in ("AR1", "AR10", "AR100", "AR_small")] == pytest.approx([0.55] * 4, abs=1e-12)
    assert [got[name] for name in ("AP_medium", "AP_large", "AR_medium", "AR_large")] == [None] * 4
    assert got["threshold"] == float(np.float32(0.8))
    assert got["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert (got["images"], got["unreadable"], got["mistakes"]) == (1, 0, [])
    expected = {"AP": 0.1, "AP50": 1.0, "AR100": 0.1, "precision": 1.0, "recall": 1.0, "f1": 1.0, "boxes": 1}
    assert got["per_class"]["dog"] == pytest.approx(expected, abs=1e-12)
    assert got["curves"]["dog"]["precision"] == pytest.approx([1.0] * 101)


def test_half_of_the_boxes_by_hand():
    split = split_of([(CAT, SQUARE), (CAT, (50, 50, 60, 60))])
    got = measured(split, answers_of([(CAT, SQUARE, 0.9), (CAT, (80, 80, 90, 90), 0.8)]))
    assert got["AP"] == pytest.approx(51 / 101, abs=1e-12)  # a precision of 1 at the recalls 0, 0.01, ..., 0.5
    assert got["AR100"] == pytest.approx(0.5, abs=1e-12)
    assert got["curves"] == {"cat": {"recall": pytest.approx(np.arange(101) / 100), "precision": [1] * 51 + [0] * 50}}
    assert got["threshold"] == float(np.float32(0.9))  # F1 2/3; with the false one 2/4
    row = got["per_class"]["cat"]
    assert (row["precision"], row["recall"], row["f1"]) == (1.0, 0.5, pytest.approx(2 / 3))


def test_the_size_of_a_thing_is_its_area_and_not_its_box():
    split = split_of([(CAT, (0, 0, 100, 100), {"area": 500})])
    got = measured(split, answers_of([(CAT, (0, 0, 100, 100), 0.9)]))
    assert (got["AP_small"], got["AP_large"]) == (pytest.approx(1.0), None)


def test_in_a_crowd_a_box_of_its_class_is_neither_right_nor_wrong():
    crowd, inside = (CAT, (100, 100, 200, 200), CROWD), (120, 120, 140, 140)
    split = split_of([(CAT, SQUARE), crowd])
    one = (CAT, SQUARE, 0.5)
    in_crowd = measured(split, answers_of([(CAT, inside, 0.9), (CAT, inside, 0.8), one]))
    assert in_crowd["AP"] == pytest.approx(1.0)
    assert in_crowd["confusion"] == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert in_crowd["per_class"]["cat"]["precision"] == 1.0
    assert in_crowd["per_class"]["cat"]["boxes"] == 1
    other_class = measured(split, answers_of([(DOG, inside, 0.9), one]))
    assert other_class["confusion"] == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    both = measured(split_of([(CAT, SQUARE), (CAT, (0, 0, 90, 90), CROWD)]), answers_of([one]))
    assert (both["AP"], both["confusion"][CAT][CAT]) == (pytest.approx(1.0), 1)  # a thing before a crowd
    alone = measured(split_of([crowd]), answers_of([(CAT, inside, 0.9)]))
    assert (alone["AP"], alone["AR100"], alone["per_class"]["cat"]["boxes"]) == (None, None, 0)


def test_of_equal_scores_the_picture_of_the_lower_number_comes_first():
    pictures = [], [(CAT, SQUARE)]
    answers = answers_of([(CAT, SQUARE, 0.5)], [(CAT, SQUARE, 0.5)])
    assert measured(split_of(*pictures), answers)["AP"] == pytest.approx(0.5)
    assert measured(split_of(*pictures, image_id=[7, 3]), answers)["AP"] == pytest.approx(1.0)
    assert measured(split_of(*pictures, image_id=[3, 7]), answers)["AP"] == pytest.approx(0.5)


def test_a_perfect_detector():
    split, _, labels = scene(3)
    known = split.annotations
    rows = [
        [(label, box, 0.7) for label, box, crowd in zip(*columns) if label >= 0 and not crowd]
        for columns in zip(*(known[name].tolist() for name in ("labels", "boxes", "crowd")))
    ]
    got = measured(split, answers_of(*rows, most=10), labels)
    assert [got[name] for name in COCO if got[name] is not None and name != "AR1"] == pytest.approx([1.0] * 11)
    assert (got["threshold"], got["mistakes"]) == (float(np.float32(0.7)), [])
    assert np.array_equal(got["confusion"], np.diag(np.diag(got["confusion"])))
    assert [row["f1"] for row in got["per_class"].values()] == [1.0, 1.0, None]


# Of pycocotools 2.0.11, in the order of `COCO`.
FIXED = {
    (20, None): (
        0.122120715494, 0.208079771188, 0.109780501860, 0.077175467547, 0.166504724002, 0.536485148515,
        0.067000000000, 0.276500000000, 0.276500000000, 0.140934065934, 0.350000000000, 0.596666666667,
    ),
    (23, 4): (
        0.071393666934, 0.152359349647, 0.062127441268, 0.067421242124, 0.200719269295, 0.225000000000,
        0.052696078431, 0.276470588235, 0.276470588235, 0.118750000000, 0.337500000000, 0.450000000000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", FIXED, ids=str)
def test_the_numbers_of_pycocotools(which):
    seed, steps = which
    split, answers, labels = scene(seed, steps=steps)
    got = measured(split, answers, labels)
    assert [got[name] for name in COCO] == pytest.approx(FIXED[which], abs=1e-9)


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "changes",
    [{}, {"steps": 3}, {"steps": 10, "classes": 1, "found": 130}, {"classes": 30, "pictures": 40}, {"crowds": 0.6}],
    ids=["plain", "ties", "more_than_100_of_a_class", "many_classes", "crowds"],
)
def test_pycocotools_gives_the_same(seed, changes):
    split, answers, labels = scene(seed, **changes)
    got = measured(split, answers, labels)
    evaluation = by_pycocotools(split, json.loads(json.dumps(list(got["predictions"]))), labels)
    ours = [-1 if got[name] is None else got[name] for name in COCO]
    np.testing.assert_allclose(ours, evaluation.stats, rtol=0, atol=1e-9)
    precision, recall = evaluation.eval["precision"][:, :, :, 0, -1], evaluation.eval["recall"][:, :, 0, -1]
    for label, (name, row) in enumerate(got["per_class"].items()):
        parts = {"AP": precision[:, :, label], "AP50": precision[0, :, label], "AR100": recall[:, label]}
        ours = [-1 if row[part] is None else row[part] for part in parts]
        np.testing.assert_allclose(ours, [part.mean() for part in parts.values()], rtol=0, atol=1e-9)
        if row["boxes"]:
            np.testing.assert_allclose(got["curves"][name]["precision"], precision[0, :, label], rtol=0, atol=1e-9)


def test_areas_measured_apart_are_the_same(monkeypatch):
    split, answers, labels = scene(5)
    whole = measured(split, answers, labels)
    monkeypatch.setattr(average_precision, "MANY", 10)
    assert {name: whole[name] for name in COCO} == {name: measured(split, answers, labels)[name] for name in COCO}


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_is_the_best_of_all_scores(seed):
    split, answers, labels = scene(seed, steps=None if seed % 2 else 8, crowds=0.3)
    got = measured(split, answers, labels)
    threshold, f1 = best_threshold(split, answers)
    assert got["threshold"] == threshold
    swept = got["by_threshold"]
    assert swept["f1"][swept["threshold"].index(threshold)] == f1 == max(swept["f1"])


@pytest.mark.parametrize("seed", range(8))
def test_the_tables_at_the_threshold_are_those_of_matching_box_by_box(seed):
    split, answers, labels = scene(seed, steps=None if seed % 2 else 8)
    got, known = measured(split, answers, labels), split.annotations
    boxes = np.bincount(known["labels"][(known["labels"] >= 0) & ~known["crowd"]], minlength=3)
    kept = [row for row in greedily(split, answers) if row[0] >= got["threshold"] and row[3] != -2]
    for label, row in enumerate(got["per_class"].values()):
        own = [true for _, _, said, true in kept if said == label]
        right = sum(true == label for true in own)
        if boxes[label]:
            assert (row["precision"], row["recall"]) == (right / max(1, len(own)), right / boxes[label])
    # Of any class: a box below the threshold takes nothing from one above it, so the answers can be cut afterwards.
    kept = [row for row in greedily(split, answers, by_class=False) if row[0] >= got["threshold"] and row[3] != -2]
    expected = np.zeros((4, 4), int)
    np.add.at(expected, ([true for *_, true in kept], [said for _, _, said, _ in kept]), 1)
    expected[:3, 3] = boxes - expected[:3].sum(axis=1)
    assert got["confusion"] == expected.tolist()


def test_of_equal_thresholds_the_highest_is_taken():
    far = [(CAT, (50 * n, 50, 50 * n + 10, 60)) for n in range(1, 4)]
    split = split_of([(CAT, SQUARE), far[0]])
    # F1 2·1/(1+2); with two false ones and the other right one 2·2/(4+2).
    answers = [(CAT, SQUARE, 0.9), (*far[1], 0.8), (*far[2], 0.7), (*far[0], 0.6)]
    got = measured(split, answers_of(answers))
    assert got["by_threshold"]["f1"] == pytest.approx([2 / 3, 2 / 4, 2 / 5, 2 / 3])
    assert got["threshold"] == float(np.float32(0.9))


@pytest.mark.parametrize("score", [0.1, 0.3, 0.7000001, 1e-7])
def test_the_score_that_a_threshold_came_from_meets_it_again(score):
    got = measured(split_of([(CAT, SQUARE)]), answers_of([(CAT, SQUARE, score)]))
    written = json.loads(json.dumps(got["threshold"]))
    assert np.float32(score) >= written and float(np.float32(score)) >= written
    assert np.float32(score) >= np.float32(written)
    assert got["per_class"]["cat"]["recall"] == 1.0


def test_confusion_by_hand():
    near, beside, alone = (1, 0, 11, 10), (100, 0, 110, 10), (300, 0, 310, 10)
    split = split_of([], [(DOG, SQUARE)], [(CAT, SQUARE), (DOG, beside)])
    found = (
        [(CAT, alone, 0.75), (DOG, alone, 0.6)],
        [],
        # The second of a thing is a false one, of whatever class; the best of any class has it.
        [(DOG, SQUARE, 0.9), (CAT, near, 0.8), (DOG, beside, 0.7)],
    )
    got = measured(split, answers_of(*found))
    assert got["threshold"] == float(np.float32(0.7))  # cat, dog of four found, three true: 4/7; at 0.8 2/5
    assert got["confusion"] == [[0, 1, 0], [0, 1, 1], [2, 0, 0]]  # what is below the threshold counts nowhere
    rows = [(row["index"], row["truth"], row["answer"]) for row in got["mistakes"]]
    # Costs: picture 0 0.75, picture 1 1, picture 2 1.9 and 0.8; the lesser one of picture 2 comes last.
    assert rows == [(2, CAT, DOG), (1, DOG, None), (0, None, CAT), (2, None, CAT)]
    assert [row["score"] for row in got["mistakes"]] == [pytest.approx(0.9), None, 0.75, pytest.approx(0.8)]
    assert [row["box"] for row in got["mistakes"]] == [list(SQUARE), list(SQUARE), list(alone), list(near)]


def test_a_box_takes_what_it_overlaps_most_and_of_equal_ones_the_last():
    truth = [(CAT, (0, 0, 10, 10)), (CAT, (0, 1, 10, 11)), (CAT, (0, 1, 10, 11))]
    split, answers = split_of(truth), answers_of([(CAT, (0, 1, 10, 11), 0.9 - 0.1 * n) for n in range(4)])
    found, _, _ = _of(answers)
    pairs = matching.overlaps(found, true := _true(split))
    assert sorted(pairs.iou.tolist()) == pytest.approx([9 / 11] * 4 + [1.0] * 8)
    taken, ignored = matching.match(found, true, pairs, by_class=True)
    assert taken.tolist() == [2, 1, 0, -1]
    assert not ignored.any()


def _of(answers):
    from resnet_tasks.detection.metrics import _gathered

    return _gathered(batches(answers))


def _true(split):
    from resnet_tasks.detection.metrics import _truth

    return _truth(split, np.arange(len(split)))


def test_one_answer_per_class_and_ten():
    split = split_of([(CAT, (20 * n, 0, 20 * n + 10, 10)) for n in range(4)])
    found = [(CAT, (20 * n, 0, 20 * n + 10, 10), 0.9 - 0.1 * n) for n in range(4)]
    got = measured(split, answers_of(found))
    assert (got["AR1"], got["AR10"]) == (pytest.approx(0.25), pytest.approx(1.0))


def test_nothing_found():
    got = measured(split_of([(CAT, SQUARE)], [(CAT, SQUARE)]), answers_of([], []))
    assert (got["AP"], got["AR100"], got["threshold"], got["images"]) == (0.0, 0.0, 0.5, 2)
    assert got["per_class"]["cat"] == {
        **dict.fromkeys(("AP", "AP50", "AR100", "precision", "recall", "f1"), 0),
        "boxes": 2,
    }
    assert got["confusion"] == [[0, 0, 2], [0, 0, 0], [0, 0, 0]]
    assert [(row["index"], row["answer"], row["score"]) for row in got["mistakes"]] == [
        (0, None, None),
        (1, None, None),
    ]
    assert (list(got["predictions"]), got["by_threshold"]["threshold"]) == ([], [])


def test_nothing_to_find():
    got = measured(split_of([], []), answers_of([(CAT, SQUARE, 0.9)], [(DOG, SQUARE, 0.4)]))
    assert {got[name] for name in COCO} == {None}
    assert (got["threshold"], got["curves"]) == (0.5, {})
    empty = dict.fromkeys(("AP", "AP50", "AR100", "precision", "recall", "f1"))
    assert got["per_class"] == {name: {**empty, "boxes": 0} for name in LABELS.names}
    assert got["confusion"] == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    got = measured(split_of([], []), answers_of([], []))
    assert ({got[name] for name in COCO}, got["mistakes"], got["images"]) == ({None}, [], 2)


def test_a_class_without_a_box_is_in_no_mean():
    got = measured(split_of([(CAT, SQUARE)]), answers_of([(CAT, SQUARE, 0.9), (DOG, SQUARE, 0.95)]))
    assert (got["AP"], got["per_class"]["dog"]["AP"]) == (pytest.approx(1.0), None)


def test_what_is_no_box_and_what_could_not_be_read():
    split = split_of([(CAT, SQUARE)], [(CAT, SQUARE)], [(DOG, SQUARE)])
    answers = answers_of([(CAT, SQUARE, 0.9)], [(CAT, SQUARE, 0.9)], [(DOG, SQUARE, 0.9)])
    for slot, (label, side, score) in enumerate([(-1, 1, 0.95), (CAT, 1, 0.0), (CAT, np.nan, 0.9), (CAT, 1, np.nan)]):
        answers["label_ids"][:, slot + 1], answers["scores"][:, slot + 1] = label, score
        answers["boxes"][:, slot + 1] = side
    targets = {"index": np.array([0, 2, -1]), "weight": np.array([1.0, 0.0, 1.0], np.float32)}
    first = {name: value[[0, 2, 1]] for name, value in answers.items()}
    got = measure([(first, targets)], split, LABELS)
    assert len(got["predictions"]) == 1
    assert (got["images"], got["unreadable"], got["AP"]) == (1, 1, pytest.approx(1.0))
    assert [row["boxes"] for row in got["per_class"].values()] == [1, 0]  # the other pictures' are not asked for
    with pytest.raises(DataError, match="no picture of the split could be read"):
        measure([(first, {**targets, "weight": np.zeros(3)})], split, LABELS)


def test_the_cut_into_batches_and_their_order_count_for_nothing():
    split, answers, labels = scene(7, pictures=20)
    whole = measured(split, answers, labels)
    for batch in (1, 3, 20):
        got = measure(reversed(list(batches(answers, batch))), split, labels)
        assert list(got.pop("predictions")) == list(whole["predictions"])
        assert got == {name: value for name, value in whole.items() if name != "predictions"}


def test_predictions_hold_the_very_numbers():
    split, answers, labels = scene(8)
    predictions = measured(split, answers, labels)["predictions"]
    read = json.loads(json.dumps(list(predictions)))
    assert read == list(predictions) and len(read) == len(predictions) > 50
    real = answers["label_ids"] >= 0
    assert [row["image_id"] for row in read] == np.repeat(split.annotations["image_id"], real.sum(axis=1)).tolist()
    assert [row["category_id"] for row in read] == [labels.source_ids[label] for label in answers["label_ids"][real]]
    np.testing.assert_array_equal(np.float32([row["score"] for row in read]), answers["scores"][real])
    corners = answers["boxes"][real].astype(np.float64)
    expected = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    assert [row["bbox"] for row in read] == expected.tolist()
    assert (predictions[1], predictions[-1], predictions[2:4]) == (read[1], read[-1], read[2:4])


def test_without_numbers_of_its_own_a_source_has_files_and_contiguous_ids():
    got = measured(split_of([], [(DOG, SQUARE)]), answers_of([], [(DOG, SQUARE, 0.5)]))
    assert list(got["predictions"]) == [
        {"image_id": "1.jpg", "category_id": 1, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.5}
    ]


def test_the_measures_can_be_written_as_json_and_nothing_is_printed(capfd):
    split, answers, labels = scene(1)
    got = measured(split, answers, labels)
    del got["predictions"]
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    assert list(got)[:12] == list(COCO) and set(DETAILS) - set(got) == {"predictions"}
    assert capfd.readouterr() == ("", "")
