"""A trained model to be used: from a run folder, a `.keras` file or an exported artefact, with one `predict`."""

import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_tasks.data import formats
from resnet_tasks.data.decode import decode_array
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.engine.export import LABELS, Servable
from resnet_tasks.errors import DataError, UsageError
from resnet_tasks.task import Predictor

BATCH = 16  # pictures answered at once
# What of a model stands in an artefact's card.
SAID = ("image_size", "crop_fraction", "threshold", "threshold_from", "alignment", "alignment_template", "flip", "far")


class Answer(dict):
    """A picture's answer as JSON can hold it.

    Attributes:
        nearly: Where no score reaches the threshold: the best of them, and the threshold; else `None`.
    """

    nearly: tuple[float, float] | None = None


class Loaded:
    """A model that answers pictures.

    Attributes:
        task: The task's name.
        labels: The label map it was trained with.
        keras_model: The `keras.Model` inside; `None` of an artefact.
        path: Where it came from.
        predictor: The Keras model's; `None` of an artefact.
        saved: The SavedModel inside; `None` of a Keras model.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        threshold: The score or the similarity from which an answer counts.
        settings: What the model says of its answers: those of `SAID` that it has, as JSON.
        tiled: The task's way to answer a large picture in windows; `None` where it has none.  `(image, size_hw, answer)
            -> answer`, as it is described, where `answer` gives those of an iterator of pictures; or `(image, size_hw,
            scores) -> answers`, a batch of one.
        aligned: The task's way to bring pictures to what the model expects before it answers them; `None` where it has
            none.  `(loaded, named pictures) -> named pictures`.
        scores: Of windows as large as the canvas, `(batch, height, width, 3)` uint8, the scores that `tiled` puts
            together; `None` where that takes answers.
    """

    def __init__(self, task: str, labels: LabelMap, answer: Callable, describe: Callable, keras_model, path: Path):
        self.task, self.labels, self.keras_model, self.path = task, labels, keras_model, Path(path)
        self.predictor: Predictor | None = None
        self.saved: Any = None
        self.image_size: tuple[int, int] = getattr(keras_model, "image_size", (0, 0))
        self.tiled: Any = None
        self.aligned: Any = None
        self.threshold: float = getattr(keras_model, "threshold", 0.5)
        self.settings = _said(lambda name: getattr(keras_model, name, None))
        self.scores: Callable | None = None
        self._answer, self._describe = answer, describe

    @classmethod
    def of_model(cls, task: str, predictor: Predictor, labels: LabelMap, path: Path) -> "Loaded":
        """A Keras model with its predictor."""
        servable = Servable(predictor, labels)
        loaded = cls(task, labels, servable.from_bytes, predictor.describe, predictor.model, path)
        loaded.predictor = predictor
        if servable.scored is not None:
            loaded.scores = lambda images: servable.scored(tf.constant(images))["probabilities"].numpy()
        return loaded

    @classmethod
    def of_artefact(cls, path: Path, describe: Callable) -> "Loaded":
        """A SavedModel folder that `export` wrote; `describe(names, answers, row, threshold)` is its task's."""
        saved = tf.saved_model.load(str(path))
        try:
            card = json.loads((path / "model_card.json").read_text())
            labels = LabelMap.from_json(json.loads((path / "assets" / LABELS).read_text()))
            signature = saved.signatures["serving_default"]
            height, width = card["image_size"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} is a SavedModel, but not one that resnet-tasks exported: {error}") from error
        names = list(labels.names)
        loaded = cls(
            card["task"],
            labels,
            lambda encoded: signature(image_bytes=encoded),
            lambda answers, row, threshold=None: describe(names, answers, row, threshold),
            None,
            path,
        )
        loaded.saved = saved  # its variables live as long as it does
        if "serve_scores" in saved.signatures:
            scored = saved.signatures["serve_scores"]
            loaded.scores = lambda images: scored(images=tf.constant(images))["probabilities"].numpy()
        loaded.image_size = height, width
        loaded.threshold = card.get("threshold", loaded.threshold)
        loaded.settings = _said(card.get)
        return loaded

    def predict(
        self,
        pictures: Iterable | str | Path | bytes | np.ndarray,
        threshold: float | None = None,
        tile: bool = False,
    ) -> list[dict] | Iterator[dict]:
        """Final answers, a dict a picture, in order.

        Args:
            pictures: A path, the bytes of a file, a uint8 RGB array `(height, width, 3)` or a Pillow picture, or
                a list of such; an iterator of such gives an iterator.
            threshold: Answers that score less are left out; by default the model's own choice.
            tile: Answer pictures larger than the model's canvas in windows of its size, and put these together.

        Returns:
            For each picture `file` (its path, or its number) and the task's answers; for one that cannot be read
            `file` and `error`.

        Raises:
            UsageError: `tile`, and the task answers each picture as a whole.
        """
        if tile and self.tiled is None:
            raise UsageError(f"tile: a model of the task {self.task!r} answers each picture as a whole")
        if isinstance(pictures, str | Path | bytes | np.ndarray | Image.Image):
            pictures = [pictures]
        named = ((_name(picture, number), picture) for number, picture in enumerate(pictures))
        if self.aligned is not None:
            named = self.aligned(self, named)
        answers = self._in_windows(named, threshold) if tile else self._stream(named, threshold)
        return answers if isinstance(pictures, Iterator) else list(answers)

    def answer(self, encoded: list[bytes]) -> dict[str, np.ndarray]:
        """The answers for a batch of encoded pictures, as arrays, with `readable`."""
        return {name: value.numpy() for name, value in self._answer(tf.constant(encoded)).items()}

    def _stream(self, named: Iterator[tuple[str, Any]], threshold: float | None) -> Iterator[Answer]:
        """The answers for pairs of a name and a picture, a batch at a time."""
        while chunk := [(name, *_encoded(picture)) for name, picture in itertools.islice(named, BATCH)]:
            answers = self.answer([data for _, data, _ in chunk])
            for row, (name, _, problem) in enumerate(chunk):
                if problem or not answers["readable"][row]:
                    yield Answer(file=name, error=problem or "not a picture that can be read, or damaged")
                else:
                    answer = Answer(file=name, **self._describe(answers, row, threshold))
                    if not answer.get("scores", True) and (best := float(answers["scores"][row].max(initial=0))) > 0:
                        answer.nearly = best, self.threshold if threshold is None else threshold
                    yield answer

    def _in_windows(self, named: Iterator[tuple[str, Any]], threshold: float | None) -> Iterator[dict]:
        """As `_stream`; pictures larger than the canvas go through it in parts, the others as they are."""

        nearly: list[tuple[float, float]] = []  # of the parts of one picture

        def answers_of(parts: Iterable[np.ndarray]) -> Iterator[dict]:
            for answer in self._stream((("", part) for part in parts), threshold):
                if "error" in answer:
                    raise DataError(answer["error"])
                nearly.extend([answer.nearly] if answer.nearly else [])
                yield answer

        sized = ((name, picture, self._if_larger(picture)) for name, picture in named)
        for is_larger, group in itertools.groupby(sized, lambda entry: entry[2] is not None):
            if not is_larger:
                yield from self._stream(((name, picture) for name, picture, _ in group), threshold)
                continue
            for name, _, image in group:
                try:
                    if self.scores is None:
                        nearly.clear()
                        answer = Answer(file=name, **self.tiled(image, self.image_size, answers_of))
                        answer.nearly = None if answer.get("scores", True) else max(nearly, default=None)
                        yield answer
                    else:
                        answers = self.tiled(image, self.image_size, self.scores)
                        yield {"file": name, **self._describe(answers, 0, threshold)}
                except DataError as error:
                    yield {"file": name, "error": str(error)}

    def _if_larger(self, picture) -> np.ndarray | None:
        """The picture's pixels, where one of its sides is longer than the canvas's."""
        try:
            image = decode_array(picture)
        except (UsageError, DataError):
            return None  # what is wrong with it is said where it is answered
        return image if any(side > least for side, least in zip(image.shape, self.image_size)) else None


def _said(ask: Callable) -> dict:
    found = {name: ask(name) for name in SAID}
    return {name: list(value) if name == "image_size" else value for name, value in found.items() if value is not None}


def read_keras(path: Path) -> keras.Model:
    """A `.keras` file.

    Raises:
        DataError: It is none, or one that holds something else.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be loaded as a model of resnet-tasks: {str(error).splitlines()[0]}") from error


def _name(picture, number: int) -> str:
    return str(picture) if isinstance(picture, str | Path) else str(number)


def _encoded(picture) -> tuple[bytes, str | None]:
    """The picture as bytes that the decoder reads, and what is wrong with it, if anything is."""
    try:
        if isinstance(picture, bytes):
            return formats.decodable(picture), None
        if isinstance(picture, str | Path):
            return formats.readable_bytes(picture), None
        return _png(decode_array(picture)), None
    except (UsageError, DataError) as error:
        return b"", str(error)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
