"""Which picture of a data set a list means (of pairs, of landmarks), by the names that lists give."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from resnet_tasks.data.readers import locate


class Places:
    """The places of pictures by their names; `/` and `\\` are alike, and so are composed and decomposed accents.

    Args:
        paths: The pictures' files.
        folders: Where a name may start from, the likeliest first.

    Attributes:
        folders: Those.
    """

    def __init__(self, paths: Sequence[str], folders: Sequence[Path]):
        self.folders = tuple(dict.fromkeys(os.path.abspath(folder) for folder in folders))
        self._place: dict[str, int] = {}
        self._by_stem: dict[str, int] = {}
        by_last = defaultdict(list)
        for place, path in enumerate(paths):
            name = locate.composed(os.path.abspath(path))
            self._place[name] = place
            self._by_stem.setdefault(os.path.splitext(name)[0], place)
            by_last[os.path.basename(name)].append(place)
        self._alone = {name: of[0] for name, of in by_last.items() if len(of) == 1}

    def find(self, name: str) -> int | None:
        """Returns the place of a file: from one of the folders, absolute, or by a base name that no other has."""
        name = locate.composed(name.strip().replace("\\", "/"))
        for folder in self.folders:
            place = self._place.get(os.path.normpath(os.path.join(folder, name)))
            if place is not None:
                return place
        return self._alone.get(name.rpartition("/")[2])

    def find_stem(self, stem: str) -> int | None:
        """Returns the place of a file from one of the folders, whatever its suffix."""
        stem = locate.composed(stem)
        for folder in self.folders:
            place = self._by_stem.get(os.path.normpath(os.path.join(folder, stem)))
            if place is not None:
                return place
        return None
