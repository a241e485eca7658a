"""A gallery's file: a .npz of six arrays, without pickle and not compressed.

`numpy.load(path, allow_pickle=False)` reads `embeddings`; `names` and `files`, the bytes of all texts in UTF-8, with
`names_ends` and `files_ends`, where each text ends; and `about`, the bytes of a JSON object with `format`, `version`,
`fingerprint` and `threshold`.
"""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from resnet_tasks.faces.texts import Texts
from resnet_tasks.weights.bounds import Unreadable, check_unpacked, counted

FORMAT, VERSION = "resnet-tasks gallery", 1
ARRAYS = {  # type and axes of each, in the order in which they are read
    "about": ("uint8", 1),
    "names": ("uint8", 1),
    "names_ends": ("int64", 1),
    "files": ("uint8", 1),
    "files_ends": ("int64", 1),
    "embeddings": ("float32", 2),
}
AT_ONCE = 1 << 24  # bytes
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write(
    path: Path, embeddings: np.ndarray, names: Sequence[str], files: Sequence[str], fingerprint: str, threshold: float
) -> None:
    """Writes the file, and waits until the disk has it."""
    about = {"format": FORMAT, "version": VERSION, "fingerprint": fingerprint, "threshold": float(threshold)}
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    for name, texts in (("names", names), ("files", files)):
        held = texts if isinstance(texts, Texts) else Texts.of(texts)
        arrays |= {name: held.utf8, f"{name}_ends": held.ends}
    with path.open("wb") as file:
        np.savez(file, embeddings=np.ascontiguousarray(embeddings), **arrays)
        file.flush()
        os.fsync(file.fileno())  # or a machine that fails after a renaming has it empty


def is_one(path: Path) -> bool:
    """Whether the file holds what galleries hold; its bytes are not checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(archive.namelist()) == sorted(f"{name}.npy" for name in ARRAYS)
    except (zipfile.BadZipFile, OSError):
        return False


def read(path: Path) -> tuple[np.ndarray, Texts, Texts, str, float]:
    """Embeddings, names, files, fingerprint and threshold; every byte is checked, the embeddings are in memory once.

    Raises:
        Unreadable: It is no gallery.
        Exception: Whatever zipfile and NumPy meet in a file that is damaged.
    """
    with path.open("rb") as stream:
        if not stream.read(1):
            raise Unreadable("this file is empty")
    with zipfile.ZipFile(path) as archive:
        found = archive.namelist()
        if sorted(found) != sorted(f"{name}.npy" for name in ARRAYS):
            raise Unreadable(f"this is a zip archive of {', '.join(found[:3]) or 'nothing'}")
        check_unpacked(sum(entry.file_size for entry in archive.infolist()), path.stat().st_size)
        held = {name: _array(archive, name, np.dtype(kind), axes) for name, (kind, axes) in ARRAYS.items()}
    names, files = (Texts(held[name], held[f"{name}_ends"]) for name in ("names", "files"))
    return held["embeddings"], names, files, *_about(held["about"])


def _about(text: np.ndarray) -> tuple[str, float]:
    """Fingerprint and threshold."""
    match json.loads(text.tobytes()):
        case {"format": str(kind), "version": int(version)} if kind == FORMAT and version != VERSION:
            raise Unreadable(f"this one is of version {version}, and {VERSION} is known")
        case {
            "format": str(kind),
            "version": int(),
            "fingerprint": str(fingerprint),
            "threshold": int(threshold) | float(threshold),
        } if kind == FORMAT:
            return fingerprint, float(threshold)
    raise Unreadable("what it says of itself is not a gallery's")


def _array(archive: zipfile.ZipFile, name: str, dtype: np.dtype, axes: int) -> np.ndarray:
    """An array, read into its place; one of another type or shape is refused before memory is spent on it."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as stream:
        shape, fortran, found = _header(name, stream)
        if found.hasobject:
            raise Unreadable(f"{name!r} holds Python objects, which could carry code: refused, nothing was run")
        if found != dtype or len(shape) != axes or (fortran and axes > 1):
            raise Unreadable(f"{name!r} is {found} {shape}; expected {dtype} of {axes} axes")
        if stream.tell() + counted(shape) * dtype.itemsize != entry.file_size:
            raise Unreadable(f"{name!r} has {entry.file_size:,} bytes, which {dtype} {shape} does not fill")
        array = np.empty(shape, dtype)
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, len(flat), AT_ONCE):
            part = flat[start : start + AT_ONCE]
            found_bytes = stream.read(len(part))
            if len(found_bytes) != len(part):
                raise Unreadable(f"{name!r} is cut off")
            part[:] = np.frombuffer(found_bytes, np.uint8)
    return array


def _header(name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise Unreadable(f"{name!r} is of version {version} of .npy; expected 1.0 or 2.0")
    return HEADERS[version](stream)
