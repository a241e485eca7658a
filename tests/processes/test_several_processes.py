"""Clusters of real processes on loopback: they train as one, and end clearly when one of them goes."""

import json
import random
import re
import signal
import time

import pytest
from PIL import Image
from processes import ended, free_addresses, furthest, kill, said, start, start_all, state, until_step

EXACT = {"train__precision": "float64", "model__norm": "sync_batch", "train__ema": 0.9}
LONG = {"train__epochs": 40, "train__ema": 0.9}
SMALL = {"model__image_size": 64, "model__channels": 8}


def test_two_processes_train_as_one_stop_together_and_go_on(tmp_path):
    """A notice to the one that is not the chief stops both; what they resume ends as one process does in one go."""
    one, two = tmp_path / "one", tmp_path / "two"
    settings = {**EXACT, "train__epochs": 4}
    alone = start(one, **settings)
    chief, worker = start_all(two, 2, **settings)
    until_step(two, 30, chief)
    worker.send_signal(signal.SIGTERM)
    assert ended(chief, worker) == [6, 6], said(two)
    assert "stopped by a signal to another process" in said(two) and "stopped by SIGTERM" in said(two, 1)
    step = int(re.search(r"after step (\d+) of 88", said(two))[1])
    assert step % 8 == 0  # they ask each other every 8 steps
    assert ended(*start_all(two, 2, "--resume")) == [0, 0], said(two)
    assert ended(alone) == [0], said(one)
    assert furthest(state(two), state(one)) < 1e-9
    metrics = [json.loads((run / "evaluation" / "test" / "metrics.json").read_text()) for run in (one, two)]
    assert metrics[0]["images"] == metrics[1]["images"] == 179
    assert metrics[0]["loss"] == pytest.approx(metrics[1]["loss"], abs=1e-9)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["one", "two"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "number", "own"),
    [
        ("segment", "val_mIoU", {**SMALL, "model__head_channels": 8}),
        ("detect", "val_AP50", {**SMALL, "augment__mosaic": 0.5, "model__floor": 1e-4}),
        ("faces", "val_auc", {}),
    ],
)
def test_two_processes_measure_as_one(tmp_path, task, number, own):
    """Answers are texts or numbers of many lengths, which each process needs from all."""
    one, two = tmp_path / "one", tmp_path / "two"
    plain = {"train__optimizer": "sgd", "train__lr": 0.01, "evaluate__every": 1}  # what is tiny stays so
    settings = {**EXACT, **plain, **own, "task": task, "train__epochs": 1}
    assert ended(start(one, **settings)) == [0], said(one)
    assert ended(*start_all(two, 2, **settings)) == [0, 0], said(two)
    assert furthest(state(two), state(one)) < 1e-9
    alone, both = ((run / "metrics.csv").read_text().splitlines() for run in (one, two))
    columns = alone[0].split(",")
    assert both[0].split(",") == columns
    values = [dict(zip(columns, rows[1].split(","))) for rows in (alone, both)]
    measured = [name for name in columns if name.startswith("val_") and name != "val_seconds"]
    assert number in measured
    for name in measured:
        assert float(values[0][name]) == pytest.approx(float(values[1][name]), abs=1e-4), name


@pytest.mark.slow
def test_three_processes_train_as_one_in_float32(tmp_path):
    """Frozen statistics of the norms: float32 tells replicas apart through them within few steps."""
    one, three = tmp_path / "one", tmp_path / "three"
    settings = {"train__epochs": 1, "train__batch_size": 48, "train__bn": "freeze", "train__lr": 0.01}
    assert ended(start(one, **settings)) == [0], said(one)
    assert ended(*start_all(three, 3, **settings)) == [0, 0, 0], said(three)
    assert furthest(state(three), state(one)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("who", ["chief", "worker"])
def test_sigkill_of_one_ends_the_other_and_both_go_on(tmp_path, who):
    seed = time.time_ns() % 2**32
    step = random.Random(seed).randint(23, 800)
    print(f"seed {seed}: SIGKILL of the {who} at step {step}")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert ended(*start_all(whole, 2, **LONG)) == [0, 0], said(whole)
    processes = start_all(cut, 2, **LONG)
    until_step(cut, step, processes[0])
    killed = processes.pop(0 if who == "chief" else 1)
    kill(killed)
    began = time.monotonic()
    assert ended(*processes) == [1]
    assert time.monotonic() - began < 60
    words = said(cut, 1 if who == "chief" else 0)
    assert "another process was lost after step" in words and f"--run {cut} --resume" in words, words
    assert "Traceback" not in words
    assert ended(*start_all(cut, 2, "--resume")) == [0, 0], said(cut)
    assert furthest(state(cut), state(whole)) <= 1e-6


@pytest.mark.slow
def test_one_that_hangs_ends_the_others(tmp_path):
    """SIGSTOP: it lives and does nothing, as on a machine that is gone."""
    run = tmp_path / "run"
    chief, worker = start_all(run, 2, **LONG)
    until_step(run, 30, chief)
    worker.send_signal(signal.SIGSTOP)
    try:
        assert ended(chief) == [1]
    finally:
        worker.kill()
    assert "another process was lost" in said(run) and "Traceback" not in said(run), said(run)


@pytest.mark.slow
def test_one_that_never_comes_is_named(tmp_path):
    run = tmp_path / "run"
    cluster = free_addresses(3)
    here = [start(run, cluster=cluster, rank=rank, train__meet_minutes=0.6) for rank in (0, 2)]
    assert ended(*here) == [1, 1]
    for rank in (0, 2):
        assert f"1 of 3 processes did not come in 36 s: rank 1 ({cluster[1]})" in said(run, rank), said(run, rank)


@pytest.mark.slow
def test_processes_that_see_other_data_all_end(tmp_path):
    run, cluster, processes = tmp_path / "run", free_addresses(2), []
    for rank, count in enumerate((12, 11)):
        for name in ("cat", "dog"):
            folder = tmp_path / str(rank) / "pictures" / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (24, 24), (number, 0, 0)).save(folder / f"{number}.png")
        place = tmp_path / str(rank)
        batch = {"train__batch_size": 4}
        processes.append(start(run, "--data=pictures", cluster=cluster, rank=rank, cwd=place, **batch))
    assert ended(*processes) == [3, 3], said(run)
    for rank in (0, 1):
        assert "the processes do not all find the same pictures" in said(run, rank), said(run, rank)


@pytest.mark.slow
def test_what_the_chief_refuses_the_others_hear(tmp_path):
    run = tmp_path / "run"
    assert ended(*start_all(run, 2, train__epochs=1)) == [0, 0], said(run)
    assert ended(*start_all(run, 2, train__epochs=1)) == [2, 2]
    assert f"{run} holds a finished run" in said(run, 0) and f"{run} holds a finished run" in said(run, 1)
    assert ended(*start_all(run, 2, "--resume")) == [0, 0], said(run)
