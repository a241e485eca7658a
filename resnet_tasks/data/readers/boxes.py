"""Rows of boxes as their sources wrote them, and the one place where they are looked over."""

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from resnet_tasks.data.examples import LabelMap, Problem, Rows, Source, Split
from resnet_tasks.data.readers import box_pictures, box_rows, inspection, sizes, splits

_NAMED = 10  # in a note; `check` names them all


@dataclass(frozen=True)
class Row:
    """One box as its source wrote it.

    Attributes:
        box: xyxy in pixels of the upright picture.
        category: The key of its class.
        called: What a message calls it: "annotation 900001", "object 3 of Annotations/a.xml", "line 2 of labels/a.txt".
        crowd: Whether it surrounds many things at once.
        area: The source's own count of the thing's pixels, if it has one.
    """

    box: tuple[float, float, float, float]
    category: Hashable
    called: str
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class Picture:
    """One picture with its rows.

    Attributes:
        name: The file as people know it, relative to the data set.
        path: The file; `None` where it was not found, or `encoded` holds it.
        rows: Its boxes.
        split: "train", "val", "test", or `None` where the source has no splits.
        image_id: The source's own number or name of the picture, if it has one.
        annotated_hw: The height and width that the annotation claims.
        encoded: The file's bytes, where there is no file.
        tried: Where a file was sought that was not found.
        guessed: Whether `path` only bears its name; where it is another picture's, it is not this one's.
    """

    name: str
    path: str | None
    rows: tuple[Row, ...]
    split: str | None = None
    image_id: Hashable = None
    annotated_hw: tuple[int, int] | None = None
    encoded: bytes | None = None
    tried: tuple[str, ...] = ()
    guessed: bool = False


@dataclass(frozen=True)
class Categories:
    """A source's classes: the label map, and where each class's key stands in it."""

    labels: LabelMap
    place: Mapping[Hashable, int]


def assemble(
    where: str | Path,
    format: str,
    pictures: Sequence[Picture],
    categories: Categories,
    *,
    split_seed: int,
    group: str | None = None,
    notes: Sequence[str] = (),
    groups: Sequence[str] | None = None,
    problems: Sequence[Problem] = (),
    lost: Sequence[Problem] = (),
) -> Source:
    """Puts a source together: looks at the files, looks over the rows, splits and pads.

    Args:
        where: What the user named.
        format: How it was read.
        pictures: All pictures, those without boxes too. If any has a split, those without one are not used.
        categories: The classes.
        split_seed: Seeds the split where no picture has one but "train": 80/10/10, by each picture's rarest class.
        group: A regular expression on the names that keeps pictures in one split; or, with `groups`, what finds them.
        notes: What the reader has to say, first.
        groups: Each picture's group, where the reader knows it.
        problems: Of pictures that the reader could not even make a `Picture` of.
        lost: Rows that it could not make a `Row` of; they count as dropped.

    Raises:
        DataError: `group` is no regular expression, or finds nothing in a name.
    """
    stay, pictures, twice = box_pictures.united(box_pictures.settled(pictures))
    groups = groups and [groups[place] for place in stay]
    pictures, sides, how = _sides(pictures, categories, split_seed, group, groups)
    looked = _look(pictures)
    rows = box_rows.clean(pictures, looked.sizes_hw, categories)
    disagree = _disagreeing(pictures, looked)
    made = _splits(pictures, rows, looked, sides)
    written = [row for picture in pictures for row in picture.rows]
    crowds = sum(row.crowd for row in written)
    told = Rows(len(lost) + len(written), crowds, dropped=(*lost, *rows.dropped), clipped=rows.clipped)
    return Source(
        where=str(where),
        format=format,
        labels=categories.labels,
        splits=made,
        problems=(*problems, *looked.problems),
        notes=(*notes, *how, *_counts(made), *_oddities(told, disagree, twice)),
        rows=told,
        disagree=disagree,
    )


def _sides(
    pictures: Sequence[Picture],
    categories: Categories,
    split_seed: int,
    group: str | None,
    groups: Sequence[str] | None,
) -> tuple[Sequence[Picture], list[str | None], list[str]]:
    """Returns the pictures that are used, each one's split, and sentences on both."""
    places = [place for place, picture in enumerate(pictures) if picture.split] or list(range(len(pictures)))
    used, sides = [pictures[place] for place in places], [pictures[place].split for place in places]
    unused = [picture.name for picture in pictures if not picture.split] if any(sides) else []
    notes = [f"in no split, and not used: {len(unused)} pictures{some(unused)}"] if unused else []
    if set(sides) - {None, "train"}:
        return used, sides, ["its own splits: " + ", ".join(name for name in splits.NAMES if name in sides), *notes]
    names = [picture.name for picture in used]
    of_picture = [groups[place] for place in places] if groups else splits.grouped(names, group) if group else None
    # Unreadable files take part in the split, and bad rows in the classes: what is repaired moves no other picture.
    hashed = splits.hashed(names, box_rows.rarest(used, categories), of_picture, split_seed)
    return used, [*hashed], [splits.note(split_seed, group), *notes]


@dataclass(frozen=True)
class _Looked:
    """What the files are.

    Attributes:
        sizes_hw: Each picture's, upright; what its annotation says where the file cannot be read.
        readable: Places of the pictures that may be used.
        by_pillow: Those of them that TensorFlow cannot read.
        problems: The others.
    """

    sizes_hw: tuple[tuple[int, int] | None, ...]
    readable: tuple[int, ...]
    by_pillow: frozenset[int]
    problems: tuple[Problem, ...]


def _look(pictures: Sequence[Picture]) -> _Looked:
    wrong = {}
    here = []
    for place, picture in enumerate(pictures):
        if picture.path is None and picture.encoded is None:
            wrong[place] = "missing: not found; tried " + ", ".join(picture.tried)
        elif picture.encoded is None:
            here.append(place)
    looked = inspection.inspect([str(pictures[place].path) for place in here], [str(place) for place in here])
    wrong |= {int(problem.file): problem.what for problem in looked.problems}
    kept = [place for place in range(len(pictures)) if place not in wrong]
    read = sizes.upright_sizes([pictures[place].encoded or str(pictures[place].path) for place in kept])
    found = {place: size for place, size in zip(kept, read) if not isinstance(size, str)}
    wrong |= {place: size for place, size in zip(kept, read) if isinstance(size, str)}
    claimed = [picture.annotated_hw if min(picture.annotated_hw or (0,)) > 0 else None for picture in pictures]
    return _Looked(
        sizes_hw=tuple(found.get(place, size) for place, size in enumerate(claimed)),
        readable=tuple(found),
        by_pillow=frozenset(here[index] for index in looked.by_pillow),
        problems=tuple(Problem(pictures[place].name, wrong[place]) for place in sorted(wrong)),
    )


def _splits(
    pictures: Sequence[Picture], rows: box_rows.Clean, looked: _Looked, sides: Sequence[str | None]
) -> dict[str, Split]:
    held = [pictures[place] for place in looked.readable]
    whole = Split(
        name="all",
        ids=tuple(picture.name for picture in held),
        paths=tuple(str(picture.path) for picture in held) if all(picture.path for picture in held) else None,
        encoded=None if all(picture.path for picture in held) else tuple(picture.encoded or b"" for picture in held),
        annotations={"place": np.array(looked.readable, np.int64)},
        by_pillow=frozenset(new for new, place in enumerate(looked.readable) if place in looked.by_pillow),
    )
    counts = np.bincount(rows.place, minlength=len(pictures))
    most = max(1, *(counts[place] for place in looked.readable)) if looked.readable else 1
    made, numbers = {}, _numbers(pictures)
    for name, part in splits.cut(whole, [sides[place] for place in looked.readable]).items():
        places = part.annotations["place"]
        arrays = box_rows.padded(rows, places, int(most))
        if numbers is not None:
            arrays["image_id"] = numbers[places]
        made[name] = replace(part, annotations=arrays)
    return made


def _numbers(pictures: Sequence[Picture]) -> np.ndarray | None:
    """Returns the source's ids, int64; as JSON where they are not all whole numbers; None where one has none."""
    ids = [picture.image_id for picture in pictures]
    if not ids or any(number is None for number in ids):
        return None
    if all(isinstance(number, int) and abs(number) < 2**63 for number in ids):
        return np.array(ids, np.int64)
    return np.array([json.dumps(number) for number in ids])


def _disagreeing(pictures: Sequence[Picture], looked: _Looked) -> tuple[Problem, ...]:
    """Returns the pictures whose annotation has them in another size than their file."""
    found = []
    for place in looked.readable:
        picture, size = pictures[place], looked.sizes_hw[place]
        claimed = picture.annotated_hw
        if claimed and size and claimed != size and min(claimed) > 0:
            turned = ", on its side" if claimed == size[::-1] else ""
            what = (
                f"annotated as {claimed[1]} wide and {claimed[0]} high{turned}; it is {size[1]} wide and {size[0]} high"
            )
            found.append(Problem(picture.name, what))
    return tuple(found)


def _counts(made: Mapping[str, Split]) -> list[str]:
    boxes = sum(int((split.annotations["labels"] >= 0).sum()) for split in made.values())
    empty = sum(int((split.annotations["labels"] < 0).all(axis=1).sum()) for split in made.values())
    pictures = sum(map(len, made.values()))
    crowds = sum(int(split.annotations["crowd"].sum()) for split in made.values())
    background = f"; {empty} pictures have none and are background" if empty else ""
    marked = f", {crowds} of them crowds," if crowds else ""
    return [f"{boxes} boxes{marked} on {pictures} pictures{background}"]


def _oddities(rows: Rows, disagree: Sequence[Problem], twice: Sequence[str]) -> Iterator[str]:
    if twice:
        what = "the same file under another name or number, whose boxes are put together"
        yield f"{what}: {len(twice)}{some(twice)}"
    for problems, what in (
        (rows.dropped, f"boxes that cannot be used and are left out ({box_rows.counted(rows.dropped)})"),
        (rows.clipped, "boxes that reach over the border of their picture and are cut there"),
        (
            disagree,
            "pictures of another size than their annotation says; their boxes are taken as pixels of the "
            "upright picture",
        ),
    ):
        if problems:
            named = [f"{problem.file}: {problem.what}" for problem in problems]
            yield f"{what}: {len(problems)}{some(named, '; ')}"


def some(names: Sequence[str], between: str = ", ") -> str:
    """Returns the first of some names, in brackets, and how many more there are."""
    more = f"{between}and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f" ({between.join(names[:_NAMED])}{more})"
