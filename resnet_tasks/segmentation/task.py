"""Segmentation for the engine: batches, the network, its measures and its files."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks import backbones
from resnet_tasks.backbones.specs import Norm
from resnet_tasks.data import mixing, photometric
from resnet_tasks.data.batching import Batches
from resnet_tasks.data.drawing_masks import overlay, palette_of
from resnet_tasks.data.examples import Source, Split
from resnet_tasks.data.geometric import get_flip, in_turn
from resnet_tasks.data.mask_placing import get_mask_placement
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.data.pictures import Pictures
from resnet_tasks.errors import UsageError
from resnet_tasks.segmentation import DeepLabV3Plus, SemanticFPN, UNet, findings, metrics
from resnet_tasks.segmentation.predictor import SegmentationPredictor, draw, prepare
from resnet_tasks.segmentation.segmenter import Segmenter
from resnet_tasks.task import Monitor, Task
from resnet_tasks.weights.transfer import Constants, start

SEGMENTERS = {"unet": UNet, "deeplab_v3_plus": DeepLabV3Plus, "semantic_fpn": SemanticFPN}
CUTMIX_ALPHA = 1.0  # Yun et al. 2019, arXiv 1905.04899, section 3.2


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is random about a training picture; the recipe's section `augment` says what each means."""

    flip: Literal["none", "random", "alternate"] = "none"
    scale: tuple[float, float] = (1.0, 1.0)
    crop_size: tuple[int, int] | None = None
    rotate: float = 0.0
    color_jitter: float = 0.0
    cutmix: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """What the task needs to know beside its data.

    Attributes:
        segmenter: "unet", "deeplab_v3_plus" or "semantic_fpn".
        head: Arguments of the segmenter beside backbone, classes, size and class weights.
        output_stride: Of the backbone.
        backbone: A name of the catalogue, or a function that builds a `Pyramid` from `input_shape`.
        norm: "batch" or "group".
        standardise: Mean and deviation of RGB 0..255 that the backbone normalises by; `None` for its own.
        image_size: `(height, width)` of the canvas that pictures are answered on.
        batch_size: Of training, over all replicas.
        evaluation_batch_size: Of evaluation, over all replicas.
        augmentation: In training.
        close_after: The epoch from which only flips and colours are random; `None` for never.
        balance: "none", "weights" (rare classes weigh more in the loss) or "repeat" (pictures that have them come more
            often).
        cache: "off", "ram" or "disk".
        cache_folder: Where "disk" keeps its files.
        service: Address of a tf.data service that makes the training batches; `None` for this process.
        seed: Of order and augmentation.
    """

    segmenter: Literal["unet", "deeplab_v3_plus", "semantic_fpn"] = "unet"
    head: Mapping = field(default_factory=dict)
    output_stride: int = 32
    backbone: str | Callable = "resnet_50"
    norm: Norm = "batch"
    standardise: Constants | None = None
    image_size: tuple[int, int] = (512, 512)
    batch_size: int = 16
    evaluation_batch_size: int = 16
    augmentation: Augmentation = field(default_factory=Augmentation)
    close_after: int | None = None
    balance: Literal["none", "weights", "repeat"] = "none"
    cache: Literal["off", "ram", "disk"] = "off"
    cache_folder: Path | None = None
    service: str | None = None
    seed: int = 0


class Segmentation(Task):
    """A class for each pixel.

    Args:
        source: What a reader found; its labels are the model's.
        settings: The task's settings.
    """

    name = "segment"
    monitor = Monitor("mIoU", "max")
    details = metrics.DETAILS

    def __init__(self, source: Source, settings: SegmentationSettings):
        self.source, self.settings = source, settings
        self.labels = source.labels
        self._pictures: dict[str, Pictures] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.source.splits)

    def build(self) -> Segmenter:
        settings = self.settings
        shape = (None, None, 3)
        if callable(settings.backbone):
            backbone = settings.backbone(input_shape=shape)
        else:
            backbone = backbones.create(
                settings.backbone, input_shape=shape, norm=settings.norm, output_stride=settings.output_stride
            )
        self.transfer_report = start(backbone, self.transfer, settings.standardise)
        try:
            return SEGMENTERS[settings.segmenter](
                backbone=backbone,
                class_names=self.labels.names,
                source_ids=self.labels.source_ids,
                colors=self.labels.colors,
                image_size=settings.image_size,
                **{"class_weights": self._class_weights(), **settings.head},
            )
        except ValueError as error:  # a backbone without the levels that it needs
            raise UsageError(f"model.segmenter: {settings.segmenter}: {error}") from error

    def batches(self, split: str, training: bool) -> Batches:
        settings, pictures = self.settings, self._opened(split)
        plain = replace(pictures.split, annotations={}, masks=None)
        if not training:
            size = min(settings.evaluation_batch_size, max(1, len(pictures.split)))
            return Batches(plain, pictures, size, self._prepare, _finish_prepared, training=False)
        chance = settings.augmentation.cutmix
        return Batches(
            plain,
            pictures,
            settings.batch_size,
            self._augment(pictures.split),
            _finish,
            training=True,
            mix=self._mix(chance) if chance else None,
            seed=settings.seed,
            places=self._repeated(pictures.split) if settings.balance == "repeat" else None,
            service=settings.service,
        )

    def predictor(self, model: Segmenter) -> SegmentationPredictor:
        return SegmentationPredictor(model)

    def measure(self, pairs: Iterable[tuple[dict, dict]], split: str) -> dict:
        return metrics.measure(pairs, self.source.splits[split], self.labels)

    def findings(self, measured: dict, folder: Path) -> None:
        findings.write(measured, folder, self.source.splits[measured["split"]], self.labels)

    def logged(self, measured: dict) -> dict[str, float]:
        """The IoU of every class too, as `IoU: name`."""
        of_classes = {f"IoU: {name}": row["IoU"] for name, row in measured["per_class"].items()}
        return super().logged(measured) | {name: value for name, value in of_classes.items() if value is not None}

    def draw(self, image: np.ndarray, prediction: dict) -> Image.Image:
        return draw(image, prediction, self.labels)

    def as_trained(self, images: np.ndarray, targets: dict) -> list[np.ndarray]:
        palette = palette_of(self.labels)
        clipped = np.clip(images, 0, 255).astype(np.uint8)
        return [np.asarray(overlay(image, mask, palette)) for image, mask in zip(clipped, targets["mask"])]

    def beside_truth(self, image: np.ndarray, prediction: dict, split: str, row: Mapping) -> Image.Image:
        """The truth on the left, the prediction on the right."""
        masks = self.source.splits[split].masks
        return draw(image, prediction, self.labels, None if masks is None else masks.ids(row["index"]))

    def matched(self, source: Source, mapping: Mapping[str, str] | None = None) -> "Segmentation":
        ids = self.labels.match(source.labels, mapping)
        splits = {name: _relabelled(split, ids, len(self.labels)) for name, split in source.splits.items()}
        return Segmentation(replace(source, labels=self.labels, splits=splits), self.settings)

    def _opened(self, split: str) -> Pictures:
        if split not in self._pictures:
            self._pictures[split] = Pictures(self.source.splits[split], self.settings.cache, self.settings.cache_folder)
        return self._pictures[split]

    def _prepare(self, example: dict, key) -> dict:
        """Evaluation: the predictor's own preparation."""
        return {**example, **prepare(example["image"], self.settings.image_size)}

    def _augment(self, split: Split) -> Callable:
        settings, chosen = self.settings, self.settings.augmentation
        size = chosen.crop_size or settings.image_size
        fit = settings.image_size
        placed = get_mask_placement(size, scale=chosen.scale, rotate=chosen.rotate, fit=fit)
        plain, fetch = get_mask_placement(size, fit=fit), self._fetcher(split)
        flip = [get_flip(alternate=chosen.flip == "alternate")] if chosen.flip != "none" else []
        jitter = [photometric.get_color_jitter(chosen.color_jitter)] if chosen.color_jitter else []
        close_after = settings.close_after

        def augment(example: dict, key) -> dict:
            example = {**example, "mask": fetch(example)}
            if close_after is None:
                return in_turn([placed, *flip, *jitter], example, key)

            def by(operation) -> dict:
                made = operation(example, key)
                return {name: made[name] for name in ("image", "mask")}

            moved = tf.cond(example["epoch"] >= close_after, lambda: by(plain), lambda: by(placed))
            return in_turn([*flip, *jitter], {**example, **moved}, key)

        return augment

    def _fetcher(self, split: Split) -> Callable:
        """What gives an example its mask; void where its picture could not be read."""
        assert split.masks is not None  # the reader's
        kept = split.masks.in_memory() if self.settings.cache != "off" or self.settings.service else split.masks
        fetch = kept.fetcher()

        def mask(example: dict):
            void = tf.cast(tf.fill(tf.shape(example["image"])[:2], IGNORE), tf.uint8)
            found = tf.cond(example["weight"] > 0, lambda: fetch(example["index"]), lambda: void)
            return tf.ensure_shape(found, (None, None))

        return mask

    def _mix(self, probability: float) -> Callable:
        mix = mixing.get_mask_cutmix(CUTMIX_ALPHA, probability)
        close_after = self.settings.close_after
        if close_after is None:
            return mix
        return lambda group, keys: tf.cond(group["epoch"][0] >= close_after, lambda: group, lambda: mix(group, keys))

    def _class_weights(self) -> list[float] | None:
        """Of the recipe's balance: the median of the classes' frequencies over each one's own.

        A class's frequency is its share of the pixels of the pictures that have it (Eigen and Fergus 2014, arXiv
        1411.4734, section 6.3.2); a class that no picture has weighs 1.
        """
        if self.settings.balance != "weights" or "train" not in self.source.splits:
            return None
        pixels = self.source.splits["train"].annotations["pixels"].astype(np.float64)
        counts, valid = pixels[:, :-1], pixels[:, :-1].sum(axis=1, keepdims=True)
        seen = counts > 0
        frequency = counts.sum(axis=0) / np.maximum((seen * valid).sum(axis=0), 1)
        there = seen.any(axis=0)
        weights = np.median(frequency[there]) / np.where(there, frequency, 1.0)
        return np.where(there, weights, 1.0).tolist()

    def _repeated(self, split: Split) -> np.ndarray:
        """Places of the split, a picture as often as its rarest class asks.

        Gupta et al. 2019, arXiv 1908.03195, section 5.4, with the most frequent class in place of a constant.
        """
        present = split.annotations["present"]
        counts = present.sum(axis=0)
        factors = np.sqrt(counts.max(initial=1) / np.maximum(counts, 1))
        rarity = np.maximum(np.where(present, factors, 1.0).max(axis=1, initial=1.0), 1.0)
        return np.repeat(np.arange(len(rarity)), np.round(rarity).astype(int)).astype(np.int64)


def _relabelled(split: Split, ids: np.ndarray, classes: int) -> Split:
    """The split by the model's ids; pixels of a class to ignore become void."""
    held = split.annotations
    pixels = np.zeros((len(split), classes + 1), np.int64)
    for label, new in enumerate(ids):
        pixels[:, new] += held["pixels"][:, label]  # -1, to ignore, is the last: void
    pixels[:, -1] += held["pixels"][:, -1]
    masks = None if split.masks is None else split.masks.relabelled(ids)
    return replace(split, masks=masks, annotations={**held, "pixels": pixels, "present": pixels[:, :-1] > 0})


def _finish(batch: dict) -> tuple:
    return batch["image"], {name: batch[name] for name in ("mask", "index", "key", "weight")}


def _finish_prepared(batch: dict) -> tuple:
    prepared = {name: batch[name] for name in ("image", "scale", "size")}
    return prepared, {name: batch[name] for name in ("index", "weight")}
