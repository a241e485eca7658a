"""`import resnet_tasks` and the command's first answers: quick, and without TensorFlow."""

import subprocess
import sys

import pytest

import resnet_tasks

HEAVY = ("tensorflow", "keras", "keras_cv", "jax", "matplotlib", "sklearn", "scipy", "pandas", "tensorflow_datasets")


@pytest.mark.parametrize(
    "code",
    [
        "import resnet_tasks",
        "import resnet_tasks; dir(resnet_tasks), resnet_tasks.__version__",
        "import resnet_tasks; resnet_tasks.train, resnet_tasks.load",
        "import resnet_tasks; resnet_tasks.backbones.names()",
        "import resnet_tasks.cli.main",
        "from resnet_tasks.recipes import find, load; load.load_recipe('quickstart/classify_digits', 'classify')",
    ],
    ids=["import", "dir", "a verb", "the catalogue's names", "the command line", "a recipe"],
)
def test_is_light(code):
    said = f"{code}; import sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", resnet_tasks.__all__)
def test_every_name_of_the_door_opens(name):
    assert getattr(resnet_tasks, name) is not None
    assert name in dir(resnet_tasks)


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'trane'; it has .*train"):
        resnet_tasks.trane  # noqa: B018
