"""What the three detectors have in common: their settings, their truth, and the candidates they answer with."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras import ops

from resnet_tasks.model import Pyramid, TaskModel


class Candidates(NamedTuple):
    """All that a detector found in a batch, before suppression.

    Attributes:
        boxes: `(batch, n, 1, 4)`, or `(batch, n, classes, 4)` where each class has a box of its own; xyxy in pixels
            of the canvas, and perhaps beyond it.
        scores: `(batch, n, classes)` in 0..1.
    """

    boxes: Any
    scores: Any


class Detector(TaskModel):
    """Images `(batch, height, width, 3)`, RGB 0..255, to the raw predictions of each level of a pyramid.

    Args:
        inputs: The backbone's input.
        outputs: `{name: tensor}`.
        backbone: The `Pyramid` inside.
        class_names: Names in the order of the ids 0, 1, ...
        source_ids: The source's own ids in the same order, or empty.
        image_size: `(height, width)` of the canvas that pictures are brought to.
        threshold: The score from which `predict` shows a box; training chooses it on the validation split.
        floor: The score from which evaluation counts a box.
        overlap: Of two boxes of a class that overlap more than this, the better one stays.
        most: Boxes of a picture, at most.
        settings: The other arguments of the subclass's constructor.
        name: The model's name.
    """

    def __init__(
        self,
        inputs,
        outputs: Mapping,
        *,
        backbone: Pyramid,
        class_names: Sequence[str],
        source_ids: Sequence,
        image_size: Sequence[int],
        threshold: float,
        floor: float,
        overlap: float,
        most: int,
        settings: dict,
        name: str,
    ):
        self.class_names, self.source_ids = list(class_names), list(source_ids)
        self.image_size, self.threshold = tuple(image_size), threshold
        self.floor, self.overlap, self.most = floor, overlap, most
        shared = {
            "class_names": self.class_names,
            "source_ids": self.source_ids,
            "image_size": list(image_size),
            "threshold": threshold,
            "floor": floor,
            "overlap": overlap,
            "most": most,
        }
        super().__init__(inputs, outputs, backbone=backbone, settings={**shared, **settings}, name=name)

    def get_config(self) -> dict:
        return {**super().get_config(), "threshold": self.threshold}

    def candidates(self, outputs: Mapping) -> Candidates:
        """All boxes and scores that this model's outputs mean."""
        raise TypeError(f"{type(self).__name__} must define candidates; Detector is abstract")


def called(name: str, levels: Mapping) -> dict:
    """`{"P3": tensor, ...}` as the outputs `name_P3`, ...; `of_level` is the way back."""
    return {f"{name}_{key}": value for key, value in levels.items()}


def require_names(class_names: Sequence[str]) -> None:
    """Before layers are made of as many channels.

    Raises:
        ValueError: There is none.
    """
    if not class_names:
        raise ValueError("a detector needs the name of at least one class")


def of_level(outputs: Mapping, name: str) -> dict:
    """`{"P3": tensor, ...}` of the outputs `name_P3`, ...: finest first."""
    found = {key.removeprefix(f"{name}_"): value for key, value in outputs.items() if key.startswith(f"{name}_P")}
    return dict(sorted(found.items(), key=lambda pair: int(pair[0][1:])))


def shapes_of(levels: Mapping) -> dict[str, tuple[int, int]]:
    """`{"P3": (height, width), ...}`.

    Raises:
        ValueError: They are not known while the graph is made.
    """
    shapes = {key: tuple(value.shape[1:3]) for key, value in levels.items()}
    if any(side is None for shape in shapes.values() for side in shape):
        raise ValueError(
            "a detector's loss and boxes need pictures of a known height and width; give batches of a fixed size, as "
            'resnet_tasks.batches("detect", ..., image_size=512) does'
        )
    return shapes


def flattened(levels: Mapping, numbers: int):
    """All levels in one row, finest first, by y, then x, then what one place predicts: `(batch, n, numbers)`."""
    rows = [ops.reshape(value, (-1, _places(value) // numbers, numbers)) for value in levels.values()]
    return ops.concatenate(rows, axis=1)


def _places(value) -> int:
    height, width, channels = value.shape[1:]
    return height * width * channels


def weights_of(targets: Mapping, dtype):
    """The weight of each picture, `(batch,)`; 1 where the targets hold none."""
    if "weight" in targets:
        return ops.cast(targets["weight"], dtype)
    return ops.ones(ops.shape(targets["labels"])[:1], dtype)


def taken(values, index):
    """`values` `(batch, m, ...)` at `index` `(batch, n)`: `(batch, n, ...)`."""
    extra = len(values.shape) - 2
    return ops.take_along_axis(values, ops.reshape(index, (*_shape(index), *[1] * extra)), axis=1)


def _shape(tensor) -> tuple:
    return tuple(side if side is not None else ops.shape(tensor)[axis] for axis, side in enumerate(tensor.shape))


def levels_of(backbone: Pyramid, first: int) -> dict:
    """The backbone's features from level `first` on, finest first.

    Raises:
        ValueError: It has no such level, or two of one stride, as a dilated one has.
    """
    found = {key: value for key, value in backbone.output.items() if int(key[1:]) >= first}
    strides = [backbone.strides[key] for key in found]
    if not found or next(iter(found)) != f"C{first}" or strides != [2 ** int(key[1:]) for key in found]:
        raise ValueError(
            f"{backbone.name} has the levels {', '.join(f'{k} (stride {s})' for k, s in backbone.strides.items())}; "
            f"expected C{first} and coarser ones, each at half the size of the one before"
        )
    return found
