"""Handwritten digits, told apart: the quickstart recipe of classification, and its demo."""

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest
from quickstart_runs import FILES, demo, trained_for

EPOCHS = 5


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    return trained_for("classify", EPOCHS, tmp_path_factory.mktemp("quickstart"))


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
    said = demo("classify", tmp_path)
    assert float(said["accuracy"].rstrip("%")) >= 97
