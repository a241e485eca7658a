"""Where weights come from: what `--weights` may name, and what `weights fetch` brings."""

import os
from pathlib import Path
from typing import Any

from resnet_tasks.errors import DataError, UsageError, nearest
from resnet_tasks.weights.published import NAMED, Published

__all__ = ["NAMED", "Published", "default_for", "fetch", "home", "local", "named", "published_as", "resolve"]


def home() -> Path:
    """Where this machine keeps what it fetched: $RESNET_TASKS_HOME, else ~/.cache/resnet_tasks."""
    return Path(os.environ.get("RESNET_TASKS_HOME") or "~/.cache/resnet_tasks").expanduser()


def named(key: str) -> Published:
    """The row of the table, or a UsageError with the nearest key; a backbone's name stands for its `imagenet`."""
    found = NAMED.get(key) or NAMED.get(default_for(key) or "")
    if found is None:
        raise UsageError(f"no weights are called {key!r}{nearest(key, NAMED)} (`resnet-tasks weights list` has them)")
    return found


def default_for(backbone: str) -> str | None:
    """The key that `imagenet` means for a backbone; `None` if nobody publishes such weights."""
    rows = (row for row in NAMED.values() if row.backbone == backbone and row.data == "ImageNet")
    return next((row.key for row in rows), None)


def local(key: str) -> Path | None:
    """The file of named weights, if it is on this machine; what is there is whole."""
    path = _place(named(key))
    return path if path.is_file() else None


def published_as(path: str | os.PathLike) -> Published | None:
    """The row of the table that a fetched file came by; `None` for any other file."""
    path = Path(path)
    if path.resolve().parent != (home() / "weights").resolve():
        return None
    return next((row for row in NAMED.values() if row.file_name == path.name), None)


def fetch(key: str, *, say=print) -> Path:
    """Brings named weights to this machine, or verifies those that are here already.

    Args:
        say: Takes each line of progress.

    Raises:
        UsageError: Nothing is called so.
        ResnetTasksError: The network or the disk failed; repeating it goes on where it stopped.
        DataError: What came, or lies here, is not what was published.
    """
    from resnet_tasks.weights.download import download, locked, mismatch

    row = named(key)
    path, digest = _place(row), _digest(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, say):
        if not path.is_file():
            about = f" ({row.megabytes:g} MB)" if row.megabytes else ""
            say(f"{row.key}{about} from {row.url}")
            download(row.url, path, digest=digest, say=say)
            say(f"{path}: {f'verified by {digest}' if digest else 'of the length announced; no hash is published'}")
        elif found := digest and mismatch(path, digest):
            raise DataError(f"{path}: expected {digest}, found {found}; remove the file and fetch it again")
        else:
            say(f"{path}: here already{f', verified by {digest}' if digest else ''}")
    return path


def resolve(weights: str | os.PathLike, backbone: str | None = None) -> Path | None:
    """The file behind what `--weights` names; downloads nothing.

    Args:
        weights: "none"; "imagenet"; a key of `NAMED`; a file; or a run folder, for its `model.keras`.
        backbone: What is to be filled: what `imagenet` is looked up for, and what a key must be for.
            `None`: any; `package.module:function` takes any key too.

    Returns:
        `None` for "none".

    Raises:
        UsageError: There is nothing of that name, it is not on this machine yet, or it is for another backbone.
    """
    text = os.fspath(weights)
    if text == "none":
        return None
    if text == "imagenet":
        return _here(_imagenet(backbone))
    if text in NAMED:
        row = NAMED[text]
        if backbone is not None and ":" not in backbone and row.backbone != backbone:
            others = [other.key for other in NAMED.values() if other.backbone == backbone]
            offer = f"; for it there are: {', '.join(others)}" if others else ""
            raise UsageError(f"{text} are weights of {row.backbone}, and the backbone is {backbone}{offer}")
        return _here(row)
    return _path(text)


def _imagenet(backbone: str | None) -> Published:
    key = default_for(backbone) if backbone else None
    if key is None:
        of = f"of {backbone} " if backbone else ""
        raise UsageError(
            f"imagenet: no weights {of}are published that `imagenet` could mean; name a key of "
            "`resnet-tasks weights list`, a file or a run folder, or say none"
        )
    return NAMED[key]


def _here(row: Published) -> Path:
    path = local(row.key)
    if path is None:
        raise UsageError(
            f"{row.key} is not on this machine, and training fetches nothing by itself; "
            f"bring it with: resnet-tasks weights fetch {row.key}"
        )
    return path


def _path(text: str) -> Path:
    """A file, or the model in a run folder."""
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(
            f"{text}: there is no such file, run folder or named weights{nearest(text, ['none', 'imagenet', *NAMED])} "
            "(`resnet-tasks weights list` has the names)"
        )
    if (path / "model.keras").is_file():
        return path / "model.keras"
    why = "the run has not written one yet" if (path / "recipe.yaml").is_file() else "it is no run folder"
    raise UsageError(f"{text}: expected a model.keras in this folder, and there is none: {why}")


def _place(row: Published) -> Path:
    return home() / "weights" / row.file_name


def _digest(row: Published) -> str | None:
    kinds: dict[str, Any] = {"sha256": row.sha256, "md5": row.md5}
    return next((f"{kind}:{value}" for kind, value in kinds.items() if value), None)
