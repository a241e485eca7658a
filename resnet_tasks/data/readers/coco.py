"""COCO's JSON: pictures, boxes with ids, sparsely numbered categories, crowds."""

import json
import math
import reprlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from resnet_tasks.data.examples import LabelMap, Problem, Source
from resnet_tasks.data.readers import classes, coco_layout
from resnet_tasks.data.readers.boxes import Categories, Picture, Row, assemble
from resnet_tasks.data.readers.coco_layout import AnnotationFile
from resnet_tasks.data.readers.locate import Locator
from resnet_tasks.errors import DataError, UsageError

_LISTS = ("images", "annotations", "categories")


def read(where: Path | str, *, images: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads the boxes of COCO's JSON files; polygons and keypoints are passed by.

    Args:
        where: A JSON file, or a folder with one for each split: in itself, in `annotations/`, or in folders for the
            splits. A single file whose name says no split is split 80/10/10.
        images: The folder that the pictures' names start from.
        split_seed: Seeds the split of such a file.
        group: A regular expression on the pictures' names, for such a file.

    Raises:
        UsageError: `images` is no folder.
        DataError: No such file, not COCO's JSON, or classes that are numbered differently in two files.
    """
    where = Path(where)
    if images and not Path(images).is_dir():
        raise UsageError(f"--images {images} does not exist, or is no folder")
    files = [coco_layout.of_file(where)] if where.is_file() else coco_layout.annotation_files(where)
    folder = where.parent if where.is_file() else where
    root = folder.parent if folder.name.lower() == "annotations" else folder
    documents = [_load(file.path) for file in files]
    categories = _categories(files, documents)
    locator = Locator(Path(images) if images else root)
    pictures: list[Picture] = []
    lost: list[Problem] = []
    for file, document in zip(files, documents):
        rows = _rows(file, document, lost)
        pictures += _pictures(file, document, rows, locator, coco_layout.places(file, root, images))
    named = ", ".join(file.path.relative_to(folder).as_posix() for file in files)
    return assemble(
        where,
        "coco",
        pictures,
        categories,
        split_seed=split_seed,
        group=group,
        notes=(f"COCO's JSON ({named}): {len(categories.labels)} classes",),
        lost=lost,
    )


def _load(path: Path, hook: Callable[[dict], dict] | None = None) -> dict[str, list]:
    """Parses a file; `hook` takes each object as it is parsed, without one polygons and keypoints are dropped."""
    try:
        document = json.loads(path.read_bytes(), object_hook=hook or _lean)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); a COCO file was expected") from None
    if not isinstance(document, dict) or any(not isinstance(document.get(key), list) for key in _LISTS):
        held = f"an object with {', '.join(map(repr, document)) or 'nothing'}" if isinstance(document, dict) else None
        raise DataError(
            f"{path}: not COCO's: an object with the lists {', '.join(_LISTS)} was expected, it is "
            f"{held or f'a {type(document).__name__}'}"
        )
    return document


def _lean(value: dict) -> dict:
    """Drops what is not read while the file is parsed: nine tenths of COCO's files are polygons."""
    value.pop("segmentation", None)
    value.pop("keypoints", None)
    return value


def _categories(files: Sequence[AnnotationFile], documents: Sequence[dict]) -> Categories:
    used = {_key(row.get("category_id")) for each in documents for row in each["annotations"] if isinstance(row, dict)}
    maps = {}
    for file, document in zip(files, documents):
        names: dict[Hashable, str] = {}
        for place, entry in enumerate(document["categories"]):
            if not isinstance(entry, dict) or "id" not in entry or "name" not in entry:
                raise DataError(f"{file.path}: entry {place} of categories has no id or no name")
            key, name = _key(entry["id"]), str(entry["name"]).strip()
            if names.setdefault(key, name) != name:
                raise DataError(f"{file.path}: two categories have the id {key!r}: {names[key]!r} and {name!r}")
        ids: dict[str, Hashable] = {}
        # Roboflow repeats a class's name for its group, with an id that no box has: ids in use come first.
        for key in sorted(names, key=lambda key: (key not in used, classes.order(key))):
            if ids.setdefault(names[key], key) != key and key in used:
                raise DataError(
                    f"{file.path}: two categories have the name {names[key]!r}, ids {ids[names[key]]!r} and {key!r}, "
                    "and both have boxes; give them one id, or two names"
                )
        ordered = sorted(ids, key=lambda name: classes.order(ids[name]))
        maps[str(file.path)] = LabelMap(names=tuple(ordered), source_ids=tuple(ids[name] for name in ordered))
    labels = classes.agreed(maps)
    if not labels.names:
        raise DataError(f"{files[0].path}: no categories")
    return Categories(labels, {key: place for place, key in enumerate(labels.source_ids)})


def _names(file: AnnotationFile, document: dict) -> dict[Hashable, str]:
    """Returns the pictures' files by their ids."""
    names: dict[Hashable, str] = {}
    for place, entry in enumerate(document["images"]):
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
            raise DataError(f"{file.path}: entry {place} of images has no id or no file_name")
        key = _key(entry["id"])
        if key in names:
            raise DataError(f"{file.path}: two images have the id {key!r}: {names[key]} and {entry['file_name']}")
        names[key] = entry["file_name"]
    return names


def _rows(file: AnnotationFile, document: dict, lost: list[Problem]) -> dict[Hashable, list[Row]]:
    """Returns the rows by their pictures' ids; those that have no picture or no box are added to `lost`."""
    names, rows = _names(file, document), defaultdict(list)
    for place, entry in enumerate(document["annotations"]):
        entry = entry if isinstance(entry, dict) else {}
        called = f"annotation {entry['id']}" if "id" in entry else f"entry {place} of annotations"
        picture, box = _key(entry.get("image_id")), _box(entry.get("bbox"))
        if picture not in names:
            lost.append(Problem(file.path.name, f"{called}: no such picture, image_id {picture!r}"))
        elif box is None:
            lost.append(Problem(names[picture], f"{called}: no box, bbox {reprlib.repr(entry.get('bbox'))}"))
        else:
            crowd, area = entry.get("iscrowd") in (1, "1"), entry.get("area")
            kept = float(area) if _is_number(area) and area >= 0 else None
            rows[picture].append(Row(box, _key(entry.get("category_id")), called, crowd, kept))
    return rows


def _pictures(
    file: AnnotationFile,
    document: dict,
    rows: Mapping[Hashable, Sequence[Row]],
    locator: Locator,
    places: Sequence[Path],
) -> Iterator[Picture]:
    for entry in document["images"]:
        key = _key(entry["id"])
        found = locator.find(entry["file_name"], places)
        size = entry.get("height"), entry.get("width")
        yield Picture(
            name=file.within + entry["file_name"].replace("\\", "/"),
            path=found.path,
            rows=tuple(rows.get(key, ())),
            split=file.split,
            image_id=int(key) if isinstance(key, float) and key.is_integer() else key,
            annotated_hw=(int(size[0]), int(size[1])) if all(map(_is_number, size)) else None,
            tried=found.tried,
            guessed=found.guessed,
        )


def _box(bbox: Any) -> tuple[float, float, float, float] | None:
    """Returns COCO's left, top, width and height as xyxy; None if they are not four numbers."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(isinstance(v, (int, float)) for v in bbox):
        return None
    try:
        left, top, width, height = map(float, bbox)
    except OverflowError:
        return math.inf, math.inf, math.inf, math.inf
    return left, top, left + width, top + height


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and abs(value) < 1e300


def _key(value: Any) -> Hashable:
    return value if isinstance(value, Hashable) else repr(value)
