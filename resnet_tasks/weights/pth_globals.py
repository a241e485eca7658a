"""The names that may occur in the pickle of a PyTorch checkpoint, and what stands for each; torch is not needed."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_tasks.weights.bounds import Unreadable, counted
from resnet_tasks.weights.pickled import Global, Record, simple_key

# Storage class and type of torch, without "Storage" and "torch.": numpy's type.  bfloat16 is read as its bits.
_ELEMENTS = {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "BFloat16": "bf16",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "ComplexFloat": "c8",
    "ComplexDouble": "c16",
    "Untyped": "u1",
}
_TYPES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "bf16",
    "bool": "?",
    "uint8": "u1",
    "int8": "i1",
}
_TYPES |= {"int16": "i2", "int32": "i4", "int64": "i8", "uint16": "u2", "uint32": "u4", "uint64": "u8"}
_TYPES |= {"complex64": "c8", "complex128": "c16"}


@dataclass(frozen=True)
class Storage:
    """A stretch of numbers that tensors look into.

    Attributes:
        key: Its name in the file.
        element: numpy's type, without byte order; "bf16" for bfloat16.
        count: How many elements the tensors may look at.
        start: Where they begin in it; only old files have views of storages.
    """

    key: str
    element: str
    count: int
    start: int = 0


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's numbers lie; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def check_within(self, count: int) -> None:
        """Refuses the tensor if it looks beyond the first `count` numbers of its storage, or before them."""
        counted((self.offset, *self.strides))  # none is negative
        last = self.offset + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides))
        if len(self.strides) != len(self.shape) or (counted(self.shape) and last >= count):
            raise Unreadable(f"has a tensor {self.shape} that reaches beyond its {count} numbers")


class Array(Record):
    """A numpy array that is still to be filled.

    Attributes:
        value: The array, once its state is there.
    """

    value: np.ndarray | None = None

    def build(self, state) -> None:
        if isinstance(state, tuple) and len(state) == 5:
            _, shape, kind, fortran, data = state
            self.value = _array(data, kind, shape, "F" if fortran else "C")


class Kind(Record):
    """A numpy type.

    Attributes:
        dtype: numpy's own; never one that holds objects.
    """

    def __init__(self, code: str, *_):
        super().__init__()
        if not re.fullmatch(r"[<>=|]?([biufcSU]\d{1,4}|\?)", code):
            raise Unreadable(f"has a numpy array of type {str(code)[:20]!r}; numbers are expected")
        self.dtype = np.dtype(code)

    def build(self, state) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _array(data, kind: Kind, shape, order) -> np.ndarray:
    data = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if counted(shape) * kind.dtype.itemsize != len(data):
        raise Unreadable(f"has a numpy array {shape} of {len(data)} bytes, which do not fit")
    return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _filled(array: np.ndarray) -> Array:
    made = Array()
    made.value = array
    return made


def _scalar(kind: Kind, data) -> Any:
    return _array(data, kind, (), "C").item()


def _tensor(storage, offset, shape, strides, *rest) -> Tensor:
    metadata = rest[2] if len(rest) > 2 else None
    if metadata:
        raise Unreadable("has a tensor that is stored negated or conjugated, which no checkpoint needs")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _typed_tensor(storage: Storage, offset, shape, strides, _gradient, _hooks, kind: Global, *rest) -> Tensor:
    element = _TYPES.get(kind.name.removeprefix("torch."))
    if element is None:
        raise Unreadable(f"has a tensor of type {kind.name}, which is not read here; save it as float32")
    size = itemsize(element)
    typed = Storage(storage.key, element, storage.count * itemsize(storage.element) // size, storage.start)
    return _tensor(typed, offset, shape, strides, None, None, *rest)


def itemsize(element: str) -> int:
    """Bytes of one element."""
    return 2 if element == "bf16" else np.dtype(element).itemsize


def _mapping(pairs: Any = ()) -> dict:
    return {simple_key(key): value for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)}


def _set(values: Any = ()) -> set:
    return set(map(simple_key, values))


def _device(kind: str, index: int = 0) -> str:
    return f"{simple_key(kind)}:{simple_key(index)}"


def _first(value, *_) -> Any:
    return value


def _encode(text: str, coding: str = "latin1", *_) -> bytes:
    return text.encode("latin1" if coding in ("latin1", "latin-1") else "utf-8")


def _bytes(*arguments) -> bytes:
    if arguments and not isinstance(arguments[0], list | bytes):
        raise Unreadable("makes bytes from what are none")
    return bytes(*arguments[:1])


def makers() -> dict[str, Callable | None]:
    """The table: what is not in it is refused as code."""
    table: dict[str, Callable | None] = {
        "collections.OrderedDict": _mapping,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _typed_tensor,
        "torch._utils._rebuild_parameter": _first,
        "torch._utils._rebuild_parameter_with_state": _first,
        "torch.Size": lambda sides=(): tuple(sides),
        "torch.device": _device,
        "_codecs.encode": _encode,
        "numpy.ndarray": None,
        "numpy.dtype": Kind,
    }
    for module in ("numpy.core", "numpy._core"):
        table[f"{module}.multiarray._reconstruct"] = lambda *_: Array()
        table[f"{module}.multiarray.scalar"] = _scalar
        table[f"{module}.numeric._frombuffer"] = lambda *given: _filled(_array(*given))
    for module in ("builtins", "__builtin__"):
        table |= {f"{module}.{kind.__name__}": kind for kind in (list, tuple, complex)}
        table |= {f"{module}.dict": _mapping, f"{module}.set": _set, f"{module}.frozenset": _set}
        table |= {f"{module}.bytes": _bytes, f"{module}.bytearray": _bytes}
    # What training scripts put beside the weights.
    for name in ("argparse.Namespace", "collections.Counter", "collections.defaultdict", "pathlib.Path"):
        table[name] = Record
    for module in ("pathlib", "pathlib._local"):
        table |= {f"{module}.PosixPath": Record, f"{module}.WindowsPath": Record}
    table |= {f"torch.{kind}": None for kind in _TYPES}
    for module in ("torch", "torch.cuda", "torch.storage"):
        table |= {f"{module}.{name}Storage": None for name in (*_ELEMENTS, "Typed", "QInt8", "QUInt8", "QInt32")}
    return table


def storage(identity: Any) -> Storage:
    """The storage behind a persistent id: `("storage", class, key, device, elements)`, in old files with a view."""
    match identity:
        case ("storage", Global(name), str(key), _, int(count), *view):
            kind = name.rsplit(".", 1)[-1].removesuffix("Storage")
        case _:
            raise Unreadable("refers to something that is no storage of numbers")
    if kind not in _ELEMENTS:
        raise Unreadable(f"has numbers of type {name}, which are not read here; save them as float32")
    if view and view[0] is not None:
        _, start, count = view[0]
        return Storage(key, _ELEMENTS[kind], counted([count]), counted([start]))
    return Storage(key, _ELEMENTS[kind], counted([count]))


def tensors_of(mapping: Mapping) -> dict[str, Tensor | np.ndarray]:
    """The named arrays that lie directly in a mapping."""
    found: dict[str, Tensor | np.ndarray] = {}
    for key, value in mapping.items():
        value = value.value if isinstance(value, Array) else value
        if isinstance(key, str) and isinstance(value, Tensor | np.ndarray):
            found[key] = value
    return found
