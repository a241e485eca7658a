"""Handwritten digits never trained on, the same or not: the quickstart recipe of faces, and its demo."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
from quickstart_runs import FILES, demo, trained_for

from resnet_tasks.data.readers import digits


@pytest.fixture(scope="module")
def recognised(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    return trained_for("faces", 1, tmp_path_factory.mktemp("quickstart"))


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
    report = (recognised[0] / "report.html").read_text(encoding="utf-8")
    shown = f'value="{mistakes[0]["score"]}"> {float(mistakes[0]["score"]):.3f}<'
    assert shown in report and f"{mistakes[0]['file']}, {mistakes[0]['partner']}: " in report
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
    said = demo("faces", tmp_path)
    assert float(said["auc"].rstrip("%")) >= 85
