"""The label map and the splits."""

import json

import numpy as np
import pytest
from PIL import Image

from resnet_tasks.data.examples import LabelMap, Split
from resnet_tasks.errors import DataError

MODEL = LabelMap(names=("airplane", "car", "cat"))


def test_a_label_map_survives_json():
    labels = LabelMap(names=("rbc", "wbc"), source_ids=(7, 3), colors=((255, 0, 0), (0, 0, 255)))
    assert LabelMap.from_json(json.loads(json.dumps(labels.to_json()))) == labels


@pytest.mark.parametrize(
    ("names", "mapping", "ids"),
    [
        (("airplane", "car", "cat"), None, [0, 1, 2]),  # the same map
        (("cat", "airplane"), None, [2, 0]),  # a subset in another order: by name, never by place
        (("kitten", "car"), {"kitten": "cat"}, [2, 1]),  # another name for it
        (("dog", "cat"), {"dog": "ignore"}, [-1, 2]),  # left out
    ],
)
def test_classes_match_by_name(names, mapping, ids):
    matched = MODEL.match(LabelMap(names=names), mapping)
    assert matched.tolist() == ids
    assert matched.dtype == np.int32


@pytest.mark.parametrize(
    ("names", "mapping", "said"),
    [
        (("cats", "car"), None, ["'cats'", "did you mean 'cat'", "airplane, car, cat", "cats, car", "--map"]),
        (("cat",), {"dog": "cat"}, ["'dog'", "the data do not have"]),  # a slip in --map itself
        (("dog",), {"dog": "catt"}, ["'catt'", "did you mean 'cat'"]),  # mapped to what the model does not know
    ],
)
def test_an_unknown_class_shows_both_maps(names, mapping, said):
    with pytest.raises(DataError) as error:
        MODEL.match(LabelMap(names=names), mapping)
    for words in said:
        assert words in str(error.value)


def test_names_must_differ_and_are_found():
    with pytest.raises(DataError, match="stand twice: b"):
        LabelMap(names=("a", "b", "b"))
    assert MODEL.index("car") == 1
    with pytest.raises(DataError, match="did you mean 'airplane'"):
        MODEL.index("aeroplane")


@pytest.fixture
def mixed(tmp_path):
    """A PNG that TensorFlow reads, a PGM that it does not, and a PGM that is broken."""
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name in ("a.png", "b.pgm"):
        Image.fromarray(grey + (name == "b.pgm")).save(tmp_path / name)
    (tmp_path / "c.pgm").write_bytes(b"P5\n4 3\n255\nxx")
    names = ("a.png", "b.pgm", "c.pgm")
    split = Split(
        name="train",
        ids=names,
        paths=tuple(str(tmp_path / name) for name in names),
        annotations={"label": np.array([4, 5, 6], np.int32)},
        by_pillow=frozenset({1, 2}),
    )
    return split, grey


def test_a_split_is_read_in_python_and_in_a_graph(mixed):
    import tensorflow as tf

    from resnet_tasks.data import decode

    split, grey = mixed
    table = split.table()
    fetched = list(
        tf.data.Dataset.range(3).map(lambda index: split.fetch(table, index), num_parallel_calls=2).as_numpy_iterator()
    )
    assert fetched[:2] == [split.read(0), split.read(1)]
    assert fetched[2] == b""  # which the decoder refuses; the pipeline goes on
    for place in (0, 1):
        np.testing.assert_array_equal(decode.decode(tf.constant(fetched[place]))[..., 1], grey + place)
    assert split.fetch(table, tf.constant(1)).numpy() == fetched[1]  # eagerly too


def test_a_subset_keeps_everything_in_its_place(mixed):
    split, _ = mixed
    part = split.subset([1, 0, 1])
    assert part.ids == ("b.pgm", "a.png", "b.pgm")
    assert part.by_pillow == {0, 2}
    assert part.annotations["label"].tolist() == [5, 4, 5]
    assert part.read(2) == split.read(1)
    assert len(split.subset([])) == 0


def test_bytes_in_memory_keep_their_zeros():
    encoded = (b"\0a\0", b"", b"b\0\0")  # NumPy's own strings would lose the last zeros
    split = Split(name="val", ids=("0", "1", "2"), encoded=encoded)
    assert tuple(split.table().numpy()) == encoded
    with pytest.raises(ValueError, match="differ in length"):
        Split(name="val", ids=("0",), encoded=encoded)
    with pytest.raises(ValueError, match="either paths or encoded"):
        Split(name="val", ids=("0",))
