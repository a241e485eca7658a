"""YAML as its version 1.2 reads it, for recipes: what looks like a number is one.

PyYAML follows YAML 1.1, where `1e-4` is text, `no` is false, `010` is 8, and the last of two equal
keys wins in silence.  Here `1e-4` is a number, `no`, `yes`, `on` and `off` are text, `010` is 10,
and a key that stands twice is an error.  Tags that build Python objects do not exist.
"""

import re
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml

from resnet_tasks.errors import UsageError

_CORE = "tag:yaml.org,2002:"
# The core schema of YAML 1.2.2, section 10.3.2: (kind, what it looks like, its first characters).
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars, text, lists and mappings; nothing else can be constructed."""

    yaml_implicit_resolvers: ClassVar[dict] = {}
    yaml_constructors: ClassVar[dict] = {}

    def scalar(self, node: yaml.Node) -> Any:
        kind, text = node.tag.removeprefix(_CORE), str(self.construct_scalar(node))
        pattern = next(pattern for name, pattern, _ in _SCALARS if name == kind)
        if not re.fullmatch(pattern, text):  # an explicit tag: `!!int many`
            raise yaml.constructor.ConstructorError(None, None, f"{text!r} is no {kind}", node.start_mark)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

    def mapping(self, node: yaml.MappingNode) -> dict[Hashable, Any]:
        values: dict[Hashable, Any] = {}
        lines: dict[Hashable, int] = {}
        for key_node, value_node in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a word, not a list or a mapping", key_node.start_mark
                )
            if key in values:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key!r} stands twice, first on line {lines[key]}; keep one of them",
                    key_node.start_mark,
                )
            values[key] = self.construct_object(value_node, deep=True)
            lines[key] = line
        return values


for _kind, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_CORE + _kind, re.compile(rf"^(?:{_pattern})$"), _first)
    _Loader.add_constructor(_CORE + _kind, _Loader.scalar)
_Loader.add_constructor(_CORE + "str", _Loader.construct_scalar)
_Loader.add_constructor(_CORE + "seq", lambda loader, node: loader.construct_sequence(node, deep=True))
_Loader.add_constructor(_CORE + "map", _Loader.mapping)
_Loader.add_constructor(None, _Loader.construct_undefined)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would take for something else, so both read it back."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind, _pattern, _first in _SCALARS:
    _Dumper.add_implicit_resolver(_CORE + _kind, re.compile(rf"^(?:{_pattern})$"), _first)


def read_yaml(text: str, name: str) -> tuple[Any, dict[str, int]]:
    """Returns the values of a YAML text, and the line (from 1) of every key by its dotted name.

    Args:
        text: one YAML document.
        name: what to call it in a message, the path of its file for one.

    Raises:
        UsageError: the text is no YAML, or a key stands twice; the message has the line.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        values = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name} line {mark.line + 1}" if mark else name
        raise UsageError(f"{where}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:  # a character that YAML forbids
        raise UsageError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    finally:
        if loader is not None:
            loader.dispose()
    return values, dict(_lines(node, ""))


def read_value(text: str, name: str) -> Any:
    """Returns a value written as in a recipe: `30`, `1e-4`, `true`, `[224, 320]`, a word."""
    return read_yaml(text, name)[0]


def flow(value: Any) -> str:
    """Returns `value` as YAML on one line."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("...\n").strip()


def _lines(node: yaml.Node | None, prefix: str):
    """Yields (dotted key, line) for every key below `node`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            dotted = f"{prefix}{key.value}"
            yield dotted, key.start_mark.line + 1
            yield from _lines(value, f"{dotted}.")
