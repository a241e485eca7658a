"""Readers: from what the user names to a `Source`."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.data.readers import splits
from resnet_tasks.errors import DataError, UsageError

FORMATS = ("auto", "folder", "csv", "tfds", "digits")
ON_BAD_IMAGE = ("auto", "skip", "fail")
# Above this share of unreadable files it is likelier that something went wrong with the whole copy.
_MOST_BAD = 0.01
_NAMED = 10  # files in a message; `check` names them all


def read_classification(
    where: str | Mapping[str, str],
    *,
    data_format: str = "auto",
    images: str | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    group: str | None = None,
    on_bad_image: str = "auto",
) -> Source:
    """Reads the index of pictures with one class each; decodes none.

    Args:
        where: A folder (a folder a class, with or without split folders), a CSV file, `tfds:NAME`
            or `digits`; or a dict from "train", "val" or "test" to one of these.
        data_format: What `where` is; "auto" finds it out.
        images: The folder of the pictures that a CSV file names.
        data_dir: The folder of prepared TFDS data.
        split_seed: Seeds the split of a source that has none of its own.
        group: Keeps a group of pictures (a video, a patient) in one split: a CSV's column, or a
            regular expression on the file names.
        on_bad_image: "auto" leaves out up to 1 % of unreadable files, "skip" any number, "fail"
            none.

    Raises:
        UsageError: A path does not exist, or an argument is none of the above.
        DataError: No pictures, a single class, or more unreadable files than `on_bad_image` allows.
    """
    if on_bad_image not in ON_BAD_IMAGE:
        raise UsageError(f"on_bad_image: {', '.join(ON_BAD_IMAGE)} expected, not {on_bad_image!r}")
    read = functools.partial(
        _read, data_format=data_format, images=images, data_dir=data_dir, split_seed=split_seed, group=group
    )
    if isinstance(where, Mapping):
        source = _joined({name: read(str(part)) for name, part in where.items()})
    else:
        source = read(str(where))
    apply_policy(source, on_bad_image)
    if not any(len(split) for split in source.splits.values()):
        raise DataError(f"{source.where}: no picture found")
    if len(source.labels) == 1:
        raise DataError(
            f"{source.where}: one class only ({source.labels.names[0]!r}); a classifier needs two "
            "or more: a folder for each class, or two values in the label column"
        )
    return replace(source, notes=(*source.notes, *_lacks(source)))


def _lacks(source: Source) -> list[str]:
    """Returns the sentences about what a run will miss: unreadable files, classes without a picture to train on."""
    notes = []
    if source.problems:
        named = "; ".join(f"{problem.file}: {problem.what}" for problem in source.problems[:_NAMED])
        more = f"; and {len(source.problems) - _NAMED} more" if len(source.problems) > _NAMED else ""
        notes.append(f"cannot be read and left out: {len(source.problems)} ({named}{more})")
    if "train" in source.splits:
        present = set(source.splits["train"].annotations["label"].tolist())
        absent = [name for label, name in enumerate(source.labels.names) if label not in present]
        if absent:
            notes.append(f"classes without a picture in train, which nothing can be learnt of: {', '.join(absent)}")
    return notes


def apply_policy(source: Source, on_bad_image: str) -> None:
    """Raises DataError if `source` has more unreadable files than `on_bad_image` allows."""
    bad = len(source.problems)
    total = bad + sum(len(split) for split in source.splits.values())
    allowed = {"auto": _MOST_BAD * total, "skip": total, "fail": 0}[on_bad_image]
    if bad > allowed:
        named = "\n".join(f"  {problem.file}: {problem.what}" for problem in source.problems[:_NAMED])
        more = f"\n  and {bad - _NAMED} more" if bad > _NAMED else ""
        raise DataError(
            f"{source.where}: {bad} of {total} pictures cannot be read ({bad / total:.1%}; "
            f"{f'at most {_MOST_BAD:.0%} is' if on_bad_image == 'auto' else 'none is'} allowed):\n"
            f"{named}{more}\nrepair or remove them, or go on without them: --on-bad-image skip"
        )


def _read(
    where: str,
    *,
    data_format: str,
    images: str | None,
    data_dir: str | None,
    split_seed: int,
    group: str | None,
) -> Source:
    found = _format(where) if data_format == "auto" else data_format
    if found == "digits":
        from resnet_tasks.data.readers import digits

        return digits.read(split_seed=split_seed)
    if found == "tfds":
        from resnet_tasks.data.readers import tfds

        return tfds.read(where, data_dir=data_dir, split_seed=split_seed, group=group)
    if found not in FORMATS:
        raise UsageError(f"data format: {', '.join(FORMATS)} expected, not {data_format!r}")
    path = Path(where).expanduser()
    if not path.exists():
        raise UsageError(f"{where} does not exist; a folder, a .csv file, tfds:NAME or digits expected")
    if found == "csv":
        from resnet_tasks.data.readers import csv_files

        return csv_files.read(path, images=images, split_seed=split_seed, group=group)
    from resnet_tasks.data.readers import folders

    return folders.read(path, split_seed=split_seed, group=group)


def _format(where: str) -> str:
    if where.startswith("tfds:"):
        return "tfds"
    path = Path(where).expanduser()
    if where == "digits" and not path.exists():
        return "digits"
    if path.is_dir() or not path.exists():
        return "folder"
    if path.suffix.lower() in (".csv", ".tsv"):
        return "csv"
    raise UsageError(f"{where}: a folder, a .csv file, tfds:NAME or digits expected")


def _joined(parts: Mapping[str, Source]) -> Source:
    """Joins sources given split by split; a part's own splits count as one."""
    names = sorted({name for part in parts.values() for name in part.labels.names}, key=splits.natural)
    first = next(iter(parts.values())).labels
    # One order for all: the first part's where it has every class, which keeps a source's own.
    labels = first if set(names) == set(first.names) else LabelMap(names=tuple(names))
    joined, notes, problems = {}, [], []
    for given, part in parts.items():
        name = splits.split_name(given)
        if name is None:
            raise UsageError(f"--data {given}=...: train, val or test expected")
        if name in joined:
            raise UsageError(f"--data names the split {name!r} twice")
        joined[name] = _whole(name, part, labels)
        notes.extend(f"{name}: {note}" for note in part.notes if not note.startswith("split "))
        problems.extend(part.problems)
    return Source(
        where=", ".join(f"{name}={part.where}" for name, part in parts.items()),
        format="+".join(dict.fromkeys(part.format for part in parts.values())),
        labels=labels,
        splits={name: joined[name] for name in splits.NAMES if name in joined},
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _whole(name: str, part: Source, labels: LabelMap) -> Split:
    """Puts a part's splits together as one, with the ids of the joint label map."""
    pieces = [replace(split, name=name) for split in part.splits.values()]
    whole = splits.join(name, pieces) if len(pieces) > 1 else pieces[0]
    ids = labels.match(part.labels)
    return replace(whole, annotations={**whole.annotations, "label": ids[whole.annotations["label"]]})
