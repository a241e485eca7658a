"""The data doctor: reads a whole data set, decodes every picture, says what is wrong, changes nothing."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from resnet_tasks.data import decode, duplicates, formats
from resnet_tasks.data.examples import Problem, Source
from resnet_tasks.data.readers import read_classification

LEVELS = ("error", "warning", "note")
_MOST_BAD = 0.01  # of the pictures; training stops above it too
_IMBALANCE = 10  # the largest class over the smallest from which accuracy says little
_FEW = 10  # pictures of a class in train
_ODD_SIZE = 4  # times the median of the shorter sides, or a part of it
_ODD_ASPECT = 4  # the longer side over the shorter
_SHOWN_GROUPS, _SHOWN_OF_GROUP = 24, 4  # of duplicates, with their miniatures


@dataclass(frozen=True)
class Finding:
    """One thing to know: `level` is "error", "warning" or "note"; `files` are the culprits."""

    level: str
    what: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        where: What was checked.
        format: How it was read.
        counts: For each split the pictures of each class, in the label map's order.
        findings: Errors first.
        samples: Groups of duplicates to show: pairs of a file and its miniature, uint8 `(16, 16, 3)`.
    """

    where: str
    format: str
    counts: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]
    samples: tuple[tuple[tuple[str, np.ndarray], ...], ...] = field(default=(), repr=False)

    @property
    def errors(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)

    def text(self) -> str:
        from resnet_tasks.data import check_page

        return check_page.text(self)

    def html(self) -> str:
        from resnet_tasks.data import check_page

        return check_page.html(self)

    def to_json(self) -> dict:
        return {
            "where": self.where,
            "format": self.format,
            "counts": self.counts,
            "errors": self.errors,
            "findings": [
                {"level": finding.level, "what": finding.what, "files": list(finding.files)}
                for finding in self.findings
            ],
        }


@dataclass(frozen=True)
class _Picture:
    split: str
    file: str
    label: int
    taken: duplicates.Print


def check_classification(where: str | Mapping[str, str], **reading) -> Report:
    """Checks pictures with one class each; takes the arguments of `read_classification`, but for `on_bad_image`."""
    source = read_classification(where, on_bad_image="skip", **reading)
    pictures, broken = _decoded(source)
    findings = [Finding("note", note) for note in source.notes]
    findings += _unreadable(source, broken)
    findings += _classes(source)
    findings += _sizes(pictures)
    same, samples = _duplicates(source, pictures)
    findings += same
    names = source.labels.names
    return Report(
        where=source.where,
        format=source.format,
        counts={
            split: {name: int(count) for name, count in zip(names, _count(source, split), strict=True)}
            for split in source.splits
        },
        findings=tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level))),
        samples=samples,
    )


def _decoded(source: Source) -> tuple[list[_Picture], list[Problem]]:
    """Decodes every picture and keeps its print; and the problems of those that do not decode."""

    def look(place):
        split, index = place
        file = split.ids[index]
        try:
            taken = duplicates.take_print(decode.decode_array(split.read(index)))
        except formats.Unreadable as error:
            return Problem(file, str(error).removeprefix("picture: "))
        return _Picture(split.name, file, int(split.annotations["label"][index]), taken)

    places = [(split, index) for split in source.splits.values() for index in range(len(split))]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        looked = list(threads.map(look, places))
    return (
        [picture for picture in looked if isinstance(picture, _Picture)],
        [problem for problem in looked if isinstance(problem, Problem)],
    )


def _unreadable(source: Source, broken: list[Problem]) -> Iterator[Finding]:
    total = len(source.problems) + sum(map(len, source.splits.values()))
    problems = [*source.problems, *broken]
    if problems:
        level = "error" if len(problems) > _MOST_BAD * total else "warning"
        yield Finding(
            level,
            f"{len(problems)} of {total} pictures cannot be read ({len(problems) / total:.1%})",
            tuple(f"{problem.file}: {problem.what}" for problem in problems),
        )


def _count(source: Source, split: str) -> np.ndarray:
    return np.bincount(source.splits[split].annotations["label"], minlength=len(source.labels))


def _classes(source: Source) -> Iterator[Finding]:
    for split in source.splits:
        missing = [name for name, count in zip(source.labels.names, _count(source, split), strict=True) if not count]
        if missing:
            level = "error" if split == "train" else "warning"
            yield Finding(level, f"no picture in {split} of {len(missing)} of the classes: {_listed(missing)}")
    for split, lack in (("train", "nothing can be trained"), ("val", "no state can be chosen as the best")):
        if split not in source.splits:
            yield Finding("note", f"there is no split {split!r}: {lack}")
    if "train" not in source.splits:
        return
    counts = _count(source, "train")
    names = source.labels.names
    few = [f"{names[label]} ({counts[label]})" for label in np.flatnonzero((counts > 0) & (counts < _FEW))]
    if few:
        yield Finding("warning", f"fewer than {_FEW} pictures in train of {len(few)} of the classes: {_listed(few)}")
    present = counts[counts > 0]
    if present.max() > _IMBALANCE * present.min():
        large, small = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
        yield Finding(
            "warning",
            f"the classes of train are out of balance: {names[large]} has {counts[large]} pictures, "
            f"{names[small]} {counts[small]}; look at the balanced accuracy, or try data.balance",
        )


def _sizes(pictures: list[_Picture]) -> Iterator[Finding]:
    if not pictures:
        return
    sizes = np.array([picture.taken.size_hw for picture in pictures])
    short, long = sizes.min(axis=1), sizes.max(axis=1)
    middle = float(np.median(short))
    (low, high) = sizes[sizes.prod(axis=1).argmin()], sizes[sizes.prod(axis=1).argmax()]
    yield Finding(
        "note",
        f"sizes (height x width) from {low[0]}x{low[1]} to {high[0]}x{high[1]}, shorter side {middle:g} in the median",
    )
    for odd, what in (
        (short * _ODD_SIZE < middle, f"smaller than a {_ODD_SIZE}th of the median"),
        (short > middle * _ODD_SIZE, f"more than {_ODD_SIZE} times the median"),
        (long > short * _ODD_ASPECT, f"more than {_ODD_ASPECT} times as long as wide"),
    ):
        files = tuple(f"{pictures[place].file} ({sizes[place][0]}x{sizes[place][1]})" for place in np.flatnonzero(odd))
        if files:
            yield Finding("warning", f"odd sizes, {what}: {len(files)}", files)


def _duplicates(source: Source, pictures: list[_Picture]) -> tuple[list[Finding], tuple]:
    prints = [picture.taken for picture in pictures]
    same, alike = duplicates.exact(prints), duplicates.near(prints)
    across, within = _parted(same, lambda place: pictures[place].split)
    near_across, near_within = _parted(alike, lambda place: pictures[place].split)
    torn, _ = _parted(same, lambda place: pictures[place].label)
    leaked = [group for group in across if any(pictures[place].split == "train" for place in group)]
    held = [group for group in across if all(pictures[place].split != "train" for place in group)]
    nearly = (
        f"nearly the same picture (difference hashes at most {duplicates.NEAR_BITS} of 64 bits apart, "
        f"miniatures at most {duplicates.NEAR_LEVELS} of 255 levels)"
    )
    findings = []
    for level, groups, what in (
        ("error", leaked, "the same picture is in train and in another split, where its score says nothing"),
        ("warning", held, "the same picture is in val and in test"),
        ("warning", torn, "the same picture has different classes"),
        ("warning", near_across, f"{nearly} is in different splits"),
        ("warning", within, "the same picture stands twice in one split"),
        ("note", near_within, f"{nearly} stands twice in one split"),
    ):
        if groups:
            files = tuple(" = ".join(_called(source, pictures[place]) for place in group) for group in groups)
            findings.append(Finding(level, f"{what}: {len(groups)} times", files))
    shown = (leaked + torn + near_across + same + alike)[:_SHOWN_GROUPS]
    samples = tuple(
        tuple((_called(source, pictures[place]), pictures[place].taken.miniature) for place in group[:_SHOWN_OF_GROUP])
        for group in shown
    )
    return findings, samples


def _parted(groups: list[list[int]], of: Callable[[int], object]) -> tuple[list[list[int]], list[list[int]]]:
    """Returns the groups whose members differ in `of`, and those whose members agree."""
    differ = [group for group in groups if len({of(place) for place in group}) > 1]
    agree = [group for group in groups if len({of(place) for place in group}) == 1]
    return differ, agree


def _called(source: Source, picture: _Picture) -> str:
    return f"{picture.file} ({picture.split}, {source.labels.names[picture.label]})"


def _listed(names: list[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")
