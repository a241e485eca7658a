"""A run's start: alone or with other processes, new or resumed; a trainer in its run folder, with all written down."""

import contextlib
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnet_tasks.engine.cluster import Cluster, find_cluster, meet
from resnet_tasks.errors import DataError, ResnetTasksError, UsageError
from resnet_tasks.recipes.load import from_json, load_recipe, to_yaml
from resnet_tasks.recipes.schema import Recipe

logger = logging.getLogger("resnet_tasks")

# Keys that a resumed run may change: none of them decides what the next step computes.
MAY_CHANGE = {
    "data.cache", "data.data_dir", "data.where", "data.images", "data.service",
    "train.checkpoint_minutes", "train.log_every", "train.on_nan", "train.strategy", "train.devices",
    "train.early_stopping", "train.steps_per_execution", "train.meet_minutes",
    "evaluate.batch_size", "evaluate.every", "export.format",
}  # fmt: skip


@dataclass(frozen=True)
class Start:
    """What is started: `recipe` in the folder `run`, which is "new", "unfinished" or "finished"."""

    run: Path
    state: str
    recipe: Recipe


def startable(run, named, recipe: Recipe, resume: bool, resumed: Callable[[Path], Recipe]) -> Start:
    """What starts where.

    Args:
        run: The folder; by default `runs/<task>/<recipe>`, with a number behind it where that is taken.
        named: The recipe's name or file.
        recipe: What it says.
        resume: Whether a run that is there goes on, with
        resumed: the recipe for it.

    Raises:
        UsageError: A run is there, and `resume` is not asked for.
    """
    from resnet_tasks.engine import run_folder

    parent, name = Path("runs") / recipe.task, Path(named).name.removesuffix(".yaml")
    path = Path(run) if run is not None else run_folder.next_free(parent, name)
    state = run_folder.startable(path, resume)
    return Start(path, state, resumed(path) if state == "unfinished" else recipe)


def resumed(run: Path, task: str, recipe, set, flags: dict) -> Recipe:
    """The recipe of an unfinished run, with the changes that it can take; the others are refused."""
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


def cluster_for(strategy: str) -> Cluster | None:
    """The processes that this one trains with, if the environment tells of any and the strategy takes them."""
    cluster = find_cluster() if strategy in ("auto", "multiworker") else None
    if strategy == "multiworker" and cluster is None:
        raise UsageError(
            "train.strategy: multiworker needs to know its processes: set TF_CONFIG in each, or start them with srun"
        )
    return cluster


def agreed(cluster: Cluster | None, minutes: float, decide: Callable[[], Start]) -> Start:
    """What this process decides if it is alone or the chief, else what the chief has decided.

    Args:
        cluster: Who takes part; `None` for a process that is alone.
        minutes: How long the others are awaited.
        decide: Called by the chief only.

    Raises:
        UsageError: The chief refused to start, in each process.
        ResnetTasksError: Somebody did not come.
    """
    if cluster is None:
        return decide()
    if not cluster.is_chief:
        told = meet(cluster, None, 60 * minutes)
        if "refused" in told:
            raise UsageError(f"the chief ({cluster.addresses[0]}) did not start: {told['refused']}")
        return Start(Path(told["run"]), told["state"], from_json(told["recipe"]))
    try:
        start = decide()
    except ResnetTasksError as error:
        with contextlib.suppress(ResnetTasksError):
            meet(cluster, {"refused": str(error)}, 60 * minutes)
        raise
    recipe = start.recipe.model_dump(mode="json")
    meet(cluster, {"run": str(start.run), "state": start.state, "recipe": recipe}, 60 * minutes)
    return start


@contextlib.contextmanager
def trainer_of(task: str, recipe, **changes):
    """A trainer of a recipe in a folder that goes away with it."""
    data = changes.get("data")
    flags = {**(changes.get("flags") or {}), **({"data.where": data} if data is not None else {})}
    loaded = load_recipe(recipe, task, changes.get("set"), flags)
    with tempfile.TemporaryDirectory() as folder, prepared(Start(Path(folder) / "run", "new", loaded)) as trainer:
        yield trainer


@contextlib.contextmanager
def prepared(start: Start, cluster: Cluster | None = None):
    """A trainer in its run folder: devices chosen, data read, "auto" decided, all of it written down.

    A process that is not the chief gets a folder of its own, which goes away with it.
    """
    from resnet_tasks.engine.strategy import choose_strategy, prepare_devices
    from resnet_tasks.recipes import build
    from resnet_tasks.recipes.tasks import task_of

    train = start.recipe.train
    prepare_devices(train.devices)
    # Before anything is computed: TensorFlow joins a cluster at its start or never.
    strategy, why = choose_strategy(train.strategy, train.devices, cluster)
    source = _to_train_on(build.read(start.recipe))

    import tensorflow as tf

    from resnet_tasks.engine import logs, run_folder
    from resnet_tasks.engine.precision import precision
    from resnet_tasks.engine.train import Trainer

    if train.deterministic:
        tf.config.experimental.enable_op_determinism()
    accelerator = "GPU" in why or "TPU" in why
    recipe, weights, sentences = start.recipe, None, []
    if start.state == "new":
        recipe, weights, sentences = build.with_weights(recipe)
    resolved, reasons = build.resolve(recipe, accelerator, strategy.num_replicas_in_sync, weights)
    chief = cluster is None or cluster.is_chief
    with contextlib.ExitStack() as stack:
        own = start.run if chief else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        folder = stack.enter_context(contextlib.closing(run_folder.RunFolder(own, resume=start.state != "new")))
        folder.name, folder.state = start.run, start.state
        stack.enter_context(logs.log_to(folder.path / "log.txt", quiet=not chief))
        for sentence in (*source.notes, why, *sentences, *reasons):
            logger.info("%s", sentence)
        settings = build.train_settings(resolved, strategy.num_replicas_in_sync)
        if cluster:
            stack.enter_context(_losses_told(start.run))
            _compare(strategy, source, settings)
        with precision(settings.precision):
            _begin(folder, resolved, source)
            task = task_of(resolved, source, weights)
            trainer = Trainer(task, settings, folder, strategy)
            if task.transfer_report:
                logger.info("%s", task.transfer_report.text())
                folder.write_json("transfer.json", task.transfer_report.to_json())
            yield trainer


def _to_train_on(source):
    """Returns the source; raises DataError where no split of it is for training."""
    if "train" not in source.splits:
        raise DataError(
            f"{source.where}: no split 'train', and so nothing to learn from; name what is to be learnt, "
            f"--data train=WHERE (and the rest by --data val=WHERE and --data test=WHERE); found {source.found()}"
        )
    return source


@contextlib.contextmanager
def _losses_told(run: Path):
    """Tells that another process was lost also where it happens before the first step, or after the last."""
    from resnet_tasks.engine.failures import LOST, lost

    try:
        yield
    except LOST as error:
        raise lost(error, run) from error


def _compare(strategy, source, settings) -> None:
    """All processes must see the same data; says how these are shared out.

    Raises:
        DataError: They do not, in each of them.
    """
    from resnet_tasks.engine import together

    mine = json.dumps({name: split.fingerprint() for name, split in sorted(source.splits.items())})
    if not together.alike(strategy, mine):
        counts = ", ".join(f"{name} {len(split)}" for name, split in source.splits.items())
        raise DataError(
            f"{source.where}: the processes do not all find the same pictures and annotations there; here are "
            f"{counts}; compare the machines' copies"
        )
    logger.info(
        "every process decodes what its own replicas take of each batch: %d of %d pictures a replica",
        settings.batch_size // strategy.num_replicas_in_sync,
        settings.batch_size,
    )


def _begin(folder, recipe, source) -> None:
    """The small files that say what the run is.

    Raises:
        DataError: The run goes on, and its data are no longer those it began with.
    """
    from resnet_tasks.engine import run_folder

    fingerprint = {name: split.fingerprint() for name, split in source.splits.items()}
    before = folder.path / "dataset.json"
    if folder.state == "unfinished" and before.is_file():
        began = json.loads(before.read_text())["fingerprint"]
        if differ := sorted(name for name in began.keys() | fingerprint if began.get(name) != fingerprint.get(name)):
            raise DataError(
                f"--resume: {source.where} no longer holds the pictures that the run began with (split "
                f"{', '.join(differ)} differs in names, order or annotations); bring them back, or start another run"
            )
    folder.write("recipe.yaml", to_yaml(recipe))
    folder.write("command.txt", run_folder.command_line() + "\n")
    folder.write_json("environment.json", run_folder.environment())
    folder.write_json("labels.json", source.labels.to_json())
    summary = {
        "where": str(source.where),
        "format": source.format,
        "splits": {name: len(split) for name, split in source.splits.items()},
        "fingerprint": fingerprint,
        "problems": [{"file": problem.file, "what": problem.what} for problem in source.problems],
        "notes": list(source.notes),
    }
    if source.rows:
        summary["rows"] = asdict(source.rows)
    if source.pairs:
        summary["pairs"] = asdict(source.pairs)
    folder.write_json("dataset.json", summary)


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    """`{"train": {"lr": 1}}` as `{"train.lr": 1}`; lists and empty sections are values."""
    flat = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value})
    return flat
