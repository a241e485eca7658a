"""Pairs of pictures to be told the same or different: read from a list, or made.

`pairs.csv` has the columns first, second, same and perhaps fold.  LFW's `pairs.txt` (Huang et al. 2007, "Labeled Faces
in the Wild", section III) begins with the number of folds and that of pairs of each kind in a fold, `pairsDevTest.txt`
with the latter alone; then stand, fold by fold, pairs of one person, `name i j`, and pairs of two, `name i other j`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet_tasks.data.examples import Problem, Split
from resnet_tasks.data.readers import csv_files
from resnet_tasks.data.readers.picture_places import Places
from resnet_tasks.errors import DataError

FILES = ("pairs.csv", "pairs.txt", "pairsDevTest.txt")  # of several the first
FOLDS = 10
_FIRST = ("first", "file1", "image1", "path1", "a")
_SECOND = ("second", "file2", "image2", "path2", "b")
_SAME = ("same", "is_same", "issame", "label")
_FOLD = ("fold", "set")
_WORDS = {"1": 1, "true": 1, "yes": 1, "same": 1, "0": 0, "false": 0, "no": 0, "different": 0}


@dataclass(frozen=True, eq=False)
class Listed:
    """The pairs of a list.

    Attributes:
        file: The list's name, as people know it.
        rows: int32 `(n, 4)`: the places of two pictures, whether they show the same (0, 1), the fold (0..9).
        missing: What it names and is not there.
    """

    file: str
    rows: np.ndarray
    missing: tuple[Problem, ...]


def make_pairs(labels: np.ndarray, seed: int, most: int = 6000) -> np.ndarray:
    """Makes pairs, as many of the same identity as of different ones, the same on every machine.

    All that there are, at most `most / 2` of each kind; of more a sample in which every pair is as likely as another.
    Each kind is spread evenly over the folds.

    Args:
        labels: `(pictures,)`, the identity of each.
        seed: Of the sample and of the folds.
        most: Pairs in all.

    Returns:
        int32 `(n, 4)`: two places, the smaller one first; whether they show the same (0, 1); the fold, 0..9. In the
        order of the folds, in each the same ones first.
    """
    order = np.argsort(labels, kind="stable")
    ordered = np.asarray(labels)[order]
    place = np.arange(len(ordered))
    end = np.searchsorted(ordered, ordered, side="right")  # of each one's identity
    kinds = {1: (place + 1, end), 0: (end, np.full_like(end, len(ordered)))}  # the partners of each, behind it
    count = min(most // 2, *(int((stop - start).sum()) for start, stop in kinds.values()))
    draws = np.random.RandomState(seed % 2**32)  # whose draws no release of NumPy changes
    parts = []
    for same, (start, stop) in kinds.items():
        behind = np.cumsum(stop - start)  # pairs up to each picture's own
        rank = _chosen(int(behind[-1]) if len(behind) else 0, count, draws)
        one = np.searchsorted(behind, rank, side="right")
        other = start[one] + rank - (behind - (stop - start))[one]
        pair = np.sort(np.stack([order[one], order[other]], axis=1), axis=1)
        parts.append(np.column_stack([pair, np.full(count, same), np.arange(count) % FOLDS]))
    rows = np.concatenate(parts)
    return rows[np.lexsort((rows[:, 1], rows[:, 0], -rows[:, 2], rows[:, 3]))].astype(np.int32)


def _chosen(total: int, count: int, draws: np.random.RandomState) -> np.ndarray:
    """Returns `count` different numbers below `total`, in an order drawn at random."""
    if total <= 4 * count:
        return draws.permutation(total)[:count]
    chosen = np.zeros(0, np.int64)
    while len(chosen) < count:
        more = np.concatenate([chosen, draws.randint(0, total, 2 * count, np.int64)])
        _, first = np.unique(more, return_index=True)
        chosen = more[np.sort(first)]
    return chosen[:count]


def contradicted(split: Split) -> np.ndarray:
    """Returns the pairs `(n, 4)` of a split that say the same of two identities, or the contrary of one."""
    if split.pairs is None:
        return np.zeros((0, 4), np.int32)
    label = split.annotations["label"]
    agree = label[split.pairs[:, 0]] == label[split.pairs[:, 1]]
    return split.pairs[agree != (split.pairs[:, 2] == 1)]


def of_one_picture(split: Split) -> np.ndarray:
    """Returns the pairs `(n, 4)` of a split that are of a picture with itself."""
    pairs = np.zeros((0, 4), np.int32) if split.pairs is None else split.pairs
    return pairs[pairs[:, 0] == pairs[:, 1]]


def find(folder: Path, *, beside: bool) -> tuple[Path | None, tuple[Path, ...]]:
    """Returns the list of pairs in a folder, or else beside it, and the others there, which are not used."""
    for place in (folder, *((folder.absolute().parent,) if beside else ())):
        found = [place / name for name in FILES if (place / name).is_file()]
        if found:
            return found[0], tuple(found[1:])
    return None, ()


def read(file: Path, places: Places) -> Listed:
    """Reads a list of pairs.

    Args:
        file: Of either format, told apart by the suffix.
        places: Where the pictures stand.

    Raises:
        DataError: The list is of neither format, is cut off, or holds no pair.
    """
    is_csv = file.suffix.lower() in (".csv", ".tsv")
    pairs = _of_csv(file, places) if is_csv else _of_text(file, places)
    if not pairs:
        raise DataError(
            f"{file}: no pairs; {'rows of first, second, same' if is_csv else 'lines of LFW'} were expected"
        )
    missing = [Problem(name, where) for pair in pairs for name, where in pair.missing]
    rows = np.array([pair.row for pair in pairs if not pair.missing], np.int32).reshape(-1, 4)
    unfolded = rows[:, 3] < 0
    for same in (0, 1):
        of_kind = unfolded & (rows[:, 2] == same)
        rows[of_kind, 3] = np.arange(of_kind.sum()) % FOLDS
    return Listed(file.name, rows, tuple(missing))


@dataclass(frozen=True)
class _Pair:
    row: tuple[int, int, int, int]  # the fold is -1 where the list has none
    missing: tuple[tuple[str, str], ...]  # names, and where they stand


def _pair(found: Sequence[tuple[str, int | None]], same: int, fold: int, where: str) -> _Pair:
    (_, first), (_, second) = found
    missing = tuple((name, where) for name, place in found if place is None)
    return _Pair((-1 if first is None else first, -1 if second is None else second, same, fold), missing)


def _of_csv(file: Path, places: Places) -> list[_Pair]:
    rows, columns = csv_files._rows(file)
    first, second, same = (
        csv_files._column(file, columns, known, what)
        for known, what in ((_FIRST, "first picture"), (_SECOND, "second picture"), (_SAME, "answer, same or not,"))
    )
    fold = next((column for column in columns if column.strip().lower() in _FOLD), None)
    folds = _folds(file, [row[fold].strip() for row in rows]) if fold else [-1] * len(rows)
    pairs = []
    for line, row in enumerate(rows, 2):
        word = (row[same] or "").strip().lower()
        if word not in _WORDS:
            raise DataError(f"{file}, row {line}: {word!r} under {same!r}; 1 (the same) or 0 (different) expected")
        found = [(name, places.find(name)) for name in (row[first], row[second])]
        pairs.append(_pair(found, _WORDS[word], folds[line - 2], f"{file.name}, row {line}"))
    return pairs


def _folds(file: Path, words: Sequence[str]) -> list[int]:
    """Returns the folds as 0..9, whatever numbers the list has for them."""
    if not all(word.isdecimal() for word in words):
        line = next(number for number, word in enumerate(words, 2) if not word.isdecimal())
        raise DataError(f"{file}, row {line}: the fold is {words[line - 2]!r}; a whole number expected")
    number = {fold: place for place, fold in enumerate(sorted(set(map(int, words))))}
    if len(number) > FOLDS:
        raise DataError(f"{file}: {len(number)} folds; at most {FOLDS} expected")
    return [number[int(word)] for word in words]


def _of_text(file: Path, places: Places) -> list[_Pair]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: no text in UTF-8 ({error})") from None
    lines = [(number, _fields(line)) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    head: tuple[str, ...] = lines[0][1] if lines else ()
    folds, each = 1, None
    if len(head) in (1, 2) and all(field.isdecimal() for field in head):
        folds, each = (1, int(head[0])) if len(head) == 1 else (int(head[0]), int(head[1]))
        lines = lines[1:]
    expected = len(lines) if each is None else 2 * folds * each
    if len(lines) != expected or folds > FOLDS:
        raise DataError(
            f"{file}: its first line announces {folds} folds (at most {FOLDS} expected) of {each} pairs of each kind, "
            f"{expected} lines, and {len(lines)} follow"
        )
    at = functools.partial(_numbered, file, places)
    pairs = []
    for place, (number, fields) in enumerate(lines):
        fold = place // (2 * each) if each and folds > 1 else -1
        if len(fields) == 3:
            name, one, other = fields
            found, same = [at(number, name, one), at(number, name, other)], 1
        elif len(fields) == 4:
            found, same = [at(number, *fields[:2]), at(number, *fields[2:])], 0
        else:
            raise DataError(f"{file}, line {number}: {len(fields)} fields; `name i j` or `name i other j` expected")
        pairs.append(_pair(found, same, fold, f"{file.name}, line {number}"))
    return pairs


def _fields(line: str) -> tuple[str, ...]:
    # With tabs between them, as in LFW's own files, names may hold spaces.
    return tuple(field.strip() for field in (line.strip().split("\t") if "\t" in line.strip() else line.split()))


def _numbered(file: Path, places: Places, line: int, name: str, number: str) -> tuple[str, int | None]:
    """Returns what the file of a person's picture is called, and its place: `name/name_0001`, or else `name/1`."""
    if not number.isdecimal():
        raise DataError(
            f"{file}, line {line}: {number!r} is no picture's number; `name i j` or `name i other j` expected"
        )
    stems = (f"{name}/{name}_{int(number):04d}", f"{name}/{name}_{int(number)}", f"{name}/{int(number)}")
    found = (places.find_stem(stem) for stem in stems)
    return stems[0], next((place for place in found if place is not None), None)
