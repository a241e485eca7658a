"""From a recipe's sections to a task and its settings; and who reads a task's data."""

import importlib
from collections.abc import Callable
from pathlib import Path

from resnet_tasks.data.examples import Source
from resnet_tasks.errors import UsageError
from resnet_tasks.recipes import segment
from resnet_tasks.recipes.classify import ClassifyRecipe
from resnet_tasks.recipes.detect import KEYS, DetectRecipe
from resnet_tasks.recipes.faces import FacesRecipe
from resnet_tasks.recipes.schema import Recipe
from resnet_tasks.recipes.segment import SegmentRecipe
from resnet_tasks.task import Task
from resnet_tasks.weights.transfer import Transfer


def reader(task: str) -> Callable[..., Source]:
    """The function that reads a task's data; all take the same arguments."""
    if task == "detect":
        from resnet_tasks.data.readers.detection import read_detection

        return read_detection
    if task == "segment":
        from resnet_tasks.data.readers.segmentation import read_segmentation

        return read_segmentation
    if task == "faces":
        from resnet_tasks.data.readers.faces import read_faces

        return read_faces
    from resnet_tasks.data.readers import read_classification

    return read_classification


def task_of(recipe: Recipe, source: Source, weights: Transfer | None = None) -> Task:
    """The recipe's task on a source; a new run's with the weights that it starts from."""
    if ":" in recipe.model.backbone and recipe.model.norm == "group":
        raise UsageError(
            f"model.norm: group is for names of the catalogue; {recipe.model.backbone} decides on its norms itself"
        )
    task = _built(recipe, source)
    task.transfer = weights
    return task


def _built(recipe: Recipe, source: Source) -> Task:
    if isinstance(recipe, DetectRecipe):
        return _detection(recipe, source)
    if isinstance(recipe, SegmentRecipe):
        return _segmentation(recipe, source)
    if isinstance(recipe, FacesRecipe):
        return _faces(recipe, source)
    return _classification(recipe, source)


def _classification(recipe: ClassifyRecipe, source: Source) -> Task:
    from resnet_tasks.classification.task import Augmentation, Classification, ClassificationSettings

    model, augment = recipe.model, recipe.augment
    crop, rand = augment.random_resized_crop, augment.rand_augment
    augmentation = Augmentation(
        flip=augment.flip,
        pad_crop=augment.pad_crop,
        pad_mode=augment.pad_mode,
        random_resized_crop=(crop.scale, crop.ratio) if crop else None,
        rand_augment=(rand.layers, rand.magnitude) if rand else None,
        color_jitter=augment.color_jitter,
        random_erasing=augment.random_erasing,
        mixup=augment.mixup,
        cutmix=augment.cutmix,
    )
    settings = ClassificationSettings(
        **_shared(recipe),
        crop_fraction=model.crop_fraction,
        dropout=model.dropout,
        label_smoothing=recipe.train.label_smoothing,
        augmentation=augmentation,
    )
    return Classification(source, settings)


def _detection(recipe: DetectRecipe, source: Source) -> Task:
    from resnet_tasks.detection.task import Augmentation, Detection, DetectionSettings

    model, augment = recipe.model, recipe.augment
    chosen = {key: getattr(model, key) for key in (*KEYS[model.detector], "floor", "overlap")}
    head = {key: value for key, value in chosen.items() if value is not None}
    if "head_norm" in head:
        norm = head.pop("head_norm")
        head["norm"] = None if norm == "none" else norm
    augmentation = Augmentation(
        flip=augment.flip,
        scale=augment.scale,
        crop=augment.crop,
        expand=augment.expand,
        color_jitter=augment.color_jitter,
        mosaic=augment.mosaic,
        mixup=augment.mixup,
    )
    settings = DetectionSettings(**_shared(recipe), detector=model.detector, head=head, augmentation=augmentation)
    return Detection(source, settings)


def _segmentation(recipe: SegmentRecipe, source: Source) -> Task:
    from resnet_tasks.segmentation.task import Augmentation, Segmentation, SegmentationSettings

    model, augment = recipe.model, recipe.augment
    head = {key: getattr(model, key) for key in segment.KEYS[model.segmenter] if getattr(model, key) is not None}
    if "head_norm" in head:
        head["norm"] = head.pop("head_norm")
    if model.norm == "group":
        head.setdefault("norm", "group")
    if model.class_weights is not None:
        if recipe.data.balance == "weights":
            raise UsageError(
                "model.class_weights and data.balance=weights both weigh the classes; leave one of them out"
            )
        if len(model.class_weights) != len(source.labels):
            raise UsageError(
                f"model.class_weights: {len(model.class_weights)} numbers for {len(source.labels)} classes; give one "
                f"for each of {', '.join(source.labels.names)}"
            )
        head["class_weights"] = list(model.class_weights)
    head["losses"] = {name: weight for name, weight in model.losses.model_dump().items() if weight}
    size = augment.crop_size
    augmentation = Augmentation(
        flip=augment.flip,
        scale=augment.scale,
        crop_size=(size, size) if isinstance(size, int) else size,
        rotate=augment.rotate,
        color_jitter=augment.color_jitter,
        cutmix=augment.cutmix,
    )
    settings = SegmentationSettings(
        **_shared(recipe),
        segmenter=model.segmenter,
        head=head,
        output_stride=model.output_stride or (16 if model.segmenter == "deeplab_v3_plus" else 32),
        augmentation=augmentation,
    )
    return Segmentation(source, settings)


def _faces(recipe: FacesRecipe, source: Source) -> Task:
    from resnet_tasks.faces.task import Augmentation, Faces, FacesSettings

    augment = recipe.augment
    crop, rand = augment.random_resized_crop, augment.rand_augment
    names = ("embedding", "margin", "margins", "scale", "centres", "warm_up", "sample_rate", "dropout", "flip", "far")
    augmentation = Augmentation(
        flip=augment.flip,
        pad_crop=augment.pad_crop,
        pad_mode=augment.pad_mode,
        random_resized_crop=(crop.scale, crop.ratio) if crop else None,
        rand_augment=(rand.layers, rand.magnitude) if rand else None,
        color_jitter=augment.color_jitter,
        random_erasing=augment.random_erasing,
    )
    head = {name: getattr(recipe.model, name) for name in names}
    if recipe.model.norm == "group":
        head["norm"] = "group"  # one of the batch would be the only one left
    return Faces(source, FacesSettings(**_shared(recipe), head=head, augmentation=augmentation))


def _shared(recipe: Recipe) -> dict:
    """The settings that every task has."""
    model, train, data = recipe.model, recipe.train, recipe.data
    size, close = model.image_size, recipe.augment.close_epochs
    return {
        "backbone": _backbone(model.backbone),
        "norm": "group" if model.norm == "group" else "batch",
        "standardise": model.standardise,
        "image_size": (size, size) if isinstance(size, int) else size,
        "batch_size": train.batch_size,
        "evaluation_batch_size": recipe.evaluate.batch_size or train.batch_size,
        "close_after": max(0, train.epochs - close) if close else None,
        "balance": data.balance,
        "cache": data.cache,
        "service": data.service,
        "cache_folder": Path(data.data_dir) / "cache" if data.data_dir and data.cache == "disk" else None,
        "seed": train.seed,
    }


def _backbone(name: str) -> str | Callable:
    """A name of the catalogue, or the function behind `package.module:function`."""
    module, colon, function = name.partition(":")
    if not colon:
        return name
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"model.backbone: {name!r} cannot be imported: {error}") from error

    def checked(**arguments):
        from resnet_tasks.model import Pyramid

        made = build(**arguments)
        if not isinstance(made, Pyramid):
            raise UsageError(
                f"model.backbone: {name} must return a resnet_tasks.model.Pyramid, and returned {type(made).__name__}"
            )
        return made

    return checked
