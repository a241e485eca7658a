"""The sizes of boxes against what a pyramid of features can see of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from resnet_tasks.data.check_pictures import Picture
from resnet_tasks.data.check_report import Finding, Histogram
from resnet_tasks.data.examples import Source

# RetinaNet's pyramid (Lin et al. 2017, arXiv 1708.02002, section 4): P3 has stride 8; the largest anchor is 4 strides
# of P7, two thirds of an octave up.
FINEST_STRIDE = 8
LARGEST_ANCHOR = 4 * 128 * 2 ** (2 / 3)
_WANTED = 16  # pixels: two strides, from which a box is seen by several places of the finest level
_WANTED_SHARE = 0.95  # of the boxes
_SIDE_MULTIPLE = 32  # what a backbone's picture divides by
_LARGEST_CANVAS = 2048  # above it a suggestion helps nobody
_MANY = 0.05  # of the boxes, from which a finding is a warning
_LONG = 5  # the longer side over the shorter; anchors reach 2
_SMALLEST_BIN, _LARGEST_BIN = 1, 10  # powers of two: below 4 px, 1024 px and more


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of all pictures that decode, one behind another; without padding and crowds.

    Attributes:
        picture: int64 `(n,)`, the place in the list of pictures.
        xyxy: float64 `(n, 4)`, in pixels of the upright picture.
        label: int32 `(n,)`.
        size_hw: int64 `(n, 2)`, its picture's.
    """

    picture: np.ndarray
    xyxy: np.ndarray
    label: np.ndarray
    size_hw: np.ndarray

    @property
    def wh(self) -> np.ndarray:
        return self.xyxy[:, 2:] - self.xyxy[:, :2]

    def sides(self, canvas_hw: tuple[int, int]) -> np.ndarray:
        """Returns the root of each box's area in pixels of a canvas that its picture is letterboxed to."""
        scale = (np.array(canvas_hw) / self.size_hw).min(axis=1)
        return np.sqrt(self.wh.prod(axis=1)) * scale


def gathered(source: Source, pictures: Sequence[Picture]) -> Boxes:
    none = np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int32), np.zeros((0, 2), np.int64)
    found: list[tuple[np.ndarray, ...]] = [none]
    for name, split in source.splits.items():
        places = np.array([place for place, picture in enumerate(pictures) if picture.split == name], np.int64)
        index = np.array([pictures[place].index for place in places], np.int64)
        sizes = np.array([pictures[place].taken.size_hw for place in places], np.int64).reshape(-1, 2)
        labels = split.annotations["labels"][index]
        row, column = np.nonzero((labels >= 0) & ~split.annotations["crowd"][index])
        found.append((places[row], split.annotations["boxes"][index][row, column], labels[row, column], sizes[row]))
    return Boxes(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def size_findings(
    boxes: Boxes, pictures: Sequence[Picture], names: Sequence[str], canvas_hw: tuple[int, int]
) -> Iterator[Finding]:
    """Says which boxes are too small or too large for the pyramid on a canvas, or too long for its anchors.

    Args:
        boxes: Of all splits.
        pictures: What `boxes.picture` points to.
        names: Of the classes.
        canvas_hw: Height and width of the network's input.
    """
    if not len(boxes.label):
        return
    sides, canvas = boxes.sides(canvas_hw), f"{canvas_hw[0]}x{canvas_hw[1]}"
    yield Finding(
        "note",
        f"on a canvas of {canvas} the boxes' sides (roots of their areas) go from {sides.min():.1f} to "
        f"{sides.max():.1f} px, {np.median(sides):.1f} in the median",
    )
    small = sides < FINEST_STRIDE
    if small.any():
        yield Finding(
            _level(small),
            f"boxes smaller than {FINEST_STRIDE} px on a canvas of {canvas}, less than a step of the "
            f"pyramid's finest level (P3, stride {FINEST_STRIDE}): {_share(small)}; {_cure(sides, boxes, canvas_hw)}",
            _by_class(small, boxes.label, names),
        )
    large = sides > LARGEST_ANCHOR
    if large.any():
        yield Finding(
            _level(large),
            f"boxes larger than {LARGEST_ANCHOR:.0f} px on a canvas of {canvas}, more than the largest anchor "
            f"(P7, stride 128): {_share(large)}; a smaller --image-size would do",
            _by_class(large, boxes.label, names),
        )
    ratio = boxes.wh.max(axis=1) / np.maximum(boxes.wh.min(axis=1), 1e-9)
    long = ratio > _LONG
    if long.any():
        order = np.flatnonzero(long)[np.argsort(-ratio[long], kind="stable")].tolist()
        yield Finding(
            _level(long),
            f"boxes with sides more than {_LONG} times as long as the others, which anchors fit badly: {_share(long)}",
            tuple(f"{called(boxes, place, pictures, names)} ({ratio[place]:.1f}:1)" for place in order),
        )


def _cure(sides: np.ndarray, boxes: Boxes, canvas_hw: tuple[int, int]) -> str:
    """What to do about small boxes."""
    size = larger_canvas(sides, canvas_hw)
    asked = str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
    if max(size) <= _LARGEST_CANVAS:
        cures = [f"--image-size {asked} brings {_WANTED_SHARE:.0%} of all boxes to {_WANTED} px or more"]
    else:
        cures = [f"{_WANTED_SHARE:.0%} of all boxes would have {_WANTED} px only at --image-size {asked}"]
    cures.append("--set model.min_level=2 adds a level of stride 4")
    if np.median((np.array(canvas_hw) / boxes.size_hw).min(axis=1)) < 1:
        cures.append("predict --tile looks at large pictures part by part")
    return "; or ".join(cures)


def larger_canvas(sides: np.ndarray, canvas_hw: tuple[int, int]) -> tuple[int, int]:
    """Returns the height and width that bring 95 % of the boxes, which have `sides` on `canvas_hw`, to 16 px."""
    smallest_kept = np.sort(sides)[int((1 - _WANTED_SHARE) * len(sides) + 1e-9)]
    factor = max(_WANTED / smallest_kept, 1.0)
    height, width = (int(np.ceil(side * factor / _SIDE_MULTIPLE - 1e-9)) * _SIDE_MULTIPLE for side in canvas_hw)
    return height, width


def histogram(
    boxes: Boxes, pictures: Sequence[Picture], splits: Sequence[str], canvas_hw: tuple[int, int]
) -> Histogram | None:
    """Counts each split's boxes by the octave of their side on the canvas; `None` where there is no box."""
    if not len(boxes.label):
        return None
    octave = np.floor(np.log2(np.maximum(boxes.sides(canvas_hw), 1))).astype(int)
    octave = np.clip(octave, _SMALLEST_BIN, _LARGEST_BIN)
    of_split = np.array([splits.index(pictures[place].split) for place in boxes.picture])
    bins = {
        _bin(power): {
            split: int(((octave == power) & (of_split == number)).sum()) for number, split in enumerate(splits)
        }
        for power in range(octave.min(), octave.max() + 1)
    }
    return Histogram(f"sides of the boxes on a canvas of {canvas_hw[0]}x{canvas_hw[1]}", bins)


def _bin(power: int) -> str:
    if power == _SMALLEST_BIN:
        return f"below {2 ** (power + 1)} px"
    return f"{2**power} px and more" if power == _LARGEST_BIN else f"{2**power} to {2 ** (power + 1)} px"


def called(boxes: Boxes, place: int, pictures: Sequence[Picture], names: Sequence[str]) -> str:
    """Names a box: file, class, corners."""
    corners = " ".join(f"{round(value, 1):g}" for value in boxes.xyxy[place])
    return f"{pictures[boxes.picture[place]].file}: {names[boxes.label[place]]} at {corners}"


def _level(chosen: np.ndarray) -> str:
    return "warning" if chosen.mean() > _MANY else "note"


def _share(chosen: np.ndarray) -> str:
    return f"{chosen.sum()} of {len(chosen)} ({chosen.mean():.1%})"


def _by_class(chosen: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """Returns "class: n of m" for each class that has some chosen, the largest share first."""
    some = np.bincount(labels[chosen], minlength=len(names))
    every = np.bincount(labels, minlength=len(names))
    order = sorted(np.flatnonzero(some).tolist(), key=lambda label: -some[label] / every[label])
    return tuple(f"{names[label]}: {some[label]} of {every[label]}" for label in order)
