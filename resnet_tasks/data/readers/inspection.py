"""A look at the first and last bytes of every file of a data set, and at the whole of those that look cut off."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from resnet_tasks.data import formats
from resnet_tasks.data.examples import Problem

# Threads wait for the disk or the network here, hardly for a processor.
_THREADS = 16
_NAMELESS = "its name is not in UTF-8; rename it"


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        readable: The places of the files that may be used.
        by_pillow: Those of them that TensorFlow cannot read.
        problems: The others, under the names given.
    """

    readable: tuple[int, ...]
    by_pillow: frozenset[int]
    problems: tuple[Problem, ...]


def inspect(paths: Sequence[str], names: Sequence[str]) -> Inspection:
    """Looks at the files `paths`, which reports call `names`; one whose name no report can hold may not be used."""
    written = [name.encode(errors="backslashreplace").decode() for name in names]
    with ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(_look, paths))
    found = [what if name == names[place] else _NAMELESS for place, (what, name) in enumerate(zip(found, written))]
    return Inspection(
        readable=tuple(place for place, kind in enumerate(found) if isinstance(kind, formats.Kind)),
        by_pillow=frozenset(
            place for place, kind in enumerate(found) if isinstance(kind, formats.Kind) and kind.by_pillow
        ),
        problems=tuple(
            Problem(file=written[place], what=what) for place, what in enumerate(found) if isinstance(what, str)
        ),
    )


def _look(path: str) -> formats.Kind | str:
    """Returns what a file is, or why it cannot be read."""
    try:
        kind = formats.kind_of(path)
        if not kind.complete:
            # Some phones append a film to a whole picture: only decoding tells that from a cut.
            from resnet_tasks.data import decode

            decode.decode_array(path)
        return kind
    except formats.Unreadable as error:
        return str(error).removeprefix(f"{path}: ")
