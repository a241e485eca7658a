"""Faces for the engine: batches, the network, its measures and its files."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks import backbones
from resnet_tasks.backbones.specs import Norm
from resnet_tasks.data import geometric, photometric
from resnet_tasks.data.batching import Batches
from resnet_tasks.data.decode import decode_array
from resnet_tasks.data.examples import Source, Split
from resnet_tasks.data.face_alignment import get_alignment
from resnet_tasks.data.pictures import Pictures
from resnet_tasks.data.readers import splits
from resnet_tasks.data.readers.boxes import some
from resnet_tasks.data.readers.face_pairs import make_pairs
from resnet_tasks.errors import UsageError
from resnet_tasks.faces import FaceEmbedder, findings, metrics
from resnet_tasks.faces.predictor import FacePredictor, aligned_png, beside
from resnet_tasks.task import Monitor, Task
from resnet_tasks.weights.transfer import Constants, start

logger = logging.getLogger("resnet_tasks")

GALLERY = "gallery"  # the annotation of pictures that others are looked for among


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


@dataclass(frozen=True, kw_only=True)
class FacesSettings:
    """What the task needs to know beside its data.

    Attributes:
        head: Arguments of `FaceEmbedder` beside backbone, classes and size.
        backbone: A name of the catalogue, or a function that builds a `Pyramid` from `input_shape`.
        norm: "batch" or "group".
        standardise: Mean and deviation of RGB 0..255 that the backbone normalises by; `None` for its own.
        image_size: `(height, width)` of an aligned face.
        batch_size: Of training, over all replicas.
        evaluation_batch_size: Of evaluation, over all replicas.
        augmentation: In training.
        close_after: The epoch from which only flips and colours are random; `None` for never.
        balance: "none", "weights" (identities with few pictures weigh more) or "repeat" (they come more often).
        cache: "off", "ram" or "disk".
        cache_folder: Where "disk" keeps its files.
        service: Address of a tf.data service that makes the training batches; `None` for this process.
        seed: Of order and augmentation.
    """

    head: Mapping = field(default_factory=dict)
    backbone: str | Callable = "iresnet_50"
    norm: Norm = "batch"
    standardise: Constants | None = None
    image_size: tuple[int, int] = (112, 112)
    batch_size: int = 64
    evaluation_batch_size: int = 64
    augmentation: Augmentation = field(default_factory=Augmentation)
    close_after: int | None = None
    balance: Literal["none", "weights", "repeat"] = "none"
    cache: Literal["off", "ram", "disk"] = "off"
    cache_folder: Path | None = None
    service: str | None = None
    seed: int = 0


class Faces(Task):
    """An embedding a picture, near to those of the same identity.

    Args:
        source: What a reader found; its labels are the identities that are trained on.
        settings: The task's settings.
    """

    name = "faces"
    monitor = Monitor("auc", "max")
    details = metrics.DETAILS
    settles = True
    settles_on_train = True
    answers_labels = False

    def __init__(self, source: Source, settings: FacesSettings):
        # Its reader has said so where a split is of no use.
        used = {name: split for name, split in source.splits.items() if name == "train" or _tells(split)}
        self.source, self.settings = replace(source, splits=used), settings
        self.labels = source.labels
        self._pictures: dict[str, Pictures] = {}
        self._splits = {name: self._measured(name) if name != "train" else split for name, split in self._own.items()}

    @property
    def _own(self) -> dict[str, Split]:
        return self.source.splits

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.source.splits)

    def build(self) -> FaceEmbedder:
        settings = self.settings
        shape = (*settings.image_size, 3)
        if callable(settings.backbone):
            backbone = settings.backbone(input_shape=shape)
        else:
            backbone = backbones.create(settings.backbone, input_shape=shape, norm=settings.norm)
        self.transfer_report = start(backbone, self.transfer, settings.standardise)
        try:
            return FaceEmbedder(
                backbone=backbone,
                class_names=self.labels.names,
                image_size=settings.image_size,
                alignment=self._alignment(),
                **settings.head,
            )
        except ValueError as error:
            raise UsageError(f"model: {error}") from error

    def batches(self, split: str, training: bool) -> Batches:
        settings, pictures = self.settings, self._opened(split)
        known = {name: values for name, values in pictures.split.annotations.items() if name in ("label", "landmarks")}
        plain = replace(pictures.split, annotations=known, pairs=None, is_protocol=False)
        if not training:
            size = min(settings.evaluation_batch_size, max(1, len(plain)))
            return Batches(plain, pictures, size, self._prepare(plain), _finish_prepared, training=False)
        return Batches(
            plain,
            pictures,
            settings.batch_size,
            self._augment(plain),
            self._finish(plain),
            training=True,
            seed=settings.seed,
            places=_repeated(plain.annotations["label"]) if settings.balance == "repeat" else None,
            service=settings.service,
        )

    def predictor(self, model: FaceEmbedder) -> FacePredictor:
        return FacePredictor(model)

    def measure(self, pairs: Iterable[tuple[dict, dict]], split: str) -> dict:
        measured, known = self._splits[split], None
        if GALLERY in measured.annotations:
            pairs, known = _divided(pairs, measured)
            measured = self._own[split]
        far, given = self.settings.head.get("far", 1e-3), measured.is_protocol
        return metrics.measure(pairs, measured, self.labels, far, known, given=given)

    def settle(self, model: FaceEmbedder, measured: dict) -> None:
        """The similarity at the false accept rate that was asked for becomes the model's threshold.

        Where the pairs are too few for that rate it is the one of the best accuracy, which is logged as a warning.
        """
        chosen, far = measured["far_threshold"], measured["far"]
        on = "the training identities" if measured["split"] == "train" else measured["split"]
        model.threshold = measured["threshold"] if chosen is None else chosen
        model.threshold_from = f"far {far:g} on {on}"
        if chosen is None:
            few = f"{measured['roc']['different']:,} different pairs are too few for far {far:g}"
            model.threshold_from = f"best accuracy on {on}: {few}"
            logger.warning("threshold %.3f: %s; choose your own by --threshold", model.threshold, model.threshold_from)

    def findings(self, measured: dict, folder: Path) -> None:
        findings.write(measured, folder, self._own[measured["split"]], self.labels)

    def draw(self, image: np.ndarray, prediction: dict) -> Image.Image:
        return Image.fromarray(image)

    def beside_truth(self, image: np.ndarray, prediction: dict, split: str, row: Mapping) -> Image.Image:
        """The pair that was mistaken."""
        return beside(image, decode_array(self._own[split].read(row["partner"])))

    def matched(self, source: Source, mapping: Mapping[str, str] | None = None) -> "Faces":
        """The other data as they are: identities need not be known to be told apart, and are numbered behind these.

        Those of val and test that bear a name that is trained on are logged as a warning, but of a closed set.
        """
        if source.labels != self.labels:
            for sentence in _known(source, set(self.labels.names)):
                logger.warning("%s", sentence)
            moved = {name: _numbered_from(split, len(self.labels)) for name, split in source.splits.items()}
            source = replace(source, labels=self.labels, splits=moved)
        return Faces(source, self.settings)

    def as_served(self, split: Split, index: int) -> bytes:
        """The file, or where it has landmarks the aligned picture, which an artefact is asked about, as a PNG."""
        points = split.annotations.get("landmarks")
        if points is None or not np.isfinite(points[index]).all():
            return split.read(index)
        return aligned_png(split.read(index), points[index], self.settings.image_size)

    def _alignment(self) -> str:
        """How the pictures that are trained on were aligned; of a checkpoint, that comes without them, it is "none"."""
        train = self._own.get("train")
        return "landmarks" if train is not None and "landmarks" in train.annotations else "none"

    def _measured(self, name: str) -> Split:
        """The split with the pictures of train behind it, where its identities are those of train: a gallery."""
        split, train = self._own[name], self._own.get("train")
        if train is None or not np.isin(split.annotations["label"], train.annotations["label"]).all():
            return split
        parts = [replace(part, name=name, pairs=None, is_protocol=False) for part in (split, train)]
        both = splits.join(name, parts)
        is_known = np.arange(len(both)) >= len(split)
        return replace(both, annotations={**both.annotations, GALLERY: is_known})

    def _opened(self, split: str) -> Pictures:
        if split not in self._pictures:
            self._pictures[split] = Pictures(self._splits[split], self.settings.cache, self.settings.cache_folder)
        return self._pictures[split]

    def _aligned(self, split: Split) -> Callable:
        """From a picture to its canvas: by its landmarks where it has some, else as it is."""
        size = self.settings.image_size
        return get_alignment(size) if "landmarks" in split.annotations else geometric.get_resize_center_crop(size)

    def _prepare(self, split: Split) -> Callable:
        """Evaluation: the predictor's own preparation, behind the alignment that it knows nothing of."""
        return self._aligned(split)

    def _augment(self, split: Split) -> Callable:
        full, plain = self._operations(split, closed=False), self._operations(split, closed=True)
        close_after = self.settings.close_after

        def augment(example: dict, key) -> dict:
            if close_after is None:
                return geometric.in_turn(full, example, key)
            image = tf.cond(
                example["epoch"] >= close_after,
                lambda: geometric.in_turn(plain, example, key)["image"],
                lambda: geometric.in_turn(full, example, key)["image"],
            )
            return {**example, "image": image}

        return augment

    def _operations(self, split: Split, closed: bool) -> list[Callable]:
        """The operations of a training picture in turn; `closed`: as in the last epochs."""
        size, chosen = self.settings.image_size, self.settings.augmentation
        operations: list[Callable] = [self._aligned(split), _without_landmarks]
        if chosen.random_resized_crop and not closed:
            operations += [geometric.get_random_resized_crop(size, *chosen.random_resized_crop)]
        elif chosen.pad_crop and not closed:
            operations += [geometric.get_pad_crop(size, chosen.pad_crop, chosen.pad_mode)]
        if chosen.flip != "none":
            operations += [geometric.get_flip(alternate=chosen.flip == "alternate")]
        if chosen.rand_augment and not closed:
            operations += [photometric.get_rand_augment(*chosen.rand_augment)]
        if chosen.color_jitter:
            operations += [photometric.get_color_jitter(chosen.color_jitter)]
        if chosen.random_erasing and not closed:
            operations += [photometric.get_random_erasing(chosen.random_erasing)]
        return operations

    def _finish(self, split: Split) -> Callable:
        weights = tf.constant(_rarity(split.annotations["label"])) if self.settings.balance == "weights" else None

        def finish(batch: dict) -> tuple:
            weight = batch["weight"] if weights is None else batch["weight"] * tf.gather(weights, batch["label"])
            names = ("label", "index", "key", "epoch", "step")
            return batch["image"], {**{name: batch[name] for name in names}, "weight": weight}

        return finish


def _divided(pairs: Iterable[tuple[dict, dict]], split: Split) -> tuple[Iterator[tuple[dict, dict]], tuple]:
    """The answers for the pictures to be found; and the gallery's embeddings and identities."""
    count = int((~split.annotations[GALLERY]).sum())
    answers, targets = zip(*pairs)
    embedding = np.concatenate([answer["embedding"] for answer in answers])
    index, weight = (np.concatenate([target[name] for target in targets]) for name in ("index", "weight"))
    asked, given = (index >= 0) & (index < count), (index >= count) & (weight > 0)
    probes = ({"embedding": embedding[asked]}, {"index": index[asked], "weight": weight[asked]})
    return iter([probes]), (embedding[given], split.annotations["label"][index[given]])


def _known(source: Source, trained: set[str]) -> Iterator[str]:
    """Yields what is to be said of splits that are measured on people who are trained on."""
    own = source.splits["train"].annotations["label"] if "train" in source.splits else ()
    for name, split in source.splits.items():
        shown = source.identities.get(name, frozenset())
        is_closed = np.isin(split.annotations["label"], own).all()
        if name != "train" and not is_closed and (found := sorted(shown & trained, key=splits.natural)):
            yield (
                f"{len(found)} of the {len(shown)} identities of {name} bear names that the model was trained on"
                f"{some(found)}; if they are the same people, what is measured there is no test on strangers"
            )


def _tells(split: Split) -> bool:
    """Whether there are pairs of the same and of different identities."""
    return split.pairs is not None or len(make_pairs(split.annotations["label"], 0)) > 0


def _numbered_from(split: Split, first: int) -> Split:
    return replace(split, annotations={**split.annotations, "label": split.annotations["label"] + first})


def _rarity(labels: np.ndarray) -> np.ndarray:
    """`(identities,)`: the mean count over each one's own."""
    counts = np.bincount(labels)
    return (counts.mean() / np.maximum(counts, 1)).astype(np.float32)


def _repeated(labels: np.ndarray) -> np.ndarray:
    counts = np.bincount(labels)
    return np.repeat(np.arange(len(labels)), np.round(counts.max() / counts[labels]).astype(int)).astype(np.int64)


def _without_landmarks(example: dict, key) -> dict:
    """Once a face is aligned they are the template's."""
    return {name: value for name, value in example.items() if name != "landmarks"}


def _finish_prepared(batch: dict) -> tuple:
    return {"image": batch["image"]}, {name: batch[name] for name in ("index", "weight")}
