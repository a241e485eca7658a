"""The verbs together: one model in three forms, other people's labels, checkpoints, and runs that are there already."""

import csv
import json
import logging
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import resnet_tasks
from resnet_tasks.cli.main import main
from resnet_tasks.data.examples import LabelMap, Source
from resnet_tasks.data.readers import read_classification
from resnet_tasks.errors import DataError, UsageError
from resnet_tasks.opening import Opened, split_to_measure, task_on
from resnet_tasks.recipes import build
from resnet_tasks.recipes.load import load_recipe, to_yaml

FIGURES = ("top1", "top5", "balanced_accuracy", "macro_f1", "loss", "ece")


@pytest.fixture
def said():
    """What the project's logger says, a text a record."""

    class Kept(logging.Handler):
        def __init__(self):
            super().__init__(logging.INFO)
            self.texts = []

        def emit(self, record):
            self.texts.append(record.getMessage())

    handler, logger = Kept(), logging.getLogger("resnet_tasks")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.texts
    logger.removeHandler(handler)
    logger.setLevel(level)


def folder_of_digits(where: Path, names: dict[str, str], count: int = 6) -> dict[str, list[Path]]:
    """Test pictures of some digits as `where/test/<name>/...`; `names` gives each digit's name."""
    source = read_classification("digits")
    test, files = source.splits["test"], {}
    for digit, name in names.items():
        places = np.flatnonzero(test.annotations["label"] == source.labels.index(digit))[:count]
        (where / "test" / name).mkdir(parents=True)
        files[digit] = [where / "test" / name / f"{place:03d}.png" for place in places]
        for place, file in zip(places, files[digit]):
            file.write_bytes(test.read(place))
    return files


def right_share(model, files: dict[str, list[Path]]) -> float:
    """top1 by hand: the share of the files whose best class bears the digit's name."""
    right = [answer["label_names"][0] == digit for digit, paths in files.items() for answer in model.predict(paths)]
    return float(np.mean(right))


def copied(run: Path, to: Path, finished: bool = True) -> Path:
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("export", ".lock"))
    if not finished:
        (state,) = (to / "checkpoints").glob((to / "checkpoints" / "last").read_text().strip() + "/state.json")
        state.write_text(json.dumps({**json.loads(state.read_text()), "finished": False}))
        (to / "model.keras").unlink()
    return to


def test_the_tiny_run_learns(digits_run):
    metrics = json.loads((digits_run / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["top1"] > 0.8
    assert (metrics["split"], metrics["unreadable"]) == ("test", 0)
    assert metrics["images"] == len(read_classification("digits").splits["test"])
    assert "confusion" not in metrics and len(metrics["per_class"]) == 10


def test_run_keras_file_and_artefact_are_measured_alike(digits_run, digits_artefact, tmp_path):
    models = {"run": digits_run, "keras": digits_run / "model.keras", "artefact": digits_artefact}
    of_run, *others = (resnet_tasks.evaluate(path, output=tmp_path / name) for name, path in models.items())
    assert of_run["images"] > 100
    for other in others:
        assert {name: other[name] for name in FIGURES} == pytest.approx(
            {name: of_run[name] for name in FIGURES}, abs=1e-6
        )
        for name, row in of_run["per_class"].items():
            assert other["per_class"][name] == pytest.approx(row, abs=1e-6)
        assert (other["images"], other["split"]) == (of_run["images"], "test")
    tables = [[row[:3] for row in csv.reader((tmp_path / name / "mistakes.csv").open())] for name in models]
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) - 1 == round((1 - of_run["top1"]) * of_run["images"])
    drawn = len(list((tmp_path / "artefact" / "mistakes").glob("*.png")))
    assert drawn == min(24, len(tables[0]) - 1)


def test_a_model_far_from_its_run_needs_data_and_keeps_its_preparation(
    digits_run, digits_artefact, tmp_path, monkeypatch
):
    expected = resnet_tasks.evaluate(digits_run, split="val")
    monkeypatch.chdir(tmp_path)
    shutil.copy(digits_run / "model.keras", tmp_path / "far.keras")
    shutil.copytree(digits_artefact, tmp_path / "far")
    for model in ("far.keras", "far"):
        with pytest.raises(UsageError, match="lies outside a run, which would know its data; pass --data"):
            resnet_tasks.evaluate(model)
        got = resnet_tasks.evaluate(model, data="digits", split="val")
        assert {name: got[name] for name in FIGURES} == pytest.approx(
            {name: expected[name] for name in FIGURES}, abs=1e-6
        )
    assert json.loads((tmp_path / "evaluation" / "val" / "metrics.json").read_text())["top1"] == got["top1"]


def test_the_report_of_training_is_of_the_test_split_and_names_go_their_own_way(digits_run):
    resnet_tasks.evaluate(digits_run, split="val", name="again")
    assert json.loads((digits_run / "evaluation" / "again" / "metrics.json").read_text())["split"] == "val"
    with pytest.raises(UsageError, match="--split: the data have train, val, test, not 'dev'"):
        resnet_tasks.evaluate(digits_run, split="dev")


def test_a_subset_of_the_classes_is_matched_by_name_and_said(digits_run, digits_artefact, digits_model, tmp_path, said):
    # In the folder 7 and 2 have the ids 1 and 0, in the model 7 and 2.
    files = folder_of_digits(tmp_path / "few", {"7": "7", "2": "2"})
    expected = right_share(digits_model, files)
    assert expected > 0.5
    for model in (digits_run, digits_artefact):
        got = resnet_tasks.evaluate(model, data=str(tmp_path / "few"), output=tmp_path / "out")
        assert got["top1"] == pytest.approx(expected)
        assert got["images"] == 12
        assert {name: row["images"] for name, row in got["per_class"].items() if row["images"]} == {"2": 6, "7": 6}
        assert got["per_class"]["0"]["recall"] is None
    assert "the data have 2 of the model's 10 classes: 2, 7" in said


def test_other_names_are_mapped_or_ignored_and_unknown_ones_shown(digits_run, digits_model, tmp_path, capsys):
    files = folder_of_digits(tmp_path / "words", {"3": "three", "5": "five", "8": "8"})
    arguments = [
        "classify",
        "evaluate",
        str(digits_run),
        "--data",
        str(tmp_path / "words"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 3
    error = capsys.readouterr().err
    assert "'five'" in error and "the model: 0, 1, 2" in error and "--map DATA=MODEL" in error
    assert main([*arguments, "--map", "three=3", "--map", "five=ignore", "--json"]) == 0
    got = json.loads(capsys.readouterr().out.splitlines()[-1])
    del files["5"]
    assert got["top1"] == pytest.approx(right_share(digits_model, files))
    assert got["images"] == 12
    with open(tmp_path / "out" / "mistakes.csv") as table:
        assert all("five" not in row["file"] for row in csv.DictReader(table))


def test_checkpoints_open_and_the_best_is_the_model(digits_run, digits_model):
    states = {name: (digits_run / "checkpoints" / name).read_text() for name in ("best", "last")}
    best, last = (resnet_tasks.load(digits_run, checkpoint=name) for name in ("best", "last"))
    expected = digits_model.keras_model.get_weights()
    for value, kept in zip(best.keras_model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, kept)
    assert best.labels == digits_model.labels
    encoded = [read_classification("digits").splits["val"].read(place) for place in range(20)]
    of_best, of_model = best.predict(encoded), digits_model.predict(encoded)
    assert [answer["probabilities"] for answer in of_best] == [answer["probabilities"] for answer in of_model]
    differ = any((a != b).any() for a, b in zip(last.keras_model.get_weights(), expected))
    assert differ == (states["best"] != states["last"])


def test_the_value_that_chose_the_best_is_the_models_own(digits_run):
    with open(digits_run / "metrics.csv") as table:
        rows = list(csv.DictReader(table))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    best = max(float(row["val_top1"]) for row in rows)
    assert resnet_tasks.evaluate(digits_run, split="val")["top1"] == pytest.approx(best, abs=1e-9)


def test_a_run_that_is_there_is_not_written_over(digits_run, capsys):
    before = (digits_run / "model.keras").read_bytes()
    train = ["classify", "train", "quickstart/classify_digits", "--run", str(digits_run)]
    assert main(train) == 2
    assert f"{digits_run} holds a finished run" in capsys.readouterr().err
    assert (digits_run / "model.keras").read_bytes() == before


def test_resuming_a_finished_run_returns_at_once(digits_run, capsys):
    before = {path: path.stat().st_mtime_ns for path in digits_run.rglob("*") if path.is_file()}
    start = time.process_time()
    assert main(["classify", "train", "--run", str(digits_run), "--resume"]) == 0
    assert time.process_time() - start < 1
    assert {path: path.stat().st_mtime_ns for path in digits_run.rglob("*") if path.is_file()} == before
    assert str(digits_run) in capsys.readouterr().out


def test_a_finished_run_without_its_report_gets_it(digits_run, tmp_path):
    run = copied(digits_run, tmp_path / "run")
    (run / "report.html").unlink()
    shutil.rmtree(run / "evaluation")
    assert resnet_tasks.train("classify", run=run, resume=True) == run
    assert (run / "report.html").is_file()
    metrics = [json.loads((path / "evaluation" / "test" / "metrics.json").read_text()) for path in (run, digits_run)]
    assert metrics[0]["loss"] == pytest.approx(metrics[1]["loss"], abs=1e-6)


def test_an_unfinished_run_refuses_changes_to_its_steps_and_names_them(digits_run, tmp_path, capsys):
    run = copied(digits_run, tmp_path / "run", finished=False)
    train = ["classify", "train", "--run", str(run)]
    assert main(train) == 2
    assert "an unfinished run" in capsys.readouterr().err
    assert main([*train, "--resume", "--set", "train.lr=0.5", "--batch-size", "32", "--set", "train.log_every=7"]) == 2
    error = capsys.readouterr().err
    assert "train.lr: 0.1 -> 0.5" in error and "train.batch_size: 64 -> 32" in error
    assert "log_every" not in error
    assert not (run / "model.keras").exists()


def test_an_unfinished_run_honours_what_its_steps_do_not_hang_on(digits_run, tmp_path, said):
    run = copied(digits_run, tmp_path / "run", finished=False)
    resnet_tasks.train("classify", run=run, resume=True, set={"train.log_every": 7, "evaluate.batch_size": 100})
    assert "--resume honours train.log_every: 50 -> 7" in said
    assert "--resume honours evaluate.batch_size: None -> 100" in said
    expected = resnet_tasks.load(digits_run).keras_model.get_weights()
    for value, kept in zip(resnet_tasks.load(run).keras_model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, kept)
    assert resnet_tasks.load(run).path == run / "model.keras"


def test_an_unfinished_run_opens_with_the_best_there_is(digits_run, digits_model, tmp_path):
    run = copied(digits_run, tmp_path / "run", finished=False)
    opened = resnet_tasks.load(run)
    for value, kept in zip(opened.keras_model.get_weights(), digits_model.keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, kept)


def test_without_a_name_a_run_gets_the_next_free_one(tmp_path, monkeypatch):
    from resnet_tasks.engine.run_folder import next_free

    assert next_free(tmp_path / "runs", "digits") == tmp_path / "runs" / "digits"
    for name in ("digits", "digits-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert next_free(tmp_path / "runs", "digits") == tmp_path / "runs" / "digits-3"


def test_wrong_names_are_told_with_the_right_ones(digits_run, tmp_path):
    with pytest.raises(UsageError, match=r"there is no task 'clasify'.*classify"):
        resnet_tasks.evaluate(digits_run, task="clasify")
    with pytest.raises(UsageError, match="expected saved_model, got 'onyx'"):
        resnet_tasks.export(digits_run, format="onyx")
    with pytest.raises(DataError, match="pictures|empty|no "):
        (tmp_path / "none").mkdir()
        resnet_tasks.evaluate(digits_run, data=str(tmp_path / "none"))
    with pytest.raises(UsageError, match="missing"):
        resnet_tasks.evaluate(digits_run, data=str(tmp_path / "missing"))


def test_what_has_no_train_split_is_refused_before_there_is_a_run(tmp_path, capsys):
    folder_of_digits(tmp_path / "data", {"3": "3", "5": "5"})
    changes = {"model.backbone": "tiny_backbone:backbone", "model.image_size": 8}
    recipe = "quickstart/classify_digits"
    said = r"no split 'train'.* --data train=WHERE .*; found test \(12 pictures\)\n  a folder a class: 12 "
    with pytest.raises(DataError, match=said):
        resnet_tasks.train("classify", recipe, data=str(tmp_path / "data"), run=tmp_path / "run", set=changes)
    assert not (tmp_path / "run").exists()
    arguments = ["classify", "lr-find", recipe, "--data", str(tmp_path / "data"), "--image-size", "8"]
    assert main(arguments) == 3
    assert "no split 'train'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="split: the data have test, not 'train'"):
        resnet_tasks.batches("classify", str(tmp_path / "data"))


def test_what_no_split_can_be_measured_on_is_said():
    split = read_classification("digits").splits["test"]
    source = Source("here", "folder", LabelMap(("3", "5")), {"test": split}, notes=("no two pictures are of one",))
    nothing = SimpleNamespace(name="faces", splits=())
    for asked in (None, "test"):
        said = r"here: nothing that faces can be measured on; found test \(\d+ pictures\)\n  no two"
        with pytest.raises(DataError, match=said):
            split_to_measure(nothing, source, asked)


def test_other_data_are_read_without_the_runs_images_and_groups(tmp_path, monkeypatch):
    own = {"data.images": "pictures", "data.group": "(.)_"}
    (tmp_path / "recipe.yaml").write_text(to_yaml(load_recipe("quickstart/classify_digits", "classify", own)))
    asked = []

    def read(recipe):
        asked.append((recipe.data.where, recipe.data.images, recipe.data.group))
        raise DataError("read")

    monkeypatch.setattr(build, "read", read)
    for given in ({}, {"data": "others"}, {"data": "others", "images": "theirs"}):
        with pytest.raises(DataError, match="read"):
            task_on(Opened(SimpleNamespace(task="classify"), tmp_path, "run"), **given)
    assert asked == [("digits", "pictures", "(.)_"), ("others", None, None), ("others", "theirs", None)]


def test_check_writes_its_findings(tmp_path):
    folder_of_digits(tmp_path / "data", {"3": "3", "5": "5"})
    (tmp_path / "data" / "test" / "3" / "words.jpg").write_text("not a picture")
    report = resnet_tasks.check("classify", str(tmp_path / "data"), output=tmp_path / "out")
    assert report.errors
    assert "words.jpg" in report.text()
    assert json.loads((tmp_path / "out" / "check.json").read_text()) == report.to_json()
    assert "words.jpg" in (tmp_path / "out" / "check.html").read_text()


def test_training_over_two_devices_measures_a_split_that_is_smaller_than_a_batch(tmp_path):
    source = read_classification("digits").splits
    for split, count in (("train", 16), ("val", 3)):
        for label in (0, 1):
            places = np.flatnonzero(source["train"].annotations["label"] == label)[:count]
            (tmp_path / "data" / split / str(label)).mkdir(parents=True)
            for place in places[: count - label]:  # 31 and 5 pictures
                (tmp_path / "data" / split / str(label) / f"{place}.png").write_bytes(source["train"].read(place))
    changes = {
        "model.backbone": "tiny_backbone:backbone", "model.image_size": 8, "model.norm": "sync_batch",
        "data.cache": "off", "train.epochs": 1, "train.batch_size": 16,
        "train.strategy": "mirrored", "train.devices": "cpu:2",
    }  # fmt: skip
    run = resnet_tasks.train(
        "classify", "quickstart/classify_digits", data=str(tmp_path / "data"), run=tmp_path / "run", set=changes
    )
    with open(run / "metrics.csv") as table:
        (row,) = csv.DictReader(table)
    assert row["val_images"] == "5"
    metrics = json.loads((run / "evaluation" / "val" / "metrics.json").read_text())
    assert metrics["images"] == 5
    assert metrics["top1"] == pytest.approx(float(row["val_top1"]))
    assert metrics["loss"] == pytest.approx(float(row["val_loss"]), abs=1e-5)


def test_doctor_names_versions_and_recipes():
    import tensorflow as tf

    from resnet_tasks.doctor import doctor

    lines = doctor()
    assert f"tensorflow {tf.__version__}" in lines
    assert "Keras backend: tensorflow" in lines
    assert any(line.endswith("pipelines") and int(line.split()[0]) >= 5 for line in lines)
