"""RoIAlign: the same small grid of features out of every box.

He et al. 2017, https://arxiv.org/abs/1703.06870, section 3; a box's level as in Lin et al. 2016,
https://arxiv.org/abs/1612.03144, equation 1.
"""

from collections.abc import Mapping

from keras import ops

from resnet_tasks.geometry.boxes import area


def roi_align(features: Mapping, boxes, strides: Mapping[str, int], size: int = 7, samples: int = 2, *, aligned=True):
    """Averages the features under each cell of a grid laid over each box, read between the pixels.

    Each box reads one level, the one where it is about as large as an ImageNet picture was to the backbone.  A
    sample up to one cell outside a level reads its border, one further outside reads 0.

    Args:
        features: `{"P2": (batch, h, w, channels), ...}`, finest first.
        boxes: `(batch, n, 4)` xyxy in pixels of the canvas; empty ones, such as padding, read a single spot.
        strides: Pixels of the canvas to a cell, by level.
        size: Cells of the grid, both ways.
        samples: Samples of a cell, both ways; the cell is their mean.
        aligned: Whether a cell's value stands in the cell's middle, which is right.  False: at its top left corner,
            half a cell away, and boxes have sides of at least one cell; for weights that were trained so, such as
            torchvision's detectors (none are read here, hence the default).

    Returns:
        `(batch, n, size, size, channels)` in the features' dtype, with gradients to the features alone.
    """
    boxes = ops.stop_gradient(boxes)
    level = _level_of(boxes, [int(key[1:]) for key in features])
    shapes = [tuple(ops.shape(feature)) for feature in features.values()]
    batch, channels = shapes[0][0], shapes[0][-1]

    def of_level(numbers, dtype):
        """Each box's number, of one for each level."""
        return ops.take(ops.stack([ops.cast(number, dtype) for number in numbers]), level, axis=0)

    stride = of_level([strides[key] for key in features], boxes.dtype)
    height, width = (of_level([shape[axis] for shape in shapes], "int32") for axis in (1, 2))
    rows, down = _taps(boxes[..., 1] / stride, boxes[..., 3] / stride, height, size, samples, aligned)
    columns, across = _taps(boxes[..., 0] / stride, boxes[..., 2] / stride, width, size, samples, aligned)

    # One table of all cells of all levels of all pictures; `first` is where a box's own level begins in it.
    cells = [shape[1] * shape[2] for shape in shapes]
    table = ops.concatenate([ops.reshape(f, (batch, -1, channels)) for f in features.values()], axis=1)
    first = of_level([sum(cells[:place]) for place in range(len(cells))], "int32")
    first = first + ops.arange(batch, dtype="int32")[:, None] * sum(cells)
    rows = first[..., None, None] + rows * width[..., None, None]

    # What a cell of the grid reads lies in a row of its own: read at once, weighed by one product of matrices.  Dense
    # products of all boxes with whole levels are three times slower at 256 pixels, and twenty times at 1,333.
    taps = (2 * samples) ** 2
    index = ops.reshape(rows[:, :, :, None, :, None] + columns[:, :, None, :, None, :], (-1, taps))
    weight = ops.reshape(down[:, :, :, None, :, None] * across[:, :, None, :, None, :], (-1, 1, taps))
    read = ops.take(ops.reshape(table, (-1, channels)), index, axis=0)
    cell = ops.matmul(ops.cast(weight, read.dtype), read)
    return ops.reshape(cell, (batch, ops.shape(boxes)[1], size, size, channels))


def _level_of(boxes, levels: list[int]):
    """The place in `levels` of each box's level: int32, floor(4 + log2(sqrt(area) / 224)), within what there is.

    By comparisons, so that an empty box and one that is no longer finite come out at the finest.
    """
    place = ops.zeros_like(boxes[..., 0], dtype="int32")
    for level in levels[1:]:
        # 1e-6 of a level: a box of exactly 112 pixels belongs to P3, however it was rounded.
        least = 224.0 * 2.0 ** (level - 4 - 1e-6)
        place = place + ops.cast(area(boxes) >= least**2, "int32")
    return place


def _taps(start, end, extent, size: int, samples: int, aligned: bool):
    """Which cells of a level are read along one axis, and how much of each goes into the mean.

    Args:
        start: `(batch, n)`, where each box begins, in cells of its level.
        end: Where it ends.
        extent: int32 `(batch, n)`, cells of its level along this axis.

    Returns:
        Indices int32 and weights `(batch, n, size, 2 * samples)`: the neighbours before and after each sample.
    """
    length = end - start if aligned else ops.maximum(end - start, 1)
    start = start - 0.5 if aligned else start
    steps = (ops.arange(size * samples, dtype=start.dtype) + 0.5) / (size * samples)
    position = start[..., None] + length[..., None] * steps
    last = ops.cast(extent, start.dtype)[..., None] - 1
    inside = ops.logical_and(position >= -1, position <= last + 1)  # False where it is not a number
    position = ops.where(inside, ops.minimum(ops.maximum(position, 0), last), 0)
    low = ops.floor(position)
    share = ops.cast(inside, position.dtype) / samples
    after = (position - low) * share
    index = ops.stack([low, ops.minimum(low + 1, last)], axis=-1)
    weight = ops.stack([share - after, after], axis=-1)
    shape = (*ops.shape(start), size, 2 * samples)
    return ops.reshape(ops.cast(index, "int32"), shape), ops.reshape(weight, shape)
