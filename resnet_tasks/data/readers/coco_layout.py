"""Where COCO's JSON files lie, one for each split or one for all, and where their pictures may."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_tasks.data.readers import splits
from resnet_tasks.errors import DataError

# Files that COCO itself ships beside its boxes, without any.
_WITHOUT_BOXES = re.compile(r"captions|panoptic|stuff|image_info", re.IGNORECASE)
_SPLIT_WORDS = ("train", "training", "val", "valid", "validation", "test", "testing")
_ROBOFLOW = "_annotations.coco.json"


@dataclass(frozen=True)
class AnnotationFile:
    """One JSON file.

    Attributes:
        path: The file.
        split: "train", "val", "test", or `None` where its name says none.
        word: How its name says it, as the pictures' folder may be called: "train2017".
        within: The split's folder that it lies in, "train/", which its pictures' names then begin with; or nothing.
    """

    path: Path
    split: str | None = None
    word: str = ""
    within: str = ""


def annotation_files(where: Path) -> list[AnnotationFile]:
    """Returns the JSON files of a folder, one for each split or one for all.

    Raises:
        DataError: There is none, or it cannot be told which are meant.
    """
    for folder in _annotation_folders(where):
        found = [of_file(path) for path in _json_files(folder)]
        found = [file for file in found if file.split]
        # COCO's own names win: person_keypoints_train2017.json has some of the same boxes once more.
        found = [file for file in found if file.path.name.startswith("instances")] or found
        if found:
            return _of_splits(where, found)
    found = []
    for folder in sorted(path for path in where.iterdir() if path.is_dir() and splits.split_name(path.name)):
        inside = _json_files(folder)
        inside = [path for path in inside if path.name == _ROBOFLOW] or inside
        found += [_in_its_split(path) for path in inside]
    if found:
        return _of_splits(where, found)
    alone = [path for folder in _annotation_folders(where) for path in _json_files(folder)]
    if len(alone) == 1:
        return [AnnotationFile(alone[0])]
    held = f"these: {', '.join(path.name for path in alone[:10])}" if alone else "none"
    raise DataError(
        f"{where}: one JSON file for each split was expected, such as instances_train.json or train/{_ROBOFLOW}, "
        f"or one alone; found {held}; name one file, or --data train=FILE --data val=FILE"
    )


def has_files(where: Path) -> bool:
    """Whether a folder holds JSON files that are named as COCO's for a split are."""
    named = [path for folder in _annotation_folders(where) for path in _json_files(folder)]
    below = [path / _ROBOFLOW for path in where.iterdir() if splits.split_name(path.name)]
    return any(of_file(path).split for path in named) or any(path.is_file() for path in below)


def _of_splits(where: Path, files: list[AnnotationFile]) -> list[AnnotationFile]:
    """Returns the files in the order of the splits; where there is nothing but train, it is no split but the whole."""
    for name in splits.NAMES:
        same = [file.path.relative_to(where).as_posix() for file in files if file.split == name]
        if len(same) > 1:
            raise DataError(f"{where}: {len(same)} files for {name}: {', '.join(same)}; name one: --data {name}=FILE")
    if [file.split for file in files] == ["train"]:
        return [replace(files[0], split=None)]
    return sorted(files, key=lambda file: splits.NAMES.index(file.split or "train"))


def _annotation_folders(where: Path) -> list[Path]:
    return [where, *(path for path in sorted(where.iterdir()) if path.is_dir() and path.name.lower() == "annotations")]


def _json_files(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix.lower() == ".json" and not path.name.startswith("."))
    return sorted(path for path in found if not _WITHOUT_BOXES.search(path.stem))


def of_file(path: Path) -> AnnotationFile:
    """Reads a split out of a file's name; out of its folder's for the one name that never says it."""
    words = {}
    for word in re.split(r"[^A-Za-z0-9]+", path.stem):
        split = splits.split_name(re.sub(r"\d{4}$", "", word))  # without a year
        if split:
            words[split] = word
    if len(words) == 1:
        ((split, word),) = words.items()
        return AnnotationFile(path, split, word)
    return _in_its_split(path) if path.name == _ROBOFLOW else AnnotationFile(path)


def _in_its_split(path: Path) -> AnnotationFile:
    folder = path.resolve().parent.name
    return AnnotationFile(path, splits.split_name(folder), folder, f"{folder}/")


def places(file: AnnotationFile, root: Path, images: str | None) -> list[Path]:
    """Returns where the pictures of a file may lie, the likeliest first."""
    starts = [*([Path(images)] if images else []), file.path.parent, root]
    split = splits.split_name(re.sub(r"\d{4}$", "", file.word))
    words = dict.fromkeys((file.word, *(word for word in _SPLIT_WORDS if splits.split_name(word) == split)))
    words.pop("", None)
    return [
        *starts,
        *(start / "images" for start in starts),
        *(start / word for word in words for start in starts),
        *(start / "images" / word for word in words for start in starts),
    ]
