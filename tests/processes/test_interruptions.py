"""Runs that are stopped, killed and robbed of their disk, as real processes: they go on as if nothing had been."""

import csv
import json
import os
import random
import re
import signal
import subprocess

import pytest
from processes import ended, furthest, kill, last_step, log_of, said, start, state, until_step

STEPS_AN_EPOCH = 22
LIVELY = {"train__epochs": 12, "train__ema": 0.9, "model__dropout": 0.1, "augment__mixup": 0.2, "train__seed": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody touched."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert ended(start(run, **LIVELY)) == [0], said(run)
    return run


def rows(run) -> list[dict]:
    """metrics.csv without what differs from run to run: times."""
    with (run / "metrics.csv").open() as file:
        timed = {"seconds", "val_seconds", "images_per_second", "data_wait"}
        return [{key: value for key, value in row.items() if key not in timed} for row in csv.DictReader(file)]


def assert_same_run(run, whole) -> None:
    """Bit by bit: the variables, what was written a row an epoch and a line a step, the best, the figures."""
    assert furthest(state(run), state(whole)) == 0.0
    assert rows(run) == rows(whole)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, LIVELY["train__epochs"] * STEPS_AN_EPOCH + 1))
    assert (run / "checkpoints" / "best").read_text() == (whole / "checkpoints" / "best").read_text()
    metrics = [json.loads((r / "evaluation" / "test" / "metrics.json").read_text()) for r in (run, whole)]
    assert metrics[0]["loss"] == metrics[1]["loss"] and metrics[0]["top1"] == metrics[1]["top1"]


def test_ctrl_c_then_sigkill_then_the_end(whole, tmp_path):
    seed = int.from_bytes(os.urandom(4))
    first, second = sorted(random.Random(seed).sample(range(2, 11 * STEPS_AN_EPOCH), 2))
    print(f"seed {seed}: SIGINT at step {first}, SIGKILL at step {second}")
    run = tmp_path / "run"
    process = start(run, **LIVELY)
    until_step(run, first, process)
    assert kill(process, signal.SIGINT) == 6, said(run)
    assert f"a checkpoint was written: go on with --run {run} --resume" in said(run)
    stopped = int(re.search(r"stopped by SIGINT after step (\d+)", said(run))[1])
    assert first <= stopped == int((run / "checkpoints" / "last").read_text())
    log_of(run).unlink()
    process = start(run, "--resume")
    until_step(run, max(second, stopped + 1), process)
    assert kill(process) == -signal.SIGKILL
    assert f"resuming from step {stopped}" in said(run)
    assert ended(start(run, "--resume")) == [0], said(run)
    assert_same_run(run, whole)


@pytest.mark.slow
def test_twenty_kills_in_a_row_lose_nothing(tmp_path):
    """Each life runs until one more checkpoint is there at least, and on to a random step."""
    seed = int.from_bytes(os.urandom(4))
    dice, lively = random.Random(seed), {**LIVELY, "train__epochs": 60}
    print(f"seed {seed}")
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert ended(start(whole, **lively)) == [0], said(whole)
    process, kills = start(run, **lively), []
    while len(kills) < 20:
        until_step(run, last_step(run) + dice.randint(1, 2 * STEPS_AN_EPOCH), process)
        kills.append(last_step(run))
        assert kill(process) == -signal.SIGKILL
        process = start(run, "--resume")
    assert ended(process) == [0], said(run)
    print(f"killed at {kills}")
    assert furthest(state(run), state(whole)) == 0.0
    assert rows(run) == rows(whole)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB, where one may mount it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs to mount a file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_run_and_the_last_good_state_goes_on(whole, small_disk):
    run = small_disk / "run"
    process = start(run, **LIVELY)
    until_step(run, STEPS_AN_EPOCH + 1, process)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:
        while True:
            file.write(bytes(1024))
            file.flush()
    assert ended(process) == [1]
    filler.unlink()
    assert "the disk is full" in said(run) and "Traceback" not in said(run), said(run)
    assert ended(start(run, "--resume")) == [0], said(run)
    assert_same_run(run, whole)


@pytest.mark.slow
def test_two_runs_on_one_folder(tmp_path):
    run = tmp_path / "run"
    first = start(run, **{**LIVELY, "train__epochs": 5000})
    until_step(run, 1, first)
    second = start(run, "--resume", rank=1)
    assert ended(second) == [2]
    assert f"{run} is in use by another process" in said(run, 1)
    assert kill(first, signal.SIGINT) == 6, said(run)


@pytest.mark.slow
def test_a_torn_newest_checkpoint_is_passed_over_and_said(whole, tmp_path):
    run = tmp_path / "run"
    process = start(run, **LIVELY)
    until_step(run, 3 * STEPS_AN_EPOCH + 2, process)
    kill(process)
    newest = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
    data = next(newest.glob("state.data*"))
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)
    assert ended(start(run, "--resume")) == [0], said(run)
    assert f"checkpoint {newest.name} cannot be read, the one before is tried" in said(run)
    assert_same_run(run, whole)


@pytest.mark.slow
def test_a_folder_that_becomes_read_only(whole, small_disk):
    run = small_disk / "run"
    process = start(run, **LIVELY)
    until_step(run, STEPS_AN_EPOCH + 1, process)
    subprocess.run(["mount", "-o", "remount,ro,force", str(small_disk)], check=False, capture_output=True)
    if os.access(small_disk, os.W_OK):
        kill(process)
        pytest.skip("a file system in use cannot be made read-only here")
    assert ended(process) == [1]
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert "ead-only file system" in log_of(run).read_text() or "ead-only" in said(run), said(run)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_replicas(tmp_path):
    """From one device to two and back to one, in float64 with synchronised norms."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    settings = {"train__epochs": 6, "train__precision": "float64", "model__norm": "sync_batch", "train__ema": 0.9}
    assert ended(start(whole, **settings)) == [0], said(whole)
    process = start(run, **settings)
    until_step(run, 30, process)
    assert kill(process, signal.SIGTERM) == 6, said(run)
    process = start(run, "--resume", "--devices=cpu:2", "--strategy=mirrored")
    until_step(run, 80, process)
    assert kill(process, signal.SIGTERM) == 6, said(run)
    assert "--resume honours train.devices: 'all' -> 'cpu:2'" in said(run)
    assert ended(start(run, "--resume", "--devices=cpu:1", "--strategy=one")) == [0], said(run)
    assert furthest(state(run), state(whole)) < 1e-9
