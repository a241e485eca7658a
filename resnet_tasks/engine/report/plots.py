"""The plots of the report, as SVG; Matplotlib is imported where it is used."""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from resnet_tasks.data.tables_and_plots import as_it_stands

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#1769aa", "#d9730d", "#2e7d32", "#8e3b9e", "#6b7683", "#b5332e")
GRAY = "#9aa5b1"
LOOKS = {
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
WIDE_RANGE = 30.0  # values that span more than this factor are drawn on a logarithmic axis
STYLES = ("-", "--", ":")  # of lines that have one colour
MOST_LINES = len(COLORS) * len(STYLES)  # that can be told apart
LEGEND_COLUMNS = 3
FEW = 12  # up to so many epochs each is marked by a dot


def _in_our_looks(function: Callable) -> Callable:
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        import matplotlib

        with matplotlib.rc_context(LOOKS):
            return function(*args, **kwargs)

    return wrapped


@_in_our_looks
def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    best: float | None = None,
    form: str = "number",
) -> "Figure":
    """Lines over epochs.

    Args:
        series: `{name: [(epoch, value), ...]}`.
        best: An epoch to mark.
        form: "number", "positive" (the axis begins at 0) or "percent" (of 1, the axis begins at 0).
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure, (axes,) = _figure(1)
    for number, (name, points) in enumerate(series.items()):
        marker = "o" if len(points) <= FEW else None
        color = COLORS[number % len(COLORS)]
        style = STYLES[number // len(COLORS) % len(STYLES)]
        axes.plot(*zip(*points), color=color, linestyle=style, label=as_it_stands(name), marker=marker, markersize=3)
    if best is not None:
        label = f"best: epoch {best:g}"
        axes.axvline(best, color=GRAY, linestyle=":", linewidth=1.2, label=label, zorder=1)
    values = [value for points in series.values() for _, value in points]
    if form == "number" and min(values) > 0 and max(values) > WIDE_RANGE * min(values):
        axes.set_yscale("log")
    if form != "number":
        axes.set_ylim(bottom=0, top=None if max(values) > 0 else 1)
    if form == "percent":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
    axes.set_xlabel("epoch")
    if len(series) > len(COLORS):
        rows = -(-len(series) // LEGEND_COLUMNS)
        figure.set_figheight(figure.get_figheight() + 0.15 * rows)
        figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=7)
    elif len(axes.get_lines()) > 1:
        axes.legend(loc="best")
    return figure


@_in_our_looks
def reliability(bins: Sequence[Mapping[str, float]]) -> "Figure":
    """Accuracy over confidence, and below it how many pictures there are at each.

    Args:
        bins: `confidence` and `accuracy`, means in 0..1, and `images` of each bin that has any.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (axes, below) = _figure(2, height_ratios=(3, 1), sharex=True)
    names = ("confidence", "accuracy", "images")
    confidence, accuracy, images = ([row[name] for row in bins] for name in names)
    axes.plot((0, 1), (0, 1), color=GRAY, linestyle=":", linewidth=1.2, label="as sure as right")
    axes.plot(confidence, accuracy, color=COLORS[0], marker="o", markersize=4, label="measured")
    axes.vlines(confidence, confidence, accuracy, color=COLORS[1], linewidth=1, label="gap")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="accuracy")
    axes.legend(loc="upper left")
    below.bar(confidence, images, width=0.04, color=COLORS[0])
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    below.set(xlabel="confidence", ylabel="pictures")
    return figure


@_in_our_looks
def svg(figure: "Figure") -> bytes:
    """The figure as an SVG file, without a date."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _figure(rows: int, **layout) -> tuple:
    """A figure of one column, as wide as a phone, and its axes.

    It is pyplot's in nothing: no state is kept, no window system is asked for.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.7, 2.5 + 0.9 * (rows - 1)), layout="constrained")
    return figure, figure.subplots(rows, 1, squeeze=False, **layout)[:, 0]
