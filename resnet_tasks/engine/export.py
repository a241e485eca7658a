"""The artefact: bytes of pictures in, final answers out, with TensorFlow alone.

`Servable` composes a predictor's `prepare` and `answer` into the functions that are exported; `predict` in Python runs
the same composition, so what leaves the house answers as it did inside.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet_tasks.data.decode import decode_or_blank
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.errors import ParityError, UsageError
from resnet_tasks.task import Predictor

TOLERANCE = 1e-4  # of scores, probabilities and embeddings; of the longer side, for boxes
LABELS = "labels.json"
OF_AN_ARTEFACT = frozenset(
    ("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra", "model_card.json", "parity.json")
)


class Servable(tf.Module):
    """A predictor's signatures.

    Args:
        predictor: Of a model with weights.
        labels: For `label_names`, and for `assets/labels.json`.
        assets: A folder that holds labels.json, for an export; `None` in memory.
    """

    def __init__(self, predictor: Predictor, labels: LabelMap, assets: Path | None = None):
        super().__init__(name="resnet_tasks")
        self.predictor = predictor
        self._names = [*labels.names, ""]  # -1 gathers the last
        # No generators, as in a .keras file.
        self.model_weights = [variable.value for variable in predictor.weights]
        if assets is not None:
            self.labels_json = tf.saved_model.Asset(str(assets / LABELS))
        encoded = tf.TensorSpec([None], tf.string, name="image_bytes")
        pixels = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
        self.from_bytes = tf.function(self._from_bytes, input_signature=[encoded], autograph=False)
        self.from_images = tf.function(self._from_images, input_signature=[pixels], autograph=False)
        self.scored = None
        if hasattr(predictor, "scores"):
            windows = tf.TensorSpec([None, *predictor.canvas()["image"].shape], tf.uint8, name="images")
            self.scored = tf.function(self._scored, input_signature=[windows], autograph=False)

    @property
    def signatures(self) -> dict:
        """What is exported; `serve_scores` where the task answers large pictures by their windows' scores."""
        found = {"serving_default": self.from_bytes, "serve_images": self.from_images}
        return found if self.scored is None else {**found, "serve_scores": self.scored}

    def _from_bytes(self, image_bytes):
        """Answers for encoded pictures `[batch]` of any sizes, with `label_names` and `readable`."""

        def canvas(data):
            image, readable = decode_or_blank(data)
            return {**self.predictor.prepare(image), "readable": readable}

        pictures = tf.data.Dataset.from_tensor_slices(image_bytes).map(canvas, num_parallel_calls=os.cpu_count() or 1)
        batch = pictures.batch(tf.size(image_bytes, tf.int64)).get_single_element()
        readable = batch.pop("readable")
        answers = self.predictor.blank(self.predictor.answer(batch), readable)
        if "label_ids" in answers:
            ids = answers["label_ids"]
            places = tf.where(ids < 0, len(self._names) - 1, ids)
            answers["label_names"] = tf.gather(tf.constant(self._names), places)
        return {**answers, "readable": readable}

    def _from_images(self, images):
        """Answers for pictures of one size `[batch, height, width, 3]` uint8."""
        batch = tf.map_fn(self.predictor.prepare, images, fn_output_signature=self.predictor.canvas())
        return self.predictor.answer_alike(batch)

    def _scored(self, images):
        return {"probabilities": self.predictor.scores(images)}


def export_saved_model(
    predictor: Predictor, labels: LabelMap, card: dict, pictures: Sequence[bytes], output: Path
) -> dict:
    """Writes the SavedModel, runs pictures through it and the model, and keeps both beside one another.

    Args:
        predictor: Of the model to export.
        labels: Its label map.
        card: What model_card.json says.
        pictures: Encoded pictures for the comparison.
        output: The version folder; an artefact there is replaced as a whole once the new one is there and agrees.

    Returns:
        What parity.json holds.

    Raises:
        UsageError: `output` holds something else than an artefact; nothing of it is touched.
        ParityError: The artefact and the model disagree; the artefact is kept as `<output>.disagrees`.
    """
    output = Path(output)
    disagreeing = output.with_name(output.name + ".disagrees")
    for folder in (output, disagreeing):
        check_replaceable(folder)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        with tempfile.TemporaryDirectory() as assets:
            (Path(assets) / LABELS).write_text(json.dumps(labels.to_json(), indent=1, ensure_ascii=False))
            servable = Servable(predictor, labels, Path(assets))
            tf.saved_model.save(servable, str(part), signatures=servable.signatures)
            parity = compare(servable, part, pictures)
        (part / "model_card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False))
        (part / "parity.json").write_text(json.dumps(parity, indent=1))
        part.chmod(0o755)  # mkdtemp's 0700 would shut out a server that runs as another user
        final = output if parity["agrees"] else disagreeing
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if not parity["agrees"]:
        raise ParityError(
            f"the artefact's answers differ from the model's by up to {parity['largest_difference']:.2e} on "
            f"{parity['images']} pictures (allowed {TOLERANCE:.0e}); it is kept for inspection in {final}"
        )
    return parity


def check_replaceable(folder: Path) -> None:
    """Raises UsageError unless the folder is absent, empty or an artefact alone."""
    if not folder.exists():
        return
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
    others = [name for name in found if name not in OF_AN_ARTEFACT]
    if others:
        raise UsageError(
            f"{folder} holds what is not of an artefact ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}), "
            "and an artefact's folder is replaced as a whole; name one that is new, empty or an artefact's"
        )


def compare(servable: Servable, saved: Path, pictures: Sequence[bytes]) -> dict:
    """The largest differences between the model's answers and the artefact's, over bytes and over pixels.

    Every picture goes alone and in a batch with the others; both must answer alike.
    """
    loaded = tf.saved_model.load(str(saved))
    by_bytes, by_pixels = loaded.signatures["serving_default"], loaded.signatures["serve_images"]
    encoded = tf.constant(list(pictures))
    model = servable.from_bytes(encoded)
    images = [decode_or_blank(data) for data in encoded]
    sides = np.array([max(image.shape[:2]) for image, _ in images])
    differences: dict[str, float] = {}

    def keep_largest(expected, got, sides) -> None:
        for name, value in servable.predictor.differences(_arrays(expected), _arrays(got), sides).items():
            differences[name] = max(differences.get(name, 0.0), value)

    keep_largest(model, by_bytes(image_bytes=encoded), sides)
    for index, (image, readable) in enumerate(images):
        here = slice(index, index + 1)
        row = {name: value[here] for name, value in model.items()}
        keep_largest(row, by_bytes(image_bytes=encoded[here]), sides[here])
        if readable:
            pixels = image[None]
            keep_largest(servable.from_images(pixels), by_pixels(images=pixels), sides[here])
    largest = max(differences.values(), default=0.0)
    return {
        "images": len(pictures),
        "differences": differences,
        "largest_difference": largest,
        "tolerance": TOLERANCE,
        "agrees": bool(largest <= TOLERANCE),
    }


def _arrays(values: dict) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in values.items()}
