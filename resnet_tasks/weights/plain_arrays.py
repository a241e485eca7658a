"""The two formats that are nothing but named arrays: `.safetensors` and `.npz`."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from resnet_tasks.weights.bounds import Unreadable, check_unpacked, counted, from_bfloat16
from resnet_tasks.weights.checkpoint import Checkpoint

_LONGEST_HEADER = 100_000_000  # the format's own limit
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?", "C64": "<c8"}
_TYPES |= {f"I{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)} | {
    f"U{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)
}


def read_safetensors(path: Path) -> Checkpoint:
    """Reads the published format: the header's length as 8 bytes, a JSON header, the numbers."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(_LONGEST_HEADER, size - 8):
            raise Unreadable(
                f"has {size:,} bytes and states a header of {length:,}: it is cut off or no .safetensors file"
            )
        header = _header(stream.read(length))
        metadata = header.pop("__metadata__", {})
        tensors, expected = {}, 0
        for name, entry in sorted(header.items(), key=lambda item: _span(*item)):
            begin, end = _span(name, entry)
            if begin != expected:
                raise Unreadable(f"has {name!r} begin at byte {begin:,} of its numbers; {expected:,} is expected")
            expected = end
            if 8 + length + end > size:
                raise Unreadable(f"has {size:,} bytes, and {name!r} ends at {8 + length + end:,}: it was cut off")
            tensors[name] = _tensor(name, entry, stream.read(end - begin))
    if 8 + length + expected != size:
        raise Unreadable(f"has {size:,} bytes where its header describes {8 + length + expected:,}")
    ordered = {name: tensors[name] for name in header}
    return Checkpoint(path, "safetensors", ordered, {"metadata": metadata} if metadata else {})


def _header(text: bytes) -> dict[str, Any]:
    def once(pairs):
        if len(dict(pairs)) != len(pairs):
            raise Unreadable("names something twice in its header")
        return dict(pairs)

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"has no readable header ({error}): it is damaged or no .safetensors file") from error
    if not isinstance(header, dict):
        raise Unreadable("has a header that is no JSON object: it is damaged or no .safetensors file")
    return header


def _span(name: str, entry: Any) -> tuple[int, int]:
    match entry:
        case {"dtype": str(), "shape": [*_], "data_offsets": [int(begin), int(end)]} if 0 <= begin <= end:
            return begin, end
    raise Unreadable(f"describes {name!r} without a type, a shape and where it lies: it is damaged")


def _tensor(name: str, entry: dict, data: bytes) -> np.ndarray:
    kind, shape = entry["dtype"], entry["shape"]
    if kind not in _TYPES:
        raise Unreadable(f"has {name!r} of type {kind}, which is not read here; save it as F32")
    dtype = np.dtype(_TYPES[kind])
    if counted(shape) * dtype.itemsize != len(data):
        raise Unreadable(
            f"gives {name!r} {len(data):,} bytes; {kind} {tuple(shape)} needs {counted(shape) * dtype.itemsize:,}"
        )
    flat = np.frombuffer(data, dtype).reshape(shape)
    return from_bfloat16(flat) if kind == "BF16" else flat.astype(dtype.newbyteorder("="))


def read_npz(path: Path, archive: zipfile.ZipFile) -> Checkpoint:
    """Reads `numpy.savez`'s arrays of numbers; one of Python objects is refused, for reading it could run code."""
    entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
    check_unpacked(sum(entry.file_size for entry in entries), path.stat().st_size)
    tensors = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        with archive.open(entry) as stream:
            tensors[name] = _npy(name, stream, entry.file_size)
    return Checkpoint(path, "npz", tensors)


def _npy(name: str, stream: Any, size: int) -> np.ndarray:
    shape, fortran, dtype, length = _npy_header(name, stream)
    if dtype.hasobject:
        raise Unreadable(f"has {name!r} of Python objects, which could carry code: refused, nothing was run")
    if dtype.kind not in "biufcSU" or dtype.names is not None:
        raise Unreadable(f"has {name!r} of type {dtype}; numbers are expected")
    if length + counted(shape) * dtype.itemsize != size:
        raise Unreadable(
            f"has {size:,} bytes for {name!r}, and {dtype} {shape} needs {length + counted(shape) * dtype.itemsize:,}"
        )
    flat = np.frombuffer(stream.read(), dtype)
    return np.array(flat.reshape(shape, order="F" if fortran else "C"), dtype.newbyteorder("="), order="C")


def _npy_header(name: str, stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran's order, type, and the bytes before the numbers."""
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise Unreadable(f"has {name!r} in version {version} of .npy; 1.0 and 2.0 are known")
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype, stream.tell()


def names_arrays(names: list[str]) -> bool:
    """Whether a zip's entries are those of a .npz."""
    return bool(names) and all(re.search(r"\.npy$", name) for name in names)
