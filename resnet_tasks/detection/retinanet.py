"""RetinaNet: one stage, dense anchors on a feature pyramid, focal loss.  Lin et al. 2017, arXiv 1708.02002."""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from resnet_tasks.detection import losses
from resnet_tasks.detection.assign import match
from resnet_tasks.detection.coding import decode, encode
from resnet_tasks.detection.detector import (
    Candidates,
    Detector,
    called,
    flattened,
    levels_of,
    of_level,
    require_names,
    shapes_of,
    taken,
    weights_of,
)
from resnet_tasks.detection.heads import PRIOR, predictions, tower
from resnet_tasks.geometry.anchors import anchors
from resnet_tasks.geometry.overlap import paired_giou
from resnet_tasks.model import Pyramid
from resnet_tasks.necks.convolution import Norm
from resnet_tasks.necks.fpn import fpn

RATIOS = (0.5, 1.0, 2.0)
OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
EACH = len(RATIOS) * len(OCTAVES)  # anchors of a place
SMOOTH = 0.11  # of the smooth L1 loss on offsets, as the authors' own Detectron has it


@keras.saving.register_keras_serializable("resnet_tasks")
class RetinaNet(Detector):
    """Outputs `class_P3` `(batch, h, w, 9 * classes)`, logits, and `box_P3` `(batch, h, w, 36)`, offsets; P3 to P7.

    Args:
        backbone: A `Pyramid` that has the level `min_level`; each coarser one halves the size.
        class_names: Names in the order of the ids 0, 1, ...
        source_ids: The source's own ids in the same order, or empty.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        channels: Of pyramid and head.
        head_depth: Convolutions before the last one.
        min_level: The finest level; 2 for small things, at four times the cost of 3.
        anchor_size: The smallest anchor's side, in strides.
        norm: Of pyramid and head: `None` as published, "batch" or "group".
        box_loss: "smooth_l1" on offsets, as published, or "giou" (Rezatofighi et al. 2019, arXiv 1902.09630).
        threshold: See `Detector`.
        floor: See `Detector`.
        overlap: See `Detector`.
        most: See `Detector`.
        name: The model's name.
    """

    def __init__(
        self,
        *,
        backbone: Pyramid,
        class_names: Sequence[str],
        source_ids: Sequence = (),
        image_size: Sequence[int] = (512, 512),
        channels: int = 256,
        head_depth: int = 4,
        min_level: int = 3,
        anchor_size: float = 4.0,
        norm: Norm | None = None,
        box_loss: str = "smooth_l1",
        threshold: float = 0.5,
        floor: float = 0.05,
        overlap: float = 0.5,
        most: int = 100,
        name: str = "retinanet",
    ):
        if box_loss not in ("smooth_l1", "giou"):
            raise ValueError(f"box_loss: expected smooth_l1 or giou, got {box_loss!r}")
        require_names(class_names)
        pyramid = fpn(levels_of(backbone, min_level), channels, coarser="conv", max_level=7, norm=norm)
        classes = tower(pyramid, head_depth, channels, norm=norm, activation="relu", name="class_tower")
        boxes = tower(pyramid, head_depth, channels, norm=norm, activation="relu", name="box_tower")
        classes = predictions(classes, 3, EACH * len(class_names), name="class", prior=PRIOR)
        boxes = predictions(boxes, 3, EACH * 4, name="box")
        outputs = {**called("class", classes), **called("box", boxes)}
        self.anchor_size, self.box_loss = anchor_size, box_loss
        super().__init__(
            backbone.input,
            outputs,
            backbone=backbone,
            class_names=class_names,
            source_ids=source_ids,
            image_size=image_size,
            threshold=threshold,
            floor=floor,
            overlap=overlap,
            most=most,
            settings={
                "channels": channels,
                "head_depth": head_depth,
                "min_level": min_level,
                "anchor_size": anchor_size,
                "norm": norm,
                "box_loss": box_loss,
            },
            name=name,
        )

    def anchors(self, outputs: Mapping):
        """`(n, 4)` xyxy in pixels of the canvas, in the order of the flattened outputs."""
        shapes = shapes_of(of_level(outputs, "box"))
        strides = {key: 2 ** int(key[1:]) for key in shapes}
        sizes = {
            key: tuple(self.anchor_size * stride * octave for octave in OCTAVES) for key, stride in strides.items()
        }
        return anchors(shapes, strides, sizes, RATIOS)

    def candidates(self, outputs: Mapping) -> Candidates:
        offsets = flattened(of_level(outputs, "box"), 4)
        logits = flattened(of_level(outputs, "class"), len(self.class_names))
        boxes = decode(ops.convert_to_tensor(self.anchors(outputs), offsets.dtype)[None], offsets)
        return Candidates(boxes[:, :, None], ops.sigmoid(logits))

    def loss_terms(self, targets: dict, outputs) -> dict:
        """Focal loss over all anchors but those between positive and negative; the boxes' loss over the positive ones.

        Args:
            targets: `boxes` `(batch, m, 4)` xyxy in pixels of the canvas; `labels` `(batch, m)` int32, -1 where
                padding; `weight` `(batch,)`, 1 by default.
            outputs: This model's.

        Returns:
            `class` and `box`, both divided by the number of positive anchors; a picture without any counts as one,
            so that a batch of background alone is learnt from too.
        """
        offsets = flattened(of_level(outputs, "box"), 4)
        logits = flattened(of_level(outputs, "class"), len(self.class_names))
        dtype = logits.dtype
        truth, labels = ops.cast(targets["boxes"], dtype), targets["labels"]
        places = ops.convert_to_tensor(self.anchors(outputs), dtype)
        found = match(places, truth, labels, foreground=0.5, background=0.4, every_box=True)
        positive, counts = ops.cast(found.positive, dtype), ops.cast(found.positive | found.negative, dtype)
        weight = weights_of(targets, dtype)

        own = ops.where(found.positive, taken(labels, found.index), -1)
        shares = ops.one_hot(own, len(self.class_names), dtype=dtype)
        class_loss = ops.sum(ops.sum(losses.focal(logits, shares), axis=-1) * counts, axis=-1)

        # An anchor that learns no box gets itself as truth: zeros, not the logarithms of padding.
        goal = ops.where(found.positive[..., None], taken(truth, found.index), places[None])
        box_loss = ops.sum(self._box_losses(places, offsets, goal) * positive, axis=-1)
        normaliser = ops.sum(weight * ops.maximum(ops.sum(positive, axis=-1), 1.0))
        return {
            "class": (ops.sum(weight * class_loss), normaliser),
            "box": (ops.sum(weight * box_loss), normaliser),
        }

    def _box_losses(self, places, offsets, goal):
        """`(batch, n)`."""
        if self.box_loss == "giou":
            return 2.0 * (1.0 - paired_giou(decode(places[None], offsets), goal))
        return ops.sum(losses.smooth_l1(offsets - encode(places[None], goal), SMOOTH), axis=-1)
