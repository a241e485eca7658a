"""Boxes of TensorFlow Datasets, as they lie prepared on the disk: `tfds:voc`, `tfds:coco`, `tfds:bccd` and their kin.

Such a data set has a picture and a sequence of things, each with a `bbox` (fractions, top left bottom right) and a
`label`. The pictures stay encoded, in memory. Ids are `tfds:voc/train/17`, in the order of TFDS's own files.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from resnet_tasks.data.examples import LabelMap, Source
from resnet_tasks.data.readers import boxes, sizes, splits, tfds
from resnet_tasks.errors import DataError

# Made from VOC's XML files, whose first pixel is 1: TFDS divides their corners by the picture's sides as they are
# (its object_detection/voc.py and datasets/bccd).
_FROM_ONE = ("voc", "bccd")
# Of a pixel. TFDS's fractions are float32: within 0.00025 of a pixel in pictures of 8192.
_DECIMALS = 3


@dataclass(frozen=True)
class _Keys:
    """The names of the features.

    Attributes:
        image: The picture.
        things: The sequence of things with a box each.
        bbox: The box within it.
        others: What else of it is read, of `label`, `is_crowd`, `area` and `id`.
        image_id: Whether pictures are numbered.
    """

    image: str
    things: str
    bbox: str
    others: tuple[str, ...]
    image_id: bool


def read(where: str, *, data_dir: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads the boxes of `tfds:NAME` (`tfds:NAME/CONFIG`, `tfds:NAME:VERSION`).

    Args:
        where: The name, with its `tfds:`.
        data_dir: The folder of prepared data sets; TFDS's own default without.
        split_seed: For a data set with one split only, which is cut 80/10/10.
        group: A regular expression on the ids; only where a single split is cut.

    Raises:
        DataError: The name is unknown, the data are not prepared, they have no boxes with labels, a file is damaged,
            or the pictures do not fit into memory.
    """
    builder = tfds._builder(where, data_dir)
    keys = _keys(where, dict(builder.info.features.items()))
    notes = [f"TensorFlow Datasets {builder.info.full_name}", _room(where, builder)]
    pictures: list[boxes.Picture] = []
    used = []
    for theirs in builder.info.splits:
        name = splits.split_name(theirs)
        if name is None or name in used or not builder.info.splits[theirs].num_examples:
            notes.append(f"its split {theirs!r} is not used")
            continue
        part = _pictures(where, builder, keys, theirs, name)
        if any(picture.rows for picture in part):
            pictures += part
            used.append(name)
        else:
            notes.append(f"its split {theirs!r} has no boxes and is not used")
    if builder.name in _FROM_ONE:
        notes.append("its corners are VOC's, counted from 1: left and top are taken one pixel less")
    names = tuple(builder.info.features[keys.things].feature["label"].names)
    return boxes.assemble(
        where,
        "tfds",
        pictures,
        boxes.Categories(LabelMap(names), {label: label for label in range(len(names))}),
        split_seed=split_seed,
        group=group,
        notes=notes,
    )


def _keys(where: str, known: dict) -> _Keys:
    from tensorflow_datasets import features

    # The files keep no order of the features; of two pictures (COCO's panoptic) the one called so is meant.
    known = {key: known[key] for key in sorted(known, key=lambda key: (key not in ("image", "objects"), key))}
    image = next((key for key, feature in known.items() if isinstance(feature, features.Image)), None)
    for things, feature in known.items():
        inner = dict(feature.feature.items()) if _is_sequence_of_dicts(feature) else {}
        bbox = next((key for key, each in inner.items() if isinstance(each, features.BBoxFeature)), None)
        if image and bbox and isinstance(inner.get("label"), features.ClassLabel):
            order = getattr(inner[bbox], "bbox_format", None)
            if order not in (None, features.bounding_boxes.bb_utils.BBoxFormat.REL_YXYX):
                raise DataError(f"{where}: boxes as fractions, top left bottom right, were expected; it has {order}")
            others = tuple(key for key in ("label", "is_crowd", "is_difficult", "area", "id") if key in inner)
            return _Keys(image, things, bbox, others, image_id=_is_whole(known.get("image/id")))
    raise DataError(
        f"{where}: a picture and a sequence of things, each with a box and a ClassLabel called 'label', were expected; "
        f"its features are {', '.join(f'{key} ({type(value).__name__})' for key, value in known.items())}"
    )


def _is_sequence_of_dicts(feature) -> bool:
    from tensorflow_datasets import features

    return isinstance(feature, features.Sequence) and isinstance(feature.feature, features.FeaturesDict)


def _is_whole(feature) -> bool:
    return feature is not None and feature.shape == () and np.issubdtype(feature.np_dtype, np.integer)


def _room(where: str, builder) -> str:
    """Returns the sentence on the size; raises DataError where the pictures do not fit into memory."""
    from resnet_tasks.data.pictures import free_memory

    size, free = builder.info.dataset_size, free_memory()
    # Twice: the bytes in Python, and the same in TensorFlow's table.
    sizes_said = f"its {size / 2**30:.1f} GiB, held twice, and {free / 2**30:.1f} GiB of memory are free"
    if 2 * size > free:
        raise DataError(
            f"{where}: too large for memory ({sizes_said}); pictures with boxes are read one by one from files only: "
            "name the data set's own annotation file (COCO's .json) or folder (VOC's) in its place"
        )
    return f"read into memory: {sizes_said}"


def _pictures(where: str, builder, keys: _Keys, theirs: str, name: str) -> list[boxes.Picture]:
    wanted: dict = {keys.image: True, keys.things: dict.fromkeys((keys.bbox, *keys.others), True)}
    if keys.image_id:
        wanted["image/id"] = True
    examples = tfds._examples(where, builder, theirs, wanted, encoded=(keys.image,))
    encoded = [example[keys.image] for example in examples]
    pictures = []
    for index, (example, size) in enumerate(zip(examples, sizes.upright_sizes(encoded), strict=True)):
        picture = f"{where}/{theirs}/{index}"
        pictures.append(
            boxes.Picture(
                name=picture,
                path=None,
                rows=tuple(_rows(picture, example[keys.things], keys, size, 1.0 if builder.name in _FROM_ONE else 0.0)),
                split=name,
                image_id=int(example["image/id"]) if keys.image_id else None,
                encoded=encoded[index],
            )
        )
    return pictures


def _rows(picture: str, things: dict, keys: _Keys, size: tuple[int, int] | str, first: float) -> Iterator[boxes.Row]:
    """Yields the boxes of a picture; `first` is what the source calls the first pixel."""
    # Rows of a picture that nobody can read are still counted, and no box may look too small.
    height, width = size if isinstance(size, tuple) else (2**16, 2**16)
    for place, (top, left, bottom, right) in enumerate(things[keys.bbox].astype(float).tolist()):
        corners = (left * width - first, top * height - first, right * width, bottom * height)
        box = tuple(round(corner, _DECIMALS) for corner in corners)
        yield boxes.Row(
            box=box,
            category=int(things["label"][place]),
            called=f"annotation {things['id'][place]}" if "id" in things else f"object {place + 1} of {picture}",
            crowd=any(bool(things[kind][place]) for kind in ("is_crowd", "is_difficult") if kind in things),
            area=float(things["area"][place]) if "area" in things else None,
        )
