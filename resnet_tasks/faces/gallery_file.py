"""A gallery's file: a .npz of six arrays, without pickle and not compressed.

`numpy.load(path, allow_pickle=False)` reads `embeddings`; `names` and `files`, the bytes of all texts in UTF-8, with
`names_ends` and `files_ends`, where each text ends; and `about`, the bytes of a JSON object with `format`, `version`,
`fingerprint` and `threshold`.

The bytes of each array begin at a multiple of 64 of the file, so that the embeddings can be mapped into memory where
they lie, to be read alone: what is not looked at, or not for a while, takes none.  A file without that, as of
`numpy.savez`, is read into memory.
"""

import json
import mmap
import os
import struct
import zipfile
from collections.abc import Callable, Sequence
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
ALIGNED = 64  # what the place of an array's bytes in the file is a multiple of
HEADER, ZIP64 = 30, 20  # bytes of a member's header in a zip file without its name, and of what holds its size in it
PADDING = 0xD935  # what Android's zipalign calls the field that fills such a header up
Forget = Callable[[int, int], None]
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
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in {"embeddings": np.ascontiguousarray(embeddings), **arrays}.items():
                entry = zipfile.ZipInfo(f"{name}.npy")
                fill = -(file.tell() + HEADER + len(entry.filename) + ZIP64 + 4) % ALIGNED
                entry.extra = struct.pack("<HH", PADDING, fill) + bytes(fill)
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())  # or a machine that fails after a renaming has it empty


def is_one(path: Path) -> bool:
    """Whether the file holds what galleries hold; its bytes are not checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(archive.namelist()) == sorted(f"{name}.npy" for name in ARRAYS)
    except (zipfile.BadZipFile, OSError):
        return False


def read(path: Path) -> tuple[np.ndarray, Texts, Texts, str, float, Forget | None]:
    """Embeddings, names, files, fingerprint and threshold; every byte is checked.

    The embeddings are mapped, or in memory once; `forget(start, stop)` of mapped ones gives the memory of these bytes
    of theirs back, which come from the file when they are looked at again.  The file may be replaced meanwhile, not
    changed.

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
        *texts, last = ARRAYS
        held = {name: _array(archive, name)[0] for name in texts}
        embeddings, forget = _array(archive, last, in_place=True)
    names, files = (Texts(held[name], held[f"{name}_ends"]) for name in ("names", "files"))
    return embeddings, names, files, *_about(held["about"]), forget


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


def _array(archive: zipfile.ZipFile, name: str, in_place: bool = False) -> tuple[np.ndarray, Forget | None]:
    """An array, read into memory or with `in_place`, if that can be, mapped; and what forgets parts of a mapped one.

    One of another type or shape is refused before memory is spent on it.
    """
    entry = archive.getinfo(f"{name}.npy")
    dtype, axes = np.dtype(ARRAYS[name][0]), ARRAYS[name][1]
    with archive.open(entry) as stream:
        shape, fortran, found = _header(name, stream)
        if found.hasobject:
            raise Unreadable(f"{name!r} holds Python objects, which could carry code: refused, nothing was run")
        if found != dtype or len(shape) != axes or (fortran and axes > 1):
            raise Unreadable(f"{name!r} is {found} {shape}; expected {dtype} of {axes} axes")
        size = counted(shape) * dtype.itemsize
        if stream.tell() + size != entry.file_size:
            raise Unreadable(f"{name!r} has {entry.file_size:,} bytes, which {dtype} {shape} does not fill")
        mapped = _mapped(archive, entry, stream.tell(), shape, dtype) if in_place and size else None
        array, forget = mapped or (np.empty(shape, dtype), None)
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, size, AT_ONCE):
            part = stream.read(min(AT_ONCE, size - start))
            if len(part) != min(AT_ONCE, size - start):
                raise Unreadable(f"{name!r} is cut off")
            if mapped is None:
                flat[start : start + len(part)] = np.frombuffer(part, np.uint8)
    return array, forget


def _mapped(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, behind: int, shape: tuple[int, ...], dtype: np.dtype
) -> tuple[np.ndarray, Forget | None] | None:
    """A member's array where it lies in the file, `behind` its first bytes; None if it is packed or lies askew."""
    if entry.compress_type != zipfile.ZIP_STORED or archive.fp is None:
        return None
    whole = mmap.mmap(archive.fp.fileno(), 0, access=mmap.ACCESS_READ)
    lengths = struct.unpack_from("<HH", whole, entry.header_offset + HEADER - 4)  # of its name and what follows that
    offset = entry.header_offset + HEADER + sum(lengths) + behind
    if offset % dtype.itemsize:
        return None

    def forget(start: int, stop: int) -> None:
        first = (offset + start) // mmap.PAGESIZE * mmap.PAGESIZE
        whole.madvise(mmap.MADV_DONTNEED, first, offset + stop - first)

    array = np.frombuffer(whole, dtype, counted(shape), offset).reshape(shape)
    return array, forget if hasattr(mmap, "MADV_DONTNEED") else None


def _header(name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise Unreadable(f"{name!r} is of version {version} of .npy; expected 1.0 or 2.0")
    return HEADERS[version](stream)
