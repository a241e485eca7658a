"""From a file of weights to its named arrays, whatever format it has; nothing in a file is ever executed."""

import os
import zipfile
from pathlib import Path

from resnet_tasks.errors import DataError, UsageError
from resnet_tasks.weights import keras_files, plain_arrays, pth
from resnet_tasks.weights.bounds import Unreadable
from resnet_tasks.weights.checkpoint import Checkpoint

KNOWN = ".pth (.pt, .bin, .ckpt, .tar), .safetensors, .npz, .h5 and .keras"
_PICKLED = {".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", ".pickle"}
# What lies in place of weights when a download went wrong, by its first bytes.
_MISTAKEN = {
    b"version https://git-lfs": "is the pointer that git-lfs leaves, not the weights; `git lfs pull` fetches them",
    b"<!DOCTYPE": "is a web page, not weights; the address it came from needs a login or is wrong",
    b"<html": "is a web page, not weights; the address it came from needs a login or is wrong",
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
}


def read(path: str | os.PathLike) -> Checkpoint:
    """Reads a file of weights.

    What it is, its content decides, and its ending only where that says nothing.

    Args:
        path: A `.pth` of PyTorch (a state dict, or a training checkpoint with one inside), `.safetensors`, `.npz`, or
            Keras's `.h5`, `.weights.h5` and `.keras`.

    Raises:
        UsageError: There is no such file.
        DataError: The content is damaged, not weights, or carries code, none of which was run.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: there is no such file of weights")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file of weights is expected: {KNOWN}")
    try:
        checkpoint = _read(path)
        if not checkpoint.tensors:
            raise Unreadable("holds no arrays")
    except Unreadable as error:
        raise DataError(f"{path} {error}") from error
    except MemoryError as error:
        raise DataError(f"{path} states sizes that no memory can hold; it is damaged or made to harm") from error
    except Exception as error:  # a file can be damaged in every way that zipfile, h5py and numpy know
        raise DataError(f"{path} is damaged or cut off ({error or type(error).__name__}); fetch it again") from error
    return checkpoint


def _read(path: Path) -> Checkpoint:
    with path.open("rb") as stream:
        start = stream.read(512)
    if not start:
        raise Unreadable("is empty")
    for beginning, meaning in _MISTAKEN.items():
        if start.lstrip().lower().startswith(beginning.lower()):
            raise Unreadable(meaning)
    if start.startswith(b"PK"):
        return _read_zip(path)
    if start.startswith(keras_files.MAGIC):
        return keras_files.read_h5(path)
    if start[4:9] == b"\0\0\0\0{":  # asked before the pickle: a header of 640 bytes begins like one
        return plain_arrays.read_safetensors(path)
    if pth.looks_like_pickle(start):
        return pth.read_stream(path)
    return _read_by_ending(path, start)


def _read_zip(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.rsplit("/", 1)[-1] == "data.pkl" for name in names):
            return pth.read_zip(path, archive)
        if keras_files.CONFIG in names:
            return keras_files.read_keras(path, archive)
        if plain_arrays.names_arrays(names):
            return plain_arrays.read_npz(path, archive)
    raise Unreadable(f"is a zip archive of {', '.join(names[:3]) or 'nothing'}, not weights; known are {KNOWN}")


def _read_by_ending(path: Path, start: bytes) -> Checkpoint:
    """A file whose first bytes are those of no format: damaged, something else, or a very old pickle."""
    ending = path.suffix.lower()
    if start[257:262] == b"ustar":
        raise Unreadable(
            "is a tar archive, of PyTorch before 0.1.10 or of files; unpack it, or save it anew with torch.save"
        )
    if ending in _PICKLED:
        return pth.read_stream(path)
    if ending == ".safetensors":
        return plain_arrays.read_safetensors(path)
    raise Unreadable(f"begins with {start[:16]!r}, as no file of weights does; known are {KNOWN}")
