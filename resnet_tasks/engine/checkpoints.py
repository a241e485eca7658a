"""Checkpoints: a folder a step, written aside and renamed, so that a torn one is never taken for a whole one."""

import errno
import json
import logging
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet_tasks.engine import together
from resnet_tasks.engine.step import TrainStep
from resnet_tasks.errors import DataError, ResnetTasksError

logger = logging.getLogger("resnet_tasks")

PREFIX = "state"  # TensorFlow's files are state.index and state.data-*
# What reading a torn checkpoint raises: a short state.data IndexError, a short state.index RuntimeError or OpError.
TORN = (json.JSONDecodeError, tf.errors.OpError, IndexError, RuntimeError, OSError)
# Keras counts these through the whole process, so their numbers say nothing about the model.
COUNTED = re.compile(r"(sgd|adam|lamb|seed_generator)(_\d+)?")


@dataclass
class Progress:
    """Where a run stands, beside its variables.

    Attributes:
        step: Steps done; also the place in the data, which is a function of the step alone.
        best: The best value of the monitor, and
        best_epoch: the epoch it was reached in.
        patience: Evaluations since.
        seconds: Time spent training, over all lives of the run.
        finished: Whether nothing is left to do.
        epoch_sums: Sums behind the epoch's losses so far: `{term: sum over steps}`.
        lr_scale: What rollbacks have made of the learning rate.
        rollbacks: How many there were.
    """

    step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    patience: int = 0
    seconds: float = 0.0
    finished: bool = False
    epoch_sums: dict[str, float] = field(default_factory=dict)
    lr_scale: float = 1.0
    rollbacks: int = 0


class Checkpoints:
    """The checkpoints of a run: `<folder>/<step>/`, and two small files, `last` and `best`, that name steps.

    Args:
        folder: The run's `checkpoints/`.
        train_step: Whose variables are kept: the model's, the optimizer's, the averages, the random generators.

    Of several processes the chief alone reads, and its files are the run's.  The others take part in writing (some
    variables are summed over processes in being read), each in a folder of its own.
    """

    def __init__(self, folder: Path, train_step: TrainStep):
        self.folder, self._strategy = Path(folder), train_step.strategy
        self._chief = together.is_chief(self._strategy)
        self._has = {which: self.named(which) is not None for which in ("last", "best")}
        model, optimizer = train_step.model, train_step.optimizer
        kept = {
            # The generators' states are variables of the model, which Keras saves nowhere.
            "model": _by_key(model.variables),
            "optimizer": _by_key(optimizer.variables),
            "average": dict(zip(_keys(train_step.averaged), train_step.average)),
            "updates": train_step.updates,
            "loss_scale": train_step.scale,
            "finite_in_a_row": train_step.finite_in_a_row,
        }
        self._checkpoint = tf.train.Checkpoint(**kept)
        self._variables = tf.nest.flatten(kept)

    def save(self, progress: Progress, best: bool = False) -> Path:
        """Writes the state of now; the last good one stays whatever happens.

        Raises:
            ResnetTasksError: The disk is full or cannot be written.
        """
        final = self.folder / f"{progress.step:08d}"
        part = self.folder / f".{progress.step:08d}.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            self._checkpoint.write(str(part / PREFIX))
            (part / "state.json").write_text(json.dumps(asdict(progress), indent=1))
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
            self._name("last", final.name)
            self._has["last"] = True
            if best:
                self._name("best", final.name)
                self._has["best"] = True
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(part, ignore_errors=True)
            raise ResnetTasksError(_why_not_written(error, self.folder, self.named("last"))) from error
        self._sweep()
        return final

    def restore(self, which: str = "last") -> Progress:
        """Puts a checkpoint's values into the variables, the chief's into those of every process.

        Raises:
            DataError: There is none, or it cannot be read, or it is another model's.
        """
        state = json.dumps({"progress": asdict(self._read(which)), "has": self._has}) if self._chief else ""
        told = json.loads(together.text_from_chief(self._strategy, state))
        self._has = told["has"]
        if together.several_processes(self._strategy):
            local = [self._strategy.experimental_local_results(variable)[0] for variable in self._variables]
            values = together.from_chief(self._strategy, [variable.numpy() for variable in local])
            for variable, value in zip(self._variables, values):
                variable.assign(value)
        return Progress(**told["progress"])

    def has(self, which: str) -> bool:
        """Whether the run has a `last` or `best` checkpoint; the same in every process."""
        return self._has[which]

    def _read(self, which: str) -> Progress:
        for path in self._candidates(which):
            try:
                progress = Progress(**json.loads((path / "state.json").read_text()))
                # assert_consumed: every value finds its variable and every variable its value.
                self._checkpoint.read(str(path / PREFIX)).assert_consumed()
                return progress
            except TORN as error:
                problem = f"{path}: {str(error).splitlines()[0]}"
                logger.warning("checkpoint %s cannot be read, the one before is tried: %s", path.name, problem)
            except (AssertionError, ValueError) as error:  # other variables, or of other shapes
                raise DataError(f"{path} holds the variables of another model: {str(error).splitlines()[0]}") from error
        raise DataError(f"{self.folder}: no readable checkpoint {which!r}; start the run anew in another folder")

    def finish(self, progress: Progress) -> None:
        """Marks the last checkpoint, which must be `progress`'s, as a finished run's."""
        progress.finished = True
        last = self.named("last")
        if last is None:
            raise DataError(f"{self.folder}: there is no last checkpoint to mark as finished")
        write_aside(last / "state.json", json.dumps(asdict(progress), indent=1))

    def named(self, which: str) -> Path | None:
        """The checkpoint that `last` or `best` names, if there is one."""
        return named(self.folder, which)

    def _candidates(self, which: str) -> list[Path]:
        """The named checkpoint, and for `last` those before it, newest first."""
        first = self.named(which)
        steps = sorted((p for p in self.folder.glob("[0-9]*") if p.is_dir()), reverse=True)
        if which != "last":
            return [first] if first else []
        return steps

    def _name(self, which: str, step: str) -> None:
        write_aside(self.folder / which, step + "\n")

    def _sweep(self) -> None:
        """Keeps best and the two newest: if the newest turns out torn, there is one before it."""
        kept = {path for path in (self.named("last"), self.named("best")) if path}
        steps = sorted(path for path in self.folder.glob("[0-9]*") if path.is_dir())
        left_behind = self.folder.glob(".[0-9]*.part")  # by a process that was killed while it wrote
        for path in (set(steps[:-2]) - kept).union(left_behind):
            shutil.rmtree(path, ignore_errors=True)


def named(folder: Path, which: str) -> Path | None:
    """The checkpoint folder that the file `last` or `best` in `folder` names, or `None`."""
    pointer = Path(folder) / which
    if not pointer.is_file():
        return None
    path = Path(folder) / pointer.read_text().strip()
    return path if path.is_dir() else None


def model_values(checkpoint: Path, model, averaged: bool) -> list[np.ndarray]:
    """The values of the model's variables in a checkpoint folder, in the model's order; averages where asked for."""
    reader = tf.train.load_checkpoint(str(checkpoint / PREFIX))
    shapes = reader.get_variable_to_shape_map()
    values = []
    for name, variable in zip(_keys(model.variables), model.variables):
        key, average = (f"{kind}/{name}/.ATTRIBUTES/VARIABLE_VALUE" for kind in ("model", "average"))
        key = average if averaged and average in shapes else key
        if key not in shapes:
            raise DataError(f"{checkpoint} holds no variable {variable.path}: it belongs to another model")
        values.append(reader.get_tensor(key))
    return values


def _by_key(variables) -> dict[str, tf.Variable]:
    return dict(zip(_keys(variables), (variable.value for variable in variables)))


def _keys(variables) -> list[str]:
    """The variables' paths, with optimizers and random generators counted among these variables alone."""
    keys, counted = [], {}
    for variable in variables:
        owner, *rest = variable.path.split("/")
        if match := COUNTED.fullmatch(owner):
            numbers = counted.setdefault(match[1], {})
            number = numbers.setdefault(owner, len(numbers))
            owner = f"{match[1]}_{number}" if number else match[1]
        keys.append("|".join([owner, *rest]))
    return keys


def write_aside(path: Path, text: str) -> None:
    """Writes a text file aside and renames it: a reader sees the old one or the new one, never a part."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def _why_not_written(error: Exception, folder: Path, last: Path | None) -> str:
    full = getattr(error, "errno", None) == errno.ENOSPC or "space" in str(error).lower()
    cause = "the disk is full" if full else str(error).splitlines()[0][:200]
    kept = (
        f"the last good checkpoint is {last}; make room and go on with --resume"
        if last
        else "there is no checkpoint yet"
    )
    return f"no checkpoint could be written to {folder}: {cause}; {kept}"
