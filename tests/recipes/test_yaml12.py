"""YAML 1.2: what the reader takes for a number, and what it refuses."""

import pytest
import yaml

from resnet_tasks.errors import UsageError
from resnet_tasks.recipes.yaml12 import flow, read_value, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),  # YAML 1.1: text
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("3.", 3.0),
        (".inf", float("inf")),
        ("010", 10),  # YAML 1.1: 8
        ("0o10", 8),
        ("0x1F", 31),
        ("+7", 7),
        ("1_000", "1_000"),  # YAML 1.1: 1000
        ("1:30", "1:30"),  # YAML 1.1: 90
        ("no", "no"),  # YAML 1.1: false
        ("on", "on"),
        ("y", "y"),
        ("True", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("2024-01-02", "2024-01-02"),  # YAML 1.1: a date
        ("[1, 2.5, x]", [1, 2.5, "x"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("tfds:cifar10", "tfds:cifar10"),
    ],
)
def test_scalars_are_those_of_the_core_schema(text, value):
    read = read_value(text, "test")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "value", ["1e-4", "no", "010", "0o10", "1_000", "true", "", "~", " x", "a: b", "#1", "ä", "tfds:x", "1\n2"]
)
def test_written_text_comes_back_as_text_from_either_version(value):
    assert read_value(flow(value), "test") == value
    assert yaml.safe_load(flow(value)) == value


@pytest.mark.parametrize("value", [1e-4, 1e-5, 1e22, 0.1, 3, True, None, [1, 2.0], {"a": [0.08, 1.0]}])
def test_written_values_come_back_from_either_version(value):
    assert read_value(flow(value), "test") == value
    assert yaml.safe_load(flow(value)) == value


def test_lines_are_known_by_dotted_key():
    values, lines = read_yaml("# a comment\ntrain:\n  epochs: 3\n\n  lr: 0.1\ntask: classify\n", "r.yaml")
    assert values == {"train": {"epochs": 3, "lr": 0.1}, "task": "classify"}
    assert lines == {"train": 2, "train.epochs": 3, "train.lr": 5, "task": 6}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:\n  lr: 1\n  lr: 2\n", ["r.yaml line 3", "'lr'", "twice", "line 2"]),
        ("a: 1\nb: [1, 2\nc: 3\n", ["r.yaml line 3"]),
        ("a: !!python/object/apply:os.getcwd []\n", ["r.yaml line 1", "python"]),
        ("a: !!int many\n", ["r.yaml line 1", "'many' is no int"]),
        ("a: &x [*x]\n", ["r.yaml line 1"]),
        ("? [1]\n: 2\n", ["r.yaml line 1", "key"]),
        ("a: 1\n---\na: 2\n", ["r.yaml line 2"]),
        ("a: \x07\n", ["r.yaml", "not YAML"]),
        ("a:\n\tb: 1\n", ["r.yaml line 2"]),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_line(text, words):
    with pytest.raises(UsageError) as caught:
        read_yaml(text, "r.yaml")
    assert [word for word in words if word not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
