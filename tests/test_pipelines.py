"""Every recipe that ships: it loads, says what it is, and can be written and read again."""

import re

import pytest

from resnet_tasks.backbones import catalog
from resnet_tasks.recipes import find
from resnet_tasks.recipes.load import load_recipe, read_file, to_yaml
from resnet_tasks.recipes.schema import FOLDER_RECIPES, RECIPES


@pytest.mark.parametrize("name", find.names())
def test_a_recipe_loads_and_is_equal_when_written_and_read(name, tmp_path):
    recipe = load_recipe(name)
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert recipe.model.backbone in catalog.names()


@pytest.mark.parametrize("name", find.names())
def test_a_recipe_begins_with_what_it_is_and_its_command(name):
    path = find.find(name)
    header = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8")).group()
    assert re.fullmatch(r"[A-Z].{20,}\.", find.summary(path))
    assert f"resnet-tasks {load_recipe(name).task} train {name}" in header
    assert "task" in read_file(path)[0], "the task is written, not assumed"


@pytest.mark.parametrize("task", RECIPES)
def test_a_folder_recipe_leaves_the_data_to_its_user(task):
    assert load_recipe(FOLDER_RECIPES[task], task).data.where is None


@pytest.mark.parametrize("task", RECIPES)
def test_every_task_has_a_quickstart(task):
    quick = [name for name in find.names(task) if name.startswith("quickstart/")]
    assert quick
    assert all(load_recipe(name).data.where for name in quick)


def test_cifar10_is_trained_as_in_the_paper():
    recipe = load_recipe("classification/cifar10_resnet20")
    steps_an_epoch = 50_000 / recipe.train.batch_size
    milestones = [epochs * steps_an_epoch for epochs in (*recipe.train.milestones, recipe.train.epochs)]
    assert milestones == pytest.approx([32_000, 48_000, 64_000], rel=2e-3)  # section 4.2
    assert (recipe.train.lr, recipe.train.factor, recipe.train.momentum) == (0.1, 0.1, 0.9)
    assert (recipe.train.weight_decay, recipe.train.nesterov) == (1e-4, False)
    assert (recipe.augment.pad_crop, recipe.augment.pad_mode, recipe.augment.flip) == (4, "zeros", "random")


def test_the_folders_readme_names_every_recipe():
    for name in find.names():
        folder, _, file = name.rpartition("/")
        assert f"`{file}.yaml`" in (find.folder() / folder / "README.md").read_text(encoding="utf-8")
