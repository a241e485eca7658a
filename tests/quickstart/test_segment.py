"""Handwritten digits, pixel by pixel: the quickstart recipe of segmentation, and its demo."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
from quickstart_runs import FILES, demo, trained_for

from resnet_tasks.data.readers import digits_masks


@pytest.fixture(scope="module")
def segmented(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    return trained_for("segment", 1, tmp_path_factory.mktemp("quickstart"))


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
    said = demo("segment", tmp_path)
    assert float(said["mIoU"].rstrip("%")) >= 85
