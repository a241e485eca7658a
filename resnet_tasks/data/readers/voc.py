"""Pascal VOC's XML: a file a picture, boxes from 1 with the last pixel included, `difficult` objects."""

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_tasks.data.examples import LabelMap, Problem, Source
from resnet_tasks.data.readers import box_rows, splits, voc_layout
from resnet_tasks.data.readers.boxes import Categories, Picture, Row, assemble, some
from resnet_tasks.data.readers.locate import Found, Locator
from resnet_tasks.data.readers.voc_layout import TRAINVAL, Listed
from resnet_tasks.errors import DataError, UsageError

_THREADS = 16  # they wait for the disk
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class _Object:
    name: str
    box: tuple[float, float, float, float] | None  # xyxy in pixels, continuous from 0; None where it has none
    difficult: bool


@dataclass(frozen=True)
class _Annotation:
    filename: str
    size_hw: tuple[int, int] | None
    objects: tuple[_Object, ...]


def read(where: Path | str, *, images: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads the boxes of a folder of XML files in Pascal VOC's layout, in Roboflow's, or beside the pictures.

    A `difficult` object becomes a crowd: VOC's evaluation neither asks for it nor counts an answer that finds it, which
    is what COCO's does with crowds. Parts of objects are passed by.

    Args:
        where: The folder: with `Annotations/`, with `VOC2007/` and its like, with folders for the splits, or with the
            XML files themselves.
        images: The folder of the pictures, where they lie elsewhere.
        split_seed: Seeds the split where there are no lists in `ImageSets/Main` and no folders for the splits; and that
            of `trainval.txt` where it stands for both.
        group: A regular expression on the pictures' names, for such a split.

    Raises:
        UsageError: `where` or `images` is no folder.
        DataError: No XML file.
    """
    where = Path(where)
    if not where.is_dir():
        raise UsageError(f"{where} is no folder; a folder of Pascal VOC's XML files was expected")
    if images and not Path(images).is_dir():
        raise UsageError(f"--images {images} does not exist, or is no folder")
    root = where.parent if where.name.lower() == voc_layout.ANNOTATIONS else where
    layout = voc_layout.find(root)
    if not layout.listed and not layout.problems:
        raise DataError(f"{where}: no .xml file found; expected, for example, {root / 'Annotations' / '1.xml'}")
    with ThreadPoolExecutor(_THREADS) as threads:
        read_in = list(threads.map(_annotation, (each.xml for each in layout.listed)))
    locator = Locator(Path(images) if images else root)
    pictures, lost, problems = [], [], list(layout.problems)
    for each, annotation in zip(layout.listed, read_in):
        if isinstance(annotation, str):
            problems.append(Problem(_relative(each.xml, root), annotation))
        else:
            pictures.append(_picture(each, annotation, root, images, locator, lost))
    categories = _categories(pictures)
    notes = [*layout.notes, *_marked(pictures), *([] if layout.by_lists else _without_annotation(pictures, locator))]
    pictures, halved = _halved(pictures, categories, split_seed, group)
    return assemble(
        where,
        "voc",
        pictures,
        categories,
        split_seed=split_seed,
        group=group,
        notes=(f"Pascal VOC's XML: {len(read_in)} files, {len(categories.labels)} classes", *notes, *halved),
        problems=problems,
        lost=lost,
    )


def _annotation(path: Path) -> _Annotation | str:
    """Returns what a file says, or why it cannot be read."""
    try:
        tree = ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        return error.strerror or str(error)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        return f"broken XML: {error}"
    if tree.tag != "annotation":
        return f"not Pascal VOC's: <annotation> expected, found <{tree.tag}>"
    return _Annotation(
        filename=(tree.findtext("filename") or "").strip(),
        size_hw=_size_hw(tree.find("size")),
        objects=tuple(
            _Object(
                (each.findtext("name") or "").strip(), _box(each.find("bndbox")), _is_set(each.findtext("difficult"))
            )
            for each in tree.findall("object")
        ),
    )


def _size_hw(size: ElementTree.Element | None) -> tuple[int, int] | None:
    try:
        return (int(size.findtext("height", "")), int(size.findtext("width", ""))) if size is not None else None
    except ValueError:
        return None


def _is_set(text: str | None) -> bool:
    return (text or "").strip().lower() in ("1", "true", "yes")


def _box(corners: ElementTree.Element | None) -> tuple[float, float, float, float] | None:
    """Returns the box, whose numbers begin with 1 and include the last pixel, as xyxy from 0.

    By the letter a box that ends where it begins would be one pixel wide. It is taken as the empty one that its author
    drew by a click: tools write it so, and no object of one pixel was ever annotated.
    """
    try:
        left, top, right, bottom = (float(corners.findtext(name, "")) for name in _CORNERS)  # type: ignore[union-attr]
    except (AttributeError, ValueError):
        return None
    return left - 1, top - 1, right if right > left else right - 1, bottom if bottom > top else bottom - 1


def _picture(
    each: Listed, annotation: _Annotation, root: Path, images: str | None, locator: Locator, lost: list[Problem]
) -> Picture:
    """Puts a picture together; objects without a box are added to `lost`."""
    found = _found(each, annotation.filename, images, locator)
    suffix = Path(found.path or annotation.filename).suffix or ".jpg"
    name, file = f"{each.name}{suffix}", _relative(each.xml, root)
    rows = []
    for number, thing in enumerate(annotation.objects, 1):
        called = f"object {number} of {file}"
        if thing.box is None:
            lost.append(Problem(name, f"{called}: no box, {', '.join(_CORNERS)} expected"))
        else:
            rows.append(Row(thing.box, thing.name, called, crowd=thing.difficult))
    size_hw, tried = annotation.size_hw, found.tried
    return Picture(name, found.path, tuple(rows), each.split, None, size_hw, tried=tried, guessed=found.guessed)


def _found(each: Listed, filename: str, images: str | None, locator: Locator) -> Found:
    """Seeks the picture of an XML file by the file's own name, as VOC does, then by the one that stands in it."""
    places = [*([Path(images)] if images else []), *each.places]
    tried: tuple[str, ...] = ()
    guess = None
    for name, any_suffix in ((each.id, True), (each.id.rpartition("/")[2], True), (filename, False)):
        found = locator.find(name, places, any_suffix=any_suffix) if name else Found(None)
        if found.path and name == each.id and not found.guessed:
            return found
        guess = guess or found.path
        tried += tuple(place for place in found.tried if place not in tried)
    return Found(guess, tried, guessed=guess is not None)


def _categories(pictures: Sequence[Picture]) -> Categories:
    names = {str(row.category) for picture in pictures for row in picture.rows} - {""}
    ordered = sorted(names, key=splits.natural)
    return Categories(LabelMap(names=tuple(ordered)), {name: place for place, name in enumerate(ordered)})


def _marked(pictures: Sequence[Picture]) -> list[str]:
    difficult = sum(row.crowd for picture in pictures for row in picture.rows)
    if not difficult:
        return []
    return [f"marked as difficult, and so neither learnt nor asked for in evaluation, as crowds: {difficult} objects"]


def _without_annotation(pictures: Sequence[Picture], locator: Locator) -> list[str]:
    used = {picture.path for picture in pictures if picture.path}
    folders = sorted({os.path.dirname(path) for path in used})
    others = [path for folder in folders for path in locator.pictures(folder) if path not in used]
    named = [os.path.basename(path) for path in others]
    return [f"pictures without an XML file, which are not used: {len(others)}{some(named)}"] if others else []


def _halved(
    pictures: list[Picture], categories: Categories, split_seed: int, group: str | None
) -> tuple[list[Picture], list[str]]:
    """Splits what is listed for training and validation together: nine tenths for training."""
    both = [picture for picture in pictures if picture.split == TRAINVAL]
    if not both:
        return pictures, []
    names = [picture.name for picture in both]
    groups = splits.grouped(names, group) if group else None
    hashed = splits.hashed(names, box_rows.rarest(both, categories), groups, split_seed)
    sides = dict(zip(names, ("val" if side == "val" else "train" for side in hashed)))
    by = f"the group that {group!r} finds" if group else "the file name"
    note = (
        f"{TRAINVAL}.txt split 90/10 into train and val, class by class, by a hash of {by} and split seed {split_seed}"
    )
    return [replace(p, split=sides[p.name]) if p.split == TRAINVAL else p for p in pictures], [note]


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
