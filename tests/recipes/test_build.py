"""What a recipe becomes: the data, the task and the engine's settings, and what "auto" decides."""

import dataclasses
import sys
import types
from pathlib import Path

import pytest
from tiny_backbone import backbone

from resnet_tasks.errors import UsageError
from resnet_tasks.recipes import build
from resnet_tasks.recipes.load import load_recipe
from resnet_tasks.recipes.tasks import task_of

DIGITS = "quickstart/classify_digits"


def recipe(**changes):
    return load_recipe(DIGITS, "classify", {key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="module")
def source():
    return build.read(recipe())


class Weights:
    """Weights that fill a backbone, or not."""

    def __init__(self, whole: bool):
        self.is_whole = lambda backbone: whole


def decided(accelerator=False, replicas=1, weights=None, **changes) -> dict:
    """The values of `train` that "auto" became."""
    autos = {"train__precision": "auto", "train__xla": "auto", "train__lr": "auto", "train__bn": "auto"}
    resolved, reasons = build.resolve(recipe(**{**autos, **changes}), accelerator, replicas, weights)
    values = {name: getattr(resolved.train, name) for name in ("precision", "xla", "lr", "bn")}
    assert sorted(reason.split(": auto is ")[0] for reason in reasons) == sorted(
        f"train.{name}" for name in values if {**autos, **changes}[f"train__{name}"] == "auto"
    )
    for reason in reasons:
        name = reason.split(":")[0].removeprefix("train.")
        assert reason.startswith(f"train.{name}: auto is {values[name]}: ")
        assert len(reason.split(": ")[2]) > 8  # and why
    return values


def test_auto_on_a_cpu():
    expected = {"precision": "float32", "xla": False, "lr": pytest.approx(0.1 * 64 / 256), "bn": "train"}
    assert decided() == expected


def test_auto_on_an_accelerator():
    assert decided(accelerator=True) == {
        "precision": "bfloat16",
        "xla": True,
        "lr": pytest.approx(0.025),
        "bn": "train",
    }


def test_xla_and_synchronised_norms_exclude_one_another():
    assert decided(accelerator=True, replicas=2, model__norm="sync_batch")["xla"] is False
    assert decided(accelerator=True, replicas=1, model__norm="sync_batch")["xla"] is True
    assert decided(accelerator=True, replicas=2)["xla"] is True


@pytest.mark.parametrize(
    ("optimizer", "batch", "lr"), [("sgd", 256, 0.1), ("sgd", 1024, 0.4), ("adamw", 512, 1e-3), ("lamb", 64, 5e-3)]
)
def test_the_learning_rate_of_an_optimizer(optimizer, batch, lr):
    assert decided(train__optimizer=optimizer, train__batch_size=batch)["lr"] == pytest.approx(lr)


@pytest.mark.parametrize(("weights", "batch", "replicas", "bn"), [
    (None, 8, 1, "train"), (True, 8, 1, "freeze"), (True, 16, 1, "train"), (True, 16, 2, "freeze"),
    (False, 8, 1, "train"),
])  # fmt: skip
def test_pretrained_norms_are_frozen_for_few_pictures_a_replica(weights, batch, replicas, bn):
    """Whole weights only: what is re-initialised would meet statistics of something else."""
    weights = None if weights is None else Weights(weights)
    assert decided(replicas=replicas, weights=weights, train__batch_size=batch)["bn"] == bn


def test_what_is_said_is_kept():
    said = {"train__precision": "bfloat16", "train__xla": True, "train__lr": 0.3, "train__bn": "freeze"}
    assert decided(**said) == {key.removeprefix("train__"): value for key, value in said.items()}


def test_every_key_of_the_network_and_its_augmentation_reaches_the_task(source):
    chosen = recipe(
        model__image_size=[16, 20], model__crop_fraction=0.8, model__dropout=0.25, model__norm="group",
        model__standardise=[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
        augment__flip="alternate", augment__pad_crop=3, augment__pad_mode="reflect",
        augment__random_resized_crop={"scale": [0.5, 0.9], "ratio": [0.8, 1.25]},
        augment__rand_augment={"layers": 3, "magnitude": 5}, augment__color_jitter=0.2, augment__random_erasing=0.3,
        augment__mixup=0.4, augment__cutmix=0.6, augment__close_epochs=4,
        train__epochs=10, train__label_smoothing=0.1, train__batch_size=32, train__seed=9,
        evaluate__batch_size=50, data__balance="repeat", data__cache="disk", data__data_dir="somewhere",
    )  # fmt: skip
    task = task_of(chosen, source)
    settings = dataclasses.asdict(task.settings)
    assert settings.pop("augmentation") == {
        "flip": "alternate", "pad_crop": 3, "pad_mode": "reflect", "random_resized_crop": ((0.5, 0.9), (0.8, 1.25)),
        "rand_augment": (3, 5.0), "color_jitter": 0.2, "random_erasing": 0.3, "mixup": 0.4, "cutmix": 0.6,
    }  # fmt: skip
    assert settings == {
        "backbone": "resnet_20_cifar", "norm": "group", "image_size": (16, 20), "crop_fraction": 0.8, "dropout": 0.25,
        "label_smoothing": 0.1, "batch_size": 32, "evaluation_batch_size": 50, "close_after": 6, "balance": "repeat",
        "cache": "disk", "cache_folder": Path("somewhere/cache"), "seed": 9, "service": None,
        "standardise": ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
    }  # fmt: skip
    assert task.source is source
    assert task_of(recipe(data__service="grpc://a:1", data__cache="off"), source).settings.service == "grpc://a:1"


def test_a_plain_recipe_augments_nothing_and_closes_never(source):
    settings = task_of(recipe(augment__pad_crop=0), source).settings
    plain = {field.name: field.default for field in dataclasses.fields(settings.augmentation)}
    assert dataclasses.asdict(settings.augmentation) == plain
    assert settings.close_after is None
    assert settings.image_size == (24, 24)
    assert settings.evaluation_batch_size == settings.batch_size == 64
    assert task_of(recipe(model__norm="sync_batch"), source).settings.norm == "batch"
    assert task_of(recipe(augment__close_epochs=99), source).settings.close_after == 0


def test_every_key_of_training_reaches_the_engine():
    chosen = recipe(
        train__epochs=7, train__batch_size=48, train__lr=0.2, train__optimizer="adamw", train__momentum=0.8,
        train__nesterov=True, train__weight_decay=0.01, train__schedule="steps", train__warmup_epochs=0.5,
        train__milestones=[2, 4], train__factor=0.3, train__final_lr_fraction=0.05, train__ema=0.99,
        train__clip_norm=2.0, train__accumulate=3, train__precision="bfloat16", train__xla=True, train__bn="freeze",
        train__seed=5, train__early_stopping=6, train__on_nan="rollback", train__checkpoint_minutes=3.5,
        train__log_every=11, train__steps_per_execution=4, train__freeze="C3", train__unfreeze_every=1.5,
        train__layer_decay=0.7, evaluate__every=2, model__norm="sync_batch",
    )  # fmt: skip
    expected = {
        "epochs": 7, "batch_size": 48, "lr": 0.2, "optimizer": "adamw", "momentum": 0.8, "nesterov": True,
        "weight_decay": 0.01, "schedule": "steps", "warmup_epochs": 0.5, "milestones": (2, 4), "factor": 0.3,
        "final_lr_fraction": 0.05, "ema": 0.99, "clip_norm": 2.0, "accumulate": 3, "precision": "bfloat16",
        "steps_per_execution": 4, "freeze": "C3", "unfreeze_every": 1.5, "layer_decay": 0.7,
        "xla": True, "seed": 5, "early_stopping": 6, "on_nan": "rollback", "checkpoint_minutes": 3.5,
        "log_every": 11, "evaluate_every": 2, "freeze_norms": True, "sync_norms": True,
    }  # fmt: skip
    assert dataclasses.asdict(build.train_settings(chosen, replicas=2)) == expected
    assert build.train_settings(chosen, replicas=1).sync_norms is False


def test_reading_needs_data_and_follows_the_recipe(source, tmp_path):
    assert (source.format, len(source.labels)) == ("digits", 10)
    other = build.read(recipe(data__split_seed=1))
    assert other.splits["test"].ids != source.splits["test"].ids
    with pytest.raises(UsageError, match=r"data\.where: the recipe names no data; pass --data"):
        build.read(load_recipe(None, "classify"))
    with pytest.raises(UsageError, match="missing does not exist"):
        build.read(recipe(data__where=str(tmp_path / "missing")))


def test_a_backbone_of_the_users_own(source):
    task = task_of(recipe(model__backbone="tiny_backbone:backbone", model__image_size=8), source)
    model = task.build()
    assert model.backbone.name == "tiny"
    assert model.count_params() == backbone((8, 8, 3)).count_params() + 33 * 10


@pytest.mark.parametrize(("name", "said"), [
    ("no_such_module:build", "cannot be imported.*no_such_module"),
    ("tiny_backbone:build", "cannot be imported.*build"),
    ("own_backbones:a_list", r"must return a resnet_tasks\.model\.Pyramid, and returned list"),
])  # fmt: skip
def test_a_backbone_that_is_none_is_refused(name, said, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_backbones", types.SimpleNamespace(a_list=lambda input_shape: [input_shape]))
    with pytest.raises(UsageError, match=f"model.backbone: .*{said}"):
        task_of(recipe(model__backbone=name), source).build()
