"""Data sets of TensorFlow Datasets by name, as they lie prepared on the disk.

The pictures stay encoded and are read into memory once, which makes them random access:
CIFAR-10's 60,000 are 135 MB. Ids are `tfds:cifar10/test/17`, in the order of TFDS's own files.
"""

import numpy as np

from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.data.readers import splits
from resnet_tasks.errors import DataError, nearest


def read(where: str, *, data_dir: str | None = None, split_seed: int = 0, group: str | None = None) -> Source:
    """Reads `tfds:NAME` (`tfds:NAME/CONFIG`, `tfds:NAME:VERSION`).

    Args:
        where: The name, with its `tfds:`.
        data_dir: The folder of prepared data sets; TFDS's own default without.
        split_seed: For a data set with one split only, which is cut 80/10/10.
        group: A regular expression on the ids; only where a single split is cut.

    Raises:
        DataError: The name is unknown, the data are not prepared, the pictures are not of a
            classification, or they do not fit into memory.
    """
    builder = _builder(where, data_dir)
    image, label = _features(where, builder.info)
    labels = LabelMap(names=tuple(builder.info.features[label].names))
    _check_memory(where, builder.info)
    found, notes = {}, [f"TensorFlow Datasets {builder.info.full_name}"]
    for theirs in builder.info.splits:
        name = splits.split_name(theirs)
        if name is None or name in found:
            notes.append(f"its split {theirs!r} is not used")
            continue
        split = _read_split(where, builder, theirs, name, image, label)
        if len(split) and split.annotations["label"].min() < 0:
            notes.append(f"its split {theirs!r} has no labels and is not used")
        else:
            found[name] = split
    if list(found) == ["train"]:
        whole = found["train"]
        groups = splits.grouped(whole.ids, group) if group else None
        sides = splits.hashed(whole.ids, whole.annotations["label"].tolist(), groups, split_seed)
        found = splits.cut(whole, sides)
        notes.append(splits.note(split_seed, group))
    else:
        notes.append(f"its own splits: {', '.join(found)}")
    return Source(where=where, format="tfds", labels=labels, splits=found, notes=tuple(notes))


def _builder(where: str, data_dir: str | None):
    import tensorflow_datasets

    name = where.removeprefix("tfds:")
    try:
        builder = tensorflow_datasets.builder(name, data_dir=data_dir)
    except tensorflow_datasets.core.registered.DatasetNotFoundError:
        alike = nearest(name, tensorflow_datasets.list_builders(with_community_datasets=False))
        raise DataError(f"{where}: TensorFlow Datasets has no {name!r}{alike}") from None
    except (ValueError, AssertionError) as error:  # an unknown configuration or version
        raise DataError(f"{where}: {error}") from None
    if not builder.info.splits:
        raise DataError(
            f"{where}: not prepared in {builder.data_dir}; name the folder that holds it with "
            f"--data-dir, or prepare it: tfds build {name}" + (f" --data_dir {data_dir}" if data_dir else "")
        )
    return builder


def _features(where: str, info) -> tuple[str, str]:
    """Returns the keys of the picture and of its class."""
    from tensorflow_datasets import features

    keys: tuple = info.supervised_keys or ()
    if len(keys) == 2 and all(isinstance(key, str) for key in keys):
        image, label = keys
    else:
        kinds = {type(feature): key for key, feature in reversed(info.features.items())}
        image, label = kinds.get(features.Image), kinds.get(features.ClassLabel)
    known = dict(info.features.items())
    if not isinstance(known.get(image), features.Image) or not isinstance(known.get(label), features.ClassLabel):
        raise DataError(
            f"{where}: a picture and a class label were expected; its features are "
            f"{', '.join(f'{key} ({type(value).__name__})' for key, value in known.items())}"
        )
    return image, label


def _check_memory(where: str, info) -> None:
    import psutil

    free = psutil.virtual_memory().available
    # Twice: the bytes in Python, and the same in TensorFlow's table.
    if 2 * info.dataset_size > free:
        raise DataError(
            f"{where}: its {info.dataset_size / 2**30:.1f} GiB of encoded pictures, held twice, do "
            f"not fit into the {free / 2**30:.1f} GiB of free memory; lay the pictures out as "
            "files (a folder a class), which are read as they are needed"
        )


def _read_split(where: str, builder, theirs: str, name: str, image: str, label: str) -> Split:
    import tensorflow_datasets

    records = builder.as_dataset(
        split=theirs,
        shuffle_files=False,
        decoders=tensorflow_datasets.decode.PartialDecoding(
            {image: True, label: True}, decoders={image: tensorflow_datasets.decode.SkipDecoding()}
        ),
        # One file after the other, so that a picture's number means the same everywhere.
        read_config=tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    encoded, labels = [], []
    for batch in records.batch(1024).as_numpy_iterator():
        encoded.extend(batch[image].tolist())
        labels.append(batch[label])
    return Split(
        name=name,
        ids=tuple(f"{where}/{theirs}/{index}" for index in range(len(encoded))),
        encoded=tuple(encoded),
        annotations={"label": np.concatenate([*labels, []]).astype(np.int32)},
    )
