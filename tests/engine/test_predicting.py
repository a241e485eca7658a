"""`predict` for files: what is found, what is written down, what a repetition does."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnet_tasks
from resnet_tasks.cli.main import main
from resnet_tasks.engine.predicting import Paper, find_pictures, predict_files
from resnet_tasks.errors import UsageError


def save(path: Path, seed: int = 0) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8))
    coarse.resize((40, 30), Image.Resampling.BICUBIC).save(path)
    return str(path)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


@pytest.fixture
def three(tmp_path) -> list[str]:
    return [save(tmp_path / "in" / f"{name}.png", seed) for seed, name in enumerate("abc")]


@pytest.fixture
def answered(monkeypatch) -> list[str]:
    """The files that the network was asked for."""
    from resnet_tasks.engine.loaded import Loaded

    asked, real = [], Loaded.predict

    def predict(self, pictures, *settings):
        pictures = list(pictures)
        asked.extend(pictures)
        return real(self, iter(pictures), *settings)

    monkeypatch.setattr(Loaded, "predict", predict)
    return asked


def test_files_folders_and_lists_are_found_in_order(tmp_path):
    names = ["in/b.png", "in/deep/a.JPG", "in/a.png", "in/.hidden.png"]
    for name in names:
        save(tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    listed = tmp_path / "list.txt"
    listed.write_text("x.png\n\n  y.png \n")
    found = list(find_pictures([f"@{listed}", str(tmp_path / "in"), "missing.png"]))
    assert found == [
        "x.png",
        "y.png",
        *(str(tmp_path / name) for name in ("in/a.png", "in/b.png", "in/deep/a.JPG")),
        "missing.png",
    ]


def test_a_list_or_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such list"):
        list(find_pictures([f"@{tmp_path / 'none.txt'}"]))
    with pytest.raises(UsageError, match="the folder holds no picture"):
        list(find_pictures([str(tmp_path)]))


def test_a_missing_file_has_an_error_entry_and_the_others_answers(digits_run, three, tmp_path):
    missing = str(tmp_path / "missing.jpg")
    answers = resnet_tasks.predict(digits_run, [three[0], missing, three[1]])["pictures"]
    assert [answer["file"] for answer in answers] == [three[0], missing, three[1]]
    assert answers[1] == {"file": missing, "error": f"{missing} does not exist"}
    assert sum(answers[0]["probabilities"]) == pytest.approx(1, abs=1e-6)


def test_answers_are_written_drawn_and_gone_on_with(digits_run, three, tmp_path, answered):
    out = tmp_path / "out"
    first = resnet_tasks.predict(digits_run, three[:2], output=out)
    assert [line["file"] for line in lines(out)] == three[:2]
    assert len(list(out.glob("*.png"))) == 2
    again = resnet_tasks.predict(digits_run, three, output=out)
    assert answered == three  # each once
    assert [line["file"] for line in lines(out)] == three
    assert again["pictures"][:2] == first["pictures"] and again["pictures"] == lines(out)
    assert len(list(out.glob("*.png"))) == 3
    assert resnet_tasks.predict(digits_run, three, output=out) == again
    assert len(answered) == 3


def test_a_torn_last_line_is_answered_again(digits_run, three, tmp_path, answered):
    out = tmp_path / "out"
    resnet_tasks.predict(digits_run, three, output=out)
    whole = (out / "predictions.jsonl").read_text()
    (out / "predictions.jsonl").write_text(whole[:-30])
    resnet_tasks.predict(digits_run, three, output=out)
    assert answered == [*three, three[2]]
    assert [line["file"] for line in lines(out)] == three
    assert (out / "predictions.jsonl").read_text().splitlines()[:2] == whole.splitlines()[:2]


def test_a_run_and_its_artefact_are_one_model_and_another_is_refused(
    digits_run, digits_artefact, three, tmp_path, capsys
):
    out = tmp_path / "out"
    resnet_tasks.predict(digits_run, three[:1], output=out)
    assert len(resnet_tasks.predict(digits_artefact, three, output=out)["pictures"]) == 3
    other = resnet_tasks.load(digits_run)
    other.keras_model.variables[0].assign(other.keras_model.variables[0] * 1.001)
    other.keras_model.save(tmp_path / "other.keras")
    assert main(["classify", "predict", str(tmp_path / "other.keras"), three[0], "--output", str(out)]) == 2
    assert "holds answers of another model" in capsys.readouterr().err
    assert len(lines(out)) == 3


def test_threshold_leaves_out_classes_below_it(digits_run, three):
    (whole,) = resnet_tasks.predict(digits_run, three[:1])["pictures"]
    best = sorted(whole["probabilities"], reverse=True)
    (cut,) = resnet_tasks.predict(digits_run, three[:1], threshold=(best[1] + best[2]) / 2)["pictures"]
    assert cut["label_ids"] == whole["label_ids"][:2]
    assert cut["label_names"] == whole["label_names"][:2]
    assert cut["probabilities"] == whole["probabilities"]


def test_more_than_a_hundred_are_counted_and_not_drawn(digits_run, tmp_path):
    files = [save(tmp_path / "in" / f"{seed:03d}.png", seed) for seed in range(101)]
    with pytest.raises(UsageError, match="101 pictures: more than 100 need --output"):
        resnet_tasks.predict(digits_run, [str(tmp_path / "in")])
    out = tmp_path / "out"
    asked = [str(tmp_path / "in"), str(tmp_path / "missing.png")]
    assert resnet_tasks.predict(digits_run, asked, output=out) == {"pictures": 102, "errors": 1, "output": str(out)}
    assert [line["file"] for line in lines(out)] == [*files, asked[1]]
    assert not list(out.glob("*.png"))
    few = tmp_path / "few"
    resnet_tasks.predict(digits_run, [*files[:100], files[0], asked[1]], output=few, draw=True)
    assert len(list(few.glob("*.png"))) == 100


def test_equal_names_in_two_folders_are_drawn_apart(digits_run, tmp_path):
    files = [save(tmp_path / folder / "a.png", seed) for seed, folder in enumerate(("x", "y"))]
    resnet_tasks.predict(digits_run, files, output=tmp_path / "out")
    assert len(list((tmp_path / "out").glob("a-*.png"))) == 2


def drawn(image, answer, labels) -> Image.Image:
    """A drawing that shows which class was answered."""
    return Image.new("L", (image.shape[1], 1), answer["label_ids"][0])


def kept(answer, path, labels) -> dict:
    """Leaves a file where there is a place for one, and says its name, else what would be in it."""
    text = f"{labels.names[answer['label_ids'][0]]}"
    if path is None:
        return {"file": answer["file"], "text": text}
    path.with_name(path.name + ".txt").write_text(text)
    return {"file": answer["file"], "text": path.name + ".txt"}


def concluded(folder, answers, labels) -> dict:
    """All the names, from the files that were left."""
    texts = [(folder / answer["text"]).read_text() for answer in answers if "error" not in answer]
    return {"all.txt": "\n".join(texts), "count.txt": str(len(answers))}


def test_answers_are_kept_drawn_and_concluded_as_the_task_does(digits_model, three, tmp_path, answered):
    paper, out, missing = Paper(drawn, kept, concluded), tmp_path / "out", str(tmp_path / "missing.png")

    def predicted(files, output=out) -> list[dict]:
        return predict_files(digits_model, files, paper, output, None, False)["pictures"]

    names = [answer["label_names"][0] for answer in digits_model.predict(three)]
    del answered[:]
    first = predicted([three[0], missing])
    assert first[1] == {"file": missing, "error": f"{missing} does not exist"}
    assert (out / first[0]["text"]).read_text() == names[0]
    assert ((out / "all.txt").read_text(), (out / "count.txt").read_text()) == (names[0], "2")
    # Later the others: what was kept stays, but for errors; what is concluded is of all, in the order of the answers.
    both = predicted(three)
    assert answered == [three[0], missing, *three[1:]]
    assert lines(out) == [first[0], *both[1:]]
    assert ((out / "all.txt").read_text().split(), (out / "count.txt").read_text()) == (names, "3")
    pictures = [out / answer["text"].replace(".txt", ".png") for answer in both]
    assert [str(Image.open(path).getpixel((0, 0))) for path in pictures] == names
    assert predicted(three, None) == [{"file": file, "text": name} for file, name in zip(three, names)]


def test_what_cannot_be_drawn_is_not(digits_model, three, tmp_path):
    predict_files(digits_model, three, Paper(), tmp_path / "out", None, True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.json", "predictions.jsonl"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("predictions.jsonl", "my precious notes\nline 2\n"),
        ("predictions.jsonl", '{"not": "an answer"}\n{"not": "one either"}\n'),
        ("model.json", "[1, 2]"),
        ("model.json", '{"name": "another tool"}'),
    ],
)
def test_files_of_others_are_left_alone(digits_run, three, tmp_path, name, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text)
    with pytest.raises(UsageError, match="that this command did not write"):
        resnet_tasks.predict(digits_run, three, output=tmp_path / "out")
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [(name, text)]
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        resnet_tasks.predict(digits_run, three, output=tmp_path / "out" / name)


def test_a_damaged_line_in_the_middle_costs_no_answer(digits_run, three, tmp_path):
    resnet_tasks.predict(digits_run, three, output=tmp_path)
    written = (tmp_path / "predictions.jsonl").read_text().splitlines()
    broken = "\n".join([written[0], "{", written[2]]) + "\n"
    (tmp_path / "predictions.jsonl").write_text(broken)
    with pytest.raises(UsageError, match="line 2, is no answer"):
        resnet_tasks.predict(digits_run, three, output=tmp_path)
    assert (tmp_path / "predictions.jsonl").read_text() == broken


def test_another_threshold_asks_for_another_folder(digits_run, three, tmp_path):
    resnet_tasks.predict(digits_run, three, output=tmp_path)
    resnet_tasks.predict(digits_run, three, output=tmp_path, threshold=0)  # which is what no threshold means to it
    with pytest.raises(UsageError, match=r"from the threshold 0 on, not 0\.9; name another folder"):
        resnet_tasks.predict(digits_run, three, output=tmp_path, threshold=0.9)
    for wrong in (-0.1, 50.0, float("nan")):
        with pytest.raises(UsageError, match="from 0 to 1 expected"):
            resnet_tasks.predict(digits_run, three, threshold=wrong)


def test_a_picture_that_was_repaired_is_answered(digits_run, three, tmp_path):
    missing = str(tmp_path / "late.png")
    assert "error" in resnet_tasks.predict(digits_run, [three[0], missing], output=tmp_path / "out")["pictures"][1]
    save(tmp_path / "late.png")
    answers = resnet_tasks.predict(digits_run, [three[0], missing], output=tmp_path / "out")["pictures"]
    assert "error" not in answers[1]
    assert lines(tmp_path / "out") == answers


def test_lists_of_other_encodings(tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("\ufeffx.png\n", encoding="utf-8")
    assert list(find_pictures([f"@{listed}"])) == ["x.png"]
    listed.write_bytes("caf\xe9.png\n".encode("latin-1"))
    with pytest.raises(UsageError, match="not a text in UTF-8"):
        list(find_pictures([f"@{listed}"]))
