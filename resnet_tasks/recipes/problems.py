"""What is wrong with a recipe, in words: the key, what was expected, what came, what to write.

The words are made from the JSON schema of a task's recipe, so that a new key needs none of its own.
"""

import difflib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from resnet_tasks.errors import UsageError, nearest
from resnet_tasks.recipes.schema import RECIPES
from resnet_tasks.recipes.yaml12 import flow, read_value

Node = Mapping[str, Any]


@functools.cache
def keys(task: str) -> dict[str, Node]:
    """Returns every dotted key of the task's recipe, sections too, with its JSON schema."""
    schema = RECIPES[task].model_json_schema()
    return dict(_walk(schema, schema.get("$defs", {}), ""))


def is_section(node: Node) -> bool:
    """Whether a key holds further keys of the schema: `train`, `augment.rand_augment`."""
    return any("properties" in option for option in _options(node))


def nearest_key(key: str, task: str) -> str:
    """Returns `; did you mean 'train.epochs'?` for an unknown key, or the keys there are."""
    section, _, leaf = key.rpartition(".")
    # The first key of that name stays: `batch_size` alone means train's before evaluate's.
    leaves = {name.rpartition(".")[2]: name for name in reversed(keys(task))}
    beside = {name.rpartition(".")[2]: name for name in keys(task) if name.rpartition(".")[0] == section}
    if leaf in leaves:  # the right word in the wrong section
        return f"; did you mean {leaves[leaf]!r}?"
    for words in (beside, leaves):  # a slip of the pen
        if close := difflib.get_close_matches(leaf, words, n=1, cutoff=0.6):
            return f"; did you mean {words[close[0]]!r}?"
    return f"; the keys of {section or 'a recipe'} are {', '.join(beside)}" if beside else ""


def describe(error: ValidationError, values: Mapping[str, Any], task: str, origins: Mapping[str, str]) -> list[str]:
    """Returns a sentence for each key that pydantic refused.

    Args:
        error: what validating the recipe raised.
        values: what was validated.
        task: whose recipe.
        origins: what to write before a dotted key: where it was set ('my.yaml line 3: ', '--set ').
    """
    sentences: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        key = _key(problem, task)
        if problem["type"] == "extra_forbidden":
            sentence = f"{key}: there is no such key{nearest_key(key, task)}"
        elif problem["type"] == "value_error" and is_section(keys(task)[key]):
            key, _, what = f"{key}.{problem['ctx']['error']}".partition(": ")
            sentence = f"{key}: {what}"
        elif problem["type"] == "value_error":
            sentence = f"{key}: {problem['ctx']['error']}, got {_shown(_at(values, key))}"
        else:
            sentence = _mismatch(key, _at(values, key), keys(task)[key])
        sentences.setdefault(key, origins.get(key, "") + sentence)
    return list(sentences.values())


def refuse(sentences: list[str]) -> UsageError:
    """Returns the error to raise: the sentence, or all of them a line each."""
    if len(sentences) == 1:
        return UsageError(sentences[0])
    return UsageError("\n  ".join([f"{len(sentences)} problems in the recipe", *sentences]))


def _walk(node: Node, definitions: Node, prefix: str) -> Iterator[tuple[str, Node]]:
    for name, child in node.get("properties", {}).items():
        child = _resolved(child, definitions)
        yield f"{prefix}{name}", child
        for option in _options(child):
            yield from _walk(option, definitions, f"{prefix}{name}.")


def _resolved(node: Node, definitions: Node) -> Node:
    if "$ref" in node:
        return {**definitions[node["$ref"].rpartition("/")[2]], **node}
    if "anyOf" in node:
        return {**node, "anyOf": [_resolved(option, definitions) for option in node["anyOf"]]}
    return node


def _options(node: Node) -> list[Node]:
    return node.get("anyOf", [node])


def _key(problem: Mapping[str, Any], task: str) -> str:
    """The key a problem is about: pydantic's place without list indices and members of a union."""
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        return ".".join(place)
    while place and ".".join(place) not in keys(task):
        place.pop()
    return ".".join(place)


def _at(values: Any, key: str) -> Any:
    return functools.reduce(lambda inside, name: inside[name], key.split("."), values)


def _mismatch(key: str, got: Any, node: Node) -> str:
    """One value of the wrong type or outside its range."""
    sentence = f"{key}: expected {_expected(node)}, got {_shown(got)}"
    kinds = {option.get("type") for option in _options(node)}
    choices = [word for option in _options(node) for word in _words(option)]
    if isinstance(got, str) and "boolean" in kinds and got.lower() in ("yes", "no", "on", "off"):
        return f"{sentence}; write {key}={'true' if got.lower() in ('yes', 'on') else 'false'}"
    if isinstance(got, str) and kinds & {"number", "integer"} and _is_number(got):
        return f"{sentence}; it is quoted: write {key}={got} without the quotes"
    if isinstance(got, str) and (hint := nearest(got, choices)):
        return sentence + hint
    example = next(iter(node.get("examples", [])), node.get("default"))
    if example in (None, [], "") or all(_words(option) for option in _options(node)) or "properties" in node:
        return sentence
    return f"{sentence}; write e.g. {key}={flow(example)}"


def _is_number(text: str) -> bool:
    try:
        return isinstance(read_value(text, ""), int | float) and text.lower() not in ("true", "false")
    except UsageError:
        return False


def _words(node: Node) -> list[str]:
    return node.get("enum", [node["const"]] if "const" in node else [])


def _expected(node: Node) -> str:
    """`a whole number of at least 1`, `'sgd', 'adamw' or 'lamb'`, ..."""
    return " or ".join(_one(option) for option in _options(node))


def _one(node: Node) -> str:
    if words := _words(node):
        shown = [repr(word) for word in words]
        return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    kind = node.get("type", "")
    if "properties" in node:
        return f"keys below it ({', '.join(node['properties'])})"
    if kind == "array":
        items = node.get("prefixItems") or [node["items"]]
        many = f" of {len(items)}" if "prefixItems" in node else ""
        return f"a list{many} (each {_one(items[0])})"
    if "pattern" in node:
        return f"text like {' or '.join(map(repr, node['examples']))}"
    names = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
    names |= {"null": "null", "object": "a mapping of names to text"}
    return names[kind] + _range(node)


def _range(node: Node) -> str:
    limits = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return "".join(f" {'and ' * (i > 0)}{limits[k]} {node[k]:g}" for i, k in enumerate(k for k in limits if k in node))


def _shown(value: Any) -> str:
    kinds = {
        bool: "a truth value",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a mapping",
    }
    if value is None:
        return "nothing (null)"
    shown = repr(value) if isinstance(value, str) else flow(value)
    return f"{shown if len(shown) <= 60 else shown[:57] + '...'} ({kinds[type(value)]})"
