"""The loop on four pictures: it learns them, stops, resumes bit by bit, keeps the best, and says where it diverged."""

import csv
import io
import json
import math
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_tasks.classification.model import Classifier
from resnet_tasks.classification.predictor import ClassificationPredictor
from resnet_tasks.data.batching import Batches
from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.data.geometric import get_flip, resize
from resnet_tasks.data.pictures import Pictures
from resnet_tasks.engine.run_folder import RunFolder, state_of
from resnet_tasks.engine.settings import TrainSettings
from resnet_tasks.engine.strategy import choose_strategy
from resnet_tasks.engine.train import Trainer, averaged
from resnet_tasks.errors import DivergedError, Interrupted
from resnet_tasks.task import Monitor, Task

SETTINGS = TrainSettings(epochs=3, batch_size=4, lr=0.1, schedule="linear", momentum=0.9, ema=0.8, seed=3)
TIMES = ("images_per_second", "data_wait", "seconds", "val_seconds")  # columns that differ from run to run


def split_of(name: str, count: int, seed: int = 0) -> Split:
    """Noise of 8 x 8, around another grey in each of four classes."""
    random, encoded = np.random.default_rng(seed), []
    label = (np.arange(count) % 4).astype(np.int32)
    for value in label:
        buffer = io.BytesIO()
        noise = random.integers(0, 64, (8, 8, 3)) + 60 * value
        Image.fromarray(noise.astype(np.uint8)).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    ids = tuple(f"{name}/{index}.png" for index in range(count))
    return Split(name, ids, encoded=tuple(encoded), annotations={"label": label})


class Greys(Task):
    """Classification with nothing but what the loop asks for.

    `scores` are what evaluations find, instead of the truth.
    """

    name, monitor, labels = "greys", Monitor("top1", "max"), LabelMap(("a", "b", "c", "d"))

    def __init__(
        self,
        pyramid: Callable,
        train: int = 16,
        val: int = 6,
        *,
        times: int = 1,
        dropout: float = 0.0,
        scores: Iterable = (),
        bad: int = -1,
    ):
        self.split = {"train": split_of("train", train), **({"val": split_of("val", val, 1)} if val else {})}
        self.pyramid, self.times, self.dropout, self.bad, self.scores = pyramid, times, dropout, bad, iter(scores)

    @property
    def splits(self):
        return tuple(self.split)

    def batches(self, split, training):
        pictures = Pictures(self.split[split], "ram")
        flip = get_flip()

        def transform(example, key):
            image = tf.cast(resize(example["image"], (8, 8)), tf.float32)
            image += tf.where(example["index"] == self.bad, np.nan, 0.0)
            return flip({**example, "image": image}, key) if training else {**example, "image": image}

        def finish(batch):
            targets = {name: batch[name] for name in ("label", "index", "weight")}
            return (batch["image"] if training else {"image": batch["image"]}), targets

        places = np.repeat(np.arange(len(pictures.split)), self.times) if training else None
        size = 4 if training else 3
        return Batches(self.split[split], pictures, size, transform, finish, training, seed=5, places=places)

    def build(self):
        return Classifier(
            backbone=self.pyramid(), class_names=self.labels.names, image_size=(8, 8), dropout=self.dropout
        )

    def predictor(self, model):
        return ClassificationPredictor(model)

    def measure(self, pairs, split):
        seen, right = [], 0
        for answers, targets in pairs:
            real = targets["weight"] > 0
            seen += list(targets["index"][real])
            right += int(np.sum(answers["label_ids"][real, 0] == targets["label"][real]))
        return {"top1": next(self.scores, right / len(seen)), "images": len(seen), "seen": seen}

    def findings(self, measured, folder): ...

    def draw(self, image, prediction): ...

    def matched(self, source, mapping=None): ...


@pytest.fixture
def trainer_of(tiny_pyramid, tmp_path):
    """`trainer_of(name, settings, devices=..., **task)`: a life of the run in the folder of that name."""
    folders = []

    def make(name: str, settings: TrainSettings = SETTINGS, *, devices: str = "cpu:1", **task) -> Trainer:
        if folders:
            folders.pop().close()
        folders.append(RunFolder(tmp_path / name, resume=True))
        strategy, _ = choose_strategy("auto", devices)
        return Trainer(Greys(tiny_pyramid, **task), settings, folders[-1], strategy)

    yield make
    folders.pop().close()


def before_step(trainer: Trainer, number: int, act: Callable) -> None:
    """Lets `act` happen just before step `number`, the first being 1, each time it is come to."""
    run = trainer.step.run

    def hooked(*arguments):
        if trainer.progress.step + 1 == number:
            act()
        return run(*arguments)

    trainer.step.run = hooked


def rows(trainer: Trainer) -> list[dict]:
    with (trainer.folder.path / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def lines(trainer: Trainer) -> list[dict]:
    text = (trainer.folder.path / "metrics.jsonl").read_text()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in text.splitlines()]


def last_values(trainer: Trainer) -> dict[str, np.ndarray]:
    """Everything in the last checkpoint."""
    reader = tf.train.load_checkpoint(str(trainer.checkpoints.named("last") / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    return {name: reader.get_tensor(name) for name in names}


def assert_same_run(got: Trainer, expected: Trainer) -> None:
    values, wanted = last_values(got), last_values(expected)
    assert values.keys() == wanted.keys() and len(wanted) == 38
    for name, value in wanted.items():
        np.testing.assert_array_equal(values[name], value, err_msg=name)
    assert rows(got) == rows(expected)
    saved, other = (keras.models.load_model(t.folder.path / "model.keras", compile=False) for t in (got, expected))
    for one, two in zip(saved.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy(), err_msg=one.path)


def test_it_learns_four_pictures_by_heart(trainer_of):
    trainer = trainer_of("run", replace(SETTINGS, lr=0.05, ema=0.0, log_every=40), train=4, val=0, times=60)
    trainer.run()
    table = rows(trainer)
    assert [(row["epoch"], row["step"]) for row in table] == [("1", "60"), ("2", "120"), ("3", "180")]
    assert [line["step"] for line in lines(trainer)] == [40, 60, 80, 120, 160, 180]
    assert float(table[-1]["loss"]) < 0.7 * float(table[0]["loss"])
    assert [float(row["lr"]) for row in table] == pytest.approx([0.05 * (1 - step / 180) for step in (59, 119, 179)])
    assert state_of(trainer.folder.path) == "finished" and trainer.checkpoints.named("best") is None
    model = keras.models.load_model(trainer.folder.path / "model.keras", compile=False)
    pictures = [image for image, _ in trainer.batches.pictures.all().as_numpy_iterator()]
    answers = model.predict(np.stack(pictures).astype("float32"), verbose=0)
    np.testing.assert_array_equal(answers.argmax(1), trainer.batches.split.annotations["label"])
    for variable, kept in zip(trainer.model.weights, model.weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), kept.numpy(), err_msg="without a val split: the last state")
    assert trainer.step.run.experimental_get_tracing_count() == 1


@pytest.fixture(scope="module")
def uninterrupted(tiny_pyramid, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "uninterrupted")
    settings, strategy = replace(SETTINGS, log_every=3), tf.distribute.get_strategy()
    trainer = Trainer(Greys(tiny_pyramid, dropout=0.3), settings, folder, strategy)
    trainer.run()
    folder.close()
    return trainer


@pytest.mark.parametrize("step", [6, 8])
def test_a_run_stopped_by_a_signal_goes_on_bit_by_bit(trainer_of, uninterrupted, step):
    """Three epochs of four steps; SIGTERM within an epoch, and in its last step."""
    settings = replace(SETTINGS, log_every=3)
    handler = signal.getsignal(signal.SIGTERM)
    first = trainer_of("resumed", settings, dropout=0.3)
    before_step(first, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as stop:
        first.run()
    assert stop.value.exit_code == 6
    assert f"stopped by SIGTERM after step {step} of 12" in str(stop.value) and "--resume" in str(stop.value)
    assert first.checkpoints.named("last").name == f"{step:08d}"
    assert signal.getsignal(signal.SIGTERM) is handler
    assert state_of(first.folder.path) == "unfinished" and not (first.folder.path / "model.keras").exists()
    second = trainer_of("resumed", settings, dropout=0.3)
    assert second.progress.step == step and second.progress.seconds > 0
    second.run()
    assert_same_run(second, uninterrupted)
    kept = [line for line in lines(second) if line["step"] != 6 or step != 6]  # the stop itself is logged
    assert kept == [line for line in lines(uninterrupted) if line["step"] != 6 or step != 6]


def test_a_run_that_died_goes_on_from_its_last_checkpoint(trainer_of, uninterrupted):
    """It dies in step 7, after the row of epoch 1 and a line of step 6; what followed the checkpoint is cut."""
    settings = replace(SETTINGS, log_every=3)
    first = trainer_of("died", settings, dropout=0.3)

    def die():
        raise MemoryError("as if killed")

    before_step(first, 7, die)
    with pytest.raises(MemoryError):
        first.run()
    assert first.checkpoints.named("last").name == "00000004"
    assert [line["step"] for line in lines(first)] == [3, 4, 6]
    (first.folder.path / "metrics.jsonl").open("a").write('{"step": 7, "lo')
    second = trainer_of("died", settings, dropout=0.3)
    second.run()
    assert_same_run(second, uninterrupted)
    assert lines(second) == lines(uninterrupted)


def test_several_steps_in_one_execution_change_nothing(trainer_of, uninterrupted):
    """Of four steps an epoch, three and then one; one trace serves both."""
    trainer = trainer_of("run", replace(SETTINGS, log_every=3, steps_per_execution=3), dropout=0.3)
    trainer.run()
    assert_same_run(trainer, uninterrupted)
    assert [line["step"] for line in lines(trainer)] == [3, 4, 7, 8, 11, 12]
    assert trainer.step._several.experimental_get_tracing_count() == 1


def test_several_steps_in_one_execution_over_two_replicas(trainer_of):
    settings = replace(SETTINGS, epochs=1, freeze_norms=True)
    one = trainer_of("one", settings)
    two = trainer_of("two", replace(settings, steps_per_execution=4), devices="cpu:2")
    one.run()
    two.run()
    for name, value in last_values(one).items():
        np.testing.assert_allclose(last_values(two)[name], value, atol=1e-5, err_msg=name)


def test_checkpoints_are_written_within_an_epoch(trainer_of):
    trainer = trainer_of("run", replace(SETTINGS, checkpoint_minutes=0.0, epochs=2), val=0)
    seen = []
    save = trainer.checkpoints.save
    trainer.checkpoints.save = lambda progress, best=False: (seen.append(progress.step), save(progress, best))
    trainer.run()
    assert seen == list(range(1, 9))


def test_every_picture_of_val_counts_once_and_nothing_is_traced_anew(trainer_of):
    trainer = trainer_of("run", replace(SETTINGS, epochs=1))
    measured = trainer.evaluator.run()
    assert measured["seen"] == list(range(6)) and measured["split"] == "val" and measured["seconds"] > 0
    trainer.run()
    counts = [
        trainer.step.run.experimental_get_tracing_count(),
        trainer.evaluator._answer.experimental_get_tracing_count(),
    ]
    for _ in range(2):
        trainer.evaluator.run()
    after = [
        trainer.step.run.experimental_get_tracing_count(),
        trainer.evaluator._answer.experimental_get_tracing_count(),
    ]
    assert counts == after == [1, 1]


def test_two_replicas_train_and_evaluate_as_one(trainer_of):
    """In float32 with synchronised norms: the first epochs' losses agree; val's 5 pictures divide by nothing."""
    settings = replace(SETTINGS, epochs=2, sync_norms=True)
    one = trainer_of("one", settings, val=5)
    one.run()
    two = trainer_of("two", settings, devices="cpu:2", val=5)
    two.run()
    for row, other in zip(rows(two), rows(one), strict=True):
        assert row["val_images"] == other["val_images"] == "5"
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), abs=1e-3)
        assert row["val_top1"] == other["val_top1"] and row["lr"] == other["lr"]
    assert two.evaluator.run()["seen"] == list(range(5))


def test_replicas_evaluate_the_model_that_is_saved(trainer_of):
    """Without synchronisation every replica has statistics of its own; only the first one's reach a file."""
    two = trainer_of("two", replace(SETTINGS, epochs=1, ema=0.0), devices="cpu:2")
    statistics = [variable.value for variable in two.model.variables if "moving" in variable.path]
    apart, evaluate = [], two.evaluator.run

    def differ():
        return [not np.array_equal(*(part.numpy() for part in variable.values)) for variable in statistics]

    def watched():
        apart.append(differ())
        return evaluate()

    two.evaluator.run = watched
    before_step(two, 3, lambda: apart.append(differ()))
    two.run()
    assert apart == [[True] * 4, [False] * 4], "in training, in evaluation"


def test_early_stopping_counts_evaluations_without_a_better_one(trainer_of):
    trainer = trainer_of("run", replace(SETTINGS, epochs=10, early_stopping=2), scores=[0.5, 0.6, 0.6, 0.55, 0.9])
    trainer.run()
    assert [row["val_top1"] for row in rows(trainer)] == ["0.5", "0.6", "0.6", "0.55"]
    assert trainer.checkpoints.named("best").name == "00000008"
    assert trainer.progress.best == 0.6 and trainer.progress.best_epoch == 2 and trainer.progress.patience == 2
    assert state_of(trainer.folder.path) == "finished"


def test_the_best_state_outlives_a_resume_and_is_what_is_saved(trainer_of):
    """Epochs score 0.5, 0.9, (stopped) 0.6, 0.9: the second one stays the best, an equal one is not better."""
    settings = replace(SETTINGS, epochs=4)
    first = trainer_of("run", settings, scores=[0.5, 0.9])
    before_step(first, 9, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match="SIGINT"):
        first.run()
    assert first.checkpoints.named("best").name == "00000008"
    second = trainer_of("run", settings, scores=[0.6, 0.9])
    assert second.progress.best == 0.9 and second.progress.best_epoch == 2
    second.run()
    assert [row["val_top1"] for row in rows(second)] == ["0.5", "0.9", "0.6", "0.9"]
    assert second.checkpoints.named("best").name == "00000008" and second.checkpoints.named("last").name == "00000016"
    reader = tf.train.load_checkpoint(str(second.checkpoints.named("best") / "state"))
    model = keras.models.load_model(second.folder.path / "model.keras", compile=False)
    for variable in (v for v in model.variables if v.dtype == "float32"):
        average = reader.get_tensor(f"average/{variable.path.replace('/', '|')}/.ATTRIBUTES/VARIABLE_VALUE")
        np.testing.assert_array_equal(variable.numpy(), average, err_msg=variable.path)


def test_averages_come_and_go_bit_by_bit(trainer_of):
    trainer = trainer_of("run", replace(SETTINGS, epochs=1), val=0)
    trainer.run()
    before = [variable.value.numpy() for variable in trainer.step.averaged]
    with averaged(trainer.step):
        for variable, average in zip(trainer.step.averaged, trainer.step.average, strict=True):
            np.testing.assert_array_equal(variable.value.numpy(), average.numpy())
    for variable, value, average in zip(trainer.step.averaged, before, trainer.step.average):
        np.testing.assert_array_equal(variable.value.numpy(), value)
        assert not np.array_equal(value, average.numpy())


@pytest.mark.parametrize("log_every", [1, 50])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_files(trainer_of, log_every):
    """The picture is found whenever the losses are read: the weights have not moved since."""
    trainer = trainer_of("run", replace(SETTINGS, log_every=log_every), bad=9)
    plain = trainer_of("plain", SETTINGS)
    batches = [plain.batches.ids(targets["index"]) for _, targets in plain.batches.stream().take(4).as_numpy_iterator()]
    number = next(number for number, names in enumerate(batches) if "train/9.png" in names)
    with pytest.raises(DivergedError) as error:
        trainer.run()
    assert error.value.exit_code == 5
    assert f"not finite in step {number + 1} (learning rate" in str(error.value)
    report = json.loads((trainer.folder.path / "nan_report.json").read_text())
    assert report["step"] == number + 1 and report["epoch"] == 1 and report["files"] == batches[number]
    assert report["gradient_norm"] == "nan"  # a ReLU may keep it from the loss
    assert report["learning_rate"] == pytest.approx(0.1 * (1 - number / 12))
    assert len(report["norms"]) == 8 and all(math.isfinite(float(norm)) for norm in report["norms"].values())
    assert trainer.checkpoints.named("last") is None


def poison(trainer: Trainer, step: int, times: int) -> None:
    """Makes the loss of a step not finite, for the first `times` that it is come to."""
    run, left = trainer.step.run, iter(range(times))

    def hooked(*arguments):
        outcome = run(*arguments)
        if trainer.progress.step + 1 == step and next(left, None) is not None:
            return outcome._replace(losses={"loss": tf.constant(math.nan)}, finite=tf.constant(False))
        return outcome

    trainer.step.run = hooked


def test_a_rollback_goes_on_with_half_the_rate(trainer_of):
    settings = replace(SETTINGS, schedule="constant", on_nan="rollback", log_every=1)
    trainer = trainer_of("run", settings)
    poison(trainer, 6, times=2)
    trainer.run()
    assert trainer.progress.rollbacks == 2 and trainer.progress.lr_scale == 0.25 and trainer.progress.step == 12
    assert [float(row["lr"]) for row in rows(trainer)] == [0.1, 0.025, 0.025]
    assert [line["step"] for line in lines(trainer)] == list(range(1, 13))
    assert [line["lr"] for line in lines(trainer)] == [0.1] * 4 + [0.025] * 8
    assert json.loads((trainer.folder.path / "nan_report.json").read_text())["step"] == 6
    assert state_of(trainer.folder.path) == "finished"


def test_rollbacks_end(trainer_of):
    trainer = trainer_of("run", replace(SETTINGS, on_nan="rollback"))
    poison(trainer, 6, times=99)
    with pytest.raises(DivergedError, match="not finite in step 6"):
        trainer.run()
    assert trainer.progress.rollbacks == 3


def test_without_a_checkpoint_there_is_nothing_to_roll_back_to(trainer_of):
    trainer = trainer_of("run", replace(SETTINGS, on_nan="rollback", log_every=1))
    poison(trainer, 2, times=1)
    with pytest.raises(DivergedError, match="not finite in step 2"):
        trainer.run()
