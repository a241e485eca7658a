"""What an evaluation of a segmenter writes beside metrics.json: tables and two plots."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.data.tables_and_plots import (
    COLORS,
    GRAY,
    WIDTH,
    as_it_stands,
    figure_and_axes,
    write_plot,
    write_table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_A_CLASS = ("IoU", "accuracy", "dice", "boundary_f1", "pixels")
OF_A_PICTURE = ("pixel_accuracy", "mIoU", "worst")
FEW = 12  # up to so many classes the matrix has its shares written into it
MANY = 40  # from so many on its rows and columns have no names: they would lie over one another
BAR = 0.19  # inches


def write(measured: Mapping, folder: Path, split: Split, labels: LabelMap) -> None:
    """Writes per_class.csv, confusion.csv, mistakes.csv and plots/ of an evaluation.

    confusion.csv has the truth in its rows and the answer in its columns, in pixels.  The rows of mistakes.csv (file,
    pixel_accuracy, mIoU, worst: the class of the lowest IoU) lie in the order of `mistakes`, the worst picture first.

    Args:
        measured: What `metrics.measure` returns.
        folder: The evaluation's; files of an earlier one are replaced.
        split: The split that was measured.
        labels: The model's.
    """
    by_class = ([name, *(row[measure] for measure in OF_A_CLASS)] for name, row in measured["per_class"].items())
    write_table(folder / "per_class.csv", ("class", *OF_A_CLASS), by_class)
    counts = ([name, *row] for name, row in zip(labels.names, measured["confusion"]))
    write_table(folder / "confusion.csv", ("truth", *labels.names), counts)
    mistakes = ([split.ids[row["index"]], *(row[name] for name in OF_A_PICTURE)] for row in measured["mistakes"])
    write_table(folder / "mistakes.csv", ("file", *OF_A_PICTURE), mistakes)
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    write_plot(plots / "confusion.svg", partial(_confusion, measured, labels.names))
    write_plot(plots / "iou_by_class.svg", partial(_iou_by_class, measured))


def _confusion(measured: Mapping, names: tuple[str, ...]) -> "Figure":
    """What became of each true class's pixels, as shares; of a class that does not occur the row is empty."""
    counts = np.array(measured["confusion"], np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    figure, axes = figure_and_axes(WIDTH)
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    axes.grid(False)
    named = range(len(names)) if len(names) <= MANY else ()
    size = 8 if len(names) <= FEW else 5
    written = [as_it_stands(names[label]) for label in named]
    axes.set_xticks(named, written, rotation=90, fontsize=size)
    axes.set_yticks(named, written, fontsize=size)
    axes.set(xlabel="answer", ylabel="truth")
    if len(names) <= FEW:
        for (truth, answer), share in np.ndenumerate(shares):
            if share >= 0.005:  # what is not rounded to 0
                ink = "white" if share > 0.5 else "#22303c"
                axes.text(answer, truth, f"{share:.0%}"[:-1], ha="center", va="center", fontsize=6, color=ink)
    return figure


def _iou_by_class(measured: Mapping) -> "Figure":
    """A bar for each class that occurs or is answered, the best on top, and a line where their mean is."""
    known = {name: row["IoU"] for name, row in measured["per_class"].items() if row["IoU"] is not None}
    names = sorted(known, key=lambda name: known[name])
    figure, axes = figure_and_axes(max(1.2, 0.6 + BAR * len(names)))
    axes.barh([as_it_stands(name) for name in names], [known[name] for name in names], color=COLORS[0], height=0.7)
    axes.axvline(measured["mIoU"], color=GRAY, linestyle=":", linewidth=1.2, label=f"mean: {measured['mIoU']:.3f}")
    axes.grid(False, axis="y")
    axes.set(xlim=(0, 1.02), ylim=(-0.6, len(names) - 0.4), xlabel="IoU")
    axes.legend(loc="lower right")
    return figure
