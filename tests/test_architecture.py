"""What a machine can hold of the house rules: who imports whom, where TensorFlow may be said, how long files are."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "resnet_tasks"
MODULES = sorted(PACKAGE.rglob("*.py"))
CODE = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
CODE += sorted((ROOT / "pipelines").rglob("*.py"))

TASKS = {"classification", "detection", "segmentation", "faces"}
GROUND = {"geometry", "model", "weights"}
TRUNK = GROUND | {"layers", "data", "task", "backbones", "necks"}
# Who may import whom.  `errors` is everybody's; a room may always import itself.
MAY_IMPORT = {
    "errors": set(),
    "kernels": set(),
    "geometry": set(),
    "model": set(),
    "weights": {"backbones"},  # of the backbones the specs alone, which are data
    "layers": GROUND,
    "data": GROUND,
    "task": GROUND | {"data"},  # the example and the label map that a task speaks of
    "backbones": {"model", "weights"},
    "necks": {"geometry"},
    "engine": {"geometry", "model", "data", "task"},
    **dict.fromkeys(TASKS, TRUNK),
    "recipes": TRUNK | TASKS | {"engine"},
    "opening": TRUNK | TASKS | {"engine", "recipes"},
    "starting": TRUNK | TASKS | {"engine", "recipes"},
    "commands": TRUNK | TASKS | {"engine", "recipes", "opening", "starting"},
    "recognition": TRUNK | TASKS | {"engine", "recipes", "opening"},
    "demo": TRUNK | TASKS | {"engine", "recipes", "opening", "starting", "commands"},
    "doctor": TRUNK | TASKS | {"engine", "recipes", "opening", "starting", "commands"},
    # Of the backbones their table, for `resnet-tasks backbones`; of the weights all that needs no model.
    "cli": {"commands", "recognition", "demo", "doctor", "kernels", "recipes", "backbones", "weights"},
    "__init__": TRUNK | TASKS | {"commands", "kernels", "recognition"},
}
# The rims: where `tensorflow` may be imported, at the top or inside a function.
RIMS = {"data", "engine", "starting", "commands", "doctor"}
RIMS_OF_A_TASK = {"task.py", "predictor.py", "metrics.py"}
# Seconds to import each; only the commands' bodies may ask for them.
HEAVY = {"tensorflow", "keras", "keras_cv", "tensorflow_datasets", "matplotlib", "sklearn", "scipy", "jax", "torch"}
LIGHT = ("resnet_tasks", "errors", "kernels", "commands", "recognition", "demo", "doctor", "opening", "backbones")
LIGHT += ("cli.main", "recipes.find", "recipes.load")
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "base", "tools"}
LONGEST_FILE, LONGEST_FUNCTION = 350, 50  # lines


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=[path.relative_to(ROOT).as_posix() for path in paths])


def room(path: Path) -> str:
    """The file's place in the table above: its folder in the package, or itself if it lies at the top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST, *, at_import: bool = False) -> Iterator[str]:
    """The modules that a file names in its imports, dotted; `from a import b` gives `a` and `a.b`.

    Args:
        at_import: Only what runs when the file is imported: nothing inside functions or `if TYPE_CHECKING:`.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (at_import and is_later(node)):
            yield from imported(node, at_import=at_import)


def is_later(node: ast.AST) -> bool:
    """Whether importing a file passes this part of it by."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def file_of(module: str) -> Path | None:
    place = ROOT.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def brought_in(module: str, seen: dict[str, str]) -> dict[str, str]:
    """What importing one of our modules imports, as `{module: the module of ours that asks for it}`."""
    for package in [".".join(module.split(".")[: n + 1]) for n in range(module.count(".") + 1)]:
        path = file_of(package)
        if path is None or package in seen:
            continue
        seen[package] = ""
        for name in imported(parsed(path), at_import=True):
            if name.split(".")[0] == "resnet_tasks":
                brought_in(name, seen)
            else:
                seen.setdefault(name.split(".")[0], package)
    return seen


@named(MODULES)
def test_imports_go_one_way(path):
    here = room(path)
    assert here in MAY_IMPORT, f"{here} is a new room: give it a line in MAY_IMPORT and in CONTRIBUTING.md"
    tree = parsed(path)
    relative = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert relative == [], "imports are absolute"
    asked = {name.split(".")[1] for name in imported(tree) if re.match(r"resnet_tasks\.\w", name)}
    rooms = {name for name in asked if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}
    assert rooms - MAY_IMPORT[here] - {here, "errors"} == set()


@named(MODULES)
def test_tensorflow_is_said_at_the_rims_only(path):
    here = room(path)
    if here in RIMS or (here in TASKS and path.name in RIMS_OF_A_TASK):
        return
    names = set(imported(parsed(path)))
    assert not {name for name in names if re.match(r"tensorflow|tf_keras", name)}


@named(sorted((PACKAGE / "weights").rglob("*.py")))
def test_of_the_backbones_weights_know_the_specs_alone(path):
    of_backbones = {name for name in imported(ast.parse(path.read_text())) if name.startswith("resnet_tasks.backbones")}
    assert all(name.startswith("resnet_tasks.backbones.specs") for name in of_backbones), of_backbones


@pytest.mark.parametrize("module", LIGHT)
def test_nothing_heavy_comes_with_the_import(module):
    module = module if module == PACKAGE.name else f"{PACKAGE.name}.{module}"
    assert file_of(module) is not None
    assert {name: by for name, by in brought_in(module, {}).items() if name in HEAVY} == {}


@pytest.mark.parametrize("task", sorted(task for task in TASKS if (PACKAGE / task).is_dir()))
def test_a_task_imports_its_models_without_tensorflow(task):
    assert "tensorflow" not in brought_in(f"resnet_tasks.{task}", {})


@named(MODULES)
def test_a_file_is_a_page_or_three(path):
    assert path.read_text(encoding="utf-8").count("\n") <= LONGEST_FILE
    functions = [node for node in ast.walk(parsed(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}


@named(CODE)
def test_a_name_says_something(path):
    assert path.stem not in SAYS_NOTHING, "such a file collects everything"


@named([*CODE, *sorted((ROOT / "pipelines").rglob("*.yaml"))])
def test_nothing_is_left_open(path):
    left = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")))
    assert not left.findall(path.read_text(encoding="utf-8"))


def test_pipelines_is_no_package():
    assert list((ROOT / "pipelines").rglob("__init__.py")) == []
