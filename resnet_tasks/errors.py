"""What can go wrong, and the exit code that says so.

Every error that a user can cause or meet is one of these; its message names the culprit (a file, a key), what was
expected, and what to do.  The command line prints the message and exits with `exit_code`, without a traceback.
"""

import difflib
from collections.abc import Iterable


class ResnetTasksError(Exception):
    """It broke while running."""

    exit_code = 1


class UsageError(ResnetTasksError):
    """The command, the recipe, or a path that does not exist."""

    exit_code = 2


class DataError(ResnetTasksError):
    """The data or the weights."""

    exit_code = 3


class ParityError(ResnetTasksError):
    """The exported artefact disagrees with the model it was made from."""

    exit_code = 4


class DivergedError(ResnetTasksError):
    """Training diverged: a loss or a gradient is no longer finite."""

    exit_code = 5


class Interrupted(ResnetTasksError):
    """A signal asked the run to stop; a checkpoint was written."""

    exit_code = 6


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the known word nearest to `word`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
