"""The schema: its defaults hold, its types are strict, its sections agree with themselves."""

import json

import pytest
from pydantic import ValidationError

from resnet_tasks.recipes.classify import ClassifyRecipe
from resnet_tasks.recipes.problems import is_section, keys
from resnet_tasks.recipes.schema import FOLDER_RECIPES, RECIPES
from resnet_tasks.recipes.sections import Train


def validated(**sections):
    return ClassifyRecipe.model_validate_json(json.dumps(sections))


def test_the_defaults_pass_their_own_checks():
    assert validated(**ClassifyRecipe().model_dump(mode="json")) == ClassifyRecipe()


@pytest.mark.parametrize("task", RECIPES)
def test_every_key_says_what_it_means(task):
    silent = [key for key, node in keys(task).items() if "description" not in node]
    assert silent == []


@pytest.mark.parametrize("task", RECIPES)
def test_every_task_has_the_same_roots_and_a_recipe_for_a_folder(task):
    roots = [key for key, node in keys(task).items() if "." not in key and is_section(node)]
    assert roots == ["data", "model", "augment", "train", "evaluate", "export"]
    assert task in FOLDER_RECIPES


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("train", {"epochs": True}),  # true is no 1
        ("train", {"epochs": 2.0}),  # nor is 2.0 a whole number
        ("train", {"epochs": "2"}),
        ("train", {"epochs": 0}),
        ("train", {"lr": "1e-4"}),
        ("train", {"lr": 0.0}),
        ("train", {"lr": float("nan")}),
        ("train", {"lr": float("inf")}),
        ("train", {"ema": 1.0}),  # an average that never moves
        ("train", {"nesterov": 1}),
        ("train", {"devices": "cpu"}),
        ("train", {"devices": "gpu:0,"}),
        ("train", {"milestones": [60, 30]}),
        ("train", {"milestones": [0]}),
        ("train", {"schedule": "steps"}),  # without milestones
        ("train", {"schedule": "one_cycle", "warmup_epochs": 1}),
        ("train", {"batch_size": 10, "accumulate": 4}),
        ("model", {"image_size": [224]}),
        ("model", {"image_size": [224, 0]}),
        ("model", {"crop_fraction": 0.0}),
        ("model", {"dropout": 1.0}),
        ("augment", {"random_resized_crop": {"scale": [1.0, 0.5]}}),
        ("augment", {"random_resized_crop": {"scale": [0.0, 0.5]}}),
        ("augment", {"rand_augment": {"magnitude": 11}}),
        ("augment", {"random_erasing": 1.5}),
        ("data", {"where": ["a", "b"]}),
        ("data", {"where": {"train": 1}}),
        ("export", {"format": "onnx"}),
        ("train", {"epoks": 1}),
        ("augment", {"rand_augment": {"layer": 1}}),
    ],
)
def test_what_does_not_fit_is_refused(section, values):
    with pytest.raises(ValidationError):
        validated(**{section: values})


def test_what_fits_keeps_its_type():
    recipe = validated(
        data={"where": {"train": "a", "val": "b"}},
        model={"image_size": [192, 320]},
        train={"lr": 1, "milestones": [1.5, 2], "xla": False, "devices": "gpu:0,2", "accumulate": 4},
        augment={"random_resized_crop": {"scale": [0.5, 0.5]}},
    )
    assert recipe.data.where == {"train": "a", "val": "b"}
    assert recipe.model.image_size == (192, 320)
    assert recipe.train.lr == 1.0
    assert recipe.train.milestones == (1.5, 2.0)
    assert recipe.train.xla is False
    assert recipe.train.devices == "gpu:0,2"
    assert recipe.augment.random_resized_crop.ratio == (0.75, 1.3333)
    assert recipe.augment.rand_augment is None


def test_a_recipe_does_not_change_under_its_users():
    with pytest.raises(ValidationError):
        Train().epochs = 3
