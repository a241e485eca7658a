"""COCO's JSON as masks: the polygons and run lengths of each picture drawn together, drawn anew whenever it is read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.data.formats import Unreadable
from resnet_tasks.data.readers import coco, coco_layout, coco_shapes, sizes
from resnet_tasks.data.readers.coco_layout import AnnotationFile
from resnet_tasks.data.readers.coco_shapes import Thing
from resnet_tasks.data.readers.locate import Locator
from resnet_tasks.data.readers.pairs_of_masks import Classes, Pair, UnknownIds, assemble
from resnet_tasks.errors import DataError, UsageError

BACKGROUND = "background"
_MOST_PIXELS = 2**28  # of a mask; a size in the JSON is only what somebody wrote


@dataclass(frozen=True, eq=False)
class _Drawing:
    """What the mask of a picture is drawn from.

    Attributes:
        things: Its annotations.
        size_hw: Height and width, as the JSON has them.
        path: The picture, whose own size is taken where the JSON has none.
    """

    things: tuple[Thing, ...]
    size_hw: tuple[int, int] | None
    path: str | None


def read(where: Path | str, *, images: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads the masks of COCO's JSON files: background is 0, crowds are void where nothing else is.

    Args:
        where: A JSON file, or a folder with one for each split: in itself, in `annotations/`, or in folders for the
            splits. A single file whose name says no split is split 80/10/10.
        images: The folder that the pictures' names start from.
        split_seed: Seeds the split of such a file.
        group: A regular expression on the pictures' names, for such a file.

    Raises:
        UsageError: `images` is no folder.
        DataError: No such file, not COCO's JSON, boxes without masks, classes that are numbered differently in two
            files, or more than 254 of them.
    """
    where = Path(where)
    if images and not Path(images).is_dir():
        raise UsageError(f"--images {images} does not exist, or is no folder")
    files = [coco_layout.of_file(where)] if where.is_file() else coco_layout.annotation_files(where)
    folder = where.parent if where.is_file() else where
    root = folder.parent if folder.name.lower() == "annotations" else folder
    documents = [coco._load(file.path, coco_shapes.compact) for file in files]
    _refuse_boxes(files, documents)
    labels, ids = _labels(files, documents)
    locator = Locator(Path(images) if images else root)
    pairs: list[Pair] = []
    astray = 0
    for file, document in zip(files, documents):
        things = _things(document)
        astray += sum(map(len, things.values()))
        pairs += _pairs(file, document, things, locator, coco_layout.places(file, root, images))
        astray -= sum(len(things.get(coco._key(entry["id"]), ())) for entry in document["images"])
    named = ", ".join(file.path.relative_to(folder).as_posix() for file in files)
    source = assemble(
        where,
        "coco",
        pairs,
        Classes(labels, lambda drawing: _drawn(drawing, ids)),
        split_seed=split_seed,
        group=group,
        notes=(f"COCO's JSON ({named}): {len(labels) - 1} classes and background", *_said(pairs, astray)),
    )
    return source if 0 in ids.values() else _without_unseen(source)


def _without_unseen(source: Source) -> Source:
    """Takes the background that no category names away again where the things of all pictures cover it."""
    pixels = np.sum([split.annotations["pixels"].sum(axis=0) for split in source.splits.values()], axis=0)
    if not np.any(pixels) or pixels[0]:
        return source
    labels = LabelMap(source.labels.names[1:], source.labels.source_ids[1:])
    ids = np.arange(-1, len(labels))  # of a background that is nowhere

    def without(split: Split) -> Split:
        held = split.annotations
        annotations = {**held, "present": held["present"][:, 1:], "pixels": held["pixels"][:, 1:]}
        return replace(split, annotations=annotations, masks=split.masks and split.masks.relabelled(ids))

    return replace(
        source,
        labels=labels,
        splits={name: without(split) for name, split in source.splits.items()},
        notes=(*source.notes, "things cover all pictures: there is no background"),
    )


def _refuse_boxes(files: Sequence[AnnotationFile], documents: Sequence[dict]) -> None:
    rows = [row for document in documents for row in document["annotations"] if isinstance(row, dict)]
    if rows and not any(row.get("segmentation") for row in rows):
        raise DataError(
            f"{', '.join(str(file.path) for file in files)}: none of the {len(rows)} annotations has a polygon or run "
            "lengths (segmentation); boxes alone are for resnet-tasks detect"
        )


def _labels(files: Sequence[AnnotationFile], documents: Sequence[dict]) -> tuple[LabelMap, dict[Hashable, int]]:
    """Returns the classes, the background first, and the id of each category's key."""
    found = coco._categories(files, documents).labels
    keys = dict(zip(found.names, found.source_ids))
    for name in _groups(documents) & set(keys):
        del keys[name]
    own = next((name for name in keys if name.lower() == BACKGROUND), None)
    # 0 is what COCO's numbers leave free; files that count from 0 do not.
    of_background = keys.pop(own) if own else -1 if 0 in keys.values() else 0
    labels = LabelMap((own or BACKGROUND, *keys), (of_background, *keys.values()))
    return labels, {key: place for place, key in enumerate(labels.source_ids) if place or own}


def _groups(documents: Sequence[dict]) -> set[str]:
    """Names that stand for no class: Roboflow's category 0 has the data set's name, the others' `supercategory`."""
    rows = [row for document in documents for row in document["annotations"] if isinstance(row, dict)]
    used = {coco._key(row.get("category_id")) for row in rows}
    entries = [entry for document in documents for entry in document["categories"]]
    of_classes = {str(entry["name"]).strip() for entry in entries if coco._key(entry["id"]) in used}
    above = {coco._key(entry.get("supercategory")) for entry in entries if entry["id"] != 0}
    groups = {str(entry["name"]).strip() for entry in entries if entry["id"] == 0}
    return (groups & above) - of_classes


def _things(document: dict) -> dict[Hashable, list[Thing]]:
    """Returns the annotations by their pictures' ids."""
    things = defaultdict(list)
    for place, entry in enumerate(document["annotations"]):
        entry = entry if isinstance(entry, dict) else {}
        called = f"annotation {entry['id']}" if "id" in entry else f"entry {place} of annotations"
        crowd = entry.get("iscrowd") in (1, "1")
        thing = Thing(entry.get("segmentation"), coco._key(entry.get("category_id")), called, crowd)
        things[coco._key(entry.get("image_id"))].append(thing)
    return things


def _pairs(
    file: AnnotationFile,
    document: dict,
    things: Mapping[Hashable, Sequence[Thing]],
    locator: Locator,
    places: Sequence[Path],
) -> Iterator[Pair]:
    names = coco._names(file, document)
    for entry in document["images"]:
        key = coco._key(entry["id"])
        path = locator.find(names[key], places).path
        sides = entry.get("height"), entry.get("width")
        claimed = all(coco._is_number(side) and side >= 1 for side in sides)
        size_hw = (int(sides[0]), int(sides[1])) if claimed else None
        yield Pair(
            name=file.within + names[key].replace("\\", "/"),
            picture=path,
            mask=_Drawing(tuple(things.get(key, ())), size_hw, path),
            mask_name=f"{file.path.name}, image {key}",
            split=file.split,
        )


def _drawn(drawing: _Drawing, ids: dict[Hashable, int]) -> np.ndarray:
    size_hw = drawing.size_hw or _size(drawing.path)
    if size_hw[0] * size_hw[1] > _MOST_PIXELS:
        raise Unreadable(f"annotated as {size_hw[1]} wide and {size_hw[0]} high, too large for a mask")
    unknown = [thing for thing in drawing.things if thing.category not in ids and not thing.crowd]
    if unknown:
        pixels: Counter = Counter()
        for thing in unknown:
            pixels[thing.category] += int((coco_shapes.draw([thing], size_hw, {thing.category: 1}, 0) == 1).sum())
        raise UnknownIds(tuple(pixels), sum(pixels.values()))
    return coco_shapes.draw(drawing.things, size_hw, ids, background=0)


def _size(path: str | None) -> tuple[int, int]:
    size = sizes.upright_sizes([path])[0] if path else "there is no picture"
    if isinstance(size, str):
        raise Unreadable(f"annotated without a size, and {size}")
    return size


def _said(pairs: Sequence[Pair], astray: int) -> Iterator[str]:
    drawings = [pair.mask for pair in pairs if isinstance(pair.mask, _Drawing)]
    crowds = sum(thing.crowd for drawing in drawings for thing in drawing.things)
    empty = sum(not drawing.things for drawing in drawings)
    yield "larger things are drawn first, so that smaller ones stay visible"
    if crowds:
        yield f"crowds, void where no other thing is: {crowds}"
    if empty:
        yield f"pictures without an annotation, which are all background: {empty}"
    if astray:
        yield f"annotations of pictures that the file does not list, which are not used: {astray}"
