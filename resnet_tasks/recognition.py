"""What faces are for, as functions: whether two pictures show the same person, and who of those known it is."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_tasks.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from resnet_tasks.engine.loaded import Loaded

AT_ONCE = 64  # pictures whose embeddings are computed together
UNKNOWN = "unknown"


def verify(
    model: str | os.PathLike, first: str | os.PathLike, second: str | os.PathLike, *, threshold: float | None = None
) -> dict:
    """Whether two pictures show the same identity.

    Args:
        model: A run folder, a `.keras` file or an artefact.
        first: A picture of one aligned face.
        second: Another.
        threshold: The similarity from which they are the same; by default the model's own.

    Returns:
        `similarity`, the cosine of the embeddings; `threshold`; `same`.

    Raises:
        UsageError: No such model or picture.
        DataError: A picture that cannot be read.
    """
    from resnet_tasks.faces.predictor import similarity
    from resnet_tasks.opening import open_model

    loaded = open_model(model, "faces").loaded
    one, other = _embedded(loaded, [first, second])
    found, least = similarity(one, other), _threshold(loaded, threshold)
    return {"similarity": found, "threshold": least, "same": found >= least}


def enroll(model: str | os.PathLike, gallery: str | os.PathLike, folder: str | os.PathLike) -> dict:
    """Writes the embeddings of known faces to a file.

    Args:
        model: A run folder, a `.keras` file or an artefact.
        gallery: The file to write; one that is there is replaced, once all pictures have been read.
        folder: A folder for each person, of pictures.

    Returns:
        `gallery`, `identities`, `pictures`.

    Raises:
        UsageError: No such model or folder.
        DataError: A person without a picture, or a picture that cannot be read; nothing is written.
    """
    from resnet_tasks.engine.predicting import fingerprint
    from resnet_tasks.faces.gallery import Gallery
    from resnet_tasks.opening import open_model

    named = _people(Path(folder))
    loaded = open_model(model, "faces").loaded
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
    model: str | os.PathLike,
    gallery: str | os.PathLike,
    pictures: Sequence[str],
    *,
    threshold: float | None = None,
) -> dict:
    """Who of a gallery each picture shows.

    Args:
        model: The one that the gallery was written with.
        gallery: As `enroll` wrote it.
        pictures: Files, folders of files, or `@list.txt`.
        threshold: The similarity below which a face is "unknown"; by default the model's own.

    Returns:
        `{"pictures": [{"file", "name", "similarity"}]}`; of one that cannot be read `file` and `error`.

    Raises:
        UsageError: No such model, gallery or folder.
        DataError: The gallery is damaged, or of another model.
    """
    from resnet_tasks.engine.predicting import find_pictures, fingerprint
    from resnet_tasks.faces.gallery import Gallery
    from resnet_tasks.opening import open_model

    known = Gallery.load(Path(gallery))
    loaded = open_model(model, "faces").loaded
    known.check(fingerprint(loaded))
    least = _threshold(loaded, threshold)
    answers: list[dict] = []
    for file in find_pictures(list(pictures)):
        try:
            embedded = _embedded(loaded, [file])
        except (UsageError, DataError) as error:
            answers.append({"file": str(file), "error": str(error)})
            continue
        places, similarities = known.search(embedded)
        best = float(similarities[0, 0])
        name = known.names[int(places[0, 0])] if best >= least else UNKNOWN
        answers.append({"file": str(file), "name": name, "similarity": best})
    return {"pictures": answers}


def _threshold(loaded: "Loaded", asked: float | None) -> float:
    return loaded.threshold if asked is None else asked


def _embedded(loaded: "Loaded", files: Sequence[str | os.PathLike]) -> "np.ndarray":
    """`(files, d)` float32, of unit length."""
    import numpy as np

    rows = []
    for start in range(0, len(files), AT_ONCE):
        chunk = files[start : start + AT_ONCE]
        for file in chunk:
            if not Path(file).is_file():
                raise UsageError(f"{file}: there is no such picture")
        answers = loaded.answer([_read(Path(file)) for file in chunk])
        for file, readable in zip(chunk, answers["readable"]):
            if not readable:
                raise DataError(f"{file}: not a picture that can be read, or damaged")
        rows.append(answers["embedding"])
    return np.concatenate(rows)


def _read(file: Path) -> bytes:
    from resnet_tasks.data import formats

    try:
        return formats.readable_bytes(file)
    except formats.Unreadable as error:
        raise DataError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from None


def _people(folder: Path) -> list[tuple[str, Path]]:
    """(name, picture) of every person's folder."""
    from resnet_tasks.data.formats import SUFFIXES

    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; expected one with a folder of pictures for each person")
    people = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not people:
        raise DataError(f"{folder} holds no folder; expected one for each person, such as {folder / 'anna' / '1.jpg'}")
    found = []
    for person in people:
        files = sorted(
            path for path in person.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        if not files:
            raise DataError(f"{person.name}: the folder {person} holds no picture; add one, or remove the folder")
        found += [(person.name, file) for file in files]
    return found
