"""Masks as COCO's annotations: each region of a class a polygon along the edges of its pixels, which gives it back.

COCO's polygons have no holes; a region that has some is written as uncompressed run lengths.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from resnet_tasks.data.examples import LabelMap

BACKGROUND = "background"
# Directions in the order of a right turn, y downwards: east, south, west, north.
_DX, _DY = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])
_RIGHT, _STRAIGHT, _LEFT = 1, 0, 3  # added to a direction


def coco(pictures: Iterable[tuple[str, np.ndarray]], labels: LabelMap, *, connectivity: int = 8) -> dict:
    """Writes masks as the content of COCO's JSON.

    Args:
        pictures: Each one's file and mask, ids uint8 `(height, width)`.
        labels: The classes. A category's id is the source's own number where all classes have whole ones, else the
            contiguous id; one called "background" is no category.
        connectivity: As for `annotations`.
    """
    numbers = labels.source_ids
    own = len(numbers) == len(labels) and all(isinstance(number, (int, np.integer)) for number in numbers)
    ids = {
        label: int(numbers[label]) if own else label
        for label, name in enumerate(labels.names)
        if name.lower() != BACKGROUND
    }
    images, rows = [], []
    for number, (name, mask) in enumerate(pictures, 1):
        images.append({"id": number, "file_name": name, "height": int(mask.shape[0]), "width": int(mask.shape[1])})
        rows += annotations(mask, number, ids, connectivity=connectivity, first_id=len(rows) + 1)
    categories = [{"id": key, "name": labels.names[label], "supercategory": ""} for label, key in ids.items()]
    return {"images": images, "annotations": rows, "categories": categories}


def annotations(
    mask: np.ndarray,
    image_id: int,
    category_ids: Mapping[int, int] | Sequence[int],
    *,
    connectivity: int = 8,
    first_id: int = 1,
) -> list[dict]:
    """Writes each region of a mask as an annotation.

    Args:
        mask: Ids, unsigned integers `(height, width)`.
        image_id: The picture's number.
        category_ids: The category of each id; ids that it lacks (void, and in a mapping any) are not written.
        connectivity: 8 where pixels that touch at a corner belong to one region, 4 where they do not.
        first_id: The first annotation's number. Evaluations of COCO take 0 for none at all.

    Returns:
        In the order of the regions' first pixels, row by row: `id`, `image_id`, `category_id`, `iscrowd` (0), `area`
        in pixels, `bbox` (left, top, width, height), `segmentation`: one polygon with corners in whole pixels, or the
        run lengths of a region with holes. Drawn by COCO's rules either gives the region exactly.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity: 4 or 8 expected, not {connectivity}")
    if not mask.size:
        return []
    category = dict(category_ids if isinstance(category_ids, Mapping) else enumerate(category_ids))
    regions, values = label_regions(mask, connectivity)
    areas = np.bincount(regions.ravel())
    wanted = np.isin(values, list(category))
    shapes = _shapes(regions, areas, wanted, connectivity)
    boxes = _boxes(regions, len(values))
    rows = []
    for region in np.flatnonzero(wanted).tolist():
        left, top, right, bottom = boxes[region].tolist()
        rows.append(
            {
                "id": first_id + len(rows),
                "image_id": image_id,
                "category_id": category[int(values[region])],
                "iscrowd": 0,
                "area": int(areas[region]),
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": shapes[region],
            }
        )
    return rows


def _shapes(regions: np.ndarray, areas: np.ndarray, wanted: np.ndarray, connectivity: int) -> list[list | dict]:
    """The `segmentation` of each wanted region; of the others an empty list."""
    corners, loops = _outlines(regions, wanted, connectivity)
    shapes: list[list | dict] = [[points] if points else [] for points in corners]
    places, ends = np.argsort(regions.ravel(order="F"), kind="stable"), np.cumsum(areas)
    for region in np.flatnonzero(loops > 1):
        shapes[region] = run_lengths(places[ends[region] - areas[region] : ends[region]], regions.shape)
    return shapes


def label_regions(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the connected regions of equal ids.

    Args:
        mask: Ids `(height, width)`.
        connectivity: 4 or 8.

    Returns:
        int64 `(height, width)`, the number of each pixel's region, from 0 in the order of their first pixels; and the
        id of each region.
    """
    height, width = mask.shape
    begins = np.ones((height, width), bool)
    begins[:, 1:] = mask[:, 1:] != mask[:, :-1]
    run = np.cumsum(begins).reshape(height, width) - 1  # a row's runs of one id, numbered through all rows
    above, below = [run[:-1].ravel()], [run[1:].ravel()]
    alike = [(mask[1:] == mask[:-1]).ravel()]
    if connectivity == 8:
        for upper, lower in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            above.append(run[:-1, upper].ravel())
            below.append(run[1:, lower].ravel())
            alike.append((mask[:-1, upper] == mask[1:, lower]).ravel())
    touching = np.concatenate(alike)
    runs = int(run[-1, -1]) + 1
    pairs = np.unique(np.concatenate(above)[touching] * runs + np.concatenate(below)[touching])
    root = _joined(runs, pairs // runs, pairs % runs)
    first, number = np.unique(root, return_inverse=True)
    return number[run], mask.ravel()[np.flatnonzero(begins)[first]]


def _joined(count: int, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """The lowest number that each of `count` is joined with, where each of `one` is joined with its place in `two`."""
    root = np.arange(count)
    while True:
        ends = np.minimum(root[one], root[two])
        lower = root.copy()
        # Roots are lowered, and what hangs on them follows when each looks up its root's root.
        np.minimum.at(lower, root[one], ends)
        np.minimum.at(lower, root[two], ends)
        while (lower[lower] != lower).any():
            lower = lower[lower]
        if (lower == root).all():
            return root
        root = lower


def _boxes(regions: np.ndarray, count: int) -> np.ndarray:
    """The extent of each region, int64 `(count, 4)`, xyxy."""
    height, width = regions.shape
    rows, columns = np.divmod(np.arange(regions.size), width)
    boxes = np.tile(np.array([width, height, 0, 0]), (count, 1))
    for column, (function, values) in enumerate(
        [(np.minimum, columns), (np.minimum, rows), (np.maximum, columns + 1), (np.maximum, rows + 1)]
    ):
        function.at(boxes[:, column], regions.ravel(), values)
    return boxes


def _outlines(regions: np.ndarray, wanted: np.ndarray, connectivity: int) -> tuple[list[list[int]], np.ndarray]:
    """Follows the edges of the wanted regions, each on the right hand, and keeps the corners.

    Returns:
        For each region the corners of the loop that it is first met at, x and y in turn; and how many loops it has.
    """
    region, start, way = _edges(regions, wanted)
    follower = _followers(region, start, way, regions.shape, connectivity).tolist()
    across = regions.shape[1] + 1
    corners: list[list[int]] = [[] for _ in wanted]
    loops = np.zeros(len(wanted), np.int64)
    owner, ways, starts = region.tolist(), way.tolist(), start.tolist()
    seen = [False] * len(follower)
    for first in range(len(follower)):
        if seen[first]:
            continue
        points: list[int] = []
        edge = first
        while not seen[edge]:
            seen[edge] = True
            after = follower[edge]
            if ways[after] != ways[edge]:
                points += (starts[after] % across, starts[after] // across)
            edge = after
        loops[owner[first]] += 1
        corners[owner[first]] = corners[owner[first]] or points
    return corners, loops


def _edges(regions: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sides of pixels that border on another region: whose they are, the corner they begin at, their direction."""
    height, width = regions.shape
    padded = np.pad(regions, 1, constant_values=-1)
    found = []
    # A pixel's top is walked east from its top left corner, its right side south from its top right one, and so on.
    for way, (beside_y, beside_x, at_y, at_x) in enumerate([(-1, 0, 0, 0), (0, 1, 0, 1), (1, 0, 1, 1), (0, -1, 1, 0)]):
        beside = padded[1 + beside_y : 1 + beside_y + height, 1 + beside_x : 1 + beside_x + width]
        rows, columns = np.nonzero((beside != regions) & wanted[regions])
        start = (rows + at_y) * (width + 1) + columns + at_x
        found.append((regions[rows, columns], start, np.full(len(rows), way)))
    region, start, direction = (np.concatenate(parts) for parts in zip(*found))
    return region, start, direction


def _followers(
    region: np.ndarray, start: np.ndarray, way: np.ndarray, shape: tuple[int, int], connectivity: int
) -> np.ndarray:
    """The place of the edge that follows each.

    Where two pixels of a region touch at a corner alone, a left turn passes from one to the other, a right turn stays.
    """
    height, width = shape
    across = width + 1
    points = across * (height + 1)
    keys = (region * points + start) * 4 + way
    order = np.argsort(keys)
    ordered = keys[order]
    end = start + _DY[way] * across + _DX[way]
    follower = np.full(len(keys), -1)
    turns = (_LEFT, _STRAIGHT, _RIGHT) if connectivity == 8 else (_RIGHT, _STRAIGHT, _LEFT)
    for turn in turns:
        sought = (region * points + end) * 4 + (way + turn) % 4
        place = np.minimum(np.searchsorted(ordered, sought), len(ordered) - 1)
        follower = np.where((follower < 0) & (ordered[place] == sought), order[place], follower)
    return follower


def run_lengths(places: np.ndarray, shape: Sequence[int]) -> dict:
    """COCO's uncompressed run lengths of a mask of `shape`: down the columns, the first run outside.

    Args:
        places: The pixels inside, ascending, counted down the columns from 0.
    """
    height, width = (int(side) for side in shape)
    begins = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    ends = np.append(begins[1:], len(places)) - 1
    changes = np.stack([places[begins], places[ends[: len(begins)]] + 1], axis=1).ravel()
    counts = np.diff(changes, prepend=0, append=height * width).tolist()
    return {"size": [height, width], "counts": counts[: len(counts) - (counts[-1] == 0 and len(counts) > 1)]}
