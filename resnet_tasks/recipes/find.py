"""Where the recipes lie: in the wheel inside the package, in a checkout beside it."""

import shutil
from os import PathLike
from pathlib import Path

from resnet_tasks.errors import UsageError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """Returns the folder of the recipes that come with the package."""
    for place in (_PACKAGE / "pipelines", _PACKAGE.parent / "pipelines"):
        if place.is_dir():
            return place
    raise UsageError(f"the installation has no recipes: there is no {_PACKAGE / 'pipelines'}; install again")


def names(task: str | None = None) -> list[str]:
    """Returns the names that `find` takes, sorted, of one task or of all."""
    root = folder()
    paths = {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}
    paths = {name: path for name, path in paths.items() if not name.startswith("results/")}
    return [name for name, path in paths.items() if task is None or task_of(path) == task]


def task_of(path: Path) -> str | None:
    """Returns what stands behind `task:` in a recipe file."""
    lines = (line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines())
    return next((line.removeprefix("task:").strip() for line in lines if line.startswith("task:")), None)


def summary(path: Path) -> str:
    """Returns the first line of the comment that a recipe begins with."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def find(name: str | PathLike) -> Path:
    """Returns the file of a recipe that is given by its name or by a path.

    Raises:
        UsageError: there is neither; the message has the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = folder() / f"{name}.yaml"
    if not path.is_absolute() and shipped.is_file():
        return shipped
    if path.is_dir():
        inside = path / "recipe.yaml"
        cure = f"for the recipe of that run write {inside}" if inside.is_file() else "name a recipe file in it"
        raise UsageError(f"{name} is a folder, and a recipe is a file; {cure}")
    known = names()
    ends = [full for full in known if full.endswith(f"/{path.with_suffix('').name}")]
    hint = f"; did you mean {ends[0]!r}?" if ends else nearest(str(name), known)
    raise UsageError(
        f"there is no recipe {str(name)!r}, and no such file (`resnet-tasks recipes list` shows the recipes){hint}"
    )


def copy(name: str, to: str | PathLike | None = None) -> Path:
    """Copies a recipe, to change it; returns the new file.

    Args:
        name: as `find` takes it.
        to: a file, or a folder to keep the recipe's own file name in; None is the current folder.

    Raises:
        UsageError: there is no such recipe, or the target exists.
    """
    source, target = find(name), Path(to or ".")
    if target.is_dir() or target.suffix not in (".yaml", ".yml"):
        target = target / source.name
    if target.exists():
        raise UsageError(f"{target} exists already; name another file")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target
