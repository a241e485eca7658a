"""Reading pictures of identities, faces above all, as a whole or split by split."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from resnet_tasks.data.examples import Source, Split
from resnet_tasks.data.readers import ON_BAD_IMAGE, apply_policy, face_pairs, splits
from resnet_tasks.data.readers.boxes import some
from resnet_tasks.data.readers.identities import Found, Looked, Rules, assemble
from resnet_tasks.errors import DataError, UsageError

FORMATS = ("auto", "folder", "tfds", "digits")
_EXPECTED = "a folder of identity folders, a list of pairs (.csv, .txt), tfds:NAME or digits expected"
_NAMED = 10  # files in a message; `check` names them all


def read_faces(
    where: str | Path | Mapping[str, str],
    *,
    data_format: str = "auto",
    images: str | None = None,
    data_dir: str | None = None,
    split_seed: int = 0,
    group: str | None = None,
    on_bad_image: str = "auto",
    val_share: float = 0.1,
    test_share: float = 0.1,
    closed: bool = False,
) -> Source:
    """Reads the index of pictures of identities; decodes none.

    A split's "label" is int32 `(pictures,)`: in train an index of `Source.labels`, which names the identities trained
    on; in val and test numbers of their own, from `len(Source.labels)` on, or of the same identities with `closed`.
    "landmarks", where any picture has some, is float32 `(pictures, 5, 2)`, NaN where there are none, as
    `readers/face_landmarks.py` says. `Split.pairs` of val and test are those of a list, else made
    (`readers/face_pairs.py`); None where nothing can be verified.

    Args:
        where: A folder (a folder an identity, with or without split folders), a list of pairs, `tfds:NAME` or
            `digits`; or a dict from "train", "val" or "test" to one of these.
        data_format: One of `FORMATS`; "auto" finds it out.
        images: The identity folders, where `where` is a list of pairs; else where names in lists may start from too.
        data_dir: The folder of prepared TFDS data.
        split_seed: Seeds the split of a source that has none of its own, and the pairs that are made.
        group: Keeps identities (with `closed` pictures) of a group together: a regular expression on the file names.
        on_bad_image: "auto" leaves out up to 1 % of unreadable files, "skip" any number, "fail" none.
        val_share: Of the identities, 0 <= share < 1; with `closed` of the pictures of each that are not the test's.
        test_share: Of the identities.
        closed: Train and test have the same identities, and half of the pictures of each.

    Raises:
        UsageError: A path does not exist, or an argument is none of the above.
        DataError: No pictures, an identity folder without any, one identity only, a list that names missing files, or
            more unreadable files than `on_bad_image` allows.
    """
    if on_bad_image not in ON_BAD_IMAGE:
        raise UsageError(f"on_bad_image: {', '.join(ON_BAD_IMAGE)} expected, not {on_bad_image!r}")
    rules = Rules(split_seed, group, val_share, test_share, closed)
    looked = look(where, rules, data_format=data_format, images=images, data_dir=data_dir)
    _refuse(looked)
    apply_policy(looked.source, on_bad_image)
    return replace(looked.source, notes=(*looked.source.notes, *_lacks(looked)))


def look(
    where: str | Path | Mapping[str, str],
    rules: Rules,
    *,
    data_format: str = "auto",
    images: str | None = None,
    data_dir: str | None = None,
) -> Looked:
    """`read_faces`, without refusing what would stop a run."""
    if data_format not in FORMATS:
        raise UsageError(f"data format: {', '.join(FORMATS)} expected, not {data_format!r}")
    if not (rules.val_share >= 0 and rules.test_share >= 0 and rules.val_share + rules.test_share < 1):
        raise UsageError(
            f"data.val_share {rules.val_share:g} and data.test_share {rules.test_share:g}: shares from 0, together "
            "less than 1, expected"
        )
    parts: dict[str, Found] = {}
    for given, place in where.items() if isinstance(where, Mapping) else [("", where)]:
        name = splits.split_name(given) if given else ""
        if name is None:
            raise UsageError(f"--data {given}=...: train, val or test expected")
        if name in parts:
            raise UsageError(f"--data names the split {name!r} twice")
        parts[name] = _read(str(place), data_format, images, data_dir, name or None, rules.closed)
    return assemble(parts, rules)


def _read(
    where: str, data_format: str, images: str | None, data_dir: str | None, split: str | None, closed: bool
) -> Found:
    path = Path(where).expanduser()
    if data_format == "auto":
        by_name = "tfds" if where.startswith("tfds:") else "digits" if where == "digits" else "folder"
        data_format = by_name if by_name == "tfds" or not path.exists() else "folder"
    if data_format == "digits":
        from resnet_tasks.data.readers import digits_faces

        return digits_faces.read(closed=closed)
    if data_format == "tfds":
        from resnet_tasks.data.readers import faces_tfds

        return faces_tfds.read(where, data_dir=data_dir)
    from resnet_tasks.data.readers import face_folders

    if not path.exists():
        raise UsageError(f"{where} does not exist; {_EXPECTED}")
    if images and not Path(images).expanduser().is_dir():
        raise UsageError(f"--images {images} does not exist, or is no folder")
    if path.is_file() and path.suffix.lower() not in face_folders.LISTS:
        raise UsageError(f"{where}: {_EXPECTED}")
    return face_folders.read(path, images=images, split=split)


def _refuse(looked: Looked) -> None:
    source = looked.source
    if looked.empty:
        raise DataError(
            f"{source.where}: {len(looked.empty)} identity folders hold no picture{some(looked.empty)}; put pictures "
            "there, or remove them"
        )
    if looked.missing:
        named = "\n".join(f"  {problem.file} ({problem.what})" for problem in looked.missing[:_NAMED])
        more = f"\n  and {len(looked.missing) - _NAMED} more" if len(looked.missing) > _NAMED else ""
        raise DataError(
            f"{source.where}: the list of pairs names {len(looked.missing)} times a picture that is not there:\n"
            f"{named}{more}\nput them there, or take these pairs out of the list, or move the list away"
        )
    for split in source.splits.values():
        if split.is_protocol and (lacking := one_kind(split)):
            raise DataError(f"{source.where}: {lacking}; add some, or move the list away, and pairs are made")
    everyone = {name for names in looked.names.values() for name in names}
    if not everyone:
        raise DataError(f"{source.where}: no picture that can be read")
    if len(everyone) == 1:
        (name,) = everyone
        raise DataError(
            f"{source.where}: one identity only ({name!r}); two or more are needed to tell anyone apart: a folder for "
            f"each, such as {name}/1.jpg; if the folder {name} holds these, name it"
        )
    if len(source.labels) == 1:
        raise DataError(
            f"{source.where}: one identity only in train ({source.labels.names[0]!r}); two or more are needed to learn"
        )


def one_kind(split: Split) -> str | None:
    """What is to be said of a list of pairs whose pairs are all the same, or all different."""
    same = split.pairs[:, 2] == 1 if split.pairs is not None else np.zeros(0, bool)
    if not len(same) or len(np.unique(same)) == 2:
        return None
    of_all, of_none = ("the same", "different ones") if same.all() else ("different", "the same")
    return f"the {len(same)} pairs of {split.name} are all {of_all}, and without {of_none} nothing can be measured"


def _lacks(looked: Looked) -> Iterator[str]:
    """Yields the sentences about what a run will miss: train, unreadable files, sound pairs, more than one picture."""
    source = looked.source
    if looked.untrained:
        yield looked.untrained
    if source.problems:
        named = [f"{problem.file}: {problem.what}" for problem in source.problems]
        yield f"cannot be read and left out: {len(named)}{some(named, '; ')}"
    for name, split in source.splits.items():
        if wrong := len(face_pairs.contradicted(split)):
            yield f"{wrong} pairs of {name} contradict their folders, and count as the list says: run check"
        if selves := len(face_pairs.of_one_picture(split)):
            yield f"{selves} pairs of {name} are of a picture with itself, which is always the same: run check"
    for name, identities in looked.names.items():
        alone = [identity for identity, count in Counter(identities).items() if count == 1]
        if alone:
            use = "learnt from like any other" if name == "train" else "in no pair of the same"
            yield f"identities of {name} with one picture, {use}: {len(alone)}{some(alone)}"
