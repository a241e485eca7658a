"""The recipe of segmentation: what is refused and with what words, and what reaches the task."""

import dataclasses
from pathlib import Path

import pytest

from resnet_tasks.errors import UsageError
from resnet_tasks.recipes.load import load_recipe
from resnet_tasks.recipes.segment import KEYS, SegmentRecipe
from resnet_tasks.recipes.tasks import task_of

RECIPE = "segmentation/folder_unet"


def recipe(**changes) -> SegmentRecipe:
    return load_recipe(RECIPE, "segment", {key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["model.image_size=100"], ["model.image_size", "[100, 100] must divide by 32", "write [96, 96]"]),
        (["model.image_size=[360, 480]"], ["model.image_size", "[360, 480] must divide", "write [352, 480]"]),
        (["model.image_size=10"], ["[10, 10] must divide by 32", "write [32, 32]"]),
        (["augment.crop_size=[256, 300]"], ["augment.crop_size", "[256, 300] must divide", "write [256, 288]"]),
        (["model.rates=[6, 12, 18]"], ["model.rates: unet has no such part (deeplab_v3_plus has); write null"]),
        (["model.channels=64"], ["model.channels: unet has no such part (deeplab_v3_plus, semantic_fpn has)"]),
        (
            ["model.segmenter=deeplab_v3_plus", "model.full_resolution_skip=false"],
            ["model.full_resolution_skip: deeplab_v3_plus has no such part (unet has)"],
        ),
        (
            ["model.segmenter=semantic_fpn", "model.decoder_channels=[64, 32]"],
            ["model.decoder_channels: semantic_fpn has no such part (unet has)"],
        ),
        (
            ["model.losses.cross_entropy=0", "model.losses.dice=0"],
            ["model.losses.cross_entropy: all losses are 0", "write cross_entropy: 1.0"],
        ),
        (["model.losses.dice=-1"], ["model.losses.dice", "at least 0", "got -1"]),
        (["model.losses.tversky=1"], ["model.losses.tversky: there is no such key"]),
        (["model.segmenter=u_net"], ["model.segmenter", "did you mean 'unet'"]),
        (["model.output_stride=4"], ["model.output_stride", "8, 16 or 32"]),
        (["model.class_weights=[1, -1]"], ["model.class_weights", "at least 0"]),
        (["augment.rotate=200"], ["augment.rotate", "at most 180"]),
        (["augment.scale=[2, 0.5]"], ["augment.scale", "ascend"]),
        (["augment.mosaic=0.5"], ["augment.mosaic: there is no such key"]),
        (["data.format=yolo"], ["data.format", "'masks'"]),
        (["data.balance=median"], ["data.balance", "'weights'"]),
    ],
)
def test_what_does_not_fit_is_told_with_its_key_and_the_cure(texts, words):
    with pytest.raises(UsageError) as caught:
        load_recipe(RECIPE, "segment", texts)
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("segmenter", KEYS)
def test_each_segmenter_takes_its_own_keys(segmenter):
    values = {
        "decoder_channels": (8, 8), "full_resolution_skip": True, "rates": (1, 2), "channels": 8, "low_level": False,
        "aux": True, "aux_weight": 0.25, "head_channels": 4, "head_norm": "group", "min_level": 3,
    }  # fmt: skip
    assert set(values) == {key for keys in KEYS.values() for key in keys}
    chosen = recipe(model__segmenter=segmenter, **{f"model__{key}": values[key] for key in KEYS[segmenter]})
    assert {key: getattr(chosen.model, key) for key in KEYS[segmenter]} == {key: values[key] for key in KEYS[segmenter]}


@pytest.fixture(scope="module")
def source():
    """Three classes, two pictures."""
    from painted_scenes import scene, split_of, task

    return task(split_of("train", [scene(0), scene(1)])).source


def head(source, **changes) -> dict:
    """The arguments of the segmenter."""
    return dict(task_of(recipe(**changes), source).settings.head)


def test_every_key_of_the_network_and_its_augmentation_reaches_the_task(source):
    chosen = recipe(
        model__segmenter="semantic_fpn", model__backbone="resnet_50", model__image_size=[96, 128], model__norm="group",
        model__output_stride=8, model__standardise=[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], model__channels=64,
        model__head_channels=32, model__head_norm="group", model__min_level=3, model__class_weights=[1.0, 0.0, 2.5],
        model__losses={"cross_entropy": 0.0, "dice": 0.5, "focal": 2.0},
        augment__flip="alternate", augment__crop_size=[64, 96], augment__scale=[0.5, 2.0], augment__rotate=10.0,
        augment__color_jitter=0.2, augment__cutmix=0.6, augment__close_epochs=4,
        train__epochs=10, train__batch_size=32, train__seed=9, evaluate__batch_size=50,
        data__balance="repeat", data__cache="disk", data__data_dir="somewhere",
    )  # fmt: skip
    settings = dataclasses.asdict(task_of(chosen, source).settings)
    assert settings.pop("augmentation") == {
        "flip": "alternate", "crop_size": (64, 96), "scale": (0.5, 2.0), "rotate": 10.0, "color_jitter": 0.2,
        "cutmix": 0.6,
    }  # fmt: skip
    assert settings == {
        "segmenter": "semantic_fpn", "backbone": "resnet_50", "norm": "group", "image_size": (96, 128),
        "output_stride": 8, "standardise": ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), "batch_size": 32,
        "evaluation_batch_size": 50, "close_after": 6, "balance": "repeat", "cache": "disk",
        "cache_folder": Path("somewhere/cache"), "service": None, "seed": 9,
        "head": {
            "channels": 64, "head_channels": 32, "norm": "group", "min_level": 3, "class_weights": [1.0, 0.0, 2.5],
            "losses": {"dice": 0.5, "focal": 2.0},
        },
    }  # fmt: skip


def test_what_is_not_said_is_left_to_the_segmenter(source):
    assert head(source) == {"losses": {"cross_entropy": 1.0, "dice": 1.0}}
    assert head(source, model__decoder_channels=[8, 4], model__full_resolution_skip=False) == {
        "losses": {"cross_entropy": 1.0, "dice": 1.0}, "decoder_channels": (8, 4), "full_resolution_skip": False,
    }  # fmt: skip
    strides = {name: task_of(recipe(model__segmenter=name), source).settings.output_stride for name in KEYS}
    assert strides == {"unet": 32, "deeplab_v3_plus": 16, "semantic_fpn": 32}
    deeper = recipe(model__segmenter="deeplab_v3_plus", model__output_stride=32)
    assert task_of(deeper, source).settings.output_stride == 32
    settings = task_of(recipe(augment__crop_size=64), source).settings
    assert (settings.augmentation.crop_size, settings.image_size, settings.close_after) == ((64, 64), (512, 512), 57)


def test_group_norms_are_the_heads_too(source):
    for segmenter in KEYS:
        assert head(source, model__segmenter=segmenter, model__norm="group")["norm"] == "group"
        assert "norm" not in head(source, model__segmenter=segmenter, model__norm="sync_batch")
    chosen = {"model__segmenter": "semantic_fpn", "model__norm": "group", "model__head_norm": "batch"}
    assert head(source, **chosen)["norm"] == "batch"


def test_class_weights_are_one_for_each_class_and_from_one_place(source):
    with pytest.raises(UsageError, match="class_weights: 2 numbers for 3 classes; give one for each of ground, road"):
        task_of(recipe(model__class_weights=[1.0, 2.0]), source)
    with pytest.raises(UsageError, match=r"class_weights and data\.balance=weights both weigh the classes; leave one"):
        task_of(recipe(model__class_weights=[1.0, 2.0, 3.0], data__balance="weights"), source)
    assert head(source, model__class_weights=[1.0, 2.0, 3.0], data__balance="repeat")["class_weights"] == [1, 2, 3]
