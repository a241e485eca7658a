"""From a name or a file to a checked recipe, and back to YAML.

What is set later wins: the schema's defaults, the recipe, `--set`, the flags.
"""

import json
import numbers
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from resnet_tasks.errors import UsageError, nearest
from resnet_tasks.recipes import find
from resnet_tasks.recipes.problems import describe, is_section, keys, refuse
from resnet_tasks.recipes.schema import FOLDER_RECIPES, RECIPES, Recipe, task_called
from resnet_tasks.recipes.yaml12 import flow, read_value, read_yaml


def load_recipe(
    name_or_file: str | PathLike | None = None,
    task: str | None = None,
    sets: Mapping[str, Any] | Iterable[str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Recipe:
    """Returns the recipe, every key present and checked.

    Args:
        name_or_file: `classification/cifar10_resnet20`, or a path; None takes the task's default.
        task: the task that the recipe must be of; None takes what its `task:` says.
        sets: dotted keys to values, or `key=value` texts whose values are read as YAML.
        flags: dotted keys to values; a value of None is a flag that was not given.

    Raises:
        UsageError: no such recipe, no YAML, an unknown key or a wrong value; a line a problem.
    """
    if name_or_file is None:
        if task is None:
            raise UsageError("no recipe and no task; name one of them")
        name_or_file = FOLDER_RECIPES[task_called(task)]
    path = find.find(name_or_file)
    values, lines = read_file(path)
    task = _task(values, path, task)
    origins = {key: f"{path} line {line}: " for key, line in lines.items()}
    _check_keys(values, task, origins)
    for key, value in _pairs(sets or {}):
        _assign(values, key, value, task, origins, "--set ")
    for key, value in (flags or {}).items():
        if value is not None:
            _assign(values, key, value, task, origins, "")
    return _validated(values, task, origins)


def from_json(values: Mapping[str, Any]) -> Recipe:
    """Returns the recipe that `model_dump(mode="json")` was taken of."""
    return _validated(dict(values), values["task"], {})


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Returns the recipe with other values for some dotted keys (what `auto` became), checked."""
    merged = recipe.model_dump(mode="json")
    origins: dict[str, str] = {}
    for key, value in values.items():
        _assign(merged, key, value, recipe.task, origins, "")
    return _validated(merged, recipe.task, origins)


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Returns a recipe file's values, unchecked, and the line of every dotted key."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: expected a recipe in UTF-8 text; this file is something else") from None
    values, lines = read_yaml(text, str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected keys such as `task:` and `train:`, got {type(values).__name__}")
    return values, lines


def to_yaml(recipe: Recipe, comments: bool = False) -> str:
    """Returns the whole recipe as YAML, a line a key; `load_recipe` reads it back equal.

    Args:
        recipe: any task's.
        comments: say behind each key what it means.
    """
    known, lines = keys(recipe.task), []
    for section, value in recipe.model_dump(mode="json").items():
        if not is_section(known[section]):
            lines.append(_line("", section, value, known[section], comments))
            continue
        lines.append(f"{section}:")
        lines += [_line("  ", key, inner, known[f"{section}.{key}"], comments) for key, inner in value.items()]
    return "\n".join(lines) + "\n"


def _line(indent: str, key: str, value: Any, node: Mapping[str, Any], comments: bool) -> str:
    line = f"{indent}{key}: {flow(value)}"
    return f"{line:<36}  # {node['description']}" if comments and "description" in node else line


def _task(values: Mapping[str, Any], path: Path, task: str | None) -> str:
    named = values.get("task", task)
    if named is None:
        raise UsageError(f"{path}: task: is missing; write one of {', '.join(RECIPES)}")
    if not isinstance(named, str) or named not in RECIPES:
        close = nearest(named, RECIPES) if isinstance(named, str) else ""
        raise UsageError(f"{path}: task: expected one of {', '.join(RECIPES)}, got {named!r}{close}")
    if task is not None and named != task_called(task):
        raise UsageError(f"{path} is a recipe for {named!r}, not {task!r}; `resnet-tasks {named} train` takes it")
    return named


def _check_keys(values: Any, task: str, origins: Mapping[str, str], prefix: str = "") -> None:
    """Refuses keys that are not text (`1:`); the schema sees to the rest."""
    for key, value in values.items() if isinstance(values, Mapping) else ():
        if not isinstance(key, str):
            where = origins.get(f"{prefix}{key}", "")
            raise UsageError(f"{where}{prefix}{key}: a key must be a word, got {key!r}")
        _check_keys(value, task, origins, f"{prefix}{key}.")


def _pairs(sets: Mapping[str, Any] | Iterable[str]) -> Iterable[tuple[str, Any]]:
    if isinstance(sets, Mapping):
        yield from sets.items()
        return
    for text in [sets] if isinstance(sets, str) else sets:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {text}: expected key=value, for instance --set train.epochs=30")
        yield key.strip(), read_value(value, f"--set {text!r}")


def _assign(values: dict[str, Any], key: str, value: Any, task: str, origins: dict[str, str], origin: str) -> None:
    """Sets one dotted key in place; a mapping for a section sets its keys and leaves the others."""
    node = keys(task).get(key)
    if node is not None and is_section(node) and isinstance(value, Mapping):
        _inside(values, [*key.split(".")])
        for name, inner in value.items():
            _assign(values, f"{key}.{name}", inner, task, origins, origin)
        return
    *sections, leaf = key.split(".")
    _inside(values, sections)[leaf] = _plain(value)
    for stale in [known for known in origins if known.startswith(f"{key}.")]:
        del origins[stale]
    origins[key] = origin
    if sections and not is_section(
        keys(task).get(".".join(sections), {})
    ):  # `data.where.train` makes a new `data.where`
        origins[".".join(sections)] = origin


def _inside(values: dict[str, Any], sections: list[str]) -> dict[str, Any]:
    """Returns the mapping at `sections`, made where there is none, as in a null `rand_augment`."""
    for section in sections:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    return values


def _plain(value: Any) -> Any:
    """What JSON can hold, of what Python callers give: paths, tuples, NumPy's numbers."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, PathLike):
        return str(value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if value is None or isinstance(value, bool | str):
        return value
    return str(value)


def _validated(values: Mapping[str, Any], task: str, origins: Mapping[str, str]) -> Recipe:
    try:
        # Through JSON, because pydantic's strict mode takes a list for a tuple only there.
        return RECIPES[task].model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise refuse(describe(error, values, task, origins)) from None
