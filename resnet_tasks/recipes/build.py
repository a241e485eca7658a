"""From a recipe to what the engine takes: the data, the task, plain settings.  Below this, nothing reads YAML."""

from typing import Any

from resnet_tasks.data.examples import Source
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.errors import UsageError
from resnet_tasks.recipes.load import changed
from resnet_tasks.recipes.schema import Recipe
from resnet_tasks.recipes.tasks import reader
from resnet_tasks.weights import sources, transfer
from resnet_tasks.weights.transfer import Transfer

REFERENCE_BATCH = 256  # Goyal et al. 2017, section 2.1: the learning rate is linear in the batch, from 0.1 at 256
FEW = 16  # pictures a replica below which a batch's statistics are too noisy to replace pretrained ones
AUTO_LR = {"sgd": 0.1, "adamw": 1e-3, "lamb": 5e-3}


def read(recipe: Recipe) -> Source:
    """The recipe's data, as its reader finds them.

    Raises:
        UsageError: The recipe names no data, or a path that does not exist.
        DataError: What lies there cannot be trained on.
    """
    data = recipe.data
    if data.where is None:
        raise UsageError("data.where: the recipe names no data; pass --data FOLDER, a CSV, tfds:NAME or digits")
    of_faces = {name: getattr(data, name) for name in ("val_share", "test_share", "closed") if hasattr(data, name)}
    return reader(recipe.task)(
        data.where,
        **of_faces,
        data_format=data.format,
        images=data.images,
        data_dir=data.data_dir,
        split_seed=data.split_seed,
        group=data.group,
        on_bad_image=data.on_bad_image,
    )


def resolve(
    recipe: Recipe, accelerator: bool, replicas: int, weights: Transfer | None = None
) -> tuple[Recipe, list[str]]:
    """The recipe with every "auto" decided, and a sentence on each decision.

    Args:
        recipe: As loaded.
        accelerator: Whether it trains on a GPU or TPU.
        replicas: How many.
        weights: What the backbone starts from.
    """
    train, decided, reasons = recipe.train, {}, []

    def decide(key: str, value, why: str) -> None:
        decided[f"train.{key}"] = value
        reasons.append(f"train.{key}: auto is {value}: {why}")

    synchronized = recipe.model.norm == "sync_batch" and replicas > 1
    if train.xla is True and synchronized:
        raise UsageError("train.xla=true and model.norm=sync_batch exclude each other over several replicas; drop one")
    if train.precision == "auto":
        why = "fastest on accelerators" if accelerator else "fastest on a CPU"
        decide("precision", "bfloat16" if accelerator else "float32", why)
    if train.xla == "auto":
        why = (
            "synchronised norms exclude it"
            if synchronized
            else "compiles for the accelerator"
            if accelerator
            else "slower on a CPU"
        )
        decide("xla", accelerator and not synchronized, why)
    if train.lr == "auto":
        value = AUTO_LR[train.optimizer]
        if train.optimizer == "sgd":
            value *= train.batch_size / REFERENCE_BATCH
        decide("lr", value, f"the rule for {train.optimizer} at batch size {train.batch_size}")
    if train.bn == "auto":
        decide("bn", *_norms(recipe, train.batch_size // replicas, weights))
    return changed(recipe, decided), reasons


def _norms(recipe: Recipe, pictures: int, weights: Transfer | None) -> tuple[str, str]:
    """What becomes of batch norms with so many pictures a replica, and why."""
    if pictures >= FEW:
        return "train", "enough pictures a replica"
    if weights is None:
        return "train", "no pretrained statistics to keep"
    if not weights.is_whole(recipe.model.backbone):
        return "train", "only a part of the weights is loaded, and the statistics must follow the rest"
    return "freeze", "pretrained weights and few pictures a replica"


def with_weights(recipe: Recipe) -> tuple[Recipe, Transfer | None, list[str]]:
    """The recipe with its weights decided, these weights, and a sentence on an "auto".

    Raises:
        UsageError: There are no such weights, or they have not been fetched.
        DataError: They cannot be read, or are another network's.
    """
    model, reasons = recipe.model, []
    wanted = model.weights
    if wanted == "auto":
        key = sources.default_for(model.backbone)
        here = key is not None and sources.local(key) is not None
        wanted = key if key and here else "none"
        why = (
            "the published ImageNet weights are here" if here else f"no published weights of {model.backbone} are known"
        )
        if key and not here:
            why = f"from scratch, since {key} is not here; `resnet-tasks weights fetch {key}` gets it"
        reasons.append(f"model.weights: auto is {wanted}: {why}; --weights none|NAME|FILE|RUN chooses otherwise")
    found = transfer.find(wanted, model.backbone, model.allow_partial)
    decided: dict[str, Any] = {"model.weights": wanted}
    if found and found.standardise is not None:
        mean, deviation = found.standardise
        if model.standardise not in (None, (mean, deviation)):
            raise UsageError(
                f"model.standardise: {found.source} was trained with mean {mean} and deviation {deviation}, and comes "
                "with them; leave it out"
            )
        decided["model.standardise"] = [list(mean), list(deviation)]
        reasons.append(f"model.standardise: as these weights were trained: mean {mean}, deviation {deviation}")
    return changed(recipe, decided), found, reasons


def train_settings(recipe: Recipe, replicas: int) -> TrainSettings:
    """The engine's settings of a resolved recipe."""
    train = recipe.train
    same = {
        name: getattr(train, name) for name in TrainSettings.__dataclass_fields__ if name in type(train).model_fields
    }
    return TrainSettings(
        **same,
        sync_norms=recipe.model.norm == "sync_batch" and replicas > 1,
        freeze_norms=train.bn == "freeze",
        evaluate_every=recipe.evaluate.every,
    )
