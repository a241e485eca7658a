"""The command line: what it hands to the verbs, what it prints, and its exit codes."""

import errno
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

import resnet_tasks
from resnet_tasks import errors
from resnet_tasks.cli import options
from resnet_tasks.cli.main import main
from resnet_tasks.cli.tasks import TASKS, VERBS
from resnet_tasks.recipes.problems import keys

DIGITS = "quickstart/classify_digits"


@pytest.fixture
def verbs(monkeypatch):
    """Stands in for `resnet_tasks.commands`, `demo` and `doctor`: a test sets its verbs and reads their calls."""
    stand_in = types.SimpleNamespace(calls=[])

    def answers(name, answer):
        def verb(*arguments, **keywords):
            stand_in.calls.append((arguments, keywords))
            if isinstance(answer, BaseException):
                raise answer
            print("a log line on stdout")
            return answer

        setattr(stand_in, name, verb)

    stand_in.answers = answers
    for module in ("commands", "demo", "doctor"):
        monkeypatch.setitem(sys.modules, f"resnet_tasks.{module}", stand_in)
    monkeypatch.setattr(resnet_tasks, "commands", stand_in, raising=False)
    return stand_in


def run(capsys, *arguments):
    """Returns exit code, stdout and stderr."""
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_help_and_recipes_import_nothing_heavy():
    script = """
import sys
from resnet_tasks.cli.main import main
for words in ("--help", "classify --help", "classify train --help", "recipes --help", "demo -h"):
    assert main(words.split()) == 0
assert not {"tensorflow", "keras", "pydantic", "yaml", "numpy", "rich"} & set(sys.modules), "at --help"
for words in ("backbones", "recipes list", "classify train --print-recipe"):
    assert main(words.split()) == 0
assert not {"tensorflow", "keras", "numpy"} & set(sys.modules), "at recipes"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_flag_is_a_recipe_key_of_every_task():
    for task in TASKS:
        assert [flag.key for flag in options.FLAGS if flag.key not in keys(task)] == []
    listed = "--epochs --batch-size --image-size --lr --backbone --weights --precision --seed"
    assert set(listed.split()) < {flag.option for flag in options.FLAGS}


def test_train_hands_on_what_was_given_and_nothing_else(verbs, capsys):
    verbs.answers("train", Path("runs/classify/mine"))
    code, out, _ = run(capsys, "classify", "train")
    assert code == 0
    assert "runs/classify/mine" in out
    assert "report.html" in out
    run(
        capsys, "classify", "train", DIGITS, "--data", "pics", "--run", "r", "--resume",
        "--set", "train.ema=0.9", "--set", "train.xla=false", "--lr", "1e-4", "--image-size", "32x48",
        "--batch-size", "8", "--devices", "cpu:2", "--on-bad-image", "skip", "--deterministic",
    )  # fmt: skip
    bare, full = verbs.calls
    assert bare == (("classify", None), {"data": None, "run": None, "set": [], "flags": {}, "resume": False})
    assert full[0] == ("classify", DIGITS)
    assert full[1] == {
        "data": "pics",
        "run": "r",
        "set": ["train.ema=0.9", "train.xla=false"],
        "flags": {
            "train.lr": 1e-4,
            "model.image_size": [32, 48],
            "train.batch_size": 8,
            "train.devices": "cpu:2",
            "data.on_bad_image": "skip",
            "train.deterministic": True,
        },
        "resume": True,
    }


def test_print_recipe_shows_what_would_run(capsys, tmp_path):
    words = [
        "--set",
        "train.epochs=3",
        "--set",
        "train.lr=0.5",
        "--lr",
        "0.25",
        "--data",
        "train=a",
        "--data",
        "valid=b",
    ]
    code, out, _ = run(capsys, "classify", "train", DIGITS, *words, "--print-recipe")
    path = tmp_path / "recipe.yaml"
    path.write_text(out)
    from resnet_tasks.recipes.load import load_recipe

    recipe = load_recipe(path)
    assert code == 0
    assert (recipe.train.epochs, recipe.train.lr, recipe.train.batch_size) == (3, 0.25, 64)
    assert recipe.data.where == {"train": "a", "val": "b"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["classify", "train", DIGITS, "--set", "train.epoks=1", "--print-recipe"], "train.epoks"),
        (["classify", "train", DIGITS, "--precision", "half", "--print-recipe"], "train.precision"),
        (["classify", "train", "nosuch", "--print-recipe"], "nosuch"),
        (["classify", "train", "--epochs", "many"], "--epochs"),
        (["classify", "train", "--lr", "fast"], "1e-4"),
        (["classify", "train", "--image-size", "1x2x3"], "192x320"),
        (["classify", "train", "--data", "a", "--data", "b"], "--data train=WHERE"),
        (["classify", "train", "--data", "val=a", "--data", "valid=b"], "at most once"),
        (["classify", "train", "--data", "a", "--data", "val=b"], "one a split"),
        (["classify", "evaluate", "m", "--map", "cat"], "NAME=ignore"),
        (["classify", "predict", "m"], "WHAT"),
        (["classify", "check"], "--data"),
        (["classify", "trian"], "trian"),
        (["clasify"], "clasify"),
        (["demo", "detecd"], "detecd"),
        (["recipes", "list", "clasify"], "'classify'"),
        (["recipes", "show", "nosuch"], "nosuch"),
    ],
)
def test_usage_errors_exit_with_2_and_name_the_culprit(verbs, capsys, words, said):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert verbs.calls == []


def test_a_place_may_hold_an_equals_sign(verbs, capsys):
    verbs.answers("train", Path("r"))
    run(capsys, "classify", "train", "--data", "a=b/c")
    run(capsys, "classify", "train", "--data", "train=a=b")
    assert [call[1]["data"] for call in verbs.calls] == ["a=b/c", {"train": "a=b"}]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.ResnetTasksError("it broke"), 1, "error: it broke\n"),
        (errors.UsageError("x"), 2, "error: x\n"),
        (errors.DataError("none: no pictures"), 3, "error: none: no pictures\n"),
        (errors.ParityError("x"), 4, "error: x\n"),
        (errors.DivergedError("x"), 5, "error: x\n"),
        (errors.Interrupted("x"), 6, "error: x\n"),
        (KeyboardInterrupt(), 6, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1, "runs/x: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 1, "runs: Permission denied"),
        (RuntimeError("odd"), 1, "RuntimeError: odd\nthis is a defect"),
    ],
)
def test_an_error_is_a_message_and_an_exit_code(verbs, capsys, monkeypatch, error, code, said):
    verbs.answers("train", error)
    got, _, err = run(capsys, "classify", "train")
    assert got == code
    assert said in err
    assert "Traceback" not in err
    monkeypatch.setenv("RESNET_TASKS_DEBUG", "1")
    got, _, err = run(capsys, "classify", "train")
    assert got == code
    assert said in err
    assert "Traceback" in err


def test_evaluate_ends_with_one_line_of_json(verbs, capsys):
    metrics = {"top1": 0.5, "top5": None, "per_class": {"cat": {"recall": 0.5}}, "file": Path("m.json")}
    verbs.answers("evaluate", metrics)
    words = [
        "m",
        "--split",
        "val",
        "--name",
        "n",
        "--output",
        "o",
        "--map",
        "kitten=cat",
        "--map",
        "x=ignore",
        "--data-dir",
        "tfds",
    ]
    code, out, err = run(capsys, "classify", "evaluate", *words, "--json")
    assert code == 0
    assert json.loads(out) == {**metrics, "file": "m.json"}
    assert out.count("\n") == 1
    assert "a log line on stdout" in err
    assert verbs.calls == [
        (
            ("m",),
            {
                "task": "classify",
                "data": None,
                "data_format": "auto",
                "images": None,
                "data_dir": "tfds",
                "split": "val",
                "name": "n",
                "output": "o",
                "mapping": {"kitten": "cat", "x": "ignore"},
            },
        )
    ]
    _, out, _ = run(capsys, "classify", "evaluate", "m")
    assert "top1  0.5" in out
    assert "recall" not in out


GOOD = {"file": "a.png", "label_ids": [1, 0], "label_names": ["dog", "cat"], "probabilities": [0.25, 0.75]}
BAD = {"file": "b.png", "error": "not a picture"}


def test_predict_says_each_picture_and_fails_only_if_all_did(verbs, capsys):
    verbs.answers("predict", {"pictures": [GOOD, BAD]})
    code, out, err = run(capsys, "classify", "predict", "m", "a.png", "b.png", "--threshold", "0.5", "--tile")
    assert code == 0
    assert "a.png: dog 75.0%, cat 25.0%\n" in out
    assert "b.png: error: not a picture\n" in err
    assert verbs.calls[0] == (
        ("m", ["a.png", "b.png"]),
        {"task": "classify", "output": None, "threshold": 0.5, "draw": False, "tile": True},
    )
    code, out, _ = run(capsys, "classify", "predict", "m", "a.png", "b.png", "--json")
    assert code == 0
    assert json.loads(out) == {"pictures": [GOOD, BAD]}
    verbs.answers("predict", {"pictures": [BAD]})
    code, out, err = run(capsys, "classify", "predict", "m", "b.png", "--json")
    assert code == 3
    assert json.loads(out) == {"pictures": [BAD]}
    assert "none of the pictures" in err


@pytest.mark.parametrize(("broken", "code"), [(0, 0), (199, 0), (200, 3)])
def test_predict_counts_many_pictures(verbs, capsys, broken, code):
    verbs.answers("predict", {"pictures": 200, "errors": broken, "output": Path("o")})
    got, out, _ = run(capsys, "classify", "predict", "m", "folder", "--json")
    assert got == code
    assert json.loads(out)["errors"] == broken
    assert run(capsys, "classify", "predict", "m", "folder")[0] == code


@pytest.mark.parametrize(("broken", "code"), [(False, 0), (True, 3)])
def test_check_ends_with_3_if_there_are_errors(verbs, capsys, broken, code):
    report = types.SimpleNamespace(text=lambda: "a.jpg: cut", to_json=lambda: {"findings": []}, errors=broken)
    verbs.answers("check", report)
    got, out, _ = run(capsys, "classify", "check", "--data", "pics", "--images", "i")
    assert got == code
    assert "a.jpg: cut" in out
    got, out, err = run(capsys, "classify", "check", "--data", "pics", "--json")
    assert got == code
    assert json.loads(out) == {"findings": []}
    assert "a.jpg: cut" in err
    assert verbs.calls[0] == (
        ("classify", "pics"),
        {"output": None, "data_format": "auto", "images": "i", "data_dir": None, "image_size": None},
    )


def test_the_other_verbs_call_theirs(verbs, capsys):
    verbs.answers("export", Path("saved"))
    verbs.answers("benchmark", {"images_per_second": 12.5})
    verbs.answers("lr_find", {"lr": 0.1})
    verbs.answers("doctor", ["TensorFlow 2", "no GPU"])
    verbs.answers(
        "demo", {"accuracy": 0.975, "measure": "top1", "report": Path("report.html"), "saved_model": Path("s/1")}
    )
    assert "saved_model  saved" in run(capsys, "classify", "export", "m", "--output", "saved")[1]
    assert "12.5" in run(capsys, "classify", "benchmark", "m")[1]
    assert json.loads(run(capsys, "classify", "lr-find", "--data", "p", "--seed", "1", "--json")[1]) == {"lr": 0.1}
    assert "TensorFlow 2\nno GPU\n" in run(capsys, "doctor")[1]
    out = run(capsys, "demo")[1]
    assert "97.50%" in out
    assert "report.html" in out
    assert "SavedModel  s/1" in out
    assert verbs.calls == [
        (("m",), {"task": "classify", "output": "saved", "format": "saved_model"}),
        (("classify", "m"), {}),
        (("classify", None), {"data": "p", "set": [], "flags": {"train.seed": 1}}),
        ((), {}),
        (("classify",), {}),
    ]
    assert {verb.name for verb in VERBS} == {
        "train", "evaluate", "predict", "export", "check", "benchmark", "lr-find"
    }  # fmt: skip


def test_lists(capsys, tmp_path):
    code, out, _ = run(capsys, "backbones")
    assert code == 0
    assert any(line.split()[:3] == ["resnet_20_cifar", "269,072", "C0..C2"] for line in out.splitlines())
    code, out, _ = run(capsys, "recipes", "list", "classify")
    assert code == 0
    assert DIGITS in out
    code, out, _ = run(capsys, "recipes", "show", DIGITS)
    assert code == 0
    assert "backbone: resnet_20_cifar" in out
    code, out, _ = run(capsys, "recipes", "copy", DIGITS, tmp_path / "mine.yaml")
    assert code == 0
    assert (tmp_path / "mine.yaml").is_file()
    assert "mine.yaml" in out
    assert run(capsys, "recipes", "copy", DIGITS, tmp_path / "mine.yaml")[0] == 2
