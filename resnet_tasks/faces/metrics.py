"""What is measured of an embedding, from a stream of batches: verification of pairs, identification of pictures."""

from collections.abc import Iterable

import numpy as np

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.errors import DataError
from resnet_tasks.faces import verification

DETAILS = ("roc", "scores", "mistakes", "map", "listed")
FARS = (0.1, 0.01, 0.001, 0.0001)
MOST_PICTURES = 5000  # of more the pairs of all with all are too many to be sorted: 12.5 million
FEWEST_EACH = 50  # pictures of an identity that are looked at, where not all can be
HARDEST = 24
BINS = 50
ON_THE_MAP, IDENTITIES_ON_THE_MAP = 500, 20
CURVE_POINTS = 300


def measure(
    pairs: Iterable[tuple[dict, dict]],
    split: Split,
    labels: LabelMap,
    far: float,
    gallery: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    given: bool = False,
) -> dict:
    """Metrics over all pictures of weight above 0; a pair with one that could not be read is left out.

    A split that has no list of pairs is given one (`face_pairs.make_pairs`, seed 0).

    Args:
        pairs: `(answers, targets)`: `embedding` `(batch, d)` of unit length.  `index` `(batch,)`, the place in the
            split, -1 for padding; `weight` `(batch,)`, 0 for what could not be read.
        split: Holds the identities, `label`, and the list, `pairs`.
        labels: The model's; the split's identities need not be among them.
        far: The false accept rate that `far_threshold` is for.
        gallery: Embeddings `(n, d)` and labels `(n,)` of the pictures that an identity is looked for among; by default
            each picture is looked for among all others of the split.
        given: Whether the list is a protocol's.  Then ROC, AUC, EER, TAR and scores are of its pairs; else of every two
            pictures, of 5,000 at most: of more, some identities, and the same each time.

    Returns:
        Of the list, by LFW's protocol (see `verification.by_folds`): `accuracy`, the mean over the folds, and
        `accuracy_std`, their deviation, both `None` where all pairs are in one fold; `threshold`, the mean of the
        folds', or the best of all.  Of the pairs compared: `auc`; `eer`; `tar_at_far`, by `FARS`, and `far_threshold`,
        `None` where there are fewer than `10 / far` different pairs (see `verification.tar_at_far`).  `rank1` and
        `rank5`: how often a picture of the identity is among the one or five most similar, a tie lost, of the pictures
        that have one to find; `None` where none has.  `far`, `pairs` (in the list), `compared`, `identities`, `images`,
        `unreadable`.  And the details, see `_roc`, `_scores`, `_mistakes`, `_map`; `listed`, the list's `pairs`
        `(n, 4)` as in the split and `similarity` `(n,)`, NaN where a picture could not be read.

    Raises:
        DataError: There is no picture, no pair of the same or none of different ones; an embedding is not finite.
    """
    index, embeddings, unreadable = _gathered(pairs, split)
    listed = _listed(split, index, embeddings)
    known = split.annotations["label"][index]
    measured = _measured(index, embeddings, known, listed, given, split.name, far)
    counts = {"identities": len(np.unique(known)), "images": len(index), "unreadable": unreadable}
    return {**measured, **_identified(embeddings, known, gallery), **counts, "listed": listed}


def _measured(
    index: np.ndarray,
    embeddings: np.ndarray,
    known: np.ndarray,
    listed: dict[str, np.ndarray],
    of_list: bool,
    split: str,
    far: float,
) -> dict:
    """What pairs tell: those of the list, or by `of_list` False beside them every two pictures, of some at most."""
    seen = ~np.isnan(listed["similarity"])
    similarity, same, fold = listed["similarity"][seen], listed["pairs"][seen, 2] == 1, listed["pairs"][seen, 3]
    _check_both(same, split)
    accuracy, deviation, threshold = _by_folds(similarity, same, fold)
    places = listed["pairs"][seen, :2] if of_list else None
    rows = _some(known)
    compared, are_same = (similarity, same) if of_list else verification.all_pairs(embeddings[rows], known[rows])
    cuts = verification.cuts(compared, are_same)
    return {
        "accuracy": accuracy,
        "accuracy_std": deviation,
        **_told_apart(cuts, far),
        "threshold": threshold,
        "pairs": len(similarity),
        "compared": len(compared),
        "roc": _roc(cuts, compared, are_same, threshold),
        "scores": _scores(compared, are_same),
        "mistakes": _mistakes(compared, are_same, places, index[rows], threshold),
        "map": _map(embeddings, known, index),
    }


def _some(known: np.ndarray) -> np.ndarray:
    """The rows of the pictures to compare, in order: all, or of too many those of identities drawn at random.

    Identities of one picture come last: without the others there would be no pair of the same.
    """
    if len(known) <= MOST_PICTURES:
        return np.arange(len(known))
    draw = np.random.default_rng(0)
    identities, counts = np.unique(known, return_counts=True)
    most = max(FEWEST_EACH, MOST_PICTURES // len(identities))
    starts, by_identity = np.cumsum(counts) - counts, np.argsort(known, kind="stable")
    order = draw.permutation(len(identities))
    order = order[np.argsort(counts[order] == 1, kind="stable")]
    drawn = [by_identity[starts[number] :][: min(counts[number], most)] for number in order]
    return np.sort(np.concatenate(drawn)[:MOST_PICTURES])


def _gathered(pairs: Iterable[tuple[dict, dict]], split: Split) -> tuple[np.ndarray, np.ndarray, int]:
    """Places `(n,)` in the split and embeddings float32 `(n, d)` of the pictures that were read; how many were not."""
    places, embeddings, unreadable = [], [], 0
    for answers, targets in pairs:
        real = targets["index"] >= 0
        seen = real & (targets["weight"] > 0)
        unreadable += int(np.sum(real & ~seen))
        places.append(targets["index"][seen])
        embeddings.append(answers["embedding"][seen].astype(np.float32))
    index = np.concatenate(places) if places else np.zeros(0, np.int64)
    if not len(index):
        raise DataError("no picture of the split could be read; expected at least one to measure")
    held = np.concatenate(embeddings)
    if not np.isfinite(held).all():
        broken = int(np.argmin(np.isfinite(held).all(axis=1)))
        raise DataError(f"{split.ids[index[broken]]}: its embedding is not finite; the model is broken")
    return index, held, unreadable


def _listed(split: Split, index: np.ndarray, embeddings: np.ndarray) -> dict[str, np.ndarray]:
    pairs = split.pairs
    if pairs is None:
        from resnet_tasks.data.readers.face_pairs import make_pairs

        pairs = make_pairs(split.annotations["label"], 0)
    row_of = np.full(len(split), -1)
    row_of[index] = np.arange(len(index))
    first, second = row_of[pairs[:, 0]], row_of[pairs[:, 1]]
    seen = (first >= 0) & (second >= 0)
    similarity = np.full(len(pairs), np.nan)
    similarity[seen] = verification.similarities(embeddings, first[seen], second[seen])
    return {"pairs": pairs, "similarity": similarity}


def _check_both(same: np.ndarray, split: str) -> None:
    if same.all() or not same.any():
        raise DataError(
            f"the split {split!r} has {int(same.sum())} pairs of the same identity and {int((~same).sum())} of "
            "different ones among the pictures that could be read; expected some of both: from two identities on, and "
            "two pictures of one of them"
        )


def _by_folds(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> tuple[float | None, float | None, float]:
    if len(np.unique(fold)) < 2:
        return None, None, verification.best_threshold(verification.cuts(similarity, same))
    accuracies, thresholds = verification.by_folds(similarity, same, fold)
    return float(accuracies.mean()), float(accuracies.std()), float(thresholds.mean())


def _told_apart(cuts: verification.Cuts, far: float) -> dict:
    """What the ROC curve says, and the threshold at the rate that was asked for."""
    return {
        "auc": verification.area(cuts),
        "eer": verification.equal_error_rate(cuts),
        "tar_at_far": {f"{rate:g}": verification.tar_at_far(cuts, rate) for rate in FARS},
        "far": far,
        "far_threshold": verification.threshold_at_far(cuts, far),
    }


def _identified(embeddings: np.ndarray, known: np.ndarray, gallery: tuple | None) -> dict[str, float | None]:
    ranks = verification.ranks(embeddings, known, gallery)
    return {f"rank{n}": float(np.mean(ranks < n)) if len(ranks) else None for n in (1, 5)}


def _roc(cuts: verification.Cuts, similarity: np.ndarray, same: np.ndarray, threshold: float) -> dict:
    """`far` and `tar`, rising, of some of the curve's points, more of them where FAR is low; `different`, the pairs.

    And `at_threshold`: FAR and TAR of the threshold.
    """
    wanted = np.concatenate([np.linspace(0, 1, CURVE_POINTS), np.logspace(-7, 0, CURVE_POINTS)])
    far, tar = cuts.far, cuts.tar
    highest = np.searchsorted(far, wanted, side="right") - 1
    others = np.searchsorted(tar, np.linspace(0, 1, CURVE_POINTS), side="left")
    chosen = np.unique(np.concatenate([[0], highest, others]))
    accepted = similarity >= threshold
    return {
        "far": far[chosen].tolist(),
        "tar": tar[chosen].tolist(),
        "different": int(cuts.different[-1]),
        "at_threshold": [float(accepted[~same].mean()), float(accepted[same].mean())],
    }


def _scores(similarity: np.ndarray, same: np.ndarray) -> dict[str, list]:
    """Histograms: `edges`, `(51,)` from the lowest similarity to the highest, and pairs, `same` and `different`."""
    edges = np.histogram_bin_edges(similarity, BINS)
    counts = {name: np.histogram(similarity[are], edges)[0] for name, are in (("same", same), ("different", ~same))}
    return {"edges": edges.tolist(), **{name: count.tolist() for name, count in counts.items()}}


def _mistakes(
    similarity: np.ndarray, same: np.ndarray, places: np.ndarray | None, index: np.ndarray, threshold: float
) -> list[dict]:
    """The hardest pairs: the twelve of the same that are least similar and the twelve different ones that are most.

    Each has its pictures' places in the split, `index` and `partner`; `same`; `answer`, whether it is taken for the
    same; and `similarity`.  First comes what lies farthest on the wrong side of the threshold; the last may be right.

    Args:
        similarity: Of the pairs compared.
        same: Of these.
        places: Their pictures' places in the split `(pairs, 2)`; None where they are every two of `index`.
        index: The pictures' places in the split.
        threshold: From which a pair is the same.
    """
    half = HARDEST // 2
    rows = [
        are[np.argsort(sign * similarity[are], kind="stable")[:half]]
        for are, sign in ((np.flatnonzero(same), 1), (np.flatnonzero(~same), -1))
    ]
    chosen = np.concatenate(rows)
    wrong = np.where(same[chosen], 1, -1) * (threshold - similarity[chosen].astype(np.float64))
    chosen = chosen[np.argsort(-wrong, kind="stable")]
    if places is None:
        first, second = (index[side] for side in verification.pair_at(chosen, len(index)))
    else:
        first, second = places[chosen].T
    columns = {
        "index": first,
        "partner": second,
        "same": same[chosen],
        "answer": similarity[chosen] >= threshold,
        "similarity": similarity[chosen],
    }
    return [dict(zip(columns, row)) for row in zip(*(values.tolist() for values in columns.values()))]


def _map(embeddings: np.ndarray, known: np.ndarray, index: np.ndarray) -> list[dict]:
    """Up to 500 pictures of up to 20 identities on a plane, the two principal components of their embeddings.

    Each is `index`, `label`, `x`, `y`.  Identities are chosen evenly among those of two pictures or more.
    """
    identities, counts = np.unique(known, return_counts=True)
    several = identities[counts > 1] if np.any(counts > 1) else identities
    few = min(len(several), IDENTITIES_ON_THE_MAP)
    chosen = several[np.linspace(0, len(several) - 1, few).round().astype(int)]
    rows = np.concatenate([np.flatnonzero(known == label)[: ON_THE_MAP // few] for label in chosen])
    centred = embeddings[rows].astype(np.float64)
    centred -= centred.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes *= np.where(axes[np.arange(len(axes)), np.argmax(np.abs(axes), axis=1)] < 0, -1, 1)[
        :, None
    ]  # the sign is free
    at = np.zeros((len(rows), 2))
    at[:, : len(axes)] = centred @ axes.T
    return [
        {"index": place, "label": label, "x": x, "y": y}
        for place, label, (x, y) in zip(index[rows].tolist(), known[rows].tolist(), at.tolist())
    ]
