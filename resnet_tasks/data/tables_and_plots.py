"""Tables and plots that an evaluation writes beside metrics.json; Matplotlib is imported where it is used."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#1769aa", "#d9730d", "#2e7d32", "#8e3b9e", "#6b7683", "#b5332e")
GRAY = "#9aa5b1"
LOOKS: dict[Any, Any] = {  # those of the report that shows the plots
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": "#5d6b7a",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e8ecf0",
    "xtick.color": "#5d6b7a",
    "ytick.color": "#5d6b7a",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "path",  # a viewer's fonts differ, and so would the widths
    "svg.hashsalt": "resnet-tasks",  # the same numbers give the same file
}
WIDTH, HEIGHT = 3.7, 2.8  # inches: as wide as a phone


def write_table(path: Path, columns: Iterable[str], rows: Iterable) -> None:
    """A CSV file with a head."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def write_plot(path: Path, plot: Callable[[], "Figure"] | None) -> None:
    """The plot as SVG, in the report's looks, without a date; no file where there is nothing to draw."""
    path.unlink(missing_ok=True)
    if plot is None:
        return
    import matplotlib

    with matplotlib.rc_context(LOOKS):
        plot().savefig(path, format="svg", transparent=True, metadata={"Date": None})


def as_it_stands(name: str) -> str:
    """A name for Matplotlib, which else takes what stands between two dollars for mathematics."""
    return name.replace("$", r"\$")


def figure_and_axes(height: float = HEIGHT) -> "tuple[Figure, Axes]":
    """A figure as wide as a phone, `height` inches high, and its axes; it is pyplot's in nothing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()
