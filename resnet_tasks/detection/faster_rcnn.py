"""Faster R-CNN on a feature pyramid: proposals, then a second look at each.

Ren et al. 2015, arXiv 1506.01497; with a pyramid, Lin et al. 2016, arXiv 1612.03144.
"""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from resnet_tasks.detection import losses
from resnet_tasks.detection.assign import Match, draw, match
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
from resnet_tasks.detection.heads import box_head, predictions, tower
from resnet_tasks.geometry.anchors import anchors
from resnet_tasks.geometry.boxes import clip
from resnet_tasks.geometry.roi_align import roi_align
from resnet_tasks.geometry.suppression import suppress
from resnet_tasks.model import Pyramid
from resnet_tasks.necks.convolution import Norm
from resnet_tasks.necks.fpn import fpn

RATIOS = (0.5, 1.0, 2.0)
BOX_SCALE = (10.0, 10.0, 5.0, 5.0)  # of the second stage's offsets: one over their deviations
SMOOTH = 1 / 9
REGION = 7  # the side of a region's features
PROPOSAL_OVERLAP = 0.7
FIRST, SECOND = 1, 2  # salts of the two drawings


@keras.saving.register_keras_serializable("resnet_tasks")
class FasterRCNN(Detector):
    """Outputs `P2`..`P5`, features, and `objectness_P2` `(batch, h, w, 3)`, `offsets_P2` `(batch, h, w, 12)` to P6.

    The second stage, `box_head`, is a model of its own, which the loss and `candidates` run on regions.

    Args:
        backbone: A `Pyramid` that has the level `min_level`; each coarser one halves the size.
        class_names: Names in the order of the ids 0, 1, ...; the background is not one of them.
        source_ids: The source's own ids in the same order, or empty.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        channels: Of the pyramid.
        width: Of the second stage's two layers.
        min_level: The finest level; 2 as published.
        anchor_size: An anchor's side, in strides.
        norm: Of the pyramid: `None` as published, "batch" or "group".
        before: Proposals of each level that suppression looks at.
        proposals: Proposals of a picture that the second stage looks at.
        drawn: Anchors of a picture that the first stage learns from, at most half of them positive.
        regions: Proposals of a picture that the second stage learns from, at most a quarter of them positive.
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
        width: int = 1024,
        min_level: int = 2,
        anchor_size: float = 8.0,
        norm: Norm | None = None,
        before: int = 1000,
        proposals: int = 1000,
        drawn: int = 256,
        regions: int = 512,
        threshold: float = 0.5,
        floor: float = 0.05,
        overlap: float = 0.5,
        most: int = 100,
        name: str = "faster_rcnn",
    ):
        require_names(class_names)
        counts = {"before": before, "proposals": proposals, "drawn": drawn, "regions": regions}
        self.anchor_size, self.counts = anchor_size, counts
        super().__init__(
            backbone.input,
            _first_stage(backbone, min_level, channels, norm),
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
                "width": width,
                "min_level": min_level,
                "anchor_size": anchor_size,
                "norm": norm,
                **counts,
            },
            name=name,
        )
        self.box_head = box_head(REGION, channels, width, len(class_names), "box_head")

    def anchors(self, outputs: Mapping):
        """`(n, 4)` xyxy in pixels of the canvas, in the order of the flattened outputs."""
        shapes = shapes_of(of_level(outputs, "offsets"))
        strides = {key: 2 ** int(key[1:]) for key in shapes}
        return anchors(shapes, strides, {key: (self.anchor_size * s,) for key, s in strides.items()}, RATIOS)

    def proposals(self, outputs: Mapping):
        """What the first stage proposes, best first; no gradient goes through it.

        Returns:
            `boxes` `(batch, proposals, 4)` xyxy in pixels, within the canvas, and `valid` `(batch, proposals)` bool.
        """
        height, width = self._canvas(outputs)
        places, start, kept = self.anchors(outputs), 0, []
        levels = zip(of_level(outputs, "objectness").values(), of_level(outputs, "offsets").values())
        for objectness, offsets in levels:
            logits, offsets = flattened({"P": objectness}, 1)[..., 0], flattened({"P": offsets}, 4)
            logits, offsets = ops.stop_gradient(logits), ops.stop_gradient(offsets)
            here = ops.convert_to_tensor(places[start : start + logits.shape[1]], logits.dtype)
            start += logits.shape[1]
            best, index = ops.top_k(logits, min(self.counts["before"], logits.shape[1]))
            boxes = decode(ops.take(here, index, axis=0), taken(offsets, index))
            boxes = clip(boxes, height, width)
            sizes = ops.min(boxes[..., 2:] - boxes[..., :2], axis=-1)
            kept.append((boxes, best, suppress(boxes, PROPOSAL_OVERLAP, sizes >= 1.0)))
        boxes, logits, valid = (ops.concatenate(parts, axis=1) for parts in zip(*kept))
        low = ops.cast(-1e9, logits.dtype)
        best, index = ops.top_k(ops.where(valid, logits, low), min(self.counts["proposals"], logits.shape[1]))
        return taken(boxes, index), best > low

    def candidates(self, outputs: Mapping) -> Candidates:
        boxes, valid = self.proposals(outputs)
        logits, offsets = self._second(outputs, boxes)
        found = decode(boxes[:, :, None], offsets[:, :, 1:], BOX_SCALE)
        scores = ops.softmax(logits, axis=-1)[..., 1:]
        return Candidates(found, ops.where(valid[..., None], scores, 0.0))

    def loss_terms(self, targets: dict, outputs) -> dict:
        """Both stages' losses, each on candidates drawn by lot.

        Args:
            targets: `boxes` `(batch, m, 4)` xyxy in pixels of the canvas; `labels` `(batch, m)` int32, -1 where
                padding; `key` `(batch, words)` int32, from which the lots are; `weight` `(batch,)`, 1 by default.
            outputs: This model's.

        Returns:
            `objectness` and `offsets`, divided by the number of anchors drawn, and `class` and `box`, by that of
            proposals drawn.
        """
        dtype = next(iter(of_level(outputs, "objectness").values())).dtype
        truth, labels, key = ops.cast(targets["boxes"], dtype), targets["labels"], targets["key"]
        weight = weights_of(targets, dtype)
        return {
            **self._first_terms(outputs, truth, labels, key, weight),
            **self._second_terms(outputs, truth, labels, key, weight),
        }

    def _first_terms(self, outputs, truth, labels, key, weight) -> dict:
        logits = flattened(of_level(outputs, "objectness"), 1)[..., 0]
        offsets = flattened(of_level(outputs, "offsets"), 4)
        places = ops.convert_to_tensor(self.anchors(outputs), logits.dtype)
        found = match(places, truth, labels, foreground=0.7, background=0.3, every_box=True)
        positive, negative = draw(found, key, total=self.counts["drawn"], positive_share=0.5, salt=FIRST)
        learns, drawn = ops.cast(positive, logits.dtype), ops.cast(positive | negative, logits.dtype)
        goal = ops.where(positive[..., None], taken(truth, found.index), places[None])
        differences = offsets - encode(places[None], goal)
        offset_loss = ops.sum(ops.sum(losses.smooth_l1(differences, SMOOTH), axis=-1) * learns, axis=-1)
        logit_loss = ops.sum(losses.cross_entropy(logits, learns) * drawn, axis=-1)
        normaliser = ops.sum(weight * ops.sum(drawn, axis=-1))
        return {
            "objectness": (ops.sum(weight * logit_loss), normaliser),
            "offsets": (ops.sum(weight * offset_loss), normaliser),
        }

    def _second_terms(self, outputs, truth, labels, key, weight) -> dict:
        boxes, goal, own, drawn = self._regions(outputs, truth, labels, key)
        logits, offsets = self._second(outputs, boxes)
        dtype = logits.dtype
        learns = ops.cast((own >= 0) & drawn, dtype)
        shares = ops.one_hot(own + 1, len(self.class_names) + 1, dtype=dtype)  # the background is the first
        drawn = ops.cast(drawn, dtype)
        class_loss = ops.sum(-ops.sum(shares * ops.log_softmax(logits, axis=-1), axis=-1) * drawn, axis=-1)
        of_class = ops.sum(shares[..., None] * offsets, axis=2)
        differences = of_class - encode(boxes, goal, BOX_SCALE)
        box_loss = ops.sum(ops.sum(losses.smooth_l1(differences, SMOOTH), axis=-1) * learns, axis=-1)
        normaliser = ops.sum(weight * ops.sum(drawn, axis=-1))
        return {
            "class": (ops.sum(weight * class_loss), normaliser),
            "box": (ops.sum(weight * box_loss), normaliser),
        }

    def _regions(self, outputs, truth, labels, key):
        """What the second stage learns from: proposals and the truth itself, drawn by lot.

        Returns:
            `boxes` `(batch, regions, 4)`; `goal`, the box that each learns, itself where none; `own` `(batch,
            regions)` int32, its class, -1 for background; `drawn` `(batch, regions)` bool, False for the padding.
        """
        boxes, valid = self.proposals(outputs)
        boxes = ops.concatenate([boxes, truth], axis=1)  # else the first epochs have no good proposal to learn from
        valid = ops.concatenate([valid, labels >= 0], axis=1)
        found = match(boxes, truth, labels, foreground=0.5, background=0.5, every_box=False)
        found = Match(found.index, found.positive & valid, found.negative & valid)
        # Of all, not of as many as there are here: how far the truth is padded must not matter.
        positive, negative = draw(found, key, total=self.counts["regions"], positive_share=0.25, salt=SECOND)
        chosen = ops.cast(positive, "int32") * 2 + ops.cast(negative, "int32")
        order, place = ops.top_k(chosen, min(self.counts["regions"], boxes.shape[1]))
        boxes, index, positive = taken(boxes, place), taken(found.index, place), order == 2
        whole = ops.convert_to_tensor([0.0, 0.0, 8.0, 8.0], boxes.dtype)
        boxes = ops.where((order > 0)[..., None], boxes, whole)  # a size, for the logarithms
        goal = ops.where(positive[..., None], taken(truth, index), boxes)
        return boxes, goal, ops.where(positive, taken(labels, index), -1), order > 0

    def _second(self, outputs: Mapping, boxes):
        """Logits `(batch, n, classes + 1)` and offsets `(batch, n, classes + 1, 4)` of regions `(batch, n, 4)`."""
        pyramid = {key: value for key, value in outputs.items() if key.startswith("P")}
        pyramid = dict(sorted(pyramid.items(), key=lambda pair: int(pair[0][1:])))
        strides = {key: 2 ** int(key[1:]) for key in pyramid}
        regions = roi_align(pyramid, ops.stop_gradient(boxes), strides, size=REGION)
        count, channels = boxes.shape[1], regions.shape[-1]
        answers = self.box_head(ops.reshape(regions, (-1, REGION, REGION, channels)))
        classes = len(self.class_names) + 1
        return ops.reshape(answers["class"], (-1, count, classes)), ops.reshape(answers["box"], (-1, count, classes, 4))

    def _canvas(self, outputs: Mapping) -> tuple[int, int]:
        """Height and width in pixels."""
        key, (height, width) = next(iter(shapes_of(of_level(outputs, "offsets")).items()))
        return height * 2 ** int(key[1:]), width * 2 ** int(key[1:])


def _first_stage(backbone: Pyramid, min_level: int, channels: int, norm: Norm | None) -> dict:
    """The outputs: the features that the second stage reads, and what is proposed at each place."""
    pyramid = fpn(levels_of(backbone, min_level), channels, coarser="pool", max_level=6, norm=norm)
    first = tower(pyramid, 1, channels, norm=None, activation="relu", name="proposal_tower")
    outputs = {key: value for key, value in pyramid.items() if key != "P6"}
    for name, numbers in (("objectness", 1), ("offsets", 4)):
        outputs |= called(name, predictions(first, 1, numbers * len(RATIOS), name=name))
    return outputs
