"""Checkpoints: exact, whole or not at all, and the last good one stays whatever happens."""

import errno
import json
import shutil
import subprocess
from dataclasses import asdict

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_tasks.classification.model import Classifier
from resnet_tasks.engine.checkpoints import Checkpoints, Progress, model_values, named
from resnet_tasks.engine.optimizers import make_optimizer
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.step import TrainStep
from resnet_tasks.errors import DataError, ResnetTasksError

SETTINGS = TrainSettings(epochs=1, batch_size=8, lr=0.05, momentum=0.9, ema=0.9)


@pytest.fixture
def make_step(tiny_pyramid):
    """`make_step(filters=4)`: a step of a model with dropout, momentum and averages."""

    def make(filters: int = 4, settings: TrainSettings = SETTINGS) -> TrainStep:
        keras.utils.set_random_seed(1)
        model = Classifier(backbone=tiny_pyramid(filters=filters), class_names=["a", "b", "c"], dropout=0.5)
        return TrainStep(model, make_optimizer(settings), tf.distribute.get_strategy(), settings)

    return make


def train(step: TrainStep, numbers) -> list[float]:
    """One step for each number, of a batch that is a function of the number; the losses."""
    losses = []
    for number in numbers:
        random = np.random.default_rng(number)
        images = tf.constant(random.uniform(0, 255, (8, 8, 8, 3)), tf.float32)
        targets = {"label": tf.constant(random.integers(0, 3, 8), tf.int32), "weight": tf.ones(8)}
        losses.append(float(step.run(((images, targets),), tf.constant(0.05, tf.float64)).losses["loss"]))
    return losses


def everything(step: TrainStep) -> dict[str, np.ndarray]:
    """All that a step changes, the generators' states too."""
    variables = enumerate([*step.model.variables, *step.optimizer.variables])
    values = {f"{number} {variable.name}": variable.value.numpy() for number, variable in variables}
    values |= {f"average {index}": average.numpy() for index, average in enumerate(step.average)}
    return {**values, "updates": step.updates.numpy(), "scale": step.scale.numpy()}


def assert_equal(got: dict, expected: dict) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def cut(path, to: float = 0.5) -> None:
    """Leaves the first part of a file, as a torn write does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * to)])


def test_a_restored_run_goes_on_bit_by_bit(make_step, tmp_path):
    """Weights, momentum, averages, moving statistics, and the dropout's generator, which Keras saves nowhere."""
    step = make_step()
    checkpoints = Checkpoints(tmp_path, step)
    train(step, range(3))
    progress = Progress(
        step=3,
        best=0.1 + 0.2,
        best_epoch=1,
        patience=2,
        seconds=1.5,
        epoch_sums={"loss": 1 / 3},
        lr_scale=0.5,
        rollbacks=1,
    )
    assert checkpoints.save(progress, best=True) == tmp_path / "00000003"
    saved = everything(step)
    seeds = [name for name, value in saved.items() if "seed" in name]
    assert len(seeds) == 1 and saved[seeds[0]].dtype.kind in "iu"
    losses, after = train(step, range(3, 6)), everything(step)
    assert not np.array_equal(after[seeds[0]], saved[seeds[0]]), "dropout draws"

    other = make_step()
    train(other, [77])
    assert Checkpoints(tmp_path, other).restore() == progress
    assert_equal(everything(other), saved)
    assert train(other, range(3, 6)) == losses
    assert_equal(everything(other), after)


def test_last_and_best_name_steps_and_the_rest_is_swept(make_step, tmp_path):
    step = make_step()
    checkpoints = Checkpoints(tmp_path, step)
    (tmp_path / ".00000001.part").mkdir()  # of a process that was killed while it wrote
    for number in range(1, 6):
        checkpoints.save(Progress(step=number), best=number == 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000002", "00000004", "00000005", "best", "last"]
    assert named(tmp_path, "last").name == "00000005" and named(tmp_path, "best").name == "00000002"
    assert checkpoints.restore().step == 5 and checkpoints.restore("best").step == 2
    assert sorted(path.name for path in (tmp_path / "00000005").iterdir()) == [
        "state.data-00000-of-00001",
        "state.index",
        "state.json",
    ]


def test_best_brings_its_own_values_back(make_step, tmp_path):
    step = make_step()
    checkpoints = Checkpoints(tmp_path, step)
    train(step, [0])
    checkpoints.save(Progress(step=1), best=True)
    best = everything(step)
    train(step, range(1, 4))
    checkpoints.save(Progress(step=4))
    checkpoints.restore("best")
    assert_equal(everything(step), best)


@pytest.mark.parametrize("torn", ["state.data-00000-of-00001", "state.index", "state.json", "gone"])
def test_a_torn_checkpoint_is_passed_over(make_step, tmp_path, torn):
    step = make_step()
    checkpoints = Checkpoints(tmp_path, step)
    train(step, [0])
    checkpoints.save(Progress(step=1))
    first = everything(step)
    train(step, [1])
    checkpoints.save(Progress(step=2))
    if torn == "gone":
        shutil.rmtree(tmp_path / "00000002")
    else:
        cut(tmp_path / "00000002" / torn)
    other = make_step()
    resumed = Checkpoints(tmp_path, other)
    assert resumed.restore().step == 1
    assert_equal(everything(other), first)
    train(other, [1])
    resumed.save(Progress(step=2))
    assert resumed.restore().step == 2, "the torn one is replaced"


def test_without_a_whole_checkpoint_it_says_so(make_step, tmp_path):
    step = make_step()
    checkpoints = Checkpoints(tmp_path, step)
    checkpoints.save(Progress(step=1))
    cut(tmp_path / "00000001" / "state.data-00000-of-00001", 0.0)
    with pytest.raises(DataError, match="no readable checkpoint 'last'; start the run anew in another folder"):
        checkpoints.restore()
    with pytest.raises(DataError, match="no readable checkpoint 'best'"):
        checkpoints.restore("best")


@pytest.mark.parametrize("other", ["wider", "without averages", "another optimizer"])
def test_another_models_checkpoint_is_refused(make_step, tmp_path, other):
    Checkpoints(tmp_path, make_step()).save(Progress(step=1))
    if other == "wider":
        step = make_step(filters=6)
    elif other == "without averages":
        step = make_step(settings=TrainSettings(epochs=1, batch_size=8, lr=0.05))
    else:
        step = make_step(settings=TrainSettings(epochs=1, batch_size=8, lr=0.05, optimizer="adamw", ema=0.9))
    with pytest.raises(DataError, match="00000001 holds the variables of another model"):
        Checkpoints(tmp_path, step).restore()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB, where one may mount it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_and_the_last_good_checkpoint_stays(make_step, small_disk):
    step = make_step()
    checkpoints = Checkpoints(small_disk / "checkpoints", step)
    train(step, [0])
    checkpoints.save(Progress(step=1))
    good = everything(step)
    train(step, [1])
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - 8192)  # two pages are free: for the folder, not for the variables
    with pytest.raises(ResnetTasksError) as error:
        checkpoints.save(Progress(step=2), best=True)
    assert type(error.value) is ResnetTasksError and error.value.exit_code == 1
    assert "the disk is full" in str(error.value) and f"checkpoint is {small_disk}/checkpoints/00000001" in str(
        error.value
    )
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["00000001", "last"]
    assert checkpoints.restore().step == 1
    assert_equal(everything(step), good)
    filler.unlink()
    train(step, [1])
    checkpoints.save(Progress(step=2))
    assert checkpoints.restore().step == 2


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (tf.errors.ResourceExhaustedError(None, None, "x; No space left on device"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
    ],
)
def test_whatever_stops_the_writing_is_said(make_step, tmp_path, monkeypatch, failure, said):
    checkpoints = Checkpoints(tmp_path, make_step())

    def write(path):
        raise failure

    monkeypatch.setattr(checkpoints._checkpoint, "write", write)
    with pytest.raises(ResnetTasksError) as error:
        checkpoints.save(Progress(step=1))
    assert said in str(error.value) and "there is no checkpoint yet" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_finish_marks_the_last_checkpoint(make_step, tmp_path):
    checkpoints = Checkpoints(tmp_path, make_step())
    progress = Progress(step=1)
    checkpoints.save(progress)
    checkpoints.finish(progress)
    assert json.loads((tmp_path / "00000001" / "state.json").read_text()) == asdict(Progress(step=1, finished=True))
    assert checkpoints.restore().finished


def test_a_model_without_the_engine_takes_values_from_a_checkpoint(make_step, tmp_path):
    step = make_step()
    checkpoints = Checkpoints(tmp_path, step)
    train(step, range(3))
    path = checkpoints.save(Progress(step=3))
    plain = model_values(path, step.model, averaged=False)
    averaged = iter(step.average)
    for variable, value, mean in zip(
        step.model.variables, plain, model_values(path, step.model, averaged=True), strict=True
    ):
        np.testing.assert_array_equal(value, variable.value.numpy())
        expected = next(averaged) if variable.dtype == "float32" else variable.value
        np.testing.assert_array_equal(mean, expected.numpy())
    stranger = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="stranger")])
    with pytest.raises(DataError, match="holds no variable .*stranger.*another model"):
        model_values(path, stranger, averaged=False)
