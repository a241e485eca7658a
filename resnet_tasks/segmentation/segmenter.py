"""What the three segmenters have in common: their settings, their losses, and how their answers become full size."""

from collections.abc import Mapping, Sequence

import keras
from keras import layers, ops

from resnet_tasks.backbones.residual import conv, norm_relu
from resnet_tasks.backbones.specs import Norm
from resnet_tasks.model import Pyramid, TaskModel
from resnet_tasks.segmentation.losses import LOSSES, MEAN_OF
from resnet_tasks.segmentation.upsampling import BilinearUpsampling2D

# Pixels that are right, and areas that are: neither alone is what mIoU asks for.
DEFAULT_LOSSES = {"cross_entropy": 1.0, "dice": 1.0}


class Segmenter(TaskModel):
    """Images `(batch, height, width, 3)`, RGB 0..255, to `logits` `(batch, height, width, classes)`, at least float32.

    Height and width may be any multiples of the backbone's `size_multiple`.  A segmenter with an auxiliary head has a
    second output like the first, `aux`, that only its losses read.

    Args:
        inputs: The backbone's input.
        outputs: `{"logits": tensor}`, and perhaps `"aux"`.
        backbone: The `Pyramid` inside.
        class_names: Names in the order of the ids 0, 1, ...
        source_ids: The source's own ids in the same order, or empty.
        colors: RGB in 0..255 in the same order, or empty.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        losses: The weights of what `losses.LOSSES` names; one of weight 0 is left out.
        class_weights: What a pixel of each class counts in `cross_entropy` and `focal`; 1 if not given.
        settings: The other arguments of the subclass's constructor.
        aux_weight: Of the losses of `aux`, beside their own.
        name: The model's name.

    Raises:
        ValueError: A loss has no such name or a weight below 0, there is none, the class weights are not as many
            as the classes or below 0, or the levels do not fit on the canvas.
    """

    def __init__(
        self,
        inputs,
        outputs: Mapping,
        *,
        backbone: Pyramid,
        class_names: Sequence[str],
        source_ids: Sequence,
        colors: Sequence[Sequence[int]],
        image_size: Sequence[int],
        losses: Mapping[str, float],
        class_weights: Sequence[float] | None,
        settings: dict,
        name: str,
        aux_weight: float = 0.0,
    ):
        _refuse_odd(image_size, backbone)
        self.class_names, self.source_ids = list(class_names), list(source_ids)
        self.colors, self.image_size = [[int(part) for part in color] for color in colors], tuple(image_size)
        self.loss_weights = _checked_losses(losses)  # Keras has a `losses` of its own
        self.class_weights, self.aux_weight = _checked_class_weights(class_weights, len(class_names)), aux_weight
        shared = {
            "class_names": self.class_names,
            "source_ids": self.source_ids,
            "colors": self.colors,
            "image_size": list(image_size),
            "losses": dict(self.loss_weights),
            "class_weights": self.class_weights,
        }
        super().__init__(inputs, outputs, backbone=backbone, settings={**shared, **settings}, name=name)

    def loss_terms(self, targets: dict, outputs) -> dict:
        """Each of `losses` with its weight; those of the auxiliary head are called `aux_...`.

        Args:
            targets: `mask` `(batch, height, width)`, ids and `IGNORE`; `weight` `(batch,)`, 1 by default.
            outputs: This model's.

        Returns:
            Terms that are divided by the weighted number of valid pixels (`cross_entropy`, `focal`), of pairs of a
            picture and a class that it has (`dice`), or of pictures (`lovasz`).
        """
        mask, logits = targets["mask"], outputs["logits"]
        weight = targets["weight"] if "weight" in targets else ops.ones(ops.shape(mask)[:1], logits.dtype)
        weight = ops.cast(weight, logits.dtype)
        terms: dict = {}
        normalisers: dict = {}  # of mask and weight alone: one tensor for all terms that are divided by it
        for output, prefix, share in (("logits", "", 1.0), ("aux", "aux_", self.aux_weight)):
            for name, factor in self.loss_weights.items() if output in outputs else ():
                kind = MEAN_OF[name]
                weights = {"class_weights": self.class_weights} if kind == "pixels" else {}
                total, normaliser = LOSSES[name](outputs[output], mask, weight, **weights)
                terms[f"{prefix}{name}"] = (share * factor * total, normalisers.setdefault(kind, normaliser))
        return terms


def convolve(x, filters: int, kernel: int, norm: Norm, *, dilation: int = 1, name: str):
    """A convolution without bias, a norm and a ReLU, as the backbone has them."""
    return norm_relu(conv(x, filters, kernel, dilation=dilation, name=name), name, norm)


def classify_pixels(x, classes: int, kernel: int, *, stride: int = 1, name: str = "logits"):
    """The last convolution, and its logits at full size, float32 whatever the policy.

    Args:
        x: Features `(batch, height / stride, width / stride, channels)`.
        classes: How many.
        kernel: Of the convolution.
        stride: Of the features.
        name: Of the convolution.
    """
    precise = keras.config.floatx()
    logits = layers.Conv2D(classes, kernel, padding="same", dtype=precise, name=name)(x)
    return enlarge(logits, stride, f"{name}_up", dtype=precise)


def enlarge(x, factor: int, name: str, **settings):
    """`x` with `factor` times its height and width, bilinear."""
    return x if factor == 1 else BilinearUpsampling2D(factor, name=name, **settings)(x)


def require_names(class_names: Sequence[str]) -> None:
    """Before layers are made of as many channels.

    Raises:
        ValueError: There is none, or more than a mask has ids for.
    """
    if not 0 < len(class_names) <= 255:
        raise ValueError(f"a segmenter needs the names of 1 to 255 classes, got {len(class_names)}")


def _refuse_odd(image_size: Sequence[int], backbone: Pyramid) -> None:
    multiple = backbone.size_multiple
    if any(side % multiple for side in image_size):
        nearest = tuple(max(multiple, round(side / multiple) * multiple) for side in image_size)
        raise ValueError(
            f"image_size: {tuple(image_size)} must divide by {multiple}, for the levels of {backbone.name} to fit; "
            f"write {nearest}"
        )


def _checked_losses(losses: Mapping[str, float]) -> dict[str, float]:
    unknown = [name for name in losses if name not in LOSSES]
    if unknown:
        raise ValueError(f"losses: expected {', '.join(LOSSES)} with a weight each, got {', '.join(unknown)}")
    chosen = {name: float(weight) for name, weight in losses.items() if weight != 0}
    if not chosen or min(chosen.values()) < 0:
        raise ValueError(
            f"losses: expected weights above 0 for one of {', '.join(LOSSES)} at least, got {dict(losses)}"
        )
    return chosen


def _checked_class_weights(class_weights: Sequence[float] | None, classes: int) -> list[float] | None:
    if class_weights is None:
        return None
    found = [float(weight) for weight in class_weights]
    if len(found) != classes or min(found) < 0:
        raise ValueError(f"class_weights: expected {classes} numbers of at least 0, one for each class, got {found}")
    return found
