"""Pictures with their boxes, for the page of a check."""

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from resnet_tasks.data import decode
from resnet_tasks.data.check_box_rows import corners_of, kind_of
from resnet_tasks.data.check_pictures import Picture
from resnet_tasks.data.drawing import WRONG, class_colors, draw_boxes, sized_to_draw
from resnet_tasks.data.examples import Problem, Source

_DRAWN, _ILL = 16, 5  # pictures; of these, pictures with rows that were left out
_LEAST, _MOST = 400, 640  # pixels of the longer side
_CUT_CAPTION = 3  # rows named under a picture


def drawn(source: Source, pictures: Sequence[Picture]) -> tuple[tuple[str, Image.Image], ...]:
    """Draws some pictures with their boxes.

    The first are such that rows were left out of; the others take turns between the splits, each the one with the most
    classes that were not shown yet; the last is one without a box.

    Returns:
        What stands below each, and the picture: crowds and rows that were left out dashed, the latter in red.
    """
    dropped = defaultdict(list)
    for problem in source.rows.dropped if source.rows else ():
        dropped[problem.file].append(problem)
    chosen = chosen_pictures(source, pictures, dropped.keys())
    return tuple(_drawn(source, pictures[place], dropped[pictures[place].file]) for place in chosen)


def chosen_pictures(source: Source, pictures: Sequence[Picture], with_dropped: Collection[str]) -> list[int]:
    """Returns the places of the pictures to draw, `with_dropped` holding the files with rows that were left out."""
    shows = np.zeros((len(pictures), len(source.labels)), bool)
    for place, picture in enumerate(pictures):
        labels = source.splits[picture.split].annotations["labels"][picture.index]
        shows[place, labels[labels >= 0]] = True
    ill = [place for place, picture in enumerate(pictures) if picture.file in with_dropped]
    return varied(shows, [picture.split for picture in pictures], ill)


def varied(shows: np.ndarray, splits: Sequence[str], ill: Sequence[int]) -> list[int]:
    """Returns the places of a page's pictures: some of the ill ones, then what shows most classes, from all splits.

    Args:
        shows: bool `(pictures, classes)`, which classes each shows.
        splits: The split of each.
        ill: Places of pictures to be shown first.
    """
    chosen = list(ill[:: max(-(-len(ill) // _ILL), 1)])
    with_some = np.any(shows, axis=1)
    empty = np.setdiff1d(np.flatnonzero(~with_some), ill)[:1].tolist()
    left: dict[str, list[int]] = {split: [] for split in splits}
    for place in np.setdiff1d(np.flatnonzero(with_some), chosen).tolist():
        left[splits[place]].append(place)
    shown: np.ndarray = np.any(shows[chosen], axis=0)
    while len(chosen) + len(empty) < _DRAWN and any(left.values()):
        for places in filter(None, left.values()):
            new = (shows[places] & ~shown).sum(axis=1)
            if not new.any():
                shown[:] = False
                new = shows[places].sum(axis=1)
            best = places.pop(int(new.argmax()))
            shown |= shows[best]
            chosen.append(best)
    return chosen[: _DRAWN - len(empty)] + empty


def _drawn(source: Source, picture: Picture, dropped: Sequence[Problem]) -> tuple[str, Image.Image]:
    split, colors = source.splits[picture.split], class_colors(len(source.labels))
    labels, crowd = split.annotations["labels"][picture.index], split.annotations["crowd"][picture.index]
    held = np.flatnonzero(labels >= 0)
    boxes = [split.annotations["boxes"][picture.index][row] for row in held]
    names = [source.labels.names[labels[row]] + " (crowd)" * bool(crowd[row]) for row in held]
    of_box = [colors[labels[row]] for row in held]
    dashed = [bool(crowd[row]) for row in held]
    for problem in dropped:
        if (corners := corners_of(problem)) is not None:
            boxes.append(corners)
            names.append(kind_of(problem) or "left out")
            of_box.append(WRONG)
            dashed.append(True)
    image, scale = sized_to_draw(decode.decode_array(split.read(picture.index)), _LEAST, _MOST)
    caption = f"{picture.file} ({picture.split}, {picture.said})"
    for problem in dropped[:_CUT_CAPTION]:
        caption += f"; left out: {problem.what}"
    return caption, draw_boxes(image, np.array(boxes).reshape(-1, 4) * scale, names, of_box, dashed=dashed)
