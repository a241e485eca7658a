"""Where recipes are found, and what is said where they are not."""

import pytest

from resnet_tasks.errors import UsageError
from resnet_tasks.recipes import find


def test_names_are_those_of_the_files():
    names = find.names()
    assert "quickstart/classify_digits" in names
    assert names == sorted(names)
    assert find.names("classify")
    assert find.names("nosuch") == []
    assert all(find.find(name) == find.folder() / f"{name}.yaml" for name in names)


def test_a_file_of_ones_own_is_taken_as_it_lies(tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text("# Mine, all mine.\ntask: classify  # what else\n")
    assert find.find(path) == path
    assert find.find(str(path)) == path
    assert find.summary(path) == "Mine, all mine."
    assert find.task_of(path) == "classify"
    monkeypatch.chdir(tmp_path)
    assert find.find("mine.yaml").read_text() == path.read_text()
    (tmp_path / "quickstart").mkdir()  # a folder of the user's does not hide a recipe's name
    assert find.find("quickstart/classify_digits").parent.parent == find.folder()


def test_the_wheel_is_looked_at_before_the_checkout(tmp_path, monkeypatch):
    package = tmp_path / "site" / "resnet_tasks"
    (tmp_path / "site" / "pipelines").mkdir(parents=True)
    monkeypatch.setattr(find, "_PACKAGE", package)
    assert find.folder() == tmp_path / "site" / "pipelines"
    (package / "pipelines" / "results" / "run").mkdir(parents=True)
    assert find.folder() == package / "pipelines"
    (package / "pipelines" / "results" / "run" / "recipe.yaml").write_text("task: classify\n")
    assert find.names() == []  # a run's own recipe among the results is none to start from


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", ["'nosuch'", "resnet-tasks recipes list"]),
        ("cifar10_resnet20", ["did you mean 'classification/cifar10_resnet20'"]),
        ("quickstart/clasify_digits", ["did you mean 'quickstart/classify_digits'"]),
        ("classification/cifar10_resnet20.yaml", ["did you mean 'classification/cifar10_resnet20'"]),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(name, words):
    with pytest.raises(UsageError) as caught:
        find.find(name)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(UsageError, match="name a recipe file in it"):
        find.find(tmp_path)
    (tmp_path / "recipe.yaml").write_text("task: classify\n")
    with pytest.raises(UsageError, match=r"write .*recipe\.yaml"):
        find.find(tmp_path)


def test_a_copy_is_equal_and_overwrites_nothing(tmp_path):
    name = "quickstart/classify_digits"
    into = find.copy(name, tmp_path / "new" / "folder")
    assert into == tmp_path / "new" / "folder" / "classify_digits.yaml"
    assert find.copy(name, tmp_path) == tmp_path / "classify_digits.yaml"
    renamed = find.copy(name, tmp_path / "mine.yaml")
    assert renamed.read_bytes() == find.find(name).read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        find.copy(name, renamed)
