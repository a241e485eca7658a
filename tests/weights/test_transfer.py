"""Weights put into backbones: all or nothing, by level, with their preprocessing and the head's rows."""

import json

import keras
import numpy as np
import pytest

import resnet_tasks
from resnet_tasks import backbones
from resnet_tasks.classification import Classifier
from resnet_tasks.errors import DataError, UsageError
from resnet_tasks.recipes import build
from resnet_tasks.recipes.load import load_recipe
from resnet_tasks.weights import transfer
from resnet_tasks.weights.inspecting import convert_file

NAME = "resnet_20_cifar"
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


def random_backbone(seed: int = 0) -> keras.Model:
    """No variable at its first value, statistics among them."""
    made, random = backbones.create(NAME, input_shape=(32, 32, 3)), np.random.default_rng(seed)
    for variable in made.variables:
        value = random.normal(0, 0.2, variable.shape)
        variable.assign(np.abs(value) + 0.5 if "gamma" in variable.path or "variance" in variable.path else value)
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Classifier, str]:
    """A classifier of three classes, and its `.keras` file."""
    model = Classifier(backbone=random_backbone(), class_names=["ant", "bee", "cow"], image_size=(32, 32))
    transfer.set_standardise(model.backbone, ((10.0, 20.0, 30.0), (40.0, 50.0, 60.0)))
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    model.save(path)
    return model, str(path)


@pytest.fixture(scope="module")
def plain(trained, tmp_path_factory):
    """The same as `weights convert` writes it."""
    path = tmp_path_factory.mktemp("plain") / "weights.npz"
    convert_file(trained[1], path, NAME)
    return path


def without(path, folder, *words: str):
    """The file less the arrays whose names hold one of the words."""
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays if not any(word in name for word in words)}
    np.savez(folder / "part.npz", **kept)
    return folder / "part.npz"


@pytest.mark.parametrize("kind", ["keras", "npz"])
def test_a_backbone_comes_back_bit_by_bit_with_its_preprocessing(trained, plain, kind):
    model, path = trained
    made = backbones.create(NAME, input_shape=(32, 32, 3), weights=path if kind == "keras" else plain)
    for got, expected in zip(made.variables, model.backbone.variables, strict=True):
        np.testing.assert_array_equal(got.numpy(), expected.numpy(), err_msg=got.path)
    for level, expected in model.backbone(IMAGES).items():
        np.testing.assert_allclose(made(IMAGES)[level], expected, rtol=1e-4, atol=1e-4)
    layer = made.get_layer("standardise")
    np.testing.assert_allclose(layer.scale, [1 / 40, 1 / 50, 1 / 60], rtol=1e-6)
    np.testing.assert_allclose(layer.offset, [-0.25, -0.4, -0.5], rtol=1e-6)


def test_the_report_counts_by_level(plain, tmp_path):
    """Of C1 one convolution of the second block is lacking."""
    part = without(plain, tmp_path, "stage2_block2_conv1/kernel")
    report = transfer.find(part, NAME).apply(random_backbone(1))
    loaded, every = report.levels["C1"]
    assert every - loaded == 3 * 3 * 32 * 32
    assert report.levels["C0"][0] == report.levels["C0"][1] and report.reinitialised == ("stage2_block2_conv1/kernel",)
    total = sum(int(np.prod(variable.shape)) for variable in random_backbone().variables)
    assert report.share == pytest.approx(1 - 3 * 3 * 32 * 32 / total)
    assert "C1: " in report.text() and "re-initialised: stage2_block2_conv1/kernel" in report.text()
    assert json.loads(json.dumps(report.to_json()))["levels"]["C2"]["loaded"] == report.levels["C2"][1]


def test_less_than_95_percent_is_refused_and_nothing_is_loaded(plain, tmp_path):
    part, made = without(plain, tmp_path, "stage3"), random_backbone(1)
    before = [variable.numpy() for variable in made.variables]
    with pytest.raises(DataError, match=r"a partial set of weights, 2\d\.\d% of resnet_20_cifar; .*--allow-partial"):
        transfer.find(part, NAME).apply(made)
    for variable, value in zip(made.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)
    with pytest.raises(DataError, match="partial"):
        backbones.create(NAME, weights=part)
    report = transfer.find(part, NAME, allow_partial=True).apply(made)
    assert report.levels["C2"][0] == 0 and report.share < 0.3
    assert "C2: re-initialised" in report.text()


def test_a_group_norms_scale_is_not_taken_for_a_batch_norms(plain, tmp_path):
    """Without moving statistics none of a norm is loaded."""
    part = without(plain, tmp_path, "moving_")
    report = transfer.find(part, NAME).apply(made := random_backbone(1))
    assert "stem_conv1_norm/gamma" in report.reinitialised and "stem_conv1_norm/gamma" in report.unused
    np.testing.assert_array_equal(
        made.get_layer("stem_conv1_norm").gamma, random_backbone(1).get_layer("stem_conv1_norm").gamma
    )


def test_another_networks_weights_are_refused(plain):
    with pytest.raises(DataError, match="not of resnet_32_cifar"):
        backbones.create("resnet_32_cifar", weights=plain)


def test_the_head_keeps_the_rows_of_classes_of_the_same_name(trained):
    model, path = trained
    found = transfer.find(path, NAME)
    assert found.class_names == ("ant", "bee", "cow")
    new = Classifier(backbone=random_backbone(1), class_names=["cow", "dog", "ant"], image_size=(32, 32))
    untouched = new.get_layer("logits").kernel.numpy()[:, 1]
    assert new.carry_over(found.head_rows(tuple(new.class_names))) == ["cow", "ant"]
    kernel, old = new.get_layer("logits").kernel.numpy(), model.get_layer("logits").kernel.numpy()
    np.testing.assert_array_equal(kernel[:, 0], old[:, 2])
    np.testing.assert_array_equal(kernel[:, 2], old[:, 0])
    np.testing.assert_array_equal(kernel[:, 1], untouched)


def test_a_recipes_auto_takes_what_was_fetched_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("RESNET_TASKS_HOME", str(tmp_path))
    recipe = load_recipe("classification/folder_resnet50", "classify")
    decided, found, (sentence,) = build.with_weights(recipe)
    assert decided.model.weights == "none" and found is None
    assert "model.weights: auto is none" in sentence and "resnet-tasks weights fetch resnet_50." in sentence
    assert "--weights none|NAME|FILE|RUN chooses otherwise" in sentence
    with pytest.raises(UsageError, match="resnet-tasks weights fetch"):
        build.with_weights(load_recipe("classification/folder_resnet50", "classify", {"model.weights": "imagenet"}))


def test_preprocessing_comes_with_the_weights_and_cannot_be_another(trained):
    keys = {"model.weights": trained[1], "model.backbone": NAME}
    kept = build.with_weights(load_recipe("quickstart/classify_digits", "classify", keys))[0].model.standardise
    np.testing.assert_allclose(kept, [[10, 20, 30], [40, 50, 60]], rtol=1e-6)
    again = load_recipe(
        "quickstart/classify_digits", "classify", {**keys, "model.standardise": [list(k) for k in kept]}
    )
    assert build.with_weights(again)[0].model.standardise == kept
    other = load_recipe("quickstart/classify_digits", "classify", {**keys, "model.standardise": [[0.0] * 3, [1.0] * 3]})
    with pytest.raises(UsageError, match="model.standardise: .*was trained with mean .*leave it out"):
        build.with_weights(other)


def test_a_run_starts_from_weights_and_keeps_their_preprocessing(trained, tmp_path):
    run = tmp_path / "run"
    changes = {"model.weights": trained[1], "train.epochs": 1, "train.freeze": "backbone"}
    resnet_tasks.train("classify", "quickstart/classify_digits", run=run, set=changes)
    report = json.loads((run / "transfer.json").read_text())
    assert report["share"] == 1.0 and report["head"] == "the head starts at random"
    kept = load_recipe(run / "recipe.yaml").model.standardise
    np.testing.assert_allclose(kept, [[10, 20, 30], [40, 50, 60]], rtol=1e-6)
    made = resnet_tasks.load(run).keras_model.backbone
    for got, expected in zip(made.variables, trained[0].backbone.variables, strict=True):
        np.testing.assert_array_equal(got.numpy(), expected.numpy(), err_msg=got.path)
    np.testing.assert_allclose(made.get_layer("standardise").offset, [-0.25, -0.4, -0.5], rtol=1e-6)
    last = resnet_tasks.load(run, checkpoint="last").keras_model.backbone
    np.testing.assert_allclose(last.get_layer("standardise").offset, [-0.25, -0.4, -0.5], rtol=1e-6)
    assert "Weights" in (run / "report.html").read_text() and "backbone loaded" in (run / "report.html").read_text()
