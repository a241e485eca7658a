"""The masks that COCO's JSON writes as polygons or as run lengths: held compactly, drawn when they are needed.

Polygons are in pixels, x before y, the first pixel from 0 to 1. Run lengths count pixels down the columns, the first
run outside of the thing (cocodataset.org, "Data format"; pycocotools' mask.py): uncompressed in a list, or compressed
to text.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnet_tasks.data import masks
from resnet_tasks.data.formats import Unreadable

_FEWEST = 6  # numbers of a polygon: with two corners it has no pixel
_FURTHEST = 1_000_000  # pixels; the lines to a corner are drawn step by step, a far one would take forever


@dataclass(frozen=True)
class Thing:
    """One annotation.

    Attributes:
        shape: Its `segmentation`, as `compact` left it.
        category: The key of its class.
        called: What a message calls it.
        crowd: Whether it surrounds many things at once.
    """

    shape: Any
    category: Hashable
    called: str
    crowd: bool = False


def compact(value: dict) -> dict:
    """For `json.loads`: packs the numbers of polygons and run lengths, 32 bytes each as Python has them, into 8.

    What is not as it should be is left as it is; `rle` says so when its picture is drawn.
    """
    value.pop("keypoints", None)
    shape = value.get("segmentation")
    if isinstance(shape, list):
        parts = [shape] if shape and not any(isinstance(part, list) for part in shape) else shape
        value["segmentation"] = [_packed("d", part) for part in parts]
    elif isinstance(shape, dict) and isinstance(shape.get("counts"), list):
        value["segmentation"] = {**shape, "counts": _packed("q", shape["counts"])}
    return value


def _packed(kind: str, numbers: Any) -> Any:
    try:
        return array(kind, numbers) if isinstance(numbers, list) else numbers
    except (TypeError, OverflowError):
        return numbers


def draw(things: Sequence[Thing], size_hw: tuple[int, int], ids: dict[Hashable, int], background: int) -> np.ndarray:
    """Draws things into a mask: crowds first, as void, then the largest, so that the smaller ones stay visible.

    Args:
        things: Those of a picture; where two have as many pixels the later one lies above.
        size_hw: The picture's height and width.
        ids: The id of each category's key.
        background: The id of what no thing covers.

    Returns:
        uint8 `(height, width)`.

    Raises:
        Unreadable: A shape that cannot be drawn; the message names the annotation.
    """
    from faster_coco_eval.core import mask as coco_mask

    drawn = []
    for thing in things:
        try:
            encoded = rle(thing.shape, size_hw)
        except ValueError as error:
            raise Unreadable(f"{thing.called}: {error}") from None
        if encoded is not None:
            drawn.append((not thing.crowd, -int(coco_mask.area(encoded)), thing, encoded))
    mask = np.full(size_hw, background, np.uint8)
    for *_, thing, encoded in sorted(drawn, key=lambda each: each[:2]):
        mask[coco_mask.decode(encoded) > 0] = masks.IGNORE if thing.crowd else ids[thing.category]
    return mask


def rle(shape: Any, size_hw: tuple[int, int]) -> dict | None:
    """Returns a shape as compressed run lengths; None for polygons without area.

    Raises:
        ValueError: It cannot be drawn; the message says why.
    """
    if isinstance(shape, dict):
        return _of_counts(shape, size_hw)
    if not isinstance(shape, list) or not shape:
        raise ValueError("no polygon and no run lengths (segmentation)")
    from faster_coco_eval.core import mask as coco_mask

    for part in shape:
        if not isinstance(part, array) or len(part) % 2:
            raise ValueError("a polygon is no list of x and y in turn")
        if not all(map(math.isfinite, part)):
            raise ValueError("a polygon has a corner that is not finite")
        if max(map(abs, part), default=0) > _FURTHEST:
            raise ValueError(f"a polygon has a corner further than {_FURTHEST} pixels away")
    parts = [part.tolist() for part in shape if len(part) >= _FEWEST]
    return coco_mask.merge(coco_mask.frPyObjects(parts, *size_hw)) if parts else None


def _of_counts(shape: dict, size_hw: tuple[int, int]) -> dict:
    from faster_coco_eval.core import mask as coco_mask

    counts, size = shape.get("counts"), shape.get("size")
    if size != list(size_hw):
        raise ValueError(f"run lengths for a size (height, width) of {size}; the picture's is {list(size_hw)}")
    if isinstance(counts, str):
        encoded = {"size": list(size_hw), "counts": counts}  # in a file they may stand as 40.0
        try:
            coco_mask.decode(encoded)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"compressed run lengths that are broken: {error}") from None
        return encoded
    if not isinstance(counts, array) or min(counts, default=0) < 0:
        raise ValueError("run lengths that are no list of whole numbers from 0, and no text")
    if sum(counts) != math.prod(size_hw):
        raise ValueError(f"run lengths of {sum(counts)} pixels in all; {math.prod(size_hw)} are needed")
    return coco_mask.frPyObjects({"size": list(size_hw), "counts": counts.tolist()}, *size_hw)
