"""PyTorch's checkpoints, the zip of `torch.save` and the older stream; without torch, and nothing in them is run."""

import pickle
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from resnet_tasks.weights import pickled
from resnet_tasks.weights.bounds import Unreadable, check_unpacked, counted, from_bfloat16
from resnet_tasks.weights.checkpoint import Checkpoint
from resnet_tasks.weights.pth_globals import Storage, Tensor, itemsize, makers, storage, tensors_of

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # the first two pickles of the older stream
_DEEPEST = 12  # no training script nests its state dict as deep
_Bytes = Callable[[Storage], bytes]
_Order = Literal["little", "big"]


def read_zip(path: Path, archive: zipfile.ZipFile) -> Checkpoint:
    """Reads what `torch.save` has written since 1.6."""
    names = set(archive.namelist())
    pickle_name = next(name for name in names if name.rsplit("/", 1)[-1] == "data.pkl")
    prefix = pickle_name.removesuffix("data.pkl")
    if any(name.startswith(f"{prefix}code/") for name in names):
        raise Unreadable(
            "carries code (a TorchScript program): refused, nothing was run; save model.state_dict() instead"
        )
    order = archive.read(f"{prefix}byteorder") if f"{prefix}byteorder" in names else b"little"
    check_unpacked(archive.getinfo(pickle_name).file_size, path.stat().st_size)
    with archive.open(pickle_name) as stream:
        root = _load(stream)

    def numbers(of: Storage) -> bytes:
        name = f"{prefix}data/{of.key}"
        if name not in names:
            raise Unreadable(f"lacks the numbers {name}; it was cut off or saved without them")
        if archive.getinfo(name).file_size < (of.start + of.count) * itemsize(of.element):
            raise Unreadable(f"has too few numbers in {name}")
        check_unpacked(archive.getinfo(name).file_size, path.stat().st_size)
        return archive.read(name)

    return _checkpoint(path, root, numbers, "zip", "big" if order.strip() == b"big" else "little")


def read_stream(path: Path) -> Checkpoint:
    """Reads what `torch.save` wrote before 1.6, and a bare pickle of numpy arrays."""
    with path.open("rb") as stream:
        root = _load(stream)
        if root != _MAGIC:
            return _checkpoint(path, root, _no_numbers, "pickle", "little")
        protocol, _ = _load(stream), _load(stream)  # and the machine's byte order, which the numbers do not follow
        if protocol != _PROTOCOL:
            raise Unreadable(
                f"is in a version of the older format of torch.save that is not {_PROTOCOL}, the one known"
            )
        seen: dict[str, Storage] = {}

        def remembered(identity) -> Storage:
            found = storage(identity)
            seen.setdefault(found.key, found)
            return found

        root = pickled.load(stream, makers(), remembered)
        places = _places(stream, _load(stream), seen, path.stat().st_size)

        def numbers(of: Storage) -> bytes:
            at, count = places.get(of.key, (0, 0))
            if count < of.start + of.count:
                raise Unreadable(f"has {count} numbers where {of.start + of.count} are expected; it was cut off")
            stream.seek(at)
            return stream.read(count * itemsize(of.element))

        return _checkpoint(path, root, numbers, "stream", "little")


def _places(stream: BinaryIO, keys: Any, seen: dict[str, Storage], size: int) -> dict[str, tuple[int, int]]:
    """`{key: (byte, elements)}` of the storages behind the pickles: each an int64 of its length, then its numbers."""
    places = {}
    for key in keys:
        if not isinstance(key, str) or key not in seen:
            raise Unreadable("has numbers that no tensor refers to")
        count = int.from_bytes(stream.read(8), "little", signed=True)
        at = stream.tell()
        end = at + count * itemsize(seen[key].element)
        if count < 0 or end > size:
            raise Unreadable(f"ends at byte {size:,}, and its numbers go on to {end:,}; it was cut off")
        places[key] = at, count
        stream.seek(end)
    return places


def _load(stream) -> Any:
    return pickled.load(stream, makers(), storage)


def _no_numbers(_: Storage) -> bytes:
    raise Unreadable("refers to numbers that lie outside it")


def _checkpoint(path: Path, root: Any, numbers: _Bytes, container: str, order: _Order) -> Checkpoint:
    """The mapping with the most tensors, wherever a training script has put it."""
    found = [(where, tensors) for where, mapping in _mappings(root) if (tensors := tensors_of(mapping))]
    if not found:
        what = f"a {type(root).__name__}" if not isinstance(root, Tensor) else "one tensor"
        raise Unreadable(f"holds {what} and no named tensors; a state dict, {{name: tensor}}, is expected")
    where, tensors = max(found, key=lambda one: len(one[1]))  # the first of several equal ones
    check_unpacked(sum(_size(one) for one in tensors.values()), path.stat().st_size)
    details: dict[str, Any] = {"container": container}
    if where:
        details["wrapper"] = where
    others = {name or "(top)": len(inside) for name, inside in found if name != where}
    if others:
        details["also there"] = others
    if isinstance(root, dict):
        notes = {key: value for key, value in root.items() if isinstance(key, str) and type(value) in (str, int, float)}
        details |= {"notes": notes} if notes else {}
    cache: dict[tuple[str, str], np.ndarray] = {}
    read = {name: _array(tensor, numbers, order, cache) for name, tensor in tensors.items()}
    return Checkpoint(path, "pth", read, details)


def _mappings(root: Any) -> Iterator[tuple[str, dict]]:
    """Every mapping within, with the keys that lead to it; the outer before the inner, in the file's order."""
    queue: deque[tuple[str, int, Any]] = deque([("", 0, root)])
    seen: set[int] = set()
    while queue:
        where, depth, value = queue.popleft()
        if id(value) in seen or depth > _DEEPEST:
            continue
        seen.add(id(value))
        value = value.values if isinstance(value, pickled.Record) else value
        if isinstance(value, dict):
            yield where, value
            pairs = list(value.items())
        elif isinstance(value, list | tuple):
            pairs = list(enumerate(value))
        else:
            continue
        queue.extend((f"{where}.{key}" if where else str(key), depth + 1, inner) for key, inner in pairs)


def _size(tensor: Tensor | np.ndarray) -> int:
    if isinstance(tensor, np.ndarray):
        return tensor.nbytes
    return counted(tensor.shape) * itemsize(tensor.storage.element)


def _array(tensor: Tensor | np.ndarray, numbers: _Bytes, order: _Order, cache: dict) -> np.ndarray:
    """The tensor's numbers, on their own, in C order and the machine's byte order."""
    if isinstance(tensor, np.ndarray):
        return np.array(tensor, tensor.dtype.newbyteorder("="), order="C")
    of = tensor.storage
    if (of.key, of.element) not in cache:
        kind = np.dtype("u2" if of.element == "bf16" else of.element).newbyteorder(order)
        held = numbers(of)
        cache[of.key, of.element] = np.frombuffer(held[: len(held) // kind.itemsize * kind.itemsize], kind)
    flat = cache[of.key, of.element][of.start :]
    tensor.check_within(min(of.count, flat.size))
    flat = flat[tensor.offset :]
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, np.float32 if of.element == "bf16" else of.element)
    steps = tuple(stride * flat.itemsize for stride in tensor.strides)
    view = np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False)
    if of.element == "bf16":
        return from_bfloat16(np.array(view, "u2", order="C"))
    return np.array(view, of.element, order="C")


def looks_like_pickle(start: bytes) -> bool:
    """Whether a file's first bytes are a pickle of protocol 2 or later."""
    return start[:1] == pickle.PROTO and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
