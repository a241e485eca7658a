"""A run of many epochs holds no more memory at its end than near its start."""

import csv
import time

import pytest
from processes import PATIENCE, ended, said, start


def resident(process) -> int:
    """Kilobytes of memory."""
    with open(f"/proc/{process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def epochs_of(run) -> int:
    path = run / "metrics.csv"
    return len(list(csv.DictReader(path.open()))) if path.is_file() else 0


@pytest.mark.slow
def test_memory_after_fifty_epochs_is_that_after_five(tmp_path):
    run, found = tmp_path / "run", {}
    process = start(run, train__epochs=52, train__ema=0.9, augment__mixup=0.2)
    end = time.monotonic() + PATIENCE
    while len(found) < 2 and time.monotonic() < end and process.poll() is None:
        for epoch in (5, 50):
            if epoch not in found and epochs_of(run) >= epoch:
                found[epoch] = resident(process)
        time.sleep(0.01)
    assert ended(process) == [0], said(run)
    print(f"kilobytes after epochs: {found}")
    assert found[50] <= 1.02 * found[5]
