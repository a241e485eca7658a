"""From the pictures of identities that a reader found to splits with labels, landmarks and pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from resnet_tasks.data.examples import LabelMap, Problem, Source, Split
from resnet_tasks.data.readers import face_pairs, identity_splits, splits
from resnet_tasks.data.readers.boxes import some
from resnet_tasks.data.readers.face_landmarks import POINTS
from resnet_tasks.data.readers.face_pairs import Listed


@dataclass(frozen=True, eq=False)
class Found:
    """The pictures of a source, before they are split.

    Attributes:
        where: What the user named.
        format: "folder", "tfds" or "digits".
        whole: All pictures, those that cannot be read too; without annotations.
        identities: Of each picture, by name.
        readable: The places of those that can be read.
        problems: The others.
        sides: The source's own split of each picture, or None where it has none.
        landmarks: float32 `(pictures, 5, 2)`, NaN where there are none; or None.
        listed: The pairs of a list, of places in `whole`; or None.
        empty: Folders of identities without a picture.
        notes: Sentences to print.
    """

    where: str
    format: str
    whole: Split
    identities: tuple[str, ...]
    readable: tuple[int, ...]
    problems: tuple[Problem, ...] = ()
    sides: tuple[str | None, ...] | None = None
    landmarks: np.ndarray | None = None
    listed: Listed | None = None
    empty: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """How a source is split; see `read_faces`."""

    split_seed: int
    group: str | None
    val_share: float
    test_share: float
    closed: bool


@dataclass(frozen=True, eq=False)
class Looked:
    """A source, and what of it stops a run.

    Attributes:
        source: The splits; "label", "landmarks" and `pairs` are as `read_faces` says.
        names: For each split the identity of each picture.
        empty: Folders of identities without a picture.
        missing: What lists of pairs name and is not there.
        shared: Identities of train whose names are in val or test too, though these are to be others.
        untrained: Why nobody is trained on, of a source that was not given split by split; empty where somebody is.
    """

    source: Source
    names: dict[str, tuple[str, ...]]
    empty: tuple[str, ...] = ()
    missing: tuple[Problem, ...] = ()
    shared: tuple[str, ...] = ()
    untrained: str = ""


@dataclass
class _Cut:
    """The splits in the making."""

    splits: dict[str, Split] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def assemble(parts: Mapping[str, Found], rules: Rules) -> Looked:
    """Splits, numbers and pairs what was found.

    Args:
        parts: What was found for each split that was given apart, or all of it by "".
        rules: How that is split.
    """
    cut, with_landmarks = _Cut(), any(part.landmarks is not None for part in parts.values())
    for given, part in parts.items():
        sides, how = ([given] * len(part.whole), ()) if given else _sides(part, rules)
        prefix = f"{given}: " if given else ""
        cut.notes += [prefix + note for note in (*part.notes, *how)]
        _cut(part, splits.only(sides, part.readable), with_landmarks, cut)
    ordered = {name: cut.splits[name] for name in splits.NAMES if name in cut.splits}
    labels, numbers, shared = _numbered(cut.names, rules.closed)
    if shared:
        cut.notes.append(
            f"{len(shared)} identities of train have namesakes in val or test, taken for other people{some(shared)}; "
            "if they are the same, nothing here is measured on strangers: give them one split, or say data.closed=true"
        )
    finished = {}
    for name, split in ordered.items():
        label = np.array([numbers[name][each] for each in cut.names[name]], np.int32)
        split = replace(split, annotations={"label": label, **split.annotations})
        if name != "train" and split.pairs is None:
            made = face_pairs.make_pairs(label, rules.split_seed)
            split = replace(split, pairs=made if len(made) else None)
            cut.notes.append(_said_of(name, made, rules.split_seed))
        finished[name] = split
    return Looked(
        source=Source(
            where=", ".join(f"{name}={part.where}" if name else part.where for name, part in parts.items()),
            format="+".join(dict.fromkeys(part.format for part in parts.values())),
            labels=labels,
            splits=finished,
            problems=tuple(problem for part in parts.values() for problem in part.problems),
            notes=tuple(cut.notes),
            identities={name: frozenset(of) for name, of in cut.names.items()},
        ),
        names=cut.names,
        empty=tuple(name for part in parts.values() for name in part.empty),
        missing=tuple(problem for part in parts.values() if part.listed for problem in part.listed.missing),
        shared=shared,
        untrained="" if "train" in cut.splits or "" not in parts else _untrained(parts[""], rules),
    )


def _untrained(part: Found, rules: Rules) -> str:
    """Returns why a source that is split here has nobody to train on; nothing where its own splits name no train."""
    if part.sides is not None and "train" not in part.sides:
        return ""
    named = set() if part.listed is None else set(part.listed.rows[:, :2].ravel().tolist())
    if not named:
        return "no picture is left to train on"
    if rules.closed:
        return (
            f"the pairs of {_file(part)} name all pictures that could be trained on, and these are the test's alone: "
            "name fewer in the list, or move it away"
        )
    count = len({part.identities[place] for place in named})
    return (
        f"nobody is left to train on: the pairs of {_file(part)} name all {count} identities, and these are never "
        "trained on: move the list away, or take data.closed=true"
    )


def _sides(part: Found, rules: Rules) -> tuple[list[str | None], tuple[str, ...]]:
    """Returns the split of each picture of a source that is not given split by split, and what is to be said of it."""
    groups = splits.grouped(part.whole.ids, rules.group) if rules.group else None
    named = set() if part.listed is None else set(part.listed.rows[:, :2].ravel().tolist())
    of_pairs = {part.identities[place] for place in named}
    if part.sides is not None:
        sides: list[str | None] = list(part.sides)
        how = "its own splits: " + ", ".join(name for name in splits.NAMES if name in sides)
    elif rules.closed:
        closed, how = identity_splits.closed(part.whole.ids, part.identities, groups, rules.split_seed, rules.val_share)
        sides = ["train" if named and side == "test" else side for side in closed]
    else:
        free = [place for place, name in enumerate(part.identities) if name not in of_pairs]
        side, how = identity_splits.disjoint(
            [part.identities[place] for place in free],
            groups and [groups[place] for place in free],
            rules.split_seed,
            rules.val_share,
            0.0 if named else rules.test_share,
        )
        sides = [side.get(name) for name in part.identities]
    said = (how,) if how else ()
    if not named:
        return sides, said
    return _with_pairs(part, rules, sides, named, of_pairs), (*said, *_of_the_list(part, rules, named, of_pairs))


def _with_pairs(
    part: Found, rules: Rules, sides: Sequence[str | None], named: set[int], of_pairs: set[str]
) -> list[str | None]:
    """Returns the splits where the pictures that pairs name are the test's, and train has none of their identities."""
    decided: list[str | None] = []
    for place, side in enumerate(sides):
        is_left_out = not rules.closed and side != "test" and part.identities[place] in of_pairs
        decided.append("test" if place in named else None if is_left_out else side)
    return decided


def _of_the_list(part: Found, rules: Rules, named: set[int], of_pairs: set[str]) -> list[str]:
    said = [f"the test is the {len(named)} pictures of {len(of_pairs)} identities that the pairs of {_file(part)} name"]
    if not rules.closed:
        others = sum(name in of_pairs for name in part.identities) - len(named)
        said.append(f"these identities are never trained on; {others} more pictures of theirs are not used for that")
    return said


def _file(part: Found) -> str:
    return part.listed.file if part.listed else ""


def _cut(part: Found, sides: Sequence[str | None], with_landmarks: bool, cut: _Cut) -> None:
    """Cuts the pictures of a part, with their landmarks and the pairs of its list."""
    whole = part.whole
    if with_landmarks:
        none = np.full((len(whole), POINTS, 2), np.nan, np.float32)
        whole = replace(whole, annotations={"landmarks": none if part.landmarks is None else part.landmarks})
    for name, split in splits.cut(whole, sides).items():
        places = [place for place, side in enumerate(sides) if side == name]
        cut.names[name] = tuple(part.identities[place] for place in places)
        if part.listed is not None and name != "train":
            new = np.full(len(whole), -1, np.int32)
            new[places] = np.arange(len(places))
            rows = part.listed.rows.copy()
            rows[:, :2] = new[rows[:, :2]]
            kept = rows[(rows[:, :2] >= 0).all(axis=1)]
            if len(kept):
                split = replace(split, pairs=kept, is_protocol=True)
                cut.notes.append(_said_of_list(name, part.listed, kept))
        cut.splits[name] = split


def _said_of_list(name: str, listed: Listed, kept: np.ndarray) -> str:
    same, folds = int(kept[:, 2].sum()), len(np.unique(kept[:, 3]))
    lost = len(listed.rows) - len(kept)
    return (
        f"the pairs of {name} are those of {listed.file}: {same} same, {len(kept) - same} different, in {folds} folds"
        + (f"; {lost} more name a picture that cannot be read, or is of another split" if lost else "")
    )


def _said_of(name: str, made: np.ndarray, seed: int) -> str:
    if not len(made):
        why = "has no two pictures of one identity, or one identity only"
        return f"{name} {why}: nothing can be verified there, and it is not used"
    same = int(made[:, 2].sum())
    return f"pairs made for {name}, by split seed {seed}: {same} same, {len(made) - same} different"


def _numbered(
    names: Mapping[str, tuple[str, ...]], closed: bool
) -> tuple[LabelMap, dict[str, dict[str, int]], tuple[str, ...]]:
    """Returns the identities trained on, the number of each identity by split, and namesakes in other splits."""
    trained = sorted(set(names.get("train", ())), key=splits.natural)
    number = {name: place for place, name in enumerate(trained)}
    held = {name: sorted(set(names.get(name, ())), key=splits.natural) for name in ("val", "test")}
    others: dict[str, int] = {}
    for name in (*held["val"], *held["test"]):
        if not (closed and name in number):
            others.setdefault(name, len(trained) + len(others))
    numbers = {"train": number} | dict.fromkeys(held, {**number, **others} if closed else others)
    shared = () if closed else tuple(name for name in trained if name in others)
    return LabelMap(names=tuple(trained)), numbers, shared
