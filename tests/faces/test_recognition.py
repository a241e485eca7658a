"""verify, enroll and identify, from files to answers and exit codes, on digits in the place of faces."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import resnet_tasks
from resnet_tasks import recognition
from resnet_tasks.cli.main import main
from resnet_tasks.data.decode import decode_array
from resnet_tasks.data.face_alignment import align, template
from resnet_tasks.data.readers import digits
from resnet_tasks.errors import DataError, UsageError
from resnet_tasks.faces.gallery import Gallery


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs with a tiny network."""
    changes = {
        "model.backbone": "tiny_backbone:backbone",
        "model.image_size": [8, 8],
        "augment.pad_crop": 1,
        "train.epochs": 2,
    }
    folder = tmp_path_factory.mktemp("faces") / "run"
    return resnet_tasks.train("faces", "quickstart/faces_digits", run=folder, set=changes)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """`anna/`, `boris/` and `clara/` with two pictures each: of a 0, a 1 and a 2."""
    folder = tmp_path_factory.mktemp("people")
    split = digits.read().splits["train"]
    for label, name in enumerate(("anna", "boris", "clara")):
        (folder / name).mkdir()
        for number, place in enumerate(np.flatnonzero(split.annotations["label"] == label)[:2]):
            (folder / name / f"{number}.png").write_bytes(split.read(int(place)))
    return folder


def said(capsys, *arguments) -> tuple[int, dict]:
    capsys.readouterr()
    code = main([*map(str, arguments), "--json"])
    lines = capsys.readouterr().out.splitlines()
    return code, json.loads(lines[-1]) if lines else {}


def test_a_picture_is_the_same_as_itself(run, people):
    face = people / "anna" / "0.png"
    answer = recognition.verify(run, face, face)
    assert answer["similarity"] == pytest.approx(1.0, abs=1e-6)
    assert answer["same"] is True
    assert answer["threshold"] == resnet_tasks.load(run).keras_model.threshold


def test_the_similarity_is_the_cosine_of_what_predict_answers(run, people):
    first, second = people / "anna" / "0.png", people / "boris" / "1.png"
    one, other = (np.array(row["embedding"]) for row in resnet_tasks.load(run).predict([str(first), str(second)]))
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)
    answer = recognition.verify(run, first, second)
    assert answer["similarity"] == pytest.approx(float(one @ other), abs=1e-5)
    assert answer["same"] == (answer["similarity"] >= answer["threshold"])


def test_a_checkpoint_opens_without_its_data(run, people):
    face = str(people / "anna" / "0.png")
    last, whole = resnet_tasks.load(run, checkpoint="last"), resnet_tasks.load(run)
    np.testing.assert_allclose(last.predict(face)[0]["embedding"], whole.predict(face)[0]["embedding"], atol=1e-5)


def test_a_threshold_of_ones_own_decides(run, people):
    first, second = people / "anna" / "0.png", people / "boris" / "1.png"
    similarity = recognition.verify(run, first, second)["similarity"]
    assert recognition.verify(run, first, second, threshold=similarity)["same"]
    assert not recognition.verify(run, first, second, threshold=similarity + 1e-6)["same"]


def test_an_artefact_answers_as_its_model(run, people, tmp_path):
    saved = resnet_tasks.export(run, output=tmp_path / "saved")
    pair = people / "anna" / "0.png", people / "clara" / "1.png"
    of_model, of_artefact = recognition.verify(run, *pair), recognition.verify(saved, *pair)
    assert of_artefact["similarity"] == pytest.approx(of_model["similarity"], abs=1e-5)
    assert of_artefact["threshold"] == of_model["threshold"]
    card = json.loads((saved / "model_card.json").read_text())
    # The digits have no validation, and pairs enough of those trained on.
    assert card["threshold_from"] == "far 0.001 on the training identities"
    assert resnet_tasks.load(saved).settings["threshold_from"] == card["threshold_from"]
    recognition.enroll(run, tmp_path / "gallery", people)
    found = recognition.identify(saved, tmp_path / "gallery", [str(pair[0])])
    assert found["pictures"][0]["name"] == "anna"


def test_who_was_enrolled_is_found_and_a_stranger_is_unknown(run, people, tmp_path, capsys):
    gallery = tmp_path / "gallery"
    code, answer = said(capsys, "faces", "enroll", run, gallery, people)
    assert (code, answer["identities"], answer["pictures"]) == (0, 3, 6)
    assert gallery.is_file()
    files = [str(people / name / "1.png") for name in ("anna", "boris", "clara")]
    code, answer = said(capsys, "faces", "identify", run, gallery, *files)
    assert code == 0
    assert [row["name"] for row in answer["pictures"]] == ["anna", "boris", "clara"]
    assert [row["similarity"] for row in answer["pictures"]] == pytest.approx([1, 1, 1], abs=1e-5)
    others = [str(people / name / "0.png") for name in ("anna", "boris", "clara")]
    recognition.enroll(run, gallery, _half(people, tmp_path))
    code, answer = said(capsys, "faces", "identify", run, gallery, *others, "--threshold", "1")
    assert [row["name"] for row in answer["pictures"]] == ["unknown"] * 3


def _half(people, tmp_path):
    """Of each person the second picture alone."""
    shutil.copytree(people, tmp_path / "half", ignore=shutil.ignore_patterns("0.png"))
    return tmp_path / "half"


def test_a_broken_picture_costs_no_other_its_answer(run, people, tmp_path, capsys):
    recognition.enroll(run, tmp_path / "gallery", people)
    (tmp_path / "words.jpg").write_text("words")
    good, bad = str(people / "anna" / "0.png"), str(tmp_path / "words.jpg")
    code, answer = said(capsys, "faces", "identify", run, tmp_path / "gallery", bad, good)
    assert code == 0
    assert answer["pictures"][0]["file"] == bad and "words.jpg" not in answer["pictures"][0]["error"]
    assert answer["pictures"][1]["name"] == "anna"
    assert said(capsys, "faces", "identify", run, tmp_path / "gallery", bad)[0] == 3
    gone = str(tmp_path / "gone.png")
    assert said(capsys, "faces", "identify", run, tmp_path / "gallery", bad, gone)[0] == 3
    assert main(["faces", "identify", str(run), str(tmp_path / "gallery"), gone]) == 2
    assert f"{gone}: there is no such picture" in (err := capsys.readouterr().err) and err.count(gone) == 1


def test_bad_calls_have_their_exit_codes(run, people, tmp_path, capsys):
    face, words = people / "anna" / "0.png", tmp_path / "words.jpg"
    words.write_text("words")
    for code, arguments in (
        (2, ("verify", run, face, tmp_path / "nosuch.jpg")),
        (3, ("verify", run, face, words)),
        (2, ("verify", run, face)),
        (2, ("verify", tmp_path / "norun", face, face)),
        (2, ("identify", run, tmp_path / "nogallery", face)),
        (2, ("enroll", run, tmp_path / "gallery", tmp_path / "nofolder")),
    ):
        assert main(["faces", *map(str, arguments)]) == code
        error = capsys.readouterr().err
        assert error.startswith("error: ") and "Traceback" not in error


def test_a_person_without_a_picture_leaves_no_gallery(run, people, tmp_path):
    (tmp_path / "people" / "anna").mkdir(parents=True)
    (tmp_path / "people" / "anna" / "0.png").write_bytes((people / "anna" / "0.png").read_bytes())
    (tmp_path / "people" / "nobody").mkdir()
    with pytest.raises(DataError, match="nobody"):
        recognition.enroll(run, tmp_path / "gallery", tmp_path / "people")
    assert not (tmp_path / "gallery").exists()
    with pytest.raises(DataError, match="no folder"):
        recognition.enroll(run, tmp_path / "gallery", tmp_path / "people" / "nobody")


def test_a_gallery_of_another_model_is_refused(run, people, tmp_path):
    recognition.enroll(run, tmp_path / "gallery", people)
    changes = {
        "model.backbone": "tiny_backbone:backbone",
        "model.image_size": [8, 8],
        "train.epochs": 1,
        "train.seed": 1,
    }
    other = resnet_tasks.train("faces", "quickstart/faces_digits", run=tmp_path / "other", set=changes)
    with pytest.raises(DataError, match="model"):
        recognition.identify(other, tmp_path / "gallery", [str(people / "anna" / "0.png")])


def test_a_torn_gallery_is_refused(run, people, tmp_path):
    recognition.enroll(run, tmp_path / "gallery", people)
    whole = (tmp_path / "gallery").read_bytes()
    (tmp_path / "gallery").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="gallery"):
        recognition.identify(run, tmp_path / "gallery", [str(people / "anna" / "0.png")])


def test_a_model_of_another_task_is_refused(digits_run, people):
    face = people / "anna" / "0.png"
    with pytest.raises(UsageError, match="classify"):
        recognition.verify(digits_run, face, face)


def test_no_file_is_lost_to_a_gallery(run, people, tmp_path):
    notes, model = tmp_path / "notes.txt", run / "model.keras"
    notes.write_text("precious")
    before = model.read_bytes()
    for place in (notes, model, tmp_path / "nofolder" / "gallery", tmp_path):
        with pytest.raises(UsageError, match="is there and is no gallery|no folder|is a folder"):
            recognition.enroll(run, place, people)
    assert (notes.read_text(), model.read_bytes()) == ("precious", before)
    empty = tmp_path / "empty"
    empty.touch()
    recognition.enroll(run, empty, people)
    recognition.enroll(run, empty, people)  # a gallery is replaced


def test_what_a_gallery_held_is_said_and_kept_where_that_is_asked(run, people, tmp_path, caplog, capsys):
    gallery, half = tmp_path / "gallery", _half(people, tmp_path)
    (half / "anna").rename(half / "dora")
    recognition.enroll(run, gallery, people)
    assert "the gallery of" not in caplog.text
    (half / "boris" / "1.png").rename(half / "boris" / "2.png")
    code, answer = said(capsys, "faces", "enroll", run, gallery, half, "--add")
    assert (code, answer["identities"], answer["pictures"]) == (0, 4, 8)  # clara/1.png is there already
    assert "adds to the gallery of 3 identities, 6 pictures" in caplog.text
    files = sorted(Gallery.load(gallery).files)
    assert files == sorted([*(f"{n}/{i}.png" for n in ("anna", "boris", "clara") for i in (0, 1)), *NEW])
    assert recognition.enroll(run, gallery, half)["pictures"] == 3
    assert "replaces the gallery of 4 identities, 8 pictures" in caplog.text
    before, loaded = gallery.read_bytes(), resnet_tasks.load(run)
    loaded.settings["flip"] = not loaded.settings["flip"]
    with pytest.raises(DataError, match="another model"):
        recognition.enroll(loaded, gallery, people, add=True)
    assert gallery.read_bytes() == before
    assert recognition.enroll(run, tmp_path / "new", people, add=True)["pictures"] == 6


NEW = ["boris/2.png", "dora/1.png"]


def test_people_are_found_as_in_training(run, people, tmp_path, caplog):
    folder = tmp_path / "people"
    shutil.copytree(people, folder)
    (folder / "__MACOSX").mkdir()
    shutil.copy(folder / "anna" / "0.png", folder / "loose.png")
    assert recognition.enroll(run, tmp_path / "gallery", folder)["identities"] == 3
    assert "left out, in no person's folder: 1 pictures" in caplog.text
    shutil.copytree(people, tmp_path / "set" / "train")
    shutil.copytree(people, tmp_path / "set" / "test")
    with pytest.raises(DataError, match="holds splits, not people"):
        recognition.enroll(run, tmp_path / "other", tmp_path / "set")
    strange = os.fsencode(folder) + b"/caf\xe9"
    os.rename(folder / "boris", strange)
    with pytest.raises(DataError, match="its name is not in UTF-8; rename it"):
        recognition.enroll(run, tmp_path / "other", folder)
    os.rename(strange, folder / "boris")
    (folder / "anna").rename(folder / "unknown")
    with pytest.raises(DataError, match="what strangers are called"):
        recognition.enroll(run, tmp_path / "other", folder)


def test_a_model_of_aligned_faces_aligns_what_it_is_shown(run, people, tmp_path, caplog):
    """By the list beside the pictures: the same as an aligned crop; without one it is said."""
    loaded = resnet_tasks.load(run)
    loaded.settings["alignment"] = "landmarks"
    folder = tmp_path / "people"
    shutil.copytree(people, folder)
    points = template((8, 8))[:, ::-1]  # the face lies on its side
    with open(folder / "landmarks.csv", "w", newline="") as file:
        csv.writer(file).writerow(["anna/0.png", *np.round(points.ravel(), 4)])
    first, second = folder / "anna" / "0.png", folder / "boris" / "1.png"
    crop = tmp_path / "crop.png"
    Image.fromarray(align(decode_array(first), np.round(points, 4), (8, 8))).save(crop)
    plain = resnet_tasks.load(run)
    expected = recognition.verify(plain, crop, second)["similarity"]
    assert recognition.verify(loaded, first, second)["similarity"] == pytest.approx(expected, abs=1e-5)
    assert abs(recognition.verify(plain, first, second)["similarity"] - expected) > 1e-3
    assert caplog.text.count("taken for aligned crops: 1 of 2 pictures") == 1
    one, other, of_crop, of_bytes = loaded.predict([str(first), second, str(crop), first.read_bytes()])
    assert float(np.dot(one["embedding"], other["embedding"])) == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(of_crop["embedding"], one["embedding"], atol=1e-5)
    assert np.abs(np.subtract(of_bytes["embedding"], one["embedding"])).max() > 1e-3
    assert caplog.text.count("taken for aligned crops: 2 of 3 pictures") == 1


def test_the_same_weights_by_other_settings_are_another_model(run, people, tmp_path):
    recognition.enroll(run, tmp_path / "gallery", people)
    loaded = resnet_tasks.load(run)
    loaded.settings["flip"] = not loaded.settings["flip"]
    with pytest.raises(DataError, match="another model"):
        recognition.identify(loaded, tmp_path / "gallery", [str(people)])


@pytest.mark.parametrize("threshold", ["nan", "1.5", "-1.01", "inf"])
def test_a_threshold_that_no_similarity_is_is_refused(run, people, threshold, capsys):
    face = str(people / "anna" / "0.png")
    assert main(["faces", "verify", str(run), face, face, "--threshold", threshold]) == 2
    assert "from -1 to 1, expected" in capsys.readouterr().err
