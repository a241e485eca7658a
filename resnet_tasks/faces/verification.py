"""Same person or not: what similarities of labelled pairs say of an embedding.

A pair is taken for the same where its similarity is at least the threshold.  FAR, the false accept rate, is the share
of the different pairs that are, TAR, the true accept rate, that of the same pairs.
"""

from dataclasses import dataclass

import numpy as np

ERRORS = 10  # false accepts that a rate is read off: fewer have a standard error of more than a third
AT_ONCE = 1 << 24  # similarities that are computed at a time
MOST_RANKED = 10**9  # similarities that ranking may compute: of more pictures it asks for some alone


@dataclass(frozen=True, eq=False)
class Cuts:
    """What every threshold makes of labelled similarities, the strictest first: it accepts none, the last all.

    Attributes:
        lowest: `(cuts - 1,)`, falling: the lowest similarity that each cut but the first accepts.
        same: int64 `(cuts,)`: pairs of the same that are accepted.
        different: int64 `(cuts,)`: different pairs that are.
    """

    lowest: np.ndarray
    same: np.ndarray
    different: np.ndarray

    @property
    def tar(self) -> np.ndarray:
        """`(cuts,)`; NaN without a same pair."""
        return _share(self.same)

    @property
    def far(self) -> np.ndarray:
        """`(cuts,)`; NaN without a different pair."""
        return _share(self.different)

    def threshold(self, cut: np.ndarray | int) -> np.ndarray:
        """float64: the middle between the lowest similarity that is accepted and the highest that is not.

        Beyond both ends similarities are taken to go on to -1 and 1.
        """
        cut = np.asarray(cut)
        values = self.lowest.astype(np.float64)[np.clip(np.stack([cut - 1, cut]), 0, len(self.lowest) - 1)]
        accepted = np.where(cut > 0, values[0], np.maximum(1.0, np.nextafter(values[0], 2.0)))
        refused = np.where(cut < len(self.lowest), values[1], np.minimum(-1.0, values[1]))
        middle = (accepted + refused) / 2
        return np.where(middle > refused, middle, accepted)  # of neighbouring floats the middle may be the lower


def cuts(similarity: np.ndarray, same: np.ndarray) -> Cuts:
    """All cuts between similarities that differ.

    Args:
        similarity: `(pairs,)`, in -1..1; one pair at least.
        same: bool `(pairs,)`.
    """
    order = np.argsort(similarity)[::-1]
    falling = similarity[order]
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # of each run of equal ones
    accepted = np.cumsum(same[order], dtype=np.int64)[last]
    return Cuts(falling[last], np.append(0, accepted), np.append(0, last + 1 - accepted))


def best_threshold(found: Cuts) -> float:
    """The threshold of the highest accuracy.

    A gap between two similarities is as good all over: its middle is taken; of several gaps that are equally good the
    one in the middle of their range, and of two as near to it the stricter.
    """
    right = found.same + (found.different[-1] - found.different)
    best = found.threshold(np.flatnonzero(right == right.max()))
    off = np.abs(best - (best[0] + best[-1]) / 2)
    return float(best[np.argmax(off <= off.min() + 1e-12)])  # two are as near whatever the rounding


def by_folds(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """LFW's protocol: each fold's accuracy at the threshold that is best on the others.

    Huang et al. 2007, "Labeled Faces in the Wild", section III, view 2.

    Args:
        similarity: `(pairs,)`.
        same: bool `(pairs,)`.
        fold: `(pairs,)`; two numbers at least.

    Returns:
        Accuracies and thresholds, float64 `(folds,)` in the order of the folds' numbers.
    """
    accuracies, thresholds = [], []
    for number in np.unique(fold):
        held = fold == number
        threshold = best_threshold(cuts(similarity[~held], same[~held]))
        accuracies.append(np.mean((similarity[held] >= threshold) == same[held]))
        thresholds.append(threshold)
    return np.array(accuracies), np.array(thresholds)


def area(found: Cuts) -> float:
    """The area under TAR over FAR: how often a same pair is more similar than a different one, a tie a half."""
    steps = np.diff(found.different).astype(np.float64)
    heights = (found.same[1:] + found.same[:-1]) / 2
    return float(np.dot(steps, heights) / (found.same[-1] * float(found.different[-1])))


def equal_error_rate(found: Cuts) -> float:
    """Where the false accept rate is the false reject rate, 1 - TAR; linear between two cuts."""
    far = found.far
    over = far - (1 - found.tar)  # rises from -1 to 1
    after = int(np.argmax(over >= 0))
    share = over[after - 1] / (over[after - 1] - over[after])
    return float(far[after - 1] + share * (far[after] - far[after - 1]))


def tar_at_far(found: Cuts, far: float) -> float | None:
    """The highest TAR of a threshold whose FAR is `far` or less.

    `None` with fewer than `10 / far` different pairs: what is read off fewer than ten false accepts is chance.
    """
    cut = _cut_at_far(found, far)
    return None if cut is None else float(found.tar[cut])


def threshold_at_far(found: Cuts, far: float) -> float | None:
    """The lowest of the cuts' thresholds whose FAR is `far` or less; `None` as in `tar_at_far`."""
    cut = _cut_at_far(found, far)
    return None if cut is None else float(found.threshold(cut))


def _cut_at_far(found: Cuts, far: float) -> int | None:
    allowed = far * float(found.different[-1]) * (1 + 1e-12)  # 0.1 x 30 is a little more than 3, others a little less
    if allowed < ERRORS:
        return None
    return int(np.searchsorted(found.different, allowed, side="right")) - 1


def _share(accepted: np.ndarray) -> np.ndarray:
    return accepted / accepted[-1] if accepted[-1] else np.full(len(accepted), np.nan)


def similarities(embeddings: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 `(pairs,)` in -1..1, of the rows `first` and `second` of `embeddings` `(pictures, d)`, of unit length."""
    found = np.empty(len(first))
    step = max(1, AT_ONCE // max(1, embeddings.shape[1]))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        one, other = (embeddings[rows[part]].astype(np.float64) for rows in (first, second))
        found[part] = np.einsum("ij,ij->i", one, other)
    return np.clip(found, -1.0, 1.0)


def all_pairs(embeddings: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarities, float32, and whether the labels are equal, of every two pictures: in the order of `pair_at`."""
    pictures = len(embeddings)
    similarity = np.empty(pictures * (pictures - 1) // 2, np.float32)
    same = np.empty(len(similarity), bool)
    step, place = max(1, AT_ONCE // max(1, pictures)), 0
    for start in range(0, pictures, step):
        block = embeddings[start : start + step] @ embeddings[start:].T
        for row, values in enumerate(block):
            count = pictures - 1 - (start + row)
            part = slice(place, place + count)
            similarity[part] = values[row + 1 :]
            same[part] = labels[start + row + 1 :] == labels[start + row]
            place += count
    return np.clip(similarity, -1.0, 1.0, out=similarity), same


def pair_at(places: np.ndarray, pictures: int) -> tuple[np.ndarray, np.ndarray]:
    """The two pictures of places among `all_pairs`: (0, 1), (0, 2), ..., (1, 2), ..."""
    counts = np.arange(pictures - 1, -1, -1)
    starts = np.cumsum(counts) - counts
    first = np.searchsorted(starts[: max(1, pictures - 1)], places, side="right") - 1
    return first, places - starts[first] + first + 1


def ranks(
    embeddings: np.ndarray, labels: np.ndarray, gallery: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """How many pictures of others are as similar as the most similar one of the same identity.

    Args:
        embeddings: float32 `(pictures, d)`, of unit length.
        labels: `(pictures,)`.
        gallery: Embeddings and labels of the pictures that are looked through; by default all others of these.

    Returns:
        int64: of each picture that has one of its identity to find; of as many pictures as 10^9 similarities allow,
        evenly chosen.
    """
    others, other_labels = (embeddings, labels) if gallery is None else gallery
    width = max(1, len(others))
    count = min(len(embeddings), max(1, MOST_RANKED // width))
    asked = np.linspace(0, len(embeddings) - 1, count).round().astype(np.int64)
    step, found = max(1, AT_ONCE // width), []
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        similarity = embeddings[rows] @ others.T
        mates = labels[rows][:, None] == other_labels[None]
        if gallery is None:
            mates[np.arange(len(rows)), rows] = False
            similarity[np.arange(len(rows)), rows] = -np.inf
        nearest = np.where(mates, similarity, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        ahead = np.sum((similarity >= nearest) & ~mates, axis=1)
        found.append(ahead[mates.any(axis=1)])
    return np.concatenate(found).astype(np.int64)
