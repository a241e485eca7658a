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
        alone: Whether a name that leads nowhere may mean the only picture that is called so.

    Attributes:
        folders: Those.
    """

    def __init__(self, paths: Sequence[str], folders: Sequence[Path], *, alone: bool = True):
        self.folders = tuple(dict.fromkeys(os.path.abspath(folder) for folder in folders))
        self._place: dict[str, int] = {}
        self._by_stem: dict[str, int] = {}
        by_last, by_two = defaultdict(list), defaultdict(list)
        for place, path in enumerate(paths):
            name = locate.composed(os.path.abspath(path))
            self._place[name] = place
            self._by_stem.setdefault(os.path.splitext(name)[0], place)
            by_last[os.path.basename(name)].append(place)
            by_two["/".join(Path(name).parts[-2:])].append(place)
        self._alone, self._alone_in_folder = (
            {name: of[0] for name, of in by_name.items() if alone and len(of) == 1} for by_name in (by_last, by_two)
        )

    def find(self, name: str) -> int | None:
        """Returns the place of a file: from one of the folders, absolute, or by what no other is called.

        That is its base name, or of a name with folders, which may be another's, the last of them too.
        """
        name = locate.composed(name.strip().replace("\\", "/"))
        for folder in self.folders:
            place = self._place.get(os.path.normpath(os.path.join(folder, name)))
            if place is not None:
                return place
        parts = [part for part in name.split("/") if part not in ("", ".")]
        return self._alone.get(name) if len(parts) < 2 else self._alone_in_folder.get("/".join(parts[-2:]))

    def find_stem(self, stem: str) -> int | None:
        """Returns the place of a file from one of the folders, whatever its suffix."""
        stem = locate.composed(stem)
        for folder in self.folders:
            place = self._by_stem.get(os.path.normpath(os.path.join(folder, stem)))
            if place is not None:
                return place
        return None
