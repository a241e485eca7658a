"""Who learns what: matching, alignment and lots, by hand and against slow references."""

import keras
import numpy as np
import pytest
from detector_references import aligned, drawn, lots, matched
from keras import ops
from other_process import computed
from tiny_detectors import compiled

from resnet_tasks.detection.assign import Match, align, draw, lottery, match

TORCH = """
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou
table = box_iou(torch.from_numpy(given["boxes"]), torch.from_numpy(given["candidates"]))
answer["index"] = Matcher(0.5, 0.4, allow_low_quality_matches=True)(table).numpy()
"""


def number(tensor) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


def numbers(tensors) -> list[np.ndarray]:
    return [number(tensor) for tensor in tensors]


def matching(candidates, boxes, labels, **rules) -> list[np.ndarray]:
    return numbers(compiled(lambda *truth: match(*truth, **rules))(candidates, boxes, labels))


def row(*labels: int) -> np.ndarray:
    return np.int32([labels])


def random_boxes(random, *shape: int, span=60.0, sides=(5.0, 40.0)) -> np.ndarray:
    corner = random.uniform(0, span, (*shape, 2))
    return np.concatenate([corner, corner + random.uniform(*sides, (*shape, 2))], axis=-1).astype(np.float32)


# Overlaps with the box (0, 0, 8, 2) of area 16: all of it, 1/2, 3/8, 1/4, 1/8, none.
STRIPES = np.float32([[0, 0, 8, 2], [0, 0, 4, 2], [0, 0, 3, 2], [0, 0, 2, 2], [0, 0, 1, 2], [0, 2, 8, 4]])


@pytest.mark.any_backend
def test_match_by_hand_a_threshold_belongs_to_the_side_above_it():
    box = np.float32([[[0, 0, 8, 2]]])
    found = matching(STRIPES, box, row(3), foreground=0.5, background=0.25, every_box=False)
    np.testing.assert_array_equal(found[1], [[1, 1, 0, 0, 0, 0]])  # 1/2 is positive
    np.testing.assert_array_equal(found[2], [[0, 0, 0, 0, 1, 1]])  # 1/4 is left out, as 3/8 is


@pytest.mark.any_backend
def test_every_box_gets_the_closest_candidates_all_of_them():
    # A quarter each, from both sides; and one that no candidate touches.
    boxes = np.float32([[[0, 0, 8, 2], [90, 90, 99, 99]]])
    candidates = np.float32([[0, 0, 2, 2], [6, 0, 8, 2], [0, 0, 1, 2], [50, 50, 60, 60]])
    rules = {"foreground": 0.5, "background": 0.4}
    _, positive, negative = matching(candidates, boxes, row(0, 1), **rules, every_box=True)
    np.testing.assert_array_equal(positive, [[1, 1, 0, 0]])
    np.testing.assert_array_equal(negative, [[0, 0, 1, 1]])
    _, positive, negative = matching(candidates, boxes, row(0, 1), **rules, every_box=False)
    assert not positive.any() and negative.all()


@pytest.mark.any_backend
def test_padding_is_no_box_wherever_it_lies():
    """Not even where its numbers are those of a candidate."""
    boxes = np.float32([[[0, 0, 4, 2], [0, 0, 8, 2]], [[0, 0, 8, 2], [0, 2, 8, 4]], [[0, 0, 8, 2], [0, 0, 8, 2]]])
    labels = np.int32([[-1, 2], [0, -1], [-1, -1]])
    index, positive, negative = matching(STRIPES, boxes, labels, foreground=0.5, background=0.4, every_box=True)
    expected = [[1, 1, 0, 0, 0, 0]] * 2 + [[0] * 6]
    np.testing.assert_array_equal(positive, expected)
    np.testing.assert_array_equal(negative, [[0, 0, 1, 1, 1, 1]] * 2 + [[1] * 6])
    assert (index[0, :5] == 1).all() and (index[1, :5] == 0).all()


@pytest.mark.any_backend
def test_of_equal_boxes_the_first_is_learnt():
    boxes = np.float32([[[0, 0, 4, 2], [0, 0, 8, 2], [0, 0, 8, 2]]])
    index, *_ = matching(STRIPES, boxes, row(0, 1, 2), foreground=0.5, background=0.4, every_box=True)
    assert index[0, 0] == 1 and index[0, 1] == 0


@pytest.mark.any_backend
@pytest.mark.parametrize("every_box", [False, True])
def test_match_against_a_reference(every_box):
    """Boxes of all sizes, padding at any place, a picture without boxes, candidates of each picture's own too."""
    random = np.random.default_rng(0)
    candidates, boxes = random_boxes(random, 4, 80, span=25), random_boxes(random, 4, 6, span=25)
    boxes[0, 0] = [200, 200, 210, 210]  # out of everyone's reach
    boxes[1, 2] = boxes[1, 4]
    labels = np.where(random.uniform(size=(4, 6)) < 0.3, -1, random.integers(0, 3, (4, 6))).astype(np.int32)
    labels[0, 0], labels[3] = 0, -1
    rules = {"foreground": 0.5, "background": 0.3, "every_box": every_box}
    seen = np.zeros(3, int)
    for given in (candidates, candidates[0]):
        found = matching(given, boxes, labels, **rules)
        for picture in range(4):
            own = given[picture] if given.ndim == 3 else given
            index, positive, negative = matched(own, boxes[picture], labels[picture], *rules.values())
            np.testing.assert_array_equal(found[1][picture], positive)
            np.testing.assert_array_equal(found[2][picture], negative)
            near = positive | ~negative
            np.testing.assert_array_equal(found[0][picture][near], index[near])
            seen += [positive.sum(), negative.sum(), (~positive & ~negative).sum()]
    assert (seen > 20).all(), "all three kinds appear"


@pytest.mark.peers
def test_match_is_torchvisions():
    random = np.random.default_rng(1)
    candidates, boxes = random_boxes(random, 300), random_boxes(random, 1, 7)
    theirs = computed(TORCH, {"candidates": candidates, "boxes": boxes[0]})["index"]
    labels = np.zeros((1, 7), np.int32)
    index, positive, negative = matching(candidates, boxes, labels, foreground=0.5, background=0.4, every_box=True)
    ours = np.where(positive, index, np.where(negative, -1, -2))[0]
    np.testing.assert_array_equal(ours, theirs)
    assert {-2, -1} < set(theirs)


POINTS = np.stack(np.meshgrid(np.arange(4, 64, 8), np.arange(4, 64, 8)), axis=-1).reshape(-1, 2).astype(np.float32)
REACH = np.full(64, 8, np.float32)


def test_align_by_hand():
    """Two points in a box; the one whose score is a quarter, and its root a half, predicts it exactly.

    The other overlaps 1/2: its fit is (1/2)^6 against 1/2, a share of 1/32 of the largest overlap, 1.
    """
    box = np.float32([[[0, 0, 16, 8]]])
    points, reach = np.float32([[4, 4], [12, 4], [20, 4]]), np.float32([1, 1, 1])
    predicted = np.float32([[[0, 0, 16, 8], [0, 0, 8, 8], [0, 0, 16, 8]]])  # the third is right, and outside
    scores = np.float32([[[0.9, 0.25], [0.9, 1.0], [0.9, 1.0]]])
    found = align(scores, predicted, points, reach, box, row(1))
    np.testing.assert_array_equal(number(found.index)[0, :2], [0, 0])
    np.testing.assert_allclose(number(found.share), [[1, 1 / 32, 0]], rtol=1e-6)
    # For the other class both scores are 0.9: the first has a fit of 1, the second (1/2)^6.
    np.testing.assert_allclose(
        number(align(scores, predicted, points, reach, box, row(0)).share), [[1, 1 / 64, 0]], rtol=1e-6
    )
    one = align(scores, predicted, points, reach, box, row(1), most=1)
    np.testing.assert_allclose(number(one.share), [[1, 0, 0]], rtol=1e-6)
    steep = align(scores, predicted, points, reach, box, row(1), score_power=1.0, overlap_power=1.0)
    np.testing.assert_allclose(number(steep.share), [[0.5, 1, 0]], rtol=1e-6)  # 1/4 and 1/2; the largest overlap is 1


@pytest.mark.any_backend
@pytest.mark.parametrize("kind", ["scattered", "crowded", "small"])
def test_align_against_a_reference(kind):
    random = np.random.default_rng({"scattered": 2, "crowded": 3, "small": 4}[kind])
    boxes = random_boxes(random, 3, 6, span=30)
    if kind == "crowded":  # shifted by little: points that several ask for
        boxes = np.float32([10, 10, 45, 40]) + random.uniform(0, 8, (3, 6, 4)).astype(np.float32)
    elif kind == "small":  # one to three pixels, between the points, too near the border for any, over one
        corners = random.uniform(0, 60, (3, 6, 2)) // 8 * 8 + 6.5
        boxes = np.concatenate([corners, corners + random.uniform(1, 3, (3, 6, 2))], axis=-1).astype(np.float32)
    labels = random.integers(0, 4, (3, 6)).astype(np.int32)
    labels[0, 4:], labels[1, 1], labels[2, 5] = -1, -1, -1
    scores = random.uniform(0, 1, (3, 64, 4)).astype(np.float32)
    around = np.concatenate([POINTS - 12, POINTS + 12], axis=-1)
    predicted = (around + random.uniform(-10, 10, (3, 64, 4))).astype(np.float32)
    index, share = numbers(compiled(align)(scores, predicted, POINTS, REACH, boxes, labels))
    shared = 0
    for picture in range(3):
        arguments = scores[picture], np.float64(predicted[picture]), POINTS, REACH, boxes[picture], labels[picture]
        own, expected = aligned(*arguments)
        np.testing.assert_allclose(share[picture], expected, rtol=2e-4, atol=1e-7)
        np.testing.assert_array_equal(index[picture][expected > 0], own[expected > 0])
        for place in np.flatnonzero(labels[picture] >= 0):
            alone, weights = aligned(*arguments[:4], boxes[picture][[place]], labels[picture][[place]])
            assert (alone == 0).sum() <= 10 and weights.max() > 0, "each has some, alone"
            shared += (alone == 0).sum()
        shared -= (own >= 0).sum()
    assert shared > 30 if kind == "crowded" else shared < 60, "in a crowd they ask for the same points"


@pytest.mark.any_backend
def test_align_without_boxes_is_background():
    scores, predicted = np.ones((2, 64, 4), np.float32), np.tile(np.float32([0, 0, 64, 64]), (2, 64, 1))
    boxes = np.float32([[[0, 0, 64, 64]], [[0, 0, 64, 64]]])
    _, share = numbers(compiled(align)(scores, predicted, POINTS, REACH, boxes, np.int32([[-1], [1]])))
    assert (share[0] == 0).all() and share[1].max() == 1


def test_what_predicts_nothing_learns_nothing():
    """Predictions that miss the box wholly have no fit; nothing is divided by 0."""
    scores, predicted = np.ones((1, 64, 4), np.float32), np.tile(np.float32([90, 90, 99, 99]), (1, 64, 1))
    _, share = numbers(align(scores, predicted, POINTS, REACH, np.float32([[[8, 8, 24, 24]]]), row(0)))
    assert (share == 0).all()


def random_match(random, count: int, positive: float, negative: float) -> Match:
    kind = random.choice(3, (5, count), p=[positive, negative, 1 - positive - negative])
    return Match(np.zeros((5, count), np.int32), kind == 0, kind == 1)


KEYS = np.int32([[0, 0], [1, 0], [0, 1], [-1, 2**31 - 1], [-(2**31), 123456789]])


@pytest.mark.any_backend
def test_the_lottery_is_the_same_everywhere():
    """Against whole numbers in Python, and the first of them as they are: a change here changes every training."""
    found = number(compiled(lambda key: lottery(key, 300, 1))(KEYS))
    for picture, key in enumerate(KEYS):
        np.testing.assert_array_equal(found[picture], lots(key, 300, 1))
    expected = [[13780696, 3511117], [7654236, 6807451]]
    np.testing.assert_array_equal(np.int64(found[3:, :2] * 2**24), expected)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("positive", "negative"), [(0.3, 0.5), (0.02, 0.5), (0.6, 0.02), (0.0, 0.9), (0.0, 0.0)],
    ids=["plenty", "few positive", "few negative", "background", "none"],
)  # fmt: skip
def test_draw_against_a_reference(positive, negative):
    """Of 20 at most 5 positive; what they leave goes to the negative ones."""
    given = random_match(np.random.default_rng(5), 200, positive, negative)
    rules = {"total": 20, "positive_share": 0.25, "salt": 2}
    found = numbers(compiled(lambda given, key: draw(Match(*given), key, **rules))(tuple(given), KEYS))
    for picture, key in enumerate(KEYS):
        expected = drawn(given.positive[picture], given.negative[picture], lots(key, 200, 2), 20, 0.25)
        for chosen, places in zip(found, expected):
            np.testing.assert_array_equal(np.flatnonzero(chosen[picture]), places)
        wanted = min(5, given.positive[picture].sum())
        assert found[0][picture].sum() == wanted
        assert found[1][picture].sum() == min(20 - wanted, given.negative[picture].sum())


def test_a_pictures_lots_depend_on_nothing_but_its_key():
    given = random_match(np.random.default_rng(6), 100, 0.3, 0.6)
    rules = {"total": 16, "positive_share": 0.5, "salt": 1}
    together = numbers(draw(given, KEYS, **rules))
    for picture in range(5):
        one = slice(picture, picture + 1)
        alone = numbers(draw(Match(*(part[one] for part in given)), KEYS[one], **rules))
        np.testing.assert_array_equal(alone, [part[one] for part in together])
    others = Match(given.index, ~given.positive, given.negative)
    mixed = Match(*(np.concatenate([a[:1], b[1:]]) for a, b in zip(given, others)))
    np.testing.assert_array_equal([part[0] for part in numbers(draw(mixed, KEYS, **rules))], [p[0] for p in together])
    # The same candidates under another key, and another salt, are drawn otherwise.
    same = Match(*(np.repeat(part[:1], 5, axis=0) for part in given))
    chosen = numbers(draw(same, KEYS, **rules))[0]
    assert len({row.tobytes() for row in chosen}) == 5
    assert (numbers(draw(same, KEYS, **{**rules, "salt": 2}))[0] != chosen).any(axis=1).all()
    # And whether candidates stand behind them or not.
    longer = Match(*(np.pad(part, [(0, 0), (0, 50)]) for part in given))
    np.testing.assert_array_equal([part[:, :100] for part in numbers(draw(longer, KEYS, **rules))], together)


def test_every_candidate_is_drawn_as_often_as_any_other():
    """1,000 keys that follow one another, 50 candidates, 10 of them drawn: binomial, 200 +- 12.6 times each."""
    keys = np.stack([np.arange(1000), np.zeros(1000)], axis=1).astype(np.int32)
    everyone = Match(np.zeros((1000, 50), np.int32), np.ones((1000, 50), bool), np.zeros((1000, 50), bool))
    chosen = number(draw(everyone, keys, total=20, positive_share=0.5, salt=1)[0])
    assert (chosen.sum(axis=1) == 10).all()
    assert np.abs(chosen.sum(axis=0) - 200).max() < 4 * np.sqrt(1000 * 0.2 * 0.8)
    together = chosen.T.astype(float) @ chosen  # any two in 1000 x 10/50 x 9/49 pictures
    np.fill_diagonal(together, 36.7)
    assert np.abs(together - 36.7).max() < 5 * np.sqrt(36.7)


def test_lots_are_uniform_and_independent_of_place_key_and_salt():
    keys = np.stack([np.zeros(200), np.arange(200)], axis=1).astype(np.int32)
    first, second = (number(lottery(keys, 500, salt)).astype(np.float64) for salt in (1, 2))
    assert first.min() >= 0 and first.max() < 1
    counts = np.histogram(first, 20, (0, 1))[0]  # 5,000 each
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8  # chi-square with 19 degrees of freedom: one in a thousand
    for one, other in ((first[:, 1:], first[:, :-1]), (first[1:], first[:-1]), (first, second)):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(one.size)


def test_lots_are_the_same_compiled():
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow's compiler")
    both = [number(tf.function(lottery, jit_compile=xla)(KEYS, 100, 7)) for xla in (False, True)]
    np.testing.assert_array_equal(*both)
    np.testing.assert_array_equal(both[0], number(lottery(KEYS, 100, 7)))
