"""The notebooks run from top to bottom, and lie in the repository without outputs."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
SAID = {  # where each ends
    "01_classification": "top-1",
    "02_detection": "AP50",
    "03_segmentation": "mIoU",
    "04_faces": "AUC",
}


def named(argument):
    return pytest.mark.parametrize(argument, NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


@named("path")
def test_lies_without_outputs(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.slow
@named("path")
def test_runs(path, tmp_path):
    """In a folder of its own, as a reader would run it; a cell that raises fails the test with its traceback."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert SAID[path.stem] in said
