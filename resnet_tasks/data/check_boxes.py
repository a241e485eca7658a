"""The check of pictures with boxes."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from resnet_tasks.data import check_box_drawings, check_box_sizes, check_pictures
from resnet_tasks.data.check_box_rows import row_findings
from resnet_tasks.data.check_box_sizes import Boxes, called
from resnet_tasks.data.check_counts import class_findings
from resnet_tasks.data.check_report import Finding, Report, worst_first
from resnet_tasks.data.examples import Source, Split

_SAME = 0.95  # intersection over union of two boxes of one class that are one
_WHOLE = 0.95  # of the picture's area
_MOST_ANSWERS = 100  # boxes that evaluation takes from a picture


def check_detection(where: str | Mapping[str, str], *, image_size: tuple[int, int] = (512, 512), **reading) -> Report:
    """Checks pictures with boxes.

    Args:
        where: As for `read_detection`.
        image_size: Height and width of the network's input, which the boxes' sizes are judged on.
        reading: The other arguments of `read_detection`, but for `on_bad_image` and `most_bad_rows`.
    """
    from resnet_tasks.data.readers import detection

    source = detection.look(where, **reading)
    return report_of(source, image_size, detection.lacking(source))


def report_of(source: Source, canvas_hw: tuple[int, int], lacking: str | None = None) -> Report:
    """Checks a source that was read with all its bad rows and files left out.

    Args:
        source: That.
        canvas_hw: Height and width of the network's input.
        lacking: What makes it useless as a whole, in words.
    """
    names = source.labels.names
    pictures, broken = check_pictures.decoded(source, _said)
    boxes = check_box_sizes.gathered(source, pictures)
    counts = {name: _count(split, len(names)) for name, split in source.splits.items()}
    findings = [*check_pictures.notes(source), *([Finding("error", lacking)] if lacking else [])]
    findings += check_pictures.unreadable(source, broken)
    findings += row_findings(source)
    findings += _crowds(source)
    findings += class_findings(
        counts, names, "box", "look at the average precision of each class, and collect more of the rare ones"
    )
    findings += check_box_sizes.size_findings(boxes, pictures, names, canvas_hw)
    findings += _odd_boxes(boxes, pictures, names)
    findings += _crowded(source)
    findings += check_pictures.odd_sizes(pictures)
    same, samples = check_pictures.duplicated(pictures, "boxes")
    return Report(
        where=source.where,
        format=source.format,
        counts={split: dict(zip(names, count.tolist(), strict=True)) for split, count in counts.items()},
        findings=worst_first([*findings, *same]),
        samples=samples,
        counted="boxes",
        source_ids=dict(zip(names, source.labels.source_ids)),
        pictures={name: _kinds_of_pictures(split) for name, split in source.splits.items()},
        histogram=check_box_sizes.histogram(boxes, pictures, list(source.splits), canvas_hw),
        drawn=check_box_drawings.drawn(source, pictures),
    )


def _said(split: Split, index: int) -> tuple[tuple, str]:
    labels = split.annotations["labels"][index]
    rows = np.column_stack([labels, split.annotations["crowd"][index], split.annotations["boxes"][index]])
    held = sorted(map(tuple, rows[labels >= 0].tolist()))
    return tuple(held), f"{len(held)} box" + "es" * (len(held) != 1)


def _count(split: Split, classes: int) -> np.ndarray:
    """Returns the boxes of each class, without crowds, `(classes,)`."""
    labels = split.annotations["labels"]
    return np.bincount(labels[(labels >= 0) & ~split.annotations["crowd"]], minlength=classes)


def _kinds_of_pictures(split: Split) -> dict[str, int]:
    is_box = split.annotations["labels"] >= 0
    return {
        "crowds (besides)": int((is_box & split.annotations["crowd"]).sum()),
        "pictures": len(split),
        "without a box": int((~is_box.any(axis=1)).sum()),
    }


def _crowds(source: Source) -> Iterator[Finding]:
    named = []
    for split in source.splits.values():
        labels, crowd = split.annotations["labels"], split.annotations["crowd"]
        for picture, row in zip(*np.nonzero((labels >= 0) & crowd), strict=True):
            corners = " ".join(f"{round(value, 1):g}" for value in split.annotations["boxes"][picture, row])
            named.append(f"{split.ids[picture]}: {source.labels.names[labels[picture, row]]} at {corners}")
    if named:
        yield Finding(
            "note",
            f"crowds (iscrowd, boxes around many things at once): {len(named)}; they are not learnt, and in evaluation "
            "neither found nor missed",
            tuple(named),
        )


def _odd_boxes(boxes: Boxes, pictures: Sequence[check_pictures.Picture], names: Sequence[str]) -> Iterator[Finding]:
    """Finds boxes that stand twice, and boxes around the whole picture."""
    twice = []
    ends = np.flatnonzero(np.diff(boxes.picture)) + 1
    for places in np.split(np.arange(len(boxes.label)), ends):
        for one, other in places[doubled(boxes.xyxy[places], boxes.label[places])]:
            corners = " ".join(f"{round(value, 1):g}" for value in boxes.xyxy[other])
            twice.append(f"{called(boxes, one, pictures, names)} and at {corners}")
    if twice:
        yield Finding(
            "warning", f"the same box stands twice (one class, IoU above {_SAME:g}): {len(twice)} times", tuple(twice)
        )
    whole = boxes.wh.prod(axis=1) > _WHOLE * boxes.size_hw.prod(axis=1)
    if whole.any():
        yield Finding(
            "warning",
            f"boxes over more than {_WHOLE:.0%} of their picture: {whole.sum()}",
            tuple(called(boxes, place, pictures, names) for place in np.flatnonzero(whole).tolist()),
        )


def doubled(boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the pairs of places, `(n, 2)` and the smaller first, of boxes `(m, 4)` that are one and the same."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    joined = area[:, None] + area[None, :] - shared
    is_same = (shared > _SAME * joined) & (labels[:, None] == labels[None, :])
    return np.argwhere(np.triu(is_same, 1))


def _crowded(source: Source) -> Iterator[Finding]:
    files = []
    for split in source.splits.values():
        held = ((split.annotations["labels"] >= 0) & ~split.annotations["crowd"]).sum(axis=1)
        files += [f"{split.ids[place]}: {held[place]} boxes" for place in np.flatnonzero(held > _MOST_ANSWERS)]
    if files:
        yield Finding(
            "note",
            f"pictures with more than {_MOST_ANSWERS} boxes, the most that a model answers with: {len(files)}",
            tuple(files),
        )
