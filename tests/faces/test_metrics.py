"""What is measured of an embedding: a small case by hand, larger ones by plain NumPy and scikit-learn."""

import json

import numpy as np
import pytest

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.data.readers.face_pairs import make_pairs
from resnet_tasks.errors import DataError
from resnet_tasks.faces import metrics
from resnet_tasks.faces.metrics import measure

LABELS = LabelMap(("anna", "boris"))


def split_of(known, pairs=None) -> Split:
    labels = np.asarray(known, np.int32)
    files = tuple(f"{label}/{place}.png" for place, label in enumerate(labels))
    listed = None if pairs is None else np.array(pairs, np.int32)
    return Split("test", files, encoded=(b"",) * len(labels), annotations={"label": labels}, pairs=listed)


def batches(embeddings: np.ndarray, size: int = 7, broken=()):
    """As evaluation hands them over: the last batch padded, the broken pictures' rows of zeros."""
    embeddings = np.array(embeddings, np.float32)
    weight = np.ones(len(embeddings), np.float32)
    embeddings[list(broken)] = 0
    weight[list(broken)] = 0
    for start in range(0, len(embeddings), size):
        rows = slice(start, start + size)
        part, index = embeddings[rows], np.arange(len(embeddings))[rows]
        fill = size - len(part)
        yield (
            {"embedding": np.pad(part, ((0, fill), (0, 0)))},
            {"index": np.pad(index, (0, fill), constant_values=-1), "weight": np.pad(weight[rows], (0, fill))},
        )


def drawn(identities: int = 12, each: int = 8, width: int = 16, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around their identity's own, and the identities, which begin at 2: the model knows none of them."""
    draw = np.random.default_rng(0)
    known = np.repeat(np.arange(identities) + 2, each)
    around = draw.standard_normal((identities, width))[known - 2]
    rows = around + noise * draw.standard_normal(around.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), known


@pytest.fixture(scope="module")
def measured() -> dict:
    embeddings, known = drawn()
    return measure(batches(embeddings), split_of(known, make_pairs(known, 5)), LABELS, 0.01)


def by_angle(*degrees: float) -> np.ndarray:
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def test_four_pictures_by_hand():
    # Of one at 0 and 60 degrees, of another at 30 and 170.
    embeddings, known = by_angle(0, 60, 30, 170), [4, 4, 9, 9]
    pairs = [[0, 1, 1, 0], [0, 3, 0, 0], [2, 3, 1, 1], [1, 3, 0, 1]]
    found = measure(batches(embeddings, 3), split_of(known, pairs), LABELS, 1e-3)
    cosine = {angle: np.cos(np.radians(angle)) for angle in (30, 60, 110, 140, 170)}
    # The first fold: 60 degrees the same, 170 not; the second: 140 the same, 110 not.  On the second alone it is best
    # to accept none or all, and the stricter is taken, under which the first is right.  On the first alone it is the
    # middle of 60 and 170, under which of the second 110 is right.
    first, second = (1 + cosine[110]) / 2, (cosine[60] + cosine[170]) / 2
    accuracies = [
        np.mean([cosine[60] >= first, cosine[170] < first]),
        np.mean([cosine[140] >= second, cosine[110] < second]),
    ]
    assert accuracies == [1.0, 0.5]
    assert found["threshold"] == pytest.approx((first + second) / 2, abs=1e-6)
    assert found["accuracy"] == 0.75 and found["accuracy_std"] == 0.25
    # Every two: the same 60 and 140 degrees; different 30, 30, 110, 170.  60 wins two, 140 one, of eight.
    assert found["auc"] == pytest.approx(3 / 8)
    # FAR 0, 2/4, 2/4, 3/4, 3/4, 1 over TAR 0, 0, 1/2, 1/2, 1, 1: at (1/2, 1/2).
    assert found["eer"] == pytest.approx(1 / 2)
    assert found["tar_at_far"] == dict.fromkeys(("0.1", "0.01", "0.001", "0.0001"))
    assert found["far_threshold"] is None and found["far"] == 1e-3
    # 30 degrees lies between the first two, which are 60 apart: each one's nearest is another's; of the last also.
    assert (found["rank1"], found["rank5"]) == (0.0, 1.0)
    counts = {"pairs": 4, "compared": 6, "identities": 2, "images": 4, "unreadable": 0}
    assert {name: found[name] for name in counts} == counts


def test_against_scikit_learn(measured):
    from sklearn.metrics import roc_auc_score, roc_curve

    embeddings, known = drawn()
    first, second = np.triu_indices(len(known), 1)
    similarity, same = np.sum(embeddings[first] * embeddings[second], axis=1), known[first] == known[second]
    assert measured["compared"] == len(same) == 96 * 95 // 2
    assert measured["auc"] == pytest.approx(roc_auc_score(same, similarity), abs=1e-6)
    far, tar, _ = roc_curve(same, similarity, drop_intermediate=False)
    assert measured["eer"] == pytest.approx((far[np.argmin(np.abs(far + tar - 1))]), abs=2e-3)
    assert (~same).sum() == 4224  # so 1e-3 is not supported, and 1e-2 is
    for rate in (0.1, 0.01):
        assert measured["tar_at_far"][f"{rate:g}"] == pytest.approx(tar[far <= rate].max(), abs=1e-9)
    assert measured["tar_at_far"]["0.001"] is None and measured["tar_at_far"]["0.0001"] is None
    accepted = similarity >= measured["far_threshold"]
    assert accepted[~same].sum() == 42
    nearest = np.argsort(-(embeddings @ embeddings.T - 9 * np.eye(len(known))), axis=1)
    for k in (1, 5):
        hits = (known[nearest[:, :k]] == known[:, None]).any(axis=1)
        assert measured[f"rank{k}"] == pytest.approx(hits.mean())
    assert (
        0.8 < measured["auc"] < 0.99 and measured["rank1"] < measured["rank5"] < 1
    )  # the case is neither easy nor chance


def test_the_list_is_judged_fold_by_fold(measured):
    embeddings, known = drawn()
    pairs = make_pairs(known, 5)
    similarity = np.sum(embeddings[pairs[:, 0]].astype(float) * embeddings[pairs[:, 1]], axis=1)
    same, fold, right, chosen = pairs[:, 2] == 1, pairs[:, 3], [], []
    for number in range(10):
        own = fold == number
        accuracy = {t: np.mean((similarity[~own] >= t) == same[~own]) for t in similarity[~own]}
        best = max(accuracy.values())
        below = np.sort(similarity[~own])
        middles = [(t + below[np.searchsorted(below, t) - 1]) / 2 for t, value in accuracy.items() if value == best]
        centre = (min(middles) + max(middles)) / 2
        middle = min(middles, key=lambda t: (round(abs(t - centre), 9), -t))
        chosen.append(middle)
        right.append(np.mean((similarity[own] >= middle) == same[own]))
    assert measured["accuracy"] == pytest.approx(np.mean(right)) and measured["accuracy_std"] == pytest.approx(
        np.std(right)
    )
    assert measured["threshold"] == pytest.approx(np.mean(chosen), abs=1e-6)
    np.testing.assert_array_equal(measured["listed"]["pairs"], pairs)
    np.testing.assert_allclose(measured["listed"]["similarity"], similarity, atol=1e-6)


def test_a_given_list_is_all_there_is():
    embeddings, known = by_angle(0, 60, 30, 170), [4, 4, 9, 9]
    pairs = [[0, 1, 1, 0], [0, 3, 0, 0], [2, 3, 1, 1], [1, 3, 0, 1]]
    found = measure(batches(embeddings), split_of(known, pairs), LABELS, 1e-3, given=True)
    assert found["compared"] == found["pairs"] == 4
    assert found["auc"] == pytest.approx(3 / 4)  # 60 before 110 and 170, 140 before 170
    assert {(row["index"], row["partner"]) for row in found["mistakes"]} == {(0, 1), (0, 3), (2, 3), (1, 3)}


def test_of_many_pictures_those_of_some_identities_are_compared(monkeypatch):
    from sklearn.metrics import roc_auc_score

    embeddings, known = drawn()
    pairs = make_pairs(known, 5, 200)
    monkeypatch.setattr(metrics, "MOST_PICTURES", 40)
    monkeypatch.setattr(metrics, "FEWEST_EACH", 4)
    rows = metrics._some(np.asarray(known))
    kept = np.asarray(known)[rows]
    assert len(rows) == 40 == len(set(rows)) and (np.diff(rows) > 0).all()
    each = max(4, 40 // len(set(known)))
    identities, counts = np.unique(kept, return_counts=True)
    whole = [min(each, list(known).count(label)) for label in identities]
    assert counts.max() <= each and (counts < whole).sum() <= 1, "whole identities, but for the last"
    found = measure(batches(embeddings), split_of(known, pairs), LABELS, 0.1)
    assert found["pairs"] == 200 and found["compared"] == 40 * 39 // 2
    similarity = embeddings[rows] @ embeddings[rows].T
    first, second = np.triu_indices(40, 1)
    assert found["auc"] == pytest.approx(roc_auc_score(kept[first] == kept[second], similarity[first, second]))
    assert {row["index"] for row in found["mistakes"]} <= set(rows.tolist())


def test_few_identities_of_many_pictures_are_all_compared():
    rows = metrics._some(np.repeat([7, 3], 9000))
    assert np.array_equal(rows, [*range(2500), *range(9000, 11500)])


def test_without_a_list_one_is_made():
    embeddings, known = drawn()
    found = measure(batches(embeddings), split_of(known), LABELS, 0.1)
    np.testing.assert_array_equal(found["listed"]["pairs"], make_pairs(known, 0))


def test_what_could_not_be_read_counts_nowhere():
    embeddings, known = drawn()
    pairs = make_pairs(known, 5)
    broken = [0, 50, 95]
    found = measure(batches(embeddings, broken=broken), split_of(known, pairs), LABELS, 0.01)
    left = np.setdiff1d(np.arange(96), broken)
    new = np.full(96, -1)
    new[left] = np.arange(93)
    kept = pairs[~np.isin(pairs[:, :2], broken).any(axis=1)]
    alone = measure(
        batches(embeddings[left]), split_of(known[left], np.column_stack([new[kept[:, :2]], kept[:, 2:]])), LABELS, 0.01
    )
    assert (found["images"], found["unreadable"], found["pairs"]) == (93, 3, len(kept))
    for name in metrics_of(found) - {"unreadable"}:
        assert found[name] == alone[name], name
    np.testing.assert_array_equal(np.isnan(found["listed"]["similarity"]), np.isin(pairs[:, :2], broken).any(axis=1))
    renamed = [{**row, "index": left[row["index"]], "partner": left[row["partner"]]} for row in alone["mistakes"]]
    assert found["mistakes"] == renamed
    assert [row["index"] for row in found["map"]] == [left[row["index"]] for row in alone["map"]]


def metrics_of(found: dict) -> set[str]:
    return set(found) - set(metrics.DETAILS)


def test_metrics_json(measured):
    kept = {name: measured[name] for name in metrics_of(measured)}
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert next(iter(measured)) == "accuracy"
    assert set(metrics.DETAILS) < set(measured)
    asked = {"accuracy", "accuracy_std", "auc", "eer", "tar_at_far", "rank1", "rank5", "threshold", "far_threshold"}
    assert asked | {"pairs", "compared", "identities", "images", "unreadable", "far"} == set(kept)


def test_pictures_are_found_in_a_gallery():
    embeddings, known = drawn(noise=1.2)
    probes, gallery = np.arange(96) % 2 == 0, np.arange(96) % 2 == 1
    held = (embeddings[gallery], known[gallery])
    found = measure(batches(embeddings[probes]), split_of(known[probes]), LABELS, 0.1, held)
    order = np.argsort(-(embeddings[probes] @ embeddings[gallery].T), axis=1)
    for k in (1, 5):
        hits = (known[gallery][order[:, :k]] == known[probes][:, None]).any(axis=1)
        assert found[f"rank{k}"] == pytest.approx(hits.mean())
    nobody = (embeddings[gallery], known[gallery] + 100)
    found = measure(batches(embeddings[probes]), split_of(known[probes]), LABELS, 0.1, nobody)
    assert found["rank1"] is None and found["rank5"] is None


def test_one_fold_has_no_accuracy():
    embeddings = by_angle(0, 10, 90, 100)
    pairs = [[0, 1, 1, 4], [2, 3, 1, 4], [0, 2, 0, 4], [1, 3, 0, 4]]
    found = measure(batches(embeddings), split_of([0, 0, 1, 1], pairs), LABELS, 0.1)
    assert found["accuracy"] is None and found["accuracy_std"] is None
    assert found["threshold"] == pytest.approx(np.cos(np.radians(10)) / 2, abs=1e-6)
    assert (found["auc"], found["eer"], found["rank1"]) == (1.0, 0.0, 1.0)


def test_the_hardest_pairs(measured):
    embeddings, known = drawn()
    first, second = np.triu_indices(96, 1)
    similarity, same = np.sum(embeddings[first] * embeddings[second], axis=1), known[first] == known[second]
    rows, threshold = measured["mistakes"], measured["threshold"]
    assert len(rows) == 24
    for kind, sign in ((True, 1), (False, -1)):
        found = sorted(sign * row["similarity"] for row in rows if row["same"] is kind)
        np.testing.assert_allclose(found, np.sort(sign * similarity[same == kind])[:12], atol=1e-6)
    for row in rows:
        assert row["similarity"] == pytest.approx(embeddings[row["index"]] @ embeddings[row["partner"]], abs=1e-6)
        assert row["same"] == (known[row["index"]] == known[row["partner"]])
        assert row["answer"] == (row["similarity"] >= threshold)
    wrong = [(threshold - row["similarity"]) * (1 if row["same"] else -1) for row in rows]
    assert wrong == sorted(wrong, reverse=True) and wrong[0] > 0


def test_the_curve_and_the_scores(measured):
    embeddings, known = drawn()
    first, second = np.triu_indices(96, 1)
    similarity, same = np.sum(embeddings[first] * embeddings[second], axis=1), known[first] == known[second]
    curve = measured["roc"]
    assert curve["far"][0] == curve["tar"][0] == 0 and curve["far"][-1] == curve["tar"][-1] == 1
    assert (np.diff(curve["far"]) >= 0).all() and (np.diff(curve["tar"]) >= 0).all() and curve["different"] == 4224
    for far, tar in zip(curve["far"][1:], curve["tar"][1:]):  # each is a cut: so many are accepted together
        falling = np.sort(similarity)[::-1][: round(far * 4224) + round(tar * 336)]
        assert (similarity[same] >= falling[-1] - 1e-7).mean() == pytest.approx(tar)
    # So fine that the area is nearly that of the whole.
    assert np.trapezoid(curve["tar"], curve["far"]) == pytest.approx(measured["auc"], abs=2e-3)
    accepted = similarity >= measured["threshold"]
    assert curve["at_threshold"] == [accepted[~same].mean(), accepted[same].mean()]
    scores = measured["scores"]
    assert (sum(scores["same"]), sum(scores["different"]), len(scores["edges"])) == (336, 4224, 51)
    assert scores["same"][-1] == np.sum(similarity[same] >= scores["edges"][-2])


def test_the_map_is_scikit_learns_plane():
    from sklearn.decomposition import PCA

    embeddings, known = drawn(identities=30, each=30)
    known[known == 4] = 5  # an identity of 60
    found = measure(batches(embeddings, 100), split_of(known), LABELS, 0.1)["map"]
    places = [row["index"] for row in found]
    assert len({row["label"] for row in found}) == 20 and len(found) == 500
    assert all(row["label"] == known[row["index"]] for row in found)
    plane = PCA(2).fit_transform(embeddings[places])
    at = np.array([[row["x"], row["y"]] for row in found])
    for axis in (0, 1):
        turned = np.sign(at[:, axis] @ plane[:, axis])
        np.testing.assert_allclose(at[:, axis], turned * plane[:, axis], atol=1e-4)


def test_what_cannot_be_measured():
    embeddings, known = drawn()
    with pytest.raises(DataError, match="no picture"):
        measure(batches(embeddings, broken=range(96)), split_of(known), LABELS, 0.1)
    with pytest.raises(DataError, match="'test' has 0 pairs of the same identity"):
        measure(batches(embeddings), split_of(np.arange(96)), LABELS, 0.1)
    with pytest.raises(DataError, match="0 of different"):
        measure(batches(embeddings), split_of(known, [[0, 1, 1, 0], [1, 2, 1, 1]]), LABELS, 0.1)
    embeddings[17, 3] = np.nan
    with pytest.raises(DataError, match=r"4/17\.png.*not finite"):
        measure(batches(embeddings), split_of(known), LABELS, 0.1)


def test_of_many_pictures_those_with_another_of_theirs_are_compared_first(monkeypatch):
    monkeypatch.setattr(metrics, "MOST_PICTURES", 6)
    known = np.array([*range(30), 7, 21])
    rows = metrics._some(known)
    assert len(rows) == 6 and {7, 21, 30, 31} <= set(rows.tolist())
