"""What a run says while it trains: to the terminal, log.txt, metrics.csv, metrics.jsonl and TensorBoard."""

import contextlib
import csv
import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from resnet_tasks.engine.checkpoints import write_aside

logger = logging.getLogger("resnet_tasks")


@contextlib.contextmanager
def log_to(path: Path, quiet: bool = False) -> Iterator[None]:
    """Lets the project's log go to `path` as well as to stderr; quiet: of stderr only warnings."""
    if not any(isinstance(handler, logging.StreamHandler) for handler in logger.handlers):
        stream = logging.StreamHandler(sys.stderr)
        stream.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(stream)
    for shown in logger.handlers:
        shown.setLevel(logging.WARNING if quiet else logging.NOTSET)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class Meter:
    """Rates over the steps since it was last read: pictures a second, and the share of time spent waiting for data."""

    def __init__(self):
        self._start_over()

    def add(self, pictures: int, waited: float) -> None:
        """One step of so many pictures, that waited so many seconds for them."""
        self._pictures += pictures
        self._waited += waited

    def read(self) -> dict[str, float]:
        """`images_per_second` and `data_wait` (0..1), and starts over."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        rates = {"images_per_second": self._pictures / seconds, "data_wait": self._waited / seconds}
        self._start_over()
        return rates

    def _start_over(self) -> None:
        self._start = time.perf_counter()
        self._waited, self._pictures = 0.0, 0


class Display:
    """A progress bar on a terminal; where stderr is no terminal, a line now and then.

    Args:
        steps: Of the whole run.
        done: Of them already.
        per_epoch: Steps of an epoch.
        bar: False for lines in any case: of several processes one has the terminal.
    """

    SECONDS = 30.0  # between lines without a terminal

    def __init__(self, steps: int, done: int, per_epoch: int, bar: bool = True):
        self._steps, self._per_epoch, self._said = steps, per_epoch, time.monotonic()
        self._bar = None
        if bar and sys.stderr.isatty():
            columns = (
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=steps, completed=done, epoch=done // per_epoch + 1, text="")
            self._bar.start()

    def show(self, step: int, values: dict) -> None:
        """The state after `step` steps: losses, learning rate, pictures a second, share of waiting."""
        losses = " ".join(f"{key} {value:.4f}" for key, value in values["losses"].items())
        rates = f"{values['images_per_second']:.0f} images/s  data wait {values['data_wait']:.0%}"
        text = f"{losses}  lr {values['lr']:.3g}  {rates}"
        epoch = min((step - 1) // self._per_epoch + 1, self._steps // self._per_epoch)
        if self._bar:
            self._bar.update(self._task, completed=step, epoch=epoch, text=text)
        elif time.monotonic() - self._said > self.SECONDS:
            self._said = time.monotonic()
            logger.info("epoch %d, step %d of %d: %s", epoch, step, self._steps, text)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar:
            self._bar.stop()


class Records:
    """metrics.csv, a row an epoch; metrics.jsonl, a line a logged step; TensorBoard's events of both.

    Rows of epochs and steps that lie after `step` are cut first: they belong to a life of the run that ended before
    its next checkpoint, and the resumed run writes them again.
    """

    def __init__(self, folder: Path, step: int):
        self._csv, self._jsonl = folder / "metrics.csv", folder / "metrics.jsonl"
        self.cut(step)
        self._board = _Events(folder / "tensorboard")

    def cut(self, step: int) -> None:
        """Takes out what lies after `step`, from where the run goes on."""
        self._rows = _rows(self._csv, step)
        self._write_rows()
        lines = self._jsonl.read_text().splitlines() if self._jsonl.is_file() else []
        kept = [line for line in lines if (record := _parsed(line)) and record["step"] <= step]
        write_aside(self._jsonl, "".join(line + "\n" for line in kept))

    def log(self, record: dict) -> None:
        """A logged step: `step`, `epoch`, `lr`, `loss` and its terms, rates."""
        with self._jsonl.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self._scalars("step", record)

    def row(self, record: dict) -> None:
        """An epoch; the columns are those of the first row and whatever later rows add."""
        self._rows.append(record)
        self._write_rows()
        self._scalars("epoch", record)

    def close(self) -> None:
        """Writes what TensorBoard's writer still holds."""
        self._board.close()

    def _write_rows(self) -> None:
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        part = self._csv.with_name(".metrics.csv.part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)
        part.replace(self._csv)

    def _scalars(self, prefix: str, record: dict) -> None:
        for key, value in record.items():
            if isinstance(value, (int, float)) and key not in ("step", "epoch"):
                self._board.scalar(f"{prefix}/{key}", value, record["step"])


class _Events:
    """TensorBoard's event file.

    TensorFlow's own ops write it; `tf.summary.scalar` would need TensorBoard installed.
    """

    def __init__(self, folder: Path):
        ops = tf.raw_ops
        self._writer = ops.SummaryWriter(shared_name=f"{folder}-{time.time_ns()}", container="")
        ops.CreateSummaryFileWriter(
            writer=self._writer, logdir=str(folder), max_queue=100, flush_millis=30_000, filename_suffix=""
        )

    def scalar(self, tag: str, value: float, step: int) -> None:
        tf.raw_ops.WriteScalarSummary(writer=self._writer, step=step, tag=tag, value=float(value))

    def close(self) -> None:
        tf.raw_ops.CloseSummaryWriter(writer=self._writer)


def _rows(path: Path, step: int) -> list[dict]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("step", "").isdigit() and int(row["step"]) <= step]


def _parsed(line: str) -> dict | None:
    """A line of JSON, or `None` for a torn one."""
    try:
        return json.loads(line)
    except ValueError:
        return None
