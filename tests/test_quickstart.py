"""The quickstart recipes through the real command, as a user runs them, with fewer epochs."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_tasks.data.readers import digits, digits_masks

EPOCHS = 5
FILES = [
    "recipe.yaml", "command.txt", "environment.json", "labels.json", "dataset.json", "log.txt", "metrics.csv",
    "metrics.jsonl", "model.keras", "report.html", "checkpoints/last", "checkpoints/best",
    "evaluation/test/metrics.json", "evaluation/test/per_class.csv", "evaluation/test/mistakes.csv",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    where = tmp_path_factory.mktemp("quickstart")
    command = ["classify", "train", "quickstart/classify_digits", "--epochs", str(EPOCHS), "--run", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "resnet_tasks.cli.main", *command], cwd=where, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return where / "run", done


def test_classify_digits_learns_the_digits(trained):
    run, _ = trained
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["top1"] > 0.9
    assert metrics["top5"] > 0.99
    assert metrics["balanced_accuracy"] == pytest.approx(metrics["top1"], abs=0.05)
    assert metrics["images"] == json.loads((run / "dataset.json").read_text())["splits"]["test"] > 150


def test_the_run_folder_is_whole(trained):
    run, _ = trained
    assert [name for name in FILES if not (run / name).is_file()] == []
    assert list((run / "tensorboard").glob("events.*"))
    assert not [path for path in run.rglob("*") if ".part" in path.name]
    recipe = (run / "recipe.yaml").read_text()
    assert f"epochs: {EPOCHS}" in recipe
    assert not re.search(r"^  (lr|precision|xla|bn): auto", recipe, re.MULTILINE)  # every "auto" is decided
    assert f"--epochs {EPOCHS}" in (run / "command.txt").read_text()
    assert json.loads((run / "labels.json").read_text())["names"] == [str(digit) for digit in range(10)]
    steps = {name: (run / "checkpoints" / name).read_text().strip() for name in ("last", "best")}
    state = json.loads((run / "checkpoints" / steps["last"] / "state.json").read_text())
    assert state["finished"] and state["step"] == int(steps["last"])
    with open(run / "metrics.csv") as table:
        rows = list(csv.DictReader(table))
    assert [int(row["epoch"]) for row in rows] == list(range(1, EPOCHS + 1))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert int(rows[-1]["step"]) == state["step"]


def test_the_command_says_where_things_are_and_what_it_chose(trained):
    run, done = trained
    assert "report.html" in done.stdout and "model.keras" in done.stdout
    for said in (
        "train.precision: auto is float32",
        "the only device",
        "trainable parameters",
        f"epoch {EPOCHS} of {EPOCHS}",
    ):
        assert said in done.stderr
        assert said in (run / "log.txt").read_text()
    assert "Traceback" not in done.stderr


def test_the_report_opens_offline_and_holds_the_accuracy(trained):
    run, _ = trained
    report = (run / "report.html").read_text(encoding="utf-8")
    top1 = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())["top1"]
    assert f'value="{top1}"' in report
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", report)


@pytest.mark.slow
def test_the_demo_in_full_reaches_what_it_promises(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "resnet_tasks.cli.main", "demo"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(None, 1) for line in done.stdout.splitlines() if len(line.split(None, 1)) == 2)
    assert float(said["accuracy"].rstrip("%")) >= 97
    assert (tmp_path / said["report"]).is_file()
    assert (tmp_path / said["SavedModel"] / "saved_model.pb").is_file()


@pytest.fixture(scope="module")
def detected(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    where = tmp_path_factory.mktemp("quickstart")
    command = ["detect", "train", "quickstart/detect_digits", "--epochs", "1", "--run", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "resnet_tasks.cli.main", *command], cwd=where, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return where / "run", done


OF_DETECTION = [
    *(name for name in FILES if not name.endswith("best")),
    *(f"evaluation/test/{name}" for name in ("confusion.csv", "predictions.json", "plots/precision_recall.svg")),
    *("evaluation/test/mistakes/00.png", "training_batch.png"),
]


def test_detect_digits_begins_to_find_the_digits(detected):
    run, done = detected
    assert [name for name in OF_DETECTION if not (run / name).is_file()] == []
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["images"] == 120
    assert 0 <= metrics["AP"] <= metrics["AP50"] <= 1
    assert metrics["AR100"] > 0.1, "one epoch finds where digits are, not yet which"
    predictions = json.loads((run / "evaluation" / "test" / "predictions.json").read_text())
    assert {row["category_id"] for row in predictions} <= set(range(10))
    report = (run / "report.html").read_text(encoding="utf-8")
    assert f'value="{metrics["AP"]}"' in report
    assert "precision recall" in report
    assert "Traceback" not in done.stderr


def test_the_threshold_of_the_validation_is_in_the_model(detected):
    import keras

    import resnet_tasks

    run, _ = detected
    model = resnet_tasks.load(run).keras_model
    assert isinstance(model, keras.Model)
    assert 0 < model.threshold < 1
    assert model.threshold != 0.5


@pytest.mark.slow
def test_the_demo_of_detection_in_full_reaches_what_it_promises(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "resnet_tasks.cli.main", "demo", "detect"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(None, 1) for line in done.stdout.splitlines() if len(line.split(None, 1)) == 2)
    assert float(said["AP50"].rstrip("%")) >= 90
    assert (tmp_path / said["report"]).is_file()
    assert (tmp_path / said["SavedModel"] / "saved_model.pb").is_file()


@pytest.fixture(scope="module")
def segmented(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    where = tmp_path_factory.mktemp("quickstart")
    command = ["segment", "train", "quickstart/segment_digits", "--epochs", "1", "--run", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "resnet_tasks.cli.main", *command], cwd=where, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return where / "run", done


OF_SEGMENTATION = [
    *FILES,
    *(f"evaluation/test/{name}" for name in ("confusion.csv", "plots/confusion.svg", "plots/iou_by_class.svg")),
    *("evaluation/test/mistakes/00.png", "evaluation/test/best/00.png", "training_batch.png"),
]


def test_segment_digits_begins_to_find_the_ink(segmented):
    run, done = segmented
    assert [name for name in OF_SEGMENTATION if not (run / name).is_file()] == []
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["images"] == 120 and metrics["unreadable"] == 0
    assert metrics["per_class"]["background"]["IoU"] > 0.8, "one epoch finds what is no digit"
    assert 0 < metrics["mIoU"] < metrics["pixel_accuracy"] < 1
    report = (run / "report.html").read_text(encoding="utf-8")
    assert f'value="{metrics["mIoU"]}"' in report
    for part in ("IoU by class", "iou by class", "Confusion", "The worst mistakes", "The best"):
        assert part in report
    assert "Traceback" not in done.stderr


def test_every_pixel_of_the_test_split_is_counted_once(segmented):
    run, _ = segmented
    with open(run / "evaluation" / "test" / "confusion.csv") as table:
        _, *rows = csv.reader(table)
    counts = {name: sum(map(int, cells)) for name, *cells in rows}
    assert list(counts) == ["background", *map(str, range(10))]
    pixels = digits_masks.read().splits["test"].annotations["pixels"].sum(axis=0)
    assert [*counts.values(), 0] == pixels.tolist()
    per_class = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())["per_class"]
    assert counts == {name: row["pixels"] for name, row in per_class.items()}
    with open(run / "metrics.csv") as table:
        (row,) = csv.DictReader(table)
    assert {f"val_IoU: {name}" for name in counts} <= set(row)
    assert float(row["val_mIoU"]) == pytest.approx(sum(float(row[f"val_IoU: {name}"]) for name in counts) / 11)


@pytest.mark.slow
def test_the_demo_of_segmentation_in_full_reaches_what_it_promises(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "resnet_tasks.cli.main", "demo", "segment"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(None, 1) for line in done.stdout.splitlines() if len(line.split(None, 1)) == 2)
    assert float(said["mIoU"].rstrip("%")) >= 85
    assert (tmp_path / said["report"]).is_file()
    assert (tmp_path / said["SavedModel"] / "saved_model.pb").is_file()


@pytest.fixture(scope="module")
def recognised(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    where = tmp_path_factory.mktemp("quickstart")
    command = ["faces", "train", "quickstart/faces_digits", "--epochs", "1", "--run", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "resnet_tasks.cli.main", *command], cwd=where, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return where / "run", done


OF_FACES = [
    *(name for name in FILES if not name.endswith(("best", "per_class.csv"))),
    *(f"evaluation/test/{name}" for name in ("pairs.csv", "plots/roc.svg", "plots/scores.svg", "plots/map.svg")),
    *(f"evaluation/test/mistakes/{number:02d}.png" for number in range(24)),
    "training_batch.png",
]


def test_faces_digits_begins_to_tell_strangers_apart(recognised):
    run, done = recognised
    assert [name for name in OF_FACES if not (run / name).is_file()] == []
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    # 179 sevens, 174 eights and 180 nines; every two of them are compared, 47,092 are the same.
    counts = {"images": 533, "identities": 3, "unreadable": 0, "pairs": 6000, "compared": 533 * 532 // 2}
    assert {name: metrics[name] for name in counts} == counts
    assert 0.7 < metrics["auc"] < 1, "chance is 0.5"
    assert 0.6 < metrics["accuracy"] < 1 and 0 < metrics["eer"] < 0.4
    assert metrics["rank5"] >= metrics["rank1"] > 0.8
    tar = metrics["tar_at_far"]
    assert 1 > tar["0.1"] > tar["0.01"] > tar["0.001"] > 0
    assert tar["0.0001"] is None, "94,686 different pairs are fewer than 10 / 0.0001"
    assert metrics["far"] == 1e-3 and metrics["threshold"] < metrics["far_threshold"] < 1
    report = (run / "report.html").read_text(encoding="utf-8")
    for part in (f'value="{metrics["auc"]}"', ">roc<", ">scores<", ">map<", "The worst mistakes"):
        assert part in report
    assert "Traceback" not in done.stderr
    assert "0 to 6 are trained on, 2 to 5 also turned and mirrored, 7, 8 and 9 never" in done.stderr
    names = json.loads((run / "labels.json").read_text())["names"]
    assert len(names) == 7 + 4 * 7 and {name[0] for name in names} == set("0123456")


def test_the_tables_of_pairs_are_what_was_measured(recognised):
    from sklearn.metrics import roc_auc_score

    evaluation = recognised[0] / "evaluation" / "test"
    metrics = json.loads((evaluation / "metrics.json").read_text())
    of_file = {}
    for split in digits.read().splits.values():
        names = (file.rpartition("/")[2] for file in split.ids)
        of_file.update(zip(names, split.annotations["label"].tolist()))

    def digit(file: str) -> int:
        return of_file[file.rpartition("/")[2]]

    with open(evaluation / "pairs.csv") as table:
        pairs = list(csv.DictReader(table))
    assert {digit(row[side]) for row in pairs for side in ("first", "second")} == {7, 8, 9}
    same = [digit(row["first"]) == digit(row["second"]) for row in pairs]
    assert same == [row["same"] == "1" for row in pairs] and sum(same) == len(pairs) / 2
    assert all(row["first"] != row["second"] for row in pairs)
    assert {row["fold"] for row in pairs} == set("0123456789")
    scores = [float(row["similarity"]) for row in pairs]
    assert roc_auc_score(same, scores) == pytest.approx(metrics["auc"], abs=0.03), "a sample of all pairs"
    right = sum((score >= metrics["threshold"]) == is_same for score, is_same in zip(scores, same))
    assert right / len(pairs) == pytest.approx(metrics["accuracy"], abs=0.01)
    with open(evaluation / "mistakes.csv") as table:
        mistakes = list(csv.DictReader(table))
    assert sorted(row["truth"] for row in mistakes) == ["different"] * 12 + ["same"] * 12
    for row in mistakes:
        assert (digit(row["file"]) == digit(row["partner"])) == (row["truth"] == "same")
        assert (float(row["score"]) >= metrics["threshold"]) == (row["answer"] == "same")
    least = min(float(row["score"]) for row in mistakes if row["truth"] == "same")
    assert least <= min(score for score, is_same in zip(scores, same) if is_same) + 1e-6


def test_the_threshold_of_the_training_pictures_is_in_the_model(recognised):
    import resnet_tasks

    model = resnet_tasks.load(recognised[0]).keras_model
    assert -1 < model.threshold < 1
    assert model.threshold != 0.5, "what it is made with"
    assert (model.far, model.output["embedding"].shape[-1], len(model.class_names)) == (1e-3, 64, 35)


@pytest.mark.slow
def test_the_demo_of_faces_in_full_reaches_what_it_promises(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "resnet_tasks.cli.main", "demo", "faces"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(None, 1) for line in done.stdout.splitlines() if len(line.split(None, 1)) == 2)
    assert float(said["auc"].rstrip("%")) >= 85
    assert (tmp_path / said["report"]).is_file()
    assert (tmp_path / said["SavedModel"] / "saved_model.pb").is_file()
