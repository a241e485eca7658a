"""Detection for the engine: batches, the network, its measures and its files."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks import backbones
from resnet_tasks.backbones.specs import Norm
from resnet_tasks.data import mixing, mosaic, photometric, placing
from resnet_tasks.data.batching import Batches
from resnet_tasks.data.decode import map_or_blank
from resnet_tasks.data.examples import Source, Split
from resnet_tasks.data.geometric import get_flip, in_turn
from resnet_tasks.data.pictures import Pictures
from resnet_tasks.detection import YOLO, FasterRCNN, RetinaNet, findings, metrics
from resnet_tasks.detection.detector import Detector
from resnet_tasks.detection.predictor import DetectionPredictor, draw, prepare
from resnet_tasks.errors import UsageError
from resnet_tasks.task import Monitor, Task
from resnet_tasks.weights.transfer import Constants, start

DETECTORS = {"retinanet": RetinaNet, "faster_rcnn": FasterRCNN, "yolo": YOLO}
MOST_BOXES = 200  # of a mosaic that is made of four crowded pictures; the smallest give way
MIXUP_ALPHA = 1.5  # Zhang et al. 2019, arXiv 1902.04103, section 3.1


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is random about a training picture; the recipe's section `augment` says what each means."""

    flip: Literal["none", "random", "alternate"] = "none"
    scale: tuple[float, float] = (1.0, 1.0)
    crop: float = 0.0
    expand: float = 0.0
    color_jitter: float = 0.0
    mosaic: float = 0.0
    mixup: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DetectionSettings:
    """What the task needs to know beside its data.

    Attributes:
        detector: "retinanet", "faster_rcnn" or "yolo".
        head: Arguments of the detector beside backbone, classes and size.
        backbone: A name of the catalogue, or a function that builds a `Pyramid` from `input_shape`.
        norm: "batch" or "group".
        standardise: Mean and deviation of RGB 0..255 that the backbone normalises by; `None` for its own.
        image_size: `(height, width)` of the canvas.
        batch_size: Of training, over all replicas.
        evaluation_batch_size: Of evaluation, over all replicas.
        augmentation: In training.
        close_after: The epoch from which only flips and colours are random; `None` for never.
        balance: "none", "weights" (pictures with rare classes weigh more) or "repeat" (they come more often).
        cache: "off", "ram" or "disk".
        cache_folder: Where "disk" keeps its files.
        service: Address of a tf.data service that makes the training batches; `None` for this process.
        seed: Of order and augmentation.
    """

    detector: Literal["retinanet", "faster_rcnn", "yolo"] = "retinanet"
    head: Mapping = field(default_factory=dict)
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


class Detection(Task):
    """Boxes with a class each.

    Args:
        source: What a reader found; its labels are the model's.
        settings: The task's settings.
    """

    name = "detect"
    monitor = Monitor("AP", "max")
    details = metrics.DETAILS
    settles = True

    def __init__(self, source: Source, settings: DetectionSettings):
        self.source, self.settings = source, settings
        self.labels = source.labels
        self._pictures: dict[str, Pictures] = {}
        self._categories: list | None = None  # what the data call the classes, where they are not the model's own

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.source.splits)

    def build(self) -> Detector:
        settings = self.settings
        shape = (*settings.image_size, 3)
        if callable(settings.backbone):
            backbone = settings.backbone(input_shape=shape)
        else:
            backbone = backbones.create(settings.backbone, input_shape=shape, norm=settings.norm)
        self.transfer_report = start(backbone, self.transfer, settings.standardise)
        names, ids, size = self.labels.names, self.labels.source_ids, settings.image_size
        try:
            return DETECTORS[settings.detector](
                backbone=backbone, class_names=names, source_ids=ids, image_size=size, **settings.head
            )
        except ValueError as error:  # a backbone without the levels that it needs
            raise UsageError(f"model.detector: {settings.detector}: {error}") from error

    def batches(self, split: str, training: bool) -> Batches:
        settings, pictures = self.settings, self._opened(split)
        if not training:
            size = min(settings.evaluation_batch_size, max(1, len(pictures.split)))
            plain = replace(pictures.split, annotations={})
            return Batches(plain, pictures, size, self._prepare, _finish_prepared, training=False)
        learnt = replace(pictures.split, annotations=_learnt(pictures.split))
        mixup = settings.augmentation.mixup
        return Batches(
            learnt,
            pictures,
            settings.batch_size,
            self._augment(learnt, pictures),
            self._finish(learnt),
            training=True,
            mix=self._mix(mixup) if mixup else None,
            seed=settings.seed,
            places=_repeated(self._rarity(learnt)) if settings.balance == "repeat" else None,
            service=settings.service,
        )

    def predictor(self, model: Detector) -> DetectionPredictor:
        return DetectionPredictor(model)

    def measure(self, pairs: Iterable[tuple[dict, dict]], split: str) -> dict:
        return metrics.measure(pairs, self.source.splits[split], self.labels, self._categories)

    def settle(self, model: Detector, measured: dict) -> None:
        """The threshold that was best on the validation split becomes the model's."""
        model.threshold = measured["threshold"]

    def findings(self, measured: dict, folder: Path) -> None:
        findings.write(measured, folder, self.source.splits[measured["split"]], self.labels)

    def draw(self, image: np.ndarray, prediction: dict) -> Image.Image:
        return draw(image, prediction)

    def as_trained(self, images: np.ndarray, targets: dict) -> list[np.ndarray]:
        answers = []
        for image, boxes, labels in zip(images, targets["boxes"], targets["labels"]):
            ids = labels[labels >= 0].tolist()
            truth = {"boxes": boxes[labels >= 0], "label_ids": ids, "label_names": [""] * len(ids)}
            answers.append(np.asarray(draw(np.clip(image, 0, 255).astype(np.uint8), truth)))
        return answers

    def beside_truth(self, image: np.ndarray, prediction: dict, split: str, row: Mapping) -> Image.Image:
        """The truth on the left, its crowds dashed, the prediction on the right."""
        known = {name: values[row["index"]] for name, values in self.source.splits[split].annotations.items()}
        real = known["labels"] >= 0
        ids = known["labels"][real].tolist()
        names = [self.labels.names[label] for label in ids]
        truth = {"boxes": known["boxes"][real], "label_ids": ids, "label_names": names, "dashed": known["crowd"][real]}
        return draw(image, prediction, truth=truth)

    def matched(self, source: Source, mapping: Mapping[str, str] | None = None) -> "Detection":
        matched = self.labels.match(source.labels, mapping)
        theirs = source.labels.source_ids or range(len(source.labels))
        of_class = dict(reversed([*zip(matched.tolist(), theirs)]))  # of several of the data's the first
        ids = np.append(matched, -1)  # -1, padding, stays -1
        splits = {name: _relabelled(split, ids) for name, split in source.splits.items()}
        task = Detection(replace(source, labels=self.labels, splits=splits), self.settings)
        task._categories = [of_class.get(label, -1) for label in range(len(self.labels))]
        return task

    def _opened(self, split: str) -> Pictures:
        if split not in self._pictures:
            self._pictures[split] = Pictures(self.source.splits[split], self.settings.cache, self.settings.cache_folder)
        return self._pictures[split]

    def _prepare(self, example: dict, key) -> dict:
        """Evaluation: the predictor's own preparation."""
        return {**example, **prepare(example["image"], self.settings.image_size)}

    def _augment(self, split: Split, pictures: Pictures) -> Callable:
        most = self._most(split)
        full, plain = self._operations(split, pictures, most), self._colours(placing.get_letterbox(self._size, most))
        close_after = self.settings.close_after

        def augment(example: dict, key) -> dict:
            if close_after is None:
                return in_turn(full, example, key)
            changed = ("image", "boxes", "labels")

            def by(operations) -> dict:
                made = in_turn(operations, example, key)
                return {name: made[name] for name in changed}

            closed = example["epoch"] >= close_after
            return {**example, **tf.cond(closed, lambda: by(plain), lambda: by(full))}

        return augment

    def _operations(self, split: Split, pictures: Pictures, most: int) -> list[Callable]:
        chosen = self.settings.augmentation
        placed = placing.get_placement(self._size, most, scale=chosen.scale, crop=chosen.crop, expand=chosen.expand)
        if chosen.mosaic:
            placed = mosaic.get_mosaic(
                self._size,
                most,
                fetch=_fetcher(split, pictures),
                count=len(split),
                probability=chosen.mosaic,
                scale=chosen.scale if chosen.scale != (1.0, 1.0) else (0.5, 1.5),
                otherwise=placed,
            )
        return self._colours(placed)

    def _colours(self, placed: Callable) -> list[Callable]:
        """What follows the geometry, in all epochs."""
        chosen = self.settings.augmentation
        flip = [get_flip(alternate=chosen.flip == "alternate")] if chosen.flip != "none" else []
        jitter = [photometric.get_color_jitter(chosen.color_jitter)] if chosen.color_jitter else []
        return [placed, *flip, *jitter]

    def _mix(self, probability: float) -> Callable:
        mix = mixing.get_box_mixup(MIXUP_ALPHA, probability)
        never = mixing.get_box_mixup(MIXUP_ALPHA, 0.0)
        close_after = self.settings.close_after
        if close_after is None:
            return mix
        return lambda group, keys: tf.cond(
            group["epoch"][0] >= close_after, lambda: never(group, keys), lambda: mix(group, keys)
        )

    def _finish(self, split: Split) -> Callable:
        rarity = tf.constant(self._rarity(split)) if self.settings.balance == "weights" else None

        def finish(batch: dict) -> tuple:
            names = ("boxes", "labels", "index", "key")
            weight = batch["weight"] if rarity is None else batch["weight"] * tf.gather(rarity, batch["index"])
            return batch["image"], {**{name: batch[name] for name in names}, "weight": weight}

        return finish

    def _most(self, split: Split) -> int:
        """Boxes that a training picture has room for."""
        most = split.annotations["boxes"].shape[1]
        return most if not self.settings.augmentation.mosaic else max(most, min(4 * most, MOST_BOXES))

    def _rarity(self, split: Split) -> np.ndarray:
        """`(pictures,)`, at least 1: that of its rarest class, the root of the most frequent's share over its own.

        Gupta et al. 2019, arXiv 1908.03195, section 5.4, with the most frequent class in place of a constant.
        """
        labels = split.annotations["labels"]
        shown = np.stack([(labels == label).any(axis=1) for label in range(len(self.labels))], axis=1)
        counts = shown.sum(axis=0)
        factors = np.sqrt(counts.max(initial=1) / np.maximum(counts, 1))
        return np.maximum(np.where(shown, factors, 1.0).max(axis=1), 1.0).astype(np.float32)

    @property
    def _size(self) -> tuple[int, int]:
        return self.settings.image_size


def _learnt(split: Split) -> dict[str, np.ndarray]:
    """`boxes` float32 and `labels` of the split without its crowds, padded to the most boxes of a picture."""
    labels = np.where(split.annotations["crowd"], -1, split.annotations["labels"])
    boxes = np.where(labels[..., None] >= 0, split.annotations["boxes"], 0.0).astype(np.float32)
    order = np.argsort(labels < 0, axis=1, kind="stable")
    most = max(1, int((labels >= 0).sum(axis=1).max(initial=0)))
    return {
        "boxes": np.take_along_axis(boxes, order[..., None], axis=1)[:, :most],
        "labels": np.take_along_axis(labels, order, axis=1)[:, :most],
    }


def _relabelled(split: Split, ids: np.ndarray) -> Split:
    """The split with other labels, -1 for those to ignore, and the real rows of each picture first."""
    found = split.annotations
    labels = ids[found["labels"]].astype(np.int32)
    order = np.argsort(labels < 0, axis=1, kind="stable")
    rows = {name: values for name, values in found.items() if values.ndim > 1}
    moved = {
        name: np.take_along_axis(values, order.reshape(*order.shape, *[1] * (values.ndim - 2)), axis=1)
        for name, values in {**rows, "labels": labels}.items()
    }
    return replace(split, annotations={**found, **moved})


def _repeated(rarity: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(rarity)), np.round(rarity).astype(int)).astype(np.int64)


def _fetcher(split: Split, pictures: Pictures) -> Callable:
    """What gives a mosaic its partners."""
    boxes, labels = (tf.constant(split.annotations[name]) for name in ("boxes", "labels"))

    def read(index):
        if not pictures.may_fail:
            return pictures.read(index)
        place = tf.data.Dataset.from_tensors(index)  # a broken partner costs the mosaic a quarter, and not all of it
        return map_or_blank(place, pictures.read, pictures.blank).get_single_element()

    def fetch(index) -> dict:
        image, readable = read(index)
        rows = {"boxes": tf.gather(boxes, index), "labels": tf.gather(labels, index)}
        return {"image": image, "weight": tf.cast(readable, tf.float32), **rows}

    return fetch


def _finish_prepared(batch: dict) -> tuple:
    prepared = {name: batch[name] for name in ("image", "scale", "size")}
    return prepared, {name: batch[name] for name in ("index", "weight")}
