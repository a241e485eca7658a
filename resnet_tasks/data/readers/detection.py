"""Reading pictures with boxes, of whatever format, as a whole or split by split; and what is too bad to go on with."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from resnet_tasks.data.examples import LabelMap, Problem, Rows, Source, Split
from resnet_tasks.data.readers import ON_BAD_IMAGE, apply_policy, box_rows, classes, detection_formats, splits
from resnet_tasks.data.readers.boxes import some
from resnet_tasks.errors import DataError, UsageError

FORMATS = ("auto", "coco", "voc", "yolo", "csv", "tfds", "digits")
_NAMED = 10  # rows in a message; `check` names them all


def read_detection(
    where: str | Path | Mapping[str, str],
    *,
    data_format: str = "auto",
    images: str | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    group: str | None = None,
    on_bad_image: str = "auto",
    most_bad_rows: float = 0.05,
) -> Source:
    """Reads the index of pictures with boxes; decodes none.

    Args:
        where: A folder (COCO's JSON, Pascal VOC's XML, YOLO's text files, CSV), an annotation file, `tfds:NAME` or
            `digits`; or a dict from "train", "val" or "test" to one of these.
        data_format: One of `FORMATS`; "auto" finds it out.
        images: The folder of the pictures, where they do not lie beside the annotations.
        data_dir: The folder of prepared TFDS data.
        split_seed: Seeds the split of a source that has none of its own.
        group: Keeps a group of pictures (a video, a patient) in one split: a regular expression on the file names, or a
            CSV's column.
        on_bad_image: "auto" leaves out up to 1 % of unreadable and missing files, "skip" any number, "fail" none.
        most_bad_rows: The share of boxes that cannot be used above which the data are refused.

    Raises:
        UsageError: A path does not exist, an argument is none of the above, or a folder is of two formats.
        DataError: No pictures, no box, or more unreadable files or bad rows than are allowed.
    """
    if on_bad_image not in ON_BAD_IMAGE:
        raise UsageError(f"on_bad_image: {', '.join(ON_BAD_IMAGE)} expected, not {on_bad_image!r}")
    source = look(where, data_format=data_format, images=images, data_dir=data_dir, split_seed=split_seed, group=group)
    apply_policy(source, on_bad_image)
    _refuse_bad_rows(source, most_bad_rows)
    if lack := lacking(source):
        raise DataError(f"{source.where}: {lack}{_first(source)}")
    return source


def look(
    where: str | Path | Mapping[str, str],
    *,
    data_format: str = "auto",
    images: str | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    group: str | None = None,
) -> Source:
    """`read_detection`, without refusing what would stop a run."""
    if data_format not in FORMATS:
        raise UsageError(f"data format: {', '.join(FORMATS)} expected, not {data_format!r}")
    read = functools.partial(
        _read, data_format=data_format, images=images, data_dir=data_dir, split_seed=split_seed, group=group
    )
    if isinstance(where, Mapping):
        source = _joined({name: read(str(part)) for name, part in where.items()})
    else:
        source = read(str(where))
    return replace(source, notes=(*source.notes, *_lacks(source)))


def lacking(source: Source) -> str | None:
    """What is to be said of a source without pictures, or without a box that can be learnt; of train, if it has one."""
    if not any(len(split) for split in source.splits.values()):
        return "no picture found that can be read"
    learnt = [source.splits["train"]] if "train" in source.splits else list(source.splits.values())
    real = [split.annotations["labels"] >= 0 for split in learnt]
    if any((boxes & ~split.annotations["crowd"]).any() for boxes, split in zip(real, learnt)):
        return None
    where = "on any picture of train" if "train" in source.splits else "on any of its pictures"
    crowds = sum(int(boxes.sum()) for boxes in real)
    only = f"; {crowds} are marked as crowds or difficult, which are not learnt" if crowds else ""
    return f"no box that can be used {where}{only}"


def _read(
    where: str,
    *,
    data_format: str,
    images: str | None,
    data_dir: str | None,
    split_seed: int,
    group: str | None,
) -> Source:
    path = Path(where).expanduser()
    found = detection_formats.find(where) if data_format == "auto" else data_format
    if found == "digits":
        from resnet_tasks.data.readers import digits_scenes

        return digits_scenes.read(split_seed=split_seed)
    if found == "tfds":
        from resnet_tasks.data.readers import tfds_boxes

        return tfds_boxes.read(where, data_dir=data_dir, split_seed=split_seed, group=group)
    if not path.exists():
        raise UsageError(f"{where} does not exist; {detection_formats.EXPECTED}")
    if found == "coco":
        from resnet_tasks.data.readers import coco

        return coco.read(path, images=images, split_seed=split_seed, group=group)
    if found == "voc":
        from resnet_tasks.data.readers import voc

        return voc.read(path, images=images, split_seed=split_seed, group=group)
    if found == "yolo":
        from resnet_tasks.data.readers import yolo

        return yolo.read(path, images=images, split_seed=split_seed, group=group)
    from resnet_tasks.data.readers import csv_boxes

    read = functools.partial(csv_boxes.read, images=images, split_seed=split_seed, group=group)
    files = detection_formats.csv_files(path) if path.is_dir() else {"": path}
    if len(files) == 1:
        return read(*files.values())
    return replace(_joined({split: read(file) for split, file in files.items()}), where=where, format="csv")


def _refuse_bad_rows(source: Source, most: float) -> None:
    rows = source.rows or Rows(0)
    bad = len(rows.dropped)
    if bad > most * rows.total:
        named = "\n".join(f"  {problem.file}: {problem.what}" for problem in rows.dropped[:_NAMED])
        more = f"\n  and {bad - _NAMED} more" if bad > _NAMED else ""
        raise DataError(
            f"{source.where}: {bad} of {rows.total} boxes cannot be used ({100 * bad / rows.total:.1f} %, at most "
            f"{100 * most:g} % is allowed): {box_rows.counted(rows.dropped)}\n{named}{more}\n"
            f"repair or remove them; resnet-tasks detect check --data {source.where} names them all"
        )


def _first(source: Source) -> str:
    """The first files and rows that cannot be used, a line each."""
    problems = [*source.problems, *(source.rows.dropped if source.rows else ())]
    return "".join(f"\n  {problem.file}: {problem.what}" for problem in problems[:_NAMED])


def _lacks(source: Source) -> Iterator[str]:
    """Yields the sentences about what a run will miss: unreadable files, classes without a box to train on."""
    if source.problems:
        named = [f"{problem.file}: {problem.what}" for problem in source.problems]
        yield f"cannot be read and left out: {len(named)}{some(named, '; ')}"
    if "train" in source.splits:
        held = source.splits["train"].annotations
        present = set(held["labels"][~held["crowd"]].tolist())
        absent = [name for label, name in enumerate(source.labels.names) if label not in present]
        if absent:
            yield f"classes without a box in train, which nothing can be learnt of: {len(absent)}{some(absent)}"


def _joined(parts: Mapping[str, Source]) -> Source:
    """Joins sources given split by split; a part's own splits count as one."""
    labels = classes.agreed({f"{name}={part.where}": part.labels for name, part in parts.items()})
    widths = [split.annotations["labels"].shape[1] for part in parts.values() for split in part.splits.values()]
    joined: dict[str, Split] = {}
    notes: list[str] = []
    for given, part in parts.items():
        name = splits.split_name(given)
        if name is None:
            raise UsageError(f"--data {given}=...: train, val or test expected")
        if name in joined:
            raise UsageError(f"--data names the split {name!r} twice")
        if part.splits:
            joined[name] = _whole(name, part, labels, max(widths))
        own = ("split 80/10/10", "its own splits")
        notes.extend(f"{name}: {note}" for note in part.notes if not note.startswith(own))
    rows = [part.rows or Rows(0) for part in parts.values()]

    def together(lists: Iterator[tuple[Problem, ...]]) -> tuple[Problem, ...]:
        return tuple(problem for each in lists for problem in each)

    return Source(
        where=", ".join(f"{name}={part.where}" for name, part in parts.items()),
        format="+".join(dict.fromkeys(part.format for part in parts.values())),
        labels=labels,
        splits={name: joined[name] for name in splits.NAMES if name in joined},
        problems=together(part.problems for part in parts.values()),
        notes=tuple(notes),
        rows=Rows(
            total=sum(each.total for each in rows),
            crowds=sum(each.crowds for each in rows),
            dropped=together(each.dropped for each in rows),
            clipped=together(each.clipped for each in rows),
        ),
        disagree=together(part.disagree for part in parts.values()),
    )


def _whole(name: str, part: Source, labels: LabelMap, most: int) -> Split:
    """Puts a part's splits together as one, padded to `most` boxes, with the ids of the joint label map."""
    whole = splits.join(name, [replace(split, name=name) for split in part.splits.values()])
    held = dict(whole.annotations)
    if "image_id" in held and len(np.unique(held["image_id"])) < len(whole):
        del held["image_id"]  # numbered anew in each of the part's files
    ids = np.append(labels.match(part.labels), -1)  # -1, which is padding, stays
    held["labels"] = ids[held["labels"]].astype(np.int32)
    missing = most - held["labels"].shape[1]
    for key, padding in (("boxes", 0), ("labels", -1), ("crowd", False), ("area", 0)):
        widths = [(0, 0), (0, missing)] + [(0, 0)] * (held[key].ndim - 2)
        held[key] = np.pad(held[key], widths, constant_values=padding)
    return replace(whole, annotations=held)
