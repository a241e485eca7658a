"""Data sets of TensorFlow Datasets by name, as they lie prepared on the disk.

The pictures stay encoded. What fits easily is read into memory once, which makes it random access: CIFAR-10's 60,000
are 135 MB. Of what does not, each record is read from its file when its picture is needed. Ids are
`tfds:cifar10/test/17`, in the order of TFDS's own files, either way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from resnet_tasks.data import records
from resnet_tasks.data.examples import LabelMap, Source, Split
from resnet_tasks.data.readers import record_index, splits
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
            classification, a file is damaged, or its format has no random access and the pictures do not fit into
            memory.
    """
    builder = _builder(where, data_dir)
    image, label = _features(where, builder.info)
    labels = LabelMap(names=tuple(builder.info.features[label].names))
    read_split, how = _way_of_reading(where, builder)
    found, notes = {}, [f"TensorFlow Datasets {builder.info.full_name}", how]
    for theirs in builder.info.splits:
        name = splits.split_name(theirs)
        if name is None or name in found or not builder.info.splits[theirs].num_examples:
            notes.append(f"its split {theirs!r} is not used")
            continue
        held, classes = read_split(where, builder, theirs, image, label)
        ids = tuple(f"{where}/{theirs}/{index}" for index in range(len(classes)))
        split = Split(name=name, ids=ids, annotations={"label": classes}, **held)
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


def _way_of_reading(where: str, builder) -> tuple[Callable, str]:
    """Returns the function below that reads a split, and the sentence that says which and why."""
    from resnet_tasks.data.pictures import free_memory

    kind, size, free = _kind(builder), builder.info.dataset_size, free_memory()
    # Twice: the bytes in Python, and the same in TensorFlow's table.
    sizes = f"its {size / 2**30:.1f} GiB, held twice, and {free / 2**30:.1f} GiB of memory are free"
    if kind == "tfrecord" and 2 * size >= free / 2:
        return _by_records, f"read record by record as the pictures are needed: {sizes}"
    if 2 * size > free:
        name = where.removeprefix("tfds:")
        raise DataError(
            f"{where}: too large for memory ({sizes}), and read at random only from TFRecord files; it is prepared as "
            f"{kind}: prepare it again, in another folder, with tfds build {name} --file_format=tfrecord"
        )
    return (_array_records if kind == "array_record" else _into_memory), f"read into memory: {sizes}"


def _into_memory(where: str, builder, theirs: str, image: str, label: str) -> tuple[dict[str, Any], np.ndarray]:
    import tensorflow as tf
    import tensorflow_datasets

    decoders = {image: tensorflow_datasets.decode.SkipDecoding()}
    try:
        examples = builder.as_dataset(
            split=theirs,
            shuffle_files=False,
            decoders=tensorflow_datasets.decode.PartialDecoding({image: True, label: True}, decoders=decoders),
            # One file after the other, so that a picture's number means the same everywhere.
            read_config=tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
        encoded, labels = [], []
        for batch in examples.batch(1024).as_numpy_iterator():
            encoded.extend(batch[image].tolist())
            labels.append(batch[label])
    except tf.errors.OpError as error:
        if _kind(builder) == "tfrecord":
            records.index_files(_paths(builder, theirs))  # names the file and the place, if one is cut off
        raise DataError(f"{where}: its split {theirs!r}: {records.because(error)}") from None
    return {"encoded": tuple(encoded)}, np.concatenate([*labels, []]).astype(np.int32)


def _array_records(where: str, builder, theirs: str, image: str, label: str) -> tuple[dict[str, Any], np.ndarray]:
    """`_into_memory` for ArrayRecord files, of which TFDS makes no tf.data.Dataset."""
    import tensorflow as tf
    from tensorflow_datasets import decode

    spec = {image: tf.io.FixedLenFeature((), tf.string), label: tf.io.FixedLenFeature((), tf.int64)}
    encoded, labels = [], []
    try:
        files = builder.as_data_source(theirs, deserialize_method=decode.DeserializeMethod.RAW_BYTES)
        for start in range(0, len(files), 1024):
            serialised = files.__getitems__(list(range(start, min(start + 1024, len(files)))))
            batch = tf.io.parse_example(serialised, spec)
            encoded.extend(batch[image].numpy().tolist())
            labels.append(batch[label].numpy())
    except ImportError:
        raise DataError(f"{where}: its ArrayRecord files need a package: pip install array_record") from None
    except (RuntimeError, tf.errors.OpError) as error:  # of a file that is cut off some records come empty
        said = records.because(error) if isinstance(error, tf.errors.OpError) else error
        raise DataError(f"{where}: an ArrayRecord file of its split {theirs!r} is damaged: {said}") from None
    return {"encoded": tuple(encoded)}, np.concatenate([*labels, []]).astype(np.int32)


def _by_records(where: str, builder, theirs: str, image: str, label: str) -> tuple[dict[str, Any], np.ndarray]:
    paths = _paths(builder, theirs)
    index = record_index.of_tfrecords(where, paths, label)
    counts = np.bincount(index.places[:, 0], minlength=len(paths))
    for shard, count in zip(builder.info.splits[theirs].file_instructions, counts, strict=True):
        if shard.examples_in_shard != count:
            raise DataError(
                f"{shard.filename} holds {count} records, and its dataset_info.json says {shard.examples_in_shard}; "
                "copy it again, or prepare the data set again"
            )
    return {"records": records.Records(tuple(paths), index.places, image)}, index.labels


def _examples(where: str, builder, theirs: str, wanted: Mapping, *, encoded: Sequence[str]) -> list[dict]:
    """Returns some features of each example, in the order of the files.

    Args:
        where: What the user named, for messages.
        builder: The data set.
        theirs: One of its splits.
        wanted: The features, as `tensorflow_datasets.decode.PartialDecoding` takes them.
        encoded: Those of them that are pictures and stay bytes.

    Raises:
        DataError: A file is damaged, or a package is lacking that reads it.
    """
    import tensorflow as tf

    try:
        return list(_decoded(builder, theirs, wanted, encoded))
    except ImportError:
        raise DataError(f"{where}: its ArrayRecord files need a package: pip install array_record") from None
    except (RuntimeError, tf.errors.OpError) as error:  # of an ArrayRecord file that is cut off some records come empty
        if _kind(builder) == "tfrecord":
            records.index_files(_paths(builder, theirs))  # names the file and the place, if one is cut off
        said = records.because(error) if isinstance(error, tf.errors.OpError) else error
        raise DataError(f"{where}: a file of its split {theirs!r} is damaged: {said}") from None


def _decoded(builder, theirs: str, wanted: Mapping, encoded: Sequence[str]) -> Iterator[dict]:
    import tensorflow as tf
    import tensorflow_datasets
    from tensorflow_datasets import decode

    decoders = {key: decode.SkipDecoding() for key in encoded}
    partial = decode.PartialDecoding(wanted, decoders=decoders)
    if _kind(builder) != "array_record":
        yield from builder.as_dataset(
            split=theirs,
            shuffle_files=False,
            decoders=partial,
            # One file after the other, so that a picture's number means the same everywhere.
            read_config=tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        ).as_numpy_iterator()
        return
    # Of ArrayRecord files TFDS makes no tf.data.Dataset.
    files = builder.as_data_source(theirs, deserialize_method=decode.DeserializeMethod.RAW_BYTES)
    features = partial.extract_features(builder.info.features)
    serialised = tf.data.Dataset.from_tensor_slices(files.__getitems__(list(range(len(files)))))
    yield from serialised.map(
        lambda example: features.deserialize_example(example, decoders=decoders)
    ).as_numpy_iterator()


def _kind(builder) -> str:
    """The format of the prepared files: "tfrecord", "array_record", "parquet", "riegeli"."""
    return builder.info.file_format.value if builder.info.file_format else "tfrecord"


def _paths(builder, theirs: str) -> list[str]:
    return [shard.filename for shard in builder.info.splits[theirs].file_instructions]
