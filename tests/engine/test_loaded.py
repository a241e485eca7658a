"""`load` and `predict`: whatever a picture comes as, one answer; and what is wrong with one is said of that one."""

import io
import itertools
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import resnet_tasks
from resnet_tasks.errors import DataError, UsageError


def picture(seed: int = 0, height: int = 30, width: int = 40) -> np.ndarray:
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def scores(answers) -> np.ndarray:
    return np.array([answer["probabilities"] for answer in answers])


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "one.png"
    Image.fromarray(picture()).save(path)
    return path


def test_path_bytes_array_and_pillow_give_one_answer(digits_model, file):
    kinds = [file, str(file), file.read_bytes(), picture(), Image.fromarray(picture())]
    answers = digits_model.predict(kinds)
    assert (scores(answers) == scores(answers)[0]).all()
    assert [answer["file"] for answer in answers] == [str(file), str(file), "2", "3", "4"]
    assert scores(answers)[0].sum() == pytest.approx(1, abs=1e-6)
    best = np.argsort(-scores(answers)[0])[:5].tolist()
    assert answers[0]["label_ids"] == best
    assert answers[0]["label_names"] == [str(digit) for digit in best]
    for kind in kinds:  # each alone is a list of one
        (answer,) = digits_model.predict(kind)
        np.testing.assert_allclose(answer["probabilities"], scores(answers)[0], atol=1e-6)


def test_formats_that_tensorflow_cannot_read_come_by_pillow(digits_model, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.tiff")
    Image.fromarray(picture()).save(tmp_path / "a.ppm")
    answers = digits_model.predict([picture(), tmp_path / "a.tiff", tmp_path / "a.ppm"])
    assert (scores(answers) == scores(answers)[0]).all()


def test_what_cannot_be_answered_has_an_error_and_the_others_their_answers(digits_model, file, tmp_path):
    (tmp_path / "words.jpg").write_text("not a picture")
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(stream.getvalue()[:300])
    floats = np.zeros((8, 8, 3), np.float32)
    asked = [file, tmp_path / "none.jpg", tmp_path / "words.jpg", tmp_path, tmp_path / "cut.jpg", floats, picture(1)]
    answers = digits_model.predict(asked)
    assert ["error" in answer for answer in answers] == [False, True, True, True, True, True, False]
    assert all(answer.keys() == {"file", "error"} for answer in answers if "error" in answer)
    for answer, why in zip(answers[1:6], ["does not exist", "not a picture", "directory", "damaged", "uint8"]):
        assert why in answer["error"]
    assert answers[1]["file"] == str(tmp_path / "none.jpg")
    np.testing.assert_allclose(
        scores([answers[0], answers[6]]), scores(digits_model.predict([file, picture(1)])), atol=1e-6
    )


def test_many_pictures_are_answered_in_their_order(digits_model):
    pictures = [picture(seed, 20 + seed, 30) for seed in range(37)]
    answers = digits_model.predict(pictures)
    assert [answer["file"] for answer in answers] == [str(number) for number in range(37)]
    for number in (0, 15, 16, 36):
        np.testing.assert_allclose(
            scores(answers)[number], scores(digits_model.predict(pictures[number]))[0], atol=1e-6
        )


def test_an_iterator_is_answered_while_it_goes(digits_model):
    taken = []

    def endless():
        for seed in itertools.count():
            taken.append(seed)
            yield picture(seed)

    answers = digits_model.predict(endless())
    assert taken == []
    first = list(itertools.islice(answers, 3))
    assert len(taken) < 100
    np.testing.assert_allclose(
        scores(first), scores(digits_model.predict([picture(seed) for seed in range(3)])), atol=1e-6
    )
    assert digits_model.predict([]) == []


def test_run_keras_file_and_artefact_answer_alike(digits_run, digits_artefact, digits_model):
    pictures = [picture(seed) for seed in range(4)]
    expected = scores(digits_model.predict(pictures))
    for path in (digits_run / "model.keras", digits_artefact, digits_artefact.parent, digits_run):
        opened = resnet_tasks.load(path)
        np.testing.assert_allclose(scores(opened.predict(pictures)), expected, atol=1e-5)
        assert opened.task == "classify"
        assert opened.labels == digits_model.labels
        assert (opened.keras_model is None) == ("export" in path.parts)


def test_the_keras_model_inside_is_an_ordinary_one(digits_model):
    assert isinstance(digits_model.keras_model, keras.Model)
    assert digits_model.keras_model(np.zeros((2, 10, 12, 3), np.float32)).shape == (2, 10)


def test_an_artefact_opens_where_it_was_moved_to(digits_artefact, digits_model, tmp_path):
    moved = tmp_path / "served" / "7"
    shutil.copytree(digits_artefact, moved)
    np.testing.assert_allclose(
        scores(resnet_tasks.load(moved.parent).predict(picture())), scores(digits_model.predict(picture())), atol=1e-5
    )


def test_the_highest_version_is_opened(digits_artefact, tmp_path):
    for version in ("9", "10"):
        shutil.copytree(digits_artefact, tmp_path / version)
    assert resnet_tasks.load(tmp_path).path == tmp_path / "10"


def test_what_is_no_model_is_refused_with_the_reason(digits_run, digits_artefact, tmp_path):
    with pytest.raises(UsageError, match=r"none: there is no such run folder, \.keras file or SavedModel"):
        resnet_tasks.load(tmp_path / "none")
    with pytest.raises(UsageError, match="expected a run folder"):
        resnet_tasks.load(tmp_path)
    (tmp_path / "words.keras").write_text("not a model")
    with pytest.raises(DataError, match=r"words\.keras cannot be loaded as a model"):
        resnet_tasks.load(tmp_path / "words.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(DataError, match="holds a Sequential, which is no task's model"):
        resnet_tasks.load(tmp_path / "other.keras")
    whole = (digits_run / "model.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.keras cannot be loaded"):
        resnet_tasks.load(tmp_path / "cut.keras")
    foreign = tmp_path / "foreign"
    shutil.copytree(digits_artefact, foreign)
    (foreign / "model_card.json").unlink()
    with pytest.raises(DataError, match=r"not one of resnet-tasks: model_card\.json is missing"):
        resnet_tasks.load(foreign)


def test_a_checkpoint_is_asked_of_a_run_only(digits_run, digits_artefact):
    with pytest.raises(UsageError, match="expected last or best, got 'newest'"):
        resnet_tasks.load(digits_run, checkpoint="newest")
    for path in (digits_run / "model.keras", digits_artefact):
        with pytest.raises(UsageError, match="has no checkpoints; name its run folder"):
            resnet_tasks.load(path, checkpoint="last")
