"""The verbs as functions; the command line and `import resnet_tasks` call these.

TensorFlow is imported inside them, so that listing recipes or reading a mistake in one costs no import of it.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_tasks.errors import UsageError

logger = logging.getLogger("resnet_tasks")

# Keys that a resumed run may change: none of them decides what the next step computes.
MAY_CHANGE = {
    "data.cache", "data.data_dir", "data.service", "data.where", "data.images",
    "train.checkpoint_minutes", "train.log_every", "train.on_nan", "train.strategy", "train.devices",
    "train.early_stopping", "train.steps_per_execution", "evaluate.batch_size", "evaluate.every", "export.format",
}  # fmt: skip


def train(
    task: str,
    recipe: str | os.PathLike | None = None,
    *,
    data: str | Mapping[str, str] | None = None,
    run: str | os.PathLike | None = None,
    set: Mapping[str, Any] | list[str] | None = None,
    flags: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Path:
    """Trains a task: data, run folder, model, evaluation, report.

    Args:
        task: "classify".
        recipe: A recipe's name or file; the task's folder recipe by default.
        data: Where the data lie, or `{split: where}`.
        run: The run folder; `runs/<task>/<recipe>` by default, with a number behind it where that is taken.
        set: Recipe keys to change: `{"train.epochs": 20}`, or texts `key=value`.
        flags: As `set`, and stronger.
        resume: Go on with the run in `run`, if there is one.

    Returns:
        The run folder.

    Raises:
        ResnetTasksError: Whatever went wrong; `exit_code` tells its kind.
    """
    from resnet_tasks.engine.run_folder import next_free, state_of
    from resnet_tasks.recipes.load import load_recipe
    from resnet_tasks.recipes.schema import FOLDER_RECIPES

    chosen = {**(flags or {}), **({"data.where": data} if data is not None else {})}
    state = state_of(Path(run)) if run is not None else "new"
    if state == "finished" and resume:
        logger.info("%s is finished", run)
        return Path(run)
    if state != "new" and resume:
        loaded = _resumed(Path(run), task, recipe, set, chosen)
    else:
        if recipe is None:
            logger.info("no recipe named: %s", FOLDER_RECIPES.get(task, ""))
        loaded = load_recipe(recipe, task, set, chosen)
    name = Path(recipe).stem if recipe is not None and Path(recipe).suffix else str(recipe or FOLDER_RECIPES[task])
    path = Path(run) if run is not None else next_free(Path("runs") / task, name)
    return _train(loaded, path, resume)


def _resumed(run: Path, task: str, recipe, set, flags: dict):
    """The recipe of an unfinished run, with the changes that it can take; the others are refused."""
    from resnet_tasks.recipes.load import load_recipe

    kept = load_recipe(run / "recipe.yaml", task)
    asked = load_recipe(recipe or run / "recipe.yaml", task, set, flags)
    before, after = _flat(kept.model_dump(mode="json")), _flat(asked.model_dump(mode="json"))
    changes = {key: value for key, value in after.items() if before.get(key) != value and value != "auto" and key != "description"}
    refused = sorted(key for key in changes if key not in MAY_CHANGE)
    if refused:
        shown = "; ".join(f"{key}: {before.get(key)!r} -> {changes[key]!r}" for key in refused)
        raise UsageError(f"--resume: a run cannot change what its steps compute ({shown}); leave these as they were, or start another run")
    for key, value in changes.items():
        logger.info("--resume honours %s: %r -> %r", key, before.get(key), value)
    return load_recipe(run / "recipe.yaml", task, flags=changes)


def _train(recipe, path: Path, resume: bool) -> Path:
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
            trainer = Trainer(build.task_of(resolved, source), settings, folder, strategy)
            trainer.run()
        _conclude(folder.path)
    finally:
        logger.removeHandler(handler)
        handler.close()
        folder.close()
    return folder.path


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


def _conclude(run: Path) -> None:
    """What follows a training: evaluation of the test split, or else of val, and the report."""
    from resnet_tasks.engine.report import write_report

    dataset = json.loads((run / "dataset.json").read_text())
    if {"test", "val"} & set(dataset["splits"]):
        evaluate(run)
    write_report(run)


def evaluate(
    model: str | os.PathLike,
    *,
    task: str | None = None,
    data: str | Mapping[str, str] | None = None,
    split: str | None = None,
    name: str | None = None,
    output: str | os.PathLike | None = None,
    mapping: Mapping[str, str] | None = None,
    data_dir: str | None = None,
    images: str | None = None,
    data_format: str = "auto",
) -> dict:
    """Measures a model on a split and writes metrics.json and the task's tables.

    Args:
        model: A run folder, a `.keras` file or an artefact.
        task: Checked against the model's, where given.
        data: Where the data lie; a run's own by default.
        split: "train", "val" or "test"; test where there is one, else val, else train.
        name: Of the folder under `evaluation/`; the split's by default.
        output: That folder itself.
        mapping: From a class of the data to one of the model, or to "ignore".
        data_dir: Where TFDS keeps its data sets.
        images: Where the pictures of an annotation file lie.
        data_format: What `data` is; found out by default.

    Returns:
        The metrics, as in metrics.json.

    Raises:
        UsageError: No such model or split, or no data.
        DataError: The data cannot be read, or have classes that the model does not know.
    """
    from resnet_tasks.engine.measuring import measure_and_write
    from resnet_tasks.opening import open_model, task_on

    opened = open_model(model, task)
    where = {"data": data, "data_dir": data_dir, "images": images, "data_format": data_format}
    chosen_task, source = task_on(opened, mapping=mapping, **where)
    for note in source.notes if data is not None else ():
        logger.info("%s", note)
    chosen = split or next(known for known in ("test", "val", "train") if known in chosen_task.splits)
    if chosen not in chosen_task.splits:
        raise UsageError(f"--split: the data have {', '.join(chosen_task.splits)}, not {chosen!r}")
    folder = Path(output) if output is not None else opened.beside("evaluation") / (name or chosen)
    return measure_and_write(chosen_task, opened.loaded, chosen, folder)


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    """`{"train": {"lr": 1}}` as `{"train.lr": 1}`; lists and empty sections are values."""
    flat = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value})
    return flat
