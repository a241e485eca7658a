"""What faces are for, as functions: whether two pictures show the same person, and who of those known it is."""

import logging
import math
import os
import unicodedata
from collections.abc import Iterator, Sequence
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
    the one above names them; where none does, they are taken for aligned crops, which is logged as a warning.

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


def enroll(model: Model, gallery: str | os.PathLike, folder: str | os.PathLike) -> dict:
    """Writes the embeddings of known faces to a file.

    Args:
        model: A run folder, a `.keras` file or an artefact, or one that `resnet_tasks.load` opened.
        gallery: The file to write; a gallery that is there is replaced, once all pictures have been read.
        folder: A folder for each person, of pictures; aligned as in `verify`.

    Returns:
        `gallery`, `identities`, `pictures`.

    Raises:
        UsageError: No such model or folder, or `gallery` is a file of another kind.
        DataError: A person without a picture, or a picture that cannot be read; nothing is written.
    """
    from resnet_tasks.engine.predicting import fingerprint
    from resnet_tasks.faces.gallery import Gallery

    Gallery.check_place(gallery)
    named = _people(Path(folder))
    loaded = _opened(model)
    files = [file for _, file in named]
    Gallery(
        embeddings=_embedded(loaded, files),
        names=tuple(name for name, _ in named),
        files=tuple(file.relative_to(folder).as_posix() for file in files),
        fingerprint=fingerprint(loaded),
        threshold=_threshold(loaded, None),
    ).save(Path(gallery))
    return {"gallery": str(gallery), "identities": len({name for name, _ in named}), "pictures": len(named)}


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
    for file, embedding, error in _embeddings(loaded, list(find_pictures(list(pictures)))):
        if error is not None:
            answers.append({"file": str(file), "error": str(error)})
            continue
        places, similarities = known.search(embedding[None])
        best = float(similarities[0, 0])
        name = known.names[int(places[0, 0])] if best >= least else UNKNOWN
        answers.append({"file": str(file), "name": name, "similarity": best})
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
    if asked is not None and not math.isfinite(asked):
        raise UsageError(f"threshold: a similarity, from -1 to 1, expected, not {asked:g}")
    return loaded.threshold if asked is None else asked


def _embedded(loaded: "Loaded", files: Sequence[str | os.PathLike]) -> "np.ndarray":
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


def _embeddings(loaded: "Loaded", files: Sequence[str | os.PathLike]) -> Iterator[tuple]:
    """(file, embedding `(d,)`, error) of each, in order; the embedding of one with an error means nothing."""
    waiting = iter(zip(files, _landmarks(loaded, [Path(file) for file in files])))
    while some := list(islice(waiting, AT_ONCE)):
        chunk = [file for file, _ in some]
        read = [_read(Path(file), points, loaded.image_size) for file, points in some]
        answers = loaded.answer([encoded if isinstance(encoded, bytes) else b"" for encoded in read])
        for file, encoded, embedding, readable in zip(chunk, read, answers["embedding"], answers["readable"]):
            error = None if isinstance(encoded, bytes) else encoded
            if error is None and not readable:
                error = DataError(f"{file}: not a picture that can be read, or damaged")
            yield file, embedding, error


def _landmarks(loaded: "Loaded", files: Sequence[Path]) -> "list[np.ndarray | None]":
    """Of each picture its landmarks, if the model's pictures are aligned by them and there are any."""
    from resnet_tasks.data.readers import face_landmarks

    if loaded.settings.get("alignment") != "landmarks":
        return [None] * len(files)
    found = face_landmarks.of_files(files)
    without = sum(points is None for points in found)
    if without:
        logger.warning(
            "taken for aligned crops: %d of %d pictures; the model was trained on faces aligned by %s, and no such "
            "list in the folders of these pictures, or the folders above, names them",
            without,
            len(files),
            face_landmarks.FILE,
        )
    return found


def _read(file: Path, points: "np.ndarray | None", image_size: tuple[int, int]) -> bytes | UsageError | DataError:
    """The picture's bytes, aligned by its landmarks if there are any, or why there are none."""
    from resnet_tasks.data import formats
    from resnet_tasks.faces.predictor import aligned_png

    if not file.is_file():
        return UsageError(f"{file}: there is no such picture")
    try:
        encoded = formats.readable_bytes(file)
        return encoded if points is None else aligned_png(encoded, points, image_size)
    except (formats.Unreadable, DataError) as error:
        return DataError(f"{file}: {str(error).removeprefix(f'{file}: ')}")


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
        if not files:
            raise DataError(f"{person.name}: the folder {person} holds no picture; add one, or remove the folder")
        found += [(name, file) for file in files]
    loose = sum(path.suffix.lower() in SUFFIXES and path.is_file() for path in folder.iterdir())
    if loose:
        logger.warning("left out, in no person's folder: %d pictures in %s", loose, folder)
    return found
