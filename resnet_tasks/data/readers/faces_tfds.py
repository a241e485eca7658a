"""Faces of TensorFlow Datasets, as they lie prepared on the disk: `tfds:lfw`, and any pictures with a label.

The pictures stay encoded, in memory. Ids are `tfds:lfw/train/17`, in the order of TFDS's own files.
"""

from resnet_tasks.data.examples import Split
from resnet_tasks.data.readers import splits, tfds
from resnet_tasks.data.readers.identities import Found
from resnet_tasks.errors import DataError

_LABELS = ("label", "identity", "person", "name", "id")


def read(where: str, *, data_dir: str | None = None) -> Found:
    """Reads `tfds:NAME` (`tfds:NAME/CONFIG`, `tfds:NAME:VERSION`); a label is a class or a text.

    Args:
        where: The name, with its `tfds:`.
        data_dir: The folder of prepared data sets; TFDS's own default without.

    Raises:
        DataError: The name is unknown, the data are not prepared, they are not pictures with a label, a file is
            damaged, or they do not fit into memory.
    """
    builder = tfds._builder(where, data_dir)
    image, label = _features(where, dict(builder.info.features.items()))
    class_names = getattr(builder.info.features[label], "names", None)
    notes = [
        f"TensorFlow Datasets {builder.info.full_name}, the label {label!r} is the identity",
        _room(where, builder),
    ]
    ids, encoded, identities, sides = [], [], [], []
    for theirs in builder.info.splits:
        name = splits.split_name(theirs)
        if name is None or not builder.info.splits[theirs].num_examples:
            notes.append(f"its split {theirs!r} is not used")
            continue
        for index, example in enumerate(
            tfds._examples(where, builder, theirs, {image: True, label: True}, encoded=(image,))
        ):
            said = example[label]
            if class_names and said < 0:  # as TFDS marks pictures of unknown class
                continue
            ids.append(f"{where}/{theirs}/{index}")
            encoded.append(example[image])
            identities.append(class_names[said] if class_names else bytes(said).decode())
            sides.append(name)
    if not ids:
        raise DataError(f"{where}: no picture with a label")
    return Found(
        where=where,
        format="tfds",
        whole=Split(name="all", ids=tuple(ids), encoded=tuple(encoded)),
        identities=tuple(identities),
        readable=tuple(range(len(ids))),
        sides=tuple(sides) if set(sides) != {"train"} else None,
        notes=(*notes, f"{len(ids)} pictures of {len(set(identities))} identities, used as they are, not aligned"),
    )


def _features(where: str, known: dict) -> tuple[str, str]:
    """Returns the keys of the picture and of its identity."""
    from tensorflow_datasets import features

    images = [key for key, feature in known.items() if isinstance(feature, features.Image)]
    labels = [key for key, feature in known.items() if isinstance(feature, (features.ClassLabel, features.Text))]
    labels.sort(key=lambda key: (_LABELS.index(key) if key in _LABELS else len(_LABELS), key))
    if not images or not labels or (labels[0] not in _LABELS and len(labels) > 1):
        raise DataError(
            f"{where}: a picture and a label, a ClassLabel or a Text, were expected; its features are "
            f"{', '.join(f'{key} ({type(value).__name__})' for key, value in known.items())}"
        )
    return min(images, key=lambda key: (key != "image", key)), labels[0]


def _room(where: str, builder) -> str:
    """Returns the sentence on the size; raises DataError where the pictures do not fit into memory."""
    from resnet_tasks.data.pictures import free_memory

    size, free = builder.info.dataset_size, free_memory()
    # Twice: the bytes in Python, and the same in TensorFlow's table.
    sizes = f"its {size / 2**30:.1f} GiB, held twice, and {free / 2**30:.1f} GiB of memory are free"
    if 2 * size > free:
        raise DataError(
            f"{where}: too large for memory ({sizes}); lay its pictures out as files, a folder an identity, and name "
            "that folder in its place"
        )
    return f"read into memory: {sizes}"
