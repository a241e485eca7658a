"""The quickstart recipes through the real command, as a user runs them."""

import subprocess
import sys
from pathlib import Path

FILES = [
    "recipe.yaml", "command.txt", "environment.json", "labels.json", "dataset.json", "log.txt", "metrics.csv",
    "metrics.jsonl", "model.keras", "report.html", "checkpoints/last", "checkpoints/best",
    "evaluation/test/metrics.json", "evaluation/test/per_class.csv", "evaluation/test/mistakes.csv",
]  # fmt: skip


def trained_for(task: str, epochs: int, where: Path) -> tuple[Path, subprocess.CompletedProcess]:
    """The run folder of so many epochs, and what the command said."""
    done = _run(where, task, "train", f"quickstart/{task}_digits", "--epochs", str(epochs), "--run", "run")
    return where / "run", done


def demo(task: str, where: Path) -> dict[str, str]:
    """What `resnet-tasks demo` says at its end, by its first word; what it names is there."""
    done = _run(where, "demo", task)
    said = dict(line.split(None, 1) for line in done.stdout.splitlines() if len(line.split(None, 1)) == 2)
    assert (where / said["report"]).is_file()
    assert (where / said["SavedModel"] / "saved_model.pb").is_file()
    return said


def _run(where: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "resnet_tasks.cli.main", *words]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done
