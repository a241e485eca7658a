"""The recipe of faces: what is refused and with what words, and what reaches the task and its network."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.errors import UsageError
from resnet_tasks.recipes.faces import FacesAugment, FacesModel, FacesRecipe
from resnet_tasks.recipes.load import load_recipe
from resnet_tasks.recipes.tasks import task_of

RECIPE = "faces/folder_arcface"


def recipe(**changes) -> FacesRecipe:
    return load_recipe(RECIPE, "faces", {key.replace("__", "."): value for key, value in changes.items()})


def too_many_shares(*texts: str):
    return pytest.param(
        list(texts),
        ["data.test_share: no identity is left to train on; write shares that sum to less than 1"],
    )


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["data.format=lfw"], ["data.format: expected 'auto', 'folder', 'tfds' or 'digits', got 'lfw'"]),
        (["data.balance=median"], ["data.balance", "'weights'", "got 'median'"]),
        (["data.test_share=1"], ["data.test_share: expected a number of at least 0 and below 1, got 1"]),
        (["data.val_share=-0.1"], ["data.val_share", "at least 0 and below 1", "got -0.1"]),
        too_many_shares("data.val_share=0.6", "data.test_share=0.4"),
        (["data.closed=yes"], ["data.closed: expected true or false, got 'yes'", "write data.closed=true"]),
        (["data.service=grpc://a:1", "data.cache=ram"], ["data.service: its workers", "write data.cache=off"]),
        (["data.identities=3"], ["data.identities: there is no such key"]),
        (["model.embedding=0"], ["model.embedding: expected a whole number of at least 1, got 0"]),
        (["model.embeding=64"], ["model.embeding: there is no such key; did you mean 'model.embedding'?"]),
        (["model.margin=arc"], ["model.margin", "'arcface', 'cosface' or 'combined'", "did you mean 'arcface'?"]),
        (["model.margins=[1.0, 0.5]"], ["model.margins: expected a list of 3 (each a number) or null"]),
        (["model.scale=0"], ["model.scale: expected a number above 0, got 0"]),
        (["model.centres=0"], ["model.centres", "at least 1"]),
        (["model.centers=3"], ["model.centers: there is no such key; did you mean 'model.centres'?"]),
        (["model.warm_up=0.5"], ["model.warm_up: expected a whole number of at least 0, got 0.5"]),
        (["model.sample_rate=0"], ["model.sample_rate: expected a number above 0 and at most 1, got 0"]),
        (["model.sample_rate=1.5"], ["model.sample_rate", "at most 1, got 1.5"]),
        (["model.dropout=1"], ["model.dropout: expected a number of at least 0 and below 1, got 1"]),
        (["model.far=0"], ["model.far: expected a number above 0 and below 1, got 0", "write e.g. model.far=0.001"]),
        (["model.far=1"], ["model.far", "below 1, got 1"]),
        (["model.threshold=0.4"], ["model.threshold: there is no such key"]),
        (["model.image_size=[112]"], ["model.image_size", "a list of 2", "write e.g. model.image_size=112"]),
        (["augment.flip=vertical"], ["augment.flip: expected 'none', 'random' or 'alternate', got 'vertical'"]),
        (["augment.pad_mode=edge"], ["augment.pad_mode: expected 'zeros' or 'reflect'"]),
        (
            ["augment.random_resized_crop={scale: [1.0, 0.5]}"],
            ["augment.random_resized_crop.scale: the numbers must ascend, got [1.0, 0.5]"],
        ),
        (["augment.rand_augment={magnitude: 11}"], ["augment.rand_augment.magnitude", "at most 10, got 11"]),
        (["augment.random_erasing=2"], ["augment.random_erasing", "at most 1, got 2"]),
        (["augment.mixup=0.5"], ["augment.mixup: there is no such key"]),
        (["train.label_smoothing=0.1"], ["train.label_smoothing: there is no such key"]),
    ],
)
def test_what_does_not_fit_is_told_with_its_key_and_the_cure(texts, words):
    with pytest.raises(UsageError) as caught:
        load_recipe(RECIPE, "faces", texts)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


def test_shares_that_leave_somebody_are_taken():
    data = recipe(data__val_share=0.5, data__test_share=0.25).data
    assert (data.val_share, data.test_share, data.closed) == (0.5, 0.25, False)


def test_a_recipe_of_another_task_is_refused():
    with pytest.raises(UsageError, match="is a recipe for 'faces', not 'classify'"):
        load_recipe(RECIPE, "classify")


@pytest.fixture(scope="module")
def source() -> Source:
    """Two identities; the pictures are never read."""
    split = Split("train", ("a/1.png", "b/1.png"), encoded=(b"", b""), annotations={"label": np.int32([0, 1])})
    return Source("here", "folder", LabelMap(("a", "b")), {"train": split})


VALUES = {
    "model": {
        "backbone": "resnet_20_cifar", "image_size": [96, 112], "norm": "group",
        "standardise": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "embedding": 64, "margin": "combined",
        "margins": [1.0, 0.3, 0.2], "scale": 16.0, "centres": 3, "warm_up": 2, "sample_rate": 0.25, "dropout": 0.3,
        "flip": False, "far": 0.01,
    },
    "augment": {
        "flip": "alternate", "pad_crop": 4, "pad_mode": "reflect",
        "random_resized_crop": {"scale": [0.5, 0.9], "ratio": [0.8, 1.25]},
        "rand_augment": {"layers": 3, "magnitude": 5.0}, "color_jitter": 0.2, "random_erasing": 0.1, "close_epochs": 4,
    },
}  # fmt: skip


def test_every_key_of_the_network_and_its_augmentation_reaches_the_task(source):
    # What of the network is not the task's is what its weights start from.
    assert set(VALUES["model"]) == set(FacesModel.model_fields) - {"weights", "allow_partial"}
    assert set(VALUES["augment"]) == set(FacesAugment.model_fields)
    chosen = recipe(
        **VALUES, train__epochs=10, train__batch_size=32, train__seed=9, evaluate__batch_size=50,
        data__balance="repeat", data__cache="disk", data__data_dir="somewhere",
    )  # fmt: skip
    settings = dataclasses.asdict(task_of(chosen, source).settings)
    assert settings.pop("augmentation") == {
        "flip": "alternate", "pad_crop": 4, "pad_mode": "reflect",
        "random_resized_crop": ((0.5, 0.9), (0.8, 1.25)), "rand_augment": (3, 5.0), "color_jitter": 0.2,
        "random_erasing": 0.1,
    }  # fmt: skip
    assert settings == {
        "backbone": "resnet_20_cifar", "norm": "group", "image_size": (96, 112),
        "standardise": ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), "batch_size": 32, "evaluation_batch_size": 50,
        "close_after": 6, "balance": "repeat", "cache": "disk", "cache_folder": Path("somewhere/cache"),
        "service": None, "seed": 9,
        "head": {
            "embedding": 64, "margin": "combined", "margins": (1.0, 0.3, 0.2), "scale": 16.0, "centres": 3,
            "warm_up": 2, "sample_rate": 0.25, "dropout": 0.3, "flip": False, "far": 0.01, "norm": "group",
        },
    }  # fmt: skip


def test_every_key_of_the_data_reaches_the_reader(tmp_path):
    from resnet_tasks.recipes import build

    for person in range(8):
        (tmp_path / f"person {person}").mkdir()
        for number in range(2):
            (tmp_path / f"person {person}" / f"{number}.png").write_bytes(grey(10 * person + number))
    asked = {"data__where": str(tmp_path), "data__format": "folder"}
    cut = build.read(recipe(**asked, data__val_share=0.25, data__test_share=0.375)).splits
    assert {name: len(split) for name, split in cut.items()} == {"train": 6, "val": 4, "test": 6}
    assert cut["test"].annotations["label"].min() >= 3, "people who are not trained on"
    halves = build.read(recipe(**asked, data__val_share=0.0, data__closed=True))
    assert {name: len(split) for name, split in halves.splits.items()} == {"train": 8, "test": 8}
    assert sorted(halves.splits["test"].annotations["label"]) == list(range(8))
    assert len(halves.labels) == 8


def grey(level: int) -> bytes:
    from resnet_tasks.data.masks import grey_png

    return grey_png(np.full((16, 16), level, np.uint8))


def test_what_is_not_said_is_as_the_papers_have_it(source):
    chosen = FacesRecipe()
    settings = task_of(chosen, source).settings
    assert settings.head == {
        "embedding": 512, "margin": "arcface", "margins": None, "scale": 64.0, "centres": 1, "warm_up": 0,
        "sample_rate": 1.0, "dropout": 0.0, "flip": False, "far": 1e-3,
    }  # fmt: skip
    assert (settings.backbone, settings.image_size, settings.norm) == ("iresnet_50", (112, 112), "batch")
    assert (settings.augmentation.random_resized_crop, settings.augmentation.rand_augment) == (None, None)
    assert (settings.close_after, settings.evaluation_batch_size) == (None, chosen.train.batch_size)
    closing = task_of(recipe(train__epochs=3, augment__close_epochs=5), source).settings
    assert closing.close_after == 0


def norms(model) -> list[str]:
    names = {"BatchNormalization", "GroupNormalization", "LayerNormalization"}
    return [type(layer).__name__ for layer in model.layers if type(layer).__name__ in names]


def test_group_norms_reach_the_backbone_and_the_head(source):
    small = {"model__backbone": "resnet_20_cifar", "model__image_size": 32, "model__embedding": 8}
    model = task_of(recipe(**small, model__norm="group"), source).build()
    # One behind each of 19 convolutions, one before the embedding, and one of the embedding, which has no places.
    assert norms(model) == ["GroupNormalization"] * 20 + ["LayerNormalization"]
    batch = task_of(recipe(**small, model__norm="sync_batch"), source)
    assert batch.settings.norm == "batch" and "norm" not in batch.settings.head
    assert norms(batch.build()) == ["BatchNormalization"] * 21


def test_group_norms_are_for_names_of_the_catalogue(source):
    with pytest.raises(UsageError, match=r"model\.norm: group is for names of the catalogue"):
        task_of(recipe(model__backbone="tiny_backbone:backbone", model__norm="group"), source)


def test_margins_that_are_not_the_kinds_are_told_with_the_section(source):
    chosen = recipe(model__backbone="tiny_backbone:backbone", model__margins=[1.0, 0.5, 0.2])
    with pytest.raises(UsageError, match=r"^model: margins: arcface has \[1, m, 0\]"):
        task_of(chosen, source).build()
