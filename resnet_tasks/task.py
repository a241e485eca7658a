"""`Task`: what the engine asks of a task.

The engine knows no labels, boxes or masks.  It asks a task for batches and a model, trains, lets the task measure
predictions, and keeps the state that was best by the task's monitor.
"""

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_tasks.data.batching import Batches
from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.errors import UsageError
from resnet_tasks.model import TaskModel
from resnet_tasks.weights.transfer import Transfer, TransferReport


@dataclass(frozen=True)
class Monitor:
    """The metric that decides which state of a run is the best one."""

    metric: str
    direction: str = "max"

    def better(self, value: float, best: float | None) -> bool:
        """Whether `value` improves on `best`; `None` is worse than any value."""
        if best is None:
            return True
        return value > best if self.direction == "max" else value < best


class Predictor(abc.ABC):
    """From pictures to final answers; a function of the model alone."""

    model: TaskModel

    @property
    def weights(self) -> list:
        """The variables that answers depend on, which an artefact carries."""
        return self.model.weights

    @abc.abstractmethod
    def prepare(self, image) -> dict:
        """One picture, `(height, width, 3)` uint8 RGB, as a canvas of fixed size and how to come back from it."""

    @abc.abstractmethod
    def canvas(self) -> dict:
        """The specification (`tf.TensorSpec`) of what `prepare` returns."""

    @abc.abstractmethod
    def answer(self, batch: dict) -> dict:
        """Final answers `{name: (batch, ...)}` for a batch of prepared pictures, in the picture's own pixels.

        An answer never depends on the other pictures of its batch.
        """

    def answer_alike(self, batch: dict) -> dict:
        """As `answer`, for pictures that are all of one size, where that allows a plainer form."""
        return self.answer(batch)

    @abc.abstractmethod
    def blank(self, answers: dict, readable) -> dict:
        """The answers, with zeros, -1 or empty text in the rows of pictures that could not be read."""

    @abc.abstractmethod
    def describe(self, answers: dict, row: int, threshold: float | None = None) -> dict:
        """One row of the answers as JSON can hold it, under the names of the interface.

        Args:
            answers: Of a batch, as arrays.
            row: Which picture.
            threshold: What scores less is left out; by default the model's own choice.
        """

    def differences(self, expected: dict, got: dict, sides: np.ndarray) -> dict[str, float]:
        """By output, how far two answers for the same pictures, as arrays, are apart.

        Args:
            expected: Answers.
            got: The others.
            sides: `(batch,)`, the longer side of each picture in pixels.
        """
        return largest_difference(expected, got)


def largest_difference(expected: dict, got: dict) -> dict[str, float]:
    """By output, the largest absolute difference of floats; 1.0 for a `readable` that differs.

    Ids and names are left out: they follow from the floats, and may swap where two of these are equal.
    """
    found = {}
    for name, value in expected.items():
        a, b = np.asarray(value), np.asarray(got[name])
        if a.dtype.kind == "f":
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
            found[name] = float(np.max(gap, initial=0.0)) if np.isfinite(b).all() else float("inf")
        elif name == "readable":
            found[name] = float(np.any(a != b))
    return found


class Task(abc.ABC):
    """What tells one task from another, for the engine."""

    name: str
    monitor: Monitor
    labels: LabelMap
    transfer: Transfer | None = None  # the weights that `build` starts a new run's backbone from
    transfer_report: TransferReport | None = None  # what `build` has loaded of them
    details: tuple[str, ...] = ()  # what `measure` returns for `findings` and not for metrics.json
    settles: bool = False  # whether `settle` takes something from the validation split into the model
    answers_labels: bool = True  # whether what it answers are its labels, which other data should then have
    settles_on_train: bool = False  # and from the training split, where there is no other

    @property
    @abc.abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that there are, of train, val and test."""

    @abc.abstractmethod
    def batches(self, split: str, training: bool) -> Batches:
        """The split as batches `(images, targets)`: augmented and shuffled in training, else each picture once."""

    @abc.abstractmethod
    def build(self) -> TaskModel:
        """A new network."""

    @abc.abstractmethod
    def predictor(self, model: TaskModel) -> Predictor:
        """What turns this model's outputs into answers."""

    @abc.abstractmethod
    def measure(self, pairs: Iterable[tuple[dict, dict]], split: str) -> dict[str, Any]:
        """Metrics from batches of (answers, targets) as NumPy arrays, in bounded memory.

        Every picture counts once, in order; a row of weight 0 is padding.

        Args:
            pairs: The batches.
            split: The split that they are of.
        """

    def settle(self, model: TaskModel, measured: dict) -> None:
        """Takes what was measured on the validation split (a threshold) into the final model, before it is saved."""
        return

    @abc.abstractmethod
    def findings(self, measured: dict, folder: Path) -> None:
        """Writes the task's own evaluation files (tables, plots) into `folder`."""

    @abc.abstractmethod
    def draw(self, image, prediction: dict):
        """A Pillow picture of the prediction on the image `(height, width, 3)` uint8."""

    def logged(self, measured: dict) -> dict[str, float]:
        """What of the metrics stands in metrics.csv after `val_`, a number each."""
        return {key: value for key, value in measured.items() if isinstance(value, (int, float))}

    def as_trained(self, images: np.ndarray, targets: dict) -> Sequence[np.ndarray] | np.ndarray:
        """Pictures of a training batch `(batch, height, width, 3)` with what is to be learnt, all of one size."""
        return images

    def beside_truth(self, image, prediction: dict, split: str, row: Mapping):
        """A Pillow picture of the prediction and, where there is something to see, of what was annotated.

        Args:
            image: `(height, width, 3)` uint8.
            prediction: As the predictor describes it.
            split: Its split.
            row: What `measure` says of the picture in its `mistakes` or `best`; `index` is its place in the split.
        """
        return self.draw(image, prediction)

    def as_served(self, split: Split, index: int) -> bytes:
        """What an artefact is sent to answer a picture of the split: the bytes of its file, or of another like it."""
        return split.read(index)

    @abc.abstractmethod
    def matched(self, source: Source, mapping: Mapping[str, str] | None = None) -> "Task":
        """This task's settings on other data, whose classes are matched to this one's labels by name.

        Args:
            source: The other data.
            mapping: From a class of the data to one of the labels, or to "ignore".

        Raises:
            DataError: A class of the data that the labels do not hold, and the mapping does not speak of.
        """

    def fit_batches(self, split: str):
        """The split as a `tf.data.Dataset` for `keras.Model.fit`: another epoch at each iteration."""
        if split not in self.splits:
            raise UsageError(f"split: the data have {', '.join(self.splits)}, not {split!r}; name it in `data`")
        return self.batches(split, training=split == "train").epochs()

    def examples(self, split: str) -> Iterator[dict]:
        """The split's pictures one by one as they are read: dicts with `image`, `id` and the annotations."""
        return self.batches(split, training=False).examples()
