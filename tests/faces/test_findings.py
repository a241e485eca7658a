"""The files of an evaluation of faces, read back; and what the report makes of them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.engine.report import evaluation as report
from resnet_tasks.faces import findings
from resnet_tasks.faces.metrics import measure

LABELS = LabelMap(("anna",))
# Of Anna two at 0 and 60 degrees; of two who are not trained on at 30 and 170, and at 90 and 100.
FILES = ("a/0.jpg", "a/60, too.jpg", "boris/30.jpg", "boris/170.jpg", "90.jpg", "100.jpg")
PAIRS = np.array([[0, 1, 1, 0], [0, 3, 0, 0], [2, 3, 1, 1], [1, 4, 0, 1], [4, 5, 1, 2], [2, 5, 0, 2]], np.int32)


def measured(weights=(1, 1, 1, 1, 1, 1)) -> tuple[dict, Split]:
    turned = np.radians([0, 60, 30, 170, 90, 100])
    embeddings = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    known = np.array([0, 0, 1, 1, 2, 2], np.int32)
    split = Split("test", FILES, encoded=(b"",) * 6, annotations={"label": known}, pairs=PAIRS)
    targets = {"index": np.arange(6), "weight": np.array(weights, np.float32)}
    return measure([({"embedding": embeddings}, targets)], split, LABELS, 1e-3), split


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> tuple[Path, dict]:
    """The folder and what was measured."""
    folder = tmp_path_factory.mktemp("evaluation")
    result, split = measured()
    findings.write(result, folder, split, LABELS)
    return folder, result


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_pairs_are_the_list(evaluation):
    head, *table = rows(evaluation[0] / "pairs.csv")
    assert head == ["first", "second", "same", "fold", "similarity"]
    assert table[0] == ["a/0.jpg", "a/60, too.jpg", "1", "0", "0.500000"]
    assert table[3] == ["a/60, too.jpg", "90.jpg", "0", "1", "0.866025"]
    assert [row[:2] for row in table] == [[FILES[first], FILES[second]] for first, second, *_ in PAIRS]


def test_a_pair_that_could_not_be_read_has_no_similarity(tmp_path):
    result, split = measured(weights=(1, 1, 1, 0, 1, 1))
    findings.write(result, tmp_path, split, LABELS)
    _, *table = rows(tmp_path / "pairs.csv")
    assert [row[0] for row in table if not row[4]] == ["a/0.jpg", "boris/30.jpg"]


def test_the_hardest_pairs_lie_in_the_order_in_which_they_are_drawn(evaluation):
    folder, result = evaluation
    head, *table = rows(folder / "mistakes.csv")
    assert head == ["file", "partner", "truth", "answer", "score"]
    assert [row[:2] for row in table] == [[FILES[row["index"]], FILES[row["partner"]]] for row in result["mistakes"]]
    # At the mean threshold of about 0.4: 140 degrees are the same and lie farthest off, then 30 degrees that are not.
    assert table[0] == ["boris/30.jpg", "boris/170.jpg", "same", "different", "-0.766044"]
    assert table[1][2:] == ["different", "same", "0.866025"]
    assert len(table) == 15 and table[-1][2] == table[-1][3]


def test_the_plots_are_pictures_and_the_same_numbers_give_the_same_ones(evaluation, tmp_path):
    folder, _ = evaluation
    result, split = measured()
    findings.write(result, tmp_path, split, LABELS)
    for name in ("roc.svg", "scores.svg", "map.svg"):
        drawn = (folder / "plots" / name).read_bytes()
        assert drawn.startswith(b"<?xml") and b"<svg" in drawn and b"<dc:date>" not in drawn
        assert drawn == (tmp_path / "plots" / name).read_bytes()


def test_the_curve_shows_the_points(evaluation):
    _, result = evaluation
    axes = findings._roc(result).axes[0]
    curve, error, threshold = axes.get_lines()
    assert result["roc"]["different"] == 12
    np.testing.assert_array_equal(curve.get_ydata(), result["roc"]["tar"])
    np.testing.assert_array_equal(curve.get_xdata(), np.maximum(result["roc"]["far"], 1 / 12))
    assert (error.get_xdata()[0], error.get_ydata()[0]) == (result["eer"], 1 - result["eer"])
    far, tar = result["roc"]["at_threshold"]
    assert (threshold.get_xdata()[0], threshold.get_ydata()[0]) == (max(far, 1 / 12), tar)


def test_the_scores_are_shares(evaluation):
    _, result = evaluation
    patches = findings._scores(result).axes[0].patches
    for patch, name, count in zip(patches, ("same", "different"), (3, 12), strict=True):
        np.testing.assert_allclose(patch.get_data().values, np.array(result["scores"][name]) / count)


def test_the_map_names_identities(evaluation):
    _, result = evaluation
    _, split = measured()
    axes = findings._map(result, split, LABELS).axes[0]
    assert [text.get_text() for text in axes.texts] == ["anna", "boris", "2"]
    drawn = np.concatenate([line.get_xydata() for line in axes.get_lines()])
    np.testing.assert_array_equal(drawn, [[row["x"], row["y"]] for row in result["map"]])
    assert len({(line.get_color(), line.get_marker()) for line in axes.get_lines()}) == 3


def test_the_report_shows_it(evaluation):
    folder, _ = evaluation
    shown = report.mistakes(folder)
    assert "boris/170.jpg" in shown
    drawn = report.pictures(folder)
    assert all(f">{name}<" in drawn for name in ("map", "roc", "scores"))


def test_names_of_dollars_are_no_mathematics(tmp_path):
    result, split = measured()
    findings.write(result, tmp_path, split, LabelMap(("$A_{4$ 李",)))
    assert (tmp_path / "plots" / "map.svg").is_file()
    figure = findings._map(result, split, LabelMap(("$x^2$",)))
    assert "$x^2$" in [text._preprocess_math(text.get_text())[0] for text in figure.axes[0].texts]
