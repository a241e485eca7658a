"""Which format of boxes it is that the user named, by its name and by what lies in it."""

import re
from collections.abc import Sequence
from pathlib import Path

from resnet_tasks.data import formats
from resnet_tasks.data.readers import coco_layout, splits, voc_layout
from resnet_tasks.errors import DataError, UsageError

EXPECTED = "a folder, a .json (COCO), .yaml (YOLO) or .csv file, tfds:NAME or digits expected"
_BY_SUFFIX = {".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".csv": "csv", ".tsv": "csv"}
_TABLES = (".csv", ".tsv")
_NAMES = re.compile(rb"""^["']?names["']?\s*:""", re.MULTILINE)  # of the classes, in YOLO's data.yaml


def find(where: str) -> str:
    """Returns the format of what the user named: "coco", "voc", "yolo", "csv", "tfds" or "digits".

    Raises:
        UsageError: It does not exist, is no such file, or is a folder of two formats.
        DataError: A folder without annotations.
    """
    path = Path(where).expanduser()
    if where.startswith("tfds:"):
        return "tfds"
    if where == "digits" and not path.exists():
        return "digits"
    if not path.exists():
        raise UsageError(f"{where} does not exist; {EXPECTED}")
    if path.is_dir():
        return _of_folder(path)
    if path.suffix.lower() in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix.lower()]
    raise UsageError(f"{where}: {EXPECTED}")


def _of_folder(where: Path) -> str:
    folders = (where, *_below(where))
    signs = {"coco": coco_layout.has_files(where), "voc": voc_layout.has_files(where), "yolo": _is_yolo(folders)}
    found = [name for name, is_it in signs.items() if is_it]
    if len(found) > 1:
        raise UsageError(
            f"{where} looks like {' and like '.join(found)}; say which is meant (--data-format {found[0]}), or "
            "name the annotation file"
        )
    if found:
        return found[0]
    # What may lie in a folder by chance counts only where nothing else does.
    if any(_holds(each, ".json") for each in folders):
        return "coco"
    if any(_tables(each) for each in folders):
        return "csv"
    if any(_pairs(each) for each in (*folders, *(inner for each in folders for inner in _below(each)))):
        return "yolo"
    raise DataError(
        f"{where}: no annotations found; expected COCO's JSON (instances_train.json), Pascal VOC's XML "
        "(Annotations/1.xml), YOLO's text files (labels/train/1.txt) or a CSV file with a row a box"
    )


def csv_files(where: Path) -> dict[str, Path]:
    """Returns the CSV files of a folder by their splits, `train.csv` or `train/_annotations.csv`; or one alone, by "".

    Raises:
        DataError: It cannot be told which are meant.
    """
    inside = _tables(where)
    named = {split: path for path in inside if (split := splits.split_name(path.stem))}
    below = [
        (split, path) for each in _below(where) if (split := splits.split_name(each.name)) for path in _tables(each)
    ]
    for found in (named, dict(below) if len(dict(below)) == len(below) else {}):
        if found:
            return found
    if len(inside) == 1:
        return {"": inside[0]}
    held = ", ".join(path.relative_to(where).as_posix() for path in (*inside, *(path for _, path in below)))
    raise DataError(
        f"{where}: one CSV file for each split was expected, train.csv and val.csv, or one alone; "
        f"found {held or 'none'}"
    )


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _TABLES)


def _is_yolo(folders: Sequence[Path]) -> bool:
    """Whether there is a YAML file that names classes, or a folder of labels."""
    configs = [path for path in folders[0].iterdir() if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    labels = [each / "labels" for each in folders if (each / "labels").is_dir()]
    return any(_NAMES.search(path.read_bytes()) for path in configs) or any(
        _holds(folder, ".txt") for each in labels for folder in (each, *_below(each))
    )


def _holds(folder: Path, suffix: str) -> bool:
    return any(path.suffix.lower() == suffix for path in folder.iterdir())


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pairs(folder: Path) -> bool:
    """Whether a picture has a text file of its name beside it, as YOLO's labels may lie."""
    names = [(path.stem, path.suffix.lower()) for path in folder.iterdir()]
    texts = {stem for stem, suffix in names if suffix == ".txt"}
    return any(stem in texts for stem, suffix in names if suffix in formats.SUFFIXES)
