"""The rows that a reader left out or cut, from what it says of each."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from resnet_tasks.data.check_report import Finding
from resnet_tasks.data.examples import Problem, Source

_MOST_DROPPED = 0.05  # of the rows; training stops above it
_MOST_CLIPPED = 0.05  # of the rows, above which it is a warning
# The words that a reader begins its reasons with, and what they mean.
_KINDS = {
    "turned": "right lies left of left, or bottom above top (a negative width or height)",
    "empty": "a side is shorter than one pixel",
    "outside": "no part lies in the picture",
    "not finite": "a number is NaN or infinite",
    "unknown class": "the source defines no such class",
    "no box": "a row does not hold the four numbers of one",
    "no such picture": "the source lists no such picture",
}
_KIND = re.compile(rf"(?:^|: )({'|'.join(_KINDS)})\b")
# How `readers.box_rows` writes the corners of a row; what is not finite does not match.
_CORNERS = re.compile(", ".join(rf"{side} (-?[\d.]+(?:e[+-]?\d+)?)" for side in ("left", "top", "right", "bottom")))


def row_findings(source: Source) -> Iterator[Finding]:
    """Names the rows that were left out, kind by kind, those that were cut, and pictures of an unexpected size."""
    yield from _left_out(source)
    yield from _disagreeing(source)


def kind_of(problem: Problem) -> str | None:
    """Returns the kind of a dropped row, one of the words in `_KINDS`."""
    found = _KIND.search(problem.what)
    return found and found.group(1)


def corners_of(problem: Problem) -> np.ndarray | None:
    """Reads the corners of a row that was left out from its message, put in order; `None` where they are not finite."""
    found = _CORNERS.search(problem.what)
    if found is None:
        return None
    x0, y0, x1, y1 = map(float, found.groups())
    return np.array([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)])


def _left_out(source: Source) -> Iterator[Finding]:
    """Names the rows that were left out, kind by kind, and those that were cut."""
    if source.rows is None:
        return
    total, dropped, clipped = source.rows.total, source.rows.dropped, source.rows.clipped
    level = "error" if len(dropped) > _MOST_DROPPED * total else "warning"
    if level == "error":
        yield Finding(
            "error",
            f"{len(dropped)} of {total} boxes cannot be used ({len(dropped) / total:.1%}); "
            f"training stops above {_MOST_DROPPED:.0%}",
        )
    kinds: dict[str | None, list[Problem]] = defaultdict(list)
    for problem in dropped:
        kinds[kind_of(problem)].append(problem)
    for kind, problems in kinds.items():
        what = f"{kind}: {_KINDS[kind]}" if kind else "left out for other reasons"
        yield Finding(level, f"{what}: {len(problems)} of {total} boxes", _named(problems))
    if clipped:
        many = len(clipped) > _MOST_CLIPPED * total
        yield Finding(
            "warning" if many else "note",
            f"boxes that reach over the picture's border, and are cut there: {len(clipped)} of {total}"
            + ("; look whether they are read in the right order and unit" if many else ""),
            _named(clipped),
        )


def _disagreeing(source: Source) -> Iterator[Finding]:
    if source.disagree:
        yield Finding(
            "warning",
            f"pictures of another size than their annotation says: {len(source.disagree)}; their boxes are taken as "
            "they are written, in pixels of the upright picture: look whether they fit",
            _named(source.disagree),
        )


def _named(problems: Sequence[Problem]) -> tuple[str, ...]:
    return tuple(f"{problem.file}: {problem.what}" for problem in problems)
