"""What is checked of pictures whatever is said of them: whether they decode, their sizes, duplicates."""

import os
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from resnet_tasks.data import decode, duplicates, formats
from resnet_tasks.data.check_report import Finding
from resnet_tasks.data.examples import Problem, Source, Split

_MOST_BAD = 0.01  # of the pictures; training stops above it too
_ODD_SIZE = 4  # times the median of the shorter sides, or a part of it
_ODD_ASPECT = 4  # the longer side over the shorter
_SHOWN_GROUPS, _SHOWN_OF_GROUP = 24, 4  # of duplicates, with their miniatures
_MISSING = "missing"  # how a reader's problem begins where there is no file


@dataclass(frozen=True)
class Picture:
    """A picture that decodes.

    Attributes:
        split: Its split's name.
        index: Its place there.
        file: Its file as people know it.
        taken: Its print.
        truth: What its annotation says; equal pictures should agree in it.
        said: That in words.
    """

    split: str
    index: int
    file: str
    taken: duplicates.Print
    truth: Hashable
    said: str


def decoded(source: Source, said: Callable[[Split, int], tuple[Hashable, str]]) -> tuple[list[Picture], list[Problem]]:
    """Decodes every picture and keeps its print; and the problems of those that do not decode.

    Args:
        source: As a reader found it.
        said: What the annotation of a split's picture says, as a value to compare and in words.
    """

    def look(place: tuple[Split, int]) -> Picture | Problem:
        split, index = place
        file = split.ids[index]
        try:
            taken = duplicates.take_print(decode.decode_array(split.read(index)))
        except formats.Unreadable as error:
            return Problem(file, str(error).removeprefix("picture: "))
        return Picture(split.name, index, file, taken, *said(split, index))

    places = [(split, index) for split in source.splits.values() for index in range(len(split))]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        looked = list(threads.map(look, places))
    return (
        [picture for picture in looked if isinstance(picture, Picture)],
        [problem for problem in looked if isinstance(problem, Problem)],
    )


def notes(source: Source) -> Iterator[Finding]:
    """What the reader has to say, but for the sentences that quote a problem: the findings name all of these."""
    of_rows = (*source.rows.dropped, *source.rows.clipped) if source.rows else ()
    of_pairs = source.pairs.dropped if source.pairs else ()
    told = [problem.what for problem in (*source.problems, *source.disagree, *of_rows, *of_pairs)]
    for note in source.notes:
        if not any(what in note for what in told):
            yield Finding("note", note)


def unreadable(source: Source, broken: list[Problem]) -> Iterator[Finding]:
    """Names the files that are missing and those that cannot be read, `broken` among them."""
    total = len(source.problems) + sum(map(len, source.splits.values()))
    problems = [*source.problems, *broken]
    level = "error" if len(problems) > _MOST_BAD * total else "warning"
    parts: dict[bool, list[Problem]] = {True: [], False: []}
    for problem in problems:
        parts[problem.what.startswith(_MISSING)].append(problem)
    for is_missing, some in parts.items():
        what = "are annotated and missing" if is_missing else "cannot be read"
        if some:
            yield Finding(
                level,
                f"{len(some)} of {total} pictures {what} ({len(some) / total:.1%})",
                tuple(f"{problem.file}: {problem.what}" for problem in some),
            )


def odd_sizes(pictures: list[Picture]) -> Iterator[Finding]:
    """Says how large the pictures are, and names those that are unlike the others."""
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


def duplicated(pictures: list[Picture], truths: str) -> tuple[list[Finding], tuple]:
    """Finds equal and nearly equal pictures within and between splits.

    Args:
        pictures: All that decode.
        truths: What their annotations hold: "classes", "boxes" or "masks".

    Returns:
        The findings, and groups to show as in `Report.samples`.
    """
    prints = [picture.taken for picture in pictures]
    same, alike = duplicates.exact(prints), duplicates.near(prints)
    across, within = _parted(same, lambda place: pictures[place].split)
    near_across, near_within = _parted(alike, lambda place: pictures[place].split)
    torn, _ = _parted(same, lambda place: pictures[place].truth)
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
        ("warning", torn, f"the same picture has different {truths}"),
        ("warning", near_across, f"{nearly} is in different splits"),
        ("warning", within, "the same picture stands twice in one split"),
        ("note", near_within, f"{nearly} stands twice in one split"),
    ):
        if groups:
            files = tuple(" = ".join(_called(pictures[place]) for place in group) for group in groups)
            findings.append(Finding(level, f"{what}: {len(groups)} times", files))
    shown = (leaked + torn + near_across + same + alike)[:_SHOWN_GROUPS]
    samples = tuple(
        tuple((_called(pictures[place]), pictures[place].taken.miniature) for place in group[:_SHOWN_OF_GROUP])
        for group in shown
    )
    return findings, samples


def _parted(groups: list[list[int]], of: Callable[[int], object]) -> tuple[list[list[int]], list[list[int]]]:
    """Returns the groups whose members differ in `of`, and those whose members agree."""
    differ = [group for group in groups if len({of(place) for place in group}) > 1]
    agree = [group for group in groups if len({of(place) for place in group}) == 1]
    return differ, agree


def _called(picture: Picture) -> str:
    return f"{picture.file} ({picture.split}, {picture.said})"
