"""Masks of TensorFlow Datasets, as they lie prepared on the disk: `tfds:oxford_iiit_pet` and its kin.

Such a data set has a picture, and a second picture of one channel that holds a class for each pixel. Both stay encoded,
in memory. Ids are `tfds:oxford_iiit_pet/train/17`, in the order of TFDS's own files.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, UnidentifiedImageError

from resnet_tasks.data import masks
from resnet_tasks.data.examples import LabelMap, Source
from resnet_tasks.data.formats import Unreadable
from resnet_tasks.data.readers import splits, tfds
from resnet_tasks.data.readers.pairs_of_masks import Classes, JpegMask, Pair, UnknownIds, assemble
from resnet_tasks.errors import DataError

_FEATURES = ("segmentation_mask", "segmentation_label")
_GREY = ("1", "L", "P", "I", "I;16")  # Pillow's modes of one channel of whole numbers; P's are taken as they stand
_BROKEN = (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError)


@dataclass(frozen=True)
class _Values:
    """What the values of a data set's masks mean.

    Attributes:
        names: Of the classes.
        values: Of the classes, in the same order.
        void: The values of pixels of no class.
        note: The sentence that says so.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    void: tuple[int, ...]
    note: str


# Parkhi et al. 2012, "Cats and Dogs": trimaps of foreground, background, and a border where it may be either.
_KNOWN = {
    "oxford_iiit_pet": _Values(
        names=("background", "pet"),
        values=(2, 1),
        void=(3,),
        note="its trimaps: 1 is the pet, 2 background; 3, the border between the two, is void",
    )
}


def read(where: str, *, data_dir: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads the masks of `tfds:NAME` (`tfds:NAME/CONFIG`, `tfds:NAME:VERSION`).

    Args:
        where: The name, with its `tfds:`.
        data_dir: The folder of prepared data sets; TFDS's own default without.
        split_seed: For a data set with one split only, which is cut 80/10/10.
        group: A regular expression on the ids; only where a single split is cut.

    Raises:
        DataError: The name is unknown, the data are not prepared, they have no picture with a mask, a file is damaged,
            or the pictures do not fit into memory.
    """
    builder = tfds._builder(where, data_dir)
    image, mask = _keys(where, dict(builder.info.features.items()))
    notes = [f"TensorFlow Datasets {builder.info.full_name}: {image} with {mask}", _room(where, builder)]
    pairs: list[Pair] = []
    used: list[str] = []
    for theirs in builder.info.splits:
        name = splits.split_name(theirs)
        if name is None or name in used or not builder.info.splits[theirs].num_examples:
            notes.append(f"its split {theirs!r} is not used")
            continue
        wanted = {image: True, mask: True}
        examples = tfds._examples(where, builder, theirs, wanted, encoded=(image, mask))
        used.append(name)
        for index, example in enumerate(examples):
            picture = f"{where}/{theirs}/{index}"
            pairs.append(Pair(picture, None, example[mask], f"{picture}/{mask}", name, encoded=example[image]))
    if used == ["train"]:
        pairs = [replace(pair, split=None) for pair in pairs]
    values = _values(builder, mask, [pair.mask for pair in pairs])
    return assemble(
        where,
        "tfds",
        pairs,
        Classes(LabelMap(values.names, values.values), _reader(values)),
        split_seed=split_seed,
        group=group,
        notes=(*notes, values.note),
    )


def _keys(where: str, known: Mapping) -> tuple[str, str]:
    """Returns the keys of the picture and of its mask."""
    from tensorflow_datasets import features

    # The files keep no order of the features; of several pictures (Cityscapes' left and right) the first is meant.
    pictures = sorted(
        (key for key, feature in known.items() if isinstance(feature, features.Image)),
        key=lambda key: (key != "image", key),
    )
    labelled = [key for key in pictures if isinstance(known[key], features.LabeledImage)]
    mask = next((key for key in (*_FEATURES, *labelled) if key in pictures), None)
    image = next((key for key in pictures if key not in (*_FEATURES, *labelled)), None)
    if mask is None or image is None:
        raise DataError(
            f"{where}: a picture and a mask (an Image called {' or '.join(_FEATURES)}, or a LabeledImage) were "
            "expected; its features are "
            f"{', '.join(f'{key} ({type(known[key]).__name__})' for key in sorted(known))}"
        )
    channels = known[mask].shape[-1]
    if channels not in (1, None):
        raise DataError(f"{where}: masks of one channel were expected; {mask} has {channels}")
    return image, mask


def _room(where: str, builder) -> str:
    """Returns the sentence on the size; raises DataError where the pictures do not fit into memory."""
    from resnet_tasks.data.pictures import free_memory

    size, free = builder.info.dataset_size, free_memory()
    # Twice: the bytes in Python, and the same in TensorFlow's table.
    sizes_said = f"its {size / 2**30:.1f} GiB, held twice, and {free / 2**30:.1f} GiB of memory are free"
    if 2 * size > free:
        raise DataError(
            f"{where}: too large for memory ({sizes_said}); pictures with masks are read one by one from files only: "
            "name a folder with the data set's own pictures and masks in its place"
        )
    return f"read into memory: {sizes_said}"


def _values(builder, mask: str, entries: Sequence) -> _Values:
    """Tells what the values mean: as it is known, as the feature names them, or by number as they are found."""
    if builder.name in _KNOWN and mask in _FEATURES:
        return _KNOWN[builder.name]
    void = f"; {masks.IGNORE} is void"
    feature = builder.info.features[mask]
    if getattr(feature, "num_classes", None):
        names = tuple(feature.names)
        return _Values(names, tuple(range(len(names))), (masks.IGNORE,), f"its own names of {len(names)} classes{void}")
    found: set[int] = set()
    with ThreadPoolExecutor() as threads:
        for held in threads.map(_found, entries):
            found |= held
    numbers = tuple(sorted(found - {masks.IGNORE}))
    said = void if masks.IGNORE in found else ""
    return _Values(tuple(map(str, numbers)), numbers, (masks.IGNORE,), f"its classes have numbers and no names{said}")


def _found(entry: bytes) -> set[int]:
    try:
        values = np.unique(_decoded(entry))
    except (JpegMask, Unreadable):
        return set()  # whoever reads the mask says so
    return {int(value) for value in values if 0 <= value <= masks.IGNORE}


def _reader(values: _Values) -> Callable[[bytes], np.ndarray]:
    """Returns what reads a mask: from its encoded bytes to contiguous ids."""
    table = np.full(1 + max((*values.values, *values.void)), -1, np.int16)
    table[list(values.values)] = np.arange(len(values.values))
    table[list(values.void)] = masks.IGNORE

    def read_mask(entry: bytes) -> np.ndarray:
        held = _decoded(entry)
        ids = np.where((held >= 0) & (held < len(table)), table[np.clip(held, 0, len(table) - 1)], -1)
        if (ids < 0).any():
            raise UnknownIds(np.unique(held[ids < 0]).tolist(), int((ids < 0).sum()))
        return ids.astype(np.uint8)

    return read_mask


def _decoded(entry: bytes) -> np.ndarray:
    """Returns the values of a mask, integers `(height, width)`; raises JpegMask or Unreadable."""
    try:
        with Image.open(io.BytesIO(entry)) as picture:
            if picture.format in ("JPEG", "MPO"):
                raise JpegMask()
            if picture.mode not in _GREY:
                raise Unreadable(f"a mask of one channel was expected; it is {picture.mode}")
            return np.asarray(picture).astype(np.int64)
    except _BROKEN as error:
        raise Unreadable(str(error)) from None
