"""Which parts of a network train, and how fast: frozen levels, gradual unfreezing, layer-wise learning rates.

Howard & Ruder 2018, arXiv 1801.06146, section 3.2 (discriminative rates, gradual unfreezing).  A frozen level changes
in nothing: no update, no decay, and its batch norms use and keep their moving statistics.
"""

import keras

from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.errors import UsageError
from resnet_tasks.model import TaskModel

HEAD = "head"


def levels(model: TaskModel) -> dict[str, str]:
    """For each layer, submodels' too, the level of the backbone that it serves, or "head"."""
    of_backbone = model.backbone.layer_levels
    return {layer.name: of_backbone.get(layer.name, HEAD) for layer in model._flatten_layers(include_self=False)}


def frozen_levels(model: TaskModel, settings: TrainSettings, epoch: int) -> tuple[str, ...]:
    """The levels that do not train in an epoch, counted from 0; finest first.

    Raises:
        UsageError: The backbone has no such level.
    """
    if settings.freeze is None:
        return ()
    names = list(model.backbone.output)
    if settings.freeze != "backbone" and settings.freeze not in names:
        raise UsageError(f"train.freeze: {model.backbone.name} has {', '.join(names)}, and no {settings.freeze}")
    last = len(names) if settings.freeze == "backbone" else names.index(settings.freeze) + 1
    thawed = int(epoch / settings.unfreeze_every) if settings.unfreeze_every else 0
    return tuple(names[: max(0, last - thawed)])


def freeze(model: TaskModel, frozen: tuple[str, ...], *, norms: bool) -> None:
    """Lets these levels' layers not train, and all others train, but for the backbone's norms if `norms` is True.

    Args:
        model: The network.
        frozen: Levels of its backbone.
        norms: Whether the backbone's batch norms are frozen.
    """
    of_layer = levels(model)
    for layer in model._flatten_layers(include_self=False):
        if layer is model.backbone or list(layer._flatten_layers(include_self=False)):
            continue  # a model's own flag would be handed down to all its layers
        level = of_layer[layer.name]
        is_kept = norms and level != HEAD and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = level not in frozen and not is_kept


def rates(model: TaskModel, settings: TrainSettings) -> dict[str, float]:
    """The learning rate of each trainable variable over the schedule's, by the variable's path."""
    if settings.layer_decay == 1.0:
        return {}
    names = list(model.backbone.output)
    below = {HEAD: 0, **{name: len(names) - place for place, name in enumerate(names)}}
    of_layer = levels(model)
    return {
        variable.path: settings.layer_decay ** below[of_layer[layer.name]]
        for layer in model._flatten_layers(include_self=False)
        for variable in layer._trainable_variables
    }
