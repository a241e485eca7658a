"""Classification for the engine: batches, the network, its measures and its files."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks import backbones
from resnet_tasks.backbones.specs import Norm
from resnet_tasks.classification.metrics import measure
from resnet_tasks.classification.model import Classifier
from resnet_tasks.classification.predictor import ClassificationPredictor, draw
from resnet_tasks.data import geometric, mixing, photometric
from resnet_tasks.data.batching import Batches
from resnet_tasks.data.examples import Source
from resnet_tasks.data.pictures import Pictures
from resnet_tasks.task import Monitor, Task
from resnet_tasks.weights.transfer import Constants, start


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is random about a training picture; the recipe's section `augment` says what each means."""

    flip: Literal["none", "random", "alternate"] = "none"
    pad_crop: int = 0
    pad_mode: Literal["zeros", "reflect"] = "zeros"
    random_resized_crop: tuple[tuple[float, float], tuple[float, float]] | None = None  # scale, ratio
    rand_augment: tuple[int, float] | None = None  # layers, magnitude
    color_jitter: float = 0.0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings:
    """What the task needs to know beside its data.

    Attributes:
        backbone: A name of the catalogue, or a function that builds a `Pyramid` from `input_shape`.
        norm: "batch" or "group".
        standardise: Mean and deviation of RGB 0..255 that the backbone normalises by; `None` for its own.
        image_size: `(height, width)`.
        crop_fraction: See `Classifier`.
        dropout: See `Classifier`.
        label_smoothing: See `Classifier`.
        batch_size: Of training, over all replicas.
        evaluation_batch_size: Of evaluation, over all replicas.
        augmentation: In training.
        close_after: The epoch from which crops, mixing, RandAugment and erasing end; `None` for never.
        balance: "none", "weights" (rare classes weigh more) or "repeat" (they come more often).
        cache: "off", "ram" or "disk".
        cache_folder: Where "disk" keeps its files.
        service: Address of a tf.data service that makes the training batches; `None` for this process.
        seed: Of order and augmentation.
    """

    backbone: str | Callable = "resnet_50"
    norm: Norm = "batch"
    standardise: Constants | None = None
    image_size: tuple[int, int] = (224, 224)
    crop_fraction: float = 1.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    batch_size: int = 32
    evaluation_batch_size: int = 32
    augmentation: Augmentation = field(default_factory=Augmentation)
    close_after: int | None = None
    balance: Literal["none", "weights", "repeat"] = "none"
    cache: Literal["off", "ram", "disk"] = "off"
    cache_folder: Path | None = None
    service: str | None = None
    seed: int = 0


class Classification(Task):
    """One label a picture.

    Args:
        source: What a reader found; its labels are the model's.
        settings: The task's settings.
    """

    name = "classify"
    monitor = Monitor("top1", "max")
    details = ("confusion", "mistakes", "reliability")

    def __init__(self, source: Source, settings: ClassificationSettings):
        self.source, self.settings = source, settings
        self.labels = source.labels
        self._pictures: dict[str, Pictures] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.source.splits)

    def build(self) -> Classifier:
        settings = self.settings
        shape = (*settings.image_size, 3)
        if callable(settings.backbone):
            backbone = settings.backbone(input_shape=shape)
        else:
            backbone = backbones.create(settings.backbone, input_shape=shape, norm=settings.norm)
        self.transfer_report = start(backbone, self.transfer, settings.standardise)
        model = Classifier(
            backbone=backbone,
            class_names=self.labels.names,
            source_ids=self.labels.source_ids,
            image_size=settings.image_size,
            crop_fraction=settings.crop_fraction,
            dropout=settings.dropout,
            label_smoothing=settings.label_smoothing,
        )
        if self.transfer and self.transfer_report:
            kept = model.carry_over(self.transfer.head_rows(self.labels.names))
            if kept:
                head = f"the head's rows of {len(kept)} of {len(self.labels)} classes loaded: {', '.join(kept[:10])}"
                self.transfer_report = replace(self.transfer_report, head=head)
        return model

    def batches(self, split: str, training: bool) -> Batches:
        settings, pictures = self.settings, self._opened(split)
        if not training:
            size = min(settings.evaluation_batch_size, max(1, len(pictures.split)))
            return Batches(pictures.split, pictures, size, self._prepare, _finish_prepared, training=False)
        mixes = settings.augmentation.mixup or settings.augmentation.cutmix
        return Batches(
            pictures.split,
            pictures,
            settings.batch_size,
            self._augment(mixed=bool(mixes)),
            self._finish,
            training=True,
            mix=self._mix() if mixes else None,
            seed=settings.seed,
            places=self._repeated(pictures.split) if settings.balance == "repeat" else None,
            service=settings.service,
        )

    def predictor(self, model: Classifier) -> ClassificationPredictor:
        return ClassificationPredictor(model)

    def measure(self, pairs: Iterable[tuple[dict, dict]], split: str) -> dict:
        return measure(pairs, self.labels.names)

    def findings(self, measured: dict, folder: Path) -> None:
        """per_class.csv, confusion.csv, reliability.json and mistakes.csv.

        The columns of the mistakes are file, truth, answer and score; the most confident come first.
        """
        (folder / "reliability.json").write_text(json.dumps(measured["reliability"]))
        names, ids = self.labels.names, self.source.splits[measured["split"]].ids
        columns = ("class", "precision", "recall", "f1", "images")
        _write_csv(
            folder / "per_class.csv", columns, ([name, *row.values()] for name, row in measured["per_class"].items())
        )
        _write_csv(
            folder / "confusion.csv",
            ("truth", *names),
            ([name, *row] for name, row in zip(names, measured["confusion"])),
        )
        mistakes = (
            [ids[m["index"]], names[m["truth"]], names[m["answer"]], f"{m['score']:.6f}"] for m in measured["mistakes"]
        )
        _write_csv(folder / "mistakes.csv", ("file", "truth", "answer", "score"), mistakes)

    def draw(self, image: np.ndarray, prediction: dict) -> Image.Image:
        return draw(image, prediction)

    @cached_property
    def class_weights(self) -> np.ndarray:
        """`(classes,)`: the mean count over the class's own, so that all classes weigh alike; 0 for absent ones."""
        counts = np.bincount(self.source.splits["train"].annotations["label"], minlength=len(self.labels))
        present = counts > 0
        return np.where(present, counts.sum() / present.sum() / np.maximum(counts, 1), 0.0).astype(np.float32)

    def _opened(self, split: str) -> Pictures:
        if split not in self._pictures:
            self._pictures[split] = Pictures(self.source.splits[split], self.settings.cache, self.settings.cache_folder)
        return self._pictures[split]

    def _prepare(self, example: dict, key) -> dict:
        """Evaluation: the predictor's own preparation."""
        size, fraction = self.settings.image_size, self.settings.crop_fraction
        return {**example, "image": geometric.resize_center_crop(example["image"], size, fraction)}

    def _augment(self, mixed: bool) -> Callable:
        full, plain = self._operations(closed=False), self._operations(closed=True)
        close_after, classes = self.settings.close_after, len(self.labels)

        def augment(example: dict, key) -> dict:
            if close_after is None:
                example = geometric.in_turn(full, example, key)
            else:
                image = tf.cond(
                    example["epoch"] >= close_after,
                    lambda: geometric.in_turn(plain, example, key)["image"],
                    lambda: geometric.in_turn(full, example, key)["image"],
                )
                example = {**example, "image": image}
            if mixed:
                example = {**example, "label": tf.one_hot(example["label"], classes)}
            return example

        return augment

    def _operations(self, closed: bool) -> list[Callable]:
        """The operations of a training picture in turn; `closed`: as in the last epochs."""
        size, chosen = self.settings.image_size, self.settings.augmentation
        operations = [geometric.get_resize_center_crop(size, self.settings.crop_fraction)]
        if chosen.random_resized_crop and not closed:
            operations = [geometric.get_random_resized_crop(size, *chosen.random_resized_crop)]
        elif chosen.pad_crop and not closed:
            operations += [geometric.get_pad_crop(size, chosen.pad_crop, chosen.pad_mode)]
        if chosen.flip != "none":
            operations += [geometric.get_flip(alternate=chosen.flip == "alternate")]
        if chosen.rand_augment and not closed:
            operations += [photometric.get_rand_augment(*chosen.rand_augment)]
        if chosen.color_jitter:
            strength = chosen.color_jitter
            operations += [photometric.get_color_jitter(strength)]
        if chosen.random_erasing and not closed:
            operations += [photometric.get_random_erasing(chosen.random_erasing)]
        return operations

    def _mix(self) -> Callable:
        mix = mixing.get_mix(self.settings.augmentation.mixup, self.settings.augmentation.cutmix)
        close_after = self.settings.close_after

        def mix_until(group: dict, keys) -> dict:
            if close_after is None:
                return mix(group, keys)
            mixed = mix(group, keys)
            closed = group["epoch"][0] >= close_after
            return {**mixed, **{name: tf.where(closed, group[name], mixed[name]) for name in ("image", "label")}}

        return mix_until

    def _finish(self, batch: dict) -> tuple:
        weight = batch["weight"]
        if self.settings.balance == "weights":
            weights = tf.constant(self.class_weights)
            label = batch["label"]
            weight *= tf.linalg.matvec(label, weights) if label.shape.rank == 2 else tf.gather(weights, label)
        names = ("label", "index", "key")
        return batch["image"], {**{name: batch[name] for name in names}, "weight": weight}

    def _repeated(self, split) -> np.ndarray:
        """Indices in which every class comes about as often as the largest one, in whole repeats of each picture."""
        labels = split.annotations["label"]
        counts = np.bincount(labels, minlength=len(self.labels))
        return np.repeat(np.arange(len(labels)), np.round(counts.max() / counts[labels]).astype(int)).astype(np.int64)

    def matched(self, source: Source, mapping: Mapping[str, str] | None = None) -> "Classification":
        ids = self.labels.match(source.labels, mapping)
        splits = {}
        for name, split in source.splits.items():
            label = ids[split.annotations["label"]]
            kept = replace(split, annotations={**split.annotations, "label": label}).subset(np.flatnonzero(label >= 0))
            splits[name] = kept
        return Classification(replace(source, labels=self.labels, splits=splits), self.settings)


def _finish_prepared(batch: dict) -> tuple:
    return {"image": batch["image"]}, {name: batch[name] for name in ("label", "index", "weight")}


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
