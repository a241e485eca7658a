"""The table of tasks, and what a user may name as a model: a run folder, a `.keras` file, an artefact.

This is the one place that knows every task; the four task folders never see one another.
"""

import importlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_tasks.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from resnet_tasks.data.examples import Source
    from resnet_tasks.engine.loaded import Loaded
    from resnet_tasks.engine.predicting import Paper
    from resnet_tasks.model import TaskModel
    from resnet_tasks.task import Task


@dataclass(frozen=True)
class Entry:
    """Where a task's parts are, as `module:name`; imported when they are needed."""

    package: str
    model: str
    predictor: str
    describe: str
    draw: str | None  # where there is something to see
    check: str
    tile: str | None = None  # answers large pictures in windows: `detection.tiles.tiled`
    align: str | None = None  # what becomes of pictures before they are answered: `faces.aligning.aligned`
    keep: str | None = None  # what of an answer goes to files of its own, and what is written of all together:
    conclude: str | None = None  # see `engine.predicting.Paper`


EVALUATED_BY = ("image_size", "crop_fraction", "far")  # settings of a model that are keys of a recipe's section `model`

TASKS = {
    "classify": Entry(
        package="resnet_tasks.classification",
        model="resnet_tasks.classification.model:Classifier",
        predictor="resnet_tasks.classification.predictor:ClassificationPredictor",
        describe="resnet_tasks.classification.predictor:describe",
        draw="resnet_tasks.classification.predictor:draw",
        check="resnet_tasks.data.check:check_classification",
    ),
    "detect": Entry(
        package="resnet_tasks.detection",
        model="resnet_tasks.detection.detector:Detector",
        predictor="resnet_tasks.detection.predictor:DetectionPredictor",
        describe="resnet_tasks.detection.predictor:describe",
        draw="resnet_tasks.detection.predictor:draw",
        check="resnet_tasks.data.check_boxes:check_detection",
        tile="resnet_tasks.detection.tiles:tiled",
    ),
    "segment": Entry(
        package="resnet_tasks.segmentation",
        model="resnet_tasks.segmentation.segmenter:Segmenter",
        predictor="resnet_tasks.segmentation.predictor:SegmentationPredictor",
        describe="resnet_tasks.segmentation.predictor:describe",
        draw="resnet_tasks.segmentation.predictor:draw",
        check="resnet_tasks.data.check_masks:check_segmentation",
        tile="resnet_tasks.segmentation.predictor:tiled",
        keep="resnet_tasks.segmentation.keeping:keep",
        conclude="resnet_tasks.segmentation.keeping:conclude",
    ),
    "faces": Entry(
        package="resnet_tasks.faces",
        model="resnet_tasks.faces.embedder:FaceEmbedder",
        predictor="resnet_tasks.faces.predictor:FacePredictor",
        describe="resnet_tasks.faces.predictor:describe",
        draw=None,
        check="resnet_tasks.data.check_faces:check_faces",
        align="resnet_tasks.faces.aligning:aligned",
    ),
}


def part(reference: str) -> Any:
    """The object behind `module:name`."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def paper_of(task: str) -> "Paper":
    """How a task's answers are put on paper."""
    from resnet_tasks.engine.predicting import Paper

    entry = TASKS[known(task)]
    chosen = {name: part(getattr(entry, name)) for name in ("draw", "keep", "conclude") if getattr(entry, name)}
    return Paper(**chosen)


def known(task: str) -> str:
    """The task's name, or a UsageError with the nearest one."""
    if task not in TASKS:
        raise UsageError(f"there is no task {task!r}{nearest(task, TASKS)} (there are: {', '.join(TASKS)})")
    return task


@dataclass(frozen=True)
class Opened:
    """A model that was opened.

    Attributes:
        loaded: What answers.
        run: The run folder it belongs to, or `None`.
        kind: "run", "keras" or "saved_model".
    """

    loaded: "Loaded"
    run: Path | None
    kind: str

    def beside(self, name: str) -> Path:
        """Where what is made with the model goes: into its run, else beside where the user stands."""
        return (self.run or Path.cwd()) / name


def open_model(model: str | os.PathLike, task: str | None = None, checkpoint: str | None = None) -> Opened:
    """Opens a model, whatever its form.

    Args:
        model: A run folder, a `.keras` file or a SavedModel folder (or the folder of versions above it).
        task: Refused if the model is another task's.
        checkpoint: "last" or "best" of a run; by default its `model.keras`, or the best there is while it trains.

    Raises:
        UsageError: There is no such path, or it is none of the three, or another task's.
        DataError: It is damaged.
    """
    from resnet_tasks.engine.strategy import require_tensorflow

    path = Path(model)
    if not path.exists():
        raise UsageError(f"{path}: there is no such run folder, .keras file or SavedModel")
    require_tensorflow()
    if checkpoint not in (None, "last", "best"):
        raise UsageError(f"checkpoint: expected last or best, got {checkpoint!r}")
    if checkpoint and not (path / "recipe.yaml").is_file():
        raise UsageError(f"{path} has no checkpoints; name its run folder, or leave checkpoint out")
    if path.is_file():
        opened = Opened(_of_keras(path), _run_above(path), "keras")
    elif (artefact := _artefact(path)) is not None:
        opened = Opened(_of_artefact(artefact), _run_above(artefact), "saved_model")
    elif (path / "recipe.yaml").is_file():
        opened = Opened(_of_run(path, checkpoint), path, "run")
    else:
        raise UsageError(
            f"{path}: expected a run folder (with recipe.yaml), a .keras file or a SavedModel (with saved_model.pb)"
        )
    if task is not None and opened.loaded.task != known(task):
        raise UsageError(f"{path} is a model of the task {opened.loaded.task!r}, not {task!r}")
    entry = TASKS[opened.loaded.task]
    opened.loaded.tiled = part(entry.tile) if entry.tile else None
    opened.loaded.aligned = part(entry.align) if entry.align else None
    return opened


def task_on(
    opened: Opened,
    *,
    data: str | Mapping[str, str] | None = None,
    data_dir: str | None = None,
    images: str | None = None,
    data_format: str = "auto",
    mapping: Mapping[str, str] | None = None,
) -> "tuple[Task, Source]":
    """The model's task on data: the run's own, or others whose classes are matched to the model's by name.

    Returns:
        `(Task, Source)`; the source's notes say so if it lacks some of the model's classes.
    """
    from resnet_tasks.recipes import build
    from resnet_tasks.recipes.load import load_recipe
    from resnet_tasks.recipes.tasks import task_of

    task = opened.loaded.task
    kept = opened.run / "recipe.yaml" if opened.run else None
    flags: dict[str, Any] = {"data.where": data, "data.data_dir": data_dir, "data.images": images}
    own: dict[str, Any] = {}
    if data is not None:
        flags["data.format"] = data_format
        own = {"data.images": None, "data.group": None}  # the run's say nothing of other data
    if kept is None:
        if data is None:
            raise UsageError("this model lies outside a run, which would know its data; pass --data")
        recipe = load_recipe(None, task, flags={**flags, **_size_of(opened.loaded)})
    else:
        recipe = load_recipe(kept, task, own, flags)
    source, labels = build.read(recipe), opened.loaded.labels
    matched = task_of(recipe, replace(source, labels=labels)).matched(source, mapping)
    held = {(mapping or {}).get(name, name) for name in source.labels.names} & set(labels.names)
    if matched.answers_labels and len(held) < len(labels):
        lacking = f"the data have {len(held)} of the model's {len(labels)} classes: {', '.join(sorted(held)[:20])}"
        source = replace(source, notes=(*source.notes, lacking))
    return matched, source


def split_to_measure(task: "Task", source: "Source", asked: str | None) -> str:
    """The split that is asked for; by default test where there is one, else val, else train."""
    known = [name for name in ("test", "val", "train") if name in task.splits]
    if not known:
        raise DataError(f"{source.where}: nothing that {task.name} can be measured on; found {source.found()}")
    if asked and asked not in known:
        raise UsageError(f"--split: the data have {', '.join(task.splits)}, not {asked!r}")
    return asked or known[0]


def _size_of(loaded: "Loaded") -> dict[str, Any]:
    """What evaluation must know of an artefact or a lone `.keras` file, as recipe keys: its size above all."""
    return {f"model.{name}": loaded.settings[name] for name in EVALUATED_BY if name in loaded.settings}


def sample_pictures(opened: Opened, count: int = 16) -> tuple[list[bytes], str]:
    """Encoded pictures to try an artefact on, and where they are from: the run's own data, else the embedded digits."""
    from resnet_tasks.recipes.tasks import reader

    read = reader(opened.loaded.task)
    try:
        source = task_on(opened)[1] if opened.run else read("digits")
    except (UsageError, DataError):  # the run's data have gone since
        source = read("digits")
    name = next(known for known in ("test", "val", "train") if known in source.splits)
    split = source.splits[name]
    step = max(1, len(split) // count)
    return [split.read(index) for index in range(0, len(split), step)][:count], f"{name} split of {source.where}"


def model_card(opened: Opened) -> dict:
    """What an artefact says of itself: the task, the model, its data, its figures, its versions."""
    from resnet_tasks.engine.run_folder import environment

    loaded = opened.loaded
    card = {
        "task": loaded.task,
        "model": type(loaded.keras_model).__name__,
        "backbone": loaded.keras_model.backbone.name,
        "parameters": loaded.keras_model.count_params(),
        "classes": len(loaded.labels),
        "environment": environment(),
    }
    card |= loaded.settings
    if opened.run:
        evaluations = sorted((opened.run / "evaluation").glob("*/metrics.json"))
        figures = {path.parent.name: json.loads(path.read_text()) for path in evaluations}
        drop = "per_class"
        card["evaluation"] = {name: {k: v for k, v in values.items() if k != drop} for name, values in figures.items()}
        card["dataset"] = json.loads((opened.run / "dataset.json").read_text())
    return card


def _of_keras(path: Path) -> "Loaded":
    from resnet_tasks.engine.loaded import read_keras

    for entry in TASKS.values():
        importlib.import_module(entry.package)  # registers its models with Keras
    return _of_model(read_keras(path), path)


def _of_model(model: "TaskModel", path: Path) -> "Loaded":
    from resnet_tasks.data.examples import LabelMap
    from resnet_tasks.engine.loaded import Loaded

    for task, entry in TASKS.items():
        if isinstance(model, part(entry.model)):
            colors = tuple(tuple(color) for color in getattr(model, "colors", ()))
            labels = LabelMap(tuple(model.class_names), tuple(getattr(model, "source_ids", ())), colors)
            return Loaded.of_model(task, part(entry.predictor)(model), labels, path)
    raise DataError(f"{path} holds a {type(model).__name__}, which is no task's model of this package")


def _of_run(path: Path, checkpoint: str | None) -> "Loaded":
    if checkpoint is None and (path / "model.keras").is_file():
        return _of_keras(path / "model.keras")
    return _of_model(_from_checkpoint(path, checkpoint), path)


def _from_checkpoint(path: Path, which: str | None) -> "TaskModel":
    """The model of a run with the values of one of its checkpoints."""
    from resnet_tasks.data.examples import LabelMap, Source
    from resnet_tasks.engine.checkpoints import model_values, named
    from resnet_tasks.engine.precision import precision
    from resnet_tasks.recipes.load import load_recipe
    from resnet_tasks.recipes.tasks import task_of

    folder = named(path / "checkpoints", which or "best") or (
        named(path / "checkpoints", "last") if which is None else None
    )
    if folder is None:
        raise UsageError(f"{path} has no checkpoint{f' {which!r}' if which else ''} yet")
    recipe = load_recipe(path / "recipe.yaml")
    labels = LabelMap.from_json(json.loads((path / "labels.json").read_text()))
    source = Source(where=str(path), format="labels", labels=labels, splits={})
    with precision(recipe.train.precision):
        model = task_of(recipe, source).build()
    for variable, value in zip(
        model.variables, model_values(folder, model, averaged=recipe.train.ema > 0), strict=True
    ):
        variable.assign(value)
    return model


def _artefact(path: Path) -> Path | None:
    """The SavedModel in a folder: itself, or the highest version under it."""
    if (path / "saved_model.pb").is_file():
        return path
    versions = [child for child in path.iterdir() if child.name.isdigit() and (child / "saved_model.pb").is_file()]
    return max(versions, key=lambda child: int(child.name), default=None)


def _of_artefact(path: Path) -> "Loaded":
    from resnet_tasks.engine.loaded import Loaded

    card = path / "model_card.json"
    try:
        task = json.loads(card.read_text())["task"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} is a SavedModel, but not one of resnet-tasks: {card.name} is missing or damaged"
        ) from error
    describe: Callable = part(TASKS[known(task)].describe)
    return Loaded.of_artefact(path, describe)


def _run_above(path: Path) -> Path | None:
    """The run folder that a model lies in, if it lies in one."""
    return next(
        (
            parent
            for parent in path.resolve().parents
            if (parent / "recipe.yaml").is_file() and (parent / "labels.json").is_file()
        ),
        None,
    )
