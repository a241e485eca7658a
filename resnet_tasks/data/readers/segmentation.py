"""Reading pictures with masks, of whatever format, as a whole or split by split; and what is too bad to go on with."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from resnet_tasks.data.examples import LabelMap, Pairs, Problem, Source, Split
from resnet_tasks.data.readers import (
    ON_BAD_IMAGE,
    apply_policy,
    classes,
    coco_layout,
    mask_layouts,
    masks_voc,
    pairs_of_masks,
    splits,
)
from resnet_tasks.data.readers.boxes import some
from resnet_tasks.errors import DataError, UsageError

FORMATS = ("auto", "masks", "voc", "coco", "tfds", "digits")
EXPECTED = "a folder, a .json (COCO), tfds:NAME or digits expected"
_NAMED = 10  # pairs in a message; `check` names them all


def read_segmentation(
    where: str | Path | Mapping[str, str],
    *,
    data_format: str = "auto",
    images: str | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    group: str | None = None,
    on_bad_image: str = "auto",
    most_bad_pairs: float = 0.05,
) -> Source:
    """Reads pictures with masks: every mask once, of the pictures the headers.

    Args:
        where: A folder (pictures and masks by their names, Pascal VOC's layout, COCO's JSON), a COCO file, `tfds:NAME`
            or `digits`; or a dict from "train", "val" or "test" to one of these.
        data_format: One of `FORMATS`; "auto" finds it out.
        images: The folder of the pictures, where they do not lie beside the masks.
        data_dir: The folder of prepared TFDS data.
        split_seed: Seeds the split of a source that has none of its own.
        group: Keeps a group of pictures (a video, a patient) in one split: a regular expression on the file names.
        on_bad_image: "auto" leaves out up to 1 % of unreadable pictures, "skip" any number, "fail" none.
        most_bad_pairs: The share of pairs that cannot be used above which the data are refused.

    Returns:
        The source; `pairs_of_masks.assemble` says what its splits hold.

    Raises:
        UsageError: A path does not exist, an argument is none of the above, or a folder is of two formats.
        DataError: No pictures, no class on any, a single class, or more unreadable files or broken pairs than are
            allowed.
    """
    if on_bad_image not in ON_BAD_IMAGE:
        raise UsageError(f"on_bad_image: {', '.join(ON_BAD_IMAGE)} expected, not {on_bad_image!r}")
    if data_format not in FORMATS:
        raise UsageError(f"data format: {', '.join(FORMATS)} expected, not {data_format!r}")
    read = functools.partial(
        _read, data_format=data_format, images=images, data_dir=data_dir, split_seed=split_seed, group=group
    )
    if isinstance(where, Mapping):
        source = _joined({name: read(str(part)) for name, part in where.items()})
    else:
        source = read(str(where))
    apply_policy(source, on_bad_image)
    _refuse_bad_pairs(source, most_bad_pairs)
    if most_bad_pairs < 1:  # `check` goes on: it names what is broken
        _refuse_nothing(source)
    return replace(source, notes=(*source.notes, *_lacks(source)))


def _read(
    where: str,
    *,
    data_format: str,
    images: str | None,
    data_dir: str | None,
    split_seed: int,
    group: str | None,
) -> Source:
    found = find(where) if data_format == "auto" else data_format
    if found == "digits":
        from resnet_tasks.data.readers import digits_masks

        return digits_masks.read(split_seed=split_seed)
    if found == "tfds":
        from resnet_tasks.data.readers import masks_tfds

        return masks_tfds.read(where, data_dir=data_dir, split_seed=split_seed, group=group)
    path = Path(where).expanduser()
    if not path.exists():
        raise UsageError(f"{where} does not exist; {EXPECTED}")
    if found == "coco":
        from resnet_tasks.data.readers import masks_coco

        return masks_coco.read(path, images=images, split_seed=split_seed, group=group)
    read = masks_voc.read if found == "voc" else mask_layouts.read
    return read(path, images=images, split_seed=split_seed, group=group)


def find(where: str) -> str:
    """Returns the format of what the user named: "masks", "voc", "coco", "tfds" or "digits".

    Raises:
        UsageError: It does not exist, is no such file, or is a folder of two formats.
    """
    path = Path(where).expanduser()
    if where.startswith("tfds:"):
        return "tfds"
    if where == "digits" and not path.exists():
        return "digits"
    if not path.exists():
        raise UsageError(f"{where} does not exist; {EXPECTED}")
    if path.is_file():
        if path.suffix.lower() == ".json":
            return "coco"
        raise UsageError(f"{where}: {EXPECTED}")
    signs = {
        "masks": mask_layouts.has_files(path),
        "voc": masks_voc.has_files(path),
        "coco": coco_layout.has_files(path),
    }
    found = [name for name, is_it in signs.items() if is_it]
    if len(found) > 1:
        raise UsageError(f"{where} looks like {' and like '.join(found)}; say which is meant: --data-format {found[0]}")
    # Pictures and a folder of annotations may be COCO's, in a file of any name.
    others = [each for each in path.glob("annotations/*.json") if each.name != "classes.json"]
    return found[0] if found else "coco" if others else "masks"


def _refuse_bad_pairs(source: Source, most: float) -> None:
    pairs = source.pairs or Pairs(0)
    bad = len(pairs.dropped)
    if bad > most * pairs.total:
        named = "\n".join(f"  {problem.file}: {problem.what}" for problem in pairs.dropped[:_NAMED])
        more = f"\n  and {bad - _NAMED} more" if bad > _NAMED else ""
        raise DataError(
            f"{source.where}: {bad} of {pairs.total} pairs of a picture and a mask cannot be used "
            f"({100 * bad / pairs.total:.1f} %, at most {100 * most:g} % is allowed): "
            f"{pairs_of_masks.counted(pairs.dropped)}\n{named}{more}\n"
            f"repair or remove them; resnet-tasks segment check --data {source.where} names them all"
        )


def _refuse_nothing(source: Source) -> None:
    if not any(len(split) for split in source.splits.values()):
        raise DataError(f"{source.where}: no picture with a mask found")
    if not any(split.annotations["present"].any() for split in source.splits.values()):
        raise DataError(f"{source.where}: all masks are void, no pixel is of a class")
    if len(source.labels) == 1:
        raise DataError(
            f"{source.where}: one class only ({source.labels.names[0]!r}); a segmenter needs two or more: give what is "
            "not of it a class too, and not void"
        )


def _lacks(source: Source) -> Iterator[str]:
    """Yields the sentences about what a run will miss: unreadable files, classes without a pixel to train on."""
    if source.problems:
        named = [f"{problem.file}: {problem.what}" for problem in source.problems]
        yield f"cannot be read and left out: {len(named)}{some(named, '; ')}"
    if "train" in source.splits:
        pixels = source.splits["train"].annotations["pixels"].sum(axis=0)
        absent = [name for name, held in zip(source.labels.names, pixels.tolist()) if not held]
        if absent:
            asked = "; are they what is void in the masks?" if pixels[-1] else ""
            said = f"classes without a pixel in train, which nothing can be learnt of: {len(absent)}{some(absent)}"
            yield said + asked


def _joined(parts: Mapping[str, Source]) -> Source:
    """Joins sources given split by split; a part's own splits count as one."""
    labels = _agreed({f"{name}={part.where}": part.labels for name, part in parts.items()})
    joined: dict[str, Split | None] = {}
    notes: list[str] = []
    for given, part in parts.items():
        name = splits.split_name(given)
        if name is None:
            raise UsageError(f"--data {given}=...: train, val or test expected")
        if name in joined:
            raise UsageError(f"--data names the split {name!r} twice")
        joined[name] = pairs_of_masks.whole_as(part, name, labels)
        own = ("split 80/10/10", "its own splits")
        notes.extend(f"{name}: {note}" for note in part.notes if not note.startswith(own))
    pairs = [part.pairs or Pairs(0) for part in parts.values()]

    def together(lists: Iterator[tuple[Problem, ...]]) -> tuple[Problem, ...]:
        return tuple(problem for each in lists for problem in each)

    return Source(
        where=", ".join(f"{name}={part.where}" for name, part in parts.items()),
        format="+".join(dict.fromkeys(part.format for part in parts.values())),
        labels=labels,
        splits={name: split for name in splits.NAMES if (split := joined.get(name))},
        problems=together(part.problems for part in parts.values()),
        notes=tuple(notes),
        pairs=Pairs(sum(each.total for each in pairs), together(each.dropped for each in pairs)),
    )


def _agreed(parts: Mapping[str, LabelMap]) -> LabelMap:
    """Returns one label map for all parts, with their colours, of which the first part's count."""
    labels = classes.agreed(parts)
    color: dict[str, tuple] = {}
    for part in parts.values():
        for name, own in zip(part.names, part.colors):
            color.setdefault(name, own)
    complete = all(name in color for name in labels.names)
    return replace(labels, colors=tuple(color[name] for name in labels.names) if complete else ())
