"""The verbs as functions; the command line and `import resnet_tasks` call these.

TensorFlow is imported inside them, so that listing recipes or reading a mistake in one costs no import of it.  Whatever
goes wrong is a `ResnetTasksError`, and its `exit_code` tells its kind.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_tasks.errors import DataError, UsageError

if TYPE_CHECKING:
    from resnet_tasks.engine.loaded import Loaded

logger = logging.getLogger("resnet_tasks")


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
        task: "classify", "detect", "segment" or "faces".
        recipe: A recipe's name or file; the task's folder recipe by default.
        data: Where the data lie, or `{split: where}`.
        run: The run folder; `runs/<task>/<recipe>` by default, with a number behind it where that is taken.
        set: Recipe keys to change: `{"train.epochs": 20}`, or texts `key=value`.
        flags: As `set`, and stronger.
        resume: Go on with the run in `run`, if there is one.

    Returns:
        The run folder.
    """
    from resnet_tasks import starting
    from resnet_tasks.opening import known
    from resnet_tasks.recipes.load import load_recipe
    from resnet_tasks.recipes.schema import FOLDER_RECIPES

    chosen = {**(flags or {}), **({"data.where": data} if data is not None else {})}
    named = recipe or FOLDER_RECIPES[known(task)]
    wanted = load_recipe(named, task, set, chosen)  # a mistake is told before TensorFlow is imported

    go_on = partial(starting.resumed, task=task, recipe=recipe, set=set, flags=chosen)
    decide = partial(starting.startable, run, named, wanted, resume, go_on)
    cluster = starting.cluster_for(wanted.train.strategy)
    start = starting.agreed(cluster, wanted.train.meet_minutes, decide)
    if recipe is None and start.state == "new":
        logger.info("no recipe named: %s", named)
    chief = cluster is None or cluster.is_chief
    if start.state == "finished":
        logger.info("%s is finished", start.run)
        if chief and not (start.run / "report.html").is_file():  # stopped between the last step and the report
            _conclude(start.run)
        return start.run
    with starting.prepared(start, cluster) as trainer:
        trainer.run()
        if chief:
            _conclude(start.run)
    return start.run


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
        DataError: The data cannot be read, have no split to measure on, or classes that the model does not know.
    """
    from resnet_tasks.engine.measuring import measure_and_write
    from resnet_tasks.opening import open_model, split_to_measure, task_on

    opened = open_model(model, task)
    chosen_task, source = task_on(
        opened, data=data, data_dir=data_dir, images=images, data_format=data_format, mapping=mapping
    )
    for note in source.notes if data is not None else ():
        logger.info("%s", note)
    chosen = split_to_measure(chosen_task, source, split)
    folder = Path(output) if output is not None else opened.beside("evaluation") / (name or chosen)
    return measure_and_write(chosen_task, opened.loaded, chosen, folder)


def load(model: str | os.PathLike, checkpoint: str | None = None) -> "Loaded":
    """Opens a model to use it: `load(...).predict(["cells.jpg"])`.

    Args:
        model: A run folder, a `.keras` file or an artefact.
        checkpoint: "last" or "best" of a run; its `model.keras` by default.

    Returns:
        An `engine.loaded.Loaded`: `predict`, `labels`, `keras_model`.
    """
    from resnet_tasks.opening import open_model

    return open_model(model, checkpoint=checkpoint).loaded


def predict(
    model: str | os.PathLike,
    what: list[str],
    *,
    task: str | None = None,
    output: str | os.PathLike | None = None,
    threshold: float | None = None,
    draw: bool = False,
    tile: bool = False,
) -> dict:
    """Answers pictures: files, folders of files, `@list.txt`.

    Args:
        model: A run folder, a `.keras` file or an artefact.
        what: What to answer.
        task: Checked against the model's, where given.
        output: A folder that gets predictions.jsonl, a line a picture, the drawn pictures, and of masks their files and
            annotations.json; when it has answers already, those pictures are not answered again.
        threshold: Answers below it are left out: labels and boxes by their score, of a mask the names of classes by
            their share of the picture.
        draw: Draw more than 100 pictures too.
        tile: Answer pictures larger than the model's canvas in overlapping windows of its size; boxes are sought in the
            whole picture too.

    Returns:
        `{"pictures": [...]}`, or for more than 100 `{"pictures": n, "errors": n, "output": DIR}`.

    Raises:
        UsageError: No such model or picture, an `output` of another model or of somebody else, a threshold that no
            score is, or `tile` for a task that has none.
    """
    from resnet_tasks.engine.predicting import predict_files
    from resnet_tasks.opening import TASKS, open_model, paper_of

    opened = open_model(model, task)
    if tile and opened.loaded.tiled is None:
        having = ", ".join(name for name, entry in TASKS.items() if entry.tile)
        raise UsageError(f"--tile: {opened.loaded.task} answers each picture as a whole (tasks that have it: {having})")
    return predict_files(opened.loaded, what, paper_of(opened.loaded.task), output, threshold, draw, tile)


def export(
    model: str | os.PathLike,
    *,
    task: str | None = None,
    output: str | os.PathLike | None = None,
    format: str = "saved_model",
) -> Path:
    """Writes the artefact and proves it on pictures.

    Args:
        model: A run folder or a `.keras` file.
        task: Checked against the model's, where given.
        output: The version folder; `<run>/export/saved_model/1` by default.
        format: "saved_model".

    Returns:
        The folder with saved_model.pb.

    Raises:
        UsageError: No such model, or an artefact, which is exported already.
        ParityError: The artefact's answers differ from the model's.
    """
    if format != "saved_model":
        raise UsageError(f"--format: expected saved_model, got {format!r}")
    from resnet_tasks.engine.export import export_saved_model
    from resnet_tasks.opening import model_card, open_model, sample_pictures

    opened = open_model(model, task)
    predictor = opened.loaded.predictor
    if predictor is None:
        raise UsageError(f"{model} is an artefact already; name the run or the .keras file that it was made from")
    folder = Path(output) if output is not None else opened.beside("export") / "saved_model" / "1"
    pictures, came_from = sample_pictures(opened)
    card = {**model_card(opened), "parity_pictures": came_from}
    parity = export_saved_model(predictor, opened.loaded.labels, card, pictures, folder)
    logger.info(
        "%s: largest difference %.1e on %d pictures (%s)",
        folder,
        parity["largest_difference"],
        parity["images"],
        came_from,
    )
    return folder


def check(
    task: str,
    data: str | Mapping[str, str],
    *,
    output: str | os.PathLike | None = None,
    data_format: str = "auto",
    images: str | None = None,
    data_dir: str | None = None,
    image_size: int | tuple[int, int] | None = None,
):
    """Looks data over before training; changes none of the user's files.

    Args:
        task: "classify", "detect", "segment" or "faces".
        data: A folder, a file, `tfds:NAME` or "digits", or several of these by split.
        output: A folder for `check.html` and `check.json`.
        data_format: As in a recipe; "auto" finds it out.
        images: Where the pictures lie that a file names, if not beside it.
        data_dir: Where TensorFlow Datasets has its data.
        image_size: A side, or `(height, width)`, of the canvas that boxes, masks and faces are judged on; the usual one
            of the task if not given. Classification judges nothing by it.

    Returns:
        A report with `text()`, `to_json()`, `html()` and `errors`; with `output` it is written there too.
    """
    from resnet_tasks.opening import TASKS, known, part

    reading: dict[str, Any] = {"data_format": data_format, "images": images, "data_dir": data_dir}
    if image_size is not None and known(task) != "classify":
        reading["image_size"] = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    report = part(TASKS[known(task)].check)(data, **reading)
    if output is not None:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "check.html").write_text(report.html(), encoding="utf-8")
        (folder / "check.json").write_text(json.dumps(report.to_json(), indent=1, ensure_ascii=False), encoding="utf-8")
    return report


def batches(
    task: str,
    data: str | Mapping[str, str],
    *,
    split: str = "train",
    image_size: int | tuple[int, int] = 224,
    batch_size: int = 32,
    class_names: Sequence[str] | None = None,
    recipe: str | os.PathLike | None = None,
    set: Mapping[str, Any] | None = None,
):
    """Batches `(images, targets)` for `keras.Model.fit`: a `tf.data.Dataset`, another epoch at each iteration.

    Args:
        task: "classify", "detect", "segment" or "faces".
        data: As for `train`.
        split: "train" comes shuffled and augmented, the others each picture once.
        image_size: A side, or `(height, width)`.
        batch_size: Examples of a batch.
        class_names: The model's, in the order of its ids, which the labels are then; without them classes are numbered
            as the reader orders them, by name where the source has no order.
        recipe: Whose augmentation is used; the task's folder recipe by default.
        set: Recipe keys to change.

    Raises:
        UsageError: The data have no such split.
        DataError: They have a class that `class_names` does not hold.
    """
    from resnet_tasks.data.examples import LabelMap
    from resnet_tasks.recipes import build
    from resnet_tasks.recipes.load import load_recipe
    from resnet_tasks.recipes.tasks import task_of

    size = list(image_size) if isinstance(image_size, tuple) else image_size
    flags = {"data.where": data, "model.image_size": size, "train.batch_size": batch_size}
    loaded = load_recipe(recipe, task, set, flags)
    source = build.read(loaded)
    if class_names is None or tuple(class_names) == source.labels.names:
        return task_of(loaded, source).fit_batches(split)
    if task == "faces":
        raise DataError(f"class_names: of faces they are those of the data, in this order: {list(source.labels.names)}")
    return task_of(loaded, replace(source, labels=LabelMap(tuple(class_names)))).matched(source).fit_batches(split)


def benchmark(task: str, model_or_recipe: str | os.PathLike) -> dict:
    """Times a model's answers, or a recipe's training step and input.

    Returns:
        Of a model: `images_per_second` and latency percentiles in milliseconds by batch size.  Of a recipe:
        `images_per_second` of training and `data_wait`, the share of time spent waiting for data."""
    from resnet_tasks.engine.timing import time_answers, time_training
    from resnet_tasks.opening import open_model
    from resnet_tasks.starting import trainer_of

    if Path(model_or_recipe).exists() and Path(model_or_recipe).suffix not in (".yaml", ".yml"):
        return time_answers(open_model(model_or_recipe, task).loaded)
    with trainer_of(task, model_or_recipe) as trainer:
        return time_training(trainer)


def lr_find(
    task: str,
    recipe: str | os.PathLike | None = None,
    *,
    data: str | Mapping[str, str] | None = None,
    set: Mapping[str, Any] | list[str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> dict:
    """Raises the learning rate from step to step until the loss rises (Smith 2015, arXiv 1506.01186, section 3.3).

    Returns:
        `suggested`, and `curve`, a list of `{"lr", "loss"}`.
    """
    from resnet_tasks.engine.timing import find_learning_rate
    from resnet_tasks.starting import trainer_of

    with trainer_of(task, recipe, data=data, set=set, flags=flags) as trainer:
        return find_learning_rate(trainer)


def _conclude(run: Path) -> None:
    """What follows a training: evaluation of the test split, or else of val, and the report."""
    from resnet_tasks.engine.report import write_report

    if {"test", "val"} & json.loads((run / "dataset.json").read_text())["splits"].keys():
        evaluate(run)
    write_report(run)
