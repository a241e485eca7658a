"""What an evaluation of a detector writes beside metrics.json: tables, all predictions, two plots."""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.data.tables_and_plots import COLORS, GRAY, figure_and_axes, write_plot, write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_A_CLASS = ("AP", "AP50", "AR100", "precision", "recall", "f1", "boxes")
FEW = 6  # up to so many classes have a colour and a name each


def write(measured: Mapping, folder: Path, split: Split, labels: LabelMap) -> None:
    """Writes per_class.csv, confusion.csv, mistakes.csv, predictions.json and plots/ of an evaluation.

    confusion.csv has the truth in its rows and the answer in its columns, the last of both the background.  The rows
    of mistakes.csv (file, truth, answer, score, x0, y0, x1, y1 in pixels) lie in the order of `mistakes`: first the
    worst of each picture, then the others, both with the pictures of the costliest mistakes first; a missed box costs
    1, a false one its score, one of the wrong class both.  A missed box has the answer "missed" and no score, a false
    one the truth "background".  predictions.json is a list of COCO's results.

    Args:
        measured: What `metrics.measure` returns.
        folder: The evaluation's; files of an earlier one are replaced.
        split: The split that was measured.
        labels: The model's.
    """
    by_class = ([name, *(row[measure] for measure in OF_A_CLASS)] for name, row in measured["per_class"].items())
    write_table(folder / "per_class.csv", ("class", *OF_A_CLASS), by_class)
    names = (*labels.names, "background")
    counts = ([name, *row] for name, row in zip(names, measured["confusion"]))
    write_table(folder / "confusion.csv", ("truth", *names), counts)
    columns = ("file", "truth", "answer", "score", "x0", "y0", "x1", "y1")
    write_table(folder / "mistakes.csv", columns, (_mistake(row, split, labels) for row in measured["mistakes"]))
    _write_list(folder / "predictions.json", measured["predictions"])
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    has_points = bool(measured["by_threshold"]["threshold"])
    write_plot(plots / "precision_recall.svg", partial(_precision_recall, measured) if measured["curves"] else None)
    write_plot(plots / "f1_by_threshold.svg", partial(_f1_by_threshold, measured) if has_points else None)


def _mistake(row: Mapping, split: Split, labels: LabelMap) -> list:
    truth = "background" if row["truth"] is None else labels.names[row["truth"]]
    answer = "missed" if row["answer"] is None else labels.names[row["answer"]]
    score = "" if row["score"] is None else f"{row['score']:.6f}"
    return [split.ids[row["index"]], truth, answer, score, *(f"{side:.2f}" for side in row["box"])]


def _write_list(path: Path, rows: Iterable[Mapping]) -> None:
    """A JSON list, a row a line, as it comes: the rows are never in memory together."""
    encode = json.JSONEncoder(allow_nan=False).encode
    with path.open("w", encoding="utf-8") as file:
        before = "["
        for row in rows:
            file.write(f"{before}\n{encode(row)}")
            before = ","
        file.write("[]\n" if before == "[" else "\n]\n")


def _precision_recall(measured: Mapping) -> "Figure":
    """Precision over recall at IoU 0.5, with a dot where the threshold stands.

    A curve is COCO's: at each recall the best precision that any threshold gives with as much; so a dot may lie below.
    Of more than a few classes only their mean has a colour.
    """
    figure, axes = figure_and_axes()
    rows = {name: measured["per_class"][name] for name in measured["curves"]}
    few = len(rows) <= FEW
    for number, (name, curve) in enumerate(measured["curves"].items()):
        look = {"color": COLORS[number], "label": name} if few else {"color": GRAY, "linewidth": 0.6, "alpha": 0.6}
        axes.plot(curve["recall"], curve["precision"], **look)
        if few:
            axes.plot(rows[name]["recall"], rows[name]["precision"], color=COLORS[number], marker="o", linestyle="")
    if not few:
        curves = list(measured["curves"].values())
        mean = [sum(points) / len(curves) for points in zip(*(curve["precision"] for curve in curves))]
        axes.plot(curves[0]["recall"], mean, color=COLORS[0], label=f"mean of {len(curves)} classes")
        point = [sum(row[name] for row in rows.values()) / len(rows) for name in ("recall", "precision")]
        axes.plot(*point, color=COLORS[0], marker="o", linestyle="")
    label = f"at the threshold, {measured['threshold']:.3g}"
    axes.plot([], [], color=GRAY, marker="o", linestyle="", label=label)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.legend(loc="best")
    return figure


def _f1_by_threshold(measured: Mapping) -> "Figure":
    """F1, precision and recall at IoU 0.5, of all classes together, for every threshold; the chosen one is marked."""
    figure, axes = figure_and_axes()
    swept = measured["by_threshold"]
    for color, (name, label) in zip(COLORS, (("f1", "F1"), ("precision", "precision"), ("recall", "recall"))):
        wide: dict[str, Any] = {} if name == "f1" else {"linewidth": 1}
        axes.plot(swept["threshold"], swept[name], color=color, label=label, **wide)
    label = f"threshold: {measured['threshold']:.3g}"
    axes.axvline(measured["threshold"], color=GRAY, linestyle=":", linewidth=1.2, label=label, zorder=1)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="threshold")
    axes.legend(loc="best")
    return figure
