"""A YOLO: one stage, no anchors, a path-aggregating neck and separate branches for class and box.

The field's present form of Redmon's idea (arXiv 1506.02640): a decoupled head (Ge et al. 2021, arXiv 2107.08430,
section 2.1), task-aligned assignment (arXiv 2108.07755), complete IoU (arXiv 2005.03572) and sides as distributions
(arXiv 2006.04388).  Our own layout, on any residual pyramid.
"""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from resnet_tasks.detection import losses
from resnet_tasks.detection.assign import align
from resnet_tasks.detection.coding import expectation, from_distances, to_distances
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
from resnet_tasks.geometry.anchors import points
from resnet_tasks.geometry.overlap import paired_ciou
from resnet_tasks.model import Pyramid
from resnet_tasks.necks.path_aggregation import path_aggregation

FIRST = "lecun_uniform"  # of the last kernels: near 0, as RetinaNet's, the classes would begin alike
BINS = 16  # of a side's distribution: 0 to 15 strides
# A first side of some two strides, like an anchor.  Were all bins alike it would be 7.5, and a small thing would
# overlap its first boxes so little, and so be given so small a share, that eight pictures' platelets were never learnt.
SIDE_BIASES = [-0.4 * side for side in range(BINS)]
# Xu et al. 2022, arXiv 2203.16250, section 2.2.  The box must not drown the class: at fifteen times its weight, as some
# YOLOs have it, ten digits were found in 750 steps, and not told apart.
BOX_WEIGHT, CLASS_WEIGHT, SIDE_WEIGHT = 2.5, 1.0, 0.5


@keras.saving.register_keras_serializable("resnet_tasks")
class YOLO(Detector):
    """Outputs `class_P3` `(batch, h, w, classes)`, logits, and `box_P3` `(batch, h, w, 64)`, four sides of 16 bins.

    Args:
        backbone: A `Pyramid` that has the level `min_level`; each coarser one halves the size.
        class_names: Names in the order of the ids 0, 1, ...
        source_ids: The source's own ids in the same order, or empty.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        channels: Of neck and head.
        neck_depth: Residual blocks at each merge of the neck.
        head_depth: Convolutions of each branch before the last one.
        min_level: The finest level; 2 for small things, at four times the cost of 3.
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
        image_size: Sequence[int] = (640, 640),
        channels: int = 128,
        neck_depth: int = 1,
        head_depth: int = 2,
        min_level: int = 3,
        threshold: float = 0.5,
        floor: float = 0.005,
        overlap: float = 0.65,
        most: int = 100,
        name: str = "yolo",
    ):
        require_names(class_names)
        pyramid = path_aggregation(levels_of(backbone, min_level), channels, depth=neck_depth)
        sides = {"norm": "batch", "activation": "silu"}
        classes = tower(pyramid, head_depth, channels, name="class_tower", **sides)
        boxes = tower(pyramid, head_depth, channels, name="box_tower", **sides)
        classes = predictions(classes, 1, len(class_names), name="class", prior=PRIOR, first=FIRST)
        boxes = predictions(boxes, 1, 4 * BINS, name="box", first=FIRST, bias=4 * SIDE_BIASES)
        outputs = {**called("class", classes), **called("box", boxes)}
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
                "neck_depth": neck_depth,
                "head_depth": head_depth,
                "min_level": min_level,
            },
            name=name,
        )

    def candidates(self, outputs: Mapping) -> Candidates:
        places, strides = self._places(outputs)
        sides = ops.reshape(flattened(of_level(outputs, "box"), 4 * BINS), (-1, len(strides), 4, BINS))
        places, strides = (ops.convert_to_tensor(value, sides.dtype) for value in (places, strides))
        boxes = from_distances(places, expectation(sides) * strides[:, None])
        return Candidates(boxes[:, :, None], ops.sigmoid(flattened(of_level(outputs, "class"), len(self.class_names))))

    def loss_terms(self, targets: dict, outputs) -> dict:
        """Cross-entropy with the shares that the assignment gives, complete IoU and distribution focal loss.

        Args:
            targets: `boxes` `(batch, m, 4)` xyxy in pixels of the canvas; `labels` `(batch, m)` int32, -1 where
                padding; `weight` `(batch,)`, 1 by default.
            outputs: This model's.

        Returns:
            `class`, `box` and `side`, all divided by the sum of the assigned shares; a picture with less than one
            counts as one.
        """
        places, strides = self._places(outputs)
        logits = flattened(of_level(outputs, "class"), len(self.class_names))
        dtype = logits.dtype
        places, strides = (ops.convert_to_tensor(value, dtype) for value in (places, strides))
        sides = ops.reshape(flattened(of_level(outputs, "box"), 4 * BINS), (-1, strides.shape[0], 4, BINS))
        predicted = from_distances(places, expectation(sides) * strides[:, None])
        truth, labels = ops.cast(targets["boxes"], dtype), targets["labels"]
        weight = weights_of(targets, dtype)

        scores = ops.sigmoid(ops.stop_gradient(logits))
        found = align(scores, ops.stop_gradient(predicted), places, strides, truth, labels)
        learns = found.share > 0
        own = ops.where(learns, taken(labels, found.index), -1)
        shares = ops.one_hot(own, len(self.class_names), dtype=dtype) * found.share[..., None]
        class_loss = ops.sum(losses.cross_entropy(logits, shares), axis=(1, 2))

        # A point that learns no box gets its own prediction as truth, whose loss is 0, in place of padding.
        goal = ops.where(learns[..., None], taken(truth, found.index), ops.stop_gradient(predicted))
        box_loss = ops.sum(found.share * (1.0 - paired_ciou(predicted, goal)), axis=1)
        distances = to_distances(places, goal) / strides[:, None]
        side_loss = ops.mean(losses.distribution_focal(sides, ops.stop_gradient(distances)), axis=-1)
        side_loss = ops.sum(found.share * side_loss, axis=1)
        normaliser = ops.sum(weight * ops.maximum(ops.sum(found.share, axis=1), 1.0))
        return {
            "class": (CLASS_WEIGHT * ops.sum(weight * class_loss), normaliser),
            "box": (BOX_WEIGHT * ops.sum(weight * box_loss), normaliser),
            "side": (SIDE_WEIGHT * ops.sum(weight * side_loss), normaliser),
        }

    def _places(self, outputs: Mapping):
        """The centre `(n, 2)` xy and the stride `(n,)` of each place, in pixels of the canvas."""
        shapes = shapes_of(of_level(outputs, "box"))
        return points(shapes, {key: 2 ** int(key[1:]) for key in shapes})
