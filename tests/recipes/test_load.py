"""Loading: who wins, and what is said of a mistake."""

import numpy as np
import pytest

from resnet_tasks.errors import UsageError
from resnet_tasks.recipes.load import changed, load_recipe, to_yaml

DIGITS = "quickstart/classify_digits"


@pytest.fixture
def recipe_file(tmp_path):
    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(*arguments, **keywords):
    with pytest.raises(UsageError) as caught:
        load_recipe(*arguments, **keywords)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_defaults_give_way_to_the_recipe_to_set_to_the_flags(recipe_file):
    path = recipe_file("task: classify\ntrain: {epochs: 7, batch_size: 8, lr: 0.5}\n")
    recipe = load_recipe(
        path, "classify", ["train.batch_size=16", "train.lr=0.25"], {"train.lr": 0.125, "train.seed": None}
    )
    assert recipe.train.momentum == 0.9  # the schema's
    assert recipe.train.epochs == 7  # the recipe's
    assert recipe.train.batch_size == 16  # --set
    assert recipe.train.lr == 0.125  # the flag's
    assert recipe.train.seed == 0  # a flag that was not given


def test_without_a_recipe_the_task_has_one():
    recipe = load_recipe(None, "classify")
    assert recipe.model.backbone == "resnet_50"
    assert recipe.data.where is None


def test_the_task_is_read_from_the_recipe():
    assert load_recipe(DIGITS).task == "classify"


def test_python_callers_set_with_a_mapping_of_python_values(tmp_path):
    recipe = load_recipe(
        DIGITS,
        "classify",
        {
            "train.epochs": np.int64(3),
            "train.lr": np.float32(0.5),
            "model.image_size": (32, 48),
            "data.where": tmp_path,
        },
    )
    assert (recipe.train.epochs, recipe.train.lr) == (3, 0.5)
    assert recipe.model.image_size == (32, 48)
    assert recipe.data.where == str(tmp_path)


def test_a_section_can_be_set_in_part():
    recipe = load_recipe(
        DIGITS, "classify", ["train={epochs: 3}", "augment.rand_augment.layers=1", "augment.mixup=0.2"]
    )
    assert (recipe.train.epochs, recipe.train.batch_size) == (3, 64)
    assert (recipe.augment.rand_augment.layers, recipe.augment.rand_augment.magnitude) == (1, 9.0)
    assert recipe.augment.pad_crop == 2
    assert load_recipe(DIGITS, "classify", ["augment.rand_augment={}"]).augment.rand_augment.layers == 2


def test_places_a_split_replace_one_place():
    recipe = load_recipe(DIGITS, "classify", ["data.where.train=a", "data.where.val=b"])
    assert recipe.data.where == {"train": "a", "val": "b"}
    recipe = load_recipe(DIGITS, "classify", ["data.where={train: a}"], {"data.where": {"test": "c"}})
    assert recipe.data.where == {"test": "c"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train.epoks=1", ["train.epoks", "'train.epochs'"]),
        ("epochs=1", ["epochs", "'train.epochs'"]),
        ("train.image_size=1", ["train.image_size", "'model.image_size'"]),
        ("model.batch_size=1", ["'train.batch_size'"]),
        ("trian.epochs=1", ["trian", "'train'"]),
        ("train.xyzzy=1", ["train.xyzzy", "the keys of train are epochs, batch_size"]),
        ("augment.rand_augment.layer=1", ["'augment.rand_augment.layers'"]),
        ("train.epochs=many", ["train.epochs", "whole number", "'many' (text)", "train.epochs=30"]),
        ("train.epochs=true", ["train.epochs", "got true (a truth value)"]),
        ("train.epochs=0", ["train.epochs", "at least 1", "got 0"]),
        ("train.epochs=", ["train.epochs", "nothing (null)"]),
        ("train.lr='1e-4'", ["train.lr", "'1e-4' (text)", "train.lr=1e-4 without the quotes"]),
        ("train.nesterov=no", ["train.nesterov", "true or false", "train.nesterov=false"]),
        ("train.optimizer=sdg", ["'sgd', 'adamw' or 'lamb'", "did you mean 'sgd'"]),
        ("train.schedule=steps", ["train.milestones", "train.milestones=[30, 60, 80]"]),
        ("train.accumulate=3", ["train.accumulate", "64"]),
        ("train.devices=cpu", ["train.devices", "'cpu:2'"]),
        ("model.image_size=[1, x]", ["model.image_size", "a list of 2", "got [1, x]"]),
        ("augment.random_resized_crop.scale=[1, 0.5]", ["crop.scale", "ascend", "[1, 0.5]"]),
        ("augment.rand_augment=3", ["augment.rand_augment", "layers, magnitude"]),
        ("data.where.train=3", ["data.where", "got {train: 3}"]),
        ("task=detect", ["task", "'classify'"]),
        ("train.epochs", ["train.epochs", "key=value"]),
        ("train.epochs={a: 1", ["train.epochs"]),
    ],
)
def test_a_wrong_set_is_told_with_its_key_and_the_cure(text, words):
    message = refusal(DIGITS, "classify", [text])
    assert [word for word in words if word not in message] == []
    assert "\n" not in message
    # Missing milestones were set by nobody; all else names where it came from.
    assert message.startswith("train.milestones" if text == "train.schedule=steps" else "--set ")


def test_a_wrong_recipe_is_told_with_its_lines_and_all_at_once(recipe_file):
    path = recipe_file("task: classify\ntrain:\n  epoks: 3\n  lr: '1e-4'\nmodel:\n  image_size: big\nsolver: 1\n")
    lines = refusal(path, "classify").splitlines()
    assert lines[0] == "4 problems in the recipe"
    for number, key in ((3, "train.epoks"), (4, "train.lr"), (6, "model.image_size"), (7, "solver")):
        assert any(f"{path} line {number}: {key}: " in line for line in lines)


def test_the_place_named_is_the_last_that_set_the_key(recipe_file):
    path = recipe_file("task: classify\ntrain:\n  epochs: 3\n")
    assert str(path) not in refusal(path, "classify", ["train.epochs=x"])
    assert refusal(path, "classify", None, {"train.epochs": 0}).startswith("train.epochs: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task: classify\ntrain: {lr: 1, lr: 2}\n", ["line 2", "twice"]),
        ("- task\n", ["expected keys", "list"]),
        ("train: {epochs: 1}\ntask: detecd\n", ["task", "classify", "'detecd'"]),
        ("task: [classify]\n", ["task", "classify"]),
        ("task: classify\ntrain:\n", ["line 2", "train: expected keys below it", "nothing (null)"]),
        ("task: classify\n1: 2\n", ["line 2", "a key must be a word, got 1"]),
        ("task: classify\ntrain:\n  on: 2\n", ["train.on: there is no such key"]),
    ],
)
def test_a_file_that_is_no_recipe(recipe_file, text, words):
    message = refusal(recipe_file(text), "classify")
    assert "mine.yaml" in message
    assert [word for word in words if word not in message] == []


def test_a_recipe_without_its_task_needs_one(recipe_file):
    path = recipe_file("train: {epochs: 3}\n")
    assert load_recipe(path, "classify").train.epochs == 3
    assert "task: is missing" in refusal(path)
    assert load_recipe(recipe_file("# nothing\n"), "classify") == load_recipe(recipe_file("task: classify"), "classify")


def test_paths_that_hold_no_recipe(tmp_path):
    assert "nosuch" in refusal("nosuch", "classify")
    assert "'classify'" in refusal(DIGITS, "clasify")
    assert str(tmp_path) in refusal(tmp_path, "classify")
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refusal(tmp_path / "recipe.yaml", "classify")
    assert "recipe.yaml" in refusal(tmp_path, "classify")  # a run folder, taken for its recipe


def test_written_and_read_again_it_is_equal(recipe_file):
    sets = {
        "data.where": {"train": "no", "val": "1e-4"},
        "data.group": "^(\\d+): #_",
        "train.weight_decay": 1e-5,
        "train.milestones": [1.5, 2],
        "train.xla": False,
        "augment.rand_augment": {"layers": 3},
        "model.image_size": [32, 48],
        "description": "two\nlines: 'quoted'",
    }
    recipe = load_recipe(DIGITS, "classify", sets)
    for comments in (False, True):
        assert load_recipe(recipe_file(to_yaml(recipe, comments))) == recipe
    assert "# passes over the training pictures" in to_yaml(recipe, comments=True)
    assert "#" not in to_yaml(load_recipe(DIGITS))


def test_what_auto_became_is_checked_and_kept(recipe_file):
    recipe = load_recipe(DIGITS)
    resolved = changed(recipe, {"train.xla": True, "train.precision": "bfloat16", "train.lr": 0.25})
    assert (resolved.train.xla, resolved.train.precision, resolved.train.lr) == (True, "bfloat16", 0.25)
    assert recipe.train.xla == "auto"
    with pytest.raises(UsageError, match=r"train\.precision"):
        changed(recipe, {"train.precision": "int8"})
