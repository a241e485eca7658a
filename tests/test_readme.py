"""The README's Python runs as it stands, and its commands exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_its_python_runs_from_top_to_bottom(tmp_path):
    """In one process, on 24 pictures of two classes or persons, 16 with boxes and masks; one epoch, not 20."""
    noise = np.random.default_rng(0)
    for number in range(24):
        pixels = noise.integers(0, 128, (40, 48, 3), dtype=np.uint8) + np.uint8(127 * (number % 2))
        for kind, names in (("my_pictures", ("cat", "dog")), ("my_faces", ("anna", "boris"))):
            file = tmp_path / kind / names[number % 2] / f"{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
        Image.fromarray(pixels).save(tmp_path / ("a.jpg", "b.png")[number % 2])
    for number in range(16):
        split = "train" if number < 8 else "val"
        for kind in ("images", "labels"):
            (tmp_path / "my_boxes" / kind / split).mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 128, (64, 96, 3), dtype=np.uint8)
        pixels[16:48, 24:72] += 100
        Image.fromarray(pixels).save(tmp_path / "my_boxes" / "images" / split / f"{number}.png")
        mask = np.zeros((64, 96), np.uint8)
        mask[16:48, 24:72] = 1
        for kind, array in (("images", pixels), ("masks", mask)):
            file = tmp_path / "my_masks" / split / kind / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(file)
        row = f"{number % 3} 0.5 0.5 0.5 0.5\n"
        (tmp_path / "my_boxes" / "labels" / split / f"{number}.txt").write_text(row)
    (tmp_path / "my_masks" / "classes.json").write_text('{"names": ["background", "cell"]}')
    names = "{0: rbc, 1: wbc, 2: platelets}"
    (tmp_path / "my_boxes" / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    script = "\n".join(re.findall(r"```python\n(.*?)```", README, re.S))
    assert '"train.epochs": 20' in script
    (tmp_path / "readme.py").write_text(script.replace('"train.epochs": 20', '"train.epochs": 1'), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "readme.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.fspath(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"a\.jpg (cat|dog) \d", done.stdout)


@pytest.mark.parametrize("line", re.findall(r"^resnet-tasks .*$", README, re.M))
def test_its_commands_exist_with_their_options(line):
    import click

    from resnet_tasks.cli.main import cli

    words = line.partition("#")[0].split()[1:]
    command = cli
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None, line
    # What it takes is parsed and nothing runs.
    command.make_context(line, words)
