"""What faces are for, as functions: whether two pictures show the same person, and who of those known it is."""

import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Union

from resnet_tasks.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from resnet_tasks.engine.loaded import Loaded

logger = logging.getLogger("resnet_tasks")

Model = Union[str, os.PathLike, "Loaded"]
AT_ONCE = 64  # pictures whose embeddings are computed together
UNKNOWN = "unknown"


def verify(
    model: Model, first: str | os.PathLike, second: str | os.PathLike, *, threshold: float | None = None
) -> dict:
    """Whether two pictures show the same identity.

    Args:
        model: A run folder, a `.keras` file or an artefact, or one that `resnet_tasks.load` opened.
        first: A picture of one aligned face.
        second: Another.
        threshold: The similarity from which they are the same; by default the model's own.

    A model that was trained on faces aligned by landmarks aligns these too, where `landmarks.csv` in their folder or
    one some levels above names them; where none does, they are taken for aligned crops, which is logged as a warning.

    Returns:
        `similarity`, the cosine of the embeddings; `threshold`; `same`.

    Raises:
        UsageError: No such model or picture.
        DataError: A picture that cannot be read.
    """
    from resnet_tasks.faces.predictor import similarity

    loaded = _opened(model)
    one, other = _embedded(loaded, [first, second])
    found, least = similarity(one, other), _threshold(loaded, threshold)
    return {"similarity": found, "threshold": least, "same": found >= least}


def enroll(model: Model, gallery: str | os.PathLike, folder: str | os.PathLike, *, add: bool = False) -> dict:
    """Writes the embeddings of known faces to a file.

    Args:
        model: A run folder, a `.keras` file or an artefact, or one that `resnet_tasks.load` opened.
        gallery: The file to write; a gallery that is there is replaced, once all pictures have been read, which is
            logged with what it held.
        folder: A folder for each person, of pictures; aligned as in `verify`.
        add: Keep what the gallery holds: a new person is added, a known one gets the new pictures too, and a picture
            whose file is called as one that is there, from the folder on, takes its place.

    Returns:
        `gallery`, `identities`, `pictures`, of the gallery as it then is.

    Raises:
        UsageError: No such model or folder, or `gallery` is a file of another kind.
        DataError: A person without a picture, or a picture that cannot be read, or with `add` a gallery that is
            damaged or of another model; nothing is written.
    """
    from resnet_tasks.engine.predicting import fingerprint
    from resnet_tasks.faces.gallery import Gallery

    Gallery.check_place(gallery)
    named = _people(Path(folder))
    loaded = _opened(model)
    before = Gallery.before(gallery, needed=add)
    if add and before is not None:
        before.check(fingerprint(loaded))
    files = [file for _, file in named]
    known = Gallery(
        embeddings=_embedded(loaded, files),
        names=tuple(name for name, _ in named),
        files=tuple(file.relative_to(folder).as_posix() for file in files),
        fingerprint=fingerprint(loaded),
        threshold=_threshold(loaded, None),
    )
    if before is not None:
        held = f"{before.identities} identities, {len(before)} pictures"
        logger.warning("%s: %s the gallery of %s", gallery, "adds to" if add else "replaces", held)
    known = before.extended(known) if add and before is not None else known
    known.save(Path(gallery))
    return {"gallery": str(gallery), "identities": known.identities, "pictures": len(known)}


def identify(
    model: Model,
    gallery: str | os.PathLike,
    pictures: Sequence[str],
    *,
    threshold: float | None = None,
) -> dict:
    """Who of a gallery each picture shows.

    Args:
        model: The one that the gallery was written with, as for `enroll`.
        gallery: As `enroll` wrote it.
        pictures: Files, folders of files, or `@list.txt`; aligned as in `verify`.
        threshold: The similarity below which a face is "unknown"; by default the model's own.

    Returns:
        `{"pictures": [{"file", "name", "similarity"}]}`; of one that cannot be read `file` and `error`.

    Raises:
        UsageError: No such model, gallery or folder.
        DataError: The gallery is damaged, or of another model.
    """
    from resnet_tasks.engine.predicting import find_pictures, fingerprint
    from resnet_tasks.faces.gallery import Gallery

    known = Gallery.load(Path(gallery))
    loaded = _opened(model)
    known.check(fingerprint(loaded))
    least = _threshold(loaded, threshold)
    answers: list[dict] = []
    for file, embedding, error in _embeddings(loaded, find_pictures(list(pictures))):
        if error is not None:
            answers.append({"file": file, "error": str(error).removeprefix(f"{file}: ")})
            continue
        places, similarities = known.search(embedding[None])
        best = float(similarities[0, 0])
        name = known.names[int(places[0, 0])] if best >= least else UNKNOWN
        answers.append({"file": file, "name": name, "similarity": best})
    return {"pictures": answers}


def _opened(model: Model) -> "Loaded":
    from resnet_tasks.engine.loaded import Loaded
    from resnet_tasks.opening import open_model

    if not isinstance(model, Loaded):
        return open_model(model, "faces").loaded
    if model.task != "faces":
        raise UsageError(f"{model.path} is a model of `{model.task}`; expected one of `faces`")
    return model


def _threshold(loaded: "Loaded", asked: float | None) -> float:
    if asked is not None and not -1 <= asked <= 1:
        raise UsageError(f"threshold: a similarity, from -1 to 1, expected, not {asked:g}")
    return loaded.threshold if asked is None else asked


def _embedded(loaded: "Loaded", files: Iterable[str | os.PathLike]) -> "np.ndarray":
    """`(files, d)` float32, of unit length.

    Raises:
        UsageError: There is no such file.
        DataError: One that cannot be read.
    """
    import numpy as np

    rows = []
    for _, embedding, error in _embeddings(loaded, files):
        if error is not None:
            raise error
        rows.append(embedding)
    return np.stack(rows)


def _embeddings(loaded: "Loaded", files: Iterable[str | os.PathLike]) -> Iterator[tuple]:
    """(file, embedding `(d,)`, error) of each, in order; the embedding of one with an error means nothing."""
    from resnet_tasks.faces.aligning import aligned

    waiting = aligned(loaded, ((str(file), Path(file)) for file in files))
    while chunk := list(islice(waiting, AT_ONCE)):
        read = [_read(picture) for _, picture in chunk]
        answers = loaded.answer([encoded if isinstance(encoded, bytes) else b"" for encoded in read])
        for (file, _), encoded, embedding, readable in zip(chunk, read, answers["embedding"], answers["readable"]):
            error = None if isinstance(encoded, bytes) else encoded
            if error is None and not readable:
                error = DataError(f"{file}: not a picture that can be read, or damaged")
            yield file, embedding, error


def _read(picture: Path | bytes) -> bytes | UsageError | DataError:
    """The picture's bytes, or why there are none."""
    from resnet_tasks.data import formats

    if isinstance(picture, bytes):
        return picture
    if not picture.is_file():
        return UsageError(f"{picture}: there is no such picture")
    try:
        return formats.readable_bytes(picture)
    except formats.Unreadable as error:
        return DataError(f"{picture}: {str(error).removeprefix(f'{picture}: ')}")


def _people(folder: Path) -> list[tuple[str, Path]]:
    """(name, picture) of every person's folder, found as the reader of training finds them."""
    from resnet_tasks.data.formats import SUFFIXES
    from resnet_tasks.data.readers import folders

    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; expected one with a folder of pictures for each person")
    split, below = folders._split_folders(folder)[0]
    if split is not None:
        raise DataError(f"{folder} holds splits, not people; name one of them, such as {below}")
    people = folders._folders(folder)
    if not people:
        raise DataError(f"{folder} holds no folder; expected one for each person, such as {folder / 'anna' / '1.jpg'}")
    found = []
    for person in people:
        name = unicodedata.normalize("NFC", person.name)
        if name == UNKNOWN:
            raise DataError(f"{person}: {UNKNOWN!r} is what strangers are called; rename the folder")
        files = sorted(path for path in folders._walk(person) if path.suffix.lower() in SUFFIXES)
        for path in (person, *files):
            if path.name.encode(errors="replace").decode() != path.name:
                written = str(path).encode(errors="backslashreplace").decode()
                raise DataError(f"{written}: its name is not in UTF-8; rename it")
        if not files:
            raise DataError(f"{person.name}: the folder {person} holds no picture; add one, or remove the folder")
        found += [(name, file) for file in files]
    loose = sum(path.suffix.lower() in SUFFIXES and path.is_file() for path in folder.iterdir())
    if loose:
        logger.warning("left out, in no person's folder: %d pictures in %s", loose, folder)
    return found
