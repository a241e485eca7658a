"""Verification against scikit-learn, plain loops, and cases worked out by hand."""

from itertools import pairwise

import numpy as np
import pytest

from resnet_tasks.faces import verification
from resnet_tasks.faces.verification import cuts

# Falling: same, different, same, {same, different} tied, different.
SIMILARITY = np.array([0.5, 0.9, 0.5, 0.7, 0.8, 0.1])
SAME = np.array([True, True, False, True, False, False])


def drawn(pairs: int, seed: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping similarities with many ties, float32 as a network gives them."""
    draw = np.random.default_rng(seed)
    same = draw.random(pairs) < 0.4
    similarity = np.clip(draw.normal(np.where(same, 0.5, 0.1), 0.25), -1, 1)
    return np.round(similarity, decimals).astype(np.float32), same


def on_sphere(pictures: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((pictures, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_cuts_by_hand():
    found = cuts(SIMILARITY, SAME)
    assert found.lowest.tolist() == [0.9, 0.8, 0.7, 0.5, 0.1]
    assert found.same.tolist() == [0, 1, 1, 2, 3, 3]
    assert found.different.tolist() == [0, 0, 1, 1, 2, 3]
    np.testing.assert_allclose(found.threshold(np.arange(6)), [0.95, 0.85, 0.75, 0.6, 0.3, -0.45], rtol=1e-12)
    # AUC: of nine couples 0.9 wins three, 0.7 two, 0.5 one and a half.
    assert verification.area(found) == pytest.approx(6.5 / 9)
    # From (1/3, 2/3), where FAR is 1 - TAR already.
    assert verification.equal_error_rate(found) == pytest.approx(1 / 3)


def test_a_cut_accepts_what_it_says_even_between_neighbouring_floats():
    low = np.float64(0.3)
    values = np.array([low, np.nextafter(low, 1), 1.0, -1.0])
    found = cuts(values, np.array([True, False, True, False]))
    for cut, threshold in enumerate(found.threshold(np.arange(5))):
        assert np.sum(values >= threshold) == cut
    singles = np.array([0.3, np.nextafter(np.float32(0.3), np.float32(1))], np.float32)
    found = cuts(singles, np.array([True, False]))
    assert [int(np.sum(singles >= found.threshold(cut))) for cut in range(3)] == [0, 1, 2]


def test_all_equal_similarities_are_chance():
    found = cuts(np.full(10, 0.25, np.float32), np.arange(10) < 4)
    assert verification.area(found) == 0.5
    assert verification.equal_error_rate(found) == 0.5
    assert verification.best_threshold(found) == (1 + 0.25) / 2  # nothing accepted: six of ten are right


def test_perfect_and_reversed():
    similarity = np.array([0.9, 0.8, 0.2, 0.1])
    right = cuts(similarity, np.array([True, True, False, False]))
    wrong = cuts(similarity, np.array([False, False, True, True]))
    assert (verification.area(right), verification.equal_error_rate(right)) == (1.0, 0.0)
    assert (verification.area(wrong), verification.equal_error_rate(wrong)) == (0.0, 1.0)
    assert verification.best_threshold(right) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_curve_is_scikit_learns(seed):
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import roc_auc_score, roc_curve

    similarity, same = drawn(700, seed, decimals=2 if seed % 2 else 8)
    found = cuts(similarity, same)
    far, tar, lowest = roc_curve(same, similarity, drop_intermediate=False)
    np.testing.assert_allclose(found.far, far, atol=1e-15)
    np.testing.assert_allclose(found.tar, tar, atol=1e-15)
    np.testing.assert_array_equal(found.lowest, lowest[1:])
    assert verification.area(found) == pytest.approx(roc_auc_score(same, similarity), abs=1e-12)
    crossing = brentq(lambda x: 1 - x - interp1d(far, tar)(x), 0, 1, xtol=1e-14)
    assert verification.equal_error_rate(found) == pytest.approx(crossing, abs=1e-9)
    for rate in (0.5, 0.1, 0.03):
        assert verification.tar_at_far(found, rate) == tar[far <= rate].max()
        threshold = verification.threshold_at_far(found, rate)
        accepted = similarity >= threshold
        assert accepted[~same].mean() <= rate and accepted[same].mean() == tar[far <= rate].max()
        lower = similarity >= np.max(similarity[similarity < threshold])  # the next one would be too many
        assert lower[~same].mean() > rate


def test_a_rate_without_ten_false_accepts_is_not_read_off():
    similarity = np.linspace(-0.9, 0.9, 1050)
    same = np.arange(1050) >= 1000
    found = cuts(similarity, same)
    assert verification.tar_at_far(found, 0.01) == 1.0  # 1,000 x 0.01 = 10
    assert verification.threshold_at_far(found, 0.01) == pytest.approx((similarity[990] + similarity[989]) / 2)
    assert verification.tar_at_far(found, 0.0099) is None
    assert verification.threshold_at_far(found, 0.0099) is None
    # 0.1 x 300 is 30.000000000000004 and 0.07 x 300 is 21.000000000000004, 0.29 x 100 is 28.999999999999996.
    hundred = cuts(np.linspace(0, 1, 101), np.arange(101) == 0)
    assert np.sum(np.linspace(0, 1, 101)[1:] >= verification.threshold_at_far(hundred, 0.29)) == 29


def test_the_best_threshold_is_in_the_middle():
    # Five of six are right from 0.75 on and from 0.5 on.  The gaps' middles are 0.625 and 0.375, that of their range is
    # as near to both: the stricter.
    similarity = np.array([0.875, 0.75, 0.5, 0.5, 0.25, 0.125])
    same = np.array([True, True, True, False, False, False])
    assert verification.best_threshold(cuts(similarity, same)) == 0.625
    # Four of six from the first, the third and the fifth on: middles 0.85, 0.4 and 0.05, that of their range is 0.45.
    similarity = np.array([0.9, 0.8, 0.5, 0.3, 0.1, 0.0])
    same = np.array([True, False] * 3)
    right = [np.sum((similarity >= threshold) == same) for threshold in (0.95, 0.85, 0.65, 0.4, 0.2, 0.05, -0.5)]
    assert right == [3, 4, 3, 4, 3, 4, 3]
    assert verification.best_threshold(cuts(similarity, same)) == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(3))
def test_the_folds_are_those_of_plain_loops(seed):
    similarity, same = drawn(120, seed, decimals=1)
    fold = np.random.default_rng(seed).permutation(120) % 10
    accuracies, thresholds = verification.by_folds(similarity, same, fold)
    for number in range(10):
        held = fold == number
        others, truth = similarity[~held].astype(float), same[~held]
        values = sorted({*others.tolist()})
        middles = [(1 + values[-1]) / 2, *((a + b) / 2 for a, b in pairwise(values)), (values[0] - 1) / 2]
        right = {middle: sum((others >= middle) == truth) for middle in middles}
        best = sorted(middle for middle, count in right.items() if count == max(right.values()))
        centre = (best[0] + best[-1]) / 2
        nearest = min(best, key=lambda middle: (round(abs(middle - centre), 12), -middle))
        assert thresholds[number] == pytest.approx(nearest, abs=1e-12)
        answers = similarity[held] >= nearest
        assert accuracies[number] == np.mean(answers == same[held])


def test_a_fold_is_judged_by_the_others_alone():
    # In the second fold all is reversed: what is best on one is all wrong on the other.
    similarity = np.array([0.9, 0.1, 0.9, 0.1])
    same = np.array([True, False, False, True])
    accuracies, thresholds = verification.by_folds(similarity, same, np.array([3, 3, 7, 7]))
    assert thresholds[1] == pytest.approx(0.5) and accuracies[1] == 0.0
    # Of the reversed fold accepting neither and accepting both are best, 0.95 and -0.45; the stricter is taken.
    assert thresholds[0] == pytest.approx(0.95) and accuracies[0] == 0.5


def test_every_two_pictures(monkeypatch):
    monkeypatch.setattr(verification, "AT_ONCE", 40)  # blocks of three rows
    embeddings, labels = on_sphere(13, 5), np.arange(13) % 4
    similarity, same = verification.all_pairs(embeddings, labels)
    first, second = np.triu_indices(13, 1)
    np.testing.assert_allclose(similarity, np.sum(embeddings[first] * embeddings[second], axis=1), atol=1e-6)
    np.testing.assert_array_equal(same, labels[first] == labels[second])
    np.testing.assert_array_equal(verification.pair_at(np.arange(78), 13), (first, second))
    np.testing.assert_allclose(verification.similarities(embeddings, first, second), similarity, atol=1e-6)
    twice = np.repeat(on_sphere(1, 512), 2, axis=0)
    assert verification.all_pairs(twice, np.zeros(2))[0].max() <= 1
    np.testing.assert_array_equal(verification.pair_at(np.array([0]), 2), [[0], [1]])


@pytest.mark.parametrize("at_once", [1 << 24, 60])
def test_ranks_among_the_others(monkeypatch, at_once):
    monkeypatch.setattr(verification, "AT_ONCE", at_once)
    embeddings, labels = on_sphere(30, 6), np.arange(30) // 4  # the last identity has two pictures
    labels[29] = 99  # and now one, as 28
    found, similarity = [], embeddings @ embeddings.T
    for row in range(30):
        order = [other for other in np.argsort(-similarity[row]) if other != row]
        places = [place for place, other in enumerate(order) if labels[other] == labels[row]]
        found += places[:1]
    assert len(found) == 28
    np.testing.assert_array_equal(verification.ranks(embeddings, labels), found)


def test_ranks_in_a_gallery():
    gallery = np.eye(3, dtype=np.float32), np.array([5, 6, 5])
    queries = np.array([[0.0, 0.8, 0.6], [0.6, 0.0, 0.8], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    # A five behind the six; a five before; a six at once; a seven that the gallery has not.
    np.testing.assert_array_equal(verification.ranks(queries, np.array([5, 5, 6, 7]), gallery), [1, 0, 0])


def test_embeddings_that_are_all_equal_identify_nobody():
    embeddings = np.tile(on_sphere(1, 8), (6, 1))
    np.testing.assert_array_equal(verification.ranks(embeddings, np.array([0, 0, 0, 1, 1, 2])), [3, 3, 3, 4, 4])
    assert len(verification.ranks(embeddings, np.arange(6))) == 0


def test_of_too_many_pictures_some_are_ranked(monkeypatch):
    embeddings, labels = on_sphere(40, 4), np.arange(40) % 10
    whole = verification.ranks(embeddings, labels)
    monkeypatch.setattr(verification, "MOST_RANKED", 40 * 14)
    np.testing.assert_array_equal(verification.ranks(embeddings, labels), whole[::3])
