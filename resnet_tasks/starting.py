"""A run's start: the recipe of a resumed run, and a trainer in its run folder, with all it was told written down."""

import contextlib
import logging
import tempfile
from pathlib import Path
from typing import Any

from resnet_tasks.errors import UsageError

logger = logging.getLogger("resnet_tasks")

# Keys that a resumed run may change: none of them decides what the next step computes.
MAY_CHANGE = {
    "data.cache", "data.data_dir", "data.where", "data.images",
    "train.checkpoint_minutes", "train.log_every", "train.on_nan", "train.strategy", "train.devices",
    "train.early_stopping", "evaluate.batch_size", "evaluate.every", "export.format",
}  # fmt: skip


def resumed(run: Path, task: str, recipe, set, flags: dict):
    """The recipe of an unfinished run, with the changes that it can take; the others are refused."""
    from resnet_tasks.recipes.load import load_recipe

    kept = load_recipe(run / "recipe.yaml", task)
    asked = load_recipe(recipe or run / "recipe.yaml", task, set, flags)
    before, after = _flat(kept.model_dump(mode="json")), _flat(asked.model_dump(mode="json"))
    changes = {
        key: value
        for key, value in after.items()
        if before.get(key) != value and value != "auto" and key != "description"
    }
    refused = sorted(key for key in changes if key not in MAY_CHANGE)
    if refused:
        shown = "; ".join(f"{key}: {before.get(key)!r} -> {changes[key]!r}" for key in refused)
        raise UsageError(
            f"--resume: a run cannot change what its steps compute ({shown}); "
            "leave these as they were, or start another run"
        )
    for key, value in changes.items():
        logger.info("--resume honours %s: %r -> %r", key, before.get(key), value)
    return load_recipe(run / "recipe.yaml", task, flags=changes)


@contextlib.contextmanager
def trainer_of(task: str, recipe, **changes):
    """A trainer of a recipe in a folder that goes away with it."""
    from resnet_tasks.recipes.load import load_recipe

    data = changes.get("data")
    flags = {**(changes.get("flags") or {}), **({"data.where": data} if data is not None else {})}
    loaded = load_recipe(recipe, task, changes.get("set"), flags)
    with tempfile.TemporaryDirectory() as folder, prepared(loaded, Path(folder) / "run", resume=False) as trainer:
        yield trainer


@contextlib.contextmanager
def prepared(recipe, path: Path, resume: bool):
    """A trainer in its run folder: data read, devices chosen, "auto" decided, all of it written down."""
    from resnet_tasks.engine.strategy import choose_strategy, prepare_devices
    from resnet_tasks.recipes import build

    prepare_devices(recipe.train.devices)
    source = build.read(recipe)

    import tensorflow as tf

    from resnet_tasks.engine import logs, run_folder
    from resnet_tasks.engine.train import Trainer, precision

    if recipe.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy, why = choose_strategy(recipe.train.strategy, recipe.train.devices)
    accelerator = "GPU" in why or "TPU" in why
    resolved, reasons = build.resolve(recipe, accelerator, strategy.num_replicas_in_sync)
    folder = run_folder.RunFolder(path, resume)
    handler = logs.log_to(folder.path / "log.txt")
    try:
        for sentence in (*source.notes, why, *reasons):
            logger.info("%s", sentence)
        settings = build.train_settings(resolved, strategy.num_replicas_in_sync)
        with precision(settings.precision):
            _begin(folder, resolved, source)
            yield Trainer(build.task_of(resolved, source), settings, folder, strategy)
    finally:
        logger.removeHandler(handler)
        handler.close()
        folder.close()


def _begin(folder, recipe, source) -> None:
    """The small files that say what the run is."""
    from resnet_tasks.engine import run_folder
    from resnet_tasks.recipes.load import to_yaml

    folder.write("recipe.yaml", to_yaml(recipe))
    folder.write("command.txt", run_folder.command_line() + "\n")
    folder.write_json("environment.json", run_folder.environment())
    folder.write_json("labels.json", source.labels.to_json())
    summary = {
        "where": str(source.where),
        "format": source.format,
        "splits": {name: len(split) for name, split in source.splits.items()},
        "problems": [{"file": problem.file, "what": problem.what} for problem in source.problems],
        "notes": list(source.notes),
    }
    folder.write_json("dataset.json", summary)


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    """`{"train": {"lr": 1}}` as `{"train.lr": 1}`; lists and empty sections are values."""
    flat = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value})
    return flat
