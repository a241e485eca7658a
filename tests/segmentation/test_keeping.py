"""What `predict` leaves of masks: a PNG with a palette each, and the regions of all in one file of COCO's."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_segmenters import NAMES, segmenter

import resnet_tasks
from resnet_tasks.cli.main import main
from resnet_tasks.data.drawing_masks import VOID
from resnet_tasks.data.examples import LabelMap
from resnet_tasks.data.masks import IGNORE
from resnet_tasks.opening import paper_of
from resnet_tasks.segmentation import UNet
from resnet_tasks.segmentation.keeping import conclude, keep
from resnet_tasks.segmentation.predictor import summarised

COLORS = ((10, 20, 30), (200, 0, 0), (0, 200, 0), (0, 0, 200))
LABELS = LabelMap(NAMES, (0, 5, 6, 7), COLORS)
MASK = np.array([[2, 2, 2, 0], [2, 2, 0, 3]], np.uint8)


def answer(file: str = "a.jpg", mask: np.ndarray = MASK) -> dict:
    return {"file": file, **summarised(NAMES, mask)}


def read(png: bytes | Path) -> tuple[np.ndarray, np.ndarray]:
    """A PNG's indices and its palette `(256, 3)`, as any viewer finds them."""
    picture = Image.open(png if isinstance(png, Path) else io.BytesIO(png))
    assert (picture.format, picture.mode) == ("PNG", "P")
    return np.asarray(picture), np.array(picture.getpalette()).reshape(-1, 3)


def test_a_mask_goes_to_a_file_whose_pixels_are_the_ids(tmp_path):
    given = {**answer(), "mask": np.where(MASK == 3, IGNORE, MASK).astype(np.uint8)}
    kept = keep(given, tmp_path / "a-123456", LABELS)
    assert kept == {**{name: value for name, value in given.items() if name != "mask"}, "mask": "a-123456.mask.png"}
    assert json.loads(json.dumps(kept)) == kept
    ids, palette = read(tmp_path / "a-123456.mask.png")
    np.testing.assert_array_equal(ids, given["mask"])
    assert [tuple(color) for color in palette[:4]] == list(COLORS)
    assert tuple(palette[IGNORE]) == VOID
    assert [path.name for path in tmp_path.iterdir()] == ["a-123456.mask.png"]
    assert "mask" in given and isinstance(given["mask"], np.ndarray), "the caller's own answer stays as it was"


def test_a_name_with_dots_keeps_them(tmp_path):
    assert keep(answer(), tmp_path / "frame.0001-123456", LABELS)["mask"] == "frame.0001-123456.mask.png"
    assert (tmp_path / "frame.0001-123456.mask.png").is_file()


def test_without_a_folder_the_png_is_in_the_answer():
    kept = keep(answer(), None, LABELS)
    assert "mask" not in kept and kept["label_names"] == ["green", "ground", "blue"]
    ids, palette = read(base64.b64decode(kept["mask_png_base64"]))
    np.testing.assert_array_equal(ids, MASK)
    assert [tuple(color) for color in palette[:4]] == list(COLORS)
    json.dumps(kept)


def test_all_regions_are_concluded_and_what_has_no_answer_is_not_there(tmp_path):
    one, two = answer("in/ä.jpg"), answer("in/b.jpg", np.full((3, 5), 1, np.uint8))
    kept = [keep(given, tmp_path / name, LABELS) for name, given in (("a", one), ("b", two))]
    broken = {"file": "in/c.jpg", "error": "in/c.jpg does not exist"}
    ((name, text),) = conclude(tmp_path, [kept[0], broken, kept[1]], LABELS).items()
    assert name == "annotations.json" and "ä" in text
    found = json.loads(text)
    assert [(row["file_name"], row["width"], row["height"]) for row in found["images"]] == [
        ("in/ä.jpg", 4, 2),
        ("in/b.jpg", 5, 3),
    ]
    assert [(row["id"], row["name"]) for row in found["categories"]] == list(zip(LABELS.source_ids, NAMES))
    regions = [(row["image_id"], row["category_id"], row["area"], row["bbox"]) for row in found["annotations"]]
    assert sorted(regions) == [
        (1, 0, 2, [2, 0, 2, 2]),  # its two pixels touch at a corner
        (1, 6, 5, [0, 0, 3, 2]),
        (1, 7, 1, [3, 1, 1, 1]),
        (2, 5, 15, [0, 0, 5, 3]),
    ]
    assert json.loads(conclude(tmp_path, [broken], LABELS)["annotations.json"])["images"] == []


# Through the command


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder with a segmenter that nobody has trained: it answers by its model.keras."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.yaml").touch()
    segmenter(UNet, (64, 64), spread=0.1, source_ids=LABELS.source_ids, colors=COLORS).save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    folder, made = tmp_path_factory.mktemp("in"), []
    for number, size in enumerate([(90, 60), (64, 64), (150, 70)]):
        coarse = np.random.default_rng(number).integers(0, 256, (4, 6, 3), np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
        made.append(str(path))
    return made


def test_the_command_writes_masks_lines_drawings_and_annotations_and_goes_on(run, files, tmp_path, capsys):
    out, missing = tmp_path / "out", str(tmp_path / "missing.jpg")
    asked = ["segment", "predict", str(run), "--output", str(out), "--json"]
    assert main([*asked, files[0], missing]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])["pictures"]
    assert first[1] == {"file": missing, "error": f"{missing} does not exist"}
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main([*asked, *files]) == 0
    answers = json.loads(capsys.readouterr().out.splitlines()[-1])["pictures"]
    assert answers[0] == first[0]
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert lines == answers, "what could not be read is forgotten, and tried again where it is asked for"
    expected = resnet_tasks.load(run).predict(files)
    for kept, whole in zip(answers, expected, strict=True):
        ids, palette = read(out / kept["mask"])
        np.testing.assert_array_equal(ids, whole["mask"])
        assert [tuple(color) for color in palette[:4]] == list(COLORS)
        assert kept["label_names"] == whole["label_names"] and kept["shares"] == whole["shares"]
        drawn = Image.open(out / kept["mask"].replace(".mask.png", ".png"))
        assert drawn.width >= ids.shape[1] and drawn.height > ids.shape[0]
    assert sorted(path.name.rsplit("-")[-1][6:] for path in out.glob("*.png")) == [".mask.png"] * 3 + [".png"] * 3
    names = [kept["mask"] for kept in answers[:1]]
    assert all((out / name).read_bytes() == before[name] for name in names), "what was answered is not written again"
    found = json.loads((out / "annotations.json").read_text())
    assert [image["file_name"] for image in found["images"]] == files
    areas = np.zeros(8, int)
    for row in found["annotations"]:
        areas[row["category_id"]] += row["area"]
    pixels = sum(np.bincount(np.array(LABELS.source_ids)[whole["mask"].ravel()], minlength=8) for whole in expected)
    np.testing.assert_array_equal(areas, pixels)


def test_without_an_output_the_answers_hold_their_masks(run, files, capsys):
    assert main(["segment", "predict", str(run), files[1], "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out.splitlines()[-1])["pictures"]
    (expected,) = resnet_tasks.load(run).predict(files[1])
    np.testing.assert_array_equal(read(base64.b64decode(found["mask_png_base64"]))[0], expected["mask"])
    assert main(["segment", "predict", str(run), files[1]]) == 0
    name, share = expected["label_names"][0], expected["shares"][0]
    assert f"{name} {share:.1%}" in capsys.readouterr().out


def test_the_tasks_paper_is_this_one():
    assert paper_of("segment").keep is keep and paper_of("segment").conclude is conclude
