"""The run folder: its states, its lock, its names."""

import json
import multiprocessing
import sys

import pytest

from resnet_tasks.engine.run_folder import RunFolder, environment, next_free, state_of
from resnet_tasks.errors import ResnetTasksError, UsageError


def with_checkpoint(path, finished: bool):
    """A run folder as one is left behind."""
    step = path / "checkpoints" / "00000012"
    step.mkdir(parents=True)
    (step / "state.json").write_text(json.dumps({"step": 12, "finished": finished}))
    (path / "checkpoints" / "last").write_text("00000012\n")
    return path


def test_the_states(tmp_path):
    assert state_of(tmp_path / "absent") == "new"
    begun = tmp_path / "begun"
    (begun / "checkpoints").mkdir(parents=True)
    (begun / "recipe.yaml").write_text("")
    assert state_of(begun) == "new", "without a checkpoint there is nothing to lose"
    assert state_of(with_checkpoint(tmp_path / "unfinished", False)) == "unfinished"
    assert state_of(with_checkpoint(tmp_path / "finished", True)) == "finished"
    torn = with_checkpoint(tmp_path / "torn", True)
    (torn / "checkpoints" / "00000012" / "state.json").write_text("{")
    assert state_of(torn) == "unfinished"
    gone = with_checkpoint(tmp_path / "gone", True)
    (gone / "checkpoints" / "last").write_text("00000099\n")
    assert state_of(gone) == "new"


@pytest.mark.parametrize(("finished", "said"), [(False, "holds an unfinished run"), (True, "holds a finished run")])
def test_a_run_that_is_there_goes_on_only_when_asked(tmp_path, finished, said):
    path = with_checkpoint(tmp_path / "run", finished)
    with pytest.raises(UsageError) as error:
        RunFolder(path)
    assert said in str(error.value) and "--resume" in str(error.value) and str(path) in str(error.value)
    folder = RunFolder(path, resume=True)
    assert folder.state == ("finished" if finished else "unfinished")
    folder.close()


@pytest.mark.parametrize("resume", [False, True])
def test_an_absent_folder_is_made(tmp_path, resume):
    folder = RunFolder(tmp_path / "runs" / "a", resume)
    assert folder.state == "new" and folder.path.is_dir() and folder.checkpoints == folder.path / "checkpoints"
    folder.close()


def hold(path, ready, leave):
    folder = RunFolder(path)
    ready.set()
    leave.wait(60)
    folder.close()


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path / "run", ready, leave))
    first.start()
    assert ready.wait(60)
    with pytest.raises(UsageError, match="in use by another process"):
        RunFolder(tmp_path / "run")
    first.kill()  # it cannot tidy up; the lock dies with it
    first.join()
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match="in use"):
        RunFolder(tmp_path / "run")
    folder.close()
    RunFolder(tmp_path / "run").close()


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a folder, and this is a file"):
        RunFolder(tmp_path / "file")


def test_what_cannot_be_written_is_told(tmp_path):
    """Below a file nobody can make a folder, root neither."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ResnetTasksError) as error:
        RunFolder(tmp_path / "file" / "run")
    assert "cannot be written: Not a directory; choose another --run" in str(error.value)


def test_next_free_counts_from_two(tmp_path):
    taken = []
    for _ in range(3):
        path = next_free(tmp_path, "digits")
        path.mkdir()
        taken.append(path.name)
    assert taken == ["digits", "digits-2", "digits-3"]


def test_files_are_written_whole(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_json("a/b.json", {"name": "Käse", "path": tmp_path})
    assert json.loads((folder.path / "a" / "b.json").read_text()) == {"name": "Käse", "path": str(tmp_path)}
    with pytest.raises(ValueError, match="JSON"):
        folder.write_json("a/b.json", {"loss": float("nan")})
    assert json.loads((folder.path / "a" / "b.json").read_text())["name"] == "Käse", "the one before stays"
    assert [path.name for path in (folder.path / "a").iterdir()] == ["b.json"]
    folder.close()


def test_the_environment_names_what_a_figure_depends_on():
    found = environment()
    assert (
        found["cores"] >= 1 and found["processor"] and found["packages"]["keras"] and found["python"].startswith("3.")
    )
