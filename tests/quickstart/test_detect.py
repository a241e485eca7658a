"""Handwritten digits, found on canvases: the quickstart recipe of detection, and its demo."""

import json
import subprocess
from pathlib import Path

import pytest
from quickstart_runs import FILES, demo, trained_for


@pytest.fixture(scope="module")
def detected(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    return trained_for("detect", 1, tmp_path_factory.mktemp("quickstart"))


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
    said = demo("detect", tmp_path)
    assert float(said["AP50"].rstrip("%")) >= 90
