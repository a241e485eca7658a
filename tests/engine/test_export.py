"""The artefact: served by TensorFlow alone, equal to `predict`, and never replaced by one that disagrees."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import resnet_tasks
from resnet_tasks.cli.main import main
from resnet_tasks.engine import export
from resnet_tasks.errors import UsageError

ALONE = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("resnet_tasks", "tiny_backbone"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
sys.modules["keras"] = None  # not by the finder: TensorFlow asks it where Keras would lie, and bears no error
import numpy as np, tensorflow as tf
saved, asked, answered = sys.argv[1:]
signatures = tf.saved_model.load(saved).signatures
asked, answers = np.load(asked, allow_pickle=True), {}
for name in asked.files:
    given = asked[name]
    if name.startswith("bytes"):
        got = signatures["serving_default"](image_bytes=tf.constant(given.tolist()))
    else:
        got = signatures["serve_images"](images=tf.constant(given))
    arrays = {output: value.numpy() for output, value in got.items()}
    answers |= {f"{name}/{output}": a.astype("S") if a.dtype == object else a for output, a in arrays.items()}
np.savez(answered, **answers)
"""
MIDDLE = 2  # where the broken picture stands


def encoded(image: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def images() -> list[np.ndarray]:
    """Smooth pictures of several sizes: their answers differ."""
    draw, made = np.random.default_rng(5), []
    for height, width in ((40, 33), (97, 131), (12, 10), (200, 31), (33, 40)):
        coarse = Image.fromarray(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        made.append(np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)))
    return made


def files() -> list[bytes]:
    """The pictures in five formats; the JPEG lies on its side, as its EXIF says."""
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [
        ("JPEG", {"exif": turned, "quality": 95}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
    ]
    return [encoded(image, kind, **options) for image, (kind, options) in zip(images(), kinds)]


@pytest.fixture(scope="module")
def served(digits_artefact, tmp_path_factory):
    """What a process without this package and without Keras was answered, by `request/output`."""
    folder, five = tmp_path_factory.mktemp("alone"), files()
    broken = [*five[:MIDDLE], five[0][: len(five[0]) // 3], *five[MIDDLE:], b"words", b""]
    small, large = images()[2], images()[1]
    asked = {
        "bytes_one": np.array(five[:1], object),
        "bytes_five": np.array(five, object),
        "bytes_broken": np.array(broken, object),
        "images_one": large[None],
        "images_three": np.stack([small, 255 - small, small[::-1]]),
    }
    np.savez(folder / "asked.npz", **asked)
    names = [digits_artefact, folder / "asked.npz", folder / "answered.npz"]
    done = subprocess.run([sys.executable, "-c", ALONE, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "answered.npz", allow_pickle=True)


def probabilities(answers: list[dict]) -> np.ndarray:
    return np.array([answer["probabilities"] for answer in answers])


def test_bytes_of_any_size_and_format_are_answered_as_predict_does(served, digits_model):
    expected = digits_model.predict(files())
    assert probabilities(expected).std(axis=0).max() > 0.05  # the pictures are told apart
    np.testing.assert_allclose(served["bytes_five/probabilities"], probabilities(expected), atol=1e-5)
    assert served["bytes_five/label_ids"].tolist() == [answer["label_ids"] for answer in expected]
    names = [[name.decode() for name in row] for row in served["bytes_five/label_names"]]
    assert names == [answer["label_names"] for answer in expected]
    assert served["bytes_five/readable"].tolist() == [True] * 5
    assert served["bytes_five/label_ids"].shape == (5, 5)


def test_a_batch_of_one_answers_as_in_a_batch_of_five(served):
    assert served["bytes_one/probabilities"].shape == (1, 10)
    np.testing.assert_allclose(served["bytes_one/probabilities"], served["bytes_five/probabilities"][:1], atol=1e-6)


def test_a_broken_picture_costs_no_other_its_answer(served):
    readable = np.array([True, True, False, True, True, True, False, False])
    assert served["bytes_broken/readable"].tolist() == readable.tolist()
    got = served["bytes_broken/probabilities"]
    np.testing.assert_allclose(got[readable], served["bytes_five/probabilities"], atol=1e-6)
    assert (got[~readable] == 0).all()
    assert (served["bytes_broken/label_ids"][~readable] == -1).all()
    assert (served["bytes_broken/label_names"][~readable] == b"").all()
    assert (served["bytes_broken/label_names"][readable] == served["bytes_five/label_names"]).all()


def test_pixels_of_two_sizes_are_answered_as_predict_does(served, digits_model):
    small, large = images()[2], images()[1]
    three = digits_model.predict([small, 255 - small, np.ascontiguousarray(small[::-1])])
    np.testing.assert_allclose(served["images_three/probabilities"], probabilities(three), atol=1e-5)
    np.testing.assert_allclose(
        served["images_one/probabilities"], probabilities(digits_model.predict(large)), atol=1e-5
    )
    assert served["images_one/label_ids"].shape == (1, 5)
    assert "images_one/label_names" not in served.files


def test_labels_card_and_parity_lie_with_the_artefact(digits_artefact, digits_run):
    digits = [str(digit) for digit in range(10)]
    assert json.loads((digits_artefact / "assets" / "labels.json").read_text())["names"] == digits
    card = json.loads((digits_artefact / "model_card.json").read_text())
    assert (card["task"], card["classes"], card["image_size"]) == ("classify", 10, [10, 12])
    metrics = json.loads((digits_run / "evaluation" / "test" / "metrics.json").read_text())
    assert card["evaluation"]["test"]["top1"] == metrics["top1"]
    assert card["dataset"]["splits"]["train"] > 1000
    parity = json.loads((digits_artefact / "parity.json").read_text())
    assert parity["agrees"] is True
    assert parity["images"] == 16
    assert 0 <= parity["largest_difference"] == max(parity["differences"].values()) <= 1e-5
    assert parity["differences"].keys() == {"probabilities", "readable"}


def test_it_lies_as_tensorflow_serving_wants_it(digits_artefact, digits_run):
    assert digits_artefact == digits_run / "export" / "saved_model" / "1"
    assert (digits_artefact / "saved_model.pb").is_file()
    assert digits_artefact.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in digits_artefact.parent.iterdir()] == ["1"]  # nothing left of its making


def test_signatures_are_those_of_the_interface(digits_artefact):
    signatures = tf.saved_model.load(str(digits_artefact)).signatures
    (text,), (pixels,) = (
        signatures[name].structured_input_signature[1].items() for name in ("serving_default", "serve_images")
    )
    assert (text[0], text[1].dtype, text[1].shape.as_list()) == ("image_bytes", tf.string, [None])
    assert (pixels[0], pixels[1].dtype, pixels[1].shape.as_list()) == ("images", tf.uint8, [None, None, None, 3])
    outputs = signatures["serving_default"].structured_outputs
    assert outputs.keys() == {"probabilities", "label_ids", "label_names", "readable"}
    assert signatures["serve_images"].structured_outputs.keys() == {"probabilities", "label_ids"}
    assert (outputs["probabilities"].dtype, outputs["label_ids"].dtype) == (tf.float32, tf.int32)


@pytest.fixture
def changed_weights(monkeypatch):
    """The model is another one when it is compared: its first class is answered more often than the artefact's."""
    real = export.compare

    def compare(servable, saved, pictures):
        bias = servable.model_weights[-1]
        bias.assign(bias + np.eye(10, dtype=np.float32)[0])
        return real(servable, saved, pictures)

    monkeypatch.setattr(export, "compare", compare)


def test_an_artefact_that_disagrees_never_replaces_one_that_agrees(digits_run, tmp_path, changed_weights, capsys):
    output = tmp_path / "saved"
    output.mkdir()
    (output / "saved_model.pb").write_bytes(b"the one before")
    assert main(["classify", "export", str(digits_run), "--output", str(output)]) == 4
    said = capsys.readouterr().err
    assert "differ from the model's" in said and "saved.disagrees" in said
    assert (output / "saved_model.pb").read_bytes() == b"the one before"
    parity = json.loads((tmp_path / "saved.disagrees" / "parity.json").read_text())
    assert parity["agrees"] is False
    assert parity["largest_difference"] > 0.01
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "saved.disagrees"]


def test_an_artefact_that_agrees_replaces_the_one_before(digits_run, tmp_path):
    output = tmp_path / "saved"
    output.mkdir()
    (output / "assets.extra").write_text("the one before")
    assert resnet_tasks.export(digits_run / "model.keras", output=output) == output
    assert not (output / "assets.extra").exists()
    assert json.loads((output / "parity.json").read_text())["agrees"]


def test_an_artefact_is_not_exported_again(digits_artefact, capsys):
    assert main(["classify", "export", str(digits_artefact)]) == 2
    assert "is an artefact already" in capsys.readouterr().err


def test_what_is_no_artefact_is_not_replaced(digits_run, tmp_path):
    output = tmp_path / "saved"
    (output / "other_models").mkdir(parents=True)
    (output / "other_models" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="not of an artefact \\(other_models\\)"):
        resnet_tasks.export(digits_run / "model.keras", output=output)
    assert (output / "other_models" / "thesis.txt").read_text() == "precious"
    with pytest.raises(UsageError, match="not of an artefact"):
        resnet_tasks.export(digits_run / "model.keras", output=digits_run)
