"""The two base classes of every network: `Pyramid`, a backbone, and `TaskModel`, a network that knows its loss."""

import math
from functools import cached_property

import keras
from keras import ops


@keras.saving.register_keras_serializable("resnet_tasks")
class Pyramid(keras.Model):
    """A backbone: images in, a pyramid of features out.

    A functional model from images `(batch, height, width, 3)`, RGB 0..255 (its first layers normalise them), to a
    dict of features, finest first.  The key tells the stride: `"C{l}"` is `2**l` times smaller than the image, or
    `output_stride` times where the network was built dilated.
    """

    @cached_property
    def strides(self) -> dict[str, int]:
        """How many times smaller than the image each level is, by key."""
        height, width = (side or 4096 for side in self.input.shape[1:3])  # nothing is computed at that size
        shapes = self.compute_output_shape((1, height, width, 3))
        # A side that does not divide is rounded up from level to level: the ratio is a little less than the power of 2.
        return {key: 2 ** round(math.log2(height / shapes[key][1])) for key in self.output}

    @cached_property
    def layer_levels(self) -> dict[str, str]:
        """The finest level that each layer is needed for, by the layer's name."""
        found: dict[str, str] = {}
        for key, tensor in self.output.items():
            waiting = [tensor]
            while waiting:
                history = waiting.pop()._keras_history  # private, as the nodes are: Keras has no public walk of a graph
                name = history.operation.name
                if name not in found:
                    found[name] = key
                    waiting += history.operation._inbound_nodes[history.node_index].input_tensors
        return found

    @property
    def size_multiple(self) -> int:
        """What a picture's height and width must divide by for all levels to fit on one another."""
        return max(self.strides.values())

    @property
    def pyramid_outputs(self) -> dict:
        """`{"P2": tensor, ...}`: the same tensors under the names that KerasHub's detectors read."""
        return {f"P{key[1:]}": tensor for key, tensor in self.output.items()}

    @property
    def pyramid_level_inputs(self) -> dict[str, str]:
        """`{"P2": layer name, ...}`: the layers behind the levels, as KerasCV's detectors read them."""
        return {f"P{key[1:]}": tensor._keras_history.operation.name for key, tensor in self.output.items()}


class TaskModel(keras.Model):
    """A backbone with a task's head, as a functional model, and the loss that trains it.

    Its outputs are what its loss and its decoder read, not final answers.

    Args:
        inputs: The backbone's input.
        outputs: A tensor or a structure of tensors.
        backbone: The `Pyramid` inside.
        settings: The other arguments of the subclass's constructor, as JSON can hold them.  They are saved, and
            with them all that `load` needs without a run folder: class names, picture size, thresholds.
        name: The model's name.
    """

    def __init__(self, inputs, outputs, *, backbone: Pyramid, settings: dict, name: str):
        super().__init__(inputs, outputs, name=name)
        self.backbone = backbone
        self._settings = dict(settings)

    def get_config(self) -> dict:
        backbone = keras.saving.serialize_keras_object(self.backbone)
        return {"backbone": backbone, **self._settings, "name": self.name}

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> "TaskModel":
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        return cls(**{**config, "backbone": backbone})

    def loss_terms(self, targets: dict, outputs) -> dict:
        """The loss as sums, so that replicas and micro-batches add up exactly.

        Args:
            targets: The task's targets, `(batch, ...)` each, with `weight (batch,)`.
            outputs: What this model returned for the batch.

        Returns:
            `{name: (total, normaliser)}`: float scalars, sums over the examples of this batch, weights included.
            Terms with the same normaliser return the same tensor.  The loss is the sum over the terms of
            Σtotal / Σnormaliser, over replicas and micro-batches; a term whose Σnormaliser is 0 is 0.
        """
        raise TypeError(f"{type(self).__name__} must define loss_terms; TaskModel is abstract")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss on one batch, for `compile(optimizer)` and `fit` on one device.

        Raises:
            RuntimeError: Under a `tf.distribute` strategy of several replicas, where Keras's `fit` would be
                silently wrong: it averages what must be divided by a sum over all replicas.
        """
        strategy = getattr(self, "distribute_strategy", None)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            raise RuntimeError(
                f"{type(self).__name__} is trained by `fit` on one device only, and here are "
                f"{strategy.num_replicas_in_sync} replicas; use resnet_tasks.train, whose engine normalises the "
                "loss over all of them"
            )
        if sample_weight is not None:
            raise ValueError('weights of examples belong into the targets: {"weight": (batch,), ...}')
        return total_loss(self.loss_terms(y, y_pred))


def total_loss(terms: dict):
    """The sum over terms `{name: (total, normaliser)}` of total / normaliser; 0 where the normaliser is 0."""
    return sum(ratio(total, normaliser) for total, normaliser in terms.values())


def ratio(total, normaliser):
    """total / normaliser, and 0 where the normaliser is 0, with finite gradients."""
    empty = ops.equal(normaliser, 0)
    quotient = ops.divide(total, ops.where(empty, ops.ones_like(normaliser), normaliser))
    return ops.where(empty, ops.zeros_like(quotient), quotient)
