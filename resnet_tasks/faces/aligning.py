"""Pictures that somebody asks about, aligned by the landmarks that lie near them as those trained on were."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from resnet_tasks.errors import DataError

logger = logging.getLogger("resnet_tasks")


class Opened(Protocol):
    """What is asked of a model that was opened, an `engine.loaded.Loaded`."""

    settings: dict
    image_size: tuple[int, int]


def aligned(loaded: Opened, pictures: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Named pictures as the model expects them.

    Of a model that was trained on faces aligned by landmarks, a file that `landmarks.csv` in its folder or one some
    levels above names becomes the PNG of the aligned face; how many others were taken for aligned crops is logged as a
    warning in the end.  What is no file, or cannot be read, stays as it is.

    Raises:
        DataError: A list of landmarks that cannot be read.
    """
    if loaded.settings.get("alignment") != "landmarks":
        yield from pictures
        return
    from resnet_tasks.data.readers import face_landmarks

    nearby = face_landmarks.Nearby()
    files = without = 0
    for name, picture in pictures:
        if not isinstance(picture, str | Path) or not Path(picture).is_file():
            yield name, picture
            continue
        points = nearby.find(picture)
        files, without = files + 1, without + (points is None)
        yield name, picture if points is None else _png(Path(picture), points, loaded.image_size)
    if without:
        logger.warning(
            "taken for aligned crops: %d of %d pictures; the model was trained on faces aligned by %s, and no such "
            "list in the folders of these pictures, or the folders above, names them",
            without,
            files,
            face_landmarks.FILE,
        )


def _png(file: Path, points, image_size: tuple[int, int]) -> bytes | Path:
    """The aligned face; the file where it cannot be read, which is said where it is answered."""
    from resnet_tasks.data import formats
    from resnet_tasks.faces.predictor import aligned_png

    try:
        return aligned_png(formats.readable_bytes(file), points, image_size)
    except (formats.Unreadable, DataError):
        return file
