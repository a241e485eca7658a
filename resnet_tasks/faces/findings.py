"""What an evaluation of faces writes beside metrics.json: the pairs, the hardest of them, three plots."""

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

SHAPES = ("o", "s", "^", "D")  # with the colours they tell apart as many identities as the map has
LONG = 12  # letters of a name on the map


def write(measured: Mapping, folder: Path, split: Split, labels: LabelMap) -> None:
    """Writes pairs.csv, mistakes.csv and plots/ of an evaluation.

    pairs.csv (first, second: files; same: 0 or 1; fold; similarity) is the list, in its order, so that it can be given
    again; without a similarity where a picture could not be read.  The rows of mistakes.csv (file, partner: files;
    truth, answer: "same" or "different"; score: the similarity) lie in the order of `mistakes`; they are the hardest
    pairs, and in the last ones the answer may be the truth.

    Args:
        measured: What `metrics.measure` returns.
        folder: The evaluation's; files of an earlier one are replaced.
        split: The split that was measured.
        labels: The model's.
    """
    listed = measured["listed"]
    rows = zip(listed["pairs"].tolist(), listed["similarity"].tolist())
    write_table(
        folder / "pairs.csv",
        ("first", "second", "same", "fold", "similarity"),
        (
            [split.ids[first], split.ids[second], same, fold, "" if np.isnan(similarity) else f"{similarity:.6f}"]
            for (first, second, same, fold), similarity in rows
        ),
    )
    columns = ("file", "partner", "truth", "answer", "score")
    write_table(folder / "mistakes.csv", columns, (_mistake(row, split) for row in measured["mistakes"]))
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    write_plot(plots / "roc.svg", partial(_roc, measured))
    write_plot(plots / "scores.svg", partial(_scores, measured))
    write_plot(plots / "map.svg", partial(_map, measured, split, labels))


def _mistake(row: Mapping, split: Split) -> list:
    truth, answer = ("same" if row[name] else "different" for name in ("same", "answer"))
    return [split.ids[row["index"]], split.ids[row["partner"]], truth, answer, f"{row['similarity']:.6f}"]


def _roc(measured: Mapping) -> "Figure":
    """True over false accepts; from one false accept on, for the axis of the rates is logarithmic."""
    curve = measured["roc"]
    least = 1 / curve["different"]
    figure, axes = figure_and_axes()
    axes.plot(np.maximum(curve["far"], least), curve["tar"], color=COLORS[0], label=f"AUC {measured['auc']:.4f}")
    eer = measured["eer"]
    label = f"EER {eer:.2%}"
    axes.plot(max(eer, least), 1 - eer, color=GRAY, marker="s", linestyle="", label=label)
    far, tar = curve["at_threshold"]
    label = f"at the threshold, {measured['threshold']:.3g}"
    axes.plot(max(far, least), tar, color=COLORS[1], marker="o", linestyle="", label=label)
    axes.set_xscale("log")
    axes.set(xlim=(least, 1.1), ylim=(0, 1.02), xlabel="false accept rate", ylabel="true accept rate")
    axes.legend(loc="lower right")
    return figure


def _scores(measured: Mapping) -> "Figure":
    """How similar pairs are, as shares of those of the same and of the different ones; the threshold is marked."""
    scores, threshold = measured["scores"], measured["threshold"]
    figure, axes = figure_and_axes()
    for color, name in zip(COLORS, ("same", "different")):
        counts = np.array(scores[name], np.float64)
        share = counts / counts.sum()
        axes.stairs(share, scores["edges"], color=color, fill=True, alpha=0.45, label=f"{name}: {int(counts.sum()):,}")
    label = f"threshold: {threshold:.3g}"
    axes.axvline(threshold, color=GRAY, linestyle=":", linewidth=1.2, label=label)
    axes.set(xlabel="similarity", ylabel="share of the pairs")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")
    return figure


def _map(measured: Mapping, split: Split, labels: LabelMap) -> "Figure":
    """Some pictures on the plane of their embeddings' principal components, those of an identity in one colour."""
    figure, axes = figure_and_axes(WIDTH)
    of_identity: dict[int, list[Mapping]] = {}
    for row in measured["map"]:
        of_identity.setdefault(row["label"], []).append(row)
    for number, (label, rows) in enumerate(of_identity.items()):
        x, y = [row["x"] for row in rows], [row["y"] for row in rows]
        color, marker = COLORS[number % len(COLORS)], SHAPES[number // len(COLORS) % len(SHAPES)]
        axes.plot(x, y, color=color, marker=marker, linestyle="", markersize=3, alpha=0.7, markeredgewidth=0)
        name = _name(label, split.ids[rows[0]["index"]], labels)
        axes.annotate(as_it_stands(name), (float(np.mean(x)), float(np.mean(y))), fontsize=6, ha="center", va="center")
    axes.set(xlabel="first component", ylabel="second component")
    return figure


def _name(label: int, file: str, labels: LabelMap) -> str:
    """The identity's; of one that was not trained on the folder of its picture, or where there is none its number."""
    name = labels.names[label] if label < len(labels) else Path(file).parent.name or str(label)
    return name if len(name) <= LONG else f"{name[: LONG - 1]}…"
