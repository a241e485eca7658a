"""Pickles read without Python's unpickler: a machine that builds containers and calls nothing that it was not handed.

The standard `pickletools` cuts the stream into opcodes; here they are carried out.  A name in the stream stays a name:
it is looked up in a table of harmless makers, and what is not there ends the reading.  So nothing in it can run.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from resnet_tasks.weights.bounds import Unreadable

_PUSH = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_PUSH |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"}
_PUSH |= {"BINUNICODE8", "FLOAT", "BINFLOAT"}
_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SIMPLE = (str, bytes, int, float, complex, type(None))
_MARK = object()


@dataclass(frozen=True)
class Global:
    """A name that a pickle mentions, `module.name`; never the thing itself."""

    name: str


class Record:
    """A harmless object of a class that is not ours to load: its arguments and state, and nothing that runs.

    Attributes:
        values: What the pickle gave it, where that was a mapping.
    """

    def __init__(self, *arguments):
        self.values: dict = {}
        for argument in arguments:
            self.build(argument)

    def build(self, state) -> None:
        """Takes the state that the pickle gives the object."""
        if isinstance(state, dict):
            self.values.update(state)


def load(stream: BinaryIO, makers: Mapping[str, Callable | None], persistent: Callable[[Any], Any]) -> Any:
    """Reads one pickle and leaves the stream behind its end.

    Args:
        makers: What stands for each name that may occur: a function of ours that is called where the pickle calls the
            name, or None for a name that is only mentioned.
        persistent: What stands for a persistent id.

    Raises:
        Unreadable: A name that is not among `makers`, or no pickle.
    """
    machine = _Machine(makers, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.pop()
            machine.carry_out(opcode.name, argument)
    except Unreadable:
        raise
    except Exception as error:  # a stream can be wrong in every way that Python knows
        raise Unreadable(f"is no whole pickle ({error or type(error).__name__})") from error
    raise Unreadable("is no whole pickle (it does not end)")


class _Machine:
    def __init__(self, makers: Mapping[str, Callable | None], persistent: Callable[[Any], Any]):
        self._makers, self._persistent = makers, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is expected")
        return value

    def carry_out(self, name: str, argument: Any) -> None:
        if name in _PUSH:
            self._stack.append(argument)
        elif name in _CONSTANT:
            self._stack.append(_CONSTANT[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        else:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise Unreadable(
                    f"uses the pickle opcode {name}, which no file of weights needs: refused, nothing was run"
                )
            step(argument)

    def _proto(self, _) -> None:
        pass

    _frame = _proto

    def _mark(self, _) -> None:
        self._stack.append(_MARK)

    def _to_mark(self) -> list:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:  # an IndexError below the bottom ends the reading
            at -= 1
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def _pop(self, _) -> None:
        self._stack.pop()

    def _pop_mark(self, _) -> None:
        self._to_mark()

    def _dup(self, _) -> None:
        self._stack.append(self._stack[-1])

    def _tuple(self, _) -> None:
        self._stack.append(tuple(self._to_mark()))

    def _list(self, _) -> None:
        self._stack.append(self._to_mark())

    def _frozenset(self, _) -> None:
        self._stack.append(frozenset(map(simple_key, self._to_mark())))

    def _dict(self, _) -> None:
        values = self._to_mark()
        self._stack.append({simple_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)})

    def _append(self, _) -> None:
        self._extend([self.pop()])

    def _appends(self, _) -> None:
        self._extend(self._to_mark())

    def _extend(self, values: list) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("items for what is no list")
        self._stack[-1].extend(values)

    def _additems(self, _) -> None:
        values = self._to_mark()
        if not isinstance(self._stack[-1], set):
            raise ValueError("items for what is no set")
        self._stack[-1].update(map(simple_key, values))

    def _setitem(self, _) -> None:
        value, key = self.pop(), self.pop()
        self._set([key], [value])

    def _setitems(self, _) -> None:
        values = self._to_mark()
        self._set(values[::2], values[1::2])

    def _set(self, keys: list, values: list) -> None:
        target = self._stack[-1]
        target = target.values if isinstance(target, Record) else target
        if not isinstance(target, dict):
            raise ValueError("items for what is no mapping")
        target.update(zip(map(simple_key, keys), values, strict=True))

    def _persid(self, key) -> None:
        self._stack.append(self._persistent(key))

    def _binpersid(self, _) -> None:
        self._stack.append(self._persistent(self.pop()))

    def _global(self, both: str) -> None:
        self._stack.append(self._known(both.replace(" ", ".", 1)))

    def _stack_global(self, _) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("a name that is no text")
        self._stack.append(self._known(f"{module}.{name}"))

    def _known(self, name: str) -> Global:
        if name not in self._makers:
            raise Unreadable(
                f"carries code ({name[:120]}): refused, nothing was run; a saved model.state_dict() carries none"
            )
        return Global(name)

    def _reduce(self, _) -> None:
        arguments, function = self.pop(), self.pop()
        self._stack.append(self._made(function, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _) -> None:
        named, arguments, function = self.pop(), self.pop(), self.pop()
        if named:
            raise Unreadable(
                "makes an object by named arguments, which no file of weights needs: refused, nothing was run"
            )
        self._stack.append(self._made(function, arguments))

    def _inst(self, both: str) -> None:
        function = self._known(both.replace(" ", ".", 1))
        self._stack.append(self._made(function, tuple(self._to_mark())))

    def _obj(self, _) -> None:
        function, *arguments = self._to_mark()
        self._stack.append(self._made(function, tuple(arguments)))

    def _made(self, function, arguments) -> Any:
        maker = self._makers[function.name] if isinstance(function, Global) else None
        if maker is None:
            raise Unreadable(f"calls {getattr(function, 'name', 'a value')}: refused, nothing was run")
        return maker(*arguments)

    def _build(self, _) -> None:
        state, target = self.pop(), self._stack[-1]
        build = getattr(target, "build", None)  # ours alone have one; the attributes of others are dropped
        if build is not None:
            build(state)


def simple_key(key):
    """The key, if hashing it is cheap: tuples within tuples, shared many times over, would take for ever."""
    if isinstance(key, _SIMPLE) or (isinstance(key, tuple) and all(isinstance(part, _SIMPLE) for part in key)):
        return key
    if isinstance(key, Global):
        return key.name
    raise ValueError("a key that is neither text nor number")
