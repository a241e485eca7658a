"""A folder an identity: `WHERE/anna/1.jpg`, or with split folders `WHERE/train/anna/1.jpg`.

In the folder or beside it may lie a list of pairs (`readers/face_pairs.py`) and `landmarks.csv`
(`readers/face_landmarks.py`).
"""

import unicodedata
from pathlib import Path

import numpy as np

from resnet_tasks.data import formats
from resnet_tasks.data.examples import Split
from resnet_tasks.data.readers import face_landmarks, face_pairs, folders, inspection, splits
from resnet_tasks.data.readers.boxes import some
from resnet_tasks.data.readers.identities import Found
from resnet_tasks.data.readers.picture_places import Places
from resnet_tasks.errors import DataError

LISTS = (".csv", ".tsv", ".txt")
_NOT_ALIGNED = "the pictures are used as they are, not aligned; each should show one face, aligned"


def read(where: Path, *, images: str | None = None, split: str | None = None) -> Found:
    """Reads the index of a folder of identity folders, whatever lies below each of them included.

    Args:
        where: The folder; or a list of pairs, whose identity folders lie in `images` or else beside it.
        images: Also where the names in lists may start from.
        split: The split that all is given for: a list of pairs is read for val and test alone, and one beside the
            folder, which may be another's, for test.

    Raises:
        DataError: No identity folders, no picture in them, or a list that cannot be read.
    """
    root = where
    if where.is_file():
        root = Path(images).expanduser() if images else where.absolute().parent
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; a folder of identity folders was expected")
    pictures, identities, sides, empty, others = _walked(root)
    if not pictures:
        found = f"its identity folders are empty{some(empty)}" if empty else "it holds no identity folder"
        raise DataError(
            f"{root}: no pictures found, {found}; a folder for each was expected, such as {root / 'anna' / '1.jpg'}"
        )
    names = [unicodedata.normalize("NFC", path.relative_to(root).as_posix()) for path in pictures]
    order = sorted(range(len(names)), key=lambda place: splits.natural(names[place]))
    paths, ids = [str(pictures[place]) for place in order], tuple(names[place] for place in order)
    looked = inspection.inspect(paths, ids)
    notes = [f"a folder an identity: {len(ids)} pictures of {len(set(identities))} identities"]
    if others:
        notes.append(f"left out, in no identity folder or without a picture's suffix: {len(others)}{some(others)}")
    starts = [root, *(folder for _, folder in folders._split_folders(root))]
    if images:
        starts.insert(0, Path(images).expanduser())
    notes += _unread(root)
    listed, of_list = _pairs(where, root, split, paths, starts)
    landmarks, of_landmarks = _landmarks(root, paths, starts)
    return Found(
        where=str(where),
        format="folder",
        whole=Split(name="all", ids=ids, paths=tuple(paths), by_pillow=looked.by_pillow),
        identities=tuple(identities[place] for place in order),
        readable=looked.readable,
        problems=looked.problems,
        sides=tuple(sides[place] for place in order) if any(sides) else None,
        landmarks=landmarks,
        listed=listed,
        empty=tuple(empty),
        notes=(*notes, *of_list, *of_landmarks),
    )


def _walked(root: Path) -> tuple[list[Path], list[str], list[str | None], list[str], list[str]]:
    """Returns the pictures, of each the identity and the split folder; the identities without one; and other files."""
    pictures, identities, sides, empty, others = [], [], [], [], []
    lists = (*face_pairs.FILES, face_landmarks.FILE)
    parts = folders._split_folders(root)
    for split, folder in parts:
        for identity in folders._folders(folder):
            name, before = unicodedata.normalize("NFC", identity.name), len(pictures)
            for path in folders._walk(identity):
                if path.suffix.lower() in formats.SUFFIXES:
                    pictures.append(path)
                    identities.append(name)
                    sides.append(split)
                else:
                    others.append(path.relative_to(root).as_posix())
            if len(pictures) == before:
                empty.append(identity.relative_to(root).as_posix())
    for folder in dict.fromkeys((root, *(folder for _, folder in parts))):
        flat = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in lists)
        others += [(folder / name).relative_to(root).as_posix() for name in flat if not folders._is_litter(name)]
    return pictures, identities, sides, empty, others


def _unread(root: Path) -> list[str]:
    """Returns what is to be said of lists that lie in split folders."""
    names = (*face_pairs.FILES, face_landmarks.FILE)
    folders_of_splits = [folder for split, folder in folders._split_folders(root) if split]
    lying = [f"{folder.name}/{name}" for folder in folders_of_splits for name in names if (folder / name).is_file()]
    if not lying:
        return []
    return [f"not used, for lists are read from {root} alone, with names that start there: {', '.join(lying)}"]


def _unrelated(file: Path) -> str:
    return f"{file} lies beside the folder, names none of its pictures, and is not used"


def _pairs(
    where: Path, root: Path, split: str | None, paths: list[str], starts: list[Path]
) -> tuple[face_pairs.Listed | None, list[str]]:
    """Returns the pairs of a list, or None, and what is to be said of other lists."""
    file, others = (where, ()) if where.is_file() else face_pairs.find(root, beside=split in (None, "test"))
    if file is None or split == "train":
        return None, []
    unused = [f"{other.name} is not used, but {file.name}" for other in others]
    listed = face_pairs.read(file, Places(paths, [*starts, file.parent]))
    if not len(listed.rows) and file != where and file.parent != root:
        return None, [_unrelated(file)]
    return listed, unused


def _landmarks(root: Path, paths: list[str], starts: list[Path]) -> tuple[np.ndarray | None, list[str]]:
    """Returns the landmarks, or None, and what is to be said of them."""
    file = face_landmarks.find(root)
    if file is None:
        return None, [f"no landmarks.csv: {_NOT_ALIGNED}"]
    try:
        points, unknown = face_landmarks.read(file, Places(paths, [*starts, file.parent]), len(paths))
    except face_landmarks.Unrelated:
        if file.parent == root:
            raise
        return None, [_unrelated(file), _NOT_ALIGNED]
    without = int(np.isnan(points).any(axis=(1, 2)).sum())
    said = [f"landmarks of {len(paths) - without} of {len(paths)} pictures, from {file.name}: these are aligned"]
    if without:
        said.append(f"{without} pictures without landmarks are used as they are, not aligned")
    if unknown:
        said.append(f"{file.name} names {len(unknown)} files that are not there{some(unknown)}")
    return points, said
